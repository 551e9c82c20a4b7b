//! From a plan to a run: prices, prediction, results' memory, submission.
//!
//! Owns: [`Session::submit`]. Must not know: what the scheduler will do. Invariant: nothing is counted or kept for a plan that is refused here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::handle::{Quiet, Waits};
use super::prices::Prices;
use super::results::allocate_result;
use super::run::{Fixed, Measurements, Run};
use super::{Handle, Inside, Plan, Session};
use crate::device::{self, HostBuffer};
use crate::error::{Error, Result};
use crate::id::{DeviceId, GraphId};
use crate::schedule::{Event, Placement};

/// One for all sessions: a task of one may wait for a graph of another.
static NEXT_GRAPH: AtomicU32 = AtomicU32::new(1);
/// Tasks that wait for each other, each inside the one before: more would not find room on a thread's stack ([`device::STACK_BYTES`]).
const NESTED: usize = 64;
/// A compute predicted to take longer than this calibrates the machine first.
const WORTH_CALIBRATING_NS: u64 = 2_000_000_000;
/// One predicted to take longer than this starts the search for GPUs; they may join while it runs.
const WORTH_LOOKING_NS: u64 = 50_000_000;
/// One predicted to take longer than this waits for the search to end, at most so long.
const WORTH_WAITING_NS: u64 = 1_000_000_000;
const PATIENCE: Duration = Duration::from_secs(30);

impl Session {
    /// See [`super::Inside::submit`].
    pub(super) fn submit_plan(&self, plan: Plan, asked: Instant) -> Result<Handle> {
        let mut plan = plan;
        let within = within();
        if within.as_ref().is_some_and(|within| within.len() >= NESTED) {
            let message = format!("{NESTED} tasks wait for each other, each inside the one before; compute in a loop instead");
            return Err(Error::Failed { what: "computing inside a task".into(), message });
        }
        let predicted_ns = self.price_well(&mut plan)?;
        let mut arrays = Vec::with_capacity(plan.arrays.len());
        for (spec, bytes) in plan.graph.arrays().iter().zip(&plan.arrays) {
            arrays.push(match bytes {
                Some(bytes) => bytes.clone(),
                None if plan.graph.arrays().iter().map(crate::task::HostArray::bytes).sum::<u64>() > self.0.memory_limit => {
                    HostBuffer::pooled(0)? // refused below, before anything is written
                }
                None => allocate_result(spec.dtype, spec.len)?,
            });
        }
        let peak_bound_bytes = self.needs_bytes(&plan.graph);
        let Plan { graph, kernels, prices: (_, prices), .. } = plan;
        let id = GraphId(NEXT_GRAPH.fetch_add(1, Ordering::Relaxed));
        let run = Run {
            prices,
            opaque: BTreeMap::new(),
            held: kernels.iter().flat_map(|kernel| kernel.hold()).collect(),
            record: Measurements {
                spans: Vec::with_capacity(graph.len()),
                submitted_ns: self.0.now_ns(),
                ..Measurements::default()
            },
            attempts: BTreeMap::new(),
            failed_moves: 0,
            error: None,
            over: false,
            at_end: None,
            unwanted: false,
            fixed: Arc::new(Fixed { graph, kernels, arrays, within }),
        };
        let submitted = Instant::now();
        self.start_run(id, run);
        let plan_s = (submitted - asked).as_secs_f64();
        let predicted_s = predicted_ns as f64 * 1e-9;
        Ok(Handle {
            session: self.clone(),
            id,
            asked,
            plan_s,
            predicted_s,
            peak_bound_bytes,
            taken: false,
            quiet: Quiet::new(),
        })
    }

    /// Drops the copies of caller's arrays that devices keep between runs: the next run moves its data again.
    pub fn forget_copies(&self) {
        self.0.with_events(|state, events| {
            let all = std::mem::take(&mut state.sources).into_keys();
            events.extend(all.map(|source| Event::SourceGone { source }));
        });
    }

