//! Does this adapter compute? Opens it, runs `shaders/probe.wgsl`, checks every number.
//!
//! Owns: [`probe`]. Must not know: kernels, chunk tasks. Invariant: whatever the driver does (error, panic, silence), the caller
//! has an answer within [`TIMEOUT`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use wgpu::{BufferDescriptor, BufferUsages, PollType};

use super::AdapterInfo;
use super::open::{GpuRefusal, Opened};
use crate::device::caught;
use crate::error::{Error, Result};
use crate::shape::{DType, Real};

/// How long an adapter may take for all of a probe. Loading a driver and compiling take up to a second or two.
const TIMEOUT: Duration = Duration::from_secs(20);
const ELEMENTS: usize = 4096;
const SHADER: &str = include_str!("../../../shaders/probe.wgsl");

/// What a probe found: the adapter computed correctly in these dtypes.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeReport {
    /// The dtypes tried, all of them with correct results: `i32`, `f32`, and `f64` where the adapter has it.
    pub dtypes: Vec<DType>,
    /// Elements compared for each dtype.
    pub elements: usize,
    /// Seconds to open the adapter.
    pub open_s: f64,
    /// Seconds of the slowest first run: compile, upload, run, download.
    pub first_run_s: f64,
    /// Seconds of a second run of the same pipeline with the same 16 to 32 kB up and down: mostly latency.
    pub next_run_s: f64,
}

/// Runs `y = 2 x + 1` on 4096 elements of `i32`, `f32` and, where the adapter has it, `f64`, and compares every element.
///
/// # Errors
/// [`Error::Unable`] if the adapter is marked unusable; [`Error::Failed`] if it refuses, is lost, answers with wrong numbers or not within 20
/// seconds, or if its driver or wgpu panicked.
pub fn probe(adapter: &AdapterInfo) -> Result<ProbeReport> {
    if let Some(reason) = &adapter.unusable {
        return Err(Error::Unable { device: adapter.to_string(), why: reason.clone() });
    }
    let work = {
        let adapter = adapter.clone();
        move || run(&adapter)
    };
    within(TIMEOUT, &adapter.to_string(), work)
}

/// Runs `work` on a thread of its own, and gives it up after `limit`: a wedged driver cannot be interrupted, only left alone.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    on: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let what = format!("the GPU probe on {on}");
    let (sender, receiver) = mpsc::channel();
    let body = move || {
        // A receiver that has given up is no error of the work.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    };
    std::thread::Builder::new()
        .name("gpu-probe".into())
        .spawn(body)
        .map_err(|e| Error::Failed { what: what.clone(), message: format!("no thread to run it: {e}") })?;
    match receiver.recv_timeout(limit) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(caught(what, &*panic)),
        Err(_) => Err(Error::Failed { what, message: format!("no answer within {} s", limit.as_secs_f64()) }),
    }
}

/// An open adapter, and its name for messages.
struct ProbeAdapter {
    opened: Opened,
    on: String,
}

fn run(adapter: &AdapterInfo) -> Result<ProbeReport> {
    let started = Instant::now();
    let open = ProbeAdapter::new(adapter)?;
    let open_s = started.elapsed().as_secs_f64();
    let mut report =
        ProbeReport { dtypes: Vec::new(), elements: ELEMENTS, open_s, first_run_s: 0.0, next_run_s: f64::INFINITY };
    open.check::<i32>(&mut report)?;
    open.check::<f32>(&mut report)?;
    if adapter.has_f64 {
        open.check::<f64>(&mut report)?;
    }
    Ok(report)
}

impl ProbeAdapter {
    fn new(adapter: &AdapterInfo) -> Result<Self> {
        let on = adapter.to_string();
        let failed =
            |refusal: GpuRefusal| Error::Failed { what: format!("the GPU probe on {on}"), message: refusal.to_string() };
        Ok(Self { opened: Opened::new(adapter).map_err(failed)?, on })
    }

    fn error(&self, dtype: DType, message: impl Into<String>) -> Error {
        Error::Failed { what: format!("the GPU probe ({dtype}) on {}", self.on), message: message.into() }
    }

    /// Two runs in dtype `T`, both compared.
    fn check<T: Real + bytemuck::Pod>(&self, report: &mut ProbeReport) -> Result<()> {
        let half = if T::DTYPE == DType::I32 { 1.0 } else { 0.5 };
        let x: Vec<T> = (0..ELEMENTS).map(|i| T::from_f64((i as f64 - 2000.0) * half)).collect();
        let started = Instant::now();
        let pipeline = self.caught(T::DTYPE, || Ok(self.compile(format!("alias Number = {};\n{SHADER}", T::DTYPE))))?;
        for round in 0..2 {
            let begin = if round == 0 { started } else { Instant::now() };
            let y = self.caught(T::DTYPE, || self.round_trip(&pipeline, &x))?;
            let seconds = begin.elapsed().as_secs_f64();
            if round == 0 {
                report.first_run_s = report.first_run_s.max(seconds);
            } else {
                report.next_run_s = report.next_run_s.min(seconds);
            }
            compare(&x, &y).map_err(|message| self.error(T::DTYPE, message))?;
        }
        report.dtypes.push(T::DTYPE);
        Ok(())
    }

