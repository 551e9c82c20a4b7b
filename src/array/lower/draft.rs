//! Stages that are planned, not made yet.
//!
//! Owns: [`Draft`], what those around it need to know ([`Around`]), who makes which. Must not know: tasks. Invariant: what a stage is made of is decided for all
//! stages before one is made.

use std::rc::Rc;
use std::sync::Arc;

use super::super::expr::{Existing, Generator, Primitive};
use super::super::grids::bytes_of;
use super::super::optimize::{ExprId, Exprs};
use super::feeds::{Fed, Generated};
use super::stage::{Make, StageId};
use super::{Lowering, calls, dense, leaves, moves, reduce, rounds};
use crate::error::Result;
use crate::shape::{ChunkGrid, DType, Region};
use crate::task::ChunkSource;

/// What a stage will be made of.
pub(super) struct Recipe {
    pub(super) grid: ChunkGrid,
    pub(super) dtype: DType,
    pub(super) inputs: Vec<StageId>,
}

/// What others need to know of a stage.
#[derive(Clone)]
pub(super) enum Kind {
    /// Reads chunks of this part of a source.
    Read(Arc<dyn ChunkSource>, Region),
    /// Makes chunks from their indices.
    Made,
    /// Hands on what its inputs have, one after the other along this axis.
    Concat(usize),
    /// Anything else.
    Other,
}

/// The stages around the one that is made.
pub(super) struct Around<'a> {
    pub(super) recipes: &'a [(Kind, &'a Recipe)],
    pub(super) uses: &'a [u32],
    /// Those that are returned.
    pub(super) results: &'a [StageId],
}

impl Around<'_> {
    /// The kind of a stage, and what it is made of.
    pub(super) fn stage(&self, stage: StageId) -> (&Kind, &Recipe) {
        let (kind, recipe) = &self.recipes[stage as usize];
        (kind, recipe)
    }

    /// Whether its chunks are returned.
    fn is_result(&self, stage: StageId) -> bool {
        self.results.contains(&stage)
    }

    /// Whether only one stage, or root, reads it.
    pub(super) fn is_sole(&self, stage: StageId) -> bool {
        self.uses[stage as usize] == 1
    }
}

/// A stage whose inputs are known, and whether it is its expression or puts that's chunks together.
pub(super) struct Draft {
    pub(super) expr: ExprId,
    pub(super) recipe: Recipe,
    pub(super) is_rechunk: bool,
}

impl Draft {
    pub(super) fn kind(&self, exprs: &Exprs) -> Kind {
        match &exprs.op(self.expr).primitive {
            _ if self.is_rechunk => Kind::Other,
            Primitive::Source(Existing::Stored(source), region) => Kind::Read(source.0.clone(), region.clone()),
            Primitive::Generate(Generator::Points { .. } | Generator::Constant(_), _) => Kind::Other,
            Primitive::Generate(..) => Kind::Made,
            Primitive::Concat(axis) => Kind::Concat(*axis),
            _ => Kind::Other,
        }
    }

    /// Whether a chunk may be made again after a while: it is read or made of its indices, or little work on what is; then nothing else is held for it.
    pub(super) fn may_be_made_again(&self, exprs: &Exprs) -> bool {
        let is_leaf = |&input: &ExprId| {
            let mut at = input;
            while let Primitive::View(_) = exprs.op(at).primitive {
                at = exprs.inputs(at)[0];
            }
            matches!(exprs.op(at).primitive, Primitive::Source(..) | Primitive::Generate(..))
        };
        match &exprs.op(self.expr).primitive {
            Primitive::Map(program) if !self.is_rechunk => {
                program.mix().total() <= rounds::REMADE_WORK && exprs.inputs(self.expr).iter().all(is_leaf)
            }
            _ => matches!(self.kind(exprs), Kind::Read(..) | Kind::Made),
        }
    }

