//! msgpack values onto the stack of a Lua machine, and Lua values to msgpack.
//!
//! What becomes of what is Fluent Bit's: numbers are doubles in Lua, and those without a fraction come back as integers;
//! texts, byte strings and extensions are strings; a table remembers by its metatable whether it was a map or an
//! array, and one that a script made is an array if it has a positive index. A nil is whatever the global `flb_null`
//! is, so that a key without a value is no key.
//!
//! Everything here works on raw tables, without metamethods, so that no script code runs and nothing is raised but
//! that memory is exhausted, which ends the process as everywhere else.

use std::ffi::{c_char, c_int, c_void};
use std::fmt;

use mlua_sys as lua;
use mlua_sys::lua_State;

use crate::event::encoder::{
    close_map, put_array_len, put_bool, put_f64, put_int, put_nil, put_str,
};
use crate::event::msgpack::{Head, read_head};
use crate::limits::{LUA_RESULT_BYTES_MAX, NESTING_MAX};

/// Stack places of what values need: two metatables, the name `type`, and the name of the null.
pub(super) const MAP_METATABLE: c_int = 1;
pub(super) const ARRAY_METATABLE: c_int = 2;
pub(super) const TYPE_NAME: c_int = 3;
pub(super) const NULL_NAME: c_int = 4;

/// `type` in the metatable of a table that came from an array.
pub(super) const TYPE_ARRAY: c_int = 1;
/// `type` in the metatable of a table that came from a map.
pub(super) const TYPE_MAP: c_int = 2;

/// Fields that are given a type on their way back.
#[derive(Clone, Debug, Default)]
pub struct FieldTypes {
    /// Numbers that lose their fraction.
    pub integers: Vec<String>,
    /// Tables that are arrays.
    pub arrays: Vec<String>,
}

/// A Lua value that msgpack cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoValue {
    /// A function, a thread, or another thing of Lua alone.
    Kind,
    /// Tables within each other without end, or nearly so.
    Deep,
    /// More than [`LUA_RESULT_BYTES_MAX`].
    Large,
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoValue::Kind => "it holds a function, a thread, userdata or cdata",
            NoValue::Deep => "its tables are too deep within each other",
            NoValue::Large => "it is too large",
        })
    }
}

/// Pushes the value that `rest` begins with, and takes it off. One place of the stack is filled in any case;
/// what is no msgpack, or too deep, is nil. Returns whether it is a string, which can be a key.
///
/// # Safety
/// `state` is a live machine in its own thread whose stack begins as [`MAP_METATABLE`] and the others say, and has
/// room for one value.
pub(super) unsafe fn push_value(state: *mut lua_State, rest: &mut &[u8], depth: usize) -> bool {
    // SAFETY: by this function's contract there is a live machine and room for a value; containers ask for more.
    unsafe {
        match read_head(rest) {
            Some(Head::Str(text) | Head::Bin(text) | Head::Ext(_, text)) => {
                push_str(state, text);
                return true;
            }
            Some(Head::Uint(number)) => lua::lua_pushnumber(state, number as f64),
            Some(Head::Int(number)) => lua::lua_pushnumber(state, number as f64),
            Some(Head::Float(number)) => lua::lua_pushnumber(state, number),
            Some(Head::Bool(value)) => lua::lua_pushboolean(state, c_int::from(value)),
            Some(Head::Nil) => push_null(state),
            Some(Head::Map(count)) if is_room(state, depth) => {
                push_map(state, rest, count, depth);
            }
            Some(Head::Array(count)) if is_room(state, depth) => {
                lua::lua_createtable(state, table_size(count, rest), 0);
                for number in 0..count {
                    if rest.is_empty() {
                        break;
                    }
                    push_value(state, rest, depth + 1);
                    lua::lua_rawseti_(state, -2, number as c_int + 1);
                }
                lua::lua_pushvalue(state, ARRAY_METATABLE);
                lua::lua_setmetatable(state, -2);
            }
            Some(Head::Map(_) | Head::Array(_)) | None => {
                *rest = &[];
                lua::lua_pushnil(state);
            }
        }
    }
    false
}

/// # Safety
/// As [`push_value`], with room for four values.
unsafe fn push_map(state: *mut lua_State, rest: &mut &[u8], count: usize, depth: usize) {
    // SAFETY: `lua_rawset` raises for the keys nil and NaN alone, and those are asked for; the rest is the contract's.
    unsafe {
        // Scripts add keys: without a place for one the table is made anew.
        lua::lua_createtable(state, 0, table_size(count, rest) + 1);
        for _ in 0..count {
            if rest.is_empty() {
                break;
            }
            // Nearly every key is a string.
            let is_str = push_value(state, rest, depth + 1);
            push_value(state, rest, depth + 1);
            if is_str || can_be_key(state, -2) {
                lua::lua_rawset(state, -3);
            } else {
                lua::lua_settop(state, -3);
            }
        }
        lua::lua_pushvalue(state, MAP_METATABLE);
        lua::lua_setmetatable(state, -2);
    }
}

