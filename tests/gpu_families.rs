//! No fallback hides: of each family of operations, how many launches a GPU makes, and what of it is left to the CPU.
//!
//! Owns: the table of families. Must not know: results (tests/gpu_arrays.rs, tests/gpu_runs.rs). Invariant: launches are counted by the device, tasks by the run's
//! record, kernel by kernel; a family that falls back fails with its name.
#![cfg(feature = "gpu")]

use std::collections::BTreeMap;
use std::sync::Arc;

use chunkwise::device::Device;
use chunkwise::id::DeviceId;
use chunkwise::ndarray::{ArrayD, IxDyn, s};
use chunkwise::runtime::RunReport;
use chunkwise::{Array, Element, concatenate, prelude::*, where_};
use support::gpu::{cholesky, matvec, session, spd};
use support::picture::picture;

support::gpus!();

const GPU: DeviceId = DeviceId(2);

/// Four chunks of 100 x 75.
const SHAPE: [usize; 2] = [200, 150];
const CHUNK: (usize, usize) = (100, 75);

fn numbers<T: Float>(session: &Session) -> Array<T> {
    let of = |i: IxDyn| T::from_f64(((i[0] * 7 + i[1] * 11) % 101) as f64 / 31.0 - 1.3);
    Array::from(ArrayD::from_shape_fn(IxDyn(&SHAPE), of)).in_session(session).chunks(CHUNK)
}

fn ran<T: Element>(array: Array<T>) -> RunReport {
    array.run().expect("it runs").1
}

/// How many tasks of which kernels.
type Tasks = &'static [(&'static str, usize)];

