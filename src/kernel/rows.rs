//! Walking a strided chunk as slices.
//!
//! Owns: the fallbacks for chunks that are not contiguous. Must not know: any kernel. Invariant: elements are visited in C
//! order, each once, whatever the strides (of either sign, or 0); so what a kernel makes of them does not depend on how they lie.

use std::borrow::Cow;
use std::ops::Range;

use crate::shape::{ChunkView, ChunkViewMut, Element};

/// Elements gathered at once from a chunk that is no slice: several rows, which in a transposed chunk share lines of cache; they fit in L2.
pub(crate) const GATHER: usize = 1 << 14;
/// Elements at once where nothing is gathered: they fit in L1.
const STRIP: usize = 1024;
/// Shorter rows are gathered too, where they are slices: one piece for each would be too much to do.
const SHORT: usize = 64;

/// Rows along the last axis and their length; rank 0 is one row of one element.
#[must_use]
pub(crate) fn extent(shape: &[usize]) -> (usize, usize) {
    match shape.split_last() {
        None => (1, 1),
        Some((&len, outer)) => (outer.iter().product(), len),
    }
}

/// Whole rows of a chunk, or a part of one: at most [`GATHER`] elements that follow each other in C order.
#[allow(unnameable_types)] // of a closed set
pub struct Part {
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Part {
    fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Its elements' numbers in C order, in rows of `len`.
    fn numbers(&self, len: usize) -> Range<usize> {
        let start = self.rows.start * len + self.columns.start;
        start..start + self.len()
    }
}

/// Whether the rows of a chunk are slices, and worth being visited one by one.
fn is_rows(view: &ChunkView<'_>) -> bool {
    view.layout().is_contiguous() || view.has_row_slices() && extent(view.shape()).1 >= SHORT
}

/// All of chunks of this shape, part by part, in C order: a row after the other where these are slices in all, else as much as is gathered at once.
fn parts(shape: &[usize], are_rows: bool) -> impl Iterator<Item = Part> {
    let (rows, len) = extent(shape);
    let (high, wide) = match are_rows && len >= SHORT {
        true => (1, len.min(STRIP)),
        false => ((GATHER / len.max(1)).max(1), len.clamp(1, GATHER)),
    };
    (0..rows).step_by(high).flat_map(move |r| {
        (0..len).step_by(wide).map(move |c| Part { rows: r..rows.min(r + high), columns: c..len.min(c + wide) })
    })
}

/// Room for the largest part of a chunk of this shape.
pub(crate) fn buffer<T: Element>(shape: &[usize]) -> Vec<T> {
    vec![T::default(); shape.iter().product::<usize>().min(GATHER)]
}

/// The elements of a part: where they lie, or gathered into `buffer`, which has room for them.
pub(crate) fn gather<'b, T: Element>(view: ChunkView<'b>, part: &Part, buffer: &'b mut [T]) -> &'b [T] {
    if let Some(all) = view.try_slice() {
        return &all[part.numbers(extent(view.shape()).1)];
    }
    if part.rows.len() == 1 && view.has_row_slices() {
        return &view.row(part.rows.start)[part.columns.clone()];
    }
    let buffer = &mut buffer[..part.len()];
    view.read(part.rows.clone(), part.columns.clone(), buffer, [part.columns.len(), 1]);
    buffer
}

/// The elements of a vector, copied only if they are no slice.
pub(crate) fn vector<T: Element>(view: ChunkView<'_>) -> Cow<'_, [T]> {
    view.try_slice().map_or_else(
        || {
            let (rows, len) = extent(view.shape());
            let mut all = vec![T::default(); rows * len];
            view.read(0..rows, 0..len, &mut all, [len, 1]);
            all.into()
        },
        Cow::from,
    )
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
    if is_rows(&view) {
        return view.rows().for_each(visit);
    }
    let mut buffer = buffer(view.shape());
    parts(view.shape(), false).for_each(|part| visit(gather(view, &part, &mut buffer)));
}

/// The element types of some chunks, in order: `[f64; 2]`, or `(f64, bool, i32)`.
pub trait Elements: sealed::Sealed {
    /// A slice of each.
    type Slices<'a>;
    #[doc(hidden)]
    type Buffers;
    #[doc(hidden)]
    const COUNT: usize;
    #[doc(hidden)]
    fn buffers(shape: &[usize]) -> Self::Buffers;
    #[doc(hidden)]
    fn whole<'a>(views: &[ChunkView<'a>]) -> Option<Self::Slices<'a>>;
    #[doc(hidden)]
    fn part<'a>(views: &[ChunkView<'a>], part: &Part, buffers: &'a mut Self::Buffers) -> Self::Slices<'a>;
}

