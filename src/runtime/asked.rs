//! What kernels answer when they are asked for their GPU halves.
//!
//! Owns: [`AskedPrograms`]. Must not know: what anything takes. Invariant: of tasks that are alike (one kernel, equal parameters, operands that lie alike) the kernel is asked once, and the
//! device once for how far the program is.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::members::Member;
use super::unable::Unable;
use crate::id::TaskId;
use crate::kernel::{GpuFacts, Kernel, Program, calm};
use crate::shape::{ChunkMeta, Layout, Lies};
use crate::task::TaskGraph;

/// Programs that are told to be compiled ahead, of one plan.
const AHEAD: usize = 64;

/// What is known of a task's GPU half: its passes, and how long it is until it is compiled; or why there is none.
pub(super) type ProgramAnswer = Result<(usize, u64), Unable>;

/// A program that has yet to be compiled, and a task that runs it.
pub(super) struct Uncompiled {
    pub(super) task: TaskId,
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) program: Program,
}

/// The answers to all tasks of a graph.
#[derive(Default)]
pub(super) struct AskedPrograms {
    /// Each once.
    pub(super) answers: Vec<ProgramAnswer>,
    /// By task; [`NOT_ASKED`] for those that are other devices' work.
    of: Vec<u32>,
    pub(super) uncompiled: Vec<Uncompiled>,
    /// Whether the device is to run only what it gives the CPU's bits of.
    strict: bool,
}

const NOT_ASKED: u32 = u32::MAX;

/// What tells tasks apart: kernel, parameters, each operand's layout (equal ones are mostly one) and view.
type TaskKey<'g> = (u32, &'g [u8], SmallVec<[(usize, Option<u32>); 4]>);

impl AskedPrograms {
    /// Asks for the tasks that the device may run at all, as `served` says by profile.
    pub(super) fn of(
        graph: &TaskGraph,
        kernels: &[Arc<dyn Kernel>],
        (member, facts): (&Member, &GpuFacts),
        (served, strict): (&[bool], bool),
    ) -> Self {
        let mut this = Self { of: Vec::with_capacity(graph.len()), strict, ..Self::default() };
        let mut known: HashMap<TaskKey<'_>, u32> = HashMap::new();
        for task in graph.tasks() {
            if !served[graph.profile_id(task).index()] {
                this.of.push(NOT_ASKED);
                continue;
            }
            let number = *known.entry(key(graph, task)).or_insert_with(|| this.ask(graph, kernels, task, (member, facts)));
            this.of.push(number);
        }
        this
    }

    /// The number of the answer to a task, if there is one.
    pub(super) fn number(&self, task: TaskId) -> Option<usize> {
        let number = self.of[task.index()];
        (number != NOT_ASKED).then_some(number as usize)
    }

    fn ask(
        &mut self,
        graph: &TaskGraph,
        kernels: &[Arc<dyn Kernel>],
        task: TaskId,
        (member, facts): (&Member, &GpuFacts),
    ) -> u32 {
        let (kernel, params) = (&kernels[graph.kernel_id(task).index()], graph.params(task));
        let lies = places(graph, task);
        let metas: Vec<ChunkMeta<'_>> = graph.metas(task).zip(&lies).map(|(meta, lies)| placed(meta, lies.as_ref())).collect();
        let program = calm(|| kernel.program(params, &metas, facts)).flatten();
        let inexact = if self.strict { calm(|| kernel.inexact(facts)).unwrap_or(Some("it panicked".into())) } else { None };
        self.answers.push(match program {
            Some(_) if let Some(why) = inexact => Err(Unable::Inexact(why)),
            None => Err(Unable::of(&**kernel, params, &metas, facts)),
            Some(program) => {
                let passes = program.passes.len();
                let compiling_ns = calm(|| member.device.compiling_ns(&**kernel, &program)).unwrap_or(0);
                let is_new = || self.uncompiled.iter().all(|known| !Arc::ptr_eq(&known.program.shader, &program.shader));
                if compiling_ns > 0 && self.uncompiled.len() < AHEAD && is_new() {
                    self.uncompiled.push(Uncompiled { task, kernel: kernel.clone(), program });
                }
                Ok((passes, compiling_ns))
            }
        });
        (self.answers.len() - 1) as u32
    }
}

fn key(graph: &TaskGraph, task: TaskId) -> TaskKey<'_> {
    let layout = |value| Arc::as_ptr(graph.pooled_layout(value)).addr();
    let inputs = graph.inputs(task).map(|input| (layout(input.value), input.view.map(|view| view.0)));
    let outputs = graph.outputs(task).map(|output| (layout(output.value), None));
    (graph.kernel_id(task).0, graph.params(task), inputs.chain(outputs).collect())
}

/// Where the operands of a task lie that are read through views, where a GPU's copies of their values have them.
fn places(graph: &TaskGraph, task: TaskId) -> SmallVec<[Option<(usize, Layout)>; 4]> {
    let reads_views = graph.kernels()[graph.kernel_id(task).index()].reads_views;
    let viewed = graph.inputs(task).map(|input| {
        let view = &graph.views()[input.view.filter(|_| reads_views)?.index()];
        let (offset, layout) = view.of(graph.pooled_layout(input.value));
        Some((usize::try_from(offset).unwrap_or(0), layout))
    });
    viewed.chain(graph.outputs(task).map(|_| None)).collect()
}

fn placed<'a>(meta: ChunkMeta<'a>, lies: Option<&'a (usize, Layout)>) -> ChunkMeta<'a> {
    let is_whole = |(offset, layout): &(usize, Layout)| *offset == 0 && layout.is_contiguous();
    let lies = lies.filter(|lies| !is_whole(lies)).map(|(offset, layout)| Lies { offset: *offset, strides: &layout.strides });
    ChunkMeta { lies, ..meta }
}
