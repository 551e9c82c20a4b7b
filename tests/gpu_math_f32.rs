//! The elementary functions in WGSL (`shaders/math_f32.wgsl`, `math_f32_angles.wgsl`) against exact values, on any GPU.
//!
//! Owns: the bound of each function, the arguments that are tried, how an error is measured. Must not know: how a function is computed. Invariant:
//! each function is also run with a slip in its text, which is found. With `EXHAUSTIVE=1` every `f32` is tried, and of functions of two 2^28 pairs.
#![cfg(feature = "gpu")]

use std::borrow::Cow;
use std::sync::Arc;

use chunkwise::device::Device;
use chunkwise::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};
use chunkwise::{Array, prelude::*};
use ndarray::ArrayD;
use support::drivers::{Driver, as_compiled};
use support::gpu::session;
use support::wait::within_as;
use support::wgsl::translated;

support::gpus!();

const TEXT: &str = concat!(include_str!("../shaders/math_f32.wgsl"), include_str!("../shaders/math_f32_angles.wgsl"));

/// What a generated module puts before the functions, and a kernel around one.
const BEFORE: &str = "
struct Params { first: u32, groups: u32, begin: u32, end: u32, n: u32, zero: u32, }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> left: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> right: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<u32>>;
alias F4 = vec4<f32>; alias U4 = vec4<u32>; alias I4 = vec4<i32>; alias B4 = vec4<bool>;
fn opaque_f(x: F4) -> F4 { return bitcast<F4>(bitcast<U4>(x) ^ U4(p.zero)); }
@compute @workgroup_size(64)
fn apply(
    @builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    let i = (p.first + folded) * 64u + t;
    if (folded >= p.groups || i >= p.n) { return; }
    let a = bitcast<F4>(left[i]);
    let b = bitcast<F4>(right[i]);
    result[i] = bitcast<U4>(CALL);
}
";

chunkwise::shader_params!(
    /// Vectors of four, and 0, which no compiler knows.
    struct Size { n, zero }
);

/// A kernel that calls one function, on the bits of `f32`.
struct Applied {
    name: String,
    shader: Arc<Shader>,
}

impl Applied {
    fn kernel(row: &Row, text: &str) -> Arc<dyn Kernel> {
        let call = if row.two { format!("{}(a, b)", row.name) } else { format!("{}(a)", row.name) };
        let shader = Shader::new(row.name, BEFORE.replace("CALL", &call) + text);
        let shader = shader.with_params(Size::FIELDS).with_operands(2, 1).with_workgroup(64, [0, 0]);
        Arc::new(Self { name: format!("test::{} {:x}", row.name, shader.content()), shader: shader.into() })
    }
}

impl Kernel for Applied {
    fn name(&self) -> Cow<'static, str> {
        self.name.clone().into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 100.0)
    }

    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let n = operands[0].shape.iter().product::<usize>() / 4;
        let pass = Pass::new("apply", n.div_ceil(64) as u64, 0);
        let size = Size { n: n as u32, zero: 0 };
        Program::new(&self.shader, DType::F32, &size.words(), vec![pass], self.work(bytes, operands)).fitting(gpu, operands)
    }

    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        Err(Fault::Because("it is for GPUs".into()))
    }
}

/// The exact function, on `f64`.
#[derive(Clone, Copy)]
enum Exact {
    One(fn(f64) -> f64),
    Two(fn(f64, f64) -> f64),
    /// Rust's own of `f32`.
    Bits(fn(f32, f32) -> f32),
    /// The crate's own.
    Erf,
}

/// A function, the greatest error in ulp, and a slip that must be found: a piece of the text, and what stands there instead.
struct Row {
    name: &'static str,
    two: bool,
    bound: f64,
    exact: Exact,
    slip: (&'static str, &'static str),
}

const fn one(name: &'static str, bound: f64, exact: fn(f64) -> f64, slip: (&'static str, &'static str)) -> Row {
    Row { name, two: false, bound, exact: Exact::One(exact), slip }
}