    /// Prices a plan, and predicts its time, after whatever must be known first: the GPUs, if they may matter, and rates.
    fn price_well(&self, plan: &mut Plan) -> Result<u64> {
        let rough_ns = self.rough_ns(plan);
        if rough_ns > WORTH_LOOKING_NS {
            self.0.begin_discovery();
        }
        let may_calibrate = || self.0.settings.calibrate && !self.calibrated() && self.may_calibrate();
        let calibrates = rough_ns > WORTH_CALIBRATING_NS && may_calibrate();
        let waits = rough_ns > WORTH_WAITING_NS && self.0.settings.placement != Placement::Cpu;
        let in_task = (calibrates || waits).then(|| Waits::new(None));
        if calibrates {
            self.calibrate_if_quiet();
            plan.forget_prices();
        }
        if waits && !self.0.discovery.wait(PATIENCE) {
            (self.0.settings.warn)("the GPUs of this machine have not answered; going on without them");
        }
        drop(in_task);
        self.check_able(plan.price(&self.0))?;
        Ok(self.predict_ns(plan))
    }

    fn rough_ns(&self, plan: &mut Plan) -> u64 {
        plan.price(&self.0);
        plan.prices.1.rough_ns(&plan.graph, &self.0.members.all())
    }

    /// Whether a run of this plan would look for GPUs.
    pub(super) fn is_worth_looking(&self, plan: &mut Plan) -> bool {
        self.rough_ns(plan) > WORTH_LOOKING_NS
    }

    /// Whether the one device that the user insists on has what the work needs.
    fn check_able(&self, prices: &Prices) -> Result<()> {
        let Placement::Device(index) = self.0.settings.placement else { return Ok(()) };
        let device = DeviceId(index);
        match (self.0.members.all().get(device.index()), prices.lacks(device)) {
            (Some(member), Some(lacks)) => Err(Error::Unable { device: member.spec.name.clone(), why: lacks.to_string() }),
            _ => Ok(()),
        }
    }

    /// Hands a run to the scheduler, priced on the devices of this moment.
    fn start_run(&self, id: GraphId, run: Run) {
        let inner = &self.0;
        let mut waiting = Some(run);
        // A device that joins meanwhile is priced outside the lock; there are few.
        while let Some(mut run) = waiting.take() {
            let members = inner.members.all();
            for (at, member) in members.iter().enumerate().skip(run.prices.len()) {
                run.prices.add(Prices::column(run.graph(), &run.fixed.kernels, (at, member), inner));
            }
            let callers = run.graph().arrays().iter().zip(&run.fixed.arrays).filter(|(spec, _)| spec.source != 0);
            let callers: Vec<_> = callers.map(|(spec, bytes)| (spec.source, Arc::downgrade(bytes))).collect();
            let (tasks, estimates) = (run.graph().clone(), run.prices.estimates());
            let (scratch_bytes, within) = (tasks.scratch_bytes(), run.fixed.within.clone());
            inner.with_events(|state, events| {
                let members = inner.members.all();
                if members.len() > run.prices.len() {
                    waiting = Some(run);
                    return;
                }
                if members.iter().any(|m| m.spec.link.is_some()) {
                    events.extend(gone(&mut state.sources));
                    state.sources.extend(callers);
                }
                self.0.recover_limits(state, events);
                run.record.events = state.happened;
                state.runs.insert(id, run);
                events.push_back(Event::Submit { graph: id, tasks, estimates, scratch_bytes, within });
            });
        }
    }

    /// The predicted time of a run. Simulating costs as much as scheduling; for huge graphs the sum of estimates must do.
    fn predict_ns(&self, plan: &mut Plan) -> u64 {
        const FEW: usize = 20_000;
        let few = plan.graph.len() <= FEW;
        let simulated = few.then(|| self.predict(plan, None).ok()).flatten();
        simulated.map(|outcome| outcome.makespan_ns).unwrap_or_else(|| {
            let steps = self.step_ns(&plan.graph).saturating_mul(plan.graph.len() as u64);
            plan.prices.1.rough_ns(&plan.graph, &self.0.members.all()).saturating_add(steps)
        })
    }
}

/// The graph of the task that runs on this thread, and those that wait for that one, of whatever sessions.
fn within() -> Option<Arc<[GraphId]>> {
    let origin = device::current()?;
    let outer = origin.within.iter().flat_map(|within| within.iter().copied());
    Some(std::iter::once(origin.graph).chain(outer).collect())
}

/// Tells of caller's arrays that nobody has any more: what devices keep of them is of no use.
fn gone(sources: &mut BTreeMap<u64, Weak<HostBuffer>>) -> Vec<Event> {
    let dead: Vec<u64> = sources.iter().filter(|(_, bytes)| bytes.strong_count() == 0).map(|(&source, _)| source).collect();
    dead.iter().for_each(|source| drop(sources.remove(source)));
    dead.into_iter().map(|source| Event::SourceGone { source }).collect()
}
