//! The packed forms of gemm and syrk.
//!
//! Owns: form numbers to panels. Must not know: the products. Invariant: both kernels share forms and layouts, so a value
//! packed once serves both.

use fearless_simd::{Level, Simd, dispatch};

use super::micro::{self, Num};
use super::pack::{PackPlace, pack_chunk};
use super::{LEFT, with_tile, with_type};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};

#[inline(always)]
fn width_of<S: Simd, T: Num>(_simd: S, form: u8) -> usize {
    with_tile!(S, T, MR, NV => if form == LEFT { MR } else { micro::nr::<S, T, NV>() })
}

fn width(level: Level, form: u8, dtype: DType) -> usize {
    with_type!(dtype, T => dispatch!(level, simd => width_of::<_, T>(simd, form)))
}

/// Elements of an operand `(m, k)` in `form`: m padded to whole panels, times k.
pub(super) fn packed_len(level: Level, form: u8, operand: ChunkMeta<'_>) -> (DType, usize) {
    let (m, k) = (operand.shape[0], operand.shape[1]);
    (operand.dtype, m.next_multiple_of(width(level, form, operand.dtype)) * k)
}

/// Packs a plain operand `(m, k)`, in whatever order it lies.
pub(super) fn pack(level: Level, form: u8, from: ChunkView<'_>, to: &mut ChunkViewMut<'_>) {
    let (m, depth) = (from.shape()[0], from.shape()[1]);
    let place = PackPlace { width: width(level, form, from.layout().dtype), depth, first: 0, range: 0..depth };
    with_type!(from.layout().dtype, T => {
        let to = to.slice_mut::<T>();
        dispatch!(level, _ => pack_chunk(to, &place, from, 0..m));
    });
}
