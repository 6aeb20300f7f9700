//! One instance of an output plugin: Init, flushes from any thread, Exit.

use std::ffi::{CStr, CString, c_int, c_void};
use std::sync::OnceLock;

use crate::abi::{Context, FlushCtxFn, FlushFn, OutputPlugin};
use crate::api::{API, Host, InstanceBlock};
use crate::library::{Library, Registration};

/// What an instance is told.
pub struct InstanceConfig {
    /// Name for messages: `gstdout.0`.
    pub name: String,
    /// Keys and values the plugin may see, in order; the first of repeated ones counts.
    pub properties: Vec<(String, String)>,
    /// Highest log level that is written: 1 error to 5 trace.
    pub log_level: i32,
    /// Called with each key the plugin asks for.
    pub asked: Box<dyn Fn(&str) + Send + Sync>,
}

/// An instance whose Init has succeeded.
pub struct Instance {
    handle: FlushHandle,
}

/// What a flush returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushCode {
    /// `FLB_ERROR`, 0.
    Error,
    /// `FLB_OK`, 1.
    Ok,
    /// `FLB_RETRY`, 2.
    Retry,
    /// None of them: an error, as in Fluent Bit.
    Unknown(i32),
}

/// The function and the context of one instance, to be called from lane threads.
#[derive(Clone, Copy)]
pub struct FlushHandle {
    flush: Flush,
    /// Address of the instance's [`Context`], which is never freed. A number, because threads share it.
    context: usize,
}

#[derive(Clone, Copy)]
enum Flush {
    WithContext(FlushCtxFn),
    Plain(FlushFn),
}

impl FlushHandle {
    /// The plugin's word, handed back unchanged and never looked into. Read at every call, as Fluent Bit does:
    /// a plugin may set it after Init.
    fn word(&self) -> *mut c_void {
        // SAFETY: the block came from calloc in `Instance::init` and is never freed by us; a plugin that writes
        // it meanwhile writes one aligned word.
        unsafe { (&raw const (*(self.context as *const Context)).remote_context).read_volatile() }
    }

    /// Hands events to the plugin, by pointer: `data` is not copied. Blocks as long as the plugin does. Call
    /// it from plain threads only, never from one with a small or moving stack.
    pub fn flush(&self, data: &[u8], tag: &CStr) -> FlushCode {
        // Plugins take the length as an int.
        if c_int::try_from(data.len()).is_err() {
            return FlushCode::Error;
        }
        let (bytes, length) = (data.as_ptr().cast::<c_void>(), data.len());
        // SAFETY: data and tag live through the call and the plugin may not keep them (flb_output.h); the
        // context is what it put there itself; the instance has been initialised and not yet ended, as
        // handles are only given out by `Instance` and lanes are joined before `exit`.
        let code = unsafe {
            match self.flush {
                Flush::WithContext(flush) => flush(self.word(), bytes, length, tag.as_ptr()),
                Flush::Plain(flush) => flush(bytes, length, tag.as_ptr()),
            }
        };
        match code {
            0 => FlushCode::Error,
            1 => FlushCode::Ok,
            2 => FlushCode::Retry,
            other => FlushCode::Unknown(other),
        }
    }
}

impl Instance {
    /// Calls `FLBPluginInit`. Everything the plugin is handed comes from libc and is never freed nor, after a
    /// failure, touched again: some plugins free it themselves.
    ///
    /// # Errors
    /// When the plugin refuses; its own output says why.
    pub fn init(
        library: &Library,
        registration: &Registration,
        config: InstanceConfig,
    ) -> Result<Instance, String> {
        let instance_name = config.name.clone();
        let context = allocate::<Context>()?;
        let plugin = allocate::<OutputPlugin>()?;
        let block = allocate::<InstanceBlock>()?;
        let host = Host {
            properties: config
                .properties
                .into_iter()
                .filter_map(|(key, value)| Some((key, CString::new(value).ok()?)))
                .collect(),
            log_level: config.log_level,
            asked: config.asked,
            metrics: OnceLock::new(),
        };
        let name = CString::new(registration.name.as_str()).unwrap_or_default();
        // SAFETY: the three blocks are zeroed, large enough and aligned; strdup copies a live string. The host
        // is leaked on purpose: the plugin may ask at any time until the process ends.
        let code = unsafe {
            (*block).host = Box::into_raw(Box::new(host));
            (*plugin).name = libc::strdup(name.as_ptr());
            (*plugin).api = &API;
            (*plugin).instance = block.cast();
            (*plugin).context = context;
            (library.init)(plugin)
        };
        if code <= 0 {
            return Err(format!(
                "plugin `{}` of `{}` failed to initialize `{instance_name}` (`FLBPluginInit` returned {code}): its own \
                 output says why, most often a missing property",
                registration.name,
                library.path().display()
            ));
        }
        let flush = match (library.flush_ctx, library.flush) {
            (Some(flush), _) => Flush::WithContext(flush),
            (None, Some(flush)) => Flush::Plain(flush),
            (None, None) => return Err("a registered plugin exports a flush".into()),
        };
        Ok(Instance { handle: FlushHandle { flush, context: context as usize } })
    }

    /// Says that all instances are initialised and flushes may come.
    pub fn pre_run(&self, library: &Library) {
        if let Some(pre_run) = library.pre_run {
            // SAFETY: the symbol has this type in the ABI; its result is ignored by Fluent Bit too.
            unsafe { pre_run(0) };
        }
    }

    /// What lane threads call.
    pub fn handle(&self) -> FlushHandle {
        self.handle
    }

    /// Ends the instance. No flush may be under way, nor follow.
    pub fn exit(self, library: &Library) {
        // SAFETY: the symbols have these types in the ABI, the context is the plugin's own, and the caller has
        // joined every thread that could flush. A context is never null by meaning, so it is passed as it is.
        unsafe {
            if let Some(pre_exit) = library.pre_exit {
                pre_exit(0);
            }
            match (library.exit_ctx, library.exit) {
                (Some(exit), _) => exit(self.handle.word()),
                (None, Some(exit)) => exit(),
                (None, None) => 0,
            };
        }
    }
}

fn allocate<T>() -> Result<*mut T, String> {
    // SAFETY: calloc returns null or a zeroed block of that many bytes, aligned for any type of ours.
    let block = unsafe { libc::calloc(1, size_of::<T>().max(16)) }.cast::<T>();
    match block.is_null() {
        true => Err("out of memory".into()),
        false => Ok(block),
    }
}
