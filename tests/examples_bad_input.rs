//! Bad input to the example programs: one clear error at once, no panic, nothing half-written.
//!
//! Invariant: every failure here goes through `Output::failure` (code 1) or is a usage error (code 2).

use support::programs::{Folder, Output, data, example, write_npy};

/// Fails the test unless the flags were refused: exit code 2, with words on stderr and nothing on stdout.
#[track_caller]
fn refused(program: &str, flags: &str, word: &str) {
    let output = example(program).args(flags).run();
    assert!(output.code == 2 && output.stdout.is_empty(), "{output:#?}");
    assert!(output.stderr.starts_with("error: ") && output.stderr.contains(word), "no `{word}` in {output:#?}");
}

#[track_caller]
fn fails(program: &str, flags: &str, words: &[&str]) -> Output {
    example(program).args(flags).run().failure(words)
}

#[test]
fn flags_out_of_range_are_usage_errors() {
    for program in ["mandelbrot", "matvec", "blocked_mean", "cholesky", "overhead", "devices"] {
        refused(program, "--chunk 0", "at least 1");
        refused(program, "--threads 0", "at least 1");
        refused(program, "--device tpu", "--device");
        refused(program, "--dtype f16", "f64");
        refused(program, "--memory-limit many", "1.5GB");
    }
    refused("matvec", "--memory-limit -5", "above 0");
    let pools = example("two_pools").args("--threads 5000").run();
    assert!(pools.stdout.is_empty(), "no table begins: {:#?}", pools.failure(&["threads = 5000"]));
    refused("mandelbrot", "--window=-1.5,0,-1,nan", "finite");
    refused("mandelbrot", "--window -1.5,0,-1,-inf", "finite");
    refused("mandelbrot", "--window=-1.5,0,-1", "four numbers");
    refused("mandelbrot", "--window=a,b,c,d", "four numbers");
    refused("mandelbrot", "--size 120", "WIDTHxHEIGHT");
    refused("mandelbrot", "--size=-1x5", "WIDTHxHEIGHT");
    refused("mandelbrot", "--iterations 2147483648", "2147483647");
    for crop in ["0,41,0,60", "0,40,0,61", "5,5,0,60", "9,5,0,60"] {
        refused("mandelbrot", &format!("--size 60x40 --crop {crop}"), "inside the 40 rows and 60 columns");
    }
    refused("mandelbrot", "--crop 1,2,3", "four numbers");
    refused("matvec", "--repeat 0", "1");
    refused("matvec", "--rows 5", "--cols");
    refused("mandelbrot", "--png picture.jpg", "ends in .png");
    refused("matvec", "--n 5 --rows 5 --cols 5", "cannot be used");
    refused("matvec", "--matrix a.npy", "--vector");
    refused("cholesky", "--n 5 --input a.npy", "cannot be used");
    refused("overhead", "--tasks 0", "--tasks");
    refused("overhead", "--tasks 100000000000", "--tasks");
    for chunks in ["0", "20000001", "-1", "many", "1.5"] {
        refused("overhead", &format!("--chunks={chunks}"), "--chunks");
    }
    refused("overhead", "--chunks 5 --tasks 5", "cannot be used");
    refused("blocked_mean", "", "<FILE>");
    refused("blocked_mean", "a.npy --make 0", "above 0");
}

#[test]
fn chunks_that_are_too_many_or_too_large_are_said_so() {
    let few =
        fails("overhead", "--chunks 200000 --memory-limit 5MB", &["the bookkeeping of ", "fewer chunks: --chunks"]).stderr;
    assert!(!few.contains("--chunk "), "larger chunks are as many: {few}");
    fails("overhead", "--chunks 5 --chunk 4000000000000", &["does not fit", "2^59 elements"]);
    fails("overhead", "--chunks 5 --chunk 18446744073709551615", &["does not fit", "2^59 elements"]);
}

#[test]
fn nothing_and_one_are_sizes_too() {
    let folder = Folder::new("empty");
    for (program, flags) in [
        ("mandelbrot", "--size 0x0"),
        ("mandelbrot", "--size 0x5 --out c.npy"),
        ("mandelbrot", "--size 5x0 --out c.h5:/c"),
        ("mandelbrot", "--size 1x1 --png one.png"),
        ("mandelbrot", "--size 5x3 --iterations 0 --png none"),
        ("matvec", "--n 0"),
        ("matvec", "--n 1"),
        ("matvec", "--rows 0 --cols 5 --out y.npy"),
        ("matvec", "--rows 5 --cols 0 --out y.h5:/y"),
        ("cholesky", "--n 0"),
        ("cholesky", "--n 1"),
        ("overhead", "--tasks 1"),
        ("overhead", "--chunks 1 --chunk 1"),
        ("blocked_mean", "--make 1 m.h5:/x"),
    ] {
        for more in ["", " --json", " --explain"] {
            let _ = std::fs::remove_file(folder.file("m.h5")); // --make replaces nothing
            example(program).within(folder.path()).args(flags).args(more).run().success();
        }
    }
    assert_eq!(folder.names(), ["c.h5", "c.npy", "m.h5", "one.png", "y.h5", "y.npy"]);
}

