//! Numbers as files hold them: widths and byte orders that the crate's dtypes do not have.
//!
//! Owns: [`Stored`], decoding. Must not know: which format. Invariant: decoding writes every element it is given, and a
//! `bool` it makes is 0 or 1 whatever the file holds.

use crate::shape::{DType, Element, Scalar, with_dtype};

const _: () = assert!(cfg!(target_endian = "little"), "files are written little-endian by copying memory");

/// A number format on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F16,
    F32,
    F64,
}

/// A number format and its byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) number: Number,
    pub(crate) big_endian: bool,
}

impl Stored {
    /// The little-endian format that holds `dtype`.
    pub(crate) fn of(dtype: DType) -> Self {
        let number = match dtype {
            DType::Bool => Number::Bool,
            DType::U8 => Number::U8,
            DType::I32 => Number::I32,
            DType::U32 => Number::U32,
            DType::I64 => Number::I64,
            DType::U64 => Number::U64,
            DType::F32 => Number::F32,
            DType::F64 => Number::F64,
        };
        Self { number, big_endian: false }
    }

    /// Bytes per element in the file.
    pub(crate) fn bytes(self) -> usize {
        match self.number {
            Number::Bool | Number::I8 | Number::U8 => 1,
            Number::I16 | Number::U16 | Number::F16 => 2,
            Number::I32 | Number::U32 | Number::F32 => 4,
            Number::I64 | Number::U64 | Number::F64 => 8,
        }
    }

    /// The dtype in which it is delivered: the narrowest of [`DType`] that holds all its values.
    pub(crate) fn dtype(self) -> DType {
        match self.number {
            Number::Bool => DType::Bool,
            Number::U8 => DType::U8,
            Number::I8 | Number::I16 | Number::U16 | Number::I32 => DType::I32,
            Number::U32 => DType::U32,
            Number::I64 => DType::I64,
            Number::U64 => DType::U64,
            Number::F16 | Number::F32 => DType::F32,
            Number::F64 => DType::F64,
        }
    }

    /// Zero, as it is delivered.
    pub(crate) fn zero(self) -> Scalar {
        with_dtype!(self.dtype(), T => T::default().into())
    }

    /// Whether its bytes are in the other order than memory's.
    pub(crate) fn is_swapped(self) -> bool {
        self.big_endian && self.bytes() > 1
    }

    /// Whether the bytes in the file are those of `dtype` in memory.
    pub(crate) fn is_native(self, dtype: DType) -> bool {
        !self.is_swapped() && self.number != Number::Bool && self == Self { big_endian: self.big_endian, ..Self::of(dtype) }
    }
}

/// Element types into which stored numbers are decoded.
pub(crate) trait Decoded: Element {
    /// The memory of `slice`, if any bytes are valid there.
    fn bytes_mut(slice: &mut [Self]) -> Option<&mut [u8]>;
    /// The memory of `slice`.
    fn bytes(slice: &[Self]) -> &[u8];
    /// Decodes `from`, which holds as many elements as `to`.
    ///
    /// # Panics
    /// If `stored` does not convert to this type: callers ask for its own dtype, `f32` or `f64` only.
    fn decode(stored: Stored, from: &[u8], to: &mut [Self]);

    /// The element that `scalar` is, or for `f32` and `f64` the one that it is read as.
    ///
    /// # Panics
    /// As [`Decoded::decode`].
    fn of(scalar: Scalar) -> Self {
        let mut one = [Self::default()];
        with_dtype!(scalar.dtype(), T => {
            let value = scalar.get::<T>().unwrap_or_default(); // of its own dtype
            Self::decode(Stored::of(T::DTYPE), T::bytes(&[value]), &mut one);
        });
        one[0]
    }
}

/// The element of `dtype` whose memory is the beginning of `native`.
#[cfg(feature = "hdf5")]
pub(crate) fn from_memory(dtype: DType, native: &[u8]) -> Scalar {
    with_dtype!(dtype, T => {
        let mut one = [T::default()];
        T::decode(Stored::of(dtype), &native[..dtype.bytes()], &mut one);
        one[0].into()
    })
}

fn each<const N: usize, T>(from: &[u8], big_endian: bool, to: &mut [T], value: impl Fn([u8; N]) -> T) {
    let (words, rest) = from.as_chunks::<N>();
    assert!(rest.is_empty() && words.len() == to.len(), "{} bytes for {} elements of {N}", from.len(), to.len());
    if big_endian {
        for (out, &word) in to.iter_mut().zip(words) {
            let mut word = word;
            word.reverse();
            *out = value(word);
        }
    } else {
        for (out, &word) in to.iter_mut().zip(words) {
            *out = value(word);
        }
    }
}

