//! What users meet first: shapes, chunks, arrays from what they have, dtypes known at run time, random numbers, panics and errors.
//!
//! Owns: the front of the crate. Must not know: rooms, beyond what a user can name. Invariant: nothing here names what users cannot.

// Both at once, as a user of ndarray does: no name of one hides one of the other.
#[allow(unused_imports)]
use chunkwise::prelude::*;
#[allow(unused_imports)]
use ndarray::prelude::*;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndarray::{ArcArray, CowArray};

use chunkwise::{AnyArray, Array as Lazy, ChunkGrid};

fn session() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

#[test]
fn both_preludes_can_be_had() {
    let here: Array2<f64> = array![[1.0, 2.0], [3.0, 4.0]];
    let lazy = Lazy::from(&here);
    let there: Array2<f64> = lazy.slice(s![.., 1..]).compute_into::<Ix2>().expect("computes");
    assert_eq!(there, here.slice(s![.., 1..]));
    assert_eq!(concatenate(Axis(0), &[&lazy, &lazy]).shape(), [4, 2]);
    let owned: Array<f64, Ix1> = Array::linspace(0.0, 1.0, 3); // ndarray's
    assert_eq!(Lazy::from(owned).compute().expect("computes").len(), 3);
    let failed: std::result::Result<u8, String> = Err("std's Result is still to be had".into());
    let two: Result<u8, String> = failed;
    assert!(two.is_err());
}

