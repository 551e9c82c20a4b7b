//! What the tasks of a plan take on each device.
//!
//! Owns: [`Prices`]. Must not know: placement. Invariant: a kernel is asked for its GPU half once for each task and GPU, while nothing is locked; the
//! cost model is locked for arithmetic only; what is learned from a run belongs to what was predicted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::driver::Inner;
use super::members::Member;
use crate::cost::{Basis, CostId, Estimate};
use crate::device::DeviceSpec;
use crate::id::{DeviceId, SpaceId, TaskId};
use crate::kernel::{GpuFacts, Kernel, Work, calm};
use crate::schedule::{CANNOT, Each, Estimates, Scheduler};
use crate::shape::{ChunkMeta, DType};
use crate::task::{Profile, TaskGraph};

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
    /// Why the device cannot run some tasks although the kernel has a GPU half for them: the first reason.
    unable: Option<Unable>,
}

/// Why a GPU cannot run a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unable {
    /// The kernel has no GPU half for these operands: the CPU's work, nothing to tell.
    NoHalf,
    /// It has no `f64`.
    NoF64(String),
    /// It turned out that it cannot run the kernel: the shader does not compile there.
    Unfit(String),
    /// A chunk is larger than its shaders can see.
    TooLarge { kernel: String, bytes: u64, most: u64 },
    /// Its memory has no room for any task.
    Full { bytes: u64, most: u64 },
}

/// What is known of a profile before its tasks are priced.
struct KnownProfile {
    served: bool,
    unfit: bool,
    /// Whether a measured time says how long such a task may take.
    steady: bool,
}

