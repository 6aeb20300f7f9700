//! From a `Document` to a [`Pipeline`]: finds plugins, builds instances, compiles routes.

use std::sync::Arc;

use config::{
    Document, KeySpec, Problem, Problems, Property, Section, ServiceSettings, Settings, Stage,
    nearest,
};

use crate::codec::json_text::{JsonOptions, Nan, Unicode};
use crate::filters::FILTERS;
use crate::flush::watermark::Meter;
use crate::inputs::INPUTS;
use crate::lane::host::Loaded;
use crate::limits::{EVENT_BYTES_MAX, MULTILINE_BYTES_DEFAULT};
use crate::multiline::{self, MultilineParsers};
use crate::outputs::OUTPUTS;
use crate::parsers;
use crate::pipeline::keys::{FilterKeys, ForeignKeys, FormatChoice, InputKeys, OutputKeys};
use crate::pipeline::{
    FilterInstance, ForeignOutput, InputInstance, OutputInstance, OutputKind, Pipeline,
};
use crate::pipeline::{later_plugins, shared_keys};
use crate::plugin::descriptor::BuildContext;
use crate::plugin::input::InputTag;
use crate::plugin::parser::Parsers;
use crate::route::pattern::TagPattern;
use crate::route::table::RouteTable;

/// What the machine brings to a pipeline.
pub struct Surroundings<'a> {
    /// Loaded plugins.
    pub loaded: &'a [Loaded],
    /// Plugins that are named and not loaded, because the start has failed already: an output that nobody
    /// knows may be one of them.
    pub unloaded_count: usize,
    /// Shards that will run.
    pub shard_count: usize,
    /// Limit of inputs without one of their own, in bytes.
    pub mem_limit_bytes: u64,
}

/// Builds a pipeline; pushes every problem and returns `None` when one was an error.
pub fn build(
    document: &Document,
    service: ServiceSettings,
    surroundings: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Pipeline> {
    let errors_before = problems.error_count();
    let json = JsonOptions {
        unicode: if service.json_escape_unicode { Unicode::Escaped } else { Unicode::Raw },
        nan: if service.json_convert_nan_to_null { Nan::Null } else { Nan::Word },
    };
    let parsers = parsers::compile(document, problems);
    let multiline = multiline::compile(document, &parsers, buffer_bytes_max(&service), problems);
    let flush_interval = service.flush.0;
    let mut builder = Builder {
        surroundings,
        flush_interval,
        json,
        parsers: &parsers,
        multiline: &multiline,
        document,
        problems: &mut *problems,
    };
    builder.refuse_what_comes_later(document);
    let shared = Arc::new(Meter::new(surroundings.mem_limit_bytes));
    let inputs: Vec<_> = document
        .inputs
        .iter()
        .enumerate()
        .filter_map(|(index, section)| builder.input(index, section, &shared))
        .collect();
    let (filter_patterns, filters): (Vec<_>, Vec<_>) = document
        .filters
        .iter()
        .enumerate()
        .filter_map(|(index, section)| builder.filter(index, section))
        .unzip();
    let is_pair = document.inputs.len() == 1 && document.outputs.len() == 1;
    let (patterns, outputs): (Vec<_>, Vec<_>) = document
        .outputs
        .iter()
        .enumerate()
        .filter_map(|(index, section)| builder.output(index, section, is_pair))
        .unzip();
    if problems.error_count() > errors_before {
        return None;
    }
    let may_retag = filters.iter().any(|filter| filter.plugin_name == "rewrite_tag");
    warn_unmatched(document, &inputs, &patterns, may_retag, problems);
    let routes = Arc::new(RouteTable::new(filter_patterns, patterns));
    let shard_count = surroundings.shard_count;
    Some(Pipeline { service, inputs, filters, outputs, routes, shard_count })
}

/// `multiline_buffer_limit`, within what an event may have.
fn buffer_bytes_max(service: &ServiceSettings) -> usize {
    match service.multiline_buffer_limit.0 {
        0 => MULTILINE_BYTES_DEFAULT,
        bytes => usize::try_from(bytes).unwrap_or(usize::MAX).min(EVENT_BYTES_MAX / 2),
    }
}

struct Builder<'a> {
    surroundings: &'a Surroundings<'a>,
    flush_interval: std::time::Duration,
    json: JsonOptions,
    parsers: &'a Parsers,
    multiline: &'a MultilineParsers,
    document: &'a Document,
    problems: &'a mut Problems,
}

