//! Reductions on a GPU: every fold on every dtype, along any axes, of whatever is seen of chunks, against the CPU's results.
//!
//! Owns: which reductions are tried. Must not know: generated text. Invariant: what is exact is compared to the bit; sums, products and moments of floats within the bounds that
//! the kernel states.
#![cfg(feature = "gpu")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chunkwise::kernel::Kernel;
use chunkwise::kernel::map::{Builder, ScalarOp};
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::shape::{ChunkMeta, View};
use chunkwise::{Array, DType, prelude::*};
use support::bytes::{Bytes, Seen, compare, on_cpu, on_gpu};
use support::lab::{ANY, Lab};
use support::watched::Watched;

support::gpus!();

fn lab() -> Option<Lab> {
    gpu().map(|gpu| Lab { gpu })
}

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

/// Elements of a dtype: of floats between a half and one and a half, every 50th NaN if they are to be chosen from.
fn chunk(what: Reduction, dtype: DType, shape: &[usize], seed: u64) -> Bytes {
    let state = std::cell::Cell::new(seed | 1);
    let next = || {
        state.set(state.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        state.get() >> 16
    };
    let chosen = !matches!(what, Reduction::Sum | Reduction::Prod | Reduction::Moments);
    let float = || match next() % 50 {
        0 if chosen && seed % 2 == 1 => f64::NAN,
        1 if chosen => -0.0,
        2 if chosen => f64::NEG_INFINITY,
        _ => 0.5 + (next() % 4096) as f64 / 4096.0,
    };
    Bytes::new(dtype, shape, |_| match dtype {
        DType::Bool => vec![u8::from(next() % 100 > 0)],
        DType::F64 => float().to_ne_bytes().into(),
        DType::F32 => (float() as f32).to_ne_bytes().into(),
        DType::C64 => [float() as f32, float() as f32 / 4096.0].iter().flat_map(|x| x.to_ne_bytes()).collect(),
        DType::C128 => [float(), float() / 4096.0].iter().flat_map(|x| x.to_ne_bytes()).collect(),
        _ => (next() >> 3).to_ne_bytes()[..dtype.bytes()].into(),
    })
}

/// Whether a reduction is there for a dtype.
fn is_for(what: Reduction, dtype: DType) -> bool {
    match what {
        // Arrays of halves are cast first.
        _ if matches!(dtype, DType::F16 | DType::BF16) => false,
        Reduction::Sum | Reduction::Prod => true,
        Reduction::FMin | Reduction::FMax => dtype.is_float(),
        _ => !dtype.is_complex(),
    }
}

/// Whether all is tried; else a part of it, each of what there is in some combination.
fn exhaustive() -> bool {
    std::env::var_os("EXHAUSTIVE").is_some()
}

/// Compares one, and watches its indices too, every fourth of them unless all is tried.
#[track_caller]
fn check(lab: &Lab, what: &str, reduction: Reduction, kernel: &Arc<dyn Kernel>, inputs: &[Seen], out: (DType, &[usize])) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    // Where the chunk begins in the whole, along each axis.
    let params: Vec<u8> =
        if reduction.is_numbered() { [7u64, 1 << 33, 3].iter().flat_map(|n| n.to_ne_bytes()).collect() } else { Vec::new() };
    let found = on_gpu(lab, (kernel, &params), inputs, out).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    if exhaustive() || COUNT.fetch_add(1, Ordering::Relaxed).is_multiple_of(4) {
        let watched: Arc<dyn Kernel> = Arc::new(Watched::kernel(kernel.clone()));
        on_gpu(lab, (&watched, &params), inputs, out).unwrap_or_else(|e| panic!("{what}, watched: {e:?}"));
    }
    let wanted = on_cpu((&**kernel, &params), inputs, out);
    // Relative: all that is added is positive, and moments are of numbers around one. (Of `f32`, sums are of pairs.)
    let ulps = match reduction {
        Reduction::Sum | Reduction::Prod | Reduction::Moments if out.0 == DType::F64 => 2e4,
        _ => 0.0,
    };
    compare(&found, &wanted, ulps).unwrap_or_else(|e| panic!("{what}: {e}"));
}

fn plain(what: Reduction, axes: &[usize], shape: &[usize], dtype: DType) -> Arc<dyn Kernel> {
    let extents: Vec<usize> = axes.iter().map(|&axis| 20 * shape[axis] + (1 << 20)).collect();
    Arc::new(ReduceChunk::plain(what, (axes, &extents), dtype))
}

fn output(what: Reduction, dtype: DType, shape: &[usize], axes: &[usize]) -> (DType, Vec<usize>) {
    let (partial, words) = what.partial(what.reads(dtype));
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]);
    (partial, [words].into_iter().chain(kept).collect())
}

