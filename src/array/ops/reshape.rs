//! The same elements in another shape, or in other chunks.
//!
//! Owns: `reshape`, `ravel`, `rechunk`. Must not know: how they are made. Invariant: elements stay in C order.

use super::super::chunks::checked_grid;
use super::super::expr::Primitive;
use super::super::{Array, IntoChunks, IntoShape};
use crate::error::{Error, Result, or_panic};
use crate::shape::{View, checked_len};

impl<T> Array<T> {
    /// The elements, in C order, in another shape of as many. What exists in C order and random numbers are not copied, nor where only axes of extent 1 come or
    /// go; of all else each element is copied once, chunk by chunk.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let a = Array::from(ndarray::arr1(&[1, 2, 3, 4, 5, 6]));
    /// assert_eq!(a.reshape((2, 3)).compute()?, ndarray::arr2(&[[1, 2, 3], [4, 5, 6]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If that shape has another number of elements. [`Array::try_reshape`] returns that as an error.
    #[track_caller]
    pub fn reshape(&self, shape: impl IntoShape) -> Self {
        or_panic(self.try_reshape(shape))
    }

    /// [`Array::reshape`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if that shape has another number of elements.
    pub fn try_reshape(&self, shape: impl IntoShape) -> Result<Self> {
        let shape = shape.into_shape();
        if checked_len("reshape", &shape)? != self.len() {
            let wanted = format!("a shape of {} elements, as {:?} has", self.len(), self.shape());
            return Err(Error::Shape { op: "reshape", found: shape, wanted });
        }
        if shape == self.shape() {
            return Ok(self.clone());
        }
        let longer = |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        if longer(&shape) == longer(self.shape()) {
            return self.viewed(self.with_units(&shape)?);
        }
        self.derived(Primitive::Reshape, shape)
    }

    /// The view of this array in a shape that differs by axes of extent 1.
    fn with_units(&self, shape: &[usize]) -> Result<View> {
        let mut view = View::whole(self.shape());
        for axis in (0..self.ndim()).rev().filter(|&axis| self.shape()[axis] == 1) {
            view = view.index_axis(axis, 0)?;
        }
        let units = shape.iter().enumerate().filter(|&(_, &n)| n == 1);
        units.map(|(axis, _)| axis).try_fold(view, |view, axis| view.insert_axis(axis, 1))
    }

    /// The elements in C order, as an array of one axis.
    pub fn ravel(&self) -> Self {
        or_panic(self.try_reshape([self.len()]))
    }

    /// The same elements in other chunks, whatever the chunks that they are made in. What exists or is random is read or made in the new chunks. Of what is
    /// computed, chunks are put together from parts of those that are around them. Where that would hold too much (rows into columns), a kernel's results are
    /// made again for as many new chunks at a time as half the memory limit takes; products and factors are held. (To have an operation itself work in
    /// other chunks, [`Array::chunks`].)
    ///
    /// # Panics
    /// If an extent is 0, or there is not one for each axis. [`Array::try_rechunk`] returns that as an error.
    #[track_caller]
    pub fn rechunk(&self, chunks: impl IntoChunks) -> Self {
        or_panic(self.try_rechunk(chunks))
    }

    /// [`Array::rechunk`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if an extent is 0 or there is not one for each axis.
    pub fn try_rechunk(&self, chunks: impl IntoChunks) -> Result<Self> {
        let node = self.node.rechunked(checked_grid(chunks, self.shape(), self.dtype())?)?;
        Ok(Self { node, ..self.clone() })
    }
}
