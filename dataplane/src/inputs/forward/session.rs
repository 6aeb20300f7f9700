//! One connection of `forward`: the handshake if one is asked for, then frames and their acks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::event::time::EventTime;
use crate::inputs::forward::Rules;
use crate::inputs::forward::frame::{self, Content, Frame, Scan, Scanned, Signal};
use crate::inputs::forward::inflate::{Compression, InflateError, inflate};
use crate::inputs::forward::store::{Stored, store_entries, store_message};
use crate::plugin::input::{CloseReason, DropCause, EventSink, Fed, Framer, Next};
use crate::wire::fluent::{
    self, MessageError, PingVerdict, Salt, WRONG_USER, check_ping, parse_ping, random_salt,
};

/// Bytes the shared decompression buffer keeps between frames; more is given back.
const INFLATED_BYTES_KEPT: usize = 1024 * 1024;

/// Most records one frame may be said to have lost: the number is the sender's own, and may be a lie.
const LOST_MAX: u64 = 1_000_000;

/// What the connections of an instance on one shard share.
pub(super) struct Shared {
    pub(super) rules: Arc<Rules>,
    /// The `tag` of the section: it wins over that of a frame.
    pub(super) fixed_tag: Option<Vec<u8>>,
    /// Decompressed entries of the frame in hand.
    pub(super) inflated: RefCell<Vec<u8>>,
}

/// The state of one connection.
pub(super) struct Session {
    shared: Rc<Shared>,
    stage: Stage,
    scan: Scan,
    /// Prefix and tag of the frame in hand.
    tag: Vec<u8>,
}

enum Stage {
    /// HELO is sent, or about to be; the client must answer with PING.
    Greeting {
        nonce: Salt,
        auth: Salt,
    },
    /// The kernel gave no randomness for a HELO.
    NoSalt(String),
    Frames,
}

impl Session {
    pub(super) fn new(shared: Rc<Shared>) -> Session {
        let stage = match (&shared.rules.shared_key, random_salt(), random_salt()) {
            (None, ..) => Stage::Frames,
            (Some(_), Ok(nonce), Ok(auth)) => Stage::Greeting { nonce, auth },
            (Some(_), Err(error), _) | (Some(_), _, Err(error)) => Stage::NoSalt(error.to_string()),
        };
        Session { shared, stage, scan: Scan::default(), tag: Vec::new() }
    }

    /// Takes the PING. Returns its length, 0 when it is not whole.
    fn greet_back(
        &mut self,
        bytes: &[u8],
        sink: &mut dyn EventSink,
        reply: &mut Vec<u8>,
    ) -> Result<usize, CloseReason> {
        let (nonce, auth) = match &self.stage {
            Stage::Frames => return Ok(0),
            Stage::NoSalt(error) => return Err(CloseReason(format!("no randomness: {error}"))),
            Stage::Greeting { nonce, auth } => (nonce, auth),
        };
        let (ping, length) = match parse_ping(bytes) {
            Ok(parsed) => parsed,
            Err(MessageError::Incomplete) => return Ok(0),
            Err(MessageError::Unexpected(_)) => {
                sink.drop_records(DropCause::Malformed, 1);
                return Err(CloseReason(
                    "no PING came where the handshake asks for one: set `shared_key` on the client"
                        .into(),
                ));
            }
        };
        let rules = &self.shared.rules;
        let shared_key = rules.shared_key.as_deref().unwrap_or_default();
        let client = String::from_utf8_lossy(ping.hostname).into_owned();
        match check_ping(&ping, nonce, auth, shared_key, &rules.users) {
            PingVerdict::Accepted => {}
            PingVerdict::WrongKey => {
                return Err(CloseReason(format!("client `{client}` has another `shared_key`")));
            }
            PingVerdict::WrongUser => {
                fluent::pong_refused(WRONG_USER, reply);
                let user = String::from_utf8_lossy(ping.username);
                return Err(CloseReason(format!(
                    "user `{user}` of client `{client}` is unknown or has another password"
                )));
            }
        }
        fluent::pong(&ping, nonce, &rules.hostname, shared_key, reply);
        self.stage = Stage::Frames;
        Ok(length)
    }

