//! Launches that wait for a thread, and which launch a thread is working on.
//!
//! Owns: the queue that the CPU pool and the I/O lane share, the running of one launch. Must not know: graphs, why a launch is wanted.
//! Invariant: a launch is taken out of its queue once; a thread that waits inside a kernel takes only launches of what it waits for, so its
//! stack is as deep as the program's own nesting, however many launches wait.

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::scratch::Scratches;
use super::{Body, Launch, Report, execute};
use crate::id::{GraphId, LaunchId};

thread_local! {
    static CURRENT: RefCell<Option<Origin>> = const { RefCell::new(None) };
}

/// Who ordered a launch, and for what: so that a wait inside its kernel can be told to whom it concerns.
#[derive(Clone)]
pub struct Origin {
    /// The session.
    pub session: Weak<dyn Any + Send + Sync>,
    /// The graph that the launch belongs to.
    pub graph: GraphId,
    /// The launch.
    pub launch: LaunchId,
    /// The graphs whose tasks wait for this one: that of the task that submitted it, and so on; `None` if no task did.
    pub within: Option<Arc<[GraphId]>>,
}

impl Origin {
    /// Whether the launch belongs to the graph, or to one that a task of it has submitted.
    #[must_use]
    pub fn serves(&self, graph: GraphId) -> bool {
        self.graph == graph || self.within.as_ref().is_some_and(|within| within.contains(&graph))
    }
}

/// The launch whose kernel this thread is running, if its device said so.
pub(crate) fn current() -> Option<Origin> {
    CURRENT.with_borrow(Clone::clone)
}

/// Launches in the order given.
#[derive(Default)]
pub(super) struct LaunchQueue {
    waiting: Mutex<WaitingLaunch>,
    changed: Condvar,
}

#[derive(Default)]
struct WaitingLaunch {
    launches: VecDeque<Launch>,
    closed: bool,
    /// Threads that sleep until a launch comes: to wake nobody takes a call of the system too.
    sleepers: usize,
}

impl LaunchQueue {
    fn lock(&self) -> MutexGuard<'_, WaitingLaunch> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, launch: Launch) {
        let sleepers = {
            let mut waiting = self.lock();
            waiting.launches.push_back(launch);
            waiting.sleepers
        };
        if sleepers > 0 {
            self.changed.notify_one();
        }
    }

    /// The first launch, if there is one.
    pub(super) fn pop(&self) -> Option<Launch> {
        self.lock().launches.pop_front()
    }

    /// The first launch that is wanted.
    pub(super) fn pop_wanted(&self, wanted: &dyn Fn(&Origin) -> bool) -> Option<Launch> {
        let mut waiting = self.lock();
        let at = waiting.launches.iter().position(|launch| launch.origin.as_ref().is_some_and(wanted))?;
        waiting.launches.remove(at)
    }

    /// The first launch, waited for; `None` once the queue is closed and empty.
    pub(super) fn wait(&self) -> Option<Launch> {
        let mut waiting = self.lock();
        loop {
            if let Some(launch) = waiting.launches.pop_front() {
                return Some(launch);
            }
            if waiting.closed {
                return None;
            }
            waiting.sleepers += 1;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.sleepers -= 1;
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// Runs a launch on this thread, with the scratch of this worker, and reports it.
pub(super) fn serve(launch: Launch, worker: u32, scratches: &Scratches) {
    let Launch { kernel, body, done, origin, .. } = launch;
    let start = Instant::now();
    let outer = CURRENT.replace(origin);
    let wanted = if let Body::Run { scratch_bytes, .. } = body { scratch_bytes } else { 0 };
    let mut scratch = scratches.take(worker, wanted);
    let (outcome, opaque) = execute(&*kernel, body, &mut scratch);
    scratches.keep(worker, scratch);
    CURRENT.set(outer);
    drop(kernel); // before the report: it may hold a file that the waiter wants to be closed
    done(Report { elapsed_ns: start.elapsed().as_nanos() as u64, measured: true, since_ns: 0, worker, opaque, outcome });
}
