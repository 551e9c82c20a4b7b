//! Numbers at equal distances.
//!
//! Owns: [`Spacing`], by which all such numbers are made, and the kernel [`Points`]. Must not know: what they are for. Invariant: a number follows from its index
//! alone, by operations that are each rounded, so that it is the same in any chunk.

use std::borrow::Cow;

use half::{bf16, f16};

use super::generate::{FlatIndices, Generate, GpuFeed};
use super::map::ScalarOp;
use super::{Fault, GpuFacts, Kernel, OpClass, OpMix, Scratch, Work, check_dtypes, check_params, params, rows};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Element, Real, with_dtype};

/// How number `k` of `count` follows from its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spacing {
    /// `k * (b - a) / (count - 1) + a`, as `numpy.ogrid[a:b:count*1j]` makes them; a single one is `a`. In `f64`, whose bits these are.
    Grid {
        /// The first number.
        a: u64,
        /// The last one.
        b: u64,
    },
    /// The same, but the last one is `b` exactly, and where the distance is too small to be told from 0, `k / (count - 1) * (b - a) + a`, as
    /// `numpy.linspace` makes them.
    Ends {
        /// The first number.
        a: u64,
        /// The last one.
        b: u64,
    },
    /// `a`, `next`, and then `a + k * (next - a)`, as `numpy.arange` makes them: of integers modulo 2^64, of `f64` in `f64`, of narrower floats in `f32`, rounded in the
    /// end. The bits of an `i64`, a `u64` or an `f64`.
    Steps {
        /// The first number.
        a: u64,
        /// The second.
        next: u64,
    },
}

/// Which numbers of a [`Spacing`] are a chunk.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct PointsParams {
    kind: u64,
    numbers: [u64; 2],
    count: u64,
    first: u64,
    step: u64,
}

/// Up to here integers are floats.
const EXACT: u64 = 1 << 53;

impl PointsParams {
    /// Of `count` numbers those from index `first` on, each `step`th.
    #[must_use]
    pub fn new(spacing: Spacing, count: usize, first: usize, step: usize) -> Self {
        let (kind, numbers) = match spacing {
            Spacing::Grid { a, b } => (0, [a, b]),
            Spacing::Ends { a, b } => (1, [a, b]),
            Spacing::Steps { a, next } => (2, [a, next]),
        };
        Self { kind, numbers, count: count as u64, first: first as u64, step: step as u64 }
    }

    /// The numbers from the chunk's number `start` on.
    pub(crate) fn fill<T: Progression>(&self, start: usize, out: &mut [T]) {
        if self.kind == 2 {
            return T::steps(self, start, out);
        }
        let [a, b] = self.numbers.map(f64::from_bits);
        if self.count == 1 {
            return out.fill(T::from_f64(a));
        }
        let (between, whole) = (self.count.saturating_sub(1) as f64, b - a);
        let apart = whole / between;
        match self.kind == 1 && apart == 0.0 {
            true => self.each(start, out, |k| T::from_f64(k / between * whole + a)),
            false => self.each(start, out, |k| T::from_f64(k * apart + a)),
        }
        if self.kind == 1 {
            self.put(self.count.saturating_sub(1), T::from_f64(b), start, out);
        }
    }

