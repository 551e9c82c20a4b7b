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
    let rows: Vec<Array<f64>> =
        (0..100).map(|i| one.slice(s![i..i + 500, ..]).rechunk(if i == 40 { (500, 1000) } else { (100, 1000) })).collect();
    let names: Vec<String> = (0..100).map(|i| format!("/x/{i}")).collect();
    let put = || Hdf5::create(&path).expect("begins").put_all(names.iter().zip(&rows)).chunks(Auto).deflate(1);
    let bound = put().explain().expect("100 datasets in 300 MB").bound_bytes;
    let alone = |i: usize| Hdf5::create(&path).expect("begins").put("/x", &rows[i]).chunks(Auto).deflate(1).explain();
    let [largest, other] = [40, 0].map(|i| alone(i).expect("one").bound_bytes);
    assert!(largest > other + (9 << 20), "{largest} and {other} bytes for one");
    // They have the array in common, of which each is a part.
    assert!((largest..largest + (20 << 20)).contains(&bound), "{bound} bytes for a hundred, {largest} for the largest");
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
    Hdf5::create(&path).expect("begins").put("/a", &x).put("/g/b", &x).put("/z", &x).deflate(1).run().expect("runs");
    let file = hdf5::File::open_rw(&path).expect("opens");
    file.link_hard("/g", "/h").expect("a second name of a group");
    file.link_hard("/a", "/same_a").expect("a second name of a dataset");
    drop(file);
    type Puts<'a> = &'a [(&'a str, &'a dyn AnyArray)];
    let cases: [(Puts<'_>, &str); 15] = [
        (&[("/new", &x), ("/new", &x)], "name of its own"),
        (&[("/a", &x), ("//a", &x)], "name of its own"),
        (&[("/a", &y), ("/a", &y)], "name of its own"),
        (&[("/g", &x)], "/g is a group; name a dataset inside it"),
        (&[("/a/c", &x)], "/a is a dataset, so /a/c cannot lie below it"),
        (&[("/n/c", &x), ("/n", &x)], "/n is a group; name a dataset inside it"),
        (&[("/n", &x), ("/n/c/d", &x)], "/n is a dataset, so /n/c/d cannot lie below it"),
        (&[("/a", &x), ("/a", &y)], "name of its own"),
        (&[("/a", &y), ("/a", &x)], "name of its own"),
        (&[("/z", &x), ("/z", &x)], "name of its own"), // what is compressed is made anew
        (&[("/a", &x), ("/same_a", &y)], "name of its own"),
        (&[("/g/n", &x), ("/h/n", &x)], "name of its own"),
        (&[("/g/n", &x), ("/h/n/c", &x)], "/h/n is a dataset, so /h/n/c cannot lie below it"),
        (&[], "gets no dataset and no attribute, so there is nothing to write"),
        (&[("/", &x)], "name it"),
    ];
    for (puts, wanted) in cases {
        let put = || Hdf5::create(&path).expect("begins").put_all(puts.iter().copied());
        let (explained, run) = (put().explain().expect_err(wanted).to_string(), put().run().expect_err(wanted).to_string());
        assert!(explained.contains(wanted), "{explained}");
        assert_eq!(explained, run);
    }
    let fine: [Puts<'_>; 4] =
        [&[("/a", &y), ("/same_a", &x)], &[("/a", &x), ("/b", &x)], &[("/n/c", &x), ("/n/d", &y), ("/g/e", &x)], &[("/a", &y)]];
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
    assert!(error.contains("shorter name") && error.contains("70000 bytes") && error.len() < 250, "{error}");
    put("n".repeat(60_000)).expect("fits");
}

#[test]
fn a_writer_that_takes_no_more_says_so_before_anything_is_computed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let x = Array::from(vec![1.0, 2.0]).in_session(&session());
    let begun = || {
        let file = Hdf5::create(&path).expect("begins");
        x.store_into(&file.dataset("/x", &[2], DType::F64).create().expect("made")).expect("stored");
        file
    };
    let committed = || {
        let file = begun();
        file.commit().expect("complete");
        file
    };
    let none: [(&str, &Array<f64>); 0] = [];
    for put in [&|| committed().put("/y", &x), &|| committed().attr("late", 1).put_all(none)] as [&dyn Fn() -> _; 2] {
        let (explained, run) = (put().explain().expect_err("committed"), put().run().expect_err("committed"));
        assert!(explained.to_string().contains("is committed") && run.to_string().contains("is committed"), "{explained}");
    }
    let put = begun().put("/y", &x);
    put.explain().expect("explains");
    let file = Hdf5::create(&path).expect("begins");
    std::fs::copy(&path, folder.path().join("b.h5")).expect("copied");
    std::fs::rename(folder.path().join("b.h5"), &path).expect("another file");
    let error = file.put("/y", &x).explain().expect_err("replaced meanwhile").to_string();
    assert!(error.contains("changed or replaced"), "{error}");
}
