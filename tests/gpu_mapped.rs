//! Chunks that the host maps, as on an integrated GPU: nothing is staged, nothing is copied on the way, and the results are the same.
//!
//! Owns: the workloads and random schedules on mapped chunks, and what happens where mapping fails. Must not know: how chunks are mapped. Invariant: every wait has
//! a limit; what is compared is compared bit by bit.
#![cfg(feature = "gpu")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chunkwise::device::gpu::{Gpu, Sabotage};
use chunkwise::device::{Cpu, Data, Device, Faulty, Injection, IoLane};
use chunkwise::prelude::*;
use chunkwise::shape::DType;
use support::gpu::{WORKLOADS, cholesky, compute, session};
use support::lab::{Chunk, Lab, Place, wait};

support::gpus!();

#[test]
fn nothing_is_staged_and_results_are_the_same() {
    let (Some((mapped, _)), Some(staged)) = (mapped(), gpu()) else { return };
    for name in WORKLOADS {
        let [there, here] = [&mapped, &staged].map(|gpu| {
            let device: Arc<dyn Device> = gpu.clone();
            let session = session(Placement::Gpu, &[device]);
            let (result, _) = compute::<f32>(name, &session).expect(name);
            result
        });
        assert!(there.iter().map(|v| v.to_bits()).eq(here.iter().map(|v| v.to_bits())), "{name}");
    }
    let [there, here] = [mapped.counters(), staged.counters()];
    assert_eq!(there.staged_bytes, 0, "{there:?}");
    assert!(here.staged_bytes > 0 && there.uploads == here.uploads && there.downloads == here.downloads, "{there:?} {here:?}");
    assert!(there.uploads > 10 && there.downloads > 10 && there.launches == here.launches, "{there:?} {here:?}");
}

/// Shapes, layouts and types that a chunk may have, also none at all.
#[test]
fn whatever_its_size_and_layout_a_chunk_comes_back() {
    let Some((gpu, _)) = mapped() else { return };
    let lab = Lab { gpu: gpu.clone() };
    for dtype in [DType::F32, DType::F64, DType::I32] {
        for shape in [&[0][..], &[1], &[3, 5], &[0, 4], &[1001, 7], &[300, 1000], &[2, 3, 4, 5]] {
            for place in support::lab::PLACES {
                let chunk = Chunk::new(dtype, shape, |i| (i % 10_007) as f64 - 0.25);
                let wanted = Chunk::new(dtype, shape, |i| ((i % 10_007) as f64 - 0.25).trunc());
                let far = lab.upload(&chunk, place);
                let back = lab.download(&far, place);
                assert_eq!(back, if dtype == DType::I32 { wanted.values } else { chunk.values }, "{shape:?} {place:?}");
            }
        }
    }
    assert_eq!(gpu.counters().staged_bytes, 0);
}

/// A chunk is read by launches and brought down, several times at once, in any order: the host never has it while a submission uses it, and nobody waits for ever.
#[test]
fn launches_and_downloads_of_one_chunk_take_turns() {
    let Some((gpu, _)) = mapped() else { return };
    let (lab, n) = (Lab { gpu: gpu.clone() }, 70_000);
    let chunks: Vec<Chunk> = (0..3).map(|c| Chunk::new(DType::F32, &[n], |i| (i * (c + 1)) as f64)).collect();
    let far: Vec<Data> = chunks.iter().map(|chunk| lab.upload(chunk, Place::Plain)).collect();
    let mut dice = 1_u64;
    for round in 0..40 {
        let (mut launches, mut downloads) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (c, what) = ((dice >> 40) as usize % far.len(), (dice >> 50) % 3);
            if what == 0 {
                downloads.push((c, lab.start_download(&far[c], n)));
            } else {
                let to = lab.upload(&Chunk::new(DType::F32, &[n], |_| 0.0), Place::Plain);
                launches.push((c, lab.start_copy(&far[c], &to, 1000), to));
            }
        }
        for (c, (landing, report)) in downloads {
            wait(&report).unwrap_or_else(|e| panic!("{round}: {e:?}"));
            assert_eq!(landing.values(), chunks[c].values, "{round}");
        }
        for (c, report, to) in launches {
            wait(&report).unwrap_or_else(|e| panic!("{round}: {e:?}"));
            assert_eq!(lab.download(&to, Place::Plain), chunks[c].values, "{round}");
        }
    }
    assert_eq!(gpu.counters().staged_bytes, 0);
}

