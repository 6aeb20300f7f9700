//! `tcp`: takes JSON, or text between separators, from TCP connections.
//!
//! JSON comes as values one after another, with or without white space between them, and is encoded
//! straight into the open chunk. Text comes as pieces between separators, each an event `{"log":
//! piece}`. Where Fluent Bit would read on only after the next read (an empty line), drop whole
//! records before a broken one, or lose text at the end of a connection, this input does not.

mod json;

use std::sync::Arc;

use config::{Problem, Problems, Section, Settings, Value};

use crate::inputs::tcp::json::{Complaint, Json};
use crate::inputs::text::{PieceParser, Text};
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, InputPlugin, Placement};
use crate::plugin::input::{
    Framer, InputDefinition, InputPlace, InputTag, ListenAddress, Peer, Sharing, Source,
    StreamInput,
};
use crate::plugin::parser::Parser;

/// The `tcp` input.
pub static PLUGIN: InputPlugin = InputPlugin {
    name: "tcp",
    summary: "takes JSON or separated text from TCP connections",
    keys: TcpSettings::KEYS,
    placement: Placement::EveryShard,
    build,
};

config::value_enum! {
    /// `format`.
    pub enum Format {
        /// JSON values one after another.
        Json = "json",
        /// Text between separators.
        None = "none",
    }
}

/// A number of KiB, as `chunk_size` and `buffer_size` are given; a `k` behind it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kibibytes(pub usize);

/// Most KiB a record may have: encoding one asks for several times its size.
const KIBIBYTES_MAX: usize = 32 * 1024;

impl Value for Kibibytes {
    const TYPE: &'static str = "number of KiB";
    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let digits = lower.trim_end_matches('b').trim_end_matches('k');
        match digits.parse() {
            Ok(count @ 1..=KIBIBYTES_MAX) => Ok(Kibibytes(count)),
            _ => Err(format!("`{text}` is no number of KiB: write 1 to {KIBIBYTES_MAX}")),
        }
    }
}

config::config_map! {
    /// What `tcp` is told.
    pub struct TcpSettings {
        /// Address to listen on.
        "listen" => listen: String, default "0.0.0.0";
        /// Port to listen on.
        "port" => port: u16, default "5170";
        /// What comes: json, or none for text between separators.
        "format" => format: Format, default "json";
        /// What ends a piece of text; `\n`, `\t`, `\x00` and the like are understood.
        "separator" => separator: String, default "\\n";
        /// Parser of the text; with one, `format` is none.
        "parser" => parser: String, optional;
        /// KiB by which Fluent Bit grows a buffer; buffers begin larger here.
        "chunk_size" => chunk_size: Kibibytes, default "32";
        /// KiB one record may have; `chunk_size` when not set.
        "buffer_size" => buffer_size: Kibibytes, optional;
        /// Key under which JSON records get the address they came from.
        "source_address_key" => source_address_key: String, optional;
        /// Connections are spread over all shards: nothing to set.
        "workers" => workers: u64, default "1";
        /// Lets other processes listen on the port too.
        "net.share_port" => share_port: bool, default "false";
        /// Connections that may wait to be accepted.
        "net.backlog" => later "128";
        /// Time a silent connection is kept.
        "net.io_timeout" => later "0";
        /// Time a handshake may take.
        "net.accept_timeout" => later "10s";
        /// Logs connections that took too long.
        "net.accept_timeout_log_error" => later "true";
        /// Keeps connections open.
        "net.keepalive" => later "true";
        /// Encrypts connections.
        "tls" => later "off";
        /// Checks the peer's certificate.
        "tls.verify" => later "on";
    }
}

struct Tcp {
    settings: TcpSettings,
    separator: Vec<u8>,
    parser: Option<Arc<dyn Parser>>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn InputDefinition>> {
    let parser = context.parsers.of_key(section, "parser", problems);
    let settings = TcpSettings::read(section, context.engine_keys, problems)?;
    let parser = parser?;
    match unescape(&settings.separator) {
        Some(separator) if !separator.is_empty() => {
            Some(Arc::new(Tcp { settings, separator, parser }))
        }
        _ => {
            let span = section.get("separator").map(|property| property.value_span);
            let message = "`separator` is empty or ends in the middle of an escape";
            problems.push(Problem::error(span, message).with_help("write `\\\\` for a backslash"));
            None
        }
    }
}

/// Decodes the escapes of C; an unknown one stands for its letter.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (letter, after) = rest.split_first()?;
        rest = after;
        out.push(match letter {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'a' => 7,
            b'b' => 8,
            b'v' => 11,
            b'f' => 12,
            b'x' => take_digits(&mut rest, 16, 2)?,
            b'0'..=b'7' => {
                let mut digits = &text.as_bytes()[text.len() - rest.len() - 1..];
                let byte = take_digits(&mut digits, 8, 3)?;
                rest = digits;
                byte
            }
            other => *other,
        });
    }
    Some(out)
}

