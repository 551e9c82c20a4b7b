//! Stages: one op over a chunk grid, and the questions that can be asked of it.
//!
//! Owns: [`Stage`], [`Make`], [`Stages`]: which stages a plan has, and by which grid each is made. Must not know: kernels. Invariant: a stage is asked by its
//! own grid only; where somebody wants another one, a stage stands between that puts chunks together. Stages are found from the roots down, each once.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::expr::{Op, Primitive};
use super::super::grids::{self, bytes_of};
use super::super::optimize::{ExprId, Exprs};
use super::answers::Answers;
use super::draft::{Around, Draft, Kind, Recipe};
use super::fuse::{Merging, Routine, Steps, fuse};
use super::{Destination, Lowering, Piece, moves};
use crate::error::Result;
use crate::shape::{ChunkGrid, DType, ViewAxis};

/// A stage of a plan.
pub(super) type StageId = u32;

/// A question: to this stage, of this number.
pub(super) type Need = (StageId, usize);

/// How a stage answers.
pub(super) trait Make {
    /// What must be answered first. The first questions are for the chunks, by their number; there may be others, which only the stage itself asks.
    fn needs(&self, question: usize, needs: &mut Vec<Need>);

    /// How many tasks there are behind its needs at least, where these are very many: counted before they are listed.
    fn width(&self, _question: usize) -> usize {
        0
    }

    /// The answer, from those to its needs, in their order.
    fn make(&self, question: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece>;

    /// Where its only need is to be made, so that its own answer is in `place`; `None` if it cannot be so.
    fn through(&self, _question: usize, _place: &Destination) -> Option<Destination> {
        None
    }

    /// The chunk whose place the answer takes, if it takes that of one: as an earlier version of it.
    fn belongs(&self, _question: usize) -> Option<usize> {
        None
    }

    /// How chunks are made, if each is by one task from those of its inputs at the same place.
    fn routine(&self) -> Option<Routine> {
        None
    }

    /// How the outputs of the routine are merged, some at a time, if they are.
    fn merging(&self) -> Option<Merging> {
        None
    }

    /// The steps of a routine, if it has several.
    fn chain(&self) -> Option<&Steps> {
        None
    }

    /// Number of tasks if all is asked for, at least.
    fn tasks(&self, grid: &ChunkGrid) -> usize {
        grid.len()
    }

    /// How often it needs each chunk of its inputs, if all of its own are asked for: they are made again.
    fn rounds(&self) -> usize {
        1
    }

    /// Whether it needs all chunks of its inputs if all of its own are asked for.
    fn needs_all(&self) -> bool {
        true
    }

    /// How many steps it takes to ask for all, if its chunk is asked for in several ([`Make::step`]).
    fn step_count(&self) -> Option<usize> {
        None
    }

    /// The questions of a step.
    fn step(&self, _number: usize) -> Vec<usize> {
        Vec::new()
    }
}

/// One op over a grid.
pub(super) struct Stage {
    pub(super) grid: ChunkGrid,
    pub(super) dtype: DType,
    pub(super) inputs: Vec<StageId>,
    pub(super) make: Rc<dyn Make>,
    /// Bytes of its chunks, if they are made again after a while.
    fresh: Option<u64>,
    /// Whether all of its chunks are sure to be asked for.
    pub(super) is_whole: bool,
    answers: Answers,
}

/// What is still to be done about a stage.
struct OpenStage {
    expr: ExprId,
    grid: ChunkGrid,
}

/// All stages of a plan.
pub(super) struct Stages {
    all: Vec<Stage>,
    pub(super) roots: Vec<StageId>,
    /// Bytes of chunks that were made so far.
    clock: u64,
    /// Bytes of other chunks after which one is made again.
    keep: u64,
}

impl Stages {
    /// The stages of these expressions, each with whether it is returned.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] if so many tasks do not fit; [`crate::Error::Argument`] if they are too many.
    pub(super) fn of(exprs: &Exprs, roots: &[(ExprId, bool)], lw: &mut Lowering) -> Result<Self> {
        let mut plan = Planner { exprs, known: HashMap::new(), open: Vec::new() };
        let roots: Vec<(StageId, bool)> = roots.iter().map(|&(root, is_result)| (plan.own(root), is_result)).collect();
        let results: &[StageId] = &roots.iter().filter(|root| root.1).map(|root| root.0).collect::<Vec<_>>();
        let roots: Vec<StageId> = roots.iter().map(|root| root.0).collect();
        let mut drafts = Vec::new();
        while drafts.len() < plan.open.len() {
            drafts.push(plan.resolve(drafts.len())?);
        }
        let mut uses = vec![0u32; drafts.len()];
        drafts.iter().flat_map(|draft| &draft.recipe.inputs).for_each(|&input| uses[input as usize] += 1);
        roots.iter().for_each(|&root| uses[root as usize] += 1);
        let keep = lw.keep;
        let recipes: Vec<(Kind, &Recipe)> = drafts.iter().map(|draft| (draft.kind(exprs), &draft.recipe)).collect();
        let mut all = Vec::with_capacity(drafts.len());
        for (number, draft) in drafts.iter().enumerate() {
            let fed = draft.fed(exprs, &drafts, &uses)?;
            let around = Around { recipes: &recipes, uses: &uses, results };
            let make = draft.make((exprs, &fed), &around, number, lw)?;
            let Recipe { grid, dtype, inputs } = &draft.recipe;
            let (bytes, largest) = (bytes_of(grid.shape().to_vec(), *dtype), bytes_of(grid.largest(), *dtype));
            let is_again = bytes > keep && draft.may_be_made_again(exprs);
            all.push(Stage {
                answers: Answers::default(),
                fresh: is_again.then_some(largest),
                grid: grid.clone(),
                dtype: *dtype,
                inputs: fed.chunks(inputs),
                make,
                is_whole: false,
            });
        }
        let mut stages = Self { all, roots, clock: 0, keep };
        stages.make_again(&uses);
        let order = stages.order();
        fuse(&mut stages, &uses, &order);
        stages.mark_whole(lw)?;
        Ok(stages)
    }

