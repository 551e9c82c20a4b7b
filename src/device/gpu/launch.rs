//! A launch on its way: from what was asked of the GPU to what is to be recorded.
//!
//! Owns: [`Running`], its stages, and who is told of its end. Must not know: submissions, threads. Invariant: a launch is reported exactly once,
//! also if it is dropped in a panic.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use super::memory::ChunkSlot;
use super::open::GpuRefusal;
use super::slice::{Cursor, units};
use crate::device::{Body, Data, Done, Failure, Launch, Output, Report};
use crate::error::Error;
use crate::kernel::{GpuFacts, Kernel, Program, copy, is_ours};
use crate::shape::{ChunkMeta, DType, Form, Layout, View};

/// A launch on its way.
pub(super) struct Running {
    /// What is left of it. Each stage sees all that the ones before it wrote.
    pub(super) stages: VecDeque<GpuStage>,
    /// Scratch that the stages share.
    pub(super) scratch_bytes: u64,
    /// Work of all stages.
    pub(super) units: f64,
    /// Old values to be copied into outputs first: from, to, bytes.
    pub(super) copy_in: Vec<(Arc<ChunkSlot>, Arc<ChunkSlot>, u64)>,
    pub(super) estimate_ns: u64,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) end: LaunchEnd,
}

/// A program on its operands.
pub(super) struct GpuStage {
    pub(super) program: Program,
    /// Its inputs, then its outputs.
    pub(super) operands: Vec<StageOperand>,
    pub(super) cursor: Cursor,
    /// Once they are compiled.
    pub(super) pipelines: Vec<wgpu::ComputePipeline>,
}

impl GpuStage {
    fn new(program: Program, operands: Vec<StageOperand>) -> Self {
        Self { program, operands, cursor: Cursor::default(), pipelines: Vec::new() }
    }
}

/// What a stage reads or writes, and its bytes.
#[derive(Clone)]
pub(super) enum StageOperand {
    /// A chunk.
    Chunk(Arc<ChunkSlot>, u64),
    /// A part of the scratch, from byte `at` on.
    Scratch { at: u64, bytes: u64 },
}

/// Who is told of a launch's end.
pub(super) struct LaunchEnd {
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) params: Vec<u8>,
    pub(super) done: DonePromise,
}

/// A report that is made for certain: if it is dropped, in a panic, it says that the device is lost.
pub(super) struct DonePromise(Option<Done>);

impl DonePromise {
    pub(super) fn new(done: Done) -> Self {
        Self(Some(done))
    }

    /// Makes the report.
    pub(super) fn keep(mut self, report: Report) {
        if let Some(done) = self.0.take() {
            done(report);
        }
    }

    /// Reports a failure.
    pub(super) fn fail(self, failure: Failure) {
        self.keep(Report { elapsed_ns: 0, since_ns: 0, worker: 0, opaque: Vec::new(), outcome: Err(failure) });
    }
}

impl Drop for DonePromise {
    fn drop(&mut self) {
        let Some(done) = self.0.take() else { return };
        let failure = GpuRefusal::Lost("one of its threads panicked".into()).into_failure("a task", "the GPU");
        // A second panic while one unwinds would end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| Self::new(done).fail(failure)));
    }
}

/// What the parts of a launch have come to.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) elapsed_ns: u64,
    pub(super) fault: Option<[u32; 4]>,
    pub(super) failed: Option<Failure>,
}

/// What is to be done for a body, and why the GPU cannot.
type Staged = Result<(Vec<GpuStage>, u64), String>;

impl Running {
    /// What is to be done for a launch on the device of this name; an error if it cannot run it, which pricing has excluded.
    pub(super) fn new(launch: Launch, facts: &GpuFacts, device: &str) -> Result<Box<Self>, (Done, Failure)> {
        let Launch { kernel, body, estimate_ns, done, .. } = launch;
        let (mut kernel_params, mut copy_in) = (Vec::new(), Vec::new());
        let made = match body {
            Body::Run { params, inputs, outputs, .. } => {
                copy_in = outputs.iter().filter_map(old_value).collect();
                let made = run(&*kernel, &params, (&inputs, &outputs), facts);
                kernel_params = params;
                made
            }
            Body::Pack { form: Form::Plain, view, from, to } => show(view.as_deref(), &from, &to, facts),
            Body::Pack { .. } => Err("a GPU packs no chunks".into()),
        };
        match made {
            Ok((stages, scratch_bytes)) => Ok(Box::new(Self {
                units: stages.iter().map(|stage| units(&stage.program)).sum(),
                stages: stages.into(),
                scratch_bytes,
                copy_in,
                estimate_ns,
                tally: Arc::default(),
                end: LaunchEnd { kernel, params: kernel_params, done: DonePromise::new(done) },
            })),
            Err(message) => {
                let task = format!("{} on {device}", label(&*kernel));
                Err((done, Failure::Unfit(Error::Task { task, message })))
            }
        }
    }

    /// The dtype that it computes in.
    pub(super) fn real(&self) -> DType {
        self.stages.front().map_or(DType::F32, |stage| stage.program.real)
    }

    /// The failure that an earlier part of it met, if any.
    pub(super) fn failed_before(&self) -> Option<Failure> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }
}

/// A kernel's name in messages: it may be the user's, and panic.
pub(super) fn label(kernel: &dyn Kernel) -> String {
    let name = catch_unwind(AssertUnwindSafe(|| kernel.name().into_owned()));
    name.unwrap_or_else(|_| "a kernel whose name panics".into())
}

