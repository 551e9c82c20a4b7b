//! The GPU half of a sum of floats.
//!
//! Owns: the shader `block_sum`, its parameters. Must not know: which tasks run it. Invariant: the two halves agree in names, offsets and bindings.
//!
//! A GPU adds in the chunk's dtype, `f32` or `f64` (so no `f64` is needed of it for `f32`): runs of 8192 elements pairwise, then the runs' sums in 256 chains, then these
//! pairwise. Its error is below `(22 + len / 2^21) u sum |x|`, `u` = 2^-24 or 2^-53.

use std::sync::{Arc, LazyLock};

use crate::kernel::program::shader_params;
use crate::kernel::{GpuFacts, Pass, Program, Shader, Work};
use crate::shape::{ChunkMeta, DType};

shader_params!(
    /// Parameters of the shader of a sum.
    pub(crate) struct SumShape {
        /// Elements.
        len,
        /// Runs of `RUN` elements, the last perhaps shorter.
        runs,
    }
);

pub(crate) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::ours("block_sum", include_str!("../../../shaders/block_sum.wgsl"));
    shader.with_params(SumShape::FIELDS).with_operands(1, 1).with_workgroup(256, [1024, 2048]).into()
});

/// Elements that one workgroup sums.
const RUN: usize = 8192;

/// The sum of a chunk of floats, in `f64`.
pub(super) fn sum(operands: &[ChunkMeta<'_>], work: impl FnOnce() -> Work, gpu: &GpuFacts) -> Option<Program> {
    let [x, out] = operands else { return None };
    let is_sum = out.dtype == DType::F64 && out.shape.iter().all(|&n| n == 1);
    if !x.dtype.is_float() || !is_sum || !gpu.can_bind(operands) {
        return None;
    }
    let len = x.shape.iter().product::<usize>();
    let runs = len.div_ceil(RUN);
    let first = if len % 4 == 0 { "wide" } else { "narrow" };
    let last = if x.dtype == DType::F64 { "finish_f64" } else { "finish" };
    let passes = vec![Pass::new(first, runs as u64, 0), Pass::new(last, 1, 0)];
    let params = SumShape { len: len as u32, runs: runs as u32 };
    let mut program = Program::new(&SHADER, x.dtype, &params.words(), passes, work());
    program.scratch_bytes = (runs * x.dtype.bytes()) as u64;
    program.fitting(gpu, operands)
}
