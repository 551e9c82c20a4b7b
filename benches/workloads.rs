//! The four workloads through the whole library: planning, scheduling, running, allocating the output.
//!
//! Owns: the figures per workload, size and dtype. Must not know: kernels. Invariant: every sample computes; none only builds a graph, except
//! those of the group `planning`, which says so.

use std::hint::black_box;

use chunkwise::shape::Float;
use chunkwise::{Array, Session};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use support::picture::picture;

fn session() -> Session {
    Session::builder().build().expect("default settings")
}

fn mandelbrot<T: Float>(c: &mut Criterion) {
    let session = session();
    let mut group = c.benchmark_group(format!("mandelbrot/{}", T::DTYPE));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for (rows, columns) in [(200, 300), (800, 1200), (2000, 3000)] {
        let counts = picture::<T>(rows, columns, 20).in_session(&session);
        group.throughput(Throughput::Elements((rows * columns) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{rows}x{columns}")), |b| {
            b.iter(|| black_box(counts.compute()))
        });
    }
}

fn matvec<T: Float>(c: &mut Criterion) {
    let session = session();
    let mut group = c.benchmark_group(format!("matvec/{}", T::DTYPE));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for n in [500, 2000, 6000] {
        let make = |shape: &[usize]| Array::from(session.default_rng().uniform::<T>(shape).compute().expect("fits"));
        let y = make(&[n, n]).in_session(&session).matvec(&make(&[n]));
        group.throughput(Throughput::Bytes((n * n * T::DTYPE.bytes()) as u64));
        group.bench_function(BenchmarkId::from_parameter(n), |b| b.iter(|| black_box(y.compute())));
    }
}

fn blocked_mean<T: Float>(c: &mut Criterion) {
    let session = session();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = c.benchmark_group(format!("blocked_mean/{}", T::DTYPE));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for rows in [500, 10_000] {
        let file = format!("{}/{rows}.h5:/x", folder.path().display());
        session.default_rng().uniform::<T>([rows, 2048]).store(&file).expect("room for the file");
        let mean = Array::<T>::open(&file).expect("just written").in_session(&session).mean();
        group.throughput(Throughput::Bytes((rows * 2048 * T::DTYPE.bytes()) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{rows}x2048")), |b| b.iter(|| black_box(mean.compute())));
    }
}

fn cholesky<T: Float>(c: &mut Criterion) {
    let session = session();
    let mut group = c.benchmark_group(format!("cholesky/{}", T::DTYPE));
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for n in [300, 1000, 2000] {
        let a = session.default_rng().spd::<T>(n).compute().expect("fits");
        let l = Array::from(a).in_session(&session).cholesky();
        group.throughput(Throughput::Elements((n * n * n / 3) as u64));
        group.bench_function(BenchmarkId::from_parameter(n), |b| b.iter(|| black_box(l.compute())));
    }
}

/// Only lowering, pricing and simulating: nothing is computed.
fn planning(c: &mut Criterion) {
    let session = session();
    let mut group = c.benchmark_group("planning");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for chunk in [200, 40] {
        let l = session.default_rng().spd::<f64>(4000).cholesky().chunks(chunk);
        let t = 4000 / chunk;
        group.throughput(Throughput::Elements((t * (t + 1) * (t + 2) / 6) as u64));
        group.bench_function(BenchmarkId::new("cholesky tasks, tile", chunk), |b| b.iter(|| black_box(l.explain())));
    }
}

/// The whole runtime on tasks that do almost nothing.
fn overhead(c: &mut Criterion) {
    let session = session();
    let mut group = c.benchmark_group("overhead");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for tasks in [1000, 20_000] {
        group.throughput(Throughput::Elements(tasks as u64));
        group.bench_function(BenchmarkId::new("random additions", tasks), |b| {
            b.iter(|| support::dag::random_dag(&session, black_box(tasks)).expect("the checksum holds"));
        });
    }
}

criterion_group!(
    benches,
    mandelbrot::<f32>,
    mandelbrot::<f64>,
    matvec::<f32>,
    matvec::<f64>,
    blocked_mean::<f32>,
    blocked_mean::<f64>,
    cholesky::<f32>,
    cholesky::<f64>,
    planning,
    overhead
);
criterion_main!(benches);
