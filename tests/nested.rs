//! Tasks that compute: nested runs wait for no thread that waits for them.
//!
//! Owns: what a user sees of waiting, polling and measuring inside tasks. Must not know: how the scheduler does it. Invariant: everything runs
//! with a time limit.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use chunkwise::kernel::Lane;
use chunkwise::ndarray::Array1;
use chunkwise::runtime::{Handle, Inside};
use chunkwise::{Array, prelude::*};
use support::calls::{SILENT, SOME, impatient, plan, plan_on, session, sleeper, start, values};
use support::wait::{settled, within};

/// A task that waits for a run of its own is not late, however long that takes, in this session or in another.
#[test]
fn a_task_that_waits_for_a_nested_run_is_not_late() {
    for elsewhere in [false, true] {
        within(30, move || {
            let outer = impatient(1);
            let inner = if elsewhere { session(1) } else { outer.clone() };
            let (ms, runs) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
            let nested = {
                let (ms, runs) = (ms.clone(), runs.clone());
                move |_| {
                    runs.fetch_add(1, Ordering::Relaxed);
                    let plan = plan(1, 0, SILENT, sleeper(ms.clone(), Arc::new(AtomicUsize::new(0))));
                    Ok(values(inner.submit(plan, Instant::now())?)?[0])
                }
            };
            let nested = Arc::new(nested);
            for _ in 0..6 {
                let nested = nested.clone();
                values(start(&outer, plan(1, 0, SOME, move |i| nested(i)))).expect("measured");
            }
            ms.store(500, Ordering::Relaxed);
            let last = nested.clone();
            assert_eq!(values(start(&outer, plan(1, 0, SOME, move |i| last(i)))).expect("not late"), [7.0]);
            assert_eq!(runs.load(Ordering::Relaxed), 7, "nothing ran twice");
        });
    }
}

/// A worker that waits helps with what it waits for only: its stack does not grow with the tasks that are ready.
#[test]
fn nested_computing_at_scale_needs_no_stack() {
    for threads in [1, 2] {
        within(120, move || {
            let session = session(threads);
            let inner = session.clone();
            let data = Array::from(Array1::from_elem(12, 2.0)).in_session(&session).try_chunks(6).expect("chunks");
            let what = move |_| data.mean().in_session(&inner).compute_scalar();
            let found = values(start(&session, plan(10_000, 0, SOME, what))).expect("no overflow, no deadlock");
            assert!(found.iter().all(|&x| x == 2.0) && found.len() == 10_000);
            assert!(session.is_idle());
        });
    }
}

/// A task waits for one of the I/O lane, which waits for tasks of the worker that waits: the worker lends its place to all of its own.
#[test]
fn nested_computing_may_cross_devices() {
    for threads in [1, 2] {
        within(30, move || {
            let session = session(threads);
            let (io, cpu) = (session.clone(), session.clone());
            let inner = Arc::new(move |i: u32| {
                Ok(values(start(&cpu, plan(3, 0, SOME, |_| Ok(2.0))))?.iter().sum::<f64>() + f64::from(i))
            });
            let outer = move |_| {
                let inner = inner.clone();
                let nested = plan_on(Lane::Io, (4, 0), SOME, move |i| inner(i));
                Ok(values(start(&io, nested))?.iter().sum::<f64>())
            };
            assert_eq!(values(start(&session, plan(6, 0, SOME, outer))).expect("no deadlock"), [30.0; 6]);
            assert!(session.is_idle());
        });
    }
}

const POLLS: [fn(&Handle) -> bool; 3] =
    [Handle::is_done, |h| h.wait_timeout(Duration::ZERO), |h| h.wait_timeout(Duration::from_millis(5))];

fn tight() -> Session {
    let builder = Session::builder().threads(1).placement(Placement::Cpu).cache_dir("").memory_limit("100kB");
    builder.stall_after(10, Duration::from_millis(200)).build().expect("session")
}

