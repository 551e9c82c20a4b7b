//! What is kept of a graph beside its data.
//!
//! Owns: the bytes of a submitted graph's tables: the graph, its state here, its prices and its record. Must not know: what is in them. Invariant: O(1) but for
//! one pass over the values; `tests/planning.rs` compares it with what an allocator sees.

use super::{copies, progress, queue};
use crate::task::{Home, TaskGraph};

/// What the tables of a task with an output take at least: for a refusal before they are made.
pub(crate) const LEAST_TASK_BYTES: u64 = 120;
/// The same of a chunk of a caller's array, and of a task without outputs.
pub(crate) const LEAST_CHUNK_BYTES: u64 = 80;

/// Of each value, where devices have memory of their own: `chunks` and `queued`; and for a moment what `sequential_peak` counts.
const MORE_BYTES_A_VALUE: usize = 4 + 4;
/// Predicted times of a profile: 8 bytes a device, for a CPU, the I/O lane and a GPU, and where they are learned.
const BYTES_A_PROFILE: usize = 3 * (8 + 8);
/// The record of a task's run.
const RECORD_BYTES: usize = 32;

/// Bytes of the tables of a graph while it runs.
pub(super) fn table_bytes(graph: &TaskGraph) -> u64 {
    let (tasks, values, windows) = (graph.len(), graph.value_count(), graph.window_count());
    let callers = graph.values().filter(|&v| graph.producer(v).is_none() && graph.home(v) != Home::Pool).count();
    let ready = graph.tasks().filter(|&task| graph.predecessor_count(task) == 0).count();
    let of_values = values * (copies::BYTES_A_VALUE + MORE_BYTES_A_VALUE);
    let state = tasks * progress::BYTES_A_TASK + of_values + windows * copies::BYTES_A_WINDOW;
    let replicas = (callers + windows) * copies::BYTES_A_REPLICA;
    let prices = graph.profiles().len() * BYTES_A_PROFILE;
    (graph.table_bytes() + state + replicas + ready * queue::BYTES_A_TASK + prices + tasks * RECORD_BYTES) as u64
}
