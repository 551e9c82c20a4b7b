//! Arrays that exist: the caller's, a file's.
//!
//! Owns: their constructors. Must not know: what is done with them. Invariant: making one reads no element and copies none.

use std::sync::Arc;

use super::super::expr::{Data, Primitive, Same};
use super::super::{Array, checked_shape};
use crate::device::HostBuffer;
use crate::error::{Error, Result};
use crate::shape::{DType, Element, Layout, Region, View};
use crate::store;
use crate::task::ChunkSource;

impl<T: Element, D: ndarray::Dimension> From<ndarray::Array<T, D>> for Array<T> {
    /// The array's memory is used where it lies, in whatever order: an axis with a negative stride is seen from its other end.
    fn from(array: ndarray::Array<T, D>) -> Self {
        let array = array.into_dyn();
        let shape = array.shape().to_vec();
        // Nobody takes a step along an axis of at most one element, so what its stride says is of no use, and may be negative.
        let step = |(&n, &stride): (&usize, &isize)| if n > 1 && !array.is_empty() { stride } else { 0 };
        let strides: Vec<isize> = shape.iter().zip(array.strides()).map(step).collect();
        let (vec, offset) = array.into_raw_vec_and_offset();
        let before: usize = strides.iter().zip(&shape).filter(|(s, _)| **s < 0).map(|(s, n)| s.unsigned_abs() * (n - 1)).sum();
        let forwards = strides.iter().map(|stride| stride.abs()).collect();
        let layout = Layout { dtype: T::DTYPE, shape: shape.clone(), strides: forwards };
        let bytes = Same(HostBuffer::caller(&Arc::new(vec)));
        let memory = Data::Memory { bytes, offset: offset.unwrap_or(0) - before, layout };
        let made = Self::new(Primitive::Source(memory, Region::all(&shape)), Vec::new(), shape.clone(), None);
        let backwards = (0..shape.len()).filter(|&axis| strides[axis] < 0);
        let view = backwards.fold(View::whole(&shape), |view, axis| {
            view.slice(axis, shape[axis] - 1, shape[axis], -1).expect("every index, from the last on")
        });
        let seen = made.and_then(|array| array.viewed(view));
        seen.expect("an array that is there can be had")
    }
}

impl<T: Element> Array<T> {
    /// A copy of a view.
    pub fn from_view<D: ndarray::Dimension>(view: ndarray::ArrayView<'_, T, D>) -> Self {
        view.to_owned().into()
    }

    /// The array that a source gives, as stored; integers can be read as `f64` or `f32`.
    ///
    /// # Errors
    /// [`Error::DType`] if the stored elements are not `T`s and `T` is not a float.
    pub fn from_source(source: Arc<dyn ChunkSource>) -> Result<Self> {
        let float = matches!(T::DTYPE, DType::F32 | DType::F64);
        if source.dtype() != T::DTYPE && !float {
            let stored = source.dtype();
            let other = if stored == DType::F64 { DType::F32 } else { DType::F64 };
            let wanted = format!("read it as Array<{stored}>, or as Array<{other}>");
            return Err(Error::DType { what: source.name(), found: source.dtype().to_string(), wanted });
        }
        let shape = checked_shape("from_source", source.shape())?;
        let region = Region::all(&shape);
        Self::new(Primitive::Source(Data::Stored(Same(source)), region), Vec::new(), shape, None)
    }

    /// The array in a file: `data.h5:/path/in/file`, `data.npy`. Reads metadata only.
    ///
    /// # Errors
    /// As [`crate::store::open`] and [`Array::from_source`].
    pub fn open(spec: &str) -> Result<Self> {
        Self::from_source(store::open(spec)?)
    }
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
