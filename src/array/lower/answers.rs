//! What was answered.
//!
//! Owns: [`Answers`], the dense table of one stage's chunks. Must not know: stages. Invariant: O(1) for each question; eight bytes for each answer.

use std::collections::HashMap;

use super::Piece;

/// Answers by question: the first in a list, the others on pages that are there once something on them is answered. Of a stage of which little is asked,
/// little is kept.
#[derive(Default)]
pub(super) struct Answers {
    first: Dense,
    pages: HashMap<usize, Page>,
}

/// All answers of a page, and when they were made if that matters.
#[derive(Default)]
struct Dense {
    answers: Vec<Piece>,
    clocks: Vec<u32>,
}

/// What is known of one question.
struct KeptAnswer {
    at: u16,
    piece: Piece,
    clock: u32,
}

enum Page {
    /// The few that there are, by their place.
    Few(Vec<KeptAnswer>),
    All(Dense),
}

/// Answers in the list, or on a page: such a page is a piece of memory of its own, which goes back to the system with the plan.
const PAGE: usize = 1 << 15;
/// With more answers than this a page has room for all.
const FEW: usize = 1 << 10;

impl Dense {
    fn get(&self, at: usize) -> Option<(Piece, u32)> {
        let piece = self.answers.get(at).copied().filter(|&piece| piece != Piece::NONE)?;
        Some((piece, self.clocks.get(at).copied().unwrap_or(0)))
    }

    /// Keeps an answer, with room for `len`.
    fn set(&mut self, at: usize, len: usize, piece: Piece, clock: Option<u32>) {
        if at >= self.answers.len() {
            self.answers.resize(len, Piece::NONE);
        }
        self.answers[at] = piece;
        if let Some(clock) = clock {
            if at >= self.clocks.len() {
                self.clocks.resize(len, 0);
            }
            self.clocks[at] = clock;
        }
    }
}

impl Page {
    fn get(&self, at: usize) -> Option<(Piece, u32)> {
        match self {
            Self::All(all) => all.get(at),
            Self::Few(few) => {
                let found = few.binary_search_by_key(&at, |answer| answer.at.into()).ok()?;
                Some((few[found].piece, few[found].clock))
            }
        }
    }

    fn set(&mut self, at: usize, piece: Piece, clock: Option<u32>) {
        if let Self::Few(few) = self
            && few.len() > FEW
        {
            let mut all = Dense::default();
            few.iter().for_each(|a| all.set(a.at.into(), PAGE, a.piece, Some(a.clock).filter(|&clock| clock > 0)));
            *self = Self::All(all);
        }
        match self {
            Self::All(all) => all.set(at, PAGE, piece, clock),
            Self::Few(few) => {
                let answer = KeptAnswer { at: at as u16, piece, clock: clock.unwrap_or(0) };
                match few.binary_search_by_key(&at, |answer| answer.at.into()) {
                    Ok(there) => few[there] = answer,
                    Err(place) => few.insert(place, answer),
                }
            }
        }
    }
}

impl Answers {
    fn look(&self, question: usize) -> Option<(Piece, u32)> {
        if question < PAGE { self.first.get(question) } else { self.pages.get(&(question / PAGE))?.get(question % PAGE) }
    }

    /// The answer, if there is one.
    pub(super) fn get(&self, question: usize) -> Option<Piece> {
        self.look(question).map(|(piece, _)| piece)
    }

    /// When an answer was made, if that was noted.
    pub(super) fn clock(&self, question: usize) -> u32 {
        self.look(question).map_or(0, |(_, clock)| clock)
    }

    /// Keeps an answer, and when it was made if that matters.
    pub(super) fn set(&mut self, question: usize, piece: Piece, clock: Option<u32>) {
        if question < PAGE {
            return self.first.set(question, question + 1, piece, clock);
        }
        self.pages.entry(question / PAGE).or_insert_with(|| Page::Few(Vec::new())).set(question % PAGE, piece, clock);
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

    #[test]
    fn a_page_that_fills_keeps_what_it_has() {
        let mut answers = Answers::default();
        let places: Vec<usize> = (0..PAGE).map(|i| 3 * PAGE + i * 12_345 % PAGE).collect(); // each once, in no order
        for (number, &question) in places.iter().enumerate() {
            answers.set(question, Piece::of(ValueId(number as u32)), (number % 3 == 0).then_some(number as u32));
            answers.set(question, Piece::of(ValueId(2 * number as u32)), (number % 3 == 0).then_some(number as u32));
            assert_eq!(answers.get(places[number / 2]), Some(Piece::of(ValueId(number as u32 / 2 * 2))));
        }
        for (number, &question) in places.iter().enumerate() {
            let clock = if number % 3 == 0 { number as u32 } else { 0 };
            assert_eq!((answers.get(question), answers.clock(question)), (Some(Piece::of(ValueId(2 * number as u32))), clock));
        }
    }
}
