//! Room in the memory of devices: what lies there unused, what of it goes first, and what is sent home before it goes.
//!
//! Owns: the idle queues, eviction, writing back. Must not know: who needs the room, but for what must stay for it. Invariant:
//! nothing that is in use goes, and nothing that exists nowhere else.

use std::collections::VecDeque;

use super::Action;
use super::Scheduler;
use super::copies::Arrival;
use super::event::Location;
use super::job::Job;
use super::memory::cost;
use super::sources::Cached;
use crate::device::HOST;
use crate::id::{BufferId, DeviceId, GraphId, SpaceId, TaskId, ValueId};
use crate::task::PLAIN;

/// Idle bytes looked at, from the longest unused on, while something runs. If nothing does, all are.
const LOOK: usize = 64;

/// Bytes of a device space that nobody uses now.
#[derive(Clone, Copy)]
enum Idle {
    /// A replica of a value (slab index).
    Replica(GraphId, ValueId, u32),
    /// A kept copy of a caller's chunk.
    Copy(u32),
}

/// What lies unused in one space, longest unused first. Entries that are used again stay until they are come upon: an entry
/// holds if what it names still has its stamp.
#[derive(Default)]
pub(super) struct Unused {
    queue: VecDeque<(Idle, u64)>,
    /// From this length on, the entries that no longer hold are thrown out.
    crowded: usize,
    /// In this step, this many bytes could not be had.
    refused: Option<(u64, u64)>,
}

/// What makes one piece of room, and the order in which that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    /// Nobody will read it.
    Dead,
    /// It exists elsewhere too, and no queued task reads it.
    Clean,
    /// It exists nowhere else, and no queued task reads it.
    Dirty,
    /// A queued task reads it, but it exists elsewhere.
    CleanQueued,
    /// A queued task reads it, and it exists nowhere else.
    DirtyQueued,
}

impl Grade {
    fn is_dirty(self) -> bool {
        matches!(self, Self::Dirty | Self::DirtyQueued)
    }
}

/// The first of them that together have this many bytes; `None` if all have not.
fn enough(found: &[(Grade, Idle, u64)], bytes: u64) -> Option<&[(Grade, Idle, u64)]> {
    let mut sum = 0;
    let count = found
        .iter()
        .take_while(|f| {
            sum < bytes && {
                sum += f.2;
                true
            }
        })
        .count();
    (sum >= bytes).then(|| &found[..count])
}

impl Scheduler {
    /// A user of a replica is through with it.
    pub(super) fn release(&mut self, id: GraphId, value: ValueId, at: u32) {
        let replica = self.jobs.get_mut(&id).expect("a replica belongs to a job").replica_mut(at);
        replica.pins -= 1;
        if replica.space != HOST {
            self.rests(id, value, at);
        }
    }

    /// If nobody uses a replica in a device's space, it may be evicted from now on.
    pub(super) fn rests(&mut self, id: GraphId, value: ValueId, at: u32) {
        let replica = self.jobs.get_mut(&id).expect("a replica belongs to a job").replica_mut(at);
        if replica.space == HOST || replica.pins > 0 || replica.arrival != Arrival::Ready || replica.is_spare() {
            return;
        }
        self.next_stamp += 1;
        replica.stamp = self.next_stamp;
        let space = replica.space;
        self.lay_down(space, Idle::Replica(id, value, at));
    }

    /// A graph gives a copy of a caller's chunk back: it is kept for the next, if it is proved right and the array lives.
    pub(super) fn keep_copy(&mut self, id: GraphId, value: ValueId, space: SpaceId, buffer: BufferId) -> bool {
        let Some(chunk) = self.jobs[&id].chunk(value) else { return false };
        let bytes = self.memory.size(buffer);
        self.next_stamp += 1;
        let kept = self.sources.keep(chunk, Cached { space, buffer, bytes, stamp: self.next_stamp });
        if kept {
            self.lay_down(space, Idle::Copy(chunk));
        }
        kept
    }

    /// Puts what has just got the newest stamp at the end of its space's queue.
    fn lay_down(&mut self, space: SpaceId, what: Idle) {
        if self.rest.len() <= space.index() {
            self.rest.resize_with(space.index() + 1, Unused::default);
        }
        self.rest[space.index()].queue.push_back((what, self.next_stamp));
        if self.rest[space.index()].queue.len() > self.rest[space.index()].crowded {
            let mut queue = std::mem::take(&mut self.rest[space.index()].queue);
            queue.retain(|entry| self.holds(space, entry));
            self.rest[space.index()].crowded = 2 * queue.len() + LOOK;
            self.rest[space.index()].queue = queue;
        }
    }

