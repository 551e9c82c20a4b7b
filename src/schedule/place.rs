//! From ready to a device's queue, and from the queue to a free worker.
//!
//! Owns: finish-time prediction, queueing, stealing, admission. Must not know: bytes' addresses. Invariant: a task that is next in
//! sequential order is always admitted, so work never stops for want of memory.

use super::copies::Arrival;
use super::event::Location;
use super::job::Job;
use super::lane::{LinkQueue, Offer};
use super::progress::TaskState;
use super::{Action, Admitted, Candidate, Choice, Queued, Ready, Scheduler};
use crate::device::{HOST, LinkSpec};
use crate::id::{DeviceId, GraphId, SpaceId, TaskId, ValueId};
use crate::task::PLAIN;

/// Queue entries looked at when the first does not fit memory, or when stealing.
const LOOK: usize = 8;

/// Host memory that a graph may have in what was made before its turn, if more of that can be made at any time: this, or so many tasks' for each worker.
const AHEAD_BYTES: u64 = 128 << 20;
const AHEAD_TASKS: u64 = 4;

impl Scheduler {
    /// Chooses a device for a task whose predecessors are done.
    pub(super) fn on_ready(&mut self, id: GraphId, task: TaskId, actions: &mut Vec<Action>) {
        if self.jobs[&id].life.failed {
            return;
        }
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        candidates.extend((0..self.devices.len()).map(DeviceId::at).filter_map(|d| self.candidate(id, task, d)));
        let choice = match candidates.len() {
            0 if self.last_resort(id, task).is_some() => {
                // A device that lives, but is stuck with launches that were given up: it may come back.
                self.candidates = candidates;
                let Some((at, estimate_ns)) = self.last_resort(id, task) else { return };
                return self.enqueue(id, task, at, estimate_ns);
            }
            0 => {
                let job = self.jobs.get_mut(&id).expect("a ready task belongs to a job");
                job.life.failed = true;
                actions.push(Action::Stalled { graph: id, task, device: None, waited_ns: 0, predicted_ns: 0 });
                self.withdraw(id);
                None
            }
            n => {
                let Choice { candidate, priority } = self.policy.place(self.ready(id, task), &candidates);
                let job = self.jobs.get_mut(&id).expect("a ready task belongs to a job");
                job.tasks.set_priority(task, priority);
                Some(candidates[candidate.min(n - 1)])
            }
        };
        self.candidates = candidates;
        if let Some(at) = choice {
            self.enqueue(id, task, at.device, at.estimate_ns);
        }
    }

    /// A task, as a policy sees it.
    fn ready(&self, graph: GraphId, task: TaskId) -> Ready {
        Ready { graph, task, level_ns: self.jobs[&graph].tasks.priority(task) }
    }

    /// A living device that could run the task if it were not stuck, and has not been for too long.
    pub(super) fn last_resort(&self, id: GraphId, task: TaskId) -> Option<(DeviceId, u64)> {
        let job = &self.jobs[&id];
        let stuck = |d: &super::DeviceLane| d.alive && !d.takes() && self.watch.may_come_back(d.seats.wedged_since());
        let able = self.devices.iter().enumerate().filter(|(_, d)| stuck(d) && d.spec.space == HOST);
        { able }
            .map(|(at, _)| DeviceId::at(at))
            .filter(|&at| job.may_run_on(task, at))
            .find_map(|at| Some((at, job.estimate(task, at)?)))
    }

    fn enqueue(&mut self, id: GraphId, task: TaskId, at: DeviceId, estimate_ns: u64) {
        let job = self.jobs.get_mut(&id).expect("a ready task belongs to a job");
        job.tasks.put(task, at, TaskState::Ready);
        self.queued += 1;
        let device = &mut self.devices[at.index()];
        device.ready.insert(id, job.tasks.priority(task), task);
        device.queued_ns = device.queued_ns.saturating_add(estimate_ns);
        let Some(link) = device.spec.link else { return };
        job.count_queued(task, true);
        device.links[1].planned_ns += results_ns(job, task, link[1]);
        for value in job.graph.reads(task) {
            let kept = |chunk| self.sources.has(chunk, device.spec.space);
            if !job.is_in(value, device.spec.space) && !job.chunk(value).is_some_and(kept) {
                device.plan(id, value, link[0].transfer_ns(job.graph.bytes(value)));
            }
        }
    }

