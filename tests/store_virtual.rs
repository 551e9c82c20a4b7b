//! Datasets that are read from other files: virtual datasets, whose sources may be packed, missing, or no files; external
//! files. Needs no device.
#![cfg(feature = "hdf5")]

#[path = "harness/folder.rs"]
mod folder;

use std::time::{Duration, Instant};

use chunkwise::shape::{ChunkViewMut, Element, Layout, Region};
use chunkwise::task::{Block, ChunkSource};
use chunkwise::{Array, Error, Session, store};
use folder::Folder;
use hdf5::{Selection, SliceOrIndex};

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

fn read_all<T: Element>(source: &dyn ChunkSource) -> Vec<T> {
    let region = Region::all(source.shape());
    let mut out = vec![T::default(); region.len()];
    let layout = Layout::contiguous(T::DTYPE, &region.shape());
    source.read(&region, &mut ChunkViewMut::from_slice(&mut out, &layout)).unwrap_or_else(|e| panic!("{e}"));
    out
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
            Block::Constant { value, count } => sum += value * count as f64,
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
