//! Cutting launches, so that none holds the GPU for long: a desktop would freeze, and Windows ends what takes 2 s.
//!
//! Owns: [`Cursor`] (how far a program has come). Must not know: wgpu, how fast anything is. Invariant: the slices of a program cover each
//! workgroup and step of each pass once, in an order that its shader allows.

use crate::kernel::{Pass, Program};

/// Steps of a resumable pass that a slice should have at least: fewer would be mostly loading and storing the state.
const STEPS: u32 = 16;
/// Steps of a resumable pass that a slice may have: Mesa's software driver ends every loop after 65 535 rounds.
const MOST_STEPS: u64 = 1 << 16;

/// A part of a pass: these workgroups, these steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) pass: usize,
    pub(super) first: u64,
    pub(super) groups: u64,
    pub(super) begin: u32,
    pub(super) end: u32,
}

/// How far a launch has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    pass: usize,
    /// First workgroup that has yet to run (all steps, if the pass is resumable).
    first: u64,
    /// Of a resumable pass: workgroups that are under way, and the step they have come to.
    range: u64,
    step: u32,
}

/// Flops and bytes of a program, as one number.
pub(super) fn units(program: &Program) -> f64 {
    (program.most.flops + program.most.bytes).max(1.0)
}

impl Cursor {
    /// The next slice with at most `room` units of work (but at least the smallest there is), and its units. `None` at the end.
    pub(super) fn next(&mut self, program: &Program, room: f64) -> Option<(Slice, f64)> {
        while program.passes.get(self.pass).is_some_and(|pass| self.first >= pass.groups) {
            *self = Self { pass: self.pass + 1, ..Self::default() };
        }
        let pass = program.passes.get(self.pass)?;
        let all: u64 = program.passes.iter().map(|p| p.groups).sum();
        let group = units(program) / all.max(1) as f64;
        Some(if pass.resumable { self.some_steps(pass, room, group) } else { self.some_groups(pass, room, group) })
    }

    /// Whether nothing is left.
    pub(super) fn is_over(&self, program: &Program) -> bool {
        program.passes.get(self.pass..).is_none_or(|rest| {
            rest.iter().enumerate().all(|(i, pass)| pass.groups == 0 || (i == 0 && self.first >= pass.groups))
        })
    }

    fn some_groups(&mut self, pass: &Pass, room: f64, group: f64) -> (Slice, f64) {
        let (first, groups) = (self.first, fitting(room / group, pass.groups - self.first));
        self.first += groups;
        let slice = Slice { pass: self.pass, first, groups, begin: pass.steps.start, end: pass.steps.end };
        (slice, groups as f64 * group)
    }

    fn some_steps(&mut self, pass: &Pass, room: f64, group: f64) -> (Slice, f64) {
        let total = (pass.steps.end - pass.steps.start).max(1);
        let step = group / f64::from(total);
        if self.range == 0 {
            let at_least = step * f64::from(STEPS.min(total));
            self.range = fitting(room / at_least, pass.groups - self.first);
            self.step = pass.steps.start;
        }
        let left = u64::from(pass.steps.end - self.step);
        let steps = fitting(room / (step * self.range as f64), left.clamp(1, MOST_STEPS)).min(left) as u32;
        let slice = Slice { pass: self.pass, first: self.first, groups: self.range, begin: self.step, end: self.step + steps };
        self.step += steps;
        if self.step >= pass.steps.end {
            (self.first, self.range) = (self.first + self.range, 0);
        }
        (slice, step * self.range.max(slice.groups) as f64 * f64::from(steps))
    }
}

/// `wanted`, rounded down, within `1..=most`.
fn fitting(wanted: f64, most: u64) -> u64 {
    (wanted.max(1.0) as u64).clamp(1, most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Shader, Work};
    use crate::shape::DType;
    use proptest::prelude::*;

    fn program(passes: Vec<Pass>, flops: f64) -> Program {
        Program::new(&Shader::new("x", "").into(), DType::F32, &[], passes, Work { flops, bytes: 0.0 })
    }

    proptest! {
        #[test]
        fn slices_cover_everything_once_in_order(
            groups in proptest::collection::vec((0u64..40, 0u32..100, any::<bool>()), 1..4), room in 1.0..1e4f64, flops in 1.0..1e6f64,
        ) {
            let passes = groups.iter().map(|&(groups, steps, resumable)| {
                Pass { entry: "main".into(), groups, steps: if resumable { 0..steps.max(1) } else { 3..3 }, resumable }
            });
            let program = program(passes.collect(), flops);
            let mut cursor = Cursor::default();
            let mut done: Vec<Vec<u32>> = program.passes.iter().map(|p| vec![p.steps.start; p.groups as usize]).collect();
            let mut last = 0;
            let mut spent = 0.0;
            while let Some((slice, units)) = cursor.next(&program, room) {
                prop_assert!(slice.pass >= last);
                last = slice.pass;
                spent += units;
                let pass = &program.passes[slice.pass];
                for group in slice.first..slice.first + slice.groups {
                    let at = &mut done[slice.pass][group as usize];
                    if pass.resumable {
                        prop_assert_eq!(*at, slice.begin);
                        *at = slice.end;
                    } else {
                        prop_assert_eq!((*at, slice.begin), (3, 3));
                        *at = u32::MAX;
                    }
                }
                prop_assert_eq!(cursor.is_over(&program), cursor.clone().next(&program, room).is_none());
            }
            for (pass, done) in program.passes.iter().zip(&done) {
                let end = if pass.resumable { pass.steps.end } else { u32::MAX };
                prop_assert!(done.iter().all(|&at| at == end));
            }
            if program.passes.iter().any(|p| p.groups > 0) {
                prop_assert!((spent / units(&program) - 1.0).abs() < 1e-6, "{} of {}", spent, units(&program));
            }
        }
    }
}
