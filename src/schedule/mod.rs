//! Every decision: placement, order, residency, admission, release, transfers.
//!
//! Owns: [`Scheduler`], [`Policy`], the simulator. Must not know: clocks, threads, addresses, live devices. Invariant:
//! deterministic; the same events at the same times give the same actions (no unordered maps, no randomness).
//!
//! [`Scheduler::step`] is driven by real devices (`runtime/`) and by the virtual clock of [`simulate`], with the same code.
//! README.md in this folder explains how a task comes to its place, and why memory stays within the limit.

mod commit;
mod event;
mod evict;
mod explain;
mod job;
mod lane;
mod memory;
mod place;
mod policy;
mod recover;
mod residency;
pub mod simulate;
mod sources;
mod tables;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use event::{Action, CANNOT, Estimates, Event, Operands, Place};
pub use explain::{Explanation, GroupRow};
pub(crate) use explain::{by_label, time};
pub use policy::{Auto, Candidate, Only, OnlyDevice, Placement, Policy};
pub(crate) use tables::{LEAST_CHUNK_BYTES, LEAST_TASK_BYTES};

use crate::device::HOST;
use crate::id::{CopyId, DeviceId, GraphId, LaunchId, SpaceId, TaskId, ValueId};
use crate::kernel::Form;
use crate::task::TaskGraph;
use job::{Job, State};
use lane::{Device, Item};
use memory::Memory;

/// A launch whose report has not come.
struct Flight {
    graph: GraphId,
    device: DeviceId,
    item: Item,
    start_ns: u64,
    /// Predicted time until the device would begin with it: what it had been given before.
    ahead_ns: u64,
    estimate_ns: u64,
    operands: Operands,
    /// Given up: its report will be ignored, and what it may still read (value, replica, serial) stays pinned until then.
    abandoned: Option<Vec<Held>>,
}

/// A pinned replica: its value, its index, and the serial number that tells it from a later one of that index.
type Held = (ValueId, u32, u64);

/// The state machine. See the module's text.
pub struct Scheduler {
    now: u64,
    policy: Box<dyn Policy>,
    memory: Memory,
    /// What lies unused in each space, and the number of the last thing to do so.
    rest: Vec<evict::Rest>,
    next_stamp: u64,
    sources: sources::Sources,
    /// Events so far.
    steps: u64,
    devices: Vec<Device>,
    /// Whether any device has memory of its own.
    has_links: bool,
    /// Working memory of `on_ready`.
    candidates: Vec<Candidate>,
    jobs: BTreeMap<GraphId, Job>,
    /// Graphs that wait until others have finished, because both do not fit.
    pending: VecDeque<GraphId>,
    launches: BTreeMap<LaunchId, Flight>,
    /// Moves over links of lost devices that may still read their sources: those stay pinned until the report.
    strays: BTreeMap<CopyId, (GraphId, [Held; 1])>,
    /// Launches and moves under way, of all graphs.
    flying: usize,
    /// Host bytes promised to the graphs that run: the sum of their `base + peak`.
    promised: u64,
    /// Host bytes taken out of sequential order: the sum of the graphs' `extra`.
    extra: u64,
    next_launch: u64,
    next_copy: u64,
    stall_factor: u64,
    stall_floor_ns: u64,
}

impl Scheduler {
    /// A scheduler without devices.
    #[must_use]
    pub fn new(policy: Box<dyn Policy>) -> Self {
        Self {
            now: 0,
            policy,
            memory: Memory::default(),
            rest: Vec::new(),
            next_stamp: 0,
            sources: sources::Sources::default(),
            steps: 0,
            devices: Vec::new(),
            has_links: false,
            candidates: Vec::new(),
            jobs: BTreeMap::new(),
            pending: VecDeque::new(),
            launches: BTreeMap::new(),
            strays: BTreeMap::new(),
            flying: 0,
            promised: 0,
            extra: 0,
            next_launch: 0,
            next_copy: 0,
            stall_factor: 10,
            stall_floor_ns: 5_000_000_000,
        }
    }

