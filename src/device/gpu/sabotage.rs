//! A driver that breaks on purpose.
//!
//! Owns: [`Sabotage`] and [`Breaker`], with which tests set it off. Must not know: what must hold then. Invariant: until it is set off, every call reaches the
//! real driver unchanged.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wgpu::{
    BufferAsyncError, BufferDescriptor, BufferUsages, CommandBuffer, ComputePipelineDescriptor, MapMode, SubmissionIndex,
};

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
    /// Such a buffer cannot be mapped.
    Map,
    /// The driver panics when it was asked to map one.
    MapPanic,
    /// No memory is found for a buffer that is mapped from the beginning.
    FirstMap,
    /// An error is reported on another thread while a buffer is mapped.
    Stray,
    /// Each shader takes so long to compile from now on.
    Compiling(Duration),
    /// The device is lost when the next shader is compiled.
    LoseCompiling,
    /// The compiler panics at the next shader.
    CompilerPanic,
    /// The driver refuses the next shaders, so many.
    Refuse(u32),
    /// Submissions end again.
    Go,
}

#[derive(Default)]
struct Fuse {
    /// Launches that are submitted before.
    set: Option<(u64, Sabotage)>,
    ceiling: Option<u64>,
    stalled: bool,
    unmappable: bool,
    unmapped: bool,
    map_panics: bool,
    first_map: bool,
    stray: bool,
    compiling: CompilerFuse,
}

/// What is to break when shaders are compiled.
#[derive(Default)]
struct CompilerFuse {
    delay: Duration,
    loses: bool,
    panics: bool,
    refused: u32,
}

impl Fuse {
    /// What holds from now on; false for what concerns one submission.
    fn holds(&mut self, sabotage: Sabotage) -> bool {
        match sabotage {
            Sabotage::Memory(bytes) => self.ceiling = Some(bytes),
            Sabotage::Stall => self.stalled = true,
            Sabotage::Go => self.stalled = false,
            Sabotage::Unmappable => self.unmappable = true,
            Sabotage::Map => self.unmapped = true,
            Sabotage::MapPanic => self.map_panics = true,
            Sabotage::FirstMap => self.first_map = true,
            Sabotage::Stray => self.stray = true,
            Sabotage::Compiling(time) => self.compiling.delay = time,
            Sabotage::LoseCompiling => self.compiling.loses = true,
            Sabotage::CompilerPanic => self.compiling.panics = true,
            Sabotage::Refuse(shaders) => self.compiling.refused = shaders,
            Sabotage::Lose | Sabotage::Panic | Sabotage::FullAtSubmit | Sabotage::Invalid => return false,
        }
        true
    }
}

/// Sets a broken driver off.
#[derive(Clone, Default)]
pub struct Breaker(Arc<Mutex<Fuse>>);

impl Breaker {
    /// Breaks the submission with the launch after so many more; with 0, the next one whatever it holds.
    pub fn after(&self, launches: u64, sabotage: Sabotage) {
        let mut fuse = self.fuse();
        if launches > 0 || !fuse.holds(sabotage) {
            fuse.set = Some((launches, sabotage));
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
        fuse.holds(sabotage);
        Some(sabotage)
    }
}

/// Whether launches use it and the host maps it.
fn shared(usage: BufferUsages) -> bool {
    usage.contains(BufferUsages::STORAGE) && usage.intersects(BufferUsages::MAP_READ | BufferUsages::MAP_WRITE)
}

fn nonsense(device: &wgpu::Device) -> wgpu::ShaderModule {
    let source = wgpu::ShaderSource::Wgsl("injected nonsense".into());
    device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source })
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
        if self.breaker.fuse().first_map && descriptor.mapped_at_creation && shared(descriptor.usage) {
            return Err(GpuRefusal::OutOfMemory { requested_bytes: descriptor.size, message: "injected".into() });
        }
        self.inner.buffer(opened, descriptor)
    }

    fn pipeline(&self, opened: &Opened, descriptor: &ComputePipelineDescriptor<'_>) -> wgpu::ComputePipeline {
        let CompilerFuse { delay, loses, panics, refused } = {
            let mut fuse = self.breaker.fuse();
            let CompilerFuse { delay, refused, .. } = fuse.compiling;
            let left = CompilerFuse { delay, refused: refused.saturating_sub(1), ..CompilerFuse::default() };
            std::mem::replace(&mut fuse.compiling, left)
        };
        std::thread::sleep(delay);
        if loses {
            opened.device.destroy();
        }
        assert!(!panics, "injected panic");
        if refused > 0 {
            drop(nonsense(&opened.device));
        }
        self.inner.pipeline(opened, descriptor)
    }

    fn map(&self, opened: &Opened, buffer: &wgpu::Buffer, mode: MapMode, done: MapDone) {
        if self.breaker.fuse().unmapped && shared(buffer.usage()) {
            return done(Err(BufferAsyncError));
        }
        if self.breaker.fuse().map_panics && shared(buffer.usage()) {
            buffer.map_async(mode, .., done);
            panic!("injected panic");
        }
        self.inner.map(opened, buffer, mode, done);
        if std::mem::take(&mut self.breaker.fuse().stray) {
            let device = opened.device.clone();
            let _ = std::thread::spawn(move || drop(nonsense(&device))).join();
        }
    }

    fn submit(&self, opened: &Opened, commands: CommandBuffer, load: Load) -> Result<SubmissionIndex, GpuRefusal> {
        match self.breaker.due(load.launches) {
            Some(Sabotage::Lose) => opened.device.destroy(),
            Some(Sabotage::Panic) => panic!("injected panic"),
            Some(Sabotage::FullAtSubmit) => {
                return Err(GpuRefusal::OutOfMemory { requested_bytes: 0, message: "injected".into() });
            }
            Some(Sabotage::Invalid) => {
                drop(nonsense(&opened.device));
                return Err(GpuRefusal::Invalid("injected".into()));
            }
            _ => {} // it holds from now on
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
