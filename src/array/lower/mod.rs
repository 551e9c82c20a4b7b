//! From expressions to a task graph.
//!
//! Owns: [`Lowering`], the one order in which tasks are made. Must not know: what any primitive does ([`stage`] says). Invariant: there is one question,
//! *chunk n of this stage*, and its answer is a value (or a view of one), which is remembered; what nobody asks for is never made.
//!
//! # The order
//!
//! Roots ask for their chunks one by one, and each chunk for those that it needs, before it is made: so a task stands next to its use, and the sequential
//! order of the graph needs memory for few chunks at once. What is only to be summed is asked for chunk by chunk as well ([`stage::Stage::steps`]). Where
//! several roots or sums stand side by side, they take turns, so that a chunk which they share is there for all of them and then goes.
//!
//! A chunk of data that exist, or follow from their indices, is made again if much else was made meanwhile: to read or draw it again costs less than
//! memory for all of them.

mod answers;
mod budget;
mod calls;
mod dense;
mod draft;
mod feeds;
mod fuse;
mod leaves;
mod moves;
mod reduce;
mod rounds;
mod scan;
mod stage;
mod turns;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::expr::Expr;
use super::optimize::{Exprs, optimized};
use crate::device::HostBuffer;
use crate::error::{Error, Result};
use crate::id::{ArrayId, KernelId, ValueId, ViewId};
use crate::kernel::Kernel;
use crate::kernel::assemble::Copy;
use crate::kernel::points::Spacing;
use crate::runtime::{GpuBounds, Plan};
use crate::shape::{ChunkGrid, DType, Layout, Region, Scalar, View, with_dtype};
use crate::store::WriteChunk;
use crate::task::{ChunkSink, GraphBuilder, Home, Operand};
use budget::Budget;
pub(super) use reduce::tree_tasks;
use stage::{Need, StageId, Stages};

/// An expression that is asked for, and what becomes of it.
pub(super) struct Root<'a> {
    pub(super) expr: &'a Expr,
    pub(super) to: To<'a>,
}

/// What becomes of a root's chunks.
#[derive(Clone, Copy)]
pub(super) enum To<'a> {
    /// They are windows of an array that is returned.
    Result,
    /// They are written.
    Sink(&'a Arc<dyn ChunkSink>),
}

/// The answer to a question: a value, and what of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    value: ValueId,
    /// One more than the view's number; 0 for all of the value. There is one of these for each chunk of a plan: eight bytes.
    view: u32,
}

impl Piece {
    /// No answer.
    const NONE: Self = Self { value: ValueId(u32::MAX), view: u32::MAX };

    fn of(value: ValueId) -> Self {
        Self { value, view: 0 }
    }

    fn viewed(value: ValueId, view: ViewId) -> Self {
        Self { value, view: view.0 + 1 }
    }

    fn view(self) -> Option<ViewId> {
        self.view.checked_sub(1).map(ViewId)
    }

    fn operand(self) -> Operand {
        self.view().map_or_else(|| Operand::of(self.value), |view| Operand::viewed(self.value, view))
    }
}

/// What tasks of a stage have in common.
#[derive(Clone)]
pub(super) struct TaskKind {
    kernel: Arc<dyn Kernel>,
    /// The kernels that it is made of, if it is a chain: the graph is to know if two of one key are not the same.
    parts: Vec<Arc<dyn Kernel>>,
    /// Its number in the graph, once there is a task.
    id: OnceCell<KernelId>,
    label: String,
}

impl TaskKind {
    fn new(kernel: Arc<dyn Kernel>, label: String) -> Self {
        Self { kernel, parts: Vec::new(), id: OnceCell::new(), label }
    }
}

/// Where a chunk is to be made, if that can be chosen.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// In a pooled buffer.
    Pool,
    /// In an array, from this element on, by these strides.
    Window(ArrayId, usize, Layout),
}

