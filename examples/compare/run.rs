//! From a plan to a study: row after row, then the crossings.
//!
//! Owns: the order of work, its share of the time, what is skipped. Must not know: flags, files of the report. Invariant: the study under
//! the lock is whole between two rows, and nobody computes while holding the lock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chunkwise::device::system;
use chunkwise::{Bytes, Error};

use crate::common::TemporaryFolder;
use crate::compare::duel::Crossing;
use crate::compare::lanes::Lanes;
use crate::compare::machine::Ticks;
use crate::compare::measure::{Lane, WARM_UP, measure};
use crate::compare::plan::{Plan, Planned};
use crate::compare::roofline::Roofline;
use crate::compare::stats::{Rule, Shuffle};
use crate::compare::study::{Crossed, Row, Study};
use crate::compare::work::{Job, Reference, Workload};

/// Bisection ends when the sizes differ by less than this factor.
const SHARP: f64 = 1.1;

/// A sweep begins at least so long after the one before it (less where the budget is small).
const PAUSE: Duration = Duration::from_secs(1);

/// Rounds of each comparison in a bisection.
const CROSSING_REPEATS: usize = 7;

/// A comparison that is under way.
pub struct Comparison<'a> {
    /// The lanes' sessions.
    pub lanes: Lanes<'a>,
    /// What is to be measured.
    pub plan: Plan,
    /// What was found so far.
    pub study: &'a Mutex<Study>,
    /// What bounds are made of.
    pub roofline: Roofline,
    /// Where data files go.
    pub folder: TemporaryFolder,
    /// When it began.
    pub started: Instant,
}

