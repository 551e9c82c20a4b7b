//! The scheduler's own cost: building a graph, and all steps of a simulated run, per task.
//!
//! Owns: independent tasks, random work and Cholesky, on a CPU and on a CPU with a simulated GPU. Must not know: real devices.
//! Invariant: throughput is tasks per second of whole runs, events and actions of the virtual clock included.

use std::sync::Arc;

use chunkwise::device::{DeviceKind, DeviceSpec, HOST, LinkSpec};
use chunkwise::id::SpaceId;
use chunkwise::schedule::simulate::{Simulation, simulate};
use chunkwise::schedule::{CANNOT, EarliestFinish};
use chunkwise::task::TaskGraph;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::graphs;

fn device(kind: DeviceKind, workers: u32, queue: u32, own: Option<SpaceId>) -> DeviceSpec {
    let link = LinkSpec { latency_ns: 10_000, bytes_per_s: 20e9 };
    let (space, link) = (own.unwrap_or(HOST), own.map(|_| [link, link]));
    DeviceSpec { name: "bench".into(), model: "bench".into(), kind, workers, queue, space, link, gpu: None }
}

fn simulation(graph: &TaskGraph, only: &[Option<bool>], gpu: bool) -> Simulation {
    let mut devices = vec![device(DeviceKind::Cpu, 16, 16, None), device(DeviceKind::Io, 2, 2, None)];
    let can = |task: usize, io: bool, host: bool| match only.get(task).copied().flatten() {
        Some(is_io) => is_io == io && host,
        None => !io,
    };
    let column = |device: usize, io: bool, host: bool, ns: u64| {
        graphs::costs(graph, device, |t| if can(t.index(), io, host) { ns } else { CANNOT })
    };
    let mut beliefs = vec![column(0, false, true, 1_000_000), column(1, true, true, 1_000_000)];
    if gpu {
        devices.push(device(DeviceKind::Gpu, 1, 6, Some(SpaceId(1))));
        beliefs.push(column(2, false, false, 100_000));
    }
    Simulation::new(devices, beliefs)
}

/// A name, a graph, and which of its tasks only the host (false) or only the I/O lane (true) can run.
type Case = (&'static str, Arc<TaskGraph>, Vec<Option<bool>>);

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    group.sample_size(10);
    let (random, only) = graphs::random(7, 100_000);
    let cases: [Case; 4] = [
        ("independent/100000", graphs::map(100_000, 1), Vec::new()),
        ("random/100000", random, only),
        ("cholesky/32", graphs::cholesky(32, 1 << 16).0, Vec::new()),
        ("cholesky/64", graphs::cholesky(64, 1 << 16).0, Vec::new()),
    ];
    for (name, graph, only) in &cases {
        group.throughput(Throughput::Elements(graph.len() as u64));
        for (platform, gpu) in [("cpu", false), ("cpu and gpu", true)] {
            let sim = simulation(graph, only, gpu);
            group.bench_function(format!("{name}/{platform}"), |b| {
                b.iter(|| simulate(graph, &sim, Box::new(EarliestFinish)).expect("no limit, no faults"));
            });
        }
    }
    group.finish();
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("planning");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("independent/100000", |b| b.iter(|| graphs::map(100_000, 1)));
    group.throughput(Throughput::Elements(graphs::cholesky(64, 1).0.len() as u64));
    group.bench_function("cholesky/64", |b| b.iter(|| graphs::cholesky(64, 1 << 16)));
    group.finish();
}

criterion_group!(benches, step, planning);
criterion_main!(benches);
