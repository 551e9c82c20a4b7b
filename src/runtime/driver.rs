//! The real driver: carries the scheduler's actions out on real devices.
//!
//! Owns: the session's state behind one lock. Must not know: how decisions are made. Invariant: there is no loop thread.
//! Whoever finishes a task (a worker, an I/O thread, a link) takes the lock, tells the scheduler, and passes on the actions
//! that come back; so the lock is held for microseconds, and never while a kernel, a destructor or a device runs.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::discover::Discovery;
use super::failures::Faults;
use super::handle::Waiting;
use super::members::Members;
use super::run::{Run, TaskSpan};
use super::slots::Slots;
use super::transfer::{self, Unready, Wanted};
use crate::cost::CostModel;
use crate::device::{Body, Device, Failure, HostBuffer, Launch, Memory, Origin, Output, Report, panic_message};
use crate::error::{Bytes, Error, Remedy};
use crate::id::{DeviceId, GraphId, LaunchId, TaskId};
use crate::schedule::{Action, Event, Place, Scheduler};
use crate::shape::Opaque;

/// An event as the scheduler saw it, and what it answered.
#[derive(Clone)]
pub struct Recorded {
    /// When, in ns from the session's start.
    pub at_ns: u64,
    /// What happened.
    pub event: Event,
    /// What the scheduler said is to be done.
    pub actions: Vec<Action>,
}

/// Events, and actions, for which memory is kept between two steps.
const SPARE: usize = 1 << 8;

pub(super) struct State {
    pub(super) scheduler: Scheduler,
    pub(super) runs: BTreeMap<GraphId, Run>,
    pub(super) buffers: Slots,
    pub(super) log: Option<Vec<Recorded>>,
    pub(super) faults: Faults,
    /// Caller's arrays of which devices may keep copies.
    pub(super) sources: BTreeMap<u64, Weak<HostBuffer>>,
    /// What the user is to be told, once the lock is released.
    pub(super) warnings: Vec<String>,
    /// Events so far, but for ticks: whether anything happens at all.
    pub(super) happened: u64,
    /// The message of a panic of the scheduler or of the user's policy: nothing is decided any more.
    broken: Option<String>,
    /// Emptied each time; kept because to ask for their memory anew takes longer than many a step.
    spare: (VecDeque<Event>, Vec<Action>),
}

impl State {
    pub(super) fn new(scheduler: Scheduler, record: bool) -> Self {
        Self {
            scheduler,
            runs: BTreeMap::new(),
            buffers: Slots::default(),
            log: record.then(Vec::new),
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
        self.scheduler.running().filter_map(|id| self.runs.get(&id)).map(|run| run.graph.scratch_bytes()).max().unwrap_or(0)
    }
}

pub(super) struct Inner {
    pub(super) members: Members,
    pub(super) discovery: Arc<Discovery>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) costs: Mutex<CostModel>,
    pub(super) start: Instant,
    pub(super) memory_limit: u64,
    pub(super) settings: super::builder::Settings,
    pub(super) streams: AtomicU64,
    pub(super) saved: Mutex<Option<Instant>>,
    /// Held by who measures the CPU: two at once would each find half of it.
    pub(super) measuring: Mutex<()>,
    pub(super) warn: Box<dyn Fn(&str) + Send + Sync>,
    pub(super) stall_floor: Duration,
    pub(super) waiting: Mutex<Waiting>,
    /// When somebody who waits last looked for stalled tasks.
    pub(super) ticked_ns: AtomicU64,
}

/// What is done after the lock is released.
#[derive(Default)]
pub(super) struct Outgoing {
    launches: Vec<(Arc<dyn Device>, Launch)>,
    moves: Vec<transfer::Ready>,
    /// Dropped last, because a library that closes a file may wait for a read of another one.
    held: Vec<Arc<dyn Any + Send + Sync>>,
    /// Freed here, because giving large memory back takes time and a user's value may run code when it is dropped.
    buffers: Vec<Memory>,
    opaque: Vec<Opaque>,
    runs: Vec<Run>,
    /// Whether devices may keep more than is needed now.
    rest: bool,
}

impl Outgoing {
    fn go(self) {
        drop((self.buffers, self.opaque, self.runs));
        for (device, launch) in self.launches {
            device.launch(launch);
        }
        for ready in self.moves {
            ready.device.transfer(ready.mv);
        }
    }
}

