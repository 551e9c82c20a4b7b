//! What the example programs say of their runs: JSON, explanations, timelines, predictions, the summary.
//!
//! Invariant: the fields that scripts rely on are named here, with their types.

use serde_json::Value;
use support::programs::{Folder, data, example};

/// Every program that computes, with small input: a name and flags.
fn programs() -> Vec<(&'static str, String)> {
    vec![
        ("mandelbrot", "--size 130x70 --chunk 40 --png none".to_owned()),
        ("matvec", "--n 130 --chunk 40".to_owned()),
        ("blocked_mean", data("chunked.h5:/edge")),
        ("cholesky", "--n 130 --chunk 40".to_owned()),
        ("overhead", "--tasks 500".to_owned()),
        ("overhead", "--chunks 300".to_owned()),
        ("lazy_slice", "--n 130 --chunk 40".to_owned()),
        ("exp_slice", "--n 130 --chunk 40".to_owned()),
        ("weighted_mean", String::new()),
        ("mandelbrot_arrays", "--size 130x70 --chunk 40 --repeat 1".to_owned()),
        ("game_of_life", "--size 130x70 --chunk 40 --steps 4".to_owned()),
        ("expressions", "--n 10000 --repeat 1".to_owned()),
    ]
}

#[test]
fn json_has_every_field_with_its_type() {
    for (name, flags) in programs() {
        let json = example(name).args(&flags).args("--json --threads 2").run().success().json();
        let object = json.as_object().unwrap();
        for (field, fits) in [
            ("workload", Value::is_string as fn(&Value) -> bool),
            ("shape", Value::is_array),
            ("dtype", Value::is_string),
            ("device", Value::is_string),
            ("threads", Value::is_u64),
            ("simd", Value::is_string),
            ("total_s", Value::is_f64),
            ("plan_s", Value::is_f64),
            ("predicted_s", Value::is_f64),
            ("tasks", Value::is_u64),
            ("placement", Value::is_object),
            ("bytes_moved", Value::is_u64),
            ("rate", Value::is_f64),
            ("rate_unit", Value::is_string),
            ("peak_rss_bytes", Value::is_u64),
            ("memory_bound_bytes", Value::is_u64),
        ] {
            assert!(object.get(field).is_some_and(fits), "{name}: {field} in {json}");
        }
        assert_eq!((&json["workload"], &json["threads"], &json["device"]), (&name.into(), &2.into(), &"auto".into()));
        let placed: u64 = json["placement"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(json["tasks"], placed, "{name}: {json}");
        assert!(json["predicted_s"].as_f64() > Some(0.0) && json["total_s"].as_f64() > Some(0.0), "{name}: {json}");
        assert!(json["shape"].as_array().unwrap().iter().all(Value::is_u64), "{name}: {json}");
    }
}

#[test]
fn the_summary_names_devices_prediction_and_files() {
    let folder = Folder::new("summary");
    for (name, flags) in programs() {
        let text = example(name).within(folder.path()).args(&flags).args("--trace t.json").run().success().stdout;
        for word in [name, "  cpu ", " threads, ", "task", "% busy", "(predicted ", "peak memory", "wrote t.json", "  gpu"] {
            assert!(text.contains(word), "{name}: no `{word}` in\n{text}");
        }
        assert!(text.lines().all(|line| line.len() < 160 && line.trim_end() == line), "{text}");
        assert_eq!(example(name).within(folder.path()).args(&flags).args("-q").run().success().stdout, "");
    }
    let one = example("mandelbrot").args("--size 9x7 --png none").run().success().stdout;
    assert!(one.contains("   1 chunk of 7 x 9"), "{one}");
}

#[test]
fn explanations_name_devices_and_reasons_and_leave_json_alone() {
    for (name, flags) in programs() {
        let text = example(name).args(&flags).args("--explain").run().success().stdout;
        for word in ["task group", "cpu each", "placed", "why", "the only device", "predicted: auto", "memory: ", "proved"] {
            assert!(text.contains(word), "{name}: no `{word}` in\n{text}");
        }
        let both = example(name).args(&flags).args("--explain --json --device cpu").run().success();
        assert!(both.stderr.contains("why") && both.json()["device"] == "cpu", "{both:#?}");
    }
    let access = example("blocked_mean").arg(data("chunked.h5:/gzip")).args("--explain").run().success().stdout;
    assert!(access.contains("libhdf5: shuffle, deflate") && access.contains("only io runs it"), "{access}");
    let direct = example("blocked_mean").arg(data("plain.h5:/contiguous")).args("--explain").run().success().stdout;
    assert!(direct.contains("positioned reads"), "{direct}");
    let streamed = example("mandelbrot").args("--size 90x70 --png none --out c.npy --explain").run().success().stdout;
    assert!(streamed.contains("write c.npy"), "{streamed}");
}

#[test]
fn a_trace_has_each_task_once_with_both_times() {
    let folder = Folder::new("trace");
    for (name, flags) in programs() {
        let json = example(name).within(folder.path()).args(&flags).args("--json --trace t.json").run().success().json();
        let trace: Value = serde_json::from_slice(&std::fs::read(folder.file("t.json")).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let tasks: Vec<&Value> = events.iter().filter(|e| e["ph"] == "X" && e["cat"] != "move").collect();
        assert_eq!(json["tasks"], tasks.len(), "{name}");
        let mut names: Vec<&str> = tasks.iter().map(|t| t["args"]["task"].as_str().unwrap()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), tasks.len(), "{name}: every task once");
        for task in &tasks {
            let args = &task["args"];
            assert!(args["predicted_us"].as_f64() > Some(0.0) && args["measured_us"].is_f64(), "{name}: {task}");
            assert!(task["ts"].as_f64() >= Some(0.0) && task["dur"].as_f64() >= Some(0.0), "{name}: {task}");
        }
        assert!(json["wrote"].as_array().unwrap().contains(&"t.json".into()), "{json}");
    }
    // Tiles of 40 of order 130: T = 4, and T (T + 1) (T + 2) / 6 tasks.
    let json = example("cholesky").args("--n 130 --chunk 40 --json").run().success().json();
    assert_eq!(json["placement"]["cpu"].as_u64().map(|n| n >= 20), Some(true), "{json}");
}

#[test]
fn later_runs_predict_from_measured_times() {
    for (name, flags) in programs() {
        let folder = Folder::new(&format!("history-{name}"));
        for run in 1..=3 {
            let json = example(name).with_history(folder.path()).args(&flags).args("--json").run().success().json();
            let error = json["median_prediction_error"].as_f64();
            assert!(error.is_some_and(|e| e.is_finite() && e >= 0.0), "{name}, run {run}: {json}");
        }
        let kept = std::fs::read_dir(folder.file("cache")).unwrap().count();
        assert!(kept >= 1, "{name} kept nothing");
    }
}

#[test]
fn a_spoilt_history_is_one_warning_and_no_more() {
    let folder = Folder::new("spoilt");
    let run = || example("overhead").with_history(folder.path()).args("--tasks 100 --json").run().success();
    run();
    for file in
        std::fs::read_dir(folder.file("cache")).unwrap().flatten().filter(|f| f.path().extension() == Some("json".as_ref()))
    {
        std::fs::write(file.path(), "{ not json").unwrap();
    }
    let spoilt = run();
    assert_eq!(spoilt.stderr.matches("warning").count(), 1, "{spoilt:#?}");
    assert_eq!(run().stderr, "", "it was replaced");
}

#[test]
fn devices_tells_all_of_them_and_calibrates() {
    let folder = Folder::new("devices");
    let run = |flags: &str| example("devices").with_history(folder.path()).args(flags).run().success();
    let before = run("--json --threads 2").json();
    let cpu = &before["devices"][0];
    assert_eq!((&cpu["index"], &cpu["kind"], &cpu["threads"]), (&0.into(), &"cpu".into(), &2.into()));
    assert!(cpu["calibration"].is_null() && cpu["rates"]["f64_flops"].as_f64() > Some(0.0), "{before}");
    assert_eq!(before["devices"][1]["kind"], "io");
    for field in ["available_memory_bytes", "memory_limit_bytes"] {
        assert!(before[field].as_u64() > Some(0), "{before}");
    }
    assert!(before["simd"].is_string() && before["not_used"].is_array(), "{before}");
    let measured = run("--json --threads 2 --calibrate").json()["devices"][0]["calibration"].clone();
    assert!(measured["read_all"].as_f64() > Some(1e6) && measured["f64_flops_one"].as_f64() > Some(1e6), "{measured}");
    let later = run("--json --threads 2").json();
    assert_eq!(later["devices"][0]["calibration"], measured, "it is kept");
    let text = run("--threads 2").stdout;
    for word in ["0  cpu ", "2 threads", "flop/s", "memory reads", "1  io ", "gpu", "available", "kept in"] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
    std::fs::write(folder.file("file"), "").unwrap();
    let spoilt = |flags: &str| {
        example("devices").env("CHUNKWISE_CACHE_DIR", folder.file("file").to_str().unwrap()).args(flags).run().success()
    };
    let text = spoilt("--threads 2").stdout;
    assert!(text.contains("measured  not kept: ") && text.contains("file is not a folder"), "{text}");
    assert!(spoilt("--threads 2 --json").json()["cache_dir"].is_null());
}

/// What a program recorded, replayed in another process.
#[track_caller]
fn replayed(folder: &Folder, name: &str, flags: &str) -> Value {
    let _ = std::fs::remove_file(folder.file("run.record"));
    let json = example(name).within(folder.path()).args(flags).args("--json --threads 2 --record run.record").run().success();
    let json = json.json();
    let again = example("replay").within(folder.path()).args("run.record --json").run().success().json();
    let [graphs, events, actions, launches] =
        ["graphs", "events", "actions", "launches"].map(|n| again[n].as_u64().unwrap_or(0));
    let tasks = json["tasks"].as_u64().expect("tasks");
    assert!(json["wrote"].as_array().is_some_and(|all| all.contains(&"run.record".into())), "{name}: {json}");
    assert!(graphs >= 1 && launches >= tasks && actions > launches && events > launches, "{name}: {again} of {json}");
    again
}

#[test]
fn a_recorded_run_of_each_workload_replays_in_another_process() {
    let folder = Folder::new("replay");
    for (name, flags) in programs() {
        let again = replayed(&folder, name, &format!("{flags} --device cpu"));
        assert_eq!(again["policy"], "cpu", "{name}");
    }
    let text = example("replay").within(folder.path()).args("run.record").run().success().stdout;
    assert!(text.contains("policy    cpu") && text.contains("the same as recorded"), "{text}");
    replayed(&folder, "matvec", "--n 130 --chunk 40 --device 0");
    let said = example("matvec").within(folder.path()).args("--n 9 --record r").run().success().stdout;
    assert!(said.ends_with("wrote r\n"), "{said}");
    #[cfg(unix)]
    {
        let limited = example("matvec").within(folder.path()).file_size_limit(64); // room to begin
        let stderr =
            limited.args("--n 600 --chunk 10 --record small").run().failure(&["no record was written to small"]).stderr;
        assert!(stderr.contains("there is no record of this session: ") && !folder.file("small").exists(), "{stderr}");
    }
    for name in ["r/", "r/.", "new/"] {
        example("matvec").within(folder.path()).args(&format!("--n 9 --record {name}")).run().failure(&[name]);
    }
    assert!(folder.file("r").is_file() && !folder.file("new").exists());
    let devices = example("devices").args("--record t").run();
    assert!(devices.code == 2 && devices.stderr.contains("devices runs no graph"), "{devices:#?}");
    // What is no record, or none any more.
    let replay = |name: &str, words: &[&str]| {
        example("replay").within(folder.path()).arg(name).run().failure(words);
    };
    let whole = std::fs::read_to_string(folder.file("run.record")).expect("the record");
    std::fs::write(folder.file("cut"), &whole[..whole.len() / 2]).expect("writes");
    std::fs::write(folder.file("other"), whole.replacen("\"chunkwise_record\":1", "\"chunkwise_record\":77", 1))
        .expect("writes");
    replay("cut", &["cut: it is cut"]);
    replay("other", &["other: it is a record of version 77"]);
    replay("absent", &["cannot read absent: No such file"]);
    replay(".", &["error: "]);
    replay(&data("one.npy"), &["it is no record of a session"]);
    let nowhere = example("matvec").within(folder.path()).args("--n 9 --record nowhere/r").run();
    nowhere.failure(&["cannot create nowhere/r: No such file"]);
    example("matvec").within(folder.path()).args("--n 9 --record .").run().failure(&["directory"]);
    let both = example("matvec").within(folder.path()).args("--n 9 --trace t --record ./t").run();
    assert!(both.code == 2 && both.stderr.contains("are the same file"), "{both:#?}");
    let compare = example("compare").within(folder.path()).args("--record t").run();
    assert!(compare.code == 2 && compare.stderr.contains("--record of the workload's own program"), "{compare:#?}");
}

#[test]
fn a_recorded_run_beside_a_gpu_replays_in_another_process() {
    let folder = Folder::new("replay beside a gpu");
    let json = example("devices").args("--json --allow-software").run().success().json();
    if !json["devices"].as_array().is_some_and(|all| all.iter().any(|d| d["kind"] == "gpu")) {
        let required = std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(!required || !cfg!(feature = "gpu"), "REQUIRE_GPU=1, but there is no GPU: {json}");
        return;
    }
    for (device, name, flags) in [
        // Explaining looks for GPUs, so that they are there from the beginning.
        ("auto", "cholesky", "--n 130 --chunk 40 --explain"),
        ("gpu", "mandelbrot", "--size 130x70 --chunk 40 --png none"),
        ("gpu", "matvec", "--n 130 --chunk 40"),
    ] {
        let again = replayed(&folder, name, &format!("{flags} --device {device} --dtype f32 --allow-software"));
        assert_eq!(again["policy"], device, "{name}");
        let record = std::fs::read_to_string(folder.file("run.record")).expect("the record");
        assert!(record.contains("\"gpu0\"") && (device != "gpu" || record.contains("\"upload\":true") || name == "mandelbrot"));
    }
}
