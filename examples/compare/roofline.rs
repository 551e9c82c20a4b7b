//! What the measured peaks of the CPU and of the GPUs allow.
//!
//! Owns: [`Roofline`], [`GpuRates`]. Must not know: workloads. Invariant: a rate is the best of several measurements, because whatever
//! disturbs one makes it too low, and a bound must not be too high.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chunkwise::cost::{Calibration, Peaks, calibrate};
use chunkwise::device::DeviceKind;
use chunkwise::id::DeviceId;
use chunkwise::shape::DType;
use chunkwise::{Placement, Session};
use serde::Serialize;

/// What all GPUs of a session do at best together, as its calibration measured it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GpuRates {
    /// Multiply-adds and memory reads.
    pub peaks: Peaks,
    /// From host memory, bytes per second.
    pub up: f64,
    /// To host memory, bytes per second.
    pub down: f64,
}

impl GpuRates {
    /// Of the GPUs of a session that a placement allows; `None` if there are none, or one was not measured.
    pub fn of(session: &Session, placement: Placement) -> Option<Self> {
        let mut all: Option<Self> = None;
        let allowed = |index: usize| !matches!(placement, Placement::Device(only) if usize::from(only) != index);
        let devices = session.devices();
        for (index, spec) in devices.iter().enumerate().filter(|(i, d)| d.kind == DeviceKind::Gpu && allowed(*i)) {
            let (peaks, [up, down]) = (session.peaks(DeviceId::at(index))?, spec.link?.map(|link| link.bytes_per_s));
            let one = Self { peaks, up, down };
            all = Some(all.map_or(one, |sum| sum.plus(&one)));
        }
        all
    }

    fn plus(&self, other: &Self) -> Self {
        let peaks = Peaks {
            f32_flops: self.peaks.f32_flops + other.peaks.f32_flops,
            f64_flops: self.peaks.f64_flops + other.peaks.f64_flops,
            bytes_per_s: self.peaks.bytes_per_s + other.peaks.bytes_per_s,
        };
        Self { peaks, up: self.up + other.up, down: self.down + other.down }
    }

    /// Seconds below which the GPUs cannot do work of so many operations on so many bytes of input and of result. Everything may overlap:
    /// the bound is the slowest of computing, reading memory, bringing the result back and, when cold, bringing the input. `None` if they
    /// do not compute in `dtype`.
    pub fn bounds_s(&self, dtype: DType, flops: f64, (input, result): (f64, f64)) -> Option<GpuBounds> {
        let resident = self.peaks.bound_s(dtype, flops, input + result)?.max(result / self.down);
        Some(GpuBounds { cold: resident.max(input / self.up), resident })
    }
}

/// Seconds below which the GPUs cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GpuBounds {
    /// With the input in host memory.
    pub cold: f64,
    /// With the input there.
    pub resident: f64,
}

/// Bounds of time for all threads of a CPU.
pub struct Roofline {
    calibration: RefCell<Calibration>,
    /// Rates by working set in bytes; those of sets that fit in caches are higher.
    cached: RefCell<BTreeMap<u64, Calibration>>,
}

/// Sets below this are taken to be this large: smaller ones say more of loop overhead than of memory.
const LEAST_SET_BYTES: u64 = 1 << 20;

impl Roofline {
    /// With the peaks of this calibration.
    pub fn of(calibration: &Calibration) -> Self {
        Self { calibration: RefCell::new(calibration.clone()), cached: RefCell::default() }
    }

    /// Measures once more, a quarter of a second, and keeps the better rates: a machine may have been slow the first time.
    pub fn refine(&self) -> Calibration {
        let mut calibration = self.calibration.borrow_mut();
        *calibration = best(calibration.clone(), calibration.threads, calibration.buffer_bytes);
        calibration.clone()
    }

    /// Seconds below which this CPU cannot do the work with all its threads: the slower of `flops` at the measured multiply-add peak
    /// and `bytes` at the measured memory rate. The rate is that of a working set of this size (rounded down to a power of two), so that
    /// data that fit in caches are not held to the speed of memory.
    pub fn bound_s(&self, dtype: DType, (flops, bytes): (f64, f64)) -> f64 {
        let rates = self.rates_at(bytes);
        let calibration = self.calibration.borrow();
        let peak = if dtype == DType::F32 { calibration.f32_flops_all } else { calibration.f64_flops_all };
        (flops / peak).max(bytes / rates.read_all.max(rates.copy_all))
    }

