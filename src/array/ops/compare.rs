//! Comparisons, and choices by what they say.
//!
//! Owns: `lt`, `eq_elem`, .., [`where_`]. Must not know: how they are computed. Invariant: operands are promoted to one dtype and then compared, as in NumPy (64-bit
//! integers with others than themselves as `f64`).

use super::super::Array;
use super::map::{Common, Given, Rhs, mapped};
use crate::error::{Result, or_panic};
use crate::kernel::map::{Builder, ScalarOp, Value};
use crate::shape::{Comparable, Element, Ordered, Promote};

macro_rules! comparisons {
    ($($name:ident $try:ident $class:ident $op:ident $swapped:literal, $doc:literal;)*) => {
        impl<T: Element> Array<T> {
            $(#[doc = $doc]
            ///
            /// The other operand is an array, to which shapes are broadcast and dtypes promoted, or a scalar.
            ///
            /// # Panics
            /// If the shapes do not fit, or the arrays belong to two sessions.
            #[track_caller]
            pub fn $name<O: Rhs<T>>(&self, other: O) -> Array<bool>
            where
                T: Promote<O::Element>,
                Common<T, O>: $class,
            {
                or_panic(self.$try(other))
            }

            #[doc = concat!("[`Array::", stringify!($name), "`], with errors instead of panics.")]
            ///
            /// # Errors
            /// [`Error::Shape`](crate::Error::Shape), [`Error::SessionMismatch`](crate::Error::SessionMismatch).
            pub fn $try<O: Rhs<T>>(&self, other: O) -> Result<Array<bool>>
            where
                T: Promote<O::Element>,
                Common<T, O>: $class,
            {
                self.with2(stringify!($name), &other, |b, x, y| {
                    let [x, y] = [x, y].map(|value| b.cast(value, Common::<T, O>::DTYPE));
                    b.apply(ScalarOp::$op, &if $swapped { [y, x] } else { [x, y] })
                })
            })*
        }
    };
}

comparisons! {
    lt try_lt Ordered Lt false, "Whether each element is less than the other's; not where one is NaN.";
    le try_le Ordered Le false, "Whether each element is at most the other's; not where one is NaN.";
    gt try_gt Ordered Lt true, "Whether each element is greater than the other's; not where one is NaN.";
    ge try_ge Ordered Le true, "Whether each element is at least the other's; not where one is NaN.";
    eq_elem try_eq_elem Comparable Eq false, "Whether each element equals the other's; NaN equals nothing.";
    ne_elem try_ne_elem Comparable Ne false, "Whether each element differs from the other's; NaN differs from all.";
}

/// The elements of `yes` where the mask is true, else those of `no`: arrays or scalars, broadcast and promoted to one shape and dtype. The first decides what a plain number
/// as the second is.
///
/// ```
/// use chunkwise::{Array, where_};
/// let x = Array::from(vec![-1.0, 4.0, 9.0]);
/// let roots = where_(&x.ge(0.0), &x.sqrt(), 0.0);
/// assert_eq!(roots.compute()?.as_slice(), Some(&[0.0, 2.0, 3.0][..]));
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Panics
/// If the shapes do not fit, or the arrays belong to two sessions. [`Array::try_where_`] returns that as an error.
#[track_caller]
pub fn where_<A, Y, N>(mask: &Array<bool>, yes: Y, no: N) -> Array<Common<A, N>>
where
    A: Element + Promote<N::Element>,
    Y: Rhs<A, Element = A>,
    N: Rhs<A>,
{
    or_panic(mask.try_where_(yes, no))
}

impl Array<bool> {
    /// [`where_`] as a method of the mask.
    ///
    /// # Panics
    /// If the shapes do not fit, or the arrays belong to two sessions. [`Array::try_where_`] returns that as an error.
    #[track_caller]
    pub fn where_<A, Y, N>(&self, yes: Y, no: N) -> Array<Common<A, N>>
    where
        A: Element + Promote<N::Element>,
        Y: Rhs<A, Element = A>,
        N: Rhs<A>,
    {
        or_panic(self.try_where_(yes, no))
    }

    /// [`where_`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::SessionMismatch`](crate::Error::SessionMismatch).
    pub fn try_where_<A, Y, N>(&self, yes: Y, no: N) -> Result<Array<Common<A, N>>>
    where
        A: Element + Promote<N::Element>,
        Y: Rhs<A, Element = A>,
        N: Rhs<A>,
    {
        let choose = |b: &mut Builder, values: &[Value]| {
            let [yes, no] = [1, 2].map(|at| b.cast(values[at], Common::<A, N>::DTYPE));
            b.apply(ScalarOp::Where, &[values[0], yes, no])
        };
        mapped("where", &[Given::Array(self), yes.given(), no.given()], choose)
    }
}
