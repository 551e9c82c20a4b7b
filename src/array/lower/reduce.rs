//! Stages that make few numbers of many.
//!
//! Owns: the tree by which partial results are merged. Must not know: files, beyond that a source can be summed as it is read ([`super::scan`]). Invariant: the tree's shape
//! follows from the number of partial results alone, and that from the chunk grid.

use std::rc::Rc;
use std::sync::Arc;

use super::super::expr::Reduce;
use super::draft::{Around, Recipe};
use super::feeds::Fed;
use super::fuse::{Merging, Routine};
use super::scan::{Files, scanned};
use super::stage::{Make, Need, StageId};
use super::{Destination, Lowering, Piece, TaskKind, extents};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::kernel::map::ScalarProgram;
use crate::kernel::reduce::{MergeParts, ReduceChunk};
use crate::shape::{ChunkGrid, DType};

/// How what is left of some axes is made of all elements along them.
pub(super) fn make(
    (reduce, dtype): (&Reduce, DType),
    this: StageId,
    (recipe, fed): (&Recipe, &Fed),
    around: &Around<'_>,
    lw: &mut Lowering,
) -> Result<Rc<dyn Make>> {
    let grid = around.stage(recipe.inputs[0]).1.grid.clone();
    let program = reduce.program(around.stage(recipe.inputs[0]).1.dtype);
    let places = ChunkPlaces::new(&grid, &reduce.axes);
    let files = scanned(reduce, &program, recipe, around);
    // A look at each chunk of a file follows; of what is made, some are reduced in one task.
    lw.budget.has_room(if files.is_some() { grid.len() } else { grid.len() / reduce.split_every })?;
    let parts = files.as_ref().map_or(places.parts, Files::len);
    let extents_of = |axes: &[usize]| axes.iter().map(|&axis| grid.shape()[axis]).collect::<Vec<_>>();
    let kernel = ReduceChunk::new(reduce.what, (&reduce.axes, &extents_of(&reduce.axes)), program.clone()).fed(fed.feeds());
    // Where a GPU without numbers of 64 bits may take a chunk, what is left to do afterwards, which takes them, is a task of its own.
    let is_direct = files.is_none() && parts == 1 && (lw.gpus.are_wide || !kernel.runs_without_64_bits());
    let kernel = if is_direct { kernel.finishing(reduce.then.clone()) } else { kernel };
    let name = kernel.name();
    let merge = MergeParts::new(reduce.what, program.dtype());
    let finish = MergeParts::new(reduce.what, program.dtype()).finishing(reduce.then.clone());
    Ok(Rc::new(ReduceStage {
        this,
        tree: QuestionTree::new(recipe.grid.len(), parts, reduce.split_every, is_direct),
        places,
        files,
        stages: fed.chunks(&recipe.inputs),
        fed: fed.clone(),
        part: TaskKind::new(Arc::new(kernel), format!("{name} {}", extents(&grid))),
        merge: TaskKind::new(Arc::new(merge), format!("merge {}", reduce.what.name())),
        finish: TaskKind::new(Arc::new(finish), format!("finish {}", reduce.what.name())),
        partial: reduce.what.partial(program.dtype()),
        is_numbered: reduce.what.is_numbered(),
        grids: (grid, recipe.grid.clone()),
        dtype,
    }))
}

impl Reduce {
    /// The program of what is reduced, of inputs of which the first is of this dtype.
    pub(super) fn program(&self, input: DType) -> Arc<ScalarProgram> {
        self.of.as_ref().map_or_else(|| Arc::new(ScalarProgram::identity(input)), |(program, _)| program.clone())
    }
}

/// Where the chunks are that a chunk of the result is made of.
#[derive(Clone)]
struct ChunkPlaces {
    /// Of the axes that are left, in their order, and of the reduced ones: how many chunks there are, and how far apart these are in C order.
    kept: Vec<(usize, usize)>,
    reduced: Vec<(usize, usize)>,
    /// Chunks for each of the result.
    parts: usize,
    /// Of each axis, whether it is reduced.
    is_reduced: Vec<bool>,
}

