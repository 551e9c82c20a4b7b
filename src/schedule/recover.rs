//! When something goes wrong: failed, lost and stalled launches, lost devices.
//!
//! Owns: lineage. A value that is lost is remade by running its producer again, back to the caller's arrays and sources, which
//! are never given away. Must not know: why a device failed. Invariant: memory that an abandoned task may still write is never
//! handed out again.

use super::copies::{Arrival, Replica};
use super::event::{Location, Operands};
use super::progress::TaskState;
use super::{Action, Queued, Scheduler, admission};
use crate::device::HOST;
use crate::id::{DeviceId, GraphId, LaunchId, SpaceId, TaskId, ValueId};
use crate::task::PLAIN;

impl Scheduler {
    /// A launch failed because of its data: nothing more of the graph is started.
    pub(super) fn launch_failed(&mut self, launch: LaunchId, actions: &mut Vec<Action>) {
        let Some(flight) = self.end_flight(launch, false, actions) else { return };
        self.stop(flight.graph, actions);
    }

    pub(super) fn stop(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.life.failed = true;
        }
        self.withdraw(id);
        self.finish_if_over(id, actions);
    }

    /// Takes a graph's tasks out of all queues; what runs goes on.
    pub(super) fn withdraw(&mut self, id: GraphId) {
        let queued = admission::queued(&self.jobs[&id]);
        for task in queued {
            self.dequeue(id, task);
            self.jobs.get_mut(&id).expect("checked by the caller").tasks.set_state(task, TaskState::Waiting);
        }
        for at in (0..self.devices.len()).map(DeviceId::at) {
            self.withdraw_staged(at, id);
            let mut gone = 0;
            for link in &mut self.devices[at.index()].links {
                let (mine, others): (Vec<_>, Vec<_>) = link.queue.drain(..).partition(|c| c.graph == id);
                link.queue.extend(others);
                link.queued_ns -= mine.iter().map(|c| c.ns).sum::<u64>();
                link.evicted -= mine.iter().map(|c| c.evicts).sum::<u64>();
                gone += mine.len();
            }
            for _ in 0..gone {
                self.landed(id);
            }
        }
    }

    fn withdraw_staged(&mut self, at: DeviceId, id: GraphId) {
        let job = &self.jobs[&id];
        let device = &mut self.devices[at.index()];
        let mut committed_ns = 0;
        let mut count = |task: TaskId| committed_ns += job.estimate(task, at).unwrap_or(0);
        device.staged.retain(|&(g, task)| {
            g != id || {
                count(task);
                false
            }
        });
        device.launchable.retain(|item| match *item {
            Queued::Task(g, task) => {
                g != id || {
                    count(task);
                    false
                }
            }
            Queued::Pack(g, ..) => g != id,
        });
        device.committed_ns -= committed_ns;
    }

    /// A launch failed because of its device: its task runs again.
    pub(super) fn launch_lost(&mut self, launch: LaunchId, actions: &mut Vec<Action>) {
        let Some(flight) = self.end_flight(launch, false, actions) else { return };
        let id = flight.graph;
        match flight.item {
            Queued::Pack(_, value, at) => self.repack(id, value, at, actions),
            Queued::Task(_, task) => {
                self.uncommit(id, task, flight.device, Some(&flight.operands));
                self.revive(id, task, actions);
            }
        }
        self.finish_if_over(id, actions);
    }

    /// A packing did not happen: it is wanted still, unless the tasks for which it was have gone elsewhere.
    fn repack(&mut self, id: GraphId, value: ValueId, at: u32, actions: &mut Vec<Action>) {
        self.unpack(id, value, at);
        let job = &self.jobs[&id];
        if !job.of(value).any(|copy| copy == at) {
            return; // it was the last use of the value
        }
        if job.replica(at).pins == 0 {
            self.discard(id, value, at);
            self.drop_if_unused(id, value);
            return;
        }
        self.arrived(id, value, actions);
    }

    /// Takes back what the start of a packing did.
    fn unpack(&mut self, id: GraphId, value: ValueId, at: u32) {
        let job = self.jobs.get_mut(&id).expect("a packing belongs to a job");
        job.replica_mut(at).pins -= 1;
        job.replica_mut(at).arrival = Arrival::Wanted;
        let space = job.replica(at).space;
        self.unpin(id, value, space, PLAIN);
    }

    /// Takes back what a commit did: pins and output places.
    fn uncommit(&mut self, id: GraphId, task: TaskId, at: DeviceId, launched: Option<&Operands>) {
        let (space, before) = (self.devices[at.index()].spec.space, self.memory.used(HOST));
        self.unpin_operands(id, task, at, launched);
        let job = self.jobs.get_mut(&id).expect("a committed task belongs to a job");
        job.tasks.set_state(task, TaskState::Waiting);
        job.life.disturbed = true;
        let job = &self.jobs[&id];
        for output in job.graph.clone().outputs(task) {
            if let Some(at) = self.own_output(id, output.value, space) {
                self.discard(id, output.value, at);
            }
            let job = &self.jobs[&id];
            let way_home = job.find(output.value, HOST, PLAIN).filter(|&at| job.replica(at).arrival == Arrival::Wanted);
            if let Some(at) = way_home.filter(|_| space != HOST && !job.exists(output.value)) {
                self.discard(id, output.value, at);
            }
        }
        // What stays (packed inputs) stays charged, as if the task had it still: it is not made again.
        let freed = before.saturating_sub(self.memory.used(HOST));
        let job = self.jobs.get_mut(&id).expect("still there");
        self.admission.extra -= job.tasks.charges.take_back(task, freed);
    }

    /// Takes a commit back that was to be launched now; the task is placed anew.
    pub(super) fn recommit(&mut self, id: GraphId, task: TaskId, at: DeviceId, actions: &mut Vec<Action>) {
        self.devices[at.index()].committed_ns -= self.jobs[&id].estimate(task, at).unwrap_or(0);
        self.uncommit(id, task, at, None);
        self.revive(id, task, actions);
    }

    /// The replica that a committed task writes, if it has one yet (a donated one comes with the launch).
    pub(super) fn own_output(&self, id: GraphId, value: ValueId, space: SpaceId) -> Option<u32> {
        let job = &self.jobs[&id];
        job.find_spare(value, space).or_else(|| job.find(value, space, PLAIN))
    }

    /// Makes a waiting task able to run: remakes the inputs that are gone. It becomes ready when all are there.
    pub(super) fn revive(&mut self, id: GraphId, task: TaskId, actions: &mut Vec<Action>) {
        let mut stack = vec![task];
        let mut touched = vec![task];
        while let Some(task) = stack.pop() {
            let job = self.jobs.get_mut(&id).expect("a task belongs to a job");
            for value in job.graph.clone().reads(task) {
                let gone = !job.exists(value);
                let Some(producer) = job.graph.producer(value).filter(|&p| gone && job.tasks.state(p) == TaskState::Done)
                else {
                    continue;
                };
                job.undo(producer);
                stack.push(producer);
                touched.push(producer);
            }
        }
        for task in touched.into_iter().rev() {
            let job = &self.jobs[&id];
            if job.tasks.state(task) == TaskState::Waiting && job.may_run(task) {
                self.on_ready(id, task, actions);
            }
        }
    }

    /// A device cannot run these tasks: those that wait for it are placed anew. What flies there reports that it is lost.
    pub(super) fn unfit(&mut self, id: GraphId, at: DeviceId, tasks: &[TaskId], actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.forbid(at, tasks);
        // All of them: `settle` gives up what they wait for.
        (0..self.devices.len()).map(DeviceId::at).for_each(|at| self.unstage(at));
        self.settle(actions);
    }

    /// A device is gone.
    pub(super) fn device_lost(&mut self, at: DeviceId, actions: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.devices[at.index()].alive, false) {
            return;
        }
        let on_it = self.launches.iter().filter(|(_, f)| f.device == at && f.abandoned.is_none());
        let lost: Vec<LaunchId> = on_it.map(|(&launch, _)| launch).collect();
        self.give_up(&lost, false, actions);
        self.drop_crossings(at, actions);
        let space = self.devices[at.index()].spec.space;
        if space != HOST && !self.devices.iter().any(|d| d.alive && d.spec.space == space) {
            self.drop_space(space, actions);
        }
        self.settle(actions);
    }

    /// The limit of a device's space has changed: a lower one is kept as soon as can be, and tasks that no longer fit there go
    /// elsewhere.
    pub(super) fn limit_changed(&mut self, space: SpaceId, actions: &mut Vec<Action>) {
        let (limit, devices) = (self.memory.limit(space), &self.devices);
        let on_it = || devices.iter().filter(|d| d.spec.space == space);
        self.jobs.values_mut().for_each(|job| on_it().for_each(|d| job.measure(&d.spec)));
        let too_small = self.jobs.values().any(|job| on_it().any(|d| !job.all_fit(&d.spec, limit)));
        self.shrink(space, actions);
        if too_small || !self.memory.fits(space, 0) {
            for at in (0..self.devices.len()).map(DeviceId::at) {
                self.unstage(at);
            }
            self.settle(actions);
            self.shrink(space, actions);
        }
    }

    /// Takes back the commits of a device that have not been launched.
    pub(super) fn unstage(&mut self, at: DeviceId) {
        let device = &mut self.devices[at.index()];
        let mut tasks = std::mem::take(&mut device.staged);
        let items = std::mem::take(&mut device.launchable);
        device.committed_ns = 0;
        for item in items {
            match item {
                Queued::Task(id, task) => tasks.push((id, task)),
                Queued::Pack(id, value, to) => self.unpack(id, value, to),
            }
        }
        for (id, task) in tasks {
            self.uncommit(id, task, at, None);
        }
    }

    /// The link of a lost device moves nothing more; the moves under way may still read and write their places.
    fn drop_crossings(&mut self, at: DeviceId, actions: &mut Vec<Action>) {
        for direction in 0..2 {
            let link = &mut self.devices[at.index()].links[direction];
            let (queue, current) = (std::mem::take(&mut link.queue), std::mem::take(&mut link.current));
            (link.queued_ns, link.evicted) = (0, 0);
            for c in queue {
                self.landed(c.graph);
                self.release(c.graph, c.value, c.from);
                self.discard(c.graph, c.value, c.to);
            }
            for (copy, c) in current {
                self.landed(c.graph);
                let serial = self.jobs[&c.graph].replica(c.from).serial;
                self.strays.insert(copy, (c.graph, [(c.value, c.from, serial)]));
                self.lose(c.graph, c.value, c.to, actions);
            }
        }
    }

    /// Every replica in a lost space is gone.
    fn drop_space(&mut self, space: SpaceId, actions: &mut Vec<Action>) {
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            for value in (0..self.jobs[&id].graph.value_count()).map(ValueId::at) {
                let job = &self.jobs[&id];
                let gone: Vec<u32> = job.of(value).filter(|&r| job.replica(r).space == space).collect();
                for at in gone {
                    self.lose(id, value, at, actions);
                }
            }
        }
        for buffer in self.sources.drop_space(space) {
            self.memory.forget(buffer, actions);
        }
        self.memory.release_cached(space, actions);
    }

    /// After a loss: what was wanted is wanted no more, tasks whose inputs or devices are gone wait again, lost values that are
    /// needed are remade.
    pub(super) fn settle(&mut self, actions: &mut Vec<Action>) {
        for id in self.admission.active.iter().copied().collect::<Vec<_>>() {
            if !self.runs(id) {
                continue;
            }
            if !self.jobs[&id].life.failed {
                self.settle_values(id);
                self.settle_tasks(id, actions);
            }
            self.finish_if_over(id, actions);
        }
    }

    fn settle_values(&mut self, id: GraphId) {
        let graph = self.jobs[&id].graph.clone();
        self.jobs.get_mut(&id).expect("just listed").life.disturbed = true;
        for value in (0..graph.value_count()).map(ValueId::at) {
            let job = &self.jobs[&id];
            let wanted: Vec<u32> = job.of(value).filter(|&at| job.replica(at).arrival == Arrival::Wanted).collect();
            for at in wanted {
                self.discard(id, value, at);
            }
            let job = self.jobs.get_mut(&id).expect("just listed");
            let producer = graph.producer(value).filter(|&p| job.tasks.state(p) == TaskState::Done);
            if let Some(producer) = producer.filter(|_| graph.is_final(value) && !job.exists(value)) {
                job.undo(producer);
            }
        }
    }

    /// Whether a queued task has nowhere better to wait than the stuck device whose queue it is in.
    fn stays(&self, id: GraphId, task: TaskId) -> bool {
        let job = &self.jobs[&id];
        let elsewhere =
            (0..self.devices.len()).map(DeviceId::at).any(|at| job.estimate(task, at).is_some() && self.serves(job, task, at));
        !elsewhere && self.last_resort(id, task).is_some_and(|(at, _)| at == job.tasks.device(task))
    }

    fn settle_tasks(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        for task in self.jobs[&id].graph.tasks() {
            let job = &self.jobs[&id];
            let placed = || job.may_run(task) && (self.serves(job, task, job.tasks.device(task)) || self.stays(id, task));
            if job.tasks.state(task) == TaskState::Ready && !placed() {
                self.dequeue(id, task);
                self.jobs.get_mut(&id).expect("just listed").tasks.set_state(task, TaskState::Waiting);
            }
            if self.jobs[&id].tasks.state(task) == TaskState::Waiting {
                self.revive(id, task, actions);
            }
        }
        for value in (0..self.jobs[&id].graph.value_count()).map(ValueId::at) {
            let job = &self.jobs[&id];
            let away = |at| job.replica(at).space != HOST && job.replica(at).arrival == Arrival::Ready;
            let homeless = !job.life.failed && job.graph.is_final(value) && !job.is_in(value, HOST) && job.of(value).any(away);
            if homeless {
                let task = job.graph.producer(value).expect("a final value has a producer");
                self.want(id, value, HOST, PLAIN, (job.tasks.device(task), task), actions);
            }
        }
    }

    /// After a fault, values may have been made again that are needed later only, and the next tasks do not fit. Drops what was made ahead
    /// of its graph's turn and lies in pooled host memory: it is made once more when it is needed. Until the graph has passed this point, its
    /// tasks go in order. Whether there was any.
    pub(super) fn sacrifice(&mut self, actions: &mut Vec<Action>) -> bool {
        let mut any = false;
        for id in self.admission.active.iter().copied().collect::<Vec<_>>() {
            let job = self.jobs.get_mut(&id).expect("an active graph is there");
            let frontier = job.tasks.frontier;
            if job.life.failed || !job.life.disturbed || job.tasks.strictly > frontier {
                continue;
            }
            job.tasks.strictly = frontier + 1;
            for value in (0..job.graph.value_count()).map(ValueId::at) {
                let job = &self.jobs[&id];
                let ahead = |task: TaskId| task.index() > frontier && job.tasks.state(task) == TaskState::Done;
                if !job.graph.producer(value).is_some_and(ahead) {
                    continue;
                }
                let idle =
                    |r: &Replica| r.space == HOST && r.pins == 0 && r.arrival == Arrival::Ready && r.place != Location::Home;
                let gone: Vec<u32> = job.of(value).filter(|&at| idle(job.replica(at))).collect();
                any |= !gone.is_empty();
                gone.into_iter().for_each(|at| self.discard(id, value, at));
                self.jobs.get_mut(&id).expect("just listed").count_home(value);
            }
        }
        if any {
            (0..self.devices.len()).map(DeviceId::at).for_each(|at| self.unstage(at));
            self.settle(actions);
        }
        any
    }
}
