//! Numbers at equal distances.
//!
//! Owns: `arange`, `linspace`, `logspace`, `ogrid`, `indices`, `meshgrid`. Must not know: how they are made. Invariant: a number follows from its index alone, so that it is the
//! same in any chunk.

use ndarray::MeshIndex;

use super::super::expr::{Generator, Primitive};
use super::super::{Array, IntoShape, checked_shape, common_session};
use crate::error::{Error, Result, or_panic};
use crate::kernel::map::ScalarOp;
use crate::kernel::points::Spacing;
use crate::shape::{DType, Element, Float, Real, Region, Scalar, View, checked_len};

impl<T: Real> Array<T> {
    /// The numbers `start`, `start + step`, `start + 2 step`, .. before `stop` (after it, if the step is negative), as `numpy.arange(start, stop, step)` makes them:
    /// `ceil((stop - start) / step)` of them, of floats computed in `f64`. Of floats the first is `start`, the second `start + step`, and number `k` from there on
    /// `start + k d`, with `d` the distance of these two, each operation rounded in `T` (of halves in `f32`, and in the end). None if `stop` lies on the other side.
    ///
    /// ```
    /// use chunkwise::Array;
    /// assert_eq!(Array::arange(0, 10, 3).compute()?.as_slice(), Some(&[0, 3, 6, 9][..]));
    /// assert_eq!(Array::arange(2u8, 0, 1).len(), 0);
    /// assert_eq!(Array::arange(1.0, -0.6, -0.5).compute()?.as_slice(), Some(&[1.0, 0.5, 0.0, -0.5][..]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the step is 0, a number is not finite, or there are too many. [`Array::try_arange`] returns that as an error.
    #[track_caller]
    pub fn arange(start: T, stop: T, step: T) -> Self {
        or_panic(Self::try_arange(start, stop, step))
    }

    /// [`Array::arange`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if the step is 0, or a number is not finite; [`Error::Shape`] if there are too many.
    pub fn try_arange(start: T, stop: T, step: T) -> Result<Self> {
        if let Some(bad) = [start, stop, step].into_iter().find(|number| !number.to_f64().is_finite()) {
            return Err(Error::argument("number of arange", bad, "choose finite ones"));
        }
        if step.to_f64() == 0.0 {
            return Err(Error::argument("step of arange", step, "choose one that is not 0"));
        }
        let exact = |number: T| match number.into() {
            Scalar::I64(number) => i128::from(number),
            Scalar::U64(number) => i128::from(number),
            other => other.to_f64() as i128,
        };
        let (count, spacing) = if T::DTYPE.is_integer() {
            let (from, to, by) = (exact(start), exact(stop), exact(step));
            let count = ((to - from) * by.signum() + by.abs() - 1).max(0) / by.abs();
            (usize::try_from(count).unwrap_or(usize::MAX), Spacing::Steps { a: from as u64, next: (from + by) as u64 })
        } else {
            let (from, to, by) = (start.to_f64(), stop.to_f64(), step.to_f64());
            let next = T::from_f64(from + by).to_f64(); // the sum of two `f32` in `f64`, rounded, is their sum in `f32`
            let whole = to - from;
            let steps = if whole.is_finite() { whole / by } else { to / by - from / by };
            // A way so short that its part of a step is 0 is one.
            let count = if steps == 0.0 && whole != 0.0 && steps.is_sign_positive() { 1.0 } else { steps.ceil().max(0.0) };
            (count as usize, Spacing::Steps { a: from.to_bits(), next: next.to_bits() })
        };
        Self::points("arange", spacing, count)
    }

    fn points(op: &'static str, spacing: Spacing, count: usize) -> Result<Self> {
        checked_len(op, &[count])?;
        Self::new(
            Primitive::Generate(Generator::Points { spacing, count }, Region::all(&[count])),
            Vec::new(),
            vec![count],
            None,
        )
    }
}

