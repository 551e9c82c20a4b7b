//! Whether a plan fits memory, and what would.
//!
//! Owns: [`Fit`]: the refusal of plans, with what to do about it. Must not know: any operation, what the scheduler counts. Invariant: what is suggested was
//! planned, and fits; a refusal tries limits, and then chunks, as long as the plans for each have fewer than [`ALL_TRIAL_TASKS`] tasks together.

use std::cell::Cell;
use std::sync::Arc;

use super::expr::{Existing, Op, Primitive};
use super::grids::bytes_of;
use super::lower::{KEPT_PART, Lowering, Root, To};
use crate::error::{Error, Remedy, Result};
use crate::runtime::{Inside, Plan, Session};
use crate::schedule::Scheduler;
use crate::shape::{ChunkView, Region};
use crate::task::{ChunkSink, Intake, TaskGraph};

/// Most tasks of a plan that is only made to see what it needs.
const TRIAL_TASKS: usize = 300_000;

/// Most tasks of all such plans, for limits and again for chunks: the last one may go beyond.
const ALL_TRIAL_TASKS: usize = 4 * TRIAL_TASKS;

/// What such a plan costs that is given up, in tasks: mostly before it has any.
const GIVEN_UP_TASKS: usize = TRIAL_TASKS / 16;

/// So many limits are tried before the one that holds all.
const MORE_TRIALS: usize = 6;

/// Chunks that need so many times what is known to be needed anyway are no advice.
const FAR: u64 = 16;

/// What is to be planned, in which session.
pub(super) struct Fit<'a> {
    session: &'a Session,
    roots: &'a [Root<'a>],
    /// Tasks of plans that may still be made only to see what they need.
    left: Cell<usize>,
}

/// Why a plan does not fit.
struct Refusal {
    what: String,
    requested_bytes: u64,
    /// A limit that would do, if that is known.
    enough: Option<u64>,
    /// Whether fewer, larger chunks would help.
    crowded: bool,
}

