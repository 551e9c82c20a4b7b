//! Small chunks made and used in one task.
//!
//! Owns: which stages are made in their reader's tasks. Must not know: kernels. Invariant: a chunk that is made so has one reader, which reads it whole; what is
//! computed, and from what, stays the same to the bit.
//!
//! A task costs a few microseconds and some 250 bytes, whatever it does. Where a chunk is worth less, to make it and to use it is one task ([`Chain`]), and
//! the chunk itself is never in anybody's memory. Where there are many such chunks to be summed, several are, as they would be merged, in one task
//! ([`Batch`]).

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::stage::{Make, Need, StageId, Stages};
use super::{Destination, Lowering, Piece, TaskKind};
use crate::error::Result;
use crate::kernel::batch::Batch;
use crate::kernel::chain::{Chain, ChainStep, Feed};
use crate::kernel::{GpuFacts, Kernel, Lane, calm};
use crate::shape::{ChunkGrid, ChunkMeta, DType, Form};

/// The parameters of a routine for a chunk.
pub(super) type ChunkParams = Rc<dyn Fn(usize) -> Result<Vec<u8>>>;

/// How a stage makes chunk `n` from chunks `n` of its inputs, by one task.
#[derive(Clone)]
pub(super) struct Routine {
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) inputs: Vec<StageId>,
    pub(super) params: ChunkParams,
    /// The grid of its inputs, and of the output if that is no smaller.
    pub(super) grid: ChunkGrid,
    /// Dtype and shape of the output; no shape if it is the chunk's.
    pub(super) dtype: DType,
    pub(super) shape: Option<Vec<usize>>,
    /// The question whose answer is the output for chunk 0; the others follow.
    pub(super) first: usize,
    /// Whether it may be one of a chain though it has a GPU half: of so little, a GPU would gain nothing.
    pub(super) is_light: bool,
}

/// How the outputs of a routine are merged.
pub(super) struct Merging {
    pub(super) kernel: Arc<dyn Kernel>,
    /// The question whose answer is the first so many outputs merged; the others follow.
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) fan_in: usize,
}

/// So many merged results, at least, keep all cores busy: then each is made by one task.
const MANY_MERGED: usize = 64;

/// Largest chunk that is made in its reader's task.
const MOST_BYTES: usize = 1 << 16;
/// Most work on a chunk that is made there, in flops: some 20 us.
const MOST_FLOPS: f64 = 1e5;
/// Kernels of one chain, at most.
const MOST_STEPS: usize = 12;

/// Makes small chunks in their readers' tasks.
pub(super) fn fuse(stages: &mut Stages, uses: &[u32], order: &[StageId]) {
    let mut small = vec![false; stages.len()];
    for &stage in order {
        let Some(routine) = stages.at(stage).make.routine() else { continue };
        small[stage as usize] = is_small(&routine, stages);
        let steps_of = |stages: &Stages, input: StageId| stages.at(input).make.chain().map_or(1, |chain| chain.steps.len());
        if !small[stage as usize] {
            continue;
        }
        let (mut inlined, mut steps) = (Vec::new(), 1);
        for &input in &routine.inputs {
            let of = stages.at(input);
            let sole = uses[input as usize] == 1 && of.grid == routine.grid && of.dtype != DType::Bool;
            let fits = sole && small[input as usize] && of.make.routine().is_some_and(|input| input.shape.is_none());
            if fits && steps + steps_of(stages, input) <= MOST_STEPS {
                steps += steps_of(stages, input);
                inlined.push(input);
            }
        }
        let many = stages.at(stage).make.merging().is_some_and(|merging| merging.count >= MANY_MERGED);
        if inlined.is_empty() && !many {
            continue;
        }
        let fused = Fused::new(stages.at(stage).make.clone(), &routine, &inlined, stages);
        stages.replace(stage, Rc::new(fused), &inlined);
    }
}

