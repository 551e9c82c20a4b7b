//! A GPU on a clock of its own, for tests of the batcher.
//!
//! Owns: [`World`]. Must not know: what is tested. Invariant: whatever is submitted is checked: in order, side by side, no more than may be.

use std::collections::BTreeMap;

use super::*;
use crate::device::gpu::plan::LaunchStage;
use crate::kernel::{Pass, Program, Shader, Work};
use crate::shape::DType;

pub(super) const LIMITS: Limits = Limits { in_flight: 3, down_bytes: 8 << 20, piece_bytes: 2 << 20, up_bytes: 2 << 20 };

/// A plan of one program: so many passes of these groups, some of which take steps.
pub(super) fn plan(name: &str, flops: f64, passes: &[(u64, u32)]) -> Arc<LaunchPlan> {
    let passes =
        passes.iter().map(|&(groups, steps)| Pass { entry: "main".into(), groups, steps: 0..steps, resumable: steps > 0 });
    let shader = Shader::new(name.to_owned(), name.to_owned()).into();
    let program = Program::new(&shader, DType::F32, &[], passes.collect(), Work { flops, bytes: 0.0 });
    Arc::new(LaunchPlan::new(vec![LaunchStage { program, places: SmallVec::new() }], 0, SmallVec::new()))
}

/// What is under way on a GPU that takes one submission after the other.
struct Flying {
    ends_ns: u64,
    shown: SmallVec<[(PaceKey, f64, u64); 2]>,
    pack_bytes: u64,
}

/// Everything that was asked.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) plans: BTreeMap<Ticket, Arc<LaunchPlan>>,
    /// Of each launch: the next slice that may come, as (stage, pass, group, step), and whether it is over.
    pub(super) launches: BTreeMap<Ticket, (Cursor, usize, bool)>,
    pub(super) downloads: BTreeMap<Ticket, (u64, u64)>,
    /// Not submitted yet, and their bytes.
    pub(super) uploads: VecDeque<(Ticket, u64)>,
    /// Of what is queued, the last upload before it.
    behind: BTreeMap<Ticket, Ticket>,
}

/// A thread that sleeps until its alarm goes off.
#[derive(Default)]
struct Sleeper {
    /// What came meanwhile, and whether it is about the last upload.
    letters: VecDeque<(BatchEvent, bool)>,
    bell: Bell,
    /// What it waits for; `None` if it never sleeps.
    alarm: Option<Alarm>,
    /// When reports of submissions that are over end, and whether some take long.
    reports: VecDeque<u64>,
    long_reports: bool,
}

/// What was seen of submissions.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) longest_ns: f64,
    pub(super) submissions: u64,
    pub(super) launch_batches: u64,
    /// Times at which there was work and nothing was under way.
    idle: u64,
}

/// A GPU and a link with known speeds.
pub(super) struct World {
    pub(super) batcher: Batcher,
    pub(super) now_ns: u64,
    free_ns: u64,
    flying: VecDeque<Flying>,
    /// Staging on its way to the host chunks: when it is free, and its bytes.
    emptying: VecDeque<(u64, u64)>,
    tick_ns: Option<u64>,
    sleeper: Sleeper,
    pub(super) asked: Asked,
    /// Units a ns.
    pub(super) rate: f64,
    link: f64,
    pub(super) seen: Seen,
}

impl World {
    pub(super) fn new(limits: Limits, rate: f64) -> Self {
        Self {
            batcher: Batcher::new(limits),
            now_ns: 0,
            free_ns: 0,
            flying: VecDeque::new(),
            emptying: VecDeque::new(),
            tick_ns: None,
            sleeper: Sleeper::default(),
            asked: Asked::default(),
            rate,
            link: 10.0,
            seen: Seen::default(),
        }
    }

    /// The same, where the batcher is asked only when its alarm goes off, and reports take their time.
    pub(super) fn asleep(limits: Limits, rate: f64) -> Self {
        let mut world = Self::new(limits, rate);
        world.sleeper.alarm = Some(world.batcher.alarm(0));
        world
    }

    /// And now and then reporting takes its time, because it runs into a user's code.
    pub(super) fn with_long_reports(mut self, long: bool) -> Self {
        self.sleeper.long_reports = long;
        self
    }

    /// How long the launches of a submission are reported.
    fn report_ns(&self, submission: u64) -> u64 {
        if self.sleeper.long_reports && submission.is_multiple_of(3) { 10_000_000 } else { 30_000 }
    }

    fn haste(event: &BatchEvent) -> Haste {
        match *event {
            BatchEvent::Launch(..) => Haste::Order,
            BatchEvent::Upload(_, bytes, last) => Haste::of_move(bytes, last),
            BatchEvent::Download(_, bytes, _) => Haste::of_move(bytes, true),
            BatchEvent::Completed(_) | BatchEvent::Emptied(_) => Haste::End,
            BatchEvent::Reported => Haste::LastEnd,
            _ => Haste::Urgent,
        }
    }

