//! `potrf`: `A = L L^T` on one diagonal tile.
//!
//! Owns: the kernel that factors, and finds out that it cannot. Must not know: the tiles around it. Invariant: the strict upper
//! triangle is never read, and zero afterwards.

use fearless_simd::{Level, Simd, dispatch};

use super::block::{Block, DIAGONAL, factor, invert, solve, subtract_product};
use super::micro::{self, Num};
use super::pack::{Panels, Place, pack};
use super::{Space, level, rows_of, with_tile, with_type};
use crate::kernel::{Fault, Kernel, Scratch, Work, params};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut};

/// Parameters of [`Potrf`].
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PotrfParams {
    /// Global row of the tile's first row: what a fault names.
    pub row: u64,
}

/// `A = L L^T` in place, A `(n, n)` symmetric positive definite; `f32` or `f64`.
///
/// Update: A, of which the lower triangle is read; afterwards L, with zeros above the diagonal. Work: `n^3 / 3`.
///
/// # Errors
/// [`Fault::NotPositive`] with the global row of the first pivot that is not positive, or NaN, or infinite; the tile is then
/// partly overwritten.
pub struct Potrf {
    level: Level,
}

impl Potrf {
    /// The kernel for this machine.
    #[must_use]
    pub fn new() -> Self {
        Self { level: level() }
    }

    /// The kernel for one SIMD level.
    #[must_use]
    pub fn at(level: Level) -> Self {
        Self { level }
    }
}

impl Default for Potrf {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for Potrf {
    fn name(&self) -> &'static str {
        "potrf"
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let a = operands[operands.len() - 1];
        let n = a.shape[0] as f64;
        Work { flops: n * n * n / 3.0, bytes: 2.0 * n * n * a.dtype.bytes() as f64 }
    }

    fn scratch_bytes(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let a = operands[operands.len() - 1];
        Space::bytes(a.shape[0], a.shape[1], a.dtype)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let a = &mut outputs[0];
        let n = a.layout().shape[0];
        let factored = with_type!(a.layout().dtype, T => {
            let mut space = Space::<T>::take(scratch, n, n);
            let mut rows = rows_of::<T>(a);
            dispatch!(self.level, simd => run(simd, &mut rows, &mut space))
        });
        let first = params::<PotrfParams>(bytes).row;
        factored.map_err(|(row, pivot)| Fault::NotPositive { row: first + row as u64, pivot })
    }
}

#[inline(always)]
fn run<S: Simd, T: Num>(simd: S, a: &mut [&mut [T]], space: &mut Space<'_, T>) -> Result<(), (usize, f64)> {
    with_tile!(S, T, MR, NV => columns::<S, T, MR, NV>(simd, a, space))
}

/// Left-looking: one block of columns after another, each updated by all before it.
#[inline(always)]
fn columns<S: Simd, T: Num, const MR: usize, const NV: usize>(
    simd: S,
    a: &mut [&mut [T]],
    space: &mut Space<'_, T>,
) -> Result<(), (usize, f64)> {
    let n = a.len();
    for j in (0..n).step_by(DIAGONAL) {
        let width = DIAGONAL.min(n - j);
        let place = Place { width: micro::nr::<S, T, NV>(), depth: j, first: 0, range: 0..j };
        pack(space.right, &place, width, |i| &a[j + i][..j]);
        let left = Panels { data: space.left, depth: n, first: j / MR, range: 0..j };
        let mut c = Block { rows: &mut a[j..], column: j, columns: width };
        subtract_product::<S, T, MR, NV, true>(simd, &left, &Panels::whole(space.right, j), &mut c);
        diagonal::<S, T, NV>(simd, &mut a[j..j + width], j, space).map_err(|(row, pivot)| (j + row, pivot))?;
        if j + width < n {
            invert::<S, T, NV>(simd, space.diagonal, width, space.inverse);
            let mut c = Block { rows: &mut a[j + width..], column: j, columns: width };
            let place = Place { width: MR, depth: n, first: (j + width) / MR, range: j..j + width };
            // The rows of this block itself are needed no more as a left operand.
            solve::<S, T, MR, NV>(simd, space.inverse, &mut c, space.left, &place);
        }
    }
    Ok(())
}

/// Factors the diagonal block in rows `a`, columns from `j`.
#[inline(always)]
fn diagonal<S: Simd, T: Num, const NV: usize>(
    simd: S,
    a: &mut [&mut [T]],
    j: usize,
    space: &mut Space<'_, T>,
) -> Result<(), (usize, f64)> {
    let u = &mut *space.diagonal;
    u.fill(T::default());
    for (i, row) in a.iter().enumerate() {
        for (p, &x) in row[j..=j + i].iter().enumerate() {
            u[p * DIAGONAL + i] = x;
        }
    }
    factor::<S, T, NV>(simd, u, a.len())?;
    for (i, row) in a.iter_mut().enumerate() {
        for (p, x) in row[j..=j + i].iter_mut().enumerate() {
            *x = u[p * DIAGONAL + i];
        }
        row[j + i + 1..].fill(T::default());
    }
    Ok(())
}
