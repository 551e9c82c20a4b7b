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
