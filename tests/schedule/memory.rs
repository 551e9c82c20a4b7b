//! A device's memory: a small part of what a graph needs, copies kept for the next graph, when they are worth making, limits
//! that fall.
//!
//! Owns: what must come of it. Must not know: how it is decided. Invariant: every case runs in the driver that checks each
//! action, or in the simulator.

use std::sync::Arc;

use chunkwise::device::{DeviceKind, HOST, LinkSpec};
use chunkwise::id::{DeviceId, GraphId, SpaceId, TaskId};
use chunkwise::schedule::simulate::{Outcome, Simulation, simulate, simulate_repeats};
use chunkwise::schedule::{Action, EarliestFinish, Estimates, Event, Only, Policy, Scheduler};
use chunkwise::shape::View;
use chunkwise::task::{Operand, TaskGraph};
use proptest::prelude::*;

use super::driver::{Faults, Submission, World};
use super::random::{cpu, gpu, link, replays};
use support::graphs::{self, Maker, uniform, write};

const GPU: SpaceId = SpaceId(1);

fn only_gpu() -> Box<dyn Policy> {
    Box::new(Only(DeviceKind::Gpu))
}

/// Every task takes `cpu_ns` on the CPU and `gpu_ns` on the GPU.
fn both(graph: &TaskGraph, cpu_ns: u64, gpu_ns: u64) -> Vec<Estimates> {
    vec![uniform(graph, 0, cpu_ns), uniform(graph, 1, gpu_ns)]
}

fn submission(graph: &Arc<TaskGraph>, cpu_ns: u64, gpu_ns: u64) -> Submission {
    Submission { graph: graph.clone(), estimates: both(graph, cpu_ns, gpu_ns), scratch: 0, at: 0 }
}

fn world(policy: Box<dyn Policy>, host: u64) -> World {
    World::new(policy, vec![cpu(2), gpu(1, link(10.0))], host, Faults::default(), 7)
}

fn moves(actions: &[Action], up: bool) -> usize {
    actions.iter().filter(|a| matches!(a, Action::Move { upload, .. } if *upload == up)).count()
}

fn runs_on(outcome: &Outcome, device: usize) -> usize {
    outcome.spans.iter().filter(|s| s.device == DeviceId::at(device)).count()
}

/// Runs a graph on the GPU, with room for `room` of its `len` element chunks there, and little more host memory than it must have.
fn squeezed(graph: &Arc<TaskGraph>, room: usize, len: usize, host_extra: u64) -> World {
    let host = Scheduler::peak_bytes(graph, 0, 2) + host_extra;
    let mut world = world(only_gpu(), host);
    world.limit_space(GPU, (room * len.max(8) * 8) as u64);
    world.run(vec![submission(graph, 1000, 1000)]);
    assert_eq!(world.ended[&GraphId(0)], "finished");
    world
}

#[test]
fn cholesky_runs_on_a_gpu_with_room_for_a_tenth_of_it() {
    let (graph, _) = graphs::cholesky(12, 64);
    let world = squeezed(&graph, 8, 64, 0);
    assert_eq!(world.ran.get(&DeviceId(0)), None, "78 tiles, room for 8: {:?}", world.ran);
    replays(&world, only_gpu());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_work_runs_on_a_gpu_with_little_memory(seed in any::<u64>(), tasks in 20usize..80, extra in 0u64..4000) {
        let graph = pooled_work(seed, tasks);
        let world = squeezed(&graph, 6 + tasks / 10, 16, extra);
        let (all, on_cpu) = (graph.len() as u32, world.ran.get(&DeviceId(0)).copied().unwrap_or(0));
        prop_assert!(on_cpu * 4 <= all, "{on_cpu} of {all} tasks on the CPU");
        replays(&world, only_gpu());
    }
}

/// Random tasks of one to three inputs, whose values live long and in pooled memory.
fn pooled_work(seed: u64, tasks: usize) -> Arc<TaskGraph> {
    let mut dice = graphs::Dice::new(seed);
    let mut m = Maker::new(16, 4, tasks);
    let k = m.b.kernel(graphs::kernel("work", &[]));
    let mut values: Vec<_> = (0..4).map(|_| m.given()).collect();
    let mut unread = Vec::new();
    for _ in 0..tasks {
        let inputs: Vec<_> = (0..1 + dice.below(3)).map(|_| values[dice.below(values.len())]).collect();
        let v = m.pooled();
        m.task(k, &inputs, &[write(v)]);
        unread.retain(|u| !inputs.contains(u));
        values.push(v);
        unread.push(v);
    }
    for v in unread {
        let (r, _) = m.result();
        m.task(k, &[v], &[write(r)]);
    }
    m.build()
}

