//! The elementary functions of f64 in WGSL (`shaders/math_f64*.wgsl`) against exact values (`data/math.json`) and against the CPU's own.
//!
//! Owns: the bound of each function, the arguments that are tried, how results are told apart. Must not know: how a function is computed. Invariant:
//! each function is also run with a slip in its text, which is found. `EXHAUSTIVE=1` tries a million arguments of each instead of 2^16.
#![cfg(feature = "gpu")]

use std::borrow::Cow;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_PI_2, FRAC_PI_4, PI, SQRT_2, TAU};
use std::sync::Arc;

use chunkwise::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};
use chunkwise::{Array, prelude::*};
use support::contracted::contracted;
use support::gpu::session;
use support::lab::{Case, Chunk, Lab};
use support::wgsl::{item, needed};

support::gpus!();

/// The functions, in three files.
const TEXT: &str = concat!(
    include_str!("../shaders/math_f64.wgsl"),
    include_str!("../shaders/math_f64_angles.wgsl"),
    include_str!("../shaders/math_f64_powers.wgsl")
);
const GOLDEN: &str = include_str!("data/math.json");

/// What a generated module puts before the functions, and a kernel around one.
const BEFORE: &str = "
struct Params { first: u32, groups: u32, begin: u32, end: u32, n: u32, zero: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<vec4<f64>>;
@group(0) @binding(2) var<storage, read> right: array<vec4<f64>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f64>>;
alias F4 = vec4<f32>; alias U4 = vec4<u32>; alias I4 = vec4<i32>; alias B4 = vec4<bool>;
alias D4 = vec4<f64>; alias M4 = vec4<u64>; alias L4 = vec4<i64>;
fn opaque_d(x: D4) -> D4 { return bitcast<D4>(bitcast<M4>(x) ^ M4(u64(p.zero))); }
@compute @workgroup_size(64)
fn apply(
    @builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    let i = (p.first + folded) * 64u + t;
    if (folded >= p.groups || i >= p.n) { return; }
    let a = left[i];
    let b = right[i];
    result[i] = CALL;
}
";

chunkwise::shader_params!(
    /// Vectors of four, and 0, which no compiler knows.
    struct Size { n, zero }
);

/// A kernel that calls one function.
struct Applied {
    name: String,
    shader: Arc<Shader>,
}

impl Applied {
    fn new(row: &Row, text: &str) -> Self {
        let call = if row.is_of_two() { format!("{}(a, b)", row.name) } else { format!("{}(a)", row.name) };
        let shader = Shader::new(row.name, BEFORE.replace("CALL", &call) + &needed(text, row.name));
        let shader = shader.with_params(Size::FIELDS).with_operands(2, 1).with_workgroup(64, [0, 0]);
        Self { name: format!("test::{} {:x}", row.name, shader.content()), shader: shader.into() }
    }
}

impl Kernel for Applied {
    fn name(&self) -> Cow<'static, str> {
        self.name.clone().into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 200.0)
    }

    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let n = operands[0].shape.iter().product::<usize>() / 4;
        let pass = Pass::new("apply", n.div_ceil(64) as u64, 0);
        let size = Size { n: n as u32, zero: 0 };
        Program::new(&self.shader, DType::F64, &size.words(), vec![pass], self.work(bytes, operands)).fitting(gpu, operands)
    }

    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        Err(Fault::Because("it is for GPUs".into()))
    }
}

/// The CPU's function, as users call it.
#[derive(Clone, Copy)]
enum Own {
    One(fn(&Array<f64>) -> Array<f64>),
    Two(fn(&Array<f64>, &Array<f64>) -> Array<f64>),
}

/// A function.
struct Row {
    name: &'static str,
    /// Greatest errors, in ulp: of the CPU's, and of this one.
    ulps: [f64; 2],
    own: Own,
    /// Where it is interesting: least and greatest magnitude.
    range: (f64, f64),
    /// Around these, arguments are tried one by one.
    points: &'static [f64],
    /// A piece of the text, and what must not stand there.
    slip: (&'static str, &'static str),
}

use Own::{One, Two};

