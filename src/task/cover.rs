//! Whether regions cover an array: each element once, and none left out.
//!
//! Owns: [`Cover`]. Must not know: what the regions are for. Invariant: it takes a number, however many regions there are, and their
//! order does not matter.
//!
//! Element `(i, j, ..)` has the weight `r0^i r1^j ..` in the field of 2^61 - 1 elements, with a fixed number `r` for each axis. The weight
//! of a box is a product of geometric sums, `r^start (r^len - 1) / (r - 1)` along each axis, so it costs a few multiplications, whatever
//! its size. Regions that cover an array once have its weight together. Others have it by chance only, as two polynomials whose degree is
//! the sum of the array's extents agree at one point: with extents of a million, once in 2^40 times.

use crate::shape::{AxisRange, Region};

/// The modulus, a prime.
const P: u64 = (1 << 61) - 1;

/// The weight of all regions so far, times `r - 1` for each axis.
#[derive(Default)]
pub(super) struct Cover(u64);

impl Cover {
    /// Adds a region.
    pub(super) fn add(&mut self, region: &Region) {
        self.0 = (self.0 + weight(region)) % P;
    }

    /// Whether the regions cover an array of this shape once.
    pub(super) fn is_whole(&self, shape: &[usize]) -> bool {
        self.0 == weight(&Region::all(shape))
    }
}

fn weight(region: &Region) -> u64 {
    region.axes().iter().enumerate().fold(1, |product, (axis, range)| multiply(product, along(axis as u64, range)))
}

/// `(r - 1) (r^start + r^(start + step) + ..)`.
fn along(axis: u64, range: &AxisRange) -> u64 {
    let r = root(axis);
    let [start, len, step] = [range.start, range.len, range.step].map(|n| n as u64);
    let sum = multiply(power(r, start), power(power(r, step), len) + P - 1);
    match step {
        1 => sum,
        // The sum has (r^step - 1) where the others have (r - 1).
        step => multiply(sum, multiply(r + P - 1, power(power(r, step) + P - 1, P - 2))),
    }
}

/// A number of this axis, from 2 on: the same for all arrays.
fn root(axis: u64) -> u64 {
    let mixed = (axis + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15); // the golden ratio: none looks like another
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) % (P - 2) + 2
}

/// Any two numbers, one below 2^62.
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a % P) * u128::from(b % P);
    // 2^61 is 1.
    let folded = (product as u64 & P) + (product >> 61) as u64;
    if folded >= P { folded - P } else { folded }
}

fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut power = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = multiply(power, base);
        }
        base = multiply(base, base);
        exponent >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::ChunkGrid;

    fn covers(shape: &[usize], regions: impl IntoIterator<Item = Region>) -> bool {
        let mut cover = Cover::default();
        regions.into_iter().for_each(|region| cover.add(&region));
        cover.is_whole(shape)
    }

    fn ranges(all: &[&[(usize, usize)]], shape: &[usize]) -> Vec<Region> {
        all.iter().map(|ranges| Region::new(shape, ranges).unwrap()).collect()
    }

    #[test]
    fn grids_cover_once_and_not_less_or_more() {
        for (shape, chunk) in
            [(&[][..], &[][..]), (&[7], &[3]), (&[40, 50], &[7, 50]), (&[9, 8, 7], &[2, 3, 4]), (&[1 << 40], &[1 << 33])]
        {
            let grid = ChunkGrid::regular(shape, chunk).unwrap();
            let all: Vec<Region> = (0..grid.len()).rev().map(|i| grid.region(i)).collect();
            assert!(covers(shape, all.clone()), "{shape:?}");
            assert!(!covers(shape, all[1..].to_vec()));
            assert!(!covers(shape, all.iter().chain(&all[..1]).cloned()));
            if all.len() > 2 {
                // As many elements as there are, but one chunk twice and another one never.
                let twice = all[1..].iter().chain(&all[1..2]).cloned();
                assert!(!covers(shape, twice));
            }
        }
    }

    #[test]
    fn overlaps_are_told_from_covers_of_the_same_size() {
        let rows =
            |list: &[(usize, usize)]| list.iter().map(|&r| Region::new(&[4, 5], &[r, (0, 5)]).unwrap()).collect::<Vec<_>>();
        assert!(covers(&[4, 5], rows(&[(1, 3), (0, 1), (3, 4)])));
        assert!(!covers(&[4, 5], rows(&[(0, 2), (1, 3)])));
        assert!(!covers(&[4, 5], rows(&[(0, 1), (0, 3)])));
        // Two boxes of the transposed shape, of the right size each.
        let good: &[&[(usize, usize)]] = &[&[(0, 2), (0, 1)], &[(0, 2), (1, 2)]];
        let bad: &[&[(usize, usize)]] = &[&[(0, 2), (0, 1)], &[(0, 1), (0, 2)]];
        assert!(covers(&[2, 2], ranges(good, &[2, 2])) && !covers(&[2, 2], ranges(bad, &[2, 2])));
    }

    #[test]
    fn steps_interleave() {
        let axis = |start, len, step| Region::from_axes(vec![AxisRange { start, len, step }]);
        assert!(covers(&[11], [axis(1, 5, 2), axis(0, 6, 2)]));
        assert!(covers(&[11], [axis(0, 4, 3), axis(1, 4, 3), axis(2, 3, 3)]));
        assert!(!covers(&[11], [axis(0, 5, 2), axis(0, 6, 2)]));
    }
}
