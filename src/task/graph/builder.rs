//! Making a task graph.
//!
//! Owns: [`GraphBuilder`]. Must not know: who runs the graph. Invariant: what it accepts can run in the order in which it was
//! added, and no task writes what another one has, or the caller.

use std::sync::Arc;

use super::intern::{Interned, KernelTable};
use super::tables::{GroupStart, Groups, ParamBytes, TaskRow, Use, Uses, ValueRow, Values, Write, room};
use super::{Home, HostArray, NONE, Operand};
use crate::error::{Error, Result};
use crate::id::{ArrayId, GroupId, KernelId, TaskId, ValueId, ViewId};
use crate::kernel::Kernel;
use crate::shape::{DType, Layout, View, checked_len};

/// Bytes of all arrays and values of a graph together, at most: then whatever is added up of them, with what buffers waste, is
/// a `u64`.
pub(super) const MOST_BYTES: u64 = 1 << 62;
pub(super) const TOO_LARGE: &str = "less: all arrays and values of a graph together take 2^62 bytes at most";

/// Builds a [`TaskGraph`](super::TaskGraph) in sequential order.
#[derive(Default)]
pub struct GraphBuilder {
    pub(super) kernels: KernelTable,
    pub(super) groups: Groups,
    pub(super) arrays: Vec<HostArray>,
    pub(super) tasks: Vec<TaskRow>,
    pub(super) operands: Uses,
    pub(super) values: Values,
    pub(super) params: ParamBytes,
    known: Interned,
    /// Values whose window a later version has taken: nobody may read them any more. Only as long as the last of them.
    overwritten: Vec<bool>,
    /// Of all arrays and values.
    pub(super) bytes: u64,
    /// The first value that cannot be, for [`GraphBuilder::build`] to tell.
    pub(super) wrong: Option<Error>,
}

