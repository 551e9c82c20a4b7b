//! Every kernel with a GPU half, through a real device: against plain oracles within the stated bounds, and against the CPU bodies.
//!
//! Owns: what a GPU must compute, launch by launch. Must not know: sessions (tests/gpu_runs.rs), shader text beyond the names of entry
//! points (tests/shaders.rs). Invariant: a shader, an entry point or a kernel without a case fails; each comparison is also seen to fail.
#![cfg(feature = "gpu")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chunkwise::device::gpu::Gpu;
use chunkwise::device::{Cpu, Data, Failure};
use chunkwise::id::SpaceId;
use chunkwise::kernel::{Fault, GpuFacts, SHADERS};
use chunkwise::shape::DType;
use support::kernel_cases::{
    Numbers, all, choices, factorisation, gemm, gemv, mandelbrot, picture, potrf, resumed, sum, syrk, trsm,
};
use support::lab::{ANY, Case, Chunk, Lab, PLACES, Place, run_graph, wait};
use support::oracles::{self, Exact, alike, check, same_kinds};

support::gpus!();

const REALS: [DType; 2] = [DType::F32, DType::F64];

fn lab() -> Option<Lab> {
    gpu().map(|gpu| Lab { gpu })
}

/// The dtypes that the GPU computes in.
fn reals(lab: &Lab) -> impl Iterator<Item = DType> {
    let wide = lab.gpu.spec().gpu.is_some_and(|facts| facts.f64);
    if !wide {
        let _ = writeln!(std::io::stderr(), "SKIPPED tests in f64: the adapter has none");
    }
    REALS.into_iter().filter(move |&real| wide || real == DType::F32)
}

