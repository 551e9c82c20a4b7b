//! Tiled Cholesky factorisation.
//!
//! Owns: `cholesky`. Must not know: kernels' insides. Invariant: tasks are those of the right-looking algorithm,
//! T (T + 1) (T + 2) / 6 of them for T x T tiles, and each tile's updates run in the same order always.

use std::sync::Arc;

use super::lower::{Lowering, Op, Target};
use super::{Array, Node, chunks};
use crate::error::{Error, Result, or_panic};
use crate::id::{KernelId, ValueId};
use crate::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use crate::kernel::zeros::Zeros;
use crate::shape::{ChunkGrid, Float, Region};

impl<T: Float> Array<T> {
    /// The lower triangular `L` with `A = L Lᵀ`, for a symmetric positive definite `A` `(n, n)`.
    ///
    /// Only the lower triangle of `A` is read; the upper triangle of `L` is zero. Chunks are square tiles: those of
    /// [`Array::chunks`] on the result or, if square, on `A`; else n/16 rounded to 64, within 256..1024. Work: `n^3 / 3` flops.
    /// Backward error: `max |A - L Lᵀ|` is at most a small multiple of `n eps max |A|`.
    ///
    /// # Panics
    /// If this is not a square matrix. [`Array::try_cholesky`] returns that as an error. That `A` is not positive definite
    /// shows when it is computed: [`Error::NotPositiveDefinite`].
    #[track_caller]
    pub fn cholesky(&self) -> Self {
        or_panic(self.try_cholesky())
    }

    /// [`Array::cholesky`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`] if this is not a square matrix.
    pub fn try_cholesky(&self) -> Result<Self> {
        match *self.shape() {
            [n, m] if n == m => {
                let op = Cholesky { a: self.node.clone(), grid: None };
                Ok(Self::new(op, vec![n, n], self.session.clone()))
            }
            _ => Err(Error::Shape { op: "cholesky", found: self.shape().to_vec(), wanted: "a square matrix".into() }),
        }
    }
}

#[derive(Clone)]
struct Cholesky {
    a: Arc<Node>,
    grid: Option<ChunkGrid>,
}

/// Whether rows and columns are cut alike.
fn is_square(grid: &ChunkGrid) -> bool {
    let counts = grid.counts();
    counts[0] == counts[1] && (0..counts[0]).all(|i| grid.axis_range(0, i) == grid.axis_range(1, i))
}

impl Op for Cholesky {
    fn name(&self) -> &'static str {
        "cholesky"
    }

    fn default_grid(&self, node: &Node) -> ChunkGrid {
        let chosen = self.grid.clone().or_else(|| self.a.grid.clone().filter(is_square));
        chosen.unwrap_or_else(|| {
            let tile = chunks::tile(node.shape[0]);
            ChunkGrid::regular(&node.shape, &[tile, tile]).expect("a checked shape with positive extents has a grid")
        })
    }

    fn regrid(&self, grid: &ChunkGrid) -> Result<Box<dyn Op>> {
        if !is_square(grid) {
            let wanted = "rows and columns cut alike: one number, as in .chunks(512)".into();
            return Err(Error::Shape { op: "cholesky chunks", found: grid.largest(), wanted });
        }
        Ok(Box::new(Self { a: self.a.clone(), grid: Some(grid.clone()) }))
    }

    fn task_count(&self, node: &Node) -> usize {
        let t = node.grid().counts()[0];
        t * (t + 1) * (t + 2) / 6
    }

    fn inputs(&self) -> Vec<Arc<Node>> {
        vec![self.a.clone()]
    }

    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let tiles = grid.counts()[0];
        lw.expect_tasks(tiles.saturating_mul(tiles + 1).saturating_mul(tiles + 2) / 6)?;
        let a = lw.chunks(&self.a, grid)?;
        let kernels = Kernels {
            potrf: lw.graph.kernel(Arc::new(Potrf::new())),
            trsm: lw.graph.kernel(Arc::new(Trsm::new())),
            syrk: lw.graph.kernel(Arc::new(Syrk::new())),
            gemm: lw.graph.kernel(Arc::new(Gemm::new())),
        };
        let edge = grid.largest()[0];
        lw.graph.group(format!("cholesky {edge}x{edge}"));
        let mut factor = Factor { node, grid, target, tiles, current: a };
        for k in 0..tiles {
            factor.step(k, &kernels, lw)?;
        }
        let zeros = lw.graph.kernel(Arc::new(Zeros));
        if target == Target::Pool && tiles > 1 {
            lw.graph.group("zeros above the diagonal");
            for (row, column) in (0..tiles).flat_map(|i| (i + 1..tiles).map(move |j| (i, j))) {
                let out = lw.output(node, &grid.region_at(&[row, column]), target);
                lw.graph.write(zeros, &[], &[], out)?;
                factor.current[row * tiles + column] = out;
            }
        }
        Ok(factor.current)
    }
}

struct Kernels {
    potrf: KernelId,
    trsm: KernelId,
    syrk: KernelId,
    gemm: KernelId,
}

/// The factorisation on its way: the newest version of each tile.
struct Factor<'a> {
    node: &'a Node,
    grid: &'a ChunkGrid,
    target: Target,
    tiles: usize,
    current: Vec<ValueId>,
}

impl Factor<'_> {
    /// Column `k`: factor its diagonal tile, solve below it, update everything to its right.
    fn step(&mut self, k: usize, kernels: &Kernels, lw: &mut Lowering) -> Result<()> {
        let (row, depth) = self.grid.axis_range(0, k);
        let diagonal = self.update(kernels.potrf, &PotrfParams { row: row as u64 }, (k, k), &[], lw)?;
        for i in k + 1..self.tiles {
            self.update(kernels.trsm, &[0u8; 0], (i, k), &[diagonal], lw)?;
        }
        let depth = depth as u64;
        for j in k + 1..self.tiles {
            let right = self.tile(j, k);
            self.update(kernels.syrk, &ProductParams { k: depth }, (j, j), &[right, right], lw)?;
            for i in j + 1..self.tiles {
                let left = self.tile(i, k);
                self.update(kernels.gemm, &ProductParams { k: depth }, (i, j), &[left, right], lw)?;
            }
        }
        Ok(())
    }

    fn tile(&self, i: usize, j: usize) -> ValueId {
        self.current[i * self.tiles + j]
    }

    fn update(
        &mut self,
        kernel: KernelId,
        params: &impl bytemuck::NoUninit,
        (i, j): (usize, usize),
        inputs: &[ValueId],
        lw: &mut Lowering,
    ) -> Result<ValueId> {
        let region: Region = self.grid.region_at(&[i, j]);
        let new = lw.output(self.node, &region, self.target);
        lw.graph.update(kernel, bytemuck::bytes_of(params), inputs, self.tile(i, j), new)?;
        self.current[i * self.tiles + j] = new;
        Ok(new)
    }
}
