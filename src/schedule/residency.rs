//! From a written value to free memory: arrivals, last uses, what is kept and what is given back.
//!
//! Owns: the end of every replica. Must not know: why a value is wanted. Invariant: the bytes of a replica are given back
//! exactly once, and never while a launch, a move or a packing uses them.

use super::copies::{Arrival, Replica};
use super::event::{Location, Operands};
use super::job::Job;
use super::memory::{class, cost};
use super::{Action, Scheduler};
use crate::device::HOST;
use crate::id::{DeviceId, FormId, GraphId, SpaceId, TaskId, ValueId};
use crate::task::PLAIN;

impl Scheduler {
    /// An output is there: keep it, send it home, or drop it if nobody wants it.
    pub(super) fn written(
        &mut self,
        id: GraphId,
        value: ValueId,
        space: SpaceId,
        by: (DeviceId, TaskId),
        actions: &mut Vec<Action>,
    ) {
        let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
        if let Some(spare) = job.find_spare(value, space) {
            self.keep_or_drop_spare(id, value, spare);
        } else if let Some(at) = job.find(value, space, PLAIN) {
            job.replica_mut(at).arrival = Arrival::Ready;
            job.replica_mut(at).pins -= 1;
            if space != HOST {
                self.rests(id, value, at);
            }
        }
        let job = self.jobs.get_mut(&id).expect("still there");
        job.count_home(value);
        if job.graph.is_final(value) && space != HOST && !job.life.failed {
            self.want(id, value, HOST, PLAIN, by, actions);
        }
        self.arrived(id, value, actions);
        self.drop_if_unused(id, value);
    }

    /// A rerun task has written a value that this space had, or was to get by a move that may have failed meanwhile.
    fn keep_or_drop_spare(&mut self, id: GraphId, value: ValueId, spare: u32) {
        let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
        let space = job.replica(spare).space;
        let other = job.find(value, space, PLAIN);
        (job.replica_mut(spare).arrival, job.replica_mut(spare).pins) = (Arrival::Ready, 0);
        match other {
            None => {
                job.replica_mut(spare).set_spare(false);
                self.rests(id, value, spare);
            }
            Some(other) if job.replica(other).arrival == Arrival::Wanted => {
                let pins = job.replica(other).pins;
                job.replica_mut(spare).set_spare(false);
                job.replica_mut(spare).pins = pins;
                self.discard(id, value, other);
                self.rests(id, value, spare);
            }
            Some(_) => self.discard(id, value, spare),
        }
    }

    /// A task that needed the value has ended.
    pub(super) fn used_once(&mut self, id: GraphId, value: ValueId) {
        let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
        job.copies.used_once(value);
        self.drop_if_unused(id, value);
    }

    /// Frees the replicas of a value that nobody needs any more, except those in use, results and the caller's arrays.
    pub(super) fn drop_if_unused(&mut self, id: GraphId, value: ValueId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.uses(value) > 0 {
            return;
        }
        let keep_home = job.graph.is_final(value) || job.graph.producer(value).is_none();
        let ready_at_home = |at| job.replica(at).arrival == Arrival::Ready;
        if keep_home && !job.find(value, HOST, PLAIN).is_some_and(ready_at_home) {
            return;
        }
        let unused = |r: &Replica| r.pins == 0 && !(keep_home && r.space == HOST && r.form == PLAIN && !r.is_spare());
        while let Some(at) = { self.jobs[&id].of(value).find(|&at| unused(self.jobs[&id].replica(at))) } {
            self.discard(id, value, at);
        }
    }

    /// Removes a replica and gives its bytes back; those of a caller's chunk are kept for other graphs.
    pub(super) fn discard(&mut self, id: GraphId, value: ValueId, at: u32) {
        let job = self.jobs.get_mut(&id).expect("a replica belongs to a job");
        let (space, proved) = (job.replica(at).space, job.replica(at).is_proved());
        match job.remove(value, at) {
            Location::Buffer(buffer) if proved && self.keep_copy(id, value, space, buffer) => {}
            Location::Buffer(buffer) => self.memory.give(buffer),
            Location::Opaque => self.drop_opaque(id, value),
            Location::Home => {}
        }
    }

    /// A replica of an opaque value has been removed: its bytes are given back, and the value goes, unless another replica (a rerun
    /// task makes one) stands for it still.
    fn drop_opaque(&mut self, id: GraphId, value: ValueId) {
        let job = &self.jobs[&id];
        self.memory.unreserve(HOST, class(job.graph.bytes(value)));
        if !job.of(value).any(|at| job.replica(at).arrival == Arrival::Ready) {
            self.dropped.push((id, value));
        }
    }

    /// Removes a replica whose bytes somebody may still write or read: they are never handed out again.
    pub(super) fn lose(&mut self, id: GraphId, value: ValueId, at: u32, actions: &mut Vec<Action>) {
        let job = self.jobs.get_mut(&id).expect("a replica belongs to a job");
        match job.remove(value, at) {
            Location::Buffer(buffer) => self.memory.forget(buffer, actions),
            Location::Opaque => self.drop_opaque(id, value),
            Location::Home => job.poison(value, true),
        }
    }

