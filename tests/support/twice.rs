//! A kernel that tests of arrays use.
//!
//! Owns: [`Twice`]. Must not know: what is tested. Invariant: it has no GPU half, and says how many chunks it was run on.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use chunkwise::kernel::{Fault, Kernel, Scratch, Work, for_each_piece};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut};

/// Twice each element, `f64`; counts the chunks.
#[derive(Default)]
pub struct Twice(AtomicUsize);

impl Twice {
    /// How many chunks it was run on since it was last asked.
    pub fn chunks(&self) -> usize {
        self.0.swap(0, Relaxed)
    }
}

impl Kernel for Twice {
    fn name(&self) -> Cow<'static, str> {
        "tests::twice".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let elements = operands[0].shape.iter().product::<usize>() as f64;
        Work { flops: elements, bytes: 16.0 * elements }
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        self.0.fetch_add(1, Relaxed);
        for_each_piece::<[f64; 1], f64>(inputs, &mut outputs[0], |[x], out| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = 2.0 * x);
        });
        Ok(())
    }
}
