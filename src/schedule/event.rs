//! What the scheduler is told, and what it answers.
//!
//! Owns: [`Event`], [`Action`], [`Location`]. Must not know: clocks, threads, buffers' addresses. Invariant: events carry everything that a
//! decision depends on, so that a recorded sequence replays to the same actions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::device::{DeviceSpec, LinkSpec};
use crate::id::{BufferId, CopyId, DeviceId, FormId, GraphId, LaunchId, SpaceId, TaskId, ValueId};
use crate::task::TaskGraph;

/// What there is one estimate for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Each {
    /// Each task.
    Task,
    /// Each [`Profile`](crate::task::Profile): its tasks all take the same.
    Profile,
}

/// Predicted times of the tasks of a graph on one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Estimates {
    /// The device.
    pub device: DeviceId,
    /// What there is one entry for.
    pub each: Each,
    /// The times; [`CANNOT`] where the device cannot run it.
    pub ns: Arc<[u64]>,
    /// Whether each is a time that such tasks were measured to take, and that follows from their work; `None` if none is. Only such a
    /// time can say that a task hangs.
    pub measured: Option<Arc<[bool]>>,
    /// How long after the graph was submitted (or priced) the device can begin such a task, where its program is yet to be compiled; `None` if all are.
    #[serde(default)]
    pub compiling_ns: Option<Arc<[u64]>>,
}

impl Estimates {
    fn at(&self, graph: &TaskGraph, task: TaskId) -> usize {
        match self.each {
            Each::Task => task.index(),
            Each::Profile => graph.profile_id(task).index(),
        }
    }

    /// The time of a task, if the device can run it.
    #[must_use]
    pub fn ns(&self, graph: &TaskGraph, task: TaskId) -> Option<u64> {
        let ns = *self.ns.get(self.at(graph, task))?;
        (ns != CANNOT).then_some(ns)
    }

    /// Whether that is a measured time of such tasks.
    #[must_use]
    pub fn is_measured(&self, graph: &TaskGraph, task: TaskId) -> bool {
        self.measured.as_ref().and_then(|measured| measured.get(self.at(graph, task))).is_some_and(|&measured| measured)
    }

    /// How long after it was priced the device can begin the task at the earliest.
    #[must_use]
    pub fn compiling_ns(&self, graph: &TaskGraph, task: TaskId) -> u64 {
        self.compiling_ns.as_ref().and_then(|all| all.get(self.at(graph, task)).copied()).unwrap_or(0)
    }

    /// Whether the device can run any of the tasks.
    #[must_use]
    pub fn any(&self) -> bool {
        self.ns.iter().any(|&ns| ns != CANNOT)
    }
}

/// The estimate of a task that a device cannot run.
pub const CANNOT: u64 = u64::MAX;

