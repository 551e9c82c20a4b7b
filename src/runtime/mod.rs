//! Sessions: real devices driven by the scheduler.
//!
//! Owns: [`Session`], [`Handle`], the record of a run. Must not know: arrays, files, policies. Invariant: every decision is the
//! scheduler's; this room turns actions into launches and reports into events.
//!
//! README.md in this folder has every lock and what may run under it, how a launch comes to a device, and what kernels are asked when.

mod ahead;
mod asked;
mod builder;
mod calibrate;
mod discover;
mod driver;
mod failures;
mod handle;
mod idle;
mod inside;
mod members;
mod orders;
mod outcome;
mod plan;
mod prices;
mod record;
mod recorder;
mod results;
mod run;
mod slots;
mod steps;
mod submit;
mod unable;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use builder::SessionBuilder;
pub use discover::Absent;
pub use handle::Handle;
pub use inside::{GpuBounds, Inside};
pub use outcome::{Comparison, ComparisonRow};
pub use plan::Plan;
pub use record::{Record, Replayed};
pub use results::Results;
pub use run::{MoveSpan, RunReport, TaskSpan};

use crate::cost::CostModel;
use crate::device::{Counters, DeviceKind, DeviceSpec, HOST};
use crate::error::{Result, or_panic};
use crate::id::DeviceId;
use crate::schedule::simulate::{Outcome, Simulation, simulate};
use crate::schedule::{Explanation, Placement, Policy};
use driver::Inner;

/// Devices, a memory limit, a cost model, and a scheduler: where arrays are computed. Cheap to clone; all clones are one.
///
/// ```
/// let session = chunkwise::Session::builder().threads(2).memory_limit("2GB").build()?;
/// assert_eq!(session.devices()[0].name, "cpu");
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[derive(Clone)]
pub struct Session(Arc<Inner>, #[allow(dead_code)] Option<Arc<recorder::Ending>>); // what ends a record is held, not used

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.devices().into_iter().map(|s| s.name).collect();
        write!(f, "Session({}, limit {})", names.join(" + "), crate::Bytes(self.0.memory_limit))
    }
}

/// All that changes in a session is behind locks, and whoever panics under one ends the runs concerned with an error.
impl std::panic::RefUnwindSafe for Inner {}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Session {
    /// Settings to change before building.
    #[must_use]
    pub fn builder() -> SessionBuilder {
        SessionBuilder::new()
    }

    /// The session that arrays use unless told otherwise, with every default; made at the first call.
    ///
    /// It is never dropped. A program that ends while a driver is being loaded may crash in the driver; so a thread whose runs made a session look for GPUs waits for
    /// the search as it ends, at most a second. That does not help where another thread ends the process meanwhile (`std::process::exit`), where the system does not tell threads
    /// of their end (the main thread, with some C libraries), or where a driver takes longer: a program that does one of these calls [`Session::discover`] first, which waits until the search
    /// is over (at most 30 s), or makes a session without GPUs.
    ///
    /// # Panics
    /// If the system cannot start a thread.
    #[must_use]
    #[track_caller]
    pub fn global() -> Self {
        static GLOBAL: OnceLock<Session> = OnceLock::new();
        if let Some(session) = GLOBAL.get() {
            return session.clone();
        }
        let made = or_panic(Session::builder().build());
        GLOBAL.get_or_init(|| made).clone()
    }

    /// The devices, by id. GPUs join when they are found, which is not before work begins for which they may matter; see
    /// [`Session::discover`].
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceSpec> {
        self.0.members.all().iter().map(|m| m.spec.clone()).collect()
    }

    /// Looks for the GPUs of this machine, if that has not been done, and waits (at most 30 s) until they have joined. Says which
    /// are not used, and why. The first time on a machine it also measures them, which takes half a second for each.
    pub fn discover(&self) -> Vec<Absent> {
        self.0.begin_discovery();
        if !self.0.discovery.wait(Duration::from_secs(30)) {
            (self.0.settings.warn)("the GPUs of this machine have not answered within 30 s");
        }
        self.0.discovery.leave(Instant::now() + discover::LEAVE); // then a program may end
        self.0.discovery.absent()
    }

    /// In one line, why the session has no GPU; or which it has.
    #[must_use]
    pub fn why_no_gpu(&self) -> String {
        let members = self.0.members.all();
        let gpus: Vec<&str> = members.iter().filter(|m| m.spec.kind == DeviceKind::Gpu).map(|m| m.spec.name.as_str()).collect();
        if gpus.is_empty() { self.0.discovery.why_none() } else { format!("it has {}", gpus.join(", ")) }
    }

    /// What a device with memory of its own has done so far: launches, submissions, moves. Zeros for the others.
    #[must_use]
    pub fn counters(&self, device: DeviceId) -> Counters {
        self.0.members.all().get(device.index()).map_or_else(Counters::default, |m| m.device.counters())
    }