impl<'a> Builder<'a> {
    /// Features that the Document can say and the engine cannot do yet.
    fn refuse_what_comes_later(&mut self, document: &Document) {
        for section in &document.customs {
            self.problems
                .push(Problem::error(section.span, "custom plugins are not supported yet"));
        }
        let sections = document.inputs.iter().chain(&document.filters).chain(&document.outputs);
        for section in sections {
            for block in &section.blocks {
                let message = match block.name.as_str() {
                    "processors" | "routes" | "telemetry" | "condition" => {
                        format!("`{}` is not supported yet: remove it", block.name)
                    }
                    other => format!("`{other}` must be one value or a list of values"),
                };
                self.problems.push(Problem::error(block.span, message));
            }
        }
    }

    fn context<'c>(&self, instance: &'c str, engine_keys: &'c [&'c [KeySpec]]) -> BuildContext<'c>
    where
        'a: 'c,
    {
        BuildContext {
            instance,
            engine_keys,
            shard_count: self.surroundings.shard_count,
            flush_interval: self.flush_interval,
            json: self.json,
            parsers: self.parsers,
            multiline: self.multiline,
            variables: &self.document.variables,
            directory: &self.document.directory,
        }
    }

    fn input(
        &mut self,
        index: usize,
        section: &Section,
        shared: &Arc<Meter>,
    ) -> Option<InputInstance> {
        let name = self.plugin_name(section, "input")?;
        let known = INPUTS.iter().find(|plugin| plugin.name.eq_ignore_ascii_case(&name.value));
        let Some(plugin) = known else {
            self.unknown_plugin("input", name, INPUTS.iter().map(|plugin| plugin.name));
            return None;
        };
        let keys = read_engine_keys::<InputKeys>(section, plugin.keys, self.problems);
        shared_keys::check_input(section, plugin.keys, self.problems);
        let instance = format!("{}.{index}", plugin.name);
        let [place, listener, tls, idle] = shared_keys::OF_INPUTS;
        let engine_keys = [InputKeys::KEYS, place, listener, tls, idle];
        let context = self.context(&instance, &engine_keys);
        let count = self.problems.len();
        let definition = (plugin.build)(section, &context, self.problems);
        self.problems.stage_after(count, Stage::Start);
        let (keys, definition) = (keys?, definition?);
        let tag = InputTag {
            text: keys.tag.as_deref().or(definition.default_tag()).unwrap_or(&instance).into(),
            configured: keys.tag.is_some(),
        };
        let meter = match keys.mem_buf_limit.0 {
            0 => Arc::clone(shared),
            bytes => Arc::new(Meter::new(bytes)),
        };
        let name = keys.alias.unwrap_or(instance);
        Some(InputInstance { name, plugin, definition, tag, meter, log_level: keys.log_level })
    }

    fn filter(&mut self, index: usize, section: &Section) -> Option<(TagPattern, FilterInstance)> {
        let name = self.plugin_name(section, "filter")?;
        let known = FILTERS.iter().find(|plugin| plugin.name.eq_ignore_ascii_case(&name.value));
        let Some(plugin) = known else {
            self.unknown_plugin("filter", name, FILTERS.iter().map(|plugin| plugin.name));
            return None;
        };
        let keys = read_engine_keys::<FilterKeys>(section, plugin.keys, self.problems);
        let instance = format!("{}.{index}", plugin.name);
        let engine_keys = [FilterKeys::KEYS];
        let context = self.context(&instance, &engine_keys);
        let count = self.problems.len();
        let definition = (plugin.build)(section, &context, self.problems);
        if section.get("match").is_none() && section.get("match_regex").is_none() {
            let message = format!("filter `{}` has no `match`", name.value);
            self.problems.push(Problem::error(section.span, message).with_help("add `match *`"));
        }
        self.problems.stage_after(count, Stage::Start);
        let (keys, definition) = (keys?, definition?);
        let pattern =
            self.pattern(section, keys.match_glob.as_deref(), keys.match_regex.as_deref())?;
        let pattern = pattern.filter(|_| keys.active.0).unwrap_or(TagPattern::Nothing);
        let filter = FilterInstance {
            name: keys.alias.unwrap_or(instance),
            plugin_name: plugin.name,
            definition,
            log_level: keys.log_level,
        };
        Some((pattern, filter))
    }

    fn output(
        &mut self,
        index: usize,
        section: &Section,
        is_pair: bool,
    ) -> Option<(TagPattern, OutputInstance)> {
        let name = self.plugin_name(section, "output")?.clone();
        let loaded = self.surroundings.loaded;
        let foreign = loaded.iter().find(|loaded| loaded.name.eq_ignore_ascii_case(&name.value));
        let built_in = OUTPUTS.iter().find(|plugin| plugin.name.eq_ignore_ascii_case(&name.value));
        let (kind, plugin_name, keys) = match (foreign, built_in) {
            (Some(foreign), built_in) => {
                if built_in.is_some() {
                    let message = format!(
                        "`{}` names a loaded plugin and a built-in output: the loaded one is used",
                        name.value
                    );
                    self.problems.push(Problem::warning(name.value_span, message));
                }
                self.warn_of_choice(&name, foreign);
                let keys = read_engine_keys::<OutputKeys>(section, &[], self.problems);
                let kind = self.foreign(section, foreign);
                (kind?, foreign.name.to_ascii_lowercase(), keys?)
            }
            (None, Some(plugin)) => {
                let keys = read_engine_keys::<OutputKeys>(section, plugin.keys, self.problems);
                shared_keys::check_output(section, plugin.keys, self.problems);
                let instance = format!("{}.{index}", plugin.name);
                let [place, connector, tls] = shared_keys::OF_OUTPUTS;
                let engine_keys = [OutputKeys::KEYS, place, connector, tls];
                let context = self.context(&instance, &engine_keys);
                let count = self.problems.len();
                let definition = (plugin.build)(section, &context, self.problems);
                self.problems.stage_after(count, Stage::Start);
                (OutputKind::BuiltIn(definition?), plugin.name.to_owned(), keys?)
            }
            (None, None) if self.surroundings.unloaded_count > 0 => return None,
            (None, None) => {
                let names = OUTPUTS.iter().map(|plugin| plugin.name);
                let all = names.chain(loaded.iter().map(|loaded| loaded.name.as_str()));
                self.unknown_plugin("output", &name, all);
                return None;
            }
        };
        let pattern = match foreign {
            Some(foreign) if !foreign.takes_logs => TagPattern::Nothing,
            _ => {
                let (glob, regex) = (keys.match_glob.as_deref(), keys.match_regex.as_deref());
                let pattern = self.pattern(section, glob, regex)?;
                pattern.unwrap_or_else(|| self.pattern_of_none(section, &keys.name, is_pair))
            }
        };
        let output = OutputInstance {
            name: keys.alias.unwrap_or_else(|| format!("{plugin_name}.{index}")),
            plugin_name,
            kind,
            retry_limit: keys.retry_limit,
            workers: keys.workers,
            log_level: keys.log_level,
        };
        Some((pattern, output))
    }

    /// Says what else the name of a loaded plugin might have meant, and what the plugin will not get.
    fn warn_of_choice(&mut self, name: &config::Property, used: &Loaded) {
        let others = self.surroundings.loaded.iter().filter(|other| other.id != used.id);
        for other in others.filter(|other| other.name.eq_ignore_ascii_case(&used.name)) {
            let message = format!(
                "`{}` and `{}` both register as `{}`: the first is used",
                used.path.display(),
                other.path.display(),
                used.name
            );
            self.problems.push(Problem::warning(name.value_span, message));
        }
        if !used.takes_logs {
            let message = format!(
                "plugin `{}` takes no logs, and there are no other events yet: it gets nothing",
                used.name
            );
            self.problems.push(Problem::warning(name.value_span, message));
        }
    }

    fn foreign(&mut self, section: &Section, loaded: &Loaded) -> Option<OutputKind> {
        let mut known = section.clone();
        known.properties.retain(|property| is_key_of(ForeignKeys::KEYS, property));
        let keys = ForeignKeys::read(&known, &[], self.problems)?;
        let count = self.problems.len();
        shared_keys::check_net_names(section, self.problems);
        self.problems.stage_after(count, Stage::Start);
        for property in &section.properties {
            let is_ours =
                is_key_of(OutputKeys::KEYS, property) || is_key_of(ForeignKeys::KEYS, property);
            if ffi::property::is_reserved(&property.key) && !is_ours {
                let message = format!("plugin `{}` will never see `{}`", loaded.name, property.key);
                let help =
                    "Fluent Bit keeps this key for itself; name it otherwise, if the plugin can";
                self.problems.push(Problem::warning(property.key_span, message).with_help(help));
            }
        }
        let format = match keys.event_format {
            FormatChoice::Auto => loaded.event_format(),
            FormatChoice::Fixed(format) => format,
        };
        let section = section.clone();
        Some(OutputKind::Foreign(ForeignOutput { library: loaded.id, format, section }))
    }

    /// What `match` and `match_regex` say; `Some(None)` when neither is given.
    fn pattern(
        &mut self,
        section: &Section,
        glob: Option<&str>,
        regex: Option<&str>,
    ) -> Option<Option<TagPattern>> {
        let regex = match regex.map(TagPattern::regex).transpose() {
            Ok(regex) => regex,
            Err(message) => {
                let span = section.get("match_regex").map(|property| property.value_span);
                self.problems.push(Problem::error(span, format!("`match_regex`: {message}")));
                return None;
            }
        };
        Some(match (glob.map(TagPattern::glob), regex) {
            (Some(glob), Some(regex)) => Some(TagPattern::Either(Box::new([regex, glob]))),
            (glob, regex) => glob.or(regex),
        })
    }

    /// Of an output without `match`: Fluent Bit's rule for one input and one output, by what the user wrote.
    fn pattern_of_none(&mut self, section: &Section, name: &str, is_pair: bool) -> TagPattern {
        if is_pair {
            return TagPattern::Any;
        }
        let message = format!("output `{name}` has no `match`: it gets nothing");
        self.problems.push(Problem::warning(section.span, message).with_help("add `match *`"));
        TagPattern::Nothing
    }

    fn plugin_name<'s>(
        &mut self,
        section: &'s Section,
        kind: &str,
    ) -> Option<&'s config::Property> {
        let name = section.plugin_name();
        if name.is_none() {
            let message = format!("section `{kind}` is missing the `name` property");
            self.problems.push(Problem::error(section.span, message));
        }
        name
    }

    fn unknown_plugin<'n>(
        &mut self,
        kind: &str,
        name: &config::Property,
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        let theirs = later_plugins::of(kind);
        if theirs.iter().any(|other| other.eq_ignore_ascii_case(&name.value)) {
            let message = format!("{kind} plugin `{}` is not supported yet", name.value);
            let problem = Problem::error(name.value_span, message);
            self.problems.push(match kind {
                "output" => problem.with_help("a plugin of that name can be loaded with `-e`"),
                _ => problem,
            });
            return;
        }
        let message = format!("unknown {kind} plugin `{}`", name.value);
        let names: Vec<&str> = known.clone().collect();
        let help = match nearest(&name.value, known.chain(theirs.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None if kind == "output" => {
                format!("these exist: {}; others are loaded with `-e`", names.join(", "))
            }
            None => format!("these exist: {}", names.join(", ")),
        };
        self.problems.push(Problem::error(name.value_span, message).with_help(help));
    }
}

