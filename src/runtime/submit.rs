//! From a plan to a run: prices, prediction, results' memory, submission.
//!
//! Owns: [`Session::submit`]. Must not know: what the scheduler will do. Invariant: nothing is counted or kept for a plan that is refused here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::handle::{Quiet, Waits};
use super::pricing::Unable;
use super::results::allocate_result;
use super::run::Run;
use super::{Handle, Plan, Priced, Session};
use crate::device::{self, DeviceKind, DeviceSpec, HostBuffer};
use crate::error::{Error, Result};
use crate::id::{DeviceId, GraphId};
use crate::schedule::{CANNOT, Event, Placement};

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
    /// Starts a plan and returns at once. `asked` is when the user asked, for the report's planning time.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if a result cannot be allocated; [`Error::Failed`] in a task that is the 64th of those that wait for each other,
    /// each inside the one before.
    pub fn submit(&self, plan: Plan, asked: Instant) -> Result<Handle> {
        let within = within();
        if within.as_ref().is_some_and(|within| within.len() >= NESTED) {
            let message = format!("{NESTED} tasks wait for each other, each inside the one before; compute in a loop instead");
            return Err(Error::Failed { what: "computing inside a task".into(), message });
        }
        let (priced, predicted_ns) = self.price_well(&plan)?;
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
        let graph = plan.graph.clone();
        let id = GraphId(NEXT_GRAPH.fetch_add(1, Ordering::Relaxed));
        let run = Run {
            graph: graph.clone(),
            arrays,
            opaque: std::collections::BTreeMap::new(),
            held: graph.kernels().iter().flat_map(|kernel| kernel.hold()).collect(),
            priced,
            within,
            spans: Vec::with_capacity(graph.len()),
            failed_moves: 0,
            moves: Vec::new(),
            bytes_moved: 0,
            attempts: std::collections::BTreeMap::new(),
            error: None,
            over: false,
            unwanted: false,
            submitted_ns: self.0.now_ns(),
            over_ns: 0,
            events: 0,
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
    fn price_well(&self, plan: &Plan) -> Result<(Priced, u64)> {
        let mut priced = self.price(plan);
        let mut predicted_ns = self.predict_ns(plan, &priced);
        // Scheduling takes what it takes, on whatever device and however well that is measured.
        let work_ns = predicted_ns.saturating_sub(self.step_ns(&plan.graph).saturating_mul(plan.graph.len() as u64));
        if work_ns > WORTH_LOOKING_NS && self.0.discovery.is_due() {
            self.0.begin_discovery();
        }
        let may_calibrate = || self.0.settings.calibrate && !self.calibrated() && self.may_calibrate();
        let calibrates = work_ns > WORTH_CALIBRATING_NS && may_calibrate();
        let waits = work_ns > WORTH_WAITING_NS && self.0.settings.placement != Placement::Cpu;
        let in_task = (calibrates || waits).then(|| Waits::new(None));
        if calibrates {
            self.calibrate_if_quiet();
        }
        if waits && !self.0.discovery.wait(PATIENCE) {
            (self.0.warn)("the GPUs of this machine have not answered; going on without them");
        }
        drop(in_task);
        let joined = self.0.members.all().len() > priced.estimates.len();
        if calibrates || joined {
            priced = self.price(plan);
            predicted_ns = self.predict_ns(plan, &priced);
        }
        self.check_able(&priced)?;
        Ok((priced, predicted_ns))
    }

    /// Whether the devices that the user insists on can do the work.
    fn check_able(&self, priced: &Priced) -> Result<()> {
        let members = self.0.members.all();
        let wanted = |id: DeviceId| match self.0.settings.placement {
            Placement::Gpu => true,
            Placement::Device(index) => id.0 == index,
            Placement::Auto | Placement::Cpu => false,
        };
        let gpus = members.iter().filter(|m| m.spec.kind == DeviceKind::Gpu).count();
        // What turned out while the session worked has been told, and is the CPU's work since.
        let known = |unable: &Unable| !matches!(unable, Unable::Unfit(_));
        let unable: Vec<_> = priced.unable.iter().filter(|(id, why)| wanted(*id) && known(why)).collect();
        match (unable.first(), self.0.settings.placement) {
            (Some((id, why)), Placement::Device(_)) => Err(unable_error(&members[id.index()].spec, why)),
            (Some((id, why)), Placement::Gpu) if unable.len() == gpus => Err(unable_error(&members[id.index()].spec, why)),
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
            for at in run.priced.estimates.len()..members.len() {
                let column = run.priced.column(&run.graph, DeviceId::at(at), &members[at]).price(inner);
                run.priced.add(column);
            }
            inner.with_events(|state, events| {
                let members = inner.members.all();
                if members.len() > run.priced.estimates.len() {
                    waiting = Some(run);
                    return;
                }
                if members.iter().any(|m| m.spec.link.is_some()) {
                    events.extend(gone(&mut state.sources));
                    let callers = run.graph.arrays().iter().zip(&run.arrays).filter(|(spec, _)| spec.source != 0);
                    state.sources.extend(callers.map(|(spec, bytes)| (spec.source, Arc::downgrade(bytes))));
                }
                self.0.recover_limits(state, events);
                run.events = state.happened;
                let (tasks, estimates, scratch_bytes) =
                    (run.graph.clone(), run.priced.estimates.clone(), run.graph.scratch_bytes());
                let within = run.within.clone();
                state.runs.insert(id, run);
                events.push_back(Event::Submit { graph: id, tasks, estimates, scratch_bytes, within });
            });
        }
    }

    /// The predicted time of a run. Simulating costs as much as scheduling; for huge graphs the sum of estimates must do.
    fn predict_ns(&self, plan: &Plan, priced: &Priced) -> u64 {
        const FEW: usize = 20_000;
        let simulated = || self.predict(plan, priced, None).ok().map(|o| o.makespan_ns);
        let few = plan.graph.len() <= FEW;
        let steps = || self.step_ns(&plan.graph).saturating_mul(plan.graph.len() as u64);
        few.then(simulated).flatten().unwrap_or_else(|| rough_ns(priced, &self.devices()).saturating_add(steps()))
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

fn unable_error(spec: &DeviceSpec, why: &Unable) -> Error {
    Error::Unable { device: spec.name.clone(), why: why.to_string() }
}

/// Each task on the device that is fastest for it, shared out to its workers: a guess of the makespan.
fn rough_ns(priced: &Priced, specs: &[DeviceSpec]) -> u64 {
    let mut loads = vec![0u64; priced.estimates.len()];
    for task in 0..priced.work.len() {
        let all = priced.estimates.iter().map(|column| column.task_ns[task]).enumerate();
        if let Some((at, ns)) = all.filter(|&(_, ns)| ns != CANNOT).min_by_key(|&(_, ns)| ns) {
            loads[at] = loads[at].saturating_add(ns);
        }
    }
    loads.iter().zip(specs).map(|(load, spec)| load / u64::from(spec.workers.max(1))).max().unwrap_or(0)
}
