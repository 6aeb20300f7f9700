//! The tag of a file: constant, made of its path (`kube.*`), or of named groups of a regular expression.

use std::path::Path;

use crate::codec::regex::{Captures, Found, Regex};
use crate::limits::TAG_BYTES_MAX;

/// Makes tags out of paths.
#[derive(Clone, Debug)]
pub enum TagMaker {
    /// The same for every file.
    Constant(Vec<u8>),
    /// What stands before the star and after it.
    Path {
        /// Before.
        before: String,
        /// After; further stars in it are dropped.
        after: String,
    },
    /// Text and group names in turn, and the expression.
    Groups {
        /// In order.
        pieces: Vec<Piece>,
        /// Applied to the path.
        regex: Regex,
    },
}

/// A piece of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Stands as it is.
    Text(String),
    /// The value of the group of that name, `_` when it has none.
    Group(String),
}

impl TagMaker {
    /// Reads the `tag` key, with `tag_regex` if there is one.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the tag.
    pub fn new(tag: &str, regex: Option<&Regex>) -> Result<TagMaker, String> {
        if let Some(regex) = regex {
            return Ok(TagMaker::Groups { pieces: pieces(tag)?, regex: regex.clone() });
        }
        Ok(match tag.split_once('*') {
            Some((before, after)) => TagMaker::Path { before: before.into(), after: after.into() },
            None => TagMaker::Constant(tag.as_bytes().to_vec()),
        })
    }

    /// The tag of a file.
    pub fn tag(&self, path: &Path) -> Vec<u8> {
        let path = path.as_os_str().as_encoded_bytes();
        let mut tag = match self {
            TagMaker::Constant(tag) => return tag.clone(),
            TagMaker::Path { before, after } => {
                sanitised(&[before.as_bytes(), path, after.as_bytes()])
            }
            TagMaker::Groups { pieces, regex } => {
                let mut captures = Captures::default();
                let is_match = regex.search(path, &mut captures) == Found::Match;
                let value = |name: &str| {
                    let group = regex.groups().iter().find(|group| is_match && group.name == name);
                    Some(&path[captures.named(group?)?])
                };
                let mut tag = Vec::new();
                for piece in pieces {
                    tag.extend_from_slice(match piece {
                        Piece::Text(text) => text.as_bytes(),
                        Piece::Group(name) => value(name).unwrap_or(b"_"),
                    });
                }
                tag
            }
        };
        tag.truncate(TAG_BYTES_MAX);
        tag
    }
}

fn pieces(tag: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = tag;
    while let Some((before, after)) = rest.split_once('<') {
        let group = after.split_once('>').filter(|(name, _)| !name.contains('<'));
        let Some((name, behind)) = group else {
            return Err(format!("`tag {tag}` has a `<` that is not closed: write `<name>`"));
        };
        pieces.push(Piece::Text(before.into()));
        pieces.push(Piece::Group(name.into()));
        rest = behind;
    }
    pieces.push(Piece::Text(rest.into()));
    Ok(pieces)
}

/// Separators become dots, runs of dots one dot; a leading separator, stars and a last dot are dropped.
fn sanitised(parts: &[&[u8]]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for byte in parts.concat() {
        match byte {
            b'*' => {}
            b'/' | b'\\' | b':' if out.is_empty() => {}
            b'/' | b'\\' | b':' | b'.' if out.last() == Some(&b'.') => {}
            b'/' | b'\\' | b':' => out.push(b'.'),
            _ => out.push(byte),
        }
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_expand_as_in_fluent_bit() {
        let container = "/var/log/containers/a_b_c-0ID.log";
        let table = [
            ("kube.*", container, "kube.var.log.containers.a_b_c-0ID.log"),
            ("*", "/var/log/x", "var.log.x"),
            ("*.", "/var/log/x.", "var.log.x"),
            ("a*b", "/x", "a.xb"),
            ("a.*.b*", "/x", "a.x.b"),
            ("*", "C:\\logs\\x", "C.logs.x"),
            ("plain", container, "plain"),
            ("a..b", container, "a..b"),
            ("", container, ""),
        ];
        for (tag, path, expected) in table {
            let made = TagMaker::new(tag, None).unwrap().tag(Path::new(path));
            assert_eq!(String::from_utf8(made).unwrap(), expected, "{tag} {path}");
        }
    }

    #[test]
    fn named_groups_are_put_into_the_tag_as_they_are() {
        let regex = Regex::new(r"(?<pod>[^/_]+)_(?<space>[^_]+)_(?<name>.+)-(?<none>x)?").unwrap();
        let path = Path::new("/var/log/containers/web_shop_front-0.log");
        let table = [
            ("k.<space>.<pod>.<name>", "k.shop.web.front"),
            ("<none>.<unknown>*..", "_._*.."),
            ("constant", "constant"),
        ];
        for (tag, expected) in table {
            let made = TagMaker::new(tag, Some(&regex)).unwrap().tag(path);
            assert_eq!(String::from_utf8(made).unwrap(), expected, "{tag}");
        }
        let made = TagMaker::new("a.<pod>", Some(&regex)).unwrap().tag(Path::new("/x"));
        assert_eq!(made, b"a._");
        assert!(TagMaker::new("a.<pod", Some(&regex)).is_err());
        assert!(TagMaker::new("a.<po<d>", Some(&regex)).is_err());
    }
}
