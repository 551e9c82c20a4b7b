//! Launches that take too long, and those that wait inside: whose time is counted, who gets a second try, when it ends with an error.
//!
//! Owns: [`Watch`], giving launches up, taking late results. Must not know: why a launch is late. Invariant: what a launch that was given up
//! may still write is handed out to nobody before it has reported; each further try is counted and given twice the time, and only a time
//! that was measured can end in an error.

use super::copies::{Arrival, Replica};
use super::event::Location;
use super::lane::Seat;
use super::memory::{class, cost};
use super::progress::TaskState;
use super::{Action, Flight, Pinned, Queued, Scheduler};
use crate::device::HOST;
use crate::id::{DeviceId, FormId, GraphId, LaunchId, TaskId, ValueId};
use crate::task::PLAIN;

/// Times that a task is given up and run again because it takes too long.
const RERUNS: u32 = 2;
/// How many times the floor a launch is given whose time was never measured.
const PATIENCE: u64 = 12;
/// Least time between two events that counts in full.
const SHORTEST_GAP_NS: u64 = 1_000_000;

/// Time as the stall rule counts it: while nobody looks, because the process did not run, it does not pass.
pub(super) struct Watch {
    factor: u64,
    floor_ns: u64,
    now: u64,
}

impl Default for Watch {
    fn default() -> Self {
        Self { factor: 10, floor_ns: 5_000_000_000, now: 0 }
    }
}

/// The time of one launch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    since: u64,
    expected_ns: u64,
    /// Whether that is a measured time of such tasks.
    measured: bool,
    /// It waits inside, since when, and for which graph of this session.
    waits: Option<(u64, Option<GraphId>)>,
}

impl Clock {
    pub(super) fn waits_for(&self) -> Option<GraphId> {
        self.waits?.1
    }
}

impl Watch {
    pub(super) fn set_rule(&mut self, factor: u64, floor_ns: u64) {
        (self.factor, self.floor_ns) = (factor, floor_ns);
    }

    /// This much time has passed. Whoever waits looks four times in a floor: a longer gap means that nobody could.
    pub(super) fn pass(&mut self, ns: u64) {
        self.now = self.now.saturating_add(ns.min((self.floor_ns / 2).max(SHORTEST_GAP_NS)));
    }

    /// A launch begins that takes so long, `measured` or believed.
    pub(super) fn start(&self, expected_ns: u64, measured: bool) -> Clock {
        Clock { since: self.now, expected_ns, measured, waits: None }
    }

    fn elapsed(&self, clock: &Clock) -> u64 {
        self.now.saturating_sub(clock.since)
    }

    /// Whether a device that has been stuck since then may still be waited for.
    pub(super) fn may_come_back(&self, since: Option<u64>) -> bool {
        since.is_none_or(|since| self.now.saturating_sub(since) <= self.floor_ns.saturating_mul(PATIENCE))
    }

    /// The time that the first try of a launch is given.
    fn first_allowance(&self, flight: &Flight) -> u64 {
        let floor = if flight.clock.measured { self.floor_ns } else { self.floor_ns.saturating_mul(PATIENCE) };
        flight.clock.expected_ns.saturating_add(flight.ahead_ns).saturating_mul(self.factor).saturating_add(floor)
    }
}

/// What a launch that was given up still has.
#[derive(Default)]
pub(super) struct Abandoned {
    /// What it may still read: pinned until it reports.
    held: Vec<Pinned>,
    /// What it may still write, if that can become the task's result. Not counted as used.
    outputs: Vec<(ValueId, Location)>,
    /// What its graph was promised so that it may keep those inputs.
    held_bytes: u64,
}

/// What is to be done about a late launch.
enum Verdict {
    /// Its task runs again elsewhere; whichever ends first counts.
    Again,
    /// Its graph stops.
    Stalled,
}

impl Scheduler {
    /// A worker waits inside a task: for a graph of this session, whose tasks may take its place, or for something else.
    pub(super) fn waits(&mut self, launch: LaunchId, graph: Option<GraphId>) {
        let Some(flight) = self.launches.get_mut(&launch) else { return };
        flight.clock.waits = Some((self.watch.now, graph));
        if let Some(graph) = graph {
            self.nesting += 1;
            self.devices[flight.device.index()].seats.lend(graph, 1);
        }
    }

