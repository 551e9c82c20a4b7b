//! Planning at scale: depth, sharing, numbers of chunks, and the memory of the plans themselves.
//!
//! Owns: a counting allocator, random expressions. Must not know: the lowering's insides. Invariant: one test at a time, so that what the allocator counts is that test's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chunkwise::AnyArray;
use chunkwise::cost::Rates;
use chunkwise::device::{Cpu, Device, IoLane, LinkSpec, take_result};
use chunkwise::id::{DeviceId, SpaceId};
use chunkwise::kernel::{Content, Fault, Held, Kernel, Scratch, Work, for_each_piece};
use chunkwise::runtime::{Inside, Plan};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Form, Layout as Extents};
use chunkwise::task::GraphBuilder;
use chunkwise::{Array, prelude::*};
use ndarray::Array2;
use support::dag::{explain_random_dag, random_dag};
use support::picture::picture;

struct Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large blocks are moved by the page table: the old one is not there beside the new one.
        let live = LIVE.fetch_add(size, Relaxed) + size - layout.size();
        LIVE.fetch_sub(layout.size(), Relaxed);
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn session(threads: usize) -> Session {
    Session::builder().threads(threads).placement(Placement::Cpu).memory_limit("4GB").cache_dir("").build().expect("a session")
}

/// The sum of its inputs, plus one, modulo 97.
struct Mix;
impl Kernel for Mix {
    fn name(&self) -> Cow<'static, str> {
        "test::mix".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let elements = operands.iter().map(|o| o.shape.iter().product::<usize>()).sum::<usize>() as f64;
        Work { flops: elements, bytes: 8.0 * elements }
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        match inputs {
            [_] => for_each_piece::<[f64; 1], f64>(inputs, &mut outputs[0], |[a], out| {
                out.iter_mut().zip(a).for_each(|(out, a)| *out = (a + 1.0) % 97.0);
            }),
            [_, _, ..] => for_each_piece::<[f64; 2], f64>(&inputs[..2], &mut outputs[0], |[a, b], out| {
                out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = (a + b + 1.0) % 97.0);
            }),
            [] => unreachable!("an operation has an input"),
        }
        Ok(())
    }
}

fn mix(a: &Array<f64>, others: &[&dyn AnyArray]) -> Array<f64> {
    a.with_kernel(others, Arc::new(Mix), &())
}

/// Writes its number; told from the others by that, or by nothing that could be written down.
struct Numbered(u32);
impl Kernel for Numbered {
    fn name(&self) -> Cow<'static, str> {
        "test::numbered".into()
    }
    fn content(&self) -> Content {
        if self.0.is_multiple_of(2) { Content::Text(self.0.to_string().into()) } else { Content::Local }
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work { flops: 1.0, bytes: 8.0 }
    }
    fn held(&self) -> Vec<Held> {
        vec![Held::new(format!("number {}", self.0), 1)]
    }
    fn run_cpu(
        &self,
        _: &[u8],
        _: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        outputs[0].set(0, 0, f64::from(self.0));
        Ok(())
    }
}

/// As a generator of kernels makes them: more than 2^16, and each is found in a moment.
#[test]
fn seventy_thousand_kernels_in_one_graph_plan_and_run() {
    let _one = alone();
    const MANY: usize = 70_000;
    let begin = Instant::now();
    let (session, mut graph) = (session(2), GraphBuilder::new());
    let result = graph.array(DType::F64, MANY, true);
    graph.group("numbers");
    for number in 0..MANY as u32 {
        // Equal contents are one kernel.
        let [kernel, again] = [(); 2].map(|()| graph.kernel(Arc::new(Numbered(number))));
        assert_eq!(kernel == again, number.is_multiple_of(2));
        let out = graph.window(result, number as usize, &Extents::contiguous(DType::F64, &[]));
        graph.write(kernel, &[], &[], out).expect("a task");
    }
    let plan = Plan::new(graph, vec![None]).expect("a plan");
    assert_eq!((plan.graph().kernels().len(), plan.graph().held_bytes()), (MANY + MANY / 2, MANY as u64));
    let (results, _) = session.submit(plan, begin).expect("submits").wait().expect("runs");
    let taken = results.into_iter().flatten().next().and_then(take_result::<f64>).expect("one result");
    assert!(taken.vec[taken.start..][..MANY].iter().enumerate().all(|(at, &found)| found == at as f64));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// Runs on a thread with the stack of a spawned Rust thread.
fn on_a_small_stack<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).expect("a thread").join().expect("no panic")
}

