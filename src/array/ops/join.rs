//! Arrays one after the other, and side by side.
//!
//! Owns: `concatenate`, `stack`. Must not know: how they are read. Invariant: no element is copied: each chunk is one of an input's.

use std::marker::PhantomData;
use std::sync::Arc;

use ndarray::Axis;

use super::super::expr::{Expr, Node, Op, Primitive};
use super::super::{Array, common_session};
use crate::error::{Error, Result, or_panic};
use crate::shape::checked_len;

/// The arrays one after the other along an axis. All have the same extents along the other axes.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// use chunkwise::{concatenate, ndarray::Axis};
/// let (a, b) = (Array::from(ndarray::arr2(&[[1, 2]])), Array::from(ndarray::arr2(&[[3, 4], [5, 6]])));
/// assert_eq!(concatenate(Axis(0), &[&a, &b]).compute()?, ndarray::arr2(&[[1, 2], [3, 4], [5, 6]]).into_dyn());
/// // Arrays of dtypes that are known at run time, too, if these are one.
/// let (a, b) = (a.into_dyn(), b.cast::<f64>().into_dyn());
/// assert!(Array::try_concatenate(Axis(0), &[&a, &b]).is_err());
/// assert_eq!(concatenate(Axis(0), &[&a.cast::<f64>(), &b.as_()?]).shape(), [3, 2]);
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Panics
/// If there is no array, or no such axis, another extent or (of [`DynArray`](crate::DynArray)s) a dtype differs, or two belong to two sessions.
/// [`Array::try_concatenate`] returns that as an error.
#[track_caller]
pub fn concatenate<T>(axis: Axis, arrays: &[&Array<T>]) -> Array<T> {
    or_panic(Array::try_concatenate(axis, arrays))
}

/// The arrays, which have one shape, side by side along a new axis.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// use chunkwise::{ndarray::Axis, stack};
/// let (a, b) = (Array::from(ndarray::arr1(&[1, 2])), Array::from(ndarray::arr1(&[3, 4])));
/// assert_eq!(stack(Axis(1), &[&a, &b]).compute()?, ndarray::arr2(&[[1, 3], [2, 4]]).into_dyn());
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Panics
/// If there is no array, the axis would not be the next after all others at most, shapes or (of [`DynArray`](crate::DynArray)s) dtypes differ, or two belong to
/// two sessions. [`Array::try_stack`] returns that as an error.
#[track_caller]
pub fn stack<T>(axis: Axis, arrays: &[&Array<T>]) -> Array<T> {
    or_panic(Array::try_stack(axis, arrays))
}

/// What arrays are made of one after the other along an axis: of concatenations that nobody cut otherwise, their inputs, as long as these are not too many together.
/// So a concatenation in a loop is one of many, and not one of one of one.
fn parts_along<T>(arrays: &[&Array<T>], axis: usize) -> Vec<Expr> {
    let mut parts = Vec::with_capacity(arrays.len());
    for array in arrays {
        match array.node.op.primitive {
            Primitive::Concat(along)
                if along == axis && !array.node.op.is_chosen && parts.len() + array.node.inputs.len() <= MOST_PARTS =>
            {
                parts.extend_from_slice(&array.node.inputs);
            }
            _ => parts.push(array.node.clone()),
        }
    }
    parts
}

/// More parts stay a concatenation of their own: a list that is copied with each step of a loop must end, and one that doubles with each step even more so.
const MOST_PARTS: usize = 1 << 10;

impl<T> Array<T> {
    /// [`concatenate`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no array, or no such axis; [`Error::Shape`] if another extent differs, or all are too long;
    /// [`Error::DType`] if dtypes differ; [`Error::SessionMismatch`].
    pub fn try_concatenate(axis: Axis, arrays: &[&Self]) -> Result<Self> {
        let Some((&first, others)) = arrays.split_first() else {
            return Err(Error::argument("arrays to concatenate", "none", "at least one"));
        };
        let axis = first.checked_axis(axis)?;
        let dtype = first.dtype();
        for (at, other) in others.iter().enumerate() {
            if other.dtype() != dtype {
                let what = format!("array {} to concatenate", at + 1);
                let wanted = format!("cast it to {dtype}, which the first has, or all to one dtype");
                return Err(Error::DType { what, found: other.dtype().to_string(), wanted });
            }
            let fits =
                other.ndim() == first.ndim() && (0..first.ndim()).all(|a| a == axis || other.shape()[a] == first.shape()[a]);
            if !fits {
                let wanted = format!("the extents of {:?}, but along axis {axis}", first.shape());
                return Err(Error::Shape { op: "concatenate", found: other.shape().to_vec(), wanted });
            }
        }
        let session = common_session("concatenate", arrays.iter().map(|array| array.session.as_ref()))?;
        if others.is_empty() {
            return Ok(first.clone());
        }
        let mut shape = first.shape().to_vec();
        shape[axis] = arrays.iter().fold(0usize, |sum, array| sum.saturating_add(array.shape()[axis]));
        checked_len("concatenate", &shape)?;
        // What is known of the whole follows from the arrays that are given, however these are made.
        let given: Vec<&Op> = arrays.iter().map(|array| &*array.node.op).collect();
        let op = Op::new(Primitive::Concat(axis), &given, (shape, dtype), None)?;
        let node = Arc::new(Node { op: Arc::new(op), inputs: parts_along(arrays, axis) });
        Ok(Self { node, session, element: PhantomData })
    }

    /// [`stack`], with errors instead of panics.
    ///
    /// # Errors
    /// As [`Array::try_concatenate`]; [`Error::Argument`] if the axis would leave a gap.
    pub fn try_stack(axis: Axis, arrays: &[&Self]) -> Result<Self> {
        let Some(first) = arrays.first() else {
            return Err(Error::argument("arrays to stack", "none", "at least one"));
        };
        if let Some(other) = arrays.iter().find(|other| other.shape() != first.shape()) {
            let wanted = format!("shape {:?}, as the first has", first.shape());
            return Err(Error::Shape { op: "stack", found: other.shape().to_vec(), wanted });
        }
        let layers: Vec<Self> = arrays.iter().map(|array| array.try_insert_axis(axis)).collect::<Result<_>>()?;
        Self::try_concatenate(axis, &layers.iter().collect::<Vec<_>>())
    }
}