fn cpu() -> Cpu {
    Cpu::new(1).expect("a pool")
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// All cases of a dtype: within the bounds, the same bits again from other places, and as on the CPU.
fn conforms(real: DType) {
    let Some(lab) = lab() else { return };
    if !reals(&lab).any(|r| r == real) {
        return;
    }
    let cpu = cpu();
    for (turn, case) in all(real).iter().enumerate() {
        let run = |turn| lab.run(case, turn).unwrap_or_else(|e| panic!("{case}: {e:?}"));
        let found = run(turn);
        check(case, &found).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert!(bits(&run(turn + 1)) == bits(&found), "{case}: not the same bits again");
        if case.kernel.name() == "mandelbrot" {
            let wanted = case.on_cpu(&cpu).expect("runs on the CPU");
            alike(case, &found, &wanted).unwrap_or_else(|e| panic!("{case}, against the CPU: {e}"));
        }
    }
}

#[test]
fn every_kernel_is_right_in_f32() {
    conforms(DType::F32);
}

#[test]
fn every_kernel_is_right_in_f64() {
    conforms(DType::F64);
}

/// The names of a shader's entry points.
fn entries(source: &str) -> BTreeSet<String> {
    let name = |text: &str| text.split("fn ").nth(1).and_then(|t| t.split('(').next()).map(str::to_owned);
    source.split("@compute").skip(1).filter_map(name).collect()
}

/// Shaders and entry points that no case reaches.
fn unreached(cases: &[Case], shaders: &[(&str, BTreeSet<String>)]) -> Vec<String> {
    let mut reached: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let each = cases.iter().flat_map(|case| choices().map(move |variants| (case, variants)));
    for program in each.filter_map(|(case, variants)| case.program(&GpuFacts { variants, ..ANY })) {
        let entries = program.passes.iter().map(|pass| pass.entry.to_string());
        reached.entry(program.shader.name().to_owned()).or_default().extend(entries);
    }
    let missing = |(name, entries): &(&str, BTreeSet<String>)| match reached.get(*name) {
        None => vec![format!("shader {name}")],
        Some(reached) => entries.iter().filter(|e| !reached.contains(*e)).map(|e| format!("{name}: {e}")).collect(),
    };
    shaders.iter().flat_map(missing).collect()
}

/// Names of the kernels whose source says that they have a GPU half.
fn kernels_with_programs(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("the library's source") {
        let path = entry.expect("listed").path();
        if path.is_dir() {
            kernels_with_programs(&path, names);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            // A name is the first text in an `impl`.
            let bodies = text.split("impl Kernel for ").skip(1).map(|t| t.split("\n}\n").next().unwrap_or(t));
            let found = bodies.filter(|b| b.contains("fn program(")).filter_map(|b| b.split('"').nth(1));
            // Reductions are named by what they do, of which a sum has a case here; for the rest, and for what is computed element by element or made of indices: tests/gpu_reduce.rs,
            // gpu_map.rs, gpu_arrays.rs.
            let found = found.filter(|name| *name == " + " || !name.contains(['{', ' ']));
            names.extend(found.map(|name| if name == " + " { "sum" } else { name }.to_owned()));
        }
    }
}

#[test]
fn every_shader_entry_point_and_kernel_has_a_case() {
    // No kernel asks for copies: tests/gpu.rs does.
    let of_kernels = SHADERS.iter().filter(|shader| shader.name() != "copy");
    let mut shaders: Vec<_> = of_kernels.map(|shader| (shader.name(), entries(shader.source()))).collect();
    assert!(shaders.iter().all(|(_, entries)| !entries.is_empty()), "{shaders:?}");
    let mut tested = BTreeSet::new();
    for real in REALS {
        let cases = all(real);
        assert_eq!(unreached(&cases, &shaders), Vec::<String>::new(), "{real}");
        tested.extend(cases.iter().map(|case| case.kernel.name().into_owned()));
    }
    let mut kernels = BTreeSet::new();
    kernels_with_programs(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernel"), &mut kernels);
    assert!(kernels.len() >= SHADERS.len());
    assert_eq!(tested, kernels);
    // What is new is seen.
    shaders.push(("new", entries("@compute @workgroup_size(1) fn only() {}")));
    shaders[0].1.insert("another".into());
    let missing = unreached(&all(DType::F32), &shaders);
    assert!(missing.contains(&"shader new".to_owned()) && missing.iter().any(|m| m.ends_with(": another")), "{missing:?}");
}

#[test]
fn the_oracles_accept_the_cpu_and_refuse_what_is_wrong() {
    let cpu = cpu();
    for case in
        REALS.into_iter().flat_map(all).filter(|case| case.kernel.name() != "mandelbrot" || case.output.values.len() < 10_000)
    {
        let right = case.on_cpu(&cpu).expect("runs on the CPU");
        check(&case, &right).unwrap_or_else(|e| panic!("{case}, on the CPU: {e}"));
        assert!(check(&case, &right[1..]).is_err(), "{case}: too short");
        // The first, the last, and one in between (in the last row).
        let (len, row) = (right.len(), *case.output.shape.last().expect("an axis"));
        for at in [0, len - 1, len - 1 - row / 2] {
            for wrong in [2.0 * right[at] + 1.0, f64::NAN, f64::INFINITY, case.output.values[at] - 0.5] {
                let mut damaged = right.clone();
                damaged[at] = wrong;
                assert!(check(&case, &damaged).is_err(), "{case}: {wrong} accepted instead of {}", right[at]);
            }
        }
    }
    roots_and_quotients_may_be_off_as_the_specifications_say();
    let picture = picture(DType::F32, 200, 100, 20);
    let right = oracles::mandelbrot(&picture);
    let off = |by: usize| right.iter().enumerate().map(|(i, v)| v + f64::from(u8::from(i < by))).collect::<Vec<_>>();
    assert!(check(&picture, &off(2)).is_ok() && check(&picture, &off(3)).is_err());
    let kinds = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    assert!(same_kinds(&kinds, &kinds).is_ok() && same_kinds(&[2.0], &[1.0]).is_ok());
    for (i, j) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))).filter(|(i, j)| i != j) {
        assert!(same_kinds(&[kinds[i]], &[kinds[j]]).is_err());
    }
    let sum = [1e100, 1.0, -1e100].iter().fold(Exact::default(), |sum, &v| sum.add(v));
    assert_eq!(sum.value(), 1.0);
    assert_eq!(Exact::default().add_product(1.0 + f64::EPSILON, 1.0 - f64::EPSILON).add(-1.0).value(), -f64::EPSILON.powi(2));
}

