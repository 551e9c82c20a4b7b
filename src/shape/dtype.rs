//! Element types.
//!
//! Owns: [`DType`] and the sealed [`Element`]. Must not know: kernels. Invariant: `Element::DTYPE.bytes()` equals
//! `size_of::<T>()`, and every type here is valid for any bytes that its codec wrote.

use std::fmt;

use super::scalar::Scalar;

/// The type of an array's elements, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// `bool`, one byte, 0 or 1.
    Bool,
    /// `u8`.
    U8,
    /// `i32`.
    I32,
    /// `u32`.
    U32,
    /// `i64`.
    I64,
    /// `u64`.
    U64,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
}

impl DType {
    /// All there are.
    pub const ALL: &'static [Self] = &[Self::Bool, Self::U8, Self::I32, Self::U32, Self::I64, Self::U64, Self::F32, Self::F64];

    /// Bytes per element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 => 1,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Whether it is `f32` or `f64`.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// The name that NumPy users know: `float64`, `int32`.
    #[must_use]
    pub const fn numpy_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "uint8",
            Self::I32 => "int32",
            Self::U32 => "uint32",
            Self::I64 => "int64",
            Self::U64 => "uint64",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// Evaluates an expression with `$t` being the element type of a dtype: `with_dtype!(dtype, T => body)`.
macro_rules! with_dtype {
    ($dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            $crate::shape::DType::Bool => {
                type $t = bool;
                $body
            }
            $crate::shape::DType::U8 => {
                type $t = u8;
                $body
            }
            $crate::shape::DType::I32 => {
                type $t = i32;
                $body
            }
            $crate::shape::DType::U32 => {
                type $t = u32;
                $body
            }
            $crate::shape::DType::I64 => {
                type $t = i64;
                $body
            }
            $crate::shape::DType::U64 => {
                type $t = u64;
                $body
            }
            $crate::shape::DType::F32 => {
                type $t = f32;
                $body
            }
            $crate::shape::DType::F64 => {
                type $t = f64;
                $body
            }
        }
    };
}
pub(crate) use with_dtype;

mod sealed {
    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed {}
}

/// A Rust type that can be an array's element. Sealed: the set is that of [`DType`].
pub trait Element:
    sealed::Sealed + Into<Scalar> + TryFrom<Scalar> + Copy + Default + PartialEq + fmt::Debug + fmt::Display + Send + Sync + 'static
{
    /// Its dtype.
    const DTYPE: DType;
}

/// An element that converts from and to `f64`.
pub trait Real: Element + PartialOrd {
    /// From `f64`, rounded to nearest, ties to even; integers saturate, and NaN gives 0.
    fn from_f64(value: f64) -> Self;
    /// To `f64`; 64-bit integers round to nearest.
    fn to_f64(self) -> f64;
}

/// `f32` or `f64`: what the numerical kernels are generic over.
pub trait Float: Real + bytemuck::Pod {}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t { const DTYPE: DType = DType::$d; }
    )*};
}
macro_rules! reals {
    ($($t:ty: $round:ident),*) => {$(
        impl Real for $t {
            #[inline(always)]
            fn from_f64(value: f64) -> Self { $round(value) as Self }
            #[inline(always)]
            fn to_f64(self) -> f64 { self as f64 }
        }
    )*};
}
elements!(bool => Bool, u8 => U8, i32 => I32, u32 => U32, i64 => I64, u64 => U64, f32 => F32, f64 => F64);
reals!(u8: whole, i32: whole, u32: whole, i64: whole, u64: whole, f32: as_it_is, f64: as_it_is);

/// `as` cuts an integer's fraction off.
#[inline(always)]
fn whole(value: f64) -> f64 {
    value.round_ties_even()
}

/// `as` rounds a float to nearest itself.
#[inline(always)]
fn as_it_is(value: f64) -> f64 {
    value
}

impl Float for f32 {}
impl Float for f64 {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_from_floats_are_rounded() {
        let rounded = [2.6, -2.6, 0.5, 1.5, -0.4, f64::NAN].map(i32::from_f64);
        assert_eq!(rounded, [3, -3, 0, 2, 0, 0]);
        assert_eq!([255.4, 300.0, -0.6, -5.0].map(u8::from_f64), [255, 255, 0, 0]);
        assert_eq!([1e300, -1e300].map(i64::from_f64), [i64::MAX, i64::MIN]);
        assert_eq!(f32::from_f64(0.1), 0.1f32);
    }
}
