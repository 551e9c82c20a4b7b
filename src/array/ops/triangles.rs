//! Triangles and diagonals of matrices.
//!
//! Owns: `triu`, `tril`, `from_diag`. Must not know: how they are made. Invariant: what is beside a triangle or a diagonal is 0, whatever was there (NaN too).

use super::super::Array;
use crate::error::{Error, Result, or_panic};
use crate::shape::Element;

impl<T: Element> Array<T> {
    /// The matrix, with zeros above diagonal `k`: 0 is the main one, positive ones are above. As `numpy.tril`.
    ///
    /// # Panics
    /// If it is no matrix. [`Array::try_tril`] returns that as an error.
    #[track_caller]
    pub fn tril(&self, k: isize) -> Self {
        or_panic(self.try_tril(k))
    }

    /// [`Array::tril`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is no matrix.
    pub fn try_tril(&self, k: isize) -> Result<Self> {
        self.below("tril", k)?.try_where_(self, T::default())
    }

    /// The matrix, with zeros below diagonal `k`: 0 is the main one, positive ones are above. As `numpy.triu`.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let a = Array::from(ndarray::arr2(&[[1, 2], [3, 4]]));
    /// assert_eq!(a.triu(0).compute()?, ndarray::arr2(&[[1, 2], [0, 4]]).into_dyn());
    /// assert_eq!(a.tril(-1).compute()?, ndarray::arr2(&[[0, 0], [3, 0]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If it is no matrix. [`Array::try_triu`] returns that as an error.
    #[track_caller]
    pub fn triu(&self, k: isize) -> Self {
        or_panic(self.try_triu(k))
    }

    /// [`Array::triu`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is no matrix.
    pub fn try_triu(&self, k: isize) -> Result<Self> {
        match k.checked_sub(1) {
            Some(below) => self.below("triu", below)?.try_where_(T::default(), self),
            None => self.below("triu", k).map(|_| self.clone()),
        }
    }

    /// Where a matrix is on diagonal `k` or below.
    fn below(&self, op: &'static str, k: isize) -> Result<Array<bool>> {
        match *self.shape() {
            [m, n] => Array::try_tri((m, n), k),
            _ => Err(Error::Shape { op, found: self.shape().to_vec(), wanted: "a matrix".into() }),
        }
    }

    /// The matrix `(n, n)` with this vector on its diagonal, and zeros: as `ndarray::Array2::from_diag`.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let d = Array::from_diag(&Array::from(vec![1, 2]));
    /// assert_eq!(d.compute()?, ndarray::arr2(&[[1, 0], [0, 2]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If it is no vector, or the matrix overflows memory addresses. [`Array::try_from_diag`] returns that as an error.
    #[track_caller]
    pub fn from_diag(diagonal: &Self) -> Self {
        or_panic(Self::try_from_diag(diagonal))
    }

    /// [`Array::from_diag`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is no vector, or the matrix overflows memory addresses.
    pub fn try_from_diag(diagonal: &Self) -> Result<Self> {
        match *diagonal.shape() {
            [n] => Array::<bool>::try_eye_at((n, n), 0)?.try_where_(diagonal, T::default()),
            _ => Err(Error::Shape { op: "from_diag", found: diagonal.shape().to_vec(), wanted: "a vector".into() }),
        }
    }
}
