//! The loops: each does one operation, or two, on a strip.
//!
//! Owns: what an operation is on elements of a dtype, [`find`]. Must not know: programs, chunks. Invariant: a loop writes each element of its output, from those of
//! its operands at the same place; booleans are bytes, 0 or 1.
//!
//! Loops are plain ones over slices, which the compiler turns into vector code for each [`Isa`]. What is the same for several dtypes is one loop: sums and products of
//! signed and unsigned integers, choices, bits.

use bytemuck::{AnyBitPattern, NoUninit, cast_slice, cast_slice_mut};

use super::casts;
use super::isa::{Isa, Portable};
use super::math;
use super::table::ScalarOp;
use crate::shape::{DType, Scalar, with_dtype};

/// Operands of a loop, at most.
pub(super) const MOST_ARGS: usize = 4;

/// A loop: the strip that it writes, those that it reads, each of as many elements.
pub(super) type Loop<I> = fn(I, &mut [u8], &[&[u8]; MOST_ARGS]);

/// Two operations in one loop: what is between them stays in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TwoOps {
    /// `(a * b) * c`
    MulMul,
    /// `a * b + c`
    MulAdd,
    /// `a * b - c`
    MulSub,
    /// `c - a * b`
    SubFrom,
    /// `(a + b) * c`
    AddMul,
    /// `(a - b) * c`
    SubMul,
    /// `(a - b) * (a - b)`
    SubSquare,
    /// `(a + b) + c`
    AddAdd,
    /// `if a < b { c } else { d }`
    LtWhere,
    /// `if a <= b { c } else { d }`
    LeWhere,
    /// `if a == b { c } else { d }`
    EqWhere,
    /// `if a != b { c } else { d }`
    NeWhere,
}

/// What a loop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Does {
    One(ScalarOp),
    Two(TwoOps),
}

#[inline(always)]
pub(super) fn each1<A: AnyBitPattern + Copy, U: AnyBitPattern + NoUninit>(
    out: &mut [u8],
    args: &[&[u8]; MOST_ARGS],
    f: impl Fn(A) -> U,
) {
    let (out, a) = (cast_slice_mut::<u8, U>(out), cast_slice::<u8, A>(args[0]));
    out.iter_mut().zip(a).for_each(|(out, &a)| *out = f(a));
}

#[inline(always)]
fn each2<A: AnyBitPattern + Copy, U: AnyBitPattern + NoUninit>(
    out: &mut [u8],
    args: &[&[u8]; MOST_ARGS],
    f: impl Fn(A, A) -> U,
) {
    let (out, a, b) = (cast_slice_mut::<u8, U>(out), cast_slice::<u8, A>(args[0]), cast_slice::<u8, A>(args[1]));
    out.iter_mut().zip(a).zip(b).for_each(|((out, &a), &b)| *out = f(a, b));
}

#[inline(always)]
fn each3<A: AnyBitPattern + NoUninit>(out: &mut [u8], args: &[&[u8]; MOST_ARGS], f: impl Fn(A, A, A) -> A) {
    let (a, b, c) = (cast_slice::<u8, A>(args[0]), cast_slice::<u8, A>(args[1]), cast_slice::<u8, A>(args[2]));
    cast_slice_mut::<u8, A>(out).iter_mut().zip(a).zip(b).zip(c).for_each(|(((out, &a), &b), &c)| *out = f(a, b, c));
}

#[inline(always)]
fn each4<A: AnyBitPattern + NoUninit>(out: &mut [u8], args: &[&[u8]; MOST_ARGS], f: impl Fn(A, A, A, A) -> A) {
    let [a, b, c, d] = args.map(|arg| cast_slice::<u8, A>(arg));
    let all = cast_slice_mut::<u8, A>(out).iter_mut().zip(a).zip(b).zip(c).zip(d);
    all.for_each(|((((out, &a), &b), &c), &d)| *out = f(a, b, c, d));
}

#[inline(always)]
fn choice<A: AnyBitPattern + NoUninit>(out: &mut [u8], args: &[&[u8]; MOST_ARGS]) {
    let (which, yes, no) = (args[0], cast_slice::<u8, A>(args[1]), cast_slice::<u8, A>(args[2]));
    let all = cast_slice_mut::<u8, A>(out).iter_mut().zip(which).zip(yes).zip(no);
    all.for_each(|(((out, &which), &yes), &no)| *out = if which != 0 { yes } else { no });
}

