//! Opens a shared object after looking into it, so that what cannot work is told apart and nothing crashes.
//!
//! A library is opened once and never closed: the Go runtime cannot be unloaded.

use std::error::Error;
use std::ffi::{OsStr, c_char, c_int};
use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Dl, RTLD_LOCAL, RTLD_NOW};

use crate::abi::{
    EVENT_TYPE_LOGS, ExitCtxFn, ExitFn, FlagFn, FlushCtxFn, FlushFn, InitFn, ProxyDef, RegisterFn,
    TYPE_CUSTOM, TYPE_INPUT, TYPE_OUTPUT,
};
use crate::buildinfo::Sdk;
use crate::elf::{self, NOT_A_PLUGIN};

/// An open library and the functions it exports.
pub struct Library {
    path: PathBuf,
    sdk: Sdk,
    pub(crate) init: InitFn,
    register: RegisterFn,
    pre_register: Option<FlagFn>,
    pub(crate) pre_run: Option<FlagFn>,
    pub(crate) pre_exit: Option<FlagFn>,
    pub(crate) flush: Option<FlushFn>,
    pub(crate) flush_ctx: Option<FlushCtxFn>,
    pub(crate) exit: Option<ExitFn>,
    pub(crate) exit_ctx: Option<ExitCtxFn>,
    unregister: Option<RegisterFn>,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Name for the configuration, as the plugin writes it.
    pub name: String,
    /// One line.
    pub description: String,
    /// Whether it wants logs: a plugin may say that it takes metrics or traces only.
    pub takes_logs: bool,
    /// The struct the plugin filled, for [`Library::unregister`].
    def: usize,
}

impl Library {
    /// Looks into a file and opens it. Runs the library's constructors: call it on an unpinned thread.
    ///
    /// # Errors
    /// A sentence that names the file, what it lacks and what to do.
    pub fn open(path: &Path) -> Result<Library, String> {
        let shown = path.display();
        let bytes =
            fs::read(path).map_err(|error| format!("cannot read plugin `{shown}`: {error}"))?;
        let exports = elf::check(&bytes, path)?;
        let sdk = Sdk::of(&bytes);
        drop(bytes);
        // A name without a slash would be searched for in the system's directories.
        let full = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // Every symbol is bound now: one that is missing would otherwise end the process at its first call.
        // SAFETY: opening runs the constructors of the library, which the operator has chosen to load. Its
        // format, machine and C library were checked above.
        let dl = unsafe { Dl::open(Some(full.as_os_str() as &OsStr), RTLD_NOW | RTLD_LOCAL) };
        let dl = dl.map_err(|error| {
            // The error itself says no more than that dlopen failed.
            let error = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            format!("cannot open plugin `{shown}`: {error}{}", remedy(&error))
        })?;
        // Never closed: forget the handle once the functions are taken out.
        let dl = std::mem::ManuallyDrop::new(dl);
        let has = |name: &str| exports.iter().any(|export| export == name);
        macro_rules! symbol {
            ($name:literal) => {
                match has($name) {
                    // SAFETY: the type is that of the symbol in the ABI of Fluent Bit's Go proxy.
                    true => unsafe { dl.get($name).ok().map(|symbol| *symbol) },
                    false => None,
                }
            };
        }
        let native = exports.iter().find(|name| name.ends_with("_plugin"));
        let missing = |name: &str| match native {
            Some(native) => format!(
                "plugin `{shown}` does not export `{name}` but `{native}`: it is written in C against Fluent \
                 Bit's own headers, and only Fluent Bit can load it"
            ),
            None => format!("plugin `{shown}` does not export `{name}`: {NOT_A_PLUGIN}"),
        };
        Ok(Library {
            register: symbol!("FLBPluginRegister").ok_or_else(|| missing("FLBPluginRegister"))?,
            init: symbol!("FLBPluginInit").ok_or_else(|| missing("FLBPluginInit"))?,
            pre_register: symbol!("FLBPluginPreRegister"),
            pre_run: symbol!("FLBPluginOutputPreRun"),
            pre_exit: symbol!("FLBPluginOutputPreExit"),
            flush: symbol!("FLBPluginFlush"),
            flush_ctx: symbol!("FLBPluginFlushCtx"),
            exit: symbol!("FLBPluginExit"),
            exit_ctx: symbol!("FLBPluginExitCtx"),
            unregister: symbol!("FLBPluginUnregister"),
            path: path.to_owned(),
            sdk,
        })
    }

