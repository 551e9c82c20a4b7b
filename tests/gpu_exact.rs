//! What a GPU gives the CPU's bits of, and sessions that let it run nothing else.
//!
//! Owns: which expressions are exact. Must not know: how arithmetic is tested. Invariant: what is said to have run on the GPU was counted there, and what it gave is compared to the bit.
#![cfg(feature = "gpu")]

use std::sync::Arc;

use chunkwise::cost::test_exact;
use chunkwise::device::gpu::AdapterKind;
use chunkwise::device::{Cpu, Device, IoLane};
use chunkwise::kernel::ExactFloats;
use chunkwise::ndarray::{ArrayD, IxDyn};
use chunkwise::{Array, prelude::*};
use support::gpu::tasks_on;

support::gpus!();

/// A strict session whose computing is the GPU's as far as it may be.
fn strict() -> Option<Session> {
    let gpu: Arc<dyn Device> = gpu()?;
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(2).expect("a pool")), Arc::new(IoLane::new()), gpu];
    let builder = Session::builder().devices(devices).placement(Placement::Gpu).cache_dir("").strict(true);
    Some(builder.build().expect("a session"))
}

fn numbers<T: Float>(session: &Session) -> Array<T> {
    let of = |i: usize| T::from_f64((i * 37 % 1009) as f64 / 97.0 - 4.3);
    Array::from(ArrayD::from_shape_fn(IxDyn(&[60, 70]), |i| of(70 * i[0] + i[1]))).in_session(session)
}

#[test]
fn software_vulkan_computes_as_ieee_754_says() {
    let (Some(gpu), Some(adapter)) = (gpu(), adapter()) else { return };
    let found = test_exact(&*gpu);
    assert!(found.tested, "{found:?}");
    if adapter.kind == AdapterKind::Software {
        let wide = [true, gpu.spec().gpu.is_some_and(|facts| facts.f64)];
        assert_eq!((found.sums, found.quotients, found.roots), (wide, wide, wide));
    }
    assert_eq!(test_exact(&*gpu), found, "once more");
}

#[test]
fn a_device_that_runs_no_programs_is_not_tested() {
    assert_eq!(test_exact(&Cpu::new(1).expect("a pool")), ExactFloats::UNTESTED);
}

#[test]
fn a_strict_session_keeps_on_the_cpu_what_a_gpu_is_not_exact_at() {
    let Some(session) = strict() else { return };
    let near = support::gpu::session(Placement::Cpu, &[]);
    type Case = (&'static str, fn(&Session) -> Array<f64>, bool);
    let facts = session.devices()[2].gpu.expect("a GPU");
    let [exact, wide] = [0, 1].map(|wide| facts.exact.sums[wide] && facts.exact.subnormals[wide]);
    let cases: [Case; 7] = [
        ("arithmetic", |s| (numbers::<f32>(s) * 3.0 + 0.1).cast(), exact && wide),
        ("quotients", |s| numbers::<f64>(s) / 7.0, wide && facts.exact.quotients[1] && facts.exact.roots[1]),
        ("integers", |s| (Array::<i32>::arange(0, 5000, 1).in_session(s) * 7).max().cast(), true),
        ("sines", |s| numbers::<f32>(s).sin().cast(), false),
        ("sums", |s| numbers::<f64>(s).sum(), false),
        ("maxima", |s| numbers::<f64>(s).max(), wide),
        ("normal numbers", |s| s.rng(3).normal::<f64>((60, 70)) * 2.0, false),
    ];
    for (name, make, runs) in cases {
        let wanted = make(&near).compute().expect("on the CPU");
        let (found, report) = make(&session).run().unwrap_or_else(|e| panic!("{name}: {e}"));
        let bits = |all: &ArrayD<f64>| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&wanted), "{name}");
        assert_eq!(tasks_on(&report, "gpu0") > 0, runs, "{name}: {:?}, {:?}", report.placement(), facts.exact);
    }
}

#[test]
fn explain_says_what_a_strict_session_keeps_and_why() {
    let Some(session) = strict() else { return };
    let text = numbers::<f32>(&session).sin().explain().expect("a plan").to_string();
    assert!(text.contains("sin of f32 is within 1.1 ulp of the exact result there, not the CPU's bits"), "{text}");
}
