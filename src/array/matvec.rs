//! Matrix times vector.
//!
//! Owns: `matvec`. Must not know: kernels' insides. Invariant: partial products are added in column order, so that the result depends on
//! the matrix' chunk grid only.

use std::sync::Arc;

use super::leaf::extents;
use super::lower::{Lowering, Op, Target};
use super::{Array, Node};
use crate::error::{Error, Result, or_panic};
use crate::id::ValueId;
use crate::kernel::gemv::Gemv;
use crate::kernel::sums::Add;
use crate::shape::{ChunkGrid, Float};

impl<T: Float> Array<T> {
    /// `y = A x`: `A` is this `(m, k)` array, `x` is `(k,)`, `y` is `(m,)`.
    ///
    /// One `gemv` per chunk of `A`; where `A` has several chunks across, their partial results are added in order. Work:
    /// `2 m k` flops, `m k` elements read once. Sums are accumulated in blocks, in `f64`.
    ///
    /// ```
    /// use chunkwise::prelude::*;
    /// let a = Array::from(ndarray::arr2(&[[1.0, 2.0], [3.0, 4.0]]));
    /// let x = Array::from(ndarray::arr1(&[1.0, 10.0]));
    /// assert_eq!(a.matvec(&x).compute()?, ndarray::arr1(&[21.0, 43.0]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes do not match, or the arrays belong to two sessions. [`Array::try_matvec`] returns that as an error.
    #[track_caller]
    pub fn matvec(&self, x: &Self) -> Self {
        or_panic(self.try_matvec(x))
    }

    /// [`Array::matvec`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if this is not a matrix, or `x` not a vector with one element per column;
    /// [`Error::SessionMismatch`].
    pub fn try_matvec(&self, x: &Self) -> Result<Self> {
        let [m, k] = *self.shape() else {
            return Err(Error::Shape { op: "matvec", found: self.shape().to_vec(), wanted: "a matrix (two axes)".into() });
        };
        if x.shape() != [k] {
            let wanted = format!("a vector of shape [{k}], because the matrix is [{m}, {k}]");
            return Err(Error::Shape { op: "matvec", found: x.shape().to_vec(), wanted });
        }
        let session = self.common_session(x, "matvec")?;
        Ok(Self::new(Matvec { a: self.node.clone(), x: x.node.clone() }, vec![m], session))
    }
}

#[derive(Clone)]
struct Matvec {
    a: Arc<Node>,
    x: Arc<Node>,
}

/// The extents of a grid's chunks along an axis.
fn cuts(grid: &ChunkGrid, axis: usize) -> Vec<usize> {
    (0..grid.counts()[axis]).map(|i| grid.axis_range(axis, i).1).collect()
}

impl Op for Matvec {
    fn name(&self) -> &'static str {
        "matvec"
    }

    fn default_grid(&self, node: &Node) -> ChunkGrid {
        ChunkGrid::irregular(&node.shape, &[cuts(&self.a.grid(), 0)]).expect("the cuts of the matrix' rows")
    }

    fn regrid(&self, _: &ChunkGrid) -> Result<Box<dyn Op>> {
        Ok(Box::new(self.clone()))
    }

    fn task_count(&self, _: &Node) -> usize {
        let grid = self.a.grid();
        grid.len() + if grid.counts()[1] > 1 { grid.counts()[0] } else { 0 }
    }

    fn inputs(&self) -> Vec<Arc<Node>> {
        vec![self.a.clone(), self.x.clone()]
    }

    fn lower(&self, node: &Node, rows: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let (m, k) = (self.a.shape[0], self.a.shape[1]);
        let columns = match lw.side {
            Some(side) => ChunkGrid::regular(&[k], &[side])?,
            None => ChunkGrid::irregular(&[k], &[cuts(&self.a.grid(), 1)])?,
        };
        let grid = ChunkGrid::irregular(&[m, k], &[cuts(rows, 0), cuts(&columns, 0)])?;
        lw.expect_tasks(grid.len() + rows.len())?;
        let x = lw.chunks(&self.x, &columns)?;
        // A leaf's chunks are made row by row, next to their use: the matrix need not fit in memory.
        let whole = if self.a.op.is_leaf() { None } else { Some(lw.chunks(&self.a, &grid)?) };
        let (gemv, add) = (lw.graph.kernel(Arc::new(Gemv)), lw.graph.kernel(Arc::new(Add)));
        let across = columns.len();
        let mut values = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let numbers = row * across..(row + 1) * across;
            let a = match &whole {
                Some(all) => all[numbers].to_vec(),
                None => lw.piece(&self.a, &grid, numbers)?,
            };
            let region = rows.region(row);
            lw.graph.group(format!("gemv {}", extents(&grid)));
            let mut partials = Vec::with_capacity(across);
            for (&a, &x) in a.iter().zip(&x) {
                let out =
                    if across == 1 { lw.output(node, &region, target) } else { lw.graph.value(node.dtype, &region.shape()) };
                lw.graph.write(gemv, &[], &[a, x], out)?;
                partials.push(out);
            }
            if across == 1 {
                values.push(partials[0]);
                continue;
            }
            lw.graph.group(format!("add {across} partials"));
            let out = lw.output(node, &region, target);
            lw.graph.write(add, &[], &partials, out)?;
            values.push(out);
        }
        Ok(values)
    }
}
