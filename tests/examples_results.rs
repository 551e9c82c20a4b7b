//! What the example programs compute: against known values, naive loops, and themselves with other threads and chunks.
//!
//! Must not know: how it is computed. Invariant: what is compared was written by the program and made by something else.

use chunkwise::Session;
use serde_json::Value;
use support::programs::{Folder, data, example, read_npy, write_npy};

fn counts(folder: &Folder, name: &str) -> Vec<i32> {
    read_npy(&folder.file(name), i32::from_le_bytes)
}

fn numbers(folder: &Folder, name: &str) -> Vec<f64> {
    read_npy(&folder.file(name), f64::from_le_bytes)
}

/// The notebook's loop, one point: z = c; then z <- z^2 + c, and the count is the first step after which |z| > 4.
fn escape(x: f64, y: f64, iterations: i32) -> i32 {
    let (mut re, mut im) = (x, y);
    for step in 0..iterations {
        (re, im) = (re * re - im * im + x, re * im + re * im + y);
        if re * re + im * im > 16.0 {
            return step;
        }
    }
    iterations
}

#[test]
fn mandelbrot_counts_are_the_golden_ones_in_memory_and_streamed() {
    let golden: Vec<Value> = serde_json::from_str(include_str!("data/mandelbrot.json")).unwrap();
    let folder = Folder::new("golden");
    for case in golden.iter().filter(|g| g["height"].as_u64() != Some(8000)) {
        let (height, width, iterations) = (case["height"].as_u64(), case["width"].as_u64(), case["maxiterations"].as_u64());
        let (height, width, iterations) = (height.unwrap(), width.unwrap(), iterations.unwrap());
        let (x, y) = (&case["x"], &case["y"]);
        let flags = format!(
            "--size {width}x{height} --iterations {iterations} --window={},{},{},{} --json --out c.npy",
            x[0], x[1], y[0], y[1]
        );
        let histogram: Vec<u64> = case["histogram"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
        let sum: u64 = histogram.iter().enumerate().map(|(count, n)| count as u64 * n).sum();
        for png in ["--png p.png", "--png none"] {
            let json = example("mandelbrot").within(folder.path()).args(&flags).args(png).run().success().json();
            let mut found = vec![0u64; histogram.len()];
            counts(&folder, "c.npy").iter().for_each(|&c| found[c as usize] += 1);
            assert_eq!(found, histogram, "{flags} {png}");
            assert_eq!(json["sum"].as_u64(), Some(sum), "{flags} {png}");
            assert_eq!(json["inside"].as_u64(), histogram.last().copied(), "{flags} {png}");
            std::fs::remove_file(folder.file("c.npy")).unwrap();
        }
    }
}

#[test]
fn mandelbrot_counts_do_not_depend_on_chunks_threads_or_form_of_the_window() {
    let folder = Folder::new("same-counts");
    let point =
        |from: f64, to: f64, i: usize, n: usize| if i + 1 == n { to } else { from + i as f64 * ((to - from) / (n - 1) as f64) };
    let (width, height) = (53, 37);
    let wanted: Vec<i32> = (0..height * width)
        .map(|i| escape(point(-2.0, 0.5, i % width, width), point(-1.0, 1.0, i / width, height), 60))
        .collect();
    for flags in ["", "--chunk 1", "--chunk 7 --threads 3", "--chunk 1000000 --threads 1", "--threads 2 --chunk 36"] {
        let run = example("mandelbrot").within(folder.path()).args("--size 53x37 --iterations 60 --out c.npy --png none");
        run.args("--window -2,0.5,-1,1").args(flags).run().success();
        assert_eq!(counts(&folder, "c.npy"), wanted, "{flags}");
    }
    let f32 = example("mandelbrot").within(folder.path());
    f32.args("--size 53x37 --iterations 60 --out c.npy --png none --window=-2,0.5,-1,1 --dtype f32").run().success();
    let same = counts(&folder, "c.npy").iter().zip(&wanted).filter(|(a, b)| a == b).count();
    assert!(same > 1900, "{same} of 1961: f32 differs at the border only");
}

#[test]
fn mandelbrot_crops_the_picture_only() {
    let folder = Folder::new("crop");
    let run = |flags: &str| {
        example("mandelbrot").within(folder.path()).args("--size 60x40 --png p.png --json").args(flags).run().success().json()
    };
    let (whole, cropped) = (run(""), run("--crop 10,30,5,50"));
    assert_eq!((&whole["sum"], &whole["shape"]), (&cropped["sum"], &cropped["shape"]));
    let picture = image::open(folder.file("p.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (45, 20));
    assert_eq!(folder.names(), ["p.png"]);
}

#[test]
fn matvec_is_the_naive_product_whatever_the_threads() {
    let folder = Folder::new("matvec");
    let session = Session::builder().threads(1).seed(7).cache_dir("").build().unwrap();
    for (m, n, chunk) in [(37, 53, ""), (1, 1, ""), (130, 61, "--chunk 17"), (5, 700, "--chunk 1000")] {
        // Arrays of a session are numbered: the matrix is the program's first, the vector its second.
        let fresh = Session::builder().threads(1).seed(7).cache_dir("").build().unwrap();
        let a = fresh.default_rng().uniform::<f64>([m, n]).compute().unwrap();
        let x = fresh.default_rng().uniform::<f64>([n]).compute().unwrap();
        let naive: Vec<f64> = (0..m).map(|i| (0..n).map(|j| a[[i, j]] * x[[j]]).sum()).collect();
        let mut first: Option<Vec<f64>> = None;
        for threads in 1..=3 {
            let run = example("matvec").within(folder.path()).args("--seed 7 --out y.npy");
            run.args(&format!("--rows {m} --cols {n} --threads {threads} {chunk}")).run().success();
            let y = numbers(&folder, "y.npy");
            assert!(y.iter().zip(&naive).all(|(a, b)| (a - b).abs() <= 1e-13 * b.abs()), "{m} x {n}: {y:?} {naive:?}");
            assert_eq!(y.len(), m);
            assert_eq!(first.get_or_insert_with(|| y.clone()), &y, "{threads} threads change bits");
        }
    }
    drop(session);
}

#[test]
fn matvec_reads_files_converts_integers_and_keeps_nan_in_its_row() {
    let folder = Folder::new("matvec-files");
    write_npy(&folder.file("a.npy"), &[3, 2], &[1.0, 2.0, f64::NAN, 0.0, f64::INFINITY, 1.0]);
    write_npy(&folder.file("x.npy"), &[2], &[10.0, 1.0]);
    example("matvec").within(folder.path()).args("--matrix a.npy --vector x.npy --out y.npy").run().success();
    let y = numbers(&folder, "y.npy");
    assert!(y[0] == 12.0 && y[1].is_nan() && y[2] == f64::INFINITY, "{y:?}");
    // The integers of the fixture are (7 i) % 101 - 50.
    let ones = vec![1.0; 9];
    write_npy(&folder.file("ones.npy"), &[9], &ones);
    let run = example("matvec").within(folder.path()).args("--matrix").arg(data("plain.h5:/i2"));
    run.args("--vector ones.npy --out s.npy").run().success();
    let rows: Vec<f64> = (0..5).map(|r| (0..9).map(|c| f64::from((7 * (9 * r + c)) % 101 - 50)).sum()).collect();
    assert_eq!(numbers(&folder, "s.npy"), rows);
    let run = example("matvec").within(folder.path()).args("--matrix a.npy --vector x.npy --out y.h5:/deep/y");
    run.run().success();
    let mean = example("blocked_mean").within(folder.path()).args("y.h5:/deep/y --json").run().success().json();
    assert!(mean["result"].is_null(), "the mean of a NaN is NaN, which JSON cannot write: {mean}");
}

#[test]
fn a_matrix_that_does_not_fit_is_generated_as_it_is_used() {
    let folder = Folder::new("matvec-lazy");
    let run = |flags: &str| {
        let run = example("matvec").within(folder.path()).args("--n 700 --chunk 100 --json --out y.npy").args(flags);
        (run.run().success().json(), numbers(&folder, "y.npy"))
    };
    let (all, y) = run("");
    let (lazy, lazy_y) = run("--memory-limit 1MB --threads 2");
    let first = |json: &serde_json::Value| json["notes"][0].as_str().unwrap_or_default().to_owned();
    assert!(first(&lazy).contains("does not fit") && first(&all).contains("made the matrix in "), "{lazy} {all}");
    assert_eq!(y, lazy_y, "one grid, one answer");
}

#[test]
fn blocked_mean_of_fixtures() {
    let mean = |spec: &str, flags: &str| {
        let json = example("blocked_mean").arg(data(spec)).args("--json").args(flags).run().success().json();
        json["result"].clone()
    };
    // Floats of the fixtures are i / 4 - 3: their mean is (n - 1) / 8 - 3.
    for (spec, n) in
        [("plain.h5:/contiguous", 600.0), ("chunked.h5:/gzip", 391.0), ("chunked.h5:/four", 360.0), ("c.npy", 42.0)]
    {
        for flags in ["", "--chunk 1", "--chunk 5 --threads 3", "--chunk 100000"] {
            assert_eq!(mean(spec, flags), (n - 1.0) / 8.0 - 3.0, "{spec} {flags}");
        }
    }
    let ints = (0..45).map(|i| f64::from((7 * i) % 101 - 50)).sum::<f64>() / 45.0;
    assert_eq!(mean("plain.h5:/i8", ""), ints);
    assert_eq!(mean("plain.h5:/bool", ""), 1.0 / 3.0);
    assert_eq!(mean("plain.h5:/scalar", ""), 2.5);
    assert_eq!(mean("plain.h5:/unwritten", "--chunk 10"), 1.5);
    assert_eq!(mean("chunked.h5:/huge", ""), 0.5, "8 TB that were never written");
    assert_eq!(mean("chunked.h5:/huge", &format!("--weights {}", data("chunked.h5:/huge"))), 0.5, "as weights too");
    for empty in ["plain.h5:/empty", "chunked.h5:/nothing", "empty.npy"] {
        assert!(mean(empty, "").is_null(), "{empty}: the mean of nothing is NaN");
    }
    let text = example("blocked_mean").arg(data("empty.npy")).run().success().stdout;
    assert!(text.contains("result NaN"), "{text}");
}

#[test]
fn blocked_mean_of_nan_and_infinity_and_with_weights() {
    let folder = Folder::new("weights");
    write_npy(&folder.file("v.npy"), &[4], &[0.0, 1.0, 2.0, 3.0]);
    write_npy(&folder.file("w.npy"), &[4], &[5.0, 10.0, 33.0, 16.0]);
    write_npy(&folder.file("zero.npy"), &[4], &[0.0; 4]);
    write_npy(&folder.file("inf.npy"), &[4], &[0.0, f64::INFINITY, 2.0, 3.0]);
    write_npy(&folder.file("nan.npy"), &[4], &[0.0, f64::NAN, 2.0, 3.0]);
    let text = |flags: &str| example("blocked_mean").within(folder.path()).args(flags).run().success().stdout;
    for chunk in ["", " --chunk 1", " --chunk 3 --threads 1"] {
        assert!(text(&format!("v.npy --weights w.npy{chunk}")).contains("result 1.9375"), "{chunk}");
        assert!(text(&format!("nan.npy{chunk}")).contains("result NaN"));
        assert!(text(&format!("inf.npy{chunk}")).contains("result inf"));
        assert!(text(&format!("v.npy --weights zero.npy{chunk}")).contains("result NaN"));
    }
}

#[test]
fn blocked_mean_needs_no_more_memory_for_a_larger_file() {
    let folder = Folder::new("memory");
    let run = |flags: &str| example("blocked_mean").with_history(folder.path()).args(flags).args("--json --threads 2").run();
    let bound = |json: &Value| json["memory_bound_bytes"].as_u64().unwrap();
    let made = run("--make 120MB large.h5:/x").success().json();
    run("--make 20MB small.h5:/x").success();
    let (small, large) = (run("small.h5:/x").success().json(), run("large.h5:/x").success().json());
    assert_eq!(made["result"], large["result"], "the file is read back as it was made");
    assert!((large["result"].as_f64().unwrap() - 0.5).abs() < 1e-3);
    assert!(bound(&large) < bound(&small) + 10_000, "{} {}", bound(&small), bound(&large));
    let rss = large["peak_rss_bytes"].as_u64().unwrap();
    assert!(rss < 90_000_000, "{rss} bytes of memory for a file of 120 MB");
}

#[test]
fn cholesky_has_a_small_residual_and_zeros_above_the_diagonal() {
    let folder = Folder::new("cholesky");
    for flags in ["--n 1", "--n 37 --chunk 10", "--n 130 --chunk 64 --threads 3", "--n 64 --dtype f32 --chunk 1000"] {
        let json = example("cholesky").within(folder.path()).args(flags).args("--json").run().success().json();
        assert!(json["residual"].as_f64().is_some_and(|r| r < 1.0), "{json}");
    }
    for (above, said) in [(99.0, true), (0.0, true), (2.0, false)] {
        write_npy(&folder.file("a.npy"), &[2, 2], &[4.0, above, 2.0, 5.0]);
        let run = example("cholesky").within(folder.path()).args("--input a.npy --out l.npy --json").run();
        let notes = run.success().json()["notes"].to_string();
        assert_eq!(notes.contains("not symmetric"), said, "{notes}");
        assert_eq!(numbers(&folder, "l.npy"), [2.0, 0.0, 1.0, 2.0], "only the lower triangle is read");
    }
    // Differences of one row do not cancel.
    for n in [3, 40] {
        let element = |i: usize, j: usize| if i == j { 9.0 } else { f64::from(u8::from(i == 0 && j + 3 > n)) };
        let matrix: Vec<f64> = (0..n * n).map(|k| element(k / n, k % n)).collect();
        write_npy(&folder.file("a.npy"), &[n, n], &matrix);
        for seed in 0..4 {
            let run =
                example("cholesky").within(folder.path()).args(&format!("--input a.npy --seed {seed} --chunk 16 --json")).run();
            let notes = run.success().json()["notes"].to_string();
            assert!(notes.contains("not symmetric"), "{notes}");
        }
    }
}

#[test]
fn overhead_checks_its_sum_and_seeds_differ() {
    let run = |flags: &str| example("overhead").args("--json --tasks 3000").args(flags).run().success().json();
    let (one, three, other) = (run("--threads 1"), run("--threads 3"), run("--seed 5"));
    assert_eq!(one["checksum"], three["checksum"]);
    assert_ne!(one["checksum"], other["checksum"]);
    assert!(one["us_per_task"].as_f64().is_some_and(|us| us > 0.0), "{one}");
    assert!(one["tasks"].as_u64().is_some_and(|n| n > 3000), "{one}");
}

/// The mean of twice uniform numbers, in chunks that need not all be held.
#[test]
fn overhead_takes_the_mean_of_many_chunks() {
    let run = |flags: &str| example("overhead").args("--json").args(flags).run().success().json();
    let mean = |json: &Value| json["result"].as_f64().expect("a mean").to_bits();
    let (one, three, other) =
        (run("--chunks 700 --threads 1"), run("--chunks 700 --threads 3"), run("--chunks 700 --threads 3 --seed 5"));
    assert_eq!(mean(&one), mean(&three));
    assert_ne!(mean(&one), mean(&other));
    for (json, threads) in [(&one, "2 threads"), (&three, "1 thread")] {
        let checked = json["checked"].to_string();
        assert!(checked.contains(&format!("bit for bit the same with {threads}")), "{checked}");
    }
    let session = Session::builder().threads(2).seed(5).cache_dir("").build().unwrap();
    let numbers = session.default_rng().uniform::<f64>((8 * 700, 8)).compute().unwrap();
    let wanted = 2.0 * numbers.sum() / numbers.len() as f64;
    let found = other["result"].as_f64().unwrap();
    assert!((found - wanted).abs() < 1e-12, "{found}, a sum over all of it gives {wanted}");
    assert_eq!(
        (&other["shape"], &other["dtype"], &other["array_bytes"]),
        (&[5600, 8].into(), &"f64".into(), &(700 * 512).into())
    );
    let number = |name: &str| other[name].as_f64().unwrap_or(f64::NAN);
    assert!((number("us_per_chunk") * 700.0 / 1e6 - number("total_s")).abs() < 1e-9, "{other}");
    assert!((number("plan_s") + number("run_s") - number("total_s")).abs() < 1e-9, "{other}");
    assert!(number("us_per_chunk_planned") <= number("us_per_chunk") && number("run_peak_rss_bytes") > 1e6, "{other}");

    let single = run("--chunks 40 --dtype f32 --chunk 30");
    assert_eq!((&single["shape"], &single["dtype"]), (&[1200, 30].into(), &"f32".into()));
    let text = example("overhead").args("--chunks 700 --threads 3").run().success().stdout;
    for words in ["700 chunks of 8 x 8", "us a chunk", "the array has 358 kB", "at its peak", "sigma"] {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
    // Many are not run twice, and the array is never held.
    let many = run("--chunks 60000 --chunk 20 --device cpu --threads 2 --memory-limit 60MB");
    assert!(many["array_bytes"].as_u64() > many["run_peak_rss_bytes"].as_u64(), "{many}");
    assert!(!many["checked"].to_string().contains("bit for bit"), "{many}");
}

/// What README and the crate's text say of memory, at a limit below the size of the data: what streams, and what does not.
#[test]
fn what_is_said_to_be_larger_than_memory_may_be() {
    let folder = Folder::new("larger");
    let run = |program: &str, flags: &str| {
        example(program).with_history(folder.path()).args(flags).args("--threads 2 --device cpu --memory-limit 40MB").run()
    };
    run("blocked_mean", "--make 60MB a.h5:/x").success();
    run("blocked_mean", "a.h5:/x").success();
    run("blocked_mean", "a.h5:/x --weights a.h5:/x").success();
    run("mandelbrot", "--size 4000x4000 --iterations 2 --png none --out c.npy").success();
    run("matvec", "--n 3000").success();
    run("mandelbrot", "--size 4000x4000 --iterations 2 --png c.png").failure(&["mandelbrot of shape", "40.0 MB"]);
    run("cholesky", "--n 3000").failure(&["40.0 MB"]);
}
