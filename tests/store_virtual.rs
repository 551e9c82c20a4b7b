//! Datasets that libhdf5 reads: virtual ones, whose sources may be packed, missing, or no files; external files; what it keeps
//! unpacked. Needs no device.
#![cfg(feature = "hdf5")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunkwise::kernel::{Kernel, Scratch};
use chunkwise::shape::{ChunkGrid, ChunkViewMut, DType, Layout, Region, Scalar};
use chunkwise::store::{Cut, ScanSum};
use chunkwise::task::Block;
use chunkwise::{Array, Error, Session, store};
use hdf5::{Selection, SliceOrIndex};
use support::folder::Folder;
use support::read::read_all;

/// From `start` on, each `step`th of `len`.
fn every(start: usize, step: usize, len: usize) -> SliceOrIndex {
    SliceOrIndex::SliceCount { start, step, count: len, block: 1 }
}

fn selection<const N: usize>(axes: [SliceOrIndex; N]) -> Selection {
    Selection::Hyperslab(axes.to_vec().into())
}

/// What a part is read from, its extent, the selection there and here.
type Part<'a> = (&'a str, Vec<usize>, Selection, Selection);

fn make_virtual<T: hdf5::H5Type>(path: &str, shape: &[usize], parts: &[Part<'_>]) {
    let file = hdf5::File::create(path).unwrap();
    let parts = |list: &mut hdf5::dataset::DatasetCreateBuilder| {
        for (source, extent, from, to) in parts {
            list.virtual_map(source, "x", extent.clone(), from.clone(), shape.to_vec(), to.clone());
        }
    };
    let builder = file.new_dataset::<T>().shape(shape.to_vec());
    builder
        .with_dcpl(|list| {
            parts(list);
            list
        })
        .create("v")
        .unwrap();
}

fn session(limit: &str) -> Session {
    Session::builder().threads(2).memory_limit(limit).cache_dir("").build().unwrap()
}

/// Unpacked for each piece that is read, the sources would take many minutes.
#[test]
fn packed_sources_are_unpacked_once_and_counted() {
    let dir = Folder::new("virtual-large");
    let (n, files) = (60_000_000, 6);
    for i in 0..files {
        let file = hdf5::File::create(dir.spec(&format!("{i}.h5"))).unwrap();
        let set = file.new_dataset::<u8>().deflate(1).chunk(n).shape(n).create("x").unwrap();
        set.write_raw(&vec![i as u8; n]).unwrap();
    }
    let names: Vec<String> = (0..files).map(|i| format!("{i}.h5")).collect();
    let part = |i: usize| (&*names[i], vec![n], selection([every(0, 1, n)]), selection([every(i * n, 1, n)]));
    make_virtual::<u8>(&dir.spec("v.h5"), &[n * files], &(0..files).map(part).collect::<Vec<_>>());
    let array = Array::<u8>::open(&dir.spec("v.h5:/v")).unwrap();
    let refused = array.clone().in_session(&session("50MB")).mean().compute_scalar().unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { requested_bytes: 240_000_000.., .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("v.h5:/v, read from datasets in chunks of up to 60.0 MB"), "{text}");
    let (start, before) = (Instant::now(), chunkwise::device::system::peak_rss_bytes());
    assert_eq!(array.in_session(&session("500MB")).mean().compute_scalar().unwrap(), 2.5);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let grown = chunkwise::device::system::peak_rss_bytes() - before;
    assert!(grown < 300_000_000, "{grown} B more, though no more than two of six are kept");
}

/// Sources side by side, taken in turn, not at a chunk's edge, in another rank, not there.
#[test]
fn parts_of_every_kind_are_read_as_libhdf5_reads_them() {
    let dir = Folder::new("virtual-kinds");
    let (rows, columns) = (40, 30);
    for i in 0..3 {
        let file = hdf5::File::create(dir.spec(&format!("{i}.h5"))).unwrap();
        let values: Vec<f32> = (0..rows * columns).map(|k| (1000 * i + k) as f32).collect();
        let set = file.new_dataset::<f32>().shuffle().deflate(1).chunk((16, 7)).shape((rows, columns)).create("x").unwrap();
        set.write_raw(&values).unwrap();
    }
    let all = || vec![rows, columns];
    let whole = || selection([every(0, 1, rows), every(0, 1, columns)]);
    let cases: [(&str, Vec<usize>, Vec<Part<'_>>); 4] = [
        (
            "beside",
            vec![rows, 2 * columns + 3],
            vec![
                ("0.h5", all(), whole(), selection([every(0, 1, rows), every(0, 1, columns)])),
                ("1.h5", all(), whole(), selection([every(0, 1, rows), every(columns + 3, 1, columns)])),
            ],
        ),
        (
            "in turn",
            vec![2 * rows, columns],
            vec![
                ("0.h5", all(), whole(), selection([every(0, 2, rows), every(0, 1, columns)])),
                ("2.h5", all(), whole(), selection([every(1, 2, rows), every(0, 1, columns)])),
            ],
        ),
        (
            "stacked",
            vec![3, 20, 11],
            vec![
                (
                    "1.h5",
                    all(),
                    selection([every(5, 1, 20), every(9, 1, 11)]),
                    selection([SliceOrIndex::Index(0), every(0, 1, 20), every(0, 1, 11)]),
                ),
                (
                    "0.h5",
                    all(),
                    selection([every(1, 2, 19), every(2, 1, 11)]),
                    selection([SliceOrIndex::Index(2), every(1, 1, 19), every(0, 1, 11)]),
                ),
            ],
        ),
        (
            "missing",
            vec![2 * rows, columns],
            vec![
                ("none.h5", all(), whole(), selection([every(0, 1, rows), every(0, 1, columns)])),
                ("2.h5", all(), whole(), selection([every(rows, 1, rows), every(0, 1, columns)])),
            ],
        ),
    ];
    for (name, shape, parts) in cases {
        let path = dir.spec(&format!("{name}.h5"));
        make_virtual::<f32>(&path, &shape, &parts);
        let wanted = hdf5::File::open(&path).unwrap().dataset("v").unwrap().read_raw::<f32>().unwrap();
        assert!(wanted.iter().sum::<f32>() > 1000.0, "{name}");
        let source = store::open(&format!("{path}:/v")).unwrap();
        assert!(source.storage_chunks().is_some() && source.held().is_some(), "{name}");
        assert_eq!(read_all::<f32>(&*source), wanted, "{name}");
        assert_eq!(read_all::<f64>(&*source), wanted.iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), "{name}");
        let mut sum = 0.0;
        let mut add = |block: Block<'_>| match block {
            Block::Values(values) => sum += values.slice::<f32>().iter().map(|&v| f64::from(v)).sum::<f64>(),
            Block::Constant { value, count } => sum += value.to_f64() * count as f64,
        };
        source.scan(&Region::all(&shape), &mut [0; 400], &mut add).unwrap();
        assert_eq!(sum, wanted.iter().map(|&v| f64::from(v)).sum::<f64>(), "{name}");
    }
}