impl ChunkPlaces {
    fn new(grid: &ChunkGrid, axes: &[usize]) -> Self {
        let (mut kept, mut reduced, mut apart) = (Vec::new(), Vec::new(), 1);
        for (axis, &count) in grid.counts().iter().enumerate().rev() {
            if axes.contains(&axis) { &mut reduced } else { &mut kept }.push((count, apart));
            apart *= count;
        }
        kept.reverse();
        reduced.reverse();
        let is_reduced = (0..grid.counts().len()).map(|axis| axes.contains(&axis)).collect();
        Self { parts: reduced.iter().map(|(count, _)| count).product(), kept, reduced, is_reduced }
    }

    /// The chunk that is part `part` of chunk `result` of the result.
    fn chunk(&self, result: usize, part: usize) -> usize {
        let place = |axes: &[(usize, usize)], mut number: usize| {
            let of = |&(count, apart): &(usize, usize)| {
                let at = number % count;
                number /= count;
                at * apart
            };
            axes.iter().rev().map(of).sum::<usize>()
        };
        place(&self.kept, result) + place(&self.reduced, part)
    }
}

/// The questions of a reduction: first those for the results, then for each result its partial ones, and what they are merged to, level by level.
pub(super) struct QuestionTree {
    results: usize,
    fan_in: usize,
    /// Of one result: the first question of each level, and how many there are: no more at the last than are merged at once.
    levels: Vec<(usize, usize)>,
    /// Questions of one result.
    size: usize,
}

/// What a question of a reduction is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// This result.
    Result(usize),
    /// Of a result, what is at this level and place.
    Part { result: usize, level: usize, at: usize },
}

impl QuestionTree {
    /// Of so many results of so many parts each, if there is a question for each part.
    fn new(results: usize, parts: usize, fan_in: usize, is_direct: bool) -> Self {
        let levels = if is_direct { Vec::new() } else { levels(parts, fan_in) };
        let size = levels.last().map_or(0, |(first, count)| first + count);
        Self { results, fan_in, levels, size }
    }

    fn asks(&self, question: usize) -> Asks {
        let Some(further) = question.checked_sub(self.results) else { return Asks::Result(question) };
        let (result, further) = (further / self.size, further % self.size);
        let level = self.levels.partition_point(|level| level.0 <= further) - 1;
        Asks::Part { result, level, at: further - self.levels[level].0 }
    }

    /// The questions about what is merged: for a result, or for a part that is none of level 0.
    fn merged(&self, asks: Asks) -> std::ops::Range<usize> {
        let (result, first, range) = match asks {
            Asks::Result(result) => {
                let Some(&(first, count)) = self.levels.last() else { return 0..0 };
                (result, first, 0..count)
            }
            Asks::Part { result, level, at } => {
                let (first, count) = self.levels[level - 1];
                (result, first, at * self.fan_in..count.min((at + 1) * self.fan_in))
            }
        };
        let before = self.results + result * self.size + first;
        before + range.start..before + range.end
    }
}

/// First question and number of each level, from the parts on.
fn levels(parts: usize, fan_in: usize) -> Vec<(usize, usize)> {
    let (mut first, mut count) = (0, parts);
    let mut levels = vec![(first, count)];
    while count > fan_in {
        first += count;
        count = count.div_ceil(fan_in);
        levels.push((first, count));
    }
    levels
}

/// Number of tasks for so many results of so many parts.
pub(in super::super) fn tree_tasks(results: usize, parts: usize, fan_in: usize) -> usize {
    if parts == 1 {
        return results;
    }
    let one = levels(parts, fan_in).iter().map(|level| level.1).fold(1, usize::saturating_add);
    results.saturating_mul(one)
}

struct ReduceStage {
    this: StageId,
    tree: QuestionTree,
    places: ChunkPlaces,
    /// If the parts are summed as they are read.
    files: Option<Files>,
    /// What is reduced: chunks of these, and what is made.
    stages: Vec<StageId>,
    fed: Fed,
    part: TaskKind,
    merge: TaskKind,
    finish: TaskKind,
    /// Dtype of a partial result, and words for each element.
    partial: (DType, usize),
    is_numbered: bool,
    /// Of what is reduced, and of the result.
    grids: (ChunkGrid, ChunkGrid),
    dtype: DType,
}

impl ReduceStage {
    /// The shape of a partial result.
    fn partial_shape(&self, result: usize) -> Vec<usize> {
        [self.partial.1].into_iter().chain(self.grids.1.region(result).shape()).collect()
    }

