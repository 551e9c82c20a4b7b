//! Processes that end while GPUs are being looked for.
//!
//! Owns: what the end of a program, or of a thread, waits for. Must not know: drivers. Invariant: the programs here are this test again, in processes of their own: a crash of one
//! is seen here as a signal.

use std::process::{Child, Command};

use chunkwise::Array;

/// Set in the processes that are to end.
const WAY: &str = "CHUNKWISE_TEST_ENDS";

/// Enough work that GPUs are looked for, and too little to wait for them.
fn work() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mean = Array::<f64>::random_uniform((20_000 * threads, 2000)).mean().compute().expect("computes").sum();
    assert!((mean - 0.5).abs() < 0.01, "{mean}");
}

/// What the processes do; as a test of its own it does nothing.
#[test]
fn ends() {
    match std::env::var(WAY).as_deref() {
        Ok("thread") => work(), // a thread of the test harness, which joins it and goes on to end the process
        Ok("exit") => {
            work();
            std::process::exit(0)
        }
        Ok("beside") => {
            // The thread that ends the process came second, while the search went on; the first one does not end.
            let (done, is_done) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                work();
                done.send(()).expect("waits");
                loop {
                    std::thread::park();
                }
            });
            is_done.recv().expect("computes");
            let why = chunkwise::Session::global().why_no_gpu();
            assert!(!why.starts_with("not looked for"), "{why}");
            work();
            std::process::exit(0)
        }
        Ok("discovered") => {
            // Another thread ends the process, right after the search.
            chunkwise::Session::global().discover();
            std::thread::spawn(|| std::process::exit(0)).join().expect("does not come back");
        }
        Ok(other) => panic!("no way {other}"),
        Err(_) => {}
    }
}

fn begin(way: &str, cache: &std::path::Path) -> Child {
    let mut this = Command::new(std::env::current_exe().expect("this test"));
    this.args(["--exact", "ends", "--test-threads=1"]).env(WAY, way).env("XDG_CACHE_HOME", cache);
    this.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    this.spawn().expect("starts")
}

#[test]
fn a_program_may_end_while_a_driver_is_loaded() {
    let cache = tempfile::tempdir().expect("a folder");
    for way in ["thread", "exit", "beside", "discovered"] {
        for _ in 0..3 {
            let begun: Vec<Child> = (0..4).map(|_| begin(way, cache.path())).collect();
            for mut child in begun {
                let status = child.wait().expect("ends");
                assert!(status.success(), "{way}: {status}");
            }
        }
    }
}
