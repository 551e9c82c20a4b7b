//! The I/O lane: threads for calls that wait (a library's lock, a slow disk, a sink), so that no CPU worker does.
//!
//! Owns: two threads and their queue. Must not know: formats. Invariant: launches start in the order given.

use std::cell::Cell;
use std::sync::Arc;

use super::calls::{self, Origin, Queue};
use super::{Device, DeviceKind, DeviceSpec, Failure, HOST, Launch, Move, Report};
use crate::error::Error;

thread_local! {
    /// Which lane this thread works for: the address of its queue, and the worker's number.
    static LANE: Cell<(usize, u32)> = const { Cell::new((0, 0)) };
}

const THREADS: u32 = 2;

/// A device of capacity 2 that runs opaque calls.
pub struct IoLane {
    spec: DeviceSpec,
    queue: Arc<Queue>,
    /// Whether the system gave it any thread.
    served: bool,
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
        let queue = Arc::<Queue>::default();
        let start = |worker: u32| {
            let queue = queue.clone();
            std::thread::Builder::new().name(format!("chunkwise-io-{worker}")).spawn(move || serve_all(worker, &queue)).is_ok()
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
        Self { spec, queue, served }
    }
}

impl Drop for IoLane {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn serve_all(worker: u32, queue: &Arc<Queue>) {
    LANE.set((Arc::as_ptr(queue) as usize, worker));
    let mut scratch = Vec::new();
    while let Some(launch) = queue.wait() {
        calls::serve(launch, worker, &mut scratch);
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
            return self.queue.push(launch);
        }
        let message = "the system refused a thread for reading and writing".into();
        let outcome = Err(Failure::Device(Error::Failed { what: "the I/O lane".into(), message }));
        (launch.done)(Report { elapsed_ns: 0, since_ns: 0, worker: 0, opaque: Vec::new(), outcome });
    }

    fn transfer(&self, _mv: Move) {
        unreachable!("the I/O lane works in host memory");
    }

    fn on_worker(&self) -> bool {
        LANE.get().0 == Arc::as_ptr(&self.queue) as usize
    }

    fn help(&self, wanted: &dyn Fn(&Origin) -> bool) -> bool {
        let launch = self.queue.pop_wanted(wanted);
        launch.map(|launch| calls::serve(launch, LANE.get().1, &mut Vec::new())).is_some()
    }
}
