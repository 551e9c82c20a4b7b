//! Partial results, added.
//!
//! Owns: `add`. Must not know: what they are results of. Invariant: the order of additions depends only on the number and shapes of the inputs.

use super::rows::{buffer, for_each_part, gather};
use super::{Kernel, Ran, Scratch, Work, check_dtypes};
use crate::error::Error;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Element, same, with_dtype};
use half::{bf16, f16};
use num_complex::Complex;
use std::borrow::Cow;

/// `add`: inputs of one shape and dtype; output of the same: `((a + b) + c) + ...`. Integers wrap around, booleans are
/// or-ed.
pub struct Add;

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
