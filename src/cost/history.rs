//! What one kernel has cost so far on one device, for one dtype.
//!
//! Owns: size classes, the last samples of each, the fit over all. Must not know: names, files, devices. Invariant: the
//! cached medians and fit always belong to the samples held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fit::{Affine, Timing};
use super::{Basis, Estimate, whole_ns};
use crate::kernel::Work;

/// Samples kept per size class, the newest.
pub(super) const KEPT: usize = 32;
/// Samples of one class before its median is believed.
const TRUSTED: usize = 3;
/// Samples over all classes before a line through them is believed.
const FITTED: usize = 2;
/// First samples of a process kept, and how many processes must agree before they stand in for warm ones.
const COLD_KEPT: usize = 8;
const COLD_TRUSTED: usize = 2;
/// Cold samples are told as the time of a task of this size.
const COLD_UNIT: f64 = 1e6;

/// Operations that weigh as much as one byte when a task's size is told; between the balance of CPUs (2) and GPUs (20). It
/// is a constant because classes are stored: rates change with calibration.
const FLOPS_PER_BYTE: f64 = 8.0;
/// Smaller tasks are all one class, whose time does not scale: it is overhead.
const TINY: f64 = 4096.0;
/// The class of tiny tasks, and the bits of the first size beyond: exponent and two bits of fraction.
const TINY_CLASS: u16 = 0;
const FIRST: u64 = TINY.to_bits() >> SHIFT;
const SHIFT: u32 = 50;
/// The last class there can be.
pub(super) const LAST_CLASS: u16 = ((f64::MAX.to_bits() >> SHIFT) - FIRST + 1) as u16;

/// One number for how large a task is: `max(flops, 8 bytes)`.
fn size(work: Work) -> f64 {
    work.flops.max(FLOPS_PER_BYTE * work.bytes).clamp(0.0, f64::MAX)
}

/// Classes are quarters of an octave, cut evenly: [1, 1.25), [1.25, 1.5), [1.5, 1.75), [1.75, 2) times a power of two.
fn class(size: f64) -> u16 {
    if size < TINY { TINY_CLASS } else { ((size.to_bits() >> SHIFT) - FIRST + 1) as u16 }
}

/// The size in the middle of a class.
fn centre(class: u16) -> f64 {
    match class {
        TINY_CLASS => TINY / 2.0,
        _ => f64::from_bits(((u64::from(class - 1) + FIRST) << SHIFT) | (1 << (SHIFT - 1))),
    }
}

/// The newest samples of one class, as times that a task of the class's centre would have taken.
#[derive(Clone, Debug, Default)]
struct Ring {
    samples: Vec<u64>,
    median: u64,
    /// How many at the end of `samples` are not on disk yet.
    fresh: usize,
    /// Samples more than 2x off the median, since the last flush.
    outliers: u32,
}

impl Ring {
    /// The ring that had these samples when it was stored: no rule is applied to them again.
    fn stored(samples: &[u64], kept: usize) -> Self {
        let samples = samples[samples.len().saturating_sub(kept)..].to_vec();
        Self { median: median(&samples), samples, ..Self::default() }
    }

    fn push(&mut self, sample: u64, kept: usize) {
        if self.samples.len() >= kept {
            self.samples.remove(0);
        }
        let off = |value: u64, median: u64| value / 2 > median || value < median / 2;
        let before = self.median;
        self.outliers += u32::from(self.samples.len() >= TRUSTED && off(sample, before));
        self.samples.push(sample);
        self.fresh = (self.fresh + 1).min(self.samples.len());
        let outliers = self.samples.iter().filter(|&&value| off(value, before)).count();
        if outliers >= TRUSTED && 2 * outliers >= self.samples.len() && outliers < self.samples.len() {
            // The machine, the driver or the data have changed: what was measured before says nothing any more.
            let old = self.samples.len() - self.fresh;
            self.fresh = self.samples[old..].iter().filter(|&&value| off(value, before)).count();
            self.samples.retain(|&value| off(value, before));
            self.outliers = 0;
        }
        self.median = median(&self.samples);
    }