    /// How a GPU makes a chunk of so many: of indices below 2^32.
    fn on_gpu(&self, dtype: DType, len: usize) -> Option<GpuFeed> {
        let last = self.step.checked_mul(len.saturating_sub(1) as u64)?.checked_add(self.first)?;
        let two = |n: u64| [n as u32, (n >> 32) as u32];
        let [a, b] = self.numbers.map(f64::from_bits);
        let (text, words) = match (self.kind, dtype) {
            _ if last >= u32::MAX.into() => return None,
            (2, DType::F64) => {
                let words = [a, b, b - a].map(|x| two(x.to_bits())).concat();
                (
                    "D4 {\n    return d_point(low, d_word(p.g@_0, p.g@_1), d_word(p.g@_2, p.g@_3), d_word(p.g@_4, p.g@_5));",
                    words,
                )
            }
            (2, DType::F32 | DType::F16 | DType::BF16) => {
                let (a, b) = (a as f32, b as f32);
                let text = match dtype {
                    DType::F16 => "F4 {\n    return f_round_to_half(f_point(low, p.g@_0, p.g@_1, p.g@_2));",
                    DType::BF16 => "F4 {\n    return f_round_to_brain(f_point(low, p.g@_0, p.g@_1, p.g@_2));",
                    _ => "F4 {\n    return f_point(low, p.g@_0, p.g@_1, p.g@_2);",
                };
                (text, [a, b, b - a].map(f32::to_bits).to_vec())
            }
            (2, _) => {
                let step = self.numbers[1].wrapping_sub(self.numbers[0]);
                let text = match dtype {
                    DType::I64 => {
                        "L4 {\n    return bitcast<L4>(u_to_m(low) * M4(u64(p.g@_2) | (u64(p.g@_3) << 32u)) + M4(u64(p.g@_0) | (u64(p.g@_1) << 32u)));"
                    }
                    DType::U64 => {
                        "M4 {\n    return u_to_m(low) * M4(u64(p.g@_2) | (u64(p.g@_3) << 32u)) + M4(u64(p.g@_0) | (u64(p.g@_1) << 32u));"
                    }
                    DType::I32 => "I4 {\n    return bitcast<I4>(low * p.g@_2 + U4(p.g@_0));",
                    DType::U32 => "U4 {\n    return low * p.g@_2 + U4(p.g@_0);",
                    DType::I16 => "I4 {\n    return i_wrap(bitcast<I4>(low * p.g@_2 + U4(p.g@_0)), 16u);",
                    DType::U16 => "U4 {\n    return u_wrap(low * p.g@_2 + U4(p.g@_0), 16u);",
                    DType::I8 => "I4 {\n    return i_wrap(bitcast<I4>(low * p.g@_2 + U4(p.g@_0)), 8u);",
                    DType::U8 => "U4 {\n    return u_wrap(low * p.g@_2 + U4(p.g@_0), 8u);",
                    _ => return None,
                };
                (text, [self.numbers[0], step].map(two).concat())
            }
            _ if !dtype.is_float() || self.count < 2 => return None,
            (kind, _) => {
                let apart = (b - a) / (self.count - 1) as f64;
                if kind == 1 && apart == 0.0 {
                    return None;
                }
                let last = if kind == 1 { u32::try_from(self.count - 1).ok()? } else { u32::MAX };
                let words = [&two(a.to_bits())[..], &two(apart.to_bits()), &[last], &two(b.to_bits())].concat();
                let text = match dtype {
                    DType::F64 => {
                        "D4 {\n    return d_between(low, d_word(p.g@_0, p.g@_1), d_word(p.g@_2, p.g@_3), p.g@_4, d_word(p.g@_5, p.g@_6));"
                    }
                    _ => {
                        "F4 {\n    return d_to_f(d_between(low, d_word(p.g@_0, p.g@_1), d_word(p.g@_2, p.g@_3), p.g@_4, d_word(p.g@_5, p.g@_6)));"
                    }
                };
                (text, words)
            }
        };
        let text = format!("fn made@(low: U4, high: U4) -> {text}\n}}\n");
        Some(GpuFeed { indices: FlatIndices::line(self.first, len, self.step), words, text })
    }

    /// Sets the number of one index, if it is among those from the chunk's number `start` on.
    fn put<T>(&self, index: u64, number: T, start: usize, out: &mut [T]) {
        let (first, step) = (self.index(start), self.step.max(1));
        if let Some(apart) = index.checked_sub(first).filter(|apart| apart.is_multiple_of(step))
            && let Some(place) = out.get_mut((apart / step) as usize)
        {
            *place = number;
        }
    }

    fn index(&self, at: usize) -> u64 {
        self.first + self.step * at as u64
    }

