//! Kernels on one thread, with the limits of the machine measured in the same run: FMA peak and read bandwidth.
//!
//! The fraction of the roofline is a kernel's rate over that of its limit: `mandelbrot` over `limits/fma`, `gemv` and
//! `sum` over `limits/read` (one stream, or four at once, which some prefetchers serve better). Flops are those of the
//! kernel's work estimate: 8 per Mandelbrot step. Run a part with `cargo bench --bench kernels -- gemv`.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use chunkwise::kernel::points::ogrid;
use chunkwise::kernel::random::{Distribution, RandomParams, SpdParams};
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::kernel::{Kernel, Scratch, gemv, mandelbrot, random, simd};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Element, Layout, Region};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fearless_simd::{Simd, dispatch, prelude::*};

/// Elements of the arrays that are read from memory: 128 MiB of `f64`.
const LARGE: usize = 1 << 24;

/// A contiguous chunk with its memory.
struct Chunk<T> {
    data: Vec<T>,
    layout: Layout,
}

impl<T: Element> Chunk<T> {
    fn new(shape: &[usize], value: T) -> Self {
        Self { data: vec![value; shape.iter().product()], layout: Layout::contiguous(T::DTYPE, shape) }
    }

    fn of(data: Vec<T>) -> Self {
        Self { layout: Layout::contiguous(T::DTYPE, &[data.len()]), data }
    }

    fn view(&self) -> ChunkView<'_> {
        ChunkView::from_slice(&self.data, &self.layout)
    }

    fn compute(&mut self, kernel: &dyn Kernel, params: &[u8], inputs: &[ChunkView<'_>]) {
        let metas = inputs.iter().map(|input| ChunkMeta::new(input.layout().dtype, input.shape()));
        let metas: Vec<_> = metas.chain([ChunkMeta::new(T::DTYPE, &self.layout.shape)]).collect();
        let mut scratch = vec![0; kernel.scratch_bytes(params, &metas) as usize];
        let mut out = [ChunkViewMut::from_slice(&mut self.data, &self.layout)];
        kernel.run_cpu(params, inputs, &mut out, &mut Scratch::new(&mut scratch)).expect("these kernels have no faults");
    }
}

/// Multiply-adds on ten independent vectors: flops done.
#[inline(always)]
fn fma<S: Simd>(simd: S, rounds: usize) -> f64 {
    let (a, b) = (S::f64s::splat(simd, black_box(0.999)), S::f64s::splat(simd, black_box(1e-3)));
    let mut x = [a; 10];
    for _ in 0..rounds {
        for x in &mut x {
            *x = x.mul_add(a, b);
        }
    }
    black_box(x.map(|x| x.as_slice()[0]));
    (rounds * 20 * S::f64s::LEN) as f64
}

/// Reads every byte, in `STREAMS` streams at once.
#[inline(always)]
fn read<S: Simd, const STREAMS: usize>(simd: S, x: &[u64]) -> u64 {
    let lanes = S::u64s::LEN;
    let mut all = [[S::u64s::splat(simd, 0); 2]; STREAMS];
    let streams: [&[u64]; STREAMS] = std::array::from_fn(|s| &x[s * (x.len() / STREAMS)..][..x.len() / STREAMS]);
    for i in (0..streams[0].len()).step_by(2 * lanes) {
        for (all, stream) in all.iter_mut().zip(streams) {
            all[0] |= S::u64s::from_slice(simd, &stream[i..i + lanes]);
            all[1] |= S::u64s::from_slice(simd, &stream[i + lanes..i + 2 * lanes]);
        }
    }
    all.iter().flatten().flat_map(|v| v.as_slice()).fold(0, |a, b| a | b)
}

fn limits(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("limits ({})", simd::simd_name()));
    let flops = dispatch!(simd::level(), simd => fma(simd, 1000));
    group.throughput(Throughput::Elements(flops as u64));
    group.bench_function("fma, flops", |b| b.iter(|| dispatch!(simd::level(), simd => fma(simd, 1000))));
    let x = vec![1u64; LARGE];
    group.throughput(Throughput::Bytes(8 * LARGE as u64));
    group.bench_function("read, 1 stream", |b| b.iter(|| dispatch!(simd::level(), simd => read::<_, 1>(simd, &x))));
    group.bench_function("read, 4 streams", |b| b.iter(|| dispatch!(simd::level(), simd => read::<_, 4>(simd, &x))));
    group.finish();
}

