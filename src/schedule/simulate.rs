//! The only virtual clock: the real [`Scheduler`] driven by an event heap instead of devices.
//!
//! Owns: a model of devices (each worker runs one launch at a time) and links (one move at a time in each direction), whose
//! true times may differ from what the scheduler is told. Must not know: real time. Invariant: decisions are the scheduler's
//! own; nothing here chooses.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::{Action, Estimates, Event, Policy, Scheduler};
use crate::device::{DeviceSpec, HOST};
use crate::error::{Error, Remedy, Result};
use crate::id::{CopyId, DeviceId, GraphId, LaunchId, SpaceId, TaskId};
use crate::task::TaskGraph;

/// What is simulated.
pub struct Simulation {
    /// The devices, by id.
    pub devices: Vec<DeviceSpec>,
    /// What the scheduler believes each task takes.
    pub beliefs: Vec<Estimates>,
    /// What it takes in truth; the same as the beliefs if empty.
    pub truth: Vec<Estimates>,
    /// Limit of host memory.
    pub memory_limit: u64,
    /// Limits of the devices' own memory; none if empty.
    pub limits: Vec<(SpaceId, u64)>,
    /// Scratch of the neediest task.
    pub scratch_bytes: u64,
    /// What the scheduler itself takes for each report, during which it takes no other.
    pub step_ns: u64,
    /// Faults to inject: at this time, this event.
    pub faults: Vec<(u64, Event)>,
    /// Tasks whose first launch never reports (task numbers).
    pub hangs: Vec<u32>,
}

impl Simulation {
    /// These devices and costs, no limit, no faults.
    #[must_use]
    pub fn new(devices: Vec<DeviceSpec>, beliefs: Vec<Estimates>) -> Self {
        Self {
            devices,
            beliefs,
            truth: Vec::new(),
            memory_limit: u64::MAX,
            limits: Vec::new(),
            scratch_bytes: 0,
            step_ns: 0,
            faults: Vec::new(),
            hangs: Vec::new(),
        }
    }
}

/// One span of the simulated timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The device.
    pub device: DeviceId,
    /// Which of its workers.
    pub worker: u32,
    /// The task.
    pub task: TaskId,
    /// From, in ns since the run's start.
    pub start_ns: u64,
    /// To, in ns since the run's start.
    pub end_ns: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Time until every result was in host memory.
    pub makespan_ns: u64,
    /// Every task run, in order of completion.
    pub spans: Vec<Span>,
    /// Bytes over links.
    pub bytes_moved: u64,
    /// Largest use of host memory, arrays and scratch included.
    pub peak_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Launch(LaunchId, TaskId, u16, u32, (u64, u64)),
    Pack(LaunchId),
    Move(CopyId),
    Fault(usize),
    Tick,
}

struct World<'a> {
    sim: &'a Simulation,
    graph: &'a TaskGraph,
    now: u64,
    heap: BinaryHeap<Reverse<(u64, u64, Due)>>,
    sequence: u64,
    /// When each worker of each device is free.
    free: Vec<Vec<u64>>,
    /// When what is compiled last for each device, of launches that wait for it, has run: others pass it.
    late: Vec<u64>,
    /// When each direction of each link is free.
    links: Vec<[u64; 2]>,
    /// When this run began.
    start: u64,
    hung: Vec<u32>,
    out: Outcome,
    finished: bool,
}

/// Runs `graph` in virtual time. O(tasks log tasks).
///
/// # Errors
/// [`Error::OutOfMemory`] if the limit refuses the graph, [`Error::Stalled`] if a task finds no device.
pub fn simulate(graph: &Arc<TaskGraph>, sim: &Simulation, policy: Box<dyn Policy>) -> Result<Outcome> {
    Ok(simulate_repeats(graph, sim, policy, 1)?.pop().unwrap_or_default())
}

/// Runs `graph` `times` times in virtual time, one run after the other, with what one run leaves in devices' memory still there
/// for the next; says what came of each. O(tasks log tasks) per run.
///
/// # Errors
/// As [`simulate`].
pub fn simulate_repeats(graph: &Arc<TaskGraph>, sim: &Simulation, policy: Box<dyn Policy>, times: u32) -> Result<Vec<Outcome>> {
    let mut scheduler = Scheduler::new(policy);
    let mut actions = Vec::new();
    for (index, spec) in sim.devices.iter().enumerate() {
        let joined = Event::DeviceJoined { device: DeviceId::at(index), spec: spec.clone() };
        scheduler.step(0, joined, &mut actions);
    }
    for &(space, bytes) in [(HOST, sim.memory_limit)].iter().chain(&sim.limits) {
        scheduler.step(0, Event::MemoryLimit { space, bytes }, &mut actions);
    }
    let mut world = World {
        sim,
        graph,
        now: 0,
        heap: BinaryHeap::new(),
        sequence: 0,
        start: 0,
        free: sim.devices.iter().map(|d| vec![0; d.workers as usize]).collect(),
        late: vec![0; sim.devices.len()],
        links: vec![[0; 2]; sim.devices.len()],
        hung: sim.hangs.clone(),
        out: Outcome::default(),
        finished: false,
    };
    for (index, &(at, _)) in sim.faults.iter().enumerate() {
        world.due(at, Due::Fault(index));
    }
    if !sim.hangs.is_empty() {
        world.due(1_000_000_000, Due::Tick);
    }
    let mut outcomes = Vec::new();
    for id in (0..times).map(GraphId) {
        let (tasks, estimates, scratch_bytes) = (graph.clone(), sim.beliefs.clone(), sim.scratch_bytes);
        (world.start, world.finished) = (world.now, false);
        scheduler.step(world.now, Event::Submit { graph: id, tasks, estimates, scratch_bytes, within: None }, &mut actions);
        outcomes.push(world.run(&mut scheduler, &mut actions)?);
        scheduler.step(world.now, Event::Retire { graph: id }, &mut actions);
    }
    Ok(outcomes)
}

