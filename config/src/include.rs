//! Loads a configuration: the main file, the files it includes, and its parsers and plugins files.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::classic::{self, Item};
use crate::document::{Document, Property, Section};
use crate::env::Variables;
use crate::error::{Problem, Problems, nearest};
use crate::parser_sections;
use crate::section_kind::SectionKind;
use crate::span::{SourceId, Span};
use crate::yaml;

/// Files one configuration may include (Fluent Bit's limit).
const FILES_MAX: usize = 1000;
/// Bytes of one file; more is a log, not a configuration.
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Reads a configuration file and all it names into `document`, behind what is there already (the sections
/// of the command line), and expands variables everywhere.
pub fn load(
    document: &mut Document,
    path: Option<&Path>,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    let main_dir = path.and_then(|path| fs::canonicalize(path).ok());
    let main_dir = main_dir.and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    document.directory = main_dir;
    let command_line = std::mem::take(&mut document.service.properties);
    let mut loader = Loader {
        document,
        variables: Variables::new(environment),
        problems,
        working_dir: std::env::current_dir().unwrap_or_default(),
        seen: HashSet::new(),
        yaml_service: None,
    };
    if let Some(path) = path {
        loader.file(path, None, Reading { scope: Scope::Main, dialect: Dialect::of(path) });
    }
    loader.expand_and_follow(command_line);
}

/// Where a file is that a configuration names: as it is named, or else beside the main file.
pub fn beside(directory: &Path, name: &str) -> PathBuf {
    let path = PathBuf::from(name);
    let beside = directory.join(&path);
    if path.exists() || !beside.exists() { path } else { beside }
}

/// What a file may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The main file and those it includes.
    Main,
    /// A `parsers_file`.
    Parsers,
    /// A `plugins_file`.
    Plugins,
}

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `[SECTION]` and lines.
    Classic,
    /// YAML.
    Yaml,
}

impl Dialect {
    fn of(path: &Path) -> Dialect {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        match extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml") {
            true => Dialect::Yaml,
            false => Dialect::Classic,
        }
    }
}

/// How a file is read.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    /// What it may hold.
    pub scope: Scope,
    /// How it is written. An included file is written as the one that includes it.
    pub dialect: Dialect,
}

pub(crate) struct Loader<'a, 'e> {
    pub document: &'a mut Document,
    pub variables: Variables<'e>,
    pub problems: &'a mut Problems,
    working_dir: PathBuf,
    seen: HashSet<(u64, u64)>,
    /// The `service` of YAML files, which may say it once.
    pub yaml_service: Option<Span>,
}

impl Loader<'_, '_> {
    /// Reads one file. `from` is where it is named.
    pub fn file(&mut self, path: &Path, from: Option<Span>, reading: Reading) {
        // Paths below the working directory are shown from there.
        let shown = path.strip_prefix(&self.working_dir).unwrap_or(path).display().to_string();
        let bytes = match self.read(path) {
            Ok(bytes) => bytes,
            Err(reason) => {
                self.error(from, format!("cannot read `{shown}`: {reason}"));
                return;
            }
        };
        let is_text = std::str::from_utf8(&bytes).is_ok();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let id = self.document.sources.add(shown.clone(), text.clone());
        if !is_text && !self.only_comments_are_not_text(&text, id) {
            return;
        }
        if from.is_some() && Dialect::of(path) == Dialect::Yaml && reading.dialect != Dialect::Yaml
        {
            let message = format!("`{shown}` is not read as YAML");
            let help = "an included file is written as the file that includes it";
            self.problems.push(Problem::warning(from, message).with_help(help));
        }
        match reading.dialect {
            Dialect::Yaml => {
                for root in yaml::parse(&text, id, self.problems) {
                    self.yaml_root(root, path, reading);
                }
            }
            Dialect::Classic => self.classic(&text, id, reading),
        }
    }

