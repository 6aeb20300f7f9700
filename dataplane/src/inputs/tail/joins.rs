//! By what `tail` joins lines: `multiline.parser`, or the older `multiline` with parsers of lines.

use std::sync::Arc;
use std::time::Duration;

use config::{Problem, Problems, Section};

use crate::inputs::tail::TailSettings;
use crate::multiline::Multiline;
use crate::plugin::descriptor::BuildContext;
use crate::plugin::parser::Parser;

/// The shortest flush timeout of multiline parsers, as in Fluent Bit.
const FLUSH_TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// What `multiline on` says. The outer `None` is an error, the inner one that it is off.
pub(super) fn by_first_line(
    settings: &TailSettings,
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Option<Multiline>> {
    if !settings.multiline {
        let mut keys = section.properties.iter();
        if let Some(property) = keys.find(|property| is_parser(&property.key)) {
            let message = format!("`{}` has no effect without `multiline on`", property.key);
            problems.push(Problem::warning(property.key_span, message));
        }
        return Some(None);
    }
    let first = context.parsers.of_key(section, "parser_firstline", problems)?;
    let Some(first) = first else {
        let span = section.get("multiline").map(|property| property.key_span);
        let problem = Problem::error(span, "`multiline` needs `parser_firstline`");
        let help = "add it, or use `multiline.parser` instead";
        problems.push(problem.with_help(help));
        return None;
    };
    let others = others(section, context, problems)?;
    let wait = settings.multiline_flush.0.max(FLUSH_TIMEOUT_MIN);
    let multiline = Multiline::by_first_line(first, others, &settings.key, wait, context.multiline);
    Some(Some(multiline))
}

/// Whether a key is `parser_firstline`, `parser_1`...
fn is_parser(key: &str) -> bool {
    key.get(..7).is_some_and(|front| front.eq_ignore_ascii_case("parser_"))
}

/// The parsers that `parser_1`, `parser_2`... name, by number.
fn others(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Vec<Arc<dyn Parser>>> {
    let errors_before = problems.error_count();
    let mut found = Vec::new();
    for property in &section.properties {
        let Some(rest) =
            property.key.to_ascii_lowercase().strip_prefix("parser_").map(str::to_owned)
        else {
            continue;
        };
        if rest == "firstline" {
            continue;
        }
        let Ok(number) = rest.parse::<u32>() else {
            let message = format!("`{}`: write `parser_1`, `parser_2`...", property.key);
            problems.push(Problem::error(property.key_span, message));
            continue;
        };
        if let Some(Some(parser)) = context.parsers.of_key(section, &property.key, problems) {
            found.push((number, parser));
        }
    }
    found.sort_by_key(|(number, _)| *number);
    let parsers = found.into_iter().map(|(_, parser)| parser).collect();
    (problems.error_count() == errors_before).then_some(parsers)
}

/// Names what has no effect beside `multiline.parser`, and refuses what Fluent Bit does.
pub(super) fn check(
    multiline: Option<&Multiline>,
    by_first_line: Option<&Multiline>,
    section: &Section,
    problems: &mut Problems,
) -> Option<()> {
    let Some(multiline) = multiline else {
        if by_first_line.is_some()
            && let Some(property) = section.get("parser")
        {
            let message = "`parser` has no effect beside `multiline`";
            problems.push(Problem::warning(property.key_span, message));
        }
        return Some(());
    };
    let span = section.get("multiline.parser").map(|property| property.value_span);
    let timeout = multiline.flush_timeout();
    if timeout < FLUSH_TIMEOUT_MIN {
        let (timeout, least) = (timeout.as_millis(), FLUSH_TIMEOUT_MIN.as_millis());
        let message = format!("`flush_timeout` of its multiline parsers is {timeout} ms");
        let problem = Problem::error(span, message);
        problems.push(problem.with_help(format!("`tail` needs at least {least} ms")));
        return None;
    }
    for name in multiline.unfit_for_lines() {
        let message = format!(
            "multiline parser `{name}` looks at keys of records: without `parser` and `key_content` \
             lines of a file pass it one by one"
        );
        problems.push(Problem::warning(span, message));
    }
    for key in ["parser", "key", "multiline"] {
        if let Some(property) = section.get(key) {
            let message = format!("`{key}` has no effect beside `multiline.parser`");
            problems.push(Problem::warning(property.key_span, message));
        }
    }
    Some(())
}
