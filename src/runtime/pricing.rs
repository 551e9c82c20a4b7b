//! What the tasks of a plan take on each device.
//!
//! Owns: [`Priced`]: everything that kernels are asked before a run. Must not know: placement. Invariant: a kernel is asked once per task, while
//! nothing is locked; what is learned from the run belongs to what was predicted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::driver::Inner;
use super::members::Member;
use super::{Plan, Session};
use crate::cost::{CostId, Estimate, Source, kernel_key};
use crate::device::HOST;
use crate::id::{DeviceId, KernelId, SpaceId, TaskId};
use crate::kernel::{GpuFacts, Work};
use crate::schedule::{CANNOT, Estimates, Scheduler};
use crate::shape::{ChunkMeta, DType};
use crate::task::TaskGraph;

/// Time that each pass after the first adds where a program was never measured.
const PASS_NS: u64 = 5_000;

/// What the tasks of a plan need.
pub struct Priced {
    /// Flops and bytes per task.
    pub work: Arc<[Work]>,
    /// Predicted times, by device.
    pub estimates: Vec<Estimates>,
    /// Kernels with the dtypes of their tasks: what times are learned for; and of which kind each task is.
    kinds: Vec<Kind>,
    of_task: Arc<[u32]>,
    /// GPUs that cannot run some tasks although the kernel has a GPU half for them, each with the first reason.
    pub(super) unable: Vec<(DeviceId, Unable)>,
}

/// A kernel on operands of a dtype.
struct Kind {
    kernel: KernelId,
    dtype: DType,
    /// The name and version under which its times are kept.
    key: Arc<str>,
    /// Where its times on each device are kept; `None` for devices that do not serve its lane.
    costs: Vec<Option<CostId>>,
}

/// The prices of one device.
pub(super) struct Column {
    estimates: Estimates,
    /// By kind.
    costs: Vec<Option<CostId>>,
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

impl Priced {
    /// Asks every task's kernel what the task needs, and prices it on every device. O(tasks x devices).
    pub(super) fn new(plan: &Plan, devices: &[Member], inner: &Inner) -> Self {
        let graph = &plan.graph;
        let mut work = Vec::with_capacity(graph.len());
        let (mut numbers, mut kinds) = (BTreeMap::new(), Vec::new());
        let mut of_task = Vec::with_capacity(graph.len());
        plan.for_each_task(|task, operands| {
            let kernel = graph.kernel(task);
            work.push(calm(|| kernel.work(graph.params(task), operands)).unwrap_or_default());
            let (id, dtype) = (graph.kernel_id(task), task_dtype(operands));
            of_task.push(*numbers.entry((id, dtype)).or_insert_with(|| {
                kinds.push(Kind { kernel: id, dtype, key: kernel_key(&**kernel).into(), costs: Vec::new() });
                kinds.len() as u32 - 1
            }));
        });
        let (work, of_task) = (work.into(), of_task.into());
        let mut this = Self { work, estimates: Vec::new(), kinds, of_task, unable: Vec::new() };
        for (id, member) in devices.iter().enumerate() {
            let column = this.column(graph, DeviceId::at(id), member).price(inner);
            this.add(column);
        }
        this
    }

    /// What is to be priced on one more device.
    pub(super) fn column(&self, graph: &Arc<TaskGraph>, id: DeviceId, member: &Member) -> Unpriced {
        let kinds = self.kinds.iter().map(|k| (k.kernel, k.dtype, k.key.clone())).collect();
        let (graph, work, of_task) = (graph.clone(), self.work.clone(), self.of_task.clone());
        Unpriced { graph, work, of_task, kinds, id, member: member.clone() }
    }

    /// Takes in the prices of the next device.
    pub(super) fn add(&mut self, column: Column) -> Estimates {
        let id = column.estimates.device;
        for (kind, cost) in self.kinds.iter_mut().zip(column.costs) {
            kind.costs.resize(id.index(), None);
            kind.costs.push(cost);
        }
        self.unable.extend(column.unable.map(|unable| (id, unable)));
        self.estimates.push(column.estimates.clone());
        column.estimates
    }

