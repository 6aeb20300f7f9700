//! `${NAME}` and `${NAME:-word}` in values: one pass, variables of the configuration before those of the
//! environment.

use std::collections::HashMap;

use crate::document::{Document, Property, Section};
use crate::error::{Problem, Problems};

/// Variables: `@SET` and YAML `env` first, then the environment of the process.
pub struct Variables<'a> {
    defined: HashMap<String, String>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Variables<'a> {
    /// Variables over an environment.
    pub fn new(environment: &'a dyn Fn(&str) -> Option<String>) -> Variables<'a> {
        Variables { defined: HashMap::new(), environment }
    }

    /// Defines one; a later definition wins. `file://path` stands for what the file holds.
    ///
    /// # Errors
    /// When such a file has nothing to say; the variable stays as it was.
    pub fn define(&mut self, name: &str, value: &str) -> Result<(), String> {
        let value = match value.strip_prefix("file://") {
            Some(path) => content(path)?,
            None => value.to_owned(),
        };
        self.defined.insert(name.to_owned(), value);
        Ok(())
    }

    /// Those that the configuration defines, by name.
    pub fn defined(&self) -> Vec<(String, String)> {
        let defined = self.defined.iter().map(|(name, value)| (name.clone(), value.clone()));
        let mut defined: Vec<_> = defined.collect();
        defined.sort();
        defined
    }

    /// The value; an empty variable of the environment counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        match self.defined.get(name) {
            Some(value) => Some(value.clone()),
            None => (self.environment)(name).filter(|value| !value.is_empty()),
        }
    }

    /// Expands a value. Names that are not set are returned beside it.
    pub fn expand(&self, text: &str) -> (String, Vec<String>) {
        let mut out = String::with_capacity(text.len());
        let mut unset = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start + 2..].find('}') else { break };
            let name = &rest[start + 2..start + 2 + length];
            out += &rest[..start];
            let (name, word) = match name.split_once(":-") {
                Some((name, word)) => (name, Some(word)),
                None => (name, None),
            };
            match (self.get(name).filter(|value| !value.is_empty()), word) {
                (Some(value), _) => out += &value,
                (None, Some(word)) => out += word,
                (None, None) if name.is_empty() => out += "${}",
                (None, None) => unset.push(name.to_owned()),
            }
            rest = &rest[start + 2 + length + 1..];
        }
        out += rest;
        (out, unset)
    }

    /// Expands every value of a document.
    pub fn expand_document(&self, document: &mut Document, problems: &mut Problems) {
        let sections = std::iter::once(&mut document.service)
            .chain(&mut document.inputs)
            .chain(&mut document.filters)
            .chain(&mut document.outputs)
            .chain(&mut document.customs)
            .chain(&mut document.parsers)
            .chain(&mut document.multiline_parsers);
        for section in sections {
            self.expand_section(section, problems);
        }
    }

    /// Expands every value of a section. A multiline `rule` holds a regular expression and stays.
    pub fn expand_section(&self, section: &mut Section, problems: &mut Problems) {
        for property in &mut section.properties {
            if !property.is("rule") {
                self.expand_property(property, problems);
            }
        }
    }

    fn expand_property(&self, property: &mut Property, problems: &mut Problems) {
        if !property.value.contains("${") {
            return;
        }
        let (value, unset) = self.expand(&property.value);
        property.value = value;
        for name in unset {
            let message =
                format!("variable `${{{name}}}` is used but not set, in `{}`", property.key);
            let help = format!("set it, or give it a default: `${{{name}:-value}}`");
            problems.push(Problem::warning(property.value_span, message).with_help(help));
        }
    }
}

/// The text of a file that a variable stands for, without the line end editors leave.
fn content(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path);
    let mut text = text.map_err(|error| format!("cannot read `{path}`: {error}"))?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    if text.is_empty() {
        return Err(format!("`{path}` is empty"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_in_one_pass_with_defaults() {
        let environment = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut variables = Variables::new(&environment);
        variables.define("A", "${HOME}").unwrap();
        let table = [
            ("${HOME}/x", "/root/x"),
            ("${A}", "${HOME}"),
            ("${EMPTY:-word}", "word"),
            ("${NOPE:-}", ""),
            ("a${NOPE}b", "ab"),
            ("$HOME ${} ${open", "$HOME ${} ${open"),
            ("a}b.${HOME}", "a}b./root"),
        ];
        for (text, expected) in table {
            assert_eq!(variables.expand(text).0, expected, "{text}");
        }
        assert_eq!(variables.expand("${NOPE}").1, ["NOPE"]);
        // No other operator exists: the whole text is a name.
        assert_eq!(variables.expand("${A-w}${A:=w}").1, ["A-w", "A:=w"]);
    }

    #[test]
    fn a_variable_may_stand_for_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let url = format!("file://{}", path.display());
        let environment = |_: &str| Some("of the process".to_owned());
        let mut variables = Variables::new(&environment);
        assert!(variables.define("T", &url).is_err());
        assert_eq!(variables.get("T").unwrap(), "of the process");
        std::fs::write(&path, "s3cret\r\n").unwrap();
        variables.define("T", &url).unwrap();
        assert_eq!(variables.expand("a${T}b").0, "as3cretb");
        std::fs::write(&path, "\n").unwrap();
        assert!(variables.define("T", &url).is_err());
        assert_eq!(variables.get("T").unwrap(), "s3cret");
    }
}
