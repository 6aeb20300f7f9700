//! Layouts of the structs that cross the boundary, with their offsets asserted.
//!
//! Source of the rules: Fluent Bit's flb_plugin_proxy.h, flb_api.h and proxy/go/go.h, and fluent-bit-go's
//! output/flb_output.h. Tables grow at their end only.

use std::ffi::{c_char, c_int, c_void};
use std::mem::{offset_of, size_of};

/// `FLB_PROXY_OUTPUT_PLUGIN`
pub const TYPE_OUTPUT: c_int = 2;
/// `FLB_PROXY_INPUT_PLUGIN`
pub const TYPE_INPUT: c_int = 1;
/// `FLB_PROXY_CUSTOM_PLUGIN`
pub const TYPE_CUSTOM: c_int = 3;

/// `FLB_OUTPUT_LOGS`, a bit of `event_type`.
pub const EVENT_TYPE_LOGS: c_int = 1;

/// What `FLBPluginRegister` fills. Zeroed before: older SDKs write only the first fields.
#[repr(C)]
pub struct ProxyDef {
    /// Input, output or custom.
    pub kind: c_int,
    /// Always Go's number, 11, whatever the language.
    pub proxy: c_int,
    /// Unused by outputs.
    pub flags: c_int,
    /// Name, owned by the plugin; `FLBPluginUnregister` frees it.
    pub name: *mut c_char,
    /// Description, owned by the plugin.
    pub description: *mut c_char,
    /// 1 logs, 2 metrics, 4 traces; 0 means logs.
    pub event_type: c_int,
    /// A config map; unused.
    pub config_map: *mut c_void,
}

/// What `FLBPluginInit` is handed. Allocated by libc, never freed: some plugins free its fields themselves.
#[repr(C)]
pub struct OutputPlugin {
    /// Name of the plugin.
    pub name: *mut c_char,
    /// The table it may call.
    pub api: *const Api,
    /// The instance, opaque to the plugin, handed back with each call of the table.
    pub instance: *mut c_void,
    /// Where the plugin puts its context.
    pub context: *mut Context,
}

/// Where a plugin keeps its own pointer. It may be null, a small number or an address: never looked into.
#[repr(C)]
pub struct Context {
    /// The plugin's word.
    pub remote_context: *mut c_void,
    /// Unused, as long as Fluent Bit's struct.
    pub proxy: *mut c_void,
}

/// The table a plugin calls back.
#[repr(C)]
pub struct Api {
    /// Value of a key of an output, or null.
    pub output_get_property: extern "C" fn(*const c_char, *mut c_void) -> *const c_char,
    /// Value of a key of an input, or null.
    pub input_get_property: extern "C" fn(*const c_char, *mut c_void) -> *const c_char,
    /// A metrics context of an output.
    pub output_get_cmt_instance: extern "C" fn(*mut c_void) -> *mut c_void,
    /// A metrics context of an input.
    pub input_get_cmt_instance: extern "C" fn(*mut c_void) -> *mut c_void,
    /// Writes a line to the log.
    pub log_print: unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char, ...),
    /// Whether a level of an input's log is written.
    pub input_log_check: extern "C" fn(*mut c_void, c_int) -> c_int,
    /// Whether a level of an output's log is written.
    pub output_log_check: extern "C" fn(*mut c_void, c_int) -> c_int,
    /// Value of a key of a custom plugin, or null.
    pub custom_get_property: extern "C" fn(*const c_char, *mut c_void) -> *const c_char,
    /// Whether a level of a custom plugin's log is written.
    pub custom_log_check: extern "C" fn(*mut c_void, c_int) -> c_int,
}

/// `int FLBPluginRegister(def)` and `void FLBPluginUnregister(def)`.
pub type RegisterFn = unsafe extern "C" fn(*mut ProxyDef) -> c_int;
/// `int FLBPluginInit(plugin)`
pub type InitFn = unsafe extern "C" fn(*mut OutputPlugin) -> c_int;
/// `int FLBPluginPreRegister(hot_reloading)`, `int FLBPluginOutputPreRun(..)`, `int FLBPluginOutputPreExit(..)`
pub type FlagFn = unsafe extern "C" fn(c_int) -> c_int;
/// `int FLBPluginFlush(data, length, tag)`. Fluent Bit passes the length as a `size_t`, and plugins take it as
/// that or as an `int`: the full word serves both.
pub type FlushFn = unsafe extern "C" fn(*const c_void, usize, *const c_char) -> c_int;
/// `int FLBPluginFlushCtx(context, data, length, tag)`
pub type FlushCtxFn =
    unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_char) -> c_int;
/// `int FLBPluginExit()`
pub type ExitFn = unsafe extern "C" fn() -> c_int;
/// `int FLBPluginExitCtx(context)`
pub type ExitCtxFn = unsafe extern "C" fn(*mut c_void) -> c_int;

const _: () = {
    assert!(offset_of!(ProxyDef, name) == 16);
    assert!(offset_of!(ProxyDef, description) == 24);
    assert!(offset_of!(ProxyDef, event_type) == 32);
    assert!(offset_of!(ProxyDef, config_map) == 40);
    assert!(size_of::<ProxyDef>() == 48);
    assert!(offset_of!(OutputPlugin, api) == 8);
    assert!(offset_of!(OutputPlugin, instance) == 16);
    assert!(offset_of!(OutputPlugin, context) == 24);
    assert!(size_of::<Context>() == 16);
    assert!(offset_of!(Api, log_print) == 32);
    assert!(offset_of!(Api, output_log_check) == 48);
    assert!(size_of::<Api>() == 72);
};
