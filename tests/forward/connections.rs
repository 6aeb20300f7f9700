//! Both ends against each other: handshakes, kept connections, and acks that are wrong or do not come.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::frames::{Client, PackedFrame};
use crate::support::peer::{Answer, Peer, ack_of};
use crate::support::{Dataplane, Run, folder};

/// A forward input that prints; `keys` are further lines of its section.
fn printing(keys: &str) -> Run {
    Dataplane::with_config(&format!(
        "[SERVICE]\n    flush 0.1\n[INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n{keys}\
         [OUTPUT]\n    name stdout\n    match *\n"
    ))
    .started()
}

/// Three events to a forward output; `keys` are further lines of its section.
fn sending(keys: &str) -> Run {
    Dataplane::with_config(&format!(
        "[SERVICE]\n    flush 0.1\n    grace 10\n    scheduler.base 1\n    scheduler.cap 1\n\
         [INPUT]\n    name dummy\n    tag app\n    dummy {{\"k\":\"v\"}}\n    samples 1\n    copies 3\n\
         [OUTPUT]\n    name forward\n    match *\n{keys}"
    ))
    .started()
}

#[test]
fn keys_users_and_sockets_connect_the_two_ends() {
    let folder = folder();
    let socket = folder.path().join("forward.sock");
    let unix = format!("    unix_path {}\n", socket.display());
    let key = "    shared_key secret\n";
    let users = "    security.users ann first\n    security.users bob second\n";
    let bob = "    username bob\n    password second\n    self_hostname client\n";
    let empty = "    empty_shared_key on\n";
    let cases = [
        ("", key.to_owned(), format!("{key}    compress gzip\n")),
        ("", format!("{key}{users}"), format!("{key}{bob}    require_ack_response on\n")),
        ("", format!("{empty}{users}"), format!("{empty}{bob}    time_as_integer on\n")),
        (&unix, format!("{key}{users}"), format!("{key}{bob}")),
    ];
    for (place, input, output) in cases {
        let receiver = printing(&format!("{place}{input}"));
        let port = match place.is_empty() {
            // The name stands for an IPv6 address too, where nobody listens.
            true => {
                format!("    host localhost\n    port {}\n", receiver.address("forward.0").port())
            }
            false => String::new(),
        };
        let sender = sending(&format!("{place}{port}{output}"));
        let text = receiver.wait_for_stdout(|text| text.lines().count() == 3);
        assert!(text.lines().all(|line| line.ends_with("{\"k\"=>\"v\"}]")), "{output}: {text}");
        let law = sender.stop().law();
        assert_eq!((law.delivered, law.dropped), (3, 0), "{output}: {}", law.line);
        assert_eq!(receiver.stop().law().delivered, 3);
    }
    assert!(!socket.exists(), "the socket is gone after the end");
}

#[test]
fn who_has_another_key_or_password_is_told_so_and_delivers_nothing() {
    let receiver = printing("    shared_key secret\n    security.users ann first\n");
    let port =
        format!("    retry_limit no_retries\n    port {}\n", receiver.address("forward.0").port());
    let cases = [
        ("    shared_key other\n", "no handshake: the peer has closed the connection"),
        (
            "    shared_key secret\n    username ann\n    password wrong\n",
            "no handshake: the peer refuses: username/password mismatch",
        ),
    ];
    for (output, said) in cases {
        let sender = sending(&format!("{port}{output}"));
        sender.wait_for_log(said);
        let law = sender.stop().law();
        assert_eq!((law.delivered, law.dropped), (0, 3), "{}", law.line);
    }
    receiver.wait_for_log("connection closed: client `localhost` has another `shared_key`");
    receiver.wait_for_log(
        "connection closed: user `ann` of client `localhost` is unknown or has another password",
    );
    assert_eq!(receiver.stop().law().came_in, 0);
}

/// A pair of inputs and outputs in which each frame of a client becomes one flush.
struct Relay {
    run: Run,
    client: Client,
    peer: Peer,
    arrived: Receiver<usize>,
    sent: u32,
}

impl Relay {
    /// `answer` is given how many frames came before, and the frame.
    fn start(keys: &str, answer: impl Fn(usize, &[u8]) -> Answer + Send + Sync + 'static) -> Relay {
        let (sender, arrived) = channel();
        let (sender, before) = (Mutex::new(sender), AtomicUsize::new(0));
        let peer = Peer::start(move |connection, frame| {
            let _ = sender.lock().expect("no test thread panics here").send(connection);
            answer(before.fetch_add(1, Ordering::SeqCst), frame)
        });
        let run = Dataplane::with_config(&format!(
            "[SERVICE]\n    flush 0.1\n    grace 10\n    scheduler.base 1\n    scheduler.cap 1\n\
             [INPUT]\n    name forward\n    listen 127.0.0.1\n    port 0\n\
             [OUTPUT]\n    name forward\n    match *\n    port {}\n{keys}",
            peer.address.port()
        ))
        .started();
        let client = Client::connect(run.address("forward.0"));
        Relay { run, client, peer, arrived, sent: 0 }
    }

    /// Sends one frame and waits until the peer has it; returns the number of its connection.
    fn pass(&mut self) -> usize {
        let mut frame = PackedFrame::new("relay", 2, 10);
        self.client.send(frame.numbered(0, self.sent));
        self.sent += 1;
        self.arrive()
    }

    fn arrive(&self) -> usize {
        self.arrived.recv_timeout(Duration::from_secs(60)).expect("a frame at the peer")
    }

