//! Reductions: many elements to one, along some axes of a chunk.
//!
//! Owns: [`Reduction`], the kernels [`ReduceChunk`] and [`MergeParts`]. Must not know: arrays, how chunks become one. Invariant: what a chunk is reduced to depends on its
//! shape and elements alone, to the bit: not on how it lies in memory, nor on what the CPU can do.
//!
//! A chunk is reduced as it is computed: a program ([`super::map`]) makes lines of it, of which nothing is kept. `nest` says in which order, `along` and `across`
//! take the lines in, `kinds` has what becomes of elements, `folds` and `put` the loops for that, `merge` what becomes of the results of several chunks.

mod across;
mod along;
mod folds;
mod gpu;
mod kinds;
mod merge;
mod nest;
mod put;
#[cfg(test)]
mod tests;
mod tree;

use std::borrow::Cow;
use std::sync::Arc;

use bytemuck::cast_slice;
use smallvec::SmallVec;

pub use merge::MergeParts;

use super::generate::Feeds;
use super::map::wgsl::missing;
use super::map::{Builder, LineInputs, Lines, ROWS, ScalarProgram, Strip, Takes, is_steady};
use super::{Content, Fault, GpuFacts, Kernel, OpClass, OpMix, Program, Scratch, Structure, Work, check_dtypes};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout};
use across::Across;
use along::Along;
use folds::{MOST_WORDS, Ops};
use merge::Finish;
use nest::Nest;

/// What elements are reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reduction {
    /// Their sum: of floats in `f64`, of integers (`true` being 1) modulo 2^64. 0 of none.
    Sum,
    /// Their product, likewise. 1 of none.
    Prod,
    /// The lowest (of `bool`: whether all are true), NaN if one is NaN.
    Min,
    /// The highest (of `bool`: whether any is true), NaN if one is NaN.
    Max,
    /// The lowest that is not NaN; NaN if all are.
    FMin,
    /// The highest that is not NaN; NaN if all are.
    FMax,
    /// The number, in C order of the reduced axes, of the first that is lowest, or of the first NaN.
    ArgMin,
    /// The number of the first that is highest, or of the first NaN.
    ArgMax,
    /// The sum of the squares of their distances from their mean.
    Moments,
}

impl Reduction {
    /// What elements of a dtype are cast to before they are reduced: without loss, but for 64-bit integers of which the moments are asked for.
    #[must_use]
    pub fn reads(self, dtype: DType) -> DType {
        let reads_f32 = matches!(self, Self::Sum | Self::Min | Self::Max | Self::Moments);
        match dtype {
            DType::F32 if reads_f32 => DType::F32,
            _ if self == Self::Moments || dtype.is_float() => DType::F64,
            _ if dtype.is_complex() => DType::C128,
            _ if dtype == DType::Bool && matches!(self, Self::Sum | Self::Prod) => DType::I64,
            _ if dtype == DType::Bool || dtype.is_unsigned() => DType::U64,
            _ => DType::I64,
        }
    }

    /// The dtype of the result, of elements of a dtype that it reads.
    #[must_use]
    pub fn gives(self, dtype: DType) -> DType {
        match dtype {
            _ if self.is_numbered() => DType::I64,
            DType::F32 => DType::F64,
            _ => dtype,
        }
    }

    /// Dtype of the results of parts, and how many there are for each element: with these as the first axis they are kept until they are merged.
    #[must_use]
    pub fn partial(self, dtype: DType) -> (DType, usize) {
        match dtype {
            _ if self.is_numbered() => (DType::U64, 2),
            _ if self == Self::Moments => (DType::F64, 3),
            DType::C128 => (DType::F64, 2),
            DType::F32 | DType::F64 => (DType::F64, 1),
            _ => (DType::U64, 1),
        }
    }

    /// Whether elements are asked for their numbers.
    #[must_use]
    pub fn is_numbered(self) -> bool {
        matches!(self, Self::ArgMin | Self::ArgMax)
    }

