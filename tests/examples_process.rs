//! The example programs as processes: full disks, limits, closed pipes, signals.
//!
//! Invariant: under a final name there is a whole file or none.
#![cfg(target_os = "linux")]

use std::time::Duration;

use support::programs::{Folder, data, example};

#[test]
fn full_devices_are_errors() {
    let small = || example("mandelbrot").args("--size 60x40");
    small().args("--png /dev/full").run().failure(&["/dev/full", "No space left"]);
    small().args("--png none --trace /dev/full").run().failure(&["/dev/full", "No space left"]);
    small().args("--png none").stdout_to("/dev/full").run().failure(&["stdout", "No space left"]);
    small().args("--png none --json").stdout_to("/dev/full").run().failure(&["stdout", "No space left"]);
    small().args("--png none --explain").stdout_to("/dev/full").run().failure(&["stdout", "No space left"]);
    let folder = Folder::new("full");
    for (name, program, flags) in [
        ("full.npy", "mandelbrot", "--size 60x40 --png none --out full.npy"),
        ("full.npy", "matvec", "--n 50 --out full.npy"),
        ("full.h5", "cholesky", "--n 50 --out full.h5:/L"),
        ("full.h5", "blocked_mean", "--make 1MB full.h5:/x"),
    ] {
        std::os::unix::fs::symlink("/dev/full", folder.file(name)).unwrap();
        example(program).within(folder.path()).args(flags).run().failure(&["/dev/full", "not a regular file"]);
        assert_eq!(folder.names(), [name], "the link stays, and nothing is beside it");
        std::fs::remove_file(folder.file(name)).unwrap();
    }
}

#[test]
fn paths_that_cannot_be_written_are_told_before_the_work() {
    // Ten thousand iterations of a large picture would take far longer than the limit here.
    let long = "--size 20000x20000 --iterations 100000";
    for flags in ["--png nowhere/p.png", "--png /", "--png none --out nowhere/c.npy", "--png none --trace nowhere/t.json"] {
        let run = example("mandelbrot").args(long).args("--memory-limit 3GB").args(flags).limit(Duration::from_secs(20));
        run.run().failure(&[]);
    }
    example("matvec").args("--n 10 --out nowhere/y.npy").run().failure(&["nowhere/y.npy"]);
    example("cholesky").args("--n 10 --out nowhere/l.npy").run().failure(&["nowhere/l.npy"]);
}

#[test]
fn a_file_size_limit_leaves_no_part_of_a_file() {
    let folder = Folder::new("ulimit");
    for (program, flags) in [
        ("mandelbrot", "--size 300x300 --png none --out c.npy"),
        ("mandelbrot", "--size 300x300 --png none --out c.h5:/c"),
        ("mandelbrot", "--size 3000x300 --iterations 200 --png p.png"),
        ("mandelbrot", "--size 300x300 --png none --chunk 5 --trace t.json"),
        ("matvec", "--rows 20000 --cols 3 --out y.npy"),
        ("blocked_mean", "--make 1MB m.h5:/x"),
        ("cholesky", "--n 120 --out l.npy"),
    ] {
        let output = example(program).with_history(folder.path()).args(flags).file_size_limit(40).run();
        output.failure(&[]);
        assert_eq!(folder.names(), Vec::<String>::new(), "{program} {flags}");
        example(program).with_history(folder.path()).args(flags).run().success();
        assert_eq!(folder.names().len(), 1, "{program} {flags}");
        let before = folder.names();
        let old = std::fs::read(folder.file(&before[0])).unwrap();
        example(program).with_history(folder.path()).args(flags).file_size_limit(40).run().failure(&[]);
        assert_eq!(std::fs::read(folder.file(&before[0])).unwrap(), old, "the old file is untouched");
        assert_eq!(folder.names(), before);
        std::fs::remove_file(folder.file(&before[0])).unwrap();
    }
}

#[test]
fn nobody_reads_any_more() {
    let mean = data("chunked.h5:/edge");
    for (program, flags) in [
        ("devices", ""),
        ("mandelbrot", "--size 60x40 --png none"),
        ("matvec", "--n 20 --explain"),
        ("blocked_mean", mean.as_str()),
        ("cholesky", "--n 20 --json"),
        ("overhead", "--tasks 10"),
    ] {
        let output = example(program).args(flags).closed_stdout().run();
        assert!(output.code == 0 && output.stderr.is_empty(), "{output:#?}");
    }
}

