//! A chunk of which all follows from indices: random numbers, and numbers at equal distances, on a CPU or on a GPU.
//!
//! Owns: [`MadeChunk`]. Must not know: what is made. Invariant: it gives what the same elements are as an input of a program, on either device.

use std::borrow::Cow;
use std::sync::Arc;

use super::generate::Generate;
use super::map::ScalarProgram;
use super::map::wgsl::Modules;
use super::{Content, Fault, GpuFacts, Kernel, Program, Scratch, Work};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};

/// A kernel without inputs, with a GPU half made of what a program would take in.
pub(crate) struct MadeChunk {
    of: Arc<dyn Generate>,
    dtype: DType,
    modules: Modules,
}

impl MadeChunk {
    pub(crate) fn new(of: Arc<dyn Generate>, dtype: DType) -> Self {
        Self { of, dtype, modules: Modules::default() }
    }
}

impl Kernel for MadeChunk {
    fn name(&self) -> Cow<'static, str> {
        self.of.name()
    }

    fn version(&self) -> u32 {
        self.of.version()
    }

    fn content(&self) -> Content {
        self.of.content()
    }

    fn check(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<()> {
        self.of.check(params, operands)
    }

    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        self.of.work(params, operands)
    }

    fn is_steady(&self) -> bool {
        self.of.is_steady()
    }

    fn program(&self, params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let &[out] = operands else { return None };
        let feed = self.of.on_gpu(params, out.dtype, out.shape)?;
        let program = ScalarProgram::identity(out.dtype);
        self.modules.program((&program, &[Some(feed)]), operands, || self.work(params, operands), gpu)
    }

    fn no_program(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Option<String> {
        let &[out] = operands else { return None };
        let is_made = self.of.on_gpu(params, out.dtype, out.shape).is_some();
        (!is_made).then(|| "what it makes of indices is not made on a GPU".into())
    }

    fn inexact(&self, gpu: &GpuFacts) -> Option<String> {
        self.of.inexact_on_gpu(self.dtype, gpu)
    }

    fn run_cpu(
        &self,
        params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        self.of.run_cpu(params, inputs, outputs, scratch)
    }
}
