//! The micro-kernel: products of packed panels in registers.
//!
//! Owns: the register tile (`MR` rows by three vectors) and how it is written back. Must not know: tiles, kernels, packing.
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

/// Vectors per row of the register tile. With 4 rows: 12 sums, 3 columns, 1 broadcast = the 16 registers of AVX2.
pub(super) const VECTORS: usize = 3;

/// Most lanes of any level: `f32` of AVX-512.
const LANES: usize = 16;

/// A register tile.
pub(super) type Sums<S, T, const MR: usize> = [[<T as SimdFloatElement>::Native<S>; VECTORS]; MR];

/// Columns of the register tile.
#[inline(always)]
pub(super) fn nr<S: Simd, T: Num>() -> usize {
    VECTORS * T::Native::<S>::LEN
}

/// Whether the level has 32 registers, so that the register tile has 8 rows, not 4.
#[inline(always)]
pub(super) fn tall<S: Simd, T: Num>() -> bool {
    cfg!(target_arch = "aarch64") || T::Native::<S>::LEN * size_of::<T>() == 64
}

/// Three vectors from the first `nr` elements.
#[inline(always)]
pub(super) fn load<S: Simd, T: Num>(simd: S, from: &[T]) -> [T::Native<S>; VECTORS] {
    let lanes = T::Native::<S>::LEN;
    std::array::from_fn(|v| T::Native::<S>::from_slice(simd, &from[v * lanes..(v + 1) * lanes]))
}

/// Three vectors to the first `nr` elements.
#[inline(always)]
pub(super) fn store<S: Simd, T: Num>(row: &[T::Native<S>; VECTORS], to: &mut [T]) {
    let lanes = T::Native::<S>::LEN;
    for (v, to) in to.chunks_exact_mut(lanes).take(VECTORS).enumerate() {
        row[v].store_slice(to);
    }
}

/// `sum[r][c] = sum over k of left[k, r] * right[k, c]`; `left` is `(depth, MR)`, `right` `(depth, nr)`.
#[inline(always)]
pub(super) fn multiply<S: Simd, T: Num, const MR: usize>(simd: S, left: &[T], right: &[T]) -> Sums<S, T, MR> {
    let mut sums = [[T::Native::<S>::splat(simd, T::default()); VECTORS]; MR];
    for (left, right) in left.chunks_exact(MR).zip(right.chunks_exact(nr::<S, T>())) {
        let columns = load(simd, right);
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
pub(super) struct Target<'a, 'b, T> {
    /// The rows, at most `MR`.
    pub rows: &'a mut [&'b mut [T]],
    /// First column.
    pub column: usize,
    /// Columns, at most `nr`.
    pub columns: usize,
}

/// `C <- C - sums` (or `C <- sums` if `ASSIGN`) for the part of the register tile that exists.
#[inline(always)]
pub(super) fn write<S: Simd, T: Num, const MR: usize, const ASSIGN: bool>(
    simd: S,
    sums: &Sums<S, T, MR>,
    to: Target<'_, '_, T>,
) {
    let end = to.column + to.columns;
    if to.columns == nr::<S, T>() {
        for (row, sums) in to.rows.iter_mut().zip(sums) {
            let row = &mut row[to.column..end];
            if ASSIGN {
                store::<S, T>(sums, row);
            } else {
                let old: [_; VECTORS] = load(simd, row);
                store::<S, T>(&std::array::from_fn(|v| old[v] - sums[v]), row);
            }
        }
        return;
    }
    for (row, sums) in to.rows.iter_mut().zip(sums) {
        let mut new = [T::default(); VECTORS * LANES];
        store::<S, T>(sums, &mut new[..nr::<S, T>()]);
        for (c, &new) in row[to.column..end].iter_mut().zip(&new) {
            *c = if ASSIGN { new } else { *c - new };
        }
    }
}