    /// Its name, as in labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Prod => "prod",
            Self::Min => "min",
            Self::Max => "max",
            Self::FMin => "nanmin",
            Self::FMax => "nanmax",
            Self::ArgMin => "argmin",
            Self::ArgMax => "argmax",
            Self::Moments => "moments",
        }
    }

    /// Operations that an element is worth.
    fn work(self) -> f64 {
        match self {
            Self::ArgMin | Self::ArgMax => 3.0,
            Self::Moments => 4.0,
            _ => 1.0,
        }
    }
}

/// Runs along lines; of complex numbers that come in parts, those of each part.
struct AllAlong<'s, 't>(SmallVec<[Along<'s, 't>; 2]>);

impl Takes for AllAlong<'_, '_> {
    fn strip(&mut self, first: usize, strips: [Strip<'_>; 2]) {
        match &mut self.0[..] {
            [products, factors] if factors.does_last() && strips[0].has_factor(strips[1]) => {
                products.take_both(factors, first, strips[0]);
            }
            all => all.iter_mut().zip(strips).for_each(|(runs, strip)| runs.take(first, strip)),
        }
    }

    fn does_last(&self) -> bool {
        self.0.iter().all(Along::does_last)
    }

    fn rows_apart(&self) -> usize {
        1
    }

    fn rows(&mut self, _: usize, _: [Strip<'_>; ROWS]) {
        unreachable!("rows are asked for by panels");
    }
}

/// Runs across lines, likewise.
struct AllAcross<'s, 't>(SmallVec<[Across<'s, 't>; 2]>);

impl Takes for AllAcross<'_, '_> {
    fn strip(&mut self, first: usize, strips: [Strip<'_>; 2]) {
        self.0.iter_mut().zip(strips).for_each(|(runs, strip)| runs.take(first, strip));
    }

    fn does_last(&self) -> bool {
        self.0.iter().all(Across::does_last)
    }

    fn rows_apart(&self) -> usize {
        self.0.first().map_or(1, Across::rows_apart)
    }

    fn rows(&mut self, first: usize, rows: [Strip<'_>; ROWS]) {
        self.0.iter_mut().for_each(|runs| runs.take_rows(first, rows));
    }
}

/// The results of runs, a word after the other.
struct Table<'t> {
    words: &'t mut [u64],
    runs: usize,
}

impl Table<'_> {
    /// Sets the result of a run, of which the words are so far apart.
    #[inline]
    fn set(&mut self, run: usize, words: &[u64], apart: usize) {
        let planes = self.words.len() / self.runs.max(1);
        (0..planes).for_each(|plane| self.words[plane * self.runs + run] = words[plane * apart]);
    }
}

/// `reduce`: inputs: chunks of one shape, of which a program makes one; output: what that is reduced to along some axes: `(words, ..kept axes)` as it is kept until
/// parts are merged, or, if it is the whole, the result.
///
/// Parameters: of a reduction that asks for numbers, the chunk's first index along each reduced axis, as `u64`; what inputs are made of that are no chunks.
pub struct ReduceChunk {
    what: Reduction,
    /// Ascending.
    axes: Vec<usize>,
    /// Extents of the whole along these, where numbers are asked for.
    extents: Vec<u64>,
    program: Arc<ScalarProgram>,
    feeds: Feeds,
    lines: Lines,
    /// Whether complex numbers come in parts.
    in_parts: bool,
    finish: Option<Finish>,
    /// For GPUs without numbers of 64 bits.
    before_widening: Option<ScalarProgram>,
    modules: gpu::ReduceModules,
}

impl ReduceChunk {
    /// Reduces what a program makes along these axes (ascending), which have these extents in all.
    ///
    /// # Panics
    /// If the reduction does not read what the program makes ([`Reduction::reads`]).
    #[must_use]
    pub fn new(what: Reduction, (axes, extents): (&[usize], &[usize]), program: Arc<ScalarProgram>) -> Self {
        assert_eq!(what.reads(program.dtype()), program.dtype(), "{} reads no {}", what.name(), program.dtype());
        let extents = extents.iter().map(|&n| n as u64).collect();
        let parts = if what == Reduction::Sum { Lines::of_parts(&program) } else { None };
        let in_parts = parts.is_some();
        let lines = parts.unwrap_or_else(|| Lines::new(&program));
        let (axes, modules, before_widening) =
            (axes.to_vec(), gpu::ReduceModules::default(), gpu::before_widening(what, &program));
        Self { what, axes, extents, lines, in_parts, program, feeds: Feeds::default(), finish: None, before_widening, modules }
    }

    /// What an element is worth, the making of inputs included.
    fn mix(&self) -> OpMix {
        let inputs = self.feeds.mix(self.program.inputs());
        self.program.mix().with(inputs).with(OpMix::all(OpClass::Fold, self.what.work()))
    }

    /// With inputs that are made.
    pub(crate) fn fed(self, feeds: Feeds) -> Self {
        Self { feeds, ..self }
    }

    /// Of elements of a dtype as they are.
    #[must_use]
    pub fn plain(what: Reduction, axes: (&[usize], &[usize]), dtype: DType) -> Self {
        let mut builder = Builder::new();
        let input = builder.input(dtype);
        let read = builder.cast(input, what.reads(dtype));
        Self::new(what, axes, Arc::new(builder.finish(read).0))
    }

    /// A chunk is the whole: then the output is the result, or what a program makes of it.
    #[must_use]
    pub fn finishing(mut self, after: Option<Arc<ScalarProgram>>) -> Self {
        self.finish = Some(Finish::new(self.what, self.program.dtype(), after));
        self
    }

    /// Whether a GPU without numbers of 64 bits may do it, if that leaves what is to be done afterwards to a task of its own.
    #[must_use]
    pub fn runs_without_64_bits(&self) -> bool {
        let is_narrow = self.program.dtype() == DType::F32 || self.before_widening.is_some();
        is_narrow && missing(&self.program).is_none()
    }

    fn words(&self) -> usize {
        self.what.partial(self.program.dtype()).1
    }

    /// The extents of the axes that are left.
    fn kept(&self, shape: &[usize]) -> Vec<usize> {
        (0..shape.len()).filter(|axis| !self.axes.contains(axis)).map(|axis| shape[axis]).collect()
    }

    /// What folds a strip: of complex numbers that come in parts, those of one part.
    fn ops(&self) -> &'static Ops {
        Ops::find(self.what, if self.in_parts { DType::F64 } else { self.program.dtype() })
    }

    /// Folds the runs of a chunk into a table: of sums of complex numbers that come in parts, each part by itself.
    fn fold(&self, nest: &Nest, inputs: &LineInputs<'_>, table: &mut [u64], scratch: &mut Scratch<'_>) {
        let runs = nest.kept * nest.parts;
        let (ops, size) = (self.ops(), self.program.dtype().bytes());
        let (size, tables) = match self.in_parts {
            false => (size, [table, &mut []]),
            true => (size / 2, table.split_at_mut(runs).into()),
        };
        let tables = tables.into_iter().filter(|table| !table.is_empty()).map(|words| Table { words, runs });
        let len = inputs.shape.last().copied().unwrap_or(1);
        match &nest.across {
            Some((others, apart)) => {
                let panel = self.lines.panel(inputs, across::panel(ops).min(len));
                let lines = || across::AcrossLines { len, panel, others: others.clone(), apart: *apart };
                let mut runs =
                    AllAcross(tables.map(|table| Across::new(ops, (nest.run, size), lines(), table, scratch)).collect());
                self.lines.read_panels(inputs, (nest.run, panel), scratch, &mut runs);
            }
            None => {
                let live = if nest.is_one_axis { self.lines.rows_at_once(inputs) } else { 1 };
                let mut runs = AllAlong(tables.map(|table| Along::new(ops, (nest.run, size), live, table, scratch)).collect());
                self.lines.read(inputs, scratch, &mut runs);
            }
        }
    }

    /// Joins the runs of each result: its words are then in the first places of the table's words.
    fn join(&self, nest: &Nest, shape: &[usize], starts: &[u64], table: &mut [u64]) {
        let (runs, ops) = (nest.kept * nest.parts, Ops::find(self.what, self.program.dtype()));
        if nest.run == 0 || nest.parts == 1 && !self.what.is_numbered() {
            return;
        }
        let chunk: Vec<usize> = self.axes.iter().map(|&axis| shape[axis]).collect();
        let mut levels = vec![0; tree::levels(nest.parts) * ops.words];
        for result in 0..nest.kept {
            let mut tree = tree::Levels { ops, levels: &mut levels, width: 1, parts: 0 };
            let mut acc = [0; MOST_WORDS];
            for part in 0..nest.parts {
                (0..ops.words).for_each(|word| acc[word] = table[word * runs + result * nest.parts + part]);
                if self.what.is_numbered() {
                    acc[1] = nest::whole_number(acc[1] + (part * nest.run) as u64, &chunk, starts, &self.extents);
                }
                tree.push(&mut acc);
            }
            tree.finish(&mut acc, false);
            // Those of results before this one are read already.
            (0..ops.words).for_each(|word| table[word * runs + result] = acc[word]);
        }
    }
}

impl Kernel for ReduceChunk {
    fn name(&self) -> Cow<'static, str> {
        let program = if self.program.computes() { self.program.name() + " + " } else { String::new() };
        (self.feeds.name() + &program + self.what.name()).into()
    }

