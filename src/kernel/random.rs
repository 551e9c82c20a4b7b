//! Random numbers that are addressed, not drawn: `uniform`, and `spd`, a test matrix made of them.
//!
//! Owns: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Must not know:
//! sessions, seeds of arrays. Invariant: an element's bits depend only on (seed, stream, its C-order index in the whole
//! array): not on chunks, threads, SIMD level.
//!
//! Key: the seed's low and high word. Counter: the low and high words of `q`, then those of the stream. One counter gives four
//! 32-bit words `w0..w3`:
//!
//! - `f64`: element `2q` is `(w0 + 2^32 w1) >> 11` times 2^-53, element `2q + 1` the same of `w2, w3`;
//! - `f32`: element `4q + j` is `wj >> 8` times 2^-24.
//!
//! So `0 <= u < 1`, with all 53 or 24 bits random.

use fearless_simd::{Level, Simd, dispatch, prelude::*};
use std::borrow::Cow;

use super::rows::{extent, fill};
use super::{Fault, Kernel, Scratch, Work, params, simd};
use crate::error::{Error, Result};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Float, Region};

/// `uniform`: no input; output: a chunk of any shape, `f32` or `f64`, of numbers in [0, 1).
pub struct Uniform;

/// `spd`: no input; output: chunk `(rows, columns)` of a symmetric positive definite matrix of order `n`, `f32` or `f64`.
///
/// Off the diagonal `a[i][j] = u(max(i,j) * n + min(i,j)) - 0.5` with `u` as in [`Uniform`]; on it `n`. Symmetric to the
/// bit, and positive definite because the diagonal dominates.
pub struct Spd;

/// Parameters of [`Uniform`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UniformParams {
    /// Seed of the session.
    pub seed: u64,
    /// Stream of the array: two arrays of one seed have two.
    pub stream: u64,
    /// C-order index, in the whole array, of the chunk's first element.
    pub start: u64,
    /// Of each axis of the chunk, neighbouring ones merged where it covers the inner one: its extent, and the distance between neighbours along it, in C-order
    /// indices of the whole array.
    pub axes: Vec<[u64; 2]>,
}

impl UniformParams {
    /// Parameters of the chunk that is this part of an array of shape `array`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the region is none of the array.
    pub fn new(seed: u64, stream: u64, array: &[usize], region: &Region) -> Result<Self> {
        if !region.is_within(array) {
            return Err(Error::Shape { op: "uniform", found: region.shape(), wanted: "a chunk inside the array".into() });
        }
        let mut axes: Vec<[u64; 2]> = Vec::new(); // innermost first
        let (mut first, mut step) = (0u64, 1u64);
        for (&n, axis) in array.iter().zip(region.axes()).rev() {
            first += axis.start as u64 * step;
            let stride = step * axis.step as u64;
            match axes.last_mut() {
                _ if axis.len == 1 => {}
                Some([inner, apart]) if *inner * *apart == stride => *inner *= axis.len as u64,
                _ => axes.push([axis.len as u64, stride]),
            }
            step *= (n as u64).max(1);
        }
        axes.reverse();
        Ok(Self { seed, stream, start: first, axes })
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = bytemuck::bytes_of(&[self.seed, self.stream, self.start]).to_vec();
        bytes.extend_from_slice(bytemuck::cast_slice(&self.axes));
        bytes
    }

    /// The parameters that were made into these bytes.
    ///
    /// # Panics
    /// If the bytes are no such parameters.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (head, axes) = bytes.split_at(24);
        let [seed, stream, start] = params(head);
        Self { seed, stream, start, axes: axes.chunks(16).map(params).collect() }
    }

    /// C-order index in the whole array of the chunk's element with C-order number `position`.
    fn index(&self, mut position: u64) -> u64 {
        let mut index = self.start;
        for [extent, stride] in self.axes.iter().rev() {
            index += position % extent.max(&1) * stride;
            position /= extent.max(&1);
        }
        index
    }
}

/// Parameters of [`Spd`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SpdParams {
    /// Seed.
    pub seed: u64,
    /// Stream.
    pub stream: u64,
    /// First row of the chunk in the matrix.
    pub row: u64,
    /// Rows of the matrix from one of the chunk to the next.
    pub row_step: u64,
    /// First column of the chunk in the matrix.
    pub column: u64,
    /// Columns of the matrix from one of the chunk to the next.
    pub column_step: u64,
    /// Rows (and columns) of the whole matrix.
    pub order: u64,
}