fn mandelbrot(c: &mut Criterion) {
    let mut group = c.benchmark_group("mandelbrot, flops");
    for (m, n, iterations) in [(500, 750, 20), (200, 300, 500)] {
        let (x, y) = (ogrid(-1.5, 0.0, n), ogrid(-1.0, 0.0, m));
        let narrow = |v: &[f64]| Chunk::of(v.iter().map(|&v| v as f32).collect());
        let (x32, y32) = (narrow(&x), narrow(&y));
        let (x, y) = (Chunk::of(x), Chunk::of(y));
        let params = mandelbrot::MandelbrotParams { iterations };
        let mut out = Chunk::new(&[m, n], 0i32);
        for (dtype, inputs) in [(DType::F64, [x.view(), y.view()]), (DType::F32, [x32.view(), y32.view()])] {
            out.compute(&mandelbrot::Mandelbrot, bytemuck::bytes_of(&params), &inputs);
            let steps: u64 = out.data.iter().map(|&k| u64::from((k as u32 + 1).min(iterations))).sum();
            group.throughput(Throughput::Elements(8 * steps));
            group.bench_function(format!("{m}x{n}, {iterations} iterations, {dtype}"), |b| {
                b.iter(|| out.compute(&mandelbrot::Mandelbrot, bytemuck::bytes_of(&params), &inputs));
            });
        }
    }
    group.finish();
}

fn gemv_of<T: Element>(c: &mut Criterion, one: T) {
    let mut group = c.benchmark_group("gemv");
    for (m, k) in [(64, 512), (2048, 8192), (32_768, 512)] {
        let (a, x, mut y) = (Chunk::new(&[m, k], one), Chunk::new(&[k], one), Chunk::new(&[m], one));
        group.throughput(Throughput::Bytes(a.layout.bytes()));
        group.bench_function(format!("{m}x{k}, {}", T::DTYPE), |b| {
            b.iter(|| y.compute(&gemv::Gemv, &[], &[a.view(), x.view()]));
        });
    }
    group.finish();
}

fn gemv(c: &mut Criterion) {
    gemv_of(c, 1f64);
    gemv_of(c, 1f32);
}

fn sum_of<T: Element>(c: &mut Criterion, one: T) {
    let mut group = c.benchmark_group("sum");
    for n in [1 << 14, LARGE] {
        let (x, mut out) = (Chunk::new(&[n], one), Chunk::new(&[1], 0f64));
        let kernel = ReduceChunk::plain(Reduction::Sum, (&[0], &[n]), T::DTYPE);
        group.throughput(Throughput::Bytes(x.layout.bytes()));
        group.bench_function(format!("{n}, {}", T::DTYPE), |b| b.iter(|| out.compute(&kernel, &[], &[x.view()])));
    }
    group.finish();
}

fn sum(c: &mut Criterion) {
    sum_of(c, 1f64);
    sum_of(c, 1f32);
}

fn uniform_of<T: Element>(c: &mut Criterion, zero: T) {
    let mut group = c.benchmark_group("random");
    let n = 1 << 14; // stays in L2
    let mut out = Chunk::new(&[128, 128], zero);
    group.throughput(Throughput::Elements(n));
    let p = RandomParams::new(1, 2, &[128, 128], &Region::all(&[128, 128])).expect("the chunk is the array");
    for what in [Distribution::Uniform, Distribution::Normal] {
        group.bench_function(format!("{}, {}", what.name(), T::DTYPE), |b| {
            b.iter(|| out.compute(&random::Random(what), &p.to_bytes(), &[]));
        });
    }
    for (name, row, column) in [("left of", 1000, 0), ("right of", 0, 1000)] {
        let p = SpdParams { seed: 1, stream: 2, row, row_step: 1, column, column_step: 1, order: 2000 };
        group.bench_function(format!("spd {name} the diagonal, {}", T::DTYPE), |b| {
            b.iter(|| out.compute(&random::Spd, bytemuck::bytes_of(&p), &[]));
        });
    }
    group.finish();
}

fn uniform(c: &mut Criterion) {
    uniform_of(c, 0f64);
    uniform_of(c, 0f32);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = limits, mandelbrot, gemv, sum, uniform
}
criterion_main!(benches);