/// Places to make in a table: a head that promises more than its bytes hold gets what they can hold.
fn table_size(count: usize, rest: &[u8]) -> c_int {
    count.min(rest.len()).min(1 << 24) as c_int
}

/// # Safety
/// `state` is a live machine in its own thread.
unsafe fn is_room(state: *mut lua_State, depth: usize) -> bool {
    // SAFETY: the contract's; the call answers 0 where there can be no room.
    depth < NESTING_MAX && unsafe { lua::lua_checkstack(state, 8) } != 0
}

/// # Safety
/// `index` is a place of the stack of a live machine.
unsafe fn can_be_key(state: *mut lua_State, index: c_int) -> bool {
    // SAFETY: the contract's.
    unsafe {
        match lua::lua_type(state, index) {
            lua::LUA_TNIL => false,
            lua::LUA_TNUMBER => !lua::lua_tonumber(state, index).is_nan(),
            _ => true,
        }
    }
}

/// # Safety
/// `state` is a live machine with room for a value.
pub(super) unsafe fn push_str(state: *mut lua_State, text: &[u8]) {
    // SAFETY: pointer and length are those of a live slice, which the machine copies.
    unsafe { lua::lua_pushlstring_(state, text.as_ptr().cast::<c_char>(), text.len()) }
}

/// Pushes what a null is for scripts: their global `flb_null`.
///
/// # Safety
/// As [`push_value`].
unsafe fn push_null(state: *mut lua_State) {
    // SAFETY: the contract's; a raw read of the table of globals.
    unsafe {
        lua::lua_pushvalue(state, NULL_NAME);
        lua::lua_rawget_(state, lua::LUA_GLOBALSINDEX);
    }
}

/// Writes Lua values as msgpack.
pub(super) struct Writer<'w> {
    state: *mut lua_State,
    /// Where the metatable of maps lies, to be compared.
    map_metatable: *const c_void,
    types: &'w FieldTypes,
    out: &'w mut Vec<u8>,
    bytes_max: usize,
}

