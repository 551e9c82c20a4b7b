//! Runs that lie across the lines that are read: each line has an element of each of many runs.
//!
//! Owns: [`Across`]. Must not know: axes, programs. Invariant: a run's result has the bits that [`super::along`] gives it.

use super::Table;
use super::along::BLOCK;
use super::folds::{Eight, LANES, MOST_WORDS, Ops};
use super::tree::{Levels, levels};
use crate::kernel::Scratch;
use crate::kernel::map::{AT_ONCE, ROWS, Strip};

/// Bytes of the unfinished results of runs that are read side by side: these stay in the second cache. (Fewer runs would stay in the first, but what is read of each line
/// would be short.)
const PANEL_BYTES: usize = 128 << 10;

const _: () = assert!(AT_ONCE.is_multiple_of(LANES));

/// Rows of lanes of a run.
fn rows(ops: &Ops) -> usize {
    if ops.in_order { LANES } else { 1 }
}

/// Runs that are read side by side, at most.
pub(super) fn panel(ops: &Ops) -> usize {
    (PANEL_BYTES / 8 / (rows(ops) * ops.lanes)).clamp(128, 512) * LANES
}

/// Words of the trees of eight runs of so many elements.
fn tree_words(ops: &Ops, len: usize) -> usize {
    if ops.in_order { ops.words * LANES * levels(len / BLOCK) } else { 0 }
}

/// Folds runs of `len` elements, element `i` of each being in line `i` of its group.
pub(super) struct Across<'s, 't> {
    ops: &'static Ops,
    /// Elements of a run, bytes of an element.
    len: usize,
    size: usize,
    lines: AcrossLines,
    /// Of each row of lanes, those of the panel's runs, eight together; then the trees of these.
    lanes: &'s mut [u64],
    trees: &'s mut [u64],
    last: Line,
    table: Table<'t>,
}

/// A part of a line.
#[derive(Clone, Copy, Default)]
struct Line {
    /// The position where the line begins, the column where its panel does.
    start: usize,
    column: usize,
    /// The line's number in its group, and that.
    i: usize,
    group: usize,
}

/// The lines that are read, and where their runs are.
pub(super) struct AcrossLines {
    /// Elements of a line, and how many of them are a panel.
    pub(super) len: usize,
    pub(super) panel: usize,
    /// Extents of the other axes of runs, and how far apart runs are along them in the table; and along a line.
    pub(super) others: Vec<(usize, usize)>,
    pub(super) apart: usize,
}

impl AcrossLines {
    /// The place in the table of the first run of a group of lines.
    fn first(&self, mut group: usize) -> usize {
        let mut place = 0;
        for (n, step) in self.others.iter().rev() {
            place += group % n * step;
            group /= n;
        }
        place
    }
}

impl<'s, 't> Across<'s, 't> {
    /// Runs of `len` elements, of `size` bytes each.
    pub(super) fn new(
        ops: &'static Ops,
        (len, size): (usize, usize),
        lines: AcrossLines,
        table: Table<'t>,
        scratch: &mut Scratch<'s>,
    ) -> Self {
        let eights = lines.panel.div_ceil(LANES);
        let lanes = scratch.take(rows(ops) * eights * ops.lanes);
        let trees = scratch.take(tree_words(ops, len) * eights);
        Self { ops, len, size, lines, lanes, trees, last: Line::default(), table }
    }

    /// Bytes of scratch for runs of so many elements, so many side by side.
    pub(super) fn scratch_bytes(ops: &Ops, len: usize, panel: usize) -> usize {
        panel.div_ceil(LANES) * (rows(ops) * ops.lanes + tree_words(ops, len)) * 8 + 128
    }

    /// The line of what is at a position. (To divide takes as long as to read some elements.)
    fn find(&mut self, position: usize) -> Line {
        let (len, panel) = (self.lines.len, self.lines.panel);
        match position.checked_sub(self.last.start) {
            Some(column) if column < len => {}
            Some(column) if column < 2 * len && self.last.i + 1 < self.len => {
                self.last.start += len;
                self.last.i += 1;
            }
            _ => {
                let row = position / len;
                self.last = Line { start: row * len, column: 0, i: row % self.len, group: row / self.len };
            }
        }
        let column = position - self.last.start;
        if column.wrapping_sub(self.last.column) >= panel {
            self.last.column = column / panel * panel;
        }
        self.last
    }

