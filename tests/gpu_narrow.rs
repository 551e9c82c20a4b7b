//! Reductions on GPUs that lack `f64`, 64-bit integers, or both, against the CPU's results.
//!
//! Owns: what elements are tried. Must not know: generated text, but that no type of 64 bits is in it. Invariant: integers, extremes and their places are compared to the bit; sums, products
//! and moments of `f32` within the bounds that the kernel states.
#![cfg(feature = "gpu")]

use std::sync::Arc;

use chunkwise::device::Device;
use chunkwise::device::gpu::Gpu;
use chunkwise::id::SpaceId;
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::kernel::{GpuFacts, Kernel};
use chunkwise::shape::{ChunkMeta, View};
use chunkwise::{Array, DType, prelude::*};
use support::bytes::{Bytes, Seen, on_cpu, on_gpu};
use support::gpu::tasks_on;
use support::lab::Lab;

support::gpus!();

const ALL: [Reduction; 9] = [
    Reduction::Sum,
    Reduction::Prod,
    Reduction::Min,
    Reduction::Max,
    Reduction::FMin,
    Reduction::FMax,
    Reduction::ArgMin,
    Reduction::ArgMax,
    Reduction::Moments,
];
const DTYPES: [DType; 8] = [DType::F32, DType::I32, DType::U32, DType::I16, DType::U16, DType::I8, DType::U8, DType::Bool];

/// An adapter as if it had none of these.
fn without(f64: bool, i64: bool) -> Option<Arc<dyn Device>> {
    let gpu = Gpu::open(&adapter()?, "gpu0", SpaceId(1), 64 << 20).expect("opens");
    let without = move |facts: &mut GpuFacts| (facts.f64, facts.i64) = (facts.f64 && !f64, facts.i64 && !i64);
    Some(Arc::new(gpu.with_facts(without)))
}

/// Whether there is such a reduction.
fn is_for(what: Reduction, dtype: DType) -> bool {
    match what {
        Reduction::FMin | Reduction::FMax | Reduction::Moments => dtype == DType::F32,
        _ => true,
    }
}

/// What floats there are among elements.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Floats {
    /// Around one.
    Tame,
    /// Of all sizes, so that products leave the range of `f32` and come back.
    Wild,
    /// With NaN, infinities, zeroes of both signs and subnormal ones.
    Odd,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 17
    }

    fn float(&mut self, floats: Floats) -> f32 {
        let tame = 0.5 + (self.next() % (1 << 23)) as f32 / (1u32 << 23) as f32;
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, f32::from_bits(1), -f32::from_bits(70_000)];
        match floats {
            Floats::Tame => tame,
            Floats::Wild => {
                tame * 2f32.powi((self.next() % 201) as i32 - 100) * if self.next().is_multiple_of(2) { 1.0 } else { -1.0 }
            }
            Floats::Odd if self.next().is_multiple_of(20) => odd[(self.next() % odd.len() as u64) as usize],
            Floats::Odd => tame,
        }
    }
}

fn elements(dtype: DType, shape: &[usize], floats: Floats, seed: u64) -> Bytes {
    let random = std::cell::RefCell::new(Random(seed | 1));
    Bytes::new(dtype, shape, |_| {
        let mut random = random.borrow_mut();
        match dtype {
            DType::Bool => vec![u8::from(!random.next().is_multiple_of(3))],
            DType::F32 => random.float(floats).to_ne_bytes().into(),
            _ => ((random.next() << 15) | (random.next() % (1 << 15))).to_ne_bytes()[..dtype.bytes()].into(),
        }
    })
}

fn output(what: Reduction, dtype: DType, shape: &[usize], axes: &[usize]) -> (DType, Vec<usize>) {
    let (partial, words) = what.partial(what.reads(dtype));
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]);
    (partial, [words].into_iter().chain(kept).collect())
}

/// How far a word may be from the CPU's, relative to that.
fn slack(what: Reduction, dtype: DType, len: usize) -> f64 {
    let u = f64::from(f32::EPSILON) / 2.0;
    match what {
        _ if dtype != DType::F32 => 0.0,
        Reduction::Sum => (48.0 + len as f64 / 2f64.powi(21)) * u,
        Reduction::Prod => 2f64.powi(-51) * len as f64,
        // Elements are at most four standard deviations apart.
        Reduction::Moments => 300.0 * u,
        _ => 0.0,
    }
}

