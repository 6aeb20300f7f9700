//! JSON of any bytes: the encoder against a plain decoder of the same rules and against serde_json, the `tcp` framer
//! against values taken one by one however the bytes come, and the parser against itself without a memory.

use std::sync::Arc;

use dataplane::codec::json::{JsonError, JsonKind, encode_value, room_for};
use dataplane::event::reader::Events;
use dataplane::event::time::EventTime;
use dataplane::inputs::INPUTS;
use dataplane::plugin::input::DropCause;
use dataplane::plugin::parser::{Parsed, Parser, ParserScratch};
use dataplane::plugin::testing::{NOW, TestSink, Wire, stream_input};
use rmpv::Value;

use super::parsers;
use super::plain_json::{Entry, Failure, Plain, Read, read};

/// The first byte chooses the keys of input and parser; the rest is one text, a stream of values, and lines.
pub fn check(data: &[u8]) {
    let Some((keys, text)) = data.split_first() else { return };
    check_value(text);
    check_stream(text, keys & 1 != 0);
    check_lines(text, keys >> 1);
}

fn check_value(text: &[u8]) {
    let plain = read(text);
    let encoded = encode(text);
    match (&plain, &encoded) {
        (Ok(plain), Ok((consumed, kind, value))) => {
            assert_eq!((plain.consumed, plain.kind()), (*consumed, *kind));
            assert!(plain.value.is(value), "{value} is not {:?}", plain.value);
            // Nine bytes of a double for the four of `1e1,`.
            let mut out = Vec::new();
            encode_value(text, &mut out).expect("as before");
            assert!(out.len() <= consumed * 9 / 4 + 9, "{} bytes of {consumed}", out.len());
        }
        (Err(Failure::Incomplete), Err(JsonError::Incomplete))
        | (Err(Failure::Invalid), Err(JsonError::Invalid(_))) => {}
        (plain, encoded) => panic!("{encoded:?} is not {plain:?}"),
    }
    check_prefixes(text, &plain);
    check_serde(text, &plain);
}

/// The first value of a text, decoded, in as much room as inputs ask for.
fn encode(text: &[u8]) -> Result<(usize, JsonKind, Value), JsonError> {
    let mut out = Vec::with_capacity(7 + room_for(text.len()));
    out.extend_from_slice(b"earlier");
    let capacity = out.capacity();
    let result = encode_value(text, &mut out);
    assert_eq!(out.capacity(), capacity, "more room than was asked for");
    let mut bytes = out.strip_prefix(b"earlier").expect("earlier bytes are left alone");
    match result {
        Ok(read) => {
            let value = rmpv::decode::read_value(&mut bytes).expect("JSON becomes msgpack");
            assert!(bytes.is_empty(), "{bytes:x?} follow the value");
            assert!(read.consumed <= text.len());
            Ok((read.consumed, read.kind, value))
        }
        Err(error) => {
            assert!(bytes.is_empty(), "{error:?} left {bytes:x?}");
            Err(error)
        }
    }
}

/// What is told of a part must hold of the whole: a value stays the value, what is invalid stays so, and what becomes
/// a value was unfinished, or a number.
fn check_prefixes(text: &[u8], whole: &Result<Read, Failure>) {
    let step = if text.len() > 64 { text.len() / 24 } else { 1 };
    for end in (0..text.len()).step_by(step) {
        match (encode(&text[..end]), whole) {
            (Err(JsonError::Incomplete), _) => {}
            (Err(JsonError::Invalid(_)), Err(Failure::Invalid)) => {}
            (Ok((consumed, kind, _)), Ok(read)) if kind != JsonKind::Scalar || consumed < end => {
                assert_eq!(consumed, read.consumed);
            }
            // The number may go on.
            (Ok((consumed, JsonKind::Scalar, _)), _) if consumed == end => {}
            (part, whole) => panic!("of {end} bytes {part:?}, of all {whole:?}"),
        }
    }
}