/// Elements that one Philox counter costs about 90 integer operations for; two `f64` or four `f32`.
fn counter_work(operands: &[ChunkMeta<'_>]) -> Work {
    let Some(out) = operands.last() else { return Work::default() };
    let len = out.shape.iter().product::<usize>() as f64;
    Work { flops: 90.0 / 16.0 * len * out.dtype.bytes() as f64, bytes: len * out.dtype.bytes() as f64 }
}

impl Kernel for Uniform {
    fn name(&self) -> Cow<'static, str> {
        "uniform".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        counter_work(operands)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let p = UniformParams::from_bytes(bytes);
        match outputs[0].layout().dtype {
            DType::F32 => uniform::<f32>(simd::level(), &p, &mut outputs[0]),
            _ => uniform::<f64>(simd::level(), &p, &mut outputs[0]),
        }
        Ok(())
    }
}

impl Kernel for Spd {
    fn name(&self) -> Cow<'static, str> {
        "spd".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        counter_work(operands)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let p = params::<SpdParams>(bytes);
        match outputs[0].layout().dtype {
            DType::F32 => spd::<f32>(simd::level(), &p, &mut outputs[0]),
            _ => spd::<f64>(simd::level(), &p, &mut outputs[0]),
        }
        Ok(())
    }
}

fn uniform<T: Draw>(level: Level, p: &UniformParams, out: &mut ChunkViewMut<'_>) {
    let philox = Philox::new(p.seed, p.stream);
    let (run, step) = p.axes.last().map_or((1, 1), |&[extent, stride]| (extent as usize, stride));
    let len = extent(out.shape()).1;
    if let Some(all) = out.try_slice_mut::<T>() {
        for (r, run_of_out) in all.chunks_mut(run.max(1)).enumerate() {
            philox.progression(level, p.index((r * run) as u64), step, run_of_out);
        }
        return;
    }
    fill(out, |r, start, piece: &mut [T]| philox.progression(level, p.index((r * len + start) as u64), step, piece));
}

fn spd<T: Draw>(level: Level, p: &SpdParams, out: &mut ChunkViewMut<'_>) {
    let philox = Philox::new(p.seed, p.stream);
    fill(out, |r, start, piece: &mut [T]| {
        let step = p.column_step;
        let (i, j) = (p.row + r as u64 * p.row_step, p.column + start as u64 * step);
        let below = (i.saturating_sub(j).div_ceil(step) as usize).min(piece.len()); // columns j.. that are left of the diagonal
        let (left, right) = piece.split_at_mut(below);
        philox.progression(level, i * p.order + j, step, left);
        philox.progression(level, (j + below as u64 * step) * p.order + i, p.order * step, right);
        piece.iter_mut().for_each(|v| *v = T::from_f64(v.to_f64() - 0.5));
        let on = i.checked_sub(j).filter(|d| d.is_multiple_of(step));
        if let Some(diagonal) = on.and_then(|d| piece.get_mut((d / step) as usize)) {
            *diagonal = T::from_f64(p.order as f64);
        }
    });
}

/// Philox4x32-10 with its key schedule; the words of a counter are 32-bit numbers in lanes of 64 bits.
struct Philox {
    keys: [[u64; 2]; 10],
    stream: [u64; 2],
}

const LOW: u64 = 0xffff_ffff;
/// Vectors of counters computed together: a round is a chain of four operations.
const UNROLL: usize = 2;
/// Lanes of a vector of `u64`, at most.
const MAX_LANES: usize = 8;

impl Philox {
    fn new(seed: u64, stream: u64) -> Self {
        let key = |round: u64| {
            let (low, high) = (seed as u32, (seed >> 32) as u32);
            let k0 = low.wrapping_add(0x9E37_79B9u32.wrapping_mul(round as u32));
            let k1 = high.wrapping_add(0xBB67_AE85u32.wrapping_mul(round as u32));
            [u64::from(k0), u64::from(k1)]
        };
        Self { keys: std::array::from_fn(|round| key(round as u64)), stream: [stream & LOW, stream >> 32] }
    }

    /// Elements `start`, `start + step`, ... of the stream.
    fn progression<T: Draw>(&self, level: Level, start: u64, step: u64, out: &mut [T]) {
        if step == 1 {
            dispatch!(level, simd => self.consecutive(simd, start, out));
        } else {
            dispatch!(level, simd => self.scattered(simd, start, step, out));
        }
    }

    /// The words of `N` vectors of counters, with anything in the high halves: the multiplication of the next round ignores
    /// them.
    #[inline(always)]
    fn words<S: Simd, const N: usize>(&self, simd: S, q: [S::u64s; N]) -> [[S::u64s; 4]; N] {
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
trait Draw: Float {
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

#[cfg(test)]
mod tests;
