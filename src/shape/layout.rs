//! Where the elements of a chunk lie in its memory.
//!
//! Owns: [`Layout`]. Must not know: the memory. Invariant: a layout that [`Layout::checked_span`] accepts reaches no element beyond
//! that span.

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

    /// Whether it is C order without gaps.
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1isize;
        for (&stride, &n) in self.strides.iter().zip(&self.shape).rev() {
            if n > 1 && stride != step {
                return false;
            }
            step *= n as isize;
        }
        true
    }

    /// Elements from the first to the last reachable one, inclusive; strides are non-negative in chunk views.
    #[must_use]
    pub fn span(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        1 + self.strides.iter().zip(&self.shape).map(|(&s, &n)| s.unsigned_abs() * (n - 1)).sum::<usize>()
    }

    /// [`Layout::span`], if there is one stride per axis, none is negative, and nothing overflows: what a view needs to be valid.
    #[must_use]
    pub fn checked_span(&self) -> Option<usize> {
        if self.strides.len() != self.shape.len() || self.strides.iter().any(|&s| s < 0) {
            return None;
        }
        let len = self.shape.iter().try_fold(1usize, |len, &n| len.checked_mul(n))?;
        if len == 0 {
            return Some(0);
        }
        let mut axes = self.strides.iter().zip(&self.shape);
        axes.try_fold(1usize, |span, (&s, &n)| span.checked_add(s.unsigned_abs().checked_mul(n - 1)?))
    }

    /// Rows along the last axis: their count, their length, and the element offset of row `r`.
    pub(super) fn row_offset(&self, mut r: usize) -> usize {
        let rank = self.shape.len();
        let mut offset = 0;
        for axis in (0..rank.saturating_sub(1)).rev() {
            offset += (r % self.shape[axis]) * self.strides[axis] as usize;
            r /= self.shape[axis];
        }
        offset
    }

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
    pub(super) fn row_step(&self) -> usize {
        self.assert_rows_are_slices();
        let [rows, len] = self.shape[..] else { panic!("chunk {:?} is not a matrix", self.shape) };
        let step = self.strides[0] as usize;
        assert!(step >= len || rows <= 1, "rows of {len} elements overlap: they are {step} apart");
        step
    }

    pub(super) fn assert_rows_are_slices(&self) {
        assert!(self.has_row_slices(), "last axis has stride {}: rows are not slices", last(self));
    }
}

/// Stride of the last axis.
pub(super) fn last(layout: &Layout) -> usize {
    layout.strides.last().copied().unwrap_or(1) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let span = |shape: &[usize], strides: &[isize]| {
            Layout { dtype: DType::I32, shape: shape.into(), strides: strides.into() }.checked_span()
        };
        assert_eq!(span(&[2, 3], &[4, 1]), Some(7));
        assert_eq!(span(&[2, 0], &[4, 1]), Some(0));
        assert_eq!(span(&[], &[]), Some(1));
        assert_eq!(span(&[2, 2], &[-2, 1]), None);
    }
}
