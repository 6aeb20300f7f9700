//! Loads a configuration: the main file, the files it includes, and its parsers and plugins files.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::classic::{self, Item};
use crate::document::{Document, Property, Section};
use crate::env::Variables;
use crate::error::{Problem, Problems, nearest};
use crate::span::Span;
use crate::yaml::{self, Node};

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
    let command_line = std::mem::take(&mut document.service.properties);
    let mut loader = Loader {
        document,
        variables: Variables::new(environment),
        problems,
        main_dir,
        seen: HashSet::new(),
    };
    if let Some(path) = path {
        loader.file(path, None, Scope::Main);
    }
    loader.expand_and_follow(command_line);
}

/// What a file may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Main,
    Parsers,
    Plugins,
}

struct Loader<'a, 'e> {
    document: &'a mut Document,
    variables: Variables<'e>,
    problems: &'a mut Problems,
    main_dir: PathBuf,
    seen: HashSet<(u64, u64)>,
}

impl Loader<'_, '_> {
    /// Reads one file. `from` is where it is named.
    fn file(&mut self, path: &Path, from: Option<Span>, scope: Scope) {
        let shown = path.display().to_string();
        let text = match self.read(path) {
            Ok(text) => text,
            Err(reason) => {
                self.problems
                    .push(Problem::error(from, format!("cannot read `{shown}`: {reason}")));
                return;
            }
        };
        let id = self.document.sources.add(shown, text.clone());
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        if extension.eq_ignore_ascii_case("yaml") || extension.eq_ignore_ascii_case("yml") {
            for root in yaml::parse(&text, id, self.problems) {
                self.yaml_root(root, path, scope);
            }
            return;
        }
        let items = classic::parse(&text, id, self.problems);
        let mut open = None;
        for item in items {
            match item {
                Item::Section(section) => {
                    self.keep(open.take(), scope);
                    open = Some(section);
                }
                Item::More(properties) => match &mut open {
                    Some(section) => section.properties.extend(properties),
                    None => self.problems.push(Problem::error(
                        properties.first().map(|property| property.key_span),
                        "a property stands before any section",
                    )),
                },
                Item::Set(name, value) => self.variables.define(&name, &value),
                Item::Include(pattern, span) => {
                    // Sections of the included file come where the line stands: after the open one.
                    for path in self.classic_paths(&pattern, span) {
                        self.file(&path, Some(span), scope);
                    }
                }
            }
        }
        self.keep(open, scope);
    }

    fn read(&mut self, path: &Path) -> Result<String, String> {
        let meta = fs::metadata(path).map_err(|error| error.to_string())?;
        if meta.is_dir() {
            return Err("it is a directory".into());
        }
        if meta.len() > FILE_BYTES_MAX {
            return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
        }
        if !self.seen.insert((meta.dev(), meta.ino())) {
            return Err("it is read already: a file may be included once".into());
        }
        if self.seen.len() > FILES_MAX {
            return Err(format!("more than {FILES_MAX} files are included"));
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|error| {
            format!("it is not UTF-8 text, at byte {}", error.utf8_error().valid_up_to())
        })
    }

    /// A path is tried from the working directory, then from the directory of the main file; a pattern is
    /// read from the latter, and its files sorted.
    fn classic_paths(&mut self, pattern: &str, span: Span) -> Vec<PathBuf> {
        if !pattern.contains('*') {
            let path = PathBuf::from(pattern);
            let beside = self.main_dir.join(&path);
            return vec![if path.exists() || !beside.exists() { path } else { beside }];
        }
        self.glob(&self.main_dir.join(pattern), span)
    }

    fn glob(&mut self, pattern: &Path, span: Span) -> Vec<PathBuf> {
        let text = pattern.to_string_lossy();
        // The crate returns paths in alphabetical order.
        let found: Vec<PathBuf> = match glob::glob(&text) {
            Ok(paths) => paths.filter_map(Result::ok).filter(|path| path.is_file()).collect(),
            Err(error) => {
                self.problems
                    .push(Problem::error(span, format!("`{text}` is no pattern: {error}")));
                return Vec::new();
            }
        };
        if found.is_empty() {
            self.problems.push(Problem::error(span, format!("no file matches `{text}`")));
        }
        found
    }

