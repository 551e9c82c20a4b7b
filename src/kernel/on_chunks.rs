//! What a closure of the user's own makes of chunks.
//!
//! Owns: the kernel [`OnChunks`]. Must not know: the closure. Invariant: it sees each chunk once, in C order, and what it returns has the chunk's shape, or the run ends
//! with an error that says so.

use std::borrow::Cow;
use std::marker::PhantomData;

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::rows::vector;
use super::{Content, Fault, Kernel, Scratch, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Element, Layout};

/// `map_chunks`: inputs: chunks; output: a chunk of `U`s of the same shape.
pub(crate) struct OnChunks<U, F> {
    of: F,
    types: PhantomData<fn() -> U>,
}

/// Calls a closure with a chunk as an array: where it lies, or a copy in C order.
pub(crate) fn with_array<T: Element, R>(
    chunk: ChunkView<'_>,
    of: impl FnOnce(ArrayViewD<'_, T>) -> R,
) -> std::result::Result<R, Fault> {
    let elements: Cow<'_, [T]> = vector(chunk);
    let view = ArrayViewD::from_shape(IxDyn(chunk.shape()), &elements).map_err(|e| Fault::Because(e.to_string()))?;
    Ok(of(view))
}

impl<U, F> OnChunks<U, F> {
    pub(crate) fn new(of: F) -> Self {
        Self { of, types: PhantomData }
    }
}

impl<U, F> Kernel for OnChunks<U, F>
where
    U: Element,
    F: Fn(&[ChunkView<'_>]) -> std::result::Result<ArrayD<U>, Fault> + Send + Sync + 'static,
{
    fn name(&self) -> Cow<'static, str> {
        "map_chunks".into()
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

    /// What it takes beside its operands is not scratch, but counted as such: copies of the inputs, and what the closure returns, perhaps in another order.
    fn scratch_bytes(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> u64 {
        let of = |operand: &ChunkMeta<'_>| (operand.shape.iter().product::<usize>() * operand.dtype.bytes()) as u64;
        operands.iter().chain(operands.last()).map(of).sum()
    }

    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let made = (self.of)(inputs)?;
        let shape = outputs[0].shape();
        if made.shape() != shape {
            let found = made.shape();
            return Err(
                format!("the closure made shape {found:?} of a chunk of shape {shape:?}; it has to keep the shape").into()
            );
        }
        let made = made.as_standard_layout();
        let layout = Layout::contiguous(U::DTYPE, shape);
        let slice = made.as_slice().ok_or("the closure's array is no slice in standard layout")?;
        outputs[0].copy_from(ChunkView::from_slice(slice, &layout));
        Ok(())
    }
}
