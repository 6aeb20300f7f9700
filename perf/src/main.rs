//! Whole-program measurements: the same configuration and the same bytes through `dataplane` and through a peer.
//!
//! Cost is CPU-seconds of the process per GB of input, user and system, best of several rounds, both programs in
//! turn so that a drift of the machine hits both. A run of ours that lost a record fails.
//!
//! Reading order: [`scenarios`] (what is run), [`lines`] and [`load`] (the bytes), [`run`] (a process and its cost).

mod lines;
mod load;
mod run;
mod scenarios;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::run::{Cost, Program};
use crate::scenarios::{SCENARIOS, Scenario, Workload};

/// Measures dataplane, alone or beside a peer that takes the same flags.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run scenarios and print CPU-seconds per GB.
    Compare(Compare),
    /// Write log lines to a file.
    Lines {
        /// The file.
        path: PathBuf,
        /// What its lines are.
        #[arg(long, value_enum, default_value_t = lines::LineKind::Plain)]
        kind: lines::LineKind,
        /// Its size in MB.
        #[arg(long, default_value_t = 300)]
        megabytes: usize,
    },
    /// Send a load to a listening input until all of it is taken.
    Send {
        /// `tcp-json` or `forward`.
        protocol: scenarios::Protocol,
        /// Address and port.
        address: std::net::SocketAddr,
        /// How much, in MB.
        #[arg(long, default_value_t = 300)]
        megabytes: usize,
        /// Connections to send over.
        #[arg(long, default_value_t = 1)]
        connections: usize,
    },
}

#[derive(clap::Args)]
struct Compare {
    /// The program; by default the release build beside this one.
    #[arg(long)]
    program: Option<PathBuf>,
    /// A peer that reads the same configuration.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// Numbers of shards to run ours with.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    shards: Vec<usize>,
    /// Rounds; the best counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Input of each run, in MB.
    #[arg(long, default_value_t = 300)]
    megabytes: usize,
    /// Scenarios to run; all of them by default.
    names: Vec<String>,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Compare(compare) => compare.run(),
        Task::Lines { path, kind, megabytes } => load::lines_file(&path, kind, megabytes).map(drop),
        Task::Send { protocol, address, megabytes, connections } => {
            load::send(protocol, address, megabytes, connections)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Nobody reads standard error: nothing is left to say.
            let _ = writeln!(std::io::stderr(), "perf: {reason}");
            ExitCode::FAILURE
        }
    }
}

impl Compare {
    fn run(&self) -> Result<(), String> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => beside("dataplane")?,
        };
        let mut programs: Vec<Program> = Vec::new();
        for shards in &self.shards {
            let arguments = vec!["--shards".to_owned(), shards.to_string()];
            let name = format!("{shards} shard(s)");
            programs.push(Program { name, path: program.clone(), arguments, is_ours: true });
        }
        if let Some(peer) = &self.peer {
            let name = "peer".to_owned();
            programs.push(Program { name, path: peer.clone(), arguments: vec![], is_ours: false });
        }
        let unknown = self.names.iter().find(|name| SCENARIOS.iter().all(|s| s.name != **name));
        if let Some(name) = unknown {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            return Err(format!("unknown scenario `{name}`; these exist: {}", known.join(", ")));
        }
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut workload = Workload::new(folder.path(), self.megabytes);
        say(&format!(
            "{:<20} {:<12} {:>10} {:>10} {:>8} {:>9} {:>8}\n",
            "scenario", "program", "CPU-s/GB", "MB/CPU-s", "wall s", "peak MiB", "ratio"
        ));
        for scenario in SCENARIOS {
            if self.names.is_empty() || self.names.iter().any(|name| name == scenario.name) {
                self.run_scenario(scenario, &programs, &mut workload)?;
            }
        }
        Ok(())
    }

    fn run_scenario(
        &self,
        scenario: &Scenario,
        programs: &[Program],
        workload: &mut Workload,
    ) -> Result<(), String> {
        let mut best: Vec<Option<Cost>> = vec![None; programs.len()];
        for _ in 0..self.rounds.max(1) {
            for (program, best) in programs.iter().zip(&mut best) {
                let cost = scenario.run(program, workload)?;
                let is_better = best.as_ref().is_none_or(|best| cost.cpu < best.cpu);
                if is_better {
                    *best = Some(cost);
                }
            }
        }
        let peer = programs.iter().zip(&best).find(|(program, _)| !program.is_ours);
        let peer_cpu = peer.and_then(|(_, cost)| cost.as_ref()).map(|cost| cost.cpu.as_secs_f64());
        let mut text = String::new();
        for (program, cost) in programs.iter().zip(&best) {
            let Some(cost) = cost else { continue };
            let cpu = cost.cpu.as_secs_f64();
            let gigabytes = cost.input_bytes as f64 / 1e9;
            let ratio = peer_cpu.map_or(String::new(), |peer| format!("{:.1}x", peer / cpu));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:<20} {:<12} {:>10.3} {:>10.0} {:>8.2} {:>9.1} {:>8}",
                scenario.name,
                program.name,
                cpu / gigabytes,
                gigabytes * 1e3 / cpu,
                cost.wall.as_secs_f64(),
                cost.resident_bytes_max as f64 / (1 << 20) as f64,
                ratio
            );
        }
        say(&text);
        Ok(())
    }
}

/// A program of the same build.
fn beside(name: &str) -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = this.with_file_name(name);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("no `{}`: build it with `cargo build --release`", path.display())),
    }
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // A reader that has gone needs no table.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
