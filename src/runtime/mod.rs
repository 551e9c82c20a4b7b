//! Sessions: real devices driven by the scheduler.
//!
//! Owns: [`Session`], [`Handle`], the record of a run. Must not know: arrays, files, policies. Invariant: every decision is the
//! scheduler's; this room turns actions into launches and reports into events.

mod driver;
mod plan;
mod run;
mod transfer;

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use plan::{Plan, Priced};
pub use run::{MoveSpan, RunReport, TaskSpan};

use crate::cost::{Calibration, CostModel, DeviceKey, Rates, calibrate};
use crate::device::{Cpu, Device, DeviceKind, DeviceSpec, HOST, HostBuffer, IoLane, Window, system};
use crate::error::{Error, Result};
use crate::id::{DeviceId, GraphId, ValueId};
use crate::schedule::simulate::{Outcome, Simulation, simulate};
use crate::schedule::{Event, Explanation, Place, Placement, Policy, Scheduler};
use crate::shape::DType;
use crate::task::Home;
use driver::{Inner, State};
use run::Run;

/// A compute predicted to take longer than this calibrates the machine first.
const WORTH_CALIBRATING_NS: u64 = 2_000_000_000;
/// Most tasks of one run whose times are learned from.
const LEARN: usize = 4096;

#[derive(Clone)]
pub(crate) struct Settings {
    placement: Placement,
    policy: Option<fn() -> Box<dyn Policy>>,
    seed: u64,
    calibrate: bool,
}

/// Devices, a memory limit, a cost model, and a scheduler: where arrays are computed. Cheap to clone; all clones are one.
///
/// ```
/// let session = chunkwise::Session::builder().threads(2).memory_limit("2GB").build()?;
/// assert_eq!(session.devices()[0].name, "cpu");
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[derive(Clone)]
pub struct Session(Arc<Inner>);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.0.specs.iter().map(|s| s.0.name.as_str()).collect();
        write!(f, "Session({}, limit {})", names.join(" + "), crate::Bytes(self.0.memory_limit))
    }
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Settings of a [`Session`]. All have defaults.
pub struct SessionBuilder {
    threads: Option<usize>,
    memory_limit: Option<Result<u64>>,
    cache_dir: Option<PathBuf>,
    devices: Option<Vec<Arc<dyn Device>>>,
    stall: Option<(u64, Duration)>,
    record_events: bool,
    warnings: Box<dyn Fn(&str)>,
    settings: Settings,
}

impl SessionBuilder {
    /// CPU threads; default: all that the process may use.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Most host memory that chunks, scratch, caller's arrays and results may take together, as text (`"1GB"`); default: 70 %
    /// of what is available (cgroup limits counted).
    #[must_use]
    pub fn memory_limit(mut self, limit: &str) -> Self {
        self.memory_limit = Some(limit.parse::<crate::Bytes>().map(|b| b.0));
        self
    }

