//! The sections that have a meaning, by their names.

/// What a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// `[SERVICE]`
    Service,
    /// `[PARSER]`
    Parser,
    /// `[MULTILINE_PARSER]`
    MultilineParser,
    /// `[STREAM_PROCESSOR]`
    StreamProcessor,
    /// `[PLUGINS]`
    Plugins,
    /// `[UPSTREAM]`
    UpstreamServers,
    /// `[CUSTOM]`
    Custom,
    /// `[INPUT]`
    Input,
    /// `[FILTER]`
    Filter,
    /// `[OUTPUT]`
    Output,
}

/// Names in the order in which Fluent Bit tries them.
const NAMES: [(&str, SectionKind); 14] = [
    ("service", SectionKind::Service),
    ("parser", SectionKind::Parser),
    ("multiline_parser", SectionKind::MultilineParser),
    ("stream_processor", SectionKind::StreamProcessor),
    ("plugins", SectionKind::Plugins),
    ("upstream_servers", SectionKind::UpstreamServers),
    ("custom", SectionKind::Custom),
    ("customs", SectionKind::Custom),
    ("input", SectionKind::Input),
    ("inputs", SectionKind::Input),
    ("filter", SectionKind::Filter),
    ("filters", SectionKind::Filter),
    ("output", SectionKind::Output),
    ("outputs", SectionKind::Output),
];

/// Names that are fine beside those: YAML's plurals, and the singular of `plugins`.
const OTHER_NAMES: [(&str, SectionKind); 3] = [
    ("parsers", SectionKind::Parser),
    ("multiline_parsers", SectionKind::MultilineParser),
    ("plugin", SectionKind::Plugins),
];

impl SectionKind {
    /// Names to suggest.
    pub const NAMES: [&str; 8] =
        ["service", "input", "filter", "output", "custom", "parser", "multiline_parser", "plugins"];

    /// The kind of this name, in any case.
    pub fn of(name: &str) -> Option<SectionKind> {
        let mut all = NAMES.iter().chain(&OTHER_NAMES);
        all.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind)
    }

    /// The full name Fluent Bit takes an abbreviated one for: it compares only as many letters as are written.
    pub fn abbreviated(name: &str) -> Option<(&'static str, SectionKind)> {
        let is_front = |known: &str| {
            known.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name))
        };
        NAMES.iter().find(|(known, _)| !name.is_empty() && is_front(known)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_singular_and_plural() {
        for (name, kind) in [
            ("INPUT", SectionKind::Input),
            ("outputs", SectionKind::Output),
            ("Service", SectionKind::Service),
            ("plugins", SectionKind::Plugins),
            ("multiline_parser", SectionKind::MultilineParser),
        ] {
            assert_eq!(SectionKind::of(name), Some(kind), "{name}");
        }
        for name in [" INPUT ", "INP", "inputz", ""] {
            assert_eq!(SectionKind::of(name), None, "{name}");
        }
    }

    #[test]
    fn an_abbreviation_means_the_first_name_it_begins() {
        assert_eq!(SectionKind::abbreviated("INP"), Some(("input", SectionKind::Input)));
        assert_eq!(SectionKind::abbreviated("s"), Some(("service", SectionKind::Service)));
        assert_eq!(SectionKind::abbreviated("P"), Some(("parser", SectionKind::Parser)));
        assert_eq!(SectionKind::abbreviated("inputz"), None);
        assert_eq!(SectionKind::abbreviated(""), None);
    }
}
