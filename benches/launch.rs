//! What a tiny launch on a GPU costs the host: CPU time of this crate's threads, for a device by itself and through a session.
//!
//! Owns: counting threads' CPU time; a line a round. Must not know: how launches are carried out. Invariant: the driver's own threads are counted apart; each result
//! is checked. The first round of each is not warm. Run it in turns with that of another commit: `cargo bench --bench launch`, or with `-- hand`, `-- session` a part.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use chunkwise::device::gpu::{Gpu, known};
use chunkwise::device::{Cpu, Device, IoLane};
use chunkwise::id::{DeviceId, SpaceId};
use chunkwise::prelude::*;
use support::gpu::{cholesky, residual};
use support::kernel_cases::gemv;
use support::lab::{Chunk, Lab, Place, wait};

/// Launches of a round by hand, and places for what they make.
const LAUNCHES: usize = 20_000;
const PLACES: usize = 64;
/// Rounds; one where it is only seen whether it runs at all.
const ROUNDS: usize = 4;

/// CPU time of each thread so far, in ns, by its name; `None` where the system does not tell.
fn cpu_ns() -> Option<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let read = |what| std::fs::read_to_string(thread.path().join(what)).ok();
        // A thread may have ended meanwhile.
        let (Some(name), Some(times)) = (read("comm"), read("schedstat")) else { continue };
        let ns: u64 = times.split(' ').next()?.parse().ok()?;
        *all.entry(name.trim().to_owned()).or_insert(0) += ns;
    }
    Some(all)
}

/// Whether a thread is this crate's, or its caller's; the others are the driver's. (Those that a driver starts while it is opened inherit the name `gpu-probe`.)
fn ours(name: &str) -> bool {
    name.starts_with("chunkwise") || name.starts_with("launch")
}

/// Does something, and prints what its launches cost each, in us; `counters` are launches, submissions, moves.
fn measured(what: &str, counters: impl Fn() -> [u64; 3], work: impl FnOnce()) {
    let (before, counted) = (cpu_ns(), counters());
    work();
    let (after, now) = (cpu_ns(), counters());
    let [launches, submissions, moves] = [0, 1, 2].map(|i| now[i] - counted[i]);
    let (Some(before), Some(after)) = (before, after) else {
        return println!("{what}: {launches} launches, {submissions} submissions; this system does not tell threads' CPU time");
    };
    let mut us = [0.0; 2];
    for (name, ns) in after {
        let spent = ns.saturating_sub(before.get(&name).copied().unwrap_or(0)) as f64 / 1e3 / launches as f64;
        us[usize::from(!ours(&name))] += spent;
    }
    println!(
        "{what}: {launches} launches, {moves} moves, {submissions} submissions; {:.2} us a launch, the driver's threads {:.2} us",
        us[0], us[1]
    );
}

/// The chunks of a launch given by hand, one after the other, and the numbers read back.
fn by_hand(gpu: &Arc<Gpu>, rounds: usize) {
    let lab = Lab { gpu: gpu.clone() };
    let numbers = |shape: &[usize]| Chunk::new(DType::F32, shape, |i| i as f64);
    let case = gemv(numbers(&[4, 4]), numbers(&[4]));
    let inputs: Vec<_> = case.inputs.iter().map(|chunk| lab.upload(chunk, Place::Plain)).collect();
    let places: Vec<_> = (0..PLACES).map(|_| lab.room(DType::F32, &[4])).collect();
    for _ in 0..rounds {
        let work = || {
            let reports: Vec<_> = (0..LAUNCHES).map(|i| lab.start(&case, &inputs, &places[i % PLACES], None)).collect();
            reports.iter().for_each(|report| wait(report).expect("it runs"));
        };
        measured("gemv of 4 x 4 by hand", || counted(gpu.counters()), work);
    }
    let wanted = case.on_cpu(&Cpu::new(1).expect("a pool")).expect("it runs");
    places.iter().for_each(|place| assert_eq!(lab.download(place, Place::Plain), wanted));
}

/// Small tiles of a factor: each launch is a task of the scheduler, and each of the array's tiles goes up and down.
fn through_a_session(gpu: Arc<Gpu>, rounds: usize) {
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("a pool")), Arc::new(IoLane::new()), gpu];
    let builder = Session::builder().devices(devices).placement(Placement::Gpu).cache_dir("").memory_limit("1GB");
    let session = builder.build().expect("a session");
    for _ in 0..rounds {
        let mut factor = None;
        let work = || factor = Some(cholesky::<f32>(&session, 300, 8).and_then(|l| l.compute()));
        measured("Cholesky of 300 in tiles of 8, through a session", || counted(session.counters(DeviceId(2))), work);
        assert!(residual::<f32>(&factor.expect("it ran").expect("a factor").mapv(f64::from)) < 1.0);
    }
}

/// Launches, submissions and moves.
fn counted(counters: chunkwise::device::Counters) -> [u64; 3] {
    [counters.launches, counters.submissions, counters.uploads + counters.downloads]
}

fn main() {
    let adapters = known(true);
    let Some(adapter) = adapters.iter().find(|adapter| adapter.unusable.is_none()) else {
        return println!("no adapter: {adapters:?}");
    };
    println!("{adapter}");
    let flags: Vec<String> = std::env::args().skip(1).collect();
    let parts: Vec<&str> = flags.iter().map(String::as_str).filter(|flag| !flag.starts_with("--")).collect();
    if let Some(unknown) = parts.iter().find(|part| !["hand", "session"].contains(part)) {
        eprintln!("no part {unknown:?}: hand, session, or both if none is named");
        std::process::exit(2);
    }
    let rounds = if flags.iter().any(|flag| flag == "--test") { 1 } else { ROUNDS };
    let chosen = |part: &str| parts.is_empty() || parts.contains(&part);
    let gpu = Arc::new(Gpu::open(adapter, "gpu0", SpaceId(1), 64 << 20).expect("it opens"));
    if chosen("hand") {
        by_hand(&gpu, rounds);
    }
    if chosen("session") {
        through_a_session(gpu, rounds);
    }
}
