//! Element-wise operations: against NumPy (`data/make_elementwise.py`), in any chunks; what they refuse; what becomes of long chains. Needs no device, and for some of it a GPU.

mod golden;

use chunkwise::ndarray::{self, ArrayD, IxDyn, arr1, arr2};
use chunkwise::{Array, Complex, DynArray, Error, map, prelude::*, where_};

fn session() -> Session {
    Session::builder().threads(2).cache_dir("").build().expect("a session")
}

#[cfg(feature = "gpu")]
support::gpus!();

/// A session whose work is a GPU's.
#[cfg(feature = "gpu")]
fn gpu_session() -> Option<Session> {
    gpu().map(|gpu| support::gpu::session(Placement::Gpu, &[gpu]))
}

#[test]
fn scalars_are_of_the_arrays_dtype_on_both_sides() {
    let session = session();
    let x = Array::from(vec![1f32, 2.0, 4.0]).in_session(&session);
    let y: Array<f32> = 2.0 * &x + 1.0 - &x / 2.0;
    assert_eq!(y.compute().unwrap(), arr1(&[2.5f32, 4.0, 7.0]).into_dyn());
    let mut z = 1.0 / x.clone();
    let before = z.clone();
    z += &x;
    z *= 2.0;
    z -= x.clone();
    z /= 1.0;
    assert_eq!(z.compute().unwrap(), arr1(&[3f32, 3.0, 4.5]).into_dyn());
    assert_eq!(before.compute().unwrap(), arr1(&[1f32, 0.5, 0.25]).into_dyn());
    let n = Array::from(vec![5i32, -6, 7]).in_session(&session);
    assert_eq!((100 - &n * 3 % 4).compute().unwrap(), arr1(&[97, 102, 99]).into_dyn());
    assert_eq!((&n << 2 | 1).compute().unwrap(), arr1(&[21, -23, 29]).into_dyn());
    assert_eq!((&n >> 40).compute().unwrap(), arr1(&[0, -1, 0]).into_dyn());
    assert_eq!((&n / 0 + &n % 0).compute().unwrap(), arr1(&[0, 0, 0]).into_dyn());
    let mask = n.gt(0) & !n.eq_elem(7);
    assert_eq!(mask.compute().unwrap(), arr1(&[true, false, false]).into_dyn());
    assert_eq!(mask.where_(&n, 0).compute().unwrap(), arr1(&[5, 0, 0]).into_dyn());
    fn generic<T: Float>(x: &Array<T>) -> Array<T> {
        (x * x + x).sqrt() - x.abs().minimum(x)
    }
    assert_eq!(generic(&x).dtype(), DType::F32);
    let z = Array::from(vec![Complex::new(3.0, 4.0)]).in_session(&session);
    assert_eq!((&z * Complex::new(0.0, 1.0)).compute().unwrap()[[0]], Complex::new(-4.0, 3.0));
    assert_eq!(z.abs().compute().unwrap()[[0]], 5.0);
    assert_eq!(z.arg().compute().unwrap()[[0]], 4f64.atan2(3.0));
    assert_eq!((&x * &z).dtype(), DType::C128);
}

#[test]
fn powers_roots_and_rounding() {
    let session = session();
    let x = Array::from(vec![-2.5, 0.5, 3.0, f64::NAN]).in_session(&session);
    let of = |array: Array<f64>| array.compute().unwrap().into_iter().collect::<Vec<f64>>();
    assert_eq!(of(x.powi(3))[..3], [-15.625, 0.125, 27.0]);
    assert_eq!(of(x.powi(-2))[..3], [1.0 / 6.25, 4.0, 1.0 / 9.0]);
    assert_eq!(of(x.powi(0)), [1.0; 4]);
    assert_eq!(of(x.powf(0.0)), [1.0; 4]);
    assert_eq!(of(x.round())[..3], [-3.0, 1.0, 3.0]);
    assert_eq!(of(x.round_ties_even())[..3], [-2.0, 0.0, 3.0]);
    assert_eq!(of(x.fract())[..3], [-0.5, 0.5, 0.0]);
    assert_eq!(of(x.rem_euclid(2.0))[..3], [1.5, 0.5, 1.0]);
    assert_eq!(of(x.div_euclid(2.0))[..3], [-2.0, 0.0, 1.0]);
    assert_eq!(of(x.fmax(0.0)), [0.0, 0.5, 3.0, 0.0]);
    assert!(of(x.maximum(0.0))[3].is_nan() && of(x.clip(0.0, 1.0))[3].is_nan());
    assert_eq!(of(x.hypot(4.0))[2], 5.0);
    let n = Array::from(vec![-3i64, 0, 1]).in_session(&session);
    assert_eq!(n.powi(-1).compute().unwrap(), arr1(&[0i64, 0, 1]).into_dyn());
    assert_eq!(n.powi(63).compute().unwrap(), arr1(&[(-3i64).wrapping_pow(63), 0, 1]).into_dyn());
    // Arguments of any size.
    let far = Array::from(vec![1e22, 1e300, -3e9, f64::INFINITY]).in_session(&session);
    let found = of(far.sin());
    assert!((found[0] - -0.8522008497671888).abs() < 1e-15 && found[3].is_nan(), "{found:?}");
}

