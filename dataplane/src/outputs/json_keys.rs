//! The keys `format`, `json_date_key` and `json_date_format` as several outputs share them.

use config::Value;

use crate::codec::json_date::JsonDateFormat;
use crate::codec::json_text::JsonOptions;
use crate::codec::records::{JsonLayout, RecordJson};

/// A key of the time, or `false` for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateKey(pub Option<String>);

impl Value for DateKey {
    const TYPE: &'static str = "text or off";
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "false" | "off" | "no" => Ok(DateKey(None)),
            _ => Ok(DateKey(Some(text.to_owned()))),
        }
    }
}

/// Puts the keys together.
pub fn record_json(
    layout: JsonLayout,
    date_key: &DateKey,
    date_format: JsonDateFormat,
    options: JsonOptions,
) -> RecordJson {
    RecordJson { layout, date_key: date_key.0.clone(), date_format, options }
}
