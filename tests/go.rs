//! Real Go plugins, built against every generation of the SDK that the module proxy offers: contexts, properties,
//! times, answers, signals, and 2,000,000 lines that the plugin itself checks.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::plugins::{Sdk, go_plugin};
use support::{Dataplane, Run, folder};

/// What an instance of the plugin saw, as it wrote it down in its exit.
fn verdict(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|_| panic!("{} was not written", path.display()));
    serde_json::from_str(&text).expect("the plugin writes JSON")
}

fn names(value: &Value) -> Vec<&str> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item.as_str().unwrap_or_default()).collect()
}

fn start(config: &str, plugins: &[&PathBuf]) -> Run {
    let dataplane = Dataplane::with_config(config);
    let load = |dataplane: Dataplane, plugin: &&PathBuf| {
        dataplane.args(["-e".as_ref(), plugin.as_os_str()])
    };
    plugins.iter().fold(dataplane, load).started()
}

/// An output section of the plugin of an SDK.
fn output(sdk: Sdk, tags: &str, id: &str, verdict: &Path, more: &str) -> String {
    let name = sdk.plugin_name();
    format!(
        "[OUTPUT]\n Name {name}\n Match {tags}\n Id {id}\n Verdict {}\n{more}",
        verdict.display()
    )
}

fn wait_for_done(run: &mut Run, verdict: &Path) {
    let done = verdict.with_extension("done");
    run.wait_until(&format!("{} appears", done.display()), || done.exists());
}

#[test]
fn every_sdk_gets_its_contexts_its_properties_and_right_times() {
    let mut built = Vec::new();
    for sdk in Sdk::ALL {
        let Some(plugin) = go_plugin("probe", sdk) else { return };
        built.push((sdk, plugin));
    }
    // Each alone, and all of them, six instances, in one process.
    let sets = [&built[..1], &built[1..2], &built[2..], &built[..]];
    let runs: Vec<_> = sets.map(|set| (set, folder())).into_iter().map(|(set, files)| {
        let mut config = "[SERVICE]\n Flush 0.05\n".to_owned();
        for (tag, second) in [("a", 1_700_000_000), ("b", 4_000_000_000_u32)] {
            config += &format!(
                "[INPUT]\n Name dummy\n Tag {tag}.x\n Samples 3\n Rate 100\n Fixed_Timestamp on\n \
                 Start_Time_Sec {second}\n Start_Time_Nsec 123456789\n Metadata {{\"m\":1}}\n \
                 Dummy {{\"message\":\"of {tag}\"}}\n"
            );
        }
        for (sdk, _) in set {
            for tag in ["a", "b"] {
                let verdict = files.path().join(format!("{sdk:?}-{tag}.json"));
                config += &output(*sdk, &format!("{tag}.*"), tag, &verdict, " Expect 3\n");
            }
        }
        let plugins: Vec<&PathBuf> = set.iter().map(|(_, plugin)| plugin).collect();
        (set, files, start(&config, &plugins))
    }).collect();
    for (set, files, mut run) in runs {
        let verdicts: Vec<(PathBuf, &str, &str)> = set
            .iter()
            .flat_map(|(sdk, _)| {
                let path = |tag| files.path().join(format!("{sdk:?}-{tag}.json"));
                [
                    (path("a"), "a", "2023-11-14T22:13:20.123456789Z"),
                    (path("b"), "b", "2096-10-02T07:06:40.123456789Z"),
                ]
            })
            .collect();
        for (path, ..) in &verdicts {
            wait_for_done(&mut run, path);
        }
        assert_eq!(run.stop().law().delivered, 6);
        for (path, tag, time) in verdicts {
            let verdict = verdict(&path);
            assert_eq!(verdict["id"], tag, "{verdict}");
            assert_eq!(verdict["records"], 3, "{verdict}");
            assert_eq!(names(&verdict["times"]), [time; 3], "{}: {verdict}", path.display());
            assert_eq!(names(&verdict["bodies"]), [format!("of {tag}").as_str(); 3], "{verdict}");
            assert!(
                names(&verdict["tags"]).iter().all(|it| *it == format!("{tag}.x")),
                "{verdict}"
            );
            assert!(names(&verdict["faults"]).is_empty(), "{verdict}");
        }
    }
}

#[test]
fn a_go_plugin_answers_and_refuses() {
    let Some(plugin) = go_plugin("probe", Sdk::Of2023) else { return };
    let files = folder();
    let path = |id: &str| files.path().join(format!("{id}.json"));
    let mut config = "[SERVICE]\n Flush 0.05\n scheduler.base 1\n scheduler.cap 1\n\
                      [INPUT]\n Name dummy\n Samples 1\n"
        .to_owned();
    for (id, answers) in [("again", "2,1"), ("error", "0"), ("odd", "9")] {
        let more = format!(" Alias {id}\n Answers {answers}\n Expect 1\n");
        config += &output(Sdk::Of2023, "*", id, &path(id), &more);
    }
    let mut run = start(&config, &[&plugin]);
    wait_for_done(&mut run, &path("again"));
    let ended = run.stop();
    assert_eq!(ended.law().dropped, 1);
    for part in [
        "retry in 2 seconds",
        "output=again",
        "> output=error",
        "[output:go2023:odd] the plugin returned 9",
    ] {
        assert!(ended.log.contains(part), "{part}: {}", ended.log);
    }
    for (id, flushes, records) in [("again", 2, 1), ("error", 1, 0), ("odd", 1, 0)] {
        let verdict = verdict(&path(id));
        assert_eq!(
            (&verdict["flushes"], &verdict["records"]),
            (&flushes.into(), &records.into()),
            "{verdict}"
        );
    }

    let config = "[INPUT]\n Name dummy\n[OUTPUT]\n Name go2023\n Match *\n";
    let ended = Dataplane::with_config(config).args(["-e".as_ref(), plugin.as_os_str()]).end();
    assert_eq!(ended.code(), 255);
    assert!(ended.log.contains("failed to initialize `go2023.0`"), "{}", ended.log);
    assert!(ended.log.contains("goprobe: `verdict` is missing"), "{}", ended.log);
}

