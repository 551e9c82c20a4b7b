//! What a submission's time went to.
//!
//! Owns: [`attribute`], which splits a span of the GPU's clock, or of the host's, among launches and copies. Must not know: where the numbers come from.
//! Invariant: the launches' times add up to no more than the host has waited; measured is only what one launch, or launches that are alike, took, and
//! no GPU could have done in less.
//!
//! A submission has one span: from the first launch's begin to the last one's end. Launches in it may overlap, so times of each would add up to more
//! than there was (and to wait for the end of one before the next is stamped would keep them from overlapping). So the span is split by what was
//! predicted. A submission of one launch, or of launches that are all alike, measures them; of a mixed one only the span is known.

/// A launch, or a part of one, in a submission.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// What it was predicted to take.
    pub(super) predicted_ns: f64,
    /// What it takes on any GPU there is, at least.
    pub(super) least_ns: f64,
    /// What tells launches apart that are not alike.
    pub(super) kind: u64,
}

/// What is known of a submission that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed<'a> {
    pub(super) launches: &'a [Share],
    /// Bytes of all copies in it.
    pub(super) copied_bytes: u64,
    /// Begin and end of each of its passes by the GPU's clock, in ticks; empty if it was not asked.
    pub(super) ticks: &'a [[u64; 2]],
    /// Nanoseconds of a tick.
    pub(super) tick_ns: f64,
    /// By the host's clock: ns since the submission before it was seen to end, and since it was made.
    pub(super) alone_ns: u64,
    pub(super) since_ns: u64,
}

/// What became of the time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attributed {
    /// Of each launch: how long it took, and how long before the end of the submission it was over, in ns.
    pub(super) launches: Vec<(u64, u64)>,
    /// Whether the launches' times may be learnt from.
    pub(super) measured: bool,
    /// All launches together; 0 if unknown.
    pub(super) busy_ns: u64,
    /// All copies.
    pub(super) link_ns: u64,
}

/// Bytes that a link is taken to copy in a ns, where launches and copies of one submission are told apart by guess.
const COPIED_PER_NS: f64 = 8.0;
/// A host that saw the end later than this share of the time since the submission was made, measured from the end before it, has seen several end at
/// once: then their times tell nothing.
const SEEN_TOGETHER: u64 = 20;
/// Launches are alike if their predictions differ by less than this factor.
const ALIKE: f64 = 1.25;

/// Splits the time of a submission.
pub(super) fn attribute(seen: &Observed<'_>) -> Attributed {
    let least: f64 = seen.launches.iter().map(|share| share.least_ns).fold(0.0, f64::max);
    if let Some(span) = device_span(seen).filter(|&span| span as f64 >= least) {
        let launches = split(seen.launches, span as f64);
        // The clock may be coarse: a span of one tick measures nothing.
        let measured = alike(seen.launches) && span as f64 > 2.0 * seen.tick_ns;
        return Attributed { launches, measured, busy_ns: span, link_ns: seen.alone_ns.saturating_sub(span) };
    }
    let known = seen.alone_ns >= seen.since_ns / SEEN_TOGETHER && seen.alone_ns as f64 >= least;
    let busy_ns = seen.alone_ns.max(seen.since_ns / SEEN_TOGETHER) as f64;
    let copies = seen.copied_bytes as f64 / COPIED_PER_NS;
    let predicted: f64 = seen.launches.iter().map(|share| share.predicted_ns.max(1.0)).sum();
    let computing = busy_ns * predicted / (predicted + copies).max(1.0);
    Attributed {
        launches: split(seen.launches, computing),
        measured: known && seen.copied_bytes == 0 && alike(seen.launches),
        busy_ns: if known && !seen.launches.is_empty() { computing as u64 } else { 0 },
        link_ns: (busy_ns - computing) as u64,
    }
}

/// From the first begin to the last end; `None` if the clock was not asked, or says what cannot be: zero, an end before its begin (backwards, or
/// wrapped), more than the host has waited.
fn device_span(seen: &Observed<'_>) -> Option<u64> {
    if seen.ticks.is_empty() || !seen.tick_ns.is_normal() || seen.launches.is_empty() {
        return None;
    }
    let (mut first, mut last) = (u64::MAX, 0);
    for &[begin, end] in seen.ticks {
        if begin == 0 || end < begin {
            return None;
        }
        (first, last) = (first.min(begin), last.max(end));
    }
    let ns = (last - first) as f64 * seen.tick_ns;
    (ns <= seen.since_ns as f64).then_some((ns as u64).max(1))
}

/// Whether one launch's time tells of all.
fn alike(launches: &[Share]) -> bool {
    let Some(first) = launches.first() else { return false };
    launches.iter().all(|share| {
        let ratio = share.predicted_ns.max(1.0) / first.predicted_ns.max(1.0);
        share.kind == first.kind && (1.0 / ALIKE..=ALIKE).contains(&ratio)
    })
}

