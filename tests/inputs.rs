//! The inputs that need no file and no network, through the whole program: dummy, stdin, cpu and mem.
//!
//! `golden/stdin/<name>.out` is what Fluent Bit 5.1.1 printed of `<name>.in` under `<name>.conf`, line by line.

mod support;

use std::io::Write;
use std::time::Instant;

use support::{Dataplane, Ended, tests_path, wait_until};

/// Records as stdout prints them, without their numbers.
fn records(ended: &Ended) -> Vec<String> {
    let text = ended.text();
    let records = text.lines().map(|line| line.split_once("] ").expect("a record").1.to_owned());
    records.collect()
}

/// The same without their times.
fn without_times(records: Vec<String>) -> Vec<String> {
    let cut = |record: String| {
        let (tag, rest) = record.split_once(": [[").expect("a record");
        let (_, body) = rest.split_once(", ").expect("a time");
        format!("{tag}: {body}")
    };
    records.into_iter().map(cut).collect()
}

/// The seconds and nanoseconds of each record.
fn times(records: &[String]) -> Vec<(u64, u64)> {
    let time = |record: &String| {
        let (_, rest) = record.split_once(": [[").expect("a record");
        let (secs, rest) = rest.split_once('.').expect("a time");
        (secs.parse().expect("seconds"), rest[..9].parse().expect("nanoseconds"))
    };
    records.iter().map(time).collect()
}

/// `dummy` with these properties on two shards, stopped when it has delivered so many records.
fn dummy(properties: &[&str], count: usize) -> Ended {
    let mut arguments = vec!["--shards", "2", "-f", "0.05", "-i", "dummy"];
    properties.iter().for_each(|property| arguments.extend(["-p", property]));
    arguments.extend(["-o", "stdout", "-m", "*"]);
    let run = Dataplane::new().args(arguments).start();
    run.wait_for_stdout(|text| text.lines().count() >= count);
    run.stop()
}

