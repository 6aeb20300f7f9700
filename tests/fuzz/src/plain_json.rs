//! A plain JSON decoder: a tree, one character after another, with the liberties that Fluent Bit takes.

use dataplane::codec::json::{DEPTH_MAX, JsonKind};
use rmpv::Value;

/// A value.
#[derive(Clone, Debug)]
pub enum Plain {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number, not negative.
    Uint(u64),
    /// A negative whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string of any bytes.
    Str(Vec<u8>),
    /// `[...]`
    Array(Vec<Plain>),
    /// `{...}`, repeated keys included.
    Map(Vec<Entry>),
}

/// Key and value.
pub type Entry = (Vec<u8>, Plain);

impl Plain {
    /// Whether a msgpack value is this one, to the last bit.
    pub fn is(&self, value: &Value) -> bool {
        match (self, value) {
            (Plain::Null, Value::Nil) => true,
            (Plain::Bool(a), Value::Boolean(b)) => a == b,
            (Plain::Uint(a), Value::Integer(b)) => b.as_u64() == Some(*a),
            (Plain::Int(a), Value::Integer(b)) => b.as_i64() == Some(*a),
            (Plain::Float(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
            (Plain::Str(a), Value::String(b)) => a == b.as_bytes(),
            (Plain::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is(b))
            }
            (Plain::Map(a), Value::Map(b)) => {
                let is_entry = |((key, a), (name, b)): (&Entry, &(Value, Value))| {
                    matches!(name, Value::String(name) if name.as_bytes() == key) && a.is(b)
                };
                a.len() == b.len() && a.iter().zip(b).all(is_entry)
            }
            _ => false,
        }
    }
}

/// A value and what was seen on the way.
#[derive(Clone, Debug)]
pub struct Read {
    /// The value.
    pub value: Plain,
    /// Bytes read.
    pub consumed: usize,
    /// Whether a strict decoder would refuse a string of it.
    pub has_liberties: bool,
    /// Levels of arrays and objects.
    pub depth: usize,
}

impl Read {
    /// What kind of value it is.
    pub fn kind(&self) -> JsonKind {
        match self.value {
            Plain::Map(_) => JsonKind::Object,
            Plain::Array(_) => JsonKind::Array,
            _ => JsonKind::Scalar,
        }
    }
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The text ends too early.
    Incomplete,
    /// It is no JSON.
    Invalid,
}

/// The first value of a text.
///
/// # Errors
/// When there is none.
pub fn read(text: &[u8]) -> Result<Read, Failure> {
    let mut reader = Reader { text, at: 0, has_liberties: false, depth: 0 };
    reader.space();
    let value = reader.value(0)?;
    let Reader { at: consumed, has_liberties, depth, .. } = reader;
    Ok(Read { value, consumed, has_liberties, depth })
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    has_liberties: bool,
    depth: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<u8, Failure> {
        let byte = *self.text.get(self.at).ok_or(Failure::Incomplete)?;
        self.at += 1;
        Ok(byte)
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(|byte| b" \t\r\n".contains(byte)) {
            self.at += 1;
        }
    }

    fn expect(&mut self, word: &[u8]) -> Result<(), Failure> {
        word.iter().try_for_each(|byte| match self.next()? == *byte {
            true => Ok(()),
            false => Err(Failure::Invalid),
        })
    }

    fn value(&mut self, level: usize) -> Result<Plain, Failure> {
        match self.next()? {
            b'n' => self.expect(b"ull").map(|()| Plain::Null),
            b't' => self.expect(b"rue").map(|()| Plain::Bool(true)),
            b'f' => self.expect(b"alse").map(|()| Plain::Bool(false)),
            b'"' => self.string().map(Plain::Str),
            b'-' | b'0'..=b'9' => self.number(),
            b'[' => {
                let mut items = Vec::new();
                self.members(b']', level, |reader| {
                    items.push(reader.value(level + 1)?);
                    Ok(())
                })?;
                Ok(Plain::Array(items))
            }
            b'{' => {
                let mut entries = Vec::new();
                self.members(b'}', level, |reader| {
                    reader.expect(b"\"")?;
                    let key = reader.string()?;
                    reader.space();
                    reader.expect(b":")?;
                    reader.space();
                    entries.push((key, reader.value(level + 1)?));
                    Ok(())
                })?;
                Ok(Plain::Map(entries))
            }
            _ => Err(Failure::Invalid),
        }
    }

    fn members(
        &mut self,
        close: u8,
        level: usize,
        mut member: impl FnMut(&mut Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if level == DEPTH_MAX {
            return Err(Failure::Invalid);
        }
        self.depth = self.depth.max(level + 1);
        self.space();
        if self.text.get(self.at) == Some(&close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            member(self)?;
            self.space();
            match self.next()? {
                b',' => {}
                byte if byte == close => return Ok(()),
                _ => return Err(Failure::Invalid),
            }
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, Failure> {
        let mut text = Vec::new();
        loop {
            let byte = self.next()?;
            self.has_liberties |= byte < 0x20;
            let letter = match byte {
                b'"' => break,
                b'\\' => match self.next()? {
                    letter @ (b'"' | b'\\' | b'/') => char::from(letter),
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    b'u' => self.code()?,
                    _ => return Err(Failure::Invalid),
                },
                byte => {
                    text.push(byte);
                    continue;
                }
            };
            text.extend(letter.to_string().bytes());
        }
        self.has_liberties |= std::str::from_utf8(&text).is_err();
        Ok(text)
    }

    /// The letter of an escape, of two when they are a pair. A half of a pair is U+FFFD.
    fn code(&mut self) -> Result<char, Failure> {
        let first = self.unit()?;
        let is_pair = self.text[self.at..].starts_with(b"\\u") && (0xd800..0xdc00).contains(&first);
        let mut units = vec![first];
        let at = self.at;
        if is_pair {
            self.at += 2;
            units.push(self.unit()?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(letter)) if is_pair || letter.len_utf16() == 1 => Ok(letter),
            _ => {
                self.at = at;
                self.has_liberties = true;
                Ok('\u{fffd}')
            }
        }
    }

    fn unit(&mut self) -> Result<u16, Failure> {
        // All four are there before one is looked at.
        let digits = self.text.get(self.at..self.at + 4).ok_or(Failure::Incomplete)?;
        self.at += 4;
        let digits = std::str::from_utf8(digits).map_err(|_| Failure::Invalid)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Failure::Invalid);
        }
        u16::from_str_radix(digits, 16).map_err(|_| Failure::Invalid)
    }

    fn number(&mut self) -> Result<Plain, Failure> {
        self.at -= 1;
        let start = self.at;
        self.at += usize::from(self.text[start] == b'-');
        let whole = self.digits()?;
        if whole > 1 && self.text[self.at - whole] == b'0' {
            return Err(Failure::Invalid);
        }
        let mut is_whole = true;
        if self.text.get(self.at) == Some(&b'.') {
            is_whole = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            is_whole = false;
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = String::from_utf8_lossy(&self.text[start..self.at]);
        if is_whole && let Ok(number) = text.parse::<i64>() {
            return Ok(u64::try_from(number).map_or(Plain::Int(number), Plain::Uint));
        }
        if is_whole && let Ok(number) = text.parse::<u64>() {
            return Ok(Plain::Uint(number));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Plain::Float(number)),
            _ => Err(Failure::Invalid),
        }
    }

    /// One digit at least; how many there are.
    fn digits(&mut self) -> Result<usize, Failure> {
        let rest = &self.text[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        match count {
            0 if count == rest.len() => Err(Failure::Incomplete),
            0 => Err(Failure::Invalid),
            count => Ok(count),
        }
    }
}
