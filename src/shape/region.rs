//! A box inside an array, with a step per axis.
//!
//! Owns: [`Region`]. Must not know: chunks. Invariant: a region never reaches beyond the array it was made for, because its
//! constructors take the array's shape.

use crate::error::{Error, Result};

/// Part of one axis: `len` indices from `start`, `step` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AxisRange {
    /// First index.
    pub start: usize,
    /// Number of indices.
    pub len: usize,
    /// Distance between indices, at least 1.
    pub step: usize,
}

/// A box: one [`AxisRange`] per axis.
///
/// ```
/// use chunkwise::ext::Region;
/// let r = Region::new(&[10, 20], &[(2, 5), (0, 20)]).unwrap();
/// assert_eq!(r.shape(), [3, 20]);
/// assert!(Region::new(&[10], &[(4, 11)]).is_err());
/// assert!(r.is_within(&[10, 20]) && !r.is_within(&[10, 19]) && !r.is_within(&[10]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region {
    axes: Vec<AxisRange>,
}

impl Region {
    /// The box `ranges[axis].0 .. ranges[axis].1` of an array of `shape`.
    ///
    /// # Errors
    /// [`Error::Shape`] when a range is reversed, leaves the array, or their number is not the array's rank.
    pub fn new(shape: &[usize], ranges: &[(usize, usize)]) -> Result<Self> {
        let fits = ranges.len() == shape.len() && ranges.iter().zip(shape).all(|(r, &n)| r.0 <= r.1 && r.1 <= n);
        if !fits {
            return Err(Error::Shape { op: "region", found: shape.to_vec(), wanted: format!("ranges {ranges:?} inside it") });
        }
        Ok(Self { axes: ranges.iter().map(|r| AxisRange { start: r.0, len: r.1 - r.0, step: 1 }).collect() })
    }

    /// The whole of an array of `shape`.
    #[must_use]
    pub fn all(shape: &[usize]) -> Self {
        Self { axes: shape.iter().map(|&len| AxisRange { start: 0, len, step: 1 }).collect() }
    }

    /// The box of these axis ranges; the caller has checked them against the array (chunk grids do).
    pub(crate) fn from_axes(axes: Vec<AxisRange>) -> Self {
        Self { axes }
    }

    /// The ranges, one per axis.
    #[must_use]
    pub fn axes(&self) -> &[AxisRange] {
        &self.axes
    }

    /// Extent of each axis.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|a| a.len).collect()
    }

    /// First index on each axis.
    #[must_use]
    pub fn start(&self) -> Vec<usize> {
        self.axes.iter().map(|a| a.start).collect()
    }

    /// Whether it lies inside an array of `shape`: it may have been made for another one.
    #[must_use]
    pub fn is_within(&self, shape: &[usize]) -> bool {
        let last = |a: &AxisRange| a.start.checked_add((a.len - 1).checked_mul(a.step)?);
        let fits =
            |(a, &n): (&AxisRange, &usize)| a.len == 0 && a.start <= n || a.len > 0 && last(a).is_some_and(|last| last < n);
        self.axes.len() == shape.len() && self.axes.iter().zip(shape).all(fits)
    }

    /// The part `inner` of what this region is of an array: a region of that array.
    pub(crate) fn part(&self, inner: &Self) -> Self {
        let axis = |(outer, inner): (&AxisRange, &AxisRange)| AxisRange {
            // Where there is no element, the start is of no use, and may be beyond.
            start: if inner.len == 0 { outer.start } else { outer.start + inner.start * outer.step },
            len: inner.len,
            step: if inner.len > 1 { outer.step * inner.step } else { 1 },
        };
        Self { axes: self.axes.iter().zip(&inner.axes).map(axis).collect() }
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.axes.iter().map(|a| a.len).product()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
