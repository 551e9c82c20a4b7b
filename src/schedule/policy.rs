//! Where a ready task goes.
//!
//! Owns: the [`Policy`] trait and the policies `auto`, `cpu`, `gpu`, `device N`. Must not know: values, memory, queues; it sees predicted
//! times only. Invariant: a policy chooses among devices that can run the task, so no choice can be wrong, only slow.

use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::id::DeviceId;

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
    /// Time from now until it would be finished there, queue and link included.
    pub finish_ns: u64,
}

/// Decides where tasks run. A user can write one: see [`crate::runtime::SessionBuilder::policy`].
pub trait Policy: Send + 'static {
    /// Its name, in `explain()` and traces.
    fn name(&self) -> String;

    /// The index of the chosen candidate; there is at least one.
    fn choose(&mut self, candidates: &[Candidate]) -> usize;

    /// Whether an idle device may take tasks queued for another.
    fn steals(&self) -> bool {
        false
    }
}

/// Earliest finish time, the link counted as a queue; a little weight on the transfer itself, so that ties stay where the data are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Auto;

impl Policy for Auto {
    fn name(&self) -> String {
        "auto".into()
    }

    fn choose(&mut self, candidates: &[Candidate]) -> usize {
        let score = |c: &Candidate| c.finish_ns.saturating_add(c.transfer_ns / 10 * 3);
        least(candidates, score)
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

    fn choose(&mut self, candidates: &[Candidate]) -> usize {
        least(candidates, |c| c.finish_ns.saturating_add(if c.kind == self.0 { 0 } else { u64::MAX / 2 }))
    }
}

/// Only one device, wherever it can run the task.
#[derive(Clone, Copy, Debug)]
pub struct OnlyDevice(pub DeviceId);

impl Policy for OnlyDevice {
    fn name(&self) -> String {
        self.0.to_string()
    }

    fn choose(&mut self, candidates: &[Candidate]) -> usize {
        least(candidates, |c| c.finish_ns.saturating_add(if c.device == self.0 { 0 } else { u64::MAX / 2 }))
    }
}

fn least(candidates: &[Candidate], score: impl Fn(&Candidate) -> u64) -> usize {
    (0..candidates.len()).min_by_key(|&i| score(&candidates[i])).unwrap_or(0)
}

/// The placement that a user asks for: `auto`, `cpu`, `gpu`, or a device's index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Whichever device finishes first.
    #[default]
    Auto,
    /// The CPU only.
    Cpu,
    /// GPUs only.
    Gpu,
    /// One device, by its number in the session's list.
    Device(u16),
}

impl Placement {
    /// The policy that does it.
    #[must_use]
    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Auto => Box::new(Auto),
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
