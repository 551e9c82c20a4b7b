//! Element-wise operations: how each is made into an expression.
//!
//! Owns: [`Rhs`], broadcasting of operands, [`mapped`]. Must not know: how programs run. Invariant: shapes are broadcast and dtypes promoted by NumPy's rules; a
//! scalar is of the array's dtype.

use std::sync::Arc;

use super::super::expr::{Expr, Node, Primitive};
use super::super::{Array, common_session};
use super::call::{AnyArray, parts};
use crate::error::{Error, Result};
use crate::kernel::map::{Builder, ScalarOp, Value};
use crate::shape::{DType, Element, Promote, Scalar, View, checked_len};

/// What stands on the right of an operator, with an array of `T` on its left: another array, by reference or value, or a `T`.
///
/// ```
/// use chunkwise::{Array, Rhs, prelude::*};
/// fn twice_plus<O: Rhs<f64, Element = f64>>(x: &Array<f64>, more: O) -> Array<f64> {
///     x * 2.0 + more
/// }
/// let x = Array::from(vec![1.0, 2.0]);
/// assert_eq!(twice_plus(&x, 0.5).compute()?.as_slice(), Some(&[2.5, 4.5][..]));
/// assert_eq!(twice_plus(&x, &x).compute()?.as_slice(), Some(&[3.0, 6.0][..]));
/// # Ok::<(), chunkwise::Error>(())
/// ```
pub trait Rhs<T>: sealed::Sealed<T> {
    /// What its elements are.
    type Element: Element;
}

pub(super) use sealed::Given;

mod sealed {
    use super::{AnyArray, Scalar};

    /// An operand.
    #[allow(unnameable_types)] // nobody outside has a use for it
    pub enum Given<'a> {
        Array(&'a dyn AnyArray),
        Scalar(Scalar),
    }

    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed<T> {
        fn given(&self) -> Given<'_>;
    }
}

impl<T: Element> sealed::Sealed<T> for T {
    fn given(&self) -> Given<'_> {
        Given::Scalar((*self).into())
    }
}
impl<T: Element> Rhs<T> for T {
    type Element = T;
}

impl<T: Element, B: Element> sealed::Sealed<T> for Array<B> {
    fn given(&self) -> Given<'_> {
        Given::Array(self)
    }
}
impl<T: Element, B: Element> Rhs<T> for Array<B> {
    type Element = B;
}

impl<T: Element, B: Element> sealed::Sealed<T> for &Array<B> {
    fn given(&self) -> Given<'_> {
        Given::Array(*self)
    }
}
impl<T: Element, B: Element> Rhs<T> for &Array<B> {
    type Element = B;
}

/// What stands on the right of an array of `T`.
pub(super) fn given_by<T, R: Rhs<T>>(operand: &R) -> Given<'_> {
    operand.given()
}

/// The dtype in which an array of `T` and an operand are computed with each other.
pub(super) type Common<T, O> = <T as Promote<<O as Rhs<T>>::Element>>::Output;

