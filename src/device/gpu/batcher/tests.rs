//! The batcher on a clock of its own: 10 000 random schedules, on GPUs that are up to ten times slower than expected.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::device::gpu::plan::LaunchStage;
use crate::kernel::{Pass, Program, Shader, Work};
use crate::shape::DType;

const LIMITS: Limits = Limits { in_flight: 3, down_bytes: 8 << 20, piece_bytes: 2 << 20, up_bytes: 2 << 20 };

/// A plan of one program: so many passes of these groups, some of which take steps.
fn plan(name: &str, flops: f64, passes: &[(u64, u32)]) -> Arc<LaunchPlan> {
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

/// A GPU and a link with known speeds, and everything that was asked of them.
struct World {
    batcher: Batcher,
    now_ns: u64,
    free_ns: u64,
    flying: VecDeque<Flying>,
    /// Staging on its way to the host chunks: when it is free, and its bytes.
    emptying: VecDeque<(u64, u64)>,
    tick_ns: Option<u64>,
    plans: BTreeMap<Ticket, Arc<LaunchPlan>>,
    /// Of each launch: the next slice that may come, as (stage, pass, group, step), and whether it is over.
    launches: BTreeMap<Ticket, (Cursor, usize, bool)>,
    downloads: BTreeMap<Ticket, (u64, u64)>,
    /// Not submitted yet, and their bytes.
    uploads: VecDeque<(Ticket, u64)>,
    /// Of what is queued, the last upload before it.
    behind: BTreeMap<Ticket, Ticket>,
    /// Units a ns.
    rate: f64,
    link: f64,
    longest_ns: f64,
    submissions: u64,
    launch_batches: u64,
    /// Times at which there was work and nothing was under way.
    idle: u64,
}

impl World {
    fn new(limits: Limits, rate: f64) -> Self {
        Self {
            batcher: Batcher::new(limits),
            now_ns: 0,
            free_ns: 0,
            flying: VecDeque::new(),
            emptying: VecDeque::new(),
            tick_ns: None,
            plans: BTreeMap::new(),
            launches: BTreeMap::new(),
            downloads: BTreeMap::new(),
            uploads: VecDeque::new(),
            behind: BTreeMap::new(),
            rate,
            link: 10.0,
            longest_ns: 0.0,
            submissions: 0,
            launch_batches: 0,
            idle: 0,
        }
    }

    fn event(&mut self, event: BatchEvent) {
        if let (BatchEvent::Launch(ticket, ..) | BatchEvent::Download(ticket, _), Some(last)) = (&event, self.uploads.back()) {
            self.behind.insert(*ticket, last.0);
        }
        match &event {
            BatchEvent::Launch(ticket, plan, _) => {
                self.plans.insert(*ticket, plan.clone());
                self.launches.insert(*ticket, (Cursor::default(), 0, false));
            }
            BatchEvent::Download(ticket, bytes) => drop(self.downloads.insert(*ticket, (0, *bytes))),
            BatchEvent::Upload(ticket, bytes, _) => self.uploads.push_back((*ticket, *bytes)),
            _ => {}
        }
        let mut actions = Vec::new();
        self.batcher.step(self.now_ns, event, &mut actions);
        self.tick_ns = None;
        for action in actions {
            match action {
                BatchAction::Submit(batch) => self.submit(batch),
                BatchAction::Wait(until) => self.tick_ns = Some(until),
            }
        }
        let room = self.batcher.moves.limits.down_bytes > self.batcher.moves.lent_bytes;
        let downs = self.downloads.values().any(|(at, bytes)| at < bytes) && room;
        let work = downs || self.launches.values().any(|l| !l.2) || !self.uploads.is_empty();
        self.idle += u64::from(work && self.flying.is_empty() && self.batcher.reporting == 0);
        assert!(self.flying.len() <= self.batcher.moves.limits.in_flight);
    }

    fn submit(&mut self, batch: NextBatch) {
        self.submissions += 1;
        self.launch_batches += u64::from(!batch.parts.is_empty());
        let mut up_bytes = 0;
        for ticket in &batch.uploads {
            let (first, bytes) = self.uploads.pop_front().unwrap();
            assert_eq!(*ticket, first, "uploads in order");
            up_bytes += bytes;
        }
        assert!(batch.uploads.len() <= 1 || up_bytes <= self.batcher.moves.limits.up_bytes, "{up_bytes} bytes of uploads");
        for ticket in batch.parts.iter().map(|part| part.ticket).chain(batch.downloads.iter().map(|piece| piece.ticket)) {
            let waits = |before: &Ticket| self.uploads.iter().any(|(upload, _)| upload == before);
            assert!(!self.behind.get(&ticket).is_some_and(waits), "{ticket:?} overtakes an upload");
        }
        let mut ns = 0.0;
        let mut shown = SmallVec::<[(PaceKey, f64, u64); 2]>::new();
        assert!(batch.parts.len() <= PARTS && batch.parts.iter().map(|p| p.slices.len()).sum::<usize>() <= DISPATCHES);
        for part in &batch.parts {
            let plan = &self.plans[&part.ticket];
            let state = self.launches.get_mut(&part.ticket).unwrap();
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
        self.longest_ns = self.longest_ns.max(ns);
        let mut end = 0;
        for piece in &batch.downloads {
            let (at, bytes) = self.downloads.get_mut(&piece.ticket).unwrap();
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
    fn until(&mut self, then_ns: u64) {
        loop {
            let flying = self.flying.front().map(|f| f.ends_ns);
            let emptying = self.emptying.front().map(|e| e.0);
            let Some(next) = [flying, emptying, self.tick_ns].into_iter().flatten().min().filter(|&at| at <= then_ns) else {
                break;
            };
            self.now_ns = self.now_ns.max(next);
            if flying == Some(next) {
                let Some(over) = self.flying.pop_front() else { break };
                if over.pack_bytes > 0 {
                    self.emptying.push_back((self.now_ns + over.pack_bytes / 8, over.pack_bytes));
                }
                self.event(BatchEvent::Completed(over.shown));
                self.event(BatchEvent::Reported);
            } else if emptying == Some(next) {
                let Some((_, bytes)) = self.emptying.pop_front() else { break };
                self.event(BatchEvent::Emptied(bytes));
            } else {
                self.event(BatchEvent::Tick);
            }
        }
        self.now_ns = self.now_ns.max(then_ns);
    }

    fn finish(&mut self) {
        let mut rounds = 0;
        while !(self.flying.is_empty() && self.emptying.is_empty() && self.tick_ns.is_none()) {
            self.until(self.now_ns + 10_000_000_000);
            rounds += 1;
            assert!(rounds < 1_000_000, "it never ends");
        }
        assert!(self.launches.values().all(|l| l.2), "a launch was left");
        assert!(self.downloads.values().all(|(at, bytes)| at == bytes), "a download was left");
        assert!(self.uploads.is_empty() && self.batcher.moves.lent_bytes == 0 && self.batcher.in_flight == 0);
        assert_eq!(self.idle, 0, "work waited while nothing was under way");
    }
}

#[derive(Clone, Debug)]
enum Asked {
    /// Kind, how far the estimate is off.
    Launch(usize, f64),
    Upload(u64, bool),
    Download(u64),
    Pause(u64),
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        6 => (0..5usize, 0.1..10.0f64).prop_map(|(kind, off)| Asked::Launch(kind, off)),
        1 => (1u64..8 << 20, any::<bool>()).prop_map(|(bytes, last)| Asked::Upload(bytes, last)),
        1 => prop_oneof![1u64..10_000, 1u64..20 << 20, Just(0u64)].prop_map(Asked::Download),
        1 => (0u64..400_000).prop_map(Asked::Pause),
    ]
}

fn kinds() -> [Arc<LaunchPlan>; 5] {
    [
        plan("tiny", 1e3, &[(1, 0)]),
        plan("medium", 1e8, &[(256, 0)]),
        plan("passes", 1e8, &[(1, 0), (700, 0), (3, 0), (0, 0), (200, 0)]),
        plan("long", 3e10, &[(10_000, 0)]),
        plan("steps", 1e10, &[(4096, 20_000)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 500, ..ProptestConfig::default() })]
    #[test]
    fn any_schedule_is_carried_out_in_short_submissions(
        all in proptest::collection::vec(asked(), 1..60), rate in 50.0..5e4f64, in_flight in 1..4usize, small in any::<bool>(),
    ) {
        let down_bytes = if small { 64 << 10 } else { LIMITS.down_bytes };
        let limits = Limits { in_flight, down_bytes, piece_bytes: LIMITS.piece_bytes.min(down_bytes), ..LIMITS };
        let (mut world, kinds) = (World::new(limits, rate), kinds());
        for (n, asked) in all.into_iter().enumerate() {
            let ticket = Ticket(n);
            match asked {
                Asked::Launch(kind, off) => {
                    // Off by up to ten times, either way.
                    let estimate_ns = (kinds[kind].units / rate * off).max(1.0) as u64;
                    world.event(BatchEvent::Launch(ticket, kinds[kind].clone(), estimate_ns));
                }
                Asked::Upload(bytes, last) => world.event(BatchEvent::Upload(ticket, bytes, last)),
                Asked::Download(bytes) => world.event(BatchEvent::Download(ticket, bytes)),
                Asked::Pause(ns) => world.until(world.now_ns + ns),
            }
        }
        world.finish();
        // A group of the largest, or sixteen steps of it, cannot be cut.
        prop_assert!(world.longest_ns <= 50e6 * 1.01 + 3e6 / rate, "{} ms", world.longest_ns / 1e6);
    }
}

#[test]
fn nothing_expected_and_nothing_seen_still_gives_short_submissions() {
    // Ten times slower than what is taken for slow.
    let mut world = World::new(LIMITS, 1.0);
    for (n, plan) in kinds().into_iter().enumerate() {
        world.event(BatchEvent::Launch(Ticket(n), plan, 0));
    }
    world.finish();
    assert!(world.longest_ns <= 51e6, "{}", world.longest_ns);
}

#[test]
fn a_gpu_that_becomes_ten_times_slower_has_short_submissions_from_the_next_on() {
    let (mut world, long) = (World::new(LIMITS, 1e4), plan("long", 1e12, &[(100_000, 0)]));
    world.event(BatchEvent::Launch(Ticket(0), long.clone(), 0));
    world.until(60_000_000);
    world.rate = 1e3;
    world.finish();
    assert!(world.longest_ns <= 51e6, "{}", world.longest_ns);
}

#[test]
fn sixteen_and_more_of_what_is_queued_go_together() {
    for mixed in [false, true] {
        let (mut world, kinds) = (World::new(LIMITS, 100.0), kinds());
        let other = plan("other", 2e3, &[(1, 0)]);
        for n in 0..10_000 {
            let plan = if mixed && n % 2 == 1 { &other } else { &kinds[0] };
            world.event(BatchEvent::Launch(Ticket(n), plan.clone(), 1000));
            if n % 100 == 99 {
                world.until(world.now_ns + 20_000);
            }
        }
        world.finish();
        assert!(world.submissions <= 10_000 / 16, "{mixed}: {} submissions", world.submissions);
    }
}

#[test]
fn of_mixed_submissions_one_in_sixteen_measures() {
    let mut batcher = Batcher::new(LIMITS);
    let (a, b) = (plan("a", 1e6, &[(8, 0)]), plan("b", 1e6, &[(8, 0)]));
    let (mut alone, mut all, mut actions) = (0, 0, Vec::new());
    for n in 0..20_000 {
        batcher.step(n, BatchEvent::Launch(Ticket(n as usize), [&a, &b][n as usize % 2].clone(), 50_000), &mut actions);
        for action in actions.drain(..) {
            if let BatchAction::Submit(batch) = action {
                (alone, all) = (alone + u64::from(batch.parts.len() == 1), all + 1);
                assert!(batch.timed || batch.parts.len() == 1, "long ones ask the clock");
            }
        }
        if n % 32 == 31 {
            batcher.step(n, BatchEvent::Completed(SmallVec::new()), &mut actions);
            batcher.step(n, BatchEvent::Reported, &mut actions);
        }
    }
    assert!((all / 20..all / 12).contains(&alone), "{alone} of {all}");
}

#[test]
fn neither_direction_waits_for_the_other_nor_for_launches() {
    let (mut world, long) = (World::new(LIMITS, 1000.0), plan("long", 1e12, &[(100_000, 0)]));
    world.event(BatchEvent::Launch(Ticket(0), long, 1_000_000_000));
    for n in 1..400 {
        world.event(BatchEvent::Download(Ticket(n), 1 << 20));
    }
    world.event(BatchEvent::Upload(Ticket(1000), 1 << 20, true));
    let asked_ns = world.now_ns;
    while !world.uploads.is_empty() {
        world.until(world.now_ns + 1_000_000);
    }
    assert!(world.now_ns - asked_ns <= 20_000_000, "an upload waits for a few submissions");
    world.until(300_000_000);
    let landed = world.downloads.values().filter(|(at, bytes)| at == bytes).count();
    assert!(landed > 60, "{landed} downloads landed beside a long launch");
    world.finish();
    assert_eq!(world.launch_batches, world.submissions.min(world.launch_batches));
}

#[test]
fn small_downloads_share_a_staging_buffer() {
    let mut world = World::new(Limits { piece_bytes: 8 << 20, down_bytes: 32 << 20, ..LIMITS }, 100.0);
    for n in 0..384 {
        world.event(BatchEvent::Download(Ticket(n), 1 << 20));
    }
    world.finish();
    assert!(world.submissions <= 384 / 7, "{} submissions of 1 MiB chunks", world.submissions);
    let mut world = World::new(LIMITS, 100.0);
    (0..10_000).for_each(|n| world.event(BatchEvent::Download(Ticket(n), 40)));
    world.finish();
    assert!(world.submissions <= 10_000 / 24, "{} submissions of tiny ones", world.submissions);
}

#[test]
fn uploads_alone_keep_the_link_busy() {
    let mut batcher = Batcher::new(LIMITS);
    let mut actions = Vec::new();
    for n in 0..3 {
        batcher.step(0, BatchEvent::Upload(Ticket(n), 8 << 20, true), &mut actions);
    }
    let submitted = actions.iter().filter(|action| matches!(action, BatchAction::Submit(_))).count();
    assert_eq!(submitted, 3, "as many as may be under way");
}

#[test]
fn what_follows_from_reports_goes_together_but_does_not_wait_for_ever() {
    let (tiny, mut actions) = (kinds()[0].clone(), Vec::new());
    let mut batcher = Batcher::new(LIMITS);
    let launch = |n| BatchEvent::Launch(Ticket(n), tiny.clone(), 1000);
    batcher.step(0, launch(0), &mut actions);
    batcher.step(1000, BatchEvent::Completed(SmallVec::new()), &mut actions);
    actions.clear();
    (1..10).for_each(|n| batcher.step(2000, launch(n), &mut actions));
    assert!(
        actions.iter().all(|action| matches!(action, BatchAction::Wait(until) if *until == 2000 + REPORTING_NS)),
        "{actions:?}"
    );
    actions.clear();
    batcher.step(3000, BatchEvent::Reported, &mut actions);
    assert!(matches!(&actions[..], [BatchAction::Submit(batch)] if batch.parts.len() == 9), "{actions:?}");
    // A report that takes long holds nothing up.
    batcher.step(4000, BatchEvent::Completed(SmallVec::new()), &mut actions);
    batcher.step(5000, launch(11), &mut actions);
    actions.clear();
    batcher.step(5000 + REPORTING_NS, BatchEvent::Tick, &mut actions);
    assert!(matches!(&actions[..], [BatchAction::Submit(_)]), "{actions:?}");
}

#[test]
fn without_staging_downloads_wait_for_what_is_lent() {
    let mut batcher = Batcher::new(LIMITS);
    let mut actions = Vec::new();
    let mut packs = Vec::new();
    let mut step = |batcher: &mut Batcher, event| {
        batcher.step(0, event, &mut actions);
        let submits = actions.drain(..).filter_map(|a| if let BatchAction::Submit(batch) = a { Some(batch) } else { None });
        submits.collect::<Vec<_>>()
    };
    packs.extend(step(&mut batcher, BatchEvent::Download(Ticket(0), 3 << 20)));
    packs.extend(step(&mut batcher, BatchEvent::Download(Ticket(1), 5 << 20)));
    assert!(packs.len() >= 2 && packs[1].downloads[0].at == 2 << 20);
    // The second cannot be had.
    let second = packs.remove(1);
    packs.truncate(1);
    batcher.not_submitted(0);
    batcher.no_staging(&second.downloads, second.pack_bytes, LIMITS.piece_bytes);
    let lent = packs[0].pack_bytes;
    assert!(
        step(&mut batcher, BatchEvent::Tick).is_empty() || batcher.moves.lent_bytes >= lent,
        "no more is lent than there is"
    );
    step(&mut batcher, BatchEvent::Completed(SmallVec::new()));
    step(&mut batcher, BatchEvent::Reported);
    let next = step(&mut batcher, BatchEvent::Emptied(lent));
    assert!(next.iter().flat_map(|b| &b.downloads).any(|piece| piece.ticket == Ticket(0) && piece.at == 2 << 20), "{next:?}");
}

#[test]
fn what_is_withdrawn_is_not_submitted() {
    let mut world = World::new(Limits { in_flight: 1, ..LIMITS }, 100.0);
    let tiny = kinds()[0].clone();
    (0..10).for_each(|n| world.event(BatchEvent::Launch(Ticket(n), tiny.clone(), 1000)));
    for n in 5..10 {
        world.launches.remove(&Ticket(n));
        world.event(BatchEvent::WithdrawLaunch(Ticket(n)));
    }
    world.finish();
    assert_eq!(world.launches.len(), 5);
}

#[test]
fn what_is_withdrawn_takes_nothing_of_the_same_number_along() {
    let mut world = World::new(Limits { in_flight: 1, ..LIMITS }, 100.0);
    let tiny = kinds()[0].clone();
    for n in 0..4 {
        world.event(BatchEvent::Upload(Ticket(n), 100, true));
        world.event(BatchEvent::Download(Ticket(n), 100));
        world.event(BatchEvent::Launch(Ticket(n), tiny.clone(), 1000));
    }
    world.launches.remove(&Ticket(2));
    world.event(BatchEvent::WithdrawLaunch(Ticket(2)));
    world.downloads.remove(&Ticket(3));
    world.event(BatchEvent::WithdrawDownload(Ticket(3)));
    world.finish();
    assert_eq!((world.launches.len(), world.downloads.len()), (3, 3), "they were all carried out");
}

#[test]
fn the_last_of_what_comes_down_is_cut_smaller() {
    let mut batcher = Batcher::new(Limits { in_flight: 1, down_bytes: 64 << 20, piece_bytes: 16 << 20, ..LIMITS });
    let (mut actions, mut pieces) = (Vec::new(), Vec::new());
    batcher.step(0, BatchEvent::Download(Ticket(0), 64 << 20), &mut actions);
    while let Some(BatchAction::Submit(batch)) = actions.pop() {
        pieces.push(batch.downloads[0].bytes >> 20);
        batcher.take(BatchEvent::Emptied(batch.pack_bytes));
        batcher.take(BatchEvent::Completed(SmallVec::new()));
        batcher.take(BatchEvent::Reported);
        batcher.decide(0, &mut actions);
    }
    assert_eq!(pieces, [16, 16, 8, 8, 4, 4, 4, 4]);
}

/// As on a card that refuses the buffer after it was decided on: no piece is brought down twice, and none is forgotten.
#[test]
fn what_finds_no_staging_is_decided_on_before_what_comes_behind_it() {
    let mut batcher = Batcher::new(Limits { down_bytes: 64 << 20, piece_bytes: 16 << 20, ..LIMITS });
    let (mut actions, mut landed, mut refused) = (Vec::new(), 0, 0);
    batcher.take(BatchEvent::Download(Ticket(0), 64 << 20));
    loop {
        batcher.decide(0, &mut actions);
        assert!(actions.len() <= 1, "one at a time");
        let Some(BatchAction::Submit(batch)) = actions.pop() else { break };
        let piece = batch.downloads[0];
        assert_eq!(piece.at, landed, "in order");
        if batch.pack_bytes > 2 << 20 {
            batcher.not_submitted(0);
            batcher.no_staging(&batch.downloads, batch.pack_bytes, batch.pack_bytes / 2);
            refused += 1;
            continue;
        }
        landed += piece.bytes;
        assert_eq!(piece.last, landed == 64 << 20);
        batcher.take(BatchEvent::Completed(SmallVec::new()));
        batcher.take(BatchEvent::Reported);
        batcher.take(BatchEvent::Emptied(batch.pack_bytes));
    }
    assert_eq!((landed, refused), (64 << 20, 3));
}