/// Whether a routine's tasks cost less than a few tasks do.
fn is_small(routine: &Routine, stages: &Stages) -> bool {
    let shape = &routine.grid.largest()[..];
    if shape.iter().product::<usize>() * routine.dtype.bytes() > MOST_BYTES || routine.grid.is_empty() {
        return false;
    }
    let output = routine.shape.as_deref().unwrap_or(shape);
    let Ok(params) = (routine.params)(0) else { return false };
    let meta = |dtype, shape| ChunkMeta::new(dtype, shape);
    let inputs = routine.inputs.iter().map(|&input| meta(stages.at(input).dtype, shape));
    let metas: Vec<ChunkMeta<'_>> = inputs.chain([meta(routine.dtype, output)]).collect();
    let kernel = &*routine.kernel;
    let asked = calm(|| {
        let plain = (0..routine.inputs.len()).all(|input| kernel.input_form(&params, input) == Form::Plain);
        let on_gpus = !routine.is_light && kernel.program(&params, &metas, &GpuFacts::ANY).is_some();
        plain && !on_gpus && kernel.lane() == Lane::Compute && kernel.work(&params, &metas).flops <= MOST_FLOPS
    });
    asked.unwrap_or(false)
}

/// The kernels of a chain, each with where its parameters come from.
#[derive(Clone)]
pub(super) struct Steps {
    steps: Vec<(ChainStep, ChunkParams)>,
    /// The stages whose chunks are the chain's inputs.
    inputs: Vec<StageId>,
}

impl Steps {
    /// The steps of a routine, after those of the stages that are made in its tasks.
    fn joined(routine: &Routine, inlined: &[StageId], stages: &Stages) -> Self {
        let mut chain = Self { steps: Vec::new(), inputs: Vec::new() };
        let mut own = Vec::new();
        for &input in &routine.inputs {
            if !inlined.contains(&input) {
                own.push(Feed::Input(place(&mut chain.inputs, input)));
                continue;
            }
            let theirs = Self::of(stages, input);
            let before = chain.steps.len();
            let places: Vec<Feed> = theirs.inputs.iter().map(|&of| Feed::Input(place(&mut chain.inputs, of))).collect();
            for (link, params) in theirs.steps {
                let moved = |from: &Feed| match *from {
                    Feed::Input(input) => places[input],
                    Feed::Step(step) => Feed::Step(before + step),
                };
                let inputs = link.inputs.iter().map(moved).collect();
                chain.steps.push((ChainStep { inputs, ..link }, params));
            }
            own.push(Feed::Step(chain.steps.len() - 1));
        }
        let last = ChainStep { kernel: routine.kernel.clone(), inputs: own, dtype: routine.dtype };
        chain.steps.push((last, routine.params.clone()));
        chain
    }

    /// Whether it is one kernel, on inputs each of which is another.
    fn is_plain(&self) -> bool {
        self.steps.len() == 1 && self.steps[0].0.inputs.len() == self.inputs.len()
    }

    fn of(stages: &Stages, stage: StageId) -> Self {
        let make = &stages.at(stage).make;
        make.chain().cloned().unwrap_or_else(|| Self::alone(&make.routine().expect("looked at")))
    }

    fn alone(routine: &Routine) -> Self {
        let inputs = (0..routine.inputs.len()).map(Feed::Input).collect();
        let link = ChainStep { kernel: routine.kernel.clone(), inputs, dtype: routine.dtype };
        Self { steps: vec![(link, routine.params.clone())], inputs: routine.inputs.clone() }
    }
}

/// A stage that makes chunks of others in its own tasks.
struct Fused {
    /// As it would be alone: what is not a routine of it stays.
    alone: Rc<dyn Make>,
    routine: Routine,
    chain: Steps,
    task: TaskKind,
    /// Where many outputs are merged: how, and the task that makes several and merges them.
    merged: Option<(Merging, TaskKind)>,
}

impl Fused {
    fn new(alone: Rc<dyn Make>, routine: &Routine, inlined: &[StageId], stages: &Stages) -> Self {
        let chain = Steps::joined(routine, inlined, stages);
        let kernel: Arc<dyn Kernel> = match chain.is_plain() {
            true => routine.kernel.clone(),
            false => Arc::new(Chain::new(chain.steps.iter().map(|step| step.0.clone()).collect())),
        };
        let parts: Vec<Arc<dyn Kernel>> = chain.steps.iter().map(|step| step.0.kernel.clone()).collect();
        let extents = super::extents(&routine.grid);
        let merging = alone.merging().filter(|merging| merging.count >= MANY_MERGED);
        let merged = merging.map(|merging| {
            let makes = (routine.dtype, routine.shape.clone().unwrap_or_default());
            let (part, merge) = (kernel.clone(), merging.kernel.clone());
            let batch = Arc::new(Batch { part, inputs: chain.inputs.len(), makes, merge });
            let label = format!("{} of {} {extents}", batch.name(), merging.fan_in);
            (merging, TaskKind { parts: parts.clone(), ..TaskKind::new(batch, label) })
        });
        let label = format!("{} {extents}", kernel.name());
        Self { alone, routine: routine.clone(), chain, task: TaskKind { parts, ..TaskKind::new(kernel, label) }, merged }
    }