impl<T: Float> Array<T> {
    /// `n` numbers from `a` to `b`, both included, as `numpy.linspace(a, b, n)` makes them: number `k` is `k * step + a` with `step = (b - a) / (n - 1)`, each
    /// operation rounded in `f64`, and the result to `T`; the last one is `b`. A single one is `a`.
    ///
    /// ```
    /// use chunkwise::Array;
    /// assert_eq!(Array::<f64>::linspace(0.0, 0.3, 4).compute()?.as_slice(), Some(&[0.0, 0.3 / 3.0, 0.3 / 3.0 * 2.0, 0.3][..]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`Array::ogrid`]. [`Array::try_linspace`] returns that as an error.
    #[track_caller]
    pub fn linspace(a: f64, b: f64, n: usize) -> Self {
        or_panic(Self::try_linspace(a, b, n))
    }

    /// [`Array::linspace`], with an error instead of a panic.
    ///
    /// # Errors
    /// As [`Array::try_ogrid`].
    pub fn try_linspace(a: f64, b: f64, n: usize) -> Result<Self> {
        let [a, b] = Self::checked_ends("linspace", a, b)?;
        Self::points("linspace", Spacing::Ends { a, b }, n)
    }

    /// `n` powers of 10 at equal distances on a logarithmic scale, from `10^a` to `10^b`, both included, as `numpy.logspace(a, b, n)`: 10 to the power of each number of
    /// [`Array::linspace`].
    ///
    /// ```
    /// use chunkwise::Array;
    /// assert_eq!(Array::<f64>::logspace(-1.0, 2.0, 4).compute()?.as_slice(), Some(&[0.1, 1.0, 10.0, 100.0][..]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`Array::ogrid`]. [`Array::try_logspace`] returns that as an error.
    #[track_caller]
    pub fn logspace(a: f64, b: f64, n: usize) -> Self {
        or_panic(Self::try_logspace(a, b, n))
    }

    /// [`Array::logspace`], with an error instead of a panic.
    ///
    /// # Errors
    /// As [`Array::try_ogrid`].
    pub fn try_logspace(a: f64, b: f64, n: usize) -> Result<Self> {
        let powers = Array::<f64>::try_linspace(a, b, n)?;
        Ok(powers
            .with::<f64>(|b, x| {
                let ten = b.constant(10.0);
                b.apply(ScalarOp::Pow, &[ten, x])
            })
            .cast())
    }

    /// `n` points from `a` to `b`, both included, as `numpy.ogrid[a:b:n*1j]` makes them: point `k` is `k * step + a` with `step = (b - a) / (n - 1)`, each
    /// operation rounded in `f64`, and the result to `T`; a single point is `a`. The last one may be `b` but for its last bit; that of [`Array::linspace`] is `b`.
    ///
    /// ```
    /// use chunkwise::Array;
    /// assert_eq!(Array::<f64>::ogrid(-1.0, 1.0, 5).compute()?.as_slice(), Some(&[-1.0, -0.5, 0.0, 0.5, 1.0][..]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If `a` or `b` is not finite in `T`, or too far apart, or `n` overflows memory addresses. [`Array::try_ogrid`] returns that as an error.
    #[track_caller]
    pub fn ogrid(a: f64, b: f64, n: usize) -> Self {
        or_panic(Self::try_ogrid(a, b, n))
    }

    /// [`Array::ogrid`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if `a` or `b` is not finite in `T`, or their difference in `f64`, [`Error::Shape`] if `n` overflows memory addresses.
    pub fn try_ogrid(a: f64, b: f64, n: usize) -> Result<Self> {
        let [a, b] = Self::checked_ends("ogrid", a, b)?;
        Self::points("ogrid", Spacing::Grid { a, b }, n)
    }

    /// The bits of two ends.
    fn checked_ends(op: &'static str, a: f64, b: f64) -> Result<[u64; 2]> {
        let is_finite = |number: f64| number.is_finite() && (T::DTYPE == DType::F64 || (number as f32).is_finite());
        if let Some(bad) = [a, b].into_iter().find(|&end| !is_finite(end)) {
            return Err(Error::argument(
                format!("end of {op}"),
                bad,
                format!("choose numbers that are finite in {}", T::DTYPE),
            ));
        }
        if !(b - a).is_finite() {
            let wanted = "choose ends whose difference is finite in f64";
            return Err(Error::argument(format!("distance of the ends of {op}"), b - a, wanted));
        }
        Ok([a.to_bits(), b.to_bits()])
    }
}

