//! Block operations on packed operands: products, and the diagonal blocks of a factorisation.
//!
//! Owns: blocking for the caches, the factor and the inverse of a small diagonal block. Must not know: chunk views.
//! Invariant: no element of a strict upper triangle of a matrix that is factored flows into its lower triangle.

use fearless_simd::{Simd, prelude::*};

use super::micro::{self, Num, TileTarget};
use super::pack::{PackPlace, Panels, pack};

/// Depth of one pass: a right panel of 12 f64 by 256 is 24 KiB, most of a small L1.
const DEPTH: usize = 256;
/// Rows of the left operand per pass: 192 by 256 f64 are 384 KiB, inside L2. A multiple of every `MR`.
const ROWS: usize = 192;
/// Width of the diagonal blocks that are inverted: a multiple of the register tile's width at every level.
pub(super) const DIAGONAL: usize = 48;

/// Columns `column .. column + columns` of some rows.
pub(super) struct ColumnBlock<'a, 'b, T> {
    /// The rows.
    pub rows: &'a mut [&'b mut [T]],
    /// First column.
    pub column: usize,
    /// Number of columns.
    pub columns: usize,
}

/// `C <- C - A B^T`, with `a` in panels of `MR` and `b` in panels of `nr`. If `LOWER`, register tiles strictly above the
/// diagonal of C are left out.
#[inline(always)]
pub(super) fn subtract_product<S: Simd, T: Num, const MR: usize, const NV: usize, const LOWER: bool>(
    simd: S,
    a: &Panels<'_, T>,
    b: &Panels<'_, T>,
    c: &mut ColumnBlock<'_, '_, T>,
) {
    let nr = micro::nr::<S, T, NV>();
    let rows = c.rows.len();
    for k in (0..a.range.len()).step_by(DEPTH) {
        let to = (k + DEPTH).min(a.range.len());
        let of = |p: &Panels<'_, T>| p.range.start + k..p.range.start + to;
        for top in (0..rows).step_by(ROWS) {
            let bottom = (top + ROWS).min(rows);
            for left in (0..c.columns).step_by(nr) {
                let right_panel = b.panel(left / nr, nr, of(b));
                let top = if LOWER { top.max(left / MR * MR) } else { top };
                for i in (top..bottom).step_by(MR) {
                    let sums = micro::multiply::<S, T, MR, NV>(simd, a.panel(i / MR, MR, of(a)), right_panel);
                    let target = TileTarget {
                        rows: &mut c.rows[i..rows.min(i + MR)],
                        column: c.column + left,
                        columns: nr.min(c.columns - left),
                    };
                    micro::write::<S, T, MR, NV, false>(simd, &sums, target);
                }
            }
        }
    }
}

/// `C <- A U^-1` with `a` (a packed copy of C) in panels of `MR`, `inverse` from [`invert`].
#[inline(always)]
pub(super) fn assign_product<S: Simd, T: Num, const MR: usize, const NV: usize>(
    simd: S,
    a: &Panels<'_, T>,
    inverse: &[T],
    c: &mut ColumnBlock<'_, '_, T>,
) {
    let nr = micro::nr::<S, T, NV>();
    let rows = c.rows.len();
    let inverse = Panels::whole(inverse, DIAGONAL);
    for left in (0..c.columns).step_by(nr) {
        // Column j of an upper triangle ends at row j.
        let depth = c.columns.min(left + nr);
        let right_panel = inverse.panel(left / nr, nr, 0..depth);
        for i in (0..rows).step_by(MR) {
            let left_panel = a.panel(i / MR, MR, a.range.start..a.range.start + depth);
            let sums = micro::multiply::<S, T, MR, NV>(simd, left_panel, right_panel);
            let target = TileTarget {
                rows: &mut c.rows[i..rows.min(i + MR)],
                column: c.column + left,
                columns: nr.min(c.columns - left),
            };
            micro::write::<S, T, MR, NV, true>(simd, &sums, target);
        }
    }
}

/// `C <- C U^-1`, and C's new value packed into `left` at `place`.
#[inline(always)]
pub(super) fn solve<S: Simd, T: Num, const MR: usize, const NV: usize>(
    simd: S,
    inverse: &[T],
    c: &mut ColumnBlock<'_, '_, T>,
    left: &mut [T],
    place: &PackPlace,
) {
    let (from, to) = (c.column, c.column + c.columns);
    pack(left, place, c.rows.len(), |i| &c.rows[i][from..to]);
    let panels = Panels { data: left, depth: place.depth, first: place.first, range: place.range.clone() };
    assign_product::<S, T, MR, NV>(simd, &panels, inverse, c);
    pack(left, place, c.rows.len(), |i| &c.rows[i][from..to]);
}

