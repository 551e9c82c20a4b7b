//! Operators: `+ - * / % - ! & | ^ << >>`, and those that rebind.
//!
//! Owns: for what they are there. Must not know: how they are computed. Invariant: each is its method of the same meaning (`+` is [`Array::try_add`] that panics).

use std::ops::{
    Add, AddAssign, BitAnd, BitAndAssign, BitOr, BitOrAssign, BitXor, BitXorAssign, Div, DivAssign, Mul, MulAssign, Neg, Not,
    Rem, RemAssign, Shl, ShlAssign, Shr, ShrAssign, Sub, SubAssign,
};

use num_complex::Complex;

use super::super::Array;
use super::map::{Common, Rhs};
use crate::error::{Result, or_panic};
use crate::kernel::map::ScalarOp;
use crate::shape::{Bits, Element, Integer, Number, Ordered, Promote};

macro_rules! operators {
    ($($trait:ident $method:ident $assign:ident $assign_method:ident $try:ident [$($class:ident)+] $op:ident $name:literal, $doc:literal;)*) => {$(
        impl<T: Element> Array<T> {
            #[doc = $doc]
            ///
            /// Shapes are broadcast, and dtypes promoted ([`Promote`]); a scalar is of the array's dtype.
            ///
            /// # Errors
            /// [`Error::Shape`](crate::Error::Shape) if the shapes cannot be broadcast to one, [`Error::SessionMismatch`](crate::Error::SessionMismatch).
            pub fn $try<O: Rhs<T>>(&self, other: O) -> Result<Array<Common<T, O>>>
            where
                T: Promote<O::Element>,
                Common<T, O>: $($class +)+,
            {
                self.map2(($name, ScalarOp::$op, Common::<T, O>::DTYPE), &other)
            }
        }

        operators!(@ &Array<T>: $trait $method $try [$($class)+]);
        operators!(@ Array<T>: $trait $method $try [$($class)+]);

        /// Rebinds: the array that was there is as it was for whoever has it.
        impl<T: Element, O: Rhs<T>> $assign<O> for Array<T>
        where
            T: $($class +)+ Promote<O::Element, Output = T>,
        {
            #[track_caller]
            fn $assign_method(&mut self, other: O) {
                *self = or_panic(self.$try(other));
            }
        }
    )*};
    (@ $array:ty: $trait:ident $method:ident $try:ident [$($class:ident)+]) => {
        impl<T: Element, O: Rhs<T>> $trait<O> for $array
        where
            T: Promote<O::Element>,
            Common<T, O>: $($class +)+,
        {
            type Output = Array<Common<T, O>>;

            #[track_caller]
            fn $method(self, other: O) -> Self::Output {
                or_panic(self.$try(other))
            }
        }
    };
}

operators! {
    Add add AddAssign add_assign try_add [Number] Add "add", "`a + b`, with an error instead of a panic. Of integers it wraps.";
    Sub sub SubAssign sub_assign try_sub [Number] Sub "subtract", "`a - b`, with an error instead of a panic. Of integers it wraps.";
    Mul mul MulAssign mul_assign try_mul [Number] Mul "multiply", "`a * b`, with an error instead of a panic. Of integers it wraps.";
    Div div DivAssign div_assign try_div [Number] Div "divide", "`a / b`, with an error instead of a panic. Of integers it is cut toward zero, by zero it is 0, and the least integer by -1 is itself; of complex numbers it is Smith's, as in NumPy.";
    BitAnd bitand BitAndAssign bitand_assign try_and [Bits] And "and", "`a & b`, bit by bit, with an error instead of a panic.";
    BitOr bitor BitOrAssign bitor_assign try_or [Bits] Or "or", "`a | b`, bit by bit, with an error instead of a panic.";
    BitXor bitxor BitXorAssign bitxor_assign try_xor [Bits] Xor "xor", "`a ^ b`, bit by bit, with an error instead of a panic.";
    Shl shl ShlAssign shl_assign try_shl [Integer] Shl "shift_left", "`a << b`, with an error instead of a panic. By the dtype's bits or more, or by a negative number, it is 0.";
    Shr shr ShrAssign shr_assign try_shr [Integer] Shr "shift_right", "`a >> b`, with an error instead of a panic; the sign is kept. By the dtype's bits or more, or by a negative number, it is 0, or -1 of a negative number.";
    Rem rem RemAssign rem_assign try_rem [Number Ordered] Rem "rem", "`a % b` as Rust has it, the sign being the first operand's (NumPy's has the second's: see [`Array::rem_euclid`]), with an error instead of a panic. Of integers by zero it is 0.";
}

macro_rules! scalars_on_the_left {
    ($($t:ty: $($trait:ident $method:ident $op:ident),*;)*) => {$($(
        impl $trait<&Array<$t>> for $t {
            type Output = Array<$t>;

            fn $method(self, array: &Array<$t>) -> Array<$t> {
                array.with(|b, x| {
                    let scalar = b.constant(self);
                    b.apply(ScalarOp::$op, &[scalar, x])
                })
            }
        }
        impl $trait<Array<$t>> for $t {
            type Output = Array<$t>;

            fn $method(self, array: Array<$t>) -> Array<$t> {
                $trait::$method(self, &array)
            }
        }
    )*)*};
    (integers $($t:ty),*) => {
        scalars_on_the_left! {$(
            $t: Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Rem, BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor, Shl shl Shl, Shr shr Shr;
        )*}
    };
}
scalars_on_the_left!(integers i8, u8, i16, u16, i32, u32, i64, u64);
scalars_on_the_left! {
    f32: Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Rem;
    f64: Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Rem;
    Complex<f32>: Add add Add, Sub sub Sub, Mul mul Mul, Div div Div;
    Complex<f64>: Add add Add, Sub sub Sub, Mul mul Mul, Div div Div;
    bool: BitAnd bitand And, BitOr bitor Or, BitXor bitxor Xor;
}

macro_rules! signs {
    ($($trait:ident $method:ident $class:ident $op:ident;)*) => {$(
        impl<T: $class> $trait for &Array<T> {
            type Output = Array<T>;

            fn $method(self) -> Array<T> {
                self.map1(ScalarOp::$op)
            }
        }
        impl<T: $class> $trait for Array<T> {
            type Output = Self;

            fn $method(self) -> Self {
                self.map1(ScalarOp::$op)
            }
        }
    )*};
}
signs! {
    Neg neg Number Neg;
    Not not Bits Not;
}
