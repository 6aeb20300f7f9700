//! The input seam: sources the reactor drives, and the sink into which an input encodes events.
//!
//! An input does no I/O on sockets or timers: it is a framer that is handed bytes or a time and
//! appends events. So TLS, a second reactor and the simulation need nothing from it. File inputs
//! take turns of bounded work instead, because what they read depends on what they found.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::event::time::EventTime;
use crate::log::Log;

/// Where an instance runs.
#[derive(Clone)]
pub struct InputPlace {
    /// Index of the shard, from 0.
    pub shard: usize,
    /// Number of shards.
    pub shard_count: usize,
    /// Writes lines as `[input:tail:tail.0]`, at the level of the instance.
    pub log: Log,
}

/// One configured input: immutable, shared by all shards, able to start its part on each.
pub trait InputDefinition: Send + Sync {
    /// What to listen on. The supervisor opens these before the first shard starts, so that a
    /// refusal ends the start with its reason.
    fn listeners(&self) -> Vec<ListenAddress> {
        Vec::new()
    }

    /// Tag of events when neither the section nor the wire says one; `None` takes the instance name.
    fn default_tag(&self) -> Option<&str> {
        None
    }

    /// Starts this input on a shard. Inputs placed on one shard are started there alone.
    /// `tag` is the configured tag, else the instance name.
    ///
    /// # Errors
    /// A text that says what the operator must change; the start then fails.
    fn start(&self, place: &InputPlace, tag: &InputTag) -> Result<Source, String>;
}

/// The tag an instance was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputTag {
    /// The `tag` key, else the default of the plugin, else the name of the instance (`tcp.0`).
    pub text: Arc<str>,
    /// Whether the section said it.
    pub configured: bool,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Host name or address, and port.
    Tcp {
        /// `0.0.0.0`, `::`, a name...
        host: String,
        /// Port, 0 for any.
        port: u16,
        /// Whether to set SO_REUSEPORT (`net.share_port`).
        shared: Sharing,
    },
    /// Path of a unix stream socket and the permission bits it gets, if any.
    Unix {
        /// File system path.
        path: PathBuf,
        /// Octal permission bits.
        mode: Option<u32>,
    },
}

/// Whether another process may listen on the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// A second listener is refused.
    Exclusive,
    /// SO_REUSEPORT.
    Shared,
}

/// What the reactor has to drive for an input.
pub enum Source {
    /// Nothing to do on this shard.
    Idle,
    /// Called once at start and then at each interval.
    Timer(Duration, Box<dyn TimedInput>),
    /// Bytes of accepted connections; each gets a framer of its own.
    Connections(Box<dyn StreamInput>),
    /// Bytes of an inherited file descriptor (standard input), until its end.
    Descriptor(RawFd, Box<dyn Framer>),
    /// Turns of bounded work, as for files.
    Turns(Box<dyn TurnInput>),
}

/// An input that runs by the clock.
pub trait TimedInput {
    /// Appends what this tick brings.
    fn tick(&mut self, now: EventTime, sink: &mut dyn EventSink) -> Next;
}

/// What a source wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Goes on.
    Continue,
    /// Has ended; others go on.
    Ended,
    /// Has ended, and the whole process should drain and stop (`exit_on_eof`, end of standard input).
    StopProcess,
}

/// An input that accepts connections.
pub trait StreamInput {
    /// A framer for one more connection.
    fn connect(&self, peer: &Peer) -> Box<dyn Framer>;
}

/// Who is on the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and port, without brackets, as Fluent Bit writes them; `unix` for unix sockets.
    pub address: String,
}

/// The state of one connection: bytes in, events and replies out.
pub trait Framer {
    /// Appends what to send before the first byte arrives.
    fn greet(&mut self, _reply: &mut Vec<u8>) {}

    /// Takes what has arrived and is not yet consumed. Appends events to `sink`, answers to `reply`.
    ///
    /// # Errors
    /// When the connection must be closed; replies already appended are sent first.
    fn feed(
        &mut self,
        bytes: &[u8],
        now: EventTime,
        sink: &mut dyn EventSink,
        reply: &mut Vec<u8>,
    ) -> Result<Fed, CloseReason>;

    /// The peer has closed; `rest` is what was never consumed.
    fn finish(&mut self, _rest: &[u8], _now: EventTime, _sink: &mut dyn EventSink) -> Next {
        Next::Ended
    }

    /// Bytes the read buffer starts with.
    fn buffer_bytes_initial(&self) -> usize;