macro_rules! decode_body {
    ($t:ty, $stored:ident, $from:ident, $to:ident, $($number:ident => $v:ty),*) => {
        match $stored.number {
            $(Number::$number => each($from, $stored.big_endian, $to, |b| <$v>::from_le_bytes(b) as $t),)*
            #[allow(unreachable_patterns)]
            other => unreachable!("{other:?} is not decoded to {}", <$t>::DTYPE),
        }
    };
}
macro_rules! pod_memory {
    () => {
        fn bytes_mut(slice: &mut [Self]) -> Option<&mut [u8]> {
            Some(bytemuck::cast_slice_mut(slice))
        }
        fn bytes(slice: &[Self]) -> &[u8] {
            bytemuck::cast_slice(slice)
        }
    };
}
macro_rules! integers {
    ($($t:ty: $($number:ident => $v:ty),*;)*) => {$(
        impl Decoded for $t {
            pod_memory!();
            fn decode(stored: Stored, from: &[u8], to: &mut [Self]) {
                decode_body!($t, stored, from, to, $($number => $v),*)
            }
        }
    )*};
}
integers! {
    u8: U8 => u8;
    i32: I8 => i8, I16 => i16, U16 => u16, I32 => i32;
    u32: U32 => u32;
    i64: I64 => i64;
    u64: U64 => u64;
}
macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Decoded for $t {
            pod_memory!();
            fn decode(stored: Stored, from: &[u8], to: &mut [Self]) {
                if stored.number == Number::Bool {
                    return each(from, false, to, |[b]| <$t>::from(u8::from(b != 0)));
                }
                if stored.number == Number::F16 {
                    return each(from, stored.big_endian, to, |b| <$t>::from(half(u16::from_le_bytes(b))));
                }
                decode_body!($t, stored, from, to, I8 => i8, U8 => u8, I16 => i16, U16 => u16, I32 => i32, U32 => u32,
                    I64 => i64, U64 => u64, F32 => f32, F64 => f64)
            }
        }
    )*};
}
floats!(f32, f64);

/// A half float (IEEE 754 binary16), exactly; NaNs keep their payload.
fn half(bits: u16) -> f32 {
    let [sign, exponent, fraction] = [bits >> 15, bits >> 10 & 31, bits & 1023].map(u32::from);
    let magnitude = match exponent {
        0 => (fraction as f32 * 2f32.powi(-24)).to_bits(), // subnormal
        31 => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign << 31 | magnitude)
}

impl Decoded for bool {
    fn bytes_mut(_: &mut [Self]) -> Option<&mut [u8]> {
        None
    }
    fn bytes(slice: &[Self]) -> &[u8] {
        bytemuck::cast_slice(slice)
    }
    fn decode(stored: Stored, from: &[u8], to: &mut [Self]) {
        assert!(stored.number == Number::Bool, "{:?} is not decoded to bool", stored.number);
        each(from, false, to, |[b]| b != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_both_byte_orders_and_tames_bools() {
        let be = Stored { number: Number::I16, big_endian: true };
        let mut ints = [0i32; 2];
        i32::decode(be, &[0xff, 0xfe, 0x01, 0x00], &mut ints);
        assert_eq!(ints, [-2, 256]);
        let mut floats = [0f64; 1];
        f64::decode(Stored { number: Number::F32, big_endian: true }, &1.5f32.to_be_bytes(), &mut floats);
        assert_eq!(floats, [1.5]);
        let mut bools = [false; 3];
        bool::decode(Stored::of(DType::Bool), &[0, 1, 7], &mut bools);
        assert_eq!(bools, [false, true, true]);
    }

    #[test]
    fn halves_are_exact() {
        let mut one = [0f64];
        for (bits, value) in [
            (0x3c00u16, 1.0),
            (0xc580, -5.5),
            (0x7bff, 65504.0),
            (0x0001, 2f64.powi(-24)),
            (0x83ff, -1023.0 * 2f64.powi(-24)),
            (0x0400, 2f64.powi(-14)),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            f64::decode(Stored { number: Number::F16, big_endian: true }, &bits.to_be_bytes(), &mut one);
            assert_eq!(one, [value], "{bits:x}");
        }
        assert!(half(0x7e01).is_nan() && half(0x8000).to_bits() == 1 << 31);
    }

    #[test]
    fn native_means_the_same_bytes() {
        assert!(Stored::of(DType::F64).is_native(DType::F64));
        assert!(!Stored::of(DType::F64).is_native(DType::F32));
        assert!(!Stored { number: Number::F64, big_endian: true }.is_native(DType::F64));
        assert!(Stored { number: Number::U8, big_endian: true }.is_native(DType::U8));
        assert!(!Stored::of(DType::Bool).is_native(DType::Bool));
        assert!(!Stored { number: Number::I16, big_endian: false }.is_native(DType::I32));
    }
}