impl Inner {
    pub(super) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a waiting thread sleeps between two looks for stalled tasks.
    pub(super) fn tick(&self) -> Duration {
        (self.stall_floor / 4).clamp(Duration::from_millis(1), Duration::from_secs(1))
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
    pub(super) fn apply<R>(self: &Arc<Self>, event: Event, first: impl FnOnce(&mut State) -> R) {
        self.with_events(|state, events| {
            events.push_back(event);
            first(state)
        });
    }

    pub(super) fn with_events<R>(self: &Arc<Self>, first: impl FnOnce(&mut State, &mut VecDeque<Event>) -> R) {
        let mut out = Outgoing::default();
        let (held, warnings, scratch_bytes) = {
            let mut state = self.lock();
            let (mut events, mut actions) = std::mem::take(&mut state.spare);
            let held = first(&mut state, &mut events);
            if state.broken.is_none() {
                let all = AssertUnwindSafe(|| self.steps(&mut state, (&mut events, &mut actions), &mut out));
                // A policy is the user's code; and a bug of ours must stop one session, not the process.
                if let Err(payload) = catch_unwind(all) {
                    state.broken = Some(panic_message(&*payload));
                    out.launches.clear();
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
            (held, std::mem::take(&mut state.warnings), out.rest.then(|| state.scratch_bytes()))
        };
        drop(held);
        out.go();
        if let Some(scratch_bytes) = scratch_bytes {
            self.members.all().iter().for_each(|member| member.device.rest(scratch_bytes));
        }
        warnings.iter().for_each(|text| (self.warn)(text));
    }

    /// Ends every run of a broken session.
    fn stop_all(&self, state: &mut State) {
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
        state: &mut State,
        (events, actions): (&mut VecDeque<Event>, &mut Vec<Action>),
        out: &mut Outgoing,
    ) {
        while let Some(event) = events.pop_front() {
            let at_ns = self.now_ns();
            let waiting = matches!(event, Event::Tick | Event::Waits { .. } | Event::Resumes { .. });
            state.happened += u64::from(!waiting);
            let kept = state.log.is_some().then(|| event.clone());
            state.scheduler.step(at_ns, event, actions);
            if let (Some(log), Some(event)) = (&mut state.log, kept) {
                log.push(Recorded { at_ns, event, actions: actions.clone() });
            }
            for action in actions.drain(..) {
                self.obey(state, action, out, events);
            }
        }
    }

    /// Carries an action out; what cannot be is answered with events.
    fn obey(self: &Arc<Self>, state: &mut State, action: Action, out: &mut Outgoing, events: &mut VecDeque<Event>) {
        match action {
            // If the system refuses, whoever is to use the buffer tries once more, and reports it.
            Action::Allocate { buffer, space, bytes } => state.buffers.allocate(self, buffer, (space, bytes)),
            Action::Release { buffer } => out.buffers.extend(state.buffers.release(buffer)),
            Action::Drop { graph, value } => {
                out.opaque.extend(state.runs.get_mut(&graph).and_then(|run| run.opaque.remove(&value)));
            }
            Action::Run { launch, graph, task, device } => match self.prepare_task(state, (launch, graph, task, device)) {
                Ok(work) => out.launches.push((self.members.all()[device.index()].device.clone(), work)),
                Err(unready) => self.unready(state, (launch, graph, device), (task, Some(0)), unready, events),
            },
            Action::Pack { launch, graph, task, device, .. } => match self.prepare_pack(state, &action) {
                Ok(ready) => out.launches.push(ready),
                Err(unready) => self.unready(state, (launch, graph, device), (task, None), unready, events),
            },
            Action::Move { copy, graph, value, device, upload, from, to } => {
                let wanted = Wanted { copy, graph, value, device, upload, from, to };
                match transfer::prepare(self, state, wanted) {
                    Ok(ready) => out.moves.push(ready),
                    Err(unready) => transfer::unready(self, state, (copy, graph, device), unready, events),
                }
            }
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
                    run.over_ns = self.now_ns();
                    run.events = state.happened - run.events;
                    out.rest |= run.graph.scratch_bytes() > 0 || state.scheduler.running().next().is_none();
                    if run.unwanted {
                        out.runs.extend(state.runs.remove(&graph));
                    }
                }
                self.changed.notify_all();
            }
        }
    }

    fn refused(&self, run: &Run, task: Option<TaskId>, (requested_bytes, available_bytes): (u64, u64)) -> Error {
        let name = |t| format!("task {}", run.graph.task_name(t));
        let what = task.map_or_else(|| "this computation with its arrays".to_owned(), name);
        let remedies = vec![Remedy::Limit(self.limit_for(requested_bytes))];
        Error::OutOfMemory { what, requested_bytes, available_bytes, space: "host".into(), remedies }
    }

    /// A launch that cannot be made: its run is gone, or its memory is not to be had.
    fn unready(
        &self,
        state: &mut State,
        (launch, graph, device): (LaunchId, GraphId, DeviceId),
        task: (TaskId, Option<u64>),
        unready: Unready,
        events: &mut VecDeque<Event>,
    ) {
        let event = match unready {
            Unready::Gone => Event::LaunchFailed { launch },
            Unready::NoMemory { host: true, error } => {
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.fail(error);
                }
                Event::LaunchFailed { launch }
            }
            Unready::NoMemory { host: false, error } => {
                self.failed(state, (launch, graph, device), task, Failure::OutOfMemory(error), events)
            }
        };
        events.push_back(event);
    }

