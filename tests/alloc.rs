//! Steady state allocates nothing per record: the whole engine runs in this process under a counting allocator.
//!
//! Each path runs twice, with few and with many records. What the second run allocates more may grow with the
//! chunks it made, never with its records.

#![allow(clippy::unwrap_used, reason = "a failure of any step fails the test")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};

use config::{Document, Problems, ServiceSettings};
use dataplane::lane::host::PluginHost;
use dataplane::limits::CHUNK_BYTES_FULL;
use dataplane::log::Log;
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

/// Allocations a chunk may cost on its way: its shared block, a task, a boxed future, a growing queue.
const PER_CHUNK: u64 = 8;

/// Runs a configuration on one shard until it ends, or until `load` returns. Returns the allocations.
fn run(config: &str, load: impl FnOnce()) -> u64 {
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
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let order = orders.clone();
        let running = scope.spawn(move || {
            let started = || has_started.send(()).unwrap();
            supervisor::run(pipeline, &host, &Log::discard(), &queue, &order, started).unwrap()
        });
        started.recv().unwrap();
        load();
        // An input that ended the process by itself has been quicker.
        let _ = orders.send(Order::InputEnded);
        assert_eq!(running.join().unwrap().exit_status, 0);
    });
    ALLOCATIONS.load(Ordering::Relaxed) - before
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

fn write_lines(path: &Path, count: u64) {
    let line = "2026-01-31T12:00:00.000000000Z stdout F GET /index.html HTTP/1.1 200 and some more of a line\n";
    std::fs::write(path, line.repeat(count as usize)).unwrap();
}

#[test]
fn tail_to_null_allocates_nothing_per_line() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = support::folder();
    let path = folder.path().join("lines.log");
    let measure = |count| {
        write_lines(&path, count);
        let config = format!(
            "[INPUT]\n    name tail\n    path {}\n    read_from_head on\n    exit_on_eof on\n[OUTPUT]\n    name null\n",
            path.display()
        );
        run(&config, || {})
    };
    measure(1_000);
    let (few, many) = (measure(100_000), measure(600_000));
    assert_flat(few, many, 500_000, 130);
}

#[test]
fn joined_lines_allocate_nothing_per_record() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = support::folder();
    let path = folder.path().join("lines.log");
    let cri = "2026-01-31T12:00:00.000000000Z stdout F a line\n2026-01-31T12:00:01.000000000Z stdout P a \n\
               2026-01-31T12:00:02.000000000Z stderr F other\n2026-01-31T12:00:03.000000000Z stdout F line\nodd\n";
    let docker = r#"{"log":"a ","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z"}
{"log":"line\n","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z"}
"#;
    for (parser, text) in [("cri", cri), ("docker, cri", docker)] {
        let measure = |count| {
            std::fs::write(&path, text.repeat(count)).unwrap();
            let config = format!(
                "[INPUT]\n    name tail\n    path {}\n    read_from_head on\n    exit_on_eof on\n    \
                 offset_key at\n    multiline.parser {parser}\n[OUTPUT]\n    name null\n",
                path.display()
            );
            run(&config, || {})
        };
        measure(1_000);
        let (few, many) = (measure(5_000), measure(45_000));
        assert_flat(few, many, 40_000, 400);
    }
}

#[test]
fn filters_allocate_nothing_per_record() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = support::folder();
    let path = folder.path().join("lines.log");
    let measure = |count| {
        write_lines(&path, count);
        let config = format!(
            "[INPUT]\n    name tail\n    tag a\n    path {}\n    read_from_head on\n    exit_on_eof on\n\
             [FILTER]\n    name modify\n    match *\n    condition key_exists log\n    set a b\n    rename a c\n    \
             copy c d\n    move_to_start d\n\
             [FILTER]\n    name record_modifier\n    match *\n    record host x\n    remove_key c\n    uuid_key id\n\
             [FILTER]\n    name nest\n    match *\n    operation nest\n    wildcard h*\n    nest_under in\n    \
             add_prefix p_\n\
             [FILTER]\n    name nest\n    match *\n    operation lift\n    nested_under in\n\
             [FILTER]\n    name lua\n    match *\n    call f\n    code function f(t, s, r) r.t = t return 2, s, {{r, r}} \
             end\n\
             [FILTER]\n    name lua\n    match *\n    call f\n    code function f(t, s, r) return 1, s, r end\n\
             [FILTER]\n    name throttle\n    match *\n    rate 1000000\n\
             [OUTPUT]\n    name null\n    match *\n",
            path.display()
        );
        run(&config, || {})
    };
    measure(1_000);
    let (few, many) = (measure(20_000), measure(120_000));
    assert_flat(few, many, 100_000, 400);
}

#[test]
fn the_parser_filter_allocates_nothing_per_record() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = support::folder();
    let path = folder.path().join("lines.log");
    let parsers = folder.path().join("parsers");
    let fields: Vec<String> = (0..14).map(|number| format!("(?<f{number}>\\S+) ?")).collect();
    let regex = fields.concat();
    let text = format!(
        "[PARSER]\n    name r\n    format regex\n    regex ^{regex}(?<rest>.*)$\n    types f7:integer\n"
    );
    std::fs::write(&parsers, text).unwrap();
    let measure = |count| {
        write_lines(&path, count);
        let config = format!(
            "[SERVICE]\n    parsers_file {}\n[INPUT]\n    name tail\n    tag a\n    path {}\n    read_from_head on\n    \
             exit_on_eof on\n    path_key p\n\
             [FILTER]\n    name parser\n    match *\n    key_name log\n    parser r\n    reserve_data on\n    preserve_key on\n\
             [OUTPUT]\n    name null\n    match *\n",
            parsers.display(),
            path.display()
        );
        run(&config, || {})
    };
    measure(1_000);
    let (few, many) = (measure(10_000), measure(40_000));
    assert_flat(few, many, 30_000, 500);
}

#[test]
fn the_multiline_filter_allocates_nothing_per_record() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = support::folder();
    let path = folder.path().join("lines.log");
    for buffer in ["on", "off"] {
        let measure = |count: usize| {
            let trace = "java.lang.Error: one\n\tat a.A.a(A.java:1)\n\tat a.A.b(A.java:2)\nplain\n";
            std::fs::write(&path, trace.repeat(count)).unwrap();
            let config = format!(
                "[INPUT]\n    name tail\n    tag a\n    path {}\n    read_from_head on\n    exit_on_eof on\n\
                 [FILTER]\n    name multiline\n    match *\n    multiline.parser go, java\n    \
                 multiline.key_content log\n    buffer {buffer}\n\
                 [FILTER]\n    name modify\n    match *\n    set a b\n[OUTPUT]\n    name null\n    match *\n",
                path.display()
            );
            run(&config, || {})
        };
        measure(1_000);
        let (few, many) = (measure(5_000), measure(20_000));
        assert_flat(few, many, 60_000, 100);
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
        run(&config, || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            (0..frames).for_each(|_| stream.write_all(&frame).unwrap());
            stream.shutdown(Shutdown::Write).unwrap();
            // The other side closes when it has read everything.
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
        })
    };
    measure(1);
    let (few, many) = (measure(100), measure(600));
    assert_flat(few, many, 500_000, 130);
}
