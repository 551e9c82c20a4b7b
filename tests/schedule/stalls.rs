//! Launches that take too long, one event at a time.
//!
//! Owns: when a launch is given up, and what follows. Must not know: real time. Invariant: time passes in ticks of a quarter of the floor, as
//! whoever waits makes it pass.

use std::sync::Arc;

use chunkwise::device::{DeviceSpec, HOST};
use chunkwise::id::{CopyId, DeviceId, GraphId, LaunchId};
use chunkwise::schedule::{Action, EarliestFinish, Estimates, Event, Only, Policy, Scheduler};
use chunkwise::task::TaskGraph;

use super::random::{cpu, gpu, link};
use support::graphs;

const FLOOR_NS: u64 = 4_000_000;
const TICK_NS: u64 = FLOOR_NS / 4;

struct Lab {
    scheduler: Scheduler,
    now: u64,
}

impl Lab {
    fn new(policy: Box<dyn Policy>, devices: Vec<DeviceSpec>) -> Self {
        let mut scheduler = Scheduler::new(policy);
        scheduler.set_stall_rule(10, FLOOR_NS);
        let mut lab = Self { scheduler, now: 0 };
        for (device, spec) in devices.into_iter().enumerate() {
            lab.step(Event::DeviceJoined { device: DeviceId::at(device), spec });
        }
        lab
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.scheduler.step(self.now, event, &mut actions);
        actions
    }

    /// Time passes, up to `ticks`, until something is to be done; how many it took.
    fn until_something(&mut self, ticks: u32) -> (u32, Vec<Action>) {
        for tick in 1..=ticks {
            self.now += TICK_NS;
            let actions = self.step(Event::Tick);
            if !actions.is_empty() {
                return (tick, actions);
            }
        }
        (ticks, Vec::new())
    }

    fn submit(&mut self, graph: &Arc<TaskGraph>, estimates: Vec<Estimates>) -> Vec<Action> {
        self.submit_within(None, GraphId(0), graph, estimates)
    }

    fn submit_within(
        &mut self,
        within: Option<GraphId>,
        id: GraphId,
        graph: &Arc<TaskGraph>,
        estimates: Vec<Estimates>,
    ) -> Vec<Action> {
        self.step(Event::Submit {
            graph: id,
            tasks: graph.clone(),
            estimates,
            scratch_bytes: 0,
            within: within.map(|outer| [outer].into()),
        })
    }
}

fn measured(graph: &TaskGraph, device: usize, ns: u64) -> Estimates {
    Estimates { measured: Some(vec![true; graph.len()].into()), ..graphs::uniform(graph, device, ns) }
}

fn runs(actions: &[Action]) -> Vec<(LaunchId, DeviceId)> {
    let run = |a: &Action| if let Action::Run { launch, device, .. } = *a { Some((launch, device)) } else { None };
    actions.iter().filter_map(run).collect()
}

fn copies(actions: &[Action]) -> Vec<CopyId> {
    actions.iter().filter_map(|a| if let Action::Move { copy, .. } = a { Some(*copy) } else { None }).collect()
}

#[test]
fn a_device_that_runs_in_order_is_given_nothing_behind_a_stuck_launch() {
    let graph = graphs::map(40, 16);
    let gpus: Box<dyn Policy> = Box::new(Only(chunkwise::device::DeviceKind::Gpu));
    let mut lab = Lab::new(gpus, vec![cpu(2), gpu(1, link(10.0))]);
    let mut actions = lab.submit(&graph, vec![measured(&graph, 0, 1_000_000), measured(&graph, 1, 1000)]);
    let mut on_gpu = Vec::new();
    for _ in 0..200 {
        let arrived = copies(&actions);
        on_gpu.extend(runs(&actions).into_iter().filter(|r| r.1 == DeviceId(1)).map(|r| r.0));
        actions = arrived.into_iter().flat_map(|copy| lab.step(Event::Moved { copy, arrived: true })).collect();
    }
    assert!(on_gpu.len() > 10, "{on_gpu:?}");
    // None of them reports: all are given up at once, and their tasks go to the CPU.
    let (ticks, mut actions) = lab.until_something(100);
    assert!((4..8).contains(&ticks), "{ticks}");
    let mut done = 0;
    while let Some((launch, device)) = runs(&actions).first().copied() {
        assert_eq!(device, DeviceId(0), "a stuck device is given work");
        let more: Vec<Action> =
            runs(&actions)[1..].iter().flat_map(|r| lab.step(Event::Done { launch: r.0, elapsed_ns: 1 })).collect();
        done += runs(&actions).len();
        actions = lab.step(Event::Done { launch, elapsed_ns: 1 });
        actions.extend(more);
    }
    assert_eq!(done, graph.len());
    // When it reports after all, it is given work again.
    lab.step(Event::Retire { graph: GraphId(0) });
    on_gpu.into_iter().for_each(|launch| drop(lab.step(Event::LaunchLost { launch })));
    assert!(lab.scheduler.is_idle());
}

