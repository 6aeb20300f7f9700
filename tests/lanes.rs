//! How foreign plugins are called: how many at once, in whose turn, what a blocked one holds up and what not, and
//! how the process ends with a call under way.

mod support;

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rmpv::Value;
use support::plugins::c_plugin;
use support::{Dataplane, Run, folder, wait_until};

/// Where a plugin blocks until the test lets it go, and what it wrote down.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = folder();
        let gate = folder.path().join("gate");
        rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU)
            .expect("a FIFO can be made");
        Bench { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, config: &str) -> Run {
        let config = config
            .replace("GATE", &self.path("gate").display().to_string())
            .replace("DUMP", &self.path("dump").display().to_string());
        Dataplane::with_config(&config)
            .env("PROBE_CALLS", self.path("calls"))
            .args(["-e".as_ref(), c_plugin("probe").as_os_str()])
            .started()
    }

    fn calls(&self, start: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
    }

    fn wait_for_flushes(&self, count: usize) -> Vec<String> {
        wait_until("flushes", || self.calls("flush").len() >= count);
        self.calls("flush")
    }

    /// Lets the plugin go for as long as the result lives.
    fn open_gate(&self) -> File {
        File::options().write(true).open(self.path("gate")).expect("the plugin is at the gate")
    }
}

/// A forward client that asks for acknowledgements.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the input listens");
        stream.set_read_timeout(Some(support::DEADLINE)).expect("a timeout can be set");
        Client { stream: BufReader::new(stream) }
    }

    /// Sends one frame in forward mode and waits for its acknowledgement.
    fn send(&mut self, tag: &str, numbers: std::ops::Range<u64>, padding: &str) {
        let event = |number: u64| {
            let body = vec![("n".into(), number.into()), ("p".into(), padding.into())];
            Value::Array(vec![1.into(), Value::Map(body)])
        };
        let id = format!("{tag}-{}", numbers.start);
        let options = Value::Map(vec![("chunk".into(), id.as_str().into())]);
        let frame =
            Value::Array(vec![tag.into(), Value::Array(numbers.map(event).collect()), options]);
        self.stream
            .get_mut()
            .write_all(&support::events::bytes_of(&frame))
            .expect("the input reads");
        let ack = rmpv::decode::read_value(&mut self.stream).expect("an ack");
        assert_eq!(ack["ack"].as_str(), Some(id.as_str()), "{ack}");
    }
}

/// The numbers of the events a plugin wrote to its dump.
fn numbers(path: &Path) -> Vec<u64> {
    let events = support::events::values(&fs::read(path).expect("a dump"));
    events.iter().map(|event| event[1]["n"].as_u64().expect("a number")).collect()
}

fn part<'a>(line: &'a str, after: &str) -> &'a str {
    let rest = line.split(after).nth(1).unwrap_or_else(|| panic!("no `{after}` in `{line}`"));
    rest.split([' ', ']']).next().unwrap_or_default()
}

/// Two inputs, one on each shard, that make a chunk at each tick.
const TWO_SHARDS: &str = "[SERVICE]\n Flush 0.02\n Shards 2\n[INPUT]\n Name dummy\n Tag a\n Rate 200\n\
                          [INPUT]\n Name dummy\n Tag b\n Rate 200\n";

#[test]
fn workers_says_how_many_calls_run_at_once() {
    for (workers, together, at_once) in [("8", 8, 8), ("auto", 2, 2), ("3", 3, 3)] {
        let bench = Bench::new();
        let config = format!(
            "{TWO_SHARDS}[OUTPUT]\n Name probe\n Match *\n Id x\n workers {workers}\n together {together}\n \
             alone_ms 1\n"
        );
        let run = bench.start(&config);
        // They wait for each other, so none returns before all are inside.
        bench.wait_for_flushes(30);
        let law = run.stop().law();
        assert_eq!(law.came_in, law.delivered, "{}", law.line);
        let exit = bench.calls("exit").remove(0);
        assert_eq!(part(&exit, "at once "), at_once.to_string(), "{exit}");
    }
}

#[test]
fn by_default_a_library_is_called_by_one_thread_at_a_time() {
    let bench = Bench::new();
    // `workers 0` is the default too.
    let config = format!(
        "{TWO_SHARDS}[OUTPUT]\n Name probe\n Match *\n Id x\n alone_ms 10\n\
         [OUTPUT]\n Name probe\n Match *\n Id y\n alone_ms 10\n Workers 0\n"
    );
    let run = bench.start(&config);
    // Each shard gets its turns, and each instance.
    for part in ["on lane-0.", "on lane-1.", "flush x", "flush y"] {
        wait_until(&format!("twelve flushes `{part}`"), || {
            bench.calls("flush").iter().filter(|line| line.contains(part)).count() >= 12
        });
    }
    run.stop().law();
    for exit in bench.calls("exit") {
        assert_eq!(part(&exit, "of library "), "1", "{exit}");
    }
}

const FORWARD: &str = "[INPUT]\n Name forward\n Listen 127.0.0.1\n Port 0\n";
const TO_STDOUT: &str = "[OUTPUT]\n Name stdout\n Match *\n Format json_lines\n";

