//! `tail` as a whole, on real files: rotation, truncation, long and unfinished lines, sharing between shards.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use config::Problems;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::inputs::tail::PLUGIN;
use crate::log::Log;
use crate::plugin::descriptor::BuildContext;
use crate::plugin::input::{
    DropCause, EventSink, Flow, InputPlace, InputTag, Source, Turn, TurnInput,
};
use crate::plugin::testing::{TestSink, problems_of, section};
use crate::reactor::inotify::wait_readable;
use crate::reactor::now;

/// Longest time a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder, and `tail` on some shards.
struct Bench {
    folder: tempfile::TempDir,
    shards: Vec<(Box<dyn TurnInput>, TestSink)>,
    has_stopped: bool,
}

impl Bench {
    fn folder() -> tempfile::TempDir {
        tempfile::Builder::new().prefix("tail").tempdir().unwrap()
    }

    /// Starts with `path` relative to the folder; read_from_head unless it is set.
    fn start(folder: tempfile::TempDir, shards: usize, pairs: &[(&str, &str)]) -> Bench {
        let base = folder.path().to_str().unwrap();
        let mut pairs: Vec<(&str, String)> = pairs
            .iter()
            .map(|(key, value)| match *key {
                "path" | "exclude_path" => (*key, value.replace('@', base)),
                _ => (*key, (*value).to_owned()),
            })
            .collect();
        if !pairs.iter().any(|(key, _)| *key == "read_from_head") {
            pairs.push(("read_from_head", "on".into()));
        }
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let section = section(&pairs);
        let parsers = crate::plugin::parser::Parsers::new();
        let context = BuildContext {
            instance: "tail.0",
            engine_keys: &[<crate::plugin::testing::EngineKeys as config::Settings>::KEYS],
            shard_count: shards,
            flush_interval: std::time::Duration::from_secs(1),
            json: crate::codec::json_text::JsonOptions::default(),
            parsers: &parsers,
            multiline: crate::plugin::testing::context().multiline,
            variables: &[],
            directory: Path::new(""),
        };
        let mut problems = Problems::default();
        let definition = (PLUGIN.build)(&section, &context, &mut problems);
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.clone()).collect();
        let definition = definition.unwrap_or_else(|| panic!("{messages:?}"));
        let tag = section.get("tag").map_or("tail.0", |tag| tag.value.as_str());
        let tag = InputTag { text: tag.into(), configured: true };
        let started = (0..shards).map(|shard| {
            let place = InputPlace { shard, shard_count: shards, log: Log::discard() };
            match definition.start(&place, &tag) {
                Ok(Source::Turns(turns)) => (turns, TestSink::new()),
                _ => panic!("not started"),
            }
        });
        let shards = started.collect();
        Bench { folder, shards, has_stopped: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// One turn on each shard; whether one has more to do at once.
    fn turn(&mut self) -> bool {
        let mut is_busy = false;
        for (turns, sink) in &mut self.shards {
            match turns.turn(now(), sink) {
                Turn::Again => is_busy = true,
                // A page that is on its way: ask again at once.
                Turn::Sleep(time) => is_busy |= time <= Duration::from_millis(1),
                Turn::StopProcess => self.has_stopped = true,
                Turn::Ended => panic!("tail never ends by itself"),
            }
        }
        is_busy
    }

    /// Turns until nothing is left to do at once.
    fn settle(&mut self) {
        while self.turn() {}
    }

    /// Turns until the condition holds; waits on the descriptor where there is nothing to do.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Bench) -> bool) {
        let begin = Instant::now();
        loop {
            let is_busy = self.turn();
            if holds(self) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "waited for {what}; have {:?}", self.lines());
            if !is_busy {
                wait_readable(self.shards[0].0.wake_descriptor(), Duration::from_millis(5));
            }
        }
    }

    fn records(&self) -> Vec<(String, BTreeMap<String, String>)> {
        let events = self.shards.iter().flat_map(|(_, sink)| sink.events());
        events
            .map(|(tag, event)| {
                let value = rmpv::decode::read_value(&mut event.as_slice()).unwrap();
                let body = value[1].as_map().unwrap().iter().map(|(key, value)| {
                    let text = match value.as_str() {
                        Some(text) => text.to_owned(),
                        None => value.to_string(),
                    };
                    (key.as_str().unwrap().to_owned(), text)
                });
                (String::from_utf8(tag).unwrap(), body.collect())
            })
            .collect()
    }

    fn lines(&self) -> Vec<String> {
        self.records().into_iter().map(|(_, mut body)| body.remove("log").unwrap()).collect()
    }

    fn sorted(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines.sort();
        lines
    }

    fn dropped(&self, cause: DropCause) -> u64 {
        self.shards.iter().map(|(_, sink)| sink.dropped(cause)).sum()
    }
}

