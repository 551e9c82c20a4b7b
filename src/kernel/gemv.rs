//! `gemv`: matrix times vector.
//!
//! Owns: the row kernel. Must not know: how the matrix is cut. Invariant: an element of the result depends only on its row,
//! on `x` and on `k`: not on the chunk's other rows, the strides, the SIMD level.
//!
//! `y = A x` with `A` `(m, k)`, `x` `(k,)`, `y` `(m,)`. A row is cut into blocks of 2048; a block's products (rounded, not
//! fused) go to 64 bytes of lanes of the element type, which are added pairwise in `f64`; block sums are added pairwise in `f64`; the
//! row is rounded once at the end. So `|y - A x| <= (2048/L + 1) u sum |a| |x|` plus terms of 2^-53, with `L`, `u` = 16, 2^-24
//! for `f32` and 8, 2^-53 for `f64` (then with 4 + log2 of the number of blocks more additions). NaN and infinity propagate.
//!
//! A GPU adds in the element type, by multiply-adds that drivers may or may not fuse: in chains of `k/1024` (`k/256` where 4 does not
//! divide `k`, `k/16` up to `k` = 256), then pairwise over the invocations, then part after part of a row. In any case
//! `|y - A x| <= (k/256 + 20 + parts) u sum |a| |x|`, where a row has one part unless there are under 2048 rows of over 4096.
//!
//! The matrix is read once, so speed is that of memory; four rows at once reuse `x` from registers.

use fearless_simd::{Level, Simd, SimdFloatElement, dispatch, prelude::*};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::block_sum::{Tree, fold};
use super::program::shader_params;
use super::rows::vector;
use super::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work, simd};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Float};

/// The kernel. Inputs: `A` `(m, k)` and `x` `(k,)` of one float dtype; output `y` `(m,)` of the same.
pub struct Gemv;

shader_params!(
    /// Parameters of the shader.
    pub(crate) struct GemvShape {
        m,
        k,
        /// Parts of a row.
        parts,
        /// Elements of a part.
        span,
    }
);

pub(super) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::ours("gemv", include_str!("../../shaders/gemv.wgsl"));
    shader.with_params(GemvShape::FIELDS).with_operands(2, 1).with_workgroup(256, [4096, 8192]).into()
});

/// Longest row that 16 invocations sum; longer ones have 256.
const SHORT: usize = 256;
/// Fewer groups than this leave a GPU idle: then rows are cut.
const GROUPS: usize = 512;
/// Least elements of a part: four turns of the shader's loop.
const SPAN: usize = 4096;

/// Parts of a row of `k`, and elements of each. A function of the shape alone, as the order of additions must be.
fn cut(m: usize, k: usize) -> (usize, usize) {
    let wanted = (GROUPS / m.div_ceil(4)).clamp(1, k.div_ceil(SPAN));
    let span = k.div_ceil(wanted).next_multiple_of(4);
    (k.div_ceil(span), span)
}

/// Elements of a row per block.
const BLOCK: usize = 2048;
/// Rows at once.
const ROWS: usize = 4;
/// Rows gathered at once, where they are no slices.
const GATHERED: usize = 4 * ROWS;

