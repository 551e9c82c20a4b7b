//! The task graph: flat tables, sealed once, then read only.
//!
//! Owns: [`TaskGraph`]. Must not know: devices, time, who runs it; it names kernels and has none. Invariant: tasks are in an order in which they can
//! run one after the other (each reads only values of earlier tasks or of the caller), each value has at most one producer, and no two of them share
//! memory of a result.

mod builder;
mod edges;
mod intern;
mod seal;
mod tables;
mod text;
mod windows;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::id::{ArrayId, FormId, GroupId, KernelId, ProfileId, TaskId, ValueId, ViewId};
use crate::kernel::{Held, KernelKey, Lane, Structure, Work};
use crate::shape::{ChunkMeta, DType, Form, Layout, View};

pub use builder::GraphBuilder;
pub use seal::SealedGraph;
use tables::{Edges, Groups, ParamBytes, TaskRow, Uses, Values};

const NONE: u32 = u32::MAX;

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
    /// What of it is read; `None` for all of it, as it is.
    pub view: Option<ViewId>,
    /// The form in which the task's kernel takes it: what the kernel said when the graph was sealed.
    pub form: Form,
    /// For a written value that starts as an old one (an Update): the old value, which the runtime donates or copies in.
    pub updates: Option<ValueId>,
}

impl Operand {
    /// All of a value, read, or written anew.
    #[must_use]
    pub fn of(value: ValueId) -> Self {
        Self { value, view: None, form: Form::Plain, updates: None }
    }

    /// What a view shows of a value, read.
    #[must_use]
    pub fn viewed(value: ValueId, view: ViewId) -> Self {
        Self { view: Some(view), ..Self::of(value) }
    }

    /// A written value that starts as `old`.
    #[must_use]
    pub fn update(old: ValueId, new: ValueId) -> Self {
        Self { updates: Some(old), ..Self::of(new) }
    }
}

impl From<ValueId> for Operand {
    fn from(value: ValueId) -> Self {
        Self::of(value)
    }
}

/// A whole array in host memory: the caller's, or a result to be returned.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// What a graph knows of a kernel.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KernelFacts {
    /// What it is known by.
    pub key: KernelKey,
    /// Which kind of device executes it.
    pub lane: Lane,
    /// Whether tasks of equal work take equal time.
    pub is_steady: bool,
    /// What its speed follows from beside its name.
    #[serde(default)]
    pub structure: Option<Structure>,
    /// Whether its GPU half reads what views show of a value where it lies.
    #[serde(default)]
    pub reads_views: bool,
}

/// What tasks that cost the same have in common.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Profile {
    /// Their kernel.
    pub kernel: KernelId,
    /// The dtype that their speed depends on: that of their first input, else of their first output.
    pub dtype: DType,
    /// What each does.
    pub work: Work,
}

/// One array operation over a chunk grid: a range of tasks. An operation that is added piece by piece, between others, is
/// several groups of one label.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What it is called in `explain()` and traces, for example `gemv 1000x1000`.
    pub label: &'a str,
    /// Its tasks.
    pub tasks: Range<u32>,
    /// How many tasks of that label came before.
    pub first: u32,
}

impl GraphBuilder {
    /// Where a value lives.
    pub(crate) fn home(&self, value: ValueId) -> Home {
        self.values.rows[value.index()].home()
    }

    /// Number of different views.
    pub(crate) fn view_count(&self) -> usize {
        self.operands.views.len()
    }

    /// The view of this id.
    pub(crate) fn view_of(&self, view: ViewId) -> &View {
        &self.operands.views[view.index()]
    }
}

/// What follows from a graph as a whole.
#[derive(Debug, Default)]
struct Facts {
    scratch_bytes: u64,
    held: Vec<Held>,
    peak: OnceLock<(u64, Option<TaskId>)>,
}

/// A graph of chunk tasks. See the module's text.
#[derive(Debug)]
pub struct TaskGraph {
    kernels: Vec<KernelFacts>,
    groups: Groups,
    arrays: Vec<HostArray>,
    /// One more than there are tasks: what a task has ends where that of the next begins.
    tasks: Vec<TaskRow>,
    operands: Uses,
    values: Values,
    params: ParamBytes,
    profiles: Vec<Profile>,
    edges: Edges,
    facts: Facts,
}