/// The array that a program makes of these, broadcast to one shape.
///
/// # Errors
/// [`Error::Shape`] if they do not fit each other, [`Error::SessionMismatch`].
pub(super) fn mapped<U: Element>(
    op: &'static str,
    given: &[Given<'_>],
    build: impl FnOnce(&mut Builder, &[Value]) -> Value,
) -> Result<Array<U>> {
    let arrays = given.iter().filter_map(|given| match given {
        Given::Array(array) => Some(*array),
        Given::Scalar(_) => None,
    });
    let shape = broadcast(op, arrays.clone().map(AnyArray::shape))?;
    let session = common_session(op, arrays.map(|array| parts(array).session))?;
    let (mut builder, mut nodes, mut values) = (Builder::new(), Vec::<(&Expr, Value)>::new(), Vec::new());
    for given in given {
        values.push(match given {
            Given::Scalar(scalar) => builder.constant(*scalar),
            Given::Array(array) => {
                let node = parts(*array).node;
                match nodes.iter().find(|known| Arc::ptr_eq(known.0, node)) {
                    Some(known) => known.1,
                    None => {
                        let value = builder.input(array.dtype());
                        nodes.push((node, value));
                        value
                    }
                }
            }
        });
    }
    let made = build(&mut builder, &values);
    debug_assert_eq!(builder.dtype(made), U::DTYPE, "{op}");
    let (program, used) = builder.finish(made);
    if let (Some(input), true) = (program.passes(), U::DTYPE == program.dtype()) {
        // x + 0, 1 * x: the array itself.
        let node = seen(nodes[used[input]].0, &shape)?;
        return Ok(Array { node, session, element: std::marker::PhantomData });
    }
    if let Some(scalar) = program.constant() {
        let element = U::try_from(scalar).unwrap_or_default();
        let made = Array { session, ..Array::try_full(shape.clone(), element)? };
        // Cut as what it stands for would be.
        let inputs: Vec<Expr> = nodes.iter().map(|node| seen(node.0, &shape)).collect::<Result<_>>()?;
        let cut = Node::new(Primitive::Map(Arc::new(program)), inputs, shape, U::DTYPE)?;
        return Ok(if cut.op.is_cut { Array { node: made.node.cut(cut.op.grid.clone())?, ..made } } else { made });
    }
    let inputs = used.iter().map(|&input| seen(nodes[input].0, &shape)).collect::<Result<_>>()?;
    Array::new(Primitive::Map(Arc::new(program)), inputs, shape, session)
}

/// An expression broadcast to this shape.
fn seen(node: &Expr, shape: &[usize]) -> Result<Expr> {
    if node.op.shape == shape {
        return Ok(node.clone());
    }
    let view = View::whole(&node.op.shape).broadcast(shape)?;
    Node::new(Primitive::View(view), vec![node.clone()], shape.to_vec(), node.op.dtype)
}

/// The shape to which these are broadcast: aligned at the last axis, an extent of 1 being any.
fn broadcast<'a>(op: &'static str, shapes: impl Iterator<Item = &'a [usize]>) -> Result<Vec<usize>> {
    let mut all: Vec<usize> = Vec::new();
    for shape in shapes {
        let more = shape.len().saturating_sub(all.len());
        all.splice(0..0, std::iter::repeat_n(1, more));
        let skip = all.len() - shape.len();
        let fits = all[skip..].iter().zip(shape).all(|(&a, &b)| a == b || a == 1 || b == 1);
        if !fits {
            let wanted = format!("a shape that can be broadcast to {all:?}: from the last axis on, equal extents, or 1");
            return Err(Error::Shape { op, found: shape.to_vec(), wanted });
        }
        all[skip..].iter_mut().zip(shape).filter(|(a, _)| **a == 1).for_each(|(a, &b)| *a = b);
    }
    checked_len(op, &all)?;
    Ok(all)
}

impl<T: Element> Array<T> {
    /// What an operation makes of each element.
    pub(super) fn map1<U: Element>(&self, op: ScalarOp) -> Array<U> {
        self.with(|b, x| b.apply(op, &[x]))
    }

    /// What a program makes of each element.
    pub(super) fn with<U: Element>(&self, build: impl FnOnce(&mut Builder, Value) -> Value) -> Array<U> {
        // One array has no other shape or session to differ from.
        crate::error::or_panic(mapped("map", &[Given::Array(self)], |b, values| build(b, values[0])))
    }

    /// What an operation makes of each element and that of an operand, both in this dtype.
    pub(super) fn map2<U: Element, O: Rhs<T>>(
        &self,
        (name, op, dtype): (&'static str, ScalarOp, DType),
        other: &O,
    ) -> Result<Array<U>> {
        self.with2(name, other, |b, x, y| {
            let (x, y) = (b.cast(x, dtype), b.cast(y, dtype));
            b.apply(op, &[x, y])
        })
    }

    /// What a program makes of each element and that of an operand.
    pub(super) fn with2<U: Element, O: Rhs<T>>(
        &self,
        name: &'static str,
        other: &O,
        build: impl FnOnce(&mut Builder, Value, Value) -> Value,
    ) -> Result<Array<U>> {
        mapped(name, &[Given::Array(self), other.given()], |b, values| build(b, values[0], values[1]))
    }
}
