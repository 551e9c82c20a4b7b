//! Walking a strided chunk as slices.
//!
//! Owns: the fallbacks for chunks that are not contiguous. Must not know: any kernel. Invariant: elements are visited in C
//! order, each once, whatever the strides; a slice handed out never crosses a row of the last axis unless the chunk is
//! contiguous.

use crate::shape::{ChunkView, ChunkViewMut, Element};

/// Elements gathered at once from a chunk whose last axis is strided.
const GATHER: usize = 1024;

/// Rows along the last axis and their length; rank 0 is one row of one element.
#[must_use]
pub(crate) fn extent(shape: &[usize]) -> (usize, usize) {
    match shape.split_last() {
        None => (1, 1),
        Some((&len, outer)) => (outer.iter().product(), len),
    }
}

/// Calls `visit` with slices that together are the chunk in C order.
pub(crate) fn for_each_slice<T: Element>(view: ChunkView<'_>, mut visit: impl FnMut(&[T])) {
    let (rows, len) = extent(view.shape());
    if rows * len == 0 {
        return;
    }
    if let Some(all) = view.try_slice() {
        return visit(all);
    }
    let mut buffer = [T::default(); GATHER];
    for r in 0..rows {
        if view.has_row_slices() {
            visit(view.row(r));
            continue;
        }
        for start in (0..len).step_by(GATHER) {
            visit(gather(view, r, start, &mut buffer));
        }
    }
}

/// As [`for_each_slice`], for two chunks of one shape at once.
pub(crate) fn for_each_pair<T: Element>(a: ChunkView<'_>, b: ChunkView<'_>, mut visit: impl FnMut(&[T], &[T])) {
    assert_eq!(a.shape(), b.shape(), "chunks of one shape");
    let (rows, len) = extent(a.shape());
    if rows * len == 0 {
        return;
    }
    if let (Some(a), Some(b)) = (a.try_slice(), b.try_slice()) {
        return visit(a, b);
    }
    let (mut left, mut right) = ([T::default(); GATHER], [T::default(); GATHER]);
    for r in 0..rows {
        if a.has_row_slices() && b.has_row_slices() {
            visit(a.row(r), b.row(r));
            continue;
        }
        for start in (0..len).step_by(GATHER) {
            visit(gather(a, r, start, &mut left), gather(b, r, start, &mut right));
        }
    }
}