    fn keep(&mut self, section: Option<Section>, scope: Scope) {
        let Some(section) = section else { return };
        if section.properties.is_empty() && section.blocks.is_empty() {
            let message = format!("section `{}` is empty", section.name);
            self.problems.push(Problem::warning(section.span, message));
            return;
        }
        let document = &mut *self.document;
        match (SectionKind::of(&section.name), scope) {
            (Some(SectionKind::Service), _) => {
                document.service.properties.extend(section.properties)
            }
            (Some(SectionKind::Input), Scope::Main) => document.inputs.push(section),
            (Some(SectionKind::Filter), Scope::Main) => document.filters.push(section),
            (Some(SectionKind::Output), Scope::Main) => document.outputs.push(section),
            (Some(SectionKind::Custom), Scope::Main) => document.customs.push(section),
            (Some(SectionKind::Parser), _) => document.parsers.push(section),
            (Some(SectionKind::MultilineParser), _) => document.multiline_parsers.push(section),
            (Some(SectionKind::Plugins), _) => self.keep_plugins(section),
            (Some(_), _) => {
                let message = format!("section `{}` has no effect in this file", section.name);
                self.problems.push(Problem::warning(section.span, message));
            }
            (None, _) => {
                let message = format!("unknown section `{}` is ignored", section.name);
                let problem = Problem::warning(section.span, message);
                self.problems.push(match nearest(&section.name, SectionKind::NAMES) {
                    Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                    None => problem,
                });
            }
        }
    }

    fn keep_plugins(&mut self, section: Section) {
        for property in section.properties {
            if property.key.eq_ignore_ascii_case("path") {
                self.document.plugins.push(property);
            } else {
                let message = format!("`{}` has no effect in `[PLUGINS]`", property.key);
                let problem = Problem::warning(property.key_span, message);
                self.problems.push(problem.with_help("write `Path /where/the/plugin/is.so`"));
            }
        }
    }

    fn yaml_root(&mut self, root: Node, path: &Path, scope: Scope) {
        let Node::Map(entries, _) = root else {
            self.problems.push(Problem::error(root.span(), "the top of the file must be a map"));
            return;
        };
        // Variables come first, wherever they stand.
        for (key, _, node) in &entries {
            if key.eq_ignore_ascii_case("env") {
                self.yaml_env(node);
            }
        }
        for (key, span, node) in entries {
            self.yaml_entry(&key.to_ascii_lowercase(), span, node, path, scope);
        }
    }

    fn yaml_entry(&mut self, key: &str, span: Span, node: Node, path: &Path, scope: Scope) {
        match key {
            "env" => {}
            "includes" => {
                let directory = path.parent().map(Path::to_owned).unwrap_or_default();
                for (item, span) in self.scalars(node) {
                    let joined = directory.join(&item);
                    let paths = match item.contains('*') {
                        true => self.glob(&joined, span),
                        false => vec![joined],
                    };
                    for path in paths {
                        self.file(&path, Some(span), scope);
                    }
                }
            }
            "service" => {
                if let Some(section) = self.yaml_section("service", node) {
                    self.keep(Some(section), scope);
                }
            }
            "pipeline" => self.yaml_pipeline(node, scope),
            "customs" => self.yaml_list("custom", node, scope),
            "parsers" => self.yaml_list("parser", node, scope),
            "multiline_parsers" => self.yaml_list("multiline_parser", node, scope),
            "plugins" => {
                for (value, value_span) in self.scalars(node) {
                    let key = "path".to_owned();
                    self.document.plugins.push(Property {
                        key,
                        value,
                        key_span: value_span,
                        value_span,
                    });
                }
            }
            "stream_processor" | "upstream_servers" | "extensions" => {
                let message = format!("`{key}` has no effect yet");
                self.problems.push(Problem::warning(span, message));
            }
            _ => {
                let known = [
                    "env",
                    "includes",
                    "service",
                    "pipeline",
                    "customs",
                    "parsers",
                    "multiline_parsers",
                    "plugins",
                ];
                let problem = Problem::warning(span, format!("unknown section `{key}` is ignored"));
                self.problems.push(match nearest(key, known) {
                    Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                    None => problem,
                });
            }
        }
    }

