//! How results are cut where nobody says, and what the cuts of one array are in another that shows it.
//!
//! Owns: the automatic rules, [`through`] and [`back`]. Must not know: this machine. Invariant: an automatic grid depends on operation, shape, dtype and
//! storage only, so that results do not change with the machine.

use super::expr::{Existing, Generator, Op, Primitive};
use crate::error::{Error, Result};
use crate::shape::{ChunkGrid, DType, Layout, View, ViewAxis};
use crate::store::preferred_chunks;

/// Bytes of an automatic chunk.
pub(super) const CHUNK_BYTES: usize = 16 << 20;
/// Bytes of an automatic chunk where an element is worth much work.
const BUSY_CHUNK_BYTES: usize = 1 << 20;

/// The grid of an op for which the user chose none.
pub(super) fn natural(op: &Op, inputs: &[&Op]) -> Result<ChunkGrid> {
    let (shape, dtype) = (&op.shape[..], op.dtype);
    let wide = wider(dtype, op.widest);
    match &op.primitive {
        Primitive::Source(Existing::Memory { layout, .. }, _) => slabs_of(shape, layout),
        Primitive::Source(..) | Primitive::Generate(..) => slabs(shape, dtype, op.stored().and_then(|s| s.storage_chunks())),
        Primitive::View(view) if op.is_flexible && !op.is_cut => match (op.is_stored, in_order(view)) {
            (true, _) => coalesced(&through(view, &inputs[0].grid, wide)?, wide),
            (false, true) => slabs(shape, wide, None),
            (false, false) => squares(shape, wide, CHUNK_BYTES),
        },
        Primitive::View(view) => through(view, &inputs[0].grid, dtype),
        Primitive::Reshape => slabs(shape, dtype, None),
        Primitive::Concat(axis) => joined(*axis, inputs),
        Primitive::Rechunk => Ok(inputs[0].grid.clone()),
        Primitive::Reduce(reduce) => {
            let cut = reduce.cut(&inputs[0].grid);
            let kept = (0..cut.shape().len()).filter(|axis| !reduce.axes.contains(axis));
            ChunkGrid::of_axes(kept.map(|axis| cut.along(axis)))
        }
        Primitive::Contract => Ok(inputs[0].grid.along(0)),
        Primitive::Factor if inputs[0].is_cut && is_square(&inputs[0].grid) => Ok(inputs[0].grid.clone()),
        Primitive::Factor => {
            let tile = tile(shape[0]);
            ChunkGrid::regular(shape, &[tile, tile])
        }
        Primitive::Map(_) => mapped(op, inputs),
        Primitive::Call(call) if call.busy && !op.is_cut => squares(shape, dtype, BUSY_CHUNK_BYTES),
        Primitive::Call(call) => ChunkGrid::of_axes((0..shape.len()).map(|axis| {
            let of = |(input, along): (usize, &Vec<usize>)| along.iter().position(|&a| a == axis).map(|k| (input, k));
            match call.along.iter().enumerate().find_map(of) {
                Some((input, k)) => inputs[input].grid.along(k),
                None => ChunkGrid::single(&[shape[axis]]).expect("a checked extent"),
            }
        })),
    }
}

