//! Every array operation against naive loops in `f64`, over random shapes, cuts, layouts and sessions.
//!
//! Owns: the oracles, written here, sharing no code with the kernels. Must not know: kernels' insides. Invariant: an oracle is the
//! definition, in the plainest loop.

use std::sync::Arc;

use chunkwise::device::{Cpu, Device, IoLane, LinkSpec};
use chunkwise::id::SpaceId;
use chunkwise::ndarray::{Array1, Array2, ArrayD, IxDyn, s};
use chunkwise::{Array, prelude::*};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use support::picture::picture;

fn session() -> Session {
    static SESSION: std::sync::OnceLock<Session> = std::sync::OnceLock::new();
    SESSION.get_or_init(|| Session::builder().threads(2).cache_dir("").memory_limit("1GB").build().expect("session")).clone()
}

/// Two pools, the second behind a link.
fn two_pools(placement: Placement) -> Session {
    let link = LinkSpec { latency_ns: 1000, bytes_per_s: 4e9 };
    let far = Cpu::behind_link("far", 1, SpaceId(1), [link; 2]).expect("pool");
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(IoLane::new()), Arc::new(far)];
    let builder = Session::builder().devices(devices).cache_dir("").memory_limit("1GB").placement(placement);
    builder.build().expect("session")
}

/// Numbers without a pattern, in [-1, 1).
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn matrix(m: usize, n: usize, seed: u64) -> Array2<f64> {
    Array2::from_shape_vec((m, n), numbers(m * n, seed)).expect("shape")
}

/// Random cuts of an axis: extents that add up to it.
fn cuts(n: usize, seed: u64) -> Vec<usize> {
    let mut left = n;
    let mut all = Vec::new();
    for r in numbers(n, seed) {
        if left == 0 {
            break;
        }
        let take = (1 + ((r + 1.0) * 4.0) as usize).min(left);
        all.push(take);
        left -= take;
    }
    if all.is_empty() { vec![0] } else { all }
}

fn naive_matvec(a: &Array2<f64>, x: &Array1<f64>) -> Vec<f64> {
    a.rows().into_iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) -> bool {
    let near = |(f, e): (&f64, &f64)| f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= tolerance * e.abs().max(1.0);
    found.len() == expected.len() && found.iter().zip(expected).all(near)
}

fn flat(array: &ArrayD<f64>) -> Vec<f64> {
    array.iter().copied().collect()
}

fn bits(array: &ArrayD<f64>) -> Vec<u64> {
    array.iter().map(|v| v.to_bits()).collect()
}

