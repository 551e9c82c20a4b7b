//! Which graphs run, and what host memory is promised to them: from submission to the last byte given back.
//!
//! Owns: [`Admission`], the start, end and burial of graphs. Must not know: where tasks run. Invariant: what the graphs that run were promised,
//! plus what their tasks take out of order, stays within the host's limit; so each of them can always go on with its next task.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::event::{Action, Estimates};
use super::job::Job;
use super::progress::TaskState;
use super::{DeviceLane, Scheduler, peak, tables};
use crate::device::HOST;
use crate::id::{GraphId, TaskId};
use crate::task::TaskGraph;

/// Graphs that wait and are looked at, when memory has come free.
const LOOK: usize = 32;
/// Times that a waiting graph may be passed over by later ones that fit beside those that run.
const PASSES: u32 = 16;

/// Host memory that a graph holds besides pooled chunks.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldBytes {
    /// Results and tables: held until the graph is retired.
    pub(super) results: u64,
    /// Scratch of every worker, what kernels hold, and callers' arrays without a number: held while it runs.
    pub(super) working: u64,
    /// Callers' arrays, (number, bytes): held while it runs, and counted once, whoever else runs on them.
    pub(super) callers: Box<[(u64, u64)]>,
}

impl HeldBytes {
    /// What a graph of these arrays holds.
    pub(super) fn new(graph: &TaskGraph, scratch_bytes: u64, workers: u32) -> Self {
        let scratch = scratch_bytes.saturating_mul(u64::from(workers));
        let (tables, working) = (tables::table_bytes(graph), scratch.saturating_add(graph.held_bytes()));
        let mut base = Self { results: tables, working, callers: Box::default() };
        let mut callers = BTreeMap::new();
        for array in graph.arrays() {
            match (array.result, array.source) {
                (true, _) => base.results = base.results.saturating_add(array.bytes()),
                (false, 0) => base.working = base.working.saturating_add(array.bytes()),
                (false, source) => {
                    let bytes: &mut u64 = callers.entry(source).or_default();
                    *bytes = (*bytes).max(array.bytes());
                }
            }
        }
        base.callers = callers.into_iter().collect();
        base
    }

    pub(super) fn bytes(&self) -> u64 {
        self.callers.iter().fold(self.results.saturating_add(self.working), |sum, c| sum.saturating_add(c.1))
    }
}

/// See the module's text.
#[derive(Default)]
pub(super) struct Admission {
    /// Graphs that wait until others give memory back, because both do not fit: first those that tasks wait for, then the rest, each in
    /// order of submission. Graphs that were retired meanwhile are skipped.
    pending: VecDeque<GraphId>,
    /// Graphs that run.
    pub(super) active: BTreeSet<GraphId>,
    /// Bytes promised to the graphs that are not buried: what they hold, and the peak of those that run.
    pub(super) promised: u64,
    /// The part of it that results hold which nobody has taken yet.
    held: u64,
    /// Bytes taken out of sequential order: the sum of the graphs' `extra`.
    pub(super) extra: u64,
    /// What is kept from tasks out of order, so that the first graph that waits can start.
    pub(super) claim: u64,
    /// Callers' arrays that graphs use: (bytes, how many graphs).
    callers: BTreeMap<u64, (u64, u32)>,
    /// What was free when the waiting graphs were last looked at; `None` if one has come since.
    looked: Option<u64>,
}

impl Admission {
    pub(super) fn is_idle(&self) -> bool {
        self.promised == 0 && self.held == 0 && self.extra == 0 && self.callers.is_empty() && self.active.is_empty()
    }

    /// What a graph would add to what is promised.
    fn wanted(&self, job: &Job) -> u64 {
        let new = job.promise.base.callers.iter().filter(|(source, _)| !self.callers.contains_key(source));
        new.fold(
            job.promise.base.results.saturating_add(job.promise.base.working).saturating_add(job.promise.peak),
            |sum, c| sum.saturating_add(c.1),
        )
    }
}

impl Scheduler {
    /// The proven peak of host memory for a graph: arrays and scratch, and pooled chunks in sequential order.
    #[must_use]
    pub fn peak_bytes(graph: &TaskGraph, scratch_bytes: u64, workers: u32) -> u64 {
        HeldBytes::new(graph, scratch_bytes, workers).bytes().saturating_add(peak::sequential_peak(graph).0)
    }

    /// The task at which a graph's pooled chunks take most memory.
    #[must_use]
    pub fn peak_task(graph: &TaskGraph) -> Option<TaskId> {
        peak::sequential_peak(graph).1
    }

