//! Lazy nodes: one operation each, on the results of others.
//!
//! Owns: [`Node`], the walk over all nodes, their end. Must not know: any operation. Invariant: nothing here recurses, and whatever follows from the
//! inputs is found once, when the node is made: an expression may be as deep as memory allows, and share its parts as it likes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::lower::Op;
use crate::shape::{ChunkGrid, DType};

/// One operation, what it works on, and its result's shape.
pub(crate) struct Node {
    pub(super) op: Arc<dyn Op>,
    pub(super) inputs: Vec<Arc<Node>>,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) grid: ChunkGrid,
    /// Whether the user chose the grid.
    pub(super) is_cut: bool,
    /// Whether each chunk needs only the chunks of one place of its inputs, and they of theirs: then no step needs a whole array.
    pub(super) in_pieces: bool,
}

impl Node {
    /// A node with the grid that its operation chooses.
    pub(super) fn new(op: Arc<dyn Op>, inputs: Vec<Arc<Node>>, shape: Vec<usize>, dtype: DType) -> Arc<Self> {
        let grid = op.default_grid(&inputs, &shape, dtype);
        let in_pieces = op.is_leaf() || op.by_place() && inputs.iter().all(|input| input.in_pieces);
        Arc::new(Self { op, inputs, shape, dtype, grid, is_cut: false, in_pieces })
    }

    /// The same with a grid that the user chose.
    pub(super) fn cut(&self, grid: ChunkGrid) -> Arc<Self> {
        let (op, inputs) = (self.op.clone(), self.inputs.clone());
        let (shape, dtype, in_pieces) = (self.shape.clone(), self.dtype, self.in_pieces);
        Arc::new(Self { op, inputs, shape, dtype, grid, is_cut: true, in_pieces })
    }

    /// This node and all that it depends on, each once; a node before its inputs.
    pub(super) fn all(self: &Arc<Self>) -> Vec<&Arc<Self>> {
        let (mut seen, mut all, mut stack) = (BTreeSet::new(), Vec::new(), vec![self]);
        while let Some(node) = stack.pop() {
            if seen.insert(Arc::as_ptr(node)) {
                all.push(node);
                stack.extend(node.inputs.iter().rev());
            }
        }
        all
    }
}

impl Drop for Node {
    /// Takes a long chain apart link by link: dropping each inside the one before would need stack for all of them.
    fn drop(&mut self) {
        let mut stack = std::mem::take(&mut self.inputs);
        while let Some(input) = stack.pop() {
            if let Some(mut last) = Arc::into_inner(input) {
                stack.append(&mut last.inputs);
            }
        }
    }
}