/// libhdf5 gives the fill value for a source that it cannot open, and waits for a pipe.
#[cfg(unix)]
#[test]
fn sources_that_cannot_be_read_are_named() {
    let dir = Folder::new("virtual-bad");
    assert!(std::process::Command::new("mkfifo").arg(dir.file("pipe")).status().unwrap().success());
    std::fs::write(dir.file("text.h5"), "no numbers").unwrap();
    let all = || selection([every(0, 1, 4)]);
    for (name, says) in [("pipe", "pipe: is not a regular file"), ("text.h5", "text.h5: is not an HDF5 file")] {
        make_virtual::<f64>(&dir.spec("v.h5"), &[4], &[(name, vec![4], all(), all())]);
        let error = store::open(&dir.spec("v.h5:/v")).err().expect(name).to_string();
        assert!(error.contains(says), "{error}");
    }
    let file = hdf5::File::create(dir.spec("e.h5")).unwrap();
    file.new_dataset::<f64>().external(&dir.spec("pipe"), 0, 32).shape(4).create("x").unwrap();
    drop(file);
    let error = store::open(&dir.spec("e.h5:/x")).err().expect("a pipe").to_string();
    assert!(error.contains("pipe: is not a regular file"), "{error}");
}

fn packed(path: &str, chunk: usize, values: &[u8]) {
    let file = hdf5::File::create(path).unwrap();
    let set = file.new_dataset::<u8>().deflate(1).chunk(chunk).shape(values.len()).create("x").unwrap();
    set.write_raw(values).unwrap();
}

