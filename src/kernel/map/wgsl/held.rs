//! How elements of a dtype are held while they are computed with.
//!
//! Owns: [`HeldAs`]. Must not know: memory. Invariant: integers of 8 and 16 bits are held in 32, of their own sign; halves as the `f32` that they are; complex numbers are
//! two vectors.

use crate::shape::{DType, Scalar};

/// A vector of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldAs {
    F32,
    F64,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

impl HeldAs {
    /// Of elements of a dtype, or of their parts.
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::Bool => Self::Bool,
            DType::I8 | DType::I16 | DType::I32 => Self::I32,
            DType::U8 | DType::U16 | DType::U32 => Self::U32,
            DType::I64 => Self::I64,
            DType::U64 => Self::U64,
            DType::F16 | DType::BF16 | DType::F32 | DType::C64 => Self::F32,
            DType::F64 | DType::C128 => Self::F64,
        }
    }

    /// What functions on it begin with.
    pub(super) fn prefix(self) -> &'static str {
        ["f", "d", "i", "u", "l", "m", "b"][self as usize]
    }

    /// Its alias.
    pub(super) fn vector(self) -> &'static str {
        ["F4", "D4", "I4", "U4", "L4", "M4", "B4"][self as usize]
    }

    /// One of the four.
    pub(super) fn scalar(self) -> &'static str {
        ["f32", "f64", "i32", "u32", "i64", "u64", "bool"][self as usize]
    }
}

/// Bits of the elements of a dtype, or of their parts.
pub(super) fn bits(dtype: DType) -> u32 {
    dtype.part().bytes() as u32 * 8
}

/// Whether they are fewer than those that they are held in, and integers.
pub(super) fn is_narrow(dtype: DType) -> bool {
    dtype.is_integer() && bits(dtype) < 32
}

/// The vectors of a constant: one, or of a complex number two.
pub(super) fn constant(scalar: Scalar) -> Vec<String> {
    let bytes = scalar.bytes();
    let dtype = scalar.dtype();
    bytes.chunks(dtype.part().bytes()).map(|bytes| part(dtype.part(), bytes)).collect()
}

fn part(dtype: DType, bytes: &[u8]) -> String {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let raw = u64::from_le_bytes(wide);
    let spare = 64 - 8 * bytes.len() as u32;
    let signed = (raw << spare) as i64 >> spare;
    let vector = HeldAs::of(dtype).vector();
    match dtype {
        DType::Bool => format!("B4({})", raw != 0),
        DType::I32 if signed == i64::from(i32::MIN) => "I4(bitcast<i32>(0x80000000u))".into(),
        DType::I8 | DType::I16 | DType::I32 => format!("I4({signed}i)"),
        DType::U8 | DType::U16 | DType::U32 => format!("U4({raw}u)"),
        DType::I64 if signed == i64::MIN => "L4(bitcast<i64>(0x8000000000000000lu))".into(),
        DType::I64 => format!("L4({signed}li)"),
        DType::U64 => format!("M4({raw}lu)"),
        DType::F64 => match f64::from_bits(raw) {
            x if x.is_normal() => format!("D4({x:e}lf)"),
            _ => format!("bitcast<D4>(M4({raw:#x}lu) + M4(u64(p.zero)))"),
        },
        DType::F16 => float(half::f16::from_bits(raw as u16).into()),
        DType::BF16 => float(half::bf16::from_bits(raw as u16).into()),
        DType::F32 => float(f32::from_bits(raw as u32)),
        DType::C64 | DType::C128 => unreachable!("{vector} is taken by its parts"),
    }
}

/// What a compiler may take for another number is no literal (and hidden otherwise than by `opaque_f`, which would undo that); nor is 0, by which it would take products to be 0, and sums to be the other number.
fn float(x: f32) -> String {
    match x.is_normal() {
        true => format!("F4({x:e}f)"),
        false => format!("bitcast<F4>(U4({:#x}u) + U4(p.zero))", x.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_literals_where_compilers_take_them_as_they_are() {
        let of = |scalar: Scalar| constant(scalar).join(" ");
        assert_eq!(of(1.5f32.into()), "F4(1.5e0f)");
        assert_eq!(of(0.0f32.into()), "bitcast<F4>(U4(0x0u) + U4(p.zero))");
        assert_eq!(of((-0.0f32).into()), "bitcast<F4>(U4(0x80000000u) + U4(p.zero))");
        assert_eq!(of(f64::INFINITY.into()), "bitcast<D4>(M4(0x7ff0000000000000lu) + M4(u64(p.zero)))");
        assert_eq!(of((-3i8).into()), "I4(-3i)");
        assert_eq!(of(i32::MIN.into()), "I4(bitcast<i32>(0x80000000u))");
        assert_eq!(of(num_complex::Complex::new(1f32, -2.0).into()), "F4(1e0f) F4(-2e0f)");
        assert_eq!(of(u64::MAX.into()), "M4(18446744073709551615lu)");
    }
}