    /// The lanes of a row, from those of this eight of the panel on.
    fn lanes(&self, row: usize, eight: usize) -> usize {
        (row * self.lines.panel.div_ceil(LANES) + eight) * self.ops.lanes
    }

    /// The results of the unfinished blocks, of `filled` elements, of eight runs.
    fn blocks(&self, eight: usize, filled: usize) -> Eight {
        let lanes = &self.lanes[self.lanes(0, eight)..rows(self.ops) * self.lanes(1, 0)];
        (self.ops.finish_rows)(lanes, self.lanes(1, 0), filled)
    }

    /// The trees of eight runs, of so many blocks.
    fn tree(&mut self, eight: usize, parts: usize) -> Levels<'_> {
        let words = tree_words(self.ops, self.len);
        Levels { ops: self.ops, levels: &mut self.trees[eight * words..][..words], width: LANES, parts }
    }

    /// The results of eight runs.
    fn finish(&mut self, eight: usize) -> Eight {
        if !self.ops.in_order {
            return self.blocks(eight, 1);
        }
        let filled = self.len % BLOCK;
        let mut last = if filled > 0 { self.blocks(eight, filled) } else { [0; MOST_WORDS * LANES] };
        self.tree(eight, self.len / BLOCK).finish(&mut last, filled > 0);
        last
    }
}

impl Across<'_, '_> {
    /// Takes in a strip, whose first element has this number in the order of reading.
    pub(super) fn take(&mut self, position: usize, strip: Strip<'_>) {
        let line = self.find(position);
        let (eight, eights) = self.eights(position, line, strip);
        let (lanes, is_first) = self.place(line.i, eight);
        (self.ops.put)(&mut self.lanes[lanes..lanes + eights * self.ops.lanes], strip, line.i as u64, is_first);
        self.ends(position, line, strip);
    }

    /// How far apart lines are that are taken in together: their elements go to the same lanes.
    pub(super) fn rows_apart(&self) -> usize {
        if self.ops.in_order { LANES } else { 1 }
    }

    /// Whether it does what is left to do to a strip.
    pub(super) fn does_last(&self) -> bool {
        self.ops.does_last
    }

    /// Takes in the same part of some lines, so far apart.
    pub(super) fn take_rows(&mut self, position: usize, rows: [Strip<'_>; ROWS]) {
        let apart = self.rows_apart();
        let line = self.find(position);
        let (eight, _) = self.eights(position, line, rows[0]);
        let (lanes, is_first) = self.place(line.i, eight);
        let at = std::array::from_fn(|number| (line.i + number * apart) as u64);
        (self.ops.put_rows)(&mut self.lanes[lanes..], rows, at, is_first);
        let last = (ROWS - 1) * apart;
        let start = line.start + last * self.lines.len;
        self.ends(position + last * self.lines.len, Line { start, i: line.i + last, ..line }, rows[ROWS - 1]);
    }

    /// The number in the panel of the first eight runs of a strip, and how many eights there are.
    fn eights(&self, position: usize, line: Line, strip: Strip<'_>) -> (usize, usize) {
        ((position - line.start - line.column) / LANES, (strip.len() / self.size).div_ceil(LANES))
    }

    /// Where the lanes of elements of this number are, from those of an eight of the panel on, and whether they begin with these.
    fn place(&self, i: usize, eight: usize) -> (usize, bool) {
        match self.ops.in_order {
            true => (self.lanes(i % LANES, eight), i % BLOCK < LANES),
            false => (self.lanes(0, eight), i == 0),
        }
    }

    /// Ends blocks and runs, if the last element that was read ends them.
    fn ends(&mut self, position: usize, line: Line, strip: Strip<'_>) {
        let (eight, eights) = self.eights(position, line, strip);
        if self.ops.in_order && (line.i + 1).is_multiple_of(BLOCK) {
            for eight in eight..eight + eights {
                let mut block = self.blocks(eight, BLOCK);
                self.tree(eight, line.i / BLOCK).push(&mut block);
            }
        }
        if line.i + 1 == self.len {
            let first = self.lines.first(line.group) + (position - line.start) * self.lines.apart;
            for k in 0..eights {
                let results = self.finish(eight + k);
                let count = LANES.min(strip.len() / self.size - k * LANES);
                for l in 0..count {
                    self.table.set(first + (k * LANES + l) * self.lines.apart, &results[l..], LANES);
                }
            }
        }
    }
}
