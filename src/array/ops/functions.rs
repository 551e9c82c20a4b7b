//! Functions of each element.
//!
//! Owns: what they are called and for which elements they are there. Must not know: how they are computed. Invariant: a function of one array is of its shape and, but for
//! tests, of its dtype.

use num_complex::Complex;

use super::super::Array;
use super::map::{Common, Rhs};
use crate::error::{Result, or_panic};
use crate::kernel::map::{Builder, ScalarOp, Value};
use crate::shape::{Element, Float, Number, Ordered, Promote};

macro_rules! functions {
    ($($name:ident $op:ident, $doc:literal;)*) => {
        /// Functions of real numbers, `f32` and `f64`. (Cast integers first.) NaN gives NaN; errors in units in the last place (ulp) hold for both types, on CPUs; those on GPUs, of up to 2.4, are in the README's table.
        impl<T: Float> Array<T> {
            $(#[doc = $doc]
            pub fn $name(&self) -> Self {
                self.map1(ScalarOp::$op)
            })*
        }
    };
}

functions! {
    sqrt Sqrt, "The square root, rounded to the nearest; of negative numbers NaN.";
    cbrt Cbrt, "The cube root, within 1 ulp.";
    exp Exp, "e to the power of each element, within 1 ulp.";
    exp2 Exp2, "2 to the power of each element, within 1 ulp.";
    expm1 Expm1, "`exp(x) - 1`, accurate near 0, within 1 ulp.";
    log Log, "The natural logarithm, within 1 ulp; of 0 `-inf`, of negative numbers NaN.";
    log2 Log2, "The logarithm to base 2, within 1 ulp.";
    log10 Log10, "The logarithm to base 10, within 1 ulp.";
    log1p Log1p, "`log(1 + x)`, accurate near 0, within 1 ulp.";
    sin Sin, "The sine, within 1 ulp for arguments of any size; of infinities NaN.";
    cos Cos, "The cosine, within 1 ulp for arguments of any size; of infinities NaN.";
    tan Tan, "The tangent, within 1 ulp for arguments of any size; of infinities NaN.";
    asin Asin, "The arc sine, in -pi/2 to pi/2, within 1 ulp; beyond -1 and 1 NaN.";
    acos Acos, "The arc cosine, in 0 to pi, within 1 ulp; beyond -1 and 1 NaN.";
    atan Atan, "The arc tangent, in -pi/2 to pi/2, within 1 ulp.";
    sinh Sinh, "The hyperbolic sine, within 1 ulp.";
    cosh Cosh, "The hyperbolic cosine, within 1 ulp.";
    tanh Tanh, "The hyperbolic tangent, within 1.5 ulp.";
    asinh Asinh, "The inverse hyperbolic sine, within 1.5 ulp.";
    acosh Acosh, "The inverse hyperbolic cosine, within 1.5 ulp; below 1 NaN.";
    atanh Atanh, "The inverse hyperbolic tangent, within 1 ulp; beyond -1 and 1 NaN.";
    erf Erf, "The error function, within 1.5 ulp.";
    floor Floor, "The next lower integer.";
    ceil Ceil, "The next higher integer.";
    round Round, "The nearest integer; halves go away from zero, as in Rust.";
    round_ties_even Rint, "The nearest integer; halves go to the even one, as `numpy.round` does.";
    trunc Trunc, "The next integer toward zero.";
    fract Fract, "What is behind the point: `x - x.trunc()`.";
}

macro_rules! tests {
    ($($name:ident $op:ident, $doc:literal;)*) => {
        impl<T: Float> Array<T> {
            $(#[doc = $doc]
            pub fn $name(&self) -> Array<bool> {
                self.map1(ScalarOp::$op)
            })*
        }
    };
}

tests! {
    is_nan IsNan, "Whether each element is NaN.";
    is_finite IsFinite, "Whether each element is neither infinite nor NaN.";
    is_infinite IsInfinite, "Whether each element is infinite.";
}

/// Methods of two arrays of real numbers, or of one and a scalar, with their twins.
macro_rules! pairs {
    ($($name:ident $try:ident [$($class:ident)+] $op:ident, $doc:literal;)*) => {
        impl<T: Element> Array<T> {
            $(#[doc = $doc]
            ///
            /// The other operand is an array, to which shapes are broadcast and dtypes promoted, or a scalar.
            ///
            /// # Panics
            /// If the shapes do not fit, or the arrays belong to two sessions.
            #[track_caller]
            pub fn $name<O: Rhs<T>>(&self, other: O) -> Array<Common<T, O>>
            where
                T: Promote<O::Element>,
                Common<T, O>: $($class +)+,
            {
                or_panic(self.$try(other))
            }

            #[doc = concat!("[`Array::", stringify!($name), "`], with errors instead of panics.")]
            ///
            /// # Errors
            /// [`Error::Shape`](crate::Error::Shape), [`Error::SessionMismatch`](crate::Error::SessionMismatch).
            pub fn $try<O: Rhs<T>>(&self, other: O) -> Result<Array<Common<T, O>>>
            where
                T: Promote<O::Element>,
                Common<T, O>: $($class +)+,
            {
                self.map2((stringify!($name), ScalarOp::$op, Common::<T, O>::DTYPE), &other)
            })*
        }
    };
}

