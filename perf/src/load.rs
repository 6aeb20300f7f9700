//! The bytes: files of log lines, JSON records and forward frames, the same in every run.
//!
//! Frames are encoded before the clock starts and sent over and over, so that the generator costs the machine
//! little beside the program under test.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::lines::{LineKind, Numbers, plain, short_object};
use crate::scenarios::Protocol;

/// Writes so many MB of lines and returns bytes and records.
///
/// # Errors
/// When the file cannot be written.
pub fn lines_file(path: &Path, kind: LineKind, megabytes: usize) -> Result<(u64, u64), String> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    let (mut random, mut buffer) = (Numbers::new(), Vec::new());
    let (mut bytes, mut count) = (0, 0);
    while bytes < megabytes as u64 * 1_000_000 {
        buffer.clear();
        kind.put(count, &mut random, &mut buffer);
        file.write_all(&buffer).map_err(failed)?;
        bytes += buffer.len() as u64;
        count += 1;
    }
    file.flush().map_err(failed)?;
    Ok((bytes, count))
}

/// One unit that is sent again and again, and the records in it.
pub struct Unit {
    /// What goes over the wire.
    pub bytes: Vec<u8>,
    /// Records in it.
    pub records: u64,
}

/// The unit of a protocol.
pub fn unit(protocol: Protocol) -> Unit {
    let mut random = Numbers::new();
    let (mut bytes, records) = (Vec::new(), 4096);
    match protocol {
        Protocol::TcpJson => {
            (0..records).for_each(|number| short_object(number, &mut random, &mut bytes));
        }
        Protocol::Forward => {
            let mut entries = Vec::new();
            (0..records).for_each(|number| event(number, &mut random, &mut entries));
            put_array(&mut bytes, 2);
            put_str(&mut bytes, b"app");
            // Writing to a vector cannot fail.
            let _ = rmp::encode::write_bin(&mut bytes, &entries);
        }
    }
    Unit { bytes, records }
}

/// `[[time, {}], {"log": .., "stream": .., "time": ..}]`, some 210 bytes.
fn event(number: u64, random: &mut Numbers, out: &mut Vec<u8>) {
    put_array(out, 2);
    put_array(out, 2);
    let _ = rmp::encode::write_ext_meta(out, 8, 0);
    out.extend_from_slice(&(1_700_000_000_u64 << 32 | number).to_be_bytes());
    let _ = rmp::encode::write_map_len(out, 0);
    let _ = rmp::encode::write_map_len(out, 3);
    let mut text = Vec::new();
    plain(number, random, &mut text);
    text.pop();
    put_str(out, b"log");
    put_str(out, &text);
    put_str(out, b"stream");
    put_str(out, b"stdout");
    put_str(out, b"time");
    put_str(out, b"2026-10-10T13:55:00.000000000Z");
}

fn put_array(out: &mut Vec<u8>, length: u32) {
    let _ = rmp::encode::write_array_len(out, length);
}

fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    let _ = rmp::encode::write_str_len(out, text.len() as u32);
    out.extend_from_slice(text);
}

/// Sends so many MB over some connections, and waits until the other side has read all of it.
///
/// # Errors
/// When a connection fails.
pub fn send(
    protocol: Protocol,
    address: SocketAddr,
    megabytes: usize,
    connections: usize,
) -> Result<(), String> {
    send_units(&unit(protocol), address, megabytes, connections).map(drop)
}

/// As [`send`]; returns bytes and records.
///
/// # Errors
/// When a connection fails.
pub fn send_units(
    unit: &Unit,
    address: SocketAddr,
    megabytes: usize,
    connections: usize,
) -> Result<(u64, u64), String> {
    let rounds = (megabytes * 1_000_000).div_ceil(unit.bytes.len()).max(1);
    let shares = (0..connections)
        .map(|index| rounds / connections + usize::from(index < rounds % connections));
    std::thread::scope(|scope| {
        let senders: Vec<_> =
            shares.map(|rounds| scope.spawn(move || send_one(unit, address, rounds))).collect();
        senders.into_iter().try_for_each(|sender| match sender.join() {
            Ok(result) => result.map_err(|error| format!("cannot send to {address}: {error}")),
            Err(_) => Err("a sender panicked".to_owned()),
        })
    })?;
    Ok((rounds as u64 * unit.bytes.len() as u64, rounds as u64 * unit.records))
}

fn send_one(unit: &Unit, address: SocketAddr, rounds: usize) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    for _ in 0..rounds {
        stream.write_all(&unit.bytes)?;
    }
    // The other side closes when it has read to the end: then nothing is on the way any more.
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}

/// Connects as soon as somebody listens.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut tries = 0;
    loop {
        match TcpStream::connect(address) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused && tries < 1000 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}