    /// Has the chunks that a stage needs in several rounds made again for each.
    fn make_again(&mut self, uses: &[u32]) {
        let often = |stage: &StageId| self.at(*stage).make.rounds() > 1;
        let mut stack: Vec<StageId> =
            (0..self.len() as StageId).filter(often).flat_map(|s| self.at(s).inputs.clone()).collect();
        while let Some(stage) = stack.pop() {
            let of = &mut self.all[stage as usize];
            if uses[stage as usize] == 1 && of.fresh.is_none() && of.make.rounds() == 1 {
                of.fresh = Some(bytes_of(of.grid.largest(), of.dtype));
                stack.extend(&of.inputs);
            }
        }
    }

    /// All stages, each after its inputs.
    pub(super) fn order(&self) -> Vec<StageId> {
        let (mut order, mut is_listed) = (Vec::with_capacity(self.all.len()), vec![false; self.all.len()]);
        for &root in &self.roots {
            let mut stack = vec![(root, false)];
            while let Some((stage, is_open)) = stack.pop() {
                if is_listed[stage as usize] {
                    continue;
                }
                if is_open {
                    is_listed[stage as usize] = true;
                    order.push(stage);
                } else {
                    stack.push((stage, true));
                    let inputs = self.at(stage).inputs.iter().filter(|&&input| !is_listed[input as usize]);
                    stack.extend(inputs.map(|&input| (input, false)));
                }
            }
        }
        order
    }

    /// Makes a stage otherwise: without these inputs, but with theirs.
    pub(super) fn replace(&mut self, stage: StageId, make: Rc<dyn Make>, gone: &[StageId]) {
        let theirs = gone.iter().flat_map(|&input| self.at(input).inputs.clone());
        let mut inputs: Vec<StageId> = self.at(stage).inputs.iter().copied().filter(|input| !gone.contains(input)).collect();
        inputs.extend(theirs.collect::<Vec<_>>());
        let of = &mut self.all[stage as usize];
        (of.make, of.inputs) = (make, inputs);
    }

