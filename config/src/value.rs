//! Types of values, in Fluent Bit's spellings, but strict: what it silently reads as 0 is an error here.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::nearest;

/// A type that a value can be read as.
pub trait Value: Sized {
    /// Its name in help texts.
    const TYPE: &'static str;

    /// Reads a value.
    ///
    /// # Errors
    /// A sentence that quotes the value and says what it may be.
    fn parse(text: &str) -> Result<Self, String>;

    /// What to tell the operator where Fluent Bit reads an accepted value as something else.
    fn remark(_text: &str) -> Option<String> {
        None
    }
}

impl Value for String {
    const TYPE: &'static str = "text";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl Value for PathBuf {
    const TYPE: &'static str = "path";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }
}

impl Value for bool {
    const TYPE: &'static str = "boolean";
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(format!("`{text}` is no boolean: write `on` or `off`")),
        }
    }
}

macro_rules! number {
    ($($type:ty, $name:literal, $say:literal;)*) => {$(
        impl Value for $type {
            const TYPE: &'static str = $name;
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("`{text}` is no {}: write {}", $name, $say))
            }
        }
    )*};
}

number! {
    u64, "number", "a whole number from 0";
    u32, "number", "a whole number from 0";
    u16, "number", "a whole number from 0 to 65535";
    usize, "number", "a whole number from 0";
    i32, "number", "a whole number";
    i64, "number", "a whole number";
    f64, "number", "a number";
}

/// Bytes. `K`, `M`, `G` (or `KB`...) are decimal, `false` is 0, as in Fluent Bit (flb_utils_size_to_bytes). It
/// reads `5MiB` and `5 M` as no limit at all; here they mean what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Value for Size {
    const TYPE: &'static str = "size";
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no size: write a number with an optional K, M or G");
        if text.eq_ignore_ascii_case("false") {
            return Ok(Size(0));
        }
        let (digits, unit) = number_and_unit(text);
        let factor = match unit.to_ascii_uppercase().as_str() {
            "" | "B" => 1.0,
            "K" | "KB" => 1e3,
            "M" | "MB" => 1e6,
            "G" | "GB" => 1e9,
            "KIB" => 1024.0,
            "MIB" => 1024.0 * 1024.0,
            "GIB" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(wrong()),
        };
        let number: f64 = digits.parse().map_err(|_| wrong())?;
        let bytes = number * factor;
        if !(0.0..9e18).contains(&bytes) {
            return Err(wrong());
        }
        Ok(Size(bytes as u64))
    }

    fn remark(text: &str) -> Option<String> {
        let (digits, unit) = number_and_unit(text);
        let is_theirs = matches!(
            unit.to_ascii_uppercase().as_str(),
            "" | "K" | "KB" | "M" | "MB" | "G" | "GB" | "FALSE"
        );
        let has_gap = !digits.is_empty() && digits.len() + unit.len() < text.len();
        (!is_theirs || has_gap).then(|| {
            let Size(bytes) = Size::parse(text).unwrap_or(Size(0));
            format!("`{text}` is read as {bytes} bytes; Fluent Bit does not know this spelling")
        })
    }
}

/// Bytes, where `K` is 1024 in either spelling, as Fluent Bit has it for a few keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BinarySize(pub u64);

impl Value for BinarySize {
    const TYPE: &'static str = "size";
    fn parse(text: &str) -> Result<Self, String> {
        let (digits, unit) = number_and_unit(text);
        let binary = match unit.to_ascii_uppercase().as_str() {
            "K" | "KB" => "KIB",
            "M" | "MB" => "MIB",
            "G" | "GB" => "GIB",
            _ => unit,
        };
        match Size::parse(&format!("{digits}{binary}")) {
            Ok(Size(bytes)) => Ok(BinarySize(bytes)),
            Err(_) => {
                Err(format!("`{text}` is no size: write a number with an optional K, M or G"))
            }
        }
    }
}

/// `1.5` and `GB` of `1.5GB`, with or without blanks between.
fn number_and_unit(text: &str) -> (&str, &str) {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    (digits.trim_end(), &text[digits.len()..])
}

/// A time. `d`, `h`, `m` and `s` as in Fluent Bit; fractions and `ms` mean what they say, where Fluent Bit
/// reads `500ms` as 500 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Duration);

impl Value for Seconds {
    const TYPE: &'static str = "time";
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no time: write seconds, or a number with ms, s, m, h or d");
        let (digits, unit) = number_and_unit(text);
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "s" => 1.0,
            "ms" => 0.001,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = digits.parse().map_err(|_| wrong())?;
        Duration::try_from_secs_f64(number * factor).map(Seconds).map_err(|_| wrong())
    }

    fn remark(text: &str) -> Option<String> {
        let Seconds(time) = Seconds::parse(text).ok()?;
        let theirs = fluent_bits_seconds(text);
        (time != Duration::from_secs(theirs)).then(|| {
            format!("`{text}` is read as {time:?}; Fluent Bit reads it as {theirs} seconds")
        })
    }
}

/// The whole number a time begins with, and its last letter.
fn fluent_bits_seconds(text: &str) -> u64 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().unwrap_or(0);
    let factor = match text.as_bytes().last() {
        Some(b'd' | b'D') => 86_400,
        Some(b'h' | b'H') => 3600,
        Some(b'm' | b'M') => 60,
        _ => 1,
    };
    number.saturating_mul(factor)
}

