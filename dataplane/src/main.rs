//! The program: reads the command line and the configuration, goes into the background if asked, and runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::time::Duration;

use config::service::{LogLevel, ShardCount};
use config::{Document, Problem, Problems, Property, ServiceSettings, Severity, Stage, Value};

use dataplane::cli::{self, Options, Request};
use dataplane::lane::host::{Loaded, PluginHost};
use dataplane::log::{self, Level, Log};
use dataplane::pipeline::build::{self, Surroundings};
use dataplane::pipeline::{Pipeline, address};
use dataplane::reactor::daemon::{self, Daemon};
use dataplane::reactor::probe;
use dataplane::reactor::signals::{self, Signals, exit_now};
use dataplane::supervisor::{self, Order};

/// Configuration and command line are wrong.
const STATUS_CONFIG: i32 = 1;
/// The engine could not start.
const STATUS_ENGINE: i32 = 255;

/// Time the supervisor has to end after a second signal.
const SECOND_SIGNAL_WAIT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Request::Print(text) => {
            write(&mut std::io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Request::Refuse(text) => {
            say(&text);
            ExitCode::from(STATUS_CONFIG as u8)
        }
        Request::Run(options) => run(*options),
    }
}

/// Everything up to the first thread happens here, on the main thread, which then waits for signals.
fn run(mut options: Options) -> ExitCode {
    if let Some(workdir) = &options.workdir
        && let Err(error) = std::env::set_current_dir(workdir)
    {
        say(&format!("error: cannot change to `{}`: {error}\n", workdir.display()));
        return ExitCode::from(STATUS_ENGINE as u8);
    }
    let mut problems = std::mem::take(&mut options.problems);
    let mut document = std::mem::replace(&mut options.document, Document::empty());
    let environment = |name: &str| environment(name);
    let flags = document.service.properties.clone();
    config::load(&mut document, options.config.as_deref(), &environment, &mut problems);
    warn_of_overridden(&flags, &document, &mut problems);
    address::split_names(&mut document);
    let is_readable = !problems.has_errors();
    let level = level_of_environment().unwrap_or_else(|reason| {
        problems.push(Problem::warning(None, format!("FLB_LOG_LEVEL: {reason}")));
        None
    });
    let service = ServiceSettings::of(&document.service, &mut problems);
    let Some(service) = service.filter(|_| !problems.has_errors()) else {
        if is_readable {
            check_instances(&options, &document, &mut problems);
        }
        if options.is_strict {
            problems.make_strict();
        }
        say(&refusal(&document, &problems));
        return ExitCode::from(STATUS_CONFIG as u8);
    };
    prefer_files_here(&mut document, &mut options);
    let daemon = match service.daemon && !options.is_dry_run {
        false => None,
        true => match daemon::detach() {
            Ok(daemon) => Some(daemon),
            Err(reason) => {
                say(&format!("error: cannot go into the background: {reason}\n"));
                return ExitCode::from(STATUS_ENGINE as u8);
            }
        },
    };
    let signals = match Signals::block() {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("error: cannot block signals: {error}\n"));
            return ExitCode::from(STATUS_ENGINE as u8);
        }
    };
    let (orders, order_queue) = channel();
    let supervisor_orders = orders.clone();
    let thread = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let status = supervise(
            options,
            document,
            service,
            (problems, level),
            daemon,
            (order_queue, supervisor_orders),
        );
        exit_now(status);
    });
    if let Err(error) = thread {
        say(&format!("error: cannot start the supervisor: {error}\n"));
        return ExitCode::from(STATUS_ENGINE as u8);
    }
    let mut is_stopping = false;
    loop {
        let order = match signals.wait() {
            signals::Request::Stop(name) => Order::Signal(name),
            signals::Request::Reload => Order::Reload,
        };
        let is_again = is_stopping && matches!(order, Order::Signal(_));
        is_stopping |= matches!(order, Order::Signal(_));
        let is_ending = orders.send(order).is_err();
        if is_again {
            // The supervisor says so and ends, unless it waits for a plugin's init or exit.
            std::thread::sleep(SECOND_SIGNAL_WAIT);
            say("error: stopped by a second signal: what is held is lost\n");
            exit_now(1);
        }
        if is_ending {
            // The supervisor is ending the process.
            std::thread::park();
        }
    }
}

type Orders = (std::sync::mpsc::Receiver<Order>, std::sync::mpsc::Sender<Order>);

