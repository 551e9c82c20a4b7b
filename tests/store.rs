//! Arrays in files: every fixture of `data/make_fixtures.py` against its formula, by both ways of reading; files that we
//! write; files that are not what they should be. Needs no device.
#![cfg(feature = "hdf5")]

use std::process::Command;
use std::sync::Arc;

use chunkwise::shape::{ChunkViewMut, DType, Element, Layout, Real, Region, Scalar};
use chunkwise::store;
use chunkwise::task::{Block, ChunkSource, SCAN_BLOCK_BYTES};
use chunkwise::{Error, f16};
use proptest::prelude::*;
use support::folder::Folder;

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Which formula of `make_fixtures.py` a fixture follows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Formula {
    Float,
    Signed,
    Unsigned,
    Bool,
    Always(f64),
}
use Formula::{Always, Bool, Float, Signed, Unsigned};

impl Formula {
    fn at(self, i: usize) -> f64 {
        match self {
            Float => i as f64 / 4.0 - 3.0,
            Signed => (7 * i % 101) as f64 - 50.0,
            Unsigned => (7 * i % 101) as f64,
            Bool => f64::from(u8::from(i.is_multiple_of(3))),
            Always(value) => value,
        }
    }
}

/// Fixture, shape, dtype delivered, formula, how it is read (its beginning).
type Fixture = (&'static str, &'static [usize], DType, Formula, &'static str);

const POSITIONED: &str = "positioned reads";

const FIXTURES: &[Fixture] = &[
    ("plain.h5:/contiguous", &[20, 30], DType::F64, Float, POSITIONED),
    ("plain.h5:/f32", &[20, 30], DType::F32, Float, POSITIONED),
    ("plain.h5:/big_f64", &[6, 7], DType::F64, Float, "positioned reads, bytes swapped"),
    ("plain.h5:/big_f32", &[6, 7], DType::F32, Float, "positioned reads, bytes swapped"),
    ("plain.h5:/big_i64", &[6, 7], DType::I64, Signed, "positioned reads, bytes swapped"),
    ("plain.h5:/big_i2", &[5, 9], DType::I16, Signed, "positioned reads, bytes swapped"),
    ("plain.h5:/f16", &[40], DType::F16, Float, POSITIONED),
    ("plain.h5:/twelve_bits", &[5, 9], DType::I16, Signed, "libhdf5: an unusual number format"),
    ("plain.h5:/i1", &[5, 9], DType::I8, Signed, POSITIONED),
    ("plain.h5:/u1", &[5, 9], DType::U8, Unsigned, POSITIONED),
    ("plain.h5:/i2", &[5, 9], DType::I16, Signed, POSITIONED),
    ("plain.h5:/u2", &[5, 9], DType::U16, Unsigned, POSITIONED),
    ("plain.h5:/i4", &[5, 9], DType::I32, Signed, POSITIONED),
    ("plain.h5:/u4", &[5, 9], DType::U32, Unsigned, POSITIONED),
    ("plain.h5:/i8", &[5, 9], DType::I64, Signed, POSITIONED),
    ("plain.h5:/u8", &[5, 9], DType::U64, Unsigned, POSITIONED),
    ("plain.h5:/bool", &[5, 9], DType::Bool, Bool, POSITIONED),
    ("plain.h5:/three", &[4, 5, 6], DType::F64, Float, POSITIONED),
    ("plain.h5:/scalar", &[], DType::F64, Always(2.5), POSITIONED),
    ("plain.h5:/empty", &[0, 7], DType::F64, Float, POSITIONED),
    ("plain.h5:/in_header", &[4, 5], DType::F64, Float, "libhdf5: compact storage"),
    ("plain.h5:/group/inner/deep", &[3, 4], DType::F64, Float, POSITIONED),
    ("plain.h5:/soft", &[3, 4], DType::F64, Float, POSITIONED),
    ("plain.h5:/unwritten", &[1000, 1000], DType::F64, Always(1.5), "positioned reads (nothing written)"),
    ("chunked.h5:/even", &[16, 24], DType::F64, Float, "positioned reads (12 chunks written)"),
    ("chunked.h5:/edge", &[17, 23], DType::F64, Float, POSITIONED),
    ("chunked.h5:/edge_f32", &[17, 23], DType::F32, Float, POSITIONED),
    ("chunked.h5:/big", &[17, 23], DType::F64, Float, "positioned reads, bytes swapped"),
    ("chunked.h5:/i16", &[17, 23], DType::I16, Signed, POSITIONED),
    ("chunked.h5:/bool", &[17, 23], DType::Bool, Bool, POSITIONED),
    ("chunked.h5:/three", &[5, 6, 7], DType::F64, Float, POSITIONED),
    ("chunked.h5:/four", &[3, 4, 5, 6], DType::F64, Float, POSITIONED),
    ("chunked.h5:/one", &[100], DType::F64, Float, POSITIONED),
    ("chunked.h5:/gzip", &[17, 23], DType::F64, Float, "libhdf5: shuffle, deflate"),
    ("chunked.h5:/gzip_bool", &[17, 23], DType::Bool, Bool, "libhdf5: deflate"),
    ("chunked.h5:/shuffle", &[17, 23], DType::F64, Float, "libhdf5: shuffle"),
    ("chunked.h5:/fletcher", &[17, 23], DType::F64, Float, "libhdf5: fletcher32"),
    ("chunked.h5:/lzf", &[17, 23], DType::F64, Float, "libhdf5: lzf"),
    ("chunked.h5:/growing", &[17, 23], DType::F64, Float, POSITIONED),
    ("chunked.h5:/nothing", &[0, 7], DType::F64, Float, POSITIONED),
    ("latest.h5:/contiguous", &[20, 30], DType::F64, Float, POSITIONED),
    ("latest.h5:/edge", &[17, 23], DType::F64, Float, POSITIONED),
    ("latest.h5:/single", &[17, 23], DType::F64, Float, POSITIONED),
    ("latest.h5:/growing", &[17, 23], DType::F64, Float, POSITIONED),
    ("latest.h5:/virtual", &[20, 30], DType::F64, Float, "libhdf5: virtual dataset"),
    ("userblock.h5:/contiguous", &[20, 30], DType::F64, Float, POSITIONED),
    ("userblock.h5:/edge", &[17, 23], DType::F64, Float, POSITIONED),
    ("links.h5:/contiguous", &[20, 30], DType::F64, Float, POSITIONED),
    ("links.h5:/edge", &[17, 23], DType::F64, Float, POSITIONED),
    ("links.h5:/gzip", &[17, 23], DType::F64, Float, "libhdf5: deflate"),
    ("links.h5:/group/inner/deep", &[3, 4], DType::F64, Float, POSITIONED),
    ("links.h5:/soft", &[20, 30], DType::F64, Float, POSITIONED),
    ("links.h5:/chain", &[3, 4], DType::F64, Float, POSITIONED),
    ("links.h5:/own", &[20, 30], DType::F64, Always(777.0), POSITIONED),
    ("packed.h5:/skipped", &[8], DType::F64, Float, "positioned reads (2 chunks written)"),
    ("packed.h5:/partly", &[8], DType::F64, Float, "libhdf5: deflate"),
    ("c.npy", &[6, 7], DType::F64, Float, POSITIONED),
    ("one.npy", &[50], DType::I16, Signed, POSITIONED),
    ("big.npy", &[6, 7], DType::F32, Float, "positioned reads, bytes swapped"),
    ("bool.npy", &[5, 9], DType::Bool, Bool, POSITIONED),
    ("scalar.npy", &[], DType::F64, Always(2.5), POSITIONED),
    ("empty.npy", &[0, 7], DType::F32, Float, POSITIONED),
    ("half.npy", &[5, 8], DType::F16, Float, POSITIONED),
    ("fortran.npy", &[6, 7], DType::F64, Float, "positioned reads, transposed"),
    ("fortran3.npy", &[4, 5, 6], DType::I16, Signed, "positioned reads, transposed from Fortran order, bytes swapped"),
    ("fortran_bool.npy", &[5, 9], DType::Bool, Bool, "positioned reads, transposed"),
    ("fortran_half.npy", &[5, 8], DType::F16, Float, "positioned reads, transposed"),
];

/// Evaluates an expression with `T` being the type of a dtype of real numbers, or another for the rest.
macro_rules! of_real {
    ($dtype:expr, T => $body:expr, $rest:expr) => {
        of_real!(@ $dtype, $body, $rest, I8 i8, U8 u8, I16 i16, U16 u16, I32 i32, U32 u32, I64 i64, U64 u64, F16 f16, F32 f32, F64 f64)
    };
    (@ $dtype:expr, $body:expr, $rest:expr, $($d:ident $t:ident),*) => {
        match $dtype {
            $(DType::$d => { type T = $t; $body })*
            _ => $rest,
        }
    };
}

fn forced() -> bool {
    std::env::var_os("CHUNKWISE_IO").is_some()
}

fn open(spec: &str) -> Arc<dyn ChunkSource> {
    store::open(&data(spec)).unwrap_or_else(|e| panic!("{spec}: {e}"))
}

fn read_as<T: Element>(source: &dyn ChunkSource, region: &Region) -> Vec<T> {
    let mut out = vec![T::default(); region.len()];
    let layout = Layout::contiguous(T::DTYPE, &region.shape());
    source.read(region, &mut ChunkViewMut::from_slice(&mut out, &layout)).unwrap_or_else(|e| panic!("{e}"));
    out
}

/// The region in its own dtype, as `f64` (exact for the fixtures), after checking that `f64` and `f32` outputs agree.
fn read(source: &dyn ChunkSource, region: &Region) -> Vec<f64> {
    let bools = || read_as::<bool>(source, region).into_iter().map(|v| f64::from(u8::from(v))).collect();
    let own: Vec<f64> =
        of_real!(source.dtype(), T => read_as::<T>(source, region).into_iter().map(Real::to_f64).collect(), bools());
    assert_eq!(own, read_as::<f64>(source, region), "{} as f64", source.name());
    assert_eq!(own, read_as::<f32>(source, region).into_iter().map(f64::from).collect::<Vec<_>>());
    own
}

/// C-order indices, in the array of `shape`, of the elements of a region.
fn indices(shape: &[usize], region: &Region) -> Vec<usize> {
    let mut all = vec![0];
    for (axis, n) in region.axes().iter().zip(shape) {
        all = all.iter().flat_map(|i| (0..axis.len).map(move |k| i * n + axis.start + k * axis.step)).collect();
    }
    all
}

/// Everything a scan hands on, in order, with runs of equal values written out.
fn scan(source: &dyn ChunkSource, region: &Region, scratch: usize) -> Vec<f64> {
    let mut all = Vec::new();
    source
        .scan(region, &mut vec![0xa5; scratch + 64], &mut |block| match block {
            Block::Constant { value, count } => all.resize(all.len() + count as usize, value.to_f64()),
            Block::Values(values) => {
                let mut bools = || all.extend(values.slice::<bool>().iter().map(|&v| f64::from(u8::from(v))));
                of_real!(values.layout().dtype, T => all.extend(values.slice::<T>().iter().map(|v| v.to_f64())), bools());
            }
        })
        .unwrap();
    all
}

/// The promised scan order, written down a second time: sort by storage chunk, then by place in it.
fn scan_order(shape: &[usize], chunk: Option<&[usize]>, region: &Region) -> Vec<usize> {
    let mut all = indices(shape, region);
    if let Some(chunk) = chunk {
        all.sort_by_key(|&i| {
            let mut rest = i;
            let mut chunk_index = Vec::new();
            for (n, c) in shape.iter().zip(chunk).rev() {
                chunk_index.push(rest % n / c);
                rest /= n;
            }
            chunk_index.reverse();
            chunk_index
        });
    }
    all
}

#[test]
fn every_fixture_follows_its_formula() {
    for &(spec, shape, dtype, formula, access) in FIXTURES {
        let source = open(spec);
        assert_eq!((source.shape(), source.dtype()), (shape, dtype), "{spec}");
        let library = forced() && !spec.contains(".npy");
        if library {
            assert!(source.access().starts_with("libhdf5: "), "{spec}: {}", source.access());
        } else {
            assert!(source.access().starts_with(access), "{spec}: {} is not {access}", source.access());
        }
        let all = Region::all(shape);
        let wanted: Vec<f64> = (0..all.len()).map(|i| formula.at(i)).collect();
        assert_eq!(read(&*source, &all), wanted, "{spec}");
    }
}

#[test]
fn scans_hand_on_each_element_in_the_promised_order() {
    for &(spec, shape, dtype, formula, _) in FIXTURES {
        let source = open(spec);
        let all = Region::all(shape);
        let order = scan_order(shape, source.storage_chunks(), &all);
        let wanted: Vec<f64> = order.into_iter().map(|i| formula.at(i)).collect();
        for scratch in [dtype.bytes(), 100, SCAN_BLOCK_BYTES] {
            if all.len() < 10_000 || scratch > 100 {
                assert_eq!(scan(&*source, &all, scratch), wanted, "{spec}, {scratch} B of scratch");
            }
        }
    }
}

/// The same tests, with all HDF5 data read through the library.
#[test]
fn the_same_through_libhdf5() {
    if forced() {
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "every_fixture",
            "scans_hand_on",
            "random_regions",
            "unwritten",
            "fill_value",
            "files_are_refused",
            "many_threads",
        ])
        .env("CHUNKWISE_IO", "library")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("6 passed"), "{text}{}", String::from_utf8_lossy(&child.stderr));
    assert!(!String::from_utf8_lossy(&child.stderr).contains("HDF5-DIAG"), "libhdf5 printed");
}

