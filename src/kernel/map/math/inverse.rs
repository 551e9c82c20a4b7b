//! Owns: asin, acos, atan, atan2.
//! Must not know: sin and cos.
//! Invariant: angles are multiples of pi/4 in two parts plus a small angle in two parts, added leading parts first with
//! the rounding error kept.

use super::select;

const QUARTER_PI: f64 = std::f64::consts::FRAC_PI_4;
const QUARTER_PI_TAIL: f64 = 3.061616997868383e-17;
/// tan(pi/8), where the argument of atan changes from q to (q - 1) / (q + 1).
const TAN_EIGHTH_PI: f64 = 0.41421356237309503;

/// `quarters pi/4 + v + w`, `w` small against `v`.
#[inline(always)]
fn add_to_quarters(quarters: f64, v: f64, w: f64) -> f64 {
    let base = quarters * QUARTER_PI;
    let base_lo = quarters.mul_add(QUARTER_PI_TAIL, quarters.mul_add(QUARTER_PI, -base));
    let sum = base + v;
    sum + (((base - sum) + v) + (base_lo + w))
}

/// atan of `n / m`, `0 <= n <= m`, `m` in the normal range, as (quarters, v, w): with q = n/m above tan(pi/8) it is
/// pi/4 + atan((n - m) / (n + m)). One division, its residual kept; minimax of degree 23, error 2^-59.
#[inline(always)]
fn atan_quotient(n: f64, m: f64) -> (f64, f64, f64) {
    let high = n > TAN_EIGHTH_PI * m;
    let difference = n - m;
    let difference_lo = (-m - difference) + n;
    let sum = n + m;
    let sum_lo = (m - sum) + n;
    let (n, n_lo) = (select(high, difference, n), select(high, difference_lo, 0.0));
    let (m, m_lo) = (select(high, sum, m), select(high, sum_lo, 0.0));
    let inverse = 1.0 / m;
    let t = n * inverse;
    let t_lo = (t.mul_add(-m, n) + t.mul_add(-m_lo, n_lo)) * inverse;
    let z = t * t;
    let p = polynomial!(z; -0.333333333333332, 0.19999999999954043, -0.1428571428024431, 0.11111110785915827,
        -0.09090897829765746, 0.07692061513548783, -0.06663118931493821, 0.05847998031354479, -0.05039795150113746,
        0.03807701034235288, -0.017920812135671087);
    // d atan / dt = 1 / (1 + z), near enough 1 - z for the last bits.
    (select(high, 1.0, 0.0), t, (t * z).mul_add(p, t_lo.mul_add(-z, t_lo)))
}

/// atan x. Error < 0.65 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn atan(x: f64) -> f64 {
    let ax = x.abs();
    // From 2^60 on the result is pi/2; larger arguments would have subnormal reciprocals.
    let c = select(ax > 1152921504606846976.0, 1152921504606846976.0, ax);
    let inverted = c > 1.0;
    let (n, m) = (select(inverted, 1.0, c), select(inverted, c, 1.0));
    let (quarters, v, w) = atan_quotient(n, m);
    let base = select(inverted, 2.0, 0.0);
    let sign = select(inverted, -1.0, 1.0);
    let y = add_to_quarters(base + sign * quarters, sign * v, sign * w);
    // Below, atan x rounds to x; the residual of a subnormal quotient would be lost.
    select(ax < 1e-8, x, y.copysign(x))
}

/// Angle of the point (x, y), signed zeros and infinities as C99 (F.10.1.4). Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn atan2(y: f64, x: f64) -> f64 {
    let (ax, ay) = (x.abs(), y.abs());
    let steep = ay > ax;
    let (n, m) = (select(steep, ax, ay), select(steep, ay, ax));
    // Both infinite: as (1, 1); one infinite: as (0, 1); both zero: as (0, 1).
    let endless = m == f64::INFINITY;
    let n = select(endless, select(n == f64::INFINITY, 1.0, 0.0), n);
    let m = select(endless | (m == 0.0), 1.0, m);
    // Powers of two bring m to where its reciprocal and the residual of the quotient are normal.
    let factor = select(m < 1.0, 3.273390607896142e150, 1.0);
    let factor = select(m > 3.273390607896142e150, 6.223015277861142e-61, factor);
    let (quarters, v, w) = atan_quotient(n * factor, m * factor);
    let left = x.to_bits() >> 63 != 0;
    let base = select(steep, 2.0, select(left, 4.0, 0.0));
    let sign = select(steep != left, -1.0, 1.0);
    let angle = add_to_quarters(base + sign * quarters, sign * v, sign * w);
    let angle = angle.copysign(y);
    select(x.is_nan() | y.is_nan(), f64::NAN, angle)
}

/// `t`, its error and `asin t - t` for asin and acos: `t = |x|` below 1/2, else `sqrt((1 - |x|) / 2)` with
/// `asin |x| = pi/2 - 2 asin t`. Minimax of degree 27 in `t`, error 2^-59. NaN for `|x| > 1`.
#[inline(always)]
fn asin_parts(x: f64) -> (bool, f64, f64) {
    let ax = x.abs();
    let small = ax < 0.5;
    let half = 0.5 - 0.5 * ax;
    let root = half.sqrt();
    let root_lo = 0.5 * root.mul_add(-root, half) / select(root == 0.0, 1.0, root);
    let z = select(small, ax * ax, half);
    let t = select(small, ax, root);
    let t_lo = select(small, 0.0, root_lo);
    let p = polynomial!(z; 0.16666666666666763, 0.07499999999970242, 0.044642857175140285, 0.03038194268266628,
        0.022372215687637777, 0.017351599590669942, 0.01398096758245097, 0.011397724808604221, 0.010786821645470773,
        0.0036819149335364297, 0.02176629491763886, -0.02108132485952301, 0.032679459457270514);
    (small, t, (t * z).mul_add(p, t_lo))
}

/// asin x. Error < 0.65 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn asin(x: f64) -> f64 {
    let (small, t, p) = asin_parts(x);
    let large = add_to_quarters(2.0, -2.0 * t, -2.0 * p);
    select(small, t + p, large).copysign(x)
}

/// acos x. Error < 0.65 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn acos(x: f64) -> f64 {
    let (small, t, p) = asin_parts(x);
    let left = x < 0.0;
    let quarters = select(small, 2.0, select(left, 4.0, 0.0));
    let factor = select(small, 1.0, 2.0);
    let factor = select(small != left, -factor, factor);
    add_to_quarters(quarters, factor * t, factor * p)
}
