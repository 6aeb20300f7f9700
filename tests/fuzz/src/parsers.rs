//! Parsers as a `[PARSER]` section makes them, and what they make of a text, decoded by another msgpack reader.

use std::sync::Arc;

use config::{Document, Problems, Property, Section, Span};
use dataplane::event::time::EventTime;
use dataplane::plugin::parser::{Parsed, Parser, ParserScratch};
use rmpv::Value;

/// The clock: 2023-11-14 22:13:20.
pub const NOW: EventTime = EventTime { secs: 1_700_000_000, nanos: 0 };

/// Compiles a section; `None` when it is refused.
pub fn compile(properties: &[(&str, &str)]) -> Option<Arc<dyn Parser>> {
    let mut document = Document::empty();
    let span = Span::new(document.sources.add("parsers.conf", ""), 0, 0);
    let mut section = Section::new("PARSER", span);
    for (key, value) in [("name", "p")].iter().chain(properties) {
        let (key, value) = ((*key).to_owned(), (*value).to_owned());
        section.properties.push(Property { key, value, key_span: span, value_span: span });
    }
    document.parsers.push(section);
    let mut problems = Problems::default();
    let parsers = dataplane::parsers::compile(&document, &mut problems);
    parsers.get("p").cloned()
}

/// What a parser says of a text, and the entries of the body; no other bytes are touched.
pub fn parse(
    parser: &dyn Parser,
    text: &[u8],
    now: EventTime,
    scratch: &mut ParserScratch,
) -> (Parsed, Vec<(Value, Value)>) {
    const EARLIER: &[u8] = b"earlier";
    let mut out = EARLIER.to_vec();
    let parsed = parser.parse(text, now, scratch, &mut out);
    let mut body = out.strip_prefix(EARLIER).expect("earlier bytes are left alone");
    let Parsed::Body { consumed, .. } = parsed else {
        assert!(body.is_empty(), "{parsed:?} appended {body:x?}");
        return (parsed, Vec::new());
    };
    assert!(consumed <= text.len());
    let value = rmpv::decode::read_value(&mut body).expect("the body is msgpack");
    assert!(body.is_empty(), "{body:x?} follow the body");
    let Value::Map(entries) = value else { panic!("the body is {value}") };
    (parsed, entries)
}

/// What `%s` reads: the digits at the front, up to the last second whose year C can say.
pub fn epoch(text: &[u8]) -> Option<u64> {
    let digits: Vec<u8> = text.iter().copied().take_while(u8::is_ascii_digit).collect();
    let secs: u64 = std::str::from_utf8(&digits).expect("digits").parse().ok()?;
    (secs <= 67_767_976_233_532_799).then_some(secs)
}
