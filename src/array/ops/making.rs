//! Arrays whose elements are said, or follow from their indices.
//!
//! Owns: `zeros`, `ones`, `full`, `eye`, `tri`, `from_shape_fn`, `diag`. Must not know: how they are made. Invariant: a slice makes only its own elements.

use std::sync::Arc;

use ndarray::{Dimension, IntoDimension};

use super::super::expr::{Existing, Generator, Node, Primitive, Same};
use super::super::{Array, IntoShape, checked_shape};
use crate::error::{Error, Result, or_panic};
use crate::kernel::indexed::Indexed;
use crate::shape::{AxisRange, ChunkGrid, Element, Layout, Region, Scalar};

impl<T: Element> Array<T> {
    /// An array of one element, everywhere. It takes no memory, however large it is.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let sevens = Array::full((1_000_000, 1_000_000), 7u8);
    /// assert_eq!(sevens.slice(s![5.., ..10]).slice(s![..2, ..3]).compute()?, ndarray::arr2(&[[7u8; 3]; 2]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_full`] returns that as an error.
    #[track_caller]
    pub fn full(shape: impl IntoShape, element: T) -> Self {
        or_panic(Self::try_full(shape, element))
    }

    /// [`Array::full`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_full(shape: impl IntoShape, element: T) -> Result<Self> {
        Self::constant("full", shape, element.into())
    }

    /// Zeros; of `bool`, false. They take no memory, however many they are.
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_zeros`] returns that as an error.
    #[track_caller]
    pub fn zeros(shape: impl IntoShape) -> Self {
        or_panic(Self::try_zeros(shape))
    }

    /// [`Array::zeros`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_zeros(shape: impl IntoShape) -> Result<Self> {
        Self::constant("zeros", shape, T::default().into())
    }

    /// Ones; of `bool`, true. They take no memory, however many they are.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// assert_eq!(Array::<i64>::ones((1000, 1000)).sum().compute_scalar()?, 1_000_000);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_ones`] returns that as an error.
    #[track_caller]
    pub fn ones(shape: impl IntoShape) -> Self {
        or_panic(Self::try_ones(shape))
    }

    /// [`Array::ones`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_ones(shape: impl IntoShape) -> Result<Self> {
        Self::constant("ones", shape, T::DTYPE.one())
    }

    fn constant(op: &'static str, shape: impl IntoShape, element: Scalar) -> Result<Self> {
        let shape = checked_shape(op, shape.into_shape())?;
        let all = Region::all(&shape);
        Self::new(Primitive::Generate(Generator::Constant(element), all), Vec::new(), shape, None)
    }

    /// The matrix of order `n` with ones on its diagonal, and zeros.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// assert_eq!(Array::<i32>::eye(2).compute()?, ndarray::arr2(&[[1, 0], [0, 1]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_eye_at`] returns that as an error.
    #[track_caller]
    pub fn eye(n: usize) -> Self {
        or_panic(Self::try_eye_at((n, n), 0))
    }

    /// The matrix of this shape with ones on its diagonal `k`, and zeros: as `numpy.eye(m, n, k)`. Diagonal 0 begins in the corner; those with positive numbers are
    /// above it, at `column - row = k`, those with negative ones below.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// assert_eq!(Array::<f64>::eye_at((2, 3), 1).compute()?, ndarray::arr2(&[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_eye_at`] returns that as an error.
    #[track_caller]
    pub fn eye_at(shape: (usize, usize), k: isize) -> Self {
        or_panic(Self::try_eye_at(shape, k))
    }

    /// [`Array::eye_at`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_eye_at(shape: (usize, usize), k: isize) -> Result<Self> {
        Self::band("eye", shape, k as i64, k as i64)
    }

    /// The matrix of this shape with ones on its diagonal `k` and below it, and zeros above: as `numpy.tri(m, n, k)`; diagonals are numbered as for [`Array::eye_at`].
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// assert_eq!(Array::<u8>::tri((3, 3), 0).compute()?, ndarray::arr2(&[[1u8, 0, 0], [1, 1, 0], [1, 1, 1]]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_tri`] returns that as an error.
    #[track_caller]
    pub fn tri(shape: (usize, usize), k: isize) -> Self {
        or_panic(Self::try_tri(shape, k))
    }

    /// [`Array::tri`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_tri(shape: (usize, usize), k: isize) -> Result<Self> {
        Self::band("tri", shape, i64::MIN, k as i64)
    }

    fn band(op: &'static str, (m, n): (usize, usize), low: i64, high: i64) -> Result<Self> {
        let shape = checked_shape(op, vec![m, n])?;
        let band = Generator::Band { low, high, shape: [m, n] };
        Self::new(Primitive::Generate(band, Region::all(&shape)), Vec::new(), shape, None)
    }

    /// The array whose elements `element` makes of their indices: `|(i, j)|` for two axes, `|i|` for one, `|index|`, an `IxDyn`, where the shape is a list. As
    /// `ndarray::Array::from_shape_fn`, but nothing is called before it is computed, and then for the elements that are needed, chunk by chunk, by several threads at
    /// once, perhaps more than once for an element: what it says of an index must not change.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let table = Array::from_shape_fn((1000, 1000), |(i, j)| (i * j) as u32);
    /// assert_eq!(table.slice(s![998.., 999]).compute()?, ndarray::arr1(&[998 * 999, 999 * 999]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_from_shape_fn`] returns that as an error. If `element` panics, the run ends with an error.
    #[track_caller]
    pub fn from_shape_fn<S, F>(shape: S, element: F) -> Self
    where
        S: IntoDimension<Dim: 'static>,
        F: Fn(<S::Dim as Dimension>::Pattern) -> T + Send + Sync + 'static,
    {
        or_panic(Self::try_from_shape_fn(shape, element))
    }

    /// [`Array::from_shape_fn`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_from_shape_fn<S, F>(shape: S, element: F) -> Result<Self>
    where
        S: IntoDimension<Dim: 'static>,
        F: Fn(<S::Dim as Dimension>::Pattern) -> T + Send + Sync + 'static,
    {
        let shape = checked_shape("from_shape_fn", shape.into_dimension().slice().to_vec())?;
        let kernel = Same(Arc::new(Indexed::<T, S::Dim, F>::new(element, shape.len())) as Arc<_>);
        let indexed = Generator::Indexed { kernel, shape: shape.clone() };
        Self::new(Primitive::Generate(indexed, Region::all(&shape)), Vec::new(), shape, None)
    }
}

