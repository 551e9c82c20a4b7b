//! Stages that make one number of many.
//!
//! Owns: the tree by which partial results are merged. Must not know: files, beyond that a source can be summed as it is read. Invariant: the tree's shape follows
//! from the number of partial results alone, and that from the chunk grid.

use std::rc::Rc;
use std::sync::Arc;

use super::super::expr::Reduction;
use super::fuse::{Merging, Routine};
use super::stage::{Around, Kind, Make, Need, Recipe, StageId};
use super::{Destination, Lowering, Piece, TaskKind, extents};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::kernel::sums::{Add, DivideSums, MergeSums, SumChunk, SumIntegers, TakeSum, WeightedSumChunk};
use crate::shape::{ChunkGrid, DType, Region};
use crate::store::{Cut, ScanSum, ScanWeightedSum, SumRead, WeighRead};

/// Partial results merged by one task.
const FAN_IN: usize = 32;

/// How one number is made of all elements.
pub(super) fn make(
    (reduction, dtype): (Reduction, DType),
    this: StageId,
    recipe: &Recipe,
    around: &Around<'_>,
    lw: &mut Lowering,
) -> Result<Rc<dyn Make>> {
    let grid = around.stage(recipe.inputs[0]).1.grid.clone();
    let integers = reduction == Reduction::Sum && !dtype.is_float();
    let scans = if integers { None } else { scans(recipe, around) };
    // A look at each chunk of a file follows; of what is made, some are summed in one task.
    lw.budget.has_room(if scans.is_some() { grid.len() } else { grid.len() / FAN_IN })?;
    let parts = match scans.as_deref() {
        Some([scan]) => scan.parts(),
        _ => Partials::Each(grid.len()),
    };
    let from = match scans {
        Some(scans) => {
            let mut first = 0;
            let files = scans.into_iter().map(|scan| {
                let file = scan.file((verb(reduction), &extents(&grid)), first);
                first += scan.chunks();
                file
            });
            From::Files(files.collect())
        }
        None => {
            let (partial, name): (Arc<dyn Kernel>, _) = match reduction {
                Reduction::WeightedMean => (Arc::new(WeightedSumChunk), "weighted_sum"),
                _ if integers => (Arc::new(SumIntegers), "sum_integers"),
                _ => (Arc::new(SumChunk), "block_sum"),
            };
            let task = TaskKind::new(partial, format!("{name} {}", extents(&grid)));
            From::Chunks { stages: recipe.inputs.clone(), grid, task }
        }
    };
    let merge: Arc<dyn Kernel> = if integers { Arc::new(Add) } else { Arc::new(MergeSums) };
    let merge = TaskKind::new(merge, "merge sums".into());
    let finish = match reduction {
        _ if integers => TaskKind::new(Arc::new(Add), "sum".into()),
        Reduction::Sum => TaskKind::new(Arc::new(TakeSum), "sum".into()),
        _ => TaskKind::new(Arc::new(DivideSums), "divide".into()),
    };
    let partial = if integers { (dtype, vec![]) } else { (DType::F64, vec![2]) };
    let levels = levels(parts.len());
    Ok(Rc::new(Sum { this, parts, from, levels, merge, finish, partial, dtype }))
}

fn verb(reduction: Reduction) -> &'static str {
    if reduction == Reduction::WeightedMean { "weigh" } else { "sum" }
}

/// The first question about the partial results of each level, and how many there are: 1 at the last, and none before if there is nothing to merge.
fn levels(parts: usize) -> Vec<(usize, usize)> {
    let (mut first, mut count) = (1, parts);
    let mut levels = vec![(first, count)];
    while count != 1 {
        first += count;
        count = count.div_ceil(FAN_IN).max(1);
        levels.push((first, count));
    }
    levels
}

/// Number of tasks for so many partial results.
pub(in super::super) fn tree_tasks(parts: usize) -> usize {
    levels(parts).iter().map(|level| level.1).fold(1, usize::saturating_add)
}

/// Question 0 is the result; then come the partial results, and what they are merged to, level by level.
struct Sum {
    this: StageId,
    parts: Partials,
    from: From,
    levels: Vec<(usize, usize)>,
    merge: TaskKind,
    finish: TaskKind,
    /// Dtype and shape of a partial result.
    partial: (DType, Vec<usize>),
    dtype: DType,
}

/// What makes partial results.
enum From {
    /// Chunks of these stages, cut so.
    Chunks { stages: Vec<StageId>, grid: ChunkGrid, task: TaskKind },
    /// Files, one after the other.
    Files(Vec<File>),
}

