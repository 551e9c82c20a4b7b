//! What the executor asks of wgpu's device and queue that may fail or take long.
//!
//! Owns: the trait [`Driver`], and [`Plain`], which asks wgpu. Must not know: chunks, launches. Invariant: an error that wgpu reports otherwise than by a result
//! is caught by whoever calls ([`Opened::caught`]), never here.

use std::time::Duration;

use wgpu::{
    BufferAsyncError, BufferDescriptor, CommandBuffer, ComputePipelineDescriptor, MapMode, PollError, PollType, SubmissionIndex,
};

use super::open::{GpuRefusal, Opened};

/// What a submission holds, for those who look on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) launches: u64,
    pub(super) up_bytes: u64,
    pub(super) down_bytes: u64,
}

/// What is told whether a buffer is mapped.
pub(super) type MapDone = Box<dyn FnOnce(Result<(), BufferAsyncError>) + Send>;

/// The calls that tests wrap: to fail, to stall, to take a known time.
pub(super) trait Driver: Send + Sync {
    /// Makes a buffer.
    fn buffer(&self, opened: &Opened, descriptor: &BufferDescriptor<'_>) -> Result<wgpu::Buffer, GpuRefusal>;

    /// Compiles a shader.
    fn pipeline(&self, opened: &Opened, descriptor: &ComputePipelineDescriptor<'_>) -> wgpu::ComputePipeline {
        opened.device.create_compute_pipeline(descriptor)
    }

    /// Has a chunk's buffer mapped when no submission uses it any more, and `done` called then.
    fn map(&self, opened: &Opened, buffer: &wgpu::Buffer, mode: MapMode, done: MapDone);

    /// Submits commands; nothing of them has happened if it refuses.
    fn submit(&self, opened: &Opened, commands: CommandBuffer, load: Load) -> Result<SubmissionIndex, GpuRefusal>;

    /// Waits for the end of a submission, for so long at most; false if it is not over then.
    fn wait(&self, opened: &Opened, index: &SubmissionIndex, at_most: Duration) -> Result<bool, GpuRefusal>;
}

/// wgpu itself.
pub(super) struct Plain;

impl Driver for Plain {
    fn buffer(&self, opened: &Opened, descriptor: &BufferDescriptor<'_>) -> Result<wgpu::Buffer, GpuRefusal> {
        Ok(opened.device.create_buffer(descriptor))
    }

    fn map(&self, opened: &Opened, buffer: &wgpu::Buffer, mode: MapMode, done: MapDone) {
        buffer.map_async(mode, .., done);
        // If no submission uses it, nobody else looks for what is ready. (It panics if the device is lost.)
        let _ = opened.device.poll(PollType::Poll);
    }

    fn submit(&self, opened: &Opened, commands: CommandBuffer, _: Load) -> Result<SubmissionIndex, GpuRefusal> {
        Ok(opened.queue.submit([commands]))
    }

    fn wait(&self, opened: &Opened, index: &SubmissionIndex, at_most: Duration) -> Result<bool, GpuRefusal> {
        match opened.device.poll(PollType::Wait { submission_index: Some(index.clone()), timeout: Some(at_most) }) {
            Ok(_) => Ok(true),
            Err(PollError::Timeout) => Ok(false),
            Err(error) => Err(GpuRefusal::Lost(error.to_string())),
        }
    }
}
