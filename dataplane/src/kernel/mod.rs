//! The few loops where vector code or tables pay, each with a scalar twin it is tested against, and the stack of Lua.
//!
//! [`msgpack_skip`] (length of a value), [`newline`] (lines to events), [`json_scan`] (ends of strings),
//! [`json_lines`] (lines of JSON to msgpack), [`json_escape`] (what JSON takes as it is), [`span`] (runs of a class of
//! bytes), [`fields`] (parts of a text to fields), [`lua`] (a machine that runs scripts) and [`lua_values`] (msgpack to
//! Lua values and back).

pub mod fields;
pub mod json_escape;
pub mod json_lines;
pub mod json_scan;
pub mod lua;
pub mod lua_values;
pub mod msgpack_skip;
pub mod newline;
pub mod span;
