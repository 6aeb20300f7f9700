//! The command line as a user types it: flags, help, paths, the background, and the ways to stop.

mod support;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Dataplane, Run, folder, tests_path, wait_until};

#[test]
fn the_command_of_fluent_bits_first_page_prints_samples() {
    let run =
        Dataplane::new().args(["-i", "cpu", "-t", "my.cpu", "-o", "stdout", "-m", "*"]).start();
    let text = run.wait_for_stdout(|text| text.contains("cpu0.p_cpu") && text.ends_with('\n'));
    assert!(text.starts_with("[0] my.cpu: [["), "{text}");
    let law = run.stop().law();
    assert!(law.delivered > 0 && law.dropped == 0 && law.left == 0, "{}", law.line);
}

#[test]
fn sections_come_from_the_command_line_before_those_of_the_file() {
    let run = Dataplane::with_config(
        "[INPUT]\n    name dummy\n    samples 1\n[OUTPUT]\n    name stdout\n    match dummy.*\n    format json\n",
    )
    .args(["-i", "dummy", "-p", "samples=1", "-p", r#"dummy={"from":"line=1"}"#])
    .args(["-o", "null", "-m", "nothing"])
    .start();
    // Ids are given in that order, so the file's input is the second.
    let text = run.wait_for_stdout(|text| text.matches('\n').count() >= 2);
    assert!(text.contains(r#""from":"line=1""#), "{text}");
    assert!(text.contains(r#""message":"dummy""#), "{text}");
    let log = run.stop().log;
    assert!(log.contains("output `null` matches no input"), "{log}");
}

fn printed(arguments: &[&str]) -> String {
    let ended = Dataplane::new().args(arguments).end();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(ended.log, "");
    ended.text()
}

#[test]
fn help_and_version_go_to_standard_output() {
    let general = printed(&["-h"]);
    assert_eq!(general, printed(&["--help"]));
    for part in
        ["-i, --input=NAME", "-D, --dry-run", "\nInputs\n  cpu ", "\nOutputs\n", "  stdout "]
    {
        assert!(general.contains(part), "{part} in\n{general}");
    }
    let tail = printed(&["-i", "tail", "-h"]);
    assert_eq!(tail, printed(&["-h", "-i", "tail"]));
    for part in
        ["input tail: ", "read_from_head               (boolean, default false)", "mem_buf_limit "]
    {
        assert!(tail.contains(part), "{part} in\n{tail}");
    }
    assert!(printed(&["-o", "stdout", "-h"]).contains("json_date_format"));
    assert_eq!(printed(&["-V"]), format!("dataplane v{}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_dry_run_can_show_what_was_read() {
    let line = ["-i", "dummy", "-t", "${NAME:-x}", "-o", "null", "-D", "-vv"];
    let ended = Dataplane::new().args(line).end();
    assert_eq!((ended.code(), ended.log.as_str()), (0, "configuration test is successful\n"));
    assert!(ended.text().contains("input\n  name = \"dummy\"  # 1:4\n  tag = \"x\"  # 1:13\n"));
}

#[test]
fn stock_configurations_start() {
    for file in ["main.conf", "main.yaml"] {
        let stock = tests_path("golden/config/stock");
        let checked =
            Dataplane::new().current_dir(&stock).args(["-c", file, "--dry-run", "--strict"]).end();
        assert_eq!(checked.log, "configuration test is successful\n");
        assert_eq!(checked.code(), 0);
        let run = Dataplane::new().current_dir(&stock).args(["-c", file]).start();
        run.wait_for_stdout(|text| text.contains("cpu.local: [["));
        let law = run.stop().law();
        assert!(law.delivered > 0 && law.left == 0, "{}", law.line);
    }
}

#[test]
fn a_port_in_use_and_a_name_that_is_none_end_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let tcp = |listen: &str, port: u16| {
        let (listen, port) = (format!("listen={listen}"), format!("port={port}"));
        let ended =
            Dataplane::new().args(["-i", "tcp", "-p", &listen, "-p", &port, "-o", "null"]).end();
        assert_eq!(ended.code(), 255, "{}", ended.log);
        let errors: Vec<_> = ended.log.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{}", ended.log);
        // What the resolver says depends on the network of the machine.
        let said = errors[0].split(" address information").next().unwrap_or(errors[0]);
        said.replace(&port["port=".len()..], "PORT")
    };
    let said = [tcp("127.0.0.1", port), tcp("nowhere.invalid", port)].join("\n") + "\n";
    let golden = tests_path("golden/config/listen-errors");
    if std::env::var_os("DATAPLANE_RECORD").is_some() {
        fs::write(&golden, &said).expect("the expectation is written");
    }
    assert_eq!(said, fs::read_to_string(golden).expect("an expectation"));
}

#[test]
fn the_working_directory_is_changed_before_files_are_read() {
    let there = folder();
    fs::create_dir(there.path().join("sub")).expect("a folder");
    let text =
        "[SERVICE]\n    log_file log.txt\n[INPUT]\n    name dummy\n[OUTPUT]\n    name null\n";
    fs::write(there.path().join("sub/a.conf"), text).expect("a file");
    let run =
        Dataplane::new().current_dir(there.path()).args(["-w", "sub", "-c", "a.conf"]).start();
    let log = there.path().join("sub/log.txt");
    wait_until("the log is there", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("shards started"))
    });
    assert_eq!(run.stop().code(), 0);
    let ended = Dataplane::new().args(["-w", "/nothing/there", "-i", "dummy", "-o", "null"]).end();
    assert_eq!(ended.code(), 255);
    assert!(ended.log.starts_with("error: cannot change to `/nothing/there`"), "{}", ended.log);
}

#[test]
fn the_log_level_is_that_of_the_environment_then_the_file_then_the_flags() {
    let file = |level: &str| {
        format!("[SERVICE]\n    {level}\n[INPUT]\n    name dummy\n[OUTPUT]\n    name null\n")
    };
    let shows = |text: &str, arguments: &[&str], environment: Option<&str>| {
        let mut dataplane = Dataplane::with_config(text).args(arguments);
        if let Some(level) = environment {
            dataplane = dataplane.env("FLB_LOG_LEVEL", level);
        }
        let run = dataplane.start();
        // Without a log there is no line to wait for.
        wait_until("a shard runs", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", run.pid())).expect("the process");
            tasks.flatten().any(|task| {
                fs::read_to_string(task.path().join("comm"))
                    .is_ok_and(|name| name.starts_with("shard-"))
            })
        });
        let log = run.stop().log;
        (log.contains("[ info]"), log.contains("[debug]"))
    };
    assert_eq!(shows(&file("flush 1"), &[], None), (true, false));
    assert_eq!(shows(&file("flush 1"), &["-v"], None), (true, true));
    assert_eq!(shows(&file("flush 1"), &["-q"], None), (false, false));
    assert_eq!(shows(&file("log_level info"), &["-q"], None), (true, false));
    assert_eq!(shows(&file("log_level error"), &["-vv"], None), (false, false));
    let ended = Dataplane::with_config(&file("flush 1")).args(["-f", "7", "-D"]).end();
    assert!(ended.log.contains("`flush` of the command line has no effect"), "{}", ended.log);
    assert_eq!(shows(&file("log_level error"), &[], Some("debug")), (true, true));
}

fn kill(signal: &str, pid: u32) -> bool {
    let mut command = Command::new("kill");
    command.arg(format!("-{signal}")).arg(pid.to_string()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A process that went into the background; ended by force if the test does not end it.
struct Background(u32);

impl Background {
    /// The process that works in this folder: the only one, as the folder is new.
    fn in_folder(folder: &Path) -> Background {
        let folder = folder.canonicalize().expect("a folder");
        let processes = fs::read_dir("/proc").expect("the processes").flatten();
        let found = processes.filter(|entry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|working| working == folder)
        });
        let mut pids = found.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Background(pids.next().expect("a process works in the folder"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended already.
        kill("KILL", self.0);
    }
}

/// Bytes a process has read so far.
fn bytes_read(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[test]
fn relative_paths_keep_their_meaning_in_the_background() {
    let there = folder();
    for name in ["conf", "logs"] {
        fs::create_dir(there.path().join(name)).expect("a folder");
    }
    let write = |name: &str, text: &str| {
        fs::write(there.path().join(name), text).expect("a file");
    };
    write(
        "conf/main.conf",
        "[SERVICE]\n    log_file log.txt\n    log_level debug\n@INCLUDE part.conf\n[OUTPUT]\n    name null\n    match *\n",
    );
    write(
        "conf/part.conf",
        "[INPUT]\n    name tail\n    path logs/*.log\n    refresh_interval 0.1\n    read_from_head on\n",
    );
    let parent =
        Dataplane::new().current_dir(there.path()).args(["-d", "-c", "conf/main.conf"]).end();
    // The parent has waited for the start.
    assert_eq!(parent.code(), 0, "{}", parent.log);
    let background = Background::in_folder(there.path());
    let log = || fs::read_to_string(there.path().join("log.txt")).unwrap_or_default();
    wait_until("the log says so", || log().contains("shards started"));
    assert!(log().contains(&format!("pid={}\n", background.0)), "{}", log());

    // A file that appears later is found by the relative pattern, and read.
    let before = bytes_read(background.0);
    let lines = "forty bytes of text, give or take a few\n".repeat(25_000);
    write("logs/late.log", &lines);
    wait_until("the late file is read", || bytes_read(background.0) >= before + lines.len() as u64);
    assert!(kill("TERM", background.0));
    wait_until("the daemon has stopped", || log().contains("service has stopped"));
    assert!(
        log().contains("records: in 25000 = delivered 25000 + dropped 0 + left 0"),
        "{}",
        log()
    );
}

#[test]
fn a_daemon_that_cannot_start_says_so_to_its_shell() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = format!("port={}", listener.local_addr().expect("an address").port());
    let tcp = ["-d", "-i", "tcp", "-p", "listen=127.0.0.1", "-p", &port, "-o", "null"];
    let ended = Dataplane::new().args(tcp).end();
    assert_eq!(ended.code(), 255, "{}", ended.log);
    assert!(ended.log.contains("error: input `tcp.0`"), "{}", ended.log);
    let ended = Dataplane::new().args(["-d", "-i", "tcq", "-o", "null"]).end();
    assert_eq!(ended.code(), 1, "{}", ended.log);
    assert!(ended.log.contains("did you mean `tcp`?"), "{}", ended.log);
}

#[test]
fn an_idle_stop_is_immediate() {
    let stop = |signal: &str| {
        let run = Dataplane::new()
            .args(["-i", "tcp", "-p", "listen=127.0.0.1", "-p", "port=0", "-o", "null"])
            .started();
        let begin = Instant::now();
        run.signal(signal);
        let ended = run.wait();
        assert!(ended.log.contains(&format!("caught signal (SIG{signal})")), "{}", ended.log);
        assert_eq!(ended.code(), 0);
        begin.elapsed()
    };
    // The fastest of a few: the machine may be busy with other tests, the stop is not.
    let fastest = ["TERM", "INT", "QUIT"].map(stop).into_iter().min().expect("three stops");
    assert!(fastest < Duration::from_millis(500), "{fastest:?}");
}

/// A start whose standard output nobody reads, so that a stop has something to wait for.
fn stuck(grace: &str) -> (Run, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let text = format!(
        "[SERVICE]\n    flush 0.05\n    grace {grace}\n[INPUT]\n    name dummy\n    rate 1000\n    \
         copies 200\n    samples 20\n[OUTPUT]\n    name stdout\n    match *\n"
    );
    let run = Dataplane::with_config(&text).args(["--shards", "1"]).stdout_to(writer).started();
    // The pipe fills up, and then the writer waits.
    let is_full = || {
        let mut poll = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut poll, None).is_ok()
            && rustix::io::ioctl_fionread(&reader).is_ok_and(|bytes| bytes >= 60_000)
    };
    wait_until("the pipe is full", is_full);
    (run, reader)
}

#[test]
fn a_stop_waits_for_the_grace_time_and_says_what_is_left() {
    let (run, _reader) = stuck("1");
    let begin = Instant::now();
    run.signal("TERM");
    run.wait_for_log("service will shutdown in max 1 seconds");
    let law = run.wait().law();
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert!(law.left > 0, "{}", law.line);
}

#[test]
fn a_stop_without_limit_delivers_everything() {
    let (run, mut reader) = stuck("-1");
    run.signal("TERM");
    run.wait_for_log("service will shutdown when all remaining tasks are flushed");
    let drain = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the pipe is read to its end");
        text.lines().count()
    });
    let law = run.wait().law();
    assert_eq!((law.came_in, law.delivered, law.left), (4000, 4000, 0), "{}", law.line);
    assert_eq!(drain.join().expect("the reader ends"), 4000);
}

#[test]
fn a_second_signal_ends_at_once() {
    let (run, _reader) = stuck("-1");
    run.signal("TERM");
    run.wait_for_log("service will shutdown when all remaining tasks are flushed");
    run.signal("INT");
    let ended = run.wait();
    assert_eq!(ended.code(), 1, "{}", ended.log);
    assert!(ended.log.contains("caught SIGINT again: ending at once"), "{}", ended.log);
}

#[test]
fn every_example_is_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/examples");
    let mut count = 0;
    for entry in fs::read_dir(examples).expect("examples") {
        let path = entry.expect("an example").path();
        let text = fs::read_to_string(&path).expect("an example");
        // Those with plugins are run where the plugins are built.
        if text.contains("plugins_file") || text.contains("plugins:") {
            continue;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let checked = Dataplane::new()
            .current_dir(&root)
            .args(["--dry-run", "--strict", "-c"])
            .args([path.to_str().expect("a path in UTF-8")])
            .end();
        assert_eq!((checked.code(), checked.log.lines().count()), (0, 1), "{}", checked.log);
        count += 1;
    }
    assert!(count >= 2, "{count} examples");
}
