//! That the checks see what is wrong, and take what is right.
//!
//! Owns: wrong results, and a GPU that loses moves. Must not know: how long anything takes. Invariant: what is right is what the CPU bodies give, which the
//! checks do not know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chunkwise::device::{Counters, Cpu, Device, DeviceSpec, Launch, Memory, Move, Report, Tuning};
use chunkwise::shape::DType;
use support::lab::{Case as OnCpu, Chunk};

use super::case::{Case, Routine};
use super::check::{Done, check};
use super::host::Operand;
use super::kernels::kernel;
use super::lab::{Break, Lab, Settings};
use super::links::{ALONE, Pattern, link};
use super::teller::Trouble;

support::gpus!();

const REALS: [DType; 2] = [DType::F32, DType::F64];

/// A case's inputs, its output before, and after the CPU body.
fn on_cpu(case: &Case, cpu: &Cpu) -> (Vec<Operand>, Operand, Operand) {
    let (inputs, old) = case.operands();
    let chunk = |operand: &Operand| Chunk {
        dtype: operand.layout.dtype,
        shape: operand.layout.shape.clone(),
        values: (0..operand.layout.len()).map(|i| operand.at(i)).collect(),
    };
    let (kernel, params) = (case.kernel.clone(), case.params.clone());
    let like = OnCpu { kernel, params, inputs: inputs.iter().map(chunk).collect(), output: chunk(&old) };
    let values = like.on_cpu(cpu).unwrap_or_else(|e| panic!("{case}: {e:?}"));
    let found = old.clone().changed(|i, _| values[i]);
    (inputs, old, found)
}

#[test]
fn what_the_cpu_gives_is_right_and_what_is_damaged_is_not() {
    let cpu = Cpu::new(1).expect("a pool");
    for case in REALS.into_iter().flat_map(|dtype| Case::all(0, dtype)).chain([Case::tiny()]) {
        let (inputs, old, right) = on_cpu(&case, &cpu);
        let checked = |found: &Operand| check(&Done { case: &case, inputs: &inputs, old: &old, found });
        let error = checked(&right).unwrap_or_else(|e| panic!("{case}: {e:?}"));
        assert!((0.0..1.0).contains(&error), "{case}: {error}");
        let wrong = |what: &str, found: Operand| {
            let outcome = checked(&found);
            assert!(matches!(outcome, Err(Trouble::Wrong(_))), "{case}, {what}: {outcome:?}");
        };
        wrong("as it was before", old.clone());
        wrong("damaged", right.clone().spoiled());
        wrong("zero", right.clone().changed(|_, _| 0.0));
        if case.routine != Routine::Mandelbrot {
            let last = right.layout.len() - 1;
            // A sum may be small beside its terms: so by more than a part of it.
            let off = |v: f64| v + 0.1 * (1.0 + v.abs());
            wrong("the last off", right.clone().changed(|i, v| if i == last { off(v) } else { v }));
            wrong("no numbers", right.clone().changed(|i, v| if i == last { f64::NAN } else { v }));
        }
    }
}

#[test]
fn a_part_that_is_missing_is_seen() {
    let cpu = Cpu::new(1).expect("a pool");
    for case in REALS.into_iter().flat_map(|dtype| Case::all(0, dtype)) {
        // What is not added: a run of the shader's, a quad, a product.
        let missing: fn(&[Operand], usize) -> f64 = match case.routine {
            Routine::Sum => |inputs, _| (8192..16_384).map(|i| inputs[0].at(i)).sum(),
            Routine::Read => |inputs, at| (4 * at..4 * at + 4).map(|i| inputs[0].at(i)).sum(),
            Routine::Gemv => |inputs, at| inputs[0].at(at * inputs[1].layout.len()) * inputs[1].at(0),
            _ => continue,
        };
        let (inputs, old, right) = on_cpu(&case, &cpu);
        let found = right.changed(|i, v| v - missing(&inputs, i));
        let outcome = check(&Done { case: &case, inputs: &inputs, old: &old, found: &found });
        assert!(matches!(outcome, Err(Trouble::Wrong(_))), "{case}: {outcome:?}");
    }
}

#[test]
fn few_orbits_may_stray_and_many_may_not() {
    let cpu = Cpu::new(1).expect("a pool");
    let case = Case::all(0, DType::F64).into_iter().find(|case| case.routine == Routine::Mandelbrot).expect("there is one");
    let (inputs, old, right) = on_cpu(&case, &cpu);
    let strays = |every: usize| {
        let found = right.clone().changed(|i, v| if i % every == 0 { v + 1.0 } else { v });
        check(&Done { case: &case, inputs: &inputs, old: &old, found: &found })
    };
    assert!(strays(100).is_ok() && strays(10).is_err());
}

