//! DELETE when `kernel/block_sum.rs` is merged: the same interface, a plainer sum.
use crate::shape::Real;

#[derive(Default)]
pub(super) struct BlockSum {
    block: f64,
    inside: usize,
    blocks: f64,
}

impl BlockSum {
    pub(super) fn new() -> Self {
        Self::default()
    }
    pub(super) fn push<T: Real>(&mut self, values: &[T]) {
        for value in values {
            self.block += value.to_f64();
            self.inside += 1;
            if self.inside == 4096 {
                self.blocks += self.block;
                (self.block, self.inside) = (0.0, 0);
            }
        }
    }
    pub(super) fn finish(&self) -> f64 {
        self.blocks + self.block
    }
}