    pub(super) fn event(&mut self, event: BatchEvent) {
        let mark = self.batcher.mark();
        let about_last =
            matches!(event, BatchEvent::Launch(.., after) | BatchEvent::Download(.., after) if after == mark && mark > Mark(0));
        if let (BatchEvent::Launch(ticket, _, _, after) | BatchEvent::Download(ticket, _, after), Some(last)) =
            (&event, self.asked.uploads.back())
            && *after == self.batcher.mark()
        {
            self.asked.behind.insert(*ticket, last.0);
        }
        match &event {
            BatchEvent::Launch(ticket, plan, ..) => {
                self.asked.plans.insert(*ticket, plan.clone());
                self.asked.launches.insert(*ticket, (Cursor::default(), 0, false));
            }
            BatchEvent::Download(ticket, bytes, _) => drop(self.asked.downloads.insert(*ticket, (0, *bytes))),
            BatchEvent::Upload(ticket, bytes, _) => self.asked.uploads.push_back((*ticket, *bytes)),
            _ => {}
        }
        let haste = Self::haste(&event);
        self.sleeper.letters.push_back((event, about_last));
        let woken = self.sleeper.bell.note(haste, self.now_ns, self.sleeper.alarm);
        if woken || self.sleeper.alarm.is_none() {
            self.wake();
        }
        let room = self.batcher.moves.most_bytes > self.batcher.moves.lent_bytes;
        let downs = self.asked.downloads.values().any(|(at, bytes)| at < bytes) && room;
        let work = downs || self.asked.launches.values().any(|l| !l.2) || !self.asked.uploads.is_empty();
        let reporting = self.batcher.reporting > 0 || !self.sleeper.reports.is_empty();
        self.seen.idle += u64::from(work && self.flying.is_empty() && !reporting);
        assert!(self.flying.len() <= self.batcher.moves.limits.in_flight);
    }

    /// The batcher is told what came, and asked.
    fn wake(&mut self) {
        if let Some(first) = self.sleeper.bell.stop().filter(|_| self.sleeper.alarm.is_some()) {
            self.batcher.waiting_since(first);
        }
        for (mut event, about_last) in std::mem::take(&mut self.sleeper.letters) {
            if let (BatchEvent::Launch(.., after) | BatchEvent::Download(.., after), true) = (&mut event, about_last) {
                *after = self.batcher.mark();
            }
            self.batcher.take(event);
        }
        let mut actions = Vec::new();
        self.batcher.decide_all(self.now_ns, &mut actions);
        self.tick_ns = None;
        for action in actions {
            match action {
                BatchAction::Submit(batch) => self.submit(batch),
                BatchAction::Wait(until) => self.tick_ns = Some(until),
            }
        }
        self.sleeper.alarm = self.sleeper.alarm.map(|_| self.batcher.alarm(self.now_ns));
    }

    fn submit(&mut self, batch: NextBatch) {
        self.seen.submissions += 1;
        self.seen.launch_batches += u64::from(!batch.parts.is_empty());
        let mut up_bytes = 0;
        for ticket in &batch.uploads {
            let (first, bytes) = self.asked.uploads.pop_front().unwrap();
            assert_eq!(*ticket, first, "uploads in order");
            up_bytes += bytes;
        }
        assert!(batch.uploads.len() <= 1 || up_bytes <= self.batcher.moves.limits.up_bytes, "{up_bytes} bytes of uploads");
        for ticket in batch.parts.iter().map(|part| part.ticket).chain(batch.downloads.iter().map(|piece| piece.ticket)) {
            let waits = |before: &Ticket| self.asked.uploads.iter().any(|(upload, _)| upload == before);
            assert!(!self.asked.behind.get(&ticket).is_some_and(waits), "{ticket:?} overtakes an upload");
        }
        let mut ns = 0.0;
        let mut shown = SmallVec::<[(PaceKey, f64, u64); 2]>::new();
        assert!(batch.parts.len() <= PARTS && batch.parts.iter().map(|p| p.slices.len()).sum::<usize>() <= DISPATCHES);
        for part in &batch.parts {
            let plan = &self.asked.plans[&part.ticket];
            let state = self.asked.launches.get_mut(&part.ticket).unwrap();
            assert!(!state.2, "over already");
            let mut units = 0.0;
            for (stage, slice) in &part.slices {
                // The same slice as a cursor gives that is asked for just this much.
                let program = &plan.stages[*stage].program;
                assert!(slice.pass >= state.1, "passes in order");
                state.1 = slice.pass;
                let share = slice.groups as f64 / program.passes.iter().map(|p| p.groups).sum::<u64>() as f64;
                let pass = &program.passes[slice.pass];
                let steps = if pass.resumable { f64::from(slice.end - slice.begin) / f64::from(pass.steps.end) } else { 1.0 };
                units += share * steps * plan.units;
            }
            assert!((units - part.units).abs() <= 1e-6 * plan.units.max(1.0), "{units} {}", part.units);
            state.2 = part.last;
            ns += units / self.rate;
            shown.push((plan.pace, units, ((units / self.rate) as u64).max(1)));
        }
        self.seen.longest_ns = self.seen.longest_ns.max(ns);
        let mut end = 0;
        for piece in &batch.downloads {
            let (at, bytes) = self.asked.downloads.get_mut(&piece.ticket).unwrap();
            assert_eq!(*at, piece.at, "bytes in order");
            assert!(piece.offset >= end && piece.offset + piece.bytes <= batch.pack_bytes, "side by side");
            end = piece.offset + piece.bytes;
            *at += piece.bytes;
            assert_eq!(piece.last, at == bytes);
        }
        let copied: u64 = batch.downloads.iter().map(|piece| piece.bytes).sum();
        let took = ns + copied.max(up_bytes) as f64 / self.link + 5000.0;
        self.free_ns = self.free_ns.max(self.now_ns) + took as u64;
        self.flying.push_back(Flying { ends_ns: self.free_ns, shown, pack_bytes: batch.pack_bytes });
        let lent: u64 = self.flying.iter().map(|f| f.pack_bytes).chain(self.emptying.iter().map(|e| e.1)).sum();
        assert!(lent <= self.batcher.moves.limits.down_bytes.max(self.batcher.moves.limits.piece_bytes), "{lent} lent");
    }

