//! Means of a whole array.
//!
//! Owns: `mean`, `weighted_mean`. Must not know: files, beyond that a source can be summed as it is read. Invariant: partial
//! sums are merged by a tree whose shape the chunk grid fixes.

use std::sync::Arc;

use super::leaf::extents;
use super::lower::{Lowering, Op, Target};
use super::{Array, Node};
use crate::error::{Error, Result, or_panic};
use crate::id::ValueId;
use crate::kernel::Kernel;
use crate::kernel::sums::{DivideSums, MergeSums, SumChunk, WeightedSumChunk};
use crate::shape::{ChunkGrid, DType, Real, Region};
use crate::store;
use crate::task::ChunkSource;

/// Partial sums merged by one task.
const FAN_IN: usize = 32;

impl<T: Real> Array<T> {
    /// The mean of all elements, an array of rank 0, in `f64` whatever the dtype. NaN for an empty array.
    ///
    /// Each chunk is summed in blocks of 4096 that are merged pairwise, in `f64`; the chunks' sums are merged by a tree. A chunk in a
    /// file is summed as it is read, in blocks that stay in cache; parts that were never written are not read.
    ///
    /// ```
    /// use chunkwise::prelude::*;
    /// let a = Array::from(ndarray::arr1(&[1.0f32, 2.0, 6.0]));
    /// assert_eq!(a.mean().compute_scalar()?, 3.0);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn mean(&self) -> Array<f64> {
        Array::new(Mean { x: self.node.clone(), w: None }, vec![], self.session.clone())
    }

    /// `sum(w x) / sum(w)`, in `f64`: the mean with weights `w`, which has this array's shape and dtype.
    ///
    /// ```
    /// use chunkwise::prelude::*;
    /// let v = Array::from(ndarray::arr1(&[0i64, 1, 2, 3]));
    /// let w = Array::from(ndarray::arr1(&[5i64, 10, 33, 16]));
    /// assert_eq!(v.weighted_mean(&w).compute_scalar()?, 1.9375);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes differ, or the arrays belong to two sessions. [`Array::try_weighted_mean`] returns that as an error.
    #[track_caller]
    pub fn weighted_mean(&self, w: &Self) -> Array<f64> {
        or_panic(self.try_weighted_mean(w))
    }

    /// [`Array::weighted_mean`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, [`Error::SessionMismatch`].
    pub fn try_weighted_mean(&self, w: &Self) -> Result<Array<f64>> {
        if self.shape() != w.shape() {
            let wanted = format!("weights of shape {:?}, as the values have", self.shape());
            return Err(Error::Shape { op: "weighted_mean", found: w.shape().to_vec(), wanted });
        }
        let session = self.common_session(w, "weighted_mean")?;
        Ok(Array::new(Mean { x: self.node.clone(), w: Some(w.node.clone()) }, vec![], session))
    }
}

#[derive(Clone)]
struct Mean {
    x: Arc<Node>,
    w: Option<Arc<Node>>,
}

