//! Moves between memory spaces: the only place that orders them.
//!
//! Owns: turning a `Move` action into a device's transfer. Must not know: why a move is wanted. Invariant: the bytes of both
//! ends stay alive until the report.

use std::sync::Arc;

use super::driver::{Inner, State};
use super::failures::{ATTEMPTS, Blame};
use super::run::MoveSpan;
use crate::device::{Data, Device, Failure, Move, Report};
use crate::error::Error;
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
    let bytes = run.graph.bytes(value);
    for place in [from, to] {
        if matches!(place, Place::Buffer(b) if state.buffers[b.index()].is_none()) {
            run.fail(super::driver::no_memory("a buffer to move a chunk to".into(), bytes));
            return None;
        }
    }
    run.bytes_moved += bytes;
    let data = |place| -> Data { run.data(&state.buffers, value, place) };
    let (from, to) = (data(from), data(to));
    let session = Arc::downgrade(inner);
    let done = Box::new(move |report: Report| {
        if let Some(session) = session.upgrade() {
            session.moved((copy, graph, value), (device, upload, bytes), report);
        }
    });
    Some(Ready { device: inner.members.all()[device.index()].device.clone(), mv: Move { from, to, upload, done } })
}

impl Inner {
    fn moved(self: &Arc<Self>, what: (CopyId, GraphId, ValueId), link: (DeviceId, bool, u64), report: Report) {
        let ((copy, graph, value), (device, upload, bytes)) = (what, link);
        let end_ns = self.now_ns();
        let start_ns = end_ns.saturating_sub(report.elapsed_ns);
        self.with_events(|state, events| {
            let mut arrived = report.outcome.is_ok();
            match (report.outcome, state.runs.get_mut(&graph)) {
                (Ok(()), Some(run)) => run.moves.push(MoveSpan { value, device, upload, bytes, start_ns, end_ns }),
                (Err(failure), Some(_)) => {
                    let blamed = self.blame(state, device, &failure, events);
                    let Some(run) = state.runs.get_mut(&graph) else { return };
                    run.failed_moves += u32::from(blamed == Blame::Struck);
                    if blamed == Blame::Irreplaceable || run.failed_moves >= ATTEMPTS {
                        run.fail(as_error(failure));
                        // Nobody will look at what has not arrived.
                        arrived = true;
                        events.push_back(Event::Retire { graph });
                    }
                }
                _ => {}
            }
            events.push_back(Event::Moved { copy, arrived });
        });
    }
}

fn as_error(failure: Failure) -> Error {
    match failure {
        Failure::Device(error) | Failure::Unfit(error) | Failure::OutOfMemory(error) | Failure::Lost(error) => error,
        Failure::Fault(fault) => fault.into(),
        Failure::Panic(message) => {
            Error::Failed { what: "the move of a chunk".into(), message: format!("it panicked: {message}") }
        }
    }
}
