//! Element types.
//!
//! Owns: [`DType`], the one list of dtypes, and the sealed [`Element`]. Must not know: kernels. Invariant: `Element::DTYPE.bytes()` equals
//! `size_of::<T>()`, and every type here is valid for any bytes that its codec wrote.

use std::fmt;

use half::{bf16, f16};
use num_complex::Complex;

use super::class::{Number, Ordered, Summed};
use super::promote::Promote;
use super::scalar::Scalar;

/// Evaluates an expression with `$t` being the element type of a dtype: `with_dtype!(dtype, T => body)`. Of some dtypes only, and otherwise for the rest:
/// `with_dtype!(dtype in numbers, T => body, _ => rest)` for all but `bool`, `reals` for integers and floats (halves too).
macro_rules! with_dtype {
    (@ $dtype:expr, $t:ident => $body:expr, [$($d:ident $e:ty),*] $($rest:tt)*) => {
        match $dtype {
            $($crate::shape::DType::$d => {
                type $t = $e;
                $body
            })*
            $($rest)*
        }
    };
    ($dtype:ident in reals, $t:ident => $body:expr, _ => $rest:expr) => {
        $crate::shape::with_dtype!(@ $dtype, $t => $body, [
            I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F16 half::f16, BF16 half::bf16, F32 f32, F64 f64
        ] _ => $rest)
    };
    ($dtype:ident in numbers, $t:ident => $body:expr, _ => $rest:expr) => {
        $crate::shape::with_dtype!(@ $dtype, $t => $body, [
            I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F16 half::f16, BF16 half::bf16, F32 f32, F64 f64,
            C64 num_complex::Complex<f32>, C128 num_complex::Complex<f64>
        ] _ => $rest)
    };
    ($dtype:expr, $t:ident => $body:expr) => {
        $crate::shape::with_dtype!(@ $dtype, $t => $body, [
            Bool bool, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F16 half::f16, BF16 half::bf16,
            F32 f32, F64 f64, C64 num_complex::Complex<f32>, C128 num_complex::Complex<f64>
        ])
    };
}
pub(crate) use with_dtype;

/// The type of an array's elements, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// `bool`, one byte, 0 or 1.
    Bool,
    /// `i8`.
    I8,
    /// `u8`.
    U8,
    /// `i16`.
    I16,
    /// `u16`.
    U16,
    /// `i32`.
    I32,
    /// `u32`.
    U32,
    /// `i64`.
    I64,
    /// `u64`.
    U64,
    /// [`f16`](half::f16), IEEE 754 binary16: stored, cast, summed up in a mean; not otherwise computed with.
    F16,
    /// [`bf16`](half::bf16), the upper half of an `f32`: as `f16`.
    BF16,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
    /// [`Complex<f32>`](num_complex::Complex), NumPy's complex64: real part, then imaginary part.
    C64,
    /// [`Complex<f64>`](num_complex::Complex), NumPy's complex128.
    C128,
}

impl DType {
    /// All there are.
    pub const ALL: &'static [Self] = {
        use DType::*;
        &[Bool, I8, U8, I16, U16, I32, U32, I64, U64, F16, BF16, F32, F64, C64, C128]
    };

    /// Bytes per element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        with_dtype!(self, T => size_of::<T>())
    }

    /// The name that NumPy users know: `float64`, `int32`.
    #[must_use]
    pub const fn numpy_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::I8 => "int8",
            Self::U8 => "uint8",
            Self::I16 => "int16",
            Self::U16 => "uint16",
            Self::I32 => "int32",
            Self::U32 => "uint32",
            Self::I64 => "int64",
            Self::U64 => "uint64",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::C64 => "complex64",
            Self::C128 => "complex128",
        }
    }

    /// Whether it is `f32` or `f64`: the floats that are computed with.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is one of the eight integer types.
    #[must_use]
    pub const fn is_integer(self) -> bool {
        use DType::*;
        matches!(self, I8 | U8 | I16 | U16 | I32 | U32 | I64 | U64)
    }

    /// Whether it is one of the four unsigned integer types.
    pub(crate) const fn is_unsigned(self) -> bool {
        use DType::*;
        matches!(self, U8 | U16 | U32 | U64)
    }

    /// The dtype of the parts of complex numbers; of all else, itself.
    pub(crate) const fn part(self) -> Self {
        match self {
            Self::C64 => Self::F32,
            Self::C128 => Self::F64,
            other => other,
        }
    }

    /// Bytes at whose multiples its elements lie in memory: of complex numbers those of a part.
    #[must_use]
    pub const fn align(self) -> usize {
        match self {
            Self::C64 | Self::C128 => self.bytes() / 2,
            _ => self.bytes(),
        }
    }

    /// Booleans, integers and floats: all but complex numbers.
    pub(crate) const ORDERED: &'static [Self] = Self::ALL.split_at(Self::ALL.len() - 2).0;

    /// Integers and floats.
    pub(crate) const REALS: &'static [Self] = Self::ORDERED.split_at(1).1;

    /// A 0 of it; of `bool`, false.
    #[must_use]
    pub fn zero(self) -> Scalar {
        with_dtype!(self, T => T::default().into())
    }

    /// A 1 of it; of `bool`, true.
    #[must_use]
    pub fn one(self) -> Scalar {
        match self {
            Self::Bool => true.into(),
            Self::I8 => 1i8.into(),
            Self::U8 => 1u8.into(),
            Self::I16 => 1i16.into(),
            Self::U16 => 1u16.into(),
            Self::I32 => 1i32.into(),
            Self::U32 => 1u32.into(),
            Self::I64 => 1i64.into(),
            Self::U64 => 1u64.into(),
            Self::F16 => f16::ONE.into(),
            Self::BF16 => bf16::ONE.into(),
            Self::F32 => 1f32.into(),
            Self::F64 => 1f64.into(),
            Self::C64 => Complex::new(1f32, 0.0).into(),
            Self::C128 => Complex::new(1f64, 0.0).into(),
        }
    }

    /// Whether it is `Complex<f32>` or `Complex<f64>`.
    #[must_use]
    pub const fn is_complex(self) -> bool {
        matches!(self, Self::C64 | Self::C128)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::C64 => "c64",
            Self::C128 => "c128",
        })
    }
}

