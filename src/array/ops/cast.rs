//! Arrays of one dtype as arrays of another.
//!
//! Owns: `cast`, `as_`, `into_dyn`. Must not know: how numbers are converted. Invariant: what has the dtype already is not copied.

use std::marker::PhantomData;
use std::sync::Arc;

use super::super::expr::{Expr, Node, Primitive};
use super::super::{Array, Dyn, DynArray};
use crate::error::{Error, Result, or_panic};
use crate::kernel::map::Builder;
use crate::shape::{DType, Element};
use crate::task::ChunkSource;

impl<T> Array<T> {
    /// Each element as a `U`, by the rules of Rust's `as`: floats become integers by cutting off what is behind the point, as the nearest there is where they
    /// are too large, and NaN as 0; integers that do not fit an integer wrap around; whatever becomes a float is rounded to the nearest (64-bit integers to an
    /// `f64` first where they become halves or complex). To `bool`, all but 0 is true (NaN too); `bool` becomes 0 or 1. A real number becomes a complex one
    /// with imaginary part 0; a complex number becomes a real one by its real part alone. What has the dtype already is as it is; numbers of a whole file become floats as they are read.
    ///
    /// ```
    /// use chunkwise::Array;
    /// let a = Array::from(vec![-1.5, 2.9, 300.0, f64::NAN]);
    /// assert_eq!(a.cast::<u8>().compute()?.as_slice(), Some(&[0u8, 2, 255, 0][..]));
    /// assert_eq!(Array::from(vec![-1i32, 300]).cast::<u8>().compute()?.as_slice(), Some(&[255u8, 44][..]));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn cast<U: Element>(&self) -> Array<U> {
        or_panic(self.converted()) // no shape or dtype is refused
    }

    fn converted<U: Element>(&self) -> Result<Array<U>> {
        Ok(Array { node: converted(&self.node, U::DTYPE)?, session: self.session.clone(), element: PhantomData })
    }
}

/// An expression's elements as those of another dtype.
///
/// # Errors
/// None for shapes that were checked.
pub(super) fn converted(node: &Expr, dtype: DType) -> Result<Expr> {
    let op = &node.op;
    if op.dtype == dtype {
        return Ok(node.clone());
    }
    let converts = |source: &dyn ChunkSource| dtype.is_float() && source.dtype() == op.dtype && source.converts();
    if op.stored().is_some_and(|source| converts(&**source)) {
        let node = Node::new(op.primitive.clone(), Vec::new(), op.shape.clone(), dtype)?;
        return if op.is_chosen { node.cut(op.grid.clone()) } else { Ok(node) };
    }
    let mut program = Builder::new();
    let element = program.input(op.dtype);
    let cast = program.cast(element, dtype);
    let (program, _) = program.finish(cast);
    Node::new(Primitive::Map(Arc::new(program)), vec![node.clone()], op.shape.clone(), dtype)
}

impl DynArray {
    /// The array, if its elements are `T`s.
    ///
    /// # Errors
    /// [`Error::DType`] if they are others: [`Array::cast`] converts them.
    pub fn as_<T: Element>(&self) -> Result<Array<T>> {
        if self.dtype() == T::DTYPE {
            return Ok(Array { node: self.node.clone(), session: self.session.clone(), element: PhantomData });
        }
        let what = self.node.op.stored().map_or_else(|| self.node.op.name().into_owned(), |source| source.name());
        let wanted = format!("take it as an array of {}, or cast it to {}", self.dtype(), T::DTYPE);
        Err(Error::DType { what, found: self.dtype().to_string(), wanted })
    }
}

impl<T: Element> Array<T> {
    /// The array without its dtype in its type.
    pub fn into_dyn(self) -> DynArray {
        Array::<Dyn> { node: self.node, session: self.session, element: PhantomData }
    }
}

