//! Arrays that are put into HDF5 files: what packing many takes, what is refused before anything is computed, what attributes are made of.
//!
//! Owns: `put` and `put_all` at their edges. Must not know: how a dataset is laid out. Invariant: each test fails without what it is for.

use chunkwise::store::{Attr, Hdf5};
use chunkwise::{AnyArray, Array, prelude::*};

fn session() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

#[test]
fn packing_many_datasets_takes_as_much_as_packing_the_largest() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("many.h5");
    let session = Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").memory_limit("300MB").build();
    let one = session.expect("a session").default_rng().uniform::<f64>([1000, 1000]).chunks(1000);
    let rows: Vec<Array<f64>> = (0..100).map(|i| one.slice(s![i..i + 500, ..]).rechunk((500, 1000))).collect();
    let names: Vec<String> = (0..100).map(|i| format!("/x/{i}")).collect();
    let put = || Hdf5::create(&path).expect("begins").put_all(names.iter().zip(&rows)).deflate(1);
    let bound = put().explain().expect("100 datasets in 300 MB").bound_bytes;
    let single = Hdf5::create(&path).expect("begins").put("/x", &rows[0]).deflate(1).explain().expect("one").bound_bytes;
    assert!(bound < single + (50 << 20), "{bound} bytes for a hundred, {single} for one");
    Hdf5::create(&path).expect("begins").put_all(names.iter().zip(&rows).take(9)).deflate(1).run().expect("runs");
    let last = Hdf5::open(&path).expect("opens").dataset("/x/8").expect("is there").as_::<f64>().expect("f64");
    assert_eq!(last.compute().expect("reads"), rows[8].compute().expect("computes"));
}

#[test]
fn explaining_a_put_refuses_what_running_it_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("base.h5");
    let session = session();
    let x = Array::from(vec![1.0, 2.0]).in_session(&session);
    let y = Array::from(vec![3i32]).in_session(&session);
    Hdf5::create(&path).expect("begins").put("/a", &x).put("/g/b", &x).run().expect("runs");
    type Puts<'a> = &'a [(&'a str, &'a dyn AnyArray)];
    let cases: [(Puts<'_>, &str); 9] = [
        (&[("/new", &x), ("/new", &x)], "name of its own"),
        (&[("/a", &x), ("//a", &x)], "name of its own"),
        (&[("/a", &y), ("/a", &y)], "name of its own"),
        (&[("/g", &x)], "/g is a group; name a dataset inside it"),
        (&[("/a/c", &x)], "/a is a dataset, so /a/c cannot lie below it"),
        (&[("/n/c", &x), ("/n", &x)], "/n is a group; name a dataset inside it"),
        (&[("/n", &x), ("/n/c/d", &x)], "/n is a dataset, so /n/c/d cannot lie below it"),
        (&[], "has no dataset and no attribute"),
        (&[("/", &x)], "name it"),
    ];
    for (puts, wanted) in cases {
        let put = || Hdf5::create(&path).expect("begins").put_all(puts.iter().copied());
        let (explained, run) = (put().explain().expect_err(wanted).to_string(), put().run().expect_err(wanted).to_string());
        assert!(explained.contains(wanted), "{explained}");
        assert_eq!(explained, run);
    }
    let fine: [Puts<'_>; 3] = [&[("/a", &x), ("/b", &x)], &[("/n/c", &x), ("/n/d", &y), ("/g/e", &x)], &[("/a", &y)]];
    for puts in fine {
        let put = || Hdf5::create(&path).expect("begins").put_all(puts.iter().copied());
        put().explain().expect("explains");
        put().run().expect("runs");
    }
}

#[test]
fn attributes_are_made_of_what_is_at_hand() {
    let name = String::from("m");
    assert_eq!(Attr::from(&name), Attr::Text("m".into()));
    assert_eq!(Attr::from(vec!["a", "b"]), Attr::from(&["a".to_owned(), "b".to_owned()][..]));
    assert_eq!([Attr::from(vec![3usize]), Attr::from([3usize])], [Attr::Unsigneds(vec![3]), Attr::Unsigneds(vec![3])]);
    let folder = tempfile::tempdir().expect("a folder");
    let x = Array::from(vec![1.0]).in_session(&session());
    let put = |name: String| Hdf5::create(folder.path().join("a.h5")).expect("begins").put("/x", &x).attr(name, 1).run();
    let error = put("n".repeat(70_000)).expect_err("70 kB").to_string();
    assert!(error.contains("shorter name"), "{}", &error[error.len() - 60..]);
}