#[test]
fn a_small_device_memory_costs_little_time() {
    let (graph, kinds) = graphs::cholesky(16, 1 << 18);
    let tile = (8u64 << 18) * 136;
    let ns = |t: TaskId| [3_000_000, 600_000, 500_000, 1_000_000][kinds[t.index()]];
    let slow = link(20.0);
    let mut sim =
        Simulation::new(vec![cpu(16), gpu(1, slow)], vec![uniform(&graph, 0, 50_000_000), graphs::costs(&graph, 1, ns)]);
    let free = simulate(&graph, &sim, only_gpu()).unwrap();
    for percent in [36, 18, 9] {
        sim.limits = vec![(GPU, tile * percent / 100)];
        let out = simulate(&graph, &sim, only_gpu()).unwrap();
        let ratio = out.makespan_ns as f64 / free.makespan_ns as f64;
        println!("{percent} %: {ratio:.3} of the time, {} MB moved ({} MB)", out.bytes_moved >> 20, free.bytes_moved >> 20);
        assert_eq!(runs_on(&out, 1), graph.len());
        assert!(ratio < 1.3, "{percent} %: {ratio}");
    }
}

#[test]
fn copies_of_callers_chunks_stay_for_the_next_graph() {
    let graph = graphs::matvec(5, 10, 64, 1);
    let mut world = world(only_gpu(), u64::MAX);
    world.go(vec![submission(&graph, 1000, 100)]);
    assert_eq!(moves(&world.actions, true), 10);
    world.also(world.now(), Event::Retire { graph: GraphId(0) });
    world.go(vec![Submission { at: world.now() + 1, ..submission(&graph, 1000, 100) }]);
    assert_eq!(moves(&world.actions, true), 10, "nothing is uploaded twice");
    assert_eq!(world.scheduler.cached_bytes(GPU), 10 * 64 * 8);
    // While a third graph uses the copies, their array goes: it ends well, and keeps none.
    world.also(world.now() + 500, Event::SourceGone { source: 5 });
    world.go(vec![Submission { at: world.now() + 1, ..submission(&graph, 1000, 100) }]);
    assert!((10..=20).contains(&moves(&world.actions, true)));
    assert_eq!(world.scheduler.cached_bytes(GPU), 0);
    world.finish();
    replays(&world, only_gpu());
}

#[test]
fn kept_copies_make_room() {
    let (graph, other) = (graphs::matvec(5, 10, 64, 1), graphs::matvec(6, 10, 64, 1));
    let mut world = world(only_gpu(), u64::MAX);
    world.limit_space(GPU, 14 * 64 * 8);
    world.run(vec![submission(&graph, 1000, 100), submission(&other, 1000, 100), submission(&graph, 1000, 100)]);
    replays(&world, only_gpu());
}

#[test]
fn kept_copies_are_lost_with_their_device() {
    let graph = graphs::matvec(5, 10, 64, 1);
    let mut world = world(only_gpu(), u64::MAX);
    world.go(vec![submission(&graph, 1000, 100)]);
    assert!(world.scheduler.cached_bytes(GPU) > 0);
    world.also(world.now(), Event::DeviceLost { device: DeviceId(1) });
    world.go(vec![Submission { at: world.now() + 1, ..submission(&graph, 1000, 100) }]);
    assert_eq!(world.scheduler.cached_bytes(GPU), 0);
    world.finish();
}

/// Products of a matrix of 8 slabs of 16 MB, on 8 cores that take 2 ms for each and a GPU that takes 0.04 ms, 4 ms of link away.
fn repeated(times: u32, source: u64, policy: Box<dyn Policy>) -> Vec<Outcome> {
    let graph = graphs::matvec(source, 8, 1 << 21, 1);
    let gathers = |t: TaskId, ns| if graph.inputs(t).len() == 2 { ns } else { 10_000 };
    let costs = vec![graphs::costs(&graph, 0, |t| gathers(t, 2_000_000)), graphs::costs(&graph, 1, |t| gathers(t, 40_000))];
    let sim = Simulation::new(vec![cpu(8), gpu(1, link(4.0))], costs);
    simulate_repeats(&graph, &sim, policy, times).unwrap()
}