/// A loop of one, two, .. operands of type `$a`.
macro_rules! looped {
    ($each:ident, $a:ty => $u:ty, $f:expr) => {
        |isa: I, out: &mut [u8], args: &[&[u8]; MOST_ARGS]| {
            isa.call(
                #[inline(always)]
                || $each::<$a, $u>(out, args, $f),
            )
        }
    };
    ($each:ident, $a:ty, $f:expr) => {
        |isa: I, out: &mut [u8], args: &[&[u8]; MOST_ARGS]| {
            isa.call(
                #[inline(always)]
                || $each::<$a>(out, args, $f),
            )
        }
    };
    ($each:ident, $a:ty) => {
        |isa: I, out: &mut [u8], args: &[&[u8]; MOST_ARGS]| {
            isa.call(
                #[inline(always)]
                || $each::<$a>(out, args),
            )
        }
    };
}

/// The loop of an operation or of two on operands of dtype `from` (of a choice, what is chosen from), whose result is `to`.
pub(super) fn find<I: Isa>(does: Does, from: DType, to: DType) -> Loop<I> {
    use ScalarOp::*;
    let found = match does {
        Does::Two(pair) => pairs::<I>(pair, from),
        Does::One(Cast) => casts::find::<I>(from, to),
        Does::One(Where) => choices::<I>(from),
        Does::One(And | Or | Xor | Not) => bits::<I>(does, from),
        Does::One(Re | Im | Compose) => complex::<I>(does, from),
        Does::One(op) => match from {
            DType::F64 => of_f64::<I>(op),
            DType::F32 => of_f32::<I>(op),
            _ => words::<I>(op, from).or_else(|| integers::<I>(op, from)),
        },
    };
    found.unwrap_or_else(|| unreachable!("{does:?} of {from}"))
}

fn choices<I: Isa>(dtype: DType) -> Option<Loop<I>> {
    Some(match dtype.bytes() {
        1 => looped!(choice, u8),
        2 => looped!(choice, u16),
        4 => looped!(choice, u32),
        8 if !dtype.is_complex() => looped!(choice, u64),
        _ => return None,
    })
}

fn bits<I: Isa>(does: Does, dtype: DType) -> Option<Loop<I>> {
    Some(match does {
        Does::One(ScalarOp::And) => looped!(each2, u8 => u8, |a, b| a & b),
        Does::One(ScalarOp::Or) => looped!(each2, u8 => u8, |a, b| a | b),
        Does::One(ScalarOp::Xor) => looped!(each2, u8 => u8, |a, b| a ^ b),
        _ if dtype == DType::Bool => looped!(each1, u8 => u8, |a| a ^ 1),
        _ => looped!(each1, u8 => u8, |a: u8| !a),
    })
}

fn complex<I: Isa>(does: Does, dtype: DType) -> Option<Loop<I>> {
    use ScalarOp::{Compose, Im, Re};
    Some(match (does, dtype) {
        (Does::One(Re), DType::C128) => looped!(each1, [f64; 2] => f64, |z| z[0]),
        (Does::One(Im), DType::C128) => looped!(each1, [f64; 2] => f64, |z| z[1]),
        (Does::One(Re), DType::C64) => looped!(each1, [f32; 2] => f32, |z| z[0]),
        (Does::One(Im), DType::C64) => looped!(each1, [f32; 2] => f32, |z| z[1]),
        (Does::One(Compose), DType::F64) => looped!(each2, f64 => [f64; 2], |a, b| [a, b]),
        (Does::One(Compose), DType::F32) => looped!(each2, f32 => [f32; 2], |a, b| [a, b]),
        _ => return None,
    })
}

/// Operations that are the same on signed and unsigned integers, and on booleans.
fn words<I: Isa>(op: ScalarOp, dtype: DType) -> Option<Loop<I>> {
    macro_rules! of {
        ($t:ty) => {
            match op {
                ScalarOp::Add => looped!(each2, $t => $t, |a, b| a.wrapping_add(b)),
                ScalarOp::Sub => looped!(each2, $t => $t, |a, b| a.wrapping_sub(b)),
                ScalarOp::Mul => looped!(each2, $t => $t, |a, b| a.wrapping_mul(b)),
                ScalarOp::Neg => looped!(each1, $t => $t, |a: $t| a.wrapping_neg()),
                ScalarOp::Eq => looped!(each2, $t => u8, |a, b| u8::from(a == b)),
                ScalarOp::Ne => looped!(each2, $t => u8, |a, b| u8::from(a != b)),
                _ => return None,
            }
        };
    }
    Some(match dtype.bytes() {
        1 => of!(u8),
        2 => of!(u16),
        4 => of!(u32),
        _ => of!(u64),
    })
}

