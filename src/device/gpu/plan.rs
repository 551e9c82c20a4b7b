//! What a launch comes to, whatever its operands are: made once for launches that are alike.
//!
//! Owns: [`LaunchPlan`] and [`LaunchPlans`], which keeps them. Must not know: buffers, submissions. Invariant: two launches get one plan only if they are of one kernel
//! (the very same object, still alive), with equal parameters, on operands that lie alike, and for what was found out of the GPU last.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use smallvec::SmallVec;

use super::pace::PaceKey;
use super::slice::units;
use crate::kernel::{ExactFloats, GpuFacts, Kernel, Program, Variants, copy, is_ours};
use crate::shape::{ChunkMeta, DType, Layout, Lies, View};

/// Flops and bytes a ns of a GPU that is faster than any there will be for a while: what was measured as faster was measured wrongly.
const ROOF: [f64; 2] = [1e6, 1e5];

/// A program, and where what it reads and writes lies.
pub(super) struct LaunchStage {
    pub(super) program: Program,
    /// Its inputs, then its outputs.
    pub(super) places: SmallVec<[OperandPlace; 4]>,
}

/// What a stage reads or writes, and its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OperandPlace {
    /// An operand of the launch.
    Operand(usize, u64),
    /// A part of the scratch, from byte `at` on.
    Scratch { at: u64, bytes: u64 },
}

/// Where an operand is in its buffer.
#[derive(Clone, Copy)]
pub(super) struct OperandAt<'a> {
    pub(super) layout: &'a Layout,
    /// The number of its first element there.
    pub(super) offset: usize,
}

impl<'a> OperandAt<'a> {
    /// Whether it is all there is, from the start on, in C order.
    fn is_whole(&self) -> bool {
        self.offset == 0 && self.layout.is_contiguous()
    }

    fn meta(&self) -> ChunkMeta<'a> {
        let lies = Lies { offset: self.offset, strides: &self.layout.strides };
        ChunkMeta { lies: (!self.is_whole()).then_some(lies), ..meta(self.layout) }
    }

    /// Bytes of its buffer up to its last element.
    fn end_bytes(&self) -> u64 {
        if self.is_whole() { self.layout.bytes() } else { self.meta().end_bytes() }
    }
}

/// What is to be done for a launch.
pub(super) struct LaunchPlan {
    /// Each sees all that the ones before it wrote.
    pub(super) stages: Vec<LaunchStage>,
    /// Scratch that the stages share.
    pub(super) scratch_bytes: u64,
    /// Operands that are written as words first: they cannot be updated.
    pub(super) in_words: SmallVec<[usize; 1]>,
    /// Work of all stages.
    pub(super) units: f64,
    /// What it takes on any GPU, at least.
    pub(super) least_ns: f64,
    pub(super) pace: PaceKey,
    /// Whether its bindings were accepted once: then those of the next launch are, too.
    pub(super) accepted: OnceLock<()>,
}

impl LaunchPlan {
    pub(super) fn new(stages: Vec<LaunchStage>, scratch_bytes: u64, in_words: SmallVec<[usize; 1]>) -> Self {
        let first = stages.first().map(|stage| &stage.program);
        let pace = PaceKey {
            shader: first.map_or(0, |program| program.shader.content()),
            real: first.map_or(DType::F32, |program| program.real),
        };
        Self {
            scratch_bytes,
            in_words,
            units: stages.iter().map(|stage| units(&stage.program)).sum(),
            least_ns: stages.iter().map(|stage| least_ns(&stage.program)).fold(0.0, f64::max),
            pace,
            accepted: OnceLock::new(),
            stages,
        }
    }

    /// Dispatches of all its passes, uncut.
    pub(super) fn passes(&self) -> usize {
        self.stages.iter().map(|stage| stage.program.passes.len()).sum()
    }

    /// Whether it may report a fault.
    pub(super) fn faults(&self) -> bool {
        self.stages.iter().any(|stage| stage.program.faults)
    }

