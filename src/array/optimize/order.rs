//! In which order ops are looked at that may become one program.
//!
//! Owns: [`ReaderOrder`]. Must not know: what becomes one. Invariant: an expression comes once, if a root needs it, after all that read it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::fuse::constant;
use super::{ExprId, Exprs};

/// Expressions in an order in which each comes after all that read it, and of those that can come next, one that reads least: so that what is still to be joined is little,
/// in whatever order the operands of operations are.
pub(super) struct ReaderOrder {
    /// Of each expression, its readers that have not come.
    awaited: Vec<u32>,
    /// With how many it reads and, of equals, when it became ready: the last comes first, so that what belongs together comes together.
    ready: BinaryHeap<(Reverse<usize>, usize, ExprId)>,
    pushed: usize,
}

impl ReaderOrder {
    pub(super) fn new(exprs: &Exprs, roots: &[ExprId]) -> Self {
        let mut awaited = vec![0; exprs.all.len()];
        let mut is_wanted = vec![false; exprs.all.len()];
        roots.iter().for_each(|root| is_wanted[root.index()] = true);
        for number in (0..exprs.all.len()).rev() {
            if is_wanted[number] {
                for input in exprs.inputs(ExprId(number as u32)) {
                    is_wanted[input.index()] = true;
                    awaited[input.index()] += 1;
                }
            }
        }
        let mut order = Self { awaited, ready: BinaryHeap::new(), pushed: 0 };
        let mut ends: Vec<ExprId> = roots.iter().copied().filter(|root| order.awaited[root.index()] == 0).collect();
        ends.sort_unstable();
        ends.dedup();
        ends.into_iter().for_each(|end| order.push(exprs, end));
        order
    }

    /// Of each expression, how often it is read by those that have not come.
    pub(super) fn awaited(&self) -> &[u32] {
        &self.awaited
    }

    fn push(&mut self, exprs: &Exprs, id: ExprId) {
        let reads = exprs.inputs(id).iter().filter(|input| constant(exprs, **input).is_none()).count();
        self.pushed += 1;
        self.ready.push((Reverse(reads), self.pushed, id));
    }

    pub(super) fn next(&mut self, exprs: &Exprs) -> Option<ExprId> {
        let (_, _, id) = self.ready.pop()?;
        for &input in exprs.inputs(id) {
            self.awaited[input.index()] -= 1;
            if self.awaited[input.index()] == 0 {
                self.push(exprs, input);
            }
        }
        Some(id)
    }
}