    /// Median distance from the median, as a share of it.
    fn spread(&self) -> f64 {
        let distances: Vec<u64> = self.samples.iter().map(|value| value.abs_diff(self.median)).collect();
        median(&distances) as f64 / self.median.max(1) as f64
    }
}

/// The middle value; of two, the lower, which the heavy upper tail of timings makes the better guess.
fn median(samples: &[u64]) -> u64 {
    let mut sorted = [0; KEPT];
    let sorted = &mut sorted[..samples.len().min(KEPT)];
    if sorted.is_empty() {
        return 0;
    }
    sorted.copy_from_slice(&samples[..sorted.len()]);
    *sorted.select_nth_unstable((sorted.len() - 1) / 2).1
}

/// What one size class has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassSummary {
    /// Size of a task in the middle of the class: `max(flops, 8 bytes)`.
    pub size: f64,
    /// Median time of such a task, nanoseconds.
    pub median_ns: u64,
    /// Median distance of the samples from the median, as a share of it.
    pub spread: f64,
    /// Samples held.
    pub samples: usize,
    /// Samples of this process that were more than 2x off.
    pub outliers: u32,
}

/// The history of one (kernel, dtype, device). See [`super`] for the rule of estimates.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    classes: BTreeMap<u16, Ring>,
    cold: Ring,
    /// Whether this process has run it before.
    warm: bool,
    fit: Option<Affine>,
}

/// A history as it is stored: samples by class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Samples {
    /// Times by class, nanoseconds at the class's centre, oldest first.
    pub classes: BTreeMap<u16, Vec<u64>>,
    /// First times of processes, scaled to a task of size [`COLD_UNIT`], nanoseconds, oldest first.
    pub cold: Vec<u64>,
}

impl History {
    /// A history that holds these samples and nothing fresh; `launch_ns` is the start of a line where sizes cannot tell.
    pub fn from_samples(samples: &Samples, launch_ns: f64) -> Self {
        let classes = samples.classes.iter().map(|(&class, values)| (class, Ring::stored(values, KEPT)));
        let cold = Ring::stored(&samples.cold, COLD_KEPT);
        let mut history = Self { classes: classes.collect(), cold, ..Self::default() };
        history.refit(launch_ns);
        history
    }

    /// Adds samples as if they had been recorded now.
    pub fn append(&mut self, samples: &Samples, launch_ns: f64) {
        for (&class, values) in &samples.classes {
            let ring = self.classes.entry(class).or_default();
            values.iter().for_each(|&value| ring.push(value, KEPT));
        }
        samples.cold.iter().for_each(|&value| self.cold.push(value, COLD_KEPT));
        self.refit(launch_ns);
    }

    /// The samples held: all of them, or the fresh ones only.
    pub fn samples(&self, fresh_only: bool) -> Samples {
        let part = |ring: &Ring| {
            let skip = if fresh_only { ring.samples.len() - ring.fresh } else { 0 };
            ring.samples[skip..].to_vec()
        };
        let classes = self.classes.iter().map(|(&class, ring)| (class, part(ring))).filter(|(_, v)| !v.is_empty());
        Samples { classes: classes.collect(), cold: part(&self.cold) }
    }

    /// From here on nothing held is fresh: it is on disk.
    pub fn mark_saved(&mut self) {
        self.classes.values_mut().for_each(|ring| ring.fresh = 0);
        self.cold.fresh = 0;
    }

    /// Learns that `work` took `ns`. The first time in a process is set aside: caches were cold, code and shaders new.
    pub fn record(&mut self, work: Work, ns: u64, launch_ns: f64) {
        if !std::mem::replace(&mut self.warm, true) {
            self.cold.push(whole_ns(ns.max(1) as f64 * COLD_UNIT / size(work).max(TINY)), COLD_KEPT);
            return;
        }
        self.record_warm(work, ns, launch_ns);
    }

