//! A launch on its way: from what was asked of the GPU to who is told of its end.
//!
//! Owns: [`Running`] and the promise of a report. Must not know: submissions, threads. Invariant: a launch is reported exactly once, also if it is dropped in
//! a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use super::batcher::Mark;
use super::memory::{ChunkSlot, QueuedUse};
use super::open::GpuRefusal;
use super::pipelines::LaunchPipelines;
use super::plan::{LaunchPlan, LaunchPlans, OperandAt};
use super::ring::ScratchBuffer;
use crate::device::{Body, Data, Done, Failure, Launch, Output, Report};
use crate::error::Error;
use crate::kernel::{GpuFacts, Kernel};
use crate::shape::Form;

/// A launch on its way.
pub(super) struct Running {
    pub(super) plan: Arc<LaunchPlan>,
    /// Inputs, then outputs.
    pub(super) operands: SmallVec<[Arc<ChunkSlot>; 4]>,
    /// To be copied first.
    pub(super) copy_in: SmallVec<[OldValue; 1]>,
    pub(super) estimate_ns: u64,
    /// What it runs, as far as that is compiled.
    pub(super) pipelines: LaunchPipelines,
    /// While a part of it has been submitted, and another is still to come.
    pub(super) scratch: Option<ScratchBuffer>,
    /// What its parts have come to, if there are several.
    pub(super) tally: Option<Arc<Mutex<Tally>>>,
    /// While it is queued, if the host maps chunks.
    pub(super) queued: SmallVec<[QueuedUse; 4]>,
    pub(super) end: LaunchEnd,
}

/// The old value of an output: from where, to where, bytes.
pub(super) type OldValue = (Arc<ChunkSlot>, Arc<ChunkSlot>, u64);

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
        self.keep(Report { elapsed_ns: 0, measured: false, since_ns: 0, worker: 0, opaque: Vec::new(), outcome: Err(failure) });
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
    /// What of it was measured; the rest was a share of a submission's time, as where the last part of one launch goes beside the first of the next.
    pub(super) measured_ns: u64,
    pub(super) fault: Option<[u32; 4]>,
    pub(super) failed: Option<Failure>,
}

impl Tally {
    /// Whether its time is measured: three quarters of it are.
    pub(super) fn is_measured(&self) -> bool {
        self.measured_ns >= self.elapsed_ns - self.elapsed_ns / 4
    }
}

impl Running {
    /// What is to be done for a launch on the device of this name; an error if it cannot run it, which pricing has excluded.
    pub(super) fn new(
        launch: Launch,
        facts: &GpuFacts,
        plans: &LaunchPlans,
        device: &str,
    ) -> Result<Box<Self>, (Done, Failure)> {
        let Launch { kernel, body, estimate_ns, done, .. } = launch;
        let (mut kernel_params, mut copy_in) = (Vec::new(), SmallVec::new());
        let made = match body {
            Body::Run { params, inputs, outputs, .. } => {
                copy_in = outputs.iter().filter_map(old_value).collect();
                let made = run(&kernel, &params, (&inputs, &outputs), facts, plans);
                kernel_params = params;
                made
            }
            Body::Pack { form: Form::Plain, view, from, to } => match chunk(&from).zip(chunk(&to)) {
                Some(((from, value), (to, copied))) => LaunchPlan::show(view.as_deref(), value.layout, copied.layout, facts)
                    .map(|plan| (Arc::new(plan), SmallVec::from_iter([from, to]))),
                None => Err("a chunk is not in its memory".into()),
            },
            Body::Pack { .. } => Err("a GPU packs no chunks".into()),
        };
        match made {
            Ok((plan, operands)) => {
                let end = LaunchEnd { kernel, params: kernel_params, done: DonePromise::new(done) };
                Ok(Box::new(Self {
                    plan,
                    operands,
                    copy_in,
                    estimate_ns,
                    pipelines: LaunchPipelines::default(),
                    scratch: None,
                    tally: None,
                    queued: SmallVec::new(),
                    end,
                }))
            }
            Err(message) => {
                let task = format!("{} on {device}", label(&*kernel));
                Err((done, Failure::Unfit(Error::Task { task, message })))
            }
        }
    }

