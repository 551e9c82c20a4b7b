//! Memory of the GPU.
//!
//! Owns: [`ChunkSlot`] (a chunk's buffer), [`QueuedUse`]. Must not know: which chunk is in which buffer. Invariant: a slot's buffer is made once, and counted as long as
//! it exists; while the host has it mapped, nothing that uses it is submitted.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
    /// Launches and copies that are queued and use it.
    queued: AtomicU32,
    /// Whether the host has it mapped, or soon will; and moves that wait for it.
    lent: AtomicBool,
    wanted: AtomicU32,
}

/// What every chunk's buffer is for.
const USES: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

impl ChunkSlot {
    pub(super) fn new(opened: Arc<Opened>, bytes: u64) -> Self {
        // Size classes round up; what a chunk may have survives this (`AdapterInfo::facts`).
        let bytes = bytes.next_multiple_of(16).min(opened.largest);
        Self {
            opened,
            bytes,
            buffer: OnceLock::new(),
            key: BufferKey::new(),
            uploaded: AtomicU64::new(0),
            queued: AtomicU32::new(0),
            lent: AtomicBool::new(false),
            wanted: AtomicU32::new(0),
        }
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
        let strategy = &self.opened.strategy;
        let usage = USES | strategy.usage();
        let made = match self.make(usage, false) {
            // What both sides reach may be a small part of memory.
            Err(GpuRefusal::OutOfMemory { .. }) if usage != USES => self.opened.buffer(self.bytes, USES, false)?,
            Err(GpuRefusal::Invalid(why)) if usage != USES => {
                strategy.give_up(&why);
                self.opened.buffer(self.bytes, USES, false)?
            }
            made => made?,
        };
        Ok(self.buffer.get_or_init(|| made))
    }

    /// A buffer that the host may map. An error that is somebody else's does not come twice.
    fn make(&self, usage: BufferUsages, mapped: bool) -> Result<wgpu::Buffer, GpuRefusal> {
        match self.opened.buffer(self.bytes, usage, mapped) {
            Err(GpuRefusal::Invalid(_)) if usage != USES => self.opened.buffer(self.bytes, usage, mapped),
            made => made,
        }
    }

    /// A buffer for a chunk that has none yet, mapped to be written, if such can be had; it is to be [`ChunkSlot::put`] here.
    pub(super) fn mapped(&self) -> Option<wgpu::Buffer> {
        let usage = self.opened.strategy.usage();
        if self.bytes == 0 || self.buffer.get().is_some() || !usage.contains(BufferUsages::MAP_WRITE) {
            return None;
        }
        match self.make(USES | usage, true) {
            Ok(buffer) => Some(buffer),
            Err(GpuRefusal::Invalid(why)) => {
                self.opened.strategy.give_up(&why);
                None
            }
            Err(_) => None,
        }
    }

    /// Its buffer, unmapped and full.
    pub(super) fn put(&self, buffer: wgpu::Buffer) {
        if self.buffer.set(buffer).is_err() {
            self.opened.forget(self.bytes);
        }
    }

    /// Whether the host may map its buffer in this way.
    pub(super) fn maps(&self, to: BufferUsages) -> bool {
        self.opened.strategy.usage().contains(to) && self.buffer.get().is_some_and(|buffer| buffer.usage().contains(to))
    }

    /// Lends it to the host, if nobody else has it or is about to: until it is back, no launch that uses it may be submitted.
    pub(super) fn lend(&self) -> bool {
        self.queued.load(Ordering::Relaxed) == 0 && !self.lent.swap(true, Ordering::Acquire)
    }

    /// The host wants it, and it is in use: what comes now may use it after that.
    pub(super) fn want(&self) {
        self.wanted.fetch_add(1, Ordering::Relaxed);
    }

    /// One who wanted it asks again, or no more.
    pub(super) fn unwant(&self) {
        self.wanted.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a launch that uses it is to be kept.
    pub(super) fn is_spoken_for(&self) -> bool {
        self.is_lent() || self.wanted.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::Acquire)
    }

    /// It is back, unmapped.
    pub(super) fn give_back(&self) {
        self.lent.store(false, Ordering::Release);
    }
}

/// A launch or a copy that uses a chunk is queued: until it is submitted, the host may not map it.
pub(super) struct QueuedUse(Arc<ChunkSlot>);

impl QueuedUse {
    pub(super) fn new(slot: &Arc<ChunkSlot>) -> Self {
        slot.queued.fetch_add(1, Ordering::Relaxed);
        Self(slot.clone())
    }
}

impl Drop for QueuedUse {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
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
