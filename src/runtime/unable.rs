//! Why a GPU does not run something.
//!
//! Owns: [`Unable`], [`CannotRun`] and their words. Must not know: placement, prices. Invariant: what a GPU was not asked for, because it is other devices' work, is not here.

use crate::error::Bytes;
use crate::kernel::{GpuFacts, Kernel, Program, calm};
use crate::shape::{ChunkMeta, DType};

/// Why a GPU cannot run a task.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unable {
    /// The kernel has no GPU half for these operands: the CPU's work.
    NoHalf,
    /// Nor has it one for this reason, as the kernel says.
    Because(String),
    /// It has no `f64`.
    NoF64,
    /// It has no integers of 64 bits.
    NoI64,
    /// More buffers are bound than its shaders see.
    Bindings { bound: u64, most: u64 },
    /// Its workgroups are smaller, or have less memory.
    Workgroups,
    /// It may give other bits than the CPU, for this reason, and the session is strict.
    Inexact(String),
    /// It turned out that it cannot run the kernel: the shader does not compile there.
    Unfit,
    /// A chunk is larger than its shaders can see.
    TooLarge { bytes: u64, most: u64 },
    /// Its memory has no room for any task.
    Full { bytes: u64, most: u64 },
}

/// The tasks of a kernel that a GPU does not run for one reason.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CannotRun {
    pub(super) kernel: String,
    pub(super) why: Unable,
    pub(super) tasks: usize,
}

impl Unable {
    /// Why this GPU has no program for a kernel's operands.
    pub(super) fn of(kernel: &dyn Kernel, params: &[u8], metas: &[ChunkMeta<'_>], facts: &GpuFacts) -> Self {
        let bytes = |m: &ChunkMeta<'_>| {
            m.shape.iter().fold(m.dtype.bytes() as u64, |bytes, &n| bytes.saturating_mul(n as u64)).max(m.end_bytes())
        };
        let (largest, most) = (metas.iter().map(bytes).max().unwrap_or(0), facts.most_bytes());
        // Would another GPU run it, whose arithmetic is the same?
        let other = GpuFacts { exact: facts.exact, ..GpuFacts::ANY };
        let Some(program) = calm(|| kernel.program(params, metas, &other)).flatten() else {
            let why = calm(|| kernel.no_program(params, metas)).flatten();
            return match why {
                _ if metas.iter().any(|m| bytes(m) == 0) => Self::Because("a chunk of it is empty".into()),
                Some(why) => Self::Because(why),
                None if largest > GpuFacts::ANY.most_bytes() => Self::TooLarge { bytes: largest, most },
                None => Self::NoHalf,
            };
        };
        let Program { shader, real, .. } = &program;
        let bound = metas.len() as u64 + u64::from(program.scratch_bytes > 0) + u64::from(program.faults);
        let workgroup_bytes = shader.workgroup_bytes()[usize::from(*real == DType::F64)];
        let bytes = largest.max(program.words(metas).1);
        match () {
            () if !facts.f64 && (*real == DType::F64 || shader.needs_f64()) => Self::NoF64,
            () if !facts.i64 && shader.needs_i64() => Self::NoI64,
            () if bound > u64::from(facts.bindings) => Self::Bindings { bound, most: facts.bindings.into() },
            () if bytes > most => Self::TooLarge { bytes, most },
            () if shader.invocations() > facts.invocations || workgroup_bytes > facts.workgroup_bytes => Self::Workgroups,
            () => Self::NoHalf,
        }
    }

    /// Whether the GPU lacks something that others have; else no GPU does it.
    pub(super) fn is_lack(&self) -> bool {
        !matches!(self, Self::NoHalf | Self::Because(_) | Self::Inexact(_))
    }
}

impl std::fmt::Display for Unable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoHalf => f.write_str("no GPU runs it"),
            Self::Because(why) | Self::Inexact(why) => f.write_str(why),
            Self::NoF64 => f.write_str("it has no f64; f32 would do"),
            Self::NoI64 => f.write_str("it has no integers of 64 bits; those of 32 bits would do"),
            Self::Bindings { bound, most } => write!(f, "{bound} buffers are bound, and its shaders see at most {most}"),
            Self::Workgroups => f.write_str("its workgroups are too small"),
            Self::Unfit => f.write_str("it cannot run it, as a warning has said"),
            Self::TooLarge { bytes, most } => {
                let (bytes, most) = (Bytes(*bytes), Bytes(*most));
                write!(f, "a chunk has {bytes}, and its shaders see at most {most}; smaller chunks would do")
            }
            Self::Full { bytes, most } => {
                let (bytes, most) = (Bytes(*bytes), Bytes(*most));
                write!(f, "a task takes {bytes} of its memory, of which it may use {most}; smaller chunks would do")
            }
        }
    }
}

impl std::fmt::Display for CannotRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kernel, self.why)
    }
}

/// What is said of work of which a strict session lets nothing run on a GPU.
pub(super) const STRICT: &str =
    "this session is strict, and nothing of this work has the CPU's bits on a GPU, so the CPU does all of it";
/// What is said of work of which nothing runs on a GPU.
pub(super) const NOTHING: &str = "nothing of this work can run on a GPU, so the CPU does all of it";

/// What is said of work of which nothing runs on a GPU, and nothing would on another.
fn nothing(cannot: &[CannotRun]) -> Option<&'static str> {
    let is_strict = cannot.iter().any(|one| matches!(one.why, Unable::Inexact(_)));
    let lacks = cannot.iter().any(|one| one.why.is_lack());
    (!lacks).then_some(if is_strict { STRICT } else { NOTHING })
}