impl<T: Element> From<Array<T>> for DynArray {
    fn from(array: Array<T>) -> Self {
        array.into_dyn()
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use num_complex::Complex;

    use super::*;
    use crate::runtime::Session;

    #[test]
    fn a_cast_that_changes_nothing_is_the_array_itself() {
        let a = Array::from(vec![1.0, 2.0]);
        assert!(Arc::ptr_eq(&a.cast::<f64>().node, &a.node));
        assert!(Arc::ptr_eq(&a.clone().into_dyn().as_::<f64>().unwrap().node, &a.node));
    }

    #[test]
    fn every_pair_of_dtypes_is_converted_as_rust_does() {
        let session = Session::builder().threads(1).cache_dir("").build().unwrap();
        let numbers = [0.0, 1.0, -1.0, 0.5, 255.4, 256.0, -3e9, 3e9, 2e19, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let floats = Array::from(numbers.to_vec()).in_session(&session).chunks(5);
        macro_rules! check {
            ($($a:ty),*) => {$( check!(@ $a => i8, u8, i16, u16, i32, u32, i64, u64, f32, f64); )*};
            (@ $a:ty => $($b:ty),*) => {$(
                let of: Vec<$a> = numbers.iter().map(|&x| x as $a).collect();
                let found = floats.cast::<$a>().cast::<$b>().compute().unwrap();
                let wanted: Vec<$b> = of.iter().map(|&x| x as $b).collect();
                // By their text: NaN is not equal to itself.
                assert_eq!(format!("{:?}", found.as_slice().unwrap()), format!("{wanted:?}"), "{} to {}", stringify!($a), stringify!($b));
                let bools: Vec<bool> = of.iter().map(|&x| x != 0 as $a).collect();
                assert_eq!(floats.cast::<$a>().cast::<bool>().compute().unwrap().as_slice().unwrap(), bools);
                let again: Vec<$b> = bools.iter().map(|&x| u8::from(x) as $b).collect();
                assert_eq!(floats.cast::<$a>().cast::<bool>().cast::<$b>().compute().unwrap().as_slice().unwrap(), again);
            )*};
        }
        check!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);
    }

    #[test]
    fn halves_and_complex_numbers_are_converted() {
        let session = Session::builder().threads(1).cache_dir("").build().unwrap();
        let of = |x: Array<f64>| x.in_session(&session).chunks(3);
        let numbers = of(Array::from(vec![0.0, -1.5, 1e6, 0.1, f64::NAN, 2f64.powi(-24)]));
        let halves = numbers.cast::<f16>();
        let found: Vec<f64> = halves.cast::<f64>().compute().unwrap().iter().copied().collect();
        assert_eq!(found[..4], [0.0, -1.5, f64::INFINITY, f64::from(f16::from_f32(0.1))]);
        assert!(found[4].is_nan() && found[5] == 2f64.powi(-24));
        assert_eq!(halves.cast::<i32>().compute().unwrap().as_slice(), Some(&[0, -1, i32::MAX, 0, 0, 0][..]));
        assert_eq!(halves.cast::<bool>().compute().unwrap().as_slice(), Some(&[false, true, true, true, true, true][..]));
        let brains = numbers.cast::<bf16>().compute().unwrap();
        assert_eq!(brains[[2]], bf16::from_f32(1e6));
        let z = Array::from(vec![Complex::new(1.5f32, -2.0), Complex::new(0.0, 3.0), Complex::new(-300.7, 0.0)])
            .in_session(&session);
        assert_eq!(z.cast::<f64>().compute().unwrap().as_slice(), Some(&[1.5, 0.0, f64::from(-300.7f32)][..]));
        assert_eq!(z.cast::<u8>().compute().unwrap().as_slice(), Some(&[1u8, 0, 0][..]));
        assert_eq!(z.cast::<bool>().compute().unwrap().as_slice(), Some(&[true; 3][..]));
        let wide = z.cast::<Complex<f64>>().compute().unwrap();
        assert_eq!(wide[[2]], Complex::new(f64::from(-300.7f32), 0.0));
        let ones = Array::from(vec![true, false]).in_session(&session).cast::<Complex<f32>>();
        assert_eq!(ones.compute().unwrap().as_slice(), Some(&[Complex::new(1f32, 0.0), Complex::new(0.0, 0.0)][..]));
    }
}