impl Op for Mean {
    fn name(&self) -> &'static str {
        if self.w.is_some() { "weighted_mean" } else { "mean" }
    }

    fn default_grid(&self, node: &Node) -> ChunkGrid {
        ChunkGrid::single(&node.shape).expect("rank 0 has one chunk")
    }

    fn regrid(&self, _: &ChunkGrid) -> Result<Box<dyn Op>> {
        Ok(Box::new(self.clone()))
    }

    fn task_count(&self, _: &Node) -> usize {
        let (mut level, mut count) = (self.x.grid().len(), 1);
        count += level;
        while level > 1 {
            level = level.div_ceil(FAN_IN);
            count += level;
        }
        count
    }

    fn inputs(&self) -> Vec<Arc<Node>> {
        std::iter::once(&self.x).chain(&self.w).cloned().collect()
    }

    fn lower(&self, node: &Node, _: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let grid = lw.grid_of(&self.x)?;
        lw.expect_tasks(grid.len() + grid.len() / (FAN_IN - 1) + 2)?;
        let mut level = match (self.x.op.source(), self.w.as_ref().map(|w| w.op.source())) {
            (Some(x), None) => sum_source(lw, x, &grid)?,
            (Some(x), Some(Some(w))) => {
                let empty = |r: &Region| x.constant(r).is_some() && w.constant(r).is_some();
                let regions = unwritten_joined(&grid, x.shape(), empty)?;
                let kernel = store::WeightedSumChunk::new(x.clone(), w.clone(), regions.clone())?;
                partials(lw, Arc::new(kernel), "read and weigh", &grid, regions.len(), |_| Vec::new())?
            }
            _ => {
                let x = lw.chunks(&self.x, &grid)?;
                match &self.w {
                    None => partials(lw, Arc::new(SumChunk), "block_sum", &grid, x.len(), |i| vec![x[i]])?,
                    Some(w) => {
                        let w = lw.chunks(w, &grid)?;
                        partials(lw, Arc::new(WeightedSumChunk), "weighted_sum", &grid, x.len(), |i| vec![x[i], w[i]])?
                    }
                }
            }
        };
        let merge = lw.graph.kernel(Arc::new(MergeSums));
        if level.len() != 1 {
            lw.graph.group("merge sums");
        }
        while level.len() != 1 {
            let parts: Vec<&[ValueId]> = if level.is_empty() { vec![&[]] } else { level.chunks(FAN_IN).collect() };
            let mut next = Vec::with_capacity(parts.len());
            for part in parts {
                let out = lw.graph.value(DType::F64, &[2]);
                lw.graph.write(merge, &[], part, out)?;
                next.push(out);
            }
            level = next;
        }
        let divide = lw.graph.kernel(Arc::new(DivideSums));
        lw.graph.group("divide");
        let out = lw.output(node, &Region::all(&[]), target);
        lw.graph.write(divide, &[], &level, out)?;
        Ok(vec![out])
    }
}

/// One pair (sum, count) per part.
fn partials(
    lw: &mut Lowering,
    kernel: Arc<dyn Kernel>,
    label: &str,
    grid: &ChunkGrid,
    count: usize,
    of: impl Fn(usize) -> Vec<ValueId>,
) -> Result<Vec<ValueId>> {
    let kernel = lw.graph.kernel(kernel);
    lw.graph.group(format!("{label} {}", extents(grid)));
    let mut values = Vec::with_capacity(count);
    for number in 0..count {
        let out = lw.graph.value(DType::F64, &[2]);
        lw.graph.write(kernel, &(number as u32).to_ne_bytes(), &of(number), out)?;
        values.push(out);
    }
    Ok(values)
}

/// Sums of a file's regions; neighbours that were never written are one region, which costs nothing to sum.
fn sum_source(lw: &mut Lowering, source: &Arc<dyn ChunkSource>, grid: &ChunkGrid) -> Result<Vec<ValueId>> {
    let regions = unwritten_joined(grid, source.shape(), |r| source.constant(r).is_some())?;
    let count = regions.len();
    let kernel = store::SumChunk { source: source.clone(), regions };
    partials(lw, Arc::new(kernel), "read and sum", grid, count, |_| Vec::new())
}

/// The grid's regions; runs of unwritten ones (`is_empty`) that follow each other along the first axis and span all others are joined.
fn unwritten_joined(grid: &ChunkGrid, shape: &[usize], is_empty: impl Fn(&Region) -> bool) -> Result<Vec<Region>> {
    let whole = Region::all(shape);
    if is_empty(&whole) {
        return Ok(vec![whole]);
    }
    let slab = |r: &Region| r.axes().iter().zip(shape).skip(1).all(|(a, &n)| a.len == n);
    let mut out: Vec<(Region, bool)> = Vec::with_capacity(grid.len());
    for region in (0..grid.len()).map(|i| grid.region(i)) {
        let empty = slab(&region) && !shape.is_empty() && is_empty(&region);
        match out.last_mut() {
            Some((last, true)) if empty => {
                let mut ranges: Vec<(usize, usize)> = shape.iter().map(|&n| (0, n)).collect();
                ranges[0] = (last.axes()[0].start, region.axes()[0].start + region.axes()[0].len);
                *last = Region::new(shape, &ranges)?;
            }
            _ => out.push((region, empty)),
        }
    }
    Ok(out.into_iter().map(|(r, _)| r).collect())
}
