//! `stdout`: prints records as they pass, for looking at what a chain does.
//!
//! Each shard writes its batches whole, so no line is torn. A terminal that does not read holds the records back, as
//! in Fluent Bit.

use std::io::Write;
use std::sync::Arc;

use config::{Problems, Section, Settings};

use crate::codec::json_text::put_integer;
use crate::codec::msgpack_text::put_text;
use crate::event::record::Record;
use crate::event::time::Clock;
use crate::log::Log;
use crate::outputs::whole::{Partial, write_whole};
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterCounters, FilterDefinition, FilterPlace, Verdict};

/// The `stdout` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "stdout",
    summary: "prints records as they pass",
    keys: StdoutSettings::KEYS,
    build,
};

config::config_map! {
    /// `stdout` has no keys of its own.
    pub struct StdoutSettings {}
}

struct Stdout;

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    StdoutSettings::read(section, context.engine_keys, problems)?;
    Some(Arc::new(Stdout))
}

impl FilterDefinition for Stdout {
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter> {
        let log = place.log.clone();
        Box::new(Printer { lines: Vec::new(), body: Vec::new(), number: 0, log, is_gone: false })
    }
}

struct Printer {
    /// Lines of the batch.
    lines: Vec<u8>,
    body: Vec<u8>,
    number: u64,
    log: Log,
    is_gone: bool,
}

impl Printer {
    /// `[0] tag: [1700000000.123456789, {}, {"log"=>"x"}]`
    fn put_line(&mut self, record: &Record<'_>) {
        let Printer { lines, body, .. } = self;
        let start = lines.len();
        lines.push(b'[');
        put_integer(lines, self.number);
        lines.extend_from_slice(b"] ");
        lines.extend_from_slice(record.tag());
        // Writing to a Vec cannot fail.
        let _ = write!(lines, ": [{}.{:09}, ", record.time().secs, record.time().nanos);
        body.clear();
        record.write_body(body);
        let metadata = put_text(record.metadata(), lines);
        lines.extend_from_slice(b", ");
        match metadata.and_then(|()| put_text(body, lines)) {
            Ok(()) => lines.extend_from_slice(b"]\n"),
            // What is too deep to be shown passes all the same.
            Err(_) => lines.truncate(start),
        }
        self.number += 1;
    }
}

impl Filter for Printer {
    fn begin_batch(&mut self, _clock: Clock) {
        self.lines.clear();
        self.number = 0;
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        self.put_line(record);
        Verdict::Keep
    }

    fn end_batch(&mut self, _counters: &mut FilterCounters) {
        if self.lines.is_empty() {
            return;
        }
        match write_whole(rustix::stdio::stdout(), &self.lines) {
            Ok(()) => self.is_gone = false,
            Err(Partial { error, .. }) if !self.is_gone => {
                self.is_gone = true;
                self.log.error(format_args!("cannot write to standard output: {error}"));
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::encode_value;
    use crate::event::encoder::event_header;
    use crate::event::reader::Events;
    use crate::event::record::Workspace;
    use crate::event::time::EventTime;

    #[test]
    fn a_line_shows_what_earlier_filters_made_of_the_record() {
        let mut bytes = Vec::new();
        event_header(&mut bytes, EventTime { secs: 5, nanos: 6 });
        encode_value(br#"{"a":1}"#, &mut bytes).unwrap();
        let event = Events::new(&bytes).next().unwrap().unwrap();
        let mut work = Workspace::default();
        let mut record = Record::new(b"t", event, &mut work).unwrap();
        record.push_str(b"b", b"x");
        let (lines, body) = (Vec::new(), Vec::new());
        let mut printer = Printer { lines, body, number: 3, log: Log::discard(), is_gone: false };
        printer.put_line(&record);
        let printed = String::from_utf8(printer.lines).unwrap();
        assert_eq!(printed, "[3] t: [5.000000006, {}, {\"a\"=>1, \"b\"=>\"x\"}]\n");
    }
}
