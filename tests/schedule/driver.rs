//! A second virtual driver, which checks: it knows what every place holds, and looks at every action before it obeys.
//!
//! Owns: symbolic memory, injected faults, the recorded events. Must not know: how decisions are made. Invariant: whatever the
//! scheduler does wrong with a place, a value, a limit or an end is a panic here.

mod launches;
mod places;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use chunkwise::device::{DeviceSpec, HOST};
use chunkwise::id::{BufferId, CopyId, DeviceId, FormId, GraphId, LaunchId, SpaceId, TaskId, ValueId};
use chunkwise::schedule::{Action, Estimates, Event, Policy, Scheduler};
use chunkwise::shape::Form;
use chunkwise::task::{PLAIN, TaskGraph};

use support::graphs::Dice;

/// What a place holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Plain(GraphId, ValueId),
    /// A chunk of a caller's array: its number, offset, length.
    Source(u64, usize, usize),
    Formed(GraphId, ValueId, FormId),
    Junk,
}

/// A place that can be raced for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A buffer, by the number of its allocation (ids are used again).
    Buffer(u64),
    Window(GraphId, usize),
    Caller(GraphId, ValueId),
    Opaque(GraphId, ValueId),
}

struct Buffer {
    serial: u64,
    space: SpaceId,
    bytes: u64,
}

enum Job {
    Run(TaskId),
    Pack(ValueId, FormId),
    Move(ValueId),
}

struct Flying {
    graph: GraphId,
    device: DeviceId,
    job: Job,
    reads: Vec<Key>,
    writes: Vec<Key>,
    /// It will never report, or late: its buffers may be released under it.
    wedged: bool,
}

impl Flying {
    fn name(&self) -> String {
        let what = match self.job {
            Job::Run(task) => task.to_string(),
            Job::Pack(value, form) => format!("pack {form} of {value}"),
            Job::Move(value) => format!("move of {value}"),
        };
        format!("{what} of {} on {} (wedged: {})", self.graph, self.device, self.wedged)
    }
}

/// What may go wrong, in percent of launches or moves, and when.
#[derive(Clone, Default)]
pub struct Faults {
    pub lost: u32,
    pub failed: u32,
    pub hang: u32,
    /// Hung launches report in the end.
    pub late: bool,
    pub lost_moves: u32,
    pub at: Vec<(u64, Event)>,
}

/// Ticks after which every launch that can be judged has been: three tries of a launch whose time is measured.
const PATIENCE: u32 = 300;

pub struct Submission {
    pub graph: Arc<TaskGraph>,
    pub estimates: Vec<Estimates>,
    pub scratch: u64,
    pub at: u64,
}

pub struct World {
    pub scheduler: Scheduler,
    pub graphs: BTreeMap<GraphId, Arc<TaskGraph>>,
    pub ended: BTreeMap<GraphId, &'static str>,
    pub log: Vec<(u64, Event)>,
    pub actions: Vec<Action>,
    pub done: BTreeMap<(GraphId, TaskId), u32>,
    devices: Vec<DeviceSpec>,
    dead: BTreeSet<DeviceId>,
    buffers: BTreeMap<BufferId, Buffer>,
    contents: BTreeMap<Key, Content>,
    launches: BTreeMap<LaunchId, Flying>,
    moves: BTreeMap<CopyId, Flying>,
    failed: BTreeSet<GraphId>,
    retired: BTreeSet<GraphId>,
    heap: BinaryHeap<Reverse<(u64, u64, u64)>>,
    due: BTreeMap<u64, Due>,
    sequence: u64,
    limit: u64,
    /// Limits of the devices' spaces, and what was used last.
    limits: BTreeMap<SpaceId, (u64, u64)>,
    /// Where times of tasks are measured ones.
    measured: BTreeSet<(GraphId, DeviceId)>,
    /// The highest limit of host memory so far.
    high: u64,
    /// Tasks that each device has run.
    pub ran: BTreeMap<DeviceId, u32>,
    /// Launches that were given up and whose result was taken.
    pub adopted: u32,
    faults: Faults,
    troubled: bool,
    /// Something was lost that had been made, or a device.
    lost: bool,
    dice: Dice,
}

enum Due {
    Launch(LaunchId),
    Copy(CopyId),
    Event(Event),
}

