//! Where a ready task goes.
//!
//! Owns: the [`Policy`] trait and the policies `auto`, `cpu`, `gpu`, `device N`. Must not know: values, memory, queues; it sees predicted
//! times only. Invariant: a policy chooses among devices that can run the task, so no choice can be wrong, only slow.

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::id::{DeviceId, GraphId, TaskId};

/// A device that could run a task, and what is predicted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The device.
    pub device: DeviceId,
    /// Its kind.
    pub kind: DeviceKind,
    /// Time of the task alone.
    pub estimate_ns: u64,
    /// Time on the link for its missing inputs, and for its results back to the host.
    pub transfer_ns: u64,
    /// Time from now until it would be finished there: queue, link and compiler included.
    pub finish_ns: u64,
}

/// A task that can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its graph.
    pub graph: GraphId,
    /// Which.
    pub task: TaskId,
    /// Its bottom level: predicted time of the longest path from its start to the end of the graph, each task on its best device. Of a task that was
    /// queued before, its priority there.
    pub level_ns: u64,
}

/// Where a task goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The index of the candidate. One beyond the last is the last.
    pub candidate: usize,
    /// Of the tasks of one graph that wait for a device, the one with the highest priority is taken first; of equal ones the first in sequential order.
    pub priority: u64,
}

/// A task that has ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its graph.
    pub graph: GraphId,
    /// Which.
    pub task: TaskId,
    /// Where.
    pub device: DeviceId,
    /// What was predicted, and what it took.
    pub predicted_ns: u64,
    /// See above.
    pub elapsed_ns: u64,
}

/// Decides where tasks run, and in which order. A user can write one: see [`crate::runtime::SessionBuilder::policy`]. It is called while the session's
/// state is locked, so it should be quick, and must not call the session. A panic in it is an error of the session's runs, or of what asked for it.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// use chunkwise::ext::{Candidate, Choice, Policy, Ready};
/// /// Whoever is free first, first come, first served.
/// struct Eager;
/// impl Policy for Eager {
///     fn name(&self) -> String {
///         "eager".into()
///     }
///     fn place(&mut self, task: Ready, candidates: &[Candidate]) -> Choice {
///         let idle = |c: &Candidate| c.finish_ns - c.estimate_ns;
///         let candidate = (0..candidates.len()).min_by_key(|&i| idle(&candidates[i])).unwrap_or(0);
///         Choice { candidate, priority: u64::MAX - u64::from(task.task.0) }
///     }
/// }
/// let session = Session::builder().policy(|| Box::new(Eager)).cache_dir("").build()?;
/// let a = Array::from(ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]])).in_session(&session).chunks(1);
/// assert_eq!(a.mean().compute_scalar()?, 3.25);
/// # Ok::<(), chunkwise::Error>(())
/// ```
pub trait Policy: Send + 'static {
    /// Its name, in `explain()` and traces.
    fn name(&self) -> String;

    /// Where a task goes whose inputs have all been made, and when it is taken there; there is at least one candidate.
    fn place(&mut self, task: Ready, candidates: &[Candidate]) -> Choice;

    /// Whether an idle device may take tasks queued for another at all: then [`Policy::steal`] is asked.
    fn steals(&self) -> bool {
        false
    }

    /// Whether an idle device (`thief`) takes this task, which is queued for a device that is through with all it has after `drain_ns`. Asked if the
    /// task itself takes the thief less than that.
    fn steal(&mut self, _task: Ready, thief: &Candidate, drain_ns: u64) -> bool {
        thief.finish_ns < drain_ns
    }

    /// A task has ended.
    fn done(&mut self, _ended: Ended) {}
}

/// Earliest finish time, the link counted as a queue; a little weight on the transfer itself, so that ties stay where the data are.
#[derive(Clone, Copy, Debug, Default)]
pub struct EarliestFinish;

impl Policy for EarliestFinish {
    fn name(&self) -> String {
        "auto".into()
    }

    fn place(&mut self, task: Ready, candidates: &[Candidate]) -> Choice {
        least(task, candidates, |c| c.finish_ns.saturating_add(c.transfer_ns / 10 * 3))
    }

    fn steals(&self) -> bool {
        true
    }
}

/// Only devices of one kind, wherever there is one that can run the task (a combine step may have no GPU half).
#[derive(Clone, Copy, Debug)]
pub struct Only(pub DeviceKind);

impl Policy for Only {
    fn name(&self) -> String {
        match self.0 {
            DeviceKind::Cpu => "cpu".into(),
            DeviceKind::Gpu => "gpu".into(),
            DeviceKind::Io => "io".into(),
        }
    }

    fn place(&mut self, task: Ready, candidates: &[Candidate]) -> Choice {
        least(task, candidates, |c| c.finish_ns.saturating_add(if c.kind == self.0 { 0 } else { u64::MAX / 2 }))
    }
}

/// Only one device, wherever it can run the task.
#[derive(Clone, Copy, Debug)]
pub struct OnlyDevice(pub DeviceId);

impl Policy for OnlyDevice {
    fn name(&self) -> String {
        self.0.to_string()
    }

    fn place(&mut self, task: Ready, candidates: &[Candidate]) -> Choice {
        least(task, candidates, |c| c.finish_ns.saturating_add(if c.device == self.0 { 0 } else { u64::MAX / 2 }))
    }
}

/// The candidate with the lowest score; the highest bottom level goes first.
fn least(task: Ready, candidates: &[Candidate], score: impl Fn(&Candidate) -> u64) -> Choice {
    let candidate = (0..candidates.len()).min_by_key(|&i| score(&candidates[i])).unwrap_or(0);
    Choice { candidate, priority: task.level_ns }
}

/// The placement that a user asks for: `auto`, `cpu`, `gpu`, or a device's index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Whichever device finishes first.
    #[default]
    Auto,
    /// The CPU only.
    Cpu,
    /// GPUs, for all that they can run: a session without one is refused. What they cannot run (an operation without a GPU half, a dtype that the adapter lacks, a shader that its driver refuses) runs on the CPU;
    /// `explain` says what, and why.
    Gpu,
    /// One device, by its number in the session's list, for all that it can run. Work for which the device lacks something (a dtype, bindings) is an error.
    Device(u16),
}

impl Placement {
    /// The policy that does it.
    #[must_use]
    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Auto => Box::new(EarliestFinish),
            Self::Cpu => Box::new(Only(DeviceKind::Cpu)),
            Self::Gpu => Box::new(Only(DeviceKind::Gpu)),
            Self::Device(index) => Box::new(OnlyDevice(DeviceId(index))),
        }
    }
}

impl std::str::FromStr for Placement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            number => number.parse().map(Self::Device).map_err(|_| {
                Error::argument("device", text, "write auto, cpu, gpu, or the number of a device in the session's list")
            }),
        }
    }
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Device(index) => write!(f, "{index}"),
        }
    }
}
