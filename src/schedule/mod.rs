//! Every decision: placement, order, residency, admission, release, transfers.
//!
//! Owns: [`Scheduler`], [`Policy`], the simulator. Must not know: clocks, threads, addresses, live devices. Invariant:
//! deterministic; the same events at the same times give the same actions (no unordered maps, no randomness).
//!
//! [`Scheduler::step`] is driven by real devices (`runtime/`) and by the virtual clock of [`simulate`], with the same code.
//! It sees sealed graphs and prices: numbers. The only user code that it calls is the policy's.
//! README.md in this folder explains how a task comes to its place, and why memory stays within the limit.

mod admission;
mod commit;
mod copies;
mod event;
mod evict;
mod explain;
mod job;
mod lane;
mod memory;
mod peak;
mod place;
mod policy;
mod progress;
mod queue;
mod recover;
mod residency;
pub mod simulate;
mod sources;
mod stall;
mod tables;

use std::collections::BTreeMap;

pub use event::{Action, CANNOT, Each, Estimates, Event, Location, Operands};
pub use explain::{Explanation, GroupRow};
pub(crate) use explain::{by_label, crossing_ns, time};
pub use policy::{Candidate, Choice, EarliestFinish, Ended, Only, OnlyDevice, Placement, Policy, Ready};
pub(crate) use tables::{LEAST_CHUNK_BYTES, LEAST_TASK_BYTES};

use crate::device::HOST;
use crate::id::{CopyId, DeviceId, GraphId, LaunchId, SpaceId, TaskId, ValueId};
use crate::task::PLAIN;
use crate::task::TaskGraph;
use admission::Admission;
use job::Job;
use lane::{DeviceLane, Queued};
use memory::Budgets;
use progress::TaskState;

/// A launch whose report has not come.
struct Flight {
    graph: GraphId,
    device: DeviceId,
    item: Queued,
    start_ns: u64,
    /// Predicted time until the device would begin with it: what it had been given before.
    ahead_ns: u64,
    estimate_ns: u64,
    operands: Operands,
    seat: lane::Seat,
    /// How long it may take, and how long it has.
    clock: stall::Clock,
    /// Given up. Its report frees what it held, and is a result if nobody else had one before.
    abandoned: Option<stall::Abandoned>,
}

/// A task whose memory is there, and how much of the host's that is.
type Admitted = (GraphId, TaskId, u64);

/// A pinned replica: its value, its index, and the serial number that tells it from a later one of that index.
type Pinned = (ValueId, u32, u32);

/// The state machine. See the module's text.
pub struct Scheduler {
    now: u64,
    policy: Box<dyn Policy>,
    memory: Budgets,
    /// What lies unused in each space, and the number of the last thing to do so.
    rest: Vec<evict::Unused>,
    next_stamp: u64,
    sources: sources::Sources,
    /// Events so far; tasks queued and moves ended so far.
    steps: u64,
    queued: u64,
    crossed: u64,
    devices: Vec<DeviceLane>,
    /// Whether any device has memory of its own.
    has_links: bool,
    /// Working memory of `on_ready`.
    candidates: Vec<Candidate>,
    jobs: BTreeMap<GraphId, Job>,
    admission: Admission,
    launches: BTreeMap<LaunchId, Flight>,
    /// Moves over links of lost devices that may still read their sources: those stay pinned until the report.
    strays: BTreeMap<CopyId, (GraphId, [Pinned; 1])>,
    /// Launches and moves under way, of all graphs.
    flying: usize,
    /// Launches that wait inside for a graph.
    nesting: usize,
    /// Opaque values that nobody needs any more, to be told at the end of the step.
    dropped: Vec<(GraphId, ValueId)>,
    next_launch: u64,
    next_copy: u64,
    watch: stall::Watch,
}

impl Scheduler {
    /// A scheduler without devices.
    #[must_use]
    pub fn new(policy: Box<dyn Policy>) -> Self {
        Self {
            now: 0,
            policy,
            memory: Budgets::default(),
            rest: Vec::new(),
            next_stamp: 0,
            sources: sources::Sources::default(),
            steps: 0,
            queued: 0,
            crossed: 0,
            devices: Vec::new(),
            has_links: false,
            candidates: Vec::new(),
            jobs: BTreeMap::new(),
            admission: Admission::default(),
            launches: BTreeMap::new(),
            strays: BTreeMap::new(),
            flying: 0,
            nesting: 0,
            dropped: Vec::new(),
            next_launch: 0,
            next_copy: 0,
            watch: stall::Watch::default(),
        }
    }

    /// When a task counts as late: it has taken longer than `factor` times its measured time (and that of what its device had been
    /// given before) plus `floor_ns`. A task whose time was never measured, or does not follow from its work, is given twelve
    /// times the floor. What follows from it: README.md, "When a task takes too long".
    pub fn set_stall_rule(&mut self, factor: u64, floor_ns: u64) {
        self.watch.set_rule(factor, floor_ns);
    }

