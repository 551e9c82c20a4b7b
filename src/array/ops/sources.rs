//! Arrays that exist: the caller's, a file's.
//!
//! Owns: their constructors. Must not know: what is done with them. Invariant: making one reads no element and copies none.

use std::marker::PhantomData;
use std::sync::Arc;

use super::super::expr::{Existing, Expr, Node, Primitive, Same};
use super::super::{Array, DynArray, checked_shape};
use super::cast::converted;
use crate::device::{HostBuffer, SharedElements};
use crate::error::{Error, Result, or_panic};
use crate::shape::{DType, Element, Layout, Region, View};
use crate::store;
use crate::task::ChunkSource;

impl<T: Element, D: ndarray::Dimension> From<ndarray::Array<T, D>> for Array<T> {
    /// The array's memory is used where it lies, in whatever order: an axis with a negative stride is seen from its other end.
    ///
    /// # Panics
    /// If it has no element, and its other axes would have 2^59 or more.
    #[track_caller]
    fn from(array: ndarray::Array<T, D>) -> Self {
        let array = array.into_dyn();
        let (shape, strides) = (array.shape().to_vec(), array.strides().to_vec());
        let (vec, first) = array.into_raw_vec_and_offset();
        or_panic(Self::memory(HostBuffer::caller(&Arc::new(vec)), first.unwrap_or(0), shape, strides))
    }
}

impl<T: Element> Array<T> {
    /// Memory as it lies, from its element `first` on.
    fn memory(bytes: Arc<HostBuffer>, first: usize, shape: Vec<usize>, mut strides: Vec<isize>) -> Result<Self> {
        let is_empty = shape.contains(&0);
        // Nobody takes a step along an axis of at most one element, so what its stride says is of no use, and may be negative.
        strides.iter_mut().zip(&shape).filter(|(_, n)| **n <= 1 || is_empty).for_each(|(stride, _)| *stride = 0);
        let mut layout = Layout { dtype: T::DTYPE, shape: shape.clone(), strides: strides.clone() };
        let before = layout.reach().map_or(0, |reach| reach.0);
        layout.strides.iter_mut().for_each(|stride| *stride = stride.abs());
        let memory = Existing::Memory { bytes: Same(bytes), offset: first - before, layout };
        let made = Self::new(Primitive::Source(memory, Region::all(&shape)), Vec::new(), shape.clone(), None)?;
        let mut backwards = (0..shape.len()).filter(|&axis| strides[axis] < 0);
        let view = backwards.try_fold(View::whole(&shape), |view, axis| view.slice(axis, shape[axis] - 1, shape[axis], -1))?;
        made.viewed(view)
    }
}

/// What is borrowed is copied.
impl<T: Element, S: ndarray::Data<Elem = T>, D: ndarray::Dimension> From<&ndarray::ArrayBase<S, D>> for Array<T> {
    fn from(array: &ndarray::ArrayBase<S, D>) -> Self {
        array.to_owned().into()
    }
}

/// A copy of what the view shows.
impl<T: Element, D: ndarray::Dimension> From<ndarray::ArrayView<'_, T, D>> for Array<T> {
    fn from(view: ndarray::ArrayView<'_, T, D>) -> Self {
        view.to_owned().into()
    }
}

/// A copy of what the view shows.
impl<T: Element, D: ndarray::Dimension> From<ndarray::ArrayViewMut<'_, T, D>> for Array<T> {
    fn from(view: ndarray::ArrayViewMut<'_, T, D>) -> Self {
        view.to_owned().into()
    }
}

impl<T: Element, D: ndarray::Dimension> From<ndarray::ArcArray<T, D>> for Array<T> {
    /// The array's memory is used where it lies, in whatever order, whoever has it too: an `ArcArray` that is written while others have it is copied then.
    ///
    /// ```
    /// use chunkwise::{Array, ndarray::ArcArray1};
    /// let mut shared = ArcArray1::<f64>::from(vec![1.0, 2.0, 3.0]);
    /// let lazy = Array::from(shared.clone());      // no copy
    /// shared[0] = 100.0;                           // `shared` has one of its own from here on
    /// assert_eq!(lazy.sum().compute_scalar()?, 6.0);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// As for an owned one.
    #[track_caller]
    fn from(array: ndarray::ArcArray<T, D>) -> Self {
        let array = array.into_dyn();
        let (shape, strides) = (array.shape().to_vec(), array.strides().to_vec());
        let elements = Arc::new(SharedElements::new(array));
        or_panic(Self::memory(HostBuffer::caller(&elements), elements.first(), shape, strides))
    }
}

/// A vector; its memory is used where it lies, whoever has it too.
impl<T: Element> From<Arc<Vec<T>>> for Array<T> {
    fn from(elements: Arc<Vec<T>>) -> Self {
        or_panic(Self::memory(HostBuffer::caller(&elements), 0, vec![elements.len()], vec![1]))
    }
}

/// A vector; its memory is used where it lies, whoever has it too.
impl<T: Element> From<Arc<[T]>> for Array<T> {
    fn from(elements: Arc<[T]>) -> Self {
        or_panic(Self::memory(HostBuffer::caller(&elements), 0, vec![elements.len()], vec![1]))
    }
}

/// Copied if it is borrowed.
impl<T: Element, D: ndarray::Dimension> From<ndarray::CowArray<'_, T, D>> for Array<T> {
    fn from(array: ndarray::CowArray<'_, T, D>) -> Self {
        array.into_owned().into()
    }
}

/// A vector; its memory is used where it lies.
impl<T: Element> From<Vec<T>> for Array<T> {
    fn from(elements: Vec<T>) -> Self {
        ndarray::Array1::from_vec(elements).into()
    }
}