/// 4.5 units in the last place, of two `u` each, for a root, and 3 for a quotient: not much more, where nothing else is rounded.
#[track_caller]
fn roots_and_quotients_may_be_off_as_the_specifications_say() {
    let one = |dtype, value: f64| Chunk::new(dtype, &[1, 1], |_| value);
    for real in REALS {
        let off = |exact: f64, units: f64| [exact * (1.0 + 2.0 * units * oracles::unit(real))];
        let (root, quotient) = (potrf(one(real, 9.0), 0), trsm(one(real, 4.0), one(real, 12.0)));
        assert!(check(&root, &off(3.0, 4.5)).is_ok() && check(&root, &off(3.0, 6.0)).is_err(), "{real}");
        assert!(check(&quotient, &off(3.0, 3.0)).is_ok() && check(&quotient, &off(3.0, 5.0)).is_err(), "{real}");
    }
}

#[test]
fn chunks_travel_between_any_places() {
    let Some(lab) = lab() else { return };
    let mut numbers = Numbers(5);
    let shapes: [&[usize]; 6] = [&[1], &[257], &[33, 65], &[3, 1], &[2, 5, 31], &[1, 1, 7]];
    for (dtype, shape) in REALS.into_iter().chain([DType::I32]).flat_map(|d| shapes.map(|s| (d, s))) {
        let chunk = Chunk::new(dtype, shape, |_| (numbers.next() * 1e6).round());
        for (i, from) in PLACES.into_iter().enumerate() {
            let there = lab.upload(&chunk, from);
            for to in [PLACES[i], PLACES[(i + 2) % PLACES.len()]] {
                assert!(lab.download(&there, to) == chunk.values, "{dtype} {shape:?} from {from:?} to {to:?}");
            }
        }
    }
}

/// As on the CPU, up to the rounding of finite numbers.
#[track_caller]
fn like_the_cpu(lab: &Lab, cpu: &Cpu, case: &Case) {
    let (found, wanted) = (lab.run(case, 0).expect("runs"), case.on_cpu(cpu).expect("runs on the CPU"));
    let ours = |all: &[f64]| match &*case.kernel.name() {
        // Above the diagonal there may be anything.
        "syrk" => all
            .iter()
            .enumerate()
            .map(|(at, &v)| if at % case.output.shape[1] > at / case.output.shape[1] { 0.0 } else { v })
            .collect(),
        _ => all.to_vec(),
    };
    same_kinds(&ours(&found), &ours(&wanted)).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert!(!ours(&found).iter().all(|v| v.is_finite()), "{case}: nothing special is left");
}

