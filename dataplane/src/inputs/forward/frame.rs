//! The parts of a frame: found while it arrives, each byte looked at once.
//!
//! A frame is a msgpack array: tag, then time and record, or entries, or packed entries, then options.
//! It is taken as a whole, so that a connection that breaks in the middle leaves nothing behind that the
//! sender would send again.

use crate::event::msgpack::{Head, map_entries, read_head};
use crate::kernel::msgpack_skip::{SkipError, Walk};

/// Members that mean something: tag, time, record, options.
const MEMBERS_MAX: usize = 4;

/// Finds where the members of the frame at the front of a buffer end.
#[derive(Debug, Default)]
pub(super) struct Scan {
    state: Option<Members>,
}

#[derive(Debug)]
struct Members {
    walk: Walk,
    count: usize,
    done: usize,
    start: usize,
    ends: [usize; MEMBERS_MAX],
}

/// What a look at the buffer brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scanned<'a> {
    /// The frame is whole; the next one may be scanned.
    Whole {
        /// Bytes of each member, at most four.
        members: Members4<'a>,
        /// Bytes of the frame.
        length: usize,
    },
    /// The frame needs so many bytes, or more.
    Needs(usize),
    /// This is no frame.
    Invalid(&'static str),
}

/// Up to four members; those that are missing are empty.
pub(super) type Members4<'a> = [&'a [u8]; MEMBERS_MAX];

impl Scan {
    /// Looks at `bytes`, which begin with those of the call before until a frame was whole.
    pub(super) fn resume<'a>(&mut self, bytes: &'a [u8]) -> Scanned<'a> {
        let members = match &mut self.state {
            Some(members) => members,
            None => match begin(bytes) {
                Ok(members) => self.state.insert(members),
                Err(scanned) => return scanned,
            },
        };
        while members.done < members.count {
            let end = match members.walk.resume(bytes) {
                Ok(end) => end,
                Err(SkipError::Invalid) => return Scanned::Invalid("bytes are not msgpack"),
                Err(SkipError::Incomplete) => {
                    let behind = members.count - members.done - 1;
                    let needed = members.walk.needed_bytes().saturating_add(behind as u64);
                    return Scanned::Needs(usize::try_from(needed).unwrap_or(usize::MAX));
                }
            };
            if let Some(slot) = members.ends.get_mut(members.done) {
                *slot = end;
            }
            members.done += 1;
            members.walk = Walk::from(end);
            if members.done == members.count {
                let parts = members.split(bytes);
                self.state = None;
                return Scanned::Whole { members: parts, length: end };
            }
        }
        Scanned::Invalid("a frame has two members at least")
    }
}

impl Members {
    fn split<'a>(&self, bytes: &'a [u8]) -> Members4<'a> {
        let mut start = self.start;
        std::array::from_fn(|index| {
            if index >= self.count {
                return &[][..];
            }
            let member = &bytes[start..self.ends[index]];
            start = self.ends[index];
            member
        })
    }
}

fn begin(bytes: &[u8]) -> Result<Members, Scanned<'static>> {
    let Some(first) = bytes.first() else { return Err(Scanned::Needs(1)) };
    let header_bytes = match first {
        0x90..=0x9f => 1,
        0xdc => 3,
        0xdd => 5,
        _ => return Err(Scanned::Invalid("a frame is an array, this is something else")),
    };
    if bytes.len() < header_bytes {
        return Err(Scanned::Needs(header_bytes));
    }
    match read_head(&mut &bytes[..]) {
        Some(Head::Array(count)) if count >= 2 => Ok(Members {
            walk: Walk::from(header_bytes),
            count,
            done: 0,
            start: header_bytes,
            ends: [0; MEMBERS_MAX],
        }),
        _ => Err(Scanned::Invalid("a frame has two members at least")),
    }
}

/// What a frame holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) tag: &'a [u8],
    pub(super) content: Content<'a>,
    pub(super) options: Option<Options<'a>>,
}

/// The events of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// One event, its time and its body as values.
    Message { time: &'a [u8], body: &'a [u8] },
    /// Entries, one after another; so many were announced.
    Entries { bytes: &'a [u8], count: usize },
    /// Entries, perhaps compressed.
    Packed { bytes: &'a [u8] },
}

/// The options that mean something here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options<'a> {
    /// The sender waits for an ack of this.
    pub(super) chunk: Option<&'a [u8]>,
    /// Events the sender says it has put in.
    pub(super) size: u64,
    pub(super) compressed: Option<&'a [u8]>,
    pub(super) signal: Signal,
    /// Metadata of a message, a map.
    pub(super) metadata: Option<&'a [u8]>,
}

/// What kind of telemetry a packed frame holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Signal {
    #[default]
    Logs,
    Metrics,
    Traces,
}

/// Makes sense of the members of a frame.
///
/// # Errors
/// When they do not make one; the text says why.
pub(super) fn parse(members: Members4<'_>) -> Result<Frame<'_>, &'static str> {
    let [mut tag, second, third, fourth] = members;
    let Some(Head::Str(tag) | Head::Bin(tag)) = read_head(&mut tag) else {
        return Err("the tag is no string");
    };
    let mut rest = second;
    let (content, options) = match read_head(&mut rest).ok_or("bytes are not msgpack")? {
        Head::Array(count) => (Content::Entries { bytes: rest, count }, third),
        // Options are looked for in frames of three members only, as Fluent Bit does.
        Head::Str(bytes) | Head::Bin(bytes) => {
            (Content::Packed { bytes }, if fourth.is_empty() { third } else { &[] })
        }
        Head::Uint(_) | Head::Ext(..) if !third.is_empty() => {
            (Content::Message { time: second, body: third }, fourth)
        }
        _ => return Err("the second member is neither a time nor entries"),
    };
    Ok(Frame { tag, content, options: parse_options(options)? })
}

fn parse_options(options: &[u8]) -> Result<Option<Options<'_>>, &'static str> {
    match read_head(&mut &options[..]) {
        None | Some(Head::Nil) => return Ok(None),
        Some(Head::Map(_)) => {}
        Some(_) => return Err("the options are no map"),
    }
    let mut read = Options::default();
    for (mut key, value) in map_entries(options) {
        let Some(Head::Str(key)) = read_head(&mut key) else { continue };
        let head = read_head(&mut &value[..]);
        match (key, head) {
            (b"chunk", Some(Head::Str(chunk))) => read.chunk = Some(chunk),
            (b"chunk", _) => return Err("the option `chunk` is no string"),
            (b"size", Some(Head::Uint(size))) => read.size = size,
            (b"compressed", Some(Head::Str(name))) => read.compressed = Some(name),
            (b"fluent_signal", Some(Head::Uint(0))) => read.signal = Signal::Logs,
            (b"fluent_signal", Some(Head::Uint(1))) => read.signal = Signal::Metrics,
            (b"fluent_signal", Some(Head::Uint(2))) => read.signal = Signal::Traces,
            (b"fluent_signal", _) => return Err("the option `fluent_signal` is not 0, 1 or 2"),
            (b"metadata", Some(Head::Map(_))) => read.metadata = Some(value),
            _ => {}
        }
    }
    Ok(Some(read))
}
