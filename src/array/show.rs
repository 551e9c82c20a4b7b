//! The table that Dask users know.
//!
//! Owns: `Debug` of [`Array`]. Must not know: terminals. Invariant: printing runs nothing.

use std::fmt;

use super::Array;
use super::expr::{Existing, Generator, Primitive};
use super::lower::{Lowering, tree_tasks};
use crate::error::Bytes;

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grid = self.grid();
        let chunk = grid.largest();
        let chunk_bytes = chunk.iter().product::<usize>() as u64 * self.dtype().bytes() as u64;
        let tasks = self.task_count();
        writeln!(f, "{:<8}{:>16} {:>15}", self.node.op.name(), "array", "chunk")?;
        writeln!(f, "{:<8}{:>16} {:>15}", "bytes", Bytes(self.nbytes()).to_string(), Bytes(chunk_bytes).to_string())?;
        writeln!(f, "{:<8}{:>16} {:>15}", "shape", tuple(self.shape()), tuple(&chunk))?;
        writeln!(f, "{:<8}{:>16} {:>15}", "count", count(tasks, "task"), count(grid.len(), "chunk"))?;
        write!(f, "{:<8}{:>16}", "dtype", self.dtype().to_string())?;
        match self.node.op.stored() {
            Some(source) => write!(f, "\n{:<8}{}", "from", source.name()),
            None => Ok(()),
        }
    }
}

/// More tasks are not counted one by one.
const COUNTED: usize = 100_000;

impl<T> Array<T> {
    /// Number of chunk tasks; if there are very many, about that: as if each part were made in its own chunks and in full.
    fn task_count(&self) -> usize {
        // Chunks of the caller's memory are no tasks, so counting tasks would not stop at many of them.
        let is_many = |node: &super::expr::Expr| {
            matches!(node.op.primitive, Primitive::Source(Existing::Memory { .. }, _)) && node.op.grid.len() > COUNTED
        };
        if !self.node.all().into_iter().any(is_many)
            && let Some(counted) = Lowering::trial(u64::MAX, None, COUNTED).task_count(&self.node)
        {
            return counted;
        }
        let of = |node: &super::expr::Expr| match &node.op.primitive {
            Primitive::Source(Existing::Memory { .. }, _) | Primitive::View(_) | Primitive::Concat(_) | Primitive::Rechunk => 0,
            Primitive::Reduce(reduce) => {
                let results = node.op.grid.len();
                tree_tasks(results, node.inputs[0].op.grid.len() / results.max(1), reduce.split_every)
            }
            Primitive::Contract => {
                let grid = &node.inputs[0].op.grid;
                grid.len() + if grid.count(1) > 1 { grid.count(0) } else { 0 }
            }
            Primitive::Factor => {
                let tiles = node.op.grid.count(0);
                tiles.saturating_mul(tiles + 1).saturating_mul(tiles + 2) / 6
            }
            Primitive::Generate(Generator::Points { .. } | Generator::Constant(_), _) => 0,
            _ => node.op.grid.len(),
        };
        self.node.all().into_iter().map(of).fold(0, usize::saturating_add)
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn tuple(shape: &[usize]) -> String {
    let parts: Vec<String> = shape.iter().map(ToString::to_string).collect();
    match parts.as_slice() {
        [one] => format!("({one},)"),
        _ => format!("({})", parts.join(", ")),
    }
}
