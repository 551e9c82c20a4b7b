//! Every dtype, in and out: through arrays, views, casts, HDF5 and `.npy`; and files with types for which there is no plain name. Needs no device.
#![cfg(feature = "hdf5")]

use chunkwise::ndarray::{ArrayD, IxDyn};
use chunkwise::store::{Hdf5, Npy};
use chunkwise::{Array, Complex, Element, bf16, f16, prelude::*};
use support::folder::Folder;

fn session() -> Session {
    Session::builder().threads(2).cache_dir("").build().expect("a session")
}

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// 8 rows of 9 elements, through all that moves elements.
#[track_caller]
fn moved<T: Element>(of: impl Fn(usize) -> T) {
    let (dir, session, dtype) = (Folder::new(&format!("dtype-{}", T::DTYPE)), session(), T::DTYPE);
    let all = ArrayD::from_shape_fn(IxDyn(&[8, 9]), |i| of(9 * i[0] + i[1]));
    let x = Array::from(all.clone()).in_session(&session);
    assert_eq!(x.compute().unwrap(), all, "{dtype}");
    assert_eq!(x.clone().chunks((3, 4)).t().slice(s![1..;2, ..;-1]).compute().unwrap(), {
        let turned = all.clone().reversed_axes();
        turned.slice(s![1..;2, ..;-1]).to_owned().into_dyn()
    });
    assert_eq!(
        x.rechunk((2, 9)).reshape((9, 8)).compute().unwrap(),
        all.clone().into_shape_with_order(IxDyn(&[9, 8])).unwrap()
    );
    let both = concatenate(Axis(1), &[&x, &x.clone().chunks(2)]);
    assert_eq!(both.slice(s![.., 9..]).compute().unwrap(), all);
    Npy::create(dir.spec("x.npy")).put(&x).run().unwrap();
    let back = Npy::open(dir.spec("x.npy")).unwrap().array().unwrap();
    assert_eq!(back.in_session(&session).as_::<T>().unwrap().compute().unwrap(), all, "{dtype} through .npy");
    Hdf5::create(dir.spec("x.h5"))
        .unwrap()
        .put("/plain", &x)
        .put("/cut", &x)
        .chunks((3, 5))
        .put("/packed", &x.t())
        .chunks((4, 3))
        .deflate(1)
        .run()
        .unwrap();
    let file = Hdf5::open(dir.spec("x.h5")).unwrap();
    for (name, wanted) in [("/plain", all.clone()), ("/cut", all.clone()), ("/packed", all.clone().reversed_axes())] {
        let back = file.dataset(name).unwrap();
        assert_eq!(back.dtype(), dtype, "{name}");
        let back = back.in_session(&session).as_::<T>().unwrap();
        assert_eq!(back.compute().unwrap(), wanted, "{dtype}, {name}");
        assert_eq!(
            back.slice(s![1..;3, 2..7]).compute().unwrap(),
            wanted.slice(s![1..;3, 2..7]).to_owned().into_dyn(),
            "{dtype}, {name}"
        );
    }
    let text = format!("{x:?}");
    assert!(text.contains(T::DTYPE.numpy_name()) || text.contains(&dtype.to_string()), "{text}");
}

#[test]
fn every_dtype_goes_in_and_out() {
    moved(|i| i % 3 == 0);
    moved(|i| (i as i8).wrapping_mul(7));
    moved(|i| (i as u8).wrapping_mul(17));
    moved(|i| (i as i16).wrapping_mul(-777));
    moved(|i| (i as u16).wrapping_mul(1777));
    moved(|i| (i as i32).wrapping_mul(-77_777_777));
    moved(|i| (i as u32).wrapping_mul(177_777_777));
    moved(|i| (i as i64).wrapping_mul(-777_777_777_777_777_777));
    moved(|i| (i as u64).wrapping_mul(1_777_777_777_777_777_777));
    moved(|i| f16::from_f32(i as f32 / 7.0 - 3.0));
    moved(|i| bf16::from_f32(i as f32 / 7.0 - 3.0));
    moved(|i| i as f32 / 7.0 - 3.0);
    moved(|i| i as f64 / 7.0 - 3.0);
    moved(|i| Complex::new(i as f32 / 7.0, -1.0 / (i as f32 + 1.0)));
    moved(|i| Complex::new(i as f64 / 7.0, -1.0 / (i as f64 + 1.0)));
}

