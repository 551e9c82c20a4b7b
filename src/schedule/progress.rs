//! How far the tasks of one graph have come.
//!
//! Owns: states of tasks, what they took out of turn. Must not know: values, devices' queues. Invariant: what is charged is charged to tasks that are not
//! behind the frontier, and its sum is `extra`.

use std::collections::{BTreeMap, VecDeque};

use super::event::Estimates;
use crate::id::{DeviceId, TaskId};
use crate::task::TaskGraph;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskState {
    /// Predecessors have yet to run.
    Waiting,
    /// In a device's queue.
    Ready,
    /// Taken by a device; inputs are on their way.
    Staged,
    Running,
    Done,
}

/// One task: what is looked at together lies together.
#[derive(Clone, Copy)]
struct TaskProgress {
    /// Bottom level: time of the longest path from the task's start to the end, on each task's best device; once it is queued, what the policy makes of it.
    priority: u64,
    /// Unfinished predecessors.
    waiting: u32,
    device: DeviceId,
    state: TaskState,
}

/// See the module's text.
pub(super) struct Progress {
    rows: Vec<TaskProgress>,
    /// The first task in sequential order that is not done.
    pub(super) frontier: usize,
    /// Up to this task (counted from 1), tasks go one after the other, in order: memory did not suffice for more.
    pub(super) strictly: usize,
    pub(super) remaining: usize,
    pub(super) charges: Charges,
    /// How often each task was given up because it took too long.
    tries: BTreeMap<TaskId, u32>,
}

/// Bytes of tables for each task.
pub(super) const BYTES_A_TASK: usize = size_of::<TaskProgress>() + 2;

impl Progress {
    pub(super) fn new(graph: &TaskGraph) -> Self {
        let row = |task| TaskProgress {
            priority: 0,
            waiting: graph.predecessor_count(task),
            device: DeviceId(0),
            state: TaskState::Waiting,
        };
        Self {
            rows: graph.tasks().map(row).collect(),
            frontier: 0,
            strictly: 0,
            remaining: graph.len(),
            charges: Charges::default(),
            tries: BTreeMap::new(),
        }
    }

    /// Finds each task's bottom level. O(edges).
    pub(super) fn rank(&mut self, graph: &TaskGraph, estimates: &[Option<Estimates>]) {
        for task in graph.tasks().rev() {
            let own = estimates.iter().flatten().filter_map(|column| column.ns(graph, task)).min().unwrap_or(0);
            let below = graph.successors(task).iter().map(|s| self.priority(*s)).max().unwrap_or(0);
            self.rows[task.index()].priority = own.saturating_add(below);
        }
    }

    pub(super) fn state(&self, task: TaskId) -> TaskState {
        self.rows[task.index()].state
    }

    pub(super) fn set_state(&mut self, task: TaskId, state: TaskState) {
        self.rows[task.index()].state = state;
    }

    pub(super) fn priority(&self, task: TaskId) -> u64 {
        self.rows[task.index()].priority
    }

    /// The policy says otherwise.
    pub(super) fn set_priority(&mut self, task: TaskId, priority: u64) {
        self.rows[task.index()].priority = priority;
    }

    /// Where a task is queued, or was last given to.
    pub(super) fn device(&self, task: TaskId) -> DeviceId {
        self.rows[task.index()].device
    }

    /// A task is queued at a device, or given to it.
    pub(super) fn put(&mut self, task: TaskId, device: DeviceId, state: TaskState) {
        let row = &mut self.rows[task.index()];
        (row.device, row.state) = (device, state);
    }

    /// Whether a task has no predecessors.
    pub(super) fn is_first(&self, task: TaskId) -> bool {
        self.rows[task.index()].waiting == 0
    }

    /// A predecessor of a task that waits is done; whether it was the last. `None` if the task does not wait.
    pub(super) fn release(&mut self, task: TaskId) -> Option<bool> {
        let row = &mut self.rows[task.index()];
        if row.state != TaskState::Waiting {
            return None;
        }
        row.waiting = row.waiting.saturating_sub(1);
        Some(row.waiting == 0)
    }

    /// The next task in sequential order, if it is queued.
    pub(super) fn next_queued(&self) -> Option<TaskId> {
        let row = self.rows.get(self.frontier)?;
        (row.state == TaskState::Ready).then(|| TaskId::at(self.frontier))
    }

    /// Moves the frontier over what is done; says how many bytes are charged no longer.
    pub(super) fn advance(&mut self) -> u64 {
        let mut passed = 0;
        while self.rows.get(self.frontier).is_some_and(|row| row.state == TaskState::Done) {
            passed += self.charges.pass(self.frontier);
            self.frontier += 1;
        }
        passed
    }

    /// A done task must run again.
    pub(super) fn undo(&mut self, task: TaskId) {
        self.set_state(task, TaskState::Waiting);
        self.remaining += 1;
        self.frontier = self.frontier.min(task.index());
    }

    /// How often a task was given up because it took too long.
    pub(super) fn tries(&self, task: TaskId) -> u32 {
        self.tries.get(&task).copied().unwrap_or(0)
    }

    pub(super) fn count_try(&mut self, task: TaskId) {
        *self.tries.entry(task).or_insert(0) += 1;
    }
}

/// Bytes that tasks beyond the frontier took, each and in all.
#[derive(Default)]
pub(super) struct Charges {
    /// The task that the first entry is of.
    first: usize,
    each: VecDeque<u64>,
    extra: u64,
}

impl Charges {
    pub(super) fn extra(&self) -> u64 {
        self.extra
    }

    pub(super) fn add(&mut self, task: TaskId, bytes: u64) {
        if bytes == 0 {
            return;
        }
        if self.each.is_empty() {
            self.first = task.index();
        }
        while self.first > task.index() {
            self.each.push_front(0);
            self.first -= 1;
        }
        let at = task.index() - self.first;
        if self.each.len() <= at {
            self.each.resize(at + 1, 0);
        }
        self.each[at] += bytes;
        self.extra += bytes;
    }

    /// Takes back at most so much of what a task was charged; says how much.
    pub(super) fn take_back(&mut self, task: TaskId, most: u64) -> u64 {
        let entry = task.index().checked_sub(self.first).and_then(|at| self.each.get_mut(at));
        let Some(entry) = entry else { return 0 };
        let back = most.min(*entry);
        *entry -= back;
        self.extra -= back;
        back
    }

    /// A task is behind the frontier.
    fn pass(&mut self, task: usize) -> u64 {
        if task != self.first {
            return 0;
        }
        let Some(bytes) = self.each.pop_front() else { return 0 };
        self.first += 1;
        self.extra -= bytes;
        bytes
    }

    /// All of it.
    pub(super) fn clear(&mut self) -> u64 {
        self.each.clear();
        std::mem::take(&mut self.extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back_once() {
        let mut charges = Charges::default();
        charges.add(TaskId(5), 100);
        charges.add(TaskId(3), 20);
        charges.add(TaskId(9), 7);
        assert_eq!((charges.extra(), charges.take_back(TaskId(5), 30), charges.take_back(TaskId(50), 30)), (127, 30, 0));
        let passed: Vec<u64> = (0..8).map(|task| charges.pass(task)).collect();
        assert_eq!((passed, charges.extra()), (vec![0, 0, 0, 20, 0, 70, 0, 0], 7));
        // The frontier goes back, and over it again.
        charges.add(TaskId(6), 1);
        assert_eq!((6..10).map(|task| charges.pass(task)).sum::<u64>(), 8);
        assert_eq!((charges.clear(), charges.extra()), (0, 0));
    }
}
