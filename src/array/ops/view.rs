//! Views: slices, transposes, broadcasts, new axes.
//!
//! Owns: the public views. Must not know: how they are read. Invariant: a view copies nothing, now or later, unless what reads it must.

use ndarray::SliceInfoElem;

use super::super::expr::Primitive;
use super::super::{Array, IntoShape};
use crate::error::{Error, Result, or_panic};
use crate::shape::View;

impl<T> Array<T> {
    /// The part that `s![..]` says, as in ndarray: ranges with steps, negative ends that count from the end, negative steps that go backwards through the range,
    /// single indices (the axis goes away), `NewAxis`. Nothing is copied: of files only what is touched is read, of random numbers only what is touched is
    /// made, of what is computed only the chunks that are touched.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// use ndarray::s;
    /// let a = Array::from(ndarray::arr2(&[[1, 2, 3, 4], [5, 6, 7, 8]]));
    /// assert_eq!(a.slice(s![.., 1..;2]).compute()?, ndarray::arr2(&[[2, 4], [6, 8]]).into_dyn());
    /// assert_eq!(a.slice(s![-1, ..;-1]).compute()?, ndarray::arr1(&[8, 7, 6, 5]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If there is not one range or index for each axis, one is outside the array, or a step is 0. [`Array::try_slice`] returns that as an error.
    #[track_caller]
    pub fn slice(&self, info: impl AsRef<[SliceInfoElem]>) -> Self {
        or_panic(self.try_slice(info))
    }

    /// [`Array::slice`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one range or index for each axis; [`Error::Argument`] if one is outside the array, or a step is 0.
    pub fn try_slice(&self, info: impl AsRef<[SliceInfoElem]>) -> Result<Self> {
        let info = info.as_ref();
        let given = info.iter().filter(|one| !matches!(one, SliceInfoElem::NewAxis)).count();
        if given != self.ndim() {
            let wanted = format!("a slice of {given} axes needs an array of as many; give one range or index for each axis");
            return Err(Error::Shape { op: "slice", found: self.shape().to_vec(), wanted });
        }
        let (mut view, mut axis, mut of) = (View::whole(self.shape()), 0, 0);
        for one in info {
            match *one {
                SliceInfoElem::NewAxis => view = view.insert_axis(axis, 1)?,
                SliceInfoElem::Index(index) => {
                    view = view.index_axis(axis, self.index(of, index)?)?;
                    of += 1;
                    continue;
                }
                SliceInfoElem::Slice { start, end, step } => {
                    let (first, len) = self.range(of, (start, end, step))?;
                    view = view.slice(axis, first, len, step)?;
                    of += 1;
                }
            }
            axis += 1;
        }
        self.viewed(view)
    }

    /// An index from the front.
    fn index(&self, axis: usize, index: isize) -> Result<usize> {
        let n = self.shape()[axis];
        let from_front = if index < 0 { n.checked_add_signed(index) } else { usize::try_from(index).ok() };
        from_front.filter(|&at| at < n).ok_or_else(|| {
            let wanted = format!("for axis {axis} of shape {:?}: an index from -{n} to {}", self.shape(), n as i128 - 1);
            Error::argument("index", index, wanted)
        })
    }

    /// The first index of a range with a step, and how many there are: of a negative step, the range backwards.
    fn range(&self, axis: usize, (start, end, step): (isize, Option<isize>, isize)) -> Result<(usize, usize)> {
        let n = self.shape()[axis];
        let text = || format!("{start}..{};{step}", end.map_or_else(String::new, |end| end.to_string()));
        if step == 0 {
            return Err(Error::argument("slice", text(), format!("for axis {axis}: a step that is not 0")));
        }
        let place = |at: isize| {
            let from_front = if at < 0 { n.checked_add_signed(at) } else { usize::try_from(at).ok() };
            from_front.filter(|&at| at <= n)
        };
        let (Some(from), Some(to)) = (place(start), end.map_or(Some(n), place)) else {
            let wanted = format!("for axis {axis} of shape {:?}: ends from -{n} to {n}", self.shape());
            return Err(Error::argument("slice", text(), wanted));
        };
        let len = to.saturating_sub(from).div_ceil(step.unsigned_abs());
        Ok((if step > 0 || len == 0 { from } else { to - 1 }, len))
    }