    /// The SDK it was built with.
    pub fn sdk(&self) -> &Sdk {
        &self.sdk
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the plugin for its name. Call it once, on the thread that will call `Init`.
    ///
    /// # Errors
    /// When the plugin refuses, or is no output.
    pub fn register(&self) -> Result<Registration, String> {
        let shown = self.path.display();
        if let Some(pre_register) = self.pre_register {
            // SAFETY: the symbol has this type in the ABI; 0 says that nothing is being reloaded.
            if unsafe { pre_register(0) } == -1 {
                return Err(format!(
                    "plugin `{shown}` refused `FLBPluginPreRegister`: its log says why"
                ));
            }
        }
        // SAFETY: calloc returns null or a zeroed block of the size of the struct.
        let def = unsafe { libc::calloc(1, size_of::<ProxyDef>()) }.cast::<ProxyDef>();
        if def.is_null() {
            return Err("out of memory".into());
        }
        // SAFETY: the block is zeroed, as large as any SDK's struct, and never freed by us.
        let code: c_int = unsafe { (self.register)(def) };
        if code == -1 {
            return Err(format!("plugin `{shown}` refused `FLBPluginRegister`: its log says why"));
        }
        // SAFETY: the plugin has returned; the struct holds what it wrote, or zeroes. Name and description are
        // null or strings of the plugin, alive until Unregister; they are copied here.
        let (kind, name, description, event_type) = unsafe {
            let (name, description) = (text_at((*def).name), text_at((*def).description));
            ((*def).kind, name, description, (*def).event_type)
        };
        match kind {
            TYPE_OUTPUT => {}
            TYPE_INPUT => {
                return Err(format!(
                    "plugin `{shown}` is an input plugin: only output plugins can be loaded"
                ));
            }
            TYPE_CUSTOM => {
                return Err(format!(
                    "plugin `{shown}` is a custom plugin: only output plugins can be loaded"
                ));
            }
            other => {
                return Err(format!(
                    "plugin `{shown}` registered as type {other}: outputs are type 2"
                ));
            }
        }
        if name.is_empty() {
            return Err(format!("plugin `{shown}` registered without a name"));
        }
        if self.flush.is_none() && self.flush_ctx.is_none() {
            return Err(format!(
                "plugin `{shown}` exports neither `FLBPluginFlushCtx` nor `FLBPluginFlush`: {NOT_A_PLUGIN}"
            ));
        }
        let takes_logs = event_type == 0 || event_type & EVENT_TYPE_LOGS != 0;
        Ok(Registration { name, description, takes_logs, def: def as usize })
    }

    /// The last call into a library; it may free what it registered with.
    pub fn unregister(&self, registration: &Registration) {
        if let Some(unregister) = self.unregister {
            // SAFETY: `def` is the struct of `register`, which we neither free nor read again.
            unsafe { unregister(registration.def as *mut ProxyDef) };
        }
    }
}

/// What to do about an error of the dynamic linker.
fn remedy(error: &str) -> &'static str {
    let remedies = [
        ("undefined symbol", "; link the library that has this symbol into the plugin"),
        ("`GLIBC_", "; build it on a system whose glibc is no newer than this one's"),
        ("cannot open shared object file", "; install the library that it needs"),
        ("static TLS", "; build it as `go build -buildmode=c-shared`"),
    ];
    remedies.iter().find(|(part, _)| error.contains(part)).map_or("", |(_, remedy)| remedy)
}

/// A string of a plugin, at most 4 KiB of it: a description may be any bytes.
///
/// # Safety
/// `pointer` is null or leads to bytes that end with a NUL.
unsafe fn text_at(pointer: *const c_char) -> String {
    const BYTES_MAX: usize = 4096;
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's word there is a NUL; nothing behind it, nor behind the bound, is read.
    let bytes = unsafe {
        let length = libc::strnlen(pointer, BYTES_MAX);
        std::slice::from_raw_parts(pointer.cast::<u8>(), length)
    };
    String::from_utf8_lossy(bytes).into_owned()
}
