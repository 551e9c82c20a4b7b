//! Arrays that are made: against NumPy's (`data/make_golden.py`) and against formulas, in any chunks, seen by any slice. Needs no device.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chunkwise::ndarray::{self, ArrayD, IxDyn, MeshIndex};
use chunkwise::{Array, Complex, Element, Error, bf16, f16, prelude::*};
use proptest::prelude::*;
use serde_json::Value;
use support::hex::hex;

fn session() -> Session {
    Session::builder().threads(2).cache_dir("").build().expect("a session")
}

/// Checks an array, whole and in chunks of 3.
#[track_caller]
fn check<T: Element>(session: &Session, array: Array<T>, case: &Value) {
    for array in [array.clone(), array.chunks(3)] {
        let found = array.in_session(session).compute().expect("computes");
        assert_eq!(found.shape().to_vec(), serde_json::from_value::<Vec<usize>>(case["shape"].clone()).unwrap(), "{case}");
        assert_eq!(hex(&found), case["bytes"].as_str().unwrap(), "{case}");
    }
}

#[test]
fn what_is_made_is_numpys_to_the_bit() {
    let text = std::fs::read_to_string(format!("{}/tests/data/golden.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (cases, session) = (serde_json::from_str::<Vec<Value>>(&text).unwrap(), session());
    let mut seen = std::collections::BTreeMap::<String, usize>::new();
    for case in &cases {
        let (op, dtype) = (case["op"].as_str().unwrap(), case["dtype"].as_str().unwrap());
        let integer = |at: usize| case["args"][at].as_i64().unwrap();
        let number = |x: &Value| x.as_str().map_or_else(|| x.as_i64().unwrap() as f64, |text| text.parse::<f64>().unwrap());
        let float = |at: usize| number(&case["args"][at]);
        macro_rules! arange {
            ($t:ty, $of:ident) => {
                check(&session, Array::<$t>::arange($of(0) as $t, $of(1) as $t, $of(2) as $t), case)
            };
        }
        macro_rules! matrix {
            ($t:ty) => {{
                let (shape, k) = ((integer(0) as usize, integer(1) as usize), integer(2) as isize);
                check(&session, if op == "eye" { Array::<$t>::eye_at(shape, k) } else { Array::<$t>::tri(shape, k) }, case)
            }};
        }
        match (op, dtype) {
            ("arange", "i8") => arange!(i8, integer),
            ("arange", "u8") => arange!(u8, integer),
            ("arange", "i32") => arange!(i32, integer),
            ("arange", "u64") => arange!(u64, integer),
            ("arange", "i64") => arange!(i64, integer),
            ("arange", "f32") => arange!(f32, float),
            ("arange", "f64") => arange!(f64, float),
            ("linspace", "f32") => check(&session, Array::<f32>::linspace(float(0), float(1), integer(2) as usize), case),
            ("linspace", "f64") => check(&session, Array::<f64>::linspace(float(0), float(1), integer(2) as usize), case),
            ("ogrid", "f32") => check(&session, Array::<f32>::ogrid(float(0), float(1), integer(2) as usize), case),
            ("ogrid", "f64") => check(&session, Array::<f64>::ogrid(float(0), float(1), integer(2) as usize), case),
            (_, "bool") if op != "promote" => matrix!(bool),
            (_, "i16") if op != "promote" => matrix!(i16),
            ("eye" | "tri", "f64") => matrix!(f64),
            ("eye" | "tri", "c64") => matrix!(Complex<f32>),
            ("cast", _) => {
                let values: Vec<f64> = case["args"].as_array().unwrap().iter().map(number).collect();
                match dtype {
                    "f16" => check(&session, Array::from(values).cast::<f16>(), case),
                    _ => check(&session, Array::from(values).cast::<bf16>(), case),
                }
            }
            ("promote", _) => {
                let of = |name: &str| *DType::ALL.iter().find(|dtype| dtype.to_string() == name).unwrap();
                let [a, b] = [0, 1].map(|at| of(case["args"][at].as_str().unwrap()));
                assert_eq!(a.promote(b), Some(of(dtype)), "{a} with {b}");
            }
            _ => panic!("what is {case}?"),
        }
        *seen.entry(op.to_owned()).or_default() += 1;
    }
    let counts: Vec<(&str, usize)> = seen.iter().map(|(op, &count)| (op.as_str(), count)).collect();
    assert!(counts.len() == 7 && counts.iter().all(|(_, count)| *count >= 2), "{counts:?}");
}

/// A slice of an array of two axes: starts, extents, steps.
type Part = [(usize, usize, isize); 2];

fn part() -> impl Strategy<Value = Part> {
    let axis = || (0usize..12, 0usize..12, prop_oneof![-3isize..0, 1isize..4]);
    [axis(), axis()]
}

/// What a slice shows of an array.
fn seen<T: Element>(array: &Array<T>, part: &Part) -> Array<T> {
    let of = |axis: usize| {
        let (n, (start, len, step)) = (array.shape()[axis], part[axis]);
        let start = start.min(n);
        ndarray::SliceInfoElem::Slice { start: start as isize, end: Some((start + len).min(n) as isize), step }
    };
    array.slice([of(0), of(1)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever makes elements of indices makes the same in any chunks, seen by any slice, alone and beside others.
    #[test]
    fn a_slice_is_that_of_the_whole(shape in (0usize..9, 0usize..9), chunk in 1usize..6, part in part(), k in -9isize..9) {
        let session = session();
        let plain = |of: &dyn Fn(usize, usize) -> i64| {
            let all = ndarray::Array2::from_shape_fn(shape, |(i, j)| of(i, j));
            let lazy = seen(&Array::from(all), &part).in_session(&session);
            lazy.compute().expect("computes")
        };
        let made = |array: Array<i64>| {
            let seen = seen(&array.chunks(chunk), &part).in_session(&session);
            let turned = seen.t().compute().expect("computes");
            let found = seen.compute().expect("computes");
            assert_eq!(turned, found.clone().reversed_axes());
            found
        };
        prop_assert_eq!(made(Array::full(shape, -7)), plain(&|_, _| -7));
        prop_assert_eq!(made(Array::eye_at(shape, k)), plain(&|i, j| i64::from(j as isize - i as isize == k)));
        prop_assert_eq!(made(Array::tri(shape, k)), plain(&|i, j| i64::from(j as isize - i as isize <= k)));
        prop_assert_eq!(made(Array::from_shape_fn(shape, |(i, j)| (100 * i + j) as i64)), plain(&|i, j| (100 * i + j) as i64));
        let [rows, columns] = &indices(shape)[..] else { panic!("two axes") };
        prop_assert_eq!(made(rows.broadcast_to(shape)), plain(&|i, _| i as i64));
        prop_assert_eq!(made(columns.broadcast_to(shape)), plain(&|_, j| j as i64));
        let (x, y) = (Array::arange(0, 3 * shape.0 as i64, 3), Array::arange(5, 5 - shape.1 as i64, -1));
        let grid = meshgrid(&[&x, &y], MeshIndex::IJ);
        prop_assert_eq!(made(grid[0].clone()), plain(&|i, _| 3 * i as i64));
        prop_assert_eq!(made(grid[1].clone()), plain(&|_, j| 5 - j as i64));
        // The diagonal, of what lies in memory, of what is made, and of a view.
        let all = ndarray::Array2::from_shape_fn(shape, |(i, j)| (100 * i + j) as i64);
        let (row, column) = (k.min(0).unsigned_abs(), k.max(0) as usize);
        let len = shape.0.saturating_sub(row).min(shape.1.saturating_sub(column));
        let wanted: Vec<i64> = (0..len).map(|at| (100 * (row + at) + column + at) as i64).collect();
        let memory = Array::from(all.clone());
        let made = Array::from_shape_fn(shape, |(i, j)| (100 * i + j) as i64).chunks((chunk, chunk + 1));
        let turned = Array::from(all.reversed_axes()).chunks(chunk).t();
        for matrix in [memory, made, turned] {
            let found = matrix.in_session(&session).diag_at(k).compute().expect("computes");
            prop_assert_eq!(found.as_slice().expect("a vector"), &wanted[..]);
        }
    }
}

#[test]
fn any_rank_is_made() {
    let session = session();
    // Eleven axes, of which a chunk covers none.
    let shape = [2; 11];
    let uniform = session.rng(3).uniform::<f64>(shape);
    let all = uniform.compute().unwrap();
    let part = uniform.clone().chunks(1).permute([10, 0, 9, 1, 8, 2, 7, 3, 6, 4, 5]).compute().unwrap();
    assert_eq!(part, all.clone().permuted_axes(IxDyn(&[10, 0, 9, 1, 8, 2, 7, 3, 6, 4, 5])));
    let indexed = Array::from_shape_fn(&shape[..], |index: IxDyn| (0..11).fold(0, |at, axis| 2 * at + index[axis] as i32));
    let found = indexed.chunks([1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1]).in_session(&session).compute().unwrap();
    assert_eq!(found.iter().copied().collect::<Vec<_>>(), (0..2048).collect::<Vec<i32>>());
    // And none.
    assert_eq!(Array::from_shape_fn((), |()| 7u8).in_session(&session).compute_scalar().unwrap(), 7);
    assert_eq!(
        Array::full((), Complex::new(1.0, -1.0)).in_session(&session).compute_scalar().unwrap(),
        Complex::new(1.0, -1.0)
    );
    assert_eq!(indices(()).len(), 0);
    assert!(meshgrid::<f64>(&[], MeshIndex::XY).is_empty());
    let empty = Array::<u16>::ones((3, 0, 2)).in_session(&session);
    assert_eq!((empty.compute().unwrap().shape(), empty.sum().compute_scalar().unwrap()), (&[3, 0, 2][..], 0));
}

#[test]
fn constants_take_no_memory_and_no_task() {
    let session = session();
    let ones = Array::<f64>::ones((1 << 20, 1 << 20)).in_session(&session);
    let (mean, report) = ones.slice(s![..4096, ..4096]).mean().run().unwrap();
    assert_eq!(mean[[]], 1.0);
    assert!(report.peak_bound_bytes < 1 << 20, "{}", report.peak_bound_bytes);
    assert_eq!(ones.reshape([1 << 40]).slice(s![-3..]).compute().unwrap(), ndarray::arr1(&[1.0; 3]).into_dyn());
    let zeros = Array::<bool>::zeros((2, 2)).in_session(&session);
    assert_eq!(zeros.compute().unwrap(), ArrayD::from_elem(IxDyn(&[2, 2]), false));
    let both = concatenate(Axis(0), &[&Array::<u8>::zeros([2]).in_session(&session), &Array::ones([3])]);
    assert_eq!(both.compute().unwrap().as_slice().unwrap(), [0, 0, 1, 1, 1]);
}

#[test]
fn a_function_is_called_for_what_is_needed_and_may_panic() {
    let session = session();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let x = Array::from_shape_fn((1000, 1000), move |(i, j)| {
        counted.fetch_add(1, Ordering::Relaxed);
        assert!(i != 999, "row 999 is bad");
        (1000 * i + j) as i64
    });
    let x = x.in_session(&session);
    assert_eq!(calls.load(Ordering::Relaxed), 0, "nothing is called before it is computed");
    assert_eq!(x.slice(s![10..20, ..;500]).sum().compute_scalar().unwrap(), 2 * (10..20).sum::<i64>() * 1000 + 10 * 500);
    assert_eq!(calls.load(Ordering::Relaxed), 20);
    let error = x.compute().unwrap_err();
    assert!(["row 999 is bad", "from_shape_fn"].iter().all(|word| error.to_string().contains(word)), "{error}");
    assert_eq!(x.slice(s![0, 7]).compute_scalar().unwrap(), 7, "the session goes on");
    // Two functions of one type are two.
    let of = |by: i64| Array::from_shape_fn(4usize, move |i| by * i as i64).in_session(&session);
    let (a, b) = compute_all((&of(1), &of(10))).unwrap();
    assert_eq!((a.sum(), b.sum()), (6, 60));
    let (a, b) = compute_all((
        &Array::from_shape_fn(4usize, |i| i as i64).in_session(&session),
        &Array::from_shape_fn(4usize, |i| -(i as i64)).in_session(&session),
    ))
    .unwrap();
    assert_eq!((a.sum(), b.sum()), (6, -6));
}

#[test]
fn steps_at_the_ends_of_floats_are_numpys() {
    let session = session();
    let bits =
        |array: Array<f64>| array.in_session(&session).compute().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(Array::arange(-0.0, 2.5, 1.0)), [-0.0f64, 1.0, 2.0].map(f64::to_bits));
    assert_eq!(bits(Array::arange(1.7e308, 1.75e308, 1e308)), [1.7e308f64.to_bits()]);
    assert_eq!(bits(Array::arange(0.0, 1e-300, 1e100)), [0]);
    assert_eq!(Array::arange(0.0, -1e-300, 1e100).len(), 0);
    assert_eq!(
        bits(Array::arange(-1.5e308, 1.5e308, 1e308)),
        [-1.5e308f64, -1.5e308 + 1e308, 2.0 * 1e308 - 1.5e308].map(f64::to_bits)
    );
    let halves = Array::arange(f16::from_f32(60_000.0), f16::from_f32(65_000.0), f16::from_f32(10_000.0)).in_session(&session);
    assert_eq!(halves.compute().unwrap().as_slice().unwrap(), [f16::from_f32(60_000.0)]);
}

#[test]
fn a_diagonal_takes_little_of_what_is_large() {
    let session = session();
    let long = 1 << 29;
    assert_eq!(
        Array::<f64>::ones((long, long)).diag().in_session(&session).slice(s![-2..]).compute().unwrap().as_slice().unwrap(),
        [1.0; 2]
    );
    let sums = |k| {
        Array::<u8>::eye_at((long, long), 3).diag_at(k).slice(s![..1000]).in_session(&session).sum().compute_scalar().unwrap()
    };
    assert_eq!((sums(3), sums(2)), (1000, 0));
    let random = session.rng(1).uniform::<f64>((100_000, 100_000)).chunks((100_000, 16));
    let diagonal = random.diag_at(-7);
    assert_eq!((diagonal.len(), tasks(&diagonal) < 100), (99_993, true));
    assert_eq!(diagonal.slice(s![500]).compute_scalar().unwrap(), random.slice(s![507, 500]).compute_scalar().unwrap());
    assert_eq!(diagonal.slice(s![-1]).compute_scalar().unwrap(), random.slice(s![-1, -8]).compute_scalar().unwrap());
}

fn tasks(array: &Array<f64>) -> usize {
    array.run().expect("runs").1.tasks()
}

#[test]
fn memory_in_fortran_order_is_cut_where_it_is_far() {
    use chunkwise::ndarray::ShapeBuilder;
    let of = |shape: (usize, usize)| Array::from(ndarray::Array2::<f64>::ones(shape.f()));
    assert_eq!(of((3000, 3000)).grid().largest(), [3000, 699]);
    assert_eq!(of((1_000_000, 10)).grid().largest(), [209_715, 10], "a column alone would be thin");
    assert_eq!(Array::from(ndarray::Array2::<f64>::ones((3000, 3000))).grid().largest(), [699, 3000]);
}

#[test]
fn what_cannot_be_made_is_refused() {
    let says = |result: Result<()>, words: &[&str]| {
        let error = result.expect_err("refused").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    };
    says(Array::try_arange(0, 5, 0).map(drop), &["step of arange = 0", "not 0"]);
    says(Array::try_arange(0.0, f64::NAN, 1.0).map(drop), &["number of arange = NaN"]);
    says(Array::try_arange(0.0, 1e300, 1e-300).map(drop), &["arange", "2^59"]);
    says(Array::try_arange(i64::MIN, i64::MAX, 1).map(drop), &["arange"]);
    says(Array::<f32>::try_linspace(0.0, 1e300, 3).map(drop), &["end of linspace", "finite in f32"]);
    says(Array::<f64>::try_linspace(-1e308, 1e308, 3).map(drop), &["distance of the ends of linspace"]);
    says(Array::<f64>::try_zeros((1 << 40, 1 << 40)).map(drop), &["zeros"]);
    says(Array::<f64>::try_eye_at((1 << 40, 1 << 40), 0).map(drop), &["eye"]);
    says(Array::try_from_shape_fn((1 << 40, 1 << 40), |(i, _)| i as u64).map(drop), &["from_shape_fn"]);
    says(Array::try_indices([1 << 40, 1 << 40]).map(drop), &["indices"]);
    let (matrix, long) = (Array::<f64>::ones((2, 2)), Array::<f64>::ones(1 << 40));
    says(Array::try_meshgrid(&[&matrix], MeshIndex::IJ).map(drop), &["meshgrid", "vectors"]);
    says(Array::try_meshgrid(&[&long, &long], MeshIndex::IJ).map(drop), &["meshgrid"]);
    says(long.try_diag_at(0).map(drop), &["diag", "a matrix"]);
    let other = Array::<f64>::ones(3).in_session(&session());
    let one = Array::<f64>::ones(3).in_session(&session());
    assert!(matches!(Array::try_meshgrid(&[&one, &other], MeshIndex::IJ), Err(Error::SessionMismatch { .. })));
    assert_eq!(matrix.diag_at(5).len() + matrix.diag_at(-2).len() + Array::<f64>::ones((0, 3)).diag().len(), 0);
}
