//! Files by builders: several arrays, storage chunks, compression, attributes; whole or not at all.
//!
//! Owns: what `Hdf5::create(..).put(..)` and `Npy::create(..).put(..)` promise. Must not know: layouts of bytes. Invariant: whatever is written is read back, and what
//! else a file holds is still there.

use std::path::Path;

use chunkwise::store::{self, Attr, Hdf5, Npy};
use chunkwise::{Array, prelude::*};
use ndarray::{Array1, Array2, ArrayD, IxDyn};

fn session() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn read<T: Element>(path: &Path, name: &str) -> ArrayD<T> {
    Hdf5::open(path)
        .expect("opens")
        .dataset(name)
        .expect("there")
        .as_::<T>()
        .expect("its dtype")
        .in_session(&session())
        .compute()
        .expect("reads")
}

#[test]
fn several_arrays_of_several_dtypes_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.h5");
    let session = session();
    let x = session.rng(1).uniform::<f64>((70, 50)).chunks((20, 30));
    let bools = Array::from(Array1::from_shape_fn(33, |i| i % 3 == 0)).in_session(&session).chunks(10);
    let deep = Array::from(ArrayD::from_shape_fn(IxDyn(&[2, 1, 3, 1, 2, 1, 2, 2]), |i| i[0] as i64 * 100 + i[7] as i64))
        .in_session(&session);
    let none = Array::from(Array2::<u8>::zeros((0, 4))).in_session(&session);
    let mean = x.mean();
    let report = Hdf5::create(&path)
        .expect("begins")
        .attr("title", "everything")
        .put("/x", &x)
        .put("/packed/x", &x)
        .chunks((16, 16))
        .deflate(4)
        .put("/packed/bools", &bools)
        .deflate(9)
        .shuffle(false)
        .put("/deep", &deep)
        .chunks(2)
        .deflate(1)
        .put("none", &none)
        .chunks(Auto)
        .deflate(1)
        .put("/mean", &mean)
        .deflate(0)
        .run()
        .expect("written");
    assert!(report.tasks() > 0);
    assert_eq!(files(folder.path()), ["all.h5"]);
    let file = Hdf5::open(&path).expect("opens");
    assert_eq!(file.datasets().expect("listed"), ["/deep", "/mean", "/none", "/packed/bools", "/packed/x", "/x"]);
    let wanted = x.compute().expect("computes");
    assert_eq!(read::<f64>(&path, "/x"), wanted);
    assert_eq!(read::<f64>(&path, "/packed/x"), wanted);
    assert_eq!(read::<bool>(&path, "/packed/bools"), bools.compute().expect("computes"));
    assert_eq!(read::<i64>(&path, "/deep"), deep.compute().expect("computes"));
    assert_eq!(read::<u8>(&path, "/none").shape(), [0, 4]);
    assert_eq!(read::<f64>(&path, "/mean"), mean.compute().expect("computes"));
    let packed = file.source("/packed/x").expect("there");
    assert_eq!(packed.storage_chunks(), Some(&[16, 16][..]));
    assert!(packed.access().contains("deflate"), "{}", packed.access());
    assert!(file.source("/x").expect("there").access().contains("positioned"));
}

#[test]
fn any_level_and_any_chunks_give_the_same_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let session = session();
    let numbers = Array2::from_shape_fn((90, 40), |(i, j)| (i * 7 + j) as i32 % 50);
    for (at, chunks) in [(1, 40), (90, 40), (17, 13), (64, 1), (1000, 1000)].into_iter().enumerate() {
        for (level, shuffle, mine) in [(0, false, 90), (1, true, 7), (9, true, 33), (6, false, 16)] {
            let path = folder.path().join(format!("{at}-{level}.h5"));
            let x = Array::from(&numbers).in_session(&session).chunks(mine);
            let put = Hdf5::create(&path).expect("begins").put("/x", &x).chunks(chunks).deflate(level).shuffle(shuffle);
            put.run().expect("written");
            assert_eq!(read::<i32>(&path, "/x"), numbers.clone().into_dyn(), "{chunks:?}, level {level}");
        }
    }
}

/// A sink that is given parts of chunks changes what it has of them.
#[test]
fn parts_of_compressed_chunks_may_come_one_by_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.h5");
    let x = session().rng(3).uniform::<f32>((40, 40)).chunks((7, 9));
    let file = Hdf5::create(&path).expect("begins");
    let sink = file.dataset("/x", &[40, 40], DType::F32).chunks(&[16, 16][..]).deflate(3).create().expect("made");
    x.store_into(&sink).expect("stored");
    assert!(!path.exists(), "before it is committed");
    file.commit().expect("committed");
    assert_eq!(read::<f32>(&path, "/x"), x.compute().expect("computes"));
}