#[rustfmt::skip] // a table
const ROWS: &[Row] = &[
    Row { name: "d_exp", ulps: [0.8, 0.8], own: One(Array::<f64>::exp), range: (1e-3, 750.0), points: &[709.782712893384, -708.3964185322641, -745.1332191019411, 0.34657359027997264], slip: ("0.0416666666666667lf", "0.0416666666666767lf") },
    Row { name: "d_exp2", ulps: [0.8, 0.8], own: One(Array::exp2), range: (1e-3, 1080.0), points: &[1024.0, -1022.0, -1074.0, -1075.0, 0.5], slip: ("1.2996506893889889e-08", "1.2996506983889889e-08") },
    Row { name: "d_expm1", ulps: [0.85, 1.1], own: One(Array::expm1), range: (1e-6, 720.0), points: &[709.782712893384, -37.0, -40.0, 5e-17, 0.34657359027997264], slip: ("+ a[2])", "- a[2])") },
    Row { name: "d_log", ulps: [0.85, 1.0], own: One(Array::log), range: (0.5, 2.0), points: &[SQRT_2, FRAC_1_SQRT_2, 2.2250738585072014e-308], slip: ("0.3999999999941434", "0.3999999998941434") },
    Row { name: "d_log2", ulps: [0.7, 0.85], own: One(Array::log2), range: (0.5, 2.0), points: &[SQRT_2, 4.0, 1024.0], slip: ("1.9259629911266175e-08", "1.9259639911266175e-08") },
    Row { name: "d_log10", ulps: [0.7, 0.8], own: One(Array::log10), range: (0.5, 2.0), points: &[SQRT_2, 10.0, 1000.0], slip: ("4.798111141615973e-09", "4.798121141615973e-09") },
    Row { name: "d_log1p", ulps: [0.85, 0.8], own: One(Array::log1p), range: (1e-9, 10.0), points: &[-1.0, -0.9999999, 0.41421356237309503, -0.29289321881345254, 5e-17], slip: ("d_over(lost, u)", "0.0lf * u") },
    Row { name: "d_sin", ulps: [0.8, 0.9], own: One(Array::sin), range: (1e-3, 1e6), points: TURNS, slip: ("3.2820031633724233e-22", "3.2821031633724233e-22") },
    Row { name: "d_cos", ulps: [0.8, 0.9], own: One(Array::cos), range: (1e-3, 1e6), points: TURNS, slip: ("0x9c845f8bbdf9283blu", "0x9c845f8bbdf9284blu") },
    Row { name: "d_tan", ulps: [1.0, 1.2], own: One(Array::tan), range: (1e-3, 1e6), points: TURNS, slip: ("- d_residual(y, m, n)", "+ d_residual(y, m, n)") },
    Row { name: "d_asin", ulps: [0.65, 0.7], own: One(Array::asin), range: (1e-9, 1.0), points: &[0.5, 1.0], slip: ("-0.5lf * d_residual", "0.5lf * d_residual") },
    Row { name: "d_acos", ulps: [0.65, 0.7], own: One(Array::acos), range: (1e-9, 1.0), points: &[0.5, 1.0], slip: ("3.061616997868383e-17", "3.061616997868383e-16") },
    Row { name: "d_atan", ulps: [0.65, 0.7], own: One(Array::atan), range: (1e-9, 1e3), points: &[0.41421356237309503, 2.414213562373095, 1.0, 1152921504606846976.0], slip: ("0.19999999999954043", "0.19999999899954043") },
    Row { name: "d_atan2", ulps: [0.8, 0.85], own: Two(|a, b| a.atan2(b)), range: (1e-9, 1e9), points: &[1.0, 3.273390607896142e150], slip: ("- d_residual(t, m, n)", "+ d_residual(t, m, n)") },
    Row { name: "d_sinh", ulps: [0.8, 0.85], own: One(Array::sinh), range: (1e-3, 720.0), points: &[1.0, 40.0, 710.4758600739439], slip: ("+ lost)", "- 4.0lf * lost)") },
    Row { name: "d_cosh", ulps: [0.8, 0.9], own: One(Array::cosh), range: (1e-3, 720.0), points: &[1.0, 40.0, 710.4758600739439], slip: ("- L4(1li)", "- L4(2li)") },
    Row { name: "d_tanh", ulps: [1.2, 1.5], own: One(Array::tanh), range: (1e-3, 22.0), points: &[1.0, 19.06, 20.0], slip: ("0.024514832903636943", "0.024514832913636943") },
    Row { name: "d_asinh", ulps: [1.1, 1.2], own: One(Array::asinh), range: (1e-9, 1e3), points: &[1e150, 5e-9], slip: ("d_rest(c, q, w)", "-d_rest(c, q, w)") },
    Row { name: "d_acosh", ulps: [1.4, 1.7], own: One(Array::acosh), range: (1.0, 1e3), points: &[1.0, 1e150], slip: ("c * c + 2.0lf * c", "c * c + 2.0000000000001lf * c") },
    Row { name: "d_atanh", ulps: [0.8, 0.8], own: One(Array::atanh), range: (1e-9, 1.0), points: &[1.0, 5e-9], slip: ("-d_residual(w, d, n)", "d_residual(w, d, n)") },
    Row { name: "d_erf", ulps: [1.2, 1.4], own: One(Array::erf), range: (1e-3, 6.5), points: &[1.0, 6.0], slip: ("0.02549556957252075", "0.02549556967252075") },
    Row { name: "d_hypot", ulps: [0.8, 0.8], own: Two(|a, b| a.hypot(b)), range: (1e-9, 1e9), points: &[1e150, 1e-120, 1.2711610061536462e308], slip: ("d_over(D4(0.5lf), h)", "d_over(D4(1.5lf), h)") },
    Row { name: "d_powf", ulps: [0.8, 0.8], own: Two(|a, b| a.powf(b)), range: (1e-3, 1e3), points: &[1.0, 2.0, 4503599627370497.0, 9007199254740993.0, -1.0, 3.0], slip: ("1.850371707708594e-17", "1.850371707708594e-16") },
    Row { name: "d_cbrt", ulps: [0.55, 0.55], own: One(Array::cbrt), range: (1e-3, 1e3), points: &[1.0, 8.0, 27.0], slip: ("c - residual", "c + residual") },
    Row { name: "d_rem", ulps: [0.0; 2], own: Two(|a, b| a % b), range: (1e-3, 1e9), points: &[1.0, 3.0], slip: ("M4(11lu)", "M4(12lu)") },
    Row { name: "d_div_euclid", ulps: [0.0; 2], own: Two(|a, b| a.div_euclid(b)), range: (1e-3, 1e9), points: &[1.0, 3.0], slip: ("whole + 1.0lf", "whole") },
    Row { name: "d_rem_euclid", ulps: [0.0; 2], own: Two(|a, b| a.rem_euclid(b)), range: (1e-3, 1e9), points: &[1.0, 3.0], slip: ("(r + bit", "(r - bit") },
];

