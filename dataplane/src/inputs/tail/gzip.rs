//! The text of a gzip file, decompressed as it is read. Unlike plain text it cannot be read again, so what is
//! not framed yet is kept here: up to one longest line and what one step decompresses.

use std::io::{self, Write};
use std::path::Path;

use flate2::write::MultiGzDecoder;

use crate::reactor::file::{OpenFile, Patience, Read};

/// Compressed bytes taken in one step. They may become a thousand times as many.
const STEP_BYTES: usize = 4096;

/// Whether a name says that a file is compressed (rule: it ends in `.gz`, in any case).
pub fn is_gzip_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
}

/// How filling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filled {
    /// There is as much text as was asked for.
    Enough,
    /// The end of the file is reached.
    AtEnd,
    /// The next page is not in memory.
    Cold,
    /// The rest of the file is no gzip; it is passed over.
    Broken,
}

/// A gzip file, half read.
#[derive(Debug)]
pub struct Gzip {
    decoder: MultiGzDecoder<Vec<u8>>,
    raw_offset: u64,
}

impl Gzip {
    /// From an offset at which a member begins.
    pub fn new(raw_offset: u64) -> Gzip {
        Gzip { decoder: MultiGzDecoder::new(Vec::new()), raw_offset }
    }

    /// Compressed bytes taken.
    pub fn raw_offset(&self) -> u64 {
        self.raw_offset
    }

    /// What is decompressed and not consumed.
    pub fn text(&self) -> &[u8] {
        self.decoder.get_ref()
    }

    /// Forgets the front of the text.
    pub fn consume(&mut self, byte_count: usize) {
        self.decoder.get_mut().drain(..byte_count);
    }

    /// Decompresses until there are `wanted` bytes of text. `size` is that of the file.
    ///
    /// # Errors
    /// Those of reading.
    pub fn fill(
        &mut self,
        file: &mut OpenFile,
        wanted: usize,
        size: u64,
        patience: Patience,
    ) -> io::Result<Filled> {
        let mut raw = [0; STEP_BYTES];
        while self.text().len() < wanted {
            let count = match file.read_at(&mut raw, self.raw_offset, patience)? {
                Read::Cold => return Ok(Filled::Cold),
                Read::Bytes(0) => return Ok(Filled::AtEnd),
                Read::Bytes(count) => count,
            };
            self.raw_offset += count as u64;
            // The text is in the decoder's buffer only after a flush.
            if self.decoder.write_all(&raw[..count]).and_then(|()| self.decoder.flush()).is_err() {
                let text = std::mem::take(self.decoder.get_mut());
                self.decoder = MultiGzDecoder::new(text);
                self.raw_offset = size.max(self.raw_offset);
                return Ok(Filled::Broken);
            }
        }
        Ok(Filled::Enough)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn member(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn members_are_joined_and_what_follows_them_is_passed_over() {
        let text: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.GZ");
        assert!(is_gzip_name(&path) && !is_gzip_name(Path::new("/x/gz")));
        let mut bytes = [member(&text), member("more\n")].concat();
        let good = bytes.len() as u64;
        bytes.extend_from_slice(b"garbage that is no member");
        for size in [good, bytes.len() as u64] {
            std::fs::write(&path, &bytes[..size as usize]).unwrap();
            let mut file = OpenFile::open(&path).unwrap();
            let mut gzip = Gzip::new(0);
            let mut seen = Vec::new();
            let end = loop {
                let filled = gzip.fill(&mut file, 1000, size, Patience::Wait).unwrap();
                seen.extend_from_slice(gzip.text());
                gzip.consume(gzip.text().len());
                if filled != Filled::Enough {
                    break filled;
                }
            };
            assert_eq!(end, if size == good { Filled::AtEnd } else { Filled::Broken });
            assert!(seen == format!("{text}more\n").as_bytes());
            assert_eq!(gzip.raw_offset(), size);
        }
    }
}
