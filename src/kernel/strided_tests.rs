//! Every kernel's CPU body on inputs that lie by any strides, against the same body on copies in C order.
//!
//! Owns: the comparison. Must not know: how kernels walk. Invariant: results are the same bits; the order of all sums of ours is one of indices, so
//! strides have no say in it.

use proptest::prelude::*;

use super::dense::{Gemm, LEFT, RIGHT, Syrk, Trsm};
use super::gemv::Gemv;
use super::mandelbrot::{Mandelbrot, MandelbrotParams};
use super::peak::{Peak, PeakParams, ReadAll};
use super::sums::Add;
use super::testing::{Chunk, numbers};
use super::{Kernel, Scratch, for_each_piece, simd};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Element, Float, Layout, View};

/// Bits that decide how something lies.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

impl<T: Element> Chunk<T> {
    /// One that lies anyhow in a larger array of such elements: axes in any order, forwards or backwards, in steps, or all one element.
    fn lying(shape: &[usize], dice: &mut Dice, element: impl Fn(f64) -> T) -> Self {
        let rank = shape.len();
        let (mut base, mut order, mut slices) = (Vec::new(), Vec::new(), Vec::new());
        for &n in shape {
            let at = dice.roll(order.len() + 1);
            order.insert(at, order.len());
            let step = [1, 1, -1, 2, -3][dice.roll(5)];
            let (before, behind) = (dice.roll(3), dice.roll(3));
            let far = n.saturating_sub(1) * isize::unsigned_abs(step);
            // Sometimes all along an axis is one element.
            let all_one = dice.roll(5) == 0;
            base.push(if all_one { 1 } else { before + far + 1 + behind });
            slices.push((!all_one).then_some((if step < 0 { before + far } else { before }, n, step)));
        }
        // Axis `order[k]` of the chunk is axis `k` of the array.
        let array: Vec<usize> = order.iter().map(|&axis| base[axis]).collect();
        let places: Vec<usize> = (0..rank).map(|axis| order.iter().position(|&k| k == axis).unwrap()).collect();
        let mut view = View::whole(&array).permute(&places).unwrap();
        for (axis, slice) in slices.into_iter().enumerate() {
            if let Some((start, len, step)) = slice {
                view = view.slice(axis, start, len, step).unwrap();
            }
        }
        let view = view.broadcast(shape).unwrap();
        let (first, layout) = view.of(&Layout::contiguous(T::DTYPE, &array));
        let seed = dice.roll(1000);
        let data = numbers(array.iter().product::<usize>() + seed, 3.0)[seed..].iter().map(|&v| element(v)).collect();
        Self { data, first: first as usize, layout }
    }

    fn meta(&self) -> ChunkMeta<'_> {
        ChunkMeta::new(T::DTYPE, &self.layout.shape)
    }

    /// The same in C order.
    fn plain(&self) -> Self {
        Self::new(&self.layout.shape, self.values())
    }
}

/// `{:?}` of numbers tells each from every other, -0 from 0 too.
fn same<T: Element>(found: &[T], wanted: &[T]) -> Result<(), TestCaseError> {
    let text = |all: &[T]| all.iter().map(|v| format!("{v:?}")).collect::<Vec<_>>();
    prop_assert_eq!(text(found), text(wanted));
    Ok(())
}

/// Runs a kernel on chunks as they lie and on copies; in the first run the output lies in a larger array too.
fn agrees<T: Element, U: Element>(
    kernel: &dyn Kernel,
    params: &[u8],
    inputs: &[Chunk<T>],
    shape: &[usize],
) -> Result<(), TestCaseError> {
    let plain: Vec<Chunk<T>> = inputs.iter().map(Chunk::plain).collect();
    let mut wanted = Chunk::filled(shape, U::default());
    wanted.compute(kernel, params, &plain.iter().map(Chunk::view).collect::<Vec<_>>());
    let views: Vec<_> = inputs.iter().map(Chunk::view).collect();
    let mut found = Chunk::filled(shape, U::default());
    found.compute(kernel, params, &views);
    same(&found.data, &wanted.data)?;
    if let &[m, n] = shape {
        let mut window = Chunk::window([m, n], 2, 3, U::default());
        window.compute(kernel, params, &views);
        same(&window.values(), &wanted.data)?;
    }
    Ok(())
}

fn sums_agree<T: Element>(shape: &[usize], dice: &mut Dice, element: impl Fn(f64) -> T) -> Result<(), TestCaseError> {
    let mut chunk = || Chunk::lying(shape, dice, &element);
    for count in 1..4 {
        let inputs: Vec<_> = (0..count).map(|_| chunk()).collect();
        agrees::<T, T>(&Add, &[], &inputs, shape)?;
    }
    Ok(())
}

fn bytes<P: bytemuck::Pod>(params: P) -> Vec<u8> {
    bytemuck::bytes_of(&params).to_vec()
}

