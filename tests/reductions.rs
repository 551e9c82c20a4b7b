//! Reductions: against NumPy (`data/make_reductions.py`), in any chunks and order in memory; their bits; what they refuse. Needs no device, and for some of it a GPU.

use chunkwise::ext::Scalar;
use chunkwise::ndarray::{self, ArrayD, arr1, arr2};
use chunkwise::{Array, Comparable, Complex, Error, Float, Number, Ordered, Over, Real, Summed, map, prelude::*};
use serde_json::Value;
use support::golden::{FromBytes, elements};

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

/// What the golden file has.
struct Golden {
    arrays: Vec<Value>,
    session: Session,
}

/// Whether a result is as near NumPy's as it has to be, which is at this scale.
type Near<U> = fn(U, U, f64) -> bool;

/// The same.
fn same<U: PartialEq>(a: U, b: U, _: f64) -> bool {
    a == b
}
/// Nearer than few units in the last place of all that was added.
fn near(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 2e-15 * (scale + b.abs())
}
/// That, of squares.
fn near_squared(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 2e-15 * (scale * scale + b.abs())
}
fn near_f32(a: f32, b: f32, scale: f64) -> bool {
    (a - b).abs() <= f32::EPSILON * b.abs() || near(a.into(), b.into(), scale)
}
fn near_complex(a: Complex<f64>, b: Complex<f64>, scale: f64) -> bool {
    near(a.re, b.re, scale) && near(a.im, b.im, scale)
}
fn near_complex32(a: Complex<f32>, b: Complex<f32>, scale: f64) -> bool {
    near_f32(a.re, b.re, scale) && near_f32(a.im, b.im, scale)
}

impl Golden {
    /// What is reduced: whole, in small chunks, as it lies in Fortran order.
    fn overs<T: FromBytes>(&self, case: &Value) -> Vec<Over<T>> {
        let x = elements::<T>(&self.arrays, &case["of"]);
        let axes: Vec<usize> = serde_json::from_value(case["axes"].clone()).unwrap();
        let turned = x.t().as_standard_layout().into_owned().reversed_axes();
        let all =
            [Array::from(x.clone()), Array::from(x).chunks(3), Array::from(turned.clone()), Array::from(turned).chunks(2)];
        all.map(|x| x.in_session(&self.session).over(&axes[..]).split_every(2)).into()
    }

    /// Checks what is made of an array along some axes.
    fn check<T: FromBytes, U: FromBytes>(&self, case: &Value, is_near: Near<U>, make: impl Fn(&Over<T>) -> Array<U>) {
        let wanted = elements::<U>(&self.arrays, &case["result"]);
        let all = elements::<T>(&self.arrays, &case["of"]);
        let number = |x: T| Into::<Scalar>::into(x).to_f64().abs();
        let scale = all.iter().map(|&x| number(x)).filter(|x| x.is_finite()).sum::<f64>() + 1.0;
        for over in self.overs::<T>(case) {
            let found = make(&over.clone().keep_dims()).compute().expect("computes");
            assert_eq!(found.shape(), wanted.shape(), "{case}");
            let flat = make(&over).compute().expect("computes");
            assert_eq!(flat.ndim(), all.ndim() - case["axes"].as_array().unwrap().len(), "{case}");
            for ((&found, &wanted), &flat) in found.iter().zip(&wanted).zip(&flat) {
                let are_nan = |a: U, b: U| !a.eq(&a) && !b.eq(&b);
                assert!(found == flat || are_nan(found, flat), "{found} is not {flat}: {case}");
                assert!(is_near(found, wanted, scale) || are_nan(found, wanted), "{found} is not {wanted}: {case}");
            }
        }
    }

    fn any<T: FromBytes + Comparable + Summed<Sum: FromBytes>>(&self, case: &Value, is_near: Near<T::Sum>) -> bool {
        match case["op"].as_str().unwrap() {
            "sum" => self.check::<T, T::Sum>(case, is_near, Over::sum),
            "prod" => self.check::<T, T::Sum>(case, is_near, Over::prod),
            "count_nonzero" => self.check::<T, i64>(case, same, Over::count_nonzero),
            _ => return false,
        }
        true
    }

    fn ordered<T: FromBytes + Ordered>(&self, case: &Value) -> bool {
        match case["op"].as_str().unwrap() {
            "min" => self.check::<T, T>(case, same, Over::min),
            "max" => self.check::<T, T>(case, same, Over::max),
            "argmin" => self.check::<T, i64>(case, same, Over::argmin),
            "argmax" => self.check::<T, i64>(case, same, Over::argmax),
            _ => return false,
        }
        true
    }

