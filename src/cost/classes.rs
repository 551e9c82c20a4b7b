//! What a program never seen takes: by what programs of its classes have taken.
//!
//! Owns: [`ClassIds`], how a time is told apart into what each class of operations took. Must not know: kernels' names, files. Invariant: a time is learned of the one class
//! that it is mostly due to, and a price does not fall when work grows.
//!
//! `time = launch + max(m(bytes), sum t_c(flops_c))`, where `m` is what bytes take and `t_c` what operations of class `c` take: as was learned, by the rules for a kernel's times, else as the
//! device's rates say.

use super::{Basis, CostId, CostModel, Estimate, Rates, whole_ns};
use crate::kernel::{OpClass, OpMix, Work};
use crate::shape::DType;

/// Where times of classes are kept: of bytes, and of operations in the order of [`OpClass::ALL`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassIds {
    pub(super) memory: CostId,
    pub(super) ops: [CostId; 4],
}

/// With fewer operations for each byte, memory is what any device waits for.
const BOUND_BY_MEMORY: f64 = 1.0;
/// A time is due to operations if it is so many times that of the bytes.
const CLEARLY: f64 = 1.5;
/// By so many of its own time a launch may be longer than another.
const NOISE: f64 = 8.0;
/// The least part of a time that is thought to be due to the class of most operations.
const LEAST_PART: f64 = 0.1;

/// The names under which times of classes are kept, that of bytes first.
pub(super) const CLASS_NAMES: [&str; 5] =
    ["class memory@1", "class alu@1", "class transcendental@1", "class integer@1", "class fold@1"];

/// The dtype that stands for all of its size, as [`Rates`] have it.
pub(super) fn class_dtype(dtype: DType) -> DType {
    if dtype.align() == 8 { DType::F64 } else { DType::F32 }
}

/// A program's work, by classes, on a device of these rates.
pub(super) struct ClassWork<'a> {
    pub(super) ids: &'a ClassIds,
    pub(super) mix: &'a OpMix,
    pub(super) dtype: DType,
    pub(super) rates: &'a Rates,
    pub(super) work: Work,
}

impl ClassWork<'_> {
    fn bytes(&self) -> Work {
        Work { flops: 0.0, bytes: self.work.bytes.max(0.0) }
    }

    fn ops(&self, class: OpClass) -> Work {
        Work { flops: self.work.flops.max(0.0) * self.mix.share(class), bytes: 0.0 }
    }
}

impl CostModel {
    /// Nanoseconds of one class's part of the work, without the launch; and whether that was learned.
    fn part_ns(&self, of: &ClassWork<'_>, class: Option<OpClass>) -> (f64, bool) {
        let (id, work) = match class {
            None => (of.ids.memory, of.bytes()),
            Some(class) => (of.ids.ops[class as usize], of.ops(class)),
        };
        if work == Work::default() {
            return (0.0, false);
        }
        match self.history(id).and_then(|history| history.estimate(work)) {
            Some(learned) => (learned.ns as f64, true),
            None => (of.rates.prior_ns(of.dtype, work) as f64 - of.rates.launch_ns, false),
        }
    }

    /// The price of a program by its classes, if anything is known of them.
    pub(super) fn by_classes(&self, of: &ClassWork<'_>) -> Option<Estimate> {
        let (memory_ns, memory) = self.part_ns(of, None);
        let ops = OpClass::ALL.map(|class| self.part_ns(of, Some(class)));
        let ops_ns: f64 = ops.iter().map(|part| part.0).sum();
        let is_learned = memory || ops.iter().any(|part| part.1);
        let ns = whole_ns(of.rates.launch_ns + ops_ns.max(memory_ns));
        is_learned.then_some(Estimate { ns, basis: Basis::Classes })
    }

