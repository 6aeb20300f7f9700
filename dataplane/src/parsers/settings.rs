//! What a `[PARSER]` section says, checked and compiled.

use std::sync::Arc;

use config::{Document, KeySpec, Problem, Problems, Section, Settings, Words, nearest};
use jiff::tz::TimeZone;

use crate::codec::regex::Regex;
use crate::codec::strptime::TimeFormat;
use crate::parsers::decode::{Action, Backend, Decoders, Place, Rule};
use crate::parsers::regex::{EmptyValues, RegexFormat};
use crate::parsers::time::{TimeRule, Zone};
use crate::parsers::types::Types;
use crate::parsers::{BareKeys, Format, SectionParser};
use crate::plugin::parser::Parsers;

config::config_map! {
    /// What a parser is told.
    pub struct ParserSettings {
        /// By which it is named.
        "name" => name: String, required;
        /// regex, json, ltsv or logfmt.
        "format" => format: String, required;
        /// The expression; its named groups become keys.
        "regex" => regex: String, optional;
        /// Leaves out groups that match nothing.
        "skip_empty_values" => skip_empty_values: bool, default "true";
        /// The key that bears the time.
        "time_key" => time_key: String, default "time";
        /// How the time is written.
        "time_format" => time_format: String, optional;
        /// Keeps the key of the time in the record.
        "time_keep" => time_keep: bool, default "false";
        /// Takes a time only where all of it matches.
        "time_strict" => time_strict: bool, default "true";
        /// Takes times as those of the machine's zone.
        "time_system_timezone" => time_system_timezone: bool, default "false";
        /// Zone of times that name none, as `+hhmm`.
        "time_offset" => time_offset: String, optional;
        /// Zone of times that name none, as `Europe/Berlin`.
        "time_zone" => time_zone: String, optional;
        /// Types of values, as `key:integer key:float`.
        "types" => types: String, optional;
        /// Refuses lines of logfmt that have keys without values.
        "logfmt_no_bare_keys" => logfmt_no_bare_keys: bool, default "false";
        /// Decodes a value and puts its keys at the end.
        "decode_field" => decode_field: Words, repeat;
        /// Decodes a value in place.
        "decode_field_as" => decode_field_as: Words, repeat;
    }
}

/// Compiles the parsers of a configuration; pushes every problem.
pub fn compile(document: &Document, problems: &mut Problems) -> Parsers {
    let mut parsers = Parsers::default();
    for section in &document.parsers {
        // Without these the section was refused when it was read.
        let Some(name) = section.get("name") else { continue };
        if section.get("format").is_some()
            && let Some(parser) = parser(section, problems)
        {
            parsers.add(&name.value, Arc::new(parser));
        }
    }
    parsers
}

fn parser(section: &Section, problems: &mut Problems) -> Option<SectionParser> {
    let section = &known_part(section, problems);
    let settings = ParserSettings::read(section, &[], problems)?;
    let errors_before = problems.error_count();
    let format = format(&settings, section, problems);
    let time = match &settings.time_format {
        Some(text) => Some(time_rule(&settings, text, section, problems)),
        None => {
            if settings.time_zone.is_some() {
                refuse(section, "time_zone", "`time_zone` needs `time_format`".into(), problems);
            }
            None
        }
    };
    let (types, odd) = Types::parse(settings.types.as_deref().unwrap_or_default());
    for word in odd {
        let message =
            format!("`types`: `{word}` is not `key:` and integer, float, hex, bool or string");
        warn(section, "types", message, problems);
    }
    let decoders = decoders(section, problems);
    if problems.error_count() > errors_before {
        return None;
    }
    let mut format = format?;
    if let Format::Regex(format) = &mut format {
        format.settle_fields(&types, time.as_ref());
    }
    Some(SectionParser { format, time, types, decoders })
}