fn integers<I: Isa>(op: ScalarOp, dtype: DType) -> Option<Loop<I>> {
    macro_rules! of {
        ($t:ty, $unsigned:ty, $abs:expr, $sign:expr, $beyond:expr) => {
            match op {
                ScalarOp::Div => looped!(each2, $t => $t, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
                ScalarOp::Rem => looped!(each2, $t => $t, |a, b| if b == 0 { 0 } else { a.wrapping_rem(b) }),
                ScalarOp::DivEuclid => looped!(each2, $t => $t, |a, b| if b == 0 { 0 } else { a.wrapping_div_euclid(b) }),
                ScalarOp::RemEuclid => looped!(each2, $t => $t, |a, b| if b == 0 { 0 } else { a.wrapping_rem_euclid(b) }),
                ScalarOp::Abs => looped!(each1, $t => $t, $abs),
                ScalarOp::Sign => looped!(each1, $t => $t, $sign),
                ScalarOp::Minimum => looped!(each2, $t => $t, |a, b| if b < a { b } else { a }),
                ScalarOp::Maximum => looped!(each2, $t => $t, |a, b| if b > a { b } else { a }),
                ScalarOp::Lt => looped!(each2, $t => u8, |a, b| u8::from(a < b)),
                ScalarOp::Le => looped!(each2, $t => u8, |a, b| u8::from(a <= b)),
                ScalarOp::Shl => looped!(each2, $t => $t, |a, b| if (b as $unsigned) < <$t>::BITS as $unsigned {
                    a.wrapping_shl(b as u32)
                } else {
                    0
                }),
                ScalarOp::Shr => looped!(each2, $t => $t, |a, b| if (b as $unsigned) < <$t>::BITS as $unsigned {
                    a.wrapping_shr(b as u32)
                } else {
                    $beyond(a)
                }),
                _ => return None,
            }
        };
        (signed $t:ty, $unsigned:ty) => {
            of!($t, $unsigned, |a: $t| a.wrapping_abs(), |a: $t| a.signum(), |a: $t| a >> (<$t>::BITS - 1))
        };
        ($t:ty) => {
            of!($t, $t, |a: $t| a, |a: $t| a.min(1), |_: $t| 0)
        };
    }
    Some(match dtype {
        DType::Bool | DType::U8 => of!(u8),
        DType::U16 => of!(u16),
        DType::U32 => of!(u32),
        DType::U64 => of!(u64),
        DType::I8 => of!(signed i8, u8),
        DType::I16 => of!(signed i16, u16),
        DType::I32 => of!(signed i32, u32),
        DType::I64 => of!(signed i64, u64),
        _ => return None,
    })
}

/// A float that is computed with as an `f64`, and rounded once.
trait Wide: Copy {
    fn wide(self) -> f64;
    fn narrow(wide: f64) -> Self;
}

impl Wide for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide
    }
}

impl Wide for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }
    #[inline(always)]
    fn narrow(wide: f64) -> Self {
        wide as f32
    }
}

/// A periodic function: fast where its argument is not large, and exact for what is left.
#[inline(always)]
fn periodic<I: Isa, T: Wide + AnyBitPattern + NoUninit>(
    isa: I,
    out: &mut [u8],
    args: &[&[u8]; MOST_ARGS],
    (fast, any): (impl Fn(f64) -> f64, fn(f64) -> f64),
) {
    let mut are_small = true;
    isa.call(
        #[inline(always)]
        || {
            each1::<T, T>(out, args, |a| T::narrow(fast(a.wide())));
            let is_small = |all: bool, a: &T| all & (a.wide().abs() <= math::TRIG_LIMIT);
            are_small = cast_slice::<u8, T>(args[0]).iter().fold(true, is_small);
        },
    );
    if !are_small {
        let all = cast_slice_mut::<u8, T>(out).iter_mut().zip(cast_slice::<u8, T>(args[0]));
        all.filter(|(_, a)| a.wide().abs() > math::TRIG_LIMIT || a.wide().is_nan())
            .for_each(|(out, a)| *out = T::narrow(any(a.wide())));
    }
}

