//! Reading what the program delivered, with another decoder than its own.

use std::io::Cursor;

use rmpv::Value;

/// Every msgpack value of these bytes.
pub fn values(bytes: &[u8]) -> Vec<Value> {
    let mut cursor = Cursor::new(bytes);
    let mut values = Vec::new();
    while (cursor.position() as usize) < bytes.len() {
        values.push(rmpv::decode::read_value(&mut cursor).expect("whole msgpack values"));
    }
    values
}

/// An event in the forward protocol's legacy form: `[time, {"log": text}]`.
pub fn legacy_event(time: u64, text: &str) -> Vec<u8> {
    let body = Value::Map(vec![("log".into(), text.into())]);
    bytes_of(&Value::Array(vec![time.into(), body]))
}

/// A value as msgpack.
pub fn bytes_of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("a vector takes everything");
    bytes
}
