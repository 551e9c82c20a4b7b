//! The task graph: flat tables, built once, then read only.
//!
//! Owns: [`TaskGraph`] and its [`GraphBuilder`]. Must not know: devices, time, who runs it. Invariant: tasks are in an order in which they can
//! run one after the other (each reads only values of earlier tasks or of the caller), and each value has at most one producer.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::{ArrayId, GroupId, KernelId, TaskId, ValueId};
use crate::kernel::{Form, Kernel};
use crate::shape::{DType, Layout};

/// Where in host memory a value lives, if that is fixed beforehand: a window of a caller's or a result array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In a pooled buffer, wherever the scheduler puts it.
    Pool,
    /// In this array, from this element on, with the value's strides.
    Window {
        /// The array.
        array: ArrayId,
        /// Offset of the first element.
        offset: usize,
    },
}

/// Use of a value by a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// The value read, or written.
    pub value: ValueId,
    /// For a written value that starts as an old one (an Update): the old value, which the runtime donates or copies in.
    pub updates: Option<ValueId>,
}

/// A whole array in host memory: the caller's, or a result to be returned.
#[derive(Clone, Debug)]
pub struct HostArray {
    /// Element type.
    pub dtype: DType,
    /// Number of elements.
    pub len: usize,
    /// Whether it is a result (allocated at submission) or the caller's (there before).
    pub result: bool,
}

impl HostArray {
    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.len * self.dtype.bytes()) as u64
    }
}

