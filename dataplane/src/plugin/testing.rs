//! A sink over plain vectors and a connection without a socket, so that inputs are tested without a
//! shard: here, and by the fuzz targets beside the crate.
//!
//! The sink is as strict as the seam allows: a batch gets exactly the room that was asked for,
//! stands behind foreign bytes, and must hold as many whole events as are committed.

use std::sync::LazyLock;

use config::{Problems, Property, Section, Settings, SourceMap, Span};

use crate::event::reader::Events;
use crate::event::time::EventTime;
use crate::limits::MULTILINE_BYTES_DEFAULT;
use crate::log::Log;
use crate::multiline::MultilineParsers;
use crate::plugin::descriptor::{BuildContext, InputPlugin};
use crate::plugin::input::{
    DropCause, EventSink, Flow, Framer, InputPlace, InputTag, Next, OpenBatch, Peer, Source,
    StreamInput, Unparsed,
};
use crate::plugin::parser::Parsers;

config::config_map! {
    /// What the engine reads in every section.
    pub struct EngineKeys {
        /// Name of the plugin.
        "name" => name: String, optional;
        /// Tag of its events.
        "tag" => tag: String, optional;
    }
}

/// What stands in the buffer before a batch begins.
const EARLIER: &[u8] = b"earlier";

/// Keeps what an input appends.
pub struct TestSink {
    /// Tag, events and record count of each commit.
    pub batches: Vec<(Vec<u8>, Vec<u8>, u32)>,
    /// What was given up.
    pub drops: Vec<(DropCause, u64)>,
    /// What passed unparsed.
    pub unparsed: Vec<(Unparsed, u64)>,
    /// What the sink answers.
    pub flow: Flow,
    open: Option<(Vec<u8>, usize)>,
    bytes: Vec<u8>,
}

impl Default for TestSink {
    fn default() -> TestSink {
        TestSink::new()
    }
}

impl TestSink {
    /// An empty one, open for more.
    pub fn new() -> TestSink {
        let (batches, drops, unparsed) = (Vec::new(), Vec::new(), Vec::new());
        TestSink { batches, drops, unparsed, flow: Flow::Open, open: None, bytes: Vec::new() }
    }

    /// All events, each with its tag, however they were batched.
    pub fn events(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let batches = self.batches.iter();
        let events = batches.flat_map(|(tag, bytes, _)| {
            Events::new(bytes)
                .map(|event| (tag.clone(), event.expect("checked at the commit").bytes.to_vec()))
        });
        events.collect()
    }

    /// Records given up for a cause.
    pub fn dropped(&self, cause: DropCause) -> u64 {
        self.drops.iter().filter(|(why, _)| *why == cause).map(|(_, count)| count).sum()
    }
}

impl EventSink for TestSink {
    fn open(&mut self, tag: &[u8], room_bytes: usize) -> OpenBatch<'_> {
        self.bytes = EARLIER.to_vec();
        self.open = Some((tag.to_vec(), room_bytes));
        OpenBatch { bytes: &mut self.bytes, room_bytes }
    }

    fn commit(&mut self, record_count: u32) -> Flow {
        let (tag, room_bytes) = self.open.take().expect("a batch is open");
        let bytes =
            self.bytes.strip_prefix(EARLIER).expect("earlier bytes are left alone").to_vec();
        assert!(bytes.len() <= room_bytes, "{} bytes in a room of {room_bytes}", bytes.len());
        let events: Vec<_> = Events::new(&bytes).collect();
        assert!(events.iter().all(Result::is_ok) && events.len() == record_count as usize);
        if record_count > 0 {
            self.batches.push((tag, bytes, record_count));
        }
        self.flow
    }

    fn drop_records(&mut self, cause: DropCause, record_count: u64) {
        self.drops.push((cause, record_count));
    }

    fn count_unparsed(&mut self, why: Unparsed, record_count: u64) {
        self.unparsed.push((why, record_count));
    }

    fn flow(&self) -> Flow {
        self.flow
    }
}

/// A section with these properties.
pub fn section(properties: &[(&str, &str)]) -> Section {
    let mut sources = SourceMap::default();
    let span = Span::new(sources.add("test.conf", ""), 0, 0);
    let mut section = Section::new("INPUT", span);
    for (key, value) in properties {
        let (key, value) = ((*key).into(), (*value).into());
        section.properties.push(Property { key, value, key_span: span, value_span: span });
    }
    section
}