/// Whole chunks are packed here, parts of chunks by libhdf5; libhdf5 reads both.
#[test]
fn every_dtype_is_packed_alike_whole_and_in_parts() {
    fn check<T: Element + PartialEq>(numbers: Array2<T>) {
        let folder = tempfile::tempdir().expect("a folder");
        let session = session();
        let x = Array::from(numbers.clone()).in_session(&session).t(); // its rows are no slices
        let file = Hdf5::create(folder.path().join("x.h5")).expect("begins");
        // Regions of several chunks each, of one, and of parts.
        for (name, mine) in [("/several", (32, 64)), ("/one", (16, 8)), ("/parts", (10, 11))] {
            let sink = file.dataset(name, x.shape(), T::DTYPE).chunks(&[16, 8][..]).deflate(5).create().expect("made");
            x.rechunk(mine).store_into(&sink).expect("stored");
        }
        file.commit().expect("committed");
        for name in ["/several", "/one", "/parts"] {
            let back = read::<T>(&folder.path().join("x.h5"), name);
            assert!(back == numbers.t().to_owned().into_dyn(), "{name} of {}", T::DTYPE);
        }
    }
    let at = |(i, j): (usize, usize)| i * 41 + j;
    check(Array2::from_shape_fn((41, 70), |ij| at(ij) % 3 == 0));
    check(Array2::from_shape_fn((41, 70), |ij| at(ij) as u8));
    check(Array2::from_shape_fn((41, 70), |ij| at(ij) as i32 - 1000));
    check(Array2::from_shape_fn((41, 70), |ij| at(ij) as u64 * 0x0123_4567_89AB));
    check(Array2::from_shape_fn((41, 70), |ij| (at(ij) as f32).sin()));
    check(Array2::from_shape_fn((41, 70), |ij| (at(ij) as f64).cos()));
}

#[test]
fn what_is_all_alike_takes_little() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("zeros.h5");
    let zeros = Array::from(Array2::<f64>::zeros((1000, 1000))).in_session(&session()).chunks(300);
    Hdf5::create(&path).expect("begins").put("/zeros", &zeros).deflate(1).run().expect("written");
    let bytes = std::fs::metadata(&path).expect("there").len();
    assert!(bytes < 200_000, "{bytes} bytes of 8 MB of zeros");
    assert_eq!(read::<f64>(&path, "/zeros").sum(), 0.0);
    let chunk = Hdf5::open(&path).expect("opens").source("/zeros").expect("there").storage_chunks().expect("chunked").to_vec();
    assert!((500_000..=1 << 20).contains(&(chunk.iter().product::<usize>() * 8)), "{chunk:?}");
}

#[test]
fn attributes_of_every_kind_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let x = Array::from(vec![1.0, 2.0]).in_session(&session());
    let all: Vec<(&str, Attr)> = vec![
        ("bool", true.into()),
        ("empty", "".into()),
        ("float", 0.1f32.into()),
        ("floats", vec![1.5, f64::INFINITY].into()),
        ("integer", (-7i64).into()),
        ("integers", (&[1i32, -2][..]).into()),
        ("text", "m/s²".into()),
        ("unsigned", u64::MAX.into()),
    ];
    let put = all
        .iter()
        .fold(Hdf5::create(&path).expect("begins").put("/g/x", &x), |put, (name, value)| put.attr(*name, value.clone()));
    put.run().expect("written");
    let file = Hdf5::open(&path).expect("opens");
    let found = file.attrs("/g/x").expect("read");
    assert_eq!(found, all.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Vec<_>>());
    assert_eq!(file.attr("g/x", "integer").expect("there").as_f64(), Some(-7.0));
    assert!(file.attrs("/").expect("read").is_empty() && file.attrs("/g").expect("a group").is_empty());
    let error = file.attr("/g/x", "nothing").expect_err("not there").to_string();
    assert!(error.contains("has no attribute nothing; it has bool, empty"), "{error}");
    let error = file.attrs("/h").expect_err("not there").to_string();
    assert!(error.contains("no dataset or group /h; it holds /g/x"), "{error}");
    // Written again, with one changed: the others are still there.
    Hdf5::create(&path).expect("begins").attr("title", "new").put("/g/x", &x).attr("float", 2.0).run().expect("written");
    let file = Hdf5::open(&path).expect("opens");
    assert_eq!(file.attrs("/g/x").expect("read").len(), all.len());
    assert_eq!(file.attr("/g/x", "float").expect("there").as_f64(), Some(2.0));
    assert_eq!(file.attr("/", "title").expect("there").as_str(), Some("new"));
}

