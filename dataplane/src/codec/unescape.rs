//! Takes escapes back, in the three ways that parsers name: `escaped`, `escaped_utf8` and `mysql_quoted`.

/// `escaped`: C's letters; before any other byte a backslash is dropped, and so it is at the end.
pub fn unescape_plain(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(letter) = rest.get(at + 1) else { return };
        match control(*letter) {
            Some(byte) => out.push(byte),
            None => out.push(*letter),
        }
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
}

/// The byte that C's letter stands for.
fn control(letter: u8) -> Option<u8> {
    Some(match letter {
        b'n' => b'\n',
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        _ => return None,
    })
}

/// `mysql_quoted`: what stands between two equal quotes, unescaped; any other text is left as it is.
pub fn unquote_mysql(text: &[u8], out: &mut Vec<u8>) {
    let inner = match text {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return out.extend_from_slice(text),
    };
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let Some(letter) = rest.get(at + 1) else {
            out.push(b'\\');
            return;
        };
        match letter {
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'Z' => out.push(0x1a),
            b'\\' | b'\'' | b'"' => out.push(*letter),
            other => out.extend_from_slice(&[b'\\', *other]),
        }
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest);
}

/// `escaped_utf8`: letters, octal, `\xHH`, `\uXXXX` with pairs of surrogates, `\UXXXXXXXX`. Half pairs become
/// U+FFFD; the text ends at a zero byte.
pub fn unescape_utf8(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((letter, after)) = rest.split_first() else {
            out.push(b'\\');
            return;
        };
        let (code, used) = match letter {
            b'0'..=b'7' => digits(rest, 8, 3),
            b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => {
                one_more(digits(after, 16, 2))
            }
            b'U' if after.first().is_some_and(u8::is_ascii_hexdigit) => {
                one_more(digits(after, 16, 8))
            }
            b'u' => one_more(utf16(after)),
            letter => (u32::from(control(*letter).unwrap_or(*letter)), 1),
        };
        rest = &rest[used..];
        if code >= 0x80 && letter.is_ascii() {
            put_code(code, out);
        } else {
            out.push(code as u8);
        }
    }
    out.extend_from_slice(rest);
}

fn one_more((code, used): (u32, usize)) -> (u32, usize) {
    (code, used + 1)
}

/// UTF-8 of a code point as far as it has one, surrogates included; a number beyond gives its lowest byte.
fn put_code(code: u32, out: &mut Vec<u8>) {
    let low = |shift: u32| 0x80 | (code >> shift & 0x3f) as u8;
    match code {
        0..0x800 => out.extend_from_slice(&[0xc0 | (code >> 6) as u8, low(0)]),
        0x800..0x1_0000 => out.extend_from_slice(&[0xe0 | (code >> 12) as u8, low(6), low(0)]),
        0x1_0000..0x11_0000 => {
            out.extend_from_slice(&[0xf0 | (code >> 18) as u8, low(12), low(6), low(0)]);
        }
        _ => out.push(code as u8),
    }
}

/// The number that up to `most` digits make, and how many they are.
fn digits(text: &[u8], radix: u32, most: usize) -> (u32, usize) {
    let digits = text.iter().take(most).map_while(|byte| char::from(*byte).to_digit(radix));
    digits.fold((0, 0), |(number, count), digit| (number * radix + digit, count + 1))
}

/// What stands behind `\u`.
fn utf16(text: &[u8]) -> (u32, usize) {
    const NONE: u32 = 0xfffd;
    let (first, used) = digits(text, 16, 4);
    if used != 4 && used > 0 || (0xdc00..0xe000).contains(&first) {
        return (NONE, used);
    }
    if !(0xd800..0xdc00).contains(&first) {
        return (first, used);
    }
    let Some(after) = text[used..].strip_prefix(b"\\u").filter(|after| !after.is_empty()) else {
        return (NONE, used);
    };
    let (second, more) = digits(after, 16, 4);
    let code = match second {
        0xdc00..0xe000 if more == 4 => 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00),
        _ => NONE,
    };
    (code, used + 2 + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(unescape: fn(&[u8], &mut Vec<u8>), text: &[u8]) -> String {
        let mut out = Vec::new();
        unescape(text, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn escapes_mean_what_their_decoder_says() {
        let table: [(&[u8], &str, &str, &str); 9] = [
            (b"plain", "plain", "plain", "plain"),
            (br"a\nb\tc\\d", "a\nb\tc\\d", "a\nb\tc\\d", r"a\nb\tc\\d"),
            (br#"\"q\" \/ \'"#, "\"q\" / '", "\"q\" / '", r#"\"q\" \/ \'"#),
            (
                br"\u00e9\x41\101\U0001F600",
                "u00e9x41101U0001F600",
                "éAA😀",
                r"\u00e9\x41\101\U0001F600",
            ),
            (
                br"\ud83d\ude00 \ud83d \udc00",
                "ud83dude00 ud83d udc00",
                "😀 \u{fffd} \u{fffd}",
                r"\ud83d\ude00 \ud83d \udc00",
            ),
            (br"end\", "end", r"end\", r"end\"),
            (br"'it\'s \Z \q'", "'it's Z q'", "'it's Z q'", "it's \u{1a} \\q"),
            (br#""two"'"#, "\"two\"'", "\"two\"'", "\"two\"'"),
            (b"a\0b", "a\0b", "a", "a\0b"),
        ];
        for (text, plain, utf8, mysql) in table {
            let seen = [unescape_plain, unescape_utf8, unquote_mysql].map(|way| shown(way, text));
            assert_eq!(seen, [plain, utf8, mysql], "{}", String::from_utf8_lossy(text));
        }
    }
}