    /// Whether a graph waits for memory that only those give back which wait themselves: nothing runs but tasks that wait for graphs. Those of
    /// other sessions may be at work.
    #[must_use]
    pub fn is_stuck(&self, graph: GraphId) -> bool {
        let waits = self.jobs.get(&graph).is_some_and(|job| !job.life.started && !job.life.finished);
        let late = || self.admission.active.iter().any(|&id| self.is_awaited(id, TaskId::at(self.jobs[&id].tasks.frontier)));
        waits && self.all_wait() && !late()
    }

    /// Whether there are results that nobody has taken.
    #[must_use]
    pub fn holds_results(&self) -> bool {
        self.admission.held > 0
    }

    /// Whether nothing moves unless something new is begun: nothing is under way but launches that wait for graphs.
    pub(super) fn is_at_rest(&self) -> bool {
        self.only_wait(|graph| self.jobs.contains_key(&graph))
    }

    /// Whether nothing is under way but launches that wait for graphs, be they of other sessions.
    #[must_use]
    pub fn all_wait(&self) -> bool {
        self.only_wait(|_| true)
    }

    fn only_wait(&self, stays: impl Fn(GraphId) -> bool) -> bool {
        let waits = |f: &&super::Flight| f.abandoned.is_none() && f.clock.waits_for().is_some_and(&stays);
        self.flying == 0 || self.nesting > 0 && self.flying <= self.launches.values().filter(waits).count()
    }

    pub(super) fn host_workers(&self) -> u32 {
        self.devices.iter().filter(|d| d.alive && d.spec.space == HOST).map(|d| d.spec.workers).sum()
    }

    /// Takes a graph in; `within` others, if a task of the first of them waits for it.
    pub(super) fn submit(
        &mut self,
        (id, within): (GraphId, Option<Arc<[GraphId]>>),
        tasks: Arc<TaskGraph>,
        estimates: &[Estimates],
        scratch: u64,
        actions: &mut Vec<Action>,
    ) {
        let base = HeldBytes::new(&tasks, scratch, self.host_workers());
        let within = within.filter(|outer| !outer.is_empty());
        let nested = within.is_some();
        let job = Job::new(tasks, (estimates, self.now), base, nested);
        let (base, limit) = (job.promise.base.bytes(), self.memory.limit(HOST));
        let peak = base.saturating_add(job.promise.peak);
        if peak > limit {
            let task = job.promise.peak_task.filter(|_| base <= limit);
            actions.push(Action::Refused { graph: id, task, peak_bytes: peak, limit_bytes: limit });
            return;
        }
        self.jobs.insert(id, job);
        if let Some(outer) = within {
            self.devices.iter_mut().for_each(|device| device.seats.nest(id, outer.clone()));
        }
        if self.has_links {
            self.prepare(id);
        }
        let nests = |g: &&GraphId| self.jobs.get(g).is_none_or(|job| job.life.nested);
        let at = if nested { self.admission.pending.iter().take_while(nests).count() } else { self.admission.pending.len() };
        self.admission.pending.insert(at, id);
        self.admission.looked = None;
    }

    /// Starts graphs that fit beside those that run, in order; one that does not fit is passed over a bounded number of times, by
    /// graphs that tasks wait for any number.
    pub(super) fn admit_pending(&mut self, actions: &mut Vec<Action>) {
        if self.admission.pending.is_empty() {
            return;
        }
        let free = |s: &Self| s.memory.limit(HOST).saturating_sub(s.admission.promised).saturating_sub(s.admission.extra);
        if self.admission.looked.is_some_and(|looked| free(self) <= looked) {
            return;
        }
        let (mut at, mut patient) = (0, true);
        self.admission.claim = 0;
        // Those behind them, too, if nothing runs that could end.
        while let Some(&id) = self.admission.pending.get(at).filter(|_| at < LOOK || self.admission.active.is_empty()) {
            let Some(job) = self.jobs.get(&id) else {
                self.admission.pending.remove(at);
                continue;
            };
            let (wanted, promised) = (self.admission.wanted(job), self.admission.promised);
            let fits = wanted <= free(self) || promised == 0;
            if fits && (patient || job.life.nested) {
                self.admission.pending.remove(at);
                self.begin(id, actions);
                let earlier: Vec<GraphId> = self.admission.pending.iter().take(at).copied().collect();
                earlier.into_iter().filter_map(|g| self.jobs.get_mut(&g).map(|job| job.life.passed += 1)).for_each(drop);
                continue;
            }
            if self.admission.claim == 0 && promised.saturating_add(wanted) <= self.memory.limit(HOST) {
                self.admission.claim = wanted;
            }
            // What results hold that nobody takes is nothing that those who come later could wait for.
            let waits_for_runs = self.admission.held.saturating_add(wanted) <= self.memory.limit(HOST);
            patient &= job.life.passed < PASSES || !waits_for_runs;
            at += 1;
        }
        self.admission.looked = Some(free(self));
    }

