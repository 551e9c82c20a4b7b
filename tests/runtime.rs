//! Sessions from outside: replay, early drops, computing inside a task, memory that nobody frees, devices and policies that misbehave.
//!
//! Owns: promises of the runtime that no single workload shows. Must not know: kernels. Invariant: everything that could hang runs with a
//! time limit.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chunkwise::device::{
    Cpu, Device, DeviceSpec, Failure, HOST, HostBuffer, IoLane, Launch, LinkSpec, Move, Report, take_result,
};
use chunkwise::id::{DeviceId, SpaceId};
use chunkwise::kernel::{Fault, Kernel, Lane, Scratch, Work};
use chunkwise::ndarray::{Array1, Array2};
use chunkwise::runtime::{Inside, Plan, Record};
use chunkwise::schedule::{Candidate, Choice, Policy, Ready};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Layout, Opaque};
use chunkwise::task::GraphBuilder;
use chunkwise::{Array, prelude::*};
use support::wait::{settled, within};

fn spd(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, n), |(i, j)| if i == j { n as f64 } else { 1.0 / (1.0 + i.abs_diff(j) as f64) })
}

/// A Rust value that says how many of its kind there are.
struct Counted {
    alive: Arc<AtomicUsize>,
    place: f64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Makes a value from the one before; tells the most that there have been at once.
struct Next {
    alive: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    bytes: u64,
}

impl Kernel for Next {
    fn name(&self) -> Cow<'static, str> {
        "next".into()
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work { flops: 1e4, bytes: 0.0 }
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let before = inputs.first().map(|input| input.opaque().and_then(|o| o.downcast_ref::<Counted>()).expect("a value"));
        let place = before.map_or(0.0, |counted| counted.place) + 1.0;
        if outputs[0].layout().dtype == DType::F64 {
            outputs[0].set(0, 0, place);
        } else if self.bytes > 0 {
            self.most.fetch_max(self.alive.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let value = Arc::new(Counted { alive: self.alive.clone(), place });
            outputs[0].set_opaque(Opaque { value, bytes: self.bytes });
        }
        Ok(())
    }
}

/// Chains of Rust values of 100 kB stated, each made from the one before; the ends are the result.
fn chains(count: usize, length: usize, next: Next) -> Plan {
    let mut graph = GraphBuilder::new();
    let (result, kernel) = (graph.array(DType::F64, count, true), graph.kernel(Arc::new(next)));
    graph.group("chains");
    for chain in 0..count {
        let mut last = Vec::new();
        for _ in 0..length {
            let value = graph.opaque(100_000);
            graph.write(kernel, &[], &last, value).expect("graph");
            last = vec![value];
        }
        let out = graph.window(result, chain, &Layout::contiguous(DType::F64, &[]));
        graph.write(kernel, &[], &last, out).expect("graph");
    }
    plan(graph, vec![None])
}

#[test]
fn rust_values_count_in_the_limit_and_go_with_their_last_reader() {
    within(60, || {
        let counts = || (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let next = |(alive, most): &(Arc<AtomicUsize>, Arc<AtomicUsize>), bytes| Next {
            alive: alive.clone(),
            most: most.clone(),
            bytes,
        };
        let session = |threads: usize, limit| {
            Session::builder().threads(threads).cache_dir("").memory_limit(limit).build().expect("session")
        };
        // Room for two, of whichever chain, and for all. (Where two threads work, one may begin while the other is still dropping.)
        for (threads, limit, most) in [(1, "260kB", 2), (2, "260kB", 4), (2, "100MB", 10)] {
            let (session, counted) = (session(threads, limit), counts());
            for _ in 0..3 {
                let handle = session.submit(chains(4, 25, next(&counted, 90_000)), Instant::now()).expect("submits");
                let begin = Instant::now();
                while !handle.is_done() || counted.0.load(Ordering::SeqCst) > 0 {
                    assert!(begin.elapsed() < Duration::from_secs(20), "{} values are left", counted.0.load(Ordering::SeqCst));
                    std::thread::sleep(Duration::from_millis(1));
                }
                let (results, _) = handle.wait().expect("runs");
                let taken = results.into_iter().flatten().next().and_then(take_result::<f64>).expect("one result");
                assert_eq!(taken.vec[taken.start..][..4], [26.0; 4]);
            }
            let found = counted.1.load(Ordering::SeqCst);
            assert!((1..=most).contains(&found), "{found} at once, limit {limit}");
            settled(&session);
        }
        let error = values(&session(1, "150kB"), chains(1, 2, next(&counts(), 1))).expect_err("two do not fit");
        assert!(matches!(&error, Error::OutOfMemory { .. }), "{error}");
        // What a kernel makes is what was stated.
        let (session, counted) = (session(2, "10MB"), counts());
        for (bytes, why) in [(100_001, "were stated"), (0, "has set no value")] {
            let error = values(&session, chains(2, 3, next(&counted, bytes))).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
            settled(&session);
            // What it made is dropped, by a thread that may be at it.
            let left = counted.0.clone();
            within(20, move || (0..).find(|_| left.load(Ordering::SeqCst) == 0).is_some());
        }
    });
}

/// A policy with a memory of its own, so that replay needs the same one from the start.
struct Alternate(usize);

impl Policy for Alternate {
    fn name(&self) -> String {
        "alternate".into()
    }
    fn place(&mut self, task: Ready, candidates: &[Candidate]) -> Choice {
        self.0 += 1;
        Choice { candidate: self.0 % candidates.len(), priority: task.level_ns }
    }
}

#[test]
fn the_event_log_replays_to_the_same_actions() {
    let link = LinkSpec { latency_ns: 1000, bytes_per_s: 2e9 };
    let policies: [fn() -> Box<dyn Policy>; 2] = [|| Placement::Auto.policy(), || Box::new(Alternate(0))];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.record");
    for policy in policies {
        let far = Cpu::behind_link("far", 1, SpaceId(1), [link; 2]).expect("pool");
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(2).expect("pool")), Arc::new(IoLane::new()), Arc::new(far)];
        let session = Session::builder().devices(devices).policy(policy).cache_dir("").record(&path).build().expect("session");
        let l = Array::from(spd(64)).in_session(&session).try_chunks(16).expect("chunks").cholesky();
        l.compute().expect("positive definite");
        drop(l.start().expect("starts"));
        settled(&session);
        drop((l, session));
        let replayed = Record::read(&path).expect("a record").replay_with(policy()).expect("the same actions");
        assert!(replayed.actions > 40 && replayed.graphs == 2, "{replayed:?}");
    }
}

