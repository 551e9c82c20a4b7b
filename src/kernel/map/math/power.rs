//! Owns: pow, cbrt, hypot.
//! Must not know: the plain logarithm; pow needs some twelve bits more.
//! Invariant: special cases are selected at the end, in the order in which C99 lets one override another.

use super::exp::exp_pair;
use super::log::split;
use super::{LN2, LN2_TAIL, MAGIC, power_of_two, select};

/// `a + b` and what the sum lost, for `|a| >= |b|` or `a = 0`.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    (sum, b - (sum - a))
}

/// `(a + a_lo) (b + b_lo)` as a pair.
#[inline(always)]
fn two_product(a: f64, a_lo: f64, b: f64, b_lo: f64) -> (f64, f64) {
    let p = a * b;
    (p, a_lo.mul_add(b, a.mul_add(b_lo, a.mul_add(b, -p))))
}

/// log x for positive finite `x` as a pair, relative error 2^-65.
/// `log(1 + f) = 2 (s + s z (1/3 + z q(z)))`, `s = f / (2 + f)`, `z = s^2`, all but `q` in pairs.
#[inline(always)]
fn log_pair(x: f64) -> (f64, f64) {
    let (k, f) = split(x);
    let g = 2.0 + f;
    let g_lo = f - (g - 2.0);
    let inverse = 1.0 / g;
    let s = f * inverse;
    let s_lo = s.mul_add(-g_lo, s.mul_add(-g, f)) * inverse;
    let (z, z_lo) = two_product(s, s_lo, s, s_lo);
    let q = polynomial!(z; 0.2, 0.14285714285714288, 0.11111111111110641, 0.09090909091014414, 0.07692307678078106,
        0.0666666789531704, 0.058822835460501904, 0.052657081815162966, 0.04703320657928841, 0.05104681026127907);
    const THIRD: (f64, f64) = (0.3333333333333333, 1.850371707708594e-17);
    let t = z.mul_add(q, THIRD.0);
    let t_lo = z.mul_add(q, THIRD.0 - t) + THIRD.1;
    let (u, u_lo) = two_product(z, z_lo, t, t_lo);
    let (v, v_lo) = two_product(s, s_lo, u, u_lo);
    let (h, h_lo) = two_sum(s, v);
    let base = k * LN2;
    let base_lo = k.mul_add(LN2_TAIL, k.mul_add(LN2, -base));
    let (sum, sum_lo) = two_sum(base, 2.0 * h);
    two_sum(sum, sum_lo + (2.0 * (h_lo + (s_lo + v_lo)) + base_lo))
}

/// `|x|^y` where neither is a special case; `|x|` finite and not 0.
#[inline(always)]
fn magnitude(x: f64, y: f64) -> f64 {
    let (l, l_lo) = log_pair(x);
    let p = y * l;
    let p_lo = y.mul_add(l_lo, y.mul_add(l, -p));
    exp_pair(p, select(p.abs() < 800.0, p_lo, 0.0))
}

/// x^y with all special cases of C99 (F.10.4.4). Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn pow(x: f64, y: f64) -> f64 {
    let ax = x.abs();
    let ay = y.abs();
    let z = magnitude(ax, y);
    // 2^52 + |y| holds the rounded |y| in its bits; from 2^52 on all are integers, from 2^53 on all are even.
    let shifted = select(ay < 4503599627370496.0, ay + 4503599627370496.0, ay);
    let integer = select(ay < 4503599627370496.0, shifted - 4503599627370496.0, ay) == ay;
    let parity = select(ay < 9007199254740992.0, shifted.to_bits() << 63, 0);
    let odd = select(integer, parity, 0);
    let grows = select(y > 0.0, f64::INFINITY, 0.0);
    let falls = select(y > 0.0, 0.0, f64::INFINITY);
    let z = select(ax == 0.0, falls, z);
    let z = select(ax == f64::INFINITY, grows, z);
    let z = select(ax == 1.0, 1.0, z);
    let z = f64::from_bits(z.to_bits() | (x.to_bits() & odd));
    let not_real = (x < 0.0) & (x > f64::NEG_INFINITY) & !integer;
    let z = select(not_real, f64::NAN, z);
    let z = select(x.is_nan() | y.is_nan(), f64::NAN, z);
    select((x == 1.0) | (y == 0.0), 1.0, z)
}

/// Cube root. With `|x| = 2^(3j) a`: minimax for `a^(-1/3)` (2^-14), one step of third order, and a last correction of
/// the root with its exact residual. Error < 0.55 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn cbrt(x: f64) -> f64 {
    let (k, f) = split(x.abs());
    let t = k.mul_add(1.0 / 3.0, MAGIC);
    let left = (t - MAGIC).mul_add(-3.0, k);
    let m = 1.0 + f;
    let factor = select(left > 0.5, 2.0, 1.0);
    let factor = select(left < -0.5, 0.5, factor);
    let root = select(left > 0.5, 0.7937005259840998, 1.0);
    let root = select(left < -0.5, 1.2599210498948732, root);
    let a = m * factor;
    let y = root
        * polynomial!(m; 1.8745191296995947, -1.8618310481221247, 1.5613053525359284, -0.7023861445644946,
        0.12836929602455222);
    let e = (a * y).mul_add(-(y * y), 1.0);
    let y = (y * e).mul_add(e.mul_add(2.0 / 9.0, 1.0 / 3.0), y);
    let square = y * y;
    let c = a * square;
    let cc = c * c;
    let residual = c.mul_add(-c.mul_add(c, -cc), cc.mul_add(-c, a));
    let c = (residual * square).mul_add(1.0 / 3.0, c);
    let c = (c * power_of_two(t.to_bits())).copysign(x);
    select((x == 0.0) | !x.is_finite(), x, c)
}

/// sqrt(x^2 + y^2) without overflow or underflow between: scaled by a power of two, the root corrected by its residual.
/// Error < 0.8 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn hypot(x: f64, y: f64) -> f64 {
    let (x, y) = (x.abs(), y.abs());
    let (a, b) = (select(x > y, x, y), select(x > y, y, x));
    let up = select(a > 1e150, 2.409919865102884e-181, 1.0);
    let up = select(a < 1e-120, 4.149515568880993e180, up);
    let down = select(a > 1e150, 4.149515568880993e180, 1.0);
    let down = select(a < 1e-120, 2.409919865102884e-181, down);
    let (p, q) = (a * up, b * up);
    let pp = p * p;
    let qq = q * q;
    let h = (pp + qq).sqrt();
    let hh = h * h;
    let rest = ((pp - hh) + qq) + ((p.mul_add(p, -pp) + q.mul_add(q, -qq)) - h.mul_add(h, -hh));
    let h = rest.mul_add(0.5 / h, h) * down;
    let h = select(a == 0.0, b, h);
    select((x == f64::INFINITY) | (y == f64::INFINITY), f64::INFINITY, h)
}
