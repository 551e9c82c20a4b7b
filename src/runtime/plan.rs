//! From a graph to what the scheduler wants to know of it.
//!
//! Owns: [`Plan`] (a graph with the caller's bytes), pricing. Must not know: placement. Invariant: `work()` is asked once per
//! task and kept, so that what is learned from the run belongs to what was predicted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cost::{CostId, CostModel, PricedId, kernel_key};
use crate::device::{Data, DeviceSpec, HostBuffer, Window, input_view};
use crate::id::{DeviceId, KernelId, TaskId, ValueId};
use crate::kernel::{Kernel, Work};
use crate::schedule::{CANNOT, Estimates};
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
}

impl Priced {
    /// Prices every task of a plan on every device. O(tasks x devices).
    pub fn new(plan: &Plan, devices: &[(DeviceSpec, PricedId)], costs: &mut CostModel) -> Self {
        let graph = &plan.graph;
        let mut scratch_bytes = 0;
        let mut work = Vec::with_capacity(graph.len());
        for task in graph.tasks() {
            let kernel = graph.kernel(task);
            let (w, s) =
                plan.with_operands(task, |o| (kernel.work(graph.params(task), o), kernel.scratch_bytes(graph.params(task), o)));
            scratch_bytes = scratch_bytes.max(s);
            work.push(w);
        }
        let mut ids: BTreeMap<(KernelId, DType), Vec<Option<CostId>>> = BTreeMap::new();
        let mut columns = vec![Vec::with_capacity(graph.len()); devices.len()];
        for task in graph.tasks() {
            let key = (graph.kernel_id(task), task_dtype(graph, task));
            let resolved = ids.entry(key).or_insert_with(|| resolve(&**graph.kernel(task), key.1, devices, costs));
            for (column, id) in columns.iter_mut().zip(resolved) {
                column.push(id.map_or(CANNOT, |id| costs.estimate(id, work[task.index()]).ns));
            }
        }
        let estimates = columns.into_iter().enumerate();
        let estimates = estimates.map(|(d, ns)| Estimates { device: DeviceId::at(d), task_ns: ns.into() }).collect();
        Self { work, estimates, scratch_bytes, ids }
    }

    /// The handle under which a task's time on a device is learned.
    #[must_use]
    pub fn cost_id(&self, graph: &TaskGraph, task: TaskId, device: DeviceId) -> Option<CostId> {
        *self.ids.get(&(graph.kernel_id(task), task_dtype(graph, task)))?.get(device.index())?
    }
}

/// The dtype that a task's speed depends on: that of its first input, else of its first output.
fn task_dtype(graph: &TaskGraph, task: TaskId) -> DType {
    let operand = graph.inputs(task).first().or_else(|| graph.outputs(task).first());
    operand.map_or(DType::U8, |o| graph.dtype(o.value))
}

fn resolve(
    kernel: &dyn Kernel,
    dtype: DType,
    devices: &[(DeviceSpec, PricedId)],
    costs: &mut CostModel,
) -> Vec<Option<CostId>> {
    let key = kernel_key(kernel);
    let serves = |spec: &DeviceSpec| spec.serves(kernel.lane());
    devices.iter().map(|(spec, priced)| serves(spec).then(|| costs.resolve(*priced, &key, dtype))).collect()
}
