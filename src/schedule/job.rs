//! The state of one submitted graph.
//!
//! Owns: task states, remaining uses, and which copies (replicas) of each value exist where. Must not know: devices' queues,
//! time. Invariant: a value that somebody still needs has a replica, or its producer has yet to run (again).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::admission::Base;
use super::event::{Estimates, Place};
use super::peak;
use crate::device::{DeviceSpec, HOST};
use crate::id::{DeviceId, FormId, SpaceId, TaskId, ValueId};
use crate::task::{Home, PLAIN, TaskGraph};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Predecessors have yet to run.
    Waiting,
    /// In a device's queue.
    Ready,
    /// Taken by a device; inputs are on their way.
    Staged,
    Running,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Has its place; what it is made from is not there yet.
    Wanted,
    /// Being written, moved or packed.
    Coming,
    Ready,
}

/// One copy of a value: (space, form) and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Replica {
    pub(super) space: SpaceId,
    pub(super) form: FormId,
    pub(super) place: Place,
    pub(super) arrival: Arrival,
    /// Users that must not lose it: staged and running tasks, moves, packings.
    pub(super) pins: u32,
    /// It is on its way home, to be evicted then.
    pub(super) leaving: bool,
    /// A launch has read it with success.
    pub(super) proved: bool,
    /// When it was last used, while it is unused; 0 if it never was, or is no more.
    pub(super) stamp: u64,
    /// Being written by a task that runs again, although the value exists: nobody counts on it, and it may be dropped.
    pub(super) spare: bool,
    /// Tells it from earlier replicas of the same slab entry.
    pub(super) serial: u64,
    /// Who wants it: whose workers pack it, and by which task's kernel.
    pub(super) wanted: (DeviceId, TaskId),
    next: u32,
}

const END: u32 = u32::MAX;

pub(super) struct Job {
    pub(super) graph: Arc<TaskGraph>,
    /// By device; `None` for one that can run no task.
    estimates: Vec<Option<Estimates>>,
    /// Devices that turned out to be unable to run a task, whatever was estimated.
    unfit: BTreeSet<(DeviceId, TaskId)>,
    pub(super) state: Vec<State>,
    /// Unfinished predecessors.
    pub(super) waiting: Vec<u32>,
    /// Bottom level: time of the longest path from the task's start to the end, on each task's best device.
    pub(super) priority: Vec<u64>,
    /// Tasks that still need each value.
    pub(super) uses: Vec<u32>,
    pub(super) device: Vec<DeviceId>,
    /// The number of each value among the chunks of callers' arrays (+ 1), 0 for others; empty if there are none.
    chunks: Vec<u32>,
    /// How many tasks in queues of devices with memory of their own read each value; empty if there were none.
    queued: Vec<u32>,
    /// Most that a task takes in a space of its own: of a device that takes packed forms, and of one that does not.
    largest: [Option<u64>; 2],
    heads: Vec<u32>,
    replicas: Vec<Replica>,
    free: Vec<u32>,
    next_serial: u64,
    /// Value (index + 1) that occupies each result window; 0 = none.
    pub(super) occupant: Vec<u32>,
    /// Result windows that an abandoned task may still write.
    poisoned: Vec<bool>,
    /// The first task in sequential order that is not done.
    pub(super) frontier: usize,
    /// Up to this task (counted from 1), tasks go one after the other, in order: memory did not suffice for more.
    pub(super) strictly: usize,
    /// Bytes charged by tasks beyond the frontier, in all and each.
    pub(super) extra: u64,
    pub(super) charged: Vec<u64>,
    /// Proven peak of pooled host memory in sequential order.
    pub(super) peak: u64,
    pub(super) peak_task: Option<TaskId>,
    /// Arrays and scratch.
    pub(super) base: Base,
    pub(super) remaining: usize,
    /// Final values that are not in host memory yet, and which ones are.
    pub(super) homeless: usize,
    at_home: Vec<bool>,
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
    /// Something was lost: count missing inputs instead of trusting `waiting`.
    pub(super) disturbed: bool,
    /// How often each task was given up because it took too long.
    tries: BTreeMap<TaskId, u32>,
}

