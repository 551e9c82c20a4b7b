//! A graph with what it works on.
//!
//! Owns: [`Plan`]. Must not know: prices, placement. Invariant: there are bytes for each caller's array of the graph, and for no result.

use std::sync::Arc;

use crate::device::{Data, HostBuffer, Window, input_view};
use crate::error::{Error, Result};
use crate::id::{TaskId, ValueId};
use crate::shape::ChunkMeta;
use crate::task::{Home, HostArray, TaskGraph};

/// A graph, and the caller's arrays that it reads.
pub struct Plan {
    /// The tasks.
    pub(crate) graph: Arc<TaskGraph>,
    /// By array id: the caller's bytes; `None` for results.
    pub(super) arrays: Vec<Option<Arc<HostBuffer>>>,
}

impl Plan {
    /// A plan of `graph`; `arrays` has one entry per host array.
    ///
    /// # Errors
    /// [`Error::Argument`] if the entries do not match the graph's arrays.
    pub fn new(graph: TaskGraph, arrays: Vec<Option<Arc<HostBuffer>>>) -> Result<Self> {
        let one = |spec: &HostArray, bytes: &Option<Arc<HostBuffer>>| match bytes {
            None => spec.result,
            Some(b) => !spec.result && b.dtype().is_none_or(|d| d == spec.dtype) && b.bytes() as u64 >= spec.bytes(),
        };
        if graph.arrays().len() != arrays.len() || !graph.arrays().iter().zip(&arrays).all(|(spec, bytes)| one(spec, bytes)) {
            let wanted = "for each array of the graph: the caller's elements, of its dtype and as many, or None for a result";
            return Err(Error::argument("a plan's arrays", format!("{} entries", arrays.len()), wanted));
        }
        Ok(Self { graph: Arc::new(graph), arrays })
    }

    /// A plan that is only looked at: the caller's arrays are not there.
    pub(crate) fn without_bytes(graph: TaskGraph) -> Self {
        Self { graph: Arc::new(graph), arrays: Vec::new() }
    }

    /// The tasks.
    #[must_use]
    pub fn graph(&self) -> &Arc<TaskGraph> {
        &self.graph
    }

    fn window(&self, value: ValueId) -> Option<Window> {
        let Home::Window { array, offset } = self.graph.home(value) else { return None };
        let buffer = self.arrays[array.index()].clone()?;
        Some(Window::new(buffer, offset, self.graph.layout(value)))
    }

    /// Calls `with` with what is known of a task's operands (inputs, then outputs).
    pub(super) fn with_operands<R>(&self, task: TaskId, with: impl FnOnce(&[ChunkMeta<'_>]) -> R) -> R {
        let graph = &self.graph;
        let values = || graph.inputs(task).iter().chain(graph.outputs(task)).map(|o| o.value);
        if values().all(|value| graph.home(value) == Home::Pool) {
            let meta = |value| ChunkMeta { dtype: graph.dtype(value), shape: graph.shape(value), data: None };
            return with(&values().map(meta).collect::<Vec<_>>());
        }
        let windows: Vec<Option<Data>> = values().map(|v| self.window(v).map(Data::Host)).collect();
        let metas: Vec<ChunkMeta<'_>> = values()
            .zip(&windows)
            .map(|(value, window)| ChunkMeta {
                dtype: graph.dtype(value),
                shape: graph.shape(value),
                // Caller's arrays: nobody writes them while the plan lives.
                data: window.as_ref().map(input_view),
            })
            .collect();
        with(&metas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::DType;
    use crate::task::GraphBuilder;

    #[test]
    fn a_plans_arrays_are_those_of_its_graph() {
        let plan = |arrays: Vec<Option<Arc<HostBuffer>>>| {
            let mut graph = GraphBuilder::new();
            graph.array(DType::Bool, 4, false);
            graph.array(DType::F64, 4, true);
            Plan::new(graph.build().unwrap(), arrays)
        };
        let (bools, bytes) = (HostBuffer::caller(&Arc::new([true; 4])), HostBuffer::caller(&Arc::new([7u8; 4])));
        let few = HostBuffer::caller(&Arc::new([true; 3]));
        assert!(plan(vec![Some(bools.clone()), None]).is_ok());
        let own = HostBuffer::caller(&Arc::new([1.0f64; 4]));
        for wrong in [vec![Some(bytes), None], vec![Some(few), None], vec![None, None], vec![Some(bools), Some(own)], vec![]] {
            let error = plan(wrong).err().expect("refused").to_string();
            assert!(error.contains("arrays"), "{error}");
        }
    }
}