    /// Appends the events of a frame, and its ack to `reply`.
    fn take_frame(
        &mut self,
        frame: &Frame<'_>,
        sink: &mut dyn EventSink,
        reply: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        let options = frame.options.as_ref();
        self.set_tag(frame.tag);
        let size = options.map_or(0, |options| options.size);
        let (stored, announced) = match frame.content {
            Content::Message { time, body } => {
                let metadata = options.and_then(|options| options.metadata);
                (store_message(&self.tag, time, metadata, body, sink), 1)
            }
            Content::Entries { bytes, count } => {
                (store_entries(&self.tag, bytes, sink), count as u64)
            }
            Content::Packed { bytes } => (self.take_packed(frame, bytes, sink)?, size),
        };
        if !stored.is_whole {
            let lost = announced.saturating_sub(stored.record_count).clamp(1, LOST_MAX);
            sink.drop_records(DropCause::Malformed, lost);
            let kept = stored.record_count;
            return Err(CloseReason(format!("an entry is no event; {kept} before it were kept")));
        }
        if let Some(chunk) = options.and_then(|options| options.chunk) {
            fluent::ack(chunk, reply);
        }
        Ok(())
    }

    fn take_packed(
        &self,
        frame: &Frame<'_>,
        bytes: &[u8],
        sink: &mut dyn EventSink,
    ) -> Result<Stored, CloseReason> {
        let Some(options) = &frame.options else {
            return Ok(store_entries(&self.tag, bytes, sink));
        };
        if options.signal != Signal::Logs {
            let kind = if options.signal == Signal::Metrics { "metrics" } else { "traces" };
            sink.drop_records(DropCause::Unsupported, options.size.clamp(1, LOST_MAX));
            return Err(CloseReason(format!(
                "{kind} came for tag `{}`, and only logs are taken: leave them out of the sender's `match`",
                String::from_utf8_lossy(frame.tag)
            )));
        }
        let compression = Compression::of(bytes, options.compressed);
        if compression == Compression::None {
            return Ok(store_entries(&self.tag, bytes, sink));
        }
        let most = self.shared.rules.buffer_bytes_max;
        let mut inflated = self.shared.inflated.borrow_mut();
        let result = inflate(bytes, compression, &mut inflated, most);
        let stored = match result {
            Ok(()) => Ok(store_entries(&self.tag, &inflated, sink)),
            Err(error) => {
                let (cause, text) = match error {
                    InflateError::Oversized => (
                        DropCause::Oversized,
                        format!(
                            "a frame is larger than `buffer_max_size`, {most} bytes, once decompressed"
                        ),
                    ),
                    InflateError::Broken => {
                        (DropCause::Malformed, "a compressed frame is broken".to_owned())
                    }
                };
                sink.drop_records(cause, options.size.clamp(1, LOST_MAX));
                Err(CloseReason(text))
            }
        };
        inflated.clear();
        inflated.shrink_to(INFLATED_BYTES_KEPT);
        stored
    }

    /// A prefix is put before the frame's tag; else the tag of the section wins over it.
    fn set_tag(&mut self, tag: &[u8]) {
        self.tag.clear();
        match (&self.shared.rules.tag_prefix, &self.shared.fixed_tag) {
            (Some(prefix), _) => {
                self.tag.extend_from_slice(prefix);
                self.tag.extend_from_slice(tag);
            }
            (None, Some(fixed)) => self.tag.extend_from_slice(fixed),
            (None, None) => self.tag.extend_from_slice(tag),
        }
    }
}

impl Framer for Session {
    fn greet(&mut self, reply: &mut Vec<u8>) {
        if let Stage::Greeting { nonce, auth } = &self.stage {
            fluent::helo(nonce, auth, reply);
        }
    }

