//! What it costs the CPU that there is a GPU: the time from `compute()` to the result of an expression that was never computed before, in a session with a GPU and in one without, in turns:
//! `cargo bench --bench first_use [-- --test]`. A software GPU will do: what is measured runs on the CPU in both.
//!
//! Owns: differences of times. Must not know: how programs come about. Invariant: each expression is another program, new to both sessions; who goes first alternates; a run of which the GPU had a part
//! does not count.

use std::time::Instant;

use chunkwise::ext::DeviceKind;
use chunkwise::ndarray::Array1;
use chunkwise::{Array, Placement, Session};

/// An expression that is no other's: of this number, in some base, digits say which operations follow each other.
fn expression(x: &Array<f64>, y: &Array<f64>, mut number: usize) -> Array<f64> {
    let mut z = x * 0.5;
    for _ in 0..6 {
        z = match number % 8 {
            0 => z + x,
            1 => z * y,
            2 => z.sin(),
            3 => (z - y).abs(),
            4 => z.maximum(x),
            5 => (z.abs() + 1.0).sqrt(),
            6 => (-(&z * &z)).exp(),
            _ => z / (y + 2.0),
        };
        number /= 8;
    }
    z
}

/// Seconds of `compute()`, and whether all of it ran on the CPU.
fn timed(session: &Session, numbers: &[Array1<f64>; 2], number: usize) -> (f64, bool) {
    let [x, y] = [0, 1].map(|which| Array::from(numbers[which].clone()).in_session(session));
    let array = expression(&x, &y, number);
    let began = Instant::now();
    let (_, report) = array.run().expect("it runs");
    let took_s = began.elapsed().as_secs_f64();
    (took_s, report.placement().iter().all(|part| !part.0.starts_with("gpu")))
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn main() {
    let is_test = std::env::args().any(|a| a == "--test");
    let (count, len) = if is_test { (20, 1 << 12) } else { (400, 1 << 16) };
    let with = Session::builder().allow_software(true).cache_dir("").build().expect("a session");
    with.calibrate();
    if !with.devices().iter().any(|spec| spec.kind == DeviceKind::Gpu) {
        println!("no GPU here, not even a software one: nothing to compare");
        return;
    }
    // Not calibrated, which would look for GPUs.
    let without = Session::builder().placement(Placement::Cpu).cache_dir("").build().expect("a session");
    let numbers = [1.0, 2.0].map(|a| Array1::from_iter((0..len).map(|i| a + (i % 1009) as f64 / 777.0)));
    // Pools, and what else is made once.
    for number in 0..8 {
        timed(&with, &numbers, number);
        timed(&without, &numbers, number);
    }
    let (mut more, mut times) = (Vec::new(), Vec::new());
    for number in 0..count {
        let unlike = 4096 + number * 613; // no digits in common with those before
        let both = if number % 2 == 0 {
            let first = timed(&with, &numbers, unlike);
            [first, timed(&without, &numbers, unlike)]
        } else {
            let second = timed(&without, &numbers, unlike);
            [timed(&with, &numbers, unlike), second]
        };
        if both.iter().all(|run| run.1) {
            more.push(both[0].0 - both[1].0);
            times.push(both[1].0);
        }
    }
    assert!(more.len() * 2 > count, "of {count} expressions {} ran on the CPU alone", more.len());
    let (more, times) = (sorted(more), sorted(times));
    let at = |all: &[f64], part: f64| all[((all.len() - 1) as f64 * part) as usize] * 1e3;
    println!(
        "{} new expressions of {len} numbers: {:.3} ms without a GPU (median); with one {:+.3} ms (median), {:+.3} ms (90th percentile)",
        more.len(),
        at(&times, 0.5),
        at(&more, 0.5),
        at(&more, 0.9)
    );
}