/// Shares of `span`, one after the other, by what was predicted: how long, and how long before the end.
fn split(launches: &[Share], span: f64) -> Vec<(u64, u64)> {
    let all: f64 = launches.iter().map(|share| share.predicted_ns.max(1.0)).sum();
    let mut left = span;
    let one = |share: &Share| {
        let ns = share.predicted_ns.max(1.0) * span / all;
        left = (left - ns).max(0.0);
        ((ns as u64).max(1), left as u64)
    };
    launches.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(predicted_ns: f64) -> Share {
        Share { predicted_ns, least_ns: predicted_ns / 100.0, kind: 7 }
    }

    fn seen<'a>(launches: &'a [Share], ticks: &'a [[u64; 2]]) -> Observed<'a> {
        Observed { launches, copied_bytes: 0, ticks, tick_ns: 10.0, alone_ns: 4000, since_ns: 5000 }
    }

    #[test]
    fn one_launch_and_launches_that_are_alike_are_measured() {
        let one = attribute(&seen(&[share(100.0)], &[[100, 300]]));
        assert_eq!(one, Attributed { launches: vec![(2000, 0)], measured: true, busy_ns: 2000, link_ns: 2000 });
        let two = attribute(&seen(&[share(100.0), share(100.0)], &[[100, 200], [150, 300]]));
        assert_eq!(two, Attributed { launches: vec![(1000, 1000), (1000, 0)], measured: true, busy_ns: 2000, link_ns: 2000 });
    }

    #[test]
    fn a_mixed_submission_is_split_by_prediction_and_not_measured() {
        let others = [share(300.0), Share { kind: 8, ..share(100.0) }];
        for other in others {
            let all = [share(100.0), other];
            let found = attribute(&seen(&all, &[[100, 300]]));
            assert!(!found.measured && found.busy_ns == 2000, "{found:?}");
            assert_eq!(found.launches.iter().map(|l| l.0).sum::<u64>(), 2000);
            assert_eq!(found.launches[0].0 == found.launches[1].0, other.kind == 8);
        }
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_not_believed() {
        let launch = [share(100.0)];
        // Not asked; zero; backwards; wrapped; longer than the host has waited.
        for ticks in [&[][..], &[[0, 50]], &[[300, 100]], &[[u64::MAX - 5, 20]], &[[100, 900]], &[[100, 200], [0, 0]]] {
            let found = attribute(&seen(&launch, ticks));
            assert_eq!((found.launches[0].0, found.busy_ns, found.measured), (4000, 4000, true), "{ticks:?}: the host's");
        }
        for tick_ns in [0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(attribute(&Observed { tick_ns, ..seen(&launch, &[[100, 300]]) }).busy_ns, 4000);
        }
    }

    #[test]
    fn what_no_gpu_can_do_is_not_measured() {
        // Two ticks, 20 ns, for what takes 1000 ns at least: overlapped launches that were stamped by a driver report such.
        let launch = [Share { least_ns: 1000.0, ..share(5000.0) }];
        let found = attribute(&seen(&launch, &[[100, 102]]));
        assert_eq!((found.launches[0].0, found.measured), (4000, true), "the host's clock");
        let found = attribute(&Observed { alone_ns: 500, ..seen(&launch, &[[100, 102]]) });
        assert!(!found.measured && found.busy_ns == 0, "nor by the host's");
        let found = attribute(&Observed { since_ns: 1_000_000, ..seen(&launch, &[]) });
        assert!(!found.measured && found.busy_ns == 0, "several were seen to end at once");
        let coarse = attribute(&seen(&[share(1.0)], &[[100, 101]]));
        assert!(!coarse.measured, "{coarse:?}");
    }

    #[test]
    fn copies_have_their_share_of_the_hosts_time() {
        let found = attribute(&Observed { copied_bytes: 800, ..seen(&[share(300.0)], &[]) });
        assert_eq!((found.launches[0].0, found.link_ns, found.measured), (3000, 1000, false));
        let alone = attribute(&Observed { copied_bytes: 800, ..seen(&[], &[]) });
        assert_eq!((alone.launches.len(), alone.link_ns, alone.busy_ns), (0, 4000, 0));
    }

    proptest! {
        #[test]
        fn times_add_up_to_the_span_and_never_exceed_it(
            predicted in proptest::collection::vec(0.0..1e9f64, 0..80),
            ticks in proptest::collection::vec(any::<[u64; 2]>(), 0..4),
            copied_bytes in 0u64..1 << 40, tick_ns in 0.0..1e3f64, alone_ns in 0u64..1 << 40, more in 0u64..1 << 40,
        ) {
            let launches: Vec<Share> = predicted.iter().map(|&ns| share(ns)).collect();
            let all = Observed { launches: &launches, copied_bytes, ticks: &ticks, tick_ns, alone_ns, since_ns: alone_ns + more };
            let found = attribute(&all);
            prop_assert_eq!(found.launches.len(), launches.len());
            let (sum, most) = (found.launches.iter().map(|l| l.0).sum::<u64>(), alone_ns + more);
            prop_assert!(sum <= most + launches.len() as u64, "{} of {}", sum, most);
            prop_assert!(found.launches.windows(2).all(|two| two[0].1 >= two[1].1));
            let least = launches.iter().map(|l| l.least_ns).fold(0.0, f64::max);
            prop_assert!(!found.measured || found.busy_ns as f64 + 1.0 >= least);
            prop_assert!(found.busy_ns <= most.max(1) && found.link_ns <= most.max(1));
        }
    }
}
