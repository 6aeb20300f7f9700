//! Steady state allocates nothing per record: the whole engine runs in this process under a counting allocator.
//!
//! Each path runs twice, with few and with many records. What the second run allocates more may grow with the
//! chunks it made, never with its records.

#![allow(clippy::unwrap_used, reason = "a failure of any step fails the test")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

use config::{Document, Problems, ServiceSettings};
use dataplane::lane::host::PluginHost;
use dataplane::limits::CHUNK_BYTES_FULL;
use dataplane::log::{self, Level};
use dataplane::pipeline::build::{self, Surroundings};
use dataplane::supervisor::{self, Order};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The counts are of the whole process, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Allocations a chunk may cost on its way: its shared block, a task, a boxed future, a growing queue, and for each of
/// the eight reads that fill it a timer and a task of the reactor.
const PER_CHUNK: u64 = 24;

/// What ends a run.
enum End<'a> {
    /// Its input.
    Input,
    /// The return of this load.
    Load(&'a dyn Fn()),
}

/// Runs a configuration on one shard to its end: so many records must come in or be added, and none be lost. Returns
/// the allocations.
fn run(config: &str, record_count: u64, end: End<'_>) -> u64 {
    let folder = support::folder();
    let path = folder.path().join("test.conf");
    std::fs::write(&path, config).unwrap();
    let mut problems = Problems::default();
    let mut document = Document::empty();
    config::load(&mut document, Some(&path), &|_| None, &mut problems);
    let service = ServiceSettings::of(&document.service, &mut problems).unwrap();
    let surroundings =
        Surroundings { loaded: &[], unloaded_count: 0, shard_count: 1, mem_limit_bytes: 1 << 30 };
    let pipeline = build::build(&document, service, &surroundings, &mut problems).unwrap();
    assert_eq!(problems.error_count(), 0);
    let host = PluginHost::start().unwrap();
    let (orders, queue) = channel();
    let (has_started, started) = channel();
    let log_path = folder.path().join("log");
    let (log, _writer) = log::start(Level::Info, Some(&log_path)).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let (order, log) = (orders.clone(), &log);
        let running = scope.spawn(move || {
            let started = || has_started.send(()).unwrap();
            supervisor::run(pipeline, &host, log, &queue, &order, started).unwrap()
        });
        started.recv().unwrap();
        if let End::Load(load) = end {
            load();
            orders.send(Order::InputEnded).unwrap();
        }
        assert_eq!(running.join().unwrap().exit_status, 0);
    });
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    log.flush(support::DEADLINE);
    let log = std::fs::read_to_string(&log_path).unwrap();
    let law = log.lines().find_map(|line| line.split_once("records: in ")).expect("an account").1;
    let is_kept =
        law.starts_with(&format!("{record_count} = ")) && law.contains(" + dropped 0 + left 0");
    assert!(is_kept, "not of {record_count} records: {law}");
    allocations
}

/// Compares a small with a large run.
fn assert_flat(few: u64, many: u64, records: u64, event_bytes: u64) {
    let chunks = records * event_bytes / (CHUNK_BYTES_FULL as u64 / 2) + 1;
    let more = many.saturating_sub(few);
    assert!(
        more < chunks * PER_CHUNK && more < records / 100,
        "{records} records more, some {chunks} chunks, made {more} allocations more"
    );
}

/// A file of the same text over and over, tailed to null.
#[derive(Clone, Copy, Default)]
struct Tail<'a> {
    /// Whole lines.
    text: &'a str,
    /// Records that come of the text.
    record_count: u64,
    /// Size of one in a chunk, roughly.
    event_bytes: u64,
    /// Further keys of the input.
    keys: &'a str,
    /// Further sections.
    sections: &'a str,
}

impl Tail<'_> {
    /// Compares so many texts with so many more.
    fn assert_flat(&self, counts: [u64; 2]) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = support::folder();
        let path = folder.path().join("lines.log");
        let measure = |count: u64| {
            std::fs::write(&path, self.text.repeat(count as usize)).unwrap();
            let config = format!(
                "{}[INPUT]\n    name tail\n    tag a\n    path {}\n    read_from_head on\n    exit_on_eof on\n{}\
                 [OUTPUT]\n    name null\n    match *\n",
                self.sections,
                path.display(),
                self.keys
            );
            run(&config, self.record_count * count, End::Input)
        };
        measure(1_000);
        let [few, many] = counts.map(measure);
        assert_flat(few, many, self.record_count * (counts[1] - counts[0]), self.event_bytes);
    }
}

const LINE: Tail<'_> = Tail {
    text: "2026-01-31T12:00:00.000000000Z stdout F GET /index.html HTTP/1.1 200 and some more of a line\n",
    record_count: 1,
    event_bytes: 200,
    keys: "",
    sections: "",
};

/// A service with these parsers, in a file of the folder.
fn with_parsers(folder: &tempfile::TempDir, parsers: &str) -> String {
    let path = folder.path().join("parsers.conf");
    std::fs::write(&path, parsers).unwrap();
    format!("[SERVICE]\n    parsers_file {}\n", path.display())
}

#[test]
fn tail_to_null_allocates_nothing_per_line() {
    Tail { event_bytes: 130, ..LINE }.assert_flat([100_000, 600_000]);
}

#[test]
fn a_json_parser_allocates_nothing_per_line() {
    // Floats of many digits have a path of their own.
    let text = "{\"time\":\"2026-01-31T12:00:00.123Z\",\"level\":\"info\",\"n\":17,\"f\":0.1234567890123456789,\
                \"nest\":{\"list\":[1,true,null],\"s\":\"q\"},\"message\":\"some \\\"text\\\" of a us\\u00fcal length\"}\n";
    let folder = support::folder();
    let parser = "[PARSER]\n    name j\n    format json\n    time_key time\n    time_format %Y-%m-%dT%H:%M:%S.%L\n";
    let sections = &with_parsers(&folder, parser);
    let tail = Tail { text, keys: "    parser j\n", sections, ..LINE };
    tail.assert_flat([20_000, 120_000]);
}

