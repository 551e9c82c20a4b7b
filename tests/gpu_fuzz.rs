//! Random programs: each is valid in every language, and gives on a GPU what it gives on the CPU.
//!
//! Owns: what is drawn. Must not know: generated text. Invariant: a seed makes one program, whatever runs beside it; `FUZZ=first..last` tries others than those of CI.
//!
//! Operations that are exact follow each other as they come, and are compared to the bit. One that is not stands last, and is compared by its bound: behind it, bounds of
//! programs would have to be proved one by one. A GPU may take 0 for what is subnormal, and the sign of NaN is nobody's: elements on whose way one of these
//! is met are left out, as the program itself tells.
#![cfg(feature = "gpu")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chunkwise::DType;
use chunkwise::kernel::map::table::{Domain, Gives, OnGpu, Row, TABLE};
use chunkwise::kernel::map::{Builder, Elementwise, Instr, ScalarOp, ScalarProgram, Value};
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::kernel::{Kernel, Shader};
use chunkwise::shape::View;
use support::bytes::{Bytes, Random, Seen, alike, chunk, metas, on_cpu, on_gpu, views};
use support::lab::{ANY, Lab};
use support::watched::Watched;
use support::wgsl::{spirv_val, translated};

support::gpus!();

/// What is drawn.
struct Draw(Random);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        (self.0.next() >> 13) as usize % n
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Mostly what most programs compute with.
const DTYPES: [DType; 24] = [
    DType::F32,
    DType::F32,
    DType::F32,
    DType::F32,
    DType::F64,
    DType::F64,
    DType::F64,
    DType::I32,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
    DType::Bool,
    DType::Bool,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::F16,
    DType::BF16,
    DType::C64,
    DType::C128,
    DType::F32,
    DType::I32,
];

/// A program being drawn.
struct Growing<'a> {
    draw: &'a mut Draw,
    b: Builder,
    all: Vec<Value>,
}

impl Growing<'_> {
    /// A value that there is, later ones rather.
    fn any(&mut self) -> Value {
        let n = self.all.len();
        let at = self.draw.below(n).max(self.draw.below(n));
        self.all[at]
    }

    /// A value of a dtype: one that there is, a constant, or a cast.
    fn of(&mut self, dtype: DType) -> Value {
        if self.draw.chance(20) {
            return self.b.constant(chunk(dtype, &[1], self.draw.0.next()).scalar(0));
        }
        let same: Vec<Value> = self.all.iter().copied().filter(|&value| self.b.dtype(value) == dtype).collect();
        if !same.is_empty() && self.draw.chance(80) {
            return self.draw.one_of(&same);
        }
        let value = self.any();
        self.b.cast(value, dtype)
    }

    /// One more operation: of these rows, or one on complex numbers.
    fn grow(&mut self, rows: &[&Row]) {
        use ScalarOp::{Add, Compose, Div, Eq, Im, Mul, Ne, Neg, Re, Sub, Where};
        let first = self.any();
        let dtype = self.b.dtype(first);
        let made = if self.draw.chance(12) {
            let to = self.draw.one_of(&DTYPES);
            self.b.cast(first, to)
        } else if self.draw.chance(10) {
            let (which, other) = (self.of(DType::Bool), self.of(dtype));
            self.b.apply(Where, &[which, first, other])
        } else if dtype.is_complex() {
            match self.draw.one_of(&[Add, Sub, Mul, Div, Neg, Eq, Ne, Re, Im]) {
                op @ (Neg | Re | Im) => self.b.apply(op, &[first]),
                op => {
                    let other = self.of(dtype);
                    self.b.apply(op, &[first, other])
                }
            }
        } else if dtype.is_float() && self.draw.chance(5) {
            let other = self.of(dtype);
            self.b.apply(Compose, &[first, other])
        } else {
            let fitting: Vec<&Row> = rows.iter().copied().filter(|row| row.domain.has(dtype)).collect();
            if fitting.is_empty() {
                return; // of halves there are casts only
            }
            let row = self.draw.one_of(&fitting);
            let others: Vec<Value> = (1..row.arity).map(|_| self.of(dtype)).collect();
            self.b.apply(row.op, &[vec![first], others].concat())
        };
        self.all.push(made);
    }
}

fn rows(exact: bool) -> Vec<&'static Row> {
    let is_of = |row: &&Row| row.gives != Gives::Said && (row.gpu == OnGpu::Exact) == exact;
    TABLE.iter().filter(is_of).collect()
}