    /// Whether the next time in this process is not the first.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Learns that `work` took `ns`, first or not.
    pub fn record_warm(&mut self, work: Work, ns: u64, launch_ns: f64) {
        let (size, ns) = (size(work), ns.max(1));
        let class = class(size);
        let scale = if class == TINY_CLASS { 1.0 } else { centre(class) / size };
        self.classes.entry(class).or_default().push(whole_ns(ns as f64 * scale), KEPT);
        self.refit(launch_ns);
    }

    fn refit(&mut self, launch_ns: f64) {
        let mut points = [Timing { x: 1.0, t: 1.0, n: 0.0 }; 64];
        let mut used = 0;
        let mut samples = 0;
        let mut beyond_tiny = false;
        // Of more classes than fit, the largest: there the time is.
        for (&class, ring) in self.classes.iter().rev().take(points.len()) {
            points[used] = Timing { x: centre(class), t: ring.median as f64, n: ring.samples.len() as f64 };
            used += 1;
            samples += ring.samples.len();
            beyond_tiny |= class != TINY_CLASS;
        }
        // Tiny tasks alone say nothing of a slope.
        let enough = samples >= FITTED && beyond_tiny;
        self.fit = if enough { Affine::fit(&points[..used], launch_ns) } else { None };
    }

    /// The time of `work` by this history, if it knows enough.
    pub fn estimate(&self, work: Work) -> Option<Estimate> {
        let size = size(work);
        let class = class(size);
        if let Some(ring) = self.classes.get(&class).filter(|ring| ring.samples.len() >= TRUSTED) {
            let scale = if class == TINY_CLASS { 1.0 } else { size / centre(class) };
            let samples = ring.samples.len() as u32;
            return Some(Estimate { ns: whole_ns(ring.median as f64 * scale), basis: Basis::Measured { samples } });
        }
        Some(Estimate { ns: whole_ns(self.fit?.at(size)), basis: Basis::Fitted })
    }

    /// The time of `work` by first times alone: a kernel that runs once per process is never warm, and what several processes saw is its cost.
    pub fn estimate_cold(&self, work: Work) -> Option<Estimate> {
        if self.cold.samples.len() < COLD_TRUSTED || !self.classes.is_empty() {
            return None;
        }
        let least = *self.cold.samples.iter().min()?;
        Some(Estimate { ns: whole_ns(least as f64 * size(work).max(TINY) / COLD_UNIT), basis: Basis::Fitted })
    }

