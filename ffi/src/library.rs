//! Opens a shared object after looking into it, so that what cannot work is told apart and nothing crashes.
//!
//! A library is opened once and never closed: the Go runtime cannot be unloaded.

use std::ffi::{CStr, OsStr, c_int};
use std::fs;
use std::path::{Path, PathBuf};

use libloading::os::unix::{Library as Dl, RTLD_LAZY, RTLD_LOCAL};
use object::{Architecture, Object, ObjectSymbol};

use crate::abi::{
    ExitCtxFn, ExitFn, FlagFn, FlushCtxFn, FlushFn, InitFn, ProxyDef, RegisterFn, TYPE_CUSTOM,
    TYPE_INPUT, TYPE_OUTPUT,
};
use crate::buildinfo::{Sdk, is_calyptia_plugin};

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
        let exports = check_elf(&bytes, path)?;
        let sdk = Sdk::of(&bytes);
        drop(bytes);
        // A name without a slash would be searched for in the system's directories.
        let full = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        // SAFETY: opening runs the constructors of the library, which the operator has chosen to load. Its
        // format, machine and C library were checked above.
        let dl = unsafe { Dl::open(Some(full.as_os_str() as &OsStr), RTLD_LAZY | RTLD_LOCAL) };
        let dl = dl.map_err(|error| format!("cannot open plugin `{shown}`: {error}"))?;
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
        let missing =
            |name: &str| format!("plugin `{shown}` does not export `{name}`: {NOT_A_PLUGIN}");
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
        let (kind, name, description) = unsafe {
            let text = |pointer: *mut std::ffi::c_char| match pointer.is_null() {
                true => String::new(),
                false => CStr::from_ptr(pointer).to_string_lossy().into_owned(),
            };
            ((*def).kind, text((*def).name), text((*def).description))
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
        Ok(Registration { name, description, def: def as usize })
    }

    /// The last call into a library; it may free what it registered with.
    pub fn unregister(&self, registration: &Registration) {
        if let Some(unregister) = self.unregister {
            // SAFETY: `def` is the struct of `register`, which we neither free nor read again.
            unsafe { unregister(registration.def as *mut ProxyDef) };
        }
    }
}

const NOT_A_PLUGIN: &str = "build it with fluent-bit-go as `go build -buildmode=c-shared -o plugin.so`, with its exports in package main";

/// Refuses what dlopen would refuse less clearly, or not at all. Returns the names of exported symbols.
fn check_elf(bytes: &[u8], path: &Path) -> Result<Vec<String>, String> {
    let shown = path.display();
    let file = object::File::parse(bytes).map_err(|_| {
        format!("`{shown}` is no plugin: not an ELF shared object, or cut short; {NOT_A_PLUGIN}")
    })?;
    let expected =
        if cfg!(target_arch = "aarch64") { Architecture::Aarch64 } else { Architecture::X86_64 };
    if file.architecture() != expected {
        return Err(format!(
            "plugin `{shown}` is built for {:?} and this program for {expected:?}: build it for this machine",
            file.architecture()
        ));
    }
    if memchr::memmem::find(bytes, b"libc.musl-").is_some() {
        return Err(format!(
            "plugin `{shown}` is built for musl and cannot be loaded into a glibc process: build it on a \
             glibc system such as Debian"
        ));
    }
    if is_calyptia_plugin(bytes) {
        return Err(format!(
            "plugin `{shown}` is built with calyptia/plugin, which needs Fluent Bit's own metrics library: \
             build it with github.com/fluent/fluent-bit-go instead"
        ));
    }
    let names = file.dynamic_symbols().filter(|symbol| symbol.is_definition());
    Ok(names.filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect())
}
