//! A program on chunks, strip by strip.
//!
//! Owns: the order in which chunks are walked, where strips are read and written. Must not know: what loops do. Invariant: each element is computed once, from those
//! at its own index, whatever the strides.
//!
//! Rows that are slices are read where they lie. What lies crosswise, or in short rows, is gathered block by block: several rows at once, so that a line of cache is
//! fetched once. A broadcast element is spread over a strip once for each row.

use std::ops::Range;

use smallvec::SmallVec;

use super::code::Code;
use super::isa::Isa;
use super::machine::{self, Machine};
use crate::kernel::Scratch;
use crate::kernel::generate::ProgramInput;
use crate::kernel::rows::{GATHER, extent};
use crate::kernel::stream;
use crate::shape::{ChunkView, ChunkViewMut, DType, Element, with_dtype};

/// Shorter rows are gathered.
const SHORT: usize = 64;
/// Rows of a block of what lies crosswise.
pub(super) const HIGH: usize = 64;
/// A result of more bytes is written past the caches: whoever reads it would not find it there.
const LARGE: usize = 1 << 20;

/// Bytes of scratch where so many elements of inputs of these dtypes are gathered at once, and a line of so many is written.
pub(super) fn scratch_bytes(code: &Code, (gathered, line): (usize, usize), inputs: impl Iterator<Item = DType>) -> u64 {
    let (mut bytes, mut count) = (0, 0);
    for dtype in inputs {
        (bytes, count) = (bytes + gathered * dtype.bytes() + stream::LINE, count + 1);
    }
    let line = line * code.width + stream::LINE;
    (bytes + line + machine::scratch_bytes(code, count)) as u64
}

/// Part of the rows of a chunk: in a flat block whole rows, seen as one line.
pub(super) struct Patch {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// How chunks are walked.
pub(super) struct Walk {
    /// Rows of a block, and columns.
    pub(super) high: usize,
    pub(super) wide: usize,
    /// Whether the rows of a block are one line.
    pub(super) is_flat: bool,
}

/// How an input is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// All of it is one slice.
    Whole,
    /// Its rows are slices.
    Rows,
    /// One element for each row.
    Spread,
    /// By blocks.
    Gather,
}

/// Whether it is one element, seen everywhere.
fn is_one(feed: &ProgramInput<'_>) -> bool {
    let apart = |view: &ChunkView<'_>| view.shape().iter().zip(&view.layout().strides).all(|(&n, &step)| n <= 1 || step == 0);
    feed.chunk().is_some_and(apart)
}

/// Whether it is a chunk that is one slice.
fn is_whole(feed: &ProgramInput<'_>) -> bool {
    feed.chunk().is_some_and(|view| view.layout().is_contiguous())
}

