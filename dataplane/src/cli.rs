//! The command line: Fluent Bit's flags with its order. `-i cpu -t my.cpu -p interval_sec=1 -o stdout -m '*'`
//! builds sections from left to right.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use config::{Document, Problem, Problems, Property, Section, SourceId, Span};

use crate::inputs::INPUTS;
use crate::outputs::OUTPUTS;

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Run, or check with `--dry-run`.
    Run(Box<Options>),
    /// Print this and end with status 0.
    Print(String),
    /// Print this to standard error and end with status 1.
    Refuse(String),
}

/// The command line, read.
#[derive(Debug)]
pub struct Options {
    /// `-c`
    pub config: Option<PathBuf>,
    /// `-w`
    pub workdir: Option<PathBuf>,
    /// `-e`, in order.
    pub plugins: Vec<PathBuf>,
    /// `-D`
    pub is_dry_run: bool,
    /// `--strict`
    pub is_strict: bool,
    /// How often `-v`.
    pub verbosity: u8,
    /// `-q`
    pub is_quiet: bool,
    /// Sections and service keys.
    pub document: Document,
    /// What was wrong with them.
    pub problems: Problems,
}

/// Flags that build sections: id, short, long, what the value is called.
const SECTION_FLAGS: [(&str, char, &str, &str, &str); 7] = [
    ("custom", 'C', "custom", "NAME", "start a custom plugin"),
    ("input", 'i', "input", "NAME", "start an input plugin"),
    ("filter", 'F', "filter", "NAME", "start a filter plugin"),
    ("output", 'o', "output", "NAME", "start an output plugin"),
    ("match", 'm', "match", "PATTERN", "tags the plugin before takes"),
    ("prop", 'p', "prop", "KEY=VALUE", "set a property of the plugin before"),
    ("tag", 't', "tag", "TAG", "tag of the input before"),
];

