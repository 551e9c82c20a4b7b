//! Floats between 0 and 1, made where the words of their counters are.
//!
//! Owns: how a word becomes a float. Must not know: chunks. Invariant: every multiple of 2^-53 (of `f32`, 2^-24) below 1 is as likely as any other.

use fearless_simd::{Level, Simd, dispatch, prelude::*};

use super::philox::{LOW, MAX_LANES, Philox, UNROLL};
use crate::shape::Float;

impl Philox {
    /// Elements `start`, `start + step`, ... of the stream.
    pub(super) fn progression<T: Draw>(&self, level: Level, start: u64, step: u64, out: &mut [T]) {
        if step == 1 {
            dispatch!(level, simd => self.consecutive(simd, start, out));
        } else {
            dispatch!(level, simd => self.scattered(simd, start, step, out));
        }
    }

    /// Elements from `start`: those before the first whole counter, batches of counters, the rest.
    #[inline(always)]
    fn consecutive<S: Simd, T: Draw>(&self, simd: S, start: u64, out: &mut [T]) {
        let lanes = S::u64s::LEN;
        let lead = (start.next_multiple_of(T::PER) - start).min(out.len() as u64) as usize;
        let (head, body) = out.split_at_mut(lead);
        self.partial(simd, start, head);
        let per_vector = lanes * T::PER as usize;
        let mut at = start + lead as u64;
        let mut batches = body.chunks_exact_mut(UNROLL * per_vector);
        for batch in &mut batches {
            let q = at / T::PER;
            let q = std::array::from_fn(|u| S::u64s::from_fn(simd, |l| q + (u * lanes + l) as u64));
            let words = self.words::<S, UNROLL>(simd, q);
            for (words, out) in words.into_iter().zip(batch.chunks_exact_mut(per_vector)) {
                T::store(simd, words, out);
            }
            at += (UNROLL * per_vector) as u64;
        }
        self.partial(simd, at, batches.into_remainder());
    }

    /// A few elements, one vector of counters at a time.
    #[inline(always)]
    fn partial<S: Simd, T: Draw>(&self, simd: S, mut start: u64, mut out: &mut [T]) {
        let mut buffer = [T::default(); 4 * MAX_LANES];
        let buffer = &mut buffer[..S::u64s::LEN * T::PER as usize];
        while !out.is_empty() {
            let [words] = self.words(simd, [S::u64s::from_fn(simd, |l| start / T::PER + l as u64)]);
            T::store(simd, words, buffer);
            let ready = &buffer[(start % T::PER) as usize..];
            let n = ready.len().min(out.len());
            let (now, rest) = out.split_at_mut(n);
            now.copy_from_slice(&ready[..n]);
            start += n as u64;
            out = rest;
        }
    }

    /// Elements `step` apart: one counter each.
    #[inline(always)]
    fn scattered<S: Simd, T: Draw>(&self, simd: S, start: u64, step: u64, out: &mut [T]) {
        let lanes = S::u64s::LEN;
        let mut index = S::u64s::from_fn(simd, |l| start.wrapping_add(step.wrapping_mul(l as u64)));
        for out in out.chunks_mut(lanes) {
            let [words] = self.words(simd, [index >> T::PER.trailing_zeros()]);
            let u = T::pick(simd, words, index);
            out.iter_mut().zip(u.as_slice()).for_each(|(out, &u)| *out = T::from_f64(u));
            index += S::u64s::splat(simd, step.wrapping_mul(lanes as u64));
        }
    }
}

/// How an element is made of a counter's words.
pub(super) trait Draw: Float {
    /// Elements per counter.
    const PER: u64;
    /// Stores the elements of a vector of counters, in order.
    fn store<S: Simd>(simd: S, words: [S::u64s; 4], out: &mut [Self]);
    /// In each lane the element with that lane's index, exactly.
    fn pick<S: Simd>(simd: S, words: [S::u64s; 4], index: S::u64s) -> S::f64s;
}

/// `(low + 2^32 high) >> 11` times 2^-53, exactly: each part becomes the mantissa of a number whose last bit has the weight
/// wanted; then the leading bits are taken off.
#[inline(always)]
fn unit_f64<S: Simd>(simd: S, low: S::u64s, high: S::u64s) -> S::f64s {
    let bits = |v: f64| S::u64s::splat(simd, v.to_bits());
    let mask = S::u64s::splat(simd, LOW);
    let high: S::f64s = ((high & mask) | bits(1_048_576.0)).bitcast(); // 2^20 + high * 2^-32
    let low: S::f64s = (((low & mask) >> 11) | bits(0.5)).bitcast(); // 0.5 + (low >> 11) * 2^-53
    (high - S::f64s::splat(simd, 1_048_576.5)) + low
}

impl Draw for f64 {
    const PER: u64 = 2;

    #[inline(always)]
    fn store<S: Simd>(simd: S, w: [S::u64s; 4], out: &mut [Self]) {
        let (first, second) = unit_f64(simd, w[0], w[1]).interleave(unit_f64(simd, w[2], w[3]));
        let (a, b) = out.split_at_mut(S::f64s::LEN);
        first.store_slice(a);
        second.store_slice(b);
    }

    #[inline(always)]
    fn pick<S: Simd>(simd: S, w: [S::u64s; 4], index: S::u64s) -> S::f64s {
        let odd = (index & 1).simd_eq(S::u64s::splat(simd, 1));
        unit_f64(simd, odd.select(w[2], w[0]), odd.select(w[3], w[1]))
    }
}

impl Draw for f32 {
    const PER: u64 = 4;

    #[inline(always)]
    fn store<S: Simd>(simd: S, w: [S::u64s; 4], out: &mut [Self]) {
        let low = S::u64s::splat(simd, LOW);
        let unit = |a: S::u64s, b: S::u64s| -> S::f64s {
            let words: S::u32s = ((a & low) | (b << 32)).bitcast();
            let words: S::i32s = (words >> 8).bitcast();
            let unit: S::f32s = words.to_float();
            (unit * 2f32.powi(-24)).bitcast()
        };
        let (first, second) = unit(w[0], w[1]).interleave(unit(w[2], w[3]));
        let (a, b) = out.split_at_mut(S::f32s::LEN);
        first.bitcast::<S::f32s>().store_slice(a);
        second.bitcast::<S::f32s>().store_slice(b);
    }

    #[inline(always)]
    fn pick<S: Simd>(simd: S, w: [S::u64s; 4], index: S::u64s) -> S::f64s {
        let odd = (index & 1).simd_eq(S::u64s::splat(simd, 1));
        let upper = (index & 2).simd_eq(S::u64s::splat(simd, 2));
        let word = upper.select(odd.select(w[3], w[2]), odd.select(w[1], w[0]));
        let kept = word & S::u64s::splat(simd, LOW & !0xff);
        unit_f64(simd, S::u64s::splat(simd, 0), kept)
    }
}