#[test]
fn what_does_not_fit_is_refused_where_it_is_written() {
    let (one, other) = (session(), session());
    let a = Array::<f64>::zeros((3, 4)).in_session(&one);
    let b = Array::<f64>::zeros((3, 5)).in_session(&one);
    let error = a.try_add(&b).unwrap_err();
    assert!(matches!(&error, Error::Shape { op: "add", found, .. } if *found == [3, 5]), "{error}");
    assert!(error.to_string().contains("broadcast to [3, 4]"), "{error}");
    let elsewhere = Array::<f64>::zeros(4).in_session(&other);
    assert!(matches!(a.try_mul(&elsewhere).unwrap_err(), Error::SessionMismatch { .. }));
    assert!(matches!(a.gt(0.0).try_where_(&a, &b).unwrap_err(), Error::Shape { op: "where", .. }));
    let huge = Array::<f64>::zeros((1 << 40, 1));
    assert!(matches!(huge.try_add(Array::<f64>::zeros(1 << 40)).unwrap_err(), Error::Shape { op: "add", .. }));
    let panic = std::panic::catch_unwind(|| &a + &b).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("[3, 5]"));
    assert!(matches!(elsewhere.try_triu(0).unwrap_err(), Error::Shape { op: "triu", .. }));
}

#[test]
fn empty_arrays_and_rank_0() {
    let session = session();
    let nothing = Array::<f32>::zeros((0, 4)).in_session(&session);
    assert_eq!((&nothing + Array::<f64>::ones(4)).exp().compute().unwrap().shape(), [0, 4]);
    let a = Array::from(ndarray::arr0(2.0)).in_session(&session);
    assert_eq!((&a * &a).sqrt().compute_scalar().unwrap(), 2.0);
    assert_eq!((a.insert_axis(Axis(0)) + Array::<f64>::ones((3, 0))).compute().unwrap().shape(), [3, 0]);
}

#[test]
fn closures_see_chunks_and_their_faults_are_told() {
    let session = session();
    let x = Array::from(ArrayD::from_shape_fn(IxDyn(&[6, 4]), |i| (i[0] * 4 + i[1]) as i32)).in_session(&session);
    // Chunks in C order, however they lie.
    let first: Array<i64> = x.t().chunks((2, 3)).map_chunks(|chunk| chunk.mapv(|_| i64::from(chunk[[0, 0]])));
    let found = first.compute().unwrap();
    assert_eq!((found[[0, 0]], found[[1, 2]], found[[3, 5]]), (0, 0, 14));
    let both: Array<i32> = x.zip_chunks(&(&x * 2), |a, b| &b - &a);
    assert_eq!(both.compute().unwrap(), x.compute().unwrap());
    let wrong: Array<i32> = x.map_chunks(|_| ArrayD::zeros(IxDyn(&[1])));
    let error = wrong.compute().unwrap_err().to_string();
    assert!(error.contains("map_chunks") && error.contains("[1]") && error.contains("[6, 4]"), "{error}");
    let panics: Array<i32> = x.map_chunks(|_| panic!("a user's bug"));
    assert!(matches!(panics.compute().unwrap_err(), Error::Panicked { message, .. } if message.contains("a user's bug")));
    assert_eq!(x.compute().unwrap()[[5, 3]], 23, "the session goes on");
}