/// A flag that sets a service key: id, short, long, value name, service key, help.
type ServiceFlag =
    (&'static str, Option<char>, &'static str, &'static str, &'static str, &'static str);

/// All of them.
const SERVICE_FLAGS: [ServiceFlag; 6] = [
    ("flush", Some('f'), "flush", "SECONDS", "flush", "time between flushes"),
    ("log_file", Some('l'), "log_file", "FILE", "log_file", "append the log to a file"),
    ("parser", Some('R'), "parser", "FILE", "parsers_file", "read a file of parsers"),
    ("stack", Some('s'), "coro_stack_size", "BYTES", "coro_stack_size", "has no effect here"),
    ("shards", None, "shards", "N", "shards", "number of shards, default one a core"),
    ("mem_limit", None, "mem_limit", "SIZE", "mem_limit", "memory for events of all inputs"),
];

/// Fluent Bit's flags whose feature does not exist yet: id, short, long, whether it takes a value.
const LATER_FLAGS: [(&str, Option<char>, &str, bool); 20] = [
    ("storage_path", Some('b'), "storage_path", true),
    ("supervisor", None, "supervisor", false),
    ("processor", Some('r'), "processor", true),
    ("sp_task", Some('T'), "sp-task", true),
    ("http", Some('H'), "http", false),
    ("http_server", None, "http_server", false),
    ("http_listen", Some('L'), "http_listen", true),
    ("http_port", Some('P'), "http_port", true),
    ("port", None, "port", true),
    ("sosreport", Some('S'), "sosreport", false),
    ("reload", Some('Y'), "enable-hot-reload", false),
    ("reload_unsafe", Some('W'), "disable-thread-safety-on-hot-reload", false),
    ("fips", None, "enable-fips", false),
    ("chunk_trace", Some('Z'), "enable-chunk-trace", false),
    ("trace", None, "trace", true),
    ("trace_input", None, "trace-input", true),
    ("trace_output", None, "trace-output", true),
    ("trace_property", None, "trace-output-property", true),
    ("help_json", Some('J'), "help-json", false),
    ("unused", None, "windows-service", false),
];

fn command() -> Command {
    let mut command = Command::new("dataplane")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .about("A thread-per-core telemetry dataplane that runs Fluent Bit configurations and Go output plugins.")
        .arg(value_arg("config", Some('c'), "config", "FILE").help("read a configuration file"))
        .arg(value_arg("plugin", Some('e'), "plugin", "FILE").help("load a plugin (shared object)"))
        .arg(value_arg("workdir", Some('w'), "workdir", "DIR").help("change to a directory first"))
        .arg(flag("daemon", Some('d'), "daemon").help("run in the background"))
        .arg(flag("dry_run", Some('D'), "dry-run").help("check the configuration and end"))
        .arg(flag("strict", None, "strict").help("make warnings of the configuration errors"))
        .arg(flag("verbose", Some('v'), "verbose").help("log more; twice, still more"))
        .arg(flag("quiet", Some('q'), "quiet").help("log nothing"))
        .arg(flag("version", Some('V'), "version").help("print the version"))
        .arg(flag("help", Some('h'), "help").help("print this, or after a plugin's flag its properties"))
        .arg(Arg::new("rest").num_args(0..).action(ArgAction::Append).hide(true));
    for (id, short, long, name, help) in SECTION_FLAGS {
        command = command
            .arg(value_arg(id, Some(short), long, name).help(help).allow_hyphen_values(true));
    }
    for (id, short, long, name, _, help) in SERVICE_FLAGS {
        command = command.arg(value_arg(id, short, long, name).help(help));
    }
    for (id, short, long, takes_value) in LATER_FLAGS {
        let arg = match takes_value {
            true => value_arg(id, short, long, "VALUE"),
            false => flag(id, short, long),
        };
        command = command.arg(arg.hide(true));
    }
    command
}

fn value_arg(id: &'static str, short: Option<char>, long: &'static str, name: &'static str) -> Arg {
    let arg = Arg::new(id).long(long).value_name(name).action(ArgAction::Append);
    match short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

fn flag(id: &'static str, short: Option<char>, long: &'static str) -> Arg {
    let arg = Arg::new(id).long(long).action(ArgAction::Count);
    match short {
        Some(short) => arg.short(short),
        None => arg,
    }
}

/// Reads a command line, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Request {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = match command().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => return Request::Refuse(error.render().to_string()),
    };
    if matches.get_count("version") > 0 {
        return Request::Print(format!("dataplane v{}\n", env!("CARGO_PKG_VERSION")));
    }
    if matches.get_count("help") > 0 {
        return Request::Print(help(&matches));
    }
    for (id, short, long, takes_value) in LATER_FLAGS {
        let is_given = match takes_value {
            true => matches.contains_id(id),
            false => matches.get_count(id) > 0,
        };
        if is_given {
            let short = short.map_or(String::new(), |short| format!("-{short}, "));
            return Request::Refuse(format!(
                "error: `{short}--{long}` is not supported yet: remove it\n"
            ));
        }
    }
    Request::Run(Box::new(options(&matches)))
}

fn options(matches: &ArgMatches) -> Options {
    let mut document = Document::empty();
    let mut problems = Problems::default();
    build_sections(matches, &mut document, &mut problems);
    let path =
        |id: &str| matches.get_many::<String>(id).and_then(Iterator::last).map(PathBuf::from);
    let plugins =
        matches.get_many::<String>("plugin").unwrap_or_default().map(PathBuf::from).collect();
    Options {
        config: path("config"),
        workdir: path("workdir"),
        plugins,
        is_dry_run: matches.get_count("dry_run") > 0,
        is_strict: matches.get_count("strict") > 0,
        verbosity: matches.get_count("verbose"),
        is_quiet: matches.get_count("quiet") > 0,
        document,
        problems,
    }
}

/// The flags that build sections, in the order they were given.
fn ordered(matches: &ArgMatches) -> Vec<(usize, &'static str, String)> {
    let mut all = Vec::new();
    for (id, ..) in SECTION_FLAGS {
        let (Some(values), Some(indices)) =
            (matches.get_many::<String>(id), matches.indices_of(id))
        else {
            continue;
        };
        all.extend(indices.zip(values).map(|(index, value)| (index, id, value.clone())));
    }
    all.sort_unstable();
    all
}

