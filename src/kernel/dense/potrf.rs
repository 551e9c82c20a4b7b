//! `potrf`: `A = L L^T` on one diagonal tile.
//!
//! Owns: the kernel that factors, and finds out that it cannot. Must not know: the tiles around it. Invariant: the strict upper
//! triangle is never read, and zero afterwards.

use fearless_simd::{Level, Simd, dispatch};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::block::{ColumnBlock, DIAGONAL, factor, invert, solve, subtract_product};
use super::micro::{self, Num};
use super::pack::{PackPlace, Panels, pack};
use super::{BLOCK, Space, level, rows_of, with_tile, with_type};
use crate::kernel::program::shader_params;
use crate::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work, params};
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
/// A GPU takes one pass for each block of 32 columns: it takes from the block what the columns before it contribute, factors what is on the
/// diagonal, in each workgroup anew, and solves for the rows below; and one pass more to put the diagonal in place. So
/// `|A - L L^T| <= (n + 20) u |L| |L^T|` to first order (Higham, 10.1), `u` being 2^-24 or 2^-53. An element is a sum of `n` terms at most,
/// divided by a root, or that root. Vulkan and Metal allow a GPU 2.5 units in the last place for a reciprocal, 5 u, and 4.5 for a root (the
/// reciprocal of an inverse root, which may be 2 off), 9 u, twice which its square is off.
/// A fault's pivot is known to about 2^-24 of itself, and as infinite or 0 outside the range of `f32`.
///
/// # Errors
/// [`Fault::NotPositive`] with the global row of the first pivot that is not positive, or NaN, or infinite; the tile is then
/// partly overwritten.
pub struct Potrf {
    level: Level,
}

shader_params!(
    /// Parameters of the shader.
    pub(crate) struct Square {
        /// Side of A.
        n,
        /// 0.
        zero,
    }
);

/// Columns that a workgroup of the last pass finishes, of 32 rows.
const FINISHED: usize = 256;

pub(super) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::ours(
        "potrf",
        concat!(
            include_str!("../../../shaders/potrf.wgsl"),
            include_str!("../../../shaders/substitution.wgsl"),
            include_str!("../../../shaders/tile.wgsl"),
        ),
    );
    shader.with_params(Square::FIELDS).with_operands(0, 1).with_workgroup(256, [5124, 10244]).into()
});

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
    fn name(&self) -> Cow<'static, str> {
        "potrf".into()
    }

    fn version(&self) -> u32 {
        2
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

    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [a] = operands else { return None };
        let &[n, columns] = a.shape else { return None };
        if !a.dtype.is_float() || n != columns || !gpu.can_bind(operands) {
            return None;
        }
        let blocks = n.div_ceil(BLOCK);
        // Where nothing is below the diagonal any more, a workgroup has only the block on it.
        let mut passes: Vec<_> =
            (0..blocks).map(|block| Pass::new("columns", (blocks - block - 1).max(1) as u64, block as u32)).collect();
        passes.push(Pass::new("finish", (blocks * n.div_ceil(FINISHED)) as u64, 0));
        let square = Square { n: n as u32, zero: 0 };
        let mut program = Program::new(&SHADER, a.dtype, &square.words(), passes, self.work(bytes, operands));
        program.scratch_bytes = (blocks * BLOCK * BLOCK * a.dtype.bytes()) as u64;
        program.faults = true;
        program.fitting(gpu, operands)
    }

    fn fault(&self, bytes: &[u8], [row, high, low, _]: [u32; 4]) -> Option<Fault> {
        let first = params::<PotrfParams>(bytes).row;
        let (high, low) = (f64::from(f32::from_bits(high)), f64::from(f32::from_bits(low)));
        let pivot = if high.is_finite() { high + low } else { high };
        (row != 0).then(|| Fault::NotPositive { row: first + u64::from(row - 1), pivot })
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
        let place = PackPlace { width: micro::nr::<S, T, NV>(), depth: j, first: 0, range: 0..j };
        pack(space.right, &place, width, |i| &a[j + i][..j]);
        let left = Panels { data: space.left, depth: n, first: j / MR, range: 0..j };
        let mut c = ColumnBlock { rows: &mut a[j..], column: j, columns: width };
        subtract_product::<S, T, MR, NV, true>(simd, &left, &Panels::whole(space.right, j), &mut c);
        diagonal::<S, T, NV>(simd, &mut a[j..j + width], j, space).map_err(|(row, pivot)| (j + row, pivot))?;
        if j + width < n {
            invert::<S, T, NV>(simd, space.diagonal, width, space.inverse);
            let mut c = ColumnBlock { rows: &mut a[j + width..], column: j, columns: width };
            let place = PackPlace { width: MR, depth: n, first: (j + width) / MR, range: j..j + width };
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