impl GraphBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Interns a kernel: adding the same `Arc` again, or one of the same [`KernelKey`](crate::kernel::KernelKey), gives the same id. Two that share a key but are of
    /// different types or contents are an error of [`GraphBuilder::build`]. O(1).
    pub fn kernel(&mut self, kernel: Arc<dyn Kernel>) -> KernelId {
        let (id, clash) = self.kernels.intern(kernel);
        if let Some(key) = clash {
            let wanted = "a name, version or content of its own for each (Kernel::name, Kernel::content)";
            self.is_wrong("kernels", format!("two that are both {key} and are not the same"), wanted);
        }
        id
    }

    /// Interns a view: equal ones have one id.
    pub fn view(&mut self, view: &View) -> ViewId {
        self.known.view(&mut self.operands, view)
    }

    /// Starts a group, or goes on with the last one if it has that label; tasks added from now on belong to it.
    pub fn group(&mut self, label: impl AsRef<str>) -> GroupId {
        let (start, label) = (self.tasks.len() as u32, label.as_ref());
        let known = self.known.labels.get(label).copied();
        if let (Some(label), Some(last)) = (known, self.groups.rows.last())
            && last.label == label
        {
            return GroupId::at(self.groups.len() - 1);
        }
        if let Some(last) = self.groups.rows.last() {
            self.known.counts[last.label as usize] += start - last.start;
        }
        let label = known.unwrap_or_else(|| {
            self.groups.labels.push(label.to_owned());
            self.known.counts.push(0);
            self.known.labels.insert(label.to_owned(), self.groups.labels.len() as u32 - 1);
            self.groups.labels.len() as u32 - 1
        });
        room(&mut self.groups.rows, 1);
        self.groups.rows.push(GroupStart { label, start, first: self.known.counts[label as usize] });
        GroupId::at(self.groups.len() - 1)
    }

    /// Declares a host array: the caller's, or (`result`) one that the run returns.
    pub fn array(&mut self, dtype: DType, len: usize, result: bool) -> ArrayId {
        self.push_array(HostArray { dtype, len, result, source: 0 })
    }

    /// Declares a caller's array that other graphs may read too, by its number in this process: copies of its chunks may outlive
    /// the graph.
    pub fn source(&mut self, dtype: DType, len: usize, source: u64) -> ArrayId {
        self.push_array(HostArray { dtype, len, result: false, source })
    }

    /// The arrays that were declared.
    #[must_use]
    pub fn arrays(&self) -> &[HostArray] {
        &self.arrays
    }
    fn push_array(&mut self, array: HostArray) -> ArrayId {
        let HostArray { dtype, len, .. } = array;
        self.count((len as u64).checked_mul(dtype.bytes() as u64), || format!("an array of {len} {dtype}"));
        self.arrays.push(array);
        ArrayId::at(self.arrays.len() - 1)
    }

    /// A value in a pooled buffer.
    pub fn value(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        self.push_value(dtype, shape, None, Home::Pool)
    }

    /// A value that lives in a window of a host array. One that leaves the array, or is of another dtype, is an error of
    /// [`GraphBuilder::build`].
    pub fn window(&mut self, array: ArrayId, offset: usize, layout: &Layout) -> ValueId {
        let HostArray { dtype, len, .. } = self.arrays[array.index()];
        let end = layout.checked_span().and_then(|span| offset.checked_add(span));
        if dtype != layout.dtype || end.is_none_or(|end| end > len) {
            let wanted = format!("a window of {dtype} inside the array's {len} elements, without negative strides");
            self.is_wrong("a window", format!("{layout:?} from element {offset} on"), wanted);
        }
        self.push_value(layout.dtype, &layout.shape, Some(&layout.strides), Home::Window { array, offset })
    }

    /// An opaque value: any Rust value, of at most `bytes`. They count in the memory limit and in the proven peak from the start of the
    /// task that makes it to the end of the last that reads it; then it is dropped.
    pub fn opaque(&mut self, bytes: u64) -> ValueId {
        self.count(Some(bytes), || format!("an opaque value of {bytes} B"));
        let layout = self.known.layout(&mut self.values.layouts, DType::U8, &[], None);
        self.values.rows.push(ValueRow::opaque(layout, bytes));
        ValueId::at(self.values.rows.len() - 1)
    }

    /// Counts what an array or a value takes.
    fn count(&mut self, bytes: Option<u64>, what: impl FnOnce() -> String) {
        match bytes.and_then(|bytes| bytes.checked_add(self.bytes)).filter(|&all| all <= MOST_BYTES) {
            Some(all) => self.bytes = all,
            None => self.is_wrong("size of a graph", what(), TOO_LARGE),
        }
    }

    fn is_wrong(&mut self, what: &str, value: String, wanted: impl Into<String>) {
        self.wrong.get_or_insert_with(|| Error::argument(what, value, wanted));
    }

    fn push_value(&mut self, dtype: DType, shape: &[usize], strides: Option<&[isize]>, home: Home) -> ValueId {
        let len = checked_len("a value", shape).ok().filter(|_| shape.len() <= usize::from(u8::MAX));
        let (shape, strides) = match len {
            Some(_) => (shape, strides),
            None => {
                self.is_wrong("a value", format!("shape {shape:?}"), "at most 255 axes, and fewer than 2^59 elements");
                (&[][..], None)
            }
        };
        let bytes = len.unwrap_or(0) as u64 * dtype.bytes() as u64;
        self.count(Some(bytes), || format!("a value of shape {shape:?}"));
        let strides = strides.filter(|strides| strides.len() == shape.len());
        let layout = self.known.layout(&mut self.values.layouts, dtype, shape, strides);
        room(&mut self.values.rows, 1);
        self.values.rows.push(ValueRow::new(layout, home));
        ValueId::at(self.values.rows.len() - 1)
    }

    /// Adds a task to the current group: reads `inputs`, writes `outputs`.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no group yet, an input has neither producer nor window of the caller or is viewed beyond its
    /// extents, an output has a producer already or is the caller's, an update's old value is not like the new one, or the tables are full.
    pub fn task(&mut self, kernel: KernelId, params: &[u8], inputs: &[Operand], outputs: &[Operand]) -> Result<TaskId> {
        if let Err(what) = self.check_task(kernel, inputs, outputs).and_then(|()| self.claim(outputs)) {
            let wanted = "add tasks in an order in which they can run, each with outputs of its own";
            let error = Error::argument("task graph", what, wanted);
            self.wrong.get_or_insert_with(|| error.clone()); // what there is of the graph is not whole
            return Err(error);
        }
        let rows = self.operands.reads.len().max(self.operands.writes.len()).max(self.values.rows.len()).max(self.tasks.len());
        let fits = u32::try_from(rows + inputs.len() + outputs.len()).is_ok_and(|rows| rows < NONE);
        let Some((at, bytes)) = self.params.add(params).filter(|_| fits) else {
            let error = Error::argument(
                "task graph",
                format!("{} tasks with {} B of parameters", self.tasks.len(), self.params.table_bytes()),
                "fewer tasks, or smaller parameters: the graph's tables are full",
            );
            self.wrong.get_or_insert_with(|| error.clone());
            return Err(error);
        };
        let id = TaskId::at(self.tasks.len());
        let (reads, writes) = (self.operands.reads.len() as u32, self.operands.writes.len() as u32);
        let read = |operand: &Operand| Use { value: operand.value, access: operand.view.map_or(0, |view| view.0 + 1) };
        room(&mut self.operands.reads, inputs.len());
        self.operands.reads.extend(inputs.iter().map(read));
        let write = |operand: &Operand| Write { value: operand.value, old: operand.updates.map_or(NONE, |old| old.0) };
        room(&mut self.operands.writes, outputs.len());
        self.operands.writes.extend(outputs.iter().map(write));
        room(&mut self.tasks, 1);
        self.tasks.push(TaskRow { profile: kernel.0, reads, writes, params: at, params_bytes: bytes });
        Ok(id)
    }

    /// Whether a task has what it reads, and updates only what is like its outputs; else what is wrong.
    fn check_task(&self, kernel: KernelId, inputs: &[Operand], outputs: &[Operand]) -> Result<(), String> {
        self.check_ids(kernel, inputs, outputs)?;
        let ready = |v: ValueId| {
            let row = &self.values.rows[v.index()];
            match row.home() {
                Home::Window { array, .. } if row.producer == NONE => !self.arrays[array.index()].result,
                _ => row.producer != NONE,
            }
        };
        let reads = || inputs.iter().map(|o| o.value).chain(outputs.iter().filter_map(|o| o.updates));
        if !reads().all(ready) {
            return Err("an input that nothing has written".into());
        }
        if !self.overwritten.is_empty() && reads().any(|v| self.overwritten.get(v.index()) == Some(&true)) {
            return Err("an input that an earlier task has overwritten in its window".into());
        }
        for (operand, view) in inputs.iter().filter_map(|o| Some((o, o.view?))) {
            let row = &self.values.rows[operand.value.index()];
            let seen = self.operands.views[view.index()].check(&self.values.layouts.rows[row.layout()].home.shape);
            if row.is_opaque() {
                return Err("a view of an opaque value".into());
            }
            seen.map_err(|error| error.to_string())?;
        }
        if outputs.iter().any(|o| o.view.is_some()) || inputs.iter().any(|o| o.updates.is_some()) {
            return Err("an output that is viewed, or an input that updates".into());
        }
        // An update may take over the bytes as they are.
        if !outputs.iter().all(|o| o.updates.is_none_or(|old| self.is_next_version(old, o.value))) {
            return Err("an update of a value of another shape, dtype or strides, or of an opaque one".into());
        }
        Ok(())
    }

    /// Whether a task names only what there is: ids of another graph may be larger.
    fn check_ids(&self, kernel: KernelId, inputs: &[Operand], outputs: &[Operand]) -> Result<(), String> {
        let (values, views) = (self.values.rows.len(), self.operands.views.len());
        let known = |o: &Operand| {
            let old = o.updates.is_none_or(|old| old.index() < values);
            old && o.value.index() < values && o.view.is_none_or(|view| view.index() < views)
        };
        match kernel.index() < self.kernels.all.len() && inputs.iter().chain(outputs).all(known) {
            true => Ok(()),
            false => Err("a kernel, a value or a view of another graph".into()),
        }
    }

    /// Makes the next task the producer of these outputs; else says what is wrong.
    fn claim(&mut self, outputs: &[Operand]) -> Result<(), String> {
        let id = self.tasks.len() as u32;
        for output in outputs {
            let row = &mut self.values.rows[output.value.index()];
            match row.home() {
                _ if row.producer != NONE => return Err("an output with two producers".into()),
                Home::Window { array, .. } if !self.arrays[array.index()].result => {
                    return Err("an output in a caller's array".into());
                }
                _ => row.producer = id,
            }
            let home = row.home();
            let same = |old: &ValueId| home != Home::Pool && self.values.rows[old.index()].home() == home;
            if let Some(old) = output.updates.filter(same) {
                self.overwritten.resize(self.overwritten.len().max(old.index() + 1), false);
                self.overwritten[old.index()] = true;
            }
        }
        if self.groups.len() == 0 { Err("task before any group".into()) } else { Ok(()) }
    }

    /// Adds a task with one written output, which reads all of its inputs.
    ///
    /// # Errors
    /// As [`GraphBuilder::task`].
    pub fn write(&mut self, kernel: KernelId, params: &[u8], inputs: &[ValueId], output: ValueId) -> Result<TaskId> {
        self.whole(kernel, params, inputs, Operand::of(output))
    }

    /// Adds a task with one output that starts as the old value `old`.
    ///
    /// # Errors
    /// As [`GraphBuilder::task`].
    pub fn update(
        &mut self,
        kernel: KernelId,
        params: &[u8],
        inputs: &[ValueId],
        old: ValueId,
        new: ValueId,
    ) -> Result<TaskId> {
        self.whole(kernel, params, inputs, Operand::update(old, new))
    }

    fn whole(&mut self, kernel: KernelId, params: &[u8], inputs: &[ValueId], output: Operand) -> Result<TaskId> {
        const FEW: usize = 8;
        let mut few = [Operand::of(ValueId(0)); FEW];
        if inputs.len() <= FEW {
            few.iter_mut().zip(inputs).for_each(|(operand, &value)| *operand = value.into());
            return self.task(kernel, params, &few[..inputs.len()], &[output]);
        }
        let all: Vec<Operand> = inputs.iter().map(|&value| value.into()).collect();
        self.task(kernel, params, &all, &[output])
    }

    /// Whether an update can make the one of the other: both are chunks of one shape, and in one place they lie alike.
    fn is_next_version(&self, old: ValueId, new: ValueId) -> bool {
        let rows = [old, new].map(|v| &self.values.rows[v.index()]);
        let layouts = rows.map(|row| &self.values.layouts.rows[row.layout()].home);
        let chunks = !rows[0].is_opaque() && !rows[1].is_opaque() && layouts[0].dtype == layouts[1].dtype;
        let elsewhere = rows[0].home() == Home::Pool || rows[0].home() != rows[1].home();
        chunks && layouts[0].shape == layouts[1].shape && (elsewhere || layouts[0].strides == layouts[1].strides)
    }

    /// Drops tasks none of whose outputs is a result or an input of a task that stays. O(operands).
    pub(super) fn cull(&mut self) {
        let (reads, writes) = (&self.operands.reads, &self.operands.writes);
        let end = |at: usize| {
            self.tasks.get(at + 1).map_or((reads.len(), writes.len()), |next| (next.reads as usize, next.writes as usize))
        };
        let mut needed = vec![false; self.values.rows.len()];
        let mut stays = vec![true; self.tasks.len()];
        for (task, row) in self.tasks.iter().enumerate().rev() {
            let (reads_end, writes_end) = end(task);
            let outputs = &writes[row.writes as usize..writes_end];
            let is_result = |v: ValueId| self.values.rows[v.index()].home() != Home::Pool;
            stays[task] = outputs.is_empty() || outputs.iter().any(|o| needed[o.value.index()] || is_result(o.value));
            if stays[task] {
                reads[row.reads as usize..reads_end].iter().for_each(|o| needed[o.value.index()] = true);
                outputs.iter().filter_map(Write::updates).for_each(|v| needed[v.index()] = true);
            }
        }
        if stays.iter().all(|&s| s) {
            return;
        }
        let ends: Vec<(usize, usize)> = (0..self.tasks.len()).map(end).collect();
        let (mut before, mut kept_reads, mut kept_writes) = (Vec::with_capacity(stays.len() + 1), 0, 0);
        let mut kept = 0u32;
        // What stays moves up, each row to where the ones before it end.
        for task in 0..stays.len() {
            before.push(kept);
            if !stays[task] {
                continue;
            }
            let row = self.tasks[task];
            let (reads, writes) = (row.reads as usize..ends[task].0, row.writes as usize..ends[task].1);
            let (reads_at, writes_at) = (kept_reads, kept_writes);
            (kept_reads, kept_writes) = (kept_reads + reads.len(), kept_writes + writes.len());
            self.operands.reads.copy_within(reads, reads_at);
            self.operands.writes.copy_within(writes, writes_at);
            self.tasks[kept as usize] = TaskRow { reads: reads_at as u32, writes: writes_at as u32, ..row };
            kept += 1;
        }
        before.push(kept);
        self.tasks.truncate(kept as usize);
        self.operands.reads.truncate(kept_reads);
        self.operands.writes.truncate(kept_writes);
        for value in self.values.rows.iter_mut().filter(|value| value.producer != NONE) {
            let producer = value.producer as usize;
            value.producer = if stays[producer] { before[producer] } else { NONE };
        }
        self.groups.rows.iter_mut().for_each(|group| group.start = before[group.start as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sums::Add;

    fn some() -> (GraphBuilder, KernelId) {
        let mut graph = GraphBuilder::new();
        let kernel = graph.kernel(Arc::new(Add));
        graph.group("some");
        (graph, kernel)
    }

    #[track_caller]
    fn refuses(graph: GraphBuilder, why: &str) {
        let error = graph.build().expect_err("refused").to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn ids_of_another_graph_are_refused() {
        let (far, value) = (KernelId(7), ValueId(9));
        for (kernel, input) in [
            (far, None),
            (KernelId(0), Some(Operand::of(value))),
            (KernelId(0), Some(Operand::viewed(ValueId(0), ViewId(3)))),
            (KernelId(0), Some(Operand::update(value, ValueId(0)))),
        ] {
            let (mut graph, add) = some();
            let (first, out) = (graph.value(DType::F64, &[4]), graph.value(DType::F64, &[4]));
            graph.write(add, &[], &[], first).unwrap();
            assert!(graph.task(kernel, &[], input.as_slice(), &[Operand::of(out)]).is_err());
            refuses(graph, "of another graph");
        }
    }

    #[test]
    fn nobody_writes_a_callers_array() {
        let (mut graph, kernel) = some();
        let array = graph.array(DType::F64, 4, false);
        let out = graph.window(array, 0, &Layout::contiguous(DType::F64, &[4]));
        assert!(graph.write(kernel, &[], &[], out).is_err());
        refuses(graph, "caller's array");
    }

    #[test]
    fn windows_are_of_their_arrays_dtype_and_inside() {
        for (dtype, offset, len) in [(DType::Bool, 0, 4), (DType::U8, 1, 4), (DType::U8, usize::MAX, 2)] {
            let (mut graph, _) = some();
            let array = graph.array(DType::U8, 4, false);
            graph.window(array, offset, &Layout::contiguous(dtype, &[len]));
            refuses(graph, "a window");
        }
        let (mut graph, _) = some();
        let array = graph.array(DType::U8, 4, false);
        graph.window(array, 3, &Layout { dtype: DType::U8, shape: vec![2], strides: vec![-1] });
        refuses(graph, "negative");
    }

    #[test]
    fn an_update_is_a_version_of_what_it_updates() {
        let (mut graph, kernel) = some();
        let (numbers, result) = (graph.value(DType::F64, &[4]), graph.array(DType::I32, 8, true));
        let every = |stride| Layout { dtype: DType::I32, shape: vec![3], strides: vec![stride] };
        let (old, rust) = (graph.window(result, 0, &every(1)), graph.opaque(8));
        for value in [numbers, old, rust] {
            graph.write(kernel, &[], &[], value).unwrap();
        }
        let (bools, short) = (graph.value(DType::Bool, &[32]), graph.value(DType::F64, &[3]));
        let (wide, more_rust, byte) = (graph.window(result, 0, &every(2)), graph.opaque(8), graph.value(DType::U8, &[]));
        for (old, new) in [(numbers, bools), (numbers, short), (old, wide), (rust, more_rust), (rust, byte)] {
            assert!(graph.update(kernel, &[], &[], old, new).is_err(), "{old} {new}");
        }
        refuses(graph, "update");
    }

    #[test]
    fn what_is_overwritten_in_its_window_is_read_no_more() {
        let versions = || {
            let (mut graph, kernel) = some();
            let result = graph.array(DType::F64, 4, true);
            let [old, new, newer] = [(); 3].map(|()| graph.window(result, 0, &Layout::contiguous(DType::F64, &[4])));
            graph.write(kernel, &[], &[], old).unwrap();
            graph.update(kernel, &[], &[], old, new).unwrap();
            (graph, kernel, [old, new, newer])
        };
        let (mut graph, kernel, [old, new, newer]) = versions();
        graph.update(kernel, &[], &[], new, newer).unwrap();
        assert!(graph.update(kernel, &[], &[], old, newer).is_err(), "two last versions of one window");
        refuses(graph, "overwritten");
        let (mut graph, kernel, [old, new, _]) = versions();
        let out = graph.value(DType::F64, &[4]);
        assert!(graph.write(kernel, &[], &[old, new], out).is_err(), "it can run neither before nor after the update");
        refuses(graph, "overwritten");
    }

    #[test]
    fn a_task_that_was_refused_leaves_no_graph_behind() {
        let (mut graph, kernel) = some();
        let (a, b) = (graph.value(DType::F64, &[4]), graph.value(DType::F64, &[4]));
        graph.write(kernel, &[], &[], a).unwrap();
        // `b` has a producer now that is no task.
        let write = Operand::of;
        assert!(graph.task(kernel, &[], &[], &[write(b), write(a)]).is_err());
        assert!(graph.write(kernel, &[], &[b], a).is_err());
        refuses(graph, "two producers");
    }

    #[test]
    fn values_too_large_to_count_are_refused() {
        let (mut graph, _) = some();
        graph.value(DType::F64, &[1 << 40, 1 << 40]);
        refuses(graph, "2^59");
        // What wraps around to 8 bytes, and to none; sums that do.
        for len in [(1 << 61) + 1, 1 << 60, usize::MAX] {
            let (mut graph, _) = some();
            graph.array(DType::F64, len, false);
            refuses(graph, &format!("an array of {len} f64"));
        }
        for (bytes, count) in [(u64::MAX, 1), ((1 << 63) + 1, 1), (1 << 61, 3)] {
            let (mut graph, kernel) = some();
            for _ in 0..count {
                let value = graph.opaque(bytes);
                graph.write(kernel, &[], &[], value).unwrap();
            }
            refuses(graph, &format!("an opaque value of {bytes} B"));
        }
        let (mut graph, _) = some();
        (0..8).for_each(|_| _ = graph.value(DType::F64, &[1 << 58]));
        refuses(graph, "a value of shape [288230376151711744]");
    }
}
