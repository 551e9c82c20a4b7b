//! The programs of expressions on arrays: against loops written here, by themselves with other chunks and threads, and with bad flags.
//!
//! Must not know: how it is computed. Invariant: what is compared was written or printed by the program and made by something else.

use serde_json::Value;
use support::programs::{Folder, example, read_npy};

fn json(program: &str, flags: &str) -> Value {
    example(program).args(flags).args("--json").run().success().json()
}

fn text(program: &str, flags: &str) -> String {
    example(program).args(flags).run().success().stdout
}

/// Fails the test unless the flags were refused: exit code 2, with words on stderr and nothing on stdout.
#[track_caller]
fn refused(program: &str, flags: &str, word: &str) {
    let output = example(program).args(flags).run();
    assert!(output.code == 2 && output.stdout.is_empty(), "{output:#?}");
    assert!(output.stderr.starts_with("error: ") && output.stderr.contains(word), "no `{word}` in {output:#?}");
}

/// As `lazy_slice --help` says what is in memory.
fn element(i: usize, j: usize) -> f64 {
    ((31 * i + 17 * j + i * j) % 1024) as f64 / 1024.0
}

#[test]
fn lazy_slice_is_the_mean_of_the_slice_of_the_sum() {
    let folder = Folder::new("lazy slice");
    for (n, flags) in
        [(1usize, ""), (2, ""), (7, "--chunk 2"), (90, "--dtype f32"), (301, "--chunk 64 --threads 3"), (300, "--chunk 1000")]
    {
        let run = example("lazy_slice").within(folder.path()).args(&format!("--n {n} --out z.npy --json")).args(flags);
        let json = run.run().success().json();
        let z = read_npy(&folder.file("z.npy"), f64::from_le_bytes);
        assert_eq!(z.len(), n.div_ceil(2), "{flags}");
        let mut total = 0f64;
        for (k, z) in z.iter().enumerate() {
            let sum: f64 = (n / 2..n).map(|j| element(2 * k, j) + element(j, 2 * k)).sum();
            let wanted = sum / (n - n / 2) as f64;
            assert!((z - wanted).abs() <= 4e-16 * wanted, "{n} {flags}: row {k} is {z}, not {wanted}");
            total += wanted;
        }
        assert!((json["result"].as_f64().unwrap() - total / z.len() as f64).abs() < 1e-12, "{json}");
        assert!(json["checked"].as_str().is_some_and(|c| c.contains("from the formula in plain loops")), "{json}");
        assert_eq!((&json["source"], &json["wrote"][0]), (&"memory".into(), &"z.npy".into()), "{json}");
    }
}

#[test]
fn lazy_slice_of_random_numbers_needs_no_room_for_them() {
    let folder = Folder::new("lazy slice of random numbers");
    let run = |flags: &str| {
        let run = example("lazy_slice").within(folder.path()).args("--n 2000 --source random --out z.npy --json").args(flags);
        (run.run().success().json(), read_npy(&folder.file("z.npy"), f64::from_le_bytes))
    };
    // 32 MB of numbers.
    let (json, z) = run("--chunk 200 --threads 2 --memory-limit 10MB");
    assert!(
        json["array_bytes"].as_u64() == Some(32_000_000) && json["memory_bound_bytes"].as_u64() < Some(10_000_000),
        "{json}"
    );
    assert!(json["checked"].as_str().is_some_and(|c| c.contains("from slices of x") && c.contains("sigma from 1")), "{json}");
    let (_, same) = run("--chunk 200 --threads 1");
    assert_eq!(z, same, "the same bits with any threads");
    let (_, other) = run("--seed 5");
    assert!(z != other && (z.iter().sum::<f64>() / 1000.0 - 1.0).abs() < 0.01);
    example("lazy_slice").args("--n 2000 --memory-limit 10MB").run().failure(&["more than the 10.0 MB"]);
    example("lazy_slice").args("--n 10000000").run().failure(&["x needs 800 TB", "--source random"]);
}

#[test]
fn weighted_mean_is_the_documents_and_that_of_random_numbers() {
    for flags in ["", "--chunk 3", "--dtype f32", "--threads 1"] {
        let json = json("weighted_mean", flags);
        assert_eq!(
            (&json["result"], &json["by_call"], &json["dtype"]),
            (&1.9375.into(), &1.9375.into(), &"i64".into()),
            "{flags}"
        );
    }
    assert!(text("weighted_mean", "").contains("  result 1.9375\n"));
    for flags in ["--n 1", "--n 1000 --chunk 77", "--n 30000 --dtype f32 --repeat 1", "--n 30000 --repeat 2 --seed 4"] {
        let json = json("weighted_mean", flags);
        let number = |field: &str| json[field].as_f64().unwrap_or(f64::NAN);
        assert!((number("result") - number("by_expression")).abs() < 1e-5 && number("result") < 1.0, "{json}");
        assert!(number("expression_s") > 0.0 && number("call_s") > 0.0 && json["checked"].is_string(), "{json}");
    }
}

