//! From a free worker to a launch: places for inputs, outputs and packed forms, moves over links, pins.
//!
//! Owns: making replicas. Must not know: who is chosen (place.rs). Invariant: a commit takes all the memory that the task
//! needs, or is not made; so a task that has begun can always end.

use super::copies::{Arrival, Replica};
use smallvec::SmallVec;

use super::event::{Location, Operands};
use super::lane::{Crossing, MOVES, Seat};
use super::memory::{class, cost};
use super::peak::form_bytes;
use super::progress::TaskState;
use super::{Action, Admitted, Flight, Queued, Scheduler};
use crate::device::HOST;
use crate::id::{CopyId, DeviceId, FormId, GraphId, SpaceId, TaskId, ValueId};
use crate::task::Operand;
use crate::task::PLAIN;

impl Scheduler {
    /// Bytes that committing a task to a device takes at most: in host memory, and in the device's space.
    pub(super) fn need(&self, id: GraphId, task: TaskId, at: DeviceId) -> (u64, u64) {
        let space = self.devices[at.index()].spec.space;
        let job = &self.jobs[&id];
        let graph = &job.graph;
        let (mut host, mut there) = (0, 0);
        let mut add = |s: SpaceId, bytes: u64| *(if s == HOST { &mut host } else { &mut there }) += cost(s, bytes);
        let pooled = |value: ValueId| !(job.graph.window_id(value).is_some() && job.has_free_window(value));
        // Where all memory is the host's, what is there is there; only packed forms may have to be made.
        let wanted = self.wanted_inputs(id, task, at).enumerate().filter(|(_, (_, form))| self.has_links || *form != PLAIN);
        for (index, (value, form)) in wanted {
            let earlier = || self.wanted_inputs(id, task, at).take(index).filter(|o| o.0 == value);
            let there = job.find(value, space, form).is_some() || form == PLAIN && self.kept(job, value, space);
            if there || earlier().any(|o| o.1 == form) {
                continue;
            }
            if form != PLAIN {
                add(space, form_bytes(graph, value, form));
            }
            // Of a packed form that is there, the plain value may have been evicted.
            let counted = earlier().any(|o| job.find(value, space, o.1).is_none());
            if self.has(job, value, space) || counted {
                continue;
            }
            if space != HOST || pooled(value) {
                add(space, form_bytes(graph, value, PLAIN));
            }
            if space != HOST && !job.is_in(value, HOST) && pooled(value) {
                add(HOST, form_bytes(graph, value, PLAIN));
            }
        }
        for output in graph.outputs(task) {
            if !self.output_has_place(id, &output, space) {
                add(space, class(graph.bytes(output.value)));
            }
            if space != HOST && self.wants_a_way_home(id, output.value) {
                add(HOST, class(graph.bytes(output.value)));
            }
        }
        (host, there)
    }

