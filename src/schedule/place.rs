//! From ready to a device's queue, and from the queue to a free worker.
//!
//! Owns: finish-time prediction, queueing, stealing, admission. Must not know: bytes' addresses. Invariant: a task that is next in
//! sequential order is always admitted, so work never stops for want of memory.

use std::cmp::Reverse;

use super::job::State;
use super::{Action, Candidate, Item, Scheduler};
use crate::device::HOST;
use crate::id::{DeviceId, GraphId, TaskId};
use crate::kernel::Form;

/// Queue entries looked at when the first does not fit memory, or when stealing.
const LOOK: usize = 8;

impl Scheduler {
    /// Chooses a device for a task whose predecessors are done.
    pub(super) fn on_ready(&mut self, id: GraphId, task: TaskId, actions: &mut Vec<Action>) {
        let candidates: Vec<(Candidate, [u64; 2])> =
            (0..self.devices.len()).map(DeviceId::at).filter_map(|d| self.candidate(id, task, d)).collect();
        let job = self.jobs.get_mut(&id).expect("a ready task belongs to a job");
        job.state[task.index()] = State::Ready;
        if candidates.is_empty() {
            let stalled = Action::Stalled { graph: id, task, device: None, waited_ns: 0, predicted_ns: 0 };
            if !job.failed {
                actions.push(stalled);
            }
            job.failed = true;
            self.withdraw(id);
            return;
        }
        let plain: Vec<Candidate> = candidates.iter().map(|(c, _)| *c).collect();
        let choice = if plain.len() == 1 { 0 } else { self.policy.choose(&plain).min(plain.len() - 1) };
        self.enqueue(id, task, plain[choice], candidates[choice].1);
    }

    fn enqueue(&mut self, id: GraphId, task: TaskId, at: Candidate, planned: [u64; 2]) {
        let job = self.jobs.get_mut(&id).expect("a ready task belongs to a job");
        job.device[task.index()] = at.device;
        let device = &mut self.devices[at.device.index()];
        device.ready.insert((Reverse(job.priority[task.index()]), id, task));
        device.queued_ns = device.queued_ns.saturating_add(at.estimate_ns);
        if planned != [0, 0] {
            device.planned.insert((id, task), planned);
            device.links[0].planned_ns += planned[0];
            device.links[1].planned_ns += planned[1];
        }
    }

    /// Takes a task out of its device's queue.
    pub(super) fn dequeue(&mut self, id: GraphId, task: TaskId) {
        let job = &self.jobs[&id];
        let at = job.device[task.index()];
        let estimate = job.estimate(task, at).unwrap_or(0);
        let device = &mut self.devices[at.index()];
        if device.ready.remove(&(Reverse(job.priority[task.index()]), id, task)) {
            device.queued_ns = device.queued_ns.saturating_sub(estimate);
            if let Some([inward, outward]) = device.planned.remove(&(id, task)) {
                device.links[0].planned_ns -= inward;
                device.links[1].planned_ns -= outward;
            }
        }
    }

    /// What running the task on the device would take, if it can: the candidate, and its link time in and out.
    fn candidate(&self, id: GraphId, task: TaskId, at: DeviceId) -> Option<(Candidate, [u64; 2])> {
        let job = &self.jobs[&id];
        let device = &self.devices[at.index()];
        let estimate_ns = job.estimate(task, at).filter(|_| device.alive && device.room > 0)?;
        let space = device.spec.space;
        let (mut inward, mut backlog, mut out) = (0u64, 0u64, 0u64);
        let mut waits = device.start_in(self.now);
        if self.devices.iter().any(|d| d.spec.link.is_some()) {
            for value in job.graph.reads(task) {
                if job.of(value).any(|r| job.replica(r).space == space && job.replica(r).form == Form::Plain) {
                    continue;
                }
                let (link, direction) = match device.spec.link {
                    Some(link) => (Some((&device.links[0], link[0])), 0),
                    None => (self.link_back(id, value), 1),
                };
                if let Some((queue, spec)) = link {
                    inward += spec.transfer_ns(job.graph.bytes(value));
                    backlog = backlog.max(queue.backlog(self.now));
                    debug_assert!(direction < 2);
                }
            }
            if inward > 0 {
                waits = waits.max(backlog + inward);
            }
            if let Some(link) = device.spec.link {
                let finals = job.graph.outputs(task).iter().filter(|o| job.graph.is_final(o.value));
                out = finals.map(|o| link[1].transfer_ns(job.graph.bytes(o.value))).sum();
            }
        }
        let mut finish_ns = waits.saturating_add(estimate_ns);
        if out > 0 {
            finish_ns = finish_ns.max(device.links[1].backlog(self.now)) + out;
        }
        let candidate = Candidate { device: at, kind: device.spec.kind, estimate_ns, transfer_ns: inward + out, finish_ns };
        let planned = if device.spec.link.is_some() { [inward, out] } else { [0, 0] };
        Some((candidate, planned))
    }

