//! `file`: appends records to files, one by name or one a tag.
//!
//! Every shard formats; one thread writes, a chunk at a time, so no line is torn. Reading order: this file (what
//! the section says), [`format`] (records to lines), [`template`], [`destination`] (which file), [`writer`].

mod destination;
mod format;
mod rotation;
mod template;
mod writer;

use std::sync::Arc;

use config::{Problem, Problems, Section, Settings, Size};

use crate::chunk::Chunk;
use crate::log::Log;
use crate::outputs::file::destination::Destination;
use crate::outputs::file::format::Format;
use crate::outputs::file::rotation::Rotation;
use crate::outputs::file::template::Template;
use crate::outputs::file::writer::{FileWriter, Folders};
use crate::plugin::descriptor::{BuildContext, OutputPlugin, Placement};
use crate::plugin::output::{OutputDefinition, SinkOutput, SinkOwner, SinkWriter};

/// The `file` output.
pub static PLUGIN: OutputPlugin = OutputPlugin {
    name: "file",
    summary: "appends records to files",
    keys: FileSettings::KEYS,
    placement: Placement::OneSink,
    build,
};

config::value_enum! {
    /// `format`.
    pub enum FormatName {
        /// Tag, time and JSON.
        OutFile = "out_file",
        /// JSON.
        Plain = "plain",
        /// Values with delimiters between them.
        Csv = "csv",
        /// Labels and values.
        Ltsv = "ltsv",
        /// As `template` says.
        Template = "template",
        /// The events as they are stored.
        Msgpack = "msgpack",
    }
}

config::config_map! {
    /// What `file` is told.
    pub struct FileSettings {
        /// Folder of the files; without it, names are relative to the working directory.
        "path" => path: String, optional;
        /// Name of the file; without it, each tag has a file of its name.
        "file" => file: String, optional;
        /// How records are written: out_file, plain, csv, ltsv, template or msgpack.
        "format" => format: FormatName, default "out_file";
        /// Between the fields of csv and ltsv: tab, space or comma.
        "delimiter" => delimiter: String, optional;
        /// Between label and value of ltsv: tab, space or comma.
        "label_delimiter" => label_delimiter: String, optional;
        /// A line of format template: text with {key} in it; {time} is the time.
        "template" => template: String, default "{time} {message}";
        /// Whether a csv file begins with the names of its columns.
        "csv_column_names" => csv_column_names: bool, default "false";
        /// Whether missing folders are made.
        "mkdir" => mkdir: bool, default "false";
        /// Whether a file that has grown to rotate_max_size is put aside.
        "rotate" => rotate: bool, default "false";
        /// Size at which a file is put aside.
        "rotate_max_size" => rotate_max_size: Size, default "100M";
        /// Files put aside that are kept.
        "rotate_max_files" => rotate_max_files: usize, default "7";
        /// Whether files put aside are compressed.
        "rotate_gzip" => rotate_gzip: bool, default "true";
        /// Whether path and file hold strftime placeholders.
        "enable_strftime" => later "false";
        /// Most files of record accessors.
        "max_dynamic_files" => later "1024";
        /// What happens to a record without the field.
        "on_missing_field" => later "error";
        /// What happens beyond max_dynamic_files.
        "on_limit_reached" => later "error";
        /// Folder of the file for records without the field.
        "fallback_path" => later;
        /// Name of that file.
        "fallback_file" => later;
    }
}

/// The formatting half.
struct FileOutput {
    format: Format,
    destination: Destination,
    folders: Folders,
    rotation: Option<Rotation>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<OutputDefinition> {
    let errors_before = problems.error_count();
    refuse_accessors(section, problems);
    let settings = FileSettings::read(section, context.engine_keys, problems)?;
    let rotation = read_rotation(&settings, section, problems);
    if problems.error_count() > errors_before {
        return None;
    }
    let mut delimiter = |key, text: &Option<String>, default| match text {
        None => default,
        Some(text) => read_delimiter(key, text, section, problems).unwrap_or(default),
    };
    let format = match settings.format {
        FormatName::OutFile => Format::Tagged(context.json),
        FormatName::Plain => Format::Plain(context.json),
        FormatName::Csv => Format::Csv {
            delimiter: delimiter("delimiter", &settings.delimiter, b','),
            has_header: settings.csv_column_names,
        },
        FormatName::Ltsv => Format::Ltsv {
            delimiter: delimiter("delimiter", &settings.delimiter, b'\t'),
            label_delimiter: delimiter("label_delimiter", &settings.label_delimiter, b':'),
        },
        FormatName::Template => Format::Template(Template::parse(&settings.template)),
        FormatName::Msgpack => Format::Msgpack,
    };
    Some(OutputDefinition::Sink(Arc::new(FileOutput {
        format,
        destination: Destination::new(settings.path.as_deref(), settings.file.as_deref()),
        folders: if settings.mkdir { Folders::Made } else { Folders::Expected },
        rotation,
    })))
}

/// Files named by fields of records do not exist yet; a `$` must not end up in a name.
fn refuse_accessors(section: &Section, problems: &mut Problems) {
    for key in ["path", "file"] {
        if let Some(property) = section.get(key)
            && property.value.contains('$')
        {
            let message = format!("record accessors in `{key}` of `file` are not supported yet");
            problems.push(Problem::error(property.value_span, message));
        }
    }
}

/// Fluent Bit ignores other delimiters in silence.
fn read_delimiter(key: &str, text: &str, section: &Section, problems: &mut Problems) -> Option<u8> {
    match text.to_ascii_lowercase().as_str() {
        "tab" | "\\t" => Some(b'\t'),
        "space" => Some(b' '),
        "comma" => Some(b','),
        _ => {
            let span = section.get(key).map(|property| property.value_span);
            let message = format!("`{key}` is none of tab, space and comma: the default is used");
            problems.push(Problem::warning(span, message));
            None
        }
    }
}

fn read_rotation(
    settings: &FileSettings,
    section: &Section,
    problems: &mut Problems,
) -> Option<Rotation> {
    if !settings.rotate {
        return None;
    }
    for (key, is_zero) in [
        ("rotate_max_size", settings.rotate_max_size.0 == 0),
        ("rotate_max_files", settings.rotate_max_files == 0),
    ] {
        if is_zero {
            let span = section.get(key).map(|property| property.value_span);
            problems.push(Problem::error(span, format!("`{key}` must be greater than zero")));
        }
    }
    Some(Rotation {
        bytes_max: settings.rotate_max_size.0,
        files_max: settings.rotate_max_files,
        is_compressed: settings.rotate_gzip,
    })
}

impl SinkOutput for FileOutput {
    fn owner(&self) -> SinkOwner {
        SinkOwner::Files
    }

    fn format(&self, chunk: &Chunk, out: &mut Vec<u8>) -> u32 {
        self.format.put_chunk(chunk, out)
    }

    fn open(&self, log: Log) -> Box<dyn SinkWriter> {
        Box::new(FileWriter::new(
            self.destination.clone(),
            self.format.has_header(),
            self.folders,
            self.rotation.clone(),
            log,
        ))
    }
}
