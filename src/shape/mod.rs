//! Shapes, dtypes, chunk grids, regions, and views of chunk bytes.
//!
//! Owns: what an element is ([`DType`], [`Element`]), how an axis is cut ([`ChunkGrid`]), a box of an array
//! ([`Region`]), and typed access to the bytes of one chunk ([`ChunkView`], [`ChunkViewMut`]).
//! Must not know: kernels, devices, tasks. Invariant: all sizes are checked; a shape whose bytes overflow `usize` cannot be
//! made into a grid.

mod affine;
mod class;
mod copy;
mod dtype;
mod form;
mod grid;
mod layout;
mod promote;
mod region;
mod scalar;
mod view;

pub use affine::{View, ViewAxis};
pub use class::{Bits, Comparable, Integer, Number, Ordered, Summed};
pub(crate) use dtype::with_dtype;
pub use dtype::{DType, Element, Float, Real};
pub use form::Form;
pub use grid::ChunkGrid;
pub use layout::Layout;
pub use promote::Promote;
pub use region::{AxisRange, Region};
pub use scalar::Scalar;
pub use view::{ChunkMeta, ChunkView, ChunkViewMut, Lies, Opaque};

use crate::error::{Error, Result};

/// Whether two slices are equal. For a few numbers, which may be none: the system's comparison of memory, which `==` calls, takes some 200 ns on CPUs with
/// AVX-512 to look at the address of an empty vector, which is nobody's.
pub(crate) fn same<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// Number of elements of `shape`, or an error if that (times 8 bytes) does not fit in memory addresses.
///
/// # Errors
/// [`Error::Shape`] when the element count times 8 overflows `isize`.
pub fn checked_len(op: &'static str, shape: &[usize]) -> Result<usize> {
    let mut len = 1usize;
    let mut nonzero = 1usize;
    for &n in shape {
        len = len.saturating_mul(n);
        nonzero = nonzero.saturating_mul(n.max(1));
    }
    if nonzero > isize::MAX as usize / 16 {
        return Err(Error::Shape { op, found: shape.to_vec(), wanted: "fewer than 2^59 elements".into() });
    }
    Ok(len)
}
