//! Matrix times vector.
//!
//! Owns: `matvec`. Must not know: kernels' insides. Invariant: partial products are added in column order, so that the result depends on
//! the matrix' chunk grid only.

use std::sync::Arc;

use super::Array;
use super::leaf::extents;
use super::lower::{Lowering, Op, Target};
use super::node::Node;
use crate::error::{Error, Result, or_panic};
use crate::id::ValueId;
use crate::kernel::gemv::Gemv;
use crate::kernel::sums::Add;
use crate::shape::{ChunkGrid, DType, Float};

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
        Ok(Self::new(Matvec, vec![self.node.clone(), x.node.clone()], vec![m], session))
    }
}

struct Matvec;

/// The cuts of the matrix' columns, and those of the whole matrix with its rows cut so.
fn cuts(node: &Node, rows: &ChunkGrid, lw: &Lowering) -> Result<(ChunkGrid, ChunkGrid)> {
    let a = &node.inputs[0];
    let columns = match lw.side {
        Some(side) => ChunkGrid::regular(&[a.shape[1]], &[side])?,
        None => a.grid.along(1),
    };
    let grid = rows.by(&columns)?;
    Ok((columns, grid))
}

impl Op for Matvec {
    fn name(&self) -> &str {
        "matvec"
    }

    fn default_grid(&self, inputs: &[Arc<Node>], _: &[usize], _: DType) -> ChunkGrid {
        inputs[0].grid.along(0)
    }

    fn task_count(&self, node: &Node) -> usize {
        let grid = &node.inputs[0].grid;
        grid.len() + if grid.counts()[1] > 1 { grid.counts()[0] } else { 0 }
    }

    /// The vector. A leaf's chunks are made row by row, next to their use: the matrix need not fit in memory.
    fn whole_inputs(&self, node: &Node, rows: &ChunkGrid, lw: &Lowering) -> Result<Vec<(usize, ChunkGrid)>> {
        let (columns, grid) = cuts(node, rows, lw)?;
        let matrix = (!node.inputs[0].op.is_leaf()).then_some((0, grid));
        Ok(std::iter::once((1, columns)).chain(matrix).collect())
    }

    fn lower(&self, node: &Node, rows: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let (matrix, vector) = (&node.inputs[0], &node.inputs[1]);
        let (columns, grid) = cuts(node, rows, lw)?;
        lw.expect_tasks(grid.len().saturating_add(rows.len()))?;
        let x = lw.chunks(vector, &columns)?;
        let whole = if matrix.op.is_leaf() { None } else { Some(lw.chunks(matrix, &grid)?) };
        let (gemv, add) = (lw.graph.kernel(Arc::new(Gemv)), lw.graph.kernel(Arc::new(Add)));
        let across = columns.len();
        let mut values = Vec::with_capacity(rows.len());
        for row in 0..rows.len() {
            let numbers = row * across..(row + 1) * across;
            let a = match &whole {
                Some(all) => all[numbers].to_vec(),
                None => lw.piece(matrix, &grid, numbers)?,
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