#[test]
fn nan_and_infinity_propagate_as_on_the_cpu() {
    let (Some(lab), cpu, mut r) = (lab(), cpu(), Numbers(7)) else { return };
    const NAN: f64 = f64::NAN;
    const INF: f64 = f64::INFINITY;
    for real in reals(&lab) {
        for (m, k) in [(7, 15), (7, 515), (66, 260), (2, 9001)] {
            let (mut a, mut x) = (r.chunk(real, &[m, k]), r.chunk(real, &[k]));
            a.values[k - 1] = NAN;
            (a.values[k], a.values[m * k - 1]) = (-INF, INF);
            like_the_cpu(&lab, &cpu, &gemv(a.clone(), x.clone()));
            x.values[k / 2] = INF;
            like_the_cpu(&lab, &cpu, &gemv(a, x));
        }
        for special in [&[(0, NAN)][..], &[(9, INF)], &[(9, -INF)], &[(8200, INF), (3, -INF)], &[(9000, NAN), (5, INF)]] {
            let mut x = r.chunk(real, &[9001]);
            special.iter().for_each(|&(at, v)| x.values[at] = v);
            like_the_cpu(&lab, &cpu, &sum(x));
        }
        for (m, n, k) in [(70, 66, 36), (33, 67, 33), (257, 300, 20)] {
            let (mut a, mut b, mut c) = (r.chunk(real, &[m, k]), r.chunk(real, &[n, k]), r.chunk(real, &[m, n]));
            (a.values[(m - 1) * k + 5], a.values[2 * k + k - 1], b.values[(n - 1) * k + 7]) = (NAN, INF, NAN);
            (c.values[0], c.values[n + 1], c.values[2 * n]) = (NAN, -INF, INF);
            like_the_cpu(&lab, &cpu, &gemm(a.clone(), b, c));
            let mut c = r.chunk(real, &[m, m]);
            (c.values[0], c.values[m + 1]) = (NAN, INF);
            like_the_cpu(&lab, &cpu, &syrk(a, c));
        }
        special_rows_stay_in_their_rows(&lab, real, &mut r);
        let special: Vec<f64> = vec![NAN, INF, -INF, 1e200, -1e300, 1e30, 4.0, 5.0, 0.0, -NAN, 1e-300, -1e19];
        for iterations in [0, 1, 3, 4, 5, 1000, 5000] {
            let case = mandelbrot(real, &special, &special, iterations);
            let (found, wanted) = (lab.run(&case, 0).expect("runs"), case.on_cpu(&cpu).expect("runs on the CPU"));
            assert_eq!(found, wanted, "{case}");
            assert!(found[..36].iter().all(|&count| count == 0.0), "NaN and infinity escape at once");
        }
    }
}

/// A right-hand side that is not finite spoils its own row from there on; a bad element of L, its column and those after it.
fn special_rows_stay_in_their_rows(lab: &Lab, real: DType, r: &mut Numbers) {
    for (m, n, at) in [(5, 40, 35), (65, 100, 64), (33, 31, 0)] {
        let (l, b) = (r.triangle(real, n), r.chunk(real, &[m, n]));
        let good = lab.run(&trsm(l.clone(), b.clone()), 0).expect("runs");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let (mut bad_b, mut bad_l) = (b.clone(), l.clone());
            bad_b.values[2 * n + at] = value;
            bad_l.values[at * n + at / 2] = f64::NAN;
            for (case, row) in [(trsm(l.clone(), bad_b), Some(2)), (trsm(bad_l, b.clone()), None)] {
                let spoilt = [lab.run(&case, 1).expect("runs"), case.on_cpu(&cpu()).expect("runs on the CPU")];
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let [gpu, cpu] = [spoilt[0][i * n + j], spoilt[1][i * n + j]];
                    if row.is_some_and(|row| row != i) || j < at / 32 * 32 {
                        assert_eq!(gpu.to_bits(), good[i * n + j].to_bits(), "{case}: row {i}, column {j}");
                    } else if j >= at {
                        assert!(!gpu.is_finite() && !cpu.is_finite(), "{case}: row {i}, column {j}: {gpu}, {cpu}");
                    }
                }
            }
        }
    }
}

/// The row and pivot that a launch gave up at.
#[track_caller]
fn fault(outcome: Result<impl Sized, Failure>) -> (u64, f64) {
    match outcome {
        Err(Failure::Fault(Fault::NotPositive { row, pivot })) => (row, pivot),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("no fault"),
    }
}

