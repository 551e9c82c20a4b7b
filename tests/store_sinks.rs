//! What every sink refuses, whatever its format; several datasets in one file with one commit. Needs no device.
#![cfg(feature = "hdf5")]

use std::sync::{Arc, Mutex};

use chunkwise::shape::{ChunkView, DType, Layout, Region};
use chunkwise::store::{self, Hdf5, Hdf5Writer};
use chunkwise::task::{ChunkSink, Intake};
use chunkwise::{Array, Error};
use support::folder::Folder;
use support::read::read_all;

/// A sink of a user's own: it keeps what it is given.
struct Own {
    intake: Intake,
    puts: Mutex<usize>,
    commits: Mutex<usize>,
}

impl Own {
    fn new(shape: &[usize], dtype: DType) -> Arc<Self> {
        let intake = Intake::new("own", shape, dtype).unwrap();
        Arc::new(Self { intake, puts: Mutex::new(0), commits: Mutex::new(0) })
    }

    fn seen(&self) -> (usize, usize) {
        (*self.puts.lock().unwrap(), *self.commits.lock().unwrap())
    }
}

impl ChunkSink for Own {
    fn intake(&self) -> &Intake {
        &self.intake
    }

    fn put(&self, _: &Region, _: ChunkView<'_>) -> chunkwise::Result<()> {
        *self.puts.lock().unwrap() += 1;
        Ok(())
    }

    fn commit(&self) -> chunkwise::Result<()> {
        *self.commits.lock().unwrap() += 1;
        Ok(())
    }
}

/// Writes `value` to the rows `from..to` of a sink of `f64`, with rows as long as its own.
fn put(sink: &Arc<dyn ChunkSink>, (from, to): (usize, usize), value: f64) -> chunkwise::Result<()> {
    let shape = sink.shape().to_vec();
    let ranges: Vec<(usize, usize)> = std::iter::once((from, to)).chain(shape[1..].iter().map(|&n| (0, n))).collect();
    let region = Region::new(&shape, &ranges).unwrap();
    let layout = Layout::contiguous(DType::F64, &region.shape());
    sink.write(&region, ChunkView::from_slice(&vec![value; region.len()], &layout))
}

fn fixture(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// One line that says all of these.
#[track_caller]
fn says<T>(result: chunkwise::Result<T>, parts: &[&str]) {
    let Err(error) = result else { panic!("no error: {parts:?}") };
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)) && text.lines().count() == 1, "{text}");
}

#[test]
fn what_does_not_fit_is_refused_by_every_sink() {
    let dir = Folder::new("unfit");
    let file = Hdf5::create(dir.file("b.h5")).unwrap();
    let own = Own::new(&[4, 5], DType::F64);
    let create = |name: &str, chunks| store::create(&dir.spec(name), &[4, 5], DType::F64, chunks).unwrap();
    let sinks: [(&str, Arc<dyn ChunkSink>); 5] = [
        ("a.npy", create("a.npy", None)),
        ("a.h5:/x", create("a.h5:/x", None)),
        ("c.h5:/x", create("c.h5:/x", Some(&[3, 2]))),
        ("b.h5:/x", file.dataset("/x", &[4, 5], DType::F64).create().unwrap()),
        ("own", own.clone()),
    ];
    for (name, sink) in &sinks {
        let write = |region: &Region, shape: &[usize]| {
            let values = vec![1.0; shape.iter().product()];
            sink.write(region, ChunkView::from_slice(&values, &Layout::contiguous(DType::F64, shape)))
        };
        // Regions of other arrays.
        for (outside, ranges) in [
            (Region::all(&[4, 6]), "[0..4, 0..6]"),
            (Region::new(&[9, 5], &[(3, 5), (0, 5)]).unwrap(), "[3..5, 0..5]"),
            (Region::new(&[9, 9], &[(8, 9), (8, 9)]).unwrap(), "[8..9, 8..9]"),
            (Region::all(&[20]), "[0..20]"),
            (Region::all(&[]), "[]"),
            (Region::all(&[1, 4, 5]), "[0..1, 0..4, 0..5]"),
        ] {
            says(write(&outside, &outside.shape()), &["write", name, "a region inside [4, 5]", ranges]);
        }
        says(sink.write(&Region::all(&[usize::MAX, 7]), ChunkView::from_slice(&[0.0; 0], &empty())), &["inside [4, 5]"]);
        // Chunks that are not as large as their region.
        let rows = Region::new(&[4, 5], &[(1, 3), (0, 5)]).unwrap();
        for shape in [&[1, 5][..], &[2, 4], &[3, 5], &[10], &[5, 2], &[]] {
            says(write(&rows, shape), &["write", "[2, 5]", "[1..3, 0..5]", name]);
        }
        let (wrong, layout) = ([1f32; 10], Layout::contiguous(DType::F32, &[2, 5]));
        says(sink.write(&rows, ChunkView::from_slice(&wrong, &layout)), &[name, "f32", "convert it to f64"]);
        says(sink.finish(), &[name, "is not complete: 20 of its 20 elements were never written"]);
    }
    assert_eq!(own.seen(), (0, 0));
    drop((sinks, file));
    assert_eq!(dir.names(), [""; 0]);
}

