//! `tail`: follows files by their names' patterns and turns each line into an event.
//!
//! Reading order: [`pattern`] and [`find`] (which files there are), [`spread`] (which shard reads which),
//! [`turns`] (what a shard does in a turn), [`file`](self::file) (one file) with [`lines`], [`parsed`], [`joined`] with [`joins`], and [`gzip`], [`sweep`] (what is done
//! by the clock), [`tag`].
//!
//! Differences from Fluent Bit, all on purpose: a line that is too long is skipped and counted, and its file
//! is read on; new files are found at once, not at the next `refresh_interval`; a rotated file is closed when
//! nothing was read from it for `rotate_wait`, not while it is still written to; its last line is delivered
//! even without a newline when the file cannot be found again.

mod file;
mod find;
mod gzip;
mod joined;
mod joins;
mod lines;
mod parsed;
mod pattern;
mod spread;
mod sweep;
mod tag;
#[cfg(test)]
mod tests;
mod turns;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{CommaList, Problem, Problems, Seconds, Section, Settings, Size};

use crate::codec::regex::Regex;
use crate::inputs::tail::file::{CacheAdvice, LineRules, LongLines};
use crate::inputs::tail::pattern::{Exclusions, PathPattern};
use crate::inputs::tail::spread::{FileSpread, FromEnd};
use crate::inputs::tail::tag::TagMaker;
use crate::inputs::tail::turns::TailTurns;
use crate::kernel::newline::{EmptyLines, LineTemplate};
use crate::limits::EVENT_BYTES_MAX;
use crate::multiline::Multiline;
use crate::plugin::descriptor::{BuildContext, InputPlugin, Placement};
use crate::plugin::input::{InputDefinition, InputPlace, InputTag, Source};
use crate::plugin::parser::Parser;

/// The `tail` input.
pub static PLUGIN: InputPlugin = InputPlugin {
    name: "tail",
    summary: "follows files, a line an event",
    keys: TailSettings::KEYS,
    placement: Placement::EveryShard,
    build,
};

config::config_map! {
    /// What `tail` is told.
    pub struct TailSettings {
        /// Patterns of the files to read, between commas.
        "path" => path: CommaList, required;
        /// Patterns of paths to leave alone, between commas; `*` crosses directories.
        "exclude_path" => exclude_path: CommaList, optional;
        /// Key of the line.
        "key" => key: String, default "log";
        /// Reads files that are there at the start from their head.
        "read_from_head" => read_from_head: bool, default "false";
        /// Reads files that appear later from their head.
        "read_newly_discovered_files_from_head" => read_new_from_head: bool, default "true";
        /// Time between walks over the patterns; new files are noticed at once besides.
        "refresh_interval" => refresh_interval: Seconds, default "60";
        /// Time between checks that names still lead to their files.
        "watcher_interval" => watcher_interval: Seconds, default "2s";
        /// Time between checks for changes that were not told.
        "progress_check_interval" => progress_check_interval: Seconds, default "2s";
        /// Nanoseconds added to that time.
        "progress_check_interval_nsec" => progress_check_interval_nsec: u64, default "0";
        /// A rotated file is closed when nothing was read from it for this long.
        "rotate_wait" => rotate_wait: Seconds, default "5";
        /// Joins the lines that Docker has split.
        "docker_mode" => later "false";
        /// Wait for the rest of a split line.
        "docker_mode_flush" => later "4";
        /// Parser of the first line.
        "docker_mode_parser" => later;
        /// Key of the path of the file.
        "path_key" => path_key: String, optional;
        /// Key of the place of the line in its file, bytes.
        "offset_key" => offset_key: String, optional;
        /// Leaves files alone that have not changed for this long; 0 reads all.
        "ignore_older" => ignore_older: Seconds, default "0";
        /// Closes files, too, that have not changed for that long.
        "ignore_active_older_files" => ignore_active_older_files: bool, default "false";
        /// Size of a read in Fluent Bit; here it is always 256 KiB, which stays in cache.
        "buffer_chunk_size" => buffer_chunk_size: Size, default "32768";
        /// A line must be shorter than this.
        "buffer_max_size" => buffer_max_size: Size, default "32768";
        /// Most bytes read in one turn.
        "static_batch_size" => static_batch_size: Size, default "50M";
        /// Most bytes read in one turn.
        "event_batch_size" => event_batch_size: Size, default "50M";
        /// Skips lines that are too long with a warning instead of an error.
        "skip_long_lines" => skip_long_lines: bool, default "false";
        /// Stops the process when all files are read to their end.
        "exit_on_eof" => exit_on_eof: bool, default "false";
        /// Passes over lines without content.
        "skip_empty_lines" => skip_empty_lines: bool, default "false";
        /// Delivers the front of lines that are too long.
        "truncate_long_lines" => truncate_long_lines: bool, default "false";
        /// Tells the page cache to forget what was read.
        "file_cache_advise" => file_cache_advise: bool, default "true";
        /// Lets the kernel tell changes; otherwise files are looked at four times a second.
        "inotify_watcher" => inotify_watcher: bool, default "true";
        /// Only for Windows.
        "windows.path_encoding" => later "ansi";
        /// Parser of lines.
        "parser" => parser: String, optional;
        /// Regular expression on the path; its named groups may stand in the tag as `<name>`.
        "tag_regex" => tag_regex: String, optional;
        /// Database of places.
        "db" => later;
        /// How the database is synced.
        "db.sync" => later "normal";
        /// Locks the database.
        "db.locking" => later "false";
        /// Journal of the database.
        "db.journal_mode" => later "WAL";
        /// Compares names in the database.
        "db.compare_filename" => later "false";
        /// Joins lines by parsers: of the first line, and of others.
        "multiline" => multiline: bool, default "false";
        /// Wait for the rest of a record of several lines.
        "multiline_flush" => multiline_flush: Seconds, default "4";
        /// Parser of the first line of a record.
        "parser_firstline" => parser_firstline: String, optional;
        /// Parsers of further lines: `parser_1`, `parser_2`...
        "parser_" => parser_others: String, repeat;
        /// Multiline parsers that join lines, in this order, between commas.
        "multiline.parser" => multiline_parser: CommaList, repeat;
        /// Encoding of the files.
        "unicode.encoding" => later;
        /// Encoding of the files.
        "generic.encoding" => later;
    }
}

