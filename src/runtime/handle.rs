//! Waiting for a run.
//!
//! Owns: [`Handle`]. Must not know: decisions. Invariant: whoever waits also looks for stalled tasks, and a worker that waits works
//! meanwhile; so no wait is for ever.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::driver::{Inner, SessionState};
use super::idle::RunEnd;
use super::results::{displaced, move_home};
use super::run::Run;
use super::{Results, RunReport, Session};
use crate::device::{self, Device, HOST, Origin};
use crate::error::{Error, Remedy, Result};
use crate::id::{DeviceId, GraphId, LaunchId};
use crate::schedule::{Event, Placement};

/// Most tasks of one run whose times are learned from.
const LEARN: usize = 4096;
/// How long a worker that has nothing to do sleeps, at most, while it waits.
const NAP: Duration = Duration::from_millis(1);
/// How long nothing happens before a run is refused that only tasks which wait for it could give memory.
const HOPELESS: Duration = Duration::from_millis(500);
/// How long nothing happens before a worker that waits does what it does not wait for, and how often on one stack.
const RESCUE_AFTER: Duration = Duration::from_millis(10);
const RESCUES_DEEP: u32 = 32;

/// A computation under way. Dropping it cancels what has not begun.
#[must_use = "a computation that nobody waits for is cancelled"]
pub struct Handle {
    pub(super) session: Session,
    pub(super) id: GraphId,
    pub(super) asked: Instant,
    pub(super) plan_s: f64,
    pub(super) predicted_s: f64,
    pub(super) peak_bound_bytes: u64,
    pub(super) taken: bool,
    /// Since when nothing has happened, as far as those know who wait for it.
    pub(super) quiet: Mutex<Quiet>,
}

impl Handle {
    /// Whether it is over. On a worker, which works for it meanwhile, the answer may take as long as one task.
    #[must_use]
    pub fn is_done(&self) -> bool {
        if device::current().is_some() {
            // A task that only asks, again and again, waits too: who else would run what it waits for?
            return self.wait_timeout(Duration::ZERO);
        }
        self.session.0.tick_if_due();
        self.refuse_if_hopeless();
        self.doze(Duration::ZERO)
    }

    /// Tasks done, and tasks in all.
    #[must_use]
    pub fn progress(&self) -> (usize, usize) {
        self.session
            .0
            .lock()
            .runs
            .get(&self.id)
            .map_or((0, 0), |run| (run.record.spans.len().min(run.graph().len()), run.graph().len()))
    }

    /// Predicted seconds of the run.
    #[must_use]
    pub fn predicted_s(&self) -> f64 {
        self.predicted_s
    }

    /// Waits at most this long; true if it is over. On a worker, which works meanwhile, it may take as long as one task longer. (In a task of
    /// this very run it only looks: the run is not over before the task is.)
    #[must_use]
    pub fn wait_timeout(&self, time: Duration) -> bool {
        self.wait_until(Instant::now().checked_add(time))
    }

    /// Waits for the end, and gives the results and what was measured.
    ///
    /// # Errors
    /// What a task reported; [`Error::OutOfMemory`] if the run was refused, or waits for memory that nothing will free;
    /// [`Error::Stalled`]; [`Error::Failed`] in a task of this very run, which fails then, and where it would wait for itself: in
    /// what a device or a kernel is asked while launches are given out (`program`, `Device::launch`), and on a GPU's threads.
    pub fn wait(mut self) -> Result<(Results, RunReport)> {
        self.wait_until(None);
        let inner = self.session.0.clone();
        self.taken = true;
        let (run, elsewhere) = {
            let mut state = inner.lock();
            let Some(run) = state.runs.remove(&self.id) else { return Err(Error::Cancelled) };
            let elsewhere = displaced(&inner, &mut state, &run, self.id);
            (run, elsewhere)
        };
        let total_s = self.asked.elapsed().as_secs_f64();
        self.learn(&run);
        self.session.learn_step(&run);
        let (graph, idle) = (run.graph().clone(), self.idle(&run));
        let Run { fixed, record, error, .. } = run;
        let results = error.map_or_else(|| move_home(fixed, &elsewhere), Err);
        drop(elsewhere);
        inner.apply(Event::Retire { graph: self.id }, |_| ());
        self.session.save_costs();
        let report = RunReport {
            idle,
            graph,
            devices: inner.members.all().iter().map(|m| m.spec.name.clone()).collect(),
            plan_s: self.plan_s,
            predicted_s: self.predicted_s,
            total_s,
            peak_bound_bytes: self.peak_bound_bytes,
            bytes_moved: record.bytes_moved,
            spans: record.spans,
            moves: record.moves,
            submitted_ns: record.submitted_ns,
        };
        Ok((results?, report))
    }

