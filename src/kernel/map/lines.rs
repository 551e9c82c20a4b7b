//! A program on chunks of which nothing is kept: line by line, for whoever takes them in.
//!
//! Owns: [`Lines`]. Must not know: what becomes of them. Invariant: each element is handed on once, in strips that lie in a line.

use std::ops::Range;

use smallvec::SmallVec;

use super::ScalarProgram;
use super::code::Code;
use super::isa::{Isa, OnIsa, on_level};
use super::machine::{self, Machine, Strip};
use super::walk::{HIGH, Patch, Supply, Walk, scratch_bytes};
use crate::kernel::generate::ProgramInput;
use crate::kernel::rows::{GATHER, extent};
use crate::kernel::{Scratch, simd};

/// Elements of lines that are fetched one ahead: they stay in the second cache until they are read. Of longer ones the CPU sees by itself where they go.
const FETCHED: usize = 8192;

/// What makes lines of chunks.
pub(crate) struct Lines {
    code: Code,
}

/// Rows that are read at once, where they lie.
pub(crate) const ROWS: usize = 4;

/// What takes in what is read.
pub(crate) trait Takes {
    /// Takes in a strip, whose first element has this number in C order; of results that are handed on by parts, both.
    fn strip(&mut self, first: usize, strips: [Strip<'_>; 2]);
    /// Whether the last step of a program may be left to it, if it is one of those that [`super::Last`] names.
    fn does_last(&self) -> bool;
    /// How far apart rows are that are taken in together.
    fn rows_apart(&self) -> usize;
    /// Takes in the same part of some rows, so far apart, the first of which is one of the first so many of a group; it begins at a multiple of [`AT_ONCE`] columns.
    fn rows(&mut self, first: usize, rows: [Strip<'_>; ROWS]);
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
        let rows = ROWS * machine::buffer_bytes(&self.code);
        scratch_bytes(&self.code, (gathered, 0), program.inputs().iter().copied()) + rows as u64
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
        let buffers = std::array::from_fn(|_| machine::buffer(self.code, &mut scratch));
        let mut reader = Reader { walk, supplies, machine, buffers, count: rows, len, to: self.to };
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
    supplies: SmallVec<[Supply<'a, 'a>; 8]>,
    machine: Machine<'a, 'c, I>,
    /// Strips of rows that are computed side by side.
    buffers: [&'a mut [u8]; ROWS],
    /// Rows, and elements of each.
    count: usize,
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
            let has_next = !self.walk.is_flat && count <= FETCHED && (number + 1 < lines || self.walk.high == 1);
            let next =
                if has_next { ahead(&self.supplies, (row + 1, self.count), &(start..start + count)) } else { SmallVec::new() };
            let does_last = self.to.does_last();
            let to = &mut self.to;
            self.machine.each((&sources, &next), count, does_last, &mut |at, strips| to.strip(first + at, strips));
        }
    }

    /// Some columns of rows: several rows at once where they lie in memory, as one after the other each would be waited for.
    fn panel(&mut self, rows: Range<usize>, columns: Range<usize>) {
        let apart = self.to.rows_apart();
        let mut row = rows.start;
        let may_be = self.walk.high == 1
            && self.machine.code.second.is_none()
            && !self.supplies.iter().any(|supply| supply.is_made() || supply.changes_by_row());
        while may_be && rows.end - row >= ROWS * apart {
            for first in row..row + apart {
                let next = if first + 1 < row + apart { first + 1 } else { row + ROWS * apart };
                self.rows_at_once(first, next, &columns);
            }
            row += ROWS * apart;
        }
        for row in (row..rows.end).step_by(self.walk.high) {
            let next = rows.end.min(row + self.walk.high);
            self.block(&Patch { rows: row..next, columns: columns.clone() });
        }
    }

    /// Hands on some rows, the first of which is this; those that come after them begin with `next`.
    fn rows_at_once(&mut self, row: usize, next: usize, columns: &Range<usize>) {
        let apart = self.to.rows_apart();
        let sources: [_; ROWS] =
            std::array::from_fn(|number| self.machine.sources(&self.supplies, (0, row + number * apart), columns.clone()));
        let first = row * self.len + columns.start;
        if let Some(strip) = self.machine.direct_strip(self.to.does_last(), columns.len()) {
            let next: [_; ROWS] =
                std::array::from_fn(|number| ahead(&self.supplies, (next + number * apart, self.count), columns));
            // Up to here what is fetched is in the same row. Strips begin at multiples of what is taken in at once.
            let turn = columns.len().saturating_sub(AHEAD) / AT_ONCE * AT_ONCE;
            let mut start = 0;
            while start < columns.len() {
                let end = (start + strip).min(if start < turn { turn } else { columns.len() });
                let rows = std::array::from_fn(|number| {
                    let ahead = match start < turn {
                        true => (&sources[number][..], &(start + AHEAD..end + AHEAD)),
                        false => (&next[number][..], &(start - turn..end - turn)),
                    };
                    self.machine.direct(self.to.does_last(), (&sources[number], &(start..end)), ahead)
                });
                self.to.rows(first + start, rows);
                start = end;
            }
            return;
        }
        let (strip, size) = (self.machine.code.strip, usize::from(self.machine.code.result.1));
        for start in (0..columns.len()).step_by(strip) {
            let part = start..columns.len().min(start + strip);
            let ahead = part.end..columns.len().min(part.end + strip);
            for (sources, made) in sources.iter().zip(&mut self.buffers) {
                self.machine.strip(sources, (part.clone(), ahead.clone()), Some(&mut made[..part.len() * size]));
            }
            self.to.rows(first + start, self.buffers.each_ref().map(|made| Strip::done(&made[..part.len() * size])));
        }
    }
}

/// Columns of a row to come, if there are so many, of the inputs that are read where it lies.
fn ahead<'s>(supplies: &'s [Supply<'_, '_>], (row, count): (usize, usize), columns: &Range<usize>) -> SmallVec<[&'s [u8]; 8]> {
    let supplies = if row < count { supplies } else { &[] };
    supplies.iter().map(|supply| supply.row(row, columns.clone()).unwrap_or_default()).collect()
}

/// Elements of a row, at most, that are taken in at once: strips of rows side by side begin at their multiples.
pub(crate) const AT_ONCE: usize = 8;

/// Elements that some rows are fetched ahead by: there are several, and each ends before the CPU has seen where it goes.
const AHEAD: usize = 256;
