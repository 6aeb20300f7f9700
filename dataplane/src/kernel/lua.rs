//! A LuaJIT machine that runs a script and calls one function of it, once a record.
//!
//! The safe binding of the crate costs 2.5 times as much for a record of one field (measured: 672 ns against 258 ns for
//! making the table, the call, and reading two fields back), and it withholds libraries that scripts of Fluent Bit may
//! use. So the machine is driven by its C interface, behind functions that leave nothing to get wrong: every call
//! of a script is protected, no Rust frame lies below a Lua one, and values are read by [`lua_values`].
//!
//! [`lua_values`]: super::lua_values

use std::ffi::{CString, c_int};
use std::fmt;
use std::ptr::NonNull;

use mlua_sys as lua;
use mlua_sys::lua_State;

use crate::event::time::EventTime;
use crate::kernel::lua_values::{
    ARRAY_METATABLE, FieldTypes, MAP_METATABLE, NULL_NAME, NoValue, TYPE_ARRAY, TYPE_MAP,
    TYPE_NAME, Writer, push_str, push_value, text_at,
};
use crate::limits::LUA_RESULT_BYTES_MAX;

/// Place of the name of the function, behind those that values need.
const FUNCTION_NAME: c_int = 5;
/// Place of the text that was pushed last as [`Argument::Same`].
const SAME_TEXT: c_int = 6;
/// What stands on the stack between calls.
const BOTTOM: c_int = SAME_TEXT;
/// KiB of a heap up to which it may grow fourfold and not twofold before it is collected: the collector goes through all
/// that is alive, which with the few tables of most scripts would be every 300 records.
const SMALL_HEAP_KIB: c_int = 4096;
/// Pause and step of its collector, in percent. Measured for a record of one field: 177 ns with Lua's own, 143 ns with a
/// pause of 400, 130 ns with larger steps too, and 170 ns with a pause of 1,000, where the heap leaves the cache.
const SMALL_HEAP_PACE: (c_int, c_int) = (400, 1000);
/// Lua's own.
const LARGE_HEAP_PACE: (c_int, c_int) = (200, 200);

/// A machine of its own, for one thread.
pub struct Lua {
    state: NonNull<lua_State>,
    same_text: Vec<u8>,
}

/// What a script raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LuaError {
    /// Lua's number for its kind.
    pub code: i32,
    /// What it says, with its place in the script.
    pub message: String,
}

impl fmt::Display for LuaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error code {}: {}", self.code, self.message)
    }
}

