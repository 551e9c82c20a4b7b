//! Making a task graph.
//!
//! Owns: [`GraphBuilder`]. Must not know: who runs the graph. Invariant: what it accepts can run in the order in which it was
//! added, and no task writes what another one has, or the caller.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::{Group, Home, HostArray, NONE, Operand, TaskGraph, TaskRow, ValueRow};
use crate::error::{Error, Result};
use crate::id::{ArrayId, GroupId, KernelId, TaskId, ValueId};
use crate::kernel::{Held, Kernel, KernelKey};
use crate::shape::{DType, Layout, checked_len};

/// Bytes of all arrays and values of a graph together, at most: then whatever is added up of them, with what buffers waste, is
/// a `u64`.
pub(super) const MOST_BYTES: u64 = 1 << 62;
pub(super) const TOO_LARGE: &str = "less: all arrays and values of a graph together take 2^62 bytes at most";

/// Builds a [`TaskGraph`] in sequential order.
#[derive(Default)]
pub struct GraphBuilder {
    kernels: Vec<Arc<dyn Kernel>>,
    keys: Vec<KernelKey>,
    /// The kernels' numbers, by address and by key.
    by_address: HashMap<usize, KernelId>,
    by_key: HashMap<KernelKey, KernelId>,
    groups: Vec<Group>,
    arrays: Vec<HostArray>,
    tasks: Vec<TaskRow>,
    operands: Vec<Operand>,
    values: Vec<ValueRow>,
    dims: Vec<usize>,
    params: Vec<u8>,
    /// Values whose window a later version has taken: nobody may read them any more. Only as long as the last of them.
    overwritten: Vec<bool>,
    /// Of all arrays and values.
    bytes: u64,
    /// The first value that cannot be, for [`GraphBuilder::build`] to tell.
    wrong: Option<Error>,
}

