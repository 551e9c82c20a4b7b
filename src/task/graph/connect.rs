//! What follows from a graph's operands.
//!
//! Owns: what kernels say of their operands, use counts, result windows, edges. Must not know: anything but the tables. Invariant: every edge goes from a lower
//! task number to a higher one.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::builder::{MOST_BYTES, TOO_LARGE};
use super::{NONE, Pack, TaskGraph};
use crate::error::{Error, Result};
use crate::id::TaskId;
use crate::shape::Form;

impl TaskGraph {
    /// Fills what follows from the operands: use counts, result windows, CSR edges. `bytes` is what arrays and values take.
    ///
    /// # Errors
    /// [`Error::Argument`] if packed forms beside them are too large to be added up.
    pub(super) fn connect(&mut self, bytes: u64) -> Result<()> {
        self.ask_kernels(bytes)?;
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
        Ok(())
    }

    /// Asks each kernel once in which form it takes its inputs, and how much scratch it needs.
    fn ask_kernels(&mut self, mut bytes: u64) -> Result<()> {
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
                let more = (len as u64).checked_mul(dtype.bytes() as u64).and_then(|more| more.checked_add(bytes));
                bytes = more.filter(|&all| all <= MOST_BYTES).ok_or_else(|| {
                    let what = format!("{len} {dtype} in a packed form of {}", kernel.name());
                    Error::argument("size of a graph", what, TOO_LARGE)
                })?;
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
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use crate::kernel::sums::Add;
    use crate::kernel::{Fault, Kernel, Scratch, Work};
    use crate::shape::Form;
    use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};
    use crate::task::GraphBuilder;

    /// A kernel whose packed form has so many numbers.
    struct Packs(usize);

    impl Kernel for Packs {
        fn name(&self) -> Cow<'static, str> {
            "packs".into()
        }
        fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
            Work::default()
        }
        fn input_form(&self, _: &[u8], _: usize) -> Form {
            Form::Packed(0)
        }
        fn packed_len(&self, _: u8, _: ChunkMeta<'_>) -> (DType, usize) {
            (DType::F64, self.0)
        }
        fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[test]
    fn packed_forms_too_large_to_count_are_refused() {
        for (len, fits) in [(1 << 20, true), ((1 << 61) + 1, false), (1 << 60, false)] {
            let mut graph = GraphBuilder::new();
            let (make, pack) = (graph.kernel(Arc::new(Add)), graph.kernel(Arc::new(Packs(len))));
            graph.group("some");
            let value = graph.value(DType::F64, &[4]);
            graph.write(make, &[], &[], value).unwrap();
            graph.task(pack, &[], &[value], &[]).unwrap();
            let error = graph.build().err().map(|e| e.to_string());
            assert_eq!(error.is_none(), fits, "{len}");
            assert!(error.is_none_or(|e| e.contains("packed form of packs")), "{len}");
        }
    }
}
