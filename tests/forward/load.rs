//! Load and overload: exact counts, bounds on memory, and senders that are held back and lose nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::support::frames::{Client, PackedFrame, numbers, send_acked};
use crate::support::peer::{Answer, Gate, Peer, ack_of, parts};
use crate::support::{Dataplane, Run, wait_until};

/// Counts how often each number arrived.
struct Arrivals {
    counts: Vec<AtomicU8>,
    total: AtomicU64,
    text_bytes: usize,
}

impl Arrivals {
    fn new(count: u32, text_bytes: usize) -> Arc<Arrivals> {
        let counts = (0..count).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Arrivals { counts, total: AtomicU64::new(0), text_bytes })
    }

    /// Takes the entries of a frame.
    fn take(&self, frame: &[u8]) {
        let (_, entries, count) = parts(frame);
        let mut taken = 0;
        for number in numbers(entries, self.text_bytes) {
            self.counts[number as usize].fetch_add(1, Ordering::Relaxed);
            taken += 1;
        }
        assert_eq!(taken, count);
        self.total.fetch_add(taken as u64, Ordering::Release);
    }

    fn wait_for_all(&self) {
        let all = self.counts.len() as u64;
        wait_until("all events arrive", || self.total.load(Ordering::Acquire) >= all);
        let is_once = self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 1);
        assert!(is_once, "lost or doubled");
    }
}

fn pair(service: &str, input: &str, port: u16, output: &str) -> Run {
    Dataplane::with_config(&format!(
        "[SERVICE]\n    shards 2\n    flush 0.2\n{service}\
         [INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n{input}\
         [OUTPUT]\n    name forward\n    match *\n    port {port}\n{output}"
    ))
    .started()
}

#[test]
fn two_million_events_in_packed_frames_are_acked_and_delivered_once() {
    const EVENTS: u32 = 2_000_000;
    const CONNECTIONS: u32 = 4;
    const EACH_FRAME: u32 = 5_000;
    const TEXT: usize = 20;
    let arrivals = Arrivals::new(EVENTS, TEXT);
    let taking = Arc::clone(&arrivals);
    let peer = Peer::start(move |_, frame| {
        taking.take(frame);
        Answer::Send(ack_of(frame))
    });
    let run = pair("", "", peer.address.port(), "    require_ack_response on\n");
    let address = run.address("forward.0");
    let share = EVENTS / CONNECTIONS;
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            thread::spawn(move || {
                let mut frame = PackedFrame::new("load", EACH_FRAME as usize, TEXT);
                send_acked(address, &mut frame, index * share, share / EACH_FRAME)
            })
        })
        .collect();
    let acked: u32 = senders.into_iter().map(|sender| sender.join().expect("acked")).sum();
    assert_eq!(acked * EACH_FRAME, EVENTS);
    arrivals.wait_for_all();
    let law = run.stop().law();
    assert_eq!(
        (law.came_in, law.delivered),
        (u64::from(EVENTS), u64::from(EVENTS)),
        "{}",
        law.line
    );
}

/// Sends frames as fast as they are taken until the input has been silent for a second; then lets the
/// output answer, and everything must arrive on the connections there are.
fn assert_held_back(
    output: &str,
    take: impl Fn(&Arrivals, &Gate, &[u8]) -> Answer + Send + Sync + 'static,
) {
    const TEXT: usize = 1000;
    const EACH_FRAME: u32 = 500;
    const FRAMES: u32 = 60;
    const CONNECTIONS: u32 = 2;
    const MEM_BUF_LIMIT: u64 = 10_000_000;
    let arrivals = Arrivals::new(CONNECTIONS * FRAMES * EACH_FRAME, TEXT);
    let gate = Gate::default();
    let (taking, waiting) = (Arc::clone(&arrivals), gate.clone());
    let peer = Peer::start(move |_, frame| take(&taking, &waiting, frame));
    let input = "    mem_buf_limit 10M\n    buffer_max_size 2M\n";
    let run = pair("", input, peer.address.port(), output);
    let address = run.address("forward.0");
    let before = run.resident_bytes();
    let (standing, stand_still) = channel();
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|index| {
            let (gate, standing) = (gate.clone(), standing.clone());
            thread::spawn(move || {
                let mut frame = PackedFrame::new("load", EACH_FRAME as usize, TEXT);
                let mut client = Client::connect(address);
                let mut all = Vec::new();
                for number in 0..FRAMES {
                    let first = (index * FRAMES + number) * EACH_FRAME;
                    all.extend_from_slice(frame.numbered(first, number));
                }
                let sent = client.send_until_held_back(&all, Duration::from_secs(1));
                standing.send(all.len() - sent).expect("the test waits");
                gate.wait();
                // No connection was closed: the rest goes over it, and every frame is acked.
                client.send(&all[sent..]);
                for number in 0..FRAMES {
                    let expected = PackedFrame::ack(number);
                    assert_eq!(client.read(expected.len()), expected);
                }
            })
        })
        .collect();
    run.wait_for_log("paused (mem buf overlimit)");
    run.wait_for_log("because output forward.0 holds ");
    let wait = Duration::from_secs(60);
    let still = (0..CONNECTIONS).map(|_| stand_still.recv_timeout(wait).expect("held back"));
    let held_back: usize = still.sum();
    assert!(held_back > 10_000_000, "only {held_back} bytes were held back");
    let grown = run.resident_bytes_max() - before;
    // Each connection may have a buffer of `buffer_max_size`.
    let configured = MEM_BUF_LIMIT + u64::from(CONNECTIONS) * 2_000_000;
    assert!(grown < configured + 30_000_000, "{grown} bytes more than at start");
    gate.open();
    for sender in senders {
        sender.join().expect("everything was sent and acked");
    }
    arrivals.wait_for_all();
    run.wait_for_log("resume (mem buf overlimit)");
    let law = run.stop().law();
    assert_eq!((law.dropped, law.left), (0, 0), "{}", law.line);
}