/// Loads plugins, builds the pipeline and runs it. Returns the exit status.
fn supervise(
    options: Options,
    document: Document,
    service: ServiceSettings,
    (mut problems, level): (Problems, Option<LogLevel>),
    daemon: Option<Daemon>,
    (order_queue, orders): Orders,
) -> i32 {
    let log = match start_log(&options, &service, level) {
        Ok(log) => log,
        Err(reason) => return fail(daemon, &reason, STATUS_ENGINE),
    };
    // A plugin asks for its instance's level first (`output_log_check`); what it writes then is written.
    let plugin_log = log.component("plugin").at_level(Level::Trace);
    ffi::set_log_sink(Box::new(move |level, text| {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace];
        let level = levels.get((level.max(1) - 1) as usize).copied().unwrap_or(Level::Info);
        plugin_log.write(level, text);
    }));
    let host = match PluginHost::start() {
        Ok(host) => host,
        Err(error) => {
            return fail(daemon, &format!("cannot start the plugin host: {error}"), STATUS_ENGINE);
        }
    };
    let loaded = load_plugins(&options, &document, &host, &mut problems);
    if problems.has_errors() {
        check_instances(&options, &document, &mut problems);
        say(&refusal(&document, &problems));
        return end(daemon, STATUS_CONFIG);
    }
    let Some(pipeline) = compile(&options, &document, service, &loaded, &mut problems) else {
        say(&refusal(&document, &problems));
        return end(daemon, status_of(&problems, options.is_dry_run));
    };
    if options.is_dry_run {
        if options.verbosity > 1 {
            write(&mut std::io::stdout(), &document.dump());
        }
        say(&problems.render(&document.sources));
        say("configuration test is successful\n");
        return 0;
    }
    log_warnings(&log, &document, &problems);
    if let Err(reason) = probe::check(pipeline.shard_count) {
        return fail(daemon, &reason, STATUS_ENGINE);
    }
    let version = env!("CARGO_PKG_VERSION");
    log.info(format_args!("dataplane version={version}, pid={}", std::process::id()));
    for plugin in &loaded {
        log.info(format_args!(
            "plugin `{}` loaded, events {:?}",
            plugin.name,
            plugin.event_format()
        ));
    }
    let started = || {
        if let Some(daemon) = &daemon {
            daemon.report(0);
        }
    };
    let result = supervisor::run(pipeline, &host, &log, &order_queue, &orders, started);
    log.flush(Duration::from_secs(1));
    match result {
        Ok(ending) => ending.exit_status,
        Err(reason) => fail(daemon, &reason, STATUS_ENGINE),
    }
}

fn level_of_environment() -> Result<Option<LogLevel>, String> {
    let set = environment("FLB_LOG_LEVEL").filter(|text| !text.is_empty());
    set.map(|text| LogLevel::parse(&text)).transpose()
}

fn start_log(
    options: &Options,
    service: &ServiceSettings,
    environment: Option<LogLevel>,
) -> Result<Log, String> {
    // The environment wins over the file and the file over the command line, as in Fluent Bit.
    let level = match environment.or(service.log_level) {
        Some(level) => supervisor::level_of(level),
        None => {
            let start = if options.is_quiet { Level::Off } else { Level::Info };
            (0..options.verbosity).fold(start, |level, _| level.louder())
        }
    };
    let file = service.log_file.as_deref().map(Path::new);
    match log::start(level, file) {
        Ok((log, _thread)) => Ok(log),
        Err(error) => Err(format!("cannot open the log: {error}")),
    }
}

fn load_plugins(
    options: &Options,
    document: &Document,
    host: &PluginHost,
    problems: &mut Problems,
) -> Vec<Loaded> {
    let named = options.plugins.iter().map(|path| (path.clone(), None));
    let listed = document.plugins.iter();
    let listed = listed.map(|property| (PathBuf::from(&property.value), Some(property.value_span)));
    let mut seen = Vec::new();
    let mut loaded = Vec::new();
    for (path, span) in named.chain(listed) {
        let identity = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if seen.contains(&identity) {
            continue;
        }
        seen.push(identity);
        match host.load(&path) {
            Ok(plugin) => loaded.push(plugin),
            Err(reason) => problems.push(Problem::error(span, reason)),
        }
    }
    loaded
}