    /// Sets each number by its index.
    #[inline(always)]
    fn each<T>(&self, start: usize, out: &mut [T], number: impl Fn(f64) -> T) {
        if self.index(start + out.len()) > EXACT {
            return out.iter_mut().zip(start..).for_each(|(out, at)| *out = number(self.index(at) as f64));
        }
        // All exact, and many at once.
        for (piece, first) in out.chunks_mut(STRIP).zip((start..).step_by(STRIP)) {
            let (first, step) = (self.index(first) as f64, self.step as f64);
            piece.iter_mut().zip(0i32..).for_each(|(out, at)| *out = number(f64::from(at) * step + first));
        }
    }
}

/// Numbers at once.
const STRIP: usize = 1024;

/// An element of which there are numbers at equal distances.
pub(crate) trait Progression: Real {
    /// Numbers of [`Spacing::Steps`], from the chunk's number `start` on.
    fn steps(params: &PointsParams, start: usize, out: &mut [Self]);
}

macro_rules! progressions {
    (integers: $($t:ty),*) => {$(
        impl Progression for $t {
            fn steps(params: &PointsParams, start: usize, out: &mut [Self]) {
                // What is modulo 2^64 is modulo less, too.
                let [a, next] = params.numbers;
                let step = next.wrapping_sub(a);
                let first = a.wrapping_add(step.wrapping_mul(params.index(start))) as $t;
                let step = step.wrapping_mul(params.step) as $t;
                out.iter_mut().zip(0u64..).for_each(|(out, at)| *out = first.wrapping_add(step.wrapping_mul(at as $t)));
            }
        }
    )*};
    (floats: $($t:ty),*) => {$(
        impl Progression for $t {
            fn steps(params: &PointsParams, start: usize, out: &mut [Self]) {
                let [a, next] = params.numbers.map(|bits| f64::from_bits(bits) as $t);
                let step = next - a;
                params.each(start, out, |k| k as $t * step + a);
                params.put(0, a, start, out);
                params.put(1, next, start, out);
            }
        }
    )*};
    (halves: $($t:ty),*) => {$(
        impl Progression for $t {
            fn steps(params: &PointsParams, start: usize, out: &mut [Self]) {
                let [a, next] = params.numbers.map(|bits| f64::from_bits(bits) as f32);
                let step = next - a;
                params.each(start, out, |k| <$t>::from_f32(k as f32 * step + a));
                params.put(0, <$t>::from_f32(a), start, out);
                params.put(1, <$t>::from_f32(next), start, out);
            }
        }
    )*};
}
progressions!(integers: i8, u8, i16, u16, i32, u32, i64, u64);
progressions!(floats: f32, f64);
progressions!(halves: f16, bf16);

/// All `n` points from `a` to `b`, both included, as `numpy.ogrid[a:b:n*1j]` makes them: see [`Spacing::Grid`].
#[must_use]
pub fn ogrid(a: f64, b: f64, n: usize) -> Vec<f64> {
    let mut all = vec![0.0; n];
    PointsParams::new(Spacing::Grid { a: a.to_bits(), b: b.to_bits() }, n, 0, 1).fill(0, &mut all);
    all
}

/// No input; output: a vector of integers or floats.
pub struct Points;

impl Kernel for Points {
    fn name(&self) -> Cow<'static, str> {
        "points".into()
    }

    fn check(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<()> {
        check_params::<PointsParams>(self, params)?;
        check_dtypes(self, operands, &[DType::REALS], 1)
    }

    /// Two operations a number.
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 2.0)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let (wanted, dtype) = (params::<PointsParams>(bytes), outputs[0].layout().dtype);
        with_dtype!(dtype in reals, T => fill::<T>(&wanted, &mut outputs[0]), _ => unreachable!("{dtype} is no real number"));
        Ok(())
    }
}