#[derive(Clone, Copy, Debug)]
struct ValueRow {
    dims: u32,
    rank: u8,
    dtype: DType,
    opaque: bool,
    home: Home,
    producer: u32,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct TaskRow {
    kernel: KernelId,
    group: GroupId,
    inputs: u32,
    outputs: u32,
    end: u32,
    params: u32,
    params_end: u32,
}

const NONE: u32 = u32::MAX;

/// One array operation over a chunk grid: a range of tasks.
#[derive(Clone, Debug)]
pub struct Group {
    /// What it is called in `explain()` and traces, for example `gemv 1000x1000`.
    pub label: String,
    /// Its tasks.
    pub tasks: Range<u32>,
}

/// A graph of chunk tasks. See the module's text.
pub struct TaskGraph {
    kernels: Vec<Arc<dyn Kernel>>,
    groups: Vec<Group>,
    arrays: Vec<HostArray>,
    tasks: Vec<TaskRow>,
    operands: Vec<Operand>,
    values: Vec<ValueRow>,
    dims: Vec<usize>,
    params: Vec<u8>,
    successors: Vec<TaskId>,
    successor_starts: Vec<u32>,
    predecessor_counts: Vec<u32>,
    uses: Vec<u32>,
    windows: Vec<u32>,
    window_count: usize,
    updated: Vec<bool>,
}

impl TaskGraph {
    /// Number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }
    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
    /// All task ids, in sequential order.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = TaskId> + ExactSizeIterator + use<> {
        (0..self.tasks.len()).map(TaskId::at)
    }
    /// Number of values.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.len()
    }
    /// The groups.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
    /// The host arrays.
    #[must_use]
    pub fn arrays(&self) -> &[HostArray] {
        &self.arrays
    }
    /// The interned kernels.
    #[must_use]
    pub fn kernels(&self) -> &[Arc<dyn Kernel>] {
        &self.kernels
    }
    /// The kernel of a task, as an index into [`TaskGraph::kernels`].
    #[must_use]
    pub fn kernel_id(&self, task: TaskId) -> KernelId {
        self.tasks[task.index()].kernel
    }
    /// The kernel of a task.
    #[must_use]
    pub fn kernel(&self, task: TaskId) -> &Arc<dyn Kernel> {
        &self.kernels[self.kernel_id(task).index()]
    }
    /// The group of a task.
    #[must_use]
    pub fn group(&self, task: TaskId) -> GroupId {
        self.tasks[task.index()].group
    }
    /// The parameter bytes of a task.
    #[must_use]
    pub fn params(&self, task: TaskId) -> &[u8] {
        let row = &self.tasks[task.index()];
        &self.params[row.params as usize..row.params_end as usize]
    }
    /// Values that a task reads.
    #[must_use]
    pub fn inputs(&self, task: TaskId) -> &[Operand] {
        let row = &self.tasks[task.index()];
        &self.operands[row.inputs as usize..row.outputs as usize]
    }
    /// Values that a task writes.
    #[must_use]
    pub fn outputs(&self, task: TaskId) -> &[Operand] {
        let row = &self.tasks[task.index()];
        &self.operands[row.outputs as usize..row.end as usize]
    }
    /// Every value whose content a task needs: its inputs, and the old values of its updates.
    pub fn reads(&self, task: TaskId) -> impl Iterator<Item = ValueId> + '_ {
        self.inputs(task).iter().map(|o| o.value).chain(self.outputs(task).iter().filter_map(|o| o.updates))
    }
    /// The form in which a task takes its input number `index`.
    #[must_use]
    pub fn input_form(&self, task: TaskId, index: usize) -> Form {
        self.kernel(task).input_form(self.params(task), index)
    }
    /// Tasks that read what this one writes.
    #[must_use]
    pub fn successors(&self, task: TaskId) -> &[TaskId] {
        let range = self.successor_starts[task.index()] as usize..self.successor_starts[task.index() + 1] as usize;
        &self.successors[range]
    }
    /// Number of edges that end in a task.
    #[must_use]
    pub fn predecessor_count(&self, task: TaskId) -> u32 {
        self.predecessor_counts[task.index()]
    }
    /// The task that writes a value; `None` for the caller's data.
    #[must_use]
    pub fn producer(&self, value: ValueId) -> Option<TaskId> {
        let producer = self.values[value.index()].producer;
        (producer != NONE).then_some(TaskId(producer))
    }
    /// Number of tasks that need a value.
    #[must_use]
    pub fn use_count(&self, value: ValueId) -> u32 {
        self.uses[value.index()]
    }
    /// Where a value lives.
    #[must_use]
    pub fn home(&self, value: ValueId) -> Home {
        self.values[value.index()].home
    }
    /// Whether a value is part of a result array.
    #[must_use]
    pub fn is_result(&self, value: ValueId) -> bool {
        matches!(self.home(value), Home::Window { array, .. } if self.arrays[array.index()].result)
    }
    /// Whether a value is part of a result array, and the last of its versions.
    #[must_use]
    pub fn is_final(&self, value: ValueId) -> bool {
        self.is_result(value) && !self.updated[value.index()]
    }
    /// The number of the result window that a value lives in; versions of one chunk share it.
    #[must_use]
    pub fn window_id(&self, value: ValueId) -> Option<usize> {
        let id = self.windows[value.index()];
        (id != NONE).then_some(id as usize)
    }
    /// Number of result windows.
    #[must_use]
    pub fn window_count(&self) -> usize {
        self.window_count
    }
    /// Whether a value is a Rust value instead of an array chunk.
    #[must_use]
    pub fn is_opaque(&self, value: ValueId) -> bool {
        self.values[value.index()].opaque
    }
    /// Bytes of a value's elements.
    #[must_use]
    pub fn bytes(&self, value: ValueId) -> u64 {
        self.values[value.index()].bytes
    }
    /// Element type of a value.
    #[must_use]
    pub fn dtype(&self, value: ValueId) -> DType {
        self.values[value.index()].dtype
    }
    /// Extents of a value.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> &[usize] {
        let row = &self.values[value.index()];
        &self.dims[row.dims as usize..][..row.rank as usize]
    }
    /// Dtype, shape and strides of a value: those of its window, else C order.
    #[must_use]
    pub fn layout(&self, value: ValueId) -> Layout {
        let row = &self.values[value.index()];
        match row.home {
            Home::Pool => Layout::contiguous(row.dtype, self.shape(value)),
            Home::Window { .. } => {
                let strides = &self.dims[row.dims as usize + row.rank as usize..][..row.rank as usize];
                Layout {
                    dtype: row.dtype,
                    shape: self.shape(value).to_vec(),
                    strides: strides.iter().map(|&s| s as isize).collect(),
                }
            }
        }
    }
    /// A task as people name it: kernel, and its place in its group.
    #[must_use]
    pub fn task_name(&self, task: TaskId) -> String {
        let group = &self.groups[self.group(task).index()];
        format!("{} #{} of {}", self.kernel(task).name(), task.0 - group.tasks.start, group.label)
    }
    /// Bytes of the tables, for planning-cost figures.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.tasks.len() * (size_of::<TaskRow>() + 8)
            + self.operands.len() * size_of::<Operand>()
            + self.values.len() * (size_of::<ValueRow>() + 4)
            + self.dims.len() * 8
            + self.params.len()
            + self.successors.len() * 4
    }
}

/// Builds a [`TaskGraph`] in sequential order.
#[derive(Default)]
pub struct GraphBuilder {
    kernels: Vec<Arc<dyn Kernel>>,
    groups: Vec<Group>,
    arrays: Vec<HostArray>,
    tasks: Vec<TaskRow>,
    operands: Vec<Operand>,
    values: Vec<ValueRow>,
    dims: Vec<usize>,
    params: Vec<u8>,
}

