//! `tail` through the whole program: real files that grow, move, shrink and vanish, and every line delivered once.

mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use support::{Dataplane, PROGRAM, Run, folder, wait_until};

/// A run of `tail` whose stdout goes to a file, so that its size tells how much was delivered.
struct Tail {
    run: Run,
    folder: tempfile::TempDir,
}

impl Tail {
    /// Starts on two shards with `@` in the keys standing for the folder, once `prepare` has filled it.
    fn start(keys: &str, prepare: impl FnOnce(&Path)) -> Tail {
        let folder = folder();
        prepare(folder.path());
        let keys = keys.replace('@', folder.path().to_str().expect("a plain name"));
        let config = format!(
            "[SERVICE]\n flush 0.05\n shards 2\n[INPUT]\n name tail\n read_from_head on\n{keys}\n\
             [OUTPUT]\n name stdout\n match *\n format json_lines\n json_date_key false\n"
        );
        let stdout = File::create(folder.path().join("stdout")).expect("a file");
        let run = Dataplane::with_config(&config).stdout_to(stdout).started();
        Tail { run, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: impl AsRef<[u8]>) {
        let file = OpenOptions::new().create(true).append(true).open(self.path(name));
        file.and_then(|mut file| file.write_all(text.as_ref())).expect("the file is writable");
    }

    /// The lines that have been delivered, in the order of stdout.
    fn lines(&self) -> Vec<String> {
        lines_of(&fs::read(self.path("stdout")).expect("a file"))
    }

    fn wait_for_lines(&self, count: usize) -> Vec<String> {
        wait_until(&format!("{count} lines"), || self.lines().len() >= count);
        self.lines()
    }

    /// Waits until the file that has this name now is open, even if nothing of it is read.
    fn wait_until_open(&self, name: &str) {
        let inode = fs::metadata(self.path(name)).expect("it is there").ino();
        self.run.wait_for_log(&format!("inode={inode}"));
    }

    /// Stops it; everything that came in was delivered but for `dropped` records.
    fn stop(self, dropped: u64) -> (Vec<String>, String) {
        let ended = self.run.stop();
        let law = ended.law();
        assert_eq!((law.dropped, law.left), (dropped, 0), "{}", law.line);
        let lines = lines_of(&fs::read(self.folder.path().join("stdout")).expect("a file"));
        assert_eq!(lines.len() as u64, law.delivered);
        (lines, ended.log)
    }
}

/// The texts of `{"log":"text"}` lines; a half written last one is left out.
fn lines_of(stdout: &[u8]) -> Vec<String> {
    let end = stdout.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&stdout[..end]).expect("JSON is UTF-8");
    text.lines()
        .map(|line| {
            let inner = line.strip_prefix("{\"log\":\"").and_then(|rest| rest.strip_suffix("\"}"));
            inner.unwrap_or_else(|| panic!("torn: {line}")).to_owned()
        })
        .collect()
}

/// `file number` lines: each number of each file is there once, from 0 on, in order.
fn assert_in_order(lines: &[String], file_count: usize, lines_each: u64) {
    let mut next: HashMap<&str, u64> = HashMap::new();
    for line in lines {
        let (file, number) = line.split_once(' ').expect("a numbered line");
        let next = next.entry(file).or_default();
        assert_eq!(number.parse(), Ok(*next), "{line}");
        *next += 1;
    }
    assert_eq!(next.len(), file_count);
    assert!(next.values().all(|count| *count == lines_each), "{next:?}");
}

/// Lines that may arrive in any order: each exactly once.
fn assert_once(mut lines: Vec<String>, written: u64) {
    lines.sort();
    let expected: Vec<_> = (0..written).map(|number| format!("{number:07}")).collect();
    assert_eq!(lines.len(), expected.len());
    assert!(lines == expected, "a line is missing and another doubled");
}

#[test]
fn two_million_lines_of_eight_files_are_delivered_once_and_in_order() {
    let keys = " path @/*.log\n exit_on_eof on\n mem_buf_limit 20M";
    let tail = Tail::start(keys, |folder| {
        for file in 0..8 {
            let mut text = String::new();
            for number in 0..250_000 {
                writeln!(text, "{file} {number}").expect("a string takes everything");
            }
            fs::write(folder.join(format!("{file}.log")), text).expect("a file");
        }
    });
    let Tail { run, folder } = tail;
    let law = run.wait().law();
    assert_eq!((law.delivered, law.dropped, law.left), (2_000_000, 0, 0), "{}", law.line);
    let lines = lines_of(&fs::read(folder.path().join("stdout")).expect("a file"));
    assert_in_order(&lines, 8, 250_000);
}