    /// Marks the stages of which all is sure to be asked for, and counts their tasks.
    fn mark_whole(&mut self, lw: &mut Lowering) -> Result<()> {
        let mut stack = self.roots.clone();
        while let Some(stage) = stack.pop() {
            let stage = &mut self.all[stage as usize];
            if std::mem::replace(&mut stage.is_whole, true) {
                continue;
            }
            lw.budget.expect_tasks(stage.make.tasks(&stage.grid))?;
            if stage.make.needs_all() {
                stack.extend(&stage.inputs);
            }
        }
        Ok(())
    }

    /// Whether a stage's chunks are made again after a while.
    pub(super) fn is_made_again(&self, stage: StageId) -> bool {
        self.at(stage).fresh.is_some()
    }

    pub(super) fn at(&self, stage: StageId) -> &Stage {
        &self.all[stage as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The answer, unless it is to be made, or made again.
    pub(super) fn answer(&self, (stage, question): Need) -> Option<Piece> {
        let of = &self.all[stage as usize];
        if of.fresh.is_none() {
            return of.answers.get(question);
        }
        let made = u64::from(of.answers.clock(question)) << CLOCK_SHIFT;
        of.answers.get(question).filter(|_| self.clock.saturating_sub(made) <= self.keep)
    }

    /// The answer, whatever its age.
    pub(super) fn remembered(&self, (stage, question): Need) -> Option<Piece> {
        self.all[stage as usize].answers.get(question)
    }

    pub(super) fn remember(&mut self, (stage, question): Need, piece: Piece) {
        let of = &mut self.all[stage as usize];
        self.clock += of.fresh.unwrap_or(0);
        let clock = of.fresh.map(|_| (self.clock >> CLOCK_SHIFT) as u32);
        of.answers.set(question, piece, clock);
    }
}

/// The clock of answers counts in units of 64 KiB.
const CLOCK_SHIFT: u32 = 16;

/// Finds the stages.
struct Planner<'a> {
    exprs: &'a Exprs,
    known: HashMap<(ExprId, ChunkGrid), StageId>,
    open: Vec<OpenStage>,
}

impl Planner<'_> {
    /// The stage that has an expression's chunks by this grid.
    fn wanted(&mut self, mut expr: ExprId, grid: ChunkGrid) -> StageId {
        while matches!(self.exprs.op(expr).primitive, Primitive::Rechunk) {
            expr = self.exprs.inputs(expr)[0]; // what it would be cut by is of no use here
        }
        let next = self.open.len() as StageId;
        *self.known.entry((expr, grid)).or_insert_with_key(|(_, grid)| {
            self.open.push(OpenStage { expr, grid: grid.clone() });
            next
        })
    }

    /// The stage with an expression's chunks as they come.
    fn own(&mut self, expr: ExprId) -> StageId {
        self.wanted(expr, self.exprs.op(expr).grid.clone())
    }

