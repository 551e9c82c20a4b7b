//! The real driver: carries the scheduler's actions out on real devices.
//!
//! Owns: the session's state behind one lock. Must not know: how decisions are made. Invariant: there is no loop thread.
//! Whoever finishes a task (a worker, an I/O thread, a link) takes the lock, tells the scheduler, and passes on the actions
//! that come back; so the lock is held for microseconds, and never while a kernel runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::run::{Run, TaskSpan};
use super::transfer::{self, Wanted};
use crate::cost::{CostModel, PricedId};
use crate::device::{Body, Device, DeviceSpec, Failure, HostBuffer, Launch, Output, Report};
use crate::error::{Bytes, Error};
use crate::id::{DeviceId, GraphId, LaunchId, TaskId};
use crate::schedule::{Action, Event, Place, Scheduler};
use crate::shape::ChunkMeta;

/// Times that a task is tried on devices that fail before the graph gives up.
const ATTEMPTS: u32 = 3;

pub(super) struct State {
    pub(super) scheduler: Scheduler,
    pub(super) runs: BTreeMap<GraphId, Run>,
    pub(super) buffers: Vec<Option<Arc<HostBuffer>>>,
    pub(super) next_graph: u32,
    pub(super) log: Option<Vec<(u64, Event)>>,
}

pub(super) struct Inner {
    pub(super) devices: Vec<Arc<dyn Device>>,
    pub(super) specs: Vec<(DeviceSpec, PricedId)>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) costs: Mutex<CostModel>,
    pub(super) start: Instant,
    pub(super) memory_limit: u64,
    pub(super) settings: super::Settings,
    pub(super) streams: std::sync::atomic::AtomicU64,
    pub(super) saved: Mutex<Option<Instant>>,
}

/// Work to hand to devices after the lock is released.
enum Outgoing {
    Launch(Arc<dyn Device>, Launch),
    Move(transfer::Ready),
}

impl Inner {
    pub(super) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the scheduler of an event, after `first` has seen to the state, and carries its answer out.
    pub(super) fn apply(self: &Arc<Self>, event: Event, first: impl FnOnce(&mut State)) {
        let mut outgoing = Vec::new();
        {
            let mut state = self.lock();
            first(&mut state);
            self.step(&mut state, event, &mut outgoing);
        }
        for work in outgoing {
            match work {
                Outgoing::Launch(device, launch) => device.launch(launch),
                Outgoing::Move(ready) => ready.device.transfer(ready.mv),
            }
        }
    }

    fn step(self: &Arc<Self>, state: &mut State, event: Event, outgoing: &mut Vec<Outgoing>) {
        let mut actions = Vec::new();
        let now = self.now_ns();
        if let Some(log) = &mut state.log {
            log.push((now, event.clone()));
        }
        state.scheduler.step(now, event, &mut actions);
        for action in actions {
            if let Err((graph, error)) = self.obey(state, action, outgoing) {
                if let Some(run) = state.runs.get_mut(&graph) {
                    run.fail(error);
                    run.over = true;
                }
                self.step(state, Event::Retire { graph }, outgoing);
                self.changed.notify_all();
            }
        }
    }