#[test]
fn a_thousand_files_are_read_and_followed() {
    let tail = Tail::start(" path @/logs/*.log", |folder| {
        fs::create_dir(folder.join("logs")).expect("a folder");
        for file in 0..1000 {
            let text: String = (0..20).map(|number| format!("{file} {number}\n")).collect();
            fs::write(folder.join(format!("logs/{file}.log")), text).expect("a file");
        }
    });
    tail.wait_for_lines(20_000);
    for file in 0..1000 {
        tail.append(&format!("logs/{file}.log"), format!("{file} 20\n{file} 21\n"));
    }
    tail.wait_for_lines(22_000);
    let (lines, _) = tail.stop(0);
    assert_in_order(&lines, 1000, 22);
}

/// A program that writes numbered lines and keeps its file open while the name is given to another.
struct Writer {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Writer {
    fn new(path: PathBuf) -> Writer {
        let file = File::create(&path).expect("the file is writable");
        Writer { path, file, written: 0 }
    }

    fn write(&mut self, count: u64) {
        for number in self.written..self.written + count {
            // A line arrives in two pieces, so that it is seen half.
            write!(self.file, "{:04}", number / 1000).expect("the file is writable");
            writeln!(self.file, "{:03}", number % 1000).expect("the file is writable");
        }
        self.written += count;
    }

