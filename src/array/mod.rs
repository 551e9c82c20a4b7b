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
mod files;
mod fit;
mod grids;
#[cfg(test)]
mod laws;
mod lower;
mod ops;
mod optimize;
mod show;
mod tuned;

use std::marker::PhantomData;

pub use chunks::{Auto, IntoChunks, IntoExtent, IntoShape};
pub use compute::{Computable, Pending, compute_all, store_all};
#[cfg(feature = "hdf5")]
pub use files::HdfPut;
pub use files::NpyPut;
pub use ops::{
    AnyArray, Branches, ComplexReductions, IntoAxes, Over, Rhs, Rng, concatenate, indices, mandelbrot, meshgrid, stack, where_,
};

use crate::error::{Error, Result, or_panic};
use crate::runtime::Session;
use crate::shape::{ChunkGrid, DType, Element, checked_len};
use expr::{Expr, Node, Primitive};

/// A lazy, chunked, n-dimensional array of `T`. Cheap to clone; the clones are one array.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// let a = Array::from(ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]]));
/// let l = a.cholesky();                          // nothing has run yet
/// assert_eq!(l.compute()?, ndarray::arr2(&[[2.0, 0.0], [1.0, 2.0]]).into_dyn());
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[must_use = "arrays are lazy: call compute(), start() or store()"]
pub struct Array<T> {
    node: Expr,
    session: Option<Session>,
    element: PhantomData<T>,
}

/// An [`Array`] whose dtype is known at run time only: a dataset of a file. [`Array::as_`] takes it for an array of its dtype, [`Array::cast`] makes one of any
/// dtype; what does not look at elements (views, chunks, storing) it has itself.
///
/// ```
/// use chunkwise::{Array, DynArray, prelude::*};
/// let unknown: DynArray = Array::from(vec![1i64, 2, 4]).into_dyn();
/// assert_eq!((unknown.dtype(), unknown.shape()), (DType::I64, &[3][..]));
/// assert_eq!(unknown.slice(s![1..]).as_::<i64>()?.sum().compute_scalar()?, 6);
/// assert_eq!(unknown.cast::<f64>().mean().compute_scalar()?, 7.0 / 3.0);
/// assert!(unknown.as_::<f32>().is_err());
/// # Ok::<(), chunkwise::Error>(())
/// ```
pub type DynArray = Array<Dyn>;

/// In place of an element type: one that is known at run time only ([`DynArray`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dyn {}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { node: self.node.clone(), session: self.session.clone(), element: PhantomData }
    }
}

// An array is data that never change and a session, which is safe to use after a panic: so is the array, whatever its operations hold.
impl<T> std::panic::UnwindSafe for Array<T> {}
impl<T> std::panic::RefUnwindSafe for Array<T> {}

impl<T: Element> Array<T> {
    /// The array of a primitive on `inputs`.
    fn new(primitive: Primitive, inputs: Vec<Expr>, shape: Vec<usize>, session: Option<Session>) -> Result<Self> {
        Ok(Self { node: Node::new(primitive, inputs, shape, T::DTYPE)?, session, element: PhantomData })
    }
}

impl<T> Array<T> {
    /// The array of a primitive on this one, of its dtype.
    fn derived(&self, primitive: Primitive, shape: Vec<usize>) -> Result<Self> {
        let node = Node::new(primitive, vec![self.node.clone()], shape, self.dtype())?;
        Ok(Self { node, ..self.clone() })
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
        self.node.op.dtype
    }

    /// Bytes of all elements.
    #[must_use]
    pub fn nbytes(&self) -> u64 {
        self.len() as u64 * self.dtype().bytes() as u64
    }

    /// How the array is cut into chunks.
    #[must_use]
    pub fn grid(&self) -> ChunkGrid {
        self.node.op.grid.clone()
    }

    /// The array cut otherwise: `1000` (that extent along every axis), `(100, 2000)`, `(100, ..)`, lists of extents, [`Auto`]: see [`IntoChunks`].
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
        if chunks.is_automatic() {
            return Ok(Self { node: self.node.uncut()?, ..self });
        }
        let grid = chunks::checked_grid(chunks, self.shape(), self.dtype())?;
        if let Primitive::Call(call) = &self.node.op.primitive {
            ops::check_call(call, &self.node.inputs, self.dtype(), &grid)?;
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
    fn common_session<U>(&self, other: &Array<U>, op: &'static str) -> Result<Option<Session>> {
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
fn checked_shape(op: &'static str, shape: Vec<usize>) -> Result<Vec<usize>> {
    checked_len(op, &shape)?;
    Ok(shape)
}
