//! How an array is cut into chunks.
//!
//! Owns: [`ChunkGrid`]. Must not know: dtypes, bytes in memory. Invariant: the chunks of an axis are non-empty (an empty
//! axis has none), consecutive, and cover it exactly; an axis cut regularly takes no memory for its cuts, however many there are.

use std::sync::Arc;

use super::{AxisRange, Region, checked_len};
use crate::error::{Error, Result};

/// A grid of chunks: the cut points of each axis. Chunks need not be equal.
///
/// ```
/// use chunkwise::ChunkGrid;
/// let grid = ChunkGrid::regular(&[10, 7], &[4, 7]).unwrap();
/// assert_eq!(grid.counts(), [3, 1]);
/// assert_eq!(grid.region(2).shape(), [2, 7]);   // the last chunk is smaller
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChunkGrid {
    shape: Vec<usize>,
    cuts: Vec<Cuts>,
}

/// The cuts of one axis. What can be `Regular` is: equal cuts are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Cuts {
    /// A first chunk of any extent, then chunks of one extent, of which the last may be smaller. Of an axis of one chunk both are its extent (at least 1); of
    /// two, the chunk is the second one, or the first if that is larger.
    Regular { first: usize, chunk: usize },
    /// 0, end of chunk 0, end of chunk 1, ..., extent.
    At(Arc<[usize]>),
}

impl Cuts {
    fn regular(extent: usize, first: usize, chunk: usize) -> Self {
        let (first, rest) = (first.min(extent).max(1), extent.saturating_sub(first));
        let chunk = if rest <= chunk { first.max(rest) } else { chunk };
        Self::Regular { first, chunk }
    }

    /// Chunks of these extents, if they cover the axis.
    fn of_extents(extent: usize, chunks: &[usize]) -> Option<Self> {
        let sum = chunks.iter().try_fold(0usize, |sum, &c| sum.checked_add(c));
        if sum != Some(extent) || chunks.contains(&0) {
            return None;
        }
        let first = chunks.first().copied().unwrap_or(1);
        let second = chunks.get(1).copied().unwrap_or(first);
        let (last, others) = chunks.split_last().map_or((first, chunks), |(&last, others)| (last, others));
        if chunks.len() <= 2 || last <= second && others.iter().skip(1).all(|&c| c == second) {
            return Some(Self::regular(extent, first, second));
        }
        let ends = chunks.iter().scan(0, |end, &c| {
            *end += c;
            Some(*end)
        });
        Some(Self::At(std::iter::once(0).chain(ends).collect()))
    }

    fn count(&self, extent: usize) -> usize {
        match self {
            Self::Regular { first, chunk } => usize::from(extent > 0) + extent.saturating_sub(*first).div_ceil(*chunk),
            Self::At(cuts) => cuts.len() - 1,
        }
    }

    /// Start and extent of a chunk.
    fn range(&self, extent: usize, index: usize) -> (usize, usize) {
        match self {
            Self::Regular { first, .. } if index == 0 => (0, (*first).min(extent)),
            Self::Regular { first, chunk } => {
                let start = first + (index - 1) * chunk;
                assert!(start < extent, "no chunk {index} along an axis of {extent} in chunks of {chunk}");
                (start, (*chunk).min(extent - start))
            }
            Self::At(cuts) => (cuts[index], cuts[index + 1] - cuts[index]),
        }
    }

