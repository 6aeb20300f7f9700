//! `type_converter`: adds a key with the value of another in another type.

use std::io::Write;
use std::sync::Arc;

use config::{Problem, Problems, Section, Settings, Value};

use crate::codec::json_text::put_general;
use crate::event::accessor::Accessor;
use crate::event::encoder::{put_bool, put_f64, put_int, put_str, put_uint};
use crate::event::msgpack::{Head, read_head};
use crate::event::record::{Field, Record};
use crate::filters::words::{encoded_str, tokens};
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `type_converter` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "type_converter",
    summary: "adds a key with the value of another in another type",
    keys: TypeConverterSettings::KEYS,
    build,
};

config::value_enum! {
    /// Types of values.
    pub enum Type {
        /// A whole number.
        Int = "int",
        /// A whole number that is not negative.
        Uint = "uint",
        /// A number with a fraction.
        Float = "float",
        /// A hexadecimal number in a string.
        Hex = "hex",
        /// A string.
        Str = "string",
        /// A boolean.
        Bool = "bool",
    }
}

/// `FROM TO TYPE`.
#[derive(Clone, Debug)]
pub struct Conversion {
    from: Accessor,
    /// The new key, as msgpack.
    to: Vec<u8>,
    wanted: Type,
}

impl Value for Conversion {
    const TYPE: &'static str = "key, new key and type";
    fn parse(text: &str) -> Result<Self, String> {
        let words = tokens(text, 3);
        let [from, to, wanted] = words.as_slice() else {
            return Err(format!(
                "`{text}` is {} words: write a key, a new key and a type",
                words.len()
            ));
        };
        let wanted = Type::parse(wanted)?;
        Ok(Conversion { from: Accessor::parse(from)?, to: encoded_str(to), wanted })
    }
}

config::config_map! {
    /// What `type_converter` is told. Each value is a key, the key to add, and its type: int, uint, float, hex,
    /// string or bool.
    pub struct TypeConverterSettings {
        /// A key that holds a string.
        "str_key" => str_key: Conversion, repeat;
        /// A key that holds a whole number.
        "int_key" => int_key: Conversion, repeat;
        /// A key that holds a whole number that is not negative.
        "uint_key" => uint_key: Conversion, repeat;
        /// A key that holds a number with a fraction.
        "float_key" => float_key: Conversion, repeat;
    }
}

#[derive(Clone, Debug)]
struct Rule {
    kind: Type,
    conversion: Conversion,
}

struct TypeConverter {
    rules: Vec<Rule>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = TypeConverterSettings::read(section, context.engine_keys, problems)?;
    let mut rules = Vec::new();
    let TypeConverterSettings { str_key, int_key, uint_key, float_key } = settings;
    // Fluent Bit's order.
    let all = [
        (Type::Str, str_key),
        (Type::Int, int_key),
        (Type::Uint, uint_key),
        (Type::Float, float_key),
    ];
    for (kind, conversions) in all {
        for conversion in conversions {
            if !is_possible(kind, conversion.wanted) {
                let message = "a conversion between these two types never succeeds";
                problems.push(Problem::warning(section.span, message));
            }
            rules.push(Rule { kind, conversion });
        }
    }
    if rules.is_empty() {
        let problem = Problem::error(section.span, "`type_converter` has no rules");
        problems.push(problem.with_help("add a key such as `str_key FROM TO int`"));
        return None;
    }
    Some(Arc::new(TypeConverter { rules }))
}

fn is_possible(from: Type, to: Type) -> bool {
    match from {
        Type::Str => to != Type::Str,
        Type::Int => matches!(to, Type::Str | Type::Float | Type::Uint),
        Type::Uint => matches!(to, Type::Str | Type::Float | Type::Int),
        Type::Float => matches!(to, Type::Str | Type::Int | Type::Uint),
        Type::Hex | Type::Bool => false,
    }
}

impl FilterDefinition for TypeConverter {
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter> {
        let rules = self.rules.clone();
        let (log, has_failed) = (place.log.clone(), false);
        Box::new(Converter { rules, added: Vec::new(), value: Vec::new(), log, has_failed })
    }
}

struct Converter {
    rules: Vec<Rule>,
    /// Fields of the record at hand.
    added: Vec<Field>,
    value: Vec<u8>,
    log: Log,
    has_failed: bool,
}

