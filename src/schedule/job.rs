//! The state of one submitted graph.
//!
//! Owns: what it costs, how far it has come, its copies, what it was promised. Must not know: devices' queues, time. Invariant: a value that
//! somebody still needs has a replica, or its producer has yet to run (again).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::admission::HeldBytes;
use super::copies::{Arrival, Copies, Replica};
use super::event::{Estimates, Location};
use super::peak;
use super::progress::Progress;
use crate::device::{DeviceSpec, HOST};
use crate::id::{DeviceId, FormId, SpaceId, TaskId, ValueId};
use crate::task::{PLAIN, TaskGraph};

/// What tasks take, and where they may run.
#[derive(Default)]
struct TaskPrices {
    /// By device; `None` for one that can run no task.
    estimates: Vec<Option<Estimates>>,
    /// By device: when it was priced.
    since_ns: Vec<u64>,
    /// Devices that turned out to be unable to run a task, whatever was estimated.
    unfit: BTreeSet<(DeviceId, TaskId)>,
    /// Most that a task takes in a space of its own: of a device that takes packed forms, and of one that does not.
    largest: [Option<u64>; 2],
}

/// Where a graph is between its submission and its end.
#[derive(Default)]
pub(super) struct Life {
    /// Launches and moves under way, given-up ones not counted.
    pub(super) flying: usize,
    /// A task waits for it.
    pub(super) nested: bool,
    /// Later graphs that began while it waited.
    pub(super) passed: u32,
    /// Memory was promised to it.
    pub(super) started: bool,
    pub(super) failed: bool,
    pub(super) finished: bool,
    /// Nobody waits for it any more.
    pub(super) retired: bool,
    /// Something was lost: count missing inputs instead of trusting counts of predecessors.
    pub(super) disturbed: bool,
}

/// Host memory that a graph was promised.
pub(super) struct HostPromise {
    /// Proven peak of pooled host memory in sequential order, and where it is reached.
    pub(super) peak: u64,
    pub(super) peak_task: Option<TaskId>,
    /// Arrays and scratch.
    pub(super) base: HeldBytes,
}

pub(super) struct Job {
    pub(super) graph: Arc<TaskGraph>,
    prices: TaskPrices,
    pub(super) tasks: Progress,
    pub(super) copies: Copies,
    pub(super) promise: HostPromise,
    pub(super) life: Life,
}

impl Job {
    pub(super) fn new(graph: Arc<TaskGraph>, (estimates, now): (&[Estimates], u64), base: HeldBytes, nested: bool) -> Self {
        let (peak, peak_task) = peak::sequential_peak(&graph);
        let mut job = Self {
            prices: TaskPrices::default(),
            tasks: Progress::new(&graph),
            copies: Copies::new(&graph),
            promise: HostPromise { peak, peak_task, base },
            life: Life { nested, ..Life::default() },
            graph,
        };
        for column in estimates {
            job.price(column, now);
        }
        job.tasks.rank(&job.graph, &job.prices.estimates);
        job
    }

    pub(super) fn price(&mut self, column: &Estimates, now: u64) {
        let (at, TaskPrices { estimates, since_ns, .. }) = (column.device.index(), &mut self.prices);
        if estimates.len() <= at {
            estimates.resize(at + 1, None);
            since_ns.resize(at + 1, now);
        }
        (estimates[at], since_ns[at]) = (column.any().then(|| column.clone()), now);
    }

    /// Time until the task's program is compiled for the device.
    pub(super) fn compiling_in(&self, task: TaskId, device: DeviceId, now: u64) -> u64 {
        let Some(column) = self.column(device).filter(|column| column.compiling_ns.is_some()) else { return 0 };
        let end = self.prices.since_ns[device.index()].saturating_add(column.compiling_ns(&self.graph, task));
        end.saturating_sub(now)
    }

    fn column(&self, device: DeviceId) -> Option<&Estimates> {
        self.prices.estimates.get(device.index())?.as_ref()
    }