/// What a function is called with.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// A string that is likely to be that of the call before.
    Same(&'a [u8]),
    /// A number.
    Number(f64),
    /// A table of `sec` and `nsec`.
    Time(EventTime),
    /// A msgpack value.
    Value(&'a [u8]),
}

impl Lua {
    /// With all of Lua's libraries and LuaJIT's. `None` when there is no memory for it.
    pub fn new() -> Option<Lua> {
        // SAFETY: a new machine; every value pushed is counted, and Lua grants twenty places at first.
        unsafe {
            let state = NonNull::new(lua::luaL_newstate())?;
            let raw = state.as_ptr();
            lua::luaL_openlibs(raw);
            lua::lua_settop(raw, 0);
            for (place, kind) in [(MAP_METATABLE, TYPE_MAP), (ARRAY_METATABLE, TYPE_ARRAY)] {
                lua::lua_createtable(raw, 0, 1);
                push_str(raw, b"type");
                lua::lua_pushnumber(raw, f64::from(kind));
                lua::lua_rawset(raw, -3);
                debug_assert_eq!(lua::lua_gettop(raw), place);
            }
            push_str(raw, b"type");
            debug_assert_eq!(lua::lua_gettop(raw), TYPE_NAME);
            push_str(raw, b"flb_null");
            debug_assert_eq!(lua::lua_gettop(raw), NULL_NAME);
            push_str(raw, b"");
            push_str(raw, b"");
            debug_assert_eq!(lua::lua_gettop(raw), BOTTOM);
            Some(Lua { state, same_text: Vec::new() })
        }
    }

    /// Sets a global to a table of strings.
    pub fn set_strings(&mut self, name: &str, entries: &[(String, String)]) {
        let state = self.state.as_ptr();
        // SAFETY: a live machine with four free places; the keys are strings, for which a raw write raises nothing.
        unsafe {
            push_str(state, name.as_bytes());
            lua::lua_createtable(state, 0, entries.len() as c_int);
            for (key, value) in entries {
                push_str(state, key.as_bytes());
                push_str(state, value.as_bytes());
                lua::lua_rawset(state, -3);
            }
            lua::lua_rawset(state, lua::LUA_GLOBALSINDEX);
        }
    }

    /// Gives scripts a value that stands for a null: the global `flb_null`.
    pub fn set_null(&mut self) {
        let state = self.state.as_ptr();
        // SAFETY: a live machine with two free places; the pointer is a value for Lua and never followed.
        unsafe {
            lua::lua_pushvalue(state, NULL_NAME);
            lua::lua_pushlightuserdata(state, std::ptr::null_mut());
            lua::lua_rawset(state, lua::LUA_GLOBALSINDEX);
        }
    }

    /// Runs a script. `name` is what messages call it: a path behind `@`, or a name for text.
    ///
    /// # Errors
    /// What Lua says of text that is no Lua, or what running it raised.
    pub fn run(&mut self, script: &[u8], name: &str) -> Result<(), LuaError> {
        let name = CString::new(name.replace('\0', " ")).unwrap_or_default();
        let state = self.state.as_ptr();
        // SAFETY: pointer and length are those of a live slice, `name` is a live C string, and Lua copies both. Loading
        // and the call are protected.
        unsafe {
            let mut code =
                lua::luaL_loadbuffer(state, script.as_ptr().cast(), script.len(), name.as_ptr());
            if code == lua::LUA_OK {
                code = lua::lua_pcall(state, 0, 0, 0);
            }
            self.outcome(code)
        }
    }

    /// Chooses the global function that [`call`](Self::call) calls. Returns how many parameters it names, or `None`
    /// when there is no function of that name.
    pub fn choose(&mut self, function: &str) -> Option<usize> {
        const ASK: &[u8] = b"return debug.getinfo(..., 'u').nparams";
        let state = self.state.as_ptr();
        // SAFETY: as in `run`; the function is looked up raw, and the stack is cut back to its bottom at the end.
        unsafe {
            push_str(state, function.as_bytes());
            lua::lua_replace(state, FUNCTION_NAME);
            let mut count = None;
            lua::luaL_loadbuffer(state, ASK.as_ptr().cast(), ASK.len(), c"=ask".as_ptr());
            lua::lua_pushvalue(state, FUNCTION_NAME);
            lua::lua_rawget_(state, lua::LUA_GLOBALSINDEX);
            if lua::lua_type(state, -1) == lua::LUA_TFUNCTION {
                let code = lua::lua_pcall(state, 1, 1, 0);
                // A script may have taken `debug` away.
                let told = if code == lua::LUA_OK { lua::lua_tonumber(state, -1) } else { 0.0 };
                count = Some(told as usize);
            }
            lua::lua_settop(state, BOTTOM);
            count
        }
    }

    /// Calls the chosen function, as the global is at that moment.
    ///
    /// # Errors
    /// What it raised.
    pub fn call(
        &mut self,
        arguments: &[Argument<'_>],
        result_count: u8,
    ) -> Result<Results<'_>, LuaError> {
        let state = self.state.as_ptr();
        // SAFETY: a live machine, whose stack is asked for the room; the arguments fill one place each, and the call is
        // protected.
        unsafe {
            let places = arguments.len() as c_int + c_int::from(result_count) + 8;
            if lua::lua_checkstack(state, places) == 0 {
                let message = "the stack of Lua is full".to_owned();
                return Err(LuaError { code: lua::LUA_ERRMEM, message });
            }
            lua::lua_pushvalue(state, FUNCTION_NAME);
            lua::lua_rawget_(state, lua::LUA_GLOBALSINDEX);
            for argument in arguments {
                match *argument {
                    Argument::Same(text) => {
                        if self.same_text != text {
                            self.same_text.clear();
                            self.same_text.extend_from_slice(text);
                            push_str(state, text);
                            lua::lua_replace(state, SAME_TEXT);
                        }
                        lua::lua_pushvalue(state, SAME_TEXT);
                    }
                    Argument::Number(number) => lua::lua_pushnumber(state, number),
                    Argument::Time(time) => push_time(state, time),
                    Argument::Value(mut value) => {
                        push_value(state, &mut value, 0);
                    }
                }
            }
            let (given, wanted) = (arguments.len() as c_int, c_int::from(result_count));
            let code = lua::lua_pcall(state, given, wanted, 0);
            self.outcome(code)?;
        }
        Ok(Results { lua: self, count: result_count })
    }

    /// Chooses how far the heap may grow before it is collected; to be called now and then.
    pub fn tune(&mut self) {
        let state = self.state.as_ptr();
        // SAFETY: a live machine; neither call collects.
        unsafe {
            let is_small = lua::lua_gc(state, lua::LUA_GCCOUNT, 0) < SMALL_HEAP_KIB;
            let (pause, step) = if is_small { SMALL_HEAP_PACE } else { LARGE_HEAP_PACE };
            lua::lua_gc(state, lua::LUA_GCSETPAUSE, pause);
            lua::lua_gc(state, lua::LUA_GCSETSTEPMUL, step);
        }
    }

    /// Takes the message off the stack where a protected call failed.
    ///
    /// # Safety
    /// `code` is what a protected call on this machine has just returned.
    unsafe fn outcome(&mut self, code: c_int) -> Result<(), LuaError> {
        if code == lua::LUA_OK {
            return Ok(());
        }
        let state = self.state.as_ptr();
        // SAFETY: a protected call that failed has left what was raised on top.
        let message = unsafe {
            match lua::lua_type(state, -1) {
                lua::LUA_TSTRING | lua::LUA_TNUMBER => {
                    String::from_utf8_lossy(text_at(state, -1)).into_owned()
                }
                _ => "what was raised is no text".to_owned(),
            }
        };
        // SAFETY: as above; all that is above the bottom belongs to the call.
        unsafe { lua::lua_settop(state, BOTTOM) };
        Err(LuaError { code, message })
    }
}

/// Pushes `{sec = ..., nsec = ...}`.
///
/// # Safety
/// `state` is a live machine with three free places.
unsafe fn push_time(state: *mut lua_State, time: EventTime) {
    // SAFETY: the contract's; the keys are strings.
    unsafe {
        lua::lua_createtable(state, 0, 2);
        for (name, number) in [(&b"sec"[..], time.secs), (b"nsec", time.nanos)] {
            push_str(state, name);
            lua::lua_pushnumber(state, f64::from(number));
            lua::lua_rawset(state, -3);
        }
    }
}

impl Drop for Lua {
    fn drop(&mut self) {
        // SAFETY: the machine is live until here, and nothing uses it afterwards. Finalisers run protected.
        unsafe { lua::lua_close(self.state.as_ptr()) }
    }
}

/// What a call returned, until the next.
pub struct Results<'l> {
    lua: &'l mut Lua,
    count: u8,
}