/// A launch on one of two workers: after how many ticks its task runs again, and again, and the graph ends.
fn tries(measure: bool, workers: u32) -> (Vec<u32>, bool) {
    let graph = graphs::map(1, 16);
    let mut lab = Lab::new(Box::new(EarliestFinish), vec![cpu(workers)]);
    let estimates = if measure { measured(&graph, 0, 1000) } else { graphs::uniform(&graph, 0, 1000) };
    assert_eq!(runs(&lab.submit(&graph, vec![estimates])).len(), 1);
    let mut after = Vec::new();
    loop {
        let (ticks, actions) = lab.until_something(1000);
        if runs(&actions).is_empty() {
            return (after, actions.iter().any(|a| matches!(a, Action::Stalled { device: Some(_), .. })));
        }
        after.push(ticks);
    }
}

#[test]
fn each_try_has_twice_the_time_and_only_a_measured_one_ends_in_an_error() {
    assert_eq!(tries(true, 4), (vec![5, 9], true), "three tries, then an error");
    assert_eq!(tries(false, 4), (vec![49, 97], false), "then it is waited for");
    assert_eq!(tries(true, 1), (vec![], true), "nobody else is there to try");
    assert_eq!(tries(false, 1), (vec![], false));
}

#[test]
fn time_that_nobody_saw_pass_does_not_count() {
    let graph = graphs::map(1, 16);
    let mut lab = Lab::new(Box::new(EarliestFinish), vec![cpu(2)]);
    let estimates = vec![measured(&graph, 0, 1000)];
    let launch = runs(&lab.submit(&graph, estimates))[0].0;
    // The process is stopped for an hour, and goes on.
    lab.now += 3_600_000_000_000;
    assert_eq!(lab.step(Event::Tick), vec![]);
    // The task waits for a run of its own.
    lab.step(Event::Waits { launch, graph: None });
    assert_eq!(lab.until_something(500).1, vec![]);
    lab.step(Event::Resumes { launch });
    assert_eq!(lab.until_something(2).1, vec![]);
    assert_eq!(runs(&lab.until_something(10).1).len(), 1, "now it is late");
    assert!(lab.scheduler.used_bytes(HOST) > 0);
}

#[test]
fn a_guest_whose_place_is_taken_back_is_not_late() {
    let (outer, inner) = (graphs::map(1, 16), graphs::map(1, 16));
    let mut lab = Lab::new(Box::new(EarliestFinish), vec![cpu(1)]);
    let first = runs(&lab.submit(&outer, vec![graphs::uniform(&outer, 0, 1000)]));
    let (launch, within) = (first[0].0, Some(GraphId(0)));
    assert_eq!(runs(&lab.submit_within(within, GraphId(1), &inner, vec![measured(&inner, 0, 1000)])), []);
    let guest = runs(&lab.step(Event::Waits { launch, graph: Some(GraphId(1)) }))[0].0;
    // The one thread goes on with its own task before it has come to the guest.
    lab.step(Event::Resumes { launch });
    let (_, actions) = lab.until_something(1000);
    assert!(actions.is_empty(), "{actions:?}");
    // It waits again, runs the guest, and ends.
    lab.step(Event::Waits { launch, graph: Some(GraphId(1)) });
    let actions = lab.step(Event::Done { launch: guest, elapsed_ns: 1000 });
    assert!(actions.iter().any(|a| matches!(a, Action::Finished { graph: GraphId(1) })), "{actions:?}");
    lab.step(Event::Resumes { launch });
    let actions = lab.step(Event::Done { launch, elapsed_ns: 1000 });
    assert!(actions.iter().any(|a| matches!(a, Action::Finished { graph: GraphId(0) })), "{actions:?}");
    [0, 1].into_iter().for_each(|id| drop(lab.step(Event::Retire { graph: GraphId(id) })));
    assert!(lab.scheduler.is_idle());
}

