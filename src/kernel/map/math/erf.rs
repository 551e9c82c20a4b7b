//! Owns: erf.
//! Must not know: erfc as a function of its own; only its size against 1 matters here.
//! Invariant: erf is odd and reaches 1 at 6 for good.

use super::exp::{reduce, unscaled};
use super::{power_of_two, select};

/// Error function. Below 1: x + x (2/sqrt(pi) - 1 + z P(z)), minimax error 2^-62. From 1 to 6:
/// 1 - e^(-x^2) G((x - 3.5) / 2.5), G minimax for erfc(x) e^(x^2) under the weight e^(-x^2), error 2^-56. Error < 1.2 ulp.
#[inline(always)]
pub(in crate::kernel::map) fn erf(x: f64) -> f64 {
    let ax = x.abs();
    let c = select(ax > 6.0, 6.0, ax);
    let z = c * c;
    let p = polynomial!(z; -0.3761263890318375, 0.11283791670954929, -0.02686617064508445, 0.005223977624881589,
        -0.0008548326984073393, 0.0001205533121892407, -1.4925597645340333e-05, 1.6461036090200343e-06,
        -1.6350667944645583e-07, 1.4662038483864479e-08, -1.138117678523511e-09, 5.970641423127912e-11);
    let small = c.mul_add(z.mul_add(p, 0.1283791670955126), c);
    let u = (c - 3.5) * 0.4;
    let g = polynomial!(u; 0.1552936556072179, -0.10330894457965291, 0.06663208336616928, -0.041766778400059136,
        0.02549556957252075, -0.01518287761923852, 0.008831184973171426, -0.005031227858134517, 0.0028210264676547993,
        -0.0014419927788552579, 0.0009634029106621451, -0.0005561015666315017, -0.0006598191465330362,
        -0.0016158886159937113, -0.0006665219149435995, 0.001550644756375809, 0.0036166263150166876,
        0.0036264024029887304, 0.002127079491517842, 0.0007040859103099583, 0.00010661016446172317);
    let a = reduce(-z);
    let e = unscaled(a.r, a.lo) * power_of_two(a.bits);
    let large = g.mul_add(-e, 1.0);
    select(c < 1.0, small, large).copysign(x)
}
