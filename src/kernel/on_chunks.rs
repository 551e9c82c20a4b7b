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

/// `map_chunks`: inputs: chunks of `T`s; output: a chunk of `U`s of the same shape.
pub(crate) struct OnChunks<T, U, F> {
    of: F,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F> OnChunks<T, U, F> {
    pub(crate) fn new(of: F) -> Self {
        Self { of, types: PhantomData }
    }
}

impl<T, U, F> Kernel for OnChunks<T, U, F>
where
    T: Element,
    U: Element,
    F: Fn(&[ArrayViewD<'_, T>]) -> ArrayD<U> + Send + Sync + 'static,
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

    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let elements: Vec<Cow<'_, [T]>> = inputs.iter().map(|&input| vector(input)).collect();
        let views: Result<Vec<ArrayViewD<'_, T>>, _> = elements
            .iter()
            .zip(inputs)
            .map(|(elements, input)| ArrayViewD::from_shape(IxDyn(input.shape()), elements))
            .collect();
        let views = views.map_err(|e| Fault::Because(e.to_string()))?;
        let made = (self.of)(&views);
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
