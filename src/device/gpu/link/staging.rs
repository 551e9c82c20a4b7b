//! Staging: host memory that the GPU can copy from and to.
//!
//! Owns: [`Staging`], a pool of buffers for one direction. Must not know: which chunk is in which buffer. Invariant: the pool never exceeds its limit: what is
//! larger than a piece of it crosses in pieces. While one buffer can be had, of whatever size, moves go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wgpu::BufferUsages;

use crate::device::gpu::open::{GpuRefusal, Opened};

/// Smallest staging buffer, where the limit allows such.
const SMALLEST: u64 = 64 << 10;
/// The largest: from here on, longer pieces cross no faster.
const LARGEST: u64 = 32 << 20;
/// The smallest of all: if there is no memory for that, there is none.
const LEAST: u64 = 4096;

/// Staging buffers of one direction, by size class. Idle ones for uploads are mapped.
pub(in crate::device::gpu) struct Staging {
    opened: Arc<Opened>,
    usage: BufferUsages,
    limit_bytes: u64,
    pool: Mutex<BufferPool>,
    returned: Condvar,
}

struct BufferPool {
    /// The most that crosses in one buffer, a power of two: one piece is copied while others are on the link. Less than at first while larger ones cannot be had.
    piece_bytes: u64,
    idle: BTreeMap<u64, Vec<wgpu::Buffer>>,
    lent: u64,
    bytes: u64,
    /// Threads that wait for one to come back.
    waiting: u32,
}

impl Staging {
    /// Buffers to write, for uploads, or to read, for downloads.
    pub(in crate::device::gpu) fn new(opened: Arc<Opened>, upload: bool, limit_bytes: u64) -> Self {
        let usage = if upload {
            BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC
        } else {
            BufferUsages::MAP_READ | BufferUsages::COPY_DST
        };
        let pool = BufferPool { piece_bytes: piece_of(limit_bytes), idle: BTreeMap::new(), lent: 0, bytes: 0, waiting: 0 };
        Self { opened, usage, limit_bytes, pool: Mutex::new(pool), returned: Condvar::new() }
    }

    /// The most that crosses in one buffer now.
    pub(in crate::device::gpu) fn piece_bytes(&self) -> u64 {
        self.pool().piece_bytes
    }

    /// The most that it may have.
    pub(in crate::device::gpu) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Gives back what is not lent. Perhaps there is memory for large buffers the next time.
    pub(in crate::device::gpu) fn rest(&self) {
        let mut pool = self.pool();
        while self.drop_largest(&mut pool) {}
        pool.piece_bytes = piece_of(self.limit_bytes);
    }

    fn pool(&self) -> MutexGuard<'_, BufferPool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for a piece of `bytes`, or for the beginning of it; waits for one to be given back where there is no room.
    pub(in crate::device::gpu) fn take(&self, bytes: u64) -> Result<wgpu::Buffer, GpuRefusal> {
        let mut pool = self.pool();
        loop {
            let piece = pool.piece_bytes;
            let wanted = bytes.min(piece);
            if let Some(buffer) = self.lend(&mut pool, wanted, || ())? {
                return Ok(buffer);
            }
            // It may be that smaller ones are to be had.
            if pool.piece_bytes == piece {
                pool.waiting += 1;
                pool = self.returned.wait_timeout(pool, Duration::from_millis(100)).unwrap_or_else(PoisonError::into_inner).0;
                pool.waiting -= 1;
            }
        }
    }

    /// A buffer for all of a piece of `bytes`, or `None` if one must be given back first, or pieces have become smaller. Where memory is short, `spare` is called
    /// once, to free some of what is kept for others.
    pub(in crate::device::gpu) fn try_take(
        &self,
        bytes: u64,
        spare: impl FnOnce(),
    ) -> Result<Option<wgpu::Buffer>, GpuRefusal> {
        self.lend(&mut self.pool(), bytes, spare)
    }

    /// Gives back what lies idle, but for the last buffer, if that is all it has.
    pub(in crate::device::gpu) fn spare(&self) {
        let mut pool = self.pool();
        while self.make_room(&mut pool) {}
    }

