//! The GPU half of gemm and syrk: one shader, in two sizes of tile.
//!
//! Owns: the choice of the tile. Must not know: packed forms (a GPU reads plain chunks). Invariant: every variant adds an element's
//! products in ascending order of k, then subtracts the sum from C, so the choice changes no bits.

use std::sync::{Arc, LazyLock};

use crate::kernel::program::shader_params;
use crate::kernel::{GpuFacts, Pass, Program, Shader, Work};
use crate::shape::{ChunkMeta, DType};

shader_params!(
    /// Parameters of the shader: C is `(m, n)`.
    pub(crate) struct Product {
        m,
        n,
        k,
        /// Not 0: tiles above the diagonal are left out, and m = n.
        lower,
    }
);

pub(in crate::kernel) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader =
        Shader::ours("gemm", concat!(include_str!("../../../shaders/gemm.wgsl"), include_str!("../../../shaders/tile.wgsl")));
    shader.with_params(Product::FIELDS).with_operands(2, 1).with_workgroup(128, [8704, 17408]).into()
});

/// One size of tile.
struct Variant {
    side: usize,
    /// Entry points for k and n that 4 divides, and for any.
    entries: [&'static str; 2],
    invocations: u32,
    workgroup_bytes: [u32; 2],
}

/// For few tiles, and where `MEDIUM` does not fit: `f64` with 16 KiB.
static SMALL: Variant = Variant { side: 32, entries: ["small", "small_any"], invocations: 64, workgroup_bytes: [4608, 9216] };
static MEDIUM: Variant =
    Variant { side: 64, entries: ["medium", "medium_any"], invocations: 128, workgroup_bytes: [8704, 17408] };
/// With fewer medium tiles than this, more of a GPU is busy with small ones.
const FEW: usize = 16;

/// `C <- C - A B^T`, or only what reaches its lower triangle. The error of each element is within
/// `(k + 1) u (|c| + sum |a| |b|)` to first order, `u` being 2^-24 or 2^-53.
pub(super) fn program(operands: &[ChunkMeta<'_>], lower: bool, most: Work, gpu: &GpuFacts) -> Option<Program> {
    let [a, b, c] = operands else { return None };
    let (&[m, n], &[_, k]) = (c.shape, a.shape) else { return None };
    let real = c.dtype;
    if !real.is_float() || a.dtype != real || b.dtype != real {
        return None;
    }
    let double = usize::from(real == DType::F64);
    let fits = |v: &Variant| v.invocations <= gpu.invocations && v.workgroup_bytes[double] <= gpu.workgroup_bytes;
    let tiles = |side: usize| match (m.div_ceil(side), n.div_ceil(side)) {
        (rows, _) if lower => rows * (rows + 1) / 2,
        (rows, columns) => rows * columns,
    };
    let small = match gpu.product {
        0 => tiles(MEDIUM.side) < FEW,
        chosen => chosen == 1,
    };
    let variant = if small || !fits(&MEDIUM) { &SMALL } else { &MEDIUM };
    let entry = variant.entries[usize::from(k % 4 != 0 || n % 4 != 0)];
    let passes = vec![Pass::new(entry, tiles(variant.side) as u64, 0)];
    let params = Product { m: m as u32, n: n as u32, k: k as u32, lower: u32::from(lower) };
    let workgroup = (variant.invocations, variant.workgroup_bytes[double]);
    Program::new(&SHADER, real, &params.words(), passes, most).fitting_within(gpu, operands, workgroup)
}
