//! The Cholesky factorisation.
//!
//! Owns: `cholesky`. Must not know: how it is made. Invariant: each tile's updates run in the same order always.

use super::super::Array;
use super::super::expr::Primitive;
use crate::error::{Error, Result, or_panic};
use crate::shape::Float;

impl<T: Float> Array<T> {
    /// The lower triangular `L` with `A = L Lᵀ`, for a symmetric positive definite `A` `(n, n)`.
    ///
    /// Only the lower triangle of `A` is read; the upper triangle of `L` is zero. Chunks are square tiles: those of
    /// [`Array::chunks`] on the result or, if square, on `A`; else n/16 rounded to 64, within 256..1024. Work: `n^3 / 3` flops.
    /// Backward error: `max |A - L Lᵀ|` is at most a small multiple of `n eps max |A|`.
    ///
    /// # Panics
    /// If this is not a square matrix. [`Array::try_cholesky`] returns that as an error. That `A` is not positive definite
    /// shows when it is computed: [`Error::NotPositiveDefinite`].
    #[track_caller]
    pub fn cholesky(&self) -> Self {
        or_panic(self.try_cholesky())
    }

    /// [`Array::cholesky`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if this is not a square matrix.
    pub fn try_cholesky(&self) -> Result<Self> {
        match *self.shape() {
            [n, m] if n == m => Self::new(Primitive::Factor, vec![self.node.clone()], vec![n, n], self.session.clone()),
            _ => Err(Error::Shape { op: "cholesky", found: self.shape().to_vec(), wanted: "a square matrix".into() }),
        }
    }
}
