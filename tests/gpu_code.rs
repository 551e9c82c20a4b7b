//! How much there is of generated code: its instructions beside those of shaders that were written by hand for the same, with the same promises.
//!
//! Owns: the shaders by hand. Must not know: generated text. Invariant: both go through one translator to SPIR-V, and both are without checks of indices; what is said is printed, too
//! (`cargo test --test gpu_code -- --nocapture`).
#![cfg(feature = "gpu")]

use std::sync::Arc;

use chunkwise::DType;
use chunkwise::kernel::map::{Builder, Elementwise, ScalarOp, ScalarProgram, Value};
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::kernel::{GpuFacts, Kernel};
use chunkwise::shape::ChunkMeta;
use support::lab::ANY;
use support::wgsl::{instructions, translated};

/// A program of one `f32`, as it comes from arrays.
fn program(make: impl FnOnce(&mut Builder, Value) -> Value) -> Arc<ScalarProgram> {
    let mut b = Builder::new();
    let x = b.input(DType::F32);
    let made = make(&mut b, x);
    Arc::new(b.finish(made).0)
}

/// E1 to E4: `a x x + b x + sin(x)`, `(x - h)^2`, `where(x > h, a x, b - x)`, a polynomial of degree 5.
fn programs() -> [(&'static str, Arc<ScalarProgram>); 4] {
    use ScalarOp::{Add, Lt, Mul, Sin, Sub, Where};
    let horner = |b: &mut Builder, x: Value| {
        (0..5u8).fold(b.constant(1.5f32), |sum, k| {
            let (product, next) = (b.apply(Mul, &[sum, x]), b.constant(f32::from(k) + 0.25));
            b.apply(Add, &[product, next])
        })
    };
    [
        (
            "E1",
            program(|b, x| {
                let (a, c) = (b.constant(1.5f32), b.constant(0.25f32));
                let (ax, cx, sine) = (b.apply(Mul, &[a, x]), b.apply(Mul, &[c, x]), b.apply(Sin, &[x]));
                let axx = b.apply(Mul, &[ax, x]);
                let sum = b.apply(Add, &[axx, cx]);
                b.apply(Add, &[sum, sine])
            }),
        ),
        (
            "E2",
            program(|b, x| {
                let h = b.constant(0.5f32);
                let d = b.apply(Sub, &[x, h]);
                b.apply(Mul, &[d, d])
            }),
        ),
        (
            "E3",
            program(|b, x| {
                let (a, c, h) = (b.constant(1.5f32), b.constant(0.25f32), b.constant(0.5f32));
                let (is, yes, no) = (b.apply(Lt, &[h, x]), b.apply(Mul, &[a, x]), b.apply(Sub, &[c, x]));
                b.apply(Where, &[is, yes, no])
            }),
        ),
        ("E4", program(horner)),
    ]
}

/// What is around the elements of an element-wise shader.
const AROUND: &str = "
struct Params { first: u32, groups: u32, begin: u32, end: u32, n: u32, zero: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(256)
fn run(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let group = id.x + id.y * count.x;
    if (group >= p.groups) {
        return;
    }
    let at = (p.first + group) * 256u + t;
    if (at >= (p.n + 3u) / 4u) {
        return;
    }
    let v = x[at];
    BODY
}

// The same bits, unknown to compilers: products and sums are rounded one by one.
fn kept(v: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) ^ vec4<u32>(p.zero));
}
";

/// The lines of each by hand, where compilers are kept from what is between operations. Which is greater is seen by bits: drivers need not know NaN.
const BODIES: [&str; 4] = [
    "y[at] = kept(kept(kept(vec4(1.5) * v) * v) + kept(vec4(0.25) * v)) + kept(f_sin(v));",
    "let d = kept(v - vec4(0.5));
    y[at] = d * d;",
    "let bits = bitcast<vec4<i32>>(v);
    let key = select(bits, vec4<i32>(bitcast<i32>(0x80000000u)) - bits, bits < vec4<i32>(0));
    let is = (key > vec4<i32>(0x3f000000)) & (key <= vec4<i32>(0x7f800000));
    y[at] = select(vec4(0.25) - v, vec4(1.5) * v, is);",
    "let a = kept(kept(vec4(1.5) * v) + vec4(0.25));
    let b = kept(kept(a * v) + vec4(1.25));
    let c = kept(kept(b * v) + vec4(2.25));
    let d = kept(kept(c * v) + vec4(3.25));
    y[at] = kept(d * v) + vec4(4.25);",
];

