//! Which file a chunk goes to.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where an instance writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// All chunks into one file.
    One(PathBuf),
    /// Each tag into a file of its name, below this folder.
    ByTag(PathBuf),
}

impl Destination {
    /// As `path` and `file` say. Relative names are made absolute now: a daemon leaves its directory later.
    pub(super) fn new(path: Option<&str>, file: Option<&str>) -> Destination {
        let absolute = |text: &str| {
            std::path::absolute(Path::new(text)).unwrap_or_else(|_| PathBuf::from(text))
        };
        match (path, file) {
            // A leading slash of `file` does not lead out of `path`.
            (Some(path), Some(file)) => Destination::One(absolute(&format!("{path}/{file}"))),
            (None, Some(file)) => Destination::One(absolute(file)),
            (path, None) => Destination::ByTag(absolute(path.unwrap_or("."))),
        }
    }

    /// The file for a tag.
    pub(super) fn path_of(&self, tag: &[u8]) -> PathBuf {
        match self {
            Destination::One(path) => path.clone(),
            Destination::ByTag(folder) => folder.join(name_of_tag(tag)),
        }
    }
}

/// A relative path from a tag, which a client may have chosen: nothing in it leads out of the folder.
fn name_of_tag(tag: &[u8]) -> OsString {
    let mut name = Vec::with_capacity(tag.len());
    let parts = tag.split(|byte| matches!(byte, b'/' | b'\\')).filter(|part| !part.is_empty());
    for part in parts {
        if !name.is_empty() {
            name.push(b'/');
        }
        match part {
            b"." | b".." => name.push(b'_'),
            _ => name.extend(part.iter().map(|byte| match byte {
                b'-' | b'_' | b'.' => *byte,
                byte if byte.is_ascii_alphanumeric() => *byte,
                _ => b'_',
            })),
        }
    }
    if name.is_empty() {
        name.push(b'_');
    }
    OsString::from_vec(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tag_leads_out_of_the_folder() {
        let table = [
            ("app.web", "app.web"),
            ("/var/log/a b.log", "var/log/a_b.log"),
            ("../../etc/passwd", "_/_/etc/passwd"),
            ("a//./b\\..\\c/", "a/_/b/_/c"),
            ("\u{e9}*", "___"),
            ("///", "_"),
            ("", "_"),
            ("...", "..."),
        ];
        for (tag, expected) in table {
            assert_eq!(name_of_tag(tag.as_bytes()), expected, "{tag}");
        }
    }

    #[test]
    fn path_and_file_are_put_together() {
        let path = |path, file| Destination::new(path, file).path_of(b"t");
        assert_eq!(path(Some("/x"), Some("/y/z")), Path::new("/x/y/z"));
        assert_eq!(path(Some("/x"), None), Path::new("/x/t"));
        assert_eq!(path(None, Some("/y")), Path::new("/y"));
        assert_eq!(path(None, None), std::env::current_dir().unwrap().join("t"));
    }
}
