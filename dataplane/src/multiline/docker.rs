//! The lines of Docker's `json-file`: an object a line.

use crate::codec::json::{JsonError, JsonKind, encode_value};

/// Appends the record of a line to `out`; nothing, and `None`, when the line is no object. A further whole value
/// behind it makes it none, other text does not, as for parsers of format `json`.
pub(super) fn read(line: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    let value = encode_value(line, out).ok()?;
    let end = out.len();
    let rest = &line[value.consumed..];
    let is_followed = !rest.trim_ascii_start().is_empty()
        && match encode_value(rest, out) {
            Ok(_) => true,
            Err(JsonError::Incomplete | JsonError::Invalid(_)) => false,
        };
    if value.kind != JsonKind::Object || is_followed {
        out.truncate(start);
        return None;
    }
    out.truncate(end);
    Some(())
}