fn build_sections(matches: &ArgMatches, document: &mut Document, problems: &mut Problems) {
    let mut text = CommandText::default();
    let mut properties: Vec<(usize, &'static str, Property)> = Vec::new();
    for (index, id, value) in ordered(matches) {
        let (_, short, ..) = SECTION_FLAGS
            .iter()
            .find(|(flag, ..)| *flag == id)
            .copied()
            .unwrap_or(SECTION_FLAGS[0]);
        let (key, value) = match id {
            "prop" => match value.split_once('=') {
                Some((key, value)) => (key.trim().to_owned(), value.trim().to_owned()),
                None => {
                    let range = text.push(&format!("-{short}"), &value);
                    problems.push(Problem::warning(
                        None,
                        format!("`-p {value}` has no `=`: it has no effect"),
                    ));
                    let _ = range;
                    continue;
                }
            },
            "match" | "tag" => (id.to_owned(), value),
            _ => ("name".to_owned(), value),
        };
        let (start, end) = text.push(&format!("-{short}"), &value);
        // The source is added below, when its text is whole: its id is the next one.
        let span = |source| Span::new(source, start, end);
        let placeholder = span(document.service.span.source);
        properties.push((
            index,
            id,
            Property { key, value, key_span: placeholder, value_span: placeholder },
        ));
    }
    let service: Vec<_> = SERVICE_FLAGS
        .iter()
        .flat_map(|(id, short, long, _, key, _)| {
            let values = matches.get_many::<String>(id).unwrap_or_default();
            let shown = short.map_or(format!("--{long}"), |short| format!("-{short}"));
            values.map(move |value| (shown.clone(), (*key).to_owned(), value.clone()))
        })
        .collect();
    let mut service: Vec<_> = service
        .into_iter()
        .map(|(shown, key, value)| {
            let (start, end) = text.push(&shown, &value);
            (key, value, start, end)
        })
        .collect();
    if matches.get_count("daemon") > 0 {
        let (start, end) = text.push("-d", "");
        service.push(("daemon".into(), "on".into(), start, end));
    }
    let source = document.sources.add("command line", text.text);
    for (key, value, start, end) in service {
        let span = Span::new(source, start, end);
        document.service.properties.push(Property { key, value, key_span: span, value_span: span });
    }
    place(properties, source, document, problems);
}

/// The command line as a text that problems can point into.
#[derive(Default)]
struct CommandText {
    text: String,
}

impl CommandText {
    fn push(&mut self, flag: &str, value: &str) -> (usize, usize) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text += flag;
        if !value.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text += value;
        (start, self.text.len())
    }
}

