//! The time of a record in JSON: `json_date_format`.

use std::io::Write;

use crate::codec::json_text::{Nan, put_float, put_integer};
use crate::event::time::EventTime;

config::value_enum! {
    /// How `json_date_key` is written.
    pub enum JsonDateFormat {
        /// Seconds with a fraction.
        Double = "double",
        /// `2024-01-31T12:00:00.000000Z`
        Iso8601 = "iso8601",
        /// `2024-01-31 12:00:00.000000`
        JavaSqlTimestamp = "java_sql_timestamp",
        /// Whole seconds.
        Epoch = "epoch",
        /// Whole milliseconds.
        EpochMs = "epoch_ms" | "epoch_millis" | "epoch_milliseconds",
    }
}

/// Writes times; remembers the text of the last second, because neighbours share it.
#[derive(Clone, Debug)]
pub struct JsonDate {
    format: JsonDateFormat,
    second: Option<u32>,
    text: Vec<u8>,
}

impl JsonDate {
    /// A writer of one format.
    pub fn new(format: JsonDateFormat) -> JsonDate {
        JsonDate { format, second: None, text: Vec::new() }
    }

    /// Appends a time, in quotes where it is text.
    pub fn put(&mut self, time: EventTime, out: &mut Vec<u8>) {
        let separator = match self.format {
            JsonDateFormat::Double => return put_float(time.as_f64(), Nan::Word, out),
            JsonDateFormat::Epoch => return put_integer(out, time.secs),
            JsonDateFormat::EpochMs => {
                let millis = u64::from(time.secs) * 1000 + u64::from(time.nanos / 1_000_000);
                return put_integer(out, millis);
            }
            JsonDateFormat::Iso8601 => 'T',
            JsonDateFormat::JavaSqlTimestamp => ' ',
        };
        if self.second != Some(time.secs) {
            self.second = Some(time.secs);
            self.text = second_text(time.secs, separator);
        }
        out.push(b'"');
        out.extend_from_slice(&self.text);
        // Writing to a Vec cannot fail.
        let _ = write!(out, ".{:06}", time.nanos / 1000);
        if self.format == JsonDateFormat::Iso8601 {
            out.push(b'Z');
        }
        out.push(b'"');
    }
}

fn second_text(secs: u32, separator: char) -> Vec<u8> {
    let stamp = jiff::Timestamp::from_second(i64::from(secs)).unwrap_or_default();
    stamp.strftime(&format!("%Y-%m-%d{separator}%H:%M:%S")).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_written_as_fluent_bit_writes_it() {
        let time = EventTime { secs: 1_700_000_000, nanos: 123_456_789 };
        let table = [
            (JsonDateFormat::Double, "1700000000.123457"),
            (JsonDateFormat::Iso8601, "\"2023-11-14T22:13:20.123456Z\""),
            (JsonDateFormat::JavaSqlTimestamp, "\"2023-11-14 22:13:20.123456\""),
            (JsonDateFormat::Epoch, "1700000000"),
            (JsonDateFormat::EpochMs, "1700000000123"),
        ];
        for (format, expected) in table {
            let mut out = Vec::new();
            JsonDate::new(format).put(time, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