/// The indices along each axis of an array of this shape, each an array that is as long as its axis along it, and 1 along the others: together they broadcast to the
/// shape. As `numpy.indices(shape, sparse=True)`, or `numpy.ogrid[0:n, 0:m]`.
///
/// ```
/// use chunkwise::prelude::*;
/// let axes = indices((2, 3));
/// assert_eq!((axes[0].shape(), axes[1].shape()), (&[2, 1][..], &[1, 3][..]));
/// assert_eq!(axes[1].broadcast_to((2, 3)).compute()?, ndarray::arr2(&[[0i64, 1, 2], [0, 1, 2]]).into_dyn());
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Panics
/// If the shape overflows memory addresses. [`Array::try_indices`] returns that as an error.
#[track_caller]
pub fn indices(shape: impl IntoShape) -> Vec<Array<i64>> {
    or_panic(Array::try_indices(shape))
}

impl Array<i64> {
    /// [`indices`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_indices(shape: impl IntoShape) -> Result<Vec<Self>> {
        let shape = checked_shape("indices", shape.into_shape())?;
        let along = |(axis, &n): (usize, &usize)| Self::try_arange(0, n as i64, 1)?.alone_along(axis, shape.len());
        shape.iter().enumerate().map(along).collect()
    }
}

/// Coordinate arrays of the grid that these vectors span: all of the shape that they have together, copied nowhere. `MeshIndex::IJ`: the shape is `(len of the
/// first, len of the second, ..)`; `MeshIndex::XY`: the first two axes are exchanged, so that `x` goes along rows, as `numpy.meshgrid` does where nothing is said.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// use ndarray::MeshIndex;
/// let (x, y) = (Array::from(vec![1, 2, 3]), Array::from(vec![10, 20]));
/// let grid = meshgrid(&[&x, &y], MeshIndex::XY);
/// assert_eq!(grid[0].compute()?, ndarray::arr2(&[[1, 2, 3], [1, 2, 3]]).into_dyn());
/// assert_eq!(grid[1].compute()?, ndarray::arr2(&[[10, 10, 10], [20, 20, 20]]).into_dyn());
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Panics
/// If one is not a vector, they belong to two sessions, or the grid overflows memory addresses. [`Array::try_meshgrid`] returns that as an error.
#[track_caller]
pub fn meshgrid<T: Element>(vectors: &[&Array<T>], order: MeshIndex) -> Vec<Array<T>> {
    or_panic(Array::try_meshgrid(vectors, order))
}

impl<T: Element> Array<T> {
    /// [`meshgrid`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if one is not a vector or the grid overflows memory addresses, [`Error::SessionMismatch`].
    pub fn try_meshgrid(vectors: &[&Self], order: MeshIndex) -> Result<Vec<Self>> {
        if let Some(bad) = vectors.iter().find(|vector| vector.ndim() != 1) {
            return Err(Error::Shape { op: "meshgrid", found: bad.shape().to_vec(), wanted: "vectors (one axis)".into() });
        }
        let session = common_session("meshgrid", vectors.iter().map(|vector| vector.session.as_ref()))?;
        let mut axes: Vec<usize> = (0..vectors.len()).collect();
        if matches!(order, MeshIndex::XY) && axes.len() > 1 {
            axes.swap(0, 1);
        }
        let shape: Vec<usize> = axes.iter().map(|&vector| vectors[vector].len()).collect();
        let shape = checked_shape("meshgrid", shape)?;
        let seen = |(vector, &axis): (&&Self, &usize)| {
            let grid = vector.alone_along(axis, shape.len())?.try_broadcast_to(&shape[..])?;
            Ok(Self { session: session.clone(), ..grid })
        };
        vectors.iter().zip(&axes).map(seen).collect()
    }

    /// A vector along one axis of an array of `rank` axes, of extent 1 along the others.
    fn alone_along(&self, axis: usize, rank: usize) -> Result<Self> {
        let mut view = View::whole(self.shape());
        for other in (0..rank).filter(|&other| other != axis) {
            view = view.insert_axis(other, 1)?;
        }
        self.viewed(view)
    }
}
