//! An open adapter: wgpu's device and queue, with every error that wgpu reports turned into a [`GpuRefusal`].
//!
//! Owns: [`Opened`]. Must not know: chunks, launches. Invariant: no error of wgpu panics here or is lost: it is returned by the call
//! that caused it, or by the next one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::{BufferDescriptor, BufferUsages, ErrorFilter, Features};

use super::AdapterInfo;
use super::driver::{Driver, Plain};
use super::groups::BindGroups;
use super::link::{LinkStrategy, Mapped, Staged};
use super::pipelines::cache_name;
use crate::device::Failure;
use crate::error::{Error, Remedy};

/// Why wgpu or the driver did not do what was asked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum GpuRefusal {
    /// No memory of the GPU is left; the device goes on working.
    OutOfMemory { requested_bytes: u64, message: String },
    /// A call that wgpu does not accept.
    Invalid(String),
    /// A shader that does not compile.
    Unfit(String),
    /// The device is gone.
    Lost(String),
}

impl std::fmt::Display for GpuRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutOfMemory { message, .. } | Self::Invalid(message) | Self::Unfit(message) | Self::Lost(message) => {
                f.write_str(message)
            }
        }
    }
}

impl GpuRefusal {
    pub(super) fn into_failure(self, what: &str, device: &str) -> Failure {
        let failed = |message| Error::Failed { what: format!("{what} on {device}"), message };
        match self {
            Self::OutOfMemory { requested_bytes, .. } => Failure::OutOfMemory(Error::OutOfMemory {
                what: what.to_owned(),
                requested_bytes,
                available_bytes: 0,
                space: device.to_owned(),
                remedies: vec![Remedy::Other("smaller chunks, or the CPU alone".into())],
            }),
            Self::Invalid(message) => Failure::Device(failed(message)),
            Self::Unfit(message) => Failure::Unfit(failed(message)),
            Self::Lost(message) => Failure::Lost(failed(format!("the GPU is lost: {message}"))),
        }
    }
}

/// What arrives outside calls.
#[derive(Default)]
struct Late {
    error: Option<String>,
    lost: Option<String>,
}

/// An open adapter.
pub(super) struct Opened {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// Whether launches can be timed by the GPU, and how many ns a tick of its clock is.
    pub(super) tick_ns: Option<f32>,
    /// By which its driver's cache of compiled shaders is told from others; `None` if it has none.
    pub(super) cache_name: Option<String>,
    /// Bytes of the largest buffer.
    pub(super) largest: u64,
    /// Bytes of buffers that exist.
    used: AtomicU64,
    /// Bind groups that were used twice.
    pub(super) groups: BindGroups,
    pub(super) driver: Box<dyn Driver>,
    /// How chunks cross between its memory and the host's.
    pub(super) strategy: Box<dyn LinkStrategy>,
    late: Arc<Mutex<Late>>,
}

impl Opened {
    /// Opens an adapter with all its limits, 64-bit types and timestamps where it has them.
    pub(super) fn new(adapter: &AdapterInfo) -> Result<Self, GpuRefusal> {
        Self::mapping(adapter, Box::new(Plain), None)
    }