/// The operations on floats of one type.
macro_rules! floats {
    ($name:ident, $functions:ident, $t:ty) => {
        fn $name<I: Isa>(op: ScalarOp) -> Option<Loop<I>> {
            macro_rules! one {
                ($f:expr) => { looped!(each1, $t => $t, $f) };
            }
            macro_rules! two {
                ($f:expr) => { looped!(each2, $t => $t, $f) };
            }
            macro_rules! test {
                ($f:expr) => { looped!(each1, $t => u8, $f) };
            }
            Some(match op {
                ScalarOp::Add => two!(|a, b| a + b),
                ScalarOp::Sub => two!(|a, b| a - b),
                ScalarOp::Mul => two!(|a, b| a * b),
                ScalarOp::Div => two!(|a, b| a / b),
                ScalarOp::Rem => two!(|a, b| a % b),
                ScalarOp::DivEuclid => two!(|a: $t, b: $t| a.div_euclid(b)),
                ScalarOp::RemEuclid => two!(|a: $t, b: $t| a.rem_euclid(b)),
                ScalarOp::Neg => one!(|a: $t| -a),
                ScalarOp::Abs => one!(|a: $t| a.abs()),
                ScalarOp::Sign => one!(|a: $t| if a > 0.0 { 1.0 } else if a < 0.0 { -1.0 } else { a }),
                // Of equal numbers, zeros, the bits of both say which is negative.
                ScalarOp::Minimum => two!(|a: $t, b: $t| {
                    let equal = <$t>::from_bits(a.to_bits() | b.to_bits());
                    if a < b { a } else if b < a { b } else if a == b { equal } else { a + b }
                }),
                ScalarOp::Maximum => two!(|a: $t, b: $t| {
                    let equal = <$t>::from_bits(a.to_bits() & b.to_bits());
                    if a > b { a } else if b > a { b } else if a == b { equal } else { a + b }
                }),
                ScalarOp::Fmin => two!(|a: $t, b: $t| {
                    let equal = <$t>::from_bits(a.to_bits() | b.to_bits());
                    if a < b || b.is_nan() { a } else if a == b { equal } else { b }
                }),
                ScalarOp::Fmax => two!(|a: $t, b: $t| {
                    let equal = <$t>::from_bits(a.to_bits() & b.to_bits());
                    if a > b || b.is_nan() { a } else if a == b { equal } else { b }
                }),
                ScalarOp::Copysign => two!(|a: $t, b: $t| a.copysign(b)),
                ScalarOp::Sqrt => one!(|a: $t| a.sqrt()),
                ScalarOp::Floor => one!(|a: $t| a.floor()),
                ScalarOp::Ceil => one!(|a: $t| a.ceil()),
                ScalarOp::Round => one!(|a: $t| a.round()),
                ScalarOp::Rint => one!(|a: $t| a.round_ties_even()),
                ScalarOp::Trunc => one!(|a: $t| a.trunc()),
                ScalarOp::Fract => one!(|a: $t| a - a.trunc()),
                ScalarOp::Eq => looped!(each2, $t => u8, |a, b| u8::from(a == b)),
                ScalarOp::Ne => looped!(each2, $t => u8, |a, b| u8::from(a != b)),
                ScalarOp::Lt => looped!(each2, $t => u8, |a, b| u8::from(a < b)),
                ScalarOp::Le => looped!(each2, $t => u8, |a, b| u8::from(a <= b)),
                ScalarOp::IsNan => test!(|a: $t| u8::from(a.is_nan())),
                ScalarOp::IsFinite => test!(|a: $t| u8::from(a.is_finite())),
                ScalarOp::IsInfinite => test!(|a: $t| u8::from(a.is_infinite())),
                _ => return $functions::<I>(op),
            })
        }

        /// Those that no instruction has.
        fn $functions<I: Isa>(op: ScalarOp) -> Option<Loop<I>> {
            macro_rules! wide {
                ($f:ident) => { looped!(each1, $t => $t, |a: $t| <$t>::narrow(math::$f(a.wide()))) };
                ($f:ident of two) => { looped!(each2, $t => $t, |a: $t, b: $t| <$t>::narrow(math::$f(a.wide(), b.wide()))) };
            }
            macro_rules! periodic {
                ($fast:ident, $any:ident) => {
                    |isa: I, out: &mut [u8], args: &[&[u8]; MOST_ARGS]| periodic::<I, $t>(isa, out, args, (math::$fast, math::$any))
                };
            }
            Some(match op {
                ScalarOp::Cbrt => wide!(cbrt),
                ScalarOp::Exp => wide!(exp),
                ScalarOp::Exp2 => wide!(exp2),
                ScalarOp::Expm1 => wide!(expm1),
                ScalarOp::Log => wide!(log),
                ScalarOp::Log2 => wide!(log2),
                ScalarOp::Log10 => wide!(log10),
                ScalarOp::Log1p => wide!(log1p),
                ScalarOp::Sin => periodic!(sin, sin_any),
                ScalarOp::Cos => periodic!(cos, cos_any),
                ScalarOp::Tan => periodic!(tan, tan_any),
                ScalarOp::Asin => wide!(asin),
                ScalarOp::Acos => wide!(acos),
                ScalarOp::Atan => wide!(atan),
                ScalarOp::Sinh => wide!(sinh),
                ScalarOp::Cosh => wide!(cosh),
                ScalarOp::Tanh => wide!(tanh),
                ScalarOp::Asinh => wide!(asinh),
                ScalarOp::Acosh => wide!(acosh),
                ScalarOp::Atanh => wide!(atanh),
                ScalarOp::Erf => wide!(erf),
                ScalarOp::Atan2 => wide!(atan2 of two),
                ScalarOp::Hypot => wide!(hypot of two),
                ScalarOp::Pow => wide!(pow of two),
                _ => return None,
            })
        }
    };
}
floats!(of_f64, functions_of_f64, f64);
floats!(of_f32, functions_of_f32, f32);

