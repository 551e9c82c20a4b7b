//! What is seldom asked of arrays, and must be as good: results beside others, very many chunks, views of the very large.
//!
//! Owns: what a hostile reader would try. Must not know: how plans are made. Invariant: each test fails without what it is for.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chunkwise::kernel::Lane;
use chunkwise::ndarray::{Axis, SliceInfoElem, s};
use chunkwise::shape::{ChunkView, ChunkViewMut, DType, Region, Scalar};
use chunkwise::task::{ChunkSink, ChunkSource, Intake};
use chunkwise::{Array, Error, Placement, Session, compute_all, concatenate, stack, store};
use proptest::prelude::*;
use support::counted::Counted;

fn session() -> &'static Session {
    static SESSION: OnceLock<Session> = OnceLock::new();
    SESSION.get_or_init(|| Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("a session"))
}

/// A source of floats whose sum depends on the order: some of its storage chunks were never written.
struct Uneven {
    shape: [usize; 2],
    stored: Option<[usize; 2]>,
    /// Storage chunks whose numbers are 0 modulo this were never written.
    unwritten: usize,
    seed: u64,
    read: AtomicUsize,
}

impl Uneven {
    fn at(&self, i: usize, j: usize) -> f64 {
        let Some(chunk) = self.stored else { return self.noise(i, j) };
        let number = (i / chunk[0]) * self.shape[1].div_ceil(chunk[1]) + j / chunk[1];
        if self.unwritten > 0 && number.is_multiple_of(self.unwritten) { 0.1 } else { self.noise(i, j) }
    }

    fn noise(&self, i: usize, j: usize) -> f64 {
        let mut x = self.seed ^ ((i as u64) << 32 | j as u64);
        for _ in 0..3 {
            x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        }
        // Over thirty binary places: few sums are exact.
        (x >> 11) as f64 * 2f64.powi((x % 30) as i32 - 60)
    }
}

impl ChunkSource for Uneven {
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn dtype(&self) -> DType {
        DType::F64
    }
    fn storage_chunks(&self) -> Option<&[usize]> {
        self.stored.as_ref().map(|stored| &stored[..])
    }
    fn name(&self) -> String {
        "uneven".into()
    }
    fn version_token(&self) -> String {
        String::new()
    }
    fn access(&self) -> String {
        String::new()
    }
    fn lane(&self) -> Lane {
        Lane::Compute
    }
    fn converts(&self) -> bool {
        true
    }
    fn constant(&self, region: &Region) -> Option<Scalar> {
        let all = |a: usize| {
            let range = region.axes()[a];
            (0..range.len).map(move |k| range.start + k * range.step)
        };
        let empty = all(0).all(|i| all(1).all(|j| self.at(i, j) == 0.1));
        (empty && !region.is_empty()).then_some(Scalar::F64(0.1))
    }
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> chunkwise::Result<()> {
        self.read.fetch_add(region.len(), Relaxed);
        let [rows, columns] = [region.axes()[0], region.axes()[1]];
        for r in 0..rows.len {
            for c in 0..columns.len {
                let value = self.at(rows.start + r * rows.step, columns.start + c * columns.step);
                if out.layout().dtype == DType::F32 { out.set(r, c, value as f32) } else { out.set(r, c, value) }
            }
        }
        Ok(())
    }
}

/// Sum, mean and weighted mean, alone and beside the arrays themselves.
#[track_caller]
fn company_does_not_matter(x: &Array<f64>, w: &Array<f64>) {
    let bits = |array: &Array<f64>| array.compute_scalar().expect("computes").to_bits();
    let alone = [x.sum(), x.mean(), x.weighted_mean(w), x.weighted_mean(x)];
    let wanted = [0, 1, 2, 3].map(|which: usize| bits(&alone[which]));
    let [sum, mean, weighted, own] = &alone;
    let (a, b, c, d, ..) = compute_all((sum, mean, weighted, own, x, w)).expect("computes");
    assert_eq!([a, b, c, d].map(|of| of[[]].to_bits()), wanted, "beside all");
    assert_eq!(compute_all((mean, x)).expect("computes").0[[]].to_bits(), wanted[1], "beside the values");
    assert_eq!(compute_all((weighted, w)).expect("computes").0[[]].to_bits(), wanted[2], "beside the weights");
    assert_eq!(compute_all((weighted, x)).expect("computes").0[[]].to_bits(), wanted[2], "beside the values");
}

