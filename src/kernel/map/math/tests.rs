//! Owns: the accuracy of the vector math against exact values (`math.json`, written by `make_math.py` with mpmath).
//! Must not know: how a function is computed.
//! Invariant: an infinity, a zero or NaN must come out as such, signs included; everything else within the stated ulps.

/// Greatest error of each function, in units in the last place of the correctly rounded result.
pub const ULPS: &[(&str, f64)] = &[
    ("exp", 0.8),
    ("log", 0.85),
    ("sin", 0.8),
    ("cos", 0.8),
    ("tanh", 1.2),
    ("pow", 0.8),
    ("exp2", 0.8),
    ("expm1", 0.85),
    ("log2", 0.7),
    ("log10", 0.7),
    ("log1p", 0.85),
    ("tan", 1.0),
    ("atan", 0.65),
    ("atan2", 0.8),
    ("asin", 0.65),
    ("acos", 0.65),
    ("sinh", 0.8),
    ("cosh", 0.8),
    ("cbrt", 0.55),
    ("hypot", 0.8),
    ("erf", 1.2),
    ("asinh", 1.1),
    ("acosh", 1.4),
    ("atanh", 0.8),
];

const GOLDEN: &str = include_str!("../../../../tests/data/math.json");

/// The function of that name; the second argument counts for pow, hypot and atan2 only. Trigonometric ones as callers
/// patch them: the fast one up to the limit.
pub(in crate::kernel::map) fn call(name: &str, x: f64, y: f64) -> f64 {
    match name {
        "exp" => super::exp(x),
        "log" => super::log(x),
        "sin" => super::sin_any(x),
        "cos" => super::cos_any(x),
        "tan" => super::tan_any(x),
        "tanh" => super::tanh(x),
        "pow" => super::pow(x, y),
        "exp2" => super::exp2(x),
        "expm1" => super::expm1(x),
        "log2" => super::log2(x),
        "log10" => super::log10(x),
        "log1p" => super::log1p(x),
        "atan" => super::atan(x),
        "atan2" => super::atan2(x, y),
        "asin" => super::asin(x),
        "acos" => super::acos(x),
        "sinh" => super::sinh(x),
        "cosh" => super::cosh(x),
        "cbrt" => super::cbrt(x),
        "hypot" => super::hypot(x, y),
        "erf" => super::erf(x),
        "asinh" => super::asinh(x),
        "acosh" => super::acosh(x),
        "atanh" => super::atanh(x),
        other => panic!("no function {other}"),
    }
}

/// Spacing of doubles at `x`, above a power of two.
fn ulp(x: f64) -> f64 {
    let exponent = ((x.to_bits() >> 52) & 0x7ff).max(1);
    if exponent > 52 { f64::from_bits((exponent - 52) << 52) } else { f64::from_bits(1 << (exponent - 1)) }
}

/// Error of `got` in ulp where the exact value is `want + residual ulp(want)`; infinite where the kind or sign differs.
pub(in crate::kernel::map) fn error(got: f64, want: f64, residual: f64) -> f64 {
    if want.is_nan() || got.is_nan() {
        return if want.is_nan() == got.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if got.to_bits() == want.to_bits() {
        return residual.abs();
    }
    if !want.is_finite() || !got.is_finite() || got.is_sign_negative() != want.is_sign_negative() {
        return f64::INFINITY;
    }
    let unit = ulp(want);
    // Exact for neighbours; the scaling keeps subnormal units from vanishing.
    ((got - want) / unit - residual).abs()
}

/// Argument or arguments, result and residual of one golden line.
pub(in crate::kernel::map) fn parse(line: &str) -> Option<(f64, f64, f64, f64)> {
    let number = |s: &str| u64::from_str_radix(s, 16).ok().map(f64::from_bits);
    let fields: Vec<&str> = line.split(' ').collect();
    let residual = fields.last()?.parse().ok()?;
    match fields.len() {
        3 => Some((number(fields[0])?, 0.0, number(fields[1])?, residual)),
        4 => Some((number(fields[0])?, number(fields[1])?, number(fields[2])?, residual)),
        _ => None,
    }
}

#[test]
fn errors_stay_within_the_stated_ulps() {
    let golden: serde_json::Value = serde_json::from_str(GOLDEN).expect("json");
    let mut failures = Vec::new();
    for &(name, bound) in ULPS {
        let lines = golden["functions"][name].as_array().expect("lines of a function");
        assert!(lines.len() >= 300, "{name}: {} lines", lines.len());
        let mut worst = 0.0f64;
        for line in lines {
            let line = line.as_str().expect("text");
            let (x, y, want, residual) = parse(line).expect("fields");
            let got = call(name, x, y);
            let off = error(got, want, residual);
            worst = worst.max(off);
            if off > bound {
                failures.push(format!("{name}({x:e}, {y:e}) = {got:e}, not {want:e}: {off} ulp"));
            }
        }
        println!("{name:6} {worst:.3} of {bound}");
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn an_error_is_seen() {
    let next = f64::from_bits(1f64.to_bits() + 1);
    assert_eq!(error(next, 1.0, 0.25), 0.75);
    assert_eq!(error(f64::from_bits(2), f64::from_bits(1), 0.0), 1.0);
    assert_eq!(error(-0.0, 0.0, 0.0), f64::INFINITY);
    assert_eq!(error(f64::MAX, f64::INFINITY, 0.0), f64::INFINITY);
    assert_eq!(error(f64::NAN, 1.0, 0.0), f64::INFINITY);
}

#[test]
fn beyond_the_limit_only_the_exact_functions_count_and_below_they_are_the_fast_ones() {
    for x in [1.0, -2.5, 1e5, super::TRIG_LIMIT, -super::TRIG_LIMIT] {
        assert_eq!(super::sin_any(x).to_bits(), super::sin(x).to_bits());
        assert_eq!(super::cos_any(x).to_bits(), super::cos(x).to_bits());
        assert_eq!(super::tan_any(x).to_bits(), super::tan(x).to_bits());
    }
    assert!(super::sin_any(f64::INFINITY).is_nan() && super::tan_any(f64::NEG_INFINITY).is_nan());
}