impl Kernel for Gemv {
    fn name(&self) -> Cow<'static, str> {
        "gemv".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let [a, x, ..] = operands else { return Work::default() };
        let len = |m: &ChunkMeta<'_>| m.shape.iter().product::<usize>() as f64;
        let rows = a.shape.first().map_or(0.0, |&m| m as f64);
        Work { flops: 2.0 * len(a), bytes: (len(a) + len(x) + rows) * a.dtype.bytes() as f64 }
    }

    fn program(&self, _params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [a, x, y] = operands else { return None };
        let &[m, k] = a.shape else { return None };
        let real = a.dtype;
        let fit = x.shape == [k] && y.shape == [m] && gpu.can_bind(operands);
        if !real.is_float() || x.dtype != real || y.dtype != real || !fit {
            return None;
        }
        let (parts, span) = cut(m, k);
        let quads = m.div_ceil(4) as u64;
        let [whole, part] = match (k % 4 == 0, gpu.variants.gemv[usize::from(real == DType::F64)]) {
            (false, _) => ["narrow", "narrow_part"],
            (true, 0 | 1) => ["wide", "wide_part"],
            (true, _) => ["slim", "slim_part"],
        };
        let passes = match (k <= SHORT, parts > 1) {
            (true, _) => vec![Pass::new("short", m.div_ceil(16) as u64, 0)],
            (_, false) => vec![Pass::new(whole, quads, 0)],
            (_, true) => vec![Pass::new(part, quads * parts as u64, 0), Pass::new("join", m.div_ceil(256) as u64, 0)],
        };
        let cut = GemvShape { m: m as u32, k: k as u32, parts: parts as u32, span: span as u32 };
        let mut program = Program::new(&SHADER, real, &cut.words(), passes, self.work(&[], operands));
        if parts > 1 {
            program.scratch_bytes = (m * parts * real.bytes()) as u64;
        }
        program.fitting(gpu, operands)
    }

    fn run_cpu(
        &self,
        _params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        match inputs[0].layout().dtype {
            DType::F32 => gemv::<f32>(simd::level(), inputs[0], inputs[1], &mut outputs[0]),
            _ => gemv::<f64>(simd::level(), inputs[0], inputs[1], &mut outputs[0]),
        }
        Ok(())
    }
}

/// An element with vectors.
trait GemvElement: Float + SimdFloatElement {
    /// The sums of one block of `R` rows, over 64 bytes of lanes: with four rows, eight chains of additions on AVX2.
    fn block<S: Simd, const R: usize>(simd: S, rows: [&[Self]; R], x: &[Self]) -> [f64; R];
}
impl GemvElement for f32 {
    #[inline(always)]
    fn block<S: Simd, const R: usize>(simd: S, rows: [&[Self]; R], x: &[Self]) -> [f64; R] {
        block::<S, Self, R, 16>(simd, rows, x)
    }
}
impl GemvElement for f64 {
    #[inline(always)]
    fn block<S: Simd, const R: usize>(simd: S, rows: [&[Self]; R], x: &[Self]) -> [f64; R] {
        block::<S, Self, R, 8>(simd, rows, x)
    }
}

fn gemv<T: GemvElement>(level: Level, a: ChunkView<'_>, x: ChunkView<'_>, y: &mut ChunkViewMut<'_>) {
    let (m, k) = (a.shape()[0], a.shape()[1]);
    assert!(x.shape() == [k] && y.shape() == [m], "gemv: A {:?}, x {:?}, y {:?}", a.shape(), x.shape(), y.shape());
    let x = vector::<T>(x);
    match a.has_row_slices() {
        true => dispatch!(level, simd => of_slices::<_, T>(simd, a, &x, y)),
        false => dispatch!(level, simd => gathered::<_, T>(simd, a, &x, y)),
    }
}

/// All rows, four at a time.
#[inline(always)]
fn of_slices<S: Simd, T: GemvElement>(simd: S, a: ChunkView<'_>, x: &[T], y: &mut ChunkViewMut<'_>) {
    let m = a.shape()[0];
    let whole = m - m % ROWS;
    for r in (0..whole).step_by(ROWS) {
        let sums: [f64; ROWS] = rows(simd, std::array::from_fn(|i| a.row(r + i)), x);
        sums.iter().enumerate().for_each(|(i, &sum)| y.set(0, r + i, T::from_f64(sum)));
    }
    for r in whole..m {
        let [sum] = rows(simd, [a.row(r)], x);
        y.set(0, r, T::from_f64(sum));
    }
}

/// The sums of `R` rows.
#[inline(always)]
fn rows<S: Simd, T: GemvElement, const R: usize>(simd: S, rows: [&[T]; R], x: &[T]) -> [f64; R] {
    if x.len() <= BLOCK {
        return T::block::<S, R>(simd, rows, x);
    }
    blocks(x.len(), |from, to| T::block::<S, R>(simd, rows.map(|row| &row[from..to]), &x[from..to]))
}