mod sealed {
    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed {}
}

/// A Rust type that can be an array's element. Sealed: the set is that of [`DType`].
pub trait Element:
    sealed::Sealed
    + Promote<Self, Output = Self>
    + Into<Scalar>
    + TryFrom<Scalar>
    + bytemuck::NoUninit
    + bytemuck::Zeroable
    + Default
    + PartialEq
    + fmt::Debug
    + fmt::Display
    + Send
    + Sync
    + 'static
{
    /// Its dtype.
    const DTYPE: DType;
}

/// An element that converts from and to `f64`: integers and floats.
pub trait Real: Element + PartialOrd + bytemuck::Pod {
    /// From `f64`, rounded to nearest, ties to even; integers saturate, and NaN gives 0.
    fn from_f64(value: f64) -> Self;
    /// To `f64`; 64-bit integers round to nearest.
    fn to_f64(self) -> f64;
}

/// `f32` or `f64`: what the numerical kernels are generic over.
pub trait Float: Real + Number<Magnitude = Self> + Ordered + Summed<Sum = Self> {}

macro_rules! elements {
    ($($t:ty => $d:ident),*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const DTYPE: DType = DType::$d;
        }
    )*};
}
elements!(bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64, f16 => F16, bf16 => BF16, f32 => F32, f64 => F64, Complex<f32> => C64, Complex<f64> => C128);

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
reals!(i8: whole, u8: whole, i16: whole, u16: whole, i32: whole, u32: whole, i64: whole, u64: whole);
reals!(f32: as_it_is, f64: as_it_is);

macro_rules! halves {
    ($($t:ty),*) => {$(
        impl Real for $t {
            fn from_f64(value: f64) -> Self { Self::from_f32(to_odd(value)) }
            fn to_f64(self) -> f64 { self.to_f64() }
        }
    )*};
}
halves!(f16, bf16);

/// The nearest `f32`, but where it is not exact the one beside with an odd last digit: a float of fewer digits that is rounded from there is what it would be rounded from
/// the `f64`. (The crate `half` cuts an `f64` to 20 digits first, so that it rounds ties that are none.)
fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value || !near.is_finite() {
        return near;
    }
    let beyond = f64::from(near).abs() > value.abs();
    f32::from_bits((near.to_bits() - u32::from(beyond)) | 1)
}

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
        assert_eq!([200.0, -128.5, -129.0].map(i8::from_f64), [127, -128, -128]);
        assert_eq!([1e300, -1e300].map(i64::from_f64), [i64::MAX, i64::MIN]);
        assert_eq!(f32::from_f64(0.1), 0.1f32);
        // Ties to even, once.
        assert_eq!(<f16 as Real>::from_f64(2049.0).to_f64(), 2048.0);
        assert_eq!(<bf16 as Real>::from_f64(1.0 + 2f64.powi(-8)).to_f64(), 1.0);
        assert_eq!(<bf16 as Real>::from_f64(1.0 + 2f64.powi(-8) + 2f64.powi(-40)).to_f64(), 1.0 + 2f64.powi(-7));
    }

    #[test]
    fn lists_of_dtypes_are_parts_of_the_list() {
        for &dtype in DType::ALL {
            let name = with_dtype!(dtype, T => T::DTYPE);
            assert_eq!(name, dtype);
            assert_eq!(with_dtype!(dtype, T => (size_of::<T>(), align_of::<T>())), (dtype.bytes(), dtype.align()));
            let number = with_dtype!(dtype in numbers, T => T::DTYPE == dtype, _ => false);
            assert_eq!(number, dtype != DType::Bool);
            let real = with_dtype!(dtype in reals, T => T::DTYPE == dtype, _ => false);
            assert_eq!(real, dtype != DType::Bool && !dtype.is_complex());
            assert_eq!((DType::REALS.contains(&dtype), DType::ORDERED.contains(&dtype)), (real, !dtype.is_complex()));
        }
    }
}
