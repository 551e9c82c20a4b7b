//! How an array is cut into chunks.
//!
//! Owns: [`ChunkGrid`]. Must not know: dtypes, bytes in memory. Invariant: the chunks of an axis are non-empty (an empty
//! axis has none), consecutive, and cover it exactly.

use super::{AxisRange, Region, checked_len};
use crate::error::{Error, Result};

/// A grid of chunks: the cut points of each axis. Chunks need not be equal.
///
/// ```
/// use chunkwise::shape::ChunkGrid;
/// let grid = ChunkGrid::regular(&[10, 7], &[4, 7]).unwrap();
/// assert_eq!(grid.counts(), [3, 1]);
/// assert_eq!(grid.region(2).shape(), [2, 7]);   // the last chunk is smaller
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChunkGrid {
    shape: Vec<usize>,
    /// Per axis: 0, end of chunk 0, end of chunk 1, ..., extent.
    cuts: Vec<Vec<usize>>,
}

impl ChunkGrid {
    /// Chunks of `chunk[axis]` elements; the last of an axis may be smaller. A chunk longer than its axis is cut to it.
    ///
    /// # Errors
    /// [`Error::Shape`] if ranks differ, the array is too large, or a chunk extent is 0.
    pub fn regular(shape: &[usize], chunk: &[usize]) -> Result<Self> {
        checked_len("chunks", shape)?;
        if shape.len() != chunk.len() || chunk.contains(&0) {
            return Err(Error::Shape {
                op: "chunks",
                found: chunk.to_vec(),
                wanted: format!("one extent of at least 1 for each axis of {shape:?}"),
            });
        }
        let cuts = shape.iter().zip(chunk).map(|(&n, &c)| (0..n).step_by(c).chain([n]).collect::<Vec<_>>());
        Self::from_cuts(shape.to_vec(), cuts.map(|c| if c == [0] { vec![0] } else { c }).collect())
    }

    /// Chunks with these extents along each axis.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis' extents do not add up to it, or one of them is 0.
    pub fn irregular(shape: &[usize], extents: &[Vec<usize>]) -> Result<Self> {
        checked_len("chunks", shape)?;
        let cuts = extents.iter().map(|axis| {
            let mut end = 0usize;
            std::iter::once(0)
                .chain(axis.iter().map(|&e| {
                    end = end.saturating_add(e);
                    end
                }))
                .collect::<Vec<_>>()
        });
        Self::from_cuts(shape.to_vec(), cuts.collect())
    }

    fn from_cuts(shape: Vec<usize>, cuts: Vec<Vec<usize>>) -> Result<Self> {
        let fits = shape.len() == cuts.len()
            && shape.iter().zip(&cuts).all(|(&n, c)| c.last() == Some(&n) && c.windows(2).all(|w| w[0] < w[1]));
        if !fits {
            return Err(Error::Shape {
                op: "chunks",
                found: shape,
                wanted: format!("chunk boundaries {cuts:?} that cover it"),
            });
        }
        Ok(Self { shape, cuts })
    }

    /// One chunk: the whole array.
    ///
    /// # Errors
    /// [`Error::Shape`] if the array is too large.
    pub fn single(shape: &[usize]) -> Result<Self> {
        let chunk: Vec<usize> = shape.iter().map(|&n| n.max(1)).collect();
        Self::regular(shape, &chunk)
    }

    /// Shape of the array.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of chunks along each axis.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        self.cuts.iter().map(|c| c.len() - 1).collect()
    }

    /// Number of chunks; 0 if an axis is empty, 1 for rank 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cuts.iter().map(|c| c.len() - 1).product()
    }

    /// Whether there is no chunk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Start and extent of chunk `index` along `axis`.
    #[must_use]
    pub fn axis_range(&self, axis: usize, index: usize) -> (usize, usize) {
        let cuts = &self.cuts[axis];
        (cuts[index], cuts[index + 1] - cuts[index])
    }

    /// Index per axis of the chunk with this C-order number.
    #[must_use]
    pub fn index(&self, number: usize) -> Vec<usize> {
        let mut rest = number;
        let mut index: Vec<usize> = self
            .cuts
            .iter()
            .rev()
            .map(|c| {
                let n = c.len() - 1;
                let i = rest % n;
                rest /= n;
                i
            })
            .collect();
        index.reverse();
        index
    }

    /// The region of the chunk with this C-order number.
    #[must_use]
    pub fn region(&self, number: usize) -> Region {
        self.region_at(&self.index(number))
    }

    /// The region of the chunk at this index per axis.
    #[must_use]
    pub fn region_at(&self, index: &[usize]) -> Region {
        let axes = index.iter().enumerate().map(|(axis, &i)| {
            let (start, len) = self.axis_range(axis, i);
            AxisRange { start, len, step: 1 }
        });
        Region::from_axes(axes.collect())
    }

    /// Extent of the largest chunk on each axis.
    #[must_use]
    pub fn largest(&self) -> Vec<usize> {
        self.cuts.iter().map(|c| c.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_each_element_once() {
        for (shape, chunk) in [(vec![10, 7], vec![4, 3]), (vec![1], vec![5]), (vec![], vec![]), (vec![0, 4], vec![2, 2])] {
            let grid = ChunkGrid::regular(&shape, &chunk).unwrap();
            let covered: usize = (0..grid.len()).map(|i| grid.region(i).len()).sum();
            assert_eq!(covered, shape.iter().product::<usize>(), "{shape:?}");
        }
    }

    #[test]
    fn refuses_what_does_not_cover() {
        assert!(ChunkGrid::regular(&[4], &[0]).is_err());
        assert!(ChunkGrid::regular(&[4, 4], &[2]).is_err());
        assert!(ChunkGrid::irregular(&[10], &[vec![4, 4]]).is_err());
        assert!(ChunkGrid::irregular(&[10], &[vec![4, 0, 6]]).is_err());
        assert!(ChunkGrid::irregular(&[10], &[vec![1, 9]]).is_ok());
        assert!(ChunkGrid::regular(&[usize::MAX, 2], &[1, 1]).is_err());
    }
}
