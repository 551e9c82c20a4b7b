//! Comparisons, and choices by what they say.
//!
//! Owns: `lt`, `eq_elem`, .., [`where_`]. Must not know: how they are computed. Invariant: operands are promoted to one dtype and then compared, as in NumPy (64-bit
//! integers with others than themselves as `f64`).

use super::super::Array;
use super::map::{Common, Given, Rhs, given_by, mapped};
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

/// Two operands that are chosen between: arrays, by reference or value, or scalars. A scalar is of the other's dtype, two arrays are promoted.
pub trait Branches<No>: Sealed<No> {
    /// What is chosen.
    type Output: Element;
}

mod sealed {
    use super::super::map::Given;

    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed<No> {
        fn both<'a>(yes: &'a Self, no: &'a No) -> [Given<'a>; 2];
    }
}
use sealed::Sealed;

macro_rules! choices {
    ($([$($of:tt)*] $yes:ty, $no:ty => $out:ty;)*) => {$(
        impl<$($of)*> Sealed<$no> for $yes {
            fn both<'a>(yes: &'a Self, no: &'a $no) -> [Given<'a>; 2] {
                [given_by::<A, _>(yes), given_by::<A, _>(no)]
            }
        }
        impl<$($of)*> Branches<$no> for $yes {
            type Output = $out;
        }
    )*};
}
choices! {
    [A: Element] A, A => A;
    [A: Element] A, Array<A> => A;
    [A: Element] A, &Array<A> => A;
    [A: Element] Array<A>, A => A;
    [A: Element] &Array<A>, A => A;
    [A: Element + Promote<B>, B: Element] Array<A>, Array<B> => <A as Promote<B>>::Output;
    [A: Element + Promote<B>, B: Element] Array<A>, &Array<B> => <A as Promote<B>>::Output;
    [A: Element + Promote<B>, B: Element] &Array<A>, Array<B> => <A as Promote<B>>::Output;
    [A: Element + Promote<B>, B: Element] &Array<A>, &Array<B> => <A as Promote<B>>::Output;
}

/// The elements of `yes` where the mask is true, else those of `no`: arrays or scalars, broadcast to one shape. Two arrays are promoted to one dtype, a scalar is of the
/// array's.
///
/// ```
/// use chunkwise::{Array, where_};
/// let x = Array::from(vec![-1f32, 4.0, 9.0]);
/// let roots = where_(&x.ge(0.0), x.sqrt(), 0.0);
/// assert_eq!(roots.compute()?.as_slice(), Some(&[0f32, 2.0, 3.0][..]));
/// let signs = where_(&x.lt(0.0), -1.0, &x); // either way round
/// assert_eq!(signs.compute()?.as_slice(), Some(&[-1f32, 4.0, 9.0][..]));
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Panics
/// If the shapes do not fit, or the arrays belong to two sessions. [`Array::try_where_`] returns that as an error.
#[track_caller]
pub fn where_<Y: Branches<N>, N>(mask: &Array<bool>, yes: Y, no: N) -> Array<Y::Output> {
    or_panic(mask.try_where_(yes, no))
}

impl Array<bool> {
    /// [`where_`] as a method of the mask.
    ///
    /// # Panics
    /// If the shapes do not fit, or the arrays belong to two sessions. [`Array::try_where_`] returns that as an error.
    #[track_caller]
    pub fn where_<Y: Branches<N>, N>(&self, yes: Y, no: N) -> Array<Y::Output> {
        or_panic(self.try_where_(yes, no))
    }

    /// [`where_`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape), [`Error::SessionMismatch`](crate::Error::SessionMismatch).
    pub fn try_where_<Y: Branches<N>, N>(&self, yes: Y, no: N) -> Result<Array<Y::Output>> {
        let choose = |b: &mut Builder, values: &[Value]| {
            let [yes, no] = [1, 2].map(|at| b.cast(values[at], Y::Output::DTYPE));
            b.apply(ScalarOp::Where, &[values[0], yes, no])
        };
        let [yes, no] = Y::both(&yes, &no);
        mapped("where", &[Given::Array(self), yes, no], choose)
    }
}