impl World {
    pub fn new(policy: Box<dyn Policy>, devices: Vec<DeviceSpec>, limit: u64, faults: Faults, seed: u64) -> Self {
        let mut world = Self {
            scheduler: Scheduler::new(policy),
            graphs: BTreeMap::new(),
            ended: BTreeMap::new(),
            log: Vec::new(),
            actions: Vec::new(),
            done: BTreeMap::new(),
            devices: Vec::new(),
            dead: BTreeSet::new(),
            buffers: BTreeMap::new(),
            contents: BTreeMap::new(),
            launches: BTreeMap::new(),
            moves: BTreeMap::new(),
            failed: BTreeSet::new(),
            retired: BTreeSet::new(),
            heap: BinaryHeap::new(),
            due: BTreeMap::new(),
            sequence: 0,
            limit,
            limits: BTreeMap::new(),
            measured: BTreeSet::new(),
            high: limit,
            ran: BTreeMap::new(),
            adopted: 0,
            troubled: !faults.at.is_empty(),
            lost: false,
            dice: Dice::new(seed),
            faults,
        };
        world.scheduler.set_stall_rule(10, 1_000_000);
        for (index, spec) in devices.into_iter().enumerate() {
            world.step(0, Event::DeviceJoined { device: DeviceId::at(index), spec });
        }
        world.step(0, Event::MemoryLimit { space: HOST, bytes: limit });
        world
    }

    /// Runs everything to its end, and checks the end.
    pub fn run(&mut self, submissions: Vec<Submission>) {
        self.go(submissions);
        self.finish();
    }

    /// An event that is no fault, at some time.
    pub fn also(&mut self, at: u64, event: Event) {
        self.due(at, Due::Event(event));
    }

    /// Now, after what was run last.
    pub fn now(&self) -> u64 {
        self.log.last().map_or(0, |l| l.0)
    }

    /// Runs these graphs to their end, after those that were run before.
    pub fn go(&mut self, submissions: Vec<Submission>) {
        for s in submissions {
            let graph = GraphId::at(self.graphs.len());
            self.graphs.insert(graph, s.graph.clone());
            self.measured.extend(s.estimates.iter().filter(|e| e.measured.is_some()).map(|e| (graph, e.device)));
            let submit =
                Event::Submit { graph, tasks: s.graph, estimates: s.estimates, scratch_bytes: s.scratch, within: None };
            self.due(s.at, Due::Event(submit));
        }
        for (at, event) in std::mem::take(&mut self.faults.at) {
            self.due(at, Due::Event(event));
        }
        let mut tick = 0;
        loop {
            let Some(Reverse((at, _, key))) = self.heap.pop() else {
                let held = self.ended.keys().copied().find(|g| !self.retired.contains(g));
                if let (Some(graph), true) = (held, self.ended.len() < self.graphs.len()) {
                    // Others may wait for its arrays to go.
                    let last = self.log.last().map_or(0, |l| l.0);
                    self.step(last, Event::Retire { graph });
                    continue;
                }
                // Hung launches: time passes, and the stall rule finds those that it can judge. The others end some day.
                tick += 1;
                let last = self.log.last().map_or(0, |l| l.0);
                if self.ended.len() == self.graphs.len() {
                    break;
                }
                if tick <= PATIENCE {
                    self.step(last + 1_000_000_000_000, Event::Tick);
                    continue;
                }
                let judged = |f: &Flying| self.measured.contains(&(f.graph, f.device));
                let late = self.launches.iter().find(|(f, flying)| self.scheduler.operands(**f).is_some() && judged(flying));
                assert!(late.is_none(), "{} is late", late.map(|l| l.1.name()).unwrap_or_default());
                let hung = |flying: &Flying| !judged(flying) && !self.dead.contains(&flying.device);
                let Some(launch) = self.launches.iter().find(|f| hung(f.1)).map(|f| *f.0) else { break };
                let flying = self.launches.get_mut(&launch).expect("just listed");
                flying.wedged = false;
                let event = self.end_launch(launch);
                self.step(last + 1, event);
                tick = 0;
                continue;
            };
            tick = 0;
            let event = match self.due.remove(&key).expect("due once") {
                Due::Event(event) => event,
                Due::Copy(copy) => self.end_move(copy),
                Due::Launch(launch) => self.end_launch(launch),
            };
            self.step(at, event);
        }
        for graph in self.graphs.keys() {
            assert!(self.ended.contains_key(graph), "{graph} never ended");
        }
    }

