//! What a launch comes to, whatever its operands are: made once for launches that are alike.
//!
//! Owns: [`LaunchPlan`] and [`LaunchPlans`], which keeps them. Must not know: buffers, submissions. Invariant: two launches get one plan only if they are of one kernel
//! (the very same object, still alive), with equal parameters, on operands of equal dtypes and shapes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use smallvec::SmallVec;

use super::pace::PaceKey;
use super::slice::units;
use crate::kernel::{GpuFacts, Kernel, Program, copy, is_ours};
use crate::shape::{ChunkMeta, DType, Layout, View};

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
    /// Of each stage, of each pass; once they are compiled.
    pub(super) pipelines: OnceLock<Vec<Vec<wgpu::ComputePipeline>>>,
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
            pipelines: OnceLock::new(),
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
    pub(super) fn run(kernel: &dyn Kernel, params: &[u8], layouts: &[&Layout], facts: &GpuFacts) -> Result<Self, String> {
        let metas: SmallVec<[ChunkMeta<'_>; 4]> = layouts.iter().map(|layout| meta(layout)).collect();
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
        let mut places: SmallVec<[OperandPlace; 4]> =
            layouts.iter().enumerate().map(|(i, layout)| OperandPlace::Operand(i, layout.bytes())).collect();
        let (mut packs, mut in_words) = (Vec::new(), SmallVec::new());
        for (operand, range) in words {
            let words = OperandPlace::Scratch { at: range.start, bytes: range.end - range.start };
            let bytes = std::mem::replace(&mut places[operand], words.clone());
            let program = copy::bools(layouts[operand].len() as u64, program.real);
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

fn meta(layout: &Layout) -> ChunkMeta<'_> {
    ChunkMeta { dtype: layout.dtype, shape: &layout.shape, data: None }
}

/// Work that depends on the data may be none at all: then nothing is known.
fn least_ns(program: &Program) -> f64 {
    if program.passes.iter().any(|pass| pass.resumable) {
        return 0.0;
    }
    (program.most.flops / ROOF[0]).max(program.most.bytes / ROOF[1]).max(0.0)
}

/// LaunchPlans that are kept.
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
}

/// What launches of one plan share.
struct Alike {
    /// Not alive for its sake: it may hold a file that somebody waits for. But its place is not given to another while this is here.
    kernel: Weak<dyn Kernel>,
    params: Vec<u8>,
    operands: SmallVec<[(DType, Vec<usize>); 4]>,
    plan: Arc<LaunchPlan>,
}

impl Alike {
    fn is(&self, kernel: &Arc<dyn Kernel>, params: &[u8], layouts: &[&Layout]) -> bool {
        std::ptr::addr_eq(self.kernel.as_ptr(), Arc::as_ptr(kernel))
            && self.params == params
            && self.operands.len() == layouts.len()
            && self.operands.iter().zip(layouts).all(|((dtype, shape), l)| *dtype == l.dtype && *shape == l.shape)
    }
}

impl LaunchPlans {
    /// The plan of a kernel's launch: kept, or made now.
    pub(super) fn of(
        &self,
        kernel: &Arc<dyn Kernel>,
        params: &[u8],
        layouts: &[&Layout],
        facts: &GpuFacts,
    ) -> Result<Arc<LaunchPlan>, String> {
        let mut hasher = DefaultHasher::new();
        (Arc::as_ptr(kernel).addr(), params).hash(&mut hasher);
        layouts.iter().for_each(|layout| (layout.dtype as u8, &layout.shape).hash(&mut hasher));
        let hash = hasher.finish();
        let find = |kept: &Kept| {
            let all = kept.plans.get(&hash)?;
            all.iter().find(|alike| alike.is(kernel, params, layouts)).map(|alike| alike.plan.clone())
        };
        if let Some(plan) = find(&self.kept()) {
            return Ok(plan);
        }
        // A user's code: not under a lock.
        let plan = Arc::new(LaunchPlan::run(&**kernel, params, layouts, facts)?);
        let operands = layouts.iter().map(|layout| (layout.dtype, layout.shape.to_vec())).collect();
        let alike = Alike { kernel: Arc::downgrade(kernel), params: params.to_vec(), operands, plan: plan.clone() };
        let mut kept = self.kept();
        if let Some(twin) = find(&kept) {
            return Ok(twin); // two launches at once
        }
        if kept.count >= KEPT {
            *kept = Kept::default();
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
        let of = |kernel: &Arc<dyn Kernel>, layouts: [&Layout; 3]| plans.of(kernel, &[], &layouts, &GpuFacts::ANY).unwrap();
        let first = of(&kernel, [&a, &x, &y]);
        assert!(Arc::ptr_eq(&first, &of(&kernel, [&a, &x, &y])));
        let (b, z) = (layout(&[7, 5]), layout(&[7]));
        assert!(!Arc::ptr_eq(&first, &of(&kernel, [&b, &x, &z])));
        let wide = [&a, &x, &y].map(|l| Layout::contiguous(DType::F64, &l.shape));
        assert!(!Arc::ptr_eq(&first, &of(&kernel, [&wide[0], &wide[1], &wide[2]])));
        assert!(plans.of(&kernel, &[], &[&a, &x], &GpuFacts::ANY).is_err(), "too few operands");
        // Kernels that went by are not kept, and never taken for one another.
        for n in 0..3 * KEPT {
            let params = (n as u32).to_ne_bytes();
            drop(plans.of(&kernel, &params, &[&a, &x, &y], &GpuFacts::ANY));
        }
        assert!(plans.kept().count <= KEPT);
        drop(kernel);
        assert!(plans.kept().plans.values().flatten().all(|alike| alike.kernel.upgrade().is_none()));
    }
}