    /// The GPUs that could not run some of the work, or have nothing to do in it, and why, for people. `limit` is that of a memory space.
    pub(super) fn idle(&self, graph: &TaskGraph, members: &[Member], limit: impl Fn(SpaceId) -> u64) -> Vec<(String, String)> {
        let without_half = |e: &&Estimates| {
            let gpu = members.get(e.device.index()).is_some_and(|m| m.spec.gpu.is_some());
            gpu && e.task_ns.iter().all(|&ns| ns == CANNOT) && self.unable.iter().all(|(id, _)| *id != e.device)
        };
        let idle = self.estimates.iter().filter(without_half).map(|e| (e.device, &Unable::NoHalf));
        let full = self.estimates.iter().filter_map(|e| {
            let spec = members.get(e.device.index()).map(|m| &m.spec).filter(|spec| spec.gpu.is_some())?;
            let (most, mut least) = (limit(spec.space), None);
            for task in graph.tasks().filter(|task| e.task_ns[task.index()] != CANNOT) {
                let bytes = Scheduler::room_bytes(graph, task, spec);
                if bytes <= most {
                    return None; // mostly the first
                }
                least = Some(least.map_or(bytes, |least: u64| least.min(bytes)));
            }
            Some((e.device, Unable::Full { bytes: least?, most }))
        });
        let full: Vec<_> = full.collect();
        let unable = self.unable.iter().chain(&full).map(|(id, unable)| (*id, unable)).chain(idle);
        unable.filter_map(|(id, why)| Some((members.get(id.index())?.spec.name.clone(), why.to_string()))).collect()
    }

    fn kind(&self, task: TaskId) -> &Kind {
        &self.kinds[self.of_task[task.index()] as usize]
    }

    /// The handle under which a task's time on a device is learned.
    #[must_use]
    pub fn cost_id(&self, task: TaskId, device: DeviceId) -> Option<CostId> {
        *self.kind(task).costs.get(device.index())?
    }

    /// The name and version of a task's kernel, as [`kernel_key`] writes it, and the dtype that its speed depends on.
    pub(super) fn kind_of(&self, task: TaskId) -> (Arc<str>, DType) {
        let kind = self.kind(task);
        (kind.key.clone(), kind.dtype)
    }

    /// The tasks with this kernel and dtype.
    pub(super) fn tasks_of(&self, key: &str, dtype: DType) -> Arc<[TaskId]> {
        let is_it: Vec<bool> = self.kinds.iter().map(|k| &*k.key == key && k.dtype == dtype).collect();
        (0..self.of_task.len()).filter(|&at| is_it[self.of_task[at] as usize]).map(TaskId::at).collect()
    }
}

/// A plan's tasks before they are priced on a device.
pub(super) struct Unpriced {
    graph: Arc<TaskGraph>,
    work: Arc<[Work]>,
    of_task: Arc<[u32]>,
    kinds: Vec<(KernelId, DType, Arc<str>)>,
    id: DeviceId,
    member: Member,
}

/// What is known of a kind before its tasks are priced.
struct Known {
    served: bool,
    unfit: bool,
    /// Whether a measured time says how long such a task may take.
    steady: bool,
}

impl Unpriced {
    /// Prices every task: kernels are asked first, the cost model is locked only for arithmetic.
    pub(super) fn price(self, inner: &Inner) -> Column {
        let (graph, spec) = (&self.graph, &self.member.spec);
        let known: Vec<Known> = self.kinds.iter().map(|kind| self.ask(kind)).collect();
        let programs: Option<Vec<Result<usize, Unable>>> =
            spec.gpu.map(|facts| graph.tasks().map(|task| passes(graph, task, &facts)).collect());
        let mut task_ns = Vec::with_capacity(graph.len());
        let mut measured = Vec::with_capacity(graph.len());
        let mut unable = None;
        let mut note = |why: Unable| {
            if why != Unable::NoHalf {
                unable.get_or_insert(why);
            }
        };
        let costs = inner.with_costs(|costs| {
            let one = |(known, (_, dtype, key)): (&Known, &(KernelId, DType, Arc<str>))| {
                known.served.then(|| costs.resolve(self.member.priced, key, *dtype))
            };
            let resolved: Vec<Option<CostId>> = known.iter().zip(&self.kinds).map(one).collect();
            for task in graph.tasks() {
                let kind = self.of_task[task.index()] as usize;
                let (known, cost) = (&known[kind], resolved[kind]);
                let work = self.work[task.index()];
                let estimate = cost.map(|cost| costs.estimate(cost, work));
                let trusted = known.steady && work != Work::default();
                let is_measured = |e: &Estimate| trusted && matches!(e.source, Source::Measured { .. });
                measured.push(estimate.as_ref().is_some_and(is_measured));
                task_ns.push(match (estimate, programs.as_ref().map(|p| &p[task.index()])) {
                    (None, _) => CANNOT,
                    (Some(estimate), None) => estimate.ns,
                    (Some(_), Some(_)) if known.unfit => {
                        note(Unable::Unfit(graph.kernel_name(task).into()));
                        CANNOT
                    }
                    (Some(estimate), Some(Ok(passes))) => on_gpu(estimate, *passes),
                    (Some(_), Some(Err(why))) => {
                        note(why.clone());
                        CANNOT
                    }
                });
            }
            resolved
        });
        let measured = measured.contains(&true).then(|| measured.into());
        Column { estimates: Estimates { device: self.id, task_ns: task_ns.into(), measured }, costs, unable }
    }