/// A file that is summed in the order in which it is stored.
struct File {
    /// The number of its first chunk, of those of all files.
    first: usize,
    /// Sums chunks as it reads them.
    scan: TaskKind,
    /// If others want its chunks too: the stages that read it, and what sums a chunk that was read, to the same bits.
    read: Option<(Vec<StageId>, TaskKind)>,
}

/// The parts of which there is a partial result each.
enum Partials {
    /// So many chunks.
    Each(usize),
    /// From one chunk to another: neighbours that were never written are one part, which costs nothing to sum.
    Runs(Vec<[u64; 2]>),
}

impl Partials {
    fn len(&self) -> usize {
        match self {
            Self::Each(count) => *count,
            Self::Runs(runs) => runs.len(),
        }
    }

    fn run(&self, part: usize) -> [u64; 2] {
        match self {
            Self::Each(_) => [part as u64; 2],
            Self::Runs(runs) => runs[part],
        }
    }
}

impl Sum {
    /// Level and place of a question in the tree.
    fn place(&self, question: usize) -> Option<(usize, usize)> {
        let level = self.levels.partition_point(|level| level.0 <= question).checked_sub(1)?;
        Some((level, question - self.levels[level].0))
    }

    /// The file of a part, and its first and last chunk there.
    fn in_file<'a>(&self, files: &'a [File], part: usize) -> (&'a File, [u64; 2]) {
        let run = self.parts.run(part);
        let file = &files[files.partition_point(|file| file.first as u64 <= run[0]) - 1];
        (file, run.map(|number| number - file.first as u64))
    }

    /// How a part is summed if it was read: what was never written is not.
    fn is_read<'a>(&self, file: &'a File, part: usize) -> Option<&'a (Vec<StageId>, TaskKind)> {
        let [first, last] = self.parts.run(part);
        file.read.as_ref().filter(|_| first == last)
    }
}

impl Make for Sum {
    fn needs(&self, question: usize, needs: &mut Vec<Need>) {
        match self.place(question) {
            None => needs.extend(self.levels.last().map(|(first, count)| (self.this, first + count - 1))),
            Some((0, part)) => match &self.from {
                From::Chunks { stages, .. } => needs.extend(stages.iter().map(|&stage| (stage, part))),
                From::Files(files) => {
                    let (file, [first, _]) = self.in_file(files, part);
                    let stages = self.is_read(file, part).map_or(&[][..], |(stages, _)| stages);
                    needs.extend(stages.iter().map(|&stage| (stage, first as usize)));
                }
            },
            Some((level, at)) => {
                let (first, count) = self.levels[level - 1];
                needs.extend((at * FAN_IN..count.min((at + 1) * FAN_IN)).map(|i| (self.this, first + i)));
            }
        }
    }

    fn make(&self, question: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let Some((level, part)) = self.place(question) else {
            let out = lw.out(place, self.dtype, &[]);
            return lw.task(&self.finish, &[], given, out);
        };
        let out = lw.out(&Destination::Pool, self.partial.0, &self.partial.1);
        match &self.from {
            _ if level > 0 => lw.task(&self.merge, &[], given, out),
            From::Chunks { task, .. } => lw.task(task, &[], given, out),
            From::Files(files) => {
                let (file, run) = self.in_file(files, part);
                match self.is_read(file, part) {
                    Some((_, task)) => lw.task(task, bytemuck::bytes_of(&run[0]), given, out),
                    None => lw.task(&file.scan, bytemuck::bytes_of(&run), &[], out),
                }
            }
        }
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        self.parts.len().saturating_add(self.parts.len() / (FAN_IN - 1)).saturating_add(1)
    }

    fn needs_all(&self) -> bool {
        matches!(self.from, From::Chunks { .. })
    }

    fn routine(&self) -> Option<Routine> {
        let From::Chunks { stages, grid, task } = &self.from else { return None };
        Some(Routine {
            kernel: task.kernel.clone(),
            inputs: stages.clone(),
            params: Rc::new(|_| Ok(Vec::new())),
            grid: grid.clone(),
            dtype: self.partial.0,
            shape: Some(self.partial.1.clone()),
            first: 1,
            is_light: true,
        })
    }

    fn merging(&self) -> Option<Merging> {
        let &(first, count) = self.levels.get(1)?;
        Some(Merging { kernel: self.merge.kernel.clone(), first, count, fan_in: FAN_IN })
    }

    fn step_count(&self) -> Option<usize> {
        Some(self.parts.len())
    }