impl Generate for Points {
    fn part(&self, bytes: &[u8], dtype: DType, first: usize, out: &mut [u8]) {
        let wanted = params::<PointsParams>(bytes);
        with_dtype!(
            dtype in reals,
            T => wanted.fill::<T>(first, bytemuck::cast_slice_mut(out)),
            _ => unreachable!("{dtype} is no real number")
        );
    }

    /// There is one axis.
    fn reordered(&self, params: &[u8], _: &[usize]) -> Vec<u8> {
        params.to_vec()
    }

    fn nearest(&self, _: &[u8], _: DType) -> Option<usize> {
        Some(0)
    }

    fn mix_of(&self, _: DType) -> OpMix {
        OpMix::all(OpClass::Alu, 2.0)
    }

    /// Numbers that are no integers are a product and a sum, in `f64` where there is one.
    fn inexact_on_gpu(&self, dtype: DType, gpu: &GpuFacts) -> Option<String> {
        let used = [DType::F32, DType::F64].into_iter().filter(|&used| !dtype.is_integer() && (used == DType::F32 || gpu.f64));
        used.map(|used| gpu.exact.inexact_op(ScalarOp::Add, used)).find_map(|why| why)
    }

    fn on_gpu(&self, bytes: &[u8], dtype: DType, shape: &[usize]) -> Option<GpuFeed> {
        params::<PointsParams>(bytes).on_gpu(dtype, *shape.first()?)
    }
}

fn fill<T: Element + Progression>(wanted: &PointsParams, out: &mut ChunkViewMut<'_>) {
    rows::fill::<T>(out, |_, start, piece| wanted.fill(start, piece));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_in_any_chunk() {
        let all = |spacing, n| {
            let mut all = vec![0f64; n];
            PointsParams::new(spacing, n, 0, 1).fill(0, &mut all);
            all
        };
        let bits = f64::to_bits;
        for spacing in [
            Spacing::Grid { a: bits(-1.5), b: bits(0.3) },
            Spacing::Ends { a: bits(-1.5), b: bits(0.3) },
            Spacing::Ends { a: 0, b: bits(5e-324) },
            Spacing::Steps { a: bits(0.1), next: bits(-0.6) },
            Spacing::Steps { a: bits(-0.0), next: bits(1.0) },
        ] {
            let n = 3000;
            let whole = all(spacing, n);
            for (first, step) in [(0, 1), (7, 1), (n - 1, 1), (3, 7), (0, n - 1), (2, 1500)] {
                let wanted: Vec<f64> = whole[first..].iter().step_by(step).copied().collect();
                let params = PointsParams::new(spacing, n, first, step);
                for start in [0, wanted.len() / 2] {
                    let mut found = vec![0f64; wanted.len() - start];
                    params.fill(start, &mut found);
                    assert!(
                        found.iter().map(|x| x.to_bits()).eq(wanted[start..].iter().map(|x| x.to_bits())),
                        "{spacing:?} {first} {step}"
                    );
                }
            }
        }
        assert_eq!(all(Spacing::Ends { a: bits(0.0), b: bits(0.3) }, 4)[3], 0.3);
    }

    #[test]
    fn integers_wrap_and_far_indices_are_right() {
        let (start, next) = ((-3i64).cast_unsigned(), 97);
        let mut bytes = [0i8; 4];
        PointsParams::new(Spacing::Steps { a: start, next }, 4, 0, 1).fill(0, &mut bytes);
        assert_eq!(bytes, [-3, 97, -59, 41]);
        let far = PointsParams::new(Spacing::Steps { a: 0, next: 1 }, 1 << 58, (1 << 57) + 1, 2);
        let mut numbers = [0u64; 2];
        far.fill(0, &mut numbers);
        assert_eq!(numbers, [(1 << 57) + 1, (1 << 57) + 3]);
        let mut floats = [0f64; 2];
        PointsParams::new(Spacing::Steps { a: 0, next: 1f64.to_bits() }, 1 << 58, (1 << 54) + 4, 4).fill(0, &mut floats);
        assert_eq!(floats, [2f64.powi(54) + 4.0, 2f64.powi(54) + 8.0]);
    }
}
