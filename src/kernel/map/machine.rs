//! Strips, and what computes them.
//!
//! Owns: the memory that strips are in, the order of steps, what is fetched ahead. Must not know: chunks. Invariant: a strip has the bits that its steps give one after the other,
//! whoever does the last.

use std::ops::Range;

use smallvec::SmallVec;

use super::code::{Arg, Code, Src};
use super::isa::Isa;
use super::loops::{Does, Loop, MOST_ARGS, TwoOps, find};
use super::table::ScalarOp;
use super::walk::{Reads, Supply};
use crate::kernel::{Scratch, stream};

/// Bytes between registers: so that they do not share places in the cache.
const APART: usize = 256;

/// Bytes of scratch for the strips of a program of so many inputs.
pub(super) fn scratch_bytes(code: &Code, inputs: usize) -> usize {
    (code.registers + code.constants.len() + inputs + 1) * buffer_bytes(code)
}

/// Bytes of scratch for one more strip.
pub(super) fn buffer_bytes(code: &Code) -> usize {
    code.strip * code.width + APART + stream::LINE
}

/// Room for a strip.
pub(super) fn buffer<'a>(code: &Code, scratch: &mut Scratch<'a>) -> &'a mut [u8] {
    let bytes = code.strip * code.width;
    &mut scratch.take::<u8>(bytes + APART)[..bytes]
}

/// What is still to be done to a strip that is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// Nothing.
    Done,
    /// `a + b`, of floats, as in the following.
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `(a - b) * (a - b)`
    SubSquare,
}

/// A strip that is handed on: what of, and what is still to be done.
#[derive(Clone, Copy)]
pub(crate) struct Strip<'s> {
    pub(crate) last: Last,
    /// The strip; or the operands, of as many bytes.
    pub(crate) args: [&'s [u8]; 2],
    /// What may be fetched meanwhile: as many bytes, or none.
    pub(crate) ahead: [&'s [u8]; 2],
}

impl<'s> Strip<'s> {
    /// One of which nothing is left to do.
    pub(crate) fn done(bytes: &'s [u8]) -> Self {
        Self { last: Last::Done, args: [bytes, &[]], ahead: [&[]; 2] }
    }

    /// Its bytes.
    ///
    /// # Panics
    /// If something is left to do.
    pub(crate) fn bytes(self) -> &'s [u8] {
        assert_eq!(self.last, Last::Done, "the last operation was left to whoever cannot do it");
        self.args[0]
    }

    /// Whether it is a product that is still to be made, and `other` its second factor.
    pub(crate) fn has_factor(self, other: Self) -> bool {
        self.last == Last::Mul && other.last == Last::Done && std::ptr::eq(self.args[1], other.args[0])
    }

    /// Bytes of an operand.
    pub(crate) fn len(self) -> usize {
        self.args[0].len()
    }

    /// The first so many bytes, and the rest.
    pub(crate) fn split_at(self, bytes: usize) -> (Self, Self) {
        let split = |all: [&'s [u8]; 2]| all.map(|all| all.split_at(bytes.min(all.len())));
        let ([a, b], [c, d]) = (split(self.args), split(self.ahead));
        (Self { args: [a.0, b.0], ahead: [c.0, d.0], ..self }, Self { args: [a.1, b.1], ahead: [c.1, d.1], ..self })
    }
}

/// The last step of a program and its operands, if whoever takes strips in may do it.
fn left(code: &Code) -> Option<(Last, [Arg; 2])> {
    let step = code.steps.last().filter(|step| step.from.is_float() && step.to == step.from)?;
    let last = match step.does {
        Does::One(ScalarOp::Add) => Last::Add,
        Does::One(ScalarOp::Sub) => Last::Sub,
        Does::One(ScalarOp::Mul) => Last::Mul,
        Does::Two(TwoOps::SubSquare) => Last::SubSquare,
        _ => return None,
    };
    let made = Src::Register(step.out);
    let is_result = code.result.0 == made && code.second.is_none_or(|(second, _)| second != made);
    is_result.then(|| (last, [step.args[0], step.args[1]]))
}

/// A strip of one element, and the row whose element that is.
type Spread<'a> = (&'a mut [u8], Option<usize>);

