//! A source that counts what is read of it.
//!
//! Owns: [`Counted`]. Must not know: who reads. Invariant: each element follows from its index, so that what is read can be told from what should have been.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use chunkwise::ext::{ChunkSource, ChunkView, ChunkViewMut, Lane, Layout, Region};
use chunkwise::{DType, Element, Result};

/// An array whose elements are made as they are read, in its own dtype only.
pub struct Counted<T> {
    shape: Vec<usize>,
    of: fn(&[usize]) -> T,
    read: AtomicUsize,
}

impl<T: Element> Counted<T> {
    /// An array of this shape, whose element at an index is what `of` says.
    pub fn new(shape: &[usize], of: fn(&[usize]) -> T) -> Self {
        Self { shape: shape.to_vec(), of, read: AtomicUsize::new(0) }
    }

    /// How many elements have been read since this was asked last.
    pub fn taken(&self) -> usize {
        self.read.swap(0, Relaxed)
    }
}

impl<T: Element> ChunkSource for Counted<T> {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn dtype(&self) -> DType {
        T::DTYPE
    }
    fn name(&self) -> String {
        "counted".into()
    }
    fn version_token(&self) -> String {
        String::new()
    }
    fn access(&self) -> String {
        "by counting".into()
    }
    fn lane(&self) -> Lane {
        Lane::Compute
    }
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        self.read.fetch_add(region.len(), Relaxed);
        let all = ndarray::ArrayD::from_shape_fn(ndarray::IxDyn(&region.shape()), |at| {
            let index = region.axes().iter().zip(ndarray::Dimension::slice(&at)).map(|(axis, at)| axis.start + at * axis.step);
            (self.of)(&index.collect::<Vec<_>>())
        });
        let all: Vec<T> = all.into_iter().collect();
        out.copy_from(ChunkView::from_slice(&all, &Layout::contiguous(T::DTYPE, &region.shape())));
        Ok(())
    }
}
