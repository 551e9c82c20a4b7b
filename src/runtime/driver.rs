//! The real driver: carries the scheduler's actions out on real devices.
//!
//! Owns: the session's state behind one lock. Must not know: how decisions are made. Invariant: there is no loop thread.
//! Whoever finishes a task (a worker, an I/O thread, a link) takes the lock, tells the scheduler, and passes on the actions
//! that come back; so the lock is held for microseconds, and never while a kernel, a destructor, a device or the system's allocator of large memory runs.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::discover::Discovery;
use super::failures::{Faults, Warning};
use super::handle::{HandsOut, Reports, WaitGraph};
use super::idle::AtEnd;
use super::members::{Member, Members};
use super::orders::{Order, OrderHead, OrderId};
use super::recorder::{Backlog, Recorder};
use super::run::{Run, TaskSpan};
use super::slots::{Gone, Short, Slots};
use crate::cost::CostModel;
use crate::device::{Failure, HostBuffer, Report, caught, panic_message};
use crate::error::{Bytes, Error, Remedy};
use crate::id::{DeviceId, GraphId, LaunchId, TaskId};
use crate::schedule::{Action, Event, Scheduler};
use crate::shape::Opaque;

/// Events, and actions, for which memory is kept between two steps.
const SPARE: usize = 1 << 8;
/// Looks at the lock, some 40 ns each, before a thread sleeps for it.
const SPINS: u32 = 100;

pub(super) struct SessionState {
    pub(super) scheduler: Scheduler,
    pub(super) runs: BTreeMap<GraphId, Run>,
    pub(super) slots: Slots,
    pub(super) recorder: Option<Recorder>,
    pub(super) faults: Faults,
    /// Caller's arrays of which devices may keep copies.
    pub(super) sources: BTreeMap<u64, Weak<HostBuffer>>,
    /// What the user is to be told, once the lock is released.
    pub(super) warnings: Vec<Warning>,
    /// Events so far, but for ticks: whether anything happens at all.
    pub(super) happened: u64,
    /// The message of a panic of the scheduler or of the user's policy: nothing is decided any more.
    broken: Option<String>,
    /// Emptied each time; kept because to ask for their memory anew takes longer than many a step.
    spare: (VecDeque<Event>, Vec<Action>),
}

impl SessionState {
    pub(super) fn new(scheduler: Scheduler, recorder: Option<Recorder>) -> Self {
        Self {
            scheduler,
            runs: BTreeMap::new(),
            slots: Slots::default(),
            recorder,
            faults: Faults::default(),
            sources: BTreeMap::new(),
            warnings: Vec::new(),
            happened: 0,
            broken: None,
            spare: Default::default(),
        }
    }

    /// The most scratch that a task of the graphs under way may take.
    fn scratch_bytes(&self) -> u64 {
        self.scheduler.running().filter_map(|id| self.runs.get(&id)).map(|run| run.graph().scratch_bytes()).max().unwrap_or(0)
    }
}

pub(super) struct Inner {
    pub(super) members: Members,
    pub(super) discovery: Arc<Discovery>,
    pub(super) state: Mutex<SessionState>,
    pub(super) changed: Condvar,
    pub(super) costs: Mutex<CostModel>,
    pub(super) start: Instant,
    pub(super) memory_limit: u64,
    pub(super) settings: super::builder::Settings,
    pub(super) streams: Arc<AtomicU64>,
    pub(super) saved: Mutex<Option<Instant>>,
    /// Held by who measures the CPU: two at once would each find half of it.
    pub(super) measuring: Mutex<()>,
    pub(super) waiting: Mutex<WaitGraph>,
    /// When somebody who waits last looked for stalled tasks.
    pub(super) ticked_ns: AtomicU64,
}

