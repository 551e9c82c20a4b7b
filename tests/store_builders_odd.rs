//! What is seldom asked of the builders of files.
//!
//! Owns: attributes that others wrote or that cannot be written, settings in any order, files that are written and changed at once, shapes of chunks that disagree. Must not
//! know: layouts of bytes. Invariant: each test failed once, on what it is about.

use std::path::Path;

use chunkwise::store::{self, Attr, Hdf5};
use chunkwise::{Array, prelude::*};

fn session() -> Session {
    Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session")
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("a folder").count()
}

/// tests/data/attrs.h5 was written by h5py.
#[test]
fn attributes_that_others_wrote_are_read_or_named() {
    let file = Hdf5::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/attrs.h5")).expect("opens");
    let all = file.attrs("/x").expect("read");
    let of = |name: &str| all.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()).expect("listed");
    let wanted: [(&str, Attr); 14] = [
        ("text", "m/s²".into()),
        ("fixed", "metre".into()),
        ("fixed_utf8", "m²".into()),
        ("ascii", "abc".into()),
        ("unwritten", "".into()),
        ("spaces", "metre".into()),
        ("bool", true.into()),
        ("i8", Attr::Integer(-3)),
        ("u16s", Attr::Unsigneds(vec![0, 1, 2])),
        ("big_floats", Attr::Floats(vec![1.5, 2.0])),
        ("big_integer", Attr::Integer(7)),
        ("u64", u64::MAX.into()),
        ("one", Attr::Floats(vec![3.5])),
        ("none", Attr::Integers(vec![])),
    ];
    for (name, value) in wanted {
        assert_eq!(of(name), value, "{name}");
    }
    for name in ["no_number", "no_text", "bools", "table", "record", "reference", "opaque", "bad", "latin1", "fixed_bad"] {
        assert!(matches!(of(name), Attr::Other(_)), "{name}: {:?}", of(name));
    }
    assert_eq!(all.len(), 25);
    for name in ["bad", "latin1", "fixed_bad"] {
        assert!(format!("{:?}", of(name)).contains("not UTF-8"), "{name}: {:?}", of(name));
    }
}

/// Of the file, too, whose attributes are written last.
#[test]
fn an_attribute_that_cannot_be_written_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let session = session();
    let x = Array::from(vec![1.0, 2.0]).in_session(&session);
    let bad: [(&str, Attr, &str); 5] = [
        ("other", Attr::Other("a record".to_owned()), "a record"),
        ("zero", "a\0b".into(), "character 0"),
        ("long", vec![0.5; 10_000].into(), "at most"),
        ("", 1.into(), "name"),
        ("a\0b", 1.into(), "character 0"),
    ];
    for (name, value, says) in bad {
        let begin = || Hdf5::create(&path).expect("begins");
        let errors = [
            begin().attr(name, value.clone()).put("/x", &x).explain().map(drop).expect_err("the file's"),
            begin().put("/x", &x).attr(name, value.clone()).explain().map(drop).expect_err("the dataset's"),
        ];
        for error in errors {
            assert!(matches!(error, Error::Argument { .. }) && error.to_string().contains(says), "{name:?}: {error}");
        }
        let file = begin().attr(name, value.clone());
        assert!(file.dataset("/x", &[0], DType::F64).create().is_err(), "{name:?}");
        // Asked again, it is not written without.
        assert!(file.commit().is_err() && file.commit().is_err(), "{name:?}");
        drop(file);
        assert_eq!(files(folder.path()), 0, "{name:?}");
    }
    // As long as may be; and long text, which lies elsewhere.
    let put = Hdf5::create(&path).expect("begins").put("/x", &x);
    put.attr("long", vec![0.5; 7500]).attr("text", "a".repeat(1 << 20)).run().expect("written");
    assert_eq!(Hdf5::open(&path).expect("opens").attr("/x", "text").expect("there").as_str().map(str::len), Some(1 << 20));
}

#[test]
fn shuffle_may_be_said_before_deflate() {
    let folder = tempfile::tempdir().expect("a folder");
    let x = session().rng(1).uniform::<f64>(20_000);
    let bytes = |name: &str, set: &dyn for<'a> Fn(store::NewDataset<'a>) -> store::NewDataset<'a>| {
        let path = folder.path().join(name);
        let file = Hdf5::create(&path).expect("begins");
        let sink = set(file.dataset("/x", &[20_000], DType::F64)).create().expect("made");
        x.store_into(&sink).expect("stored");
        file.commit().expect("committed");
        std::fs::metadata(&path).expect("there").len()
    };
    let after = bytes("after.h5", &|new| new.deflate(1).shuffle(false));
    let before = bytes("before.h5", &|new| new.shuffle(false).deflate(1));
    let shuffled = bytes("shuffled.h5", &|new| new.deflate(1));
    assert_eq!(before, after);
    assert!(shuffled < after, "{shuffled} {after}: the test sees no difference");
    assert!(bytes("plain.h5", &|new| new.shuffle(false)) > 160_000, "alone it compresses nothing");
}

