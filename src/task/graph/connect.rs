//! What follows from a graph's operands.
//!
//! Owns: what kernels say of their operands, use counts, result windows, edges. Must not know: anything but the tables. Invariant: every edge goes from a lower
//! task number to a higher one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{NONE, Pack, TaskGraph};
use crate::id::TaskId;
use crate::kernel::Form;

impl TaskGraph {
    /// Fills what follows from the operands: use counts, result windows, CSR edges.
    pub(super) fn connect(&mut self) {
        self.ask_kernels();
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

    /// Asks each kernel once in which form it takes its inputs, and how much scratch it needs.
    fn ask_kernels(&mut self) {
        let (mut forms, mut packs, mut scratch_bytes) = (Vec::new(), Vec::<Pack>::new(), 0u64);
        let (mut known, mut operands) = (BTreeMap::new(), Vec::new());
        for row in &self.tasks {
            let kernel = &*self.kernels[row.kernel.index()];
            let params = &self.params[row.params as usize..row.params_end as usize];
            operands.clear();
            operands
                .extend(self.operands[row.inputs as usize..row.end as usize].iter().map(|operand| self.meta(operand.value)));
            // It may be the user's, and panic: then its body has the last word.
            let asked = catch_unwind(AssertUnwindSafe(|| kernel.scratch_bytes(params, &operands)));
            scratch_bytes = scratch_bytes.max(asked.unwrap_or_default());
            for (index, at) in (row.inputs as usize..row.outputs as usize).enumerate() {
                let Form::Packed(form) = kernel.input_form(params, index) else { continue };
                let (dtype, len) = kernel.packed_len(form, operands[index]);
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
        (self.forms, self.packs, self.scratch_bytes) = (forms, packs, scratch_bytes);
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