/// A part of no elements has no bounds.
#[test]
fn parts_without_elements_are_no_parts() {
    let dir = Folder::new("virtual-empty");
    packed(&dir.spec("a.h5"), 4, &[1; 10]);
    hdf5::File::create(dir.spec("b.h5")).unwrap().new_dataset::<u8>().shape(0).create("x").unwrap();
    let parts = [
        ("a.h5", vec![10], selection([every(0, 1, 10)]), selection([every(0, 1, 10)])),
        ("b.h5", vec![0], selection([every(0, 1, 0)]), selection([every(10, 1, 0)])),
        ("a.h5", vec![10], selection([every(3, 1, 0)]), selection([every(4, 1, 0)])),
    ];
    make_virtual::<u8>(&dir.spec("v.h5"), &[12], &parts);
    let source = store::open(&dir.spec("v.h5:/v")).unwrap();
    assert_eq!(read_all::<u8>(&*source), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
}

/// By many names: looked at each time, this would take longer than anybody lives.
#[test]
fn a_dataset_that_is_its_own_source_is_looked_at_once() {
    let dir = Folder::new("virtual-self");
    let names: Vec<String> = (0..30).map(|i| format!("{}v", "./".repeat(i))).collect();
    let file = hdf5::File::create(dir.spec("v.h5")).unwrap();
    let builder = file.new_dataset::<u8>().shape(30);
    let map = |list: &mut hdf5::dataset::DatasetCreateBuilder| {
        for (i, name) in names.iter().enumerate() {
            list.virtual_map(".", name, vec![30], selection([every(i, 1, 1)]), vec![30], selection([every(i, 1, 1)]));
        }
    };
    builder
        .with_dcpl(|list| {
            map(list);
            list
        })
        .create("v")
        .unwrap();
    drop(file);
    let start = Instant::now();
    assert_eq!(store::open(&dir.spec("v.h5:/v")).unwrap().shape(), [30]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// One part that is short, or whose chunks lie across, does not make the others' chunks be unpacked for each few elements.
#[test]
fn a_short_part_does_not_slow_the_others_down() {
    let dir = Folder::new("virtual-short");
    let n = 40_000_000;
    for (name, value, length) in [("a.h5", 1, n), ("b.h5", 2, n), ("last.h5", 3, 1)] {
        packed(&dir.spec(name), length, &vec![value; length]);
    }
    let part = |name, from, length| (name, vec![length], selection([every(0, 1, length)]), selection([every(from, 1, length)]));
    make_virtual::<u8>(&dir.spec("v.h5"), &[2 * n + 1], &[part("a.h5", 0, n), part("b.h5", n, n), part("last.h5", 2 * n, 1)]);
    let array = Array::<u8>::open(&dir.spec("v.h5:/v")).unwrap().in_session(&session("500MB"));
    let start = Instant::now();
    let mean = array.mean().compute_scalar().unwrap();
    assert!((mean - (3 * n + 3) as f64 / (2 * n + 1) as f64).abs() < 1e-12, "{mean}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// libhdf5 gives the fill value for what it cannot open, and a process may not have as many files open as there are sources.
#[cfg(unix)]
#[test]
fn more_sources_than_files_may_be_open_are_read() {
    const KEY: &str = "CHUNKWISE_TEST_FEW_FILES";
    if std::env::var_os(KEY).is_none() {
        let mut child = std::process::Command::new("sh");
        child.args(["-c", "ulimit -n 256 && exec \"$@\"", "sh"]).arg(std::env::current_exe().unwrap()).env(KEY, "yes");
        let child = child.args(["--exact", "more_sources_than_files_may_be_open_are_read"]).output().unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        return assert!(child.status.success() && text.contains("1 passed"), "{text}");
    }
    let dir = Folder::new("virtual-many");
    let files = 600;
    let names: Vec<String> = (0..files).map(|i| format!("{i}.h5")).collect();
    for (i, name) in names.iter().enumerate() {
        let file = hdf5::File::create(dir.spec(name)).unwrap();
        let builder = file.new_dataset::<i32>().shape(2);
        let set = if i % 2 == 0 { builder.chunk(2).deflate(1).create("x") } else { builder.create("x") };
        set.unwrap().write_raw(&[i as i32 + 1; 2]).unwrap();
    }
    let part = |i: usize| (&*names[i], vec![2], selection([every(0, 1, 2)]), selection([every(2 * i, 1, 2)]));
    make_virtual::<i32>(&dir.spec("v.h5"), &[2 * files], &(0..files).map(part).collect::<Vec<_>>());
    let odd = |i: &usize| i % 2 == 1;
    make_virtual::<i32>(&dir.spec("w.h5"), &[2 * files], &(0..files).filter(odd).map(part).collect::<Vec<_>>());
    let wanted: Vec<i32> = (0..2 * files).map(|k| (k / 2 + 1) as i32).collect();
    assert_eq!(read_all::<i32>(&*store::open(&dir.spec("v.h5:/v")).unwrap()), wanted);
    let wanted: Vec<i32> = wanted.into_iter().map(|v| if v % 2 == 0 { v } else { 0 }).collect();
    assert_eq!(read_all::<i32>(&*store::open(&dir.spec("w.h5:/v")).unwrap()), wanted);
}

#[test]
fn what_is_unpacked_is_kept_while_somebody_holds_it() {
    let dir = Folder::new("hold");
    let path = dir.spec("hold.h5");
    let file = hdf5::File::create(&path).unwrap();
    let make = |n: usize| file.new_dataset::<f64>().deflate(1).chunk(n).shape(n).create("x").unwrap();
    make(8).write_raw(&[2.0; 8]).unwrap();
    let source = store::open(&format!("{path}:/x")).unwrap();
    let (a, b) = (source.hold().unwrap(), source.hold().unwrap());
    assert!(Arc::ptr_eq(&a, &b), "runs at one time share it");
    let last = Arc::downgrade(&a);
    drop(a);
    assert!(last.upgrade().is_some());
    drop(b);
    assert!(last.upgrade().is_none());
    assert_eq!(read_all::<f64>(&*source), [2.0; 8]);
    // It is opened again for each, so it must be the same one.
    file.unlink("x").unwrap();
    make(9);
    let layout = Layout::contiguous(DType::F64, &[8]);
    let error = source.read(&Region::all(&[8]), &mut ChunkViewMut::from_slice(&mut [0f64; 8], &layout)).unwrap_err();
    assert!(error.to_string().contains("is not the dataset that it was"), "{error}");
    assert!(source.hold().is_none());
}

/// libhdf5 looks at a type that is not there, if it is asked for such a value. (One byte of the file was changed.)
#[test]
fn a_damaged_fill_value_is_an_error() {
    let error =
        store::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/damaged_fill.h5:/x")).err().expect("damaged").to_string();
    assert!(error.contains("damaged_fill.h5: cannot read the fill value of /x") && error.lines().count() == 1, "{error}");
}

/// As detectors write: frame by frame into one file after the other.
#[test]
fn large_frames_in_turn_are_each_unpacked_once() {
    let dir = Folder::new("virtual-frames");
    let (files, frames, side) = (4, 3, 2048);
    for i in 0..files {
        let file = hdf5::File::create(dir.spec(&format!("{i}.h5"))).unwrap();
        let builder = file.new_dataset::<u8>().deflate(1).chunk((1, side, side)).shape((frames, side, side));
        let values: Vec<u8> = (0..frames * side * side).map(|k| (10 * i + k / (side * side)) as u8).collect();
        builder.create("x").unwrap().write_raw(&values).unwrap();
    }
    let names: Vec<String> = (0..files).map(|i| format!("{i}.h5")).collect();
    let plane = || [every(0, 1, side), every(0, 1, side)];
    let [a, b] = plane();
    let part = |i: usize| {
        let to = selection([every(i, files, frames), a, b]);
        (&*names[i], vec![frames, side, side], selection([every(0, 1, frames), a, b]), to)
    };
    let shape = [files * frames, side, side];
    make_virtual::<u8>(&dir.spec("v.h5"), &shape, &(0..files).map(part).collect::<Vec<_>>());
    let start = Instant::now();
    let source = store::open(&dir.spec("v.h5:/v")).unwrap();
    assert!(source.held().unwrap().bytes < 120_000_000, "{:?}", source.held());
    let found = read_all::<u8>(&*source);
    let wanted = |frame: usize| (10 * (frame % files) + frame / files) as u8;
    assert!(found.chunks_exact(side * side).enumerate().all(|(k, frame)| frame.iter().all(|&v| v == wanted(k))));
    let array = Array::<u8>::from_source(source).unwrap().in_session(&session("200MB"));
    assert_eq!(array.mean().compute_scalar().unwrap(), 16.0);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

/// A virtual dataset of many parts is read as one, from as many files as there are, and not element by element.
#[test]
fn a_virtual_dataset_of_many_parts_may_be_a_source() {
    let dir = Folder::new("virtual-nested");
    packed(&dir.spec("a.h5"), 100, &(0..30_000).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    let part =
        |i: usize| ("a.h5", vec![30_000], selection([every(100 * i, 1, 100)]), selection([every(100 * (299 - i), 1, 100)]));
    make_virtual::<u8>(&dir.spec("inner.h5"), &[30_000], &(0..300).map(part).collect::<Vec<_>>());
    std::fs::rename(dir.file("inner.h5"), dir.file("i.h5")).unwrap();
    let file = hdf5::File::create(dir.spec("v.h5")).unwrap();
    let all = || selection([every(0, 1, 30_000)]);
    let builder = file.new_dataset::<u8>().shape(30_000);
    builder
        .with_dcpl(|list| {
            list.virtual_map("i.h5", "v", vec![30_000], all(), vec![30_000], all());
            list
        })
        .create("v")
        .unwrap();
    drop(file);
    let start = Instant::now();
    let found = read_all::<u8>(&*store::open(&dir.spec("v.h5:/v")).unwrap());
    assert!((0..30_000).all(|k| found[k] == ((100 * (299 - k / 100) + k % 100) % 251) as u8));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

/// As `f64` it would be 2^53.
#[test]
fn a_fill_value_that_no_float_holds_is_exact() {
    let dir = Folder::new("fill");
    let (path, fill) = (dir.spec("fill.h5"), (1i64 << 53) + 1);
    {
        let file = hdf5::File::create(&path).unwrap();
        for (name, packed) in [("x", false), ("z", true)] {
            let set = file.new_dataset::<i64>().chunk(4).shape(20).fill_value(fill);
            let set = if packed { set.deflate(1) } else { set }.create(name).unwrap();
            set.write_slice(&[-fill; 4], 8..12).unwrap();
        }
        file.new_dataset::<i64>().shape(3).fill_value(fill).create("y").unwrap();
    }
    let all = Region::all(&[20]);
    let wanted: Vec<i64> = (0..20).map(|i| if (8..12).contains(&i) { -fill } else { fill }).collect();
    for name in ["x", "z"] {
        let source = store::open(&format!("{path}:/{name}")).unwrap();
        assert_eq!(read_all::<i64>(&*source), wanted, "{name}");
        let mut scanned: Vec<i64> = Vec::new();
        let each = &mut |block: Block<'_>| match block {
            Block::Constant { value, count } => scanned.resize(scanned.len() + count as usize, value.get().unwrap()),
            Block::Values(values) => scanned.extend(values.slice::<i64>()),
        };
        source.scan(&all, &mut [0; 128], each).unwrap();
        assert_eq!(scanned, wanted, "{name}");
        // Sums are in `f64`, as their documentation says: each number is rounded first.
        let (region, grid) = (Region::all(&[20]), ChunkGrid::regular(&[20], &[8]).unwrap());
        let sum = ScanSum(Cut { source, region, grid });
        let (params, mut out) = ([0u64, 0].map(u64::to_ne_bytes).concat(), [0f64]);
        let mut scratch = vec![0; sum.scratch_bytes(&params, &[]) as usize];
        let one = Layout::contiguous(DType::F64, &[1]);
        sum.run_cpu(&params, &[], &mut [ChunkViewMut::from_slice(&mut out, &one)], &mut Scratch::new(&mut scratch)).unwrap();
        assert_eq!(out, [8.0 * 2f64.powi(53)], "{name}");
    }
    let unwritten = store::open(&format!("{path}:/y")).unwrap();
    assert_eq!(unwritten.constant(&Region::all(&[3])), Some(Scalar::I64(fill)));
}