/// All rows, where their elements must be gathered: [`GATHERED`] at once, as in a transposed matrix they share lines of cache.
#[inline(always)]
fn gathered<S: Simd, T: GemvElement>(simd: S, a: ChunkView<'_>, x: &[T], y: &mut ChunkViewMut<'_>) {
    let m = a.shape()[0];
    let mut buffer = vec![T::default(); GATHERED * x.len().min(BLOCK)];
    for r in (0..m).step_by(GATHERED) {
        let sums: [f64; GATHERED] = blocks(x.len(), |from, to| {
            let (len, x) = (to - from, &x[from..to]);
            a.read(r..m.min(r + GATHERED), from..to, &mut buffer, [len, 1]);
            let mut sums = [0.0; GATHERED];
            for (k, sums) in sums.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                *sums = T::block::<S, ROWS>(simd, std::array::from_fn(|i| &buffer[(k * ROWS + i) * len..][..len]), x);
            }
            sums
        });
        sums.iter().take(m - r).enumerate().for_each(|(i, &sum)| y.set(0, r + i, T::from_f64(sum)));
    }
}

/// Joins the sums of the blocks of `0..k`.
#[inline(always)]
fn blocks<const R: usize>(k: usize, mut block: impl FnMut(usize, usize) -> [f64; R]) -> [f64; R] {
    let mut trees = [Tree::new(); R];
    for from in (0..k).step_by(BLOCK) {
        let sums = block(from, k.min(from + BLOCK));
        trees.iter_mut().zip(sums).for_each(|(tree, sum)| tree.push(sum));
    }
    trees.map(|tree| tree.finish(None))
}

/// Vectors that make up the lanes, at most: of 128 bits.
const PARTS: usize = 4;

/// The sums of one block of `R` rows.
#[inline(always)]
fn block<S: Simd, T: GemvElement, const R: usize, const LANES: usize>(simd: S, rows: [&[T]; R], x: &[T]) -> [f64; R] {
    let lanes = T::Native::<S>::LEN;
    let parts = LANES / lanes;
    let zero = T::Native::<S>::splat(simd, T::default());
    let mut sums = [[zero; PARTS]; R];
    let rows = rows.map(|row| &row[..x.len()]);
    let (groups, tail) = x.as_chunks::<LANES>();
    let row_groups = rows.map(|row| &row.as_chunks::<LANES>().0[..groups.len()]);
    for (g, group) in groups.iter().enumerate() {
        accumulate::<S, T, R, LANES>(simd, row_groups.map(|row| &row[g]), group, &mut sums);
    }
    if !tail.is_empty() {
        let pad = |part: &[T]| {
            let mut padded = [T::default(); LANES];
            padded[..part.len()].copy_from_slice(part);
            padded
        };
        let ends = rows.map(|row| pad(&row[x.len() - tail.len()..]));
        accumulate::<S, T, R, LANES>(simd, ends.each_ref(), &pad(tail), &mut sums);
    }
    sums.map(|sums| {
        let mut all = [0.0; LANES];
        for (lane, value) in all.iter_mut().zip(sums[..parts].iter().flat_map(|v| v.as_slice())) {
            *lane = value.to_f64();
        }
        fold(all)
    })
}

