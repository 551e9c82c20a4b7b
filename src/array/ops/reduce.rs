//! One number of a whole array.
//!
//! Owns: `mean`, `weighted_mean`, `sum`. Must not know: how they are made. Invariant: partial sums are merged by a tree whose shape the chunk grid fixes.

use super::super::Array;
use super::super::expr::{Primitive, Reduction};
use crate::error::{Error, Result, or_panic};
use crate::shape::{Element, Real};

impl<T: Real> Array<T> {
    /// The mean of all elements, an array of rank 0, in `f64` whatever the dtype. NaN for an empty array.
    ///
    /// Each chunk is summed in blocks of 4096 that are merged pairwise, in `f64`; the chunks' sums are merged by a tree. A chunk in a
    /// file is summed as it is read, in blocks that stay in cache; parts that were never written are not read.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let a = Array::from(ndarray::arr1(&[1.0f32, 2.0, 6.0]));
    /// assert_eq!(a.mean().compute_scalar()?, 3.0);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn mean(&self) -> Array<f64> {
        or_panic(Array::new(Primitive::Reduce(Reduction::Mean), vec![self.node.clone()], vec![], self.session.clone()))
    }

    /// `sum(w x) / sum(w)`, in `f64`: the mean with weights `w`, which has this array's shape and dtype. NaN if the weights add up to 0.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let v = Array::from(ndarray::arr1(&[0i64, 1, 2, 3]));
    /// let w = Array::from(ndarray::arr1(&[5i64, 10, 33, 16]));
    /// assert_eq!(v.weighted_mean(&w).compute_scalar()?, 1.9375);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes differ, or the arrays belong to two sessions. [`Array::try_weighted_mean`] returns that as an error.
    #[track_caller]
    pub fn weighted_mean(&self, w: &Self) -> Array<f64> {
        or_panic(self.try_weighted_mean(w))
    }

    /// [`Array::weighted_mean`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::SessionMismatch`].
    pub fn try_weighted_mean(&self, w: &Self) -> Result<Array<f64>> {
        if self.shape() != w.shape() {
            let wanted = format!("weights of shape {:?}, as the values have", self.shape());
            return Err(Error::Shape { op: "weighted_mean", found: w.shape().to_vec(), wanted });
        }
        let session = self.common_session(w, "weighted_mean")?;
        let inputs = vec![self.node.clone(), w.node.clone()];
        Array::new(Primitive::Reduce(Reduction::WeightedMean), inputs, vec![], session)
    }
}

impl<T: Summed> Array<T> {
    /// The sum of all elements, an array of rank 0; 0 for an empty array. Floats are summed as for [`Array::mean`], in `f64`, and the sum is rounded once to
    /// the dtype. Integers and booleans are summed in 64 bits, modulo 2^64, so to the same bits however the array is cut.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// assert_eq!(Array::from(ndarray::arr1(&[1.5f32, 2.0])).sum().compute_scalar()?, 3.5f32);
    /// assert_eq!(Array::from(ndarray::arr1(&[200u8, 100])).sum().compute_scalar()?, 300u64);
    /// assert_eq!(Array::from(ndarray::arr1(&[true, false, true])).sum().compute_scalar()?, 2i64);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn sum(&self) -> Array<T::Sum> {
        or_panic(Array::new(Primitive::Reduce(Reduction::Sum), vec![self.node.clone()], vec![], self.session.clone()))
    }
}

/// An element type that has a sum: NumPy's rule, integers of 64 bits for all integers.
pub trait Summed: Element {
    /// What a sum of such elements is: the float itself; `i64` for signed integers and booleans, `u64` for unsigned ones.
    type Sum: Element;
}

macro_rules! summed {
    ($($t:ty => $sum:ty),*) => {$(
        impl Summed for $t {
            type Sum = $sum;
        }
    )*};
}
summed!(bool => i64, i8 => i64, u8 => u64, i16 => i64, u16 => u64, i32 => i64, u32 => u64, i64 => i64, u64 => u64, f32 => f32, f64 => f64);