    /// It waits no longer.
    pub(super) fn resumes(&mut self, launch: LaunchId) {
        let Some(flight) = self.launches.get_mut(&launch) else { return };
        let Some((since, graph)) = flight.clock.waits.take() else { return };
        flight.clock.since += self.watch.now - since;
        let Some(graph) = graph else { return };
        let at = flight.device;
        self.nesting -= 1;
        let seats = &mut self.devices[at.index()].seats;
        seats.lend(graph, -1);
        if seats.is_overdrawn(graph) {
            // What was launched in its place may wait for a thread: how long that takes nobody has measured.
            let guests =
                self.launches.values_mut().filter(|f| f.device == at && f.seat == Seat::Lent(graph) && f.abandoned.is_none());
            guests.for_each(|guest| guest.clock.measured = false);
        }
    }

    /// Gives up launches that take far longer than predicted, and runs their tasks elsewhere, into new memory.
    pub(super) fn look_for_stalls(&mut self, actions: &mut Vec<Action>) {
        let (mut late, mut bytes) = (Vec::new(), 0);
        for (&launch, flight) in &self.launches {
            let Some(verdict) = self.judge(flight, bytes) else { continue };
            bytes += if matches!(verdict, Verdict::Again) { self.twice_bytes(flight).iter().sum() } else { 0 };
            late.push((launch, verdict));
        }
        self.leave_stuck_devices(actions);
        if late.is_empty() {
            return;
        }
        let mut tried = std::collections::BTreeSet::new();
        let mut lost: Vec<LaunchId> = late.iter().map(|l| l.0).collect();
        for (launch, verdict) in late {
            let flight = &self.launches[&launch];
            let (id, at, task) = (flight.graph, flight.device, self.task_of(flight.item));
            let (waited_ns, predicted_ns) = (self.now - flight.start_ns, flight.estimate_ns);
            if self.devices[at.index()].in_order {
                // What it was given after a stuck launch is stuck too.
                let stuck = self.launches.iter().filter(|(_, f)| f.device == at && f.abandoned.is_none());
                lost.extend(stuck.map(|(&launch, _)| launch));
            }
            let job = self.jobs.get_mut(&id).expect("a graph stays while something of it flies");
            match verdict {
                Verdict::Again => {
                    if tried.insert((id, task)) {
                        job.tasks.count_try(task); // once, though several forms for it were being packed
                    }
                }
                Verdict::Stalled if job.life.failed => {}
                Verdict::Stalled => {
                    job.life.failed = true;
                    actions.push(Action::Stalled { graph: id, task, device: Some(at), waited_ns, predicted_ns });
                    self.withdraw(id);
                }
            }
        }
        lost.sort_unstable();
        lost.dedup();
        self.give_up(&lost, true, actions);
        self.settle(actions);
    }

    /// Tasks that wait for a device which has been stuck for long, and for which there is no other, are waited for no longer.
    fn leave_stuck_devices(&mut self, actions: &mut Vec<Action>) {
        for at in 0..self.devices.len() {
            let device = &self.devices[at];
            if !device.alive
                || device.takes()
                || device.ready.is_empty()
                || self.watch.may_come_back(device.seats.wedged_since())
            {
                continue;
            }
            for (id, task) in device.ready.all().collect::<Vec<_>>() {
                if self.jobs.get(&id).is_some_and(|job| job.tasks.state(task) == TaskState::Ready) {
                    self.dequeue(id, task);
                    self.jobs.get_mut(&id).expect("just looked at").tasks.set_state(task, TaskState::Waiting);
                    self.on_ready(id, task, actions);
                    self.finish_if_over(id, actions);
                }
            }
        }
    }

    /// The task that a launch runs, or packs for.
    pub(super) fn task_of(&self, item: Queued) -> TaskId {
        match item {
            Queued::Task(_, task) => task,
            Queued::Pack(id, _, at) => self.jobs[&id].replica(at).wanted().1,
        }
    }

