//! One row: several entrants do the same work, in rounds, each round in a new order.
//!
//! Owns: warm-up, interleaving, what becomes of an entrant that fails, how sweeps add up. Must not know: devices, workloads, the real
//! clock (samples bring their own time). Invariant: every entrant that does not fail has the same number of samples, taken in the same
//! rounds of the same sweeps.

use serde::Serialize;

use crate::compare::duel::Verdict;
use crate::compare::stats::{Rule, Shuffle, Stopped, Summary};
use crate::compare::work::Check;

/// Rounds before the ones that count, in a row's first sweep: caches and pools are filled, shaders compiled, predictions learned.
pub const WARM_UP: usize = 2;

/// One run of one entrant.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Seconds.
    pub seconds: f64,
    /// Its result beside the reference.
    pub check: Check,
    /// Tasks run.
    pub tasks: usize,
    /// Of these, on GPUs.
    pub gpu_tasks: usize,
    /// Bytes moved between host and devices.
    pub bytes_moved: u64,
    /// Why a GPU had nothing to do, as the run's report says it.
    pub why_idle: Option<String>,
}

/// Who takes part: a device (or several), and where its data are when the clock starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// `one`, `cpu`, `gpu` or `auto`.
    pub device: &'static str,
    /// `cold`: input in host memory, nothing on the device; `resident`: the same input was used just before.
    pub state: State,
}

/// Where the input is when the clock starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In host memory, nothing on the device.
    Cold,
    /// Wherever the run before left it.
    Resident,
}

impl Lane {
    /// One CPU thread.
    pub const ONE: Self = Self { device: "one", state: State::Resident };
    /// All CPU threads.
    pub const CPU: Self = Self { device: "cpu", state: State::Resident };
    /// GPUs alone, data moved each time.
    pub const GPU_COLD: Self = Self { device: "gpu", state: State::Cold };
    /// GPUs alone, data kept there.
    pub const GPU: Self = Self { device: "gpu", state: State::Resident };
    /// Placement by predicted time, data in host memory.
    pub const AUTO_COLD: Self = Self { device: "auto", state: State::Cold };
    /// Placement by predicted time, data kept wherever they are.
    pub const AUTO: Self = Self { device: "auto", state: State::Resident };
}

/// A lane that can run.
pub struct Entrant<'a> {
    /// Who.
    pub lane: Lane,
    /// One run; the error is what its rows will say.
    pub run: Box<dyn FnMut() -> Result<Sample, String> + 'a>,
}

/// What one entrant did in one row.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Who.
    #[serde(flatten)]
    pub lane: Lane,
    /// Median and interval, of the sweeps' medians (of the samples, if there was one sweep); absent if it failed.
    pub summary: Option<Summary>,
    /// Seconds of each run that counts, in the order of the rounds.
    pub samples: Vec<f64>,
    /// How many of the samples each sweep has.
    pub sweeps: Vec<usize>,
    /// Seconds of each warm-up run, which do not count.
    pub warm_up: Vec<f64>,
    /// The worst result of all runs, those that do not count included.
    pub check: Option<Check>,
    /// Tasks of one run, the last.
    pub tasks: usize,
    /// Of these, on GPUs.
    pub gpu_tasks: usize,
    /// Bytes moved between host and devices in that run.
    pub bytes_moved: u64,
    /// Why it failed, or has no place in this row.
    pub failed: Option<String>,
}

impl Measured {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            summary: None,
            samples: Vec::new(),
            sweeps: Vec::new(),
            warm_up: Vec::new(),
            check: None,
            tasks: 0,
            gpu_tasks: 0,
            bytes_moved: 0,
            failed: None,
        }
    }

    /// The median, unless it failed.
    pub fn median(&self) -> Option<f64> {
        self.summary.map(|s| s.median)
    }

    /// Whether a result was farther from the reference than it may be.
    pub fn differs(&self) -> bool {
        self.check.is_some_and(|c| !c.passes())
    }

    /// Takes in what a later sweep measured.
    pub fn add_sweep(&mut self, later: Self) {
        if let Some(check) = later.check.filter(|c| self.check.is_none_or(|mine| c.is_worse(mine))) {
            self.check = Some(check);
        }
        (self.tasks, self.gpu_tasks, self.bytes_moved) = (later.tasks, later.gpu_tasks, later.bytes_moved);
        self.samples.extend(later.samples);
        self.sweeps.extend(later.sweeps);
        self.warm_up.extend(later.warm_up);
        self.failed = self.failed.take().or(later.failed);
        self.summarize();
    }

    /// How this does against `other`. `None` if one failed.
    pub fn against(&self, other: &Self) -> Option<Verdict> {
        Some(Verdict::of(&self.times(other)?, [self.median()?, other.median()?]))
    }

    /// How many times as long this took as `other`, paired by rounds: what disturbs the machine for a while disturbs both. `None` if one
    /// failed.
    pub fn times(&self, other: &Self) -> Option<Summary> {
        if self.summary.is_none() || other.summary.is_none() {
            return None;
        }
        let ratios: Vec<f64> = self.samples.iter().zip(&other.samples).map(|(mine, other)| mine / other).collect();
        Summary::of_sweeps(&ratios, &self.sweeps)
    }

    fn summarize(&mut self) {
        self.summary = if self.failed.is_none() { Summary::of_sweeps(&self.samples, &self.sweeps) } else { None };
    }

    fn take(&mut self, ran: Result<Sample, String>, counts: bool) {
        match ran {
            Ok(sample) => {
                if self.check.is_none_or(|mine| sample.check.is_worse(mine)) {
                    self.check = Some(sample.check);
                }
                (self.tasks, self.gpu_tasks, self.bytes_moved) = (sample.tasks, sample.gpu_tasks, sample.bytes_moved);
                let into = if counts { &mut self.samples } else { &mut self.warm_up };
                into.push(sample.seconds);
            }
            Err(why) => self.failed = Some(why),
        }
    }
}

