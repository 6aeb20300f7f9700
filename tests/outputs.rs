//! The built-in outputs end to end: what Fluent Bit 5.1.1 writes, and what holds on two shards.
//!
//! `golden/outputs/README.md` says how the expectations were recorded.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use support::{Dataplane, Ended, Run, folder, tests_path, wait_until};

/// Where Fluent Bit's text is not followed: what it writes, and what is written here. `COMPAT.md` has the reasons.
const DIFFERENCES: [(&str, &str); 9] = [
    // Keys that are no text.
    (r#",5:"int key""#, r#","5":"int key""#),
    (r#"{5:"int key""#, r#"{"5":"int key""#),
    (r#",5:"again",1.5:"f",null:"nil""#, r#","5":"again","1.5":"f","null":"nil""#),
    (r#",[1]:"arr""#, r#","[1]":"arr""#),
    // Bytes of an ext from 0x80.
    (r"\xffffff80\xffffffff", r"\x80\xff"),
    // Broken UTF-8: bytes that are left out, and an overlong form that is taken for its letter.
    ("\\u007f\u{e080}\\u00e9", "\\u007f\u{e080}\u{e0ff}\\u00e9"),
    (r#""bad":"ab""#, "\"bad\":\"a\u{e0ff}b\u{e0c3}\""),
    ("\"trunc\":\"x\u{e082}\"", "\"trunc\":\"x\u{e0e2}\u{e082}\""),
    (r#""over":"\u002f""#, "\"over\":\"\u{e0c0}\u{e0af}\""),
];

/// A recorded configuration, running.
struct Golden {
    run: Run,
    directory: tempfile::TempDir,
    frame: Vec<u8>,
}

impl Golden {
    fn start(name: &str) -> Golden {
        let directory = folder();
        let golden = tests_path("golden/outputs");
        let frame = if name.starts_with("groups") { "groups" } else { "events" };
        let frame = fs::read(golden.join(format!("{frame}.forward"))).expect("recorded events");
        let run = Dataplane::new()
            .args([Path::new("-c"), &golden.join(format!("{name}.conf"))])
            .args(["--shards", "1"])
            .env("PORT", "0")
            .env("DIR", directory.path())
            .current_dir(directory.path())
            .started();
        Golden { run, directory, frame }
    }

    /// Sends what Fluent Bit was sent.
    fn send(&self) {
        let peer = TcpStream::connect(self.run.address("forward.0")).expect("it listens");
        send_all(peer, &self.frame);
    }

    /// Stops it and returns the file it wrote, or else its standard output.
    fn end(self) -> (Vec<u8>, Ended) {
        let ended = self.run.stop();
        let mut files = files_below(self.directory.path());
        assert!(files.len() <= 1, "{:?}", files.keys());
        let file = files.pop_first();
        (file.map_or_else(|| ended.stdout.clone(), |(_, bytes)| bytes), ended)
    }
}

/// Sends, says that nothing follows, and waits until the other side has read it all and closes.
fn send_all(mut peer: TcpStream, bytes: &[u8]) {
    peer.write_all(bytes).expect("the bytes are taken");
    peer.shutdown(Shutdown::Write).expect("a connection");
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).expect("the connection is closed in peace");
    assert!(rest.is_empty());
}

/// The files of a folder and of those in it, by their path.
fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            let bytes = fs::read(&path).expect("a readable file");
            files.insert(path.to_string_lossy().into_owned(), bytes);
        }
    }
    files
}

fn recorded(name: &str) -> Vec<u8> {
    let path = tests_path(&format!("golden/outputs/{name}.expected"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// The name of every recorded configuration that begins so.
fn golden_names(prefix: &str) -> Vec<String> {
    let names = fs::read_dir(tests_path("golden/outputs")).expect("the folder is there");
    let names = names.map(|entry| entry.expect("a readable folder").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let names: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".conf").map(str::to_owned))
        .filter(|name| name.starts_with(prefix))
        .collect();
    assert!(names.len() >= 3, "{prefix}: {names:?}");
    names
}

fn compare_with_recorded(prefix: &str) {
    for name in golden_names(prefix) {
        let golden = Golden::start(&name);
        golden.send();
        let (written, ended) = golden.end();
        let mut expected = recorded(&name);
        for (theirs, ours) in DIFFERENCES {
            expected = replace(&expected, theirs.as_bytes(), ours.as_bytes());
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for (ours, theirs) in text(&written).lines().zip(text(&expected).lines()) {
            assert_eq!(ours, theirs, "{name}");
        }
        assert!(written == expected, "{name}:\n{}\n{}", text(&written), text(&expected));
        let law = ended.law();
        // Fluent Bit forgets the record without fields in silence.
        let unsaid = u64::from(name.contains("csv") || name.contains("ltsv"));
        assert_eq!((law.dropped, law.left), (unsaid, 0), "{name}: {}", law.line);
        assert_eq!(law.line.contains("not formattable 1"), unsaid == 1, "{name}: {}", law.line);
        assert_eq!(ended.log.contains("1 records dropped"), unsaid == 1, "{name}: {}", ended.log);
    }
}

#[test]
fn stdout_writes_what_fluent_bit_writes() {
    compare_with_recorded("stdout");
}

#[test]
fn file_writes_what_fluent_bit_writes() {
    compare_with_recorded("file");
}

#[test]
fn groups_are_written_as_fluent_bit_writes_them() {
    compare_with_recorded("groups");
}

/// The text with `#` for every number behind one of these labels.
fn without_numbers(text: &str, labels: &[&str]) -> String {
    let mut shape = text.to_owned();
    for label in labels {
        let mut from = 0;
        while let Some(at) = shape[from..].find(label) {
            let start = from + at + label.len();
            let digits = shape[start..].find(|c: char| !c.is_ascii_digit() && c != '.');
            let end = digits.map_or(shape.len(), |digits| start + digits);
            shape.replace_range(start..end, "#");
            from = start;
        }
    }
    shape
}

#[test]
fn counter_writes_what_fluent_bit_writes() {
    let golden = Golden::start("counter");
    golden.send();
    let (written, ended) = golden.end();
    let shape = |bytes: &[u8]| without_numbers(&String::from_utf8_lossy(bytes), &["\"ts\":"]);
    assert_eq!(shape(&written), shape(&recorded("counter")));
    let time = ended.text()["{\"ts\":".len()..].split(',').next().map(str::to_owned);
    assert_eq!(time.and_then(|time| Some(time.split_once('.')?.1.len())), Some(6));
}

#[test]
fn flowcounter_writes_what_fluent_bit_writes() {
    let golden = Golden::start("flowcounter");
    let mut sent = 0;
    wait_until("a unit with records is printed", || {
        golden.send();
        sent += 1;
        golden.run.stdout().lines().any(|line| !line.contains("\"counts\":0,"))
    });
    let (written, _) = golden.end();
    let written = String::from_utf8(written).expect("text");
    let shape = |line: &str| {
        without_numbers(
            line,
            &["[", "counts\":", "bytes\":", "counts/second\":", "bytes/second\":"],
        )
    };
    let recorded = String::from_utf8(recorded("flowcounter")).expect("text");
    let expected = shape(recorded.lines().next().expect("a recorded line"));
    let number = |line: &str, label: &str| -> u64 {
        let rest = &line[line.find(label).expect("the label") + label.len()..];
        rest.split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    };
    let mut records = 0;
    for line in written.lines() {
        assert_eq!(shape(line), expected);
        let counts = number(line, "\"counts\":");
        // What Fluent Bit counts for the 14 events, by its recorded line.
        assert_eq!(number(line, "\"bytes\":") * 14, counts * number(&recorded, "\"bytes\":"));
        assert_eq!((counts, counts % 14), (number(line, "\"counts/second\":"), 0));
        records += counts;
    }
    assert!(records > 0 && records <= sent * 14, "{records} of {sent} times 14");
}

/// Lines of a connection: which it is, and which line.
fn numbered_lines(connection: usize, count: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for line in 0..count {
        let pad = "x".repeat((connection * 7 + line * 13) % 200);
        writeln!(text, "{{\"connection\":{connection},\"line\":{line},\"pad\":\"{pad}\"}}")
            .expect("a vector takes everything");
    }
    text
}

/// Sends numbered lines over several connections at once, which the shards share.
fn send_numbered(run: &Run, connections: usize, lines: usize) {
    let address = run.address("tcp.0");
    // All are open before one sends, so the shards share them evenly.
    let peers: Vec<_> =
        (0..connections).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    std::thread::scope(|scope| {
        for (connection, peer) in peers.into_iter().enumerate() {
            scope.spawn(move || send_all(peer, &numbered_lines(connection, lines)));
        }
    });
}

/// Every line is whole, is there once, and comes after the one before it of its connection.
fn check_numbered<'a>(text: impl Iterator<Item = &'a str>, connections: usize, lines: usize) {
    let mut next = vec![0; connections];
    for line in text {
        let value: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let number = |key: &str| value[key].as_u64().expect("a number") as usize;
        let connection = number("connection");
        assert_eq!(number("line"), next[connection], "connection {connection}");
        next[connection] += 1;
    }
    assert_eq!(next, vec![lines; connections]);
}

#[test]
fn two_shards_tear_no_line_and_the_counts_are_exact() {
    const CONNECTIONS: usize = 8;
    const LINES: usize = 5000;
    let directory = folder();
    let config = format!(
        "[SERVICE]\n    grace 100\n    flush 0.05\n[INPUT]\n    name tcp\n    listen 127.0.0.1\n    port 0\n    tag t\n\
         [OUTPUT]\n    name file\n    match *\n    path {0}\n    file out\n    format plain\n\
         [OUTPUT]\n    name file\n    match *\n    path {0}\n\
         [OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_key off\n\
         [OUTPUT]\n    name counter\n    match *\n",
        directory.path().display()
    );
    let run = Dataplane::with_config(&config).args(["--shards", "2"]).started();
    send_numbered(&run, CONNECTIONS, LINES);
    let ended = run.stop();
    let law = ended.law();
    let total = (CONNECTIONS * LINES) as u64;
    assert_eq!((law.came_in, law.delivered), (total, total), "{}", law.line);
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("written");
    check_numbered(read("out").lines(), CONNECTIONS, LINES);
    let tagged = read("t");
    let bodies = tagged.lines().map(|line| {
        let body = line.split_once(", ").expect("a time").1;
        body.strip_suffix(']').expect("a whole line")
    });
    check_numbered(bodies, CONNECTIONS, LINES);
    let text = ended.text();
    let (counts, lines): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("{\"ts\":"));
    check_numbered(lines.into_iter(), CONNECTIONS, LINES);
    let counted = counts.iter().map(|line| {
        let count: serde_json::Value = serde_json::from_str(line).expect("a whole line");
        assert_eq!(count["total"], count["log_records"]);
        count["total"].as_u64().expect("a number")
    });
    assert_eq!(counted.sum::<u64>(), total);
    assert!(counts.len() >= 2, "each shard counts its own chunks: {counts:?}");
}

#[test]
fn two_hundred_files_get_everything() {
    const CONNECTIONS: usize = 4;
    const LINES: usize = 500;
    let directory = folder();
    let mut config = String::from(
        "[SERVICE]\n    grace 100\n    flush 0.1\n[INPUT]\n    name tcp\n    listen 127.0.0.1\n    port 0\n",
    );
    for index in 0..200 {
        config += &format!(
            "[OUTPUT]\n    name file\n    match *\n    path {}\n    file {index}\n    format plain\n",
            directory.path().display()
        );
    }
    let run = Dataplane::with_config(&config).args(["--shards", "2"]).started();
    send_numbered(&run, CONNECTIONS, LINES);
    let law = run.stop().law();
    assert_eq!(law.delivered, (CONNECTIONS * LINES) as u64, "{}", law.line);
    let files = files_below(directory.path());
    assert_eq!(files.len(), 200);
    for bytes in files.values() {
        let text = std::str::from_utf8(bytes).expect("text");
        check_numbered(text.lines(), CONNECTIONS, LINES);
    }
}

#[test]
fn a_chunk_that_did_not_fit_is_written_whole_once_there_is_room() {
    let directory = folder();
    let config = format!(
        "[SERVICE]\n    grace 100\n    flush 0.05\n    scheduler.base 1\n    scheduler.cap 1\n\
         [INPUT]\n    name tcp\n    listen 127.0.0.1\n    port 0\n\
         [OUTPUT]\n    name file\n    match *\n    path {}\n    file out\n    format plain\n    retry_limit 9\n",
        directory.path().display()
    );
    // A limit on the size of files stands for a full disk: the last write takes a part of its bytes.
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 150; exec \"$0\" \"$@\"", support::PROGRAM]);
    let run = Dataplane::with_config(&config)
        .args(["--shards", "1"])
        .command(|command| {
            limited.args(command.get_args());
            limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            std::mem::swap(command, &mut limited);
        })
        .started();
    let out = directory.path().join("out");
    let kept = || fs::read_to_string(&out).unwrap_or_default();
    send_numbered(&run, 1, 100);
    wait_until("the first lines are there", || kept().lines().count() == 100);
    send_numbered(&run, 1, 500);
    let line = run.wait_for_log("error writing: ");
    assert!(line.contains("/out: File too large"), "{line}");
    run.wait_for_log("failed to flush chunk");
    assert!(kept().ends_with('\n'), "no half line is left");
    fs::rename(&out, directory.path().join("aside")).expect("room is made");
    let aside = fs::read_to_string(directory.path().join("aside")).expect("the full file");
    let all = || aside.clone() + &kept();
    wait_until("all lines are there", || all().lines().count() == 600);
    let all = all();
    let mut numbers: Vec<u64> = all
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a whole line"))
        .map(|value| value["line"].as_u64().expect("a number"))
        .collect();
    numbers.sort();
    let mut expected: Vec<u64> = (0..100).chain(0..500).collect();
    expected.sort();
    assert_eq!(numbers, expected, "every line is there once");
    let law = run.stop().law();
    assert_eq!((law.delivered, law.dropped), (600, 0), "{}", law.line);
}

#[test]
fn a_record_of_twenty_thousand_levels_is_dropped_and_counted() {
    let mut nested = vec![0x91; 20_000];
    nested.push(1);
    // A sound one, then [tag, time, {"a": [[[...]]]}].
    let mut frames = vec![0x93, 0xa1, b't', 2, 0x81, 0xa1, b'b', 3];
    frames.extend_from_slice(&[0x93, 0xa1, b't', 1, 0x81, 0xa1, b'a']);
    frames.extend_from_slice(&nested);
    for format in ["msgpack", "json_lines", "json"] {
        let config = format!(
            "[SERVICE]\n    grace 100\n[INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n\
             [OUTPUT]\n    name stdout\n    match *\n    format {format}\n"
        );
        let run = Dataplane::with_config(&config).args(["--shards", "1"]).started();
        send_all(TcpStream::connect(run.address("forward.0")).expect("it listens"), &frames);
        let ended = run.stop();
        let law = ended.law();
        assert_eq!((law.delivered, law.dropped), (1, 1), "{format}: {}", law.line);
        assert_eq!(ended.text().matches("\"b\"").count(), 1, "{format}: {}", ended.text());
        assert!(!ended.text().contains("\"a\""), "{format}");
    }
}

#[test]
fn files_that_have_grown_are_put_aside() {
    let directory = folder();
    let config = format!(
        "[SERVICE]\n    grace 100\n    flush 0.05\n[INPUT]\n    name tcp\n    listen 127.0.0.1\n    port 0\n\
         [OUTPUT]\n    name file\n    match *\n    path {}\n    file out\n    format plain\n    rotate on\n    \
         rotate_max_size 1K\n    rotate_gzip off\n    rotate_max_files 50\n",
        directory.path().display()
    );
    let run = Dataplane::with_config(&config).args(["--shards", "1"]).started();
    for round in 1..=4 {
        send_numbered(&run, 1, 50);
        let written = || {
            let files = files_below(directory.path());
            files
                .values()
                .map(|bytes| bytes.split(|byte| *byte == b'\n').count() - 1)
                .sum::<usize>()
        };
        wait_until("the lines are written", || written() == round * 50);
    }
    run.stop().law();
    let files = files_below(directory.path());
    assert_eq!(files.len(), 4, "{:?}", files.keys());
    for bytes in files.values() {
        check_numbered(std::str::from_utf8(bytes).expect("text").lines(), 1, 50);
    }
}

#[test]
fn what_file_cannot_do_is_said_before_the_start() {
    let config = "[INPUT]\n    name dummy\n\
                  [OUTPUT]\n    name file\n    match *\n    path /tmp/$tag\n    format json\n    delimiter ;\n";
    let ended = Dataplane::with_config(config).args(["--dry-run"]).end();
    assert_ne!(ended.code(), 0);
    assert!(ended.log.contains("record accessors in `path`"), "{}", ended.log);
    assert!(ended.log.contains("`json` is none of `out_file`"), "{}", ended.log);
    let config = "[INPUT]\n    name dummy\n\
                  [OUTPUT]\n    name file\n    match *\n    format csv\n    delimiter ;\n";
    let ended = Dataplane::with_config(config).args(["--dry-run"]).end();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert!(ended.log.contains("none of tab, space and comma"), "{}", ended.log);
}

#[test]
fn many_outputs_of_a_blocked_pipe_hold_little_memory_and_lose_nothing() {
    const OUTPUTS: usize = 20;
    const LINES: usize = 60_000;
    let mut config = String::from(
        "[SERVICE]\n    grace 100\n    flush 0.05\n[INPUT]\n    name tcp\n    listen 127.0.0.1\n    port 0\n    mem_buf_limit 4M\n\
         [OUTPUT]\n    name null\n    match *\n",
    );
    for _ in 0..OUTPUTS {
        config += "[OUTPUT]\n    name stdout\n    match *\n    format json_lines\n    json_date_key off\n";
    }
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut run =
        Dataplane::with_config(&config).args(["--shards", "1"]).stdout_to(writer).started();
    let idle = run.resident_bytes();
    let peer = TcpStream::connect(run.address("tcp.0")).expect("it listens");
    let sender = std::thread::spawn(move || send_all(peer, &numbered_lines(0, LINES)));
    run.wait_for_log("paused (mem buf overlimit)");
    let held = run.resident_bytes_max() - idle;
    assert!(held < 40_000_000, "{held} bytes for a buffer of 4 MB");
    assert!(run.is_running());
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).expect("the pipe is read to its end");
        text
    });
    sender.join().expect("all is taken");
    let law = run.stop().law();
    assert_eq!((law.delivered, law.dropped), (LINES as u64, 0), "{}", law.line);
    let text = reading.join().expect("no reader panics");
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, OUTPUTS * LINES);
}