    fn feed(
        &mut self,
        bytes: &[u8],
        _now: EventTime,
        sink: &mut dyn EventSink,
        reply: &mut Vec<u8>,
    ) -> Result<Fed, CloseReason> {
        let mut consumed = self.greet_back(bytes, sink, reply)?;
        if !matches!(self.stage, Stage::Frames) {
            return Ok(Fed { consumed, needed: 0 });
        }
        // Frames in hand are taken even when the input pauses: their senders may wait for acks, and
        // no further read would bring them up.
        while consumed < bytes.len() {
            let malformed = |sink: &mut dyn EventSink, why: &str| {
                sink.drop_records(DropCause::Malformed, 1);
                CloseReason(format!("not the forward protocol: {why}"))
            };
            match self.scan.resume(&bytes[consumed..]) {
                Scanned::Needs(needed) => return Ok(Fed { consumed, needed }),
                Scanned::Invalid(why) => return Err(malformed(sink, why)),
                Scanned::Whole { members, length } => {
                    let frame = frame::parse(members).map_err(|why| malformed(sink, why))?;
                    self.take_frame(&frame, sink, reply)?;
                    consumed += length;
                }
            }
        }
        Ok(Fed { consumed, needed: 0 })
    }

    fn finish(&mut self, rest: &[u8], _now: EventTime, sink: &mut dyn EventSink) -> Next {
        // A frame that never became whole: its sender knows, and has no ack.
        if !rest.is_empty() {
            sink.drop_records(DropCause::Malformed, 1);
        }
        Next::Ended
    }

    fn buffer_bytes_initial(&self) -> usize {
        self.shared.rules.buffer_bytes_initial
    }

