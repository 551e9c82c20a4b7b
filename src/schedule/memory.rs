//! Buffers of each memory space: which exist, which are free, and how much the limit leaves.
//!
//! Owns: size classes, free lists, byte counts. Must not know: values. Invariant: in use + cached <= limit, except for what
//! the sequentially next task takes when nothing else runs.

use std::collections::BTreeMap;

use super::Action;
use crate::device::HOST;
use crate::id::{BufferId, SpaceId};

/// Bytes of host memory that a host buffer takes in tables: its replica, its slots here and in the runtime, its handle. More than tiny chunks have.
const ENTRY: u64 = 320;

/// Bytes that a buffer for `bytes` is counted as in a space: its class, and what it takes in tables.
pub(super) fn cost(space: SpaceId, bytes: u64) -> u64 {
    class(bytes).saturating_add(entry(space))
}

fn entry(space: SpaceId) -> u64 {
    if space == HOST { ENTRY } else { 0 }
}

/// Bytes that a buffer for `bytes` has: rounded up to an eighth of a power of two, at least a cache line.
pub(super) fn class(bytes: u64) -> u64 {
    let bytes = bytes.max(64);
    let step = (bytes.next_power_of_two() / 16).max(64);
    bytes.div_ceil(step) * step
}

struct SpaceBudget {
    limit: u64,
    used: u64,
    cached: u64,
    free: BTreeMap<u64, Vec<BufferId>>,
}

#[derive(Clone, Copy)]
struct Buffer {
    space: SpaceId,
    bytes: u64,
}

#[derive(Default)]
pub(super) struct Budgets {
    pools: Vec<SpaceBudget>,
    buffers: Vec<Buffer>,
    free_ids: Vec<BufferId>,
}

impl Budgets {
    fn pool(&mut self, space: SpaceId) -> &mut SpaceBudget {
        while self.pools.len() <= space.index() {
            self.pools.push(SpaceBudget { limit: u64::MAX, used: 0, cached: 0, free: BTreeMap::new() });
        }
        &mut self.pools[space.index()]
    }

    pub(super) fn set_limit(&mut self, space: SpaceId, bytes: u64, actions: &mut Vec<Action>) {
        self.pool(space).limit = bytes;
        self.trim(space, actions);
    }

    pub(super) fn limit(&self, space: SpaceId) -> u64 {
        self.pools.get(space.index()).map_or(u64::MAX, |pool| pool.limit)
    }

    /// Bytes in use (buffers that hold values or kept copies, and reservations).
    pub(super) fn used(&self, space: SpaceId) -> u64 {
        self.pools.get(space.index()).map_or(0, |pool| pool.used)
    }

    /// Whether `bytes` more stay within the limit.
    pub(super) fn fits(&self, space: SpaceId, bytes: u64) -> bool {
        self.excess(space, bytes) == 0
    }

    /// By how much `bytes` more would exceed the limit.
    pub(super) fn excess(&self, space: SpaceId, bytes: u64) -> u64 {
        self.used(space).saturating_add(bytes).saturating_sub(self.limit(space))
    }

    /// Bytes that a buffer takes.
    pub(super) fn size(&self, buffer: BufferId) -> u64 {
        self.buffers[buffer.index()].bytes
    }

    /// Counts memory that is not in buffers: arrays, scratch, opaque values. Cached buffers make room for it.
    pub(super) fn reserve(&mut self, space: SpaceId, bytes: u64, actions: &mut Vec<Action>) {
        self.pool(space).used += bytes;
        self.trim(space, actions);
    }

    /// Takes back a [`Memory::reserve`].
    pub(super) fn unreserve(&mut self, space: SpaceId, bytes: u64) {
        self.pool(space).used -= bytes;
    }