/// What serde_json takes is taken; what it does not take and we do is one of Fluent Bit's liberties.
fn check_serde(text: &[u8], plain: &Result<Read, Failure>) {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    match (values.next(), plain) {
        (Some(Ok(value)), Ok(read)) => {
            assert_eq!(values.byte_offset(), read.consumed);
            if !read.has_liberties {
                assert!(is_same(&read.value, &value), "{value} is not {:?}", read.value);
            }
        }
        (Some(Ok(value)), Err(failure)) => panic!("{failure:?} of {value}"),
        // It wants a scalar to be followed by white space, and nests one level less.
        (Some(Err(error)), Ok(read)) => assert!(
            read.has_liberties || read.kind() == JsonKind::Scalar || read.depth > 126,
            "{error} of {:?}",
            read.value
        ),
        (_, Err(_)) => {}
        (None, Ok(read)) => panic!("nothing, not {:?}", read.value),
    }
}

fn is_same(plain: &Plain, value: &serde_json::Value) -> bool {
    match (plain, value) {
        (Plain::Null, serde_json::Value::Null) => true,
        (Plain::Bool(a), serde_json::Value::Bool(b)) => a == b,
        // -0 is a float there.
        (Plain::Uint(0), serde_json::Value::Number(b)) => b.as_f64() == Some(0.0),
        (Plain::Uint(a), serde_json::Value::Number(b)) => b.as_u64() == Some(*a),
        (Plain::Int(a), serde_json::Value::Number(b)) => b.as_i64() == Some(*a),
        // Correct to the last bit only with a feature of the crate.
        (Plain::Float(a), serde_json::Value::Number(b)) => {
            b.as_f64().is_some_and(|b| (a - b).abs() <= 1e-14 * b.abs())
        }
        (Plain::Str(a), serde_json::Value::String(b)) => a == b.as_bytes(),
        (Plain::Array(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Plain::Map(a), serde_json::Value::Object(b)) => b.iter().all(|(key, value)| {
            let last = a.iter().rfind(|(name, _)| name == key.as_bytes());
            last.is_some_and(|(_, plain)| is_same(plain, value))
        }),
        _ => false,
    }
}

/// What a stream comes to.
#[derive(Debug, Default)]
struct Stream {
    /// Body of each event.
    bodies: Vec<Plain>,
    /// Scalars, and a value without an end.
    dropped: u64,
    /// Bytes before the first that are no JSON; all where there are none.
    good_bytes: usize,
}

fn taken_one_by_one(text: &[u8], source: Option<&Entry>) -> Stream {
    let mut stream = Stream::default();
    let mut rest = text;
    loop {
        rest = rest.trim_ascii_start();
        stream.good_bytes = text.len() - rest.len();
        if rest.is_empty() {
            return stream;
        }
        let entries = match read(rest) {
            Ok(Read { value: Plain::Map(entries), consumed, .. }) => {
                rest = &rest[consumed..];
                Some(entries)
            }
            Ok(Read { value: value @ Plain::Array(_), consumed, .. }) => {
                rest = &rest[consumed..];
                Some(vec![(b"msg".to_vec(), value)])
            }
            Ok(Read { consumed, .. }) => {
                rest = &rest[consumed..];
                None
            }
            Err(Failure::Incomplete) => {
                rest = &[];
                None
            }
            Err(Failure::Invalid) => return stream,
        };
        match entries {
            Some(mut entries) => {
                entries.extend(source.cloned());
                stream.bodies.push(Plain::Map(entries));
            }
            None => stream.dropped += 1,
        }
    }
}

fn check_stream(text: &[u8], has_source: bool) {
    let plugin = INPUTS.iter().find(|plugin| plugin.name == "tcp").expect("it is built in");
    let source = (b"from".to_vec(), Plain::Str(b"tcp://10.0.0.7:99".to_vec()));
    let keys = [("format", "json"), ("source_address_key", "from")];
    let input = stream_input(plugin, if has_source { &keys } else { &keys[..1] });
    let expected = taken_one_by_one(text, has_source.then_some(&source));
    let run = |bytes: &[u8], sizes: &[usize]| {
        let mut sink = TestSink::new();
        let mut wire = Wire::connect(&*input);
        wire.send_in_pieces(bytes, sizes, &mut sink);
        assert_eq!(wire.closed, None);
        wire.end(&mut sink);
        let bodies: Vec<u8> = sink.events().into_iter().flat_map(|(_, event)| event).collect();
        (bodies, sink.dropped(DropCause::Malformed))
    };
    let whole = run(text, &[usize::MAX]);
    let bodies: Vec<Value> = Events::new(&whole.0)
        .map(|event| event.expect("an event"))
        .inspect(|event| assert_eq!((event.time, event.metadata), (NOW, &[0x80][..])))
        .map(|event| rmpv::decode::read_value(&mut &event.body[..]).expect("a body"))
        .collect();
    assert_eq!(bodies.len(), expected.bodies.len());
    assert!(expected.bodies.iter().zip(&bodies).all(|(plain, body)| plain.is(body)));
    let is_broken = expected.good_bytes < text.len();
    assert_eq!(whole.1, expected.dropped + u64::from(is_broken));

    // What is dropped behind broken bytes depends on how they came.
    let good = &text[..expected.good_bytes];
    let whole = run(good, &[usize::MAX]);
    let step = if good.len() > 64 { good.len() / 24 } else { 1 };
    for cut in (1..good.len()).step_by(step) {
        assert_eq!(run(good, &[cut, usize::MAX]), whole);
    }
    assert_eq!(run(good, &[1 + good.len() / 100]), whole);
}

/// Lines through a parser that has seen the lines before, and through one that has not.
fn check_lines(text: &[u8], keys: u8) {
    let keep = if keys & 2 != 0 { "on" } else { "off" };
    let time = [("time_key", "t"), ("time_format", "%s"), ("time_keep", keep)];
    let has_time = keys & 1 != 0;
    let mut section = vec![("format", "json")];
    section.extend(time.iter().filter(|_| has_time));
    let parser: Arc<dyn Parser> = parsers::compile(&section).expect("the section is right");
    let mut scratch = ParserScratch::default();
    for line in text.split(|byte| *byte == b'\n').take(40) {
        let remembering = parsers::parse(&*parser, line, parsers::NOW, &mut scratch);
        let fresh = parsers::parse(&*parser, line, parsers::NOW, &mut ParserScratch::default());
        assert_eq!(format!("{remembering:?}"), format!("{fresh:?}"));
        let Some((mut entries, consumed)) = only_object(line) else {
            assert_eq!(fresh, (Parsed::Unparsed, Vec::new()));
            continue;
        };
        let mut time = None;
        let bearer = entries.iter().position(|(key, _)| has_time && key == b"t");
        if let Some(index) = bearer
            && let Plain::Str(text) = &entries[index].1
            && let Some(secs) = parsers::epoch(text)
        {
            let secs = u32::try_from(secs).ok().filter(|secs| *secs > 0);
            time = secs.map(|secs| EventTime { secs, nanos: 0 });
            if keys & 2 == 0 {
                entries.remove(index);
            }
        }
        assert_eq!(fresh.0, Parsed::Body { time, consumed });
        let body = Value::Map(fresh.1);
        assert!(Plain::Map(entries).is(&body), "{body} of {}", String::from_utf8_lossy(line));
    }
}

/// The entries of the object that a line begins with, unless another whole value follows. A form feed is no white space
/// before that.
fn only_object(line: &[u8]) -> Option<(Vec<Entry>, usize)> {
    let Ok(Read { value: Plain::Map(entries), consumed, .. }) = read(line) else { return None };
    read(&line[consumed..]).is_err().then_some((entries, consumed))
}
