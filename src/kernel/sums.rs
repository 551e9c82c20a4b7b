//! Kernels that sum: chunks to (sum, count), pairs to one pair, partial results to one.
//!
//! Owns: `block_sum`, `weighted_sum`, `merge_sums`, `divide_sums`, `add`. Must not know: means, arrays. Invariant: the order of
//! additions depends only on the number and shapes of the inputs. Sums are `f64` pairs `(2,)`: the sum of `x` and the number
//! of elements, or the sum of `w * x` and the sum of `w`; so a mean is `divide_sums` of either.

use super::block_sum::{BlockSum, Tree, WeightedSum};
use super::program::shader_params;
use super::rows::{buffer, for_each_pair, for_each_part, for_each_slice, gather};
use super::{GpuFacts, Kernel, Pass, Program, Ran, Scratch, Shader, Work, check_dtypes};
use crate::error::Error;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Element, same, with_dtype};
use half::{bf16, f16};
use num_complex::Complex;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// `block_sum`: a chunk of any shape, of any dtype but complex; output `(2,)` of `f64`: sum and count. See [`BlockSum`].
///
/// A GPU adds in the chunk's dtype, `f32` or `f64` (so no `f64` is needed of it for `f32`): runs of 8192 elements pairwise, then
/// the runs' sums in 256 chains, then these pairwise. Its error is below `(22 + len / 2^21) u sum |x|`, `u` = 2^-24 or 2^-53.
pub struct SumChunk;

/// `weighted_sum`: chunks `x` and `w` of one shape and dtype; output `(2,)` of `f64`: sum of `w * x`, sum of `w`.
pub struct WeightedSumChunk;

/// `merge_sums`: any number of `(2,)` of `f64`; output `(2,)`: their sums, added pairwise in input order (0 for no input).
pub struct MergeSums;

/// `divide_sums`: `(2,)` of `f64`; output rank 0 of `f64` or `f32`: the first divided by the second, NaN for 0 / 0.
pub struct DivideSums;

/// `take_sum`: `(2,)` of `f64`; output rank 0 of `f64` or `f32`: the first of them.
pub struct TakeSum;

/// `sum_integers`: a chunk of any shape, of integers or booleans; output rank 0 of `i64` or `u64`: the sum of all elements modulo 2^64.
pub struct SumIntegers;

/// `add`: inputs of one shape and dtype; output of the same: `((a + b) + c) + ...`. Integers wrap around, booleans are
/// or-ed.
pub struct Add;

shader_params!(
    /// Parameters of the shader of [`SumChunk`].
    pub(crate) struct SumShape {
        /// Elements.
        len,
        /// Runs of `RUN` elements, the last perhaps shorter.
        runs,
    }
);

pub(super) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::ours("block_sum", include_str!("../../shaders/block_sum.wgsl"));
    shader.with_params(SumShape::FIELDS).with_operands(1, 1).with_workgroup(256, [1024, 2048]).into()
});

/// Elements that one workgroup sums.
const RUN: usize = 8192;

impl Kernel for SumChunk {
    fn name(&self) -> Cow<'static, str> {
        "block_sum".into()
    }

    fn check(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        check_dtypes(self, operands, &[DType::ORDERED, &[DType::F64]], 1)
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 1.0)
    }

    fn program(&self, _params: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [x, _] = operands else { return None };
        if !x.dtype.is_float() {
            return None;
        }
        let len = x.shape.iter().product::<usize>();
        let runs = len.div_ceil(RUN);
        let first = if len % 4 == 0 { "wide" } else { "narrow" };
        let last = if x.dtype == DType::F64 { "finish_f64" } else { "finish" };
        let passes = vec![Pass::new(first, runs as u64, 0), Pass::new(last, 1, 0)];
        let params = SumShape { len: len as u32, runs: runs as u32 };
        let mut program = Program::new(&SHADER, x.dtype, &params.words(), passes, self.work(&[], operands));
        program.scratch_bytes = (runs * x.dtype.bytes()) as u64;
        program.fitting(gpu, operands)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let layout = inputs[0].layout();
        let mut sum = BlockSum::new();
        if layout.dtype == DType::Bool {
            for_each_slice(inputs[0], |x: &[bool]| {
                let mut ones = [0u8; 512];
                for x in x.chunks(ones.len()) {
                    ones.iter_mut().zip(x).for_each(|(one, &x)| *one = u8::from(x));
                    sum.push(&ones[..x.len()]);
                }
            });
        } else {
            let dtype = layout.dtype;
            with_dtype!(dtype in reals, T => for_each_slice(inputs[0], |x: &[T]| sum.push(x)), _ => unreachable!("{dtype} has no mean"));
        }
        set_pair(&mut outputs[0], (sum.finish(), layout.len() as f64));
        Ok(())
    }
}

