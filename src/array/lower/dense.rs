//! Stages of linear algebra: matrix times vector, the Cholesky factorisation.
//!
//! Owns: their questions. Must not know: kernels' insides. Invariant: partial products are added in column order, and each tile is updated in the order of the
//! columns, so that results depend on the matrix' chunk grid only.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::super::grids::bytes_of;
use super::draft::{Around, Recipe};
use super::stage::{Make, Need, StageId};
use super::{Destination, Lowering, Piece, TaskKind, extents};
use crate::error::Result;
use crate::id::KernelId;
use crate::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use crate::kernel::gemv::Gemv;
use crate::kernel::sums::Add;
use crate::shape::{ChunkGrid, DType};
use crate::task::Operand;

/// How the chunks of a matrix times a vector are made: one `gemv` per chunk of the matrix; where it has several across, their results are added.
pub(super) fn matvec(this: StageId, recipe: &Recipe, around: &Around<'_>) -> Rc<dyn Make> {
    let matrix = around.stage(recipe.inputs[0]).1.grid.clone();
    let across = matrix.count(1);
    let row = [matrix.largest()[0], matrix.shape()[1]];
    Rc::new(Matvec {
        this,
        matrix: recipe.inputs[0],
        vector: recipe.inputs[1],
        rows: recipe.grid.clone(),
        across,
        by_row: bytes_of(row, recipe.dtype) <= ROW_BYTES,
        dtype: recipe.dtype,
        gemv: TaskKind::new(Arc::new(Gemv), format!("gemv {}", extents(&matrix))),
        add: TaskKind::new(Arc::new(Add), format!("add {across} partials")),
    })
}

/// Chunks of a row of the matrix that are made together take at most this.
const ROW_BYTES: u64 = 1 << 20;

/// Question `r` is chunk `r` of the result; if there are several chunks across, `rows + r * across + c` is the product of chunk `(r, c)`.
struct Matvec {
    this: StageId,
    matrix: StageId,
    vector: StageId,
    rows: ChunkGrid,
    across: usize,
    /// Whether all chunks of a row are made before the first is used: they are small, and tasks of one kind that follow each other are a group.
    by_row: bool,
    dtype: DType,
    gemv: TaskKind,
    add: TaskKind,
}

impl Matvec {
    /// Row and column of the chunk whose product this is, if the question is for one.
    fn product(&self, question: usize) -> Option<(usize, usize)> {
        match question.checked_sub(self.rows.len()) {
            Some(product) => Some((product / self.across, product % self.across)),
            None => (self.across == 1).then_some((question, 0)),
        }
    }
}

impl Make for Matvec {
    fn needs(&self, question: usize, needs: &mut Vec<Need>) {
        match self.product(question) {
            Some((row, column)) => needs.extend([(self.matrix, row * self.across + column), (self.vector, column)]),
            None => {
                let chunks = question * self.across..(question + 1) * self.across;
                if self.by_row {
                    needs.extend(chunks.clone().map(|chunk| (self.matrix, chunk)));
                }
                needs.extend(chunks.map(|product| (self.this, self.rows.len() + product)));
            }
        }
    }

    fn width(&self, question: usize) -> usize {
        if self.product(question).is_some() { 0 } else { self.across }
    }

    fn make(&self, question: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let product = self.product(question);
        let (row, kind) = product.map_or((question, &self.add), |(row, _)| (row, &self.gemv));
        let out = lw.out(place, self.dtype, &[self.rows.axis_range(0, row).1]);
        let operands = if product.is_some() { given } else { &given[given.len() - self.across..] };
        lw.task(kind, &[], operands, out)
    }

    fn tasks(&self, grid: &ChunkGrid) -> usize {
        grid.len().saturating_mul(if self.across == 1 { 1 } else { self.across + 1 })
    }
}

/// How the tiles of a Cholesky factor are made: `T (T + 1) (T + 2) / 6` tasks for `T x T` tiles if all are asked for.
pub(super) fn cholesky(this: StageId, recipe: &Recipe, lw: &mut Lowering) -> Result<Rc<dyn Make>> {
    let grid = recipe.grid.clone();
    let (edge, tiles) = (grid.largest()[0], grid.count(0));
    lw.budget.has_room(tiles.saturating_mul(tiles) / 2)?;
    let kernels = Kernels {
        potrf: lw.graph.kernel(Arc::new(Potrf::new())),
        trsm: lw.graph.kernel(Arc::new(Trsm::new())),
        syrk: lw.graph.kernel(Arc::new(Syrk::new())),
        gemm: lw.graph.kernel(Arc::new(Gemm::new())),
    };
    let updates = |k: usize| triangle(tiles - k - 1);
    let starts = (0..tiles).scan(tiles * tiles, |next, k| Some(std::mem::replace(next, *next + updates(k)))).collect();
    let label = format!("cholesky {edge}x{edge}");
    Ok(Rc::new(Cholesky { this, matrix: recipe.inputs[0], tiles, grid, dtype: recipe.dtype, kernels, starts, label }))
}