fn part(shape: [usize; 2], numbers: [usize; 6]) -> [SliceInfoElem; 2] {
    [0, 1].map(|a| {
        let start = numbers[a] % shape[a];
        let end = start + 1 + numbers[a + 2] % (shape[a] - start);
        SliceInfoElem::Slice { start: start as isize, end: Some(end as isize), step: 1 + (numbers[a + 4] % 3) as isize }
    })
}

proptest! {
    #[test]
    fn a_mean_does_not_depend_on_who_else_reads(
        shape in (1usize..60, 1usize..60),
        stored in prop::option::of((1usize..30, 1usize..30)),
        cut in (1usize..70, 1usize..70),
        unwritten in 0usize..4,
        seed in any::<u64>(),
        numbers in any::<[usize; 6]>(),
        joined in any::<bool>(),
    ) {
        let shape = [shape.0, shape.1];
        let source = |seed| {
            let stored = stored.map(|(rows, columns)| [rows, columns]);
            let of = Arc::new(Uneven { shape, stored, unwritten, seed, read: AtomicUsize::new(0) });
            let array = Array::<f64>::from_source(of).expect("f64").in_session(session());
            if numbers[0].is_multiple_of(5) { array } else { array.chunks((cut.0, cut.1)) }
        };
        let (x, w, more) = (source(seed), source(seed + 1 - u64::from(seed == u64::MAX) * 2), source(seed / 2));
        if joined {
            let all = |first: &Array<f64>| concatenate(Axis(0), &[first, &more]);
            company_does_not_matter(&all(&x), &all(&w));
            let mean = all(&x).mean();
            let beside = compute_all((&mean, &more)).expect("computes").0;
            prop_assert_eq!(mean.compute_scalar().expect("computes").to_bits(), beside[[]].to_bits());
        } else {
            let part = part(shape, numbers);
            company_does_not_matter(&x.slice(part), &w.slice(part));
        }
    }
}

#[test]
fn a_mean_of_a_file_does_not_depend_on_who_else_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Uneven { shape: [700, 900], stored: None, unwritten: 0, seed: 1, read: AtomicUsize::new(0) };
    let x = Array::<f64>::from_source(Arc::new(source)).expect("f64").in_session(session());
    let spec = format!("{}:/x", folder.path().join("x.h5").display());
    for chunks in [[100, 90], [64, 900], [33, 7]] {
        let sink = store::create(&spec, &[700, 900], DType::F64, Some(&chunks)).expect("a file");
        x.store_into(&sink).expect("stores");
        let file = Array::<f64>::open(&spec).expect("opens").in_session(session());
        for cut in [(128, 128), (700, 900), (50, 400)] {
            company_does_not_matter(&file.clone().chunks(cut), &x.clone().chunks(cut));
        }
        // As the library rounds it: what is summed is what is read.
        let narrow = Array::<f32>::open(&spec).expect("opens").in_session(session());
        let (mean, _) = compute_all((&narrow.mean(), &narrow)).expect("computes");
        assert_eq!(mean[[]].to_bits(), narrow.mean().compute_scalar().expect("computes").to_bits());
    }
}

#[test]
fn who_reads_a_file_together_reads_it_once() {
    let source = Uneven { shape: [90, 80], stored: Some([7, 80]), unwritten: 0, seed: 5, read: AtomicUsize::new(0) };
    let source = Arc::new(source);
    let x = Array::<f64>::from_source(source.clone()).expect("f64").in_session(session()).chunks((20, 40));
    compute_all((&x.mean(), &x.weighted_mean(&x), &x)).expect("computes");
    assert_eq!(source.read.load(Relaxed), 90 * 80);
}

fn limited(limit: &str) -> Session {
    let session = Session::builder().threads(2).placement(Placement::Cpu).memory_limit(limit).cache_dir("");
    session.build().expect("a session")
}

/// A sink that keeps nothing.
struct Nowhere(Intake);

impl ChunkSink for Nowhere {
    fn intake(&self) -> &Intake {
        &self.0
    }
    fn put(&self, _: &Region, _: ChunkView<'_>) -> chunkwise::Result<()> {
        Ok(())
    }
    fn commit(&self) -> chunkwise::Result<()> {
        Ok(())
    }
}