    /// Takes a task out of its device's queue.
    pub(super) fn dequeue(&mut self, id: GraphId, task: TaskId) {
        let job = self.jobs.get_mut(&id).expect("a queued task belongs to a job");
        let at = job.tasks.device(task);
        let estimate = job.estimate(task, at).unwrap_or(0);
        let device = &mut self.devices[at.index()];
        if !device.ready.remove(id, job.tasks.priority(task), task) {
            return;
        }
        device.queued_ns = device.queued_ns.saturating_sub(estimate);
        let Some(link) = device.spec.link else { return };
        job.count_queued(task, false);
        device.links[1].planned_ns -= results_ns(job, task, link[1]);
        for value in job.graph.reads(task) {
            device.unplan(id, value);
        }
    }

    /// What running the task on the device would take, if it can.
    fn candidate(&self, id: GraphId, task: TaskId, at: DeviceId) -> Option<Candidate> {
        let job = &self.jobs[&id];
        let device = &self.devices[at.index()];
        let estimate_ns = job.estimate(task, at).filter(|_| self.serves(job, task, at))?;
        let (mut inward, mut backlog, mut out) = (None, 0u64, 0u64);
        let mut waits = device.start_in(self.now).max(job.compiling_in(task, at, self.now));
        if self.has_links {
            if device.spec.space != HOST && job.touches_opaque(task) {
                return None;
            }
            for value in job.graph.reads(task) {
                if self.has(job, value, device.spec.space) || device.plans(id, value) {
                    continue;
                }
                let (queue, link) = match device.spec.link {
                    Some(link) => (&device.links[0], link[0]),
                    None => self.link_back(id, value)?,
                };
                let mut ns = link.transfer_ns(job.graph.bytes(value));
                if let Some(chunk) = job.chunk(value).filter(|_| device.spec.link.is_some()) {
                    ns -= self.worth(chunk, device.spec.space, (ns, job.graph.bytes(value)));
                }
                inward = Some(inward.unwrap_or(0) + ns);
                backlog = backlog.max(queue.backlog(self.now));
            }
            if let Some(inward) = inward {
                waits = waits.max(backlog.saturating_add(inward));
            }
            out = device.spec.link.map_or(0, |link| results_ns(job, task, link[1]));
        }
        // That a device behind a link is done is known to the host only as late as a message crosses.
        let told = device.spec.link.map_or(0, |link| link[1].latency_ns);
        let mut finish_ns = waits.saturating_add(estimate_ns).saturating_add(told);
        if out > 0 {
            finish_ns = finish_ns.max(device.links[1].backlog(self.now)).saturating_add(out);
        }
        Some(Candidate { device: at, kind: device.spec.kind, estimate_ns, transfer_ns: inward.unwrap_or(0) + out, finish_ns })
    }

    /// How much of the `ns` that the move of a chunk takes has been lost already for want of a copy: after that, the move is
    /// free. If it displaces another copy, it has to be worth two.
    fn worth(&self, chunk: u32, space: SpaceId, (ns, bytes): (u64, u64)) -> u64 {
        let regret = self.sources.regret(chunk, space);
        let regret = if self.memory.fits(space, bytes) { regret } else { regret.saturating_sub(ns) };
        regret.min(ns)
    }

    /// How much of the moves that a queued task asks of a device's link has been lost already.
    fn paid(&self, id: GraphId, task: TaskId, at: DeviceId) -> u64 {
        let (job, spec) = (&self.jobs[&id], &self.devices[at.index()].spec);
        let Some([link, _]) = spec.link.filter(|_| job.has_chunks()) else { return 0 };
        let missing = job.graph.reads(task).filter(|&value| !self.has(job, value, spec.space));
        let worth = |value| {
            let bytes = job.graph.bytes(value);
            job.chunk(value).map_or(0, |chunk| self.worth(chunk, spec.space, (link.transfer_ns(bytes), bytes)))
        };
        missing.map(worth).sum()
    }