#[test]
fn a_bad_pivot_is_a_fault_with_its_row() {
    let (Some(lab), cpu, mut r) = (lab(), cpu(), Numbers(11)) else { return };
    for real in reals(&lab) {
        for n in [1, 33, 100] {
            let good = r.definite(real, n);
            for at in BTreeSet::from([0, n / 2, 31.min(n - 1), 32.min(n - 1), n - 1]) {
                for value in [-1.0, 0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -12_345.678_901_234] {
                    let mut bad = good.clone();
                    bad.values[at * n + at] = value;
                    let case = potrf(bad, 1 << 40);
                    let ((row, pivot), on_cpu) = (fault(lab.run(&case, at)), fault(case.on_cpu(&cpu)));
                    assert_eq!((row, on_cpu.0), ((1 << 40) + at as u64, row), "{case}: {value} at {at}");
                    let near = (pivot - on_cpu.1).abs() <= 1e-5 * on_cpu.1.abs().max(1.0);
                    assert!(
                        near || same_kinds(&[pivot], &[on_cpu.1]).is_ok() && !pivot.is_finite(),
                        "{case}: {pivot}, {on_cpu:?}"
                    );
                }
            }
        }
        let mut bad = r.definite(real, 70);
        bad.values[40 * 70 + 3] = f64::NAN;
        assert_eq!(fault(lab.run(&potrf(bad, 5), 0)).0, 45, "NaN below the diagonal spoils its row");
        // Tiny and huge pivots are good ones.
        for value in [1e-30, 1e30] {
            let case = potrf(Chunk::new(real, &[1, 1], |_| value), 0);
            check(&case, &lab.run(&case, 0).expect("positive")).expect("its root");
        }
    }
}

#[test]
fn a_fault_is_of_its_launch_alone() {
    let (Some(lab), mut r) = (lab(), Numbers(13)) else { return };
    let good = potrf(r.definite(DType::F32, 65), 0);
    let mut bad = potrf(good.output.clone(), 7);
    bad.output.values[50 * 65 + 50] = -3.0;
    let cases: Vec<&Case> = (0..24).map(|i| if i % 3 == 1 { &bad } else { &good }).collect();
    let tiles: Vec<Data> = cases.iter().map(|case| lab.upload(&case.output, Place::Plain)).collect();
    let reports: Vec<_> = cases.iter().zip(&tiles).map(|(case, tile)| lab.start(case, &[], tile, None)).collect();
    for (i, (report, tile)) in reports.iter().zip(&tiles).enumerate() {
        match wait(report) {
            Ok(()) if i % 3 != 1 => drop(check(&good, &lab.download(tile, Place::Plain)).expect("a factor")),
            outcome => assert_eq!(fault(outcome).0, 57, "launch {i}"),
        }
    }
}

/// Runs a case whose work is too much for one submission of a device that was just opened: for all that is known it is slow. The output
/// is the old value's place, or another into which that is copied.
fn in_parts(case: &Case, copied: bool) -> Option<Result<Vec<f64>, Failure>> {
    let lab = lab()?;
    let inputs: Vec<_> = case.inputs.iter().map(|input| lab.upload(input, Place::Plain)).collect();
    let old = lab.upload(&case.output, Place::Plain);
    let to = if copied { lab.room(case.output.dtype, &case.output.shape) } else { old.clone() };
    // A download comes after all uploads, so what is submitted from here on is the launch.
    assert!(bits(&lab.download(&old, Place::Plain)) == bits(&case.output.values));
    let before = lab.gpu.counters().submissions;
    let outcome = wait(&lab.start_expecting(0, case, &inputs, (&to, copied.then(|| old.clone()))));
    assert!(lab.gpu.counters().submissions >= before + 2, "{case}: not cut");
    let unchanged = || bits(&lab.download(&old, Place::Plain)) == bits(&case.output.values);
    assert!(!copied || unchanged(), "{case}: what is copied must stay");
    Some(outcome.map(|()| lab.download(&to, Place::Plain)))
}

