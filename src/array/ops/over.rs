//! Reductions along some axes.
//!
//! Owns: [`Over`], [`IntoAxes`]. Must not know: how reductions are made. Invariant: an axis that is not there, or is named twice, is refused where it is named.

use ndarray::Axis;

use super::super::Array;
use crate::error::{Error, Result, or_panic};

/// Axes of an array: `Axis(1)` or `1`; `(0, 2)`; lists of either; `..`, which are all.
pub trait IntoAxes {
    /// Their numbers, of an array that has so many.
    fn into_axes(self, ndim: usize) -> Vec<usize>;
}

impl IntoAxes for Axis {
    fn into_axes(self, _: usize) -> Vec<usize> {
        vec![self.0]
    }
}
impl IntoAxes for usize {
    fn into_axes(self, _: usize) -> Vec<usize> {
        vec![self]
    }
}
impl IntoAxes for std::ops::RangeFull {
    fn into_axes(self, ndim: usize) -> Vec<usize> {
        (0..ndim).collect()
    }
}
impl IntoAxes for (Axis, Axis) {
    fn into_axes(self, _: usize) -> Vec<usize> {
        vec![self.0.0, self.1.0]
    }
}
impl IntoAxes for (usize, usize) {
    fn into_axes(self, _: usize) -> Vec<usize> {
        vec![self.0, self.1]
    }
}
impl IntoAxes for (usize, usize, usize) {
    fn into_axes(self, _: usize) -> Vec<usize> {
        vec![self.0, self.1, self.2]
    }
}
impl<const N: usize> IntoAxes for [usize; N] {
    fn into_axes(self, _: usize) -> Vec<usize> {
        self.to_vec()
    }
}
impl<const N: usize> IntoAxes for [Axis; N] {
    fn into_axes(self, _: usize) -> Vec<usize> {
        self.iter().map(|axis| axis.0).collect()
    }
}
impl IntoAxes for &[Axis] {
    fn into_axes(self, _: usize) -> Vec<usize> {
        self.iter().map(|axis| axis.0).collect()
    }
}
impl IntoAxes for Vec<Axis> {
    fn into_axes(self, _: usize) -> Vec<usize> {
        self.iter().map(|axis| axis.0).collect()
    }
}
impl IntoAxes for &[usize] {
    fn into_axes(self, _: usize) -> Vec<usize> {
        self.to_vec()
    }
}
impl IntoAxes for Vec<usize> {
    fn into_axes(self, _: usize) -> Vec<usize> {
        self
    }
}

/// An array, of which some axes are to be reduced: see [`Array::over`].
#[derive(Clone, Debug)]
#[must_use = "nothing is reduced yet: call sum(), mean(), .."]
pub struct Over<T> {
    pub(super) array: Array<T>,
    /// Ascending.
    pub(super) axes: Vec<usize>,
    pub(super) keeps: bool,
    pub(super) split_every: usize,
}

/// Results of chunks that are merged at once.
const SPLIT_EVERY: usize = 32;

impl<T> Over<T> {
    /// Keeps the reduced axes, with extent 1: then the result can be broadcast to the array.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let x = Array::from(ndarray::arr2(&[[1.0, 3.0], [2.0, 6.0]]));
    /// let centred = &x - &x.over(1).keep_dims().mean();
    /// assert_eq!(centred.compute()?, ndarray::arr2(&[[-1.0, 1.0], [-2.0, 2.0]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn keep_dims(self) -> Self {
        Self { keeps: true, ..self }
    }

    /// How many results of chunks are merged at once, 32 if nobody says. The order in which floats are added depends on it, as it does on the chunks.
    ///
    /// # Panics
    /// If it is less than 2.
    #[track_caller]
    pub fn split_every(self, count: usize) -> Self {
        if count < 2 {
            or_panic(Err(Error::argument("split_every", count, "2 or more: so many results are merged at once")))
        }
        Self { split_every: count, ..self }
    }

    /// Number of elements that become one.
    pub(super) fn count(&self) -> f64 {
        self.axes.iter().map(|&axis| self.array.shape()[axis] as f64).product()
    }

    /// The same axes of another array of the same shape.
    pub(super) fn of<U>(&self, array: Array<U>) -> Over<U> {
        Over { array, axes: self.axes.clone(), keeps: self.keeps, split_every: self.split_every }
    }

    /// Errs if there is nothing from which an element could be chosen.
    pub(super) fn some(&self, op: &'static str) -> Result<()> {
        let shape = self.array.shape();
        // Of no result nothing is chosen.
        let is_asked = (0..shape.len()).filter(|axis| !self.axes.contains(axis)).all(|axis| shape[axis] > 0);
        match self.axes.iter().find(|&&axis| shape[axis] == 0) {
            Some(axis) if is_asked => {
                let wanted = format!("at least one element along axis {axis}: of none there is no {op}");
                Err(Error::Shape { op, found: shape.to_vec(), wanted })
            }
            _ => Ok(()),
        }
    }
}

impl<T> Array<T> {
    /// The array, to be reduced along these axes: `x.over(1).sum()`, `x.over((0, 2)).keep_dims().mean()`. Along a single axis, `x.sum_axis(Axis(1))` says the same.
    ///
    /// The result is cut as the axes that are left. Each chunk is reduced where it is made, in one task; the results of chunks are merged by a tree whose shape follows from the
    /// chunk grid (and [`Over::split_every`]), so that floats have the same bits whatever the threads, the timing and the memory limit, and however elements lie in memory.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let x = Array::from(ndarray::arr2(&[[1, 2, 3], [4, 5, 6]]));
    /// assert_eq!(x.over(0).sum().compute()?, ndarray::arr1(&[5i64, 7, 9]).into_dyn());
    /// assert_eq!(x.over((0, 1)).max().compute_scalar()?, 6);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If there is no such axis, or one is named twice. [`Array::try_over`] returns that as an error.
    #[track_caller]
    pub fn over(&self, axes: impl IntoAxes) -> Over<T> {
        or_panic(self.try_over(axes))
    }

    /// [`Array::over`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such axis, or one is named twice.
    pub fn try_over(&self, axes: impl IntoAxes) -> Result<Over<T>> {
        let mut axes = axes.into_axes(self.ndim());
        for &axis in &axes {
            self.checked_axis(Axis(axis))?;
        }
        axes.sort_unstable();
        if let Some(twice) = axes.windows(2).find(|two| two[0] == two[1]) {
            return Err(Error::argument("axis", twice[0], "each axis once: an axis that is reduced is gone"));
        }
        Ok(Over { array: self.clone(), axes, keeps: false, split_every: SPLIT_EVERY })
    }

    /// All axes.
    pub(super) fn over_all(&self) -> Over<T> {
        Over { array: self.clone(), axes: (..).into_axes(self.ndim()), keeps: false, split_every: SPLIT_EVERY }
    }
}