#[test]
fn repeated_work_moves_to_the_gpu_and_stays() {
    let total = |outs: &[Outcome]| outs.iter().map(|o| o.makespan_ns).sum::<u64>();
    let auto = repeated(50, 3, Box::new(EarliestFinish));
    let (on_cpu, on_gpu) = (repeated(50, 3, Box::new(Only(DeviceKind::Cpu))), repeated(50, 3, only_gpu()));
    println!("auto {} us, cpu {} us, gpu {} us", total(&auto) / 1000, total(&on_cpu) / 1000, total(&on_gpu) / 1000);
    assert_eq!(auto[0], on_cpu[0], "one pass stays where the data are");
    assert!(runs_on(&auto[49], 1) >= 8 && auto[49].bytes_moved < 1 << 20, "{:?}", auto[49]);
    assert!(total(&auto) * 10 < total(&on_cpu) * 8, "it is worth it");
    assert!(total(&on_gpu) * 2 > total(&auto), "not far from the GPU alone");
    // Without a number for the array nothing can be kept.
    assert_eq!(total(&repeated(5, 0, Box::new(EarliestFinish))), total(&on_cpu[..5]));
}

/// 200 tasks that read one chunk and write small results, all on the GPU, whose upload has arrived: the actions since.
fn after_the_upload(ns: u64) -> Vec<Action> {
    let mut m = Maker::new(8, 1, 200);
    let k = m.b.kernel(graphs::kernel("reads", &[]));
    let a = m.given();
    for _ in 0..200 {
        let (r, _) = m.result();
        m.task(k, &[a], &[write(r)]);
    }
    let graph = m.build();
    let (mut scheduler, mut actions) = (Scheduler::new(only_gpu()), Vec::new());
    for (device, spec) in [cpu(2), gpu(1, link(10.0))].into_iter().enumerate() {
        scheduler.step(0, Event::DeviceJoined { device: DeviceId::at(device), spec }, &mut actions);
    }
    let estimates = both(&graph, ns, ns);
    scheduler.step(
        0,
        Event::Submit { graph: GraphId(0), tasks: graph, estimates, scratch_bytes: 0, within: None },
        &mut actions,
    );
    let copy = actions.iter().find_map(|a| if let Action::Move { copy, .. } = a { Some(*copy) } else { None });
    actions.clear();
    scheduler.step(1, Event::Moved { copy: copy.unwrap(), arrived: true }, &mut actions);
    actions
}

