//! The order in which a source is scanned, and the walk through it.
//!
//! Owns: how a region falls into parts (one per storage chunk) and pieces (small enough for a scratch block). Must not know:
//! any format. Invariant: parts and pieces depend on the region and the storage chunks only, never on threads or on which
//! path reads them, and cover each element of the region once.

use super::source::Block;
use crate::error::Result;
use crate::shape::{AxisRange, ChunkView, ChunkViewMut, DType, Element, Layout, Region, Scalar, with_dtype};

/// Bytes of one scanned block: large enough that a positioned read costs nothing beside its copy, small enough that the
/// block is still in the core's own cache when it is summed.
pub const SCAN_BLOCK_BYTES: usize = 512 * 1024;

/// What [`scan_by_pieces`] asks of a source.
pub(crate) trait PieceSource {
    /// As `ChunkSource::constant`.
    fn constant(&self, region: &Region) -> Option<Scalar>;
    /// As `ChunkSource::read`.
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()>;
}

/// Splits `region` at the boundaries of `chunk`s and calls `each` for every part, in C order of the storage chunks, with the
/// part's first index inside `region` (per axis), and the part.
pub(crate) fn storage_parts(
    region: &Region,
    chunk: &[usize],
    each: &mut dyn FnMut(&[usize], &Region) -> Result<()>,
) -> Result<()> {
    if region.is_empty() {
        return Ok(());
    }
    let axes = region.axes();
    let extent = |axis: usize, from: usize| {
        let a = axes[axis];
        let end = ((a.start + from * a.step) / chunk[axis] + 1).saturating_mul(chunk[axis]);
        (end - a.start).div_ceil(a.step).min(a.len) - from
    };
    let mut from = vec![0usize; axes.len()];
    let mut len: Vec<usize> = (0..axes.len()).map(|axis| extent(axis, 0)).collect();
    loop {
        let part = axes.iter().zip(from.iter().zip(&len)).map(|(a, (&f, &n))| AxisRange {
            start: a.start + f * a.step,
            len: n,
            step: a.step,
        });
        each(&from, &Region::from_axes(part.collect()))?;
        let mut axis = axes.len();
        loop {
            let Some(next) = axis.checked_sub(1) else { return Ok(()) };
            axis = next;
            from[axis] += len[axis];
            if from[axis] < axes[axis].len {
                len[axis] = extent(axis, from[axis]);
                break;
            }
            from[axis] = 0;
            len[axis] = extent(axis, 0);
        }
    }
}

/// Splits `region` into pieces of at most `max` elements, each consecutive in C order of the region; calls `each` with the
/// piece's first index inside `region` (per axis), and the piece.
pub(crate) fn pieces(region: &Region, max: usize, each: &mut dyn FnMut(&[usize], &Region) -> Result<()>) -> Result<()> {
    // A piece is one index on the leading axes, a run on one axis, and everything on the trailing axes.
    let mut trailing = 1usize;
    let mut cut: Vec<usize> = vec![1; region.axes().len()];
    for (axis, a) in region.axes().iter().enumerate().rev() {
        cut[axis] = (max / trailing).clamp(1, a.len.max(1));
        if cut[axis] < a.len {
            break;
        }
        trailing *= a.len.max(1);
    }
    // The parts of a box at the origin are its pieces, moved.
    let origin = region.axes().iter().map(|a| AxisRange { start: 0, len: a.len, step: 1 }).collect();
    storage_parts(&Region::from_axes(origin), &cut, &mut |from, part| {
        let moved = region.axes().iter().zip(part.axes()).map(|(a, p)| AxisRange {
            start: a.start + p.start * a.step,
            len: p.len,
            step: a.step,
        });
        each(from, &Region::from_axes(moved.collect()))
    })
}

/// Equal values seen so far, not yet handed on.
#[derive(Default)]
pub(crate) struct PendingConstant {
    value: Option<Scalar>,
    count: u64,
}