/// A shape of rank 0 to 4 with extents 0 to 6.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0usize..7, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn matvec_equals_the_loop(m in 1usize..40, k in 1usize..40, seed in any::<u64>(), layout in 0..4) {
        let (wide, x) = (matrix(m + 3, k + 2, seed), Array1::from(numbers(k, seed ^ 1)));
        // C order, Fortran order, a window of a larger array, every second row backwards.
        let a = match layout {
            0 => matrix(m, k, seed),
            1 => matrix(k, m, seed).reversed_axes(),
            2 => wide.slice_move(s![2..2 + m, 1..1 + k]),
            _ => matrix(2 * m, k, seed).slice_move(s![..;-2, ..]),
        };
        let expected = naive_matvec(&a, &x);
        let array = Array::from(a).in_session(&session());
        let array = array.try_chunks(vec![cuts(m, seed ^ 2), cuts(k, seed ^ 3)]).expect("cuts");
        let y = array.try_matvec(&Array::from(x)).expect("shapes fit").compute().expect("computes");
        prop_assert!(close(&flat(&y), &expected, 1e-13), "{:?} {expected:?}", y);
    }

    #[test]
    fn mean_equals_the_loop(shape in shapes(), seed in any::<u64>(), chunk in 1usize..9) {
        let len: usize = shape.iter().product();
        let values = numbers(len, seed);
        let a = ArrayD::from_shape_vec(IxDyn(&shape), values.clone()).expect("shape");
        let expected = values.iter().sum::<f64>() / len as f64;
        let array = Array::from(a).in_session(&session()).try_chunks(chunk).expect("chunks");
        let found = array.mean().compute_scalar().expect("computes");
        prop_assert!(close(&[found], &[expected], 1e-13), "{found} {expected}");
    }

    #[test]
    fn mean_of_integers_is_exact(shape in shapes(), seed in any::<u64>(), chunk in 1usize..9) {
        let len: usize = shape.iter().product();
        let values: Vec<i64> = numbers(len, seed).iter().map(|v| (v * 1e6) as i64).collect();
        let a = ArrayD::from_shape_vec(IxDyn(&shape), values.clone()).expect("shape");
        let expected = values.iter().sum::<i64>() as f64 / len as f64;
        let narrow = a.mapv(|v| v as i32);
        let found = Array::from(a).in_session(&session()).try_chunks(chunk).expect("chunks").mean().compute_scalar();
        prop_assert_eq!(found.expect("computes").to_bits(), expected.to_bits());
        let found = Array::from(narrow).in_session(&session()).try_chunks(chunk).expect("chunks").mean().compute_scalar();
        prop_assert_eq!(found.expect("computes").to_bits(), expected.to_bits());
    }

    #[test]
    fn weighted_mean_equals_the_loop(shape in shapes(), seed in any::<u64>(), chunk in 1usize..9) {
        let len: usize = shape.iter().product();
        let (x, w): (Vec<f64>, Vec<f64>) = (numbers(len, seed), numbers(len, !seed).iter().map(|w| w + 1.5).collect());
        let expected = x.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>() / w.iter().sum::<f64>();
        let array = |v| Array::from(ArrayD::from_shape_vec(IxDyn(&shape), v).expect("shape")).in_session(&session());
        let (x, w) = (array(x).try_chunks(chunk).expect("chunks"), array(w));
        let found = x.try_weighted_mean(&w).expect("shapes fit").compute_scalar().expect("computes");
        prop_assert!(close(&[found], &[expected], 1e-12), "{found} {expected}");
    }

    #[test]
    fn mandelbrot_equals_the_loop(m in 0usize..24, n in 0usize..40, iterations in 0u32..60, chunk in 1usize..50) {
        let (x, y) = (Array::<f64>::ogrid(-2.0, 0.6, n), Array::<f64>::ogrid(-1.1, 1.3, m));
        let counts = mandelbrot(&x, &y, iterations).try_chunks(chunk).expect("chunks").in_session(&session());
        let counts = counts.compute().expect("computes");
        let axis = |a: f64, b: f64, n: usize, k: usize| if n == 1 { a } else { k as f64 * ((b - a) / (n - 1) as f64) + a };
        for ((r, c), &found) in counts.into_dimensionality::<chunkwise::ndarray::Ix2>().expect("two axes").indexed_iter() {
            let (cr, ci) = (axis(-2.0, 0.6, n, c), axis(-1.1, 1.3, m, r));
            let (mut re, mut im, mut count) = (cr, ci, 0);
            while count < iterations {
                (re, im) = (re.mul_add(re, -(im * im)) + cr, 2.0 * (re * im) + ci);
                let inside = re * re + im * im <= 16.0; // not so for NaN
                if !inside {
                    break;
                }
                count += 1;
            }
            prop_assert_eq!(found, count as i32, "row {} column {}", r, c);
        }
    }

    #[test]
    fn random_numbers_do_not_depend_on_chunks(shape in shapes(), seed in any::<u64>(), chunk in 1usize..9) {
        let make = |seed| Session::builder().threads(1).cache_dir("").seed(seed).build().expect("session");
        let (one, same, other) = (make(seed), make(seed), make(seed ^ 1));
        let whole = one.default_rng().uniform::<f64>(&shape).compute().expect("computes");
        let cut = same.default_rng().uniform::<f64>(&shape).try_chunks(chunk).expect("chunks");
        prop_assert_eq!(bits(&whole), bits(&cut.compute().expect("computes")));
        prop_assert!(whole.iter().all(|v| (0.0..1.0).contains(v)));
        if whole.len() > 3 {
            let second = one.default_rng().uniform::<f64>(&shape).compute().expect("computes");
            let others = other.default_rng().uniform::<f64>(&shape).compute().expect("computes");
            prop_assert!(bits(&whole) != bits(&second) && bits(&whole) != bits(&others));
        }
    }

    #[test]
    fn what_is_stored_is_opened(shape in shapes(), seed in any::<u64>(), chunk in 1usize..9, other in 1usize..9) {
        let values = numbers(shape.iter().product(), seed);
        let a = ArrayD::from_shape_vec(IxDyn(&shape), values).expect("shape");
        for (file, spec) in [("x.npy", ""), ("x.h5", ":/g/A")] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join(file).display().to_string();
            let spec = format!("{file}{spec}");
            let array = Array::from(a.clone()).in_session(&session()).try_chunks(chunk).expect("chunks");
            array.store(&spec).expect("stores");
            let opened = Array::<f64>::open(&spec).expect("opens").in_session(&session()).try_chunks(other).expect("chunks");
            let back = opened.compute().expect("reads");
            prop_assert_eq!(back.shape(), a.shape());
            prop_assert_eq!(bits(&back), bits(&a));
        }
    }

    #[test]
    fn cholesky_equals_the_loop(n in 0usize..40, seed in any::<u64>(), chunk in 1usize..20) {
        let mut a = matrix(n, n, seed);
        a.diag_mut().mapv_inplace(|d| d.abs() + n as f64);
        let expected = naive_cholesky(&a);
        let array = Array::from(a).in_session(&session()).try_chunks(chunk).expect("chunks");
        let l = array.try_cholesky().expect("square").compute().expect("positive definite");
        prop_assert!(close(&flat(&l), &flat(&expected.into_dyn()), 1e-12));
    }
}