impl GraphBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Interns a kernel. Adding the same `Arc` again gives the same id.
    pub fn kernel(&mut self, kernel: Arc<dyn Kernel>) -> KernelId {
        let same = |k: &Arc<dyn Kernel>| Arc::ptr_eq(k, &kernel);
        KernelId::at(self.kernels.iter().position(same).unwrap_or_else(|| {
            self.kernels.push(kernel);
            self.kernels.len() - 1
        }))
    }

    /// Starts a group; tasks added from now on belong to it.
    pub fn group(&mut self, label: impl Into<String>) -> GroupId {
        let at = self.tasks.len() as u32;
        self.groups.push(Group { label: label.into(), tasks: at..at });
        GroupId::at(self.groups.len() - 1)
    }

    /// Declares a host array: the caller's, or (`result`) one that the run returns.
    pub fn array(&mut self, dtype: DType, len: usize, result: bool) -> ArrayId {
        self.arrays.push(HostArray { dtype, len, result });
        ArrayId::at(self.arrays.len() - 1)
    }

    /// A value in a pooled buffer.
    pub fn value(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let dims = self.dims.len();
        self.dims.extend_from_slice(shape);
        self.push_value(dtype, shape, dims, Home::Pool)
    }

    /// A value that lives in a window of a host array.
    pub fn window(&mut self, array: ArrayId, offset: usize, layout: &Layout) -> ValueId {
        let dims = self.dims.len();
        self.dims.extend_from_slice(&layout.shape);
        self.dims.extend(layout.strides.iter().map(|&s| s as usize));
        self.push_value(layout.dtype, &layout.shape, dims, Home::Window { array, offset })
    }

    /// An opaque value, expected to hold about `bytes`.
    pub fn opaque(&mut self, bytes: u64) -> ValueId {
        let value = self.value(DType::U8, &[]);
        let row = &mut self.values[value.index()];
        (row.opaque, row.bytes) = (true, bytes);
        value
    }

    fn push_value(&mut self, dtype: DType, shape: &[usize], dims: usize, home: Home) -> ValueId {
        let bytes = (shape.iter().product::<usize>() * dtype.bytes()) as u64;
        let row = ValueRow { dims: dims as u32, rank: shape.len() as u8, dtype, opaque: false, home, producer: NONE, bytes };
        self.values.push(row);
        ValueId::at(self.values.len() - 1)
    }

    /// Adds a task to the current group: reads `inputs`, writes `outputs`.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no group yet, an input has neither producer nor window of the caller, or an output has
    /// a producer already.
    pub fn task(&mut self, kernel: KernelId, params: &[u8], inputs: &[ValueId], outputs: &[Operand]) -> Result<TaskId> {
        let bad =
            |what: &str| Err(Error::argument("task graph", what.to_owned(), "add tasks in an order in which they can run"));
        let Some(group) = self.groups.last_mut() else { return bad("task before any group") };
        let id = TaskId::at(self.tasks.len());
        let ready = |v: ValueId, values: &[ValueRow], arrays: &[HostArray]| match values[v.index()] {
            ValueRow { producer: NONE, home: Home::Window { array, .. }, .. } => !arrays[array.index()].result,
            ValueRow { producer, .. } => producer != NONE,
        };
        let reads = inputs.iter().copied().chain(outputs.iter().filter_map(|o| o.updates));
        if !{ reads }.all(|v| ready(v, &self.values, &self.arrays)) {
            return bad("an input that nothing has written");
        }
        for output in outputs {
            let row = &mut self.values[output.value.index()];
            if row.producer != NONE {
                return bad("an output with two producers");
            }
            row.producer = id.0;
        }
        let start = self.operands.len() as u32;
        self.operands.extend(inputs.iter().map(|&value| Operand { value, updates: None }));
        let middle = self.operands.len() as u32;
        self.operands.extend_from_slice(outputs);
        let params_start = self.params.len() as u32;
        self.params.extend_from_slice(params);
        group.tasks.end = id.0 + 1;
        self.tasks.push(TaskRow {
            kernel,
            group: GroupId::at(self.groups.len() - 1),
            inputs: start,
            outputs: middle,
            end: self.operands.len() as u32,
            params: params_start,
            params_end: self.params.len() as u32,
        });
        Ok(id)
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

    /// The finished graph.
    #[must_use]
    pub fn build(self) -> TaskGraph {
        let mut graph = TaskGraph {
            kernels: self.kernels,
            groups: self.groups,
            arrays: self.arrays,
            tasks: self.tasks,
            operands: self.operands,
            values: self.values,
            dims: self.dims,
            params: self.params,
            successors: Vec::new(),
            successor_starts: Vec::new(),
            predecessor_counts: Vec::new(),
            uses: Vec::new(),
            windows: Vec::new(),
            window_count: 0,
            updated: Vec::new(),
        };
        graph.connect();
        graph
    }
}

impl TaskGraph {
    /// Fills what follows from the operands: use counts, result windows, CSR edges.
    fn connect(&mut self) {
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
