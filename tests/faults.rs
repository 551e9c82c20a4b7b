//! Every workload with every fault, at the first, a middle and the last launch.
//!
//! Owns: what a user sees of a fault: the right result or one clear error, in bounded time, and a session that goes on. Must not know: how
//! the scheduler recovers. Invariant: each case runs under a time limit, so a hang is a failure and not a wait.

use std::sync::Arc;
use std::time::Duration;

use chunkwise::device::{Cpu, Device, Faulty, HOST, Injection, IoLane, LinkSpec};
use chunkwise::id::SpaceId;
use chunkwise::ndarray::{Array1, Array2, ArrayD};
use chunkwise::{Array, prelude::*};
use support::picture::picture;
use support::wait::within_as;

/// A workload: builds its array anew in a session, so that it can be run again.
type Work = fn(&Session) -> chunkwise::Result<ArrayD<f64>>;

fn mandelbrot(session: &Session) -> chunkwise::Result<ArrayD<f64>> {
    let counts = picture::<f64>(40, 30, 20).try_chunks(10)?.in_session(session);
    Ok(counts.compute()?.mapv(f64::from))
}

fn matrix(m: usize, n: usize) -> Array2<f64> {
    Array2::from_shape_fn((m, n), |(i, j)| ((i * 7 + j * 3) % 11) as f64 - 5.0)
}

fn matvec(session: &Session) -> chunkwise::Result<ArrayD<f64>> {
    let a = Array::from(matrix(40, 30)).in_session(session).try_chunks(10)?;
    let x = Array::from(Array1::from_shape_fn(30, |i| i as f64)).in_session(session);
    a.try_matvec(&x)?.compute()
}

fn cholesky(session: &Session) -> chunkwise::Result<ArrayD<f64>> {
    let mut a = Array2::from_shape_fn((32, 32), |(i, j)| 1.0 / (1.0 + i.abs_diff(j) as f64));
    a.diag_mut().mapv_inplace(|d| d + 32.0);
    Array::from(a).in_session(session).try_chunks(8)?.try_cholesky()?.compute()
}

/// The mean of a file, which the I/O lane or the workers read.
fn file_mean(session: &Session) -> chunkwise::Result<ArrayD<f64>> {
    let file = sample_file();
    let mean = Array::<f64>::open(&format!("{file}:/A"))?.try_chunks((10, 30))?.in_session(session).mean();
    mean.compute()
}

/// Computes into a file, through the I/O lane, and reads that.
fn stored(session: &Session) -> chunkwise::Result<ArrayD<f64>> {
    let folder = tempfile::tempdir_in(folder()).expect("a folder");
    let file = folder.path().join("x.npy").display().to_string();
    let a = Array::from(matrix(40, 30)).in_session(session).try_chunks(10)?;
    let stored = a.store(&file);
    assert_eq!(stored.is_ok(), std::path::Path::new(&file).exists(), "a file is whole or not there");
    stored.and_then(|_| Array::<f64>::open(&file)?.in_session(session).compute())
}

/// Where files go that many cases read: cargo's own place for them, because no test is the last to need it.
fn folder() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

fn sample_file() -> String {
    static FILE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let make = || {
        let file = folder().join("faults.h5").display().to_string();
        Array::from(matrix(40, 30)).store(&format!("{file}:/A")).expect("sample file");
        file
    };
    FILE.get_or_init(make).clone()
}

/// Whether the time of a workload's tasks follows from their work: only then can one be said to hang.
fn is_steady(name: &str) -> bool {
    ["matvec", "cholesky"].contains(&name)
}

const WORKLOADS: [(&str, Work); 5] =
    [("mandelbrot", mandelbrot), ("matvec", matvec), ("mean of a file", file_mean), ("cholesky", cholesky), ("store", stored)];

fn injections() -> [Injection; 5] {
    let delay = Injection::Delay(Duration::from_millis(20));
    [Injection::Panic, Injection::IoError, Injection::DeviceError, Injection::Hang, delay]
}