    /// The GPUs that did not do some of the work, and why.
    fn idle(&self, run: &Run) -> Vec<(String, String)> {
        let Some(at_end) = &run.at_end else { return Vec::new() };
        let Inner { members, settings, .. } = &*self.session.0;
        let by_time = settings.placement == Placement::Auto && settings.policy.is_none();
        RunEnd { members: &members.all(), at_end, by_time }.idle(run)
    }

    /// Sleeps at most this long; true if the run is over.
    fn doze(&self, time: Duration) -> bool {
        let inner = &self.session.0;
        let state = inner.lock();
        let over = |state: &super::driver::SessionState| state.runs.get(&self.id).is_none_or(|run| run.over);
        if over(&state) || time.is_zero() {
            return over(&state);
        }
        let state = inner.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
        over(&state)
    }

    fn wait_until(&self, end: Option<Instant>) -> bool {
        let inner = &self.session.0;
        // Before the end is looked at: whoever asks again and again, each time for a moment, waits too.
        inner.tick_if_due();
        if self.doze(Duration::ZERO) {
            return true;
        }
        // A worker helps with what it waits for, and nothing else: so it comes back here as soon as that is done.
        let mine = |origin: &Origin| origin.serves(self.id);
        let origin = device::current();
        if origin.as_ref().is_some_and(mine) {
            return self.wait_within(end);
        }
        let busy = if end.is_none() { HandsOut::busy().or_else(|| Reports::served(inner)) } else { None };
        if let Some(busy) = busy {
            let message = format!("this thread {busy} and would wait for itself; start it here, and wait on another thread");
            self.give_up(Error::Failed { what: "waiting for a computation".into(), message });
            return true;
        }
        // What it waits for may be of another session, and wait for tasks of this worker's in turn.
        let home = origin.as_ref().and_then(session_of);
        let members = home.as_ref().unwrap_or(inner).members.all();
        let own = members.iter().find(|m| m.device.on_worker());
        let _waits = Waits::new(own.map(|_| (self.id, inner)));
        self.refuse_if_hopeless(); // now that it is known who waits
        let asleep = own.map(|m| Asleep::new(home.as_ref().unwrap_or(inner), &*m.device));
        loop {
            let helped = asleep.as_ref().is_some_and(|asleep| asleep.help(&mine) || self.rescue(asleep));
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            let longest = if own.is_some() { NAP } else { inner.tick() };
            if self.doze(if helped { Duration::ZERO } else { left.min(longest) }) {
                return true;
            }
            inner.tick_if_due();
            self.refuse_if_hopeless();
            if end.is_some_and(|end| Instant::now() >= end) {
                return false;
            }
        }
    }