#[test]
fn one_permit_goes_round_the_shards_and_one_thread_round_the_instances() {
    // The shards of one instance, then the instances on one shard.
    for (shards, outputs) in [
        (2, "[OUTPUT]\n Name probe\n Match *\n Id x\n Gate GATE\n"),
        (
            1,
            "[OUTPUT]\n Name probe\n Match a*\n Id x\n Gate GATE\n[OUTPUT]\n Name probe\n Match b*\n Id y\n",
        ),
    ] {
        let bench = Bench::new();
        let service = format!("[SERVICE]\n Flush 0.02\n Shards {shards}\n");
        let run = bench.start(&format!("{service}{FORWARD}{outputs}{TO_STDOUT}"));
        let address = run.address("forward.0");
        // Accepted connections go to the shard with the fewest: one each.
        let mut clients = [Client::new(address), Client::new(address)];
        clients[0].send("a", 0..1, "");
        bench.wait_for_flushes(1);
        for turn in 1..7 {
            for (client, letter) in clients.iter_mut().zip(["a", "b"]) {
                client.send(&format!("{letter}{turn}"), turn..turn + 1, "");
            }
        }
        // What standard output has, waits in the plugin's queues as well.
        run.wait_for_stdout(|text| text.lines().count() == 13);
        let gate = bench.open_gate();
        let flushes = bench.wait_for_flushes(13);
        drop(gate);
        assert_eq!(run.stop().law().delivered, 13);
        let letters: Vec<&str> = flushes.iter().map(|line| &part(line, " tag ")[..1]).collect();
        let letters = letters.concat();
        if shards == 1 {
            assert!(letters.starts_with("abababababab"), "{letters}");
        }
        // A shard that is slow to note that it waits misses a turn; one that starved would miss all.
        assert!(
            !letters.contains("aaaa") && !letters.contains("bbbb"),
            "{shards} shards: {letters}"
        );
    }
}

#[test]
fn a_blocked_plugin_holds_up_nobody_below_the_limit_and_loses_nothing_above_it() {
    const FRAMES: u64 = 80;
    const FRAME_EVENTS: u64 = 64;
    let bench = Bench::new();
    let config = format!(
        "[SERVICE]\n Flush 0.05\n Shards 2\n{FORWARD} mem_buf_limit 2M\n\
         [OUTPUT]\n Name probe\n Match *\n Id x\n Gate GATE\n Dump DUMP\n{TO_STDOUT}"
    );
    let run = bench.start(&config);
    let mut client = Client::new(run.address("forward.0"));
    let acked = Arc::new(AtomicUsize::new(0));
    let sender = std::thread::spawn({
        let (acked, padding) = (Arc::clone(&acked), "p".repeat(1000));
        move || {
            for frame in 0..FRAMES {
                client.send("t", frame * FRAME_EVENTS..(frame + 1) * FRAME_EVENTS, &padding);
                acked.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    run.wait_for_log("forward.0 paused (mem buf overlimit)");
    let holder = run.wait_for_log("forward.0 is paused because output probe.0 holds ");
    let held: u64 = part(&holder, "probe.0 holds ").parse().unwrap();
    assert!(held > 60_000, "at least a frame: {holder}");
    // Up to the limit, every frame was acknowledged, and reaches the other output.
    let frames = acked.load(Ordering::SeqCst);
    assert!((30..=36).contains(&frames), "{frames} frames of 64 KB for 2 MB");
    run.wait_for_stdout(|text| text.lines().count() >= frames * FRAME_EVENTS as usize);
    assert_eq!(bench.wait_for_flushes(1).len(), 1);
    assert!(!sender.is_finished());
    let gate = bench.open_gate();
    sender.join().unwrap();
    run.wait_for_log("forward.0 resume (mem buf overlimit)");
    let ended = run.stop();
    drop(gate);
    let law = ended.law();
    assert_eq!(
        (law.came_in, law.delivered),
        (FRAMES * FRAME_EVENTS, FRAMES * FRAME_EVENTS),
        "{}",
        law.line
    );
    assert_eq!(ended.text().lines().count() as u64, FRAMES * FRAME_EVENTS);
    let expected: Vec<u64> = (0..FRAMES * FRAME_EVENTS).collect();
    assert_eq!(numbers(&bench.path("dump")), expected);
}

#[test]
fn a_flush_that_never_returns_ends_with_the_process_and_its_plugin_is_not_touched() {
    let bench = Bench::new();
    let config = "[SERVICE]\n Flush 0.05\n Grace 1\n Shards 2\n[INPUT]\n Name dummy\n Samples 1\n\
                  [OUTPUT]\n Name probe\n Match *\n Id x\n Gate GATE\n[OUTPUT]\n Name null\n Match *\n";
    let run = bench.start(config);
    bench.wait_for_flushes(1);
    let ended = run.stop();
    let law = ended.law();
    assert_eq!((law.came_in, law.left), (1, 1), "{}", law.line);
    assert!(
        ended.log.contains("1 flushes are still under way in plugins: their exit is not called"),
        "{}",
        ended.log
    );
    for call in ["pre_exit", "exit", "unregister"] {
        assert!(bench.calls(call).is_empty(), "{call}");
    }
}

#[test]
fn a_peer_that_never_answers_keeps_no_plugin_from_its_exit() {
    let bench = Bench::new();
    // Connects, as the kernel answers for it, and never sends an ack.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("an address").port();
    let config = format!(
        "[SERVICE]\n Flush 0.05\n Grace 1\n[INPUT]\n Name dummy\n Samples 1\n[OUTPUT]\n Name probe\n Match *\n Id x\n\
         [OUTPUT]\n Name forward\n Match *\n Host 127.0.0.1\n Port {port}\n Require_Ack_Response on\n"
    );
    let run = bench.start(&config);
    bench.wait_for_flushes(1);
    let ended = run.stop();
    let law = ended.law();
    assert_eq!((law.came_in, law.left), (1, 1), "{}", law.line);
    assert!(
        ended.log.contains("1 flushes are still under way: what they hold is left"),
        "{}",
        ended.log
    );
    assert!(!ended.log.contains("in plugins"), "{}", ended.log);
    for call in ["pre_exit", "exit", "unregister"] {
        assert_eq!(bench.calls(call).len(), 1, "{call}");
    }
}