    /// Limits a device's memory. A graph may then end as stalled: a device's memory is not proved to suffice.
    pub fn limit_space(&mut self, space: SpaceId, bytes: u64) {
        self.step(0, Event::MemoryLimit { space, bytes });
    }

    /// Retires everything, and checks that nothing is left.
    pub fn finish(&mut self) {
        let last = self.log.last().map_or(0, |l| l.0);
        for graph in self.graphs.keys().copied().collect::<Vec<_>>() {
            self.retired.insert(graph);
            self.step(last, Event::Retire { graph });
        }
        for (launch, flying) in std::mem::take(&mut self.launches) {
            assert!(flying.wedged, "{launch} was never reported");
            let late = if self.dice.percent(50) { Event::LaunchLost { launch } } else { Event::Done { launch, elapsed_ns: 1 } };
            self.step(last, late);
        }
        for space in (0..4).map(SpaceId) {
            let kept = self.scheduler.cached_bytes(space);
            assert_eq!(self.scheduler.used_bytes(space), kept, "bytes left in {space}");
        }
        let sources: BTreeSet<u64> = self.graphs.values().flat_map(|g| g.arrays()).map(|a| a.source).collect();
        sources.into_iter().for_each(|source| self.step(last, Event::SourceGone { source }));
        for space in (0..4).map(SpaceId) {
            assert_eq!(self.scheduler.used_bytes(space), 0, "bytes left in {space}");
        }
        assert!(self.scheduler.is_idle(), "something is left");
        let held: u64 = self.buffers.values().filter(|b| b.space == HOST).map(|b| b.bytes).sum();
        assert_eq!(held, 0, "host buffers left");
    }

    fn due(&mut self, at: u64, what: Due) {
        self.sequence += 1;
        self.due.insert(self.sequence, what);
        self.heap.push(Reverse((at, self.sequence, self.sequence)));
    }

    fn step(&mut self, at: u64, event: Event) {
        self.before(&event);
        self.log.push((at, event.clone()));
        let mut actions = Vec::new();
        self.scheduler.step(at, event, &mut actions);
        for action in &actions {
            self.obey(at, action);
        }
        self.actions.extend(actions);
        self.check_memory();
    }

    fn before(&mut self, event: &Event) {
        let loses = matches!(event, Event::LaunchLost { .. } | Event::DeviceLost { .. } | Event::Unfit { .. });
        self.lost |= loses || matches!(event, Event::Moved { arrived: false, .. });
        match event {
            Event::DeviceJoined { spec, .. } => self.devices.push(spec.clone()),
            Event::DeviceLost { device } => {
                self.dead.insert(*device);
                let space = self.devices[device.index()].space;
                for flying in self.launches.values_mut().chain(self.moves.values_mut()).filter(|f| f.device == *device) {
                    flying.wedged = true;
                }
                if space != HOST {
                    let lost: BTreeSet<u64> = self.buffers.values().filter(|b| b.space == space).map(|b| b.serial).collect();
                    let gone = |key: &Key| matches!(key, Key::Buffer(serial) if lost.contains(serial));
                    self.contents.iter_mut().filter(|(k, _)| gone(k)).for_each(|(_, c)| *c = Content::Junk);
                }
            }
            Event::MemoryLimit { space, bytes } if *space == HOST => self.limit = *bytes,
            Event::MemoryLimit { space, bytes } => self.limits.entry(*space).or_insert((0, 0)).0 = *bytes,
            Event::Retire { graph } => drop(self.retired.insert(*graph)),
            _ => {}
        }
    }

