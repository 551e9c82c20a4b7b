//! Numbers as numbers of another type.
//!
//! Owns: the rules of conversion. Must not know: why. Invariant: each is Rust's `as`: to integers, floats are cut toward zero, saturate, and NaN is 0; integers
//! wrap; to floats, numbers are rounded to the nearest. To booleans, all but 0 is true; from them, 0 or 1. Complex numbers become real ones by their real part.

use std::borrow::Cow;

use half::{bf16, f16};
use num_complex::Complex;

use super::rows::extent;
use super::{Fault, Kernel, Scratch, Work, check_dtypes, check_params, for_each_piece};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Element, Real, with_dtype};

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
        let (from, to) = (inputs[0].layout().dtype, outputs[0].layout().dtype);
        macro_rules! direct {
            ($dtype:ident, $t:ident => $body:expr) => {
                with_dtype!(@ $dtype, $t => $body, [
                    Bool bool, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F32 f32, F64 f64
                ] _ => through_widest(inputs[0], &mut outputs[0]))
            };
        }
        direct!(from, A => direct!(to, B => {
            for_each_piece::<[A; 1], B>(inputs, &mut outputs[0], |[from], to| {
                to.iter_mut().zip(from).for_each(|(to, &from)| *to = CastTo::<B>::cast(from));
            });
        }));
        Ok(())
    }
}

/// Elements converted at once.
const STRIP: usize = 256;

/// Conversions that are rare: by way of `Complex<f64>`, which has all but the last digits of 64-bit integers.
fn through_widest(input: ChunkView<'_>, out: &mut ChunkViewMut<'_>) {
    fn widen<A: Widest>(input: ChunkView<'_>, (row, start): (usize, usize), to: &mut [Complex<f64>]) {
        let mut from = [A::default(); STRIP];
        let from = &mut from[..to.len()];
        input.read(row..row + 1, start..start + to.len(), from, [to.len(), 1]);
        to.iter_mut().zip(from).for_each(|(to, &mut from)| *to = from.wide());
    }
    fn narrow<B: Widest>(out: &mut ChunkViewMut<'_>, (row, start): (usize, usize), from: &[Complex<f64>]) {
        let mut to = [B::default(); STRIP];
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = B::narrow(from));
        out.write(row, start, &to[..from.len()]);
    }
    let widen = with_dtype!(input.layout().dtype, A => widen::<A>);
    let narrow = with_dtype!(out.layout().dtype, B => narrow::<B>);
    let (rows, len) = extent(input.shape());
    let mut strip = [Complex::new(0.0, 0.0); STRIP];
    for row in 0..rows {
        for start in (0..len).step_by(STRIP) {
            let strip = &mut strip[..STRIP.min(len - start)];
            widen(input, (row, start), strip);
            narrow(out, (row, start), strip);
        }
    }
}

/// Conversion to and from the widest type.
trait Widest: Element {
    fn wide(self) -> Complex<f64>;
    fn narrow(wide: Complex<f64>) -> Self;
}

macro_rules! widest {
    (numbers: $($t:ty),*) => {$(
        impl Widest for $t {
            fn wide(self) -> Complex<f64> {
                Complex::new(self as f64, 0.0)
            }
            fn narrow(wide: Complex<f64>) -> Self {
                wide.re as $t
            }
        }
    )*};
    (halves: $($t:ty),*) => {$(
        impl Widest for $t {
            fn wide(self) -> Complex<f64> {
                Complex::new(Real::to_f64(self), 0.0)
            }
            fn narrow(wide: Complex<f64>) -> Self {
                Real::from_f64(wide.re)
            }
        }
    )*};
    (complex: $($t:ty),*) => {$(
        impl Widest for Complex<$t> {
            fn wide(self) -> Complex<f64> {
                Complex::new(self.re.into(), self.im.into())
            }
            fn narrow(wide: Complex<f64>) -> Self {
                Complex::new(wide.re as $t, wide.im as $t)
            }
        }
    )*};
}
widest!(numbers: i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);
widest!(halves: f16, bf16);
widest!(complex: f32, f64);

impl Widest for bool {
    fn wide(self) -> Complex<f64> {
        Complex::new(f64::from(u8::from(self)), 0.0)
    }
    fn narrow(wide: Complex<f64>) -> Self {
        wide.re != 0.0 || wide.im != 0.0
    }
}

/// Conversion of one element.
trait CastTo<B> {
    fn cast(self) -> B;
}

macro_rules! numbers {
    ($($a:ty),*) => {$(
        numbers!(@ $a => i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);
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
numbers!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);

impl CastTo<bool> for bool {
    fn cast(self) -> bool {
        self
    }
}
