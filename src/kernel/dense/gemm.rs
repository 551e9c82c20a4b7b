//! `gemm`: `C <- C - A B^T` on one tile.
//!
//! Owns: the kernel of the off-diagonal update. Must not know: who packed its inputs. Invariant: results of one SIMD level
//! depend on the tile's numbers and k only.

use fearless_simd::{Level, Simd, dispatch};
use std::borrow::Cow;

use super::block::{ColumnBlock, subtract_product};
use super::micro::Num;
use super::pack::Panels;
use super::{LEFT, RIGHT, level, packing, product, rows_of, with_tile, with_type};
use crate::kernel::{Fault, GpuFacts, Kernel, Program, Scratch, Work, params};
use crate::shape::Form;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};

/// Parameters of [`Gemm`] and [`Syrk`](super::Syrk).
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ProductParams {
    /// Columns of A (and of B).
    pub k: u64,
}

/// `C <- C - A B^T` with A `(m, k)`, B `(n, k)`, C `(m, n)`; `f32` or `f64`.
///
/// Inputs: A in form [`LEFT`], B in form [`RIGHT`]. Update: C. Work: `2 m n k`. The error of each element is within
/// `k eps sum |a| |b|` to first order.
pub struct Gemm {
    level: Level,
}

impl Gemm {
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

impl Default for Gemm {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for Gemm {
    fn name(&self) -> Cow<'static, str> {
        "gemm".into()
    }

    fn work(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let k = params::<ProductParams>(bytes).k as f64;
        let c = operands[operands.len() - 1];
        let (m, n) = (c.shape[0] as f64, c.shape[1] as f64);
        Work { flops: 2.0 * m * n * k, bytes: (m * k + n * k + 2.0 * m * n) * c.dtype.bytes() as f64 }
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
        let wanted = product::TileUpdate { lower: false, k, variant: gpu.variants.gemm, most: &most };
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
        update::<false>(self.level, k, inputs, &mut outputs[0]);
        Ok(())
    }
}

/// `C <- C - A B^T` from packed inputs, all of C or (up to whole register tiles) its lower triangle.
pub(super) fn update<const LOWER: bool>(level: Level, k: usize, inputs: &[ChunkView<'_>], c: &mut ChunkViewMut<'_>) {
    with_type!(c.layout().dtype, T => {
        let (a, b) = (Panels::whole(inputs[0].slice::<T>(), k), Panels::whole(inputs[1].slice::<T>(), k));
        let columns = c.layout().shape[1];
        let mut rows = rows_of::<T>(c);
        let mut c = ColumnBlock { rows: &mut rows, column: 0, columns };
        dispatch!(level, simd => run::<_, T, LOWER>(simd, &a, &b, &mut c));
    });
}

#[inline(always)]
fn run<S: Simd, T: Num, const LOWER: bool>(simd: S, a: &Panels<'_, T>, b: &Panels<'_, T>, c: &mut ColumnBlock<'_, '_, T>) {
    with_tile!(S, T, MR, NV => subtract_product::<S, T, MR, NV, LOWER>(simd, a, b, c));
}
