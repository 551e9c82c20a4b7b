//! Why a GPU did not do more of a run, in words.
//!
//! Owns: the reasons in [`RunReport::idle`](super::RunReport). Must not know: placement. Invariant: a reason is what was so when the run was over, and nothing that is said is put into
//! words under a lock.

use std::collections::BTreeMap;

use super::members::Member;
use super::prices::{Column, known};
use super::run::Run;
use super::unable::{self, CannotRun, Unable};
use crate::device::DeviceKind;
use crate::error::Error;
use crate::id::{DeviceId, TaskId};
use crate::schedule::{Scheduler, crossing_ns, time};

/// What was so when a run was over: the devices that count as lost, and of each of the session's the limit of its memory.
pub(super) struct AtEnd {
    gone: BTreeMap<DeviceId, Error>,
    limits: Vec<u64>,
}

impl AtEnd {
    pub(super) fn new(gone: BTreeMap<DeviceId, Error>, members: &[Member], scheduler: &Scheduler) -> Self {
        Self { gone, limits: members.iter().map(|member| scheduler.limit_bytes(member.spec.space)).collect() }
    }
}

/// What a run was among: the session's devices, what became of them, and whether tasks went where they were predicted to be done first.
pub(super) struct RunEnd<'a> {
    pub(super) members: &'a [Member],
    pub(super) at_end: &'a AtEnd,
    pub(super) by_time: bool,
}

impl RunEnd<'_> {
    /// The GPUs that did not do some of the work although they were there, or none of it, and why: what they lack, that they failed, that they had no room, or that their programs
    /// were not compiled in time. That another device was sooner is no reason that is given.
    pub(super) fn idle(&self, run: &Run) -> Vec<(String, String)> {
        let columns = run.prices.columns().iter().zip(self.members).enumerate();
        let gpus = columns.filter(|(_, (_, member))| member.spec.gpu.is_some());
        let why = |at: usize, column: &Column, member: &Member| {
            let device = DeviceId::at(at);
            let own = run.record.spans.iter().filter(|span| span.device == device).map(|span| span.task);
            let lost = || Some(format!("it is not used any more ({})", self.at_end.gone.get(&device)?));
            let lacks = || unable::in_short(&cannot(run, (column, member), own.clone()), !column.estimates.any());
            let full = || Some(column.full(run.graph(), &member.spec, *self.at_end.limits.get(at)?)?.to_string());
            let did_nothing = own.clone().next().is_none();
            let late = || if did_nothing && self.by_time { self.late(run, column, member) } else { None };
            lost().or_else(lacks).or_else(full).or_else(late)
        };
        gpus.filter_map(|(at, (column, member))| Some((member.spec.name.clone(), why(at, column, member)?))).collect()
    }

    /// Whether it would have been faster, had its programs been compiled: by what the caller's memory and the results take over the link, too.
    fn late(&self, run: &Run, column: &Column, member: &Member) -> Option<String> {
        column.estimates.compiling_ns.as_ref()?; // mostly: then tasks are not looked at
        let (graph, columns) = (run.graph(), run.prices.columns());
        let on_cpu = |task: TaskId| {
            let cpus = columns.iter().zip(self.members).filter(|(_, member)| member.spec.kind == DeviceKind::Cpu);
            cpus.filter_map(|(cpu, _)| cpu.estimates.ns(graph, task)).min()
        };
        let waits = graph.tasks().filter(|&task| {
            let crossing = member.spec.link.map_or(0, |link| crossing_ns(graph, task, link));
            let there = column.estimates.ns(graph, task).map(|there| there.saturating_add(crossing));
            there.is_some_and(|there| on_cpu(task).is_none_or(|here| there < here))
        });
        let longest = waits.map(|task| column.estimates.compiling_ns(graph, task)).max().filter(|&ns| ns > 0)?;
        Some(format!("its programs would have been compiled after {}, too late for this run", time(longest as f64 * 1e-9)))
    }
}

/// What a GPU does not run, and what it turned out not to run since the run was priced: in this one, of which it did other tasks.
fn cannot(run: &Run, (column, member): (&Column, &Member), done: impl Iterator<Item = TaskId> + Clone) -> Vec<CannotRun> {
    let (graph, mut all) = (run.graph(), column.cannot.clone());
    for (number, profile) in graph.profiles().iter().enumerate() {
        if !known(graph, &run.fixed.kernels, profile, member).unfit {
            continue;
        }
        let kernel = graph.kernels()[profile.kernel.index()].key.name();
        let is_told = all.iter().any(|one| one.kernel == kernel && one.why == Unable::Unfit);
        let is_of_it = |task: &TaskId| graph.profile_id(*task).index() == number;
        // What it has done here, it was found to be unable to do in a later run.
        if !is_told && !done.clone().any(|task| is_of_it(&task)) {
            let tasks = graph.tasks().filter(is_of_it).count();
            all.push(CannotRun { kernel: kernel.to_owned(), why: Unable::Unfit, tasks });
        }
    }
    all
}
