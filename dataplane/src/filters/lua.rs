//! `lua`: lets a function of a script look at each record, and drop it, keep it, change it or split it.
//!
//! Each shard has a machine of its own, so a global of the script is that of its shard. A script that raises, or
//! returns what is no record, leaves the record as it came: that is counted, and logged once a second.

use std::fmt;
use std::sync::Arc;

use config::{Problem, Problems, Section, Settings, Words};

use crate::event::encoder::event_header_with_metadata;
use crate::event::msgpack::{Head, read_head, take_value};
use crate::event::record::Record;
use crate::event::time::{Clock, EventTime};
use crate::kernel::lua::{Argument, Lua, Results};
use crate::kernel::lua_values::FieldTypes;
use crate::limits::LUA_RESULT_BYTES_MAX;
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, FilterPlugin};
use crate::plugin::filter::{Filter, FilterDefinition, FilterPlace, Verdict};

/// The `lua` filter.
pub static PLUGIN: FilterPlugin = FilterPlugin {
    name: "lua",
    summary: "lets a Lua function drop, change or split records",
    keys: LuaSettings::KEYS,
    build,
};

config::config_map! {
    /// What `lua` is told.
    pub struct LuaSettings {
        /// File of the script, relative to the working directory or to that of the configuration.
        "script" => script: String, optional;
        /// The script itself, in place of a file.
        "code" => code: String, optional;
        /// Function of the script that is called with tag, time and record.
        "call" => call: String, required;
        /// Keys whose numbers lose their fraction.
        "type_int_key" => type_int_key: Words, optional;
        /// Keys whose tables are arrays, also when they are empty.
        "type_array_key" => type_array_key: Words, optional;
        /// An error of the function leaves the record as it is; otherwise it ends the process with status 255.
        "protected_mode" => protected_mode: bool, default "true";
        /// Times are tables of sec and nsec, and lose nothing.
        "time_as_table" => time_as_table: bool, default "false";
        /// A null is `flb_null` in Lua, so that its key stays.
        "enable_flb_null" => enable_flb_null: bool, default "false";
    }
}

/// A script and how it is called.
struct Script {
    text: Vec<u8>,
    /// What Lua's messages call it.
    name: String,
    settings: LuaSettings,
    types: FieldTypes,
    /// What the script finds in `FLB_ENV`.
    environment: Vec<(String, String)>,
}

struct LuaDefinition(Arc<Script>);

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn FilterDefinition>> {
    let settings = LuaSettings::read(section, context.engine_keys, problems)?;
    let span_of = |key: &str| section.get(key).map(|property| property.value_span);
    let (key, text, name) = match (&settings.code, &settings.script) {
        (Some(code), script) => {
            if script.is_some() {
                let message = "`script` has no effect beside `code`";
                problems.push(Problem::warning(span_of("script"), message));
            }
            ("code", code.as_bytes().to_vec(), "fluentbit.lua".to_owned())
        }
        (None, Some(script)) => {
            let path = config::beside(context.directory, script);
            match std::fs::read(&path) {
                Ok(text) => ("script", text, format!("@{}", path.display())),
                Err(error) => {
                    let message = format!("cannot read `{}`: {error}", path.display());
                    problems.push(Problem::error(span_of("script"), message));
                    return None;
                }
            }
        }
        (None, None) => {
            let problem = Problem::error(section.span, "`lua` needs a script");
            problems.push(problem.with_help("add `script` with a path, or `code`"));
            return None;
        }
    };
    let words = |words: &Option<Words>| words.as_ref().map_or(Vec::new(), |words| words.0.clone());
    let types = FieldTypes {
        integers: words(&settings.type_int_key),
        arrays: words(&settings.type_array_key),
    };
    let environment = environment(context.variables);
    let script = Script { text, name, settings, types, environment };
    if let Err(refusal) = script.open() {
        let key = if matches!(refusal, Refusal::NoFunction(_)) { "call" } else { key };
        problems.push(Problem::error(span_of(key), format!("`{key}`: {refusal}")));
        return None;
    }
    Some(Arc::new(LuaDefinition(Arc::new(script))))
}

