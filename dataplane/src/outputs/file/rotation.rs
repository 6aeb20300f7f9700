//! Files that have grown are put aside under a dated name, compressed, and the oldest of them removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::log::Log;

/// The keys `rotate_*`.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    /// Size at which a file is put aside.
    pub(super) bytes_max: u64,
    /// Files put aside that are kept.
    pub(super) files_max: usize,
    /// Whether they are compressed.
    pub(super) is_compressed: bool,
}

impl Rotation {
    /// Puts a file aside. What fails is logged and tried again at the next chunk; the file goes on being written.
    pub(super) fn put_aside(&self, path: &Path, log: &Log) {
        let aside = with_suffix(path, &format!(".{}", stamp()));
        if let Err(error) = fs::rename(path, &aside) {
            log.warn(format_args!("could not rotate {}: {error}", path.display()));
            return;
        }
        log.info(format_args!("rotated {} to {}", path.display(), aside.display()));
        let newest = match self.is_compressed {
            false => aside,
            true => compress(&aside).unwrap_or_else(|error| {
                let shown = aside.display();
                log.warn(format_args!("keeping uncompressed rotated file {shown}: {error}"));
                aside
            }),
        };
        self.remove_oldest(path, &newest, log);
    }

    /// `newest` is kept in any case: file systems give files of one moment the same time.
    fn remove_oldest(&self, path: &Path, newest: &Path, log: &Log) {
        let mut aside = match list_aside(path) {
            Ok(aside) => aside,
            Err(error) => {
                log.warn(format_args!(
                    "cannot list files rotated from {}: {error}",
                    path.display()
                ));
                return;
            }
        };
        aside.sort_by(|(time, one), (other_time, other)| {
            (one == newest, time, one).cmp(&(other == newest, other_time, other))
        });
        let surplus = aside.len().saturating_sub(self.files_max);
        for (_, old) in &aside[..surplus] {
            match fs::remove_file(old) {
                Ok(()) => log.debug(format_args!("removed old rotated file: {}", old.display())),
                Err(error) => {
                    let old = old.display();
                    log.warn(format_args!("could not remove old rotated file: {old}: {error}"));
                }
            }
        }
    }
}

/// `20260131_120000_0123abcd`, in local time; the end keeps files of one second apart.
fn stamp() -> String {
    let mut random = [0; 4];
    // Without randomness the name is still good unless two files are put aside within a second.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let now = jiff::ZonedDateTime::now().strftime("%Y%m%d_%H%M%S").to_string();
    format!("{now}_{:08x}", u32::from_be_bytes(random))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Replaces a file by its `.gz`, whose path is returned.
fn compress(path: &Path) -> io::Result<PathBuf> {
    let packed = with_suffix(path, ".gz");
    let pack = || {
        let mut encoder = GzEncoder::new(File::create(&packed)?, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish().map(drop)
    };
    match pack() {
        Ok(()) => fs::remove_file(path).map(|()| packed),
        Err(error) => {
            // The uncompressed file is kept; half a compressed one is of no use.
            let _ = fs::remove_file(&packed);
            Err(error)
        }
    }
}

/// The files put aside from this one, with their times.
fn list_aside(path: &Path) -> io::Result<Vec<(SystemTime, PathBuf)>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let name = name.as_encoded_bytes();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name();
        let suffix = other.as_encoded_bytes().strip_prefix(name);
        if suffix.and_then(|suffix| suffix.strip_prefix(b".")).is_some_and(is_stamp)
            && let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            found.push((metadata.modified()?, entry.path()));
        }
    }
    Ok(found)
}

/// Whether a name ends as [`stamp`] ends it, or as Fluent Bit before 5.1 did, without the random part.
fn is_stamp(suffix: &[u8]) -> bool {
    let suffix = suffix.strip_suffix(b".gz").unwrap_or(suffix);
    let is_shape = |shape: &[u8]| {
        suffix.len() == shape.len()
            && suffix.iter().zip(shape).all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                b'f' => byte.is_ascii_hexdigit(),
                other => byte == other,
            })
    };
    is_shape(b"00000000_000000_ffffffff") || is_shape(b"00000000_000000")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn only_files_put_aside_are_taken_for_such() {
        for suffix in ["20260131_120000_0123abcd", "20260131_120000.gz", &stamp()] {
            assert!(is_stamp(suffix.as_bytes()), "{suffix}");
        }
        for suffix in ["1", "gz", "20260131_120000_0123abcd.bz2", "20260131-120000", "bak"] {
            assert!(!is_stamp(suffix.as_bytes()), "{suffix}");
        }
    }

    #[test]
    fn a_file_put_aside_is_compressed_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.log");
        let rotation = Rotation { bytes_max: 1, files_max: 2, is_compressed: true };
        fs::write(folder.path().join("out.log.bak"), "stays").unwrap();
        for round in 0..4 {
            fs::write(&path, format!("round {round}\n")).unwrap();
            rotation.put_aside(&path, &Log::discard());
            assert!(!path.exists());
        }
        let aside = list_aside(&path).unwrap();
        assert_eq!(aside.len(), 2);
        let mut texts: Vec<String> = aside
            .iter()
            .map(|(_, path)| {
                let mut text = String::new();
                let file = File::open(path).unwrap();
                flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
                text
            })
            .collect();
        texts.sort();
        assert_eq!(texts.len(), 2);
        assert!(texts[1] == "round 3\n", "{texts:?}");
        assert!(folder.path().join("out.log.bak").exists());
    }
}
