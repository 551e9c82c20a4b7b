//! Files that we write: read back by both ways, whole or not at all, nothing else lost. Also the kernels that read, write
//! and sum chunks. Needs no device.
#![cfg(feature = "hdf5")]

use std::process::{Command, Output};
use std::sync::Arc;

use chunkwise::kernel::{Kernel, Lane, Scratch};
use chunkwise::shape::{ChunkGrid, ChunkView, ChunkViewMut, DType, Element, Layout, Real, Region};
use chunkwise::store::{self, Cut, ReadChunk, ScanSum, ScanWeightedSum, WriteChunk};
use chunkwise::task::{ChunkSink, ChunkSource};
use support::folder::Folder;
use support::read::read_all;

fn forced() -> bool {
    std::env::var_os("CHUNKWISE_IO").is_some()
}

/// This test binary again, in the environment given, running the tests named.
fn again(tests: &[&str], name: &str, value: &str) -> Output {
    Command::new(std::env::current_exe().unwrap()).args(tests).env(name, value).output().unwrap()
}

fn values<T: Real>(n: usize) -> Vec<T> {
    (0..n).map(|i| T::from_f64((i * 37 % 1013) as f64)).collect()
}

/// Writes `all` through the chunks of `grid`, last first, two threads at a time, and finishes.
fn write<T: Element>(sink: &Arc<dyn ChunkSink>, grid: &ChunkGrid, all: &[T]) {
    let regions: Vec<Region> = (0..grid.len()).rev().map(|i| grid.region(i)).collect();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let mine = regions.iter().skip(half).step_by(2);
            scope.spawn(move || {
                for region in mine {
                    // A window of the whole array: rows with gaps between them.
                    let strides = Layout::contiguous(T::DTYPE, grid.shape()).strides;
                    let start: usize = region.start().iter().zip(&strides).map(|(&i, &s)| i * s as usize).sum();
                    let layout = Layout { dtype: T::DTYPE, shape: region.shape(), strides };
                    sink.write(region, ChunkView::from_slice(&all[start..], &layout)).unwrap();
                }
            });
        }
    });
    sink.finish().unwrap();
}

/// An array of zeros in a file.
fn zeros(spec: &str, n: usize) {
    let sink = store::create(spec, &[n], DType::F64, None).unwrap();
    write(&sink, &ChunkGrid::single(&[n]).unwrap(), &vec![0f64; n]);
}

