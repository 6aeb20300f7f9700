//! A connection of the `forward` input: whatever the bytes and however they come, the events and acks are those of a
//! session that decodes whole frames.

use std::io::Read;

use dataplane::event::validate::Stop;
use dataplane::inputs::INPUTS;
use dataplane::kernel::msgpack_skip::{SkipError, skip_value};
use dataplane::plugin::input::StreamInput;
use dataplane::plugin::testing::{TestSink, Wire, stream_input};
use rmpv::Value;

use super::choices::Choices;
use super::events::{accepted, members, stored, value_of};

/// Bytes a frame may have, whole or decompressed. More than inputs have, so that only a lie about lengths or a bomb
/// meets it.
const BUFFER_BYTES_MAX: usize = 100_000;

/// The first bytes choose the keys of the input, the pieces in which the bytes come, and whether they are taken as
/// they are or as choices of frames.
pub fn check(data: &[u8]) {
    let data = &data[..data.len().min(BUFFER_BYTES_MAX / 2)];
    let mut choices = Choices::of(data);
    let prefix = choices.one_of(&["", "p."]);
    let sizes = [1 + choices.below(64), 1 + choices.below(256)];
    let is_made = choices.below(2) == 1;
    let stream = if is_made { frames(choices) } else { choices.rest().to_vec() };
    // Frames that are made of choices can be larger than the choices.
    if stream.len() >= BUFFER_BYTES_MAX {
        return;
    }
    let expected = expected(&stream, prefix);
    for sizes in [&[usize::MAX][..], &sizes, &[1]] {
        if sizes == [1] && stream.len() > 2000 {
            continue;
        }
        let seen = seen(&stream, prefix, sizes);
        assert_eq!(seen.events, expected.events);
        assert_eq!(seen.reply, expected.reply);
        assert_eq!(seen.is_good, expected.is_good, "of {stream:x?}");
    }
    no_greeting_no_events(&stream);
}

/// What came of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Session {
    /// Tag and stored form of each event.
    events: Vec<(Vec<u8>, Vec<u8>)>,
    reply: Vec<u8>,
    /// Whether everything was taken; else something was counted as dropped.
    is_good: bool,
}

fn input(properties: &[(&str, &str)]) -> Box<dyn StreamInput> {
    let plugin = INPUTS.iter().find(|plugin| plugin.name == "forward").expect("it is built in");
    stream_input(plugin, properties)
}

fn seen(stream: &[u8], prefix: &str, sizes: &[usize]) -> Session {
    let most = BUFFER_BYTES_MAX.to_string();
    let mut properties = vec![("buffer_max_size", most.as_str())];
    if !prefix.is_empty() {
        properties.push(("tag_prefix", prefix));
    }
    let mut sink = TestSink::new();
    let mut wire = Wire::connect(&*input(&properties));
    wire.send_in_pieces(stream, sizes, &mut sink);
    let (reply, closed) = (std::mem::take(&mut wire.reply), wire.closed.clone());
    let drops_before = sink.drops.len();
    assert!(drops_before <= 1 && (drops_before == 1) == closed.is_some(), "{:?}", sink.drops);
    if closed.is_none() {
        wire.end(&mut sink);
    }
    Session { events: sink.events(), reply, is_good: sink.drops.is_empty() }
}

/// A client that does not greet back is heard no further.
fn no_greeting_no_events(stream: &[u8]) {
    let mut sink = TestSink::new();
    let mut wire = Wire::connect(&*input(&[("shared_key", "key")]));
    wire.reply.clear();
    wire.send_in_pieces(stream, &[100], &mut sink);
    assert!(sink.events().is_empty() && wire.reply.is_empty());
}

fn expected(stream: &[u8], prefix: &str) -> Session {
    let mut session = Session::default();
    let mut rest = stream;
    while !rest.is_empty() {
        let is_array = matches!(rest[0], 0x90..=0x9f | 0xdc | 0xdd);
        let length = match skip_value(rest) {
            Ok(length) if is_array => length,
            Ok(_) | Err(SkipError::Invalid | SkipError::Incomplete) => return session,
        };
        let (frame, after) = rest.split_at(length);
        if take_frame(frame, prefix, &mut session).is_none() {
            return session;
        }
        rest = after;
    }
    session.is_good = true;
    session
}