    fn obey(&mut self, now: u64, action: &Action) {
        match *action {
            Action::Allocate { buffer, space, bytes } => {
                self.sequence += 1;
                let old = self.buffers.insert(buffer, Buffer { serial: self.sequence, space, bytes });
                assert!(old.is_none(), "{buffer} exists");
                self.contents.insert(Key::Buffer(self.sequence), Content::Junk);
            }
            Action::Release { buffer } => {
                let serial = self.buffers.remove(&buffer).expect("a buffer to release").serial;
                let used = |f: &Flying| f.reads.iter().chain(&f.writes).any(|&k| k == Key::Buffer(serial)) && !f.wedged;
                assert!(!self.live().chain(self.moves.values()).any(used), "{buffer} is in use");
            }
            Action::Drop { graph, value } => {
                let key = Key::Opaque(graph, value);
                let read = |f: &Flying| f.reads.contains(&key) && !f.wedged;
                assert!(self.graphs[&graph].is_opaque(value) && !self.live().any(read), "{value} is in use");
                self.contents.remove(&key);
            }
            Action::Run { launch, graph, task, device } => self.run_task(now, launch, graph, task, device),
            Action::Pack { launch, graph, value, task, form, from, to, device } => {
                let (space, contiguous) = (self.devices[device.index()].space, self.devices[device.index()].takes_contiguous());
                let tasks = &self.graphs[&graph];
                assert!(
                    tasks.residents(task, contiguous).any(|r| r == (value, form)),
                    "{task} does not take {value} as {form}"
                );
                let packs = !matches!(tasks.form(form).1, Form::Plain);
                assert!(form != PLAIN && !(contiguous && packs), "{device} makes {form} of {value}");
                let bytes = tasks.form_bytes(value, form);
                let from = self.expect(graph, value, from, space, self.plain(graph, value));
                let to = self.key(graph, value, to, space, bytes);
                self.launch(
                    now,
                    launch,
                    Flying { graph, device, job: Job::Pack(value, form), reads: vec![from], writes: vec![to], wedged: false },
                    50,
                );
            }
            Action::Move { copy, graph, value, device, upload, from, to } => {
                assert!(!self.dead.contains(&device), "move on a dead link");
                let far = self.devices[device.index()].space;
                let (a, b) = if upload { (HOST, far) } else { (far, HOST) };
                let from = self.expect(graph, value, from, a, self.plain(graph, value));
                let to = self.key(graph, value, to, b, self.graphs[&graph].bytes(value));
                let flying =
                    Flying { graph, device, job: Job::Move(value), reads: vec![from], writes: vec![to], wedged: false };
                self.claim(&flying);
                let time = 20 + self.dice.below(200) as u64;
                self.moves.insert(copy, flying);
                self.due(now + time, Due::Copy(copy));
            }
            Action::Refused { graph, .. } => {
                self.end(graph, "refused");
            }
            Action::Stalled { graph, .. } | Action::NoMemory { graph, .. } => {
                assert!(self.troubled, "{graph} stalled without a fault");
                assert!(self.lost || matches!(action, Action::Stalled { .. }), "{graph} has no memory, though nothing is lost");
                self.failed.insert(graph);
            }
            Action::Finished { graph } => {
                let how = if self.failed.contains(&graph) { "failed" } else { "finished" };
                self.end(graph, how);
            }
        }
    }

    /// Launches but for those that were given up, which hold their memory themselves.
    fn live(&self) -> impl Iterator<Item = &Flying> {
        self.launches.iter().filter(|(launch, _)| self.scheduler.operands(**launch).is_some()).map(|l| l.1)
    }

    fn end(&mut self, graph: GraphId, how: &'static str) {
        assert!(self.ended.insert(graph, how).is_none(), "{graph} ended twice");
        let of = |f: &&Flying| f.graph == graph && !f.wedged;
        assert_eq!(self.live().chain(self.moves.values()).filter(of).count(), 0, "{graph} ended while it flies");
        if how != "finished" || self.retired.contains(&graph) {
            return;
        }
        let tasks = self.graphs[&graph].clone();
        for value in (0..tasks.value_count()).map(ValueId::at).filter(|&v| tasks.is_final(v) && tasks.producer(v).is_some()) {
            let place = self.scheduler.host_place(graph, value).expect("a final value is in host memory");
            self.expect(graph, value, place, HOST, self.plain(graph, value));
        }
        for task in tasks.tasks() {
            let runs = self.done.get(&(graph, task)).copied().unwrap_or(0);
            assert!(runs == 1 || runs > 1 && self.troubled, "{graph} {task} ran {runs} times");
        }
    }
}