    fn lend(&self, pool: &mut BufferPool, bytes: u64, spare: impl FnOnce()) -> Result<Option<wgpu::Buffer>, GpuRefusal> {
        let mut spare = Some(spare);
        let class = bytes.next_power_of_two().max(SMALLEST.min(pool.piece_bytes));
        if let Some(why) = self.opened.lost() {
            return Err(GpuRefusal::Lost(why));
        }
        if let Some(buffer) = pool.reuse(class) {
            return Ok(Some(buffer));
        }
        while pool.bytes + class > self.limit_bytes {
            // A somewhat larger one does as well, and need not be made.
            if let Some(buffer) = pool.reuse_larger(class, 4 * class) {
                return Ok(Some(buffer));
            }
            if !self.drop_largest(pool) {
                break;
            }
        }
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
                Err(GpuRefusal::OutOfMemory { message, .. }) => {
                    if let Some(buffer) = pool.reuse_larger(class, u64::MAX) {
                        return Ok(Some(buffer));
                    }
                    if !self.make_room(pool) {
                        match spare.take() {
                            Some(spare) => spare(),
                            None => return self.make_do(pool, class, &message),
                        }
                    }
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// What both sides reach may be a small part of memory: what lies idle goes, the smallest first, but the last buffer stays: there may never be another.
    fn make_room(&self, pool: &mut BufferPool) -> bool {
        let idle: usize = pool.idle.values().map(Vec::len).sum();
        if idle == 0 || (idle == 1 && pool.lent == 0) {
            return false;
        }
        let smallest = pool.idle.iter().find(|(_, idle)| !idle.is_empty()).map(|(&class, _)| class);
        smallest.is_some_and(|class| self.drop_idle(pool, class))
    }

    /// A buffer of this class cannot be made: what is lent comes back, or pieces become smaller; an error if they are as small as may be.
    fn make_do(&self, pool: &mut BufferPool, class: u64, message: &str) -> Result<Option<wgpu::Buffer>, GpuRefusal> {
        if pool.lent > 0 {
            return Ok(None);
        }
        let idle = pool.idle.iter().find(|(_, idle)| !idle.is_empty()).map(|(&class, _)| class);
        if class <= LEAST && idle.is_none() {
            pool.piece_bytes = piece_of(self.limit_bytes);
            // It says nothing of the memory for chunks.
            return Err(GpuRefusal::Invalid(format!("no memory for a staging buffer of {class} B: {message}")));
        }
        pool.piece_bytes = idle.unwrap_or((class / 2).max(LEAST));
        Ok(None)
    }

    fn drop_largest(&self, pool: &mut BufferPool) -> bool {
        let largest = pool.idle.iter().rev().find(|(_, idle)| !idle.is_empty()).map(|(&class, _)| class);
        largest.is_some_and(|class| self.drop_idle(pool, class))
    }

    fn drop_idle(&self, pool: &mut BufferPool, class: u64) -> bool {
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
        if pool.waiting > 0 {
            self.returned.notify_all(); // a call of the system, whether anybody waits or not
        }
    }
}

/// A quarter of the staging of a direction, within bounds.
fn piece_of(limit_bytes: u64) -> u64 {
    (1 << (limit_bytes / 4).max(1).ilog2()).clamp(LEAST, LARGEST)
}

impl BufferPool {
    /// An idle buffer of this class.
    fn reuse(&mut self, class: u64) -> Option<wgpu::Buffer> {
        let buffer = self.idle.get_mut(&class).and_then(Vec::pop)?;
        self.lent += class;
        Some(buffer)
    }

    /// The smallest idle buffer between these.
    fn reuse_larger(&mut self, class: u64, most: u64) -> Option<wgpu::Buffer> {
        let found = self.idle.range(class..=most).find(|(_, idle)| !idle.is_empty()).map(|(&class, _)| class)?;
        self.reuse(found)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let bytes = self.pool().bytes;
        self.opened.forget(bytes);
    }
}
