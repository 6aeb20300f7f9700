//! What a section may say: `config_map!` declares the keys of a plugin once, for parsing, checking and help.

use crate::document::{Property, Section};
use crate::error::{Problem, Problems, nearest};
use crate::value::{Seconds, Size, Value};

/// One key of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// The key, lower case.
    pub name: &'static str,
    /// Name of the type.
    pub type_name: &'static str,
    /// Default, in configuration spelling.
    pub default: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it may be given several times.
    pub repeat: bool,
    /// Whether its feature does not exist yet.
    pub later: bool,
}

/// One table of two: a plugin's own keys, and those it shares with others. `N` is the sum of their lengths.
pub const fn join_keys<const N: usize>(own: &[KeySpec], shared: &[KeySpec]) -> [KeySpec; N] {
    assert!(N > 0 && own.len() + shared.len() == N);
    let mut joined = [if own.is_empty() { shared[0] } else { own[0] }; N];
    let mut index = 0;
    while index < N {
        joined[index] = if index < own.len() { own[index] } else { shared[index - own.len()] };
        index += 1;
    }
    joined
}

/// The settings of a plugin, read from a section.
pub trait Settings: Sized {
    /// Its keys.
    const KEYS: &'static [KeySpec];

    /// Reads a section. `others` are keys that someone else reads there; any further key is an error.
    /// Pushes every problem; `None` when one was an error.
    fn read(section: &Section, others: &[&[KeySpec]], problems: &mut Problems) -> Option<Self>;
}

/// Checks keys that are unknown, repeated or not supported yet. Called by `config_map!`.
pub fn check_keys(
    keys: &[KeySpec],
    section: &Section,
    others: &[&[KeySpec]],
    problems: &mut Problems,
) {
    let plugin = section.plugin_name().map_or(section.name.as_str(), |name| name.value.as_str());
    for (index, property) in section.properties.iter().enumerate() {
        let known = keys.iter().find(|spec| property.is(spec.name) || is_front(spec, property));
        let Some(spec) = known else {
            let mut elsewhere = others.iter().flat_map(|table| table.iter());
            if elsewhere.any(|spec| property.is(spec.name)) {
                continue;
            }
            let all = keys.iter().chain(others.iter().flat_map(|table| table.iter()));
            let message = format!("unknown property `{}` of `{plugin}`", property.key);
            let problem = Problem::error(property.key_span, message);
            problems.push(match nearest(&property.key, all.map(|spec| spec.name)) {
                Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                None => problem.with_help("`-h` after the plugin's flag lists its properties"),
            });
            continue;
        };
        let mut earlier = section.properties[..index].iter();
        if !spec.repeat && earlier.any(|other| other.is(spec.name)) {
            let message = format!("`{}` is set more than once", spec.name);
            problems.push(Problem::error(property.key_span, message));
        }
        if spec.later {
            check_later(spec, property, problems);
        }
    }
}

/// Whether the key is of a family: `parser_` stands for `parser_1`, `parser_2`...
fn is_front(spec: &KeySpec, property: &Property) -> bool {
    let front = property.key.get(..spec.name.len());
    spec.name.ends_with('_') && front.is_some_and(|front| front.eq_ignore_ascii_case(spec.name))
}

/// A key whose feature does not exist yet is accepted where its value means off, and refused otherwise.
fn check_later(spec: &KeySpec, property: &Property, problems: &mut Problems) {
    let Some(off) = spec.default else {
        let message = format!("`{}` is not supported yet: remove it", property.key);
        problems.push(Problem::error(property.key_span, message));
        return;
    };
    if !property.value.is_empty() && !means_same(off, &property.value) {
        let message =
            format!("`{}` is not supported yet: remove it or set it to `{off}`", property.key);
        problems.push(Problem::error(property.value_span, message));
    }
}

/// Whether two values mean the same as a boolean, a number, a size, a time or a word.
fn means_same(a: &str, b: &str) -> bool {
    fn as_type<T: Value + PartialEq>(a: &str, b: &str) -> Option<bool> {
        Some(T::parse(a).ok()? == T::parse(b).ok()?)
    }
    a.eq_ignore_ascii_case(b)
        || as_type::<bool>(a, b)
            .or_else(|| as_type::<Size>(a, b))
            .or_else(|| as_type::<Seconds>(a, b))
            .unwrap_or(false)
}

/// Reads a key that must be given.
pub fn required<T: Value>(section: &Section, key: &str, problems: &mut Problems) -> Option<T> {
    match optional(section, key, problems)? {
        Some(value) => Some(value),
        None => {
            let plugin =
                section.plugin_name().map_or(section.name.as_str(), |name| name.value.as_str());
            let message = format!("`{plugin}` needs `{key}`");
            problems.push(Problem::error(section.span, message).with_help(format!("add `{key}`")));
            None
        }
    }
}

