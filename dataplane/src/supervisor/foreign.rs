//! What the supervisor does for loaded plugins: Init before the first flush, who shares threads, Exit after the last.

use std::sync::Arc;
use std::time::Duration;

use config::Section;
use ffi::{FlushHandle, InstanceConfig};

use crate::flush::permits::Permits;
use crate::lane::host::{LibraryId, PluginHost};
use crate::limits::{FOREIGN_LINGER, LANE_THREADS_MAX};
use crate::log::{Level, Log};
use crate::pipeline::keys::Workers;
use crate::pipeline::{OutputKind, Pipeline};
use crate::reactor::monotonic_ns;
use crate::supervisor::output_log;

/// Initialises every instance of a loaded plugin, in the order of the configuration, all before the first flush.
///
/// # Errors
/// What a plugin refuses; those before it are still to be ended.
pub(super) fn init(
    pipeline: &Pipeline,
    host: &PluginHost,
    log: &Log,
) -> Result<Vec<Option<FlushHandle>>, String> {
    let mut handles = Vec::new();
    for output in &pipeline.outputs {
        let OutputKind::Foreign(foreign) = &output.kind else {
            handles.push(None);
            continue;
        };
        let visible = foreign.section.properties.iter();
        let visible = visible.filter(|property| !ffi::property::is_reserved(&property.key));
        let plugin_log = output_log(log, output);
        let config = InstanceConfig {
            name: output.name.clone(),
            properties: visible.map(|p| (p.key.clone(), p.value.clone())).collect(),
            log_level: foreign_level(&plugin_log),
            asked: tell_reserved(&foreign.section, plugin_log),
        };
        handles.push(Some(host.init(foreign.library, config)?));
    }
    if handles.iter().any(Option::is_some) {
        host.pre_run();
    }
    Ok(handles)
}

/// Says when a plugin asks for a key that never reaches one.
fn tell_reserved(section: &Section, log: Log) -> Box<dyn Fn(&str) + Send + Sync> {
    let set: Vec<String> = section.properties.iter().map(|p| p.key.to_ascii_lowercase()).collect();
    Box::new(move |key| {
        if !ffi::property::is_reserved(key) {
            return;
        }
        match set.contains(&key.to_ascii_lowercase()) {
            true => log.warn(format_args!(
                "the plugin asks for `{key}`, which is set here and never reaches a plugin"
            )),
            false => {
                log.debug(format_args!("the plugin asks for `{key}`, which never reaches a plugin"))
            }
        }
    })
}

/// The level a plugin's log checks compare with: 1 error to 5 trace.
fn foreign_level(log: &Log) -> i32 {
    let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
    levels.into_iter().filter(|level| log.writes(*level)).count() as i32
}

/// The groups of lane threads: one for each library, and one for each instance that says `workers`.
pub(super) struct Groups {
    /// Permits and threads a shard, by group.
    pub(super) all: Vec<(Arc<Permits>, usize)>,
    /// Group of each output.
    pub(super) of_output: Vec<Option<usize>>,
}

/// Decides which outputs share permits and threads.
pub(super) fn plan_groups(pipeline: &Pipeline) -> Groups {
    let shards = pipeline.shard_count;
    let mut groups = Groups { all: Vec::new(), of_output: Vec::new() };
    let mut by_library: Vec<(LibraryId, usize)> = Vec::new();
    for output in &pipeline.outputs {
        let OutputKind::Foreign(foreign) = &output.kind else {
            groups.of_output.push(None);
            continue;
        };
        let workers = match output.workers {
            None | Some(Workers::Fixed(0)) => None,
            Some(Workers::Fixed(count)) => Some(count),
            Some(Workers::Auto) => Some(shards),
        };
        let shared = by_library.iter().find(|(library, _)| *library == foreign.library);
        let group = match (workers, shared) {
            (None, Some((_, group))) => *group,
            (workers, _) => {
                let permits = workers.unwrap_or(1);
                let threads = permits.div_ceil(shards).clamp(1, LANE_THREADS_MAX);
                groups.all.push((Arc::new(Permits::new(permits, shards)), threads));
                let group = groups.all.len() - 1;
                if workers.is_none() {
                    by_library.push((foreign.library, group));
                }
                group
            }
        };
        groups.of_output.push(Some(group));
    }
    groups
}

/// How long plugins may take in their exit calls.
const EXIT_WAIT: Duration = Duration::from_secs(5);

/// Ends the plugins after the last flush. While a flush is under way none of them is touched.
pub(super) fn end(host: &PluginHost, abandoned: usize, last_flush_ns: u64, log: &Log) {
    if abandoned > 0 {
        log.error(format_args!(
            "{abandoned} flushes are still under way in plugins: their exit is not called"
        ));
        return;
    }
    if last_flush_ns > 0 {
        let since = Duration::from_nanos(monotonic_ns().saturating_sub(last_flush_ns));
        std::thread::sleep(FOREIGN_LINGER.saturating_sub(since));
    }
    exit(host, log);
}

/// Ends every instance that was initialised and every library that was opened.
pub(super) fn exit(host: &PluginHost, log: &Log) {
    if !host.exit(EXIT_WAIT) {
        log.error("a plugin did not return from its exit: ending without it");
    }
}