impl Kernel for WeightedSumChunk {
    fn name(&self) -> Cow<'static, str> {
        "weighted_sum".into()
    }

    fn check(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        check_dtypes(self, operands, &[DType::ORDERED, DType::ORDERED, &[DType::F64]], 1)
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 3.0)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let mut sum = WeightedSum::new();
        let dtype = inputs[0].layout().dtype;
        with_dtype!(
            dtype in reals,
            T => for_each_pair(inputs[0], inputs[1], |x: &[T], w: &[T]| sum.push(x, w)),
            _ => unreachable!("{dtype} has no mean")
        );
        set_pair(&mut outputs[0], sum.finish());
        Ok(())
    }
}

impl Kernel for MergeSums {
    fn name(&self) -> Cow<'static, str> {
        "merge_sums".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, operands.len() as f64)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let (mut first, mut second) = (Tree::new(), Tree::new());
        for input in inputs {
            let (a, b) = pair(*input);
            first.push(a);
            second.push(b);
        }
        set_pair(&mut outputs[0], (first.finish(None), second.finish(None)));
        Ok(())
    }
}

impl Kernel for DivideSums {
    fn name(&self) -> Cow<'static, str> {
        "divide_sums".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 0.5)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let (sum, count) = pair(inputs[0]);
        let out = &mut outputs[0];
        match out.layout().dtype {
            DType::F32 => out.set(0, 0, (sum / count) as f32),
            _ => out.set(0, 0, sum / count),
        }
        Ok(())
    }
}

impl Kernel for TakeSum {
    fn name(&self) -> Cow<'static, str> {
        "take_sum".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 0.5)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let (sum, _) = pair(inputs[0]);
        let out = &mut outputs[0];
        match out.layout().dtype {
            DType::F32 => out.set(0, 0, sum as f32),
            _ => out.set(0, 0, sum),
        }
        Ok(())
    }
}

impl Kernel for SumIntegers {
    fn name(&self) -> Cow<'static, str> {
        "sum_integers".into()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 1.0)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        // Modulo 2^64, signed and unsigned sums are the same bits.
        let mut sum = 0u64;
        macro_rules! sum {
            ($($d:ident => $t:ty),*) => {
                match inputs[0].layout().dtype {
                    $(DType::$d => for_each_slice(inputs[0], |x: &[$t]| {
                        sum = x.iter().fold(sum, |sum, &x| sum.wrapping_add(x as u64));
                    }),)*
                    dtype => unreachable!("{dtype} is no integer"),
                }
            };
        }
        sum!(Bool => bool, I8 => i8, U8 => u8, I16 => i16, U16 => u16, I32 => i32, U32 => u32, I64 => i64, U64 => u64);
        match outputs[0].layout().dtype {
            DType::U64 => outputs[0].set(0, 0, sum),
            _ => outputs[0].set(0, 0, sum.cast_signed()),
        }
        Ok(())
    }
}

fn pair(view: ChunkView<'_>) -> (f64, f64) {
    (view.at(0, 0), view.at(0, 1))
}

fn set_pair(out: &mut ChunkViewMut<'_>, pair: (f64, f64)) {
    out.set(0, 0, pair.0);
    out.set(0, 1, pair.1);
}

impl Kernel for Add {
    fn name(&self) -> Cow<'static, str> {
        "add".into()
    }

    fn check(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<(), Error> {
        let [first, ..] = operands else { return Ok(()) };
        check_dtypes(self, operands, &vec![&[first.dtype][..]; operands.len()], 1)
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, operands.len().saturating_sub(2) as f64)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let dtype = outputs[0].layout().dtype;
        with_dtype!(dtype, T => add::<T>(inputs, &mut outputs[0]));
        Ok(())
    }
}