/// Something that happened.
#[derive(Clone, Serialize, Deserialize)]
pub enum Event {
    /// A device can be used from now on.
    DeviceJoined {
        /// Its id, new.
        device: DeviceId,
        /// What it is.
        spec: DeviceSpec,
    },
    /// A device is gone, with everything in its memory space (unless that is the host's).
    DeviceLost {
        /// The device.
        device: DeviceId,
    },
    /// The limit of a memory space. One lower than what is in use in a device's space (it was found to have less) is kept as
    /// soon as can be: what lies unused there goes at once, what exists nowhere else when it has been copied home.
    MemoryLimit {
        /// The space.
        space: SpaceId,
        /// The new limit.
        bytes: u64,
    },
    /// A caller's array ([`crate::task::HostArray::source`]) is gone: copies of its chunks are kept no longer.
    SourceGone {
        /// Its number.
        source: u64,
    },
    /// The speed of a device's link, measured: replaces that of its spec.
    Link {
        /// The device.
        device: DeviceId,
        /// Host to device, and back.
        link: [LinkSpec; 2],
    },
    /// A graph to run.
    Submit {
        /// Its id, new.
        graph: GraphId,
        /// Its tasks.
        tasks: Arc<TaskGraph>,
        /// Costs on the devices known now.
        estimates: Vec<Estimates>,
        /// Scratch of the neediest task.
        scratch_bytes: u64,
        /// The graph of the task that submits it and will wait for it, the graph of which a task waits for that, and so on; they may be of other
        /// sessions. Empty or `None` if no task submits it.
        within: Option<Arc<[GraphId]>>,
    },
    /// Costs of a graph on a device that joined later.
    Priced {
        /// The graph.
        graph: GraphId,
        /// Costs on one device.
        estimates: Estimates,
    },
    /// A device turned out to be unable to run some tasks of a graph, which another one can run.
    Unfit {
        /// The graph.
        graph: GraphId,
        /// The device.
        device: DeviceId,
        /// The tasks, done or not.
        tasks: Arc<[TaskId]>,
    },
    /// A launch ended well.
    Done {
        /// Which.
        launch: LaunchId,
        /// Time it took.
        elapsed_ns: u64,
    },
    /// A launch failed because of its device: its outputs are not there.
    LaunchLost {
        /// Which.
        launch: LaunchId,
    },
    /// A launch failed because of its data: the graph stops.
    LaunchFailed {
        /// Which.
        launch: LaunchId,
    },
    /// A move ended.
    Moved {
        /// Which.
        copy: CopyId,
        /// Whether the bytes are there.
        arrived: bool,
    },
    /// A launch waits inside its kernel: its time does not count meanwhile.
    Waits {
        /// Which.
        launch: LaunchId,
        /// For which graph, whose tasks may take the worker's place meanwhile; `None` for something else.
        graph: Option<GraphId>,
    },
    /// It waits no longer.
    Resumes {
        /// Which.
        launch: LaunchId,
    },
    /// The graph's result has been taken, or nobody wants it any more.
    Retire {
        /// The graph.
        graph: GraphId,
    },
    /// Nothing, but time has passed: look for stalled tasks.
    Tick,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Create a buffer.
    Allocate {
        /// Its id, free until now.
        buffer: BufferId,
        /// Where.
        space: SpaceId,
        /// Its size.
        bytes: u64,
    },
    /// Give a buffer back to the system.
    Release {
        /// The buffer.
        buffer: BufferId,
    },
    /// Drop an opaque value: its last reader is done.
    Drop {
        /// The graph.
        graph: GraphId,
        /// The value.
        value: ValueId,
    },
    /// Run a task; [`super::Scheduler::operands`] says on which bytes.
    Run {
        /// The launch to report.
        launch: LaunchId,
        /// The graph.
        graph: GraphId,
        /// The task.
        task: TaskId,
        /// Where.
        device: DeviceId,
    },
    /// Make a packed form of a value, for `task`'s kernel.
    Pack {
        /// The launch to report.
        launch: LaunchId,
        /// The graph.
        graph: GraphId,
        /// The value.
        value: ValueId,
        /// The task whose kernel wants it.
        task: TaskId,
        /// The form.
        form: FormId,
        /// From here.
        from: Location,
        /// To there.
        to: Location,
        /// Where.
        device: DeviceId,
    },
    /// Move a value between the host and a device's space.
    Move {
        /// The move to report.
        copy: CopyId,
        /// The graph.
        graph: GraphId,
        /// The value.
        value: ValueId,
        /// Whose link.
        device: DeviceId,
        /// Host to device (else back).
        upload: bool,
        /// From here.
        from: Location,
        /// To there.
        to: Location,
    },
    /// The graph cannot run within the host's memory limit.
    Refused {
        /// The graph.
        graph: GraphId,
        /// The task at which the peak is reached; `None` if the arrays alone are too large.
        task: Option<TaskId>,
        /// The proven peak.
        peak_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// After a fault, a graph needs more host memory than was promised to it: it stops.
    NoMemory {
        /// The graph.
        graph: GraphId,
        /// The task that does not fit.
        task: TaskId,
        /// What it needs.
        bytes: u64,
        /// What is in use.
        used_bytes: u64,
    },
    /// No worker is left for a task: the graph stops.
    Stalled {
        /// The graph.
        graph: GraphId,
        /// The task.
        task: TaskId,
        /// Where it hangs; `None` if no device can run it at all.
        device: Option<DeviceId>,
        /// Since when.
        waited_ns: u64,
        /// Its predicted time.
        predicted_ns: u64,
    },
    /// Everything is over: results are in place if nothing failed.
    Finished {
        /// The graph.
        graph: GraphId,
    },
}

/// Where the bytes of a value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// In its home window.
    Home,
    /// In a pooled buffer, from its start, C order.
    Buffer(BufferId),
    /// It is an opaque value.
    Opaque,
}

/// On which bytes a launch works.
#[derive(Clone, Debug, Default)]
pub struct Operands {
    /// Location of each input.
    pub inputs: SmallVec<[Location; 4]>,
    /// Location of each output, and of the old value to be copied in first.
    pub outputs: SmallVec<[(Location, Option<Location>); 2]>,
}
