//! Arrays of ten times the memory limit: each of these runs in a process of its own, whose peak the system tells. Needs no device.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use chunkwise::device::system::peak_rss_bytes;
use chunkwise::ndarray::{self, Axis, s};
use chunkwise::{Array, Placement, Session, compute_all, concatenate, store};
use support::folder::Folder;
use support::picture::picture;
use support::twice::Twice;

/// Rows and columns: 2.1 GB of `f64`.
const N: usize = 16_384;

/// What the process may take at most, code and threads included.
const PEAK: u64 = 260_000_000;

fn twice(array: &Array<f64>) -> Array<f64> {
    array.with_kernel(&[], Arc::new(Twice::default()), &())
}

fn session() -> Session {
    Session::builder().memory_limit("200MB").placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

fn close(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-3 * wanted.abs(), "{found}, not {wanted}");
}

/// What is computed, in a process of its own.
fn run(case: &str, folder: &Path) {
    let session = session();
    let random = |shape: &[usize]| session.default_rng().uniform::<f64>(shape);
    let file = |name: &str| folder.join(name).display().to_string();
    let open = |name: &str| Array::<f64>::open(&file(name)).expect("opens").in_session(&session);
    let value = |array: Array<f64>| array.compute_scalar().expect("computes");
    match case {
        "store random" => _ = random(&[N, N]).store(&file("x.npy")).expect("stores"),
        "file.with_kernel.mean" => close(value(twice(&open("x.npy")).mean()), 1.0),
        "random.mean" => close(value(random(&[N, N]).mean()), 0.5),
        "mandelbrot.mean" => {
            let counts = picture::<f64>(23_170, 23_170, 2).in_session(&session);
            close(value(counts.mean()), 1.9781);
        }
        "random.with_kernel.matvec.mean" => {
            let ones = Array::from(ndarray::Array1::from_elem(N, 1.0)).in_session(&session);
            close(value(twice(&random(&[N, N])).matvec(&ones).mean()), N as f64);
        }
        "weighted mean of two" => {
            let (x, w) = (random(&[N / 2, N]), random(&[N / 2, N]));
            close(value(x.weighted_mean(&w)), 0.5);
        }
        "several of one" => {
            let x = twice(&random(&[N, N]));
            let (mean, sum, weighted) = compute_all((&x.mean(), &x.sum(), &x.weighted_mean(&x))).expect("computes");
            close(mean[[]], 1.0);
            close(sum[[]], (N * N) as f64);
            close(weighted[[]], 4.0 / 3.0);
        }
        "concatenation of slices" => {
            let (x, y) = (open("x.npy").slice(s![..;2, ..]), open("x.npy").slice(s![5.., ..;-1]));
            close(value(concatenate(Axis(0), &[&x, &y]).mean()), 0.5);
        }
        "computed rows to columns" => {
            let columns = twice(&random(&[N / 4, N])).rechunk((N / 4, 512));
            columns.store(&file("c.npy")).expect("stores");
            close(value(open("c.npy").mean()), 1.0);
        }
        "file.t stored" => {
            let x = open("x.npy");
            x.t().store(&file("t.npy")).expect("stores");
            let (some, turned) = (x.slice(s![7..9, ..;4000]), open("t.npy").slice(s![..;4000, 7..9]));
            assert_eq!(turned.t().compute().expect("computes"), some.compute().expect("computes"));
        }
        other => panic!("no case {other}"),
    }
    let peak = peak_rss_bytes();
    println!("{case}: {:.0} MB", peak as f64 / 1e6);
    assert!(peak < PEAK, "{case} took {peak} B");
}

#[test]
fn ten_times_the_limit_streams() {
    if let (Some(case), Some(folder)) = (std::env::var_os("CHUNKWISE_CASE"), std::env::var_os("CHUNKWISE_FOLDER")) {
        return run(&case.to_string_lossy(), Path::new(&folder));
    }
    let folder = Folder::new("streaming");
    for case in [
        "store random",
        "file.with_kernel.mean",
        "random.mean",
        "mandelbrot.mean",
        "random.with_kernel.matvec.mean",
        "weighted mean of two",
        "several of one",
        "concatenation of slices",
        "computed rows to columns",
        "file.t stored",
    ] {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "ten_times_the_limit_streams", "--nocapture"]);
        command.env("CHUNKWISE_CASE", case).env("CHUNKWISE_FOLDER", folder.path());
        let begun = std::time::Instant::now();
        let output = command.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{case}: {text}");
        println!(
            "{} in {:.1} s",
            text.lines().find(|line| line.starts_with(case)).unwrap_or(""),
            begun.elapsed().as_secs_f64()
        );
    }
    assert_eq!(store::open(&folder.spec("t.npy")).expect("there").shape(), [N, N]);
}
