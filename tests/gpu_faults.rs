//! A GPU that fails in the middle of each workload: the right result from elsewhere, or one clear error; never a hang; the next run works.
//!
//! Owns: real losses, panics and shortages inside the GPU's own threads (`Breaker`), and injected reports (`Faulty`). Must not know: how the
//! scheduler recovers. Invariant: each case has a time limit.
#![cfg(feature = "gpu")]

use std::sync::Arc;
use std::time::Duration;

use chunkwise::device::gpu::{Breaker, Gpu, Sabotage};
use chunkwise::device::{Cpu, Device, Faulty, Injection, IoLane};
use chunkwise::id::{DeviceId, SpaceId};
use chunkwise::prelude::*;
use support::gpu::{WORKLOADS, assert_alike, cholesky, compute, residual, session, settled, tasks_on};
use support::wait::within_as;

support::gpus!();

/// What takes longer hangs.
const LIMIT_S: u64 = 120;

/// The result is right although something breaks at the launch after so many, and so is the next one. `lost`: whether the GPU is gone then.
fn survives(what: &'static str, sabotage: fn(&Gpu) -> Sabotage, lost: bool) {
    for name in WORKLOADS {
        for (after, open) in [(1, breakable as fn() -> _), (3, breakable), (1, mapped), (3, mapped)] {
            let Some((gpu, breaker)) = open() else { return };
            within_as(&format!("{what}, {name} after {after} launches"), LIMIT_S, move || {
                let (wanted, _) = compute::<f32>(name, &session(Placement::Cpu, &[])).expect("on the CPU");
                let device: Arc<dyn Device> = gpu.clone();
                let session = session(Placement::Gpu, &[device]);
                compute::<f32>(name, &session).expect("before anything is broken");
                breaker.after(after, sabotage(&gpu));
                let (found, run) = compute::<f32>(name, &session).unwrap_or_else(|e| panic!("{what}, {name}: {e}"));
                assert_alike::<f32>(name, &found, &wanted);
                let (again, next) = compute::<f32>(name, &session).unwrap_or_else(|e| panic!("{what}, {name}, again: {e}"));
                assert_alike::<f32>(name, &again, &wanted);
                // Of four tasks the CPU may have taken one before the launch that breaks: then that one was never made.
                let broke = tasks_on(&run, "cpu") > 1 || tasks_on(&run, "gpu0") as u64 <= after;
                let gone = broke && tasks_on(&next, "gpu0") == 0;
                assert!(gone || !lost, "{what}, {name}: {:?}, then {:?}", run.placement(), next.placement());
            });
        }
    }
}

#[test]
fn a_lost_device_gives_its_work_to_the_cpu() {
    survives("device lost", |_| Sabotage::Lose, true);
}

#[test]
fn a_panic_in_the_service_thread_is_a_lost_device() {
    survives("panic", |_| Sabotage::Panic, true);
}

#[test]
fn no_memory_at_submission_is_survived() {
    survives("full at submission", |_| Sabotage::FullAtSubmit, true);
}

#[test]
fn an_invalid_submission_is_survived() {
    survives("invalid", |_| Sabotage::Invalid, false);
}

#[test]
fn no_memory_for_a_chunk_is_survived() {
    survives("no memory", |gpu| Sabotage::Memory(gpu.counters().bytes / 2), false);
}

#[test]
fn a_gpu_that_never_answers_is_given_up() {
    for open in [breakable, mapped] {
        let Some((gpu, breaker)) = open() else { return };
        never_answers(gpu, breaker);
    }
}

fn never_answers(gpu: Arc<Gpu>, breaker: Breaker) {
    within_as("stall", LIMIT_S, move || {
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(IoLane::new()), gpu.clone()];
        let builder = Session::builder().devices(devices).placement(Placement::Gpu).cache_dir("");
        let session = builder.stall_after(3, Duration::from_millis(500)).build().expect("a session");
        cholesky::<f32>(&session, 60, 20).and_then(|l| l.compute()).expect("before");
        breaker.after(0, Sabotage::Stall);
        let l = cholesky::<f32>(&session, 60, 20).and_then(|l| l.compute()).expect("the CPU does it");
        assert!(residual::<f32>(&l.mapv(f64::from)) < 1.0);
        let began = std::time::Instant::now();
        drop((session, gpu));
        assert!(began.elapsed() < Duration::from_secs(5), "dropping a session waits for a wedged driver");
    });
}

#[test]
fn without_another_device_a_loss_is_one_error() {
    let Some((gpu, breaker)) = breakable() else { return };
    within_as("alone", LIMIT_S, move || {
        let devices: Vec<Arc<dyn Device>> = vec![gpu.clone(), Arc::new(IoLane::new())];
        let session = Session::builder().devices(devices).cache_dir("").build().expect("a session");
        cholesky::<f32>(&session, 60, 20).and_then(|l| l.compute()).expect("before");
        breaker.after(0, Sabotage::Lose);
        let error = cholesky::<f32>(&session, 60, 20).and_then(|l| l.compute()).expect_err("nothing is left").to_string();
        assert!(error.contains("lost"), "{error}");
    });
}

#[test]
fn injected_reports_are_survived_on_every_launch() {
    let Some(gpu) = gpu() else { return };
    within_as("injected", LIMIT_S, move || {
        let wanted = compute::<f32>("cholesky", &session(Placement::Cpu, &[])).expect("on the CPU").0;
        for at in [0, 1, 5, 11] {
            let faulty: Arc<dyn Device> = Arc::new(Faulty::new(gpu.clone(), Injection::DeviceError, at));
            let session = session(Placement::Gpu, &[faulty]);
            let (found, run) = compute::<f32>("cholesky", &session).unwrap_or_else(|e| panic!("launch {at}: {e}"));
            assert_alike::<f32>("cholesky", &found, &wanted);
            assert!(tasks_on(&run, "gpu0") > 0);
            settled(&session);
            let panics: Arc<dyn Device> = Arc::new(Faulty::new(gpu.clone(), Injection::Panic, at));
            let session = support::gpu::session(Placement::Gpu, &[panics]);
            match compute::<f32>("cholesky", &session) {
                // A broken kernel has no GPU half: the report is the device's, and the launch is tried again.
                Ok((found, _)) => assert_alike::<f32>("cholesky", &found, &wanted),
                Err(error) => assert!(error.to_string().contains("broken"), "{error}"),
            }
        }
    });
}

#[test]
fn memory_for_a_tenth_of_the_work_is_enough() {
    let Some(adapter) = adapter() else { return };
    within_as("small memory", LIMIT_S, move || {
        let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 8 << 20).expect("opens");
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("pool")), Arc::new(IoLane::new()), Arc::new(gpu)];
        // 45 tiles of 32 x 32 f32 are 184 kB.
        let builder = Session::builder().devices(devices).placement(Placement::Gpu).gpu_memory_limit("40kB");
        let session = builder.cache_dir("").build().expect("a session");
        let (l, run) = cholesky::<f32>(&session, 288, 32).and_then(|l| l.run()).expect("fits piece by piece");
        assert!(residual::<f32>(&l.mapv(f64::from)) < 1.0);
        assert!(tasks_on(&run, "gpu0") > run.tasks() / 3, "{:?}", run.placement());
        settled(&session);
        // Staging is given back when nothing was under way for a while.
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while session.counters(DeviceId(2)).bytes > 3 << 19 {
            assert!(std::time::Instant::now() < end, "{:?}", session.counters(DeviceId(2)));
            std::thread::sleep(Duration::from_millis(50));
        }
    });
}
