//! Memory of the GPU.
//!
//! Owns: [`ChunkSlot`] (a chunk's buffer). Must not know: which chunk is in which buffer. Invariant: a slot's buffer is made once, and counted as long as
//! it exists.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use wgpu::BufferUsages;

use super::batcher::Mark;
use super::groups::BufferKey;
use super::open::{GpuRefusal, Opened};

/// A buffer for a chunk. It takes no memory of the GPU until it is used.
pub(super) struct ChunkSlot {
    opened: Arc<Opened>,
    bytes: u64,
    buffer: OnceLock<wgpu::Buffer>,
    pub(super) key: BufferKey,
    /// The last upload of it.
    uploaded: AtomicU64,
}

impl ChunkSlot {
    pub(super) fn new(opened: Arc<Opened>, bytes: u64) -> Self {
        // Size classes round up; what a chunk may have survives this (`AdapterInfo::facts`).
        let bytes = bytes.next_multiple_of(16).min(opened.largest);
        Self { opened, bytes, buffer: OnceLock::new(), key: BufferKey::new(), uploaded: AtomicU64::new(0) }
    }

    /// Bytes for it are on their way.
    pub(super) fn uploaded(&self, mark: Mark) {
        self.uploaded.store(mark.0, Ordering::Relaxed); // the service thread alone writes and reads it
    }

    /// After which uploads it may be read.
    pub(super) fn after(&self) -> Mark {
        Mark(self.uploaded.load(Ordering::Relaxed))
    }

    /// The buffer, made now if it does not exist yet.
    pub(super) fn buffer(&self) -> Result<&wgpu::Buffer, GpuRefusal> {
        if let Some(buffer) = self.buffer.get() {
            return Ok(buffer);
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let made = self.opened.buffer(self.bytes, usage, false)?;
        Ok(self.buffer.get_or_init(|| made))
    }
}

impl Drop for ChunkSlot {
    fn drop(&mut self) {
        if self.buffer.get().is_some() {
            self.opened.groups.forget(self.key);
            self.opened.forget(self.bytes);
        }
    }
}