    /// A task is stalled when it takes longer than `factor` times its prediction (and that of what its device had been given
    /// before) plus `floor_ns`.
    pub fn set_stall_rule(&mut self, factor: u64, floor_ns: u64) {
        (self.stall_factor, self.stall_floor_ns) = (factor, floor_ns);
    }

    /// The policy's name.
    #[must_use]
    pub fn policy_name(&self) -> String {
        self.policy.name()
    }

    /// Takes in `event`, which happened at `now_ns`, and appends what is to be done to `actions`, in order.
    pub fn step(&mut self, now_ns: u64, event: Event, actions: &mut Vec<Action>) {
        self.now = self.now.max(now_ns);
        self.steps += 1;
        match event {
            Event::DeviceJoined { device, spec } => self.join(device, spec),
            Event::DeviceLost { device } => self.device_lost(device, actions),
            Event::MemoryLimit { space, bytes } => {
                self.memory.set_limit(space, bytes, actions);
                if space == HOST { self.admit_pending(actions) } else { self.limit_changed(space, actions) }
            }
            Event::SourceGone { source } => self.source_gone(source),
            Event::Submit { graph, tasks, estimates, scratch_bytes } => {
                self.submit(graph, tasks, &estimates, scratch_bytes, actions);
            }
            Event::Priced { graph, estimates } => self.price(graph, &estimates),
            Event::Unfit { graph, device, tasks } => self.unfit(graph, device, &tasks, actions),
            Event::Done { launch, elapsed_ns: _ } => self.done(launch, actions),
            Event::LaunchLost { launch } => self.launch_lost(launch, actions),
            Event::LaunchFailed { launch } => self.launch_failed(launch, actions),
            Event::Link { device, link } => self.relink(device, link),
            Event::Moved { copy, arrived } => self.moved(copy, arrived, actions),
            Event::Waiting { device, workers } => self.devices[device.index()].room += i64::from(workers),
            Event::Retire { graph } => self.retire(graph, actions),
            Event::Tick => self.look_for_stalls(actions),
        }
        self.dispatch(actions);
    }

    /// On which bytes a launch works; asked between its `Run` action and its report. `None` if it is over or given up.
    #[must_use]
    pub fn operands(&self, launch: LaunchId) -> Option<&Operands> {
        self.launches.get(&launch).filter(|flight| flight.abandoned.is_none()).map(|flight| &flight.operands)
    }

    /// Where in host memory a value is, in plain form, if it is there.
    #[must_use]
    pub fn host_place(&self, graph: GraphId, value: ValueId) -> Option<Place> {
        let job = self.jobs.get(&graph)?;
        let at = job.find(value, HOST, Form::Plain)?;
        (job.replica(at).arrival == job::Arrival::Ready).then(|| job.replica(at).place)
    }

