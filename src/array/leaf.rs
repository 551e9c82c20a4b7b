//! Arrays that need no other: the caller's, a file's, random ones.
//!
//! Owns: their operations and constructors. Must not know: what is done with them. Invariant: a leaf can be cut by any grid, and no cut changes its
//! elements.

use std::sync::Arc;

use super::lower::{Lowering, Op, Target, window_of};
use super::node::Node;
use super::{Array, checked_shape, chunks};
use crate::device::HostBuffer;
use crate::error::{Error, Result, or_panic};
use crate::id::ValueId;
use crate::kernel::Kernel;
use crate::kernel::random::{Spd, SpdParams, Uniform, UniformParams};
use crate::kernel::sums::Add;
use crate::runtime::Session;
use crate::shape::{ChunkGrid, DType, Element, Float, Layout, Region};
use crate::store::{self, ReadChunk};
use crate::task::ChunkSource;

/// The caller's array.
struct Memory {
    bytes: Arc<HostBuffer>,
    offset: usize,
    layout: Layout,
}

impl Op for Memory {
    fn name(&self) -> &str {
        "from_ndarray"
    }
    fn default_grid(&self, _: &[Arc<Node>], shape: &[usize], dtype: DType) -> ChunkGrid {
        chunks::slabs(shape, dtype, None)
    }
    fn task_count(&self, _: &Node) -> usize {
        0
    }
    fn is_leaf(&self) -> bool {
        true
    }

    /// Windows of the caller's memory. As a result, it is copied (one `add` of one input per chunk).
    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let array = lw.caller(&self.layout, self.bytes.clone())?;
        let numbers = lw.numbers(grid.len());
        lw.expect_chunks(numbers.len())?;
        if target != Target::Pool {
            lw.expect_tasks(numbers.len())?;
        }
        let kernel = lw.leaf_kernel(node, grid, || Arc::new(Add));
        if target != Target::Pool {
            lw.graph.group(format!("copy {}", extents(grid)));
        }
        let mut values = Vec::with_capacity(numbers.len());
        for number in numbers {
            let region = grid.region(number);
            let (offset, layout) = window_of(&self.layout, &region);
            let value = lw.graph.window(array, self.offset + offset, &layout);
            values.push(match target {
                Target::Pool => value,
                Target::Result(_) => {
                    let out = lw.output(node, &region, target);
                    lw.graph.write(kernel, &[], &[value], out)?;
                    out
                }
            });
        }
        Ok(values)
    }
}

/// A file's array.
struct Source {
    source: Arc<dyn ChunkSource>,
}

impl Op for Source {
    fn name(&self) -> &str {
        "from_source"
    }
    fn default_grid(&self, _: &[Arc<Node>], shape: &[usize], dtype: DType) -> ChunkGrid {
        chunks::slabs(shape, dtype, self.source.storage_chunks())
    }
    fn is_leaf(&self) -> bool {
        true
    }
    fn source(&self) -> Option<&Arc<dyn ChunkSource>> {
        Some(&self.source)
    }

    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let kernel = || Arc::new(ReadChunk { source: self.source.clone(), grid: grid.clone() }) as Arc<dyn Kernel>;
        each_chunk(node, (grid, target), lw, (format!("read {}", extents(grid)), kernel), |number, _| {
            Ok((number as u32).to_ne_bytes().to_vec())
        })
    }
}

/// Uniform random numbers.
struct RandomUniform {
    seed: u64,
    stream: u64,
}

impl Op for RandomUniform {
    fn name(&self) -> &str {
        "random_uniform"
    }
    fn default_grid(&self, _: &[Arc<Node>], shape: &[usize], dtype: DType) -> ChunkGrid {
        chunks::slabs(shape, dtype, None)
    }
    fn is_leaf(&self) -> bool {
        true
    }
    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let (seed, stream, shape) = (self.seed, self.stream, node.shape.clone());
        each_chunk(node, (grid, target), lw, (format!("uniform {}", extents(grid)), || Arc::new(Uniform)), |_, region| {
            Ok(UniformParams::new(seed, stream, &shape, &region.start(), &region.shape())?.to_bytes())
        })
    }
}

/// A symmetric positive definite test matrix.
struct RandomSpd {
    seed: u64,
    stream: u64,
}

