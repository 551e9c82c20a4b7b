//! Random numbers that are addressed, not drawn, and `spd`, a test matrix made of them.
//!
//! Owns: [`Distribution`], the kernel [`Random`] on Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Must not know:
//! sessions, seeds of arrays. Invariant: an element's bits depend only on (seed, stream, its C-order index in the whole
//! array): not on chunks, threads, SIMD level.
//!
//! Key: the seed's low and high word. Counter: the low and high words of `q`, then those of the stream. One counter gives four
//! 32-bit words `w0..w3`:
//!
//! - uniform `f64`: element `2q` is `(w0 + 2^32 w1) >> 11` times 2^-53, element `2q + 1` the same of `w2, w3`;
//! - uniform `f32`: element `4q + j` is `wj >> 8` times 2^-24. So `0 <= u < 1`, with all 53 or 24 bits random;
//! - normal: see `normal`: two `f64` of a counter, four `f32`;
//! - integers: `low + floor(w count / 2^64)` with `w = w0 + 2^32 w1` and `w2 + 2^32 w3`, two of a counter; of more than 2^32 different ones, `low + floor(w count / 2^128)` of
//!   all four words;
//! - truth values: element `4q + j` is `wj < 2^32 p`.

mod gpu;
mod items;
mod normal;
mod philox;
mod spd;
mod uniform;

use std::borrow::Cow;
use std::marker::PhantomData;

pub use gpu::NORMAL_ULPS;
pub use spd::{Spd, SpdParams};

use super::generate::{FlatIndices, Generate, GpuFeed};
use super::rows::{extent, fill};
use super::{Content, Fault, GpuFacts, Kernel, OpClass, OpMix, Scratch, Work, simd};
use crate::error::{Error, Result};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Element, Region, View, with_dtype};
use items::{Below, Few, Many};
use normal::{Normal, NormalSingle};
use philox::Philox;

/// How random elements are distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distribution {
    /// Floats from 0 to 1, without 1.
    Uniform,
    /// Floats of mean 0 and variance 1.
    Normal,
    /// So many integers from this one on (its bits, of signed ones with the sign in all the upper ones), all as likely; a count of 0 is 2^64.
    Integers {
        /// The lowest.
        low: u64,
        /// How many.
        count: u64,
    },
    /// `true`, as often as in so many of 2^32 cases.
    Bernoulli {
        /// These cases.
        of_2_32: u64,
    },
}

impl Distribution {
    /// Elements of a counter, as bits of their number.
    fn shift(self, dtype: DType) -> u32 {
        match self {
            Self::Uniform | Self::Normal if dtype == DType::F32 => 2,
            Self::Bernoulli { .. } => 2,
            Self::Integers { count, .. } if !FEW.contains(&count) => 0,
            _ => 1,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Integers { .. } => "integers",
            Self::Bernoulli { .. } => "bernoulli",
        }
    }

    /// Operations that an element is worth.
    #[must_use]
    pub fn mix(self, dtype: DType) -> OpMix {
        let counter = OpMix::all(OpClass::Integer, 90.0 / f64::from(1 << self.shift(dtype)));
        match self {
            Self::Uniform | Self::Bernoulli { .. } => counter,
            Self::Normal => counter.with(OpMix::all(OpClass::Transcendental, 50.0)),
            Self::Integers { .. } => counter.with(OpMix::all(OpClass::Integer, 5.0)),
        }
    }
}

/// The step from an index to the one before it.
const BACKWARDS: u64 = u64::MAX;

/// Counts of integers of which two are made of a counter.
const FEW: std::ops::RangeInclusive<u64> = 1..=1 << 32;

/// No input; output: a chunk of any shape of random elements: floats, integers or `bool`, as they are distributed.
pub struct Random(pub Distribution);

/// Parameters of [`Random`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomParams {
    /// Seed of the session.
    pub seed: u64,
    /// Stream of the array: two arrays of one seed have two.
    pub stream: u64,
    /// The C-order indices, in the whole array, of the chunk's elements.
    pub(crate) indices: FlatIndices,
}