/// The variables of the configuration, and the name of the machine.
fn environment(variables: &[(String, String)]) -> Vec<(String, String)> {
    const HOST: &str = "HOSTNAME";
    let mut environment = variables.to_vec();
    if !variables.iter().any(|(name, _)| name == HOST) {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        environment.push((HOST.to_owned(), host));
    }
    environment
}

/// Why a script cannot be used.
enum Refusal {
    NoMachine,
    /// It is no Lua, or raised an error when it was run.
    Raised(String),
    NoFunction(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoMachine => f.write_str("there is no memory for a Lua machine"),
            Refusal::Raised(message) => f.write_str(message),
            Refusal::NoFunction(name) => write!(f, "the script has no function `{name}`"),
        }
    }
}

/// What a function is given and returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `f(tag, time, record)` returns code, time and record.
    Plain,
    /// `f(tag, time, group, metadata, record)` returns code, time, metadata and record.
    WithMetadata,
}

impl Script {
    /// A machine that has run the script and has the function, and the form of that.
    fn open(&self) -> Result<(Lua, Form), Refusal> {
        let mut lua = Lua::new().ok_or(Refusal::NoMachine)?;
        lua.set_strings("FLB_ENV", &self.environment);
        if self.settings.enable_flb_null {
            lua.set_null();
        }
        lua.run(&self.text, &self.name).map_err(|error| Refusal::Raised(error.message))?;
        match lua.choose(&self.settings.call) {
            None => Err(Refusal::NoFunction(self.settings.call.clone())),
            Some(0..5) => Ok((lua, Form::Plain)),
            Some(_) => Ok((lua, Form::WithMetadata)),
        }
    }
}

impl FilterDefinition for LuaDefinition {
    fn open(&self, place: &FilterPlace) -> Box<dyn Filter> {
        let script = Arc::clone(&self.0);
        let machine = match script.open() {
            Ok(machine) => Some(machine),
            // It was well when the configuration was read.
            Err(refusal) => {
                place.log.error(format_args!("the script does not start any more: {refusal}"));
                (place.fail)();
                None
            }
        };
        Box::new(LuaFilter {
            machine,
            script,
            buffers: Buffers::default(),
            complaints: Complaints { log: place.log.clone(), now_ns: 0, due_ns: 0, silent: 0 },
            fail: Arc::clone(&place.fail),
        })
    }
}

struct LuaFilter {
    /// `None` where the script did not start.
    machine: Option<(Lua, Form)>,
    script: Arc<Script>,
    buffers: Buffers,
    complaints: Complaints,
    fail: Arc<dyn Fn() + Send + Sync>,
}

/// Memory that records reuse.
#[derive(Default)]
struct Buffers {
    body: Vec<u8>,
    metadata: Vec<u8>,
    /// An array of records.
    parts: Vec<u8>,
}

/// Lines about records that failed, one a second at most.
struct Complaints {
    log: Log,
    now_ns: u64,
    /// When the next line may be written.
    due_ns: u64,
    /// Failures since the last line.
    silent: u64,
}

const COMPLAINT_INTERVAL_NS: u64 = 1_000_000_000;

impl Complaints {
    fn tell(&mut self, failure: &Failure) {
        if self.now_ns < self.due_ns {
            self.silent += 1;
            return;
        }
        self.due_ns = self.now_ns + COMPLAINT_INTERVAL_NS;
        match std::mem::take(&mut self.silent) {
            0 => self.log.error(failure),
            silent => self.log.error(format_args!("{failure} ({silent} more failed since)")),
        }
    }
}

/// Why a record goes on as it came.
enum Failure {
    Raised(String),
    Code(i32),
    /// The result is no record, and why.
    NoRecord(String),
    Time,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Raised(message) => f.write_str(message),
            Failure::Code(code) => {
                write!(f, "unexpected Lua script return code {code}, original record will be kept.")
            }
            Failure::NoRecord(why) => f.write_str(why),
            Failure::Time => {
                f.write_str("invalid lua timestamp type returned, original record will be kept.")
            }
        }
    }
}