/// A family by its name, what of it is run, the tasks that the GPU has of it, and those that the CPU has: of reductions, sums of sums.
type Family = (&'static str, fn(&Session) -> RunReport, Tasks, Tasks);

const NONE: Tasks = &[];

/// Launches that are no tasks: views put in order for kernels that read whole chunks.
const PACKED: &str = "(packed)";

/// One stage each, so one launch a chunk.
const ELEMENTWISE: &[Family] = &[
    ("arithmetic", |s| ran(2.0 * numbers::<f32>(s) * numbers::<f32>(s) + 1.0), &[("multiply + multiply + add", 4)], NONE),
    ("functions", |s| ran(numbers::<f32>(s).sin() * numbers::<f32>(s).exp()), &[("sin + exp + multiply", 4)], NONE),
    ("integers", |s| ran((numbers::<f32>(s).cast::<i32>() << 3) % 7), &[("cast + shift_left + rem", 4)], NONE),
    ("casts", |s| ran(numbers::<f32>(s).cast::<i8>()), &[("cast", 4)], NONE),
    ("comparisons", |s| ran(numbers::<f32>(s).gt(0.5)), &[("lt", 4)], NONE),
    (
        "choices",
        |s| ran(where_(&numbers::<f32>(s).gt(0.5), numbers::<f32>(s), -numbers::<f32>(s))),
        &[("lt + negate + where", 4)],
        NONE,
    ),
    ("transposes", |s| ran(numbers::<f32>(s).t() + 1.0), &[("add", 4)], NONE),
    ("slices", |s| ran(numbers::<f32>(s).slice(s![..;2, ..;-1]) + 1.0), &[("add", 4)], NONE),
    ("broadcasts", |s| ran(numbers::<f32>(s) + numbers::<f32>(s).index_axis(Axis(0), 3)), &[("add", 4)], NONE),
    (
        "windows",
        |s| ran(numbers::<f32>(s).slice(s![1.., ..]) - numbers::<f32>(s).slice(s![..-1, ..])),
        &[("subtract", 4)],
        NONE,
    ),
    (
        "joined arrays",
        |s| ran(concatenate(Axis(0), &[&(numbers::<f32>(s) + 1.0), &(numbers::<f32>(s) * 2.0)])),
        &[("add", 4), ("multiply", 4)],
        NONE,
    ),
    ("uniform numbers", |s| ran(s.rng(1).uniform::<f32>(SHAPE).chunks(CHUNK) + 1.0), &[("uniform + add", 4)], NONE),
    ("random integers", |s| ran(s.rng(1).integers::<i32>(0..10, SHAPE).chunks(CHUNK) + 1), &[("integers + add", 4)], NONE),
    ("random booleans", |s| ran(!s.rng(1).bernoulli(0.3, SHAPE).chunks(CHUNK)), &[("bernoulli + not", 4)], NONE),
    ("random numbers alone", |s| ran(s.rng(1).uniform::<f32>(SHAPE).chunks(CHUNK)), &[("uniform", 4)], NONE),
    ("indices", |s| ran(Array::<f32>::arange(0.0, 40_000.0, 1.0).in_session(s).chunks(10_000) * 0.5), &[("multiply", 4)], NONE),
    ("constants", |s| ran(Array::<f32>::ones(SHAPE).in_session(s).chunks(CHUNK) + numbers::<f32>(s)), &[("add", 4)], NONE),
];

/// A partial result of each chunk; those of a lane are put together by the CPU: two lanes of chunks along an axis, one of all.
const REDUCTIONS: &[Family] = &[
    ("sum", |s| ran(numbers::<f32>(s).sum()), &[("sum", 4)], &[("finish_sum", 1)]),
    ("sum along an axis", |s| ran(numbers::<f32>(s).over(Axis(0)).sum()), &[("sum", 4)], &[("finish_sum", 2)]),
    (
        "sum of what is computed",
        |s| ran(numbers::<f32>(s).square().over(Axis(1)).sum()),
        &[("multiply + sum", 4)],
        &[("finish_sum", 2)],
    ),
    ("mean", |s| ran(numbers::<f32>(s).mean()), &[("sum", 4)], &[("finish_sum", 1)]),
    ("prod", |s| ran(numbers::<f32>(s).over(Axis(1)).prod()), &[("prod", 4)], &[("finish_prod", 2)]),
    ("min", |s| ran(numbers::<f32>(s).over(Axis(0)).min()), &[("min", 4)], &[("finish_min", 2)]),
    ("max", |s| ran(numbers::<f32>(s).max()), &[("max", 4)], &[("finish_max", 1)]),
    ("argmin", |s| ran(numbers::<f32>(s).over(Axis(1)).argmin()), &[("argmin", 4)], &[("finish_argmin", 2)]),
    ("argmax", |s| ran(numbers::<f32>(s).over(Axis(0)).argmax()), &[("argmax", 4)], &[("finish_argmax", 2)]),
    ("any", |s| ran(numbers::<f32>(s).gt(2.0).any()), &[("lt + cast + max", 4)], &[("finish_max", 1)]),
    ("all", |s| ran(numbers::<f32>(s).gt(-2.0).over(Axis(0)).all()), &[("lt + cast + min", 4)], &[("finish_min", 2)]),
    ("var", |s| ran(numbers::<f32>(s).over(Axis(0)).var(0.0)), &[("moments", 4)], &[("finish_moments", 2)]),
];

/// Four slabs; four rows of tiles; four chunks.
const KERNELS: &[Family] = &[
    ("matvec", |s| ran(matvec::<f32>(s).expect("shapes")), &[("gemv", 4)], NONE),
    // What is turned or cut is put in order by the GPU, each chunk once.
    (
        "matvec of a transpose",
        |s| ran(numbers::<f32>(s).chunks((200, 75)).t().matvec(&numbers(s).index_axis(Axis(1), 3))),
        &[("gemv", 2), (PACKED, 3)],
        NONE,
    ),
    (
        "matvec of a slice",
        |s| ran(numbers::<f32>(s).chunks((100, 150)).slice(s![..;2, ..;-1]).matvec(&numbers(s).index_axis(Axis(0), 3))),
        &[("gemv", 2), (PACKED, 3)],
        NONE,
    ),
    (
        "matvec of random numbers",
        |s| ran(s.rng(1).uniform::<f32>(SHAPE).chunks((100, 150)).matvec(&numbers(s).index_axis(Axis(0), 3))),
        &[("gemv", 2), ("uniform", 2), (PACKED, 1)],
        NONE,
    ),
    (
        "dot of slices",
        |s| ran(numbers::<f32>(s).index_axis(Axis(1), 3).dot(&numbers::<f32>(s).index_axis(Axis(1), 4))),
        &[("cast + cast + multiply + sum", 2)],
        &[("finish_sum", 1)],
    ),
    (
        "dot of random numbers",
        |s| ran(s.rng(1).uniform::<f32>(40_000).chunks(20_000).dot(&s.rng(2).uniform::<f32>(40_000).chunks(20_000))),
        &[("uniform + uniform + cast + cast + multiply + sum", 2)],
        &[("finish_sum", 1)],
    ),
    (
        "cholesky of a transpose",
        |s| ran(Array::from(spd::<f32>(160)).in_session(s).t().chunks(40).cholesky()),
        &[("gemm", 4), ("potrf", 4), ("syrk", 6), ("trsm", 6)],
        &[("copy", 10)], // of tiles that are updated: in host memory, where the matrix is
    ),
    (
        "cholesky",
        |s| ran(cholesky::<f32>(s, 160, 40).expect("shapes")),
        &[("gemm", 4), ("potrf", 4), ("syrk", 6), ("trsm", 6)],
        NONE,
    ),
    ("mandelbrot", |s| ran(picture::<f32>(61, 97, 50).in_session(s).chunks((31, 49))), &[("mandelbrot", 4)], NONE),
];

/// Of 64-bit numbers, which not all adapters have.
const WIDE: &[Family] = &[
    ("f64 arithmetic", |s| ran(2.0 * numbers::<f64>(s) + 1.0), &[("multiply + add", 4)], NONE),
    ("f64 functions", |s| ran(numbers::<f64>(s).tanh() + numbers::<f64>(s).sqrt()), &[("tanh + sqrt + add", 4)], NONE),
    ("f64 choices", |s| ran(where_(&numbers::<f64>(s).gt(0.5), numbers::<f64>(s), 0.0)), &[("lt + where", 4)], NONE),
    ("f64 normal numbers", |s| ran(s.rng(1).normal::<f64>(SHAPE).chunks(CHUNK) + 1.0), &[("normal + add", 4)], NONE),
    ("i64 casts", |s| ran(numbers::<f32>(s).cast::<i64>()), &[("cast", 4)], NONE),
    ("f64 sum", |s| ran(numbers::<f64>(s).over(Axis(0)).sum()), &[("sum", 4)], &[("finish_sum", 2)]),
    ("f64 var", |s| ran(numbers::<f64>(s).var(0.0)), &[("moments", 4)], &[("finish_moments", 1)]),
    ("f64 matvec", |s| ran(matvec::<f64>(s).expect("shapes")), &[("gemv", 4)], NONE),
    (
        "f64 cholesky",
        |s| ran(cholesky::<f64>(s, 160, 40).expect("shapes")),
        &[("gemm", 4), ("potrf", 4), ("syrk", 6), ("trsm", 6)],
        NONE,
    ),
    ("f64 mandelbrot", |s| ran(picture::<f64>(61, 97, 50).in_session(s).chunks((31, 49))), &[("mandelbrot", 4)], NONE),
];

/// What a run's record says of the GPU, or of all else, beside what it is to say.
fn tasks(run: &RunReport, on_gpu: bool, wanted: Tasks) -> [BTreeMap<String, usize>; 2] {
    let mut found = BTreeMap::new();
    for span in run.spans.iter().filter(|span| (span.device == GPU) == on_gpu) {
        *found.entry(run.graph.kernel_name(span.task).to_owned()).or_default() += 1;
    }
    let wanted = wanted.iter().filter(|kernel| kernel.0 != PACKED);
    [found, wanted.map(|&(kernel, tasks)| (kernel.to_owned(), tasks)).collect()]
}

/// All families that are not as the table says.
fn wrong(session: &Session, families: &[Family]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, run, there, here) in families {
        let before = session.counters(GPU).launches;
        let run = run(session);
        let launches = session.counters(GPU).launches - before;
        let wanted: usize = there.iter().map(|kernel| kernel.1).sum();
        if launches as usize != wanted {
            wrong.push(format!("{name}: {launches} launches, not {wanted}"));
        }
        for (device, [found, wanted]) in [("the GPU", tasks(&run, true, there)), ("the CPU", tasks(&run, false, here))] {
            if found != wanted {
                wrong.push(format!("{name}: {device} ran {found:?}, not {wanted:?}"));
            }
        }
    }
    wrong
}

