//! Help texts: of the program from its flags, of a plugin from its descriptor.

use config::{KeySpec, Settings};

use super::flags::{Flag, PROGRAM, SECTIONS, SERVICE};
use crate::filters::FILTERS;
use crate::inputs::INPUTS;
use crate::outputs::OUTPUTS;
use crate::pipeline::keys::{FilterKeys, InputKeys, OutputKeys};

/// What `-h` prints.
pub fn general() -> String {
    let mut text = "\
Usage: dataplane [OPTION]...
       dataplane -c FILE
       dataplane -i INPUT [-t TAG] [-p KEY=VALUE]... [-F FILTER ...]
                 -o OUTPUT [-m PATTERN] [-p KEY=VALUE]...

A telemetry dataplane that runs Fluent Bit's configurations and Go output plugins.
"
    .to_owned();
    text += "\nOptions\n";
    push_flags(&mut text, &mut PROGRAM.iter());
    text += "\nPlugins, from left to right\n";
    push_flags(&mut text, &mut SECTIONS.iter());
    text += "\nService, where the file does not say otherwise\n";
    push_flags(&mut text, &mut SERVICE.iter().map(|(flag, _)| flag));
    text += "\nInputs\n";
    for plugin in INPUTS {
        push_row(&mut text, plugin.name, plugin.summary);
    }
    text += "\nFilters\n";
    for plugin in FILTERS {
        push_row(&mut text, plugin.name, plugin.summary);
    }
    text += "\nOutputs\n";
    for plugin in OUTPUTS {
        push_row(&mut text, plugin.name, plugin.summary);
    }
    text += "\nGo and C output plugins are loaded with -e, a plugins_file, or plugins in YAML.\n";
    text += "`dataplane -i tail -h` prints the keys of one.\n";
    text
}

fn push_flags(text: &mut String, flags: &mut dyn Iterator<Item = &Flag>) {
    for flag in flags {
        let short = flag.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let value = flag.value.map_or(String::new(), |value| format!("={value}"));
        push_row(text, &format!("{short}--{}{value}", flag.long), flag.help);
    }
}

fn push_row(text: &mut String, name: &str, meaning: &str) {
    *text += &format!("  {name:<28} {meaning}\n");
}

/// The keys of a plugin.
///
/// # Errors
/// When there is no such plugin.
pub fn plugin(kind: &str, name: &str) -> Result<String, String> {
    let name = name.split("://").next().unwrap_or(name);
    let found = match kind {
        "input" => INPUTS
            .iter()
            .find(|plugin| plugin.name.eq_ignore_ascii_case(name))
            .map(|plugin| (plugin.name, plugin.summary, plugin.keys)),
        "filter" => FILTERS
            .iter()
            .find(|plugin| plugin.name.eq_ignore_ascii_case(name))
            .map(|plugin| (plugin.name, plugin.summary, plugin.keys)),
        "output" => OUTPUTS
            .iter()
            .find(|plugin| plugin.name.eq_ignore_ascii_case(name))
            .map(|plugin| (plugin.name, plugin.summary, plugin.keys)),
        _ => return Err(format!("error: {kind} plugins are not supported yet: `{name}`\n")),
    };
    let Some((name, summary, keys)) = found else {
        return Err(format!("error: there is no built-in {kind} plugin `{name}`\n"));
    };
    let common = match kind {
        "input" => InputKeys::KEYS,
        "filter" => FilterKeys::KEYS,
        _ => OutputKeys::KEYS,
    };
    let mut text = format!("{kind} {name}: {summary}\n\nKeys of {name}\n");
    push_keys(&mut text, keys, &[]);
    text += &format!("\nKeys of every {kind}\n");
    push_keys(&mut text, common, keys);
    Ok(text)
}

fn push_keys(text: &mut String, keys: &[KeySpec], shadowed_by: &[KeySpec]) {
    for key in keys.iter().filter(|key| !shadowed_by.iter().any(|own| own.name == key.name)) {
        let default = match (key.required, key.default) {
            (true, _) => ", required".to_owned(),
            (false, Some(default)) => format!(", default {default}"),
            (false, None) => String::new(),
        };
        let repeat = if key.repeat { ", may be repeated" } else { "" };
        let kind = match (key.later, key.default) {
            (true, Some(off)) => format!("not supported yet: only {off}"),
            (true, None) => "not supported yet".to_owned(),
            (false, _) => format!("{}{default}{repeat}", key.type_name),
        };
        push_row(text, key.name, &format!("({kind})"));
        *text += &format!("      {}\n", key.help.trim());
    }
}