impl Results<'_> {
    /// The place of a result on the stack.
    fn place(&self, index: u8) -> c_int {
        assert!(index < self.count, "there are {} results", self.count);
        BOTTOM + 1 + c_int::from(index)
    }

    /// A number, or a string that is one; 0 for anything else.
    pub fn number(&self, index: u8) -> f64 {
        // SAFETY: the place exists. A string is read as a number without being changed.
        unsafe { lua::lua_tonumber(self.lua.state.as_ptr(), self.place(index)) }
    }

    /// Whether it is a table.
    pub fn is_table(&self, index: u8) -> bool {
        // SAFETY: the place exists.
        unsafe { lua::lua_type(self.lua.state.as_ptr(), self.place(index)) == lua::LUA_TTABLE }
    }

    /// A number in a table; 0 where there is none.
    pub fn number_in(&self, index: u8, name: &str) -> f64 {
        let (state, place) = (self.lua.state.as_ptr(), self.place(index));
        if !self.is_table(index) {
            return 0.0;
        }
        // SAFETY: a table lies at the place, it is read raw, and `call` has asked for more room than this needs.
        unsafe {
            push_str(state, name.as_bytes());
            lua::lua_rawget_(state, place);
            let number = lua::lua_tonumber(state, -1);
            lua::lua_settop(state, -2);
            number
        }
    }

    /// Appends a result as msgpack.
    ///
    /// # Errors
    /// When msgpack cannot say it; nothing is appended.
    pub fn put(&self, index: u8, types: &FieldTypes, out: &mut Vec<u8>) -> Result<(), NoValue> {
        let (state, start) = (self.lua.state.as_ptr(), out.len());
        // SAFETY: the place exists, and the machine is live and borrowed while the writer works.
        let put = unsafe { Writer::new(state, types, out).put(self.place(index), 0) };
        let is_large = out.len() - start > LUA_RESULT_BYTES_MAX;
        let put = if is_large { put.and(Err(NoValue::Large)) } else { put };
        if put.is_err() {
            out.truncate(start);
            // SAFETY: what the writer left above the results.
            unsafe { lua::lua_settop(state, BOTTOM + c_int::from(self.count)) };
        }
        put
    }
}

