//! Records of one stream on their way through multiline parsers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::event::record::Record;
use crate::event::time::{Clock, EventTime};
use crate::filters::multiline::Wait;
use crate::log::Log;
use crate::multiline::{Joiner, Length, Record as Part, RecordSink, Stream};
use crate::plugin::filter::{FilterStream, Given, Held, Verdict};

/// Time between two lines about records that met their limit.
const TRUNCATED_PAUSE_NS: u64 = 60_000_000_000;

/// What all streams of a shard share.
pub(super) struct Shared {
    joiner: RefCell<Joiner>,
    /// The body of a record that a filter before this one has changed.
    body: RefCell<Vec<u8>>,
    log: Log,
    truncated_said_ns: Cell<Option<u64>>,
}

impl Shared {
    pub(super) fn new(joiner: Joiner, log: Log) -> Rc<Shared> {
        let (joiner, body) = (RefCell::new(joiner), RefCell::default());
        Rc::new(Shared { joiner, body, log, truncated_said_ns: Cell::new(None) })
    }

    fn say_truncated(&self, clock: Clock) {
        let said = self.truncated_said_ns.get();
        if said.is_none_or(|said| clock.monotonic_ns - said >= TRUNCATED_PAUSE_NS) {
            self.truncated_said_ns.set(Some(clock.monotonic_ns));
            self.log.warn("multiline message truncated due to buffer limit");
        }
    }
}

/// What the joiner keeps of a stream.
pub(super) struct JoinedStream {
    shared: Rc<Shared>,
    stream: Stream,
    wait: Wait,
}

impl JoinedStream {
    pub(super) fn new(shared: Rc<Shared>, wait: Wait) -> JoinedStream {
        let stream = shared.joiner.borrow().stream();
        JoinedStream { shared, stream, wait }
    }
}

/// Takes what the joiner hands on.
struct Joined<'g>(&'g mut Given);

impl RecordSink for Joined<'_> {
    fn begin(&mut self, time: EventTime, metadata: &[u8]) -> &mut Vec<u8> {
        self.0.begin(time, metadata)
    }

    fn end(&mut self, length: Length) {
        self.0.end();
        if length == Length::Truncated {
            self.0.count_truncated();
        }
    }
}

/// The joiner compares times with each other alone, and the monotonic clock never leaps.
fn stamp(clock: Clock) -> EventTime {
    EventTime::from_unix_nanos(clock.monotonic_ns)
}

impl FilterStream for JoinedStream {
    fn apply(&mut self, record: &mut Record<'_>, clock: Clock, given: &mut Given) -> Verdict {
        let mut body = self.shared.body.borrow_mut();
        body.clear();
        body.shrink_to(BODY_BYTES_KEPT);
        let part =
            Part { time: record.time(), metadata: record.metadata(), body: record.body(&mut body) };
        let truncated_before = given.truncated_count();
        let mut joiner = self.shared.joiner.borrow_mut();
        joiner.take_record(&mut self.stream, &part, stamp(clock), &mut Joined(given));
        if given.truncated_count() > truncated_before {
            self.shared.say_truncated(clock);
        }
        Verdict::Held
    }

    fn end_batch(&mut self, _clock: Clock, given: &mut Given) {
        if self.wait == Wait::Batch {
            self.give_all(given);
        }
    }

    fn give_due(&mut self, clock: Clock, given: &mut Given) {
        let Wait::Idle(idle) = self.wait else { return };
        let mut joiner = self.shared.joiner.borrow_mut();
        joiner.flush_idle(&mut self.stream, stamp(clock), idle, &mut Joined(given));
    }

    fn give_all(&mut self, given: &mut Given) {
        self.shared.joiner.borrow_mut().flush(&mut self.stream, &mut Joined(given));
    }

    fn held(&self) -> Held {
        let idle_ns = match self.wait {
            Wait::Batch => 0,
            Wait::Idle(idle) => idle.as_nanos() as u64,
        };
        let due_ns = self.stream.oldest_ns().map(|oldest| oldest + idle_ns);
        Held { bytes: self.stream.pending_bytes(), due_ns }
    }
}

/// What is kept of the memory for one body.
const BODY_BYTES_KEPT: usize = 1 << 20;