    fn prepare_pack(self: &Arc<Self>, state: &mut State, action: &Action) -> Result<(Arc<dyn Device>, Launch), Unready> {
        let Action::Pack { launch, graph, value, task, form, from, to: Place::Buffer(to), device } = *action else {
            return Err(Unready::Gone);
        };
        let Some(run) = state.runs.get(&graph) else { return Err(Unready::Gone) };
        let what = || format!("a packed operand of task {}", run.graph.task_name(task));
        state.buffers.have(self, [from, Place::Buffer(to)], what)?;
        let from = run.data(&state.buffers, value, from);
        let to = run.packed(&state.buffers, task, (value, form), to);
        let kernel = run.graph.kernel(task).clone();
        let done = self.report_to((launch, graph, device), (task, None));
        let origin = self.origin(graph, launch, run);
        Ok((
            self.members.all()[device.index()].device.clone(),
            Launch {
                kernel,
                body: Body::Pack { form: crate::shape::Form::Packed(form), view: None, from, to },
                estimate_ns: 0,
                origin,
                done,
            },
        ))
    }

    fn origin(self: &Arc<Self>, graph: GraphId, launch: LaunchId, run: &Run) -> Option<Origin> {
        let session: Weak<dyn Any + Send + Sync> = Arc::<Self>::downgrade(self);
        Some(Origin { session, graph, launch, within: run.within.clone() })
    }

    fn stalled(&self, state: &State, graph: GraphId, task: TaskId, device: Option<DeviceId>, ns: (u64, u64)) -> Error {
        let name = state.runs.get(&graph).map_or_else(|| task.to_string(), |run| run.graph.task_name(task));
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

    fn prepare_task(
        self: &Arc<Self>,
        state: &mut State,
        what: (LaunchId, GraphId, TaskId, DeviceId),
    ) -> Result<Launch, Unready> {
        let (launch, graph, task, device) = what;
        let run = state.runs.get(&graph).ok_or(Unready::Gone)?;
        let operands = state.scheduler.operands(launch).ok_or(Unready::Gone)?;
        let old = operands.outputs.iter().filter_map(|o| o.1);
        let places = operands.inputs.iter().copied().chain(operands.outputs.iter().map(|o| o.0)).chain(old);
        state.buffers.have(self, places, || format!("a buffer of task {}", run.graph.task_name(task)))?;
        let inputs = operands.inputs.iter().enumerate();
        let members = self.members.all();
        let spec = &members[device.index()].spec;
        let inputs = inputs.map(|(i, &place)| run.input(&state.buffers, spec, (task, i), place)).collect();
        let outputs = run.graph.outputs(task).iter().zip(&operands.outputs);
        let outputs = outputs.map(|(operand, &(place, old))| Output {
            to: run.data(&state.buffers, operand.value, place),
            copy_in: operand.updates.zip(old).map(|(value, place)| run.data(&state.buffers, value, place)),
        });
        let outputs = outputs.collect();
        let params = run.graph.params(task).to_vec();
        let kernel = run.graph.kernel(task).clone();
        // That of the neediest task: asking each kernel would run user's code under the lock, and a thread keeps its scratch.
        let scratch_bytes = run.graph.scratch_bytes();
        let predicted = state.scheduler.prediction(launch).map_or(0, |p| p.1);
        let done = self.report_to((launch, graph, device), (task, Some(predicted)));
        let (body, origin) = (Body::Run { params, inputs, outputs, scratch_bytes }, self.origin(graph, launch, run));
        Ok(Launch { kernel, body, estimate_ns: predicted, origin, done })
    }

    /// The report of a launch of a task with its prediction, or (without one) of packing for a task. It does not keep the
    /// session alive: a wedged launch must not.
    fn report_to(self: &Arc<Self>, what: (LaunchId, GraphId, DeviceId), task: (TaskId, Option<u64>)) -> crate::device::Done {
        let session = Arc::downgrade(self);
        Box::new(move |report| {
            if let Some(inner) = session.upgrade() {
                inner.reported(what, task, report);
            }
        })
    }

    fn reported(self: &Arc<Self>, what: (LaunchId, GraphId, DeviceId), task: (TaskId, Option<u64>), report: Report) {
        let (launch, graph, device) = what;
        let end_ns = self.now_ns();
        let Report { elapsed_ns, since_ns, worker, opaque, outcome } = report;
        let end_ns = end_ns.saturating_sub(since_ns);
        self.with_events(|state, events| {
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
                    let start_ns = end_ns.saturating_sub(elapsed_ns);
                    run.spans.push(TaskSpan { task, device, worker, start_ns, end_ns, predicted_ns });
                    let graph = run.graph.clone();
                    for (index, value) in opaque {
                        unused.extend(run.opaque.insert(graph.outputs(task)[index].value, value));
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
fn oversized(state: &State, graph: GraphId, task: TaskId, made: &[(usize, Opaque)]) -> Option<Error> {
    let tasks = &state.runs.get(&graph)?.graph;
    let (found, stated) =
        made.iter().map(|(at, o)| (o.bytes, tasks.bytes(tasks.outputs(task)[*at].value))).find(|b| b.0 > b.1)?;
    let message = format!("made a value of {}, where {} were stated (GraphBuilder::opaque)", Bytes(found), Bytes(stated));
    Some(Error::Task { task: tasks.task_name(task), message })
}
