//! Parsers with regular expressions and times: any format and text against C's `strptime`, times that another library
//! wrote, and a parser that has read many lines against one that has read none.

use std::ffi::CString;

use dataplane::codec::strptime::{CivilTime, TimeFormat, Today};
use dataplane::event::time::EventTime;
use dataplane::plugin::parser::{Parsed, ParserScratch};
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::Offset;

use super::choices::Choices;
use super::parsers::{NOW, compile, parse};

/// The first bytes choose keys and made lines; then come a line with a format, one with an expression, and lines.
pub fn check(data: &[u8]) {
    let mut choices = Choices::of(data);
    match choices.below(3) {
        0 => check_made(choices),
        _ => check_any(choices),
    }
}

/// Expressions that find the time; the last stands for the one of the input.
const EXPRESSIONS: [&str; 5] = [
    "^(?<time>.*)$",
    r"^(?<host>[^ ]*) [^ ]* (?<user>[^ ]*) \[(?<time>[^\]]*)\](?: (?<code>\d+))?",
    r"^(?<time>[^ ]* {1,2}[^ ]* [^ ]*) (?<message>.*)$",
    r"(?<level>\w+)=(?<time>\S+)",
    "",
];

/// Keys that say the zone.
const ZONES: [(&str, &str); 6] = [
    ("time_offset", "+0000"),
    ("time_offset", "+0530"),
    ("time_offset", "-08:00"),
    ("time_zone", "America/New_York"),
    ("time_zone", "UTC"),
    ("time_strict", "on"),
];

/// Seconds that the clock goes on from line to line.
const STEPS: [u32; 6] = [0, 1, 60, 3600, 86_400, 20_000_000];

fn check_any(mut choices: Choices<'_>) {
    let zone = choices.one_of(&ZONES);
    let (keep, strict) = (choices.one_of(&["on", "off"]), choices.one_of(&["on", "off"]));
    let expression = choices.one_of(&EXPRESSIONS);
    let step = choices.one_of(&STEPS);
    let mut lines = choices.rest().split(|byte| *byte == b'\n');
    let format = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let own = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let expression = if expression.is_empty() { own.as_str() } else { expression };
    let lines: Vec<&[u8]> = lines.take(24).collect();
    for line in &lines {
        check_strptime(&format, line);
    }
    // Repeats of repeats are a matter of what an operator writes, and take a compiler gigabytes.
    if expression.len() > 120 || expression.matches('{').count() > 2 {
        return;
    }
    let mut section = vec![("format", "regex"), ("regex", expression), ("time_keep", keep)];
    section.extend([("time_key", "time"), ("time_format", &format), ("time_strict", strict)]);
    section.extend([zone, ("types", "code:integer")]);
    let Some(parser) = compile(&section) else { return };
    let mut scratch = ParserScratch::default();
    for (index, line) in lines.iter().enumerate() {
        let now = EventTime { secs: NOW.secs.wrapping_add(step * index as u32), nanos: 7 };
        let remembering = parse(&*parser, line, now, &mut scratch);
        let fresh = compile(&section).expect("it was taken before");
        let fresh = parse(&*fresh, line, now, &mut ParserScratch::default());
        assert_eq!(format!("{remembering:?}"), format!("{fresh:?}"), "line {index}");
    }
}

/// Conversions that C's library reads as BSD's does. `%p` changes what `%H` has read in BSD's.
const COMMON: &[u8] = b"YmdeHMSbBhaATRFynt%";

const TODAY: Today = Today { year: 2024, month: 1, day: 29 };

/// What C's library says of the same, where the rules are the same.
fn check_strptime(format: &str, text: &[u8]) {
    let (compiled, unknown) = TimeFormat::compile(format);
    let ours = compiled.read(text, || TODAY);
    assert!(unknown.is_none() || !ours.is_whole);
    assert!(ours.fraction >= 0.0 && ours.fraction < 1.0 && (0..=60).contains(&ours.second));
    let conversions: Vec<u8> =
        format.split('%').skip(1).map(|part| part.bytes().next().unwrap_or(b'%')).collect();
    let is_common = compiled.has_year() && conversions.iter().all(|letter| COMMON.contains(letter));
    let is_text = text.iter().all(|byte| byte.is_ascii() && *byte != 0);
    // A second of 61 is C's own.
    if !is_common || !is_text || text.windows(2).any(|two| two == b"61") {
        return;
    }
    let (Ok(c_format), Ok(c_text)) = (CString::new(format), CString::new(text)) else { return };
    // SAFETY: zeroes are a `tm`; both texts end with a zero byte.
    let (tm, end) = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        let end = libc::strptime(c_text.as_ptr(), c_format.as_ptr(), &raw mut tm);
        (tm, end)
    };
    if ours.is_whole {
        assert!(!end.is_null(), "`{format}` of `{}`: {ours:?}", text.escape_ascii());
        let theirs = [tm.tm_year + 1900, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec];
        let CivilTime { year, month, day, hour, minute, second, .. } = ours;
        assert_eq!([year, month, day, hour, minute, second], theirs.map(i64::from), "`{format}`");
    } else if !text.iter().any(u8::is_ascii_whitespace)
        && !conversions.iter().any(|letter| matches!(letter, b'n' | b't'))
        && !format.is_empty()
    {
        // It passes over blanks before numbers, and an end of the text where only blanks would follow.
        assert!(end.is_null(), "`{format}` of `{}` is a time", text.escape_ascii());
    }
}

