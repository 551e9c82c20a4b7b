//! How a user says shapes and chunks.
//!
//! Owns: [`IntoShape`], [`IntoChunks`], [`Auto`]. Must not know: how chunks are chosen where nobody says, beyond their size. Invariant: what is accepted covers the
//! array, each chunk with an element.

use std::ops::RangeFull;

use super::grids::CHUNK_BYTES;
use crate::error::{Error, Result};
use crate::shape::{ChunkGrid, DType};

/// A shape: a number (one axis), a tuple of up to eight, an array, a slice or a `Vec`.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// assert_eq!(Array::<f32>::random_uniform((2, 3)).shape(), [2, 3]);
/// assert_eq!(Array::<f32>::random_uniform(5).shape(), [5]);
/// assert_eq!(Array::<f32>::random_uniform(()).ndim(), 0);
/// ```
pub trait IntoShape {
    /// The extent of each axis.
    fn into_shape(self) -> Vec<usize>;
}

/// Chunks: one extent for every axis, or one for each as a tuple, an array or a slice; lists of extents; [`Auto`]. In a tuple `..` is a whole axis, and
/// [`Auto`] an extent by which the chunk has about 16 MiB.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// let a = Array::<f64>::random_uniform((10_000, 3000));
/// assert_eq!(a.clone().chunks(1000).grid().counts(), [10, 3]);
/// assert_eq!(a.clone().chunks((500, ..)).grid().counts(), [20, 1]);
/// assert_eq!(a.clone().chunks((Auto, 1000)).grid().counts(), [5, 3]);
/// assert_eq!(a.clone().chunks(vec![vec![4000, 6000], vec![3000]]).grid().counts(), [2, 1]);
/// assert_eq!(a.clone().chunks(7).chunks(Auto).grid(), a.grid());
/// ```
pub trait IntoChunks {
    /// The grid for an array of this shape and dtype.
    ///
    /// # Errors
    /// [`Error::Shape`] if an extent is 0, or there is not one for each axis.
    fn into_grid(self, shape: &[usize], dtype: DType) -> Result<ChunkGrid>;

    /// Whether the operation is to choose.
    #[doc(hidden)]
    fn is_automatic(&self) -> bool {
        false
    }
}

/// The grid that chunks are for an array of this shape and dtype. Whoever makes it, it must be one of that shape.
///
/// # Errors
/// [`Error::Shape`], as [`IntoChunks::into_grid`].
pub(super) fn checked_grid(chunks: impl IntoChunks, shape: &[usize], dtype: DType) -> Result<ChunkGrid> {
    let grid = chunks.into_grid(shape, dtype)?;
    if grid.shape() == shape {
        return Ok(grid);
    }
    Err(Error::Shape { op: "chunks", found: grid.shape().to_vec(), wanted: format!("a grid of the array's shape, {shape:?}") })
}

/// Chunks that the operation, shape, dtype and storage decide; of one axis, those that make a chunk of about 16 MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Auto;

impl IntoChunks for Auto {
    fn into_grid(self, shape: &[usize], dtype: DType) -> Result<ChunkGrid> {
        regular(shape, dtype, &vec![Extent::Fitting; shape.len()])
    }
    fn is_automatic(&self) -> bool {
        true
    }
}

/// What a tuple of chunks may have for an axis: a number, `..`, or [`Auto`].
pub trait IntoExtent: sealed::Sealed {
    #[doc(hidden)]
    fn into_extent(self) -> Extent;
}

pub(super) use sealed::Extent;

mod sealed {
    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed {}

    /// The extent of chunks along an axis.
    #[allow(unnameable_types)] // of a closed set
    #[derive(Clone, Copy)]
    pub enum Extent {
        /// So many elements.
        Elements(usize),
        /// The whole axis.
        Whole,
        /// As many as fit a chunk.
        Fitting,
    }
}

impl sealed::Sealed for usize {}
impl IntoExtent for usize {
    fn into_extent(self) -> Extent {
        Extent::Elements(self)
    }
}
impl sealed::Sealed for RangeFull {}
impl IntoExtent for RangeFull {
    fn into_extent(self) -> Extent {
        Extent::Whole
    }
}
impl sealed::Sealed for Auto {}
impl IntoExtent for Auto {
    fn into_extent(self) -> Extent {
        Extent::Fitting
    }
}

