//! Runs that lie along the lines that are read.
//!
//! Owns: [`Along`]. Must not know: axes, programs. Invariant: a run's result depends on its elements in their order alone, not on how lines were cut.
//!
//! Where the order matters, element `i` of a run goes to block `i / 1024`, there to lane `i % 8`; lanes are joined at the end of a block, blocks as a binary counter
//! counts: each element of a sum goes through at most `128 + 3 + log2(blocks) + 1` additions. Else four times eight lanes are filled in turns.

use super::Table;
use super::folds::{Lanes, MOST_WORDS, Ops};
use super::tree::{Levels, levels};
use crate::kernel::Scratch;
use crate::kernel::map::Strip;

/// Elements of a block.
pub(super) const BLOCK: usize = 1024;

/// Folds runs of `len` elements, one after the other, or some side by side.
pub(super) struct Along<'s, 't> {
    ops: &'static Ops,
    /// Elements of a run, bytes of an element.
    len: usize,
    size: usize,
    /// Those that are being read: run `r` is at place `r` modulo their number. Then the levels of their trees.
    live: Vec<Lanes>,
    trees: &'s mut [u64],
    /// The run that was read last, and the position where it begins.
    last: (usize, usize),
    table: Table<'t>,
}

/// Words of the tree of a run of so many elements.
fn tree_words(ops: &Ops, len: usize) -> usize {
    if ops.in_order { ops.words * levels(len / BLOCK) } else { 0 }
}

impl<'s, 't> Along<'s, 't> {
    /// Runs of `len` elements, of `size` bytes each, of which so many are read side by side.
    pub(super) fn new(
        ops: &'static Ops,
        (len, size): (usize, usize),
        live: usize,
        table: Table<'t>,
        scratch: &mut Scratch<'s>,
    ) -> Self {
        let trees = scratch.take(tree_words(ops, len) * live);
        Self { ops, len, size, live: (0..live).map(|_| Lanes::EMPTY).collect(), trees, last: (0, 0), table }
    }

    /// Bytes of scratch for runs of so many elements, so many side by side.
    pub(super) fn scratch_bytes(ops: &Ops, len: usize, live: usize) -> usize {
        tree_words(ops, len) * live * 8 + 64
    }

    /// Takes in the next elements of a run, those from number `at` on.
    fn push(&mut self, run: usize, at: usize, mut x: Strip<'_>) {
        let place = self.place(run);
        let lanes = &mut self.live[place];
        if at == 0 {
            lanes.clear();
        }
        if !self.ops.in_order {
            (self.ops.fill)(lanes, x, at as u64);
        }
        let mut block = at / BLOCK;
        while self.ops.in_order && x.len() > 0 {
            let lanes = &mut self.live[place];
            let (now, later) = x.split_at(x.len().min((BLOCK - lanes.filled) * self.size));
            (self.ops.fill)(lanes, now, 0);
            if lanes.filled == BLOCK {
                self.end_block(place, block);
                block += 1;
            }
            x = later;
        }
    }

    /// Appends the block that a run has filled, after so many others, to its tree.
    fn end_block(&mut self, place: usize, parts: usize) {
        let (lanes, words) = (&mut self.live[place], tree_words(self.ops, self.len));
        let levels = &mut self.trees[place * words..][..words];
        Levels { ops: self.ops, levels, width: 1, parts }.push(&mut (self.ops.finish)(lanes));
        lanes.clear();
    }

    fn place(&self, run: usize) -> usize {
        if self.live.len() == 1 { 0 } else { run % self.live.len() }
    }

    /// The run that has what is at a position, and the number it has there. (To divide takes as long as to read some elements.)
    fn find(&mut self, position: usize) -> (usize, usize) {
        let (run, start) = self.last;
        self.last = match position.checked_sub(start) {
            Some(at) if at < self.len => return (run, at),
            Some(at) if at == self.len => (run + 1, position),
            _ => (position / self.len, position / self.len * self.len),
        };
        (self.last.0, position - self.last.1)
    }

    /// The result of a run that was read.
    fn finish(&mut self, run: usize) {
        let place = self.place(run);
        let (lanes, words) = (&self.live[place], tree_words(self.ops, self.len));
        let mut acc = [0; MOST_WORDS];
        let has_last = !self.ops.in_order || lanes.filled > 0;
        if has_last {
            acc = (self.ops.finish)(lanes);
        }
        let (parts, levels) = (if self.ops.in_order { self.len / BLOCK } else { 0 }, &mut self.trees[place * words..][..words]);
        Levels { ops: self.ops, levels, width: 1, parts }.finish(&mut acc, has_last);
        self.table.set(run, &acc, 1);
    }
}

impl Along<'_, '_> {
    /// Whether it does what is left to do to a strip.
    pub(super) fn does_last(&self) -> bool {
        self.ops.does_last
    }

    /// Takes products into these runs and their second factors into those of `other`, which are as many of as many elements: each factor is read once.
    pub(super) fn take_both(&mut self, other: &mut Self, mut position: usize, mut strip: Strip<'_>) {
        while strip.len() > 0 {
            let (run, at) = self.find(position);
            let count = (strip.len() / self.size).min(self.len - at);
            let (mut now, later) = strip.split_at(count * self.size);
            (position, strip) = (position + count, later);
            let place = self.place(run);
            if at == 0 {
                [&mut *self, &mut *other].into_iter().for_each(|runs| runs.live[place].clear());
            }
            let mut block = at / BLOCK;
            while now.len() > 0 {
                let filled = self.live[place].filled;
                let (some, rest) = now.split_at(now.len().min((BLOCK - filled) * self.size));
                (self.ops.fill_both)([&mut self.live[place], &mut other.live[place]], some);
                if self.live[place].filled == BLOCK {
                    [&mut *self, &mut *other].into_iter().for_each(|runs| runs.end_block(place, block));
                    block += 1;
                }
                now = rest;
            }
            if at + count == self.len {
                [&mut *self, &mut *other].into_iter().for_each(|runs| runs.finish(run));
            }
        }
    }

    /// Takes in a strip, whose first element has this number in the order of reading.
    pub(super) fn take(&mut self, mut position: usize, mut strip: Strip<'_>) {
        while strip.len() > 0 {
            let (run, at) = self.find(position);
            let count = (strip.len() / self.size).min(self.len - at);
            let (now, later) = strip.split_at(count * self.size);
            if count == self.len && count <= BLOCK {
                self.table.set(run, &(self.ops.whole)(now), 1);
            } else {
                self.push(run, at, now);
                if at + count == self.len {
                    self.finish(run);
                }
            }
            (position, strip) = (position + count, later);
        }
    }
}