impl Prices {
    /// Number of devices that have prices.
    pub(super) fn len(&self) -> usize {
        self.columns.len()
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

    /// The devices that cannot run some tasks, and why.
    pub(super) fn unable(&self) -> impl Iterator<Item = (DeviceId, &Unable)> {
        self.columns.iter().filter_map(|column| Some((column.estimates.device, column.unable.as_ref()?)))
    }

    /// Prices every task on one device.
    pub(super) fn column(
        graph: &TaskGraph,
        kernels: &[Arc<dyn Kernel>],
        (at, member): (usize, &Member),
        inner: &Inner,
    ) -> Column {
        let known: Vec<KnownProfile> = graph.profiles().iter().map(|profile| known(graph, profile, member)).collect();
        let programs = member.spec.gpu.map(|facts| Programs::ask(graph, kernels, &facts));
        let costs = inner.with_costs(|costs| {
            let mut resolved = BTreeMap::new();
            let mut one = |(known, profile): (&KnownProfile, &Profile)| {
                let key = &graph.kernels()[profile.kernel.index()].key;
                let resolve = || costs.resolve(member.priced, key.name_and_version(), profile.dtype);
                known.served.then(|| *resolved.entry((profile.kernel, profile.dtype)).or_insert_with(resolve))
            };
            let ids: Vec<Option<CostId>> = known.iter().zip(graph.profiles()).map(&mut one).collect();
            let estimates: Vec<Option<Estimate>> =
                ids.iter().zip(graph.profiles()).map(|(id, profile)| Some(costs.estimate((*id)?, profile.work))).collect();
            (ids, estimates)
        });
        let (costs, estimates) = costs;
        let mut unable = None;
        let mut price = |profile: usize, program: Option<&Result<usize, Unable>>| {
            let (Some(estimate), known) = (&estimates[profile], &known[profile]) else { return CANNOT };
            let why = match program {
                None => return estimate.ns,
                Some(_) if known.unfit => Unable::Unfit(kernel_name(graph, profile).into()),
                Some(Ok(passes)) => return on_gpu(estimate, *passes),
                Some(Err(why)) => why.clone(),
            };
            if why != Unable::NoHalf {
                unable.get_or_insert(why);
            }
            CANNOT
        };
        let measured = |profile: usize| {
            let trusted = known[profile].steady && graph.profiles()[profile].work != Work::default();
            trusted && estimates[profile].as_ref().is_some_and(|e| matches!(e.basis, Basis::Measured { .. }))
        };
        let profiles = 0..graph.profiles().len();
        let (each, ns, measured): (_, Vec<u64>, Vec<bool>) = match &programs {
            None => (Each::Profile, profiles.clone().map(|p| price(p, None)).collect(), profiles.map(measured).collect()),
            Some(Programs::Alike(all)) => {
                let ns = profiles.clone().map(|p| price(p, Some(&all[p]))).collect();
                (Each::Profile, ns, profiles.map(measured).collect())
            }
            Some(Programs::Each(all)) => {
                let profile = |task: TaskId| graph.profile_id(task).index();
                let ns = graph.tasks().map(|t| price(profile(t), Some(&all[t.index()]))).collect();
                (Each::Task, ns, graph.tasks().map(|t| measured(profile(t))).collect())
            }
        };
        let measured = measured.contains(&true).then(|| measured.into());
        Column { estimates: Estimates { device: DeviceId::at(at), each, ns: ns.into(), measured }, costs, unable }
    }

    /// The GPUs that could not run some of the work, or have nothing to do in it, and why, for people. `limit` is that of a memory space.
    pub(super) fn idle(&self, graph: &TaskGraph, members: &[Member], limit: impl Fn(SpaceId) -> u64) -> Vec<(String, String)> {
        let gpus = self.columns.iter().zip(members).filter(|(_, member)| member.spec.gpu.is_some());
        let of = |(column, member): (&Column, &Member)| {
            let why = match &column.unable {
                None if !column.estimates.any() => Some(Unable::NoHalf),
                None => full(graph, &column.estimates, &member.spec, limit(member.spec.space)),
                some => some.clone(),
            };
            Some((member.spec.name.clone(), why?.to_string()))
        };
        gpus.filter_map(of).collect()
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

fn kernel_name(graph: &TaskGraph, profile: usize) -> &str {
    graph.kernels()[graph.profiles()[profile].kernel.index()].key.name()
}

fn known(graph: &TaskGraph, profile: &Profile, member: &Member) -> KnownProfile {
    let kernel = &graph.kernels()[profile.kernel.index()];
    KnownProfile {
        served: member.spec.serves(kernel.lane),
        unfit: member.is_unfit(kernel.key.name_and_version(), profile.dtype),
        steady: kernel.is_steady,
    }
}

/// Why a GPU has room for none of the tasks that it could run.
fn full(graph: &TaskGraph, estimates: &Estimates, spec: &DeviceSpec, most: u64) -> Option<Unable> {
    let mut least: Option<u64> = None;
    for task in graph.tasks().filter(|&task| estimates.ns(graph, task).is_some()) {
        let bytes = Scheduler::room_bytes(graph, task, spec);
        if bytes <= most {
            return None; // mostly the first
        }
        least = Some(least.map_or(bytes, |least| least.min(bytes)));
    }
    Some(Unable::Full { bytes: least?, most })
}

/// Numbers of passes of tasks' GPU halves, or why there is none.
enum Programs {
    /// By profile: all tasks of each have the same.
    Alike(Vec<Result<usize, Unable>>),
    /// By task.
    Each(Vec<Result<usize, Unable>>),
}

impl Programs {
    fn ask(graph: &TaskGraph, kernels: &[Arc<dyn Kernel>], facts: &GpuFacts) -> Self {
        let mut alike: Vec<Option<Result<usize, Unable>>> = vec![None; graph.profiles().len()];
        for task in graph.tasks() {
            let answer = passes(graph, kernels, task, facts);
            match &mut alike[graph.profile_id(task).index()] {
                Some(known) if *known != answer => {
                    return Self::Each(graph.tasks().map(|task| passes(graph, kernels, task, facts)).collect());
                }
                known => *known = Some(answer),
            }
        }
        Self::Alike(alike.into_iter().map(|known| known.unwrap_or(Err(Unable::NoHalf))).collect())
    }
}

impl std::fmt::Display for Unable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoHalf => f.write_str("nothing of this work can run on a GPU, so the CPU does all of it"),
            Self::NoF64(kernel) => write!(f, "it has no f64, which {kernel} needs here; f32 would do"),
            Self::Unfit(kernel) => write!(f, "it cannot run {kernel}, as a warning has said"),
            Self::TooLarge { kernel, bytes, most } => {
                let (bytes, most) = (crate::Bytes(*bytes), crate::Bytes(*most));
                write!(f, "a chunk of {kernel} has {bytes}, and its shaders see at most {most}; smaller chunks would do")
            }
            Self::Full { bytes, most } => {
                let (bytes, most) = (crate::Bytes(*bytes), crate::Bytes(*most));
                write!(f, "a task takes {bytes} of its memory, of which it may use {most}; smaller chunks would do")
            }
        }
    }
}

/// Number of passes of a task's GPU half, if the GPU can run it.
fn passes(graph: &TaskGraph, kernels: &[Arc<dyn Kernel>], task: TaskId, facts: &GpuFacts) -> Result<usize, Unable> {
    let metas: Vec<ChunkMeta<'_>> = graph.metas(task).collect();
    let (kernel, params) = (&kernels[graph.kernel_id(task).index()], graph.params(task));
    if let Some(program) = calm(|| kernel.program(params, &metas, facts)).flatten() {
        return Ok(program.passes.len());
    }
    // Would another GPU run it?
    let Some(program) = calm(|| kernel.program(params, &metas, &GpuFacts::ANY)).flatten() else { return Err(Unable::NoHalf) };
    let bytes = |m: &ChunkMeta<'_>| (m.shape.iter().product::<usize>() * m.dtype.bytes()) as u64;
    let largest = metas.iter().map(bytes).max().unwrap_or(0).max(program.words(&metas).1);
    Err(match graph.kernel_name(task) {
        kernel if program.real == DType::F64 && !facts.f64 => Unable::NoF64(kernel.into()),
        kernel if largest > facts.binding_bytes => {
            Unable::TooLarge { kernel: kernel.into(), bytes: largest, most: facts.binding_bytes }
        }
        _ => Unable::NoHalf,
    })
}

fn on_gpu(estimate: &Estimate, passes: usize) -> u64 {
    let more = if estimate.basis == Basis::Prior { PASS_NS * passes.saturating_sub(1) as u64 } else { 0 };
    estimate.ns.saturating_add(more)
}
