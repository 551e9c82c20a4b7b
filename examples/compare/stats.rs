//! What repeated measurements say: medians with intervals, when to stop, in which order to run.
//!
//! Owns: all statistics of this program. Must not know: clocks, devices, workloads. Invariant: no distribution is assumed; an
//! interval is stated with the confidence that it has, never with the one that was wished for.

use serde::Serialize;

/// The confidence that intervals aim at.
pub const CONFIDENCE: f64 = 0.95;

/// Sweeps over all rows: the fewest whose medians give an interval of that confidence.
pub const SWEEPS: usize = 6;

/// An interval of this width, as a share of the median, is narrow enough to stop.
pub const NARROW: f64 = 0.05;

/// The median of some values, and an interval that holds the true median with the stated confidence.
///
/// The values must be independent of each other. Samples taken one right after the other are not: a machine has phases, of seconds and
/// longer, in which everything is slower. So a row is measured in several sweeps, with all other rows between two of them, and the values
/// are the sweeps' medians (repetition at the level at which results vary: T. Kalibera, R. Jones, "Rigorous Benchmarking in Reasonable
/// Time", ISMM 2013).
///
/// The interval is that between two order statistics: of `n` values in order, the k-th from below and the k-th from above have the
/// true median between them with probability `1 - 2 P(B <= k - 1)`, where `B` is binomial of `n` and 1/2, whatever the distribution
/// (H. A. David, H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1). Below 6 values no interval reaches 95 %; then it is that
/// from the least to the largest, with its own confidence (5 values: 93.75 %).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Number of values: sweeps, or samples where there was one sweep.
    pub n: usize,
    /// The middle one; of an even number the mean of the two in the middle.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Probability that the interval holds the true median; 0 for a single value.
    pub confidence: f64,
    /// The least sample.
    pub min: f64,
    /// The largest sample.
    pub max: f64,
}

impl Summary {
    /// Of samples that were taken in sweeps of these lengths. One sweep: of its samples.
    pub fn of_sweeps(samples: &[f64], sweeps: &[usize]) -> Option<Self> {
        let mut rest = samples;
        let mut medians = Vec::new();
        for &length in sweeps {
            let (sweep, later) = rest.split_at_checked(length)?;
            medians.extend(Self::of(sweep).map(|s| s.median));
            rest = later;
        }
        let of_all = Self::of(samples)?;
        let values = if medians.len() > 1 { Self::of(&medians)? } else { of_all };
        Some(Self { min: of_all.min, max: of_all.max, ..values })
    }

    /// `None` without values, or if one is not a number.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        if n == 0 || sorted.iter().any(|s| s.is_nan()) {
            return None;
        }
        let (k, confidence) = rank(n);
        let median = if n % 2 == 1 { sorted[n / 2] } else { 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]) };
        Some(Self { n, median, low: sorted[k - 1], high: sorted[n - k], confidence, min: sorted[0], max: sorted[n - 1] })
    }

    /// Half the interval's width, as a share of the median: the "± 2 %" of a table.
    pub fn spread(&self) -> f64 {
        0.5 * (self.high - self.low) / self.median
    }

    /// Whether more samples are not worth their time.
    pub fn narrow(&self) -> bool {
        self.confidence >= CONFIDENCE && self.high - self.low <= NARROW * self.median
    }

    /// Whether the median is below `value`: `None` if the interval holds it, so that it may be chance, or if there is none (one value).
    pub fn below(&self, value: f64) -> Option<bool> {
        if self.n < 2 {
            None
        } else if self.high < value {
            Some(true)
        } else {
            (self.low > value).then_some(false)
        }
    }
}

/// The rank `k` of the interval's ends among `n` samples, and its confidence.
fn rank(n: usize) -> (usize, f64) {
    // P(B <= j), from below; powers of 1/2 underflow to 0 only beyond a thousand samples, where the first ranks do not matter.
    let mut term = 0.5f64.powi(i32::try_from(n).unwrap_or(i32::MAX));
    let mut below = term;
    let mut best = (1, (1.0 - 2.0 * below).max(0.0));
    for k in 2..=n / 2 {
        term *= (n + 2 - k) as f64 / (k - 1) as f64;
        below += term;
        if 1.0 - 2.0 * below < CONFIDENCE {
            break;
        }
        best = (k, 1.0 - 2.0 * below);
    }
    best
}