    fn reopen(&mut self) {
        self.file = File::create(&self.path).expect("the file is writable");
    }
}

#[test]
fn rotation_to_a_name_that_does_not_match_loses_and_doubles_nothing() {
    let tail = Tail::start(" path @/app.log\n rotate_wait 1", |_| {});
    let mut writer = Writer::new(tail.path("app.log"));
    for round in 0..20 {
        writer.write(100);
        // A file that nobody has seen cannot be known once its name is gone.
        tail.wait_until_open("app.log");
        fs::rename(tail.path("app.log"), tail.path(&format!("old.{round}"))).expect("a rename");
        // The writer has not noticed yet.
        writer.write(300);
        writer.reopen();
    }
    writer.write(100);
    let written = writer.written;
    tail.wait_for_lines(written as usize);
    assert_once(tail.stop(0).0, written);
}

fn chain(keys: &str) {
    const DEPTH: usize = 6;
    let keys = format!(" path @/app.log*\n rotate_wait 1\n refresh_interval 0.05\n{keys}");
    let tail = Tail::start(&keys, |_| {});
    let mut writer = Writer::new(tail.path("app.log"));
    for _ in 0..40 {
        writer.write(50);
        let name = |index: usize| match index {
            0 => "app.log".to_owned(),
            index => format!("app.log.{index}"),
        };
        if tail.path(&name(DEPTH)).exists() {
            let text = fs::read_to_string(tail.path(&name(DEPTH))).expect("it is there");
            let last = text.lines().next_back().expect("lines").to_owned();
            wait_until("its last line", || tail.lines().contains(&last));
            fs::remove_file(tail.path(&name(DEPTH))).expect("it is there");
        }
        for index in (0..DEPTH).rev().filter(|index| tail.path(&name(*index)).exists()) {
            fs::rename(tail.path(&name(index)), tail.path(&name(index + 1))).expect("a rename");
        }
        writer.write(50);
        writer.reopen();
    }
    writer.write(50);
    let written = writer.written;
    tail.wait_for_lines(written as usize);
    assert_once(tail.stop(0).0, written);
}

#[test]
fn a_chain_of_matching_names_loses_and_doubles_nothing() {
    chain(" static_batch_size 64k\n file_cache_advise off");
}

#[test]
fn a_chain_of_matching_names_is_followed_without_inotify() {
    chain(" inotify_watcher off");
}

#[test]
fn what_a_truncation_left_unread_is_counted_and_the_rest_delivered_once() {
    let tail = Tail::start(" path @/a.log", |_| {});
    tail.append("a.log", "0000000\n0000001\n");
    tail.wait_for_lines(2);
    // As logrotate does with `copytruncate`: everything was read, nothing is lost.
    fs::copy(tail.path("a.log"), tail.path("a.log.1")).expect("a copy");
    let truncate = |length| {
        let file = File::options().write(true).open(tail.path("a.log"));
        file.and_then(|file| file.set_len(length)).expect("a truncation");
    };
    truncate(0);
    tail.append("a.log", "0000002\n");
    tail.wait_for_lines(3);
    // The program does not look while half a line is there and gone again: its size is never known.
    tail.run.signal("STOP");
    truncate(0);
    tail.append("a.log", "0000003\n0000004\n0000005\n");
    tail.run.signal("CONT");
    tail.wait_for_lines(6);
    tail.run.wait_for_log("was truncated; reading it from the start");
    // Here it has seen it: the line after the half one proves it.
    tail.append("a.log", "0000006\nhalf a line");
    tail.wait_for_lines(7);
    truncate(0);
    tail.append("a.log", "0000007\n");
    tail.wait_for_lines(8);
    let (lines, log) = tail.stop(1);
    assert_once(lines, 8);
    assert!(log.contains("before its last 11 bytes were read"), "{log}");
    assert!(log.contains("vanished 1"), "{log}");
}

#[test]
fn files_that_appear_are_removed_or_stand_behind_links_are_read_to_their_end() {
    let tail = Tail::start(" path @/*/*.log\n rotate_wait 1\n watcher_interval 1", |_| {});
    fs::create_dir(tail.path("d")).expect("a folder");
    let mut writer = Writer::new(tail.path("d/a.log"));
    writer.write(10);
    tail.wait_for_lines(10);
    fs::remove_file(tail.path("d/a.log")).expect("it is there");
    writer.write(10);
    tail.wait_for_lines(20);
    tail.append("target.1", "0000020\n");
    symlink(tail.path("target.1"), tail.path("d/link.log")).expect("a link");
    tail.wait_for_lines(21);
    fs::remove_file(tail.path("d/link.log")).expect("it is there");
    tail.append("target.2", "0000021\n");
    symlink(tail.path("target.2"), tail.path("d/link.log")).expect("a link");
    tail.wait_for_lines(22);
    tail.append("target.1", "0000022\n");
    tail.wait_for_lines(23);
    // The folder goes and comes again.
    fs::remove_dir_all(tail.path("d")).expect("it is there");
    fs::create_dir(tail.path("d")).expect("a folder");
    tail.append("d/new.log", "0000023\n");
    tail.wait_for_lines(24);
    // The last words of a removed file need no newline.
    tail.append("d/new.log", "0000024");
    tail.run.wait_for_log("closed `");
    fs::remove_file(tail.path("d/new.log")).expect("it is there");
    tail.wait_for_lines(25);
    assert_once(tail.stop(0).0, 25);
}

#[test]
fn odd_lines_arrive_whole_when_they_are_complete() {
    let tail = Tail::start(" path @/a.log\n buffer_max_size 6M", |_| {});
    tail.append("a.log", "first\nha");
    tail.wait_for_lines(1);
    tail.append("a.log", "lf\r");
    tail.append("a.log", "\n");
    tail.wait_for_lines(2);
    let long = "0123456789".repeat(500_000);
    for piece in long.as_bytes().chunks(700_000) {
        tail.append("a.log", piece);
    }
    tail.append("a.log", "\n\0nul\n\r\nend\n");
    let lines = tail.wait_for_lines(6);
    assert_eq!(lines[..2], ["first", "half"]);
    assert!(lines[2] == long, "{} bytes", lines[2].len());
    assert_eq!(lines[3..], ["\\u0000nul", "", "end"]);
    tail.stop(0);
}

#[test]
fn a_line_that_is_too_long_costs_itself_and_not_its_file() {
    let keys = " path @/a.log\n buffer_chunk_size 64\n buffer_max_size 64\n exit_on_eof on";
    let tail = Tail::start(keys, |folder| {
        let text = format!("one\n{}\ntwo\nlast without newline", "x".repeat(500));
        fs::write(folder.join("a.log"), text).expect("a file");
    });
    let Tail { run, folder } = tail;
    let ended = run.wait();
    let law = ended.law();
    assert_eq!((law.delivered, law.dropped), (3, 1), "{}", law.line);
    assert!(law.line.contains("oversized 1"), "{}", law.line);
    let lines = lines_of(&fs::read(folder.path().join("stdout")).expect("a file"));
    assert_eq!(lines, ["one", "two", "last without newline"]);
    let said = ended.log.lines().find(|line| line.contains("requires a larger buffer size"));
    assert!(said.is_some_and(|line| line.contains("[error] [input:tail:tail.0]")), "{}", ended.log);
}

#[test]
fn files_that_rotate_while_the_input_is_paused_are_all_read() {
    let folder = folder();
    let base = folder.path().to_str().expect("a plain name");
    let config = format!(
        "[SERVICE]\n flush 0.05\n shards 2\n[INPUT]\n name tail\n read_from_head on\n \
         path {base}/app.log\n mem_buf_limit 200k\n rotate_wait 1\n\
         [OUTPUT]\n name stdout\n match *\n format json_lines\n json_date_key false\n"
    );
    let (mut reader, stdout) = std::io::pipe().expect("a pipe");
    let run = Dataplane::with_config(&config).stdout_to(stdout).started();
    let tail = Tail { run, folder };
    let mut writer = Writer::new(tail.path("app.log"));
    // Nobody reads stdout, so the output stands still and the limit is reached.
    writer.write(100_000);
    tail.run.wait_for_log("tail.0 paused (mem buf overlimit)");
    for round in 0..5 {
        fs::rename(tail.path("app.log"), tail.path(&format!("old.{round}"))).expect("a rename");
        writer.write(1000);
        writer.reopen();
        writer.write(1000);
        tail.wait_until_open("app.log");
    }
    let written = writer.written;
    let expected = written as usize * "{\"log\":\"0000000\"}\n".len();
    let mut bytes = vec![0; expected];
    reader.read_exact(&mut bytes).expect("everything that was written");
    assert_once(lines_of(&bytes), written);
    let Tail { run, folder: _folder } = tail;
    let law = run.stop().law();
    assert_eq!((law.delivered, law.dropped, law.left), (written, 0, 0), "{}", law.line);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty(), "more than was written");
}

