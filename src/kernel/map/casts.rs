//! Loops that convert.
//!
//! Owns: the rules of conversion. Must not know: why. Invariant: each is Rust's `as`: to integers, floats are cut toward zero, saturate, and NaN is 0; integers
//! wrap; to floats, numbers are rounded to the nearest. To booleans, all but 0 is true; from them, 0 or 1.

use bytemuck::{AnyBitPattern, NoUninit, cast_slice, cast_slice_mut};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::isa::{Isa, Portable};
use super::loops::{Loop, MOST_ARGS, each1};
use crate::shape::{DType, Real};

/// Conversion of one element; booleans are [`Byte`]s.
trait As<U> {
    fn to(self) -> U;
}

/// A boolean: 0 or 1.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
struct Byte(u8);

macro_rules! to {
    ($($a:ty),*) => {$(
        to!(@ $a => i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);
        impl As<Byte> for $a {
            #[inline(always)]
            fn to(self) -> Byte {
                Byte(u8::from(self != 0 as $a))
            }
        }
        impl As<$a> for Byte {
            #[inline(always)]
            fn to(self) -> $a {
                self.0 as $a
            }
        }
    )*};
    (@ $a:ty => $($b:ty),*) => {$(
        impl As<$b> for $a {
            #[inline(always)]
            fn to(self) -> $b {
                self as $b
            }
        }
    )*};
}
to!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);

impl As<Self> for Byte {
    #[inline(always)]
    fn to(self) -> Self {
        self
    }
}

/// With the type of a dtype, if it is a boolean, an integer, or a float that is computed with.
macro_rules! with_computed {
    ($dtype:expr, $t:ident => $body:expr) => {
        with_computed!(@ $dtype, $t => $body, Bool Byte, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F32 f32, F64 f64)
    };
    (common $dtype:expr, $t:ident => $body:expr) => {
        with_computed!(@ $dtype, $t => $body, Bool Byte, I32 i32, I64 i64, F32 f32, F64 f64)
    };
    (@ $dtype:expr, $t:ident => $body:expr, $($d:ident $e:ty),*) => {
        match $dtype {
            $(DType::$d => {
                type $t = $e;
                $body
            })*
            _ => None,
        }
    };
}

/// The loop from one dtype to another, neither complex; halves from and to `f32`, and from `f64`.
pub(super) fn find<I: Isa>(from: DType, to: DType) -> Option<Loop<I>> {
    let halves: Option<Loop<I>> = match (from, to) {
        (DType::F16, DType::F32) => {
            Some(|_, out, args| cast_slice::<u8, f16>(args[0]).convert_to_f32_slice(cast_slice_mut(out)))
        }
        (DType::BF16, DType::F32) => {
            Some(|_, out, args| cast_slice::<u8, bf16>(args[0]).convert_to_f32_slice(cast_slice_mut(out)))
        }
        (DType::F32, DType::F16) => {
            Some(|_, out, args| cast_slice_mut::<u8, f16>(out).convert_from_f32_slice(cast_slice(args[0])))
        }
        (DType::F32, DType::BF16) => {
            Some(|_, out, args| cast_slice_mut::<u8, bf16>(out).convert_from_f32_slice(cast_slice(args[0])))
        }
        (DType::F64, DType::F16) => Some(|_, out, args| each1::<f64, f16>(out, args, Real::from_f64)),
        (DType::F64, DType::BF16) => Some(|_, out, args| each1::<f64, bf16>(out, args, Real::from_f64)),
        _ => None,
    };
    // The common ones with the best instructions; all of them so would be a third of all loops.
    let common = || with_computed!(common from, A => with_computed!(common to, B => Some(fast::<I, A, B> as Loop<I>)));
    let any = || with_computed!(from, A => with_computed!(to, B => Some(plain::<I, A, B> as Loop<I>)));
    halves.or_else(common).or_else(any)
}

fn fast<I: Isa, A: As<B> + AnyBitPattern, B: AnyBitPattern + NoUninit>(isa: I, out: &mut [u8], args: &[&[u8]; MOST_ARGS]) {
    isa.call(
        #[inline(always)]
        || each1::<A, B>(out, args, A::to),
    );
}

fn plain<I: Isa, A: As<B> + AnyBitPattern, B: AnyBitPattern + NoUninit>(_: I, out: &mut [u8], args: &[&[u8]; MOST_ARGS]) {
    converted::<A, B>(out, args);
}

/// Compiled once, whatever the instruction set.
fn converted<A: As<B> + AnyBitPattern, B: AnyBitPattern + NoUninit>(out: &mut [u8], args: &[&[u8]; MOST_ARGS]) {
    Portable.call(|| each1::<A, B>(out, args, A::to));
}
