//! The example `compare`, run as a user runs it: output, files, bad input, interrupts.
//!
//! Invariant: structure is asserted, never a time.

use std::time::Duration;

use serde_json::Value;

use support::programs::{Folder, Output, example};

fn report(folder: &Folder, out: &str) -> Value {
    let text = std::fs::read(folder.file(out).join("compare.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "no `{part}` in\n{text}"));
}

#[test]
fn a_small_run_gives_table_sentences_report_page_and_pictures() {
    let folder = Folder::new("compare-small");
    let args = "--quick --sizes 40,90 --budget 4 --repeats 7 --threads 2 --out r";
    let text = example("compare").with_history(folder.path()).args(args).run().success().stdout;
    assert!(!text.contains('\x1b'), "no escape codes where there is no terminal");
    has(&text, &["workload ", "1 thread", "2 threads", "bound", "mandelbrot ", "matvec ", "blocked_mean_file", "90²"]);
    let conclusions: Vec<&str> = text.lines().skip_while(|l| *l != "On this machine:").skip(1).collect();
    let of = |name: &str| conclusions.iter().filter(|c| c.starts_with(name) && c.chars().count() <= 80).count();
    assert!(
        ["mandelbrot f", "matvec f", "blocked_mean f", "blocked_mean_file f", "cholesky f", "expression f", "reduce f"]
            .iter()
            .all(|w| of(w) == 4),
        "{text}"
    );
    has(&text, &["  bound: the least time that the measured peaks allow"]);
    let sentences = text.lines().filter(|l| {
        ![
            "mandelbrot  ",
            "matvec  ",
            "blocked_mean  ",
            "blocked_mean_file  ",
            "cholesky  ",
            "expression  ",
            "reduce  ",
            "workload ",
        ]
        .iter()
        .any(|w| l.starts_with(w))
    });
    sentences.for_each(|line| assert!(line.chars().count() <= 80, "{line}"));
    has(&text, &["wrote r/compare.png", "wrote r/compare.md"]);
    let files = files_of_a_small_run(&folder);
    let page = std::fs::read_to_string(folder.file("r").join("compare.md")).unwrap();
    has(&page, &["# Chunkwise", "## Times", "| matvec | f32 |", "## Machine", "## Method", "First touch?", "Dead code?"]);
    has(&page, &["](compare.png)", "](cholesky.png)"]);
    let json = report(&folder, "r");
    assert_eq!((&json["schema"], &json["interrupted"]), (&"chunkwise-compare/3".into(), &false.into()));
    assert_eq!(json["wrote"].as_array().unwrap().len(), files);
    let rows = json["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 28);
    rows.iter().for_each(row_of_a_small_run);
}

/// Checks the pictures, and that there are no other files; returns how many.
fn files_of_a_small_run(folder: &Folder) -> usize {
    let files = std::fs::read_dir(folder.file("r")).unwrap().flatten();
    let mut names: Vec<String> = files.map(|f| f.file_name().into_string().unwrap()).collect();
    names.sort();
    let mut wanted = vec!["compare.json".to_owned(), "compare.md".to_owned()];
    for name in ["compare", "mandelbrot", "matvec", "blocked_mean", "blocked_mean_file", "cholesky", "expression", "reduce"] {
        wanted.extend([format!("{name}.png"), format!("{name}.svg")]);
        let picture = image::open(folder.file("r").join(format!("{name}.png"))).unwrap();
        assert!(picture.width() >= 1000 && picture.height() >= 500, "{name}");
        let svg = std::fs::read_to_string(folder.file("r").join(format!("{name}.svg"))).unwrap();
        assert!(svg.contains("prefers-color-scheme: dark") && svg.ends_with("</svg>\n"), "{name}");
    }
    wanted.sort();
    assert_eq!(names, wanted);
    names.len()
}

fn row_of_a_small_run(row: &Value) {
    let lanes = row["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), 2, "{row}");
    for lane in lanes {
        let samples = lane["samples"].as_array().unwrap();
        assert!((1..=7).contains(&samples.len()) && samples.iter().all(|s| s.as_f64() > Some(0.0)), "{lane}");
        let sweeps: Vec<u64> = lane["sweeps"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
        assert_eq!(
            (sweeps.iter().sum::<u64>(), lane["summary"]["n"].as_u64()),
            (samples.len() as u64, Some(sweeps.len() as u64)),
            "{lane}"
        );
        assert_eq!((&lane["check"]["difference"], &lane["failed"]), (&0.0.into(), &Value::Null), "{lane}");
    }
}

#[test]
fn json_is_one_line_and_quiet_is_silent() {
    let folder = Folder::new("compare-json");
    let small =
        || example("compare").with_history(folder.path()).args("--workloads matvec --sizes 40 --dtype f32 --repeats 2 --out r");
    let json = small().args("--json").run().success().json();
    assert_eq!((&json["workload"], json["rows"].as_array().unwrap().len()), (&"compare".into(), 1));
    assert_eq!(json, report(&folder, "r"), "the file says the same");
    assert_eq!(small().args("-q").run().success().stdout, "");
    let one = small().args("--json --threads 1").run().success().json();
    assert_eq!(one["lanes"].as_array().unwrap().len(), 1, "one thread needs no second column");
    let cpu = small().args("--json --device cpu").run().success().json();
    assert_eq!(cpu["machine"]["gpus"], Value::Array(vec![]));
}

#[test]
fn a_narrow_terminal_gets_narrow_lines() {
    let folder = Folder::new("compare-narrow");
    let run = example("compare").with_history(folder.path()).args("--workloads matvec,cholesky --sizes 40 --repeats 2 --out r");
    let text = run.env("COLUMNS", "60").run().success().stdout;
    assert!(text.lines().all(|l| l.chars().count() <= 60 || !l.contains(' ')), "{text}");
    assert!(text.contains("matvec f32 40²\n"), "{text}");
}

#[test]
fn crossovers_are_searched_when_asked() {
    let folder = Folder::new("compare-crossover");
    let args = "--workloads matvec --sizes 60,200 --repeats 3 --budget 2 --dtype f64 --threads 2 --crossover --out r --json";
    let json = example("compare").with_history(folder.path()).args(args).run().success().json();
    let crossing = &json["crossings"][0];
    assert_eq!((&crossing["method"], &crossing["challenger"]["device"]), (&"bisection".into(), &"cpu".into()), "{json}");
    assert!(
        ["always", "from", "never", "between", "until", "unclear"].contains(&crossing["answer"].as_str().unwrap()),
        "{crossing}"
    );
    assert!(crossing["runs"].as_array().is_some_and(|runs| !runs.is_empty()));
}

/// With software Vulkan where there is one: `.ci/run` demands it.
#[test]
fn a_gpu_adds_its_columns() {
    let folder = Folder::new("compare-gpu");
    let args =
        "--allow-software --workloads matvec,blocked_mean,expression,reduce --sizes 60 --dtype f32 --repeats 2 --json --out r";
    let json = example("compare").with_history(folder.path()).args(args).run().success().json();
    let found = !json["machine"]["gpus"].as_array().unwrap().is_empty();
    assert!(found || std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1").eq(&false), "{}", json["machine"]);
    if !found {
        assert!(json["machine"]["no_gpu"].is_string(), "{}", json["machine"]);
        return;
    }
    assert_eq!(json["lanes"].as_array().unwrap().len(), 5);
    let rates = &json["machine"]["gpu_rates"];
    for rate in ["/peaks/f32_flops", "/peaks/bytes_per_s", "/up", "/down"] {
        assert!(rates.pointer(rate).and_then(Value::as_f64) > Some(1e6), "{rates}");
    }
    for row in json["rows"].as_array().unwrap().iter().filter(|r| r["workload"] != "blocked_mean_file") {
        let bounds = ["cold", "resident"].map(|state| row["gpu_bound_s"][state].as_f64());
        assert!(bounds[0] >= bounds[1] && bounds[1] > Some(0.0), "{row}");
        for lane in row["lanes"].as_array().unwrap().iter().filter(|l| l["device"] == "gpu") {
            assert!(lane["failed"].is_null() && lane["gpu_tasks"].as_u64() > Some(0), "{lane}");
            let check = (lane["check"]["difference"].as_f64(), lane["check"]["tolerance"].as_f64());
            assert!(check.0 <= check.1 && check.1 > Some(0.0), "{lane}");
        }
    }
    let without = example("compare").with_history(folder.path()).args(args).args("--device cpu").run().success().json();
    assert_eq!(without["machine"]["no_gpu"], "--device cpu leaves them out");
}

#[track_caller]
fn refused(flags: &str, word: &str) {
    let output = example("compare").args(flags).run();
    assert!(output.code == 2 && output.stdout.is_empty() && output.stderr.starts_with("error: "), "{output:#?}");
    assert!(output.stderr.contains(word), "no `{word}` in {output:#?}");
}

#[test]
fn nonsense_is_a_usage_error() {
    refused("--workloads nonsense", "mandelbrot, matvec, blocked_mean, cholesky, expression, reduce");
    refused("--workloads matvec,,", "workloads");
    refused("--repeats 0", "at least 1");
    refused("--sizes 0", "at least 1");
    refused("--sizes 100,x", "at least 1");
    refused("--sizes -5", "");
    refused("--budget 0", "above 0");
    refused("--budget inf", "above 0");
    refused("--threads 0", "at least 1");
    refused("--trace t.json", "--trace of the workload's own program");
    refused("--explain", "--explain of the workload's own program");
    let help = example("compare").args("--help").run().success().stdout;
    for word in ["--quick", "--crossover", "--budget <SECONDS>", "Common options", "Examples"] {
        assert!(help.contains(word), "no `{word}` in\n{help}");
    }
}

#[track_caller]
fn fails(flags: &str, words: &[&str]) -> Output {
    // Without the check beforehand these would measure for minutes.
    example("compare").args(flags).limit(Duration::from_secs(20)).run().failure(words)
}

#[test]
fn what_cannot_be_written_or_used_is_said_before_measuring() {
    let folder = Folder::new("compare-out");
    std::fs::write(folder.file("file"), "x").unwrap();
    let file = folder.file("file").display().to_string();
    fails(&format!("--out {file}"), &["file", "not a folder", "--out"]);
    fails(&format!("--out {file}/below"), &["cannot create", "below"]);
    #[cfg(target_os = "linux")]
    fails("--out /proc/compare", &["cannot create /proc/compare"]);
    fails("--device 7 --out r", &["number 7", "0 = cpu"]);
    fails("--threads 4096 --out r", &["threads = 4096: choose 1 to", "cores gain nothing from more"]);
    assert_eq!(folder.names(), ["file"]);
}

#[test]
fn sizes_that_do_not_fit_are_skipped_with_a_reason() {
    let folder = Folder::new("compare-large");
    let args =
        "--workloads matvec,blocked_mean --sizes 50,100000,100000000000 --dtype f32 --repeats 2 --memory-limit 100MB --out r";
    let text = example("compare").with_history(folder.path()).args(args).run().success().stdout;
    for part in ["skipped [1]", "matvec f32 100000 x 100000: needs 40.0 GB, more than the 100 MB", "--memory-limit"] {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
    let json = report(&folder, "r");
    let skipped = json["rows"].as_array().unwrap().iter().filter(|r| r["skipped"].is_string()).count();
    assert_eq!((skipped, json["rows"].as_array().unwrap().len()), (6, 9));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_loses_files_but_no_numbers() {
    let folder = Folder::new("compare-full");
    let args = "--workloads matvec,blocked_mean --sizes 60 --dtype f32 --repeats 2 --out r";
    // Files of 2 kB at most: neither the data file nor a picture fits.
    let output =
        example("compare").with_history(folder.path()).args(args).file_size_limit(4).run().failure(&["cannot write", "r/"]);
    assert!(output.stdout.contains("matvec") && output.stdout.contains("On this machine:"), "{output:#?}");
    assert!(output.stdout.contains("skipped [1]"), "the data file did not fit: {output:#?}");
    let left: Vec<_> = std::fs::read_dir(folder.file("r")).unwrap().flatten().map(|f| f.file_name()).collect();
    assert!(left.is_empty(), "no part of a file is left: {left:?}");
    example("compare")
        .with_history(folder.path())
        .args(args)
        .stdout_to("/dev/full")
        .run()
        .failure(&["stdout", "No space left"]);
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupt_leaves_a_partial_report_that_says_so() {
    let folder = Folder::new("compare-interrupt");
    std::fs::create_dir(folder.file("tmp")).unwrap();
    let tmp = folder.file("tmp").display().to_string();
    // The second row takes minutes in this build.
    let args = "--workloads mandelbrot --sizes 30,6000 --dtype f64 --repeats 1000 --budget 3000 --out r";
    let running = example("compare").with_history(folder.path()).env("TMPDIR", &tmp).args(args).start();
    running.wait_for_file("r");
    std::thread::sleep(Duration::from_secs(4));
    running.signal("INT");
    let output = running.wait(Duration::from_secs(20));
    assert_eq!(output.code, 130, "{output:#?}");
    assert!(output.stdout.contains("INTERRUPTED") && output.stderr.contains("interrupted"), "{output:#?}");
    let json = report(&folder, "r");
    assert_eq!(json["interrupted"], true);
    assert!(json["rows"].as_array().unwrap().len() <= 1);
    assert!(std::fs::read_to_string(folder.file("r").join("compare.md")).unwrap().contains("INTERRUPTED"));
    assert_eq!(std::fs::read_dir(folder.file("tmp")).unwrap().count(), 0, "its data files are gone");
}
