//! Arrays whose first axis is the fastest in the file: Fortran order.
//!
//! Owns: [`TransposedSource`]. Must not know: formats. Invariant: what it reads at a time is bounded, whatever is asked for, and
//! the file is read in runs as long as the bound allows.

use super::direct::{DataFile, RawArray, StoredAt};
use super::raw_source::{check_output, check_region};
use super::stored::Decoded;
use crate::error::Result;
use crate::kernel::Lane;
use crate::shape::{AxisRange, ChunkViewMut, DType, Layout, Region, with_dtype};
use crate::task::{ChunkSource, storage_parts};

/// Bytes of the storage chunks that it says it has: runs of the file that are worth a read.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes that are read at a time and put in order from there: they stay in the core's own cache.
const TILE_BYTES: usize = 256 * 1024;
/// Elements of the last axis in a tile: what is written next to each other should fill a cache line or two.
const TILE_ROW: usize = 16;

/// The transpose of a contiguous array in a file.
pub(crate) struct TransposedSource {
    name: String,
    file: DataFile,
    /// With its axes reversed: then it is in C order.
    array: RawArray,
    shape: Vec<usize>,
    chunk: Vec<usize>,
}

impl TransposedSource {
    /// The array of `shape` that begins at byte `at`; `stored` says what its elements are.
    pub(crate) fn new(name: String, file: DataFile, at: u64, shape: Vec<usize>, stored: super::stored::Stored) -> Self {
        let reversed = shape.iter().rev().copied().collect();
        let chunk = leading(&shape, CHUNK_BYTES / stored.dtype.bytes());
        let array = RawArray { shape: reversed, stored, place: StoredAt::Contiguous(at), fill: stored.dtype.zero() };
        Self { name, file, array, shape, chunk }
    }

    fn read_as<T: Decoded>(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        let shape = region.shape();
        let tile = tile(&shape, TILE_BYTES / size_of::<T>());
        let mut buffer = vec![T::default(); tile.iter().product()];
        let origin = shape.iter().map(|&len| AxisRange { start: 0, len, step: 1 }).collect();
        storage_parts(&Region::from_axes(origin), &tile, &mut |from, part| {
            let axes = region.axes().iter().zip(part.axes()).map(|(a, p)| AxisRange {
                start: a.start + p.start * a.step,
                len: p.len,
                step: a.step,
            });
            let reversed = Region::from_axes(axes.rev().collect());
            let values = &mut buffer[..part.len()];
            let layout = Layout::contiguous(T::DTYPE, &reversed.shape());
            self.array.read(&self.file, &reversed, &mut ChunkViewMut::from_slice(values, &layout))?;
            put(values, (from, &part.shape()), out);
            Ok(())
        })
    }
}

/// Copies a box of extent `len`, in Fortran order, to index `from` of `out`.
fn put<T: Decoded>(values: &[T], (from, len): (&[usize], &[usize]), out: &mut ChunkViewMut<'_>) {
    let last = len.len() - 1;
    let outer = Layout::contiguous(T::DTYPE, &out.shape()[..last]).strides;
    let (row, rows) = (len[last], len[..last].iter().product::<usize>());
    // Neighbours in `values` differ in the first axis, so that rows are taken in that order too.
    for number in 0..rows {
        let (mut rest, mut r) = (number, 0);
        for axis in 0..last {
            r += (from[axis] + rest % len[axis]) * outer[axis] as usize;
            rest /= len[axis];
        }
        let to = &mut out.row_mut::<T>(r)[from[last]..from[last] + row];
        to.iter_mut().zip(values[number..].iter().step_by(rows)).for_each(|(to, &value)| *to = value);
    }
}

/// Extents of a box of at most `budget` elements, grown from the first axis on. At least 1 each.
fn leading(shape: &[usize], mut budget: usize) -> Vec<usize> {
    let grow = |&n: &usize| {
        let extent = n.min(budget).max(1);
        budget = if extent < n { 1 } else { budget / extent };
        extent
    };
    shape.iter().map(grow).collect()
}

/// [`leading`], with some of the last axis in any case.
fn tile(shape: &[usize], budget: usize) -> Vec<usize> {
    let Some((&last, outer)) = shape.split_last() else { return Vec::new() };
    let mut tile = leading(outer, budget / last.clamp(1, TILE_ROW));
    tile.push((budget / tile.iter().product::<usize>()).min(last).max(1));
    tile
}

impl ChunkSource for TransposedSource {
    fn converts(&self) -> bool {
        !self.dtype().is_complex()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> DType {
        self.array.stored.dtype
    }

    /// It has none, but runs along the first axes are what is read well.
    fn storage_chunks(&self) -> Option<&[usize]> {
        Some(&self.chunk)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn version_token(&self) -> String {
        format!("{}@{}", self.name, self.file.token())
    }

    fn access(&self) -> String {
        let swapped = if self.array.stored.is_swapped() { ", bytes swapped" } else { "" };
        format!("positioned reads, transposed from Fortran order{swapped}")
    }

    fn lane(&self) -> Lane {
        Lane::Compute
    }

    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        check_output(&self.name, self.dtype(), region, out)?;
        check_region(&self.shape, region)?;
        self.file.check()?;
        with_dtype!(out.layout().dtype, T => self.read_as::<T>(region, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_bounded_and_read_long_runs() {
        assert_eq!(leading(&[10_000, 10_000], 131_072), [10_000, 13]);
        assert_eq!(leading(&[1 << 40, 3], 1000), [1000, 1]);
        assert_eq!(leading(&[3, 5, 1000], 1000), [3, 5, 66]);
        assert_eq!(leading(&[0, 7], 100), [1, 7]);
        assert_eq!(tile(&[10_000, 10_000], 32_768), [2048, 16]);
        assert_eq!(tile(&[3, 1000, 1000], 32_768), [3, 682, 16]);
        assert_eq!(tile(&[100, 2], 32_768), [100, 2]);
        assert_eq!(tile(&[5], 32_768), [5]);
    }
}
