//! The array language on a GPU, through sessions: what it gives is what a CPU gives, wherever its tasks run, and they do run there.
//!
//! Owns: expressions. Must not know: kernels. Invariant: an expression that is said to run on the GPU is seen to: tasks are counted.
#![cfg(feature = "gpu")]

use std::sync::Arc;

use chunkwise::device::Device;
use chunkwise::device::gpu::Gpu;
use chunkwise::ndarray::{self, ArrayD, Dimension, IxDyn, s};
use chunkwise::{Array, prelude::*, where_};
use support::gpu::{session, tasks_on};

support::gpus!();

fn devices() -> Option<Vec<Arc<dyn Device>>> {
    gpu().map(|gpu| vec![gpu as Arc<dyn Device>])
}

/// An expression by its name, with its values as `f64`, and how many units in the last place of an `f32` or `f64` they may be apart.
type Expression = (&'static str, fn(&Session) -> Array<f64>, f64);

fn numbers<T: Float>(session: &Session, shape: &[usize]) -> Array<T> {
    let of =
        |i: &[usize]| i.iter().enumerate().map(|(axis, &at)| ((at * (7 + 4 * axis)) % 101) as f64 / 31.0 - 1.3).sum::<f64>();
    let all = ArrayD::from_shape_fn(IxDyn(shape), |i| T::from_f64(of(i.as_array_view().as_slice().expect("indices"))));
    Array::from(all).in_session(session)
}

fn expressions() -> Vec<Expression> {
    vec![
        (
            "arithmetic",
            |s| {
                let x = numbers::<f32>(s, &[300, 200]).chunks((64, 200));
                (2.0 * &x * &x + &x / 3.0 - 1.0).cast()
            },
            0.0,
        ),
        (
            "functions",
            |s| {
                let x = numbers::<f64>(s, &[300, 200]).chunks((64, 70));
                (x.sin() * x.exp() + x.abs().sqrt()).tanh()
            },
            16.0,
        ),
        (
            "transposes and rows",
            |s| {
                let x = numbers::<f64>(s, &[200, 200]).chunks(64);
                &x + x.t() * numbers::<f64>(s, &[200]).chunks(64)
            },
            0.0,
        ),
        (
            "slices",
            |s| {
                let x = numbers::<f32>(s, &[301, 220]).chunks((50, 220));
                (x.slice(s![1.., ..;2]) - x.slice(s![..-1, 1..;2])).cast()
            },
            0.0,
        ),
        (
            "choices and masks",
            |s| {
                let x = numbers::<f32>(s, &[250, 130]).chunks(100);
                let mask = x.gt(0.5) & !x.is_nan();
                where_(&mask, &x * 2.0, -&x).cast()
            },
            0.0,
        ),
        (
            "integers",
            |s| {
                let x = numbers::<f64>(s, &[250, 130]).chunks(100) * 1000.0;
                (((x.cast::<i32>() * 7 % 1000) << 3) ^ x.cast::<i32>()).cast()
            },
            0.0,
        ),
        (
            "bytes",
            |s| {
                let x = (numbers::<f32>(s, &[250, 131]).chunks(100) * 100.0).cast::<i8>();
                (&x * &x + x.maximum(3)).cast()
            },
            0.0,
        ),
        (
            "quotients by what is always 0",
            |s| {
                let x = numbers::<f64>(s, &[250, 130]).chunks(100);
                let one = 1; // by which a compiler sees that nothing is left
                let zero = ((&x * 50.0).cast::<i64>() % one).cast::<f64>();
                let y = &x * &zero;
                &x / &zero + (y.clone() - &y) / &zero
            },
            0.0,
        ),
        (
            "quotients of quotients",
            |s| {
                let x = numbers::<f64>(s, &[250, 130]).chunks(100) + 0.013;
                1.0 / (1.0 / &x) + (&x / 3.0).fract() + (&x * 0.7).round()
            },
            0.0,
        ),
        (
            "sums of uniform numbers",
            |s| s.rng(7).uniform::<f64>((300, 200)).chunks(64) + s.rng(8).uniform::<f64>((300, 200)).chunks(64),
            0.0,
        ),
        (
            "sums of points and random numbers",
            |s| {
                Array::<f64>::linspace(0.0, 1.0, 300_001).in_session(s).chunks(70_000)
                    + s.rng(8).uniform::<f64>(300_001).chunks(70_000)
            },
            0.0,
        ),
        ("sums", |s| numbers::<f64>(s, &[300, 200]).chunks(64).over(Axis(0)).sum(), 400.0),
        ("means of what is computed", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 200)).square().mean(), 400.0),
        ("maxima along rows", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 64)).sin().over(Axis(1)).max(), 2.0),
        ("variances", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 200)).over(Axis(0)).var(0.0), 4000.0),
        ("numbers of maxima", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 64)).over(Axis(1)).argmax().cast(), 0.0),
        ("uniform numbers", |s| (s.rng(7).uniform::<f32>((300, 200)).chunks(64) * 2.0).cast(), 0.0),
        ("wide uniform numbers", |s| s.rng(7).uniform::<f64>((300, 200)).chunks(64) + 1.0, 0.0),
        ("uniform numbers alone", |s| s.rng(7).uniform::<f64>((300, 200)).chunks(64), 0.0),
        ("normal numbers alone", |s| s.rng(9).normal::<f64>((300, 200)).chunks(64).t(), 64.0),
        ("arange alone", |s| Array::<f64>::arange(0.5, 300_000.0, 1.0).in_session(s).chunks(70_000), 0.0),
        ("normal numbers", |s| s.rng(9).normal::<f64>((300, 200)).chunks(64) * 3.0, 64.0),
        ("sums of random numbers", |s| s.rng(9).uniform::<f64>((300, 200)).chunks(64).square().over(Axis(1)).sum(), 400.0),
        (
            "indices",
            |s| {
                let x = Array::<f64>::arange(0.0, 30_000.0, 1.0).in_session(s).chunks(7000);
                &x * 0.5 - 3.0
            },
            0.0,
        ),
        ("points", |s| Array::<f64>::linspace(-1.0, 2.0, 20_001).in_session(s).chunks(7000).square(), 0.0),
        (
            "complex numbers",
            |s| {
                let (x, y) = (numbers::<f64>(s, &[100, 90]).chunks(40), numbers::<f64>(s, &[90]).chunks(40));
                let z = complex(&x, &y);
                (&z * &z + z.conj()).re()
            },
            0.0,
        ),
    ]
}