impl<'w> Writer<'w> {
    /// # Safety
    /// As [`push_value`], for as long as the writer lives.
    pub(super) unsafe fn new(
        state: *mut lua_State,
        types: &'w FieldTypes,
        out: &'w mut Vec<u8>,
    ) -> Writer<'w> {
        let bytes_max = out.len() + LUA_RESULT_BYTES_MAX;
        // SAFETY: the contract's: the metatable lies at its place of the stack.
        let map_metatable = unsafe { lua::lua_topointer(state, MAP_METATABLE) };
        Writer { state, map_metatable, types, out, bytes_max }
    }

    /// Appends the value at a place of the stack, counted from its bottom.
    ///
    /// # Errors
    /// When msgpack cannot say it; what was appended is to be cut off.
    ///
    /// # Safety
    /// There is such a place.
    pub(super) unsafe fn put(&mut self, index: c_int, depth: usize) -> Result<(), NoValue> {
        if self.out.len() > self.bytes_max {
            return Err(NoValue::Large);
        }
        // SAFETY: `index` is a place of the stack of the machine that `new` was promised.
        unsafe {
            match lua::lua_type(self.state, index) {
                lua::LUA_TSTRING => put_str(self.out, text_at(self.state, index)),
                lua::LUA_TNUMBER => put_number(self.out, lua::lua_tonumber(self.state, index)),
                lua::LUA_TBOOLEAN => {
                    put_bool(self.out, lua::lua_toboolean(self.state, index) != 0);
                }
                lua::LUA_TNIL => put_nil(self.out),
                lua::LUA_TLIGHTUSERDATA if lua::lua_touserdata(self.state, index).is_null() => {
                    put_nil(self.out);
                }
                lua::LUA_TTABLE => return self.put_table(index, depth),
                _ => return Err(NoValue::Kind),
            }
        }
        Ok(())
    }

    /// # Safety
    /// A table lies at `index`.
    unsafe fn put_table(&mut self, index: c_int, depth: usize) -> Result<(), NoValue> {
        // SAFETY: the contract's; what is pushed is popped, or asked for room for.
        unsafe {
            if !is_room(self.state, depth) {
                return Err(NoValue::Deep);
            }
            match self.shape(index) {
                Shape::Map => self.put_map(index, depth),
                Shape::Array(length) => self.put_array(index, length, depth),
            }
        }
    }

    /// What a table is: by its metatable, else by its keys.
    ///
    /// # Safety
    /// A table lies at `index`, and there is room for four values.
    unsafe fn shape(&mut self, index: c_int) -> Shape {
        let state = self.state;
        // SAFETY: the contract's; the stack is left as it was.
        unsafe {
            if lua::lua_getmetatable(state, index) != 0 {
                let is_map = lua::lua_topointer(state, -1) == self.map_metatable;
                let mut kind = i64::from(TYPE_MAP);
                if !is_map {
                    lua::lua_pushvalue(state, TYPE_NAME);
                    lua::lua_rawget_(state, -2);
                    kind = match lua::lua_type(state, -1) {
                        lua::LUA_TNUMBER => lua::lua_tointeger_(state, -1),
                        _ => -1,
                    };
                    lua::lua_settop(state, -2);
                }
                lua::lua_settop(state, -2);
                match kind {
                    kind if kind == i64::from(TYPE_ARRAY) => {
                        return Shape::Array(lua::lua_objlen(state, index));
                    }
                    0.. => return Shape::Map,
                    _ => {}
                }
            }
            let mut largest = 0.0f64;
            lua::lua_pushnil(state);
            while lua::lua_next(state, index) != 0 {
                if lua::lua_type(state, -2) == lua::LUA_TNUMBER {
                    largest = largest.max(lua::lua_tonumber(state, -2));
                }
                lua::lua_settop(state, -2);
            }
            match largest > 0.0 && largest.fract() == 0.0 {
                true => Shape::Array(largest as usize),
                false => Shape::Map,
            }
        }
    }

    /// # Safety
    /// A table lies at `index`, and there is room for four values.
    unsafe fn put_array(
        &mut self,
        index: c_int,
        length: usize,
        depth: usize,
    ) -> Result<(), NoValue> {
        if length > LUA_RESULT_BYTES_MAX {
            return Err(NoValue::Large);
        }
        put_array_len(self.out, length);
        // SAFETY: the contract's; each element is popped before the next is pushed.
        unsafe {
            let element = lua::lua_gettop(self.state) + 1;
            for number in 1..=length {
                lua::lua_rawgeti_(self.state, index, number as c_int);
                self.put(element, depth + 1)?;
                lua::lua_settop(self.state, -2);
            }
        }
        Ok(())
    }

    /// # Safety
    /// A table lies at `index`, and there is room for four values.
    unsafe fn put_map(&mut self, index: c_int, depth: usize) -> Result<(), NoValue> {
        let head = self.out.len();
        self.out.push(0x80);
        let mut count = 0;
        // SAFETY: the contract's; key and value are popped but for the key that `lua_next` takes, and nothing changes
        // the table between two steps.
        unsafe {
            let key = lua::lua_gettop(self.state) + 1;
            lua::lua_pushnil(self.state);
            while lua::lua_next(self.state, index) != 0 {
                self.put_entry(key, depth)?;
                count += 1;
                lua::lua_settop(self.state, -2);
            }
        }
        close_map(self.out, head, count);
        Ok(())
    }

    /// # Safety
    /// A key and its value lie at `key` and above it.
    unsafe fn put_entry(&mut self, key: c_int, depth: usize) -> Result<(), NoValue> {
        // SAFETY: the contract's. A key is read as text only where it is text: reading would change a number.
        unsafe {
            self.put(key, depth + 1)?;
            let value = key + 1;
            let FieldTypes { integers, arrays } = self.types;
            if (integers.is_empty() && arrays.is_empty())
                || lua::lua_type(self.state, key) != lua::LUA_TSTRING
            {
                return self.put(value, depth + 1);
            }
            let name = text_at(self.state, key);
            let is_in = |names: &[String]| names.iter().any(|other| other.as_bytes() == name);
            match lua::lua_type(self.state, value) {
                lua::LUA_TNUMBER if is_in(integers) => {
                    put_int(self.out, lua::lua_tonumber(self.state, value) as i64);
                    Ok(())
                }
                lua::LUA_TTABLE if is_in(arrays) => {
                    if !is_room(self.state, depth) {
                        return Err(NoValue::Deep);
                    }
                    self.put_array(value, lua::lua_objlen(self.state, value), depth + 1)
                }
                _ => self.put(value, depth + 1),
            }
        }
    }
}

enum Shape {
    Map,
    /// Of so many elements.
    Array(usize),
}

/// The text at a place of the stack.
///
/// # Safety
/// A string lies there, and it does as long as the text is used; the lifetime is the caller's to keep.
pub(super) unsafe fn text_at<'t>(state: *mut lua_State, index: c_int) -> &'t [u8] {
    let mut length = 0;
    // SAFETY: a string lies at `index`, so pointer and length describe its bytes, which live while it lies there.
    unsafe {
        let bytes = lua::lua_tolstring(state, index, &raw mut length);
        std::slice::from_raw_parts(bytes.cast::<u8>(), length)
    }
}

/// A number without a fraction that 64 bits hold is an integer.
fn put_number(out: &mut Vec<u8>, number: f64) {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    match number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number) {
        true => put_int(out, number as i64),
        false => put_f64(out, number),
    }
}