#[test]
fn every_fold_of_every_dtype_along_any_axes() {
    let Some(lab) = lab() else { return };
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[3000], &[0]),
        (&[7, 9], &[0, 1]),
        (&[20_001], &[0]),
        (&[12, 64], &[1]),
        (&[12, 63], &[1]),
        (&[70, 8], &[0]),
        (&[70, 7], &[0]),
        (&[4, 9, 6], &[1]),
        (&[5, 6, 8], &[0, 2]),
    ];
    for what in ALL {
        for (number, &dtype) in DType::ALL.iter().enumerate().filter(|(_, dtype)| is_for(what, **dtype)) {
            // What is cast before it is reduced is reduced as another one is.
            let is_cast = what.reads(dtype) != dtype && !exhaustive();
            let some = |(turn, _): &(usize, _)| !is_cast || (turn + number) % 3 == 0;
            for (turn, (shape, axes)) in shapes.iter().enumerate().filter(some) {
                let shape =
                    if what == Reduction::Prod { &shape.iter().map(|n| (*n).min(40)).collect::<Vec<_>>()[..] } else { *shape };
                let kernel = plain(what, axes, shape, dtype);
                let inputs = [Seen::whole(chunk(what, dtype, shape, turn as u64))];
                let (partial, extents) = output(what, dtype, shape, axes);
                check(
                    &lab,
                    &format!("{} of {dtype} {shape:?} along {axes:?}", what.name()),
                    what,
                    &kernel,
                    &inputs,
                    (partial, &extents),
                );
            }
        }
    }
}

#[test]
fn what_is_reduced_is_computed_and_read_where_it_lies() {
    let Some(lab) = lab() else { return };
    let mut b = Builder::new();
    let (x, y) = (b.input(DType::F32), b.input(DType::I16));
    let y = b.cast(y, DType::F32);
    let product = b.apply(ScalarOp::Mul, &[x, y]);
    let one = b.constant(1f32);
    let sum = b.apply(ScalarOp::Add, &[product, one]);
    let size = b.apply(ScalarOp::Abs, &[sum]);
    let program = Arc::new(b.finish(size).0);
    for (m, n) in [(40, 52), (33, 1025), (3, 7)] {
        let turned = View::whole(&[n, m]).permute(&[1, 0]).unwrap();
        let row = View::whole(&[n]).broadcast(&[m, n]).unwrap();
        let window = View::whole(&[m + 2, n + 3]).slice(0, 1, m, 1).unwrap().slice(1, 2, n, 1).unwrap();
        let steps = View::whole(&[m, 2 * n]).slice(1, 2 * n - 1, n, -2).unwrap();
        let shapes = [vec![m, n], vec![n, m], vec![n], vec![m + 2, n + 3], vec![m, 2 * n]];
        let views = [View::whole(&[m, n]), turned, row, window, steps];
        for first in 0..views.len() {
            for (turn, axes) in [&[0][..], &[1], &[0, 1]].into_iter().enumerate() {
                let second = (first + turn + 1) % views.len();
                let extents: Vec<usize> = axes.iter().map(|&axis| [m, n][axis]).collect();
                for what in [Reduction::Sum, Reduction::Max] {
                    let kernel: Arc<dyn Kernel> = Arc::new(ReduceChunk::new(what, (axes, &extents), program.clone()));
                    let inputs = [
                        Seen { chunk: chunk(what, DType::F32, &shapes[first], 4), view: views[first].clone() },
                        Seen { chunk: chunk(what, DType::I16, &shapes[second], 6), view: views[second].clone() },
                    ];
                    let (partial, out) = output(what, DType::F32, &[m, n], axes);
                    check(
                        &lab,
                        &format!("{m} x {n}, views {first} and {second}, along {axes:?}"),
                        what,
                        &kernel,
                        &inputs,
                        (partial, &out),
                    );
                }
            }
        }
    }
}

/// Of what is made there are no bytes that would bound how much there is: more than words can count is a CPU's work.
#[test]
fn more_than_can_be_counted_has_no_program() {
    let many = |n: usize| {
        let shape = [n, 1 << 16];
        let kernel = plain(Reduction::Sum, &[0, 1], &shape, DType::Bool);
        let metas = [ChunkMeta::new(DType::Bool, &shape), ChunkMeta::new(DType::U64, &[1])];
        kernel.program(&[], &metas, &ANY).is_some()
    };
    assert!(many(1 << 10) && !many(1 << 16));
    let Some(gpu) = gpu() else { return };
    let session = support::gpu::session(Placement::Gpu, &[gpu]);
    let all = session.rng(1).uniform::<f32>((1 << 16, 1 << 16)).chunks((1 << 16, 1 << 16)).mean();
    let text = all.explain().expect("planned").to_string();
    assert!(text.contains("too many elements"), "{text}");
}

#[test]
fn sums_of_large_numbers_are_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let session = support::gpu::session(Placement::Gpu, &[gpu]);
    let large = Array::<f32>::full(40_000, 3e38).in_session(&session).chunks(30_000) * 1.0;
    let mean = large.mean().compute_scalar().expect("computes");
    let has_f64 = session.devices().iter().any(|d| d.gpu.is_some_and(|facts| facts.f64));
    assert!(!has_f64 || (mean - f64::from(3e38f32)).abs() < 1e30, "{mean:e}");
}