impl RandomParams {
    /// Parameters of the chunk that is this part of an array of shape `array`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the region is none of the array.
    pub fn new(seed: u64, stream: u64, array: &[usize], region: &Region) -> Result<Self> {
        if !region.is_within(array) {
            return Err(Error::Shape { op: "random", found: region.shape(), wanted: "a chunk inside the array".into() });
        }
        Ok(Self { seed, stream, indices: FlatIndices::of(array, region) })
    }

    /// Of what a view shows of this chunk.
    pub(crate) fn seen(self, view: &View) -> Self {
        Self { indices: self.indices.seen(view), ..self }
    }

    /// The axis along which neighbours share counters, if they do along one.
    fn shared_axis(&self, what: Distribution, dtype: DType) -> Option<usize> {
        self.indices.nearest().filter(|(_, apart)| apart >> what.shift(dtype) == 0).map(|(axis, _)| axis)
    }

    /// Whether to make it in its C order takes no more counters than in another.
    pub(crate) fn is_in_order(&self, what: Distribution, dtype: DType) -> bool {
        self.shared_axis(what, dtype).is_none_or(|axis| self.indices.is_innermost(axis))
    }

    /// Of a part of this chunk.
    pub(crate) fn part(&self, region: &Region) -> Self {
        Self { indices: self.indices.part(region), ..*self }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = bytemuck::bytes_of(&[self.seed, self.stream]).to_vec();
        self.indices.write(&mut bytes);
        bytes
    }

    /// The parameters that were made into these bytes.
    ///
    /// # Panics
    /// If the bytes are no such parameters.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (head, indices) = bytes.split_at(16);
        let [seed, stream] = super::params(head);
        Self { seed, stream, indices: FlatIndices::read(indices) }
    }
}

/// Operations on each element, and what is written.
fn counter_work(operands: &[ChunkMeta<'_>], each: f64) -> Work {
    let Some(out) = operands.last() else { return Work::default() };
    let len = out.shape.iter().product::<usize>() as f64;
    Work { flops: each * len, bytes: len * out.dtype.bytes() as f64 }
}

impl Kernel for Random {
    fn name(&self) -> Cow<'static, str> {
        self.0.name().into()
    }

    fn content(&self) -> Content {
        match self.0 {
            Distribution::Uniform | Distribution::Normal => Content::Text("".into()),
            Distribution::Integers { low, count } => Content::Text(format!("{count} from {low:x}").into()),
            Distribution::Bernoulli { of_2_32 } => Content::Text(format!("{of_2_32:x}").into()),
        }
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        counter_work(operands, operands.last().map_or(0.0, |out| self.0.mix(out.dtype).total()))
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let (params, out) = (RandomParams::from_bytes(bytes), &mut outputs[0]);
        let dtype = out.layout().dtype;
        with_dtype!(dtype in numbers, T => self.chunk::<T>(&params, out), _ => self.truths(&params, out));
        Ok(())
    }
}

impl Random {
    fn chunk<T: Element + bytemuck::Pod>(&self, params: &RandomParams, out: &mut ChunkViewMut<'_>) {
        let len = extent(out.shape()).1;
        if let Some(all) = out.try_slice_mut::<T>() {
            return self.fill(params, T::DTYPE, 0, bytemuck::cast_slice_mut(all));
        }
        fill(out, |row, start, piece: &mut [T]| {
            self.fill(params, T::DTYPE, row * len + start, bytemuck::cast_slice_mut(piece));
        });
    }

    fn truths(&self, params: &RandomParams, out: &mut ChunkViewMut<'_>) {
        let len = extent(out.shape()).1;
        let mut bytes = Vec::new();
        fill(out, |row, start, piece: &mut [bool]| {
            bytes.resize(piece.len(), 0);
            self.fill(params, DType::Bool, row * len + start, &mut bytes);
            piece.iter_mut().zip(&bytes).for_each(|(out, &byte)| *out = byte != 0);
        });
    }