    fn buffer_bytes_max(&self) -> usize {
        self.shared.rules.buffer_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;
    use crate::event::encoder::HEADER_START;
    use crate::inputs::forward::PLUGIN;
    use crate::plugin::testing::{TestSink, Wire, stream_input};
    use crate::wire::fluent::{Credentials, PongVerdict, SALT_BYTES, check_pong, parse_helo, ping};

    fn pack(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        rmpv::encode::write_value(&mut out, value).unwrap();
        out
    }

    fn time(secs: u32) -> Value {
        Value::Ext(0, (u64::from(secs) << 32 | 9).to_be_bytes().to_vec())
    }

    fn body(number: u64) -> Value {
        Value::Map(vec![("n".into(), number.into()), ("text".into(), "some words".into())])
    }

    /// `[[time, {}], body]`, as it is stored.
    fn event(secs: u32, number: u64) -> Value {
        let header = Value::Array(vec![time(secs), Value::Map(vec![])]);
        Value::Array(vec![header, body(number)])
    }

    fn stored(secs: u32, number: u64) -> Vec<u8> {
        let bytes = pack(&event(secs, number));
        assert_eq!(bytes[..4], HEADER_START);
        bytes
    }

    fn options(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    }

    fn entries(range: std::ops::Range<u32>) -> Vec<u8> {
        range.flat_map(|secs| stored(secs, u64::from(secs))).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn packed(bytes: Vec<u8>, options: Option<Value>) -> Vec<u8> {
        let mut frame = vec!["app".into(), Value::Binary(bytes)];
        frame.extend(options);
        pack(&Value::Array(frame))
    }

    /// Frames of every mode, six events with times 1 to 6 and acks `a`, `b` and `c`.
    fn all_modes() -> Vec<u8> {
        let label = |name: &str, chunk: &str| {
            options(&[("chunk", chunk.into()), ("size", 1.into()), ("compressed", name.into())])
        };
        let legacy = Value::Array(vec![3.into(), body(3)]);
        [
            pack(&Value::Array(vec![
                "app".into(),
                time(1),
                body(1),
                options(&[("chunk", "a".into())]),
            ])),
            pack(&Value::Array(vec!["app".into(), Value::Array(vec![event(2, 2), legacy])])),
            packed(stored(4, 4), Some(Value::Nil)),
            packed(gzip(&stored(5, 5)), Some(label("gzip", "b"))),
            packed(zstd::encode_all(&stored(6, 6)[..], 1).unwrap(), Some(label("gzip", "c"))),
        ]
        .concat()
    }

    fn run(properties: &[(&str, &str)], bytes: &[u8], sizes: &[usize]) -> (TestSink, Wire) {
        let input = stream_input(&PLUGIN, properties);
        let mut sink = TestSink::new();
        let mut wire = Wire::connect(&*input);
        wire.send_in_pieces(bytes, sizes, &mut sink);
        (sink, wire)
    }

    fn tags(sink: &TestSink) -> Vec<Vec<u8>> {
        sink.events().into_iter().map(|(tag, _)| tag).collect()
    }

    fn bytes(sink: &TestSink) -> Vec<Vec<u8>> {
        sink.events().into_iter().map(|(_, event)| event).collect()
    }

    #[test]
    fn every_mode_is_stored_byte_by_byte_and_acked() {
        let (sink, wire) = run(&[], &all_modes(), &[usize::MAX]);
        assert_eq!(wire.closed, None);
        let mut expected: Vec<_> = (1..7).map(|secs| stored(secs, u64::from(secs))).collect();
        // The legacy entry has whole seconds.
        expected[2][8..12].fill(0);
        assert_eq!(bytes(&sink), expected);
        assert_eq!(wire.reply, b"\x81\xa3ack\xa1a\x81\xa3ack\xa1b\x81\xa3ack\xa1c");
        assert!(sink.drops.is_empty() && tags(&sink).iter().all(|tag| tag == b"app"));
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_events() {
        let frames = all_modes();
        let (whole, whole_wire) = run(&[], &frames, &[usize::MAX]);
        for cut in 1..frames.len() {
            let (sink, wire) = run(&[], &frames, &[cut, usize::MAX]);
            assert_eq!((sink.events(), wire.reply), (whole.events(), whole_wire.reply.clone()));
        }
    }

    #[test]
    fn a_broken_connection_leaves_no_half_frame_behind() {
        let frame = packed(entries(1..9), None);
        let (mut sink, wire) = run(&[], &frame[..frame.len() - 1], &[7]);
        wire.end(&mut sink);
        assert_eq!((sink.events().len(), sink.dropped(DropCause::Malformed)), (0, 1));
    }

    #[test]
    fn metadata_of_a_message_is_kept() {
        let metadata = options(&[("m", 1.into())]);
        let frame =
            Value::Array(vec!["t".into(), 7.into(), body(1), options(&[("metadata", metadata)])]);
        let (sink, _) = run(&[], &pack(&frame), &[usize::MAX]);
        let stored = bytes(&sink).remove(0);
        assert_eq!(&stored[..16], b"\x92\x92\xd7\0\0\0\0\x07\0\0\0\0\x81\xa1m\x01");
    }

    #[test]
    fn prefix_then_section_then_frame_say_the_tag() {
        let frame = packed(stored(1, 1), None);
        let tag =
            |properties: &[(&str, &str)]| tags(&run(properties, &frame, &[usize::MAX]).0).remove(0);
        assert_eq!(tag(&[]), b"app");
        assert_eq!(tag(&[("tag", "mine")]), b"mine");
        assert_eq!(tag(&[("tag", "mine"), ("tag_prefix", "p.")]), b"p.app");
    }

    #[test]
    fn good_entries_before_a_bad_one_are_kept_and_nothing_is_acked() {
        let mut bad = entries(1..3);
        bad.extend_from_slice(&[0x92, 0xa1, b'x', 0x80]);
        bad.extend(entries(3..5));
        let with_ack = options(&[("chunk", "id".into()), ("size", 5.into())]);
        let array = Value::Array(vec![event(1, 1), event(2, 2), 3.into(), event(4, 4), 5.into()]);
        let forward = Value::Array(vec!["app".into(), array, with_ack.clone()]);
        for frame in [
            packed(bad.clone(), Some(with_ack.clone())),
            packed(gzip(&bad), Some(with_ack)),
            pack(&forward),
        ] {
            let (sink, wire) = run(&[], &frame, &[usize::MAX]);
            assert_eq!(sink.events().len(), 2);
            assert_eq!(sink.dropped(DropCause::Malformed), 3);
            assert!(wire.closed.unwrap().contains("2 before it were kept"));
            assert!(wire.reply.is_empty());
        }
    }

    #[test]
    fn a_broken_or_swollen_archive_is_counted_and_not_acked() {
        let whole = gzip(&entries(0..3000));
        let label = options(&[
            ("chunk", "id".into()),
            ("size", 3000.into()),
            ("compressed", "gzip".into()),
        ]);
        let max = [("buffer_max_size", "60000"), ("buffer_chunk_size", "1000")];
        let cut = packed(whole[..whole.len() - 9].to_vec(), Some(label.clone()));
        let cases = [
            (cut, &[][..], DropCause::Malformed),
            (packed(b"\x1f\x8bnonsense".to_vec(), Some(label.clone())), &[], DropCause::Malformed),
            (packed(whole, Some(label)), &max, DropCause::Oversized),
        ];
        for (frame, properties, cause) in cases {
            let (sink, wire) = run(properties, &frame, &[usize::MAX]);
            assert_eq!((sink.events().len(), sink.dropped(cause)), (0, 3000));
            assert!(wire.closed.is_some() && wire.reply.is_empty());
        }
    }

    #[test]
    fn a_frame_beyond_the_bound_closes_as_soon_as_it_says_so() {
        let limits = [("buffer_max_size", "4000"), ("buffer_chunk_size", "1000")];
        let (sink, wire) = run(&limits, &packed(entries(0..300), None)[..20], &[usize::MAX]);
        assert!(wire.closed.is_some());
        assert_eq!(sink.dropped(DropCause::Oversized), 1);
        let (sink, wire) = run(&limits, b"\x92\xa1t\xdd\xff\xff\xff\xff", &[usize::MAX]);
        assert!(wire.closed.is_some());
        assert_eq!(sink.dropped(DropCause::Oversized), 1);
    }

    #[test]
    fn entries_larger_than_a_piece_are_stored() {
        let long = |secs: u32| {
            let text = Value::Map(vec![("text".into(), "x".repeat(90_000).into())]);
            Value::Array(vec![Value::Array(vec![time(secs), Value::Map(vec![])]), text])
        };
        let sent: Vec<_> = [long(1), event(2, 2), long(3), long(4)].iter().map(pack).collect();
        let (sink, wire) = run(&[], &packed(sent.concat(), None), &[1000]);
        assert_eq!((bytes(&sink), wire.closed), (sent, None));
    }

    #[test]
    fn metrics_and_traces_are_refused_by_name() {
        let frame =
            packed(b"\x81\xa4meta\x80".to_vec(), Some(options(&[("fluent_signal", 1.into())])));
        let (sink, wire) = run(&[], &frame, &[usize::MAX]);
        assert!(wire.closed.unwrap().starts_with("metrics came for tag `app`"));
        assert_eq!(sink.dropped(DropCause::Unsupported), 1);
    }

    #[test]
    fn what_is_no_frame_closes_the_connection() {
        let one = |value: Value| pack(&value);
        let wrong = [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0xc1],
            vec![0x91, 0xa1, b't'],
            one(Value::Array(vec![1.into(), 2.into(), body(1)])),
            one(Value::Array(vec!["t".into(), 1.5.into(), body(1)])),
            one(Value::Array(vec!["t".into(), 1.into()])),
            one(Value::Array(vec!["t".into(), 1.into(), "no map".into()])),
            packed(stored(1, 1), Some("no map".into())),
            packed(stored(1, 1), Some(options(&[("chunk", 1.into())]))),
        ];
        for bytes in wrong {
            let (sink, wire) = run(&[], &bytes, &[usize::MAX]);
            assert!(wire.closed.is_some(), "{bytes:x?}");
            assert_eq!(
                (sink.events().len(), sink.dropped(DropCause::Malformed)),
                (0, 1),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn a_paused_input_finishes_the_frames_in_hand() {
        let input = stream_input(&PLUGIN, &[]);
        let mut sink = TestSink::new();
        sink.flow = crate::plugin::input::Flow::Paused;
        Wire::connect(&*input).send(&all_modes(), &mut sink);
        assert_eq!(sink.events().len(), 6);
    }

    fn shake(
        password: &str,
        shared_key: &str,
        sizes: &[usize],
    ) -> (TestSink, Wire, [u8; SALT_BYTES]) {
        let input =
            stream_input(&PLUGIN, &[("shared_key", "key"), ("security.users", "ann right")]);
        let mut sink = TestSink::new();
        let mut wire = Wire::connect(&*input);
        let (helo, _) = parse_helo(&wire.reply).unwrap();
        let credentials = Credentials {
            hostname: "client".into(),
            shared_key: shared_key.into(),
            username: "ann".into(),
            password: password.into(),
        };
        let mut sent = Vec::new();
        ping(&helo, &credentials, &[7; SALT_BYTES], &mut sent);
        sent.extend(all_modes());
        wire.reply.clear();
        wire.send_in_pieces(&sent, sizes, &mut sink);
        (sink, wire, helo.nonce.try_into().unwrap())
    }

    #[test]
    fn after_the_handshake_frames_are_taken() {
        for sizes in [&[usize::MAX][..], &[1]] {
            let (sink, wire, nonce) = shake("right", "key", sizes);
            assert_eq!((sink.events().len(), &wire.closed), (6, &None));
            let (verdict, _) = check_pong(&wire.reply, &[7; SALT_BYTES], &nonce, "key").unwrap();
            assert_eq!(verdict, PongVerdict::Accepted);
        }
    }

    #[test]
    fn without_the_key_or_the_password_nothing_is_taken() {
        let (sink, wire, nonce) = shake("wrong", "key", &[usize::MAX]);
        assert!(sink.events().is_empty() && wire.closed.is_some());
        let (verdict, _) = check_pong(&wire.reply, &[7; SALT_BYTES], &nonce, "key").unwrap();
        assert_eq!(verdict, PongVerdict::Refused(WRONG_USER.into()));
        let (sink, wire, _) = shake("right", "other", &[usize::MAX]);
        assert!(sink.events().is_empty() && wire.closed.is_some() && wire.reply.is_empty());
        let (sink, wire) = run(&[("empty_shared_key", "on")], &all_modes(), &[usize::MAX]);
        assert!(sink.events().is_empty() && wire.closed.unwrap().contains("`shared_key`"));
    }

    proptest! {
        #[test]
        fn pieces_of_any_sizes_give_the_same_events(sizes in proptest::collection::vec(1usize..40, 1..9)) {
            let frames = all_modes();
            let (sink, wire) = run(&[], &frames, &sizes);
            let (whole, whole_wire) = run(&[], &frames, &[usize::MAX]);
            prop_assert_eq!((sink.events(), wire.reply), (whole.events(), whole_wire.reply));
        }

        #[test]
        fn mutated_frames_never_panic_and_keep_good_frames_before(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), size in 1usize..200
        ) {
            let good = packed(entries(1..4), None);
            let mut frames = all_modes();
            let at = at.index(frames.len());
            frames[at] = byte;
            let (mut sink, wire) = run(&[], &[good, frames].concat(), &[size]);
            prop_assert_eq!(&bytes(&sink)[..3].concat(), &entries(1..4));
            wire.end(&mut sink);
        }
    }
}
