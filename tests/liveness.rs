//! Nothing hangs and nothing starves: slow kernels, memory that waits. (User code that calls the session: callbacks.rs.)
//!
//! Owns: what a user sees of the stall rule, of waiting inside tasks and of admission. Must not know: how the scheduler does it. Invariant:
//! everything runs with a time limit, and what is asserted are results and counts, not speeds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use chunkwise::ndarray::Array1;
use chunkwise::runtime::Handle;
use chunkwise::{Array, prelude::*};
use support::calls::{SILENT, SOME, impatient, plan, session, sleeper, start, values};
use support::wait::{settled, within};

/// A first run, and work that says nothing, are no ground to call a task late: it runs once, whatever it takes.
#[test]
fn a_slow_kernel_whose_time_is_unknown_runs_once() {
    for (threads, work) in [(1, SILENT), (2, SILENT), (1, SOME), (2, SOME)] {
        within(30, move || {
            let session = impatient(threads);
            let (ms, runs) = (Arc::new(AtomicUsize::new(400)), Arc::new(AtomicUsize::new(0)));
            let found = values(start(&session, plan(1, 0, work, sleeper(ms, runs.clone()))));
            assert_eq!(found.expect("slow is not wrong"), [7.0]);
            assert_eq!(runs.load(Ordering::Relaxed), 1, "{threads} threads");
            assert_eq!(values(start(&session, plan(1, 0, SOME, |_| Ok(1.0)))).expect("the session works"), [1.0]);
        });
    }
}

/// Beyond even that, somebody idle may try too; whoever ends first counts, and the graph never fails for it.
#[test]
fn a_task_that_takes_for_ever_once_is_tried_again_by_whoever_is_idle() {
    within(30, || {
        let session = impatient(2);
        let runs = Arc::new(AtomicUsize::new(0));
        let counts = runs.clone();
        let what = move |_| {
            if counts.fetch_add(1, Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_secs(6));
            }
            Ok(5.0)
        };
        let began = Instant::now();
        assert_eq!(values(start(&session, plan(1, 0, SILENT, what))).expect("the second try"), [5.0]);
        assert!(began.elapsed() < Duration::from_millis(5900), "nobody waits for the first try");
        assert_eq!(runs.load(Ordering::Relaxed), 2);
    });
}

/// What takes ten times as long as was measured is right all the same, with nobody else to try and with somebody.
#[test]
fn a_task_slower_than_measured_ends() {
    for threads in [1, 2] {
        within(30, move || {
            let session = impatient(threads);
            let (ms, runs) = (Arc::new(AtomicUsize::new(5)), Arc::new(AtomicUsize::new(0)));
            for _ in 0..6 {
                values(start(&session, plan(1, 0, SOME, sleeper(ms.clone(), runs.clone())))).expect("measured");
            }
            ms.store(150, Ordering::Relaxed);
            assert_eq!(values(start(&session, plan(1, 0, SOME, sleeper(ms, runs.clone())))).expect("slow"), [7.0]);
            let most = if threads == 1 { 7 } else { 9 };
            let ran = runs.load(Ordering::Relaxed);
            assert!((7..=most).contains(&ran), "{threads} threads: {ran} runs");
        });
    }
}

/// A caller's array counts once, however many runs read it, and not for longer than they run.
#[test]
fn an_array_counts_once() {
    within(60, || {
        let builder = Session::builder().threads(2).placement(Placement::Cpu).cache_dir("").memory_limit("1MB");
        let session = builder.build().expect("session");
        let a = Array::from(Array1::from_elem(75_000, 1.5)).in_session(&session).try_chunks(10_000).expect("chunks");
        let pending: Vec<_> = (0..4).map(|_| a.mean().start().expect("starts")).collect();
        let again = a.mean().compute_scalar().expect("beside results that nobody has taken yet");
        assert_eq!(again, 1.5);
        for one in pending {
            assert_eq!(one.wait().expect("fits").0.first(), Some(&1.5));
        }
        assert_eq!(session.used_bytes(), 0);
    });
}

