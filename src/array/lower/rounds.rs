//! Other chunks in bounded memory.
//!
//! Owns: [`Rounds`]: chunks of one grid made of those of another in several rounds. Must not know: what makes them. Invariant: in a round each chunk that is
//! needed is made, what it has of the round's chunks is copied out of it, and it goes before the next is made.
//!
//! Where each chunk of the one grid has something of each of the other (rows and columns), to put one together needs them all. If all of them are more
//! than memory should hold, as many as may be are put together at once, and what they are made of is made again for the next: reading and drawing cost
//! less than the run that is refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::super::expr::Primitive;
use super::super::optimize::{ExprId, Exprs};
use super::draft::Recipe;
use super::stage::{Make, Need, StageId};
use super::{Destination, Lowering, Piece, TaskKind, extents, place_in};
use crate::error::Result;
use crate::id::ValueId;
use crate::kernel::assemble::{Paste, Pasted};
use crate::shape::{AxisRange, ChunkGrid, DType};
use crate::task::Operand;

/// How the chunks of `recipe`'s grid are made of those of `from`, so many of them in a round.
pub(super) fn rounds(this: StageId, recipe: &Recipe, from: ChunkGrid, at_once: usize) -> Rc<dyn Make> {
    Rc::new(Rounds::new(this, recipe, from, at_once))
}

/// Question `j` is chunk `j`; `len + r * inputs + i` is the chunks of round `r`, with what chunks up to `i` of the input have of them.
struct Rounds {
    this: StageId,
    input: StageId,
    from: ChunkGrid,
    to: ChunkGrid,
    dtype: DType,
    task: TaskKind,
    at_once: usize,
    now: RefCell<Round>,
    /// The newest version of each chunk, of whatever round.
    made: RefCell<HashMap<usize, ValueId>>,
}

/// A round under way.
#[derive(Default)]
struct Round {
    /// Its number, one more.
    next: usize,
    /// The chunks of the input that it needs, each with a chunk of the round that has something of it, in order.
    pairs: Vec<(usize, usize)>,
}

impl Round {
    /// The place of the first pair of this chunk of the input, or a later one.
    fn place(&self, input: usize) -> usize {
        self.pairs.partition_point(|pair| pair.0 < input)
    }
}

/// Where two ranges of an axis meet: start in each, and length.
fn meet(a: &AxisRange, b: &AxisRange) -> Option<[usize; 3]> {
    let (start, end) = (a.start.max(b.start), (a.start + a.len).min(b.start + b.len));
    (start < end).then(|| [start - a.start, start - b.start, end - start])
}

impl Rounds {
    fn new(this: StageId, recipe: &Recipe, from: ChunkGrid, at_once: usize) -> Self {
        let task = TaskKind::new(Arc::new(Paste), format!("rechunk {}", extents(&recipe.grid)));
        Self {
            this,
            input: recipe.inputs[0],
            from,
            to: recipe.grid.clone(),
            dtype: recipe.dtype,
            task,
            at_once,
            now: RefCell::default(),
            made: RefCell::default(),
        }
    }

    fn chunks(&self, round: usize) -> std::ops::Range<usize> {
        round * self.at_once..((round + 1) * self.at_once).min(self.to.len())
    }

    fn question(&self, round: usize, input: usize) -> Need {
        (self.this, self.to.len() + round * self.from.len() + input)
    }

    /// Round and input of a question that is not for a chunk.
    fn step_of(&self, question: usize) -> Option<(usize, usize)> {
        let at = question.checked_sub(self.to.len())?;
        Some((at / self.from.len(), at % self.from.len()))
    }

    /// The part that a chunk of the input and one of the output have in common.
    fn common(&self, input: usize, output: usize) -> Option<Pasted> {
        let (from, to) = (self.from.region(input), self.to.region(output));
        from.axes().iter().zip(to.axes()).map(|(a, b)| meet(a, b)).collect::<Option<Vec<_>>>().map(|axes| Pasted { axes })
    }

    /// The chunks of the input of which one of the output has something: no others are looked at.
    fn inputs_of(&self, output: usize) -> Vec<usize> {
        let mut numbers = vec![0];
        for (a, range) in self.to.region(output).axes().iter().enumerate() {
            let chunks = self.from.chunk_of(a, range.start)..=self.from.chunk_of(a, range.start + range.len - 1);
            let count = self.from.count(a);
            numbers = numbers.iter().flat_map(|number| chunks.clone().map(move |chunk| number * count + chunk)).collect();
        }
        numbers
    }