    /// What is to be done about a launch, if anything; `granted` bytes go to further tries of others.
    fn judge(&self, flight: &Flight, granted: u64) -> Option<Verdict> {
        if flight.abandoned.is_some() || flight.clock.waits.is_some() {
            return None;
        }
        let elapsed = self.watch.elapsed(&flight.clock);
        let first = self.watch.first_allowance(flight);
        if elapsed <= first {
            return None; // the usual case
        }
        let job = &self.jobs[&flight.graph];
        if job.life.failed {
            return Some(Verdict::Stalled); // nobody wants its result
        }
        let tries = job.tasks.tries(self.task_of(flight.item)).min(RERUNS);
        if elapsed <= first << tries {
            return None;
        }
        let twice_bytes = self.twice_bytes(flight).iter().sum::<u64>();
        let room = twice_bytes == 0 || self.shares(granted.saturating_add(twice_bytes));
        let again = tries < RERUNS && room;
        if again && self.another(flight, |device| device.seats.free > 0) {
            return Some(Verdict::Again);
        }
        // The times that all further tries would have been given.
        let all = first.saturating_mul((2 << RERUNS) - (1 << tries));
        if !flight.clock.measured || elapsed <= all {
            return None;
        }
        // Its task is the next that a worker takes; if there is none that is not stuck, that was it.
        let others = again && self.another(flight, |device| device.seats.all() > 1);
        Some(if others { Verdict::Again } else { Verdict::Stalled })
    }

    /// Host memory that a launch and another try of it take beyond what the graph was promised: for results whose windows the first may still
    /// read or write, and for the inputs and pooled outputs that it keeps however long it takes.
    fn twice_bytes(&self, flight: &Flight) -> [u64; 2] {
        if self.devices[flight.device.index()].spec.space != HOST {
            return [0; 2];
        }
        let (job, operands) = (&self.jobs[&flight.graph], &flight.operands);
        let graph = &job.graph;
        let (mut reads, mut results, mut held) = (Vec::new(), 0, 0);
        match flight.item {
            Queued::Pack(_, value, _) => {
                reads.extend(job.find(value, HOST, PLAIN).map(|at| (value, job.replica(at).place)));
            }
            Queued::Task(_, task) => {
                reads.extend(graph.inputs(task).map(|o| o.value).zip(operands.inputs.iter().copied()));
                for (output, &(place, old)) in graph.outputs(task).zip(&operands.outputs) {
                    reads.extend(output.updates.zip(old));
                    match place {
                        Location::Buffer(buffer) => held += self.memory.size(buffer),
                        Location::Opaque => held += class(graph.bytes(output.value)),
                        Location::Home => results += cost(HOST, graph.bytes(output.value)),
                    }
                }
            }
        }
        for (value, place) in reads {
            match place {
                Location::Buffer(buffer) => held += self.memory.size(buffer),
                Location::Opaque => held += class(graph.bytes(value)),
                // The next version goes elsewhere, and stays there.
                Location::Home if graph.window_id(value).is_some() => results += cost(HOST, graph.bytes(value)),
                Location::Home => {}
            }
        }
        [results, held]
    }

    /// Whether a launch that was given up may yet make this task's result: there may be no memory for another try.
    pub(super) fn is_awaited(&self, id: GraphId, task: TaskId) -> bool {
        let same = |f: &&Flight| f.abandoned.is_some() && matches!(f.item, Queued::Task(g, t) if (g, t) == (id, task));
        let comes = |f: &Flight| {
            let stuck_since = self.devices[f.device.index()].seats.wedged_since();
            self.would_adopt(f) && (!f.clock.measured || self.watch.may_come_back(stuck_since))
        };
        self.launches.values().filter(same).any(comes)
    }

    /// Whether somebody else could run a launch's task: a worker of its own device of which this is so, or another device.
    fn another(&self, flight: &Flight, own: impl Fn(&super::DeviceLane) -> bool) -> bool {
        let device = &self.devices[flight.device.index()];
        if !device.in_order && own(device) {
            return true;
        }
        let Queued::Task(id, task) = flight.item else { return false };
        let others = (0..self.devices.len()).map(DeviceId::at).filter(|&d| d != flight.device);
        let job = &self.jobs[&id];
        { others }.any(|d| job.estimate(task, d).is_some() && self.serves(job, task, d))
    }

