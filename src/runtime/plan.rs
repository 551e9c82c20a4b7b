//! From a graph to what the scheduler wants to know of it.
//!
//! Owns: [`Plan`] (a graph with the caller's bytes), pricing. Must not know: placement. Invariant: `work()` is asked once per
//! task and kept, so that what is learned from the run belongs to what was predicted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Session;
use super::members::Member;
use crate::cost::{CostId, CostModel, Estimate, Source, kernel_key};
use crate::device::{Data, HOST, HostBuffer, Window, input_view};
use crate::id::{DeviceId, KernelId, TaskId, ValueId};
use crate::kernel::{GpuFacts, Work};
use crate::schedule::{CANNOT, Estimates, Scheduler};
use crate::shape::{ChunkMeta, DType};
use crate::task::{Home, TaskGraph};

/// A graph, and the caller's arrays that it reads.
pub struct Plan {
    /// The tasks.
    pub graph: Arc<TaskGraph>,
    /// By array id: the caller's bytes; `None` for results.
    pub arrays: Vec<Option<Arc<HostBuffer>>>,
}

impl Plan {
    /// A plan of `graph`; `arrays` has one entry per host array.
    ///
    /// # Panics
    /// If the entries do not match the graph's arrays.
    #[must_use]
    pub fn new(graph: TaskGraph, arrays: Vec<Option<Arc<HostBuffer>>>) -> Self {
        let fits =
            graph.arrays().len() == arrays.len() && graph.arrays().iter().zip(&arrays).all(|(a, b)| a.result == b.is_none());
        assert!(fits, "a plan needs the bytes of each caller's array, and of no result");
        Self { graph: Arc::new(graph), arrays }
    }

    fn window(&self, value: ValueId) -> Option<Window> {
        let Home::Window { array, offset } = self.graph.home(value) else { return None };
        let buffer = self.arrays[array.index()].clone()?;
        Some(Window::new(buffer, offset, self.graph.layout(value)))
    }