/// What takes longer hangs: a hundred times what the slowest case needs on an idle machine.
const LIMIT_S: u64 = 60;

/// Short enough to wait for: a task that is only slow gets a second try then, and whichever ends first counts.
const STALL: Duration = Duration::from_millis(100);

/// Runs after which the times of kernels count as measured.
const WARM: u64 = 5;

fn session(devices: Vec<Arc<dyn Device>>) -> Session {
    session_with(devices, STALL)
}

fn session_with(devices: Vec<Arc<dyn Device>>, stall: Duration) -> Session {
    let builder = Session::builder().devices(devices).cache_dir("").memory_limit("1GB");
    builder.stall_after(2, stall).build().expect("session")
}

/// Which device is faulty.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bad {
    Cpu,
    Io,
}

fn faulty(threads: usize, bad: Bad, injection: Injection, at: u64) -> (Session, Arc<Faulty>) {
    let cpu: Arc<dyn Device> = Arc::new(Cpu::new(threads).expect("pool"));
    let io: Arc<dyn Device> = Arc::new(IoLane::new());
    // Where nothing stalls, no delay of a loaded machine may count as a stall.
    let stalls = matches!(injection, Injection::Hang) || matches!(injection, Injection::Delay(time) if time >= STALL);
    let stall = if stalls { STALL } else { Duration::from_secs(LIMIT_S) };
    let device = Arc::new(Faulty::new(if bad == Bad::Cpu { cpu.clone() } else { io.clone() }, injection, at));
    let devices: Vec<Arc<dyn Device>> = match bad {
        Bad::Cpu => vec![device.clone(), io],
        Bad::Io => vec![cpu, device.clone()],
    };
    (session_with(devices, stall), device)
}

/// Number of launches of a faultless run on the device.
fn launches(work: Work, bad: Bad) -> u64 {
    let (session, device) = faulty(2, bad, Injection::Panic, u64::MAX);
    work(&session).expect("no fault");
    device.launches()
}

