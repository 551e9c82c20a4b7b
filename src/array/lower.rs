//! From lazy nodes to a task graph.
//!
//! Owns: [`Op`], [`Lowering`]. Must not know: any operation. Invariant: a node that several others use is lowered once per grid; no lowering of a
//! node calls that of another which is not a leaf, so that depth costs no stack; nothing is allocated that was not counted before.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::fit::bookkeeping;
use super::node::Node;
use crate::device::HostBuffer;
use crate::error::{Error, Remedy, Result};
use crate::id::{ArrayId, KernelId, ValueId};
use crate::kernel::Kernel;
use crate::runtime::Plan;
use crate::schedule::{LEAST_CHUNK_BYTES, LEAST_TASK_BYTES};
use crate::shape::{ChunkGrid, DType, Layout, Region};
use crate::task::{ChunkSource, GraphBuilder};

/// Most tasks of one graph: beyond, planning itself would take minutes and gigabytes.
const MOST_TASKS: usize = 50_000_000;

/// One kind of node. An operation is one file in this folder that implements this; what it works on are the node's inputs.
pub(crate) trait Op: Send + Sync {
    /// Its name: `matvec`.
    fn name(&self) -> &str;

    /// The grid of its result where the user does not say.
    fn default_grid(&self, inputs: &[Arc<Node>], shape: &[usize], dtype: DType) -> ChunkGrid;

    /// Whether its result can be cut by `grid`.
    fn check_grid(&self, _inputs: &[Arc<Node>], _grid: &ChunkGrid) -> Result<()> {
        Ok(())
    }

    /// Number of chunk tasks for a result cut by its own grid, for the table that `Debug` prints; inputs not counted.
    fn task_count(&self, node: &Node) -> usize {
        node.grid.len()
    }

    /// Whether its chunks can be made by any grid (data that exist, generators).
    fn is_leaf(&self) -> bool {
        false
    }

    /// Whether each chunk needs only the chunks of the same place of its inputs; then [`Op::lower`] makes only the chunks of
    /// [`Lowering::numbers`] when asked.
    fn by_place(&self) -> bool {
        false
    }

    /// Inputs of which [`Op::lower`] asks for all chunks ([`Lowering::chunks`]), and by which grid.
    fn whole_inputs(&self, _node: &Node, _grid: &ChunkGrid, _lw: &Lowering) -> Result<Vec<(usize, ChunkGrid)>> {
        Ok(Vec::new())
    }

    /// Adds the tasks; one value for each chunk of `grid`, in C order, each made by [`Lowering::output`] for that `target`.
    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>>;

