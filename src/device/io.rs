//! The I/O lane: threads for calls that wait (a library's lock, a slow disk, a sink), so that no CPU worker does.
//!
//! Owns: two threads and their queue. Must not know: formats. Invariant: launches start in the order given.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use super::{Device, DeviceKind, DeviceSpec, HOST, Launch, Move, Report, execute};

const THREADS: u32 = 2;

/// A device of capacity 2 that runs opaque calls.
pub struct IoLane {
    spec: DeviceSpec,
    queue: mpsc::Sender<Launch>,
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
        };
        Self { spec, queue }
    }
}

fn serve(worker: u32, receiver: &Mutex<mpsc::Receiver<Launch>>) {
    let mut scratch = Vec::new();
    loop {
        let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Launch { kernel, body, done }) = next else { return };
        let start = Instant::now();
        let (outcome, opaque) = execute(&*kernel, body, &mut scratch);
        done(Report { elapsed_ns: start.elapsed().as_nanos() as u64, worker, opaque, outcome });
    }
}

impl Device for IoLane {
    fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    fn launch(&self, launch: Launch) {
        // The threads live as long as the queue; a failed send can only mean that the process is ending.
        let _ = self.queue.send(launch);
    }

    fn transfer(&self, _mv: Move) {
        unreachable!("the I/O lane works in host memory");
    }
}