    /// What a stage is made of: how it can be cut so, and what it needs for that.
    fn resolve(&mut self, number: usize) -> Result<Draft> {
        let OpenStage { expr, grid } = &self.open[number];
        let (expr, grid, exprs) = (*expr, grid.clone(), self.exprs);
        let (op, ids) = (exprs.op(expr).clone(), exprs.inputs(expr));
        let comes = self.comes(&op, ids, &grid)?;
        if comes != grid {
            return self.put_together(expr, comes, grid);
        }
        let inputs: Vec<StageId> = match &op.primitive {
            Primitive::Source(..) | Primitive::Generate(..) => Vec::new(),
            Primitive::View(view) if exprs.op(ids[0]).is_flexible => {
                let value = grids::back(view, &grid, &exprs.op(ids[0]).shape)?;
                vec![self.wanted(ids[0], value)]
            }
            Primitive::View(_) => vec![self.own(ids[0])],
            Primitive::Concat(axis) => {
                let mut end = 0;
                let of = |&id: &ExprId| {
                    let extent = exprs.op(id).shape[*axis];
                    let cuts = grids::within(&grid.along(*axis), end, extent)?;
                    end += extent;
                    let all = (0..grid.shape().len()).map(|a| if a == *axis { cuts.clone() } else { grid.along(a) });
                    Ok(self.wanted(id, ChunkGrid::of_axes(all)?))
                };
                ids.iter().map(of).collect::<Result<_>>()?
            }
            Primitive::Reshape => {
                let input = exprs.op(ids[0]);
                vec![self.wanted(ids[0], moves::flat(&input.shape, input.dtype, &input.grid)?)]
            }
            Primitive::Reduce(reduce) => {
                let cut = reduce.cut(&exprs.op(ids[0]).grid).clone();
                ids.iter().map(|&id| self.wanted(id, cut.clone())).collect()
            }
            Primitive::Contract => {
                let columns = exprs.op(ids[0]).grid.along(1);
                vec![self.wanted(ids[0], grid.by(&columns)?), self.wanted(ids[1], columns)]
            }
            // A rechunk is nobody's wish: see `wanted`.
            Primitive::Factor | Primitive::Rechunk => vec![self.wanted(ids[0], grid.clone())],
            Primitive::Map(_) => ids.iter().map(|&id| self.wanted(id, grid.clone())).collect(),
            Primitive::Call(call) => {
                let of = |(&id, along): (&ExprId, &Vec<usize>)| {
                    Ok(self.wanted(id, ChunkGrid::of_axes(along.iter().map(|&axis| grid.along(axis)))?))
                };
                ids.iter().zip(&call.along).map(of).collect::<Result<_>>()?
            }
        };
        Ok(Draft { expr, recipe: Recipe { grid, dtype: op.dtype, inputs }, is_rechunk: false })
    }

    /// The grid in which the result of an op comes that is wanted in this one: this one, if it can be made so.
    fn comes(&self, op: &Op, ids: &[ExprId], grid: &ChunkGrid) -> Result<ChunkGrid> {
        match &op.primitive {
            Primitive::View(view) if !self.exprs.op(ids[0]).is_flexible => {
                let shown = grids::through(view, &self.exprs.op(ids[0]).grid, op.dtype)?;
                // What is repeated can be cut anywhere.
                let along = |(a, axis): (usize, &ViewAxis)| if axis.is_repeated() { grid.along(a) } else { shown.along(a) };
                ChunkGrid::of_axes(view.axes().iter().enumerate().map(along))
            }
            Primitive::Concat(axis) => self.concatenated(*axis, grid, ids),
            Primitive::Reshape => moves::flat(&op.shape, op.dtype, grid),
            Primitive::Reduce(_) | Primitive::Factor => Ok(op.grid.clone()),
            Primitive::Map(_) | Primitive::Call(_) if !op.is_flexible => Ok(op.grid.clone()),
            _ => Ok(grid.clone()),
        }
    }

    /// The grid in which a concatenation comes that is wanted in this one: cut where one input ends, too, and as inputs are cut that cannot be cut otherwise.
    fn concatenated(&self, axis: usize, wanted: &ChunkGrid, ids: &[ExprId]) -> Result<ChunkGrid> {
        let rigid = ids.iter().find(|&&id| !self.exprs.op(id).is_flexible).map(|&id| &self.exprs.op(id).grid);
        let mut end = 0;
        let along = ids.iter().map(|&id| {
            let op = self.exprs.op(id);
            let start = end;
            end += op.shape[axis];
            match op.is_flexible {
                true => grids::within(&wanted.along(axis), start, op.shape[axis]),
                false => Ok(op.grid.along(axis)),
            }
        });
        let along = grids::chain(along.collect::<Result<Vec<_>>>()?.into_iter())?;
        let across = |a: usize| rigid.map_or_else(|| wanted.along(a), |grid| grid.along(a));
        ChunkGrid::of_axes((0..wanted.shape().len()).map(|a| if a == axis { along.clone() } else { across(a) }))
    }

    /// The stage that makes chunks of one grid out of those of another.
    fn put_together(&mut self, expr: ExprId, comes: ChunkGrid, grid: ChunkGrid) -> Result<Draft> {
        let dtype = self.exprs.op(expr).dtype;
        let inputs = vec![self.wanted(expr, comes)];
        Ok(Draft { expr, recipe: Recipe { grid, dtype, inputs }, is_rechunk: true })
    }
}
