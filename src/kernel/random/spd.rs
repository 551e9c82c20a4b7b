//! A test matrix: symmetric, and positive definite.
//!
//! Owns: the kernel [`Spd`]. Must not know: how its random numbers are made. Invariant: an element follows from the seed, the stream, its row and its column, and is that of the
//! mirrored place.

use std::borrow::Cow;

use fearless_simd::Level;

use super::philox::Philox;
use super::uniform::Draw;
use crate::kernel::rows::fill;
use crate::kernel::{Fault, Kernel, Scratch, Work, params, simd};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};

/// `spd`: no input; output: chunk `(rows, columns)` of a symmetric positive definite matrix of order `n`, `f32` or `f64`.
///
/// Off the diagonal `a[i][j] = u(max(i,j) * n + min(i,j)) - 0.5` with `u` as in [`Distribution::Uniform`](super::Distribution::Uniform); on it `n`. Symmetric to the
/// bit, and positive definite because the diagonal dominates.
pub struct Spd;

/// Parameters of [`Spd`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SpdParams {
    /// Seed.
    pub seed: u64,
    /// Stream.
    pub stream: u64,
    /// First row of the chunk in the matrix.
    pub row: u64,
    /// Rows of the matrix from one of the chunk to the next.
    pub row_step: u64,
    /// First column of the chunk in the matrix.
    pub column: u64,
    /// Columns of the matrix from one of the chunk to the next.
    pub column_step: u64,
    /// Rows (and columns) of the whole matrix.
    pub order: u64,
}

impl Kernel for Spd {
    fn name(&self) -> Cow<'static, str> {
        "spd".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        super::counter_work(operands, 90.0 / 16.0 * operands.last().map_or(0.0, |out| out.dtype.bytes() as f64))
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let p = params::<SpdParams>(bytes);
        match outputs[0].layout().dtype {
            DType::F32 => spd::<f32>(simd::level(), &p, &mut outputs[0]),
            _ => spd::<f64>(simd::level(), &p, &mut outputs[0]),
        }
        Ok(())
    }
}

fn spd<T: Draw>(level: Level, p: &SpdParams, out: &mut ChunkViewMut<'_>) {
    let philox = Philox::new(p.seed, p.stream);
    fill(out, |r, start, piece: &mut [T]| {
        let step = p.column_step;
        let (i, j) = (p.row + r as u64 * p.row_step, p.column + start as u64 * step);
        let below = (i.saturating_sub(j).div_ceil(step) as usize).min(piece.len()); // columns j.. that are left of the diagonal
        let (left, right) = piece.split_at_mut(below);
        philox.progression(level, i * p.order + j, step, left);
        philox.progression(level, (j + below as u64 * step) * p.order + i, p.order * step, right);
        piece.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() - 0.5));
        let on = i.checked_sub(j).filter(|d| d.is_multiple_of(step));
        if let Some(diagonal) = on.and_then(|d| piece.get_mut((d / step) as usize)) {
            *diagonal = T::from_f64(p.order as f64);
        }
    });
}