/// A configured `tail`, shared by all shards.
#[derive(Debug)]
pub struct TailPlan {
    patterns: Arc<[PathPattern]>,
    exclude: Exclusions,
    tag_regex: Option<Regex>,
    parser: Option<Arc<dyn Parser>>,
    multiline: Option<Arc<Multiline>>,
    line_key: String,
    path_key: Option<String>,
    offset_key: Option<String>,
    rules: LineRules,
    ignore_older: Option<Duration>,
    drops_active_older: bool,
    exits_at_end: bool,
    uses_inotify: bool,
    refresh_interval: Duration,
    watcher_interval: Duration,
    progress_check_interval: Duration,
    rotate_wait: Duration,
    turn_bytes_max: usize,
    spread: FileSpread,
}

impl TailPlan {
    /// What stands before each line of a file.
    fn template(&self, path: &Path) -> LineTemplate {
        let path = path.as_os_str().as_encoded_bytes();
        let path_key = self.path_key.as_ref().map(|key| (key.as_bytes(), path));
        let offset_key = self.offset_key.as_ref().map(String::as_bytes);
        LineTemplate::new(path_key.as_slice(), offset_key, self.line_key.as_bytes())
    }
}

struct TailDefinition(Arc<TailPlan>);

impl InputDefinition for TailDefinition {
    fn start(&self, place: &InputPlace, tag: &InputTag) -> Result<Source, String> {
        let tags = TagMaker::new(&tag.text, self.0.tag_regex.as_ref())?;
        let turns = TailTurns::new(Arc::clone(&self.0), place.shard, place.log.clone(), tags);
        Ok(Source::Turns(Box::new(turns)))
    }
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn InputDefinition>> {
    let parser = context.parsers.of_key(section, "parser", problems);
    let multiline = context.multiline.of_key(section, "multiline.parser", problems);
    let settings = TailSettings::read(section, context.engine_keys, problems)?;
    let plan = plan(&settings, section, context.shard_count, problems);
    let by_first_line = joins::by_first_line(&settings, section, context, problems);
    let (parser, multiline, by_first_line, plan) = (parser?, multiline?, by_first_line?, plan?);
    joins::check(multiline.as_ref(), by_first_line.as_ref(), section, problems)?;
    let multiline = multiline.or(by_first_line).map(Arc::new);
    Some(Arc::new(TailDefinition(Arc::new(TailPlan { parser, multiline, ..plan }))))
}

/// Checks what one key alone cannot know.
fn plan(
    settings: &TailSettings,
    section: &Section,
    shard_count: usize,
    problems: &mut Problems,
) -> Option<TailPlan> {
    let errors_before = problems.error_count();
    let mut refuse = |key: &str, message: String| {
        let span = section.get(key).map(|property| property.value_span);
        problems.push(Problem::error(span, message));
    };
    let home = std::env::var("HOME").ok();
    let mut patterns = Vec::new();
    for text in &settings.path.0 {
        match PathPattern::parse(text, home.as_deref()) {
            Ok(pattern) => patterns.push(pattern),
            Err(message) => refuse("path", message),
        }
    }
    if settings.path.0.is_empty() {
        refuse("path", "`path` names no file: write a pattern such as `/var/log/*.log`".into());
    }
    let tag_regex = settings.tag_regex.as_deref().map(Regex::new).transpose();
    if let Err(error) = &tag_regex {
        refuse("tag_regex", format!("`tag_regex` is no regular expression: {error}"));
    }
    for (key, interval) in [
        ("refresh_interval", settings.refresh_interval),
        ("rotate_wait", settings.rotate_wait),
        ("watcher_interval", settings.watcher_interval),
    ] {
        if interval.0.is_zero() {
            refuse(key, format!("`{key}` must be more than 0"));
        }
    }
    let progress = settings.progress_check_interval.0
        + Duration::from_nanos(settings.progress_check_interval_nsec);
    if progress.is_zero() {
        refuse("progress_check_interval", "`progress_check_interval` must be more than 0".into());
    }
    let (chunk, max) = (settings.buffer_chunk_size.0, settings.buffer_max_size.0);
    if chunk > max {
        let message = format!(
            "`buffer_chunk_size` ({chunk}) is larger than `buffer_max_size` ({max}): raise the latter"
        );
        refuse("buffer_chunk_size", message);
    }
    if !(2..=EVENT_BYTES_MAX as u64 / 2).contains(&max) {
        let most = EVENT_BYTES_MAX / 2;
        refuse("buffer_max_size", format!("`buffer_max_size` must be 2 to {most} bytes"));
    }
    if problems.error_count() > errors_before {
        return None;
    }
    let ignore_older = Some(settings.ignore_older.0).filter(|age| !age.is_zero());
    let from_end = FromEnd { initial: !settings.read_from_head, new: !settings.read_new_from_head };
    let turn_bytes_max = settings.static_batch_size.0.min(settings.event_batch_size.0);
    Some(TailPlan {
        patterns: patterns.into(),
        exclude: Exclusions::parse(&settings.exclude_path.clone().unwrap_or_default().0),
        tag_regex: tag_regex.ok().flatten(),
        parser: None,
        multiline: None,
        line_key: settings.key.clone(),
        path_key: settings.path_key.clone(),
        offset_key: settings.offset_key.clone(),
        rules: rules(settings),
        ignore_older,
        drops_active_older: settings.ignore_active_older_files && ignore_older.is_some(),
        exits_at_end: settings.exit_on_eof,
        uses_inotify: settings.inotify_watcher,
        refresh_interval: settings.refresh_interval.0,
        watcher_interval: settings.watcher_interval.0,
        progress_check_interval: progress,
        rotate_wait: settings.rotate_wait.0,
        turn_bytes_max: usize::try_from(turn_bytes_max).unwrap_or(usize::MAX),
        spread: FileSpread::new(shard_count, from_end),
    })
}

fn rules(settings: &TailSettings) -> LineRules {
    LineRules {
        line_bytes_max: settings.buffer_max_size.0 as usize - 1,
        long_lines: match (settings.truncate_long_lines, settings.skip_long_lines) {
            (true, _) => LongLines::Truncate,
            (false, true) => LongLines::Skip,
            (false, false) => LongLines::Report,
        },
        empty_lines: match settings.skip_empty_lines {
            true => EmptyLines::Skip,
            false => EmptyLines::Keep,
        },
        cache: match settings.file_cache_advise {
            true => CacheAdvice::Forget,
            false => CacheAdvice::None,
        },
    }
}
