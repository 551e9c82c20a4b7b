//! The batcher on a clock of its own: 10 000 random schedules, on GPUs that are up to ten times slower than expected.

use proptest::prelude::*;

use super::world::{LIMITS, World, plan};
use super::*;

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
        all in proptest::collection::vec(asked(), 1..60), digits in 0.7..4.7f64, in_flight in 1..4usize, small in any::<bool>(),
        asleep in any::<bool>(), long_reports in any::<bool>(),
    ) {
        // From a slow integrated GPU to a fast card, each power of ten as often.
        let rate = 10f64.powf(digits);
        let down_bytes = if small { 64 << 10 } else { LIMITS.down_bytes };
        let limits = Limits { in_flight, down_bytes, piece_bytes: LIMITS.piece_bytes.min(down_bytes), ..LIMITS };
        // Half of them by a thread that sleeps until its alarm goes off.
        let world = if asleep { World::asleep(limits, rate) } else { World::new(limits, rate) };
        let (mut world, kinds) = (world.with_long_reports(long_reports), kinds());
        for (n, asked) in all.into_iter().enumerate() {
            let ticket = Ticket(n);
            // Some are about what was uploaded last.
            let after = if n % 3 == 0 { world.batcher.mark() } else { Mark(0) };
            match asked {
                Asked::Launch(kind, off) => {
                    // Off by up to ten times, either way.
                    let estimate_ns = (kinds[kind].units / rate * off).max(1.0) as u64;
                    world.event(BatchEvent::Launch(ticket, kinds[kind].clone(), estimate_ns, after));
                }
                Asked::Upload(bytes, last) => world.event(BatchEvent::Upload(ticket, bytes, last)),
                Asked::Download(bytes) => world.event(BatchEvent::Download(ticket, bytes, after)),
                Asked::Pause(ns) => world.until(world.now_ns + ns),
            }
        }
        world.finish();
        // A group of the largest, or sixteen steps of it, cannot be cut.
        prop_assert!(world.seen.longest_ns <= 50e6 * 1.01 + 3e6 / rate, "{} ms", world.seen.longest_ns / 1e6);
    }
}

#[test]
fn nothing_expected_and_nothing_seen_still_gives_short_submissions() {
    // Ten times slower than what is taken for slow.
    let mut world = World::new(LIMITS, 1.0);
    for (n, plan) in kinds().into_iter().enumerate() {
        world.event(BatchEvent::Launch(Ticket(n), plan, 0, Mark(0)));
    }
    world.finish();
    assert!(world.seen.longest_ns <= 51e6, "{}", world.seen.longest_ns);
}

#[test]
fn a_seed_fills_the_first_submission_and_a_wrong_one_keeps_it_short() {
    let first = |seed: Option<f64>, rate: f64| {
        let mut world = World::new(LIMITS, rate);
        seed.into_iter().for_each(|seed| world.batcher.seed([seed, f64::NAN]));
        world.event(BatchEvent::Launch(Ticket(0), plan("long", 1e12, &[(100_000, 0)]), 0, Mark(0)));
        let first = world.seen.longest_ns;
        world.finish();
        (first, world.seen.longest_ns)
    };
    assert!(first(None, 1e4).0 < TARGET_NS / 100.0, "nothing is known of a fast GPU");
    assert!((first(Some(1e4), 1e4).0 / TARGET_NS - 1.0).abs() < 0.01);
    assert!(first(Some(1e4), 1e3).1 <= 51e6, "ten times too much was expected");
}

#[test]
fn a_gpu_that_becomes_ten_times_slower_has_short_submissions_from_the_next_on() {
    let (mut world, long) = (World::new(LIMITS, 1e4), plan("long", 1e12, &[(100_000, 0)]));
    world.event(BatchEvent::Launch(Ticket(0), long.clone(), 0, Mark(0)));
    world.until(60_000_000);
    world.rate = 1e3;
    world.finish();
    assert!(world.seen.longest_ns <= 51e6, "{}", world.seen.longest_ns);
}

#[test]
fn sixteen_and_more_of_what_is_queued_go_together() {
    for mixed in [false, true] {
        let (mut world, kinds) = (World::new(LIMITS, 100.0), kinds());
        let other = plan("other", 2e3, &[(1, 0)]);
        for n in 0..10_000 {
            let plan = if mixed && n % 2 == 1 { &other } else { &kinds[0] };
            world.event(BatchEvent::Launch(Ticket(n), plan.clone(), 1000, Mark(0)));
            if n % 100 == 99 {
                world.until(world.now_ns + 20_000);
            }
        }
        world.finish();
        assert!(world.seen.submissions <= 10_000 / 16, "{mixed}: {} submissions", world.seen.submissions);
    }
}