/// A graph being made.
pub(super) struct Lowering {
    graph: GraphBuilder,
    arrays: Vec<Option<Arc<HostBuffer>>>,
    /// The callers' arrays and those that the library makes when it plans, by what they are made of.
    named: HashMap<Named, ArrayId>,
    budget: Budget,
    /// Extent of chunks to use instead of automatic or chosen ones: to find one that fits memory.
    side: Option<usize>,
    trial: bool,
    gpus: GpuBounds,
    /// Leaves, and what is cheaply made of them, of at most so many bytes are kept: what is larger is made again after a while.
    keep: u64,
    /// The arrays that chunks of stages are to be in, where they are results.
    homes: HashMap<StageId, ArrayId>,
    /// A zero of each dtype that was asked for.
    zeros: Vec<(DType, ValueId)>,
}

/// What an array of the plan is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Named {
    /// The memory at this address.
    Memory(usize),
    /// Part of so many numbers, in this dtype.
    Points(Spacing, usize, Region, DType),
    /// One element.
    Constant(Scalar),
}

impl Lowering {
    /// A lowering that ends with [`crate::Error::OutOfMemory`] as soon as it is known that the plan needs more than `limit` bytes.
    pub(super) fn within(limit: u64) -> Self {
        Self {
            graph: GraphBuilder::new(),
            arrays: Vec::new(),
            named: HashMap::new(),
            budget: Budget::new(limit),
            side: None,
            trial: false,
            gpus: GpuBounds::NONE,
            keep: limit / KEPT_PART,
            homes: HashMap::new(),
            zeros: Vec::new(),
        }
    }

    /// The same, but such of up to half of the limit are kept: that costs no more reads than need be, where it fits.
    pub(super) fn keeping(self) -> Self {
        Self { keep: self.budget.limit() / 2, ..self }
    }

    /// The same, for GPUs that can do this.
    pub(super) fn on(self, gpus: GpuBounds) -> Self {
        Self { gpus, ..self }
    }

    /// A lowering of at most so many tasks, to find out what a plan needs: its graph is never run, and no arrays are made for it.
    pub(super) fn trial(limit: u64, side: Option<usize>, most_tasks: usize) -> Self {
        Self { side, trial: true, budget: Budget::of_tasks(limit, most_tasks), ..Self::within(limit) }
    }

