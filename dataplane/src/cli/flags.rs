//! Every flag, in tables: Fluent Bit's, and the few of our own.

use clap::{Arg, ArgAction, Command};

/// One flag.
pub struct Flag {
    /// Name in the matches.
    pub id: &'static str,
    /// One letter.
    pub short: Option<char>,
    /// The word after `--`.
    pub long: &'static str,
    /// What its value is called, if it takes one.
    pub value: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

impl Flag {
    /// `-f, --flush`, as messages name it.
    pub fn shown(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }

    /// The shorter way to write it.
    pub fn brief(&self) -> String {
        self.short.map_or_else(|| format!("--{}", self.long), |short| format!("-{short}"))
    }
}

const fn flag(
    id: &'static str,
    short: char,
    long: &'static str,
    value: &'static str,
    help: &'static str,
) -> Flag {
    let short = if short == ' ' { None } else { Some(short) };
    let value = if value.is_empty() { None } else { Some(value) };
    Flag { id, short, long, value, help }
}

/// What the program itself does.
pub const PROGRAM: [Flag; 10] = [
    flag("config", 'c', "config", "FILE", "read a configuration file"),
    flag("plugin", 'e', "plugin", "FILE", "load a plugin (shared object)"),
    flag("workdir", 'w', "workdir", "DIR", "change to this directory first"),
    flag("daemon", 'd', "daemon", "", "run in the background"),
    flag(
        "dry_run",
        'D',
        "dry-run",
        "",
        "check the configuration and end; with -vv show what was read",
    ),
    flag("strict", ' ', "strict", "", "take warnings of the configuration for errors"),
    flag("verbose", 'v', "verbose", "", "log more: debug, and trace when given twice"),
    flag("quiet", 'q', "quiet", "", "log nothing"),
    flag("version", 'V', "version", "", "print the version"),
    flag("help", 'h', "help", "", "print this, or the keys of the plugin named beside it"),
];

/// What builds sections, from left to right.
pub const SECTIONS: [Flag; 7] = [
    flag("custom", 'C', "custom", "NAME", "begin a custom plugin"),
    flag("input", 'i', "input", "NAME", "begin an input"),
    flag("filter", 'F', "filter", "NAME", "begin a filter"),
    flag("output", 'o', "output", "NAME", "begin an output"),
    flag("match", 'm', "match", "PATTERN", "tags that the output or filter before it takes"),
    flag("prop", 'p', "prop", "KEY=VALUE", "a property of the plugin before it"),
    flag("tag", 't', "tag", "TAG", "tag of the input before it"),
];

/// What sets a key of `[SERVICE]`: the flag and the key. The file wins, as in Fluent Bit.
pub const SERVICE: [(Flag, &str); 6] = [
    (flag("flush", 'f', "flush", "SECONDS", "time between flushes"), "flush"),
    (flag("log_file", 'l', "log_file", "FILE", "append the log to a file"), "log_file"),
    (flag("parser", 'R', "parser", "FILE", "read a file of parsers"), "parsers_file"),
    (flag("stack", 's', "coro_stack_size", "BYTES", "has no effect here"), "coro_stack_size"),
    (flag("shards", ' ', "shards", "N", "number of shards, one a core if not set"), "shards"),
    (flag("mem_limit", ' ', "mem_limit", "SIZE", "memory for events of all inputs"), "mem_limit"),
];

/// Fluent Bit's flags whose feature does not exist yet.
pub const LATER: [Flag; 19] = [
    flag("storage_path", 'b', "storage_path", "PATH", ""),
    flag("supervisor", ' ', "supervisor", "", ""),
    flag("processor", 'r', "processor", "NAME", ""),
    flag("sp_task", 'T', "sp-task", "SQL", ""),
    flag("http", 'H', "http", "", ""),
    flag("http_server", ' ', "http_server", "", ""),
    flag("http_listen", 'L', "http_listen", "ADDRESS", ""),
    flag("http_port", 'P', "http_port", "PORT", ""),
    flag("port", ' ', "port", "PORT", ""),
    flag("sosreport", 'S', "sosreport", "", ""),
    flag("reload", 'Y', "enable-hot-reload", "", ""),
    flag("reload_unsafe", 'W', "disable-thread-safety-on-hot-reload", "", ""),
    flag("fips", ' ', "enable-fips", "", ""),
    flag("chunk_trace", 'Z', "enable-chunk-trace", "", ""),
    flag("trace", ' ', "trace", "SETTINGS", ""),
    flag("trace_input", ' ', "trace-input", "NAME", ""),
    flag("trace_output", ' ', "trace-output", "NAME", ""),
    flag("trace_property", ' ', "trace-output-property", "KEY=VALUE", ""),
    flag("help_json", 'J', "help-json", "", ""),
];

/// The parser of the command line.
pub fn command() -> Command {
    let mut command = Command::new("dataplane")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        // Fluent Bit passes over words that belong to no flag.
        .arg(Arg::new("rest").num_args(0..).action(ArgAction::Append).hide(true));
    let service = SERVICE.iter().map(|(flag, _)| flag);
    for flag in PROGRAM.iter().chain(&SECTIONS).chain(service).chain(&LATER) {
        let mut arg = Arg::new(flag.id).long(flag.long);
        if let Some(short) = flag.short {
            arg = arg.short(short);
        }
        arg = match flag.value {
            Some(name) => arg.value_name(name).action(ArgAction::Append).allow_hyphen_values(true),
            None => arg.action(ArgAction::Count),
        };
        command = command.arg(arg);
    }
    command
}
