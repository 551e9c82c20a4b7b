//! One graph while it runs, and the record of it afterwards.
//!
//! Owns: a run's buffers and records, [`RunReport`]. Must not know: decisions. Invariant: the record holds what happened, measured; predictions
//! stand beside it, never in its place.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::idle::AtEnd;
use super::prices::Prices;
use crate::device::HostBuffer;
use crate::error::Error;
use crate::id::{DeviceId, GraphId, GroupId, TaskId, ValueId};
use crate::kernel::Kernel;
use crate::shape::Opaque;
use crate::task::TaskGraph;

/// What does not change while a graph runs. Launches are made of it while nothing is locked.
pub(super) struct Fixed {
    pub(super) graph: Arc<TaskGraph>,
    pub(super) kernels: Arc<[Arc<dyn Kernel>]>,
    pub(super) arrays: Vec<Arc<HostBuffer>>,
    /// The graphs whose tasks wait for it, if a task submitted it.
    pub(super) within: Option<Arc<[GraphId]>>,
}

/// What was measured.
#[derive(Default)]
pub(super) struct Measurements {
    pub(super) spans: Vec<TaskSpan>,
    pub(super) moves: Vec<MoveSpan>,
    pub(super) bytes_moved: u64,
    pub(super) submitted_ns: u64,
    pub(super) over_ns: u64,
    /// The session's events until it was submitted; once it is over, those from then to the end.
    pub(super) events: u64,
}

/// A graph that runs.
pub(super) struct Run {
    pub(super) fixed: Arc<Fixed>,
    pub(super) prices: Prices,
    pub(super) opaque: BTreeMap<ValueId, Opaque>,
    /// What its kernels keep between tasks, until the last is over.
    pub(super) held: Vec<Arc<dyn Any + Send + Sync>>,
    pub(super) record: Measurements,
    pub(super) attempts: BTreeMap<TaskId, u32>,
    pub(super) failed_moves: u32,
    pub(super) error: Option<Error>,
    pub(super) over: bool,
    /// Among what it ended, if it came to its end.
    pub(super) at_end: Option<AtEnd>,
    /// Its handle is gone: it is forgotten when the last of it is over.
    pub(super) unwanted: bool,
}

impl Run {
    pub(super) fn graph(&self) -> &Arc<TaskGraph> {
        &self.fixed.graph
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
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
    pub worker: u16,
    /// From, in ns.
    pub start_ns: u64,
    /// To, in ns.
    pub end_ns: u64,
    /// What the cost model had said, in ns.
    pub predicted_ns: u64,
    /// Whether its length was measured, or is its share of what several tasks took together.
    pub measured: bool,
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
    #[cfg(feature = "internals")]
    pub graph: Arc<TaskGraph>,
    #[cfg(not(feature = "internals"))]
    pub(crate) graph: Arc<TaskGraph>,
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
    /// GPUs of the session that did not do some of the work, and why: what they lack, that they failed, that they had no room, or that their programs were not compiled in
    /// time; (device, reason). That another device was sooner is no reason.
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
    pub(crate) fn group_label(&self, group: GroupId) -> &str {
        self.graph.groups().nth(group.index()).map_or("", |group| group.label)
    }
}