/// Takes a whole frame; `None` ends the connection.
fn take_frame(frame: &[u8], prefix: &str, session: &mut Session) -> Option<()> {
    let members = members(frame).filter(|members| members.len() >= 2)?;
    let member = |index: usize| members.get(index).copied().unwrap_or_default();
    let mut tag = prefix.as_bytes().to_vec();
    match value_of(member(0)).ok()? {
        Value::String(text) => tag.extend_from_slice(text.as_bytes()),
        Value::Binary(bytes) => tag.extend_from_slice(&bytes),
        _ => return None,
    }
    let (is_message, options) = match member(1).first()? {
        // Forward and packed frames have their options third, messages fourth.
        0x90..=0x9f | 0xdc | 0xdd => (false, member(2)),
        0xa0..=0xbf | 0xc4..=0xc6 | 0xd9..=0xdb => {
            (false, if member(3).is_empty() { member(2) } else { &[] })
        }
        0x00..=0x7f | 0xcc..=0xcf | 0xc7..=0xc9 | 0xd4..=0xd8 if !member(2).is_empty() => {
            (true, member(3))
        }
        0xd0..=0xd3 if !member(2).is_empty() => {
            value_of(member(1)).ok()?.as_u64()?;
            (true, member(3))
        }
        _ => return None,
    };
    let options = options_of(options)?;
    let mut store = |events: Vec<Vec<u8>>| {
        session.events.extend(events.into_iter().map(|event| (tag.clone(), event)));
    };
    if is_message {
        let metadata = options.as_ref().and_then(|options| options.metadata.clone());
        let metadata = metadata.unwrap_or_else(|| vec![0x80]);
        if [&metadata, member(2)].iter().any(|map| super::events::Levels::of(map).full > 256) {
            return None;
        }
        store(vec![stored(member(1), &metadata, member(2))?]);
    } else {
        let entries = match value_of(member(1)) {
            Ok(Value::String(text)) => unpacked(text.as_bytes(), options.as_ref())?,
            Ok(Value::Binary(bytes)) => unpacked(&bytes, options.as_ref())?,
            _ => super::events::members(member(1))?.concat(),
        };
        let (events, _, stop) = accepted(&entries);
        store(events);
        if stop != Stop::End {
            return None;
        }
    }
    if let Some(chunk) = options.and_then(|options| options.chunk) {
        let ack = Value::Map(vec![("ack".into(), Value::Nil)]);
        rmpv::encode::write_value(&mut session.reply, &ack).expect("a vector takes it");
        // The id is any bytes, in place of the nil.
        session.reply.pop();
        dataplane::event::encoder::put_str(&mut session.reply, &chunk);
    }
    Some(())
}

/// The options that mean something.
#[derive(Default)]
struct Options {
    chunk: Option<Vec<u8>>,
    compressed: Option<Vec<u8>>,
    is_logs: bool,
    metadata: Option<Vec<u8>>,
}

/// The inner `None` stands for no options, the outer one for wrong ones.
fn options_of(bytes: &[u8]) -> Option<Option<Options>> {
    if matches!(bytes, [] | [0xc0]) {
        return Some(None);
    }
    let head = match bytes[0] {
        0x80..=0x8f => 1,
        0xde => 3,
        0xdf => 5,
        _ => return None,
    };
    let mut options = Options { is_logs: true, ..Options::default() };
    let mut rest = &bytes[head..];
    while !rest.is_empty() {
        let (key, after) = rest.split_at(skip_value(rest).ok()?);
        let (bytes, after) = after.split_at(skip_value(after).ok()?);
        rest = after;
        // What nests too deep for the decoder is none of the keys and none of their values.
        let key = value_of(key).unwrap_or(Value::Nil);
        let is_map = matches!(bytes[0], 0x80..=0x8f | 0xde | 0xdf);
        let value = value_of(bytes).unwrap_or(Value::Nil);
        let text = match &value {
            Value::String(text) => Some(text.as_bytes().to_vec()),
            _ => None,
        };
        match key.as_str() {
            Some("chunk") => options.chunk = Some(text?),
            Some("compressed") => options.compressed = text.or(options.compressed),
            Some("fluent_signal") => match value.as_u64()? {
                0 => options.is_logs = true,
                1 | 2 => options.is_logs = false,
                _ => return None,
            },
            Some("metadata") if is_map => options.metadata = Some(bytes.to_vec()),
            _ => {}
        }
    }
    Some(Some(options))
}