/// A chunk in this GPU's memory.
fn chunk(data: &Data) -> Option<(Arc<ChunkSlot>, &Layout)> {
    match data {
        Data::Remote(remote) => Some((remote.memory.clone().downcast().ok()?, &remote.layout)),
        _ => None,
    }
}

fn meta(layout: &Layout) -> ChunkMeta<'_> {
    ChunkMeta { dtype: layout.dtype, shape: &layout.shape, data: None }
}

fn old_value(output: &Output) -> Option<(Arc<ChunkSlot>, Arc<ChunkSlot>, u64)> {
    let ((from, layout), (to, _)) = (chunk(output.copy_in.as_ref()?)?, chunk(&output.to)?);
    Some((from, to, layout.bytes()))
}

/// A kernel's program; then, for each output of `bool`, one that makes bytes of its words.
fn run(kernel: &dyn Kernel, params: &[u8], (inputs, outputs): (&[Data], &[Output]), facts: &GpuFacts) -> Staged {
    let all: Option<Vec<_>> = inputs.iter().chain(outputs.iter().map(|o| &o.to)).map(chunk).collect();
    let all = all.ok_or("an operand is not in its memory")?;
    let metas: Vec<ChunkMeta<'_>> = all.iter().map(|(_, layout)| meta(layout)).collect();
    // A panic here would take the thread with it that hands out launches.
    let made = catch_unwind(AssertUnwindSafe(|| kernel.program(params, &metas, facts)));
    let mut program = made.ok().flatten().ok_or("the kernel has no GPU half for these operands")?;
    if let Some(mistake) = program.mistake(&metas, facts) {
        return Err(format!("its GPU half is wrong: {mistake}"));
    }
    if program.shader.is_trusted() && !is_ours(kernel) {
        // A user may take a program of ours and change its parameters.
        program.shader = Arc::new(program.shader.distrusted());
    }
    let (words, scratch_bytes) = program.words(&metas);
    let mut operands: Vec<StageOperand> =
        all.iter().map(|(slot, layout)| StageOperand::Chunk(slot.clone(), layout.bytes())).collect();
    let mut packs = Vec::new();
    for (operand, range) in words {
        if outputs.get(operand - inputs.len()).is_some_and(|output| output.copy_in.is_some()) {
            return Err("a GPU writes all of an output of bool, and this one is to be updated".into());
        }
        let words = StageOperand::Scratch { at: range.start, bytes: range.end - range.start };
        let bytes = std::mem::replace(&mut operands[operand], words.clone());
        packs.push(GpuStage::new(copy::bools(all[operand].1.len() as u64, program.real), vec![words, bytes]));
    }
    let mut stages = vec![GpuStage::new(program, operands)];
    stages.append(&mut packs);
    Ok((stages, scratch_bytes))
}

/// The copy of what a view shows.
fn show(view: Option<&View>, from: &Data, to: &Data, facts: &GpuFacts) -> Staged {
    let ((from, value), (to, copied)) = chunk(from).zip(chunk(to)).ok_or("a chunk is not in its memory")?;
    let whole;
    let view = match view {
        Some(view) => view,
        None => {
            whole = View::whole(&value.shape);
            &whole
        }
    };
    let gaps = !value.is_contiguous() || !copied.is_contiguous();
    if (gaps && !view.is_empty()) || copied.dtype != value.dtype || copied.len() != view.len() {
        return Err(format!("{} of {:?} cannot be copied as {} of {:?}", value.dtype, value.shape, copied.dtype, copied.shape));
    }
    if view.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let program = copy::gather(view, meta(value)).map_err(|e| e.to_string())?;
    let program =
        program.fitting(facts, &[meta(value), meta(copied)]).ok_or("a copy of a view is larger than it can be there")?;
    let operands = vec![StageOperand::Chunk(from, value.bytes()), StageOperand::Chunk(to, copied.bytes())];
    Ok((vec![GpuStage::new(program, operands)], 0))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::device::Remote;
    use crate::device::gpu::open::Opened;
    use crate::kernel::gemv::Gemv;
    use crate::kernel::{Fault, Scratch, Work};
    use crate::shape::{ChunkView, ChunkViewMut};

    /// A user's kernel with a program of ours.
    struct Borrowed;

    impl Kernel for Borrowed {
        fn name(&self) -> Cow<'static, str> {
            "test::borrowed".into()
        }
        fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
            Gemv.work(params, operands)
        }
        fn program(&self, params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
            Gemv.program(params, operands, gpu)
        }
        fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[test]
    fn loops_go_unchecked_in_programs_of_our_kernels_only() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let opened = Arc::new(Opened::new(&adapter).unwrap());
        let chunk = |shape: &[usize]| {
            let layout = Layout::contiguous(DType::F32, shape);
            Data::Remote(Remote { memory: Arc::new(ChunkSlot::new(opened.clone(), layout.bytes())), layout: layout.into() })
        };
        let trusted = |kernel: Arc<dyn Kernel>| {
            let (inputs, outputs) = (vec![chunk(&[9, 7]), chunk(&[7])], vec![Output { to: chunk(&[9]), copy_in: None }]);
            let body = Body::Run { params: Vec::new(), inputs, outputs, scratch_bytes: 0 };
            let launch = Launch { kernel, body, estimate_ns: 1, origin: None, done: Box::new(drop) };
            let Ok(run) = Running::new(launch, &adapter.facts(), "gpu0") else { panic!("it has a program") };
            run.stages[0].program.shader.is_trusted()
        };
        assert!(trusted(Arc::new(Gemv)) && !trusted(Arc::new(Borrowed)));
    }
}