/// Memory that strips are in.
struct Strips<'a> {
    registers: SmallVec<[Option<&'a mut [u8]>; 16]>,
    constants: SmallVec<[&'a [u8]; 8]>,
    /// Of the inputs that are spread.
    spread: SmallVec<[Option<Spread<'a>>; 8]>,
}

impl<'a> Strips<'a> {
    fn new(code: &Code, reads: &[Reads], scratch: &mut Scratch<'a>) -> Self {
        let mut strip = || buffer(code, scratch);
        let constants = code.constants.iter().map(|scalar| {
            let (strip, one) = (strip(), scalar.bytes());
            strip.chunks_exact_mut(one.len()).for_each(|place| place.copy_from_slice(&one));
            &*strip
        });
        let constants = constants.collect();
        let registers = (0..code.registers).map(|_| Some(strip())).collect();
        let spread = reads.iter().map(|&reads| (reads == Reads::Spread).then(|| (strip(), None))).collect();
        Self { registers, constants, spread }
    }

    /// A strip, or part of one.
    fn at<'s>(&'s self, (src, size): Arg, sources: &'s [&[u8]], part: &Range<usize>) -> &'s [u8] {
        let (size, len) = (usize::from(size), part.len());
        match src {
            Src::Constant(at) => &self.constants[usize::from(at)][..len * size],
            Src::Register(at) => self.registers[usize::from(at)].as_deref().map_or(&[], |register| &register[..len * size]),
            Src::Input(at) => match &self.spread[usize::from(at)] {
                Some((spread, _)) => &spread[..len * size],
                None => &sources[usize::from(at)][part.start * size..part.end * size],
            },
        }
    }

    /// The same part of another line of these, if an operand is read from there.
    fn line<'s>(&self, (src, size): Arg, lines: &[&'s [u8]], part: &Range<usize>) -> &'s [u8] {
        let size = usize::from(size);
        let line = match src {
            Src::Input(at) => lines.get(usize::from(at)).copied().unwrap_or_default(),
            Src::Constant(_) | Src::Register(_) => &[],
        };
        line.get(part.start * size..part.end * size).unwrap_or_default()
    }

    /// Whether an operand lies where it is read from, in lines of any length.
    fn is_line(&self, (src, _): Arg) -> bool {
        matches!(src, Src::Input(at) if self.spread[usize::from(at)].is_none())
    }
}