/// `sum over t of x[t stride] * rows[t step..]`, t < n, in four interleaved chains that are added at the end: one chain alone
/// would wait for each multiply-add.
#[inline(always)]
fn combine<S: Simd, T: Num, const NV: usize>(
    simd: S,
    n: usize,
    (x, stride): (&[T], usize),
    (rows, step): (&[T], usize),
) -> [T::Native<S>; NV] {
    const CHAINS: usize = 4;
    let zero = T::Native::<S>::splat(simd, T::default());
    let mut sums = [[zero; NV]; CHAINS];
    for t in (0..n / CHAINS * CHAINS).step_by(CHAINS) {
        for (chain, sums) in sums.iter_mut().enumerate() {
            let scale = T::Native::<S>::splat(simd, x[(t + chain) * stride]);
            let row = micro::load::<S, T, NV>(simd, &rows[(t + chain) * step..]);
            for (sum, &v) in sums.iter_mut().zip(&row) {
                *sum = scale.mul_add(v, *sum);
            }
        }
    }
    for t in n / CHAINS * CHAINS..n {
        let scale = T::Native::<S>::splat(simd, x[t * stride]);
        let row = micro::load::<S, T, NV>(simd, &rows[t * step..]);
        for (sum, &v) in sums[0].iter_mut().zip(&row) {
            *sum = scale.mul_add(v, *sum);
        }
    }
    let [mut total, rest @ ..] = sums;
    for sums in &rest {
        for (total, &sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    total
}

/// Factors `A = U^T U` in place, A `(n, n)` upper, rows [`DIAGONAL`] apart, padded with zeros. On a pivot that is not finite
/// and positive: its row and value.
#[inline(always)]
pub(super) fn factor<S: Simd, T: Num, const NV: usize>(simd: S, u: &mut [T], n: usize) -> Result<(), (usize, f64)> {
    let nr = micro::nr::<S, T, NV>();
    for j in 0..n {
        let (done, row) = u.split_at_mut(j * DIAGONAL);
        let row = &mut row[..DIAGONAL];
        for left in (j / nr * nr..n).step_by(nr) {
            let rows = done.get(left..).unwrap_or_default();
            let sum = combine::<S, T, NV>(simd, j, (done.get(j..).unwrap_or_default(), DIAGONAL), (rows, DIAGONAL));
            let new = micro::minus::<S, T, NV>(micro::load::<S, T, NV>(simd, &row[left..]), &sum);
            micro::store::<S, T, NV>(&new, &mut row[left..]);
        }
        let pivot = row[j].to_f64();
        if !(pivot > 0.0 && pivot < f64::INFINITY) {
            return Err((j, pivot));
        }
        let root = pivot.sqrt(); // rounded to f32 this is the f32 root
        let scale = T::from_f64(1.0 / root);
        row[..j].fill(T::default());
        row[j] = T::from_f64(root);
        for x in &mut row[j + 1..] {
            *x *= scale;
        }
    }
    Ok(())
}

/// `U^-1` in panels of `nr` columns and [`DIAGONAL`] rows, of U `(n, n)` upper with rows [`DIAGONAL`] apart. What lies beyond
/// n rows is undefined, beyond n columns zero.
#[inline(always)]
pub(super) fn invert<S: Simd, T: Num, const NV: usize>(simd: S, u: &[T], n: usize, inverse: &mut [T]) {
    let nr = micro::nr::<S, T, NV>();
    for (q, panel) in inverse.chunks_exact_mut(DIAGONAL * nr).enumerate() {
        let end = n.min((q + 1) * nr);
        panel.fill(T::default());
        for i in (0..end).rev() {
            let (top, below) = panel.split_at_mut((i + 1) * nr);
            let scale = -T::from_f64(1.0 / u[i * DIAGONAL + i].to_f64());
            let coefficients = &u[i * DIAGONAL + i + 1..i * DIAGONAL + end.max(i + 1)];
            let mut sum = combine::<S, T, NV>(simd, coefficients.len(), (coefficients, 1), (below, nr));
            let row = &mut top[i * nr..];
            let factor = T::Native::<S>::splat(simd, scale);
            for s in &mut sum {
                *s = factor * *s;
            }
            micro::store::<S, T, NV>(&sum, row);
            if i >= q * nr {
                row[..i - q * nr].fill(T::default());
                row[i - q * nr] = -scale;
            }
        }
    }
}