    /// What a task reads on a device: its inputs in the forms that the device takes, and the old values of its updates.
    pub(super) fn wanted_inputs(
        &self,
        id: GraphId,
        task: TaskId,
        at: DeviceId,
    ) -> impl Iterator<Item = (ValueId, FormId)> + Clone + '_ {
        self.jobs[&id].graph.residents(task, self.devices[at.index()].spec.takes_contiguous())
    }

    /// Whether a result that is made in a device's space has no window to come home to, because a launch that was given up may still
    /// write it: then it needs pooled host memory.
    fn wants_a_way_home(&self, id: GraphId, value: ValueId) -> bool {
        let job = &self.jobs[&id];
        job.graph.is_final(value) && !job.is_in(value, HOST) && job.is_poisoned(value)
    }

    /// Before a commit: whether an output will need no new bytes, because it goes to its window or takes over an old value's place.
    fn output_has_place(&self, id: GraphId, output: &Operand, space: SpaceId) -> bool {
        let job = &self.jobs[&id];
        if job.graph.is_opaque(output.value) || job.of(output.value).next().is_some() {
            return false;
        }
        let last = |old: ValueId| job.uses(old) == 1;
        let Some(old) = output.updates else { return space == HOST && job.has_free_window(output.value) };
        let there = job.find(old, space, PLAIN);
        let comes_home = space == HOST && there.is_none() && job.has_free_window(old);
        if comes_home && job.graph.window_id(old) == job.graph.window_id(output.value) {
            return last(old);
        }
        if space == HOST && job.has_free_window(output.value) {
            return true;
        }
        there.map_or(last(old) && !comes_home, |at| job.donates(old, output.value, job.replica(at), 0))
    }

    /// The replica of the old value whose bytes an update takes over; the updating task has pinned it once.
    fn donation(&self, id: GraphId, output: &Operand, space: SpaceId) -> Option<u32> {
        let (job, old) = (&self.jobs[&id], output.updates?);
        let at = job.find(old, space, PLAIN)?;
        job.donates(old, output.value, job.replica(at), 1).then_some(at)
    }

    /// Commits a task that was admitted just now to a device: every replica it needs has a place from here on.
    pub(super) fn commit(&mut self, (id, task, host_bytes): Admitted, at: DeviceId, actions: &mut Vec<Action>) {
        let space = self.devices[at.index()].spec.space;
        let before = self.memory.used(HOST);
        let job = self.jobs.get_mut(&id).expect("a queued task belongs to a job");
        job.tasks.put(task, at, TaskState::Staged);
        if job.tasks.frontier != task.index() {
            job.tasks.charges.add(task, host_bytes);
            self.admission.extra += host_bytes;
        }
        let graph = job.graph.clone();
        for (value, form) in self.wanted_inputs(id, task, at).collect::<SmallVec<[_; 8]>>() {
            let replica = self.want(id, value, space, form, (at, task), actions);
            self.jobs.get_mut(&id).expect("still there").replica_mut(replica).pins += 1;
        }
        for output in graph.outputs(task) {
            let spare = self.jobs[&id].of(output.value).next().is_some();
            let free_window = space == HOST && !spare && self.jobs[&id].has_free_window(output.value);
            if self.donation(id, &output, space).is_some() {
                continue;
            }
            let place = if graph.is_opaque(output.value) {
                self.memory.reserve(HOST, class(graph.bytes(output.value)), actions);
                Location::Opaque
            } else if free_window {
                Location::Home
            } else {
                Location::Buffer(self.memory.take(space, graph.bytes(output.value), actions))
            };
            self.add_output(id, output.value, (space, place, spare), (at, task));
        }
        for output in graph.outputs(task).filter(|_| space != HOST) {
            if self.wants_a_way_home(id, output.value) {
                self.want(id, output.value, HOST, PLAIN, (at, task), actions);
            }
        }
        debug_assert!(self.memory.used(HOST) - before <= host_bytes, "{task} takes more than was admitted");
        let estimate = self.jobs[&id].estimate(task, at).unwrap_or(0);
        let device = &mut self.devices[at.index()];
        device.committed_ns = device.committed_ns.saturating_add(estimate);
        device.ready.charge(id, estimate);
        device.staged.push((id, task));
        self.promote(at);
    }

    fn add_output(
        &mut self,
        id: GraphId,
        value: ValueId,
        (space, place, spare): (SpaceId, Location, bool),
        by: (DeviceId, TaskId),
    ) {
        let mut replica = Replica::new(space, PLAIN, place, Arrival::Coming, by);
        replica.pins = 1;
        replica.set_spare(spare);
        self.jobs.get_mut(&id).expect("a queued task belongs to a job").add(value, replica);
    }

    /// Makes sure that a replica of the value in this space and form is there or will be; returns it.
    pub(super) fn want(
        &mut self,
        id: GraphId,
        value: ValueId,
        space: SpaceId,
        form: FormId,
        by: (DeviceId, TaskId),
        actions: &mut Vec<Action>,
    ) -> u32 {
        let job = &self.jobs[&id];
        if let Some(at) = job.find(value, space, form) {
            return at;
        }
        if form == PLAIN
            && let Some(at) = self.adopt(id, value, space, by)
        {
            return at;
        }
        let job = &self.jobs[&id];
        if let Some(chunk) = job.chunk(value).filter(|_| space != HOST) {
            self.sources.copied(chunk, space);
        }
        let place = if form == PLAIN && space == HOST && job.has_free_window(value) {
            Location::Home
        } else {
            let bytes = form_bytes(&job.graph, value, form);
            Location::Buffer(self.memory.take(space, bytes, actions))
        };
        let job = self.jobs.get_mut(&id).expect("a queued task belongs to a job");
        let at = job.add(value, Replica::new(space, form, place, Arrival::Wanted, by));
        if form != PLAIN {
            self.want(id, value, space, PLAIN, by, actions);
        } else if space != HOST {
            self.want(id, value, HOST, PLAIN, by, actions);
        }
        self.issue(id, value, actions);
        at
    }

    /// Starts what can be started of the replicas of a value that are wanted.
    fn issue(&mut self, id: GraphId, value: ValueId, actions: &mut Vec<Action>) {
        let job = &self.jobs[&id];
        if job.life.failed {
            return;
        }
        let wanted: Vec<u32> = job.of(value).filter(|&at| job.replica(at).arrival == Arrival::Wanted).collect();
        for to in wanted {
            let job = self.jobs.get_mut(&id).expect("still there");
            let (Replica { space, form, .. }, device) = (*job.replica(to), job.replica(to).wanted().0);
            let ready = |at: &u32| job.replica(*at).arrival == Arrival::Ready && job.replica(*at).form == PLAIN;
            let from = match (form, space) {
                (PLAIN, HOST) => job.of(value).filter(ready).find(|&at| job.replica(at).space != HOST),
                (PLAIN, _) => job.of(value).filter(ready).find(|&at| job.replica(at).space == HOST),
                _ => job.of(value).filter(ready).find(|&at| job.replica(at).space == space),
            };
            let Some(from) = from else { continue };
            job.replica_mut(from).pins += 1;
            job.replica_mut(to).pins += 1;
            job.replica_mut(to).arrival = Arrival::Coming;
            let far = if space == HOST { job.replica(from).space } else { space };
            let bytes = job.graph.bytes(value);
            let evicts = match job.replica(from) {
                replica @ Replica { place: Location::Buffer(buffer), .. } if replica.is_leaving() => self.memory.size(*buffer),
                _ => 0,
            };
            if form != PLAIN {
                self.devices[device.index()].launchable.push_front(Queued::Pack(id, value, to));
                continue;
            }
            let upload = space != HOST;
            let link_of = self.devices.iter().position(|d| d.alive && d.spec.space == far && d.spec.link.is_some());
            let link_of = link_of.expect("a space other than the host's has a living device with a link");
            let device = &mut self.devices[link_of];
            let ns = device.spec.link.map_or(0, |link| link[usize::from(!upload)].transfer_ns(bytes));
            let link = &mut device.links[usize::from(!upload)];
            link.queue.push_back(Crossing { graph: id, value, from, to, ns, evicts });
            link.queued_ns += ns;
            link.evicted += evicts;
            self.took_off(id);
            self.next_crossing(DeviceId::at(link_of), upload, actions);
        }
    }

    /// Starts the next moves of a link, as many as its device takes at once.
    fn next_crossing(&mut self, at: DeviceId, upload: bool, actions: &mut Vec<Action>) {
        loop {
            let link = &mut self.devices[at.index()].links[usize::from(!upload)];
            if link.current.len() >= MOVES {
                return;
            }
            let Some(crossing) = link.queue.pop_front() else { return };
            let copy = self.new_copy();
            let link = &mut self.devices[at.index()].links[usize::from(!upload)];
            link.queued_ns -= crossing.ns;
            let free_at = if link.current.is_empty() { self.now } else { link.busy_until.max(self.now) };
            link.busy_until = free_at.saturating_add(crossing.ns);
            link.current.push_back((copy, crossing));
            let job = &self.jobs[&crossing.graph];
            let (from, to) = (job.replica(crossing.from).place, job.replica(crossing.to).place);
            actions.push(Action::Move { copy, graph: crossing.graph, value: crossing.value, device: at, upload, from, to });
        }
    }

    /// A move ended.
    pub(super) fn moved(&mut self, copy: CopyId, arrived: bool, actions: &mut Vec<Action>) {
        let place = |l: &super::lane::LinkQueue| l.current.iter().position(|c| c.0 == copy);
        let on = |links: &[super::lane::LinkQueue; 2]| (0..2).find_map(|way| Some((way, place(&links[way])?)));
        let found = self.devices.iter().enumerate().find_map(|(d, dev)| Some((d, on(&dev.links)?)));
        let Some((device, (direction, place))) = found else {
            if let Some((id, held)) = self.strays.remove(&copy) {
                self.bury(id, &held);
            }
            return;
        };
        let Some((_, crossing)) = self.devices[device].links[direction].current.remove(place) else { return };
        let Crossing { graph: id, value, from, to, evicts, .. } = crossing;
        self.devices[device].links[direction].evicted -= evicts;
        self.crossed += 1;
        self.landed(id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.replica_mut(to).arrival = if arrived { Arrival::Ready } else { Arrival::Wanted };
            job.count_home(value);
            self.release(id, value, from);
            self.release(id, value, to);
            self.left(id, value, from, arrived);
            self.arrived(id, value, actions);
            self.drop_if_unused(id, value);
            self.finish_if_over(id, actions);
        }
        self.next_crossing(DeviceId::at(device), direction == 0, actions);
    }

    /// A replica of the value has become ready: others can be made from it, tasks may have all they need.
    pub(super) fn arrived(&mut self, id: GraphId, value: ValueId, actions: &mut Vec<Action>) {
        self.issue(id, value, actions);
        for index in 0..self.devices.len() {
            if !self.devices[index].staged.is_empty() {
                self.promote(DeviceId::at(index));
            }
        }
    }

    /// Moves staged tasks whose inputs are all ready to the launchable ones.
    fn promote(&mut self, at: DeviceId) {
        let space = self.devices[at.index()].spec.space;
        let staged = std::mem::take(&mut self.devices[at.index()].staged);
        for (id, task) in staged {
            let job = &self.jobs[&id];
            let here = |(value, form)| job.find(value, space, form).is_some_and(|r| job.replica(r).arrival == Arrival::Ready);
            let may_travel = |&(_, form): &(ValueId, FormId)| self.has_links || form != PLAIN;
            let all = self.wanted_inputs(id, task, at).filter(may_travel).all(here);
            let device = &mut self.devices[at.index()];
            if all { device.launchable.push_back(Queued::Task(id, task)) } else { device.staged.push((id, task)) }
        }
    }

    pub(super) fn launch_task(&mut self, at: DeviceId, id: GraphId, task: TaskId, actions: &mut Vec<Action>) {
        let space = self.devices[at.index()].spec.space;
        let graph = self.jobs[&id].graph.clone();
        let mut operands = Operands::default();
        let job = &self.jobs[&id];
        for (value, form) in self.wanted_inputs(id, task, at).take(graph.inputs(task).len()) {
            let replica = job.find(value, space, form).expect("committed inputs stay");
            operands.inputs.push(job.replica(replica).place);
        }
        for output in graph.outputs(task) {
            operands.outputs.push(self.open_output((id, task), at, &output, actions));
        }
        let job = self.jobs.get_mut(&id).expect("a staged task belongs to a job");
        job.tasks.set_state(task, TaskState::Running);
        let estimate_ns = job.estimate(task, at).unwrap_or(0);
        self.devices[at.index()].committed_ns -= estimate_ns;
        let launch = self.take_off(at, Queued::Task(id, task), estimate_ns, operands);
        actions.push(Action::Run { launch, graph: id, task, device: at });
    }

    /// Whether a committed task still fits the space that it works in: since the commit, a fault may have given new readers to an old
    /// value whose bytes the task was to take over.
    pub(super) fn still_fits(&mut self, id: GraphId, task: TaskId, at: DeviceId, actions: &mut Vec<Action>) -> bool {
        let (space, job) = (self.devices[at.index()].spec.space, &self.jobs[&id]);
        let placed = |value: ValueId| job.find_spare(value, space).or(job.find(value, space, PLAIN)).is_some();
        let graph = &job.graph;
        let outputs = graph.outputs(task).filter(|o| !placed(o.value) && self.donation(id, o, space).is_none());
        match outputs.map(|o| cost(space, graph.bytes(o.value))).sum() {
            0 => true,
            bytes if space == HOST => self.fits_host(bytes),
            bytes => self.make_room(space, bytes, Some((id, task)), actions),
        }
    }

    /// The place of an output, and from where its old value is copied in, if it is not there already.
    fn open_output(
        &mut self,
        (id, task): (GraphId, TaskId),
        at: DeviceId,
        output: &Operand,
        actions: &mut Vec<Action>,
    ) -> (Location, Option<Location>) {
        let space = self.devices[at.index()].spec.space;
        let job = &self.jobs[&id];
        let old = output.updates.and_then(|old| Some((old, job.find(old, space, PLAIN)?)));
        let made = job.find_spare(output.value, space).or_else(|| job.find(output.value, space, PLAIN));
        let old_place = old.map(|(_, at)| job.replica(at).place);
        if let Some(new) = made {
            return (job.replica(new).place, old_place);
        }
        let (place, copied) = if self.donation(id, output, space).is_some() {
            let (old, replica) = old.expect("a donated value is there");
            (self.jobs.get_mut(&id).expect("just looked up").remove(old, replica), None)
        } else {
            // Since the commit a fault has given the old value new readers.
            (Location::Buffer(self.memory.take(space, self.jobs[&id].graph.bytes(output.value), actions)), old_place)
        };
        self.add_output(id, output.value, (space, place, false), (at, task));
        (place, copied)
    }

    pub(super) fn launch_pack(&mut self, at: DeviceId, id: GraphId, value: ValueId, to: u32, actions: &mut Vec<Action>) {
        let job = &self.jobs[&id];
        let (Replica { space, form, place, .. }, task) = (*job.replica(to), job.replica(to).wanted().1);
        let from = job.find(value, space, PLAIN).expect("pinned since the packing was issued");
        let (from, bytes) = (job.replica(from).place, job.graph.bytes(value));
        let estimate_ns = bytes / 4; // 4 GB/s: a rearranging copy
        let launch = self.take_off(at, Queued::Pack(id, value, to), estimate_ns, Operands::default());
        actions.push(Action::Pack { launch, graph: id, value, task, form, from, to: place, device: at });
    }

    fn take_off(&mut self, at: DeviceId, item: Queued, estimate_ns: u64, operands: Operands) -> crate::id::LaunchId {
        let (launch, graph) = (self.new_launch(), item.graph());
        let (job, task) = (&self.jobs[&graph], self.task_of(item));
        // Packing takes less than the task that it is for.
        let expected_ns = estimate_ns.max(job.estimate(task, at).unwrap_or(0));
        let clock = self.watch.start(expected_ns, job.is_measured(task, at));
        let compiling_ns = job.compiling_in(task, at, self.now);
        let device = &mut self.devices[at.index()];
        let (ahead_ns, seat) = (device.wait_ns(self.now).max(compiling_ns), device.room_for(graph).unwrap_or(Seat::Own));
        device.started(self.now, estimate_ns, seat);
        self.took_off(graph);
        let (start_ns, device) = (self.now, at);
        let flight = Flight { graph, device, item, start_ns, ahead_ns, estimate_ns, operands, seat, clock, abandoned: None };
        self.launches.insert(launch, flight);
        launch
    }
}