    /// Whether an entry still names something that lies unused.
    fn holds(&self, space: SpaceId, &(what, stamp): &(Idle, u64)) -> bool {
        match what {
            Idle::Replica(id, _, at) => self.jobs.get(&id).is_some_and(|job| {
                let replica = job.replica(at);
                replica.stamp == stamp && replica.pins == 0
            }),
            Idle::Copy(chunk) => self.sources.find(chunk, space, stamp).is_some(),
        }
    }

    /// Makes `bytes` fit in a device's space, by evicting what lies unused there, of whatever graph; what `keep` reads
    /// stays. If that takes values that exist nowhere else, they are sent home now, and the answer is no until they have
    /// gone.
    pub(super) fn make_room(
        &mut self,
        space: SpaceId,
        bytes: u64,
        keep: Option<(GraphId, TaskId)>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let over = self.memory.excess(space, bytes);
        if over == 0 {
            return true;
        }
        let Some(rest) = self.rest.get(space.index()) else { return false };
        if rest.refused.is_some_and(|(step, refused)| step == self.steps && bytes >= refused) {
            return false;
        }
        let most = if self.is_at_rest() { usize::MAX } else { LOOK };
        let found = self.look_at(space, keep, most);
        if let Some(chosen) = enough(&found, over).filter(|chosen| !chosen.iter().any(|f| f.0.is_dirty())) {
            chosen.iter().for_each(|f| self.evict(space, f.1));
            return true;
        }
        self.rest[space.index()].refused = Some((self.steps, bytes));
        let going: u64 = self.devices.iter().filter(|d| d.spec.space == space).map(|d| d.links[1].evicted).sum();
        let chosen = enough(&found, over.saturating_sub(going)).unwrap_or_default();
        chosen.iter().filter(|f| f.0.is_dirty()).for_each(|f| self.write_back(f.1, actions));
        false
    }

    /// A space's limit was lowered: evicts all it can until the limit holds, and sends home what exists nowhere else.
    pub(super) fn shrink(&mut self, space: SpaceId, actions: &mut Vec<Action>) {
        if self.rest.len() <= space.index() {
            return;
        }
        let (look, mut going) = (self.look_at(space, None, usize::MAX), 0);
        for (grade, what, bytes) in look {
            let over = self.memory.excess(space, 0);
            if over <= going {
                return;
            }
            if grade.is_dirty() {
                going += bytes;
                self.write_back(what, actions);
            } else {
                self.evict(space, what);
            }
        }
    }

    /// The `most` longest unused entries that may go, best first, with their bytes. What may not go now is looked at last next
    /// time.
    fn look_at(&mut self, space: SpaceId, keep: Option<(GraphId, TaskId)>, most: usize) -> Vec<(Grade, Idle, u64)> {
        let mut queue = std::mem::take(&mut self.rest[space.index()].queue);
        let (mut held, mut back, mut found) = (Vec::new(), Vec::new(), Vec::new());
        while held.len() + back.len() < most
            && let Some(entry) = queue.pop_front()
        {
            if !self.holds(space, &entry) {
                continue;
            }
            match self.grade(entry.0, keep) {
                Some(grade) => {
                    found.push((grade, entry.0, self.bytes_of(space, entry)));
                    held.push(entry);
                }
                None => back.push(entry),
            }
        }
        held.into_iter().rev().for_each(|entry| queue.push_front(entry));
        queue.extend(back);
        self.rest[space.index()].queue = queue;
        found.sort_by_key(|f| f.0); // stable: the longest unused first within a grade
        found
    }

    fn bytes_of(&self, space: SpaceId, (what, stamp): (Idle, u64)) -> u64 {
        match what {
            Idle::Replica(id, _, at) => match self.jobs[&id].replica(at).place {
                Location::Buffer(buffer) => self.memory.size(buffer),
                Location::Home | Location::Opaque => 0,
            },
            Idle::Copy(chunk) => self.sources.find(chunk, space, stamp).map_or(0, |copy| copy.bytes),
        }
    }

