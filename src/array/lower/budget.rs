//! What a plan is seen to need while it is made.
//!
//! Owns: [`Budget`]. Must not know: any primitive. Invariant: nothing is allocated that was not counted before; what is counted is never more than what the
//! finished plan needs.

use super::super::fit::bookkeeping;
use crate::error::{Error, Remedy, Result};
use crate::schedule::{LEAST_CHUNK_BYTES, LEAST_TASK_BYTES};
use crate::shape::DType;

/// Most tasks of one graph: beyond, planning itself would take minutes and gigabytes.
const MOST_TASKS: usize = 50_000_000;

/// Tasks and bytes, expected and made.
pub(super) struct Budget {
    limit: u64,
    most_tasks: usize,
    /// Tasks that are known to come, made or not.
    expected: usize,
    /// Tasks that were made.
    made: usize,
    array_bytes: u64,
    /// Tasks that only write a file, made or not.
    writes: usize,
    /// Of tables for chunks of callers' arrays.
    small_bytes: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self::of_tasks(limit, MOST_TASKS)
    }

    /// One for fewer tasks.
    pub(super) fn of_tasks(limit: u64, most_tasks: usize) -> Self {
        Self { limit, most_tasks, expected: 0, made: 0, array_bytes: 0, writes: 0, small_bytes: 0 }
    }

    /// The memory limit.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Errs if there is no room for so many more tasks.
    pub(super) fn has_room(&self, count: usize) -> Result<()> {
        Self { expected: self.expected.saturating_add(count), ..*self }.check()
    }

    /// Counts tasks that are sure to be made.
    pub(super) fn expect_tasks(&mut self, count: usize) -> Result<()> {
        self.expected = self.expected.saturating_add(count);
        self.check()
    }

    /// Tasks that were made.
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// Counts a task that is made now.
    pub(super) fn count_task(&mut self) -> Result<()> {
        self.made += 1;
        if self.made > self.expected { self.check() } else { Ok(()) }
    }

    /// Counts tasks that only write a file and are sure to be made.
    pub(super) fn expect_writes(&mut self, count: usize) -> Result<()> {
        self.writes = self.writes.saturating_add(count);
        self.check()
    }

    /// Counts a chunk of a caller's array.
    pub(super) fn count_small(&mut self) -> Result<()> {
        self.small_bytes += LEAST_CHUNK_BYTES;
        if self.small_bytes > self.limit { self.check() } else { Ok(()) }
    }

    fn check(&self) -> Result<()> {
        let tasks = self.expected.max(self.made).saturating_add(self.writes);
        if tasks > self.most_tasks {
            let most = self.most_tasks;
            let wanted = format!(
                "choose larger chunks, for example .chunks(..) where the array is made; at most {most} tasks in one graph can be planned"
            );
            return Err(Error::argument("number of tasks", tasks, wanted));
        }
        if self.requested() > self.limit { Err(self.too_much(bookkeeping(tasks) + " or more")) } else { Ok(()) }
    }

    /// Counts an array before it is made.
    pub(super) fn expect_array(&mut self, dtype: DType, len: usize) -> Result<()> {
        self.array_bytes = self.array_bytes.saturating_add(len as u64 * dtype.bytes() as u64);
        if self.array_bytes > self.limit { Err(self.too_much(String::new())) } else { Ok(()) }
    }

    fn requested(&self) -> u64 {
        let tasks = (self.expected.max(self.made) as u64).saturating_mul(LEAST_TASK_BYTES);
        let writes = (self.writes as u64).saturating_mul(LEAST_CHUNK_BYTES);
        [tasks, writes, self.small_bytes].into_iter().fold(self.array_bytes, u64::saturating_add)
    }

    /// What is known so far of a plan that does not fit; without a name for what needs it, it is the arrays alone.
    fn too_much(&self, what: String) -> Error {
        let (requested_bytes, available_bytes) = (self.requested(), self.limit);
        let remedies = vec![Remedy::Other("a higher memory limit".into())];
        Error::OutOfMemory { what, requested_bytes, available_bytes, space: "host".into(), remedies }
    }
}
