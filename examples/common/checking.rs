//! How far what was computed is from what a plain loop gives.
//!
//! Owns: distances. Must not know: what is compared. Invariant: a NaN that only one side has is as far as can be.

use chunkwise::Float;

/// How far apart two numbers are, in relation to the second: 0 if they are equal, or both NaN.
pub fn apart(found: f64, wanted: f64) -> f64 {
    if found == wanted || (found.is_nan() && wanted.is_nan()) {
        return 0.0;
    }
    let apart = (found - wanted).abs() / wanted.abs();
    if apart.is_nan() { f64::INFINITY } else { apart }
}

/// Numbers of `T` from one to the other, as `found` and `wanted` rounded to `T`: 0 if they are equal, 1 if they are neighbours.
pub fn ulps<T: Float>(found: T, wanted: f64) -> f64 {
    let (found, wanted) = (found.to_f64(), T::from_f64(wanted).to_f64());
    if found == wanted || (found.is_nan() && wanted.is_nan()) {
        return 0.0;
    }
    // The distance of neighbours at that size: of normal numbers 2^(exponent - digits).
    let digits = if T::DTYPE.bytes() == 4 { 23 } else { 52 };
    let exponent = wanted.abs().log2().floor().max(if digits == 23 { -126.0 } else { -1022.0 });
    let apart = (found - wanted).abs() / 2f64.powi(exponent as i32 - digits);
    if apart.is_nan() { f64::INFINITY } else { apart }
}

/// `equal`, or how far apart.
pub fn in_words(most: f64, unit: &str) -> String {
    if most == 0.0 { "equal".into() } else { format!("at most {most:.1e}{unit} apart") }
}
