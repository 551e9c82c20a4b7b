//! Bind groups, kept for launches on the same buffers.
//!
//! Owns: [`BindGroups`]. Must not know: what is bound. Invariant: a group goes with the first of its buffers: none is kept alive by being bound.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

/// What tells buffers apart, also from those that were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BufferKey(u64);

impl BufferKey {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What a group binds: the numbers of inputs, outputs, scratch, fault words; and each operand's buffer, offset and bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) layout: [u32; 4],
    pub(super) bound: SmallVec<[(BufferKey, u64, u64); 5]>,
}

/// Groups that are kept; beyond them all go.
const KEPT: usize = 4096;
/// Groups that were seen once are remembered by their hash, in so many places.
const SEEN: usize = 1024;

/// The groups of one device that were asked for twice. Most are used once: of those nothing is kept but a hash.
pub(super) struct BindGroups(Mutex<KeptGroups>);

struct KeptGroups {
    seen: Vec<u64>,
    groups: HashMap<u64, (GroupKey, wgpu::BindGroup)>,
    /// Hashes of the groups that bind a buffer.
    users: HashMap<BufferKey, Vec<u64>>,
}

impl Default for BindGroups {
    fn default() -> Self {
        Self(Mutex::new(KeptGroups { seen: vec![0; SEEN], groups: HashMap::new(), users: HashMap::new() }))
    }
}

impl BindGroups {
    fn kept(&self) -> MutexGuard<'_, KeptGroups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group: kept, or made now.
    pub(super) fn of<E>(
        &self,
        key: &GroupKey,
        make: impl FnOnce() -> Result<wgpu::BindGroup, E>,
    ) -> Result<wgpu::BindGroup, E> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        if let Some((_, group)) = self.kept().groups.get(&hash).filter(|(found, _)| found == key) {
            return Ok(group.clone());
        }
        let group = make()?;
        let mut kept = self.kept();
        let place = hash as usize % SEEN;
        if std::mem::replace(&mut kept.seen[place], hash) != hash {
            return Ok(group);
        }
        if kept.groups.len() >= KEPT {
            kept.groups.clear();
            kept.users.clear();
        }
        if kept.groups.contains_key(&hash) {
            return Ok(group); // another one of the same hash
        }
        for (buffer, _, _) in &key.bound {
            kept.users.entry(*buffer).or_default().push(hash);
        }
        kept.groups.insert(hash, (key.clone(), group.clone()));
        Ok(group)
    }

    /// A buffer is about to be dropped.
    pub(super) fn forget(&self, buffer: BufferKey) {
        let mut kept = self.kept();
        let Some(hashes) = kept.users.remove(&buffer) else { return };
        for hash in hashes {
            let Some((key, _)) = kept.groups.remove(&hash) else { continue };
            for (other, _, _) in key.bound {
                if let Some(all) = kept.users.get_mut(&other) {
                    all.retain(|&of| of != hash);
                    if all.is_empty() {
                        kept.users.remove(&other);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::gpu::open::Opened;

    #[test]
    fn groups_are_kept_from_the_second_time_on_and_go_with_their_buffers() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let opened = Opened::new(&adapter).unwrap();
        let layout = opened.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &[] });
        let groups = BindGroups::default();
        let made = std::cell::Cell::new(0);
        let of = |key: &GroupKey| {
            let make = || {
                made.set(made.get() + 1);
                let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &[] };
                Ok::<_, ()>(opened.device.create_bind_group(&descriptor))
            };
            groups.of(key, make).unwrap()
        };
        let buffers: Vec<BufferKey> = (0..3).map(|_| BufferKey::new()).collect();
        let key = |of: &[usize]| GroupKey { layout: [1, 1, 0, 0], bound: of.iter().map(|&i| (buffers[i], 0, 16)).collect() };
        let (one, other) = (key(&[0, 1]), key(&[1, 2]));
        let sizes = || {
            let kept = groups.kept();
            (kept.groups.len(), kept.users.len())
        };
        let first = [of(&one), of(&one), of(&one)];
        assert_eq!(made.get(), 2, "the third time it is there");
        assert!(first[1] == first[2]);
        (0..3).for_each(|_| drop(of(&other)));
        assert_eq!((made.get(), sizes()), (4, (2, 3)));
        groups.forget(buffers[2]);
        assert_eq!(sizes(), (1, 2), "the other's buffers know of it no more");
        groups.forget(buffers[1]);
        assert_eq!(sizes(), (0, 0));
        for n in 0..2 * KEPT as u64 {
            let key = GroupKey { layout: [1, 1, 0, 0], bound: SmallVec::from_iter([(buffers[0], n, 16)]) };
            (0..2).for_each(|_| drop(of(&key)));
        }
        assert!(sizes().0 <= KEPT);
    }
}