fn complex(x: &Array<f64>, y: &Array<f64>) -> Array<Complex<f64>> {
    x.cast::<Complex<f64>>() + y.cast::<Complex<f64>>() * Complex::new(0.0, 1.0)
}

fn apart(a: f64, b: f64) -> f64 {
    if a == b || a.is_nan() && b.is_nan() {
        return 0.0;
    }
    let unit = (b.abs() * f64::EPSILON).max(f64::MIN_POSITIVE);
    (a - b).abs() / unit
}

#[track_caller]
fn alike(name: &str, found: &ArrayD<f64>, wanted: &ArrayD<f64>, ulps: f64) {
    assert_eq!(found.shape(), wanted.shape(), "{name}");
    for (at, (a, b)) in found.iter().zip(wanted).enumerate() {
        assert!(apart(*a, *b) <= ulps, "{name}, element {at}: {a:e}, not {b:e}: {} units", apart(*a, *b));
    }
}

#[test]
fn all_of_it_runs_on_a_gpu_and_gives_what_the_cpu_gives() {
    let Some(devices) = devices() else { return };
    let (near, far) = (session(Placement::Cpu, &[]), session(Placement::Gpu, &devices));
    for (name, make, ulps) in expressions() {
        let wanted = make(&near).compute().expect("on the CPU");
        let (found, report) = make(&far).run().unwrap_or_else(|e| panic!("{name}: {e}"));
        alike(name, &found, &wanted, ulps);
        assert!(tasks_on(&report, "gpu0") > 0, "{name}: {:?}", report.placement());
    }
}

#[test]
fn some_tasks_here_and_some_there_give_the_same() {
    let Some(devices) = devices() else { return };
    let near = session(Placement::Cpu, &[]);
    let both = session(Placement::Auto, &devices);
    // As fast as each other: both are busy.
    support::gpu::believe(&both, 0, 1e6);
    support::gpu::believe(&both, 2, 1e6);
    let mut shared = 0;
    for (name, make, ulps) in expressions() {
        let wanted = make(&near).compute().expect("on the CPU");
        let (found, report) = make(&both).run().unwrap_or_else(|e| panic!("{name}: {e}"));
        alike(name, &found, &wanted, ulps);
        shared += usize::from(tasks_on(&report, "gpu0") > 0 && tasks_on(&report, "cpu") > 0);
    }
    assert!(shared >= 8, "{shared} were shared out");
}

/// An adapter of which no more than eight buffers can be bound, which is all that WebGPU promises.
fn narrow() -> Option<Vec<Arc<dyn Device>>> {
    let mut adapter = adapter()?;
    adapter.limits.bindings = 8;
    let gpu = Gpu::open(&adapter, "gpu0", chunkwise::id::SpaceId(1), 64 << 20).expect("it opens");
    Some(vec![Arc::new(gpu) as Arc<dyn Device>])
}