#[test]
fn sizes_beyond_any_machine_are_refused_at_once() {
    let huge = 100_000_000_000u64;
    fails("mandelbrot", &format!("--size {huge}x{huge}"), &["mandelbrot"]);
    for size in [format!("{huge}x1"), format!("1x{huge}"), format!("{huge}x10")] {
        fails("mandelbrot", &format!("--size {size} --memory-limit 1GB"), &["mandelbrot of shape", "more than the 1.00 GB"]);
    }
    fails("matvec", &format!("--n {huge}"), &["random_uniform", "2^59"]);
    fails("matvec", &format!("--rows {huge} --cols 1 --memory-limit 1GB"), &["matvec of shape", "more than the 1.00 GB"]);
    fails("cholesky", &format!("--n {huge}"), &["2^59"]);
    fails("cholesky", "--n 1000000 --memory-limit 1GB", &["more than the 1.00 GB"]);
    fails("blocked_mean", "--make 100000TB m.h5:/x", &["m.h5", "its disk has"]);
    let chunks = example("blocked_mean").arg(data("chunked.h5:/huge")).args("--chunk 1").run();
    chunks.failure(&["tasks in one graph", "larger chunks"]);
}

#[test]
fn chunks_larger_than_the_array_are_cut_to_it() {
    for (program, flags) in [("mandelbrot", "--size 9x7 --png none"), ("matvec", "--n 9"), ("cholesky", "--n 9")] {
        let text = example(program).args(flags).args("--chunk 4000000000").run().success().stdout;
        assert!(text.lines().next().is_some_and(|line| line.contains("   1 ")), "{text}");
    }
}

#[test]
fn devices_that_are_not_there() {
    let found = example("devices").args("--json").run().success().json();
    let gpu = found["devices"].as_array().unwrap().iter().any(|d| d["kind"] == "gpu");
    for program in ["mandelbrot", "matvec", "cholesky", "overhead"] {
        if !gpu {
            let error = fails(program, "--device gpu", &["no gpu device", "--device cpu"]).stderr;
            assert!(!error.contains("none"), "{error}");
        }
        fails(program, "--device 7", &["number 7", "0 = cpu"]);
        fails(program, "--device 1", &["number 1", "io serves files"]);
        fails(program, "--threads 4096", &["threads = 4096: choose 1 to", "cores gain nothing from more"]);
    }
    let json = example("mandelbrot").args("--size 9x7 --png none --device 0 --json").run().success().json();
    assert_eq!((&json["device"], &json["placement"]["cpu"]), (&"0".into(), &1.into()));
}

#[test]
fn shapes_that_do_not_match_are_named() {
    let folder = Folder::new("shapes");
    write_npy(&folder.file("a.npy"), &[3, 2], &[1.0; 6]);
    write_npy(&folder.file("x.npy"), &[3], &[1.0; 3]);
    let run = |program: &str, flags: &str| example(program).within(folder.path()).args(flags).run();
    run("matvec", "--matrix a.npy --vector x.npy --out y.npy").failure(&["[3]", "[2]", "[3, 2]"]);
    run("matvec", "--matrix x.npy --vector x.npy --out y.npy").failure(&["matrix"]);
    run("matvec", "--matrix a.npy --vector a.npy --out y.npy").failure(&["[3, 2]", "vector"]);
    run("blocked_mean", "a.npy --weights x.npy").failure(&["[3]", "[3, 2]"]);
    run("cholesky", "--input a.npy --out l.npy").failure(&["[3, 2]"]);
    run("cholesky", "--input x.npy --out l.npy").failure(&["[3]"]);
    assert_eq!(folder.names(), ["a.npy", "x.npy"]);
}

