//! Reductions beside a plain read of as many bytes, interleaved in one process: whole calls. `cargo bench --bench reductions [-- --test]`; figures are medians of 9 rounds on two
//! threads.
//!
//! Owns: ratios. Must not know: runs, lanes. Invariant: both sides read the same bytes, which lie in memory; ours is checked against a plain sum.

use std::time::Instant;

use chunkwise::ndarray::{Array2, Axis};
use chunkwise::shape::Float;
use chunkwise::{Array, Session};

const THREADS: usize = 2;

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Reads all numbers on two threads, as fast as they come: their sum.
fn read<T: Float>(x: &[T]) -> f64 {
    let half = |x: &[T]| {
        let mut lanes = [T::default(); 64];
        for group in x.as_chunks::<64>().0 {
            for (lane, &x) in lanes.iter_mut().zip(group) {
                *lane = T::from_f64(lane.to_f64() + x.to_f64());
            }
        }
        lanes.iter().map(|lane| lane.to_f64()).sum::<f64>()
    };
    let (left, right) = x.split_at(x.len() / 2);
    std::thread::scope(|scope| {
        let right = scope.spawn(|| half(right));
        half(left) + right.join().expect("a loop")
    })
}

/// A reduction: of a matrix, and of a second one of the same shape; how often elements are read for it.
type Case<T> = (&'static str, fn(&Array<T>, &Array<T>) -> Array<f64>, f64);

fn cases<T: Float>() -> Vec<Case<T>> {
    vec![
        ("sum", |x, _| x.sum().cast(), 1.0),
        ("mean", |x, _| x.mean(), 1.0),
        ("var", |x, _| x.var(0.0), 1.0),
        ("min", |x, _| x.min().cast(), 1.0),
        ("argmax", |x, _| x.argmax().cast(), 1.0),
        ("sum((x - m)^2)", |x, _| (x - T::from_f64(0.5)).square().sum().cast(), 1.0),
        ("weighted mean", |x, y| x.weighted_mean(y), 2.0),
        ("sum, axis 0", |x, _| x.sum_axis(Axis(0)).cast(), 1.0),
        ("sum, axis 1", |x, _| x.sum_axis(Axis(1)).cast(), 1.0),
        ("var, axis 0", |x, _| x.var_axis(Axis(0), 0.0), 1.0),
        ("var, axis 1", |x, _| x.var_axis(Axis(1), 0.0), 1.0),
        ("min, axis 0", |x, _| x.min_axis(Axis(0)).cast(), 1.0),
        ("min, axis 1", |x, _| x.min_axis(Axis(1)).cast(), 1.0),
        ("argmax, axis 0", |x, _| x.argmax_axis(Axis(0)).cast(), 1.0),
        ("argmax, axis 1", |x, _| x.argmax_axis(Axis(1)).cast(), 1.0),
    ]
}

fn compare<T: Float>(n: usize, rounds: usize) {
    let session = Session::builder().threads(THREADS).cache_dir("").build().expect("default settings");
    let of = |i: usize| T::from_f64(((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64);
    let numbers: Vec<T> = (0..n * n).map(of).collect();
    let matrix = |numbers: Vec<T>| Array2::from_shape_vec((n, n), numbers).expect("n times n");
    let (c, f) = (matrix(numbers.clone()), matrix(numbers.clone()).reversed_axes());
    let arrays = [c, f].map(|x| Array::from(x).in_session(&session));
    let second = Array::from(matrix(numbers.clone())).in_session(&session);
    let found = arrays[0].sum().compute_scalar().expect("a sum").to_f64();
    let plain: f64 = numbers.iter().map(|x| x.to_f64()).sum();
    assert!((found - plain).abs() < 1e-6 * plain, "{found}, not {plain}");
    for (order, x) in ["C", "F"].into_iter().zip(&arrays) {
        let y = if order == "C" { second.clone() } else { second.t() };
        for (name, reduce, reads) in cases::<T>() {
            let expression = reduce(x, &y);
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            expression.compute().expect("computes");
            for _ in 0..rounds {
                let start = Instant::now();
                std::hint::black_box(expression.compute().expect("computes"));
                ours.push(start.elapsed().as_secs_f64());
                let start = Instant::now();
                std::hint::black_box(read(&numbers));
                theirs.push(start.elapsed().as_secs_f64());
            }
            let (ours, theirs) = (median(&mut ours), median(&mut theirs));
            let gbps = size_of_val(&numbers[..]) as f64 / theirs * 1e-9;
            println!("{} {order} {name:16} {:7.1} ms, {:4.2} of {gbps:.1} GB/s", T::DTYPE, ours * 1e3, reads * theirs / ours);
        }
    }
}

fn main() {
    let (n, rounds) = if std::env::args().any(|a| a == "--test") { (300, 1) } else { (10_000, 9) };
    println!("chunkwise with {}", chunkwise::kernel::simd::simd_name());
    compare::<f64>(n, rounds);
    compare::<f32>(n, rounds);
}
