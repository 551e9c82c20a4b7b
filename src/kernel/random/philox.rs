//! Philox4x32-10: four random words of a counter.
//!
//! Owns: the generator. Must not know: what numbers are made of the words. Invariant: the words are those of the paper's algorithm, whatever the vectors' width.

use fearless_simd::{Simd, prelude::*};

use crate::kernel::simd::Aligned;

/// Philox4x32-10 with its key schedule; the words of a counter are 32-bit numbers in lanes of 64 bits.
pub(super) struct Philox {
    keys: [[u64; 2]; 10],
    stream: [u64; 2],
}

pub(super) const LOW: u64 = 0xffff_ffff;
/// Vectors of counters computed together: a round is a chain of four operations.
pub(super) const UNROLL: usize = 2;
/// Lanes of a vector of `u64`, at most.
pub(super) const MAX_LANES: usize = 8;

impl Philox {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let key = |round: u64| {
            let (low, high) = (seed as u32, (seed >> 32) as u32);
            let k0 = low.wrapping_add(0x9E37_79B9u32.wrapping_mul(round as u32));
            let k1 = high.wrapping_add(0xBB67_AE85u32.wrapping_mul(round as u32));
            [u64::from(k0), u64::from(k1)]
        };
        Self { keys: std::array::from_fn(|round| key(round as u64)), stream: [stream & LOW, stream >> 32] }
    }

    /// The words of `N` vectors of counters, with anything in the high halves: the multiplication of the next round ignores
    /// them.
    #[inline(always)]
    pub(super) fn words<S: Simd, const N: usize>(&self, simd: S, q: [S::u64s; N]) -> [[S::u64s; 4]; N] {
        let splat = |v| S::u64s::splat(simd, v);
        let low = splat(LOW);
        let (m0, m1) = (splat(0xD251_1F53), splat(0xCD9E_8D57));
        let mut c: [[S::u64s; 4]; N] = q.map(|q| [q, q >> 32, splat(self.stream[0]), splat(self.stream[1])]);
        for key in &self.keys {
            let (k0, k1) = (splat(key[0]), splat(key[1]));
            for c in &mut c {
                let (p0, p1) = ((c[0] & low) * m0, (c[2] & low) * m1);
                *c = [(p1 >> 32) ^ c[1] ^ k0, p1, (p0 >> 32) ^ c[3] ^ k1, p0];
            }
        }
        c
    }

    /// The words of `count` counters, each the number in the progression from `start` by `step` without its last `shift` bits: `[w0 + 2^32 w1, w2 + 2^32 w3]`, in two lists
    /// that have room for whole vectors.
    #[inline(always)]
    pub(super) fn block<S: Simd>(&self, simd: S, (start, step, shift): (u64, u64, u32), count: usize, words: &mut BlockWords) {
        let (lanes, low) = (S::u64s::LEN, S::u64s::splat(simd, LOW));
        let by = S::u64s::splat(simd, step.wrapping_mul(lanes as u64));
        let mut number = S::u64s::from_fn(simd, |l| start.wrapping_add(step.wrapping_mul(l as u64)));
        for at in (0..count).step_by(UNROLL * lanes) {
            let counters: [S::u64s; UNROLL] = std::array::from_fn(|_| {
                let counter = number >> shift;
                number += by;
                counter
            });
            for (u, w) in self.words::<S, UNROLL>(simd, counters).into_iter().enumerate() {
                let place = at + u * lanes..at + (u + 1) * lanes;
                ((w[0] & low) | (w[1] << 32)).store_slice(&mut words.first.0[place.clone()]);
                ((w[2] & low) | (w[3] << 32)).store_slice(&mut words.second.0[place]);
            }
        }
    }
}

/// Counters at once whose words are worked on afterwards: these stay in the nearest cache.
pub(super) const BLOCK: usize = 256;
const _: () = assert!(BLOCK.is_multiple_of(UNROLL * MAX_LANES));

/// BlockWords of a block of counters, two and two.
pub(super) struct BlockWords {
    pub(super) first: Aligned<u64, BLOCK>,
    pub(super) second: Aligned<u64, BLOCK>,
}