fn empty() -> Layout {
    Layout::contiguous(DType::F64, &[0, 7])
}

#[test]
fn what_is_not_complete_is_not_finished() {
    let dir = Folder::new("incomplete");
    for (name, path) in [("a.npy", "a.npy"), ("a.h5:/x", "a.h5")] {
        let sink = store::create(&dir.spec(name), &[4, 5], DType::F64, None).unwrap();
        put(&sink, (0, 1), 1.0).unwrap();
        put(&sink, (3, 4), 4.0).unwrap();
        put(&sink, (3, 4), 4.0).unwrap(); // again, as after a fault: it does not count twice
        let error = sink.finish().unwrap_err();
        assert!(matches!(error, Error::Unwritten { missing: 10, elements: 20, .. }), "{error}");
        says(sink.finish(), &[path, "10 of its 20 elements", "write them first, or drop it"]);
        assert!(!dir.file(path).exists());
        // Elements that are there already, as part of another region.
        says(put(&sink, (0, 3), 9.0), &["region of", path, "[0..3, 0..5]", "each element once"]);
        says(put(&sink, (1, 4), 9.0), &["region of", path, "[1..4, 0..5]", "each element once"]);
        put(&sink, (1, 3), 2.0).unwrap();
        sink.finish().unwrap();
        sink.finish().unwrap();
        let rows = read_all::<f64>(&*store::open(&dir.spec(name)).unwrap());
        assert_eq!(rows.chunks(5).map(|row| row[0]).collect::<Vec<_>>(), [1.0, 2.0, 2.0, 4.0]);
        says(put(&sink, (1, 3), 7.0), &[path, "is complete; nothing more is written to it"]);
    }
    // Two of them twice, two never.
    let sink = store::create(&dir.spec("b.npy"), &[4, 5], DType::F64, None).unwrap();
    [(0, 2), (1, 3)].iter().for_each(|&rows| put(&sink, rows, 1.0).unwrap());
    says(sink.finish(), &["finishing", "b.npy failed: some elements were written twice", "write each once"]);
    drop(sink);
    // Nothing to write.
    for name in ["e.npy", "e.h5:/x"] {
        store::create(&dir.spec(name), &[0, 7], DType::F64, None).unwrap().finish().unwrap();
        assert_eq!(store::open(&dir.spec(name)).unwrap().shape(), [0, 7]);
    }
    assert_eq!(dir.names(), ["a.h5", "a.npy", "e.h5", "e.npy"]);
}

#[test]
fn a_users_sink_gets_what_fits_and_one_commit() {
    let array = Array::from(ndarray::Array2::<f64>::ones((40, 5))).chunks((7, 5));
    let own = Own::new(&[40, 5], DType::F64);
    array.store_into(&(own.clone() as Arc<dyn ChunkSink>)).unwrap();
    assert_eq!((own.seen(), own.intake().missing()), ((6, 1), 0));
    says(array.store_into(&(own.clone() as Arc<dyn ChunkSink>)), &["own", "it is complete"]);
    assert_eq!(own.seen(), (6, 1), "what has it all takes nothing more");
    for (shape, dtype, part) in
        [(&[41, 5][..], DType::F64, "[41, 5]"), (&[40], DType::F64, "[40]"), (&[40, 5], DType::F32, "f64")]
    {
        let own = Own::new(shape, dtype);
        says(array.store_into(&(own.clone() as Arc<dyn ChunkSink>)), &["own", part]);
        assert_eq!(own.seen(), (0, 0));
    }
}

/// The datasets of a file and the first number of each.
fn firsts(path: &str, names: &[&str]) -> Vec<f64> {
    let file = Hdf5::open(path).unwrap();
    names.iter().map(|name| read_all::<f64>(&*file.source(name).unwrap())[0]).collect()
}

fn sink(file: &Hdf5Writer, name: &str) -> chunkwise::Result<Arc<dyn ChunkSink>> {
    file.dataset(name, &[6, 4], DType::F64).create()
}