/// Compares words: those of moments are a count, a mean and a sum.
fn compare(what: &str, (found, wanted): (&Bytes, &Bytes), (dtype, slack): (DType, f64)) {
    for i in 0..wanted.len() {
        // Of places the element is there to be merged: which of equal zeroes it is says nothing.
        let [found, wanted] = [found, wanted].map(|all| u64::from_ne_bytes(all.element(i).try_into().expect("eight bytes")));
        if found == wanted {
            continue;
        }
        let [a, b] = [found, wanted].map(f64::from_bits);
        let is_zero = what.starts_with("arg") && a == 0.0 && b == 0.0;
        let is_near = is_zero || dtype == DType::F64 && (a.is_nan() && b.is_nan() || (a - b).abs() <= slack * b.abs());
        assert!(is_near, "{what}, {i}: {found:#x} ({a:e}), not {wanted:#x} ({b:e})");
    }
}

/// Whether a module has nothing of 64 bits in it, which also naga says.
fn is_narrow(kernel: &dyn Kernel, params: &[u8], metas: &[ChunkMeta<'_>], facts: &GpuFacts) {
    let program = kernel.program(params, metas, facts).expect("a program");
    let text = program.shader.wgsl(program.real);
    let has = |word: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == word);
    assert!(facts.f64 || !has("f64"), "{text}");
    assert!(facts.i64 || !has("i64") && !has("u64"), "{text}");
    let words = support::wgsl::translated(&text).unwrap_or_else(|e| panic!("{e}"));
    if let Some(found) = support::wgsl::spirv_val(&words) {
        found.unwrap_or_else(|e| panic!("{e}\n{text}"));
    }
}

struct Case<'a> {
    what: Reduction,
    dtype: DType,
    shape: &'a [usize],
    axes: &'a [usize],
    floats: Floats,
}

impl Case<'_> {
    fn run(&self, lab: &Lab, view: Option<&View>, chunk: &[usize]) {
        let Self { what, dtype, shape, axes, floats } = *self;
        let extents: Vec<usize> = axes.iter().map(|&axis| 20 * shape[axis] + (1 << 20)).collect();
        let kernel: Arc<dyn Kernel> = Arc::new(ReduceChunk::plain(what, (axes, &extents), dtype));
        let starts: &[u64] = if what.is_numbered() { &[7, 1 << 33, 3] } else { &[] };
        let params: Vec<u8> = starts.iter().flat_map(|n| n.to_ne_bytes()).collect();
        let chunk = elements(dtype, chunk, floats, 31 * shape[0] as u64 + axes.len() as u64);
        let seen = match view {
            Some(view) => Seen { chunk, view: view.clone() },
            None => Seen::whole(chunk),
        };
        let (partial, out) = output(what, dtype, shape, axes);
        let name = format!("{} of {dtype} {shape:?} along {axes:?}, {floats:?}, view {}", what.name(), view.is_some());
        let facts = lab.gpu.spec().gpu.expect("a GPU");
        let metas = [ChunkMeta::new(dtype, shape), ChunkMeta::new(partial, &out)];
        is_narrow(&*kernel, &params, &metas, &facts);
        let inputs = [seen];
        let found = on_gpu(lab, (&kernel, &params), &inputs, (partial, &out)).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let wanted = on_cpu((&*kernel, &params), &inputs, (partial, &out));
        let len = axes.iter().map(|&axis| shape[axis]).product();
        compare(&name, (&found, &wanted), (partial, slack(what, dtype, len)));
    }
}

fn all_folds(f64: bool, i64: bool) {
    let Some(gpu) = without(f64, i64) else { return };
    let lab = Lab { gpu };
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[1], &[0]),
        (&[3001], &[0]),
        (&[100_000], &[0]),
        (&[12, 63], &[1]),
        (&[70, 8], &[0]),
        (&[700, 7], &[0]),
        (&[4, 9, 6], &[1]),
        (&[5, 6, 8], &[0, 2]),
        (&[7, 9], &[0, 1]),
    ];
    for (number, what) in ALL.into_iter().enumerate() {
        for (turn, dtype) in DTYPES.into_iter().enumerate().filter(|&(_, dtype)| is_for(what, dtype)) {
            // Each with each in the end; of floats all.
            let some = |&(at, _): &(usize, _)| dtype == DType::F32 || (at + turn + number).is_multiple_of(3);
            for (_, (shape, axes)) in shapes.iter().enumerate().filter(some) {
                Case { what, dtype, shape, axes, floats: Floats::Tame }.run(&lab, None, shape);
                let is_added = matches!(what, Reduction::Sum | Reduction::Moments);
                if dtype == DType::F32 && !is_added {
                    Case { what, dtype, shape, axes, floats: Floats::Odd }.run(&lab, None, shape);
                }
            }
        }
    }
}

