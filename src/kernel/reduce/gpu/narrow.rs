//! Folds that need 64 bits, without them.
//!
//! Owns: what stands for 64-bit integers, for products and for moments in `f64` on a GPU that lacks these ([`NarrowFold`]), and which programs end in a number that such a GPU has. Must not
//! know: in which order elements come. Invariant: integers have the bits that they have in 64; so have products of floats but for their last places.

use super::super::Reduction;
use super::folds::Component;
use crate::kernel::map::{Instr, ScalarOp, ScalarProgram};
use crate::shape::DType;

/// A program without the cast to 64 bits in which it ends; `None` if it does not end in one, or if the fold of what is cast is not that of the result: another number, another order, or
/// a sum in `f32` of what was to be added in `f64`.
pub(in crate::kernel::reduce) fn before_widening(what: Reduction, program: &ScalarProgram) -> Option<ScalarProgram> {
    let (last, before) = program.code().split_last()?;
    let Instr::Op(ScalarOp::Cast, to, args) = last else { return None };
    let is_before = args[0].index() + 1 == before.len();
    let stripped = is_before.then(|| program.without_last())??;
    folds_alike(what, stripped.dtype(), *to).then_some(stripped)
}

/// Whether a fold of elements of up to 32 bits is that of the same elements, widened.
fn folds_alike(what: Reduction, from: DType, to: DType) -> bool {
    let is_counted = from == DType::Bool || from.is_unsigned();
    let keeps = match to {
        DType::I64 => is_counted || from.is_integer(),
        DType::U64 => is_counted,
        DType::F64 => from.is_float() && !matches!(what, Reduction::Sum | Reduction::Moments),
        _ => false,
    };
    keeps && from.bytes() <= 4
}

/// What elements of such a dtype are folded as: `f32`, `i32` or `u32`.
pub(super) fn item(dtype: DType) -> DType {
    match dtype {
        _ if dtype.is_float() => DType::F32,
        DType::I8 | DType::I16 | DType::I32 => DType::I32,
        _ => DType::U32,
    }
}

/// A fold whose results have more than one word for each component that is 64 bits wide elsewhere.
#[derive(Clone, Copy)]
pub(super) enum NarrowFold {
    /// Of integers, modulo 2^64.
    Sum,
    Product,
    /// Of `f32`: a mantissa of 64 bits, an exponent, and what more there is to say (1: negative, 2: infinite, 4: NaN).
    FloatProduct,
    /// Of `f32`: the mean is one of the elements and a distance from it.
    Moments,
}

impl NarrowFold {
    /// Of items of a dtype; `None` if one word is enough.
    pub(super) fn of(what: Reduction, item: DType) -> Option<Self> {
        match (what, item) {
            (Reduction::Moments, DType::F32) => Some(Self::Moments),
            (Reduction::Prod, DType::F32) => Some(Self::FloatProduct),
            (Reduction::Sum, DType::I32 | DType::U32) => Some(Self::Sum),
            (Reduction::Prod, DType::I32 | DType::U32) => Some(Self::Product),
            _ => None,
        }
    }

    pub(super) fn components(self) -> Vec<Component> {
        match self {
            Self::Sum | Self::Product => vec![("low", "U4", "u32"), ("high", "U4", "u32")],
            Self::FloatProduct => vec![("high", "U4", "u32"), ("low", "U4", "u32"), ("e", "I4", "i32"), ("kind", "U4", "u32")],
            Self::Moments => vec![("n", "U4", "u32"), ("origin", "F4", "f32"), ("mean", "F4", "f32"), ("rest", "F4", "f32")],
        }
    }

