//! From a plan to a run: prices, prediction, results' memory, submission.
//!
//! Owns: [`Session::submit`]. Must not know: what the scheduler will do. Invariant: nothing is counted or kept for a plan that is refused here.

use std::time::Instant;

use super::results::allocate_result;
use super::run::Run;
use super::{Handle, Plan, Priced, Session};
use crate::device::{DeviceSpec, HOST, HostBuffer};
use crate::error::Result;
use crate::id::GraphId;
use crate::schedule::{Event, Scheduler};

/// A compute predicted to take longer than this calibrates the machine first.
const WORTH_CALIBRATING_NS: u64 = 2_000_000_000;

impl Session {
    /// Starts a plan and returns at once. `asked` is when the user asked, for the report's planning time.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if a result cannot be allocated.
    pub fn submit(&self, plan: Plan, asked: Instant) -> Result<Handle> {
        let mut priced = self.price(&plan);
        // Predicting costs as much as scheduling; for huge graphs the sum of estimates must do.
        let predicted = |priced: &Priced| match self.predict_cheaply(&plan, priced) {
            Some(ns) => ns,
            None => rough_ns(priced, &self.0.specs),
        };
        let mut predicted_ns = predicted(&priced);
        if predicted_ns > WORTH_CALIBRATING_NS && self.0.settings.calibrate && !self.calibrated() {
            self.calibrate();
            priced = self.price(&plan);
            predicted_ns = predicted(&priced);
        }
        let mut arrays = Vec::with_capacity(plan.arrays.len());
        for (spec, bytes) in plan.graph.arrays().iter().zip(&plan.arrays) {
            arrays.push(match bytes {
                Some(bytes) => bytes.clone(),
                None if plan.graph.arrays().iter().map(crate::task::HostArray::bytes).sum::<u64>() > self.0.memory_limit => {
                    HostBuffer::pooled(0)? // refused below, before anything is written
                }
                None => allocate_result(spec.dtype, spec.len)?,
            });
        }
        let scratch_bytes = priced.scratch_bytes;
        let workers = self.0.specs.iter().filter(|(s, _)| s.space == HOST).map(|(s, _)| s.workers).sum();
        let peak_bound_bytes = Scheduler::peak_bytes(&plan.graph, scratch_bytes, workers);
        let estimates = priced.estimates.clone();
        let graph = plan.graph.clone();
        let id = {
            let mut state = self.0.lock();
            state.next_graph += 1;
            GraphId(state.next_graph)
        };
        let run = Run {
            graph: graph.clone(),
            arrays,
            opaque: std::collections::BTreeMap::new(),
            priced,
            spans: Vec::with_capacity(graph.len()),
            failed_moves: 0,
            moves: Vec::new(),
            bytes_moved: 0,
            attempts: std::collections::BTreeMap::new(),
            error: None,
            over: false,
            unwanted: false,
            submitted_ns: self.0.now_ns(),
            over_ns: 0,
        };
        let submitted = Instant::now();
        self.0.apply(Event::Submit { graph: id, tasks: graph, estimates, scratch_bytes }, |state| state.runs.insert(id, run));
        let plan_s = (submitted - asked).as_secs_f64();
        let predicted_s = predicted_ns as f64 * 1e-9;
        Ok(Handle { session: self.clone(), id, asked, plan_s, predicted_s, peak_bound_bytes, taken: false })
    }

    fn predict_cheaply(&self, plan: &Plan, priced: &Priced) -> Option<u64> {
        const FEW: usize = 20_000;
        (plan.graph.len() <= FEW).then(|| self.predict(plan, priced, None).ok()).flatten().map(|o| o.makespan_ns)
    }
}

/// Work divided by workers: a guess of the makespan.
fn rough_ns(priced: &Priced, specs: &[(DeviceSpec, crate::cost::PricedId)]) -> u64 {
    let total =
        |column: &[u64]| column.iter().filter(|&&ns| ns != crate::schedule::CANNOT).fold(0u64, |a, &b| a.saturating_add(b));
    let each = priced.estimates.iter().zip(specs).map(|(e, (spec, _))| total(&e.task_ns) / u64::from(spec.workers.max(1)));
    each.filter(|&ns| ns > 0).min().unwrap_or(0)
}
