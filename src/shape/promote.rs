//! The dtype of an operation on arrays of two dtypes.
//!
//! Owns: [`Promote`], and the one table that it and its documentation are made of. Must not know: operations. Invariant: the table is NumPy's
//! (`numpy.promote_types`), symmetric, and every dtype with itself is itself.

use half::{bf16, f16};
use num_complex::Complex;

use super::dtype::{DType, Element};

/// The names that the table has for complex numbers.
#[allow(non_camel_case_types)]
type c64 = Complex<f32>;
#[allow(non_camel_case_types)]
type c128 = Complex<f64>;

/// The one table: a row for each dtype, of what it is with each dtype in their order.
macro_rules! with_table {
    ($then:ident) => {
        $then! {
            bool: bool i8  u8  i16 u16 i32 u32 i64 u64 f32 f64 c64 c128;
            i8:   i8   i8  i16 i16 i32 i32 i64 i64 f64 f32 f64 c64 c128;
            u8:   u8   i16 u8  i16 u16 i32 u32 i64 u64 f32 f64 c64 c128;
            i16:  i16  i16 i16 i16 i32 i32 i64 i64 f64 f32 f64 c64 c128;
            u16:  u16  i32 u16 i32 u16 i32 u32 i64 u64 f32 f64 c64 c128;
            i32:  i32  i32 i32 i32 i32 i32 i64 i64 f64 f64 f64 c128 c128;
            u32:  u32  i64 u32 i64 u32 i64 u32 i64 u64 f64 f64 c128 c128;
            i64:  i64  i64 i64 i64 i64 i64 i64 i64 f64 f64 f64 c128 c128;
            u64:  u64  f64 u64 f64 u64 f64 u64 f64 u64 f64 f64 c128 c128;
            f32:  f32  f32 f32 f32 f32 f64 f64 f64 f64 f32 f64 c64 c128;
            f64:  f64  f64 f64 f64 f64 f64 f64 f64 f64 f64 f64 c128 c128;
            c64:  c64  c64 c64 c64 c64 c128 c128 c128 c128 c64 c128 c64 c128;
            c128: c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128 c128;
        }
    };
}

/// The table as text, for the documentation.
macro_rules! as_text {
    ($($a:ident: $($out:ident)*;)*) => {
        concat!(
            "| |", $(" ", stringify!($a), " |",)* "\n|---|", $(as_text!(@ $a),)* "\n",
            $("| **", stringify!($a), "** |", $(" ", stringify!($out), " |",)* "\n",)*
        )
    };
    (@ $a:ident) => { "---|" };
}
macro_rules! promotion_table {
    () => {
        with_table!(as_text)
    };
}

/// What an operation on elements of two types is computed in: NumPy's rule. Sealed: elements with elements.
///
/// A scalar has no say: it is of the array's dtype. `f16` and `bf16` are with themselves only: cast them first.
///
#[doc = promotion_table!()]
///
/// ```
/// use chunkwise::{Element, Promote};
/// fn dtype<A: Promote<B>, B: Element>() -> chunkwise::DType {
///     <A as Promote<B>>::Output::DTYPE
/// }
/// assert_eq!(dtype::<i32, f32>().numpy_name(), "float64");
/// assert_eq!(dtype::<u8, i8>().numpy_name(), "int16");
/// ```
pub trait Promote<Other>: sealed::Sealed<Other> {
    /// The common type.
    type Output: Element;
}

macro_rules! promotions {
    ($($a:ident: $($out:ident)*;)*) => {
        $(promotions!(@ $a; [bool i8 u8 i16 u16 i32 u32 i64 u64 f32 f64 c64 c128] [$($out)*]);)*

        /// The table, as data.
        const TABLE: &[(DType, &[DType])] = &[$((<$a>::DTYPE, &[$(<$out>::DTYPE),*])),*];
    };
    (@ $a:ident; [$($b:ident)*] [$($out:ident)*]) => {$(
        impl sealed::Sealed<$b> for $a {}
        impl Promote<$b> for $a {
            type Output = $out;
        }
    )*};
}
with_table!(promotions);

macro_rules! alone {
    ($($t:ty),*) => {$(
        impl sealed::Sealed<$t> for $t {}
        impl Promote<$t> for $t {
            type Output = $t;
        }
    )*};
}
alone!(f16, bf16);

mod sealed {
    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed<Other> {}
}

impl DType {
    /// The dtype of an operation on arrays of this dtype and of another, by the table of [`Promote`]; `None` if `f16` or `bf16` is to be computed with
    /// something else.
    ///
    /// ```
    /// use chunkwise::DType;
    /// assert_eq!(DType::I64.promote(DType::U64), Some(DType::F64));
    /// assert_eq!(DType::F16.promote(DType::F32), None);
    /// ```
    #[must_use]
    pub fn promote(self, other: Self) -> Option<Self> {
        let place = |dtype: Self| TABLE.iter().position(|row| row.0 == dtype);
        match (place(self), place(other)) {
            (Some(row), Some(column)) => Some(TABLE[row].1[column]),
            _ => (self == other).then_some(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NumPy's rule, said in another way: the smallest type that holds both, where integers of 32 bits and more need an `f64`.
    fn by_rule(a: DType, b: DType) -> DType {
        use DType::*;
        let rank = |d: DType| match d {
            Bool => 0,
            d if d.is_integer() => 1,
            F32 | F64 => 2,
            _ => 3,
        };
        let float_bits = |d: DType| match d {
            Bool | I8 | U8 | I16 | U16 | F32 | C64 => 32,
            _ => 64,
        };
        match rank(a).max(rank(b)) {
            0 => Bool,
            1 if a == Bool => b,
            1 if b == Bool => a,
            1 => {
                let signed = |d: DType| matches!(d, I8 | I16 | I32 | I64);
                let (wide, narrow) = if a.bytes() >= b.bytes() { (a, b) } else { (b, a) };
                let bytes = match (signed(a), signed(b)) {
                    (x, y) if x == y => return wide,
                    _ if signed(wide) && wide.bytes() > narrow.bytes() => wide.bytes(),
                    _ => 2 * if signed(a) { b.bytes() } else { a.bytes() },
                };
                [(1, I8), (2, I16), (4, I32), (8, I64)].iter().find(|x| x.0 == bytes).map_or(F64, |x| x.1)
            }
            most => match (most, float_bits(a).max(float_bits(b))) {
                (2, 32) => F32,
                (2, _) => F64,
                (_, 32) => C64,
                _ => C128,
            },
        }
    }

    #[test]
    fn the_table_is_numpys() {
        for (row, (a, of)) in TABLE.iter().enumerate() {
            assert_eq!(of.len(), TABLE.len());
            for (column, &found) in of.iter().enumerate() {
                let b = TABLE[column].0;
                assert_eq!(found, by_rule(*a, b), "{a} with {b}");
                assert_eq!(found, TABLE[column].1[row], "{a} with {b} is not {b} with {a}");
                assert_eq!(a.promote(b), Some(found));
            }
            assert_eq!(of[row], *a);
        }
        assert_eq!(DType::BF16.promote(DType::BF16), Some(DType::BF16));
        assert_eq!(DType::BF16.promote(DType::F16), None);
    }
}
