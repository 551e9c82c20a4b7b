//! `peak` and `read`: multiply-adds in registers and nothing else; reads of memory and nearly nothing else.
//!
//! Owns: the routines by which a GPU's peaks are measured. Must not know: clocks. Invariant: their work is what they do, so that work over
//! time is a rate that no other kernel can exceed by much.
//!
//! # `peak`
//! `y[i]` is the sum of 16 chains `v <- a b + v`, each of `4 steps` multiply-adds, the first from `i mod 256`, the others from 1, 2, .. 15
//! more. Drivers may fuse a multiply-add or not: a chain of `n` of them whose values are at most `V` in size is within `n (V + |a b|) u` of the
//! exact one, their sum within 16 of these and `80 V u`.
//!
//! # `read`
//! `y[i]` is the sum of the quads `i`, `i + n`, `i + 2n`, .. of `x`, a quad being four elements; within `(k + 4) u sum |x|` for `k` quads.

use super::program::shader_params;
use super::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work, params};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Float};
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

/// The kernel. Input: `a` and `b`, `(2,)`, of a float dtype; output `y` `(n,)` of the same.
pub struct Peak;

/// Parameters of [`Peak`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PeakParams {
    /// Steps of four multiply-adds, each chain.
    pub steps: u32,
}

shader_params!(
    /// Parameters of the shader: length of the output, quads of the input.
    struct Extents { n, quads }
);

pub(super) static SHADER: LazyLock<Arc<Shader>> = LazyLock::new(|| {
    let shader = Shader::ours("peak", include_str!("../../shaders/peak.wgsl"));
    shader.with_params(Extents::FIELDS).with_operands(1, 1).with_workgroup(GROUP as u32, [0, 0]).into()
});

/// Elements of a workgroup.
const GROUP: usize = 256;
/// Chains of an element.
const CHAINS: usize = 16;
/// Multiply-adds of a chain in a step.
const ADDS: u32 = 4;

impl Kernel for Peak {
    fn name(&self) -> Cow<'static, str> {
        "peak".into()
    }

    fn work(&self, bytes: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let [x, y] = operands else { return Work::default() };
        let n = y.shape.iter().product::<usize>() as f64;
        let adds = f64::from(params::<PeakParams>(bytes).steps) * f64::from(ADDS) * CHAINS as f64;
        Work { flops: 2.0 * adds * n, bytes: (n + 2.0) * x.dtype.bytes() as f64 }
    }

    fn program(&self, bytes: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [x, y] = operands else { return None };
        if !x.dtype.is_float() || y.dtype != x.dtype || x.shape != [2] || !gpu.can_bind(operands) {
            return None;
        }
        let n = y.shape.iter().product::<usize>();
        let steps = 0..params::<PeakParams>(bytes).steps;
        let pass = Pass { entry: "multiply_add".into(), groups: n.div_ceil(GROUP) as u64, steps, resumable: false };
        let extents = Extents { n: n as u32, quads: 0 };
        Program::new(&SHADER, x.dtype, &extents.words(), vec![pass], self.work(bytes, operands)).fitting(gpu, operands)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let adds = params::<PeakParams>(bytes).steps.saturating_mul(ADDS);
        match inputs[0].layout().dtype {
            DType::F32 => chains::<f32>(inputs[0], &mut outputs[0], adds, f32::mul_add),
            _ => chains::<f64>(inputs[0], &mut outputs[0], adds, f64::mul_add),
        }
        Ok(())
    }
}

fn chains<T: Float>(x: ChunkView<'_>, y: &mut ChunkViewMut<'_>, adds: u32, multiply_add: fn(T, T, T) -> T) {
    let (a, b): (T, T) = (x.at(0, 0), x.at(0, 1));
    for (i, y) in y.row_mut::<T>(0).iter_mut().enumerate() {
        let chain = |j: usize| (0..adds).fold(T::from_f64((i % GROUP + j) as f64), |v, _| multiply_add(a, b, v));
        *y = T::from_f64((0..CHAINS).map(|j| chain(j).to_f64()).sum());
    }
}

/// The kernel that reads. Input: `x`, whose length 4 divides, of a float dtype; output `y` `(n,)` of the same.
pub struct ReadAll;

impl Kernel for ReadAll {
    fn name(&self) -> Cow<'static, str> {
        "read".into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let elements: usize = operands.iter().map(|o| o.shape.iter().product::<usize>()).sum();
        let size = operands.first().map_or(0, |o| o.dtype.bytes());
        Work { flops: elements as f64, bytes: (elements * size) as f64 }
    }

    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let [x, y] = operands else { return None };
        if !x.dtype.is_float() || y.dtype != x.dtype || !gpu.can_bind(operands) {
            return None;
        }
        let (len, n) = (x.shape.iter().product::<usize>(), y.shape.iter().product::<usize>());
        if len % 4 != 0 {
            return None;
        }
        let extents = Extents { n: n as u32, quads: (len / 4) as u32 };
        let pass = Pass::new("quads", n.div_ceil(GROUP) as u64, 0);
        Program::new(&SHADER, x.dtype, &extents.words(), vec![pass], self.work(&[], operands)).fitting(gpu, operands)
    }

    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        match inputs[0].layout().dtype {
            DType::F32 => sums::<f32>(inputs[0], &mut outputs[0]),
            _ => sums::<f64>(inputs[0], &mut outputs[0]),
        }
        Ok(())
    }
}

fn sums<T: Float>(x: ChunkView<'_>, y: &mut ChunkViewMut<'_>) {
    let y = y.row_mut::<T>(0);
    let (n, len) = (y.len(), x.shape()[0]);
    for (i, y) in y.iter_mut().enumerate() {
        let quads = (4 * i..len).step_by(4 * n.max(1));
        *y = T::from_f64(quads.flat_map(|at| at..(at + 4).min(len)).map(|at| x.at::<T>(0, at).to_f64()).sum());
    }
}