impl Filter for LuaFilter {
    fn begin_batch(&mut self, clock: Clock) {
        self.complaints.now_ns = clock.monotonic_ns;
        if let Some((lua, _)) = &mut self.machine {
            lua.tune();
        }
    }

    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let Some((lua, form)) = &mut self.machine else { return Verdict::Fail };
        let done = call(lua, *form, &self.script, &mut self.buffers, record);
        done.unwrap_or_else(|failure| {
            record.replacement().clear();
            self.complaints.tell(&failure);
            let is_raised = matches!(failure, Failure::Raised(_));
            if is_raised && !self.script.settings.protected_mode {
                (self.fail)();
            }
            Verdict::Fail
        })
    }
}

/// Calls the function with a record, and does what it says.
fn call(
    lua: &mut Lua,
    form: Form,
    script: &Script,
    buffers: &mut Buffers,
    record: &mut Record<'_>,
) -> Result<Verdict, Failure> {
    let time = match script.settings.time_as_table {
        true => Argument::Time(record.time()),
        false => Argument::Number(record.time().as_f64()),
    };
    buffers.body.clear();
    let tag = Argument::Same(record.tag());
    let body = Argument::Value(record.body(&mut buffers.body));
    let results = match form {
        Form::Plain => lua.call(&[tag, time, body], 3),
        Form::WithMetadata => {
            let group = Argument::Value(record.group());
            let metadata = Argument::Value(record.metadata());
            lua.call(&[tag, time, group, metadata, body], 4)
        }
    };
    let results = results.map_err(|error| Failure::Raised(error.to_string()))?;
    let time = match results.number(0) as i32 {
        -1 => return Ok(Verdict::Drop),
        0 => return Ok(Verdict::Keep),
        1 => time_of(&results, script).ok_or(Failure::Time)?,
        2 if script.settings.time_as_table && !results.is_table(1) => return Err(Failure::Time),
        2 => record.time(),
        code => return Err(Failure::Code(code)),
    };
    replace(&results, form, script, buffers, (time, record))
}

/// The time that a function returned, if an event can bear it.
fn time_of(results: &Results<'_>, script: &Script) -> Option<EventTime> {
    if !script.settings.time_as_table {
        let seconds = results.number(1);
        // The last two seconds are marks of groups.
        return (0.0..f64::from(u32::MAX - 1))
            .contains(&seconds)
            .then(|| EventTime::from_f64(seconds));
    }
    if !results.is_table(1) {
        return None;
    }
    let (secs, nanos) = (results.number_in(1, "sec"), results.number_in(1, "nsec"));
    let is_time = (0.0..f64::from(u32::MAX - 1)).contains(&secs) && (0.0..1e9).contains(&nanos);
    is_time.then_some(EventTime { secs: secs as u32, nanos: nanos as u32 })
}

/// Writes the events that replace a record.
fn replace(
    results: &Results<'_>,
    form: Form,
    script: &Script,
    buffers: &mut Buffers,
    (time, record): (EventTime, &mut Record<'_>),
) -> Result<Verdict, Failure> {
    let Buffers { metadata, parts, .. } = buffers;
    let (function, name) = (&script.settings.call, script.name.trim_start_matches('@'));
    let invalid = |why: String| {
        Failure::NoRecord(format!("invalid table returned at {function}(), {name}: {why}"))
    };
    metadata.clear();
    let result = match form {
        Form::Plain => 2,
        Form::WithMetadata => {
            if results.is_table(2) {
                let put = results.put(2, &script.types, metadata);
                put.map_err(|why| invalid(why.to_string()))?;
            }
            3
        }
    };
    let own = record.metadata();
    let whole = if is_map(metadata) { metadata.as_slice() } else { own };
    let out = record.replacement();
    event_header_with_metadata(out, time, whole);
    let start = out.len();
    results.put(result, &script.types, out).map_err(|why| invalid(why.to_string()))?;
    let mut rest = &out[start..];
    match read_head(&mut rest) {
        Some(Head::Map(_)) => Ok(Verdict::Replace(1)),
        Some(Head::Array(count)) => {
            parts.clear();
            parts.extend_from_slice(rest);
            out.clear();
            let metadata = Metadata { own, given: metadata, count };
            split(parts, &metadata, time, out).map_err(|why| invalid(why.to_owned()))?;
            Ok(Verdict::Replace(count as u32))
        }
        _ => Err(invalid("it is neither a map nor an array of maps".to_owned())),
    }
}

fn is_map(value: &[u8]) -> bool {
    matches!(value.first(), Some(0x80..=0x8f | 0xde | 0xdf))
}

/// The metadata of the parts of a record.
struct Metadata<'a> {
    /// Of the record.
    own: &'a [u8],
    /// What the function returned; empty for none.
    given: &'a [u8],
    /// Parts.
    count: usize,
}

