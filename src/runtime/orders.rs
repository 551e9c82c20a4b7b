//! From what the scheduler wants to what a device is given.
//!
//! Owns: [`Order`]: launches and moves, noted while the state is locked, made while nothing is. Must not know: why anything is wanted; it is the only
//! place that orders moves between memory spaces. Invariant: the bytes of all operands stay alive until the report.

use std::any::Any;
use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::driver::{Inner, SessionState};
use super::run::{Fixed, Run};
use super::slots::{Found, Short, Slot, Slots};
use crate::device::{Body, Data, Device, HostBuffer, Launch, Memory, Move, Origin, Output, Remote, Window};
use crate::id::{CopyId, DeviceId, FormId, GraphId, LaunchId, TaskId, ValueId};
use crate::schedule::{Action, Location, Operands};
use crate::shape::{Layout, Opaque};
use crate::task::{Home, PLAIN, TaskGraph};

/// Where an operand is, looked up while the state was locked.
enum At {
    Home,
    /// In a buffer of host memory that is there.
    Host(Arc<HostBuffer>),
    Slot(Arc<Slot>),
    /// Boxed, because it is rare and large.
    Opaque(Option<Box<Opaque>>),
}

type OrderInputs = SmallVec<[At; 4]>;
type Outputs = SmallVec<[(At, Option<At>); 2]>;

/// What is to be done.
enum What {
    Run { inputs: OrderInputs, outputs: Outputs, predicted_ns: u64 },
    Pack { value: ValueId, form: FormId, from: At, to: At },
    Move { value: ValueId, upload: bool, from: At, to: At },
}

/// A launch or a move to be made.
pub(super) struct Order {
    pub(super) head: OrderHead,
    fixed: Arc<Fixed>,
    what: What,
}

/// For whom an order is.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrderHead {
    pub(super) id: OrderId,
    pub(super) graph: GraphId,
    /// The task to run, or for which a form is made.
    pub(super) task: TaskId,
    pub(super) device: DeviceId,
    /// Of a task, its prediction.
    pub(super) predicted_ns: Option<u64>,
}

/// What is to be reported.
#[derive(Clone, Copy, Debug)]
pub(super) enum OrderId {
    Launch(LaunchId),
    Copy(CopyId),
}

/// What a device is given.
pub(super) enum Assignment {
    Launch(Launch),
    Move(Move),
}

impl Assignment {
    pub(super) fn to(self, device: &dyn Device) {
        match self {
            Self::Launch(launch) => device.launch(launch),
            Self::Move(mv) => device.transfer(mv),
        }
    }
}

impl Order {
    /// What an action asks for; `None` if its run is gone, or it is over already.
    pub(super) fn new(state: &mut SessionState, action: &Action) -> Option<Self> {
        match *action {
            Action::Run { launch, graph, task, device } => {
                let SessionState { scheduler, runs, slots, .. } = state;
                let (run, operands) = (runs.get(&graph)?, scheduler.operands(launch)?);
                let predicted_ns = scheduler.prediction(launch).map_or(0, |p| p.1);
                let what = Self::run(run, slots, task, (operands, predicted_ns));
                let head = OrderHead { id: OrderId::Launch(launch), graph, task, device, predicted_ns: Some(predicted_ns) };
                Some(Self { head, fixed: run.fixed.clone(), what })
            }
            Action::Pack { launch, graph, value, task, form, from, to, device } => {
                let run = state.runs.get(&graph)?;
                let mut at = |place| at(run, &mut state.slots, value, place);
                let (what, fixed) = (What::Pack { value, form, from: at(from), to: at(to) }, run.fixed.clone());
                let head = OrderHead { id: OrderId::Launch(launch), graph, task, device, predicted_ns: None };
                Some(Self { head, fixed, what })
            }
            Action::Move { copy, graph, value, device, upload, from, to } => {
                let run = state.runs.get(&graph)?;
                let mut at = |place| at(run, &mut state.slots, value, place);
                let (what, fixed) = (What::Move { value, upload, from: at(from), to: at(to) }, run.fixed.clone());
                let head = OrderHead { id: OrderId::Copy(copy), graph, task: TaskId(0), device, predicted_ns: None };
                Some(Self { head, fixed, what })
            }
            _ => None,
        }
    }

    fn run(run: &Run, slots: &mut Slots, task: TaskId, (operands, predicted_ns): (&Operands, u64)) -> What {
        let graph = run.graph();
        let inputs =
            graph.inputs(task).zip(&operands.inputs).map(|(input, &place)| at(run, slots, input.value, place)).collect();
        let mut outputs = Outputs::new();
        for (output, &(place, old)) in graph.outputs(task).zip(&operands.outputs) {
            let old = output.updates.zip(old).map(|(value, place)| at(run, slots, value, place));
            // An opaque output is not there yet.
            let to = if place == Location::Opaque { At::Opaque(None) } else { at(run, slots, output.value, place) };
            outputs.push((to, old));
        }
        What::Run { inputs, outputs, predicted_ns }
    }