/// Multiples of pi/2 and the numbers nearest to one (2^-60 below 2^30), and where the reduction of arguments changes.
const TURNS: &[f64] = &[
    FRAC_PI_4,
    FRAC_PI_2,
    PI,
    3.0 * FRAC_PI_2,
    TAU,
    45.553093477052,
    91.106186954104,
    14461176.67027838,
    1e22,
    5.319372648326541e255,
    1073741824.0,
    1e9,
    355.0,
    103993.0,
    1686629713.0,
    3.725290298461914e-9,
];

impl Row {
    fn is_of_two(&self) -> bool {
        matches!(self.own, Two(_))
    }

    /// What the CPU makes of the arguments.
    fn on_cpu(&self, session: &Session, a: &[f64], b: &[f64]) -> Vec<f64> {
        let array = |values: &[f64]| Array::from(values.to_vec()).in_session(session);
        let result = match self.own {
            One(f) => f(&array(a)),
            Two(f) => f(&array(a), &array(b)),
        };
        result.compute().expect("on the CPU").iter().copied().collect()
    }
}

/// Numbers without a pattern (splitmix64).
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        z ^ (z >> 31)
    }

    /// In 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 * 0.5f64.powi(53)
    }

    fn signed(&mut self, x: f64) -> f64 {
        if self.next() & 1 == 0 { x } else { -x }
    }

    /// A number some last places from `x`.
    fn near(&mut self, x: f64) -> f64 {
        f64::from_bits(x.to_bits().wrapping_add(self.next() % 41).wrapping_sub(20))
    }

    /// An argument: any bits, any exponent that is not extreme, the interesting range by size and by exponent, around points.
    fn argument(&mut self, row: &Row) -> f64 {
        let (least, most) = row.range;
        let x = match self.next() % 6 {
            0 => f64::from_bits(self.next()),
            1 => (self.unit() + 0.5) * 2f64.powi((self.next() % 140) as i32 - 70),
            2 => least + (most - least) * self.unit(),
            3 | 4 => least * (most / least).powf(self.unit()),
            _ => {
                let point = row.points[self.next() as usize % row.points.len()];
                let point = if self.next().is_multiple_of(4) { (1.0 + (self.next() % 64) as f64) * point } else { point };
                self.near(point)
            }
        };
        self.signed(x)
    }

    /// Two arguments; of half of the pairs they have to do with each other.
    fn arguments(&mut self, row: &Row) -> (f64, f64) {
        let (a, b) = (self.argument(row), self.argument(row));
        match self.next() % 6 {
            0 => (a, self.near(a)),
            1 => (a, a * (self.unit() + 0.5) * 2f64.powi((self.next() % 128) as i32 - 64)),
            // Powers that neither overflow nor vanish; quotients that are nearly whole.
            2 if row.name == "d_powf" => (a.abs(), self.signed(745.0) * self.unit() / a.abs().ln()),
            2 => {
                let whole = (self.next() % 1000) as f64;
                (self.near(b * whole), b)
            }
            _ => (a, b),
        }
    }
}

