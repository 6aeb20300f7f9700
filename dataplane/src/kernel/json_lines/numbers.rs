//! Digits to numbers, eight at a time, and numbers to msgpack.

/// Powers of ten.
pub(super) const POWERS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// The same as doubles, which hold them exactly.
pub(super) const EXACT_POWERS: [f64; 8] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// Up to eight digits: their value and count.
///
/// # Safety
/// Eight bytes must be readable.
#[inline(always)]
pub(super) unsafe fn digits(from: *const u8) -> (u64, usize) {
    // SAFETY: as the caller promised.
    let block = u64::from_le_bytes(unsafe { from.cast::<[u8; 8]>().read_unaligned() });
    let digits = block ^ 0x3030_3030_3030_3030;
    let others = (digits & 0x7f7f_7f7f_7f7f_7f7f).wrapping_add(0x7676_7676_7676_7676) | digits;
    let count = ((others & 0x8080_8080_8080_8080).trailing_zeros() / 8) as usize;
    if count == 0 {
        return (0, 0);
    }
    // Zeros in front, then pairs, fours and eights.
    let digits = digits << (64 - 8 * count);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    (low.wrapping_add(high) >> 32, count)
}

/// Bytes behind the marker of a number of so many bits, and the marker.
const FORMS: [(u8, u8); 65] = {
    let mut forms = [(8, 0xcf); 65];
    let mut bits = 0;
    while bits <= 32 {
        forms[bits] = match bits {
            0..=7 => (0, 0),
            8 => (1, 0xcc),
            9..=16 => (2, 0xcd),
            _ => (4, 0xce),
        };
        bits += 1;
    }
    forms
};

/// How many bytes a number takes cannot be foreseen, so nothing branches on it.
///
/// # Safety
/// Nine bytes must be writable.
#[inline(always)]
pub(super) unsafe fn put_uint(number: u64, to: *mut u8) -> *mut u8 {
    let (width, marker) = FORMS[64 - number.leading_zeros() as usize];
    let bytes = number.wrapping_shl(64 - 8 * u32::from(width)).to_be_bytes();
    // SAFETY: as the caller promised.
    unsafe {
        *to = if width == 0 { number as u8 } else { marker };
        to.add(1).cast::<[u8; 8]>().write_unaligned(bytes);
        to.add(1 + usize::from(width))
    }
}

/// # Safety
/// Nine bytes must be writable.
#[inline(always)]
pub(super) unsafe fn put_negative(magnitude: u64, to: *mut u8) -> *mut u8 {
    let number = (magnitude as i64).wrapping_neg();
    // SAFETY: as the caller promised.
    unsafe {
        let (marker, width) = match number {
            0.. => return put_uint(number as u64, to),
            -32..=-1 => {
                *to = number as u8;
                return to.add(1);
            }
            -0x80..=-33 => (0xd0, 1),
            -0x8000..=-0x81 => (0xd1, 2),
            -0x8000_0000..=-0x8001 => (0xd2, 4),
            _ => (0xd3, 8),
        };
        *to = marker;
        let bytes = ((number as u64) << (64 - 8 * width)).to_be_bytes();
        to.add(1).cast::<[u8; 8]>().write_unaligned(bytes);
        to.add(1 + width)
    }
}