#[test]
fn of_mixed_submissions_one_in_sixteen_measures() {
    let mut batcher = Batcher::new(LIMITS);
    let (a, b) = (plan("a", 1e6, &[(8, 0)]), plan("b", 1e6, &[(8, 0)]));
    let (mut alone, mut all, mut actions) = (0, 0, Vec::new());
    for n in 0..20_000 {
        batcher.step(
            n,
            BatchEvent::Launch(Ticket(n as usize), [&a, &b][n as usize % 2].clone(), 50_000, Mark(0)),
            &mut actions,
        );
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
    world.event(BatchEvent::Launch(Ticket(0), long, 1_000_000_000, Mark(0)));
    for n in 1..400 {
        world.event(BatchEvent::Download(Ticket(n), 1 << 20, Mark(0)));
    }
    world.event(BatchEvent::Upload(Ticket(1000), 1 << 20, true));
    let asked_ns = world.now_ns;
    while !world.asked.uploads.is_empty() {
        world.until(world.now_ns + 1_000_000);
    }
    assert!(world.now_ns - asked_ns <= 20_000_000, "an upload waits for a few submissions");
    world.until(300_000_000);
    let landed = world.asked.downloads.values().filter(|(at, bytes)| at == bytes).count();
    assert!(landed > 60, "{landed} downloads landed beside a long launch");
    world.finish();
    assert_eq!(world.seen.launch_batches, world.seen.submissions.min(world.seen.launch_batches));
}

#[test]
fn small_downloads_share_a_staging_buffer() {
    let mut world = World::new(Limits { piece_bytes: 8 << 20, down_bytes: 32 << 20, ..LIMITS }, 100.0);
    for n in 0..384 {
        world.event(BatchEvent::Download(Ticket(n), 1 << 20, Mark(0)));
    }
    world.finish();
    assert!(world.seen.submissions <= 384 / 7, "{} submissions of 1 MiB chunks", world.seen.submissions);
    let mut world = World::new(LIMITS, 100.0);
    (0..10_000).for_each(|n| world.event(BatchEvent::Download(Ticket(n), 40, Mark(0))));
    world.finish();
    assert!(world.seen.submissions <= 10_000 / 24, "{} submissions of tiny ones", world.seen.submissions);
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
    let launch = |n| BatchEvent::Launch(Ticket(n), tiny.clone(), 1000, Mark(0));
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
    packs.extend(step(&mut batcher, BatchEvent::Download(Ticket(0), 3 << 20, Mark(0))));
    packs.extend(step(&mut batcher, BatchEvent::Download(Ticket(1), 5 << 20, Mark(0))));
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
    (0..10).for_each(|n| world.event(BatchEvent::Launch(Ticket(n), tiny.clone(), 1000, Mark(0))));
    for n in 5..10 {
        world.asked.launches.remove(&Ticket(n));
        world.event(BatchEvent::WithdrawLaunch(Ticket(n)));
    }
    world.finish();
    assert_eq!(world.asked.launches.len(), 5);
}

#[test]
fn what_is_withdrawn_takes_nothing_of_the_same_number_along() {
    let mut world = World::new(Limits { in_flight: 1, ..LIMITS }, 100.0);
    let tiny = kinds()[0].clone();
    for n in 0..4 {
        world.event(BatchEvent::Upload(Ticket(n), 100, true));
        world.event(BatchEvent::Download(Ticket(n), 100, Mark(0)));
        world.event(BatchEvent::Launch(Ticket(n), tiny.clone(), 1000, Mark(0)));
    }
    world.asked.launches.remove(&Ticket(2));
    world.event(BatchEvent::WithdrawLaunch(Ticket(2)));
    world.asked.downloads.remove(&Ticket(3));
    world.event(BatchEvent::WithdrawDownload(Ticket(3)));
    world.finish();
    assert_eq!((world.asked.launches.len(), world.asked.downloads.len()), (3, 3), "they were all carried out");
}

#[test]
fn the_first_and_the_last_of_what_comes_down_are_cut_smaller() {
    let mut batcher = Batcher::new(Limits { in_flight: 2, down_bytes: 64 << 20, piece_bytes: 16 << 20, ..LIMITS });
    let (mut actions, mut pieces, mut under_way) = (Vec::new(), Vec::new(), VecDeque::new());
    batcher.take(BatchEvent::Download(Ticket(0), 100 << 20, Mark(0)));
    loop {
        batcher.decide(0, &mut actions);
        if let Some(BatchAction::Submit(batch)) = actions.pop() {
            pieces.push(batch.downloads[0].bytes >> 20);
            under_way.push_back(batch.pack_bytes);
            continue;
        }
        let Some(bytes) = under_way.pop_front() else { break };
        batcher.take(BatchEvent::Completed(SmallVec::new()));
        batcher.take(BatchEvent::Emptied(bytes));
        batcher.take(BatchEvent::Reported);
    }
    assert_eq!(pieces, [4, 8, 16, 16, 16, 16, 8, 4, 4, 4, 4]);
}

/// As on a card that refuses the buffer after it was decided on: no piece is brought down twice, and none is forgotten.
#[test]
fn what_finds_no_staging_is_decided_on_before_what_comes_behind_it() {
    let mut batcher = Batcher::new(Limits { down_bytes: 64 << 20, piece_bytes: 16 << 20, ..LIMITS });
    let (mut actions, mut landed, mut refused) = (Vec::new(), 0, 0);
    batcher.take(BatchEvent::Download(Ticket(0), 64 << 20, Mark(0)));
    loop {
        batcher.decide(0, &mut actions);
        assert!(actions.len() <= 1, "one at a time");
        let Some(BatchAction::Submit(batch)) = actions.pop() else { break };
        let piece = batch.downloads[0];
        assert_eq!(piece.at, landed, "in order");
        if batch.pack_bytes > 512 << 10 {
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

#[test]
fn the_last_slot_goes_on_with_what_the_first_carries() {
    let mut batcher = Batcher::new(Limits { down_bytes: 64 << 20, piece_bytes: 8 << 20, ..LIMITS });
    let mut actions = Vec::new();
    let under_way = |actions: &mut Vec<BatchAction>| {
        let submitted = |action| match action {
            BatchAction::Submit(batch) => Some([!batch.uploads.is_empty(), !batch.downloads.is_empty()]),
            BatchAction::Wait(_) => None,
        };
        actions.drain(..).filter_map(submitted).collect::<Vec<_>>()
    };
    batcher.step(0, BatchEvent::Upload(Ticket(0), 2 << 20, true), &mut actions);
    batcher.step(0, BatchEvent::Download(Ticket(1), 50 << 20, Mark(0)), &mut actions);
    assert_eq!(under_way(&mut actions), [[true, false], [false, true]]);
    batcher.step(1, BatchEvent::Tick, &mut actions);
    assert!(actions.is_empty(), "there is nothing to wait for but an event: {actions:?}");
    batcher.step(2, BatchEvent::Upload(Ticket(2), 2 << 20, true), &mut actions);
    assert_eq!(under_way(&mut actions), [[true, true]]);
    // Two go down already.
    batcher.take(BatchEvent::Completed(SmallVec::new()));
    batcher.step(3, BatchEvent::Reported, &mut actions);
    assert_eq!(under_way(&mut actions), [[false, true]]);
    // With launches it is not about the link.
    batcher.take(BatchEvent::Completed(SmallVec::new()));
    batcher.step(3, BatchEvent::Reported, &mut actions);
    assert!(under_way(&mut actions).is_empty());
    for n in 0..GATHER {
        batcher.step(3, BatchEvent::Launch(Ticket(10 + n), plan("tiny", 1e3, &[(1, 0)]), 10, Mark(0)), &mut actions);
    }
    assert_eq!(under_way(&mut actions).len(), 1);
}

#[test]
fn who_sleeps_submits_when_who_is_awake_would() {
    // Of the first submission: the rate, what is expected, and what is moved. Then a launch comes.
    let cases: [(f64, u64, u64); 5] =
        [(125.0, 800_000, 0), (333.0, 300_000, 0), (1.0, 200_000, 0), (20.0, 4_000_000, 0), (1000.0, 0, 32 << 20)];
    for (rate, estimate_ns, up_bytes) in cases {
        for comes_ns in [10_000, 150_000, 290_000] {
            let second = |mut world: World| {
                let medium = plan("medium", 1e8, &[(256, 0)]);
                match up_bytes {
                    0 => world.event(BatchEvent::Launch(Ticket(0), medium.clone(), estimate_ns, Mark(0))),
                    bytes => world.event(BatchEvent::Upload(Ticket(0), bytes, true)),
                }
                world.until(comes_ns);
                world.event(BatchEvent::Launch(Ticket(1), medium, estimate_ns, Mark(0)));
                world.until_submitted(2);
                let at = world.now_ns;
                world.finish();
                at
            };
            let limits = Limits { down_bytes: 128 << 20, piece_bytes: 32 << 20, up_bytes: 32 << 20, ..LIMITS };
            let (awake, asleep) = (second(World::new(limits, rate)), second(World::asleep(limits, rate)));
            // Its reports take 30 us; and while the first takes long, there is time.
            let ends = if up_bytes > 0 { up_bytes / 10 } else { estimate_ns.min((1e8 / rate) as u64) };
            let soon = asleep <= awake + 31_000 || asleep + PATIENCE_NS / 2 <= ends;
            assert!(soon, "{rate} {estimate_ns} {up_bytes} {comes_ns}: {asleep}, awake {awake}");
        }
    }
}

#[test]
fn a_launch_does_not_wait_for_a_long_report() {
    let mut world = World::asleep(LIMITS, 1000.0).with_long_reports(true);
    let (tiny, mut at) = (kinds()[0].clone(), 0);
    for n in 0..3 {
        world.event(BatchEvent::Launch(Ticket(n), tiny.clone(), 1000, Mark(0)));
        at = world.now_ns;
        world.until_submitted(n as u64 + 1);
        // The third is being reported from here on.
        world.until(world.now_ns + 100_000);
    }
    at = at.max(world.now_ns);
    world.event(BatchEvent::Launch(Ticket(3), tiny, 1000, Mark(0)));
    world.until_submitted(4);
    assert!(world.now_ns <= at + LONGEST_NS + PATIENCE_NS, "{} after {at}", world.now_ns);
    world.finish();
}