    /// A task has run in host memory. What another device would have saved, if the chunks of callers' arrays that the task
    /// reads had been there, is remembered with the chunks, by the time of their moves.
    pub(super) fn regret(&mut self, id: GraphId, task: TaskId, at: DeviceId) {
        let job = &self.jobs[&id];
        let Some(here) = job.estimate(task, at) else { return };
        let far = (0..self.devices.len()).map(DeviceId::at).filter(|d| self.devices[d.index()].spec.link.is_some());
        let able = far.filter(|&d| self.serves(job, task, d)).filter_map(|d| Some((job.estimate(task, d)?, d)));
        let Some((there, device)) = able.min().filter(|&(there, _)| there < here) else { return };
        let spec = &self.devices[device.index()].spec;
        let Some([link, _]) = spec.link else { return };
        let mut missing: Vec<(u32, u64)> = Vec::new();
        for value in job.graph.reads(task).filter(|&value| !self.has(job, value, spec.space)) {
            if let Some(chunk) = job.chunk(value).filter(|chunk| missing.iter().all(|m| m.0 != *chunk)) {
                missing.push((chunk, link.transfer_ns(job.graph.bytes(value)).max(1)));
            }
        }
        let (space, all) = (spec.space, missing.iter().map(|m| u128::from(m.1)).sum::<u128>());
        for (chunk, ns) in missing {
            self.sources.regrets(chunk, space, (u128::from(here - there) * u128::from(ns) / all) as u64);
        }
    }

    /// Whether a device takes launches, and its space can hold what the task needs there.
    pub(super) fn serves(&self, job: &Job, task: TaskId, at: DeviceId) -> bool {
        let device = &self.devices[at.index()];
        if !device.takes() || !job.may_run_on(task, at) {
            return false;
        }
        let limit = if device.spec.space == HOST { u64::MAX } else { self.memory.limit(device.spec.space) };
        job.all_fit(&device.spec, limit) || job.room_for(task, &device.spec) <= limit
    }

    /// The link by which a value that is only elsewhere comes back to the host.
    fn link_back(&self, id: GraphId, value: ValueId) -> Option<(&LinkQueue, LinkSpec)> {
        let job = &self.jobs[&id];
        let space = job.of(value).map(|r| job.replica(r).space).find(|&s| s != HOST)?;
        let device = self.devices.iter().find(|d| d.alive && d.spec.space == space && d.spec.link.is_some())?;
        device.spec.link.map(|link| (&device.links[1], link[1]))
    }

    /// The measured speed of a device's link replaces what was believed. What is planned was counted at the old one.
    pub(super) fn relink(&mut self, at: DeviceId, link: [LinkSpec; 2]) {
        let (jobs, device) = (&self.jobs, &mut self.devices[at.index()]);
        if device.spec.link.is_none() || !link.iter().all(|l| l.bytes_per_s > 0.0) {
            return;
        }
        device.spec.link = Some(link);
        device.links[1].planned_ns = device.ready.all().map(|(id, task)| results_ns(&jobs[&id], task, link[1])).sum();
        device.replan(|id, value| link[0].transfer_ns(jobs[&id].graph.bytes(value)));
    }

    /// Gives work to every device that has room.
    pub(super) fn dispatch(&mut self, actions: &mut Vec<Action>) {
        self.admit_pending(actions);
        for index in 0..self.devices.len() {
            self.pump(DeviceId::at(index), actions);
        }
        if self.is_at_rest() && !self.admission.active.is_empty() {
            self.force_next(actions);
        }
        if self.nesting > 0 && self.all_wait() {
            self.share_places(actions);
        }
    }