/// The study, whatever became of another thread that held it.
pub fn lock(study: &Mutex<Study>) -> MutexGuard<'_, Study> {
    study.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Comparison<'_> {
    /// Measures all rows in several sweeps, so that the rounds of a row are spread over the whole time: a machine whose speed drifts shows it
    /// then. `watch` is told how many turns are done, and which row is next.
    pub fn rows(&self, watch: &dyn Fn(usize, usize, &Planned)) {
        let mut shuffle = Shuffle::new(self.plan.settings.seed);
        let (rows, repeats) = (self.plan.rows.len(), self.plan.settings.repeats);
        let sweeps = self.plan.settings.sweeps;
        let ticks = Ticks::now();
        let pause = PAUSE.min(Duration::from_secs_f64(self.plan.settings.budget_s / 40.0));
        let mut began = Instant::now();
        for turn in 0..sweeps * rows {
            let (sweep, index) = (turn / rows, turn % rows);
            if sweep > 0 && index == 0 {
                self.refine();
                std::thread::sleep(pause.saturating_sub(began.elapsed()));
                began = Instant::now();
            }
            let planned = self.plan.rows[index];
            watch(turn, sweeps * rows, &planned);
            let left = self.plan.settings.budget_s - self.started.elapsed().as_secs_f64();
            let share = (left / (sweeps * rows - turn) as f64).max(0.0);
            let again = sweep > 0;
            let lanes = if again { lock(self.study).rows[index].alive() } else { self.lanes_for(planned.workload) };
            if again && (left <= 0.0 || lanes.is_empty()) {
                continue;
            }
            let rounds = repeats / sweeps + usize::from(sweep < repeats % sweeps);
            let rule = Rule { repeats: rounds, budget_s: share };
            let row = self.row(planned, &lanes, (rule, if again { 0 } else { WARM_UP }), &mut shuffle);
            let mut study = lock(self.study);
            if again {
                study.rows[index].add_sweep(row)
            } else {
                study.rows.push(row)
            }
            study.total_s = self.started.elapsed().as_secs_f64();
            let since = Ticks::now().zip(ticks);
            study.machine.others_busy_cores = since.and_then(|(now, before)| now.others_since(before, system::threads()));
        }
    }

    /// Measures the CPU's peaks once more, and corrects the bounds.
    fn refine(&self) {
        let calibration = self.roofline.refine();
        let mut study = lock(self.study);
        study.machine.calibration = calibration;
        for row in study.rows.iter_mut().filter(|r| r.bound_s.is_some()) {
            row.bound_s = row.flops.map(|flops| self.roofline.bound_s(row.dtype, (flops, row.bytes)));
        }
    }

    fn row(&self, planned: Planned, lanes: &[Lane], rule: (Rule, usize), shuffle: &mut Shuffle) -> Row {
        let start = Instant::now();
        let Planned { workload, dtype, n } = planned;
        let (input, result) = workload.bytes(dtype, n);
        let bytes = input + result;
        let mut row = Row {
            workload,
            dtype,
            n,
            bytes,
            flops: None,
            bound_s: None,
            gpu_bound_s: None,
            lanes: Vec::new(),
            stopped: None,
            skipped: self.too_large(planned),
            cut_short: None,
            reference: None,
        };
        if row.skipped.is_some() {
            return row;
        }
        match self.job(planned) {
            Err(error) => row.skipped = Some(error.to_string()),
            Ok((job, reference)) => {
                let check = job.check_alone(&reference);
                row.reference = Some(check);
                if !check.passes() {
                    row.skipped = Some(format!("the CPU's own result fails: {} is {:.1e}", check.measure, check.difference));
                    return row;
                }
                let work = job.work(&reference);
                row.flops = Some(work.0);
                if workload != Workload::BlockedMeanFile {
                    row.bound_s = Some(self.roofline.bound_s(dtype, work));
                    let gpu = lock(self.study).machine.gpu_rates;
                    row.gpu_bound_s = gpu.and_then(|gpu| gpu.bounds_s(dtype, work.0, (input, workload.bytes_back(result))));
                }
                let mut entrants = self.lanes.entrants(lanes, &job, &reference);
                let (measured, stopped) = measure(&mut entrants, rule, shuffle, || start.elapsed().as_secs_f64());
                (row.lanes, row.stopped) = (measured, Some(stopped));
            }
        }
        row
    }

    /// A file is read by the CPU; a lane that may only use GPUs has nothing to do there.
    fn lanes_for(&self, workload: Workload) -> Vec<Lane> {
        let mut lanes = self.lanes.list();
        if workload == Workload::BlockedMeanFile {
            lanes.retain(|lane| lane.device != "gpu");
        }
        lanes
    }

    /// The work, and the reference: what all CPU threads compute.
    fn job(&self, planned: Planned) -> Result<(Job, Reference), Error> {
        let session = self.lanes.session(Lane::CPU)?;
        let job = Job::new(planned.workload, (planned.dtype, planned.n, self.plan.chunk), &session, &self.folder)?;
        let reference = job.prepare(&session)?()?.values;
        Ok((job, Reference::new(reference)))
    }

    /// Why the row cannot be tried, known from its size alone.
    fn too_large(&self, planned: Planned) -> Option<String> {
        let needed = planned.workload.memory(planned.dtype, planned.n);
        let limit = lock(self.study).machine.memory_limit_bytes;
        let bytes = |bytes: f64| Bytes(bytes as u64);
        if needed > limit as f64 {
            return Some(format!(
                "needs {}, more than the {} that a run may take (--memory-limit)",
                bytes(needed),
                Bytes(limit)
            ));
        }
        let file = planned.workload.bytes(planned.dtype, planned.n).0;
        let free = system::disk_free(self.folder.path()).ok().filter(|&free| (free as f64) < 1.02 * file);
        let free = free.filter(|_| planned.workload == Workload::BlockedMeanFile)?;
        Some(format!(
            "its file needs {}, and the disk of {} has {} left",
            bytes(file),
            self.folder.path().display(),
            Bytes(free)
        ))
    }

    /// Looks for the crossings of all groups, by bisection on real runs between an eighth of the smallest size and the largest.
    pub fn crossings(&self, watch: &dyn Fn(usize, usize, &Planned)) {
        let (groups, duels) = {
            let study = lock(self.study);
            (study.groups(), study.duels())
        };
        let mut looks = Vec::new();
        for (workload, dtype) in groups.into_iter().filter(|g| g.0 != Workload::BlockedMeanFile) {
            let sizes = lock(self.study)
                .rows_of(workload, dtype)
                .iter()
                .filter(|r| r.skipped.is_none())
                .map(|r| r.n)
                .collect::<Vec<_>>();
            if let (Some(&low), Some(&high)) = (sizes.first(), sizes.last()) {
                looks.extend(duels.iter().map(|&duel| (duel, Planned { workload, dtype, n: low.div_ceil(8) }, high)));
            }
        }
        // A bisection of three octaves and more to 10 % takes about eight comparisons.
        let share = self.plan.settings.budget_s / (8 * looks.len()).max(1) as f64;
        let rule = Rule { repeats: self.plan.settings.repeats.min(CROSSING_REPEATS), budget_s: share };
        let mut shuffle = Shuffle::new(self.plan.settings.seed ^ 1);
        let deadline = Instant::now() + Duration::from_secs_f64(self.plan.settings.budget_s);
        for (index, (duel, planned, high)) in looks.iter().enumerate() {
            watch(index, looks.len(), planned);
            if let Some(crossed) = self.cross(*duel, *planned, *high, (rule, deadline), &mut shuffle) {
                lock(self.study).crossings.push(crossed);
            }
        }
    }

    /// `None` if a run fails (the rows tell of that already), or if time is over: then the rows' answer stands.
    fn cross(
        &self,
        (challenger, against): (Lane, Lane),
        from: Planned,
        high: usize,
        (rule, deadline): (Rule, Instant),
        shuffle: &mut Shuffle,
    ) -> Option<Crossed> {
        let mut runs = Vec::new();
        let wins = |n: usize| -> Result<bool, Option<Error>> {
            if n == high {
                // The table has it, from all sweeps.
                let study = lock(self.study);
                let row = study.rows_of(from.workload, from.dtype).into_iter().find(|r| r.n == n).ok_or(None)?;
                let verdict = row.verdict(challenger, against).ok_or(None)?;
                runs.extend(row.median(challenger).zip(row.median(against)).map(|(mine, other)| (n, mine, other)));
                return Ok(verdict.wins());
            }
            if Instant::now() > deadline {
                return Err(None);
            }
            let (job, reference) = self.job(Planned { n, ..from }).map_err(Some)?;
            let mut entrants = self.lanes.entrants(&[challenger, against], &job, &reference);
            let start = Instant::now();
            let (measured, _) = measure(&mut entrants, (rule, WARM_UP), shuffle, || start.elapsed().as_secs_f64());
            let [mine, other] = &measured[..] else { return Err(None) };
            let verdict = mine.against(other).ok_or(None)?;
            runs.extend(mine.median().zip(other.median()).map(|(mine, other)| (n, mine, other)));
            Ok(verdict.wins())
        };
        let crossing = Crossing::bisect(from.n, high, SHARP, wins).ok()?;
        let Planned { workload, dtype, .. } = from;
        Some(Crossed { workload, dtype, challenger, against, method: "bisection", crossing, runs })
    }
}