fn is_key_of(keys: &[KeySpec], property: &Property) -> bool {
    keys.iter().any(|spec| property.is(spec.name))
}

/// Reads the engine's keys of a section; the plugin's are checked when the plugin reads them. Fluent Bit takes
/// the last of repeated engine keys.
pub(super) fn read_engine_keys<K: Settings>(
    section: &Section,
    plugin_keys: &[KeySpec],
    problems: &mut Problems,
) -> Option<K> {
    let mut own = Section::new(section.name.clone(), section.span);
    for (index, property) in section.properties.iter().enumerate() {
        let Some(spec) = K::KEYS.iter().find(|spec| property.is(spec.name)) else { continue };
        if is_key_of(plugin_keys, property) && spec.name != "name" {
            continue;
        }
        let mut earlier = section.properties[..index].iter();
        if spec.name == "name" && earlier.any(|other| other.is("name")) {
            let message = "`name` is set already: the first one counts";
            problems.push(Problem::warning(property.key_span, message));
            continue;
        }
        let mut later = section.properties[index + 1..].iter();
        if spec.name != "name" && later.any(|other| other.is(spec.name)) {
            let message = format!("`{}` is set again below: the last one counts", property.key);
            problems.push(Problem::warning(property.key_span, message));
            continue;
        }
        own.properties.push(property.clone());
    }
    K::read(&own, &[], problems)
}

