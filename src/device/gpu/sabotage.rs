//! A driver that breaks on purpose.
//!
//! Owns: [`Sabotage`] and [`Breaker`], with which tests set it off. Must not know: what must hold then. Invariant: until it is set off, every call reaches the
//! real driver unchanged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wgpu::{BufferAsyncError, BufferDescriptor, BufferUsages, CommandBuffer, MapMode, SubmissionIndex};

use super::driver::{Driver, Load, MapDone, Plain};
use super::open::{GpuRefusal, Opened};

/// What can be broken, to see that nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The device is lost.
    Lose,
    /// The thread that submits panics.
    Panic,
    /// The GPU has this many bytes from now on.
    Memory(u64),
    /// A submission finds no memory.
    FullAtSubmit,
    /// A submission is invalid.
    Invalid,
    /// No submission ends any more.
    Stall,
    /// No buffer can be made that launches use and the host maps.
    Unmappable,
    /// Such a buffer cannot be mapped to be read.
    Map,
}

#[derive(Default)]
struct Fuse {
    /// Launches that are submitted before.
    set: Option<(u64, Sabotage)>,
    ceiling: Option<u64>,
    stalled: bool,
    unmappable: bool,
    unmapped: bool,
}

/// Sets a broken driver off.
#[derive(Clone, Default)]
pub struct Breaker(Arc<Mutex<Fuse>>);

impl Breaker {
    /// Breaks the submission with the launch after so many more; with 0, the next one whatever it holds.
    pub fn after(&self, launches: u64, sabotage: Sabotage) {
        let mut fuse = self.fuse();
        match sabotage {
            Sabotage::Memory(bytes) if launches == 0 => fuse.ceiling = Some(bytes),
            Sabotage::Unmappable if launches == 0 => fuse.unmappable = true,
            Sabotage::Map if launches == 0 => fuse.unmapped = true,
            other => fuse.set = Some((launches, other)),
        }
    }

    pub(super) fn driver(&self) -> Box<dyn Driver> {
        Box::new(BrokenDriver { inner: Plain, breaker: self.clone() })
    }

    fn fuse(&self) -> MutexGuard<'_, Fuse> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to break with a submission of so many launches.
    fn due(&self, launches: u64) -> Option<Sabotage> {
        let mut fuse = self.fuse();
        let (left, sabotage) = fuse.set?;
        if left > 0 && launches <= left {
            fuse.set = Some((left - launches, sabotage));
            return None;
        }
        fuse.set = None;
        match sabotage {
            Sabotage::Memory(bytes) => fuse.ceiling = Some(bytes),
            Sabotage::Stall => fuse.stalled = true,
            Sabotage::Unmappable => fuse.unmappable = true,
            Sabotage::Map => fuse.unmapped = true,
            _ => {}
        }
        Some(sabotage)
    }
}

/// Whether launches use it and the host maps it.
fn shared(usage: BufferUsages) -> bool {
    usage.contains(BufferUsages::STORAGE) && usage.intersects(BufferUsages::MAP_READ | BufferUsages::MAP_WRITE)
}

struct BrokenDriver {
    inner: Plain,
    breaker: Breaker,
}

impl Driver for BrokenDriver {
    fn buffer(&self, opened: &Opened, descriptor: &BufferDescriptor<'_>) -> Result<wgpu::Buffer, GpuRefusal> {
        // What is being made is counted already.
        if self.breaker.fuse().ceiling.is_some_and(|ceiling| opened.bytes() > ceiling) {
            let message = "the ceiling set for tests".into();
            return Err(GpuRefusal::OutOfMemory { requested_bytes: descriptor.size, message });
        }
        if self.breaker.fuse().unmappable && shared(descriptor.usage) {
            return Err(GpuRefusal::Invalid("injected: no such buffer".into()));
        }
        self.inner.buffer(opened, descriptor)
    }

    fn map(&self, opened: &Opened, buffer: &wgpu::Buffer, mode: MapMode, done: MapDone) {
        if self.breaker.fuse().unmapped && shared(buffer.usage()) {
            return done(Err(BufferAsyncError));
        }
        self.inner.map(opened, buffer, mode, done);
    }

    fn submit(&self, opened: &Opened, commands: CommandBuffer, load: Load) -> Result<SubmissionIndex, GpuRefusal> {
        match self.breaker.due(load.launches) {
            Some(Sabotage::Lose) => opened.device.destroy(),
            Some(Sabotage::Panic) => panic!("injected panic"),
            Some(Sabotage::FullAtSubmit) => {
                return Err(GpuRefusal::OutOfMemory { requested_bytes: 0, message: "injected".into() });
            }
            Some(Sabotage::Invalid) => {
                let source = wgpu::ShaderSource::Wgsl("injected nonsense".into());
                let _ = opened.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
                return Err(GpuRefusal::Invalid("injected".into()));
            }
            Some(Sabotage::Memory(_) | Sabotage::Stall | Sabotage::Unmappable | Sabotage::Map) | None => {}
        }
        self.inner.submit(opened, commands, load)
    }

    fn wait(&self, opened: &Opened, index: &SubmissionIndex, at_most: Duration) -> Result<bool, GpuRefusal> {
        if self.breaker.fuse().stalled {
            std::thread::sleep(at_most.min(Duration::from_millis(50)));
            return Ok(false);
        }
        self.inner.wait(opened, index, at_most)
    }
}