    /// Takes in `event`, which happened at `now_ns`, and appends what is to be done to `actions`, in order.
    pub fn step(&mut self, now_ns: u64, event: Event, actions: &mut Vec<Action>) {
        self.watch.pass(now_ns.saturating_sub(self.now));
        self.now = self.now.max(now_ns);
        self.steps += 1;
        if matches!(event, Event::MemoryLimit { .. } | Event::Priced { .. } | Event::Link { .. }) {
            // What a device can do is another thing now: each looks again for what there is to steal.
            self.devices.iter_mut().for_each(|device| device.not_stolen = u64::MAX);
        }
        match event {
            Event::DeviceJoined { device, spec } => self.join(device, spec),
            Event::DeviceLost { device } => self.device_lost(device, actions),
            Event::MemoryLimit { space, bytes } => {
                self.memory.set_limit(space, bytes, actions);
                if space != HOST {
                    self.limit_changed(space, actions);
                }
            }
            Event::SourceGone { source } => self.source_gone(source),
            Event::Submit { graph, tasks, estimates, scratch_bytes, within } => {
                self.submit((graph, within), tasks, &estimates, scratch_bytes, actions);
            }
            Event::Priced { graph, estimates } => self.price(graph, &estimates),
            Event::Unfit { graph, device, tasks } => self.unfit(graph, device, &tasks, actions),
            Event::Done { launch, elapsed_ns } => self.done(launch, elapsed_ns, actions),
            Event::LaunchLost { launch } => self.launch_lost(launch, actions),
            Event::LaunchFailed { launch } => self.launch_failed(launch, actions),
            Event::Link { device, link } => self.relink(device, link),
            Event::Moved { copy, arrived } => self.moved(copy, arrived, actions),
            Event::Waits { launch, graph } => self.waits(launch, graph),
            Event::Resumes { launch } => self.resumes(launch),
            Event::Retire { graph } => self.retire(graph, actions),
            Event::Tick => self.look_for_stalls(actions),
        }
        self.dispatch(actions);
        for (graph, value) in std::mem::take(&mut self.dropped) {
            // Unless a late launch has made it meanwhile.
            if self.host_place(graph, value).is_none() {
                actions.push(Action::Drop { graph, value });
            }
        }
    }

    /// On which bytes a launch works; asked between its `Run` action and its report. `None` if it is over or given up.
    #[must_use]
    pub fn operands(&self, launch: LaunchId) -> Option<&Operands> {
        self.launches.get(&launch).filter(|flight| flight.abandoned.is_none()).map(|flight| &flight.operands)
    }

    /// Whether a launch that ends well now gives its task a result: it is under way, or it was given up and nobody has been faster.
    #[must_use]
    pub fn wants(&self, launch: LaunchId) -> bool {
        self.launches.get(&launch).is_some_and(|flight| flight.abandoned.is_none() || self.would_adopt(flight))
    }

    /// Where in host memory a value is, in plain form, if it is there.
    #[must_use]
    pub fn host_place(&self, graph: GraphId, value: ValueId) -> Option<Location> {
        let job = self.jobs.get(&graph)?;
        let at = job.find(value, HOST, PLAIN)?;
        (job.replica(at).arrival == copies::Arrival::Ready).then(|| job.replica(at).place)
    }

    /// Bytes in use in a memory space: buffers, arrays, scratch, kept copies of callers' chunks.
    #[must_use]
    pub fn used_bytes(&self, space: SpaceId) -> u64 {
        self.memory.used(space)
    }

    /// The limit of a memory space.
    #[must_use]
    pub fn limit_bytes(&self, space: SpaceId) -> u64 {
        self.memory.limit(space)
    }

    /// Bytes in a device's space that copies of callers' chunks take and no graph uses now: part of [`Scheduler::used_bytes`].
    #[must_use]
    pub fn cached_bytes(&self, space: SpaceId) -> u64 {
        self.sources.bytes(space)
    }

    /// The prediction for a launch that runs now: (its start, its estimate), in ns.
    #[must_use]
    pub fn prediction(&self, launch: LaunchId) -> Option<(u64, u64)> {
        self.launches.get(&launch).map(|f| (f.start_ns, f.estimate_ns))
    }

    /// Bytes of host memory that a graph's tables take while it runs: part of [`Scheduler::peak_bytes`].
    #[must_use]
    pub fn table_bytes(graph: &TaskGraph) -> u64 {
        tables::table_bytes(graph)
    }

    /// Bytes that a task takes in the own memory of a device, if nothing is there before.
    #[must_use]
    pub fn room_bytes(graph: &TaskGraph, task: TaskId, spec: &crate::device::DeviceSpec) -> u64 {
        peak::room_for(graph, task, spec)
    }

    /// Launches and moves under way, those that were given up not counted.
    #[must_use]
    pub fn flying(&self) -> usize {
        self.flying
    }

