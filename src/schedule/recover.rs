//! When something goes wrong: failed, lost and stalled launches, lost devices.
//!
//! Owns: lineage. A value that is lost is remade by running its producer again, back to the caller's arrays and sources, which
//! are never given away. Must not know: why a device failed. Invariant: memory that an abandoned task may still write is never
//! handed out again.

use super::event::Place;
use super::job::{Arrival, State};
use super::{Action, Flight, Item, Scheduler};
use crate::device::HOST;
use crate::id::{DeviceId, GraphId, TaskId, ValueId};
use crate::kernel::Form;

impl Scheduler {
    /// A launch failed because of its data: nothing more of the graph is started.
    pub(super) fn launch_failed(&mut self, launch: crate::id::LaunchId, actions: &mut Vec<Action>) {
        let Some(flight) = self.end_flight(launch) else { return };
        self.stop(flight.graph, actions);
    }

    pub(super) fn stop(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.failed = true;
        }
        self.withdraw(id);
        self.finish_if_over(id, actions);
    }

    /// Takes a graph's tasks out of all queues; what runs goes on.
    pub(super) fn withdraw(&mut self, id: GraphId) {
        let queued: Vec<TaskId> = {
            let job = &self.jobs[&id];
            job.graph.tasks().filter(|t| job.state[t.index()] == State::Ready).collect()
        };
        for task in queued {
            self.dequeue(id, task);
        }
        for device in &mut self.devices {
            device.staged.retain(|&(g, _)| g != id);
            device.launchable.retain(|item| match item {
                Item::Task(g, _) | Item::Pack(g, ..) => *g != id,
            });
            for link in &mut device.links {
                let (gone, stay): (Vec<_>, Vec<_>) = link.queue.drain(..).partition(|c| c.graph == id);
                link.queue.extend(stay);
                link.queued_ns -= gone.iter().map(|c| c.ns).sum::<u64>();
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.flying -= gone.len();
                }
            }
        }
    }

    /// A launch failed because of its device: its task runs again.
    pub(super) fn launch_lost(&mut self, launch: crate::id::LaunchId, actions: &mut Vec<Action>) {
        let Some(flight) = self.end_flight(launch) else { return };
        let id = flight.graph;
        match flight.item {
            Item::Pack(_, value, at) => self.repack(id, value, at, actions),
            Item::Task(_, task) => {
                self.uncommit(id, task, flight.device);
                self.revive(id, task, actions);
            }
        }
        self.finish_if_over(id, actions);
    }

    /// A packing did not happen: it is wanted still.
    fn repack(&mut self, id: GraphId, value: ValueId, at: u32, actions: &mut Vec<Action>) {
        let job = self.jobs.get_mut(&id).expect("a flying launch belongs to a job");
        job.replica_mut(at).pins -= 1;
        job.replica_mut(at).arrival = Arrival::Wanted;
        let space = job.replica(at).space;
        self.unpin(id, value, space, Form::Plain);
        self.arrived(id, value, actions);
    }

    /// Takes back what a commit did: pins and output places.
    fn uncommit(&mut self, id: GraphId, task: TaskId, at: DeviceId) {
        let space = self.devices[at.index()].spec.space;
        self.unpin_operands(id, task, space);
        let job = self.jobs.get_mut(&id).expect("a committed task belongs to a job");
        job.state[task.index()] = State::Waiting;
        job.disturbed = true;
        for output in job.graph.clone().outputs(task) {
            if let Some(replica) = job.find(output.value, space, Form::Plain) {
                if let Place::Buffer(buffer) = job.remove(output.value, replica) {
                    self.memory.give(buffer);
                }
            }
        }
    }

    /// Makes a waiting task able to run: remakes the inputs that are gone. It becomes ready when all are there.
    pub(super) fn revive(&mut self, id: GraphId, task: TaskId, actions: &mut Vec<Action>) {
        let mut stack = vec![task];
        let mut touched = vec![task];
        while let Some(task) = stack.pop() {
            let job = self.jobs.get_mut(&id).expect("a task belongs to a job");
            for value in job.graph.clone().reads(task) {
                let gone = job.of(value).next().is_none();
                let Some(producer) = job.graph.producer(value).filter(|p| gone && job.state[p.index()] == State::Done) else {
                    continue;
                };
                job.undo(producer);
                stack.push(producer);
                touched.push(producer);
            }
        }
        for task in touched.into_iter().rev() {
            let job = &self.jobs[&id];
            if job.state[task.index()] == State::Waiting && job.missing(task) == 0 && !job.failed {
                self.on_ready(id, task, actions);
            }
        }
    }

    /// A device is gone.
    pub(super) fn device_lost(&mut self, at: DeviceId, actions: &mut Vec<Action>) {
        let space = self.devices[at.index()].spec.space;
        self.devices[at.index()].alive = false;
        let space_lost = space != HOST && !self.devices.iter().any(|d| d.alive && d.spec.space == space);
        let gone: Vec<_> = self.launches.iter().filter(|(_, f)| f.device == at).map(|(&l, _)| l).collect();
        let mut unplaced: Vec<(GraphId, TaskId)> = Vec::new();
        for launch in gone {
            let Some(flight) = self.end_flight(launch) else { continue };
            match flight.item {
                Item::Task(id, task) => unplaced.push((id, task)),
                Item::Pack(id, value, replica) => self.repack(id, value, replica, actions),
            }
        }
        let device = &mut self.devices[at.index()];
        unplaced.append(&mut device.staged);
        let items = std::mem::take(&mut device.launchable);
        unplaced.extend(items.iter().filter_map(|i| if let Item::Task(id, task) = i { Some((*id, *task)) } else { None }));
        for &(id, task) in &unplaced {
            self.uncommit(id, task, at);
        }
        self.drop_crossings(at, actions);
        let queued: Vec<_> = self.devices[at.index()].ready.iter().copied().collect();
        for (_, id, task) in queued {
            self.dequeue(id, task);
            self.jobs.get_mut(&id).expect("queued").state[task.index()] = State::Waiting;
        }
        if space_lost {
            self.drop_space(space, actions);
        }
        self.settle(actions);
    }

    fn drop_crossings(&mut self, at: DeviceId, actions: &mut Vec<Action>) {
        for direction in 0..2 {
            let link = &mut self.devices[at.index()].links[direction];
            let mut crossings: Vec<_> = link.queue.drain(..).collect();
            crossings.extend(link.current.take().map(|c| c.1));
            link.queued_ns = 0;
            for c in crossings {
                if let Some(job) = self.jobs.get_mut(&c.graph) {
                    job.flying -= 1;
                    job.replica_mut(c.from).pins -= 1;
                    job.replica_mut(c.to).pins -= 1;
                    // The bytes may still be under way: their place is not handed out again.
                    if let Place::Buffer(buffer) = job.remove(c.value, c.to) {
                        self.memory.forget(buffer, actions);
                    }
                }
            }
        }
    }

    /// Every replica in a lost space is gone.
    fn drop_space(&mut self, space: crate::id::SpaceId, actions: &mut Vec<Action>) {
        for job in self.jobs.values_mut() {
            job.disturbed = true;
            for value in (0..job.graph.value_count()).map(ValueId::at) {
                let gone: Vec<u32> = job.of(value).filter(|&r| job.replica(r).space == space).collect();
                for replica in gone {
                    if let Place::Buffer(buffer) = job.remove(value, replica) {
                        self.memory.forget(buffer, actions);
                    }
                }
            }
        }
        self.memory.release_cached(space, actions);
    }

    /// After a loss: queued tasks whose inputs are gone wait again; lost values that are needed are remade.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        for id in self.jobs.keys().copied().collect::<Vec<_>>() {
            if self.pending.contains(&id) {
                continue;
            }
            let job = self.jobs.get_mut(&id).expect("just listed");
            job.disturbed = true;
            let graph = job.graph.clone();
            for value in (0..graph.value_count()).map(ValueId::at) {
                let producer = graph.producer(value).filter(|p| job.state[p.index()] == State::Done);
                if let Some(producer) = producer.filter(|_| graph.is_final(value) && job.of(value).next().is_none()) {
                    job.undo(producer);
                }
            }
            for task in graph.tasks() {
                let job = self.jobs.get_mut(&id).expect("just listed");
                if job.state[task.index()] == State::Ready && job.missing(task) > 0 {
                    self.dequeue(id, task);
                    self.jobs.get_mut(&id).expect("just listed").state[task.index()] = State::Waiting;
                }
                if self.jobs[&id].state[task.index()] == State::Waiting {
                    self.revive(id, task, actions);
                }
            }
            self.finish_if_over(id, actions);
        }
    }

    /// Gives up launches that take far longer than predicted, and runs their tasks elsewhere, into new memory.
    pub(super) fn look_for_stalls(&mut self, actions: &mut Vec<Action>) {
        let late = |f: &Flight| {
            let allowed = f.estimate_ns.saturating_mul(self.stall_factor).saturating_add(self.stall_floor_ns);
            !f.abandoned && self.now.saturating_sub(f.start_ns) > allowed
        };
        let stalled: Vec<_> = self.launches.iter().filter(|(_, f)| late(f)).map(|(&l, _)| l).collect();
        for launch in stalled {
            let Some(flight) = self.launches.get_mut(&launch) else { continue };
            flight.abandoned = true;
            let (id, at, item, start, estimate) =
                (flight.graph, flight.device, flight.item, flight.start_ns, flight.estimate_ns);
            let device = &mut self.devices[at.index()];
            device.ended(start, estimate);
            device.room -= 1;
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.flying -= 1;
            job.disturbed = true;
            match item {
                Item::Pack(_, value, replica) => self.pack_elsewhere(id, value, replica, actions),
                Item::Task(_, task) => self.abandon(id, task, at, (start, estimate), actions),
            }
        }
    }

    /// Gives a stalled packing a new buffer. The old one, and the source it reads, stay untouched.
    fn pack_elsewhere(&mut self, id: GraphId, value: ValueId, at: u32, actions: &mut Vec<Action>) {
        let job = &self.jobs[&id];
        let old = *job.replica(at);
        let bytes = job.replica_bytes(value, old.form, old.wanted.1);
        if let Place::Buffer(buffer) = old.place {
            self.memory.forget(buffer, actions);
        }
        let buffer = self.memory.take(old.space, bytes, actions);
        let replica = self.jobs.get_mut(&id).expect("checked").replica_mut(at);
        (replica.place, replica.arrival) = (Place::Buffer(buffer), Arrival::Wanted);
        replica.pins -= 1;
        self.arrived(id, value, actions);
    }

    fn abandon(&mut self, id: GraphId, task: TaskId, at: DeviceId, times: (u64, u64), actions: &mut Vec<Action>) {
        let space = self.devices[at.index()].spec.space;
        let job = self.jobs.get_mut(&id).expect("checked by the caller");
        for output in job.graph.clone().outputs(task) {
            let Some(replica) = job.find(output.value, space, Form::Plain) else { continue };
            match job.remove(output.value, replica) {
                Place::Buffer(buffer) => self.memory.forget(buffer, actions),
                Place::Home => {
                    if let Some(window) = job.graph.window_id(output.value) {
                        job.poisoned[window] = true;
                    }
                }
                Place::Opaque => {}
            }
        }
        job.state[task.index()] = State::Waiting;
        let can_run = |d: &super::Device, i: usize| d.alive && d.room > 0 && job.estimate(task, DeviceId::at(i)).is_some();
        if !self.devices.iter().enumerate().any(|(i, d)| can_run(d, i)) {
            let (waited_ns, predicted_ns) = (self.now - times.0, times.1);
            actions.push(Action::Stalled { graph: id, task, device: Some(at), waited_ns, predicted_ns });
            self.stop(id, actions);
            return;
        }
        self.revive(id, task, actions);
    }

    /// An abandoned launch has reported after all: what it read may be dropped now.
    pub(super) fn bury(&mut self, flight: &Flight) {
        let space = self.devices[flight.device.index()].spec.space;
        match flight.item {
            Item::Task(id, task) => {
                if self.jobs.contains_key(&id) {
                    self.unpin_operands(id, task, space);
                }
            }
            Item::Pack(id, value, _) => self.unpin(id, value, space, Form::Plain),
        }
    }
}
