//! What a device or a link could do at best, and the price that follows for work never seen before.
//!
//! Owns: [`Rates`] (the roofline) and [`LinkRate`]. Must not know: how rates were measured, or any history. Invariant: a
//! price is finite and does not fall when work grows.

use serde::{Deserialize, Serialize};

use crate::kernel::Work;
use crate::shape::DType;

/// The roofline of one lane of execution: one worker of the CPU pool while its neighbours are busy too, or a whole GPU.
///
/// `time = launch + max(flops / F, bytes / B)` (Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009), with `F` that
/// of the dtype: types of 8 bytes go by `f64_flops`, all others by `f32_flops`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Nanoseconds that a task costs whatever its work.
    pub launch_ns: f64,
    /// Operations per second on elements of up to 4 bytes; a multiply-add counts as two.
    pub f32_flops: f64,
    /// Operations per second on elements of 8 bytes.
    pub f64_flops: f64,
    /// Bytes per second from and to memory, reads and writes added.
    pub bytes_per_s: f64,
}

impl Rates {
    /// A CPU worker before it is measured: one core of a modest machine.
    pub const CPU: Self = Self { launch_ns: 1e3, f32_flops: 3e10, f64_flops: 1.5e10, bytes_per_s: 6e9 };
    /// A GPU before it is measured: a small integrated one, whose launch a host sees completed after tens of microseconds.
    pub const GPU: Self = Self { launch_ns: 1e5, f32_flops: 2e11, f64_flops: 1e10, bytes_per_s: 2e10 };
    /// The I/O lane before it is measured: a plain disk behind a library's lock.
    pub const IO: Self = Self { launch_ns: 5e4, f32_flops: 1e10, f64_flops: 1e10, bytes_per_s: 5e8 };

    /// Nanoseconds for `work` on elements of `dtype`, by the formula above; not below 1.
    #[must_use]
    pub fn prior_ns(&self, dtype: DType, work: Work) -> u64 {
        let peak = if dtype.align() == 8 { self.f64_flops } else { self.f32_flops };
        whole_ns(self.launch_ns + 1e9 * (work.flops.max(0.0) / peak).max(work.bytes.max(0.0) / self.bytes_per_s))
    }

    /// The rates as a file gives them back.
    pub(super) fn rounded(self) -> Self {
        Self {
            launch_ns: rounded(self.launch_ns),
            f32_flops: rounded(self.f32_flops),
            f64_flops: rounded(self.f64_flops),
            bytes_per_s: rounded(self.bytes_per_s),
        }
    }

    /// Whether a price made from these rates means anything: all finite, speeds positive.
    pub(super) fn usable(&self) -> bool {
        let speeds = [self.f32_flops, self.f64_flops, self.bytes_per_s];
        self.launch_ns.is_finite() && self.launch_ns >= 0.0 && speeds.iter().all(|rate| rate.is_finite() && *rate > 0.0)
    }
}

/// What a device as a whole does at best: the roofs of the roofline, below whose time no schedule gets. Operations are multiply-adds in
/// registers (two each), bytes are read from memory.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
    /// Operations per second in `f32`.
    pub f32_flops: f64,
    /// Operations per second in `f64`; 0 if it has no `f64`.
    pub f64_flops: f64,
    /// Bytes per second.
    pub bytes_per_s: f64,
}

impl Peaks {
    /// Seconds that `flops` operations on elements of `dtype` and `bytes` to and from memory take at least, if they overlap fully.
    ///
    /// ```
    /// use chunkwise::{DType, ext::Peaks};
    /// let gpu = Peaks { f32_flops: 1e13, f64_flops: 0.0, bytes_per_s: 1e12 };
    /// assert_eq!(gpu.bound_s(DType::F32, 1e12, 1e9), Some(0.1));
    /// assert_eq!(gpu.bound_s(DType::F64, 1e12, 1e9), None); // it has no f64
    /// ```
    #[must_use]
    pub fn bound_s(&self, dtype: DType, flops: f64, bytes: f64) -> Option<f64> {
        let peak = if dtype.align() == 8 { self.f64_flops } else { self.f32_flops };
        (peak > 0.0).then(|| (flops / peak).max(bytes / self.bytes_per_s))
    }

    /// At least what kernels have reached, to four digits.
    pub(super) fn not_below(self, reached: &Self) -> Self {
        Self {
            f32_flops: rounded(self.f32_flops.max(reached.f32_flops)),
            f64_flops: rounded(self.f64_flops.max(reached.f64_flops)),
            bytes_per_s: rounded(self.bytes_per_s.max(reached.bytes_per_s)),
        }
    }

    /// Whether a bound made from these means anything.
    pub(super) fn usable(&self) -> bool {
        let all = [self.f32_flops, self.f64_flops, self.bytes_per_s];
        all.iter().all(|rate| rate.is_finite() && *rate >= 0.0) && self.f32_flops > 0.0 && self.bytes_per_s > 0.0
    }
}

/// What a link between two memory spaces does: `time = latency + bytes / B`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkRate {
    /// Nanoseconds that a transfer costs whatever its size.
    pub latency_ns: f64,
    /// Bytes per second of a long transfer.
    pub bytes_per_s: f64,
}

