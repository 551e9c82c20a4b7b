//! `trsm`: `B <- B L^-T` on one tile.
//!
//! Owns: the kernel that turns a column tile into a tile of L. Must not know: the factorisation around it. Invariant: nothing
//! above L's diagonal flows into the result.

use fearless_simd::{Level, Simd, dispatch};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::block::{ColumnBlock, DIAGONAL, invert, solve, subtract_product};
use super::micro::{self, Num};
use super::pack::{PackPlace, Panels, pack_chunk};
use super::{BLOCK, Space, level, rows_of, with_tile, with_type};
use crate::kernel::program::shader_params;
use crate::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut};

/// `B <- B L^-T` with L `(n, n)` lower triangular, B `(m, n)`; `f32` or `f64`.
///
/// Input: L, as [`Potrf`](super::Potrf) left it. Update: B. Work: `m n^2`. Diagonal blocks of 48 are inverted and applied as
/// products (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 14.2), the rest is products: stable as long as
/// those blocks are not nearly singular, which a Cholesky factor's are not unless the matrix itself is.
///
/// A GPU does all in one pass: a workgroup takes 32 rows, which do not know of others, and goes through their blocks of 32 columns; from
/// each, a product takes what the columns before it contribute, then comes substitution, one row an invocation. So the result X solves
/// nearby equations: `|X L^T - B| <= (n + 7) u |X| |L^T|` to first order (Higham, 8.1), `u` being 2^-24 or 2^-53. An element is a sum of
/// `n` terms at most, divided: that is, multiplied by a reciprocal, for which Vulkan and Metal allow a GPU 2.5 units in the last place, 5 u.
pub struct Trsm {
    level: Level,
}

shader_params!(
    /// Parameters of the shader: shape of B.
    pub(crate) struct TrsmShape { m, n }
);

pub(super) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::ours(
        "trsm",
        concat!(
            include_str!("../../../shaders/trsm.wgsl"),
            include_str!("../../../shaders/substitution.wgsl"),
            include_str!("../../../shaders/tile.wgsl"),
        ),
    );
    shader.with_params(TrsmShape::FIELDS).with_operands(1, 1).with_workgroup(64, [4736, 9472]).into()
});

impl Trsm {
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

impl Default for Trsm {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for Trsm {
    fn name(&self) -> Cow<'static, str> {
        "trsm".into()
    }

    fn version(&self) -> u32 {
        2
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let b = operands[operands.len() - 1];
        let (m, n) = (b.shape[0] as f64, b.shape[1] as f64);
        Work { flops: m * n * n, bytes: (n * n + 2.0 * m * n) * b.dtype.bytes() as f64 }
    }

    fn scratch_bytes(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let b = operands[operands.len() - 1];
        Space::bytes(b.shape[0], b.shape[1], b.dtype)
    }

    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [l, b] = operands else { return None };
        let &[m, n] = b.shape else { return None };
        if !b.dtype.is_float() || l.dtype != b.dtype || l.shape != [n, n] || !gpu.can_bind(operands) {
            return None;
        }
        // What is done so far is B itself, so a workgroup can leave off after any block.
        let steps = 0..n.div_ceil(BLOCK) as u32;
        let pass = Pass { entry: "solve".into(), groups: m.div_ceil(BLOCK) as u64, steps, resumable: true };
        let shape = TrsmShape { m: m as u32, n: n as u32 };
        let program = Program::new(&SHADER, b.dtype, &shape.words(), vec![pass], self.work(bytes, operands));
        program.fitting(gpu, operands)
    }

    fn run_cpu(
        &self,
        _params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let b = &mut outputs[0];
        let (m, n) = (b.layout().shape[0], b.layout().shape[1]);
        with_type!(b.layout().dtype, T => {
            let mut space = Space::<T>::take(scratch, m, n);
            let mut rows = rows_of::<T>(b);
            dispatch!(self.level, simd => run(simd, inputs[0], &mut rows, &mut space));
        });
        Ok(())
    }
}

#[inline(always)]
fn run<S: Simd, T: Num>(simd: S, l: ChunkView<'_>, b: &mut [&mut [T]], space: &mut Space<'_, T>) {
    with_tile!(S, T, MR, NV => columns::<S, T, MR, NV>(simd, l, b, space));
}

/// Left-looking: one block of columns after another, each updated by all before it.
#[inline(always)]
fn columns<S: Simd, T: Num, const MR: usize, const NV: usize>(
    simd: S,
    l: ChunkView<'_>,
    b: &mut [&mut [T]],
    space: &mut Space<'_, T>,
) {
    let n = l.shape()[1];
    for j in (0..n).step_by(DIAGONAL) {
        let width = DIAGONAL.min(n - j);
        let mut c = ColumnBlock { rows: b, column: j, columns: width };
        let place = PackPlace { width: micro::nr::<S, T, NV>(), depth: j, first: 0, range: 0..j };
        pack_chunk(space.right, &place, l, j..j + width);
        let left = Panels { data: space.left, depth: n, first: 0, range: 0..j };
        subtract_product::<S, T, MR, NV, false>(simd, &left, &Panels::whole(space.right, j), &mut c);
        space.diagonal.fill(T::default());
        l.read(j..j + width, j..j + width, space.diagonal, [1, DIAGONAL]);
        for (p, column) in space.diagonal.chunks_exact_mut(DIAGONAL).enumerate().take(width) {
            column[..p].fill(T::default());
        }
        invert::<S, T, NV>(simd, space.diagonal, width, space.inverse);
        let place = PackPlace { width: MR, depth: n, first: 0, range: j..j + width };
        solve::<S, T, MR, NV>(simd, space.inverse, &mut c, space.left, &place);
    }
}