/// Runs of Cholesky, and what the user was told meanwhile: so many warnings are waited for.
fn told(gpu: &Arc<Gpu>, warnings: usize) -> ([ndarray::ArrayD<f32>; 3], Vec<String>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let says = told.clone();
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("a pool")), Arc::new(IoLane::new()), gpu.clone()];
    let builder = Session::builder().devices(devices).placement(Placement::Gpu).cache_dir("").memory_limit("1GB");
    let builder = builder.stall_after(10, Duration::from_secs(20));
    let session = builder.warnings(move |text| says.lock().expect("whole").push(text.to_owned())).build().expect("a session");
    // The last one needs chunks of sizes that the others leave none of.
    let runs = [(150, 40), (150, 40), (170, 50)].map(|(n, tile)| cholesky::<f32>(&session, n, tile).and_then(|l| l.compute()));
    let runs = runs.map(|run| run.expect("a factor"));
    assert!(runs[0] == runs[1]);
    // The last one may come after the result.
    let end = Instant::now() + Duration::from_secs(20);
    while told.lock().expect("whole").len() < warnings && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(session);
    let told = told.lock().expect("whole").clone();
    (runs, told)
}

#[test]
fn where_mapping_fails_chunks_are_staged_and_it_is_told_once() {
    let Some(plain) = gpu() else { return };
    let (wanted, nothing) = told(&plain, 0);
    assert!(nothing.is_empty(), "{nothing:?}");
    assert!(support::gpu::residual::<f32>(&wanted[2].mapv(f64::from)) < 1.0);
    for sabotage in [Sabotage::Unmappable, Sabotage::Map] {
        for after in [0, 5] {
            let Some((gpu, breaker)) = mapped() else { return };
            breaker.after(after, sabotage);
            let (found, told) = told(&gpu, 1);
            assert!(found == wanted, "{sabotage:?} {after}");
            assert_eq!(told.len(), 1, "{sabotage:?} {after}: {told:?}");
            assert!(told[0].contains("gpu0: its memory cannot be mapped") && told[0].contains("staging"), "{told:?}");
            assert!(gpu.counters().staged_bytes > 0);
        }
    }
}

#[test]
fn a_gpu_that_is_lost_while_the_host_has_a_chunk_fails_what_is_asked_of_it() {
    for turn in 0..6 {
        let Some((gpu, breaker)) = mapped() else { return };
        let (lab, n) = (Lab { gpu }, 6 << 20);
        let chunk = Chunk::new(DType::F32, &[n], |i| i as f64);
        let far = lab.upload(&chunk, Place::Plain);
        let (landing, report) = lab.start_download(&far, n);
        std::thread::sleep(Duration::from_millis(turn));
        breaker.after(0, Sabotage::Lose);
        let to = lab.room(DType::F32, &[n]);
        let launched = lab.start_copy(&far, &to, 1000);
        // It may have arrived: then it is right.
        if wait(&report).is_ok() {
            assert_eq!(landing.values(), chunk.values);
        }
        assert!(wait(&launched).is_err(), "{turn}");
        assert!(wait(&lab.start_download(&far, n).1).is_err(), "it is gone");
    }
}

#[test]
fn where_memory_is_short_it_is_said() {
    let Some((gpu, breaker)) = mapped() else { return };
    let lab = Lab { gpu: gpu.clone() };
    let far = lab.upload(&Chunk::new(DType::F32, &[1000], |i| i as f64), Place::Plain);
    breaker.after(0, Sabotage::Memory(gpu.counters().bytes + (64 << 10)));
    let to = lab.room(DType::F32, &[1 << 20]);
    let large = Chunk::new(DType::F32, &[1 << 20], |i| i as f64);
    let receiver = lab.start_upload(&large, &to);
    assert!(matches!(wait(&receiver), Err(chunkwise::device::Failure::OutOfMemory(_))));
    assert_eq!(lab.download(&far, Place::Plain)[999], 999.0, "the others are there");
}

#[test]
fn a_driver_that_panics_while_it_maps_loses_no_report() {
    let chunk = Chunk::new(DType::F32, &[5000], |i| i as f64);
    for up in [false, true] {
        let Some((gpu, breaker)) = mapped() else { return };
        let lab = Lab { gpu };
        let far = lab.upload(&chunk, Place::Plain);
        breaker.after(0, Sabotage::MapPanic);
        let report = if up { lab.start_upload(&chunk, &far) } else { lab.start_download(&far, 5000).1 };
        assert!(wait(&report).is_err(), "{up}");
        assert!(wait(&lab.start_download(&far, 5000).1).is_err(), "it is lost");
    }
}