#[test]
fn matrices_without_a_factor_name_the_row() {
    let folder = Folder::new("pivot");
    write_npy(&folder.file("bad.npy"), &[3, 3], &[4.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -2.0]);
    write_npy(&folder.file("nan.npy"), &[2, 2], &[4.0, 0.0, f64::NAN, 5.0]);
    let run = |flags: &str| example("cholesky").within(folder.path()).args(flags).run();
    for chunk in ["", " --chunk 1", " --chunk 2"] {
        run(&format!("--input bad.npy --out l.npy{chunk}")).failure(&["not positive definite", "row 2"]);
        run(&format!("--input nan.npy --out l.npy{chunk}")).failure(&["not positive definite", "row 1"]);
    }
    assert_eq!(folder.names(), ["bad.npy", "nan.npy"]);
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let folder = Folder::new("files");
    let mean = |spec: &str, words: &[&str]| {
        example("blocked_mean").within(folder.path()).arg(spec).run().failure(words);
        let matvec = example("matvec").within(folder.path()).arg("--matrix").arg(spec).arg("--vector").arg(data("one.npy"));
        matvec.run().failure(words);
        example("cholesky").within(folder.path()).arg("--input").arg(spec).run().failure(words);
    };
    mean("missing.h5:/x", &["missing.h5", "No such file"]);
    mean("missing.npy", &["missing.npy", "No such file"]);
    mean(&data("plain.h5:/nothing_here"), &["no dataset /nothing_here", "/contiguous"]);
    mean(&data("plain.h5:/group"), &["/group is a group", "/group/inner/deep"]);
    mean(&data("plain.h5:/dangling"), &["/dangling"]);
    mean(&data("plain.h5"), &["plain.h5:/DATASET"]);
    mean(&data("plain.h5:/null"), &["no shape"]);
    mean(&data("make_fixtures.py:/x"), &["not an HDF5 file"]);
    for text in ["plain.h5:/text", "plain.h5:/words", "plain.h5:/complex", "text.npy", "records.npy"] {
        mean(&data(text), &["dtype", "float64"]);
    }
    mean(&data("packed.h5:/zstd"), &["zstd", "HDF5_PLUGIN_PATH"]);
    mean(&data("links.h5:/gone"), &["/gone is a link", "no_such_file.h5"]);
    mean("s3://bucket/a.h5:/x", &["s3:// is not served"]);
    let run = |out: &str| {
        example("mandelbrot").within(folder.path()).args("--size 1000000000000000x1 --png none --out").arg(out).run()
    };
    run("x.npy").failure(&["x.npy: needs 4.00 PB", "free"]);
    run("x.h5:/x").failure(&["x.h5: needs 4.00 PB", "free"]);
    run("http://host/x.npy").failure(&["http:// is not served"]);
    assert_eq!(folder.names(), [""; 0]);
    std::fs::create_dir(folder.file("folder.h5")).unwrap();
    std::fs::create_dir(folder.file("folder.npy")).unwrap();
    mean("folder.h5:/x", &["folder.h5"]);
    mean("folder.npy", &["folder.npy"]);
    mean(".", &["FILE.h5:/DATASET"]);
    for (name, dataset) in [("plain.h5", ":/contiguous"), ("chunked.h5", ":/edge"), ("c.npy", "")] {
        let whole = std::fs::read(data(name)).unwrap();
        for keep in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
            std::fs::write(folder.file(name), &whole[..keep]).unwrap();
            let output = example("blocked_mean").within(folder.path()).arg(format!("{name}{dataset}")).run();
            // A file cut behind the dataset's own bytes may still hold all of it.
            if output.code != 0 {
                output.failure(&[name]);
            } else {
                assert!(keep > whole.len() / 3, "{name} cut to {keep} bytes: {output:#?}");
            }
        }
    }
}

/// The word after `flag` in an error's hint.
#[track_caller]
fn suggested(output: &Output, flag: &str) -> String {
    let after = output.stderr.split(flag).nth(1).unwrap_or_else(|| panic!("no {flag} in {output:#?}"));
    after.split_whitespace().next().expect("a value").to_owned()
}

#[test]
fn what_a_refusal_suggests_works() {
    let folder = Folder::new("limits");
    let run = |program: &str, flags: &str| example(program).within(folder.path()).args(flags).args("--threads 2").run();
    for (program, flags, limit) in [
        ("matvec", "--n 2000", "3MB"),
        ("mandelbrot", "--size 1500x1500 --png none --out c.npy", "900kB"),
        ("cholesky", "--n 300", "2.5MB"),
    ] {
        let output =
            run(program, &format!("{flags} --memory-limit {limit}")).failure(&["at once, more than the", "memory allowed"]);
        let larger = suggested(&output, "--memory-limit ");
        run(program, &format!("{flags} --memory-limit {larger}")).success();
        assert!(output.stderr.contains("task "), "names the task: {output:#?}");
        let chunk = suggested(&output, "--chunk ");
        run(program, &format!("{flags} --memory-limit {limit} --chunk {chunk}")).success();
    }
    let picture = run("mandelbrot", "--size 1500x1500 --memory-limit 2MB");
    picture.failure(&["mandelbrot of shape [1500, 1500]", "--png none --out", "--memory-limit 9."]);
    assert_eq!(folder.names(), ["c.npy"]);
}

