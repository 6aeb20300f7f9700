//! The pass over one line. See the module above it for why its reads and writes stay inside.

use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_load_si256, _mm256_loadu_si256, _mm256_movemask_epi8,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_storeu_si256,
};

use crate::kernel::json_lines::keys::{KnownKey, Rank};
use crate::kernel::json_lines::numbers::{EXACT_POWERS, POWERS, digits, put_negative, put_uint};
use crate::kernel::json_lines::{Hooks, ObjectLines, Stop, Taken};

/// Room for a key and a short value, with what the stores write behind them.
const PAIR_ROOM: usize = 160;
/// Levels of nesting; deeper ones are for the plain encoder.
const DEPTH_MAX: usize = 32;

/// Where reading and writing stand. Functions that stop return [`STOPPED`] and say why in the pass.
#[derive(Clone, Copy)]
struct Places {
    from: *const u8,
    to: *mut u8,
}

const STOPPED: Places = Places { from: std::ptr::null(), to: std::ptr::null_mut() };

/// One line. Every `from` is at or before its newline; `to` stays `PAIR_ROOM` below `to_end` where it is checked,
/// and what is written between two checks is less.
struct Pass<'a, H> {
    memory: &'a mut ObjectLines,
    hooks: &'a mut H,
    out: &'a mut Vec<u8>,
    to_end: *mut u8,
    has_watched: bool,
    why: Stop,
}

/// # Safety
/// The processor must have AVX2 and BMI1, and a newline with `MARGIN` bytes behind it must follow `at`.
#[target_feature(enable = "avx2,bmi1")]
pub(super) unsafe fn put_line<H: Hooks>(
    memory: &mut ObjectLines,
    source: &[u8],
    at: usize,
    hooks: &mut H,
    out: &mut Vec<u8>,
) -> Result<usize, Stop> {
    let length = out.len();
    let room = out.capacity() - length;
    memory.known.begin_line();
    // SAFETY: `at` is inside the source, and the pointers stay inside the capacity of `out`.
    let (from, to, to_end) = unsafe {
        let to = out.as_mut_ptr().add(length);
        (source.as_ptr().add(at), to, to.add(room))
    };
    let mut pass = Pass { memory, hooks, out, to_end, has_watched: false, why: Stop::Other };
    // SAFETY: as the caller promised; `length` bytes of `out` were written before, and all between `length`
    // and the end of the object by the pass.
    unsafe {
        let from = skip_blanks(from);
        if *from != b'{' || room < PAIR_ROOM {
            return Err(if room < PAIR_ROOM { Stop::Room } else { Stop::Other });
        }
        let end = pass.object::<true>(Places { from: from.add(1), to }, 0);
        let newline = if end.from.is_null() { end.from } else { skip_blanks(end.from) };
        if newline.is_null() || *newline != b'\n' {
            pass.out.set_len(length);
            return Err(pass.why);
        }
        let base = pass.out.as_mut_ptr();
        pass.out.set_len(end.to.offset_from_unsigned(base));
        Ok(newline.offset_from_unsigned(source.as_ptr()) + 1)
    }
}

/// A newline is no blank here: nothing goes past it.
///
/// # Safety
/// A newline must follow.
#[inline(always)]
unsafe fn skip_blanks(mut from: *const u8) -> *const u8 {
    // SAFETY: the loop ends at the newline.
    unsafe {
        while *from <= b' ' && matches!(*from, b' ' | b'\t' | b'\r') {
            from = from.add(1);
        }
    }
    from
}

/// Bits of the quotes, and of all bytes that end a plain string.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn string_marks(block: __m256i) -> (u32, u32) {
    // SAFETY: as the caller promised.
    unsafe {
        let quotes = _mm256_cmpeq_epi8(block, _mm256_set1_epi8(b'"' as i8));
        let slashes = _mm256_cmpeq_epi8(block, _mm256_set1_epi8(b'\\' as i8));
        let newlines = _mm256_cmpeq_epi8(block, _mm256_set1_epi8(b'\n' as i8));
        let marks = _mm256_or_si256(quotes, _mm256_or_si256(slashes, newlines));
        (_mm256_movemask_epi8(quotes) as u32, _mm256_movemask_epi8(marks) as u32)
    }
}