    fn yaml_pipeline(&mut self, node: Node, scope: Scope) {
        let Node::Map(entries, _) = node else {
            self.problems.push(Problem::error(node.span(), "`pipeline` must be a map"));
            return;
        };
        for (key, span, node) in entries {
            match key.to_ascii_lowercase().as_str() {
                "inputs" => self.yaml_list("input", node, scope),
                "filters" => self.yaml_list("filter", node, scope),
                "outputs" => self.yaml_list("output", node, scope),
                _ => {
                    let message = format!("the pipeline component `{key}` is not valid");
                    let problem = Problem::error(span, message);
                    self.problems
                        .push(problem.with_help("it holds `inputs`, `filters` and `outputs`"));
                }
            }
        }
    }

    fn yaml_list(&mut self, kind: &str, node: Node, scope: Scope) {
        match node {
            Node::List(items, _) => {
                for item in items {
                    if let Some(section) = self.yaml_section(kind, item) {
                        self.keep(Some(section), scope);
                    }
                }
            }
            Node::Scalar(text, _) if text.is_empty() => {}
            other => {
                let message = format!("a list of {kind}s is needed here");
                self.problems.push(
                    Problem::error(other.span(), message).with_help("begin each with `- name:`"),
                );
            }
        }
    }

    fn yaml_section(&mut self, kind: &str, node: Node) -> Option<Section> {
        match node {
            Node::Map(entries, span) => Some(yaml::section(kind, &entries, span)),
            Node::Scalar(text, _) if text.is_empty() => None,
            other => {
                self.problems.push(Problem::error(other.span(), format!("`{kind}` must be a map")));
                None
            }
        }
    }

    fn yaml_env(&mut self, node: &Node) {
        match node {
            Node::Map(entries, _) => self.yaml_variables(entries),
            Node::List(items, _) => {
                for item in items {
                    if let Node::Map(entries, _) = item {
                        self.yaml_variables(entries);
                    }
                }
            }
            Node::Scalar(..) => {
                self.problems.push(Problem::error(node.span(), "`env` must be a map of names"));
            }
        }
    }

    fn yaml_variables(&mut self, entries: &[(String, Span, Node)]) {
        let scalar = |wanted: &str| {
            entries.iter().find_map(|(key, _, node)| match node {
                Node::Scalar(text, _) if key == wanted => Some(text.clone()),
                _ => None,
            })
        };
        if let (Some(name), Some(value)) = (scalar("name"), scalar("value")) {
            self.variables.define(&name, &value);
            return;
        }
        for (key, span, node) in entries {
            match node {
                Node::Scalar(value, _) => self.variables.define(key, value),
                _ => {
                    self.problems.push(Problem::error(*span, format!("`{key}` must be one value")))
                }
            }
        }
    }

    fn scalars(&mut self, node: Node) -> Vec<(String, Span)> {
        match node {
            Node::Scalar(text, _) if text.is_empty() => Vec::new(),
            Node::Scalar(text, span) => vec![(text, span)],
            Node::List(items, _) => items.into_iter().flat_map(|item| self.scalars(item)).collect(),
            Node::Map(_, span) => {
                self.problems.push(Problem::error(span, "a list of paths is needed here"));
                Vec::new()
            }
        }
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
                let path = PathBuf::from(&property.value);
                let beside = self.main_dir.join(&path);
                let path = if path.exists() || !beside.exists() { path } else { beside };
                self.file(&path, Some(property.value_span), scope);
            }
        }
        let service = std::mem::replace(&mut self.document.service, Document::empty().service);
        self.variables.expand_document(self.document, self.problems);
        self.document.service = service;
    }
}

/// Sections that have a meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SectionKind {
    Service,
    Input,
    Filter,
    Output,
    Custom,
    Parser,
    MultilineParser,
    Plugins,
}

impl SectionKind {
    const NAMES: [&str; 8] =
        ["service", "input", "filter", "output", "custom", "parser", "multiline_parser", "plugins"];

    /// Any case, singular or plural.
    fn of(name: &str) -> Option<SectionKind> {
        let name = name.trim().to_ascii_lowercase();
        Some(match name.as_str() {
            "service" => SectionKind::Service,
            "input" | "inputs" => SectionKind::Input,
            "filter" | "filters" => SectionKind::Filter,
            "output" | "outputs" => SectionKind::Output,
            "custom" | "customs" => SectionKind::Custom,
            "parser" | "parsers" => SectionKind::Parser,
            "multiline_parser" | "multiline_parsers" => SectionKind::MultilineParser,
            "plugin" | "plugins" => SectionKind::Plugins,
            _ => return None,
        })
    }
}