#[test]
fn one_step_is_enough_whatever_is_short() {
    let folder = Folder::new("steps");
    // On the CPU: a driver that is loaded to look for GPUs takes what it likes.
    let run = |program: &str, flags: &str| {
        example(program).within(folder.path()).args(flags).args("--threads 2 --device cpu --json").run()
    };
    let base = run("matvec", "--n 1").success().json()["peak_rss_bytes"].as_u64().expect("bytes");
    for (program, flags, limit, short) in [
        ("matvec", "--n 1500", 1, "matvec of shape [1500]"),
        ("matvec", "--n 1500 --chunk 100", 1, "matvec of shape [1500]"),
        ("matvec", "--n 3000 --chunk 3", 100_000_000, "the bookkeeping of 1001000 tasks"),
        ("matvec", "--n 3000 --chunk 1", 100_000_000, "the bookkeeping of 9003000 tasks"),
        ("cholesky", "--n 2000 --chunk 10", 100_000_000, "the bookkeeping of 1353400 tasks"),
        ("cholesky", "--n 500", 1_000_000, "cholesky of shape [500, 500]"),
        ("cholesky", "--n 1000 --chunk 750 --dtype f32", 5_000_000, "task "),
        ("custom_kernel", "--n 400000 --generations 3", 1_000_000, "example::logistic of shape [400000] with its inputs"),
        ("overhead", "--tasks 100000", 5_000_000, "the bookkeeping of 100000 tasks"),
        ("overhead", "--chunks 200000", 5_000_000, "the bookkeeping of "),
        ("mandelbrot", "--size 1500x1500 --png none", 2_000_000, "mandelbrot of shape [1500, 1500]"),
    ] {
        let output = run(program, &format!("{flags} --memory-limit {limit}")).failure(&[short, "memory allowed"]);
        assert!(program == "mandelbrot" || !output.stderr.contains("--out"), "it does not stream: {output:#?}");
        let mut followed = 0;
        for flag in ["--memory-limit", "--chunk"].iter().filter(|f| output.stderr.contains(&format!("{f} "))) {
            let value = suggested(&output, &format!("{flag} "));
            let others: Vec<&str> = flags.split(" --").filter(|f| !flag.ends_with(f.split(' ').next().unwrap_or(""))).collect();
            let limit = if *flag == "--chunk" { format!("--memory-limit {limit}") } else { String::new() };
            let json = run(program, &format!("{} {limit} {flag} {value}", others.join(" --"))).success().json();
            if *flag == "--chunk" {
                let peak = json["peak_rss_bytes"].as_u64().expect("bytes").saturating_sub(base);
                // What an allocator keeps between 63 000 blocks of 512 B is not counted: 5 to 14 MB with glibc's.
                assert!(peak <= 120_000_000, "{program} {flags} with {flag} {value} takes {peak} B");
            }
            followed += 1;
        }
        assert!(followed > 0, "{output:#?}");
    }
    run("cholesky", "--n 20000 --memory-limit 3GB").failure(&["GB of host memory allowed", "--memory-limit 3."]);
    for out in ["", "--out x.npy", "--png none --out x.npy"] {
        run("mandelbrot", &format!("--size 1000000000000x1 {out}")).failure(&[if out.is_empty() {
            "chunk"
        } else {
            "its disk"
        }]);
    }
    assert!(folder.names().iter().all(|name| name == "mandelbrot.png"), "{:?}", folder.names());
}