    /// The array with its axes in reverse order: of a matrix, the transpose.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let a = Array::from(ndarray::arr2(&[[1, 2, 3], [4, 5, 6]]));
    /// assert_eq!(a.t().compute()?, ndarray::arr2(&[[1, 4], [2, 5], [3, 6]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn t(&self) -> Self {
        let order: Vec<usize> = (0..self.ndim()).rev().collect();
        or_panic(self.try_permute(&order))
    }

    /// The array with its axes in another order: its axis `k` is this one's axis `order[k]`.
    ///
    /// # Panics
    /// If `order` does not name each axis once. [`Array::try_permute`] returns that as an error.
    #[track_caller]
    pub fn permute(&self, order: impl IntoShape) -> Self {
        or_panic(self.try_permute(order))
    }

    /// [`Array::permute`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if `order` does not name each axis once.
    pub fn try_permute(&self, order: impl IntoShape) -> Result<Self> {
        let (whole, order) = (View::whole(self.shape()), order.into_shape());
        let wanted = || format!("each axis of shape {:?} once: an order of 0..{}", self.shape(), self.ndim());
        let view = whole.permute(&order);
        self.viewed(view.map_err(|_| Error::argument("order of axes", format!("{order:?}"), wanted()))?)
    }

    /// The array without an axis, at one of its indices.
    ///
    /// # Panics
    /// If there is no such axis or index. [`Array::try_index_axis`] returns that as an error.
    #[track_caller]
    pub fn index_axis(&self, axis: ndarray::Axis, index: usize) -> Self {
        or_panic(self.try_index_axis(axis, index))
    }

    /// [`Array::index_axis`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such axis or index.
    pub fn try_index_axis(&self, axis: ndarray::Axis, index: usize) -> Result<Self> {
        let axis = self.checked_axis(axis)?;
        let n = self.shape()[axis];
        if index >= n {
            let wanted = format!("for axis {axis} of shape {:?}: an index below {n}", self.shape());
            return Err(Error::argument("index", index, wanted));
        }
        self.viewed(View::whole(self.shape()).index_axis(axis, index)?)
    }

    /// The array with one more axis of extent 1, before its axis `axis` (or after the last).
    ///
    /// # Panics
    /// If there are fewer axes. [`Array::try_insert_axis`] returns that as an error.
    #[track_caller]
    pub fn insert_axis(&self, axis: ndarray::Axis) -> Self {
        or_panic(self.try_insert_axis(axis))
    }

    /// [`Array::insert_axis`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer axes.
    pub fn try_insert_axis(&self, axis: ndarray::Axis) -> Result<Self> {
        let view = View::whole(self.shape()).insert_axis(axis.0, 1);
        let wanted = || format!("for an array of shape {:?}: at most {}", self.shape(), self.ndim());
        self.viewed(view.map_err(|_| Error::argument("axis", axis.0, wanted()))?)
    }

    /// The array in a larger shape, by NumPy's rules: axes of extent 1 are repeated, new ones come first. No element is copied.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let row = Array::from(ndarray::arr1(&[1, 2, 3]));
    /// assert_eq!(row.broadcast_to((2, 3)).compute()?, ndarray::arr2(&[[1, 2, 3], [1, 2, 3]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If it does not fit. [`Array::try_broadcast_to`] returns that as an error.
    #[track_caller]
    pub fn broadcast_to(&self, shape: impl IntoShape) -> Self {
        or_panic(self.try_broadcast_to(shape))
    }

    /// [`Array::broadcast_to`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if an axis is neither of that extent nor of 1, or there are too few axes or too many elements.
    pub fn try_broadcast_to(&self, shape: impl IntoShape) -> Result<Self> {
        self.viewed(View::whole(self.shape()).broadcast(&shape.into_shape())?)
    }

    /// The array with an axis from its last index to its first.
    ///
    /// # Panics
    /// If there is no such axis. [`Array::try_flip`] returns that as an error.
    #[track_caller]
    pub fn flip(&self, axis: ndarray::Axis) -> Self {
        or_panic(self.try_flip(axis))
    }

    /// [`Array::flip`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such axis.
    pub fn try_flip(&self, axis: ndarray::Axis) -> Result<Self> {
        let axis = self.checked_axis(axis)?;
        let n = self.shape()[axis];
        self.viewed(View::whole(self.shape()).slice(axis, n.saturating_sub(1), n, -1)?)
    }

    /// What a view of this array shows.
    pub(super) fn viewed(&self, view: View) -> Result<Self> {
        if view.is_whole(self.shape()) {
            return Ok(self.clone());
        }
        let shape = view.shape();
        self.derived(Primitive::View(view), shape)
    }

    /// The number of an axis that there is.
    pub(super) fn checked_axis(&self, axis: ndarray::Axis) -> Result<usize> {
        if axis.0 < self.ndim() {
            return Ok(axis.0);
        }
        let wanted = match self.ndim() {
            0 => "for an array of rank 0: no axis".to_owned(),
            n => format!("for an array of shape {:?}: an axis below {n}", self.shape()),
        };
        Err(Error::argument("axis", axis.0, wanted))
    }
}
