//! A sender of the forward protocol that costs next to nothing: a frame is encoded once, and for each
//! sending only the numbers of its events and its chunk id are written into it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::DEADLINE;

/// Bytes of an event before its text: header, map of two, `n` and its number, `text` and its length.
const EVENT_HEAD: usize = 13 + 1 + 2 + 5 + 5 + 3;
/// Where the number stands in an event.
const NUMBER_AT: usize = 13 + 1 + 2 + 1;
/// Bytes of a chunk id.
const ID_BYTES: usize = 8;

/// A packed frame of equal events, each with a number.
pub struct PackedFrame {
    bytes: Vec<u8>,
    entries_at: usize,
    event_count: usize,
    event_bytes: usize,
}

impl PackedFrame {
    /// So many events, each with so many bytes of text; `[[time, {}], {"n": number, "text": ...}]`.
    pub fn new(tag: &str, event_count: usize, text_bytes: usize) -> PackedFrame {
        let event = event(text_bytes);
        let mut bytes = vec![0x93, 0xd9, u8::try_from(tag.len()).expect("a short tag")];
        bytes.extend_from_slice(tag.as_bytes());
        bytes.push(0xc6);
        bytes.extend_from_slice(&((event.len() * event_count) as u32).to_be_bytes());
        let entries_at = bytes.len();
        bytes.extend_from_slice(&event.repeat(event_count));
        bytes.extend_from_slice(b"\x82\xa4size\xce");
        bytes.extend_from_slice(&(event_count as u32).to_be_bytes());
        bytes.extend_from_slice(b"\xa5chunk\xa8");
        bytes.extend_from_slice(&[b'0'; ID_BYTES]);
        PackedFrame { bytes, entries_at, event_count, event_bytes: event.len() }
    }

    /// The frame with events numbered from `first`, asking for an ack of `id`.
    pub fn numbered(&mut self, first: u32, id: u32) -> &[u8] {
        for index in 0..self.event_count {
            let at = self.entries_at + index * self.event_bytes + NUMBER_AT;
            self.bytes[at..at + 4].copy_from_slice(&(first + index as u32).to_be_bytes());
        }
        let id_at = self.bytes.len() - ID_BYTES;
        self.bytes[id_at..].copy_from_slice(format!("{id:0width$x}", width = ID_BYTES).as_bytes());
        &self.bytes
    }

    /// Bytes of its entries.
    pub fn entry_bytes(&self) -> usize {
        self.event_bytes * self.event_count
    }

    /// What acknowledges `id`.
    pub fn ack(id: u32) -> Vec<u8> {
        let mut bytes = b"\x81\xa3ack\xa8".to_vec();
        bytes.extend_from_slice(format!("{id:0width$x}", width = ID_BYTES).as_bytes());
        bytes
    }
}

/// One event as the frames have it, number 0.
fn event(text_bytes: usize) -> Vec<u8> {
    let mut event = vec![0x92, 0x92, 0xd7, 0];
    event.extend_from_slice(&1_700_000_000u32.to_be_bytes());
    event.extend_from_slice(&[0, 0, 0, 9, 0x80, 0x82, 0xa1, b'n', 0xce, 0, 0, 0, 0]);
    event.extend_from_slice(b"\xa4text\xda");
    event.extend_from_slice(&(text_bytes as u16).to_be_bytes());
    assert_eq!(event.len(), EVENT_HEAD);
    event.resize(EVENT_HEAD + text_bytes, b'x');
    event
}

/// The numbers of events that [`PackedFrame`] made, wherever they lie one after another.
pub fn numbers(entries: &[u8], text_bytes: usize) -> impl Iterator<Item = u32> {
    let events = entries.chunks_exact(EVENT_HEAD + text_bytes);
    assert!(events.remainder().is_empty(), "whole events");
    events.map(|event| {
        let number = &event[NUMBER_AT..NUMBER_AT + 4];
        u32::from_be_bytes(number.try_into().expect("four bytes"))
    })
}

/// A client's connection.
pub struct Client(pub TcpStream);

impl Client {
    /// Connects; reads fail after the deadline of tests.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the input listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        stream.set_nodelay(true).expect("a socket takes the option");
        Client(stream)
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the connection is open");
    }

    /// Reads so many bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).expect("an answer before the deadline");
        bytes
    }

    /// What comes until the input closes the connection.
    pub fn read_to_end(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end too: the input may close with bytes unread.
        let _ = self.0.read_to_end(&mut bytes);
        bytes
    }

    /// Sends as much as is taken within a silence of `patience`; returns how much that was.
    pub fn send_until_held_back(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.0.set_write_timeout(Some(patience)).expect("a deadline can be set");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.0.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        self.0.set_write_timeout(None).expect("a deadline can be taken back");
        sent
    }
}

/// Sends frames over one connection, each after the ack of the one before. Returns how many were acked.
pub fn send_acked(
    address: SocketAddr,
    frame: &mut PackedFrame,
    first: u32,
    frame_count: u32,
) -> u32 {
    let mut client = Client::connect(address);
    for index in 0..frame_count {
        let bytes = frame.numbered(first + index * frame.event_count as u32, index);
        client.send(bytes);
        let expected = PackedFrame::ack(index);
        assert_eq!(client.read(expected.len()), expected);
    }
    frame_count
}