    /// Whether the device can run any of the tasks.
    pub(super) fn has_work_for(&self, device: DeviceId) -> bool {
        self.column(device).is_some()
    }

    /// Whether the estimate of a task on a device is a measured time of such tasks.
    pub(super) fn is_measured(&self, task: TaskId, device: DeviceId) -> bool {
        self.column(device).is_some_and(|column| column.is_measured(&self.graph, task))
    }

    /// The estimate of a task on a device, if it can run there.
    pub(super) fn estimate(&self, task: TaskId, device: DeviceId) -> Option<u64> {
        self.column(device)?.ns(&self.graph, task)
    }

    /// From now on the device does not run these tasks.
    pub(super) fn forbid(&mut self, device: DeviceId, tasks: &[TaskId]) {
        self.prices.unfit.extend(tasks.iter().map(|&task| (device, task)));
    }

    /// Whether the device may run the task. (Its estimate stays, because sums of estimates count on it.)
    pub(super) fn may_run_on(&self, task: TaskId, device: DeviceId) -> bool {
        self.prices.unfit.is_empty() || !self.prices.unfit.contains(&(device, task))
    }

    /// Bytes that a task takes in a space of the device's own, with nothing there before.
    pub(super) fn room_for(&self, task: TaskId, spec: &DeviceSpec) -> u64 {
        peak::room_for(&self.graph, task, spec)
    }

    /// Finds out what the neediest task takes in a space of the device's own.
    pub(super) fn measure(&mut self, spec: &DeviceSpec) {
        let contiguous = usize::from(spec.takes_contiguous());
        if self.prices.largest[contiguous].is_none() {
            let most = self.graph.tasks().map(|task| self.room_for(task, spec)).max();
            self.prices.largest[contiguous] = Some(most.unwrap_or(0));
        }
    }

    /// Whether every task is known to fit a space of the device's own with this limit.
    pub(super) fn all_fit(&self, spec: &DeviceSpec, limit: u64) -> bool {
        let largest = self.prices.largest[usize::from(spec.takes_contiguous())];
        limit == u64::MAX || largest.is_some_and(|largest| largest <= limit)
    }

    /// A launch that was given up may still write the value's window (or no longer may).
    pub(super) fn poison(&mut self, value: ValueId, may: bool) {
        if let Some(window) = self.graph.window_id(value) {
            self.copies.poison(window, may);
        }
    }

    /// Whether a launch that was given up may still write the value's window.
    pub(super) fn is_poisoned(&self, value: ValueId) -> bool {
        self.graph.window_id(value).is_some_and(|window| self.copies.is_poisoned(window))
    }

    /// Whether the value's home window can be written: nothing is there, and no given-up task may still write it.
    pub(super) fn has_free_window(&self, value: ValueId) -> bool {
        self.graph.window_id(value).is_some_and(|window| self.copies.is_free(window))
    }

    /// Whether two values live in one result window.
    pub(super) fn share_window(&self, old: ValueId, new: ValueId) -> bool {
        let window = self.graph.window_id(old);
        window.is_some() && window == self.graph.window_id(new)
    }

    /// The value's number among the chunks of callers' arrays, if it is one.
    pub(super) fn chunk(&self, value: ValueId) -> Option<u32> {
        self.copies.chunk(value)
    }

    /// Whether any value is a chunk of a caller's array that is known from one graph to the next.
    pub(super) fn has_chunks(&self) -> bool {
        self.copies.has_chunks()
    }

    /// How many queued tasks read a value on devices with memory of their own.
    pub(super) fn queued(&self, value: ValueId) -> u32 {
        self.copies.queued(value)
    }

    /// Tasks that still need a value.
    pub(super) fn uses(&self, value: ValueId) -> u32 {
        self.copies.uses(value)
    }

    /// A task joins (or leaves) the queue of a device with memory of its own.
    pub(super) fn count_queued(&mut self, task: TaskId, joins: bool) {
        let Self { graph, copies, .. } = self;
        graph.reads(task).for_each(|value| copies.count_queued(value, joins));
    }

