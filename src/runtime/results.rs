//! The result arrays of a run.
//!
//! Owns: their allocation, and their safe hand-over after faults. Must not know: waiting. Invariant: an array that is handed over is held by
//! nobody else, so no abandoned task can read or write it.

use std::sync::Arc;

use super::driver::{Inner, SessionState};
use super::orders::{at_home, in_buffer};
use super::run::{Fixed, Run};
use crate::device::{Data, HostBuffer, Window};
use crate::error::Result;
use crate::id::{GraphId, ValueId};
use crate::shape::{DType, with_dtype};
use crate::task::{Home, HostArray};

/// The result arrays of a run, by array id (`None` for the caller's).
pub type Results = Vec<Option<Arc<HostBuffer>>>;

pub(super) fn allocate_result(dtype: DType, len: usize) -> Result<Arc<HostBuffer>> {
    with_dtype!(dtype, T => HostBuffer::result::<T>(len))
}

/// Final values that are not in their windows (after a stalled task, whose window may still be written), and where they are.
pub(super) fn displaced(inner: &Inner, state: &mut SessionState, run: &Run, id: GraphId) -> Vec<(ValueId, Data)> {
    if run.error.is_some() {
        return Vec::new();
    }
    let (graph, SessionState { scheduler, slots, .. }) = (run.graph(), state);
    let elsewhere = |value| Some((value, in_buffer(inner, slots, run, (value, scheduler.host_place(id, value)?))?));
    graph.values().filter(|&value| graph.is_final(value)).filter_map(elsewhere).collect()
}

/// The result arrays. Those with displaced values, or that an abandoned task still holds, are copied into new ones.
pub(super) fn move_home(fixed: Arc<Fixed>, displaced: &[(ValueId, Data)]) -> Result<Results> {
    // Whoever has it may be about to make a launch of it.
    let alone = Arc::try_unwrap(fixed);
    let held = alone.is_err();
    let (graph, arrays) = match alone {
        Ok(fixed) => (fixed.graph, fixed.arrays),
        Err(fixed) => (fixed.graph.clone(), fixed.arrays.clone()),
    };
    let array_of = |value| match graph.home(value) {
        Home::Window { array, .. } => Some(array.index()),
        Home::Pool => None,
    };
    let is_moved = |(spec, array): (&HostArray, &Arc<HostBuffer>)| spec.result && (held || Arc::strong_count(array) > 1);
    let mut moved: Vec<bool> = graph.arrays().iter().zip(&arrays).map(is_moved).collect();
    for array in displaced.iter().filter_map(|(v, _)| array_of(*v)) {
        moved[array] = true;
    }
    let mut results: Results = Vec::with_capacity(moved.len());
    for ((spec, held), &moved) in graph.arrays().iter().zip(&arrays).zip(&moved) {
        results.push(match (spec.result, moved) {
            (false, _) => None,
            (true, false) => Some(held.clone()),
            (true, true) => Some(allocate_result(spec.dtype, spec.len)?),
        });
    }
    if moved.contains(&true) {
        for value in graph.values().filter(|&v| graph.is_final(v)) {
            let Home::Window { array, offset } = graph.home(value) else { continue };
            let Some(to) = results[array.index()].clone().filter(|_| moved[array.index()]) else { continue };
            let from = displaced.iter().find(|(v, _)| *v == value).map(|(_, data)| data.clone());
            let from = from.unwrap_or_else(|| at_home(&graph, &arrays, value));
            crate::device::copy(&from, &Window::new(to, offset, graph.layout(value).clone()));
        }
    }
    Ok(results)
}