    fn ask(&self, (kernel, dtype, key): &(KernelId, DType, Arc<str>)) -> Known {
        let kernel = &self.graph.kernels()[kernel.index()];
        let (lane, steady) = calm(|| (kernel.lane(), kernel.is_steady())).unwrap_or((crate::kernel::Lane::Compute, false));
        Known { served: self.member.spec.serves(lane), unfit: self.member.is_unfit(key, *dtype), steady }
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

/// What a kernel answers, unless it panics: it may be the user's, and then its body has the last word.
fn calm<R>(answer: impl FnOnce() -> R) -> Option<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(answer)).ok()
}

/// Number of passes of a task's GPU half, if the GPU can run it.
fn passes(graph: &TaskGraph, task: TaskId, facts: &GpuFacts) -> Result<usize, Unable> {
    let values = graph.inputs(task).iter().chain(graph.outputs(task)).map(|o| o.value);
    let metas: Vec<ChunkMeta<'_>> = values.map(|v| graph.meta(v)).collect();
    let (kernel, params) = (graph.kernel(task), graph.params(task));
    if let Some(program) = calm(|| kernel.program(params, &metas, facts)).flatten() {
        return Ok(program.passes.len());
    }
    // Would another GPU run it?
    let Some(program) = calm(|| kernel.program(params, &metas, &GpuFacts::ANY)).flatten() else { return Err(Unable::NoHalf) };
    let bytes = |m: &ChunkMeta<'_>| (m.shape.iter().product::<usize>() * m.dtype.bytes()) as u64;
    let largest = metas.iter().map(bytes).max().unwrap_or(0).max(program.scratch_bytes);
    Err(match graph.kernel_name(task) {
        kernel if program.real == DType::F64 && !facts.f64 => Unable::NoF64(kernel.into()),
        kernel if largest > facts.binding_bytes => {
            Unable::TooLarge { kernel: kernel.into(), bytes: largest, most: facts.binding_bytes }
        }
        _ => Unable::NoHalf,
    })
}

fn on_gpu(estimate: Estimate, passes: usize) -> u64 {
    let more = if estimate.source == Source::Prior { PASS_NS * passes.saturating_sub(1) as u64 } else { 0 };
    estimate.ns.saturating_add(more)
}

impl Session {
    /// Bytes of host memory with which a graph is proved to run in this session.
    pub(crate) fn needs_bytes(&self, graph: &TaskGraph) -> u64 {
        let workers = self.devices().iter().filter(|d| d.space == HOST).map(|d| d.workers).sum();
        Scheduler::peak_bytes(graph, graph.scratch_bytes(), workers)
    }
}

/// The dtype that a task's speed depends on: that of its first input, else of its first output.
fn task_dtype(operands: &[ChunkMeta<'_>]) -> DType {
    operands.first().map_or(DType::U8, |operand| operand.dtype)
}