/// Fluent Bit searches all that it has read: it keeps to lines where each comes in a read of its own, and loses those
/// its parser cannot take.
#[test]
fn stdin_parses_lines_as_fluent_bit_does() {
    for name in ["words", "object", "labels", "pairs"] {
        let path = |kind: &str| tests_path("golden/stdin").join(format!("{name}.{kind}"));
        let lines = std::fs::File::open(path("in")).expect("recorded lines");
        let ended = Dataplane::new().args(["-c".into(), path("conf")]).stdin_from(lines).end();
        let expected = std::fs::read_to_string(path("out")).expect("a recording");
        assert_eq!(ended.text(), expected, "{name}: {}", ended.log);
        let law = ended.law();
        assert_eq!(law.delivered, expected.lines().count() as u64, "{name}: {}", law.line);
    }
    let folder = support::folder();
    let lines = folder.path().join("lines");
    std::fs::write(&lines, "1700000000 1 x\nother\n\n1700000001 2 end").expect("lines are written");
    let lines = std::fs::File::open(lines).expect("the lines");
    let conf = tests_path("golden/stdin/words.conf");
    let ended = Dataplane::new().args(["-c".into(), conf]).stdin_from(lines).end();
    let text = ended.text();
    let mut printed = text.lines();
    assert_eq!(printed.next(), Some(r#"{"date":1700000000,"first":1,"rest":"x"}"#));
    assert!(printed.next().is_some_and(|line| line.ends_with(r#","log":"other"}"#)), "{text}");
    assert_eq!(printed.next(), Some(r#"{"date":1700000001,"first":2,"rest":"end"}"#));
    assert!(ended.law().line.ends_with("; unparsed 1"), "{}", ended.law().line);
}

#[test]
fn dummy_makes_as_many_records_as_it_is_told_however_many_shards_there_are() {
    let ended = dummy(&["samples=3", "copies=2", "rate=1000"], 6);
    assert_eq!(without_times(records(&ended)), vec![r#"dummy.0: {}], {"message"=>"dummy"}]"#; 6]);
    assert_eq!(ended.law().came_in, 6);
}

#[test]
fn dummy_takes_objects_and_metadata() {
    let properties =
        [r#"dummy={"a":1,"b":[true,null,"x"]}{"c":1.5}"#, r#"metadata={"m":1}"#, "samples=1"];
    let ended = dummy(&properties, 2);
    let expected = [
        r#"dummy.0: {"m"=>1}], {"a"=>1, "b"=>[true, nil, "x"]}]"#,
        r#"dummy.0: {"m"=>1}], {"c"=>1.500000}]"#,
    ];
    assert_eq!(without_times(records(&ended)), expected);
}

#[test]
fn dummy_gives_the_times_it_is_told() {
    let start = ["start_time_sec=100", "start_time_nsec=5", "samples=3", "rate=1000"];
    let ended = dummy(&start, 3);
    // A tick is as late as its number says, to the nanosecond.
    assert_eq!(times(&records(&ended)), [(100, 5), (100, 1_000_005), (100, 2_000_005)]);
    let fixed = [&start[..], &["fixed_timestamp=on"]].concat();
    assert_eq!(times(&records(&dummy(&fixed, 3))), [(100, 5); 3]);
    let nanos = ["start_time_nsec=7", "samples=1"];
    assert_eq!(times(&records(&dummy(&nanos, 1))), [(0, 7)]);
    let first = times(&records(&dummy(&["fixed_timestamp=on", "samples=4", "rate=100"], 4)));
    assert!(first[0].0 > 1_700_000_000 && first.iter().all(|time| *time == first[0]), "{first:?}");
}

#[test]
fn dummy_keeps_its_interval_and_its_rate() {
    let started = Instant::now();
    dummy(&["interval_nsec=100000000", "samples=5"], 5);
    assert!(started.elapsed().as_millis() >= 400, "five ticks have four intervals");
    // More ticks than turns: none is left out.
    assert_eq!(dummy(&["rate=100000", "samples=5000"], 5000).law().came_in, 5000);
    let ended = dummy(&["interval_sec=3600", "flush_on_startup=on", "test_hang_on_exit=off"], 1);
    assert_eq!(ended.law().came_in, 1);
}

#[test]
fn dummy_refuses_what_is_no_object() {
    for (property, what) in [
        ("dummy=[1]", "`dummy` is no JSON object"),
        (r#"dummy={"a":1} x"#, "`dummy` is no JSON object"),
        ("metadata=x", "`metadata` is no JSON object"),
        ("test_hang_on_exit=on", "`test_hang_on_exit` is not supported yet"),
        ("sample=1", "did you mean `samples`?"),
    ] {
        let ended = Dataplane::new().args(["-i", "dummy", "-p", property, "-o", "null"]).end();
        assert!(ended.code() != 0 && ended.log.contains(what), "{property}: {}", ended.log);
    }
}

/// What becomes of this text on standard input.
fn stdin(pieces: &[&[u8]]) -> Ended {
    let arguments = ["--shards", "2", "-f", "0.05", "-i", "stdin", "-o", "stdout", "-m", "*"];
    let mut run = Dataplane::new().args(arguments).piped_stdin().started();
    let mut pipe = run.stdin();
    for (index, piece) in pieces.iter().enumerate() {
        pipe.write_all(piece).expect("it reads");
        // The next piece is written when this one has been taken, so that a record really is split.
        if index + 1 < pieces.len() {
            wait_until("the pipe is empty", || {
                rustix::io::ioctl_fionread(&pipe).is_ok_and(|bytes| bytes == 0)
            });
        }
    }
    drop(pipe);
    run.wait()
}

#[test]
fn stdin_takes_objects_and_events_and_its_end_stops_the_process() {
    let ended = stdin(&[
        b"{\"a\":1}{\"b\":2}\n{\"c\":[1,2]}\n",
        b"[5,{\"a\":1}][6.5,{\"b\":2}]",
        b"[[7,{\"m\":1}],{\"c\":3}]\n{\"sp",
        b"lit\":\"in ",
        b"three\"}",
    ]);
    let law = ended.law();
    assert_eq!((law.delivered, law.dropped), (7, 0), "{}", law.line);
    let all = records(&ended);
    let expected = [
        r#"stdin.0: {}], {"a"=>1}]"#,
        r#"stdin.0: {}], {"b"=>2}]"#,
        r#"stdin.0: {}], {"c"=>[1, 2]}]"#,
        r#"stdin.0: {}], {"a"=>1}]"#,
        r#"stdin.0: {}], {"b"=>2}]"#,
        r#"stdin.0: {"m"=>1}], {"c"=>3}]"#,
        r#"stdin.0: {}], {"split"=>"in three"}]"#,
    ];
    assert_eq!(without_times(all.clone()), expected);
    assert_eq!(times(&all)[3..6], [(5, 0), (6, 500_000_000), (7, 0)]);
}

#[test]
fn stdin_counts_garbage_and_goes_on() {
    let ended = stdin(&[
        b"{\"a\":1} oops {\"lost\":1}\n{\"b\":2}\n7 \"x\" [\"no event\"]\n[{\"a\":1},{\"b\":2}]\n",
        b"\xff\xfe\0\n{\"c\":3}\n{\"unfinished\":",
    ]);
    let law = ended.law();
    let expected = ["a\"=>1", "b\"=>2", "c\"=>3"].map(|it| format!("stdin.0: {{}}], {{\"{it}}}]"));
    assert_eq!(without_times(records(&ended)), expected);
    // `oops`, 7, "x", two arrays, the bytes, and what the end cut off.
    assert_eq!((law.delivered, law.dropped), (3, 7), "{}", law.line);
    assert!(law.line.contains("malformed 7"), "{}", law.line);
}

#[test]
fn stdin_delivers_everything_before_it_stops() {
    let text: String = (0..200_000).map(|number| format!("{{\"n\":{number}}}\n")).collect();
    let law = stdin(&[text.as_bytes()]).law();
    assert_eq!((law.delivered, law.dropped, law.left), (200_000, 0, 0), "{}", law.line);
}

#[test]
fn stdin_may_be_a_file_or_nothing() {
    let folder = support::folder();
    let path = folder.path().join("records.json");
    std::fs::write(&path, "{\"a\":1}\n{\"a\":2}\n").expect("a file");
    for (file, count) in [(path.as_path(), 2), (std::path::Path::new("/dev/null"), 0)] {
        let file = std::fs::File::open(file).expect("a file");
        // The shell's `<` puts the file itself there.
        let run = Dataplane::new().args(["-i", "stdin", "-o", "null", "-m", "*"]).stdin_from(file);
        assert_eq!(run.end().law().delivered, count);
    }
}

/// Keys and the shapes of their values: `F` a float, `U` a whole number, `S` a string.
fn shape(record: &str) -> Vec<(String, char)> {
    let (_, body) = record.split_once("], {").expect("a record");
    let body = body.strip_suffix("}]").expect("a record");
    let pairs = body.split(", ").map(|pair| pair.split_once("=>").expect("a pair"));
    pairs
        .map(|(key, value)| {
            let is_number = value.chars().all(|c| c.is_ascii_digit());
            let kind = match value.split_once('.') {
                _ if value.starts_with('"') => 'S',
                Some(_) => 'F',
                None if is_number => 'U',
                None => panic!("`{value}` is neither"),
            };
            (key.trim_matches('"').to_owned(), kind)
        })
        .collect()
}

fn sample(input: &str, properties: &[String]) -> Vec<(String, char)> {
    let mut arguments = vec!["--shards", "2", "-f", "0.05", "-i", input, "-p", "interval_sec=0"];
    arguments.extend(["-p", "interval_nsec=20000000"]);
    properties.iter().for_each(|property| arguments.extend(["-p", property]));
    arguments.extend(["-o", "stdout", "-m", "*"]);
    let run = Dataplane::new().args(arguments).start();
    run.wait_for_stdout(|text| text.lines().count() >= 3);
    let ended = run.stop();
    let samples: Vec<_> = records(&ended).iter().map(|record| shape(record)).collect();
    assert!(samples.iter().all(|sample| *sample == samples[0]), "all samples have one shape");
    samples[0].clone()
}

/// The shape of a sample that Fluent Bit 5.1.1 made of `golden/inputs/<name>.conf`.
fn recorded(name: &str) -> Vec<(String, char)> {
    let path = support::tests_path(&format!("golden/inputs/{name}.expected"));
    shape(std::fs::read_to_string(path).expect("a recording").trim_end())
}

#[test]
fn cpu_samples_have_fluent_bits_keys_and_types() {
    let theirs = recorded("cpu");
    let (sums, first) = (&theirs[..3], &theirs[3..6]);
    let stat = std::fs::read_to_string("/proc/stat").expect("Linux");
    let core_count = stat.lines().filter(|line| line.starts_with("cpu")).count() - 1;
    let mut expected = sums.to_vec();
    for core in 0..core_count {
        // The recording machine had at least one.
        let name = |key: &str| key.replace("cpu0.", &format!("cpu{core}."));
        expected.extend(first.iter().map(|(key, kind)| (name(key), *kind)));
    }
    assert_eq!(sample("cpu", &[]), expected);
    let of_process = sample("cpu", &[format!("pid={}", std::process::id())]);
    assert_eq!(of_process, recorded("cpu_pid"));
}

#[test]
fn mem_samples_have_fluent_bits_keys_and_types() {
    assert_eq!(sample("mem", &[]), recorded("mem"));
    let mut expected = recorded("mem_pid");
    // Theirs is a number, the address of the text: see COMPAT.md.
    assert_eq!(expected.pop(), Some(("proc_hr".to_owned(), 'U')));
    expected.push(("proc_hr".to_owned(), 'S'));
    assert_eq!(sample("mem", &[format!("pid={}", std::process::id())]), expected);
}
