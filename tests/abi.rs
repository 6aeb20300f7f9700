//! The C ABI of output plugins, spoken with `plugins/c/probe.c`: every call, in its order, with its arguments and
//! on its thread; what a plugin sees of its section; and every library that cannot be loaded.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rmpv::Value;
use support::plugins::{c_plugin, c_variant};
use support::{Dataplane, Ended, build_folder, folder};

/// The file in which the plugin writes down its calls.
struct Calls {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Calls {
    fn new() -> Calls {
        let folder = folder();
        Calls { path: folder.path().join("calls"), _folder: folder }
    }

    /// The calls, without the plugin and the thread.
    fn lines(&self) -> Vec<String> {
        let text = self.text();
        text.lines().map(|line| line.split(" [").next().unwrap_or_default().to_owned()).collect()
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    fn has(&self, line: &str) -> bool {
        self.lines().iter().any(|call| call == line)
    }
}

/// A start with the plugins loaded and their calls written down.
fn with_plugins(config: &str, plugins: &[&Path], calls: &Calls) -> Dataplane {
    let dataplane = Dataplane::with_config(config).env("PROBE_CALLS", &calls.path);
    plugins
        .iter()
        .fold(dataplane, |dataplane, plugin| dataplane.args(["-e".as_ref(), plugin.as_os_str()]))
}

/// Runs until the input, which ends by itself, is delivered.
fn run(config: &str, plugins: &[&Path], calls: &Calls) -> Ended {
    let mut run = with_plugins(config, plugins, calls).started();
    run.wait_until("a flush", || calls.text().contains("\nflush "));
    run.stop()
}

const ONE_RECORD: &str = "[SERVICE]\n Flush 0.05\n[INPUT]\n Name dummy\n Tag a.b\n Samples 1\n";

#[test]
fn the_calls_of_two_instances_come_in_the_order_of_the_abi() {
    let (probe, calls) = (c_plugin("probe"), Calls::new());
    let config = format!(
        "{ONE_RECORD}[OUTPUT]\n Name PROBE\n Match *\n Id one\n context null\n\
         [OUTPUT]\n Name probe\n Match a.*\n Id two\n"
    );
    let law = run(&config, &[&probe], &calls).law();
    assert_eq!((law.came_in, law.delivered), (1, 1), "{}", law.line);
    let mut lines = calls.lines();
    // Which of the two is called first is up to the queues.
    lines[6..8].sort();
    assert_eq!(
        lines,
        [
            "pre_register 0",
            "register",
            "init one name probe",
            "init two name probe",
            "pre_run 0",
            "pre_run 0",
            "flush one context (nil) tag a.b code 1",
            "flush two context 0x9 tag a.b code 1",
            "pre_exit 0",
            "exit one context (nil) flushes 1 at once 1 of library 1",
            "pre_exit 0",
            "exit two context 0x9 flushes 1 at once 1 of library 1",
            "unregister",
        ]
    );
    for line in calls.text().lines() {
        let thread = if line.starts_with("flush") { "on lane-" } else { "on plugin-host]" };
        assert!(line.contains(thread), "{line}");
    }
}

#[test]
fn a_plugin_sees_its_own_keys_in_any_case_and_none_of_the_engines() {
    let (probe, calls) = (c_plugin("probe"), Calls::new());
    let config = format!(
        "@SET where=there\n{ONE_RECORD}[OUTPUT]\n Name probe\n Match *\n Alias shown\n Log_Level debug\n \
         Retry_Limit 3\n Workers 1\n Host h\n Port 1\n IPv6 on\n net.keepalive off\n oauth2.x y\n tls off\n \
         tls.verify off\n storage.total_limit_size off\n go.event_format v2\n \
         listen 0.0.0.0\n tls.other 1\n licenseKey k 1 \n Empty ${{nothing_is_set}}\n where ${{where}}\n \
         twice first\n Twice second\n table 1\n id three\n context one\n \
         ask name,match,alias,log_level,retry_limit,workers,host,port,ipv6,net.keepalive,oauth2.x,tls,tls.verify,\
         storage.total_limit_size,go.event_format,LISTEN,tls.other,licensekey,license_key,Empty,where,TWICE,absent\n"
    );
    let ended = run(&config, &[&probe], &calls);
    assert_eq!(ended.law().delivered, 1);
    let hidden = [
        "name",
        "match",
        "alias",
        "log_level",
        "retry_limit",
        "workers",
        "host",
        "port",
        "ipv6",
        "net.keepalive",
        "oauth2.x",
        "tls",
        "tls.verify",
        "storage.total_limit_size",
        "go.event_format",
        "Empty",
        "absent",
    ];
    for key in hidden {
        assert!(calls.has(&format!("property {key} is not there")), "{key}: {}", calls.text());
    }
    let visible = [
        ("LISTEN", "0.0.0.0"),
        ("tls.other", "1"),
        ("licensekey", "k 1"),
        ("license_key", "k 1"),
        ("where", "there"),
        ("TWICE", "first"),
    ];
    for (key, value) in visible {
        assert!(calls.has(&format!("property {key} = {value}")), "{key}: {}", calls.text());
    }
    // Keys the plugin will never see are said where they stand, and again when it asks for them.
    for key in ["Host", "Port", "tls.verify", "net.keepalive"] {
        assert!(
            ended.log.contains(&format!("plugin `probe` will never see `{key}`")),
            "{}",
            ended.log
        );
    }
    assert!(
        ended.log.contains("[output:probe:shown] the plugin asks for `host`, which is set here")
    );
    // The instance's own level decides what the plugin may log, whatever the level of the process.
    assert!(calls.has("table checks 11110 null 00"), "{}", calls.text());
    assert!(calls.has("table lookups three three"));
    assert!(calls.has("table metrics same"));
    for level in [
        "[error] [plugin] probe says level 1",
        "[ warn] [plugin] probe says level 2 of five",
        "[debug] [plugin] probe says level 4",
    ] {
        assert!(ended.log.contains(level), "{level}: {}", ended.log);
    }
    assert!(!ended.log.contains("says level 5"));
    assert!(calls.has("flush three context 0x1 tag a.b code 1"), "{}", calls.text());
}

#[test]
fn yaml_loads_plugins_and_keys_are_found_as_written_and_in_snake_case() {
    let (probe, calls) = (c_plugin("probe"), Calls::new());
    let config = format!(
        "service:\n  flush: 0.05\nplugins:\n  - {}\npipeline:\n  inputs:\n    - name: dummy\n      samples: 1\n  \
         outputs:\n    - name: probe\n      match: '*'\n      id: y\n      licenseKey: k\n      apiURL: u\n      \
         values: [a, b]\n      Kept_Key: 1\n      logLevel: info\n      context: high\n      \
         ask: licenseKey,license_key,apiURL,api_u_r_l,values,kept_key,log_level\n",
        probe.display()
    );
    assert_eq!(run(&config, &[], &calls).law().delivered, 1);
    for line in [
        "property licenseKey = k",
        "property license_key = k",
        "property apiURL = u",
        "property api_u_r_l = u",
        "property values = a",
        "property kept_key = 1",
        "property log_level is not there",
        "flush y context 0xffffffffffffffff tag dummy.0 code 1",
    ] {
        assert!(calls.has(line), "{line}: {}", calls.text());
    }
}

#[test]
fn two_libraries_come_from_a_plugins_file_and_one_has_a_built_ins_name() {
    let (probe, calls, files) = (c_plugin("probe"), Calls::new(), folder());
    let null = c_variant("probe", "null", &["-DPROBE_NAME=\"null\"", "-DPROBE_EVENTS=1"]);
    let same = c_variant("probe", "same", &["-DPROBE_NAME=\"Probe\""]);
    let list = files.path().join("plugins.conf");
    let text = format!(
        "[PLUGINS]\n Path {}\n Path {}\n Path {}\n",
        probe.display(),
        null.display(),
        same.display()
    );
    fs::write(&list, text).unwrap();
    let config = ONE_RECORD
        .replace("[SERVICE]\n", &format!("[SERVICE]\n Plugins_File {}\n", list.display()));
    let config = format!(
        "{config}[OUTPUT]\n Name probe\n Match *\n Id first\n[OUTPUT]\n Name null\n Match *\n Id second\n"
    );
    // A library that was named twice is loaded once.
    let ended = run(&config, &[&probe], &calls);
    assert_eq!(ended.law().delivered, 1);
    assert!(
        ended
            .log
            .contains("`null` names a loaded plugin and a built-in output: the loaded one is used")
    );
    let both = format!("`{}` and `{}` both register as `probe`", probe.display(), same.display());
    assert!(ended.log.contains(&both), "{}", ended.log);
    let text = calls.text();
    for part in
        ["init first name probe [probe on", "init second name null [null on", "flush second"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let ends: Vec<&str> = text.lines().filter(|line| line.starts_with("unregister")).collect();
    assert_eq!(ends.len(), 3, "a library is ended even when no output uses it: {text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("register [probe")).count(), 1);
}

#[test]
fn the_example_runs_with_any_plugin_of_its_name() {
    let plugin = c_variant("probe", "gstdout", &["-DPROBE_NAME=\"gstdout\""]);
    let (calls, files) = (Calls::new(), folder());
    fs::copy(&plugin, files.path().join("out_gstdout.so")).unwrap();
    let example = support::tests_path("../config/examples/go-output.conf");
    let mut run = Dataplane::new()
        .args(["-c".as_ref(), example.as_os_str()])
        .current_dir(files.path())
        .env("PROBE_CALLS", &calls.path)
        .started();
    run.wait_until("a flush", || calls.text().contains("tag demo.a code 1"));
    let ended = run.stop();
    assert!(ended.law().delivered > 0);
    assert!(!ended.log.contains("[ warn] [config]"), "{}", ended.log);
}

#[test]
fn answers_of_a_flush_mean_what_they_mean_in_fluent_bit() {
    let (probe, calls, files) = (c_plugin("probe"), Calls::new(), folder());
    let dump = files.path().join("dump");
    let answers = [("again", "2,1"), ("never", "2"), ("error", "0"), ("odd", "7"), ("minus", "-1")];
    let mut config =
        ONE_RECORD.replace("[SERVICE]\n", "[SERVICE]\n scheduler.base 1\n scheduler.cap 1\n");
    for (id, answers) in answers {
        config += &format!(
            "[OUTPUT]\n Name probe\n Match *\n Id {id}\n Alias {id}\n Answers {answers}\n"
        );
        if id == "never" {
            config += " Retry_Limit no_retries\n";
        }
        config += &format!(" Dump {}\n", dump.display());
    }
    let run = with_plugins(&config, &[&probe], &calls).started();
    run.wait_for_log("succeeded at retry 1");
    let ended = run.stop();
    let law = ended.law();
    assert_eq!(
        (law.came_in, law.delivered, law.dropped),
        (1, 0, 1),
        "one output lost it: {}",
        law.line
    );
    let flushes = |id: &str| {
        calls.lines().iter().filter(|line| line.starts_with(&format!("flush {id} "))).count()
    };
    assert_eq!(answers.map(|(id, _)| flushes(id)), [2, 1, 1, 1, 1], "{}", calls.text());
    for part in [
        "retry in 2 seconds: task_id=0, input=dummy.0 > output=again",
        "> output=never",
        "[output:probe:odd] the plugin returned 7, which is none of 0 (error), 1 (ok), 2 (retry): taken as an error",
        "[output:probe:minus] the plugin returned -1",
    ] {
        assert!(ended.log.contains(part), "{part}: {}", ended.log);
    }
    let delivered = support::events::values(&fs::read(&dump).unwrap());
    assert_eq!(delivered.len(), 1);
}

#[test]
fn events_come_with_metadata_unless_the_older_form_is_asked_for() {
    let (probe, calls, files) = (c_plugin("probe"), Calls::new(), folder());
    let record = " Metadata {\"m\":1}\n Start_Time_Sec 5\n Start_Time_Nsec 6\n";
    let mut config = format!("{ONE_RECORD}{record}");
    for format in ["auto", "v1", "v2"] {
        let dump = files.path().join(format);
        let dump = dump.display();
        config +=
            &format!("[OUTPUT]\n Name probe\n Match *\n go.event_format {format}\n Dump {dump}\n");
    }
    assert_eq!(run(&config, &[&probe], &calls).law().delivered, 1);
    let event = |format: &str| {
        let mut events = support::events::values(&fs::read(files.path().join(format)).unwrap());
        assert_eq!(events.len(), 1);
        events.remove(0)
    };
    let body = Value::Map(vec![("message".into(), "dummy".into())]);
    let time = Value::Ext(0, vec![0, 0, 0, 5, 0, 0, 0, 6]);
    let metadata = Value::Map(vec![("m".into(), 1.into())]);
    let with_metadata =
        Value::Array(vec![Value::Array(vec![time.clone(), metadata]), body.clone()]);
    assert_eq!(event("auto"), with_metadata);
    assert_eq!(event("v2"), with_metadata);
    assert_eq!(event("v1"), Value::Array(vec![time, body]));
}

#[test]
fn an_init_that_refuses_ends_the_start_and_the_instances_before_it() {
    let probe = c_plugin("probe");
    for init in ["0", "-1", "unregister"] {
        let calls = Calls::new();
        let config = format!(
            "{ONE_RECORD}[OUTPUT]\n Name probe\n Match *\n Id one\n[OUTPUT]\n Name probe\n Match *\n Id two\n \
             init {init}\n[OUTPUT]\n Name probe\n Match *\n Id three\n"
        );
        let ended = with_plugins(&config, &[&probe], &calls).end();
        assert_eq!(ended.code(), 255, "{}", ended.log);
        let said =
            format!("plugin `probe` of `{}` failed to initialize `probe.1`", probe.display());
        assert!(ended.log.contains(&said), "{}", ended.log);
        let mut expected =
            vec!["pre_register 0", "register", "init one name probe", "init two name probe"];
        if init == "unregister" {
            expected.push("unregister");
        }
        expected.extend([
            "pre_exit 0",
            "exit one context 0x9 flushes 0 at once 0 of library 0",
            "unregister",
        ]);
        assert_eq!(calls.lines(), expected);
    }
}

#[test]
fn an_init_or_an_exit_that_hangs_does_not_hold_the_process() {
    let (probe, calls) = (c_plugin("probe"), Calls::new());
    let config = format!("{ONE_RECORD}[OUTPUT]\n Name probe\n Match *\n init hang\n");
    let run = with_plugins(&config, &[&probe], &calls).start();
    support::wait_until("init", || calls.has("init hangs"));
    run.signal("TERM");
    run.signal("INT");
    let ended = run.wait();
    assert_eq!(ended.code(), 1, "{}", ended.log);
    assert!(ended.log.contains("stopped by a second signal"), "{}", ended.log);

    let calls = Calls::new();
    let config = format!("{ONE_RECORD}[OUTPUT]\n Name probe\n Match *\n exit hang\n");
    let run = with_plugins(&config, &[&probe], &calls).started();
    support::wait_until("a flush", || calls.text().contains("\nflush "));
    let ended = run.stop();
    assert_eq!(ended.law().delivered, 1);
    assert!(ended.log.contains("a plugin did not return from its exit"), "{}", ended.log);
}

#[test]
fn exports_may_be_missing() {
    let bare = c_variant("probe", "bare", &["-DWITHOUT_CTX", "-DWITHOUT_EXIT"]);
    let plain = c_variant("probe", "plain", &["-DWITHOUT_CTX"]);
    for (plugin, exits) in [(&bare, false), (&plain, true)] {
        let calls = Calls::new();
        let config = format!("{ONE_RECORD}[OUTPUT]\n Name probe\n Match *\n Id x\n");
        assert_eq!(run(&config, &[plugin], &calls).law().delivered, 1);
        assert!(calls.has("flush without context"), "{}", calls.text());
        assert_eq!(calls.has("exit without context"), exits, "{}", calls.text());
        assert!(calls.has("unregister"));
    }
}

#[test]
fn a_plugin_without_logs_gets_none_and_a_dry_run_initialises_nothing() {
    let metrics = c_variant("probe", "metrics", &["-DPROBE_EVENTS=2"]);
    let calls = Calls::new();
    let config =
        format!("{ONE_RECORD}[OUTPUT]\n Name probe\n Match *\n[OUTPUT]\n Name null\n Match *\n");
    let run = with_plugins(&config, &[&metrics], &calls).started();
    let ended = run.stop();
    assert!(ended.log.contains("plugin `probe` takes no logs"), "{}", ended.log);
    assert!(!calls.text().contains("\nflush"), "{}", calls.text());

    let (probe, calls) = (c_plugin("probe"), Calls::new());
    let ended = with_plugins(&config, &[&probe], &calls).args(["--dry-run"]).end();
    assert_eq!(ended.code(), 0, "{}", ended.log);
    assert_eq!(calls.lines(), ["pre_register 0", "register"]);
}

/// The end of a start with a library that cannot be used: status 1, one error, and nothing else happened.
fn refusal(path: &Path, environment: Option<&str>) -> String {
    let config = format!("{ONE_RECORD}[OUTPUT]\n Name probe\n Match *\n");
    let mut start = Dataplane::with_config(&config).args(["-e".as_ref(), path.as_os_str()]);
    if let Some(name) = environment {
        start = start.env(name, "1");
    }
    let ended = start.end();
    assert_eq!(ended.code(), 1, "{}", ended.log);
    assert!(ended.log.contains(&path.display().to_string()), "the file is named: {}", ended.log);
    ended.log.lines().find(|line| line.starts_with("error: ")).unwrap_or_default().to_owned()
}

#[test]
fn what_is_no_plugin_is_refused_by_name_and_with_a_remedy() {
    let files = folder();
    let file = |name: &str, bytes: &[u8]| {
        let path = files.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let whole = fs::read(c_plugin("probe")).unwrap();
    let mut other_machine = whole.clone();
    other_machine[18..20].copy_from_slice(&243_u16.to_le_bytes());
    let mut an_object = whole.clone();
    an_object[16] = 1;
    // Cut inside the segments, with the section headers gone, as after an upload that broke off.
    let mut cut = whole[..whole.len() / 4].to_vec();
    cut[40..48].fill(0);
    cut[60..64].fill(0);
    let calyptia = [
        &whole[..],
        b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6",
        b"path\tx\ndep\tgithub.com/calyptia/plugin\tv1.4.3\n",
        b"\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2",
    ]
    .concat();
    let remedy = "build it with fluent-bit-go as `go build -buildmode=c-shared";
    let no_elf = "is no plugin: not an ELF shared object, or cut short";
    let table = [
        (file("text.so", b"#!/bin/sh\n"), no_elf, remedy),
        (file("empty.so", b""), no_elf, remedy),
        (file("object.so", &an_object), no_elf, remedy),
        (file("cut.so", &cut), no_elf, remedy),
        (file("half.so", &whole[..whole.len() / 2]), no_elf, remedy),
        (file("riscv.so", &other_machine), "is built for Riscv64", "build it for this machine"),
        (
            file("calyptia.so", &calyptia),
            "is built with calyptia/plugin",
            "github.com/fluent/fluent-bit-go",
        ),
        (files.path().join("absent.so"), "cannot read plugin", "No such file"),
        (files.path().to_owned(), "cannot read plugin", "Is a directory"),
        (musl_plugin(), "is built for musl", "build it on a glibc system"),
    ];
    for (path, what, remedy) in table {
        let error = refusal(&path, None);
        assert!(error.contains(what) && error.contains(remedy), "{}: {error}", path.display());
    }
}

#[test]
fn what_a_plugin_lacks_or_refuses_is_said_by_symbol() {
    let variant = |name: &str, flags: &[&str]| c_variant("probe", name, flags);
    let remedy = "with its exports in package main";
    let probe = c_plugin("probe");
    let table = [
        (
            variant("no-register", &["-DWITHOUT_REGISTER"]),
            None,
            "does not export `FLBPluginRegister`",
            remedy,
        ),
        (variant("no-init", &["-DWITHOUT_INIT"]), None, "does not export `FLBPluginInit`", remedy),
        (
            variant("no-flush", &["-DWITHOUT_CTX", "-DWITHOUT_PLAIN"]),
            None,
            "exports neither `FLBPluginFlushCtx` nor `FLBPluginFlush`",
            remedy,
        ),
        (
            variant("undefined", &["-DUNDEFINED_SYMBOL"]),
            None,
            "undefined symbol: a_symbol_that_nothing_has",
            "link the library that has this symbol",
        ),
        (
            variant("native", &["-DWITHOUT_REGISTER", "-DFLBPluginOutputPreRun=out_x_plugin"]),
            None,
            "does not export `FLBPluginRegister` but `out_x_plugin`",
            "only Fluent Bit can load it",
        ),
        (variant("input", &["-DPROBE_TYPE=1"]), None, "is an input plugin", "only output plugins"),
        (variant("custom", &["-DPROBE_TYPE=3"]), None, "is a custom plugin", "only output plugins"),
        (
            variant("strange", &["-DPROBE_TYPE=9"]),
            None,
            "registered as type 9",
            "outputs are type 2",
        ),
        (variant("nameless", &["-DPROBE_NAME=\"\""]), None, "registered without a name", ""),
        (
            probe.clone(),
            Some("PROBE_REFUSE_PRE_REGISTER"),
            "refused `FLBPluginPreRegister`",
            "its log says why",
        ),
        (probe, Some("PROBE_REFUSE_REGISTER"), "refused `FLBPluginRegister`", "its log says why"),
    ];
    for (path, environment, what, remedy) in table {
        let error = refusal(&path, environment);
        assert!(error.contains(what) && error.contains(remedy), "{}: {error}", path.display());
    }
}

/// A shared object that is linked with a library of musl's name.
fn musl_plugin() -> PathBuf {
    let folder = build_folder("musl");
    let (libc, plugin) = (folder.join("libc.musl-x86_64.so.1"), folder.join("musl.so"));
    let source = folder.join("empty.c");
    fs::write(&source, "int in_libc(void) { return 0; }\n").expect("the build folder is writable");
    let compile = |arguments: &[&std::ffi::OsStr]| {
        let status = Command::new("cc").arg("-shared").arg("-fPIC").args(arguments).status();
        assert!(status.is_ok_and(|status| status.success()), "{arguments:?}");
    };
    let soname = "-Wl,-soname,libc.musl-x86_64.so.1".as_ref();
    compile(&["-o".as_ref(), libc.as_os_str(), soname, source.as_os_str()]);
    let keep = "-Wl,--no-as-needed".as_ref();
    compile(&["-o".as_ref(), plugin.as_os_str(), keep, source.as_os_str(), libc.as_os_str()]);
    plugin
}
