//! A chunk as a frame of the forward protocol.
//!
//! The stored form of events is what the protocol's newest form is, so such a chunk goes on the wire as it
//! lies in memory, between a head and a tail. Order of the options as Fluent Bit writes them.

use std::borrow::Cow;
use std::io::{self, Write};

use flate2::write::GzEncoder;

use crate::chunk::Chunk;
use crate::event::encoder::{put_array_len, put_map_len, put_str, put_uint};
use crate::event::legacy::to_v1;
use crate::event::reader::{EventKind, Events};
use crate::reactor::yield_now;
use crate::wire::fluent::chunk_id;

/// Bytes compressed before the other tasks of the shard get their turn: about half a millisecond.
const COMPRESS_BYTES: usize = 32 * 1024;

/// How the entries of a frame are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryForm {
    /// `[[time, metadata], body]`, as they are stored.
    Stored,
    /// `[time, body]`.
    Legacy,
    /// `[seconds, body]`.
    Seconds,
}

/// How entries are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
}

/// What all frames of an instance have in common.
#[derive(Debug)]
pub(super) struct FrameRules {
    /// Sent instead of the tag of the chunk.
    pub(super) tag: Option<Vec<u8>>,
    pub(super) form: EntryForm,
    pub(super) compression: Compression,
    pub(super) with_options: bool,
    /// The peer must confirm each frame.
    pub(super) with_ack: bool,
    pub(super) add_options: Vec<(String, String)>,
}

/// The three pieces of a frame, in their order.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// Tag, and what announces the entries.
    pub(super) head: Vec<u8>,
    pub(super) entries: Cow<'a, [u8]>,
    /// The options, if any.
    pub(super) tail: Vec<u8>,
    /// What the peer must confirm.
    pub(super) ack: Option<String>,
}

impl FrameRules {
    /// Puts a chunk into a frame; `None` when nothing in it can be said in the form that is asked for.
    ///
    /// # Errors
    /// When compression fails.
    pub(super) async fn frame<'a>(&self, chunk: &'a Chunk) -> io::Result<Option<Frame<'a>>> {
        let (entries, count) = self.entries(chunk.bytes(), chunk.record_count());
        if count == 0 {
            return Ok(None);
        }
        // The id of whole seconds is that of the chunk, as Fluent Bit has it.
        let identified = if self.form == EntryForm::Seconds { chunk.bytes() } else { &entries };
        let ack = self.with_ack.then(|| chunk_id([identified]));
        let mut head = Vec::with_capacity(64);
        put_array_len(&mut head, if self.with_options { 3 } else { 2 });
        put_str(&mut head, self.tag.as_deref().unwrap_or(chunk.tag()));
        let entries = match self.compression {
            Compression::None => {
                put_array_len(&mut head, count as usize);
                entries
            }
            Compression::Gzip => {
                let packed = compress(&entries).await?;
                put_bin_head(&mut head, packed.len());
                Cow::Owned(packed)
            }
        };
        let mut tail = Vec::new();
        if self.with_options {
            self.put_options(&mut tail, ack.as_deref(), count);
        }
        Ok(Some(Frame { head, entries, tail, ack }))
    }

    fn entries<'a>(&self, chunk: &'a [u8], record_count: u32) -> (Cow<'a, [u8]>, u32) {
        if self.form == EntryForm::Stored {
            return (Cow::Borrowed(chunk), record_count);
        }
        let mut out = Vec::with_capacity(chunk.len());
        let count = match self.form {
            EntryForm::Seconds => put_entries_in_seconds(chunk, &mut out),
            _ => to_v1(chunk, &mut out),
        };
        (Cow::Owned(out), count)
    }

    fn put_options(&self, out: &mut Vec<u8>, ack: Option<&str>, count: u32) {
        let is_compressed = self.compression == Compression::Gzip;
        let optional = usize::from(ack.is_some()) + usize::from(is_compressed);
        put_map_len(out, 2 + optional + self.add_options.len());
        if let Some(id) = ack {
            put_str(out, b"chunk");
            put_str(out, id.as_bytes());
        }
        put_str(out, b"size");
        put_uint(out, u64::from(count));
        if is_compressed {
            put_str(out, b"compressed");
            put_str(out, b"gzip");
        }
        put_str(out, b"fluent_signal");
        put_uint(out, 0);
        for (name, value) in &self.add_options {
            put_str(out, name.as_bytes());
            put_str(out, value.as_bytes());
        }
    }
}

/// `[seconds, body]` for each record; group markers are left out. Returns how many were written.
fn put_entries_in_seconds(chunk: &[u8], out: &mut Vec<u8>) -> u32 {
    let mut count = 0;
    for event in Events::new(chunk) {
        let Ok(event) = event else { break };
        if event.kind == EventKind::Log {
            put_array_len(out, 2);
            put_uint(out, u64::from(event.time.secs));
            out.extend_from_slice(event.body);
            count += 1;
        }
    }
    count
}

