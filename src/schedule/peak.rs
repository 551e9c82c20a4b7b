//! The proven peak of host memory for a graph.
//!
//! Owns: [`sequential_peak`]. Must not know: devices, what runs beside. Invariant: it is the sum of what commits take (`Scheduler::need`) and
//! ends give back, when tasks run one after the other in order.

use super::memory::{class, cost};
use crate::device::DeviceSpec;
use crate::device::HOST;
use crate::id::{FormId, TaskId, ValueId};
use crate::task::{Home, PLAIN, TaskGraph};

/// Bytes that a replica of a value in this form takes in a pool.
pub(super) fn form_bytes(graph: &TaskGraph, value: ValueId, form: FormId) -> u64 {
    class(graph.form_bytes(value, form))
}

/// Peak of pooled host bytes when the tasks run one after the other in order, and the task at which it is reached: what a
/// task's commit takes (see `Scheduler::need`), minus what its end gives back. O(operands).
pub(super) fn sequential_peak(graph: &TaskGraph) -> (u64, Option<TaskId>) {
    graph.peak_by(walk)
}

fn walk(graph: &TaskGraph) -> (u64, Option<TaskId>) {
    let mut uses: Vec<u32> = (0..graph.value_count()).map(|i| graph.use_count(ValueId::at(i))).collect();
    let mut held = vec![0u64; graph.value_count()];
    let mut packed = std::collections::BTreeSet::new();
    let (mut live, mut peak, mut at) = (0u64, 0, None);
    for task in graph.tasks() {
        let mut donated = 0;
        for (value, form) in graph.residents(task, false) {
            if form != PLAIN && packed.insert((value, form)) {
                let bytes = cost(HOST, form_bytes(graph, value, form));
                held[value.index()] += bytes;
                live += bytes;
            }
        }
        for output in graph.outputs(task) {
            let old = output.updates;
            let last = old.is_some_and(|old| uses[old.index()] == 1);
            if let Some(window) = graph.window_id(output.value) {
                // A task that reads what it also overwrites needs a second place.
                if old.is_none_or(|old| last || graph.window_id(old) != Some(window)) {
                    continue;
                }
            }
            let bytes = cost(HOST, graph.bytes(output.value));
            live += bytes;
            if graph.is_final(output.value) {
                continue; // a result that is not in its window stays to the end
            }
            held[output.value.index()] += bytes;
            let in_buffer = |old: ValueId| graph.home(old) == Home::Pool && !graph.is_opaque(output.value);
            if last && old.is_some_and(in_buffer) {
                donated += bytes;
            }
        }
        if live - donated > peak {
            (peak, at) = (live - donated, Some(task));
        }
        for value in graph.reads(task) {
            let left = &mut uses[value.index()];
            *left -= 1;
            if *left == 0 {
                live -= std::mem::take(&mut held[value.index()]);
            }
        }
        for output in graph.outputs(task) {
            if uses[output.value.index()] == 0 {
                live -= std::mem::take(&mut held[output.value.index()]);
            }
        }
    }
    (peak, at)
}

/// Bytes that a task takes in a space of the device's own, with nothing there before.
pub(super) fn room_for(graph: &TaskGraph, task: TaskId, spec: &DeviceSpec) -> u64 {
    let inputs = || graph.residents(task, spec.takes_contiguous()).take(graph.inputs(task).len());
    let mut sum = 0;
    for (i, (value, form)) in inputs().enumerate() {
        let mut earlier = inputs().take(i).filter(|e| e.0 == value);
        let first = earlier.clone().next().is_none();
        if form != PLAIN && !earlier.any(|e| e.1 == form) {
            sum += form_bytes(graph, value, form);
        }
        sum += if first { form_bytes(graph, value, PLAIN) } else { 0 };
    }
    let is_input = |old: ValueId| inputs().any(|i| i.0 == old);
    for output in graph.outputs(task) {
        let bytes = class(graph.bytes(output.value));
        let Some(old) = output.updates else {
            sum += bytes;
            continue;
        };
        sum += if is_input(old) { 0 } else { class(graph.bytes(old)) };
        // Its readers come before: then its bytes are taken over.
        let same = graph.window_id(old).is_some() && graph.window_id(old) == graph.window_id(output.value);
        let donated = graph.use_count(old) == 1 || same && !is_input(old);
        sum += if donated { 0 } else { bytes };
    }
    sum
}
