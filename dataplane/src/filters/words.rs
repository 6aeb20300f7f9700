//! Values of filter keys that are several words.

use config::Value;

use crate::event::encoder::put_str;

/// Two words: a key and a value. Blanks stand within `"..."`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair(pub String, pub String);

impl Value for Pair {
    const TYPE: &'static str = "key and value";
    fn parse(text: &str) -> Result<Self, String> {
        match <[String; 2]>::try_from(tokens(text, 2)) {
            Ok([key, value]) => Ok(Pair(key, value)),
            Err(words) => Err(format!(
                "`{text}` is {} words: write a key and a value, with quotes around blanks",
                words.len()
            )),
        }
    }
}

/// Words between blanks, `"..."` for one with blanks, in which `\"` is a quote. What follows the first `count`
/// words is one word more, as it is.
pub(super) fn tokens(text: &str, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(' ');
    while !rest.is_empty() {
        if words.len() == count {
            words.push(rest.to_owned());
            break;
        }
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_word(quoted, '"'),
            None => plain_word(rest),
        };
        words.push(word);
        rest = after.trim_start_matches(' ');
    }
    words
}

/// Words between blanks, `"..."` or `'...'` for one with blanks.
///
/// # Errors
/// When a quote is not closed.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_matches(' ');
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' if !is_closed(&rest[1..], first) => {
                return Err(format!("`{text}` has a quote that is not closed"));
            }
            '"' | '\'' => quoted_word(&rest[1..], first),
            _ => plain_word(rest),
        };
        words.push(word);
        rest = after.trim_start_matches(' ');
    }
    Ok(words)
}

/// Whether the quote stands in the text, other than behind a backslash.
fn is_closed(text: &str, quote: char) -> bool {
    let mut is_escaped = false;
    text.chars().any(|letter| {
        let closes = letter == quote && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        closes
    })
}

fn plain_word(text: &str) -> (String, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    (word.to_owned(), rest)
}

/// The text up to the closing quote, and what follows it. A quote that is not closed ends with the text.
fn quoted_word(text: &str, quote: char) -> (String, &str) {
    let mut word = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return (word, &text[at + 1..]);
        }
        match letters.peek() {
            Some((_, next)) if letter == '\\' && (*next == quote || *next == '\\') => {
                word.push(*next);
                letters.next();
            }
            _ => word.push(letter),
        }
    }
    (word, "")
}

/// A string as msgpack.
pub(super) fn encoded_str(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_str(&mut out, text.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_quoted_and_the_rest_stays_whole() {
        assert_eq!(tokens(r#" a  "b \"c\"" d  e "#, 2), ["a", r#"b "c""#, "d  e "]);
        assert_eq!(tokens("a", 2), ["a"]);
        assert!(tokens("  ", 2).is_empty());
        assert_eq!(Pair::parse(r#"k "v w""#), Ok(Pair("k".into(), "v w".into())));
        assert!(Pair::parse("k v w").is_err());
    }
}
