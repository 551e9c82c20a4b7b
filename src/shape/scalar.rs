//! One element of any dtype.
//!
//! Owns: [`Scalar`]. Must not know: arrays. Invariant: a scalar holds its element exactly, in the element's own type; what another type makes
//! of it is said where it is converted.

use half::{bf16, f16};
use num_complex::Complex;

use super::dtype::DType;
use crate::error::Error;

/// An element whose dtype is known only when the program runs: a fill value, a constant.
///
/// Two are equal if their dtypes and their bits are: NaN is equal to itself, and `0.0` is not `-0.0`.
///
/// ```
/// use chunkwise::ext::Scalar;
/// use chunkwise::DType;
/// let odd = (1i64 << 53) + 1;
/// let scalar = Scalar::from(odd);
/// assert_eq!((scalar.dtype(), scalar.get::<i64>()), (DType::I64, Some(odd)));
/// assert_eq!(scalar.get::<f64>(), None); // never quietly another number
/// assert_eq!(scalar.to_f64(), odd as f64); // rounded
/// assert_eq!(Scalar::from(f64::NAN), Scalar::from(f64::NAN));
/// ```
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scalar {
    /// `bool`.
    Bool(bool),
    /// `i8`.
    I8(i8),
    /// `u8`.
    U8(u8),
    /// `i16`.
    I16(i16),
    /// `u16`.
    U16(u16),
    /// `i32`.
    I32(i32),
    /// `u32`.
    U32(u32),
    /// `i64`.
    I64(i64),
    /// `u64`.
    U64(u64),
    /// `f16`.
    F16(f16),
    /// `bf16`.
    BF16(bf16),
    /// `f32`.
    F32(f32),
    /// `f64`.
    F64(f64),
    /// `Complex<f32>`.
    C64(Complex<f32>),
    /// `Complex<f64>`.
    C128(Complex<f64>),
}

impl Scalar {
    /// The element, if it is of this type.
    #[must_use]
    pub fn get<T: TryFrom<Self>>(self) -> Option<T> {
        T::try_from(self).ok()
    }

    /// The number as `f64`, for sums in `f64`: exact but for 64-bit integers beyond 2^53, which are rounded to nearest, ties to even.
    /// Booleans are 0 and 1; of a complex number it is the real part.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Bool(v) => f64::from(u8::from(v)),
            Self::I8(v) => f64::from(v),
            Self::U8(v) => f64::from(v),
            Self::I16(v) => f64::from(v),
            Self::U16(v) => f64::from(v),
            Self::I32(v) => f64::from(v),
            Self::U32(v) => f64::from(v),
            Self::I64(v) => v as f64,
            Self::U64(v) => v as f64,
            Self::F16(v) => v.to_f64(),
            Self::BF16(v) => v.to_f64(),
            Self::F32(v) => f64::from(v),
            Self::F64(v) => v,
            Self::C64(v) => f64::from(v.re),
            Self::C128(v) => v.re,
        }
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.dtype() == other.dtype() && self.bits() == other.bits()
    }
}

impl Eq for Scalar {}

impl std::hash::Hash for Scalar {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.dtype(), self.bits()).hash(state);
    }
}

