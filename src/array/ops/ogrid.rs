//! Points at equal distances.
//!
//! Owns: `ogrid`. Must not know: how they are made. Invariant: a point follows from its index alone, so that it is the same in any chunk.

use super::super::Array;
use super::super::expr::{Generator, Primitive};
use crate::error::{Error, Result, or_panic};
use crate::shape::{DType, Float, Region, checked_len};

impl<T: Float> Array<T> {
    /// `n` points from `a` to `b`, both included, as `numpy.ogrid[a:b:n*1j]` makes them: point `k` is `k * step + a` with `step = (b - a) / (n - 1)`, each
    /// operation rounded in `f64`, and the result to `T`; a single point is `a`.
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
        let is_finite = |number: f64| number.is_finite() && (T::DTYPE == DType::F64 || (number as f32).is_finite());
        if let Some(bad) = [a, b].into_iter().find(|&end| !is_finite(end)) {
            return Err(Error::argument("end of ogrid", bad, format!("choose numbers that are finite in {}", T::DTYPE)));
        }
        if !(b - a).is_finite() {
            return Err(Error::argument(
                "distance of the ends of ogrid",
                b - a,
                "choose ends whose difference is finite in f64",
            ));
        }
        checked_len("ogrid", &[n])?;
        let points = Generator::Points { ends: [a.to_bits(), b.to_bits()], count: n };
        Self::new(Primitive::Generate(points, Region::all(&[n])), Vec::new(), vec![n], None)
    }
}
