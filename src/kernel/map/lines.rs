//! A program on chunks of which nothing is kept: line by line, for whoever takes them in.
//!
//! Owns: [`Lines`]. Must not know: what becomes of them. Invariant: each element is handed on once, in strips that lie in a line.

use std::ops::Range;

use super::ScalarProgram;
use super::code::Code;
use super::isa::{Isa, OnIsa, on_level};
use super::walk::{HIGH, Machine, Patch, Supply, Walk, scratch_bytes};
use crate::kernel::generate::ProgramInput;
use crate::kernel::rows::{GATHER, extent};
use crate::kernel::{Scratch, simd};

/// What makes lines of chunks.
pub(crate) struct Lines {
    code: Code,
}

/// Rows that are read at once, where they lie.
pub(crate) const ROWS: usize = 4;

/// What takes in what is read.
pub(crate) trait Takes {
    /// Takes in a strip, whose first element has this number in C order; of results that are handed on by parts, both.
    fn strip(&mut self, first: usize, strips: [&[u8]; 2]);
    /// Takes in the same part of some rows, the number of whose first in the panel's rows is a multiple of their number.
    fn rows(&mut self, first: usize, rows: [&[u8]; ROWS]);
}

impl Lines {
    pub(crate) fn new(program: &ScalarProgram) -> Self {
        Self { code: Code::of(program).with_long_strips() }
    }

    /// Complex numbers, of which the real and the imaginary parts are handed on, if the program puts these together at its end.
    pub(crate) fn of_parts(program: &ScalarProgram) -> Option<Self> {
        Some(Self { code: Code::of_parts(program)?.with_long_strips() })
    }

    /// Bytes of scratch for chunks of this shape, all of which lie in memory or not.
    pub(crate) fn scratch_bytes(&self, shape: &[usize], program: &ScalarProgram, are_chunks: bool) -> u64 {
        let len: usize = shape.iter().product();
        let gathered = len.min(if shape.len() > 1 || !are_chunks { GATHER } else { Self::MOST_COLUMNS });
        scratch_bytes(&self.code, (gathered, 0), program.inputs().iter().copied())
    }

    /// Rows that are handed on side by side, at most.
    pub(crate) const MOST_ROWS: usize = HIGH;
    /// And elements of each then.
    pub(crate) const MOST_COLUMNS: usize = GATHER / HIGH;

    /// So many rows are handed on side by side by [`Lines::read`].
    pub(crate) fn rows_at_once(&self, inputs: &LineInputs<'_>) -> usize {
        let walk = Walk::of(inputs.shape, inputs.feeds, true).0;
        if walk.is_flat { 1 } else { walk.high }
    }

    /// The extent of panels, at most this, for [`Lines::read_panels`].
    pub(crate) fn panel(&self, inputs: &LineInputs<'_>, most: usize) -> usize {
        let len = extent(inputs.shape).1;
        Walk::by_rows(len, inputs.feeds).0.wide.min(most).max(1)
    }

    /// Hands on all of chunks of one shape: in C order, or some rows side by side, each in order.
    pub(crate) fn read(&self, inputs: &LineInputs<'_>, scratch: &mut Scratch<'_>, to: &mut dyn Takes) {
        on_level(simd::level(), Read { code: &self.code, inputs, panels: None, scratch, to });
    }

    /// Hands on all of chunks of one shape: of each `run` rows first the first `panel` columns, row by row, then the next.
    pub(crate) fn read_panels(
        &self,
        inputs: &LineInputs<'_>,
        panels: (usize, usize),
        scratch: &mut Scratch<'_>,
        to: &mut dyn Takes,
    ) {
        on_level(simd::level(), Read { code: &self.code, inputs, panels: Some(panels), scratch, to });
    }
}

/// What lines are made of: all of one shape.
pub(crate) struct LineInputs<'r> {
    pub(crate) shape: &'r [usize],
    pub(crate) feeds: &'r [ProgramInput<'r>],
}

struct Read<'r, 's, 'e> {
    code: &'r Code,
    inputs: &'r LineInputs<'r>,
    panels: Option<(usize, usize)>,
    scratch: &'r mut Scratch<'s>,
    to: &'e mut dyn Takes,
}

impl OnIsa for Read<'_, '_, '_> {
    fn on(self, isa: impl Isa) {
        let LineInputs { shape, feeds } = *self.inputs;
        let (rows, len) = extent(shape);
        if rows * len == 0 {
            return;
        }
        let (walk, reads) = match self.panels {
            None => Walk::of(shape, feeds, true),
            Some(_) => Walk::by_rows(len, feeds),
        };
        let mut scratch = self.scratch.again();
        let gathered = walk.high.min(rows) * walk.wide;
        let supplies = Supply::all(feeds, &reads, (gathered.min(GATHER), len), &mut scratch);
        let machine = Machine::new(isa, self.code, &reads, &mut scratch);
        let mut reader = Reader { walk, supplies, machine, len, to: self.to };
        match self.panels {
            None => reader.walk.blocks((rows, len)).for_each(|block| reader.block(&block)),
            Some((run, panel)) => {
                for (group, column) in (0..rows).step_by(run).flat_map(|g| (0..len).step_by(panel).map(move |c| (g, c))) {
                    reader.panel(group..group + run, column..len.min(column + panel));
                }
            }
        }
    }
}

/// What reads block after block.
struct Reader<'a, 'c, 'e, I: Isa> {
    walk: Walk,
    supplies: smallvec::SmallVec<[Supply<'a, 'a>; 8]>,
    machine: Machine<'a, 'c, I>,
    /// Elements of a row.
    len: usize,
    to: &'e mut dyn Takes,
}

impl<I: Isa> Reader<'_, '_, '_, I> {
    fn block(&mut self, block: &Patch) {
        self.supplies.iter_mut().for_each(|supply| supply.gather(block, self.walk.high));
        let lines = if self.walk.is_flat { 1 } else { block.rows.len() };
        for number in 0..lines {
            let row = block.rows.start + number;
            let (start, count) = match self.walk.is_flat {
                true => (row * self.len, block.rows.len() * self.len),
                false => (block.columns.start, block.columns.len()),
            };
            let first = if self.walk.is_flat { start } else { row * self.len + start };
            let sources = self.machine.sources(&self.supplies, (number, row), start..start + count);
            let to = &mut self.to;
            self.machine.each(&sources, count, &mut |at, strips| to.strip(first + at, strips));
        }
    }

    /// Some columns of rows: several rows at once where nothing is computed of them, as one after the other each would be waited for.
    fn panel(&mut self, rows: Range<usize>, columns: Range<usize>) {
        let mut row = rows.start;
        let passes = self.machine.passes();
        while row < rows.end {
            let supply = passes.map(|input| &self.supplies[input]).filter(|_| rows.end - row >= ROWS);
            let several = supply.and_then(|supply| supply.row(row, columns.clone()).map(|_| supply));
            if let Some(supply) = several {
                let of = |number| supply.row(row + number, columns.clone()).unwrap_or_default();
                self.to.rows(row * self.len + columns.start, std::array::from_fn(of));
                row += ROWS;
                continue;
            }
            let next = rows.end.min(row + self.walk.high);
            self.block(&Patch { rows: row..next, columns: columns.clone() });
            row = next;
        }
    }
}
