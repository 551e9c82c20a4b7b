//! Elements that a function of the user's own makes of their indices.
//!
//! Owns: the kernel [`Indexed`]. Must not know: the function. Invariant: each element of a chunk is asked for once, with its index in the whole array.

use std::borrow::Cow;
use std::marker::PhantomData;

use ndarray::Dimension;

use super::rows::fill;
use super::{Content, Fault, Kernel, Scratch, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Element, Region};

/// `from_shape_fn`: no input; output: a chunk of `T`s, each made of its index. Parameters: [`Indexed::params`].
pub(crate) struct Indexed<T, D, F> {
    of: F,
    rank: usize,
    types: PhantomData<fn(D) -> T>,
}

impl<T, D, F> Indexed<T, D, F> {
    /// Of a function of indices of so many axes.
    pub(crate) fn new(of: F, rank: usize) -> Self {
        Self { of, rank, types: PhantomData }
    }
}

/// First index and step along each axis of a part of the array.
pub(crate) fn region_params(region: &Region) -> Vec<u8> {
    region.axes().iter().flat_map(|axis| [axis.start as u64, axis.step as u64]).flat_map(u64::to_ne_bytes).collect()
}

impl<T, D, F> Kernel for Indexed<T, D, F>
where
    T: Element,
    D: Dimension + 'static,
    F: Fn(D::Pattern) -> T + Send + Sync + 'static,
{
    fn name(&self) -> Cow<'static, str> {
        "from_shape_fn".into()
    }

    /// Closures without fields are not alike.
    fn content(&self) -> Content {
        Content::Local
    }

    /// Nobody knows what it does; ten operations an element are a guess.
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 10.0)
    }

    fn is_steady(&self) -> bool {
        false
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let word = |n: usize| bytes[8 * n..].first_chunk().map_or(0, |word| u64::from_ne_bytes(*word) as usize);
        let place = |axis: usize, at: usize| word(2 * axis) + word(2 * axis + 1) * at;
        let shape = outputs[0].shape();
        fill(&mut outputs[0], |row, start, piece: &mut [T]| {
            let (mut index, mut rest) = (D::zeros(self.rank), row);
            for axis in (0..self.rank.saturating_sub(1)).rev() {
                index[axis] = place(axis, rest % shape[axis]);
                rest /= shape[axis];
            }
            for (at, out) in piece.iter_mut().enumerate() {
                if let Some(last) = self.rank.checked_sub(1) {
                    index[last] = place(last, start + at);
                }
                *out = (self.of)(index.clone().into_pattern());
            }
        });
        Ok(())
    }
}
