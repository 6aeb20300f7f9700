//! The command line: Fluent Bit's flags with its order. `-i cpu -t my.cpu -p interval_sec=1 -o stdout -m '*'`
//! builds sections from left to right.
//!
//! Reading order: `flags` (the tables), this file, `sections` (flags to sections), `help`.

mod flags;
mod help;
mod sections;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use config::{Document, Problems};

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

/// Reads a command line, the program's name first.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Request {
    let matches = match flags::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let text = error.render().to_string();
            let reason = text.split("\n\nUsage:").next().unwrap_or(&text);
            // Words that belong to no flag have no meaning here.
            let reason = reason.split("\n\n  tip: to pass").next().unwrap_or(reason).trim_end();
            return Request::Refuse(format!("{reason}\n\n`dataplane -h` lists the options.\n"));
        }
    };
    if matches.get_count("help") > 0 {
        return help_for(&matches);
    }
    if matches.get_count("version") > 0 {
        return Request::Print(format!("dataplane v{}\n", env!("CARGO_PKG_VERSION")));
    }
    for flag in &flags::LATER {
        let is_given = match flag.value {
            Some(_) => matches.contains_id(flag.id),
            None => matches.get_count(flag.id) > 0,
        };
        if is_given {
            let shown = flag.shown();
            return Request::Refuse(format!("error: `{shown}` is not supported yet: remove it\n"));
        }
    }
    Request::Run(Box::new(options(&matches)))
}

fn options(matches: &ArgMatches) -> Options {
    let mut document = Document::empty();
    let mut problems = Problems::default();
    sections::build(matches, &mut document, &mut problems);
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

/// The general help, or the keys of the last plugin named, before or after `-h`.
fn help_for(matches: &ArgMatches) -> Request {
    let named = sections::ordered(matches);
    let is_plugin = |id: &str| matches!(id, "input" | "filter" | "output" | "custom");
    match named.iter().rfind(|(_, flag, _)| is_plugin(flag.id)) {
        None => Request::Print(help::general()),
        Some((_, flag, name)) => match help::plugin(flag.id, name) {
            Ok(text) => Request::Print(text),
            Err(text) => Request::Refuse(text),
        },
    }
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
    fn flags_combine_abbreviate_and_pass_over_stray_words() {
        let options = run(&["-vvq", "-Dcx.conf", "stray", "--sha=3", "--log_f", "l.txt"]);
        assert_eq!((options.verbosity, options.is_quiet, options.is_dry_run), (2, true, true));
        assert_eq!(options.config, Some(PathBuf::from("x.conf")));
        assert_eq!(options.document.service.get("shards").unwrap().value, "3");
        assert_eq!(options.document.service.get("log_file").unwrap().value, "l.txt");
        let options = run(&["-c", "a", "-c", "b", "-i", "dummy", "-m", "x"]);
        assert_eq!(options.config, Some(PathBuf::from("b")));
        assert_eq!(options.problems.iter().count(), 1);
    }

    #[test]
    fn every_flag_of_fluent_bit_is_known_or_refused_by_name() {
        let taken = [
            "-c x", "-d", "-D", "-f 1", "-i cpu", "-o null", "-F grep", "-C x", "-e x", "-l x",
            "-R x", "-v", "-q", "-w /", "-s 65536",
        ];
        for line in taken {
            run(&line.split(' ').collect::<Vec<_>>());
        }
        let refused = [
            "-b x",
            "--supervisor",
            "-r x",
            "-T x",
            "-H",
            "--http",
            "--http_server",
            "-L x",
            "-P 1",
            "--port 1",
            "-S",
            "-Y",
            "-W",
            "--enable-fips",
            "-Z",
            "--trace x",
            "--trace-input x",
            "--trace-output x",
            "--trace-output-property x",
            "-J",
        ];
        for line in refused {
            let arguments = std::iter::once("dataplane").chain(line.split(' ')).map(OsString::from);
            let flag = line.split(' ').next().unwrap();
            match parse(arguments) {
                Request::Refuse(text) => {
                    assert!(text.contains(flag) && text.contains("not supported yet"), "{text}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
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
            matches!(request, Request::Print(text) if text.contains("samples                      (number, default 0)"))
        );
        let request = parse(["dataplane", "-h", "-i", "dummy"].map(OsString::from));
        assert!(matches!(request, Request::Print(text) if text.contains("Keys of every input")));
        let request = parse(["dataplane", "-i", "nothing", "-h"].map(OsString::from));
        assert!(
            matches!(request, Request::Refuse(text) if text.contains("no built-in input plugin `nothing`"))
        );
        let Request::Print(text) = parse(["dataplane", "-h"].map(OsString::from)) else { panic!() };
        for part in ["-c, --config=FILE", "-v, --verbose  ", "\n  tail  ", "\n  stdout  "] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let has_plain_dots = text.lines().any(|line| line.contains("--") && line.contains("..."));
        assert!(!has_plain_dots, "{text}");
    }
}