pairs! {
    powf try_powf [Float] Pow, "Each element to a power, within 1 ulp: of negative numbers NaN unless the power is an integer. `x.powf(0.0)` is 1.";
    atan2 try_atan2 [Float] Atan2, "The angle of the point `(other, self)`, in -pi to pi, within 1 ulp: `y.atan2(&x)`.";
    hypot try_hypot [Float] Hypot, "`sqrt(x * x + y * y)`, without overflow on the way, within 1 ulp.";
    copysign try_copysign [Float] Copysign, "Each element with the sign of the other one.";
    fmin try_fmin [Float] Fmin, "The lesser of two elements; where one is NaN the other.";
    fmax try_fmax [Float] Fmax, "The greater of two elements; where one is NaN the other.";
    minimum try_minimum [Ordered] Minimum, "The lesser of two elements; NaN where one is NaN, as `numpy.minimum`.";
    maximum try_maximum [Ordered] Maximum, "The greater of two elements; NaN where one is NaN, as `numpy.maximum`.";
    div_euclid try_div_euclid [Number Ordered] DivEuclid, "The quotient, rounded so that [`Array::rem_euclid`] is what is left. Of integers by zero it is 0.";
    rem_euclid try_rem_euclid [Number Ordered] RemEuclid, "The remainder that is not negative: NumPy's `%` where the other is positive. Of integers by zero it is 0.";
}

impl<T: Number> Array<T> {
    /// The absolute value: of complex numbers that of the point, within 1 ulp; the least integer wraps to itself.
    pub fn abs(&self) -> Array<T::Magnitude> {
        self.with(|b, x| match b.dtype(x).is_complex() {
            true => {
                let parts = b.parts(x);
                b.apply(ScalarOp::Hypot, &parts)
            }
            false => b.apply(ScalarOp::Abs, &[x]),
        })
    }

    /// Each element times itself.
    pub fn square(&self) -> Self {
        self.with(|b, x| b.apply(ScalarOp::Mul, &[x, x]))
    }

    /// Each element to an integer power, by squaring: `x.powi(5)` is `(x * x) * (x * x) * x`, each product rounded, and `x.powi(-5)` is one over that. Of integers, products
    /// wrap, and a negative power is 0 but for 1 and -1.
    pub fn powi(&self, n: i32) -> Self {
        self.with(|b, x| {
            let one = b.constant(b.dtype(x).one());
            if n < 0 && b.dtype(x).is_integer() {
                return integer_inverse(b, x, n);
            }
            match power(b, x, n.unsigned_abs()) {
                None => one,
                Some(power) if n < 0 => b.apply(ScalarOp::Div, &[one, power]),
                Some(power) => power,
            }
        })
    }

    /// One over each element; of integers 0 but for 1 and -1.
    pub fn recip(&self) -> Self {
        self.powi(-1)
    }
}

/// One over an integer's power: 1 of 1, 1 or -1 of -1, else 0.
fn integer_inverse(b: &mut Builder, x: Value, n: i32) -> Value {
    let dtype = b.dtype(x);
    let [one, zero] = [dtype.one(), dtype.zero()].map(|scalar| b.constant(scalar));
    let minus_one = b.apply(ScalarOp::Neg, &[one]);
    let [is_one, is_minus_one] = [one, minus_one].map(|y| b.apply(ScalarOp::Eq, &[x, y]));
    let of_minus_one = if dtype.is_unsigned() {
        zero
    } else if n % 2 == 0 {
        one
    } else {
        minus_one
    };
    let other = b.apply(ScalarOp::Where, &[is_minus_one, of_minus_one, zero]);
    b.apply(ScalarOp::Where, &[is_one, one, other])
}

/// A value to this power, if that is not 0: the squares that it needs, the greatest first.
fn power(b: &mut Builder, x: Value, n: u32) -> Option<Value> {
    let (mut square, mut factors) = (x, Vec::new());
    for bit in 0..u32::BITS - n.leading_zeros() {
        if bit > 0 {
            square = b.apply(ScalarOp::Mul, &[square, square]);
        }
        if n >> bit & 1 == 1 {
            factors.push(square);
        }
    }
    factors.into_iter().rev().reduce(|product, factor| b.apply(ScalarOp::Mul, &[product, factor]))
}