    pub(super) fn add(&mut self, value: ValueId, replica: Replica) -> u32 {
        self.copies.add(&self.graph, value, replica)
    }

    /// Removes a replica and says where it was.
    pub(super) fn remove(&mut self, value: ValueId, at: u32) -> Location {
        self.copies.remove(&self.graph, value, at)
    }

    pub(super) fn replica(&self, at: u32) -> &Replica {
        self.copies.get(at)
    }

    pub(super) fn replica_mut(&mut self, at: u32) -> &mut Replica {
        self.copies.get_mut(at)
    }

    /// The replicas of a value, by slab index.
    pub(super) fn of(&self, value: ValueId) -> impl Iterator<Item = u32> + '_ {
        self.copies.of(value)
    }

    pub(super) fn find(&self, value: ValueId, space: SpaceId, form: FormId) -> Option<u32> {
        self.copies.find(value, space, form)
    }

    /// The place that a rerun task writes although this space has the value.
    pub(super) fn find_spare(&self, value: ValueId, space: SpaceId) -> Option<u32> {
        self.copies.find_spare(value, space)
    }

    /// Whether a plain replica of the value is in this space, or will be.
    pub(super) fn is_in(&self, value: ValueId, space: SpaceId) -> bool {
        self.find(value, space, PLAIN).is_some()
    }

    /// Whether an operand of the task is a Rust value, which stays in host memory.
    pub(super) fn touches_opaque(&self, task: TaskId) -> bool {
        let outputs = self.graph.outputs(task).map(|o| o.value);
        self.graph.reads(task).chain(outputs).any(|value| self.graph.is_opaque(value))
    }

    /// Whether a value can be had, now or from a move that is under way.
    pub(super) fn exists(&self, value: ValueId) -> bool {
        let there = |r: &Replica| r.form == PLAIN && !r.is_spare() && r.arrival != Arrival::Wanted;
        self.of(value).any(|at| there(self.replica(at)))
    }

    /// After a fault: whether all inputs of a task are there, and nobody else still needs what it overwrites. (Without faults
    /// counting finished predecessors says the same.)
    pub(super) fn may_run(&self, task: TaskId) -> bool {
        let graph = &self.graph;
        let there = |r: &Replica| r.form == PLAIN && !r.is_spare() && r.arrival == Arrival::Ready;
        let inputs = graph.reads(task).all(|value| self.of(value).any(|at| there(self.replica(at))));
        let last = |old: ValueId| self.uses(old) as usize == graph.reads(task).filter(|&v| v == old).count();
        inputs && graph.outputs(task).all(|o| o.updates.is_none_or(|old| !self.share_window(old, o.value) || last(old)))
    }

    /// Keeps count of the final values that are in host memory.
    pub(super) fn count_home(&mut self, value: ValueId) {
        self.copies.count_home(&self.graph, value);
    }

    /// A done task must run again, because one of its outputs is gone: its inputs are needed once more.
    pub(super) fn undo(&mut self, task: TaskId) {
        self.tasks.undo(task);
        let Self { graph, copies, .. } = self;
        graph.reads(task).for_each(|value| copies.needed_once_more(value));
    }

    /// Whether `new`, written as an update of `old` by the only task that still needs `old`, may take over `old`'s bytes,
    /// which nobody but that task has pinned (`own_pins` times); the move that brings them will be over by then.
    pub(super) fn donates(&self, old: ValueId, new: ValueId, replica: &Replica, own_pins: u32) -> bool {
        self.uses(old) == 1
            && replica.pins == own_pins + u32::from(replica.arrival == Arrival::Coming)
            && self.of(new).all(|at| self.replica(at).arrival == Arrival::Wanted) // but for a way home
            && match replica.place {
                Location::Buffer(_) => replica.space != HOST || !self.has_free_window(new),
                Location::Home => self.share_window(old, new),
                Location::Opaque => false,
            }
    }
}
