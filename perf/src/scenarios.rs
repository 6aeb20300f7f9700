//! What is run: one configuration and one load each, with buffers that suit both programs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

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
    File,
    /// Connections, one for each shard.
    Sockets(Protocol),
}

/// One question.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    source: Source,
    output: &'static str,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "tail-null", source: Source::File, output: "null" },
    Scenario { name: "tcp-json-null", source: Source::Sockets(Protocol::TcpJson), output: "null" },
    Scenario { name: "forward-null", source: Source::Sockets(Protocol::Forward), output: "null" },
    Scenario { name: "tail-go", source: Source::File, output: GO_OUTPUT },
];

/// The Go plugin that takes everything.
const GO_OUTPUT: &str = "noop";
/// Connections of a socket load.
const CONNECTIONS: usize = 2;

/// What the runs share, made when it is first needed.
pub struct Workload<'a> {
    folder: &'a Path,
    megabytes: usize,
    lines: Option<(PathBuf, u64, u64)>,
    units: Vec<(Protocol, Unit)>,
    go_plugin: Option<PathBuf>,
}

impl<'a> Workload<'a> {
    /// Nothing yet.
    pub fn new(folder: &'a Path, megabytes: usize) -> Workload<'a> {
        Workload { folder, megabytes, lines: None, units: Vec::new(), go_plugin: None }
    }

    fn lines(&mut self) -> Result<(PathBuf, u64, u64), String> {
        if self.lines.is_none() {
            let path = self.folder.join("lines.log");
            let (bytes, count) = load::lines_file(&path, self.megabytes)?;
            self.lines = Some((path, bytes, count));
        }
        self.lines.clone().ok_or_else(|| "no lines".into())
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
        if self.output == GO_OUTPUT {
            let plugin = workload.go_plugin()?;
            arguments.extend(["-e".to_owned(), plugin.to_string_lossy().into_owned()]);
        }
        let fail = |reason: String| format!("{} with {}: {reason}", self.name, program.name);
        match self.source {
            Source::File => {
                let (path, bytes, count) = workload.lines()?;
                let config = workload.config(&self.tail(&path))?;
                let running = program.start(&config, &arguments)?;
                running.finish(bytes, program.is_ours.then_some(count)).map_err(fail)
            }
            Source::Sockets(protocol) => {
                let address = free_address()?;
                let config = workload.config(&self.listener(protocol, address))?;
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
    fn tail(&self, path: &Path) -> String {
        format!(
            "[SERVICE]\n    flush 0.2\n[INPUT]\n    name tail\n    path {}\n    read_from_head on\n    \
             exit_on_eof on\n    file_cache_advise off\n    buffer_chunk_size 1M\n    buffer_max_size 1M\n[OUTPUT]\n    name {}\n    \
             match *\n",
            path.display(),
            self.output
        )
    }

    fn listener(&self, protocol: Protocol, address: SocketAddr) -> String {
        let plugin = match protocol {
            Protocol::TcpJson => "tcp\n    chunk_size 1024\n    buffer_size 1024",
            Protocol::Forward => "forward\n    buffer_chunk_size 1M\n    buffer_max_size 6M",
        };
        format!(
            "[SERVICE]\n    flush 0.2\n[INPUT]\n    name {plugin}\n    listen {}\n    port {}\n[OUTPUT]\n    \
             name {}\n    match *\n",
            address.ip(),
            address.port(),
            self.output
        )
    }
}

impl Workload<'_> {
    fn config(&self, text: &str) -> Result<PathBuf, String> {
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