#[test]
fn exp_slice_computes_what_is_asked_for() {
    for flags in ["", "--dtype f32", "--chunk 40"] {
        let json = json("exp_slice", &format!("--n 2000 {flags} --whole"));
        let number = |field: &str| json[field].as_u64().unwrap_or_else(|| panic!("{field} in {json}"));
        let bytes = if flags.contains("f32") { 4 } else { 8 };
        assert_eq!((number("random_bytes"), number("random_whole_bytes")), (99 * 99 * bytes, 2000 * 2000 * bytes), "{flags}");
        assert!(number("ones_tasks") <= number("random_tasks") && number("random_tasks") < 17, "{json}");
        assert!(
            number("random_whole_tasks") >= number("random_tasks") && json["random_whole_s"].as_f64() > Some(0.0),
            "{json}"
        );
        assert!(json["checked"].as_str().is_some_and(|c| c.contains("9801 elements of each")), "{json}");
    }
    // 8 TB each.
    let corner = json("exp_slice", "--n 1000000 --memory-limit 100MB");
    assert_eq!((&corner["random_whole_bytes"], &corner["ones_whole_tasks"]), (&8_000_000_000_000u64.into(), &Value::Null));
    example("exp_slice").args("--n 1000 --whole --memory-limit 2MB").run().failure(&["more than the 2.00 MB"]);
}

#[test]
fn mandelbrot_arrays_counts_as_the_kernel_does() {
    for flags in
        ["--size 300x200", "--size 61x47 --chunk 20 --threads 3", "--size 90x70 --dtype f32", "--size 9x1 --iterations 3"]
    {
        let json = json("mandelbrot_arrays", &format!("{flags} --repeat 1"));
        let same = example("mandelbrot").args(flags).args("--png none --json").run().success().json();
        if json["dtype"] == "f64" {
            assert_eq!(json["inside"], same["inside"], "{flags}");
            assert!(json["checked"].as_str().is_some_and(|c| c.ends_with("points: equal")), "{json}");
        }
        assert!(json["ratio"].as_f64() > Some(0.0), "{json}");
    }
    let one = json("mandelbrot_arrays", "--size 61x47 --chunk 20 --repeat 1");
    assert_eq!(one["tasks"], 12, "one for each chunk: {one}");
}

#[test]
fn game_of_life_is_played_by_the_rules() {
    let folder = Folder::new("life");
    let run = |flags: &str| {
        let run = example("game_of_life").within(folder.path()).args(flags).args("--out life.png --json");
        let json = run.run().success().json();
        (json, image::open(folder.file("life.png")).unwrap().into_luma8())
    };
    let (json, board) = run("--size 50x30 --steps 7 --seed 3");
    assert_eq!((board.width(), board.height()), (50, 30));
    let alive = board.pixels().filter(|pixel| pixel.0[0] == 255).count();
    assert_eq!(json["alive"], alive, "{json}");
    for flags in ["--chunk 8", "--steps-per-run 1", "--steps-per-run 7 --threads 1", "--chunk 13 --steps-per-run 3"] {
        assert_eq!(run(&format!("--size 50x30 --steps 7 --seed 3 {flags}")).1, board, "{flags}");
    }
    // One more step, counted here.
    let (_, later) = run("--size 50x30 --steps 8 --seed 3");
    for (x, y, pixel) in later.enumerate_pixels() {
        let at = |dx: u32, dy: u32| u32::from(board.get_pixel((x + 50 + dx - 1) % 50, (y + 30 + dy - 1) % 30).0[0] / 255);
        let around = (0..9).map(|k| at(k % 3, k / 3)).sum::<u32>() - at(1, 1);
        assert_eq!(pixel.0[0] == 255, around == 3 || around == 2 && at(1, 1) == 1, "column {x}, row {y}");
    }
    for flags in ["--size 1x1", "--size 2x3 --chunk 1", "--size 1x40 --steps 3", "--size 9x9 --steps 0"] {
        assert!(run(flags).0["checked"].as_str().is_some_and(|c| c.contains("a glider is back after 32 steps")), "{flags}");
    }
}

