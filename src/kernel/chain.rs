//! Several kernels, one after the other, as one: for chunks so small that a task for each would cost more than their work.
//!
//! Owns: [`Chain`], the encoding of its parameters. Must not know: which kernels. Invariant: each step sees the operands that it would see as a task of its own, and
//! in that order; so a chain gives the same bits.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use super::{Content, Fault, Held, Kernel, KernelKey, Scratch, Work, calm};
use crate::error::Error;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout, with_dtype};

/// Kernels that follow each other. What one makes for the next has the shape of the chunk, and is in scratch.
pub(crate) struct Chain {
    steps: Vec<ChainStep>,
}

/// One kernel of a chain.
#[derive(Clone)]
pub(crate) struct ChainStep {
    /// The routine.
    pub(crate) kernel: Arc<dyn Kernel>,
    /// Its inputs.
    pub(crate) inputs: Vec<Feed>,
    /// What its output has, if that is not the chain's.
    pub(crate) dtype: DType,
}

/// Where an operand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feed {
    /// The chain's input of this number.
    Input(usize),
    /// The output of this step.
    Step(usize),
}

impl Chain {
    /// Of these steps, each of which uses earlier ones only; none has an output of `bool` but the last.
    pub(crate) fn new(steps: Vec<ChainStep>) -> Self {
        Self { steps }
    }

    /// Its parameters for a chunk of this shape, from those of its steps.
    pub(crate) fn params<'a>(shape: &[usize], steps: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Chunks of chains are small: their extents, and lengths of parameters, are.
        let word = |bytes: &mut Vec<u8>, n: usize| bytes.extend_from_slice(&(n as u32).to_ne_bytes());
        word(&mut bytes, shape.len());
        shape.iter().for_each(|&n| word(&mut bytes, n));
        for params in steps {
            word(&mut bytes, params.len());
            bytes.extend_from_slice(params);
        }
        bytes
    }

    /// The shape of the chunk, and the parameters of each step.
    fn parts<'a>(&self, mut bytes: &'a [u8]) -> (Vec<usize>, Vec<&'a [u8]>) {
        let word = |bytes: &mut &'a [u8]| bytes.split_off(..4).map_or(0, |word| super::params::<u32>(word) as usize);
        let rank = word(&mut bytes);
        let shape = (0..rank).map(|_| word(&mut bytes)).collect();
        let step = |_: &ChainStep| {
            let len = word(&mut bytes);
            bytes.split_off(..len).unwrap_or_default()
        };
        (shape, self.steps.iter().map(step).collect())
    }

    /// Calls `each` with every step, its parameters and its operands.
    fn for_each(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], mut each: impl FnMut(&dyn Kernel, &[u8], &[ChunkMeta<'_>])) {
        let (shape, params) = self.parts(bytes);
        let Some((last, _)) = operands.split_last() else { return };
        for (at, (step, params)) in self.steps.iter().zip(params).enumerate() {
            let made = |step: usize| ChunkMeta::new(self.steps[step].dtype, &shape);
            let input = |from: &Feed| match *from {
                Feed::Input(input) => operands[input],
                Feed::Step(step) => made(step),
            };
            let output = if at + 1 == self.steps.len() { *last } else { made(at) };
            let all: Vec<ChunkMeta<'_>> = step.inputs.iter().map(input).chain([output]).collect();
            each(&*step.kernel, params, &all);
        }
    }
}

/// Bytes of scratch for what one step leaves for the next.
fn room(shape: &[usize], dtype: DType) -> u64 {
    (shape.iter().product::<usize>() * dtype.bytes()) as u64 + 64
}

impl Kernel for Chain {
    fn name(&self) -> Cow<'static, str> {
        let names: Vec<_> = self.steps.iter().map(|step| step.kernel.name()).collect();
        names.join(" + ").into()
    }

    fn content(&self) -> Content {
        let mut text = String::new();
        for step in &self.steps {
            if step.kernel.content() == Content::Local {
                return Content::Local;
            }
            text += &format!("{} {:?} {};", KernelKey::new(&*step.kernel, 0), step.inputs, step.dtype);
        }
        Content::Text(text.into())
    }

    fn check(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        let mut found = Ok(());
        self.for_each(params, operands, |kernel, params, operands| {
            if found.is_ok() {
                found = kernel.check(params, operands);
            }
        });
        found
    }

    fn no_program(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Option<String> {
        Some("its chunks are so small that the steps are one task, on the CPU".into())
    }

    /// All operations; only what the chain itself reads and writes passes memory.
    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let bytes = operands.iter().map(|o| (o.shape.iter().product::<usize>() * o.dtype.bytes()) as f64).sum();
        let mut work = Work { flops: 0.0, bytes };
        self.for_each(params, operands, |kernel, params, operands| work.flops += kernel.work(params, operands).flops);
        work
    }

    fn is_steady(&self) -> bool {
        self.steps.iter().all(|step| step.kernel.is_steady())
    }

    fn scratch_bytes(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let (shape, _) = self.parts(params);
        let between: u64 = self.steps.iter().rev().skip(1).map(|step| room(&shape, step.dtype)).sum();
        let mut most = 0;
        // A step that panics here still has what the chain itself needs for it: its body has the last word.
        self.for_each(params, operands, |kernel, params, operands| {
            most = most.max(calm(|| kernel.scratch_bytes(params, operands)).unwrap_or(0));
        });
        between + most + 64
    }

    fn held(&self) -> Vec<Held> {
        self.steps.iter().flat_map(|step| step.kernel.held()).collect()
    }

    fn hold(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        self.steps.iter().flat_map(|step| step.kernel.hold()).collect()
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let (shape, params) = self.parts(bytes);
        let between = self.steps.len() - 1;
        let layouts: Vec<Layout> = self.steps[..between].iter().map(|step| Layout::contiguous(step.dtype, &shape)).collect();
        let mut scratch = scratch.again();
        let mut made: Vec<ChunkViewMut<'_>> = Vec::with_capacity(between);
        layouts.iter().for_each(|layout| made.push(in_scratch(layout, &mut scratch)));
        for (at, (step, params)) in self.steps.iter().zip(params).enumerate() {
            let (before, rest) = made.split_at_mut(at);
            let input = |from: &Feed| match *from {
                Feed::Input(input) => inputs[input],
                Feed::Step(step) => before[step].as_view(),
            };
            let operands: Vec<ChunkView<'_>> = step.inputs.iter().map(input).collect();
            match at < between {
                true => step.kernel.run_cpu(params, &operands, &mut rest[..1], &mut scratch.again())?,
                false => step.kernel.run_cpu(params, &operands, outputs, &mut scratch.again())?,
            }
        }
        Ok(())
    }
}