    /// After which uploads it may go.
    pub(super) fn after(&self) -> Mark {
        self.uses().map(|slot| slot.after()).max().unwrap_or_default()
    }

    /// Chunks that it uses, some perhaps twice.
    fn uses(&self) -> impl Iterator<Item = &Arc<ChunkSlot>> {
        self.operands.iter().chain(self.copy_in.iter().map(|(from, ..)| from))
    }

    /// Keeps the host from mapping its chunks while it is queued; false if it has one just now.
    pub(super) fn keep_from_host(&mut self) -> bool {
        if self.uses().any(|slot| slot.is_spoken_for()) {
            return false;
        }
        self.queued = self.uses().map(QueuedUse::new).collect();
        true
    }

    /// The failure that an earlier part of it met, if any.
    pub(super) fn failed_before(&self) -> Option<Failure> {
        let tally = self.tally.as_ref()?;
        tally.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }
}

/// A kernel's name in messages: it may be the user's, and panic.
pub(super) fn label(kernel: &dyn Kernel) -> String {
    let name = catch_unwind(AssertUnwindSafe(|| kernel.name().into_owned()));
    name.unwrap_or_else(|_| "a kernel whose name panics".into())
}

/// A chunk in this GPU's memory.
fn chunk(data: &Data) -> Option<(Arc<ChunkSlot>, OperandAt<'_>)> {
    match data {
        Data::Remote(remote) => {
            let slot = remote.memory.clone().downcast().ok()?;
            Some((slot, OperandAt { layout: &remote.layout, offset: remote.offset }))
        }
        _ => None,
    }
}

fn old_value(output: &Output) -> Option<OldValue> {
    let ((from, placed), (to, _)) = (chunk(output.copy_in.as_ref()?)?, chunk(&output.to)?);
    Some((from, to, placed.layout.bytes()))
}

/// A plan, and the operands for it.
type Planned = (Arc<LaunchPlan>, SmallVec<[Arc<ChunkSlot>; 4]>);

fn run(
    kernel: &Arc<dyn Kernel>,
    params: &[u8],
    (inputs, outputs): (&[Data], &[Output]),
    facts: &GpuFacts,
    plans: &LaunchPlans,
) -> Result<Planned, String> {
    let all = inputs.iter().chain(outputs.iter().map(|o| &o.to));
    let (mut slots, mut placed): (SmallVec<_>, SmallVec<[OperandAt<'_>; 4]>) = (SmallVec::new(), SmallVec::new());
    for data in all {
        let (slot, place) = chunk(data).ok_or("an operand is not in its memory")?;
        slots.push(slot);
        placed.push(place);
    }
    let plan = plans.of(kernel, params, (&placed, inputs.len()), facts)?;
    let output = |operand: &usize| outputs.get(operand.checked_sub(inputs.len())?);
    let updated = |operand: &usize| output(operand).is_some_and(|output| output.copy_in.is_some());
    if plan.in_words.iter().any(updated) {
        return Err("a GPU writes all of an output of bool, and this one is to be updated".into());
    }
    Ok((plan, slots))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::device::Remote;
    use crate::device::gpu::open::Opened;
    use crate::kernel::gemv::Gemv;
    use crate::kernel::{Fault, Program, Scratch, Work};
    use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout};

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
            Data::Remote(Remote::whole(Arc::new(ChunkSlot::new(opened.clone(), layout.bytes())), layout.into()))
        };
        let trusted = |kernel: Arc<dyn Kernel>| {
            let (inputs, outputs) = (vec![chunk(&[9, 7]), chunk(&[7])], vec![Output { to: chunk(&[9]), copy_in: None }]);
            let body = Body::Run { params: Vec::new(), inputs, outputs, scratch_bytes: 0 };
            let launch = Launch { kernel, body, estimate_ns: 1, origin: None, done: Box::new(drop) };
            let Ok(run) = Running::new(launch, &adapter.facts(), &LaunchPlans::default(), "gpu0") else {
                panic!("it has a program")
            };
            run.plan.stages[0].program.shader.is_trusted()
        };
        assert!(trusted(Arc::new(Gemv)) && !trusted(Arc::new(Borrowed)));
    }
}
