//! Arrays of golden files.
//!
//! Owns: how their elements are read from hexadecimal digits. Must not know: what is made of them. Invariant: dtype and shape are those that the file says.

use chunkwise::{Complex, Element};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

/// An element from its bytes.
pub trait FromBytes: Element {
    fn of(bytes: &[u8]) -> Self;
}
macro_rules! from_bytes {
    ($($t:ty),*) => {$(
        impl FromBytes for $t {
            fn of(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().unwrap())
            }
        }
    )*};
}
from_bytes!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);
impl FromBytes for bool {
    fn of(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}
macro_rules! complex_from_bytes {
    ($($t:ty),*) => {$(
        impl FromBytes for Complex<$t> {
            fn of(bytes: &[u8]) -> Self {
                let (re, im) = bytes.split_at(size_of::<$t>());
                Self::new(<$t>::of(re), <$t>::of(im))
            }
        }
    )*};
}
complex_from_bytes!(f32, f64);

/// The elements of array `at` of a file's arrays.
pub fn elements<T: FromBytes>(arrays: &[Value], at: &Value) -> ArrayD<T> {
    let array = &arrays[at.as_u64().unwrap() as usize];
    assert_eq!(array["dtype"], T::DTYPE.to_string());
    let shape: Vec<usize> = serde_json::from_value(array["shape"].clone()).unwrap();
    let digits = array["bytes"].as_str().unwrap();
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), bytes.chunks(T::DTYPE.bytes()).map(T::of).collect()).unwrap()
}