fn settled(session: &Session, label: &str) {
    let begin = std::time::Instant::now();
    while session.used_bytes() != 0 {
        assert!(begin.elapsed() < Duration::from_secs(LIMIT_S / 2), "{label}: {} B still in use", session.used_bytes());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// One case: the fault strikes launch `at` of the run after `warm` runs of `count` launches.
#[derive(Clone)]
struct Case {
    threads: usize,
    bad: Bad,
    injection: Injection,
    at: u64,
    warm: u64,
    count: u64,
}

fn check(label: &str, work: Work, expected: &ArrayD<f64>, case: &Case) {
    let (threads, at) = (case.threads, case.warm * case.count + case.at);
    let (session, device) = faulty(threads, case.bad, case.injection.clone(), at);
    for _ in 0..case.warm {
        assert_eq!(&work(&session).expect("no fault yet"), expected, "{label}");
    }
    let outcome = work(&session);
    assert!(device.launches() > at, "{label}: the fault was reached");
    match (&case.injection, &outcome) {
        (Injection::Panic, Err(Error::Panicked { task, message })) => {
            assert!(task.contains('#') && message.contains("injected panic"), "{label}: {task}: {message}");
        }
        (Injection::IoError, Err(error)) => assert!(error.to_string().contains("injected I/O error"), "{label}: {error}"),
        (Injection::Hang, Err(Error::Stalled { task, waited_s, .. })) if threads == 1 => {
            assert!(task.contains('#') && *waited_s >= STALL.as_secs_f64(), "{label}: {task} {waited_s}");
        }
        (Injection::DeviceError | Injection::Delay(_) | Injection::Hang, Ok(found)) => assert_eq!(found, expected, "{label}"),
        (_, outcome) => panic!("{label}: {outcome:?}"),
    }
    drop(outcome);
    settled(&session, label);
    if !(threads == 1 && matches!(case.injection, Injection::Hang)) {
        assert_eq!(&work(&session).unwrap_or_else(|e| panic!("{label}: next run: {e}")), expected, "{label}: next run");
        settled(&session, label);
        assert!(session.is_idle() || matches!(case.injection, Injection::Hang), "{label}: something is left behind");
    }
}

fn all_faults(bad: Bad, threads: usize) {
    for (name, work) in WORKLOADS {
        let expected = work(&session(vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(IoLane::new())])).expect("no fault");
        let count = launches(work, bad);
        if count == 0 {
            continue; // this workload does not use the device
        }
        let mut at = vec![0, count / 2, count - 1];
        at.dedup();
        for (injection, at) in injections().into_iter().flat_map(|i| at.iter().map(move |&at| (i.clone(), at))) {
            let label = format!("{name}, {threads} threads, {injection:?} at launch {at} of {count} of {bad:?}");
            let hangs = matches!(injection, Injection::Hang);
            if hangs && threads == 1 && !is_steady(name) {
                continue; // nobody can say how long it may take, and nobody else is there to try: it is waited for
            }
            // With one thread, only measured times end the wait; with two, the first run of all has to end too.
            let warm = if hangs && threads == 1 { WARM } else { 0 };
            let (expected, inner) = (expected.clone(), label.clone());
            let case = Case { threads, bad, injection, at, warm, count };
            within_as(&label, LIMIT_S, move || check(&inner, work, &expected, &case));
        }
    }
}

#[test]
fn faults_of_a_pool_of_two() {
    all_faults(Bad::Cpu, 2);
}

#[test]
fn faults_of_a_pool_of_one() {
    all_faults(Bad::Cpu, 1);
}

#[test]
fn faults_of_the_io_lane() {
    all_faults(Bad::Io, 2);
}

/// A panic while a tile is packed names what it was packed for, whichever launch that is.
#[test]
fn a_panic_names_its_task() {
    within_as("panics", LIMIT_S, || {
        let mut names = Vec::new();
        for at in 0..launches(cholesky, Bad::Cpu) {
            let (session, _) = faulty(1, Bad::Cpu, Injection::Panic, at);
            match cholesky(&session) {
                Err(Error::Panicked { task, .. }) => names.push(task),
                other => panic!("launch {at}: {other:?}"),
            }
        }
        let end = " of cholesky 8x8";
        assert!(names.iter().all(|n| n.contains(" #") && n.ends_with(end)), "{names:?}");
        for begin in ["potrf #", "trsm #", "syrk #", "gemm #", "pack of "] {
            assert!(names.iter().any(|n| n.starts_with(begin)), "no `{begin}` in {names:?}");
        }
    });
}

/// A second pool, in host memory or behind a link, finishes what a broken one cannot.
#[test]
fn another_device_takes_over() {
    let link = LinkSpec { latency_ns: 1000, bytes_per_s: 1e9 };
    for (name, work) in WORKLOADS {
        let expected = work(&session(vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(IoLane::new())])).expect("no fault");
        for far in [false, true] {
            for injection in [Injection::DeviceError, Injection::Hang] {
                let label = format!("{name}, far {far}, {injection:?} for ever");
                let (expected, inner) = (expected.clone(), label.clone());
                within_as(&label, LIMIT_S, move || {
                    let bad = Faulty::from_then_on(Arc::new(Cpu::new(1).expect("pool")), injection, 1);
                    let good = match far {
                        true => Cpu::behind_link("far", 1, SpaceId(1), [link; 2]),
                        false => Cpu::behind_link("second", 1, HOST, [link; 2]),
                    };
                    let session = session(vec![Arc::new(bad), Arc::new(IoLane::new()), Arc::new(good.expect("pool"))]);
                    assert_eq!(work(&session).unwrap_or_else(|e| panic!("{inner}: {e}")), expected, "{inner}");
                    settled(&session, &inner);
                });
            }
        }
    }
}

