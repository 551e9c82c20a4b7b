//! Moves between memory spaces: the only place that orders them.
//!
//! Owns: turning a `Move` action into a device's transfer. Must not know: why a move is wanted. Invariant: the bytes of both
//! ends stay alive until the report.

use std::collections::VecDeque;
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

/// Why something cannot be started.
pub(super) enum Unready {
    /// Its run has ended.
    Gone,
    /// Memory that it needs is not to be had, of the host or of a device.
    NoMemory {
        /// Whose.
        host: bool,
        /// What the system said.
        error: Error,
    },
}

pub(super) fn prepare(inner: &Arc<Inner>, state: &mut State, wanted: Wanted) -> Result<Ready, Unready> {
    let Wanted { copy, graph, value, device, upload, from, to } = wanted;
    let run = state.runs.get_mut(&graph).ok_or(Unready::Gone)?;
    let bytes = run.graph.bytes(value);
    state.buffers.have(inner, [from, to], || "a buffer to move a chunk to".into())?;
    run.bytes_moved += bytes;
    let data = |place| -> Data { run.data(&state.buffers, value, place) };
    let (from, to) = (data(from), data(to));
    let session = Arc::downgrade(inner);
    let done = Box::new(move |report: Report| {
        if let Some(session) = session.upgrade() {
            session.moved((copy, graph, value), (device, upload, bytes), report);
        }
    });
    Ok(Ready { device: inner.members.all()[device.index()].device.clone(), mv: Move { from, to, upload, done } })
}

/// A move that cannot be started has not arrived.
pub(super) fn unready(
    inner: &Inner,
    state: &mut State,
    (copy, graph, device): (CopyId, GraphId, DeviceId),
    unready: Unready,
    events: &mut VecDeque<Event>,
) {
    let failure = match unready {
        Unready::Gone => None,
        Unready::NoMemory { host: false, error } => Some(Failure::OutOfMemory(error)),
        Unready::NoMemory { host: true, error } => {
            if let Some(run) = state.runs.get_mut(&graph) {
                run.fail(error);
                events.push_back(Event::Retire { graph });
            }
            None
        }
    };
    if let Some(failure) = failure {
        inner.move_failed(state, (graph, device), failure, events);
    }
    events.push_back(Event::Moved { copy, arrived: false });
}

impl Inner {
    /// A move has failed: its run ends, if that happens too often.
    fn move_failed(
        &self,
        state: &mut State,
        (graph, device): (GraphId, DeviceId),
        failure: Failure,
        events: &mut VecDeque<Event>,
    ) {
        let blamed = self.blame(state, device, &failure, events);
        let Some(run) = state.runs.get_mut(&graph) else { return };
        run.failed_moves += u32::from(blamed == Blame::Struck);
        if blamed == Blame::Irreplaceable || run.failed_moves >= ATTEMPTS {
            run.fail(as_error(failure));
            events.push_back(Event::Retire { graph });
        }
    }

    fn moved(self: &Arc<Self>, what: (CopyId, GraphId, ValueId), link: (DeviceId, bool, u64), report: Report) {
        let ((copy, graph, value), (device, upload, bytes)) = (what, link);
        let end_ns = self.now_ns();
        let start_ns = end_ns.saturating_sub(report.elapsed_ns);
        self.with_events(|state, events| {
            let arrived = report.outcome.is_ok();
            match (report.outcome, state.runs.get_mut(&graph)) {
                (Ok(()), Some(run)) => run.moves.push(MoveSpan { value, device, upload, bytes, start_ns, end_ns }),
                (Err(failure), Some(_)) => self.move_failed(state, (graph, device), failure, events),
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