/// Says which inputs no output takes and which outputs no input can reach, where tags are known.
fn warn_unmatched(
    document: &Document,
    inputs: &[InputInstance],
    patterns: &[TagPattern],
    may_retag: bool,
    problems: &mut Problems,
) {
    // Where a filter gives new tags nothing is known of what comes.
    if may_retag {
        return;
    }
    for (input, section) in inputs.iter().zip(&document.inputs) {
        let tag = input.tag.text.as_bytes();
        let is_static = !input.tag.text.contains(['*', '<']) && input.plugin.name != "forward";
        if is_static && !patterns.iter().any(|pattern| pattern.matches(tag)) {
            let message =
                format!("no output matches `{}` of input `{}`", input.tag.text, input.name);
            problems.push(Problem::warning(section.span, message));
        }
    }
    let all_static = inputs.iter().all(|input| {
        !input.tag.text.contains('*') && !["forward", "tail"].contains(&input.plugin.name)
    });
    for (pattern, section) in patterns.iter().zip(&document.outputs) {
        let is_reached = inputs.iter().any(|input| pattern.matches(input.tag.text.as_bytes()));
        if all_static && !is_reached && !matches!(pattern, TagPattern::Nothing) {
            let name = section.plugin_name().map_or("output", |name| name.value.as_str());
            let message = format!("output `{name}` matches no input");
            problems.push(Problem::warning(section.span, message));
        }
    }
}