#[test]
fn a_chain_of_a_hundred_thousand_operations_plans_runs_and_drops_on_a_small_stack() {
    let _one = alone();
    on_a_small_stack(|| {
        let session = session(1);
        for in_pieces in [true, false] {
            let x = ndarray::arr1(&[0.0, 50.0, 96.0]);
            let mut a = Array::from(x.clone()).in_session(&session).chunks(2);
            if !in_pieces {
                a = Array::from(Array2::eye(3)).in_session(&session).chunks((2, 3)).matvec(&a);
            }
            for _ in 0..100_000 {
                a = mix(&a, &[]);
            }
            let text = format!("{a:?}");
            // Twelve of them are one task: a chunk is 16 bytes.
            let tasks = 2 * 100_000usize.div_ceil(12) + if in_pieces { 0 } else { 2 };
            assert!(text.contains(&format!("{tasks} tasks")), "{text}");
            let (found, run) = a.run().expect("a long chain");
            assert_eq!(run.tasks(), tasks);
            assert_eq!(found, x.mapv(|v| (v + 100_000.0) % 97.0).into_dyn(), "in pieces: {in_pieces}");
            let other = a.clone();
            drop(a);
            assert!(other.explain().expect("explains").groups.len() < 10);
        }
    });
}

#[test]
fn a_factor_of_300_by_300_tiles_is_planned_within_seconds() {
    let _one = alone();
    on_a_small_stack(|| {
        let session = session(1);
        let factor = session.default_rng().spd::<f32>(3000).chunks(10).cholesky();
        let begun = std::time::Instant::now();
        let groups = factor.explain().expect("explains").groups;
        let tasks: usize = groups.iter().map(|group| group.tasks).sum();
        assert_eq!(tasks, 300 * 301 * 302 / 6 + 300 * 301 / 2);
        eprintln!("{tasks} tasks in {:.1} s", begun.elapsed().as_secs_f64());
    });
}

/// On request alone: who does not ask has the tiles of every machine.
#[test]
fn chunks_are_tuned_to_what_is_predicted_here() {
    let _one = alone();
    let tuned = |threads: usize, launch_ns: f64| {
        let session = session(threads);
        session.set_rates(DeviceId(0), Rates { launch_ns, f32_flops: 1e10, f64_flops: 1e10, bytes_per_s: 1e12 });
        let factor = session.default_rng().spd::<f64>(1500).cholesky();
        assert_eq!(factor.grid().largest(), [256, 256]);
        let seconds = |factor: &Array<f64>| factor.explain().expect("explains").totals[0].1;
        let tuned = factor.clone().tuned_chunks().expect("tiles");
        assert!(tuned.grid() == factor.grid() || seconds(&tuned) < seconds(&factor) / 1.05);
        (tuned.grid().largest()[0], session)
    };
    let (large, session) = tuned(1, 1e9);
    assert_eq!(large, 1024, "a second for each task: there are to be few");
    assert_eq!(tuned(4, 0.0).0, 128, "nothing for each: there are to be enough for four");
    let other = session.default_rng().spd::<f64>(1500) + 1.0;
    assert_eq!(other.clone().tuned_chunks().expect("the same").grid(), other.grid(), "there is nothing to choose");
}

