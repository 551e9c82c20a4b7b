//! Tile kernels of blocked Cholesky, `A = L L^T`: potrf, trsm, syrk, gemm.
//!
//! Owns: dense products and factors of one tile. Must not know: the order of tiles, threads. Invariant: the same inputs give
//! the same bits on one SIMD level; between levels the last bits differ, because levels without fused multiply-add round
//! twice, and widths of blocks decide the order of a few sums.
//!
//! All tiles are row-major. Vectors run along the columns of C, so the right operand's panels are a few vectors wide and the
//! left operand is broadcast. [`LEFT`] and [`RIGHT`] are the packed forms, the same for [`Gemm`] and [`Syrk`]: a tile of L is
//! packed once per form and read by every task of its row and column. A packed value is one contiguous 1-d run of numbers.
//!
//! After Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, ACM TOMS 34(3), 2008.

mod block;
mod gemm;
mod micro;
mod pack;
mod packing;
mod potrf;
mod product;
mod syrk;
#[cfg(test)]
mod tests;
mod trsm;

pub use gemm::{Gemm, ProductParams};
pub use potrf::{Potrf, PotrfParams};
pub use syrk::Syrk;
pub use trsm::Trsm;

use std::sync::{Arc, LazyLock};

use crate::kernel::simd::level;
use crate::kernel::{Scratch, Shader};
use crate::shape::{ChunkViewMut, DType};
use block::DIAGONAL;
use micro::Num;

/// The shaders: of gemm and syrk, of trsm, of potrf.
pub(super) static SHADERS: [&LazyLock<Arc<Shader>>; 3] = [&product::SHADER, &trsm::SHADER, &potrf::SHADER];

/// Columns of the blocks in which the shaders of trsm and potrf work, and rows that one of their workgroups solves for. Rows are all that
/// they do side by side, and a tile has a thousand of them at most: 64 at once would leave half of a large GPU's cores without a workgroup.
const BLOCK: usize = 32;

/// Whose packed forms those of [`Gemm`] and [`Syrk`] are.
const TILES: &str = "dense tiles@1";
/// Packed form of a left operand: panels as high as the register tile.
pub const LEFT: u8 = 0;
/// Packed form of a right operand: panels as wide as the register tile.
pub const RIGHT: u8 = 1;

/// Runs the body with `T` = the float type that a dtype names.
macro_rules! with_type {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::shape::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::shape::DType::F64 => {
                type $t = f64;
                $body
            }
            other => panic!("dense kernels take f32 and f64, not {other}"),
        }
    };
}
use with_type;

/// Runs the body with the constants `MR`, `NV` = rows of the register tile, vectors per row.
macro_rules! with_tile {
    ($s:ty, $t:ty, $mr:ident, $nv:ident => $body:expr) => {
        if $crate::kernel::dense::micro::tall::<$s, $t>() {
            const $mr: usize = 8;
            const $nv: usize = 3;
            $body
        } else {
            const $mr: usize = 6;
            const $nv: usize = 2;
            $body
        }
    };
}
use with_tile;

/// The rows of a tile.
fn rows_of<'a, T: Num>(tile: &'a mut ChunkViewMut<'_>) -> Vec<&'a mut [T]> {
    tile.rows_mut::<T>().collect()
}

/// Scratch of the kernels that solve: packed left and right operands, a diagonal block, its inverse.
struct Space<'a, T> {
    left: &'a mut [T],
    right: &'a mut [T],
    diagonal: &'a mut [T],
    inverse: &'a mut [T],
}

impl<'a, T: Num> Space<'a, T> {
    fn take(scratch: &mut Scratch<'a>, m: usize, n: usize) -> Self {
        let [left, right, diagonal, inverse] = lengths(m, n).map(|len| scratch.take(len));
        Self { left, right, diagonal, inverse }
    }
}

impl Space<'_, f64> {
    /// Bytes that `take` needs for a tile `(m, n)`.
    fn bytes(m: usize, n: usize, dtype: DType) -> u64 {
        lengths(m, n).iter().map(|len| (len * dtype.bytes() + 64) as u64).sum()
    }
}

/// Elements of the four parts; up to 8 rows in the register tile.
fn lengths(m: usize, n: usize) -> [usize; 4] {
    [(m + 7) * n, DIAGONAL * n, DIAGONAL * DIAGONAL, DIAGONAL * DIAGONAL]
}
