//! Views: affine maps from the indices of what is read to the indices of the value that is there.
//!
//! Owns: [`View`]. Must not know: bytes, who reads. Invariant: every index of a view that was made is an index of the value, so that a view of a layout
//! reaches nothing that the layout does not.

use serde::{Deserialize, Serialize};

use super::{Layout, Region, checked_len};
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

impl ViewAxis {
    /// Whether several indices are the same element.
    pub(crate) fn is_repeated(&self) -> bool {
        self.extent > 1 && (self.along.is_none() || self.step == 0)
    }
}

/// An affine map into a value: its slices with any steps, permutations, flips, broadcasts, new axes, and whatever is made of these one after
/// the other. Index `i` of the view is the value's index `start[a] + sum of i[k] step[k]` over the axes `k` that go along `a`.
///
/// ```
/// use chunkwise::ext::{Layout, View};
/// use chunkwise::DType;
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

    /// The view of these axes, whose first element is at this index of the value. What it is a view of is not checked: see [`View::check`].
    pub(crate) fn new(start: Vec<usize>, axes: Vec<ViewAxis>) -> Self {
        Self { start, axes }
    }

    /// Index of the value at which its first element is.
    pub(crate) fn start(&self) -> &[usize] {
        &self.start
    }

    /// Its axes.
    pub(crate) fn axes(&self) -> &[ViewAxis] {
        &self.axes
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
        let step = if len > 1 { old.step.wrapping_mul(step) } else { 0 };
        made.axes[axis] = ViewAxis { extent: len, along: old.along, step };
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
    /// [`Error::Argument`] if there are fewer axes; [`Error::Shape`] if it has too many elements then.
    pub fn insert_axis(&self, axis: usize, extent: usize) -> Result<Self> {
        if axis > self.axes.len() {
            return Err(self.no_axis(axis));
        }
        let mut made = self.clone();
        made.axes.insert(axis, ViewAxis { extent, along: None, step: 0 });
        checked_len("insert_axis", &made.shape())?;
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
    /// [`Error::Shape`] if it cannot be, or has too many elements then.
    pub fn broadcast(&self, shape: &[usize]) -> Result<Self> {
        checked_len("broadcast", shape)?;
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
                // Only where there is no element can it be too much.
                let step = if axis.extent > 1 { outer.step.wrapping_mul(axis.step) } else { 0 };
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
        // Where nobody takes a step, what it would be is of no use, and may be too much for a number.
        let taken = |axis: &&ViewAxis| axis.extent > 1 && !self.is_empty();
        let stride = |axis: &ViewAxis| {
            Some(axis).filter(taken).and_then(|axis| axis.along).map_or(0, |k| axis.step * value.strides[k as usize])
        };
        (offset, Layout { dtype: value.dtype, shape: self.shape(), strides: self.axes.iter().map(stride).collect() })
    }

    fn no_axis(&self, axis: usize) -> Error {
        Error::argument("a view's axis", axis, format!("less than {}", self.axes.len()))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, ArrayViewD, Axis, Dimension};
    use proptest::prelude::*;

    use super::*;
    use crate::shape::{ChunkView, DType};

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
        assert!(whole.slice(0, 0, 1, isize::MIN).is_ok() && whole.slice(0, 2, usize::MAX, isize::MIN).is_err());
        assert!(whole.broadcast(&[1 << 60, 3, 4]).is_err() && whole.insert_axis(1, usize::MAX).is_err());
        assert!(whole.insert_axis(3, 1).is_err() && whole.index_axis(0, 3).is_err() && whole.broadcast(&[4]).is_err());
    }

    /// One written by hand or by another program may say anything: it is refused, or harmless.
    #[test]
    fn views_from_files_are_checked() {
        let read = |axes: &str| serde_json::from_str::<View>(&format!(r#"{{"start":[1,0],"axes":[{axes}]}}"#)).unwrap();
        let axis = |extent: usize, along: &str, step: isize| format!(r#"{{"extent":{extent},"along":{along},"step":{step}}}"#);
        for bad in [
            axis(2, "2", 1),
            axis(3, "0", 1),
            axis(2, "0", isize::MIN),
            axis(usize::MAX, "1", isize::MIN),
            [axis(1 << 33, "null", 0), axis(1 << 33, "null", 0)].join(","),
        ] {
            assert!(read(&bad).check(&[3, 4]).is_err(), "{bad}");
        }
        let value = Layout::contiguous(DType::I32, &[3, 4]);
        for idle in [axis(1, "0", isize::MAX), [axis(5, "1", isize::MAX), axis(0, "0", isize::MIN)].join(",")] {
            let view = read(&idle);
            view.check(&[3, 4]).unwrap();
            assert!(view.of(&value).1.strides.iter().all(|&s| s == 0), "{idle}");
            let again = View::whole(&view.shape()).slice(0, 0, view.shape()[0], 1).unwrap();
            assert_eq!(view.then(&again).unwrap().shape(), view.shape());
        }
    }

    /// One step of a view, and the same of an array of ndarray's; what does not fit is made to.
    fn step(view: &View, array: ArrayViewD<'_, i32>, (kind, a, b, c): (u8, usize, usize, isize)) -> (View, ArrayD<i32>) {
        let (rank, shape) = (array.ndim(), array.shape().to_vec());
        let at = Axis(a % rank.max(1));
        let n = shape.get(at.0).copied().unwrap_or(0);
        match kind {
            0 if rank > 0 => {
                let (step, start) = (if c == 0 { 1 } else { c }, if n == 0 { 0 } else { b % n });
                let room = if step > 0 {
                    (n - start).div_ceil(step as usize)
                } else {
                    (start + usize::from(n > 0)).div_ceil(step.unsigned_abs())
                };
                let len = if n == 0 { 0 } else { (b / 7) % (room + 1) };
                let picked: Vec<usize> = (0..len as isize).map(|i| (start as isize + i * step) as usize).collect();
                (view.slice(at.0, start, len, step).unwrap(), array.select(at, &picked))
            }
            1 => {
                let mut order: Vec<usize> = (0..rank).collect();
                order.sort_by_key(|&k| (a ^ b).rotate_left(11 * k as u32) & 0xfff);
                (view.permute(&order).unwrap(), array.permuted_axes(order).to_owned())
            }
            2 => {
                let (at, n) = (a % (rank + 1), b % 4);
                let mut wide = shape.clone();
                wide.insert(at, n);
                let one = array.insert_axis(Axis(at));
                (view.insert_axis(at, n).unwrap(), one.broadcast(wide).unwrap().to_owned())
            }
            3 if n > 0 => (view.index_axis(at.0, b % n).unwrap(), array.index_axis(at, b % n).to_owned()),
            _ => {
                let wide: Vec<usize> = shape.iter().map(|&n| if n == 1 { b % 4 } else { n }).collect();
                let wide = if rank < 4 && c > 0 { [&[c as usize][..], &wide].concat() } else { wide };
                (view.broadcast(&wide).unwrap(), array.broadcast(wide).unwrap().to_owned())
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn views_are_those_of_ndarray(
            shape in prop::collection::vec(prop_oneof![8 => 1usize..5, 1 => Just(0)], 0..5),
            steps in prop::collection::vec((0u8..5, any::<usize>(), any::<usize>(), -3isize..4), 0..6),
            cut in 0usize..6,
        ) {
            let value = ArrayD::from_shape_fn(shape.clone(), |i| i.as_array_view().iter().fold(1, |n, &i| n * 10 + i as i32));
            let (mut wanted, mut view, mut outer, mut inner) = (value.clone(), View::whole(&shape), None, View::whole(&shape));
            for (k, &change) in steps.iter().enumerate() {
                if k == cut {
                    (outer, inner) = (Some(view.clone()), View::whole(&view.shape()));
                }
                inner = step(&inner, wanted.view(), change).0;
                (view, wanted) = step(&view, wanted.view(), change);
            }
            prop_assert!(view.check(&shape).is_ok());
            let joined = match outer {
                Some(outer) => outer.then(&inner).unwrap(),
                None => View::whole(&shape).then(&inner).unwrap(),
            };
            let base = Layout::contiguous(DType::I32, &shape);
            let data: Vec<i32> = value.iter().copied().collect();
            for view in [&view, &joined] {
                let (first, layout) = view.of(&base);
                prop_assert_eq!((&layout.shape[..], view.len(), view.is_empty()), (wanted.shape(), wanted.len(), wanted.is_empty()));
                let seen = ChunkView::from_slice_at(&data, first as usize, &layout);
                let columns = layout.shape.last().map_or(1, |&n| n.max(1));
                let found: Vec<i32> = (0..layout.len()).map(|i| seen.at(i / columns, i % columns)).collect();
                prop_assert_eq!(found, wanted.iter().copied().collect::<Vec<_>>());
                prop_assert!(!view.is_whole(&shape) || wanted == value);
            }
            prop_assert!(wanted.is_empty() || joined.of(&base) == view.of(&base));
        }
    }
}