    fn classic(&mut self, text: &str, id: SourceId, reading: Reading) {
        for item in classic::parse(text, id, self.problems) {
            match item {
                Item::Section(section) => self.keep_classic(section, reading.scope),
                Item::Set(name, value, span) => {
                    if let Err(reason) = self.variables.define(&name, &value) {
                        let message = format!("`{name}` stays unset: {reason}");
                        self.problems.push(Problem::warning(span, message));
                    }
                }
                Item::Include(pattern, span) => {
                    for path in self.classic_paths(&pattern, span) {
                        self.file(&path, Some(span), reading);
                    }
                }
            }
        }
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        let meta = fs::metadata(path).map_err(|error| plain(&error))?;
        if meta.is_dir() {
            return Err("it is a directory".into());
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
        }
        // Pipes and devices have no second reading to protect from: `-c /dev/stdin` is fine.
        if meta.is_file() && !self.seen.insert((meta.dev(), meta.ino())) {
            return Err("it is read already: a file may be included once".into());
        }
        if self.seen.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files are included"));
        }
        fs::read(path).map_err(|error| plain(&error))
    }

    /// Old files may have comments in some other encoding; values are UTF-8.
    fn only_comments_are_not_text(&mut self, text: &str, id: SourceId) -> bool {
        let mut at = 0;
        let mut holds = true;
        for line in text.split_inclusive('\n') {
            if !line.trim_ascii_start().starts_with('#')
                && let Some(bad) = line.find(char::REPLACEMENT_CHARACTER)
            {
                let start = at + bad;
                let span = Span::new(id, start, start + char::REPLACEMENT_CHARACTER.len_utf8());
                self.error(Some(span), "this is not UTF-8 text".into());
                holds = false;
            }
            at += line.len();
        }
        holds
    }

    /// A path is tried from the working directory, then from the directory of the main file; a pattern is
    /// read from the latter, and its files sorted.
    fn classic_paths(&mut self, pattern: &str, span: Span) -> Vec<PathBuf> {
        if !pattern.contains('*') {
            return vec![beside(&self.document.directory, pattern)];
        }
        self.glob(&self.document.directory.join(pattern), span)
    }

    pub fn glob(&mut self, pattern: &Path, span: Span) -> Vec<PathBuf> {
        let text = pattern.to_string_lossy();
        // The crate returns paths in alphabetical order.
        let found: Vec<PathBuf> = match glob::glob(&text) {
            Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()).collect(),
            Err(error) => {
                self.error(Some(span), format!("`{text}` is no pattern: {error}"));
                return Vec::new();
            }
        };
        if found.is_empty() {
            let shown = pattern.strip_prefix(&self.working_dir).unwrap_or(pattern).display();
            self.error(Some(span), format!("no file matches `{shown}`"));
        }
        found
    }

    fn keep_classic(&mut self, section: Section, scope: Scope) {
        let exact = SectionKind::of(&section.name);
        let kind = exact.or_else(|| {
            let (full, kind) = SectionKind::abbreviated(&section.name)?;
            let message = format!("section `{}` is taken for `{full}`", section.name);
            self.problems
                .push(Problem::warning(section.span, message).with_help("write the name out"));
            Some(kind)
        });
        let Some(kind) = kind else {
            let message = format!("unknown section `{}` is ignored", section.name);
            let problem = Problem::warning(section.span, message);
            self.problems.push(match nearest(section.name.trim(), SectionKind::NAMES) {
                Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                None => problem,
            });
            return;
        };
        let is_parser = matches!(kind, SectionKind::Parser | SectionKind::MultilineParser);
        if is_parser && scope == Scope::Main {
            let message = format!("section `{}` does not belong in this file", section.name);
            let help = "write it into a file that `parsers_file` of `[SERVICE]` names";
            self.problems.push(Problem::error(section.span, message).with_help(help));
            return;
        }
        if section.properties.is_empty() && matches!(kind, SectionKind::Service) {
            let message = format!("section `{}` is empty", section.name);
            self.problems.push(Problem::warning(section.span, message));
        }
        self.keep(kind, section, scope);
    }

    /// Puts a section where it belongs.
    pub fn keep(&mut self, kind: SectionKind, section: Section, scope: Scope) {
        let document = &mut *self.document;
        match (kind, scope) {
            (SectionKind::Service, Scope::Main) => {
                document.service.span = section.span;
                document.service.properties.extend(section.properties);
                document.service.blocks.extend(section.blocks);
            }
            (SectionKind::Input, Scope::Main) => document.inputs.push(section),
            (SectionKind::Filter, Scope::Main) => document.filters.push(section),
            (SectionKind::Output, Scope::Main) => document.outputs.push(section),
            (SectionKind::Custom, Scope::Main) => document.customs.push(section),
            (SectionKind::Parser, Scope::Main | Scope::Parsers) => document.parsers.push(section),
            (SectionKind::MultilineParser, Scope::Main | Scope::Parsers) => {
                document.multiline_parsers.push(section);
            }
            (SectionKind::Plugins, Scope::Main | Scope::Plugins) => self.keep_plugins(section),
            (SectionKind::StreamProcessor, Scope::Main) => {
                let message = "stream processor tasks are not supported yet: remove them";
                self.error(Some(section.span), message.into());
            }
            _ => {
                let message = format!("section `{}` has no effect in this file", section.name);
                self.problems.push(Problem::warning(section.span, message));
            }
        }
    }

    fn keep_plugins(&mut self, section: Section) {
        for property in section.properties {
            if property.is("path") {
                self.document.plugins.push(property);
            } else {
                let message = format!("`{}` has no effect in `[PLUGINS]`", property.key);
                let problem = Problem::warning(property.key_span, message);
                self.problems.push(problem.with_help("write `Path /where/the/plugin/is.so`"));
            }
        }
    }

    pub fn error(&mut self, span: Option<Span>, message: String) {
        self.problems.push(Problem::error(span, message));
    }

    /// Expands variables, then reads the parsers and plugins files that the service names.
    fn expand_and_follow(mut self, command_line: Vec<Property>) {
        // The file wins over the command line: what is read last counts.
        let from_file = std::mem::replace(&mut self.document.service.properties, command_line);
        self.document.service.properties.extend(from_file);
        self.variables.expand_section(&mut self.document.service, self.problems);
        for (key, scope) in [("parsers_file", Scope::Parsers), ("plugins_file", Scope::Plugins)] {
            let named: Vec<Property> = self.document.service.all(key).cloned().collect();
            for property in named {
                let path = beside(&self.document.directory, &property.value);
                let dialect = Dialect::of(&path);
                self.file(&path, Some(property.value_span), Reading { scope, dialect });
            }
        }
        let service = std::mem::replace(&mut self.document.service, Document::empty().service);
        self.variables.expand_document(self.document, self.problems);
        self.document.service = service;
        self.document.variables = self.variables.defined();
        parser_sections::check(self.document, self.problems);
    }
}

/// An error of the system without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