    /// What the device is given. Asks for the memory that is not there yet.
    pub(super) fn make(self, inner: &Arc<Inner>, contiguous: bool) -> Result<Assignment, Short> {
        let Self { head, fixed, what } = self;
        let graph = &*fixed.graph;
        match what {
            What::Run { inputs, outputs, predicted_ns } => {
                let body = head.body(inner, &fixed, (inputs, outputs), contiguous)?;
                Ok(Assignment::Launch(head.launch(inner, &fixed, body, predicted_ns)))
            }
            What::Pack { value, form, from, to } => {
                let name = || format!("a form of an operand of task {}", graph.task_name(head.task));
                let from = data(inner, &fixed, value, from, &name)?;
                let to = pooled(to, inner, graph.form_layout(form), &name)?;
                let (view, form) = graph.form(form);
                Ok(Assignment::Launch(head.launch(inner, &fixed, Body::Pack { form, view: view.cloned(), from, to }, 0)))
            }
            What::Move { value, upload, from, to } => {
                let name = || "a buffer to move a chunk to".to_owned();
                let (from, to) = (data(inner, &fixed, value, from, &name)?, data(inner, &fixed, value, to, &name)?);
                let OrderId::Copy(copy) = head.id else { unreachable!("a move is reported as one") };
                let (session, bytes) = (Arc::downgrade(inner), graph.bytes(value));
                let done = Box::new(move |report| {
                    if let Some(session) = session.upgrade() {
                        session.moved((copy, head.graph, value), (head.device, upload, bytes), report);
                    }
                });
                Ok(Assignment::Move(Move { from, to, upload, done }))
            }
        }
    }
}

impl OrderHead {
    fn launch(&self, inner: &Arc<Inner>, fixed: &Fixed, body: Body, estimate_ns: u64) -> Launch {
        let OrderId::Launch(launch) = self.id else { unreachable!("a launch is reported as one") };
        let kernel = fixed.kernels[fixed.graph.kernel_id(self.task).index()].clone();
        let session: Weak<dyn Any + Send + Sync> = Arc::<Inner>::downgrade(inner);
        let origin = Some(Origin { session, graph: self.graph, launch, within: fixed.within.clone() });
        let done = inner.report_to((launch, self.graph, self.device), (self.task, self.predicted_ns));
        Launch { kernel, body, estimate_ns, origin, done }
    }

    fn body(
        &self,
        inner: &Inner,
        fixed: &Fixed,
        (inputs, outputs): (OrderInputs, Outputs),
        contiguous: bool,
    ) -> Result<Body, Short> {
        let (graph, task) = (&*fixed.graph, self.task);
        let name = || format!("a buffer of task {}", graph.task_name(task));
        let mut read = Vec::with_capacity(inputs.len());
        let residents = graph.residents(task, contiguous);
        for ((operand, (value, form)), at) in graph.inputs(task).zip(residents).zip(inputs) {
            let data = match form {
                PLAIN => data(inner, fixed, value, at, &name)?,
                form => pooled(at, inner, graph.form_layout(form), &name)?,
            };
            read.push(match (operand.view.filter(|_| form == PLAIN), &data) {
                (Some(view), Data::Host(window)) => Data::Host(window.viewed(&graph.views()[view.index()])),
                (Some(view), Data::Remote(remote)) => Data::Remote(remote.viewed(&graph.views()[view.index()])),
                _ => data,
            });
        }
        let mut written = Vec::with_capacity(outputs.len());
        for (operand, (at, old)) in graph.outputs(task).zip(outputs) {
            let copy_in = match (operand.updates, old) {
                (Some(value), Some(old)) => Some(data(inner, fixed, value, old, &name)?),
                _ => None,
            };
            written.push(Output { to: data(inner, fixed, operand.value, at, &name)?, copy_in });
        }
        let params = graph.params(task).to_vec();
        // That of the neediest task: a thread keeps its scratch.
        Ok(Body::Run { params, inputs: read, outputs: written, scratch_bytes: graph.scratch_bytes() })
    }
}

fn data(inner: &Inner, fixed: &Fixed, value: ValueId, at: At, name: &dyn Fn() -> String) -> Result<Data, Short> {
    match at {
        At::Opaque(opaque) => Ok(Data::Opaque(opaque.map(|opaque| *opaque))),
        At::Home => Ok(at_home(&fixed.graph, &fixed.arrays, value)),
        at => pooled(at, inner, fixed.graph.pooled_layout(value), name),
    }
}

/// A value in its window.
pub(super) fn at_home(graph: &TaskGraph, arrays: &[Arc<crate::device::HostBuffer>], value: ValueId) -> Data {
    match graph.home(value) {
        Home::Window { array, offset } => {
            Data::Host(Window::new(arrays[array.index()].clone(), offset, graph.layout(value).clone()))
        }
        Home::Pool => unreachable!("a pooled value has no home window"),
    }
}

/// A value in a buffer.
fn pooled(at: At, inner: &Inner, layout: &Arc<Layout>, name: &dyn Fn() -> String) -> Result<Data, Short> {
    let layout = layout.clone();
    let slot = match at {
        At::Host(buffer) => return Ok(Data::Host(Window::new(buffer, 0, layout))),
        At::Slot(slot) => slot,
        At::Home | At::Opaque(_) => unreachable!("a form that is made lies in a buffer"),
    };
    Ok(match slot.memory(inner, name)? {
        Memory::Host(buffer) => Data::Host(Window::new(buffer.clone(), 0, layout)),
        Memory::Remote(memory) => Data::Remote(Remote::whole(memory.clone(), layout)),
    })
}

/// Where a value is.
fn at(run: &Run, slots: &mut Slots, value: ValueId, place: Location) -> At {
    match place {
        Location::Home => At::Home,
        Location::Buffer(buffer) => match slots.get(buffer) {
            Found::Host(memory) => At::Host(memory),
            Found::Slot(slot) => At::Slot(slot),
        },
        Location::Opaque => At::Opaque(run.opaque.get(&value).cloned().map(Box::new)),
    }
}

/// The bytes of a value that is in a buffer, for whoever takes results.
pub(super) fn in_buffer(inner: &Inner, slots: &mut Slots, run: &Run, (value, place): (ValueId, Location)) -> Option<Data> {
    let Location::Buffer(_) = place else { return None };
    pooled(at(run, slots, value, place), inner, run.graph().pooled_layout(value), &String::new).ok()
}
