//! What the tasks of a plan take on each device.
//!
//! Owns: [`Prices`]. Must not know: placement. Invariant: kernels and devices are asked while nothing is locked; the
//! cost model is locked for arithmetic only; what is learned from a run belongs to what was predicted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ahead::compile_ahead;
use super::asked::{AskedPrograms, ProgramAnswer};
use super::driver::Inner;
use super::members::Member;
use super::unable::{self, CannotRun, Unable};
use crate::cost::{Basis, CostId, Estimate, PricedAs};
use crate::device::DeviceSpec;
use crate::id::{DeviceId, SpaceId, TaskId};
use crate::kernel::{Kernel, Work};
use crate::schedule::{CANNOT, Each, Estimates, Scheduler};
use crate::task::{KernelFacts, Profile, TaskGraph};

/// Time that each pass after the first adds where a program was never measured.
const PASS_NS: u64 = 5_000;

/// The prices of a plan's tasks, by device.
#[derive(Default)]
pub(super) struct Prices {
    columns: Vec<Column>,
}

/// The prices of one device.
pub(super) struct Column {
    pub(super) estimates: Estimates,
    /// By profile: where times are learned; `None` if the device does not serve the kernel's lane.
    costs: Vec<Option<CostId>>,
    /// What the device does not run, if it is a GPU, and why.
    pub(super) cannot: Vec<CannotRun>,
}

impl Column {
    /// Why a GPU has room for none of the tasks that it could run.
    pub(super) fn full(&self, graph: &TaskGraph, spec: &DeviceSpec, most: u64) -> Option<Unable> {
        let mut least: Option<u64> = None;
        for task in graph.tasks().filter(|&task| self.estimates.ns(graph, task).is_some()) {
            let bytes = Scheduler::room_bytes(graph, task, spec);
            if bytes <= most {
                return None; // mostly the first
            }
            least = Some(least.map_or(bytes, |least| least.min(bytes)));
        }
        Some(Unable::Full { bytes: least?, most })
    }
}

/// What is known of a profile before its tasks are priced.
pub(super) struct KnownProfile {
    served: bool,
    pub(super) unfit: bool,
    /// Whether a measured time says how long such a task may take.
    steady: bool,
}

impl Prices {
    /// Number of devices that have prices.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The prices, by device.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The estimates, by device.
    pub(super) fn estimates(&self) -> Vec<Estimates> {
        self.columns.iter().map(|column| column.estimates.clone()).collect()
    }

    /// Takes in the prices of the next device.
    pub(super) fn add(&mut self, column: Column) {
        debug_assert_eq!(column.estimates.device.index(), self.columns.len());
        self.columns.push(column);
    }

    /// Where a task's time on a device is learned.
    pub(super) fn cost_id(&self, graph: &TaskGraph, task: TaskId, device: DeviceId) -> Option<CostId> {
        self.columns.get(device.index())?.costs[graph.profile_id(task).index()]
    }

    /// What a device lacks for some of the tasks, and did from the beginning.
    pub(super) fn lacks(&self, device: DeviceId) -> Option<&CannotRun> {
        self.columns.get(device.index())?.cannot.iter().find(|one| one.why.is_lack() && one.why != Unable::Unfit)
    }

    /// Prices every task on one device.
    pub(super) fn column(
        graph: &TaskGraph,
        kernels: &[Arc<dyn Kernel>],
        (at, member): (usize, &Member),
        inner: &Inner,
    ) -> Column {
        let known: Vec<KnownProfile> = graph.profiles().iter().map(|profile| known(graph, kernels, profile, member)).collect();
        let served: Vec<bool> = known.iter().map(|known| known.served).collect();
        let asked =
            member.spec.gpu.map(|facts| AskedPrograms::of(graph, kernels, (member, &facts), (&served, inner.settings.strict)));
        let (costs, estimates) = inner.with_costs(|costs| {
            let mut resolved = BTreeMap::new();
            let mut one = |(known, profile): (&KnownProfile, &Profile)| {
                let resolve =
                    || costs.resolve(member.priced, priced_as(&graph.kernels()[profile.kernel.index()]), profile.dtype);
                known.served.then(|| *resolved.entry((profile.kernel, profile.dtype)).or_insert_with(resolve))
            };
            let ids: Vec<Option<CostId>> = known.iter().zip(graph.profiles()).map(&mut one).collect();
            let estimates: Vec<Option<Estimate>> =
                ids.iter().zip(graph.profiles()).map(|(id, profile)| Some(costs.estimate((*id)?, profile.work))).collect();
            (ids, estimates)
        });
        // What a task takes, and how long it is until its program is compiled.
        let price = |profile: usize, answer: Option<&ProgramAnswer>| match (&estimates[profile], answer) {
            (Some(estimate), None) => (estimate.ns, 0),
            (Some(estimate), Some(&Ok((passes, compiling_ns)))) if !known[profile].unfit => {
                (on_gpu(estimate, passes), compiling_ns)
            }
            _ => (CANNOT, 0),
        };
        let measured = |profile: usize| {
            let trusted = known[profile].steady && graph.profiles()[profile].work != Work::default();
            trusted && estimates[profile].as_ref().is_some_and(|e| matches!(e.basis, Basis::Measured { .. }))
        };
        let Some(asked) = asked else {
            let all = (0..graph.profiles().len()).map(|p| (price(p, None), measured(p)));
            return Column { estimates: tabled((at, Each::Profile), all), costs, cannot: Vec::new() };
        };
        let profile = |task: TaskId| graph.profile_id(task).index();
        let of_task = |task: TaskId| match asked.number(task) {
            Some(number) => price(profile(task), Some(&asked.answers[number])),
            None => (CANNOT, 0),
        };
        let estimates = match alike(graph, of_task) {
            Some(all) => tabled((at, Each::Profile), all.into_iter().enumerate().map(|(p, one)| (one, measured(p)))),
            None => tabled((at, Each::Task), graph.tasks().map(|t| (of_task(t), measured(profile(t))))),
        };
        compile_ahead(graph, &asked.uncompiled, (&estimates, member), inner);
        Column { cannot: cannot(graph, &asked, &known), estimates, costs }
    }