fn pairs<I: Isa>(pair: TwoOps, dtype: DType) -> Option<Loop<I>> {
    macro_rules! of {
        ($t:ty) => {
            match pair {
                TwoOps::MulMul => looped!(each3, $t, |a, b, c| a * b * c),
                TwoOps::MulAdd => looped!(each3, $t, |a, b, c| a * b + c),
                TwoOps::MulSub => looped!(each3, $t, |a, b, c| a * b - c),
                TwoOps::SubFrom => looped!(each3, $t, |a, b, c| c - a * b),
                TwoOps::AddMul => looped!(each3, $t, |a, b, c| (a + b) * c),
                TwoOps::SubMul => looped!(each3, $t, |a, b, c| (a - b) * c),
                TwoOps::SubSquare => looped!(each2, $t => $t, |a, b| (a - b) * (a - b)),
                TwoOps::AddAdd => looped!(each3, $t, |a, b, c| a + b + c),
                TwoOps::LtWhere => looped!(each4, $t, |a, b, c, d| if a < b { c } else { d }),
                TwoOps::LeWhere => looped!(each4, $t, |a, b, c, d| if a <= b { c } else { d }),
                TwoOps::EqWhere => looped!(each4, $t, |a, b, c, d| if a == b { c } else { d }),
                TwoOps::NeWhere => looped!(each4, $t, |a, b, c, d| if a != b { c } else { d }),
            }
        };
    }
    match dtype {
        DType::F64 => Some(of!(f64)),
        DType::F32 => Some(of!(f32)),
        _ => None,
    }
}

/// What an operation makes of constants: the bits that its loop gives.
pub(super) fn folded(op: ScalarOp, dtype: DType, args: &[Scalar]) -> Option<Scalar> {
    #[repr(align(16))]
    struct One([u8; 16]);
    let mut all = [const { One([0; 16]) }; MOST_ARGS];
    for (place, arg) in all.iter_mut().zip(args) {
        let bytes = arg.bytes();
        place.0[..bytes.len()].copy_from_slice(&bytes);
    }
    let mut slices = [&[][..]; MOST_ARGS];
    for ((slice, place), arg) in slices.iter_mut().zip(&all).zip(args) {
        *slice = &place.0[..arg.dtype().bytes()];
    }
    let from = args[usize::from(op == ScalarOp::Where)].dtype();
    let mut out = One([0; 16]);
    let out = &mut out.0[..dtype.bytes()];
    find::<Portable>(Does::One(op), from, dtype)(Portable, out, &slices);
    Some(with_dtype!(dtype in numbers, T => bytemuck::pod_read_unaligned::<T>(out).into(), _ => Scalar::Bool(out[0] != 0)))
}