const fn two(name: &'static str, bound: f64, exact: fn(f64, f64) -> f64, slip: (&'static str, &'static str)) -> Row {
    Row { name, two: true, bound, exact: Exact::Two(exact), slip }
}

const fn bits(name: &'static str, exact: fn(f32, f32) -> f32, slip: (&'static str, &'static str)) -> Row {
    Row { name, two: true, bound: 0.0, exact: Exact::Bits(exact), slip }
}

const ROWS: &[Row] = &[
    one("f_exp", 1.1, f64::exp, ("0.041664943", "0.041674943")),
    one("f_exp2", 1.35, f64::exp2, ("0.009618004", "0.009628004")),
    one("f_expm1", 1.45, f64::exp_m1, ("0.16666669", "0.16667669")),
    one("f_log", 1.2, f64::ln, ("0.20001973", "0.20003973")),
    one("f_log2", 1.35, f64::log2, ("0.0003122284", "0.0003124284")),
    one("f_log10", 1.3, f64::log10, ("9.038034e-05", "9.058034e-05")),
    one("f_log1p", 1.2, f64::ln_1p, ("w - opaque_f(u - 1.0)", "0.0 * w")),
    one("f_sin", 1.1, f64::sin, ("f534ddc0", "f534ddc1")),
    one("f_cos", 1.2, f64::cos, ("0.0013887362", "0.0013897362")),
    one("f_tan", 1.8, f64::tan, ("lost = ((t - u)", "lost = ((u - u)")),
    one("f_asin", 1.1, f64::asin, ("0.045478337", "0.045488337")),
    one("f_acos", 1.1, f64::acos, ("F_HALF_PI_LO: f32 = -", "F_HALF_PI_LO: f32 = ")),
    one("f_atan", 1.5, f64::atan, ("0.05795788", "0.05799788")),
    two("f_atan2", 1.8, f64::atan2, ("0.10952191", "0.10962191")),
    one("f_sinh", 2.4, f64::sinh, ("0.00833335", "0.00834335")),
    one("f_cosh", 2.4, f64::cosh, ("half + f_over(F4(0.25)", "half + f_over(F4(0.250001)")),
    one("f_tanh", 2.0, f64::tanh, ("0.0538798", "0.0538898")),
    one("f_asinh", 1.6, f64::asinh, ("0.021007303", "0.021017303")),
    one("f_acosh", 1.6, f64::acosh, ("(t + tt) * (t - tt)", "(t + tt) * (tt - t)")),
    one("f_atanh", 1.6, f64::atanh, ("0.11835096", "0.11845096")),
    Row { name: "f_erf", two: false, bound: 1.6, exact: Exact::Erf, slip: ("0.14866714", "0.14866814") },
    two("f_hypot", 0.6, f64::hypot, ("(y + yt) * (y - yt)", "(y + yt) * (yt - y)")),
    two("f_powf", 1.6, f64::powf, ("0.5770802", "0.5780802")),
    one("f_cbrt", 0.6, f64::cbrt, ("0.11111984", "0.11141984")),
    one("f_sqrt", 0.5, f64::sqrt, ("r > s)", "r >= s - 999)")),
    two("f_divide", 0.5, |a, b| a / b, ("2 * r > I4(m)", "3 * r > I4(m)")),
    bits("f_rem", |a, b| a % b, ("turn < 35u", "turn < 34u")),
    bits("f_div_euclid", f32::div_euclid, ("F4(-1.0), F4(1.0), bitcast", "F4(1.0), F4(-1.0), bitcast")),
    bits("f_rem_euclid", f32::rem_euclid, ("select(r + m", "select(r - m")),
];

impl Row {
    /// The exact value at one place.
    fn exact(&self, a: f32, b: f32) -> f64 {
        match self.exact {
            Exact::One(f) => f(a.into()),
            Exact::Two(f) => f(a.into(), b.into()),
            Exact::Bits(f) => f(a, b).into(),
            Exact::Erf => unreachable!("it comes from an array"),
        }
    }