/// A plain copy that is on its way again, while a task reads a form that was made of the one before, has not been read by anybody: if it does
/// not arrive, it must not be kept for the next graph.
#[test]
fn a_copy_that_never_arrived_is_not_kept() {
    let mut m = Maker::of(7, 8, 1, 2);
    let k = m.b.kernel(graphs::kernel("reads", &[]));
    let (a, first, (r0, _), (r1, _)) = (m.given(), m.pooled(), m.result(), m.result());
    let mut half = |start| Operand::viewed(a, m.b.view(&View::whole(&[8]).slice(0, start, 4, 1).unwrap()));
    let (low, high) = (half(0), half(4));
    m.b.task(k, &[], &[], &[write(first)]).unwrap();
    m.b.task(k, &[], &[low], &[write(r0)]).unwrap();
    m.b.task(k, &[], &[high, first.into()], &[write(r1)]).unwrap();
    let graph = m.build();
    let (mut scheduler, mut actions) = (Scheduler::new(only_gpu()), Vec::new());
    let mut step = |event| {
        let before = actions.len();
        scheduler.step(0, event, &mut actions);
        (actions[before..].to_vec(), scheduler.cached_bytes(GPU))
    };
    for (device, spec) in [cpu(2), gpu(1, link(10.0))].into_iter().enumerate() {
        step(Event::DeviceJoined { device: DeviceId::at(device), spec });
    }
    let estimates = both(&graph, 1000, 1000);
    let copy =
        |actions: &[Action]| actions.iter().find_map(|a| if let Action::Move { copy, .. } = a { Some(*copy) } else { None });
    let launch = |actions: &[Action]| {
        let all = actions.iter().filter_map(|a| match a {
            Action::Run { launch, .. } | Action::Pack { launch, .. } => Some(*launch),
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    let (begun, _) = step(Event::Submit { graph: GraphId(0), tasks: graph, estimates, scratch_bytes: 0, within: None });
    let makes_first = launch(&begun)[0];
    let packs = launch(&step(Event::Moved { copy: copy(&begun).unwrap(), arrived: true }).0)[0];
    let reads = launch(&step(Event::Done { launch: packs, elapsed_ns: 1 }).0)[0];
    // The plain copy goes, and the task that reads the other half wants it once more.
    step(Event::MemoryLimit { space: GPU, bytes: 1 });
    step(Event::MemoryLimit { space: GPU, bytes: 1 << 20 });
    let again = copy(&step(Event::Done { launch: makes_first, elapsed_ns: 1 }).0).expect("moved once more");
    let home = copy(&step(Event::Done { launch: reads, elapsed_ns: 1 }).0).expect("its result");
    step(Event::Retire { graph: GraphId(0) });
    step(Event::Moved { copy: again, arrived: false });
    let (end, kept) = step(Event::Moved { copy: home, arrived: true });
    assert!(matches!(end[..], [Action::Finished { .. }, ..]), "{end:?}");
    assert_eq!(kept, 0, "it is no copy of anything");
}

/// A device that joins while all tasks are queued elsewhere hears of it before it is told what they take on it.
#[test]
fn a_device_that_joins_late_takes_its_share_of_what_is_queued() {
    let graph = graphs::map(40, 4096);
    let mut world = World::new(Box::new(EarliestFinish), vec![cpu(1)], u64::MAX, Faults::default(), 7);
    world.also(1000, Event::DeviceJoined { device: DeviceId(1), spec: gpu(1, link(10.0)) });
    world.also(2000, Event::Priced { graph: GraphId(0), estimates: uniform(&graph, 1, 1000) });
    world.run(vec![Submission { graph: graph.clone(), estimates: vec![uniform(&graph, 0, 1_000_000)], scratch: 0, at: 0 }]);
    assert!(world.ran.get(&DeviceId(1)).is_some_and(|&tasks| tasks > 10), "{:?}", world.ran);
    replays(&world, Box::new(EarliestFinish));
}

#[test]
fn tiny_launches_queue_up_and_long_ones_wait() {
    let launches = |ns| after_the_upload(ns).iter().filter(|a| matches!(a, Action::Run { .. })).count();
    assert_eq!(launches(1000), 64, "as many as the device takes");
    assert_eq!(launches(50_000), 20, "1 ms of work");
    assert_eq!(launches(5_000_000), 6, "late binding");
}

#[test]
fn a_measured_link_decides() {
    let graph = graphs::map(40, 4096);
    let on_gpu = |measured: Option<[LinkSpec; 2]>| {
        let mut world = world(Box::new(EarliestFinish), u64::MAX);
        if let Some(link) = measured {
            world.also(0, Event::Link { device: DeviceId(1), link });
        }
        world.run(vec![Submission { at: 1, ..submission(&graph, 100_000, 1000) }]);
        replays(&world, Box::new(EarliestFinish));
        world.ran.get(&DeviceId(1)).copied().unwrap_or(0)
    };
    assert!(on_gpu(None) > 20);
    assert_eq!(on_gpu(Some(link(0.001))), 0);
}

#[test]
fn a_limit_that_falls_is_kept_and_what_no_longer_fits_goes_elsewhere() {
    for (room, all_on_gpu) in [(10, true), (1, false)] {
        let graph = graphs::matvec(9, 30, 64, 4);
        let mut world = world(only_gpu(), u64::MAX);
        world.also(3000, Event::MemoryLimit { space: GPU, bytes: room * 64 * 8 });
        world.run(vec![submission(&graph, 1000, 1000)]);
        assert_eq!(!world.ran.contains_key(&DeviceId(0)), all_on_gpu, "{:?}", world.ran);
        assert!(world.ran.contains_key(&DeviceId(1)));
        replays(&world, only_gpu());
    }
}

#[test]
fn a_task_too_large_for_a_device_is_never_offered_there() {
    let graph = graphs::map(10, 1024);
    let mut world = world(only_gpu(), u64::MAX);
    world.limit_space(GPU, 2 * 8192 - 1);
    world.run(vec![submission(&graph, 1000, 1000)]);
    assert_eq!((world.ran.get(&DeviceId(1)), world.scheduler.used_bytes(HOST)), (None, 0));
}

#[test]
fn specs_say_what_they_take() {
    assert!(gpu(1, link(1.0)).takes_contiguous() && !cpu(2).takes_contiguous());
}