    /// The file that the node's data are in, if it is such a leaf: reductions read it as they sum.
    fn source(&self) -> Option<&Arc<dyn ChunkSource>> {
        None
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
pub(crate) struct Lowering {
    pub(crate) graph: GraphBuilder,
    arrays: Vec<Option<Arc<HostBuffer>>>,
    /// The callers' arrays and those that the library makes when it plans, by the address of what they are made of.
    named: BTreeMap<usize, ArrayId>,
    done: BTreeMap<usize, Vec<(ChunkGrid, Vec<ValueId>)>>,
    tasks: usize,
    array_bytes: u64,
    table_bytes: u64,
    /// The chunks to be made now, if not all: see [`Lowering::piece`].
    part: Option<Range<usize>>,
    /// Chunks of operations that were made piece by piece, by node and number.
    pieces: BTreeMap<(usize, usize), ValueId>,
    /// Kernels of leaves that are made piece by piece, by node and grid.
    leaf_kernels: BTreeMap<usize, Vec<(ChunkGrid, KernelId)>>,
    /// Extent of chunks to use instead of automatic or chosen ones: to find one that fits memory.
    pub(crate) side: Option<usize>,
    limit: u64,
    most_tasks: usize,
    trial: bool,
}

impl Lowering {
    /// A lowering that ends with [`Error::OutOfMemory`] as soon as it is known that the plan needs more than `limit` bytes.
    pub(crate) fn within(limit: u64) -> Self {
        Self {
            graph: GraphBuilder::new(),
            arrays: Vec::new(),
            named: BTreeMap::new(),
            done: BTreeMap::new(),
            tasks: 0,
            array_bytes: 0,
            table_bytes: 0,
            part: None,
            pieces: BTreeMap::new(),
            leaf_kernels: BTreeMap::new(),
            side: None,
            limit,
            most_tasks: MOST_TASKS,
            trial: false,
        }
    }

    /// A lowering of at most so many tasks, to find out what a plan needs: its graph is never run, and no arrays are made for it.
    pub(crate) fn trial(limit: u64, side: Option<usize>, most_tasks: usize) -> Self {
        Self { side, most_tasks, trial: true, ..Self::within(limit) }
    }

    /// Counts tasks before they are made.
    pub(crate) fn expect_tasks(&mut self, count: usize) -> Result<()> {
        self.tasks = self.tasks.saturating_add(count);
        self.expect(count, LEAST_TASK_BYTES)
    }

    /// Counts chunks of a caller's array, or tasks that only write a file, before they are made.
    pub(crate) fn expect_chunks(&mut self, count: usize) -> Result<()> {
        self.expect(count, LEAST_CHUNK_BYTES)
    }

    fn expect(&mut self, count: usize, each_bytes: u64) -> Result<()> {
        self.table_bytes = self.table_bytes.saturating_add((count as u64).saturating_mul(each_bytes));
        if self.tasks.max(count) > self.most_tasks {
            let count = self.tasks.max(count);
            return Err(Error::argument(
                "number of tasks",
                count,
                format!("choose larger chunks; at most {} tasks in one graph can be planned", self.most_tasks),
            ));
        }
        if self.array_bytes.saturating_add(self.table_bytes) > self.limit {
            return Err(self.too_much(bookkeeping(self.tasks.max(count)) + " or more"));
        }
        Ok(())
    }

    /// Counts an array before it is made.
    fn expect_array(&mut self, dtype: DType, len: usize) -> Result<()> {
        self.array_bytes = self.array_bytes.saturating_add(len as u64 * dtype.bytes() as u64);
        if self.array_bytes > self.limit {
            return Err(self.too_much(String::new()));
        }
        Ok(())
    }

    /// What is known so far of a plan that does not fit; without a name for what needs it, it is the arrays alone.
    fn too_much(&self, what: String) -> Error {
        let requested_bytes = self.array_bytes.saturating_add(self.table_bytes);
        let (available_bytes, remedies) = (self.limit, vec![Remedy::Other("a higher memory limit".into())]);
        Error::OutOfMemory { what, requested_bytes, available_bytes, space: "host".into(), remedies }
    }

    /// Declares the caller's array of these bytes.
    pub(crate) fn caller(&mut self, layout: &Layout, bytes: Arc<HostBuffer>) -> Result<ArrayId> {
        let len = bytes.bytes() / layout.dtype.bytes();
        self.made((layout.dtype, len), Arc::as_ptr(&bytes) as usize, || bytes)
    }

    /// Declares an array of the library's own, which is made now: once for all that give this key, an address.
    pub(crate) fn made(
        &mut self,
        (dtype, len): (DType, usize),
        key: usize,
        make: impl FnOnce() -> Arc<HostBuffer>,
    ) -> Result<ArrayId> {
        if let Some(&known) = self.named.get(&key) {
            return Ok(known);
        }
        self.expect_array(dtype, len)?;
        let bytes = if self.trial { None } else { Some(make()) };
        let source = bytes.as_ref().map_or(0, |bytes| bytes.source_id());
        self.arrays.push(bytes);
        let array = self.graph.source(dtype, len, source);
        self.named.insert(key, array);
        Ok(array)
    }

    /// The values of a node's chunks by `grid`, in pooled buffers (or the caller's memory).
    pub(crate) fn chunks(&mut self, node: &Arc<Node>, grid: &ChunkGrid) -> Result<Vec<ValueId>> {
        let mut stack = vec![(node.clone(), grid.clone())];
        while let Some((node, grid)) = stack.last().cloned() {
            if self.known(&node, &grid).is_some() {
                stack.pop();
                continue;
            }
            check_cuts(&node, &grid)?;
            let missing = self.missing(&node, &grid)?;
            if !missing.is_empty() {
                stack.extend(missing);
                continue;
            }
            let values = if node.in_pieces && !node.op.is_leaf() {
                self.piece(&node, &grid, 0..grid.len())?
            } else {
                // A part that is being made is one of another node.
                let part = self.part.take();
                let values = node.op.lower(&node, &grid, Target::Pool, self);
                self.part = part;
                values?
            };
            self.done.entry(Arc::as_ptr(&node) as usize).or_default().push((grid, values));
        }
        Ok(self.known(node, grid).map(<[ValueId]>::to_vec).unwrap_or_default())
    }

    fn known(&self, node: &Arc<Node>, grid: &ChunkGrid) -> Option<&[ValueId]> {
        let all = self.done.get(&(Arc::as_ptr(node) as usize))?;
        all.iter().find(|(cut, _)| cut == grid).map(|(_, values)| values.as_slice())
    }

    /// The inputs that a node needs whole and that are yet to be lowered, the first last.
    fn missing(&self, node: &Arc<Node>, grid: &ChunkGrid) -> Result<Vec<(Arc<Node>, ChunkGrid)>> {
        let whole = node.op.whole_inputs(node, grid, self)?;
        let all = whole.into_iter().rev().map(|(i, cut)| (node.inputs[i].clone(), cut));
        Ok(all.filter(|(input, cut)| self.known(input, cut).is_none()).collect())
    }

    /// The values of a node's chunks `numbers`, and no others: so that they are made next to their use, and the sequential
    /// order of the tasks needs memory for few of them at once. A leaf's chunks are made for each use, others once.
    pub(crate) fn piece(&mut self, node: &Arc<Node>, grid: &ChunkGrid, numbers: Range<usize>) -> Result<Vec<ValueId>> {
        debug_assert!(node.in_pieces);
        if node.op.is_leaf() {
            return self.part(node, grid, numbers);
        }
        numbers.map(|number| self.place(node, grid, number)).collect()
    }

    /// The chunk of one place, after those of the same place that it is made from.
    fn place(&mut self, node: &Arc<Node>, grid: &ChunkGrid, number: usize) -> Result<ValueId> {
        let key = |node: &Arc<Node>| (Arc::as_ptr(node) as usize, number);
        let mut stack = vec![node.clone()];
        while let Some(node) = stack.last().cloned() {
            if self.pieces.contains_key(&key(&node)) {
                stack.pop();
                continue;
            }
            check_cuts(&node, grid)?;
            let before = stack.len();
            let missing = |input: &&Arc<Node>| !input.op.is_leaf() && !self.pieces.contains_key(&key(input));
            stack.extend(node.inputs.iter().rev().filter(missing).cloned());
            if stack.len() > before {
                continue;
            }
            let made = self.part(&node, grid, number..number + 1)?;
            self.pieces.extend(made.into_iter().map(|value| (key(&node), value)));
        }
        Ok(self.pieces[&key(node)])
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
        let result = self.result(node.dtype, node.shape.iter().product())?;
        let grid = self.grid_of(node)?;
        self.root(node, &grid, Target::Result(result))?;
        self.plan()
    }

    /// Lowers a node that nobody else uses.
    pub(crate) fn root(&mut self, node: &Arc<Node>, grid: &ChunkGrid, target: Target) -> Result<Vec<ValueId>> {
        for (input, cut) in self.missing(node, grid)?.into_iter().rev() {
            self.chunks(&input, &cut)?;
        }
        node.op.lower(node, grid, target, self)
    }

    /// The grid of the node to be returned: its own, unless a side is imposed.
    pub(crate) fn grid_of(&self, node: &Node) -> Result<ChunkGrid> {
        match self.side {
            Some(side) if !node.shape.is_empty() => ChunkGrid::regular(&node.shape, &vec![side; node.shape.len()]),
            _ => Ok(node.grid.clone()),
        }
    }

    /// Declares a result.
    pub(crate) fn result(&mut self, dtype: DType, len: usize) -> Result<ArrayId> {
        self.expect_array(dtype, len)?;
        self.arrays.push(None);
        Ok(self.graph.array(dtype, len, true))
    }

    /// The plan without a returned node: the tasks are those that were added.
    pub(crate) fn plan(self) -> Result<Plan> {
        if self.trial { Plan::without_bytes(self.graph) } else { Plan::new(self.graph, self.arrays) }
    }
}

/// Only a leaf can be cut by a grid that is not its own.
fn check_cuts(node: &Node, grid: &ChunkGrid) -> Result<()> {
    let own = &node.grid;
    if node.op.is_leaf() || own == grid {
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