    /// The exact values.
    fn exacts(&self, a: &[f32], b: &[f32]) -> Vec<f64> {
        match self.exact {
            Exact::Erf => {
                let wide = ArrayD::from_shape_fn(vec![a.len()], |i| f64::from(a[i[0]]));
                let erf = Array::from(wide).in_session(&session(Placement::Cpu, &[])).erf().compute();
                erf.expect("on the CPU").iter().copied().collect()
            }
            _ => a.iter().zip(b).map(|(&a, &b)| self.exact(a, b)).collect(),
        }
    }

    /// Error of `got` in ulp, where `want` is exact. A subnormal argument or result may count as 0.
    fn error(&self, (a, b): (f32, f32), want: f64, got: f32) -> f64 {
        let direct = error(want, got, self.bound > 0.5);
        if direct <= self.bound || !(a.is_subnormal() || self.two && b.is_subnormal()) {
            return direct;
        }
        let flushed = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
        let at = |a, b| match self.exact {
            Exact::Erf => f64::from(a),
            _ => self.exact(a, b),
        };
        [(flushed(a), b), (a, flushed(b)), (flushed(a), flushed(b))]
            .into_iter()
            .fold(direct, |least, (a, b)| least.min(error(at(a, b), got, self.bound > 0.5)))
    }
}

/// Error of `got` in ulp; infinite where the kind or the sign is another. `twice`: a subnormal result may be rounded twice.
fn error(want: f64, got: f32, twice: bool) -> f64 {
    const LEAST: f64 = f32::MIN_POSITIVE as f64;
    const BEYOND: f64 = 2.0 * (1u128 << 127) as f64;
    let value = f64::from(got);
    if want.is_nan() || got.is_nan() || want.is_infinite() || want == 0.0 {
        return if want.is_nan() && got.is_nan() || want.to_bits() == value.to_bits() { 0.0 } else { f64::INFINITY };
    }
    if want.is_sign_negative() != got.is_sign_negative() {
        return f64::INFINITY;
    }
    let (want, value) = (want.abs(), value.abs());
    if want < LEAST * 1.000001 && value == 0.0 {
        return 0.0;
    }
    let exponent = ((want.min(BEYOND / 2.0).to_bits() >> 52) as i32 - 1023).max(-126);
    let unit = f64::from_bits(((exponent + 1000) as u64) << 52);
    let off = (value.min(BEYOND) - want.min(BEYOND)).abs() / unit;
    if want < LEAST && twice { (off - 0.5).max(0.0) } else { off }
}

/// Numbers without a pattern (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn any(&mut self) -> f32 {
        f32::from_bits(self.next() as u32)
    }

    /// Of either sign, its exponent in a range.
    fn around(&mut self, low: i32, high: i32) -> f32 {
        let exponent = (low + (self.next() % (high - low + 1) as u64) as i32 + 127) as u32;
        let bits = self.next() as u32;
        f32::from_bits((bits & 0x807f_ffff) | (exponent << 23))
    }
}

/// Where something changes: bounds of ranges, overflow and underflow, 0, 1, multiples of pi/2, infinity, NaN.
fn edges() -> Vec<f32> {
    let mut edges = vec![
        0.0, 1e-45, 4e-45, 1e-44, 2e-38, 1e-30, 3.052e-5, 1.2207e-4, 2.44e-4, 0.171573, 0.25, 0.346574, 0.414214, 0.5,
        0.549306, 0.75, 1.0, 1.098612, 1.5, 2.0, 3.0, 4.0, 9.0, 9.01, 10.0, 16.0, 17.0, 18.0, 20.0, 88.72283, 89.41598,
        87.33654, 103.9721, 104.0, 110.0, 126.0, 127.0, 128.0, 149.0, 150.0, 155.0, 1600.0, 8388608.0, 16777216.0, 1.0737e9,
        1e19, 1.8447e19, 3e38,
    ];
    edges.extend([
        0.5f32.sqrt(),
        2f32.sqrt(),
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        f32::from_bits(0x7f80_0001),
        f32::from_bits(0x7fff_ffff),
    ]);
    edges.extend((1..40).map(|k| (f64::from(k) * std::f64::consts::FRAC_PI_4) as f32));
    // The closest to multiples of pi/2.
    edges.extend([
        252.89821,
        505.79642,
        1011.59283,
        21999384576.0,
        1.522789e12,
        4.6381834e25,
        7.729179e28,
        1.5458358e29,
        4.386558e33,
    ]);
    edges.extend((1..25).map(|k| 1.0 - 0.5f32.powi(k)).chain((1..25).map(|k| 1.0 + 0.5f32.powi(k))));
    edges
}

