//! Making a task graph.
//!
//! Owns: [`GraphBuilder`]. Must not know: who runs the graph. Invariant: what it accepts can run in the order in which it was
//! added.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Group, Home, HostArray, NONE, Operand, TaskGraph, TaskRow, ValueRow};
use crate::error::{Error, Result};
use crate::id::{ArrayId, GroupId, KernelId, TaskId, ValueId};
use crate::kernel::Kernel;
use crate::shape::{DType, Layout};

/// Builds a [`TaskGraph`] in sequential order.
#[derive(Default)]
pub struct GraphBuilder {
    kernels: Vec<Arc<dyn Kernel>>,
    /// The kernels' numbers, by address.
    known: BTreeMap<usize, KernelId>,
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
        let next = KernelId::at(self.kernels.len());
        let id = *self.known.entry(Arc::as_ptr(&kernel).cast::<()>() as usize).or_insert(next);
        if id == next {
            self.kernels.push(kernel);
        }
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
        self.arrays.push(array);
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
        let rows = self.operands.len().max(self.dims.len()).max(self.params.len() + params.len());
        if u32::try_from(rows.max(self.values.len())).is_err() {
            return Err(Error::argument(
                "task graph",
                format!("{} tasks", self.tasks.len()),
                "fewer tasks: its tables are full",
            ));
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

    /// The finished graph: without the tasks whose outputs nobody needs.
    #[must_use]
    pub fn build(self) -> TaskGraph {
        let mut this = self;
        this.cull();
        this.tasks.shrink_to_fit();
        this.operands.shrink_to_fit();
        this.values.shrink_to_fit();
        this.dims.shrink_to_fit();
        this.params.shrink_to_fit();
        this.groups.shrink_to_fit();
        let mut graph = TaskGraph {
            kernels: this.kernels,
            groups: this.groups,
            arrays: this.arrays,
            tasks: this.tasks,
            operands: this.operands,
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
        };
        graph.connect();
        graph
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