impl Drop for Results<'_> {
    fn drop(&mut self) {
        // SAFETY: the machine is live; what is above the bottom are the results.
        unsafe { lua::lua_settop(self.lua.state.as_ptr(), BOTTOM) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rmpv::Value;

    use super::*;
    use crate::kernel::msgpack_skip::skip_value;

    fn machine(script: &str) -> Lua {
        let mut lua = Lua::new().unwrap();
        lua.run(script.as_bytes(), "test").unwrap();
        assert!(lua.choose("f").is_some());
        lua
    }

    /// Values as they are compared: maps without order and double keys, numbers as Lua has them.
    #[derive(Clone, Debug, PartialEq, PartialOrd)]
    enum Plain {
        Nil,
        Bool(bool),
        Int(i64),
        Float(f64),
        Text(Vec<u8>),
        Array(Vec<Plain>),
        Map(BTreeMap<String, Plain>),
    }

    fn plain(value: &Value) -> Plain {
        match value {
            Value::Nil => Plain::Nil,
            Value::Boolean(value) => Plain::Bool(*value),
            Value::Integer(number) => Plain::Int(number.as_i64().unwrap()),
            Value::F32(number) => float(f64::from(*number)),
            Value::F64(number) => float(*number),
            Value::String(text) => Plain::Text(text.as_bytes().to_vec()),
            Value::Binary(bytes) | Value::Ext(_, bytes) => Plain::Text(bytes.clone()),
            Value::Array(values) => Plain::Array(values.iter().map(plain).collect()),
            Value::Map(entries) => {
                let mut map = BTreeMap::new();
                for (key, value) in entries {
                    // A nil takes a key away, as in Lua.
                    match plain(value) {
                        Plain::Nil => map.remove(&format!("{:?}", plain(key))),
                        value => map.insert(format!("{:?}", plain(key)), value),
                    };
                }
                Plain::Map(map)
            }
        }
    }

    fn float(number: f64) -> Plain {
        let is_whole =
            number.fract() == 0.0 && (i64::MIN as f64..-(i64::MIN as f64)).contains(&number);
        if is_whole { Plain::Int(number as i64) } else { Plain::Float(number) }
    }

    fn value() -> impl Strategy<Value = Value> {
        const EXACT: i64 = 1 << 53;
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-EXACT..=EXACT, 0u32..53).prop_map(|(number, shift)| Value::from(number >> shift)),
            any::<f64>()
                .prop_filter("equal to itself", |number| !number.is_nan())
                .prop_map(Value::from),
            any::<f32>()
                .prop_filter("equal to itself", |number| !number.is_nan())
                .prop_map(Value::F32),
            ".{0,40}".prop_map(Value::from),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Binary),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, bytes)| Value::Ext(kind, bytes)),
        ];
        let key = prop_oneof![
            4 => "[ab]{0,2}".prop_map(Value::from),
            1 => (-3i64..3).prop_map(Value::from),
            1 => any::<bool>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 60, 20, move |inner| {
            let entry = prop_oneof![6 => inner.clone(), 1 => Just(Value::Nil)];
            prop_oneof![
                prop::collection::vec(inner, 0..20).prop_map(Value::Array),
                prop::collection::vec((key.clone(), entry), 0..20).prop_map(Value::Map),
            ]
        })
    }

    fn through(lua: &mut Lua, bytes: &[u8]) -> Result<Vec<u8>, NoValue> {
        let mut out = Vec::new();
        let results = lua.call(&[Argument::Value(bytes)], 1).unwrap();
        results.put(0, &FieldTypes::default(), &mut out).map(|()| out)
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_went(values in prop::collection::vec(value(), 1..4)) {
            let mut lua = machine("function f(value) return value end");
            for value in values {
                let mut bytes = Vec::new();
                rmpv::encode::write_value(&mut bytes, &value).unwrap();
                let back = through(&mut lua, &bytes).unwrap();
                let read = rmpv::decode::read_value(&mut back.as_slice()).unwrap();
                prop_assert_eq!(plain(&read), plain(&value));
            }
        }

        #[test]
        fn bytes_that_are_no_value_become_one(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut lua = machine("function f(value) return value end");
            let back = through(&mut lua, &bytes).unwrap();
            prop_assert_eq!(skip_value(&back), Ok(back.len()));
        }
    }

    #[test]
    fn what_msgpack_cannot_say_is_refused_and_the_machine_goes_on() {
        let mut lua = machine(
            "n = 0
             local own = {}; own.own = own
             local results = {print, {a = {print}}, own, {[1e9] = 1}, string.rep('x', 40000000), {coroutine.create(print)}, 1LL, {x = 1},
                 setmetatable({}, {type = 1, __index = error, __len = error})}
             function f() n = n + 1; return results[n] end",
        );
        let expected = [
            Err(NoValue::Kind),
            Err(NoValue::Kind),
            Err(NoValue::Deep),
            Err(NoValue::Large),
            Err(NoValue::Large),
            Err(NoValue::Kind),
            Err(NoValue::Kind),
            Ok(vec![0x81, 0xa1, b'x', 1]),
            Ok(vec![0x90]),
            Ok(vec![0xc0]),
        ];
        for expected in expected {
            assert_eq!(through(&mut lua, &[0xc0]), expected);
        }
    }

    #[test]
    fn errors_are_told_with_their_place() {
        let mut lua = Lua::new().unwrap();
        let error = lua.run(b"x = = 1", "@a.lua").unwrap_err();
        assert_eq!((error.code, error.message.contains("a.lua:1:")), (lua::LUA_ERRSYNTAX, true));
        let error = lua.run(b"\n error('no')", "text").unwrap_err();
        assert_eq!(error.to_string(), "error code 2: [string \"text\"]:2: no");
        assert_eq!((lua.choose("nope"), lua.choose("print")), (None, Some(0)));
        lua.run(b"function g(a, b, c, d, e) error({}) end debug = nil", "text").unwrap();
        assert_eq!(lua.choose("g"), Some(0));
        let error = lua.call(&[], 1).err().unwrap();
        assert_eq!(error.to_string(), "error code 2: what was raised is no text");
        lua.run(b"g = 1", "text").unwrap();
        assert!(lua.call(&[], 1).err().unwrap().message.contains("attempt to call"));
    }

    #[test]
    fn a_deep_value_is_cut_and_not_followed() {
        let mut lua = machine("function f(value) return value end");
        let deep = [vec![0x91; 5000], vec![1]].concat();
        let back = through(&mut lua, &deep).unwrap();
        assert_eq!(skip_value(&back), Ok(back.len()));
        assert!(back.len() <= 300, "{}", back.len());
    }
}
