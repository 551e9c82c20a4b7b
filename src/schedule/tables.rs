//! What is kept of a graph beside its data.
//!
//! Owns: the bytes of a submitted graph's tables: the graph, its state here, its prices and its record. Must not know: what is in them. Invariant: O(1) but for
//! one pass over the values; `tests/planning.rs` compares it with what an allocator sees.

use super::job::{Replica, State};
use super::queue::Key;
use crate::id::{DeviceId, ValueId};
use crate::task::{Home, TaskGraph};

/// What the tables of a task with an output take at least: for a refusal before they are made.
pub(crate) const LEAST_TASK_BYTES: u64 = 210;
/// The same of a chunk of a caller's array, and of a task without outputs.
pub(crate) const LEAST_CHUNK_BYTES: u64 = 120;

/// Of the job: `state`, `waiting`, `priority`, `device`, `charged`.
const STATE_BYTES_A_TASK: usize = size_of::<State>() + 4 + 8 + size_of::<DeviceId>() + 8;
/// `uses`, `heads`, `at_home`; `chunks` and `queued` where devices have memory of their own; and for a moment those of `sequential_peak`.
const STATE_BYTES_A_VALUE: usize = 4 + 4 + 1 + 4 + 4 + 4 + 8;
/// `occupant`, `poisoned`.
const STATE_BYTES_A_WINDOW: usize = 4 + 1;
/// Predicted times: 8 bytes a device, for a CPU, the I/O lane and a GPU; and the kind of each task.
const PRICES_BYTES: usize = 24 + 4;
/// The record of a task's run, and its work.
const RECORD_BYTES: usize = 40 + 16;

/// Bytes of the tables of a graph while it runs.
pub(super) fn table_bytes(graph: &TaskGraph) -> u64 {
    let (tasks, values, windows) = (graph.len(), graph.value_count(), graph.window_count());
    let callers = (0..values).map(ValueId::at).filter(|&v| graph.producer(v).is_none() && graph.home(v) != Home::Pool).count();
    let ready = graph.tasks().filter(|&task| graph.predecessor_count(task) == 0).count();
    let state = tasks * STATE_BYTES_A_TASK + values * STATE_BYTES_A_VALUE + windows * STATE_BYTES_A_WINDOW;
    let replicas = (callers + windows) * size_of::<Replica>();
    // A tree's nodes are two thirds full.
    let queued = ready * size_of::<Key>() * 3 / 2;
    (graph.table_bytes() + state + replicas + queued + tasks * (PRICES_BYTES + RECORD_BYTES)) as u64
}