/// # Safety
/// 32 bytes must be readable, and are with a newline at or behind `from`.
#[inline(always)]
unsafe fn load(from: *const u8) -> __m256i {
    // SAFETY: as the caller promised.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// # Safety
/// 32 bytes must be writable.
#[inline(always)]
unsafe fn store(to: *mut u8, block: __m256i) {
    // SAFETY: as the caller promised.
    unsafe { _mm256_storeu_si256(to.cast(), block) }
}

/// Whether the text of a key stands in `block`.
///
/// # Safety
/// The processor must have AVX2.
#[inline(always)]
unsafe fn is_key(key: &KnownKey, block: __m256i, rank: Rank) -> bool {
    // SAFETY: the texts of keys are 32 bytes, and aligned.
    let equal = unsafe {
        let text = _mm256_load_si256(key.text.as_ptr().cast());
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(block, text)) as u32
    };
    equal | key.beyond == u32::MAX && key.rank == rank
}

/// The first key from `next` on that stands in `block`, or else the first of all.
#[target_feature(enable = "avx2,bmi1")]
#[inline(never)]
fn search(keys: &[KnownKey], next: usize, block: __m256i, rank: Rank) -> Option<usize> {
    let (before, after) = keys.split_at(next.min(keys.len()));
    for (part, first) in [(after, before.len()), (before, 0)] {
        for (index, key) in part.iter().enumerate() {
            // SAFETY: the processor has AVX2.
            if unsafe { is_key(key, block, rank) } {
                return Some(first + index);
            }
        }
    }
    None
}

/// A key was read.
struct Key {
    at: Places,
    is_watched: bool,
}

