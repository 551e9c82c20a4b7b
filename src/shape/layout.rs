//! Where the elements of a chunk lie in its memory.
//!
//! Owns: [`Layout`]. Must not know: the memory. Invariant: a layout for which [`Layout::reach`] is known reaches no element beyond that.

use super::DType;

/// Dtype, shape and strides (in elements) of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Layout {
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: Vec<usize>,
    /// Distance in elements between neighbours along each axis.
    pub strides: Vec<isize>,
}

impl Layout {
    /// C order without gaps.
    #[must_use]
    pub fn contiguous(dtype: DType, shape: &[usize]) -> Self {
        let mut strides = vec![0isize; shape.len()];
        let mut step = 1isize;
        for (stride, &n) in strides.iter_mut().zip(shape).rev() {
            *stride = step;
            step *= n.max(1) as isize;
        }
        Self { dtype, shape: shape.to_vec(), strides }
    }

    /// The same elements, with the axes in this order.
    ///
    /// # Panics
    /// If an axis is not there.
    #[must_use]
    pub(crate) fn reordered(&self, order: &[usize]) -> Self {
        let shape = order.iter().map(|&axis| self.shape[axis]).collect();
        Self { dtype: self.dtype, shape, strides: order.iter().map(|&axis| self.strides[axis]).collect() }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the elements (gaps between rows not counted).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.len() * self.dtype.bytes()) as u64
    }

    /// Whether it is C order without gaps, or empty.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1isize;
        for (&stride, &n) in self.strides.iter().zip(&self.shape).rev() {
            if n > 1 && stride != step {
                return self.is_empty();
            }
            step *= n as isize;
        }
        true
    }

    /// Elements from the lowest to the highest reachable one, inclusive.
    #[must_use]
    pub fn span(&self) -> usize {
        self.reach().map_or(usize::MAX, |(before, from)| before + from)
    }

    /// Where it lies around its first element: how many elements before that, and how many from it on, up to the lowest and the highest reachable
    /// one. `None` if there is not one stride per axis, or something overflows: then it is no layout of anything.
    #[must_use]
    pub fn reach(&self) -> Option<(usize, usize)> {
        if self.strides.len() != self.shape.len() {
            return None;
        }
        let len = self.shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n))?;
        if len == 0 {
            return Some((0, 0));
        }
        let (mut before, mut from) = (0usize, 1usize);
        for (&stride, &n) in self.strides.iter().zip(&self.shape) {
            let side = if stride < 0 { &mut before } else { &mut from };
            *side = side.checked_add(stride.unsigned_abs().checked_mul(n - 1)?)?;
        }
        before.checked_add(from).filter(|&all| all <= isize::MAX as usize)?;
        Some((before, from))
    }

    /// The second part of [`Layout::reach`], if there is nothing before the first element: how much memory a chunk takes from there on.
    #[must_use]
    pub fn checked_span(&self) -> Option<usize> {
        self.reach().filter(|&(before, _)| before == 0).map(|(_, from)| from)
    }

    /// Whether no two indices are the same element, as must be where a chunk is written: no axis of more than one index has stride 0. (By the usual
    /// test, which knows all layouts that come from slicing, flipping and permuting: a stride is more than what lies within it.)
    #[must_use]
    pub fn is_distinct(&self) -> bool {
        let mut axes: Vec<(usize, usize)> =
            self.strides.iter().zip(&self.shape).filter(|(_, n)| **n > 1).map(|(s, &n)| (s.unsigned_abs(), n)).collect();
        axes.sort_unstable();
        let mut within = 0usize; // distance of the farthest element over the axes so far
        let apart = |&(stride, n): &(usize, usize)| {
            let fits = stride > within;
            within = within.saturating_add(stride.saturating_mul(n - 1));
            fits
        };
        self.is_empty() || axes.iter().all(apart)
    }

    /// How far, in bytes, the first element of a part of a chunk that lies so is from the chunk's: of the part from index `start` on, with the
    /// extents of `part`. 0 for a part without elements.
    ///
    /// # Panics
    /// If `part` is of another dtype, has other strides, or reaches out of the chunk.
    pub(super) fn part(&self, start: &[usize], part: &Self) -> isize {
        let inside = |a: usize| start[a].checked_add(part.shape[a]).is_some_and(|end| end <= self.shape[a]);
        let rank = self.shape.len();
        let fits = part.shape.len() == rank && start.len() == rank && (0..rank).all(inside);
        assert!(
            fits && part.dtype == self.dtype && part.strides == self.strides,
            "{part:?} from {start:?} on is no part of {self:?}"
        );
        if part.is_empty() {
            return 0;
        }
        let offset: isize = start.iter().zip(&self.strides).map(|(&at, &stride)| at as isize * stride).sum();
        offset * self.dtype.bytes() as isize
    }

    /// How far row `r` along the last axis (C order) is from the first, in elements.
    pub(super) fn row_offset(&self, mut r: usize) -> isize {
        let rank = self.shape.len();
        let mut offset = 0;
        for axis in (0..rank.saturating_sub(1)).rev() {
            offset += (r % self.shape[axis]) as isize * self.strides[axis];
            r /= self.shape[axis];
        }
        offset
    }

    /// Rows along the last axis: their count and their length.
    pub(super) fn rows(&self) -> (usize, usize) {
        match self.shape.split_last() {
            None => (1, 1),
            Some((&len, outer)) => (outer.iter().product(), len),
        }
    }

    pub(super) fn has_row_slices(&self) -> bool {
        last(self) == 1 || self.shape.last().is_none_or(|&n| n <= 1)
    }

    /// Distance between the rows of a matrix, which are slices that do not overlap.
    pub(super) fn row_step(&self) -> isize {
        self.assert_rows_are_slices();
        let [rows, len] = self.shape[..] else { panic!("chunk {:?} is not a matrix", self.shape) };
        let step = self.strides[0];
        assert!(step.unsigned_abs() >= len || rows <= 1, "rows of {len} elements overlap: they are {step} apart");
        step
    }

    pub(super) fn assert_rows_are_slices(&self) {
        assert!(self.has_row_slices(), "last axis has stride {}: rows are not slices", last(self));
    }
}