impl Walk {
    /// Of chunks of this shape; what is made of them is one slice, or it is not.
    pub(super) fn of(shape: &[usize], inputs: &[ProgramInput<'_>], is_out_whole: bool) -> (Self, SmallVec<[Reads; 8]>) {
        let (rows, len) = extent(shape);
        if is_out_whole && inputs.iter().all(|feed| is_whole(feed) || is_one(feed)) {
            let reads = inputs.iter().map(|feed| if is_whole(feed) { Reads::Whole } else { Reads::Spread }).collect();
            return (Self { high: rows, wide: len, is_flat: true }, reads);
        }
        if len < SHORT {
            let high = (GATHER / len.max(1)).clamp(1, rows.max(1));
            let reads = inputs.iter().map(|feed| match () {
                () if is_whole(feed) => Reads::Whole,
                () if is_one(feed) => Reads::Spread,
                () => Reads::Gather,
            });
            return (Self { high, wide: len, is_flat: true }, reads.collect());
        }
        Self::by_rows(len, inputs)
    }

    /// Row by row, whatever their length.
    pub(super) fn by_rows(len: usize, inputs: &[ProgramInput<'_>]) -> (Self, SmallVec<[Reads; 8]>) {
        let reads = |feed: &ProgramInput<'_>| match feed.chunk() {
            Some(view) if view.layout().strides.last() == Some(&0) => Reads::Spread,
            Some(view) if view.has_row_slices() => Reads::Rows,
            _ => Reads::Gather,
        };
        let reads: SmallVec<[Reads; 8]> = inputs.iter().map(reads).collect();
        let gathers = |is_made: bool| {
            let of = |(feed, &reads): (&ProgramInput<'_>, &Reads)| reads == Reads::Gather && feed.chunk().is_none() == is_made;
            inputs.iter().zip(&reads).any(of)
        };
        let (high, wide) = match () {
            () if gathers(false) => (HIGH, GATHER / HIGH),
            () if gathers(true) => (1, GATHER),
            () => (1, len),
        };
        (Self { high, wide: wide.min(len), is_flat: false }, reads)
    }

    pub(super) fn blocks(&self, (rows, len): (usize, usize)) -> impl Iterator<Item = Patch> + use<> {
        let (high, wide) = (self.high.max(1), self.wide.max(1));
        (0..rows).step_by(high).flat_map(move |r| {
            (0..len).step_by(wide).map(move |c| Patch { rows: r..rows.min(r + high), columns: c..len.min(c + wide) })
        })
    }
}

/// Where a line of a result goes.
enum Target<'a> {
    Numbers(&'a mut [u8]),
    /// It is copied on.
    Buffer(&'a mut [u8]),
    Bools(&'a mut [bool]),
    /// Its elements are apart: those of this row, from this column on.
    Apart(ChunkViewMut<'a>, usize, usize),
}

/// Runs a program on chunks of one shape.
pub(super) fn run<I: Isa>(
    isa: I,
    code: &Code,
    inputs: &[ProgramInput<'_>],
    out: &mut ChunkViewMut<'_>,
    scratch: &mut Scratch<'_>,
) {
    let (rows, len) = extent(out.shape());
    if rows * len == 0 {
        return;
    }
    let is_whole = out.layout().is_contiguous();
    let (walk, reads) = Walk::of(out.shape(), inputs, is_whole);
    let mut scratch = scratch.again();
    let block_len = (rows * len).min(GATHER);
    let mut supplies = Supply::all(inputs, &reads, (block_len, len), &mut scratch);
    let line: &mut [u8] = scratch.take(if walk.is_flat && !is_whole { block_len * code.width } else { 0 });
    let mut machine = Machine::new(isa, code, &reads, &mut scratch);
    let is_large = out.layout().bytes() as usize > LARGE;
    for block in walk.blocks((rows, len)) {
        supplies.iter_mut().for_each(|supply| supply.gather(&block, walk.high));
        let lines = if walk.is_flat { 1 } else { block.rows.len() };
        for number in 0..lines {
            let row = block.rows.start + number;
            let (start, count) = match walk.is_flat {
                true => (row * len, block.rows.len() * len),
                false => (block.columns.start, block.columns.len()),
            };
            let sources = machine.sources(&supplies, (number, row), start..start + count);
            if walk.is_flat && !is_whole {
                let line = &mut line[..count * out.layout().dtype.bytes()];
                compute(&mut machine, is_large, (&sources, count), Target::Buffer(&mut *line));
                block.rows.clone().enumerate().for_each(|(at, row)| write(out, (row, 0), line, at * len..(at + 1) * len));
                continue;
            }
            let target = target(out, (row, start..start + count), is_whole && walk.is_flat);
            compute(&mut machine, is_large, (&sources, count), target);
        }
    }
    stream::fence();
}

/// An input, and what of it was gathered.
pub(super) struct Supply<'r, 'a> {
    feed: &'r ProgramInput<'a>,
    reads: Reads,
    /// Elements of a row.
    len: usize,
    /// Of a block, row by row.
    gathered: &'a mut [u8],
    /// The columns that these are, if they are of all rows of a block.
    last: Option<Range<usize>>,
}

impl<'r, 'a> Supply<'r, 'a> {
    /// All inputs, which are read so, in blocks of at most so many elements, of rows of `len`.
    pub(super) fn all(
        inputs: &'r [ProgramInput<'a>],
        reads: &[Reads],
        (block_len, len): (usize, usize),
        scratch: &mut Scratch<'a>,
    ) -> SmallVec<[Self; 8]> {
        let of = |(feed, &reads): (&'r ProgramInput<'a>, &Reads)| {
            let room = if reads == Reads::Gather { block_len } else { 0 };
            Self { feed, reads, len, gathered: scratch.take(room * feed.dtype().bytes()), last: None }
        };
        inputs.iter().zip(reads).map(of).collect()
    }

    /// Gathers a block, if the input is read so. What is the same for all rows is gathered once.
    pub(super) fn gather(&mut self, block: &Patch, high: usize) {
        if self.reads != Reads::Gather {
            return;
        }
        match self.feed {
            ProgramInput::Chunk(view) => {
                let is_full = block.rows.len() == high;
                let is_there = is_full && repeats(view) && self.last.as_ref() == Some(&block.columns);
                if !is_there {
                    view.read_bytes(block.rows.clone(), block.columns.clone(), self.gathered);
                    self.last = is_full.then(|| block.columns.clone());
                }
            }
            ProgramInput::Made(made) => {
                let (size, wide) = (self.feed.dtype().bytes(), block.columns.len());
                if wide == self.len {
                    return made.part(block.rows.start * wide, &mut self.gathered[..block.rows.len() * wide * size]);
                }
                for (row, piece) in block.rows.clone().zip(self.gathered.chunks_exact_mut(wide * size)) {
                    made.part(row * self.len + block.columns.start, piece);
                }
            }
        }
    }

    /// Part of a row, if it is read where it lies.
    pub(super) fn row(&self, row: usize, part: Range<usize>) -> Option<&[u8]> {
        let size = self.feed.dtype().bytes();
        let view = self.feed.chunk().filter(|_| self.reads == Reads::Rows)?;
        Some(&view.row_bytes(row)[part.start * size..part.end * size])
    }

    /// Fills the strip of an input that is spread, if the row of what is in it shows another element.
    pub(super) fn spread(&self, row: usize, strip: &mut [u8], there: &mut Option<usize>) {
        let is_there = there.is_some_and(|there| there == row || !self.changes_by_row());
        if let (Some(view), false) = (self.feed.chunk(), is_there) {
            let size = view.layout().dtype.bytes();
            let whole = strip.len() / size * size;
            view.spread_bytes(row, &mut strip[..whole]);
            *there = Some(row);
        }
    }

    /// Whether it is made block by block.
    pub(super) fn is_made(&self) -> bool {
        self.feed.chunk().is_none()
    }

    /// Whether it is one element for each row, and not the same for all.
    pub(super) fn changes_by_row(&self) -> bool {
        self.reads == Reads::Spread && !is_one(self.feed)
    }

    /// Line `number` of a block: this part of the chunk, or of this row; nothing of what is spread.
    pub(super) fn line(&self, number: usize, row: usize, part: Range<usize>) -> &[u8] {
        let (size, count) = (self.feed.dtype().bytes(), part.len());
        let bytes = part.start * size..part.end * size;
        match (self.reads, self.feed) {
            (Reads::Whole, ProgramInput::Chunk(view)) => &view.try_bytes().expect("it is one slice")[bytes],
            (Reads::Rows, ProgramInput::Chunk(view)) => &view.row_bytes(row)[bytes],
            (Reads::Gather, _) => &self.gathered[number * count * size..(number + 1) * count * size],
            _ => &[],
        }
    }
}

/// Whether all rows of a chunk are the same elements.
fn repeats(view: &ChunkView<'_>) -> bool {
    let rank = view.shape().len();
    view.shape().iter().zip(&view.layout().strides).take(rank.saturating_sub(1)).all(|(&n, &step)| n <= 1 || step == 0)
}

/// Where a part of a row (of all, if the chunk is one slice) is written.
fn target<'a>(out: &'a mut ChunkViewMut<'_>, (row, part): (usize, Range<usize>), is_all: bool) -> Target<'a> {
    let dtype = out.layout().dtype;
    if !is_all && !out.has_row_slices() {
        return Target::Apart(out.again(), row, part.start);
    }
    fn slice<'a, T: Element>(out: &'a mut ChunkViewMut<'_>, row: usize, is_all: bool) -> &'a mut [T] {
        if is_all { out.slice_mut() } else { out.row_mut(row) }
    }
    with_dtype!(
        dtype in numbers,
        T => Target::Numbers(bytemuck::cast_slice_mut(&mut slice::<T>(out, row, is_all)[part])),
        _ => Target::Bools(&mut slice::<bool>(out, row, is_all)[part])
    )
}

/// Writes elements of a line to a row, from a column on.
fn write(out: &mut ChunkViewMut<'_>, (row, column): (usize, usize), line: &[u8], part: Range<usize>) {
    let dtype = out.layout().dtype;
    with_dtype!(
        dtype in numbers,
        T => out.write::<T>(row, column, &bytemuck::cast_slice(line)[part]),
        _ => part.enumerate().for_each(|(at, from)| out.set(row, column + at, line[from] != 0))
    );
}

/// Computes `count` elements of a line.
fn compute<I: Isa>(
    machine: &mut Machine<'_, '_, I>,
    is_large: bool,
    (sources, count): (&[&[u8]], usize),
    mut target: Target<'_>,
) {
    let strip = machine.code.strip;
    let size = usize::from(machine.code.result.1);
    let streams = match &target {
        Target::Numbers(line) => is_large && line.as_ptr().addr().is_multiple_of(stream::LINE),
        _ => false,
    };
    for start in (0..count).step_by(strip) {
        let len = strip.min(count - start);
        let ahead = start + len..count.min(start + len + strip);
        match &mut target {
            Target::Numbers(line) | Target::Buffer(line) if !streams => {
                machine.strip(sources, (start..start + len, ahead), Some(&mut line[start * size..(start + len) * size]));
            }
            Target::Numbers(line) | Target::Buffer(line) => {
                let made = machine.strip(sources, (start..start + len, ahead), None);
                let (to, whole) = (&mut line[start * size..(start + len) * size], len * size / stream::LINE * stream::LINE);
                stream::store(&mut to[..whole], &made[..whole]);
                to[whole..].copy_from_slice(&made[whole..]);
            }
            Target::Bools(line) => {
                let made = machine.strip(sources, (start..start + len, ahead), None);
                line[start..start + len].iter_mut().zip(made).for_each(|(to, &made)| *to = made != 0);
            }
            Target::Apart(out, row, column) => {
                let made = machine.strip(sources, (start..start + len, ahead), None);
                write(out, (*row, *column + start), made, 0..len);
            }
        }
    }
}
