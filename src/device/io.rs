//! The I/O lane: threads for calls that wait (a library's lock, a slow disk, a sink), so that no CPU worker does.
//!
//! Owns: two threads and their queue. Must not know: formats. Invariant: launches start in the order given.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError, TryLockError, mpsc};
use std::time::Instant;

use super::{Device, DeviceKind, DeviceSpec, Failure, HOST, Launch, Move, Report, execute};
use crate::error::Error;

thread_local! {
    /// Which lane this thread works for: the address of its queue's end, and the worker's number.
    static LANE: Cell<(usize, u32)> = const { Cell::new((0, 0)) };
}

const THREADS: u32 = 2;

/// A device of capacity 2 that runs opaque calls.
pub struct IoLane {
    spec: DeviceSpec,
    queue: mpsc::Sender<Launch>,
    receiver: std::sync::Weak<Mutex<mpsc::Receiver<Launch>>>,
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
        let (queue, receiver) = mpsc::channel::<Launch>();
        let receiver = Arc::new(Mutex::new(receiver));
        for worker in 0..THREADS {
            let receiver = receiver.clone();
            std::thread::Builder::new().name(format!("chunkwise-io-{worker}")).spawn(move || serve(worker, &receiver)).ok();
        }
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
        Self { spec, queue, receiver: Arc::downgrade(&receiver) }
    }
}

fn serve(worker: u32, receiver: &Arc<Mutex<mpsc::Receiver<Launch>>>) {
    LANE.set((Arc::as_ptr(receiver) as usize, worker));
    let mut scratch = Vec::new();
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(launch) = next else { return };
        serve_one(launch, worker, &mut scratch);
    }
}

fn serve_one(launch: Launch, worker: u32, scratch: &mut Vec<u64>) {
    let Launch { kernel, body, done, .. } = launch;
    let start = Instant::now();
    let (outcome, opaque) = execute(&*kernel, body, scratch);
    drop(kernel); // before the report: it may hold a file that the waiter wants to be closed
    done(Report { elapsed_ns: start.elapsed().as_nanos() as u64, since_ns: 0, worker, opaque, outcome });
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: a launch's body is over, and dropped, before its report.
unsafe impl Device for IoLane {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    fn launch(&self, launch: Launch) {
        // It fails only if the system gave the lane no thread at all.
        if let Err(mpsc::SendError(launch)) = self.queue.send(launch) {
            let message = "the system refused a thread for reading and writing".into();
            let outcome = Err(Failure::Device(Error::Task { task: "of the I/O lane".into(), message }));
            (launch.done)(Report { elapsed_ns: 0, since_ns: 0, worker: 0, opaque: Vec::new(), outcome });
        }
    }

    fn transfer(&self, _mv: Move) {
        unreachable!("the I/O lane works in host memory");
    }

    fn on_worker(&self) -> bool {
        LANE.get().0 != 0 && LANE.get().0 == self.receiver.as_ptr() as usize
    }

    fn help(&self) -> bool {
        let Some(receiver) = self.receiver.upgrade() else { return false };
        // While the other thread waits for work, it holds the lock, and takes whatever comes.
        let next = match receiver.try_lock() {
            Ok(queue) => queue.try_recv().ok(),
            Err(TryLockError::Poisoned(queue)) => queue.into_inner().try_recv().ok(),
            Err(TryLockError::WouldBlock) => None,
        };
        next.map(|launch| serve_one(launch, LANE.get().1, &mut Vec::new())).is_some()
    }
}
