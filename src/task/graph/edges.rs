//! What follows from a graph's operands.
//!
//! Owns: use counts, result windows, edges. Must not know: anything but the tables. Invariant: every edge goes from a lower task number to a higher one.

use std::collections::BTreeMap;

use super::tables::Edges;
use super::{NONE, TaskGraph};
use crate::id::{TaskId, ValueId};

impl TaskGraph {
    /// Fills what follows from the operands: use counts, result windows, CSR edges.
    pub(super) fn connect(&mut self) {
        self.number_windows();
        let overwriters = self.overwriters();
        let n = self.len();
        let (mut starts, mut predecessors) = (vec![0u32; n + 1], vec![0u32; n]);
        self.each_edge(&overwriters, |from, to| {
            starts[from.index() + 1] += 1;
            predecessors[to.index()] += 1;
        });
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut successors = vec![TaskId(0); starts[n] as usize];
        // Each start moves up to its end while edges are put there, and is the next task's start then.
        self.each_edge(&overwriters, |from, to| {
            let slot = &mut starts[from.index()];
            successors[*slot as usize] = to;
            *slot += 1;
        });
        starts.rotate_right(1);
        starts[0] = 0;
        starts[n] = successors.len() as u32;
        self.edges = Edges { successors, starts, predecessors };
    }

    fn number_windows(&mut self) {
        let mut count = 0;
        for task in self.tasks() {
            let rows = [self.tasks[task.index()], self.tasks[task.index() + 1]];
            for at in rows[0].reads..rows[1].reads {
                let value = self.operands.reads[at as usize].value;
                self.values.rows[value.index()].uses += 1;
            }
            for at in rows[0].writes..rows[1].writes {
                let write = self.operands.writes[at as usize];
                if let Some(old) = write.updates() {
                    self.values.rows[old.index()].uses += 1;
                    self.values.rows[old.index()].update();
                }
                if !self.is_result(write.value) {
                    continue;
                }
                let inherited = write.updates().filter(|&old| self.home(old) == self.home(write.value));
                let window = inherited.map_or(count, |old| self.values.rows[old.index()].window);
                count += u32::from(inherited.is_none());
                self.values.rows[write.value.index()].window = window;
            }
        }
        self.values.windows = count;
    }

    /// Old values that others read too, and the task that overwrites the window of each: that task must come last.
    fn overwriters(&self) -> BTreeMap<ValueId, TaskId> {
        let mut overwriters = BTreeMap::new();
        for task in self.tasks() {
            for write in self.writes_of(task) {
                let Some(old) = write.updates().filter(|&old| self.use_count(old) > 1) else { continue };
                if self.window_id(old).is_some() && self.window_id(old) == self.window_id(write.value) {
                    overwriters.insert(old, task);
                }
            }
        }
        overwriters
    }

    /// One edge per (reader, value) from the value's producer, and one from each other reader of an old value to the task
    /// that overwrites its window.
    fn each_edge(&self, overwriters: &BTreeMap<ValueId, TaskId>, mut each: impl FnMut(TaskId, TaskId)) {
        for task in self.tasks() {
            for value in self.reads(task) {
                let producer = self.values.rows[value.index()].producer;
                if producer != NONE {
                    each(TaskId(producer), task);
                }
            }
        }
        if overwriters.is_empty() {
            return;
        }
        for task in self.tasks() {
            let writers = self.reads(task).filter_map(|value| overwriters.get(&value));
            writers.filter(|&&writer| writer != task).for_each(|&writer| each(task, writer));
        }
    }
}
