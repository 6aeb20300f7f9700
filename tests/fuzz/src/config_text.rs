//! Configurations of any text, in both dialects: every place that is named lies in the text, what is kept stands where
//! it is said to stand, and the problems can be shown.

use config::classic::Item;
use config::yaml::Node;
use config::{Problems, Section, SourceMap, Span, classic, yaml};

use super::choices::Choices;

/// The first byte chooses the dialect; the rest is the text.
pub fn check(data: &[u8]) {
    let mut choices = Choices::of(data);
    let is_yaml = choices.below(2) == 1;
    let text = String::from_utf8_lossy(choices.rest()).into_owned();
    let mut sources = SourceMap::default();
    let source = sources.add("fuzz.conf", text.as_str());
    let mut problems = Problems::default();
    if is_yaml {
        for root in yaml::parse(&text, source, &mut problems) {
            check_node(&root, &text, root.span());
        }
    } else {
        for item in classic::parse(&text, source, &mut problems) {
            match item {
                Item::Section(section) => check_section(&section, &text),
                Item::Include(pattern, span) => assert!(of(&text, span).contains(&pattern)),
                Item::Set(name, value, span) => {
                    let text = of(&text, span);
                    assert!(
                        text.contains(&name) && text.contains(&value),
                        "{name}={value} in {text}"
                    );
                }
            }
        }
    }
    for problem in problems.iter() {
        assert!(!problem.message.is_empty());
        if let Some(span) = problem.span {
            of(&text, span);
        }
    }
    let shown = problems.render(&sources);
    assert_eq!(shown.is_empty(), problems.is_empty());
}

/// The text of a place.
fn of(text: &str, span: Span) -> &str {
    let (start, end) = (span.start as usize, span.end as usize);
    text.get(start..end).unwrap_or_else(|| panic!("{start}..{end} of {} bytes", text.len()))
}

fn check_section(section: &Section, text: &str) {
    assert!(of(text, section.span).contains(&section.name));
    for property in &section.properties {
        assert_eq!(of(text, property.key_span), property.key);
        assert_eq!(of(text, property.value_span), property.value);
        assert!(!property.key.is_empty() && property.value.trim_ascii() == property.value);
        assert!(property.key_span.end <= property.value_span.start);
    }
}

/// Places of YAML nest as the nodes do.
fn check_node(node: &Node, text: &str, around: Span) {
    let span = node.span();
    of(text, span);
    assert!(span.start >= around.start, "{node:?} begins before {around:?}");
    match node {
        Node::Scalar(..) => {}
        Node::List(items, _) => items.iter().for_each(|item| check_node(item, text, span)),
        Node::Map(entries, _) => {
            for (key, key_span, value) in entries {
                let written = of(text, *key_span);
                // Plain keys are what they are; quotes, escapes, anchors and tags are taken off others.
                let is_plain =
                    written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                assert!(!is_plain || written == key, "`{written}` is not `{key}`");
                check_node(value, text, span);
            }
        }
    }
}