#[test]
fn several_datasets_appear_at_once() {
    let dir = Folder::new("several");
    let path = dir.spec("x.h5");
    let names = ["/a", "/deep/down/b", "/deep/c", "/d"];
    for round in [1.0, 2.0, 3.0] {
        // The first time there is no file; then the datasets are there, and the third time in other chunks.
        let chunks = if round == 3.0 { &[5, 3][..] } else { &[2, 4] };
        let before = std::fs::read(&path).ok();
        let file = Hdf5::create(&path).unwrap();
        let a = sink(&file, names[0]).unwrap();
        put(&a, (0, 6), round).unwrap();
        let b = file.dataset(names[1], &[6, 4], DType::F64).chunks(chunks).create().unwrap();
        let others = [names[2], names[3]].map(|name| sink(&file, name).unwrap());
        let n = file.dataset("/n", &[], DType::I64).chunks(&[]).create().unwrap();
        std::thread::scope(|scope| {
            for sink in [&b, &others[0], &others[1]] {
                scope.spawn(move || [(3, 6), (0, 3)].iter().for_each(|&rows| put(sink, rows, round).unwrap()));
            }
        });
        a.finish().unwrap();
        says(file.commit(), &["x.h5:/n is not complete: 1 of its 1 elements"]);
        says(n.finish(), &["x.h5:/n"]);
        assert_eq!(std::fs::read(&path).ok(), before, "until it is committed");
        Array::from(ndarray::arr0((1i64 << 53) + 1)).store_into(&n).unwrap();
        file.commit().unwrap();
        file.commit().unwrap();
        assert_eq!((firsts(&path, &names), dir.names()), (vec![round; 4], vec!["x.h5".to_owned()]));
        assert_eq!(hdf5::File::open(&path).unwrap().dataset(names[1]).unwrap().chunk().unwrap(), chunks);
        assert_eq!(read_all::<i64>(&*store::open(&format!("{path}:/n")).unwrap()), [(1 << 53) + 1]);
        // Nothing comes after.
        says(sink(&file, "/e"), &["x.h5: is committed"]);
        says(put(&a, (0, 6), 9.0), &["is complete; nothing more"]);
        drop(file);
        says(put(&a, (0, 6), 9.0), &["x.h5:/a", "is complete; nothing more"]);
    }
    assert_eq!(firsts(&path, &names), [3.0; 4]);
}

/// HDF5 programs lock their files as this variable says, whatever they are told in the program.
#[test]
fn several_datasets_however_hdf5_locks_files() {
    for value in ["TRUE", "BEST_EFFORT", "FALSE"] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        // One after the other: a child inherits what libhdf5 has open, with its locks.
        let child = child.args(["--test-threads=1", "several_datasets_appear", "datasets_are_added", "without_commit"]);
        let child = child.env("HDF5_USE_FILE_LOCKING", value).output().unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("3 passed"), "{value}: {text}");
    }
}

