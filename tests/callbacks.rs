//! User code may call the session back, wherever it is called: kernels, sources, sinks, values, errors, devices, warnings.
//!
//! Owns: that no lock is held there (src/runtime/README.md has the list). Must not know: which locks there are. Invariant: everything has a time limit, and
//! somebody else's small computations go on meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chunkwise::cost::Rates;
use chunkwise::device::{Cpu, Device, DeviceSpec, Failure, IoLane, Launch, LinkSpec, Move, Report};
use chunkwise::id::{DeviceId, SpaceId};
use chunkwise::ndarray::Array1;
use chunkwise::runtime::{Inside, Plan, Record};
use chunkwise::schedule::{Candidate, Choice, Policy, Ready};
use chunkwise::shape::{DType, Layout};
use chunkwise::task::{ChunkSink, GraphBuilder};
use chunkwise::{Array, prelude::*};
use support::curious::{Ask, Asks, Curious, End, Nosy, OPAQUE, curious_error};
use support::wait::{settled, within};

/// Somebody else's small computations, one after the other while `work` goes on: none takes long.
fn beside<R>(session: &Session, work: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (mut longest, mut count) = (Duration::ZERO, 0);
            while count == 0 || !over.load(Ordering::Relaxed) {
                let (begin, x) = (Instant::now(), Array::from(Array1::from_elem(20, 0.5)).in_session(session));
                assert_eq!(x.mean().compute_scalar().expect("the others' affair"), 0.5);
                (longest, count) = (longest.max(begin.elapsed()), count + 1);
                std::thread::sleep(Duration::from_micros(200));
            }
            longest
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        let longest = other.join().expect("no panic");
        assert!(longest < Duration::from_secs(3), "a small computation took {longest:?}");
        result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

#[track_caller]
fn all_were_asked(ask: &Ask, wanted: &[&str]) {
    let places = ask.places();
    let missing: Vec<_> = wanted.iter().filter(|place| !places.contains_key(**place)).collect();
    assert!(missing.is_empty(), "never asked: {missing:?}; asked: {places:?}");
}

/// Opaque values that are made and taken.
fn values(ask: &Ask) -> Plan {
    let mut graph = GraphBuilder::new();
    let (result, kernel) = (graph.array(DType::F64, 5, true), graph.kernel(Curious::new(ask, false)));
    graph.group("values");
    for i in 0..5 {
        let value = graph.opaque(64);
        graph.write(kernel, &[], &[], value).expect("graph");
        let out = graph.window(result, i, &Layout::contiguous(DType::F64, &[]));
        graph.write(kernel, &[OPAQUE], &[value], out).expect("graph");
    }
    Plan::new(graph, vec![None]).expect("plan")
}

/// All that a user's code is asked on a CPU, in runs that end, fail and are cancelled.
fn ask_everything(session: &Session, ask: &Ask) {
    let a = Array::from(Array1::from_elem(100, 2.0)).in_session(session).try_chunks(10).expect("chunks");
    let copied = || -> Array<f64> { a.with_kernel(&[], Curious::new(ask, false), &()) };
    assert_eq!(copied().explain().expect("explained").groups.len(), 1);
    assert!(copied().compute().expect("no deadlock").iter().all(|&x| x == 2.0));
    drop(copied().start().expect("starts")); // cancelled
    let failing: Array<f64> = a.with_kernel(&[], Curious::new(ask, true), &());
    drop(failing.compute().expect_err("it fails"));
    drop(failing);
    session.submit(values(ask), Instant::now()).expect("submits").wait().expect("values");
    drop(session.submit(values(ask), Instant::now()).expect("submits"));
    let read = Array::<f64>::from_source(End::new(ask, "a source goes")).expect("a source").in_session(session);
    let read = read.try_chunks(30).expect("chunks");
    assert!(read.compute().expect("reads").iter().all(|&x| x == 3.0));
    let sink: Arc<dyn ChunkSink> = End::new(ask, "a sink goes");
    read.store_into(&sink).expect("stores");
    drop((read, sink));
}

const ON_A_CPU: [&str; 23] = [
    "name",
    "version",
    "content",
    "lane",
    "is_steady",
    "check",
    "work",
    "scratch_bytes",
    "held",
    "hold",
    "input_form",
    "packed_len",
    "pack",
    "run_cpu",
    "a kernel goes",
    "what is held goes",
    "a value goes",
    "an error goes",
    "a source goes",
    "a source's read",
    "a sink goes",
    "a sink's put",
    "a sink's commit",
];

#[test]
fn user_code_may_call_the_session_on_a_cpu() {
    for threads in [1, 3] {
        within(30, move || {
            let ask = Ask::default();
            let session = Session::builder().threads(threads).placement(Placement::Cpu).cache_dir("").build().expect("session");
            ask.call(Some(&session));
            beside(&session, || ask_everything(&session, &ask));
            settled(&session);
            all_were_asked(&ask, &ON_A_CPU);
            ask.call(None);
        });
    }
}

#[cfg(feature = "gpu")]
support::gpus!();

#[cfg(feature = "gpu")]
#[test]
fn user_code_may_call_the_session_beside_a_gpu() {
    let Some(device) = gpu() else { return };
    within(40, move || {
        let ask = Ask::default();
        let session = support::gpu::session(Placement::Auto, &[device]);
        // All goes to the GPU, but for what only a CPU can do.
        prefer(&session);
        ask.call(Some(&session));
        beside(&session, || {
            ask_everything(&session, &ask);
            let a = Array::from(Array1::from_elem(1000, 2.0f32)).in_session(&session).try_chunks(100).expect("chunks");
            for round in 0..5 {
                let copied: Array<f32> = a.with_kernel(&[], Curious::new(&ask, false), &());
                let started = copied.start().expect("starts");
                drop(copied);
                if round % 2 == 0 {
                    let (found, run) = started.wait().expect("computes");
                    assert!(found.iter().all(|&x| x == 2.0) && support::gpu::tasks_on(&run, "gpu0") > 0);
                } // else cancelled: what is under way is dropped by whoever reports last
            }
        });
        settled(&session);
        all_were_asked(&ask, &ON_A_CPU);
        all_were_asked(&ask, &["program"]);
        ask.call(None);
    });
}

/// Makes the scheduler believe that device 2 is much faster than device 0.
fn prefer(session: &Session) {
    for (device, per_second) in [(0, 1e3), (2, 1e15)] {
        let rates = Rates { launch_ns: 1e3, f32_flops: per_second, f64_flops: per_second, bytes_per_s: per_second };
        session.set_rates(DeviceId(device), rates);
    }
}

/// The devices of a session: a CPU, the I/O lane, and this one.
fn with_device(device: Arc<dyn Device>, ask: &Ask) -> Session {
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(IoLane::new()), device];
    let warns = ask.clone();
    let builder = Session::builder().devices(devices).cache_dir("").memory_limit("100MB").warnings(move |text| {
        assert!(!text.is_empty());
        warns.at("a warning");
    });
    builder.build().expect("session")
}

