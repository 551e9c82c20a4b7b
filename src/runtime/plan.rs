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

    /// Calls `each` with every task and what is known of its operands (inputs, then outputs) beforehand.
    pub(super) fn for_each_task(&self, mut each: impl FnMut(TaskId, &[ChunkMeta<'_>])) {
        let graph = &self.graph;
        let mut metas = Vec::new();
        for task in graph.tasks() {
            metas.clear();
            let values = || graph.inputs(task).iter().chain(graph.outputs(task)).map(|o| o.value);
            metas.extend(values().map(|value| graph.meta(value)));
            if !values().any(|value| self.is_callers(value)) {
                each(task, &metas);
                continue;
            }
            let windows: Vec<Option<Data>> = values().map(|value| self.window(value).map(Data::Host)).collect();
            // Caller's arrays: nobody writes them while the plan lives.
            let mut seen: Vec<ChunkMeta<'_>> = metas.clone();
            seen.iter_mut().zip(&windows).for_each(|(meta, window)| meta.data = window.as_ref().map(input_view));
            each(task, &seen);
        }
    }

    /// Whether the caller's bytes of a value are there.
    fn is_callers(&self, value: ValueId) -> bool {
        matches!(self.graph.home(value), Home::Window { array, .. } if self.arrays[array.index()].is_some())
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