impl Op for RandomSpd {
    fn name(&self) -> &str {
        "random_spd"
    }
    fn default_grid(&self, _: &[Arc<Node>], shape: &[usize], dtype: DType) -> ChunkGrid {
        chunks::slabs(shape, dtype, None)
    }
    fn is_leaf(&self) -> bool {
        true
    }
    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let (seed, stream, order) = (self.seed, self.stream, node.shape[0] as u64);
        each_chunk(node, (grid, target), lw, (format!("spd {}", extents(grid)), || Arc::new(Spd)), |_, region| {
            let start = region.start();
            let params = SpdParams { seed, stream, row: start[0] as u64, column: start[1] as u64, order };
            Ok(bytemuck::bytes_of(&params).to_vec())
        })
    }
}

/// One task without inputs per chunk.
fn each_chunk(
    node: &Node,
    (grid, target): (&ChunkGrid, Target),
    lw: &mut Lowering,
    (label, kernel): (String, impl FnOnce() -> Arc<dyn Kernel>),
    params: impl Fn(usize, &Region) -> Result<Vec<u8>>,
) -> Result<Vec<ValueId>> {
    let numbers = lw.numbers(grid.len());
    lw.expect_tasks(numbers.len())?;
    let kernel = lw.leaf_kernel(node, grid, kernel);
    lw.graph.group(label);
    let mut values = Vec::with_capacity(numbers.len());
    for number in numbers {
        let region = grid.region(number);
        let out = lw.output(node, &region, target);
        lw.graph.write(kernel, &params(number, &region)?, &[], out)?;
        values.push(out);
    }
    Ok(values)
}

/// `1000x1000`, for group labels.
pub(super) fn extents(grid: &ChunkGrid) -> String {
    let parts: Vec<String> = grid.largest().iter().map(ToString::to_string).collect();
    if parts.is_empty() { "scalar".into() } else { parts.join("x") }
}

impl<T: Element, D: ndarray::Dimension> From<ndarray::Array<T, D>> for Array<T> {
    /// The array's memory is used where it lies, in whatever order; only negative strides are copied away.
    fn from(array: ndarray::Array<T, D>) -> Self {
        let array = array.into_dyn();
        let backwards = || array.shape().iter().zip(array.strides()).any(|(&n, &s)| n > 1 && s < 0);
        let array = if !array.is_empty() && backwards() { array.as_standard_layout().into_owned() } else { array };
        // Nobody takes a step along an axis of at most one element, so what its stride says is of no use, and may be negative.
        let step = |(&n, &stride): (&usize, &isize)| if n > 1 && !array.is_empty() { stride } else { 0 };
        let strides = array.shape().iter().zip(array.strides()).map(step).collect();
        let layout = Layout { dtype: T::DTYPE, shape: array.shape().to_vec(), strides };
        let shape = layout.shape.clone();
        let (vec, offset) = array.into_raw_vec_and_offset();
        let bytes = HostBuffer::caller(&Arc::new(vec));
        Self::new(Memory { bytes, offset: offset.unwrap_or(0), layout }, Vec::new(), shape, None)
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
        Ok(Self::new(Source { source }, Vec::new(), shape, None))
    }

    /// The array in a file: `data.h5:/path/in/file`, `data.npy`. Reads metadata only.
    ///
    /// # Errors
    /// As [`crate::store::open`] and [`Array::from_source`].
    pub fn open(spec: &str) -> Result<Self> {
        Self::from_source(store::open(spec)?)
    }
}

impl<T: Float> Array<T> {
    /// Uniform random numbers in [0, 1), from the global session's seed. Their values depend on the seed and on how many random arrays
    /// were made before, never on chunks.
    ///
    /// # Panics
    /// If the shape overflows memory addresses.
    #[track_caller]
    pub fn random_uniform(shape: impl AsRef<[usize]>) -> Self {
        or_panic(Session::global().random_uniform(shape))
    }
}

impl Session {
    /// Uniform random numbers in [0, 1), from this session's seed. Two arrays of one session differ.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn random_uniform<T: Float>(&self, shape: impl AsRef<[usize]>) -> Result<Array<T>> {
        let shape = checked_shape("random_uniform", shape.as_ref())?;
        Ok(Array::new(RandomUniform { seed: self.seed(), stream: self.next_stream() }, Vec::new(), shape, Some(self.clone())))
    }

    /// A symmetric positive definite matrix of order `n`: uniform numbers in [-0.5, 0.5) off the diagonal, `n` on it.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn random_spd<T: Float>(&self, n: usize) -> Result<Array<T>> {
        let shape = checked_shape("random_spd", &[n, n])?;
        Ok(Array::new(RandomSpd { seed: self.seed(), stream: self.next_stream() }, Vec::new(), shape, Some(self.clone())))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, Array3, ArrayD, Dimension, s};

    use super::*;

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