    fn real<T: FromBytes + Real + Number + Ordered>(&self, case: &Value) -> bool {
        match case["op"].as_str().unwrap() {
            "mean" => self.check::<T, f64>(case, near, Over::<T>::mean),
            "norm" => self.check::<T, f64>(case, near, Over::<T>::norm),
            "var0" => self.check::<T, f64>(case, near_squared, |x| x.var(0.0)),
            "var1" => self.check::<T, f64>(case, near_squared, |x| x.var(1.0)),
            "std0" => self.check::<T, f64>(case, near, |x| x.std(0.0)),
            "ptp" => self.check::<T, T>(case, same, Over::ptp),
            _ => return false,
        }
        true
    }

    fn float<T: FromBytes + Float>(&self, case: &Value, is_near: Near<T>) -> bool {
        match case["op"].as_str().unwrap() {
            "nansum" => self.check::<T, T>(case, is_near, Over::nansum),
            "nanmean" => self.check::<T, f64>(case, near, Over::nanmean),
            "nanmin" => self.check::<T, T>(case, same, Over::nanmin),
            "nanmax" => self.check::<T, T>(case, same, Over::nanmax),
            _ => return false,
        }
        true
    }
}

#[test]
fn numpy_makes_the_same_of_every_dtype() {
    compare(session(), 1);
}

/// There, too: every fifth case, unless all are to be tried.
#[test]
#[cfg(feature = "gpu")]
fn numpy_makes_the_same_of_every_dtype_on_a_gpu() {
    let Some(session) = gpu_session() else { return };
    compare(session.clone(), if std::env::var_os("EXHAUSTIVE").is_some() { 1 } else { 5 });
    assert!(support::gpu::launches(&session) > 2000, "{}", support::gpu::launches(&session));
}

fn compare(session: Session, every: usize) {
    let file = include_str!("data/reductions.json");
    let golden: Value = serde_json::from_str(file).unwrap();
    let arrays = golden["arrays"].as_array().unwrap().clone();
    let of = Golden { arrays, session };
    let cases = golden["cases"].as_array().unwrap();
    for case in cases.iter().step_by(every) {
        macro_rules! integers {
            ($t:ty) => {
                of.any::<$t>(case, same) || of.ordered::<$t>(case) || of.real::<$t>(case)
            };
        }
        let dtype = of.arrays[case["of"].as_u64().unwrap() as usize]["dtype"].as_str().unwrap();
        let is_known = match dtype {
            "bool" => {
                let op = case["op"].as_str().unwrap();
                let is_bool = ["any", "all"].contains(&op);
                match op {
                    "any" => of.check::<bool, bool>(case, same, Over::any),
                    "all" => of.check::<bool, bool>(case, same, Over::all),
                    _ => {}
                }
                is_bool || of.any::<bool>(case, same) || of.ordered::<bool>(case)
            }
            "i8" => integers!(i8),
            "u8" => integers!(u8),
            "i16" => integers!(i16),
            "u16" => integers!(u16),
            "i32" => integers!(i32),
            "u32" => integers!(u32),
            "i64" => integers!(i64),
            "u64" => integers!(u64),
            "f32" => {
                of.any::<f32>(case, near_f32)
                    || of.ordered::<f32>(case)
                    || of.real::<f32>(case)
                    || of.float::<f32>(case, near_f32)
            }
            "f64" => {
                of.any::<f64>(case, near) || of.ordered::<f64>(case) || of.real::<f64>(case) || of.float::<f64>(case, near)
            }
            "c64" if case["op"] == "mean" => {
                of.check::<Complex<f32>, Complex<f64>>(case, near_complex, Over::<Complex<f32>>::mean);
                true
            }
            "c128" if case["op"] == "mean" => {
                of.check::<Complex<f64>, Complex<f64>>(case, near_complex, Over::<Complex<f64>>::mean);
                true
            }
            "c64" => of.any::<Complex<f32>>(case, near_complex32),
            _ => of.any::<Complex<f64>>(case, near_complex),
        };
        assert!(is_known, "nobody checks {case}");
    }
    assert!(cases.len() > 2000);
}

