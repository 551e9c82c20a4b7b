//! Closures over chunks.
//!
//! Owns: `map_chunks`, `zip_chunks`. Must not know: what closures do. Invariant: a closure is called for chunks alone, when they are computed, never while anything is locked.

use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD};

use super::super::Array;
use crate::error::{Result, or_panic};
use crate::kernel::on_chunks::{OnChunks, with_array};
use crate::shape::{ChunkView, Element};

impl<T: Element> Array<T> {
    /// What a closure makes of each chunk: any Rust code, which may look at all of the chunk, and is called by several threads at once. What it returns has the chunk's
    /// shape. It may be called more than once for a chunk, and must say the same then. (For elements alone, arithmetic on arrays and [`map!`](crate::map) are
    /// faster: they are put together with what stands around them.)
    ///
    /// ```
    /// use chunkwise::Array;
    /// let x = Array::from(vec![3, 1, 2, 9, 7, 8]).chunks(3);
    /// let sorted: Array<i32> = x.map_chunks(|chunk| {
    ///     let mut all = chunk.to_owned();
    ///     all.as_slice_mut().unwrap().sort();
    ///     all
    /// });
    /// assert_eq!(sorted.compute()?.as_slice(), Some(&[1, 2, 3, 7, 8, 9][..])); // each chunk by itself
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// If it panics, or returns another shape, computing ends with an error that names the chunk's task.
    pub fn map_chunks<U: Element>(&self, of: impl Fn(ArrayViewD<'_, T>) -> ArrayD<U> + Send + Sync + 'static) -> Array<U> {
        let kernel = OnChunks::<U, _>::new(move |chunks: &[ChunkView<'_>]| with_array(chunks[0], &of));
        or_panic(self.try_with_kernel(&[], Arc::new(kernel), &())) // it takes any chunk
    }

    /// What a closure makes of each chunk and the other array's at the same place. The other array has the same shape, and any dtype.
    ///
    /// ```
    /// use chunkwise::Array;
    /// let (x, y) = (Array::from(vec![1.0, 2.0]), Array::from(vec![3.0, 4.0]));
    /// let sum: Array<f64> = x.zip_chunks(&y, |x, y| &x + &y);
    /// assert_eq!(sum.compute()?.as_slice(), Some(&[4.0, 6.0][..]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes differ, or the arrays belong to two sessions. [`Array::try_zip_chunks`] returns that as an error.
    #[track_caller]
    pub fn zip_chunks<B: Element, U: Element>(
        &self,
        other: &Array<B>,
        of: impl Fn(ArrayViewD<'_, T>, ArrayViewD<'_, B>) -> ArrayD<U> + Send + Sync + 'static,
    ) -> Array<U> {
        or_panic(self.try_zip_chunks(other, of))
    }

    /// [`Array::zip_chunks`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::SessionMismatch`](crate::Error::SessionMismatch).
    pub fn try_zip_chunks<B: Element, U: Element>(
        &self,
        other: &Array<B>,
        of: impl Fn(ArrayViewD<'_, T>, ArrayViewD<'_, B>) -> ArrayD<U> + Send + Sync + 'static,
    ) -> Result<Array<U>> {
        let both = move |chunks: &[ChunkView<'_>]| with_array(chunks[0], |a| with_array(chunks[1], |b| of(a, b)))?;
        let kernel = OnChunks::<U, _>::new(both);
        self.try_with_kernel(&[other], Arc::new(kernel), &())
    }
}