    /// Begins a round, if it is not the one under way.
    fn begin(&self, round: usize) {
        let mut now = self.now.borrow_mut();
        if now.next != round + 1 {
            let of = |output| self.inputs_of(output).into_iter().map(move |input| (input, output));
            let mut pairs: Vec<(usize, usize)> = self.chunks(round).flat_map(of).collect();
            pairs.sort_unstable();
            *now = Round { next: round + 1, pairs };
        }
    }
}

impl Make for Rounds {
    fn needs(&self, question: usize, needs: &mut Vec<Need>) {
        let Some((round, input)) = self.step_of(question) else {
            let round = question / self.at_once;
            self.begin(round);
            let last = self.now.borrow().pairs.last().copied();
            return needs.extend(last.map(|(last, _)| self.question(round, last)));
        };
        self.begin(round);
        let now = self.now.borrow();
        let before = now.place(input).checked_sub(1);
        needs.extend(before.map(|before| self.question(round, now.pairs[before].0)));
        needs.push((self.input, input));
    }

    fn make(&self, question: usize, given: &[Piece], _: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let Some((round, input)) = self.step_of(question) else {
            return Ok(Piece::of(*self.made.borrow().get(&question).expect("made in its round")));
        };
        let piece = given[given.len() - 1];
        self.begin(round);
        let now = self.now.borrow();
        for &(_, output) in now.pairs[now.place(input)..].iter().take_while(|pair| pair.0 == input) {
            let Some(common) = self.common(input, output) else { continue };
            let place = lw.homes.get(&self.this).map(|&array| place_in(array, &self.to, output, self.dtype));
            let new = lw.out(&place.unwrap_or(Destination::Pool), self.dtype, &self.to.region(output).shape());
            let old = self.made.borrow_mut().insert(output, new);
            let out = old.map_or(Operand::of(new), |old| Operand::update(old, new));
            lw.task_to(&self.task, &common.to_bytes(), &[piece], out)?;
        }
        Ok(piece)
    }

    /// Each chunk of the one grid has something of one of the other along each axis, at least.
    fn tasks(&self, to: &ChunkGrid) -> usize {
        (0..to.shape().len()).map(|a| to.count(a).max(self.from.count(a))).fold(1, usize::saturating_mul)
    }

    fn rounds(&self) -> usize {
        self.to.len().div_ceil(self.at_once)
    }
}

/// What is made of more expressions than this is not made again.
const REMADE: usize = 64;

/// What is worth more work an element is not made again, either.
pub(super) const REMADE_WORK: f64 = 64.0;

/// Whether an expression's chunks can be made again at about the cost of reading or drawing what they are made of.
pub(super) fn is_remade(exprs: &Exprs, expr: ExprId) -> bool {
    let (mut all, mut at) = (vec![expr], 0);
    while let Some(&expr) = all.get(at) {
        let cheap = match &exprs.op(expr).primitive {
            Primitive::Source(..)
            | Primitive::Generate(..)
            | Primitive::View(_)
            | Primitive::Concat(_)
            | Primitive::Call(_) => true,
            Primitive::Map(program) => program.mix().total() <= REMADE_WORK,
            _ => false,
        };
        // Looked at before the inputs are: they may be very many.
        if !cheap || all.len() + exprs.inputs(expr).len() > REMADE {
            return false;
        }
        all.extend(exprs.inputs(expr).iter().filter(|input| !all.contains(input)).copied().collect::<Vec<_>>());
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chunk_is_paired_with_those_that_it_meets() {
        for (from, to) in [([7, 30], [30, 4]), ([5, 6], [6, 5]), ([1, 1], [9, 9]), ([40, 40], [3, 3])] {
            let grid = |chunk: &[usize; 2]| ChunkGrid::regular(&[31, 37], chunk).unwrap();
            let recipe = Recipe { grid: grid(&to), dtype: DType::F64, inputs: vec![0] };
            let rounds = Rounds::new(1, &recipe, grid(&from), 7);
            for round in 0..recipe.grid.len().div_ceil(7) {
                rounds.begin(round);
                let pairs = |input| rounds.chunks(round).map(move |output| (input, output));
                let all = (0..rounds.from.len()).flat_map(pairs).filter(|&(i, o)| rounds.common(i, o).is_some());
                assert_eq!(rounds.now.borrow().pairs, all.collect::<Vec<_>>(), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn a_round_looks_at_what_it_needs() {
        // 2^30 chunks into 2^30 others: each has something of two.
        let grid = |chunk| ChunkGrid::regular(&[3 << 30], &[chunk]).unwrap();
        let recipe = Recipe { grid: grid(3), dtype: DType::F64, inputs: vec![0] };
        let rounds = Rounds::new(1, &recipe, grid(2), 4);
        rounds.begin(1 << 20);
        assert_eq!(rounds.now.borrow().pairs.len(), 8);
    }
}
