//! A graph with what it works on.
//!
//! Owns: [`Plan`]. Must not know: prices, placement. Invariant: there are bytes for each caller's array of the graph, and for no result.

use std::sync::Arc;

use crate::device::{Data, HostBuffer, Window, input_view};
use crate::id::{TaskId, ValueId};
use crate::shape::ChunkMeta;
use crate::task::{Home, TaskGraph};

/// A graph, and the caller's arrays that it reads.
pub struct Plan {
    /// The tasks.
    pub graph: Arc<TaskGraph>,
    /// By array id: the caller's bytes; `None` for results.
    pub arrays: Vec<Option<Arc<HostBuffer>>>,
}

impl Plan {
    /// A plan of `graph`; `arrays` has one entry per host array.
    ///
    /// # Panics
    /// If the entries do not match the graph's arrays.
    #[must_use]
    #[track_caller]
    pub fn new(graph: TaskGraph, arrays: Vec<Option<Arc<HostBuffer>>>) -> Self {
        let fits =
            graph.arrays().len() == arrays.len() && graph.arrays().iter().zip(&arrays).all(|(a, b)| a.result == b.is_none());
        assert!(fits, "a plan needs the bytes of each caller's array, and of no result");
        Self { graph: Arc::new(graph), arrays }
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
