//! Sums of files, in the order in which they are stored.
//!
//! Owns: which reductions are such sums, and which task sums which chunks. Must not know: how a file is read. Invariant: a chunk that was never written is not read, and
//! what is summed has the same bits whether the chunks are read for the sum alone or for others too.

use std::sync::Arc;

use super::super::expr::Reduce;
use super::draft::{Around, Kind, Recipe};
use super::stage::{Need, StageId};
use super::{Lowering, Piece, TaskKind, extents};
use crate::error::Result;
use crate::id::ValueId;
use crate::kernel::Kernel;
use crate::kernel::map::ScalarProgram;
use crate::kernel::reduce::Reduction;
use crate::shape::{ChunkGrid, DType, Region};
use crate::store::{Cut, ScanSum, ScanWeightedSum, SumRead, WeighRead};

/// Files that are summed one after the other, in parts.
pub(super) struct Files {
    files: Vec<File>,
    /// From one chunk to another: neighbours that were never written are one part, which costs nothing to sum.
    parts: Vec<[u64; 2]>,
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

impl Files {
    /// Number of parts.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// The file of a part, and its first and last chunk there.
    fn part(&self, part: usize) -> (&File, [u64; 2]) {
        let run = self.parts[part];
        let file = &self.files[self.files.partition_point(|file| file.first as u64 <= run[0]) - 1];
        (file, run.map(|number| number - file.first as u64))
    }

    /// How a part is summed if it was read: what was never written is not.
    fn read(&self, part: usize) -> Option<&(Vec<StageId>, TaskKind)> {
        let [first, last] = self.parts[part];
        self.part(part).0.read.as_ref().filter(|_| first == last)
    }

    pub(super) fn needs(&self, part: usize, needs: &mut Vec<Need>) {
        if let Some((stages, _)) = self.read(part) {
            let chunk = self.part(part).1[0] as usize;
            needs.extend(stages.iter().map(|&stage| (stage, chunk)));
        }
    }

    /// The task that sums a part.
    pub(super) fn make(&self, part: usize, given: &[Piece], out: ValueId, lw: &mut Lowering) -> Result<Piece> {
        let (file, run) = self.part(part);
        match self.read(part) {
            Some((_, task)) => lw.task(task, bytemuck::bytes_of(&run[0]), given, out),
            None => lw.task(&file.scan, bytemuck::bytes_of(&run), &[], out),
        }
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
    fn file(self, extents: &str, first: usize) -> File {
        let verb = if self.weights.is_some() { "weigh" } else { "sum" };
        let (values, weights) = (self.values, self.weights);
        let (scan, read): (Arc<dyn Kernel>, Arc<dyn Kernel>) = match weights {
            None => (Arc::new(ScanSum(values.clone())), Arc::new(SumRead(values))),
            Some(w) => {
                let scan = ScanWeightedSum::new(values.clone(), w.clone()).expect("cut alike");
                (Arc::new(scan), Arc::new(WeighRead { x: values, w }))
            }
        };
        let read = self.stages.map(|stages| (stages, TaskKind::new(read, format!("{verb} {extents}"))));
        File { first, scan: TaskKind::new(scan, format!("read and {verb} {extents}")), read }
    }

    /// The chunks, neighbours that were never written joined.
    fn parts(&self) -> Vec<[u64; 2]> {
        let is_empty = |region: &Region| {
            let constant = |cut: &Cut| cut.source.constant(&cut.region.part(region)).is_some();
            constant(&self.values) && self.weights.as_ref().is_none_or(constant)
        };
        unwritten_joined(&self.values.grid, is_empty)
    }
}

/// The files whose chunks are summed by a reduction, each as it is stored; `None` if it is no sum of files in `f64`.
pub(super) fn scanned(reduce: &Reduce, program: &ScalarProgram, recipe: &Recipe, around: &Around<'_>) -> Option<Files> {
    let grid = &around.stage(recipe.inputs[0]).1.grid;
    if reduce.what != Reduction::Sum || reduce.axes.len() < grid.shape().len() {
        return None;
    }
    let scans = scans(program, recipe, around)?;
    let parts = match &scans[..] {
        [scan] => scan.parts(),
        _ => (0..grid.len() as u64).map(|chunk| [chunk; 2]).collect(),
    };
    let (extents, mut first) = (extents(grid), 0);
    let files = scans.into_iter().map(|scan| {
        let chunks = scan.values.grid.len();
        let file = scan.file(&extents, first);
        first += chunks;
        file
    });
    Some(Files { files: files.collect(), parts })
}

/// The files of which this program makes what is summed: the numbers themselves, or these times weights, and the weights.
fn scans(program: &ScalarProgram, recipe: &Recipe, around: &Around<'_>) -> Option<Vec<Scan>> {
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
        [values] if program.is_in_f64() => match around.stage(values) {
            // Chunks of one file after those of another only where it is the first axis that they follow each other along.
            (Kind::Concat(0), joined) => joined.inputs.iter().map(|&file| one(file, around.is_sole(values))).collect(),
            _ => Some(vec![one(values, true)?]),
        },
        [values, weights] if program.is_weighted() => {
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