#[test]
fn functions_of_elements_in_rusts_syntax() {
    let session = session();
    let x = Array::from(vec![-3.0, -0.5, 0.5, 2.0, 40.0]).in_session(&session);
    let huber = map!(|x: f64, d: f64| if x.abs() <= d { 0.5 * x * x } else { d * (x.abs() - 0.5 * d) });
    let d = Array::full((), 1.0);
    assert_eq!(huber(&x, &d).compute().unwrap(), arr1(&[2.5, 0.125, 0.125, 1.5, 39.5]).into_dyn());
    let ladder = map!(|x: f64| {
        let y = x * 2.0;
        let kind = if y < 0.0 || y == 1.0 {
            1.0
        } else if y > 3.0 && y != 80.0 {
            2.0
        } else {
            y
        };
        kind + 100.0
    });
    assert_eq!(ladder(&x).compute().unwrap(), arr1(&[101.0, 101.0, 101.0, 102.0, 180.0]).into_dyn());
    let same = map!(|x: f64| x);
    assert_eq!(same(&x).compute().unwrap(), x.compute().unwrap());
}

/// A task a chunk, whatever the number of operations; and what only one slice needs is made for that alone.
#[test]
fn chains_are_one_task_a_chunk() {
    let session = session();
    let x = session.rng(3).uniform::<f64>((100, 100)).chunks(50);
    let y = where_(&(&x + x.t()).gt(1.0), (&x * 2.0 + 1.0).exp().cast::<f32>(), x.sin().cast::<f32>());
    let report = y.run().unwrap().1;
    // Uniform numbers, which are read twice: as they are, and their transpose, which is a view of them; and one program.
    assert_eq!(report.tasks(), 4 + 4, "{}", y.explain().unwrap());
    let slice = Array::<f64>::ones((10_000, 10_000)).exp().slice(s![1..100, 1..100]);
    assert_eq!(slice.in_session(&session).compute().unwrap(), ndarray::Array2::from_elem((99, 99), 1f64.exp()).into_dyn());
}

#[test]
fn a_chain_of_very_many_operations() {
    let session = session();
    let mut x = Array::from(vec![0i64, 5]).in_session(&session);
    for k in 0..300_000i64 {
        x = if k % 2 == 0 { x + 3 } else { x ^ 1 };
    }
    let mut wanted = [0i64, 5];
    for k in 0..300_000 {
        wanted = wanted.map(|x| if k % 2 == 0 { x + 3 } else { x ^ 1 });
    }
    assert_eq!(x.compute().unwrap(), arr1(&wanted).into_dyn());
}

#[test]
fn parts_of_matrices() {
    let session = session();
    let a = Array::from(arr2(&[[1.0, f64::NAN, 3.0], [4.0, 5.0, f64::NAN]])).in_session(&session);
    assert_eq!(a.tril(0).compute().unwrap(), arr2(&[[1.0, 0.0, 0.0], [4.0, 5.0, 0.0]]).into_dyn());
    assert_eq!(a.triu(2).compute().unwrap(), arr2(&[[0.0, 0.0, 3.0], [0.0, 0.0, 0.0]]).into_dyn());
    assert_eq!(a.triu(isize::MIN).slice(s![0, ..1]).compute().unwrap()[[0]], 1.0);
    let d = Array::from_diag(&a.slice(s![.., 0]));
    assert_eq!(d.compute().unwrap(), arr2(&[[1.0, 0.0], [0.0, 4.0]]).into_dyn());
    let unknown: DynArray = a.into_dyn();
    assert_eq!(unknown.cast::<f32>().is_nan().compute().unwrap().iter().filter(|&&nan| nan).count(), 2);
}

#[test]
fn chunks_are_the_users_or_of_a_bounded_size() {
    let ones = Array::<f64>::ones((4, 4)).chunks(2);
    assert_eq!((&ones + 1.0).grid(), ones.grid());
    assert_eq!(ones.powi(0).grid(), ones.grid());
    let most = |grid: chunkwise::ChunkGrid, bytes: usize| grid.largest().iter().product::<usize>() * bytes <= 16 << 20;
    let mean = Array::<f64>::arange(0.0, 9.0, 1.0).mean();
    assert!(most((Array::<f64>::ones((20_000, 20_000)) * &mean).grid(), 8));
    assert!(most(Array::<bool>::zeros((5000, 5000)).where_(1.0, 0.0).grid(), 8));
    let long = Array::<f64>::random_uniform(100_000);
    assert!(most((long.insert_axis(Axis(1)) * &long).grid(), 8));
    let matrix = Array::<f64>::random_uniform((1_000_000, 100));
    let column = Array::<f64>::random_uniform(1_000_000).insert_axis(Axis(1));
    assert_eq!((&matrix - &column).grid(), matrix.grid());
    assert_eq!((&matrix - column.chunks(500)).grid().largest(), [500, 100]);
    let product = matrix.matvec(&Array::<f64>::random_uniform(100)).insert_axis(Axis(1));
    assert!(most((Array::<f64>::random_uniform((1_000_000, 1000)) - product).grid(), 8));
}