#[test]
fn diamonds_are_planned_once() {
    let _one = alone();
    let session = session(1);
    let mut a = Array::from(ndarray::arr1(&[1.0, 2.0, 3.0])).in_session(&session).chunks(2);
    let mut wanted = [1.0f64, 2.0, 3.0];
    for _ in 0..300 {
        a = mix(&a, &[&a]);
        wanted = wanted.map(|v| (2.0 * v + 1.0) % 97.0);
    }
    assert!(format!("{a:?}").contains("600 tasks"), "{a:?}");
    assert_eq!(a.explain().expect("explains").groups.iter().map(|g| g.tasks).sum::<usize>(), 600);
    let (found, run) = a.run().expect("diamonds");
    assert_eq!((found, run.tasks()), (ndarray::arr1(&wanted).into_dyn(), 600));
    let mean = a.mean();
    assert_eq!(mean.compute_scalar().expect("a mean"), wanted.iter().sum::<f64>() / 3.0);
    let small =
        Session::builder().threads(1).placement(Placement::Cpu).memory_limit("1kB").cache_dir("").build().expect("small");
    let error = a.in_session(&small).compute().expect_err("the tables alone need more").to_string();
    assert!(error.contains(".memory_limit("), "{error}");
}

#[test]
fn random_expressions_give_what_a_loop_gives() {
    let _one = alone();
    let session = session(2);
    let mut state = 7u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for case in 0..60 {
        let (rows, columns) = (1 + below(9), 1 + below(9));
        let chunk = (1 + below(rows), 1 + below(columns));
        let leaf = |k: usize| Array2::from_shape_fn((rows, columns), |(i, j)| ((i * 31 + j * 7 + k) % 97) as f64);
        let mut arrays = vec![Array::from(leaf(0)).in_session(&session).chunks(chunk)];
        let mut wanted = vec![leaf(0)];
        for k in 1..3 + below(30) {
            let (i, j) = (below(arrays.len()), below(arrays.len()));
            let (made, plain) = match below(4) {
                0 => (Array::from(leaf(k)).in_session(&session).chunks(chunk), leaf(k)),
                1 => (mix(&arrays[i], &[]), wanted[i].mapv(|a| (a + 1.0) % 97.0)),
                _ => (mix(&arrays[i], &[&arrays[j]]), (&wanted[i] + &wanted[j]).mapv(|a| (a + 1.0) % 97.0)),
            };
            arrays.push(made);
            wanted.push(plain);
        }
        let (last, plain) = (arrays.pop().expect("some"), wanted.pop().expect("some"));
        assert_eq!(last.compute().expect("runs"), plain.clone().into_dyn(), "case {case}");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x.npy");
        let spec = file.display().to_string();
        last.store(&spec).expect("stores");
        let stored = Array::<f64>::open(&spec).expect("opens").compute().expect("reads");
        assert_eq!(stored, plain.into_dyn(), "case {case}, stored");
    }
}

#[test]
fn more_chunks_than_memory_could_list_are_refused() {
    let _one = alone();
    let session = session(1);
    let before = PEAK.swap(LIVE.load(Relaxed), Relaxed);
    let many = session.default_rng().uniform::<f64>([1 << 40]).chunks(1);
    assert_eq!(many.grid().len(), 1 << 40);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x.npy");
    let column = session.default_rng().uniform::<f64>([1 << 40, 1]).chunks(1);
    let product = column.matvec(&session.default_rng().uniform::<f64>([1]));
    for error in [
        many.compute().expect_err("8 TB").to_string(),
        many.mean().compute().expect_err("2^40 chunks").to_string(),
        product.compute().expect_err("8 TB").to_string(),
        mix(&many, &[&many]).explain().expect_err("8 TB").to_string(),
    ] {
        assert!(error.contains("tasks") || error.contains("more than the 4.00 GB"), "{error}");
    }
    assert!(format!("{many:?}").contains("1099511627776 tasks"), "{many:?}");
    let picture = picture::<f64>(1 << 40, 1, 20).in_session(&session).chunks((1 << 22, 1));
    let error = picture.store(&file.display().to_string()).expect_err("its points alone are 8 TB").to_string();
    assert!(error.contains("more than the 4.00 GB") || error.contains("its disk"), "{error}");
    let crumbs = Array::from(vec![0u8; 100_000_000]).in_session(&session).chunks(1);
    let error = crumbs.store(&file.display().to_string()).expect_err("10^8 tasks").to_string();
    assert!(error.starts_with("number of tasks = 100000000: choose larger chunks"), "{error}");
    assert!(!file.exists());
    let used = PEAK.load(Relaxed) - LIVE.load(Relaxed);
    assert!(used < 400 << 20, "{used} bytes for refusals (before: {before})");
}