/// Reads a key that has a default.
pub fn with_default<T: Value>(
    section: &Section,
    key: &str,
    default: &str,
    problems: &mut Problems,
) -> Option<T> {
    match optional(section, key, problems)? {
        Some(value) => Some(value),
        None => Some(T::parse(default).expect("defaults are written in their own type's spelling")),
    }
}

/// Reads a key that may be left out. A value that expanded to nothing counts as left out.
pub fn optional<T: Value>(
    section: &Section,
    key: &str,
    problems: &mut Problems,
) -> Option<Option<T>> {
    let Some(property) = section.get(key) else { return Some(None) };
    if property.value.is_empty() {
        let message = format!("`{key}` is empty and counts as not set");
        problems.push(Problem::warning(property.value_span, message));
        return Some(None);
    }
    match T::parse(&property.value) {
        Ok(value) => {
            remark::<T>(property, problems);
            Some(Some(value))
        }
        Err(message) => {
            problems.push(Problem::error(property.value_span, format!("`{key}`: {message}")));
            None
        }
    }
}

/// Says where a value means something else in Fluent Bit.
fn remark<T: Value>(property: &Property, problems: &mut Problems) {
    if let Some(remark) = T::remark(&property.value) {
        let message = format!("`{}`: {remark}", property.key);
        problems.push(Problem::warning(property.value_span, message));
    }
}

/// Reads a key that may be given several times.
pub fn repeated<T: Value>(section: &Section, key: &str, problems: &mut Problems) -> Option<Vec<T>> {
    let mut values = Vec::new();
    let mut is_complete = true;
    for property in section.all(key) {
        match T::parse(&property.value) {
            Ok(value) => {
                remark::<T>(property, problems);
                values.push(value);
            }
            Err(message) => {
                problems.push(Problem::error(property.value_span, format!("`{key}`: {message}")));
                is_complete = false;
            }
        }
    }
    is_complete.then_some(values)
}

