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
use crate::id::{DeviceId, SpaceId, TaskId};
use crate::schedule::time;

/// What a run was among: the session's devices, those of them that count as lost, the limits of memory spaces, and whether tasks went where they were
/// predicted to be done first.
pub(super) struct RunEnd<'a> {
    pub(super) members: &'a [Member],
    pub(super) gone: &'a BTreeMap<DeviceId, Error>,
    pub(super) limit: &'a dyn Fn(SpaceId) -> u64,
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
            let lost = || Some(format!("it is not used any more ({})", self.gone.get(&device)?));
            let lacks = || unable::in_short(&cannot(run, column, member), !column.estimates.any());
            let full = || Some(column.full(run.graph(), &member.spec, (self.limit)(member.spec.space))?.to_string());
            let did_nothing = run.record.spans.iter().all(|span| span.device != device);
            let late = || if did_nothing && self.by_time { self.late(run, column) } else { None };
            lost().or_else(lacks).or_else(full).or_else(late)
        };
        gpus.filter_map(|(at, (column, member))| Some((member.spec.name.clone(), why(at, column, member)?))).collect()
    }

    /// Whether it would have been faster, had its programs been compiled.
    fn late(&self, run: &Run, column: &Column) -> Option<String> {
        column.estimates.compiling_ns.as_ref()?; // mostly: then tasks are not looked at
        let (graph, columns) = (run.graph(), run.prices.columns());
        let on_cpu = |task: TaskId| {
            let cpus = columns.iter().zip(self.members).filter(|(_, member)| member.spec.kind == DeviceKind::Cpu);
            cpus.filter_map(|(cpu, _)| cpu.estimates.ns(graph, task)).min()
        };
        let waits = graph.tasks().filter(|&task| {
            let there = column.estimates.ns(graph, task);
            there.is_some_and(|there| on_cpu(task).is_none_or(|here| there < here))
        });
        let longest = waits.map(|task| column.estimates.compiling_ns(graph, task)).max().filter(|&ns| ns > 0)?;
        Some(format!("its programs would have been compiled after {}, too late for this run", time(longest as f64 * 1e-9)))
    }
}

/// What a GPU does not run, and what it turned out not to run since the run was priced.
fn cannot(run: &Run, column: &Column, member: &Member) -> Vec<CannotRun> {
    let (graph, mut all) = (run.graph(), column.cannot.clone());
    for (number, profile) in graph.profiles().iter().enumerate() {
        if !known(graph, &run.fixed.kernels, profile, member).unfit {
            continue;
        }
        let kernel = graph.kernels()[profile.kernel.index()].key.name();
        if all.iter().all(|one| one.kernel != kernel) {
            let tasks = graph.tasks().filter(|&task| graph.profile_id(task).index() == number).count();
            all.push(CannotRun { kernel: kernel.to_owned(), why: Unable::Unfit, tasks });
        }
    }
    all
}