fn round_trip<T: Element>(dir: &Folder, all: impl Fn(usize) -> Vec<T>) {
    let shapes: [(&[usize], &[usize]); 5] =
        [(&[], &[]), (&[50], &[16]), (&[17, 23], &[5, 7]), (&[5, 6, 7], &[2, 4, 3]), (&[0, 4], &[1, 2])];
    for (shape, chunk) in shapes {
        let grid = ChunkGrid::regular(shape, chunk).unwrap();
        let all = all(shape.iter().product());
        for (spec, storage) in
            [("a.h5:/x", None), ("c.h5:/deep/down/x", Some(chunk)), ("a.npy", None)].map(|(s, c)| (dir.spec(s), c))
        {
            let sink = store::create(&spec, shape, T::DTYPE, storage.filter(|_| !shape.contains(&0))).unwrap();
            write(&sink, &grid, &all);
            drop(sink);
            let source = store::open(&spec).unwrap();
            assert_eq!((source.shape(), source.dtype()), (shape, T::DTYPE), "{spec}");
            assert_eq!(source.access().starts_with("positioned"), !forced() || spec.ends_with("npy"), "{}", source.access());
            assert_eq!(read_all::<T>(&*source), all, "{spec} {shape:?}");
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    let dir = Folder::new(if forced() { "library" } else { "round" });
    round_trip::<bool>(&dir, |n| (0..n).map(|i| i % 3 == 1).collect());
    round_trip::<u8>(&dir, |n| (0..n).map(|i| i as u8).collect());
    round_trip::<i32>(&dir, values);
    round_trip::<u32>(&dir, values);
    round_trip::<i64>(&dir, values);
    round_trip::<u64>(&dir, values);
    round_trip::<f32>(&dir, values);
    round_trip::<f64>(&dir, values);
    assert_eq!(dir.names(), ["a.h5", "a.npy", "c.h5"]);
}

#[test]
fn libhdf5_reads_what_is_written() {
    if !forced() {
        let child = again(&["written_is_read_back"], "CHUNKWISE_IO", "library");
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("1 passed"), "{text}");
    }
}

#[test]
fn unfinished_files_leave_nothing() {
    let dir = Folder::new("drop");
    for name in ["a.h5:/x", "a.npy"] {
        let sink = store::create(&dir.spec(name), &[100], DType::F64, None).unwrap();
        assert!(dir.names().iter().all(|n| n.contains(".tmp-")), "{:?}", dir.names());
        let error = store::create(&dir.spec(name), &[100], DType::F64, None).err().unwrap().to_string();
        assert!(error.contains("already being written"), "{error}");
        drop(sink);
        assert_eq!(dir.names(), [""; 0]);
    }
}

#[test]
fn what_cannot_be_written_is_refused_at_once() {
    let dir = Folder::new("refused");
    let refused = |spec: &str, shape: &[usize], chunk: Option<&[usize]>, says: &str| {
        let error = match store::create(spec, shape, DType::F64, chunk) {
            Ok(_) => panic!("{spec} was created"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
    };
    refused("/dev/full:/x", &[2], None, "not a regular file");
    refused(&dir.spec("no/such/folder.h5:/x"), &[2], None, "cannot create");
    refused(&dir.spec("no/such/folder.npy"), &[2], None, "cannot create");
    refused(&format!("{}:/x", dir.spec("")), &[2], None, "is a directory");
    refused(&dir.spec("a.h5:/x"), &[4, 4], Some(&[4]), "rank 2");
    refused(&dir.spec("a.h5:/x"), &[4, 4], Some(&[4, 0]), "rank 2");
    refused(&dir.spec("a.h5:/x"), &[4, 4], Some(&[8, 4]), "within [4, 4]");
    refused(&dir.spec("a.h5:/x"), &[usize::MAX, 4], None, "elements");
    refused(&dir.spec("a.h5:/x"), &[1 << 50], None, "free");
    refused(&dir.spec("a.npy"), &[1 << 50], None, "free");
    refused("s3://bucket/a.npy", &[4], None, "s3:// is not served; write to this machine's disk and copy");
    refused(&dir.spec("a.h5:/x"), &[1; 33], None, "at most 32 axes in HDF5, not 33");
    let sink = store::create(&dir.spec("a.npy"), &[2], DType::F64, None).unwrap();
    // More than the array, other elements: the sink would keep zeros, or nonsense.
    let array = chunkwise::Array::from(ndarray::arr1(&[1.0, 2.0]));
    array.store_into(&sink).unwrap();
    for (name, shape, dtype, says) in [
        ("b.npy", &[3][..], DType::F64, "[3], for which"),
        ("c.npy", &[2, 1], DType::F64, "[2, 1], for which"),
        ("d.npy", &[2], DType::F32, "create the sink for f64"),
    ] {
        let sink = store::create(&dir.spec(name), shape, dtype, None).unwrap();
        let error = array.store_into(&sink).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(array.explain_store(&sink).is_err());
    }
    drop(sink);
    assert_eq!(dir.names(), ["a.npy"]);
}

/// Runs in a child: the limit would end this process.
#[cfg(target_os = "linux")]
#[test]
fn a_file_size_limit_is_an_error_and_not_a_signal() {
    const KEY: &str = "CHUNKWISE_TEST_LIMIT";
    if let Ok(folder) = std::env::var(KEY) {
        for name in ["a.h5:/x", "a.npy"] {
            let error = store::create(&format!("{folder}/{name}"), &[1_000_000], DType::F64, None).err().unwrap().to_string();
            assert!(error.contains("needs 8.00 MB") && error.contains("ulimit -f"), "{error}");
        }
        return;
    }
    let dir = Folder::new("limit");
    let line = "ulimit -f 64 && exec \"$0\" --exact a_file_size_limit_is_an_error_and_not_a_signal";
    let mut child = Command::new("sh");
    let child = child.args(["-c", line]).arg(std::env::current_exe().unwrap()).env(KEY, dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(dir.names(), [""; 0]);
}

/// Runs in a child: it would remove the files of the tests beside it.
#[test]
fn an_interrupted_program_removes_its_temporaries() {
    const KEY: &str = "CHUNKWISE_TEST_INTERRUPT";
    if let Ok(folder) = std::env::var(KEY) {
        let list = || std::fs::read_dir(&folder).unwrap().count();
        let a = store::create(&format!("{folder}/a.h5:/x"), &[100], DType::F64, None).unwrap();
        let layout = Layout::contiguous(DType::F64, &[100]);
        a.write(&Region::all(&[100]), ChunkView::from_slice(&[0.0; 100], &layout)).unwrap();
        let _b = store::create(&format!("{folder}/b.npy"), &[100], DType::F64, None).unwrap();
        assert_eq!(list(), 2);
        store::remove_temporaries();
        assert_eq!(list(), 0);
        let error = a.finish().unwrap_err().to_string();
        assert!(error.contains("cannot create") && error.contains("a.h5"), "{error}");
        return;
    }
    let dir = Folder::new("interrupt");
    let child = again(&["an_interrupted_program"], KEY, &dir.spec(""));
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

/// The child's sink has the name that this process writes too, as in two containers that share a folder.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_writers_file_goes_and_a_live_ones_stays() {
    const KEY: &str = "CHUNKWISE_TEST_KILL";
    if let Ok(folder) = std::env::var(KEY) {
        let _a = store::create(&format!("{folder}/a.npy"), &[100], DType::F64, None).unwrap();
        let _b = store::create(&format!("{folder}/b.h5:/x"), &[100], DType::F64, None).unwrap();
        std::fs::write(format!("{folder}/ready"), "").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(60)); // it is killed long before
        return;
    }
    let dir = Folder::new("kill");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let mut child = child.args(["a_killed_writers"]).env(KEY, dir.path()).stdout(std::process::Stdio::null()).spawn().unwrap();
    while !dir.names().contains(&"ready".into()) {
        assert!(child.try_wait().unwrap().is_none(), "the child ended");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let temporaries = || dir.names().into_iter().filter(|n| n.contains(".tmp-")).collect::<Vec<_>>();
    let write_both = || {
        for spec in ["a.npy", "b.h5:/x"] {
            zeros(&dir.spec(spec), 100);
        }
    };
    let theirs = temporaries();
    assert_eq!(theirs.len(), 2);
    write_both();
    assert_eq!(temporaries(), theirs, "files that are being written");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::write(dir.spec("a.npy.tmp-mine"), "not ours").unwrap();
    write_both();
    assert_eq!(dir.names(), ["a.npy", "a.npy.tmp-mine", "b.h5", "ready"]);
}

#[cfg(unix)]
#[test]
fn a_link_to_what_is_not_there_yet_is_followed_and_stays() {
    let dir = Folder::new("symlink");
    std::fs::create_dir(dir.file("sub")).unwrap();
    for (name, end) in [("npy", ""), ("h5", ":/x")] {
        let (link, next, real) = (format!("link.{name}"), format!("sub/next.{name}"), format!("sub/real.{name}"));
        std::os::unix::fs::symlink(&next, dir.file(&link)).unwrap();
        std::os::unix::fs::symlink(format!("real.{name}"), dir.file(&next)).unwrap();
        let spec = dir.spec(&link) + end;
        for value in [1.0, 2.0] {
            let sink = store::create(&spec, &[2], DType::F64, None).unwrap();
            write(&sink, &ChunkGrid::regular(&[2], &[2]).unwrap(), &[value; 2]);
            assert_eq!(read_all::<f64>(&*store::open(&spec).unwrap()), [value; 2]);
            assert!(dir.file(&link).is_symlink() && dir.file(&next).is_symlink() && !dir.file(&real).is_symlink());
        }
        let round = format!("round.{name}");
        std::os::unix::fs::symlink(&round, dir.file(&round)).unwrap();
        let error = store::create(&(dir.spec(&round) + end), &[2], DType::F64, None).err().unwrap();
        assert!(matches!(error, chunkwise::Error::Io { .. }), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.file("sub")).unwrap().count(), 4);
}

#[test]
fn names_may_be_as_long_as_the_system_allows() {
    let dir = Folder::new("long");
    for (end, dataset) in [(".npy", ""), (".h5", ":/x")] {
        for length in [239, 255] {
            let name = "n".repeat(length - end.len()) + end;
            zeros(&(dir.spec(&name) + dataset), 2);
            assert!(dir.file(&name).is_file());
        }
        let name = "n".repeat(256 - end.len()) + end;
        let error = store::create(&(dir.spec(&name) + dataset), &[2], DType::F64, None).err().unwrap().to_string();
        assert!(error.contains("cannot create") && error.contains("too long"), "{error}");
    }
    assert_eq!(dir.names().len(), 4);
}

/// The superuser may write them all; then a child that is not does what is tested.
#[cfg(unix)]
#[test]
fn a_read_only_file_is_not_replaced() {
    use std::os::unix::fs::PermissionsExt;
    const KEY: &str = "CHUNKWISE_TEST_READ_ONLY";
    let specs = |folder: &str| ["a.npy", "a.h5:/x", "a.h5:/new"].map(|name| format!("{folder}/{name}"));
    let create = |spec: &str| store::create(spec, &[2], DType::F64, None);
    let refused = |folder: &str| {
        for spec in specs(folder) {
            let error = create(&spec).err().unwrap().to_string();
            assert!(error.contains("is read-only for this user (its mode is 0444); make it writable"), "{error}");
        }
    };
    if let Ok(folder) = std::env::var(KEY) {
        return refused(&folder);
    }
    let dir = Folder::new("read-only");
    let folder = dir.path().to_str().unwrap();
    let allow = |path: &std::path::Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    allow(dir.path(), 0o777);
    for name in ["a.npy", "a.h5"] {
        zeros(&specs(folder)[usize::from(name == "a.h5")], 2);
        allow(&dir.file(name), 0o444);
    }
    if std::fs::File::options().write(true).open(dir.file("a.npy")).is_err() {
        refused(folder);
    } else {
        let mut child = Command::new(std::env::current_exe().unwrap());
        std::os::unix::process::CommandExt::uid(&mut child, 65534);
        // The program may lie where others do not get to.
        if let Ok(child) = child.args(["--exact", "a_read_only_file_is_not_replaced"]).env(KEY, folder).output() {
            assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        }
        specs(folder).iter().for_each(|spec| zeros(spec, 2));
    }
    assert_eq!(dir.names(), ["a.h5", "a.npy"]);
    assert_eq!(std::fs::metadata(dir.file("a.npy")).unwrap().permissions().mode() & 0o777, 0o444);
}

/// HDF5 programs lock their files as this variable says, whatever they are told in the program.
const LOCKS: &str = "HDF5_USE_FILE_LOCKING";

#[test]
fn a_file_that_is_there_takes_more() {
    let dir = Folder::new("more");
    let grid = ChunkGrid::regular(&[17, 23], &[5, 7]).unwrap();
    let (one, other) = (values::<f64>(391), values::<f64>(391).into_iter().rev().collect::<Vec<_>>());
    // New, beside another, where another is.
    for (name, all) in [("x", &one), ("y", &one), ("x", &other)] {
        let sink = store::create(&dir.spec(&format!("a.h5:/{name}")), &[17, 23], DType::F64, Some(&[5, 7])).unwrap();
        write(&sink, &grid, all);
    }
    for (name, all) in [("x", &other), ("y", &one)] {
        assert_eq!(&read_all::<f64>(&*store::open(&dir.spec(&format!("a.h5:/{name}"))).unwrap()), all);
    }
    // Another program that writes it, as HDF5 locks, is in the way of writers; of readers only where they ask.
    let locked = std::fs::File::open(dir.file("a.h5")).unwrap();
    locked.lock().unwrap();
    let asks = std::env::var(LOCKS).is_ok_and(|value| ["TRUE", "1", "BEST_EFFORT"].contains(&&*value));
    let says = "is open for writing in another program";
    let error = store::create(&dir.spec("a.h5:/z"), &[2], DType::F64, None).err().unwrap().to_string();
    assert!(error.contains(says), "{error}");
    let error = store::open(&dir.spec("a.h5:/x")).err().map(|e| e.to_string());
    assert!(error.is_some() == asks && error.is_none_or(|e| e.contains(says)));
    assert_eq!(dir.names(), ["a.h5"]);
}

#[test]
fn files_are_written_however_hdf5_locks_them() {
    // One after the other: a child inherits what libhdf5 has open, with its locks.
    let tests = ["--test-threads=1", "what_is_written", "unfinished_files", "kernels_write", "a_killed_writers", "takes_more"];
    let passed = format!("{} passed", if cfg!(target_os = "linux") { 6 } else { 5 });
    for value in ["TRUE", "1", "BEST_EFFORT", "FALSE", "0", ""] {
        let child = again(&tests, LOCKS, value);
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains(&passed), "{LOCKS}={value}: {text}");
    }
}

#[test]
fn a_file_that_changes_under_the_graph_is_an_error() {
    let dir = Folder::new("change");
    for name in ["a.h5:/x", "a.npy"] {
        let spec = dir.spec(name);
        zeros(&spec, 64);
        let source = store::open(&spec).unwrap();
        let token = source.version_token();
        assert_eq!(token, store::open(&spec).unwrap().version_token());
        let file = std::fs::OpenOptions::new().write(true).open(spec.split(":/x").next().unwrap()).unwrap();
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(7)).unwrap();
        let layout = Layout::contiguous(DType::F64, &[64]);
        let mut out = [0.0; 64];
        let error = source.read(&Region::all(&[64]), &mut ChunkViewMut::from_slice(&mut out, &layout)).unwrap_err();
        assert!(error.to_string().contains("file changed under the graph"), "{error}");
        assert!(source.scan(&Region::all(&[64]), &mut [0; 200], &mut |_| ()).is_err());
        assert_ne!(token, store::open(&spec).unwrap().version_token());
    }
}

fn run(kernel: &dyn Kernel, chunks: &[u64], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>]) {
    let params: Vec<u8> = chunks.iter().flat_map(|number| number.to_ne_bytes()).collect();
    let mut scratch = vec![0xff; kernel.scratch_bytes(&params, &[]) as usize];
    kernel.run_cpu(&params, inputs, outputs, &mut Scratch::new(&mut scratch)).unwrap();
}

#[test]
fn kernels_write_read_and_sum() {
    let dir = Folder::new("kernels");
    let (shape, n) = ([300, 400], 120_000);
    let x: Vec<f32> = (0..n).map(|i| (i % 1000) as f32 - 300.0).collect();
    let w: Vec<f64> = (0..n).map(|i| f64::from(i as u32 % 7)).collect();
    let grid = ChunkGrid::regular(&shape, &[130, 400]).unwrap();
    let regions: Vec<Region> = (0..grid.len()).map(|i| grid.region(i)).collect();
    let (xs, ws) = (dir.spec("x.h5:/x"), dir.spec("w.npy"));
    write(&store::create(&ws, &shape, DType::F64, None).unwrap(), &grid, &w);
    let sink = store::create(&xs, &shape, DType::F32, Some(&[64, 64])).unwrap();
    let writer = WriteChunk { sink: Arc::clone(&sink), grid: grid.clone() };
    assert_eq!(writer.lane(), Lane::Io);
    for (i, region) in regions.iter().enumerate() {
        let layout = Layout::contiguous(DType::F32, &region.shape());
        run(&writer, &[i as u64], &[ChunkView::from_slice(&x[region.start()[0] * 400..], &layout)], &mut []);
    }
    sink.finish().unwrap();

    let (x_source, w_source) = (store::open(&xs).unwrap(), store::open(&ws).unwrap());
    let cut = |source: &Arc<dyn ChunkSource>| Cut {
        source: Arc::clone(source),
        region: Region::all(source.shape()),
        grid: grid.clone(),
    };
    let (reader, sum) = (ReadChunk(cut(&x_source)), ScanSum(cut(&x_source)));
    let weighted = ScanWeightedSum::new(cut(&x_source), cut(&w_source)).unwrap();
    assert_eq!(reader.lane(), if forced() { Lane::Io } else { Lane::Compute });
    for (i, region) in regions.iter().enumerate() {
        let elements = region.start()[0] * 400..region.start()[0] * 400 + region.len();
        let (x, w) = (&x[elements.clone()], &w[elements]);
        let mut out = vec![0f32; region.len()];
        let layout = Layout::contiguous(DType::F32, &region.shape());
        run(&reader, &[i as u64], &[], &mut [ChunkViewMut::from_slice(&mut out, &layout)]);
        assert_eq!(out, x);
        let (one, pair) = (Layout::contiguous(DType::F64, &[1]), Layout::contiguous(DType::F64, &[2]));
        let mut out = [0f64; 2];
        run(&sum, &[i as u64; 2], &[], &mut [ChunkViewMut::from_slice(&mut out[..1], &one)]);
        assert_eq!(out[0], x.iter().map(|&v| f64::from(v)).sum::<f64>());
        run(&weighted, &[i as u64; 2], &[], &mut [ChunkViewMut::from_slice(&mut out, &pair)]);
        assert_eq!(out, [x.iter().zip(w).map(|(&x, w)| f64::from(x) * w).sum::<f64>(), w.iter().sum::<f64>()]);
    }
    // Never written: nothing is read.
    let huge = store::open(&format!("{}/tests/data/chunked.h5:/huge", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let grid = ChunkGrid::regular(huge.shape(), &[1000, 1_000_000]).unwrap();
    let all = [0, grid.len() as u64 - 1];
    let mut out = [0f64];
    let one = Layout::contiguous(DType::F64, &[1]);
    run(
        &ScanSum(Cut { region: Region::all(huge.shape()), source: huge, grid }),
        &all,
        &[],
        &mut [ChunkViewMut::from_slice(&mut out, &one)],
    );
    assert_eq!(out, [0.5e12]);
}
