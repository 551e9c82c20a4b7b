//! The example programs, run as a user runs them: their output, exit codes and bad input.
//!
//! Owns: what all of them have in common. Must not know: how an example computes. Invariant: a program that hangs fails the test instead of blocking it.

use support::programs::example;

#[test]
fn devices_lists_the_cpu_and_speaks_json() {
    let text = example("devices").run().success().stdout;
    assert!(text.starts_with("0  cpu"), "{text}");
    let json = example("devices").args("--json --allow-software").run().success().json();
    assert!(json["devices"][0]["threads"].as_u64().is_some_and(|n| n >= 1), "{json}");
    if std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1") {
        assert!(json["devices"].as_array().is_some_and(|all| all.iter().any(|d| d["kind"] == "gpu")), "{json}");
    }
    assert_eq!(example("devices").args("--quiet").run().success().stdout, "");
}

/// What a driver says of its GPU: as JSON all of it, for people what decides what can be done with it. Of the CPU no driver says anything.
#[test]
fn devices_tells_what_a_gpu_could_do() {
    let json = example("devices").args("--json --allow-software").run().success().json();
    let all = json["devices"].as_array().expect("a list");
    assert!(all.iter().all(|d| d["adapter"].is_null() == (d["kind"] != "gpu")), "{json}");
    let Some(gpu) = all.iter().find(|d| d["kind"] == "gpu") else { return };
    let adapter = &gpu["adapter"];
    assert!(gpu["model"].as_str().is_some_and(|model| model.starts_with(adapter["name"].as_str().expect("a name"))), "{gpu}");
    assert_eq!(adapter["f64"], gpu["gpu"]["f64"], "{gpu}");
    let sizes = &adapter["subgroup_sizes"];
    assert!(sizes.is_null() || sizes[0].as_u64() >= Some(1) && sizes[1].as_u64() >= sizes[0].as_u64(), "{gpu}");
    assert!(
        adapter["timestamps"].is_boolean()
            && adapter["cooperative_matrices"].is_array()
            && adapter["shares_memory"].is_boolean(),
        "{gpu}"
    );
    assert!(adapter["limits"]["binding_bytes"].as_u64() >= gpu["gpu"]["binding_bytes"].as_u64(), "{gpu}");
    let text = example("devices").args("--allow-software").run().success().stdout;
    for words in [["subgroups", "f16"], ["cooperative matrices", "time"], [adapter["kind"].as_str().expect("a kind"), "up "]] {
        assert!(words.iter().all(|word| text.contains(word)), "no {words:?} in {text}");
    }
    // A GPU that is used was calibrated: what came of that is told, too.
    let tuning = &gpu["tuned"]["tuning"];
    assert!(tuning["variants"]["gemm"].as_array().is_some_and(|of| of.len() == 2), "{gpu}");
    assert!(tuning["units_per_ns"][0].as_f64().is_some_and(|rate| rate > 0.0), "{gpu}");
    assert!(text.contains("variants: ") && text.contains("(op + byte)/s"), "{text}");
}

/// All programs say the same of a GPU that somebody insists on and that has nothing to do.
#[test]
fn a_gpu_without_a_part_in_the_work_is_said_in_all_programs() {
    let gpu = || example("devices").args("--json --allow-software").run().success().json();
    if !gpu()["devices"].as_array().is_some_and(|all| all.iter().any(|d| d["kind"] == "gpu")) {
        return;
    }
    let file = support::programs::data("chunked.h5:/edge");
    for (program, flags) in [("overhead", "--tasks 50"), ("blocked_mean", file.as_str())] {
        let run = example(program).args(flags).args("--device gpu --allow-software --explain").run().success();
        let told = run.stdout.matches("nothing of this work can run on a GPU, so the CPU does all of it").count();
        assert_eq!(told, 2, "in explanation and summary: {run:#?}");
    }
}

#[test]
fn wrong_flags_are_usage_errors_and_help_is_help() {
    for flags in ["--nonsense", "--chunk 0", "--device tpu", "--memory-limit none"] {
        let output = example("devices").args(flags).run();
        assert!(output.code == 2 && output.stderr.starts_with("error: "), "{output:#?}");
    }
    let help = example("devices").args("--help").run().success().stdout;
    for word in ["--memory-limit <SIZE>", "Examples", "cargo run --release --example", "[default: auto]"] {
        assert!(help.contains(word), "no `{word}` in\n{help}");
    }
}

#[test]
fn the_readme_names_exactly_the_common_flags() {
    let help = example("overhead").args("--help").run().success().stdout;
    let common = help.split("Common options:").nth(1).expect("heading").split("Examples").next().expect("examples follow");
    let flag = |line: &str| {
        let start = line.find("--").filter(|&at| line[..at].chars().all(|c| " -q,|`".contains(c)))?;
        Some(line[start..].split([' ', '`']).next().expect("first word").to_owned())
    };
    let told: Vec<String> = common.lines().filter_map(flag).collect();
    let readme = include_str!("../README.md");
    let written: Vec<String> = readme.lines().filter(|line| line.starts_with("| `--")).filter_map(flag).collect();
    assert_eq!(told, written);
    assert!(told.len() >= 10, "{told:?}");
}

/// `cargo test --test examples` builds this file alone: the programs that it runs must not be those of an earlier day.
#[test]
fn programs_are_built_anew_when_a_source_is_newer() {
    use std::time::{Duration, SystemTime};
    let folder = support::programs::Folder::new("fresh programs");
    let [program, list, source] = ["x", "x.d", "a source.rs"].map(|name| folder.file(name));
    let fresh = || support::built::is_fresh(&program);
    let touch = |path: &std::path::Path, age: u64| {
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).expect("opens");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("sets the time");
    };
    assert!(!fresh(), "it is not there");
    touch(&program, 50);
    assert!(!fresh(), "nobody knows its sources");
    let list_of = |path: &std::path::Path| {
        let written = |path: &std::path::Path| path.display().to_string().replace(' ', "\\ ");
        std::fs::write(&list, format!("{}: {}\n", written(path), written(&source))).expect("writes");
    };
    list_of(&program);
    assert!(!fresh(), "a source is gone");
    touch(&source, 90);
    assert!(fresh());
    touch(&source, 10);
    assert!(!fresh(), "a source is newer");
    touch(&source, 90);
    list_of(&source);
    assert!(!fresh(), "the folder was copied from elsewhere");
}
