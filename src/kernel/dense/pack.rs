//! Packed operands: panels of as many rows as the register tile wants.
//!
//! Owns: the panel layout. Must not know: what is computed. Invariant: rows that pad the last panel are zero.
//!
//! A matrix `(m, k)` in panels of `w` rows is `ceil(m / w)` panels after another, each `(k, w)` in C order: element `(i, p)`
//! lies at `(i / w * k + p) * w + i % w`. A range of k of a panel is therefore contiguous. `w` depends on the SIMD level.

use std::ops::Range;

use super::micro::Num;
use crate::shape::ChunkView;

/// Panels of a packed matrix, or a part of them.
#[derive(Clone)]
pub(super) struct Panels<'a, T> {
    /// All panels.
    pub data: &'a [T],
    /// Columns of the whole packed matrix.
    pub depth: usize,
    /// First panel of the part.
    pub first: usize,
    /// Columns of the part.
    pub range: Range<usize>,
}

impl<'a, T> Panels<'a, T> {
    /// A whole packed matrix.
    pub fn whole(data: &'a [T], depth: usize) -> Self {
        Self { data, depth, first: 0, range: 0..depth }
    }

    /// Columns `range` of panel `index` of the part, in panels of `width` rows.
    #[inline(always)]
    pub fn panel(&self, index: usize, width: usize, range: Range<usize>) -> &'a [T] {
        let start = (self.first + index) * self.depth;
        &self.data[(start + range.start) * width..(start + range.end) * width]
    }
}

/// Where to pack: panels of `width` rows and `depth` columns, of which `range` is filled, from panel `first` on.
#[derive(Clone)]
pub(super) struct PackPlace {
    /// Rows per panel.
    pub width: usize,
    /// Columns of the whole packed matrix.
    pub depth: usize,
    /// First panel to fill.
    pub first: usize,
    /// Columns to fill.
    pub range: Range<usize>,
}

/// Packs `rows` rows, each as long as `place.range`; `row(i)` is row i.
#[inline(always)]
pub(super) fn pack<'r, T: Num>(to: &mut [T], place: &PackPlace, rows: usize, row: impl Fn(usize) -> &'r [T]) {
    let PackPlace { width, depth, first, ref range } = *place;
    let len = range.len();
    if len == 0 {
        return;
    }
    for panel in 0..rows.div_ceil(width) {
        let start = ((first + panel) * depth + range.start) * width;
        let to = &mut to[start..start + len * width];
        let base = panel * width;
        let present = width.min(rows - base);
        let mut r = 0;
        // Whole groups of rows (8 divides every right panel, 6 or 8 is every left one): one run of stores per column.
        while r + 8 <= present {
            group::<T, 8>(&mut to[r..], width, std::array::from_fn(|i| &row(base + r + i)[..len]));
            r += 8;
        }
        if r + 6 <= present {
            group::<T, 6>(&mut to[r..], width, std::array::from_fn(|i| &row(base + r + i)[..len]));
            r += 6;
        }
        for r in r..present {
            let from = &row(base + r)[..len];
            for (to, &x) in to.chunks_exact_mut(width).zip(from) {
                to[r] = x;
            }
        }
        if present < width {
            to.chunks_exact_mut(width).for_each(|to| to[present..].fill(T::default()));
        }
    }
}

/// Packs columns `place.range` of `rows` of a chunk, in whatever order that lies.
#[inline(always)]
pub(super) fn pack_chunk<T: Num>(to: &mut [T], place: &PackPlace, from: ChunkView<'_>, rows: Range<usize>) {
    let PackPlace { width, depth, first, ref range } = *place;
    if from.has_row_slices() {
        return pack(to, place, rows.len(), |i| &from.row::<T>(rows.start + i)[range.clone()]);
    }
    for (panel, top) in rows.clone().step_by(width).enumerate() {
        let start = ((first + panel) * depth + range.start) * width;
        let to = &mut to[start..start + range.len() * width];
        let present = width.min(rows.end - top);
        from.read(top..top + present, range.clone(), to, [1, width]);
        to.chunks_exact_mut(width).for_each(|to| to[present..].fill(T::default()));
    }
}

/// Interleaves `G` rows of equal length: column p goes to `to[p * width..]`.
#[inline(always)]
fn group<T: Num, const G: usize>(to: &mut [T], width: usize, rows: [&[T]; G]) {
    let len = rows[0].len();
    let rows = rows.map(|row| &row[..len]);
    for p in 0..len {
        let to = &mut to[p * width..][..G];
        for i in 0..G {
            to[i] = rows[i][p];
        }
    }
}
