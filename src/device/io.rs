//! The I/O lane: threads for calls that wait (a library's lock, a slow disk, a sink), so that no CPU worker does.
//!
//! Owns: two threads, their queue and their scratch. Must not know: formats. Invariant: launches start in the order given.

use std::cell::Cell;
use std::sync::Arc;

use super::calls::{self, LaunchQueue, Origin};
use super::scratch::Scratches;
use super::{Counters, Device, DeviceKind, DeviceSpec, Failure, HOST, Launch, Move, Report};
use crate::error::Error;

thread_local! {
    /// Which lane this thread works for: the address of what its threads share, and the worker's number.
    static LANE: Cell<(usize, u32)> = const { Cell::new((0, 0)) };
}

const THREADS: u32 = 2;

/// A device of capacity 2 that runs opaque calls.
pub struct IoLane {
    spec: DeviceSpec,
    shared: Arc<IoShared>,
    /// Whether the system gave it any thread.
    served: bool,
}

struct IoShared {
    queue: LaunchQueue,
    scratches: Scratches,
}

impl Default for IoLane {
    fn default() -> Self {
        Self::new()
    }
}

impl IoLane {
    /// Starts the lane's threads. They end when it is dropped and its queue is done.
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::new(IoShared { queue: LaunchQueue::default(), scratches: Scratches::new(THREADS as usize) });
        let start = |worker: u32| {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("chunkwise-io-{worker}")).stack_size(super::STACK_BYTES);
            thread.spawn(move || serve_all(worker, &shared)).is_ok()
        };
        let served = (0..THREADS).filter(|&worker| start(worker)).count() > 0;
        let spec = DeviceSpec {
            name: "io".into(),
            model: format!("io, {THREADS} threads"),
            kind: DeviceKind::Io,
            workers: THREADS,
            queue: THREADS,
            space: HOST,
            link: None,
            gpu: None,
        };
        Self { spec, shared, served }
    }
}

impl Drop for IoLane {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

fn serve_all(worker: u32, shared: &Arc<IoShared>) {
    LANE.set((Arc::as_ptr(shared) as usize, worker));
    while let Some(launch) = shared.queue.wait() {
        calls::serve(launch, worker, &shared.scratches);
    }
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: a launch's body is over, and dropped, before its report.
unsafe impl Device for IoLane {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    fn launch(&self, launch: Launch) {
        if self.served {
            return self.shared.queue.push(launch);
        }
        let message = "the system refused a thread for reading and writing".into();
        let outcome = Err(Failure::Device(Error::Failed { what: "the I/O lane".into(), message }));
        (launch.done)(Report { elapsed_ns: 0, measured: true, since_ns: 0, worker: 0, opaque: Vec::new(), outcome });
    }

    fn transfer(&self, _mv: Move) {
        unreachable!("the I/O lane works in host memory");
    }

    fn on_worker(&self) -> bool {
        LANE.get().0 == Arc::as_ptr(&self.shared) as usize
    }

    fn help(&self, wanted: &dyn Fn(&Origin) -> bool) -> bool {
        let launch = self.shared.queue.pop_wanted(wanted);
        launch.map(|launch| calls::serve(launch, LANE.get().1, &self.shared.scratches)).is_some()
    }

    fn rest(&self, scratch_bytes: u64) {
        self.shared.scratches.rest(scratch_bytes);
    }

    fn counters(&self) -> Counters {
        Counters { bytes: self.shared.scratches.bytes(), ..Counters::default() }
    }
}