/// In one line, why a GPU does not run some of the work, or any of it (`none`); `None` if there is nothing to say, because no GPU would.
pub(super) fn in_short(cannot: &[CannotRun], none: bool) -> Option<String> {
    if none && let Some(why) = nothing(cannot) {
        return Some(why.to_owned());
    }
    let lacks: Vec<String> = cannot.iter().filter(|one| one.why.is_lack()).map(ToString::to_string).collect();
    (!lacks.is_empty()).then(|| lacks.join("; "))
}

/// In lines, all that a GPU of this name does not run, and why.
pub(super) fn in_full(name: &str, cannot: &[CannotRun], none: bool) -> Vec<String> {
    let mut lines = Vec::new();
    match nothing(cannot) {
        Some(why) if none => lines.push(format!("{name}: {why}")),
        _ if cannot.is_empty() => {}
        _ => lines.push(format!("{name} does not run:")),
    }
    let wide = cannot.iter().map(|one| one.kernel.chars().count()).max().unwrap_or(0);
    lines.extend(cannot.iter().map(|CannotRun { kernel, why, tasks }| {
        let plural = if *tasks == 1 { "" } else { "s" };
        format!("  {kernel:<wide$}  {tasks} task{plural}: {why}")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::map::table::{Gives, TABLE};
    use crate::kernel::map::{Builder, Elementwise, Value};

    /// Each operation on each dtype, and its operands' dtypes.
    fn all() -> impl Iterator<Item = (Elementwise, String, Vec<DType>)> {
        let rows = TABLE.iter().filter(|row| row.gives != Gives::Said);
        let each =
            rows.flat_map(|row| DType::ALL.iter().filter(|&&dtype| row.domain.has(dtype)).map(move |&dtype| (row, dtype)));
        each.map(|(row, dtype)| {
            let mut b = Builder::new();
            let args: Vec<Value> = (0..row.arity).map(|_| b.input(dtype)).collect();
            let made = b.apply(row.op, &args);
            let program = b.finish(made).0;
            let dtypes = [vec![dtype; row.arity], vec![program.dtype()]].concat();
            (Elementwise::new(Arc::new(program)), format!("{} of {dtype} does not run on a GPU", row.name), dtypes)
        })
    }

    #[test]
    fn an_operation_that_does_not_run_on_a_gpu_is_named() {
        let narrow = GpuFacts { f64: false, i64: false, ..GpuFacts::ANY };
        let (mut lacks, mut missing) = (0, 0);
        for (kernel, text, dtypes) in all() {
            let metas: Vec<ChunkMeta<'_>> = dtypes.iter().map(|&dtype| ChunkMeta::new(dtype, &[8])).collect();
            if kernel.program(&[], &metas, &narrow).is_some() {
                continue;
            }
            match Unable::of(&kernel, &[], &metas, &narrow) {
                Unable::Because(why) => {
                    assert_eq!(why, text);
                    missing += 1;
                }
                Unable::NoF64 | Unable::NoI64 => lacks += 1,
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(lacks > 20, "{lacks}, and {missing} that no GPU has");
    }

    #[test]
    fn what_is_too_much_is_told_in_numbers() {
        let is_add = |kernel: &Elementwise, dtypes: &[DType]| kernel.name() == "add" && dtypes[0] == DType::F32;
        let add = all().find(|(kernel, _, dtypes)| is_add(kernel, dtypes)).map(|found| found.0).unwrap();
        let why = |shape: &[usize], facts: &GpuFacts| Unable::of(&add, &[], &[ChunkMeta::new(DType::F32, shape); 3], facts);
        let small = GpuFacts { binding_bytes: 4096, ..GpuFacts::ANY };
        assert_eq!(why(&[2000], &small), Unable::TooLarge { bytes: 8000, most: 4096 });
        assert_eq!(why(&[8], &GpuFacts { bindings: 2, ..GpuFacts::ANY }), Unable::Bindings { bound: 3, most: 2 });
        assert_eq!(why(&[0], &GpuFacts::ANY), Unable::Because("a chunk of it is empty".into()));
        assert!(matches!(why(&[1 << 30], &GpuFacts::ANY), Unable::TooLarge { .. }), "of any GPU");
    }

    #[test]
    fn people_can_read_it() {
        let one = |kernel: &str, why, tasks| CannotRun { kernel: kernel.into(), why, tasks };
        let both = [one("gemv", Unable::NoF64, 1), one("sum of parts", Unable::NoHalf, 12)];
        let lines = [
            "gpu0 does not run:",
            "  gemv          1 task: it has no f64; f32 would do",
            "  sum of parts  12 tasks: no GPU runs it",
        ];
        assert_eq!(in_full("gpu0", &both, false), lines);
        assert_eq!(in_short(&both, true).as_deref(), Some("gemv: it has no f64; f32 would do"));
        let none = &both[1..];
        assert_eq!(in_full("gpu0", none, true)[0], format!("gpu0: {NOTHING}"));
        assert_eq!((in_short(none, true).as_deref(), in_short(none, false)), (Some(NOTHING), None));
        let strict = [CannotRun { kernel: "sum".into(), why: Unable::Inexact("not the CPU's bits".into()), tasks: 3 }];
        assert_eq!((in_short(&strict, true).as_deref(), in_short(&strict, false)), (Some(STRICT), None));
        assert_eq!(in_full("gpu0", &strict, true), [format!("gpu0: {STRICT}"), "  sum  3 tasks: not the CPU's bits".into()]);
        assert!(in_full("gpu0", &[], false).is_empty());
    }
}