    /// A graph runs from now on.
    fn begin(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        let job = self.jobs.get_mut(&id).expect("just looked at");
        job.life.started = true;
        let mut bytes = job.promise.base.results + job.promise.base.working;
        for &(source, size) in &job.promise.base.callers {
            let entry = self.admission.callers.entry(source).or_insert((size, 0));
            bytes += if entry.1 == 0 { entry.0 } else { 0 };
            entry.1 += 1;
        }
        self.admission.promised += bytes + job.promise.peak;
        self.admission.active.insert(id);
        self.memory.reserve(HOST, bytes, actions);
        for task in self.jobs[&id].graph.tasks() {
            if self.jobs[&id].tasks.is_first(task) {
                self.on_ready(id, task, actions);
            }
        }
        self.finish_if_over(id, actions);
    }

    pub(super) fn finish_if_over(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let complete = job.life.started && job.tasks.remaining == 0 && job.copies.homeless == 0;
        let (quiet, failed, retired, started) = (job.life.flying == 0, job.life.failed, job.life.retired, job.life.started);
        if !job.life.finished && quiet && (complete || failed) {
            job.life.finished = true;
            actions.push(Action::Finished { graph: id });
            if started {
                let kept = self.sweep(id, !failed, actions);
                self.give_back(id, kept);
            }
        }
        if retired && quiet {
            self.bury_job(id, actions);
        }
    }

    /// A graph that is over needs no more than its results, and `kept` bytes of results that are not in them.
    fn give_back(&mut self, id: GraphId, kept: u64) {
        let job = self.jobs.get_mut(&id).expect("only asked for graphs that are there");
        let mut bytes = std::mem::take(&mut job.promise.base.working);
        for (source, _) in std::mem::take(&mut job.promise.base.callers) {
            let Some(entry) = self.admission.callers.get_mut(&source) else { continue };
            entry.1 -= 1;
            if entry.1 == 0 {
                bytes += entry.0;
                self.admission.callers.remove(&source);
            }
        }
        self.memory.unreserve(HOST, bytes);
        let peak = std::mem::replace(&mut job.promise.peak, kept);
        self.admission.promised = self.admission.promised - bytes - peak + kept;
        self.admission.held = match self.admission.active.remove(&id) {
            true => self.admission.held + job.promise.base.results + kept,
            false => self.admission.held - peak + kept,
        };
        self.admission.extra -= job.tasks.charges.clear();
        // More may be held now by results, for which nobody who waits has to be patient.
        self.admission.looked = None;
    }

    /// A graph needs so much more than was proved, because a window of its result cannot be used for now.
    pub(super) fn promise_more(&mut self, id: GraphId, bytes: u64) {
        self.jobs.get_mut(&id).expect("it runs").promise.peak += bytes;
        self.admission.promised += bytes;
    }

    /// The window can be used after all.
    pub(super) fn promise_less(&mut self, id: GraphId, bytes: u64) {
        self.jobs.get_mut(&id).expect("it runs").promise.peak -= bytes;
        self.admission.promised -= bytes;
    }

    /// Forgets a graph: its buffers are free, its arrays the caller's.
    pub(super) fn retire(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            (job.life.failed, job.life.retired) = (true, true);
            self.withdraw(id);
            self.finish_if_over(id, actions);
        }
        if self.jobs.is_empty() {
            self.memory.release_cached(HOST, actions);
        }
    }

    fn bury_job(&mut self, id: GraphId, actions: &mut Vec<Action>) {
        if self.jobs[&id].life.started {
            self.sweep(id, false, actions);
            self.give_back(id, 0);
            let results = self.jobs[&id].promise.base.results;
            self.admission.promised -= results;
            self.admission.held -= results;
            self.memory.unreserve(HOST, results);
        }
        let chunks = self.jobs.remove(&id).into_iter().flat_map(|mut job| job.copies.take_chunks());
        chunks.for_each(|chunk| self.sources.leave(id, chunk));
        self.devices.iter_mut().for_each(|device: &mut DeviceLane| {
            device.ready.forget(id);
            device.seats.forget(id);
        });
        self.scrap_set_aside(id, actions);
        // A device that is gone reports no more.
        let devices = &self.devices;
        self.strays.retain(|_, (graph, _)| *graph != id);
        self.launches.retain(|_, f| f.graph != id || devices[f.device.index()].alive);
        // One that waited may have had a claim.
        self.admission.looked = None;
    }

    /// The graphs that have begun and are not over.
    pub(crate) fn running(&self) -> impl Iterator<Item = GraphId> {
        self.admission.active.iter().copied()
    }

    /// Whether a graph has begun and is not over.
    pub(super) fn runs(&self, id: GraphId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.life.started && !job.life.finished)
    }
}

/// Tasks that wait in a queue.
pub(super) fn queued(job: &Job) -> Vec<TaskId> {
    job.graph.tasks().filter(|&t| job.tasks.state(t) == TaskState::Ready).collect()
}