/// Addition that wraps around for integers, and is `or` for booleans.
trait Plus: Element {
    fn plus(self, other: Self) -> Self;
}
macro_rules! plus {
    ($(($t:ty, $plus:expr)),*) => {$(
        impl Plus for $t {
            #[inline(always)]
            fn plus(self, other: Self) -> Self { $plus(self, other) }
        }
    )*};
}
plus!(
    (bool, std::ops::BitOr::bitor),
    (i8, i8::wrapping_add),
    (u8, u8::wrapping_add),
    (i16, i16::wrapping_add),
    (u16, u16::wrapping_add),
    (i32, i32::wrapping_add),
    (u32, u32::wrapping_add),
    (i64, i64::wrapping_add),
    (u64, u64::wrapping_add),
    (f32, std::ops::Add::add),
    (f64, std::ops::Add::add),
    (f16, std::ops::Add::add),
    (bf16, std::ops::Add::add),
    (Complex<f32>, std::ops::Add::add),
    (Complex<f64>, std::ops::Add::add)
);

/// Elements added at once, so that partial sums stay in L1.
const STRIP: usize = 1024;

fn add<T: Plus>(inputs: &[ChunkView<'_>], out: &mut ChunkViewMut<'_>) {
    let Some((&first, others)) = inputs.split_first() else {
        return for_each_part(out, &[], |_, piece: &mut [T]| piece.fill(T::default()));
    };
    if others.is_empty() {
        return out.copy_from(first);
    }
    assert!(inputs.iter().all(|i| same(i.shape(), out.shape())), "add: inputs and output of one shape");
    if out.layout().len() == 1 {
        let sum = others.iter().fold(first.at::<T>(0, 0), |sum, x| sum.plus(x.at(0, 0)));
        return out.set(0, 0, sum);
    }
    if inputs.iter().all(|i| i.layout().is_contiguous())
        && let Some(all) = out.try_slice_mut()
    {
        for (s, piece) in all.chunks_mut(STRIP).enumerate() {
            piece.copy_from_slice(&first.slice::<T>()[s * STRIP..][..piece.len()]);
            others.iter().for_each(|x| accumulate(piece, &x.slice::<T>()[s * STRIP..]));
        }
        return;
    }
    let mut buffer = buffer(out.shape());
    for_each_part(out, inputs, |part, piece: &mut [T]| {
        piece.copy_from_slice(gather(first, part, &mut buffer));
        others.iter().for_each(|x| accumulate(piece, gather(*x, part, &mut buffer)));
    });
}

fn accumulate<T: Plus>(sum: &mut [T], x: &[T]) {
    sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum = sum.plus(x));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{Chunk, numbers};

    fn sum_of<T: Element>(chunk: &Chunk<T>) -> Vec<f64> {
        let mut out = Chunk::filled(&[2], f64::NAN);
        out.compute(&SumChunk, &[], &[chunk.view()]);
        out.data
    }

    #[test]
    fn block_sum_of_every_dtype_and_layout() {
        let n = 10_000;
        assert_eq!(sum_of(&Chunk::new(&[n], (0..n).map(|i| i % 3 == 0).collect())), [3334.0, 1e4]);
        assert_eq!(sum_of(&Chunk::new(&[n], (0..n).map(|i| i as u8).collect())), [1_273_080.0, 1e4]);
        assert_eq!(sum_of(&Chunk::new(&[100, 100], (0..n).map(|i| -(i as i32)).collect())), [-49_995_000.0, 1e4]);
        assert_eq!(sum_of(&Chunk::filled(&[7], u32::MAX)), [7.0 * 4_294_967_295.0, 7.0]);
        assert_eq!(sum_of(&Chunk::filled(&[3, 2], i64::MIN)), [-6.0 * 2f64.powi(63), 6.0]);
        assert_eq!(sum_of(&Chunk::filled(&[2], u64::MAX)), [2f64.powi(65), 2.0]);
        assert_eq!(sum_of(&Chunk::<f32>::filled(&[0, 5], 1.0)), [0.0, 0.0]);
        assert_eq!(sum_of(&Chunk::filled(&[], 2.5f32)), [2.5, 1.0]);
        let x = numbers(9000, 20.0);
        let contiguous = sum_of(&Chunk::new(&[90, 100], x.clone()));
        for (gap, step) in [(3, 1), (0, 2), (5, 3)] {
            let mut window = Chunk::window([90, 100], gap, step, f64::NAN);
            let row = 100 * step + gap;
            x.iter().enumerate().for_each(|(i, &v)| window.data[i / 100 * row + i % 100 * step] = v);
            assert_eq!(sum_of(&window), contiguous, "gap {gap}, step {step}");
        }
    }

    #[test]
    fn weighted_mean_of_pieces() {
        let (x, w) = (numbers(5000, 3.0), numbers(5000, 1.0));
        let mut whole = Chunk::filled(&[2], 0.0);
        let view = |v: &[f64]| Chunk::new(&[v.len()], v.to_vec());
        whole.compute(&WeightedSumChunk, &[], &[view(&x).view(), view(&w).view()]);
        let wanted: f64 = x.iter().zip(&w).map(|(x, w)| x * w).sum();
        assert!((whole.data[0] - wanted).abs() < 1e-11 && (whole.data[1] - w.iter().sum::<f64>()).abs() < 1e-11);
        let f32s = |v: &[f64]| Chunk::new(&[v.len()], v.iter().map(|&v| v as f32).collect::<Vec<_>>());
        let mut narrow = Chunk::filled(&[2], 0.0);
        narrow.compute(&WeightedSumChunk, &[], &[f32s(&x).view(), f32s(&w).view()]);
        let wanted: f64 = x.iter().zip(&w).map(|(&x, &w)| f64::from(x as f32) * f64::from(w as f32)).sum();
        assert!((narrow.data[0] - wanted).abs() < 1e-11);
    }

    #[test]
    fn merge_adds_pairwise_and_divide_divides() {
        let parts: Vec<_> = [1e16, 1.0, 1.0, -1e16, 0.25].iter().map(|&v| Chunk::new(&[2], vec![v, 1.0])).collect();
        let views: Vec<_> = parts.iter().map(Chunk::view).collect();
        let mut merged = Chunk::filled(&[2], f64::NAN);
        merged.compute(&MergeSums, &[], &views);
        assert_eq!(merged.data, [((1e16 + 1.0) + (1.0 - 1e16)) + 0.25, 5.0]);
        let mut mean = Chunk::filled(&[], 0f32);
        mean.compute(&DivideSums, &[], &[Chunk::new(&[2], vec![3.0, 4.0]).view()]);
        assert_eq!(mean.data, [0.75f32]);
        merged.compute(&MergeSums, &[], &[]);
        assert_eq!(merged.data, [0.0, 0.0]);
        let mut mean = Chunk::filled(&[], 0f64);
        mean.compute(&DivideSums, &[], &[merged.view()]);
        assert!(mean.data[0].is_nan(), "the mean of nothing");
    }

    #[test]
    fn add_in_input_order_for_every_layout() {
        let shapes: [&[usize]; 5] = [&[], &[1, 1], &[3000], &[40, 70], &[0, 3]];
        for shape in shapes {
            let n = shape.iter().product();
            let parts: Vec<_> = (0..4).map(|k| Chunk::new(shape, numbers(n + k, 40.0)[k..].to_vec())).collect();
            let views: Vec<_> = parts.iter().map(Chunk::view).collect();
            let wanted: Vec<f64> = (0..n).map(|i| parts[1..].iter().fold(parts[0].data[i], |s, p| s + p.data[i])).collect();
            let mut out = Chunk::filled(shape, f64::NAN);
            out.compute(&Add, &[], &views);
            assert_eq!(out.data, wanted, "{shape:?}");
            if let [rows, columns] = *shape {
                let mut window = Chunk::window([rows, columns], 1, 2, f64::NAN);
                window.compute(&Add, &[], &views);
                assert_eq!(window.values(), wanted);
            }
        }
        let mut out = Chunk::filled(&[2], 0i32);
        let (a, b) = (Chunk::new(&[2], vec![i32::MAX, 1]), Chunk::new(&[2], vec![1, 2]));
        out.compute(&Add, &[], &[a.view(), b.view()]);
        assert_eq!(out.data, [i32::MIN, 3], "integers wrap around");
        let (mut out, no) = (Chunk::filled(&[3], true), Chunk::filled(&[3], false));
        out.compute(&Add, &[], &[no.view(), Chunk::new(&[3], vec![true, false, true]).view()]);
        assert_eq!(out.data, [true, false, true], "booleans are or-ed");
    }
}