/// Lines whose times jiff wrote: each must be read as what it was, whatever stood in the lines before.
fn check_made(mut choices: Choices<'_>) {
    let date = choices.one_of(&[
        "%Y-%m-%d",
        "%d/%b/%Y",
        "%F",
        "%Y%m%d",
        "%e %B %Y",
        "%Y/%j",
        "%a %b %e %Y",
        "%y%m%d",
        "%b %e",
    ]);
    let between = choices.one_of(&["T", " ", ":", "  ", ", "]);
    let clock = choices.one_of(&["%H:%M:%S", "%T", "%I:%M:%S %p", "%H%M%S", "%R:%S"]);
    let fraction = choices.one_of(&["", ".%L", ",%L"]);
    let zone = choices.one_of(&["", " %z", "%z", "Z"]);
    let (zone_key, zone_value) = choices.one_of(&ZONES[..3]);
    let format = format!("{date}{between}{clock}{fraction}{zone}");
    let has_year = date != "%b %e";
    let section = [
        ("format", "regex"),
        ("regex", "^(?<time>.*)$"),
        ("time_key", "time"),
        ("time_format", &*format),
        ("time_keep", "on"),
        (zone_key, zone_value),
    ];
    let parser = compile(&section).expect("the section is right");
    let mut scratch = ParserScratch::default();
    let mut secs = i64::from(u32::from_be_bytes(std::array::from_fn(|_| choices.byte())));
    let mut now = NOW;
    for _ in 0..24 {
        if choices.is_empty() {
            break;
        }
        secs += i64::from(choices.one_of(&STEPS)) * i64::from(choices.byte() as i8);
        now.secs += choices.one_of(&STEPS);
        let nanos = u32::from(choices.byte()) * 3_906_251;
        // What the text says of the zone, else what the key says. A `Z` counts behind seconds alone.
        let is_utc = format.contains("%SZ") || format.contains("%S.%LZ");
        let minutes = match (zone, zone_value) {
            (" %z" | "%z", _) => i32::from(choices.byte() as i8) * 5,
            _ if is_utc => 0,
            (_, "+0530") => 330,
            (_, "-08:00") => -480,
            _ => 0,
        };
        let offset = Offset::from_seconds(minutes * 60).expect("below a day");
        let Ok(stamp) = jiff::Timestamp::from_second(secs) else { return };
        let mut local = offset.to_datetime(stamp);
        if !has_year {
            let year = Offset::UTC
                .to_datetime(jiff::Timestamp::from_second(now.secs.into()).expect("a time"))
                .year();
            let Ok(moved) = DateTime::new(
                year,
                local.month(),
                local.day(),
                local.hour(),
                local.minute(),
                local.second(),
                0,
            ) else {
                continue;
            };
            local = moved;
        }
        let Ok(expected) = offset.to_timestamp(local) else { return };
        let text = written(&format, local, offset, nanos);
        let (parsed, _) = parse(&*parser, text.as_bytes(), now, &mut scratch);
        let Parsed::Body { time, .. } = parsed else {
            panic!("`{format}` of `{text}`: {parsed:?}")
        };
        // Years of two digits end in 2068; seconds before 1970 and after 2106 no event can bear.
        if !(1..i64::from(u32::MAX)).contains(&expected.as_second())
            || date == "%y%m%d" && local.year() > 2068
        {
            continue;
        }
        let time = time.unwrap_or_else(|| panic!("`{format}` of `{text}` has no time"));
        assert_eq!(i64::from(time.secs), expected.as_second(), "`{format}` of `{text}`");
        let nanos = if fraction.is_empty() { 0 } else { nanos };
        assert!(time.nanos.abs_diff(nanos) <= 1, "`{format}` of `{text}`: {time:?}");
    }
}

fn written(format: &str, local: DateTime, offset: Offset, nanos: u32) -> String {
    let format = format.replace("%L", &format!("{nanos:09}"));
    let zoned =
        offset.to_timestamp(local).expect("it was one").to_zoned_datetime(offset.to_time_zone());
    strtime::format(&format, &zoned).expect("jiff knows these conversions")
}