fn behind_a_link() -> Cpu {
    let link = LinkSpec { latency_ns: 1000, bytes_per_s: 1e10 };
    Cpu::behind_link("far", 1, SpaceId(1), [link, link]).expect("pool")
}

#[test]
fn a_users_device_may_call_the_session() {
    within(30, || {
        let ask = Ask::default();
        let session = with_device(Arc::new(Nosy(behind_a_link(), ask.clone())), &ask);
        prefer(&session);
        ask.call(Some(&session));
        beside(&session, || ask_everything(&session, &ask));
        settled(&session);
        all_were_asked(&ask, &ON_A_CPU);
        let asked =
            ["launch", "transfer", "allocate", "counters", "rest", "on_worker"].map(|what| format!("a device's {what}"));
        all_were_asked(&ask, &asked.each_ref().map(String::as_str));
        ask.call(None);
    });
}

/// A device that fails with a user's error.
struct Broken(DeviceSpec, Ask);

// SAFETY: a launch or move is dropped before it is reported as failed.
unsafe impl Device for Broken {
    fn spec(&self) -> &DeviceSpec {
        &self.0
    }
    fn launch(&self, launch: Launch) {
        let Launch { body, done, .. } = launch;
        drop(body);
        fail(done, Failure::Device(curious_error(&self.1)));
    }
    fn transfer(&self, mv: Move) {
        let Move { from, to, done, .. } = mv;
        drop((from, to));
        fail(done, Failure::Device(curious_error(&self.1)));
    }
}

/// On a thread of its own, as devices do.
fn fail(done: chunkwise::device::Done, failure: Failure) {
    let outcome = Err(failure);
    std::thread::spawn(|| done(Report { elapsed_ns: 1, measured: true, since_ns: 0, worker: 0, opaque: Vec::new(), outcome }));
}

#[test]
fn a_warning_and_the_error_in_it_may_call_the_session() {
    for linked in [false, true] {
        within(30, move || {
            let ask = Ask::default();
            let (inner, near) = (behind_a_link(), Cpu::new(1).expect("pool"));
            let spec = if linked { inner.spec().clone() } else { near.spec().clone() };
            let spec = DeviceSpec { name: "broken".into(), model: "broken".into(), ..spec };
            let session = with_device(Arc::new(Broken(spec, ask.clone())), &ask);
            prefer(&session);
            ask.call(Some(&session));
            beside(&session, || ask_everything(&session, &ask));
            settled(&session);
            all_were_asked(&ask, &["a warning", "an error is put into words", "an error goes", "a kernel goes"]);
            ask.call(None);
        });
    }
}