    /// The host memory limit in bytes.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        self.0.memory_limit
    }

    /// The seed of the session's own random arrays ([`SessionBuilder::seed`]).
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.settings.seed
    }

    /// Host bytes in use by runs that are under way or not yet taken.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().scheduler.used_bytes(HOST)
    }

    /// Whether nothing is queued, running, moving or held: so it is once every handle is waited for or dropped and every launch
    /// has reported.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.runs.is_empty() && state.scheduler.is_idle()
    }

    /// Counts the random streams of the session's own generator.
    pub(crate) fn streams(&self) -> &Arc<AtomicU64> {
        &self.0.streams
    }

    /// Writes what was learned, at most once per second (and when the session ends).
    pub(crate) fn save_costs(&self) {
        let due = {
            let mut saved = self.0.saved.lock().unwrap_or_else(PoisonError::into_inner);
            let due = saved.is_none_or(|at| at.elapsed() > Duration::from_secs(1));
            *saved = if due { Some(Instant::now()) } else { *saved };
            due
        };
        let Some(news) = due.then(|| self.0.with_costs(CostModel::news)).flatten() else { return };
        // A cache that cannot be written costs accuracy of predictions, never results: one warning, then no more tries.
        if let Err(warning) = news.write() {
            self.0.with_costs(CostModel::stop_saving);
            (self.0.settings.warn)(&warning);
        }
    }

    /// What the plan would do: simulated with this session's devices, costs and policy.
    fn predict(&self, plan: &mut Plan, placement: Option<Placement>) -> Result<Outcome> {
        let sim = self.simulation(plan);
        match placement {
            Some(placement) => simulate(&plan.graph, &sim, placement.policy()),
            None => self.0.settings.ask_policy(|policy| simulate(&plan.graph, &sim, policy)),
        }
    }

    /// The devices that a plan is priced on, and its prices.
    fn simulation(&self, plan: &mut Plan) -> Simulation {
        let estimates = plan.price(&self.0).estimates();
        let members = self.0.members.all();
        let priced_on = || members.iter().take(estimates.len());
        let devices = priced_on().map(|m| m.spec.clone()).collect();
        let mut sim = Simulation::new(devices, estimates.clone());
        sim.memory_limit = self.0.memory_limit;
        sim.limits = priced_on().filter_map(|m| Some((m.spec.space, self.0.memory_of(m)?))).collect();
        sim.scratch_bytes = plan.graph.scratch_bytes();
        sim.step_ns = self.step_ns(&plan.graph);
        sim
    }

    /// See [`Inside::explain`].
    fn explain_plan(&self, plan: &mut Plan) -> Result<Explanation> {
        let looks = self.is_worth_looking(plan);
        if looks {
            self.discover();
        }
        let sim = self.simulation(plan);
        let ask = |policy: Box<dyn Policy>| Ok((policy.name(), simulate(&plan.graph, &sim, policy)?));
        let (name, outcome) = self.0.settings.ask_policy(ask)?;
        let mut totals = vec![(name, outcome.makespan_ns as f64 * 1e-9)];
        let kinds = [(DeviceKind::Cpu, Placement::Cpu), (DeviceKind::Gpu, Placement::Gpu)];
        let has = |kind| sim.devices.iter().any(|d| d.kind == kind);
        // What there is no choice of has one name.
        let asked = self.0.settings.policy.is_none().then_some(self.0.settings.placement);
        let is_gpu = |device: DeviceId| sim.devices[device.index()].kind == DeviceKind::Gpu;
        let has_choice = sim.beliefs.iter().any(|column| is_gpu(column.device) && column.any());
        let others = kinds.into_iter().filter(|(kind, placement)| has_choice && has(*kind) && Some(*placement) != asked);
        for (_, placement) in others {
            let alone = simulate(&plan.graph, &sim, placement.policy())?;
            totals.push((format!("{placement} only"), alone.makespan_ns as f64 * 1e-9));
        }
        let bound = self.needs_bytes(&plan.graph);
        let mut explanation = Explanation::new(&plan.graph, &sim, &outcome, totals, bound);
        let limit = |space| self.0.lock().scheduler.limit_bytes(space);
        explanation.notes.extend(plan.prices.1.not_run(&plan.graph, &self.0.members.all(), limit));
        if !looks && self.0.discovery.is_due() {
            explanation
                .notes
                .push("GPUs: not looked for, because this is soon done without (Session::discover looks for them)".into());
        }
        Ok(explanation)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // So that a program that ends does not end while a driver is being loaded.
        self.discovery.leave(Instant::now() + discover::LEAVE);
        let _ = self.costs.get_mut().unwrap_or_else(PoisonError::into_inner).save();
    }
}