    /// The parameters for a chunk: where it begins along the reduced axes, if elements have numbers.
    fn params(&self, chunk: usize) -> Vec<u8> {
        let own = params(&self.grids.0, &self.places, self.is_numbered, chunk);
        self.fed.params(own.into(), &self.grids.0, chunk).into_owned()
    }

    /// Whether there is one result, of all elements.
    fn is_total(&self) -> bool {
        self.places.kept.is_empty()
    }
}

fn params(grid: &ChunkGrid, places: &ChunkPlaces, is_numbered: bool, chunk: usize) -> Vec<u8> {
    if !is_numbered {
        return Vec::new();
    }
    let region = grid.region(chunk);
    let reduced = region.axes().iter().zip(&places.is_reduced).filter(|(_, is_reduced)| **is_reduced);
    reduced.flat_map(|(range, _)| (range.start as u64).to_ne_bytes()).collect()
}

impl Make for ReduceStage {
    fn needs(&self, question: usize, needs: &mut Vec<Need>) {
        let of_chunk = |result: usize, part: usize| {
            let chunk = self.places.chunk(result, part);
            self.stages.iter().map(move |&stage| (stage, chunk))
        };
        match (self.tree.asks(question), &self.files) {
            (Asks::Part { level: 0, at, .. }, Some(files)) => files.needs(at, needs),
            (Asks::Part { result, level: 0, at }, None) => needs.extend(of_chunk(result, at)),
            (Asks::Result(result), None) if self.tree.levels.is_empty() => needs.extend(of_chunk(result, 0)),
            (asks, _) => needs.extend(self.tree.merged(asks).map(|question| (self.this, question))),
        }
    }

    fn make(&self, question: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let (result, level, at) = match self.tree.asks(question) {
            Asks::Result(result) => {
                let out = lw.out(place, self.dtype, &self.grids.1.region(result).shape());
                return match self.tree.levels.is_empty() {
                    true => lw.task(&self.part, &self.params(self.places.chunk(result, 0)), given, out),
                    false => lw.task(&self.finish, &[], given, out),
                };
            }
            Asks::Part { result, level, at } => (result, level, at),
        };
        let out = lw.out(&Destination::Pool, self.partial.0, &self.partial_shape(result));
        match &self.files {
            _ if level > 0 => lw.task(&self.merge, &[], given, out),
            Some(files) => files.make(at, given, out, lw),
            None => lw.task(&self.part, &self.params(self.places.chunk(result, at)), given, out),
        }
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        self.tree.results.saturating_mul(self.tree.levels.iter().fold(1, |sum, level| sum.saturating_add(level.1)))
    }

    fn needs_all(&self) -> bool {
        self.files.is_none()
    }

    fn routine(&self) -> Option<Routine> {
        if self.files.is_some() || !self.is_total() || self.tree.levels.is_empty() {
            return None;
        }
        let (grid, places, is_numbered) = (self.grids.0.clone(), self.places.clone(), self.is_numbered);
        let fed = self.fed.clone();
        Some(Routine {
            kernel: self.part.kernel.clone(),
            inputs: self.stages.clone(),
            params: Rc::new(move |chunk| {
                Ok(fed.params(params(&grid, &places, is_numbered, chunk).into(), &grid, chunk).into_owned())
            }),
            grid: self.grids.0.clone(),
            dtype: self.partial.0,
            shape: Some(vec![self.partial.1]),
            first: self.tree.results,
            is_light: true,
        })
    }

    fn merging(&self) -> Option<Merging> {
        let &(first, count) = self.tree.levels.get(1)?;
        let first = self.tree.results + first;
        Some(Merging { kernel: self.merge.kernel.clone(), first, count, fan_in: self.tree.fan_in })
    }

    fn step_count(&self) -> Option<usize> {
        (self.is_total() && !self.tree.levels.is_empty()).then(|| self.tree.levels[0].1)
    }

    /// A partial result, and whatever can be merged then.
    fn step(&self, part: usize) -> Vec<usize> {
        let mut questions = vec![self.tree.results + part];
        let mut width = self.tree.fan_in;
        for &(first, count) in &self.tree.levels[1..] {
            if !(part + 1).is_multiple_of(width) || (part + 1) / width > count {
                break;
            }
            questions.push(self.tree.results + first + (part + 1) / width - 1);
            width = width.saturating_mul(self.tree.fan_in);
        }
        questions
    }
}