impl Job {
    pub(super) fn new(graph: Arc<TaskGraph>, estimates: &[Estimates], base: Base, nested: bool) -> Self {
        let (n, v) = (graph.len(), graph.value_count());
        let finals = (0..v).filter(|&i| graph.is_final(ValueId::at(i)) && graph.producer(ValueId::at(i)).is_some()).count();
        let mut job = Self {
            estimates: Vec::new(),
            unfit: BTreeSet::new(),
            state: vec![State::Waiting; n],
            waiting: graph.tasks().map(|t| graph.predecessor_count(t)).collect(),
            priority: vec![0; n],
            uses: (0..v).map(|i| graph.use_count(ValueId::at(i))).collect(),
            device: vec![DeviceId(0); n],
            chunks: Vec::new(),
            queued: Vec::new(),
            largest: [None; 2],
            heads: vec![END; v],
            replicas: Vec::new(),
            free: Vec::new(),
            next_serial: 0,
            occupant: vec![0; graph.window_count()],
            poisoned: vec![false; graph.window_count()],
            frontier: 0,
            strictly: 0,
            extra: 0,
            charged: vec![0; n],
            peak: 0,
            peak_task: None,
            base,
            remaining: n,
            homeless: finals,
            at_home: vec![false; v],
            flying: 0,
            nested,
            passed: 0,
            started: false,
            failed: false,
            finished: false,
            retired: false,
            disturbed: false,
            tries: BTreeMap::new(),
            graph,
        };
        for column in estimates {
            job.price(column);
        }
        job.rank();
        job.adopt_callers_arrays();
        (job.peak, job.peak_task) = peak::sequential_peak(&job.graph);
        job
    }

    pub(super) fn price(&mut self, column: &Estimates) {
        let at = column.device.index();
        if self.estimates.len() <= at {
            self.estimates.resize(at + 1, None);
        }
        self.estimates[at] = column.any().then(|| column.clone());
    }

    /// Whether the device can run any of the tasks.
    pub(super) fn has_work_for(&self, device: DeviceId) -> bool {
        self.estimates.get(device.index()).is_some_and(Option::is_some)
    }

    /// Whether the estimate of a task on a device is a measured time of such tasks.
    pub(super) fn is_measured(&self, task: TaskId, device: DeviceId) -> bool {
        let column = self.estimates.get(device.index()).and_then(Option::as_ref);
        column.is_some_and(|column| column.is_measured(&self.graph, task))
    }

    /// How often a task was given up because it took too long.
    pub(super) fn tries(&self, task: TaskId) -> u32 {
        self.tries.get(&task).copied().unwrap_or(0)
    }

    pub(super) fn count_try(&mut self, task: TaskId) {
        *self.tries.entry(task).or_insert(0) += 1;
    }

    /// A launch that was given up may still write the value's window (or no longer may).
    pub(super) fn poison(&mut self, value: ValueId, may: bool) {
        if let Some(window) = self.graph.window_id(value) {
            self.poisoned[window] = may;
        }
    }

    /// Whether a launch that was given up may still write the value's window.
    pub(super) fn is_poisoned(&self, value: ValueId) -> bool {
        self.graph.window_id(value).is_some_and(|w| self.poisoned[w])
    }

    /// From now on the device does not run these tasks.
    pub(super) fn forbid(&mut self, device: DeviceId, tasks: &[TaskId]) {
        self.unfit.extend(tasks.iter().map(|&task| (device, task)));
    }

    /// Whether the device may run the task. (Its estimate stays, because sums of estimates count on it.)
    pub(super) fn may_run_on(&self, task: TaskId, device: DeviceId) -> bool {
        self.unfit.is_empty() || !self.unfit.contains(&(device, task))
    }

    /// The value's number among the chunks of callers' arrays, if it is one.
    pub(super) fn chunk(&self, value: ValueId) -> Option<u32> {
        self.chunks.get(value.index())?.checked_sub(1)
    }

    /// A value is this chunk of a caller's array.
    pub(super) fn set_chunk(&mut self, value: ValueId, chunk: u32) {
        self.chunks.resize(self.graph.value_count(), 0);
        self.chunks[value.index()] = chunk + 1;
    }

    /// Takes the numbers of all chunks.
    pub(super) fn take_chunks(&mut self) -> impl Iterator<Item = u32> + use<> {
        std::mem::take(&mut self.chunks).into_iter().filter_map(|chunk| chunk.checked_sub(1))
    }