#[test]
fn lines_are_delivered_once_and_an_unfinished_one_when_it_is_finished() {
    let mut bench = Bench::start(Bench::folder(), 1, &[("path", "@/*.log"), ("tag", "t.*")]);
    bench.append("a.log", "one\r\n\ntwo\nhal");
    bench.settle();
    bench.until("the file", |bench| bench.lines() == ["one", "", "two"]);
    bench.append("a.log", "f");
    bench.settle();
    bench.append("a.log", " line\n");
    bench.until("the line", |bench| bench.lines().len() == 4);
    assert_eq!(bench.lines()[3], "half line");
    let expected =
        format!("t.{}", bench.path("a.log").display().to_string()[1..].replace('/', "."));
    assert_eq!(bench.records()[0].0, expected);
    assert_eq!(bench.dropped(DropCause::Vanished), 0);
}

#[test]
fn path_and_offset_stand_before_the_line() {
    let folder = Bench::folder();
    fs::write(folder.path().join("a"), "x\n\n\nlong line\n").unwrap();
    let keys = [
        ("path", "@/a"),
        ("path_key", "p"),
        ("offset_key", "o"),
        ("key", "log"),
        ("skip_empty_lines", "on"),
        ("inotify_watcher", "off"),
    ];
    let mut bench = Bench::start(folder, 1, &keys);
    bench.settle();
    bench.append("a", "more\n");
    bench.until("the third line", |bench| bench.lines().len() == 3);
    let path = bench.path("a").display().to_string();
    let fields: Vec<_> = bench
        .records()
        .into_iter()
        .map(|(_, body)| (body["p"].clone(), body["o"].clone(), body["log"].clone()))
        .collect();
    let expected = [("0", "x"), ("4", "long line"), ("14", "more")]
        .map(|(offset, line)| (path.clone(), offset.to_owned(), line.to_owned()));
    assert_eq!(fields, expected);
}

#[test]
fn rotation_while_lines_are_appended_loses_and_doubles_nothing() {
    let keys = [("path", "@/app.log"), ("rotate_wait", "0.2"), ("progress_check_interval", "0.05")];
    let mut bench = Bench::start(Bench::folder(), 2, &keys);
    let mut expected = Vec::new();
    for round in 0..20 {
        // The writer keeps its file open over the rename, as programs do.
        let path = bench.path("app.log");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for line in 0..50 {
            let text = format!("{round:03} {line:03}");
            writeln!(file, "{text}").unwrap();
            expected.push(text);
            if line == 25 {
                fs::rename(&path, bench.path(&format!("app.log.{round}"))).unwrap();
            }
            if line % 7 == round % 7 {
                bench.turn();
            }
        }
    }
    bench.until("all lines", |bench| bench.lines().len() >= expected.len());
    bench.settle();
    assert_eq!(bench.sorted(), expected);
}

