//! Sums of products, and what else is made of two reductions.
//!
//! Owns: `dot`, `vdot`, `weighted_mean`, `ptp`. Must not know: how reductions are run. Invariant: what is summed is one pass over both arrays.

use num_complex::Complex;

use super::super::Array;
use super::map::{Given, mapped};
use super::over::Over;
use crate::error::{Error, Result, or_panic};
use crate::kernel::map::{Builder, ScalarOp, Value};
use crate::kernel::reduce::Reduction;
use crate::shape::{DType, Element, Number, Ordered, Promote, Real, Summed};

impl<T: Real> Over<T> {
    /// `sum(w x) / sum(w)`, in `f64`: the mean with weights `w`, which has the array's shape and dtype. NaN if weights add up to 0.
    ///
    /// # Panics
    /// If the shapes differ, or the arrays belong to two sessions. [`Over::try_weighted_mean`] returns that as an error.
    #[track_caller]
    pub fn weighted_mean(&self, w: &Array<T>) -> Array<f64> {
        or_panic(self.try_weighted_mean(w))
    }

    /// [`Over::weighted_mean`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::SessionMismatch`].
    pub fn try_weighted_mean(&self, w: &Array<T>) -> Result<Array<f64>> {
        if self.array.shape() != w.shape() {
            let wanted = format!("weights of shape {:?}, as the values have", self.array.shape());
            return Err(Error::Shape { op: "weighted_mean", found: w.shape().to_vec(), wanted });
        }
        let both = mapped::<Complex<f64>>("weighted_mean", &[Given::Array(&self.array), Given::Array(w)], |b, values| {
            let [x, w] = [values[0], values[1]].map(|value| b.cast(value, DType::F64));
            let product = b.apply(ScalarOp::Mul, &[x, w]);
            b.apply(ScalarOp::Compose, &[product, w])
        })?;
        Ok(self.of(both).made(
            Reduction::Sum,
            |_, x| x,
            |b, sums| {
                let parts = b.parts(sums);
                b.apply(ScalarOp::Div, &parts)
            },
        ))
    }
}

impl<T: Real> Array<T> {
    /// `sum(w x) / sum(w)`, in `f64`: the mean of all elements with weights `w`, which has this array's shape and dtype; an array of rank 0. NaN if the weights add up
    /// to 0. Along some axes: [`Over::weighted_mean`].
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
        self.over_all().try_weighted_mean(w)
    }
}

/// What products of two element types add up to.
type Products<T, U> = <<T as Promote<U>>::Output as Summed>::Sum;

impl<T: Element> Array<T> {
    /// The inner product of two vectors, an array of rank 0: the sum of the products of their elements. Of `f32`, products are exact and added in `f64`, and the sum is
    /// rounded once; of integers both are in 64 bits, modulo 2^64. A matrix times a vector is [`Array::matvec`].
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let (x, y) = (Array::from(vec![1i32, 2, 3]), Array::from(vec![4i32, 5, 6]));
    /// assert_eq!(x.dot(&y).compute_scalar()?, 32i64);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If they are no vectors of one length, or belong to two sessions. [`Array::try_dot`] returns that as an error.
    #[track_caller]
    pub fn dot<U: Element>(&self, y: &Array<U>) -> Array<Products<T, U>>
    where
        T: Promote<U, Output: Summed>,
    {
        or_panic(self.try_dot(y))
    }

    /// [`Array::dot`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are no vectors of one length, [`Error::SessionMismatch`].
    pub fn try_dot<U: Element>(&self, y: &Array<U>) -> Result<Array<Products<T, U>>>
    where
        T: Promote<U, Output: Summed>,
    {
        if self.ndim() != 1 {
            let wanted = "two vectors of one length (a matrix times a vector is `matvec`)";
            return Err(Error::Shape { op: "dot", found: self.shape().to_vec(), wanted: wanted.into() });
        }
        self.products("dot", y, |_, x| x)
    }

