//! What arrays, tests and measuring programs do with a session, and users do not.
//!
//! Owns: [`Inside`]. Must not know: how any of it is done. Invariant: a user of the crate cannot name it, so that graphs and rates are no promise to anybody.

use std::time::Instant;

use super::{Handle, Plan, Session};
use crate::cost::{Calibration, Rates, Tuned};
use crate::device::HOST;
use crate::error::Result;
use crate::id::DeviceId;
use crate::schedule::{Explanation, Scheduler};
use crate::task::TaskGraph;

/// What all GPUs of a session can do, which plans depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuBounds {
    /// Operands that each can bind at once.
    pub most_operands: usize,
    /// Whether each has floats and integers of 64 bits.
    pub are_wide: bool,
}

impl GpuBounds {
    /// Of no GPU.
    pub const NONE: Self = Self { most_operands: usize::MAX, are_wide: true };
}

/// A session as the rooms above it see it, and through the feature `internals` the tests.
pub trait Inside {
    /// Starts a plan and returns at once. `asked` is when the user asked, for the report's planning time.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) if a result cannot be allocated; [`Error::Failed`](crate::error::Error::Failed) in a task that
    /// is the 64th of those that wait for each other, each inside the one before.
    fn submit(&self, plan: Plan, asked: Instant) -> Result<Handle>;

    /// What the plan would do, and why; with the GPUs, which are looked for first if a run would look for them.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) if the limit refuses it; [`Error::Failed`](crate::error::Error::Failed) if a policy of the user's
    /// panics.
    fn explain(&self, plan: &mut Plan) -> Result<Explanation>;

    /// A device's rates, as estimates use them for work never measured, and what was measured of a CPU by [`Session::calibrate`],
    /// now or in an earlier run. `None` for an id that the session does not have.
    fn rates(&self, device: DeviceId) -> Option<(Rates, Option<Calibration>)>;

    /// How a GPU runs best, and what must not be tried there, as it was found out when it was calibrated, now or in an earlier run.
    fn tuned(&self, device: DeviceId) -> Option<Tuned>;

    /// What the memory limit leaves for arrays, chunks and tables: less what GPUs that have joined take for moves.
    fn usable_bytes(&self) -> u64;

    /// A memory limit that leaves this much, and a little more.
    fn limit_for(&self, bytes: u64) -> u64;

    /// What each of its GPUs can do, those that have joined.
    fn gpu_bounds(&self) -> GpuBounds;

    /// Bytes of host memory with which a graph is proved to run in this session.
    fn needs_bytes(&self, graph: &TaskGraph) -> u64;

    /// Believes from now on that a device has these rates, as if they had been measured; what was measured of single kernels stays. For
    /// trying out placement.
    fn set_rates(&self, device: DeviceId, rates: Rates);
}

impl Inside for Session {
    fn submit(&self, plan: Plan, asked: Instant) -> Result<Handle> {
        self.submit_plan(plan, asked)
    }

    fn explain(&self, plan: &mut Plan) -> Result<Explanation> {
        self.explain_plan(plan)
    }

    fn rates(&self, device: DeviceId) -> Option<(Rates, Option<Calibration>)> {
        self.known_rates(device)
    }

    fn tuned(&self, device: DeviceId) -> Option<Tuned> {
        self.known_tuning(device)
    }

    fn usable_bytes(&self) -> u64 {
        self.0.lock().scheduler.limit_bytes(HOST)
    }

    fn limit_for(&self, bytes: u64) -> u64 {
        self.0.limit_for(bytes)
    }

    fn gpu_bounds(&self) -> GpuBounds {
        let all = self.0.members.all();
        let gpus = || all.iter().filter_map(|member| member.spec.gpu);
        GpuBounds {
            most_operands: gpus().map(|gpu| gpu.bindings as usize).min().unwrap_or(usize::MAX),
            are_wide: gpus().all(|gpu| gpu.f64 && gpu.i64),
        }
    }

    fn needs_bytes(&self, graph: &TaskGraph) -> u64 {
        let workers = self.devices().iter().filter(|d| d.space == HOST).map(|d| d.workers).sum();
        Scheduler::peak_bytes(graph, graph.scratch_bytes(), workers)
    }

    fn set_rates(&self, device: DeviceId, rates: Rates) {
        if let Some(member) = self.0.members.all().get(device.index()) {
            self.0.with_costs(|costs| costs.set_rates(member.priced, rates));
        }
    }
}