    /// The link by which a value that is only elsewhere comes back to the host.
    fn link_back(&self, id: GraphId, value: crate::id::ValueId) -> Option<(&super::lane::Link, crate::device::LinkSpec)> {
        let job = &self.jobs[&id];
        let space = job.of(value).map(|r| job.replica(r).space).find(|&s| s != HOST)?;
        let device = self.devices.iter().find(|d| d.spec.space == space && d.spec.link.is_some())?;
        device.spec.link.map(|link| (&device.links[1], link[1]))
    }

    /// Gives work to every device that has room.
    pub(super) fn dispatch(&mut self, actions: &mut Vec<Action>) {
        for index in 0..self.devices.len() {
            self.pump(DeviceId::at(index), actions);
        }
    }

    fn pump(&mut self, at: DeviceId, actions: &mut Vec<Action>) {
        loop {
            while self.devices[at.index()].has_room() {
                let Some(item) = self.devices[at.index()].launchable.pop_front() else { break };
                self.launch(at, item, actions);
            }
            if !self.devices[at.index()].may_commit() {
                return;
            }
            let Some((id, task)) = self.pick(at).or_else(|| self.steal(at)) else { return };
            self.dequeue(id, task);
            self.commit(id, task, at, actions);
        }
    }

    /// The next task of the device's own queue that memory admits.
    fn pick(&mut self, at: DeviceId) -> Option<(GraphId, TaskId)> {
        let keys: [Option<super::lane::Key>; LOOK] = {
            let mut first = self.devices[at.index()].ready.iter().copied();
            std::array::from_fn(|_| first.next())
        };
        keys[0]?;
        for (_, id, task) in keys.iter().flatten().copied() {
            if self.admits(id, task, at) {
                return Some((id, task));
            }
        }
        let next = |job: &super::Job| TaskId::at(job.frontier.min(job.state.len().saturating_sub(1)));
        let frontiers: Vec<(GraphId, TaskId)> = self.jobs.iter().map(|(&id, job)| (id, next(job))).collect();
        frontiers.into_iter().find(|&(id, task)| {
            let job = &self.jobs[&id];
            let queued = !job.state.is_empty() && job.state[task.index()] == State::Ready && job.device[task.index()] == at;
            queued && self.admits(id, task, at)
        })
    }

    /// Whether a task may take its memory now.
    fn admits(&mut self, id: GraphId, task: TaskId, at: DeviceId) -> bool {
        let space = self.devices[at.index()].spec.space;
        let (host, there) = self.need(id, task, space);
        let job = &self.jobs[&id];
        let (extra, frontier) = (job.extra, job.frontier == task.index());
        let idle = self.launches.values().all(|f| f.abandoned);
        if space != HOST && !self.memory.fits(space, there) && !self.make_room(id, space, there) {
            return false;
        }
        if host == 0 {
            return true;
        }
        if frontier {
            // P is proved, so this fits; after a fault it may not, and then waits for what is running.
            return self.memory.fits(HOST, host) || idle;
        }
        let reserved: u64 = self.jobs.iter().filter(|(g, _)| !self.pending.contains(g)).map(|(_, j)| j.base + j.peak).sum();
        let all_extra: u64 = self.jobs.values().map(|j| j.extra).sum();
        debug_assert!(all_extra >= extra);
        let limit = self.memory.limit(HOST);
        all_extra.saturating_add(host).saturating_add(reserved) <= limit && self.memory.fits(HOST, host)
    }

    /// A task queued for another device that this idle one would finish before the other gets through its queue.
    fn steal(&mut self, at: DeviceId) -> Option<(GraphId, TaskId)> {
        if !self.policy.steals() || self.devices[at.index()].running > 0 && self.devices[at.index()].spec.link.is_some() {
            return None;
        }
        for victim in 0..self.devices.len() {
            if victim == at.index() || self.devices[victim].ready.is_empty() {
                continue;
            }
            let drain = self.devices[victim].drain(self.now);
            let from_back = self.devices[at.index()].spec.space == HOST;
            let ready = &self.devices[victim].ready;
            let keys: Vec<_> = if from_back {
                ready.iter().rev().take(LOOK).copied().collect()
            } else {
                ready.iter().take(LOOK).copied().collect()
            };
            for (_, id, task) in keys {
                let sooner = self.candidate(id, task, at).is_some_and(|(c, _)| c.finish_ns < drain);
                if sooner && self.admits(id, task, at) {
                    return Some((id, task));
                }
            }
        }
        None
    }

    /// Starts a launchable item on a device with room.
    fn launch(&mut self, at: DeviceId, item: Item, actions: &mut Vec<Action>) {
        match item {
            Item::Task(id, task) => self.launch_task(at, id, task, actions),
            Item::Pack(id, value, replica) => self.launch_pack(at, id, value, replica, actions),
        }
    }
}