    /// All that GPUs do not run, and why, in lines for people.
    pub(super) fn not_run(&self, graph: &TaskGraph, members: &[Member], limit: impl Fn(SpaceId) -> u64) -> Vec<String> {
        let mut lines = Vec::new();
        for (column, member) in self.columns.iter().zip(members).filter(|(_, member)| member.spec.gpu.is_some()) {
            lines.extend(unable::in_full(&member.spec.name, &column.cannot, !column.estimates.any()));
            if let Some(full) = column.full(graph, &member.spec, limit(member.spec.space)) {
                lines.push(format!("{}: {full}", member.spec.name));
            }
        }
        lines
    }

    /// Each task on the device that is fastest for it, shared out to its workers: a guess of the makespan.
    pub(super) fn rough_ns(&self, graph: &TaskGraph, members: &[Member]) -> u64 {
        let mut counts = vec![0u64; graph.profiles().len()];
        graph.tasks().for_each(|task| counts[graph.profile_id(task).index()] += 1);
        let mut loads = vec![0u64; self.columns.len()];
        let mut load = |at: usize, ns: u64| loads[at] = loads[at].saturating_add(ns);
        if self.columns.iter().all(|column| column.estimates.each == Each::Profile) {
            for (profile, &count) in counts.iter().enumerate() {
                let all = self.columns.iter().map(|column| column.estimates.ns[profile]).enumerate();
                if let Some((at, ns)) = all.filter(|&(_, ns)| ns != CANNOT).min_by_key(|&(_, ns)| ns) {
                    load(at, ns.saturating_mul(count));
                }
            }
        } else {
            for task in graph.tasks() {
                let all =
                    self.columns.iter().enumerate().filter_map(|(at, column)| Some((at, column.estimates.ns(graph, task)?)));
                if let Some((at, ns)) = all.min_by_key(|&(_, ns)| ns) {
                    load(at, ns);
                }
            }
        }
        loads.iter().zip(members).map(|(load, m)| load / u64::from(m.spec.workers.max(1))).max().unwrap_or(0)
    }
}

/// The name that a graph's kernel is priced by.
pub(super) fn priced_as(kernel: &KernelFacts) -> PricedAs<'_> {
    PricedAs { kernel: kernel.key.name_and_version(), structure: kernel.structure.as_ref() }
}

/// What is known of a profile on a device by now.
pub(super) fn known(graph: &TaskGraph, kernels: &[Arc<dyn Kernel>], profile: &Profile, member: &Member) -> KnownProfile {
    let kernel = &graph.kernels()[profile.kernel.index()];
    KnownProfile {
        served: member.spec.serves(kernel.lane),
        unfit: member.is_unfit(&kernel.key, &kernels[profile.kernel.index()], profile.dtype),
        steady: kernel.is_steady,
    }
}

/// The prices of profiles, if all tasks of each have one.
fn alike(graph: &TaskGraph, of_task: impl Fn(TaskId) -> (u64, u64)) -> Option<Vec<(u64, u64)>> {
    let mut all = vec![None; graph.profiles().len()];
    for task in graph.tasks() {
        let price = of_task(task);
        let known = all[graph.profile_id(task).index()].get_or_insert(price);
        if *known != price {
            return None;
        }
    }
    Some(all.into_iter().map(|price| price.unwrap_or((CANNOT, 0))).collect())
}

/// Estimates of these times, of how long it is until they are compiled, and of whether they are measured.
fn tabled((at, each): (usize, Each), all: impl Iterator<Item = ((u64, u64), bool)>) -> Estimates {
    let (prices, measured): (Vec<(u64, u64)>, Vec<bool>) = all.unzip();
    let (ns, compiling_ns): (Vec<u64>, Vec<u64>) = prices.into_iter().unzip();
    let measured = measured.contains(&true).then(|| measured.into());
    let compiling_ns = compiling_ns.iter().any(|&ns| ns > 0).then(|| compiling_ns.into());
    Estimates { device: DeviceId::at(at), each, ns: ns.into(), measured, compiling_ns }
}

/// What a GPU does not run, each kernel and reason once.
fn cannot(graph: &TaskGraph, asked: &AskedPrograms, known: &[KnownProfile]) -> Vec<CannotRun> {
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for task in graph.tasks() {
        if let Some(number) = asked.number(task) {
            let profile = graph.profile_id(task).index();
            if known[profile].unfit || asked.answers[number].is_err() {
                *counts.entry((graph.kernel_id(task).index(), number)).or_default() += 1;
            }
        }
    }
    let mut all: Vec<CannotRun> = Vec::new();
    for ((kernel, number), tasks) in counts {
        let kernel = graph.kernels()[kernel].key.name();
        let why = asked.answers[number].as_ref().err().cloned().unwrap_or(Unable::Unfit);
        match all.iter_mut().find(|one| one.kernel == kernel && one.why == why) {
            Some(one) => one.tasks += tasks,
            None => all.push(CannotRun { kernel: kernel.to_owned(), why, tasks }),
        }
    }
    all
}

fn on_gpu(estimate: &Estimate, passes: usize) -> u64 {
    let more = if estimate.basis == Basis::Prior { PASS_NS * passes.saturating_sub(1) as u64 } else { 0 };
    estimate.ns.saturating_add(more)
}
