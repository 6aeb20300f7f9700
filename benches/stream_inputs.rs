//! How many bytes a second do `forward` and `tcp` turn into stored events, without sockets?
//!
//! Each input is fed from one read buffer, as the reactor does, into a sink that recycles one
//! chunk.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use config::{KeySpec, Problems, Property, Section, SourceMap, Span};
use dataplane::event::encoder::{event_header, put_array_len, put_bin, put_map_len, put_str};
use dataplane::event::time::EventTime;
use dataplane::inputs::INPUTS;
use dataplane::limits::CHUNK_BYTES_FULL;
use dataplane::log::Log;
use dataplane::plugin::descriptor::BuildContext;
use dataplane::plugin::input::{
    DropCause, EventSink, Flow, InputPlace, InputTag, OpenBatch, Peer, Source,
};

const NOW: EventTime = EventTime { secs: 1_700_000_000, nanos: 0 };
const TOTAL_BYTES: usize = 2 << 30;

struct Sink {
    bytes: Vec<u8>,
    record_count: u64,
}

impl EventSink for Sink {
    fn open(&mut self, _tag: &[u8], room_bytes: usize) -> OpenBatch<'_> {
        if self.bytes.len() + room_bytes > CHUNK_BYTES_FULL {
            self.bytes.clear();
        }
        self.bytes.reserve(room_bytes);
        let room_bytes = room_bytes.max(CHUNK_BYTES_FULL.saturating_sub(self.bytes.len()));
        OpenBatch { bytes: &mut self.bytes, room_bytes }
    }

    fn commit(&mut self, record_count: u32) -> Flow {
        self.record_count += u64::from(record_count);
        Flow::Open
    }

    fn drop_records(&mut self, _cause: DropCause, _record_count: u64) {
        panic!("nothing is dropped here");
    }

    fn flow(&self) -> Flow {
        Flow::Open
    }
}

fn measure(question: &str, plugin: &str, properties: &[(&str, &str)], unit: &[u8]) {
    let span = Span::new(SourceMap::default().add("bench", ""), 0, 0);
    let mut section = Section::new("INPUT", span);
    for (key, value) in properties {
        let (key, value) = ((*key).into(), (*value).into());
        section.properties.push(Property { key, value, key_span: span, value_span: span });
    }
    let no_keys: &[&[KeySpec]] = &[];
    let context = BuildContext {
        instance: "bench",
        engine_keys: no_keys,
        shard_count: 1,
        flush_interval: std::time::Duration::from_secs(1),
        json: Default::default(),
        parsers: &dataplane::plugin::parser::Parsers::new(),
        multiline: &dataplane::multiline::MultilineParsers::new(0),
        variables: &[],
        directory: std::path::Path::new(""),
    };
    let plugin = INPUTS.iter().find(|input| input.name == plugin).unwrap();
    let definition = (plugin.build)(&section, &context, &mut Problems::default()).unwrap();
    let place = InputPlace { shard: 0, shard_count: 1, log: Log::discard() };
    let tag = InputTag { text: "bench".into(), configured: false };
    let Ok(Source::Connections(input)) = definition.start(&place, &tag) else { panic!() };
    let mut framer = input.connect(&Peer { address: "10.0.0.1".into() });
    let mut sink = Sink { bytes: Vec::new(), record_count: 0 };
    let mut reply = Vec::new();
    let rounds = TOTAL_BYTES / unit.len();
    let start = Instant::now();
    for _ in 0..rounds {
        let fed = framer.feed(unit, NOW, &mut sink, &mut reply).unwrap();
        assert_eq!(fed.consumed, unit.len());
    }
    let elapsed = start.elapsed();
    let rate = (rounds * unit.len()) as f64 / elapsed.as_secs_f64() / 1e6;
    let each = elapsed.as_nanos() as f64 / sink.record_count as f64;
    println!("{question:<32} {rate:>8.0} MB/s {each:>8.1} ns/record");
}

/// A log record of three keys, some 200 bytes as an event.
fn event(out: &mut Vec<u8>) {
    event_header(out, NOW);
    put_map_len(out, 3);
    for (key, length) in [("log", 120), ("stream", 6), ("time", 30)] {
        put_str(out, key.as_bytes());
        put_str(out, &vec![b'x'; length]);
    }
}

fn main() {
    let count = 1200;
    let mut entries = Vec::new();
    (0..count).for_each(|_| event(&mut entries));
    let mut packed = Vec::new();
    put_array_len(&mut packed, 2);
    put_str(&mut packed, b"app");
    let mut forward = packed.clone();
    put_bin(&mut packed, &entries);
    put_array_len(&mut forward, count);
    forward.extend_from_slice(&entries);
    measure("forward, packed", "forward", &[], &packed);
    measure("forward, array of entries", "forward", &[], &forward);
    let object = r#"{"log":"GET /index.html HTTP/1.1 200 some more of a line","stream":"stdout","time":"2026-01-31T12:00:00.000000000Z","bytes":12345,"duration":0.25,"kubernetes":{"pod":"web-0","ns":"a"}}"#;
    measure("tcp, json", "tcp", &[], object.repeat(1200).as_bytes());
    let address = [("source_address_key", "from")];
    measure("tcp, json with address", "tcp", &address, object.repeat(1200).as_bytes());
    let line = format!("{}\n", "x".repeat(163));
    measure("tcp, lines of 164 bytes", "tcp", &[("format", "none")], line.repeat(1500).as_bytes());
}
