//! Whole-matrix Cholesky beside faer's, interleaved in one process: whole calls, output allocation and the copy of the input on
//! both sides. `cargo bench -p chunkwise-peers --bench faer [-- --test]`; figures are medians of 9 rounds on two threads.
//!
//! Owns: one ratio. Must not know: tiles. Invariant: both sides factor the same matrix, and the factors agree.

use std::time::Instant;

use chunkwise::shape::Float;
use chunkwise::{Array, Session};
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::traits::ComplexField;
use faer::{Mat, Par};

const THREADS: usize = 2;

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn compare<T: Float + ComplexField>(n: usize, rounds: usize) {
    let session = Session::builder().threads(THREADS).build().expect("default settings");
    let a = session.default_rng().spd::<T>(n).compute().expect("fits");
    let theirs = Mat::<T>::from_fn(n, n, |i, j| a[[i, j]]);
    let ours = Array::from(a).in_session(&session).cholesky();
    let par = Par::rayon(THREADS);
    let (mut faer_s, mut ours_s, mut off) = (Vec::new(), Vec::new(), 0.0f64);
    for _ in 0..rounds {
        let start = Instant::now();
        let mut l = Mat::<T>::zeros(n, n);
        l.copy_from(&theirs);
        let mut scratch = MemBuffer::new(cholesky_in_place_scratch::<T>(n, par, Default::default()));
        let done = cholesky_in_place(l.as_mut(), Default::default(), par, MemStack::new(&mut scratch), Default::default());
        assert!(done.is_ok(), "faer says that the matrix is not positive definite");
        faer_s.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let factor = ours.compute().expect("positive definite");
        ours_s.push(start.elapsed().as_secs_f64());
        let differs = |i: usize| (factor[[i, i / 2]].to_f64() - l[(i, i / 2)].to_f64()).abs();
        off = (0..n).map(differs).fold(off, f64::max);
    }
    assert!(off < 1e-2, "the factors differ by {off}");
    let (ours, faer) = (median(&mut ours_s), median(&mut faer_s));
    let rate = (n as f64).powi(3) / 3.0 / ours * 1e-9;
    println!("cholesky n = {n} {}: ours {ours:.4} s ({rate:.1} Gflop/s), faer {faer:.4} s, ratio {:.3}", T::DTYPE, ours / faer);
}

fn main() {
    let _ = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build_global();
    let (n, rounds) = if std::env::args().any(|a| a == "--test") { (300, 1) } else { (4000, 9) };
    compare::<f64>(n, rounds);
    compare::<f32>(n, rounds);
}
