//! The ready tasks of one device: fair between graphs, by priority within each.
//!
//! Owns: whose turn it is. Must not know: devices, memory, why a task is ready. Invariant: of two graphs that always have ready tasks here,
//! neither gets more than one task ahead of the other in predicted time, however many tasks either has; a graph that comes later starts
//! level with the one served last, and what it did not use is not saved up for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::id::{GraphId, TaskId};

/// Tasks in order: highest bottom level first, then submission order. Neighbours of one level are a run, so that the many tasks of one operation over a
/// chunk grid, all ready at once, take no more memory than one.
#[derive(Default)]
struct LevelRuns {
    /// By level and first task: the task after the last.
    runs: BTreeMap<(Reverse<u64>, u32), u32>,
}

/// Bytes of tables for a task that is ready when its graph begins, if it is the neighbour of none.
pub(super) const BYTES_A_TASK: usize = 8;

impl LevelRuns {
    fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The run of that level that ends behind, at or after a task, if any.
    fn around(&self, level: Reverse<u64>, task: u32) -> Option<(u32, u32)> {
        let (&(of, first), &end) = self.runs.range(..=(level, task)).next_back()?;
        (of == level && end >= task).then_some((first, end))
    }

    /// Takes a task in; whether it is new.
    fn insert(&mut self, level: u64, task: TaskId) -> bool {
        let (level, task) = (Reverse(level), task.0);
        let before = self.around(level, task);
        if before.is_some_and(|(_, end)| end > task) {
            return false;
        }
        let end = self.runs.remove(&(level, task + 1)).unwrap_or(task + 1);
        let first = before.map_or(task, |(first, _)| first);
        self.runs.insert((level, first), end);
        true
    }

    /// Takes a task out; whether it was there.
    fn remove(&mut self, level: u64, task: TaskId) -> bool {
        let (level, task) = (Reverse(level), task.0);
        let Some((first, end)) = self.around(level, task).filter(|run| run.1 > task) else { return false };
        if first == task {
            self.runs.remove(&(level, first));
        } else {
            self.runs.insert((level, first), task);
        }
        if task + 1 < end {
            self.runs.insert((level, task + 1), end);
        }
        true
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = TaskId> + '_ {
        self.runs.iter().flat_map(|(&(_, first), &end)| (first..end).map(TaskId))
    }
}

#[derive(Default)]
struct Lot {
    /// Predicted time that the graph has been given here, and what it was level with when it came.
    turn: u64,
    tasks: LevelRuns,
}

/// See the module's text.
#[derive(Default)]
pub(super) struct TaskQueue {
    lots: BTreeMap<GraphId, Lot>,
    /// Graphs with ready tasks, by turn.
    order: BTreeSet<(u64, GraphId)>,
    /// The turn of the graph that was served last.
    now: u64,
    len: usize,
}

impl TaskQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn insert(&mut self, graph: GraphId, priority: u64, task: TaskId) {
        let lot = self.lots.entry(graph).or_default();
        if lot.tasks.is_empty() {
            lot.turn = lot.turn.max(self.now);
            self.order.insert((lot.turn, graph));
        }
        self.len += usize::from(lot.tasks.insert(priority, task));
    }

    /// Takes a task out; whether it was there.
    pub(super) fn remove(&mut self, graph: GraphId, priority: u64, task: TaskId) -> bool {
        let Some(lot) = self.lots.get_mut(&graph) else { return false };
        let there = lot.tasks.remove(priority, task);
        if there && lot.tasks.is_empty() {
            self.order.remove(&(lot.turn, graph));
        }
        self.len -= usize::from(there);
        there
    }

    /// The graph gets this much of the device's time.
    pub(super) fn charge(&mut self, graph: GraphId, ns: u64) {
        let alone = self.lots.len() == 1;
        let Some(lot) = self.lots.get_mut(&graph) else { return };
        if alone {
            return; // whoever comes is level with it
        }
        let waits = self.order.remove(&(lot.turn, graph));
        self.now = self.now.max(lot.turn);
        lot.turn = lot.turn.saturating_add(ns.max(1));
        if waits {
            self.order.insert((lot.turn, graph));
        }
    }

    /// The graph is over; it has no task here any more.
    pub(super) fn forget(&mut self, graph: GraphId) {
        debug_assert!(self.lots.get(&graph).is_none_or(|lot| lot.tasks.is_empty()));
        self.lots.remove(&graph);
    }

    /// Graphs with ready tasks, the one whose turn it is first.
    pub(super) fn graphs(&self) -> impl Iterator<Item = GraphId> + '_ {
        self.order.iter().map(|&(_, graph)| graph)
    }

    /// The graph with ready tasks whose turn it is after that of another, or of the first.
    pub(super) fn next_turn(&self, after: Option<(u64, GraphId)>) -> Option<(u64, GraphId)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).next().copied()
    }

    /// A graph's ready tasks, the most urgent first.
    pub(super) fn of(&self, graph: GraphId) -> impl DoubleEndedIterator<Item = TaskId> + '_ {
        self.lots.get(&graph).into_iter().flat_map(|lot| lot.tasks.all())
    }

    /// All ready tasks.
    pub(super) fn all(&self) -> impl Iterator<Item = (GraphId, TaskId)> + '_ {
        self.graphs().flat_map(|graph| self.of(graph).map(move |task| (graph, task)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_a_set_in_order() {
        let (mut runs, mut set, mut state) = (LevelRuns::default(), BTreeSet::new(), 1u64);
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (level, task) = ((state >> 60) % 3, TaskId((state >> 33) as u32 % 40));
            if (state >> 40) & 1 == 0 {
                assert_eq!(runs.insert(level, task), set.insert((Reverse(level), task)));
            } else {
                assert_eq!(runs.remove(level, task), set.remove(&(Reverse(level), task)));
            }
            assert!(runs.all().eq(set.iter().map(|key| key.1)) && runs.all().rev().eq(set.iter().rev().map(|key| key.1)));
        }
        let mut runs = LevelRuns::default();
        (0..1000).for_each(|task| assert!(runs.insert(7, TaskId(task))));
        assert_eq!(runs.runs.len(), 1);
    }

    #[test]
    fn a_small_graph_beside_a_large_one_gets_its_half() {
        let (large, small) = (GraphId(1), GraphId(2));
        let mut queue = TaskQueue::default();
        (0..1000).for_each(|t| queue.insert(large, 1_000_000, TaskId(t)));
        let mut served = Vec::new();
        let mut serve = |queue: &mut TaskQueue| {
            let graph = queue.graphs().next().expect("tasks");
            let task = queue.of(graph).next().expect("a task");
            assert!(queue.remove(graph, if graph == large { 1_000_000 } else { 1 }, task));
            queue.charge(graph, 10);
            served.push(graph);
        };
        (0..100).for_each(|_| serve(&mut queue));
        (0..10).for_each(|t| queue.insert(small, 1, TaskId(t)));
        (0..20).for_each(|_| serve(&mut queue));
        assert_eq!(served[100..].iter().filter(|&&g| g == small).count(), 10);
        assert_eq!(queue.all().count(), 890);
        queue.forget(small);
        assert!(!queue.remove(small, 1, TaskId(0)) && !queue.is_empty());
    }
}