    fn obey(self: &Arc<Self>, state: &mut State, action: Action, out: &mut Vec<Outgoing>) -> Result<(), (GraphId, Error)> {
        match action {
            Action::Allocate { buffer, bytes, .. } => {
                if state.buffers.len() <= buffer.index() {
                    state.buffers.resize(buffer.index() + 1, None);
                }
                // If the system refuses, the launch that was to use the buffer reports it.
                state.buffers[buffer.index()] = HostBuffer::pooled(bytes as usize).ok();
            }
            Action::Release { buffer } => state.buffers[buffer.index()] = None,
            Action::Run { launch, graph, task, device } => {
                let work = self.prepare_task(state, (launch, graph, task, device)).map_err(|e| (graph, e))?;
                out.push(Outgoing::Launch(self.devices[device.index()].clone(), work));
            }
            Action::Pack { launch, graph, value, task, form, from, to, device } => {
                let Some(run) = state.runs.get(&graph) else { return Ok(()) };
                let Place::Buffer(to) = to else { return Ok(()) };
                let from = run.data(&state.buffers, value, from);
                let to = run.packed(&state.buffers, task, value, form, to);
                let kernel = run.graph.kernel(task).clone();
                let done = self.report_to(launch, graph, None, device);
                let body = Body::Pack { form, from, to };
                out.push(Outgoing::Launch(self.devices[device.index()].clone(), Launch { kernel, body, done }));
            }
            Action::Move { copy, graph, value, device, upload, from, to } => {
                let wanted = Wanted { copy, graph, value, device, upload, from, to };
                out.extend(transfer::prepare(self, state, wanted).map(Outgoing::Move));
            }
            Action::Refused { graph, task, peak_bytes, limit_bytes } => {
                let Some(run) = state.runs.get(&graph) else { return Ok(()) };
                let what = task.map_or_else(
                    || "the arrays of this computation".to_owned(),
                    |t| format!("task {}", run.graph.task_name(t)),
                );
                let try_this =
                    format!("--memory-limit {} (Session::builder().memory_limit)", Bytes(peak_bytes + peak_bytes / 50));
                let (requested_bytes, available_bytes) = (peak_bytes, limit_bytes);
                return Err((
                    graph,
                    Error::OutOfMemory { what, requested_bytes, available_bytes, space: "host".into(), try_this },
                ));
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
                    run.over_ns = self.now_ns();
                }
                self.changed.notify_all();
            }
        }
        Ok(())
    }

    fn stalled(&self, state: &State, graph: GraphId, task: TaskId, device: Option<DeviceId>, ns: (u64, u64)) -> Error {
        let name = state.runs.get(&graph).map_or_else(|| task.to_string(), |run| run.graph.task_name(task));
        match device {
            Some(device) => Error::Stalled {
                task: name,
                device: self.specs[device.index()].0.name.clone(),
                waited_s: ns.0 as f64 * 1e-9,
                predicted_s: ns.1 as f64 * 1e-9,
            },
            None => Error::NoDevice {
                wanted: format!("(for task {name})"),
                found: "every device that could run it is gone or busy with stalled tasks".into(),
            },
        }
    }

    fn prepare_task(self: &Arc<Self>, state: &mut State, what: (LaunchId, GraphId, TaskId, DeviceId)) -> Result<Launch, Error> {
        let (launch, graph, task, device) = what;
        let gone = || Error::Cancelled;
        let run = state.runs.get(&graph).ok_or_else(gone)?;
        let operands = state.scheduler.operands(launch).ok_or_else(gone)?;
        let places = operands.inputs.iter().copied().chain(operands.outputs.iter().map(|o| o.0));
        for place in places {
            if let Place::Buffer(buffer) = place {
                state.buffers[buffer.index()].as_ref().ok_or_else(|| Error::OutOfMemory {
                    what: format!("a buffer of task {}", run.graph.task_name(task)),
                    requested_bytes: run.graph.outputs(task).iter().map(|o| run.graph.bytes(o.value)).sum(),
                    available_bytes: 0,
                    space: "system".into(),
                    try_this: "a lower --memory-limit or smaller chunks".into(),
                })?;
            }
        }
        let inputs = operands.inputs.iter().enumerate();
        let inputs = inputs.map(|(i, &place)| run.input(&state.buffers, task, i, place)).collect();
        let outputs = run.graph.outputs(task).iter().zip(&operands.outputs);
        let outputs = outputs.map(|(operand, &(place, old))| Output {
            to: run.data(&state.buffers, operand.value, place),
            copy_in: operand.updates.zip(old).map(|(value, place)| run.data(&state.buffers, value, place)),
        });
        let outputs = outputs.collect();
        let params = run.graph.params(task).to_vec();
        let metas: Vec<ChunkMeta<'_>> = run
            .graph
            .inputs(task)
            .iter()
            .chain(run.graph.outputs(task))
            .map(|o| ChunkMeta { dtype: run.graph.dtype(o.value), shape: run.graph.shape(o.value), data: None })
            .collect();
        let kernel = run.graph.kernel(task).clone();
        let scratch_bytes = kernel.scratch_bytes(&params, &metas);
        let predicted = state.scheduler.prediction(launch).map_or(0, |p| p.1);
        let done = self.report_to(launch, graph, Some((task, predicted)), device);
        Ok(Launch { kernel, body: Body::Run { params, inputs, outputs, scratch_bytes }, done })
    }

    fn report_to(
        self: &Arc<Self>,
        launch: LaunchId,
        graph: GraphId,
        task: Option<(TaskId, u64)>,
        device: DeviceId,
    ) -> crate::device::Done {
        let inner = self.clone();
        Box::new(move |report| inner.reported(launch, graph, task, device, report))
    }

    fn reported(
        self: &Arc<Self>,
        launch: LaunchId,
        graph: GraphId,
        task: Option<(TaskId, u64)>,
        device: DeviceId,
        report: Report,
    ) {
        let end_ns = self.now_ns();
        let elapsed_ns = report.elapsed_ns;
        let mut event = Event::Done { launch, elapsed_ns };
        let mut outgoing = Vec::new();
        {
            let mut state = self.lock();
            let live = state.scheduler.operands(launch).is_some();
            if let Some(run) = state.runs.get_mut(&graph).filter(|_| live) {
                match report.outcome {
                    Ok(()) => {
                        if let Some((task, predicted_ns)) = task {
                            let start_ns = end_ns.saturating_sub(elapsed_ns);
                            run.spans.push(TaskSpan { task, device, worker: report.worker, start_ns, end_ns, predicted_ns });
                            let outputs = run.graph.outputs(task);
                            let named = report.opaque.into_iter().map(|(i, o)| (outputs[i].value, o));
                            run.opaque.extend(named.collect::<Vec<_>>());
                        }
                    }
                    Err(failure) => event = failed(run, launch, task.map(|t| t.0), failure),
                }
            }
            self.step(&mut state, event, &mut outgoing);
        }
        for work in outgoing {
            match work {
                Outgoing::Launch(device, launch) => device.launch(launch),
                Outgoing::Move(ready) => ready.device.transfer(ready.mv),
            }
        }
    }
}

/// What a failed launch means for its run.
fn failed(run: &mut Run, launch: LaunchId, task: Option<TaskId>, failure: Failure) -> Event {
    let name = task.map_or_else(|| "pack".to_owned(), |t| run.graph.task_name(t));
    match failure {
        Failure::Fault(fault) => run.fail(fault.into()),
        Failure::Panic(message) => run.fail(Error::Panicked { task: name, message }),
        Failure::Device(error) => {
            let attempts = run.attempts.entry(task.unwrap_or(TaskId(u32::MAX))).or_default();
            *attempts += 1;
            if *attempts < ATTEMPTS {
                return Event::LaunchLost { launch };
            }
            run.fail(error);
        }
    }
    Event::LaunchFailed { launch }
}