impl<T: Number + Ordered> Array<T> {
    /// -1, 0 or 1; zeros keep their sign, and NaN is NaN.
    pub fn sign(&self) -> Self {
        self.map1(ScalarOp::Sign)
    }

    /// Each element, but at least `low` and at most `high`: arrays or scalars. NaN stays; where `low` is above `high` it is `high`, as in NumPy.
    ///
    /// ```
    /// use chunkwise::Array;
    /// let x = Array::from(vec![-2.0, 0.5, 7.0]);
    /// assert_eq!(x.clip(0.0, 1.0).compute()?.as_slice(), Some(&[0.0, 0.5, 1.0][..]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes do not fit, or the arrays belong to two sessions. [`Array::try_clip`] returns that as an error.
    #[track_caller]
    pub fn clip(&self, low: impl Rhs<T, Element = T>, high: impl Rhs<T, Element = T>) -> Self {
        or_panic(self.try_clip(low, high))
    }

    /// [`Array::clip`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::SessionMismatch`](crate::Error::SessionMismatch).
    pub fn try_clip(&self, low: impl Rhs<T, Element = T>, high: impl Rhs<T, Element = T>) -> Result<Self> {
        let at_least = self.map2(("clip", ScalarOp::Maximum, T::DTYPE), &low)?;
        at_least.map2(("clip", ScalarOp::Minimum, T::DTYPE), &high)
    }
}

impl<F: Float> Array<Complex<F>>
where
    Complex<F>: Number<Magnitude = F>,
{
    /// The real part of each element.
    pub fn re(&self) -> Array<F> {
        self.with(|b, z| b.parts(z)[0])
    }

    /// The imaginary part of each element.
    pub fn im(&self) -> Array<F> {
        self.with(|b, z| b.parts(z)[1])
    }

    /// Each element with the other sign of its imaginary part.
    pub fn conj(&self) -> Self {
        self.with(|b, z| {
            let [re, im] = b.parts(z);
            let im = b.apply(ScalarOp::Neg, &[im]);
            b.apply(ScalarOp::Compose, &[re, im])
        })
    }

    /// The angle of each element, in -pi to pi, within 1 ulp.
    pub fn arg(&self) -> Array<F> {
        self.with(|b, z| {
            let [re, im] = b.parts(z);
            b.apply(ScalarOp::Atan2, &[im, re])
        })
    }

    /// The square of the absolute value of each element: `re * re + im * im`.
    pub fn norm_sqr(&self) -> Array<F> {
        self.with(|b, z| {
            let squares = b.parts(z).map(|x| b.apply(ScalarOp::Mul, &[x, x]));
            b.apply(ScalarOp::Add, &squares)
        })
    }

    /// e to the power of each element: `exp(re)` at the angle `im`.
    pub fn exp(&self) -> Self {
        self.with(|b, z| {
            let [re, im] = b.parts(z);
            let size = b.apply(ScalarOp::Exp, &[re]);
            let [re, turned] = [ScalarOp::Cos, ScalarOp::Sin].map(|of| {
                let part = b.apply(of, &[im]);
                b.apply(ScalarOp::Mul, &[size, part])
            });
            // A real number stays one, infinite or not.
            let zero = b.constant(b.dtype(im).zero());
            let is_real = b.apply(ScalarOp::Eq, &[im, zero]);
            let im = b.apply(ScalarOp::Where, &[is_real, im, turned]);
            b.apply(ScalarOp::Compose, &[re, im])
        })
    }
}

impl<F: Float> Array<F>
where
    Complex<F>: Number<Magnitude = F>,
{
    /// The complex numbers whose real parts these are, and whose imaginary parts are the other's elements, or a scalar.
    ///
    /// ```
    /// use chunkwise::{Array, Complex};
    /// let (x, y) = (Array::from(vec![1.0, 2.0]), Array::from(vec![3.0, 4.0]));
    /// let z = x.with_imaginary(y.insert_axis(chunkwise::ndarray::Axis(1))); // a row and a column: a grid
    /// assert_eq!(z.compute()?[[1, 0]], Complex::new(1.0, 4.0));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes do not fit, or the arrays belong to two sessions. [`Array::try_with_imaginary`] returns that as an error.
    #[track_caller]
    pub fn with_imaginary(&self, imaginary: impl Rhs<F, Element = F>) -> Array<Complex<F>> {
        or_panic(self.try_with_imaginary(imaginary))
    }

    /// [`Array::with_imaginary`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::SessionMismatch`](crate::Error::SessionMismatch).
    pub fn try_with_imaginary(&self, imaginary: impl Rhs<F, Element = F>) -> Result<Array<Complex<F>>> {
        self.with2("with_imaginary", &imaginary, |b, re, im| b.apply(ScalarOp::Compose, &[re, im]))
    }
}