/// A task that asks for its nested run again and again, on the only worker: that runs, or is refused because the task has the memory.
#[test]
fn a_task_may_poll_what_it_waits_for() {
    within(60, || {
        for (poll, padding) in POLLS.into_iter().flat_map(|poll| [(poll, 0), (poll, 8_000)]) {
            let (session, refused) = (tight(), padding > 0);
            let inner = session.clone();
            let outer = plan(1, 8_000, SILENT, move |_| {
                let nested = start(&inner, plan(2, padding, SILENT, |_| Ok(3.0)));
                while !poll(&nested) {
                    std::thread::yield_now();
                }
                let found = values(nested).map(|v| v[1]);
                assert_eq!(matches!(found, Err(Error::OutOfMemory { .. })), refused);
                Ok(found.unwrap_or(1.0))
            });
            assert_eq!(values(start(&session, outer)).expect("no error")[0], if refused { 1.0 } else { 3.0 });
        }
    });
}

/// A run that waits for memory which nobody will give back is refused, however one waits for it.
#[test]
fn a_hopeless_run_is_refused_by_polling_too() {
    within(60, || {
        for poll in POLLS {
            let session = tight();
            let first = start(&session, plan(1, 8_000, SOME, |_| Ok(1.0)));
            let second = start(&session, plan(1, 8_000, SOME, |_| Ok(2.0)));
            while !poll(&second) {
                std::thread::yield_now();
            }
            assert!(matches!(values(second), Err(Error::OutOfMemory { .. })), "the first result is never taken");
            assert_eq!(values(first).expect("is there")[0], 1.0);
        }
    });
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// It gets an answer, and does not become the ground that the run's other tasks stand on.
#[test]
fn a_task_may_ask_whether_its_own_run_is_over() {
    for poll in POLLS {
        within(60, move || {
            let session = session(2);
            let handle: Arc<OnceLock<Handle>> = Arc::default();
            let (mine, deepest) = (Arc::downgrade(&handle), Arc::new(AtomicU32::new(0)));
            let most = deepest.clone();
            let plan = plan(300, 0, SOME, move |_| {
                DEPTH.set(DEPTH.get() + 1);
                most.fetch_max(DEPTH.get(), Ordering::Relaxed);
                let over = mine.upgrade().is_some_and(|handle| handle.get().is_some_and(poll));
                DEPTH.set(DEPTH.get() - 1);
                Ok(f64::from(u8::from(over)))
            });
            assert!(handle.set(start(&session, plan)).is_ok());
            while !handle.get().expect("just set").is_done() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(deepest.load(Ordering::Relaxed), 1);
            let handle = std::iter::repeat_with(|| Arc::strong_count(&handle)).find(|&n| n == 1).map(|_| handle);
            let handle = handle.and_then(Arc::into_inner).and_then(OnceLock::into_inner).expect("nobody else has it");
            assert_eq!(values(handle).expect("no error"), [0.0; 300]);
        });
    }
}

#[test]
fn a_task_that_waits_for_its_own_run_is_an_error() {
    within(60, || {
        let session = session(1);
        let slot: Arc<Mutex<Option<Handle>>> = Arc::default();
        let (mine, (send, sent)) = (slot.clone(), mpsc::channel());
        let plan = plan(2, 0, SOME, move |_| {
            let handle = std::iter::repeat_with(|| mine.lock().unwrap().take()).flatten().next();
            send.send(values(handle.expect("comes soon"))).expect("somebody listens");
            Ok(1.0)
        });
        let handle = start(&session, plan);
        *slot.lock().unwrap() = Some(handle);
        let error = sent.recv().expect("the task runs").expect_err("it cannot end");
        assert!(matches!(error, Error::Failed { .. }) && error.to_string().contains("waits for the end of all"), "{error}");
        settled(&session);
    });
}

/// A thread that measures waits for those of another pool. It runs no other task meanwhile, which might want to measure too, and wait for it.
#[test]
fn a_task_that_measures_runs_no_other_task() {
    within(120, || {
        let (outer, inner) = (session(2), session(1));
        let measuring = Mutex::new(None);
        let plan = plan(400, 0, SOME, move |i| {
            let me = Some(std::thread::current().id());
            if i == 0 {
                *measuring.lock().unwrap() = me;
                inner.calibrate();
                *measuring.lock().unwrap() = None;
            }
            std::thread::sleep(Duration::from_millis(1));
            let upon = *measuring.lock().unwrap() == me;
            Ok(f64::from(u8::from(upon)))
        });
        assert_eq!(values(start(&outer, plan)).expect("no error"), [0.0; 400]);
    });
}

/// A task waits in another session, a task of which waits for the first session: the thread that waits works for it.
#[test]
fn nested_computing_may_cross_sessions_and_come_back() {
    for (outer_threads, inner_threads) in [(1, 1), (2, 1), (1, 2)] {
        within(30, move || {
            let (outer, middle) = (session(outer_threads), session(inner_threads));
            let (back, there) = (outer.clone(), middle.clone());
            let innermost = Arc::new(move |i: u32| {
                Ok(values(start(&back, plan(3, 0, SOME, |_| Ok(2.0))))?.iter().sum::<f64>() + f64::from(i))
            });
            let task = move |_| {
                let innermost = innermost.clone();
                Ok(values(start(&there, plan(4, 0, SOME, move |i| innermost(i))))?.iter().sum::<f64>())
            };
            assert_eq!(values(start(&outer, plan(6, 0, SOME, task))).expect("no deadlock"), [30.0; 6]);
            assert!(outer.is_idle() && middle.is_idle());
        });
    }
}

/// Each level lies on the stack of the thread that waits: deeper ones are refused before that is full.
#[test]
fn computing_inside_tasks_without_end_is_an_error() {
    fn deeper(session: &Session, level: u32) -> Result<f64> {
        let inner = session.clone();
        let nested = session.submit(plan(1, 0, SOME, move |_| deeper(&inner, level + 1)), Instant::now());
        let nested = nested.inspect_err(|_| DEEPEST.store(level, Ordering::Relaxed))?;
        Ok(1.0 + values(nested)?[0])
    }
    static DEEPEST: AtomicU32 = AtomicU32::new(0);
    within(60, || {
        for threads in [1, 2] {
            let session = session(threads);
            let error = deeper(&session, 0).expect_err("it has no end").to_string();
            assert!(error.contains("64 tasks wait for each other"), "{error}");
            assert_eq!(DEEPEST.load(Ordering::Relaxed), 64);
            settled(&session);
        }
    });
}

/// Runs that have nothing to do with each other: a worker waits for the I/O lane, whose threads wait for workers.
#[test]
fn lanes_that_wait_for_each_other_go_on() {
    for threads in [1, 2] {
        within(30, move || {
            let session = session(threads);
            // All are in their outer tasks before any computes.
            let all = Arc::new(Barrier::new(threads + 2));
            let lanes = std::iter::repeat_n((Lane::Compute, Lane::Io), threads).chain([(Lane::Io, Lane::Compute); 2]);
            let runs: Vec<Handle> = lanes
                .map(|(outer, inner)| {
                    let (nested, all) = (session.clone(), all.clone());
                    let what = move |_| {
                        all.wait();
                        Ok(values(start(&nested, plan_on(inner, (1, 0), SOME, |_| Ok(7.0))))?[0])
                    };
                    start(&session, plan_on(outer, (1, 0), SOME, what))
                })
                .collect();
            for run in runs {
                assert_eq!(values(run).expect("no deadlock"), [7.0]);
            }
            settled(&session);
        });
    }
}

/// What a run waits for is held by a task that waits in another session for this very run.
#[test]
fn memory_that_is_waited_for_across_sessions_is_refused() {
    within(30, || {
        for threads in [1, 2] {
            let small = Session::builder().threads(threads).placement(Placement::Cpu).cache_dir("").memory_limit("100kB");
            let (first, second) = (small.build().expect("session"), session(1));
            let (back, there) = (first.clone(), second.clone());
            let large = move |_| values(start(&back, plan(1, 8_000, SOME, |_| Ok(1.0))));
            let large = Arc::new(move |i| {
                large(i).map_or_else(|e| f64::from(u8::from(matches!(e, Error::OutOfMemory { .. }))), |_| 5.0)
            });
            let task = move |_| {
                let large = large.clone();
                Ok(values(start(&there, plan(1, 0, SOME, move |i| Ok(large(i)))))?[0])
            };
            assert_eq!(values(start(&first, plan(1, 8_000, SOME, task))).expect("ends")[0], 1.0, "refused inside");
        }
    });
}
