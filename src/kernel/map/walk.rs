//! A program on chunks, strip by strip.
//!
//! Owns: the order in which chunks are walked, where strips are read and written. Must not know: what loops do. Invariant: each element is computed once, from those
//! at its own index, whatever the strides.
//!
//! Rows that are slices are read where they lie. What lies crosswise, or in short rows, is gathered block by block: several rows at once, so that a line of cache is
//! fetched once. A broadcast element is spread over a strip once for each row.

use std::ops::Range;

use smallvec::SmallVec;

use super::code::{Arg, Code, Src};
use super::isa::Isa;
use super::loops::{Loop, MOST_ARGS, find};
use super::stream;
use crate::kernel::Scratch;
use crate::kernel::generate::ProgramInput;
use crate::kernel::rows::{GATHER, extent};
use crate::shape::{ChunkView, ChunkViewMut, DType, Element, with_dtype};

/// Shorter rows are gathered.
const SHORT: usize = 64;
/// Rows of a block of what lies crosswise.
pub(super) const HIGH: usize = 64;
/// A result of more bytes is written past the caches: whoever reads it would not find it there.
const LARGE: usize = 1 << 20;
/// Bytes between registers: so that they do not share places in the cache.
const APART: usize = 256;

/// Bytes of scratch where so many elements of inputs of these dtypes are gathered at once, and a line of so many is written.
pub(super) fn scratch_bytes(code: &Code, (gathered, line): (usize, usize), inputs: impl Iterator<Item = DType>) -> u64 {
    let (mut bytes, mut count) = (0, 0);
    for dtype in inputs {
        (bytes, count) = (bytes + gathered * dtype.bytes() + stream::LINE, count + 1);
    }
    let strips = code.registers + code.constants.len() + count + 1;
    let line = line * code.width + stream::LINE;
    (bytes + line + strips * (strip_bytes(code) + APART + stream::LINE)) as u64
}

