//! Element types.
//!
//! Owns: [`DType`] and the sealed [`Element`]. Must not know: kernels. Invariant: `Element::DTYPE.bytes()` equals
//! `size_of::<T>()`, and every type here is valid for any bytes that its codec wrote.

use std::fmt;

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

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that can be an array's element. Sealed: the set is that of [`DType`].
pub trait Element: sealed::Sealed + Copy + Default + PartialEq + fmt::Debug + fmt::Display + Send + Sync + 'static {
    /// Its dtype.
    const DTYPE: DType;
}

/// An element that converts from and to `f64` (rounding, or saturating for integers).
pub trait Real: Element + PartialOrd {
    /// From `f64`, rounded to nearest; integers saturate.
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
    ($($t:ty),*) => {$(
        impl Real for $t {
            fn from_f64(value: f64) -> Self { value as Self }
            fn to_f64(self) -> f64 { self as f64 }
        }
    )*};
}
elements!(bool => Bool, u8 => U8, i32 => I32, u32 => U32, i64 => I64, u64 => U64, f32 => F32, f64 => F64);
reals!(u8, i32, u32, i64, u64, f32, f64);
impl Float for f32 {}
impl Float for f64 {}
