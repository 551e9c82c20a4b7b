//! Owns: sinh, cosh, tanh, asinh, acosh, atanh.
//! Must not know: how the exponential and the logarithm are reduced.
//! Invariant: the odd functions are computed on |x| and given the sign of x last, so that -0 stays -0.

use super::exp::{half_exp, reduce, unscaled};
use super::log::log1p_pair;
use super::{power_of_two, select};

/// Beyond, 1 + x^2 is x^2 and might overflow: log(2x) it is.
const LARGE: f64 = 1e150;

/// tanh x: below 1 x + x z P(z)/Q(z), a rational fit of degrees 3/3, error 2^-59; above 1 - 2 / (e^2x + 1);
/// the division is shared. Error < 1.2 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn tanh(x: f64) -> f64 {
    let ax = x.abs();
    let c = select(ax > 20.0, 20.0, ax);
    let a = reduce(2.0 * c);
    let e = unscaled(a.r, a.lo) * power_of_two(a.bits);
    let z = c * c;
    let p = polynomial!(z; -0.3333333333333333, -0.021408283778763814, -0.00024321809128978954, -1.723564097002038e-08);
    let q = polynomial!(z; 1.0, 0.46422485133629066, 0.024514832903636943, 0.0002542364508843874);
    let small = c < 1.0;
    let numerator = select(small, c * z * p, -2.0);
    let denominator = select(small, q, e + 1.0);
    let base = select(small, c, 1.0);
    (base + numerator / denominator).copysign(x)
}

/// `h + quarter / h`, `h = e^x / 2` with its rounding error, for `0 <= x <= 711`.
#[inline(always)]
fn half_exp_and_inverse(x: f64, quarter: f64) -> f64 {
    let (half, rest) = half_exp(x);
    let q = quarter / half;
    let sum = half + q;
    let both = sum + (((half - sum) + q) + rest);
    // Beyond, the inverse is below the last bit, and infinity must not meet itself.
    select(x > 40.0, half, both)
}

/// sinh x: below 1 minimax of degree 17, above e^x/2 - 1/(4 e^x/2). Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn sinh(x: f64) -> f64 {
    let ax = x.abs();
    let c = select(ax > 711.0, 711.0, ax);
    let large = half_exp_and_inverse(c, -0.25);
    let z = ax * ax;
    let p = polynomial!(z; 0.16666666666666666, 0.008333333333333333, 0.0001984126984126959, 2.7557319224120312e-06,
        2.5052108345625123e-08, 1.6059050707993168e-10, 7.646476219045887e-13, 2.8484021195695824e-15);
    let small = (ax * z).mul_add(p, ax);
    select(ax < 1.0, small, large).copysign(x)
}

/// cosh x = e^x/2 + 1/(4 e^x/2). Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn cosh(x: f64) -> f64 {
    let ax = x.abs();
    half_exp_and_inverse(select(ax > 711.0, 711.0, ax), 0.25)
}

/// asinh x = log(1 + x + x^2 / (1 + sqrt(1 + x^2))). Error < 1.1 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn asinh(x: f64) -> f64 {
    let ax = x.abs();
    let large = ax > LARGE;
    let square = select(large, 0.0, ax * ax);
    let q = square / (1.0 + (1.0 + square).sqrt());
    let w = ax + q;
    let lo = (ax - w) + q;
    let y = log1p_pair(w, select(large, 0.0, lo), select(large, 1.0, 0.0));
    // Below, asinh x rounds to x; infinity and NaN are their own results.
    select((ax < 5e-9) | !ax.is_finite(), x, y.copysign(x))
}

/// acosh x = log(1 + t + sqrt(2 t + t^2)), t = x - 1. Error < 1.4 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn acosh(x: f64) -> f64 {
    let large = x > LARGE;
    let t = x - 1.0;
    let c = select(large, 0.0, t);
    let root = c.mul_add(c, 2.0 * c).sqrt();
    let sum = root + c;
    let lo = (root - sum) + c;
    let w = select(large, x, sum);
    let y = log1p_pair(w, lo, select(large, 1.0, 0.0));
    let y = select(x < f64::INFINITY, y, x);
    select(x < 1.0, f64::NAN, y)
}

/// atanh x = log(1 + 2x / (1 - x)) / 2, the quotient with its residual. Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn atanh(x: f64) -> f64 {
    let ax = x.abs();
    let m = 1.0 - ax;
    let m_lo = (1.0 - m) - ax;
    let n = 2.0 * ax;
    let inverse = 1.0 / m;
    let w = n * inverse;
    let lo = (w.mul_add(-m, n) - w * m_lo) * inverse;
    let y = (0.5 * log1p_pair(w, lo, 0.0)).copysign(x);
    // Below, atanh x rounds to x.
    let y = select(ax < 5e-9, x, y);
    let y = select(ax == 1.0, f64::INFINITY.copysign(x), y);
    select(ax > 1.0, f64::NAN, y)
}