    /// Of a kernel's program; then, for each output of `bool`, of one that makes bytes of its words. Operands: inputs, then outputs.
    pub(super) fn run(
        kernel: &dyn Kernel,
        params: &[u8],
        (placed, inputs): (&[OperandAt<'_>], usize),
        facts: &GpuFacts,
    ) -> Result<Self, String> {
        let metas: SmallVec<[ChunkMeta<'_>; 4]> = placed.iter().map(OperandAt::meta).collect();
        let is_viewed = metas.iter().any(|meta| meta.lies.is_some());
        if is_viewed && !catch_unwind(AssertUnwindSafe(|| kernel.reads_views())).unwrap_or(false) {
            return Err("it reads no views, and an operand is one".into());
        }
        if !placed[inputs.min(placed.len())..].iter().all(OperandAt::is_whole) {
            return Err("a GPU writes whole chunks".into());
        }
        // A panic here would take the thread with it that hands out launches.
        let made = catch_unwind(AssertUnwindSafe(|| kernel.program(params, &metas, facts)));
        let mut program = made.ok().flatten().ok_or("the kernel has no GPU half for these operands")?;
        if let Some(mistake) = program.mistake(&metas, facts) {
            return Err(format!("its GPU half is wrong: {mistake}"));
        }
        if program.shader.inputs() as usize != inputs {
            // It would write what others read.
            return Err(format!("its GPU half is wrong: its shader reads {} operands, not {inputs}", program.shader.inputs()));
        }
        if let Cow::Owned(distrusted) = launched(kernel, &program) {
            program = distrusted;
        }
        let (words, scratch_bytes) = program.words(&metas);
        let mut places: SmallVec<[OperandPlace; 4]> =
            placed.iter().enumerate().map(|(i, placed)| OperandPlace::Operand(i, placed.end_bytes())).collect();
        let (mut packs, mut in_words) = (Vec::new(), SmallVec::new());
        for (operand, range) in words {
            let words = OperandPlace::Scratch { at: range.start, bytes: range.end - range.start };
            let bytes = std::mem::replace(&mut places[operand], words.clone());
            let program = copy::bools(placed[operand].layout.len() as u64, program.real);
            packs.push(LaunchStage { program, places: SmallVec::from_iter([words, bytes]) });
            in_words.push(operand);
        }
        let mut stages = vec![LaunchStage { program, places }];
        stages.append(&mut packs);
        Ok(Self::new(stages, scratch_bytes, in_words))
    }

    /// Of a copy of what a view shows of a value.
    pub(super) fn show(view: Option<&View>, value: &Layout, copied: &Layout, facts: &GpuFacts) -> Result<Self, String> {
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
            return Err(format!(
                "{} of {:?} cannot be copied as {} of {:?}",
                value.dtype, value.shape, copied.dtype, copied.shape
            ));
        }
        if view.is_empty() {
            return Ok(Self::new(Vec::new(), 0, SmallVec::new()));
        }
        let program = copy::gather(view, meta(value)).map_err(|e| e.to_string())?;
        let program =
            program.fitting(facts, &[meta(value), meta(copied)]).ok_or("a copy of a view is larger than it can be there")?;
        let places = SmallVec::from_iter([OperandPlace::Operand(0, value.bytes()), OperandPlace::Operand(1, copied.bytes())]);
        Ok(Self::new(vec![LaunchStage { program, places }], 0, SmallVec::new()))
    }
}

/// A kernel's program as it is launched: a user may take one of ours and change its parameters.
pub(super) fn launched<'p>(kernel: &dyn Kernel, program: &'p Program) -> Cow<'p, Program> {
    if !program.shader.is_trusted() || is_ours(kernel) {
        return Cow::Borrowed(program);
    }
    Cow::Owned(Program { shader: Arc::new(program.shader.distrusted()), ..program.clone() })
}

fn meta(layout: &Layout) -> ChunkMeta<'_> {
    ChunkMeta::new(layout.dtype, &layout.shape)
}

/// Work that depends on the data may be none at all: then nothing is known.
fn least_ns(program: &Program) -> f64 {
    if program.passes.iter().any(|pass| pass.resumable) {
        return 0.0;
    }
    (program.most.flops / ROOF[0]).max(program.most.bytes / ROOF[1]).max(0.0)
}

/// Plans that are kept.
const KEPT: usize = 1024;

/// The plans of launches that were made lately.
#[derive(Default)]
pub(super) struct LaunchPlans {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By a hash of what tells them apart.
    plans: HashMap<u64, SmallVec<[Alike; 1]>>,
    count: usize,
    /// That for which all of them are.
    found: FoundOut,
}

/// What somebody has found out of the GPU since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct FoundOut {
    pub(super) variants: Variants,
    pub(super) exact: ExactFloats,
}

impl FoundOut {
    pub(super) fn of(facts: &GpuFacts) -> Self {
        Self { variants: facts.variants, exact: facts.exact }
    }
}

/// What launches of one plan share.
struct Alike {
    /// Not alive for its sake: it may hold a file that somebody waits for. But its place is not given to another while this is here.
    kernel: Weak<dyn Kernel>,
    params: Vec<u8>,
    operands: SmallVec<[(Layout, usize); 4]>,
    /// How many of them are read.
    inputs: usize,
    plan: Arc<LaunchPlan>,
}

impl Alike {
    fn is(&self, kernel: &Arc<dyn Kernel>, params: &[u8], placed: &[OperandAt<'_>]) -> bool {
        std::ptr::addr_eq(self.kernel.as_ptr(), Arc::as_ptr(kernel))
            && self.params == params
            && self.operands.len() == placed.len()
            && self
                .operands
                .iter()
                .zip(placed)
                .all(|((layout, offset), placed)| layout == placed.layout && *offset == placed.offset)
    }
}

impl LaunchPlans {
    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.kept().count
    }

