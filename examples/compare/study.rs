//! Everything that a comparison found, as data: what JSON, table, page and pictures are made of.
//!
//! Owns: the report's schema. Must not know: how anything is measured or drawn. Invariant: it can be written at any moment; what is
//! missing then (an interrupted run, a skipped row) says so.

use chunkwise::shape::DType;
use serde::Serialize;

use crate::compare::duel::{Crossing, Verdict};
use crate::compare::machine::Machine;
use crate::compare::measure::{Lane, Measured, State};
use crate::compare::roofline::GpuBounds;
use crate::compare::stats::Stopped;
use crate::compare::work::{Check, Workload};

/// The schema's name and version; the number rises when a field changes its meaning or goes.
pub const SCHEMA: &str = "chunkwise-compare/3";

/// A comparison.
#[derive(Debug, Serialize)]
pub struct Study {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// `compare`, as in the JSON of all programs.
    pub workload: &'static str,
    /// When it began: `2026-11-25T14:09:12Z`.
    pub date: String,
    /// The command line.
    pub command: Vec<String>,
    /// Whether it was stopped before its end: what is here is whole, the rest is missing.
    pub interrupted: bool,
    /// Seconds in all.
    pub total_s: f64,
    /// Settings that decide how much is measured.
    pub settings: Settings,
    /// Where.
    pub machine: Machine,
    /// Who takes part, in the order of columns.
    pub lanes: Vec<Lane>,
    /// What was measured.
    pub rows: Vec<Row>,
    /// Where the challenger overtakes.
    pub crossings: Vec<Crossed>,
    /// What the numbers say, a fact in each.
    pub conclusions: Vec<String>,
    /// Results that were farther from the reference than they may be; empty is what one wants.
    pub differences: Vec<String>,
    /// Files written.
    pub wrote: Vec<String>,
}

/// Settings.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Whether `--quick` was given.
    pub quick: bool,
    /// Most rounds of a row, in all sweeps.
    pub repeats: usize,
    /// Sweeps over all rows.
    pub sweeps: usize,
    /// Seconds for all rows.
    pub budget_s: f64,
    /// Seed of input and order.
    pub seed: u64,
    /// Intervals narrower than this share of the median end a row.
    pub narrow: f64,
    /// The confidence that intervals aim at.
    pub confidence: f64,
    /// Warm-up rounds at most.
    pub warm_up: usize,
}

/// One workload, precision and size.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Workload.
    pub workload: Workload,
    /// Precision.
    pub dtype: DType,
    /// Size: n of n x n.
    pub n: usize,
    /// Bytes of input and result that any device must read and write.
    pub bytes: f64,
    /// Operations that any device must do; absent where nothing was run to count them.
    pub flops: Option<f64>,
    /// Seconds below which this CPU cannot be, by its measured peaks; absent for files, which no peak here bounds.
    pub bound_s: Option<f64>,
    /// Seconds below which the GPUs cannot be, by their measured peaks and links.
    pub gpu_bound_s: Option<GpuBounds>,
    /// What each lane did.
    pub lanes: Vec<Measured>,
    /// Why the rounds of the last sweep ended.
    pub stopped: Option<Stopped>,
    /// Why nothing was measured, if so.
    pub skipped: Option<String>,
    /// Why later sweeps are missing, if so.
    pub cut_short: Option<String>,
    /// The check of the CPU's own result that the others are compared with.
    pub reference: Option<Check>,
}

/// At which sizes the challenger wins.
#[derive(Clone, Debug, Serialize)]
pub struct Crossed {
    /// Workload.
    pub workload: Workload,
    /// Precision.
    pub dtype: DType,
    /// Who: GPUs against the CPU, or all threads against one.
    pub challenger: Lane,
    /// Against whom.
    pub against: Lane,
    /// `bisection` (runs between the sizes) or `rows` (the table's sizes alone).
    pub method: &'static str,
    /// The answer.
    #[serde(flatten)]
    pub crossing: Crossing,
    /// The runs that bisection made: size, seconds of the challenger, seconds of the other.
    pub runs: Vec<(usize, f64, f64)>,
}

impl Row {
    /// `matvec f32 4000 x 4000`.
    pub fn name(&self) -> String {
        format!("{} {} {n} x {n}", self.workload.name(), self.dtype, n = self.n)
    }

    /// The lanes that a further sweep would measure.
    pub fn alive(&self) -> Vec<Lane> {
        let over = self.skipped.is_some() || self.cut_short.is_some();
        self.lanes.iter().filter(|m| !over && m.failed.is_none()).map(|m| m.lane).collect()
    }

    /// Takes in what a later sweep measured.
    pub fn add_sweep(&mut self, later: Self) {
        for later in later.lanes {
            if let Some(mine) = self.lanes.iter_mut().find(|m| m.lane == later.lane) {
                mine.add_sweep(later);
            }
        }
        self.stopped = later.stopped.or(self.stopped);
        self.cut_short = self.cut_short.take().or(later.skipped);
        self.reference = later.reference.filter(|c| !c.passes()).or(self.reference);
    }

    /// What a lane did.
    pub fn lane(&self, lane: Lane) -> Option<&Measured> {
        self.lanes.iter().find(|m| m.lane == lane)
    }

