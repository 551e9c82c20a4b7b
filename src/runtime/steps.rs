//! What scheduling itself takes, a task.
//!
//! Owns: the time of a step, learned from runs of tiny tasks. Must not know: what is decided. Invariant: it is learned only where tasks are so small that what
//! is left of the time is the scheduler's.

use super::Session;
use super::run::Run;
use crate::cost::{Basis, CostId};
use crate::device::DeviceKind;
use crate::kernel::Work;
use crate::shape::DType;
use crate::task::TaskGraph;

/// Until it was measured: nanoseconds for a task, and for each operand and each edge.
const PRIOR_NS: u64 = 650;
/// Runs of fewer tasks, or of longer ones, teach nothing.
const LEAST_TASKS: usize = 1000;
const TINY_NS: u64 = 20_000;

/// What a graph's steps are counted in, told to the cost model as flops: tasks, operands and edges are each looked up, counted or moved once. It is a
/// size of work as others are, because a graph that leaves the caches takes longer for each.
fn units(graph: &TaskGraph) -> u64 {
    (graph.len() + graph.operand_count() + graph.edge_count()) as u64
}

fn work(graph: &TaskGraph) -> Work {
    Work { flops: units(graph) as f64, bytes: 0.0 }
}

impl Session {
    /// Predicted nanoseconds that deciding and handing out takes for each task of a graph.
    pub(super) fn step_ns(&self, graph: &TaskGraph) -> u64 {
        let Some(cost) = self.step_cost() else { return 0 };
        let estimate = self.0.with_costs(|costs| costs.estimate(cost, work(graph)));
        let all = if estimate.basis == Basis::Prior { PRIOR_NS.saturating_mul(units(graph)) } else { estimate.ns };
        all / graph.len().max(1) as u64
    }

    /// Learns from a run that is over.
    pub(super) fn learn_step(&self, run: &Run) {
        let busy: u64 = run.record.spans.iter().map(|span| span.end_ns - span.start_ns).sum();
        let tasks = run.record.spans.len();
        // Not where others had the workers, or the lock, meanwhile.
        let alone = run.record.events <= (tasks + tasks / 8) as u64;
        if run.error.is_some() || tasks < LEAST_TASKS || busy / tasks as u64 > TINY_NS || !alone {
            return;
        }
        let begin = run.record.spans.iter().map(|span| span.start_ns).min().unwrap_or(run.record.over_ns); // it may have waited for memory
        let workers: u32 = self.devices().iter().filter(|d| d.kind == DeviceKind::Cpu).map(|d| d.workers).sum();
        let rest = run.record.over_ns.saturating_sub(begin).saturating_sub(busy / u64::from(workers.max(1)));
        if let Some(cost) = self.step_cost() {
            self.0.with_costs(|costs| costs.record(cost, work(run.graph()), rest));
        }
    }

    /// Where it is kept: with the kernels of the CPU, which does the scheduling.
    fn step_cost(&self) -> Option<CostId> {
        let members = self.0.members.all();
        let cpu = members.iter().find(|m| m.spec.kind == DeviceKind::Cpu)?;
        Some(self.0.with_costs(|costs| costs.resolve(cpu.priced, "scheduler@1", DType::U8)))
    }
}