/// Kernels of vectors and matrices `(m, k)`.
fn floats_agree<T: Float>([m, k]: [usize; 2], dice: &mut Dice) -> Result<(), TestCaseError> {
    let mut of = |shape: &[usize]| Chunk::lying(shape, dice, T::from_f64);
    agrees::<T, T>(&Gemv, &[], &[of(&[m, k]), of(&[k])], &[m])?;
    agrees::<T, i32>(&Mandelbrot, &bytes(MandelbrotParams { iterations: 30 }), &[of(&[k]), of(&[m])], &[m, k])?;
    agrees::<T, T>(&Peak, &bytes(PeakParams { steps: 2 }), &[of(&[2])], &[m])?;
    agrees::<T, T>(&ReadAll, &[], &[of(&[4 * k])], &[m])?;
    Ok(())
}

/// What a kernel packs, and what trsm makes of B `(m, n)` where L lies anyhow.
fn tiles_agree<T: Float>([m, n]: [usize; 2], dice: &mut Dice) -> Result<(), TestCaseError> {
    let a = Chunk::lying(&[m, n], dice, T::from_f64);
    for level in simd::levels() {
        for (kernel, form) in [(&Gemm::at(level) as &dyn Kernel, LEFT), (&Gemm::at(level), RIGHT), (&Syrk::at(level), LEFT)] {
            let len = kernel.packed_len(form, a.meta()).1;
            let [mut found, mut wanted] = [(); 2].map(|()| Chunk::filled(&[len], T::from_f64(7.0)));
            kernel.pack(form, a.view(), &mut ChunkViewMut::from_slice(&mut found.data, &found.layout));
            kernel.pack(form, a.plain().view(), &mut ChunkViewMut::from_slice(&mut wanted.data, &wanted.layout));
            same(&found.data, &wanted.data)?;
        }
        // Far from singular whatever its diagonal repeats; what is above it is not asked for.
        let l = Chunk::lying(&[n, n], dice, |v| T::from_f64(if v.abs() < 0.1 { 2.0 } else { 2.0 + v }));
        let solve = |l: ChunkView<'_>| {
            let mut b = a.plain();
            let metas = [ChunkMeta::new(T::DTYPE, l.shape()), a.meta()];
            let mut scratch = vec![0xffu8; Trsm::at(level).scratch_bytes(&[], &metas) as usize];
            let mut out = [ChunkViewMut::from_slice(&mut b.data, &b.layout)];
            Trsm::at(level).run_cpu(&[], &[l], &mut out, &mut Scratch::new(&mut scratch)).unwrap();
            b.data
        };
        same(&solve(l.view()), &solve(l.plain().view()))?;
    }
    Ok(())
}

fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![6 => 1usize..7, 1 => 20usize..40, 1 => Just(0)], 0..5)
        .prop_filter("small", |shape| shape.iter().product::<usize>() < 40_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_do_not_depend_on_strides(shape in shapes(), seed in any::<u64>()) {
        let dice = &mut Dice(seed);
        sums_agree(&shape, dice, |v| v > 0.0)?;
        sums_agree(&shape, dice, |v| (v * 100.0) as u8)?;
        sums_agree(&shape, dice, |v| (v * 1e9) as i32)?;
        sums_agree(&shape, dice, |v| (v * 1e9) as u32)?;
        sums_agree(&shape, dice, |v| (v * 1e18) as i64)?;
        sums_agree(&shape, dice, |v| (v * 1e18) as u64)?;
        sums_agree(&shape, dice, |v| v as f32)?;
        sums_agree(&shape, dice, |v| v)?;
    }

    #[test]
    fn products_and_pictures_do_not_depend_on_strides(m in 0usize..30, k in 0usize..50, seed in any::<u64>()) {
        let dice = &mut Dice(seed);
        let k = if k > 45 { 2048 * (k - 45) + seed as usize % 100 } else { k };
        floats_agree::<f32>([m, k], dice)?;
        floats_agree::<f64>([m, k], dice)?;
    }

    #[test]
    fn tiles_do_not_depend_on_strides(m in 1usize..60, n in 1usize..120, seed in any::<u64>()) {
        let dice = &mut Dice(seed);
        tiles_agree::<f32>([m, n], dice)?;
        tiles_agree::<f64>([m, n], dice)?;
    }

    #[test]
    fn pieces_do_not_depend_on_strides(shape in shapes(), seed in any::<u64>()) {
        let dice = &mut Dice(seed);
        let x = Chunk::lying(&shape, dice, |v| v);
        let keep = Chunk::lying(&shape, dice, |v| v > 0.0);
        let k = Chunk::lying(&shape, dice, |v| (v * 50.0) as i32);
        let run = |inputs: [ChunkView<'_>; 3], out: &mut ChunkViewMut<'_>| {
            for_each_piece::<(f64, bool, i32), f64>(&inputs, out, |(x, keep, k), out| {
                for (((out, x), &keep), &k) in out.iter_mut().zip(x).zip(keep).zip(k) {
                    *out = if keep { x * f64::from(k) } else { -1.0 };
                }
            });
        };
        let [mut found, mut wanted] = [(); 2].map(|()| Chunk::filled(&shape, 0.0));
        run([x.view(), keep.view(), k.view()], &mut ChunkViewMut::from_slice(&mut found.data, &found.layout));
        let plain = (x.plain(), keep.plain(), k.plain());
        run([plain.0.view(), plain.1.view(), plain.2.view()], &mut ChunkViewMut::from_slice(&mut wanted.data, &wanted.layout));
        same(&found.data, &wanted.data)?;
    }
}