fn compile(
    options: &Options,
    document: &Document,
    service: ServiceSettings,
    loaded: &[Loaded],
    problems: &mut Problems,
) -> Option<Pipeline> {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let shard_count = match service.shards {
        ShardCount::Auto => available,
        ShardCount::Fixed(count) => count,
    };
    let mem_limit_bytes = service.mem_limit.map_or_else(half_of_memory, |size| size.0);
    let surroundings = Surroundings { loaded, unloaded_count: 0, shard_count, mem_limit_bytes };
    let pipeline = build::build(document, service, &surroundings, problems);
    if options.is_strict {
        problems.make_strict();
    }
    pipeline.filter(|_| !problems.has_errors())
}

/// Finds the problems of inputs and outputs when the service has some already: all are shown at once.
fn check_instances(options: &Options, document: &Document, problems: &mut Problems) {
    let defaults = Document::empty().service;
    let Some(service) = ServiceSettings::of(&defaults, &mut Problems::default()) else { return };
    let unloaded_count = options.plugins.len() + document.plugins.len();
    let surroundings =
        Surroundings { loaded: &[], unloaded_count, shard_count: 1, mem_limit_bytes: u64::MAX };
    build::build(document, service, &surroundings, problems);
}

fn log_warnings(log: &Log, document: &Document, problems: &Problems) {
    let log = log.component("config");
    for warning in problems.iter() {
        let place = warning.span.map(|span| {
            let (file, line, column) = document.sources.position(span);
            format!(" ({file}:{line}:{column})")
        });
        log.warn(format_args!("{}{}", warning.message, place.unwrap_or_default()));
    }
}

/// Fluent Bit notices some problems only when it initialises plugins, and ends with another status then.
fn status_of(problems: &Problems, is_dry_run: bool) -> i32 {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    match errors.map(|problem| problem.stage).any(|stage| stage == Stage::Load) || is_dry_run {
        true => STATUS_CONFIG,
        false => STATUS_ENGINE,
    }
}

/// Half the memory of the machine, or of the control group where that is less.
fn half_of_memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
    });
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    let smaller = [machine, group].into_iter().flatten().min();
    smaller.unwrap_or(1 << 30) / 2
}

/// The file wins over the command line, as in Fluent Bit, which surprises whoever types the flag.
fn warn_of_overridden(flags: &[Property], document: &Document, problems: &mut Problems) {
    for flag in flags.iter().filter(|flag| !flag.is("parsers_file")) {
        let counts = document.service.get(&flag.key);
        let from = |property: &Property| property.key_span.source;
        if counts.is_some_and(|property| from(property) != from(flag)) {
            let message = format!("`{}` of the command line has no effect", flag.key);
            let problem = Problem::warning(flag.value_span, message);
            problems.push(problem.with_help("the file sets it, and the file wins"));
        }
    }
}

/// A plugin named without a slash is the file here; the loader would look for it in the system's folders.
fn prefer_files_here(document: &mut Document, options: &mut Options) {
    let absolute = |path: &Path| match path.exists() {
        true => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        false => path.to_owned(),
    };
    for path in &mut options.plugins {
        *path = absolute(path);
    }
    for property in &mut document.plugins {
        property.value = absolute(Path::new(&property.value)).to_string_lossy().into_owned();
    }
}

fn environment(name: &str) -> Option<String> {
    match (std::env::var(name), name) {
        (Ok(value), _) => Some(value),
        (Err(_), "HOSTNAME") => {
            Some(rustix::system::uname().nodename().to_string_lossy().into_owned())
        }
        (Err(_), _) => None,
    }
}

fn refusal(document: &Document, problems: &Problems) -> String {
    let shown = problems.render(&document.sources);
    format!("{shown}error: the configuration contains errors, nothing was started\n")
}

fn fail(daemon: Option<Daemon>, reason: &str, status: i32) -> i32 {
    say(&format!("error: {reason}\n"));
    end(daemon, status)
}

/// Tells the parent of a daemon how it went.
fn end(daemon: Option<Daemon>, status: i32) -> i32 {
    if let Some(daemon) = daemon {
        daemon.report(status);
    }
    status
}

fn say(text: &str) {
    write(&mut std::io::stderr(), text);
}

fn write(target: &mut dyn std::io::Write, text: &str) {
    // A terminal that is gone has nobody to tell.
    let _ = target.write_all(text.as_bytes());
    let _ = target.flush();
}