#[test]
fn launches_in_many_parts_are_right() {
    let (Some(real), mut r) = (lab().and_then(|lab| reals(&lab).last()), Numbers(17)) else { return };
    let n = if real == DType::F64 { 384 } else { 900 };
    let case = gemm(r.chunk(real, &[n, n]), r.chunk(real, &[n, n]), r.chunk(real, &[n, n]));
    let [copied, in_place] = [true, false].map(|copied| in_parts(&case, copied).expect("an adapter").expect("runs"));
    assert!(bits(&copied) == bits(&in_place), "copied or in place");
    let row = |i: usize| {
        let old = Exact::default().add(case.output.at(i, 3));
        (0..n).fold(old, |sum, p| sum.add_product(-case.inputs[0].at(i, p), case.inputs[1].at(3, p)))
    };
    for (i, exact) in (0..n).map(|i| (i, row(i))) {
        let bound = (n + 1) as f64 * oracles::unit(real) * exact.size;
        assert!((copied[i * n + 3] - exact.value()).abs() <= bound, "row {i}");
    }
    // One workgroup's rows go on where they were, in another dispatch.
    let (m, n) = if real == DType::F64 { (400, 544) } else { (1000, 1056) };
    let case = trsm(r.triangle(real, n), r.chunk(real, &[m, n]));
    check(&case, &in_parts(&case, true).expect("an adapter").expect("runs")).unwrap_or_else(|e| panic!("{case}: {e}"));
    // What a pass leaves in scratch is there in a later part.
    let case = potrf(r.definite(real, if real == DType::F64 { 700 } else { 1450 }), 0);
    check(&case, &in_parts(&case, false).expect("an adapter").expect("runs")).unwrap_or_else(|e| panic!("{case}: {e}"));
    // The parts that come after one with a fault do not hide it.
    let n = if real == DType::F64 { 800 } else { 1500 };
    let mut a = Chunk::new(real, &[n, n], |at| if at % n == at / n { 2.0 } else { 1.0 / n as f64 });
    a.values[3 * n + 3] = -2.0;
    let case = potrf(a, 100);
    assert_eq!(fault(in_parts(&case, true).expect("an adapter")).0, 103);
}

#[test]
fn launches_in_flight_feed_later_ones() {
    let (Some(lab), mut r) = (lab(), Numbers(19)) else { return };
    let starts = [0, 33, 64, 96, 127, 161];
    let n = starts[5];
    for real in reals(&lab) {
        let whole = r.definite(real, n);
        let tile = |i: usize, j: usize| {
            let (m, k) = (starts[i + 1] - starts[i], starts[j + 1] - starts[j]);
            Chunk::new(real, &[m, k], |at| whole.at(starts[i] + at / k, starts[j] + at % k))
        };
        let (tasks, last) = factorisation(&tile, 5);
        let originals: BTreeMap<_, _> = last.keys().map(|&at| (at, lab.upload(&tile(at.0, at.1), Place::Inside))).collect();
        let mut factors = Vec::new();
        for depth in [1, 64] {
            let results = run_graph(&lab, &tasks, &originals, depth);
            let mut l = vec![0.0; n * n];
            for (&(i, j), version) in &last {
                let (data, width) = (lab.download(&results[version], Place::Steps), starts[j + 1] - starts[j]);
                data.iter().enumerate().for_each(|(at, &v)| l[(starts[i] + at / width) * n + starts[j] + at % width] = v);
            }
            check(&potrf(whole.clone(), 0), &l).unwrap_or_else(|e| panic!("{real}, {depth} in flight: {e}"));
            factors.push(bits(&l));
        }
        assert!(factors[0] == factors[1], "{real}: the order in which launches end changes nothing");
        for (&(i, j), data) in &originals {
            let same = lab
                .download(data, Place::Plain)
                .iter()
                .zip(&tile(i, j).values)
                .all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
            assert!(same, "{real}: tile {i}, {j} was only read");
        }
    }
}

