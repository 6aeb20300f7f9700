//! Single lines: access logs, JSON records and container logs, with fields that vary as they do in production.

use std::io::Write;

const WORDS: [&str; 16] = [
    "request",
    "completed",
    "user",
    "session",
    "timeout",
    "connection",
    "database",
    "cache",
    "retry",
    "payment",
    "gateway",
    "service",
    "handler",
    "worker",
    "queue",
    "message",
];

const METHODS: [&str; 8] = ["GET", "GET", "GET", "GET", "POST", "PUT", "HEAD", "DELETE"];
const CODES: [u16; 8] = [200, 200, 200, 201, 204, 304, 404, 500];
const LEVELS: [&str; 8] = ["info", "info", "info", "info", "debug", "debug", "warn", "error"];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/132.0",
    "curl/8.5.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Edg/130.0",
    "kube-probe/1.31",
];

/// A generator without surprises: the same numbers in every run.
pub struct Numbers(u64);

impl Numbers {
    /// From the start.
    pub fn new() -> Numbers {
        Numbers(0x9E37_79B9_7F4A_7C15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn word(&mut self) -> &'static str {
        self.of(&WORDS)
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() as usize % choices.len()]
    }
}

/// What a file of lines holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LineKind {
    /// Access log lines with their number in front, some 130 bytes.
    Plain,
    /// Objects of ten keys and a nested one, some 330 bytes.
    Json,
    /// Access log lines in the combined form, some 165 bytes.
    Access,
    /// Lines of a container runtime, some 160 bytes; every eighth text is in parts.
    Cri,
}

impl LineKind {
    /// Appends the lines of one record.
    pub fn put(self, number: u64, random: &mut Numbers, out: &mut Vec<u8>) {
        match self {
            LineKind::Plain => plain(number, random, out),
            LineKind::Json => object(number, random, out),
            LineKind::Access => access(number, random, out),
            LineKind::Cri => cri(number, random, out),
        }
    }
}

// Writing to a vector cannot fail: the results of `writeln!` are left alone.

/// A line with its number in front.
pub fn plain(number: u64, random: &mut Numbers, out: &mut Vec<u8>) {
    let r = random.next();
    let (a, b, c) = (r & 255, r >> 8 & 255, r >> 16 & 255);
    let (path, id) = (random.word(), random.next() % 1_000_000);
    let (one, two, three) = (random.word(), random.word(), random.word());
    let bytes = r >> 24 & 16_383;
    let _ = writeln!(
        out,
        "{number} 10.{a}.{b}.{c} - - [10/Oct/2026:13:55:{:02} +0000] \"GET /api/v1/{path}/{id} HTTP/1.1\" 200 \
         {bytes} \"{one} {two} {three}\"",
        number % 60
    );
}

/// A JSON record of six keys, some 170 bytes.
pub fn short_object(number: u64, random: &mut Numbers, out: &mut Vec<u8>) {
    let r = random.next();
    let (path, id, word) = (random.word(), random.next() % 1_000_000, random.word());
    let _ = writeln!(
        out,
        "{{\"time\":\"2026-10-10T13:55:{:02}.{:06}Z\",\"level\":\"info\",\"message\":\"{word} GET \
         /api/v1/{path}/{id} {}\",\"status\":200,\"duration_ms\":{}.{},\"host\":\"web-{}\"}}",
        number % 60,
        number % 1_000_000,
        random.word(),
        r & 1023,
        r >> 10 & 7,
        r >> 16 & 15
    );
}

/// Hours, minutes, seconds and microseconds of a log that gets a line every 300 microseconds.
fn clock(number: u64) -> (u64, u64, u64, u64) {
    let micros = number * 300;
    let second = micros / 1_000_000;
    (second / 3600 % 24, second / 60 % 60, second % 60, micros % 1_000_000)
}

/// An error has a key more, and now and then there is something to escape.
fn object(number: u64, random: &mut Numbers, out: &mut Vec<u8>) {
    let (hour, minute, second, micros) = clock(number);
    let (r, trace, level) = (random.next(), random.next(), random.of(&LEVELS));
    let (service, path, one, two) = (random.word(), random.word(), random.word(), random.word());
    let quote = if r >> 59 == 0 { "\\\"" } else { "" };
    let _ = write!(
        out,
        "{{\"time\":\"2026-10-10T{hour:02}:{minute:02}:{second:02}.{micros:06}Z\",\"level\":\"{level}\",\
         \"service\":\"{service}-{}\",\"message\":\"{one} of {quote}{two}{quote} finished after {} steps\",\
         \"trace_id\":\"{trace:016x}{r:016x}\",\"status\":{},\"duration_ms\":{}.{:03},\"user_id\":{},\"cached\":{},",
        r & 7,
        r >> 3 & 31,
        random.of(&CODES),
        r >> 8 & 1023,
        (r >> 18) % 1000,
        r >> 28 & 0xff_ffff,
        r & 256 == 0,
    );
    if level == "error" {
        let _ = write!(out, "\"error\":\"{} {}\",", random.word(), random.word());
    }
    let _ = writeln!(
        out,
        "\"http\":{{\"method\":\"{}\",\"path\":\"/api/v1/{path}/{}\",\"client\":\"10.{}.{}.7\"}}}}",
        random.of(&METHODS),
        trace % 1_000_000,
        r >> 40 & 255,
        r >> 48 & 255
    );
}

fn access(number: u64, random: &mut Numbers, out: &mut Vec<u8>) {
    let (hour, minute, second, _) = clock(number);
    let r = random.next();
    let (path, id) = (random.word(), random.next() % 1_000_000);
    let user = if r >> 60 == 0 { random.word() } else { "-" };
    let _ = writeln!(
        out,
        "10.{}.{}.{} - {user} [10/Oct/2026:{hour:02}:{minute:02}:{second:02} +0000] \"{} /api/v1/{path}/{id} \
         HTTP/1.1\" {} {} \"https://example.com/{}\" \"{}\"",
        r & 255,
        r >> 8 & 255,
        r >> 16 & 255,
        random.of(&METHODS),
        random.of(&CODES),
        r >> 24 & 0xf_ffff,
        random.word(),
        random.of(&AGENTS)
    );
}

fn cri(number: u64, random: &mut Numbers, out: &mut Vec<u8>) {
    let (hour, minute, second, micros) = clock(number);
    let parts = if number % 8 == 7 { 3 } else { 1 };
    for part in 1..=parts {
        let r = random.next();
        let flag = if part == parts { 'F' } else { 'P' };
        let _ = writeln!(
            out,
            "2026-10-10T{hour:02}:{minute:02}:{second:02}.{micros:06}{:03}Z stdout {flag} {} {} {} level={} id={} \
             user={} {} took {} ms on {} path=/api/v1/{}",
            r % 1000,
            random.word(),
            random.word(),
            random.word(),
            random.of(&LEVELS),
            r >> 10 & 0xff_ffff,
            r >> 34 & 0xffff,
            random.word(),
            r >> 50 & 1023,
            random.word(),
            random.word(),
        );
    }
}