#[test]
fn very_many_writes_are_refused_at_once() {
    let session = limited("200MB");
    let refusal = |array: &Array<u8>| {
        let sink: Arc<dyn ChunkSink> = Arc::new(Nowhere(Intake::new("nowhere", array.shape(), DType::U8).expect("a sink")));
        let begun = Instant::now();
        let error = array.store_into(&sink).expect_err("too much");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        (error.to_string(), error)
    };
    let one = Array::from(vec![7u8]).in_session(&session);
    let (text, _) = refusal(&one.broadcast_to([100_000_000]).chunks(1));
    assert!(text.contains("100000000") && text.contains("larger chunks"), "{text}");
    let (text, error) = refusal(&one.broadcast_to([30_000_000]).chunks(1));
    assert!(matches!(error, Error::OutOfMemory { .. }) && text.contains("30000000 tasks"), "{text}");
    let (text, _) = refusal(&Array::from(vec![7u8; 10_000_000]).in_session(&session).chunks(1));
    assert!(text.contains("10000000 tasks"), "{text}");
}

#[test]
fn what_nobody_sees_is_not_planned() {
    let session = limited("200MB");
    let rng = session.default_rng();
    let product = rng.uniform::<f64>([10, 1 << 40]).chunks((10, 1)).matvec(&rng.uniform::<f64>([1 << 40]).chunks(1));
    assert_eq!(product.slice(s![..0]).compute().expect("computes").len(), 0);
}

#[test]
fn a_row_of_very_many_chunks_is_counted_before_it_is_listed() {
    let session = limited("200MB");
    let rng = session.default_rng();
    let product = rng.uniform::<f64>([4, 1 << 40]).chunks((1, 1)).matvec(&rng.uniform::<f64>([1 << 40]).chunks(1));
    let text = product.slice(s![1..2]).compute().expect_err("2^40 tasks").to_string();
    assert!(text.contains("tasks"), "{text}");
}