/// Bytes beyond what lives before that computing takes at most where no more is allowed than is proved to do; and that bound, without what is there before.
fn measured(array: &Array<f64>, cuts: &dyn Fn(&Session) -> Array<f64>) -> (f64, f64) {
    let explained = array.explain().expect("explains");
    let limit = explained.bound_bytes;
    let session = Session::builder().threads(1).placement(Placement::Cpu).memory_limit(limit).cache_dir("");
    let session = session.build().expect("a session");
    session.default_rng().uniform::<f64>([1]).compute().expect("warm"); // threads, scratch
    let array = cuts(&session);
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let (values, _) = array.run().expect("fits exactly");
    let real = PEAK.load(Relaxed) - before;
    let there = explained.array_bytes - values.len() as u64 * 8;
    (real as f64, (explained.bound_bytes - there) as f64)
}

#[test]
fn the_tables_of_a_graph_are_counted() {
    let _one = alone();
    let session = session(1);
    let square = |n: usize| Array2::from_shape_fn((n, n), |(i, j)| if i == j { n as f64 } else { ((i ^ j) % 7) as f64 / 14.0 });
    let of = |n: usize, chunk: usize, session: &Session| Array::from(square(n)).in_session(session).chunks(chunk);
    type Make<'a> = &'a dyn Fn(&Session) -> Array<f64>;
    let cases: [(&str, Make<'_>); 3] = [
        ("map", &|s| mix(&mix(&of(600, 3, s), &[]), &[&of(600, 3, s)])),
        ("cholesky", &|s| of(400, 8, s).cholesky()),
        ("matvec", &|s| of(900, 3, s).matvec(&Array::from(ndarray::Array1::ones(900)))),
    ];
    for (name, make) in cases {
        let (real, counted) = measured(&make(&session), make);
        let share = counted / real;
        eprintln!("{name}: {counted} counted, {real} allocated: {share:.2}");
        assert!((0.9..=1.3).contains(&share), "{name}: {counted} counted, {real} allocated: {share:.2}");
    }
}

/// Bytes that planning and running takes at most beside the result, for each task, where no more chunks may be pooled than one after the other needs.
fn bytes_a_task(make: &dyn Fn(&Session) -> Array<f64>, far: bool) -> (f64, usize) {
    let bound = make(&session(1)).explain().expect("explains").bound_bytes;
    let mut session = Session::builder().threads(1).placement(Placement::Cpu).memory_limit(bound).cache_dir("");
    if far {
        let link = LinkSpec { latency_ns: 1000, bytes_per_s: 1e10 };
        let far = Cpu::behind_link("far", 1, SpaceId(1), [link; 2]).expect("a pool");
        let devices: Vec<Arc<dyn Device>> =
            vec![Arc::new(Cpu::new(1).expect("a pool")), Arc::new(IoLane::new()), Arc::new(far)];
        session = session.placement(Placement::Auto).devices(devices);
    }
    let array = make(&session.build().expect("a session"));
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let (values, run) = array.run().expect("runs");
    // How much is moved depends on the machine; each move is told in the report, in a list that grows by doubling: while it does, it is there once and twice as large.
    let told = 3 * size_of_val(&run.moves[..]);
    let tables = PEAK.load(Relaxed) - before - values.len() * 8 - told;
    (tables as f64 / run.tasks() as f64, run.tasks())
}

/// All tables of graph, scheduler and record together, and what planning takes for a moment: a hard bound for people who compute in small chunks.
#[test]
fn a_task_takes_300_bytes() {
    let _one = alone();
    let square = |n: usize| Array2::from_shape_fn((n, n), |(i, j)| if i == j { n as f64 } else { ((i ^ j) % 7) as f64 / 14.0 });
    let of = |n: usize, chunk: usize, session: &Session| Array::from(square(n)).in_session(session).chunks(chunk);
    let random = |s: &Session| s.default_rng().uniform::<f64>([1200, 900]).chunks(3);
    type Make<'a> = &'a dyn Fn(&Session) -> Array<f64>;
    let cases: [(&str, Make<'_>, usize); 3] = [
        ("map of the caller's", &|s| mix(&of(900, 3, s), &[]), 90_000),
        ("map of random numbers", &|s| mix(&random(s), &[]), 120_000),
        ("cholesky", &|s| of(640, 8, s).cholesky(), 88_000),
    ];
    for (name, make, tasks) in cases {
        let (with_a_link, _) = bytes_a_task(make, true);
        eprintln!("{name}: {with_a_link:.0} bytes for each task beside a device with memory of its own");
        // A random chunk and what is made of it are one task, which has the parameters of both.
        let more = if name == "map of random numbers" { 40.0 } else { 0.0 };
        assert!(
            with_a_link <= 480.0 + more, // 400 to 455: how long queues get depends on the machine
            "{name}: {with_a_link:.0} bytes for each task beside a device with memory of its own"
        );
        let (bytes, found) = bytes_a_task(make, false);
        eprintln!("{name}: {bytes:.0} bytes for each of {found} tasks");
        assert!(found >= tasks && bytes <= 300.0 + more, "{name}: {bytes:.0} bytes for each of {found} tasks");
    }
}

/// Counts what it is asked.
#[derive(Default)]
struct Asked {
    work: AtomicUsize,
    scratch: AtomicUsize,
    forms: AtomicUsize,
}

impl Kernel for Asked {
    fn name(&self) -> Cow<'static, str> {
        "test::asked".into()
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        self.work.fetch_add(1, Relaxed);
        Work { flops: 1.0, bytes: 1.0 }
    }
    fn scratch_bytes(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> u64 {
        self.scratch.fetch_add(1, Relaxed);
        64
    }
    fn input_form(&self, _: &[u8], _: usize) -> Form {
        self.forms.fetch_add(1, Relaxed);
        Form::Plain
    }
    fn run_cpu(
        &self,
        params: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Ran {
        Mix.run_cpu(params, inputs, outputs, scratch)
    }
}

type Ran = std::result::Result<(), Fault>;

/// A plan is sealed once, priced once and simulated at most once, and none of that asks a kernel again.
#[test]
fn kernels_are_asked_once() {
    let _one = alone();
    let session = session(2);
    let asked = Arc::new(Asked::default());
    let counts = || [&asked.work, &asked.scratch, &asked.forms].map(|count| count.swap(0, Relaxed));
    let x = session.default_rng().uniform::<f64>([100, 10_000]).chunks((1, 10_000));
    let y: Array<f64> = x.with_kernel(&[], asked.clone(), &());
    let (_, run) = y.run().expect("runs");
    assert_eq!((counts(), run.tasks()), ([100; 3], 200));
    // Small chunks are made in the kernel's own tasks; to know that they are, it is asked once more, and whether it takes plain inputs only then.
    let x = session.default_rng().uniform::<f64>([100, 10]).chunks((1, 10));
    let y: Array<f64> = x.with_kernel(&[], asked.clone(), &());
    let (_, run) = y.run().expect("runs");
    assert_eq!((counts(), run.tasks()), ([101, 100, 1], 100));
}

#[test]
fn the_scheduler_predicts_its_own_time() {
    let _one = alone();
    let session = session(2);
    let before = explain_random_dag(&session, 30_000).expect("explains").totals[0].1;
    assert!((0.02..2.0).contains(&before), "{before} s for 30 000 tiny tasks, before anything was measured");
    let mut ratio = 0.0;
    for _ in 0..4 {
        let (_, run) = random_dag(&session, 30_000).expect("runs");
        ratio = run.predicted_s / (run.total_s - run.plan_s);
    }
    assert!((0.25..4.0).contains(&ratio), "predicted over measured: {ratio}");
    let [few, many] = [2_000, 8_000].map(|n| explain_random_dag(&session, n).expect("explains").totals[0].1);
    assert!((2.0..8.0).contains(&(many / few)), "{few} s and {many} s");
}