/// Calls `body` with slices of the same elements of each input and of the output, piece by piece in C order, until all of the output has
/// been seen: the loop of a CPU body of elementwise work. Where all chunks are contiguous, the first piece is the whole.
///
/// ```
/// use chunkwise::kernel::for_each_piece;
/// use chunkwise::shape::{ChunkView, ChunkViewMut, DType, Layout};
/// let layout = Layout::contiguous(DType::F64, &[2, 2]);
/// let (a, mut twice) = ([1.0, 2.0, 3.0, 4.0], [0.0; 4]);
/// let mut out = ChunkViewMut::from_slice(&mut twice, &layout);
/// for_each_piece([ChunkView::from_slice(&a, &layout)], &mut out, |[a]: [&[f64]; 1], out| {
///     out.iter_mut().zip(a).for_each(|(out, a)| *out = 2.0 * a);
/// });
/// assert_eq!(twice, [2.0, 4.0, 6.0, 8.0]);
/// ```
///
/// # Panics
/// If a shape or dtype is not what `body` takes.
pub fn for_each_piece<T: Element, U: Element, const N: usize>(
    inputs: [ChunkView<'_>; N],
    out: &mut ChunkViewMut<'_>,
    mut body: impl FnMut([&[T]; N], &mut [U]),
) {
    assert!(inputs.iter().all(|input| input.shape() == out.shape()), "chunks of one shape");
    let whole = inputs.map(|input| input.try_slice());
    if whole.iter().all(Option::is_some)
        && let Some(out) = out.try_slice_mut()
    {
        if !out.is_empty() {
            body(whole.map(Option::unwrap_or_default), out);
        }
        return;
    }
    let mut buffers = [[T::default(); GATHER]; N];
    fill(out, |row, start, piece: &mut [U]| {
        for (k, part) in piece.chunks_mut(GATHER).enumerate() {
            let mut slices = [&[] as &[T]; N];
            for ((slice, input), buffer) in slices.iter_mut().zip(&inputs).zip(&mut buffers) {
                *slice = gather(*input, row, start + k * GATHER, &mut buffer[..part.len()]);
            }
            body(slices, part);
        }
    });
}

/// Calls `fill(row, start, piece)` with pieces of rows that together are the whole chunk; `piece` is elements `start..` of
/// the row and must be written in full.
pub(crate) fn fill<T: Element>(out: &mut ChunkViewMut<'_>, mut fill: impl FnMut(usize, usize, &mut [T])) {
    let (rows, len) = extent(out.shape());
    if rows * len == 0 {
        return;
    }
    let mut buffer = [T::default(); GATHER];
    for r in 0..rows {
        if out.has_row_slices() {
            fill(r, 0, out.row_mut(r));
            continue;
        }
        for start in (0..len).step_by(GATHER) {
            let piece = &mut buffer[..GATHER.min(len - start)];
            fill(r, start, piece);
            for (i, &value) in piece.iter().enumerate() {
                out.set(r, start + i, value);
            }
        }
    }
}

/// Elements from `start` of row `r`, as many as there are and `buffer` holds: the row itself, or gathered into `buffer`.
pub(crate) fn gather<'b, T: Element>(view: ChunkView<'b>, r: usize, start: usize, buffer: &'b mut [T]) -> &'b [T] {
    let len = buffer.len().min(extent(view.shape()).1 - start);
    if view.has_row_slices() {
        return &view.row(r)[start..start + len];
    }
    let buffer = &mut buffer[..len];
    for (i, value) in buffer.iter_mut().enumerate() {
        *value = view.at(r, start + i);
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{DType, Layout};

    #[test]
    fn every_layout_is_visited_in_c_order() {
        let data: Vec<i64> = (0..20_000).collect();
        for (shape, strides) in [
            (vec![3, 5], vec![5, 1]),
            (vec![3, 2500], vec![6000, 2]),
            (vec![2, 3], vec![7, 1]),
            (vec![], vec![]),
            (vec![4, 0], vec![1, 1]),
        ] {
            let layout = Layout { dtype: DType::I64, shape, strides };
            let (rows, len) = extent(&layout.shape);
            let view = ChunkView::from_slice(&data, &layout);
            let wanted: Vec<i64> = (0..rows).flat_map(|r| (0..len).map(move |i| (r, i))).map(|(r, i)| view.at(r, i)).collect();
            let mut seen = Vec::new();
            for_each_slice(view, |s: &[i64]| seen.extend_from_slice(s));
            assert_eq!(seen, wanted, "{layout:?}");
            let mut pairs = Vec::new();
            for_each_pair(view, view, |a: &[i64], b: &[i64]| pairs.extend(a.iter().zip(b).map(|(a, b)| (*a, *b))));
            assert!(pairs.iter().map(|p| p.0).eq(wanted.iter().copied()) && pairs.iter().all(|p| p.0 == p.1));
            let mut target = vec![-1i64; 20_000];
            let mut copied = Vec::new();
            let mut out = ChunkViewMut::from_slice(&mut target, &layout);
            for_each_piece([view, view], &mut out, |[a, b]: [&[i64]; 2], out: &mut [i64]| {
                assert!(a == b && a.len() == out.len() && !a.is_empty());
                copied.extend_from_slice(a);
            });
            assert_eq!(copied, wanted, "{layout:?}");
            let mut out = ChunkViewMut::from_slice(&mut target, &layout);
            fill(&mut out, |r, start, piece: &mut [i64]| {
                piece.iter_mut().enumerate().for_each(|(i, v)| *v = (r * len + start + i) as i64);
            });
            let mut written = Vec::new();
            for_each_slice(out.as_view(), |s: &[i64]| written.extend_from_slice(s));
            assert_eq!(written, (0..(rows * len) as i64).collect::<Vec<_>>());
            assert_eq!(target.iter().filter(|&&v| v >= 0).count(), rows * len, "nothing outside the window is touched");
        }
    }
}