/// The section without keys that nobody knows, which Fluent Bit passes over.
fn known_part(section: &Section, problems: &mut Problems) -> Section {
    let mut part = section.clone();
    let is_known = |spec: &&KeySpec, key: &config::Property| key.is(spec.name);
    part.properties.retain(|property| {
        let is_known = ParserSettings::KEYS.iter().any(|spec| is_known(&spec, property));
        if !is_known {
            let message = format!("a parser has no property `{}`", property.key);
            let problem = Problem::warning(property.key_span, message);
            let names = ParserSettings::KEYS.iter().map(|spec| spec.name);
            problems.push(match nearest(&property.key, names) {
                Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
        is_known
    });
    part
}

fn refuse(section: &Section, key: &str, message: String, problems: &mut Problems) {
    let span = section.get(key).map_or(section.span, |property| property.value_span);
    problems.push(Problem::error(span, message));
}

fn warn(section: &Section, key: &str, message: String, problems: &mut Problems) {
    let span = section.get(key).map_or(section.span, |property| property.value_span);
    problems.push(Problem::warning(span, message));
}

fn format(settings: &ParserSettings, section: &Section, problems: &mut Problems) -> Option<Format> {
    Some(match settings.format.to_ascii_lowercase().as_str() {
        "json" => Format::Json,
        "ltsv" => Format::Ltsv,
        "logfmt" => Format::Logfmt {
            bare_keys: match settings.logfmt_no_bare_keys {
                true => BareKeys::Refuse,
                false => BareKeys::Allow,
            },
        },
        "regex" => {
            let regex = match Regex::new(settings.regex.as_deref()?) {
                Ok(regex) => regex,
                Err(error) => {
                    let message = format!("`regex` is no regular expression: {error}");
                    refuse(section, "regex", message, problems);
                    return None;
                }
            };
            if regex.groups().is_empty() {
                let message = "`regex` has no named group: nothing will ever be parsed".into();
                warn(section, "regex", message, problems);
            }
            let empty_values = match settings.skip_empty_values {
                true => EmptyValues::Skip,
                false => EmptyValues::Keep,
            };
            Format::Regex(RegexFormat::new(regex, empty_values))
        }
        // Refused when it was read.
        _ => return None,
    })
}

fn time_rule(
    settings: &ParserSettings,
    text: &str,
    section: &Section,
    problems: &mut Problems,
) -> TimeRule {
    let (format, unknown) = TimeFormat::compile(text);
    if let Some(unknown) = unknown {
        let message = format!("`time_format`: `{unknown}` does not exist: no time will match");
        warn(section, "time_format", message, problems);
    }
    let mut zone = Zone::Offset(0);
    if settings.time_system_timezone {
        zone = Zone::System(TimeZone::system());
    }
    if let Some(name) = &settings.time_zone {
        for (key, is_set) in [
            ("time_system_timezone", settings.time_system_timezone),
            ("time_offset", settings.time_offset.is_some()),
        ] {
            if is_set {
                let message = format!("`time_zone` cannot be combined with `{key}`");
                refuse(section, "time_zone", message, problems);
            }
        }
        match TimeZone::get(name) {
            Ok(named) => zone = Zone::Named(named),
            Err(error) => {
                refuse(section, "time_zone", format!("`time_zone`: {error}"), problems);
            }
        }
    } else if !settings.time_system_timezone
        && let Some(text) = &settings.time_offset
    {
        match offset_secs(text) {
            Some(secs) => zone = Zone::Offset(secs),
            None => {
                let message = format!("`time_offset`: `{text}` is not `+hhmm`, `-hh:mm` or `Z`");
                refuse(section, "time_offset", message, problems);
            }
        }
    }
    TimeRule {
        key: settings.time_key.as_bytes().to_vec(),
        format,
        keeps_key: settings.time_keep,
        is_strict: settings.time_strict,
        zone,
    }
}

fn offset_secs(text: &str) -> Option<i64> {
    if text.starts_with('Z') {
        return Some(0);
    }
    let (sign, digits) = match text.as_bytes() {
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let ([a, b, c, d] | [a, b, b':', c, d]) = digits else { return None };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let hours = digit(a)? * 10 + digit(b)?;
    let minutes = digit(c)? * 10 + digit(d)?;
    (hours < 60 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

fn decoders(section: &Section, problems: &mut Problems) -> Decoders {
    let mut decoders = Decoders::default();
    for property in &section.properties {
        let place = match () {
            () if property.is("decode_field") => Place::Record,
            () if property.is("decode_field_as") => Place::Value,
            () => continue,
        };
        let words: Vec<&str> = property.value.split_ascii_whitespace().collect();
        let [backend, field, action @ ..] = words.as_slice() else {
            let message = format!("`{}` needs a decoder and a key", property.key);
            problems.push(Problem::error(property.value_span, message));
            continue;
        };
        let backend = match backend.to_ascii_lowercase().as_str() {
            "json" => Backend::Json,
            "escaped" => Backend::Escaped,
            "escaped_utf8" => Backend::EscapedUtf8,
            "mysql_quoted" => Backend::MysqlQuoted,
            other => {
                let message = format!("`{}`: no decoder is named `{other}`", property.key);
                let help = "these exist: json, escaped, escaped_utf8, mysql_quoted";
                problems.push(Problem::error(property.value_span, message).with_help(help));
                continue;
            }
        };
        let action = match action.first().map(|word| word.to_ascii_lowercase()).as_deref() {
            Some("try_next") => Action::TryNext,
            Some("do_next") => Action::DoNext,
            None => Action::Stop,
            Some(other) => {
                let message = format!("`{}`: `{other}` is not try_next or do_next", property.key);
                problems.push(Problem::warning(property.value_span, message));
                Action::Stop
            }
        };
        decoders.add(field, Rule { place, backend, action });
    }
    decoders
}