/// The pairs of `make_fixtures.py`.
fn pairs(shape: &[usize]) -> ArrayD<Complex<f64>> {
    let mut next = -1.0;
    let mut element = || {
        next += 1.0;
        next / 4.0 - 3.0
    };
    ArrayD::from_shape_fn(IxDyn(shape), |_| Complex::new(element(), element()))
}

#[test]
fn complex_numbers_of_files_are_read() {
    let session = session();
    let check = |spec: &str, dtype: DType, wanted: &ArrayD<Complex<f64>>| {
        let array = DynArray::open_dyn(&data(spec)).unwrap_or_else(|e| panic!("{spec}: {e}")).in_session(&session);
        assert_eq!((array.dtype(), array.shape()), (dtype, wanted.shape()), "{spec}");
        let found = array.cast::<Complex<f64>>();
        assert_eq!(found.compute().unwrap(), wanted, "{spec}");
        assert_eq!(
            found.slice(s![1..;2, ..2]).compute().unwrap(),
            wanted.slice(s![1..;2, ..2]).to_owned().into_dyn(),
            "{spec}"
        );
    };
    let (small, large) = (pairs(&[5, 4]), pairs(&[7, 9]));
    for (spec, dtype, wanted) in [
        ("types.h5:/c64", DType::C64, &small),
        ("types.h5:/c128", DType::C128, &small),
        ("types.h5:/big_c128", DType::C128, &small),
        ("types.h5:/chunked_c64", DType::C64, &large),
        ("types.h5:/gzip_c64", DType::C64, &large),
        ("types.h5:/gzip_big_c64", DType::C64, &large),
        ("types.h5:/names", DType::C128, &small),
        ("types.h5:/gzip_names", DType::C128, &small),
        ("types.h5:/complex_class", DType::C64, &small),
        ("types.h5:/gzip_big_complex_class", DType::C128, &small),
        ("complex.npy", DType::C64, &small),
        ("fortran_complex.npy", DType::C128, &small),
    ] {
        check(spec, dtype, wanted);
    }
    check("types.h5:/unwritten_c128", DType::C128, &ArrayD::from_elem(IxDyn(&[3, 3]), Complex::new(1.5, -2.0)));
    let error = DynArray::open_dyn(&data("types.h5:/other_names")).unwrap_err().to_string();
    assert!(error.contains("a compound (records)") && error.contains("(r, i)"), "{error}");
    // Never quietly without its imaginary part.
    let error = Array::<f64>::open(&data("types.h5:/c128")).unwrap_err().to_string();
    assert!(error.contains("c128") && error.contains("read it as Array<Complex<f64>>"), "{error}");
}

#[test]
fn halves_and_small_integers_of_files_are_read() {
    let session = session();
    let floats = ArrayD::from_shape_fn(IxDyn(&[5, 8]), |i| (8 * i[0] + i[1]) as f64 / 4.0 - 3.0);
    let signed = ArrayD::from_shape_fn(IxDyn(&[5, 9]), |i| (7 * (9 * i[0] + i[1]) % 101) as f64 - 50.0);
    for (spec, dtype, wanted) in [
        ("types.h5:/gzip_f16", DType::F16, &floats),
        ("types.h5:/big_f16", DType::F16, &floats),
        ("types.h5:/bf16", DType::BF16, &floats),
        ("types.h5:/gzip_bf16", DType::BF16, &floats),
        ("bf16.npy", DType::BF16, &floats),
        ("types.h5:/gzip_i1", DType::I8, &signed),
        ("types.h5:/gzip_u2", DType::U16, &signed.mapv(|x| x + 50.0)),
    ] {
        let array = DynArray::open_dyn(&data(spec)).unwrap_or_else(|e| panic!("{spec}: {e}")).in_session(&session);
        assert_eq!(array.dtype(), dtype, "{spec}");
        // As it is read, after it was read, and as it is summed.
        assert_eq!(array.cast::<f64>().compute().unwrap(), wanted, "{spec}");
        let part = s![1..4, ..;3];
        assert_eq!(
            array.slice(part).cast::<f32>().compute().unwrap(),
            wanted.slice(part).mapv(|x| x as f32).into_dyn(),
            "{spec}"
        );
        let mean = wanted.sum() / wanted.len() as f64;
        assert!((array.cast::<f64>().mean().compute_scalar().unwrap() - mean).abs() < 1e-12, "{spec}");
    }
    let halves = DynArray::open_dyn(&data("types.h5:/gzip_f16")).unwrap().in_session(&session).as_::<f16>().unwrap();
    assert_eq!(halves.mean().compute_scalar().unwrap(), floats.sum() / 40.0);
}