/// A dataset that is replaced in part only is not replaced.
#[test]
fn half_a_dataset_does_not_replace_one() {
    let dir = Folder::new("half");
    let path = dir.spec("keep.h5");
    std::fs::copy(fixture("keep.h5"), &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    for name in ["/group/plain", "/group/chunks", "/group/packed"] {
        let spec = format!("{path}:{name}");
        let shape = store::open(&spec).unwrap().shape().to_vec();
        let sink = store::create(&spec, &shape, DType::F64, None).unwrap();
        put(&sink, (0, 2), 5.0).unwrap();
        let missing = ((shape[0] - 2) * shape[1]) as u64;
        let error = sink.finish().unwrap_err();
        assert!(matches!(error, Error::Unwritten { missing: m, .. } if m == missing), "{error}");
        says(sink.finish(), &[&format!("keep.h5:{name} is not complete")]);
    }
    assert!(std::fs::read(&path).unwrap() == before && dir.names() == ["keep.h5"]);
}

#[test]
fn datasets_are_added_to_a_file_and_to_nothing_else() {
    let dir = Folder::new("added");
    let path = dir.spec("keep.h5");
    for file in ["keep.h5", "plain.h5"] {
        std::fs::copy(fixture(file), dir.file(file)).unwrap();
    }
    let before = std::fs::read(&path).unwrap();
    let old = firsts(&path, &["/group/chunks"]);
    let file = Hdf5::create(&path).unwrap();
    let plain = file.dataset("/group/plain", &[20, 30], DType::F64).create().unwrap(); // its bytes are replaced
    let packed = file.dataset("/soft", &[6, 4], DType::F64).create().unwrap(); // is a link to /group/packed, which goes
    let new = sink(&file, "/group/new/x").unwrap();
    for (name, part) in [
        ("/group/plain", "/group/plain is a dataset that is being written into it already"),
        ("/hard", "/hard is a dataset that is being written into it already"), // another name of /group/plain
        ("group//./packed/", "is being written into it already"),
        ("/group/new/x", "is being written into it already"),
        ("/group/new", "is a group; name a dataset inside it"),
        ("/group/new/x/y", "/group/new/x is a dataset, so"),
        ("/away", "external link"),
        ("/dangling", "link to something that is not there"),
        ("/type", "is a named type"),
        ("", "name it, for example /x"),
        ("/./", "name it, for example /x"),
        ("/a\0b", "without the character 0"),
    ] {
        says(sink(&file, name), &["keep.h5", part]);
    }
    for (shape, chunks, part) in [
        (&[1; 33][..], &[][..], "at most 32 axes"),
        (&[usize::MAX, 4], &[], "elements"),
        (&[4, 4], &[4], "rank 2"),
        (&[4, 4], &[4, 0], "rank 2"),
        (&[4, 4], &[8, 4], "within [4, 4]"),
        (&[1 << 50], &[], "free"),
    ] {
        let wanted = file.dataset("/bad", shape, DType::F64);
        says(if chunks.is_empty() { wanted } else { wanted.chunks(chunks) }.create(), &[part]);
    }
    // What was refused is not in the way of the others.
    for (sink, rows, value) in [(&plain, 20, 1.0), (&packed, 6, 2.0), (&new, 6, 3.0)] {
        put(sink, (0, rows), value).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == before);
    file.commit().unwrap();
    drop(file);
    let names = ["/group/plain", "/hard", "/soft", "/group/packed", "/group/new/x", "/group/chunks"];
    assert_eq!(firsts(&path, &names), [1.0, 1.0, 2.0, 2.0, 3.0, old[0]]);
    let kept = hdf5::File::open(&path).unwrap();
    assert!(kept.userblock() == 512 && kept.dataset("/bad").is_err());
    assert!(["/group/plain", "/group/packed"].iter().all(|name| kept.dataset(name).unwrap().attr("zeta").is_ok()));
}

#[test]
fn without_commit_nothing_is_left() {
    let dir = Folder::new("uncommitted");
    let path = dir.spec("x.h5");
    says(Hdf5::create(dir.file("no/x.h5")), &["cannot create"]);
    says(Hdf5::create(dir.path()), &["is a directory"]);
    says(Hdf5::open(&path), &["cannot open"]);
    std::fs::write(dir.file("text.h5"), "not HDF5").unwrap();
    says(Hdf5::create(dir.file("text.h5")), &["is not HDF5, so it is not overwritten"]);
    says(Hdf5::open(dir.file("text.h5")), &["is not an HDF5 file"]);
    for there in [false, true] {
        let before = std::fs::read(&path).ok();
        assert_eq!(before.is_some(), there);
        let file = Hdf5::create(&path).unwrap();
        says(Hdf5::create(&path), &["x.h5", "already being written"]);
        says(file.commit(), &["x.h5", "gets no dataset and no attribute, so there is nothing to write"]);
        let [a, b, half] = ["/a", "/b", "/half"].map(|name| sink(&file, name).unwrap());
        [&a, &b].iter().for_each(|sink| put(sink, (0, 6), 1.0).unwrap());
        [&a, &b].iter().for_each(|sink| sink.finish().unwrap());
        put(&half, (0, 3), 1.0).unwrap();
        drop(file);
        // Also while the sinks are there.
        assert_eq!(dir.names().len(), 1 + usize::from(there));
        assert_eq!(std::fs::read(&path).ok(), before);
        says(put(&half, (3, 6), 1.0), &["x.h5:/half", "its file was dropped"]);
        says(put(&a, (0, 6), 1.0), &["x.h5:/a", "is complete; nothing more"]);
        says(a.finish(), &["x.h5:/a", "its file was dropped"]);
        // Nor by a file that another program made or changed meanwhile.
        let file = Hdf5::create(&path).unwrap();
        put(&sink(&file, "/a").unwrap(), (0, 6), 1.0).unwrap();
        std::fs::copy(fixture("plain.h5"), dir.file("other.h5")).unwrap();
        std::fs::rename(dir.file("other.h5"), &path).unwrap();
        says(file.commit(), &["x.h5", "by another program"]);
        drop(file);
        assert_eq!(dir.names(), ["text.h5", "x.h5"]);
    }
    says(Hdf5::open(&path).unwrap().dataset("/a"), &["there is no dataset /a", "it holds"]);
    says(Hdf5::open(&path).unwrap().dataset(""), &["name it"]);
}
