//! Streaming sums that do not depend on how the stream is cut.
//!
//! Owns: [`BlockSum`], [`WeightedSum`], the tree that joins block sums. Must not know: chunks, kernels. Invariant: a sum is a
//! function of the sequence of elements pushed (and of nothing else: not the cuts, the SIMD level, the thread).
//!
//! Elements are summed in `f64` (64-bit integers rounded to it first). Element `i` goes to block `i / 4096`, and there to
//! lane `i % 32`; lanes are added pairwise at the end of a block, block sums pairwise as a binary counter counts. So each
//! element goes through at most `128 + 5 + log2(blocks) + 1` additions, and the error is below that many times
//! 2^-53 times the sum of the absolute values. NaN and infinity propagate.

use fearless_simd::dispatch;

use super::simd;
use crate::shape::Real;

/// Elements per block.
pub(crate) const BLOCK: usize = 4096;
/// Partial sums within a block: eight AVX2 vectors, four of AVX-512.
const LANES: usize = 32;
/// Bytes from which data are taken to come from memory; then four blocks are read at once, which keeps four of the CPU's
/// prefetch streams busy instead of one.
const FAR: usize = 1 << 21;
/// Elements read from a block before the next one's turn.
const STRIP: usize = 64;

/// Sums of equal-sized blocks, joined pairwise: entry `l` holds the sum of 2^l blocks where bit `l` of `blocks` is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    partial: [f64; 40],
    blocks: u64,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { partial: [0.0; 40], blocks: 0 }
    }

    /// Appends the sum of a whole block.
    pub(crate) fn push(&mut self, mut sum: f64) {
        let mut level = 0;
        while self.blocks >> level & 1 == 1 {
            sum += self.partial[level];
            level += 1;
        }
        self.partial[level] = sum;
        self.blocks += 1;
    }

    /// The sum of all blocks and of an unfinished last one, if there is one.
    pub(crate) fn finish(&self, last: Option<f64>) -> f64 {
        let levels = (0..self.partial.len()).filter(|&l| self.blocks >> l & 1 == 1);
        levels.map(|l| self.partial[l]).fold(last, |sum, p| Some(sum.map_or(p, |sum| p + sum))).unwrap_or(0.0)
    }
}

/// The sum of a stream of numbers.
///
/// ```
/// use chunkwise::kernel::block_sum::BlockSum;
/// let data: Vec<f64> = (0..100_000).map(|i| 1.0 / f64::from(i + 1)).collect();
/// let mut whole = BlockSum::new();
/// whole.push(&data);
/// let mut pieces = BlockSum::new();
/// data.chunks(777).for_each(|piece| pieces.push(piece));
/// assert_eq!(whole.finish().to_bits(), pieces.finish().to_bits());
/// ```
#[derive(Clone, Debug)]
pub struct BlockSum {
    lanes: [f64; LANES],
    position: usize, // in the unfinished block
    tree: Tree,
}

impl Default for BlockSum {
    fn default() -> Self {
        Self::new()
    }
}

impl BlockSum {
    /// The sum of nothing, 0.
    #[must_use]
    pub fn new() -> Self {
        Self { lanes: [0.0; LANES], position: 0, tree: Tree::new() }
    }

    /// Appends `x`.
    pub fn push<T: Real>(&mut self, x: &[T]) {
        dispatch!(simd::level(), _simd => self.push_here(x));
    }

    /// Appends `x`, compiled for the caller's instructions.
    #[inline(always)]
    pub(crate) fn push_here<T: Real>(&mut self, mut x: &[T]) {
        while !x.is_empty() {
            if self.position == 0 && x.len() >= 4 * BLOCK && size_of_val(x) >= FAR {
                let (quads, rest) = x.as_chunks::<{ 4 * BLOCK }>();
                quads.iter().flat_map(four_blocks).for_each(|sum| self.tree.push(sum));
                x = rest;
                continue;
            }
            let (now, rest) = x.split_at(x.len().min(BLOCK - self.position));
            let head = now.len().min(self.position.next_multiple_of(LANES) - self.position);
            let (head, body) = now.split_at(head);
            self.add(head, self.position % LANES);
            let (groups, tail) = body.as_chunks::<LANES>();
            let mut lanes = self.lanes;
            for group in groups {
                for l in 0..LANES {
                    lanes[l] += group[l].to_f64();
                }
            }
            self.lanes = lanes;
            self.add(tail, 0);
            self.position += now.len();
            if self.position == BLOCK {
                self.tree.push(fold(self.lanes));
                self.lanes = [0.0; LANES];
                self.position = 0;
            }
            x = rest;
        }
    }

    /// Adds a few elements, the first to lane `start`.
    #[inline(always)]
    fn add<T: Real>(&mut self, x: &[T], start: usize) {
        for (lane, value) in self.lanes[start..].iter_mut().zip(x) {
            *lane += value.to_f64();
        }
    }

    /// The sum of all elements pushed so far.
    #[must_use]
    pub fn finish(&self) -> f64 {
        self.tree.finish((self.position > 0).then(|| fold(self.lanes)))
    }
}

/// The sums of four blocks, read side by side in short strips.
#[inline(always)]
fn four_blocks<T: Real>(x: &[T; 4 * BLOCK]) -> [f64; 4] {
    let mut lanes = [[0.0; LANES]; 4];
    for strip in (0..BLOCK).step_by(STRIP) {
        for (b, lanes) in lanes.iter_mut().enumerate() {
            let mut sum = *lanes;
            for group in x[b * BLOCK + strip..][..STRIP].as_chunks::<LANES>().0 {
                for l in 0..LANES {
                    sum[l] += group[l].to_f64();
                }
            }
            *lanes = sum;
        }
    }
    lanes.map(fold)
}

