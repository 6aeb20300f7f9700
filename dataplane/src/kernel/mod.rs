//! The few loops where vector code or tables pay, each with a scalar twin it is tested against, and the stack of Lua.
//!
//! [`msgpack_skip`] (length of a value), [`newline`] (lines to events), [`json_scan`] (ends of strings), [`span`] (runs
//! of a class of bytes), [`lua`] (a machine that runs scripts) and [`lua_values`] (msgpack to Lua values and back).

pub mod json_scan;
pub mod lua;
pub mod lua_values;
pub mod msgpack_skip;
pub mod newline;
pub mod span;