/// Arguments of functions of one.
fn singles() -> Vec<f32> {
    let mut r = Numbers(1);
    let mut all: Vec<f32> = (0..512u32 * 512).map(|i| f32::from_bits(((i / 512) << 23) | (r.next() as u32 >> 9))).collect();
    for edge in edges() {
        let near = (-64..=64).map(|d: i32| edge.to_bits().saturating_add_signed(d));
        all.extend(near.flat_map(|bits| [f32::from_bits(bits), f32::from_bits(bits | 1 << 31)]));
    }
    all
}

/// Arguments of functions of two: of edges each with each, and others whose results are of all sizes.
fn pairs(n: usize, seed: u64) -> Vec<(f32, f32)> {
    let mut r = Numbers(seed);
    let edges: Vec<f32> = edges().into_iter().flat_map(|e| [e, -e]).collect();
    let mut all: Vec<(f32, f32)> = edges.iter().flat_map(|&a| edges.iter().map(move |&b| (a, b))).collect();
    all.truncate(n / 2);
    while all.len() < n {
        let kind = r.next() % 8;
        let (a, b) = match kind {
            0 => (r.any(), r.any()),
            1 => (r.around(-30, 30), r.around(-30, 30)),
            2 => (r.around(-2, 2), r.around(-2, 2)),
            3 => (r.around(-3, 3), r.around(-8, 8)),
            4 => (r.any(), r.around(-10, 8)),
            5 => (edges[r.next() as usize % edges.len()], r.any()),
            6 => (r.any(), edges[r.next() as usize % edges.len()]),
            _ => {
                // Powers that are neither too large nor too small; and close to 1.
                let a = if r.next() & 1 == 0 { r.any().abs() } else { 1.0 + r.around(-24, -2) };
                let most = 150.0 / f64::from(a).log2().abs().max(1e-8);
                (a, (most * (r.next() as f64 / 2f64.powi(63) - 1.0)) as f32)
            }
        };
        all.push((a, b));
    }
    all
}

/// The worst that was found.
#[derive(Clone, Copy, Default)]
struct Worst {
    error: f64,
    at: (f32, f32),
    got: f32,
    want: f64,
}

/// The result bits of a kernel.
fn run(session: &Session, kernel: &Arc<dyn Kernel>, a: &[f32], b: &[f32]) -> Vec<f32> {
    let words = |x: &[f32]| {
        let mut words: Vec<u32> = x.iter().map(|x| x.to_bits()).collect();
        words.resize(x.len().next_multiple_of(4), 0);
        Array::from(ArrayD::from_shape_vec(vec![words.len()], words).expect("a line")).in_session(session)
    };
    let call = words(a).with_kernel::<u32>(&[&words(b)], kernel.clone(), &[0u8; 0]);
    let found = call.compute().unwrap_or_else(|e| panic!("{}: {e}", kernel.name()));
    found.iter().take(a.len()).map(|&bits| f32::from_bits(bits)).collect()
}