#[test]
fn a_peer_that_never_acks_holds_the_sender_back_and_loses_nothing() {
    assert_held_back("    require_ack_response on\n", |arrivals, gate, frame| {
        gate.wait();
        arrivals.take(frame);
        Answer::Send(ack_of(frame))
    });
}

#[test]
fn a_peer_that_never_reads_holds_the_sender_back_and_loses_nothing() {
    assert_held_back("", |arrivals, gate, frame| {
        gate.wait();
        arrivals.take(frame);
        Answer::Send(Vec::new())
    });
}

#[test]
fn an_output_that_never_answers_stops_no_other_and_no_ack() {
    const EACH: u32 = 100;
    const FRAMES: u32 = 50;
    const TEXT: usize = 50;
    let arrivals = Arrivals::new(EACH * FRAMES, TEXT);
    let gate = Gate::default();
    let (taking, waiting) = (Arc::clone(&arrivals), gate.clone());
    let peer = Peer::start(move |_, frame| {
        waiting.wait();
        taking.take(frame);
        Answer::Send(ack_of(frame))
    });
    let other = "    require_ack_response on\n[OUTPUT]\n    name stdout\n    match *\n";
    let run = pair("", "", peer.address.port(), other);
    let mut frame = PackedFrame::new("load", EACH as usize, TEXT);
    assert_eq!(send_acked(run.address("forward.0"), &mut frame, 0, FRAMES), FRAMES);
    run.wait_for_stdout(|text| text.lines().count() == (EACH * FRAMES) as usize);
    assert_eq!(arrivals.total.load(Ordering::Acquire), 0);
    gate.open();
    arrivals.wait_for_all();
    let law = run.stop().law();
    assert_eq!(law.delivered, u64::from(EACH * FRAMES), "{}", law.line);
}

const TAGS: u32 = 10_000;

/// Sends one frame of so many events for each of the tags; returns the bytes of all entries, each acked.
fn send_tags(run: &Run, each: usize, text_bytes: usize) -> u64 {
    const CONNECTIONS: u32 = 4;
    let address = run.address("forward.0");
    let numbers = |part: u32| (part..TAGS).step_by(CONNECTIONS as usize);
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|part| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut bytes = 0;
                for number in numbers(part) {
                    let tag = format!("app.service-{number}.production");
                    let mut frame = PackedFrame::new(&tag, each, text_bytes);
                    client.send(frame.numbered(number * each as u32, number));
                    bytes += frame.entry_bytes() as u64;
                }
                for number in numbers(part) {
                    let expected = PackedFrame::ack(number);
                    assert_eq!(client.read(expected.len()), expected);
                }
                bytes
            })
        })
        .collect();
    senders.into_iter().map(|sender| sender.join().expect("acked")).sum()
}

/// The most memory that was resident, against the data.
fn assert_little_more_than(data: u64, run: &Run, before: u64) {
    let grown = run.resident_bytes_max() - before;
    assert!(grown >= data / 2, "{grown} bytes for {data} of data: it is not held");
    assert!(grown < data + 64_000_000, "{grown} bytes for {data} of data");
}

#[test]
fn ten_thousand_tags_in_open_chunks_cost_their_data_and_little_more() {
    // No tick comes while the tags arrive.
    let config = "[SERVICE]\n    shards 2\n    flush 600\n    grace 60\n\
                  [INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n\
                  [OUTPUT]\n    name null\n    match *\n";
    for (each, text_bytes) in [(1, 100), (4, 500), (9, 1000)] {
        let run = Dataplane::with_config(config).started();
        let before = run.resident_bytes();
        let data = send_tags(&run, each, text_bytes);
        assert_little_more_than(data, &run, before);
        let law = run.stop().law();
        assert_eq!(law.delivered, u64::from(TAGS) * each as u64, "{}", law.line);
    }
}

#[test]
fn ten_thousand_tags_that_an_output_does_not_take_cost_their_data_and_little_more() {
    const EACH: usize = 4;
    const TEXT: usize = 500;
    let arrivals = Arrivals::new(TAGS * EACH as u32, TEXT);
    let gate = Gate::default();
    let (taking, waiting) = (Arc::clone(&arrivals), gate.clone());
    let peer = Peer::start(move |_, frame| {
        waiting.wait();
        taking.take(frame);
        Answer::Send(ack_of(frame))
    });
    let run = pair("", "", peer.address.port(), "    require_ack_response on\n");
    let before = run.resident_bytes();
    let data = send_tags(&run, EACH, TEXT);
    assert_little_more_than(data, &run, before);
    gate.open();
    arrivals.wait_for_all();
    let law = run.stop().law();
    assert_eq!((law.dropped, law.left), (0, 0), "{}", law.line);
}
