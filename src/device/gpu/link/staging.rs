//! Staging: host memory that the GPU can copy from and to.
//!
//! Owns: [`Staging`], a pool of buffers for one direction. Must not know: which chunk is in which buffer. Invariant: the pool never exceeds its limit: what is
//! larger than a piece of it crosses in pieces.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wgpu::BufferUsages;

use crate::device::gpu::open::{GpuRefusal, Opened};

/// Smallest staging buffer, where the limit allows such.
const SMALLEST: u64 = 64 << 10;
/// The largest: from here on, longer pieces cross no faster.
const LARGEST: u64 = 32 << 20;

/// Staging buffers of one direction, by size class. Idle ones for uploads are mapped.
pub(in crate::device::gpu) struct Staging {
    opened: Arc<Opened>,
    usage: BufferUsages,
    limit_bytes: u64,
    /// The most that crosses in one buffer, a power of two: one piece is copied while others are on the link.
    piece_bytes: u64,
    pool: Mutex<BufferPool>,
    returned: Condvar,
}

#[derive(Default)]
struct BufferPool {
    idle: BTreeMap<u64, Vec<wgpu::Buffer>>,
    lent: u64,
    bytes: u64,
}

impl Staging {
    /// Buffers to write, for uploads, or to read, for downloads.
    pub(in crate::device::gpu) fn new(opened: Arc<Opened>, upload: bool, limit_bytes: u64) -> Self {
        let usage = if upload {
            BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC
        } else {
            BufferUsages::MAP_READ | BufferUsages::COPY_DST
        };
        let piece_bytes = (1 << (limit_bytes / 4).max(1).ilog2()).clamp(4096, LARGEST);
        Self { opened, usage, limit_bytes, piece_bytes, pool: Mutex::default(), returned: Condvar::new() }
    }

    /// The next piece of a chunk of `bytes` that has crossed up to `at`: its size, and 0 at the end.
    pub(in crate::device::gpu) fn piece(&self, at: u64, bytes: u64) -> u64 {
        (bytes - at).min(self.piece_bytes)
    }

    /// The most that it may have.
    pub(in crate::device::gpu) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Gives back what is not lent.
    pub(in crate::device::gpu) fn rest(&self) {
        let mut pool = self.pool();
        while self.drop_one(&mut pool) {}
    }

    fn pool(&self) -> MutexGuard<'_, BufferPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for a piece of `bytes`; waits for one to be given back where there is no room.
    pub(in crate::device::gpu) fn take(&self, bytes: u64) -> Result<wgpu::Buffer, GpuRefusal> {
        let mut pool = self.pool();
        loop {
            if let Some(buffer) = self.lend(&mut pool, bytes)? {
                return Ok(buffer);
            }
            pool = self.returned.wait_timeout(pool, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A buffer for a piece of `bytes`, or `None` if one must be given back first.
    pub(in crate::device::gpu) fn try_take(&self, bytes: u64) -> Result<Option<wgpu::Buffer>, GpuRefusal> {
        self.lend(&mut self.pool(), bytes)
    }

    fn lend(&self, pool: &mut BufferPool, bytes: u64) -> Result<Option<wgpu::Buffer>, GpuRefusal> {
        let class = bytes.next_power_of_two().max(SMALLEST.min(self.piece_bytes));
        if let Some(why) = self.opened.lost() {
            return Err(GpuRefusal::Lost(why));
        }
        if let Some(buffer) = pool.idle.get_mut(&class).and_then(Vec::pop) {
            pool.lent += class;
            return Ok(Some(buffer));
        }
        while pool.bytes + class > self.limit_bytes && self.drop_one(pool) {}
        // A limit below that of any buffer still lets one at a time through.
        if pool.bytes + class > self.limit_bytes && pool.lent > 0 {
            return Ok(None);
        }
        let mapped = self.usage.contains(BufferUsages::MAP_WRITE);
        loop {
            match self.opened.buffer(class, self.usage, mapped) {
                Ok(buffer) => {
                    pool.bytes += class;
                    pool.lent += class;
                    return Ok(Some(buffer));
                }
                // What both sides reach may be a small part of memory: first what lies idle goes, then what is lent must come back.
                Err(GpuRefusal::OutOfMemory { .. }) if self.drop_one(pool) => {}
                Err(GpuRefusal::OutOfMemory { .. }) if pool.lent > 0 => return Ok(None),
                // It says nothing of the memory for chunks.
                Err(GpuRefusal::OutOfMemory { message, .. }) => {
                    return Err(GpuRefusal::Invalid(format!("no memory for a staging buffer of {class} B: {message}")));
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Drops an idle buffer, the largest; false if there is none.
    fn drop_one(&self, pool: &mut BufferPool) -> bool {
        let Some((&class, _)) = pool.idle.iter().rev().find(|(_, idle)| !idle.is_empty()) else { return false };
        drop(pool.idle.get_mut(&class).and_then(Vec::pop));
        pool.bytes -= class;
        self.opened.forget(class);
        true
    }

    /// Gives a buffer back: one for uploads mapped, one for downloads unmapped; `sound` if it may be used again.
    pub(in crate::device::gpu) fn give(&self, buffer: wgpu::Buffer, sound: bool) {
        let class = buffer.size();
        let mut pool = self.pool();
        pool.lent -= class;
        if sound {
            pool.idle.entry(class).or_default().push(buffer);
        } else {
            pool.bytes -= class;
            self.opened.forget(class);
        }
        self.returned.notify_all();
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let bytes = self.pool().bytes;
        self.opened.forget(bytes);
    }
}
