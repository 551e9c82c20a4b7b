//! Scratch of a device's threads, kept from one task to the next.
//!
//! Owns: [`Scratches`]. Must not know: which task wants how much, which graphs are under way. Invariant: what lies here between two tasks is, for each
//! thread, no more than the largest scratch of the graphs under way, which is counted for each thread; a little is kept in any case.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ALIGN;

/// Scratch that a device's threads may keep while nothing runs, in all.
const KEPT_BYTES: u64 = 16 << 20;

/// One place for each thread, which is empty while the thread uses what was there.
pub(super) struct Scratches {
    places: Box<[Shelf]>,
    /// The most that a task of the graphs under way may take.
    most: AtomicU64,
}

/// A cache line for each: threads of short tasks come here twice for each.
#[derive(Default)]
#[repr(align(64))]
struct Shelf(Mutex<Vec<u64>>);

impl Scratches {
    pub(super) fn new(threads: usize) -> Self {
        Self { places: (0..threads).map(|_| Shelf::default()).collect(), most: AtomicU64::new(0) }
    }

    /// What a thread has kept, for a task that may want this much. Empty if the thread is inside another task.
    pub(super) fn take(&self, worker: u32, scratch_bytes: u64) -> Vec<u64> {
        if self.most.load(Ordering::Relaxed) < scratch_bytes {
            self.most.fetch_max(scratch_bytes, Ordering::Relaxed);
        }
        self.places.get(worker as usize).map(|place| std::mem::take(&mut *lock(place))).unwrap_or_default()
    }

    /// Keeps it for the thread's next task, if that may want so much.
    pub(super) fn keep(&self, worker: u32, scratch: Vec<u64>) {
        let Some(place) = self.places.get(worker as usize) else { return };
        let _dropped_unlocked = {
            let mut kept = lock(place);
            // Asked under the lock: `rest` lowers it first, and then looks here.
            if bytes(&scratch) <= self.allowed() { std::mem::replace(&mut *kept, scratch) } else { scratch }
        };
    }

    /// From now on no task wants more than this, until one does.
    pub(super) fn rest(&self, scratch_bytes: u64) {
        self.most.store(scratch_bytes, Ordering::Relaxed);
        for place in &self.places {
            let _dropped_unlocked = {
                let mut kept = lock(place);
                if bytes(&kept) > self.allowed() { std::mem::take(&mut *kept) } else { Vec::new() }
            };
        }
    }

    fn allowed(&self) -> u64 {
        let wanted = self.most.load(Ordering::Relaxed).saturating_add(ALIGN as u64 + 8);
        wanted.max(KEPT_BYTES / self.places.len() as u64)
    }

    /// What is kept now.
    pub(super) fn bytes(&self) -> u64 {
        self.places.iter().map(|place| bytes(&lock(place))).sum()
    }
}

fn lock(place: &Shelf) -> MutexGuard<'_, Vec<u64>> {
    place.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(scratch: &Vec<u64>) -> u64 {
    (scratch.capacity() * size_of::<u64>()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(all: &Scratches, worker: u32, scratch_bytes: u64) {
        let mut scratch = all.take(worker, scratch_bytes);
        scratch.resize((scratch_bytes as usize).div_ceil(8).max(scratch.len()), 0);
        all.keep(worker, scratch);
    }

    #[test]
    fn scratch_shrinks_to_what_is_under_way() {
        const MB: u64 = 1 << 20;
        let all = Scratches::new(2);
        task(&all, 0, 100 * MB);
        task(&all, 1, 100 * MB);
        assert_eq!(all.bytes(), 200 * MB);
        all.rest(20 * MB);
        assert_eq!(all.bytes(), 0, "of idle threads too");
        task(&all, 0, 20 * MB);
        assert_eq!(all.bytes(), 20 * MB, "kept for the next task");
        // A task that was under way when its graph ended.
        let late = all.take(0, 100 * MB);
        all.rest(20 * MB);
        all.keep(0, late);
        assert_eq!(all.bytes(), 20 * MB);
        let large = vec![0; 100 << 17];
        all.keep(1, large);
        all.rest(0);
        assert_eq!(all.bytes(), 0);
        task(&all, 0, MB);
        all.rest(0);
        assert_eq!(all.bytes(), MB, "a little is kept in any case");
    }

    #[test]
    fn a_task_inside_a_task_has_its_own() {
        let all = Scratches::new(1);
        let outer = all.take(0, 800);
        assert!(all.take(0, 8).is_empty());
        all.keep(0, vec![1]);
        all.keep(0, outer);
        assert_eq!(all.bytes(), 0, "the outer task's, which it has not used");
    }
}