    /// Whether nothing is queued, running, moving or held, and every device has all its workers: true once all graphs are
    /// retired and all launches have reported. Copies of callers' chunks may remain: [`Scheduler::cached_bytes`].
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let devices = self.devices.iter().all(DeviceLane::is_idle);
        devices && self.flying == 0 && self.admission.is_idle() && self.jobs.is_empty() && self.launches.is_empty()
    }

    fn join(&mut self, device: DeviceId, spec: crate::device::DeviceSpec) {
        assert_eq!(device.index(), self.devices.len(), "devices join in the order of their ids");
        self.has_links |= spec.link.is_some();
        self.devices.push(DeviceLane::new(spec));
    }

    /// What is to be known of a graph where devices have memory of their own.
    fn prepare(&mut self, id: GraphId) {
        self.meet_sources(id);
        let job = self.jobs.get_mut(&id).expect("just submitted");
        for device in self.devices.iter().filter(|d| d.alive && d.spec.space != HOST) {
            if self.memory.limit(device.spec.space) < u64::MAX {
                job.measure(&device.spec);
            }
        }
    }

    fn price(&mut self, graph: GraphId, estimates: &Estimates) {
        if let Some(job) = self.jobs.get_mut(&graph) {
            job.price(estimates, self.now);
        }
    }

    /// A task (or packing) ended well: its outputs exist, its inputs are needed once less.
    fn done(&mut self, launch: LaunchId, elapsed_ns: u64, actions: &mut Vec<Action>) {
        let Some(flight) = self.end_flight(launch, true, actions) else { return };
        let id = flight.graph;
        match flight.item {
            Queued::Pack(_, value, at) => {
                let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
                let space = job.replica(at).space;
                job.replica_mut(at).arrival = copies::Arrival::Ready;
                self.release(id, value, at);
                self.unpin(id, value, space, PLAIN);
                self.arrived(id, value, actions);
            }
            Queued::Task(_, task) => {
                let Flight { device, estimate_ns: predicted_ns, .. } = flight;
                self.policy.done(Ended { graph: id, task, device, predicted_ns, elapsed_ns });
                self.task_done((id, task), device, &flight.operands, actions);
            }
        }
        self.finish_if_over(id, actions);
    }

    fn task_done(&mut self, (id, task): (GraphId, TaskId), device: DeviceId, operands: &Operands, actions: &mut Vec<Action>) {
        let space = self.devices[device.index()].spec.space;
        let job = &self.jobs[&id];
        if space != HOST {
            self.prove(id, task, space);
        } else if self.has_links && job.has_chunks() {
            self.regret(id, task, device);
        }
        self.unpin_operands(id, task, device, Some(operands));
        self.complete((id, task), device, actions);
    }

    /// A task has its outputs, and holds its inputs no longer.
    fn complete(&mut self, (id, task): (GraphId, TaskId), device: DeviceId, actions: &mut Vec<Action>) {
        let space = self.devices[device.index()].spec.space;
        let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
        let graph = job.graph.clone();
        job.tasks.set_state(task, TaskState::Done);
        job.tasks.remaining -= 1;
        for value in graph.reads(task) {
            self.used_once(id, value);
        }
        for output in graph.outputs(task) {
            self.written(id, output.value, space, (device, task), actions);
        }
        let job = self.jobs.get_mut(&id).expect("still there");
        self.admission.extra -= job.tasks.advance();
        if job.life.failed {
            return;
        }
        for &successor in graph.successors(task) {
            let job = self.jobs.get_mut(&id).expect("still there");
            // After a fault, a successor may be done already: the value was remade for others.
            let Some(last) = job.tasks.release(successor) else { continue };
            if if job.life.disturbed { job.may_run(successor) } else { last } {
                self.on_ready(id, successor, actions);
            }
        }
    }

    /// Ends the bookkeeping of a flight; `None` if it was given up before, or its graph is gone.
    fn end_flight(&mut self, launch: LaunchId, well: bool, actions: &mut Vec<Action>) -> Option<Flight> {
        let flight = self.launches.remove(&launch)?;
        if flight.abandoned.is_some() {
            self.late_report(flight, well, actions);
            return None;
        }
        self.devices[flight.device.index()].ended(self.now, (flight.start_ns, flight.estimate_ns), flight.seat);
        self.landed(flight.graph);
        Some(flight)
    }

    /// A launch or move has begun.
    fn took_off(&mut self, id: GraphId) {
        self.jobs.get_mut(&id).expect("a launch belongs to a job").life.flying += 1;
        self.flying += 1;
    }

    /// A launch or move is over, or given up.
    fn landed(&mut self, id: GraphId) {
        self.jobs.get_mut(&id).expect("a graph stays while something of it flies").life.flying -= 1;
        self.flying -= 1;
    }

    fn new_launch(&mut self) -> LaunchId {
        self.next_launch += 1;
        LaunchId(self.next_launch)
    }

    fn new_copy(&mut self) -> CopyId {
        self.next_copy += 1;
        CopyId(self.next_copy)
    }
}