/// The grid of what is made element by element. Where a user cut an input, so; else as inputs of the result's shape that cannot be cut otherwise, or lie so in a file; else
/// slabs if all inputs are, or squares. Axes about which nobody says anything are cut so that chunks are no larger than automatic ones.
fn mapped(op: &Op, inputs: &[&Op]) -> Result<ChunkGrid> {
    let (shape, wide) = (&op.shape[..], wider(op.dtype, op.widest));
    let has = |input: &Op, axis: usize| match &input.primitive {
        Primitive::Generate(Generator::Constant(_), _) => input.is_cut,
        Primitive::View(view) => !view.axes()[axis].is_repeated(),
        _ => true,
    };
    let is_whole = |input: &Op| (0..shape.len()).all(|a| shape[a] <= 1 || has(input, a));
    let whole: Vec<&Op> = inputs.iter().filter(|input| is_whole(input)).copied().collect();
    let says = |input: &Op| match (is_whole(input), input) {
        (true, Op { is_cut: true, .. }) => 4,
        (true, Op { is_flexible: false, .. }) => 3,
        (false, Op { is_cut: true, .. }) => 2,
        (true, Op { is_stored: true, .. }) => 1,
        _ => 0,
    };
    if inputs.iter().all(|input| says(input) == 0) {
        let are_slabs = whole.iter().all(|input| input.grid.counts().iter().skip(1).all(|&count| count == 1));
        let fits = |input: &Op| bytes_of(input.grid.largest(), wide) <= CHUNK_BYTES as u64;
        return match &whole[..] {
            [first, others @ ..] if fits(first) && others.iter().all(|other| other.grid == first.grid) => {
                Ok(first.grid.clone())
            }
            _ if are_slabs => slabs(shape, wide, None),
            _ => squares(shape, wide, CHUNK_BYTES),
        };
    }
    // Of each axis the cuts of the first of those that say the most.
    let best =
        |axis: usize| inputs.iter().rev().filter(|input| has(input, axis) && says(input) > 0).max_by_key(|input| says(input));
    let axes = (0..shape.len()).map(|axis| best(axis).map(|input| input.grid.along(axis))).collect();
    filled(axes, shape, wide)
}

/// The grid of these cuts; the axes that have none are cut, from the last to the first, so that chunks are no larger than automatic ones.
fn filled(mut axes: Vec<Option<ChunkGrid>>, shape: &[usize], dtype: DType) -> Result<ChunkGrid> {
    let mut bytes = axes.iter().flatten().fold(dtype.bytes(), |bytes, axis| bytes.saturating_mul(axis.largest()[0].max(1)));
    for (made, &extent) in axes.iter_mut().zip(shape).rev().filter(|(made, _)| made.is_none()) {
        let chunk = (CHUNK_BYTES / bytes.max(1)).clamp(1, extent.max(1));
        bytes = bytes.saturating_mul(chunk);
        *made = Some(ChunkGrid::regular(&[extent], &[chunk])?);
    }
    ChunkGrid::of_axes(axes.into_iter().flatten())
}

/// Bytes of so many elements along each axis; as many as there can be, if they are more.
pub(super) fn bytes_of(extents: impl IntoIterator<Item = usize>, dtype: DType) -> u64 {
    extents.into_iter().fold(dtype.bytes() as u64, |bytes, n| bytes.saturating_mul(n as u64))
}

/// The dtype of more bytes; of equals the first.
pub(super) fn wider(a: DType, b: DType) -> DType {
    if b.bytes() > a.bytes() { b } else { a }
}

/// Whether rows and columns are cut alike.
pub(super) fn is_square(grid: &ChunkGrid) -> bool {
    grid.along(0) == grid.along(1)
}

/// Whether a view has the value's axes in their order.
fn in_order(view: &View) -> bool {
    view.axes().iter().filter_map(|axis| axis.along).is_sorted()
}

/// Leading-axis slabs of about 16 MiB, whole storage chunks where there are any.
pub(super) fn slabs(shape: &[usize], dtype: DType, storage: Option<&[usize]>) -> Result<ChunkGrid> {
    ChunkGrid::regular(shape, &preferred_chunks(shape, dtype, storage, CHUNK_BYTES))
}

/// Extent of slabs of memory in another order than C, at least.
const THICK: usize = 16;

