//! How a user says chunks, and how the library chooses them.
//!
//! Owns: [`IntoChunks`], the automatic rules. Must not know: this machine. Invariant: an automatic grid depends on operation, shape, dtype and
//! storage only, so that results do not change with the machine.

use crate::error::{Error, Result};
use crate::shape::{ChunkGrid, DType};
use crate::store::preferred_chunks;

/// Bytes of an automatic chunk.
const CHUNK_BYTES: usize = 16 << 20;

/// What [`crate::Array::chunks`] takes.
pub trait IntoChunks {
    /// The grid for an array of this shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if an extent is 0, or there is not one for each axis.
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid>;
}

impl IntoChunks for usize {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, &vec![self; shape.len()])
    }
}

impl<const N: usize> IntoChunks for [usize; N] {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, &self)
    }
}

impl IntoChunks for (usize, usize) {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, &[self.0, self.1])
    }
}

impl IntoChunks for &[usize] {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, self)
    }
}

impl IntoChunks for Vec<Vec<usize>> {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::irregular(shape, &self)
    }
}

impl IntoChunks for ChunkGrid {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        if self.shape() == shape {
            return Ok(self);
        }
        Err(Error::Shape { op: "chunks", found: self.shape().to_vec(), wanted: format!("a grid of shape {shape:?}") })
    }
}

/// Leading-axis slabs of about 16 MiB, whole storage chunks where there are any.
pub(super) fn slabs(shape: &[usize], dtype: DType, storage: Option<&[usize]>) -> ChunkGrid {
    let chunk = preferred_chunks(shape, dtype, storage, CHUNK_BYTES);
    grid_or_single(shape, &chunk)
}

/// Bytes of an automatic chunk where an element is worth much work.
const BUSY_CHUNK_BYTES: usize = 1 << 20;

/// Square-ish chunks of about 1 MiB: whole rows are not favoured.
pub(super) fn squares(shape: &[usize], dtype: DType) -> ChunkGrid {
    let rank = shape.len().max(1) as f64;
    let side = ((BUSY_CHUNK_BYTES / dtype.bytes()) as f64).powf(1.0 / rank) as usize;
    let chunk: Vec<usize> = shape.iter().map(|&n| even(n, side.max(1))).collect();
    grid_or_single(shape, &chunk)
}

/// Tiles of a factorisation of order `n`: n/16 rounded to 64, within 256..1024.
pub(super) fn tile(n: usize) -> usize {
    ((n / 16 + 32) / 64 * 64).clamp(256, 1024)
}

/// Extent of equal chunks of at most `most`.
fn even(n: usize, most: usize) -> usize {
    n.div_ceil(n.div_ceil(most).max(1)).max(1)
}

fn grid_or_single(shape: &[usize], chunk: &[usize]) -> ChunkGrid {
    let chunk: Vec<usize> = chunk.iter().map(|&c| c.max(1)).collect();
    ChunkGrid::regular(shape, &chunk).expect("a checked shape with positive extents has a grid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn automatic_tiles() {
        assert_eq!([100, 4000, 10_000, 100_000].map(tile), [256, 256, 640, 1024]);
    }

    #[test]
    fn automatic_squares_hold_1_mib() {
        let grid = squares(&[8000, 12000], DType::I32);
        let largest = grid.largest();
        assert!(
            largest[0] * largest[1] * 4 <= BUSY_CHUNK_BYTES && largest[0] * largest[1] * 8 > BUSY_CHUNK_BYTES,
            "{largest:?}"
        );
    }
}