fn strip_bytes(code: &Code) -> usize {
    code.strip * code.width
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

/// Memory that strips are in.
struct Strips<'a> {
    registers: SmallVec<[Option<&'a mut [u8]>; 16]>,
    constants: SmallVec<[&'a [u8]; 8]>,
    /// Of each input that is spread, a strip.
    spread: SmallVec<[Option<&'a mut [u8]>; 8]>,
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
    machine.is_large = out.layout().bytes() as usize > LARGE;
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
                machine.line(&sources, count, Target::Buffer(&mut *line));
                block.rows.clone().enumerate().for_each(|(at, row)| write(out, (row, 0), line, at * len..(at + 1) * len));
                continue;
            }
            machine.line(&sources, count, target(out, (row, start..start + count), is_whole && walk.is_flat));
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

    /// Line `number` of a block: this part of the chunk, or of this row; nothing of what is spread.
    fn line(&self, number: usize, row: usize, part: Range<usize>) -> &[u8] {
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

impl<'a> Strips<'a> {
    fn new(code: &Code, reads: &[Reads], scratch: &mut Scratch<'a>) -> Self {
        let bytes = strip_bytes(code);
        let mut strip = || &mut scratch.take::<u8>(bytes + APART)[..bytes];
        let constants = code.constants.iter().map(|scalar| {
            let (strip, one) = (strip(), scalar.bytes());
            strip.chunks_exact_mut(one.len()).for_each(|place| place.copy_from_slice(&one));
            &*strip
        });
        let constants = constants.collect();
        let registers = (0..code.registers).map(|_| Some(strip())).collect();
        let spread = reads.iter().map(|&reads| (reads == Reads::Spread).then(&mut strip)).collect();
        Self { registers, constants, spread }
    }

    /// Fills the strip of an input that is one element for all of a row.
    fn set_spread(&mut self, input: usize, view: ChunkView<'_>, row: usize, len: usize) {
        if let Some(strip) = &mut self.spread[input] {
            view.spread_bytes(row, &mut strip[..len * view.layout().dtype.bytes()]);
        }
    }

    /// A strip, or part of one.
    fn at<'s>(&'s self, (src, size): Arg, sources: &'s [&[u8]], part: &Range<usize>) -> &'s [u8] {
        let (size, len) = (usize::from(size), part.len());
        match src {
            Src::Constant(at) => &self.constants[usize::from(at)][..len * size],
            Src::Register(at) => self.registers[usize::from(at)].as_deref().map_or(&[], |register| &register[..len * size]),
            Src::Input(at) => match &self.spread[usize::from(at)] {
                Some(spread) => &spread[..len * size],
                None => &sources[usize::from(at)][part.start * size..part.end * size],
            },
        }
    }
}

/// What runs steps.
pub(super) struct Machine<'a, 'c, I: Isa> {
    isa: I,
    code: &'c Code,
    loops: SmallVec<[Loop<I>; 16]>,
    strips: Strips<'a>,
    /// The share of what the next strip is read from that is asked for before each step, of [`ALL`]: dividing takes as long as a short loop.
    shares: SmallVec<[usize; 17]>,
    /// Whether results are written past the caches.
    is_large: bool,
}

/// All that the next strip is read from.
const ALL: usize = 1 << 10;
/// It is asked for in so many parts, at most.
const MOST_SHARES: usize = 16;

impl<'a, 'c, I: Isa> Machine<'a, 'c, I> {
    /// For inputs that are read so.
    pub(super) fn new(isa: I, code: &'c Code, reads: &[Reads], scratch: &mut Scratch<'a>) -> Self {
        let loops = code.steps.iter().map(|step| find::<I>(step.does, step.from, step.to)).collect();
        let count = code.steps.len().clamp(1, MOST_SHARES);
        let shares = (0..=count).map(|k| k * ALL / count).collect();
        Self { isa, code, loops, strips: Strips::new(code, reads, scratch), shares, is_large: false }
    }

    /// What line `number` of a block, which is of this row, is made of.
    pub(super) fn sources<'s>(
        &mut self,
        supplies: &'s [Supply<'_, '_>],
        (number, row): (usize, usize),
        part: Range<usize>,
    ) -> SmallVec<[&'s [u8]; 8]> {
        for (at, supply) in supplies.iter().enumerate().filter(|(_, supply)| supply.reads == Reads::Spread) {
            supply.feed.chunk().iter().for_each(|view| self.strips.set_spread(at, **view, row, self.code.strip));
        }
        supplies.iter().map(|supply| supply.line(number, row, part.clone())).collect()
    }

    /// The input that is the result as it is, if it is not spread.
    pub(super) fn passes(&self) -> Option<usize> {
        match self.code.result.0 {
            Src::Input(at) if self.code.second.is_none() => {
                Some(at.into()).filter(|&at: &usize| self.strips.spread[at].is_none())
            }
            _ => None,
        }
    }

    /// Computes `count` elements of a line, and hands on each strip with the number of its first: the result, and its second part if it has two.
    pub(super) fn each(&mut self, sources: &[&[u8]], count: usize, each: &mut dyn FnMut(usize, [&[u8]; 2])) {
        let strip = if self.passes().is_some() { count } else { self.code.strip };
        for start in (0..count).step_by(strip.max(1)) {
            let end = count.min(start + strip);
            let ahead = end..count.min(end + strip);
            self.strip(sources, (start..end, ahead.start..ahead.start + ahead.len() / 2), None);
            let at = |arg| self.strips.at(arg, sources, &(start..end));
            each(start, [at(self.code.result), self.code.second.map_or(&[], at)]);
            // So that memory is asked for it while what was made is taken in, too.
            fetch(sources, &self.code.sizes, &(ahead.start + ahead.len() / 2..ahead.end), 0..ALL);
        }
    }

    /// Computes `count` elements of a line.
    fn line(&mut self, sources: &[&[u8]], count: usize, mut target: Target<'_>) {
        let strip = self.code.strip;
        let size = usize::from(self.code.result.1);
        let streams = match &target {
            Target::Numbers(line) => self.is_large && line.as_ptr().addr().is_multiple_of(stream::LINE),
            _ => false,
        };
        for start in (0..count).step_by(strip) {
            let len = strip.min(count - start);
            let ahead = start + len..count.min(start + len + strip);
            match &mut target {
                Target::Numbers(line) | Target::Buffer(line) if !streams => {
                    self.strip(sources, (start..start + len, ahead), Some(&mut line[start * size..(start + len) * size]));
                }
                Target::Numbers(line) | Target::Buffer(line) => {
                    let made = self.strip(sources, (start..start + len, ahead), None);
                    let (to, whole) = (&mut line[start * size..(start + len) * size], len * size / stream::LINE * stream::LINE);
                    stream::store(&mut to[..whole], &made[..whole]);
                    to[whole..].copy_from_slice(&made[whole..]);
                }
                Target::Bools(line) => {
                    let made = self.strip(sources, (start..start + len, ahead), None);
                    line[start..start + len].iter_mut().zip(made).for_each(|(to, &made)| *to = made != 0);
                }
                Target::Apart(out, row, column) => {
                    let made = self.strip(sources, (start..start + len, ahead), None);
                    write(out, (*row, *column + start), made, 0..len);
                }
            }
        }
    }

    /// Computes a strip: into `direct` if that is given, else it is returned.
    fn strip<'s>(
        &'s mut self,
        sources: &'s [&[u8]],
        (part, ahead): (Range<usize>, Range<usize>),
        mut direct: Option<&mut [u8]>,
    ) -> &'s [u8] {
        let len = part.len();
        let steps = self.code.steps.len();
        for (number, step) in self.code.steps.iter().enumerate() {
            let is_last = number + 1 == steps;
            let mut taken = self.strips.registers[usize::from(step.out)].take();
            let mut args = [&[][..]; MOST_ARGS];
            for (place, &arg) in args.iter_mut().zip(&step.args) {
                *place = self.strips.at(arg, sources, &part);
            }
            let out = match (&mut direct, &mut taken) {
                (Some(direct), _) if is_last => &mut **direct,
                (_, Some(register)) => &mut register[..len * step.to.bytes()],
                _ => unreachable!("a register is written by one step at a time"),
            };
            self.loops[number](self.isa, out, &args);
            self.strips.registers[usize::from(step.out)] = taken;
            if let Some(&[from, to]) = self.shares.get(number..number + 2) {
                fetch(sources, &self.code.sizes, &ahead, from..to);
            }
        }
        if steps == 0
            && let Some(direct) = direct.take()
        {
            direct.copy_from_slice(self.strips.at(self.code.result, sources, &part));
        }
        if direct.is_some() { &[] } else { self.strips.at(self.code.result, sources, &part) }
    }
}

/// Has a share, of [`ALL`], of what the next strips are read from fetched.
#[inline]
fn fetch(sources: &[&[u8]], sizes: &[u8], ahead: &Range<usize>, share: Range<usize>) {
    for (source, &size) in sources.iter().zip(sizes).filter(|(source, _)| !source.is_empty()) {
        let bytes = ahead.len() * usize::from(size);
        let [from, to] = [share.start, share.end].map(|share| ahead.start * usize::from(size) + bytes * share / ALL);
        stream::prefetch(&source[from..to]);
    }
}
