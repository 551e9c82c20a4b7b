//! Files that others wrote or write: a dataset written into one leaves all else as it was; what other handles in this process
//! hold in memory; chunks that are large when they are unpacked. Needs no device.
#![cfg(feature = "hdf5")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunkwise::shape::{ChunkView, ChunkViewMut, DType, Element, Layout, Region};
use chunkwise::store;
use chunkwise::task::ChunkSink;
use chunkwise::{Array, Error, Session};
use support::folder::Folder;
use support::read::read_all;

/// A folder with a copy of a fixture, and one that it links to.
fn folder_with(name: &str, fixture: &str) -> Folder {
    let dir = Folder::new(name);
    for file in [fixture, "plain.h5"] {
        std::fs::copy(format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR")), dir.file(file)).unwrap();
    }
    dir
}

fn read<T: Element>(spec: &str) -> Vec<T> {
    read_all(&*store::open(spec).unwrap_or_else(|e| panic!("{e}")))
}

/// A sink that was written in full, and what was written.
fn written(spec: &str, shape: &[usize], chunks: Option<&[usize]>) -> (Arc<dyn ChunkSink>, Vec<f64>) {
    let values: Vec<f64> = (0..shape.iter().product()).map(|i| 1000.0 - i as f64).collect();
    let sink = store::create(spec, shape, DType::F64, chunks).unwrap_or_else(|e| panic!("{e}"));
    sink.write(&Region::all(shape), ChunkView::from_slice(&values, &Layout::contiguous(DType::F64, shape))).unwrap();
    (sink, values)
}

fn write(spec: &str, shape: &[usize], chunks: Option<&[usize]>) -> Vec<f64> {
    let (sink, values) = written(spec, shape, chunks);
    sink.finish().unwrap_or_else(|e| panic!("{e}"));
    values
}

fn unreadable(spec: &str, says: &[&str]) {
    let error = match store::open(spec) {
        Ok(_) => panic!("{spec} was opened"),
        Err(error) => error.to_string(),
    };
    assert!(says.iter().all(|s| error.contains(s)) && error.lines().count() == 1 && error.len() < 400, "{error}");
}

fn refused(spec: &str, shape: &[usize], says: &[&str]) {
    let error = match store::create(spec, shape, DType::F64, None) {
        Ok(_) => panic!("{spec} was created"),
        Err(error) => error.to_string(),
    };
    assert!(says.iter().all(|s| error.contains(s)) && error.lines().count() == 1, "{error}");
}

/// `path`, its links, attributes and numbers, and all below it, as text; addresses of objects are not in it.
fn dump(group: &hdf5::Group, path: &str, text: &mut Vec<String>) {
    let attributes = |at: &hdf5::Location| -> Vec<String> {
        let names = at.attr_names_by(hdf5::IndexType::CreationOrder, hdf5::IterationOrder::Increasing);
        let names = names.or_else(|_| at.attr_names()).unwrap();
        let value = |name: &String| {
            let attribute = at.attr(name).unwrap();
            let strings = attribute.read_raw::<hdf5::types::VarLenUnicode>().map(|all| format!("{all:?}"));
            let value = strings.or_else(|_| attribute.read_raw::<f64>().map(|all| format!("{all:?}")));
            format!("{name}: {:?} {:?} {value:?}", attribute.dtype().unwrap().to_descriptor(), attribute.shape())
        };
        names.iter().map(value).collect()
    };
    text.push(format!("{path}/ {:?}", attributes(group)));
    let links = |order| group.links(order, hdf5::IterationOrder::Increasing);
    for (name, link) in links(hdf5::IndexType::CreationOrder).or_else(|_| links(hdf5::IndexType::Name)).unwrap() {
        let at = format!("{path}/{name}");
        text.push(format!("{at} {:?}", link.link_type));
        match group.loc_type_by_name(&name) {
            Ok(hdf5::LocationType::Group) if link.link_type == hdf5::LinkType::Hard => {
                dump(&group.group(&name).unwrap(), &at, text)
            }
            Ok(hdf5::LocationType::Dataset) => {
                let set = group.dataset(&name).unwrap();
                let about = (set.shape(), set.chunk(), set.dtype().unwrap().to_descriptor(), set.is_resizable());
                text.push(format!("{at} {about:?} {:?} {:?}", set.read_raw::<f64>(), attributes(&set)));
            }
            other => text.push(format!("{at} {:?}", other.is_ok())),
        }
    }
}

fn dumped(path: &str) -> Vec<String> {
    hdf5::silence_errors(true);
    let mut text = Vec::new();
    dump(&hdf5::File::open(path).unwrap(), "", &mut text);
    text
}

#[test]
fn a_dataset_written_into_a_file_leaves_all_else() {
    // Name, extent, chunks asked for; under which name it is afterwards, and how its chunks are.
    type Case = (&'static str, &'static [usize], Option<&'static [usize]>);
    let cases: [Case; 9] = [
        ("/new", &[5, 6], None),
        ("/group/new", &[5, 6], Some(&[2, 3])),
        ("/deep/down/new", &[3], None),
        ("/empty/new", &[], None),
        ("/group/plain", &[20, 30], None),
        ("/group/chunks", &[17, 23], None),
        ("/group/packed", &[17, 23], None),
        ("/group/plain", &[7], Some(&[4])),
        ("/soft", &[4], None),
    ];
    for (name, shape, chunks) in cases {
        let dir = folder_with("keep", "keep.h5");
        let path = dir.spec("keep.h5");
        let before = dumped(&path);
        let values = write(&format!("{path}:{name}"), shape, chunks);
        assert_eq!(read::<f64>(&format!("{path}:{name}")), values, "{name}");
        assert_eq!(dir.names(), ["keep.h5", "plain.h5"]);
        // A soft link is followed; the other name of /group/plain follows only where the bytes are replaced.
        let real = if name == "/soft" { "/group/packed" } else { name };
        let in_place = chunks.is_none() && ["/group/plain", "/group/chunks"].contains(&real);
        let aside = |line: &&String| {
            let names = [format!("{real} "), "/deep".into(), "/soft ".into(), "/relative ".into(), "/hard ".into()];
            !names.iter().any(|name| line.starts_with(name.as_str()))
        };
        let after = dumped(&path);
        let (kept, now): (Vec<_>, Vec<_>) = (before.iter().filter(aside).collect(), after.iter().filter(aside).collect());
        assert_eq!(kept, now, "{name}");
        let attributes = |all: &[String]| {
            let line = all.iter().find(|l| l.starts_with(&format!("{real} ("))).cloned();
            line.map(|l| l.rsplit_once("Ok([").unwrap().1.split_once("[\"").map_or(String::new(), |a| a.1.to_owned()))
        };
        if let Some(old) = attributes(&before) {
            assert!(old.contains("zeta") && old.contains("names") && old.contains("parent"), "{old}");
            assert_eq!(Some(old), attributes(&after), "{name}");
        }
        let hard = read::<f64>(&format!("{path}:/hard"));
        assert_eq!(hard == values, in_place && real == "/group/plain", "{name}");
        let file = hdf5::File::open(&path).unwrap();
        assert_eq!(file.userblock(), 512);
        assert!(file.dataset("/group/chunks").unwrap().is_resizable(), "{name}");
    }
}

#[test]
fn nothing_far_down_or_far_on_is_lost() {
    let dir = Folder::new("many");
    let path = dir.spec("many.h5");
    {
        let file = hdf5::File::create(&path).unwrap();
        (0..10_050).for_each(|i| drop(file.create_group(&format!("g{i:05}")).unwrap()));
        file.new_dataset::<i32>().create("z_last").unwrap();
        let deep = (0..20).fold(String::new(), |path, i| format!("{path}/d{i}"));
        file.new_dataset_builder()
            .with_lcpl(|l| l.create_intermediate_group(true))
            .empty::<i32>()
            .create(&*format!("{deep}/x"))
            .unwrap();
    }
    let before = dumped(&path);
    write(&format!("{path}:/x"), &[3], None);
    let after: Vec<String> = dumped(&path).into_iter().filter(|line| !line.starts_with("/x ")).collect();
    assert!(before == after && after.iter().any(|l| l.starts_with("/z_last (")), "{} lines, {}", before.len(), after.len());
    // Twice under one name, written in two ways; then a third beside it.
    for name in ["/a//b", "/a/./b", "/a/c/", "/a/b"] {
        assert_eq!(write(&format!("{path}:{name}"), &[4], None), read::<f64>(&format!("{path}:{name}")));
    }
}

#[test]
fn what_a_file_cannot_take_is_refused() {
    let dir = folder_with("refused", "keep.h5");
    let path = dir.spec("keep.h5");
    let before = std::fs::read(&path).unwrap();
    for (name, says) in [
        ("/group", "is a group"),
        ("/type", "is a named type"),
        ("/text/x", "/text is a dataset"),
        ("/type/x", "/type is a named type"),
        ("/dangling", "link to something that is not there, /no/such; write to /no/such"),
        ("/dangling/x", "/dangling is a link"),
        ("/away", "external link, to /contiguous in plain.h5; write to DIR/plain.h5:/contiguous"),
        ("/away_group/x", "/away_group is an external link, to /group in plain.h5; write to DIR/plain.h5:/group/x"),
    ] {
        let says = says.replace("DIR", dir.path().to_str().unwrap());
        refused(&format!("{path}:{name}"), &[2], &["keep.h5", &says]);
    }
    std::fs::write(dir.spec("text.h5"), "not HDF5").unwrap();
    refused(&dir.spec("text.h5:/y"), &[2], &["is not HDF5, so it is not overwritten"]);
    let writer = hdf5::File::open_rw(&path).unwrap();
    refused(&format!("{path}:/x"), &[2], &["open for writing in this process"]);
    drop(writer);
    // Another program's writer, as HDF5 locks; and one that uses no locks.
    let other = std::fs::File::open(&path).unwrap();
    other.lock().unwrap();
    refused(&format!("{path}:/x"), &[2], &["open for writing in another program"]);
    other.unlock().unwrap();
    let (sink, _) = written(&format!("{path}:/x"), &[2], None);
    assert!(other.try_lock().is_err(), "it is held while it is written");
    std::fs::copy(&path, dir.spec("copy.h5")).unwrap();
    std::fs::rename(dir.spec("copy.h5"), &path).unwrap();
    let error = sink.finish().unwrap_err().to_string();
    assert!(error.contains("changed or replaced by another program"), "{error}");
    drop(sink);
    // A file that was not there when it was begun, and is in the end.
    let new = dir.spec("new.h5:/x");
    let (sink, _) = written(&new, &[2], None);
    std::fs::copy(&path, dir.spec("new.h5")).unwrap();
    let error = sink.finish().unwrap_err().to_string();
    assert!(error.contains("new.h5: was made by another program meanwhile"), "{error}");
    drop(sink);
    assert_eq!(std::fs::read(dir.spec("new.h5")).unwrap(), before);
    std::fs::remove_file(dir.spec("new.h5")).unwrap();
    // When it has its name, it is free, though its sink still lives.
    let (sink, _) = written(&new, &[2], None);
    sink.finish().unwrap();
    std::fs::File::open(dir.spec("new.h5")).unwrap().try_lock().unwrap();
    std::fs::remove_file(dir.spec("new.h5")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(dir.names(), ["keep.h5", "plain.h5", "text.h5"]);
}

#[test]
fn what_this_process_has_not_flushed_is_read() {
    let dir = Folder::new("dirty");
    let path = dir.spec("dirty.h5");
    let file = hdf5::File::create(&path).unwrap();
    let set = file.new_dataset::<f64>().chunk(4).shape(8).create("x").unwrap();
    let plain = file.new_dataset::<f64>().shape(8).create("y").unwrap();
    [&set, &plain].iter().for_each(|to| to.write_raw(&[1.0; 8]).unwrap());
    file.flush().unwrap();
    [&set, &plain].iter().for_each(|to| to.write_raw(&[2.0; 8]).unwrap());
    for name in ["x", "y"] {
        let source = store::open(&format!("{path}:/{name}")).unwrap();
        assert_eq!(read_all::<f64>(&*source), [2.0; 8]);
        assert!(source.access().contains("open for writing"), "{}", source.access());
    }
    let before = store::open(&format!("{path}:/x")).unwrap();
    set.write_raw(&[3.0; 8]).unwrap();
    assert_eq!(read_all::<f64>(&*before), [3.0; 8]);
    drop((set, plain, file, before));
    let source = store::open(&format!("{path}:/x")).unwrap();
    assert_eq!((read_all::<f64>(&*source), source.access().starts_with("positioned")), (vec![3.0; 8], true));
}

/// Unpacked for each of its 573 pieces, this chunk would take minutes.
#[test]
fn a_large_packed_chunk_is_unpacked_once_and_counted() {
    let dir = Folder::new("large");
    let (path, n) = (dir.spec("large.h5"), 300_000_000usize);
    {
        let file = hdf5::File::create(&path).unwrap();
        let set = file.new_dataset::<u8>().deflate(1).chunk(n).shape(n).create("x").unwrap();
        set.write_raw(&vec![3u8; n]).unwrap();
    }
    let spec = format!("{path}:/x");
    let session = |limit: &str| Session::builder().threads(2).memory_limit(limit).cache_dir("").build().unwrap();
    let refused = Array::<u8>::open(&spec).unwrap().in_session(&session("50MB")).mean().compute_scalar().unwrap_err();
    assert!(matches!(refused, Error::OutOfMemory { requested_bytes: 600_000_000.., .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("large.h5:/x, stored in chunks of [300000000] (300 MB each)"), "{text}");
    let (start, before) = (Instant::now(), resident_bytes());
    let array = Array::<u8>::open(&spec).unwrap().in_session(&session("1GB"));
    assert_eq!(array.mean().compute_scalar().unwrap(), 3.0);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    // It goes with the run that counted it, though the array is kept: whoever closes it may be a moment behind.
    while resident_bytes() > before + n as u64 / 2 {
        assert!(start.elapsed() < Duration::from_secs(80), "{before} B before, {} B after", resident_bytes());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(array.shape(), [n]);
}

/// What this process has in memory; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).map_or(0, |n| n.parse::<u64>().unwrap() * 4096)
}

/// libhdf5 gives an address for what it never allocated, after a user block.
#[test]
fn what_was_never_allocated_has_no_place() {
    let dir = Folder::new("unallocated");
    for (userblock, latest) in [(512, false), (512, true), (4096, false), (4096, true)] {
        let path = dir.spec(&format!("{userblock}{latest}.h5"));
        {
            let mut options = hdf5::File::with_options();
            options.with_fapl(|l| if latest { l.libver_latest() } else { l.libver_earliest() });
            let file = options.with_fcpl(|l| l.userblock(userblock)).create(&path).unwrap();
            file.new_dataset::<f64>().shape(30).create("noalloc").unwrap();
            file.new_dataset::<f64>().shape(30).create("written").unwrap().write_raw(&[7.0; 30]).unwrap();
            file.new_dataset::<i32>().shape((5, 9)).fill_value(0i32).create("zero").unwrap();
            file.new_dataset::<f64>().shape((20, 30)).fill_value(4.0).create("four").unwrap();
            file.new_dataset::<u8>().shape(()).create("scalar").unwrap();
            file.new_dataset::<f64>().shape((0, 7)).create("empty").unwrap();
            file.new_dataset::<f64>().chunk(4).shape(30).fill_value(5.0).create("chunks").unwrap();
        }
        let spec = |name: &str| format!("{path}:/{name}");
        let check = |name: &str, value: f64| {
            let source = store::open(&spec(name)).unwrap();
            let found = Array::<f64>::from_source(source.clone()).unwrap().mean().compute_scalar().unwrap();
            assert_eq!(found, value, "{path} {name}: {}", source.access());
        };
        let check_all = || {
            for (name, value) in [("zero", 0.0), ("four", 4.0), ("scalar", 0.0), ("chunks", 5.0), ("written", 7.0)] {
                check(name, value);
            }
            assert!(read::<f64>(&spec("empty")).is_empty());
        };
        check("noalloc", 0.0);
        check_all();
        for _ in 0..2 {
            assert_eq!(write(&spec("noalloc"), &[30], None), read::<f64>(&spec("noalloc")));
            assert_eq!(
                hdf5::File::open(&path).unwrap().dataset("noalloc").unwrap().read_raw::<f64>().unwrap()[..2],
                [1000.0, 999.0]
            );
            check_all();
        }
        write(&spec("empty"), &[0, 7], None);
        write(&spec("other"), &[0, 7], None);
        check_all();
    }
}

#[test]
fn what_libhdf5_says_of_a_failed_read_is_passed_on() {
    let dir = Folder::new("says");
    let (path, raw) = (dir.spec("says.h5"), dir.spec("raw.bin"));
    {
        let file = hdf5::File::create(&path).unwrap();
        file.new_dataset::<f64>().deflate(1).chunk(300).shape(300).create("packed").unwrap().write_raw(&[1.5; 300]).unwrap();
        file.new_dataset::<f64>().external(&raw, 0, 80).shape(10).create("outside").unwrap().write_raw(&[2.5; 10]).unwrap();
    }
    assert_eq!(read::<f64>(&format!("{path}:/outside")), [2.5; 10]);
    let bytes = std::fs::read(&path).unwrap();
    let packed = bytes.windows(2).rposition(|two| two == [0x78, 0x01]).expect("zlib's first bytes");
    let mut damaged = bytes.clone();
    damaged[packed + 2..packed + 10].fill(0xff);
    std::fs::write(&path, damaged).unwrap();
    std::fs::remove_file(&raw).unwrap();
    for (name, says) in [("packed", "inflate() failed"), ("outside", "external raw data file")] {
        let source = store::open(&format!("{path}:/{name}")).unwrap();
        let shape = source.shape().to_vec();
        let mut out = vec![0.0; shape[0]];
        let layout = Layout::contiguous(DType::F64, &shape);
        let mut out = ChunkViewMut::from_slice(&mut out, &layout);
        let error = source.read(&Region::all(&shape), &mut out).unwrap_err().to_string();
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
    }
}

/// A file with links: `here` into its own group through the file's name, `there` to a pipe, and circles.
fn folder_with_links(name: &str) -> (Folder, String) {
    let dir = Folder::new(name);
    let path = dir.spec("s.h5");
    let file = hdf5::File::create(&path).unwrap();
    let group = file.create_group("g").unwrap();
    group.new_dataset::<f64>().shape(3).create("keep").unwrap().write_raw(&[1.0, 2.0, 3.0]).unwrap();
    file.link_external("s.h5", "/g", "here").unwrap();
    file.link_external("pipe.h5", "/x", "there").unwrap();
    file.link_external("s.h5", "/round", "round").unwrap();
    file.link_soft("/here", "soft").unwrap();
    file.link_soft("/there", "to_pipe").unwrap();
    file.link_soft("loop", "loop").unwrap();
    file.link_soft("/g", "group").unwrap();
    (dir, path)
}

/// libhdf5 would follow it from the copy that is written back into the original.
#[test]
fn what_is_written_never_leaves_its_file() {
    let (_dir, path) = folder_with_links("own");
    let before = std::fs::read(&path).unwrap();
    assert_eq!(read::<f64>(&format!("{path}:/soft/keep")), [1.0, 2.0, 3.0]);
    for name in ["/here/q", "/here/keep", "/here/deep/q", "/soft/q", "/soft/keep"] {
        let says = format!("/here is an external link, to /g in s.h5; write to {path}:/g/");
        refused(&format!("{path}:{name}"), &[3], &["s.h5", &says]);
        assert!(std::fs::read(&path).unwrap() == before, "{name} changed the file");
    }
    for name in ["/loop", "/loop/x"] {
        refused(&format!("{path}:{name}"), &[3], &["/loop is a link that leads in a circle"]);
    }
    let values = write(&format!("{path}:/group/q"), &[4], None);
    assert_eq!(read::<f64>(&format!("{path}:/g/q")), values);
    assert_eq!(read::<f64>(&format!("{path}:/g/keep")), [1.0, 2.0, 3.0]);
}

#[cfg(unix)]
#[test]
fn no_link_is_followed_to_what_is_no_file() {
    let (dir, path) = folder_with_links("pipe");
    let made = std::process::Command::new("mkfifo").arg(dir.file("pipe.h5")).status().unwrap();
    assert!(made.success());
    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for name in ["/there", "/there/x", "/to_pipe"] {
            unreadable(
                &format!("{path}:{name}"),
                &["/there is a link to /x in another file", "pipe.h5: is not a regular file"],
            );
        }
        // What is there otherwise is listed without a look into the pipe.
        unreadable(&format!("{path}:/absent"), &["there is no dataset /absent; it holds /g/keep"]);
        unreadable(&format!("{path}:/g"), &["/g is a group"]);
        unreadable(
            &format!("{path}:/round"),
            &["/round is a link to /round in another file", "s.h5: /round is a link that leads in a circle"],
        );
        unreadable(&format!("{path}:/loop"), &["/loop is a link that leads in a circle"]);
        unreadable(&format!("{path}:/g/keep/x"), &["/g/keep is no group"]);
        done.send(()).unwrap();
    });
    waits.recv_timeout(Duration::from_secs(60)).expect("nobody waits for the pipe's other end");
}

/// A writer of the newest format marks its file, whether or not it locks it.
#[test]
fn a_file_with_a_writers_mark_is_called_so() {
    let dir = Folder::new("marked");
    let path = dir.spec("marked.h5");
    {
        let file = hdf5::File::with_options().with_fapl(|l| l.libver_latest()).create(dir.file("writing.h5")).unwrap();
        file.new_dataset::<f64>().shape(3).create("x").unwrap().write_raw(&[1.0; 3]).unwrap();
        file.flush().unwrap();
        std::fs::copy(dir.file("writing.h5"), &path).unwrap();
    }
    assert_eq!(read::<f64>(&dir.spec("writing.h5:/x")), [1.0; 3]);
    unreadable(&format!("{path}:/x"), &["marked.h5: is marked as open for writing: another program writes it", "h5clear -s"]);
    refused(&format!("{path}:/y"), &[3], &["is marked as open for writing"]);
}

/// Made beforehand, to be filled later: links, chunks and attributes stay.
#[test]
fn what_was_made_and_never_written_is_filled_where_it_is() {
    let dir = Folder::new("made");
    let path = dir.spec("made.h5");
    {
        let file = hdf5::File::create(&path).unwrap();
        file.new_dataset::<f64>().shape((23, 31)).create("plain").unwrap();
        file.new_dataset::<f64>().chunk((5, 7)).shape((23, 31)).fill_value(3.0).create("chunks").unwrap();
        let some = file.new_dataset::<f64>().chunk((5, 7)).shape((23, 31)).create("some").unwrap();
        some.write_slice(&[[1.0; 31]; 2].map(|row| row.to_vec()).concat()[..31], (4, ..)).unwrap();
        for name in ["plain", "chunks", "some"] {
            file.link_hard(name, &format!("same_{name}")).unwrap();
            file.dataset(name).unwrap().new_attr::<i32>().create("a").unwrap().write_scalar(&7).unwrap();
        }
    }
    for name in ["plain", "chunks", "some"] {
        let values = write(&format!("{path}:/{name}"), &[23, 31], None);
        assert_eq!(read::<f64>(&format!("{path}:/{name}")), values);
        let found = hdf5::File::open(&path).unwrap().dataset(&format!("same_{name}")).unwrap();
        assert_eq!(found.read_raw::<f64>().unwrap(), values, "{name}");
        assert_eq!(found.chunk(), (name != "plain").then(|| vec![5, 7]));
        assert_eq!(found.attr("a").unwrap().read_scalar::<i32>().unwrap(), 7);
    }
}

/// What is written in place of the first would be written over the second; libhdf5 does not part with such a dataset either.
#[test]
fn chunks_that_lie_over_each_other_are_not_written_in_place() {
    let dir = Folder::new("over");
    let path = dir.spec("over.h5");
    {
        let file = hdf5::File::create(&path).unwrap();
        file.new_dataset::<f64>().chunk(4).shape(8).create("x").unwrap().write_raw(&[1.0; 8]).unwrap();
    }
    let found = hdf5::File::open(&path).unwrap().dataset("x").unwrap();
    let [first, second] = [0, 1].map(|chunk| found.chunk_info(chunk).unwrap().addr.to_le_bytes());
    drop(found);
    let mut bytes = std::fs::read(&path).unwrap();
    let at: Vec<usize> = (0..bytes.len() - 8).filter(|&at| bytes[at..at + 8] == second).collect();
    at.iter().for_each(|&at| bytes[at..at + 8].copy_from_slice(&first));
    assert_eq!(at.len(), 1, "that of the index");
    std::fs::write(&path, &bytes).unwrap();
    refused(&format!("{path}:/x"), &[8], &["over.h5", "cannot create /x"]);
    // Nor is a file that such a dataset was to be in: it may be without the old one by now.
    let file = store::Hdf5::create(&path).unwrap();
    file.dataset("/e", &[0], DType::F64).create().unwrap();
    assert!(file.dataset("/x", &[8], DType::F64).create().is_err());
    let [again, commit] = [file.dataset("/y", &[0], DType::F64).create().map(drop), file.commit()].map(Result::unwrap_err);
    assert!([again, commit].iter().all(|e| e.to_string().contains("over.h5: cannot be completed")));
    drop(file);
    assert!(std::fs::read(&path).unwrap() == bytes && dir.names() == ["over.h5"]);
}
