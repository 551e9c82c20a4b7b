//! Launches: what they read and write, how long they take, and how they end.
//!
//! Owns: the checks of a launch and the faults that befall it. Must not know: memory limits. Invariant: a result counts only if the scheduler still wants it.

use chunkwise::device::HOST;
use chunkwise::id::{DeviceId, GraphId, LaunchId, TaskId};
use chunkwise::schedule::Event;
use chunkwise::task::PLAIN;

use super::{Content, Due, Flying, Job, Key, World};

impl World {
    pub(super) fn run_task(&mut self, now: u64, launch: LaunchId, graph: GraphId, task: TaskId, device: DeviceId) {
        assert!(!self.dead.contains(&device), "{task} on a dead device");
        assert!(!self.ended.contains_key(&graph), "{task} after the end of {graph}");
        let operands = self.scheduler.operands(launch).expect("a flying launch has operands").clone();
        let tasks = self.graphs[&graph].clone();
        let space = self.devices[device.index()].space;
        let mut flying = Flying { graph, device, job: Job::Run(task), reads: Vec::new(), writes: Vec::new(), wedged: false };
        let contiguous = self.devices[device.index()].takes_contiguous();
        for ((value, form), &place) in tasks.residents(task, contiguous).zip(&operands.inputs) {
            let content = if form == PLAIN { self.plain(graph, value) } else { Content::Formed(graph, value, form) };
            flying.reads.push(self.expect(graph, value, place, space, content));
        }
        assert_eq!(tasks.inputs(task).len(), operands.inputs.len());
        assert_eq!(tasks.outputs(task).len(), operands.outputs.len());
        for (output, &(place, old_place)) in tasks.outputs(task).zip(&operands.outputs) {
            let to = self.key(graph, output.value, place, space, tasks.bytes(output.value));
            match (output.updates, old_place) {
                (Some(old), Some(from)) => {
                    flying.reads.push(self.expect(graph, old, from, space, self.plain(graph, old)));
                }
                (Some(old), None) => assert_eq!(self.contents.get(&to), Some(&self.plain(graph, old)), "{task}: old value"),
                (None, from) => assert_eq!(from, None),
            }
            flying.writes.push(to);
        }
        let time = 50 + self.dice.below(400) as u64;
        self.launch(now, launch, flying, time);
    }

    pub(super) fn launch(&mut self, now: u64, launch: LaunchId, mut flying: Flying, time: u64) {
        self.claim(&flying);
        let device = flying.device;
        let running = self.launches.values().filter(|f| f.device == device).count();
        assert!(running < self.devices[device.index()].queue as usize, "{device} has no room");
        flying.wedged = self.dice.percent(self.faults.hang);
        self.troubled |= flying.wedged;
        self.lost |= flying.wedged && self.devices[device.index()].space != HOST;
        if !flying.wedged {
            self.due(now + time, Due::Launch(launch));
        } else if self.faults.late {
            // Before or after it is given up, and before or after its task has run again.
            // Each second counts a millisecond: a measured launch is late after two, another after thirteen.
            let seconds = [2, 13, 1 + self.dice.below(40) as u64][self.dice.below(3)];
            for second in 1..=seconds {
                self.due(now + second * 1_000_000_000, Due::Event(Event::Tick));
            }
            let again = if self.dice.percent(50) { self.dice.below(600) as u64 } else { 7 * time };
            self.due(now + seconds * 1_000_000_000 + again, Due::Launch(launch));
        }
        self.launches.insert(launch, flying);
    }

    pub(super) fn end_launch(&mut self, launch: LaunchId) -> Event {
        let flying = self.launches.remove(&launch).expect("flies");
        let given_up = self.scheduler.operands(launch).is_none() || self.dead.contains(&flying.device);
        if given_up && !(self.scheduler.wants(launch) && self.dice.percent(70)) {
            // What it wrote last is not to be believed, wherever that is.
            for key in flying.writes.into_iter().filter(|key| !matches!(key, Key::Opaque(..))) {
                self.contents.insert(key, Content::Junk);
            }
            return if self.scheduler.wants(launch) {
                Event::LaunchLost { launch }
            } else {
                Event::Done { launch, elapsed_ns: 1 }
            };
        }
        self.adopted += u32::from(given_up);
        let roll = self.dice.below(1000) as u32;
        if roll < 10 * self.faults.lost {
            self.troubled = true;
            return Event::LaunchLost { launch };
        }
        if roll < 10 * (self.faults.lost + self.faults.failed) {
            self.troubled = true;
            self.failed.insert(flying.graph);
            return Event::LaunchFailed { launch };
        }
        match flying.job {
            Job::Run(task) => {
                *self.done.entry((flying.graph, task)).or_default() += 1;
                *self.ran.entry(flying.device).or_default() += 1;
                let tasks = self.graphs[&flying.graph].clone();
                for (output, key) in tasks.outputs(task).zip(flying.writes) {
                    self.contents.insert(key, Content::Plain(flying.graph, output.value));
                }
            }
            Job::Pack(value, form) => {
                self.contents.insert(flying.writes[0], Content::Formed(flying.graph, value, form));
            }
            Job::Move(_) => unreachable!("moves are not launches"),
        }
        Event::Done { launch, elapsed_ns: 1 }
    }
}