    /// From now on plans are for what was found out now.
    pub(super) fn set_found(&self, change: impl FnOnce(&mut FoundOut)) {
        let mut kept = self.kept();
        let mut found = kept.found;
        change(&mut found);
        if kept.found != found {
            *kept = Kept { found, ..Kept::default() };
        }
    }

    /// The plan of a kernel's launch, for what was found out last: kept, or made now. What `facts` says of that is not asked.
    pub(super) fn of(
        &self,
        kernel: &Arc<dyn Kernel>,
        params: &[u8],
        (placed, inputs): (&[OperandAt<'_>], usize),
        facts: &GpuFacts,
    ) -> Result<Arc<LaunchPlan>, String> {
        let mut hasher = DefaultHasher::new();
        (Arc::as_ptr(kernel).addr(), params, inputs).hash(&mut hasher);
        placed.iter().for_each(|placed| (placed.layout, placed.offset).hash(&mut hasher));
        let hash = hasher.finish();
        let find = |kept: &Kept| {
            let all = kept.plans.get(&hash)?;
            all.iter().find(|alike| alike.inputs == inputs && alike.is(kernel, params, placed)).map(|alike| alike.plan.clone())
        };
        let found = {
            let kept = self.kept();
            if let Some(plan) = find(&kept) {
                return Ok(plan);
            }
            kept.found
        };
        // A user's code: not under a lock.
        let FoundOut { variants, exact } = found;
        let plan = Arc::new(LaunchPlan::run(&**kernel, params, (placed, inputs), &GpuFacts { variants, exact, ..*facts })?);
        let operands = placed.iter().map(|placed| (placed.layout.clone(), placed.offset)).collect();
        let alike = Alike { kernel: Arc::downgrade(kernel), params: params.to_vec(), operands, inputs, plan: plan.clone() };
        let mut kept = self.kept();
        if kept.found != found {
            return Ok(plan); // the launch came before something else was found out
        }
        if let Some(twin) = find(&kept) {
            return Ok(twin); // two launches at once
        }
        if kept.count >= KEPT {
            *kept = Kept { found, ..Kept::default() };
        }
        kept.count += 1;
        kept.plans.entry(hash).or_default().push(alike);
        Ok(plan)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemv::Gemv;

    #[test]
    fn launches_that_are_alike_share_a_plan() {
        let plans = LaunchPlans::default();
        let layout = |shape: &[usize]| Layout::contiguous(DType::F32, shape);
        let (a, x, y) = (layout(&[4, 5]), layout(&[5]), layout(&[4]));
        let kernel: Arc<dyn Kernel> = Arc::new(Gemv);
        fn placed(layout: &Layout) -> OperandAt<'_> {
            OperandAt { layout, offset: 0 }
        }
        let of = |kernel: &Arc<dyn Kernel>, layouts: [&Layout; 3]| {
            plans.of(kernel, &[], (&layouts.map(placed), 2), &GpuFacts::ANY).unwrap()
        };
        let first = of(&kernel, [&a, &x, &y]);
        assert!(Arc::ptr_eq(&first, &of(&kernel, [&a, &x, &y])));
        let (b, z) = (layout(&[7, 5]), layout(&[7]));
        assert!(!Arc::ptr_eq(&first, &of(&kernel, [&b, &x, &z])));
        let wide = [&a, &x, &y].map(|l| Layout::contiguous(DType::F64, &l.shape));
        assert!(!Arc::ptr_eq(&first, &of(&kernel, [&wide[0], &wide[1], &wide[2]])));
        assert!(plans.of(&kernel, &[], (&[&a, &x].map(placed), 1), &GpuFacts::ANY).is_err(), "too few operands");
        assert!(plans.of(&kernel, &[], (&[&a, &x, &y].map(placed), 1), &GpuFacts::ANY).is_err(), "it would write x");
        let tall = [layout(&[4, 512]), layout(&[512])];
        let entry = || of(&kernel, [&tall[0], &tall[1], &y]).stages[0].program.passes[0].entry.clone();
        assert_eq!(entry(), "wide");
        plans.set_found(|found| found.variants = Variants { gemv: [2, 0], ..Variants::AUTOMATIC });
        assert_eq!(entry(), "slim", "plans of other variants are not handed out");
        assert!(
            plans
                .of(&kernel, &[], (&[&tall[0], &tall[1], &y].map(placed), 2), &GpuFacts::ANY)
                .is_ok_and(|p| p.stages.len() == 1)
        );
        plans.set_found(|found| found.variants = Variants::AUTOMATIC);
        assert_eq!(entry(), "wide");
        // Kernels that went by are not kept, and never taken for one another.
        for n in 0..3 * KEPT {
            let params = (n as u32).to_ne_bytes();
            drop(plans.of(&kernel, &params, (&[&a, &x, &y].map(placed), 2), &GpuFacts::ANY));
        }
        assert!(plans.kept().count <= KEPT);
        drop(kernel);
        assert!(plans.kept().plans.values().flatten().all(|alike| alike.kernel.upgrade().is_none()));
    }
}
