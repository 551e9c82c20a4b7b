//! From lazy nodes to a task graph.
//!
//! Owns: [`Op`], [`Lowering`]. Must not know: any operation. Invariant: a node that several others use is lowered once per grid.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::Node;
use crate::device::HostBuffer;
use crate::error::{Error, Result};
use crate::id::{ArrayId, KernelId, ValueId};
use crate::kernel::Kernel;
use crate::runtime::Plan;
use crate::shape::{ChunkGrid, Layout, Region};
use crate::task::{ChunkSource, GraphBuilder};

/// Most tasks of one graph: beyond, planning itself would take minutes and gigabytes.
const MOST_TASKS: usize = 50_000_000;

/// One kind of node. An operation is one file in this folder that implements this.
pub(crate) trait Op: Send + Sync {
    /// Its name: `matvec`.
    fn name(&self) -> &'static str;

    /// The grid of its result where the user does not say.
    fn default_grid(&self, node: &Node) -> ChunkGrid;

    /// The same operation with the result cut by `grid`.
    fn regrid(&self, grid: &ChunkGrid) -> Result<Box<dyn Op>>;

    /// Number of chunk tasks for a result cut by its own grid, for the table that `Debug` prints; inputs not counted.
    fn task_count(&self, node: &Node) -> usize {
        node.grid().len()
    }

    /// Whether its chunks can be made by any grid (data that exist, generators).
    fn is_leaf(&self) -> bool {
        false
    }

    /// Whether [`Op::lower`] makes only the chunks of [`Lowering::numbers`] when asked: then no step needs the whole array.
    fn in_pieces(&self) -> bool {
        self.is_leaf()
    }

    /// Adds the tasks; one value for each chunk of `grid`, in C order, each made by [`Lowering::output`] for that `target`.
    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>>;

    /// The file that the node's data are in, if it is such a leaf: reductions read it as they sum.
    fn source(&self) -> Option<&Arc<dyn ChunkSource>> {
        None
    }

    /// Its inputs.
    fn inputs(&self) -> Vec<Arc<Node>> {
        Vec::new()
    }
}

/// Where a node's chunks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Pooled buffers.
    Pool,
    /// Windows of this result.
    Result(ArrayId),
}

/// A graph being made.
#[derive(Default)]
pub(crate) struct Lowering {
    pub(crate) graph: GraphBuilder,
    arrays: Vec<Option<Arc<HostBuffer>>>,
    done: BTreeMap<usize, Vec<(ChunkGrid, Vec<ValueId>)>>,
    tasks: usize,
    /// The chunks to be made now, if not all: see [`Lowering::piece`].
    part: Option<Range<usize>>,
    /// Chunks of operations that were made piece by piece, by node and number.
    pieces: BTreeMap<(usize, usize), ValueId>,
    /// Kernels of leaves that are made piece by piece, by node and grid.
    leaf_kernels: BTreeMap<usize, Vec<(ChunkGrid, KernelId)>>,
    /// Extent of chunks to use instead of automatic or chosen ones: to find one that fits memory.
    pub(crate) side: Option<usize>,
}

impl Lowering {
    /// A lowering that uses chunks of this extent.
    pub(crate) fn with_side(side: usize) -> Self {
        Self { side: Some(side), ..Self::default() }
    }

    /// Counts tasks before they are made.
    pub(crate) fn expect_tasks(&mut self, count: usize) -> Result<()> {
        self.tasks = self.tasks.saturating_add(count);
        if self.tasks > MOST_TASKS {
            return Err(Error::argument(
                "number of tasks",
                self.tasks,
                format!("choose larger chunks; at most {MOST_TASKS} tasks in one graph can be planned"),
            ));
        }
        Ok(())
    }

    /// Declares the caller's array of these bytes.
    pub(crate) fn caller(&mut self, layout: &Layout, bytes: Arc<HostBuffer>) -> ArrayId {
        let known = self.arrays.iter().position(|a| a.as_ref().is_some_and(|a| Arc::ptr_eq(a, &bytes)));
        known.map_or_else(
            || {
                let len = bytes.bytes() / layout.dtype.bytes();
                let source = bytes.source_id();
                self.arrays.push(Some(bytes));
                self.graph.source(layout.dtype, len, source)
            },
            ArrayId::at,
        )
    }

    /// The values of a node's chunks by `grid`, in pooled buffers (or the caller's memory).
    pub(crate) fn chunks(&mut self, node: &Arc<Node>, grid: &ChunkGrid) -> Result<Vec<ValueId>> {
        let key = Arc::as_ptr(node) as usize;
        if let Some((_, values)) = self.done.get(&key).and_then(|all| all.iter().find(|(g, _)| g == grid)) {
            return Ok(values.clone());
        }
        check_cuts(node, grid)?;
        let values = if node.op.in_pieces() && !node.op.is_leaf() {
            self.piece(node, grid, 0..grid.len())?
        } else {
            // A part that is being made is one of another node.
            let part = self.part.take();
            let values = node.op.lower(node, grid, Target::Pool, self);
            self.part = part;
            values?
        };
        self.done.entry(key).or_default().push((grid.clone(), values.clone()));
        Ok(values)
    }