#[test]
fn handles_dropped_at_any_time_leave_nothing() {
    within(60, || {
        let session = Session::builder().threads(2).cache_dir("").build().expect("session");
        for wait_us in [0, 10, 50, 100, 300, 1000, 3000] {
            let l = Array::from(spd(128)).in_session(&session).try_chunks(16).expect("chunks").cholesky();
            let pending = l.start().expect("starts");
            std::thread::sleep(Duration::from_micros(wait_us));
            drop(pending);
            assert!(l.compute().is_ok(), "the next run works");
        }
        settled(&session);
    });
}

/// The session's threads end with it: a kernel's `Arc` that only the pool could hold is gone.
#[test]
fn a_dropped_session_lets_everything_go() {
    within(30, || {
        let values = Arc::new(vec![1.0f64; 1000]);
        for _ in 0..5 {
            let session = Session::builder().threads(2).cache_dir("").build().expect("session");
            let mut graph = GraphBuilder::new();
            let array = graph.array(DType::F64, 1000, false);
            let input = graph.window(array, 0, &Layout::contiguous(DType::F64, &[1000]));
            let result = graph.array(DType::F64, 1, true);
            let out = graph.window(result, 0, &Layout::contiguous(DType::F64, &[]));
            let kernel = graph.kernel(Arc::new(Calls(|| Ok(1.0), 0)));
            graph.group("call");
            graph.write(kernel, &[], &[input], out).expect("graph");
            let caller = HostBuffer::caller(&values);
            let handle = session.submit(plan(graph, vec![Some(caller), None]), Instant::now()).expect("submits");
            drop(session);
            handle.wait().expect("runs");
        }
        let begin = Instant::now();
        while Arc::strong_count(&values) > 1 {
            assert!(begin.elapsed() < Duration::from_secs(10), "{} owners", Arc::strong_count(&values));
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// A kernel that runs a closure, writes its value, and fills scratch of so many bytes.
struct Calls<F>(F, usize);

impl<F: Fn() -> Result<f64> + Send + Sync + 'static> Kernel for Calls<F> {
    fn name(&self) -> Cow<'static, str> {
        "calls".into()
    }
    fn lane(&self) -> Lane {
        Lane::Compute
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work { flops: 1e5, bytes: 0.0 }
    }
    fn scratch_bytes(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> u64 {
        self.1 as u64
    }
    fn run_cpu(
        &self,
        _: &[u8],
        _: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        scratch.take::<u8>(self.1).fill(1);
        outputs[0].set(0, 0, (self.0)()?);
        Ok(())
    }
}

fn plan(graph: GraphBuilder, arrays: Vec<Option<Arc<HostBuffer>>>) -> Plan {
    Plan::new(graph, arrays).expect("a graph and its arrays")
}

/// One task per closure call; the result's elements are what they return.
fn calls(count: usize, padding: usize, what: impl Fn() -> Result<f64> + Send + Sync + 'static) -> Plan {
    calls_with(0, count, padding, what)
}

fn calls_with(scratch: usize, count: usize, padding: usize, what: impl Fn() -> Result<f64> + Send + Sync + 'static) -> Plan {
    let mut graph = GraphBuilder::new();
    let result = graph.array(DType::F64, count + padding, true);
    let kernel = graph.kernel(Arc::new(Calls(what, scratch)));
    graph.group("calls");
    for i in 0..count {
        let out = graph.window(result, i, &Layout::contiguous(DType::F64, &[]));
        graph.write(kernel, &[], &[], out).expect("graph");
    }
    plan(graph, vec![None])
}

fn values(session: &Session, plan: Plan) -> Result<Vec<f64>> {
    let (results, _) = session.submit(plan, Instant::now())?.wait()?;
    let taken = results.into_iter().flatten().next().and_then(take_result::<f64>).expect("one result");
    Ok(taken.vec[taken.start..].to_vec())
}

/// What a run's tasks took as scratch is counted as long as the run goes on, and not longer: so it must be gone then.
#[test]
fn scratch_goes_with_the_run_although_another_goes_on_and_results_wait() {
    within(60, || {
        let session = Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").build().expect("session");
        let open = Arc::new(AtomicBool::new(false));
        let gate = open.clone();
        let waits = move || {
            while !gate.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(1.0)
        };
        let submit = |plan| session.submit(plan, Instant::now()).expect("submits");
        let (small, large) = (submit(calls_with(1 << 20, 1, 0, waits)), submit(calls_with(64 << 20, 6, 0, || Ok(2.0))));
        assert!(large.wait_timeout(Duration::from_secs(30)));
        while session.counters(DeviceId(0)).bytes > 16 << 20 {
            std::thread::sleep(Duration::from_millis(1));
        }
        open.store(true, Ordering::Relaxed);
        small.wait().expect("ends");
    });
}

#[test]
fn a_task_may_compute() {
    for threads in [1, 2] {
        within(30, move || {
            let session = Session::builder().threads(threads).cache_dir("").build().expect("session");
            let inner = session.clone();
            let plan = calls(6, 0, move || {
                let a = Array::from(Array1::from_elem(100, 2.0)).in_session(&inner).try_chunks(10)?;
                let deeper = inner.clone();
                let nested = values(
                    &inner,
                    calls(3, 0, move || {
                        Array::from(Array1::from_elem(10, 1.0)).in_session(&deeper).try_chunks(3)?.mean().compute_scalar()
                    }),
                )?;
                Ok(a.mean().compute_scalar()? + nested[..3].iter().sum::<f64>())
            });
            assert_eq!(values(&session, plan).expect("no deadlock")[..6], [5.0; 6]);
            settled(&session);
        });
    }
}

/// Memory that only those who wait could free: refused after a while, not waited for for ever.
#[test]
fn waiting_for_ones_own_memory_ends() {
    within(60, || {
        let session = Session::builder().threads(1).cache_dir("").memory_limit("10kB");
        let session = session.stall_after(1000, Duration::from_millis(300)).build().expect("session");
        let first = session.submit(calls(1, 1000, || Ok(1.0)), Instant::now()).expect("fits");
        let second = session.submit(calls(1, 1000, || Ok(2.0)), Instant::now()).expect("waits");
        let error = second.wait().expect_err("the first result is never taken");
        assert!(matches!(&error, Error::OutOfMemory { .. }), "{error}");
        first.wait().expect("is there");
        let inner = session.clone();
        let plan = calls(1, 1000, move || Ok(values(&inner, calls(1, 1000, || Ok(2.0)))?[0]));
        let error = values(&session, plan).expect_err("the outer task holds what the inner one needs");
        assert!(matches!(&error, Error::OutOfMemory { .. }), "{error}");
        assert_eq!(values(&session, calls(1, 1000, || Ok(3.0))).expect("next run works")[0], 3.0);
        settled(&session);
    });
}

/// A device whose link never delivers.
struct NoLink(Cpu);

// SAFETY: a launch or move goes on to the inner device, or is dropped before it is reported as failed.
unsafe impl Device for NoLink {
    fn spec(&self) -> &DeviceSpec {
        self.0.spec()
    }
    fn launch(&self, launch: Launch) {
        self.0.launch(launch);
    }
    fn transfer(&self, mv: Move) {
        let Move { from, to, done, .. } = mv;
        drop((from, to));
        std::thread::spawn(move || {
            let error = Error::Task { task: "move".into(), message: "the link is down".into() };
            done(Report {
                elapsed_ns: 1,
                measured: true,
                since_ns: 0,
                worker: 0,
                opaque: Vec::new(),
                outcome: Err(Failure::Device(error)),
            });
        });
    }
}

#[test]
fn a_link_that_fails_is_an_error() {
    within(30, || {
        let link = LinkSpec { latency_ns: 0, bytes_per_s: 1e9 };
        let far = NoLink(Cpu::behind_link("far", 1, SpaceId(1), [link; 2]).expect("pool"));
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(far), Arc::new(IoLane::new())];
        let session = Session::builder().devices(devices).cache_dir("").build().expect("session");
        let a = Array::from(spd(30)).in_session(&session).try_chunks(10).expect("chunks");
        let error = a.mean().compute().expect_err("nothing arrives");
        assert!(error.to_string().contains("the link is down"), "{error}");
        settled(&session);
        assert_eq!(session.devices()[0].space, SpaceId(1));
        assert_ne!(session.devices()[0].space, HOST);
    });
}

#[test]
fn long_timeouts_and_odd_settings() {
    assert!(Cpu::new(0).is_err());
    assert!(Session::builder().threads(0).build().is_err());
    let session = Session::builder().threads(1).cache_dir("").build().expect("session");
    let pending = Array::from(spd(4)).in_session(&session).mean().start().expect("starts");
    assert!(pending.wait_timeout(Duration::MAX));
    assert!(pending.is_done());
}

/// Where a call on this thread panics, and with which words.
fn panic_of(call: impl FnOnce() + std::panic::UnwindSafe) -> (String, u32, String) {
    use std::sync::{LazyLock, Mutex, PoisonError};
    static LAST: Mutex<Option<(std::thread::ThreadId, String, u32)>> = Mutex::new(None);
    static HOOK: LazyLock<()> = LazyLock::new(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
            match (&*last, info.location()) {
                (Some((id, ..)), Some(at)) if *id == std::thread::current().id() => {
                    *last = Some((std::thread::current().id(), at.file().to_owned(), at.line()));
                }
                _ => usual(info),
            }
        }));
    });
    LazyLock::force(&HOOK);
    let lock = || LAST.lock().unwrap_or_else(PoisonError::into_inner);
    *lock() = Some((std::thread::current().id(), String::new(), 0));
    let payload = std::panic::catch_unwind(call).expect_err("the call panics");
    let (_, file, line) = lock().take().expect("the hook ran");
    let text = payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    (file, line, text.expect("a panic with words"))
}

