//! Owns: log, log2, log10, log1p and the reduced logarithm that the inverse hyperbolic functions share.
//! Must not know: pow, which needs more bits and has a logarithm of its own.
//! Invariant: `x = 2^k (1 + f)` with `1 + f` in `[sqrt(1/2), sqrt(2))`, exactly, subnormals included.

use super::{LN2, LN2_TAIL, select};

/// Bits of sqrt(1/2): the mantissa interval starts here, so that `k = 0` around 1 and nothing cancels there.
const SQRT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
const ONE: u64 = 0x3ff0_0000_0000_0000;
/// ln 2 and log10(2) in 42 bits, which `k` multiplies exactly, and the rest.
const LN2_HI: f64 = 0.6931471805598903;
const LN2_LO: f64 = 5.497923018708371e-14;
const LOG10_2_HI: f64 = 0.30102999566383914;
const LOG10_2_LO: f64 = 1.42050232272661e-13;
const LOG2E: (f64, f64) = (std::f64::consts::LOG2_E, 2.0355273740931033e-17);
const LOG10E: (f64, f64) = (std::f64::consts::LOG10_E, 1.098319650216765e-17);

/// `k` and `f` of a positive normal `x`, and the biased exponent.
#[inline(always)]
fn split_normal(x: f64) -> (f64, f64, u64) {
    let bits = x.to_bits().wrapping_add(ONE - SQRT_HALF);
    let biased = (bits >> 52) & 0x7ff;
    // 2^52 + biased, then both taken away again: the conversion to a float.
    let k = f64::from_bits(biased | 0x4330_0000_0000_0000) - 4503599627371519.0;
    let m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) + SQRT_HALF);
    (k, m - 1.0, biased)
}

/// `k` and `f` of any positive finite `x`.
#[inline(always)]
pub(super) fn split(x: f64) -> (f64, f64) {
    let tiny = x < f64::MIN_POSITIVE;
    let (k, f, _) = split_normal(select(tiny, x * 18014398509481984.0, x));
    (select(tiny, k - 54.0, k), f)
}

/// `f^2 / 2` and `c` with `log(1 + f) = f - (f^2/2 - c)`: `s = f / (2 + f)`, `c = s (f^2/2 + R(s^2))` as in fdlibm,
/// R our own minimax of degree 7 in `s^2`, error 2^-58 relative.
#[inline(always)]
fn tail(f: f64) -> (f64, f64) {
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * polynomial!(z; 0.6666666666666734, 0.3999999999941434, 0.28571428742472477, 0.2222219856364367,
        0.181835648617608, 0.15314035898408324, 0.14796105287459915);
    let half_square = 0.5 * f * f;
    (half_square, s * (half_square + r))
}

/// The values outside `0 < x < inf`.
#[inline(always)]
fn patch(x: f64, y: f64) -> f64 {
    let y = select(x < f64::INFINITY, y, x);
    let y = select(x < 0.0, f64::NAN, y);
    select(x == 0.0, f64::NEG_INFINITY, y)
}

/// Natural logarithm. Error < 0.85 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn log(x: f64) -> f64 {
    let (k, f) = split(x);
    let (half_square, c) = tail(f);
    let low = k.mul_add(LN2_LO, c);
    patch(x, k.mul_add(LN2_HI, f - (half_square - low)))
}

/// Natural logarithm of a positive normal number. Error < 0.85 ulp.
#[inline(always)]
pub(in crate::kernel) fn log_positive(x: f64) -> f64 {
    let (k, f, _) = split_normal(x);
    let (half_square, c) = tail(f);
    let low = k.mul_add(LN2_LO, c);
    k.mul_add(LN2_HI, f - (half_square - low))
}

/// `log(1 + f)` as a sum of two.
#[inline(always)]
fn pair(f: f64) -> (f64, f64) {
    let (half_square, c) = tail(f);
    let hi = f - half_square;
    let lo = (f - hi) - half_square;
    // half_square is rounded: its error belongs to the low part.
    let error = (0.5 * f).mul_add(f, -half_square);
    (hi, lo + (c - error))
}

/// Base-2 logarithm, exact for powers of two: the pair of log(1 + f) times the pair of 1/ln 2. Error < 0.7 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn log2(x: f64) -> f64 {
    let (k, f) = split(x);
    let (hi, lo) = pair(f);
    let p = hi * LOG2E.0;
    let q = lo.mul_add(LOG2E.0, hi.mul_add(LOG2E.1, hi.mul_add(LOG2E.0, -p)));
    let sum = k + p;
    patch(x, sum + ((p - (sum - k)) + q))
}

/// Base-10 logarithm, as log2 with `k log10(2)` in two parts. Error < 0.7 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn log10(x: f64) -> f64 {
    let (k, f) = split(x);
    let (hi, lo) = pair(f);
    let p = hi * LOG10E.0;
    let q = lo.mul_add(LOG10E.0, hi.mul_add(LOG10E.1, hi.mul_add(LOG10E.0, -p)));
    let base = k * LOG10_2_HI;
    let sum = base + p;
    patch(x, sum + ((p - (sum - base)) + k.mul_add(LOG10_2_LO, q)))
}

/// `log(1 + w + lo) + more ln 2`, `lo` at most a few ulp of `w`, `-1 < w < inf`.
/// `u = 1 + w` is rounded; what it lost, `c`, enters as `c / u`, the division replaced by a cubic good to 6 % of `f^2`,
/// which is enough as `c` is below an ulp of `u`.
#[inline(always)]
pub(super) fn log1p_pair(w: f64, lo: f64, more: f64) -> f64 {
    let u = 1.0 + w;
    let back = u - 1.0;
    let c = (1.0 - (u - back)) + (w - back) + lo;
    let (k, f, biased) = split_normal(u);
    let k = k + more;
    // 2^(1-k), which for the largest k is still a number (0), and half of 1 / (1 + f).
    let inverse = f64::from_bits(2047u64.wrapping_sub(biased) << 52);
    let half = 0.5 * f;
    let correction = c * inverse * (f * f).mul_add(0.5303300858899186 - half, 0.5 - half);
    let (half_square, s) = tail(f);
    let low = s + k.mul_add(LN2_TAIL, correction);
    let hi = f - half_square;
    let rest = (f - hi) - half_square;
    let base = k * LN2;
    let sum = base + hi;
    sum + ((hi - (sum - base)) + (k.mul_add(LN2, -base) + (rest + low)))
}

/// log(1 + x), exact argument sum. Error < 0.85 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn log1p(x: f64) -> f64 {
    let y = log1p_pair(x, 0.0, 0.0);
    let y = select(x < f64::INFINITY, y, x);
    let y = select(x < -1.0, f64::NAN, y);
    let y = select(x == -1.0, f64::NEG_INFINITY, y);
    // Below, log(1 + x) rounds to x; this also keeps -0.
    select(x.abs() < 5e-17, x, y)
}