    /// The same, by a driver of one's own; chunks are mapped in these ways, or cross through staging.
    pub(super) fn mapping(
        adapter: &AdapterInfo,
        driver: Box<dyn Driver>,
        mapped: Option<BufferUsages>,
    ) -> Result<Self, GpuRefusal> {
        let has = adapter.handle.features();
        let timestamps = has.contains(Features::TIMESTAMP_QUERY);
        let mapping = if mapped.is_some() { Features::MAPPABLE_PRIMARY_BUFFERS } else { Features::empty() };
        let more = Features::TIMESTAMP_QUERY | Features::PIPELINE_CACHE | mapping;
        let wanted = has & (Features::SHADER_F64 | Features::SHADER_INT64 | more);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("chunkwise"),
            required_features: wanted,
            required_limits: adapter.handle.limits(),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.handle.request_device(&descriptor))
            .map_err(|e| GpuRefusal::Invalid(format!("cannot open it: {e}")))?;
        let late = Arc::<Mutex<Late>>::default();
        let slot = Arc::clone(&late);
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).error.get_or_insert(e.to_string());
        }));
        let slot = Arc::clone(&late);
        device.set_device_lost_callback(move |reason, text| {
            let text = format!("{reason:?} {text}").trim().to_owned();
            slot.lock().unwrap_or_else(PoisonError::into_inner).lost.get_or_insert(text);
        });
        let tick_ns = timestamps.then(|| queue.get_timestamp_period()).filter(|&ns| ns > 0.0);
        let largest = device.limits().max_buffer_size & !15;
        let cache_name = if has.contains(Features::PIPELINE_CACHE) { cache_name(&adapter.handle.get_info()) } else { None };
        let (used, groups) = (AtomicU64::new(0), BindGroups::default());
        let strategy: Box<dyn LinkStrategy> = match mapped {
            Some(usage) => Box::new(Mapped::new(usage)),
            None => Box::new(Staged),
        };
        Ok(Self { device, queue, tick_ns, cache_name, largest, used, groups, driver, strategy, late })
    }

    /// Why the device is gone, if it is.
    pub(super) fn lost(&self) -> Option<String> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).lost.clone()
    }

    /// From now on the device counts as gone.
    pub(super) fn lose(&self, why: &str) {
        self.late.lock().unwrap_or_else(PoisonError::into_inner).lost.get_or_insert(why.to_owned());
    }

    /// Runs `calls` with every error that wgpu reports about them, at once or later, turned into a [`GpuRefusal`].
    pub(super) fn caught<R>(&self, calls: impl FnOnce() -> Result<R, GpuRefusal>) -> Result<R, GpuRefusal> {
        let (result, invalid, full) = self.in_scopes(calls);
        // The scopes know the cause; `result` often knows only that nothing came of it.
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = &late.lost {
            return Err(GpuRefusal::Lost(text.clone()));
        }
        if let Some(error) = full {
            return Err(GpuRefusal::OutOfMemory { requested_bytes: 0, message: error.to_string() });
        }
        if let Some(text) = invalid.map(|e| e.to_string()).or_else(|| late.error.take()) {
            return Err(GpuRefusal::Invalid(text));
        }
        result
    }

    /// Runs `calls`; what wgpu reports at once about them: what is invalid, and what found no memory.
    pub(super) fn in_scopes<R>(&self, calls: impl FnOnce() -> R) -> (R, Option<wgpu::Error>, Option<wgpu::Error>) {
        // Scopes belong to the thread that opens them.
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let result = calls();
        // Innermost first.
        let invalid = pollster::block_on(validation.pop()).or(pollster::block_on(internal.pop()));
        (result, invalid, pollster::block_on(memory.pop()))
    }

    /// A new buffer.
    pub(super) fn buffer(&self, size: u64, usage: BufferUsages, mapped: bool) -> Result<wgpu::Buffer, GpuRefusal> {
        let full = |message| GpuRefusal::OutOfMemory { requested_bytes: size, message };
        self.used.fetch_add(size, Ordering::Relaxed);
        let descriptor = BufferDescriptor { label: None, size, usage, mapped_at_creation: mapped };
        let made = self.caught(|| self.driver.buffer(self, &descriptor));
        made.map_err(|refusal| {
            self.used.fetch_sub(size, Ordering::Relaxed);
            match refusal {
                GpuRefusal::OutOfMemory { message, .. } => full(message),
                other => other,
            }
        })
    }

    /// Bytes of buffers that exist.
    pub(super) fn bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A buffer of this size is about to be dropped.
    pub(super) fn forget(&self, size: u64) {
        self.used.fetch_sub(size, Ordering::Relaxed);
    }
}