#[test]
fn unwritten_chunks_cost_nothing() {
    let source = open("chunked.h5:/sparse");
    let region = |r: [(usize, usize); 2]| Region::new(&[100, 100], &r).unwrap();
    assert_eq!(source.constant(&region([(0, 10), (0, 100)])), Some(Scalar::F64(-7.25)));
    assert_eq!(source.constant(&region([(15, 16), (0, 30)])), Some(Scalar::F64(-7.25)));
    assert_eq!(source.constant(&region([(0, 100), (0, 100)])), None);
    assert_eq!(source.constant(&region([(90, 100), (90, 100)])), None);
    let mut wanted = vec![-7.25; 10_000];
    (10..20).for_each(|r| wanted[r * 100 + 30..r * 100 + 40].fill(1.0));
    wanted[9599] = 2.0;
    assert_eq!(read(&*source, &Region::all(&[100, 100])), wanted);
    let zipped = open("chunked.h5:/sparse_gzip");
    assert_eq!(zipped.constant(&region([(20, 100), (0, 100)])), Some(Scalar::I32(9)));
    assert_eq!(scan(&*zipped, &Region::all(&[100, 100]), 4096).iter().sum::<f64>(), 9.0 * 9900.0 + 100.0);

    let huge = open("chunked.h5:/huge");
    let mut blocks = Vec::new();
    huge.scan(&Region::all(huge.shape()), &mut [0; 128], &mut |block| match block {
        Block::Constant { value, count } => blocks.push((value, count)),
        Block::Values(_) => panic!("read what was never written"),
    })
    .unwrap();
    assert_eq!(blocks, [(Scalar::F64(0.5), 1_000_000_000_000)]);
    // A fill value that no f64 holds.
    let exact = open("chunked.h5:/huge_int");
    let corner = Region::new(exact.shape(), &[(5, 7), (1023, 1025)]).unwrap();
    assert_eq!(exact.constant(&corner), Some(Scalar::I64((1 << 60) + 1)));
    assert_eq!(read_as::<i64>(&*exact, &corner), [(1 << 60) + 1; 4]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_regions(which in 0..FIXTURES.len(), corners in prop::collection::vec((0.0..1.0, 0.0..1.0), 4), pad in 0usize..3) {
        let (spec, shape, _, formula, _) = FIXTURES[which];
        let source = open(spec);
        let ranges: Vec<(usize, usize)> = shape.iter().zip(&corners).map(|(&n, &(a, b))| {
            let n = n.min(60); // of `unwritten`
            let (a, b): (f64, f64) = if a < b { (a, b) } else { (b, a) };
            ((a * n as f64) as usize, (b * (n + 1) as f64) as usize)
        }).collect();
        let region = Region::new(shape, &ranges).unwrap();
        let wanted: Vec<f64> = indices(shape, &region).into_iter().map(|i| formula.at(i)).collect();
        prop_assert_eq!(read(&*source, &region), wanted.clone());
        let order = scan_order(shape, source.storage_chunks(), &region);
        let wanted_scan: Vec<f64> = order.into_iter().map(|i| formula.at(i)).collect();
        for scratch in [64, 700, SCAN_BLOCK_BYTES] {
            prop_assert_eq!(&scan(&*source, &region, scratch), &wanted_scan);
        }
        // Into a window of a wider array: rows with gaps between them.
        if let Some((&row, outer)) = region.shape().split_last() && !region.is_empty() && !shape.is_empty() {
            let rows: usize = outer.iter().product();
            let mut wide: Vec<usize> = region.shape();
            *wide.last_mut().unwrap() += pad;
            let strides = Layout::contiguous(DType::F64, &wide).strides;
            let layout = Layout { dtype: DType::F64, shape: region.shape(), strides };
            let mut out = vec![f64::NAN; rows * (row + pad)];
            source.read(&region, &mut ChunkViewMut::from_slice(&mut out, &layout)).unwrap();
            for (r, line) in out.chunks(row + pad).enumerate() {
                prop_assert_eq!(&line[..row], &wanted[r * row..(r + 1) * row]);
                prop_assert!(line[row..].iter().all(|v| v.is_nan()), "wrote beyond the row");
            }
        }
    }
}

fn refused(spec: &str, says: &[&str]) -> Error {
    let error = match store::open(spec) {
        Ok(source) => panic!("{spec} was opened: {}", source.access()),
        Err(error) => error,
    };
    let text = error.to_string();
    assert!(says.iter().all(|s| text.contains(s)) && text.lines().count() == 1 && text.len() < 500, "{text}");
    error
}

#[test]
fn files_are_refused_in_one_clear_sentence() {
    let dir = Folder::new("refused");
    assert!(matches!(refused(&dir.spec("none.h5:/A"), &["cannot open", "none.h5"]), Error::Io { .. }));
    refused(&dir.spec("none.npy"), &["cannot open", "none.npy"]);
    refused(&format!("{}:/A", dir.spec("")), &["is a directory"]);
    std::fs::write(dir.spec("text.h5"), "these are no numbers ".repeat(100)).unwrap();
    refused(&dir.spec("text.h5:/A"), &["is not an HDF5 file"]);
    std::fs::write(dir.spec("void.h5"), "").unwrap();
    refused(&dir.spec("void.h5:/A"), &["is not an HDF5 file"]);
    refused("/dev/null:/A", &["is not a regular file"]);
    let bytes = std::fs::read(data("plain.h5")).unwrap();
    for keep in [100, 2000, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(dir.spec("cut.h5"), &bytes[..keep]).unwrap();
        refused(&dir.spec("cut.h5:/contiguous"), &["truncated"]);
    }
    refused(&data("plain.h5:/absent"), &["there is no dataset /absent", "/contiguous", "and more"]);
    refused(&data("latest.h5:/group/absent"), &["there is no dataset /group/absent", "/virtual"]);
    refused(&data("plain.h5:/group"), &["/group is a group", "/group/inner/deep"]);
    refused(&data("plain.h5:/dangling"), &["link to something that is not there"]);
    refused(&data("links.h5:/gone"), &["/gone is a link to /x in", "no_such_file.h5", "No such file"]);
    refused(&data("links.h5:/lost"), &["/lost is a link to /no/such in", "linked.h5: there is no dataset /no/such"]);
    refused(&data("links.h5:/gone/below"), &["/gone is a link"]);
    refused(&data("links.h5:/dangling"), &["link to something that is not there, /no/such"]);
    refused(&data("links.h5:/circle"), &["/circle is a link"]);
    refused(&data("plain.h5:/null"), &["no shape"]);
    for (name, number) in [("zstd", 32015), ("blosc", 32001), ("lz4", 32004), ("bitshuffle", 32008), ("mine", 40000)] {
        let number = format!("number {number}");
        refused(&data(&format!("packed.h5:/{name}")), &["packed by", &number, "HDF5_PLUGIN_PATH", "h5repack"]);
    }
    refused(&data("packed.h5:/bitshuffle"), &["the filter bitshuffle", "has one), or store the data without it"]);
    refused(&data("packed.h5:/nameless"), &["packed by a filter without a name, number 31999: not in this program"]);
    refused(
        &data("packed.h5:/szip"),
        &["the filter szip (number 4): the HDF5 library", "without it; store the data without it"],
    );
    refused("s3://bucket/a.h5:/A", &["s3:// is not served"]);
    for (name, found) in [("text", "a string"), ("words", "a string"), ("long", "long double")] {
        assert!(matches!(refused(&data(&format!("plain.h5:/{name}")), &[found, "store"]), Error::DType { .. }));
    }
    refused(&data("text.npy"), &["<U2"]);
    refused(&data("records.npy"), &["structured"]);
    let error = chunkwise::Array::<i32>::open(&data("c.npy")).expect_err("f64 is no i32").to_string();
    assert!(error.contains("read it as Array<f64>, or as Array<f32>"), "{error}");
    refused(&data("plain.h5"), &[":/DATASET"]);
    std::fs::copy(data("plain.h5"), dir.spec("wrong.npy")).unwrap();
    refused(&dir.spec("wrong.npy"), &["not a .npy file"]);
    let npy = std::fs::read(data("c.npy")).unwrap();
    for keep in 0..npy.len() {
        std::fs::write(dir.spec("cut.npy"), &npy[..keep]).unwrap();
        refused(&dir.spec("cut.npy"), &["cut.npy"]);
    }
}

/// Runs in a child, whose descriptors are counted.
#[cfg(target_os = "linux")]
#[test]
fn too_many_open_files_are_called_so() {
    const KEY: &str = "CHUNKWISE_TEST_DESCRIPTORS";
    let specs = ["plain.h5:/contiguous", "chunked.h5:/gzip", "links.h5:/contiguous", "links.h5:/chain", "c.npy"];
    if std::env::var_os(KEY).is_some() {
        // The test harness may hold some itself: all that are left are taken, then given back one by one.
        let mut taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
        for spec in specs {
            let mut back = Vec::new();
            while let Err(error) = store::open(&data(spec)) {
                assert!(error.to_string().contains("Too many open files"), "{} free: {error}", back.len());
                back.push(());
                drop(taken.pop().expect("with some descriptors it opens"));
            }
            assert!(!back.is_empty(), "{spec} needs a descriptor");
            taken.extend(std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()));
        }
        return;
    }
    let line = "ulimit -n 24 && exec \"$0\" --exact too_many_open_files_are_called_so";
    let mut child = Command::new("sh");
    let child = child.args(["-c", line]).arg(std::env::current_exe().unwrap()).env(KEY, "1").output().unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&child.stderr));
}