    /// Counts launches as over, though they may still run. What they write is set aside where it can become a result, else lost; what they
    /// read stays pinned until they report. Takes back all commits that have not been launched, because they may count on what is gone.
    pub(super) fn give_up(&mut self, lost: &[LaunchId], keep: bool, actions: &mut Vec<Action>) {
        for launch in lost {
            let flight = self.launches.get_mut(launch).expect("listed by the caller");
            flight.abandoned = Some(Abandoned::default());
            let (id, device) = (flight.graph, &mut self.devices[flight.device.index()]);
            device.ended(self.now, (flight.start_ns, flight.estimate_ns), flight.seat);
            device.seats.wedge(flight.clock.measured.then_some(self.watch.now));
            self.landed(id);
        }
        for at in (0..self.devices.len()).map(DeviceId::at) {
            self.unstage(at);
        }
        for launch in lost {
            let flight = &self.launches[launch];
            let (at, item, operands) = (flight.device, flight.item, flight.operands.clone());
            // Of one that was late there is room, which was looked at (not for what waits behind it, nor for a second try when the first comes
            // in); a device that is lost asks nobody.
            let more = self.twice_bytes(flight);
            let more = if keep || self.shares(more.iter().sum()) { more } else { [0; 2] };
            let space = self.devices[at.index()].spec.space;
            let abandoned = match item {
                Queued::Task(id, task) => {
                    let outputs = self.set_aside((id, task), at, keep && space == HOST, actions);
                    let job = self.jobs.get_mut(&id).expect("a graph stays while something of it flies");
                    job.tasks.set_state(task, TaskState::Waiting);
                    let graph = job.graph.clone();
                    let mut read: Vec<(ValueId, FormId)> =
                        self.wanted_inputs(id, task, at).take(graph.inputs(task).len()).collect();
                    let updated = graph.outputs(task).zip(&operands.outputs).filter(|(_, o)| o.1.is_some());
                    read.extend(updated.filter_map(|(o, _)| Some((o.updates?, PLAIN))));
                    Abandoned { held: self.held(id, &read, space), outputs, held_bytes: more[1] }
                }
                Queued::Pack(id, value, to) => {
                    self.lose(id, value, to, actions);
                    let held = self.held(id, &[(value, PLAIN)], space);
                    Abandoned { held, outputs: Vec::new(), held_bytes: more[1] }
                }
            };
            self.promise_more(item.graph(), more.iter().sum());
            self.launches.get_mut(launch).expect("still there").abandoned = Some(abandoned);
        }
    }

    /// Takes the outputs of a launch away from its graph: set aside for a late result if `keep`, else never handed out again.
    fn set_aside(
        &mut self,
        (id, task): (GraphId, TaskId),
        at: DeviceId,
        keep: bool,
        actions: &mut Vec<Action>,
    ) -> Vec<(ValueId, Location)> {
        let graph = self.jobs[&id].graph.clone();
        let space = self.devices[at.index()].spec.space;
        let spare = graph.outputs(task).any(|o| self.jobs[&id].find_spare(o.value, space).is_some());
        let mut aside = Vec::new();
        for output in graph.outputs(task) {
            let Some(at) = self.own_output(id, output.value, space) else { continue };
            if !keep || spare {
                self.lose(id, output.value, at, actions);
                continue;
            }
            let job = self.jobs.get_mut(&id).expect("just looked up");
            let place = job.remove(output.value, at);
            match place {
                Location::Buffer(buffer) => self.memory.set_aside(buffer),
                Location::Opaque => self.memory.unreserve(HOST, class(graph.bytes(output.value))),
                Location::Home => job.poison(output.value, true),
            }
            aside.push((output.value, place));
        }
        aside
    }

    /// The replicas of these operands, as (value, replica, serial).
    fn held(&self, id: GraphId, what: &[(ValueId, FormId)], space: crate::id::SpaceId) -> Vec<Pinned> {
        let job = &self.jobs[&id];
        let one = |&(value, form)| job.find(value, space, form).map(|at| (value, at, job.replica(at).serial));
        what.iter().filter_map(one).collect()
    }

    /// A launch that was given up has reported after all.
    pub(super) fn late_report(&mut self, mut flight: Flight, well: bool, actions: &mut Vec<Action>) {
        self.devices[flight.device.index()].seats.unwedge(flight.clock.measured);
        let id = flight.graph;
        if !self.jobs.contains_key(&id) {
            return;
        }
        let adopts = well && self.would_adopt(&flight);
        let Abandoned { held, outputs, held_bytes } = flight.abandoned.take().unwrap_or_default();
        if self.runs(id) {
            self.promise_less(id, held_bytes);
        }
        if let (true, Queued::Task(_, task)) = (adopts, flight.item) {
            self.adopt_late((id, task), flight.device, outputs, actions);
        } else {
            self.scrap(id, outputs, actions);
        }
        self.bury(id, &held);
        self.finish_if_over(id, actions);
    }

