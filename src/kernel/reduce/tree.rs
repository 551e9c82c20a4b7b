//! Results of equal parts, joined as a binary counter counts.
//!
//! Owns: [`Levels`]. Must not know: what is joined. Invariant: how parts are joined depends on their number alone.

use super::folds::Ops;

/// Levels of a tree of so many parts.
pub(super) fn levels(parts: usize) -> usize {
    parts.max(1).ilog2() as usize + 1
}

/// The results of parts so far: level `l` is that of 2^l parts, where bit `l` of their number is set.
pub(super) struct Levels<'t> {
    pub(super) ops: &'t Ops,
    /// Rows of words, one for each level; in a row the first words of all results, then the second ones.
    pub(super) levels: &'t mut [u64],
    /// Results side by side.
    pub(super) width: usize,
    pub(super) parts: usize,
}

impl Levels<'_> {
    fn row(&self) -> usize {
        self.ops.words * self.width
    }

    /// Appends the results of a part, which are overwritten.
    pub(super) fn push(&mut self, acc: &mut [u64]) {
        let row = self.row();
        let mut rows = self.levels.chunks_exact_mut(row);
        for (level, place) in rows.by_ref().enumerate() {
            if self.parts >> level & 1 == 0 {
                place.copy_from_slice(&acc[..row]);
                break;
            }
            (self.ops.join)(place, acc, (self.width, self.width));
            acc[..row].copy_from_slice(place);
        }
        self.parts += 1;
    }

    /// The results of all parts and of a last, shorter one, if `has_last` says that `acc` is that; of none, that of no element.
    pub(super) fn finish(&mut self, acc: &mut [u64], mut has_last: bool) {
        let row = self.row();
        for (level, place) in self.levels.chunks_exact_mut(row).enumerate() {
            if self.parts >> level & 1 == 1 {
                if has_last {
                    (self.ops.join)(place, acc, (self.width, self.width));
                }
                acc[..row].copy_from_slice(place);
                has_last = true;
            }
        }
        if !has_last {
            acc[..row].chunks_exact_mut(self.width).zip(self.ops.empty).for_each(|(plane, word)| plane.fill(word));
        }
    }
}