    /// Every worker that has work waits for a graph. Those graphs may wait for each other's workers, of another lane for example: then a task of
    /// any of them may have the place of a worker that waits for another.
    fn share_places(&mut self, actions: &mut Vec<Action>) {
        let awaited: std::collections::BTreeSet<GraphId> = self.devices.iter().flat_map(|d| d.seats.lenders()).collect();
        for index in 0..self.devices.len() {
            self.devices[index].seats.shared.clone_from(&awaited);
            self.pump(DeviceId::at(index), actions);
            self.devices[index].seats.shared.clear();
        }
    }

    /// Nothing runs: then the sequentially next task of each graph goes to any device whose memory takes it, even if it was placed
    /// elsewhere. If none can go, what was made ahead of its turn is dropped; if that does not help, the graphs end.
    fn force_next(&mut self, actions: &mut Vec<Action>) {
        let mut stuck = self.commit_next(actions);
        if self.is_at_rest() && !stuck.is_empty() && self.sacrifice(actions) {
            (0..self.devices.len()).for_each(|at| self.pump(DeviceId::at(at), actions));
            stuck = if self.is_at_rest() { self.commit_next(actions) } else { Vec::new() };
        }
        if !self.is_at_rest() {
            return;
        }
        for (id, task) in stuck {
            let able = (0..self.devices.len()).map(DeviceId::at).find(|&d| self.candidate(id, task, d).is_some());
            let host = able.map_or(0, |at| self.need(id, task, at).0);
            actions.push(match host > 0 && !self.fits_host(host) {
                true => Action::NoMemory { graph: id, task, bytes: host, used_bytes: self.memory.used(HOST) },
                false => Action::Stalled { graph: id, task, device: None, waited_ns: 0, predicted_ns: 0 },
            });
            self.stop(id, actions);
        }
    }

    /// Commits the next task of each graph wherever memory takes it; says which ones it takes nowhere.
    fn commit_next(&mut self, actions: &mut Vec<Action>) -> Vec<(GraphId, TaskId)> {
        let mut stuck = Vec::new();
        for id in self.admission.active.iter().copied().collect::<Vec<_>>() {
            let Some(job) = self.jobs.get(&id) else { continue };
            let Some(task) = job.tasks.next_queued().filter(|_| !job.life.failed) else { continue };
            let able = |d: &DeviceId| self.candidate(id, task, *d).is_some();
            let able: Vec<DeviceId> = (0..self.devices.len()).map(DeviceId::at).filter(able).collect();
            if able.is_empty() && self.last_resort(id, task).is_some() {
                continue; // it waits for a device that is stuck
            }
            let admitted = able.into_iter().find_map(|at| Some((at, self.admits(id, task, at, actions)?)));
            if let Some((at, host_bytes)) = admitted {
                self.dequeue(id, task);
                self.commit((id, task, host_bytes), at, actions);
                self.pump(at, actions);
            } else if !self.is_awaited(id, task) {
                stuck.push((id, task));
            }
        }
        stuck
    }

    fn pump(&mut self, at: DeviceId, actions: &mut Vec<Action>) {
        loop {
            while let Some(item) = self.devices[at.index()].next_launchable() {
                self.launch(at, item, actions);
            }
            let found = match self.devices[at.index()].may_commit(self.now) {
                Offer::Nobodys => None,
                Offer::Awaited => self.pick(at, true, actions),
                Offer::Anybodys => self.pick(at, false, actions).or_else(|| self.steal(at, actions)),
            };
            let Some(admitted) = found else { return };
            self.dequeue(admitted.0, admitted.1);
            self.commit(admitted, at, actions);
        }
    }

