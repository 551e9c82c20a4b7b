//! Views: affine maps from the indices of what is read to the indices of the value that is there.
//!
//! Owns: [`View`]. Must not know: bytes, who reads. Invariant: every index of a view that was made is an index of the value, so that a view of a layout
//! reaches nothing that the layout does not.

use serde::{Deserialize, Serialize};

use super::{Layout, Region};
use crate::error::{Error, Result};

/// One axis of a [`View`]: how many indices, and what a step along it is in the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ViewAxis {
    /// Number of indices.
    pub extent: usize,
    /// The value's axis along which it goes; `None` where all indices are the same element (broadcast, new axis).
    pub along: Option<u32>,
    /// Indices of that axis from one to the next, of either sign.
    pub step: isize,
}

/// An affine map into a value: its slices with any steps, permutations, flips, broadcasts, new axes, and whatever is made of these one after
/// the other. Index `i` of the view is the value's index `start[a] + sum of i[k] step[k]` over the axes `k` that go along `a`.
///
/// ```
/// use chunkwise::shape::{DType, Layout, View};
/// let whole = View::whole(&[3, 4]);
/// let flipped = whole.slice(1, 3, 2, -2)?; // columns 3 and 1
/// let turned = flipped.permute(&[1, 0])?;
/// let (offset, layout) = turned.of(&Layout::contiguous(DType::F64, &[3, 4]));
/// assert_eq!((offset, layout.shape, layout.strides), (3, vec![2, 3], vec![-2, 4]));
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct View {
    start: Vec<usize>,
    axes: Vec<ViewAxis>,
}

impl View {
    /// All of a value of this shape, as it is.
    #[must_use]
    pub fn whole(shape: &[usize]) -> Self {
        let axis = |(a, &extent): (usize, &usize)| ViewAxis { extent, along: Some(a as u32), step: 1 };
        Self { start: vec![0; shape.len()], axes: shape.iter().enumerate().map(axis).collect() }
    }

    /// A box of a value.
    #[must_use]
    pub fn region(region: &Region) -> Self {
        let axis =
            |(a, r): (usize, &super::AxisRange)| ViewAxis { extent: r.len, along: Some(a as u32), step: r.step as isize };
        Self {
            start: region.axes().iter().map(|r| r.start).collect(),
            axes: region.axes().iter().enumerate().map(axis).collect(),
        }
    }

