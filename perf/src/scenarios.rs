//! What is run: one configuration and one load each, with buffers that suit both programs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lines::LineKind;
use crate::load::{self, Unit};
use crate::run::{Cost, Program};

/// A protocol that is sent over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Lines of JSON to `tcp`.
    TcpJson,
    /// PackedForward frames to `forward`.
    Forward,
}

/// Where the bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// One file, to its end.
    File(LineKind),
    /// Connections, one for each shard.
    Sockets(Protocol),
}

/// One question.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    source: Source,
    /// Further lines of the input's section.
    input: &'static str,
    /// Sections of filters.
    filters: &'static str,
    output: Output,
}

/// Where records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Nowhere.
    Null,
    /// A Go plugin that takes everything.
    Go,
    /// A file, as lines of JSON.
    JsonLines,
}

const fn tail(name: &'static str, lines: LineKind) -> Scenario {
    Scenario { name, source: Source::File(lines), input: "", filters: "", output: Output::Null }
}

const fn sockets(name: &'static str, protocol: Protocol) -> Scenario {
    let source = Source::Sockets(protocol);
    Scenario { name, source, input: "", filters: "", output: Output::Null }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    tail("tail-null", LineKind::Plain),
    Scenario { input: "parser app", ..tail("tail-json-null", LineKind::Json) },
    Scenario {
        input: "parser app",
        output: Output::JsonLines,
        ..tail("tail-json-file", LineKind::Json)
    },
    Scenario { input: "parser apache2", ..tail("tail-apache2-null", LineKind::Access) },
    Scenario { input: "parser nginx", ..tail("tail-nginx-null", LineKind::Access) },
    Scenario { filters: PLAIN_FILTERS, ..tail("tail-filters-null", LineKind::Plain) },
    Scenario {
        input: "multiline.parser cri",
        filters: PLAIN_FILTERS,
        ..tail("tail-cri-filters-null", LineKind::Cri)
    },
    Scenario { filters: LUA_FILTER, ..tail("tail-lua-null", LineKind::Plain) },
    sockets("tcp-json-null", Protocol::TcpJson),
    sockets("forward-null", Protocol::Forward),
    Scenario { output: Output::Go, ..tail("tail-go", LineKind::Plain) },
];

/// Every record passes them, changed.
const PLAIN_FILTERS: &str = "[FILTER]\n    name grep\n    match *\n    exclude log never-there\n[FILTER]\n    \
     name modify\n    match *\n    add cluster blue\n    rename log message\n[FILTER]\n    \
     name record_modifier\n    match *\n    record host web-1\n";
const LUA_FILTER: &str =
    "[FILTER]\n    name lua\n    match *\n    script set_key.lua\n    call set_key\n";
/// What stands beside the configuration.
const FILES: &[(&str, &str)] =
    &[("parsers.conf", include_str!("parsers.conf")), ("set_key.lua", include_str!("set_key.lua"))];
/// The file of [`Output::JsonLines`].
const OUTPUT_FILE: &str = "out.json";
/// Connections of a socket load.
const CONNECTIONS: usize = 2;

/// What the runs share, made when it is first needed.
pub struct Workload<'a> {
    folder: &'a Path,
    megabytes: usize,
    lines: Vec<(LineKind, LinesFile)>,
    units: Vec<(Protocol, Unit)>,
    go_plugin: Option<PathBuf>,
    /// Bytes that the first program wrote to the file of an output: others must write as many.
    written_bytes: Option<u64>,
}

/// A file, its bytes and its records.
type LinesFile = (PathBuf, u64, u64);