/// The worst error of a kernel on these arguments.
fn worst(session: &Session, row: &Row, kernel: &Arc<dyn Kernel>, a: &[f32], b: &[f32]) -> Worst {
    let found = run(session, kernel, a, b);
    let judge = |range: std::ops::Range<usize>| {
        let (a, b, found) = (&a[range.clone()], &b[range.clone()], &found[range]);
        let mut worst = Worst::default();
        for (i, want) in row.exacts(a, b).into_iter().enumerate() {
            let error = row.error((a[i], b[i]), want, found[i]);
            if error > worst.error {
                worst = Worst { error, at: (a[i], b[i]), got: found[i], want };
            }
        }
        worst
    };
    let half = a.len() / 2;
    let (low, high) = std::thread::scope(|scope| {
        let low = scope.spawn(|| judge(0..half));
        (judge(half..a.len()), low.join().expect("no panic"))
    });
    if low.error > high.error { low } else { high }
}

/// The worst error of a kernel on all that is tried.
fn tried(session: &Session, row: &Row, kernel: &Arc<dyn Kernel>, exhaustive: bool) -> Worst {
    const STEP: usize = 1 << 22;
    let mut all = Worst::default();
    let mut see = |a: &[f32], b: &[f32]| {
        let new = worst(session, row, kernel, a, b);
        all = if new.error > all.error { new } else { all };
    };
    match (row.two, exhaustive) {
        (false, false) => see(&singles(), &singles()),
        (false, true) => (0..1024u32).for_each(|step| {
            let a: Vec<f32> = (0..STEP as u32).map(|i| f32::from_bits(step << 22 | i)).collect();
            see(&a, &a);
        }),
        (true, _) => (0..if exhaustive { 64 } else { 1 }).for_each(|step| {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs(if exhaustive { STEP } else { 1 << 18 }, step).into_iter().unzip();
            see(&a, &b);
        }),
    }
    all
}