    /// A buffer of at least `bytes`: a free one of the class, else a new one (then cached ones make room).
    pub(super) fn take(&mut self, space: SpaceId, bytes: u64, actions: &mut Vec<Action>) -> BufferId {
        let bytes = cost(space, bytes);
        let pool = self.pool(space);
        pool.used += bytes;
        if let Some(buffer) = pool.free.get_mut(&bytes).and_then(Vec::pop) {
            pool.cached -= bytes;
            return buffer;
        }
        self.trim(space, actions);
        let buffer = self.free_ids.pop().unwrap_or_else(|| {
            self.buffers.push(Buffer { space, bytes });
            BufferId::at(self.buffers.len() - 1)
        });
        self.buffers[buffer.index()] = Buffer { space, bytes };
        actions.push(Action::Allocate { buffer, space, bytes: bytes - entry(space) });
        buffer
    }

    /// Gives a buffer back to the free list.
    pub(super) fn give(&mut self, buffer: BufferId) {
        let Buffer { space, bytes } = self.buffers[buffer.index()];
        let pool = self.pool(space);
        pool.used -= bytes;
        pool.cached += bytes;
        pool.free.entry(bytes).or_default().push(buffer);
    }

    /// Releases cached buffers, largest first, until the limit holds.
    fn trim(&mut self, space: SpaceId, actions: &mut Vec<Action>) {
        while self.pools[space.index()].used + self.pools[space.index()].cached > self.pools[space.index()].limit {
            if !self.release_one(space, actions) {
                return;
            }
        }
    }

    /// Releases every cached buffer of a space.
    pub(super) fn release_cached(&mut self, space: SpaceId, actions: &mut Vec<Action>) {
        self.pool(space);
        while self.release_one(space, actions) {}
    }

    fn release_one(&mut self, space: SpaceId, actions: &mut Vec<Action>) -> bool {
        let pool = &mut self.pools[space.index()];
        let Some((&bytes, buffers)) = pool.free.iter_mut().next_back() else { return false };
        if let Some(buffer) = buffers.pop() {
            pool.cached -= bytes;
            self.free_ids.push(buffer);
            actions.push(Action::Release { buffer });
        }
        if self.pools[space.index()].free.get(&bytes).is_some_and(Vec::is_empty) {
            self.pools[space.index()].free.remove(&bytes);
        }
        true
    }

    /// Counts a buffer no longer, although a launch that was given up may still write it.
    pub(super) fn set_aside(&mut self, buffer: BufferId) {
        let Buffer { space, bytes } = self.buffers[buffer.index()];
        self.pool(space).used -= bytes;
    }

    /// Counts a buffer again that was set aside.
    pub(super) fn take_back(&mut self, buffer: BufferId) {
        let Buffer { space, bytes } = self.buffers[buffer.index()];
        self.pool(space).used += bytes;
    }

    /// Forgets a buffer that was set aside.
    pub(super) fn scrap(&mut self, buffer: BufferId, actions: &mut Vec<Action>) {
        self.free_ids.push(buffer);
        actions.push(Action::Release { buffer });
    }

    /// Forgets a buffer whose device is gone, or that an abandoned task may still write.
    pub(super) fn forget(&mut self, buffer: BufferId, actions: &mut Vec<Action>) {
        self.set_aside(buffer);
        self.scrap(buffer, actions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for bytes in (1..5000u64).chain([1 << 20, (1 << 20) + 1, 16_000_000]) {
            let class = class(bytes);
            assert!(class >= bytes && class <= (bytes + bytes / 8).max(bytes + 64), "{bytes} -> {class}");
        }
    }

    #[test]
    fn a_free_buffer_is_used_again_and_others_make_room() {
        let (mut memory, mut actions) = (Budgets::default(), Vec::new());
        memory.set_limit(SpaceId(0), 1000 + ENTRY, &mut actions);
        let a = memory.take(SpaceId(0), 512, &mut actions);
        memory.give(a);
        assert_eq!(memory.take(SpaceId(0), 512, &mut actions), a);
        memory.give(a);
        let b = memory.take(SpaceId(0), 960, &mut actions);
        assert!(actions.contains(&Action::Release { buffer: a }), "{actions:?}");
        assert_eq!(b, a, "ids are reused after release");
        assert!(!memory.fits(SpaceId(0), 64) && memory.fits(SpaceId(0), 40));
        assert!(actions.contains(&Action::Allocate { buffer: b, space: SpaceId(0), bytes: 960 }), "{actions:?}");
    }
}