    fn rates_at(&self, bytes: f64) -> Calibration {
        let calibration = self.calibration.borrow();
        let threads = calibration.threads;
        let set = (bytes as u64).max(LEAST_SET_BYTES);
        let set = (1u64 << set.ilog2()).min(calibration.buffer_bytes.max(LEAST_SET_BYTES));
        let measure = || {
            let large = set >= calibration.buffer_bytes;
            let first = if large { Some(calibration.clone()) } else { once(threads, set) };
            first.map_or_else(|| calibration.clone(), |first| best(first, threads, set))
        };
        // What fits in caches is not slower than what does not.
        better(self.cached.borrow_mut().entry(set).or_insert_with(measure).clone(), &calibration)
    }
}

fn once(threads: usize, most_bytes: u64) -> Option<Calibration> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok()?;
    Some(calibrate(&pool, most_bytes))
}

/// The better of a calibration and another one, made now; rate by rate.
pub fn best(a: Calibration, threads: usize, most_bytes: u64) -> Calibration {
    once(threads, most_bytes).map_or(a.clone(), |b| better(a, &b))
}

fn better(a: Calibration, b: &Calibration) -> Calibration {
    Calibration {
        f32_flops_one: a.f32_flops_one.max(b.f32_flops_one),
        f32_flops_all: a.f32_flops_all.max(b.f32_flops_all),
        f64_flops_one: a.f64_flops_one.max(b.f64_flops_one),
        f64_flops_all: a.f64_flops_all.max(b.f64_flops_all),
        read_one: a.read_one.max(b.read_one),
        read_all: a.read_all.max(b.read_all),
        copy_one: a.copy_one.max(b.copy_one),
        copy_all: a.copy_all.max(b.copy_all),
        spawn_ns: a.spawn_ns.min(b.spawn_ns),
        took_ns: a.took_ns.saturating_add(b.took_ns),
        ..a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(all: f64) -> Calibration {
        Calibration {
            threads: 1,
            simd: "TEST".into(),
            f32_flops_one: all,
            f32_flops_all: 2.0 * all,
            f64_flops_one: all,
            f64_flops_all: all,
            read_one: all,
            read_all: all / 10.0,
            copy_one: all,
            copy_all: all / 20.0,
            spawn_ns: 1e9 / all,
            buffer_bytes: 1 << 30,
            took_ns: 1,
        }
    }

    #[test]
    fn the_bound_is_the_slower_roof() {
        // Rates beyond any machine's, so that measuring again changes nothing.
        let roofline = Roofline::of(&rates(1e15));
        let large = (1u64 << 30) as f64;
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
        near(roofline.bound_s(DType::F64, (1.0, large)), large / 1e14);
        near(roofline.bound_s(DType::F64, (1e18, large)), 1e3);
        near(roofline.bound_s(DType::F32, (1e18, large)), 5e2);
        roofline.bound_s(DType::F32, (1.0, 1.0));
        assert_eq!(roofline.cached.borrow().keys().copied().collect::<Vec<_>>(), [LEAST_SET_BYTES, 1 << 30]);
    }

    #[test]
    fn a_gpu_is_bounded_by_the_slowest_of_four() {
        let peaks = Peaks { f32_flops: 8e12, f64_flops: 0.0, bytes_per_s: 4e11 };
        let gpu = GpuRates { peaks, up: 1e10, down: 2e10 };
        let bounds = |flops, bytes| gpu.bounds_s(DType::F32, flops, bytes).map(|b| (b.cold, b.resident));
        assert_eq!(bounds(8e12, (1e9, 1e9)), Some((1.0, 1.0)), "computing");
        assert_eq!(bounds(8e8, (4e9, 0.0)), Some((0.4, 1e-2)), "the input's way, or reading it there");
        assert_eq!(bounds(8e8, (1e3, 4e9)), Some((0.2, 0.2)), "the result's way");
        assert_eq!(gpu.bounds_s(DType::F64, 1.0, (1.0, 1.0)), None);
        let two = gpu.plus(&gpu);
        assert_eq!(two.bounds_s(DType::F32, 8e12, (0.0, 0.0)).map(|b| b.resident), Some(0.5));
    }

    #[test]
    fn the_better_rate_counts() {
        let (slow, fast) = (rates(1e9), rates(2e9));
        assert_eq!(better(slow.clone(), &fast), Calibration { took_ns: 2, ..fast.clone() });
        assert_eq!(better(fast.clone(), &slow), Calibration { took_ns: 2, ..fast });
    }
}