    /// Lets time pass until then.
    pub(super) fn until(&mut self, then_ns: u64) {
        loop {
            let flying = self.flying.front().map(|f| f.ends_ns);
            let emptying = self.emptying.front().map(|e| e.0);
            let reported = self.sleeper.reports.front().copied();
            let late = self.sleeper.alarm.and_then(|alarm| alarm.late_ns);
            let Some(next) =
                [flying, emptying, reported, late, self.tick_ns].into_iter().flatten().min().filter(|&at| at <= then_ns)
            else {
                break;
            };
            self.now_ns = self.now_ns.max(next);
            if flying == Some(next) {
                let Some(over) = self.flying.pop_front() else { break };
                if over.pack_bytes > 0 {
                    self.emptying.push_back((self.now_ns + over.pack_bytes / 8, over.pack_bytes));
                }
                if self.sleeper.alarm.is_some() {
                    let after = self.sleeper.reports.back().copied().unwrap_or(0).max(self.now_ns);
                    self.sleeper.reports.push_back(after + self.report_ns(self.seen.submissions));
                    self.event(BatchEvent::Completed(over.shown));
                } else {
                    self.event(BatchEvent::Completed(over.shown));
                    self.event(BatchEvent::Reported);
                }
            } else if late == Some(next) {
                self.sleeper.alarm = self.sleeper.alarm.map(Alarm::late);
                if self.sleeper.alarm.is_some_and(|alarm| self.sleeper.bell.rings(alarm)) {
                    self.wake();
                }
            } else if reported == Some(next) {
                self.sleeper.reports.pop_front();
                self.event(BatchEvent::Reported);
            } else if emptying == Some(next) {
                let Some((_, bytes)) = self.emptying.pop_front() else { break };
                self.event(BatchEvent::Emptied(bytes));
            } else {
                self.wake();
            }
        }
        self.now_ns = self.now_ns.max(then_ns);
    }

    /// Lets time pass until so many submissions were made.
    pub(super) fn until_submitted(&mut self, submissions: u64) {
        let most_ns = self.now_ns + 1_000_000_000;
        while self.seen.submissions < submissions {
            assert!(self.now_ns < most_ns, "it never comes");
            self.until(self.now_ns + 1000);
        }
    }

    pub(super) fn finish(&mut self) {
        let mut rounds = 0;
        while !(self.flying.is_empty() && self.emptying.is_empty() && self.sleeper.reports.is_empty() && self.tick_ns.is_none())
        {
            self.until(self.now_ns + 10_000_000_000);
            rounds += 1;
            assert!(rounds < 1_000_000, "it never ends");
        }
        assert!(self.asked.launches.values().all(|l| l.2), "a launch was left");
        assert!(self.asked.downloads.values().all(|(at, bytes)| at == bytes), "a download was left");
        assert!(self.asked.uploads.is_empty(), "an upload was left");
        assert_eq!(self.seen.idle, 0, "work waited while nothing was under way");
        self.wake(); // the last ends are nothing to wake for
        assert!(self.batcher.moves.lent_bytes == 0 && self.batcher.in_flight.is_empty());
    }
}