impl<'a> Workload<'a> {
    /// Nothing yet.
    pub fn new(folder: &'a Path, megabytes: usize) -> Workload<'a> {
        let (lines, units) = (Vec::new(), Vec::new());
        Workload { folder, megabytes, lines, units, go_plugin: None, written_bytes: None }
    }

    fn lines(&mut self, kind: LineKind) -> Result<LinesFile, String> {
        if let Some((_, file)) = self.lines.iter().find(|(known, _)| *known == kind) {
            return Ok(file.clone());
        }
        let path = self.folder.join(format!("{kind:?}.log"));
        let (bytes, count) = load::lines_file(&path, kind, self.megabytes)?;
        let file = (path, bytes, count);
        self.lines.push((kind, file.clone()));
        Ok(file)
    }

    /// Counts the lines of the output's file and takes it away.
    fn check_output(&mut self, records: u64) -> Result<(), String> {
        let path = self.folder.join(OUTPUT_FILE);
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        let (mut bytes, mut lines) = (0, 0);
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path).map_err(failed)?);
        loop {
            let block = reader.fill_buf().map_err(failed)?;
            if block.is_empty() {
                break;
            }
            lines += block.iter().filter(|byte| **byte == b'\n').count() as u64;
            let count = block.len();
            bytes += count as u64;
            reader.consume(count);
        }
        fs::remove_file(&path).map_err(failed)?;
        let expected_bytes = *self.written_bytes.get_or_insert(bytes);
        if lines != records || bytes != expected_bytes {
            return Err(format!(
                "{lines} lines and {bytes} bytes were written, not {records} and {expected_bytes}"
            ));
        }
        Ok(())
    }

    fn go_plugin(&mut self) -> Result<PathBuf, String> {
        if let Some(path) = &self.go_plugin {
            return Ok(path.clone());
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/noop");
        let path = self.folder.join("noop.so");
        let mut command = Command::new("go");
        command.current_dir(&source).args(["build", "-buildmode=c-shared", "-o"]).arg(&path);
        let output = command.output().map_err(|error| format!("cannot run go: {error}"))?;
        if !output.status.success() {
            return Err(format!("go build: {}", String::from_utf8_lossy(&output.stderr)));
        }
        self.go_plugin = Some(path.clone());
        Ok(path)
    }

    fn unit(&mut self, protocol: Protocol) -> &Unit {
        let known = self.units.iter().position(|(known, _)| *known == protocol);
        let index = known.unwrap_or_else(|| {
            self.units.push((protocol, load::unit(protocol)));
            self.units.len() - 1
        });
        &self.units[index].1
    }
}

impl Scenario {
    /// One run of a program.
    ///
    /// # Errors
    /// When it fails or loses a record.
    pub fn run(&self, program: &Program, workload: &mut Workload<'_>) -> Result<Cost, String> {
        let mut arguments = Vec::new();
        if self.output == Output::Go {
            let plugin = workload.go_plugin()?;
            arguments.extend(["-e".to_owned(), plugin.to_string_lossy().into_owned()]);
        }
        let fail = |reason: String| format!("{} with {}: {reason}", self.name, program.name);
        match self.source {
            Source::File(kind) => {
                let (path, bytes, count) = workload.lines(kind)?;
                let config = workload.config(&self.tail(&path, workload.folder))?;
                let running = program.start(&config, &arguments)?;
                let cost = running.finish(bytes, program.is_ours.then_some(count)).map_err(fail)?;
                if self.output == Output::JsonLines {
                    workload.check_output(count).map_err(fail)?;
                }
                Ok(cost)
            }
            Source::Sockets(protocol) => {
                let address = free_address()?;
                let config = workload.config(&self.listener(protocol, address, workload.folder))?;
                let megabytes = workload.megabytes;
                let unit = workload.unit(protocol);
                let running = program.start(&config, &arguments)?;
                let (bytes, count) = load::send_units(unit, address, megabytes, CONNECTIONS)?;
                running.terminate()?;
                running.finish(bytes, program.is_ours.then_some(count)).map_err(fail)
            }
        }
    }

    /// The page cache keeps the file, or only the first of all runs would find it there.
    fn tail(&self, path: &Path, folder: &Path) -> String {
        let input = format!(
            "name tail\n    path {}\n    read_from_head on\n    exit_on_eof on\n    \
             file_cache_advise off\n    buffer_chunk_size 1M\n    buffer_max_size 1M\n    {}",
            path.display(),
            self.input
        );
        self.config(&input, folder)
    }

    fn listener(&self, protocol: Protocol, address: SocketAddr, folder: &Path) -> String {
        let plugin = match protocol {
            Protocol::TcpJson => "tcp\n    chunk_size 1024\n    buffer_size 1024",
            Protocol::Forward => "forward\n    buffer_chunk_size 1M\n    buffer_max_size 6M",
        };
        let (host, port) = (address.ip(), address.port());
        self.config(&format!("name {plugin}\n    listen {host}\n    port {port}"), folder)
    }

    fn config(&self, input: &str, folder: &Path) -> String {
        let output = match self.output {
            Output::Null => "null".to_owned(),
            Output::Go => "noop".to_owned(),
            Output::JsonLines => {
                let folder = folder.display();
                format!("file\n    path {folder}\n    file {OUTPUT_FILE}\n    format plain")
            }
        };
        format!(
            "[SERVICE]\n    flush 0.2\n    parsers_file parsers.conf\n[INPUT]\n    {input}\n{}[OUTPUT]\n    \
             name {output}\n    match *\n",
            self.filters
        )
    }
}

impl Workload<'_> {
    fn config(&self, text: &str) -> Result<PathBuf, String> {
        for (name, text) in FILES {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let path = self.folder.join("run.conf");
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

/// A port that is free now; a peer that takes no port 0 can use it.
fn free_address() -> Result<SocketAddr, String> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map_err(|error| error.to_string())
}