macro_rules! scalars {
    ($($t:ty => $d:ident),*) => {
        impl Scalar {
            /// Its dtype.
            #[must_use]
            pub const fn dtype(self) -> DType {
                match self {
                    $(Self::$d(_) => DType::$d,)*
                }
            }
        }
        impl Scalar {
            /// The bytes in memory.
            #[must_use]
            pub fn bytes(self) -> Vec<u8> {
                self.bits()[..self.dtype().bytes()].to_vec()
            }

            /// The bytes in memory, then zeros; dtypes are not told apart.
            fn bits(self) -> [u8; 16] {
                let mut all = [0; 16];
                match self {
                    $(Self::$d(value) => all[..size_of::<$t>()].copy_from_slice(bytemuck::bytes_of(&value)),)*
                }
                all
            }
        }
        impl std::fmt::Display for Scalar {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$d(value) => value.fmt(f),)*
                }
            }
        }
        $(impl From<$t> for Scalar {
            fn from(value: $t) -> Self {
                Self::$d(value)
            }
        }
        impl TryFrom<Scalar> for $t {
            type Error = Error;

            /// # Errors
            /// [`Error::DType`] for a scalar of another dtype.
            fn try_from(scalar: Scalar) -> Result<Self, Error> {
                match scalar {
                    Scalar::$d(value) => Ok(value),
                    other => Err(Error::DType {
                        what: format!("the scalar {other}"),
                        found: other.dtype().to_string(),
                        wanted: format!("take it as {}, or convert it after", other.dtype()),
                    }),
                }
            }
        })*
    };
}
scalars!(bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64, f16 => F16, bf16 => BF16,
    f32 => F32, f64 => F64, Complex<f32> => C64, Complex<f64> => C128);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Element;

    fn there_and_back<T: Element>(values: &[T]) {
        for &value in values {
            let scalar: Scalar = value.into();
            assert_eq!(scalar.dtype(), T::DTYPE);
            assert_eq!(scalar.get::<T>(), Some(value));
            assert_eq!(scalar.to_string(), value.to_string());
            let text = serde_json::to_string(&scalar).unwrap();
            assert_eq!(serde_json::from_str::<Scalar>(&text).unwrap(), scalar, "{text}");
        }
    }

    #[test]
    fn each_dtype_is_held_exactly() {
        there_and_back(&[false, true]);
        there_and_back(&[0u8, 255]);
        there_and_back(&[i32::MIN, -1, i32::MAX]);
        there_and_back(&[u32::MAX]);
        there_and_back(&[i64::MIN, -(1 << 53) - 1, (1 << 53) + 1, i64::MAX]);
        there_and_back(&[(1u64 << 53) + 1, u64::MAX]);
        there_and_back(&[f32::MIN_POSITIVE, -1.5e-42]);
        there_and_back(&[0.1f64, -1e300]);
        there_and_back(&[i8::MIN, 127]);
        there_and_back(&[-7i16, i16::MIN]);
        there_and_back(&[u16::MAX]);
        there_and_back(&[f16::from_f32(1.5), f16::MIN_POSITIVE_SUBNORMAL]);
        there_and_back(&[bf16::from_f32(-1e30)]);
        there_and_back(&[Complex::new(1.5f32, -0.25)]);
        there_and_back(&[Complex::new(-1e300, 0.1)]);
        assert_eq!(Scalar::from(true).get::<u8>(), None);
        let error = i64::try_from(Scalar::from(7u64)).unwrap_err().to_string();
        assert!(error.contains("the scalar 7") && error.contains("u64"), "{error}");
    }

    #[test]
    fn equal_means_the_same_bits_and_dtype() {
        let all = [
            Scalar::from(0.0),
            Scalar::from(-0.0),
            Scalar::from(0f32),
            Scalar::from(0i64),
            Scalar::from(0u64),
            Scalar::from(false),
            Scalar::from(f64::NAN),
            Scalar::from(-f64::NAN),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all.iter().enumerate().all(|(j, b)| (a == b) == (i == j)), "{a}");
        }
    }

    #[test]
    fn to_f64_rounds_only_what_it_must() {
        assert_eq!(Scalar::from((1i64 << 53) + 1).to_f64(), 2f64.powi(53));
        assert_eq!(Scalar::from(u64::MAX).to_f64(), 2f64.powi(64));
        assert_eq!(Scalar::from(true).to_f64(), 1.0);
        assert_eq!(Scalar::from(0.1f32).to_f64(), f64::from(0.1f32));
        assert_eq!(Scalar::from(i32::MIN).to_f64(), -2f64.powi(31));
    }
}