/// One that was staged, because no memory was found at first, and is reported, but not submitted: the GPU is busy.
#[test]
fn an_upload_that_is_mapped_does_not_overtake_one_that_is_staged() {
    let Some((gpu, breaker)) = mapped() else { return };
    let (lab, n) = (Lab { gpu: gpu.clone() }, 70_000);
    let small = lab.upload(&Chunk::new(DType::F32, &[64], |i| i as f64), Place::Plain);
    let rooms: Vec<Data> = (0..8).map(|_| lab.room(DType::F32, &[64])).collect();
    wait(&lab.start_copy(&small, &rooms[7], 1000)).expect("compiled");
    breaker.after(0, Sabotage::Stall);
    breaker.after(0, Sabotage::FirstMap);
    // As many submissions as may be under way.
    let mut launches = Vec::new();
    for room in &rooms[..3] {
        launches.push(lab.start_copy(&small, room, 1000));
        std::thread::sleep(Duration::from_millis(30));
    }
    let [one, two] = [1.0, 2.0].map(|v| Chunk::new(DType::F32, &[n], |_| v));
    let far = lab.room(DType::F32, &[n]);
    wait(&lab.start_upload(&one, &far)).expect("staged");
    let second = lab.start_upload(&two, &far);
    std::thread::sleep(Duration::from_millis(50));
    breaker.after(0, Sabotage::Go);
    launches.iter().for_each(|launch| wait(launch).expect("it runs"));
    wait(&second).expect("it arrives");
    assert!(lab.download(&far, Place::Plain) == two.values);
}

#[test]
fn a_download_of_a_chunk_that_launches_go_on_reading_has_its_turn() {
    let Some((gpu, _)) = mapped() else { return };
    let (lab, n) = (Lab { gpu: gpu.clone() }, 200_000);
    let chunk = Chunk::new(DType::F32, &[n], |i| i as f64);
    let far = lab.upload(&chunk, Place::Plain);
    let rooms: Vec<Data> = (0..60).map(|_| lab.room(DType::F32, &[n])).collect();
    let mut queued: VecDeque<_> = rooms.iter().map(|room| (room, lab.start_copy(&far, room, 1000))).collect();
    let (landing, report) = lab.start_download(&far, n);
    let mut later = 0;
    let arrived = loop {
        match report.try_recv() {
            Ok(report) => break report,
            Err(_) => assert!(later < 3000, "{later} launches that came later went first"),
        }
        // There are always as many that read it.
        let (room, launch) = queued.pop_front().expect("there are 60");
        wait(&launch).expect("it runs");
        queued.push_back((room, lab.start_copy(&far, room, 1000)));
        later += 1;
    };
    arrived.outcome.expect("it arrives");
    assert!(landing.values() == chunk.values);
    queued.iter().for_each(|(_, launch)| wait(launch).expect("they have their turn, too"));
    assert_eq!(gpu.counters().staged_bytes, 0);
}

#[test]
fn an_error_of_somebody_else_keeps_no_chunk_from_being_mapped() {
    for _ in 0..4 {
        let Some((gpu, breaker)) = mapped() else { return };
        let (lab, n) = (Lab { gpu: gpu.clone() }, 300_000);
        let chunk = Chunk::new(DType::F32, &[n], |i| i as f64);
        let far = lab.upload(&chunk, Place::Plain);
        let rooms: Vec<Data> = (0..8).map(|_| lab.room(DType::F32, &[n])).collect();
        wait(&lab.start_copy(&far, &rooms[0], 1000)).expect("compiled");
        let launches: Vec<_> = rooms.iter().map(|room| lab.start_copy(&far, room, 1000)).collect();
        breaker.after(0, Sabotage::Stray);
        let (landing, report) = lab.start_download(&far, n);
        wait(&report).expect("it arrives");
        assert!(landing.values() == chunk.values);
        launches.iter().for_each(|launch| drop(wait(launch)));
        // What is submitted next is told of the error.
        let mut again = rooms.iter().map(|room| wait(&lab.start_copy(&far, room, 1000)));
        assert!(again.by_ref().take(3).any(|outcome| outcome.is_ok()), "it is not mapped any more");
        assert_eq!((gpu.notice(), gpu.counters().staged_bytes), (None, 0));
    }
}

#[test]
fn a_wrapped_gpu_says_what_it_has_to_say() {
    let Some((gpu, breaker)) = mapped() else { return };
    breaker.after(0, Sabotage::Unmappable);
    let lab = Lab { gpu: Arc::new(Faulty::new(gpu, Injection::Panic, u64::MAX)) };
    let far = lab.upload(&Chunk::new(DType::F32, &[100], |i| i as f64), Place::Plain);
    assert_eq!(lab.download(&far, Place::Plain)[7], 7.0);
    assert!(lab.gpu.notice().is_some_and(|notice| notice.contains("staging")));
}