    /// Whether any value is a chunk of a caller's array that is known from one graph to the next.
    pub(super) fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// How many queued tasks read a value on devices with memory of their own.
    pub(super) fn queued(&self, value: ValueId) -> u32 {
        self.queued.get(value.index()).copied().unwrap_or(0)
    }

    /// A task joins (or leaves) the queue of a device with memory of its own.
    pub(super) fn count_queued(&mut self, task: TaskId, joins: bool) {
        self.queued.resize(self.graph.value_count(), 0);
        for value in self.graph.reads(task) {
            let count = &mut self.queued[value.index()];
            *count = if joins { *count + 1 } else { *count - 1 };
        }
    }

    /// Bytes that a task takes in a space of the device's own, with nothing there before.
    pub(super) fn room_for(&self, task: TaskId, spec: &DeviceSpec) -> u64 {
        peak::room_for(&self.graph, task, spec)
    }

    /// Finds out what the neediest task takes in a space of the device's own.
    pub(super) fn measure(&mut self, spec: &DeviceSpec) {
        let plain = usize::from(spec.gpu.is_some());
        if self.largest[plain].is_none() {
            self.largest[plain] = Some(self.graph.tasks().map(|task| self.room_for(task, spec)).max().unwrap_or(0));
        }
    }

    /// Whether every task is known to fit a space of the device's own with this limit.
    pub(super) fn all_fit(&self, spec: &DeviceSpec, limit: u64) -> bool {
        limit == u64::MAX || self.largest[usize::from(spec.gpu.is_some())].is_some_and(|largest| largest <= limit)
    }

    /// The estimate of a task on a device, if it can run there.
    pub(super) fn estimate(&self, task: TaskId, device: DeviceId) -> Option<u64> {
        self.estimates.get(device.index())?.as_ref()?.ns(&self.graph, task)
    }

    fn rank(&mut self) {
        for task in self.graph.clone().tasks().rev() {
            let own = self.estimates.iter().flatten().filter_map(|column| column.ns(&self.graph, task)).min().unwrap_or(0);
            let below = self.graph.successors(task).iter().map(|s| self.priority[s.index()]).max().unwrap_or(0);
            self.priority[task.index()] = own.saturating_add(below);
        }
    }

    fn adopt_callers_arrays(&mut self) {
        let graph = self.graph.clone();
        let callers = |v: &ValueId| graph.producer(*v).is_none() && matches!(graph.home(*v), Home::Window { .. });
        let all = || (0..graph.value_count()).map(ValueId::at).filter(callers);
        self.replicas.reserve_exact(all().count() + graph.window_count());
        for value in all() {
            let wanted = (DeviceId(0), TaskId(0));
            self.add(value, Replica::new(HOST, PLAIN, Place::Home, Arrival::Ready, wanted));
        }
    }

    pub(super) fn add(&mut self, value: ValueId, mut replica: Replica) -> u32 {
        replica.next = self.heads[value.index()];
        self.next_serial += 1;
        replica.serial = self.next_serial;
        let at = self.free.pop().unwrap_or_else(|| {
            self.replicas.push(replica);
            self.replicas.len() as u32 - 1
        });
        self.replicas[at as usize] = replica;
        self.heads[value.index()] = at;
        if replica.place == Place::Home
            && let Some(window) = self.graph.window_id(value)
        {
            self.occupant[window] = value.0 + 1;
        }
        at
    }

    /// Removes a replica and says where it was.
    pub(super) fn remove(&mut self, value: ValueId, at: u32) -> Place {
        let mut link = self.heads[value.index()];
        if link == at {
            self.heads[value.index()] = self.replicas[at as usize].next;
        } else {
            while self.replicas[link as usize].next != at {
                link = self.replicas[link as usize].next;
            }
            self.replicas[link as usize].next = self.replicas[at as usize].next;
        }
        self.free.push(at);
        self.replicas[at as usize].stamp = 0;
        self.count_home(value);
        let place = self.replicas[at as usize].place;
        if place == Place::Home
            && let Some(window) = self.graph.window_id(value)
            && self.occupant[window] == value.0 + 1
        {
            self.occupant[window] = 0;
        }
        place
    }

    pub(super) fn replica(&self, at: u32) -> &Replica {
        &self.replicas[at as usize]
    }

    pub(super) fn replica_mut(&mut self, at: u32) -> &mut Replica {
        &mut self.replicas[at as usize]
    }

