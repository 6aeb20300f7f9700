//! The expressions of the built-in parsers, by hand: a search of Oniguruma costs a microsecond, and a line meets up to ten.
//!
//! Each function is for text of one line, and leaves what takes knowledge of Unicode to its expression.

use memchr::memmem;

/// `.(?:Exception|Error|Throwable|V8 errors stack trace)[:\r\n]`
pub(super) fn thrown(line: &[u8]) -> Option<bool> {
    let words: [&[u8]; 4] = [b"Exception", b"Error", b"Throwable", b"V8 errors stack trace"];
    let mut ends = memchr::memchr2_iter(b':', b'\r', line);
    let is_named = |end: usize| {
        words
            .iter()
            .any(|word| line[..end].strip_suffix(*word).is_some_and(|rest| !rest.is_empty()))
    };
    Some(ends.any(is_named))
}

/// `^[ \t]*nested exception is:`
pub(super) fn nested(line: &[u8]) -> Option<bool> {
    Some(without_indent(line).starts_with(b"nested exception is:"))
}

/// `^[\r\n]*$`
pub(super) fn blank(line: &[u8]) -> Option<bool> {
    Some(line.iter().all(|byte| *byte == b'\r'))
}

/// `^[ \t]+(?:eval )?at `
pub(super) fn at(line: &[u8]) -> Option<bool> {
    let text = without_indent(line);
    let is_indented = text.len() < line.len();
    Some(is_indented && text.strip_prefix(b"eval ").unwrap_or(text).starts_with(b"at "))
}

/// `^[ \t]+--- End of inner exception stack trace ---$`
pub(super) fn end_of_inner(line: &[u8]) -> Option<bool> {
    let text = without_indent(line);
    let is_indented = text.len() < line.len();
    Some(is_indented && text == b"--- End of inner exception stack trace ---")
}

/// `^--- End of stack trace from previous location where exception was thrown ---$`
pub(super) fn end_of_previous(line: &[u8]) -> Option<bool> {
    let text = b"--- End of stack trace from previous location where exception was thrown ---";
    Some(line == text)
}

/// `^[ \t]*(?:Caused by|Suppressed):`
pub(super) fn caused(line: &[u8]) -> Option<bool> {
    let text = without_indent(line);
    Some(text.starts_with(b"Caused by:") || text.starts_with(b"Suppressed:"))
}

/// `^[ \t]*.{3} \d+ (?:more|common frames omitted)`
pub(super) fn more(line: &[u8]) -> Option<bool> {
    let indent = line.len() - without_indent(line).len();
    let front = line.get(..line.len().min(indent + 3))?;
    if !front.is_ascii() {
        return None;
    }
    // Blanks may be among the three.
    let is_more = |start: usize| {
        let Some(rest) = line.get(start + 3..).and_then(|rest| rest.strip_prefix(b" ")) else {
            return false;
        };
        let after = without_digits(rest);
        let is_word = after.starts_with(b" more") || after.starts_with(b" common frames omitted");
        after.len() < rest.len() && is_word
    };
    Some((0..=indent).any(is_more))
}

/// `\bpanic: `
pub(super) fn panic(line: &[u8]) -> Option<bool> {
    for start in memmem::find_iter(line, b"panic: ") {
        match line[..start].last() {
            Some(before) if !before.is_ascii() => return None,
            Some(before) if before.is_ascii_alphanumeric() || *before == b'_' => {}
            Some(_) | None => return Some(true),
        }
    }
    Some(false)
}

/// `http: panic serving`
pub(super) fn panic_serving(line: &[u8]) -> Option<bool> {
    Some(memmem::find(line, b"http: panic serving").is_some())
}

/// `^\[signal `
pub(super) fn signal(line: &[u8]) -> Option<bool> {
    Some(line.starts_with(b"[signal "))
}

/// `^$`
pub(super) fn empty(line: &[u8]) -> Option<bool> {
    Some(line.is_empty())
}

/// `^goroutine \d+ \[[^\]]+\]:$`
pub(super) fn goroutine(line: &[u8]) -> Option<bool> {
    let Some(rest) = line.strip_prefix(b"goroutine ") else { return Some(false) };
    let after = without_digits(rest);
    let state = after.strip_prefix(b" [").and_then(|state| state.strip_suffix(b"]:"));
    let is_state = state.is_some_and(|state| !state.is_empty() && !state.contains(&b']'));
    Some(after.len() < rest.len() && is_state)
}

/// `^(?:created by |[^\s:(]+\()`
pub(super) fn function(line: &[u8]) -> Option<bool> {
    let end = line.iter().position(|byte| is_space(*byte) || matches!(byte, b':' | b'('));
    let is_call = end.is_some_and(|end| end > 0 && line[end] == b'(');
    Some(is_call || line.starts_with(b"created by "))
}

/// `^\s`
pub(super) fn indented(line: &[u8]) -> Option<bool> {
    Some(line.first().is_some_and(|byte| is_space(*byte)))
}

/// `^Traceback \(most recent call last\):$`
pub(super) fn traceback(line: &[u8]) -> Option<bool> {
    Some(line == b"Traceback (most recent call last):")
}

/// `^[ \t]+File `
pub(super) fn file(line: &[u8]) -> Option<bool> {
    let text = without_indent(line);
    Some(text.len() < line.len() && text.starts_with(b"File "))
}

/// `[^ \t]`
pub(super) fn code(line: &[u8]) -> Option<bool> {
    Some(!without_indent(line).is_empty())
}

/// `^[^\s.():]+(?:\.[^\s.():]+)*:`
pub(super) fn named(line: &[u8]) -> Option<bool> {
    let end = line.iter().position(|byte| is_space(*byte) || matches!(byte, b'(' | b')' | b':'));
    let name = end.filter(|end| line[*end] == b':').map(|end| &line[..end]);
    Some(name.is_some_and(|name| name.split(|byte| *byte == b'.').all(|part| !part.is_empty())))
}

/// `^.+:\d+:in\s+.*`
pub(super) fn raised(line: &[u8]) -> Option<bool> {
    Some(has_place(line, 1))
}

/// `^\s+from\s+.*:\d+:in\s+.*`
pub(super) fn raised_from(line: &[u8]) -> Option<bool> {
    let text = without_spaces(line);
    let Some(rest) = text.strip_prefix(b"from").filter(|_| text.len() < line.len()) else {
        return Some(false);
    };
    let is_apart = rest.first().is_some_and(|byte| is_space(*byte));
    Some(is_apart && has_place(&rest[1..], 0))
}

/// Whether `:7:in ` stands somewhere, behind so many bytes or more.
fn has_place(text: &[u8], least: usize) -> bool {
    memmem::find_iter(text, b":in").any(|end| {
        let is_apart = text.get(end + 3).is_some_and(|byte| is_space(*byte));
        let digits = text[..end].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let before = &text[..end - digits];
        is_apart && digits > 0 && before.strip_suffix(b":").is_some_and(|rest| rest.len() >= least)
    })
}

fn without_indent(line: &[u8]) -> &[u8] {
    let indent = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &line[indent..]
}

fn without_spaces(line: &[u8]) -> &[u8] {
    let indent = line.iter().take_while(|byte| is_space(**byte)).count();
    &line[indent..]
}

fn without_digits(text: &[u8]) -> &[u8] {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    &text[count..]
}

/// `\s`
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0b | 0x0c | b'\r' | b' ')
}
