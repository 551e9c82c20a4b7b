//! A device that fails on purpose.
//!
//! Owns: [`Faulty`], which wraps a real device and injects faults at chosen launches. Must not know: what the tasks are.
//! Invariant: a launch that is not chosen reaches the real device unchanged.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Body, Counters, Device, DeviceSpec, Failure, Launch, Memory, Move, Origin, Report, Tuning};
use crate::error::Error;
use crate::kernel::{ExactFloats, Fault, Kernel, Program, Scratch, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut};

/// What happens to the chosen launch.
#[derive(Clone, Debug)]
pub enum Injection {
    /// Its kernel panics.
    Panic,
    /// Its kernel reports an I/O error.
    IoError,
    /// The device reports that it failed; the outputs were not (all) written.
    DeviceError,
    /// It never reports.
    Hang,
    /// It starts so much later than it should.
    Delay(Duration),
}

/// A device with faults.
pub struct Faulty {
    inner: Arc<dyn Device>,
    injection: Injection,
    chosen: std::ops::RangeInclusive<u64>,
    launches: AtomicU64,
}

impl Faulty {
    /// `inner`, but launch number `at` (counted from 0, packing included) suffers `injection`.
    #[must_use]
    pub fn new(inner: Arc<dyn Device>, injection: Injection, at: u64) -> Self {
        Self { inner, injection, chosen: at..=at, launches: AtomicU64::new(0) }
    }

    /// `inner`, but every launch from number `at` on suffers `injection`.
    #[must_use]
    pub fn from_then_on(inner: Arc<dyn Device>, injection: Injection, at: u64) -> Self {
        Self { inner, injection, chosen: at..=u64::MAX, launches: AtomicU64::new(0) }
    }

    /// Launches seen so far.
    #[must_use]
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: each launch goes to the inner device, or is reported as failed, or is kept for ever; the rest is the inner device.
unsafe impl Device for Faulty {
    fn spec(&self) -> &DeviceSpec {
        self.inner.spec()
    }

    fn launch(&self, launch: Launch) {
        if !self.chosen.contains(&self.launches.fetch_add(1, Ordering::Relaxed)) {
            return self.inner.launch(launch);
        }
        match &self.injection {
            Injection::Panic | Injection::IoError => {
                let body = match launch.body {
                    Body::Run { .. } => launch.body,
                    Body::Pack { .. } => Body::Run { params: vec![], inputs: vec![], outputs: vec![], scratch_bytes: 0 },
                };
                let kernel = Arc::new(Broken { panics: matches!(self.injection, Injection::Panic) });
                self.inner.launch(Launch { kernel, body, ..launch });
            }
            Injection::DeviceError => {
                let error = Error::Task { task: "injected".into(), message: "device error".into() };
                let outcome = Err(Failure::Device(error));
                let Launch { body, done, .. } = launch;
                drop(body); // before the report: nobody may have it then
                std::thread::spawn(move || {
                    done(Report { elapsed_ns: 1, measured: true, since_ns: 0, worker: 0, opaque: Vec::new(), outcome })
                });
            }
            // Kept for ever, as a wedged driver would: its memory stays alive and is never reused.
            Injection::Hang => std::mem::forget(launch),
            Injection::Delay(time) => {
                let (inner, time) = (self.inner.clone(), *time);
                std::thread::spawn(move || {
                    std::thread::sleep(time);
                    inner.launch(launch);
                });
            }
        }
    }

    fn transfer(&self, mv: Move) {
        self.inner.transfer(mv);
    }

    fn allocate(&self, bytes: u64) -> Result<Memory, Error> {
        self.inner.allocate(bytes)
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.inner.memory_bytes()
    }

    fn staging_bytes(&self) -> u64 {
        self.inner.staging_bytes()
    }

    fn notice(&self) -> Option<String> {
        self.inner.notice()
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }

    fn rest(&self, scratch_bytes: u64) {
        self.inner.rest(scratch_bytes);
    }

    fn tune(&self, tuning: &Tuning) {
        self.inner.tune(tuning);
    }

    fn set_exact(&self, exact: &ExactFloats) {
        self.inner.set_exact(exact);
    }

    fn compiling_ns(&self, kernel: &dyn Kernel, program: &Program) -> u64 {
        self.inner.compiling_ns(kernel, program)
    }

    fn compile_ahead(&self, kernel: &dyn Kernel, program: &Program) {
        self.inner.compile_ahead(kernel, program);
    }

    fn finish_compiling(&self, until: std::time::Instant) {
        self.inner.finish_compiling(until);
    }

    fn on_worker(&self) -> bool {
        self.inner.on_worker()
    }

    fn help(&self, wanted: &dyn Fn(&Origin) -> bool) -> bool {
        self.inner.help(wanted)
    }
}

struct Broken {
    panics: bool,
}

impl Kernel for Broken {
    fn name(&self) -> Cow<'static, str> {
        "broken".into()
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work::default()
    }
    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        assert!(!self.panics, "injected panic");
        Err(Error::io("read", "injected", std::io::Error::other("injected I/O error")).into())
    }
}
