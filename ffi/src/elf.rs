//! Looks into a shared object before it is opened, so that what cannot work is told apart and nothing crashes.

use std::path::Path;

use object::elf::{DT_NEEDED, ET_DYN, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Architecture, Endianness, File, Object, ObjectSymbol};

use crate::buildinfo::is_calyptia_plugin;

/// How a plugin is made.
pub(crate) const NOT_A_PLUGIN: &str = "build it with fluent-bit-go as `go build -buildmode=c-shared -o plugin.so`, with its exports in package main";

/// Refuses what dlopen would refuse less clearly, or not at all. Returns the names of exported symbols.
///
/// # Errors
/// A sentence that names the file, what is wrong with it and what to do.
pub(crate) fn check(bytes: &[u8], path: &Path) -> Result<Vec<String>, String> {
    let shown = path.display();
    let no_elf = || {
        format!("`{shown}` is no plugin: not an ELF shared object, or cut short; {NOT_A_PLUGIN}")
    };
    let file = File::parse(bytes).map_err(|_| no_elf())?;
    let expected =
        if cfg!(target_arch = "aarch64") { Architecture::Aarch64 } else { Architecture::X86_64 };
    if file.architecture() != expected {
        return Err(format!(
            "plugin `{shown}` is built for {:?} and this program for {expected:?}: build it for this machine",
            file.architecture()
        ));
    }
    let File::Elf64(elf) = &file else { return Err(no_elf()) };
    if elf.elf_header().e_type(elf.endian()) != ET_DYN || !is_whole(elf, bytes) {
        return Err(no_elf());
    }
    // Alpine's name for the library, and that of musl's own compiler wrapper.
    let needs_musl = |name: &String| name.starts_with("libc.musl-") || name == "libc.so";
    if needed(elf).iter().any(needs_musl) {
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

/// Whether every segment lies inside the file. A mapped page behind its end would be a bus error.
fn is_whole(elf: &ElfFile64<'_, Endianness>, bytes: &[u8]) -> bool {
    let endian = elf.endian();
    let mut loaded = elf.elf_program_headers().iter().filter(|head| head.p_type(endian) == PT_LOAD);
    loaded.all(|head| {
        let end = head.p_offset(endian).checked_add(head.p_filesz(endian));
        end.is_some_and(|end| end <= bytes.len() as u64)
    })
}

/// The libraries it is linked with.
fn needed(elf: &ElfFile64<'_, Endianness>) -> Vec<String> {
    let Ok(table) = elf.elf_dynamic_table() else { return Vec::new() };
    let entries = table.iter().filter(|entry| entry.tag == DT_NEEDED);
    let names = entries.filter_map(|entry| table.string(entry).ok());
    names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}
