//! A server of the forward protocol under the control of a test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// What the server does after a frame.
pub enum Answer {
    /// Sends this, which may be nothing.
    Send(Vec<u8>),
    /// Sends this and closes the connection.
    SendAndClose(Vec<u8>),
}

/// A listening server; each connection has a thread of its own.
pub struct Peer {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Peer {
    /// Starts it. `take` is called for each whole frame with the number of its connection; it may block.
    pub fn start(take: impl Fn(usize, &[u8]) -> Answer + Send + Sync + 'static) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, take) = (Arc::clone(&connections), Arc::new(take));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let take = Arc::clone(&take);
                std::thread::spawn(move || serve(stream, |frame| take(number, frame)));
            }
        });
        Peer { address, connections }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, take: impl Fn(&[u8]) -> Answer) {
    let mut buffer = Vec::new();
    let mut space = vec![0; 256 * 1024];
    let mut walk = Walk::default();
    loop {
        if let Some(length) = walk.end(&buffer) {
            let (answer, is_last) = match take(&buffer[..length]) {
                Answer::Send(bytes) => (bytes, false),
                Answer::SendAndClose(bytes) => (bytes, true),
            };
            if stream.write_all(&answer).is_err() || is_last {
                return;
            }
            buffer.drain(..length);
            walk = Walk::default();
            continue;
        }
        match stream.read(&mut space) {
            Ok(0) | Err(_) => return,
            Ok(count) => buffer.extend_from_slice(&space[..count]),
        }
    }
}

/// Finds the end of a msgpack value while it arrives; written apart from the program's own.
struct Walk {
    at: usize,
    left: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Walk { at: 0, left: 1 }
    }
}

impl Walk {
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        while self.left > 0 {
            let rest = bytes.get(self.at..)?;
            let uint = |width: usize| {
                let digits = rest.get(1..1 + width)?;
                Some(digits.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
            };
            let (length, more) = match *rest.first()? {
                0x80..=0x8f => (1, u64::from(rest[0] & 15) * 2),
                0x90..=0x9f => (1, u64::from(rest[0] & 15)),
                0xa0..=0xbf => (1 + u64::from(rest[0] & 31), 0),
                0xc4 | 0xd9 => (2 + uint(1)?, 0),
                0xc5 | 0xda => (3 + uint(2)?, 0),
                0xc6 | 0xdb => (5 + uint(4)?, 0),
                0xc7 => (3 + uint(1)?, 0),
                0xcc | 0xd0 => (2, 0),
                0xcd | 0xd1 => (3, 0),
                0xca | 0xce | 0xd2 => (5, 0),
                0xcb | 0xcf | 0xd3 => (9, 0),
                0xd4 => (3, 0),
                0xd7 => (10, 0),
                0xdc => (3, uint(2)?),
                0xdd => (5, uint(4)?),
                0xde => (3, uint(2)? * 2),
                0xdf => (5, uint(4)? * 2),
                0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (1, 0),
                other => panic!("{other:#x} in a frame"),
            };
            if rest.len() < length as usize {
                return None;
            }
            self.at += length as usize;
            self.left = self.left - 1 + more;
        }
        Some(self.at)
    }
}

/// The parts of a frame with entries: tag, entries, how many. The entries are not looked at.
pub fn parts(frame: &[u8]) -> (String, &[u8], usize) {
    let mut walk = Walk { at: 1, left: 1 };
    let tag_end = walk.end(frame).expect("a whole frame");
    let tag = rmpv::decode::read_value(&mut &frame[1..tag_end]).expect("a tag");
    let rest = &frame[tag_end..];
    let (count, head) = match rest[0] {
        0x90..=0x9f => (usize::from(rest[0] & 15), 1),
        0xdc => (usize::from(u16::from_be_bytes([rest[1], rest[2]])), 3),
        0xdd => (u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]) as usize, 5),
        other => panic!("{other:#x} begins no array of entries"),
    };
    let mut walk = Walk { at: head, left: count as u64 };
    let end = walk.end(rest).expect("a whole frame");
    (tag.as_str().expect("a text").to_owned(), &rest[head..end], count)
}

/// The ack of a frame whose options name a chunk in the program's own form; empty without.
pub fn ack_of(frame: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = b"\xa5chunk\xb8";
    let Some(at) = frame.windows(KEY.len()).rposition(|window| window == KEY) else {
        return Vec::new();
    };
    let mut ack = b"\x81\xa3ack\xb8".to_vec();
    ack.extend_from_slice(&frame[at + KEY.len()..at + KEY.len() + 24]);
    ack
}

/// A door that threads wait at until a test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Opens it for good.
    pub fn open(&self) {
        *self.0.0.lock().expect("no test thread panics here") = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open.
    pub fn wait(&self) {
        let mut is_open = self.0.0.lock().expect("no test thread panics here");
        while !*is_open {
            is_open = self.0.1.wait(is_open).expect("no test thread panics here");
        }
    }
}
