//! Arrays as golden files have them.
//!
//! Owns: the bytes of elements as digits. Must not know: which file. Invariant: elements in C order, two digits a byte.

use chunkwise::Element;
use chunkwise::ndarray::ArrayD;
use chunkwise::shape::Scalar;

/// The bytes of all elements, as hexadecimal digits.
#[must_use]
pub fn hex<T: Element>(array: &ArrayD<T>) -> String {
    let of = |x: &T| -> Vec<u8> {
        let scalar: Scalar = (*x).into();
        scalar.bytes()
    };
    array.iter().flat_map(of).map(|byte| format!("{byte:02x}")).collect()
}