/// A word of what the call says, the line it is on, and the call.
macro_rules! mistake {
    ($word:literal, $call:expr) => {
        ($word, line!(), Box::new(|| drop($call)) as Box<dyn FnOnce() + std::panic::UnwindSafe + '_>)
    };
}

#[test]
fn a_callers_mistake_panics_where_the_caller_is() {
    let (a, x) = (&Array::from(spd(6)), &Array::from(Array1::<f64>::ones(5)));
    let kernel = || Arc::new(chunkwise::kernel::sums::Add);
    let calls = [
        mistake!("chunks", a.clone().chunks(0)),
        mistake!("matvec", a.matvec(x)),
        mistake!("weighted_mean", a.weighted_mean(x)),
        mistake!("cholesky", x.cholesky()),
        mistake!("with_kernel", a.with_kernel::<f64>(&[x], kernel(), &())),
        mistake!("random_uniform", Array::<f64>::random_uniform([usize::MAX, 2])),
    ];
    for (word, wanted, call) in calls {
        let (file, line, text) = panic_of(call);
        assert!(file.ends_with("tests/runtime.rs") && line == wanted, "{word}: {file}:{line}: {text}");
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn an_error_debugs_as_it_displays() {
    let error = Array::from(Array1::<f64>::ones(3)).try_matvec(&Array::from(Array1::ones(3))).expect_err("no matrix");
    assert_eq!(format!("{error:?}"), error.to_string());
    assert!(format!("{error:?}").contains("wanted: a matrix"), "{error:?}");
}

/// A panic may pass over them (a server that catches it goes on with them).
#[test]
fn sessions_and_arrays_are_unwind_safe() {
    fn both<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    fn arrays<T: chunkwise::shape::Element>() {
        both::<Array<T>>();
    }
    both::<Session>();
    arrays::<f64>();
    both::<Pending<f64>>();
}
