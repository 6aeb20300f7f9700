//! Events: msgpack bytes in one stored form, `[[time, metadata], body]` with the time as EventTime.
//!
//! Reading order: [`time`], [`encoder`] (writing), [`msgpack`] (reading values), [`reader`] (walking a
//! chunk), [`validate`] (taking events from the wire), [`record`] (one event as filters see and change it),
//! [`accessor`] (`$a['b'][0]`), [`legacy`] (the old form, for old plugins).

pub mod accessor;
pub mod encoder;
pub mod legacy;
pub mod msgpack;
pub mod reader;
pub mod record;
pub mod time;
pub mod validate;
