//! Lazy arrays: what is to be computed, cut into chunks.
//!
//! Owns: [`Array`], its expressions and operations, how they become chunk tasks. Must not know: devices, schedules. Invariant: building an array reads no data
//! and runs nothing; `compute` and `start` do.
//!
//! An operation (`ops/`) builds an expression of a few primitives (`expr.rs`) and does nothing else. What is to be run is rewritten (`optimize/`), and becomes
//! tasks by one rule (`lower/`): roots ask for their chunks, and each chunk for those that it is made of.

mod chunks;
mod compute;
mod expr;
mod fit;
mod grids;
#[cfg(test)]
mod laws;
mod lower;
mod ops;
mod optimize;
mod overhead;
mod show;

use std::marker::PhantomData;

pub use chunks::IntoChunks;
pub use compute::{Computable, Pending, compute_all, store_all};
pub use ops::{AnyArray, Mandelbrot, Summed, concatenate, stack};
pub use overhead::{explain_random_dag, random_dag};

use crate::error::{Error, Result, or_panic};
use crate::runtime::Session;
use crate::shape::{ChunkGrid, DType, Element, checked_len};
use expr::{Expr, Node, Primitive};

/// A lazy, chunked, n-dimensional array of `T`. Cheap to clone; the clones are one array.
///
/// ```
/// use chunkwise::prelude::*;
/// let a = Array::from(ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]]));
/// let l = a.cholesky();                          // nothing has run yet
/// assert_eq!(l.compute()?, ndarray::arr2(&[[2.0, 0.0], [1.0, 2.0]]).into_dyn());
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "arrays are lazy: call compute(), start() or store()"]
pub struct Array<T: Element> {
    node: Expr,
    session: Option<Session>,
    element: PhantomData<T>,
}

// An array is data that never change and a session, which is safe to use after a panic: so is the array, whatever its operations hold.
impl<T: Element> std::panic::UnwindSafe for Array<T> {}
impl<T: Element> std::panic::RefUnwindSafe for Array<T> {}

impl<T: Element> Array<T> {
    /// The array of a primitive on `inputs`.
    fn new(primitive: Primitive, inputs: Vec<Expr>, shape: Vec<usize>, session: Option<Session>) -> Result<Self> {
        Ok(Self { node: Node::new(primitive, inputs, shape, T::DTYPE)?, session, element: PhantomData })
    }

    /// Extent of each axis.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.node.op.shape
    }

    /// Number of axes.
    #[must_use]
    pub fn ndim(&self) -> usize {
        self.node.op.shape.len()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.node.op.shape.iter().product()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// Bytes of all elements.
    #[must_use]
    pub fn nbytes(&self) -> u64 {
        self.len() as u64 * T::DTYPE.bytes() as u64
    }

    /// How the array is cut into chunks.
    #[must_use]
    pub fn grid(&self) -> ChunkGrid {
        self.node.op.grid.clone()
    }

    /// The array cut otherwise: `1000` (that extent along every axis), `(100, 2000)`, `[100, 2000]`, or lists of extents.
    /// A chunk longer than its axis is cut to it. The operation works in these chunks where it can (of a product those of its rows, of a factor square tiles,
    /// of a kernel any); else its chunks are put together, as by [`Array::rechunk`].
    ///
    /// # Panics
    /// If an extent is 0, or there is not one for each axis. [`Array::try_chunks`] returns that as an error.
    #[track_caller]
    pub fn chunks(self, chunks: impl IntoChunks) -> Self {
        or_panic(self.try_chunks(chunks))
    }

    /// [`Array::chunks`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if an extent is 0 or there is not one for each axis; what a kernel says of such chunks.
    pub fn try_chunks(self, chunks: impl IntoChunks) -> Result<Self> {
        let grid = chunks.into_grid(self.shape())?;
        if let Primitive::Call(call) = &self.node.op.primitive {
            ops::check_call(call, &self.node.inputs, T::DTYPE, &grid)?;
        }
        Ok(Self { node: self.node.cut(grid)?, ..self })
    }

    /// The array, computed in this session.
    pub fn in_session(mut self, session: &Session) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// The session it will be computed in: its own, else the global one.
    #[must_use]
    #[track_caller]
    pub fn session(&self) -> Session {
        match &self.session {
            Some(session) => session.clone(),
            None => Session::global(),
        }
    }

    /// The session of an operation on two arrays.
    fn common_session(&self, other: &Self, op: &'static str) -> Result<Option<Session>> {
        common_session(op, [self.session.as_ref(), other.session.as_ref()])
    }
}

/// The session of arrays of which some have one: it must be the same.
fn common_session<'a>(op: &'static str, sessions: impl IntoIterator<Item = Option<&'a Session>>) -> Result<Option<Session>> {
    let mut common: Option<&Session> = None;
    for session in sessions.into_iter().flatten() {
        if common.is_some_and(|common| common != session) {
            return Err(Error::SessionMismatch { op });
        }
        common = Some(session);
    }
    Ok(common.cloned())
}

/// Checks a shape that a user gave.
fn checked_shape(op: &'static str, shape: &[usize]) -> Result<Vec<usize>> {
    checked_len(op, shape)?;
    Ok(shape.to_vec())
}
