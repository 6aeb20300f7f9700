//! Abbreviations of time zones and the seconds they are ahead of UTC, as Fluent Bit knows them: `CST` is American,
//! `IST` Indian.

/// Names and quarters of an hour.
const NAMES: [(&str, i8); 79] = [
    ("GMT", 0),
    ("UTC", 0),
    ("Z", 0),
    ("UT", 0),
    ("EST", -20),
    ("EDT", -16),
    ("CST", -24),
    ("CDT", -20),
    ("MST", -28),
    ("MDT", -24),
    ("PST", -32),
    ("PDT", -28),
    ("AKST", -36),
    ("AKDT", -32),
    ("HST", -40),
    ("HADT", -36),
    ("AST", -16),
    ("ADT", -12),
    ("NST", -14),
    ("NDT", -10),
    ("WET", 0),
    ("WEST", 4),
    ("CET", 4),
    ("CEST", 8),
    ("EET", 8),
    ("EEST", 12),
    ("MSK", 12),
    ("ART", -12),
    ("BRT", -12),
    ("BRST", -8),
    ("CLT", -16),
    ("CLST", -12),
    ("AEST", 40),
    ("AEDT", 44),
    ("ACST", 38),
    ("ACDT", 42),
    ("AWST", 32),
    ("NZST", 48),
    ("NZDT", 52),
    ("JST", 36),
    ("KST", 36),
    ("SGT", 32),
    ("IST", 22),
    ("GST", 16),
    ("ICT", 28),
    ("WIB", 28),
    ("WITA", 32),
    ("WIT", 36),
    ("MYT", 32),
    ("BDT", 24),
    ("NPT", 23),
    ("WAT", 4),
    ("CAT", 8),
    ("EAT", 12),
    ("SAST", 8),
    ("A", 4),
    ("B", 8),
    ("C", 12),
    ("D", 16),
    ("E", 20),
    ("F", 24),
    ("G", 28),
    ("H", 32),
    ("I", 36),
    ("K", 40),
    ("L", 44),
    ("M", 48),
    ("N", -4),
    ("O", -8),
    ("P", -12),
    ("Q", -16),
    ("R", -20),
    ("S", -24),
    ("T", -28),
    ("U", -32),
    ("V", -36),
    ("W", -40),
    ("X", -44),
    ("Y", -48),
];

/// Seconds ahead of UTC, and the length, of the name that `text` begins with, in any case.
pub fn find(text: &[u8]) -> Option<(i64, usize)> {
    let length = text.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let word = &text[..length];
    if let Some(offset_secs) = lookup(word) {
        return Some((offset_secs, length));
    }
    // `UTC` and `GMT` may run into what follows.
    (word.starts_with(b"UTC") || word.starts_with(b"GMT")).then_some((0, 3))
}

/// Seconds ahead of UTC of an American zone that mail headers may name.
pub fn find_american(word: &[u8]) -> Option<i64> {
    let [first, second, third] = word.to_ascii_uppercase().try_into().ok()?;
    let is_american = b"ECMP".contains(&first) && b"SD".contains(&second) && third == b'T';
    lookup(word).filter(|_| is_american)
}

fn lookup(word: &[u8]) -> Option<i64> {
    let known = NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    known.map(|(_, quarters)| i64::from(*quarters) * 900)
}