/// The entries of a packed frame; `None` when they cannot be had.
fn unpacked(bytes: &[u8], options: Option<&Options>) -> Option<Vec<u8>> {
    let Some(options) = options else { return Some(bytes.to_vec()) };
    if !options.is_logs {
        return None;
    }
    let label = options.compressed.as_deref();
    let is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
    let is_zstd = bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
    let mut out = Vec::new();
    let most = BUFFER_BYTES_MAX as u64 + 1;
    if is_gzip || !is_zstd && label == Some(b"gzip") {
        flate2::bufread::MultiGzDecoder::new(bytes).take(most).read_to_end(&mut out).ok()?;
    } else if is_zstd || label == Some(b"zstd") {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
        // Large enough for the bound, and no larger.
        decoder.window_log_max(23).ok()?;
        decoder.take(most).read_to_end(&mut out).ok()?;
    } else {
        return Some(bytes.to_vec());
    }
    (out.len() <= BUFFER_BYTES_MAX).then_some(out)
}

/// Frames of every mode; the last choices change some bytes.
fn frames(mut choices: Choices<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..1 + choices.below(6) {
        let tag = choices.one_of(&["app", "", "a.b.c"]);
        let entries: Vec<Vec<u8>> = (0..choices.below(5)).map(|_| entry(&mut choices)).collect();
        let mode = choices.below(6);
        let mut frame = vec![if choices.below(3) == 0 { 0x92 } else { 0x93 }];
        put(&mut frame, &tag.into());
        match mode {
            0 => {
                frame.push(0x90 | entries.len() as u8);
                frame.extend(entries.concat());
            }
            1 => {
                frame[0] += 1;
                frame.extend(entry_time(&mut choices));
                put(&mut frame, &body(&mut choices));
            }
            2 => put(&mut frame, &Value::Binary(entries.concat())),
            3 => put(&mut frame, &Value::from(&*String::from_utf8_lossy(&entries.concat()))),
            4 => put(&mut frame, &Value::Binary(gzip(&entries.concat()))),
            _ => {
                let zipped = zstd::encode_all(&entries.concat()[..], 1).expect("memory is enough");
                put(&mut frame, &Value::Binary(zipped));
            }
        }
        if frame[0] == 0x93 && mode != 1 || frame[0] == 0x94 {
            put(&mut frame, &frame_options(&mut choices));
        }
        stream.extend(frame);
    }
    while !choices.is_empty() && !stream.is_empty() {
        let at = usize::from(choices.byte()) << 8 | usize::from(choices.byte());
        let at = at % stream.len();
        stream[at] = choices.byte();
    }
    stream
}

fn put(out: &mut Vec<u8>, value: &Value) {
    rmpv::encode::write_value(out, value).expect("a vector takes it");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::bufread::GzEncoder::new(bytes, flate2::Compression::fast());
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).expect("memory is enough");
    out
}

fn entry_time(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = choices.take(4);
    match choices.below(5) {
        0 => put(
            &mut out,
            &Value::Ext(0, [&[0, 0, 0, 1][..], bytes, &[0; 4]].concat()[..8].to_vec()),
        ),
        1 => {
            put(&mut out, &bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)).into())
        }
        2 => put(&mut out, &(1.7e9 + f64::from(choices.byte()) / 7.0).into()),
        3 => put(&mut out, &(-i64::from(choices.byte() % 4)).into()),
        _ => put(&mut out, &Value::Nil),
    }
    out
}

fn entry(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut out = vec![0x92];
    if choices.below(3) > 0 {
        out.push(0x92);
        out.extend(entry_time(choices));
        put(&mut out, &body(choices));
    } else {
        out.extend(entry_time(choices));
    }
    put(&mut out, &body(choices));
    out
}

fn body(choices: &mut Choices<'_>) -> Value {
    let length = choices.below(40);
    match choices.below(8) {
        0 => "no map".into(),
        1 => Value::Map(vec![("text".into(), "x".repeat(length * 100).into())]),
        _ => Value::Map(vec![("n".into(), length.into()), (Value::Nil, Value::Array(vec![]))]),
    }
}

fn frame_options(choices: &mut Choices<'_>) -> Value {
    let mut entries: Vec<(Value, Value)> = Vec::new();
    for _ in 0..choices.below(5) {
        let number = choices.byte();
        entries.push(match choices.below(7) {
            0 => ("chunk".into(), "c".repeat(number.into()).into()),
            1 => ("size".into(), number.into()),
            2 => ("compressed".into(), choices.one_of(&["gzip", "zstd", "text"]).into()),
            3 => ("fluent_signal".into(), (number % 4).into()),
            4 => ("metadata".into(), body(choices)),
            5 => ("chunk".into(), Value::Nil),
            _ => (number.into(), Value::Array(vec![])),
        });
    }
    if choices.below(8) == 0 { Value::Nil } else { Value::Map(entries) }
}