    /// The values of a node's chunks `numbers`, and no others: so that they are made next to their use, and the sequential
    /// order of the tasks needs memory for few of them at once. A leaf's chunks are made for each use, others once.
    pub(crate) fn piece(&mut self, node: &Arc<Node>, grid: &ChunkGrid, numbers: Range<usize>) -> Result<Vec<ValueId>> {
        debug_assert!(node.op.in_pieces());
        if node.op.is_leaf() {
            return self.part(node, grid, numbers);
        }
        check_cuts(node, grid)?;
        let mut values = Vec::with_capacity(numbers.len());
        for number in numbers {
            let key = (Arc::as_ptr(node) as usize, number);
            if let Some(&known) = self.pieces.get(&key) {
                values.push(known);
                continue;
            }
            for value in self.part(node, grid, number..number + 1)? {
                self.pieces.insert(key, value);
                values.push(value);
            }
        }
        Ok(values)
    }

    fn part(&mut self, node: &Node, grid: &ChunkGrid, numbers: Range<usize>) -> Result<Vec<ValueId>> {
        let before = self.part.replace(numbers);
        let values = node.op.lower(node, grid, Target::Pool, self);
        self.part = before;
        values
    }

    /// The chunks that a node has to make now, of `all`.
    pub(crate) fn numbers(&self, all: usize) -> Range<usize> {
        self.part.clone().unwrap_or(0..all)
    }

    /// The kernel of a leaf: the same one for all its pieces.
    pub(crate) fn leaf_kernel(&mut self, node: &Node, grid: &ChunkGrid, make: impl FnOnce() -> Arc<dyn Kernel>) -> KernelId {
        let known = self.leaf_kernels.entry(std::ptr::from_ref(node) as usize).or_default();
        if let Some((_, kernel)) = known.iter().find(|(cut, _)| cut == grid) {
            return *kernel;
        }
        let kernel = self.graph.kernel(make());
        known.push((grid.clone(), kernel));
        kernel
    }

    /// The value for one chunk of a node's result.
    pub(crate) fn output(&mut self, node: &Node, region: &Region, target: Target) -> ValueId {
        match target {
            Target::Pool => self.graph.value(node.dtype, &region.shape()),
            Target::Result(array) => {
                let whole = Layout::contiguous(node.dtype, &node.shape);
                let (offset, layout) = window_of(&whole, region);
                self.graph.window(array, offset, &layout)
            }
        }
    }

    /// Lowers a node as the one to be returned, and gives the plan.
    pub(crate) fn finish(mut self, node: &Arc<Node>) -> Result<Plan> {
        let result = self.result(node.dtype, node.shape.iter().product());
        let grid = self.grid_of(node)?;
        node.op.lower(node, &grid, Target::Result(result), &mut self)?;
        self.plan()
    }

    /// The grid of the node to be returned: its own, unless a side is imposed.
    pub(crate) fn grid_of(&self, node: &Node) -> Result<ChunkGrid> {
        match self.side {
            Some(side) if !node.shape.is_empty() => ChunkGrid::regular(&node.shape, &vec![side; node.shape.len()]),
            _ => Ok(node.grid()),
        }
    }

    /// Declares a result.
    pub(crate) fn result(&mut self, dtype: crate::shape::DType, len: usize) -> ArrayId {
        self.arrays.push(None);
        self.graph.array(dtype, len, true)
    }

    /// The plan without a returned node: the tasks are those that were added.
    pub(crate) fn plan(self) -> Result<Plan> {
        Plan::new(self.graph.build()?, self.arrays)
    }
}

/// Only a leaf can be cut by a grid that is not its own.
fn check_cuts(node: &Node, grid: &ChunkGrid) -> Result<()> {
    let own = node.grid();
    if node.op.is_leaf() || own == *grid {
        return Ok(());
    }
    let wanted = format!("chunks {:?} of {}: call .chunks() on it so that the cuts agree", grid.largest(), node.op.name());
    Err(Error::Shape { op: "rechunk", found: own.largest(), wanted })
}

/// Offset (elements) and layout of a region of an array with this layout.
pub(crate) fn window_of(whole: &Layout, region: &Region) -> (usize, Layout) {
    let axes = region.axes().iter().zip(&whole.strides);
    let offset = axes.clone().map(|(a, &s)| a.start * s as usize).sum();
    let strides = axes.map(|(a, &s)| s * a.step as isize).collect();
    (offset, Layout { dtype: whole.dtype, shape: region.shape(), strides })
}