#[inline(always)]
fn accumulate<S: Simd, T: GemvElement, const R: usize, const LANES: usize>(
    simd: S,
    rows: [&[T; LANES]; R],
    x: &[T; LANES],
    sums: &mut [[T::Native<S>; PARTS]; R],
) {
    let lanes = T::Native::<S>::LEN;
    for p in 0..LANES / lanes {
        let x = T::Native::<S>::from_slice(simd, &x[p * lanes..][..lanes]);
        for r in 0..R {
            sums[r][p] += T::Native::<S>::from_slice(simd, &rows[r][p * lanes..][..lanes]) * x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Chunk, numbers};

    /// `A x` in f64 and, beside it, sum |a| |x|.
    fn naive(a: &[f64], x: &[f64], k: usize) -> Vec<(f64, f64)> {
        let row = |row: &[f64]| row.iter().zip(x).fold((0.0, 0.0), |(s, t), (a, x)| (s + a * x, t + (a * x).abs()));
        if k == 0 { Vec::new() } else { a.chunks(k).map(row).collect() }
    }

    fn run<T: GemvElement>(level: Level, a: &Chunk<T>, x: &Chunk<T>) -> Vec<T> {
        let mut y = Chunk::filled(&[a.layout.shape[0]], T::from_f64(f64::NAN));
        gemv::<T>(level, a.view(), x.view(), &mut ChunkViewMut::from_slice(&mut y.data, &y.layout));
        y.data
    }

    fn chunk<T: GemvElement>(shape: &[usize], data: &[f64]) -> Chunk<T> {
        Chunk::new(shape, data.iter().map(|&v| T::from_f64(v)).collect())
    }

    fn within_bound<T: GemvElement>(unit: f64) {
        for (m, k) in [(1, 1), (4, 16), (5, 17), (9, 2047), (3, 2048), (6, 5000), (2, 30_001)] {
            let (a, x) = (chunk::<T>(&[m, k], &numbers(m * k, 4.0)), chunk::<T>(&[k], &numbers(k, 4.0)));
            let wide = |c: &Chunk<T>| c.data.iter().map(|v| v.to_f64()).collect::<Vec<_>>();
            let all: Vec<_> = simd::levels().into_iter().map(|level| run(level, &a, &x)).collect();
            assert!(all.windows(2).all(|w| w[0] == w[1]), "levels agree");
            for (y, (sum, size)) in all[0].iter().zip(naive(&wide(&a), &wide(&x), k)) {
                let bound = (262.0 * unit + k as f64 * 2f64.powi(-53)) * size;
                assert!((y.to_f64() - sum).abs() <= bound, "{m} x {k}: {y} not {sum} +- {bound:e}");
            }
        }
    }

    #[test]
    fn both_dtypes_are_within_the_stated_bound() {
        within_bound::<f64>(2f64.powi(-53));
        within_bound::<f32>(2f64.powi(-24));
    }

    #[test]
    fn a_row_does_not_know_its_neighbours_or_strides() {
        let (m, k) = (11, 4500);
        let (a, x) = (chunk::<f64>(&[m, k], &numbers(m * k, 9.0)), chunk::<f64>(&[k], &numbers(k, 9.0)));
        let whole = run(simd::level(), &a, &x);
        for from in 0..m {
            let part = Chunk::new(&[m - from, k], a.data[from * k..].to_vec());
            assert_eq!(run(simd::level(), &part, &x), whole[from..]);
        }
        for (gap, step) in [(7, 1), (0, 2)] {
            let mut window = Chunk::window([m, k], gap, step, f64::NAN);
            a.data.iter().enumerate().for_each(|(i, &v)| window.data[i / k * (k * step + gap) + i % k * step] = v);
            let mut y = Chunk::window([1, m], 0, 3, 0.0);
            (y.layout.shape, y.layout.strides) = (vec![m], vec![3]);
            y.compute(&Gemv, &[], &[window.view(), x.view()]);
            assert_eq!(y.values(), whole, "gap {gap}, step {step}");
        }
    }

    #[test]
    fn empty_and_special() {
        assert_eq!(run(simd::level(), &chunk::<f64>(&[3, 0], &[]), &chunk(&[0], &[])), [0.0; 3]);
        assert!(run(simd::level(), &chunk::<f32>(&[0, 3], &[]), &chunk(&[3], &[1.0; 3])).is_empty());
        let mut a = chunk::<f64>(&[4, 19], &[1.0; 76]);
        (a.data[18], a.data[20], a.data[40], a.data[41]) = (f64::NAN, f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY);
        let y = run(simd::level(), &a, &chunk(&[19], &[1.0; 19]));
        assert!(y[0].is_nan() && y[1] == f64::INFINITY && y[2].is_nan() && y[3] == 19.0, "{y:?}");
    }

    #[test]
    fn work_counts_the_matrix_once() {
        let meta = |shape| ChunkMeta::new(DType::F32, shape);
        let work = Gemv.work(&[], &[meta(&[10, 20]), meta(&[20]), meta(&[10])]);
        assert_eq!(work, Work { flops: 400.0, bytes: 920.0 });
    }
}
