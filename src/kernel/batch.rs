//! One kernel on several chunks, and what it makes of them merged: one task for many chunks that are each worth less than a task costs.
//!
//! Owns: [`Batch`], the encoding of its parameters. Must not know: which kernels. Invariant: each chunk is worked on as by a task of its own, and the results are
//! merged as by another task; so a batch gives the same bits.

use std::borrow::Cow;
use std::sync::Arc;

use super::chain::in_scratch;
use super::{Content, Fault, Kernel, KernelKey, Scratch, Structure, Work, calm};
use crate::error::Error;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout};

/// A kernel, and the one that merges its results.
pub(crate) struct Batch {
    /// What is done with each chunk.
    pub(crate) part: Arc<dyn Kernel>,
    /// Number of its inputs: those of the first chunk come first, then those of the second.
    pub(crate) inputs: usize,
    /// Dtype and shape of what it makes: no booleans.
    pub(crate) makes: (DType, Vec<usize>),
    /// What all of these are merged by.
    pub(crate) merge: Arc<dyn Kernel>,
}

impl Batch {
    /// Its parameters, from those for each chunk.
    pub(crate) fn params<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        parts.flat_map(|params| (params.len() as u32).to_ne_bytes().into_iter().chain(params.iter().copied())).collect()
    }

    fn parts<'a>(&self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut parts = Vec::new();
        while let Some(len) = bytes.split_off(..4).map(super::params::<u32>) {
            parts.push(bytes.split_off(..len as usize).unwrap_or_default());
        }
        parts
    }

    /// Calls `each` with the operands of the work on each chunk.
    fn for_each(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], mut each: impl FnMut(&[u8], &[ChunkMeta<'_>])) {
        let made = ChunkMeta::new(self.makes.0, &self.makes.1);
        for (number, params) in self.parts(bytes).into_iter().enumerate() {
            let inputs = operands.iter().skip(number * self.inputs).take(self.inputs).copied();
            each(params, &inputs.chain([made]).collect::<Vec<_>>());
        }
    }

    /// The results of `count` chunks, and the output.
    fn merged<'a>(&'a self, count: usize, operands: &[ChunkMeta<'a>]) -> Vec<ChunkMeta<'a>> {
        let made = ChunkMeta::new(self.makes.0, &self.makes.1);
        std::iter::repeat_n(made, count).chain(operands.last().copied()).collect()
    }

    fn layout(&self) -> Layout {
        Layout::contiguous(self.makes.0, &self.makes.1)
    }
}

impl Kernel for Batch {
    fn name(&self) -> Cow<'static, str> {
        format!("{}, {}", self.part.name(), self.merge.name()).into()
    }

    fn content(&self) -> Content {
        match (self.part.content(), self.merge.content()) {
            (Content::Local, _) | (_, Content::Local) => Content::Local,
            _ => {
                let [part, merge] = [&self.part, &self.merge].map(|kernel| KernelKey::new(&**kernel, 0));
                Content::Text(format!("{part} of {}; {merge}", self.inputs).into())
            }
        }
    }

    fn check(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        let mut found = Ok(());
        self.for_each(params, operands, |params, operands| {
            if found.is_ok() {
                found = self.part.check(params, operands);
            }
        });
        found
    }

    fn no_program(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Option<String> {
        Some("its chunks are so small that many are one task, on the CPU".into())
    }

    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let mut all = Work::default();
        self.for_each(params, operands, |params, operands| {
            let work = self.part.work(params, operands);
            (all.flops, all.bytes) = (all.flops + work.flops, all.bytes + work.bytes);
        });
        all
    }

    fn structure(&self) -> Option<Structure> {
        self.part.structure()
    }

    fn is_steady(&self) -> bool {
        self.part.is_steady()
    }

    fn scratch_bytes(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let (mut count, mut most) = (0, 0);
        self.for_each(params, operands, |params, operands| {
            (count, most) = (count + 1, most.max(calm(|| self.part.scratch_bytes(params, operands)).unwrap_or(0)));
        });
        let merge = self.merge.scratch_bytes(&[], &self.merged(count, operands));
        count as u64 * (self.layout().bytes() + 64) + most.max(merge) + 64
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let (parts, layout) = (self.parts(bytes), self.layout());
        let mut scratch = scratch.again();
        let mut made: Vec<ChunkViewMut<'_>> = Vec::with_capacity(parts.len());
        for (number, params) in parts.into_iter().enumerate() {
            made.push(in_scratch(&layout, &mut scratch));
            let inputs = &inputs[number * self.inputs..][..self.inputs];
            self.part.run_cpu(params, inputs, &mut made[number..], &mut scratch.again())?;
        }
        let made: Vec<ChunkView<'_>> = made.iter().map(ChunkViewMut::as_view).collect();
        self.merge.run_cpu(&[], &made, outputs, &mut scratch.again())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::reduce::{MergeParts, ReduceChunk, Reduction};
    use crate::kernel::testing::{Chunk, numbers};

    #[test]
    fn a_batch_gives_what_its_parts_give_merged() {
        let chunks: Vec<Chunk<f64>> = [3usize, 5, 2].iter().map(|&n| Chunk::new(&[n], numbers(n, 30.0))).collect();
        let part = || ReduceChunk::plain(Reduction::Sum, (&[0], &[10]), DType::F64);
        let merge = || MergeParts::new(Reduction::Sum, DType::F64);
        let sums: Vec<Chunk<f64>> = chunks
            .iter()
            .map(|chunk| {
                let mut sum = Chunk::filled(&[1], 0.0);
                sum.compute(&part(), &[], &[chunk.view()]);
                sum
            })
            .collect();
        let (mut wanted, mut found) = (Chunk::filled(&[1], 0.0), Chunk::filled(&[1], f64::NAN));
        wanted.compute(&merge(), &[], &sums.iter().map(Chunk::view).collect::<Vec<_>>());
        let makes = (DType::F64, vec![1]);
        let batch = Batch { part: Arc::new(part()), inputs: 1, makes, merge: Arc::new(merge()) };
        let params = Batch::params([&[][..]; 3].into_iter());
        let shapes: [&[usize]; 4] = [&[3], &[5], &[2], &[1]];
        let metas = shapes.map(|shape| ChunkMeta::new(DType::F64, shape));
        let mut scratch = vec![0xff; batch.scratch_bytes(&params, &metas) as usize];
        let views: Vec<_> = chunks.iter().map(Chunk::view).collect();
        let mut out = [ChunkViewMut::from_slice(&mut found.data, &found.layout)];
        batch.run_cpu(&params, &views, &mut out, &mut Scratch::new(&mut scratch)).unwrap();
        assert_eq!(found.data, wanted.data);
        assert_eq!(batch.work(&params, &metas).flops, 10.0);
        assert_eq!(batch.name(), "sum, merge_sum");
    }
}
