//! The legacy form, `[time, body]`, for plugins whose SDK does not know the stored one.

use crate::event::reader::{EventKind, Events};

/// Appends the events of a chunk in the legacy form. Metadata is left out, and so are group markers, which
/// the form cannot say. Returns how many records were written.
pub fn to_v1(chunk: &[u8], out: &mut Vec<u8>) -> u32 {
    let mut record_count = 0;
    for event in Events::new(chunk) {
        let Ok(event) = event else { break };
        if event.kind != EventKind::Log {
            continue;
        }
        out.extend_from_slice(&[0x92, 0xd7, 0x00]);
        out.extend_from_slice(&event.time.to_bytes());
        out.extend_from_slice(event.body);
        record_count += 1;
    }
    record_count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::encoder::{event_header, put_map_len, put_str};
    use crate::event::time::EventTime;

    #[test]
    fn a_stored_event_becomes_a_legacy_one() {
        let mut chunk = Vec::new();
        for secs in [9, u32::MAX] {
            event_header(&mut chunk, EventTime { secs, nanos: 1 });
            put_map_len(&mut chunk, 1);
            put_str(&mut chunk, b"k");
            put_str(&mut chunk, b"v");
        }
        let mut out = Vec::new();
        assert_eq!(to_v1(&chunk, &mut out), 1);
        let expected = [0x92, 0xd7, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0x81, 0xa1, b'k', 0xa1, b'v'];
        assert_eq!(out, expected);
    }
}