/// Numbers whose sum depends on the order.
fn uneven(shape: &[usize]) -> ArrayD<f64> {
    let mut seed = 7u64;
    ArrayD::from_shape_simple_fn(shape, || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((seed >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * 2f64.powi((seed % 40) as i32)
    })
}

#[test]
fn bits_follow_from_the_chunks_alone() {
    let x = uneven(&[130, 90, 12]);
    for threads in [1, 2, 3] {
        let session = Session::builder().threads(threads).memory_limit("64 MiB").cache_dir("").build().unwrap();
        for axes in [vec![0], vec![2], vec![0, 1], vec![1, 2], vec![0, 1, 2]] {
            let of = |x: ArrayD<f64>, by: &dyn Fn(&Over<f64>) -> Array<f64>| {
                let all = by(&Array::from(x).chunks((50, 40, 5)).in_session(&session).over(&axes[..]));
                all.compute().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let turned = x.t().as_standard_layout().into_owned().reversed_axes();
            for by in [Over::sum, Over::<f64>::mean, |x: &Over<f64>| x.var(0.0), Over::<f64>::norm, Over::prod] {
                let wanted = of(x.clone(), &by);
                assert_eq!(of(turned.clone(), &by), wanted, "{axes:?}");
                // As a slice of what is reduced, too.
                if !axes.contains(&0) {
                    let part = of(x.clone(), &|over| match by(over) {
                        rows if rows.ndim() == 1 => rows.slice(ndarray::s![60..;2]),
                        rows => rows.slice(ndarray::s![60..;2, ..]).ravel(),
                    });
                    let rows = wanted.len() / 130;
                    let every = (60..130).step_by(2).flat_map(|row| wanted[row * rows..(row + 1) * rows].to_vec());
                    assert_eq!(part, every.collect::<Vec<_>>(), "{axes:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_empty_or_not_there_is_said() {
    let session = session();
    let empty = Array::<f64>::zeros((3, 0)).in_session(&session);
    assert_eq!(empty.sum().compute_scalar().unwrap(), 0.0);
    assert_eq!(empty.prod_axis(Axis(1)).compute().unwrap(), arr1(&[1.0; 3]).into_dyn());
    assert!(empty.mean().compute_scalar().unwrap().is_nan());
    assert!(empty.var(0.0).compute_scalar().unwrap().is_nan());
    assert!(empty.std_axis(Axis(1), 0.0).compute().unwrap().iter().all(|x| x.is_nan()));
    let error = empty.over(1).try_min().unwrap_err();
    assert!(matches!(&error, Error::Shape { op: "min", .. }) && error.to_string().contains("axis 1"), "{error}");
    for error in [
        empty.over((0, 1)).try_argmax().map(|_| ()),
        empty.over(1).try_ptp().map(|_| ()),
        empty.over(1).try_nanmax().map(|_| ()),
    ] {
        assert!(error.unwrap_err().to_string().contains("axis 1"));
    }
    // Along an axis that has elements there is nothing to choose from, and nothing to choose.
    assert_eq!(empty.max_axis(Axis(0)).compute().unwrap().shape(), [0]);
    let x = Array::from(arr2(&[[1.0, f64::NAN], [-0.0, 0.0]])).in_session(&session);
    assert!(x.try_over(2).is_err() && x.try_over((0, 0)).is_err() && x.try_over([1, 0]).is_ok());
    assert!(x.max().compute_scalar().unwrap().is_nan());
    assert_eq!(x.argmin().compute_scalar().unwrap(), 1);
    assert_eq!(x.nanmax().compute_scalar().unwrap(), 1.0);
    let zeros = x.slice(ndarray::s![1, ..]);
    assert_eq!(zeros.min().compute_scalar().unwrap().to_bits(), (-0.0f64).to_bits());
    assert_eq!(zeros.flip(Axis(0)).max().compute_scalar().unwrap().to_bits(), 0);
    assert!(x.slice(ndarray::s![..1, 1..]).nanmin().compute_scalar().unwrap().is_nan());
    let falls = Array::from(vec![false; 9]).in_session(&session);
    assert!(!falls.any().compute_scalar().unwrap() && !falls.all().compute_scalar().unwrap());
    let none = falls.slice(ndarray::s![..0]);
    assert!(!none.any().compute_scalar().unwrap() && none.all().compute_scalar().unwrap());
}

#[test]
fn products_of_two_arrays() {
    let session = session();
    let x = Array::from(vec![1i32, 2, 3]).in_session(&session);
    let y = Array::from(vec![0.5f32, 0.25, -1.0]).in_session(&session);
    assert_eq!(x.dot(&y).compute_scalar().unwrap(), -2.0);
    assert_eq!(x.dot(&x).compute_scalar().unwrap(), 14i64);
    assert_eq!(x.cast::<u8>().vdot(&x.cast::<u8>()).compute_scalar().unwrap(), 14u64);
    // The products of f32 are exact.
    let third = Array::from(vec![1.0f32 / 3.0; 3]).in_session(&session);
    let exact = 3.0 * f64::from(1.0f32 / 3.0) * f64::from(1.0f32 / 3.0);
    assert_eq!(third.dot(&third).compute_scalar().unwrap(), exact as f32);
    let z = Array::from(vec![Complex::new(1.0, 2.0), Complex::new(0.0, -1.0)]).in_session(&session);
    assert_eq!(z.dot(&z).compute_scalar().unwrap(), Complex::new(-4.0, 4.0));
    assert_eq!(z.vdot(&z).compute_scalar().unwrap(), Complex::new(6.0, 0.0));
    assert_eq!(z.norm().compute_scalar().unwrap(), 6f64.sqrt());
    assert!(x.try_dot(&Array::from(vec![1i32, 2]).in_session(&session)).is_err());
    assert!(x.insert_axis(Axis(0)).try_dot(&x.insert_axis(Axis(0))).unwrap_err().to_string().contains("vectors"));
    assert!(x.try_vdot(&x.insert_axis(Axis(0))).is_err());
    let m = Array::from(arr2(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).in_session(&session);
    let w = Array::from(arr2(&[[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]])).in_session(&session);
    let means = m.over(1).weighted_mean(&w).compute().unwrap();
    assert!(means[[0]] == 2.25 && means[[1]].is_nan());
    assert!(m.over(1).try_weighted_mean(&w.t()).is_err());
    assert_eq!(m.ptp_axis(Axis(0)).compute().unwrap(), arr1(&[3.0; 3]).into_dyn());
}

#[test]
fn what_stands_around_a_reduction_is_one_pass() {
    let session = Session::builder().threads(2).cache_dir("").memory_limit("64 MiB").build().unwrap();
    let x = session.rng(3).uniform::<f64>((3000, 2000));
    let all = x.compute().unwrap();
    let mean = all.mean().unwrap();
    // 48 MB of numbers, of which there are never more than few chunks.
    let spread = (&x - mean).square().sum().sqrt();
    let wanted = all.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>().sqrt();
    assert!((spread.compute_scalar().unwrap() - wanted).abs() < 1e-9 * wanted);
    let clipped = map!(|x: f64| if x > 0.5 { x - 0.5 } else { 0.0 });
    let rows = clipped(&x).sum_axis(Axis(1)) * 2.0 + 1.0;
    let found = rows.compute().unwrap();
    for (found, row) in found.iter().zip(all.rows()) {
        let wanted = row.iter().map(|x| (x - 0.5).max(0.0)).sum::<f64>() * 2.0 + 1.0;
        assert!((found - wanted).abs() < 1e-9 * wanted);
    }
    // Nobody's wish for large chunks of the result makes those of what is reduced larger than they are.
    let large = session.rng(4).uniform::<f64>((100_000, 100_000)).sum_axis(Axis(1));
    let explained = large.rechunk(100_000).slice(ndarray::s![10..]).explain().expect("fits");
    assert!(explained.bound_bytes < 64 << 20, "{}", explained.bound_bytes);
    assert!(x.over(..).try_min().unwrap().compute_scalar().unwrap() >= 0.0);
    let scaled = (&x - &x.over(1).keep_dims().mean()) / &x.over(1).keep_dims().std(0.0);
    let moments = (scaled.mean_axis(Axis(1)), scaled.var_axis(Axis(1), 0.0));
    assert!(moments.0.compute().unwrap().iter().all(|mean| mean.abs() < 1e-12));
    assert!(moments.1.compute().unwrap().iter().all(|var| (var - 1.0).abs() < 1e-12));
}

/// Numbers whose mean is `far` times their spread: sorted, and in disorder. Each is exact beside the power of two that is added, and so is what is left when it is taken away.
fn far_from_zero(far: f64) -> [(Vec<f64>, f64); 2] {
    let of = |steps: &dyn Fn(usize) -> usize| {
        let near: Vec<f64> = (0..200_000).map(|i| (steps(i) as f64 - 100_000.0) / 57_735.0).collect(); // of spread 1
        let x: Vec<f64> = near.iter().map(|x| x + far).collect();
        let left: Vec<f64> = x.iter().map(|x| x - far).collect();
        let mean = left.iter().sum::<f64>() / left.len() as f64;
        let variance = left.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / left.len() as f64;
        (x, variance)
    };
    [of(&|i| i), of(&|i| i * 76_543 % 200_000)]
}

/// As the book says: relative, less than `(150 + 4 k) 2^-53`, if the mean is `k` times the spread.
fn variances_far_from_zero(session: &Session) {
    for power in [0, 3, 10, 20, 27, 33] {
        let far = 2f64.powi(power);
        for (x, wanted) in far_from_zero(far) {
            for chunk in [200_000, 30_000, 1000] {
                let array = Array::from(x.clone()).in_session(session).chunks(chunk);
                let found = array.var(0.0).compute_scalar().expect("a variance");
                let off = (found / wanted - 1.0).abs() / 2f64.powi(-53);
                assert!(off < 150.0 + 4.0 * far, "2^{power}, chunks of {chunk}: {off}");
            }
        }
    }
}

#[test]
fn variances_of_numbers_far_from_zero_are_as_good_as_is_said() {
    variances_far_from_zero(&session());
}

#[test]
#[cfg(feature = "gpu")]
fn variances_of_numbers_far_from_zero_are_as_good_as_is_said_on_a_gpu() {
    if let Some(session) = gpu_session() {
        variances_far_from_zero(&session);
    }
}
