//! A tag: bytes that name a stream, owned with the NUL that C plugins need.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use crate::limits::TAG_BYTES_MAX;

/// The text of a tag, shared by the chunks that bear it. Always ends in a NUL that is not part of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tag(Arc<[u8]>);

impl Tag {
    /// Takes the bytes as they are, cut at [`TAG_BYTES_MAX`].
    pub fn new(text: &[u8]) -> Tag {
        let text = &text[..text.len().min(TAG_BYTES_MAX)];
        let mut owned = Vec::with_capacity(text.len() + 1);
        owned.extend_from_slice(text);
        owned.push(0);
        Tag(owned.into())
    }

    /// The bytes, without the NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// What a C plugin sees: up to the first NUL, should the wire have sent one.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nul_is_there_for_c_and_not_for_us() {
        let tag = Tag::new(b"kube.app");
        assert_eq!(tag.as_bytes(), b"kube.app");
        assert_eq!(tag.as_c_str(), c"kube.app");
        assert_eq!(Tag::new(b"a\0b").as_c_str(), c"a");
        assert_eq!(Tag::new(b"a\0b").as_bytes(), b"a\0b");
        assert_eq!(Tag::new(&[b'x'; 9000]).as_bytes().len(), TAG_BYTES_MAX);
    }
}