    /// Where tasks run; default: wherever they finish first.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.settings.placement = placement;
        self
    }

    /// A policy of your own instead of [`SessionBuilder::placement`]; it is made anew for each simulation.
    #[must_use]
    pub fn policy(mut self, policy: fn() -> Box<dyn Policy>) -> Self {
        self.settings.policy = Some(policy);
        self
    }

    /// Seed of random arrays; default 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Where measured costs are kept; default: the user's cache directory. An empty path keeps them in memory only.
    #[must_use]
    pub fn cache_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(dir.into());
        self
    }

    /// Devices instead of the discovered ones (the first two are `cpu` and `io` by default).
    #[must_use]
    pub fn devices(mut self, devices: Vec<Arc<dyn Device>>) -> Self {
        self.devices = Some(devices);
        self
    }

    /// When a task counts as stalled and is run again elsewhere: after `factor` times its predicted time plus `floor`.
    /// Default: 10, 5 s.
    #[must_use]
    pub fn stall_after(mut self, factor: u64, floor: Duration) -> Self {
        self.stall = Some((factor, floor));
        self
    }

    /// Keeps every event that the scheduler sees, for [`Session::events`].
    #[must_use]
    pub fn record_events(mut self) -> Self {
        self.record_events = true;
        self
    }

    /// Called with each warning (an unreadable cost cache, for example), at most a few times; default: standard error.
    #[must_use]
    pub fn warnings(mut self, warn: impl Fn(&str) + 'static) -> Self {
        self.warnings = Box::new(warn);
        self
    }

    /// The session.
    ///
    /// # Errors
    /// [`Error::Argument`] for settings out of range, [`Error::NoDevice`] if the placement asks for a device that is not there.
    pub fn build(self) -> Result<Session> {
        let threads = self.threads.unwrap_or_else(system::threads);
        if threads == 0 || threads > 4096 {
            return Err(Error::argument("threads", threads, "between 1 and 4096"));
        }
        let memory_limit = self.memory_limit.transpose()?.unwrap_or_else(system::default_memory_limit);
        let devices = match self.devices {
            Some(devices) => devices,
            None => vec![Arc::new(Cpu::new(threads)?) as Arc<dyn Device>, Arc::new(IoLane::new())],
        };
        check_placement(self.settings.placement, &devices)?;
        let dir = self.cache_dir.or_else(system::cache_dir).filter(|d| !d.as_os_str().is_empty());
        let (mut costs, warning) = CostModel::load(dir.as_deref());
        if let Some(warning) = warning {
            (self.warnings)(&warning);
        }
        let specs = devices.iter().map(|d| {
            let spec = d.spec().clone();
            let rates = match spec.kind {
                DeviceKind::Cpu => Rates::CPU,
                DeviceKind::Gpu => Rates::GPU,
                DeviceKind::Io => Rates::IO,
            };
            let priced = costs.device(&DeviceKey::new(format!("{}: {}", spec.name, spec.model)), rates);
            (spec, priced)
        });
        let specs: Vec<_> = specs.collect();
        let policy = self.settings.policy.map_or_else(|| self.settings.placement.policy(), |make| make());
        let mut scheduler = Scheduler::new(policy);
        if let Some((factor, floor)) = self.stall {
            scheduler.set_stall_rule(factor, floor.as_nanos() as u64);
        }
        let state = State {
            scheduler,
            runs: std::collections::BTreeMap::new(),
            buffers: Vec::new(),
            next_graph: 0,
            log: self.record_events.then(Vec::new),
        };
        let inner = Arc::new(Inner {
            devices,
            specs,
            state: Mutex::new(state),
            changed: Condvar::new(),
            costs: Mutex::new(costs),
            start: Instant::now(),
            memory_limit,
            settings: self.settings,
            streams: std::sync::atomic::AtomicU64::new(0),
            saved: Mutex::new(None),
        });
        inner.apply(Event::MemoryLimit { space: HOST, bytes: memory_limit }, |_| {});
        for (index, (spec, _)) in inner.specs.iter().enumerate() {
            inner.apply(Event::DeviceJoined { device: DeviceId::at(index), spec: spec.clone() }, |_| {});
        }
        Ok(Session(inner))
    }
}

fn check_placement(placement: Placement, devices: &[Arc<dyn Device>]) -> Result<()> {
    let names: Vec<String> = devices.iter().enumerate().map(|(i, d)| format!("{i} = {}", d.spec().name)).collect();
    match placement {
        Placement::Gpu if !devices.iter().any(|d| d.spec().kind == DeviceKind::Gpu) => Err(Error::NoDevice {
            wanted: "gpu".into(),
            found: format!(
                "this session has {}; use --device cpu or auto (this version computes on CPUs only)",
                names.join(", ")
            ),
        }),
        Placement::Device(index) if devices.get(index as usize).is_none_or(|d| d.spec().kind == DeviceKind::Io) => {
            Err(Error::NoDevice {
                wanted: format!("number {index}"),
                found: format!("this session has {} (io serves files and does not compute)", names.join(", ")),
            })
        }
        _ => Ok(()),
    }
}

