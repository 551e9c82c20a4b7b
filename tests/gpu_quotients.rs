//! Quotients and roots of `f64` on GPUs whose drivers' own were found not to be the nearest numbers.
//!
//! Owns: numbers at which a quotient goes wrong if anything does. Must not know: how they are mended (`tests/gpu_math_f64.rs` has a driver that is wrong). Invariant: what is expected is what is
//! launched, or more is compiled than is needed.
#![cfg(feature = "gpu")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunkwise::cost::{CostModel, DeviceKey, Rates, Tuned};
use chunkwise::device::{Cpu, Device, IoLane};
use chunkwise::id::DeviceId;
use chunkwise::kernel::ExactFloats;
use chunkwise::{Array, prelude::*};
use support::gpu::tasks_on;

support::gpus!();

const WRONG: ExactFloats = ExactFloats { quotients: [true, false], roots: [true, false], ..ExactFloats::ALL };

/// A session of a GPU of which an earlier session has kept that its arithmetic is so. With the folder that says it.
fn session(exact: ExactFloats) -> Option<(Session, tempfile::TempDir)> {
    let gpu = gpu()?;
    let spec = gpu.spec();
    if !spec.gpu.is_some_and(|facts| facts.f64) {
        return None;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (mut costs, warning) = CostModel::load(Some(dir.path()));
    assert_eq!(warning, None);
    let priced = costs.device(&DeviceKey::new(format!("gpu: {}", spec.model)), Rates::GPU);
    costs.set_rates(priced, Rates::GPU);
    costs.set_tuned(priced, Tuned { exact, ..Tuned::default() });
    assert_eq!(costs.save(), None);
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(2).expect("a pool")), Arc::new(IoLane::new()), gpu];
    let builder = Session::builder().devices(devices).placement(Placement::Gpu).cache_dir(dir.path());
    let session = builder.build().expect("a session");
    assert_eq!(session.devices()[2].gpu.map(|facts| facts.exact), Some(exact));
    Some((session, dir))
}

type Made<'a> = dyn Fn(&Session) -> Array<f64> + 'a;

/// What the GPU makes of it, and how many entry points were compiled for that: those that were launched, and those that were expected to be.
fn run(what: &str, session: &Session, make: &Made<'_>) -> (ndarray::ArrayD<f64>, u64) {
    let array = make(session);
    let (found, run) = array.run().unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(tasks_on(&run, "gpu0") > 0, "{what}: {:?}, {:?}", run.placement(), run.idle);
    let began = Instant::now();
    while array.explain().expect("a plan").to_string().contains("compiles first") {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: what was expected is still being compiled");
        std::thread::sleep(Duration::from_millis(10));
    }
    (found, session.counters(DeviceId(2)).compiled)
}

/// The same on a GPU of wrong quotients: programs that divide by themselves are expected there, and just these are launched, so that no more are compiled than elsewhere.
fn run_mended(what: &str, make: &Made<'_>) -> Option<ndarray::ArrayD<f64>> {
    let ((right, _right), (wrong, _wrong)) = (session(ExactFloats::ALL)?, session(WRONG)?);
    let ((_, plain), (found, mended)) = (run(what, &right, make), run(what, &wrong, make));
    assert_eq!(mended, plain, "{what}: compiled");
    Some(found)
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
    let numbers = numbers();
    let n = numbers.len();
    let column = ndarray::Array2::from_shape_fn((n, n), |(i, _)| numbers[i]);
    let row = ndarray::Array2::from_shape_fn((n, n), |(_, j)| numbers[j]);
    let on = |session: &Session, x: &ndarray::Array2<f64>| Array::from(x.clone()).in_session(session);
    let Some(found) = run_mended("quotients", &|s| on(s, &column) / on(s, &row)) else { return };
    let wanted: Vec<f64> = column.iter().zip(&row).map(|(a, b)| a / b).collect();
    compare("quotient", found.as_slice().expect("in order"), &wanted, 1);
    let found = run_mended("roots", &|s| on(s, &column).sqrt()).expect("a GPU, as before");
    let wanted: Vec<f64> = column.iter().map(|x| x.sqrt()).collect();
    compare("root", found.as_slice().expect("in order"), &wanted, 1);
}

#[test]
fn functions_and_reductions_that_divide_do_so_in_the_same_way() {
    let x = ndarray::Array2::from_shape_fn((40, 50), |(i, j)| ((i * 50 + j) * 37 % 1009) as f64 / 700.0 - 0.7);
    let on = |session: &Session| Array::from(x.clone()).in_session(session);
    let Some(largest) = run_mended("tan, max", &|s| on(s).tan().max()) else { return };
    let wanted = x.iter().map(|x| x.tan()).fold(f64::MIN, f64::max);
    assert!(apart(largest[[]], wanted) <= 2, "{largest} {wanted}");
    let columns: Vec<Vec<f64>> = x.axis_iter(ndarray::Axis(1)).map(|run| run.to_vec()).collect();
    let cases: [(&str, &Made<'_>, Vec<Vec<f64>>); 2] = [
        ("variance", &|s| on(s).var(0.0), vec![x.iter().copied().collect()]),
        ("variances", &|s| on(s).var_axis(Axis(0), 0.0), columns),
    ];
    for (what, make, runs) in cases {
        let found = run_mended(what, make).expect("a GPU, as before");
        assert_eq!(found.len(), runs.len());
        for (found, run) in found.iter().zip(runs) {
            let mean = run.iter().sum::<f64>() / run.len() as f64;
            let wanted = run.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / run.len() as f64;
            assert!((found - wanted).abs() <= 1e-13 * wanted, "{what}: {found} {wanted}");
        }
    }
}