impl<T> Array<T> {
    /// The diagonal of a matrix, a vector: as `diag` of ndarray. Of what lies in memory it is a view; of files, and of what is made of indices, squares along it are read
    /// and made (of uniform random numbers it alone); of what is computed, the chunks that it goes through.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let a = Array::from(ndarray::arr2(&[[1, 2, 3], [4, 5, 6]]));
    /// assert_eq!(a.diag().compute()?, ndarray::arr1(&[1, 5]).into_dyn());
    /// assert_eq!(a.diag_at(1).compute()?, ndarray::arr1(&[2, 6]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If it is not a matrix. [`Array::try_diag_at`] returns that as an error.
    #[track_caller]
    pub fn diag(&self) -> Self {
        or_panic(self.try_diag_at(0))
    }

    /// The diagonal `k` of a matrix, as `numpy.diagonal(a, k)`; diagonals are numbered as for [`Array::eye_at`], and one outside the matrix has no element.
    ///
    /// # Panics
    /// If it is not a matrix. [`Array::try_diag_at`] returns that as an error.
    #[track_caller]
    pub fn diag_at(&self, k: isize) -> Self {
        or_panic(self.try_diag_at(k))
    }

    /// [`Array::diag_at`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if it is not a matrix.
    pub fn try_diag_at(&self, k: isize) -> Result<Self> {
        let [m, n] = *self.shape() else {
            return Err(Error::Shape { op: "diag", found: self.shape().to_vec(), wanted: "a matrix (two axes)".into() });
        };
        let (row, column) = (k.min(0).unsigned_abs(), k.max(0) as usize);
        let len = m.saturating_sub(row).min(n.saturating_sub(column));
        if let Some(primitive) = self.diag_of_leaf((row, column), len) {
            let node = Node::new(primitive, Vec::new(), vec![len], self.dtype())?;
            return Ok(Self { node, ..self.clone() });
        }
        // A square for each part of it that is in one chunk, of which every element is one further than a row.
        let (rows, columns) = (self.grid().along(0), self.grid().along(1));
        let until = |cuts: &ChunkGrid, at: usize| {
            let (start, extent) = cuts.axis_range(0, cuts.chunk_of(0, at));
            start + extent - at
        };
        let most = if self.node.op.is_flexible { MOST_SIDE } else { usize::MAX };
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < len {
            let side = until(&rows, row + at).min(until(&columns, column + at)).min(len - at).min(most);
            let square = self.try_slice(ndarray::s![row + at..row + at + side, column + at..column + at + side])?;
            parts.push(square.try_reshape([side * side])?.try_slice(ndarray::s![..;side + 1])?);
            at += side;
        }
        match &parts[..] {
            [] => self.try_slice(ndarray::s![..0, ..0])?.try_reshape([0]),
            [one] => Ok(one.clone()),
            several => Self::try_concatenate(ndarray::Axis(0), &several.iter().collect::<Vec<_>>()),
        }
    }

    /// The `len` elements of a diagonal that begins at this row and column, where they are known without making more.
    fn diag_of_leaf(&self, (row, column): (usize, usize), len: usize) -> Option<Primitive> {
        let all = Region::all(&[len]);
        match &self.node.op.primitive {
            Primitive::Generate(constant @ Generator::Constant(_), _) => Some(Primitive::Generate(constant.clone(), all)),
            _ if len == 0 => None,
            // Of memory it is what lies one row and one column further each time; no stride is negative.
            Primitive::Source(Existing::Memory { bytes, offset, layout }, region) if *region == Region::all(&layout.shape) => {
                let [down, across] = [layout.strides[0], layout.strides[1]];
                let offset = offset + row * down.unsigned_abs() + column * across.unsigned_abs();
                let layout = Layout { dtype: layout.dtype, shape: vec![len], strides: vec![down + across] };
                Some(Primitive::Source(Existing::Memory { bytes: bytes.clone(), offset, layout }, all))
            }
            Primitive::Generate(Generator::Band { low, high, shape }, region) if *region == Region::all(shape) => {
                let is_one = (*low..=*high).contains(&(column as i64 - row as i64));
                let element = if is_one { self.dtype().one() } else { self.dtype().zero() };
                Some(Primitive::Generate(Generator::Constant(element), all))
            }
            // Which shape it has does not matter for its elements: each is a row and one further than the one before.
            Primitive::Generate(Generator::Random { what, seed, stream, shape }, region) if *region == Region::all(shape) => {
                let flat = Generator::Random { what: *what, seed: *seed, stream: *stream, shape: vec![self.len()] };
                let diagonal = AxisRange { start: row * shape[1] + column, len, step: shape[1] + 1 };
                Some(Primitive::Generate(flat, Region::from_axes(vec![diagonal])))
            }
            _ => None,
        }
    }
}

/// Extent of the squares along a diagonal that are made for it alone, at most.
const MOST_SIDE: usize = 256;
