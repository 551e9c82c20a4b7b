//! Tiled Cholesky factorisation.
//!
//! Owns: `cholesky`. Must not know: kernels' insides. Invariant: tasks are those of the right-looking algorithm,
//! T (T + 1) (T + 2) / 6 of them for T x T tiles, and each tile's updates run in the same order always.

use std::sync::Arc;

use super::lower::{Lowering, Op, Target};
use super::node::Node;
use super::{Array, chunks};
use crate::error::{Error, Result, or_panic};
use crate::id::{KernelId, ValueId};
use crate::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use crate::kernel::zeros::Zeros;
use crate::shape::{ChunkGrid, DType, Float, Region};

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
            [n, m] if n == m => Ok(Self::new(Cholesky, vec![self.node.clone()], vec![n, n], self.session.clone())),
            _ => Err(Error::Shape { op: "cholesky", found: self.shape().to_vec(), wanted: "a square matrix".into() }),
        }
    }
}

struct Cholesky;

/// Whether rows and columns are cut alike.
fn is_square(grid: &ChunkGrid) -> bool {
    grid.along(0) == grid.along(1)
}

/// Number of tasks for so many tiles a side.
fn tasks(tiles: usize) -> usize {
    tiles.saturating_mul(tiles + 1).saturating_mul(tiles + 2) / 6
}

impl Op for Cholesky {
    fn name(&self) -> &str {
        "cholesky"
    }

    fn default_grid(&self, inputs: &[Arc<Node>], shape: &[usize], _: DType) -> ChunkGrid {
        let a = &inputs[0];
        if a.is_cut && is_square(&a.grid) {
            return a.grid.clone();
        }
        let tile = chunks::tile(shape[0]);
        ChunkGrid::regular(shape, &[tile, tile]).expect("a checked shape with positive extents has a grid")
    }

    fn check_grid(&self, _: &[Arc<Node>], grid: &ChunkGrid) -> Result<()> {
        if is_square(grid) {
            return Ok(());
        }
        let wanted = "rows and columns cut alike: one number, as in .chunks(512)".into();
        Err(Error::Shape { op: "cholesky chunks", found: grid.largest(), wanted })
    }

    fn task_count(&self, node: &Node) -> usize {
        tasks(node.grid.counts()[0])
    }

    fn whole_inputs(&self, _: &Node, grid: &ChunkGrid, _: &Lowering) -> Result<Vec<(usize, ChunkGrid)>> {
        Ok(vec![(0, grid.clone())])
    }

    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let tiles = grid.counts()[0];
        lw.expect_tasks(tasks(tiles))?;
        let a = lw.chunks(&node.inputs[0], grid)?;
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