/// Each step sees the one before in several ways, and that is made once.
#[test]
#[allow(clippy::reversed_empty_ranges)] // -1 is the last but one, as in ndarray
fn stencils_cost_what_their_steps_do() {
    let session = session();
    let start: Vec<f64> = (0..1000).map(|i| f64::from(i % 7)).collect();
    let (mut u, mut v) = (Array::from(start.clone()).in_session(&session), start);
    for _ in 0..200 {
        let middle = u.slice(s![1..-1]);
        u = &middle + 0.25 * (u.slice(s![2..]) - 2.0 * &middle + u.slice(s![..-2]));
        v = v.windows(3).map(|w| w[1] + 0.25 * (w[2] - 2.0 * w[1] + w[0])).collect();
    }
    assert_eq!(u.compute().unwrap(), arr1(&v).into_dyn());
    let (mut shifted, mut all) = (Array::from(vec![1i64; 1 << 12]).in_session(&session), vec![1i64; 1 << 12]);
    for k in 0..11 {
        shifted = shifted.slice(s![1 << k..]) + shifted.slice(s![..-(1 << k)]);
        all = all.iter().zip(&all[1 << k..]).map(|(a, b)| a + b).collect();
    }
    assert_eq!(shifted.compute().unwrap(), arr1(&all).into_dyn());
    let dear = Array::from(vec![0.5f64; 100]).in_session(&session).chunks(50).exp();
    // Two chunks of exp, two of the difference; nothing else.
    assert!((&dear + dear.flip(Axis(0))).run().unwrap().1.tasks() <= 4);
}

#[test]
fn what_a_reader_found() {
    let session = session();
    let bytes = Array::from(vec![1u8, 200]).in_session(&session);
    assert_eq!((-&bytes).abs().compute().unwrap(), arr1(&[255u8, 56]).into_dyn());
    assert_eq!((1u8 << &bytes).compute().unwrap(), arr1(&[2u8, 0]).into_dyn());
    let small = Array::from(vec![3i8, -1, 1, 0]).in_session(&session);
    assert_eq!(small.powi(-64).compute().unwrap(), arr1(&[0i8, 1, 1, 0]).into_dyn());
    assert_eq!(small.powi(-63).compute().unwrap(), arr1(&[0i8, -1, 1, 0]).into_dyn());
    let x = Array::from(vec![0.5f32, 2.0]).in_session(&session);
    let either: [Array<f32>; 2] = [where_(&x.gt(1.0), 0.0, &x), where_(&x.gt(1.0), &x, 0.0)];
    assert_eq!(either[0].compute().unwrap(), arr1(&[0.5f32, 0.0]).into_dyn());
    assert_eq!(either[1].compute().unwrap(), arr1(&[0.0f32, 2.0]).into_dyn());
    let one_or = map!(|x: f32| if !(x > 1.0) && (x < 3.0 || x > 9.0) { 1.0 } else { x });
    let made: Array<f32> = one_or(&x);
    assert_eq!(made.compute().unwrap(), arr1(&[1f32, 2.0]).into_dyn());
    let real = Array::from(vec![Complex::new(1000.0, 0.0)]).in_session(&session);
    assert_eq!(real.exp().compute().unwrap()[[0]], Complex::new(f64::INFINITY, 0.0));
    let masked: Array<f32> = x.zip_chunks(&x.gt(1.0), |x, mask| {
        ndarray::Zip::from(&x).and(&mask).map_collect(|&x, &mask| if mask { x } else { 7.0 })
    });
    assert_eq!(masked.compute().unwrap(), arr1(&[7f32, 2.0]).into_dyn());
}