#[test]
fn a_concatenation_in_a_loop_is_one_of_all() {
    let session = session();
    let begun = Instant::now();
    let mut all = Array::from(vec![0i64]).in_session(session);
    for n in 1..3000 {
        all = concatenate(Axis(0), &[&all, &Array::from(vec![n]).in_session(session)]);
    }
    assert_eq!(all.sum().compute_scalar().expect("sums"), 2999 * 3000 / 2);
    assert_eq!(all.slice(s![2990..]).compute().expect("computes").sum(), (2990..3000).sum::<i64>());
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn very_many_different_views_are_copies() {
    let doubled = Arc::new(support::twice::Twice::default());
    let x = Array::from(vec![1.0; 70_000]).in_session(session()).with_kernel::<f64>(&[], doubled, &());
    let parts: Vec<Array<f64>> = (0..66_000).map(|n| x.slice(s![n..n + 3;2])).collect();
    let all = concatenate(Axis(0), &parts.iter().collect::<Vec<_>>());
    assert!(all.compute().expect("computes").iter().all(|&y| y == 2.0));
    let x = session().rng(1).uniform::<f64>((40_000, 3)).chunks((40_000, 3)).with_kernel::<f64>(
        &[],
        Arc::new(support::twice::Twice::default()),
        &(),
    );
    let wanted = x.compute().expect("computes");
    let rows: Vec<Array<f64>> = (0..40_000).map(|n| x.index_axis(Axis(0), n).flip(Axis(0))).collect();
    let stacked = stack(Axis(1), &rows.iter().collect::<Vec<_>>()).compute().expect("computes");
    assert_eq!(stacked, wanted.slice(s![.., ..;-1]).t().into_dyn());
}

#[test]
fn views_of_the_very_large_cost_nothing() {
    let x = session().default_rng().uniform::<f64>([1 << 40]);
    let wanted = x.slice(s![1..4]).compute().expect("computes");
    let later = x.clone().chunks(1).slice(s![1..]);
    assert_eq!(later.grid().len(), (1 << 40) - 1);
    assert_eq!(later.slice(s![..3]).compute().expect("computes"), wanted);
    let y = session().default_rng().uniform::<f64>([1 << 50]).chunks(1000);
    let last = y.slice(s![-3..]).compute().expect("computes");
    let back = y.flip(Axis(0));
    assert_eq!(back.grid().largest(), [1000]);
    let first = back.slice(s![..3]).compute().expect("computes");
    assert_eq!(first, last.slice(s![..;-1]).to_owned().into_dyn());
    let twice = concatenate(Axis(0), &[&y.slice(s![7..(1isize << 50) - 624]), &y.slice(s![..-24])]);
    assert_eq!(twice.grid().axis_range(0, 1), (993, 1000));
    // Where chunks would be unequal without end, that is said, and nothing is tried.
    let text = y.try_slice(s![..;3]).expect_err("refused").to_string();
    assert!(text.contains("number of chunks along an axis") && text.contains("larger chunks"), "{text}");
    assert_eq!(y.slice(s![..;4]).grid().largest(), [250]);
}

#[test]
fn views_that_fall_into_too_many_parts_are_refused() {
    let mut all = session().default_rng().uniform::<f64>([3, 5]);
    for level in 0..40 {
        all = concatenate(Axis(level % 2), &[&all, &all]);
    }
    let few = all.slice(s![7..3 * 1009;1009, 2..3 * 1013;1013]).compute().expect("computes");
    assert_eq!(few.shape(), [3, 3]);
    let text = all.slice(s![..;1009, ..;1013]).compute().expect_err("refused").to_string();
    assert!(text.contains("number of parts"), "{text}");
}

#[test]
fn what_fits_is_read_once_for_all_rows_of_a_product() {
    let n = 1_000_000;
    let read = |limit: &str| {
        let (session, source) = (limited(limit), Arc::new(Counted::new(&[n], |at| (at[0] % 97) as f64)));
        let vector = Array::<f64>::from_source(source.clone()).expect("f64").in_session(&session).chunks(n / 10);
        let matrix = session.default_rng().uniform::<f64>([20, n]).chunks((1, n / 10));
        let product = matrix.matvec(&vector).compute().expect("computes");
        (product, source.taken())
    };
    let (kept, once) = read("60MB");
    assert_eq!(once, n, "8 MB are more than an eighth of 60 MB, but fit");
    let (product, often) = read("12MB");
    assert!(often > 2 * n, "8 MB are too much for half of 12 MB: {often}");
    assert_eq!(product, kept);
}

/// A kernel that takes chunks of one shape.
struct Picky;

impl chunkwise::kernel::Kernel for Picky {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "picky".into()
    }
    fn check(&self, _: &[u8], operands: &[chunkwise::shape::ChunkMeta<'_>]) -> chunkwise::Result<()> {
        match operands[0].shape {
            [5000, 5000] => Ok(()),
            found => Err(Error::Shape { op: "picky", found: found.to_vec(), wanted: "chunks of 5000 x 5000".into() }),
        }
    }
    fn work(&self, _: &[u8], _: &[chunkwise::shape::ChunkMeta<'_>]) -> chunkwise::kernel::Work {
        chunkwise::kernel::Work::default()
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut chunkwise::kernel::Scratch<'_>,
    ) -> Result<(), chunkwise::kernel::Fault> {
        outputs[0].copy_from(inputs[0]);
        Ok(())
    }
}

#[test]
fn chunks_that_a_kernel_refuses_are_no_advice() {
    let session = limited("300MB");
    let x = session.default_rng().uniform::<f64>([20_000, 20_000]).chunks(5000);
    let free = x.clone().with_kernel::<f64>(&[], Arc::new(support::twice::Twice::default()), &()).mean();
    let text = free.compute().expect_err("too much").to_string();
    assert!(text.contains(".chunks("), "other chunks would do: {text}");
    let text = x.with_kernel::<f64>(&[], Arc::new(Picky), &()).mean().compute().expect_err("too much").to_string();
    assert!(!text.contains(".chunks("), "{text}");
}

#[test]
fn rows_into_columns_without_end_are_refused_at_once() {
    let session = limited("200MB");
    let x = session.default_rng().uniform::<f64>([1 << 17, 1 << 17]).chunks((1, 1 << 17)).rechunk((1 << 17, 1));
    let kernel = Arc::new(support::twice::Twice::default());
    let columns = x.with_kernel::<f64>(&[], kernel, &());
    let turned = columns.rechunk((1, 1 << 17));
    let sink: Arc<dyn ChunkSink> = Arc::new(Nowhere(Intake::new("nowhere", turned.shape(), DType::F64).expect("a sink")));
    let begun = Instant::now();
    let text = turned.store_into(&sink).expect_err("too much").to_string();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(text.contains(&(1u64 << 34).to_string()), "{text}");
}
