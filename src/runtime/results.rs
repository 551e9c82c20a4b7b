//! The result arrays of a run.
//!
//! Owns: their allocation, and their safe hand-over after faults. Must not know: waiting. Invariant: an array that is handed over is held by
//! nobody else, so no abandoned task can read or write it.

use std::sync::Arc;

use super::driver::State;
use super::run::Run;
use super::slots::Slots;
use crate::device::{Data, HostBuffer, Window};
use crate::error::Result;
use crate::id::{GraphId, ValueId};
use crate::schedule::Place;
use crate::shape::DType;
use crate::task::Home;

/// The result arrays of a run, by array id (`None` for the caller's).
pub type Results = Vec<Option<Arc<HostBuffer>>>;

pub(super) fn allocate_result(dtype: DType, len: usize) -> Result<Arc<HostBuffer>> {
    match dtype {
        DType::Bool => HostBuffer::result::<bool>(len),
        DType::U8 => HostBuffer::result::<u8>(len),
        DType::I32 => HostBuffer::result::<i32>(len),
        DType::U32 => HostBuffer::result::<u32>(len),
        DType::I64 => HostBuffer::result::<i64>(len),
        DType::U64 => HostBuffer::result::<u64>(len),
        DType::F32 => HostBuffer::result::<f32>(len),
        DType::F64 => HostBuffer::result::<f64>(len),
    }
}

/// Final values that are not in their windows (after a stalled task, whose window may still be written), and where they are.
pub(super) fn displaced(state: &State, run: &Run, id: GraphId) -> Vec<(ValueId, Data)> {
    if run.error.is_some() {
        return Vec::new();
    }
    let finals = (0..run.graph.value_count()).map(ValueId::at).filter(|&v| run.graph.is_final(v));
    let place = |v| state.scheduler.host_place(id, v).map(|place| (v, place));
    let elsewhere = finals.filter_map(place).filter(|(_, place)| matches!(place, Place::Buffer(_)));
    elsewhere.map(|(v, place)| (v, run.data(&state.buffers, v, place))).collect()
}

/// The result arrays. Those with displaced values, or that an abandoned task still holds, are copied into new ones.
pub(super) fn move_home(run: &mut Run, displaced: &[(ValueId, Data)]) -> Result<Results> {
    let graph = run.graph.clone();
    let array_of = |value| match graph.home(value) {
        Home::Window { array, .. } => Some(array.index()),
        Home::Pool => None,
    };
    let mut moved: Vec<bool> =
        graph.arrays().iter().zip(&run.arrays).map(|(spec, held)| spec.result && Arc::strong_count(held) > 1).collect();
    for array in displaced.iter().filter_map(|(v, _)| array_of(*v)) {
        moved[array] = true;
    }
    let mut arrays: Results = Vec::with_capacity(moved.len());
    for ((spec, held), &moved) in graph.arrays().iter().zip(&run.arrays).zip(&moved) {
        arrays.push(match (spec.result, moved) {
            (false, _) => None,
            (true, false) => Some(held.clone()),
            (true, true) => Some(allocate_result(spec.dtype, spec.len)?),
        });
    }
    if moved.contains(&true) {
        let finals = (0..graph.value_count()).map(ValueId::at).filter(|&v| graph.is_final(v));
        for value in finals {
            let Home::Window { array, offset } = graph.home(value) else { continue };
            let Some(to) = arrays[array.index()].clone().filter(|_| moved[array.index()]) else { continue };
            let from = displaced.iter().find(|(v, _)| *v == value).map(|(_, data)| data.clone());
            let from = from.unwrap_or_else(|| run.data(&Slots::default(), value, Place::Home));
            crate::device::copy(&from, &Window::new(to, offset, graph.layout(value)));
        }
    }
    run.arrays.clear();
    Ok(arrays)
}