/// A program of about so many operations, and how far its results may be apart.
fn program(draw: &mut Draw, operations: usize) -> (ScalarProgram, f64) {
    let inputs = 1 + draw.below(5);
    let mut b = Builder::new();
    let all = (0..inputs).map(|_| b.input(draw.one_of(&DTYPES))).collect();
    let mut growing = Growing { draw, b, all };
    let exact = rows(true);
    (0..operations).for_each(|_| growing.grow(&exact));
    let mut ulps = 0.0;
    if growing.draw.chance(30) {
        let dtype = growing.draw.one_of(&[DType::F32, DType::F32, DType::F64]);
        let row = growing.draw.one_of(&rows(false));
        let args: Vec<Value> = (0..row.arity).map(|_| growing.of(dtype)).collect();
        let made = growing.b.apply(row.op, &args);
        growing.all.push(made);
        if let OnGpu::Ulps(single, double) = row.gpu {
            ulps = (row.ulps + if dtype == DType::F64 { double } else { single }).ceil();
        }
    }
    let mut last = growing.all[growing.all.len() - 1];
    if ulps == 0.0 && growing.draw.chance(25) {
        // What reductions read.
        let to = growing.draw.one_of(&[DType::F32, DType::F64, DType::I64, DType::U64]);
        last = growing.b.cast(last, to);
    }
    (growing.b.finish(last).0, ulps)
}

/// The program that says of which elements nothing is promised: something subnormal is met on their way, or the sign of NaN.
fn unpromised(program: &ScalarProgram) -> ScalarProgram {
    use ScalarOp::{Abs, And, Copysign, IsNan, Lt, Ne, Or};
    let mut b = Builder::new();
    let mut none = b.constant(false);
    let mut values: Vec<Value> = Vec::new();
    let inputs: Vec<Value> = program.inputs().iter().map(|&dtype| b.input(dtype)).collect();
    for instr in program.code() {
        let of = |value: &Value| values[value.index()];
        let made = match instr {
            Instr::Input(number) => inputs[*number as usize],
            Instr::Const(scalar) => b.constant(*scalar),
            Instr::Op(ScalarOp::Cast, to, _) => b.cast(of(&instr.args()[0]), *to),
            Instr::Op(op, ..) => {
                let args: Vec<Value> = instr.args().iter().map(of).collect();
                if *op == Copysign {
                    let nan = b.apply(IsNan, &[args[1]]);
                    none = b.apply(Or, &[none, nan]);
                }
                b.apply(*op, &args)
            }
        };
        let parts = if b.dtype(made).is_complex() { b.parts(made).to_vec() } else { vec![made] };
        for part in parts {
            let (part, least) = match b.dtype(part) {
                DType::F64 => (part, b.constant(f64::MIN_POSITIVE)),
                DType::F32 => (part, b.constant(f32::MIN_POSITIVE)),
                DType::BF16 => (b.cast(part, DType::F32), b.constant(f32::MIN_POSITIVE)),
                _ => continue,
            };
            let zero = b.constant(b.dtype(part).zero());
            let size = b.apply(Abs, &[part]);
            let (low, some) = (b.apply(Lt, &[size, least]), b.apply(Ne, &[part, zero]));
            let tiny = b.apply(And, &[low, some]);
            none = b.apply(Or, &[none, tiny]);
        }
        values.push(made);
    }
    // All inputs are to stay inputs, in their order.
    for input in inputs {
        let any = b.cast(input, DType::Bool);
        let never = b.constant(false);
        let never = b.apply(And, &[any, never]);
        none = b.apply(Or, &[none, never]);
    }
    b.finish(none).0
}

/// A shape, and how many ways of seeing chunks there are in which they have it.
fn seen(draw: &mut Draw, dtype: DType, shape: &[usize]) -> Seen {
    let seed = draw.0.next();
    if let &[m, n] = shape {
        let (_, held, view) = draw_from(draw, views(m, n));
        return Seen { chunk: chunk(dtype, &held, seed), view };
    }
    let rank = shape.len();
    let mut order: Vec<usize> = (0..rank).collect();
    if draw.chance(50) {
        order.rotate_left(1);
    }
    let held: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let mut back = vec![0; rank];
    order.iter().enumerate().for_each(|(at, &axis)| back[axis] = at);
    let view = View::whole(&held).permute(&back).expect("an order of axes");
    Seen { chunk: chunk(dtype, &held, seed), view }
}