    /// How dear something is; `None` if it has to stay.
    fn grade(&self, what: Idle, keep: Option<(GraphId, TaskId)>) -> Option<Grade> {
        let reads = |value: ValueId, (id, task): (GraphId, TaskId)| self.jobs[&id].graph.reads(task).any(|v| v == value);
        match what {
            Idle::Copy(chunk) => {
                let users = || self.sources.users(chunk);
                if users().any(|(id, value)| keep.is_some_and(|k| k.0 == id && reads(value, k))) {
                    return None;
                }
                let used = |of: fn(&Job, ValueId) -> u32| users().any(|(id, value)| of(&self.jobs[&id], value) > 0);
                Some(match (used(Job::uses), used(Job::queued)) {
                    (false, _) => Grade::Dead,
                    (true, false) => Grade::Clean,
                    (true, true) => Grade::CleanQueued,
                })
            }
            Idle::Replica(id, value, at) => {
                let job = &self.jobs[&id];
                if keep.is_some_and(|k| k.0 == id && reads(value, k)) {
                    return None;
                }
                if job.life.failed {
                    return Some(Grade::Dead);
                }
                let other = |&r: &u32| {
                    let r = job.replica(r);
                    r.form == PLAIN && r.arrival == Arrival::Ready && !r.is_spare()
                };
                let clean = job.of(value).filter(|&r| r != at).any(|r| other(&r));
                match (clean, job.queued(value) > 0) {
                    (true, _) if job.uses(value) == 0 => Some(Grade::Dead),
                    (true, false) => Some(Grade::Clean),
                    (true, true) => Some(Grade::CleanQueued),
                    (false, _) if !self.may_write_back(id, value) => None,
                    (false, false) => Some(Grade::Dirty),
                    (false, true) => Some(Grade::DirtyQueued),
                }
            }
        }
    }

    fn evict(&mut self, space: SpaceId, what: Idle) {
        match what {
            Idle::Replica(id, value, at) => {
                let job = self.jobs.get_mut(&id).expect("just graded");
                if let Location::Buffer(buffer) = job.remove(value, at) {
                    self.memory.give(buffer);
                }
            }
            Idle::Copy(chunk) => {
                if let Some(copy) = self.sources.take(chunk, space) {
                    self.memory.give(copy.buffer);
                }
            }
        }
    }

    /// Whether a value that is only in a device's space may come home: to its window, or to host memory that is promised for it
    /// anyway (its producer is behind the frontier), or to what is shared by tasks out of order.
    fn may_write_back(&self, id: GraphId, value: ValueId) -> bool {
        let job = &self.jobs[&id];
        if job.graph.window_id(value).is_some() {
            return job.has_free_window(value);
        }
        let Some(producer) = job.graph.producer(value) else { return false };
        let bytes = cost(HOST, job.graph.bytes(value));
        self.memory.fits(HOST, bytes) && (producer.index() < job.tasks.frontier || self.shares(bytes))
    }

    /// Sends a value home that is to be evicted when it is there.
    fn write_back(&mut self, what: Idle, actions: &mut Vec<Action>) {
        let Idle::Replica(id, value, at) = what else { return };
        if !self.may_write_back(id, value) {
            return;
        }
        let job = self.jobs.get_mut(&id).expect("just looked up");
        let Some(producer) = job.graph.producer(value) else { return };
        if job.graph.window_id(value).is_none() && producer.index() >= job.tasks.frontier {
            let bytes = cost(HOST, job.graph.bytes(value));
            job.tasks.charges.add(producer, bytes);
            self.admission.extra += bytes;
        }
        job.replica_mut(at).set_leaving(true);
        let by: (DeviceId, TaskId) = (job.tasks.device(producer), producer);
        self.want(id, value, HOST, PLAIN, by, actions);
    }

    /// A replica has been copied home: if it was to be evicted then, and nobody has begun to use it, it goes.
    pub(super) fn left(&mut self, id: GraphId, value: ValueId, at: u32, arrived: bool) {
        let job = self.jobs.get_mut(&id).expect("a move belongs to a job");
        if !arrived || !job.replica(at).is_leaving() {
            return;
        }
        job.replica_mut(at).set_leaving(false);
        if job.replica(at).pins > 0 {
            return;
        }
        if let Location::Buffer(buffer) = job.remove(value, at) {
            self.memory.give(buffer);
        }
    }
}