/// What is done after the lock is released.
#[derive(Default)]
pub(super) struct Outgoing {
    orders: SmallVec<[Order; 1]>,
    /// Of a scheduler that has failed since: not to be carried out.
    dead: Vec<Order>,
    /// Dropped last, because a library that closes a file may wait for a read of another one.
    held: Vec<Arc<dyn Any + Send + Sync>>,
    /// Freed here, because giving large memory back takes time and a user's value may run code when it is dropped.
    slots: Vec<Gone>,
    opaque: Vec<Opaque>,
    runs: Vec<Run>,
    /// What a policy has panicked with.
    panics: Vec<Box<dyn Any + Send>>,
    warnings: Vec<Warning>,
    /// If devices may keep no more than is needed now: the most scratch that a task may take.
    rest: Option<u64>,
    /// If the record is written slower than there is to write.
    backlog: Option<Arc<Backlog>>,
}

/// An order that cannot be carried out, because there is no memory for it.
struct Refused {
    head: OrderHead,
    short: Short,
}

impl Outgoing {
    /// Carries out what it can; gives back what it cannot.
    fn go(self, inner: &Arc<Inner>) -> Vec<Refused> {
        drop(self.slots);
        let (mut refused, mut panics) = (Vec::new(), self.panics);
        if !self.orders.is_empty() {
            let _hands_out = HandsOut::new();
            let members = inner.members.all();
            for order in self.orders {
                let (head, member) = (order.head, &members[order.head.device.index()]);
                // A user's device may panic when it is asked for memory, or given work: that is its run's end, not this thread's.
                let give = || order.make(inner, member.spec.takes_contiguous()).map(|given| given.to(&*member.device));
                match catch_unwind(AssertUnwindSafe(give)) {
                    Ok(Ok(())) => {}
                    Ok(Err(short)) => refused.push(Refused { head, short }),
                    Err(payload) => {
                        let error = caught(format!("a launch or move on {}", member.spec.name), &*payload);
                        refused.push(Refused { head, short: Short { host: true, error } });
                        panics.push(payload);
                    }
                }
            }
        }
        // What a user's destructor waits for may need what has just been ordered.
        drop((self.dead, self.opaque, self.runs, std::mem::take(&mut panics)));
        let members = self.rest.map(|_| inner.members.all());
        if let (Some(members), Some(scratch_bytes)) = (&members, self.rest) {
            members.iter().for_each(|member| member.device.rest(scratch_bytes));
        }
        let unrecorded = self.backlog.and_then(|backlog| backlog.wait());
        // Whoever is told has the last word, but what was refused is still to be answered.
        let warn = || {
            let warnings = unrecorded.map(str::to_owned).into_iter().chain(self.warnings.iter().map(ToString::to_string));
            // Taken one by one: whoever is told may panic, and what was not told yet is told the next time.
            let notice = |member: &Member| member.device.notice().map(|notice| format!("{}: {notice}", member.spec.name));
            let notices = members.iter().flat_map(|members| members.iter()).filter_map(notice);
            warnings.chain(notices).for_each(|warning| (inner.settings.warn)(&warning));
        };
        if refused.is_empty() {
            warn();
        } else {
            let _ = catch_unwind(AssertUnwindSafe(warn));
        }
        refused
    }
}