    /// The sum of the products of the elements, the first being conjugated if they are complex, of two arrays of one shape; an array of rank 0. As [`Array::dot`]
    /// otherwise.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// use num_complex::Complex;
    /// let z = Array::from(ndarray::arr2(&[[Complex::new(1f64, 2.0)], [Complex::new(0.0, -3.0)]]));
    /// assert_eq!(z.vdot(&z).compute_scalar()?, Complex::new(14.0, 0.0));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes differ, or the arrays belong to two sessions. [`Array::try_vdot`] returns that as an error.
    #[track_caller]
    pub fn vdot<U: Element>(&self, y: &Array<U>) -> Array<Products<T, U>>
    where
        T: Promote<U, Output: Summed>,
    {
        or_panic(self.try_vdot(y))
    }

    /// [`Array::vdot`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::SessionMismatch`].
    pub fn try_vdot<U: Element>(&self, y: &Array<U>) -> Result<Array<Products<T, U>>>
    where
        T: Promote<U, Output: Summed>,
    {
        self.products("vdot", y, |b, x| {
            if !b.dtype(x).is_complex() {
                return x;
            }
            let [re, im] = b.parts(x);
            let im = b.apply(ScalarOp::Neg, &[im]);
            b.apply(ScalarOp::Compose, &[re, im])
        })
    }

    fn products<U: Element>(
        &self,
        op: &'static str,
        y: &Array<U>,
        of_first: impl FnOnce(&mut Builder, Value) -> Value,
    ) -> Result<Array<Products<T, U>>>
    where
        T: Promote<U, Output: Summed>,
    {
        if self.shape() != y.shape() {
            let wanted = format!("shape {:?}, as the first has", self.shape());
            return Err(Error::Shape { op, found: y.shape().to_vec(), wanted });
        }
        // Products of `f32` are exact in `f64`, and those of short integers in 64 bits.
        let common = <T as Promote<U>>::Output::DTYPE;
        let dtype = Reduction::Sum.gives(Reduction::Sum.reads(common));
        macro_rules! summed {
            ($t:ty) => {{
                let all = mapped::<$t>(op, &[Given::Array(self), Given::Array(y)], |b, values| {
                    let x = of_first(b, values[0]);
                    let [x, y] = [x, values[1]].map(|value| {
                        let value = b.cast(value, common);
                        b.cast(value, dtype)
                    });
                    b.apply(ScalarOp::Mul, &[x, y])
                })?;
                Ok(all.over_all().made(Reduction::Sum, |_, x| x, |_, x| x))
            }};
        }
        match dtype {
            DType::F64 => summed!(f64),
            DType::C128 => summed!(Complex<f64>),
            DType::U64 => summed!(u64),
            _ => summed!(i64),
        }
    }
}

impl<T: Ordered + Number> Over<T> {
    /// The highest less the lowest; NaN, if an element is NaN. Of integers, modulo the dtype.
    ///
    /// # Panics
    /// If an axis has no element. [`Over::try_ptp`] returns that as an error.
    #[track_caller]
    pub fn ptp(&self) -> Array<T> {
        or_panic(self.try_ptp())
    }

    /// [`Over::ptp`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`], which names the axis, if one has no element.
    pub fn try_ptp(&self) -> Result<Array<T>> {
        self.some("ptp")?;
        let (highest, lowest) = (self.try_max()?, self.try_min()?);
        mapped("ptp", &[Given::Array(&highest), Given::Array(&lowest)], |b, values| b.apply(ScalarOp::Sub, values))
    }
}

impl<T: Ordered + Number> Array<T> {
    /// The highest less the lowest ("peak to peak"), an array of rank 0; NaN, if an element is NaN. Of integers, modulo the dtype.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// assert_eq!(Array::from(vec![3, -1, 7]).ptp().compute_scalar()?, 8);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If there is no element. [`Over::try_ptp`] returns that as an error.
    #[track_caller]
    pub fn ptp(&self) -> Self {
        self.over_all().ptp()
    }

    /// [`Array::ptp`] along one axis, which goes away; along others, and to keep it: [`Array::over`].
    ///
    /// # Panics
    /// If there is no such axis, or it has no element.
    #[track_caller]
    pub fn ptp_axis(&self, axis: ndarray::Axis) -> Self {
        self.over(axis).ptp()
    }
}
