//! `syrk`: `C <- C - A A^T` on one diagonal tile.
//!
//! Owns: the kernel of the diagonal update. Must not know: who packed its input. Invariant: the lower triangle is what
//! [`Gemm`](super::Gemm) would give, bit for bit.

use fearless_simd::Level;
use std::borrow::Cow;

use super::gemm::{ProductParams, update};
use super::{LEFT, RIGHT, level, packing, product};
use crate::kernel::{Fault, GpuFacts, Kernel, Program, Scratch, Work, params};
use crate::shape::Form;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};

/// `C <- C - A A^T`, lower triangle, with A `(n, k)`, C `(n, n)`; `f32` or `f64`.
///
/// Inputs: A twice, in form [`LEFT`] and in form [`RIGHT`] (the values that [`Gemm`](super::Gemm) packed serve here).
/// Update: C, whose strict upper triangle may hold anything, before and after. Work: `n^2 k`.
pub struct Syrk {
    level: Level,
}

impl Syrk {
    /// The kernel for this machine.
    #[must_use]
    pub fn new() -> Self {
        Self { level: level() }
    }

    /// The kernel for one SIMD level. Inputs must be packed by the same level.
    #[must_use]
    pub fn at(level: Level) -> Self {
        Self { level }
    }
}

impl Default for Syrk {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for Syrk {
    fn name(&self) -> Cow<'static, str> {
        "syrk".into()
    }

    fn work(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let k = params::<ProductParams>(bytes).k as f64;
        let c = operands[operands.len() - 1];
        let n = c.shape[0] as f64;
        Work { flops: n * n * k, bytes: (n * k + 2.0 * n * n) * c.dtype.bytes() as f64 }
    }

    fn packs_as(&self) -> Cow<'static, str> {
        super::TILES.into()
    }

    fn input_form(&self, _params: &[u8], index: usize) -> Form {
        Form::Packed(if index == 0 { LEFT } else { RIGHT })
    }

    fn packed_len(&self, form: u8, operand: ChunkMeta<'_>) -> (DType, usize) {
        packing::packed_len(self.level, form, operand)
    }

    fn pack(&self, form: u8, from: ChunkView<'_>, to: &mut ChunkViewMut<'_>) {
        packing::pack(self.level, form, from, to);
    }

    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let k = params::<ProductParams>(bytes).k;
        let most = || self.work(bytes, operands);
        let wanted = product::TileUpdate { lower: true, k, variant: gpu.variants.syrk, most: &most };
        product::program(operands, &wanted, gpu)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let k = params::<ProductParams>(bytes).k as usize;
        update::<true>(self.level, k, inputs, &mut outputs[0]);
        Ok(())
    }
}