/// Of the lower triangle.
fn naive_cholesky(a: &Array2<f64>) -> Array2<f64> {
    let n = a.nrows();
    let mut l = Array2::zeros((n, n));
    for j in 0..n {
        let diagonal: f64 = a[[j, j]] - (0..j).map(|k| l[[j, k]] * l[[j, k]]).sum::<f64>();
        l[[j, j]] = diagonal.sqrt();
        for i in j + 1..n {
            let sum: f64 = (0..j).map(|k| l[[i, k]] * l[[j, k]]).sum();
            l[[i, j]] = (a[[i, j]] - sum) / l[[j, j]];
        }
    }
    l
}

type Work = fn(&Session) -> chunkwise::Result<(ArrayD<f64>, u64)>;

fn run(array: &Array<f64>) -> chunkwise::Result<(ArrayD<f64>, u64)> {
    array.run().map(|(values, report)| (values, report.bytes_moved))
}

fn works() -> [(&'static str, Work); 4] {
    [
        ("matvec", |session| {
            let a = Array::from(matrix(120, 90, 1)).in_session(session).try_chunks((16, 25))?;
            run(&a.try_matvec(&Array::from(Array1::from(numbers(90, 2))))?)
        }),
        ("mean", |session| run(&Array::from(matrix(120, 90, 3)).in_session(session).try_chunks((7, 90))?.mean())),
        ("cholesky", |session| {
            let mut a = matrix(96, 96, 4);
            a.diag_mut().mapv_inplace(|d| d.abs() + 96.0);
            run(&Array::from(a).in_session(session).try_chunks(16)?.try_cholesky()?)
        }),
        ("mandelbrot", |session| {
            let counts = picture::<f64>(60, 50, 200).try_chunks(16)?.in_session(session);
            counts.run().map(|(values, report)| (values.mapv(f64::from), report.bytes_moved))
        }),
    ]
}

#[test]
fn the_same_bits_for_any_threads_pools_and_memory() {
    for (name, work) in works() {
        let (expected, moved) = work(&session()).expect("computes");
        assert_eq!(moved, 0, "{name}");
        for threads in 1..=3 {
            let session = Session::builder().threads(threads).cache_dir("").build().expect("session");
            assert_eq!(bits(&work(&session).expect("computes").0), bits(&expected), "{name}, {threads} threads");
        }
        for placement in [Placement::Auto, Placement::Device(0), Placement::Device(2)] {
            let (found, moved) = work(&two_pools(placement)).unwrap_or_else(|e| panic!("{name}, {placement}: {e}"));
            assert_eq!(bits(&found), bits(&expected), "{name}, {placement}");
            match placement {
                Placement::Device(0) => assert_eq!(moved, 0, "{name}"),
                Placement::Device(2) => assert!(moved > 0, "{name}: the far pool's operands travel"),
                _ => {}
            }
        }
        let least = least_memory(work);
        let tight = Session::builder().threads(2).cache_dir("").memory_limit(least).build().expect("session");
        assert_eq!(bits(&work(&tight).expect("fits").0), bits(&expected), "{name} in {least} B");
        assert_eq!(tight.used_bytes(), 0, "{name}");
        let less = Session::builder().threads(2).cache_dir("").memory_limit(least - 1).build().expect("session");
        assert!(matches!(work(&less), Err(Error::OutOfMemory { .. })), "{name} in {least} - 1 B");
    }
}

/// What the refusal says that the work needs.
fn least_memory(work: Work) -> u64 {
    let session = Session::builder().threads(2).cache_dir("").memory_limit("1kB").build().expect("session");
    let mut least = match work(&session) {
        Err(Error::OutOfMemory { requested_bytes, .. }) => requested_bytes,
        other => panic!("{other:?}"),
    };
    // The arrays alone are refused first, then the peak.
    for _ in 0..3 {
        let session = Session::builder().threads(2).cache_dir("").memory_limit(least).build().expect("session");
        match work(&session) {
            Err(Error::OutOfMemory { requested_bytes, .. }) => least = requested_bytes,
            _ => return least,
        }
    }
    panic!("a refusal names what is needed");
}

#[test]
fn nan_and_infinity_pass_through() {
    let mut a = matrix(20, 20, 5);
    (a[[3, 4]], a[[7, 2]]) = (f64::NAN, f64::INFINITY);
    let x = Array1::from_elem(20, 1.0);
    let expected = naive_matvec(&a, &x);
    let array = Array::from(a.clone()).in_session(&session()).try_chunks(6).expect("chunks");
    let y = array.matvec(&Array::from(x)).compute().expect("computes");
    assert!(y[3].is_nan() && y[7] == f64::INFINITY && close(&flat(&y), &expected, 1e-13), "{y:?}");
    assert!(array.mean().compute_scalar().expect("computes").is_nan());
    let error = array.cholesky().compute().expect_err("not positive definite");
    assert!(matches!(error, Error::NotPositiveDefinite { .. }), "{error}");
    let mut spd = Array2::<f64>::eye(20);
    spd[[13, 13]] = f64::NAN;
    let error = Array::from(spd).in_session(&session()).try_chunks(6).expect("chunks").cholesky().compute().expect_err("NaN");
    assert!(matches!(error, Error::NotPositiveDefinite { row: 13, pivot } if pivot.is_nan()), "{error}");
}

#[test]
fn empty_arrays_and_rank_0() {
    let session = session();
    let empty = Array::from(Array2::<f64>::zeros((0, 5))).in_session(&session);
    assert_eq!(empty.compute().expect("computes").shape(), [0, 5]);
    assert!(empty.mean().compute_scalar().expect("computes").is_nan());
    assert_eq!(empty.matvec(&Array::from(Array1::zeros(5))).compute().expect("computes").shape(), [0]);
    let narrow = Array::from(Array2::<f64>::zeros((3, 0))).in_session(&session);
    assert_eq!(narrow.matvec(&Array::from(Array1::zeros(0))).compute().expect("computes"), Array1::<f64>::zeros(3).into_dyn());
    let scalar = Array::from(chunkwise::ndarray::arr0(2.5)).in_session(&session);
    assert_eq!(scalar.compute_scalar().expect("computes"), 2.5);
    assert_eq!(scalar.mean().compute_scalar().expect("computes"), 2.5);
    let chunk = Array::from(matrix(3, 3, 6)).in_session(&session).chunks(1_000_000);
    assert_eq!(flat(&chunk.compute().expect("computes")), flat(&matrix(3, 3, 6).into_dyn()));
}

#[test]
fn errors_name_both_shapes_and_both_sessions() {
    let a = Array::from(matrix(3, 4, 7));
    let text = a.try_matvec(&Array::from(Array1::zeros(5))).expect_err("shapes").to_string();
    assert!(text.contains("[5]") && text.contains("[3, 4]"), "{text}");
    let text = a.try_weighted_mean(&Array::from(matrix(4, 3, 7))).expect_err("shapes").to_string();
    assert!(text.contains("[4, 3]") && text.contains("[3, 4]"), "{text}");
    assert!(a.try_cholesky().expect_err("not square").to_string().contains("[3, 4]"));
    assert!(a.clone().try_chunks(0).is_err() && a.clone().try_chunks([1, 2, 3]).is_err());
    let other = Session::builder().threads(1).cache_dir("").build().expect("session");
    let x = Array::from(Array1::zeros(4)).in_session(&other);
    let mixed = a.in_session(&session()).try_matvec(&x);
    assert!(matches!(mixed, Err(Error::SessionMismatch { op: "matvec" })));
}

/// A plain file of the store read as it is summed gives what the array in memory gives.
#[test]
fn means_of_files_equal_means_of_memory() {
    for ending in ["npy", "h5"] {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join(format!("x.{ending}")).display().to_string();
        let spec = if ending == "h5" { format!("{file}:/A") } else { file.clone() };
        let a = matrix(50, 33, 8);
        Array::from(a.clone()).in_session(&session()).store(&spec).expect("stores");
        let open = || Array::<f64>::open(&spec).expect("opens").in_session(&session()).try_chunks((9, 33)).expect("chunks");
        let expected = a.sum() / a.len() as f64;
        assert!(close(&[open().mean().compute_scalar().expect("computes")], &[expected], 1e-13));
        let weighted = open().weighted_mean(&open()).compute_scalar().expect("computes");
        assert!(close(&[weighted], &[a.mapv(|v| v * v).sum() / a.sum()], 1e-11));
    }
}