    /// A lane's median seconds, if it has one.
    pub fn median(&self, lane: Lane) -> Option<f64> {
        self.lane(lane)?.median()
    }

    /// How one lane does against another.
    pub fn verdict(&self, challenger: Lane, against: Lane) -> Option<Verdict> {
        self.lane(challenger)?.against(self.lane(against)?)
    }

    /// How far automatic placement is above the better of CPU-only and GPU-only, as a share of the medians.
    pub fn auto_over_best(&self, state: State) -> Option<f64> {
        let (auto, gpu) = if state == State::Cold { (Lane::AUTO_COLD, Lane::GPU_COLD) } else { (Lane::AUTO, Lane::GPU) };
        let best = [gpu, Lane::CPU].into_iter().filter_map(|lane| self.median(lane)).reduce(f64::min)?;
        Some(self.median(auto)? / best - 1.0)
    }
}

impl Study {
    /// The pairs whose crossing is of interest: (challenger, against).
    pub fn duels(&self) -> Vec<(Lane, Lane)> {
        let has = |lane| self.lanes.contains(&lane);
        let all = [(Lane::GPU_COLD, Lane::CPU), (Lane::GPU, Lane::CPU), (Lane::CPU, Lane::ONE)];
        all.into_iter().filter(|&(a, b)| has(a) && has(b)).collect()
    }

    /// The least confidence of any interval; 1 if there are none.
    pub fn confidence(&self) -> f64 {
        let all = self.rows.iter().flat_map(|r| &r.lanes).filter_map(|m| m.summary);
        all.map(|s| s.confidence).fold(1.0, f64::min)
    }

    /// A lane's name in tables and legends.
    pub fn lane_name(&self, lane: Lane) -> String {
        match (lane.device, lane.state) {
            ("one", _) => "1 thread".into(),
            ("cpu", _) if self.lanes.contains(&Lane::ONE) => format!("{} threads", self.machine.threads),
            ("cpu", _) => "cpu".into(),
            (device, State::Cold) => format!("{device} cold"),
            (device, State::Resident) => format!("{device} resident"),
        }
    }

    /// Workloads and precisions that have rows, in their order.
    pub fn groups(&self) -> Vec<(Workload, DType)> {
        let mut groups = Vec::new();
        for row in &self.rows {
            if !groups.contains(&(row.workload, row.dtype)) {
                groups.push((row.workload, row.dtype));
            }
        }
        groups
    }

    /// The rows of a group, by size.
    pub fn rows_of(&self, workload: Workload, dtype: DType) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().filter(|r| (r.workload, r.dtype) == (workload, dtype)).collect();
        rows.sort_by_key(|r| r.n);
        rows
    }

    /// How `challenger` does against `against` at each size of a group, by size.
    pub fn verdicts(&self, workload: Workload, dtype: DType, (challenger, against): (Lane, Lane)) -> Vec<(usize, Verdict)> {
        let rows = self.rows_of(workload, dtype);
        rows.into_iter().filter_map(|r| Some((r.n, r.verdict(challenger, against)?))).collect()
    }

    /// The one answer to where `challenger` wins: by bisection, if there was one that the table's sizes do not deny, else by these sizes.
    pub fn crossing(&self, workload: Workload, dtype: DType, (challenger, against): (Lane, Lane)) -> Option<Crossing> {
        let verdicts = self.verdicts(workload, dtype, (challenger, against));
        let same = |c: &&Crossed| (c.workload, c.dtype, c.challenger, c.against) == (workload, dtype, challenger, against);
        let found = self.crossings.iter().find(same).map(|c| c.crossing);
        found.filter(|c| c.holds(&verdicts)).or_else(|| Crossing::of_rows(&verdicts))
    }

    /// Adds what follows from the rows: crossings that bisection did not look for, sentences, differences.
    pub fn conclude(&mut self) {
        let found = std::mem::take(&mut self.crossings);
        let holds = |c: &Crossed| c.crossing.holds(&self.verdicts(c.workload, c.dtype, (c.challenger, c.against)));
        self.crossings = found.into_iter().filter(holds).collect();
        for (workload, dtype) in self.groups() {
            for duel in self.duels() {
                let looked = |c: &Crossed| (c.workload, c.dtype, c.challenger) == (workload, dtype, duel.0);
                if self.crossings.iter().any(looked) {
                    continue;
                }
                if let Some(crossing) = self.crossing(workload, dtype, duel) {
                    let (challenger, against) = duel;
                    let (method, runs) = ("rows", Vec::new());
                    self.crossings.push(Crossed { workload, dtype, challenger, against, method, crossing, runs });
                }
            }
        }
        self.conclusions = crate::compare::words::conclusions(self);
        self.differences = crate::compare::words::differences(self);
    }
}

/// The time in UTC, as ISO 8601 writes it.
pub fn utc(since_1970: std::time::Duration) -> String {
    let seconds = since_1970.as_secs();
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    // H. Hinnant, "chrono-compatible low-level date algorithms": days to civil, years that begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |s| super::utc(Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_795_615_752), "2026-11-25T14:09:12Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