#[test]
fn every_fold_without_floats_of_64_bits() {
    all_folds(true, false);
}

#[test]
fn every_fold_without_integers_of_64_bits() {
    all_folds(false, true);
}

#[test]
fn every_fold_without_either() {
    all_folds(true, true);
}

#[test]
fn products_leave_the_range_of_f32_and_come_back() {
    let Some(gpu) = without(true, true) else { return };
    let lab = Lab { gpu };
    // On the CPU they are in `f64`, which so many do not leave.
    for shape in [[8], [9], [10]] {
        Case { what: Reduction::Prod, dtype: DType::F32, shape: &shape, axes: &[0], floats: Floats::Wild }
            .run(&lab, None, &shape);
    }
}

#[test]
fn views_are_reduced_where_they_lie() {
    let Some(gpu) = without(true, true) else { return };
    let lab = Lab { gpu };
    let (m, n) = (33, 130);
    let turned = View::whole(&[n, m]).permute(&[1, 0]).expect("a view");
    let row = View::whole(&[n]).broadcast(&[m, n]).expect("a view");
    let steps = View::whole(&[m, 2 * n]).slice(1, 2 * n - 1, n, -2).expect("a view");
    for (view, chunk) in [(&turned, &[n, m][..]), (&row, &[n]), (&steps, &[m, 2 * n])] {
        for what in ALL {
            for dtype in [DType::F32, DType::I16, DType::Bool].into_iter().filter(|&dtype| is_for(what, dtype)) {
                for axes in [&[0][..], &[1], &[0, 1]] {
                    Case { what, dtype, shape: &[m, n], axes, floats: Floats::Tame }.run(&lab, Some(view), chunk);
                }
            }
        }
    }
}

/// The error of moments does not grow with how far elements are from zero, and what is not finite makes them NaN.
#[test]
fn moments_of_elements_far_from_zero() {
    let Some(gpu) = without(true, true) else { return };
    let lab = Lab { gpu };
    let kernel: Arc<dyn Kernel> = Arc::new(ReduceChunk::plain(Reduction::Moments, (&[0], &[50_000]), DType::F32));
    for far in [1.0f32, 1e3, 1e6, -1e7] {
        let x = Bytes::new(DType::F32, &[50_000], |i| (far + (i * 7919 % 1000) as f32 / 16.0).to_ne_bytes().into());
        let inputs = [Seen::whole(x)];
        let out = (DType::F64, &[3][..]);
        let found = on_gpu(&lab, (&kernel, &[]), &inputs, out).expect("moments");
        compare(&format!("{far}"), (&found, &on_cpu((&*kernel, &[]), &inputs, out)), (DType::F64, 3e-5));
    }
    for odd in [f32::NAN, f32::INFINITY] {
        let x = Bytes::new(DType::F32, &[5000], |i| if i == 4321 { odd } else { 1.5f32 }.to_ne_bytes().into());
        let found = on_gpu(&lab, (&kernel, &[]), &[Seen::whole(x)], (DType::F64, &[3])).expect("moments");
        assert!(f64::from_ne_bytes(found.element(2).try_into().expect("eight bytes")).is_nan(), "{odd}");
    }
}

