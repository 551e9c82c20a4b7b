//! Lanes with real sessions behind them.
//!
//! Owns: which session a lane runs in, and what makes it cold. Must not know: rounds, statistics. Invariant: what the clock sees of a cold
//! and of a resident run is the same call; all that differs is what the session did before.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chunkwise::device::DeviceKind;
use chunkwise::shape::DType;
use chunkwise::{Error, Placement, Session};

use crate::compare::measure::{Entrant, Lane, Sample, State};
use crate::compare::work::{Check, Done, Job, Prepared, Reference, Workload};

/// How sessions are opened: where tasks may run, and how many CPU threads (`None`: as many as the flags say).
pub type Open<'a> = dyn Fn(Placement, Option<usize>) -> Result<Session, Error> + 'a;

/// The sessions of all lanes. A lane keeps its session from row to row; one that failed gets a new one.
pub struct Lanes<'a> {
    open: &'a Open<'a>,
    gpu: Placement,
    kept: Vec<(Lane, RefCell<Option<Session>>)>,
    /// Tasks that GPUs have run of a job, in the lane that is theirs.
    seen: RefCell<BTreeMap<(bool, Workload, DType, usize), usize>>,
}

impl<'a> Lanes<'a> {
    /// The lanes of a machine: with a GPU, CPU, GPU and automatic placement; without, one thread and all.
    pub fn new(open: &'a Open<'a>, gpu: Option<Placement>, threads: u32) -> Self {
        let lanes: &[Lane] = match gpu {
            Some(_) => &[Lane::CPU, Lane::GPU_COLD, Lane::GPU, Lane::AUTO_COLD, Lane::AUTO],
            None if threads == 1 => &[Lane::CPU],
            None => &[Lane::ONE, Lane::CPU],
        };
        let kept = lanes.iter().map(|&lane| (lane, RefCell::new(None))).collect();
        Self { open, gpu: gpu.unwrap_or(Placement::Gpu), kept, seen: RefCell::default() }
    }

    /// Who takes part, in the order of columns.
    pub fn list(&self) -> Vec<Lane> {
        self.kept.iter().map(|k| k.0).collect()
    }

    /// A lane's session; the same one as long as it works.
    ///
    /// # Errors
    /// What opening one reports.
    pub fn session(&self, lane: Lane) -> Result<Session, Error> {
        let Some((_, kept)) = self.kept.iter().find(|k| k.0 == lane) else { return self.open(lane) };
        if kept.borrow().is_none() {
            let session = self.open(lane)?;
            *kept.borrow_mut() = Some(session);
        }
        kept.borrow().clone().map_or_else(|| self.open(lane), Ok)
    }

    fn open(&self, lane: Lane) -> Result<Session, Error> {
        match lane.device {
            "one" => (self.open)(Placement::Cpu, Some(1)),
            "cpu" => (self.open)(Placement::Cpu, None),
            "gpu" => (self.open)(self.gpu, None),
            _ => (self.open)(Placement::Auto, None),
        }
    }

    /// The lanes, ready to run `job`; results are compared with `reference`.
    pub fn entrants<'j>(&'j self, lanes: &[Lane], job: &'j Job, reference: &Reference) -> Vec<Entrant<'j>> {
        let entrant = |&lane: &Lane| {
            let reference = reference.clone();
            let mut ready: Option<(Session, Prepared)> = None;
            let mut run = move || -> Result<Sample, Error> {
                let new = ready.is_none();
                let (session, prepared) = match ready.take() {
                    Some(ready) => ready,
                    None => {
                        let session = self.session(lane)?;
                        let prepared = job.prepare(&session)?;
                        (session, prepared)
                    }
                };
                let run = || Ok::<_, Error>(sample(&session, job, &prepared()?, &reference));
                // A run goes before that does not count: threads awake, caches warm. Its result is checked too.
                let mut worst = run()?.check;
                if lane == Lane::AUTO && new {
                    worst = worst.worse(settle(run)?);
                }
                if lane.state == State::Cold {
                    session.forget_copies(); // the one place that makes a run cold
                }
                let counts = run()?;
                let sample = Sample { check: counts.check.worse(worst), ..counts };
                ready = Some((session, prepared));
                Ok(sample)
            };
            let run = move || {
                let ran = run().map_err(|error| error.to_string());
                let ran =
                    ran.and_then(|sample| if lane.device == "gpu" { self.gpu_alone(sample, job, lane) } else { Ok(sample) });
                if ran.is_err() {
                    // Whatever broke, the next row starts afresh.
                    if let Some((_, kept)) = self.kept.iter().find(|k| k.0 == lane) {
                        *kept.borrow_mut() = None;
                    }
                }
                ran
            };
            Entrant { lane, run: Box::new(run) }
        };
        lanes.iter().map(entrant).collect()
    }
}

impl Lanes<'_> {
    /// Passes a sample of the GPU's lane on if it is what the lane says. A session goes on without a GPU that was lost, and gives the right
    /// result; but its time is the CPU's. What begins with "no " is shown as an absence and not as a failure.
    fn gpu_alone(&self, sample: Sample, job: &Job, lane: Lane) -> Result<Sample, String> {
        let mut seen = self.seen.borrow_mut();
        let most = seen.entry((lane.state == State::Cold, job.workload, job.dtype, job.n)).or_default();
        if sample.gpu_tasks < *most {
            return Err(format!("the GPU failed: {} of its {most} tasks ran on the CPU instead", *most - sample.gpu_tasks));
        }
        *most = sample.gpu_tasks;
        if sample.gpu_tasks == 0 {
            return Err(format!("no task of it ran on a GPU: {}", sample.why_idle.as_deref().unwrap_or("there was none")));
        }
        Ok(sample)
    }
}

/// Runs before the first sample of automatic placement with resident data: it moves data to a GPU only once that would have paid off.
const SETTLING: (usize, Duration) = (16, Duration::from_millis(50));

fn settle(mut run: impl FnMut() -> Result<Sample, Error>) -> Result<Check, Error> {
    let began = Instant::now();
    let mut worst = run()?.check;
    for _ in 1..SETTLING.0 {
        if began.elapsed() >= SETTLING.1 {
            break;
        }
        worst = worst.worse(run()?.check);
    }
    Ok(worst)
}

fn sample(session: &Session, job: &Job, done: &Done, reference: &Reference) -> Sample {
    let devices = session.devices();
    let on_gpu = |name: &str| devices.iter().any(|d| d.name == name && d.kind == DeviceKind::Gpu);
    let placement = done.report.placement();
    let gpu_tasks = placement.iter().filter(|p| on_gpu(&p.0)).map(|p| p.1).sum();
    let check = job.check(&done.values, reference, gpu_tasks > 0);
    let why_idle = done.report.idle.first().map(|idle| idle.1.clone());
    Sample {
        seconds: done.seconds,
        check,
        tasks: done.report.tasks(),
        gpu_tasks,
        bytes_moved: done.report.bytes_moved,
        why_idle,
    }
}
