//! Normal numbers: two of two uniform ones, by the method of Box and Muller (1958).
//!
//! Owns: the formula. Must not know: chunks. Invariant: `f64` operations alone, each rounded, so that every CPU gives the same bits.
//!
//! `sqrt(-2 log(1 - u)) cos(2 pi v)` and the same with `sin`. For `f64`, `u` and `v` have 53 bits: the largest number is 8.57; for `f32`, 32 bits, and `1 - u` is `2^-32` at
//! least: 6.66. What is beyond is as likely as 1 in 10^17, and 1 in 3.6 10^10.

use super::items::Items;
use super::philox::LOW;
use crate::kernel::map::{log_positive, sin_cos_of_turns};

const TO_UNIT: f64 = 1.0 / 4_294_967_296.0;

/// `(word >> 11) 2^-53`, exactly, by operations that vectors of any CPU have.
#[inline(always)]
fn unit(word: u64) -> f64 {
    let high = f64::from_bits((word >> 32) | 1_048_576f64.to_bits()); // 2^20 + high 2^-32
    let low = f64::from_bits(((word & LOW) >> 11) | 0.5f64.to_bits()); // 0.5 + (low >> 11) 2^-53
    (high - 1_048_576.5) + low
}

/// A word of 32 bits as a float.
#[inline(always)]
fn whole(word: u64) -> f64 {
    f64::from_bits(word | 4_503_599_627_370_496f64.to_bits()) - 4_503_599_627_370_496.0
}

/// Two normal numbers of `0 < x <= 1` and `0 <= v < 1`.
#[inline(always)]
fn pair(x: f64, v: f64) -> [f64; 2] {
    let radius = (-2.0 * log_positive(x)).sqrt();
    let (sin, cos) = sin_cos_of_turns(v);
    [radius * cos, radius * sin]
}

/// `f64`: two of a counter.
#[derive(Clone, Copy)]
pub(super) struct Normal;

impl Items for Normal {
    type Item = f64;
    const PER: usize = 2;

    #[inline(always)]
    fn make(self, first: &[u64], second: &[u64], out: &mut [f64]) {
        for ((out, &first), &second) in out.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
            *out = pair(1.0 - unit(first), unit(second));
        }
    }
}

/// `f32`: four of a counter.
#[derive(Clone, Copy)]
pub(super) struct NormalSingle;

impl Items for NormalSingle {
    type Item = f32;
    const PER: usize = 4;

    #[inline(always)]
    fn make(self, first: &[u64], second: &[u64], out: &mut [f32]) {
        let two = |word: u64| pair((whole(word & LOW) + 1.0) * TO_UNIT, whole(word >> 32) * TO_UNIT).map(|x| x as f32);
        for ((out, &first), &second) in out.as_chunks_mut::<4>().0.iter_mut().zip(first).zip(second) {
            let ([a, b], [c, d]) = (two(first), two(second));
            *out = [a, b, c, d];
        }
    }
}
