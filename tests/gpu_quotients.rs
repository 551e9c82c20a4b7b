//! Quotients and roots of `f64` on GPUs whose drivers' own are not the nearest numbers.
//!
//! Owns: numbers at which a quotient goes wrong if anything does. Must not know: how they are mended. Invariant: the driver's own are off by far more than is allowed, so
//! that nothing rests on them.
#![cfg(feature = "gpu")]

use std::sync::Arc;

use chunkwise::device::gpu::Gpu;
use chunkwise::device::{Cpu, Device, IoLane};
use chunkwise::id::SpaceId;
use chunkwise::kernel::ExactFloats;
use chunkwise::{Array, prelude::*};
use support::gpu::tasks_on;

support::gpus!();

/// A session of a GPU whose test has shown wrong quotients and roots.
fn mending() -> Option<Session> {
    let adapter = adapter()?;
    if !adapter.has_f64 {
        return None;
    }
    let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 64 << 20).expect("opens");
    let wrong = |facts: &mut chunkwise::kernel::GpuFacts| {
        facts.exact = ExactFloats { quotients: [true, false], roots: [true, false], ..ExactFloats::ALL };
    };
    let gpu: Arc<dyn Device> = Arc::new(gpu.with_facts(wrong));
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(2).expect("a pool")), Arc::new(IoLane::new()), gpu];
    Some(Session::builder().devices(devices).placement(Placement::Gpu).cache_dir("").build().expect("a session"))
}

/// Zeroes, ends, neighbours of powers of two, subnormal numbers, others; each with both signs, infinities and NaN.
fn numbers() -> Vec<f64> {
    let mut all = vec![0.0, f64::MAX, f64::MIN_POSITIVE, f64::INFINITY, f64::NAN, 1.0, 3.0, 10.0, 1.0 / 3.0, f64::from_bits(1)];
    for power in [-1074, -1073, -1023, -1022, -1021, -600, -53, -1, 0, 1, 52, 53, 54, 600, 1022, 1023] {
        let least =
            if power < -1022 { f64::from_bits(1 << (power + 1074)) } else { f64::from_bits(((power + 1023) as u64) << 52) };
        all.extend([least, least.next_up(), least.next_down()]);
    }
    let mut bits = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..120 {
        bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        all.push(f64::from_bits(bits >> 1));
    }
    all.iter().flat_map(|&x| [x, -x]).collect()
}

/// How many numbers lie between.
fn apart(a: f64, b: f64) -> u64 {
    let order = |x: f64| if x.is_sign_negative() { -((x.to_bits() << 1 >> 1) as i64) } else { x.to_bits() as i64 };
    if a.is_nan() || b.is_nan() { u64::from(a.is_nan() != b.is_nan()) * u64::MAX } else { order(a).abs_diff(order(b)) }
}

/// Compares, with one place of subnormal results where the driver makes zero of them.
fn compare(what: &str, found: &[f64], wanted: &[f64], at_most: u64) {
    assert_eq!(found.len(), wanted.len());
    for (i, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let is_lost = found == 0.0 && wanted.abs() < f64::MIN_POSITIVE && found.is_sign_negative() == wanted.is_sign_negative();
        assert!(apart(found, wanted) <= at_most || is_lost, "{what} {i}: {found:e}, {wanted:e}");
    }
}

#[test]
fn quotients_and_roots_are_within_one_ulp_whatever_the_drivers_are() {
    let Some(session) = mending() else { return };
    let numbers = numbers();
    let n = numbers.len();
    let column = ndarray::Array2::from_shape_fn((n, n), |(i, _)| numbers[i]);
    let row = ndarray::Array2::from_shape_fn((n, n), |(_, j)| numbers[j]);
    let on = |session: &Session, x: &ndarray::Array2<f64>| Array::from(x.clone()).in_session(session);
    let (found, run) = (on(&session, &column) / on(&session, &row)).run().expect("quotients");
    assert!(tasks_on(&run, "gpu0") == run.tasks() && run.tasks() > 0, "{:?}", run.idle);
    let wanted: Vec<f64> = column.iter().zip(&row).map(|(a, b)| a / b).collect();
    compare("quotient", found.as_slice().expect("in order"), &wanted, 1);
    let (found, run) = on(&session, &column).sqrt().run().expect("roots");
    assert!(tasks_on(&run, "gpu0") == run.tasks() && run.tasks() > 0, "{:?}", run.idle);
    let wanted: Vec<f64> = column.iter().map(|x| x.sqrt()).collect();
    compare("root", found.as_slice().expect("in order"), &wanted, 1);
    // Functions and reductions are there, too.
    let (found, run) = on(&session, &column).tan().max().run().expect("functions");
    assert!(tasks_on(&run, "gpu0") > 0 && found[[]].is_nan(), "{:?}", run.placement());
}
