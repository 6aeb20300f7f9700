//! `counter`: prints how many records each flush brought.

use std::io::Write;
use std::sync::Arc;

use config::{Problems, Section, Settings};

use crate::chunk::Chunk;
use crate::event::reader::{EventKind, Events};
use crate::log::Log;
use crate::outputs::stdout::StdoutWriter;
use crate::plugin::descriptor::{BuildContext, OutputPlugin, Placement};
use crate::plugin::output::{
    FlushStatus, OutputDefinition, SinkBatch, SinkOutput, SinkOwner, SinkWriter,
};
use crate::reactor;

/// The `counter` output.
pub static PLUGIN: OutputPlugin = OutputPlugin {
    name: "counter",
    summary: "prints how many records each flush brought",
    keys: CounterSettings::KEYS,
    placement: Placement::OneSink,
    build,
};

config::config_map! {
    /// What `counter` is told: nothing.
    pub struct CounterSettings {}
}

struct Counter;

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<OutputDefinition> {
    CounterSettings::read(section, context.engine_keys, problems)?;
    Some(OutputDefinition::Sink(Arc::new(Counter)))
}

impl SinkOutput for Counter {
    fn owner(&self) -> SinkOwner {
        SinkOwner::Stdout
    }

    /// The counts as the writer wants them: events, and those of them that are records and no group markers.
    fn format(&self, chunk: &Chunk, out: &mut Vec<u8>) -> u32 {
        let (mut events, mut records) = (0u32, 0u32);
        for event in Events::new(chunk.bytes()).flatten() {
            events += 1;
            records += u32::from(event.kind == EventKind::Log);
        }
        out.extend_from_slice(&events.to_le_bytes());
        out.extend_from_slice(&records.to_le_bytes());
        chunk.record_count().saturating_sub(events)
    }

    fn open(&self, log: Log) -> Box<dyn SinkWriter> {
        Box::new(CounterWriter { stdout: StdoutWriter::new(log), line: Vec::new() })
    }
}

struct CounterWriter {
    stdout: StdoutWriter,
    line: Vec<u8>,
}

impl SinkWriter for CounterWriter {
    fn write(&mut self, batch: &SinkBatch<'_>) -> FlushStatus {
        let counts = batch.bytes.chunks_exact(4).map(|count| match count {
            [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        });
        let [events, records] = counts.fold([0, 0], |[_, first], second| [first, second]);
        self.line.clear();
        // Writing to a Vec cannot fail.
        let _ = writeln!(
            self.line,
            "{{\"ts\":{:.6},\"serialized_events\":{events},\"log_records\":{records},\"total\":{events}}}",
            reactor::now().as_f64()
        );
        self.stdout.write_all(&self.line)
    }
}