#[test]
fn patterns_cover_what_they_say() {
    for pattern in Pattern::all(0).into_iter().chain(Pattern::small()) {
        let mut elements = vec![0; pattern.lanes()];
        let len = pattern.shape().iter().product::<usize>();
        for (array, at) in (0..pattern.arrays()).flat_map(|array| (0..len).map(move |at| (array, at))) {
            if let Some(lane) = pattern.lane(array, at) {
                elements[lane] += 4;
            }
        }
        assert!(elements.iter().all(|&bytes| bytes == pattern.chunk_bytes()), "{pattern:?}: {elements:?}");
    }
    let sizes: Vec<_> = Pattern::all(2).iter().map(Pattern::chunk_bytes).collect();
    assert_eq!((sizes.iter().min(), sizes.iter().max()), (Some(&(4 << 10)), Some(&(1 << 30))));
}

/// A GPU that reports moves of one direction which it does not make, from one of them on.
struct Forgetful {
    inner: Arc<dyn Device>,
    uploads: bool,
    from: u64,
    seen: AtomicU64,
}

#[allow(unsafe_code)] // the promise of a device
// SAFETY: places that nothing is written to hold zeros, or what was there before: wrong numbers, but numbers. All else is the inner device's.
unsafe impl Device for Forgetful {
    fn spec(&self) -> &DeviceSpec {
        self.inner.spec()
    }

    fn launch(&self, launch: Launch) {
        self.inner.launch(launch);
    }

    fn transfer(&self, mv: Move) {
        if mv.upload == self.uploads && self.seen.fetch_add(1, Ordering::Relaxed) >= self.from {
            let Move { from, to, done, .. } = mv;
            drop((from, to));
            return done(Report { elapsed_ns: 1, measured: true, since_ns: 0, worker: 0, opaque: Vec::new(), outcome: Ok(()) });
        }
        self.inner.transfer(mv);
    }

    fn allocate(&self, bytes: u64) -> chunkwise::Result<Memory> {
        self.inner.allocate(bytes)
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.inner.memory_bytes()
    }

    fn tune(&self, tuning: &Tuning) {
        self.inner.tune(tuning);
    }

    fn counters(&self) -> Counters {
        self.inner.counters()
    }
}

fn settings(seconds: u64, broken: Option<Break>) -> Settings {
    Settings { deadline: Instant::now() + Duration::from_secs(seconds), level: 0, broken }
}

/// Whichever move is the first that is not made: the last few are of one chunk again and again.
#[test]
fn moves_that_are_not_made_are_seen() {
    let (Some(adapter), Some(gpu)) = (adapter(), gpu()) else { return };
    for pattern in Pattern::small() {
        let run = |uploads: bool, from: u64| {
            let device = Arc::new(Forgetful { inner: gpu.clone(), uploads, from, seen: AtomicU64::new(0) });
            let outcome = link(&Lab::of(device.clone(), &adapter, settings(60, None)), &pattern);
            (outcome, device.seen.load(Ordering::Relaxed))
        };
        for uploads in [true, false] {
            let (outcome, all) = run(uploads, u64::MAX);
            assert!(outcome.is_ok(), "{pattern}: {outcome:?}");
            for from in 0..=all - ALONE as u64 {
                let (outcome, _) = run(uploads, from);
                assert!(
                    matches!(outcome, Err(Trouble::Wrong(_))),
                    "{pattern}, uploads {uploads}, from {from} of {all}: {outcome:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_over_time_or_too_large_is_not_tried() {
    let (Some(adapter), Some(gpu)) = (adapter(), gpu()) else { return };
    let case = &Case::all(0, DType::F32)[0];
    let before = gpu.counters();
    let late = kernel(&Lab::of(gpu.clone(), &adapter, settings(0, None)), case, 0);
    assert!(matches!(late, Err(Trouble::Over(_))), "{late:?}");
    let lab = Lab::of(gpu.clone(), &adapter, settings(60, None));
    assert!(matches!(lab.takes(u64::MAX, true), Err(Trouble::Skipped(_))) && lab.takes(64, true).is_ok());
    assert!(matches!(lab.has_room(u64::MAX, 0), Err(Trouble::Skipped(_))));
    assert!(matches!(lab.has_room(0, u64::MAX), Err(Trouble::Skipped(_))) && lab.has_room(64, 64).is_ok());
    assert_eq!((gpu.counters().launches, gpu.counters().uploads), (before.launches, before.uploads));
}
