//! Undoes the compression of a packed frame, within a bound: a small frame may claim to hold terabytes.

use std::io::{self, Read};

/// How the entries of a frame are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the bytes themselves say wins over the label, because senders are known to mislabel; entries
    /// never begin like either format. Fluent Bit looks only where there are options.
    pub(super) fn of(bytes: &[u8], label: Option<&[u8]>) -> Compression {
        match (bytes, label) {
            ([0x1f, 0x8b, ..], _) => Compression::Gzip,
            ([0x28, 0xb5, 0x2f, 0xfd, ..], _) => Compression::Zstd,
            (_, Some(b"gzip")) => Compression::Gzip,
            (_, Some(b"zstd")) => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// Why nothing came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InflateError {
    /// More than the bound would come out.
    Oversized,
    /// Broken, cut off, or not of this format.
    Broken,
}

/// The smallest window exponent that is always granted: what zstd's own levels up to 19 use.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Replaces `out` by what `bytes` were, all members and frames of them, at most `bytes_max`.
///
/// # Errors
/// When that is not possible; `out` then holds nothing of use.
pub(super) fn inflate(
    bytes: &[u8],
    compression: Compression,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), InflateError> {
    out.clear();
    match compression {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Gzip => {
            read_bounded(flate2::bufread::MultiGzDecoder::new(bytes), out, bytes_max)?
        }
        Compression::Zstd => {
            let open = || -> io::Result<_> {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
                // A header may ask for a window of gigabytes; no larger one than the result is needed.
                let log = bytes_max.next_power_of_two().trailing_zeros();
                decoder.window_log_max(log.max(ZSTD_WINDOW_LOG))?;
                Ok(decoder)
            };
            let decoder = open().map_err(|_| InflateError::Broken)?;
            read_bounded(decoder, out, bytes_max)?;
        }
    }
    match out.len() > bytes_max {
        true => Err(InflateError::Oversized),
        false => Ok(()),
    }
}

fn read_bounded(
    reader: impl Read,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), InflateError> {
    let count = reader.take(bytes_max as u64 + 1).read_to_end(out);
    count.map(|_| ()).map_err(|_| InflateError::Broken)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated(bytes: &[u8], most: usize) -> Result<Vec<u8>, InflateError> {
        let mut out = b"left over".to_vec();
        inflate(bytes, Compression::of(bytes, None), &mut out, most).map(|()| out)
    }

    #[test]
    fn members_and_frames_are_joined() {
        let gzipped = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(inflated(&gzipped, 6), Ok(b"onetwo".to_vec()));
        let zstded =
            [zstd::encode_all(&b"one"[..], 1).unwrap(), zstd::encode_all(&b"two"[..], 1).unwrap()];
        assert_eq!(inflated(&zstded.concat(), 6), Ok(b"onetwo".to_vec()));
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let zeros = vec![0; 50_000_000];
        for bomb in [gzip(&zeros), zstd::encode_all(&zeros[..], 1).unwrap()] {
            let mut out = Vec::new();
            let result = inflate(&bomb, Compression::of(&bomb, None), &mut out, 1_000_000);
            assert_eq!(result, Err(InflateError::Oversized));
            assert!(out.capacity() < 4_000_000, "{}", out.capacity());
        }
    }

    #[test]
    fn cut_and_flipped_bytes_are_broken() {
        for whole in [gzip(b"some text"), zstd::encode_all(&b"some text"[..], 1).unwrap()] {
            for cut in 4..whole.len() {
                assert_eq!(inflated(&whole[..cut], 100), Err(InflateError::Broken), "{cut}");
            }
        }
        let mut flipped = gzip(b"some text");
        let crc = flipped.len() - 8;
        flipped[crc] ^= 1;
        assert_eq!(inflated(&flipped, 100), Err(InflateError::Broken));
    }

    #[test]
    fn the_first_bytes_win_over_the_label() {
        assert_eq!(Compression::of(&gzip(b"x"), Some(b"zstd")), Compression::Gzip);
        assert_eq!(Compression::of(&[0x92, 0], Some(b"gzip")), Compression::Gzip);
        assert_eq!(Compression::of(&[0x92, 0], Some(b"text")), Compression::None);
    }
}
