//! The table of functions that a plugin calls back.
//!
//! One table serves all libraries. The opaque instance pointer leads to a [`Host`], which is never freed,
//! so a plugin that asks late still finds it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use crate::abi::Api;
use crate::property::{is_meant, is_reserved};

/// What stands behind an instance pointer.
pub(crate) struct Host {
    pub(crate) properties: Vec<(String, CString)>,
    /// Highest level that is written: 1 error to 5 trace.
    pub(crate) log_level: c_int,
    /// Called with each key a plugin asks for.
    pub(crate) asked: Box<dyn Fn(&str) + Send + Sync>,
    /// Address of its metrics context, made when the plugin first asks.
    pub(crate) metrics: OnceLock<usize>,
}

/// The block a plugin holds: allocated by libc because a plugin may free it after a failed Init.
#[repr(C)]
pub(crate) struct InstanceBlock {
    pub(crate) host: *const Host,
}

/// The one table.
pub(crate) static API: Api = Api {
    output_get_property: get_property,
    input_get_property: get_property,
    output_get_cmt_instance: metrics_context,
    input_get_cmt_instance: metrics_context,
    log_print: dataplane_log_print,
    input_log_check: log_check,
    output_log_check: log_check,
    custom_get_property: get_property,
    custom_log_check: log_check,
};

unsafe extern "C" {
    /// In c/log_print.c.
    fn dataplane_log_print(
        level: c_int,
        file: *const c_char,
        line: c_int,
        format: *const c_char,
        ...
    );
}

type LogSink = Box<dyn Fn(i32, &str) + Send + Sync>;

static LOG_SINK: OnceLock<LogSink> = OnceLock::new();

/// Says where lines of plugins go: level (1 error to 5 trace) and text. The first call counts.
pub fn set_log_sink(sink: LogSink) {
    // A second sink is a programming error without consequence: the first one stays.
    let _ = LOG_SINK.set(sink);
}

/// Called by the C shim.
///
/// # Safety
/// `text` must be a NUL-terminated string that lives through the call.
#[unsafe(no_mangle)]
unsafe extern "C" fn dataplane_plugin_log(level: c_int, text: *const c_char) {
    // SAFETY: the shim passes its own buffer, which vsnprintf has terminated.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if let Some(sink) = LOG_SINK.get() {
        sink(level, text.trim_end());
    }
}

extern "C" fn get_property(key: *const c_char, instance: *mut c_void) -> *const c_char {
    let Some(host) = host(instance) else { return null() };
    if key.is_null() {
        return null();
    }
    // SAFETY: a plugin passes a NUL-terminated key that lives through the call (flb_api.h).
    let key = unsafe { CStr::from_ptr(key) }.to_string_lossy();
    (host.asked)(&key);
    // Whatever the spelling of the section: YAML's `logLevel` is `log_level` too.
    if is_reserved(&key) {
        return null();
    }
    let found = host.properties.iter().find(|(written, _)| is_meant(&key, written));
    match found {
        // An expanded value that is empty counts as not set.
        Some((_, value)) if !value.is_empty() => value.as_ptr(),
        _ => null(),
    }
}

extern "C" fn log_check(instance: *mut c_void, level: c_int) -> c_int {
    match host(instance) {
        Some(host) => c_int::from(level <= host.log_level),
        None => 0,
    }
}

/// The same block for each call of an instance. Plugins that ask for one fail Init on null; what they put into it
/// is not read.
extern "C" fn metrics_context(instance: *mut c_void) -> *mut c_void {
    match host(instance) {
        Some(host) => *host.metrics.get_or_init(empty_metrics) as *mut c_void,
        None => null_mut(),
    }
}

/// Address of an empty metrics context of Fluent Bit 5.1.1's layout, given away for good.
fn empty_metrics() -> usize {
    const BYTES: usize = 512;
    const LIST_HEADS: [usize; 7] = [40, 56, 72, 88, 104, 120, 136];
    // SAFETY: calloc returns null or a zeroed block of that many bytes; each head lies inside it and is
    // aligned as a pointer.
    unsafe {
        let block = libc::calloc(1, BYTES).cast::<u8>();
        if block.is_null() {
            return 0;
        }
        for offset in LIST_HEADS {
            let head = block.add(offset).cast::<*mut u8>();
            head.write(head.cast());
            head.add(1).write(head.cast());
        }
        block as usize
    }
}

fn host<'a>(instance: *mut c_void) -> Option<&'a Host> {
    if instance.is_null() {
        return None;
    }
    // SAFETY: the pointer is the `InstanceBlock` that `Instance::init` made, handed back by the plugin; it and
    // its host are never freed by us. A plugin that frees the block itself must not call with it again, as
    // under Fluent Bit.
    unsafe { instance.cast::<InstanceBlock>().read().host.as_ref() }
}
