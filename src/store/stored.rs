//! Numbers as files hold them: widths and byte orders that the crate's dtypes do not have.
//!
//! Owns: [`Stored`], decoding. Must not know: which format. Invariant: decoding writes every element it is given, and a
//! `bool` it makes is 0 or 1 whatever the file holds.

use half::{bf16, f16};
use num_complex::Complex;

use crate::shape::{DType, Element, Scalar, with_dtype};

const _: () = assert!(cfg!(target_endian = "little"), "files are written little-endian by copying memory");

/// A number format on disk: a dtype and its byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) dtype: DType,
    pub(crate) big_endian: bool,
}

impl Stored {
    /// The little-endian format that holds `dtype`.
    pub(crate) fn of(dtype: DType) -> Self {
        Self { dtype, big_endian: false }
    }

    /// Whether its bytes are in the other order than memory's.
    pub(crate) fn is_swapped(self) -> bool {
        self.big_endian && self.dtype.bytes() > 1
    }

    /// Whether the bytes in the file are those of `dtype` in memory.
    pub(crate) fn is_native(self, dtype: DType) -> bool {
        !self.is_swapped() && self.dtype != DType::Bool && self.dtype == dtype
    }
}

/// Element types into which stored numbers are decoded.
pub(crate) trait Decoded: Element {
    /// The memory of `slice`, if any bytes are valid there.
    fn bytes_mut(slice: &mut [Self]) -> Option<&mut [u8]>;
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
            Self::decode(Stored::of(T::DTYPE), bytemuck::bytes_of(&value), &mut one);
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

/// Elements of their own dtype.
fn own<T: Element + bytemuck::Pod>(stored: Stored, from: &[u8], to: &mut [T]) {
    assert!(stored.dtype == T::DTYPE, "{} is not decoded to {}", stored.dtype, T::DTYPE);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(to);
    bytes.copy_from_slice(from);
    if stored.is_swapped() {
        // Of complex numbers each part.
        match T::DTYPE.bytes() / if T::DTYPE.is_complex() { 2 } else { 1 } {
            2 => reverse::<2>(bytes),
            4 => reverse::<4>(bytes),
            _ => reverse::<8>(bytes),
        }
    }
}

fn reverse<const N: usize>(bytes: &mut [u8]) {
    bytes.as_chunks_mut::<N>().0.iter_mut().for_each(|word| word.reverse());
}

macro_rules! pod {
    ($($t:ty),*) => {$(
        impl Decoded for $t {
            fn bytes_mut(slice: &mut [Self]) -> Option<&mut [u8]> {
                Some(bytemuck::cast_slice_mut(slice))
            }
            fn decode(stored: Stored, from: &[u8], to: &mut [Self]) {
                own(stored, from, to);
            }
        }
    )*};
}
pod!(i8, u8, i16, u16, i32, u32, i64, u64, f16, bf16, Complex<f32>, Complex<f64>);

macro_rules! floats {
    ($($t:ty: $($d:ident $v:ty),*;)*) => {$(
        impl Decoded for $t {
            fn bytes_mut(slice: &mut [Self]) -> Option<&mut [u8]> {
                Some(bytemuck::cast_slice_mut(slice))
            }
            fn decode(stored: Stored, from: &[u8], to: &mut [Self]) {
                match stored.dtype {
                    DType::Bool => each(from, false, to, |[b]| <$t>::from(u8::from(b != 0))),
                    DType::F16 => each(from, stored.big_endian, to, |b| <$t>::from(f16::from_le_bytes(b))),
                    DType::BF16 => each(from, stored.big_endian, to, |b| <$t>::from(bf16::from_le_bytes(b))),
                    $(DType::$d => each(from, stored.big_endian, to, |b| <$v>::from_le_bytes(b) as $t),)*
                    _ => own(stored, from, to),
                }
            }
        }
    )*};
}
floats! {
    f32: I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F64 f64;
    f64: I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F32 f32;
}

impl Decoded for bool {
    fn bytes_mut(_: &mut [Self]) -> Option<&mut [u8]> {
        None
    }
    fn decode(stored: Stored, from: &[u8], to: &mut [Self]) {
        assert!(stored.dtype == DType::Bool, "{} is not decoded to bool", stored.dtype);
        each(from, false, to, |[b]| b != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_both_byte_orders_and_tames_bools() {
        let be = |dtype| Stored { dtype, big_endian: true };
        let mut ints = [0i16; 2];
        i16::decode(be(DType::I16), &[0xff, 0xfe, 0x01, 0x00], &mut ints);
        assert_eq!(ints, [-2, 256]);
        let mut floats = [0f64; 2];
        f64::decode(be(DType::I16), &[0xff, 0xfe, 0x01, 0x00], &mut floats);
        assert_eq!(floats, [-2.0, 256.0]);
        f64::decode(be(DType::F32), &[1.5f32.to_be_bytes(), (-2f32).to_be_bytes()].concat(), &mut floats);
        assert_eq!(floats, [1.5, -2.0]);
        let mut pair = [Complex::new(0f32, 0.0)];
        Complex::<f32>::decode(be(DType::C64), &[1.5f32.to_be_bytes(), (-2f32).to_be_bytes()].concat(), &mut pair);
        assert_eq!(pair, [Complex::new(1.5, -2.0)]);
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
            f64::decode(Stored { dtype: DType::F16, big_endian: true }, &bits.to_be_bytes(), &mut one);
            assert_eq!(one, [value], "{bits:x}");
        }
        f64::decode(Stored::of(DType::F16), &0x7e01u16.to_le_bytes(), &mut one);
        assert!(one[0].is_nan());
        f64::decode(Stored::of(DType::F16), &0x8000u16.to_le_bytes(), &mut one);
        assert_eq!(one[0].to_bits(), 1 << 63);
        f64::decode(Stored::of(DType::BF16), &0xc048u16.to_le_bytes(), &mut one);
        assert_eq!(one, [-3.125]);
    }

    #[test]
    fn native_means_the_same_bytes() {
        assert!(Stored::of(DType::F64).is_native(DType::F64));
        assert!(!Stored::of(DType::F64).is_native(DType::F32));
        assert!(!Stored { dtype: DType::F64, big_endian: true }.is_native(DType::F64));
        assert!(Stored { dtype: DType::U8, big_endian: true }.is_native(DType::U8));
        assert!(!Stored::of(DType::Bool).is_native(DType::Bool));
        assert!(!Stored::of(DType::I16).is_native(DType::I32));
    }
}