#[test]
fn a_dataset_is_replaced_and_the_others_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let session = session();
    let of = |n: i32| Array::from(Array1::from_iter(0..n)).in_session(&session);
    Hdf5::create(&path)
        .expect("begins")
        .put("/a", &of(1000))
        .chunks(100)
        .deflate(2)
        .attr("kept", 1)
        .put("/b", &of(5))
        .run()
        .expect("written");
    for (n, level) in [(1000, 9), (1000, 1), (7, 3)] {
        Hdf5::create(&path).expect("begins").put("/a", &(of(n))).deflate(level).run().expect("written");
        assert_eq!(read::<i32>(&path, "/a").len(), n as usize);
        assert_eq!(read::<i32>(&path, "/b").len(), 5);
        assert_eq!(Hdf5::open(&path).expect("opens").attr("/a", "kept").expect("kept").as_f64(), Some(1.0));
    }
    Hdf5::create(&path).expect("begins").put("/a", &of(7)).run().expect("uncompressed again");
    assert_eq!(read::<i32>(&path, "/a").sum(), 21);
    assert!(Hdf5::open(&path).expect("opens").source("/a").expect("there").access().contains("positioned"));
}

#[test]
fn nothing_is_left_of_what_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let session = session();
    let x = Array::from(vec![1.0, 2.0, 3.0]).in_session(&session);
    let bad = Array::from(ndarray::arr2(&[[1.0, 2.0], [2.0, 1.0]])).in_session(&session).cholesky();
    let begin = || Hdf5::create(&path).expect("begins");
    let uneven = || vec![vec![2, 1]];
    let failures = [
        (begin().put("/x", &x).put("/bad", &bad).run().expect_err("not positive definite"), "not positive definite"),
        (begin().put("/x", &x).deflate(10).run().expect_err("no such level"), "level of compression = 10: choose 0"),
        (begin().put("/x", &x).chunks((1, 1)).run().expect_err("one axis"), "one extent for each axis"),
        (begin().put("/x", &x).chunks(vec![vec![1, 2]]).run().expect_err("uneven"), "storage chunks of one extent"),
        (begin().put("/x", &x).put("/x", &x).run().expect_err("twice"), "being written into it already"),
        (begin().put("/x", &x).put("/x/y", &x).run().expect_err("below a dataset"), "cannot lie below it"),
        (begin().put("", &x).run().expect_err("no name"), "name it"),
        (
            begin().put("/x", &x).put("/y", &Array::from(vec![1]).in_session(&self::session())).run().expect_err("two"),
            "two sessions",
        ),
    ];
    for (error, says) in failures {
        assert!(error.to_string().contains(says), "{error}");
        assert!(files(folder.path()).is_empty(), "{error}: {:?}", files(folder.path()));
    }
    assert!(begin().put("/x", &x).chunks(uneven()).run().is_ok(), "2 and 1 are even but for the last");
    std::fs::remove_file(&path).expect("there");
    let explained = begin().put("/x", &x).deflate(1).explain().expect("explains");
    assert!(explained.groups.iter().any(|group| group.label.contains("write")), "{explained}");
    drop(begin().put("/x", &x));
    assert!(files(folder.path()).is_empty());
}

#[test]
fn npy_files_have_a_builder_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.npy");
    let x = session().rng(2).uniform::<f32>((30, 20)).chunks(7);
    Npy::create(&path).put(&x.t()).run().expect("written");
    let back = Npy::open(&path).expect("opens").array().expect("there");
    assert_eq!((back.dtype(), back.shape()), (DType::F32, &[20, 30][..]));
    assert_eq!(
        back.as_::<f32>().expect("floats").in_session(&session()).compute().expect("reads"),
        x.t().compute().expect("computes")
    );
    assert!(Npy::open(folder.path().join("none.npy")).is_err());
    std::fs::write(folder.path().join("bad.npy"), "no").expect("written");
    assert!(Npy::open(folder.path().join("bad.npy")).expect_err("bad").to_string().contains("not a .npy file"));
    assert_eq!(files(folder.path()), ["bad.npy", "x.npy"]);
    assert!(store::open(path.to_str().expect("UTF-8")).is_ok());
}