/// The sum of the lanes, pairwise: lane `i` with lane `i + n/2`.
#[inline(always)]
pub(crate) fn fold<const N: usize>(mut lanes: [f64; N]) -> f64 {
    let mut width = N / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The sums of `w * x` and of `w`, over two streams of the same length.
#[derive(Clone, Debug, Default)]
pub struct WeightedSum {
    products: BlockSum,
    weights: BlockSum,
}

impl WeightedSum {
    /// Sums of nothing, 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends values and their weights. A product is computed in `f64`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn push<T: Real>(&mut self, x: &[T], w: &[T]) {
        assert_eq!(x.len(), w.len(), "a weight for each value");
        dispatch!(simd::level(), _simd => self.push_here(x, w));
    }

    #[inline(always)]
    fn push_here<T: Real>(&mut self, x: &[T], w: &[T]) {
        let mut products = [0.0; 512]; // stays in L1
        for (x, w) in x.chunks(products.len()).zip(w.chunks(products.len())) {
            let products = &mut products[..x.len()];
            for ((p, x), w) in products.iter_mut().zip(x).zip(w) {
                *p = x.to_f64() * w.to_f64();
            }
            self.products.push_here(products);
            self.weights.push_here(w);
        }
    }

    /// The sums of `w * x` and of `w`.
    #[must_use]
    pub fn finish(&self) -> (f64, f64) {
        (self.products.finish(), self.weights.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::numbers;
    use proptest::prelude::*;

    /// The sum rounded once at the end: exact for the data used here (error-free transformations, components kept).
    fn exact(x: &[f64]) -> f64 {
        let mut parts: Vec<f64> = Vec::new();
        for &value in x {
            let mut sum = value;
            let mut kept = Vec::with_capacity(parts.len() + 1);
            for &part in &parts {
                let total = sum + part;
                let other = total - sum;
                let error = (sum - (total - other)) + (part - other);
                if error != 0.0 {
                    kept.push(error);
                }
                sum = total;
            }
            kept.push(sum);
            parts = kept;
        }
        parts.iter().sum()
    }

    fn at_each_level<T: Real>(x: &[T]) -> Vec<u64> {
        let sum = |level| {
            let mut sum = BlockSum::new();
            dispatch!(level, _simd => sum.push_here(x));
            sum.finish().to_bits()
        };
        simd::levels().into_iter().map(sum).collect()
    }

    #[test]
    fn integers_are_exact_and_floats_within_the_stated_bound() {
        for n in [0, 1, 31, 32, 33, 4095, 4096, 4097, 12_288, 100_003] {
            let ints: Vec<i64> = (0..n as i64).map(|i| i * 7 - 3 * n as i64).collect();
            let mut sum = BlockSum::new();
            sum.push(&ints);
            assert_eq!(sum.finish(), ints.iter().sum::<i64>() as f64);
            let x = numbers(n, 20.0);
            let mut sum = BlockSum::new();
            sum.push(&x);
            let bound = x.iter().map(|v| v.abs()).sum::<f64>() * 140.0 * 2f64.powi(-53);
            let error = (sum.finish() - exact(&x)).abs();
            assert!(error <= bound, "{n}: {error:e} above {bound:e}");
        }
    }

    #[test]
    fn one_ulp_among_ones_is_not_lost() {
        let mut x = vec![1.0f32; 40_000_000 / 8];
        x[12345] = 2f32.powi(-10);
        let mut sum = BlockSum::new();
        sum.push(&x);
        assert_eq!(sum.finish(), (x.len() - 1) as f64 + 2f64.powi(-10));
    }

    #[test]
    fn levels_agree_and_specials_propagate() {
        let mut x = numbers(9001, 20.0);
        assert!(at_each_level(&x).windows(2).all(|w| w[0] == w[1]));
        assert!(at_each_level(&x.iter().map(|&v| v as f32).collect::<Vec<_>>()).windows(2).all(|w| w[0] == w[1]));
        x[5000] = f64::INFINITY;
        assert!(at_each_level(&x).iter().all(|&b| f64::from_bits(b) == f64::INFINITY));
        x[8999] = f64::NEG_INFINITY;
        assert!(at_each_level(&x).iter().all(|&b| f64::from_bits(b).is_nan()));
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_a_bit(n in 0usize..20_000, cuts in prop::collection::vec(0usize..20_000, 0..12)) {
            let x = numbers(n, 20.0);
            let w: Vec<f64> = x.iter().rev().map(|v| v.abs()).collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(n)).chain([0, n]).collect();
            cuts.sort_unstable();
            let (mut whole, mut pieces) = (WeightedSum::new(), WeightedSum::new());
            let (mut sum, mut sum_pieces) = (BlockSum::new(), BlockSum::new());
            whole.push(&x, &w);
            sum.push(&x);
            for c in cuts.windows(2) {
                pieces.push(&x[c[0]..c[1]], &w[c[0]..c[1]]);
                sum_pieces.push(&x[c[0]..c[1]]);
            }
            prop_assert_eq!(sum.finish().to_bits(), sum_pieces.finish().to_bits());
            prop_assert_eq!(whole.finish().0.to_bits(), pieces.finish().0.to_bits());
            prop_assert_eq!(whole.finish().1.to_bits(), pieces.finish().1.to_bits());
            let products: Vec<f64> = x.iter().zip(&w).map(|(x, w)| x * w).collect();
            let mut of_products = BlockSum::new();
            of_products.push(&products);
            prop_assert_eq!(whole.finish().0.to_bits(), of_products.finish().to_bits());
        }
    }
}