mod sealed {
    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed {}
}

impl<T: Element, const N: usize> sealed::Sealed for [T; N] {}
impl<T: Element, const N: usize> Elements for [T; N] {
    type Slices<'a> = [&'a [T]; N];
    type Buffers = [Vec<T>; N];
    const COUNT: usize = N;

    fn buffers(shape: &[usize]) -> Self::Buffers {
        std::array::from_fn(|_| buffer(shape))
    }

    fn whole<'a>(views: &[ChunkView<'a>]) -> Option<[&'a [T]; N]> {
        let mut all = [&[] as &[T]; N];
        for (slice, view) in all.iter_mut().zip(views) {
            *slice = view.try_slice()?;
        }
        Some(all)
    }

    fn part<'a>(views: &[ChunkView<'a>], part: &Part, buffers: &'a mut Self::Buffers) -> [&'a [T]; N] {
        let mut views = views.iter();
        buffers.each_mut().map(|buffer| views.next().map_or(&[][..], |view| gather(*view, part, buffer)))
    }
}

macro_rules! elements_of_tuples {
    ($(($count:literal: $($t:ident $i:tt),+))*) => {$(
        impl<$($t: Element),+> sealed::Sealed for ($($t,)+) {}
        impl<$($t: Element),+> Elements for ($($t,)+) {
            type Slices<'a> = ($(&'a [$t],)+);
            type Buffers = ($(Vec<$t>,)+);
            const COUNT: usize = $count;

            fn buffers(shape: &[usize]) -> Self::Buffers {
                ($(buffer::<$t>(shape),)+)
            }

            fn whole<'a>(views: &[ChunkView<'a>]) -> Option<Self::Slices<'a>> {
                Some(($(views[$i].try_slice()?,)+))
            }

            fn part<'a>(views: &[ChunkView<'a>], part: &Part, buffers: &'a mut Self::Buffers) -> Self::Slices<'a> {
                ($(gather(views[$i], part, &mut buffers.$i),)+)
            }
        }
    )*};
}
elements_of_tuples!((1: A 0) (2: A 0, B 1) (3: A 0, B 1, C 2) (4: A 0, B 1, C 2, D 3) (5: A 0, B 1, C 2, D 3, E 4)
    (6: A 0, B 1, C 2, D 3, E 4, F 5));

/// Calls `body` with slices of the same elements of each input and of the output, piece by piece in C order, until all of the output has
/// been seen: the loop of a CPU body of elementwise work. `I` says what the inputs are, `[f64; 2]` or `(f64, bool, i32)`, `U` what the output is.
/// Where all chunks are contiguous, the first piece is the whole; others, which may lie by any strides, are copied piece by piece.
///
/// ```
/// use chunkwise::ext::{ChunkView, ChunkViewMut, Layout, for_each_piece};
/// use chunkwise::DType;
/// let of = |dtype| Layout::contiguous(dtype, &[2, 2]);
/// let (numbers, bools) = (of(DType::F64), of(DType::Bool));
/// let (a, keep, mut twice) = ([1.0, 2.0, 3.0, 4.0], [true, false, true, true], [0.0; 4]);
/// let inputs = [ChunkView::from_slice(&a, &numbers), ChunkView::from_slice(&keep, &bools)];
/// let mut out = ChunkViewMut::from_slice(&mut twice, &numbers);
/// for_each_piece::<(f64, bool), f64>(&inputs, &mut out, |(a, keep), out| {
///     out.iter_mut().zip(a.iter().zip(keep)).for_each(|(out, (a, &keep))| *out = if keep { 2.0 * a } else { *a });
/// });
/// assert_eq!(twice, [2.0, 2.0, 6.0, 8.0]);
/// ```
///
/// # Panics
/// If there are not as many inputs as `I` says, or a shape or dtype is another.
pub fn for_each_piece<I: Elements, U: Element>(
    inputs: &[ChunkView<'_>],
    out: &mut ChunkViewMut<'_>,
    mut body: impl for<'a> FnMut(I::Slices<'a>, &mut [U]),
) {
    assert_eq!(inputs.len(), I::COUNT, "as many inputs as the body takes");
    assert!(inputs.iter().all(|input| input.shape() == out.shape()), "chunks of one shape");
    if let Some(whole) = I::whole(inputs)
        && let Some(out) = out.try_slice_mut()
    {
        if !out.is_empty() {
            body(whole, out);
        }
        return;
    }
    let mut buffers = I::buffers(out.shape());
    for_each_part(out, inputs, |part, piece| body(I::part(inputs, part, &mut buffers), piece));
}

