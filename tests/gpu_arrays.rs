//! The array language on a GPU, through sessions: what it gives is what a CPU gives, wherever its tasks run, and they do run there.
//!
//! Owns: expressions. Must not know: kernels. Invariant: an expression that is said to run on the GPU is seen to: tasks are counted.
#![cfg(feature = "gpu")]

use std::sync::Arc;

use chunkwise::device::Device;
use chunkwise::ndarray::{ArrayD, Dimension, IxDyn, s};
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
        ("sums", |s| numbers::<f64>(s, &[300, 200]).chunks(64).over(Axis(0)).sum(), 400.0),
        ("means of what is computed", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 200)).square().mean(), 400.0),
        ("maxima along rows", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 64)).sin().over(Axis(1)).max(), 2.0),
        ("variances", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 200)).over(Axis(0)).var(0.0), 4000.0),
        ("numbers of maxima", |s| numbers::<f64>(s, &[300, 200]).chunks((64, 64)).over(Axis(1)).argmax().cast(), 0.0),
        ("uniform numbers", |s| (s.rng(7).uniform::<f32>((300, 200)).chunks(64) * 2.0).cast(), 0.0),
        ("wide uniform numbers", |s| s.rng(7).uniform::<f64>((300, 200)).chunks(64) + 1.0, 0.0),
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