    /// Does a launch that this worker does not wait for, if nothing has happened for a while and all threads of its device wait: there is no other
    /// left for it, and what they wait for may wait for that.
    fn rescue(&self, asleep: &Asleep<'_>) -> bool {
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner).since.elapsed();
        if quiet < RESCUE_AFTER || RESCUES.get() >= RESCUES_DEEP || !asleep.are_all() {
            return false;
        }
        RESCUES.set(RESCUES.get() + 1);
        let helped = asleep.help(&|_| true);
        RESCUES.set(RESCUES.get() - 1);
        helped
    }

    /// As [`Handle::wait_until`], for a task of this very run. It ends before the run does, so it is not helped along by other tasks of the
    /// run, whose stack would lie on its own; and if it would wait for ever, the run fails.
    fn wait_within(&self, end: Option<Instant>) -> bool {
        let Some(end) = end else {
            let message = "one of its tasks waits for the end of all; what a task waits for must be another computation";
            self.give_up(Error::Failed { what: "a computation".into(), message: message.into() });
            return true;
        };
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if self.doze(left.min(self.session.0.tick())) || left.is_zero() {
                return self.doze(Duration::ZERO);
            }
            self.session.0.tick_if_due();
        }
    }

    /// Ends the run with an error, whatever is still under way.
    fn give_up(&self, error: Error) {
        self.session.0.apply(Event::Retire { graph: self.id }, |state| {
            if let Some(run) = state.runs.get_mut(&self.id).filter(|run| !run.over) {
                run.fail(error);
                run.over = true;
            }
        });
    }

    /// Ends a run that waits for memory which only the waiting threads themselves could free: those of results that nobody
    /// takes, or of tasks that wait for this run.
    fn refuse_if_hopeless(&self) {
        let inner = &self.session.0;
        let (stuck, mut happened, mut holds_results, used_bytes) = {
            let SessionState { scheduler, happened, .. } = &*inner.lock();
            (scheduler.is_stuck(self.id), *happened, scheduler.holds_results(), scheduler.used_bytes(HOST))
        };
        if stuck {
            let mut seen = vec![Arc::as_ptr(inner)];
            let Some((elsewhere, holds)) = inner.happened_abroad(&mut seen) else { return };
            happened = happened.wrapping_add(elsewhere);
            holds_results |= holds;
        }
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        if happened != quiet.happened {
            *quiet = Quiet { since: Instant::now(), happened };
        }
        // A task that polls is at work between two looks, and nothing happens all the same. Who could take results may be busy elsewhere; tasks
        // that wait for each other are not.
        let patience = if holds_results { inner.settings.stall_floor } else { inner.settings.stall_floor.min(HOPELESS) };
        if !stuck || quiet.since.elapsed() < patience {
            return;
        }
        drop(quiet);
        let available_bytes = inner.memory_limit.saturating_sub(used_bytes);
        let remedy = "taking the results of earlier computations first, or a higher memory limit";
        self.give_up(Error::OutOfMemory {
            what: "a computation that waits for others to give memory back".into(),
            requested_bytes: self.peak_bound_bytes,
            available_bytes,
            space: "host".into(),
            remedies: vec![Remedy::Other(remedy.into())],
        });
    }

    /// Teaches the cost model what the run measured. The model keeps the last samples of a kernel, so an even sample is told
    /// in an order that is even too: every stretch of it covers the whole run.
    fn learn(&self, run: &Run) {
        let (graph, spans) = (run.graph(), &run.record.spans);
        let n = spans.len();
        // About the golden section of n, and coprime to it: the multiples of it mod n visit all, evenly.
        let coprime =
            |a: &usize| std::iter::successors(Some((*a, n)), |&(x, y)| (x > 0).then(|| (y % x, x))).last() == Some((0, 1));
        let stride = (n * 618 / 1000..n).find(coprime).unwrap_or(1);
        self.session.0.with_costs(|costs| {
            for span in (0..n.min(LEARN)).map(|i| &spans[i * stride % n]).filter(|span| span.measured) {
                if let Some(id) = run.prices.cost_id(graph, span.task, span.device) {
                    costs.record(id, graph.profile(span.task).work, span.end_ns - span.start_ns);
                }
            }
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.taken {
            self.session.0.apply(Event::Retire { graph: self.id }, |state| match state.runs.get_mut(&self.id) {
                // What is under way is still carried to its end; the run goes with the last of it.
                Some(run) if !run.over => {
                    run.unwanted = true;
                    None
                }
                _ => state.runs.remove(&self.id),
            });
        }
    }
}

/// Since when nothing has happened.
pub(super) struct Quiet {
    since: Instant,
    happened: u64,
}

impl Quiet {
    pub(super) fn new() -> Mutex<Self> {
        Mutex::new(Self { since: Instant::now(), happened: 0 })
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, WaitGraph> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events of the other sessions that tasks of this one wait for, in all, and whether any has results that nobody has taken; `None` if any of
    /// those is at work.
    fn happened_abroad(&self, seen: &mut Vec<*const Self>) -> Option<(u64, bool)> {
        let abroad: Vec<Arc<Self>> = self.waiting().abroad.values().filter_map(Weak::upgrade).collect();
        let (mut happened, mut holds) = (0u64, false);
        for other in abroad {
            if seen.contains(&Arc::as_ptr(&other)) {
                continue;
            }
            seen.push(Arc::as_ptr(&other));
            {
                let state = other.lock();
                if !state.scheduler.all_wait() {
                    return None;
                }
                happened = happened.wrapping_add(state.happened);
                holds |= state.scheduler.holds_results();
            }
            let (further, there) = other.happened_abroad(seen)?;
            happened = happened.wrapping_add(further);
            holds |= there;
        }
        Some((happened, holds))
    }
}

/// Who waits inside tasks of a session.
#[derive(Default)]
pub(super) struct WaitGraph {
    /// The other sessions that tasks of this one wait for.
    abroad: BTreeMap<LaunchId, Weak<Inner>>,
    /// By device (its address): threads of it that wait and do nothing meanwhile.
    asleep: BTreeMap<usize, u32>,
}

/// A thread of a device that waits.
struct Asleep<'a> {
    session: &'a Inner,
    device: &'a dyn Device,
}

impl<'a> Asleep<'a> {
    fn new(session: &'a Inner, device: &'a dyn Device) -> Self {
        let asleep = Self { session, device };
        asleep.count(true);
        asleep
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self.device).addr()
    }

    fn count(&self, more: bool) {
        let mut waiting = self.session.waiting();
        let threads = waiting.asleep.entry(self.key()).or_default();
        *threads = if more { *threads + 1 } else { threads.saturating_sub(1) };
    }

    /// Does a launch of its device that is wanted, if there is one. (A panic of a kernel is a report, so it comes back here.)
    fn help(&self, wanted: &dyn Fn(&Origin) -> bool) -> bool {
        self.count(false);
        let helped = self.device.help(wanted);
        self.count(true);
        helped
    }

    /// Whether every thread of the device waits: then there is none left for what is queued.
    fn are_all(&self) -> bool {
        let workers = self.device.spec().workers; // asked before: it may be a user's
        self.session.waiting().asleep.get(&self.key()).is_some_and(|&threads| threads >= workers)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.count(false);
    }
}