/// A grid of equal chunks: what is left of an automatic chunk's bytes goes to the axes that are to fit, the last first.
fn regular(shape: &[usize], dtype: DType, extents: &[Extent]) -> Result<ChunkGrid> {
    if extents.len() != shape.len() {
        let found = extents.iter().zip(shape.iter().chain(std::iter::repeat(&0)));
        let found = found.map(|(extent, &n)| if let Extent::Elements(extent) = *extent { extent } else { n }).collect();
        let wanted = format!("one extent for each axis of {shape:?}");
        return Err(Error::Shape { op: "chunks", found, wanted });
    }
    let said = |(extent, &n): (&Extent, &usize)| match *extent {
        Extent::Elements(extent) => Some(extent),
        Extent::Whole => Some(n.max(1)),
        Extent::Fitting => None,
    };
    let mut chunk: Vec<Option<usize>> = extents.iter().zip(shape).map(said).collect();
    let taken = chunk.iter().zip(shape).filter_map(|(chunk, &n)| Some((*chunk)?.min(n).max(1)));
    let mut left = CHUNK_BYTES / taken.fold(dtype.bytes(), usize::saturating_mul);
    for (chunk, &n) in chunk.iter_mut().zip(shape).rev().filter(|(chunk, _)| chunk.is_none()) {
        let extent = left.clamp(1, n.max(1));
        *chunk = Some(extent);
        left /= extent;
    }
    ChunkGrid::regular(shape, &chunk.into_iter().flatten().collect::<Vec<_>>())
}

impl IntoShape for usize {
    fn into_shape(self) -> Vec<usize> {
        vec![self]
    }
}
impl IntoChunks for usize {
    fn into_grid(self, shape: &[usize], _: DType) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, &vec![self; shape.len()])
    }
}

macro_rules! extents {
    ($({$($generics:tt)*} $t:ty),*) => {$(
        impl<$($generics)*> IntoShape for $t {
            fn into_shape(self) -> Vec<usize> {
                self.to_vec()
            }
        }
        impl<$($generics)*> IntoChunks for $t {
            fn into_grid(self, shape: &[usize], _: DType) -> Result<ChunkGrid> {
                ChunkGrid::regular(shape, &self[..])
            }
        }
    )*};
}
extents!({const N: usize} [usize; N], {const N: usize} &[usize; N], {} &[usize], {} Vec<usize>, {} &Vec<usize>);

macro_rules! tuples {
    ($(($($name:ident),*)),*) => {$(
        impl IntoShape for ($(of!($name),)*) {
            fn into_shape(self) -> Vec<usize> {
                #[allow(non_snake_case)]
                let ($($name,)*) = self;
                vec![$($name),*]
            }
        }
        impl<$($name: IntoExtent),*> IntoChunks for ($($name,)*) {
            fn into_grid(self, shape: &[usize], dtype: DType) -> Result<ChunkGrid> {
                #[allow(non_snake_case)]
                let ($($name,)*) = self;
                regular(shape, dtype, &[$($name.into_extent()),*])
            }
        }
    )*};
}
macro_rules! of {
    ($name:ident) => {
        usize
    };
}
tuples!(
    (),
    (A),
    (A, B),
    (A, B, C),
    (A, B, C, D),
    (A, B, C, D, E),
    (A, B, C, D, E, F),
    (A, B, C, D, E, F, G),
    (A, B, C, D, E, F, G, H)
);

impl IntoChunks for Vec<Vec<usize>> {
    fn into_grid(self, shape: &[usize], _: DType) -> Result<ChunkGrid> {
        ChunkGrid::irregular(shape, &self)
    }
}

impl IntoChunks for ChunkGrid {
    fn into_grid(self, shape: &[usize], _: DType) -> Result<ChunkGrid> {
        if self.shape() == shape {
            return Ok(self);
        }
        Err(Error::Shape { op: "chunks", found: self.shape().to_vec(), wanted: format!("a grid of shape {shape:?}") })
    }
}