impl World<'_> {
    fn due(&mut self, at: u64, what: Due) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, what)));
    }

    fn run(&mut self, scheduler: &mut Scheduler, actions: &mut Vec<Action>) -> Result<Outcome> {
        loop {
            for action in actions.drain(..) {
                self.obey(&action)?;
            }
            self.out.peak_bytes = self.out.peak_bytes.max(scheduler.used_bytes(HOST));
            if self.finished {
                self.out.makespan_ns = self.now - self.start;
                return Ok(std::mem::take(&mut self.out));
            }
            let Some(Reverse((at, _, what))) = self.heap.pop() else {
                return Err(Error::Stalled {
                    task: "none".into(),
                    device: "the simulated platform (a bug of the scheduler)".into(),
                    waited_s: 0.0,
                    predicted_s: 0.0,
                });
            };
            let reported = matches!(what, Due::Launch(..) | Due::Pack(_) | Due::Move(_));
            self.now = self.now.max(at) + if reported { self.sim.step_ns } else { 0 };
            let event = match what {
                Due::Launch(launch, task, device, worker, (start_ns, end_ns)) => {
                    let (from, to) = (start_ns.saturating_sub(self.start), end_ns - self.start);
                    self.out.spans.push(Span { device: DeviceId(device), worker, task, start_ns: from, end_ns: to });
                    Event::Done { launch, elapsed_ns: end_ns - start_ns }
                }
                Due::Pack(launch) => Event::Done { launch, elapsed_ns: 0 },
                Due::Move(copy) => Event::Moved { copy, arrived: true },
                Due::Fault(index) => self.sim.faults[index].1.clone(),
                Due::Tick => {
                    if !self.heap.is_empty() || !self.hung.is_empty() || at < 1_000_000_000_000 {
                        self.due(at + 1_000_000_000, Due::Tick);
                    }
                    Event::Tick
                }
            };
            scheduler.step(self.now, event, actions);
        }
    }

    fn obey(&mut self, action: &Action) -> Result<()> {
        match *action {
            Action::Run { launch, task, device, .. } => {
                let truth = if self.sim.truth.is_empty() { &self.sim.beliefs } else { &self.sim.truth };
                let column = truth.iter().find(|c| c.device == device);
                let cost = column.and_then(|c| c.ns(self.graph, task)).unwrap_or(super::CANNOT);
                let compiled = column.map_or(0, |c| self.start.saturating_add(c.compiling_ns(self.graph, task)));
                if let Some(at) = self.hung.iter().position(|&t| t == task.0) {
                    self.hung.swap_remove(at);
                    return Ok(());
                }
                let (worker, start, end) = self.occupy(device, (cost, compiled));
                // A device behind a link goes on with its queue while the host has yet to hear.
                let told = self.sim.devices[device.index()].link.map_or(0, |link| link[1].latency_ns);
                self.due(end + told, Due::Launch(launch, task, device.0, worker, (start, end)));
            }
            Action::Pack { launch, value, device, .. } => {
                let (_, _, end) = self.occupy(device, (self.graph.bytes(value) / 4, 0));
                self.due(end, Due::Pack(launch));
            }
            Action::Move { copy, value, device, upload, .. } => {
                let bytes = self.graph.bytes(value);
                let link = self.sim.devices[device.index()].link.map_or(0, |l| l[usize::from(!upload)].transfer_ns(bytes));
                self.out.bytes_moved += bytes;
                let free = &mut self.links[device.index()][usize::from(!upload)];
                *free = (*free).max(self.now) + link;
                let end = *free;
                self.due(end, Due::Move(copy));
            }
            Action::Refused { task, peak_bytes, limit_bytes, .. } => {
                return Err(Error::OutOfMemory {
                    what: task.map_or_else(|| "the arrays alone".to_owned(), |t| self.graph.task_name(t)),
                    requested_bytes: peak_bytes,
                    available_bytes: limit_bytes,
                    space: "host".into(),
                    remedies: vec![Remedy::Limit(peak_bytes.saturating_add(peak_bytes / 50))],
                });
            }
            Action::NoMemory { task, bytes, used_bytes, .. } => {
                return Err(Error::OutOfMemory {
                    what: self.graph.task_name(task),
                    requested_bytes: used_bytes.saturating_add(bytes),
                    available_bytes: self.sim.memory_limit,
                    space: "host".into(),
                    remedies: Vec::new(),
                });
            }
            Action::Stalled { task, waited_ns, predicted_ns, .. } => {
                return Err(Error::Stalled {
                    task: self.graph.task_name(task),
                    device: "a simulated device".into(),
                    waited_s: waited_ns as f64 * 1e-9,
                    predicted_s: predicted_ns as f64 * 1e-9,
                });
            }
            Action::Finished { .. } => self.finished = true,
            Action::Allocate { .. } | Action::Release { .. } | Action::Drop { .. } => {}
        }
        Ok(())
    }

    /// The worker that is free first takes `cost` ns; if it has to wait until something is compiled, others pass it.
    fn occupy(&mut self, device: DeviceId, (cost, compiled): (u64, u64)) -> (u32, u64, u64) {
        let workers = &mut self.free[device.index()];
        let worker = (0..workers.len()).min_by_key(|&w| workers[w]).unwrap_or(0);
        let start = workers[worker].max(self.now);
        if compiled > start {
            let late = &mut self.late[device.index()];
            let start = compiled.max(*late);
            *late = start + cost;
            return (worker as u32, start, start + cost);
        }
        workers[worker] = start + cost;
        (worker as u32, start, start + cost)
    }
}