#[test]
#[allow(clippy::needless_borrows_for_generic_args)] // borrowed ones are taken too
fn shapes_are_numbers_tuples_arrays_slices_and_vectors() {
    let shape = |array: Lazy<f32>| array.shape().to_vec();
    assert_eq!(shape(Lazy::random_uniform(3)), [3]);
    assert!(shape(Lazy::random_uniform(())).is_empty());
    assert_eq!(shape(Lazy::random_uniform((3,))), [3]);
    assert_eq!(shape(Lazy::random_uniform((3, 4))), [3, 4]);
    assert_eq!(shape(Lazy::random_uniform((1, 2, 3, 4, 5, 6, 7, 8))), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(shape(Lazy::random_uniform([3, 4])), [3, 4]);
    assert_eq!(shape(Lazy::random_uniform(&[3, 4])), [3, 4]);
    assert_eq!(shape(Lazy::random_uniform(&[3, 4][..])), [3, 4]);
    assert_eq!(shape(Lazy::random_uniform(vec![3, 4])), [3, 4]);
    assert_eq!(shape(Lazy::random_uniform(&vec![3, 4])), [3, 4]);
    let a = Lazy::<f32>::random_uniform((2, 3));
    assert_eq!(a.reshape(6).shape(), [6]);
    assert_eq!(a.reshape((3, 2)).shape(), [3, 2]);
    assert_eq!(a.broadcast_to((5, 2, 3)).shape(), [5, 2, 3]);
    assert_eq!(a.permute((1, 0)).shape(), [3, 2]);
}

#[test]
#[allow(clippy::needless_borrows_for_generic_args)]
fn chunks_are_said_in_as_many_ways() {
    let a = Lazy::<f64>::random_uniform((40_000, 1000));
    let counts = |array: Lazy<f64>| array.grid().counts().to_vec();
    let automatic = a.grid();
    assert_eq!(counts(a.clone().chunks(1000)), [40, 1]);
    assert_eq!(counts(a.clone().chunks((500, 100))), [80, 10]);
    assert_eq!(counts(a.clone().chunks((500, ..))), [80, 1]);
    assert_eq!(counts(a.clone().chunks([500, 100])), [80, 10]);
    assert_eq!(counts(a.clone().chunks(&[500, 100])), [80, 10]);
    assert_eq!(counts(a.clone().chunks(vec![500, 100])), [80, 10]);
    assert_eq!(counts(a.clone().chunks(vec![vec![10_000, 30_000], vec![1000]])), [2, 1]);
    assert_eq!(counts(a.clone().chunks(ChunkGrid::regular(&[40_000, 1000], &[20_000, 500]).expect("a grid"))), [2, 2]);
    // 16 MiB are 2 097 152 numbers.
    assert_eq!(a.clone().chunks((Auto, 1000)).grid().largest(), [2097, 1000]);
    assert_eq!(a.clone().chunks((Auto, 100)).grid().largest(), [20_971, 100]);
    assert_eq!(a.clone().chunks((Auto, Auto)).grid().largest(), [2097, 1000]);
    assert_eq!(a.clone().chunks((100, Auto)).grid().largest(), [100, 1000]);
    assert_eq!(a.clone().chunks(7).chunks(Auto).grid(), automatic);
    let factor = Lazy::<f64>::random_uniform((1000, 1000)).cholesky();
    assert_eq!(factor.clone().chunks((11, 70)).chunks(Auto).grid(), factor.grid(), "of a factor, the automatic tiles");
    for wrong in
        [a.clone().try_chunks((1, 2, 3)), a.clone().try_chunks(()), a.clone().try_chunks((0, 5)), a.clone().try_chunks(0)]
    {
        assert!(matches!(wrong, Err(Error::Shape { op: "chunks", .. })), "{wrong:?}");
    }
    assert_eq!(Lazy::<f64>::random_uniform((0, 4)).chunks((Auto, ..)).grid().shape(), [0, 4]);
}

#[test]
fn arrays_are_made_of_whatever_ndarray_has() {
    let here = array![[1, 2, 3], [4, 5, 6]];
    let wanted = here.clone().into_dyn();
    let is = |lazy: Lazy<i32>| assert_eq!(lazy.in_session(&session()).compute().expect("computes"), wanted);
    let mut changeable = here.clone();
    is(here.clone().into());
    is((&here).into());
    is(here.view().into());
    is(changeable.view_mut().into());
    is((&here.view()).into());
    is(here.to_shared().into());
    is((&here.to_shared()).into());
    is(ArcArray::from(here.clone()).into());
    is(CowArray::from(here.view()).into());
    is(here.clone().into_dyn().into());
    is(here.t().into_owned().reversed_axes().into());
    let vector = |lazy: Lazy<i32>| assert_eq!(lazy.compute_into::<Ix1>().expect("computes"), array![7, 8]);
    vector(vec![7, 8].into());
    vector((&vec![7, 8]).into());
    vector([7, 8].into());
    vector((&[7, 8]).into());
    vector((&[7, 8][..]).into());
    assert_eq!(Lazy::from(arr0(5)).compute_scalar().expect("one"), 5);
}

#[test]
fn results_come_in_a_dimension_of_the_users() {
    let a = Lazy::from(array![[1.0, 2.0]]);
    assert_eq!(a.compute_into::<Ix2>().expect("two axes"), array![[1.0, 2.0]]);
    assert_eq!(a.compute_into::<IxDyn>().expect("any").shape(), [1, 2]);
    assert_eq!(a.mean().compute_into::<Ix0>().expect("none"), arr0(1.5));
    let error = a.compute_into::<Ix1>().expect_err("two axes are not one").to_string();
    assert_eq!(error, "compute_into: shape [1, 2] does not fit; wanted: an array of 1 axis, not 2");
}

#[test]
fn dtypes_may_be_known_at_run_time_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.npy");
    let spec = path.to_str().expect("UTF-8");
    Lazy::from(array![[1i64, 2], [3, 4]]).store(spec).expect("written");
    let unknown = DynArray::open_dyn(spec).expect("there");
    assert_eq!((unknown.dtype(), unknown.shape(), unknown.nbytes()), (DType::I64, &[2, 2][..], 32));
    assert_eq!(unknown.t().slice(s![1, ..]).as_::<i64>().expect("integers").compute_into::<Ix1>().expect("read"), array![2, 4]);
    assert_eq!(unknown.cast::<f32>().mean().compute_scalar().expect("read"), 2.5);
    assert_eq!(unknown.cast::<bool>().compute().expect("read").len(), 4);
    let error = unknown.as_::<f64>().expect_err("integers").to_string();
    assert_eq!(error, format!("{spec}: its dtype, i64, cannot be used here: take it as an array of i64, or cast it to f64"));
    // What does not look at elements, it has itself.
    let other = folder.path().join("b.npy");
    unknown.flip(Axis(0)).chunks(1).store(other.to_str().expect("UTF-8")).expect("written");
    assert_eq!(
        Lazy::<i64>::open(other.to_str().expect("UTF-8")).expect("there").compute_into::<Ix2>().expect("read"),
        array![[3, 4], [1, 2]]
    );
    let any: &dyn AnyArray = &unknown;
    assert_eq!(any.dtype(), DType::I64);
    assert!(format!("{unknown:?}").contains("i64") && unknown.explain().is_ok());
}