#[test]
fn a_regex_parser_allocates_nothing_per_line() {
    let text = "10.1.2.3 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a/b?c=d HTTP/1.1\" 200 2326 \"http://x/y\" \
                \"an agent/1.0\"\n";
    let stock = support::tests_path("golden/parsers/stock.conf");
    let sections = &format!("[SERVICE]\n    parsers_file {}\n", stock.display());
    let tail = Tail { text, event_bytes: 250, keys: "    parser apache2\n", sections, ..LINE };
    tail.assert_flat([5_000, 35_000]);
}

#[test]
fn joined_lines_allocate_nothing_per_record() {
    let cri = "2026-01-31T12:00:00.000000000Z stdout F a line\n2026-01-31T12:00:01.000000000Z stdout P a \n\
               2026-01-31T12:00:02.000000000Z stderr F other\n2026-01-31T12:00:03.000000000Z stdout F line\nodd\n";
    let docker = r#"{"log":"a ","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z"}
{"log":"line\n","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z"}
"#;
    for (parser, text, record_count) in [("cri", cri, 4), ("docker, cri", docker, 1)] {
        let keys = &format!("    offset_key at\n    multiline.parser {parser}\n");
        Tail { text, record_count, keys, ..LINE }.assert_flat([5_000, 45_000]);
    }
}

#[test]
fn filters_allocate_nothing_per_record() {
    let sections = "\
         [FILTER]\n    name modify\n    match *\n    condition key_exists log\n    set a b\n    rename a c\n    \
         copy c d\n    move_to_start d\n\
         [FILTER]\n    name record_modifier\n    match *\n    record host x\n    remove_key c\n    uuid_key id\n\
         [FILTER]\n    name nest\n    match *\n    operation nest\n    wildcard h*\n    nest_under in\n    \
         add_prefix p_\n\
         [FILTER]\n    name nest\n    match *\n    operation lift\n    nested_under in\n\
         [FILTER]\n    name lua\n    match *\n    call f\n    code function f(t, s, r) r.t = t return 2, s, {r, r} end\n\
         [FILTER]\n    name lua\n    match *\n    call f\n    code function f(t, s, r) return 1, s, r end\n\
         [FILTER]\n    name throttle\n    match *\n    rate 1000000\n";
    Tail { record_count: 2, sections, ..LINE }.assert_flat([20_000, 120_000]);
}

#[test]
fn grep_modify_and_record_modifier_allocate_nothing_per_record() {
    let sections = "\
         [FILTER]\n    name grep\n    match *\n    regex log HTTP/1\\.[01]\n    exclude log nothing\n\
         [FILTER]\n    name modify\n    match *\n    rename log message\n    add env prod\n\
         [FILTER]\n    name record_modifier\n    match *\n    record host x\n    remove_key env\n";
    Tail { sections, ..LINE }.assert_flat([10_000, 60_000]);
}

#[test]
fn the_parser_filter_allocates_nothing_per_record() {
    let fields: Vec<String> = (0..14).map(|number| format!("(?<f{number}>\\S+) ?")).collect();
    let regex = fields.concat();
    let folder = support::folder();
    let parser = format!(
        "[PARSER]\n    name r\n    format regex\n    regex ^{regex}(?<rest>.*)$\n    types f7:integer\n"
    );
    let service = with_parsers(&folder, &parser);
    let filter = "[FILTER]\n    name parser\n    match *\n    key_name log\n    parser r\n    reserve_data on\n    \
                  preserve_key on\n";
    let tail =
        Tail { event_bytes: 500, keys: "    path_key p\n", sections: &(service + filter), ..LINE };
    tail.assert_flat([10_000, 40_000]);
}

#[test]
fn the_multiline_filter_allocates_nothing_per_record() {
    let text = "java.lang.Error: one\n\tat a.A.a(A.java:1)\n\tat a.A.b(A.java:2)\nplain\n";
    for buffer in ["on", "off"] {
        let sections = &format!(
            "[FILTER]\n    name multiline\n    match *\n    multiline.parser go, java\n    multiline.key_content log\n    \
             buffer {buffer}\n[FILTER]\n    name modify\n    match *\n    set a b\n"
        );
        Tail { text, record_count: 4, sections, ..LINE }.assert_flat([5_000, 20_000]);
    }
}

#[test]
fn forward_to_null_allocates_nothing_per_event() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let events: Vec<u8> = (0..1000)
        .flat_map(|_| support::events::legacy_event(1_700_000_000, &"x".repeat(100)))
        .collect();
    let frame = rmpv::Value::Array(vec!["app".into(), rmpv::Value::Binary(events)]);
    let frame = support::events::bytes_of(&frame);
    let measure = |frames: u64| {
        // The port is free at this moment, and nobody else takes ports here.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "[INPUT]\n    name forward\n    listen 127.0.0.1\n    port {port}\n[OUTPUT]\n    name null\n"
        );
        let load = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            (0..frames).for_each(|_| stream.write_all(&frame).unwrap());
            stream.shutdown(Shutdown::Write).unwrap();
            // The other side closes when it has read everything.
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
        };
        run(&config, 1000 * frames, End::Load(&load))
    };
    measure(1);
    let (few, many) = (measure(100), measure(600));
    assert_flat(few, many, 500_000, 130);
}
