//! Which variants of kernels a GPU runs fastest.
//!
//! Owns: the trials, [`Tuned`], [`RefusedVariant`]. Must not know: what variants are. Invariant: a variant is chosen only if it has just given the bits that the kernel gives by itself,
//! and faster; one that failed, gave others or took the device along is never tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calibrate_gpu::Sampled;
use super::gpu_bench::{Bench, Trouble};
use super::gpu_cases::{Case, TimedKernel};
use crate::device::Tuning;
use crate::kernel::ExactFloats;
use crate::shape::DType;

/// Launches of a variant whose fastest counts, after one that does not.
const TRIALS: usize = 3;
/// What a variant must gain at the largest size to be chosen: times that differ by less may not differ tomorrow.
const GAIN: f64 = 1.1;
/// What it may lose at the size below: a choice is for all sizes.
const LOSS: f64 = 1.1;

/// A variant that must not be used: it failed, gave other bits, or took the device along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedVariant {
    /// The kernel's name and version.
    pub kernel: String,
    /// Of what.
    pub dtype: DType,
    /// The variant's number.
    pub variant: u8,
}

/// What was found out of the variants of a GPU's kernels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// How it runs best.
    pub tuning: Tuning,
    /// What must not be tried there again.
    pub refused: Vec<RefusedVariant>,
    /// Whether its arithmetic gives the bits of a CPU's.
    #[serde(default)]
    pub exact: ExactFloats,
}

impl Tuned {
    /// Whether calibration could have come to it.
    pub(super) fn is_plausible(&self) -> bool {
        let most = TimedKernel::VARIED.len() * 2 * usize::from(u8::MAX);
        self.tuning.is_plausible() && self.refused.len() <= most
    }
}

/// Chooses the variants of all kernels that have any, in the time that is left, and replaces the samples of those that were chosen.
///
/// # Errors
/// [`Trouble::Gone`] if the device was lost; what took it along is among the refused.
pub(super) fn choose(
    bench: &Bench<'_>,
    dtypes: &[DType],
    sampled: &mut Vec<Sampled>,
    tuned: &mut Tuned,
) -> Result<(), Trouble> {
    for &dtype in dtypes {
        for routine in TimedKernel::VARIED {
            let mut trial = Trial { bench, routine, dtype, refused: &mut tuned.refused };
            let Some((variant, found)) = trial.best(sampled)? else { continue };
            if let Some(choice) = routine.choice(&mut tuned.tuning.variants, dtype) {
                *choice = variant;
            }
            // Those of other sizes tell of another variant.
            sampled.retain(|old| (old.routine, old.dtype) != (routine, dtype));
            sampled.extend(found);
        }
    }
    Ok(())
}

/// The variants of one kernel, in one dtype.
struct Trial<'a, 'b> {
    bench: &'a Bench<'b>,
    routine: TimedKernel,
    dtype: DType,
    refused: &'a mut Vec<RefusedVariant>,
}

impl Trial<'_, '_> {
    /// The variant that is better than what the kernel does by itself, and its samples; `None` if there is none, or no time to find out.
    fn best(&mut self, sampled: &[Sampled]) -> Result<Option<(u8, Vec<Sampled>)>, Trouble> {
        let sizes = self.sizes(sampled);
        let Some(usual) = self.usual(&sizes)? else { return Ok(None) };
        let mut found = Vec::new();
        for variant in self.routine.variants() {
            if let Some(times) = self.tried(variant, &sizes, &usual)? {
                found.push((variant, times));
            }
        }
        found.sort_by_key(|(_, times)| times.last().copied());
        for (variant, _) in found {
            if self.is_right(variant)? {
                let bench = self.bench;
                return Ok(Some((variant, Sampled::of(bench, self.routine, self.dtype, variant, bench.budget)?)));
            }
        }
        Ok(None)
    }

    /// The largest two sizes of which there is time to try all variants; the larger last.
    fn sizes(&self, sampled: &[Sampled]) -> Vec<usize> {
        let own = sampled.iter().filter(|s| (s.routine, s.dtype) == (self.routine, self.dtype));
        let of: Vec<(usize, u64)> = own.map(|s| (s.size, s.least_ns)).collect();
        let runs = (self.routine.variants().len() + 1) * (TRIALS + 1);
        // The others want to be tried, too.
        let room = self.bench.budget.saturating_sub(self.bench.spent()) / 2;
        let fits = |two: &&[(usize, u64)]| {
            Duration::from_nanos(two.iter().map(|s| s.1).sum::<u64>().saturating_mul(runs as u64)) <= room
        };
        let two = of.windows(of.len().clamp(1, 2)).rev().find(fits);
        two.map_or(Vec::new(), |two| two.iter().map(|s| s.0).collect())
    }

    fn least_ns(&self, variant: u8, size: usize) -> Result<u64, Trouble> {
        Ok(self.bench.times(&Case::new(self.routine, self.dtype, size, variant), TRIALS)?.least_ns)
    }

    /// What the kernel takes by itself, now that the GPU has raised its clocks.
    fn usual(&self, sizes: &[usize]) -> Result<Option<Vec<u64>>, Trouble> {
        if sizes.is_empty() {
            return Ok(None);
        }
        match sizes.iter().map(|&size| self.least_ns(0, size)).collect() {
            Ok(times) => Ok(Some(times)),
            Err(Trouble::Gone) => Err(Trouble::Gone),
            Err(_) => Ok(None),
        }
    }

    /// What a variant takes, if it is worth it.
    fn tried(&mut self, variant: u8, sizes: &[usize], usual: &[u64]) -> Result<Option<Vec<u64>>, Trouble> {
        if self.refused.iter().any(|refused| *refused == self.refusal(variant)) {
            return Ok(None);
        }
        let mut times = Vec::new();
        for (i, (&size, &usual)) in sizes.iter().zip(usual).enumerate() {
            if !self.bench.has_time(self.bench.budget, usual as f64) {
                return Ok(None);
            }
            let most = if i + 1 == sizes.len() { usual as f64 / GAIN } else { usual as f64 * LOSS };
            match self.least_ns(variant, size) {
                Ok(ns) if ns as f64 <= most => times.push(ns),
                Ok(_) => return Ok(None),
                Err(trouble) => return self.met(variant, trouble).map(|()| None),
            }
        }
        Ok(Some(times))
    }

    /// Whether a variant gives the bits that the kernel gives by itself. If not, it is refused.
    fn is_right(&mut self, variant: u8) -> Result<bool, Trouble> {
        let result = |variant: u8| {
            let cases = Case::checks(self.routine, self.dtype, variant);
            cases.iter().map(|case| case.result(self.bench)).collect::<Result<Vec<_>, _>>()
        };
        let wanted = match result(0) {
            Ok(wanted) => wanted,
            Err(Trouble::Gone) => return Err(Trouble::Gone),
            Err(_) => return Ok(false),
        };
        match result(variant) {
            Ok(found) if found == wanted => Ok(true),
            Ok(_) => self.met(variant, Trouble::Failed).map(|()| false),
            Err(trouble) => self.met(variant, trouble).map(|()| false),
        }
    }

    /// What follows from trouble with a variant.
    fn met(&mut self, variant: u8, trouble: Trouble) -> Result<(), Trouble> {
        if trouble != Trouble::NoMemory {
            let refusal = self.refusal(variant);
            self.refused.push(refusal);
        }
        if trouble == Trouble::Gone { Err(trouble) } else { Ok(()) }
    }

    fn refusal(&self, variant: u8) -> RefusedVariant {
        RefusedVariant { kernel: self.routine.name(self.dtype), dtype: self.dtype, variant }
    }
}