fn take_digits(rest: &mut &[u8], radix: u32, most: usize) -> Option<u8> {
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let count = rest.iter().take(most).take_while(is_digit).count();
    let (digits, after) = rest.split_at(count);
    *rest = after;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

impl InputDefinition for Tcp {
    fn listeners(&self) -> Vec<ListenAddress> {
        let shared = match self.settings.share_port {
            true => Sharing::Shared,
            false => Sharing::Exclusive,
        };
        let (host, port) = (self.settings.listen.clone(), self.settings.port);
        vec![ListenAddress::Tcp { host, port, shared }]
    }

    fn start(&self, place: &InputPlace, tag: &InputTag) -> Result<Source, String> {
        let Kibibytes(record_kib) = self.settings.buffer_size.unwrap_or(self.settings.chunk_size);
        let input = TcpInput {
            tag: tag.text.as_bytes().into(),
            format: match self.parser {
                Some(_) => Format::None,
                None => self.settings.format,
            },
            parser: self.parser.clone(),
            separator: self.separator.as_slice().into(),
            record_bytes_max: record_kib * 1024,
            address_key: self.settings.source_address_key.clone(),
            log: place.log.clone(),
        };
        Ok(Source::Connections(Box::new(input)))
    }
}

struct TcpInput {
    tag: Arc<[u8]>,
    format: Format,
    parser: Option<Arc<dyn Parser>>,
    separator: Arc<[u8]>,
    record_bytes_max: usize,
    address_key: Option<String>,
    log: Log,
}

impl StreamInput for TcpInput {
    fn connect(&self, peer: &Peer) -> Box<dyn Framer> {
        let (tag, record_bytes_max) = (Arc::clone(&self.tag), self.record_bytes_max);
        let address = format!("tcp://{}", peer.address);
        let source = self.address_key.as_ref().map(|key| (key.as_bytes(), address.as_bytes()));
        if self.format == Format::None {
            let parser = self.parser.clone().map(|parser| PieceParser::new(parser, source));
            return Box::new(Text::new(tag, record_bytes_max, &self.separator, parser));
        }
        let complain = Complaint { log: self.log.clone(), peer: peer.address.clone() };
        Box::new(Json::new(tag, record_bytes_max, source, complain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::problems_of;

    #[test]
    fn separators_are_unescaped_as_in_c() {
        let table: [(&str, &[u8]); 6] = [
            ("\\n", b"\n"),
            ("\\r\\n", b"\r\n"),
            ("\\x00|", b"\0|"),
            ("\\0", b"\0"),
            ("\\101\\\\", b"A\\"),
            ("--", b"--"),
        ];
        for (written, bytes) in table {
            assert_eq!(unescape(written).as_deref(), Some(bytes), "{written}");
        }
        for wrong in ["\\", "\\x", "\\777"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
            assert_eq!(problems_of(&PLUGIN, &[("separator", wrong)]).len(), 1);
        }
    }

    #[test]
    fn sizes_are_kib_with_or_without_a_letter() {
        for text in ["64", "64k", "64KB"] {
            assert_eq!(Kibibytes::parse(text), Ok(Kibibytes(64)), "{text}");
        }
        for wrong in ["", "0", "64M", "-1", "99999999"] {
            assert!(Kibibytes::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_there_yet_is_refused() {
        assert!(problems_of(&PLUGIN, &[("net.keepalive", "on"), ("tls", "off")]).is_empty());
        for (key, value) in [("parser", "apache2"), ("tls", "on"), ("net.io_timeout", "5")] {
            assert_eq!(problems_of(&PLUGIN, &[(key, value)]).len(), 1, "{key}");
        }
    }
}