    /// Unpins what a task used; `launched` says how, if it was launched.
    pub(super) fn unpin_operands(&mut self, id: GraphId, task: TaskId, at: DeviceId, launched: Option<&Operands>) {
        let graph = self.jobs[&id].graph.clone();
        let space = self.devices[at.index()].spec.space;
        let contiguous = self.devices[at.index()].spec.takes_contiguous();
        for (value, form) in graph.residents(task, contiguous).take(graph.inputs(task).len()) {
            self.unpin(id, value, space, form);
        }
        for (index, output) in graph.outputs(task).enumerate() {
            // A donated old value has ceased to be, with its pin; what has that name now was made again for others.
            let donated = launched.is_some_and(|operands| operands.outputs[index].1.is_none());
            if let Some(old) = output.updates.filter(|_| !donated) {
                self.unpin(id, old, space, PLAIN);
            }
        }
    }

    pub(super) fn unpin(&mut self, id: GraphId, value: ValueId, space: SpaceId, form: FormId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(at) = job.find(value, space, form) {
            job.replica_mut(at).pins -= 1;
            if space != HOST {
                self.rests(id, value, at);
            }
            self.drop_if_unused(id, value);
        }
    }

    /// Whether a plain copy of a caller's chunk is kept in this space.
    pub(super) fn kept(&self, job: &Job, value: ValueId, space: SpaceId) -> bool {
        job.chunk(value).is_some_and(|chunk| self.sources.has(chunk, space))
    }

    /// Whether a value needs no move to be in this space.
    pub(super) fn has(&self, job: &Job, value: ValueId, space: SpaceId) -> bool {
        job.is_in(value, space) || self.kept(job, value, space)
    }

    /// Takes a kept copy over as a replica of the value.
    pub(super) fn adopt(&mut self, id: GraphId, value: ValueId, space: SpaceId, by: (DeviceId, TaskId)) -> Option<u32> {
        let job = self.jobs.get_mut(&id).expect("a queued task belongs to a job");
        let copy = self.sources.take(job.chunk(value)?, space)?;
        let mut replica = Replica::new(space, PLAIN, Location::Buffer(copy.buffer), Arrival::Ready, by);
        replica.prove();
        Some(job.add(value, replica))
    }

    /// A task has read these values in a space: the copies of callers' chunks among them are right.
    pub(super) fn prove(&mut self, id: GraphId, task: TaskId, space: SpaceId) {
        let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
        if space == HOST || !job.has_chunks() {
            return;
        }
        for value in job.graph.clone().reads(task).filter(|&v| job.chunk(v).is_some()).collect::<Vec<_>>() {
            // A task that reads another form does not pin the plain one, which may have gone since, and be on its way again.
            if let Some(at) = job.find(value, space, PLAIN).filter(|&at| job.replica(at).arrival == Arrival::Ready) {
                job.replica_mut(at).prove();
            }
        }
    }

    /// Numbers the chunks of callers' arrays that a graph reads.
    pub(super) fn meet_sources(&mut self, id: GraphId) {
        let job = self.jobs.get_mut(&id).expect("just submitted");
        let graph = job.graph.clone();
        if graph.arrays().iter().all(|array| array.source == 0) {
            return;
        }
        for value in (0..graph.value_count()).map(ValueId::at).filter(|&v| graph.use_count(v) > 0) {
            if let Some(chunk) = self.sources.join(&graph, (id, value)) {
                job.copies.set_chunk(value, chunk);
            }
        }
    }

    /// A caller's array is gone: no copy of it is kept, nor will be.
    pub(super) fn source_gone(&mut self, source: u64) {
        for buffer in self.sources.gone(source) {
            self.memory.give(buffer);
        }
    }

    /// After the end of a graph: gives back everything but results, which the caller is to take. Says how many pooled bytes
    /// they hold (those that could not be written in their windows).
    pub(super) fn sweep(&mut self, id: GraphId, keep_results: bool, actions: &mut Vec<Action>) -> u64 {
        let mut kept = 0;
        let values = self.jobs[&id].graph.value_count();
        for value in (0..values).map(ValueId::at) {
            let job = &self.jobs[&id];
            let result = |r: &Replica| r.space == HOST && r.form == PLAIN && !r.is_spare() && job.graph.is_final(value);
            let old: Vec<u32> = job.of(value).filter(|&at| !(keep_results && result(job.replica(at)))).collect();
            for at in old {
                // Pinned now means: by a task that was given up, and may still read it.
                if self.jobs[&id].replica(at).pins > 0 {
                    self.lose(id, value, at, actions)
                } else {
                    self.discard(id, value, at)
                }
            }
            let job = &self.jobs[&id];
            let buffers = job.of(value).filter(|&at| matches!(job.replica(at).place, Location::Buffer(_)));
            kept += buffers.count() as u64 * cost(HOST, job.graph.bytes(value));
        }
        kept
    }
}
