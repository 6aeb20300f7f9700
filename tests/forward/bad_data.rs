//! Bad data on the wire: a counted loss, a line that says what came and what to do, and a process that
//! still takes good data on another connection.

use std::io::Write;

use crate::support::frames::{Client, PackedFrame};
use crate::support::{Dataplane, Run};

/// What is wrong, what is sent, and what the log says of it; an empty text where only the account tells.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    log: &'static str,
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>, log: &'static str) -> Case {
    Case { name, bytes: bytes.into(), log }
}

/// A packed frame with tag `t`, these entries, and options that ask for an ack.
fn packed(entries: &[u8], label: &[u8]) -> Vec<u8> {
    let mut frame = b"\x93\xa1t\xc6".to_vec();
    frame.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    frame.extend_from_slice(entries);
    frame.extend_from_slice(b"\x83\xa5chunk\xa2id\xa4size\x02\xaacompressed\xa4");
    frame.extend_from_slice(label);
    frame
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

/// `[tag, time, {"a": [[[...]]]}]`.
fn nested(depth: usize) -> Vec<u8> {
    [b"\x93\xa1t\x01\x81\xa1a", &[0x91].repeat(depth)[..], b"\x01"].concat()
}

const GOOD: &[u8] = b"\x92\x01\x80\x92\x02\x80";

fn forward_cases() -> Vec<Case> {
    let truncated = gzip(&GOOD.repeat(50));
    let zeros = vec![0; 20_000_000];
    vec![
        case(
            "another protocol",
            "GET / HTTP/1.1\r\n\r\n",
            "not the forward protocol: a frame is an array, this is something else",
        ),
        case(
            "nil",
            [0xc0],
            "not the forward protocol: a frame is an array, this is something else",
        ),
        case("a frame of one", [0x91, 0xa1, b't'], "a frame has two members at least"),
        case(
            "a byte of no value",
            b"\x93\xa1t\xc1",
            "not the forward protocol: bytes are not msgpack",
        ),
        case(
            "a tag of no text",
            b"\x93\x01\x01\x80",
            "not the forward protocol: the tag is no string",
        ),
        case(
            "a time of text and a half",
            b"\x93\xa1t\xcb\x3f\xf8\0\0\0\0\0\0\x80",
            "the second member is neither a time nor entries",
        ),
        case(
            "a record of no map",
            b"\x93\xa1t\x01\xa1x",
            "an entry is no event; 0 before it were kept",
        ),
        case("options of no map", b"\x94\xa1t\x01\x80\x07", "the options are no map"),
        case(
            "an entry of no event",
            b"\x92\xa1t\x93\x92\x01\x80\xa1x\x92\x02\x80",
            "an entry is no event; 1 before it were kept",
        ),
        case(
            "garbage behind packed entries",
            packed(&[GOOD, b"\xc1\xc1"].concat(), b"text"),
            "an entry is no event; 2 before it were kept",
        ),
        case("nesting without end", nested(100_000), "an entry is no event; 0 before it were kept"),
        case("nesting that has an end", nested(300), "an entry is no event; 0 before it were kept"),
        case(
            "a broken head of gzip",
            packed(b"\x1f\x8bnonsense", b"gzip"),
            "a compressed frame is broken",
        ),
        case(
            "gzip that is cut off",
            packed(&truncated[..truncated.len() - 9], b"gzip"),
            "a compressed frame is broken",
        ),
        case("no gzip at all", packed(GOOD, b"gzip"), "a compressed frame is broken"),
        case(
            "broken zstd",
            packed(b"\x28\xb5\x2f\xfd\xff\xff\xff\xff", b"zstd"),
            "a compressed frame is broken",
        ),
        case(
            "a bomb of gzip",
            packed(&gzip(&zeros), b"gzip"),
            "a frame is larger than 6144000 bytes once decompressed: raise `buffer_max_size`",
        ),
        case(
            "a frame of a gigabyte",
            b"\x92\xa1t\xc6\x40\0\0\0",
            "a record or frame is larger than the buffer may grow, 6144000 bytes: raise the limit",
        ),
        case(
            "an array of four billion",
            b"\x92\xa1t\xdd\xff\xff\xff\xff",
            "a record or frame is larger than the buffer may grow, 6144000 bytes: raise the limit",
        ),
        case(
            "metrics",
            b"\x93\xa1t\xc4\x01\x80\x81\xadfluent_signal\x01",
            "metrics came for tag `t`, and only logs are taken: leave them out of the sender's `match`",
        ),
        case("half a frame", b"\x92\xa1t\x92\x92\x01", ""),
    ]
}

/// Sends a case over a connection of its own and waits for the input to close it, and to say why.
fn send(run: &Run, instance: &str, case: &Case, line_count: &mut usize) {
    let client = Client::connect(run.address(instance));
    // The input may close while bytes are still on their way.
    let _ = (&client.0).write_all(&case.bytes);
    if case.log.is_empty() {
        client.0.shutdown(std::net::Shutdown::Write).expect("the connection is open");
    }
    let answer = client.read_to_end();
    assert!(answer.is_empty(), "{}: {answer:?}", case.name);
    if !case.log.is_empty() {
        *line_count += 1;
        let closed = |log: &str| log.matches(": connection closed: ").count();
        crate::support::wait_until(case.name, || closed(&run.log()) == *line_count);
        let log = run.log();
        let line = log.lines().rfind(|line| line.contains(": connection closed: "));
        let line = line.expect("just counted");
        assert!(line.contains(&format!("[ warn] [input:forward:{instance}] 127.0.0.1:")), "{line}");
        assert!(line.ends_with(case.log), "{}: {line}", case.name);
    }
}

/// A good frame over a new connection.
fn assert_alive(run: &Run, name: &str) {
    let mut client = Client::connect(run.address("forward.0"));
    client.send(PackedFrame::new("good", 2, 10).numbered(0, 7));
    let expected = PackedFrame::ack(7);
    assert_eq!(client.read(expected.len()), expected, "{name}");
}

#[test]
fn bad_frames_are_counted_and_said_and_the_process_lives() {
    let run = Dataplane::with_config(
        "[SERVICE]\n    flush 0.1\n\
         [INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n\
         [OUTPUT]\n    name stdout\n    match *\n",
    )
    .started();
    let cases = forward_cases();
    let mut lines = 0;
    for case in &cases {
        send(&run, "forward.0", case, &mut lines);
        assert_alive(&run, case.name);
    }
    let ended = run.stop();
    let law = ended.law();
    // One entry before a bad one was kept, and two of a packed frame.
    assert_eq!(law.delivered, cases.len() as u64 * 2 + 3, "{}", law.line);
    assert!(law.line.contains("(malformed 22, oversized 4, unsupported 1)"), "{}", law.line);
}

#[test]
fn who_does_not_know_the_key_delivers_nothing() {
    let run = Dataplane::with_config(
        "[SERVICE]\n    flush 0.1\n\
         [INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n    shared_key secret\n\
         [OUTPUT]\n    name stdout\n    match *\n",
    )
    .started();
    let no_ping = "no PING came where the handshake asks for one: set `shared_key` on the client";
    let digest = "0".repeat(128);
    let ping =
        [b"\x96\xa4PING\xa4evil\xb0saltsaltsaltsalt\xd9\x80", digest.as_bytes(), b"\xa0\xa0"]
            .concat();
    let cases = [
        case("a frame at once", b"\x93\xa1t\x01\x80", no_ping),
        case("another protocol", "GET / HTTP/1.1\r\n\r\n", no_ping),
        case("a PING of three", b"\x93\xa4PING\xa1a\xa1b", no_ping),
        case("a wrong digest", ping, "client `evil` has another `shared_key`"),
    ];
    for (index, case) in cases.iter().enumerate() {
        let mut client = Client::connect(run.address("forward.0"));
        assert_eq!(client.read(6), b"\x92\xa4HELO", "{}", case.name);
        client.send(&case.bytes);
        client.read_to_end();
        let closed = |log: &str| log.matches(": connection closed: ").count();
        crate::support::wait_until(case.name, || closed(&run.log()) == index + 1);
        let log = run.log();
        let line = log.lines().rfind(|line| line.contains("connection closed")).expect("counted");
        assert!(line.ends_with(case.log), "{}: {line}", case.name);
    }
    let law = run.stop().law();
    assert_eq!((law.came_in, law.delivered), (3, 0), "{}", law.line);
}

#[test]
fn addresses_that_cannot_be_listened_on_end_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("a bound socket").port();
    let cases = [
        (
            format!("listen 127.0.0.1\n    port {port}"),
            format!(
                "cannot listen on 127.0.0.1:{port}: the address is in use; stop the other process \
                 or choose another `port`"
            ),
        ),
        ("listen nowhere.invalid".into(), "cannot resolve `listen nowhere.invalid`: ".into()),
        ("listen 300.1.1.1".into(), "cannot resolve `listen 300.1.1.1`: ".into()),
        ("listen 192.0.2.1\n    port 0".into(), "cannot listen on 192.0.2.1:0: ".into()),
        (
            "unix_path /nowhere/forward.sock".into(),
            "cannot listen on `/nowhere/forward.sock`: ".into(),
        ),
    ];
    for (keys, said) in cases {
        let config = format!(
            "[INPUT]\n    name forward\n    {keys}\n[OUTPUT]\n    name null\n    match *\n"
        );
        let ended = Dataplane::with_config(&config).end();
        assert_eq!(ended.code(), 255, "{keys}: {}", ended.log);
        assert!(ended.log.contains(&said), "{keys}: {}", ended.log);
        assert!(!ended.log.contains("panicked"), "{}", ended.log);
    }
}