#[test]
fn a_slow_task_without_memory_for_a_second_try_is_waited_for() {
    let graph = graphs::map(1, 16);
    let mut lab = Lab::new(Box::new(EarliestFinish), vec![cpu(2)]);
    lab.step(Event::MemoryLimit { space: HOST, bytes: Scheduler::peak_bytes(&graph, 0, 2) });
    let launch = runs(&lab.submit(&graph, vec![graphs::uniform(&graph, 0, 1000)]))[0].0;
    let (_, actions) = lab.until_something(1000);
    assert!(actions.is_empty(), "{actions:?}");
    let actions = lab.step(Event::Done { launch, elapsed_ns: 1000 });
    assert!(matches!(actions[..], [Action::Finished { graph: GraphId(0) }]), "{actions:?}");
}

#[test]
fn a_second_try_that_finds_no_memory_is_no_error() {
    let graph = graphs::map(2, 16);
    let mut lab = Lab::new(Box::new(EarliestFinish), vec![cpu(4)]);
    lab.step(Event::MemoryLimit { space: HOST, bytes: Scheduler::peak_bytes(&graph, 0, 4) + 500 });
    let first = runs(&lab.submit(&graph, vec![graphs::uniform(&graph, 0, 1000)]));
    // Both are late at once, and there is memory for one more try.
    let (_, actions) = lab.until_something(60);
    let again = runs(&actions);
    assert_eq!((first.len(), again.len()), (2, 1));
    assert_eq!(lab.step(Event::Done { launch: again[0].0, elapsed_ns: 1000 }), []);
    let (_, actions) = lab.until_something(1000);
    assert!(actions.is_empty(), "{actions:?}");
    lab.step(Event::Done { launch: first[0].0, elapsed_ns: 1000 });
    let actions = lab.step(Event::Done { launch: first[1].0, elapsed_ns: 1000 });
    assert!(actions.contains(&Action::Finished { graph: GraphId(0) }), "{actions:?}");
}

#[test]
fn a_cancelled_slow_task_does_not_fail_other_runs() {
    let (slow, other) = (graphs::map(1, 16), graphs::map(1, 16));
    let mut lab = Lab::new(Box::new(EarliestFinish), vec![cpu(1)]);
    let launch = runs(&lab.submit(&slow, vec![graphs::uniform(&slow, 0, 1000)]))[0].0;
    lab.step(Event::Retire { graph: GraphId(0) });
    lab.until_something(100);
    assert_eq!(runs(&lab.submit_within(None, GraphId(1), &other, vec![graphs::uniform(&other, 0, 1000)])), []);
    let (_, actions) = lab.until_something(1000);
    assert!(actions.is_empty(), "it waits for the worker: {actions:?}");
    assert_eq!(runs(&lab.step(Event::LaunchLost { launch })).len(), 1, "the worker is back");
}

/// What it writes to it keeps until it reports, however often the task is tried again.
#[test]
fn what_a_late_launch_writes_counts_as_long_as_it_may_write() {
    let graph = graphs::chain(2, 16);
    let peak = Scheduler::peak_bytes(&graph, 0, 2);
    for (more, tries) in [(0, 0), (64, 0), (1000, 1)] {
        let mut lab = Lab::new(Box::new(EarliestFinish), vec![cpu(2)]);
        lab.step(Event::MemoryLimit { space: HOST, bytes: peak + more });
        let launch = runs(&lab.submit(&graph, vec![graphs::uniform(&graph, 0, 1000)]))[0].0;
        let again = runs(&lab.until_something(60).1);
        assert_eq!(again.len(), tries, "with {more} B more");
        again.iter().for_each(|_| drop(lab.step(Event::LaunchLost { launch })));
        let last = again.first().map_or(launch, |run| run.0);
        let second = runs(&lab.step(Event::Done { launch: last, elapsed_ns: 1000 }))[0].0;
        let actions = lab.step(Event::Done { launch: second, elapsed_ns: 1000 });
        assert!(actions.contains(&Action::Finished { graph: GraphId(0) }), "{actions:?}");
        lab.step(Event::Retire { graph: GraphId(0) });
        assert!(lab.scheduler.is_idle() && lab.scheduler.used_bytes(HOST) == 0);
    }
}
