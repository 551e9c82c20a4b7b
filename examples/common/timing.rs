//! Timing calls against each other.
//!
//! Owns: [`timed`], [`median`]. Must not know: what is timed. Invariant: before each call as much memory was touched and given back as it returns, so that who comes first does
//! not pay for what the system gives.

use std::time::Instant;

/// Seconds of a call that returns so many bytes, and what it returns.
pub fn timed<R>(bytes: usize, call: impl FnOnce() -> R) -> (f64, R) {
    drop(std::hint::black_box(vec![1u8; bytes]));
    let start = Instant::now();
    let result = std::hint::black_box(call());
    (start.elapsed().as_secs_f64(), result)
}

/// The middle one, of an even number the upper of the two; NaN of none.
pub fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