impl Inner {
    pub(super) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SessionState> {
        // It is held for a microsecond or two, and a thread that sleeps meanwhile is woken after several; once one sleeps, those after it do not
        // even look (std spins only while nobody waits).
        for _ in 0..SPINS {
            match self.state.try_lock() {
                Ok(state) => return state,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a waiting thread sleeps between two looks for stalled tasks.
    pub(super) fn tick(&self) -> Duration {
        (self.settings.stall_floor / 4).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    /// Looks for stalled tasks, if nobody has for a while.
    pub(super) fn tick_if_due(self: &Arc<Self>) {
        let (now, last) = (self.now_ns(), self.ticked_ns.load(Ordering::Relaxed));
        let due = now.saturating_sub(last) >= self.tick().as_nanos() as u64;
        if due && self.ticked_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.with_events(|state, events| {
                self.recover_limits(state, events);
                events.push_back(Event::Tick);
            });
        }
    }

    /// Tells the scheduler of an event, after `first` has seen to the state, and carries its answer out. What `first` returns
    /// is dropped outside the lock.
    pub(super) fn apply<R>(self: &Arc<Self>, event: Event, first: impl FnOnce(&mut SessionState) -> R) {
        self.with_events(|state, events| {
            events.push_back(event);
            first(state)
        });
    }

    pub(super) fn with_events<R>(self: &Arc<Self>, first: impl FnOnce(&mut SessionState, &mut VecDeque<Event>) -> R) {
        self.with_events_at(self.now_ns(), first);
    }

    /// [`Inner::with_events`], where the time is known.
    fn with_events_at<R>(self: &Arc<Self>, at_ns: u64, first: impl FnOnce(&mut SessionState, &mut VecDeque<Event>) -> R) {
        let mut out = Outgoing::default();
        let _dropped_last = self.locked(at_ns, &mut out, first);
        // What cannot be carried out is answered with events, and so on: in a loop, because each may be followed by many.
        loop {
            let refused = out.go(self);
            if refused.is_empty() {
                return;
            }
            out = Outgoing::default();
            let _last: Vec<Error> = refused.iter().map(|refused| refused.short.error.clone()).collect(); // see `reported`
            self.locked(self.now_ns(), &mut out, |state, events| {
                refused.into_iter().for_each(|r| self.refuse(state, r, events))
            });
        }
    }

    /// Takes the lock, tells the scheduler of the events that `first` has for it, and notes what is to be done. What `first` returns
    /// must be dropped after that.
    fn locked<R>(
        self: &Arc<Self>,
        at_ns: u64,
        out: &mut Outgoing,
        first: impl FnOnce(&mut SessionState, &mut VecDeque<Event>) -> R,
    ) -> R {
        let mut state = self.lock();
        let (mut events, mut actions) = std::mem::take(&mut state.spare);
        let held = first(&mut state, &mut events);
        if state.broken.is_none() {
            let all = AssertUnwindSafe(|| self.steps(&mut state, at_ns, (&mut events, &mut actions), out));
            // A policy is the user's code; and a bug of ours must stop one session, not the process.
            if let Err(payload) = catch_unwind(all) {
                let message = panic_message(&*payload);
                if let Some(recorder) = &mut state.recorder {
                    recorder.broke(&message);
                }
                state.broken = Some(message);
                out.panics.push(payload);
                out.dead.extend(out.orders.drain(..));
            }
        }
        if state.broken.is_some() {
            self.stop_all(&mut state);
        }
        if events.capacity().max(actions.capacity()) <= SPARE {
            events.clear();
            actions.clear();
            state.spare = (events, actions);
        }
        out.warnings.append(&mut state.warnings);
        out.backlog = state.recorder.as_ref().and_then(Recorder::backlog);
        out.rest = out.rest.map(|_| state.scratch_bytes());
        held
    }

    /// Ends every run of a broken session.
    fn stop_all(&self, state: &mut SessionState) {
        let message = state.broken.clone().unwrap_or_default();
        for run in state.runs.values_mut() {
            run.fail(Error::Failed {
                what: "the scheduler of this session".into(),
                message: format!("{message}; make a new session"),
            });
            run.over = true;
        }
        self.changed.notify_all();
    }

    /// Events in order; those that follow from what could not be carried out come after all actions of the one before.
    fn steps(
        self: &Arc<Self>,
        state: &mut SessionState,
        at_ns: u64,
        (events, actions): (&mut VecDeque<Event>, &mut Vec<Action>),
        out: &mut Outgoing,
    ) {
        while let Some(event) = events.pop_front() {
            let waiting = matches!(event, Event::Tick | Event::Waits { .. } | Event::Resumes { .. });
            state.happened += u64::from(!waiting);
            if let Some(recorder) = &mut state.recorder {
                recorder.tells(at_ns, event.clone());
            }
            state.scheduler.step(at_ns, event, actions);
            if let Some(recorder) = &mut state.recorder {
                recorder.answered(actions);
            }
            for action in actions.drain(..) {
                self.obey(state, action, out, events);
            }
        }
    }

    /// Carries an action out; what cannot be is answered with events.
    fn obey(self: &Arc<Self>, state: &mut SessionState, action: Action, out: &mut Outgoing, events: &mut VecDeque<Event>) {
        match action {
            Action::Allocate { buffer, space, bytes } => state.slots.create(buffer, space, bytes),
            Action::Release { buffer } => out.slots.push(state.slots.release(buffer)),
            Action::Drop { graph, value } => {
                out.opaque.extend(state.runs.get_mut(&graph).and_then(|run| run.opaque.remove(&value)));
            }
            Action::Run { launch, .. } | Action::Pack { launch, .. } => match Order::new(state, &action) {
                Some(order) => out.orders.push(order),
                None => events.push_back(Event::LaunchFailed { launch }),
            },
            Action::Move { copy, graph, value, .. } => match Order::new(state, &action) {
                Some(order) => {
                    if let Some(run) = state.runs.get_mut(&graph) {
                        run.record.bytes_moved += run.fixed.graph.bytes(value);
                    }
                    out.orders.push(order);
                }
                None => events.push_back(Event::Moved { copy, arrived: false }),
            },
            Action::Refused { graph, task, peak_bytes, limit_bytes } => {
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.fail(self.refused(run, task, (peak_bytes, limit_bytes)));
                    run.over = true;
                    self.changed.notify_all();
                }
            }
            Action::NoMemory { graph, task, bytes, used_bytes } => {
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.fail(self.refused(run, Some(task), (used_bytes.saturating_add(bytes), self.memory_limit)));
                }
            }
            Action::Stalled { graph, task, device, waited_ns, predicted_ns } => {
                let error = self.stalled(state, graph, task, device, (waited_ns, predicted_ns));
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.fail(error);
                }
            }
            Action::Finished { graph } => {
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.over = true;
                    out.held.append(&mut run.held);
                    run.at_end = Some(AtEnd::new(state.faults.gone(), &self.members.all(), &state.scheduler));
                    run.record.over_ns = self.now_ns();
                    run.record.events = state.happened - run.record.events;
                    if run.graph().scratch_bytes() > 0 || state.scheduler.running().next().is_none() {
                        out.rest = Some(0);
                    }
                    if run.unwanted {
                        out.runs.extend(state.runs.remove(&graph));
                    }
                }
                self.changed.notify_all();
            }
        }
    }

    fn refused(&self, run: &Run, task: Option<TaskId>, (requested_bytes, available_bytes): (u64, u64)) -> Error {
        let name = |t| format!("task {}", run.graph().task_name(t));
        let what = task.map_or_else(|| "this computation with its arrays".to_owned(), name);
        let remedies = vec![Remedy::Limit(self.limit_for(requested_bytes))];
        Error::OutOfMemory { what, requested_bytes, available_bytes, space: "host".into(), remedies }
    }

    /// There is no memory for an order: what that means for its run.
    fn refuse(&self, state: &mut SessionState, refused: Refused, events: &mut VecDeque<Event>) {
        let Refused { head: OrderHead { id, graph, task, device, predicted_ns }, short: Short { host, error } } = refused;
        match id {
            // It was given up meanwhile: nobody is to blame.
            OrderId::Launch(launch) if state.scheduler.operands(launch).is_none() => {
                events.push_back(Event::LaunchLost { launch });
            }
            OrderId::Launch(launch) if host => {
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.fail(error);
                }
                events.push_back(Event::LaunchFailed { launch });
            }
            OrderId::Launch(launch) => {
                let task = (task, predicted_ns);
                let event = self.failed(state, (launch, graph, device), task, Failure::OutOfMemory(error), events);
                events.push_back(event);
            }
            OrderId::Copy(copy) => {
                if host {
                    if let Some(run) = state.runs.get_mut(&graph) {
                        run.fail(error);
                        events.push_back(Event::Retire { graph });
                    }
                } else {
                    self.move_failed(state, (graph, device), Failure::OutOfMemory(error), events);
                }
                events.push_back(Event::Moved { copy, arrived: false });
            }
        }
    }

    fn stalled(&self, state: &SessionState, graph: GraphId, task: TaskId, device: Option<DeviceId>, ns: (u64, u64)) -> Error {
        let name = state.runs.get(&graph).map_or_else(|| task.to_string(), |run| run.graph().task_name(task));
        match device {
            Some(device) => Error::Stalled {
                task: name,
                device: self.members.all()[device.index()].spec.name.clone(),
                waited_s: ns.0 as f64 * 1e-9,
                predicted_s: ns.1 as f64 * 1e-9,
            },
            None => Error::NoDevice {
                wanted: "usable".into(),
                found: format!("each that could run task {name} is gone, or busy with stalled tasks"),
            },
        }
    }

    /// The report of a launch of a task with its prediction, or (without one) of packing for a task. It does not keep the
    /// session alive: a wedged launch must not.
    pub(super) fn report_to(
        self: &Arc<Self>,
        what: (LaunchId, GraphId, DeviceId),
        task: (TaskId, Option<u64>),
    ) -> crate::device::Done {
        let session = Arc::downgrade(self);
        Box::new(move |report| {
            if let Some(inner) = session.upgrade() {
                inner.reported(what, task, report);
            }
        })
    }

    fn reported(self: &Arc<Self>, what: (LaunchId, GraphId, DeviceId), task: (TaskId, Option<u64>), report: Report) {
        let (launch, graph, device) = what;
        let now_ns = self.now_ns();
        let Report { elapsed_ns, measured, since_ns, worker, opaque, outcome } = report;
        let end_ns = now_ns.saturating_sub(since_ns);
        // An error may hold a user's value, whose last copy must not go while the state is locked.
        let _last = outcome.as_ref().err().cloned();
        let _reports = Reports::new(self, device);
        self.with_events_at(now_ns, |state, events| {
            // The result of a launch that was given up counts if nobody was faster; its failure frees what it held.
            let live = state.scheduler.operands(launch).is_some();
            let wanted = live || state.scheduler.wants(launch);
            let event = match outcome {
                Ok(()) if wanted && let Some(error) = oversized(state, graph, task.0, &opaque) => {
                    self.failed(state, what, task, Failure::Fault(error.into()), events)
                }
                Ok(()) => {
                    self.succeeded(state, device, events);
                    Event::Done { launch, elapsed_ns }
                }
                Err(failure) if live => self.failed(state, what, task, failure, events),
                Err(_) => Event::LaunchLost { launch },
            };
            let mut unused = Vec::new();
            match (state.runs.get_mut(&graph), task) {
                (Some(run), (task, Some(predicted_ns))) if wanted && matches!(event, Event::Done { .. }) => {
                    let (start_ns, worker) = (end_ns.saturating_sub(elapsed_ns), worker as u16);
                    run.record.spans.push(TaskSpan { task, device, worker, start_ns, end_ns, predicted_ns, measured });
                    let graph = run.graph().clone();
                    for (index, value) in opaque {
                        let of = graph.outputs(task).nth(index).map(|output| output.value);
                        unused.extend(of.and_then(|of| run.opaque.insert(of, value)));
                    }
                }
                _ => unused.extend(opaque.into_iter().map(|o| o.1)),
            }
            events.push_back(event);
            unused
        });
    }
}

/// An opaque value that is larger than the graph says was not reckoned with.
fn oversized(state: &SessionState, graph: GraphId, task: TaskId, made: &[(usize, Opaque)]) -> Option<Error> {
    if made.is_empty() {
        return None; // the usual case
    }
    let tasks = state.runs.get(&graph)?.graph();
    let stated = |at: usize| tasks.outputs(task).nth(at).map_or(0, |output| tasks.bytes(output.value));
    let (found, stated) = made.iter().map(|(at, o)| (o.bytes, stated(*at))).find(|b| b.0 > b.1)?;
    let message = format!("made a value of {}, where {} were stated (GraphBuilder::opaque)", Bytes(found), Bytes(stated));
    Some(Error::Task { task: tasks.task_name(task), message })
}
