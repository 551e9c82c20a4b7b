//! What will be measured: workloads, precisions, sizes, and how long it may take.
//!
//! Owns: the flags' meaning and the default sizes. Must not know: devices, sessions. Invariant: a plan has at least one row, every size is
//! at least 1, and repeats and budget are above 0; all else was refused.

use chunkwise::shape::DType;

use crate::compare::stats::{CONFIDENCE, NARROW, SWEEPS};
use crate::compare::study::Settings;
use crate::compare::work::Workload;

/// A row to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Workload.
    pub workload: Workload,
    /// Precision.
    pub dtype: DType,
    /// Size.
    pub n: usize,
}

/// All rows, in order, and the limits.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The rows.
    pub rows: Vec<Planned>,
    /// Extent of chunks, if set.
    pub chunk: Option<usize>,
    /// The limits.
    pub settings: Settings,
}

/// What the flags say.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// `--quick`.
    pub quick: bool,
    /// `--workloads`, already read.
    pub workloads: Vec<Family>,
    /// Precisions; empty: both.
    pub dtypes: Vec<DType>,
    /// `--sizes`; empty: those of each workload.
    pub sizes: Vec<usize>,
    /// `--repeats`.
    pub repeats: Option<usize>,
    /// `--budget`.
    pub budget_s: Option<f64>,
    /// `--chunk`.
    pub chunk: Option<usize>,
    /// `--seed`.
    pub seed: u64,
}

/// A workload as users name it; `blocked_mean` is measured in memory and from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Family {
    /// Escape counts.
    Mandelbrot,
    /// Matrix times vector.
    Matvec,
    /// Mean of an array in memory, and of the same in an HDF5 file.
    BlockedMean,
    /// Factor of a positive definite matrix.
    Cholesky,
    /// Arithmetic, a sine and an exponential of two arrays in memory.
    Expression,
    /// Sums of squared deviations along axis 0 of an array in memory.
    Reduce,
}

impl Family {
    /// All of them, in order.
    pub const ALL: [Self; 6] =
        [Self::Mandelbrot, Self::Matvec, Self::BlockedMean, Self::Cholesky, Self::Expression, Self::Reduce];

    fn workloads(self) -> &'static [Workload] {
        match self {
            Self::Mandelbrot => &[Workload::Mandelbrot],
            Self::Matvec => &[Workload::Matvec],
            Self::BlockedMean => &[Workload::BlockedMean, Workload::BlockedMeanFile],
            Self::Cholesky => &[Workload::Cholesky],
            Self::Expression => &[Workload::Expression],
            Self::Reduce => &[Workload::Reduce],
        }
    }
}

/// Sizes that take milliseconds to seconds on a laptop: from where overheads rule to where the work does. The quick ones have a task for each of
/// eight threads at least in the largest, which is about the largest that six sweeps on two cores have time for.
fn default_sizes(workload: Workload, quick: bool) -> &'static [usize] {
    match (workload, quick) {
        (Workload::Mandelbrot, true) => &[500, 2000, 4000],
        (Workload::Cholesky, true) => &[500, 1000, 2000],
        (Workload::Expression | Workload::Reduce, true) => &[1000, 3000, 6000],
        (_, true) => &[1000, 4000, 8000],
        (Workload::Mandelbrot, false) => &[250, 500, 1000, 2000, 4000, 8000],
        (Workload::Cholesky, false) => &[250, 500, 1000, 2000, 4000],
        (Workload::Expression, false) => &[250, 500, 1000, 2000, 4000, 8000],
        (_, false) => &[500, 1000, 2000, 4000, 8000, 16_000],
    }
}

impl Plan {
    /// The plan for these wishes.
    pub fn new(wishes: &Wishes) -> Self {
        let mut families = wishes.workloads.clone();
        families.sort_unstable();
        families.dedup();
        let families = if families.is_empty() { Family::ALL.to_vec() } else { families };
        let dtypes = if wishes.dtypes.is_empty() { vec![DType::F32, DType::F64] } else { wishes.dtypes.clone() };
        let mut sizes = wishes.sizes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        let mut rows = Vec::new();
        for &workload in families.iter().flat_map(|f| f.workloads()) {
            let sizes = if sizes.is_empty() { default_sizes(workload, wishes.quick) } else { &sizes };
            for &dtype in &dtypes {
                rows.extend(sizes.iter().map(|&n| Planned { workload, dtype, n }));
            }
        }
        let repeats = wishes.repeats.unwrap_or(if wishes.quick { 24 } else { 96 });
        let settings = Settings {
            quick: wishes.quick,
            repeats,
            sweeps: SWEEPS.min(repeats),
            budget_s: wishes.budget_s.unwrap_or(if wishes.quick { 45.0 } else { 600.0 }),
            seed: wishes.seed,
            narrow: NARROW,
            confidence: CONFIDENCE,
            warm_up: crate::compare::measure::WARM_UP,
        };
        Self { rows, chunk: wishes.chunk, settings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_wishes_everything_is_measured_in_order() {
        let plan = Plan::new(&Wishes { quick: true, ..Wishes::default() });
        let mut workloads: Vec<&str> = plan.rows.iter().map(|r| r.workload.name()).collect();
        workloads.dedup();
        assert_eq!(
            workloads,
            ["mandelbrot", "matvec", "blocked_mean", "blocked_mean_file", "cholesky", "expression", "reduce"]
        );
        for workload in workloads {
            for dtype in [DType::F32, DType::F64] {
                let rows = plan.rows.iter().filter(|r| r.workload.name() == workload && r.dtype == dtype);
                assert!(rows.count() >= 3, "{workload} {dtype}: several sizes");
            }
        }
        assert!(plan.settings.budget_s < 60.0 && Plan::new(&Wishes::default()).rows.len() > plan.rows.len());
    }

    /// Where there are fewer tasks than threads, more threads gain nothing, and a comparison shows that alone.
    #[test]
    fn quick_sizes_are_large_enough_for_threads_to_matter() {
        use chunkwise::{Array, mandelbrot};
        for workload in Family::ALL.iter().flat_map(|f| f.workloads()) {
            let &n = default_sizes(*workload, true).last().unwrap();
            let a = Array::<f32>::random_uniform([n, n]); // f32 has the fewest chunks
            let tasks = match workload {
                Workload::Mandelbrot => {
                    let axis = Array::<f32>::ogrid(-1.0, 0.0, n);
                    mandelbrot(&axis, &axis, 20).grid().len()
                }
                Workload::Cholesky => a.cholesky().grid().counts()[0],
                _ => a.grid().len(),
            };
            assert!(tasks >= 8, "{} {n}: {tasks}", workload.name());
        }
    }

    #[test]
    fn wishes_are_sorted_and_taken_once() {
        let wishes = Wishes {
            workloads: vec![Family::Cholesky, Family::Matvec, Family::Cholesky],
            dtypes: vec![DType::F32],
            sizes: vec![30, 10, 30],
            repeats: Some(3),
            budget_s: Some(1.5),
            ..Wishes::default()
        };
        let plan = Plan::new(&wishes);
        let row = |workload, n| Planned { workload, dtype: DType::F32, n };
        let wanted =
            [row(Workload::Matvec, 10), row(Workload::Matvec, 30), row(Workload::Cholesky, 10), row(Workload::Cholesky, 30)];
        assert_eq!(plan.rows, wanted);
        assert_eq!((plan.settings.repeats, plan.settings.budget_s), (3, 1.5));
    }
}