    /// Bytes the read buffer may grow to; a unit that needs more closes the connection, counted.
    fn buffer_bytes_max(&self) -> usize;
}

/// How far a framer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fed {
    /// Bytes consumed from the front.
    pub consumed: usize,
    /// Bytes the next unit needs in all, when that is known; 0 when not. Lets the buffer grow at once.
    pub needed: usize,
}

/// Why a framer gives up its connection. The text goes to the log, with the peer before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason(pub String);

/// An input that works in turns, such as `tail`.
pub trait TurnInput {
    /// Does a bounded amount of work (about half a millisecond, or one read of each ready file). While the sink
    /// is paused it reads nothing, but may open files that could be gone after the pause.
    fn turn(&mut self, now: EventTime, sink: &mut dyn EventSink) -> Turn;

    /// A descriptor that becomes readable when a sleeping input should take a turn (inotify).
    fn wake_descriptor(&self) -> Option<RawFd> {
        None
    }

    /// The process is stopping: no turn follows. Last chance to append what is half done.
    fn finish(&mut self, _now: EventTime, _sink: &mut dyn EventSink) {}
}

/// What to do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do at once.
    Again,
    /// Sleep so long, or until the wake descriptor is readable.
    Sleep(Duration),
    /// The input has ended.
    Ended,
    /// The input has ended and the process should drain and stop.
    StopProcess,
}

/// Where an input puts its events. Implemented by the shard, and by `Vec`-like sinks in tests.
///
/// Use: `open` a batch for a tag, append whole events to its bytes, `commit` with their number.
/// At most one batch is open; opening another without a commit forgets what was appended.
pub trait EventSink {
    /// The buffer into which events of `tag` go. At least `room_bytes` can be appended to it.
    fn open(&mut self, tag: &[u8], room_bytes: usize) -> OpenBatch<'_>;

    /// Says how many whole events were appended to the open batch.
    fn commit(&mut self, record_count: u32) -> Flow;

    /// Counts what an input had to give up.
    fn drop_records(&mut self, cause: DropCause, record_count: u64);

    /// Counts records that passed as they were because the parser of the input could not take them.
    fn count_unparsed(&mut self, _why: Unparsed, _record_count: u64) {}

    /// Counts records of several lines that met `multiline_buffer_limit`.
    fn count_truncated(&mut self, _record_count: u64) {}

    /// Whether this input may go on reading.
    fn flow(&self) -> Flow;
}

/// A buffer to append events to.
pub struct OpenBatch<'a> {
    /// Append at the end only; what is there already belongs to earlier batches.
    pub bytes: &'a mut Vec<u8>,
    /// Bytes that may be appended; never less than was asked for.
    pub room_bytes: usize,
}

/// Whether an input may read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Open,
    /// A memory limit is reached: finish the unit in hand, then stop reading until called again.
    Paused,
}

/// Why records of an input were given up. Every drop has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// Not decodable: broken JSON, broken msgpack, wrong shape.
    Malformed,
    /// Longer than a configured buffer or a bound.
    Oversized,
    /// Truncated or removed before it could be read, where the size is known.
    Vanished,
    /// Well-formed, of a kind that is not taken (metrics and traces).
    Unsupported,
}

/// Why a record passed unparsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// It is not of the parser's form.
    OtherForm,
    /// The search for its form was ended by the bound on runaways.
    CutOff,
}

impl Unparsed {
    /// Every reason, in the order of its index.
    pub const ALL: [Unparsed; 2] = [Unparsed::OtherForm, Unparsed::CutOff];

    /// Writes `; unparsed 3 (runaway expressions 1)`, or nothing where all were parsed.
    ///
    /// # Errors
    /// Those of the formatter.
    pub fn fmt_counts(counts: &[u64; 2], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match counts {
            [0, 0] => Ok(()),
            [other_form, 0] => write!(f, "; unparsed {other_form}"),
            [other_form, cut_off] => {
                write!(f, "; unparsed {} (runaway expressions {cut_off})", other_form + cut_off)
            }
        }
    }
}

impl DropCause {
    /// Every cause, in the order of its index.
    pub const ALL: [DropCause; 4] =
        [DropCause::Malformed, DropCause::Oversized, DropCause::Vanished, DropCause::Unsupported];

    /// The word used in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            DropCause::Malformed => "malformed",
            DropCause::Oversized => "oversized",
            DropCause::Vanished => "vanished",
            DropCause::Unsupported => "unsupported",
        }
    }
}
