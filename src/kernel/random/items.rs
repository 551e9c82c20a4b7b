//! Elements that are made of the words of a block of counters, after these are all there.
//!
//! Owns: [`Items`], the loop over blocks, integers and truth values. Must not know: chunks. Invariant: an element is made of the words of one counter; integers and truth values by
//! integer arithmetic alone, so that any device can make the same.

use std::marker::PhantomData;

use fearless_simd::{Level, Simd, dispatch};

use super::philox::{BLOCK, BlockWords, LOW, Philox};
use crate::kernel::simd::Aligned;

/// What is made of words.
pub(super) trait Items: Copy {
    type Item: Copy + Default;
    /// Elements of a counter: 1, 2 or 4.
    const PER: usize;
    /// Makes all elements of some counters, of which these are the words `w0 + 2^32 w1` and `w2 + 2^32 w3`.
    fn make(self, first: &[u64], second: &[u64], out: &mut [Self::Item]);
}

/// Elements of a counter, at most.
const MOST: usize = 4;

impl Philox {
    /// Elements `start`, `start + step`, ... of the stream.
    pub(super) fn items<I: Items>(&self, level: Level, items: I, numbers: (u64, u64), out: &mut [I::Item]) {
        let mut words = BlockWords { first: Aligned([0; BLOCK]), second: Aligned([0; BLOCK]) };
        let mut spare = Aligned([I::Item::default(); MOST * BLOCK]);
        match numbers {
            (start, 1) => dispatch!(level, simd => self.in_order(simd, items, start, out, (&mut words, &mut spare.0))),
            _ => dispatch!(level, simd => self.apart(simd, items, numbers, out, (&mut words, &mut spare.0))),
        }
    }

    #[inline(always)]
    fn in_order<S: Simd, I: Items>(
        &self,
        simd: S,
        items: I,
        mut at: u64,
        mut out: &mut [I::Item],
        (words, spare): (&mut BlockWords, &mut [I::Item]),
    ) {
        while !out.is_empty() {
            let skip = (at % I::PER as u64) as usize; // of the first counter
            let counters = (out.len() + skip).div_ceil(I::PER).min(BLOCK);
            let count = out.len().min(counters * I::PER - skip);
            let (now, rest) = std::mem::take(&mut out).split_at_mut(count);
            self.block(simd, (at / I::PER as u64, 1, 0), counters, words);
            let (first, second) = (&words.first.0[..counters], &words.second.0[..counters]);
            if count == counters * I::PER {
                items.make(first, second, now);
            } else {
                items.make(first, second, &mut spare[..counters * I::PER]);
                now.copy_from_slice(&spare[skip..skip + count]);
            }
            (at, out) = (at.wrapping_add(count as u64), rest);
        }
    }

    /// Of each counter one element is wanted.
    #[inline(always)]
    fn apart<S: Simd, I: Items>(
        &self,
        simd: S,
        items: I,
        (mut at, step): (u64, u64),
        out: &mut [I::Item],
        (words, spare): (&mut BlockWords, &mut [I::Item]),
    ) {
        for now in out.chunks_mut(BLOCK) {
            self.block(simd, (at, step, I::PER.trailing_zeros()), now.len(), words);
            items.make(&words.first.0[..now.len()], &words.second.0[..now.len()], &mut spare[..now.len() * I::PER]);
            for (out, made) in now.iter_mut().zip(spare.chunks_exact(I::PER)) {
                *out = made[(at % I::PER as u64) as usize];
                at = at.wrapping_add(step);
            }
        }
    }
}

/// An unsigned integer: of signed ones, the bits.
pub(super) trait OfWord: Copy + Default {
    /// Modulo its range.
    fn of(word: u64) -> Self;
}

macro_rules! bits {
    ($($t:ty),*) => {$(
        impl OfWord for $t {
            #[inline(always)]
            fn of(word: u64) -> Self {
                word as $t
            }
        }
    )*};
}
bits!(u8, u16, u32, u64);

/// `low + floor(w count / 2^64)` of a word of 64 bits, for `count <= 2^32`: no integer is more likely than another by more than 2^-32 of its probability.
#[derive(Clone, Copy)]
pub(super) struct Few<T>(pub(super) u64, pub(super) u64, pub(super) PhantomData<T>);

impl<T: OfWord> Items for Few<T> {
    type Item = T;
    const PER: usize = 2;

    #[inline(always)]
    fn make(self, first: &[u64], second: &[u64], out: &mut [T]) {
        let Self(low, count, _) = self;
        if count > LOW {
            // All 2^32: the upper half of the word.
            return each_two(first, second, out, |word| T::of(low.wrapping_add(word >> 32)));
        }
        // Factors of 32 bits, which vectors can multiply.
        let times = |half: u64| (half & LOW) * (count & LOW);
        each_two(first, second, out, |word| T::of(low.wrapping_add((times(word >> 32) + (times(word) >> 32)) >> 32)));
    }
}

/// Makes an element of each word.
#[inline(always)]
fn each_two<T>(first: &[u64], second: &[u64], out: &mut [T], one: impl Fn(u64) -> T) {
    for ((out, &first), &second) in out.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
        *out = [one(first), one(second)];
    }
}

/// `low + floor(w count / 2^128)` of all four words; a count of 0 is 2^64.
#[derive(Clone, Copy)]
pub(super) struct Many<T>(pub(super) u64, pub(super) u64, pub(super) PhantomData<T>);

impl<T: OfWord> Items for Many<T> {
    type Item = T;
    const PER: usize = 1;

    #[inline(always)]
    fn make(self, first: &[u64], second: &[u64], out: &mut [T]) {
        let Self(low, count, _) = self;
        for ((out, &first), &second) in out.iter_mut().zip(first).zip(second) {
            let times = |word: u64| u128::from(word) * u128::from(count);
            let high = if count == 0 { second } else { ((times(second) + (times(first) >> 64)) >> 64) as u64 };
            *out = T::of(low.wrapping_add(high));
        }
    }
}

/// Whether a word of 32 bits is below this: 1 or 0.
#[derive(Clone, Copy)]
pub(super) struct Below(pub(super) u64);

impl Items for Below {
    type Item = u8;
    const PER: usize = 4;

    #[inline(always)]
    fn make(self, first: &[u64], second: &[u64], out: &mut [u8]) {
        let one = |word: u64| u8::from(word < self.0);
        for ((out, &first), &second) in out.as_chunks_mut::<4>().0.iter_mut().zip(first).zip(second) {
            *out = [one(first & LOW), one(first >> 32), one(second & LOW), one(second >> 32)];
        }
    }
}