    /// The next task of the device's own queue that memory admits: of the graph whose turn it is, or of a later one. Only of graphs that
    /// workers of the device wait for, if `awaited`.
    fn pick(&mut self, at: DeviceId, awaited: bool, actions: &mut Vec<Action>) -> Option<Admitted> {
        let device = &self.devices[at.index()];
        let first = device.ready.graphs().next()?;
        if !awaited {
            // The usual case.
            let task = device.ready.of(first).next()?;
            if let Some(host_bytes) = self.admits(first, task, at, actions) {
                return Some((first, task, host_bytes));
            }
        }
        let device = &self.devices[at.index()];
        let graphs: Vec<GraphId> = match awaited {
            true => device.ready.graphs().filter(|&graph| device.may_commit_of(graph)).collect(),
            false => device.ready.graphs().take(LOOK).collect(),
        };
        for &id in &graphs {
            let mut tasks = [None; LOOK];
            self.devices[at.index()].ready.of(id).zip(&mut tasks).for_each(|(task, place)| *place = Some(task));
            let admit = |task| Some((id, task, self.admits(id, task, at, actions)?));
            if let Some(admitted) = tasks.into_iter().flatten().find_map(admit) {
                return Some(admitted);
            }
        }
        // The sequentially next task of a graph is admitted where others are not. Mostly that of the first graph is, so that it does not matter how
        // many there are.
        if awaited {
            return graphs.into_iter().find_map(|id| self.next_of(id, at, actions));
        }
        let mut turn = None;
        while let Some(next) = self.devices[at.index()].ready.next_turn(turn) {
            let found = self.next_of(next.1, at, actions);
            if found.is_some() {
                return found;
            }
            turn = Some(next);
        }
        None
    }

    /// The sequentially next task of a graph, if it is queued at this device and memory admits it.
    fn next_of(&mut self, id: GraphId, at: DeviceId, actions: &mut Vec<Action>) -> Option<Admitted> {
        let tasks = &self.jobs[&id].tasks;
        let task = tasks.next_queued().filter(|&task| tasks.device(task) == at)?;
        Some((id, task, self.admits(id, task, at, actions)?))
    }

    /// The bytes of host memory that a task takes, if it may take all its memory now.
    fn admits(&mut self, id: GraphId, task: TaskId, at: DeviceId, actions: &mut Vec<Action>) -> Option<u64> {
        let (space, job) = (self.devices[at.index()].spec.space, &self.jobs[&id]);
        let too_early = job.tasks.frontier < job.tasks.strictly && job.tasks.frontier != task.index();
        if too_early || space != HOST && self.old_comes_home(id, task) {
            return None;
        }
        let (host, there) = self.need(id, task, at);
        if host > 0 && !self.admits_host(id, task, host) {
            return None;
        }
        if there == 0 || self.memory.fits(space, there) {
            return Some(host);
        }
        // What goes to make room may be wanted.
        self.make_room(space, there, Some((id, task)), actions).then(|| self.need(id, task, at).0)
    }

    /// Whether an old value that the task updates is being written back to the window that the new one will need.
    fn old_comes_home(&self, id: GraphId, task: TaskId) -> bool {
        let job = &self.jobs[&id];
        let coming = |old: ValueId| {
            let home = job.find(old, HOST, PLAIN).map(|at| job.replica(at));
            home.is_some_and(|r| r.place == Location::Home && r.arrival != Arrival::Ready)
        };
        job.graph.outputs(task).any(|output| {
            let old = output.updates.filter(|&old| job.graph.window_id(old) == job.graph.window_id(output.value));
            old.is_some_and(|old| job.graph.window_id(old).is_some() && coming(old))
        })
    }

    fn admits_host(&self, id: GraphId, task: TaskId, bytes: u64) -> bool {
        // P is proved, so the next task fits; after a fault it may not: then what was made out of order goes, see `force_next`.
        let is_next = self.jobs[&id].tasks.frontier == task.index();
        self.fits_host(bytes) && (is_next || self.shares(bytes) && !self.runs_ahead(id, task, bytes))
    }

    /// Whether a task reads nothing that other tasks make, while its graph has already much that was made before its turn. Such tasks are ready from the start, and urgent, because
    /// all else comes after them: without a bound the whole of what a reduction reads would be made first, in memory that has to be had from the system, rather
    /// than in that which the chunks before have left.
    fn runs_ahead(&self, id: GraphId, task: TaskId, bytes: u64) -> bool {
        let job = &self.jobs[&id];
        let ahead = job.tasks.charges.extra().saturating_add(bytes);
        ahead > AHEAD_BYTES
            && ahead > bytes.saturating_mul(AHEAD_TASKS * u64::from(self.host_workers()))
            && job.graph.reads(task).all(|value| job.graph.producer(value).is_none())
    }

