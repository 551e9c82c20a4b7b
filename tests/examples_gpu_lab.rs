//! The example `gpu_lab`, run as a user runs it: on software Vulkan, little of everything.
//!
//! Owns: its lines, exit codes and bad input; examples/gpu_lab/tests.rs has its checks. Must not know: how fast anything is. Invariant: a line is one JSON
//! object, `ok` or not.
#![cfg(feature = "gpu")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::programs::{Output, example};

/// Little of these parts; `None` if there is no adapter, which it then says.
fn lab(flags: &str) -> Option<Output> {
    let output = example("gpu_lab").args("--software --level 0").args(flags).run();
    if output.code == 2 && output.stderr.contains("no GPU") {
        support::gpu::skipped(&output);
        return None;
    }
    Some(output)
}

fn lines(output: &Output) -> Vec<Value> {
    let one = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON ({e}): {line}"));
    let all: Vec<Value> = output.stdout.lines().map(one).collect();
    assert!(!all.is_empty(), "{output:#?}");
    all
}

/// What lines are of, each once.
fn kinds(lines: &[Value], key: &str) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line[key].as_str()).map(str::to_owned).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn everything_is_measured_and_right() {
    let Some(output) = lab("--only gpu,launch,links,kernels,variants") else { return };
    let lines = lines(&output.success());
    for line in &lines {
        assert_eq!(line["ok"], true, "{line}");
        for (key, value) in line.as_object().expect("an object") {
            let is_time = key.ends_with("_ns");
            assert!(!is_time || value.as_u64().is_some(), "{key} of {line}");
            assert!(!is_time && !key.ends_with("_gbs") || value.as_f64() >= Some(0.0), "{key} of {line}");
        }
    }
    assert_eq!(kinds(&lines, "what"), set(&["gpu", "launch", "link", "chunks", "kernel"]));
    let routines = ["gemm", "syrk", "trsm", "potrf", "gemv", "sum", "read", "mandelbrot", "peak"];
    assert_eq!(kinds(&lines, "kernel"), set(&routines));
    let has_f64 = lines[0]["f64"] == true;
    assert_eq!(kinds(&lines, "dtype"), set(if has_f64 { &["f32", "f64"] } else { &["f32"] }));
    let variants = |products: bool| -> BTreeSet<u64> {
        let is_product = |line: &&Value| ["gemm", "syrk"].contains(&line["kernel"].as_str().unwrap_or_default());
        lines.iter().filter(|line| is_product(line) == products).filter_map(|line| line["variant"].as_u64()).collect()
    };
    assert_eq!((variants(true), variants(false)), (BTreeSet::from([0, 1, 2]), BTreeSet::from([0])));
    // Contiguous and windows, side by side, of more than one size.
    let sizes = |what: &str, windows: bool| {
        let of = |line: &&Value| line["what"] == what && line["windows"] == windows;
        lines.iter().filter(of).filter_map(|line| line["bytes"].as_u64()).collect::<BTreeSet<_>>().len()
    };
    assert_eq!([sizes("link", false), sizes("link", true), sizes("chunks", false)], [2, 2, 2]);
}

#[test]
fn only_what_is_wanted_is_measured() {
    let Some(output) = lab("--only kernels --kernel gemv") else { return };
    let all = lines(&output.success());
    assert_eq!((kinds(&all, "what"), kinds(&all, "kernel")), (set(&["kernel"]), set(&["gemv"])));
    // Each variant beside what the library chooses, without the other kernels.
    let all = lines(&lab("--only variants --kernel gemm").expect("there is one").success());
    let variants: BTreeSet<_> = all.iter().filter_map(|line| line["variant"].as_u64()).collect();
    assert_eq!((kinds(&all, "kernel"), variants), (set(&["gemm"]), BTreeSet::from([0, 1, 2])));
    let all = lines(&lab("--only gpu").expect("there is one").success());
    assert_eq!((all.len(), all[0]["what"].as_str()), (1, Some("gpu")));
}

#[test]
fn of_a_wrong_result_no_speed_is_told() {
    let Some(output) = lab("--only launch,links,kernels --break wrong") else { return };
    assert!(output.code == 1 && output.stderr.contains("error: "), "{output:#?}");
    let all = lines(&output);
    assert!(all.len() > 20, "{all:#?}");
    for line in &all {
        assert_eq!((line["what"].as_str(), &line["ok"]), (Some("wrong"), &false.into()), "{line}");
        let told: Vec<_> =
            line.as_object().expect("an object").keys().filter(|key| key.ends_with("_ns") || key.ends_with("_gbs")).collect();
        assert!(told.is_empty(), "{line}");
        assert!(output.stderr.contains(&format!("wrong: {}", line["of"].as_str().expect("a name"))), "{line}");
    }
}

/// A launch that is never reported ends the program when its time is over, and nothing is tried after it.
#[test]
fn a_silent_gpu_ends_the_program_in_time() {
    drop(example("gpu_lab")); // it is built by now
    let began = Instant::now();
    let Some(output) = lab("--only gpu,launch,links,kernels --break stall --limit 3") else { return };
    assert_eq!(output.code, 3, "{output:#?}");
    assert!(began.elapsed() >= Duration::from_secs(3), "it cannot know before: {output:#?}");
    let all = lines(&output);
    let told: Vec<_> = all.iter().map(|line| line["what"].as_str().unwrap_or_default()).collect();
    assert_eq!(told, ["gpu", "over"], "{output:#?}");
    assert!(output.stderr.contains("over: launch: ") && output.stderr.contains("error: launch: "), "{output:#?}");
    assert!(began.elapsed() < Duration::from_secs(3 + 20), "{:?}", began.elapsed());
}

#[test]
fn wrong_flags_and_no_gpu_are_told() {
    for flags in [
        "--nonsense",
        "--only nonsense",
        "--kernel nonsense",
        "--level 3",
        "--limit 0",
        "--limit x",
        "--break nothing",
        "extra",
    ] {
        let output = example("gpu_lab").args(flags).run();
        assert!(output.code == 2 && output.stderr.starts_with("error: ") && output.stdout.is_empty(), "{output:#?}");
    }
    let blind = || example("gpu_lab").env("VK_DRIVER_FILES", "/nonexistent").env("WGPU_BACKEND", "vulkan");
    for flags in ["", "--software", "--only gpu"] {
        let output = blind().args(flags).run();
        assert!(output.code == 2 && output.stderr.starts_with("error: no GPU: ") && output.stdout.is_empty(), "{output:#?}");
    }
    // A software adapter is none unless it is asked for.
    let unasked = example("gpu_lab").args("--only gpu").run();
    if unasked.code != 0 {
        assert!(unasked.code == 2 && unasked.stderr.contains("no GPU: "), "{unasked:#?}");
        let any = lab("--only gpu").is_some();
        assert_eq!(unasked.stderr.contains("--software"), any, "{unasked:#?}");
    }
    let help = example("gpu_lab").args("--help").run().success().stdout;
    for word in ["--only <PARTS>", "[default: gpu,launch,links,kernels]", "--break <WHAT>", "3 time was over"] {
        assert!(help.contains(word), "no `{word}` in\n{help}");
    }
}