    /// Runs `calls` with every error that wgpu reports about them, at once or later, turned into a `Result`.
    fn caught<R>(&self, dtype: DType, calls: impl FnOnce() -> Result<R>) -> Result<R> {
        self.opened.caught(|| Ok(calls())).map_err(|refusal| self.error(dtype, refusal.to_string()))?
    }

    fn compile(&self, source: String) -> wgpu::ComputePipeline {
        let module = self.opened.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("probe"),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        self.opened.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("probe"),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        })
    }

    fn round_trip<T: Real + bytemuck::Pod>(&self, pipeline: &wgpu::ComputePipeline, x: &[T]) -> Result<Vec<T>> {
        let size = size_of_val(x) as u64;
        let buffer = |label, usage| {
            self.opened.device.create_buffer(&BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        let input = buffer("x", BufferUsages::STORAGE | BufferUsages::COPY_DST);
        let output = buffer("y", BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        let staging = buffer("download", BufferUsages::COPY_DST | BufferUsages::MAP_READ);
        self.opened.queue.write_buffer(&input, 0, bytemuck::cast_slice(x));
        let group = self.opened.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("probe"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: input.as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: output.as_entire_binding() },
            ],
        });
        let mut encoder = self.opened.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups((x.len() as u32).div_ceil(64), 1, 1);
        }
        encoder.copy_buffer_to_buffer(&output, 0, &staging, 0, size);
        let (sender, receiver) = mpsc::channel();
        encoder.map_buffer_on_submit(&staging, wgpu::MapMode::Read, .., move |result| {
            let _ = sender.send(result); // nobody listens any more: the wait below has failed first
        });
        let index = self.opened.queue.submit([encoder.finish()]);
        let failed = |what: &str, why: String| self.error(T::DTYPE, format!("{what}: {why}"));
        self.opened
            .device
            .poll(PollType::Wait { submission_index: Some(index), timeout: Some(TIMEOUT) })
            .map_err(|e| failed("waiting for the GPU", e.to_string()))?;
        let mapped = receiver.try_recv().map_err(|e| failed("download", e.to_string()))?;
        mapped.map_err(|e| failed("download", e.to_string()))?;
        let bytes = staging.get_mapped_range(..).map_err(|e| failed("download", e.to_string()))?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

/// Every element of `y` against 2 x + 1, which is exact for the values used.
fn compare<T: Real>(x: &[T], y: &[T]) -> Result<(), String> {
    if x.len() != y.len() {
        return Err(format!("{} elements came back, not {}", y.len(), x.len()));
    }
    let wrong = |i: usize| y[i].to_f64() != 2.0 * x[i].to_f64() + 1.0;
    let count = (0..x.len()).filter(|&i| wrong(i)).count();
    match (0..x.len()).find(|&i| wrong(i)) {
        Some(i) => Err(format!("{count} of {} numbers are wrong; first, 2 x {} + 1 = {}", x.len(), x[i], y[i])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_numbers_are_seen() {
        assert_eq!(compare(&[1.0, 2.0], &[3.0, 5.0]), Ok(()));
        assert!(compare(&[1.0, 2.0], &[3.0, 4.0]).unwrap_err().contains("1 of 2"));
        assert!(compare(&[1.0f32], &[f32::NAN]).is_err());
        assert!(compare(&[1, 2], &[3]).is_err());
    }

    #[test]
    fn silence_and_panics_become_errors() {
        let limit = Duration::from_millis(20);
        let (_keep, wait) = mpsc::channel::<()>();
        let silent = within(limit, "x", move || Ok(wait.recv().is_err()));
        assert!(matches!(silent, Err(Error::Failed { message, .. }) if message.starts_with("no answer")));
        let panicking = within(TIMEOUT, "x", || -> Result<()> { panic!("driver bug {}", 7) });
        assert!(matches!(panicking, Err(Error::Failed { message, .. }) if message == "it panicked: driver bug 7"));
        assert_eq!(within(TIMEOUT, "x", || Ok(1)).unwrap(), 1);
    }

    #[test]
    fn what_wgpu_refuses_becomes_an_error_and_the_adapter_stays_usable() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let open = ProbeAdapter::new(&adapter).unwrap();
        let text = |source: &str| open.caught(DType::F32, || Ok(open.compile(source.into()))).unwrap_err().to_string();
        assert!(text("fn main() { nonsense }").contains("nonsense"));
        let refused = text("@compute @workgroup_size(65536) fn main() {}");
        assert!(refused.to_lowercase().contains("workgroup"), "{refused}");
        let huge =
            BufferDescriptor { label: None, size: u64::MAX / 2, usage: BufferUsages::STORAGE, mapped_at_creation: false };
        assert!(open.caught(DType::F32, || Ok(open.opened.device.create_buffer(&huge))).is_err());
        // An error that no scope caught (here: none is open) is kept for the next call.
        let _ = open.opened.device.create_buffer(&huge);
        assert!(open.caught(DType::F32, || Ok(())).is_err());
        assert!(run(&adapter).is_ok());
    }
}