fn draw_from<T>(draw: &mut Draw, mut all: Vec<T>) -> T {
    let at = draw.below(all.len());
    all.swap_remove(at)
}

fn shape(draw: &mut Draw) -> Vec<usize> {
    let extents: &[usize] = draw.one_of(&[&[1000, 1023, 37, 4, 1][..], &[8, 33, 12, 5, 1], &[4, 7, 8, 3], &[4, 3, 5]]);
    let rank = match extents.len() {
        5 if extents[0] == 1000 => 1,
        5 => 2,
        4 => 3,
        _ => 4,
    };
    (0..rank).map(|_| draw.one_of(extents)).collect()
}

/// How often something was done.
#[derive(Default)]
struct Tried {
    compared: AtomicUsize,
    reduced: AtomicUsize,
    left_out: AtomicUsize,
    elements: AtomicUsize,
    validated: AtomicUsize,
}

/// The reductions whose results do not depend on an order, of elements of a dtype.
fn reductions(dtype: DType) -> Vec<Reduction> {
    use Reduction::{ArgMax, ArgMin, FMax, FMin, Max, Min, Prod, Sum};
    let all = [Min, Max, ArgMin, ArgMax, FMin, FMax, Sum, Prod];
    let is_for = |what: &Reduction| match what {
        Sum | Prod => dtype.is_integer(),
        FMin | FMax => dtype.is_float(),
        _ => dtype == DType::Bool || dtype.is_integer() || dtype.is_float(),
    };
    all.into_iter().filter(|what| is_for(what) && what.reads(dtype) == dtype).collect()
}

/// A kernel that has a program drawn for it, and its output.
struct Trial {
    kernel: Arc<dyn Kernel>,
    params: Vec<u8>,
    dtype: DType,
    extents: Vec<usize>,
    reduces: bool,
    /// Whether elements are floats as words.
    has_words: bool,
}

impl Trial {
    /// The program itself.
    fn map(program: &Arc<ScalarProgram>, shape: &[usize]) -> Self {
        let kernel = Arc::new(Elementwise::new(program.clone()));
        Self { kernel, params: Vec::new(), dtype: program.dtype(), extents: shape.to_vec(), reduces: false, has_words: false }
    }

    /// A reduction of what the program makes, along some axes.
    fn reduction(draw: &mut Draw, what: Reduction, program: &Arc<ScalarProgram>, shape: &[usize]) -> Self {
        let mut axes: Vec<usize> = (0..shape.len()).filter(|_| draw.chance(60)).collect();
        if axes.is_empty() {
            axes.push(shape.len() - 1);
        }
        let extents: Vec<usize> = axes.iter().map(|&axis| shape[axis]).collect();
        let (dtype, words) = what.partial(program.dtype());
        let kept = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]);
        // The chunk is the whole: it begins at 0 along each axis.
        let params = if what.is_numbered() { vec![0; 8 * axes.len()] } else { Vec::new() };
        let kernel = Arc::new(ReduceChunk::new(what, (&axes, &extents), program.clone()));
        let has_words = what.is_numbered() && program.dtype().is_float();
        Self { kernel, params, dtype, extents: [words].into_iter().chain(kept).collect(), reduces: true, has_words }
    }

    fn out(&self) -> (DType, &[usize]) {
        (self.dtype, &self.extents)
    }

    /// Errs unless its GPU half is valid everywhere.
    fn check(&self, inputs: &[Seen], tried: &Tried) -> Result<Arc<Shader>, String> {
        let lies: Vec<_> = inputs.iter().map(Seen::lies).collect();
        let made = self.kernel.program(&self.params, &metas(&lies, self.out()), &ANY).ok_or("it has no GPU half")?;
        let words = translated(&made.shader.wgsl(made.real))?;
        if let Some(said) = spirv_val(&words) {
            said?;
            tried.validated.fetch_add(1, Ordering::Relaxed);
        }
        Ok(made.shader)
    }

    /// Whether two elements are the same; where they are words of floats, whichever NaN they are.
    fn are_alike(&self, found: &[u8], wanted: &[u8], ulps: f64) -> bool {
        let is_nan = |word: &[u8]| word.try_into().is_ok_and(|word| f64::from_bits(u64::from_ne_bytes(word)).is_nan());
        alike(self.dtype, found, wanted, ulps) || self.has_words && is_nan(found) && is_nan(wanted)
    }
}