macro_rules! copied {
    ($({$($generics:tt)*} $t:ty),*) => {$(
        /// A vector, of a copy.
        impl<T: Element, $($generics)*> From<$t> for Array<T> {
            fn from(elements: $t) -> Self {
                elements.to_vec().into()
            }
        }
    )*};
}
copied!({} &[T], {} &Vec<T>, {const N: usize} [T; N], {const N: usize} &[T; N]);

impl<T: Element> Array<T> {
    /// The array that a source gives, as stored; real numbers can be read as `f64` or `f32`.
    ///
    /// # Errors
    /// [`Error::DType`] if the stored elements are not `T`s, and `T` is not a float or they are complex: [`DynArray::from_dyn_source`] takes any, and
    /// [`Array::cast`] converts them.
    pub fn from_source(source: Arc<dyn ChunkSource>) -> Result<Self> {
        let stored = source.dtype();
        if stored != T::DTYPE && (!T::DTYPE.is_float() || stored.is_complex()) {
            let wanted = match stored {
                DType::C64 => "read it as Array<Complex<f32>>, or store its parts as float32 or float64".to_owned(),
                DType::C128 => "read it as Array<Complex<f64>>, or store its parts as float64".to_owned(),
                DType::F64 => "read it as Array<f64>, or as Array<f32>".to_owned(),
                _ => format!("read it as Array<{stored}>, or as Array<f64>"),
            };
            return Err(Error::DType { what: source.name(), found: stored.to_string(), wanted });
        }
        Ok(Self { node: converted(&existing(source)?, T::DTYPE)?, session: None, element: PhantomData })
    }

    /// The array in a file, by the short form for programs: `data.h5:/path/in/file`, `data.npy`. Reads metadata only. [`DynArray::open_dyn`] takes it whatever its dtype;
    /// `store::Hdf5` and `store::Npy` take paths.
    ///
    /// # Errors
    /// As [`crate::store::open`] and [`Array::from_source`].
    pub fn open(spec: &str) -> Result<Self> {
        Self::from_source(store::open(spec)?)
    }
}

impl DynArray {
    /// The array that a source gives, in the source's dtype.
    ///
    /// # Errors
    /// [`Error::Shape`] if the source's shape overflows memory addresses.
    pub fn from_dyn_source(source: Arc<dyn ChunkSource>) -> Result<Self> {
        Ok(Self { node: existing(source)?, session: None, element: PhantomData })
    }

    /// The array in a file, whatever its dtype, by the short form for programs: `data.h5:/path/in/file`, `data.npy`. Reads metadata only.
    ///
    /// # Errors
    /// As [`crate::store::open`].
    pub fn open_dyn(spec: &str) -> Result<Self> {
        Self::from_dyn_source(store::open(spec)?)
    }
}

/// What a source gives.
fn existing(source: Arc<dyn ChunkSource>) -> Result<Expr> {
    let dtype = source.dtype();
    let shape = checked_shape("from_source", source.shape().to_vec())?;
    let region = Region::all(&shape);
    Node::new(Primitive::Source(Existing::Stored(Same(source)), region), Vec::new(), shape, dtype)
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Array3, ArrayD, Dimension, s};

    use super::*;
    use crate::runtime::Session;

    /// What `compute` gives for this array, in one chunk and in chunks of two.
    #[track_caller]
    fn comes_back<T: Element, D: Dimension>(array: &ndarray::Array<T, D>) {
        let session = Session::builder().threads(1).cache_dir("").build().unwrap();
        let lazy = Array::from(array.clone()).in_session(&session);
        let wanted: ArrayD<T> = array.clone().into_dyn();
        assert_eq!(lazy.compute().unwrap(), wanted);
        if !array.is_empty() && array.ndim() > 0 {
            assert_eq!(lazy.try_chunks(2).unwrap().compute().unwrap(), wanted);
        }
    }

    #[test]
    fn booleans_come_back() {
        comes_back(&Array1::from(vec![true, false, true]));
        let wide = Array2::from_shape_fn((4, 5), |(i, j)| (i * j) % 3 == 1);
        comes_back(&wide);
        comes_back(&wide.t().to_owned());
        comes_back(&wide.reversed_axes().slice_move(s![1..;2, ..]));
    }

    #[test]
    fn every_stride_comes_back() {
        let cube = Array3::from_shape_fn((3, 4, 5), |(i, j, k)| (100 * i + 10 * j + k) as i32);
        comes_back(&cube.clone().slice_move(s![..;-1, .., ..;-2]));
        // One element along an axis with a negative stride; also as the last axis, and none at all.
        comes_back(&cube.clone().slice_move(s![1..2;-1, .., ..]));
        comes_back(&cube.clone().slice_move(s![.., .., 2..3;-1]));
        comes_back(&cube.clone().slice_move(s![0..1;-1, 0..1;-1, 4..5;-1]));
        comes_back(&cube.clone().slice_move(s![2..2;-1, ..;-1, ..]));
        comes_back(&cube.clone().permuted_axes([2, 0, 1]).slice_move(s![..;2, 0..1;-1, 1..]));
        comes_back(&cube.slice_move(s![2, 1..2;-1, ..]));
        let column = Array2::from_shape_fn((6, 1), |(i, _)| i as f64).slice_move(s![.., ..;-1]);
        let session = Session::builder().threads(1).cache_dir("").build().unwrap();
        assert_eq!(Array::from(column).in_session(&session).mean().compute_scalar().unwrap(), 2.5);
    }
}