    /// The replicas of a value, by slab index.
    pub(super) fn of(&self, value: ValueId) -> impl Iterator<Item = u32> + '_ {
        let first = self.heads[value.index()];
        std::iter::successors((first != END).then_some(first), |&at| {
            let next = self.replicas[at as usize].next;
            (next != END).then_some(next)
        })
    }

    pub(super) fn find(&self, value: ValueId, space: SpaceId, form: FormId) -> Option<u32> {
        let is_it = |r: &Replica| r.space == space && r.form == form && !r.spare;
        self.of(value).find(|&at| is_it(self.replica(at)))
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

    /// The place that a rerun task writes although this space has the value.
    pub(super) fn find_spare(&self, value: ValueId, space: SpaceId) -> Option<u32> {
        self.of(value).find(|&at| self.replica(at).space == space && self.replica(at).spare)
    }

    /// Whether a value can be had, now or from a move that is under way.
    pub(super) fn exists(&self, value: ValueId) -> bool {
        let there = |r: &Replica| r.form == PLAIN && !r.spare && r.arrival != Arrival::Wanted;
        self.of(value).any(|at| there(self.replica(at)))
    }

    /// After a fault: whether all inputs of a task are there, and nobody else still needs what it overwrites. (Without faults
    /// counting finished predecessors says the same.)
    pub(super) fn may_run(&self, task: TaskId) -> bool {
        let graph = &self.graph;
        let there = |r: &Replica| r.form == PLAIN && !r.spare && r.arrival == Arrival::Ready;
        let inputs = graph.reads(task).all(|value| self.of(value).any(|at| there(self.replica(at))));
        let last = |old: ValueId| self.uses[old.index()] as usize == graph.reads(task).filter(|&v| v == old).count();
        let overwrites =
            |old: ValueId, new: ValueId| graph.window_id(old).is_some() && graph.window_id(old) == graph.window_id(new);
        inputs && graph.outputs(task).all(|o| o.updates.is_none_or(|old| !overwrites(old, o.value) || last(old)))
    }

    /// Keeps count of the final values that are in host memory.
    pub(super) fn count_home(&mut self, value: ValueId) {
        if !self.graph.is_final(value) {
            return;
        }
        let home = self.find(value, HOST, PLAIN).is_some_and(|at| self.replica(at).arrival == Arrival::Ready);
        let before = std::mem::replace(&mut self.at_home[value.index()], home);
        self.homeless = self.homeless + usize::from(before) - usize::from(home);
    }

    /// A done task must run again, because one of its outputs is gone: its inputs are needed once more.
    pub(super) fn undo(&mut self, task: TaskId) {
        let graph = self.graph.clone();
        self.state[task.index()] = State::Waiting;
        self.remaining += 1;
        self.frontier = self.frontier.min(task.index());
        for value in graph.reads(task) {
            self.uses[value.index()] += 1;
        }
    }

    /// Whether `new`, written as an update of `old` by the only task that still needs `old`, may take over `old`'s bytes,
    /// which nobody but that task has pinned (`own_pins` times); the move that brings them will be over by then.
    pub(super) fn donates(&self, old: ValueId, new: ValueId, replica: &Replica, own_pins: u32) -> bool {
        let same_window = || self.graph.window_id(old).is_some() && self.graph.window_id(old) == self.graph.window_id(new);
        self.uses[old.index()] == 1
            && replica.pins == own_pins + u32::from(replica.arrival == Arrival::Coming)
            && self.of(new).all(|at| self.replica(at).arrival == Arrival::Wanted) // but for a way home
            && match replica.place {
                Place::Buffer(_) => replica.space != HOST || !self.has_free_window(new),
                Place::Home => same_window(),
                Place::Opaque => false,
            }
    }

    /// Whether the value's home window can be written: nothing is there, and no given-up task may still write it.
    pub(super) fn has_free_window(&self, value: ValueId) -> bool {
        self.graph.window_id(value).is_some_and(|w| self.occupant[w] == 0 && !self.poisoned[w])
    }
}

impl Replica {
    pub(super) fn new(space: SpaceId, form: FormId, place: Place, arrival: Arrival, wanted: (DeviceId, TaskId)) -> Self {
        let (leaving, proved, spare) = (false, false, false);
        Self { space, form, place, arrival, pins: 0, leaving, proved, stamp: 0, spare, serial: 0, wanted, next: END }
    }
}