/// What every function is asked for.
const SPECIAL: [f64; 22] = [
    0.0,
    1.0,
    0.5,
    2.0,
    3.0,
    1e-9,
    1e9,
    1e-20,
    1e20,
    1e-160,
    1e160,
    0.9999999999999999,
    1.0000000000000002,
    f64::INFINITY,
    f64::NAN,
    f64::MAX,
    f64::MIN_POSITIVE,
    5e-324,
    1e-310,
    2.225073858507201e-308,
    4503599627370495.5,
    9007199254740991.0,
];

/// All arguments of a function: special ones with each other, those of the golden file, and drawn ones up to a multiple of 4.
fn arguments(row: &Row, golden: &[Golden], least: usize) -> [Vec<f64>; 2] {
    let special = SPECIAL.iter().chain(row.points).flat_map(|&x| [x, -x]);
    let mut pairs: Vec<(f64, f64)> = golden.iter().map(|line| (line.a, line.b)).collect();
    match row.is_of_two() {
        true => pairs.extend(special.clone().flat_map(|a| special.clone().map(move |b| (a, b)))),
        false => pairs.extend(special.map(|a| (a, 0.0))),
    }
    let mut bits = Bits(row.name.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte)));
    let end = (pairs.len() + least).next_multiple_of(4);
    pairs.extend((pairs.len()..end).map(|_| if row.is_of_two() { bits.arguments(row) } else { (bits.argument(row), 0.0) }));
    [pairs.iter().map(|p| p.0).collect(), pairs.iter().map(|p| p.1).collect()]
}

/// A line of the golden file: arguments, result, and how much the exact one is beyond it, in ulp.
struct Golden {
    a: f64,
    b: f64,
    want: f64,
    residual: f64,
}

/// The lines of a function; none of those that are exact anyhow.
fn golden(all: &serde_json::Value, name: &str) -> Vec<Golden> {
    let name = if name == "d_powf" { "pow" } else { &name[2..] };
    let number = |text: &str| f64::from_bits(u64::from_str_radix(text, 16).expect("bits"));
    let parse = |line: &serde_json::Value| {
        let fields: Vec<&str> = line.as_str().expect("text").split(' ').collect();
        let n = fields.len();
        let b = if n == 4 { number(fields[1]) } else { 0.0 };
        Golden { a: number(fields[0]), b, want: number(fields[n - 2]), residual: fields[n - 1].parse().expect("a residual") }
    };
    all["functions"][name].as_array().map(|lines| lines.iter().map(parse).collect()).unwrap_or_default()
}

/// Spacing of doubles at `x`, above a power of two.
fn ulp(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52 & 0x7ff).max(1);
    if exponent > 52 { f64::from_bits((exponent - 52) << 52) } else { f64::from_bits(1 << (exponent - 1)) }
}