/// Both ways at once, from threads that have never called libhdf5 before; opening and closing beside reading.
#[test]
fn many_threads_read_at_once() {
    let names = ["chunked.h5:/gzip", "chunked.h5:/edge", "chunked.h5:/lzf", "latest.h5:/edge"];
    let shared: Vec<_> = names.iter().map(|n| open(n)).collect();
    let wanted: Vec<f64> = (0..17 * 23).map(|i| Float.at(i)).collect();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (shared, wanted) = (&shared, &wanted);
            scope.spawn(move || {
                for round in 0..50 {
                    let which = (thread + round) % names.len();
                    let own = if round % 5 == 0 { open(names[which]) } else { Arc::clone(&shared[which]) };
                    assert_eq!(read_as::<f64>(&*own, &Region::all(&[17, 23])), *wanted);
                }
            });
        }
    });
}

/// Whatever bytes are wrong: numbers or an error, and never a panic. (Plain data have no checksum, so numbers may be wrong.)
#[test]
fn damaged_files_are_survived() {
    let dir = Folder::new("damaged");
    let mut state = 7u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut opened = 0;
    for (file, ending) in [("plain.h5", "h5"), ("chunked.h5", "h5"), ("latest.h5", "h5"), ("c.npy", "npy")] {
        let good = std::fs::read(data(file)).unwrap();
        let specs: Vec<&str> = FIXTURES.iter().map(|f| f.0).filter(|s| s.starts_with(file)).collect();
        for _ in 0..150 {
            let mut bytes = good.clone();
            for _ in 0..=random(8) {
                let head = if random(2) == 0 { bytes.len().min(4096) } else { bytes.len() };
                bytes[random(head)] = [0, 1, 0x7f, 0xff, random(256) as u8][random(5)];
            }
            let path = dir.spec(&format!("damaged.{ending}"));
            std::fs::write(&path, &bytes).unwrap();
            let spec = specs[random(specs.len())];
            let dataset = spec.strip_prefix(file).unwrap();
            let Ok(source) = store::open(&format!("{path}{dataset}")) else { continue };
            let region = Region::all(source.shape());
            if region.len() > 2_000_000 {
                continue;
            }
            let mut out = vec![0.0; region.len()];
            let layout = Layout::contiguous(DType::F64, &region.shape());
            if let Err(error) = source.read(&region, &mut ChunkViewMut::from_slice(&mut out, &layout)) {
                assert!(!error.to_string().contains("unknown library error"), "{error}");
            }
            let _ = source.scan(&region, &mut vec![0; 10_000], &mut |_| ());
            opened += 1;
        }
    }
    assert!(opened > 100, "only {opened} damaged files could be opened, so reading was hardly tried");
}