struct Kernels {
    potrf: KernelId,
    trsm: KernelId,
    syrk: KernelId,
    gemm: KernelId,
}

/// Tiles on and below the diagonal of so many rows.
fn triangle(rows: usize) -> usize {
    rows * (rows + 1) / 2
}

/// Question `i * tiles + j` is tile `(i, j)` of the factor; those from `starts[k]` on are the tiles right of column `k` once that has been taken from them, on
/// and below the diagonal, row by row.
struct Cholesky {
    this: StageId,
    matrix: StageId,
    grid: ChunkGrid,
    tiles: usize,
    dtype: DType,
    kernels: Kernels,
    starts: Vec<usize>,
    label: String,
}

impl Cholesky {
    fn tile(&self, i: usize, j: usize) -> usize {
        i * self.tiles + j
    }

    /// The question for tile `(i, j)` with the first `columns` columns taken from it: that of the matrix if there are none.
    fn version(&self, i: usize, j: usize, columns: usize) -> Need {
        match columns.checked_sub(1) {
            None => (self.matrix, self.tile(i, j)),
            Some(k) => (self.this, self.starts[k] + triangle(i - k - 1) + j - k - 1),
        }
    }

    /// The tile that a question is for, and the column that is taken from it last, unless the tile is ready.
    fn place(&self, question: usize) -> (usize, usize, Option<usize>) {
        let Some(k) = self.starts.partition_point(|&start| start <= question).checked_sub(1) else {
            return (question / self.tiles, question % self.tiles, None);
        };
        let at = question - self.starts[k];
        let row = ((8 * at + 1).isqrt() - 1) / 2;
        (k + 1 + row, k + 1 + at - triangle(row), Some(k))
    }
}

impl Make for Cholesky {
    fn needs(&self, question: usize, needs: &mut Vec<Need>) {
        match self.place(question) {
            (i, j, None) if i < j => {}
            (i, j, None) => {
                needs.push(self.version(i, j, j));
                needs.extend((i > j).then(|| (self.this, self.tile(j, j))));
            }
            (i, j, Some(k)) => {
                needs.push(self.version(i, j, k));
                needs.push((self.this, self.tile(j, k)));
                needs.extend((i > j).then(|| (self.this, self.tile(i, k))));
            }
        }
    }

    fn make(&self, question: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let (i, j, column) = self.place(question);
        let shape = self.grid.region_at(&[i, j]).shape();
        let Some((&before, others)) = given.split_first() else { return lw.zeros(self.dtype, &shape) };
        let before = match before.view() {
            None => before.value,
            Some(_) => lw.copied(before, &Destination::Pool, (self.dtype, &shape), &extents(&self.grid))?,
        };
        let (potrf, product);
        let (kernel, params, inputs): (_, &[u8], SmallVec<[Piece; 2]>) = match (column, others) {
            (None, []) => {
                potrf = PotrfParams { row: self.grid.axis_range(0, j).0 as u64 };
                (self.kernels.potrf, bytemuck::bytes_of(&potrf), SmallVec::new())
            }
            (None, diagonal) => (self.kernels.trsm, &[], diagonal.into()),
            (Some(k), right) => {
                product = ProductParams { k: self.grid.axis_range(0, k).1 as u64 };
                let params = bytemuck::bytes_of(&product);
                match *right {
                    [right] => (self.kernels.syrk, params, [right, right].into()),
                    _ => (self.kernels.gemm, params, [right[1], right[0]].into()),
                }
            }
        };
        lw.graph.group(&self.label);
        lw.budget.count_task()?;
        let new = lw.out(place, self.dtype, &shape);
        let inputs: SmallVec<[Operand; 2]> = inputs.iter().map(|input| input.operand()).collect();
        lw.graph.task(kernel, params, &inputs, &[Operand::update(before, new)])?;
        Ok(Piece::of(new))
    }

    /// Every version of a tile is where the last will be.
    fn belongs(&self, question: usize) -> Option<usize> {
        let (i, j, _) = self.place(question);
        Some(self.tile(i, j))
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        self.tiles.saturating_mul(self.tiles + 1).saturating_mul(self.tiles + 2) / 6
    }

    fn step_count(&self) -> Option<usize> {
        Some(self.tiles)
    }

    /// A column, and all to its right: so what a column is packed to for products is of no use after its step.
    fn step(&self, k: usize) -> Vec<usize> {
        let rows = k + 1..self.tiles;
        let mut questions: Vec<usize> = (k..self.tiles).map(|i| self.tile(i, k)).collect();
        for j in rows {
            questions.extend((j..self.tiles).map(|i| self.version(i, j, k + 1).1));
        }
        questions
    }
}
