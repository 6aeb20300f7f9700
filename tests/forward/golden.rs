//! What Fluent Bit 5.1.1 makes of a configuration, recorded beside it under `golden/forward`.
//!
//! `in_*`: what it printed of the frames in `in_modes.hex`. `out_*`: the frame it sent. `replay.out`: what
//! it printed of all of those frames.

use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use rmpv::Value;

use crate::support::frames::Client;
use crate::support::peer::{Answer, Peer, ack_of};
use crate::support::{Dataplane, events, tests_path};

fn golden(name: &str) -> PathBuf {
    tests_path("golden/forward").join(name)
}

/// Bytes written as hexadecimal digits; lines that begin with `#` say what they are.
fn hex(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(golden(name)).expect("a recorded file");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<u8> = lines.flat_map(str::bytes).collect();
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(text, 16).expect("hexadecimal digits")
    };
    digits.chunks(2).map(byte).collect()
}

/// Lines in an order of their own, as that of tags is nobody's promise; without the number of the record in
/// its chunk.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text
        .lines()
        .map(|line| line.split_once("] ").filter(|_| line.starts_with('[')).map_or(line, |it| it.1))
        .collect();
    lines.sort_unstable();
    lines
}

/// Sends bytes to the forward input of a configuration; what is printed must equal the recorded text.
fn assert_printed(conf: &str, bytes: &[u8], recorded: &str) {
    let expected = std::fs::read_to_string(golden(recorded)).expect("a recorded file");
    let run = Dataplane::new().args(["-c".into(), golden(conf)]).env("PORT", "0").started();
    let mut client = Client::connect(run.address("forward.0"));
    client.send(bytes);
    let count = expected.lines().count();
    let printed = run.wait_for_stdout(|text| text.lines().count() >= count && text.ends_with('\n'));
    assert_eq!(sorted(&printed), sorted(&expected), "{conf}");
    let law = run.stop().law();
    assert_eq!((law.delivered, law.dropped), (count as u64, 0), "{}", law.line);
}

#[test]
fn every_mode_is_read_as_fluent_bit_reads_it() {
    let frames = hex("in_modes.hex");
    for name in ["in_modes", "in_prefix", "in_tag"] {
        assert_printed(&format!("{name}.conf"), &frames, &format!("{name}.out"));
    }
}

/// Every recorded output, by name.
fn outputs() -> Vec<String> {
    let folder = std::fs::read_dir(golden("")).expect("the recordings");
    let names = folder.map(|entry| entry.expect("a readable folder").file_name());
    let mut outputs: Vec<String> = names
        .filter_map(|name| name.to_str()?.strip_suffix(".hex").map(str::to_owned))
        .filter(|name| name.starts_with("out_"))
        .collect();
    outputs.sort_unstable();
    assert!(outputs.len() >= 11, "{outputs:?}");
    outputs
}

#[test]
fn what_fluent_bit_sends_in_every_mode_is_read() {
    let frames: Vec<u8> = outputs().iter().flat_map(|name| hex(&format!("{name}.hex"))).collect();
    assert_printed("in_modes.conf", &frames, "replay.out");
}

/// A frame with its entries unpacked.
fn unpacked(frame: &[u8]) -> Value {
    let mut value = events::values(frame).remove(0);
    let Value::Array(members) = &mut value else { panic!("a frame is an array") };
    if let Value::Binary(packed) = &members[1] {
        let mut entries = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut entries).expect("gzip");
        members[1] = Value::Array(events::values(&entries));
    }
    value
}

/// The chunk id, taken out of the options.
fn take_chunk_id(frame: &mut Value) -> Option<Value> {
    let Value::Array(members) = frame else { return None };
    let Value::Map(options) = members.get_mut(2)? else { return None };
    let at = options.iter().position(|(key, _)| key.as_str() == Some("chunk"))?;
    Some(options.remove(at).1)
}

#[test]
fn every_mode_is_sent_as_fluent_bit_sends_it() {
    for name in outputs() {
        let (sender, frames) = channel();
        let peer = Peer::start(move |_, frame| {
            let _ = sender.send(frame.to_vec());
            Answer::Send(ack_of(frame))
        });
        let conf = golden(&format!("{name}.conf"));
        let port = peer.address.port().to_string();
        let run = Dataplane::new().args(["-c".into(), conf]).env("PORT", port).started();
        let frame = frames.recv_timeout(Duration::from_secs(60)).expect("a frame");
        let law = run.stop().law();
        assert_eq!((law.delivered, law.dropped), (3, 0), "{name}: {}", law.line);
        let mut ours = unpacked(&frame);
        let mut theirs = unpacked(&hex(&format!("{name}.hex")));
        if name == "out_gzip_no_metadata" {
            // Fluent Bit writes longer heads before legacy entries, so that their digest is another.
            assert_ne!(take_chunk_id(&mut ours), take_chunk_id(&mut theirs));
        }
        if name == "out_fluentd_compat" {
            // Fluentd cannot read what Fluent Bit sends here: ours is what it sends without metadata.
            theirs = unpacked(&hex("out_no_metadata.hex"));
        }
        assert_eq!(ours, theirs, "{name}");
    }
}