/// The marker of a byte string whose bytes are sent apart.
fn put_bin_head(out: &mut Vec<u8>, length: usize) {
    match length {
        0..=0xff => out.extend_from_slice(&[0xc4, length as u8]),
        0x100..=0xffff => {
            out.push(0xc5);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0xc6);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}

async fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let out = Vec::with_capacity(bytes.len() / 4 + 64);
    let mut encoder = GzEncoder::new(out, flate2::Compression::default());
    for piece in bytes.chunks(COMPRESS_BYTES) {
        encoder.write_all(piece)?;
        if bytes.len() > COMPRESS_BYTES {
            yield_now().await;
        }
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use rmpv::Value;

    use super::*;
    use crate::chunk::InputId;
    use crate::event::encoder::event_header_with_metadata;
    use crate::event::time::EventTime;
    use crate::flush::watermark::Meter;
    use crate::tag::Tag;

    fn chunk() -> Chunk {
        let mut bytes = Vec::new();
        for secs in [u32::MAX, 7, 8] {
            let metadata = [0x81, 0xa1, b'm', 1];
            event_header_with_metadata(&mut bytes, EventTime { secs, nanos: 5 }, &metadata);
            bytes.extend_from_slice(&[0x81, 0xa1, b'k', 2]);
        }
        Chunk::new(bytes, Tag::new(b"app"), InputId(0), 3, Arc::new(Meter::unlimited()))
    }

    fn rules() -> FrameRules {
        FrameRules {
            tag: None,
            form: EntryForm::Stored,
            compression: Compression::None,
            with_options: false,
            with_ack: false,
            add_options: Vec::new(),
        }
    }

    fn value(rules: &FrameRules) -> Value {
        let chunk = chunk();
        let frame = futures_lite::future::block_on(rules.frame(&chunk)).unwrap().unwrap();
        let bytes = [&frame.head[..], &frame.entries, &frame.tail].concat();
        let mut rest = &bytes[..];
        let value = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        value
    }

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect())
    }

    fn time(secs: u32) -> Value {
        Value::Ext(0, (u64::from(secs) << 32 | 5).to_be_bytes().to_vec())
    }

    #[test]
    fn stored_events_go_as_they_are() {
        let chunk = chunk();
        let frame = futures_lite::future::block_on(rules().frame(&chunk)).unwrap().unwrap();
        assert!(matches!(&frame.entries, Cow::Borrowed(bytes) if *bytes == chunk.bytes()));
        assert_eq!(frame.head, b"\x92\xa3app\x93");
        assert!(frame.tail.is_empty() && frame.ack.is_none());
    }

    #[test]
    fn older_forms_leave_out_metadata_and_group_markers() {
        let body = map(&[("k", 2.into())]);
        let entries = |first: Value, second: Value| {
            Value::Array(vec![
                "x".into(),
                Value::Array(vec![
                    Value::Array(vec![first, body.clone()]),
                    Value::Array(vec![second, body.clone()]),
                ]),
            ])
        };
        let tagged = FrameRules { tag: Some(b"x".to_vec()), ..rules() };
        let legacy = FrameRules { form: EntryForm::Legacy, ..tagged };
        assert_eq!(value(&legacy), entries(time(7), time(8)));
        let seconds = FrameRules { form: EntryForm::Seconds, ..legacy };
        assert_eq!(value(&seconds), entries(7.into(), 8.into()));
    }

    #[test]
    fn options_stand_in_their_order() {
        let rules = FrameRules {
            compression: Compression::Gzip,
            with_options: true,
            with_ack: true,
            add_options: vec![("more".into(), "text".into())],
            ..rules()
        };
        let frame = value(&rules);
        let expected = map(&[
            ("chunk", chunk_id([chunk().bytes()]).into()),
            ("size", 3.into()),
            ("compressed", "gzip".into()),
            ("fluent_signal", 0.into()),
            ("more", "text".into()),
        ]);
        assert_eq!(frame[2], expected);
        let mut inflated = Vec::new();
        flate2::read::GzDecoder::new(frame[1].as_slice().unwrap())
            .read_to_end(&mut inflated)
            .unwrap();
        assert_eq!(inflated, chunk().bytes());
    }

    #[test]
    fn heads_of_byte_strings_are_those_of_whole_ones() {
        for length in [0, 255, 256, 65_535, 65_536] {
            let (mut head, mut whole) = (Vec::new(), Vec::new());
            put_bin_head(&mut head, length);
            crate::event::encoder::put_bin(&mut whole, &vec![7; length]);
            assert_eq!(head[..], whole[..whole.len() - length]);
        }
    }
}
