//! The `tcp` input over real sockets: what Fluent Bit prints of the same bytes, and bad data.
//!
//! `golden/tcp/<name>.out` is what Fluent Bit 5.1.1 printed of `<name>.in` under `<name>.conf`.

mod support;

use std::io::Write;
use std::net::Shutdown;

use support::frames::Client;
use support::{Dataplane, Run, tests_path};

fn golden(name: &str, kind: &str) -> Vec<u8> {
    let path = tests_path("golden/tcp").join(format!("{name}.{kind}"));
    std::fs::read(path).expect("a recorded file")
}

/// Sends bytes in pieces of this size, over one connection.
fn send_in_pieces(run: &Run, bytes: &[u8], size: usize) -> String {
    let mut client = Client::connect(run.address("tcp.0"));
    for piece in bytes.chunks(size) {
        client.send(piece);
    }
    let from = client.0.local_addr().expect("a connected socket").to_string();
    client.0.shutdown(Shutdown::Write).expect("the connection is open");
    client.read_to_end();
    from
}

#[test]
fn formats_and_parsers_are_read_as_fluent_bit_reads_them() {
    let formats = ["json", "json_source", "none", "none_dashes", "none_escaped", "none_crlf"];
    let parsers = ["parser_words", "parser_object", "parser_labels", "parser_pairs"];
    for name in formats.into_iter().chain(parsers) {
        for size in [usize::MAX, 7] {
            let conf = tests_path("golden/tcp").join(format!("{name}.conf"));
            let run = Dataplane::new().args(["-c".into(), conf]).env("PORT", "0").started();
            let from = send_in_pieces(&run, &golden(name, "in"), size);
            let ended = run.stop();
            let expected = String::from_utf8(golden(name, "out")).expect("text");
            assert_eq!(ended.text().replace(&from, "127.0.0.1:PORT"), expected, "{name}");
            let law = ended.law();
            assert_eq!(law.delivered, expected.lines().count() as u64, "{name}: {}", law.line);
        }
    }
}

fn printing(keys: &str) -> Run {
    Dataplane::with_config(&format!(
        "[SERVICE]\n    flush 0.1\n[INPUT]\n    name tcp\n    listen 127.0.0.1\n    port 0\n{keys}\
         [OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_key off\n"
    ))
    .started()
}

#[test]
fn bad_json_is_counted_and_the_process_lives() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
    let deep = "[".repeat(100_000);
    let deep_maps = "{\"a\":".repeat(1_000);
    let invalid = "invalid JSON message, skipping";
    let oversized = "a record is longer than 8192 bytes: raise `buffer_size`";
    // What is sent, how many events of it are good, the cause of what is not, and what the log says of it.
    let cases: [(&[u8], u64, &str, &str); 9] = [
        (b"GET / HTTP/1.1\r\n\r\n", 0, "malformed 1", invalid),
        (b"{\"before\":1} {\"a\":}\n", 1, "malformed 1", invalid),
        (b"{\"no end of text", 0, "malformed 1", ""),
        (b"\x93\xa1t\x01\x80", 0, "malformed 1", invalid),
        (b"{\"half\":", 0, "malformed 1", ""),
        (b"7 \"text\" null ", 0, "malformed 3", ""),
        (long.as_bytes(), 0, "oversized 1", oversized),
        // Counted for each piece that was read, and said once.
        (deep.as_bytes(), 0, "malformed ", invalid),
        (deep_maps.as_bytes(), 0, "malformed ", invalid),
    ];
    for (bytes, good, cause, said) in cases {
        let run = printing("    chunk_size 8\n");
        let mut client = Client::connect(run.address("tcp.0"));
        // The input may close while bytes are still on their way.
        let _ = client.0.write_all(bytes);
        let _ = client.0.shutdown(Shutdown::Write);
        client.read_to_end();
        send_in_pieces(&run, b"{\"good\":1}\n", usize::MAX);
        let ended = run.stop();
        let law = ended.law();
        assert_eq!(law.delivered, good + 1, "{cause}: {}", law.line);
        assert!(law.line.contains(&format!("({cause}")), "{}", law.line);
        assert!(ended.text().ends_with("{\"good\":1}\n"), "{}", ended.text());
        let warnings: Vec<&str> =
            ended.log.lines().filter(|it| it.contains("[ warn] [input:tcp")).collect();
        assert_eq!(warnings.len(), usize::from(!said.is_empty()), "{}", ended.log);
        let is_right =
            |line: &&str| line.contains(" [input:tcp:tcp.0] 127.0.0.1:") && line.ends_with(said);
        assert!(warnings.iter().all(is_right), "{}", ended.log);
    }
}

#[test]
fn text_without_end_is_counted_and_said_and_the_process_lives() {
    let run = printing("    format none\n    chunk_size 8\n");
    let long = "x".repeat(300_000);
    let said = "a record is longer than 8192 bytes: raise `buffer_size`";
    let mut client = Client::connect(run.address("tcp.0"));
    let _ = client.0.write_all(long.as_bytes());
    client.read_to_end();
    let line = run.wait_for_log("connection closed");
    assert!(line.ends_with(said), "{line}");
    send_in_pieces(&run, b"good\n", usize::MAX);
    let ended = run.stop();
    let law = ended.law();
    assert_eq!((law.delivered, law.dropped), (1, 1), "{}", law.line);
    assert_eq!(ended.text(), "{\"log\":\"good\"}\n");
}

#[test]
fn addresses_that_cannot_be_listened_on_end_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("a bound socket").port().to_string();
    let cases = [
        (
            "127.0.0.1",
            port.as_str(),
            "the address is in use; stop the other process or choose another",
        ),
        ("nowhere.invalid", "0", "cannot resolve `listen nowhere.invalid`"),
        ("300.1.1.1", "0", "cannot resolve `listen 300.1.1.1`"),
    ];
    for (listen, port, said) in cases {
        let config = format!(
            "[INPUT]\n    name tcp\n    listen {listen}\n    port {port}\n\
             [OUTPUT]\n    name null\n    match *\n"
        );
        let ended = Dataplane::with_config(&config).end();
        assert_eq!(ended.code(), 255, "{listen}: {}", ended.log);
        assert!(ended.log.contains(said), "{listen}: {}", ended.log);
    }
}

/// The number of a chunk begins with the shard it was made on, and a chunk that is lost is named in the log.
#[test]
fn connections_that_are_open_together_are_spread_over_the_shards() {
    let run = Dataplane::with_config(
        "[SERVICE]\n    flush 0.1\n    shards 4\n[INPUT]\n    name tcp\n    listen 127.0.0.1\n    port 0\n\
         [OUTPUT]\n    name file\n    match *\n    path /dev/null/none\n    retry_limit no_retries\n",
    )
    .started();
    let clients: Vec<Client> = (0..4)
        .map(|number| {
            let mut client = Client::connect(run.address("tcp.0"));
            client.send(format!("{{\"number\":{number}}}\n").as_bytes());
            client
        })
        .collect();
    for shard in 0..4 {
        run.wait_for_log(&format!("chunk '{shard}-0' is not retried (no retry config): "));
    }
    let law = run.stop().law();
    drop(clients);
    assert_eq!((law.came_in, law.dropped), (4, 4), "{}", law.line);
}
