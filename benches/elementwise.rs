//! Element-wise expressions beside plain loops and a copy, interleaved in one process: whole calls, fresh results on all sides. `cargo bench --bench elementwise [-- --test]`;
//! figures are medians of 9 rounds on two threads.
//!
//! Owns: ratios. Must not know: strips. Invariant: all sides have as much memory touched and given back before each timed call; ours is checked against the loop.

use std::time::Instant;

use chunkwise::shape::Float;
use chunkwise::{Array, Session, where_};

const THREADS: usize = 2;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Seconds of a call, after as much memory as it returns was touched and given back.
fn timed<R>(bytes: usize, call: impl FnOnce() -> R) -> (f64, R) {
    drop(std::hint::black_box(vec![1u8; bytes]));
    let start = Instant::now();
    let result = call();
    (start.elapsed().as_secs_f64(), result)
}

/// A loop on two threads, into fresh memory.
fn by_hand<T: Float>(x: &[T], of: impl Fn(&[T], &mut Vec<T>) + Sync) -> [Vec<T>; THREADS] {
    let (left, right) = x.split_at(x.len() / 2);
    let half = |part: &[T]| {
        let mut out = Vec::with_capacity(part.len());
        of(part, &mut out);
        out
    };
    let (a, b) = std::thread::scope(|scope| {
        let right = scope.spawn(|| half(right));
        (half(left), right.join().expect("a loop"))
    });
    [a, b]
}

/// An expression: ours, and what it is of one element.
type Case<T> = (&'static str, fn(&Array<T>) -> Array<T>, fn(T) -> T);

fn compare<T: Float>(n: usize, rounds: usize, cases: &[Case<T>]) {
    let session = Session::builder().threads(THREADS).cache_dir("").build().expect("default settings");
    let x: Vec<T> = (0..n).map(|i| T::from_f64((i % 1000) as f64 / 250.0 - 2.0)).collect();
    let array = Array::from(chunkwise::ndarray::ArrayView1::from(&x[..])).in_session(&session);
    let bytes = size_of_val(&x[..]);
    for &(name, ours, of) in cases {
        let (mut all, mut off) = ([const { Vec::new() }; 3], 0.0f64);
        let expression = ours(&array);
        for _ in 0..rounds {
            let (seconds, made) = timed(bytes, || expression.compute().expect("computes"));
            all[0].push(seconds);
            let differs = |i: usize| (made[[i]].to_f64() - of(x[i]).to_f64()).abs() / of(x[i]).to_f64().abs().max(1.0);
            off = (0..n).step_by(n / 500 + 1).map(differs).fold(off, f64::max);
            drop(made);
            all[1].push(timed(bytes, || by_hand(&x, |x, out| out.extend(x.iter().map(|&x| of(x))))).0);
            all[2].push(timed(bytes, || by_hand(&x, |x, out| out.extend_from_slice(x))).0);
        }
        assert!(off < 1e-5, "{name}: off by {off}");
        let [ours, hand, copy] = all.map(median);
        println!(
            "{:4} {name:22} {:7.1} ms, {:5.2} of a plain loop, {:5.2} of a copy ({:.1} GB/s)",
            T::DTYPE.to_string(),
            ours * 1e3,
            ours / hand,
            ours / copy,
            2.0 * bytes as f64 / copy * 1e-9
        );
    }
}

macro_rules! cases {
    ($t:ty) => {{
        let cases: &[Case<$t>] = &[
            ("1.5xx + x/4 + sin(x)", |x| 1.5 * x * x + 0.25 * x + x.sin(), |x: $t| 1.5 * x * x + 0.25 * x + x.sin()),
            ("(x - h)^2", |x| (x - 0.5).square(), |x| (x - 0.5) * (x - 0.5)),
            ("where(x > h, ..)", |x| where_(&x.gt(0.5), 1.5 * x, 0.25 - x), |x| if x > 0.5 { 1.5 * x } else { 0.25 - x }),
            (
                "Horner, degree 5",
                |x| ((((1.5 * x + 0.25) * x + 0.5) * x - 1.5) * x + 0.25) * x + 0.5,
                |x| ((((1.5 * x + 0.25) * x + 0.5) * x - 1.5) * x + 0.25) * x + 0.5,
            ),
            ("exp(x)", |x| x.exp(), |x| x.exp()),
            ("tanh(x)", |x| x.tanh(), |x| x.tanh()),
        ];
        cases
    }};
}

fn main() {
    let (n, rounds) = if std::env::args().any(|a| a == "--test") { (100_000, 1) } else { (50_000_000, 9) };
    println!("chunkwise with {}", chunkwise::kernel::simd::simd_name());
    compare(n, rounds, cases!(f64));
    compare(n, rounds, cases!(f32));
}
