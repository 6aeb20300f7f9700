//! From the tree of a YAML file to the sections of the `Document`.

use std::path::{Path, PathBuf};

use crate::document::Property;
use crate::error::{Problem, nearest};
use crate::include::{Loader, Reading, Scope};
use crate::section_kind::SectionKind;
use crate::span::Span;
use crate::yaml::{self, Node};

/// What may stand at the top of a file.
const TOP: [&str; 11] = [
    "env",
    "includes",
    "service",
    "pipeline",
    "customs",
    "parsers",
    "multiline_parsers",
    "plugins",
    "stream_processor",
    "upstream_servers",
    "extensions",
];

impl Loader<'_, '_> {
    /// Reads one document of a file.
    pub fn yaml_root(&mut self, root: Node, path: &Path, reading: Reading) {
        let Node::Map(entries, _) = root else {
            let problem = Problem::error(root.span(), "the top of the file must be a map");
            self.problems.push(problem.with_help("begin with `service:` or `pipeline:`"));
            return;
        };
        // Variables come first, wherever they stand.
        for (key, _, node) in &entries {
            if key.eq_ignore_ascii_case("env") {
                self.yaml_env(node);
            }
        }
        for (key, span, node) in entries {
            self.yaml_entry(&key.to_ascii_lowercase(), span, node, path, reading);
        }
    }

    fn yaml_entry(&mut self, key: &str, span: Span, node: Node, path: &Path, reading: Reading) {
        let scope = reading.scope;
        match key {
            // Read before, or meant to be skipped.
            "env" | "extensions" => {}
            "includes" => self.yaml_includes(node, path, reading),
            "service" => self.yaml_service(span, node, scope),
            "pipeline" => self.yaml_pipeline(node, scope),
            "customs" => self.yaml_list(SectionKind::Custom, "custom", node, scope),
            "parsers" => self.yaml_list(SectionKind::Parser, "parser", node, scope),
            "multiline_parsers" => {
                self.yaml_list(SectionKind::MultilineParser, "multiline_parser", node, scope);
            }
            "plugins" => self.yaml_plugins(node),
            "stream_processor" => {
                self.yaml_list(SectionKind::StreamProcessor, "stream_processor", node, scope);
            }
            "upstream_servers" => {
                self.yaml_list(SectionKind::UpstreamServers, "upstream_servers", node, scope);
            }
            _ => self.unknown_entry(key, span, &node),
        }
    }

    /// Fluent Bit skips an unknown section that is a flat map, and refuses any other.
    fn unknown_entry(&mut self, key: &str, span: Span, node: &Node) {
        let is_flat = matches!(node, Node::Map(entries, _)
            if entries.iter().all(|(_, _, node)| matches!(node, Node::Scalar(..))));
        let problem = match is_flat {
            true => Problem::warning(span, format!("unknown section `{key}` is ignored")),
            false => Problem::error(span, format!("unknown section `{key}`")),
        };
        self.problems.push(match nearest(key, TOP) {
            Some(near) => problem.with_help(format!("did you mean `{near}`?")),
            None => problem.with_help(format!("these exist: {}", TOP.join(", "))),
        });
    }

    fn yaml_includes(&mut self, node: Node, path: &Path, reading: Reading) {
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        for (item, span) in self.scalars(node) {
            let joined: PathBuf = directory.join(&item);
            let paths = match item.contains('*') {
                true => self.glob(&joined, span),
                false => vec![joined],
            };
            for path in paths {
                self.file(&path, Some(span), reading);
            }
        }
    }

    fn yaml_service(&mut self, span: Span, node: Node, scope: Scope) {
        if scope == Scope::Main && self.yaml_service.replace(span).is_some() {
            let problem = Problem::error(span, "`service` is defined twice");
            self.problems.push(problem.with_help("one file of a configuration may hold it"));
        }
        let Some(section) = self.yaml_section("service", node) else { return };
        for block in &section.blocks {
            let problem = match block.name.as_str() {
                "telemetry" => {
                    Problem::error(block.span, "`telemetry` is not supported yet: remove it")
                }
                other => {
                    Problem::error(block.span, format!("service key `{other}` must be one value"))
                }
            };
            self.problems.push(problem);
        }
        self.keep(SectionKind::Service, section, scope);
    }