    fn largest(&self, extent: usize) -> usize {
        match self {
            Self::Regular { first, chunk } => (*first).max(*chunk).min(extent),
            Self::At(cuts) => cuts.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0),
        }
    }
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
        Ok(Self { shape: shape.to_vec(), cuts: shape.iter().zip(chunk).map(|(&n, &c)| Cuts::regular(n, c, c)).collect() })
    }

    /// Chunks with these extents along each axis.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis' extents do not add up to it, or one of them is 0.
    pub fn irregular(shape: &[usize], extents: &[Vec<usize>]) -> Result<Self> {
        checked_len("chunks", shape)?;
        let cuts: Option<Vec<Cuts>> = shape.iter().zip(extents).map(|(&n, chunks)| Cuts::of_extents(n, chunks)).collect();
        match cuts.filter(|_| shape.len() == extents.len()) {
            Some(cuts) => Ok(Self { shape: shape.to_vec(), cuts }),
            None => Err(Error::Shape {
                op: "chunks",
                found: shape.to_vec(),
                wanted: format!("extents of chunks {extents:?} that add up to it"),
            }),
        }
    }

    /// One chunk: the whole array.
    ///
    /// # Errors
    /// [`Error::Shape`] if the array is too large.
    pub fn single(shape: &[usize]) -> Result<Self> {
        let chunk: Vec<usize> = shape.iter().map(|&n| n.max(1)).collect();
        Self::regular(shape, &chunk)
    }

    /// A grid of one axis: this one's axis number `axis`.
    ///
    /// # Panics
    /// If there is no such axis.
    #[must_use]
    pub fn along(&self, axis: usize) -> Self {
        Self { shape: vec![self.shape[axis]], cuts: vec![self.cuts[axis].clone()] }
    }

    /// The grid whose axes are those of this one and then those of another.
    ///
    /// # Errors
    /// [`Error::Shape`] if an array of that shape is too large.
    pub fn by(&self, other: &Self) -> Result<Self> {
        let shape = [&self.shape[..], &other.shape].concat();
        checked_len("chunks", &shape)?;
        Ok(Self { shape, cuts: [&self.cuts[..], &other.cuts].concat() })
    }

    /// The grid whose axes are those of these grids, one after the other.
    ///
    /// # Errors
    /// [`Error::Shape`] if an array of that shape is too large.
    pub(crate) fn of_axes(axes: impl IntoIterator<Item = Self>) -> Result<Self> {
        let mut all = Self { shape: Vec::new(), cuts: Vec::new() };
        for axis in axes {
            all.shape.extend(axis.shape);
            all.cuts.extend(axis.cuts);
        }
        checked_len("chunks", &all.shape)?;
        Ok(all)
    }

    /// One axis of `extent`: a first chunk, then chunks of one extent, of which the last may be smaller.
    ///
    /// # Errors
    /// [`Error::Shape`] if the axis is too long.
    pub(crate) fn even(extent: usize, first: usize, chunk: usize) -> Result<Self> {
        checked_len("chunks", &[extent])?;
        Ok(Self { shape: vec![extent], cuts: vec![Cuts::regular(extent, first.max(1), chunk.max(1))] })
    }

    /// Extents of the first chunk of an axis and of those after it, if they are as [`ChunkGrid::even`] has them.
    pub(crate) fn evenly(&self, axis: usize) -> Option<(usize, usize)> {
        match self.cuts[axis] {
            Cuts::Regular { first, chunk } => Some((first, chunk)),
            Cuts::At(_) => None,
        }
    }

    /// One axis, cut into chunks of these extents; one that has none is empty.
    ///
    /// # Errors
    /// [`Error::Shape`] if one of them is 0, or the axis too long.
    pub(crate) fn of_extents(extents: Vec<usize>) -> Result<Self> {
        let sum = extents.iter().fold(0usize, |sum, &extent| sum.saturating_add(extent));
        Self::irregular(&[sum], &[extents])
    }

    /// The chunk in which index `at` of an axis is. O(1) for an axis cut regularly, else O(log of its chunks).
    pub(crate) fn chunk_of(&self, axis: usize, at: usize) -> usize {
        match &self.cuts[axis] {
            Cuts::Regular { first, .. } if at < *first => 0,
            Cuts::Regular { first, chunk } => 1 + (at - first) / chunk,
            Cuts::At(cuts) => cuts.partition_point(|&cut| cut <= at) - 1,
        }
    }

    /// Number of chunks along one axis.
    pub(crate) fn count(&self, axis: usize) -> usize {
        self.cuts[axis].count(self.shape[axis])
    }

    /// C-order number of the chunk at this index per axis.
    pub(crate) fn number(&self, index: &[usize]) -> usize {
        self.axes().zip(index).fold(0, |number, ((cuts, extent), &i)| number * cuts.count(extent) + i)
    }

    /// Shape of the array.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn axes(&self) -> impl DoubleEndedIterator<Item = (&Cuts, usize)> + ExactSizeIterator {
        self.cuts.iter().zip(self.shape.iter().copied())
    }

    /// Number of chunks along each axis.
    #[must_use]
    pub fn counts(&self) -> Vec<usize> {
        self.axes().map(|(cuts, n)| cuts.count(n)).collect()
    }

    /// Number of chunks; 0 if an axis is empty, 1 for rank 0.
    #[must_use]
    pub fn len(&self) -> usize {
        self.axes().map(|(cuts, n)| cuts.count(n)).product()
    }

    /// Whether there is no chunk.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Start and extent of chunk `index` along `axis`.
    ///
    /// # Panics
    /// If there is no such axis or chunk.
    #[must_use]
    pub fn axis_range(&self, axis: usize, index: usize) -> (usize, usize) {
        self.cuts[axis].range(self.shape[axis], index)
    }

    /// Index per axis of the chunk with this C-order number.
    ///
    /// # Panics
    /// If there is no such chunk.
    #[must_use]
    pub fn index(&self, number: usize) -> Vec<usize> {
        assert!(number < self.len(), "no chunk {number}: there are {}", self.len());
        let mut rest = number;
        let mut index: Vec<usize> = self
            .axes()
            .rev()
            .map(|(cuts, extent)| {
                let n = cuts.count(extent);
                let i = rest % n;
                rest /= n;
                i
            })
            .collect();
        index.reverse();
        index
    }

    /// The region of the chunk with this C-order number.
    ///
    /// # Panics
    /// If there is no such chunk.
    #[must_use]
    pub fn region(&self, number: usize) -> Region {
        self.region_at(&self.index(number))
    }

    /// The region of the chunk at this index per axis.
    ///
    /// # Panics
    /// If there is no such chunk.
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
        self.axes().map(|(cuts, n)| cuts.largest(n)).collect()
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

    #[test]
    fn equal_cuts_are_equal_grids_and_many_cost_nothing() {
        let regular = ChunkGrid::regular(&[10, 3], &[4, 9]).unwrap();
        assert_eq!(regular, ChunkGrid::irregular(&[10, 3], &[vec![4, 4, 2], vec![3]]).unwrap());
        assert_ne!(regular, ChunkGrid::irregular(&[10, 3], &[vec![4, 2, 4], vec![3]]).unwrap());
        assert_eq!(ChunkGrid::regular(&[0], &[7]).unwrap(), ChunkGrid::irregular(&[0], &[vec![]]).unwrap());
        let uneven = ChunkGrid::irregular(&[10], &[vec![1, 6, 3]]).unwrap();
        assert_eq!((uneven.axis_range(0, 1), uneven.largest(), uneven.counts()), ((1, 6), vec![6], vec![3]));
        assert_eq!(regular.along(0).by(&uneven).unwrap().region(4).shape(), [4, 6]);
        for (extent, first, chunk) in
            [(10, 3, 4), (10, 4, 3), (10, 9, 4), (10, 2, 9), (10, 2, 8), (10, 10, 3), (10, 12, 3), (1, 1, 1), (0, 1, 1)]
        {
            let even = ChunkGrid::even(extent, first, chunk).unwrap();
            let extents: Vec<usize> = (0..even.len()).map(|i| even.axis_range(0, i).1).collect();
            assert_eq!(extents.iter().sum::<usize>(), extent);
            assert!(extent == 0 || extents[0] == first.min(extent), "{extents:?}");
            assert!(extents.iter().skip(1).rev().skip(1).all(|&c| c == chunk), "{extents:?}");
            assert_eq!(ChunkGrid::of_extents(extents).unwrap(), even);
            (0..extent).for_each(|at| {
                let (start, len) = even.axis_range(0, even.chunk_of(0, at));
                assert!((start..start + len).contains(&at));
            });
        }
        let fine = ChunkGrid::regular(&[1 << 40, 3], &[1, 1]).unwrap();
        assert_eq!((fine.len(), fine.region(3 << 40 >> 1).start()), (3 << 40, vec![1 << 39, 0]));
        assert!(ChunkGrid::irregular(&[4], &[vec![usize::MAX, 5]]).is_err());
        assert!(ChunkGrid::irregular(&[4, 4], &[vec![4]]).is_err());
    }

    #[test]
    fn chunks_are_found_by_index_and_by_element() {
        let grid = ChunkGrid::irregular(&[10, 7], &[vec![1, 6, 3], vec![3, 3, 1]]).unwrap();
        for number in 0..grid.len() {
            assert_eq!(grid.number(&grid.index(number)), number);
            for (axis, range) in grid.region(number).axes().iter().enumerate() {
                let found = (range.start..range.start + range.len).map(|at| grid.chunk_of(axis, at));
                assert!(found.into_iter().all(|chunk| chunk == grid.index(number)[axis]));
            }
        }
        let again = ChunkGrid::of_axes([ChunkGrid::of_extents(vec![1, 6, 3]).unwrap(), grid.along(1)]).unwrap();
        assert_eq!((again, grid.count(1)), (grid, 3));
        assert_eq!(ChunkGrid::of_extents(vec![]).unwrap().shape(), [0]);
    }
}
