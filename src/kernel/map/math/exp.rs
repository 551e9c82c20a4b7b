//! Owns: exp, exp2, expm1 and the reduced exponential that sinh, cosh, tanh, pow and erf share.
//! Must not know: logarithms, special cases of other functions.
//! Invariant: arguments are clamped before they are reduced, so that `k` fits the exponent arithmetic; NaN passes through.

use super::{LN2, LN2_TAIL, MAGIC, power_of_two, scale, select};

const LOG2E: f64 = std::f64::consts::LOG2_E;

/// `x = k ln 2 + r + lo`, `|r| <= ln 2 / 2`, `|lo| <= ulp(r) / 2`.
pub(super) struct Reduced {
    pub(super) k: f64,
    /// Bits of `k + MAGIC`.
    pub(super) bits: u64,
    pub(super) r: f64,
    pub(super) lo: f64,
}

/// Cody-Waite reduction of `|x| < 1100`. `x - k LN2` is exact when fused: both are multiples of `ulp(LN2) / 2`.
#[inline(always)]
pub(super) fn reduce(x: f64) -> Reduced {
    let t = x.mul_add(LOG2E, MAGIC);
    let k = t - MAGIC;
    let hi = k.mul_add(-LN2, x);
    let r = k.mul_add(-LN2_TAIL, hi);
    Reduced { k, bits: t.to_bits(), r, lo: k.mul_add(-LN2_TAIL, hi - r) }
}

/// `e^r - 1 - r + add`, `|r| <= ln 2 / 2`: minimax of degree 12, error 2^-61.
#[inline(always)]
fn above_linear(r: f64, add: f64) -> f64 {
    let q = polynomial!(r;
        0.5, 0.16666666666666682, 0.0416666666666667, 0.008333333333316859, 0.0013888888888865117,
        0.0001984126989682103, 2.480158736521139e-05, 2.7557234436102175e-06, 2.7557238580767386e-07,
        2.5112179893817685e-08, 2.092570882999687e-09);
    (r * r).mul_add(q, add)
}

/// `e^(r + lo)` as a sum of two, the second small: `1 + r` is split exactly before the small terms come in.
#[inline(always)]
fn unscaled_pair(r: f64, lo: f64) -> (f64, f64) {
    let h = 1.0 + r;
    (h, above_linear(r, (r - (h - 1.0)) + lo))
}

/// `e^(r + lo)`, one final rounding.
#[inline(always)]
pub(super) fn unscaled(r: f64, lo: f64) -> f64 {
    let (h, l) = unscaled_pair(r, lo);
    h + l
}

/// `x` within `[-746, top]`, where exp has reached 0 and (top = 710) infinity.
#[inline(always)]
pub(super) fn clamp(x: f64, top: f64) -> f64 {
    let x = select(x > top, top, x);
    select(x < -746.0, -746.0, x)
}

/// e^x. Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn exp(x: f64) -> f64 {
    let a = reduce(clamp(x, 710.0));
    scale(unscaled(a.r, a.lo), a.bits, a.k)
}

/// e^x / 2 for `|x| <= 711`, which overflows later than exp, and what its rounding lost, good up to 2^1000.
#[inline(always)]
pub(super) fn half_exp(x: f64) -> (f64, f64) {
    let a = reduce(x);
    let (h, l) = unscaled_pair(a.r, a.lo);
    let p = h + l;
    let rest = (h - p) + l;
    (scale(0.5 * p, a.bits, a.k), rest * power_of_two(a.bits.wrapping_sub(1)))
}

/// e^(hi + lo), `lo` below some ulps of `hi` and 0 where `hi` is clamped.
#[inline(always)]
pub(super) fn exp_pair(hi: f64, lo: f64) -> f64 {
    let a = reduce(clamp(hi, 710.0));
    // An ulp of `hi` can be far more than one of `r`: into the polynomial with it.
    let r = a.r + lo;
    let rest = (a.r - r) + lo;
    scale(unscaled(r, rest + a.lo), a.bits, a.k)
}

/// 2^x: `x - round(x)` is exact, times ln 2 in two parts, minimax of degree 12. Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn exp2(x: f64) -> f64 {
    let x = select(x > 1025.0, 1025.0, x);
    let x = select(x < -1077.0, -1077.0, x);
    let t = x + MAGIC;
    let k = t - MAGIC;
    let r = x - k;
    let q = polynomial!(r;
        0.24022650695910072, 0.05550410866482164, 0.00961812910762849, 0.0013333558146401909, 0.0001540353039334797,
        1.5252733846927294e-05, 1.3215486828484686e-06, 1.0178054629488781e-07, 7.054889678862224e-09,
        4.4562070625952605e-10, 2.574010966674014e-11);
    let hi = r * LN2;
    let lo = r.mul_add(LN2_TAIL, r.mul_add(LN2, -hi));
    let h = 1.0 + hi;
    let l = (hi - (h - 1.0)) + lo;
    scale(h + (r * r).mul_add(q, l), t.to_bits(), k)
}

/// e^x - 1 = (2^k - 1) + 2^k (r + ...), the two leading terms added with their rounding error kept. Error < 0.85 ulp.
/// All is halved until the end, so that 2^1024 is never needed.
#[inline(always)]
pub(in crate::kernel::map) fn expm1(x: f64) -> f64 {
    let c = select(x > 710.0, 710.0, x);
    let c = select(c < -40.0, -40.0, c);
    let a = reduce(c);
    let scale = power_of_two(a.bits.wrapping_sub(1));
    let base = scale - 0.5;
    let lead = scale * a.r;
    let sum = base + lead;
    // From k = 54 on the 1 no longer fits beside 2^k: what is left of it goes to the small terms.
    let rest = (lead - (sum - base)) + ((scale - base) - 0.5);
    let y = 2.0 * (sum + scale.mul_add(above_linear(a.r, a.r.mul_add(a.lo, a.lo)), rest));
    // Below, e^x - 1 rounds to x; this also keeps -0 and subnormals, which halving would spoil.
    select(x.abs() < 5e-17, x, y)
}
