//! Where a JSON string ends, or needs care: the first quote or backslash. Short strings are written as well.
//!
//! JUSTIFICATION: strings are most of a JSON text, and most of them are short: looking at 32 bytes and storing them
//! in the same step saves the two calls that a copy of unknown length costs (37 ns less for a record of ten strings
//! than [`string_end`] and a copy). Control bytes and invalid UTF-8 pass, as they do in Fluent Bit.

/// Longest string that fits the one-byte header of msgpack.
const SHORT_MAX: usize = 31;

/// Position of the first `"` or `\` in `bytes`, or its length.
#[inline]
pub fn string_end(bytes: &[u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        // SSE2 is part of x86-64.
        sse2_string_end(bytes)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len())
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn sse2_string_end(bytes: &[u8]) -> usize {
    use std::arch::x86_64::{
        _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8,
    };
    let mut at = 0;
    while bytes.len() - at >= 16 {
        // SAFETY: SSE2 is part of x86-64, and 16 bytes from `at` on are inside the slice.
        let mask = unsafe {
            let block = _mm_loadu_si128(bytes.as_ptr().add(at).cast());
            let quotes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'"' as i8));
            let slashes = _mm_cmpeq_epi8(block, _mm_set1_epi8(b'\\' as i8));
            _mm_movemask_epi8(_mm_or_si128(quotes, slashes))
        };
        if mask != 0 {
            return at + mask.trailing_zeros() as usize;
        }
        at += 16;
    }
    at + scalar_string_end(&bytes[at..])
}

/// Appends the string that `bytes` begin with, behind its opening quote, as a msgpack string, and returns its
/// length. `None`, and nothing appended, for a string of more than 31 bytes, with a backslash, or so near the end
/// of `bytes` that 32 bytes cannot be read: those are for [`string_end`].
#[inline(always)]
pub fn put_short_string(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    {
        sse2_put_short_string(bytes, out)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        scalar_put_short_string(bytes, out)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn sse2_put_short_string(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
        _mm_storeu_si128,
    };
    if bytes.len() <= SHORT_MAX {
        return None;
    }
    out.reserve(1 + 32);
    // SAFETY: SSE2 is part of x86-64; 32 bytes can be read from `bytes`, and 33 written behind the end of `out`,
    // which was just reserved. The new length covers the header and `length` of the bytes written behind it.
    unsafe {
        let low = _mm_loadu_si128(bytes.as_ptr().cast());
        let high = _mm_loadu_si128(bytes.as_ptr().add(16).cast());
        let mask = |letter: u8| {
            let equal = |block: __m128i| {
                _mm_movemask_epi8(_mm_cmpeq_epi8(block, _mm_set1_epi8(letter as i8))) as u32
            };
            equal(low) | equal(high) << 16
        };
        let (quotes, slashes) = (mask(b'"'), mask(b'\\'));
        let length = quotes.trailing_zeros();
        // No quote, or a backslash before it.
        if quotes == 0 || slashes & (quotes ^ quotes.wrapping_sub(1)) != 0 {
            return None;
        }
        let end = out.as_mut_ptr().add(out.len());
        end.write(0xa0 | length as u8);
        _mm_storeu_si128(end.add(1).cast(), low);
        _mm_storeu_si128(end.add(17).cast(), high);
        out.set_len(out.len() + 1 + length as usize);
        Some(length as usize)
    }
}

/// The twin.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn scalar_put_short_string(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let length = scalar_string_end(bytes.get(..=SHORT_MAX)?);
    if bytes[..=SHORT_MAX].get(length) != Some(&b'"') {
        return None;
    }
    out.push(0xa0 | length as u8);
    out.extend_from_slice(&bytes[..length]);
    Some(length)
}

/// The twin.
fn scalar_string_end(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_vector_loop_equals_its_twin(bytes in "[a-z\"\\\\\n\u{e4}]{0,100}", pad in 0usize..80) {
            let text = "x".repeat(pad) + &bytes;
            prop_assert_eq!(string_end(text.as_bytes()), scalar_string_end(text.as_bytes()));
        }

        #[test]
        fn a_short_string_is_written_as_its_twin_writes_it(
            pad in 0usize..40, end in "[\"\\\\a]{0,3}", rest in "[a\"\\\\]{0,60}"
        ) {
            let text = "x".repeat(pad) + &end + &rest;
            let (mut out, mut twin) = (b"before".to_vec(), b"before".to_vec());
            let length = put_short_string(text.as_bytes(), &mut out);
            prop_assert_eq!(length, scalar_put_short_string(text.as_bytes(), &mut twin));
            prop_assert_eq!(out, twin);
        }
    }
}