#[test]
#[allow(clippy::print_stdout, reason = "says that it was skipped")]
fn lost_notifications_are_made_good_by_looking() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap_or_default();
    let limit: u64 = limit.trim().parse().unwrap_or(u64::MAX);
    if limit > 100_000 {
        println!("skipped: the queue of inotify is too long to overflow it");
        return;
    }
    let keys = " path @/*.log\n refresh_interval 3600\n watcher_interval 3600\n \
                progress_check_interval 3600\n rotate_wait 3600";
    let tail = Tail::start(keys, |_| {});
    let names = ["a.log", "b.log", "c.log", "d.log"];
    let mut writers = names.map(|name| Writer::new(tail.path(name)));
    names.iter().for_each(|name| tail.wait_until_open(name));
    tail.run.signal("STOP");
    // Changes of one file in a row are one event, so the files take turns, two on each shard.
    // A stop takes its time: what is taken until then must not matter.
    let written = 4 * limit;
    for number in 0..written {
        writeln!(writers[(number % 4) as usize].file, "{number:07}").expect("a file");
    }
    tail.append("after.log", format!("{written:07}\n"));
    tail.run.signal("CONT");
    tail.run.wait_for_log("changes of files were lost, looking at all of them");
    tail.wait_for_lines(written as usize + 1);
    assert_once(tail.stop(0).0, written + 1);
}

#[test]
fn what_cannot_be_read_is_said_once_and_the_rest_goes_on() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let set_mode = |name: &str, mode| {
        fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).expect("permissions");
    };
    set_mode("", 0o755);
    fs::write(path("secret.log"), "x\n").expect("a file");
    set_mode("secret.log", 0o000);
    fs::write(path("plain.log"), "y\n").expect("a file");
    fs::create_dir(path("folder")).expect("a folder");
    symlink("round.log", path("round.log")).expect("a link");
    let base = folder.path().display();
    let paths = format!("path={base}/*.log,{base}/folder/,{base}/none-*.txt");
    let mut program = PathBuf::from(PROGRAM);
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root {
        // Root reads everything; somebody else may not even find the build.
        program = path("program");
        fs::copy(PROGRAM, &program).expect("a copy");
    }
    let run = Dataplane::new()
        .args(["--shards", "2", "-f", "0.1", "-i", "tail", "-p", "read_from_head=on", "-p", &paths])
        .args(["-o", "stdout", "-m", "*"])
        .command(|command| {
            if is_root {
                let mut other = std::process::Command::new(&program);
                other.args(command.get_args()).uid(65534).gid(65534);
                *command = other;
            }
        })
        .started();
    run.wait_for_stdout(|text| text.contains("{\"log\"=>\"y\"}"));
    let denied = run.wait_for_log("secret.log`");
    assert!(denied.contains("[error] [input:tail:tail.0] cannot read `"), "{denied}");
    assert!(denied.contains("Permission denied"), "{denied}");
    let round = run.wait_for_log("round.log`");
    assert!(round.contains("cannot read `"), "{round}");
    let directory = run.wait_for_log("/folder/`");
    assert!(directory.contains("[ warn]") && directory.contains("add `/*`"), "{directory}");
    let none = run.wait_for_log("none-*.txt`");
    assert!(none.contains("no file matches"), "{none}");
    // It lives, and what becomes readable is read.
    set_mode("secret.log", 0o644);
    fs::write(path("none-1.txt"), "z\n").expect("a file");
    set_mode("none-1.txt", 0o644);
    run.wait_for_stdout(|text| text.contains("{\"log\"=>\"z\"}"));
    let ended = run.stop();
    assert_eq!(ended.law().delivered, 2, "{}", ended.log);
    for name in ["secret.log`", "round.log`"] {
        let count = ended.log.lines().filter(|line| line.contains(name)).count();
        assert_eq!(count, 1, "{}", ended.log);
    }
}
