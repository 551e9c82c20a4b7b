//! The table that Dask users know.
//!
//! Owns: `Debug` of [`Array`]. Must not know: terminals. Invariant: printing runs nothing.

use std::fmt;

use super::Array;
use crate::error::Bytes;
use crate::shape::Element;

impl<T: Element> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grid = self.grid();
        let chunk = grid.largest();
        let chunk_bytes = chunk.iter().product::<usize>() as u64 * T::DTYPE.bytes() as u64;
        let tasks: usize = self.node.all().into_iter().map(|node| node.op.task_count(node)).fold(0, usize::saturating_add);
        writeln!(f, "{:<8}{:>16} {:>15}", self.node.op.name(), "array", "chunk")?;
        writeln!(f, "{:<8}{:>16} {:>15}", "bytes", Bytes(self.nbytes()).to_string(), Bytes(chunk_bytes).to_string())?;
        writeln!(f, "{:<8}{:>16} {:>15}", "shape", tuple(self.shape()), tuple(&chunk))?;
        writeln!(f, "{:<8}{:>16} {:>15}", "count", count(tasks, "task"), count(grid.len(), "chunk"))?;
        write!(f, "{:<8}{:>16}", "dtype", T::DTYPE.to_string())
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