/// Why a row's rounds ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// All intervals are narrow.
    Narrow,
    /// As many rounds as allowed.
    Repeats,
    /// The row's share of the time is spent.
    Budget,
}

/// When rounds end.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Most rounds.
    pub repeats: usize,
    /// Seconds after which no further round starts.
    pub budget_s: f64,
}

impl Rule {
    /// Whether to stop after some rounds: `None` to go on. The first round is always run.
    pub fn stop(&self, samples: &[&[f64]], elapsed_s: f64) -> Option<Stopped> {
        let rounds = samples.iter().map(|s| s.len()).max().unwrap_or(0);
        let narrow = |s: &&[f64]| Summary::of(s).is_some_and(|s| s.narrow());
        if rounds == 0 {
            return None;
        }
        if samples.iter().all(narrow) {
            Some(Stopped::Narrow)
        } else if rounds >= self.repeats {
            Some(Stopped::Repeats)
        } else {
            (elapsed_s >= self.budget_s).then_some(Stopped::Budget)
        }
    }
}

/// Orders in which to run, the same for the same seed.
pub struct Shuffle(u64);

impl Shuffle {
    /// Orders from this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `0..n` in an order of which all are equally likely (Fisher and Yates, with SplitMix64).
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            // The bias of a 64-bit remainder for so few items is below 2^-60.
            order.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
        order
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_intervals_of_known_samples() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, f64::NAN]), None);
        let one = Summary::of(&[3.0]).unwrap();
        assert_eq!((one.median, one.low, one.high, one.confidence), (3.0, 3.0, 3.0, 0.0));
        assert_eq!(Summary::of(&[4.0, 1.0]).unwrap().median, 2.5);
        let five = Summary::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((five.median, five.low, five.high, five.confidence), (3.0, 1.0, 5.0, 0.9375));
        // The ranks that tables give for 95 %: 6 -> 1, 9 -> 2, 12 -> 3, 15 -> 4, 20 -> 6, 100 -> 40.
        for (n, k) in [(6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (100, 40)] {
            let samples: Vec<f64> = (1..=n).rev().map(f64::from).collect();
            let s = Summary::of(&samples).unwrap();
            assert_eq!((s.low, s.high), (f64::from(k), f64::from(n + 1 - k)), "{n}");
            assert!(s.confidence >= 0.95 && s.confidence < 1.0, "{n}: {}", s.confidence);
        }
        assert!((Summary::of(&[1.0; 6]).unwrap().confidence - 0.96875).abs() < 1e-12);
        assert!(Summary::of(&vec![1.0; 5000]).unwrap().confidence <= 1.0);
    }

    /// Uniform numbers in 0..1 from the program's own generator.
    fn uniform(shuffle: &mut Shuffle) -> f64 {
        (shuffle.next() >> 11) as f64 * 0.5f64.powi(53)
    }

    #[test]
    fn intervals_hold_the_true_median_as_often_as_they_say() {
        let mut numbers = Shuffle::new(1);
        for n in [5, 6, 11, 30] {
            let trials = 4000;
            let mut held = 0;
            let mut said = 0.0;
            for _ in 0..trials {
                // Exponential: as skewed as run times are. Its median is ln 2.
                let samples: Vec<f64> = (0..n).map(|_| -(1.0 - uniform(&mut numbers)).ln()).collect();
                let s = Summary::of(&samples).unwrap();
                held += usize::from(s.low <= std::f64::consts::LN_2 && std::f64::consts::LN_2 <= s.high);
                said = s.confidence;
            }
            let share = held as f64 / f64::from(trials);
            assert!((share - said).abs() < 0.015, "{n}: held {share}, said {said}");
        }
    }

    /// What the program promises: two runs on a machine that is up to 1.7 times slower for some sweeps agree within their intervals.
    #[test]
    fn two_runs_on_a_machine_with_phases_agree_within_their_intervals() {
        let mut numbers = Shuffle::new(2);
        let mut run = |factor: f64| {
            let mut samples = Vec::new();
            for _ in 0..SWEEPS {
                let phase = if uniform(&mut numbers) < 0.4 { 1.7 } else { 1.0 };
                samples.extend((0..4).map(|_| factor * phase * (1.0 + 0.05 * uniform(&mut numbers))));
            }
            (Summary::of_sweeps(&samples, &[4; SWEEPS]).unwrap(), Summary::of(&samples).unwrap())
        };
        let apart = |a: &Summary, b: &Summary| usize::from(a.high < b.low || b.high < a.low);
        let (mut sweeps, mut naive) = (0, 0);
        for _ in 0..1000 {
            let (a, b) = (run(1.0), run(1.0));
            sweeps += apart(&a.0, &b.0);
            naive += apart(&a.1, &b.1);
            assert_eq!(apart(&a.0, &run(2.0).0), 1, "and one that is twice as slow is told apart");
        }
        assert!(sweeps <= 10, "{sweeps} of 1000 disagree");
        assert!(naive >= 50, "samples of one phase are not independent: only {naive} of 1000 disagree");
    }

    #[test]
    fn sweeps_count_as_one_value_each() {
        let samples = [1.0, 9.0, 2.0, 3.0, 3.5, 4.0];
        let s = Summary::of_sweeps(&samples, &[3, 2, 1]).unwrap();
        assert_eq!((s.n, s.median, s.low, s.high, s.min, s.max), (3, 3.25, 2.0, 4.0, 1.0, 9.0));
        assert_eq!(Summary::of_sweeps(&samples, &[6]), Summary::of(&samples));
        assert_eq!((Summary::of_sweeps(&[], &[0]), Summary::of_sweeps(&samples, &[7])), (None, None));
        assert_eq!([2.0, 2.1, 3.9, 4.0, 4.1].map(|value| s.below(value)), [None, None, None, None, Some(true)]);
        assert_eq!(s.below(1.9), Some(false));
        assert_eq!(Summary::of(&[2.0]).unwrap().below(3.0), None, "one value decides nothing");
    }

    #[test]
    fn rounds_stop_when_narrow_or_spent() {
        let rule = Rule { repeats: 10, budget_s: 1.0 };
        let (steady, wide) = ([1.0, 1.01, 1.02, 1.0, 1.01, 1.03], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
        assert_eq!(rule.stop(&[&[], &[]], 5.0), None, "the first round is always run");
        assert_eq!(rule.stop(&[&steady[..5]], 0.1), None, "five samples are too few");
        assert_eq!(rule.stop(&[&steady], 0.1), Some(Stopped::Narrow));
        assert_eq!(rule.stop(&[&steady, &wide], 0.1), None, "one is wide");
        assert_eq!(rule.stop(&[&steady, &wide], 1.0), Some(Stopped::Budget));
        assert_eq!(rule.stop(&[&[1.0, 2.0].repeat(5)], 0.1), Some(Stopped::Repeats));
        assert_eq!(Rule { repeats: 1, budget_s: 9.0 }.stop(&[&[1.0]], 0.0), Some(Stopped::Repeats));
    }

    #[test]
    fn orders_are_permutations_repeatable_and_fair() {
        let (mut a, mut b) = (Shuffle::new(7), Shuffle::new(7));
        let mut first = [0; 4];
        for _ in 0..4000 {
            let order = a.order(4);
            assert_eq!(order, b.order(4));
            first[order[0]] += 1;
            let mut sorted = order;
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
        }
        assert!(first.iter().all(|&n| (850..1150).contains(&n)), "{first:?}");
        assert_ne!(Shuffle::new(8).order(20), Shuffle::new(9).order(20));
        assert_eq!((a.order(0), a.order(1)), (vec![], vec![0]));
    }
}