/// Calls `fill` with each part of a chunk that is made of `inputs` of the same shape, and where to write it in full.
pub(crate) fn for_each_part<T: Element>(
    out: &mut ChunkViewMut<'_>,
    inputs: &[ChunkView<'_>],
    mut fill: impl FnMut(&Part, &mut [T]),
) {
    let (shape, len) = (out.shape(), extent(out.shape()).1);
    let parts = parts(shape, inputs.iter().all(is_rows) && is_rows(&out.as_view()));
    if let Some(all) = out.try_slice_mut() {
        return parts.for_each(|part| fill(&part, &mut all[part.numbers(len)]));
    }
    let mut buffer = buffer(shape);
    for part in parts {
        if part.rows.len() == 1 && out.has_row_slices() {
            fill(&part, &mut out.row_mut(part.rows.start)[part.columns.clone()]);
            continue;
        }
        let buffer = &mut buffer[..part.len()];
        fill(&part, buffer);
        for (r, row) in part.rows.clone().zip(buffer.chunks(part.columns.len())) {
            out.write(r, part.columns.start, row);
        }
    }
}

/// Calls `fill(row, start, piece)` with pieces of rows that together are the whole chunk; `piece` is elements `start..` of
/// the row and must be written in full.
pub(crate) fn fill<T: Element>(out: &mut ChunkViewMut<'_>, mut fill: impl FnMut(usize, usize, &mut [T])) {
    let (rows, len) = extent(out.shape());
    let mut buffer = [T::default(); STRIP];
    for r in 0..if len == 0 { 0 } else { rows } {
        if out.has_row_slices() {
            fill(r, 0, out.row_mut(r));
            continue;
        }
        for start in (0..len).step_by(STRIP) {
            let piece = &mut buffer[..STRIP.min(len - start)];
            fill(r, start, piece);
            out.write(r, start, piece);
        }
    }
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
            (vec![700, 3], vec![1, 700]),
            (vec![3, 2500], vec![-1, -6]),
            (vec![1, 19_000], vec![7, -1]),
            (vec![5, 40, 7], vec![-2, 100, -10]),
        ] {
            let layout = Layout { dtype: DType::I64, shape, strides };
            let (rows, len) = extent(&layout.shape);
            let first = layout.reach().unwrap().0;
            let view = ChunkView::from_slice_at(&data, first, &layout);
            let wanted: Vec<i64> = (0..rows).flat_map(|r| (0..len).map(move |i| (r, i))).map(|(r, i)| view.at(r, i)).collect();
            let mut seen = Vec::new();
            for_each_slice(view, |s: &[i64]| seen.extend_from_slice(s));
            assert_eq!(seen, wanted, "{layout:?}");
            let mut target = vec![-1i64; 20_000];
            let mut copied = Vec::new();
            let mut out = ChunkViewMut::from_slice_at(&mut target, first, &layout);
            for_each_piece::<(i64, i64), i64>(&[view, view], &mut out, |(a, b), out| {
                assert!(a == b && a.len() == out.len() && !a.is_empty());
                copied.extend_from_slice(a);
                out.copy_from_slice(b);
            });
            assert_eq!(copied, wanted, "{layout:?}");
            let mut written = Vec::new();
            for_each_slice(out.as_view(), |s: &[i64]| written.extend_from_slice(s));
            assert_eq!(written, wanted, "{layout:?}");
            assert_eq!(vector::<i64>(view), wanted, "{layout:?}");
            let mut out = ChunkViewMut::from_slice_at(&mut target, first, &layout);
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