impl Filter for Converter {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        self.added.clear();
        let mut is_any_done = false;
        for Rule { kind, conversion } in &self.rules {
            let Some(value) = conversion.from.get(record) else { continue };
            self.value.clear();
            let is_done = convert(*kind, value, conversion.wanted, &mut self.value).is_some();
            if !is_done {
                self.value.clear();
                self.value.extend_from_slice(value);
                if !self.has_failed {
                    self.log.error("a value could not be converted; others will not be told of");
                }
                self.has_failed = true;
            }
            is_any_done |= is_done;
            let key = record.store(|out| out.extend_from_slice(&conversion.to));
            let value = record.store(|out| out.extend_from_slice(&self.value));
            self.added.push(Field { key, value });
        }
        // What fails is kept as it was, beside what was done.
        if is_any_done {
            record.edit().append(&mut self.added);
        }
        Verdict::Keep
    }
}

/// Appends the value in the wanted type; `None` when it is of another type than the rule says, or cannot be it.
fn convert(kind: Type, value: &[u8], wanted: Type, out: &mut Vec<u8>) -> Option<()> {
    if !is_possible(kind, wanted) {
        return None;
    }
    match (kind, read_head(&mut &value[..])?) {
        (Type::Str, Head::Str(text)) => convert_text(text, wanted, out),
        (Type::Int, Head::Uint(number)) => convert_int(number as i64, wanted, out),
        (Type::Int, Head::Int(number)) => convert_int(number, wanted, out),
        (Type::Uint, Head::Uint(number)) => convert_uint(number, wanted, out),
        (Type::Uint, Head::Int(number)) => convert_uint(number as u64, wanted, out),
        (Type::Float, Head::Float(number)) => convert_float(number, wanted, out),
        _ => None,
    }
}

fn convert_int(number: i64, wanted: Type, out: &mut Vec<u8>) -> Option<()> {
    match wanted {
        Type::Str => put_text(format_args!("{number}"), out),
        Type::Float => put_f64(out, number as f64),
        _ => put_uint(out, number as u64),
    }
    Some(())
}

fn convert_uint(number: u64, wanted: Type, out: &mut Vec<u8>) -> Option<()> {
    match wanted {
        Type::Str => put_text(format_args!("{number}"), out),
        Type::Float => put_f64(out, number as f64),
        _ => put_int(out, number as i64),
    }
    Some(())
}

fn convert_float(number: f64, wanted: Type, out: &mut Vec<u8>) -> Option<()> {
    match wanted {
        Type::Str if number == number as i64 as f64 => put_text(format_args!("{number:.1}"), out),
        Type::Str => {
            // At most 24 characters, so the length fits the head.
            let head = out.len();
            out.push(0xa0);
            put_general(number, 16, out);
            out[head] |= (out.len() - head - 1) as u8;
        }
        Type::Int => put_int(out, number as i64),
        _ => put_uint(out, number as u64),
    }
    Some(())
}

/// Numbers are short: they need no buffer of their own.
fn put_text(text: std::fmt::Arguments<'_>, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 32];
    let room = buffer.len();
    let mut rest = &mut buffer[..];
    // What does not fit is a double of hundreds of digits, which the caller never has: it fits an i64.
    let _ = rest.write_fmt(text);
    let length = room - rest.len();
    put_str(out, &buffer[..length]);
}

/// As C reads numbers: blanks before it and anything behind it are no part of it.
fn convert_text(text: &[u8], wanted: Type, out: &mut Vec<u8>) -> Option<()> {
    let text = text.trim_ascii_start();
    match wanted {
        Type::Int => put_int(out, leading_int(text)?),
        Type::Uint => {
            let (digits, is_negative) = signed(text);
            let number = leading_digits(digits, 10)?;
            put_uint(out, if is_negative { number.wrapping_neg() } else { number });
        }
        Type::Hex => {
            let digits = text.strip_prefix(b"0x").or(text.strip_prefix(b"0X")).unwrap_or(text);
            put_uint(out, leading_digits(digits, 16)?);
        }
        Type::Float => put_f64(out, leading_float(text)),
        Type::Bool if begins(text, b"true") => put_bool(out, true),
        Type::Bool if begins(text, b"false") => put_bool(out, false),
        Type::Bool | Type::Str => return None,
    }
    Some(())
}

