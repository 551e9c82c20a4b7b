//! What follows from a graph's operands.
//!
//! Owns: use counts, result windows, edges. Must not know: anything but the tables. Invariant: every edge goes from a lower
//! task number to a higher one.

use std::collections::BTreeMap;

use super::{NONE, Pack, TaskGraph};
use crate::id::TaskId;
use crate::kernel::Form;
use crate::shape::ChunkMeta;

impl TaskGraph {
    /// Fills what follows from the operands: use counts, result windows, CSR edges.
    pub(super) fn connect(&mut self) {
        self.ask_forms();
        self.number_windows();
        let edges = self.edges();
        let n = self.tasks.len();
        let mut starts = vec![0u32; n + 1];
        let mut counts = vec![0u32; n];
        for &(from, to) in &edges {
            starts[from.index() + 1] += 1;
            counts[to.index()] += 1;
        }
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut successors = vec![TaskId(0); edges.len()];
        for (from, to) in edges {
            let slot = &mut next[from.index()];
            successors[*slot as usize] = to;
            *slot += 1;
        }
        (self.successors, self.successor_starts, self.predecessor_counts) = (successors, starts, counts);
    }

    /// Asks each kernel in which form it takes its inputs, once.
    fn ask_forms(&mut self) {
        let mut forms = Vec::new();
        let mut packs: Vec<Pack> = Vec::new();
        let mut known = BTreeMap::new();
        for task in self.tasks() {
            let (kernel, row) = (self.kernel(task), &self.tasks[task.index()]);
            for (index, at) in (row.inputs as usize..row.outputs as usize).enumerate() {
                let Form::Packed(form) = kernel.input_form(self.params(task), index) else { continue };
                let value = self.operands[at].value;
                let operand = ChunkMeta { dtype: self.dtype(value), shape: self.shape(value), data: None };
                let (dtype, len) = kernel.packed_len(form, operand);
                let pack = Pack { form, dtype, len };
                let number = *known.entry(pack).or_insert_with(|| {
                    packs.push(pack);
                    packs.len()
                });
                forms.resize(self.operands.len(), 0);
                // Shapes of chunks are few: two or three an axis.
                forms[at] = u16::try_from(number).expect("fewer than 65 536 packed forms in one graph");
            }
        }
        (self.forms, self.packs) = (forms, packs);
    }

    fn number_windows(&mut self) {
        let mut windows = vec![NONE; self.values.len()];
        let mut updated = vec![false; self.values.len()];
        let mut uses = vec![0u32; self.values.len()];
        let mut count = 0;
        for task in self.tasks() {
            for value in self.reads(task) {
                uses[value.index()] += 1;
            }
            for output in self.outputs(task) {
                if let Some(old) = output.updates {
                    updated[old.index()] = true;
                }
                if !self.is_result(output.value) {
                    continue;
                }
                let inherited = output.updates.filter(|&old| self.home(old) == self.home(output.value));
                windows[output.value.index()] = inherited.map_or_else(
                    || {
                        count += 1;
                        count - 1
                    },
                    |old| windows[old.index()],
                );
            }
        }
        (self.windows, self.updated, self.uses, self.window_count) = (windows, updated, uses, count as usize);
    }

    /// One edge per (reader, value) from the value's producer, and one from each other reader of an old value to the task
    /// that overwrites its window: that task must come last.
    fn edges(&self) -> Vec<(TaskId, TaskId)> {
        let mut edges = Vec::with_capacity(self.operands.len());
        let mut overwritten = std::collections::BTreeMap::new();
        for task in self.tasks() {
            edges.extend(self.reads(task).filter_map(|value| Some((self.producer(value)?, task))));
            for output in self.outputs(task) {
                if let Some(old) = output.updates {
                    let same = self.window_id(old).is_some() && self.window_id(old) == self.window_id(output.value);
                    if same && self.use_count(old) > 1 {
                        overwritten.insert(old, task);
                    }
                }
            }
        }
        if !overwritten.is_empty() {
            for task in self.tasks() {
                let writers = self.reads(task).filter_map(|value| overwritten.get(&value));
                edges.extend(writers.filter(|&&writer| writer != task).map(|&writer| (task, writer)));
            }
        }
        edges
    }
}