#[test]
fn a_go_plugin_blocked_in_a_flush_stops_nothing_else_and_not_the_end() {
    let Some(plugin) = go_plugin("probe", Sdk::Of2023) else { return };
    let files = folder();
    let (gate, path) = (files.path().join("gate"), files.path().join("x.json"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).unwrap();
    let gated = format!(" Gate {}\n Expect 100\n", gate.display());
    let config = |service: &str| {
        let input = "[INPUT]\n Name dummy\n Samples 100\n Rate 200\n";
        let stdout = "[OUTPUT]\n Name stdout\n Match *\n Format json_lines\n";
        let output = output(Sdk::Of2023, "*", "x", &path, &gated);
        format!("[SERVICE]\n Flush 0.05\n{service}{input}{output}{stdout}")
    };
    let mut run = start(&config(""), &[&plugin]);
    run.wait_for_stdout(|text| text.lines().count() == 100);
    // The plugin is inside, or its reader would not be there to open the gate for.
    let open = fs::File::options().write(true).open(&gate).unwrap();
    wait_for_done(&mut run, &path);
    drop(open);
    assert_eq!(run.stop().law().delivered, 100);
    assert_eq!(verdict(&path)["records"], 100);
    fs::remove_file(&path).unwrap();

    let run = start(&config(" Grace 1\n"), &[&plugin]);
    run.wait_for_stdout(|text| text.lines().count() == 100);
    let ended = run.stop();
    assert_eq!(ended.law().left, 100);
    assert!(ended.log.contains("1 flushes are still under way in plugins"), "{}", ended.log);
    assert!(!path.exists(), "its exit was called during a flush");
}

#[test]
fn a_plugin_that_listens_for_sigterm_never_keeps_it_from_us() {
    let Some(plugin) = go_plugin("probe", Sdk::Of2023) else { return };
    // Side by side, as each ends one second after its last flush.
    for _ in 0..2 {
        let mut runs: Vec<_> = (0..25)
            .map(|_| {
                let files = folder();
                let path = files.path().join("x.json");
                let more = " Notify on\n Expect 1\n";
                let config = format!(
                    "[SERVICE]\n Flush 0.05\n Shards 1\n[INPUT]\n Name dummy\n Samples 20\n Rate 100\n{}",
                    output(Sdk::Of2023, "*", "x", &path, more)
                );
                (path, files, start(&config, &[&plugin]))
            })
            .collect();
        for (path, _, run) in &mut runs {
            wait_for_done(run, path);
            run.signal("TERM");
        }
        for (path, _files, run) in runs {
            let law = run.wait().law();
            assert_eq!(law.came_in, law.delivered, "{}", law.line);
            let verdict = verdict(&path);
            assert_eq!(verdict["records"], law.delivered, "{verdict}");
            assert_eq!(verdict["signals"], 0, "the signal was the process's: {verdict}");
        }
    }
}

#[test]
fn two_million_lines_arrive_once_and_in_the_order_of_their_files() {
    const FILES: usize = 4;
    const LINES: usize = 500_000;
    let Some(plugin) = go_plugin("probe", Sdk::Of2023) else { return };
    let files = folder();
    for file in 0..FILES {
        let mut text = Vec::with_capacity(LINES * 10);
        for line in 0..LINES {
            writeln!(text, "f{file} {line}").unwrap();
        }
        fs::write(files.path().join(format!("{file}.log")), text).unwrap();
    }
    let path = files.path().join("x.json");
    let config = format!(
        "[SERVICE]\n Flush 0.2\n Shards 2\n[INPUT]\n Name tail\n Path {}/*.log\n Read_from_Head on\n{}",
        files.path().display(),
        output(Sdk::Of2023, "*", "x", &path, &format!(" Verify on\n Expect {}\n", FILES * LINES))
    );
    let mut run = start(&config, &[&plugin]);
    wait_for_done(&mut run, &path);
    assert_only_shards_are_pinned(run.pid());
    let law = run.stop().law();
    assert_eq!(law.delivered as usize, FILES * LINES, "{}", law.line);
    let verdict = verdict(&path);
    assert!(names(&verdict["faults"]).is_empty(), "{verdict}");
    assert_eq!(verdict["records"], FILES * LINES);
    for file in 0..FILES {
        assert_eq!(verdict["files"][format!("f{file}")], LINES, "{verdict}");
    }
}

/// A thread that Go starts inherits the cores of the thread it starts from, which may be in a flush.
fn assert_only_shards_are_pinned(pid: u32) {
    let allowed = |status: &Path| {
        let text = fs::read_to_string(status).unwrap_or_default();
        text.lines().find(|line| line.starts_with("Cpus_allowed:")).map(str::to_owned)
    };
    let process = allowed(Path::new(&format!("/proc/{pid}/status")));
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let mut count = 0;
    for task in tasks.filter_map(Result::ok).map(|task| task.path()) {
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        if !name.starts_with("shard-") {
            assert_eq!(allowed(&task.join("status")), process, "{name}");
            count += 1;
        }
    }
    assert!(count > 5, "{count} threads");
}
