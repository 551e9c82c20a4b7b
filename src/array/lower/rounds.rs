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

use super::stage::{Make, Need, Recipe, StageId};
use super::{Lowering, Piece, Place, TaskKind, extents, place_in};
use crate::error::Result;
use crate::id::ValueId;
use crate::kernel::assemble::{Paste, Pasted};
use crate::shape::{AxisRange, ChunkGrid, DType};
use crate::task::Operand;

/// How the chunks of `recipe`'s grid are made of those of `from`, so many of them in a round.
pub(super) fn rounds(this: StageId, recipe: &Recipe, from: ChunkGrid, at_once: usize) -> Rc<dyn Make> {
    let task = TaskKind::new(Arc::new(Paste), format!("rechunk {}", extents(&recipe.grid)));
    let to = recipe.grid.clone();
    Rc::new(Rounds {
        this,
        input: recipe.inputs[0],
        from,
        to,
        dtype: recipe.dtype,
        task,
        at_once,
        now: RefCell::default(),
        made: RefCell::default(),
    })
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
    /// The chunks of the input that it needs, in order.
    inputs: Vec<usize>,
}

/// Where two ranges of an axis meet: start in each, and length.
fn meet(a: &AxisRange, b: &AxisRange) -> Option<[usize; 3]> {
    let (start, end) = (a.start.max(b.start), (a.start + a.len).min(b.start + b.len));
    (start < end).then(|| [start - a.start, start - b.start, end - start])
}

impl Rounds {
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

    /// Begins a round, if it is not the one under way.
    fn begin(&self, round: usize) {
        let mut now = self.now.borrow_mut();
        if now.next != round + 1 {
            let needed = |&input: &usize| self.chunks(round).any(|output| self.common(input, output).is_some());
            let inputs = (0..self.from.len()).filter(needed).collect();
            *now = Round { next: round + 1, inputs };
        }
    }
}

impl Make for Rounds {
    fn needs(&self, question: usize, needs: &mut Vec<Need>) {
        let Some((round, input)) = self.step_of(question) else {
            let round = question / self.at_once;
            self.begin(round);
            let last = self.now.borrow().inputs.last().copied();
            return needs.extend(last.map(|last| self.question(round, last)));
        };
        self.begin(round);
        let now = self.now.borrow();
        let at = now.inputs.partition_point(|&other| other < input);
        needs.extend(at.checked_sub(1).map(|before| self.question(round, now.inputs[before])));
        needs.push((self.input, input));
    }

    fn make(&self, question: usize, given: &[Piece], _: &Place, lw: &mut Lowering) -> Result<Piece> {
        let Some((round, input)) = self.step_of(question) else {
            return Ok(Piece::of(*self.made.borrow().get(&question).expect("made in its round")));
        };
        let piece = given[given.len() - 1];
        for output in self.chunks(round) {
            let Some(common) = self.common(input, output) else { continue };
            let place = lw.homes.get(&self.this).map(|&array| place_in(array, &self.to, output, self.dtype));
            let new = lw.out(&place.unwrap_or(Place::Pool), self.dtype, &self.to.region(output).shape());
            let old = self.made.borrow_mut().insert(output, new);
            let out = old.map_or(Operand::of(new), |old| Operand::update(old, new));
            lw.task_to(&self.task, &common.to_bytes(), &[piece], out)?;
        }
        Ok(piece)
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        self.to.len()
    }

    fn rounds(&self) -> usize {
        self.to.len().div_ceil(self.at_once)
    }
}