    /// The chunk that a question is for, if it is one of the routine.
    fn chunk(&self, question: usize) -> Option<usize> {
        question.checked_sub(self.routine.first).filter(|&chunk| chunk < self.routine.grid.len())
    }

    /// The chunks that a question is for, if it is one for several merged.
    fn chunks(&self, question: usize) -> Option<Range<usize>> {
        let (merging, _) = self.merged.as_ref()?;
        let merge = question.checked_sub(merging.first).filter(|&merge| merge < merging.count)?;
        Some(merge * merging.fan_in..((merge + 1) * merging.fan_in).min(self.routine.grid.len()))
    }

    /// The parameters of the chain for a chunk.
    fn params(&self, chunk: usize) -> Result<Vec<u8>> {
        if self.chain.is_plain() {
            return (self.routine.params)(chunk);
        }
        let params: Vec<Vec<u8>> = self.chain.steps.iter().map(|step| (step.1)(chunk)).collect::<Result<_>>()?;
        Ok(Chain::params(&self.routine.grid.region(chunk).shape(), params.iter().map(Vec::as_slice)))
    }
}

/// The place of a stage in a list, in which it is put if it is not there.
fn place(list: &mut Vec<StageId>, stage: StageId) -> usize {
    list.iter().position(|&known| known == stage).unwrap_or_else(|| {
        list.push(stage);
        list.len() - 1
    })
}

impl Make for Fused {
    fn needs(&self, question: usize, needs: &mut Vec<Need>) {
        let of = |chunk: usize| self.chain.inputs.iter().map(move |&stage| (stage, chunk));
        match (self.chunk(question), self.chunks(question)) {
            (Some(chunk), _) => needs.extend(of(chunk)),
            (_, Some(chunks)) => needs.extend(chunks.flat_map(of)),
            _ => self.alone.needs(question, needs),
        }
    }

    fn make(&self, question: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let (chunk, chunks) = (self.chunk(question), self.chunks(question));
        let (params, task) = match (chunk, &chunks, &self.merged) {
            (Some(chunk), ..) => (self.params(chunk)?, &self.task),
            (_, Some(chunks), Some((_, task))) => {
                let params: Vec<Vec<u8>> = chunks.clone().map(|chunk| self.params(chunk)).collect::<Result<_>>()?;
                (Batch::params(params.iter().map(Vec::as_slice)), task)
            }
            _ => return self.alone.make(question, given, place, lw),
        };
        let shape = || self.routine.grid.region(chunk.unwrap_or(0)).shape();
        let out = lw.out(place, self.routine.dtype, &self.routine.shape.clone().unwrap_or_else(shape));
        lw.task(task, &params, given, out)
    }

    fn tasks(&self, grid: &ChunkGrid) -> usize {
        self.merged.as_ref().map_or_else(|| self.alone.tasks(grid), |(merging, ..)| merging.count)
    }

    fn step_count(&self) -> Option<usize> {
        self.merged.as_ref().map_or_else(|| self.alone.step_count(), |(merging, ..)| Some(merging.count))
    }

    fn step(&self, number: usize) -> Vec<usize> {
        let Some((merging, ..)) = &self.merged else { return self.alone.step(number) };
        let last = ((number + 1) * merging.fan_in).min(self.routine.grid.len()) - 1;
        let further = self.alone.step(last).into_iter().filter(|&question| question >= merging.first + merging.count);
        [merging.first + number].into_iter().chain(further).collect()
    }

    fn routine(&self) -> Option<Routine> {
        Some(self.routine.clone())
    }

    fn chain(&self) -> Option<&Steps> {
        Some(&self.chain)
    }
}