#[test]
fn more_arrays_than_can_be_bound_are_several_stages() {
    let (Some(wide), Some(narrow)) = (devices(), narrow()) else { return };
    let near = session(Placement::Cpu, &[]);
    let sum = |s: &Session| {
        let one = |k: usize| {
            let of = |i: usize| ((i * (k + 3)) % 97) as f32 - 31.5;
            Array::from(ndarray::Array1::from_shape_fn(50_000, of)).in_session(s).chunks(20_000)
        };
        (1..40).fold(one(0), |sum, k| sum * 0.75 + one(k))
    };
    let wanted = sum(&near).compute().expect("on the CPU");
    for (devices, stages) in [(wide, 4), (narrow, 10)] {
        let session = session(Placement::Gpu, &devices);
        let (found, report) = sum(&session).run().expect("on the GPU");
        assert_eq!(found, wanted);
        let launches = tasks_on(&report, "gpu0");
        assert_eq!(launches, report.spans.len(), "{:?}", report.placement());
        // Three chunks, none so small that several stages of it are one task of the CPU's. Each stage but the first takes one more array: what the one before has made.
        assert_eq!(launches, 3 * stages);
        // What a mean of as many is made of fits, too.
        let mean = |s: &Session| sum(s).square().mean().compute_scalar().expect("computes");
        let (there, here) = (mean(&session), mean(&near));
        assert!((there - here).abs() <= 1e-12 * here.abs(), "{there}, not {here}");
    }
}

/// As many operations as one program holds, and more than that: then it is several.
#[test]
fn long_expressions_run_in_few_launches() {
    let Some(devices) = devices() else { return };
    let (near, far) = (session(Placement::Cpu, &[]), session(Placement::Gpu, &devices));
    for (steps, stages) in [(250, 1), (700, 3)] {
        let long = |s: &Session| {
            let x = numbers::<f32>(s, &[20_000]).chunks(20_000);
            (0..steps).fold(x.clone(), |z, k| z * (0.5 + (k % 5) as f32 * 0.25) + &x)
        };
        let (found, report) = long(&far).run().expect("on the GPU");
        assert_eq!(found, long(&near).compute().expect("on the CPU"));
        assert_eq!(tasks_on(&report, "gpu0"), stages, "{:?}", report.placement());
    }
}

/// What does not depend on an order of additions is the same to the bit, however arrays are cut.
#[test]
fn chunks_do_not_change_results() {
    let Some(devices) = devices() else { return };
    let far = session(Placement::Gpu, &devices);
    let all = |chunk: (usize, usize)| -> Vec<(&'static str, ArrayD<f64>)> {
        let (x, single) = (numbers::<f64>(&far, &[96, 130]).chunks(chunk), numbers::<f32>(&far, &[96, 130]).chunks(chunk));
        let rng = far.rng(5);
        let whole = (&x * 50.0).cast::<i32>();
        let each: Vec<(&'static str, Array<f64>)> = vec![
            ("functions", (x.sin() * x.exp() + x.abs().sqrt()).tanh()),
            ("functions in f32", (single.cos() * single.abs().log1p()).cast()),
            ("windows", x.slice(s![1.., ..;-1]) - x.slice(s![..-1, ..]) / 3.0),
            ("a row for all", &x * numbers::<f64>(&far, &[130]).chunks(chunk.1)),
            ("a transpose", x.t() + 1.0),
            ("uniform numbers", rng.uniform::<f64>((96, 130)).chunks(chunk) + 1.0),
            ("normal numbers", rng.normal::<f64>((96, 130)).chunks(chunk) * 3.0),
            ("integers", rng.integers::<i32>(0..1000, (96, 130)).chunks(chunk).cast()),
            ("maxima", x.over(Axis(0)).max()),
            ("least of all", single.min().cast()),
            ("numbers of minima", x.over(Axis(1)).argmin().cast()),
            ("sums of integers", whole.over(Axis(1)).sum().cast()),
            ("counts", x.gt(0.3).sum().cast()),
            ("any", x.gt(2.5).over(Axis(1)).any().cast()),
        ];
        let run = |(name, array): (&'static str, Array<f64>)| {
            let (found, report) = array.run().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(tasks_on(&report, "gpu0") > 0, "{name}: {:?}", report.placement());
            (name, found)
        };
        each.into_iter().map(run).collect()
    };
    let whole = all((96, 130));
    for chunk in [(96, 64), (32, 130), (48, 50), (31, 33)] {
        for ((name, found), (_, wanted)) in all(chunk).into_iter().zip(&whole) {
            let same = found.iter().zip(wanted).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name} in chunks {chunk:?}");
        }
    }
}