fn thousand(session: &Session) -> Array<f64> {
    let a = Array::from(matrix(40, 30)).in_session(session).try_chunks(10).expect("chunks");
    a.matvec(&Array::from(Array1::from_elem(30, 1.0)).in_session(session))
}

/// A launch that was given up reports after all, when another has made its result: it only frees its worker.
#[test]
fn a_late_report_changes_nothing() {
    within_as("late report", LIMIT_S, || {
        let count = launches(|session| thousand(session).compute(), Bad::Cpu);
        for at in 0..count {
            let (session, _) = faulty(2, Bad::Cpu, Injection::Delay(6 * STALL), WARM * count + at);
            (0..WARM).for_each(|_| drop(thousand(&session).compute().expect("no fault yet")));
            let began = std::time::Instant::now();
            let (found, report) = thousand(&session).run().expect("rerun");
            assert!(began.elapsed() < 6 * STALL, "launch {at}: nobody waits for the late one");
            let expected = matrix(40, 30).dot(&Array1::from_elem(30, 1.0)).into_dyn();
            assert_eq!(found, expected);
            std::thread::sleep(7 * STALL);
            assert_eq!(found, expected, "the late task writes elsewhere");
            let mut tasks: Vec<_> = report.spans.iter().map(|s| s.task).collect();
            tasks.sort_unstable();
            tasks.dedup();
            assert_eq!((tasks.len(), report.spans.len()), (report.tasks(), report.tasks()));
            assert!(session.is_idle(), "launch {at}: the late report frees the worker");
        }
    });
}

/// With one thread, nobody else could make the result of a launch that takes too long: it is waited for, and taken.
#[test]
fn a_task_slower_than_its_allowance_ends() {
    within_as("slow", LIMIT_S, || {
        let count = launches(|session| thousand(session).compute(), Bad::Cpu);
        for (threads, at) in [(1, 0), (1, count - 1), (2, 0)] {
            let (session, device) = faulty(threads, Bad::Cpu, Injection::Delay(3 * STALL), WARM * count + at);
            (0..WARM).for_each(|_| drop(thousand(&session).compute().expect("no fault yet")));
            let found = thousand(&session).compute().expect("slow is not wrong");
            assert_eq!(found, matrix(40, 30).dot(&Array1::from_elem(30, 1.0)).into_dyn());
            let again = u64::from(threads == 2);
            assert_eq!(device.launches(), (WARM + 1) * count + again, "{threads} threads: run again {again} times");
        }
    });
}

/// Polling counts as waiting, however short each wait: stalls are found.
#[test]
fn a_stall_is_found_by_polling() {
    within_as("polling", LIMIT_S, || {
        let count = launches(|session| thousand(session).compute(), Bad::Cpu);
        let polls: [fn(&chunkwise::Pending<f64>) -> bool; 3] =
            [|p| p.is_done(), |p| p.wait_timeout(Duration::ZERO), |p| p.wait_timeout(Duration::from_micros(50))];
        for poll in polls {
            let (session, _) = faulty(1, Bad::Cpu, Injection::Hang, WARM * count);
            (0..WARM).for_each(|_| drop(thousand(&session).compute().expect("no fault yet")));
            let pending = thousand(&session).start().expect("starts");
            while !poll(&pending) {
                std::thread::yield_now();
            }
            assert!(matches!(pending.wait(), Err(Error::Stalled { .. })));
        }
    });
}

/// Neither handle nor session wait for a wedged device, and all memory but that of the wedged launch is free.
#[test]
fn dropping_never_waits() {
    within_as("drop", LIMIT_S, || {
        let (session, _) = faulty(2, Bad::Cpu, Injection::Hang, 0);
        let a = Array::from(matrix(40, 30)).in_session(&session).try_chunks(10).expect("chunks");
        let pending = a.mean().start().expect("starts");
        drop(pending);
        drop(a);
        drop(session);
    });
}
