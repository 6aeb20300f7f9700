//! `multiline`: joins records that belong together, by multiline parsers or by the marks that Docker's drivers leave.
//!
//! Reading order: this file (what it is told), [`joined`] (by parsers), [`partial`] (by marks). Both are states of a
//! stream, of which the chain keeps one for each input and tag.

mod joined;
mod partial;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use config::{CommaList, Problem, Problems, Section, Settings, Size};

use crate::filters::multiline::joined::{JoinedStream, Shared};
use crate::filters::multiline::partial::{PartialStream, Warning};
use crate::multiline::{Joiner, Multiline};
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, FilterStream};

/// The `multiline` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "multiline",
    summary: "joins records that belong together",
    keys: MultilineSettings::KEYS,
    build,
};

config::value_enum! {
    /// `mode`.
    pub enum Mode {
        /// Multiline parsers say what belongs together.
        Parser = "parser",
        /// The keys partial_message, partial_id and partial_last say it.
        PartialMessage = "partial_message",
    }
}

config::value_enum! {
    /// `emitter_storage.type`.
    pub enum StorageType {
        /// In memory.
        Memory = "memory",
    }
}

config::config_map! {
    /// What `multiline` is told.
    pub struct MultilineSettings {
        /// parser: multiline parsers say what belongs together; partial_message: the marks of Docker's drivers do.
        "mode" => mode: Mode, default "parser";
        /// Multiline parsers, tried in order: docker, cri, java, go, python, ruby, or those of a parsers_file.
        "multiline.parser" => multiline_parser: CommaList, repeat;
        /// Key of the content; by default that of the parser, or log.
        "multiline.key_content" => key_content: String, optional;
        /// Whether records of different batches are joined; without it what a batch leaves unfinished goes on.
        "buffer" => buffer: bool, default "true";
        /// Milliseconds an unfinished record waits for more.
        "flush_ms" => flush_ms: u32, default "2000";
        /// Prints what is joined.
        "debug_flush" => later "false";
        /// Name of the emitter; there is none here, joined records stay with their input.
        "emitter_name" => emitter_name: String, optional;
        /// Where joined records wait.
        "emitter_storage.type" => emitter_storage_type: StorageType, default "memory";
        /// Memory for joined records; they count for the limit of their input.
        "emitter_mem_buf_limit" => emitter_mem_buf_limit: Size, default "10M";
    }
}

/// What says that records belong together.
#[derive(Clone, Debug)]
enum By {
    Parsers(Arc<Multiline>),
    Marks { content_key: Arc<[u8]> },
}

/// How long records are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// To the end of their batch.
    Batch,
    /// Until nothing came for so long.
    Idle(Duration),
}

struct MultilineFilter {
    by: By,
    wait: Wait,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = MultilineSettings::read(section, context.engine_keys, problems);
    let multiline = context.multiline.of_key(section, "multiline.parser", problems);
    let (settings, multiline) = (settings?, multiline?);
    let mut refuse = |message: &str, help: &str| {
        problems.push(Problem::error(section.span, message).with_help(help));
    };
    let wait = match settings.buffer {
        true => Wait::Idle(Duration::from_millis(settings.flush_ms.into())),
        false => Wait::Batch,
    };
    let by = match (settings.mode, multiline, settings.key_content) {
        (Mode::Parser, None, _) => {
            refuse(
                "`multiline` needs `multiline.parser`",
                "name one or several, as in `docker, cri`",
            );
            return None;
        }
        (Mode::Parser, Some(multiline), key) => {
            let multiline = multiline.with_content_key(key.as_deref());
            for name in multiline.unfit_for_records() {
                let message =
                    format!("`{name}` joins nothing: it does not say which key holds the content");
                let problem = Problem::warning(section.span, message);
                problems.push(problem.with_help("set `multiline.key_content`"));
            }
            By::Parsers(Arc::new(multiline))
        }
        (Mode::PartialMessage, _, None) => {
            refuse(
                "`mode partial_message` needs `multiline.key_content`",
                "name the key that is split",
            );
            return None;
        }
        (Mode::PartialMessage, ..) if wait == Wait::Batch => {
            refuse("`mode partial_message` needs `buffer on`", "remove `buffer`");
            return None;
        }
        (Mode::PartialMessage, _, Some(key)) => By::Marks { content_key: key.into_bytes().into() },
    };
    Some(Arc::new(MultilineFilter { by, wait }))
}

impl FilterDefinition for MultilineFilter {
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter> {
        let wait = self.wait;
        match &self.by {
            By::Parsers(multiline) => {
                let shared = Shared::new(Joiner::new(Arc::clone(multiline)), place.log.clone());
                Box::new(Streams(move || {
                    Box::new(JoinedStream::new(Rc::clone(&shared), wait)) as _
                }))
            }
            By::Marks { content_key } => {
                let (key, warning) = (Arc::clone(content_key), Warning::new(place.log.clone()));
                Box::new(Streams(move || {
                    Box::new(PartialStream::new(Arc::clone(&key), wait, Rc::clone(&warning))) as _
                }))
            }
        }
    }
}

/// The part of a shard: it opens streams.
struct Streams<F>(F);

impl<F: Fn() -> Box<dyn FilterStream>> Filter for Streams<F> {
    fn open_stream(&self) -> Option<Box<dyn FilterStream>> {
        Some((self.0)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::testing::{errors, open};

    #[test]
    fn settings_that_join_nothing_are_refused() {
        for (keys, error) in [
            (&[][..], "`multiline` needs `multiline.parser`"),
            (
                &[("multiline.parser", "jave")],
                "`multiline.parser`: no multiline parser is named `jave`",
            ),
            (
                &[("mode", "partial_message")],
                "`mode partial_message` needs `multiline.key_content`",
            ),
            (
                &[("mode", "partial_message"), ("multiline.key_content", "log"), ("buffer", "off")],
                "`mode partial_message` needs `buffer on`",
            ),
        ] {
            assert_eq!(errors(&PLUGIN, keys), [error]);
        }
        assert_eq!(
            errors(&PLUGIN, &[("multiline.parser", "java"), ("debug_flush", "on")]).len(),
            1
        );
        let streams = open(&PLUGIN, &[("multiline.parser", "docker, cri"), ("debug_flush", "off")]);
        assert!(streams.open_stream().is_some());
    }
}