/// The policy of a session panics at its first choice; those that are made for simulations do not.
struct Panics(Option<Asks>);

static PANICS: Mutex<Option<Asks>> = Mutex::new(None);

impl Policy for Panics {
    fn name(&self) -> String {
        "panics".into()
    }
    fn place(&mut self, _: Ready, _: &[Candidate]) -> Choice {
        match self.0.take() {
            Some(payload) => std::panic::panic_any(payload),
            None => Choice { candidate: 0, priority: 0 },
        }
    }
}

#[test]
fn what_a_policy_panics_with_may_call_the_session() {
    within(30, || {
        let ask = Ask::default();
        *PANICS.lock().expect("no panic under it") = Some(Asks(ask.clone(), "a panic goes"));
        let policy = || Box::new(Panics(PANICS.lock().expect("no panic under it").take())) as Box<dyn Policy>;
        let session = {
            let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(behind_a_link())];
            Session::builder().devices(devices).policy(policy).cache_dir("").build().expect("session")
        };
        let x = Array::from(Array1::from_elem(20, 0.5)).in_session(&session);
        ask.look(Some(&session));
        assert!(
            x.try_chunks(5)
                .expect("chunks")
                .mean()
                .compute_scalar()
                .expect_err("it panicked")
                .to_string()
                .contains("scheduler")
        );
        all_were_asked(&ask, &["a panic goes"]);
        ask.look(None);
    });
}

/// Panics on the workers' threads, so that planning (on the caller's) goes well, or everywhere.
struct LosesNerve {
    everywhere: bool,
}

impl Policy for LosesNerve {
    fn name(&self) -> String {
        "panics".into()
    }
    fn place(&mut self, task: Ready, _: &[Candidate]) -> Choice {
        let works = std::thread::current().name().is_some_and(|name| name.starts_with("chunkwise-"));
        assert!(!works && !self.everywhere, "no idea");
        Choice { candidate: 0, priority: task.level_ns }
    }
}

#[test]
fn a_panicking_policy_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.record");
    within(30, move || {
        for everywhere in [false, true] {
            let devices: Vec<Arc<dyn Device>> =
                (0..2).map(|_| Arc::new(Cpu::new(1).expect("pool")) as Arc<dyn Device>).collect();
            let policy = move || Box::new(LosesNerve { everywhere }) as Box<dyn Policy>;
            let builder = Session::builder().devices(devices).policy(policy).cache_dir("").record(&path);
            let session = builder.build().expect("session");
            let mean =
                Array::from(ndarray::Array2::<f64>::ones((30, 30))).in_session(&session).try_chunks(10).expect("chunks").mean();
            for _ in 0..2 {
                let error = mean.compute().expect_err("it panics");
                assert!(matches!(&error, Error::Failed { message, .. } if message.contains("no idea")), "{error}");
                assert_eq!(mean.explain().is_err(), everywhere);
            }
            drop((mean, session));
            if everywhere {
                continue; // nothing was submitted
            }
            // What broke the session is in its record.
            let record = Record::read(&path).expect("a record");
            let replay = |places| record.replay_with(Box::new(Nerves(places))).expect_err("it is broken").to_string();
            let errors: Vec<String> = (0..30).map(replay).collect();
            let same = |error: &&String| error.contains("breaks the session, as it did when it was recorded: no idea");
            assert_eq!(errors.iter().filter(same).count(), 1, "{errors:?}");
            assert!(errors[0].contains("panics: no idea"), "{}", errors[0]);
            assert!(
                errors[29].contains("broke the session when it was recorded (no idea), and does not now"),
                "{}",
                errors[29]
            );
        }
        assert!(path.exists(), "the record");
        // Where it is made, and where it is asked for its name.
        let errors = [
            Session::builder().policy(|| panic!("no idea")).build().err(),
            Session::builder().policy(|| Box::new(Nameless)).build().err(),
        ];
        for error in errors {
            let error = error.expect("it panics");
            assert!(error.to_string() == "the policy of this session failed: it panicked: no idea", "{error}");
        }
    });
}

/// Places as [`LosesNerve`] does, so many times.
struct Nerves(u32);

impl Policy for Nerves {
    fn name(&self) -> String {
        "panics".into()
    }
    fn place(&mut self, task: Ready, _: &[Candidate]) -> Choice {
        self.0 = self.0.checked_sub(1).expect("no idea");
        Choice { candidate: 0, priority: task.level_ns }
    }
}

struct Nameless;

impl Policy for Nameless {
    fn name(&self) -> String {
        panic!("no idea")
    }
    fn place(&mut self, _: Ready, _: &[Candidate]) -> Choice {
        Choice { candidate: 0, priority: 0 }
    }
}
