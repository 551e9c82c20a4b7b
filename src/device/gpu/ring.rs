//! Scratch for launches under way.
//!
//! Owns: [`ScratchRing`]. Must not know: what is in it. Invariant: a launch of which a part is still to come keeps its buffer; two launches of one submission
//! share one only where the ring has no room for another.
//!
//! Launches that write one buffer run one after the other. So each gets the buffer that was used longest ago.

use wgpu::BufferUsages;

use super::groups::BufferKey;
use super::open::{GpuRefusal, Opened};

/// Buffers in a ring, and bytes beyond which it has only one.
const LENGTH: usize = 8;
const MOST_BYTES: u64 = 64 << 20;
/// The smallest buffer.
const SMALLEST: u64 = 4096;

/// A buffer for scratch, and what tells it from others.
#[derive(Clone)]
pub(super) struct ScratchBuffer {
    pub(super) buffer: wgpu::Buffer,
    pub(super) key: BufferKey,
}

/// Buffers, the one that was used longest ago first.
#[derive(Default)]
pub(super) struct ScratchRing {
    buffers: std::collections::VecDeque<ScratchBuffer>,
}

impl ScratchRing {
    /// A buffer of so many bytes, out of the ring: to be given back once the launch is recorded to its end.
    pub(super) fn take(&mut self, opened: &Opened, bytes: u64) -> Result<ScratchBuffer, GpuRefusal> {
        let class = bytes.next_power_of_two().max(SMALLEST).min(opened.largest);
        let all: u64 = self.buffers.iter().map(|scratch| scratch.buffer.size()).sum();
        let more = self.buffers.len() < LENGTH && all + class <= MOST_BYTES;
        if more {
            match Self::make(opened, class) {
                Err(GpuRefusal::OutOfMemory { .. }) if !self.buffers.is_empty() => {}
                made => return made,
            }
        }
        let fitting = self.buffers.iter().position(|scratch| scratch.buffer.size() >= bytes);
        if let Some(scratch) = fitting.and_then(|at| self.buffers.remove(at)) {
            return Ok(scratch);
        }
        self.clear(opened); // all are too small
        Self::make(opened, class)
    }

    fn make(opened: &Opened, bytes: u64) -> Result<ScratchBuffer, GpuRefusal> {
        let buffer = opened.buffer(bytes, BufferUsages::STORAGE, false)?;
        Ok(ScratchBuffer { buffer, key: BufferKey::new() })
    }

    /// The launch is recorded: those after it may use the buffer.
    pub(super) fn give(&mut self, scratch: ScratchBuffer) {
        self.buffers.push_back(scratch);
    }

    /// Drops what no launch keeps.
    pub(super) fn clear(&mut self, opened: &Opened) {
        self.buffers.drain(..).for_each(|scratch| scratch.forget(opened));
    }
}

impl ScratchBuffer {
    /// It is not given back, but dropped.
    pub(super) fn forget(self, opened: &Opened) {
        opened.groups.forget(self.key);
        opened.forget(self.buffer.size());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_under_way_have_scratch_of_their_own() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let opened = Opened::new(&adapter).unwrap();
        let mut ring = ScratchRing::default();
        let mut order = Vec::new();
        for _ in 0..3 * LENGTH {
            let scratch = ring.take(&opened, 100).unwrap();
            order.push(scratch.key);
            ring.give(scratch);
        }
        assert!(order.windows(LENGTH).all(|few| few.iter().all(|key| few.iter().filter(|k| *k == key).count() == 1)));
        assert_eq!(opened.bytes(), LENGTH as u64 * SMALLEST);
        // One that is kept is nobody else's, and large ones come one at a time.
        let kept = ring.take(&opened, 100).unwrap();
        assert!((0..20).all(|_| {
            let other = ring.take(&opened, 100).unwrap();
            let differs = other.key != kept.key;
            ring.give(other);
            differs
        }));
        kept.forget(&opened);
        for _ in 0..3 {
            let large = ring.take(&opened, MOST_BYTES / 2 + 1).unwrap();
            ring.give(large);
        }
        assert!(opened.bytes() <= MOST_BYTES + LENGTH as u64 * SMALLEST, "{}", opened.bytes());
        ring.clear(&opened);
        assert_eq!(opened.bytes(), 0);
    }
}
