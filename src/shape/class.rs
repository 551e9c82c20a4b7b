//! What can be done with elements of a type.
//!
//! Owns: [`Number`], [`Ordered`], [`Comparable`], [`Integer`], [`Bits`], [`Summed`]: classes of element types that operations are there for. Must not know: operations. Invariant: each is sealed, as
//! [`Element`] is, and has the types that its documentation names.

use num_complex::Complex;

use super::dtype::Element;

/// What is computed with: integers, `f32`, `f64`, complex numbers. Not `bool`, and not `f16` and `bf16`, which are cast first.
pub trait Number: Element {
    /// What an absolute value is: the type itself, of complex numbers that of a part.
    type Magnitude: Number;
}

/// What has an order: `bool`, integers, `f32`, `f64`.
pub trait Ordered: Element {}

/// What can be equal: all but `f16` and `bf16`, which are cast first.
pub trait Comparable: Element {}

/// What consists of bits: `bool` and integers.
pub trait Bits: Element {}

/// The eight types of integers.
pub trait Integer: Number<Magnitude = Self> + Ordered + Bits {}

/// What has a sum: booleans, integers, `f32`, `f64`, complex numbers.
pub trait Summed: Element {
    /// What a sum of such elements is: NumPy's rule, the float or complex number itself; `i64` for signed integers and booleans, `u64` for unsigned integers.
    type Sum: Element;
}

macro_rules! summed {
    ($($t:ty => $sum:ty),*) => {$(
        impl Summed for $t {
            type Sum = $sum;
        }
    )*};
}
summed!(bool => i64, i8 => i64, u8 => u64, i16 => i64, u16 => u64, i32 => i64, u32 => u64, i64 => i64, u64 => u64, f32 => f32, f64 => f64,
    Complex<f32> => Complex<f32>, Complex<f64> => Complex<f64>);

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl Number for $t {
            type Magnitude = $t;
        }
        impl Ordered for $t {}
        impl Comparable for $t {}
        impl Bits for $t {}
        impl Integer for $t {}
    )*};
}
integers!(i8, u8, i16, u16, i32, u32, i64, u64);

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Number for $t {
            type Magnitude = $t;
        }
        impl Ordered for $t {}
        impl Comparable for $t {}
        impl Comparable for Complex<$t> {}
        impl Number for Complex<$t> {
            type Magnitude = $t;
        }
    )*};
}
floats!(f32, f64);

impl Ordered for bool {}
impl Comparable for bool {}
impl Bits for bool {}