impl TaskGraph {
    /// Number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len() - 1
    }
    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All task ids, in sequential order.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = TaskId> + ExactSizeIterator + use<> {
        (0..self.len()).map(TaskId::at)
    }
    /// Number of operands of all tasks.
    #[must_use]
    pub fn operand_count(&self) -> usize {
        self.operands.reads.len() + self.operands.writes.len()
    }
    /// Number of edges between tasks.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.edges.successors.len()
    }
    /// Number of values.
    #[must_use]
    pub fn value_count(&self) -> usize {
        self.values.rows.len()
    }
    /// All value ids.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = ValueId> + ExactSizeIterator + use<> {
        (0..self.value_count()).map(ValueId::at)
    }
    /// The groups, in order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = Group<'_>> {
        (0..self.groups.len()).map(|at| self.groups.get(at, self.len() as u32))
    }
    /// The host arrays.
    #[must_use]
    pub fn arrays(&self) -> &[HostArray] {
        &self.arrays
    }
    /// The interned kernels.
    #[must_use]
    pub fn kernels(&self) -> &[KernelFacts] {
        &self.kernels
    }
    /// What tasks that cost the same have in common.
    #[must_use]
    pub fn profiles(&self) -> &[Profile] {
        &self.profiles
    }
    /// Host memory that its kernels take beside operands and scratch, each thing once.
    #[must_use]
    pub fn held(&self) -> &[Held] {
        &self.facts.held
    }
    /// The bytes of [`TaskGraph::held`].
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held().iter().fold(0, |all, held| all.saturating_add(held.bytes))
    }
    /// What a task has in common with those that cost the same.
    #[must_use]
    pub fn profile_id(&self, task: TaskId) -> ProfileId {
        ProfileId(self.tasks[task.index()].profile)
    }
    /// What a task has in common with those that cost the same.
    #[must_use]
    pub fn profile(&self, task: TaskId) -> &Profile {
        &self.profiles[self.profile_id(task).index()]
    }
    /// The kernel of a task, as an index into [`TaskGraph::kernels`].
    #[must_use]
    pub fn kernel_id(&self, task: TaskId) -> KernelId {
        self.profile(task).kernel
    }
    /// The name of a task's kernel.
    #[must_use]
    pub fn kernel_name(&self, task: TaskId) -> &str {
        self.kernels[self.kernel_id(task).index()].key.name()
    }
    /// The group of a task. O(log groups).
    #[must_use]
    pub fn group(&self, task: TaskId) -> GroupId {
        GroupId::at(self.groups.of(task.0))
    }
    /// The parameter bytes of a task.
    #[must_use]
    pub fn params(&self, task: TaskId) -> &[u8] {
        let row = &self.tasks[task.index()];
        self.params.get(row.params, row.params_bytes)
    }
    /// What a task reads.
    pub fn inputs(&self, task: TaskId) -> impl ExactSizeIterator<Item = Operand> + Clone + '_ {
        self.reads_of(task).iter().map(|read| {
            let access = &self.operands.accesses[read.access as usize];
            Operand { value: read.value, view: access.view, form: access.form, updates: None }
        })
    }
    /// What a task writes.
    pub fn outputs(&self, task: TaskId) -> impl ExactSizeIterator<Item = Operand> + Clone + '_ {
        self.writes_of(task).iter().map(|write| Operand { updates: write.updates(), ..Operand::of(write.value) })
    }
    fn reads_of(&self, task: TaskId) -> &[tables::Use] {
        let rows = &self.tasks[task.index()..task.index() + 2];
        &self.operands.reads[rows[0].reads as usize..rows[1].reads as usize]
    }
    fn writes_of(&self, task: TaskId) -> &[tables::Write] {
        let rows = &self.tasks[task.index()..task.index() + 2];
        &self.operands.writes[rows[0].writes as usize..rows[1].writes as usize]
    }
    /// Every value whose content a task needs: its inputs, and the old values of its updates.
    pub fn reads(&self, task: TaskId) -> impl Iterator<Item = ValueId> + Clone + '_ {
        let old = self.writes_of(task).iter().filter_map(tables::Write::updates);
        self.reads_of(task).iter().map(|read| read.value).chain(old)
    }
    /// What a task reads, each with the form in which it is there: on a device that takes views and packed forms, or (`contiguous`) on one that
    /// takes contiguous chunks only, unless the task's kernel reads views there. The old values of updates come last.
    pub fn residents(&self, task: TaskId, contiguous: bool) -> impl Iterator<Item = (ValueId, FormId)> + Clone + '_ {
        let contiguous = contiguous && !self.kernels[self.kernel_id(task).index()].reads_views;
        let old = self.writes_of(task).iter().filter_map(tables::Write::updates);
        let form = move |read: &tables::Use| (read.value, self.operands.form(read.access, contiguous));
        self.reads_of(task).iter().map(form).chain(old.map(|old| (old, PLAIN)))
    }
    /// How a form that is not [`PLAIN`] is made.
    #[must_use]
    pub fn form(&self, form: FormId) -> (Option<&Arc<View>>, Form) {
        let access = &self.operands.accesses[form.index()];
        (access.view.map(|view| &self.operands.views[view.index()]), access.form)
    }
    /// Dtype and extents of a value in a form that is not [`PLAIN`]: contiguous.
    #[must_use]
    pub fn form_layout(&self, form: FormId) -> &Arc<Layout> {
        &self.operands.accesses[form.index()].layout
    }
    /// The views that operands have, by id.
    #[must_use]
    pub fn views(&self) -> &[Arc<View>] {
        &self.operands.views
    }
    /// Bytes of a value in a form.
    #[must_use]
    pub fn form_bytes(&self, value: ValueId, form: FormId) -> u64 {
        if form == PLAIN { self.bytes(value) } else { self.form_layout(form).bytes() }
    }
    /// Scratch of the neediest task, as its kernel said when the graph was sealed.
    #[must_use]
    pub fn scratch_bytes(&self) -> u64 {
        self.facts.scratch_bytes
    }
    /// Tasks that read what this one writes.
    #[must_use]
    pub fn successors(&self, task: TaskId) -> &[TaskId] {
        self.edges.of(task)
    }
    /// Number of edges that end in a task.
    #[must_use]
    pub fn predecessor_count(&self, task: TaskId) -> u32 {
        self.edges.predecessors[task.index()]
    }
    /// The task that writes a value; `None` for the caller's data.
    #[must_use]
    pub fn producer(&self, value: ValueId) -> Option<TaskId> {
        let producer = self.values.rows[value.index()].producer;
        (producer != NONE).then_some(TaskId(producer))
    }
    /// Number of tasks that need a value.
    #[must_use]
    pub fn use_count(&self, value: ValueId) -> u32 {
        self.values.rows[value.index()].uses
    }
    /// Where a value lives.
    #[must_use]
    pub fn home(&self, value: ValueId) -> Home {
        self.values.rows[value.index()].home()
    }
    /// Whether a value is part of a result array.
    #[must_use]
    pub fn is_result(&self, value: ValueId) -> bool {
        matches!(self.home(value), Home::Window { array, .. } if self.arrays[array.index()].result)
    }
    /// Whether a value is part of a result array, and the last of its versions.
    #[must_use]
    pub fn is_final(&self, value: ValueId) -> bool {
        let row = &self.values.rows[value.index()];
        row.window != NONE && !row.is_updated() || self.is_result(value) && !row.is_updated()
    }
    /// The number of the result window that a value lives in; versions of one chunk share it.
    #[must_use]
    pub fn window_id(&self, value: ValueId) -> Option<usize> {
        let id = self.values.rows[value.index()].window;
        (id != NONE).then_some(id as usize)
    }
    /// Number of result windows.
    #[must_use]
    pub fn window_count(&self) -> usize {
        self.values.windows as usize
    }
    /// Whether a value is a Rust value instead of an array chunk.
    #[must_use]
    pub fn is_opaque(&self, value: ValueId) -> bool {
        self.values.rows[value.index()].is_opaque()
    }
    /// What `prove` finds out of the graph's memory, which never changes: asked once.
    pub(crate) fn peak_by(&self, prove: impl FnOnce(&Self) -> (u64, Option<TaskId>)) -> (u64, Option<TaskId>) {
        *self.facts.peak.get_or_init(|| prove(self))
    }
    /// Bytes of a value's elements.
    #[must_use]
    pub fn bytes(&self, value: ValueId) -> u64 {
        self.values.bytes(value)
    }
    /// Element type of a value.
    #[must_use]
    pub fn dtype(&self, value: ValueId) -> DType {
        self.layout(value).dtype
    }
    /// Extents of a value.
    #[must_use]
    pub fn shape(&self, value: ValueId) -> &[usize] {
        &self.layout(value).shape
    }
    /// Dtype, shape and strides of a value where it lives: those of its window, else C order.
    #[must_use]
    pub fn layout(&self, value: ValueId) -> &Arc<Layout> {
        &self.values.layouts.rows[self.values.rows[value.index()].layout()].home
    }
    /// Dtype, shape and strides of a value in a buffer: C order.
    #[must_use]
    pub fn pooled_layout(&self, value: ValueId) -> &Arc<Layout> {
        &self.values.layouts.rows[self.values.rows[value.index()].layout()].pooled
    }
    /// What a kernel is told beforehand of what it reads, in order: dtype and extents, no data; then of what it writes.
    pub(crate) fn metas(&self, task: TaskId) -> impl Iterator<Item = ChunkMeta<'_>> {
        let inputs = self.reads_of(task).iter().map(|read| {
            let view = self.operands.accesses[read.access as usize].view;
            let shape = view.map_or_else(|| self.shape(read.value), |view| &self.operands.view_shapes[view.index()]);
            ChunkMeta::new(self.dtype(read.value), shape)
        });
        inputs.chain(self.writes_of(task).iter().map(|write| {
            let layout = self.layout(write.value);
            ChunkMeta::new(layout.dtype, &layout.shape)
        }))
    }
    /// A task as people name it: kernel, and its place in its group.
    #[must_use]
    pub fn task_name(&self, task: TaskId) -> String {
        let group = self.groups.get(self.groups.of(task.0), self.len() as u32);
        format!("{} #{} of {}", self.kernel_name(task), group.first + task.0 - group.tasks.start, group.label)
    }
    /// Bytes of the tables.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.tasks.capacity() * size_of::<TaskRow>()
            + self.operands.table_bytes()
            + self.values.table_bytes()
            + self.params.table_bytes()
            + self.edges.table_bytes()
            + self.groups.table_bytes()
            + self.profiles.capacity() * size_of::<Profile>()
            + self.kernels.iter().map(|kernel| size_of::<KernelFacts>() + kernel.key.as_str().len()).sum::<usize>()
            + self.arrays.len() * size_of::<HostArray>()
    }
}

/// The plain form of a value: its elements, in its window or in C order in a buffer.
pub const PLAIN: FormId = FormId(0);