    /// The plan that makes these.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] if it is seen to need more than there is; as [`Plan::new`].
    pub(super) fn plan(self, roots: &[Root<'_>]) -> Result<Plan> {
        let (exprs, ids) = Exprs::of(&roots.iter().map(|root| root.expr).collect::<Vec<_>>(), self.side)?;
        let (exprs, ids) = optimized(&exprs, &ids, self.gpus.most_operands)?;
        self.lower(&exprs, &ids, roots)
    }

    /// [`Lowering::plan`] without passes.
    #[cfg(test)]
    pub(super) fn plan_as_written(self, roots: &[Root<'_>]) -> Result<Plan> {
        let (exprs, ids) = Exprs::of(&roots.iter().map(|root| root.expr).collect::<Vec<_>>(), self.side)?;
        self.lower(&exprs, &ids, roots)
    }

    /// Number of tasks of the plan that makes these, copies of what is there already left out; `None` if there are more than a trial may have.
    pub(super) fn task_count(mut self, root: &Expr) -> Option<usize> {
        let (exprs, ids) = Exprs::of(&[root], self.side).ok()?;
        let (exprs, ids) = optimized(&exprs, &ids, self.gpus.most_operands).ok()?;
        let mut stages = Stages::of(&exprs, &[(ids[0], false)], &mut self).ok()?;
        let root = stages.roots[0];
        let asked = Asked { stage: root, grid: stages.at(root).grid.clone(), result: None, writer: None };
        self.ask_all(&mut stages, &[asked]).ok()?;
        Some(self.budget.made())
    }

    fn lower(mut self, exprs: &Exprs, ids: &[super::optimize::ExprId], roots: &[Root<'_>]) -> Result<Plan> {
        let results: Vec<Option<ArrayId>> = roots.iter().map(|root| self.declared(root)).collect::<Result<_>>()?;
        let wanted: Vec<_> = ids.iter().zip(roots).map(|(&id, root)| (id, matches!(root.to, To::Result))).collect();
        let mut stages = Stages::of(exprs, &wanted, &mut self)?;
        let mut all = Vec::with_capacity(roots.len());
        for ((root, stage), result) in roots.iter().zip(stages.roots.clone()).zip(results) {
            let grid = stages.at(stage).grid.clone();
            let writer = match root.to {
                To::Result => None,
                To::Sink(sink) => {
                    self.budget.expect_writes(grid.len())?;
                    let writer = self.graph.kernel(Arc::new(WriteChunk { sink: sink.clone(), grid: grid.clone() }));
                    Some((writer, format!("write {}", sink.name())))
                }
            };
            all.push(Asked { stage, grid, result, writer });
        }
        for root in &all {
            if let Some(result) = root.result {
                self.homes.entry(root.stage).or_insert(result);
            }
        }
        self.ask_all(&mut stages, &all)?;
        drop(stages); // what was asked is of no use any more, and the plan's tables are large enough
        if self.trial { Plan::without_bytes(self.graph) } else { Plan::new(self.graph, self.arrays) }
    }

    /// Declares what becomes of a root.
    fn declared(&mut self, root: &Root<'_>) -> Result<Option<ArrayId>> {
        let op = &root.expr.op;
        match root.to {
            To::Sink(_) => Ok(None),
            To::Result => {
                let len = op.shape.iter().product();
                self.budget.expect_array(op.dtype, len)?;
                self.arrays.push(None);
                Ok(Some(self.graph.array(op.dtype, len, true)))
            }
        }
    }

    /// Asks for all chunks of the roots.
    fn ask_all(&mut self, stages: &mut Stages, roots: &[Asked]) -> Result<()> {
        for (turn, number) in turns::Turns::of(stages, roots) {
            match turn {
                turns::Turn::Root(root) => self.ask_root(stages, &roots[root], number)?,
                turns::Turn::Steps(stage) => self.ask_steps(stages, stage, number)?,
            }
        }
        Ok(())
    }

    /// Takes a step of a stage.
    fn ask_steps(&mut self, stages: &mut Stages, stage: StageId, number: usize) -> Result<()> {
        for question in stages.at(stage).make.step(number) {
            let place = self.home(stages, (stage, question));
            self.ask(stages, (stage, question), place)?;
        }
        Ok(())
    }

    /// Makes a chunk of a root, where it belongs.
    fn ask_root(&mut self, stages: &mut Stages, root: &Asked, number: usize) -> Result<()> {
        let region = root.grid.region(number);
        if let Some((writer, label)) = &root.writer {
            let piece = self.ask(stages, (root.stage, number), Destination::Pool)?;
            self.graph.group(label);
            self.graph.task(*writer, &(number as u64).to_ne_bytes(), &[piece.operand()], &[])?;
            return Ok(());
        }
        let Some(result) = root.result else { return self.ask(stages, (root.stage, number), Destination::Pool).map(drop) };
        let dtype = stages.at(root.stage).dtype;
        let place = place_in(result, &root.grid, number, dtype);
        let piece = self.ask(stages, (root.stage, number), place.clone())?;
        // What begins where the chunk does was made there for it. A result is zero where nobody writes.
        let is_there = match (self.graph.home(piece.value), &place) {
            (Home::Window { array, offset }, Destination::Window(result, start, _)) => array == *result && offset == *start,
            _ => false,
        };
        if !is_there && !self.zeros.iter().any(|zero| zero.1 == piece.value) {
            self.copied(piece, &place, (dtype, &region.shape()), &extents(&root.grid))?;
        }
        Ok(())
    }

    /// The answer to a question, made if it is not there; where `place` says, if it can be.
    fn ask(&mut self, stages: &mut Stages, question: (StageId, usize), place: Destination) -> Result<Piece> {
        struct Frame {
            question: (StageId, usize),
            place: Destination,
            is_open: bool,
        }
        let mut stack = vec![Frame { question, place, is_open: false }];
        let mut needs: Vec<Need> = Vec::new();
        let mut given: Vec<Piece> = Vec::new();
        while let Some(frame) = stack.last_mut() {
            let (stage, number) = frame.question;
            if stages.answer(frame.question).is_some() {
                stack.pop();
                continue;
            }
            needs.clear();
            self.budget.has_room(stages.at(stage).make.width(number))?;
            stages.at(stage).make.needs(number, &mut needs);
            if !frame.is_open {
                frame.is_open = true;
                let through = (needs.len() == 1).then(|| stages.at(stage).make.through(number, &frame.place)).flatten();
                let before = stack.len();
                for &need in needs.iter().rev().filter(|&&need| stages.answer(need).is_none()) {
                    stack.push(Frame { question: need, place: self.home(stages, need), is_open: false });
                }
                if stack.len() > before {
                    if let (Some(place), Some(last)) = (through, stack.last_mut()) {
                        last.place = place;
                    }
                    continue;
                }
            }
            given.clear();
            // Whatever its age: it was there when this chunk was begun.
            given.extend(needs.iter().map(|&need| stages.remembered(need).expect("made before")));
            let Some(frame) = stack.pop() else { break };
            let made = stages.at(stage).make.clone();
            let piece = made.make(number, &given, &frame.place, self)?;
            stages.remember((stage, number), piece);
        }
        Ok(stages.remembered(question).expect("made last"))
    }

    /// Where the answer to a question is to be, if it is part of a result.
    fn home(&self, stages: &Stages, (stage, question): Need) -> Destination {
        let Some(&array) = self.homes.get(&stage) else { return Destination::Pool };
        let of = stages.at(stage);
        // What is made twice cannot be in one place twice.
        let own = (question < of.grid.len() && !stages.is_made_again(stage)).then_some(question);
        of.make.belongs(question).or(own).map_or(Destination::Pool, |chunk| place_in(array, &of.grid, chunk, of.dtype))
    }

    /// The value for a chunk that is made here.
    fn out(&mut self, place: &Destination, dtype: DType, shape: &[usize]) -> ValueId {
        match place {
            Destination::Pool => self.graph.value(dtype, shape),
            Destination::Window(array, offset, layout) => self.graph.window(*array, *offset, layout),
        }
    }

    /// Adds the task of one output that reads these pieces.
    fn task(&mut self, kind: &TaskKind, params: &[u8], inputs: &[Piece], out: ValueId) -> Result<Piece> {
        self.task_to(kind, params, inputs, Operand::of(out))
    }

    /// Adds the task that reads these pieces, and writes or updates this.
    fn task_to(&mut self, kind: &TaskKind, params: &[u8], inputs: &[Piece], out: Operand) -> Result<Piece> {
        self.budget.count_task()?;
        let operands: smallvec::SmallVec<[Operand; 8]> = inputs.iter().map(|piece| piece.operand()).collect();
        let kernel = *kind.id.get_or_init(|| {
            kind.parts.iter().for_each(|part| _ = self.graph.kernel(part.clone()));
            self.graph.kernel(kind.kernel.clone())
        });
        self.graph.group(&kind.label);
        self.graph.task(kernel, params, &operands, &[out])?;
        Ok(Piece::of(out.value))
    }

    /// A copy of a piece; `extents` is for its label.
    fn copied(
        &mut self,
        piece: Piece,
        place: &Destination,
        (dtype, shape): (DType, &[usize]),
        extents: &str,
    ) -> Result<ValueId> {
        let out = self.out(place, dtype, shape);
        self.task(&TaskKind::new(Arc::new(Copy), format!("copy {extents}")), &[], &[piece], out)?;
        Ok(out)
    }

    /// What a view shows of a piece.
    fn viewed(&mut self, piece: Piece, view: &View) -> Result<Piece> {
        let view = match piece.view() {
            None => self.graph.view(view),
            Some(outer) => {
                let both = self.graph.view_of(outer).then(view)?;
                self.graph.view(&both)
            }
        };
        if self.graph.view_count() > MOST_VIEWS {
            let wanted = "choose chunks that are cut where those of its inputs are, or rechunk what a view is of";
            return Err(Error::argument("number of different views of chunks", format!("more than {MOST_VIEWS}"), wanted));
        }
        Ok(Piece::viewed(piece.value, view))
    }

    /// Zeros of this shape: one, seen everywhere.
    fn zeros(&mut self, dtype: DType, shape: &[usize]) -> Result<Piece> {
        let zero = match self.zeros.iter().find(|zero| zero.0 == dtype) {
            Some(zero) => zero.1,
            None => {
                let array = self.one_element(dtype.zero())?;
                let zero = self.graph.window(array, 0, &Layout::contiguous(dtype, &[]));
                self.zeros.push((dtype, zero));
                zero
            }
        };
        let view = self.graph.view(&View::whole(&[]).broadcast(shape)?);
        Ok(Piece::viewed(zero, view))
    }

    /// An array of one element.
    fn one_element(&mut self, value: Scalar) -> Result<ArrayId> {
        let of =
            || with_dtype!(value.dtype(), T => HostBuffer::caller(&Arc::new(vec![T::try_from(value).unwrap_or_default()])));
        self.array(Named::Constant(value), (value.dtype(), 1), of)
    }

    /// The array that is known by this name: made now, if it is not there.
    fn array(&mut self, name: Named, (dtype, len): (DType, usize), make: impl FnOnce() -> Arc<HostBuffer>) -> Result<ArrayId> {
        if let Some(&known) = self.named.get(&name) {
            return Ok(known);
        }
        self.budget.expect_array(dtype, len)?;
        let bytes = if self.trial { None } else { Some(make()) };
        let source = bytes.as_ref().map_or(0, |bytes| bytes.source_id());
        self.arrays.push(bytes);
        let array = self.graph.source(dtype, len, source);
        self.named.insert(name, array);
        Ok(array)
    }
}

/// Leaves of at most this part of the memory limit are kept in any case.
pub(super) const KEPT_PART: u64 = 8;

/// Different views of chunks that a graph has at most.
const MOST_VIEWS: usize = u16::MAX as usize;

/// A root with where its chunks go: nowhere, if they are only counted.
struct Asked {
    stage: StageId,
    grid: ChunkGrid,
    result: Option<ArrayId>,
    writer: Option<(KernelId, String)>,
}

/// The place of a chunk in an array that is cut so, in C order.
fn place_in(array: ArrayId, grid: &ChunkGrid, chunk: usize, dtype: DType) -> Destination {
    let (offset, layout) = window_of(&Layout::contiguous(dtype, grid.shape()), &grid.region(chunk));
    Destination::Window(array, offset, layout)
}

/// Offset (elements) and layout of a region of an array with this layout.
fn window_of(whole: &Layout, region: &Region) -> (usize, Layout) {
    let axes = region.axes().iter().zip(&whole.strides);
    let offset = axes.clone().map(|(a, &s)| a.start * s as usize).sum();
    let strides = axes.map(|(a, &s)| if a.len > 1 { s * a.step as isize } else { s }).collect();
    (offset, Layout { dtype: whole.dtype, shape: region.shape(), strides })
}

/// `1000x1000`, for group labels.
fn extents(grid: &ChunkGrid) -> String {
    let parts: Vec<String> = grid.largest().iter().map(ToString::to_string).collect();
    if parts.is_empty() { "scalar".into() } else { parts.join("x") }
}