impl<'a> Fit<'a> {
    pub(super) fn new(session: &'a Session, roots: &'a [Root<'a>]) -> Self {
        Self { session, roots, left: Cell::new(ALL_TRIAL_TASKS) }
    }

    /// The plan.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if it needs more than the session's limit, with chunks and a limit that would do.
    pub(super) fn plan(&self) -> Result<Plan> {
        let limit = self.session.usable_bytes();
        if let Some(plan) = self.keeping(limit) {
            return Ok(plan);
        }
        let refusal = match self.bound(Lowering::within(limit)).plan(self.roots) {
            Ok(plan) => {
                let peak = self.session.needs_bytes(&plan.graph);
                if peak <= limit {
                    return Ok(plan);
                }
                if let Some(held) = held_too_large(&plan.graph, limit) {
                    // Whatever the chunks.
                    let (space, remedies) = ("host".into(), vec![self.limit(peak)]);
                    return Err(Error::OutOfMemory {
                        what: held,
                        requested_bytes: peak,
                        available_bytes: limit,
                        space,
                        remedies,
                    });
                }
                let crowded = Scheduler::table_bytes(&plan.graph) > peak / 2;
                let what = if crowded { bookkeeping(plan.graph.len()) } else { peak_task(&plan.graph) };
                Refusal { what, requested_bytes: peak, enough: self.enough(peak), crowded }
            }
            Err(Error::OutOfMemory { what, requested_bytes, .. }) => {
                let crowded = !what.is_empty();
                let arrays = || match self.roots {
                    [root] => format!("{} of shape {:?} with its inputs", root.expr.op.name(), root.expr.op.shape),
                    roots => format!("{} arrays with their inputs", roots.len()),
                };
                let what = if crowded { what } else { arrays() };
                Refusal { what, requested_bytes, enough: self.trial(u64::MAX, None), crowded }
            }
            Err(other) => return Err(other),
        };
        Err(self.refuse(refusal))
    }

    /// For the session's devices.
    fn bound(&self, lowering: Lowering) -> Lowering {
        lowering.on(self.session.gpu_bounds())
    }

    /// The plan that keeps what is large and could be made again, if there are any and it fits.
    fn keeping(&self, limit: u64) -> Option<Plan> {
        let large = |op: &Op| {
            matches!(op.primitive, Primitive::Source(Existing::Stored(_), _) | Primitive::Generate(..) | Primitive::Map(_))
                && bytes_of(op.shape.clone(), op.dtype) > limit / KEPT_PART
        };
        if !self.roots.iter().flat_map(|root| root.expr.all()).any(|node| large(&node.op)) {
            return None;
        }
        let plan = self.bound(Lowering::within(limit)).keeping().plan(self.roots).ok()?;
        (self.session.needs_bytes(&plan.graph) <= limit).then_some(plan)
    }

    fn refuse(&self, refusal: Refusal) -> Error {
        self.left.set(ALL_TRIAL_TASKS);
        let limit = self.session.usable_bytes();
        let fits = |side: usize| self.trial(limit, Some(side)).filter(|&peak| peak <= limit).map(|peak| (side, peak));
        let mut remedies = Vec::new();
        if let Some((extent, needs_bytes)) = self.sides(refusal.crowded).into_iter().find_map(fits) {
            remedies.push(Remedy::Chunks { extent, needs_bytes, limit_bytes: None });
        }
        if let Some(peak) = refusal.enough {
            remedies.push(self.limit(peak));
        } else if remedies.is_empty() {
            // So many tasks that not even what they need is worth finding out.
            let some = |extent: usize| self.trial(u64::MAX, Some(extent)).map(|peak| (extent, peak));
            let least = self.sides(true).into_iter().filter_map(some).min_by_key(|(_, needs_bytes)| *needs_bytes);
            remedies.push(match least {
                Some((extent, needs_bytes)) if needs_bytes / FAR <= refusal.requested_bytes => {
                    let limit_bytes = Some(self.session.limit_for(needs_bytes));
                    Remedy::Chunks { extent, needs_bytes, limit_bytes }
                }
                _ => Remedy::Other("a higher memory limit, or chunks that are fewer and not square".into()),
            });
        }
        if self.streams() {
            remedies.push(Remedy::Store);
        }
        if remedies.is_empty() {
            remedies.push(Remedy::Other("a smaller array".into()));
        }
        let requested_bytes = refusal.enough.unwrap_or(refusal.requested_bytes);
        Error::OutOfMemory { what: refusal.what, requested_bytes, available_bytes: limit, space: "host".into(), remedies }
    }

    /// A limit that suffices.
    fn limit(&self, peak: u64) -> Remedy {
        Remedy::Limit(self.session.limit_for(peak))
    }

    /// What suffices, if these bytes do not: with more, more may be held at once, so what is needed then is looked at again.
    fn enough(&self, mut bytes: u64) -> Option<u64> {
        for _ in 0..MORE_TRIALS {
            let needed = self.trial(bytes, None)?;
            if needed <= bytes {
                return Some(bytes);
            }
            bytes = needed;
        }
        self.trial(u64::MAX, None)
    }

    /// What a plan with chunks of this extent needs, if it is not obviously more than `limit`.
    fn trial(&self, limit: u64, side: Option<usize>) -> Option<u64> {
        let left = self.left.get();
        let plan = self.bound(Lowering::trial(limit, side, TRIAL_TASKS.min(left))).plan(self.roots);
        let cost = plan.as_ref().map_or(GIVEN_UP_TASKS, |plan| plan.graph.len());
        self.left.set(left.saturating_sub(cost));
        Some(self.session.needs_bytes(&plan.ok()?.graph))
    }

    /// Whether the results could be stored chunk by chunk within the limit.
    fn streams(&self) -> bool {
        let nowhere = |root: &Root<'_>| Intake::new("nowhere", &root.expr.op.shape, root.expr.op.dtype).ok();
        let sinks: Vec<Arc<dyn ChunkSink>> =
            self.roots.iter().filter_map(nowhere).map(|intake| Arc::new(Nowhere(intake)) as Arc<dyn ChunkSink>).collect();
        let roots: Vec<Root<'_>> =
            self.roots.iter().zip(&sinks).map(|(root, sink)| Root { expr: root.expr, to: To::Sink(sink) }).collect();
        let (limit, results) = (self.session.usable_bytes(), self.roots.iter().any(|root| matches!(root.to, To::Result)));
        results && Fit::new(self.session, &roots).trial(limit, None).is_some_and(|peak| peak <= limit)
    }

    /// Extents of chunks to try, the nearest first: larger ones first if there are too many chunks, else smaller ones.
    fn sides(&self, crowded: bool) -> Vec<usize> {
        let all: Vec<&Op> = self.roots.iter().flat_map(|root| root.expr.all()).map(|node| &*node.op).collect();
        let widest = |op: &Op| op.grid.largest().into_iter().max().unwrap_or(1).max(1);
        let most = all.iter().map(|op| widest(op)).max().unwrap_or(1);
        let finest = all.iter().max_by_key(|op| op.grid.len()).map_or(1, |op| widest(op));
        let longest = all.iter().flat_map(|op| op.shape.iter().copied()).max().unwrap_or(1);
        let smaller = std::iter::successors(Some(most / 2), |s| Some(s / 2)).take_while(|&s| s >= 16).take(8);
        let larger = std::iter::successors(Some(finest), |s| (*s < longest).then(|| s.saturating_mul(2).min(longest))).skip(1);
        if crowded { larger.chain(smaller).collect() } else { smaller.chain(larger).collect() }
    }
}

/// What is written here is not kept: for plans that are never run.
struct Nowhere(Intake);

impl ChunkSink for Nowhere {
    fn intake(&self) -> &Intake {
        &self.0
    }
    fn put(&self, _: &Region, _: ChunkView<'_>) -> Result<()> {
        Ok(())
    }
    fn commit(&self) -> Result<()> {
        Ok(())
    }
}

/// What is short where tasks are many.
pub(super) fn bookkeeping(tasks: usize) -> String {
    format!("the bookkeeping of {tasks} task{}", if tasks == 1 { "" } else { "s" })
}

/// What kernels hold beside the arrays, if that alone is more than the limit: the largest of it.
fn held_too_large(graph: &TaskGraph, limit: u64) -> Option<String> {
    let arrays: u64 = graph.arrays().iter().map(crate::task::HostArray::bytes).sum();
    let largest = graph.held().iter().max_by_key(|held| held.bytes)?;
    (arrays.saturating_add(graph.held_bytes()) > limit).then(|| largest.what.clone())
}

/// The sum is that of all that is held at the peak, of which the task may have little.
fn peak_task(graph: &TaskGraph) -> String {
    let at = |task| format!("this computation, at task {},", graph.task_name(task));
    Scheduler::peak_task(graph).map_or_else(|| "this computation".into(), at)
}