// SAFETY of all methods: they are called with places as `Pass` describes them, on a processor with the features.
impl<H: Hooks> Pass<'_, H> {
    #[cold]
    fn stop(&mut self, why: Stop) -> Places {
        self.why = why;
        STOPPED
    }

    /// Whether so many bytes and a pair can be written.
    #[inline(always)]
    fn has_room(&self, to: *mut u8, bytes: usize) -> bool {
        (self.to_end as usize) - (to as usize) >= bytes + PAIR_ROOM
    }

    /// The object whose brace stands before `at.from`.
    #[target_feature(enable = "avx2,bmi1")]
    unsafe fn object<const IS_OUTERMOST: bool>(&mut self, at: Places, depth: usize) -> Places {
        let header = at.to;
        // SAFETY: as for all methods.
        unsafe {
            *header = 0x80;
            let mut at = Places { from: at.from, to: header.add(1) };
            let (mut count, mut rank) = (0, Rank::First);
            loop {
                if !self.has_room(at.to, 0) {
                    return self.stop(Stop::Room);
                }
                let start = at.to;
                let Some(key) = self.key(at, rank) else {
                    // Blanks before the brace, an empty object, or an error.
                    at.from = skip_blanks(at.from);
                    if *at.from != b'}' {
                        return self.stop(Stop::Other);
                    }
                    break;
                };
                let value = key.at.to;
                at = self.value(key.at, depth);
                if at.from.is_null() {
                    return at;
                }
                count += 1;
                if IS_OUTERMOST && key.is_watched && !self.has_watched {
                    self.has_watched = true;
                    if self.take(value, at.to) == Taken::Remove {
                        at.to = start;
                        count -= 1;
                    }
                }
                rank = Rank::Later;
                if *at.from == b'}' {
                    break;
                }
            }
            self.close(header, Places { from: at.from.add(1), to: at.to }, count, 0x80)
        }
    }

    /// The array whose bracket stands before `at.from`.
    #[target_feature(enable = "avx2,bmi1")]
    unsafe fn array(&mut self, at: Places, depth: usize) -> Places {
        let header = at.to;
        // SAFETY: as for all methods.
        unsafe {
            *header = 0x90;
            let mut at = Places { from: skip_blanks(at.from), to: header.add(1) };
            let mut count = 0;
            if *at.from != b']' {
                loop {
                    if !self.has_room(at.to, 0) {
                        return self.stop(Stop::Room);
                    }
                    at = self.value(at, depth);
                    if at.from.is_null() {
                        return at;
                    }
                    count += 1;
                    at.from = skip_blanks(at.from);
                    match *at.from {
                        b',' => at.from = skip_blanks(at.from.add(1)),
                        b']' => break,
                        _ => return self.stop(Stop::Other),
                    }
                }
            }
            self.close(header, Places { from: at.from.add(1), to: at.to }, count, 0x90)
        }
    }

    /// Writes the header of a map (0x80) or an array (0x90) over the byte that was left for it.
    #[inline(always)]
    unsafe fn close(&mut self, header: *mut u8, at: Places, count: usize, kind: u8) -> Places {
        if count > 15 {
            // SAFETY: as for all methods.
            return unsafe { self.close_wide(header, at, count, kind) };
        }
        // SAFETY: the header was written before.
        unsafe { *header = kind | count as u8 };
        at
    }

    #[cold]
    unsafe fn close_wide(&mut self, header: *mut u8, at: Places, count: usize, kind: u8) -> Places {
        let wide = if kind == 0x80 { 0xde } else { 0xdc };
        let Ok(count) = u16::try_from(count) else { return self.stop(Stop::Other) };
        if (self.to_end as usize) - (at.to as usize) < 2 {
            return self.stop(Stop::Room);
        }
        // SAFETY: there is room for two bytes more, and what is moved was written before.
        unsafe {
            let body = header.add(1);
            std::ptr::copy(body, header.add(3), at.to.offset_from_unsigned(body));
            *header = wide;
            body.cast::<[u8; 2]>().write_unaligned(count.to_be_bytes());
            Places { from: at.from, to: at.to.add(2) }
        }
    }

    /// A key up to its value; `None` where none stands here.
    #[inline(always)]
    unsafe fn key(&mut self, at: Places, rank: Rank) -> Option<Key> {
        // SAFETY: as for all methods; the text of a key holds no newline, so behind it the place is still at or
        // before that of the line.
        unsafe {
            let block = load(at.from);
            let known = &mut self.memory.known;
            let index = match known.keys.get(known.next) {
                Some(key) if is_key(key, block, rank) => known.next,
                _ => match known.keys.get(known.next + 1) {
                    // A key that not all records have is passed over.
                    Some(key) if is_key(key, block, rank) => known.next + 1,
                    _ => match search(&known.keys, known.next, block, rank) {
                        Some(index) => index,
                        None => return self.new_key(at, rank),
                    },
                },
            };
            known.next = index + 1;
            let key = &known.keys[index];
            store(at.to, _mm256_load_si256(key.encoded.as_ptr().cast()));
            let from = skip_blanks(at.from.add(usize::from(key.text_bytes)));
            let to = at.to.add(usize::from(key.encoded_bytes));
            Some(Key { at: Places { from, to }, is_watched: key.is_watched })
        }
    }

    #[target_feature(enable = "avx2,bmi1")]
    #[inline(never)]
    unsafe fn new_key(&mut self, at: Places, rank: Rank) -> Option<Key> {
        // SAFETY: as for all methods. The slices lie between places of one pass, over bytes that were read or
        // written.
        unsafe {
            let mut from = skip_blanks(at.from);
            if rank == Rank::Later {
                if *from != b',' {
                    return None;
                }
                from = skip_blanks(from.add(1));
            }
            if *from != b'"' {
                return None;
            }
            let behind = self.string(Places { from, to: at.to });
            if behind.from.is_null() {
                return None;
            }
            from = skip_blanks(behind.from);
            if *from != b':' {
                return None;
            }
            from = skip_blanks(from.add(1));
            let slice = std::slice::from_raw_parts;
            let text = slice(at.from, from.offset_from_unsigned(at.from));
            let encoded = slice(at.to.cast_const(), behind.to.offset_from_unsigned(at.to));
            let key = string_text(encoded);
            let is_watched = self.memory.watched.as_deref() == Some(key);
            self.memory.known.learn(text, encoded, rank, is_watched);
            Some(Key { at: Places { from, to: behind.to }, is_watched })
        }
    }

    #[inline(always)]
    unsafe fn value(&mut self, at: Places, depth: usize) -> Places {
        // SAFETY: as for all methods.
        unsafe {
            match *at.from {
                b'"' => self.string(at),
                b'-' | b'0'..=b'9' => self.number(at),
                b'{' | b'[' => self.container(at, depth),
                _ => self.word(at),
            }
        }
    }

    /// The object or the array that begins at `at.from`, inside so many others.
    #[target_feature(enable = "avx2,bmi1")]
    #[inline(never)]
    unsafe fn container(&mut self, at: Places, depth: usize) -> Places {
        if depth >= DEPTH_MAX {
            return self.stop(Stop::Other);
        }
        // SAFETY: as for all methods.
        unsafe {
            let inside = Places { from: at.from.add(1), to: at.to };
            match *at.from {
                b'{' => self.object::<false>(inside, depth + 1),
                _ => self.array(inside, depth + 1),
            }
        }
    }

    #[inline(always)]
    unsafe fn word(&mut self, at: Places) -> Places {
        // SAFETY: as for all methods; four bytes from the place are inside the margin.
        unsafe {
            let front = &at.from.cast::<[u8; 4]>().read_unaligned();
            let (is_true, is_null) = (front == b"true", front == b"null");
            let is_false = (front == b"fals") & (*at.from.add(4) == b'e');
            if !(is_true | is_null | is_false) {
                return self.stop(Stop::Other);
            }
            // Which of them it is cannot be foreseen, so nothing branches on it.
            let length = 4 + usize::from(is_false);
            let byte = 0xc0 + 3 * u8::from(is_true) + 2 * u8::from(is_false);
            *at.to = byte;
            Places { from: at.from.add(length), to: at.to.add(1) }
        }
    }

    /// The string whose quote stands at `at.from`.
    #[inline(always)]
    unsafe fn string(&mut self, at: Places) -> Places {
        // SAFETY: as for all methods. Without a mark in a block the newline is behind the block.
        unsafe {
            let text = at.from.add(1);
            let block = load(text);
            store(at.to.add(1), block);
            let (quotes, marks) = string_marks(block);
            let length = marks.trailing_zeros();
            // The first mark is a quote.
            if quotes & marks & marks.wrapping_neg() != 0 {
                *at.to = 0xa0 | length as u8;
                let length = length as usize;
                return Places { from: text.add(length + 1), to: at.to.add(length + 1) };
            }
            if marks != 0 {
                return self.scalar(at);
            }
            let second = load(text.add(32));
            let (quotes, marks) = string_marks(second);
            if quotes & marks & marks.wrapping_neg() == 0 {
                return if marks == 0 { self.long_string(at) } else { self.scalar(at) };
            }
            let length = 32 + marks.trailing_zeros() as usize;
            at.to.cast::<[u8; 2]>().write_unaligned([0xd9, length as u8]);
            store(at.to.add(2), block);
            store(at.to.add(34), second);
            Places { from: text.add(length + 1), to: at.to.add(length + 2) }
        }
    }

    /// A string of 64 bytes and more.
    #[target_feature(enable = "avx2,bmi1")]
    #[inline(never)]
    unsafe fn long_string(&mut self, at: Places) -> Places {
        // SAFETY: as for all methods. The copy goes up to 31 bytes further than the string, on both sides.
        unsafe {
            let text = at.from.add(1);
            let mut length = 64;
            loop {
                let (quotes, marks) = string_marks(load(text.add(length)));
                if marks == 0 {
                    length += 32;
                    continue;
                }
                if quotes & marks & marks.wrapping_neg() == 0 {
                    return self.scalar(at);
                }
                length += marks.trailing_zeros() as usize;
                break;
            }
            if !self.has_room(at.to, length) {
                return self.stop(Stop::Room);
            }
            let Ok(length_u16) = u16::try_from(length) else { return self.scalar(at) };
            let [high, low] = length_u16.to_be_bytes();
            let to = if high == 0 {
                at.to.cast::<[u8; 2]>().write_unaligned([0xd9, low]);
                at.to.add(2)
            } else {
                at.to.cast::<[u8; 3]>().write_unaligned([0xda, high, low]);
                at.to.add(3)
            };
            let mut done = 0;
            while done < length {
                store(to.add(done), load(text.add(done)));
                done += 32;
            }
            Places { from: text.add(length + 1), to: to.add(length) }
        }
    }

    /// A number of up to 15 digits without an exponent.
    #[inline(always)]
    unsafe fn number(&mut self, at: Places) -> Places {
        // SAFETY: as for all methods; no digit is a newline.
        unsafe {
            let is_negative = *at.from == b'-';
            let first = at.from.add(usize::from(is_negative));
            let (mut whole, mut count) = digits(first);
            if count == 8 {
                let (low, more) = digits(first.add(8));
                if more == 8 {
                    return self.scalar(at);
                }
                whole = whole * POWERS[more] + low;
                count += more;
            }
            let behind = first.add(count);
            if count == 0 || (count > 1 && *first == b'0') {
                return self.stop(Stop::Other);
            }
            match *behind {
                b'.' => {}
                b'e' | b'E' => return self.scalar(at),
                _ if is_negative => {
                    let to = put_negative(whole, at.to);
                    return Places { from: behind, to };
                }
                _ => return Places { from: behind, to: put_uint(whole, at.to) },
            }
            let (fraction, decimals) = digits(behind.add(1));
            let from = behind.add(1 + decimals);
            let is_plain = (1..8).contains(&decimals) && count <= 8;
            if !is_plain || matches!(*from, b'e' | b'E') {
                return self.scalar(at);
            }
            // Both are exact as doubles, so their quotient is the nearest one.
            let digits = whole * POWERS[decimals] + fraction;
            let number = digits as i64 as f64 / EXACT_POWERS[decimals];
            let number = if is_negative { -number } else { number };
            *at.to = 0xcb;
            at.to.add(1).cast::<[u8; 8]>().write_unaligned(number.to_be_bytes());
            Places { from, to: at.to.add(9) }
        }
    }

    /// Lets the caller put a scalar.
    #[cold]
    #[target_feature(enable = "avx2,bmi1")]
    #[inline(never)]
    unsafe fn scalar(&mut self, at: Places) -> Places {
        // SAFETY: as for all methods: a newline follows, everything up to `to` was written, and the room is
        // that of `out`. Where `out` has moved nothing of it is used any more.
        unsafe {
            let newline = _mm256_set1_epi8(b'\n' as i8);
            let mut length = 0;
            loop {
                let equal = _mm256_cmpeq_epi8(load(at.from.add(length)), newline);
                match _mm256_movemask_epi8(equal) {
                    0 => length += 32,
                    mask => break length += mask.trailing_zeros() as usize,
                }
            }
            if !self.has_room(at.to, length) {
                return self.stop(Stop::Room);
            }
            let line = std::slice::from_raw_parts(at.from, length);
            let base = self.out.as_mut_ptr();
            self.out.set_len(at.to.offset_from_unsigned(base));
            let Some(taken) = self.hooks.put_scalar(line, self.out) else {
                return self.stop(Stop::Other);
            };
            if self.out.as_mut_ptr() != base || taken > length {
                return self.stop(Stop::Other);
            }
            Places { from: at.from.add(taken), to: base.add(self.out.len()) }
        }
    }

    /// Shows the value that was written between two places, if it is a string.
    #[inline(always)]
    unsafe fn take(&mut self, value: *mut u8, end: *mut u8) -> Taken {
        // SAFETY: as for all methods.
        let value = unsafe {
            std::slice::from_raw_parts(value.cast_const(), end.offset_from_unsigned(value))
        };
        match value.first() {
            Some(0xa0..=0xbf | 0xd9..=0xdb) => self.hooks.take(string_text(value)),
            _ => Taken::Keep,
        }
    }
}

/// The text of a whole msgpack string.
#[inline(always)]
fn string_text(encoded: &[u8]) -> &[u8] {
    let header = match encoded.first() {
        Some(0xd9) => 2,
        Some(0xda) => 3,
        Some(0xdb) => 5,
        _ => 1,
    };
    encoded.get(header..).unwrap_or_default()
}
