//! Chunks of zeros.
//!
//! Owns: `zeros`. Must not know: what they stand for. Invariant: every byte of the output is 0, which is 0 in every dtype.

use super::{Fault, Kernel, Scratch, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Layout};
use std::borrow::Cow;

/// `zeros`: no input; output: a chunk of any shape and dtype.
pub struct Zeros;

impl Kernel for Zeros {
    fn name(&self) -> Cow<'static, str> {
        "zeros".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let bytes = operands.iter().map(|o| o.shape.iter().product::<usize>() as f64 * o.dtype.bytes() as f64).sum();
        Work { flops: 0.0, bytes }
    }

    fn run_cpu(
        &self,
        _params: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let out = &mut outputs[0];
        // A view of one zero, repeated along every axis.
        let layout = Layout { strides: vec![0; out.shape().len()], ..out.layout().clone() };
        let zero = [0u64; 1];
        macro_rules! fill {
            ($($d:ident => $t:ty),*) => {
                match layout.dtype {
                    $(crate::shape::DType::$d => out.copy_from(ChunkView::from_slice::<$t>(bytemuck::cast_slice(&zero), &layout)),)*
                    crate::shape::DType::Bool => out.copy_from(ChunkView::from_slice(&[false], &layout)),
                }
            };
        }
        fill!(U8 => u8, I32 => i32, U32 => u32, I64 => i64, U64 => u64, F32 => f32, F64 => f64);
        Ok(())
    }
}