/// Puts properties into sections from left to right.
fn place(
    properties: Vec<(usize, &'static str, Property)>,
    source: SourceId,
    document: &mut Document,
    problems: &mut Problems,
) {
    let mut last: Option<(&'static str, Section)> = None;
    for (_, id, mut property) in properties {
        for span in [&mut property.key_span, &mut property.value_span] {
            *span = Span::new(source, span.start as usize, span.end as usize);
        }
        match id {
            "match" | "tag" | "prop" => match &mut last {
                None => {
                    let message = format!("`{}` stands before any plugin", property.key);
                    problems.push(
                        Problem::error(property.key_span, message)
                            .with_help("begin with `-i` or `-o`"),
                    );
                }
                // As in Fluent Bit: inputs have no match.
                Some(("input" | "custom", _)) if id == "match" => {
                    problems.push(Problem::warning(
                        property.value_span,
                        "`-m` after an input has no effect",
                    ));
                }
                Some((_, section)) => section.properties.push(property),
            },
            kind => {
                finish(last.take(), document);
                let mut section = Section::new(kind, property.value_span);
                section.properties.push(property);
                last = Some((kind, section));
            }
        }
    }
    finish(last, document);
}

fn finish(last: Option<(&'static str, Section)>, document: &mut Document) {
    let Some((kind, section)) = last else { return };
    match kind {
        "input" => document.inputs.push(section),
        "filter" => document.filters.push(section),
        "output" => document.outputs.push(section),
        _ => document.customs.push(section),
    }
}

/// The general help, or the keys of the last plugin named.
fn help(matches: &ArgMatches) -> String {
    let named = ordered(matches);
    let last = named.iter().rfind(|(_, id, _)| matches!(*id, "input" | "output"));
    if let Some((_, kind, name)) = last
        && let Some(text) = plugin_help(kind, name)
    {
        return text;
    }
    let mut text = command().render_long_help().to_string();
    text += "\nInputs:\n";
    for plugin in INPUTS {
        text += &format!("  {:<12} {}\n", plugin.name, plugin.summary);
    }
    text += "\nOutputs:\n";
    for plugin in OUTPUTS {
        text += &format!("  {:<12} {}\n", plugin.name, plugin.summary);
    }
    text +=
        "\nGo and C output plugins are loaded with `-e`, a `plugins_file`, or `plugins` in YAML.\n";
    text
}

fn plugin_help(kind: &str, name: &str) -> Option<String> {
    let (summary, keys) = match kind {
        "input" => {
            let plugin = INPUTS.iter().find(|plugin| plugin.name.eq_ignore_ascii_case(name))?;
            (plugin.summary, plugin.keys)
        }
        _ => {
            let plugin = OUTPUTS.iter().find(|plugin| plugin.name.eq_ignore_ascii_case(name))?;
            (plugin.summary, plugin.keys)
        }
    };
    let mut text = format!("{kind} `{}`: {summary}\n\n", name.to_ascii_lowercase());
    for key in keys {
        let kind = match key.later {
            true => "not supported yet".to_owned(),
            false => key.type_name.to_owned(),
        };
        let default = match (key.required, key.default) {
            (true, _) => ", required".to_owned(),
            (false, Some(default)) => format!(", default {default}"),
            (false, None) => String::new(),
        };
        text += &format!("{}  ({kind}{default})\n    {}\n", key.name, key.help.trim());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &[&str]) -> Options {
        let arguments =
            std::iter::once("dataplane").chain(line.iter().copied()).map(OsString::from);
        match parse(arguments) {
            Request::Run(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sections_are_built_from_left_to_right() {
        let line = [
            "-i",
            "cpu",
            "-t",
            "my.cpu",
            "-p",
            "interval_sec=1",
            "-o",
            "stdout",
            "-m",
            "*",
            "-p",
            "a=b=c",
        ];
        let options = run(&line);
        assert!(options.problems.is_empty());
        let cpu = &options.document.inputs[0];
        assert_eq!(cpu.get("tag").unwrap().value, "my.cpu");
        assert_eq!(cpu.get("interval_sec").unwrap().value, "1");
        let stdout = &options.document.outputs[0];
        assert_eq!(stdout.get("match").unwrap().value, "*");
        assert_eq!(stdout.get("a").unwrap().value, "b=c");
        assert!(stdout.get("interval_sec").is_none());
        let span = stdout.get("match").unwrap().value_span;
        let text = options.document.sources.text(span.source);
        assert_eq!(&text[span.start as usize..span.end as usize], "*");
    }

    #[test]
    fn a_property_before_any_plugin_is_an_error() {
        assert!(run(&["-p", "a=b"]).problems.has_errors());
        assert!(!run(&["-i", "cpu", "-p", "nothing"]).problems.has_errors());
    }

    #[test]
    fn service_flags_become_service_keys() {
        let options = run(&["-f", "0.5", "-d", "--shards", "2", "-vv"]);
        assert_eq!(options.document.service.get("flush").unwrap().value, "0.5");
        assert_eq!(options.document.service.get("daemon").unwrap().value, "on");
        assert_eq!(options.document.service.get("shards").unwrap().value, "2");
        assert_eq!(options.verbosity, 2);
    }

    #[test]
    fn a_flag_whose_feature_comes_later_is_refused_by_name() {
        let request = parse(["dataplane", "-H"].map(OsString::from));
        assert!(
            matches!(request, Request::Refuse(text) if text.contains("`-H, --http` is not supported yet"))
        );
        let request = parse(["dataplane", "--nonsense"].map(OsString::from));
        assert!(matches!(request, Request::Refuse(_)));
    }

    #[test]
    fn help_after_a_plugin_prints_its_keys() {
        let request = parse(["dataplane", "-i", "dummy", "-h"].map(OsString::from));
        assert!(
            matches!(request, Request::Print(text) if text.contains("samples  (number, default 0)"))
        );
        let request = parse(["dataplane", "-h"].map(OsString::from));
        assert!(matches!(request, Request::Print(text) if text.contains("stdout")));
    }
}
