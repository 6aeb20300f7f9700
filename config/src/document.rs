//! What both dialects become: sections of properties, in order, repeats kept.

use std::fmt::Write;
use std::path::PathBuf;

use crate::span::{SourceMap, Span};
use crate::yaml;

/// One key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key as it is written.
    pub key: String,
    /// The value, `${NAME}` expanded.
    pub value: String,
    /// Where the key stands.
    pub key_span: Span,
    /// Where the value stands.
    pub value_span: Span,
}

impl Property {
    /// Whether it is the property of this name: in any case, and in YAML's camelCase too
    /// (`intervalSec` is `interval_sec`).
    pub fn is(&self, name: &str) -> bool {
        self.key.eq_ignore_ascii_case(name)
            || (name.contains('_') && yaml::snake_case(&self.key) == name)
    }
}

/// A nested block of YAML, such as `processors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its key.
    pub name: String,
    /// Where the key stands.
    pub span: Span,
}

/// A section such as `[INPUT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The name as it is written.
    pub name: String,
    /// Where its header, or in YAML its first key, stands.
    pub span: Span,
    /// Its properties.
    pub properties: Vec<Property>,
    /// Nested blocks (`processors`, `routes`): kept so that they can be refused where they stand.
    pub blocks: Vec<Block>,
}

impl Section {
    /// An empty section.
    pub fn new(name: impl Into<String>, span: Span) -> Section {
        Section { name: name.into(), span, properties: Vec::new(), blocks: Vec::new() }
    }

    /// The last property of this key, in any case.
    pub fn get(&self, key: &str) -> Option<&Property> {
        self.properties.iter().rfind(|property| property.is(key))
    }

    /// All properties of this key, in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Property> + 'a {
        self.properties.iter().filter(move |property| property.is(key))
    }

    /// The first `name`: Fluent Bit takes the first of repeated ones.
    pub fn plugin_name(&self) -> Option<&Property> {
        self.properties.iter().find(|property| property.is("name"))
    }
}

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Document {
    /// Every text that was read.
    pub sources: SourceMap,
    /// All `[SERVICE]` sections merged.
    pub service: Section,
    /// `[INPUT]`s.
    pub inputs: Vec<Section>,
    /// `[FILTER]`s.
    pub filters: Vec<Section>,
    /// `[OUTPUT]`s.
    pub outputs: Vec<Section>,
    /// `[CUSTOM]`s.
    pub customs: Vec<Section>,
    /// `[PARSER]`s.
    pub parsers: Vec<Section>,
    /// `[MULTILINE_PARSER]`s.
    pub multiline_parsers: Vec<Section>,
    /// Paths of shared objects to load.
    pub plugins: Vec<Property>,
    /// Variables that the configuration defines, by name.
    pub variables: Vec<(String, String)>,
    /// Directory of the main file; empty where there is none.
    pub directory: PathBuf,
}

impl Document {
    /// A configuration that says nothing.
    pub fn empty() -> Document {
        let mut sources = SourceMap::default();
        let nowhere = Span::new(sources.add("defaults", ""), 0, 0);
        Document {
            sources,
            service: Section::new("SERVICE", nowhere),
            inputs: Vec::new(),
            filters: Vec::new(),
            outputs: Vec::new(),
            customs: Vec::new(),
            parsers: Vec::new(),
            multiline_parsers: Vec::new(),
            plugins: Vec::new(),
            variables: Vec::new(),
            directory: PathBuf::new(),
        }
    }

    /// A stable text of everything, for golden tests and for `--dry-run -vv`.
    pub fn dump(&self) -> String {
        let mut out = String::new();
        let kinds = [
            ("input", &self.inputs),
            ("filter", &self.filters),
            ("output", &self.outputs),
            ("custom", &self.customs),
            ("parser", &self.parsers),
            ("multiline_parser", &self.multiline_parsers),
        ];
        self.dump_section(&mut out, "service", &self.service);
        for (kind, sections) in kinds {
            for section in sections {
                self.dump_section(&mut out, kind, section);
            }
        }
        for plugin in &self.plugins {
            let _ = writeln!(out, "plugin {:?}", plugin.value);
        }
        out
    }

    fn dump_section(&self, out: &mut String, kind: &str, section: &Section) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{kind}");
        for property in &section.properties {
            let (_, line, column) = self.sources.position(property.key_span);
            let _ = writeln!(out, "  {} = {:?}  # {line}:{column}", property.key, property.value);
        }
        for block in &section.blocks {
            let _ = writeln!(out, "  {} {{...}}", block.name);
        }
    }
}