    /// Whether this much host memory is within the limit, or, if that was lowered, within what was promised and taken before.
    pub(super) fn fits_host(&self, bytes: u64) -> bool {
        let promised = self.admission.promised.saturating_add(self.admission.extra);
        self.memory.used(HOST).saturating_add(bytes) <= self.memory.limit(HOST).max(promised)
    }

    /// Whether this much host memory may be taken out of sequential order: within the limit, less what is promised to the graphs that run
    /// and what the first of those that wait needs to start.
    pub(super) fn shares(&self, bytes: u64) -> bool {
        let a = &self.admission;
        a.extra.saturating_add(bytes).saturating_add(a.promised).saturating_add(a.claim) <= self.memory.limit(HOST)
    }

    /// A task queued for another device that this idle one would finish before the other gets through its queue.
    fn steal(&mut self, at: DeviceId, actions: &mut Vec<Action>) -> Option<Admitted> {
        if !self.policy.steals() || self.devices[at.index()].spec.link.is_some() && !self.devices[at.index()].is_free() {
            return None;
        }
        // Time alone makes nothing that was not worth it worth it: both would be through sooner.
        let changes = self.queued + self.crossed + self.devices[at.index()].ended;
        if self.devices[at.index()].not_stolen == changes {
            return None;
        }
        let mut refused = false;
        for victim in 0..self.devices.len() {
            if victim == at.index() || self.devices[victim].ready.is_empty() {
                continue;
            }
            let drain = self.devices[victim].drain(self.now);
            let from_back = self.devices[at.index()].spec.space == HOST;
            let ready = &self.devices[victim].ready;
            let graphs = ready.graphs().take(LOOK).filter(|id| self.jobs[id].has_work_for(at));
            let keys: Vec<(GraphId, TaskId)> = if from_back {
                graphs.flat_map(|id| ready.of(id).rev().map(move |task| (id, task))).take(LOOK).collect()
            } else {
                graphs.flat_map(|id| ready.of(id).map(move |task| (id, task))).take(LOOK).collect()
            };
            for (id, task) in keys {
                // What has yet to be compiled there begins no sooner, however short the queue is.
                let drain = drain.max(self.jobs[&id].compiling_in(task, DeviceId::at(victim), self.now));
                // Moves that have been paid for by waiting are no reason to come back.
                let drain = drain.saturating_sub(self.paid(id, task, DeviceId::at(victim)));
                // Whatever waits for it, it takes its own time.
                let hopeless = self.jobs[&id].estimate(task, at).is_none_or(|ns| ns >= drain);
                let thief = if hopeless { None } else { self.candidate(id, task, at) };
                let sooner = thief.is_some_and(|thief| self.policy.steal(self.ready(id, task), &thief, drain));
                if sooner {
                    if let Some(host_bytes) = self.admits(id, task, at, actions) {
                        return Some((id, task, host_bytes));
                    }
                    refused = true; // for now: memory comes free at any time
                }
            }
        }
        if !refused {
            self.devices[at.index()].not_stolen = changes;
        }
        None
    }

    /// Starts a launchable item on a device with room.
    fn launch(&mut self, at: DeviceId, item: Queued, actions: &mut Vec<Action>) {
        match item {
            Queued::Task(id, task) if self.jobs[&id].life.disturbed && !self.still_fits(id, task, at, actions) => {
                self.recommit(id, task, at, actions);
            }
            Queued::Task(id, task) => self.launch_task(at, id, task, actions),
            Queued::Pack(id, value, replica) => self.launch_pack(at, id, value, replica, actions),
        }
    }
}

/// Time on the link for a task's final values.
fn results_ns(job: &Job, task: TaskId, link: LinkSpec) -> u64 {
    let finals = job.graph.outputs(task).filter(|o| job.graph.is_final(o.value));
    finals.map(|o| link.transfer_ns(job.graph.bytes(o.value))).sum()
}