    /// What a program's time says of a class: of which, and how long how much of it takes.
    pub(super) fn class_sample(&self, of: &ClassWork<'_>, ns: u64) -> Option<(CostId, Work, u64)> {
        let net = ns as f64 - of.rates.launch_ns;
        // Of launches alone, which differ by more than what so little work takes: it would tell of nothing larger.
        let own_ns = of.rates.prior_ns(of.dtype, of.work) as f64 - of.rates.launch_ns;
        let is_little = own_ns < of.rates.launch_ns && net < NOISE * of.rates.launch_ns;
        if is_little || net < of.rates.launch_ns {
            return None;
        }
        let most = of.mix.most();
        // Reductions have few operations for each byte and may still not wait for memory.
        if most != OpClass::Fold && of.work.flops < BOUND_BY_MEMORY * of.work.bytes {
            return Some((of.ids.memory, of.bytes(), whole_ns(net)));
        }
        if net < CLEARLY * self.part_ns(of, None).0 {
            return None; // as long as memory takes: the operations took less, nobody knows how much
        }
        let others = OpClass::ALL.into_iter().filter(|&class| class != most);
        let others: f64 = others.map(|class| self.part_ns(of, Some(class)).0).sum();
        Some((of.ids.ops[most as usize], of.ops(most), whole_ns((net - others).max(LEAST_PART * net))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{DeviceKey, PricedAs};
    use crate::kernel::Structure;

    /// A machine of which only this is true: 2 us a launch, 0.1 ns a byte, and these for operations.
    const TRUTH: [f64; 4] = [0.05, 0.4, 0.2, 0.9];

    fn truth(mix: &OpMix, work: Work) -> u64 {
        let ops: f64 = OpClass::ALL.map(|class| TRUTH[class as usize] * work.flops * mix.share(class)).iter().sum();
        (2_000.0 + ops.max(0.1 * work.bytes)) as u64
    }

    struct Lab(CostModel, super::super::PricedId);

    impl Lab {
        fn new() -> Self {
            let (mut costs, _) = CostModel::load(None);
            let rates = Rates { launch_ns: 2e3, f32_flops: 1e11, f64_flops: 1e11, bytes_per_s: 1e10 };
            let device = costs.device(&DeviceKey::new("gpu:model"), rates);
            Self(costs, device)
        }

        /// A program of so many operations of each class for each of a million numbers, read and written.
        fn program(&mut self, ops: [f64; 4]) -> (CostId, OpMix, Work) {
            let all = OpClass::ALL.map(|class| OpMix::all(class, ops[class as usize]));
            let mix = all.into_iter().reduce(OpMix::with).unwrap();
            let structure = Structure::new(&format!("{ops:?}"), mix);
            let name = PricedAs { kernel: "map@1", structure: Some(&structure) };
            (self.0.resolve(self.1, name, DType::F32), mix, Work { flops: 1e6 * mix.total(), bytes: 8e6 })
        }

        fn run(&mut self, ops: [f64; 4]) {
            let (id, mix, work) = self.program(ops);
            // The first time is anything.
            self.0.record(id, work, 900_000_000);
            (0..4).for_each(|_| self.0.record(id, work, truth(&mix, work)));
        }

        /// The price of a program over its true time.
        fn error(&mut self, ops: [f64; 4]) -> (f64, Basis) {
            let (id, mix, work) = self.program(ops);
            let estimate = self.0.estimate(id, work);
            (estimate.ns as f64 / truth(&mix, work) as f64, estimate.basis)
        }
    }

    #[test]
    fn programs_never_seen_are_priced_by_those_of_their_classes() {
        let mut lab = Lab::new();
        let (before, basis) = lab.error([2.0, 60.0, 0.0, 0.0]);
        assert!(before < 0.2 && basis == Basis::Prior, "{before}");
        for ops in [[2.0, 20.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [60.0, 0.0, 0.0, 0.0], [3.0, 0.0, 50.0, 0.0]] {
            lab.run(ops);
        }
        // Slopes go through what was seen of a class: at one size, from zero.
        for ops in [
            [2.0, 60.0, 0.0, 0.0],
            [5.0, 0.0, 0.0, 0.0],
            [200.0, 0.0, 0.0, 0.0],
            [100.0, 20.0, 10.0, 0.0],
            [1.0, 40.0, 90.0, 0.0],
        ] {
            let (error, basis) = lab.error(ops);
            assert!((0.9..1.1).contains(&error) && basis == Basis::Classes, "{ops:?}: {error}");
        }
        // What was seen is priced by what it took, to the bit.
        let (seen, basis) = lab.error([2.0, 20.0, 0.0, 0.0]);
        assert!((seen - 1.0).abs() < 1e-3 && matches!(basis, Basis::Measured { .. }));
    }

    #[test]
    fn a_first_time_says_nothing_of_a_class() {
        let mut lab = Lab::new();
        for k in 0..40 {
            let (id, _, work) = lab.program([2.0 + f64::from(k), 60.0, 0.0, 0.0]);
            lab.0.record(id, work, 900_000_000);
        }
        assert_eq!(lab.error([2.0, 59.0, 0.0, 0.0]).1, Basis::Prior);
    }

    #[test]
    fn what_memory_bounds_says_nothing_of_operations() {
        let mut lab = Lab::new();
        // 0.8 ns a number for its bytes, 0.5 for its operations.
        lab.run([10.0, 0.0, 0.0, 0.0]);
        assert_eq!(lab.error([100.0, 0.0, 0.0, 0.0]).1, Basis::Prior);
        // A launch says nothing of anything.
        let (id, _, _) = lab.program([50.0, 0.0, 0.0, 0.0]);
        (0..8).for_each(|_| lab.0.record(id, Work { flops: 1e3, bytes: 8.0 }, 3_100));
        assert_eq!(lab.error([100.0, 0.0, 0.0, 0.0]).1, Basis::Prior);
    }

    #[test]
    fn reductions_say_something_of_reductions_alone() {
        let mut lab = Lab::new();
        lab.run([0.0, 0.0, 0.0, 4.0]);
        let (error, basis) = lab.error([0.0, 0.0, 0.0, 3.0]);
        assert!((0.9..1.1).contains(&error) && basis == Basis::Classes, "{error}");
        // Few operations for each byte, and yet not what bytes take.
        assert_eq!(lab.error([1.0, 0.0, 0.0, 0.0]).1, Basis::Prior);
        // What waits for memory says nothing of them.
        let mut lab = Lab::new();
        lab.run([0.0, 0.0, 0.0, 0.5]);
        assert_eq!(lab.error([0.0, 0.0, 0.0, 3.0]).1, Basis::Prior);
    }

    #[test]
    fn programs_of_one_name_are_told_apart_by_their_structure() {
        let mut lab = Lab::new();
        lab.run([2.0, 20.0, 0.0, 0.0]);
        let (one, other) = (lab.program([2.0, 20.0, 0.0, 0.0]).0, lab.program([2.0, 20.0, 1.0, 0.0]).0);
        assert_ne!(one, other);
        assert_eq!(one, lab.program([2.0, 20.0, 0.0, 0.0]).0);
    }
}
