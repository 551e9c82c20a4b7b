//! Rewriting expressions before they are lowered.
//!
//! Owns: [`Exprs`], the expressions of one plan, each once; the passes, one a file. Must not know: tasks. Invariant: a pass keeps every element of every
//! root, and how the roots are cut; nothing recurses.
//!
//! | pass | what it does |
//! |---|---|
//! | [`views`] | views go toward the sources, views of views are one, reshapes of plain data and rechunks of what takes any grid vanish |
//! | [`fuse`] | element-wise ops that follow each other are one program, what is constant in it is computed |

mod fuse;
mod order;
#[cfg(test)]
mod text;
mod views;

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::expr::{Expr, Node, Op, Primitive};
use crate::error::Result;
use crate::shape::{ChunkGrid, DType};

/// An expression of a plan, by its number: those that it depends on have lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ExprId(u32);

impl ExprId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// The inputs of an expression.
pub(super) type Inputs = SmallVec<[ExprId; 2]>;

/// The expressions of one plan: equal ones are one.
#[derive(Default)]
pub(super) struct Exprs {
    all: Vec<(Arc<Op>, Inputs)>,
    known: HashMap<(Arc<Op>, Inputs), ExprId>,
}

impl Exprs {
    /// What these expressions are, each part once; with a `side`, in chunks of that extent in place of those that were chosen or follow from the shape alone.
    ///
    /// # Errors
    /// As [`Op::new`].
    pub(super) fn of(roots: &[&Expr], side: Option<usize>) -> Result<(Self, Vec<ExprId>)> {
        let mut exprs = Self::default();
        let mut done: HashMap<*const Node, ExprId> = HashMap::new();
        for root in roots {
            let mut stack: Vec<&Expr> = vec![root];
            while let Some(&node) = stack.last() {
                if done.contains_key(&Arc::as_ptr(node)) {
                    stack.pop();
                    continue;
                }
                let before = stack.len();
                stack.extend(node.inputs.iter().rev().filter(|input| !done.contains_key(&Arc::as_ptr(input))));
                if stack.len() > before {
                    continue;
                }
                let inputs: Inputs = node.inputs.iter().map(|input| done[&Arc::as_ptr(input)]).collect();
                let op = match side {
                    None => node.op.clone(),
                    Some(side) => Arc::new(exprs.resided(&node.op, &inputs, side)?),
                };
                done.insert(Arc::as_ptr(node), exprs.intern(op, inputs));
                stack.pop();
            }
        }
        let roots = roots.iter().map(|root| done[&Arc::as_ptr(root)]).collect();
        Ok((exprs, roots))
    }

    /// An op in chunks of this extent, where its grid does not follow from its inputs'.
    fn resided(&self, op: &Op, inputs: &Inputs, side: usize) -> Result<Op> {
        let free = op.is_chosen || inputs.is_empty() || matches!(op.primitive, Primitive::Factor | Primitive::Reshape);
        let busy = matches!(&op.primitive, Primitive::Call(call) if call.busy);
        let grid = ChunkGrid::regular(&op.shape, &vec![side; op.shape.len()])?;
        let chosen = (!op.shape.is_empty() && (free || busy)).then_some(grid);
        Op::new(op.primitive.clone(), &self.ops(inputs), (op.shape.clone(), op.dtype), chosen)
    }

    /// The expression of an op on these inputs: the one that is there, if there is one.
    pub(super) fn intern(&mut self, op: Arc<Op>, inputs: Inputs) -> ExprId {
        let key = (op, inputs);
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        let id = ExprId(self.all.len() as u32);
        self.all.push(key.clone());
        self.known.insert(key, id);
        id
    }

    /// The expression of a primitive on these inputs whose result has this shape and dtype and is cut so.
    fn place(&mut self, primitive: Primitive, inputs: Inputs, like: (Vec<usize>, DType), grid: ChunkGrid) -> Result<ExprId> {
        self.place_as((primitive, inputs), like, grid, true)
    }

    /// The same; unless it may be flexible, its result is cut so and not otherwise: who wants other chunks puts them together.
    fn place_as(
        &mut self,
        (primitive, inputs): (Primitive, Inputs),
        like: (Vec<usize>, DType),
        grid: ChunkGrid,
        may_be_flexible: bool,
    ) -> Result<ExprId> {
        let op = Op::new(primitive, &self.ops(&inputs), like, Some(grid))?;
        let is_flexible = op.is_flexible && may_be_flexible;
        // Who chose the grid is of no use any more, and equal expressions are to be one.
        let op = Op { is_chosen: false, is_cut: false, is_stored: false, is_flexible, ..op };
        Ok(self.intern(Arc::new(op), inputs))
    }

    pub(super) fn op(&self, id: ExprId) -> &Arc<Op> {
        &self.all[id.index()].0
    }

    pub(super) fn inputs(&self, id: ExprId) -> &[ExprId] {
        &self.all[id.index()].1
    }

    fn ops(&self, inputs: &[ExprId]) -> Vec<&Op> {
        inputs.iter().map(|&input| &**self.op(input)).collect()
    }
}

/// The expressions of a plan as they are best made: all passes, one after the other. No program has more operands than `most_operands`.
///
/// # Errors
/// As [`Op::new`].
pub(super) fn optimized(exprs: &Exprs, roots: &[ExprId], most_operands: usize) -> Result<(Exprs, Vec<ExprId>)> {
    let (exprs, roots) = views::pass(exprs, roots)?;
    fuse::pass(&exprs, &roots, most_operands)
}