/// Runs the rounds of a sweep, after `warm_up` ones that do not count. An entrant that fails is out; the others go on. `elapsed_s` tells the
/// seconds since the row began.
pub fn measure(
    entrants: &mut [Entrant<'_>],
    (rule, warm_up): (Rule, usize),
    shuffle: &mut Shuffle,
    mut elapsed_s: impl FnMut() -> f64,
) -> (Vec<Measured>, Stopped) {
    let mut all: Vec<Measured> = entrants.iter().map(|e| Measured::new(e.lane)).collect();
    let mut round = |all: &mut [Measured], counts: bool| {
        for index in shuffle.order(all.len()) {
            if all[index].failed.is_none() {
                let ran = (entrants[index].run)();
                all[index].take(ran, counts);
            }
        }
    };
    for number in 0..warm_up {
        // A second warm-up that takes the row's whole time would leave nothing to measure with.
        if number == 0 || elapsed_s() < 0.3 * rule.budget_s {
            round(&mut all, false);
        }
    }
    let stopped = loop {
        let samples: Vec<&[f64]> = all.iter().filter(|m| m.failed.is_none()).map(|m| &m.samples[..]).collect();
        if samples.is_empty() {
            break Stopped::Repeats; // all failed
        }
        if let Some(why) = rule.stop(&samples, elapsed_s()) {
            break why;
        }
        round(&mut all, true);
    };
    for measured in &mut all {
        measured.sweeps = vec![measured.samples.len()];
        measured.summarize();
    }
    (all, stopped)
}

#[cfg(test)]
pub mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A passing sample of that many seconds.
    pub fn sample(seconds: f64) -> Sample {
        let check = Check { difference: 0.0, tolerance: 0.0, measure: "test" };
        Sample { seconds, check, tasks: 4, gpu_tasks: 0, bytes_moved: 0, why_idle: None }
    }

    fn entrant<'a>(lane: Lane, run: impl FnMut() -> Result<Sample, String> + 'a) -> Entrant<'a> {
        Entrant { lane, run: Box::new(run) }
    }

    const RULE: (Rule, usize) = (Rule { repeats: 8, budget_s: 100.0 }, WARM_UP);

    /// A machine that becomes slower from sweep to sweep: the interval of a time shows it, that of a ratio need not.
    #[test]
    fn drift_widens_the_intervals_of_times_but_not_of_ratios() {
        let sweep = |seconds: f64| {
            let twice = entrant(Lane::ONE, move || Ok(sample(2.0 * seconds)));
            let mut entrants = [entrant(Lane::CPU, move || Ok(sample(seconds))), twice];
            measure(&mut entrants, RULE, &mut Shuffle::new(1), || 0.0).0
        };
        let mut rows = sweep(1.0);
        let (rounds, alone) = (rows[0].samples.len(), rows[0].summary.unwrap());
        assert_eq!((alone.n, alone.spread()), (rounds, 0.0), "of one sweep the samples count");
        for seconds in [1.3, 1.1, 1.5, 1.2, 1.4] {
            rows.iter_mut().zip(sweep(seconds)).for_each(|(row, later)| row.add_sweep(later));
        }
        let times = rows[0].summary.unwrap();
        assert_eq!((times.n, times.low, times.median, times.high), (6, 1.0, 1.25, 1.5), "of several the sweeps' medians");
        assert_eq!((rows[0].samples.len(), &rows[0].sweeps), (6 * rounds, &vec![rounds; 6]));
        let ratio = rows[1].times(&rows[0]).unwrap();
        assert_eq!((ratio.n, ratio.low, ratio.high, ratio.below(1.0)), (6, 2.0, 2.0, Some(false)));
        let failed = Measured { failed: Some("gone".into()), summary: None, ..sweep(1.0).remove(0) };
        rows[0].add_sweep(failed);
        assert!(rows[0].summary.is_none() && rows[0].failed.as_deref() == Some("gone") && rows[1].times(&rows[0]).is_none());
    }

    #[test]
    fn rounds_interleave_in_changing_order_and_the_warm_up_does_not_count() {
        let log = RefCell::new(Vec::new());
        let run = |name: &'static str| {
            let log = &log;
            let mut runs = 0;
            move || {
                log.borrow_mut().push(name);
                runs += 1;
                // The warm-up is slow, and the rest too wide to stop early.
                Ok(sample(if runs <= WARM_UP { 50.0 } else { 1.0 + (runs % 2) as f64 }))
            }
        };
        let mut entrants = [entrant(Lane::CPU, run("cpu")), entrant(Lane::GPU, run("gpu")), entrant(Lane::AUTO, run("auto"))];
        let (all, stopped) = measure(&mut entrants, RULE, &mut Shuffle::new(3), || 0.0);
        drop(entrants);
        assert_eq!(stopped, Stopped::Repeats);
        for m in &all {
            assert_eq!((m.samples.len(), m.warm_up.len(), m.tasks), (8, WARM_UP, 4));
            assert!(m.samples.iter().all(|&s| s < 3.0) && m.warm_up == [50.0; WARM_UP]);
            assert_eq!(m.summary.unwrap().n, 8);
        }
        let log = log.into_inner();
        let rounds: Vec<&[&str]> = log.chunks(3).collect();
        assert_eq!(rounds.len(), 8 + WARM_UP);
        for round in &rounds {
            let mut sorted = round.to_vec();
            sorted.sort_unstable();
            assert_eq!(sorted, ["auto", "cpu", "gpu"], "each once in each round");
        }
        assert!(rounds.iter().any(|r| r != &rounds[0]), "the order changes");
    }

    #[test]
    fn a_device_that_fails_half_way_leaves_the_others_to_go_on() {
        let mut runs = 0;
        let failing = move || {
            runs += 1;
            if runs > 4 { Err("device lost".to_owned()) } else { Ok(sample(0.5)) }
        };
        let mut entrants = [entrant(Lane::GPU, failing), entrant(Lane::CPU, || Ok(sample(1.0)))];
        let (all, stopped) = measure(&mut entrants, RULE, &mut Shuffle::new(0), || 0.0);
        assert_eq!(stopped, Stopped::Narrow);
        assert_eq!((all[0].failed.as_deref(), all[0].samples.len(), all[0].median()), (Some("device lost"), 2, None));
        assert_eq!((all[1].failed.as_deref(), all[1].samples.len(), all[1].median()), (None, 6, Some(1.0)));
        let mut broken = [entrant(Lane::GPU, || Err("no".into()))];
        assert_eq!(measure(&mut broken, RULE, &mut Shuffle::new(0), || 0.0).0[0].failed.as_deref(), Some("no"));
    }

    #[test]
    fn the_budget_ends_rounds_but_never_before_the_first() {
        let mut entrants = [entrant(Lane::CPU, || Ok(sample(1.0)))];
        let (all, stopped) = measure(&mut entrants, RULE, &mut Shuffle::new(0), || 1000.0);
        assert_eq!((stopped, all[0].samples.len(), all[0].warm_up.len()), (Stopped::Budget, 1, 1));
    }

    #[test]
    fn one_wrong_result_is_remembered_even_in_the_warm_up() {
        for wrong_run in [1, 4] {
            let mut runs = 0;
            let run = move || {
                runs += 1;
                let difference = if runs == wrong_run { 0.25 } else { 0.0 };
                Ok(Sample { check: Check { difference, tolerance: 0.0, measure: "test" }, ..sample(1.0) })
            };
            let (all, _) = measure(&mut [entrant(Lane::GPU, run)], RULE, &mut Shuffle::new(0), || 0.0);
            assert!(all[0].differs() && all[0].check.unwrap().difference == 0.25, "{all:?}");
        }
        let nan = Check { difference: f64::NAN, tolerance: 1.0, measure: "test" };
        let run = move || Ok(Sample { check: nan, ..sample(1.0) });
        assert!(measure(&mut [entrant(Lane::GPU, run)], RULE, &mut Shuffle::new(0), || 0.0).0[0].differs());
    }
}