/// A chunk in scratch.
pub(super) fn in_scratch<'a>(layout: &'a Layout, scratch: &mut Scratch<'a>) -> ChunkViewMut<'a> {
    let dtype = layout.dtype;
    with_dtype!(
        dtype in numbers,
        T => ChunkViewMut::from_slice(scratch.take::<T>(layout.len()), layout),
        _ => unreachable!("scratch holds no booleans")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::random::{Distribution, Random, RandomParams};

    use crate::kernel::reduce::{ReduceChunk, Reduction};
    use crate::kernel::sums::Add;
    use crate::kernel::testing::{Chunk, numbers};
    use crate::shape::Region;

    /// Does nothing, and panics when it is asked for scratch.
    struct Bad;

    impl Kernel for Bad {
        fn name(&self) -> Cow<'static, str> {
            "bad".into()
        }
        fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
            Work::default()
        }
        fn scratch_bytes(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> u64 {
            panic!("a user's bug")
        }
        fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[test]
    fn a_step_that_panics_leaves_room_for_the_chain() {
        let link = |inputs: &[Feed]| ChainStep { kernel: Arc::new(Bad), inputs: inputs.into(), dtype: DType::F64 };
        let chain = Chain::new(vec![link(&[]), link(&[Feed::Step(0)])]);
        let params = Chain::params(&[30], [&[][..], &[]].into_iter());
        let metas = [ChunkMeta::new(DType::F64, &[30])];
        assert!(chain.scratch_bytes(&params, &metas) >= 240);
        assert!(chain.no_program(&params, &metas).is_some_and(|why| why.contains("so small")));
    }

    #[test]
    fn a_chain_gives_what_its_steps_give() {
        let shape = [5, 7];
        let uniform = RandomParams::new(3, 4, &shape, &Region::all(&shape)).unwrap().to_bytes();
        let input = Chunk::new(&shape, numbers(35, 3.0));
        let mut random = Chunk::filled(&shape, 0.0);
        random.compute(&Random(Distribution::Uniform), &uniform, &[]);
        let total = || ReduceChunk::plain(Reduction::Sum, (&[0, 1], &shape), DType::F64);
        let (mut sum, mut wanted) = (Chunk::filled(&shape, 0.0), Chunk::filled(&[1], 0.0));
        sum.compute(&Add, &[], &[random.view(), input.view(), random.view()]);
        wanted.compute(&total(), &[], &[sum.view()]);
        let link = |kernel: Arc<dyn Kernel>, inputs: &[Feed]| ChainStep { kernel, inputs: inputs.into(), dtype: DType::F64 };
        let chain = Chain::new(vec![
            link(Arc::new(Random(Distribution::Uniform)), &[]),
            link(Arc::new(Add), &[Feed::Step(0), Feed::Input(0), Feed::Step(0)]),
            link(Arc::new(total()), &[Feed::Step(1)]),
        ]);
        let params = Chain::params(&shape, [&uniform[..], &[], &[]].into_iter());
        let operands = [(&shape[..], DType::F64), (&[1], DType::F64)];
        let metas = operands.map(|(shape, dtype)| ChunkMeta::new(dtype, shape));
        let mut scratch = vec![0xff; chain.scratch_bytes(&params, &metas) as usize];
        let mut found = Chunk::filled(&[1], 0.0);
        let mut out = [ChunkViewMut::from_slice(&mut found.data, &found.layout)];
        chain.run_cpu(&params, &[input.view()], &mut out, &mut Scratch::new(&mut scratch)).unwrap();
        assert_eq!(found.data, wanted.data);
        assert_eq!(chain.name(), "uniform + add + sum");
        assert!(matches!(chain.content(), Content::Text(_)));
        assert_eq!(chain.work(&params, &metas).bytes, 35.0 * 8.0 + 8.0);
        assert!(chain.work(&params, &metas).flops > 35.0 * 3.0);
    }
}
