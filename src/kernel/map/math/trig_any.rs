//! Owns: sin, cos and tan of any double: Payne-Hanek reduction beyond `TRIG_LIMIT`, in integers.
//! Must not know: vectors; this is ordinary branching code for the few elements beyond the limit.
//! Invariant: up to the limit the bits are those of the fast functions, which are called.

use super::trig::{HALF_PI, TRIG_LIMIT, cos, sin, sin_reduced, tan, tan_reduced};

/// 2/pi in binary, 64 zero bits and then 1280 bits after the point, most significant first.
const TWO_OVER_PI: [u64; 21] = [
    0,
    0xa2f9836e4e441529,
    0xfc2757d1f534ddc0,
    0xdb6295993c439041,
    0xfe5163abdebbc561,
    0xb7246e3a424dd2e0,
    0x06492eea09d1921c,
    0xfe1deb1cb129a73e,
    0xe88235f52ebb4484,
    0xe99c7026b45f7e41,
    0x3991d639835339f4,
    0x9c845f8bbdf9283b,
    0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f,
    0x6d367ecf27cb09b7,
    0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea,
    0x6bfb5fb11f8d5d08,
    0x56033046fc7b6bab,
    0xf0cfbc209af4361d,
];

/// Quadrant modulo 4 and remainder as a pair, for finite `|x| >= 2^30`.
///
/// With `x = m 2^e`, bits of 2/pi that `x` lifts to multiples of 4 are left out and the next 256 taken: the product
/// modulo 2^256 is `x 2/pi` modulo 4 with 254 bits after the point, right to 2^-200. No double is closer to a multiple of
/// pi/2 than 2^-62 (Muller, Elementary Functions, section 11.3).
#[inline(never)]
fn reduce_large(x: f64) -> (u64, f64, f64) {
    let bits = x.to_bits();
    let mantissa = (bits & 0x000f_ffff_ffff_ffff) | 0x0010_0000_0000_0000;
    let exponent = ((bits >> 52) & 0x7ff) as usize;
    // e - 2 with e = exponent - 1075, plus the 64 leading zeros.
    let start = exponent + 64 - 1077;
    let product = multiply(mantissa, window(start));
    let mut quadrant = product[0] >> 62;
    let mut fraction =
        [product[0] << 2 | product[1] >> 62, product[1] << 2 | product[2] >> 62, product[2] << 2 | product[3] >> 62];
    let negative = fraction[0] >> 63 != 0;
    if negative {
        quadrant += 1;
        fraction = negate(fraction);
    }
    let (r, lo) = to_radians(fraction);
    let flip = negative != x.is_sign_negative();
    let quadrant = if x.is_sign_negative() { quadrant.wrapping_neg() } else { quadrant };
    if flip { (quadrant, -r, -lo) } else { (quadrant, r, lo) }
}

/// 256 bits of `TWO_OVER_PI` from bit `start` on.
fn window(start: usize) -> [u64; 4] {
    let (word, shift) = (start / 64, start % 64);
    std::array::from_fn(|i| {
        let high = TWO_OVER_PI[word + i] << shift;
        if shift == 0 { high } else { high | TWO_OVER_PI[word + i + 1] >> (64 - shift) }
    })
}

/// `m w` modulo 2^256.
fn multiply(m: u64, w: [u64; 4]) -> [u64; 4] {
    let mut carry = 0u128;
    let mut out = [0; 4];
    for i in (0..4).rev() {
        let sum = u128::from(m) * u128::from(w[i]) + carry;
        out[i] = sum as u64;
        carry = sum >> 64;
    }
    out
}

/// `2^192 - w`.
fn negate(w: [u64; 3]) -> [u64; 3] {
    let (c, borrow) = w[2].overflowing_neg();
    let (b, more) = (!w[1]).overflowing_add(u64::from(!borrow));
    [(!w[0]).wrapping_add(u64::from(more)), b, c]
}

/// A fraction of a quadrant as an angle: the leading 106 bits as a pair, times pi/2.
fn to_radians(w: [u64; 3]) -> (f64, f64) {
    let (zeros, w) = if w[0] == 0 { (64, [w[1], w[2], 0]) } else { (0, w) };
    let shift = w[0].leading_zeros();
    let wide = if shift == 0 { w } else { [w[0] << shift | w[1] >> (64 - shift), w[1] << shift | w[2] >> (64 - shift), 0] };
    let unit = 0.5f64.powi(11 + 42 + (zeros + shift) as i32 + 11);
    let hi = (wide[0] >> 11) as f64 * (unit * 2048.0);
    let lo = ((wide[0] & 0x7ff) << 42 | wide[1] >> 22) as f64 * (unit * 0.5f64.powi(42));
    let r = hi * HALF_PI.0;
    let rest = hi.mul_add(HALF_PI.0, -r) + hi.mul_add(HALF_PI.1, lo * HALF_PI.0);
    let sum = r + rest;
    (sum, (r - sum) + rest)
}

/// sin of any double. Error < 0.8 ulp; NaN for infinities.
pub(in crate::kernel::map) fn sin_any(x: f64) -> f64 {
    if x.abs() <= TRIG_LIMIT {
        sin(x)
    } else if x.is_finite() {
        let (quadrant, r, lo) = reduce_large(x);
        sin_reduced(quadrant, r, lo)
    } else {
        f64::NAN
    }
}

/// cos of any double. Error < 0.8 ulp; NaN for infinities.
pub(in crate::kernel::map) fn cos_any(x: f64) -> f64 {
    if x.abs() <= TRIG_LIMIT {
        cos(x)
    } else if x.is_finite() {
        let (quadrant, r, lo) = reduce_large(x);
        sin_reduced(quadrant.wrapping_add(1), r, lo)
    } else {
        f64::NAN
    }
}

/// tan of any double. Error < 1.0 ulp; NaN for infinities.
pub(in crate::kernel::map) fn tan_any(x: f64) -> f64 {
    if x.abs() <= TRIG_LIMIT {
        tan(x)
    } else if x.is_finite() {
        let (quadrant, r, lo) = reduce_large(x);
        tan_reduced(quadrant, r, lo)
    } else {
        f64::NAN
    }
}