    /// Whether the result of a launch that was given up would be taken now: nobody else has made it, and there is room for it.
    pub(super) fn would_adopt(&self, flight: &Flight) -> bool {
        let (Queued::Task(id, task), Some(Abandoned { outputs, .. })) = (flight.item, &flight.abandoned) else { return false };
        let Some(job) = self.jobs.get(&id).filter(|job| !job.life.failed && !job.life.finished) else { return false };
        let bytes = |&(value, place): &(ValueId, Location)| {
            if place == Location::Home { 0 } else { cost(HOST, job.graph.bytes(value)) }
        };
        job.tasks.state(task) != TaskState::Done
            && outputs.len() == job.graph.outputs(task).len()
            && !outputs.is_empty()
            && self.memory.fits(HOST, outputs.iter().map(bytes).sum())
    }

    /// The task has the result that its first try made; whoever else was to make it stops.
    fn adopt_late(
        &mut self,
        (id, task): (GraphId, TaskId),
        at: DeviceId,
        outputs: Vec<(ValueId, Location)>,
        actions: &mut Vec<Action>,
    ) {
        let same = |f: &Flight| f.abandoned.is_none() && matches!(f.item, Queued::Task(g, t) if (g, t) == (id, task));
        let others: Vec<LaunchId> = self.launches.iter().filter(|(_, f)| same(f)).map(|(&launch, _)| launch).collect();
        self.give_up(&others, true, actions); // and takes back a commit, if that is as far as it came
        if self.jobs[&id].tasks.state(task) == TaskState::Ready {
            self.dequeue(id, task);
        }
        for (value, place) in outputs {
            let job = self.jobs.get_mut(&id).expect("just looked up");
            match place {
                Location::Buffer(buffer) => self.memory.take_back(buffer),
                Location::Opaque => self.memory.reserve(HOST, class(job.graph.bytes(value)), actions),
                Location::Home => job.poison(value, false),
            }
            if place == Location::Home {
                self.promise_less(id, cost(HOST, self.jobs[&id].graph.bytes(value)));
            }
            let job = self.jobs.get_mut(&id).expect("just looked up");
            let mut replica = Replica::new(HOST, PLAIN, place, Arrival::Coming, (at, task));
            replica.pins = 1;
            replica.set_spare(job.of(value).next().is_some()); // of several outputs, another is what was lost
            job.add(value, replica);
        }
        self.complete((id, task), at, actions);
        self.settle(actions);
    }

    /// Nobody will write these any more, and nobody wants them.
    fn scrap(&mut self, id: GraphId, outputs: Vec<(ValueId, Location)>, actions: &mut Vec<Action>) {
        for (value, place) in outputs {
            match (place, self.jobs.get_mut(&id)) {
                (Location::Buffer(buffer), _) => self.memory.scrap(buffer, actions),
                (Location::Home, Some(job)) => job.poison(value, false),
                _ => {}
            }
        }
    }

    /// A graph is forgotten: what its given-up launches may still write is kept for nobody.
    pub(super) fn scrap_set_aside(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        for flight in self.launches.values_mut().filter(|f| f.graph == id) {
            let outputs = flight.abandoned.as_mut().map(|a| std::mem::take(&mut a.outputs)).unwrap_or_default();
            let buffers =
                outputs.into_iter().filter_map(|(_, place)| if let Location::Buffer(b) = place { Some(b) } else { None });
            buffers.for_each(|buffer| self.memory.scrap(buffer, actions));
        }
    }

    /// An abandoned launch has reported: what it read may be dropped now.
    pub(super) fn bury(&mut self, id: GraphId, held: &[Pinned]) {
        for &(value, at, serial) in held {
            let Some(job) = self.jobs.get_mut(&id) else { return };
            if job.of(value).any(|r| r == at) && job.replica(at).serial == serial {
                self.release(id, value, at);
                self.drop_if_unused(id, value);
            }
        }
    }
}
