//! Moves between memory spaces: the only place that orders them.
//!
//! Owns: turning a `Move` action into a device's transfer. Must not know: why a move is wanted. Invariant: the bytes of both
//! ends stay alive until the report.

use std::sync::Arc;

use super::driver::{Inner, State};
use crate::device::{Data, Device, Move, Report};
use crate::id::{CopyId, DeviceId, GraphId, ValueId};
use crate::schedule::{Event, Place};

/// A move that is ready to be given to its device, once the session's lock is released.
pub(super) struct Ready {
    pub(super) device: Arc<dyn Device>,
    pub(super) mv: Move,
}

pub(super) struct Wanted {
    pub(super) copy: CopyId,
    pub(super) graph: GraphId,
    pub(super) value: ValueId,
    pub(super) device: DeviceId,
    pub(super) upload: bool,
    pub(super) from: Place,
    pub(super) to: Place,
}

pub(super) fn prepare(inner: &Arc<Inner>, state: &mut State, wanted: Wanted) -> Option<Ready> {
    let Wanted { copy, graph, value, device, upload, from, to } = wanted;
    let run = state.runs.get_mut(&graph)?;
    run.bytes_moved += run.graph.bytes(value);
    let run = state.runs.get(&graph)?;
    let data = |place| -> Data { run.data(&state.buffers, value, place) };
    let (from, to) = (data(from), data(to));
    let session = inner.clone();
    let bytes = run.graph.bytes(value);
    let done = Box::new(move |report: Report| session.moved(copy, graph, value, (device, upload, bytes), &report));
    Some(Ready { device: inner.devices[device.index()].clone(), mv: Move { from, to, upload, done } })
}

impl Inner {
    fn moved(self: &Arc<Self>, copy: CopyId, graph: GraphId, value: ValueId, link: (DeviceId, bool, u64), report: &Report) {
        let (device, upload, bytes) = link;
        let end_ns = self.now_ns();
        let span =
            super::run::MoveSpan { value, device, upload, bytes, start_ns: end_ns.saturating_sub(report.elapsed_ns), end_ns };
        self.apply(Event::Moved { copy, arrived: report.outcome.is_ok() }, |state| {
            if let Some(run) = state.runs.get_mut(&graph) {
                run.moves.push(span);
            }
        });
    }
}
