//! How long work will take: what keeps submissions short.
//!
//! Owns: [`Pace`]. Must not know: launches, submissions. Invariant: a prediction is positive and finite, and follows what was last seen of the same
//! program: at once where that was slower, by steps of four where it was faster.

use std::collections::HashMap;

use crate::shape::DType;

/// Units a ns before anything is known, in numbers of up to 4 bytes and in `f64`: less than any GPU does, so that the first submissions are short.
const UNKNOWN: [f64; 2] = [10.0, 1.0];
/// What takes no longer is mostly latency: it says that there is more to be had, not how much.
const LATENCY_NS: u64 = 200_000;
/// Programs that are told apart; beyond them all is forgotten and learned anew.
const KEPT: usize = 4096;
/// The most that a rate grows by one observation.
const GROWTH: f64 = 4.0;
/// How much faster than what was seen of others a program may be expected to be: who expects more is not believed.
const HOPE: f64 = 64.0;

/// What tells programs apart whose speeds differ: the shader's content, and what it computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PaceKey {
    pub(super) shader: u64,
    pub(super) real: DType,
}

impl PaceKey {
    fn double(self) -> usize {
        usize::from(self.real == DType::F64)
    }
}

/// Rates in units of work ([`units`](super::slice::units)) a ns: of each program, and of each width of numbers.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    programs: HashMap<PaceKey, f64>,
    any: [f64; 2],
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { programs: HashMap::new(), any: UNKNOWN }
    }

    /// What a program does of which nothing was seen yet, in numbers of up to 4 bytes and in `f64`; what is no rate is passed over.
    pub(super) fn seed(&mut self, rates: [f64; 2]) {
        for (any, rate) in self.any.iter_mut().zip(rates) {
            if rate.is_normal() && rate > 0.0 {
                *any = rate.clamp(1e-9, 1e9);
            }
        }
    }

    /// Nanoseconds that `units` of a program will take. `estimate` (units, ns) is what whoever launches it expects of all of it; it counts where nothing
    /// was seen of this program yet.
    pub(super) fn predict_ns(&self, key: PaceKey, units: f64, estimate: (f64, u64)) -> f64 {
        let rate = match (self.programs.get(&key), estimate.1) {
            (Some(&seen), _) => seen,
            (None, 0) => self.any[key.double()],
            (None, ns) => (estimate.0.max(1.0) / ns as f64).min(self.any[key.double()] * HOPE),
        };
        (units.max(0.0) / rate).clamp(1.0, 1e18)
    }

    /// Units of a program that will take `ns`: the inverse of [`Pace::predict_ns`].
    pub(super) fn units_in(&self, key: PaceKey, ns: f64, estimate: (f64, u64)) -> f64 {
        ns * 1e6 / self.predict_ns(key, 1e6, estimate)
    }

    /// So many units of a program took so long.
    pub(super) fn learn(&mut self, key: PaceKey, units: f64, ns: u64) {
        if self.programs.len() >= KEPT && !self.programs.contains_key(&key) {
            self.programs.clear();
        }
        let any = self.any[key.double()];
        let before = self.programs.get(&key).copied();
        let seen = (units.max(1.0) / ns.max(1) as f64).clamp(1e-9, 1e9);
        let least = if ns < LATENCY_NS { before.unwrap_or(any) } else { 0.0 };
        let rate = seen.min(before.map_or(f64::INFINITY, |before| before * GROWTH)).max(least);
        self.programs.insert(key, rate);
        // What is not known is taken to be as slow as what was seen last, or slower.
        self.any[key.double()] = rate.min(any * GROWTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_fall_at_once_and_grow_by_steps() {
        let (gemm, copy) = (PaceKey { shader: 1, real: DType::F32 }, PaceKey { shader: 2, real: DType::F32 });
        let wide = PaceKey { real: DType::F64, ..gemm };
        let mut pace = Pace::new();
        assert_eq!(pace.predict_ns(gemm, 1e6, (1e6, 0)), 1e5, "nothing is known");
        assert_eq!(pace.predict_ns(gemm, 5e6, (1e7, 20_000)), 1e4, "the estimate, in proportion");
        assert_eq!(pace.predict_ns(gemm, 64e6, (1e7, 1)), 1e5, "a hope");
        pace.learn(gemm, 1e6, 1_000_000);
        assert_eq!(pace.predict_ns(gemm, 1e6, (1e6, 1)), 1e6, "what was seen goes before what was expected");
        pace.learn(gemm, 1e9, 1_000_000);
        assert_eq!(pace.predict_ns(gemm, 4e6, (4e6, 0)), 1e6, "four times as fast, not a thousand times");
        pace.learn(gemm, 1.0, 10_000);
        assert_eq!(pace.predict_ns(gemm, 4e6, (4e6, 0)), 1e6, "latency alone says nothing");
        pace.learn(gemm, 1e3, 1_000_000);
        assert_eq!(pace.predict_ns(gemm, 1e3, (1e3, 0)), 1e6, "at once");
        assert_eq!(pace.predict_ns(copy, 1e3, (1e3, 0)), 1e6, "another one is as slow, for all that is known");
        assert_eq!(pace.predict_ns(wide, 1e6, (1e6, 0)), 1e6, "the other width is not touched");
        let ns = pace.predict_ns(gemm, pace.units_in(gemm, 5e6, (1.0, 0)), (1.0, 0));
        assert!((ns / 5e6 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_seed_is_where_programs_never_seen_begin() {
        let key = |shader, real| PaceKey { shader, real };
        let [seen, new, wide] = [key(1, DType::F32), key(2, DType::F32), key(3, DType::F64)];
        let mut pace = Pace::new();
        pace.learn(seen, 1e6, 1_000_000);
        pace.seed([500.0, 20.0]);
        assert_eq!(pace.predict_ns(seen, 1e6, (1e6, 0)), 1e6, "it was seen");
        assert_eq!(pace.predict_ns(new, 1e6, (1e6, 0)), 2e3);
        assert_eq!(pace.predict_ns(new, 64e6, (64e6, 1)), 2e3, "a hope, from there on");
        assert_eq!(pace.predict_ns(wide, 1e6, (1e6, 0)), 5e4);
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-310] {
            pace.seed([nonsense, 40.0]);
            assert_eq!(pace.predict_ns(new, 1e6, (1e6, 0)), 2e3, "{nonsense}");
            assert_eq!(pace.predict_ns(wide, 1e6, (1e6, 0)), 2.5e4, "the other one counts");
            pace.seed([500.0, nonsense]);
            assert_eq!(pace.predict_ns(wide, 1e6, (1e6, 0)), 2.5e4, "{nonsense}");
        }
        pace.learn(new, 1e6, 1_000_000);
        assert_eq!(pace.predict_ns(new, 1e6, (1e6, 0)), 1e6, "what is seen then counts");
    }

    #[test]
    fn predictions_are_finite_whatever_was_seen() {
        let mut pace = Pace::new();
        let key = |shader| PaceKey { shader, real: DType::F32 };
        for (units, ns) in [(0.0, 0), (1e300, 0), (0.0, u64::MAX), (f64::NAN, 1)] {
            pace.learn(key(1), units, ns);
            for units in [0.0, 1.0, 1e30, f64::MAX] {
                let ns = pace.predict_ns(key(1), units, (units, 0));
                assert!(ns.is_finite() && ns >= 1.0, "{ns}");
            }
        }
        (0..2 * KEPT as u64).for_each(|n| pace.learn(key(n), 1e6, 1000));
        assert!(pace.programs.len() <= KEPT);
    }
}