/// Stride of the last axis.
pub(super) fn last(layout: &Layout) -> isize {
    layout.strides.last().copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(shape: &[usize], strides: &[isize]) -> Layout {
        Layout { dtype: DType::I32, shape: shape.into(), strides: strides.into() }
    }

    #[test]
    fn spans() {
        assert_eq!(layout(&[2, 3], &[4, 1]).checked_span(), Some(7));
        assert_eq!(layout(&[2, 0], &[4, 1]).checked_span(), Some(0));
        assert_eq!(layout(&[], &[]).checked_span(), Some(1));
        assert_eq!((layout(&[2, 2], &[-2, 1]).checked_span(), layout(&[2, 2], &[-2, 1]).span()), (None, 4));
        assert_eq!(layout(&[3, 4, 1], &[-4, 1, -9]).reach(), Some((8, 4)));
        assert_eq!(layout(&[3, 1 << 40], &[0, 0]).reach(), Some((0, 1)));
        assert_eq!(layout(&[3, 0], &[isize::MIN, -7]).reach(), Some((0, 0)));
        for (shape, strides) in
            [(vec![3], vec![isize::MIN]), (vec![2, 2], vec![isize::MIN + 1, isize::MAX]), (vec![1 << 40; 2], vec![0; 2])]
        {
            assert_eq!(layout(&shape, &strides).reach(), None, "{shape:?} {strides:?}");
        }
    }

    #[test]
    fn empty_is_contiguous() {
        assert!(layout(&[5, 0], &[-3, 7]).is_contiguous() && layout(&[0, 5], &[0, 0]).is_contiguous());
        assert!(layout(&[1, 3], &[-9, 1]).is_contiguous() && !layout(&[2, 3], &[-3, 1]).is_contiguous());
    }

    #[test]
    fn elements_are_distinct_or_not() {
        for (shape, strides) in [([3, 4], [4, 1]), ([3, 4], [-1, 9]), ([3, 4], [2, -6]), ([1, 4], [0, 1]), ([0, 4], [0, 0])] {
            assert!(layout(&shape, &strides).is_distinct(), "{shape:?} {strides:?}");
        }
        for (shape, strides) in [([3, 4], [0, 1]), ([3, 4], [3, 1]), ([3, 4], [-3, 1]), ([2, 2], [1, -1])] {
            assert!(!layout(&shape, &strides).is_distinct(), "{shape:?} {strides:?}");
        }
    }
}