#[test]
fn expressions_prints_what_json_has() {
    for flags in ["--n 40000", "--n 40000 --dtype f32 --chunk 70 --threads 1", "--n 1"] {
        let json = json("expressions", &format!("{flags} --repeat 2"));
        let rows = json["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 5 + 6 * 3 * 2 + 2, "{flags}");
        for row in rows {
            let number = |field: &str| row[field].as_f64().unwrap_or(f64::NAN);
            assert!(number("seconds") > 0.0 && number("plain_s") > 0.0 && number("bytes") > 0.0, "{row}");
            assert!((number("ratio") * number("plain_s") - number("seconds")).abs() < 1e-9, "{row}");
            assert!(row["placement"]["cpu"].as_u64() > Some(0), "{row}");
        }
    }
    let text = text("expressions", "--n 10000 --repeat 1");
    for words in ["expression", "order", "axis", "ratio", "Horner", "((x - mean)^2).sum()", "argmax", "  checked: "] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
}

#[test]
fn wrong_flags_of_these_programs_are_refused() {
    for program in ["lazy_slice", "weighted_mean", "exp_slice", "expressions"] {
        refused(program, "--n 0", "at least 1");
        refused(program, "--n many", "at least 1");
        refused(program, "--dtype f16", "f64");
    }
    refused("lazy_slice", "--source file", "memory");
    refused("weighted_mean", "--repeat 3", "--n");
    refused("exp_slice", "--n 99", "needs 100 rows");
    refused("expressions", "--repeat 0", "at least 1");
    for size in ["5", "0x5", "5x-1"] {
        refused("game_of_life", &format!("--size={size}"), "WIDTHxHEIGHT");
        refused("mandelbrot_arrays", &format!("--size={size}"), "WIDTHxHEIGHT");
    }
    refused("game_of_life", "--steps-per-run 0", "--steps-per-run");
    refused("game_of_life", "--out life.jpg", "ends in .png");
    refused("mandelbrot_arrays", "--iterations 21", "20");
    refused("mandelbrot_arrays", "--window=-1,0,nan,1", "finite");
    for (program, flags) in
        [("lazy_slice", "--n 9 --out t --trace t"), ("game_of_life", "--size 5x5 --out t.png --trace t.png")]
    {
        let both = example(program).args(flags).run();
        assert!(both.code == 2 && both.stderr.contains("are the same file"), "{both:#?}");
    }
    let folder = Folder::new("no place");
    for (program, flags) in [("lazy_slice", "--n 9 --out nowhere/z.npy"), ("game_of_life", "--size 5x5 --out nowhere/t.png")] {
        example(program).within(folder.path()).args(flags).run().failure(&["nowhere", "No such file"]);
    }
    assert_eq!(folder.names(), [""; 0]);
}

/// Work that no GPU does is said to be the CPU's, or done by both: never an error.
#[test]
fn a_gpu_that_is_insisted_on_leaves_the_results_as_they_are() {
    // One history, so that the GPU is measured once.
    let folder = Folder::new("a gpu that is insisted on");
    let json = |program: &str, flags: &str| {
        example(program).with_history(folder.path()).args(flags).args("--json --allow-software").run().success().json()
    };
    let found = json("devices", "");
    if !found["devices"].as_array().is_some_and(|all| all.iter().any(|d| d["kind"] == "gpu")) {
        return;
    }
    for (program, flags) in [
        ("lazy_slice", "--n 300 --source random"),
        ("weighted_mean", ""),
        ("weighted_mean", "--n 3000 --repeat 1"),
        ("exp_slice", "--n 300"),
        ("mandelbrot_arrays", "--size 60x40 --repeat 1"),
        ("game_of_life", "--size 300x200 --steps 3"), // chunks of a small board are made in one task each, by the CPU
        ("expressions", "--n 900 --repeat 1"),
    ] {
        for dtype in ["f32", "f64"] {
            let json = json(program, &format!("{flags} --device gpu --dtype {dtype}"));
            assert!(json["checked"].is_string(), "{program}: {json}");
            assert!(json["placement"]["gpu0"].as_u64() > Some(0), "{program} fell back: {json}");
            for row in json["rows"].as_array().into_iter().flatten().filter(|row| row["plain_s"].is_f64()) {
                assert!(row["placement"]["gpu0"].as_u64() > Some(0), "{program} fell back: {row}");
            }
        }
    }
}