/// What fits beside a run goes ahead of what does not, and what a task waits for ahead of all.
#[test]
fn a_small_run_does_not_wait_behind_a_large_one() {
    within(60, || {
        let builder = Session::builder().threads(1).placement(Placement::Cpu).cache_dir("").memory_limit("100kB");
        let session = builder.build().expect("session");
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let inner = session.clone();
        let first = start(
            &session,
            plan(1, 7_000, SOME, move |_| {
                // While the large one waits: a nested run, and one from outside.
                held.lock().expect("one task").recv_timeout(Duration::from_secs(20)).expect("released");
                Ok(values(start(&inner, plan(1, 100, SOME, |_| Ok(3.0))))?[0])
            }),
        );
        let large = start(&session, plan(1, 8_000, SOME, |_| Ok(2.0)));
        let small = start(&session, plan(1, 100, SOME, |_| Ok(1.0)));
        release.send(()).expect("the task waits");
        assert_eq!(values(first).expect("its nested run goes ahead")[0], 3.0);
        assert_eq!(values(small).expect("fits beside")[0], 1.0);
        assert_eq!(values(large).expect("when the first is over")[0], 2.0);
    });
}

/// A small run beside a large one gets its share of the workers.
#[test]
fn a_small_run_beside_a_large_one_is_done_soon() {
    within(60, || {
        let session = session(1);
        let done = Arc::new(AtomicUsize::new(0));
        let counts = done.clone();
        let tick = || std::thread::sleep(Duration::from_micros(200));
        let large = start(
            &session,
            plan(3_000, 0, SOME, move |_| {
                tick();
                Ok(counts.fetch_add(1, Ordering::Relaxed) as f64)
            }),
        );
        while done.load(Ordering::Relaxed) < 10 {
            std::thread::yield_now();
        }
        let before = done.load(Ordering::Relaxed);
        let small = start(
            &session,
            plan(20, 0, SOME, move |_| {
                tick();
                Ok(0.0)
            }),
        );
        values(small).expect("its half");
        let meanwhile = done.load(Ordering::Relaxed) - before;
        assert!(meanwhile < 300, "{meanwhile} tasks of the large run were done before 20 of the small one");
        values(large).expect("the rest");
    });
}

/// Runs that wait for memory may be dropped at any time.
#[test]
fn waiting_runs_that_are_dropped_leave_nothing() {
    within(60, || {
        let builder = Session::builder().threads(1).placement(Placement::Cpu).cache_dir("").memory_limit("100kB");
        let session = builder.build().expect("session");
        for round in 0..20 {
            let mut runs: Vec<Handle> =
                (0..6).map(|i| start(&session, plan(1, 8_000, SOME, move |_| Ok(f64::from(i))))).collect();
            drop(runs.remove(round % 5 + 1));
            drop(runs.remove(2));
            for run in runs {
                assert!(values(run).is_ok());
            }
        }
        settled(&session);
    });
}

/// Thousands of runs at once behind one that takes its time, none taken before all are begun.
#[test]
fn thousands_of_runs_wait_side_by_side() {
    within(120, || {
        let session = session(2);
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let first = plan(2, 0, SOME, move |_| {
            let _ = held.lock().expect("the tasks' own").recv(); // the sender has gone
            Ok(0.0)
        });
        let first = start(&session, first);
        let runs: Vec<Handle> = (0..20_000).map(|i| start(&session, plan(1, 0, SOME, move |_| Ok(f64::from(i))))).collect();
        drop(release);
        for (i, run) in runs.into_iter().enumerate() {
            assert_eq!(values(run).expect("ends"), [i as f64]);
        }
        values(first).expect("ends");
        assert!(session.is_idle());
    });
}

/// A launch that is only slow costs its own graph an error at most: other runs wait for the worker, and run when it is back.
#[test]
fn a_slow_task_does_not_fail_other_runs() {
    within(60, || {
        let session = impatient(1);
        let (ms, runs) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..6 {
            values(start(&session, plan(1, 0, SOME, sleeper(ms.clone(), runs.clone())))).expect("measured");
        }
        ms.store(800, Ordering::Relaxed);
        let slow = start(&session, plan(1, 0, SOME, sleeper(ms, runs)));
        let other = start(&session, plan(5, 0, SILENT, |_| Ok(3.0)));
        assert!(matches!(values(slow), Err(Error::Stalled { .. })), "longer than seven allowances");
        let later = start(&session, plan(1, 0, SILENT, |_| Ok(4.0)));
        assert_eq!(values(other).expect("waits for the worker"), [3.0; 5]);
        assert_eq!(values(later).expect("so does one that comes later"), [4.0]);
    });
}
