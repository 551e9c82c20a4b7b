//! The results of parts, merged to one.
//!
//! Owns: [`MergeParts`], how a result is written. Must not know: chunks of elements. Invariant: parts are joined in their order, as a binary counter counts.

use std::borrow::Cow;
use std::sync::Arc;

use bytemuck::{cast_slice, cast_slice_mut};

use super::folds::Ops;
use super::tree::{Levels, levels};
use super::{Reduction, words_of};
use crate::kernel::map::{Elementwise, ScalarProgram};
use crate::kernel::{Content, Fault, Kernel, Scratch, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout};

/// What becomes of the words of results.
pub(super) struct Finish {
    what: Reduction,
    /// What is reduced.
    reads: DType,
    after: Option<(Arc<ScalarProgram>, Elementwise)>,
}

impl Finish {
    pub(super) fn new(what: Reduction, reads: DType, after: Option<Arc<ScalarProgram>>) -> Self {
        Self { what, reads, after: after.map(|program| (program.clone(), Elementwise::new(program))) }
    }

    /// The dtype of what comes out.
    pub(super) fn dtype(&self) -> DType {
        self.after.as_ref().map_or(self.what.gives(self.reads), |after| after.0.dtype())
    }

    /// What becomes of a result.
    pub(super) fn program(&self) -> Arc<ScalarProgram> {
        let gives = self.what.gives(self.reads);
        self.after.as_ref().map_or_else(|| Arc::new(ScalarProgram::identity(gives)), |after| after.0.clone())
    }

    pub(super) fn text(&self) -> String {
        self.after.as_ref().map_or(String::new(), |after| after.0.text())
    }

    pub(super) fn structure_text(&self) -> String {
        self.after.as_ref().map_or(String::new(), |after| after.0.structure_text())
    }

    pub(super) fn scratch_bytes(&self, len: usize) -> u64 {
        let result = DType::C128.bytes() * len + 64;
        let shape = [len];
        let meta = |dtype| ChunkMeta::new(dtype, &shape);
        let after = |after: &(Arc<ScalarProgram>, Elementwise)| {
            after.1.scratch_bytes(&[], &[meta(self.what.gives(self.reads)), meta(after.0.dtype())])
        };
        result as u64 + self.after.as_ref().map_or(0, after)
    }

    /// Writes results of this shape: of each word, those of all elements.
    pub(super) fn run(&self, words: &[&[u64]], shape: &[usize], out: &mut ChunkViewMut<'_>, scratch: &mut Scratch<'_>) {
        let dtype = self.what.gives(self.reads);
        let len: usize = shape.iter().product();
        let bytes: &mut [u8] = scratch.take(len * dtype.bytes());
        match (self.what, dtype) {
            (_, DType::C128) => {
                for ((to, &re), &im) in cast_slice_mut::<u8, [u64; 2]>(bytes).iter_mut().zip(words[0]).zip(words[1]) {
                    *to = [re, im];
                }
            }
            (what, _) if what.is_numbered() => bytes.copy_from_slice(cast_slice(words[1])),
            (Reduction::Moments, _) => bytes.copy_from_slice(cast_slice(words[2])),
            _ => bytes.copy_from_slice(cast_slice(words[0])),
        }
        let layout = Layout::contiguous(dtype, shape);
        let results = ChunkView::from_bytes(bytes, &layout).expect("they are numbers");
        match &self.after {
            Some((_, kernel)) => kernel.run_on(crate::kernel::simd::level(), (&[], &[results]), out, scratch),
            None => out.copy_from(results),
        }
    }
}

/// Writes words as they are kept until parts are merged.
pub(super) fn write_words(words: &[&[u64]], out: &mut ChunkViewMut<'_>) {
    let to: &mut [u64] = match out.layout().dtype {
        DType::F64 => cast_slice_mut(out.slice_mut::<f64>()),
        _ => out.slice_mut::<u64>(),
    };
    let len = words.first().map_or(0, |word| word.len());
    for (to, from) in to.chunks_exact_mut(len.max(1)).zip(words) {
        to.copy_from_slice(from);
    }
}

/// `merge`: any number of results of parts, `(words, ..kept axes)`; output: that of all of them, of the same shape, or, if they are all there are, the result.
pub struct MergeParts {
    what: Reduction,
    reads: DType,
    finish: Option<Finish>,
}

impl MergeParts {
    /// Of results of parts whose elements, as they were reduced, are of this dtype.
    #[must_use]
    pub fn new(what: Reduction, reads: DType) -> Self {
        Self { what, reads, finish: None }
    }

    /// They are all: then the output is the result, or what a program makes of it.
    #[must_use]
    pub fn finishing(mut self, after: Option<Arc<ScalarProgram>>) -> Self {
        self.finish = Some(Finish::new(self.what, self.reads, after));
        self
    }
}

/// Elements that are merged at once, at most.
const STRIP: usize = 256;

impl Kernel for MergeParts {
    fn name(&self) -> Cow<'static, str> {
        match &self.finish {
            Some(_) => format!("finish_{}", self.what.name()).into(),
            None => format!("merge_{}", self.what.name()).into(),
        }
    }

    fn content(&self) -> Content {
        let finish = self.finish.as_ref().map_or(String::new(), |finish| format!("; whole {}", finish.text()));
        Content::Text(format!("merge {} {}{finish}", self.what.name(), self.reads).into())
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let inputs = operands.len().saturating_sub(1) as f64;
        Work::streaming(operands, inputs * self.what.work() + self.finish.as_ref().map_or(0.0, |_| 1.0))
    }

    fn scratch_bytes(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let words = self.what.partial(self.reads).1;
        let len = match (&self.finish, operands.last()) {
            (_, None) => 0,
            (Some(_), Some(out)) => out.shape.iter().product::<usize>(),
            (None, Some(out)) => out.shape.iter().product::<usize>() / words,
        };
        let finish = self.finish.as_ref().map_or(0, |finish| finish.scratch_bytes(len));
        let rows = (levels(operands.len()) + 1) * words * STRIP.min(len);
        (words * len * 8 + rows * 8 + 128) as u64 + finish
    }

    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let (out, words) = (&mut outputs[0], self.what.partial(self.reads).1);
        let shape = if self.finish.is_some() { out.shape() } else { &out.shape()[1..] };
        let len: usize = shape.iter().product();
        let merged: &mut [u64] = scratch.take(words * len);
        let parts: Vec<&[u64]> = inputs.iter().map(|&input| words_of(input)).collect();
        let ops = Ops::find(self.what, self.reads);
        let rows: &mut [u64] = scratch.take((levels(parts.len()) + 1) * words * STRIP.min(len));
        for start in (0..len).step_by(STRIP) {
            let width = STRIP.min(len - start);
            let (acc, rows) = rows.split_at_mut(words * width);
            let mut tree = Levels { ops, levels: &mut rows[..levels(parts.len()) * words * width], width, parts: 0 };
            let place = |word: usize| word * len + start..word * len + start + width;
            for part in &parts {
                acc.chunks_exact_mut(width).enumerate().for_each(|(word, acc)| acc.copy_from_slice(&part[place(word)]));
                tree.push(acc);
            }
            tree.finish(acc, false);
            acc.chunks_exact(width).enumerate().for_each(|(word, acc)| merged[place(word)].copy_from_slice(acc));
        }
        let results: Vec<&[u64]> = (0..words).map(|word| &merged[word * len..(word + 1) * len]).collect();
        match &self.finish {
            Some(finish) => finish.run(&results, shape, out, scratch),
            None => write_words(&results, out),
        }
        Ok(())
    }
}