/// Declares the settings of a plugin. Each entry is its help as a doc comment, then one of
/// `"key" => field: Type, required;`, `"key" => field: Type, default "text";`,
/// `"key" => field: Type, optional;`, `"key" => field: Type, repeat;`, and for features to come
/// `"key" => later;` (refused) or `"key" => later "off";` (accepted where it means off).
#[macro_export]
macro_rules! config_map {
    ($(#[doc = $sdoc:literal])* pub struct $Name:ident { $($body:tt)* }) => {
        $crate::config_map!(@next [$(#[doc = $sdoc])* $Name] [] [] $($body)*);
    };
    (@next $head:tt [$($fields:tt)*] [$($keys:tt)*]
        $(#[doc = $doc:literal])* $key:literal => later; $($rest:tt)*) => {
        $crate::config_map!(@next $head [$($fields)*] [$($keys)* {
            $key, "", None, [$($doc)*], false, false, true }] $($rest)*);
    };
    (@next $head:tt [$($fields:tt)*] [$($keys:tt)*]
        $(#[doc = $doc:literal])* $key:literal => later $off:literal; $($rest:tt)*) => {
        $crate::config_map!(@next $head [$($fields)*] [$($keys)* {
            $key, "", Some($off), [$($doc)*], false, false, true }] $($rest)*);
    };
    (@next $head:tt [$($fields:tt)*] [$($keys:tt)*]
        $(#[doc = $doc:literal])* $key:literal => $field:ident: $Type:ty, required; $($rest:tt)*) => {
        $crate::config_map!(@next $head
            [$($fields)* { [$($doc)*] $field, $Type, $key, required, [] }]
            [$($keys)* { $key, <$Type as $crate::Value>::TYPE, None, [$($doc)*], true, false, false }]
            $($rest)*);
    };
    (@next $head:tt [$($fields:tt)*] [$($keys:tt)*]
        $(#[doc = $doc:literal])* $key:literal => $field:ident: $Type:ty, default $text:literal; $($rest:tt)*) => {
        $crate::config_map!(@next $head
            [$($fields)* { [$($doc)*] $field, $Type, $key, with_default, [$text,] }]
            [$($keys)* { $key, <$Type as $crate::Value>::TYPE, Some($text), [$($doc)*], false, false, false }]
            $($rest)*);
    };
    (@next $head:tt [$($fields:tt)*] [$($keys:tt)*]
        $(#[doc = $doc:literal])* $key:literal => $field:ident: $Type:ty, optional; $($rest:tt)*) => {
        $crate::config_map!(@next $head
            [$($fields)* { [$($doc)*] $field, Option<$Type>, $key, optional, [] }]
            [$($keys)* { $key, <$Type as $crate::Value>::TYPE, None, [$($doc)*], false, false, false }]
            $($rest)*);
    };
    (@next $head:tt [$($fields:tt)*] [$($keys:tt)*]
        $(#[doc = $doc:literal])* $key:literal => $field:ident: $Type:ty, repeat; $($rest:tt)*) => {
        $crate::config_map!(@next $head
            [$($fields)* { [$($doc)*] $field, Vec<$Type>, $key, repeated, [] }]
            [$($keys)* { $key, <$Type as $crate::Value>::TYPE, None, [$($doc)*], false, true, false }]
            $($rest)*);
    };
    (@next [$(#[doc = $sdoc:literal])* $Name:ident]
        [$({ [$($fdoc:literal)*] $field:ident, $FieldType:ty, $fkey:literal, $read:ident, [$($arg:tt)*] })*]
        [$({ $key:literal, $type:expr, $default:expr, [$($doc:literal)*], $required:literal, $repeat:literal, $later:literal })*]
    ) => {
        $(#[doc = $sdoc])*
        #[derive(Clone, Debug)]
        pub struct $Name { $($(#[doc = $fdoc])* pub $field: $FieldType,)* }

        impl $crate::Settings for $Name {
            const KEYS: &'static [$crate::KeySpec] = &[$($crate::KeySpec {
                name: $key, type_name: $type, default: $default, help: concat!($($doc),*),
                required: $required, repeat: $repeat, later: $later,
            },)*];

            fn read(
                section: &$crate::Section,
                others: &[&[$crate::KeySpec]],
                problems: &mut $crate::Problems,
            ) -> Option<Self> {
                let errors_before = problems.error_count();
                $crate::map::check_keys(Self::KEYS, section, others, problems);
                $(let $field = $crate::map::$read(section, $fkey, $($arg)* problems);)*
                if problems.error_count() > errors_before {
                    return None;
                }
                Some($Name { $($field: $field?,)* })
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{SourceMap, Span};
    use crate::value::{Size, Words};

    crate::config_map! {
        /// For the test.
        pub struct Sample {
            /// Where.
            "path" => path: String, required;
            /// How much.
            "buffer.size" => size: Size, default "32K";
            /// Who.
            "users" => users: Words, repeat;
            /// What.
            "regex" => regex: String, optional;
            /// Later.
            "db" => later;
            /// A family.
            "parser_" => later;
            /// Later, off.
            "db.locking" => later "false";
        }
    }

    fn section(properties: &[(&str, &str)]) -> (Section, Span) {
        let mut sources = SourceMap::default();
        let span = Span::new(sources.add("t", ""), 0, 0);
        let mut section = Section::new("INPUT", span);
        for (key, value) in properties {
            let (key, value) = ((*key).into(), (*value).into());
            section.properties.push(Property { key, value, key_span: span, value_span: span });
        }
        (section, span)
    }

    fn messages(properties: &[(&str, &str)]) -> Vec<String> {
        let (section, _) = section(properties);
        let mut problems = Problems::default();
        assert!(Sample::read(&section, &[], &mut problems).is_none());
        problems.iter().map(|problem| problem.message.clone()).collect()
    }

    #[test]
    fn a_section_becomes_typed_settings() {
        let (section, _) =
            section(&[("PATH", "/x"), ("users", "a b"), ("Users", "c"), ("db.locking", "off")]);
        let mut problems = Problems::default();
        let sample = Sample::read(&section, &[], &mut problems).unwrap();
        assert_eq!((sample.path.as_str(), sample.size, sample.regex), ("/x", Size(32_000), None));
        assert_eq!(sample.users, [Words(vec!["a".into(), "b".into()]), Words(vec!["c".into()])]);
        assert!(problems.is_empty());
        assert_eq!(Sample::KEYS[1].default, Some("32K"));
        assert_eq!(Sample::KEYS[0].help.trim(), "Where.");
    }

    #[test]
    fn off_is_off_in_any_spelling() {
        for (off, value) in
            [("false", "Off"), ("0", "0s"), ("25", "25.0"), ("50M", "50000K"), ("WAL", "wal")]
        {
            assert!(means_same(off, value), "{off} {value}");
        }
        for (off, value) in [("false", "on"), ("0", "1"), ("WAL", "off"), ("10s", "10m")] {
            assert!(!means_same(off, value), "{off} {value}");
        }
    }

    #[test]
    fn yaml_may_write_a_key_in_camel_case() {
        let (section, _) = section(&[("path", "a"), ("readFromHead", "x")]);
        assert_eq!(section.get("read_from_head").unwrap().value, "x");
        assert!(section.get("read_from").is_none());
    }

    #[test]
    fn all_problems_of_a_section_are_found_at_once() {
        assert_eq!(
            messages(&[
                ("paht", "x"),
                ("buffer.size", "much"),
                ("db", "x"),
                ("db.locking", "on"),
                ("Parser_1", "x"),
            ]),
            [
                "unknown property `paht` of `INPUT`",
                "`db` is not supported yet: remove it",
                "`db.locking` is not supported yet: remove it or set it to `false`",
                "`Parser_1` is not supported yet: remove it",
                "`INPUT` needs `path`",
                "`buffer.size`: `much` is no size: write a number with an optional K, M or G",
            ]
        );
        assert_eq!(messages(&[("path", "a"), ("path", "b")]), ["`path` is set more than once"]);
    }
}