    /// The inputs that are made in its own tasks.
    pub(super) fn fed(&self, exprs: &Exprs, drafts: &[Self], uses: &[u32]) -> Result<Fed> {
        // Of a reduction too that a GPU could do: it would have to be sent them.
        let takes = matches!(exprs.op(self.expr).primitive, Primitive::Map(_) | Primitive::Reduce(_));
        if !takes || self.is_rechunk {
            return Ok(Fed::default());
        }
        let is_own = |draft: &Self, stage: StageId| {
            let is_cheap = matches!(exprs.op(draft.expr).primitive, Primitive::Generate(Generator::Points { .. }, _));
            !draft.is_rechunk && (is_cheap || uses[stage as usize] == 1)
        };
        let made = self.recipe.inputs.iter().map(|&stage| {
            let draft = &drafts[stage as usize];
            let op = exprs.op(draft.expr);
            match &op.primitive {
                Primitive::View(view) if is_own(draft, stage) => {
                    let below = draft.recipe.inputs[0];
                    let of = &drafts[below as usize];
                    if is_own(of, below) { Generated::of(exprs.op(of.expr), Some(view)) } else { Ok(None) }
                }
                Primitive::Generate(..) if is_own(draft, stage) => Generated::of(op, None),
                _ => Ok(None),
            }
        });
        Ok(Fed::new(made.collect::<Result<_>>()?))
    }

    pub(super) fn make(
        &self,
        (exprs, fed): (&Exprs, &Fed),
        around: &Around<'_>,
        number: usize,
        lw: &mut Lowering,
    ) -> Result<Rc<dyn Make>> {
        let (op, recipe) = (&**exprs.op(self.expr), &self.recipe);
        if self.is_rechunk {
            let from = &around.stage(recipe.inputs[0]).1.grid;
            let room = lw.budget.limit() / ROUND_PART;
            if rounds::is_remade(exprs, self.expr) && moves::held_bytes(from, &recipe.grid, recipe.dtype) > room {
                let chunk = bytes_of(recipe.grid.largest(), recipe.dtype);
                // What makes a chunk that they are put together from is there beside them; and as much as one of these is put together at least, or there would be
                // more rounds than chunks.
                let given = bytes_of(from.largest(), recipe.dtype);
                let beside = given.saturating_mul(BESIDE_EIGHTHS) / 8;
                let room = room.min(lw.budget.limit().saturating_sub(beside)).max(given);
                // A result is there anyway, in all its chunks.
                let at_once =
                    if around.is_result(number as StageId) { usize::MAX } else { (room / chunk.max(1)).max(1) as usize };
                return Ok(rounds::rounds(number as StageId, recipe, from.clone(), at_once.min(recipe.grid.len().max(1))));
            }
            return Ok(moves::rechunk(recipe, around));
        }
        match &op.primitive {
            Primitive::Source(..) | Primitive::Generate(..) => leaves::make(op, recipe, lw),
            Primitive::View(view) => Ok(moves::view(view, recipe, around)),
            Primitive::Concat(axis) => Ok(moves::concat(*axis, recipe, around)),
            Primitive::Reshape => Ok(moves::reshape(recipe, around)),
            Primitive::Rechunk => Ok(moves::rechunk(recipe, around)),
            Primitive::Reduce(of) => reduce::make((of, op.dtype), number as StageId, (recipe, fed), around, lw),
            Primitive::Contract => Ok(dense::matvec(number as StageId, recipe, around)),
            Primitive::Factor => dense::cholesky(number as StageId, recipe, lw),
            Primitive::Map(program) => Ok(calls::map(program, recipe, fed)),
            Primitive::Call(call) => Ok(calls::make(call, recipe, around)),
        }
    }
}

/// Chunks that are put together at once take at most this part of the memory limit.
const ROUND_PART: u64 = 2;
/// So many eighths of a chunk that others are put together from are there beside these: it, what it is made of, what comes next, and a little more.
const BESIDE_EIGHTHS: u64 = 26;