/// Slabs of what lies in memory so: across the axis along which its elements lie furthest apart, the first in C order, the last in Fortran order.
fn slabs_of(shape: &[usize], layout: &Layout) -> Result<ChunkGrid> {
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    let apart = |axis: usize| if shape[axis] > 1 { layout.strides[axis].unsigned_abs() } else { 0 };
    axes.sort_by_key(|&axis| std::cmp::Reverse(apart(axis)));
    let sorted: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
    let chunk = preferred_chunks(&sorted, layout.dtype, None, CHUNK_BYTES);
    // Thin slabs of long runs would be worse than the runs of a few rows.
    let far = axes.iter().zip(&chunk).find(|(axis, _)| shape[**axis] > 1);
    if far.is_some_and(|(&axis, &extent)| axis != 0 && extent < THICK.min(shape[axis])) {
        return slabs(shape, layout.dtype, None);
    }
    let mut placed = vec![1; shape.len()];
    axes.iter().zip(chunk).for_each(|(&axis, extent)| placed[axis] = extent);
    ChunkGrid::regular(shape, &placed)
}

/// Square-ish chunks of about so many bytes: whole rows are not favoured.
fn squares(shape: &[usize], dtype: DType, bytes: usize) -> Result<ChunkGrid> {
    let (mut left, mut chunk) = ((bytes / dtype.bytes()) as f64, vec![1; shape.len()]);
    // Short axes first: what they do not need is left for the others.
    let mut axes: Vec<usize> = (0..shape.len()).collect();
    axes.sort_by_key(|&axis| shape[axis]);
    for (i, &axis) in axes.iter().enumerate() {
        let side = left.powf(1.0 / (axes.len() - i) as f64).max(1.0);
        chunk[axis] = even(shape[axis], side as usize);
        left /= side.min(shape[axis].max(1) as f64);
    }
    ChunkGrid::regular(shape, &chunk)
}

/// Tiles of a factorisation of order `n`: n/16 rounded to 64, within 256..1024.
fn tile(n: usize) -> usize {
    ((n / 16 + 32) / 64 * 64).clamp(256, 1024)
}

/// Extent of equal chunks of at most `most`.
fn even(n: usize, most: usize) -> usize {
    n.div_ceil(n.div_ceil(most).max(1)).max(1)
}

/// A grid with whole neighbours joined, from the last axis to the first, as long as chunks are no larger than automatic ones.
fn coalesced(grid: &ChunkGrid, dtype: DType) -> Result<ChunkGrid> {
    let rank = grid.shape().len();
    let mut extents: Vec<usize> = grid.largest();
    let mut axes: Vec<ChunkGrid> = (0..rank).map(|axis| grid.along(axis)).collect();
    for axis in (0..rank).rev() {
        let others = extents.iter().enumerate().filter(|&(a, _)| a != axis).map(|(_, &n)| n.max(1));
        let most = CHUNK_BYTES / others.fold(dtype.bytes(), usize::saturating_mul).max(1);
        axes[axis] = joined_to(&axes[axis], most)?;
        extents[axis] = axes[axis].largest()[0];
        if axes[axis].len() > 1 {
            break;
        }
    }
    ChunkGrid::of_axes(axes)
}

/// The cuts of one axis with neighbours joined as long as they are at most `most` together.
fn joined_to(cuts: &ChunkGrid, most: usize) -> Result<ChunkGrid> {
    if let (Some((first, chunk)), true) = (cuts.evenly(0), cuts.len() > LISTED) {
        let together = (most / chunk).max(1) * chunk;
        let first = first + most.saturating_sub(first) / chunk * chunk;
        return ChunkGrid::even(cuts.shape()[0], first, together);
    }
    listable(cuts.len())?;
    let mut extents: Vec<usize> = Vec::new();
    for (_, extent) in (0..cuts.len()).map(|i| cuts.axis_range(0, i)) {
        match extents.last_mut() {
            Some(last) if *last + extent <= most => *last += extent,
            _ => extents.push(extent),
        }
    }
    ChunkGrid::of_extents(extents)
}