fn all_as_the_table_says(families: &[Family], are_wide: bool) {
    let Some(gpu) = gpu() else { return };
    if are_wide && !gpu.spec().gpu.is_some_and(|facts| facts.f64 && facts.i64) {
        return; // what an adapter lacks is said by `explain`: tests/gpu_pipelines.rs
    }
    let session = session(Placement::Gpu, &[gpu as Arc<dyn Device>]);
    assert_eq!(wrong(&session, families), [""; 0]);
}

#[test]
fn elementwise_families_launch_once_a_chunk() {
    all_as_the_table_says(ELEMENTWISE, false);
}

#[test]
fn reductions_launch_once_a_chunk_and_leave_sums_of_sums() {
    all_as_the_table_says(REDUCTIONS, false);
}

#[test]
fn kernels_launch_once_a_task() {
    all_as_the_table_says(KERNELS, false);
}

#[test]
fn families_of_64_bits_launch_as_those_of_32_do() {
    all_as_the_table_says(WIDE, true);
}

/// In a session that keeps to the CPU every family falls back, and each is named.
#[test]
fn a_family_that_falls_back_is_named() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Cpu, &[gpu as Arc<dyn Device>]);
    let wrong = wrong(&session, &ELEMENTWISE[..2]);
    let has = |text: &str| wrong.iter().any(|w| w == text);
    assert!(has("arithmetic: 0 launches, not 4"), "{wrong:?}");
    assert!(has(r#"functions: the CPU ran {"sin + exp + multiply": 4}, not {}"#), "{wrong:?}");
}