#[test]
fn an_interrupt_leaves_no_file() {
    let folder = Folder::new("interrupt");
    for (program, flags, signal, code) in [
        ("mandelbrot", "--size 3000x3000 --iterations 1000000 --png none --out c.npy", "INT", 130),
        ("mandelbrot", "--size 3000x3000 --iterations 1000000 --png p.png --out c.h5:/c", "TERM", 143),
        ("blocked_mean", "--make 4GB m.h5:/x", "INT", 130),
    ] {
        let running = example(program).with_history(folder.path()).args(flags).start();
        running.wait_for_file("tmp-");
        running.signal(signal);
        let output = running.wait(Duration::from_secs(20));
        assert_eq!(output.code, code, "{output:#?}");
        assert!(output.stderr.contains("interrupted") && output.stdout.is_empty(), "{output:#?}");
        assert_eq!(folder.names(), Vec::<String>::new(), "{program} {flags}");
    }
    // The next run works.
    example("mandelbrot").with_history(folder.path()).args("--size 60x40 --png none --out c.npy").run().success();
    assert_eq!(folder.names(), ["c.npy"]);
}

#[test]
fn an_ignored_signal_stays_ignored() {
    let slow = || example("mandelbrot").args("--size 3000x3000 --iterations 1000000 --png none --out c.npy");
    for (ignored, other, code) in [("INT", "TERM", 143), ("TERM", "INT", 130)] {
        let running = slow().ignoring(ignored).start();
        running.wait_for_file("tmp-");
        running.signal(ignored);
        std::thread::sleep(Duration::from_millis(300));
        running.signal(other);
        let output = running.wait(Duration::from_secs(20));
        assert_eq!(output.code, code, "{output:#?}");
    }
}

/// Cleaning up hangs here: the page of an interrupted comparison goes into a pipe that nobody reads.
#[test]
fn a_second_signal_ends_what_hangs() {
    let folder = Folder::new("second");
    std::fs::create_dir(folder.file("r")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.file("r/compare.md")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let args = "--workloads mandelbrot --sizes 6000 --dtype f64 --budget 3000 --out r";
    let run = example("compare").with_history(folder.path()).env("TMPDIR", &folder.spec(".")).args(args);
    let mut running = run.start();
    running.wait_for_file("chunkwise-"); // the folder for its data: interrupts are seen to by then
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(2500)); // longer than it waits for a row that is being stored
    assert!(!running.has_ended(), "cleaning up was to hang");
    running.signal("INT");
    let output = running.wait(Duration::from_secs(5));
    assert_eq!((output.code, output.stdout.as_str()), (130, ""), "{output:#?}");
}

/// Memory that is refused is an error where it can be one; the memory of the allocator itself cannot, so it must not run out.
#[test]
fn few_addresses_are_an_error_and_no_abort() {
    for kib in [300_000, 400_000, 600_000] {
        for (program, flags) in [
            ("two_pools", "--rounds 1 --links 20000"),
            ("compare", "--workloads matvec --sizes 500 --budget 1 --out cc -q"),
            ("mandelbrot", "--size 1200x800 -q"),
            ("cholesky", "--n 1000 --device cpu"),
            ("custom_kernel", "--n 1000000 --generations 2"),
        ] {
            let output = example(program).args(flags).address_limit(kib).run();
            assert!(output.code <= 1 && !output.stderr.contains("memory allocation"), "{kib} KiB: {output:#?}");
        }
    }
}

/// What it prints is its own peak, not that of the large process that started it.
#[test]
fn the_peak_of_memory_is_the_programs_own() {
    let large = std::hint::black_box(vec![1u8; 400 << 20]);
    let json = example("matvec").args("--n 20 --threads 1 --json").run().success().json();
    let peak = json["peak_rss_bytes"].as_u64().expect("a number");
    assert!((1 << 20..200 << 20).contains(&peak), "{peak} B of a parent with {} B", large.len());
}
