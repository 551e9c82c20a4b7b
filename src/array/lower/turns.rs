//! Who asks when.
//!
//! Owns: [`Turns`]. Must not know: what a stage does. Invariant: a sum is asked for before what needs it; sums and roots that need no other's take turns, each as
//! far along as the others: so a chunk that they share is made once, and need not be kept for long.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Asked;
use super::stage::{StageId, Stages};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// A root, by its number, asks for a chunk.
    Root(usize),
    /// A stage takes a step of asking for what it needs.
    Steps(StageId),
}

/// The turns, each with the number of the chunk or the step.
pub(super) struct Turns {
    /// Level, who, and of how many; the lowest level last.
    waiting: Vec<(usize, Turn, usize)>,
    level: BinaryHeap<Reverse<Next>>,
}

/// The next turn of one of a level: the first is that which leaves it least far along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    /// How far along it will be, in parts of 2^32.
    part: u64,
    /// Its place among equals.
    order: usize,
    turn: Turn,
    number: usize,
    count: usize,
}

impl Next {
    fn new(order: usize, turn: Turn, number: usize, count: usize) -> Self {
        let part = (((number + 1) as u128) << 32).div_euclid(count as u128) as u64;
        Self { part, order, turn, number, count }
    }
}

impl Turns {
    pub(super) fn of(stages: &Stages, roots: &[Asked]) -> Self {
        let levels = levels(stages);
        let steps = |stage: StageId| Some(stages.at(stage)).filter(|of| of.is_whole).and_then(|of| of.make.step_count());
        let sums =
            (0..stages.len() as StageId).filter_map(|stage| Some((levels[stage as usize], Turn::Steps(stage), steps(stage)?)));
        let root = |(number, root): (usize, &Asked)| {
            let above = usize::from(steps(root.stage).is_some());
            (levels[root.stage as usize] + above, Turn::Root(number), root.grid.len())
        };
        let mut waiting: Vec<_> = sums.chain(roots.iter().enumerate().map(root)).filter(|turn| turn.2 > 0).collect();
        waiting.sort_by_key(|&(level, turn, _)| Reverse((level, turn)));
        Self { waiting, level: BinaryHeap::new() }
    }
}

impl Iterator for Turns {
    type Item = (Turn, usize);

    fn next(&mut self) -> Option<(Turn, usize)> {
        if self.level.is_empty() {
            let level = self.waiting.last()?.0;
            while let Some((_, turn, count)) = self.waiting.pop_if(|waiting| waiting.0 == level) {
                self.level.push(Reverse(Next::new(self.level.len(), turn, 0, count)));
            }
        }
        let Reverse(Next { order, turn, number, count, .. }) = self.level.pop()?;
        if number + 1 < count {
            self.level.push(Reverse(Next::new(order, turn, number + 1, count)));
        }
        Some((turn, number))
    }
}

/// Of each stage, how many sums stand one above the other beneath it.
fn levels(stages: &Stages) -> Vec<usize> {
    let mut levels = vec![0; stages.len()];
    for stage in stages.order() {
        let above = |&input: &StageId| levels[input as usize] + usize::from(stages.at(input).make.step_count().is_some());
        levels[stage as usize] = stages.at(stage).inputs.iter().map(above).max().unwrap_or(0);
    }
    levels
}
