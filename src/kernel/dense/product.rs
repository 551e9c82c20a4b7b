//! The GPU half of gemm and syrk: one shader, in three sizes of tile.
//!
//! Owns: the choice of the tile. Must not know: packed forms (a GPU reads plain chunks). Invariant: every variant adds an element's
//! products in ascending order of k, then subtracts the sum from C, so the choice changes no bits.

use std::sync::{Arc, LazyLock};

use crate::kernel::program::shader_params;
use crate::kernel::{GpuFacts, Pass, Program, Shader, Variants, Work};
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
    let shader = Shader::ours(
        "gemm",
        concat!(
            include_str!("../../../shaders/gemm.wgsl"),
            include_str!("../../../shaders/large.wgsl"),
            include_str!("../../../shaders/tile.wgsl"),
        ),
    );
    shader.with_params(Product::FIELDS).with_operands(2, 1).with_workgroup(256, [16 << 10, 32 << 10]).into()
});

/// One size of tile.
struct Variant {
    side: usize,
    /// Entry points for k and n that 4 divides, and for any.
    entries: [&'static str; 2],
    invocations: u32,
    workgroup_bytes: [u32; 2],
}

/// From the smallest on: number `i` is chosen by `i + 1` in [`Variants`](crate::kernel::Variants). Small ones are for few tiles, and for `f64`
/// with 16 KiB, in which no other fits.
static VARIANTS: [Variant; Variants::PRODUCTS as usize] = [
    Variant { side: 32, entries: ["small", "small_any"], invocations: 64, workgroup_bytes: [4608, 9216] },
    Variant { side: 64, entries: ["medium", "medium_any"], invocations: 128, workgroup_bytes: [8704, 17408] },
    Variant { side: 128, entries: ["large", "large_any"], invocations: 256, workgroup_bytes: [16 << 10, 32 << 10] },
];
/// With fewer medium tiles than this, more of a GPU is busy with small ones.
const FEW: usize = 16;

/// What is asked for.
pub(super) struct TileUpdate<'a> {
    /// Only what reaches C's lower triangle.
    pub(super) lower: bool,
    /// Columns of A and of B, as the parameters say.
    pub(super) k: u64,
    /// The variant for `f32` and for `f64`; 0 leaves it to the size.
    pub(super) variant: [u8; 2],
    /// The work, of operands that fit each other.
    pub(super) most: &'a dyn Fn() -> Work,
}

/// `C <- C - A B^T`, or only what reaches its lower triangle. The error of each element is within
/// `(k + 1) u (|c| + sum |a| |b|)` to first order, `u` being 2^-24 or 2^-53.
pub(super) fn program(operands: &[ChunkMeta<'_>], update: &TileUpdate<'_>, gpu: &GpuFacts) -> Option<Program> {
    let [a, b, c] = operands else { return None };
    let &[m, n] = c.shape else { return None };
    let (real, k) = (c.dtype, usize::try_from(update.k).ok()?);
    let fit = a.shape == [m, k] && b.shape == [n, k] && (m == n || !update.lower) && gpu.can_bind(operands);
    if !real.is_float() || a.dtype != real || b.dtype != real || !fit {
        return None;
    }
    let double = usize::from(real == DType::F64);
    let tiles = |side: usize| match (m.div_ceil(side), n.div_ceil(side)) {
        (rows, _) if update.lower => rows * (rows + 1) / 2,
        (rows, columns) => rows * columns,
    };
    let most = match update.variant[double] {
        0 => 1 + usize::from(tiles(VARIANTS[1].side) >= FEW),
        chosen => usize::from(chosen),
    };
    let fits = |v: &&Variant| v.invocations <= gpu.invocations && v.workgroup_bytes[double] <= gpu.workgroup_bytes;
    // The next smaller one stands in for one that does not fit.
    let variant = VARIANTS.iter().take(most).rev().find(fits).unwrap_or(&VARIANTS[0]);
    let entry = variant.entries[usize::from(k % 4 != 0 || n % 4 != 0)];
    let passes = vec![Pass::new(entry, tiles(variant.side) as u64, 0)];
    let params = Product { m: m as u32, n: n as u32, k: k as u32, lower: u32::from(update.lower) };
    let workgroup = (variant.invocations, variant.workgroup_bytes[double]);
    Program::new(&SHADER, real, &params.words(), passes, (update.most)()).fitting_within(gpu, operands, workgroup)
}
