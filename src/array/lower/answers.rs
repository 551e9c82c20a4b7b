//! What was answered.
//!
//! Owns: [`Answers`], the dense table of one stage's chunks. Must not know: stages. Invariant: O(1) for each question; eight bytes for each answer.

use std::collections::HashMap;

use super::Piece;

/// Answers by question: the first in a list, the others in pages that are there once something on them is answered. Of a stage of which little is asked,
/// little is kept.
#[derive(Default)]
pub(super) struct Answers {
    first: Page,
    pages: HashMap<usize, Page>,
}

/// Some answers, and when they were made if that matters.
#[derive(Default)]
struct Page {
    answers: Vec<Piece>,
    clocks: Vec<u32>,
}

/// Answers in the list, or on a page: such a page is a piece of memory of its own, which goes back to the system with the plan.
const PAGE: usize = 1 << 15;

impl Answers {
    fn page(&self, question: usize) -> Option<&Page> {
        if question < PAGE { Some(&self.first) } else { self.pages.get(&(question / PAGE)) }
    }

    /// The answer, if there is one.
    pub(super) fn get(&self, question: usize) -> Option<Piece> {
        self.page(question)?.answers.get(question % PAGE).copied().filter(|&piece| piece != Piece::NONE)
    }

    /// When an answer was made, if that was noted.
    pub(super) fn clock(&self, question: usize) -> u32 {
        self.page(question).and_then(|page| page.clocks.get(question % PAGE)).copied().unwrap_or(0)
    }

    /// Keeps an answer, and when it was made if that matters.
    pub(super) fn set(&mut self, question: usize, piece: Piece, clock: Option<u32>) {
        let (at, all) = (question % PAGE, |at: usize| if question < PAGE { at + 1 } else { PAGE });
        let page = if question < PAGE { &mut self.first } else { self.pages.entry(question / PAGE).or_default() };
        if at >= page.answers.len() {
            page.answers.resize(all(at), Piece::NONE);
        }
        page.answers[at] = piece;
        if let Some(clock) = clock {
            if at >= page.clocks.len() {
                page.clocks.resize(all(at), 0);
            }
            page.clocks[at] = clock;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ValueId;

    #[test]
    fn answers_are_kept_near_and_far() {
        let mut answers = Answers::default();
        let piece = |n: u32| Piece::of(ValueId(n));
        for (number, question) in [0, 7, PAGE - 1, PAGE, 5 * PAGE + 3, usize::MAX].into_iter().enumerate() {
            assert_eq!(answers.get(question), None);
            answers.set(question, piece(number as u32), (number % 2 == 1).then_some(number as u32));
            assert_eq!(
                (answers.get(question), answers.clock(question)),
                (Some(piece(number as u32)), (number as u32) % 2 * number as u32)
            );
        }
        assert_eq!((answers.get(3), answers.get(PAGE + 1), answers.clock(3)), (None, None, 0));
        assert_eq!(answers.get(7), Some(piece(1)));
    }
}