/// Writes an event for each value, if all of them are maps.
fn split(
    parts: &[u8],
    metadata: &Metadata<'_>,
    time: EventTime,
    out: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let Metadata { own, given, count } = *metadata;
    let mut given_rest = given;
    let is_each = !is_map(given) && read_head(&mut given_rest) == Some(Head::Array(count));
    let mut rest = parts;
    for _ in 0..count {
        let part = take_value(&mut rest).filter(|part| is_map(part));
        let part = part.ok_or("an element of the array is no map")?;
        if out.len() > LUA_RESULT_BYTES_MAX {
            return Err("its records are too large together");
        }
        let metadata = match is_each {
            true => {
                take_value(&mut given_rest).filter(|metadata| is_map(metadata)).unwrap_or(&[0x80])
            }
            false if is_map(given) => given,
            false => own,
        };
        event_header_with_metadata(out, time, metadata);
        out.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::codec::json::encode_value;
    use crate::codec::json_text::{JsonOptions, put_json};
    use crate::event::reader::Events;
    use crate::event::record::Workspace;
    use crate::filters::testing::{TAG, definition, errors, open};

    const METADATA: &[u8] = &[0x81, 0xa1, b'm', 1];
    const TIME: EventTime = EventTime { secs: 1_700_000_000, nanos: 123_456_789 };

    /// What a filter says of a record, and the events that replace it: time, metadata and body.
    fn apply(filter: &mut dyn Filter, record: &str) -> (Verdict, Vec<String>) {
        let mut bytes = Vec::new();
        event_header_with_metadata(&mut bytes, TIME, METADATA);
        encode_value(record.as_bytes(), &mut bytes).unwrap();
        let event = Events::new(&bytes).next().unwrap().unwrap();
        let mut work = Workspace::default();
        let mut record = Record::new(TAG, event, &mut work).unwrap();
        record.set_group(&[0x81, 0xa1, b'g', 2]);
        let verdict = filter.apply(&mut record);
        let json = |value: &[u8]| {
            let mut json = Vec::new();
            put_json(value, JsonOptions::default(), &mut json).unwrap();
            String::from_utf8(json).unwrap()
        };
        let events = Events::new(record.replacement()).map(|event| {
            let event = event.unwrap();
            let EventTime { secs, nanos } = event.time;
            format!("{secs}.{nanos:09} {} {}", json(event.metadata), json(event.body))
        });
        (verdict, events.collect())
    }

    fn run(keys: &[(&str, &str)], code: &str) -> (Verdict, Vec<String>) {
        let keys = [&[("call", "f"), ("code", code)], keys].concat();
        apply(&mut *open(&PLUGIN, &keys), r#"{"a":[1],"z":null}"#)
    }

    #[test]
    fn a_function_is_told_everything_and_its_answer_counts() {
        let body = r#"{"a":[1]}"#;
        let same = format!("1700000000.123456789 {{\"m\":1}} {body}");
        let lossy = format!("1700000000.123456716 {{\"m\":1}} {body}");
        let one = |event: &str| (Verdict::Replace(1), vec![event.to_owned()]);
        let plain = |code: &str| run(&[], &format!("function f(t, s, r) {code} end"));
        assert_eq!(plain("return 2, s, r"), one(&same));
        assert_eq!(plain("return 1, s, r"), one(&lossy));
        assert_eq!(
            plain("return 2, s, {t = t}").1,
            [r#"1700000000.123456789 {"m":1} {"t":"app.web.one"}"#]
        );
        assert_eq!(plain("return 0, s, r"), (Verdict::Keep, vec![]));
        assert_eq!(plain("return -1"), (Verdict::Drop, vec![]));
        assert_eq!(
            plain("return 2, s, {r, r}"),
            (Verdict::Replace(2), vec![same.clone(), same.clone()])
        );
        assert_eq!(plain("return 1, 4294967295, r"), (Verdict::Fail, vec![]));
        assert_eq!(plain("return 1, 0/0, r"), (Verdict::Fail, vec![]));
        assert_eq!(plain("return 2, s, {r, 5}"), (Verdict::Fail, vec![]));
        let table =
            run(&[("time_as_table", "on")], "function f(t, s, r) s.nsec = 7 return 1, s, r end");
        assert_eq!(table, one(&format!("1700000000.000000007 {{\"m\":1}} {body}")));
        let with = "function f(t, s, g, m, r) m.m = g.g return 2, s, m, {y = FLB_ENV.FOO} end";
        assert_eq!(run(&[], with).1, [r#"1700000000.123456789 {"m":2} {"y":"bar"}"#]);
        let many = "function f(t, s, g, m, r) m.x = string.rep('y', 1e5) local l = {} for i = 1, 400 do l[i] = {} end \
                    return 2, s, m, l end";
        assert_eq!(run(&[], many), (Verdict::Fail, vec![]));
        let null =
            run(&[("enable_flb_null", "on")], "function f(t, s, r) return 2, s, {n = r.z} end");
        assert_eq!(null.1, [r#"1700000000.123456789 {"m":1} {"n":null}"#]);
    }

    #[test]
    fn scripts_that_cannot_run_are_refused() {
        let table: [(&[(&str, &str)], &str); 7] = [
            (&[("call", "f")], "`lua` needs a script"),
            (&[("code", "x = 1")], "`lua` needs `call`"),
            (&[("call", "f"), ("script", "nowhere.lua")], "cannot read `nowhere.lua`"),
            (
                &[("call", "f"), ("code", "f = = 1")],
                "`code`: [string \"fluentbit.lua\"]:1: unexpected",
            ),
            (&[("call", "f"), ("code", "error('no')")], "`code`: [string \"fluentbit.lua\"]:1: no"),
            (&[("call", "f"), ("code", "f = 1")], "`call`: the script has no function `f`"),
            (&[("call", "f"), ("code", "require 'nowhere'")], "module 'nowhere' not found"),
        ];
        for (keys, expected) in table {
            let errors = errors(&PLUGIN, keys);
            assert!(errors.len() == 1 && errors[0].contains(expected), "{keys:?}: {errors:?}");
        }
    }

    #[test]
    fn an_error_leaves_the_record_or_ends_the_process() {
        let code = "function f(t, s, r) n = (n or 0) + 1; if n < 3 then error('no') end; return 2, s, {n = n} end";
        for (protected, failed) in [("on", 0), ("off", 2)] {
            let keys = [("call", "f"), ("code", code), ("protected_mode", protected)];
            let fails = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&fails);
            let mut filter = definition(&PLUGIN, &keys).open(&FilterPlace {
                shard: 0,
                shard_count: 1,
                log: Log::discard(),
                fail: Arc::new(move || {
                    counted.fetch_add(1, Ordering::Relaxed);
                }),
            });
            for _ in 0..2 {
                assert_eq!(apply(&mut *filter, "{}"), (Verdict::Fail, vec![]));
            }
            assert_eq!(apply(&mut *filter, "{}").0, Verdict::Replace(1));
            assert_eq!(fails.load(Ordering::Relaxed), failed);
        }
    }

    #[test]
    fn complaints_come_once_a_second() {
        let mut complaints = Complaints { log: Log::discard(), now_ns: 5, due_ns: 0, silent: 0 };
        for silent in [0, 1, 2] {
            complaints.tell(&Failure::Time);
            assert_eq!(complaints.silent, silent);
        }
        complaints.now_ns += COMPLAINT_INTERVAL_NS;
        complaints.tell(&Failure::Time);
        assert_eq!(complaints.silent, 0);
    }
}