#[test]
fn a_rotated_file_that_still_matches_is_not_read_again() {
    let keys = [
        ("path", "@/app.log*"),
        ("rotate_wait", "0.05"),
        ("refresh_interval", "0.02"),
        ("watcher_interval", "0.02"),
    ];
    let mut bench = Bench::start(Bench::folder(), 1, &keys);
    bench.append("app.log", "1\n2\n");
    bench.until("two lines", |bench| bench.lines().len() == 2);
    fs::rename(bench.path("app.log"), bench.path("app.log.1")).unwrap();
    bench.append("app.log", "3\n");
    bench.until("three lines", |bench| bench.lines().len() == 3);
    let open = |bench: &Bench| {
        let target = bench.path("app.log.1").canonicalize().unwrap();
        let all = fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            fs::read_link(path).is_ok_and(|link| link == target)
        })
        .count()
    };
    bench.until("the rotated file to be closed", |bench| open(bench) == 0);
    bench.append("app.log.1", "late\n");
    bench.until("the late line", |bench| bench.lines().len() == 4);
    assert_eq!(bench.sorted(), ["1", "2", "3", "late"]);
}

#[test]
fn the_last_line_of_a_removed_file_is_delivered_without_its_newline() {
    let keys = [("path", "@/a"), ("rotate_wait", "0.05"), ("watcher_interval", "0.02")];
    let mut bench = Bench::start(Bench::folder(), 1, &keys);
    bench.append("a", "one\nlast");
    bench.until("one line", |bench| bench.lines() == ["one"]);
    fs::remove_file(bench.path("a")).unwrap();
    bench.until("the rest", |bench| bench.lines() == ["one", "last"]);
}

#[test]
fn a_file_that_comes_back_goes_on_behind_the_last_line_that_had_no_newline() {
    let keys = [("path", "@/a"), ("rotate_wait", "0.05"), ("watcher_interval", "0.02")];
    let mut bench = Bench::start(Bench::folder(), 1, &keys);
    bench.append("a", "one\nlast");
    bench.until("one line", |bench| bench.lines() == ["one"]);
    fs::rename(bench.path("a"), bench.path("elsewhere")).unwrap();
    bench.until("the rest", |bench| bench.lines() == ["one", "last"]);
    fs::rename(bench.path("elsewhere"), bench.path("a")).unwrap();
    bench.append("a", " words\nend\n");
    bench.until("the end", |bench| bench.lines() == ["one", "last", " words", "end"]);
}

#[test]
fn a_truncated_file_is_read_from_its_start() {
    let mut bench = Bench::start(Bench::folder(), 1, &[("path", "@/a")]);
    bench.append("a", "one\ntwo\nunfinished");
    bench.until("two lines", |bench| bench.lines().len() == 2);
    File::create(bench.path("a")).unwrap().write_all(b"three\n").unwrap();
    bench.until("the new line", |bench| bench.lines().len() == 3);
    assert_eq!(bench.lines(), ["one", "two", "three"]);
    assert_eq!(bench.dropped(DropCause::Vanished), 1, "the unfinished line");
    // Truncated and written to the very same length before anybody looked.
    File::create(bench.path("a")).unwrap().write_all(b"seven\n").unwrap();
    bench.until("the newest line", |bench| bench.lines().len() == 4);
    assert_eq!(bench.lines()[3], "seven");
    // And to more: nothing that was there is lost, so nothing is counted.
    File::create(bench.path("a")).unwrap().write_all(b"eight\nnine\n").unwrap();
    bench.until("both lines", |bench| bench.lines().len() == 6);
    assert_eq!(bench.lines()[4..], ["eight", "nine"]);
    assert_eq!(bench.dropped(DropCause::Vanished), 1);
}

#[test]
fn what_is_cut_off_before_it_was_read_is_counted_whatever_follows() {
    let folder = Bench::folder();
    fs::write(folder.path().join("a"), "long unread\n".repeat(100_000)).unwrap();
    let mut bench = Bench::start(folder, 1, &[("path", "@/a")]);
    bench.until("the first block", |bench| !bench.shards[0].1.batches.is_empty());
    let read = bench.lines().len();
    assert!(read < 100_000, "one turn is not all");
    // In place: what is left of it is read on.
    let file = File::options().write(true).open(bench.path("a")).unwrap();
    file.set_len("long unread\n".len() as u64 * 99_000).unwrap();
    bench.until("what is left", |bench| bench.shards[0].1.events().len() == 99_000);
    assert_eq!(bench.dropped(DropCause::Vanished), 1);
}