    pub(super) fn none(self) -> &'static str {
        match self {
            Self::Sum => "U4(0u), U4(0u)",
            Self::Product => "U4(1u), U4(0u)",
            Self::FloatProduct => "U4(0x80000000u), U4(0u), I4(-63), U4(0u)",
            Self::Moments => "U4(0u), F4(0.0), F4(0.0), F4(0.0)",
        }
    }

    pub(super) fn join(self) -> &'static str {
        match self {
            Self::Sum => {
                "    let low = a.low + b.low;
    return Four(low, a.high + b.high + select(U4(0u), U4(1u), low < a.low));
"
            }
            Self::Product => {
                "    return Four(a.low * b.low, u_high(a.low, b.low) + a.low * b.high + a.high * b.low);
"
            }
            // Exponents far beyond those of any number stay there.
            Self::FloatProduct => {
                "    let m = u_mantissas(a.high, a.low, b.high, b.low);
    let e = clamp(a.e + b.e + 64 - I4(m[2]), I4(-500000000), I4(500000000));
    return Four(m[0], m[1], e, ((a.kind ^ b.kind) & U4(1u)) | ((a.kind | b.kind) & U4(6u)));
"
            }
            Self::Moments => {
                "    let n = a.n + b.n;
    let d = opaque_f(opaque_f(b.origin - a.origin) + opaque_f(b.mean - a.mean));
    let share = F4(b.n) / F4(max(n, U4(1u)));
    let rest = a.rest + b.rest + d * d * (F4(a.n) * share);
    let bad = f_is_nan(a.rest) | f_is_nan(b.rest);
    let nan = bitcast<F4>(U4(0x7fc00000u) + U4(p.zero));
    let mean = opaque_f(a.mean + d * share);
    let no_a = a.n == U4(0u);
    let no_b = b.n == U4(0u);
    let kept = select(select(rest, a.rest, no_b), b.rest, no_a);
    return Four(n, select(a.origin, b.origin, no_a), select(select(mean, a.mean, no_b), b.mean, no_a), select(kept, nan, bad));
"
            }
        }
    }

    /// The statements that make the components of an element `x`, named as they are with `x_` before.
    pub(super) fn element(self, item: DType) -> &'static str {
        match (self, item) {
            (Self::Sum | Self::Product, DType::I32) => {
                "    let x_low = bitcast<U4>(x);
    let x_high = select(U4(0u), U4(0xffffffffu), x < I4(0));
"
            }
            (Self::Sum | Self::Product, _) => {
                "    let x_low = x;
    let x_high = U4(0u);
"
            }
            (Self::FloatProduct, _) => {
                "    let bits = bitcast<U4>(x);
    let size = bits & U4(0x7fffffffu);
    let more = size >= U4(0x7f800000u);
    let x_high = select(f_mantissa(size) << U4(8u), U4(0x80000000u), more);
    let x_low = U4(0u);
    let x_e = select(f_exponent(size) - 190, I4(-63), more);
    let kind = select(U4(0u), select(U4(4u), U4(2u), size == U4(0x7f800000u)), more);
    let x_kind = kind | (bits >> U4(31u));
"
            }
            (Self::Moments, _) => {
                "    let far = (bitcast<U4>(x) & U4(0x7fffffffu)) >= U4(0x7f800000u);
    let x_n = U4(1u);
    let x_origin = select(x, F4(0.0), far);
    let x_mean = F4(0.0);
    let x_rest = select(F4(0.0), bitcast<F4>(U4(0x7fc00000u) + U4(p.zero)), far);
"
            }
        }
    }

    /// The statements that write the words of a result.
    pub(super) fn write(self) -> &'static str {
        match self {
            Self::Sum | Self::Product => "    y[k] = vec2<u32>(a.low, a.high);\n",
            Self::FloatProduct => {
                "    let sign = (a.kind & 1u) << 31u;
    var bits = u_double(a.high, a.low, a.e, sign);
    if ((a.kind & 2u) != 0u) {
        bits = select(vec2<u32>(0u, sign | 0x7ff00000u), vec2<u32>(0u, 0x7ff80000u), a.high == 0u);
    }
    y[k] = select(bits, vec2<u32>(0u, 0x7ff80000u), (a.kind & 4u) != 0u);
"
            }
            Self::Moments => {
                "    y[k] = u_count_double(a.n);
    y[p.kept + k] = f_sum_double(a.origin, a.mean);
    y[2u * p.kept + k] = f_double(a.rest);
"
            }
        }
    }
}
