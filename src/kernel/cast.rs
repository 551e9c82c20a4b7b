//! Numbers as numbers of another type.
//!
//! Owns: the rules of conversion. Must not know: why. Invariant: each is Rust's `as`: to integers, floats are cut toward zero, saturate, and NaN is 0; integers
//! wrap; to floats, numbers are rounded to the nearest. To booleans, all but 0 is true; from them, 0 or 1.

use std::borrow::Cow;

use super::{Fault, Kernel, Scratch, Work, check_dtypes, check_params, for_each_piece};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, with_dtype};

/// Converts each element: one input, one output of the same shape; both of any dtype.
pub struct Cast;

impl Kernel for Cast {
    fn name(&self) -> Cow<'static, str> {
        "cast".into()
    }

    fn check(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<()> {
        check_params::<()>(self, params)?;
        check_dtypes(self, operands, &[DType::ALL, DType::ALL], 1)
    }

    /// One operation an element.
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 1.0)
    }

    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let to = outputs[0].layout().dtype;
        with_dtype!(inputs[0].layout().dtype, A => with_dtype!(to, B => {
            for_each_piece::<[A; 1], B>(inputs, &mut outputs[0], |[from], to| {
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = CastTo::<B>::cast(from));
            });
        }));
        Ok(())
    }
}

/// Conversion of one element.
trait CastTo<B> {
    fn cast(self) -> B;
}

macro_rules! numbers {
    ($($a:ty),*) => {$(
        numbers!(@ $a => u8, i32, u32, i64, u64, f32, f64);
        impl CastTo<bool> for $a {
            fn cast(self) -> bool {
                self != 0 as $a
            }
        }
        impl CastTo<$a> for bool {
            fn cast(self) -> $a {
                u8::from(self) as $a
            }
        }
    )*};
    (@ $a:ty => $($b:ty),*) => {$(
        impl CastTo<$b> for $a {
            fn cast(self) -> $b {
                self as $b
            }
        }
    )*};
}
numbers!(u8, i32, u32, i64, u64, f32, f64);

impl CastTo<bool> for bool {
    fn cast(self) -> bool {
        self
    }
}