/// The grid of a concatenation: the inputs' cuts one after the other; across, those of the first.
fn joined(axis: usize, inputs: &[&Op]) -> Result<ChunkGrid> {
    let rank = inputs[0].shape.len();
    let axes = (0..rank).map(|a| match a == axis {
        false => Ok(inputs[0].grid.along(a)),
        true => chain(inputs.iter().map(|input| input.grid.along(axis))),
    });
    ChunkGrid::of_axes(axes.collect::<Result<Vec<_>>>()?)
}

/// More chunks along an axis are cut without a look at each, where they are even.
const LISTED: usize = 1 << 10;
/// More chunks along an axis are not cut one by one.
const MOST_LISTED: usize = 1 << 24;

/// Errs if so many chunks along an axis cannot be cut one by one.
fn listable(chunks: usize) -> Result<()> {
    if chunks <= MOST_LISTED {
        return Ok(());
    }
    let wanted = format!("larger chunks: at most {MOST_LISTED} along an axis can be cut otherwise");
    Err(Error::argument("number of chunks along an axis", chunks, wanted))
}

/// The cuts of axes that follow each other as one.
///
/// # Errors
/// [`Error::Argument`] if there are too many.
pub(super) fn chain(axes: impl Iterator<Item = ChunkGrid>) -> Result<ChunkGrid> {
    let axes: Vec<ChunkGrid> = axes.filter(|axis| axis.shape()[0] > 0).collect();
    if let Some(even) = chained(&axes) {
        return Ok(even);
    }
    listable(axes.iter().fold(0, |sum, axis| sum.saturating_add(axis.len())))?;
    ChunkGrid::of_extents(axes.iter().flat_map(|axis| (0..axis.len()).map(|i| axis.axis_range(0, i).1)).collect())
}

/// The same, where each axis goes on with the chunks of the one before, without a look at each.
fn chained(axes: &[ChunkGrid]) -> Option<ChunkGrid> {
    let (head, tail) = axes.split_first()?;
    let (mut extent, (first, mut chunk)) = (head.shape()[0], head.evenly(0)?);
    for axis in tail {
        let ((start, step), more) = (axis.evenly(0)?, axis.shape()[0]);
        // Until there is a second chunk, the chunks after the first may be of any extent.
        chunk = if extent == first { start.max(if axis.len() > 1 { step } else { start }) } else { chunk };
        let is_full = extent == first || (extent - first).is_multiple_of(chunk);
        let goes_on = match axis.len() {
            1 => start <= chunk,
            2 => start == chunk && more - start <= chunk,
            _ => start == chunk && step == chunk,
        };
        if !is_full || !goes_on {
            return None;
        }
        extent = extent.checked_add(more)?;
    }
    ChunkGrid::even(extent, first, chunk).ok()
}

/// The cuts of an axis from one index on, as far as `len` more.
///
/// # Errors
/// [`Error::Argument`] if there are too many.
pub(super) fn within(cuts: &ChunkGrid, start: usize, len: usize) -> Result<ChunkGrid> {
    sliced(cuts, start, len, 1)
}

/// The cuts of the view of an axis that takes `len` indices from `start` on, `step` apart: where it goes from one chunk to another.
fn sliced(cuts: &ChunkGrid, start: usize, len: usize, step: isize) -> Result<ChunkGrid> {
    if start == 0 && len == cuts.shape()[0] && (step == 1 || len <= 1) {
        return Ok(cuts.clone());
    }
    if let (0.., true) = (step, len == 0 || cuts.len() <= 1) {
        return ChunkGrid::single(&[len]);
    }
    if let Some((first, chunk)) = sliced_evenly(cuts, start, len, step) {
        return ChunkGrid::even(len, first, chunk);
    }
    listable(len.min(cuts.len()))?;
    let mut extents = Vec::new();
    let mut at = 0;
    while at < len {
        let index = start.wrapping_add_signed(step.wrapping_mul(at as isize));
        let (from, extent) = cuts.axis_range(0, cuts.chunk_of(0, index));
        // How many more steps stay in that chunk.
        let room = if step > 0 { from + extent - 1 - index } else { index - from };
        let more = if step == 0 { len } else { room / step.unsigned_abs() + 1 };
        extents.push(more.min(len - at));
        at += more;
    }
    ChunkGrid::of_extents(extents)
}