/// What runs steps.
pub(super) struct Machine<'a, 'c, I: Isa> {
    isa: I,
    pub(super) code: &'c Code,
    loops: SmallVec<[Loop<I>; 16]>,
    strips: Strips<'a>,
    /// The share of what the next strip is read from that is asked for before each step, of [`ALL`]: dividing takes as long as a short loop.
    shares: SmallVec<[usize; 17]>,
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
        Self { isa, code, loops, strips: Strips::new(code, reads, scratch), shares }
    }

    /// What line `number` of a block, which is of this row, is made of.
    pub(super) fn sources<'s>(
        &mut self,
        supplies: &'s [Supply<'_, '_>],
        (number, row): (usize, usize),
        part: Range<usize>,
    ) -> SmallVec<[&'s [u8]; 8]> {
        for (supply, spread) in supplies.iter().zip(&mut self.strips.spread) {
            if let Some((strip, from)) = spread {
                supply.spread(row, strip, from);
            }
        }
        supplies.iter().map(|supply| supply.line(number, row, part.clone())).collect()
    }

    /// Elements of strips, in lines of so many, that are handed on as they are read: nothing is computed, or the last step alone, which is left. If there are such.
    pub(super) fn direct_strip(&self, leaves_last: bool, count: usize) -> Option<usize> {
        let left = if leaves_last { left(self.code) } else { None };
        // A factor of a product that is still to be made may be asked for beside it.
        let is_factor = |second| matches!(left, Some((Last::Mul, [_, factor])) if factor == second);
        let is_direct = self.code.steps.len() == usize::from(left.is_some()) && self.code.second.is_none_or(is_factor);
        let args = left.map_or([self.code.result; 2], |(_, args)| args);
        // Where all lies in memory a line is one strip.
        let strip = if args.iter().all(|&arg| self.strips.is_line(arg)) { count } else { self.code.strip };
        is_direct.then_some(strip)
    }

    /// Such a strip, and the part of other lines that may be fetched meanwhile.
    pub(super) fn direct<'s>(
        &'s self,
        leaves_last: bool,
        (sources, part): (&'s [&[u8]], &Range<usize>),
        (from, ahead): (&[&'s [u8]], &Range<usize>),
    ) -> Strip<'s> {
        let at = |arg| self.strips.at(arg, sources, part);
        let later = |arg| self.strips.line(arg, from, ahead);
        match if leaves_last { left(self.code) } else { None } {
            Some((last, args)) => Strip { last, args: args.map(at), ahead: args.map(later) },
            None => Strip { ahead: [later(self.code.result), &[]], ..Strip::done(at(self.code.result)) },
        }
    }

    /// The same, or both parts of what has two; these are taken in one after the other, while an operand each is fetched.
    fn parts<'s>(
        &'s self,
        leaves_last: bool,
        (sources, part): (&'s [&[u8]], &Range<usize>),
        (from, ahead): (&[&'s [u8]], &Range<usize>),
    ) -> [Strip<'s>; 2] {
        let first = self.direct(leaves_last, (sources, part), (from, ahead));
        match self.code.second {
            None => [first, Strip::done(&[])],
            Some(second) => {
                let later = [self.strips.line(second, from, ahead), &[]];
                let second = Strip { ahead: later, ..Strip::done(self.strips.at(second, sources, part)) };
                [Strip { ahead: [first.ahead[0], &[]], ..first }, second]
            }
        }
    }

    /// Computes `count` elements of a line, and hands on each strip with the number of its first: the result, and its second part if it has two; if asked to, without
    /// the last step. The next line may be fetched meanwhile.
    pub(super) fn each(
        &mut self,
        (sources, next): (&[&[u8]], &[&[u8]]),
        count: usize,
        leaves_last: bool,
        each: &mut dyn FnMut(usize, [Strip<'_>; 2]),
    ) {
        let is_left = leaves_last && left(self.code).is_some();
        let steps = self.code.steps.len() - usize::from(is_left);
        let strip = self.direct_strip(leaves_last, count).unwrap_or(self.code.strip);
        let fetches = if steps == 0 { 0 } else { ALL };
        for start in (0..count).step_by(strip.max(1)) {
            let end = count.min(start + strip);
            let (from, ahead) = match end < count {
                true => (sources, end..count.min(end + strip)),
                false => (next, 0..count.min(strip)),
            };
            let half = ahead.start + fetches * ahead.len() / 2 / ALL;
            self.run(steps, (sources, from), (start..end, ahead.start..half), None);
            // The share of the step that is left.
            let share = self.shares.get(steps).copied().unwrap_or(ALL);
            fetch(from, &self.code.sizes, &(ahead.start..half), share..ALL);
            let part = start..end;
            each(start, self.parts(leaves_last, (sources, &part), if steps == 0 { (from, &ahead) } else { (&[], &part) }));
            // So that memory is asked for it while what was made is taken in, too.
            fetch(from, &self.code.sizes, &(half..ahead.end), 0..fetches);
        }
    }

    /// Computes a strip: into `direct` if that is given, else it is returned.
    pub(super) fn strip<'s>(
        &'s mut self,
        sources: &'s [&[u8]],
        (part, ahead): (Range<usize>, Range<usize>),
        mut direct: Option<&mut [u8]>,
    ) -> &'s [u8] {
        let steps = self.code.steps.len();
        self.run(steps, (sources, sources), (part.clone(), ahead), direct.as_deref_mut());
        match direct {
            Some(direct) if steps == 0 => direct.copy_from_slice(self.strips.at(self.code.result, sources, &part)),
            Some(_) => {}
            None => return self.strips.at(self.code.result, sources, &part),
        }
        &[]
    }

    /// Runs the first so many steps on a strip, the last of which writes into `direct` if that is given. What of `from` is ahead is fetched.
    fn run(
        &mut self,
        steps: usize,
        (sources, from): (&[&[u8]], &[&[u8]]),
        (part, ahead): (Range<usize>, Range<usize>),
        mut direct: Option<&mut [u8]>,
    ) {
        let len = part.len();
        for (number, step) in self.code.steps[..steps].iter().enumerate() {
            let mut taken = self.strips.registers[usize::from(step.out)].take();
            let mut args = [&[][..]; MOST_ARGS];
            for (place, &arg) in args.iter_mut().zip(&step.args) {
                *place = self.strips.at(arg, sources, &part);
            }
            let out = match (&mut direct, &mut taken) {
                (Some(direct), _) if number + 1 == steps => &mut **direct,
                (_, Some(register)) => &mut register[..len * step.to.bytes()],
                _ => unreachable!("a register is written by one step at a time"),
            };
            self.loops[number](self.isa, out, &args);
            self.strips.registers[usize::from(step.out)] = taken;
            if let Some(&[start, end]) = self.shares.get(number..number + 2) {
                fetch(from, &self.code.sizes, &ahead, start..end);
            }
        }
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
