//! Rules of the tree that no compiler checks: layers, lengths, doors, registries.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files of `dataplane/src` by layer; a layer imports only itself and lower ones.
const LAYERS: [&[&str]; 6] = [
    &["limits", "log", "tag", "kernel", "event", "codec"],
    &["route", "chunk", "flush"],
    &["multiline", "plugin", "reactor", "wire"],
    &["inputs", "filters", "outputs", "parsers"],
    &["lane", "shard"],
    &["pipeline", "supervisor", "cli", "lib", "main"],
];

/// Where system calls and foreign memory are the subject.
const UNSAFE_DOORS: [&str; 3] = ["ffi/src/", "dataplane/src/kernel/", "dataplane/src/reactor/"];

/// Files that may lock: none of them does so per event.
const LOCKS: [&str; 4] = [
    "dataplane/src/reactor/mailbox.rs",
    "dataplane/src/reactor/readiness.rs",
    "dataplane/src/inputs/tail/spread.rs",
    "dataplane/src/log.rs",
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 100;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file of the workspace: its path from the root, and its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["config", "ffi", "dataplane", "benches", "perf", "tests"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 80, "only {} files found", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            let relative = path.strip_prefix(root()).expect("below the root");
            let text = fs::read_to_string(&path).expect("source is UTF-8");
            found.push((relative.to_string_lossy().into_owned(), text));
        }
    }
}

/// The text without comments and without what stands in `#[cfg(test)] mod`.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..end].lines();
    lines.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn a_layer_imports_only_lower_layers() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let Some(inner) = path.strip_prefix("dataplane/src/") else { continue };
        let module = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let layer = layer_of(module).unwrap_or_else(|| panic!("`{module}` is in no layer: {path}"));
        for (index, _) in code(&text).match_indices("crate::") {
            let rest = &code(&text)[index + "crate::".len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // In the crates of the library `crate::` is followed by a module; macros and items are its own.
            if layer_of(&name).is_some_and(|imported| imported > layer) {
                broken.push(format!("{path} (layer {layer}) imports {name}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_and_functions_stay_short() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let count = text.lines().count();
        if count > FILE_LINES_MAX {
            long.push(format!("{path}: {count} lines, {FILE_LINES_MAX} at most"));
        }
        for (name, lines) in functions(&text) {
            if lines > FUNCTION_LINES_MAX {
                long.push(format!(
                    "{path}: `{name}` has {lines} lines, {FUNCTION_LINES_MAX} at most"
                ));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

/// Functions and their lengths, by the indentation that rustfmt gives them.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let is_function = trimmed.split(" fn ").count() == 2 || trimmed.starts_with("fn ");
        if !is_function || trimmed.starts_with("//") || trimmed.ends_with(';') {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        let end = format!("{indent}}}");
        let length = lines[start..].iter().position(|line| *line == end).map_or(1, |at| at + 1);
        let name = trimmed.split("fn ").nth(1).and_then(|rest| rest.split(['(', '<']).next());
        found.push((name.unwrap_or_default().to_owned(), length));
    }
    found
}

#[test]
fn doors_stay_narrow() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        if path.starts_with("tests/") {
            continue;
        }
        let code = code(&text);
        let is_unsafe = code.contains("unsafe {") || code.contains("unsafe fn ");
        if is_unsafe && !UNSAFE_DOORS.iter().any(|door| path.starts_with(door)) {
            broken.push(format!("{path} says unsafe"));
        }
        let is_engine = path.starts_with("dataplane/src/");
        if is_engine && !path.starts_with("dataplane/src/reactor/") && code.contains("glommio::") {
            broken.push(format!("{path} says glommio"));
        }
        let locks = code.contains("Mutex<") || code.contains("RwLock<");
        if is_engine && locks && !LOCKS.contains(&path.as_str()) {
            broken.push(format!("{path} locks"));
        }
        let tells_time = code.contains("Instant::now") || code.contains("SystemTime::now");
        let is_pure = path.strip_prefix("dataplane/src/").is_some_and(|inner| {
            let module = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs");
            module != "log" && layer_of(module).is_some_and(|layer| layer < 2)
        });
        if is_pure && tells_time {
            broken.push(format!("{path} reads a clock"));
        }
    }
    for path in LOCKS {
        assert!(root().join(path).exists(), "{path} is in the list of locks and is gone");
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn registries_are_complete_and_sorted() {
    for folder in ["inputs", "filters", "outputs"] {
        let path = root().join("dataplane/src").join(folder);
        let registry = fs::read_to_string(path.join("mod.rs")).expect("a registry");
        let mut plugins = BTreeSet::new();
        for entry in fs::read_dir(&path).expect("a folder") {
            let entry = entry.expect("a readable folder").path();
            let main = if entry.is_dir() { entry.join("mod.rs") } else { entry.clone() };
            let text = fs::read_to_string(&main).expect("a source");
            if text.contains("pub static PLUGIN: ") {
                let name = entry.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                plugins.insert(name);
            }
        }
        let listed: Vec<String> = registry
            .match_indices("::PLUGIN")
            .map(|(end, _)| {
                let start = registry[..end].rfind('&').expect("a reference") + 1;
                registry[start..end].to_owned()
            })
            .collect();
        assert_eq!(listed, plugins.into_iter().collect::<Vec<_>>(), "{folder}/mod.rs");
    }
}

#[test]
fn every_source_file_is_part_of_a_crate() {
    let all = sources();
    let mut dead = Vec::new();
    for (path, _) in &all {
        let in_crate = ["config/src/", "ffi/src/", "dataplane/src/"];
        let Some(inner) = in_crate.iter().find_map(|folder| path.strip_prefix(folder)) else {
            continue;
        };
        let file = Path::new(path);
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if ["lib", "main"].contains(&stem.as_str()) || inner == "mod.rs" {
            continue;
        }
        let folder = file.parent().expect("a folder").to_string_lossy().into_owned();
        let (name, parents) = match stem.as_str() {
            "mod" => {
                let above = Path::new(&folder).parent().expect("a folder above");
                let name = Path::new(&folder).file_name().unwrap_or_default().to_string_lossy();
                (name.into_owned(), above.to_string_lossy().into_owned())
            }
            _ => (stem, folder),
        };
        let declares = |file: &str| {
            let declaration = format!("mod {name};");
            all.iter().any(|(path, text)| path == file && text.contains(&declaration))
        };
        let beside = format!("{parents}.rs");
        let owners = [format!("{parents}/mod.rs"), format!("{parents}/lib.rs"), beside];
        if !owners.iter().any(|owner| declares(owner)) {
            dead.push(path.clone());
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn the_top_of_the_tree_holds_what_the_readme_says() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "README.md",
        "dataplane",
        "config",
        "ffi",
        "benches",
        "perf",
        "tests",
        "target",
    ];
    for entry in fs::read_dir(root()).expect("the root") {
        let name = entry.expect("a readable folder").file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.') || allowed.contains(&name.as_str()), "{name} is on top");
    }
}