#[test]
fn random_numbers_do_not_depend_on_what_is_made_elsewhere() {
    let session = session();
    let rng = session.rng(5);
    let first = rng.uniform::<f64>(100).compute().expect("made");
    let _ = (session.rng(5).uniform::<f64>(3), session.default_rng().uniform::<f64>(3), Lazy::<f64>::random_uniform(3));
    let second = rng.uniform::<f64>(100).compute().expect("made");
    let again = self::session().rng(5);
    assert_eq!(again.uniform::<f64>(100).chunks(9).compute().expect("made"), first);
    assert_eq!(again.uniform::<f64>(100).compute().expect("made"), second);
    assert_ne!(first, second);
    assert_ne!(self::session().rng(6).uniform::<f64>(100).compute().expect("made"), first);
    // A clone is the same generator.
    let clone = rng.clone();
    assert_ne!(clone.uniform::<f64>(100).compute().expect("made"), rng.uniform::<f64>(100).compute().expect("made"));
}

/// Each mistake panics where it is made, and has a twin that returns it.
#[test]
fn mistakes_panic_at_the_callers_line() {
    let a = Lazy::from(array![[1.0, 2.0], [3.0, 4.0]]);
    let huge = usize::MAX / 2;
    let session = session();
    type Call<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let calls: Vec<Call<'_>> = vec![
        ("chunks", Box::new(|| drop(a.clone().chunks((1, 1, 1))))),
        ("chunk", Box::new(|| drop(a.clone().chunks(0)))),
        ("slice", Box::new(|| drop(a.slice(s![5.., ..])))),
        ("index", Box::new(|| drop(a.slice(s![2, ..])))),
        ("axis", Box::new(|| drop(a.flip(Axis(2))))),
        ("reshape", Box::new(|| drop(a.reshape(5)))),
        ("broadcast", Box::new(|| drop(a.broadcast_to((3, 3))))),
        ("matvec", Box::new(|| drop(a.matvec(&a)))),
        ("concatenate", Box::new(|| drop(concatenate(Axis(1), &[&a, &a.slice(s![..1, ..])])))),
        ("mandelbrot", Box::new(|| drop(mandelbrot(&a, &a, 20)))),
        ("iterations", Box::new(|| drop(mandelbrot(&Lazy::ogrid(0.0, 1.0, 2), &Lazy::<f64>::ogrid(0.0, 1.0, 2), u32::MAX)))),
        ("ogrid", Box::new(|| drop(Lazy::<f64>::ogrid(0.0, f64::NAN, 2)))),
        ("random_uniform", Box::new(|| drop(Lazy::<f64>::random_uniform((huge, huge))))),
        ("random_uniform", Box::new(|| drop(session.rng(0).uniform::<f64>((huge, huge))))),
        ("random_spd", Box::new(|| drop(session.rng(0).spd::<f64>(huge)))),
    ];
    let place = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let seen = place.clone();
    std::panic::set_hook(Box::new(move |info| {
        *seen.lock().expect("no panic here") = info.location().map(|at| at.file().to_owned()).unwrap_or_default();
    }));
    let outcomes: Vec<_> = calls
        .iter()
        .map(|(what, call)| {
            let payload = catch_unwind(AssertUnwindSafe(call)).expect_err(what);
            let text = payload.downcast_ref::<String>().cloned().unwrap_or_default();
            (*what, text, std::mem::take(&mut *place.lock().expect("no panic here")))
        })
        .collect();
    let _ = std::panic::take_hook();
    for (what, text, file) in outcomes {
        assert!(text.contains(what), "{what}: {text}");
        assert!(file.ends_with("surface.rs"), "{what}: panicked in {file}: {text}");
    }
}
