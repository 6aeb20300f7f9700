//! Which fluent-bit-go a library was built with, and so which form of events it understands.
//!
//! Go puts the list of modules into every binary, between two fixed 16-byte marks, whatever its version.
//! SDKs before 2023-07-31 do not know events with metadata: they lose the time or panic.

use memchr::memmem;

/// Stands before the list of modules (Go's cmd/go/internal/modload/build.go).
const INFO_START: [u8; 16] = *b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6";
/// Stands behind it.
const INFO_END: [u8; 16] = *b"\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2";
/// The SDK of Go plugins.
const SDK_MODULE: &str = "github.com/fluent/fluent-bit-go";
/// The package of it that output plugins import.
const SDK_PACKAGE: &str = "github.com/fluent/fluent-bit-go/output";
/// Date of the first SDK that reads events with metadata.
const SDK_KNOWS_V2: &str = "20230731";

/// The SDK a library names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// Not a Go library, or one that does not name the SDK.
    None,
    /// The published module.
    Module {
        /// Its version, `v0.0.0-20230731135437-a7a013e2473c`.
        version: String,
    },
    /// A fork or a local copy in its place: its age is unknown.
    Replaced {
        /// What stands in its place.
        by: String,
    },
}

/// The form of events handed to a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// `[time, body]`, which every SDK reads.
    V1,
    /// `[[time, metadata], body]`, as it lies in the chunk.
    V2,
}

impl Sdk {
    /// Reads it from the bytes of a library.
    pub fn of(library: &[u8]) -> Sdk {
        let modules = modules(library);
        if modules.is_empty() {
            // Built without modules, as the oldest plugins were: the names of its functions remain.
            return match memmem::find(library, SDK_PACKAGE.as_bytes()) {
                Some(_) => Sdk::Replaced { by: "a build without modules".into() },
                None => Sdk::None,
            };
        }
        let mut lines = modules.lines().peekable();
        while let Some(line) = lines.next() {
            let mut fields = line.split('\t');
            // `mod` is the main module: the SDK's own examples are built inside it.
            if !matches!(fields.next(), Some("dep" | "mod")) {
                continue;
            }
            let module = fields.next().unwrap_or_default();
            if module.rsplit('/').next() != Some("fluent-bit-go") {
                continue;
            }
            if module != SDK_MODULE {
                return Sdk::Replaced { by: module.to_owned() };
            }
            let version = fields.next().unwrap_or_default().to_owned();
            return match lines.peek().and_then(|next| next.strip_prefix("=>\t")) {
                Some(by) => {
                    Sdk::Replaced { by: by.split('\t').next().unwrap_or_default().to_owned() }
                }
                None => Sdk::Module { version },
            };
        }
        Sdk::None
    }

    /// The form of events it understands: the stored one where it is known to, the legacy one for any other
    /// SDK, and the stored one for a library without the SDK.
    pub fn event_format(&self) -> EventFormat {
        match self {
            Sdk::None => EventFormat::V2,
            Sdk::Replaced { .. } => EventFormat::V1,
            Sdk::Module { version } => {
                // A pseudo-version holds the commit's date: `vX.Y.Z-yyyymmddhhmmss-commit`.
                let date = version
                    .rsplit('-')
                    .nth(1)
                    .map(|stamp| stamp.rsplit('.').next().unwrap_or(stamp));
                match date {
                    Some(date) if date.len() == 14 && date[..8] >= *SDK_KNOWS_V2 => EventFormat::V2,
                    _ => EventFormat::V1,
                }
            }
        }
    }
}

/// Whether a library was built with calyptia/plugin, whose ABI needs Fluent Bit's own metrics library.
pub fn is_calyptia_plugin(library: &[u8]) -> bool {
    let modules = modules(library);
    modules.lines().any(|line| {
        let module = line.split('\t').nth(1).unwrap_or_default();
        module == "github.com/calyptia/plugin"
            || module == "github.com/chronosphereio/calyptia-plugin"
    })
}

fn modules(library: &[u8]) -> String {
    // A constant of the Go toolchain may stand in other binaries too: take the span that is text.
    for start in memmem::find_iter(library, &INFO_START) {
        let rest = &library[start + INFO_START.len()..];
        let Some(end) = memmem::find(&rest[..rest.len().min(1 << 20)], &INFO_END) else { continue };
        if let Ok(text) = std::str::from_utf8(&rest[..end])
            && text.starts_with("path\t")
        {
            return text.to_owned();
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(modules: &str) -> Vec<u8> {
        [
            b"ELF..",
            &INFO_START[..],
            b"noise",
            &INFO_START[..],
            modules.as_bytes(),
            &INFO_END[..],
            b"..",
        ]
        .concat()
    }

    #[test]
    fn the_event_format_follows_the_age_of_the_sdk() {
        let dep = "path\tcommand-line-arguments\ndep\tgithub.com/fluent/fluent-bit-go\t";
        let table = [
            (format!("{dep}v0.0.0-20190614024040-c017a8579953\th1:x\n"), EventFormat::V1),
            (format!("{dep}v0.0.0-20200420155746-e125cab17963\th1:x\n"), EventFormat::V1),
            (format!("{dep}v0.0.0-20230731135437-a7a013e2473c\th1:x\n"), EventFormat::V2),
            (format!("{dep}v1.0.1-0.20260301000000-71a89c3094aa\th1:x\n"), EventFormat::V2),
            (
                format!(
                    "{dep}v0.0.0-20260301000000-71a89c3094aa\n=>\tgithub.com/me/fork\tv1\th1:x\n"
                ),
                EventFormat::V1,
            ),
            (format!("{dep}(devel)\n"), EventFormat::V1),
            ("path\tx\nmod\tgithub.com/fluent/fluent-bit-go\t(devel)\n".into(), EventFormat::V1),
            ("path\tx\ndep\tgithub.com/me/fluent-bit-go\tv1.2.3\n".into(), EventFormat::V1),
            ("path\tx\ndep\tgithub.com/other/module\tv1\n".to_owned(), EventFormat::V2),
        ];
        for (modules, expected) in table {
            assert_eq!(Sdk::of(&library(&modules)).event_format(), expected, "{modules}");
        }
        assert_eq!(Sdk::of(b"no go here"), Sdk::None);
        assert_eq!(
            Sdk::of(b"..github.com/fluent/fluent-bit-go/output.GetRecord..").event_format(),
            EventFormat::V1
        );
        assert!(is_calyptia_plugin(&library("path\tx\ndep\tgithub.com/calyptia/plugin\tv1.4.3\n")));
        assert!(!is_calyptia_plugin(&library(dep)));
    }
}