#[test]
fn no_file_is_read_and_written_or_written_twice() {
    let folder = Folder::new("same");
    write_npy(&folder.file("A.npy"), &[2, 2], &[4.0, 0.0, 0.0, 4.0]);
    write_npy(&folder.file("x.npy"), &[2], &[1.0; 2]);
    std::fs::copy(data("plain.h5").split(':').next().unwrap(), folder.file("z.h5")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("A.npy", folder.file("link.npy")).unwrap();
    let before = |name: &str| std::fs::read(folder.file(name)).unwrap();
    let (a, z, names) = (before("A.npy"), before("z.h5"), folder.names());
    for (program, flags) in [
        ("mandelbrot", "--size 20x20 --png none --out a.npy --trace a.npy"),
        ("mandelbrot", "--size 20x20 --png none --out z.h5:/A --trace z.h5"),
        ("mandelbrot", "--size 20x20 --png b.png --trace ./b.png"),
        ("mandelbrot", "--size 20x20 --png z.h5.png --out z.h5.png:/A"),
        ("blocked_mean", "A.npy --trace A.npy"),
        ("blocked_mean", "--make 1kB m.h5:/x --weights m.h5://x"),
        ("matvec", "--matrix A.npy --vector x.npy --out A.npy"),
        ("matvec", "--matrix A.npy --vector x.npy --trace x.npy"),
        ("cholesky", "--input A.npy --out ./A.npy"),
        #[cfg(unix)]
        ("cholesky", "--input link.npy --out A.npy"),
        ("custom_kernel", "--n 9 --out y.npy --trace y.npy"),
    ] {
        let output = example(program).within(folder.path()).args(flags).run();
        assert!(output.code == 2 && output.stderr.contains("are the same file"), "{output:#?}");
        assert_eq!(folder.names(), names, "{program} {flags}");
    }
    assert!(before("A.npy") == a && before("z.h5") == z);
    let run = |program: &str, flags: &str| example(program).within(folder.path()).args(flags).run().success();
    run("blocked_mean", "--make 1kB two.h5:/a");
    // A flag too many does not replace numbers.
    for data in ["A.npy", "z.h5:/contiguous", "z.h5:/words", "two.h5:/a"] {
        let file = data.split(':').next().unwrap_or(data);
        let numbers = before(file);
        let output = example("blocked_mean").within(folder.path()).args(&format!("--make 1kB {data}")).run();
        output.failure(&["is there already; leave --make out"]);
        assert!(before(file) == numbers, "{data}");
    }
    run("mandelbrot", "--size 9x9 --png none --out two.h5:/b");
}

/// What programs hold beside what the library counts is little: what an allocator keeps, no array.
#[test]
fn programs_stay_within_the_limit() {
    let folder = Folder::new("peaks");
    // On the CPU: a driver that is loaded to look for GPUs takes what it likes.
    let peak = |program: &str, flags: &str| {
        let run = example(program).within(folder.path()).args(flags).args("--threads 2 --device cpu --json").run();
        run.success().json()["peak_rss_bytes"].as_u64().expect("bytes")
    };
    let base = peak("matvec", "--n 1");
    for (program, flags, limit) in [
        ("mandelbrot", "--size 3000x4000 --iterations 3 --png o.png --out o.npy", 50),
        ("mandelbrot", "--size 3500x3500 --iterations 3 --crop 0,3500,100,3500", 51),
        ("matvec", "--rows 6000000 --cols 2 --repeat 3 --out y.npy", 70),
        ("cholesky", "--n 4000 --chunk 300 --dtype f32 --out L.h5:/L", 110),
        ("custom_kernel", "--n 4000000 --generations 1 --out g.npy", 98),
    ] {
        let peak = peak(program, &format!("{flags} --memory-limit {limit}MB")).saturating_sub(base);
        assert!(peak <= (limit + 20) * 1_000_000, "{program} {flags}: {peak} B beside the program's own");
    }
}

#[test]
fn a_limit_that_is_suggested_is_enough_for_all_of_a_program() {
    let folder = Folder::new("phases");
    let run = |program: &str, flags: &str| {
        example(program).within(folder.path()).args(flags).args("--threads 2 --device cpu --json").run()
    };
    for (program, flags, limit) in [
        ("custom_kernel", "--n 500000 --generations 3", "1MB"),
        ("custom_kernel", "--n 500000 --generations 3 --out k.npy", "5MB"),
        ("cholesky", "--n 700 --chunk 500 --dtype f32", "2MB"),
        ("blocked_mean", "mk.h5:/d --make 6MB --dtype f32", "500kB"),
        ("mandelbrot", "--size 9x9 --png none", "1"),
        ("mandelbrot", "--size 9x9 --png none", "1e3"),
    ] {
        let output = run(program, &format!("{flags} --memory-limit {limit}")).failure(&["host memory allowed"]);
        assert!(!output.stderr.contains("--out"), "that would not fit either: {output:#?}");
        let larger = suggested(&output, "--memory-limit ");
        run(program, &format!("{flags} --memory-limit {larger}")).success();
        if output.stderr.contains("--chunk ") {
            let chunk = suggested(&output, "--chunk ");
            run(program, &format!("{} --memory-limit {limit} --chunk {chunk}", flags.replace("--chunk 500 ", ""))).success();
        }
    }
}