/// Chunks of rows, stored in chunks of columns: what lies between is not larger than both.
#[test]
fn chunks_that_disagree_take_no_more_memory_than_either() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let session = Session::builder().threads(2).memory_limit("40MB").placement(Placement::Cpu).cache_dir("").build();
    let session = session.expect("a session");
    // 128 MB: rows of 256 KB, columns of 512 x 64 in 128 KB.
    let x = session.rng(1).uniform::<f32>((512, 65_536)).chunks((1, 65_536));
    Hdf5::create(&path).expect("begins").put("/x", &x).chunks((512, 64)).deflate(0).run().expect("within 40 MB");
    let back = Hdf5::open(&path).expect("opens").dataset("/x").expect("there").as_::<f32>().expect("floats");
    let (found, made) = (back.in_session(&session).mean().compute_scalar(), x.mean().compute_scalar());
    assert!((found.expect("reads") - made.expect("computes")).abs() < 1e-6);
}

/// One thread fills a compressed dataset while another one makes datasets in the same file.
#[test]
fn datasets_are_made_while_others_are_filled() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let session = session();
    let x = session.rng(1).uniform::<f32>((600, 50)).chunks((1, 50));
    let file = Hdf5::create(&path).expect("begins");
    let to_x = file.dataset("/x", &[600, 50], DType::F32).chunks(&[2, 50][..]).deflate(1).create().expect("made");
    std::thread::scope(|scope| {
        let filled = scope.spawn(|| x.store_into(&to_x));
        let mut made = 0;
        while !filled.is_finished() {
            let sink = file.dataset(&format!("/y{made}"), &[3], DType::I32).create().expect("made");
            Array::from(vec![made, 2, 3]).in_session(&session).store_into(&sink).expect("stored");
            made += 1;
        }
        filled.join().expect("no panic").expect("filled");
        assert!(made > 0);
    });
    file.commit().expect("committed");
    let back = Hdf5::open(&path).expect("opens").dataset("/x").expect("there").as_::<f32>().expect("floats");
    assert_eq!(back.compute().expect("reads"), x.compute().expect("computes"));
}

#[test]
fn datasets_far_down_are_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.h5");
    let name = format!("{}/x", "/g".repeat(40));
    let x = Array::from(vec![1]).in_session(&session());
    Hdf5::create(&path).expect("begins").put(name.as_str(), &x).put("/y", &x).run().expect("written");
    assert_eq!(Hdf5::open(&path).expect("opens").datasets().expect("listed"), [name.as_str(), "/y"]);
    if let Ok(path) = std::env::var("H1_MANY") {
        assert_eq!(Hdf5::open(&path).expect("opens").datasets().expect("listed"), ["/z"]);
    }
}

/// What a child process does with little room: stores compressed arrays, and says how that ended.
#[cfg(unix)]
#[test]
fn stores_where_there_is_little_room() {
    let Some(folder) = std::env::var_os("CHUNKWISE_LITTLE_ROOM") else { return };
    let path = std::path::Path::new(&folder).join("x.h5");
    let session = Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session");
    let x = session.rng(1).uniform::<f64>((300, 300)).chunks((50, 300));
    let put = || -> Result<()> {
        let file = Hdf5::create(&path)?;
        file.put("/x", &x).chunks((50, 50)).deflate(1).put("/t", &x.t()).chunks((64, 64)).deflate(6).run().map(drop)
    };
    match put() {
        Ok(()) => assert_eq!(
            Hdf5::open(&path).and_then(|f| f.dataset("/t")?.as_::<f64>()?.compute()).expect("whole"),
            x.t().compute().expect("made")
        ),
        Err(error) => assert!(!path.exists(), "{error}"),
    }
    assert!(std::fs::read_dir(&folder).expect("a folder").count() <= 1, "nothing else is left");
}

/// libhdf5 does not survive a write that fails while it closes a dataset: it must never come to that.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_wherever_it_comes() {
    let mut ended = [0, 0];
    for blocks in [1, 4, 9, 20, 40, 100, 400, 1000, 2000, 3000, 8000] {
        let folder = tempfile::tempdir().expect("a folder");
        let program = std::env::current_exe().expect("this program");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" stores_where_there_is_little_room --exact");
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .arg(program)
            .env("CHUNKWISE_LITTLE_ROOM", folder.path())
            .output()
            .expect("a child");
        assert!(output.status.success(), "{blocks} blocks: {output:?}");
        ended[usize::from(folder.path().join("x.h5").exists())] += 1;
    }
    assert!(ended[0] > 2 && ended[1] > 0, "some fit, some do not: {ended:?}");
}