/// Through the array language: nothing falls back.
#[test]
fn arrays_are_reduced_on_gpus_that_lack_64_bits() {
    let Some(gpu) = without(true, true) else { return };
    let session = support::gpu::session(Placement::Gpu, &[gpu]);
    let f = ndarray::Array2::from_shape_fn((300, 200), |(i, j)| ((i * 37 + j * 11) % 101) as f32 / 8.0);
    let whole = f.mapv(|x| (8.0 * x) as i32 - 50);
    for chunks in [(100, 70), (300, 200)] {
        let (x, k) = (
            Array::from(f.clone()).in_session(&session).chunks(chunks),
            Array::from(whole.clone()).in_session(&session).chunks(chunks),
        );
        let count = if chunks.0 == 100 { 9 } else { 1 };
        let (found, run) = k.sum().run().expect("a sum");
        assert_eq!((found[[]], tasks_on(&run, "gpu0")), (whole.iter().map(|&k| i64::from(k)).sum(), count), "{:?}", run.idle);
        let (found, run) = x.gt(3.0).any().run().expect("any");
        assert_eq!((found[[]], tasks_on(&run, "gpu0")), (true, count), "{:?}", run.idle);
        let (found, run) = x.argmax().run().expect("a place");
        let wanted = f.iter().enumerate().fold((0, f32::MIN), |best, (i, &x)| if x > best.1 { (i, x) } else { best }).0;
        assert_eq!((found[[]], tasks_on(&run, "gpu0")), (wanted as i64, count), "{:?}", run.idle);
        let (found, run) = x.var(0.0).run().expect("a variance");
        let mean = f.iter().map(|&x| f64::from(x)).sum::<f64>() / f.len() as f64;
        let wanted = f.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / f.len() as f64;
        assert!((found[[]] - wanted).abs() < 1e-5 * wanted, "{found} {wanted}");
        assert_eq!(tasks_on(&run, "gpu0"), count, "{:?}", run.idle);
    }
}

/// What is cast before it is reduced, by the library or by the user: as on the CPU, wherever it runs.
#[test]
fn what_is_cast_before_it_is_reduced_is_what_the_cpu_makes_of_it() {
    let whole = ndarray::Array2::from_shape_fn((300, 200), |(i, j)| ((i * 37 + j * 11) % 101) as i32 - 30);
    let near = support::gpu::session(Placement::Cpu, &[]);
    type Case = (&'static str, fn(&Array<i32>) -> Array<f64>);
    let cases: [Case; 19] = [
        ("mean", |k| k.mean()),
        ("means", |k| k.mean_axis(Axis(0))),
        ("var", |k| k.var(0.0)),
        ("std of i8", |k| k.cast::<i8>().std(1.0)),
        ("norm", |k| k.norm()),
        ("count", |k| k.count_nonzero().cast()),
        ("sum of i8", |k| k.cast::<i8>().sum().cast()),
        ("sum of u16", |k| k.abs().cast::<u16>().sum().cast()),
        ("product", |k| (k.cast::<u8>() % 3).prod().cast()),
        ("sum in f64", |k| k.cast::<f64>().sum()),
        ("least in f64", |k| k.cast::<f64>().min()),
        ("place in f64", |k| k.cast::<f64>().argmax().cast()),
        ("sum of bool in f64", |k| k.gt(3).cast::<f64>().sum()),
        ("sum in f64 of f32", |k| (k.cast::<f32>() * 0.1).cast::<f64>().sum()),
        ("var in f64 of f32", |k| (k.cast::<f32>() * 1e20).cast::<f64>().var(0.0)),
        ("sum in i64 of f32", |k| (k.cast::<f32>() * 1.7).cast::<i64>().sum().cast()),
        ("most in i64 of f32", |k| (k.cast::<f32>() * 1.7).cast::<i64>().max().cast()),
        ("most in u64", |k| k.cast::<u64>().max().cast()),
        ("place in u64", |k| k.cast::<u64>().argmin().cast()),
    ];
    let mut there = 0;
    for (no_f64, no_i64) in [(true, true), (true, false), (false, true)] {
        let Some(gpu) = without(no_f64, no_i64) else { return };
        let session = support::gpu::session(Placement::Gpu, &[gpu]);
        for chunks in [(300, 200), (100, 70)] {
            for (name, make) in cases {
                let on = |session: &Session| make(&Array::from(whole.clone()).in_session(session).chunks(chunks));
                let (found, run) = on(&session).run().unwrap_or_else(|e| panic!("{name}: {e}"));
                let wanted = on(&near).compute().expect("on the CPU");
                there += tasks_on(&run, "gpu0");
                for (found, wanted) in found.iter().zip(&wanted) {
                    let close = (found - wanted).abs() <= 1e-13 * wanted.abs();
                    assert!(close, "{name}, {chunks:?}, f64 {}, i64 {}: {found} {wanted}", !no_f64, !no_i64);
                }
            }
        }
    }
    assert!(there > 100, "{there} tasks on the GPU");
}