#[test]
fn a_writer_that_goes_on_behind_a_truncation_leaves_a_hole_that_is_passed_over() {
    let folder = Bench::folder();
    let mut writer = File::create(folder.path().join("a")).unwrap();
    let mut bench = Bench::start(folder, 1, &[("path", "@/a"), ("offset_key", "o")]);
    writer.write_all("x".repeat(999).as_bytes()).unwrap();
    writer.write_all(b"\n").unwrap();
    bench.until("the first line", |bench| bench.lines().len() == 1);
    OpenOptions::new().write(true).open(bench.path("a")).unwrap().set_len(0).unwrap();
    bench.settle();
    writer.write_all(b"after\n").unwrap();
    bench.until("the line after", |bench| bench.lines().len() == 2);
    let records = bench.records();
    assert_eq!((records[1].1["log"].as_str(), records[1].1["o"].as_str()), ("after", "1000"));
}

#[test]
fn long_lines_are_skipped_or_cut_and_the_file_goes_on() {
    let long = "é".repeat(200_000);
    let text = format!("a\n{}\nb\n{long}\nc\n{}\nd\n", "x".repeat(98), "y".repeat(99));
    for (mode, expected, dropped) in [
        ("key", vec!["a", &"x".repeat(98), "b", "c", "d"], 2),
        ("skip_long_lines", vec!["a", &"x".repeat(98), "b", "c", "d"], 2),
        (
            "truncate_long_lines",
            vec!["a", &"x".repeat(98), "b", &long[..98], "c", &"y".repeat(99), "d"],
            0,
        ),
    ] {
        let folder = Bench::folder();
        fs::write(folder.path().join("a"), &text).unwrap();
        let value = if mode == "key" { "log" } else { "on" };
        let keys = [
            ("path", "@/a"),
            (mode, value),
            ("buffer_max_size", "100"),
            ("buffer_chunk_size", "50"),
        ];
        let mut bench = Bench::start(folder, 1, &keys);
        bench.settle();
        assert_eq!(bench.lines(), expected, "{mode}");
        assert_eq!(bench.dropped(DropCause::Oversized), dropped, "{mode}");
    }
}

#[test]
fn a_line_larger_than_the_read_buffer_is_whole_when_the_limit_allows_it() {
    let mut bench = Bench::start(Bench::folder(), 1, &[("path", "@/a"), ("buffer_max_size", "3M")]);
    let long = "0123456789".repeat(200_000);
    bench.append("a", "first\n");
    for piece in long.as_bytes().chunks(150_000) {
        bench.append("a", std::str::from_utf8(piece).unwrap());
        bench.settle();
    }
    assert_eq!(bench.lines(), ["first"]);
    bench.append("a", "\nlast\n");
    bench.until("all lines", |bench| bench.lines().len() == 3);
    assert!(bench.lines()[1] == long && bench.lines()[2] == "last");
}

#[test]
fn a_thousand_files_on_two_shards_are_each_read_once_by_one_of_them() {
    let folder = Bench::folder();
    for number in 0..1000 {
        fs::write(folder.path().join(format!("{number:04}.log")), format!("{number:04}\n"))
            .unwrap();
    }
    fs::write(folder.path().join("0000.log.gone"), "not me\n").unwrap();
    fs::write(folder.path().join("x.log"), "not me\n").unwrap();
    let keys = [("path", "@/*.log, @/0001.log"), ("exclude_path", "*/x.log")];
    let mut bench = Bench::start(folder, 2, &keys);
    bench.settle();
    for number in 0..1000 {
        bench.append(&format!("{number:04}.log"), &format!("{number:04} more\n"));
    }
    bench.until("all lines", |bench| bench.lines().len() >= 2000);
    bench.settle();
    let expected: Vec<_> = (0..1000)
        .flat_map(|number| [format!("{number:04}"), format!("{number:04} more")])
        .collect();
    assert_eq!(bench.sorted(), expected);
    let loads: Vec<_> = bench.shards.iter().map(|(_, sink)| sink.events().len()).collect();
    assert_eq!(loads, [1000, 1000]);
}