impl GraphBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Interns a kernel: adding the same `Arc` again, or one of the same [`KernelKey`], gives the same id. Two that share a key but are of
    /// different types or contents are an error of [`GraphBuilder::build`]. O(1).
    pub fn kernel(&mut self, kernel: Arc<dyn Kernel>) -> KernelId {
        let address = Arc::as_ptr(&kernel).cast::<()>().addr();
        // Kernels without fields may share an address with others: those are told apart by their keys.
        let known = self.by_address.get(&address).filter(|id| Arc::ptr_eq(&self.kernels[id.index()], &kernel));
        if let Some(&id) = known {
            return id;
        }
        let key = KernelKey::new(&*kernel, self.kernels.len());
        if let Some(&id) = self.by_key.get(&key) {
            let other = &*self.kernels[id.index()];
            if (other as &dyn Any).type_id() != (&*kernel as &dyn Any).type_id() || other.content() != kernel.content() {
                let wanted = "a name, version or content of its own for each (Kernel::name, Kernel::content)";
                self.is_wrong("kernels", format!("two that are both {key} and are not the same"), wanted);
            }
            return id;
        }
        let id = KernelId::at(self.kernels.len());
        self.kernels.push(kernel);
        self.by_address.insert(address, id);
        self.by_key.insert(key.clone(), id);
        self.keys.push(key);
        id
    }

    /// Starts a group, or goes on with the last one if it has that label; tasks added from now on belong to it.
    pub fn group(&mut self, label: impl Into<String>) -> GroupId {
        let (at, label) = (self.tasks.len() as u32, label.into());
        if self.groups.last().is_some_and(|last| last.label == label) {
            return GroupId::at(self.groups.len() - 1);
        }
        // Operations that take turns are few.
        let before = self.groups.iter().rev().take(8).find(|g| g.label == label);
        let first = before.map_or(0, |g| g.first + (g.tasks.end - g.tasks.start));
        self.groups.push(Group { label, tasks: at..at, first });
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

    fn push_array(&mut self, array: HostArray) -> ArrayId {
        let HostArray { dtype, len, .. } = array;
        self.count((len as u64).checked_mul(dtype.bytes() as u64), || format!("an array of {len} {dtype}"));
        self.arrays.push(array);
        ArrayId::at(self.arrays.len() - 1)
    }

    /// A value in a pooled buffer.
    pub fn value(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let dims = self.dims.len();
        self.dims.extend_from_slice(shape);
        self.push_value(dtype, shape, dims, Home::Pool)
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
        let dims = self.dims.len();
        self.dims.extend_from_slice(&layout.shape);
        self.dims.extend(layout.strides.iter().map(|&s| s as usize));
        self.push_value(layout.dtype, &layout.shape, dims, Home::Window { array, offset })
    }

    /// An opaque value: any Rust value, of at most `bytes`. They count in the memory limit and in the proven peak from the start of the
    /// task that makes it to the end of the last that reads it; then it is dropped.
    pub fn opaque(&mut self, bytes: u64) -> ValueId {
        let value = self.value(DType::U8, &[]);
        self.count(Some(bytes), || format!("an opaque value of {bytes} B"));
        let row = &mut self.values[value.index()];
        (row.opaque, row.bytes) = (true, bytes);
        value
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

    fn push_value(&mut self, dtype: DType, shape: &[usize], dims: usize, home: Home) -> ValueId {
        let len = checked_len("a value", shape).ok().filter(|_| shape.len() <= usize::from(u8::MAX));
        if len.is_none() {
            self.is_wrong("a value", format!("shape {shape:?}"), "at most 255 axes, and fewer than 2^59 elements");
        }
        let bytes = len.unwrap_or(0) as u64 * dtype.bytes() as u64;
        self.count(Some(bytes), || format!("a value of shape {shape:?}"));
        let row = ValueRow { dims: dims as u32, rank: shape.len() as u8, dtype, opaque: false, home, producer: NONE, bytes };
        self.values.push(row);
        ValueId::at(self.values.len() - 1)
    }

    /// Adds a task to the current group: reads `inputs`, writes `outputs`.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no group yet, an input has neither producer nor window of the caller, an output has a producer
    /// already or is the caller's, or an update's old value is not like the new one.
    pub fn task(&mut self, kernel: KernelId, params: &[u8], inputs: &[ValueId], outputs: &[Operand]) -> Result<TaskId> {
        let added = self.check_task(inputs, outputs).and_then(|()| self.claim(outputs));
        let group = match added {
            Ok(group) => group,
            Err(what) => {
                let wanted = "add tasks in an order in which they can run, each with outputs of its own";
                let error = Error::argument("task graph", what, wanted);
                self.wrong.get_or_insert_with(|| error.clone()); // what there is of the graph is not whole
                return Err(error);
            }
        };
        let rows = self.operands.len().max(self.dims.len()).max(self.params.len() + params.len());
        if u32::try_from(rows.max(self.values.len())).is_err() {
            let count = format!("{} tasks", self.tasks.len());
            return Err(Error::argument("task graph", count, "fewer tasks: its tables are full"));
        }
        let id = TaskId::at(self.tasks.len());
        let start = self.operands.len() as u32;
        self.operands.extend(inputs.iter().map(|&value| Operand { value, updates: None }));
        let middle = self.operands.len() as u32;
        self.operands.extend_from_slice(outputs);
        let params_start = self.params.len() as u32;
        self.params.extend_from_slice(params);
        self.groups[group.index()].tasks.end = id.0 + 1;
        self.tasks.push(TaskRow {
            kernel,
            group,
            inputs: start,
            outputs: middle,
            end: self.operands.len() as u32,
            params: params_start,
            params_end: self.params.len() as u32,
        });
        Ok(id)
    }

    /// Whether a task has what it reads, and updates only what is like its outputs; else what is wrong.
    fn check_task(&self, inputs: &[ValueId], outputs: &[Operand]) -> Result<(), &'static str> {
        let ready = |v: ValueId| match self.values[v.index()] {
            ValueRow { producer: NONE, home: Home::Window { array, .. }, .. } => !self.arrays[array.index()].result,
            ValueRow { producer, .. } => producer != NONE,
        };
        let reads = || inputs.iter().copied().chain(outputs.iter().filter_map(|o| o.updates));
        if !reads().all(ready) {
            return Err("an input that nothing has written");
        }
        if !self.overwritten.is_empty() && reads().any(|v| self.overwritten.get(v.index()) == Some(&true)) {
            return Err("an input that an earlier task has overwritten in its window");
        }
        // An update may take over the bytes as they are.
        if !outputs.iter().all(|o| o.updates.is_none_or(|old| self.is_next_version(old, o.value))) {
            return Err("an update of a value of another shape, dtype or strides, or of an opaque one");
        }
        Ok(())
    }

    /// Makes the next task the producer of these outputs, and says its group; else what is wrong.
    fn claim(&mut self, outputs: &[Operand]) -> Result<GroupId, &'static str> {
        let id = self.tasks.len() as u32;
        for output in outputs {
            let row = &mut self.values[output.value.index()];
            match row.home {
                _ if row.producer != NONE => return Err("an output with two producers"),
                Home::Window { array, .. } if !self.arrays[array.index()].result => {
                    return Err("an output in a caller's array");
                }
                _ => row.producer = id,
            }
            let home = row.home;
            let same = |old: &ValueId| home != Home::Pool && self.values[old.index()].home == home;
            if let Some(old) = output.updates.filter(same) {
                self.overwritten.resize(self.overwritten.len().max(old.index() + 1), false);
                self.overwritten[old.index()] = true;
            }
        }
        self.groups.len().checked_sub(1).map(GroupId::at).ok_or("task before any group")
    }

    /// Adds a task with one written output.
    ///
    /// # Errors
    /// As [`GraphBuilder::task`].
    pub fn write(&mut self, kernel: KernelId, params: &[u8], inputs: &[ValueId], output: ValueId) -> Result<TaskId> {
        self.task(kernel, params, inputs, &[Operand { value: output, updates: None }])
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
        self.task(kernel, params, inputs, &[Operand { value: new, updates: Some(old) }])
    }

    /// Whether an update can make the one of the other: both are chunks of one shape, and in one place they lie alike.
    fn is_next_version(&self, old: ValueId, new: ValueId) -> bool {
        let rows = [old, new].map(|v| &self.values[v.index()]);
        let alike = |row: &ValueRow, len: usize| &self.dims[row.dims as usize..][..len * usize::from(row.rank)];
        let same = |len: usize| alike(rows[0], len) == alike(rows[1], len);
        let chunks = !rows[0].opaque && !rows[1].opaque && rows[0].dtype == rows[1].dtype && rows[0].rank == rows[1].rank;
        chunks && same(1) && (rows[0].home == Home::Pool || rows[0].home != rows[1].home || same(2))
    }

    /// The finished graph: without the tasks whose outputs nobody needs.
    ///
    /// # Errors
    /// [`Error::Argument`] if arrays, values and packed forms are too large to be added up, a window leaves its array or is of another dtype, or two windows of a result share
    /// an element (but for versions of one chunk, each an update of the one before).
    pub fn build(self) -> Result<TaskGraph> {
        let mut this = self;
        if let Some(error) = this.wrong.take() {
            return Err(error);
        }
        this.cull();
        this.tasks.shrink_to_fit();
        this.operands.shrink_to_fit();
        this.values.shrink_to_fit();
        this.dims.shrink_to_fit();
        this.params.shrink_to_fit();
        this.groups.shrink_to_fit();
        let mut graph = TaskGraph {
            keys: this.keys,
            held: held(&this.kernels),
            kernels: this.kernels,
            groups: this.groups,
            arrays: this.arrays,
            tasks: this.tasks,
            operands: this.operands,
            forms: Vec::new(),
            packs: Vec::new(),
            scratch_bytes: 0,
            values: this.values,
            dims: this.dims,
            params: this.params,
            successors: Vec::new(),
            successor_starts: Vec::new(),
            predecessor_counts: Vec::new(),
            uses: Vec::new(),
            windows: Vec::new(),
            window_count: 0,
            updated: Vec::new(),
            peak: OnceLock::new(),
        };
        graph.connect(this.bytes)?;
        graph.check_windows()?;
        Ok(graph)
    }

    /// Drops tasks none of whose outputs is a result or an input of a task that stays. O(operands).
    fn cull(&mut self) {
        let mut needed = vec![false; self.values.len()];
        let mut stays = vec![true; self.tasks.len()];
        for (task, row) in self.tasks.iter().enumerate().rev() {
            let outputs = &self.operands[row.outputs as usize..row.end as usize];
            let is_result = |v: ValueId| matches!(self.values[v.index()].home, Home::Window { .. });
            stays[task] = outputs.is_empty() || outputs.iter().any(|o| needed[o.value.index()] || is_result(o.value));
            if stays[task] {
                let inputs = &self.operands[row.inputs as usize..row.outputs as usize];
                inputs.iter().for_each(|o| needed[o.value.index()] = true);
                outputs.iter().filter_map(|o| o.updates).for_each(|v| needed[v.index()] = true);
            }
        }
        if stays.iter().all(|&s| s) {
            return;
        }
        // New numbers: how many stay before each task.
        let before: Vec<u32> = std::iter::once(0)
            .chain(stays.iter().scan(0, |n, &s| {
                *n += u32::from(s);
                Some(*n)
            }))
            .collect();
        for value in &mut self.values {
            if value.producer != NONE {
                let gone = !stays[value.producer as usize];
                value.producer = if gone { NONE } else { before[value.producer as usize] };
            }
        }
        for group in &mut self.groups {
            group.tasks = before[group.tasks.start as usize]..before[group.tasks.end as usize];
        }
        let mut stays = stays.into_iter();
        self.tasks.retain(|_| stays.next() == Some(true));
    }
}

/// What these kernels hold, each thing once: two kernels may read one file.
fn held(kernels: &[Arc<dyn Kernel>]) -> Vec<Held> {
    let mut all: Vec<Held> = Vec::new();
    for held in kernels.iter().flat_map(|kernel| kernel.held()) {
        if !all.iter().any(|other| other.what == held.what) {
            all.push(held);
        }
    }
    all
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
        let error = graph.build().err().expect("refused").to_string();
        assert!(error.contains(why), "{error}");
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
        let write = |value| Operand { value, updates: None };
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