    fn content(&self) -> Content {
        if self.feeds.is_local() {
            return Content::Local;
        }
        let finish =
            self.finish.as_ref().map_or(String::new(), |finish| format!("; whole {}", finish.text())) + &self.feeds.text();
        let extents = if self.what.is_numbered() { format!("{:?}", self.extents) } else { String::new() };
        Content::Text(format!("{} {:?} {extents}; {}{finish}", self.what.name(), self.axes, self.program.text()).into())
    }

    fn check(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Result<()> {
        let output = match &self.finish {
            Some(finish) => finish.dtype(),
            None => self.what.partial(self.program.dtype()).0,
        };
        let dtypes: Vec<[DType; 1]> = self.feeds.chunks(self.program.inputs()).chain([output]).map(|dtype| [dtype]).collect();
        check_dtypes(self, operands, &dtypes.iter().map(|dtype| &dtype[..]).collect::<Vec<_>>(), 1)
    }

    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let len = |shape: &[usize]| shape.iter().product::<usize>() as f64;
        let bytes = operands.iter().map(|operand| len(operand.shape) * operand.dtype.bytes() as f64).sum();
        let each = self.mix().total();
        Work { flops: len(self.feeds.split(params).shape_or(operands.first().map(|operand| operand.shape))) * each, bytes }
    }

