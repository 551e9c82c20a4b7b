//! The task graph: flat tables, built once, then read only.
//!
//! Owns: [`TaskGraph`] and its [`GraphBuilder`]. Must not know: devices, time, who runs it. Invariant: tasks are in an order in which they can
//! run one after the other (each reads only values of earlier tasks or of the caller), each value has at most one producer, and no two of them share memory
//! of a result.

mod builder;
mod connect;
mod windows;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::id::{ArrayId, GroupId, KernelId, TaskId, ValueId};
use crate::kernel::{Held, Kernel, KernelKey};
use crate::shape::Form;
use crate::shape::{ChunkMeta, DType, Layout};

pub use builder::GraphBuilder;

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
    /// For a caller's array that other graphs may read too: its number in this process, never used for another; 0 if it has none.
    pub source: u64,
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

/// A packed form: its number for the kernel, dtype and number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pack {
    form: u8,
    dtype: DType,
    len: usize,
}

const NONE: u32 = u32::MAX;

/// One array operation over a chunk grid: a range of tasks. An operation that is added piece by piece, between others, is
/// several groups of one label.
#[derive(Clone, Debug)]
pub struct Group {
    /// What it is called in `explain()` and traces, for example `gemv 1000x1000`.
    pub label: String,
    /// Its tasks.
    pub tasks: Range<u32>,
    /// How many tasks of that label came before.
    pub first: u32,
}

/// A graph of chunk tasks. See the module's text.
pub struct TaskGraph {
    kernels: Vec<Arc<dyn Kernel>>,
    keys: Vec<KernelKey>,
    held: Vec<Held>,
    groups: Vec<Group>,
    arrays: Vec<HostArray>,
    tasks: Vec<TaskRow>,
    operands: Vec<Operand>,
    /// Of each operand, 0 for plain, else 1 + the number of a packed form; empty if all are plain.
    forms: Vec<u16>,
    packs: Vec<Pack>,
    scratch_bytes: u64,
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
    peak: OnceLock<(u64, Option<TaskId>)>,
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
    /// Number of operands of all tasks.
    #[must_use]
    pub fn operand_count(&self) -> usize {
        self.operands.len()
    }
    /// Number of edges between tasks.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.successors.len()
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
    /// Host memory that its kernels take beside operands and scratch, each thing once.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.held
    }
    /// The bytes of [`TaskGraph::held`].
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held.iter().fold(0, |all, held| all.saturating_add(held.bytes))
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
    /// The name of a task's kernel.
    #[must_use]
    pub fn kernel_name(&self, task: TaskId) -> &str {
        self.keys[self.kernel_id(task).index()].name()
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
    /// The form in which a task takes its input number `index`, as its kernel said when the graph was built.
    #[must_use]
    pub fn input_form(&self, task: TaskId, index: usize) -> Form {
        self.pack(self.tasks[task.index()].inputs as usize + index).map_or(Form::Plain, |pack| Form::Packed(pack.form))
    }
    /// Dtype and number of elements of a value in the packed form in which a task takes it.
    ///
    /// # Panics
    /// If the task does not take the value in that form.
    #[must_use]
    pub fn packed_len(&self, task: TaskId, value: ValueId, form: u8) -> (DType, usize) {
        let row = &self.tasks[task.index()];
        let packs = (row.inputs..row.outputs).map(|at| at as usize).filter(|&at| self.operands[at].value == value);
        let found = packs.filter_map(|at| self.pack(at)).find(|pack| pack.form == form);
        found.map(|pack| (pack.dtype, pack.len)).expect("a form that the task takes")
    }
    fn pack(&self, operand: usize) -> Option<&Pack> {
        self.packs.get(usize::from(self.forms.get(operand)?.checked_sub(1)?))
    }
    /// Scratch of the neediest task, as its kernel said when the graph was built.
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
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
    /// What `prove` finds out of the graph's memory, which never changes: asked once.
    pub(crate) fn peak_by(&self, prove: impl FnOnce(&Self) -> (u64, Option<TaskId>)) -> (u64, Option<TaskId>) {
        *self.peak.get_or_init(|| prove(self))
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
    /// What a kernel is told of a value beforehand: dtype and extents, no data.
    pub(crate) fn meta(&self, value: ValueId) -> ChunkMeta<'_> {
        ChunkMeta { dtype: self.dtype(value), shape: self.shape(value), data: None }
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
        format!("{} #{} of {}", self.kernel_name(task), group.first + task.0 - group.tasks.start, group.label)
    }
    /// Bytes of the tables. What a kernel holds is its own.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.tasks.len() * (size_of::<TaskRow>() + 8)
            + self.operands.len() * size_of::<Operand>()
            + self.values.len() * (size_of::<ValueRow>() + 9)
            + self.dims.len() * 8
            + self.params.len()
            + self.successors.len() * 4
            + self.groups.iter().map(|group| size_of::<Group>() + group.label.len()).sum::<usize>()
            + self.kernels.len() * size_of::<Arc<dyn Kernel>>()
            + self.arrays.len() * size_of::<HostArray>()
    }
}