thread_local! {
    /// How many launches that it did not wait for lie on this thread's stack.
    static RESCUES: Cell<u32> = const { Cell::new(0) };
    /// Which device's report this thread brings, and to which session (its address).
    static REPORTS: Cell<Option<(usize, DeviceId)>> = const { Cell::new(None) };
    /// Whether this thread has launches to give to devices.
    static HANDS_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Launches that are being made and given to devices on this thread, one after the other. A kernel or a device that is asked meanwhile must not wait
/// for a run: the launches that it holds up have the places of others already.
pub(super) struct HandsOut(bool);

impl HandsOut {
    pub(super) fn new() -> Self {
        Self(HANDS_OUT.replace(true))
    }

    fn busy() -> Option<String> {
        HANDS_OUT.get().then(|| "gives launches to devices".to_owned())
    }
}

impl Drop for HandsOut {
    fn drop(&mut self) {
        HANDS_OUT.set(self.0);
    }
}

/// A report that is brought, and answered, on this thread. What is called meanwhile may wait for another run: not on a thread which that run needs.
pub(super) struct Reports(Option<(usize, DeviceId)>);

impl Reports {
    pub(super) fn new(session: &Arc<Inner>, device: DeviceId) -> Self {
        Self(REPORTS.replace(Some((Arc::as_ptr(session).addr(), device))))
    }

    /// What this thread does, if it serves a device for which it can do nothing while it waits.
    fn served(session: &Arc<Inner>) -> Option<String> {
        let (address, device) = REPORTS.get()?;
        let members = session.members.all();
        let member = members.get(device.index()).filter(|_| address == Arc::as_ptr(session).addr())?;
        (!member.device.on_worker()).then(|| format!("serves {}", member.spec.name))
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        REPORTS.set(self.0);
    }
}

/// The session that ordered a launch, if it is still there.
fn session_of(origin: &Origin) -> Option<Arc<Inner>> {
    origin.session.upgrade()?.downcast::<Inner>().ok()
}

/// A task that waits inside: the session that runs it is told, so that its time does not count, and so that tasks of what it waits for may
/// take its worker's place.
pub(super) struct Waits(Option<(Arc<Inner>, LaunchId)>);

impl Waits {
    /// This thread waits: for this graph, of whatever session, if it can work on what that waits for.
    pub(super) fn new(graph: Option<(GraphId, &Arc<Inner>)>) -> Self {
        let Some(origin) = device::current() else { return Self(None) };
        let Some(session) = session_of(&origin) else { return Self(None) };
        if let Some((_, other)) = graph.filter(|(_, other)| !Arc::ptr_eq(other, &session)) {
            session.waiting().abroad.insert(origin.launch, Arc::downgrade(other));
        }
        session.apply(Event::Waits { launch: origin.launch, graph: graph.map(|g| g.0) }, |_| ());
        Self(Some((session, origin.launch)))
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some((session, launch)) = self.0.take() {
            session.waiting().abroad.remove(&launch);
            session.apply(Event::Resumes { launch }, |_| ());
        }
    }
}