    /// Calls `with` with what is known of a task's operands (inputs, then outputs).
    fn with_operands<R>(&self, task: TaskId, with: impl FnOnce(&[ChunkMeta<'_>]) -> R) -> R {
        let graph = &self.graph;
        let values = || graph.inputs(task).iter().chain(graph.outputs(task)).map(|o| o.value);
        let windows: Vec<Option<Data>> = values().map(|v| self.window(v).map(Data::Host)).collect();
        let metas: Vec<ChunkMeta<'_>> = values()
            .zip(&windows)
            .map(|(value, window)| ChunkMeta {
                dtype: graph.dtype(value),
                shape: graph.shape(value),
                // Caller's arrays: nobody writes them while the plan lives.
                data: window.as_ref().map(input_view),
            })
            .collect();
        with(&metas)
    }
}

/// What the tasks of a plan need.
pub struct Priced {
    /// Flops and bytes per task.
    pub work: Vec<Work>,
    /// Predicted times.
    pub estimates: Vec<Estimates>,
    /// Scratch per task kind is asked again at launch; this is the largest.
    pub scratch_bytes: u64,
    /// Under which each task's time is learned, by kernel and dtype, per device.
    pub ids: BTreeMap<(KernelId, DType), Vec<Option<CostId>>>,
    /// GPUs that cannot run some tasks although the kernel has a GPU half for them, each with the first reason.
    pub(super) unable: Vec<(DeviceId, Unable)>,
}

/// Why a GPU cannot run a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unable {
    /// The kernel has no GPU half for these operands: the CPU's work, nothing to tell.
    NoHalf,
    /// It has no `f64`.
    NoF64(&'static str),
    /// It turned out that it cannot run the kernel: the shader does not compile there.
    Unfit(&'static str),
    /// A chunk is larger than its shaders can see.
    TooLarge { kernel: &'static str, bytes: u64, most: u64 },
}

impl Priced {
    /// Prices every task of a plan on every device. O(tasks x devices).
    pub(super) fn new(plan: &Plan, devices: &[Member], costs: &mut CostModel) -> Self {
        let graph = &plan.graph;
        let mut scratch_bytes = 0;
        let mut work = Vec::with_capacity(graph.len());
        for task in graph.tasks() {
            let kernel = graph.kernel(task);
            let (w, s) = plan.with_operands(task, |o| {
                let asked = calm(|| (kernel.work(graph.params(task), o), kernel.scratch_bytes(graph.params(task), o)));
                asked.unwrap_or_default()
            });
            scratch_bytes = scratch_bytes.max(s);
            work.push(w);
        }
        let mut this = Self { work, estimates: Vec::new(), scratch_bytes, ids: BTreeMap::new(), unable: Vec::new() };
        for (id, member) in devices.iter().enumerate() {
            this.extend(graph, DeviceId::at(id), member, costs);
        }
        this
    }

    /// Prices every task on one more device, the next one.
    pub(super) fn extend(&mut self, graph: &TaskGraph, id: DeviceId, member: &Member, costs: &mut CostModel) -> Estimates {
        let mut column = Vec::with_capacity(graph.len());
        let mut unfit = BTreeSet::new();
        for task in graph.tasks() {
            let key = (graph.kernel_id(task), task_dtype(graph, task));
            let known = self.ids.entry(key).or_default();
            if known.len() <= id.index() {
                let kernel = &**graph.kernel(task);
                let name = kernel_key(kernel);
                if member.is_unfit(&name, key.1) {
                    unfit.insert(key);
                }
                let resolved = member.spec.serves(kernel.lane()).then(|| costs.resolve(member.priced, &name, key.1));
                known.resize(id.index(), None);
                known.push(resolved);
            }
            let cost = known[id.index()];
            let work = self.work[task.index()];
            column.push(match (cost, &member.spec.gpu) {
                (None, _) => CANNOT,
                (Some(cost), None) => costs.estimate(cost, work).ns,
                (Some(_), Some(_)) if unfit.contains(&key) => {
                    self.note(id, Unable::Unfit(graph.kernel(task).name()));
                    CANNOT
                }
                (Some(cost), Some(facts)) => match passes(graph, task, facts) {
                    Ok(passes) => on_gpu(costs.estimate(cost, work), passes),
                    Err(unable) => {
                        self.note(id, unable);
                        CANNOT
                    }
                },
            });
        }
        let estimates = Estimates { device: id, task_ns: column.into() };
        self.estimates.push(estimates.clone());
        estimates
    }

    fn note(&mut self, id: DeviceId, unable: Unable) {
        if unable != Unable::NoHalf && self.unable.last().is_none_or(|last| last.0 != id) {
            self.unable.push((id, unable));
        }
    }

    /// The devices that could not run some of the work, and why, for people.
    pub(super) fn idle(&self, members: &[Member]) -> Vec<(String, String)> {
        let words = |(id, unable): &(DeviceId, Unable)| Some((members.get(id.index())?.spec.name.clone(), unable.to_string()));
        self.unable.iter().filter_map(words).collect()
    }

    /// The handle under which a task's time on a device is learned.
    #[must_use]
    pub fn cost_id(&self, graph: &TaskGraph, task: TaskId, device: DeviceId) -> Option<CostId> {
        *self.ids.get(&(graph.kernel_id(task), task_dtype(graph, task)))?.get(device.index())?
    }
}

impl std::fmt::Display for Unable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoHalf => f.write_str("no GPU half"),
            Self::NoF64(kernel) => write!(f, "it has no f64, which {kernel} needs here (try --dtype f32)"),
            Self::Unfit(kernel) => write!(f, "it cannot run {kernel}, as a warning has said"),
            Self::TooLarge { kernel, bytes, most } => {
                let (bytes, most) = (crate::Bytes(*bytes), crate::Bytes(*most));
                write!(f, "a chunk of {kernel} has {bytes}, its shaders see at most {most} (try a smaller --chunk)")
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
    let metas: Vec<ChunkMeta<'_>> =
        values.map(|v| ChunkMeta { dtype: graph.dtype(v), shape: graph.shape(v), data: None }).collect();
    let (kernel, params) = (graph.kernel(task), graph.params(task));
    if let Some(program) = calm(|| kernel.program(params, &metas, facts)).flatten() {
        return Ok(program.passes.len());
    }
    // Would another GPU run it?
    let Some(program) = calm(|| kernel.program(params, &metas, &GpuFacts::ANY)).flatten() else { return Err(Unable::NoHalf) };
    let bytes = |m: &ChunkMeta<'_>| (m.shape.iter().product::<usize>() * m.dtype.bytes()) as u64;
    let largest = metas.iter().map(bytes).max().unwrap_or(0).max(program.scratch_bytes);
    Err(match kernel.name() {
        kernel if program.real == DType::F64 && !facts.f64 => Unable::NoF64(kernel),
        kernel if largest > facts.binding_bytes => Unable::TooLarge { kernel, bytes: largest, most: facts.binding_bytes },
        _ => Unable::NoHalf,
    })
}

/// Time that each pass after the first adds where a program was never measured.
const PASS_NS: u64 = 5_000;

fn on_gpu(estimate: Estimate, passes: usize) -> u64 {
    let more = if estimate.source == Source::Prior { PASS_NS * passes.saturating_sub(1) as u64 } else { 0 };
    estimate.ns.saturating_add(more)
}

/// The dtype that a task's speed depends on: that of its first input, else of its first output.
pub(super) fn task_dtype(graph: &TaskGraph, task: TaskId) -> DType {
    let operand = graph.inputs(task).first().or_else(|| graph.outputs(task).first());
    operand.map_or(DType::U8, |o| graph.dtype(o.value))
}

impl Session {
    /// Bytes of host memory with which a graph is proved to run in this session.
    pub(crate) fn needs_bytes(&self, graph: &TaskGraph) -> u64 {
        let workers = self.devices().iter().filter(|d| d.space == HOST).map(|d| d.workers).sum();
        Scheduler::peak_bytes(graph, scratch_bytes(graph), workers)
    }
}

/// Scratch of the neediest task.
fn scratch_bytes(graph: &TaskGraph) -> u64 {
    let of = |task| {
        let values = graph.inputs(task).iter().chain(graph.outputs(task)).map(|o| o.value);
        let metas: Vec<ChunkMeta<'_>> =
            values.map(|v| ChunkMeta { dtype: graph.dtype(v), shape: graph.shape(v), data: None }).collect();
        calm(|| graph.kernel(task).scratch_bytes(graph.params(task), &metas)).unwrap_or_default()
    };
    graph.tasks().map(of).max().unwrap_or(0)
}