/// Error of `got` in ulp where the exact value is `want + residual ulp(want)`; infinite where kind or sign differ. Where the result is subnormal, 0 will do.
fn error(got: f64, want: f64, residual: f64) -> f64 {
    if got.is_nan() || want.is_nan() {
        return if got.is_nan() == want.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if got.to_bits() == want.to_bits() || got == 0.0 && want.abs() < f64::MIN_POSITIVE {
        return residual.abs();
    }
    // The infinities stand behind the greatest numbers, so that who rounds the other way there is one ulp off.
    let finite = |x: f64| if x.is_infinite() { x.signum() * 2f64.powi(1023) } else { x / 2.0 };
    if got.is_sign_negative() != want.is_sign_negative()
        || got.is_infinite() && want.abs() < 1.7e308
        || want.is_infinite() && got.abs() < 1.7e308
    {
        return f64::INFINITY;
    }
    if want.abs() < 1e-300 {
        return ((got - want) / ulp(want) - residual).abs();
    }
    ((finite(got) - finite(want)) / (ulp(want.clamp(-f64::MAX, f64::MAX)) / 2.0) - residual).abs()
}

/// The number that a GPU without subnormal ones sees.
fn flushed(x: f64) -> f64 {
    if x.abs() < f64::MIN_POSITIVE { 0f64.copysign(x) } else { x }
}

/// The greatest errors of a function: against exact values, and against the CPU's.
struct Worst {
    exact: (f64, f64, f64),
    own: (f64, f64, f64),
}

/// Runs a function of this text.
fn measure(lab: &Lab, cpu: &Session, row: &Row, text: &str, lines: &[Golden], least: usize) -> Worst {
    let [a, b] = arguments(row, lines, least);
    let chunk = |values: &[f64]| Chunk { dtype: DType::F64, shape: vec![values.len()], values: values.to_vec() };
    let case = Case::new(Applied::new(row, text), &[0u8; 0], vec![chunk(&a), chunk(&b)], chunk(&a));
    let got = lab.run(&case, 0).unwrap_or_else(|e| panic!("{}: {e:?}", row.name));
    let flush = |values: &[f64]| values.iter().map(|&x| flushed(x)).collect::<Vec<f64>>();
    let (want, without) = (row.on_cpu(cpu, &a, &b), row.on_cpu(cpu, &flush(&a), &flush(&b)));
    let mut worst = Worst { exact: (0.0, 0.0, 0.0), own: (0.0, 0.0, 0.0) };
    let note = |worst: &mut (f64, f64, f64), off: f64, i: usize| {
        if off > worst.0 {
            *worst = (off, a[i], b[i]);
        }
    };
    for i in 0..got.len() {
        let off = error(got[i], want[i], 0.0).min(error(got[i], without[i], 0.0));
        note(&mut worst.own, off, i);
        if let Some(line) = lines.get(i) {
            let off = error(got[i], line.want, line.residual).min(error(got[i], without[i], 0.0) + row.ulps[0]);
            note(&mut worst.exact, off, i);
        }
    }
    worst
}

/// The adapter as a lab, if it computes in `f64` and `u64`.
fn lab() -> Option<Lab> {
    let lab = Lab { gpu: gpu()? };
    let facts = lab.gpu.spec().gpu.expect("a GPU");
    (facts.f64 && facts.i64).then_some(lab)
}

impl Row {
    /// Whether these errors are more than is allowed. Both functions may be off, each to its side.
    fn is_beyond(&self, worst: &Worst) -> bool {
        worst.exact.0 > self.ulps[1] || worst.own.0 > (self.ulps[0] + self.ulps[1]).floor()
    }
}

#[test]
fn functions_are_as_accurate_as_stated() {
    let Some(lab) = lab() else { return };
    let cpu = session(Placement::Cpu, &[]);
    let all = serde_json::from_str(GOLDEN).expect("json");
    let least = if std::env::var("EXHAUSTIVE").is_ok_and(|v| v == "1") { 1_000_000 } else { 1 << 16 };
    let mut wrong = Vec::new();
    for row in ROWS {
        let lines = golden(&all, row.name);
        assert!(lines.len() >= 300 || row.ulps == [0.0; 2], "{}: {} lines", row.name, lines.len());
        let worst = measure(&lab, &cpu, row, TEXT, &lines, least);
        let text = format!(
            "{:12} {:.3} of {} at {:e} {:e}; {} from the CPU's at {:e} {:e}",
            row.name, worst.exact.0, row.ulps[1], worst.exact.1, worst.exact.2, worst.own.0, worst.own.1, worst.own.2
        );
        println!("{text}");
        if row.is_beyond(&worst) {
            wrong.push(text);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `a b + c` rounded once (but for what `d_residual` leaves), on any GPU.
const FUSED: &str = "
fn fused(a: D4, b: D4, c: D4) -> D4 {
    let p = opaque_d(a * b);
    let s = opaque_d(p + c);
    let back = opaque_d(s - p);
    let lost = opaque_d(opaque_d(p - opaque_d(s - back)) + opaque_d(c - back));
    return opaque_d(s + opaque_d(lost + d_residual(a, b, p)));
}
";

#[test]
fn functions_are_as_accurate_where_products_and_sums_are_contracted() {
    let Some(lab) = lab() else { return };
    let cpu = session(Placement::Cpu, &[]);
    let all = serde_json::from_str(GOLDEN).expect("json");
    let (text, count) = contracted(TEXT, &["mantissa", "upper", "lower"]);
    assert!(count > 150, "only {count} sums of products");
    // What makes `fused` is not itself contracted.
    let [plain, other] = [TEXT, &text].map(|text| item(text, "d_residual"));
    let text = text.replace(&other, &plain) + FUSED;
    for row in ROWS {
        let lines = golden(&all, row.name);
        let worst = measure(&lab, &cpu, row, &text, &lines, 1 << 14);
        println!("{:12} {:.3}, {} from the CPU's", row.name, worst.exact.0, worst.own.0);
        assert!(!row.is_beyond(&worst), "{}: {:?} {:?}", row.name, worst.exact, worst.own);
    }
}

#[test]
fn functions_are_as_accurate_where_quotients_and_roots_are_mended() {
    let Some(lab) = lab() else { return };
    let cpu = session(Placement::Cpu, &[]);
    let all = serde_json::from_str(GOLDEN).expect("json");
    let plain = ["d_over", "d_root"].map(|name| item(TEXT, name));
    let text = plain.iter().fold(TEXT.to_owned(), |text, plain| text.replacen(plain, "", 1));
    // The driver's own are off by a few units of f32.
    let mut mended = include_str!("../shaders/quotients_f64.wgsl").to_owned();
    for (own, times) in [("x / y)", 1), ("residual(q, y, x)) / y)", 1), ("sqrt(f))", 1), ("residual(s, s, x)) / s)", 1)] {
        assert_eq!(mended.matches(own).count(), times, "{own}");
        mended = mended.replace(own, &(own[..own.len() - 1].to_owned() + " * 1.0000002lf)"));
    }
    for row in ROWS {
        let worst = measure(&lab, &cpu, row, &(text.clone() + &mended), &golden(&all, row.name), 1 << 13);
        assert!(!row.is_beyond(&worst), "{}: {:?} {:?}", row.name, worst.exact, worst.own);
    }
}

#[test]
fn a_slip_is_found() {
    let Some(lab) = lab() else { return };
    let cpu = session(Placement::Cpu, &[]);
    let all = serde_json::from_str(GOLDEN).expect("json");
    for row in ROWS {
        let (right, wrong) = row.slip;
        assert!(needed(TEXT, row.name).contains(right), "{} has no `{right}`", row.name);
        let worst = measure(&lab, &cpu, row, &TEXT.replace(right, wrong), &golden(&all, row.name), 1 << 14);
        assert!(row.is_beyond(&worst), "{}: `{wrong}` is not seen, {:?} {:?}", row.name, worst.exact, worst.own);
    }
}

#[test]
fn the_text_is_as_the_generator_reads_it() {
    let lines: Vec<&str> = TEXT.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let starts = ["// ", "fn d_", "const D_", "    "].iter().any(|start| line.starts_with(start));
        assert!(starts || ["", "//", "}"].contains(line), "`{line}`");
        assert!(!line.starts_with("fn ") || lines[i - 1].starts_with("// "), "`{line}` without a comment");
        assert!(!line.starts_with("const ") || line.ends_with(';'), "`{line}`");
    }
    let (text, count) = contracted("fn f() {\n let x = g(a * b - c) - d * e; }", &[]);
    assert_eq!((count, text.contains("fused(D4(-d), D4(e), D4(g(fused(D4(a), D4(b), D4(-c)))))")), (2, true), "{text}");
}
