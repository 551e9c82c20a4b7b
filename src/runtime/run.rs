//! One graph while it runs, and the record of it afterwards.
//!
//! Owns: a run's buffers and records, [`RunReport`]. Must not know: decisions. Invariant: the record holds what happened, measured; predictions
//! stand beside it, never in its place.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::pricing::Priced;
use super::slots::Slots;
use crate::device::{Data, DeviceSpec, HostBuffer, Memory, Remote, Window};
use crate::error::Error;
use crate::id::{BufferId, DeviceId, GraphId, GroupId, TaskId, ValueId};
use crate::schedule::Place;
use crate::shape::Form;
use crate::shape::{Layout, Opaque};
use crate::task::{Home, TaskGraph};

/// A graph that runs.
pub(super) struct Run {
    pub(super) graph: Arc<TaskGraph>,
    pub(super) arrays: Vec<Arc<HostBuffer>>,
    pub(super) opaque: BTreeMap<ValueId, Opaque>,
    /// What its kernels keep between tasks, until the last is over.
    pub(super) held: Vec<Arc<dyn Any + Send + Sync>>,
    pub(super) priced: Priced,
    /// The graphs whose tasks wait for it, if a task submitted it.
    pub(super) within: Option<Arc<[GraphId]>>,
    pub(super) spans: Vec<TaskSpan>,
    pub(super) moves: Vec<MoveSpan>,
    pub(super) bytes_moved: u64,
    pub(super) attempts: BTreeMap<TaskId, u32>,
    pub(super) error: Option<Error>,
    pub(super) over: bool,
    /// Its handle is gone: it is forgotten when the last of it is over.
    pub(super) unwanted: bool,
    pub(super) failed_moves: u32,
    pub(super) submitted_ns: u64,
    pub(super) over_ns: u64,
    /// The session's events until it was submitted; once it is over, those from then to the end.
    pub(super) events: u64,
}

impl Run {
    /// The bytes of a value at a place, in plain form.
    pub(super) fn data(&self, buffers: &Slots, value: ValueId, place: Place) -> Data {
        match (place, self.graph.home(value)) {
            _ if self.graph.is_opaque(value) => Data::Opaque(self.opaque.get(&value).cloned()),
            (Place::Opaque, _) => Data::Opaque(self.opaque.get(&value).cloned()),
            (Place::Buffer(buffer), _) => {
                let layout = Layout::contiguous(self.graph.dtype(value), self.graph.shape(value));
                pooled(buffers, buffer, layout)
            }
            (Place::Home, Home::Window { array, offset }) => {
                Data::Host(Window::new(self.arrays[array.index()].clone(), offset, self.graph.layout(value)))
            }
            (Place::Home, Home::Pool) => unreachable!("a pooled value has no home window"),
        }
    }

    /// The bytes of an input of a task, in the form that the task takes on the device.
    pub(super) fn input(&self, buffers: &Slots, spec: &DeviceSpec, (task, index): (TaskId, usize), place: Place) -> Data {
        let value = self.graph.inputs(task)[index].value;
        match (spec.form(self.graph.input_form(task, index)), place) {
            (Form::Packed(form), Place::Buffer(buffer)) => self.packed(buffers, task, (value, form), buffer),
            _ => self.data(buffers, value, place),
        }
    }

    pub(super) fn packed(&self, buffers: &Slots, task: TaskId, (value, form): (ValueId, u8), buffer: BufferId) -> Data {
        let (dtype, len) = self.graph.packed_len(task, value, form);
        pooled(buffers, buffer, Layout::contiguous(dtype, &[len]))
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}

fn pooled(buffers: &Slots, id: BufferId, layout: Layout) -> Data {
    match buffers.get(id) {
        Memory::Host(buffer) => Data::Host(Window::new(buffer, 0, layout)),
        Memory::Remote(memory) => Data::Remote(Remote { memory, layout }),
    }
}

/// One task's run on a device. Times count from the session's start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskSpan {
    /// Which task.
    pub task: TaskId,
    /// Where.
    pub device: DeviceId,
    /// On which of its workers.
    pub worker: u32,
    /// From, in ns.
    pub start_ns: u64,
    /// To, in ns.
    pub end_ns: u64,
    /// What the cost model had said, in ns.
    pub predicted_ns: u64,
}

/// One move over a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MoveSpan {
    /// What was moved.
    pub value: ValueId,
    /// Whose link.
    pub device: DeviceId,
    /// Host to device, or back.
    pub upload: bool,
    /// How much.
    pub bytes: u64,
    /// From, in ns.
    pub start_ns: u64,
    /// To, in ns.
    pub end_ns: u64,
}

/// What a run did, measured, with the predictions beside it.
#[derive(Clone)]
pub struct RunReport {
    /// The graph that was run: names, groups, kernels of the tasks.
    pub graph: Arc<TaskGraph>,
    /// Names of the session's devices, by id.
    pub devices: Vec<String>,
    /// Seconds from the call to the submission: lowering, pricing, simulating.
    pub plan_s: f64,
    /// Predicted seconds of the run.
    pub predicted_s: f64,
    /// Seconds from the call to the result.
    pub total_s: f64,
    /// Bytes of host memory (caller's arrays, results, scratch, chunks) with which the run is proved to end: its peak in
    /// sequential order. It uses more where the limit allows.
    pub peak_bound_bytes: u64,
    /// Bytes moved over links.
    pub bytes_moved: u64,
    /// Every task run.
    pub spans: Vec<TaskSpan>,
    /// Every move.
    pub moves: Vec<MoveSpan>,
    /// When it was submitted, ns from the session's start.
    pub submitted_ns: u64,
    /// Devices of the session that could not run some of the work, and why: (device, reason).
    pub idle: Vec<(String, String)>,
}

impl std::fmt::Debug for RunReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunReport({} tasks, {:?}, {:.6} s)", self.tasks(), self.placement(), self.total_s)
    }
}

impl RunReport {
    /// Number of tasks.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.graph.len()
    }

    /// Tasks run by each device that ran any, and the seconds its workers were busy: (device, tasks, busy).
    #[must_use]
    pub fn placement(&self) -> Vec<(String, usize, f64)> {
        let mut counts: BTreeMap<DeviceId, (usize, u64)> = BTreeMap::new();
        for span in &self.spans {
            let entry = counts.entry(span.device).or_default();
            entry.0 += 1;
            entry.1 += span.end_ns - span.start_ns;
        }
        counts.into_iter().map(|(d, (n, ns))| (self.devices[d.index()].clone(), n, ns as f64 * 1e-9)).collect()
    }

    /// Median over tasks of |predicted - measured| / measured; `None` without tasks.
    #[must_use]
    pub fn median_prediction_error(&self) -> Option<f64> {
        let error = |s: &TaskSpan| {
            let measured = (s.end_ns - s.start_ns).max(1) as f64;
            (s.predicted_ns as f64 - measured).abs() / measured
        };
        let mut errors: Vec<f64> = self.spans.iter().map(error).collect();
        errors.sort_by(f64::total_cmp);
        errors.get(errors.len() / 2).copied()
    }

    /// The label of a group.
    #[must_use]
    pub fn group_label(&self, group: GroupId) -> &str {
        &self.graph.groups()[group.index()].label
    }
}