#[test]
fn a_paused_sink_stops_the_reading_and_loses_nothing() {
    let folder = Bench::folder();
    let text: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    fs::write(folder.path().join("a"), &text).unwrap();
    let mut bench = Bench::start(folder, 1, &[("path", "@/a")]);
    bench.shards[0].1.flow = Flow::Paused;
    bench.turn();
    assert!(bench.lines().is_empty());
    let mut rounds = 0;
    bench.shards[0].1.flow = Flow::Open;
    let count = |bench: &Bench| -> u32 {
        bench.shards[0].1.batches.iter().map(|(.., record_count)| record_count).sum()
    };
    while rounds < 200 && count(&bench) < 20_000 {
        let before = bench.shards[0].1.batches.len();
        let (turns, sink) = &mut bench.shards[0];
        turns.turn(now(), &mut PausesAfterEach(sink));
        assert!(bench.shards[0].1.batches.len() <= before + 1, "nothing is read after a pause");
        rounds += 1;
    }
    let counts: Vec<_> = bench.shards[0].1.batches.iter().map(|batch| batch.2).collect();
    assert!((3..200).contains(&rounds), "{rounds} {counts:?}");
    assert_eq!(count(&bench), 20_000);
    let expected: Vec<_> = text.lines().collect();
    assert!(bench.lines() == expected);
}

/// Pauses with each commit.
struct PausesAfterEach<'a>(&'a mut TestSink);

impl EventSink for PausesAfterEach<'_> {
    fn open(&mut self, tag: &[u8], room_bytes: usize) -> crate::plugin::input::OpenBatch<'_> {
        self.0.open(tag, room_bytes)
    }

    fn commit(&mut self, record_count: u32) -> Flow {
        self.0.commit(record_count);
        Flow::Paused
    }

    fn drop_records(&mut self, cause: DropCause, record_count: u64) {
        self.0.drop_records(cause, record_count);
    }

    fn flow(&self) -> Flow {
        Flow::Open
    }
}

#[test]
fn a_link_is_followed_to_its_new_file() {
    let keys = [("path", "@/links/*.log"), ("watcher_interval", "0.02"), ("tag", "*")];
    let mut bench = Bench::start(Bench::folder(), 2, &keys);
    bench.settle();
    fs::create_dir_all(bench.path("links")).unwrap();
    bench.append("0.txt", "first\n");
    symlink(bench.path("0.txt"), bench.path("links/pod.log")).unwrap();
    bench.until("the file behind the link", |bench| bench.lines() == ["first"]);
    fs::rename(bench.path("0.txt"), bench.path("0.old")).unwrap();
    bench.append("0.old", "late\n");
    bench.settle();
    bench.append("0.txt", "second\n");
    bench.until("the new file", |bench| bench.lines().len() == 3);
    assert_eq!(bench.sorted(), ["first", "late", "second"]);
    assert!(bench.records().iter().all(|(tag, _)| tag.ends_with("links.pod.log")));
    fs::remove_file(bench.path("links/pod.log")).unwrap();
    bench.append("1.txt", "third\n");
    symlink(bench.path("1.txt"), bench.path("links/pod.log")).unwrap();
    bench.until("the new link", |bench| bench.lines().len() == 4);
}