/// The extents of the first chunk and of the others of a view of an axis, without a look at each, where they are even and many.
fn sliced_evenly(cuts: &ChunkGrid, start: usize, len: usize, step: isize) -> Option<(usize, usize)> {
    let ((first, chunk), apart) = (cuts.evenly(0)?, step.unsigned_abs());
    // Backwards, the first chunk is the last one. A step that is longer than a chunk leaves each.
    let is_even = apart >= chunk || apart > 0 && chunk.is_multiple_of(apart);
    if cuts.len() <= LISTED || len == 0 || !is_even || step < 0 && first > chunk {
        return None;
    }
    let (from, extent) = cuts.axis_range(0, cuts.chunk_of(0, start));
    let is_last = from + extent == cuts.shape()[0];
    let room = match step > 0 {
        true if is_last => return None, // one chunk
        true => from + extent - 1 - start,
        false => start - from,
    };
    Some((room / apart + 1, (chunk / apart).max(1)))
}

/// The grid of what a view shows of a value that is cut so: each of its chunks is in one of the value's. Axes along which elements are repeated are cut so
/// that chunks are no larger than automatic ones.
pub(super) fn through(view: &View, value: &ChunkGrid, dtype: DType) -> Result<ChunkGrid> {
    let axes = view.axes().iter().map(|axis| cuts_of(view, axis, value)).collect::<Result<_>>()?;
    filled(axes, &view.shape(), dtype)
}

fn cuts_of(view: &View, axis: &ViewAxis, value: &ChunkGrid) -> Result<Option<ChunkGrid>> {
    let Some(along) = axis.along.map(|along| along as usize) else { return Ok(None) };
    if view.is_empty() {
        return ChunkGrid::single(&[axis.extent]).map(Some);
    }
    sliced(&value.along(along), view.start()[along], axis.extent, axis.step).map(Some)
}

/// The grid of a value of this shape by which each chunk of a view of it that is cut so is in one chunk of the value.
pub(super) fn back(view: &View, cut: &ChunkGrid, value: &[usize]) -> Result<ChunkGrid> {
    let along = |a: usize| view.axes().iter().position(|axis| axis.along == Some(a as u32));
    let axes = (0..value.len()).map(|a| match along(a) {
        Some(k) if !view.is_empty() => unsliced(&cut.along(k), view.start()[a], view.axes()[k].step, value[a]),
        _ => ChunkGrid::single(&[value[a]]),
    });
    ChunkGrid::of_axes(axes.collect::<Result<Vec<_>>>()?)
}