/// The messages of the problems that a section has; empty when the plugin takes it.
pub fn problems_of(plugin: &InputPlugin, properties: &[(&str, &str)]) -> Vec<String> {
    let mut problems = Problems::default();
    let built = (plugin.build)(&section(properties), &context(), &mut problems);
    assert_eq!(built.is_none(), problems.has_errors());
    problems.iter().map(|problem| problem.message.clone()).collect()
}

/// Builds and starts an input that takes connections. A `tag` among the properties counts as
/// configured.
pub fn stream_input(plugin: &InputPlugin, properties: &[(&str, &str)]) -> Box<dyn StreamInput> {
    let section = section(properties);
    let mut problems = Problems::default();
    let built = (plugin.build)(&section, &context(), &mut problems);
    let built = built.expect("the section is right");
    let place = InputPlace { shard: 0, shard_count: 1, log: Log::discard() };
    let tag = section.get("tag").map(|property| property.value.clone());
    let configured = tag.is_some();
    let text = tag.unwrap_or_else(|| format!("{}.0", plugin.name)).into();
    match built.start(&place, &InputTag { text, configured }) {
        Ok(Source::Connections(input)) => input,
        _ => panic!("`{}` takes no connections", plugin.name),
    }
}

static PARSERS: Parsers = Parsers::new();
static MULTILINE: LazyLock<MultilineParsers> =
    LazyLock::new(|| MultilineParsers::new(MULTILINE_BYTES_DEFAULT));

/// Of an instance `test.0` on one shard.
pub fn context() -> BuildContext<'static> {
    BuildContext {
        instance: "test.0",
        engine_keys: &[EngineKeys::KEYS],
        shard_count: 1,
        flush_interval: std::time::Duration::from_secs(1),
        json: crate::codec::json_text::JsonOptions::default(),
        parsers: &PARSERS,
        multiline: &MULTILINE,
        variables: &[],
        directory: std::path::Path::new(""),
    }
}

/// The time at which all bytes of a [`Wire`] arrive.
pub const NOW: EventTime = EventTime { secs: 1_700_000_000, nanos: 5 };

/// One connection: keeps what was not consumed, as the reactor does, and closes at the same bounds.
pub struct Wire {
    framer: Box<dyn Framer>,
    buffer: Vec<u8>,
    /// What the input has answered.
    pub reply: Vec<u8>,
    /// Why the input has closed it.
    pub closed: Option<String>,
}

impl Wire {
    /// A connection from 10.0.0.7:99.
    pub fn connect(input: &dyn StreamInput) -> Wire {
        let mut framer = input.connect(&Peer { address: "10.0.0.7:99".into() });
        assert!(framer.buffer_bytes_initial() <= framer.buffer_bytes_max());
        let mut reply = Vec::new();
        framer.greet(&mut reply);
        Wire { framer, buffer: Vec::new(), reply, closed: None }
    }

    /// Bytes arrive, in one piece; ignored once the connection is closed.
    pub fn send(&mut self, bytes: &[u8], sink: &mut TestSink) {
        if self.closed.is_some() {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        let most = self.framer.buffer_bytes_max();
        match self.framer.feed(&self.buffer, NOW, sink, &mut self.reply) {
            Ok(fed) => {
                self.buffer.drain(..fed.consumed);
                if fed.needed > most || self.buffer.len() >= most {
                    sink.drop_records(DropCause::Oversized, 1);
                    self.closed = Some("a record or frame is larger than the buffer".into());
                }
            }
            Err(reason) => self.closed = Some(reason.0),
        }
    }

    /// Bytes arrive in pieces of these sizes, over and over.
    pub fn send_in_pieces(&mut self, bytes: &[u8], sizes: &[usize], sink: &mut TestSink) {
        let mut rest = bytes;
        for size in sizes.iter().cycle() {
            let (piece, left) = rest.split_at((*size).clamp(1, rest.len().max(1)).min(rest.len()));
            self.send(piece, sink);
            rest = left;
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The peer closes.
    pub fn end(mut self, sink: &mut TestSink) -> Next {
        self.framer.finish(&self.buffer, NOW, sink)
    }
}