    /// What each class has shown, by rising size.
    pub fn summary(&self) -> impl Iterator<Item = ClassSummary> {
        self.classes.iter().map(|(&class, ring)| ClassSummary {
            size: centre(class),
            median_ns: ring.median,
            spread: ring.spread(),
            samples: ring.samples.len(),
            outliers: ring.outliers,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flops(flops: f64) -> Work {
        Work { flops, bytes: 0.0 }
    }

    /// A history past its cold sample.
    fn warm() -> History {
        let mut history = History::default();
        history.record(flops(1e6), 77_000_000, 0.0);
        history
    }

    #[test]
    fn first_sample_is_dropped() {
        let mut history = warm();
        assert_eq!(history.estimate(flops(1e6)), None);
        (0..3).for_each(|_| history.record(flops(1e6), 1000, 0.0));
        let estimate = history.estimate(flops(1e6)).unwrap();
        assert_eq!(estimate, Estimate { ns: 1000, basis: Basis::Measured { samples: 3 } });
    }

    #[test]
    fn median_scales_with_work_inside_a_class() {
        let mut history = warm();
        for (size, ns) in [(1.05e6, 1050), (1.1e6, 1100), (1.15e6, 9999), (1.2e6, 1200), (1.07e6, 1070)] {
            history.record(flops(size), ns, 0.0);
        }
        for size in [1.05e6, 1.12e6, 1.2e6] {
            let ns = history.estimate(flops(size)).unwrap().ns as f64;
            assert!((ns / (size / 1e3) - 1.0).abs() < 0.002, "{size}: {ns}");
        }
    }

    #[test]
    fn tiny_tasks_cost_an_absolute_time() {
        let mut history = warm();
        (0..4).for_each(|k| history.record(flops(f64::from(k) * 100.0), 800, 0.0));
        assert_eq!(history.estimate(flops(0.0)).unwrap().ns, 800);
        assert_eq!(history.estimate(Work { flops: 3.0, bytes: 400.0 }).unwrap().ns, 800);
        assert_eq!(history.estimate(flops(1e9)), None, "tiny tasks say nothing of large ones");
    }

    #[test]
    fn sizes_never_run_are_read_off_the_line() {
        let law = |x: f64| (20_000.0 + x / 50.0) as u64;
        let mut history = warm();
        for size in [1e5, 1e6, 1e7] {
            history.record(flops(size), law(size), 0.0);
        }
        for size in [5e4, 3e6, 1e9] {
            let estimate = history.estimate(flops(size)).unwrap();
            assert_eq!(estimate.basis, Basis::Fitted);
            let error = estimate.ns as f64 / law(size) as f64 - 1.0;
            assert!(error.abs() < 0.05, "{size}: {error}");
        }
    }

    #[test]
    fn a_few_outliers_do_not_move_the_median_and_many_replace_it() {
        let mut history = warm();
        let at = |history: &History| history.estimate(flops(1e6)).unwrap();
        (0..10).for_each(|_| history.record(flops(1e6), 1000, 0.0));
        (0..4).for_each(|_| history.record(flops(1e6), 90_000, 0.0));
        assert_eq!(at(&history).ns, 1000);
        assert_eq!(history.summary().next().unwrap().outliers, 4);
        // As many outliers as samples: the samples go.
        (0..6).for_each(|_| history.record(flops(1e6), 90_000, 0.0));
        assert_eq!(at(&history), Estimate { ns: 90_000, basis: Basis::Measured { samples: 10 } });
        let summary = history.summary().next().unwrap();
        assert_eq!((summary.outliers, summary.spread), (0, 0.0));
        assert_eq!(history.samples(true).classes.values().map(Vec::len).sum::<usize>(), 10);
    }

    #[test]
    fn rare_outliers_never_flush_however_long_the_run() {
        let mut history = warm();
        for k in 0..2000 {
            history.record(flops(1e6), if k % 4 == 0 { 50_000 } else { 1000 }, 0.0);
            assert!(k < 5 || history.estimate(flops(1e6)).unwrap().ns == 1000, "after {k}");
        }
        assert_eq!(history.samples(false).classes.values().map(Vec::len).max(), Some(KEPT));
    }

    #[test]
    fn a_kernel_run_once_per_process_is_priced_by_its_cold_runs() {
        let mut samples = Samples { cold: vec![40_000_000], ..Samples::default() };
        assert_eq!(History::from_samples(&samples, 0.0).estimate_cold(flops(1e6)), None, "one may be an accident");
        samples.cold.push(6_000_000);
        let history = History::from_samples(&samples, 0.0);
        assert_eq!(history.estimate(flops(5e5)), None);
        assert_eq!(history.estimate_cold(flops(5e5)), Some(Estimate { ns: 3_000_000, basis: Basis::Fitted }));
    }

    proptest! {
        #[test]
        fn classes_hold_their_centre_and_rise_with_size(a in 0.0..1e18f64, factor in 1.0..10.0f64) {
            prop_assert!(class(a) <= class(a * factor) && class(a * factor) <= LAST_CLASS);
            prop_assert_eq!(class(centre(class(a))), class(a));
            prop_assert!(a < TINY || (0.8..1.25).contains(&(a / centre(class(a)))));
        }

        #[test]
        fn samples_round_trip(times in proptest::collection::vec((1e3..1e9f64, 1u64..1_000_000_000), 0..200)) {
            let mut history = warm();
            times.iter().for_each(|&(size, ns)| history.record(flops(size), ns, 0.0));
            let samples = history.samples(false);
            let again = History::from_samples(&samples, 0.0);
            prop_assert_eq!(again.samples(false).classes, samples.classes);
            prop_assert!(again.samples(true).classes.is_empty());
            for &(size, _) in &times {
                prop_assert_eq!(again.estimate(flops(size)), history.estimate(flops(size)));
            }
        }
    }
}