/// Runs all functions of a text; `driver` is whose it is, and `only` says what functions to take with EXHAUSTIVE=1.
fn check(driver: &'static str, text: String) {
    let exhaustive = std::env::var("EXHAUSTIVE").is_ok_and(|v| v == "1");
    let only = std::env::var("ONLY").unwrap_or_default();
    let Some(gpu) = gpu() else { return };
    within_as(driver, if exhaustive { 100_000 } else { 600 }, move || {
        let device: Arc<dyn Device> = gpu;
        let session = session(Placement::Gpu, &[device]);
        let mut wrong = Vec::new();
        for row in ROWS.iter().filter(|row| only.is_empty() || only.split(',').any(|name| name == row.name)) {
            let Worst { error, at, got, want } = tried(&session, row, &Applied::kernel(row, &text), exhaustive);
            let said = format!("{driver}: {:14} {error:.4} of {}: at {at:?} {got:e}, not {want:e}", row.name, row.bound);
            println!("{said}");
            wrong.extend((error > row.bound).then_some(said));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn functions_are_within_their_bounds() {
    check("as it is", TEXT.to_owned());
}

#[test]
fn products_and_sums_may_be_fused() {
    check("the first fused", as_compiled(TEXT, Driver::FusesFirst));
    check("the second fused", as_compiled(TEXT, Driver::FusesSecond));
}

#[test]
fn subnormal_numbers_may_be_flushed() {
    check("flushed", as_compiled(TEXT, Driver::Flushes));
}

#[test]
fn quotients_and_roots_may_be_off_by_two_ulp() {
    // Off by -2 to 2, without a pattern; 0 stays.
    let off = |exact: &str, of: &str| {
        format!(
            "let y = bitcast<U4>({exact});
            let off = ({of} >> U4(9u)) % U4(5u) - U4(2u);
            return bitcast<F4>(select(y, y + off, (y & U4(0x7fffffffu)) > U4(0x01000000u)));"
        )
    };
    let over = off("n / m", "(bitcast<U4>(n) * U4(0x9e3779b1u) + bitcast<U4>(m) * U4(0x85ebca77u))");
    let root = off("sqrt(x)", "(bitcast<U4>(x) * U4(0x9e3779b1u))");
    assert!(TEXT.contains("return n / m;") && TEXT.contains("return sqrt(x);"));
    check("off by two", TEXT.replace("return n / m;", &over).replace("return sqrt(x);", &root));
}

#[test]
fn a_slip_in_any_function_is_found() {
    let Some(gpu) = gpu() else { return };
    within_as("the slips", 600, move || {
        let device: Arc<dyn Device> = gpu;
        let session = session(Placement::Gpu, &[device]);
        let mut passed = Vec::new();
        for row in ROWS {
            assert!(TEXT.contains(row.slip.0), "{}: there is no {}", row.name, row.slip.0);
            let kernel = Applied::kernel(row, &TEXT.replace(row.slip.0, row.slip.1));
            let error = tried(&session, row, &kernel, false).error;
            passed.extend((error <= row.bound).then(|| format!("{}: {} gives {error}", row.name, row.slip.1)));
        }
        assert!(passed.is_empty(), "{}", passed.join("\n"));
    });
}

#[test]
fn the_text_is_items_of_f32_and_every_language_gets_it() {
    // A generator picks constants and functions by what stands at the beginning of a line.
    let item =
        |line: &str| ["fn f_", "const F_", "}", "//", " "].iter().any(|start| line.starts_with(start)) || line.is_empty();
    assert_eq!(TEXT.lines().filter(|line| !item(line)).collect::<Vec<_>>(), Vec::<&str>::new());
    let code: String = TEXT.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect();
    let words: Vec<&str> = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    for foreign in [
        "f64", "u64", "i64", "D4", "M4", "L4", "fma", "sin", "cos", "tan", "atan", "exp", "exp2", "log", "log2", "pow", "tanh",
        "ldexp",
    ] {
        assert!(!words.contains(&foreign), "{foreign}");
    }
    // The bound is said where the function is.
    for row in ROWS.iter().filter(|row| row.bound > 0.5) {
        let before = TEXT.split(&format!("\nfn {}(", row.name)).next().and_then(|text| text.rsplit('}').next());
        assert!(before.is_some_and(|text| text.contains(&format!("Error < {} ulp", row.bound))), "{}", row.name);
    }
    let text = BEFORE.replace("CALL", "f_powf(a, b)") + TEXT;
    translated(&text).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn errors_are_measured() {
    let next = f32::from_bits(1f32.to_bits() + 1);
    assert_eq!(error(1.0, next, false), 1.0);
    assert_eq!(error(1.0 + 2f64.powi(-24), next, false), 0.5);
    assert_eq!(error(f64::from(f32::MAX), f32::INFINITY, false), 1.0);
    assert_eq!(error(1e300, f32::INFINITY, false), 0.0);
    assert_eq!(error(f64::INFINITY, f32::MAX, false), f64::INFINITY);
    assert_eq!(error(0.0, -0.0, false), f64::INFINITY);
    assert_eq!(error(1e-40, 0.0, false), 0.0);
    assert_eq!(error(1e-40, -0.0, false), f64::INFINITY);
    assert_eq!(error(3.0 * 2f64.powi(-149), f32::from_bits(2), false), 1.0);
    assert_eq!(error(f64::NAN, f32::NAN, false), 0.0);
    assert_eq!(error(f64::NAN, 1.0, false), f64::INFINITY);
}

#[test]
fn only_float_arithmetic_is_rewritten() {
    let text = "const C: f32 = 1.5e-3;\nfn f(x: F4, k: I4) -> F4 {\n    let n = k * 3 + 1;\n    return (x * C - x * 2.0) / F4(n);\n}\n";
    let body = |driver| {
        let text = as_compiled(text, driver);
        text.split("return ").nth(1).and_then(|text| text.split(';').next()).expect("a result").to_owned()
    };
    assert!(as_compiled(text, Driver::FusesFirst).contains("let n = k * 3 + 1;"));
    assert_eq!(body(Driver::FusesFirst), "(fused(F4(x), F4(C), -F4(x * 2.0))) / F4(n)");
    assert_eq!(body(Driver::FusesSecond), "(fused(-F4(x), F4(2.0), F4(x * C))) / F4(n)");
    assert!(body(Driver::Flushes).contains("flushed(flushed(F4(x)) * flushed(F4(C)))"));
}