impl LinkRate {
    /// A link before it is measured: pageable memory over a modest PCIe slot.
    pub const UNMEASURED: Self = Self { latency_ns: 3e4, bytes_per_s: 4e9 };

    /// Nanoseconds for `bytes`; not below 1.
    #[must_use]
    pub fn transfer_ns(&self, bytes: u64) -> u64 {
        whole_ns(self.latency_ns + 1e9 * bytes as f64 / self.bytes_per_s)
    }

    /// The link whose long transfers are as fast as `large`, and whose short ones take as long as `small`: `(bytes, ns)` each. `None` if the
    /// large one took no time.
    #[must_use]
    pub fn of(small: (u64, u64), large: (u64, u64)) -> Option<Self> {
        if large.0 == 0 || large.1 == 0 {
            return None;
        }
        let bytes_per_s = 1e9 * large.0 as f64 / large.1 as f64;
        let latency_ns = (small.1 as f64 - 1e9 * small.0 as f64 / bytes_per_s).max(0.0);
        Some(Self { latency_ns, bytes_per_s })
    }
}

impl From<LinkRate> for Rates {
    /// A link is priced as a device that computes for nothing.
    fn from(link: LinkRate) -> Self {
        Self { launch_ns: link.latency_ns, f32_flops: 1e18, f64_flops: 1e18, bytes_per_s: link.bytes_per_s }
    }
}

/// Four significant digits: all that a measurement is worth, and few enough to read back from a file unchanged.
pub(super) fn rounded(value: f64) -> f64 {
    if value <= 0.0 || !value.is_normal() {
        return value;
    }
    let scale = 3 - value.log10().floor() as i32;
    // Powers of ten up to 22 are exact; dividing by one rounds once.
    if scale >= 0 {
        (value * 10f64.powi(scale)).round() / 10f64.powi(scale)
    } else {
        (value / 10f64.powi(-scale)).round() * 10f64.powi(-scale)
    }
}

/// Nanoseconds as a whole number of at least 1; a century at most, so that sums of many stay within `u64`.
pub(super) fn whole_ns(ns: f64) -> u64 {
    const CENTURY_NS: f64 = 3.2e18;
    if ns >= 1.0 { ns.min(CENTURY_NS).round() as u64 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn roofline_takes_the_slower_roof() {
        let rates = Rates { launch_ns: 100.0, f32_flops: 2e9, f64_flops: 1e9, bytes_per_s: 4e9 };
        let price = |dtype, flops, bytes| rates.prior_ns(dtype, Work { flops, bytes });
        assert_eq!(price(DType::F64, 1e6, 0.0), 100 + 1_000_000);
        assert_eq!(price(DType::F32, 1e6, 0.0), 100 + 500_000);
        assert_eq!(price(DType::F64, 1e6, 8e6), 100 + 2_000_000);
        assert_eq!(price(DType::F64, f64::NAN, f64::NEG_INFINITY), 100);
        assert!(price(DType::F64, f64::INFINITY, 0.0) <= 3_200_000_000_000_000_000);
    }

    #[test]
    fn a_link_has_the_speed_of_its_long_transfers() {
        let truth = LinkRate { latency_ns: 20_000.0, bytes_per_s: 5e9 };
        let found = LinkRate::of((64 << 10, truth.transfer_ns(64 << 10)), (16 << 20, truth.transfer_ns(16 << 20))).unwrap();
        assert!((found.latency_ns / truth.latency_ns - 1.0).abs() < 0.01, "{found:?}");
        assert!((found.bytes_per_s / truth.bytes_per_s - 1.0).abs() < 0.01, "{found:?}");
        // A short transfer that took no time, as far as the clock could tell, says nothing of the speed.
        let found = LinkRate::of((64 << 10, 0), (16 << 20, 2_600_000)).unwrap();
        assert_eq!((found.latency_ns, found.bytes_per_s.round()), (0.0, 6_452_775_385.0));
        assert_eq!((LinkRate::of((1, 1), (0, 10)), LinkRate::of((1, 1), (10, 0))), (None, None));
    }

    proptest! {
        #[test]
        fn rounded_values_survive_text(mantissa in 1.0..10.0f64, exponent in -6..19i32) {
            let value = mantissa * 10f64.powi(exponent);
            let four = rounded(value);
            prop_assert!((four / value - 1.0).abs() < 6e-4);
            let text = serde_json::to_string(&four).unwrap();
            prop_assert_eq!(serde_json::from_str::<f64>(&text).unwrap(), four);
        }

        #[test]
        fn prior_never_falls_when_work_grows(
            flops in 0.0..1e18f64, bytes in 0.0..1e15f64, more_flops in 0.0..1e18f64, more_bytes in 0.0..1e15f64, kind in 0..3,
        ) {
            let rates = [Rates::CPU, Rates::GPU, Rates::IO][kind as usize];
            for dtype in [DType::U8, DType::F32, DType::F64] {
                let less = rates.prior_ns(dtype, Work { flops, bytes });
                let more = rates.prior_ns(dtype, Work { flops: flops + more_flops, bytes: bytes + more_bytes });
                prop_assert!(less >= 1 && less <= more);
            }
        }
    }
}