fn begins(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|front| front.eq_ignore_ascii_case(word))
}

fn signed(text: &[u8]) -> (&[u8], bool) {
    match text.split_first() {
        Some((b'-', rest)) => (rest, true),
        Some((b'+', rest)) => (rest, false),
        _ => (text, false),
    }
}

fn leading_int(text: &[u8]) -> Option<i64> {
    let (digits, is_negative) = signed(text);
    let number = leading_digits(digits, 10)?;
    Some(match is_negative {
        true => 0i64.checked_sub_unsigned(number).unwrap_or(i64::MIN),
        false => i64::try_from(number).unwrap_or(i64::MAX),
    })
}

/// The number that a text begins with, the largest there is if it is larger.
fn leading_digits(text: &[u8], radix: u32) -> Option<u64> {
    let digits = text.iter().map_while(|byte| char::from(*byte).to_digit(radix));
    let add = |sum: Option<u64>, digit| {
        let sum = sum.unwrap_or(0);
        let next = sum.checked_mul(u64::from(radix)).and_then(|sum| sum.checked_add(digit));
        Some(next.unwrap_or(u64::MAX))
    };
    digits.map(u64::from).fold(None, add)
}

fn leading_float(text: &[u8]) -> f64 {
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let end = text.iter().position(|byte| !is_part(byte)).unwrap_or(text.len());
    // The longest front that is a number; few characters are left to cut off.
    let fronts = (1..=end).rev().map(|end| &text[..end]);
    let numbers = fronts.filter_map(|front| std::str::from_utf8(front).ok()?.parse().ok());
    numbers.into_iter().next().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{errors, run};

    #[test]
    fn values_are_converted_into_new_keys() {
        let record = r#"{"s":"-12x","h":"0x1f","b":"TRUE","z":"0","w":"abc","f":1.5,"n":-3,"u":7,"a":["2.5e1 m"],"g":3.0}"#;
        let table = [
            ("str_key", "s r int", r#""r":-12"#),
            ("str_key", "h r hex", r#""r":31"#),
            ("str_key", "b r bool", r#""r":true"#),
            ("str_key", "z r int", r#""r":0"#),
            ("str_key", "w r float", r#""r":0.0"#),
            ("str_key", "$a[0] r float", r#""r":25.0"#),
            ("int_key", "n r string", r#""r":"-3""#),
            ("int_key", "n r float", r#""r":-3.0"#),
            ("uint_key", "u r int", r#""r":7"#),
            ("float_key", "f r string", r#""r":"1.5""#),
            ("float_key", "g r string", r#""r":"3.0""#),
            ("float_key", "f r int", r#""r":1"#),
        ];
        for (key, rule, added) in table {
            let expected = format!("{},{added}}}", record.trim_end_matches('}'));
            assert_eq!(run(&PLUGIN, &[(key, rule)], record).as_deref(), Some(&*expected), "{rule}");
        }
        for (key, rule) in [
            ("str_key", "w r int"),
            ("int_key", "s r string"),
            ("str_key", "nope r int"),
            ("str_key", "s r string"),
        ] {
            assert_eq!(run(&PLUGIN, &[(key, rule)], record).as_deref(), Some(record), "{rule}");
        }
        let both = [("str_key", "w r int"), ("str_key", "z t int")];
        let printed = run(&PLUGIN, &both, record).unwrap();
        assert!(printed.ends_with(r#","r":"abc","t":0}"#), "{printed}");
        for keys in
            [&[][..], &[("str_key", "a b")], &[("str_key", "a b date")], &[("int_key", "$[ b int")]]
        {
            assert_eq!(errors(&PLUGIN, keys).len(), 1, "{keys:?}");
        }
    }

    #[test]
    fn numbers_end_where_c_ends_them() {
        assert_eq!(leading_int(b"99999999999999999999"), Some(i64::MAX));
        assert_eq!(leading_int(b"-99999999999999999999"), Some(i64::MIN));
        assert_eq!(
            (leading_int(b"+5 "), leading_int(b"x5"), leading_int(b"-")),
            (Some(5), None, None)
        );
        assert_eq!(
            (leading_float(b"1e"), leading_float(b"-.5.6"), leading_float(b"")),
            (1.0, -0.5, 0.0)
        );
    }
}