impl Session {
    /// Settings to change before building.
    #[must_use]
    pub fn builder() -> SessionBuilder {
        SessionBuilder {
            threads: None,
            memory_limit: None,
            cache_dir: None,
            devices: None,
            stall: None,
            record_events: false,
            warnings: Box::new(|text| eprintln!("chunkwise: warning: {text}")),
            settings: Settings { placement: Placement::Auto, policy: None, seed: 0, calibrate: true },
        }
    }

    /// The session that arrays use unless told otherwise, with every default; made at the first call.
    ///
    /// # Panics
    /// If the system cannot start a thread.
    #[must_use]
    pub fn global() -> Self {
        static GLOBAL: OnceLock<Session> = OnceLock::new();
        GLOBAL.get_or_init(|| Session::builder().build().expect("default settings are in range")).clone()
    }

    /// The devices, by id.
    #[must_use]
    pub fn devices(&self) -> Vec<DeviceSpec> {
        self.0.specs.iter().map(|s| s.0.clone()).collect()
    }

    /// The host memory limit in bytes.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        self.0.memory_limit
    }

    /// The seed of random arrays.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.settings.seed
    }

    /// Host bytes in use by runs that are under way or not yet taken.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().scheduler.used_bytes(HOST)
    }

    /// The events recorded so far, with their times, if [`SessionBuilder::record_events`] was set. Given again to a
    /// [`Scheduler`], they bring about the same actions.
    #[must_use]
    pub fn events(&self) -> Vec<(u64, Event)> {
        self.0.lock().log.clone().unwrap_or_default()
    }

    /// The cost model, to look at or to calibrate.
    pub fn with_costs<R>(&self, with: impl FnOnce(&mut CostModel) -> R) -> R {
        with(&mut self.0.costs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Measures this machine's CPU (under half a second, on an idle machine) and keeps the rates.
    pub fn calibrate(&self) {
        for (index, (spec, priced)) in self.0.specs.iter().enumerate() {
            if spec.kind == DeviceKind::Cpu {
                let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(spec.workers as usize).build() else { continue };
                let measured = calibrate(&pool, self.0.memory_limit / 4);
                debug_assert!(index < self.0.specs.len());
                self.with_costs(|costs| costs.set_calibration(*priced, measured));
            }
        }
        self.save_costs();
    }

    /// A device's rates, as estimates use them for work never measured, and what was measured of it by [`Session::calibrate`], now or in
    /// an earlier run. `None` for an id that the session does not have.
    #[must_use]
    pub fn rates(&self, device: DeviceId) -> Option<(Rates, Option<Calibration>)> {
        let (_, priced) = self.0.specs.get(device.index())?;
        Some(self.with_costs(|costs| (costs.rates(*priced), costs.calibration(*priced).cloned())))
    }

    /// The number of the next random stream.
    pub(crate) fn next_stream(&self) -> u64 {
        self.0.streams.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    /// Writes what was learned, at most once per second (and when the session ends).
    fn save_costs(&self) {
        let mut saved = self.0.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            *saved = Some(Instant::now());
            // A cache that cannot be written costs accuracy of predictions, never results.
            let _ = self.with_costs(CostModel::save);
        }
    }

    /// What the plan would do: simulated with this session's devices, costs and policy.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the limit refuses it.
    pub fn predict(&self, plan: &Plan, priced: &Priced, placement: Option<Placement>) -> Result<Outcome> {
        let mut sim = Simulation::new(self.devices(), priced.estimates.clone());
        sim.memory_limit = self.0.memory_limit;
        sim.scratch_bytes = priced.scratch_bytes;
        simulate(&plan.graph, &sim, placement.map_or_else(|| self.policy(), Placement::policy))
    }

    /// What the plan would do, and why.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the limit refuses it.
    pub fn explain(&self, plan: &Plan) -> Result<Explanation> {
        let priced = self.price(plan);
        let mut sim = Simulation::new(self.devices(), priced.estimates.clone());
        sim.memory_limit = self.0.memory_limit;
        sim.scratch_bytes = priced.scratch_bytes;
        let outcome = simulate(&plan.graph, &sim, self.policy())?;
        let mut totals = vec![(self.policy().name(), outcome.makespan_ns as f64 * 1e-9)];
        let kinds = [(DeviceKind::Cpu, Placement::Cpu), (DeviceKind::Gpu, Placement::Gpu)];
        let has = |kind| sim.devices.iter().any(|d| d.kind == kind);
        for (_, placement) in kinds.into_iter().filter(|k| has(DeviceKind::Gpu) && has(k.0)) {
            let alone = simulate(&plan.graph, &sim, placement.policy())?;
            totals.push((format!("{placement} only"), alone.makespan_ns as f64 * 1e-9));
        }
        let workers = sim.devices.iter().filter(|d| d.space == HOST).map(|d| d.workers).sum();
        let bound = Scheduler::peak_bytes(&plan.graph, priced.scratch_bytes, workers);
        Ok(Explanation::new(&plan.graph, &sim, &outcome, totals, bound))
    }

    fn policy(&self) -> Box<dyn Policy> {
        self.0.settings.policy.map_or_else(|| self.0.settings.placement.policy(), |make| make())
    }

    /// Prices a plan's tasks on this session's devices.
    #[must_use]
    pub fn price(&self, plan: &Plan) -> Priced {
        self.with_costs(|costs| Priced::new(plan, &self.0.specs, costs))
    }

    /// Starts a plan and returns at once. `asked` is when the user asked, for the report's planning time.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if a result cannot be allocated.
    pub fn submit(&self, plan: Plan, asked: Instant) -> Result<Handle> {
        let mut priced = self.price(&plan);
        // Predicting costs as much as scheduling; for huge graphs the sum of estimates must do.
        let predicted = |priced: &Priced| match self.predict_cheaply(&plan, priced) {
            Some(ns) => ns,
            None => rough_ns(priced, &self.0.specs),
        };
        let mut predicted_ns = predicted(&priced);
        if predicted_ns > WORTH_CALIBRATING_NS && self.0.settings.calibrate && !self.calibrated() {
            self.calibrate();
            priced = self.price(&plan);
            predicted_ns = predicted(&priced);
        }
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
        let scratch_bytes = priced.scratch_bytes;
        let workers = self.0.specs.iter().filter(|(s, _)| s.space == HOST).map(|(s, _)| s.workers).sum();
        let peak_bound_bytes = Scheduler::peak_bytes(&plan.graph, scratch_bytes, workers);
        let estimates = priced.estimates.clone();
        let graph = plan.graph.clone();
        let id = {
            let mut state = self.0.lock();
            state.next_graph += 1;
            GraphId(state.next_graph)
        };
        let run = Run {
            graph: graph.clone(),
            arrays,
            opaque: std::collections::BTreeMap::new(),
            priced,
            spans: Vec::with_capacity(graph.len()),
            moves: Vec::new(),
            bytes_moved: 0,
            attempts: std::collections::BTreeMap::new(),
            error: None,
            over: false,
            submitted_ns: self.0.now_ns(),
            over_ns: 0,
        };
        let submitted = Instant::now();
        self.0.apply(Event::Submit { graph: id, tasks: graph, estimates, scratch_bytes }, |state| {
            state.runs.insert(id, run);
        });
        let plan_s = (submitted - asked).as_secs_f64();
        Ok(Handle {
            session: self.clone(),
            id,
            asked,
            plan_s,
            predicted_s: predicted_ns as f64 * 1e-9,
            peak_bound_bytes,
            taken: false,
        })
    }

    fn predict_cheaply(&self, plan: &Plan, priced: &Priced) -> Option<u64> {
        const FEW: usize = 20_000;
        (plan.graph.len() <= FEW).then(|| self.predict(plan, priced, None).ok()).flatten().map(|o| o.makespan_ns)
    }

    fn calibrated(&self) -> bool {
        self.with_costs(|costs| self.0.specs.iter().filter(|s| s.0.kind == DeviceKind::Cpu).all(|s| costs.calibrated(s.1)))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.costs.get_mut().unwrap_or_else(PoisonError::into_inner).save();
    }
}

/// Work divided by workers: a guess of the makespan.
fn rough_ns(priced: &Priced, specs: &[(DeviceSpec, crate::cost::PricedId)]) -> u64 {
    let total =
        |column: &[u64]| column.iter().filter(|&&ns| ns != crate::schedule::CANNOT).fold(0u64, |a, &b| a.saturating_add(b));
    let each = priced.estimates.iter().zip(specs).map(|(e, (spec, _))| total(&e.task_ns) / u64::from(spec.workers.max(1)));
    each.filter(|&ns| ns > 0).min().unwrap_or(0)
}

fn allocate_result(dtype: DType, len: usize) -> Result<Arc<HostBuffer>> {
    match dtype {
        DType::Bool => HostBuffer::result::<bool>(len),
        DType::U8 => HostBuffer::result::<u8>(len),
        DType::I32 => HostBuffer::result::<i32>(len),
        DType::U32 => HostBuffer::result::<u32>(len),
        DType::I64 => HostBuffer::result::<i64>(len),
        DType::U64 => HostBuffer::result::<u64>(len),
        DType::F32 => HostBuffer::result::<f32>(len),
        DType::F64 => HostBuffer::result::<f64>(len),
    }
}

/// A computation under way. Dropping it cancels what has not begun.
#[must_use = "a computation that nobody waits for is cancelled"]
pub struct Handle {
    session: Session,
    id: GraphId,
    asked: Instant,
    plan_s: f64,
    predicted_s: f64,
    peak_bound_bytes: u64,
    taken: bool,
}

/// The result arrays of a run, by array id (`None` for the caller's).
pub type Results = Vec<Option<Arc<HostBuffer>>>;

impl Handle {
    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.session.0.lock().runs.get(&self.id).is_none_or(|run| run.over)
    }

    /// Tasks done, and tasks in all.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        self.session.0.lock().runs.get(&self.id).map_or((0, 0), |run| (run.spans.len().min(run.graph.len()), run.graph.len()))
    }

    /// Predicted seconds of the run.
    #[must_use]
    pub fn predicted_s(&self) -> f64 {
        self.predicted_s
    }

    /// Waits at most this long; true if it is over.
    #[must_use]
    pub fn wait_timeout(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        let inner = &self.session.0;
        let mut state = inner.lock();
        while state.runs.get(&self.id).is_some_and(|run| !run.over) {
            let now = Instant::now();
            if now >= end {
                drop(state);
                if !time.is_zero() {
                    inner.apply(Event::Tick, |_| {}); // whoever waits also looks for stalled tasks
                }
                return false;
            }
            state = inner.changed.wait_timeout(state, end - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Waits for the end, and gives the results and what was measured.
    ///
    /// # Errors
    /// What a task reported; [`Error::OutOfMemory`] if the run was refused; [`Error::Stalled`].
    pub fn wait(mut self) -> Result<(Results, RunReport)> {
        self.wait_for_end();
        let inner = self.session.0.clone();
        self.taken = true;
        let (run, places) = {
            let mut state = inner.lock();
            let places = state.runs.get(&self.id).map(|run| displaced(&state, run, self.id));
            let Some(run) = state.runs.remove(&self.id) else { return Err(Error::Cancelled) };
            (run, places.unwrap_or_default())
        };
        let total_s = self.asked.elapsed().as_secs_f64();
        self.learn(&run);
        let results = match &run.error {
            Some(error) => Err(error.clone()),
            None => move_home(&run, places),
        };
        inner.apply(Event::Retire { graph: self.id }, |_| {});
        self.session.save_costs();
        let mut arrays = results?;
        for (slot, spec) in arrays.iter_mut().zip(run.graph.arrays()) {
            if !spec.result {
                *slot = None;
            }
        }
        let report = RunReport {
            graph: run.graph,
            devices: inner.specs.iter().map(|s| s.0.name.clone()).collect(),
            plan_s: self.plan_s,
            predicted_s: self.predicted_s,
            total_s,
            peak_bound_bytes: self.peak_bound_bytes,
            bytes_moved: run.bytes_moved,
            spans: run.spans,
            moves: run.moves,
            submitted_ns: run.submitted_ns,
        };
        Ok((arrays, report))
    }

    fn wait_for_end(&self) {
        let inner = &self.session.0;
        let own = (0..inner.devices.len()).find(|&d| inner.devices[d].on_worker());
        if let Some(device) = own {
            // This is a worker that waits: let another launch take its place, and execute it here.
            inner.apply(Event::Waiting { device: DeviceId::at(device), workers: 1 }, |_| {});
            while !self.wait_timeout(Duration::ZERO) {
                if !inner.devices[device].help() {
                    let _ = self.wait_timeout(Duration::from_millis(1));
                }
            }
            inner.apply(Event::Waiting { device: DeviceId::at(device), workers: -1 }, |_| {});
            return;
        }
        while !self.wait_timeout(Duration::from_secs(1)) {}
    }

    /// Teaches the cost model what the run measured: an even sample of its tasks.
    fn learn(&self, run: &Run) {
        let step = run.spans.len().div_ceil(LEARN).max(1);
        self.session.with_costs(|costs| {
            for span in run.spans.iter().step_by(step) {
                if let Some(id) = run.priced.cost_id(&run.graph, span.task, span.device) {
                    costs.record(id, run.priced.work[span.task.index()], span.end_ns - span.start_ns);
                }
            }
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.taken {
            self.session.0.apply(Event::Retire { graph: self.id }, |state| {
                state.runs.remove(&self.id);
            });
        }
    }
}

/// Final values that are not in their windows (after a stalled task, whose window may still be written), and where they are.
fn displaced(state: &State, run: &Run, id: GraphId) -> Vec<(ValueId, crate::device::Data)> {
    let finals = (0..run.graph.value_count()).map(ValueId::at).filter(|&v| run.graph.is_final(v));
    let place = |v| state.scheduler.host_place(id, v).map(|place| (v, place));
    let elsewhere = finals.filter_map(place).filter(|(_, place)| matches!(place, Place::Buffer(_)));
    elsewhere.map(|(v, place)| (v, run.data(&state.buffers, v, place))).collect()
}

/// The result arrays. Those with displaced values are copied into new arrays, because somebody may still write the old ones.
fn move_home(run: &Run, displaced: Vec<(ValueId, crate::device::Data)>) -> Result<Results> {
    let mut arrays: Results = run.arrays.iter().cloned().map(Some).collect();
    if displaced.is_empty() {
        return Ok(arrays);
    }
    let array_of = |value| match run.graph.home(value) {
        Home::Window { array, .. } => array,
        Home::Pool => unreachable!("a final value has a home"),
    };
    let mut moved: Vec<usize> = displaced.iter().map(|(v, _)| array_of(*v).index()).collect();
    moved.sort_unstable();
    moved.dedup();
    for &array in &moved {
        let spec = &run.graph.arrays()[array];
        arrays[array] = Some(allocate_result(spec.dtype, spec.len)?);
    }
    let finals = (0..run.graph.value_count()).map(ValueId::at).filter(|&v| run.graph.is_final(v));
    for value in finals.filter(|&v| moved.contains(&array_of(v).index())) {
        let Home::Window { array, offset } = run.graph.home(value) else { continue };
        let Some(to) = arrays[array.index()].clone() else { continue };
        let from = displaced.iter().find(|(v, _)| *v == value).map(|(_, data)| data.clone());
        let from = from.unwrap_or_else(|| run.data(&[], value, Place::Home));
        crate::device::copy(&from, &Window::new(to, offset, run.graph.layout(value)));
    }
    Ok(arrays)
}