    fn yaml_pipeline(&mut self, node: Node, scope: Scope) {
        let Node::Map(entries, _) = node else {
            if !node.is_nothing() {
                self.error(Some(node.span()), "`pipeline` must be a map".into());
            }
            return;
        };
        for (key, span, node) in entries {
            match key.to_ascii_lowercase().as_str() {
                "inputs" => self.yaml_list(SectionKind::Input, "input", node, scope),
                "filters" => self.yaml_list(SectionKind::Filter, "filter", node, scope),
                "outputs" => self.yaml_list(SectionKind::Output, "output", node, scope),
                lower => {
                    let message = format!("the pipeline component `{key}` is not valid");
                    let problem = Problem::error(span, message);
                    let help = match nearest(lower, ["inputs", "filters", "outputs"]) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "it holds `inputs`, `filters` and `outputs`".to_owned(),
                    };
                    self.problems.push(problem.with_help(help));
                }
            }
        }
    }

    fn yaml_list(&mut self, kind: SectionKind, name: &str, node: Node, scope: Scope) {
        match node {
            Node::List(items, _) => {
                for item in items {
                    let section = match kind {
                        SectionKind::MultilineParser => self.yaml_section(name, with_rules(item)),
                        _ => self.yaml_section(name, item),
                    };
                    if let Some(section) = section {
                        self.keep(kind, section, scope);
                    }
                }
            }
            node if node.is_nothing() => {}
            other => {
                let message = format!("a list of {name}s is needed here");
                self.problems.push(
                    Problem::error(other.span(), message).with_help("begin each with `- name:`"),
                );
            }
        }
    }

    fn yaml_section(&mut self, name: &str, node: Node) -> Option<crate::document::Section> {
        match node {
            Node::Map(entries, span) => Some(yaml::section(name, &entries, span)),
            node if node.is_nothing() => None,
            other => {
                self.error(Some(other.span()), format!("`{name}` must be a map"));
                None
            }
        }
    }

    fn yaml_plugins(&mut self, node: Node) {
        for (value, value_span) in self.scalars(node) {
            let key = "path".to_owned();
            let property = Property { key, value, key_span: value_span, value_span };
            self.document.plugins.push(property);
        }
    }

    fn yaml_env(&mut self, node: &Node) {
        match node {
            Node::Map(entries, _) => self.yaml_variables(entries),
            Node::List(items, _) => {
                for item in items {
                    match item {
                        Node::Map(entries, _) => self.yaml_variable(entries),
                        other => {
                            let message = "a variable needs `name` and `value`";
                            self.error(Some(other.span()), message.into());
                        }
                    }
                }
            }
            node if node.is_nothing() => {}
            Node::Scalar(..) => {
                self.error(Some(node.span()), "`env` must be a map of names".into());
            }
        }
    }

    /// One item of the list form: `{name, value or uri, refresh_interval}` or `{NAME: value}`.
    fn yaml_variable(&mut self, entries: &[(String, Span, Node)]) {
        let entry = |wanted: &str| {
            entries.iter().find_map(|(key, _, node)| match node {
                Node::Scalar(text, span) if key == wanted => Some((text.clone(), *span)),
                _ => None,
            })
        };
        let value = entry("value").or_else(|| entry("uri"));
        let (Some((name, _)), Some((value, span))) = (entry("name"), value) else {
            self.yaml_variables(entries);
            return;
        };
        if let Some((_, span)) = entry("refresh_interval") {
            let message = "variables are read once, when the program starts";
            let help = "remove `refresh_interval`, and restart to read the file again";
            self.problems.push(Problem::warning(span, message).with_help(help));
        }
        self.yaml_define(&name, &value, span);
    }

    fn yaml_variables(&mut self, entries: &[(String, Span, Node)]) {
        for (key, span, node) in entries {
            match node {
                Node::Scalar(value, value_span) => self.yaml_define(key, value, *value_span),
                _ => self.error(Some(*span), format!("`{key}` must be one value")),
            }
        }
    }

    fn yaml_define(&mut self, name: &str, value: &str, span: Span) {
        if let Err(reason) = self.variables.define(name, value) {
            self.error(Some(span), format!("variable `{name}` cannot be set: {reason}"));
        }
    }

    fn scalars(&mut self, node: Node) -> Vec<(String, Span)> {
        match node {
            node if node.is_nothing() => Vec::new(),
            Node::Scalar(text, span) => vec![(text, span)],
            Node::List(items, _) => items.into_iter().flat_map(|item| self.scalars(item)).collect(),
            Node::Map(_, span) => {
                self.error(Some(span), "a list of paths is needed here".into());
                Vec::new()
            }
        }
    }
}

/// The `rules` of a multiline parser as the `rule` lines of the classic dialect.
fn with_rules(item: Node) -> Node {
    let Node::Map(entries, span) = item else { return item };
    let mut out = Vec::with_capacity(entries.len());
    for (key, key_span, node) in entries {
        match node {
            Node::List(rules, _) if key.eq_ignore_ascii_case("rules") => {
                for rule in rules {
                    out.push(("rule".to_owned(), key_span, one_rule(rule)));
                }
            }
            node => out.push((key, key_span, node)),
        }
    }
    Node::Map(out, span)
}

fn one_rule(rule: Node) -> Node {
    let span = rule.span();
    let Node::Map(entries, _) = &rule else { return rule };
    let quoted = |wanted: &str| {
        let found = entries.iter().find_map(|(key, _, node)| match node {
            Node::Scalar(text, _) if key.eq_ignore_ascii_case(wanted) => Some(text.as_str()),
            _ => None,
        });
        format!("\"{}\"", found.unwrap_or_default().replace('"', "\\\""))
    };
    let words = [quoted("state"), quoted("regex"), quoted("next_state")];
    Node::Scalar(words.join(" "), span)
}