    /// Elements from C-order number `first` of the chunk on.
    fn fill(&self, params: &RandomParams, dtype: DType, first: usize, out: &mut [u8]) {
        let philox = Philox::new(params.seed, params.stream);
        let size = dtype.bytes();
        params.indices.runs(first, out.len() / size, |at, (start, step)| {
            let out = &mut out[at.start * size..at.end * size];
            if step != BACKWARDS {
                return self.run(&philox, dtype, (start, step), out);
            }
            // Counters are shared by neighbours, in either direction.
            self.run(&philox, dtype, (start.wrapping_sub(at.len() as u64 - 1), 1), out);
            match size {
                1 => out.reverse(),
                2 => bytemuck::cast_slice_mut::<u8, u16>(out).reverse(),
                4 => bytemuck::cast_slice_mut::<u8, u32>(out).reverse(),
                _ => bytemuck::cast_slice_mut::<u8, u64>(out).reverse(),
            }
        });
    }

    /// Elements of these numbers, the first and how far the next is.
    fn run(&self, philox: &Philox, dtype: DType, numbers: (u64, u64), out: &mut [u8]) {
        use bytemuck::cast_slice_mut as cast;
        let level = simd::level();
        match (self.0, dtype) {
            (Distribution::Uniform, DType::F32) => philox.progression::<f32>(level, numbers.0, numbers.1, cast(out)),
            (Distribution::Uniform, _) => philox.progression::<f64>(level, numbers.0, numbers.1, cast(out)),
            (Distribution::Normal, DType::F32) => philox.items(level, NormalSingle, numbers, cast(out)),
            (Distribution::Normal, _) => philox.items(level, Normal, numbers, cast(out)),
            (Distribution::Bernoulli { of_2_32 }, _) => philox.items(level, Below(of_2_32), numbers, out),
            (Distribution::Integers { low, count }, _) => match dtype.bytes() {
                1 => integers::<u8>(philox, (low, count), numbers, out),
                2 => integers::<u16>(philox, (low, count), numbers, cast(out)),
                4 => integers::<u32>(philox, (low, count), numbers, cast(out)),
                _ => integers::<u64>(philox, (low, count), numbers, cast(out)),
            },
        }
    }
}

fn integers<T: items::OfWord>(philox: &Philox, (low, count): (u64, u64), numbers: (u64, u64), out: &mut [T]) {
    match FEW.contains(&count) {
        true => philox.items(simd::level(), Few(low, count, PhantomData), numbers, out),
        false => philox.items(simd::level(), Many(low, count, PhantomData), numbers, out),
    }
}

impl Generate for Random {
    fn part(&self, params: &[u8], dtype: DType, first: usize, out: &mut [u8]) {
        self.fill(&RandomParams::from_bytes(params), dtype, first, out);
    }

    fn reordered(&self, params: &[u8], order: &[usize]) -> Vec<u8> {
        let params = RandomParams::from_bytes(params);
        RandomParams { indices: params.indices.reordered(order), ..params }.to_bytes()
    }

    fn nearest(&self, params: &[u8], dtype: DType) -> Option<usize> {
        RandomParams::from_bytes(params).shared_axis(self.0, dtype)
    }

    fn mix_of(&self, dtype: DType) -> OpMix {
        self.0.mix(dtype)
    }

    fn inexact_on_gpu(&self, _: DType, _: &GpuFacts) -> Option<String> {
        (self.0 == Distribution::Normal).then(|| format!("normal numbers are within {NORMAL_ULPS} ulp of the CPU's there"))
    }

    fn on_gpu(&self, params: &[u8], dtype: DType, _: &[usize]) -> Option<GpuFeed> {
        gpu::feed(self.0, RandomParams::from_bytes(params), dtype)
    }
}

#[cfg(test)]
mod tests;