/// Tries the program of a seed.
fn attempt(lab: &Lab, seed: u64, tried: &Tried) -> Result<(), String> {
    let draw = &mut Draw(Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    (0..4).for_each(|_| _ = draw.0.next());
    let operations = if draw.chance(5) { 60 + draw.below(100) } else { 1 + draw.below(24) };
    let (program, ulps) = program(draw, operations);
    if program.inputs().is_empty() {
        return Ok(()); // the same everywhere: no GPU is asked
    }
    let shape = shape(draw);
    let inputs: Vec<Seen> = program.inputs().iter().map(|&dtype| seen(draw, dtype, &shape)).collect();
    let left_out = Elementwise::new(Arc::new(unpromised(&program)));
    let left_out = on_cpu((&left_out, &[]), &inputs, (DType::Bool, &shape));
    let is_left_out = |i: usize| left_out.element(i) == [1];
    let program = Arc::new(program);
    let possible = reductions(program.dtype());
    let trial = if ulps == 0.0 && !possible.is_empty() && draw.chance(40) {
        let what = draw.one_of(&possible);
        Trial::reduction(draw, what, &program, &shape)
    } else {
        Trial::map(&program, &shape)
    };
    let made = trial.check(&inputs, tried)?;
    // The table of digits of pi is local, which nobody watches.
    let is_watched = draw.chance(10) && !made.wgsl(DType::F32).contains("d_two_over_pi");
    let kernel: Arc<dyn Kernel> =
        if is_watched { Arc::new(Watched::kernel(trial.kernel.clone())) } else { trial.kernel.clone() };
    let found = on_gpu(lab, (&kernel, &trial.params), &inputs, trial.out()).map_err(|e| format!("{e:?}"))?;
    let wanted = on_cpu((&*trial.kernel, &trial.params), &inputs, trial.out());
    let met = (0..left_out.len()).filter(|&i| is_left_out(i)).count();
    tried.elements.fetch_add(left_out.len(), Ordering::Relaxed);
    tried.left_out.fetch_add(met, Ordering::Relaxed);
    if trial.reduces && met > 0 {
        return Ok(());
    }
    tried.compared.fetch_add(1, Ordering::Relaxed);
    tried.reduced.fetch_add(usize::from(trial.reduces), Ordering::Relaxed);
    let differs =
        |&i: &usize| !(!trial.reduces && is_left_out(i) || trial.are_alike(found.element(i), wanted.element(i), ulps));
    let bad: Vec<usize> = (0..wanted.len()).filter(differs).collect();
    let Some(&i) = bad.first() else { return Ok(()) };
    let (found, right) = (found.element(i), wanted.element(i));
    let (name, text) = (trial.kernel.name(), program.text());
    Err(format!(
        "{name}: {} of {} differ, first {i}: {found:02x?}, not {right:02x?}, of {shape:?}: {text}",
        bad.len(),
        wanted.len()
    ))
}

fn run(seeds: Range<u64>) {
    let Some(gpu) = gpu() else { return };
    let lab = Lab { gpu };
    let tried = Tried::default();
    let count = seeds.end - seeds.start;
    let wrong: Vec<String> =
        seeds.filter_map(|seed| attempt(&lab, seed, &tried).err().map(|e| format!("seed {seed}: {e}"))).collect();
    let [compared, reduced, left_out, elements, validated] =
        [&tried.compared, &tried.reduced, &tried.left_out, &tried.elements, &tried.validated]
            .map(|n| n.load(Ordering::Relaxed));
    println!("{count} seeds: {compared} compared, of these {reduced} reductions; {left_out} of {elements} elements left out");
    println!("{validated} seen by spirv-val");
    assert!(wrong.is_empty(), "{} of {count}, first {}", wrong.len(), wrong[..wrong.len().min(4)].join("\n"));
    // What is left out must not be most of it.
    assert!(
        compared as u64 >= count * 8 / 10 && left_out * 5 < elements && reduced > 0,
        "{compared}, {left_out} of {elements}"
    );
}

/// A fourth of the seeds that are asked for: of a thousand, unless `FUZZ` says `first..last`.
fn quarter(number: u64) {
    let asked = std::env::var("FUZZ").ok();
    let (first, last) = match asked.as_deref().and_then(|text| text.split_once("..")) {
        Some((first, last)) => (first.parse().expect("a number"), last.parse().expect("a number")),
        None => (0, 1000),
    };
    let part = |k: u64| first + (last - first) * k / 4;
    run(part(number)..part(number + 1));
}

#[test]
fn random_programs_are_valid_and_give_the_cpus_elements() {
    quarter(0);
}

#[test]
fn more_random_programs_do() {
    quarter(1);
}

#[test]
fn and_more() {
    quarter(2);
}

#[test]
fn and_the_rest() {
    quarter(3);
}

/// What finds mistakes must be able to: a program that is another one on the CPU is told.
#[test]
fn a_difference_is_found() {
    let Some(gpu) = gpu() else { return };
    let lab = Lab { gpu };
    let one = |op: ScalarOp| {
        let mut b = Builder::new();
        let (x, y) = (b.input(DType::I32), b.input(DType::I32));
        let made = b.apply(op, &[x, y]);
        Arc::new(Elementwise::new(Arc::new(b.finish(made).0)))
    };
    let (add, or): (Arc<dyn Kernel>, Arc<dyn Kernel>) = (one(ScalarOp::Add), one(ScalarOp::Or));
    let inputs = [1, 2].map(|seed| Seen::whole(chunk(DType::I32, &[100], seed)));
    let found = on_gpu(&lab, (&add, &[]), &inputs, (DType::I32, &[100])).expect("it runs");
    let wanted = on_cpu((&*or, &[]), &inputs, (DType::I32, &[100]));
    assert!((0..100).any(|i| !alike(DType::I32, found.element(i), wanted.element(i), 0.0)));
    // And what is subnormal is seen to be.
    let mut b = Builder::new();
    let (x, small) = (b.input(DType::F32), b.constant(1e-39f32));
    let made = b.apply(ScalarOp::Mul, &[x, small]);
    let program = b.finish(made).0;
    assert!(unpromised(&program).inputs().len() == 1 && Domain::Floats.has(program.dtype()));
    let of = Bytes::new(DType::F32, &[2], |i| [1e20f32, 1.0][i].to_ne_bytes().into());
    let kernel = Elementwise::new(Arc::new(unpromised(&program)));
    let told = on_cpu((&kernel, &[]), &[Seen::whole(of)], (DType::Bool, &[2]));
    assert_eq!(told.bytes(), [1, 1], "the constant is");
}

/// As long as programs become.
#[test]
fn a_program_of_five_hundred_operations_compiles() {
    let Some(gpu) = gpu() else { return };
    let lab = Lab { gpu };
    for seed in [5] {
        let draw = &mut Draw(Random(seed));
        let mut b = Builder::new();
        let all = [DType::F32, DType::F32, DType::I32, DType::Bool].map(|dtype| b.input(dtype)).to_vec();
        let mut growing = Growing { draw, b, all };
        let exact: Vec<&Row> = rows(true).into_iter().filter(|row| row.op != ScalarOp::Copysign).collect();
        // Each takes what the one before has made.
        let mut last = growing.all[0];
        let mut taken = 0;
        while taken < 500 {
            let fitting: Vec<&Row> = exact.iter().copied().filter(|row| row.domain.has(growing.b.dtype(last))).collect();
            let row = growing.draw.one_of(&fitting);
            let others: Vec<Value> = (1..row.arity).map(|_| growing.of(growing.b.dtype(last))).collect();
            let made = growing.b.apply(row.op, &[vec![last], others].concat());
            last = if growing.b.dtype(made) == DType::Bool { growing.b.cast(made, DType::F32) } else { made };
            growing.all.push(last);
            taken += 1;
        }
        let program = growing.b.finish(last).0;
        let operations = program.ops().count();
        assert!(operations > 300, "{operations}");
        let inputs: Vec<Seen> =
            program.inputs().iter().enumerate().map(|(at, &dtype)| Seen::whole(chunk(dtype, &[500], 3 + at as u64))).collect();
        let left_out = on_cpu((&Elementwise::new(Arc::new(unpromised(&program))), &[]), &inputs, (DType::Bool, &[500]));
        let out = (program.dtype(), &[500][..]);
        let kernel: Arc<dyn Kernel> = Arc::new(Elementwise::new(Arc::new(program)));
        let found = on_gpu(&lab, (&kernel, &[]), &inputs, out).expect("it compiles");
        let wanted = on_cpu((&*kernel, &[]), &inputs, out);
        let differs = |&i: &usize| left_out.element(i) == [0] && !alike(out.0, found.element(i), wanted.element(i), 0.0);
        assert_eq!((0..500).find(differs), None, "seed {seed}");
    }
}