    /// A partial result, and whatever can be merged then.
    fn step(&self, part: usize) -> Vec<usize> {
        let mut questions = vec![1 + part];
        let mut width = FAN_IN;
        for &(first, count) in &self.levels[1..] {
            if !(part + 1).is_multiple_of(width) || (part + 1) / width > count {
                break;
            }
            questions.push(first + (part + 1) / width - 1);
            width = width.saturating_mul(FAN_IN);
        }
        questions
    }
}

/// What can be summed in the order in which it is stored: a file, or two of which one has the weights.
struct Scan {
    values: Cut,
    weights: Option<Cut>,
    /// The stages that read it, if others want its chunks too.
    stages: Option<Vec<StageId>>,
}

impl Scan {
    fn chunks(&self) -> usize {
        self.values.grid.len()
    }

    fn file(&self, (verb, extents): (&str, &str), first: usize) -> File {
        let (values, weights) = (self.values.clone(), self.weights.clone());
        let (scan, read): (Arc<dyn Kernel>, Arc<dyn Kernel>) = match weights {
            None => (Arc::new(ScanSum(values.clone())), Arc::new(SumRead(values))),
            Some(w) => {
                let scan = ScanWeightedSum::new(values.clone(), w.clone()).expect("cut alike");
                (Arc::new(scan), Arc::new(WeighRead { x: values, w }))
            }
        };
        let read = self.stages.clone().map(|stages| (stages, TaskKind::new(read, format!("{verb} {extents}"))));
        File { first, scan: TaskKind::new(scan, format!("read and {verb} {extents}")), read }
    }

    /// The chunks, neighbours that were never written joined.
    fn parts(&self) -> Partials {
        let is_empty = |region: &Region| {
            let constant = |cut: &Cut| cut.source.constant(&cut.region.part(region)).is_some();
            constant(&self.values) && self.weights.as_ref().is_none_or(constant)
        };
        Partials::Runs(unwritten_joined(&self.values.grid, is_empty))
    }
}

/// The files whose chunks are those of the inputs: these are summed in the order in which they are stored, whoever else wants them.
fn scans(recipe: &Recipe, around: &Around<'_>) -> Option<Vec<Scan>> {
    let cut = |stage: StageId| match around.stage(stage) {
        // The sum is that of the elements: of numbers that are rounded when they are read, not of those that are stored.
        (Kind::Read(source, region), recipe) if recipe.dtype == source.dtype() || recipe.dtype == DType::F64 => {
            Some(Cut { source: source.clone(), region: region.clone(), grid: recipe.grid.clone() })
        }
        _ => None,
    };
    let one = |stage: StageId, is_sole: bool| {
        let stages = (!is_sole || !around.is_sole(stage)).then(|| vec![stage]);
        Some(Scan { values: cut(stage)?, weights: None, stages })
    };
    match recipe.inputs[..] {
        [values] => match around.stage(values) {
            // Chunks of one file after those of another only where it is the first axis that they follow each other along.
            (Kind::Concat(0), joined) => joined.inputs.iter().map(|&file| one(file, around.is_sole(values))).collect(),
            _ => Some(vec![one(values, true)?]),
        },
        [values, weights] => {
            let are_sole = around.is_sole(values) && around.is_sole(weights);
            let stages = (!are_sole).then(|| vec![values, weights]);
            // Both are read as `f64`, which a source need not give.
            let cut = |stage| cut(stage).filter(|cut| cut.source.dtype() == DType::F64 || cut.source.converts());
            Some(vec![Scan { values: cut(values)?, weights: Some(cut(weights)?), stages }])
        }
        _ => None,
    }
}

/// The first and last chunk of each part: a chunk, or a run of unwritten ones that follow each other along the first axis and span all others.
fn unwritten_joined(grid: &ChunkGrid, is_empty: impl Fn(&Region) -> bool) -> Vec<[u64; 2]> {
    let shape = grid.shape();
    if !grid.is_empty() && is_empty(&Region::all(shape)) {
        return vec![[0, grid.len() as u64 - 1]];
    }
    let slab = |r: &Region| r.axes().iter().zip(shape).skip(1).all(|(a, &n)| a.len == n);
    let mut out: Vec<([u64; 2], bool)> = Vec::with_capacity(grid.len());
    for number in 0..grid.len() {
        let region = grid.region(number);
        let empty = slab(&region) && !shape.is_empty() && is_empty(&region);
        match out.last_mut() {
            Some((last, true)) if empty => last[1] = number as u64,
            _ => out.push(([number as u64; 2], empty)),
        }
    }
    out.into_iter().map(|(part, _)| part).collect()
}