impl PendingConstant {
    /// Notes `count` more elements of `value`; hands earlier ones on if they differ.
    pub(crate) fn add(&mut self, value: Scalar, count: usize, each: &mut dyn FnMut(Block<'_>)) {
        if self.value != Some(value) {
            self.flush(each);
        }
        self.value = Some(value);
        self.count += count as u64;
    }

    /// Hands on what was noted.
    pub(crate) fn flush(&mut self, each: &mut dyn FnMut(Block<'_>)) {
        if let Some(value) = self.value.take()
            && self.count > 0
        {
            each(Block::Constant { value, count: self.count });
        }
        self.count = 0;
    }
}

/// Scans `region` of a source with these storage chunks: see `ChunkSource::scan`.
///
/// # Panics
/// If `scratch` cannot hold one aligned element.
pub(crate) fn scan_by_pieces(
    source: &dyn PieceSource,
    (dtype, storage): (DType, Option<&[usize]>),
    region: &Region,
    scratch: &mut [u8],
    each: &mut dyn FnMut(Block<'_>),
) -> Result<()> {
    let skip = scratch.as_ptr().align_offset(64).min(scratch.len());
    let block = &mut scratch[skip..];
    let max = block.len() / dtype.bytes();
    assert!(max > 0, "scan needs scratch: SCAN_BLOCK_BYTES + 64 is a good size");
    let mut pending = PendingConstant::default();
    if let Some(value) = source.constant(region) {
        pending.add(value, region.len(), each);
        pending.flush(each);
        return Ok(());
    }
    let mut part_of = |part: &Region, ask: bool| -> Result<()> {
        if ask && let Some(value) = source.constant(part) {
            pending.add(value, part.len(), each);
            return Ok(());
        }
        pending.flush(each);
        pieces(part, max, &mut |_, piece| read_piece(source, dtype, piece, block, each))
    };
    match storage {
        None => part_of(region, false)?,
        Some(chunk) => storage_parts(region, chunk, &mut |_, part| part_of(part, true))?,
    }
    pending.flush(each);
    Ok(())
}

fn read_piece(
    source: &dyn PieceSource,
    dtype: DType,
    piece: &Region,
    block: &mut [u8],
    each: &mut dyn FnMut(Block<'_>),
) -> Result<()> {
    let bytes = &mut block[..piece.len() * dtype.bytes()];
    with_dtype!(dtype in numbers, T => read_typed::<T>(source, piece, bytemuck::cast_slice_mut(bytes), each), _ => {
            bytes.fill(0); // scratch holds anything; a `bool` must not
            read_typed::<bool>(source, piece, bytemuck::checked::cast_slice_mut(bytes), each)
    })
}

fn read_typed<T: Element>(
    source: &dyn PieceSource,
    piece: &Region,
    block: &mut [T],
    each: &mut dyn FnMut(Block<'_>),
) -> Result<()> {
    let layout = Layout::contiguous(T::DTYPE, &piece.shape());
    source.read(piece, &mut ChunkViewMut::from_slice(block, &layout))?;
    let flat = Layout::contiguous(T::DTYPE, &[block.len()]);
    each(Block::Values(ChunkView::from_slice(block, &flat)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(walk: impl Fn(&mut dyn FnMut(&[usize], &Region) -> Result<()>) -> Result<()>) -> Vec<(Vec<usize>, Region)> {
        let mut all = Vec::new();
        walk(&mut |from, part| {
            all.push((from.to_vec(), part.clone()));
            Ok(())
        })
        .unwrap();
        all
    }

    #[test]
    fn parts_cover_each_element_once_and_stay_in_one_chunk() {
        for (start, len, step) in [(0, 10, 1), (3, 6, 1), (1, 4, 3), (0, 2, 9), (9, 1, 1)] {
            let region = Region::from_axes(vec![AxisRange { start, len, step }, AxisRange { start: 0, len: 5, step: 1 }]);
            let parts = collect(|each| storage_parts(&region, &[4, 2], each));
            let mut next = Vec::new();
            for (from, part) in &parts {
                let [a, b] = part.axes() else { panic!() };
                assert_eq!(a.start, start + from[0] * step);
                for (axis, chunk) in [(a, 4), (b, 2)] {
                    assert_eq!(axis.start / chunk, (axis.start + (axis.len - 1) * axis.step) / chunk, "{part:?}");
                }
                next.extend((0..part.len()).map(|i| (from[0] + i / b.len) * 5 + from[1] + i % b.len));
            }
            next.sort_unstable();
            assert_eq!(next, (0..len * 5).collect::<Vec<_>>(), "{region:?}");
        }
        assert_eq!(collect(|each| storage_parts(&Region::all(&[]), &[], each)).len(), 1);
        assert!(collect(|each| storage_parts(&Region::all(&[0, 3]), &[1, 1], each)).is_empty());
    }

    #[test]
    fn pieces_are_consecutive_and_small() {
        for max in [1, 2, 3, 7, 12, 24, 100] {
            let region = Region::all(&[2, 3, 4]);
            let all = collect(|each| pieces(&region, max, each));
            let mut next = 0;
            for (from, piece) in all {
                assert!(piece.len() <= max && !piece.is_empty());
                assert_eq!((from[0] * 3 + from[1]) * 4 + from[2], next);
                next += piece.len();
            }
            assert_eq!(next, 24);
        }
    }
}