    /// Extent of each axis.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| axis.extent).collect()
    }

    /// Number of axes of the value.
    #[must_use]
    pub fn value_rank(&self) -> usize {
        self.start.len()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.axes.iter().any(|axis| axis.extent == 0)
    }

    /// Whether it is all of a value of this shape, as it is.
    #[must_use]
    pub fn is_whole(&self, shape: &[usize]) -> bool {
        let same = |(a, axis): (usize, &ViewAxis)| {
            axis.extent == shape[a] && (axis.extent <= 1 || axis.along == Some(a as u32) && axis.step == 1)
        };
        self.axes.len() == shape.len()
            && self.start.len() == shape.len()
            && (self.is_empty() || self.start.iter().all(|&s| s == 0))
            && self.axes.iter().enumerate().all(same)
    }

    /// The view of `len` indices of its axis `axis`: `start`, `start + step`, and so on.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such axis or an index is outside it.
    pub fn slice(&self, axis: usize, start: usize, len: usize, step: isize) -> Result<Self> {
        let Some(&old) = self.axes.get(axis) else { return Err(self.no_axis(axis)) };
        let last = || (len as i128 - 1) * step as i128 + start as i128;
        if len > 0 && (start >= old.extent || !(0..old.extent as i128).contains(&last())) {
            let found = format!("{len} indices from {start} on in steps of {step}");
            return Err(Error::argument("a view", found, format!("indices below {} along axis {axis}", old.extent)));
        }
        let mut made = self.clone();
        if let (Some(along), true) = (old.along, len > 0) {
            let at = &mut made.start[along as usize];
            *at = at.wrapping_add_signed(old.step.wrapping_mul(start as isize));
        }
        made.axes[axis] = ViewAxis { extent: len, along: old.along, step: if len > 1 { old.step * step } else { 0 } };
        Ok(made)
    }

    /// The view with its axes in another order: its axis `k` is this one's `order[k]`.
    ///
    /// # Errors
    /// [`Error::Argument`] if `order` does not name each axis once.
    pub fn permute(&self, order: &[usize]) -> Result<Self> {
        let mut seen = vec![false; self.axes.len()];
        let fresh = |&axis: &usize| seen.get_mut(axis).is_some_and(|seen| !std::mem::replace(seen, true));
        if order.len() != self.axes.len() || !order.iter().all(fresh) {
            return Err(Error::argument(
                "a view's axes",
                format!("{order:?}"),
                format!("each of {} axes once", self.axes.len()),
            ));
        }
        Ok(Self { start: self.start.clone(), axes: order.iter().map(|&axis| self.axes[axis]).collect() })
    }

    /// The view with one more axis, before its axis `axis`, whose `extent` indices are all the same.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer axes.
    pub fn insert_axis(&self, axis: usize, extent: usize) -> Result<Self> {
        if axis > self.axes.len() {
            return Err(self.no_axis(axis));
        }
        let mut made = self.clone();
        made.axes.insert(axis, ViewAxis { extent, along: None, step: 0 });
        Ok(made)
    }

    /// The view without an axis, at its index `index`.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such axis or index.
    pub fn index_axis(&self, axis: usize, index: usize) -> Result<Self> {
        let mut made = self.slice(axis, index, 1, 1)?;
        made.axes.remove(axis);
        Ok(made)
    }

    /// The view stretched to a shape by the rules of broadcasting: axes of extent 1 are repeated, new ones come first.
    ///
    /// # Errors
    /// [`Error::Shape`] if it cannot be.
    pub fn broadcast(&self, shape: &[usize]) -> Result<Self> {
        let own = self.shape();
        let fits = |(&from, &to): (&usize, &usize)| from == to || from == 1;
        if own.len() > shape.len() || !own.iter().rev().zip(shape.iter().rev()).all(fits) {
            let wanted = format!("a shape that can be broadcast to {shape:?}: equal extents, or 1");
            return Err(Error::Shape { op: "broadcast", found: own, wanted });
        }
        let new = shape.len() - own.len();
        let mut axes: Vec<ViewAxis> = shape[..new].iter().map(|&extent| ViewAxis { extent, along: None, step: 0 }).collect();
        axes.extend(self.axes.iter().zip(&shape[new..]).map(|(axis, &extent)| match axis.extent == extent {
            true => *axis,
            false => ViewAxis { extent, along: None, step: 0 },
        }));
        Ok(Self { start: self.start.clone(), axes })
    }

    /// The view `inner` of what this one shows: one map instead of two.
    ///
    /// # Errors
    /// [`Error::Argument`] if `inner` is none of a value of this view's shape.
    pub fn then(&self, inner: &Self) -> Result<Self> {
        inner.check(&self.shape())?;
        let mut start = self.start.clone();
        if !inner.is_empty() {
            for (axis, &at) in self.axes.iter().zip(&inner.start) {
                if let Some(along) = axis.along {
                    let start = &mut start[along as usize];
                    *start = start.wrapping_add_signed(axis.step.wrapping_mul(at as isize));
                }
            }
        }
        let axes = inner.axes.iter().map(|axis| match axis.along.map(|k| (&self.axes[k as usize], axis)) {
            Some((outer, _)) if outer.along.is_some() => {
                let step = if axis.extent > 1 { outer.step * axis.step } else { 0 };
                ViewAxis { extent: axis.extent, along: outer.along, step }
            }
            _ => ViewAxis { extent: axis.extent, along: None, step: 0 },
        });
        Ok(Self { start, axes: axes.collect() })
    }

    /// Errs unless every index of the view is one of a value of this shape.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(&self, shape: &[usize]) -> Result<()> {
        if self.reach(shape).is_some() {
            return Ok(());
        }
        Err(Error::argument("a view", format!("{self:?}"), format!("indices of a value of shape {shape:?}")))
    }

    /// `Some` if all indices are inside.
    fn reach(&self, shape: &[usize]) -> Option<()> {
        if self.start.len() != shape.len() || self.axes.iter().any(|a| a.along.is_some_and(|k| k as usize >= shape.len())) {
            return None;
        }
        self.axes.iter().try_fold(1usize, |len, axis| len.checked_mul(axis.extent))?;
        if self.is_empty() {
            return Some(());
        }
        for (a, (&start, &extent)) in self.start.iter().zip(shape).enumerate() {
            let (mut low, mut high) = (start as i128, start as i128);
            for axis in self.axes.iter().filter(|axis| axis.along == Some(a as u32)) {
                let far = (axis.extent as i128 - 1).checked_mul(axis.step as i128)?;
                (low, high) = (low + far.min(0), high + far.max(0));
            }
            if low < 0 || high >= extent as i128 {
                return None;
            }
        }
        Some(())
    }

    /// What the view shows of a value that lies so: the first element's distance from the value's, and the layout from there.
    ///
    /// # Panics
    /// If the value has another rank.
    #[must_use]
    pub fn of(&self, value: &Layout) -> (isize, Layout) {
        assert_eq!(value.shape.len(), self.start.len(), "a view of another value");
        let offset =
            if self.is_empty() { 0 } else { self.start.iter().zip(&value.strides).map(|(&s, &d)| s as isize * d).sum() };
        let stride = |axis: &ViewAxis| axis.along.map_or(0, |k| axis.step * value.strides[k as usize]);
        (offset, Layout { dtype: value.dtype, shape: self.shape(), strides: self.axes.iter().map(stride).collect() })
    }

    fn no_axis(&self, axis: usize) -> Error {
        Error::argument("a view's axis", axis, format!("less than {}", self.axes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::DType;

    #[test]
    fn a_view_of_a_view_is_a_view() {
        let turned = View::whole(&[4, 6]).slice(1, 5, 3, -2).unwrap().permute(&[1, 0]).unwrap();
        let inner = View::whole(&[3, 4]).slice(0, 2, 2, -1).unwrap().index_axis(1, 3).unwrap().broadcast(&[5, 2]).unwrap();
        let (offset, layout) = turned.then(&inner).unwrap().of(&Layout::contiguous(DType::I32, &[4, 6]));
        // Columns 5, 3, 1 become rows; of these 2 and 1, at column 3: elements (3, 1) and (3, 3).
        assert_eq!((offset, layout.shape, layout.strides), (19, vec![5, 2], vec![0, 2]));
    }

    #[test]
    fn indices_outside_are_refused() {
        let whole = View::whole(&[3, 4]);
        assert!(whole.slice(1, 4, 1, 1).is_err() && whole.slice(0, 0, 2, 3).is_err() && whole.slice(0, 0, 2, -1).is_err());
        assert!(whole.slice(2, 0, 1, 1).is_err() && whole.slice(0, 9, 0, 1).is_ok() && whole.permute(&[0, 0]).is_err());
        assert!(whole.broadcast(&[3, 5]).is_err() && whole.check(&[3, 3]).is_err() && whole.check(&[3, 5]).is_ok());
        assert!(whole.then(&View::whole(&[3, 5])).is_err() && whole.is_whole(&[3, 4]) && !whole.is_whole(&[3, 5]));
        assert!(whole.slice(0, usize::MAX, 1, 1).is_err() && whole.slice(0, 1, usize::MAX, isize::MAX).is_err());
    }
}
