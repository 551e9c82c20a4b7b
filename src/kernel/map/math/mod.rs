//! Owns: the crate's scalar math on `f64`, branch-free, so that loops over it become vector code for any width.
//! Must not know: arrays, loops, instruction sets; whoever inlines these functions decides what they are compiled for.
//! Invariant: a result depends on the argument alone. Each step is an IEEE operation or a fused `mul_add`, so AVX-512,
//! AVX2 and portable code give the same bits.
//!
//! How they are written: both sides of a choice are computed and one is selected; integers stay in `u64` and meet floats
//! through `MAGIC` (AVX2 has no conversion between 64-bit integers and `f64`, no 64-bit multiply or arithmetic shift).
//! Polynomials are minimax fits of our own (`tests/data/derive_math.py`: weighted Remez exchange in 50 digits); the error bounds in ulp
//! are those of `ULPS` in the tests, measured against exact values.

/// Polynomial, lowest power first: Horner's rule in steps of two powers, which halves the chain of dependent operations,
/// and one plain step last, which keeps the rounding of the constant term single.
macro_rules! polynomial {
    ($x:expr; $c:expr, $($rest:expr),+ $(,)?) => {
        f64::mul_add(polynomial!(@pairs $x, $x * $x; $($rest),+), $x, $c)
    };
    (@pairs $x:expr, $xx:expr; $a:expr) => { $a };
    (@pairs $x:expr, $xx:expr; $a:expr, $b:expr) => { f64::mul_add($b, $x, $a) };
    (@pairs $x:expr, $xx:expr; $a:expr, $b:expr, $($rest:expr),+) => {
        f64::mul_add(polynomial!(@pairs $x, $xx; $($rest),+), $xx, f64::mul_add($b, $x, $a))
    };
}

mod erf;
mod exp;
mod hyperbolic;
mod inverse;
mod log;
mod power;
#[cfg(test)]
mod tests;
mod trig;
mod trig_any;

pub(super) use erf::erf;
pub(super) use exp::{exp, exp2, expm1};
pub(super) use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};
pub(super) use inverse::{acos, asin, atan, atan2};
pub(in crate::kernel) use log::log_positive;
pub(super) use log::{log, log1p, log2, log10};
pub(super) use power::{cbrt, hypot, pow};
pub(in crate::kernel) use trig::sin_cos_of_turns;
pub(super) use trig::{TRIG_LIMIT, cos, sin, tan};
pub(super) use trig_any::{cos_any, sin_any, tan_any};

/// `1.5 * 2^52`. Adding it rounds `|x| < 2^51` to the nearest integer, which then stands in the low bits.
const MAGIC: f64 = 6755399441055744.0;
/// ln 2 rounded, and what the rounding left.
const LN2: f64 = std::f64::consts::LN_2;
const LN2_TAIL: f64 = 2.3190468138462996e-17;

/// `p * 2^k` rounded once, `|k| <= 1100`; `k` as a float and `bits` of `k + MAGIC`.
/// Two factors, as `2^k` alone leaves the normal range where the result need not.
#[inline(always)]
fn scale(p: f64, bits: u64, k: f64) -> f64 {
    let half = k.mul_add(0.5, MAGIC).to_bits();
    p * power_of_two(bits.wrapping_sub(half)) * power_of_two(half)
}

/// `2^k` from bits whose low eleven hold `k` in two's complement, `-1022 <= k <= 1023`.
#[inline(always)]
fn power_of_two(bits: u64) -> f64 {
    f64::from_bits(bits.wrapping_add(1023) << 52)
}

/// `a` where `c`, else `b`; both are values already. Not `if`: that the compiler may turn into branches, merge with others
/// of the same condition and so copy what lies between, before it looks for vectors.
#[inline(always)]
fn select<T>(c: bool, a: T, b: T) -> T {
    std::hint::select_unpredictable(c, a, b)
}