/// A sum in `f64`: each of 256 invocations takes in 32 elements, a tree joins these, and a second pass the sums of workgroups.
const SUM: &str = "
struct Params { first: u32, groups: u32, begin: u32, end: u32, n: u32, parts: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f64>;
@group(0) @binding(3) var<storage, read_write> parts: array<f64>;
var<workgroup> sums: array<f64, 256>;

@compute @workgroup_size(256)
fn first(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
) {
    let folded = id.x + id.y * count.x;
    if (folded >= p.groups) {
        return;
    }
    let group = p.first + folded;
    var all = vec4<f64>(0.0lf);
    for (var j = 0u; j < 8u; j++) {
        let at = (group * 8u + j) * 256u + t;
        if (at * 4u < p.n) {
            let here = vec4<u32>(at * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.n);
            all += select(vec4<f64>(0.0lf), vec4<f64>(x[at]), here);
        }
    }
    let two = all.xy + all.zw;
    sums[t] = two.x + two.y;
TREE    if (t == 0u) {
        parts[group] = sums[0];
    }
}
";

/// Instructions that an invocation executes for four elements, of both, and how many times those by hand.
#[track_caller]
fn compare(what: &str, generated: &str, by_hand: &str, (entry, turns): (&str, usize)) -> f64 {
    let [ours, theirs] = [generated, by_hand].map(|text| {
        let size = instructions(&translated(text).unwrap_or_else(|e| panic!("{what}: {e}")), entry);
        assert_eq!(size.looped > 0, turns > 0, "{what}: {size:?}");
        (size.once + turns * size.looped) as f64 / turns.max(1) as f64
    });
    let ratio = ours / theirs;
    println!("{what:3} {ours:6.1} instructions for four elements, {theirs:6.1} by hand: {ratio:.2}");
    ratio
}

fn text(kernel: &dyn Kernel, metas: &[ChunkMeta<'_>], gpu: &GpuFacts) -> String {
    let program = kernel.program(&[], metas, gpu).expect("a GPU half");
    assert_eq!(program.passes.len(), 1 + usize::from(program.scratch_bytes > 0), "one launch a stage");
    program.shader.wgsl(program.real)
}

#[test]
fn generated_code_is_as_short_as_code_by_hand() {
    let shape = [1 << 20];
    let metas = [ChunkMeta::new(DType::F32, &shape); 2];
    for simplifies in [true, false] {
        let gpu = GpuFacts { simplifies, ..ANY };
        for ((name, program), body) in programs().into_iter().zip(BODIES) {
            let generated = text(&Elementwise::new(program), &metas, &gpu);
            // Our own sine in both.
            let is_library = |item: &&&str| !["fn run", "@", "struct Params"].iter().any(|head| item.starts_with(head));
            let items = items(&generated);
            let library: String = items.iter().filter(is_library).copied().collect();
            let mut by_hand = AROUND.replace("BODY", body) + &library;
            if !simplifies {
                by_hand = by_hand.replace("kept(", "(").replace("fn (", "fn kept(");
            }
            let ratio = compare(name, &generated, &by_hand, ("run", 0));
            assert!(ratio <= 1.3, "{name}: {ratio:.2}\n{generated}");
        }
    }
    let kernel = ReduceChunk::plain(Reduction::Sum, (&[0], &shape), DType::F32);
    let metas = [ChunkMeta::new(DType::F32, &shape), ChunkMeta::new(DType::F64, &[1])];
    let generated = text(&kernel, &metas, &ANY);
    let step = |half: u32| format!("    workgroupBarrier();\n    if (t < {half}u) {{ sums[t] += sums[t + {half}u]; }}\n");
    let tree: String = (0..8).rev().map(|k| step(1 << k)).collect();
    let ratio = compare("sum", &generated, &SUM.replace("TREE", &tree), ("first", 8));
    assert!(ratio <= 1.3, "sum: {ratio:.2}\n{generated}");
}

/// The functions, constants and aliases of a text, one by one.
fn items(text: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = ["fn ", "const ", "alias ", "struct ", "@"]
        .iter()
        .flat_map(|head| text.match_indices(&format!("\n{head}")).map(|(at, _)| at + 1).collect::<Vec<_>>())
        .collect();
    starts.push(text.len());
    starts.sort_unstable();
    starts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}