#[test]
fn variants_give_the_same_bits() {
    let Some(adapter) = adapter() else { return };
    let labs: Vec<Lab> = choices()
        .map(|variants| {
            let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 8 << 20).expect("opens");
            Lab { gpu: Arc::new(gpu.with_facts(|facts| facts.variants = variants)) }
        })
        .collect();
    let mut r = Numbers(23);
    for real in reals(&labs[0]) {
        let mut cases = Vec::new();
        for (m, n, k) in [(1, 1, 1), (33, 65, 31), (64, 64, 64), (127, 100, 20), (130, 68, 100), (129, 260, 9), (257, 128, 8)] {
            let (a, b) = (r.chunk(real, &[m, k]), r.chunk(real, &[n, k]));
            cases.extend([gemm(a.clone(), b, r.chunk(real, &[m, n])), syrk(a, r.chunk(real, &[m, m]))]);
        }
        for (m, k) in [(1, 260), (7, 1020), (5, 1024), (9, 1284), (6, 2812), (3, 40_000), (7, 4099)] {
            cases.push(gemv(r.chunk(real, &[m, k]), r.chunk(real, &[k])));
        }
        for case in &cases {
            let lower = case.kernel.name() == "syrk";
            let counts = |at: &usize| !lower || at % case.output.shape[1] <= at / case.output.shape[1];
            let all: Vec<Vec<f64>> = labs.iter().enumerate().map(|(i, lab)| lab.run(case, i).expect("runs")).collect();
            for found in &all {
                check(case, found).unwrap_or_else(|e| panic!("{case}: {e}"));
                let same = (0..found.len()).filter(counts).all(|at| found[at].to_bits() == all[0][at].to_bits());
                assert!(same, "{case}");
            }
        }
    }
}

#[test]
fn resumed_iterations_end_as_on_the_cpu() {
    let (Some(lab), cpu) = (lab(), cpu()) else { return };
    for (real, iterations) in reals(&lab).flat_map(|real| [4097, 5000, 70_000].map(|i| (real, i))) {
        let case = resumed(real, iterations);
        let (found, wanted) = (lab.run(&case, 0).expect("runs"), case.on_cpu(&cpu).expect("runs on the CPU"));
        assert_eq!(found, wanted, "{case}");
        let between = |low: f64, high: f64| found.iter().any(|&count| low < count && count < high);
        assert!(found.contains(&f64::from(iterations)) && between(200.0, 4000.0) && between(-1.0, 1.0), "{found:?}");
        assert!(iterations < 5000 || between(4096.0, 5000.0), "none escapes in a later dispatch: {found:?}");
    }
}

#[test]
fn launches_that_wait_are_submitted_together() {
    let Some(lab) = lab() else { return };
    let gpu = lab.gpu.clone();
    let numbers = |shape: &[usize]| Chunk::new(DType::F32, shape, |i| i as f64);
    let case = gemv(numbers(&[4, 4]), numbers(&[4]));
    let inputs: Vec<Data> = case.inputs.iter().map(|chunk| lab.upload(chunk, Place::Plain)).collect();
    let to = lab.room(DType::F32, &[4]);
    wait(&lab.start(&case, &inputs, &to, None)).expect("compiled");
    let before = gpu.counters();
    let reports: Vec<_> = (0..10_000).map(|_| lab.start(&case, &inputs, &to, None)).collect();
    reports.iter().for_each(|report| wait(report).expect("runs"));
    let after = gpu.counters();
    let (launches, submissions) = (after.launches - before.launches, after.submissions - before.submissions);
    assert_eq!(launches, 10_000);
    // Sixteen and more where the GPU has others to do meanwhile: that is tested on a clock (src/device/gpu/batcher/tests.rs).
    assert!(submissions <= launches / 2, "{submissions} submissions");
    assert_eq!(after.dispatches - before.dispatches, launches);
    assert_eq!((after.uploads, after.downloads), (before.uploads, before.downloads));
}
