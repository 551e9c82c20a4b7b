//! How a GPU runs best on this machine, as somebody found out.
//!
//! Owns: [`Tuning`]. Must not know: who found out, how. Invariant: no result depends on it by a bit, so that a device may follow it or not.

use serde::{Deserialize, Serialize};

use crate::kernel::Variants;

/// What a device may be told of itself ([`Device::tune`](super::Device::tune)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Which variants of kernels it runs fastest.
    pub variants: Variants,
    /// What to expect of a program never seen, in numbers of up to 4 bytes and in `f64`: operations and bytes, added, a ns. 0 where nothing is known.
    pub units_per_ns: [f64; 2],
}

impl Tuning {
    /// Whether calibration could have come to it: variants that there are, rates that are numbers.
    pub(crate) fn is_plausible(&self) -> bool {
        let Variants { gemm, syrk, gemv } = self.variants;
        let products = gemm.iter().chain(&syrk).all(|&variant| variant <= Variants::PRODUCTS);
        let rates = self.units_per_ns.iter().all(|rate| rate.is_finite() && *rate >= 0.0);
        products && gemv.iter().all(|&variant| variant <= Variants::GEMVS) && rates
    }
}