    /// Bytes in use in a memory space: buffers, arrays, scratch, kept copies of callers' chunks.
    #[must_use]
    pub fn used_bytes(&self, space: SpaceId) -> u64 {
        self.memory.used(space)
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

    /// The proven peak of host memory for a graph: arrays, tables and scratch, and pooled chunks in sequential order.
    #[must_use]
    pub fn peak_bytes(graph: &TaskGraph, scratch_bytes: u64, workers: u32) -> u64 {
        base_bytes(graph, scratch_bytes, workers).saturating_add(job::sequential_peak(graph).0)
    }

    /// The task at which a graph's pooled chunks take most memory.
    #[must_use]
    pub fn peak_task(graph: &TaskGraph) -> Option<TaskId> {
        job::sequential_peak(graph).1
    }

    /// Whether a graph waits until others have given memory back.
    #[must_use]
    pub fn is_pending(&self, graph: GraphId) -> bool {
        self.pending.contains(&graph)
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
        let devices = self.devices.iter().all(|d| d.is_idle() && (!d.alive || d.room == i64::from(d.spec.queue)));
        let sums = self.flying == 0 && self.promised == 0 && self.extra == 0;
        devices && sums && self.jobs.is_empty() && self.pending.is_empty() && self.launches.is_empty()
    }

    fn join(&mut self, device: DeviceId, spec: crate::device::DeviceSpec) {
        assert_eq!(device.index(), self.devices.len(), "devices join in the order of their ids");
        self.has_links |= spec.link.is_some();
        self.devices.push(Device::new(spec));
    }

    fn host_workers(&self) -> u32 {
        self.devices.iter().filter(|d| d.alive && d.spec.space == HOST).map(|d| d.spec.workers).sum()
    }

    fn submit(&mut self, id: GraphId, tasks: Arc<TaskGraph>, estimates: &[Estimates], scratch: u64, actions: &mut Vec<Action>) {
        let base = base_bytes(&tasks, scratch, self.host_workers());
        let job = Job::new(tasks, estimates, base);
        let (peak, limit) = (job.base + job.peak, self.memory.limit(HOST));
        if peak > limit {
            let task = job.peak_task.filter(|_| job.base <= limit);
            actions.push(Action::Refused { graph: id, task, peak_bytes: peak, limit_bytes: limit });
            return;
        }
        self.jobs.insert(id, job);
        if self.has_links {
            self.prepare(id);
        }
        self.pending.push_back(id);
        self.admit_pending(actions);
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

    /// Starts graphs, in order of submission, while their peaks fit together.
    fn admit_pending(&mut self, actions: &mut Vec<Action>) {
        while let Some(&id) = self.pending.front() {
            let Some(job) = self.jobs.get(&id) else {
                self.pending.pop_front();
                continue;
            };
            let wanted = job.base + job.peak;
            if self.promised > 0 && self.promised.saturating_add(self.extra).saturating_add(wanted) > self.memory.limit(HOST) {
                return;
            }
            self.pending.pop_front();
            self.promised += wanted;
            self.memory.reserve(HOST, job.base, actions);
            let job = &self.jobs[&id];
            let ready: Vec<TaskId> = job.graph.tasks().filter(|t| job.waiting[t.index()] == 0).collect();
            for task in ready {
                self.on_ready(id, task, actions);
            }
            self.finish_if_over(id, actions);
        }
    }

    fn price(&mut self, graph: GraphId, estimates: &Estimates) {
        if let Some(job) = self.jobs.get_mut(&graph) {
            job.price(estimates);
        }
    }

    /// A task (or packing) ended well: its outputs exist, its inputs are needed once less.
    fn done(&mut self, launch: LaunchId, actions: &mut Vec<Action>) {
        let Some(flight) = self.end_flight(launch) else { return };
        let id = flight.graph;
        match flight.item {
            Item::Pack(_, value, at) => {
                let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
                let space = job.replica(at).space;
                job.replica_mut(at).arrival = job::Arrival::Ready;
                self.release(id, value, at);
                self.unpin(id, value, space, Form::Plain);
                self.arrived(id, value, actions);
            }
            Item::Task(_, task) => self.task_done((id, task), flight.device, &flight.operands, actions),
        }
        self.finish_if_over(id, actions);
    }

    fn task_done(&mut self, (id, task): (GraphId, TaskId), device: DeviceId, operands: &Operands, actions: &mut Vec<Action>) {
        let space = self.devices[device.index()].spec.space;
        let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
        let graph = job.graph.clone();
        job.state[task.index()] = State::Done;
        job.remaining -= 1;
        if space != HOST {
            self.prove(id, task, space);
        } else if self.has_links && job.has_chunks() {
            self.regret(id, task, device);
        }
        self.unpin_operands(id, task, device, Some(operands));
        for value in graph.reads(task) {
            self.used_once(id, value);
        }
        for output in graph.outputs(task) {
            self.written(id, output.value, space, (device, task), actions);
        }
        let job = self.jobs.get_mut(&id).expect("still there");
        while job.frontier < job.state.len() && job.state[job.frontier] == State::Done {
            let charged = std::mem::take(&mut job.charged[job.frontier]);
            job.extra -= charged;
            self.extra -= charged;
            job.frontier += 1;
        }
        if job.failed {
            return;
        }
        for &successor in graph.successors(task) {
            let job = self.jobs.get_mut(&id).expect("still there");
            // After a fault, a successor may be done already: the value was remade for others.
            if job.state[successor.index()] != State::Waiting {
                continue;
            }
            job.waiting[successor.index()] = job.waiting[successor.index()].saturating_sub(1);
            let ready = if job.disturbed { job.may_run(successor) } else { job.waiting[successor.index()] == 0 };
            if ready {
                self.on_ready(id, successor, actions);
            }
        }
    }

    /// Ends the bookkeeping of a flight; `None` if it was given up before, or its graph is gone.
    fn end_flight(&mut self, launch: LaunchId) -> Option<Flight> {
        let flight = self.launches.remove(&launch)?;
        let device = &mut self.devices[flight.device.index()];
        if let Some(held) = &flight.abandoned {
            device.room += 1;
            self.bury(flight.graph, held);
            return None;
        }
        device.ended(self.now, flight.start_ns, flight.estimate_ns);
        self.landed(flight.graph);
        Some(flight)
    }

    /// A launch or move has begun.
    fn took_off(&mut self, id: GraphId) {
        self.jobs.get_mut(&id).expect("a launch belongs to a job").flying += 1;
        self.flying += 1;
    }

    /// A launch or move is over, or given up.
    fn landed(&mut self, id: GraphId) {
        self.jobs.get_mut(&id).expect("a graph stays while something of it flies").flying -= 1;
        self.flying -= 1;
    }

    fn finish_if_over(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let complete = job.remaining == 0 && job.homeless == 0;
        let (quiet, failed, retired) = (job.flying == 0, job.failed, job.retired);
        if !job.finished && quiet && (complete || failed) {
            job.finished = true;
            actions.push(Action::Finished { graph: id });
            if !self.pending.contains(&id) {
                let kept = self.sweep(id, !failed, actions);
                self.give_promise_back(id, kept);
            }
            self.admit_pending(actions);
        }
        if retired && quiet {
            self.bury_job(id, actions);
            self.admit_pending(actions);
        }
    }

    /// A graph that is over needs no more than its arrays, and `kept` bytes of results that are not in them.
    fn give_promise_back(&mut self, id: GraphId, kept: u64) {
        let job = self.jobs.get_mut(&id).expect("only asked for graphs that are there");
        self.promised = self.promised - std::mem::replace(&mut job.peak, kept) + kept;
        self.extra -= std::mem::take(&mut job.extra);
        job.charged.fill(0);
    }

    /// Forgets a graph: its buffers are free, its arrays the caller's.
    fn retire(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            (job.failed, job.retired) = (true, true);
            self.withdraw(id);
            self.finish_if_over(id, actions);
        }
        if self.jobs.is_empty() {
            self.memory.release_cached(HOST, actions);
        }
    }

    fn bury_job(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        if let Some(at) = self.pending.iter().position(|&g| g == id) {
            self.pending.remove(at);
        } else {
            self.sweep(id, false, actions);
            self.give_promise_back(id, 0);
            let base = self.jobs[&id].base;
            self.promised -= base;
            self.memory.unreserve(HOST, base);
        }
        let chunks = self.jobs.remove(&id).into_iter().flat_map(|mut job| job.take_chunks());
        chunks.for_each(|chunk| self.sources.leave(id, chunk));
        // A device that is gone reports no more.
        let devices = &self.devices;
        self.strays.retain(|_, (graph, _)| *graph != id);
        self.launches.retain(|_, f| f.graph != id || devices[f.device.index()].alive);
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

/// Host bytes that a graph holds from start to end: caller's arrays, results, tables, scratch of every worker.
fn base_bytes(graph: &TaskGraph, scratch_bytes: u64, workers: u32) -> u64 {
    let arrays: u64 = graph.arrays().iter().map(crate::task::HostArray::bytes).sum();
    arrays.saturating_add(tables::table_bytes(graph)).saturating_add(scratch_bytes.saturating_mul(u64::from(workers)))
}
