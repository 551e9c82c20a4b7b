//! Matrix times vector.
//!
//! Owns: `matvec`. Must not know: how it is made. Invariant: partial products are added in column order, so that the result depends on
//! the matrix' chunk grid only.

use super::super::Array;
use super::super::expr::Primitive;
use crate::error::{Error, Result, or_panic};
use crate::shape::Float;

impl<T: Float> Array<T> {
    /// `y = A x`: `A` is this `(m, k)` array, `x` is `(k,)`, `y` is `(m,)`.
    ///
    /// One `gemv` per chunk of `A`; where `A` has several chunks across, their partial results are added in order. Work:
    /// `2 m k` flops, `m k` elements read once. Sums are accumulated in blocks, in `f64`.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let a = Array::from(ndarray::arr2(&[[1.0, 2.0], [3.0, 4.0]]));
    /// let x = Array::from(ndarray::arr1(&[1.0, 10.0]));
    /// assert_eq!(a.matvec(&x).compute()?, ndarray::arr1(&[21.0, 43.0]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes do not match, or the arrays belong to two sessions. [`Array::try_matvec`] returns that as an error.
    #[track_caller]
    pub fn matvec(&self, x: &Self) -> Self {
        or_panic(self.try_matvec(x))
    }

    /// [`Array::matvec`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if this is not a matrix, or `x` not a vector with one element per column;
    /// [`Error::SessionMismatch`].
    pub fn try_matvec(&self, x: &Self) -> Result<Self> {
        let [m, k] = *self.shape() else {
            return Err(Error::Shape { op: "matvec", found: self.shape().to_vec(), wanted: "a matrix (two axes)".into() });
        };
        if x.shape() != [k] {
            let wanted = format!("a vector of shape [{k}], because the matrix is [{m}, {k}]");
            return Err(Error::Shape { op: "matvec", found: x.shape().to_vec(), wanted });
        }
        let session = self.common_session(x, "matvec")?;
        Self::new(Primitive::Contract, vec![self.node.clone(), x.node.clone()], vec![m], session)
    }
}
