//! The micro-kernel: products of packed panels in registers.
//!
//! Owns: the register tile (`MR` rows by `NV` vectors) and how it is written back. Must not know: tiles, kernels, packing.
//! Invariant: every element is one chain of multiply-adds in ascending k, so its bits depend on the depth only, not on where
//! in a tile it lies.
//!
//! No `unsafe`: panel lengths are multiples of the register tile, so the compiler drops the bounds checks of the inner loop.

use fearless_simd::{Simd, SimdFloatElement, prelude::*};

use crate::shape::Float;

/// `f32` or `f64` with vectors.
pub(super) trait Num: Float + SimdFloatElement {}
impl Num for f32 {}
impl Num for f64 {}

/// Most vectors per row of a register tile.
const VECTORS: usize = 3;

/// Most lanes of any level: `f32` of AVX-512.
const LANES: usize = 16;

/// A register tile.
pub(super) type Sums<S, T, const MR: usize, const NV: usize> = [[<T as SimdFloatElement>::Native<S>; NV]; MR];

/// Columns of the register tile.
#[inline(always)]
pub(super) fn nr<S: Simd, T: Num, const NV: usize>() -> usize {
    NV * T::Native::<S>::LEN
}

/// Whether the level has 32 registers: then the register tile is 8 rows by 3 vectors (24 sums), else 6 by 2. 4 by 3 would need
/// exactly the 16 registers of AVX2 and makes the compiler spill a sum, which halves the speed.
#[inline(always)]
pub(super) fn tall<S: Simd, T: Num>() -> bool {
    cfg!(target_arch = "aarch64") || T::Native::<S>::LEN * size_of::<T>() == 64
}

/// A row of vectors from the first `nr` elements.
#[inline(always)]
pub(super) fn load<S: Simd, T: Num, const NV: usize>(simd: S, from: &[T]) -> [T::Native<S>; NV] {
    let lanes = T::Native::<S>::LEN;
    let from = &from[..NV * lanes];
    // A loop, not `array::from_fn`: closures do not inherit the vector instructions unless they are inlined.
    let mut row = [T::Native::<S>::splat(simd, T::default()); NV];
    for (v, from) in row.iter_mut().zip(from.chunks_exact(lanes)) {
        *v = T::Native::<S>::from_slice(simd, from);
    }
    row
}

/// `x - y`.
#[inline(always)]
pub(super) fn minus<S: Simd, T: Num, const NV: usize>(mut x: [T::Native<S>; NV], y: &[T::Native<S>; NV]) -> [T::Native<S>; NV] {
    for (x, &y) in x.iter_mut().zip(y) {
        *x -= y;
    }
    x
}

/// A row of vectors to the first `nr` elements.
#[inline(always)]
pub(super) fn store<S: Simd, T: Num, const NV: usize>(row: &[T::Native<S>; NV], to: &mut [T]) {
    let lanes = T::Native::<S>::LEN;
    for (v, to) in row.iter().zip(to[..NV * lanes].chunks_exact_mut(lanes)) {
        v.store_slice(to);
    }
}

/// `sum[r][c] = sum over k of left[k, r] * right[k, c]`; `left` is `(depth, MR)`, `right` `(depth, nr)`.
#[inline(always)]
pub(super) fn multiply<S: Simd, T: Num, const MR: usize, const NV: usize>(
    simd: S,
    left: &[T],
    right: &[T],
) -> Sums<S, T, MR, NV> {
    let mut sums = [[T::Native::<S>::splat(simd, T::default()); NV]; MR];
    for (left, right) in left.chunks_exact(MR).zip(right.chunks_exact(nr::<S, T, NV>())) {
        let columns = load::<S, T, NV>(simd, right);
        for (row, &x) in sums.iter_mut().zip(left) {
            let x = T::Native::<S>::splat(simd, x);
            for (sum, &column) in row.iter_mut().zip(&columns) {
                *sum = x.mul_add(column, *sum);
            }
        }
    }
    sums
}

/// Where a register tile goes.
pub(super) struct TileTarget<'a, 'b, T> {
    /// The rows, at most `MR`.
    pub rows: &'a mut [&'b mut [T]],
    /// First column.
    pub column: usize,
    /// Columns, at most `nr`.
    pub columns: usize,
}

/// `C <- C - sums` (or `C <- sums` if `ASSIGN`) for the part of the register tile that exists.
#[inline(always)]
pub(super) fn write<S: Simd, T: Num, const MR: usize, const NV: usize, const ASSIGN: bool>(
    simd: S,
    sums: &Sums<S, T, MR, NV>,
    to: TileTarget<'_, '_, T>,
) {
    let end = to.column + to.columns;
    if to.columns == nr::<S, T, NV>() {
        for (row, sums) in to.rows.iter_mut().zip(sums) {
            let row = &mut row[to.column..end];
            if ASSIGN {
                store::<S, T, NV>(sums, row);
            } else {
                let new = minus::<S, T, NV>(load::<S, T, NV>(simd, row), sums);
                store::<S, T, NV>(&new, row);
            }
        }
        return;
    }
    for (row, sums) in to.rows.iter_mut().zip(sums) {
        let mut new = [T::default(); VECTORS * LANES];
        store::<S, T, NV>(sums, &mut new[..nr::<S, T, NV>()]);
        for (c, &new) in row[to.column..end].iter_mut().zip(&new) {
            *c = if ASSIGN { new } else { *c - new };
        }
    }
}
