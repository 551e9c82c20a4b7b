//! What the kernels' tests share: running a kernel on plain slices, numbers to feed it.
//!
//! Owns: nothing that is shipped. Must not know: any kernel. Invariant: the same numbers at every run.

use super::{Kernel, Scratch};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Element, Layout};

/// A chunk with its memory, in which its first element is number `first`.
pub(crate) struct Chunk<T> {
    pub(crate) data: Vec<T>,
    pub(crate) first: usize,
    pub(crate) layout: Layout,
}

impl<T: Element> Chunk<T> {
    pub(crate) fn new(shape: &[usize], data: Vec<T>) -> Self {
        Self { layout: Layout::contiguous(T::DTYPE, shape), first: 0, data }
    }

    pub(crate) fn filled(shape: &[usize], value: T) -> Self {
        Self::new(shape, vec![value; shape.iter().product()])
    }

    /// A window of a larger array: rows `gap` elements apart, neighbours in a row `step` apart.
    pub(crate) fn window(shape: [usize; 2], gap: usize, step: usize, value: T) -> Self {
        let row = shape[1] * step + gap;
        let layout = Layout { dtype: T::DTYPE, shape: shape.to_vec(), strides: vec![row as isize, step as isize] };
        Self { layout, first: 0, data: vec![value; shape[0] * row] }
    }

    pub(crate) fn view(&self) -> ChunkView<'_> {
        ChunkView::from_slice_at(&self.data, self.first, &self.layout)
    }

    /// The elements in C order.
    pub(crate) fn values(&self) -> Vec<T> {
        let (rows, len) = super::rows::extent(&self.layout.shape);
        (0..rows).flat_map(|r| (0..len).map(move |i| self.view().at(r, i))).collect()
    }

    /// Runs `kernel` with this as its only output.
    pub(crate) fn compute(&mut self, kernel: &dyn Kernel, params: &[u8], inputs: &[ChunkView<'_>]) {
        let metas = inputs.iter().map(|input| ChunkMeta::new(input.layout().dtype, input.shape()));
        let metas: Vec<_> = metas.chain([ChunkMeta::new(T::DTYPE, &self.layout.shape)]).collect();
        let mut scratch = vec![0xff; kernel.scratch_bytes(params, &metas) as usize];
        let mut outputs = [ChunkViewMut::from_slice(&mut self.data, &self.layout)];
        kernel.run_cpu(params, inputs, &mut outputs, &mut Scratch::new(&mut scratch)).unwrap();
    }
}

/// A chunk of any dtype.
pub(crate) trait AnyChunk {
    fn view(&self) -> ChunkView<'_>;
}

impl<T: Element> AnyChunk for Chunk<T> {
    fn view(&self) -> ChunkView<'_> {
        Self::view(self)
    }
}

/// `n` numbers in -0.5..0.5, times powers of two up to `2^spread` either way.
pub(crate) fn numbers(n: usize, spread: f64) -> Vec<f64> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 * 2f64.powi(-53) - 0.5
    };
    (0..n).map(|_| next() * 2f64.powi((next() * 2.0 * spread) as i32)).collect()
}
