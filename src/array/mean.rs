//! Means of a whole array.
//!
//! Owns: `mean`, `weighted_mean`. Must not know: files, beyond that a source can be summed as it is read. Invariant: partial
//! sums are merged by a tree whose shape the chunk grid fixes.

use std::sync::Arc;

use super::Array;
use super::leaf::extents;
use super::lower::{Lowering, Op, Target};
use super::node::Node;
use crate::error::{Error, Result, or_panic};
use crate::id::ValueId;
use crate::kernel::Kernel;
use crate::kernel::sums::{DivideSums, MergeSums, SumChunk, WeightedSumChunk};
use crate::shape::{ChunkGrid, DType, Real, Region};
use crate::store;

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
        Array::new(Mean { name: "mean" }, vec![self.node.clone()], vec![], self.session.clone())
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
        let op = Mean { name: "weighted_mean" };
        Ok(Array::new(op, vec![self.node.clone(), w.node.clone()], vec![], session))
    }
}

/// Of its first input, weighted by its second if there is one.
struct Mean {
    name: &'static str,
}

impl Op for Mean {
    fn name(&self) -> &str {
        self.name
    }

    fn default_grid(&self, _: &[Arc<Node>], shape: &[usize], _: DType) -> ChunkGrid {
        ChunkGrid::single(shape).expect("rank 0 has one chunk")
    }

    fn task_count(&self, node: &Node) -> usize {
        let (mut level, mut count) = (node.inputs[0].grid.len(), 1);
        count += level;
        while level > 1 {
            level = level.div_ceil(FAN_IN);
            count += level;
        }
        count
    }

    fn whole_inputs(&self, node: &Node, _: &ChunkGrid, lw: &Lowering) -> Result<Vec<(usize, ChunkGrid)>> {
        let grid = lw.grid_of(&node.inputs[0])?;
        let in_file = node.inputs.iter().all(|input| input.op.source().is_some());
        Ok(if in_file { Vec::new() } else { (0..node.inputs.len()).map(|i| (i, grid.clone())).collect() })
    }

    fn lower(&self, node: &Node, _: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let (x, w) = (&node.inputs[0], node.inputs.get(1));
        let grid = lw.grid_of(x)?;
        lw.expect_tasks(grid.len().saturating_add(grid.len() / (FAN_IN - 1)).saturating_add(2))?;
        let mut level = match (x.op.source(), w.map(|w| w.op.source())) {
            (Some(x), None) => {
                let kernel = store::SumChunk { source: x.clone(), grid: grid.clone() };
                sum_files(lw, &grid, ("read and sum", Arc::new(kernel)), |r| x.constant(r).is_some())?
            }
            (Some(x), Some(Some(w))) => {
                let kernel = store::WeightedSumChunk::new(x.clone(), w.clone(), grid.clone())?;
                let empty = |r: &Region| x.constant(r).is_some() && w.constant(r).is_some();
                sum_files(lw, &grid, ("read and weigh", Arc::new(kernel)), empty)?
            }
            _ => {
                let x = lw.chunks(x, &grid)?;
                match w {
                    None => partials(lw, ("block_sum", Arc::new(SumChunk)), &grid, x.len(), |i| (Vec::new(), vec![x[i]]))?,
                    Some(w) => {
                        let w = lw.chunks(w, &grid)?;
                        let kernel = ("weighted_sum", Arc::new(WeightedSumChunk) as Arc<dyn Kernel>);
                        partials(lw, kernel, &grid, x.len(), |i| (Vec::new(), vec![x[i], w[i]]))?
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

/// One pair (sum, count) per part; `of` gives its parameters and inputs.
fn partials(
    lw: &mut Lowering,
    (label, kernel): (&str, Arc<dyn Kernel>),
    grid: &ChunkGrid,
    count: usize,
    of: impl Fn(usize) -> (Vec<u8>, Vec<ValueId>),
) -> Result<Vec<ValueId>> {
    let kernel = lw.graph.kernel(kernel);
    lw.graph.group(format!("{label} {}", extents(grid)));
    let mut values = Vec::with_capacity(count);
    for number in 0..count {
        let out = lw.graph.value(DType::F64, &[2]);
        let (params, inputs) = of(number);
        lw.graph.write(kernel, &params, &inputs, out)?;
        values.push(out);
    }
    Ok(values)
}

/// Sums of files' chunks; neighbours that were never written (`is_empty`) are one part, which costs nothing to sum.
fn sum_files(
    lw: &mut Lowering,
    grid: &ChunkGrid,
    kernel: (&str, Arc<dyn Kernel>),
    is_empty: impl Fn(&Region) -> bool,
) -> Result<Vec<ValueId>> {
    let parts = unwritten_joined(grid, is_empty);
    partials(lw, kernel, grid, parts.len(), |i| (bytemuck::bytes_of(&parts[i]).to_vec(), Vec::new()))
}

/// The first and last chunk of each part: a chunk, or a run of unwritten ones that follow each other along the first axis and span all others.
fn unwritten_joined(grid: &ChunkGrid, is_empty: impl Fn(&Region) -> bool) -> Vec<[u32; 2]> {
    let shape = grid.shape();
    if !grid.is_empty() && is_empty(&Region::all(shape)) {
        return vec![[0, grid.len() as u32 - 1]];
    }
    let slab = |r: &Region| r.axes().iter().zip(shape).skip(1).all(|(a, &n)| a.len == n);
    let mut out: Vec<([u32; 2], bool)> = Vec::with_capacity(grid.len());
    for number in 0..grid.len() {
        let region = grid.region(number);
        let empty = slab(&region) && !shape.is_empty() && is_empty(&region);
        match out.last_mut() {
            Some((last, true)) if empty => last[1] = number as u32,
            _ => out.push(([number as u32; 2], empty)),
        }
    }
    out.into_iter().map(|(part, _)| part).collect()
}