#[test]
fn files_of_the_start_are_read_from_their_end_and_new_ones_from_their_head() {
    let folder = Bench::folder();
    fs::write(folder.path().join("old"), "before\n").unwrap();
    fs::create_dir(folder.path().join("directory")).unwrap();
    let mut bench = Bench::start(folder, 2, &[("path", "@/*"), ("read_from_head", "off")]);
    bench.settle();
    bench.append("old", "after\n");
    bench.append("new", "all\n");
    bench.until("two lines", |bench| bench.lines().len() == 2);
    assert_eq!(bench.sorted(), ["after", "all"]);
}

#[test]
fn old_files_are_left_alone_until_they_change() {
    let folder = Bench::folder();
    let path = folder.path().join("a");
    fs::write(&path, "old\n").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(7200);
    File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
    let keys = [("path", "@/a"), ("ignore_older", "1h"), ("refresh_interval", "0.02")];
    let mut bench = Bench::start(folder, 1, &keys);
    bench.settle();
    assert!(bench.lines().is_empty());
    bench.append("a", "new\n");
    bench.until("both lines", |bench| bench.lines() == ["old", "new"]);
}

#[test]
fn the_process_ends_when_all_shards_have_read_everything() {
    let folder = Bench::folder();
    let text: String = (0..50_000).map(|number| format!("line {number}\n")).collect();
    for name in ["a", "b", "c"] {
        fs::write(folder.path().join(name), &text).unwrap();
    }
    let mut bench = Bench::start(folder, 2, &[("path", "@/*"), ("exit_on_eof", "on")]);
    bench.until("the stop", |bench| bench.has_stopped);
    assert_eq!(bench.shards.iter().map(|(_, sink)| sink.events().len()).sum::<usize>(), 150_000);
}

#[test]
fn settings_that_cannot_work_are_refused_with_their_reason() {
    let table: [(&[(&str, &str)], &str); 7] = [
        (&[], "`INPUT` needs `path`"),
        (&[("path", "/x"), ("parser", "json")], "`parser`: no parser is named `json`"),
        (&[("path", "/x"), ("rotate_wait", "0")], "`rotate_wait` must be more than 0"),
        (
            &[("path", "/x"), ("buffer_chunk_size", "64k")],
            "`buffer_chunk_size` (64000) is larger than `buffer_max_size` (32768): raise the latter",
        ),
        (&[("path", "/x"), ("parser_1", "a")], "`parser_1` has no effect without `multiline on`"),
        (&[("path", "/x"), ("docker_mode", "on")], "`docker_mode` is not supported yet: remove it"),
        (&[("path", "/x"), ("tag_regex", "(")], "`tag_regex` is no regular expression"),
    ];
    for (keys, expected) in table {
        let messages = problems_of(&PLUGIN, keys);
        assert!(messages.len() == 1 && messages[0].starts_with(expected), "{messages:?}");
    }
    assert!(problems_of(&PLUGIN, &[("path", "/x"), ("db.sync", "Normal")]).is_empty());
}

#[test]
fn a_gzip_file_is_read_as_its_text() {
    let folder = Bench::folder();
    let text: String = (0..60_000).map(|number| format!("line {number}\n")).collect();
    let member = |text: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    fs::write(folder.path().join("a.gz"), member(&text)).unwrap();
    fs::write(folder.path().join("bad.gz"), "this is plain text, not gzip\n").unwrap();
    let mut bench = Bench::start(folder, 1, &[("path", "@/*.gz"), ("offset_key", "o")]);
    bench.until("the text", |bench| bench.shards[0].1.events().len() >= 60_000);
    let mut file = OpenOptions::new().append(true).open(bench.path("a.gz")).unwrap();
    file.write_all(&member("added\n")).unwrap();
    bench.until("the added member", |bench| bench.shards[0].1.events().len() > 60_000);
    let records = bench.records();
    let lines: Vec<_> = records.iter().map(|(_, body)| body["log"].as_str()).collect();
    assert!(lines[..60_000].iter().copied().eq(text.lines()));
    assert_eq!((lines[60_000], &records[60_000].1["o"]), ("added", &text.len().to_string()));
    assert_eq!(bench.dropped(DropCause::Malformed), 1);
}
