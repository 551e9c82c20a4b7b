//! How a user says chunks.
//!
//! Owns: [`IntoChunks`]. Must not know: how they are chosen where nobody says. Invariant: what is accepted covers the array, each chunk with an element.

use crate::error::{Error, Result};
use crate::shape::ChunkGrid;

/// What [`crate::Array::chunks`] takes.
pub trait IntoChunks {
    /// The grid for an array of this shape.
    ///
    /// # Errors
    /// [`Error::Shape`] if an extent is 0, or there is not one for each axis.
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid>;
}

impl IntoChunks for usize {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, &vec![self; shape.len()])
    }
}

impl<const N: usize> IntoChunks for [usize; N] {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, &self)
    }
}

macro_rules! tuples {
    ($(($($name:ident),*)),*) => {$(
        impl IntoChunks for ($(of!($name),)*) {
            fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
                #[allow(non_snake_case)]
                let ($($name,)*) = self;
                ChunkGrid::regular(shape, &[$($name),*])
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

impl IntoChunks for &[usize] {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::regular(shape, self)
    }
}

impl IntoChunks for Vec<Vec<usize>> {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        ChunkGrid::irregular(shape, &self)
    }
}

impl IntoChunks for ChunkGrid {
    fn into_grid(self, shape: &[usize]) -> Result<ChunkGrid> {
        if self.shape() == shape {
            return Ok(self);
        }
        Err(Error::Shape { op: "chunks", found: self.shape().to_vec(), wanted: format!("a grid of shape {shape:?}") })
    }
}