    fn program(&self, params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let given = self.feeds.split(params);
        let starts: Vec<u64> = given.own.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        let Self { what, axes, extents, program, .. } = self;
        let shape = given.shape_or(operands.first().map(|operand| operand.shape));
        let feeds = |order: &[usize]| self.feeds.on_gpu(program.inputs(), &given, (shape, Some(order)));
        let after = self.finish.as_ref().map(Finish::program);
        let before_widening = self.before_widening.as_ref();
        let of = gpu::GpuReduction {
            what: *what,
            axes,
            extents,
            starts: &starts,
            program,
            before_widening,
            shape,
            feeds: &feeds,
            after,
        };
        self.modules.program(&of, operands, || self.work(params, operands), gpu)
    }

    fn no_program(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Option<String> {
        let after = || missing(&self.finish.as_ref()?.program());
        if let Some((op, dtype)) = missing(&self.program).or_else(after) {
            return Some(format!("{} of {dtype} does not run on a GPU", op.row().name));
        }
        let given = self.feeds.split(params);
        let shape = given.shape_or(operands.first().map(|operand| operand.shape));
        Some(match self.feeds.on_gpu(self.program.inputs(), &given, (shape, None)) {
            None => "what it makes of indices is not made on a GPU".into(),
            Some(_) if operands.last().is_some_and(|out| out.dtype.bytes() < 4 && out.dtype != DType::Bool) => {
                "results of 8 or 16 bits of a single chunk are not made on a GPU".into()
            }
            Some(_) => "its operands have too many axes for a GPU, or too many elements".into(),
        })
    }

    fn inexact(&self, gpu: &GpuFacts) -> Option<String> {
        let dtype = self.program.dtype();
        let is_added = matches!(self.what, Reduction::Sum | Reduction::Prod | Reduction::Moments);
        if is_added && !dtype.is_integer() && dtype != DType::Bool {
            return Some(format!("{} of {dtype} takes in elements in another order there", self.what.name()));
        }
        let after = || gpu.exact.inexact(&self.finish.as_ref()?.program());
        self.feeds.inexact(self.program.inputs(), gpu).or_else(|| gpu.exact.inexact(&self.program)).or_else(after)
    }

    fn reads_views(&self) -> bool {
        true
    }

    fn structure(&self) -> Option<Structure> {
        let finish = self.finish.as_ref().map_or(String::new(), |finish| finish.structure_text()) + &self.feeds.text();
        let text = format!("{} {:?}; {}{finish}", self.what.name(), self.axes, self.program.structure_text());
        Some(Structure::new(&text, self.mix()))
    }

    fn is_steady(&self) -> bool {
        is_steady(&self.program) && self.feeds.are_steady()
    }

    fn scratch_bytes(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let params = self.feeds.split(params);
        let shape = params.shape_or(operands.first().map(|operand| operand.shape));
        let (nest, ops) = (Nest::of(shape, &self.axes, (&[], &[])), self.ops());
        let table = nest.kept * nest.parts * self.words() * 8 + 64;
        let lines = self.lines.scratch_bytes(shape, &self.program, self.feeds.are_chunks());
        let across = match nest.longest {
            0 => 0,
            longest => Across::scratch_bytes(ops, nest.run, longest.min(across::panel(ops))),
        };
        let live = if nest.is_one_axis { Lines::MOST_ROWS } else { 1 };
        let runs = across.max(Along::scratch_bytes(ops, nest.run, live)) * if self.in_parts { 2 } else { 1 };
        let finish = self.finish.as_ref().map_or(0, |finish| finish.scratch_bytes(nest.kept));
        (table + runs) as u64 + lines + finish
    }

    fn run_cpu(
        &self,
        params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let params = self.feeds.split(params);
        let shape = params.shape_or(inputs.first().map(|input| input.shape()));
        let nest = Nest::of(shape, &self.axes, (inputs, &self.feeds.nearest(self.program.inputs(), &params)));
        let layouts: Vec<Layout> = inputs.iter().map(|input| input.layout().reordered(&nest.order)).collect();
        let views: Vec<ChunkView<'_>> =
            inputs.iter().zip(&layouts).map(|(input, layout)| input.reordered(&nest.order, layout)).collect();
        let order: Vec<usize> = nest.order.iter().map(|&axis| shape[axis]).collect();
        let (runs, words) = (nest.kept * nest.parts, self.words());
        let table: &mut [u64] = scratch.take(runs * words);
        if nest.run == 0 {
            table
                .chunks_exact_mut(runs.max(1))
                .zip(Ops::find(self.what, self.program.dtype()).empty)
                .for_each(|(results, word)| results.fill(word));
        }
        let feeds = self.feeds.all(self.program.inputs(), &params, &views, Some(&nest.order));
        self.fold(&nest, &LineInputs { shape: &order, feeds: &feeds }, table, &mut scratch.again());
        let starts: Vec<u64> = params.own.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        self.join(&nest, shape, &starts, table);
        let kept = nest.kept;
        let results = (0..words).map(|word| &table[word * runs..][..kept]).collect::<Vec<_>>();
        match &self.finish {
            Some(finish) => finish.run(&results, &self.kept(shape), &mut outputs[0], scratch),
            None => merge::write_words(&results, &mut outputs[0]),
        }
        Ok(())
    }
}

/// Words as they lie in a chunk of them.
fn words_of<'a>(chunk: ChunkView<'a>) -> &'a [u64] {
    match chunk.layout().dtype {
        DType::F64 => cast_slice(chunk.slice::<f64>()),
        _ => chunk.slice::<u64>(),
    }
}