    /// Stops it; everything was delivered. Returns the log.
    fn end(self) -> String {
        let ended = self.run.stop();
        let law = ended.law();
        assert_eq!(law.delivered, u64::from(self.sent) * 2, "{}", law.line);
        ended.log
    }
}

#[test]
fn connections_are_kept_as_long_as_the_configuration_says() {
    let cases: [(&str, &[usize]); 3] = [
        ("", &[0, 0, 0, 0, 0]),
        ("    net.keepalive off\n", &[0, 1, 2, 3, 4]),
        ("    net.keepalive_max_recycle 2\n", &[0, 0, 0, 1, 1]),
    ];
    for (keys, expected) in cases {
        let keys = format!("{keys}    require_ack_response on\n");
        let mut relay = Relay::start(&keys, |_, frame| Answer::Send(ack_of(frame)));
        let used: Vec<usize> = (0..5).map(|_| relay.pass()).collect();
        assert_eq!(used, expected, "{keys}");
        assert_eq!(relay.peer.connections(), expected[4] + 1);
        relay.end();
    }
}

#[test]
fn a_connection_that_the_peer_closes_between_flushes_costs_no_retry() {
    let keys = "    require_ack_response on\n    retry_limit no_retries\n";
    let mut relay = Relay::start(keys, |_, frame| Answer::SendAndClose(ack_of(frame)));
    let used: Vec<usize> = (0..4).map(|_| relay.pass()).collect();
    assert_eq!(used, [0, 1, 2, 3]);
    let log = relay.end();
    assert!(!log.contains("failed to flush") && !log.contains("[error]"), "{log}");
}

/// What the peer answers to the first frame.
type FirstAnswer = fn(&[u8]) -> Answer;

#[test]
fn a_wrong_ack_or_none_is_tried_again_on_another_connection() {
    let cases: [(FirstAnswer, &str); 5] = [
        (|_| Answer::Send(b"\x81\xa3ack\xa5wrong".to_vec()), "the ack is for `wrong`, not for `"),
        (|_| Answer::Send(Vec::new()), "no ack came in time"),
        (|_| Answer::Send(b"HTTP/1.1 400\r\n\r\n".to_vec()), "expected an ack"),
        (|_| Answer::SendAndClose(b"\x81\xa3ack".to_vec()), "the peer has closed the connection"),
        (
            |frame| Answer::Send([&ack_of(frame)[..], b"\xc0"].concat()),
            "the peer says more than it was asked",
        ),
    ];
    // Each waits for a timeout or a retry: side by side they take the time of one.
    std::thread::scope(|scope| {
        for (first, said) in cases {
            scope.spawn(move || assert_tried_again(first, said));
        }
    });
}

fn assert_tried_again(first: FirstAnswer, said: &str) {
    let keys = "    require_ack_response on\n    net.io_timeout 1s\n";
    let mut relay = Relay::start(keys, move |before, frame| match before {
        0 => first(frame),
        _ => Answer::Send(ack_of(frame)),
    });
    assert_eq!(relay.pass(), 0);
    assert_eq!(relay.arrive(), 1, "{said}");
    relay.run.wait_for_log("succeeded at retry 1");
    let log = relay.end();
    let line = log.lines().find(|line| line.contains(said));
    let is_error = line.is_some_and(|line| line.contains("[error] [output:forward:forward.0]"));
    assert!(is_error, "{log}");
    assert_eq!(log.matches("failed to flush chunk").count(), 1, "{log}");
}

#[test]
fn a_peer_that_is_not_there_yet_gets_everything_once_it_is() {
    let folder = folder();
    let socket = folder.path().join("late.sock");
    let unix = format!("    unix_path {}\n", socket.display());
    let sender = sending(&format!("{unix}    retry_limit no_limits\n"));
    sender.wait_for_log("cannot connect to");
    let receiver = printing(&unix);
    receiver.wait_for_stdout(|text| text.lines().count() == 3);
    assert_eq!(sender.stop().law().delivered, 3);
    receiver.stop();
}

#[test]
fn a_name_without_an_address_is_said_and_tried_again() {
    let sender = sending("    host nowhere.invalid\n");
    let line = sender.wait_for_log("cannot connect to nowhere.invalid:24224: ");
    assert!(line.contains("[error] [output:forward:forward.0]"), "{line}");
    sender.wait_for_log("failed to flush chunk");
    let law = sender.stop().law();
    assert_eq!((law.delivered, law.dropped), (0, 3), "{}", law.line);
}

#[test]
fn a_peer_that_never_acks_does_not_keep_the_process_from_ending() {
    let (arrive, arrived) = channel();
    let arrive = Mutex::new(arrive);
    let peer = Peer::start(move |_, _| {
        let _ = arrive.lock().expect("no test thread panics here").send(());
        Answer::Send(Vec::new())
    });
    let sender = Dataplane::with_config(&format!(
        "[SERVICE]\n    flush 0.1\n    grace 1\n\
         [INPUT]\n    name dummy\n    samples 1\n    copies 3\n\
         [OUTPUT]\n    name forward\n    match *\n    require_ack_response on\n    port {}\n",
        peer.address.port()
    ))
    .started();
    arrived.recv_timeout(Duration::from_secs(60)).expect("a frame at the peer");
    let law = sender.stop().law();
    assert_eq!((law.delivered, law.dropped, law.left), (0, 0, 3), "{}", law.line);
}