/// The cuts of an axis of `extent` from which the view that takes every `step`th index from `start` on has these cuts.
fn unsliced(cuts: &ChunkGrid, start: usize, step: isize, extent: usize) -> Result<ChunkGrid> {
    let chunks = cuts.len();
    if start == 0 && extent == cuts.shape()[0] && (step == 1 || extent <= 1) {
        return Ok(cuts.clone());
    }
    // The index after that of the last element of each chunk but the last, in the order of the axis.
    let ends = |i: usize| {
        let (first, len) = cuts.axis_range(0, i);
        let last = if step > 0 { first + len - 1 } else { first };
        start.wrapping_add_signed(step.wrapping_mul(last as isize)) + 1
    };
    if let (Some((first, chunk)), true) = (cuts.evenly(0), chunks > LISTED) {
        let apart = chunk * step.unsigned_abs();
        match step > 0 {
            true => return ChunkGrid::even(extent, ends(0), apart),
            false if first <= chunk => return ChunkGrid::even(extent, ends(chunks - 1), apart),
            false => {}
        }
    }
    listable(chunks)?;
    let order: Box<dyn Iterator<Item = usize>> = if step > 0 { Box::new(0..chunks - 1) } else { Box::new((1..chunks).rev()) };
    let mut from = 0;
    let mut extents: Vec<usize> = order.map(|i| ends(i) - std::mem::replace(&mut from, ends(i))).collect();
    extents.push(extent - from);
    ChunkGrid::of_extents(extents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The extents of the chunks of one axis.
    fn extents(cuts: &ChunkGrid) -> Vec<usize> {
        (0..cuts.len()).map(|i| cuts.axis_range(0, i).1).collect()
    }

    /// Which chunk each index of a view is in, as runs.
    fn runs(cuts: &ChunkGrid, start: usize, len: usize, step: isize) -> Vec<usize> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for at in 0..len {
            let chunk = cuts.chunk_of(0, start.wrapping_add_signed(step * at as isize));
            match runs.last_mut() {
                Some((last, count)) if *last == chunk => *count += 1,
                _ => runs.push((chunk, 1)),
            }
        }
        runs.into_iter().map(|(_, count)| count).collect()
    }

    proptest! {
        /// What is cut without a look at each chunk is cut as with one.
        #[test]
        fn even_cuts_of_views_are_those_that_are_listed(
            (first, chunk, more) in (1usize..12, 1usize..12, 0usize..12),
            (skip, drop, step) in (0usize..40, 0usize..40, 1isize..14),
            backwards in proptest::bool::ANY,
        ) {
            let extent = first + (LISTED + 100) * chunk + more;
            let cuts = ChunkGrid::even(extent, first, chunk).unwrap();
            let len = (extent - skip.min(extent - 1) - drop.min(extent / 2)).div_ceil(step as usize);
            let (start, step) = if backwards { (extent - 1 - skip.min(extent - 1), -step) } else { (skip.min(extent - 1), step) };
            let len = if backwards { len.min(start / step.unsigned_abs() + 1) } else { len.min((extent - 1 - start) / step as usize + 1) };
            let sliced = sliced(&cuts, start, len, step).unwrap();
            let listed = runs(&cuts, start, len, step);
            prop_assert_eq!(extents(&sliced), listed.clone());
            prop_assert_eq!(&sliced, &ChunkGrid::of_extents(listed).unwrap());
            // And back: each chunk of the view is in one of the value's.
            let back = unsliced(&sliced, start, step, extent).unwrap();
            prop_assert_eq!(back.shape(), [extent]);
            prop_assert_eq!(runs(&back, start, len, step), extents(&sliced));
        }

        #[test]
        fn chains_are_those_of_their_parts(parts in proptest::collection::vec((1usize..9, 1usize..6, 1usize..6), 1..6)) {
            let axes: Vec<ChunkGrid> = parts.iter().map(|&(n, first, chunk)| ChunkGrid::even(n, first, chunk).unwrap()).collect();
            let all: Vec<usize> = axes.iter().flat_map(extents).collect();
            prop_assert_eq!(&chain(axes.iter().cloned()).unwrap(), &ChunkGrid::of_extents(all).unwrap());
        }
    }

    #[test]
    fn what_cannot_be_listed_is_refused_or_needs_no_list() {
        let fine = ChunkGrid::even(1 << 50, 1, 1).unwrap();
        assert_eq!(sliced(&fine, 1, (1 << 50) - 1, 1).unwrap().len(), (1 << 50) - 1);
        assert_eq!(sliced(&fine, (1 << 50) - 1, 1 << 50, -1).unwrap(), fine);
        assert_eq!(chain([fine.clone(), fine.clone()].into_iter()).unwrap().len(), 1 << 51);
        let threes = ChunkGrid::even(3 << 40, 3, 3).unwrap();
        let error = sliced(&threes, 0, (3 << 40) / 2, 2).unwrap_err().to_string();
        assert!(error.starts_with("number of chunks along an axis = 1099511627776: larger chunks"), "{error}");
        assert_eq!(joined_to(&fine, 1 << 20).unwrap().len(), 1 << 30);
    }
}