/// Items between commas, trimmed; empty ones are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommaList(pub Vec<String>);

impl Value for CommaList {
    const TYPE: &'static str = "list";
    fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Ok(CommaList(items.map(str::to_owned).collect()))
    }
}

/// Words between blanks; `"..."` keeps blanks, `\"` inside is a quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl Value for Words {
    const TYPE: &'static str = "words";
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(first) = letters.next() {
            if first.is_whitespace() {
                continue;
            }
            let mut word = String::new();
            if first == '"' {
                loop {
                    match letters.next() {
                        Some('\\') if letters.peek() == Some(&'"') => {
                            letters.next();
                            word.push('"');
                        }
                        Some('"') => break,
                        Some(letter) => word.push(letter),
                        None => return Err(format!("`{text}` has a quote that is not closed")),
                    }
                }
            } else {
                word.push(first);
                while let Some(letter) = letters.next_if(|letter| !letter.is_whitespace()) {
                    word.push(letter);
                }
            }
            words.push(word);
        }
        Ok(Words(words))
    }
}

/// Permission bits such as `0644`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Octal(pub u32);

impl Value for Octal {
    const TYPE: &'static str = "octal";
    fn parse(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o7777 => Ok(Octal(bits)),
            _ => Err(format!("`{text}` is no permission: write octal digits such as 0644")),
        }
    }
}

/// The sentence for a word that is none of the choices.
pub fn no_choice(text: &str, choices: &[&str]) -> String {
    let listed: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
    let mut sentence = format!("`{text}` is none of {}", listed.join(", "));
    if let Some(near) = nearest(text, choices.iter().copied()) {
        sentence += &format!("; did you mean `{near}`?");
    }
    sentence
}

/// Declares an enum that is read from words, in any case. Several words may mean the same variant.
#[macro_export]
macro_rules! value_enum {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident {
            $($(#[$vmeta:meta])* $Variant:ident = $first:literal $(| $other:literal)*),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name { $($(#[$vmeta])* $Variant),+ }

        impl $crate::Value for $Name {
            const TYPE: &'static str = concat!("one of", $(" ", $first),+);
            fn parse(text: &str) -> Result<Self, String> {
                $(
                    if text.eq_ignore_ascii_case($first) $(|| text.eq_ignore_ascii_case($other))* {
                        return Ok($Name::$Variant);
                    }
                )+
                Err($crate::value::no_choice(text, &[$($first),+]))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::value_enum! {
        /// For the test.
        pub enum Format {
            /// One.
            Json = "json",
            /// Two.
            Lines = "json_lines" | "lines",
        }
    }

    #[test]
    fn sizes_are_decimal_and_strict() {
        let table =
            [("1K", 1000), ("1.5M", 1_500_000), ("2gb", 2_000_000_000), ("7", 7), ("false", 0)];
        for (text, bytes) in table {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
            assert_eq!(Size::remark(text), None, "{text}");
        }
        for (text, bytes) in [("5MiB", 5 << 20), ("5 M", 5_000_000), ("1kib", 1024)] {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
            assert!(Size::remark(text).is_some(), "{text}");
        }
        for wrong in ["", "K", "1T", "-1", "ten", "5 M B", "1e"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn binary_sizes_are_binary_in_either_spelling() {
        for (text, bytes) in
            [("1K", 1024), ("2MB", 2 << 20), ("1.5KiB", 1536), ("7", 7), ("false", 0)]
        {
            assert_eq!(BinarySize::parse(text), Ok(BinarySize(bytes)), "{text}");
        }
        assert!(BinarySize::parse("banana").is_err());
    }

    #[test]
    fn times_mean_what_they_say() {
        let table = [("5", 5000), ("0.2", 200), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000)];
        for (text, millis) in table {
            assert_eq!(Seconds::parse(text), Ok(Seconds(Duration::from_millis(millis))), "{text}");
        }
        assert!(Seconds::parse("soon").is_err() && Seconds::parse("-1").is_err());
        for (text, theirs) in
            [("500ms", Some(500)), ("1.5h", Some(3600)), ("2m", None), ("7s", None)]
        {
            let expected =
                theirs.map(|seconds| format!("Fluent Bit reads it as {seconds} seconds"));
            let remark = Seconds::remark(text);
            assert_eq!(remark.is_some(), expected.is_some(), "{text}");
            assert!(remark.unwrap_or_default().ends_with(&expected.unwrap_or_default()), "{text}");
        }
    }

    #[test]
    fn words_and_lists_split_as_in_fluent_bit() {
        assert_eq!(CommaList::parse(" a, b ,,c").unwrap().0, ["a", "b", "c"]);
        assert_eq!(Words::parse(r#"a "b c" "d\"e""#).unwrap().0, ["a", "b c", "d\"e"]);
        assert!(Words::parse("\"open").is_err());
        assert_eq!(Octal::parse("0644"), Ok(Octal(0o644)));
        assert!(Octal::parse("0689").is_err());
    }

    #[test]
    fn a_wrong_choice_lists_the_right_ones() {
        assert_eq!(Format::parse("LINES"), Ok(Format::Lines));
        let error = Format::parse("jsno").unwrap_err();
        assert_eq!(error, "`jsno` is none of `json`, `json_lines`; did you mean `json`?");
    }
}
