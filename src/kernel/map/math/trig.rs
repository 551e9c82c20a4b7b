//! Owns: sin, cos and tan for `|x| <= TRIG_LIMIT` and the polynomials behind them.
//! Must not know: how larger arguments are reduced (`trig_any`).
//! Invariant: the reduced argument is a pair `r + lo`, exact to about 2^-110, so that nothing is lost near multiples of pi/2.

use super::{MAGIC, select};

/// Up to here (2^30) three parts of pi/2 are enough; beyond, `sin_any` and its siblings.
pub(in crate::kernel::map) const TRIG_LIMIT: f64 = 1073741824.0;

/// pi/2 as a sum of three doubles.
pub(super) const HALF_PI: (f64, f64, f64) = (std::f64::consts::FRAC_PI_2, 6.123233995736766e-17, -1.4973849048591698e-33);
const TWO_OVER_PI: f64 = std::f64::consts::FRAC_2_PI;

/// Quadrant (its low two bits count) and `x - quadrant pi/2 = r + lo`, `|r| <= pi/4` and a little.
#[inline(always)]
fn reduce(x: f64) -> (u64, f64, f64) {
    let t = x.mul_add(TWO_OVER_PI, MAGIC);
    let k = t - MAGIC;
    // Exact: a multiple of 2^-53 below 1.
    let first = k.mul_add(-HALF_PI.0, x);
    let product = k * HALF_PI.1;
    let r = first - product;
    // Exact too, although `first` may be the smaller: it is a multiple of ulp(product).
    let error = (first - r) - product;
    (t.to_bits(), r, error - k.mul_add(HALF_PI.2, k.mul_add(HALF_PI.1, -product)))
}

/// `sin(r + lo) = r + s` and `cos(r + lo) = c + d`, `c = 1 - r^2/2`: minimax of degree 13 and 14, errors 2^-58 and 2^-64.
#[inline(always)]
fn parts(r: f64, lo: f64) -> (f64, f64, f64) {
    let z = r * r;
    let p = polynomial!(z; -0.16666666666666632, 0.00833333333332237, -0.00019841269829771086, 2.7557313678643845e-06,
        -2.505075595863526e-08, 1.5896666370939634e-10);
    let q = polynomial!(z; 0.0416666666666666, -0.0013888888888874064, 2.480158728944353e-05, -2.755731434067416e-07,
        2.0875721625702183e-09, -1.1359559428690583e-11);
    let half = 0.5 * z;
    let c = 1.0 - half;
    let s = lo.mul_add(c, r * z * p);
    let d = (1.0 - c - half) + (z * z).mul_add(q, -r * lo);
    (s, c, d)
}

#[inline(always)]
pub(super) fn sin_reduced(quadrant: u64, r: f64, lo: f64) -> f64 {
    let (s, c, d) = parts(r, lo);
    let y = select(quadrant & 1 == 0, r + s, c + d);
    f64::from_bits(y.to_bits() ^ ((quadrant & 2) << 62))
}

#[inline(always)]
pub(super) fn tan_reduced(quadrant: u64, r: f64, lo: f64) -> f64 {
    let (s, c, d) = parts(r, lo);
    let sin = r + s;
    let sin_lo = (r - sin) + s;
    let cos = c + d;
    let cos_lo = (c - cos) + d;
    let odd = quadrant & 1 != 0;
    let (n, n_lo) = (select(odd, -cos, sin), select(odd, -cos_lo, sin_lo));
    let (m, m_lo) = (select(odd, sin, cos), select(odd, sin_lo, cos_lo));
    let inverse = 1.0 / m;
    let y = n * inverse;
    let rest = y.mul_add(-m, n) + y.mul_add(-m_lo, n_lo);
    rest.mul_add(inverse, y)
}

/// sin x, `|x| <= TRIG_LIMIT`. Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn sin(x: f64) -> f64 {
    let (quadrant, r, lo) = reduce(x);
    let y = sin_reduced(quadrant, r, lo);
    select(x == 0.0, x, y)
}

/// cos x, `|x| <= TRIG_LIMIT`. Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn cos(x: f64) -> f64 {
    let (quadrant, r, lo) = reduce(x);
    sin_reduced(quadrant.wrapping_add(1), r, lo)
}

/// sin and cos of `2 pi t`, `0 <= t < 1`. Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel) fn sin_cos_of_turns(t: f64) -> (f64, f64) {
    let whole = t.mul_add(4.0, MAGIC);
    let (quadrant, f) = (whole.to_bits(), t.mul_add(4.0, -(whole - MAGIC))); // exact, |f| <= 1/2
    let r = f * HALF_PI.0;
    let lo = f.mul_add(HALF_PI.0, -r) + f * HALF_PI.1;
    let (s, c, d) = parts(r, lo);
    let (sin, cos, odd) = (r + s, c + d, quadrant & 1 != 0);
    let signed = |x: f64, quadrant: u64| f64::from_bits(x.to_bits() ^ ((quadrant & 2) << 62));
    (signed(select(odd, cos, sin), quadrant), signed(select(odd, sin, cos), quadrant.wrapping_add(1)))
}

/// tan x, `|x| <= TRIG_LIMIT`: quotient of two pairs with one division, residual corrected. Error < 1.0 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn tan(x: f64) -> f64 {
    let (quadrant, r, lo) = reduce(x);
    let y = tan_reduced(quadrant, r, lo);
    // Below, tan x rounds to x; the residual of a subnormal quotient would be lost.
    select(x.abs() < 1e-8, x, y)
}
