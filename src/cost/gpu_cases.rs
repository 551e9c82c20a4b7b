//! What a GPU is measured with: kernels, and chunks of rising size.
//!
//! Owns: [`TimedKernel`], [`Case`]. Must not know: how long anything takes. Invariant: a case's work is what its kernel does with its chunks, data included.

use std::sync::Arc;

use super::gpu_bench::{Bench, Trouble, fresh, varied};
use crate::device::{Data, Output};
use crate::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use crate::kernel::gemv::Gemv;
use crate::kernel::mandelbrot::{Mandelbrot, MandelbrotParams};
use crate::kernel::map::{Builder, Elementwise, ScalarOp, ScalarProgram};
use crate::kernel::reduce::{ReduceChunk, Reduction};
use crate::kernel::{Chosen, Kernel, KernelKey, Structure, Variants, Work};
use crate::shape::{ChunkMeta, DType, Layout};

/// A kernel that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimedKernel {
    Gemm,
    Gemv,
    Trsm,
    Syrk,
    Potrf,
    Mandelbrot,
    Sum,
    /// What a reduction takes that computes more than a sum.
    Moments,
    /// Of two chunks: memory is what it waits for.
    Add,
    /// A long polynomial: arithmetic.
    Polynomial,
    /// Transcendental functions.
    Functions,
    /// Arithmetic of integers, of which one is made of each number.
    Integers,
}

/// Columns of the matrices of gemv.
const COLUMNS: usize = 2048;
/// Steps of the long polynomial, and of the arithmetic of integers.
const DEGREE: u8 = 24;
/// A coordinate of points within the Mandelbrot set: each takes all steps.
const WITHIN: f64 = 0.2;

impl TimedKernel {
    /// The most important first: what is left out when time is over is predicted from the rates.
    pub(super) const ALL: [Self; 12] = [
        Self::Gemm,
        Self::Gemv,
        Self::Add,
        Self::Polynomial,
        Self::Functions,
        Self::Integers,
        Self::Sum,
        Self::Moments,
        Self::Trsm,
        Self::Syrk,
        Self::Potrf,
        Self::Mandelbrot,
    ];
    /// Those by which all else is predicted: the others are measured if there is time.
    pub(super) fn is_needed(self) -> bool {
        !matches!(self, Self::Trsm | Self::Syrk | Self::Potrf | Self::Mandelbrot)
    }

    /// Those that have variants.
    pub(super) const VARIED: [Self; 3] = [Self::Gemm, Self::Gemv, Self::Syrk];

    /// From what takes no time anywhere to what fills the largest GPUs: squares of these sides (up to chunks of 16 MiB), rows, elements. What a program reads may be more
    /// than caches hold.
    pub(super) fn sizes(self) -> &'static [usize] {
        match self {
            Self::Gemv => &[128, 512, 2048, 8192],
            Self::Sum => &[1 << 16, 1 << 20, 1 << 24],
            Self::Moments | Self::Add | Self::Polynomial | Self::Functions | Self::Integers => &[1 << 16, 1 << 19, 1 << 22],
            _ => &[128, 256, 512, 1024, 2048],
        }
    }

    /// Numbers of its variants beside what it chooses itself.
    pub(super) fn variants(self) -> std::ops::Range<u8> {
        match self {
            Self::Gemm | Self::Syrk => 1..Variants::PRODUCTS + 1,
            // The first is what it chooses.
            Self::Gemv => 2..Variants::GEMVS + 1,
            _ => 0..0,
        }
    }

    /// Where its variant is chosen.
    pub(super) fn choice(self, variants: &mut Variants, dtype: DType) -> Option<&mut u8> {
        let of = match self {
            Self::Gemm => &mut variants.gemm,
            Self::Gemv => &mut variants.gemv,
            Self::Syrk => &mut variants.syrk,
            _ => return None,
        };
        Some(&mut of[usize::from(dtype == DType::F64)])
    }

    pub(super) fn kernel(self, dtype: DType) -> Arc<dyn Kernel> {
        match self {
            Self::Gemm => Arc::new(Gemm::new()),
            Self::Gemv => Arc::new(Gemv),
            Self::Trsm => Arc::new(Trsm::new()),
            Self::Syrk => Arc::new(Syrk::new()),
            Self::Potrf => Arc::new(Potrf::new()),
            Self::Mandelbrot => Arc::new(Mandelbrot),
            Self::Sum => Arc::new(ReduceChunk::plain(Reduction::Sum, (&[0], &[1 << 20]), dtype)),
            Self::Moments => Arc::new(ReduceChunk::plain(Reduction::Moments, (&[0], &[1 << 20]), dtype)),
            Self::Add | Self::Polynomial | Self::Functions | Self::Integers => Arc::new(Elementwise::new(self.program(dtype))),
        }
    }

    /// What it computes of each number, or of two.
    fn program(self, dtype: DType) -> Arc<ScalarProgram> {
        let mut b = Builder::new();
        let x = b.input(dtype);
        let whole = if dtype == DType::F64 { DType::I64 } else { DType::I32 };
        let number = |b: &mut Builder, dtype, of: u8| {
            let of = b.constant(of);
            b.cast(of, dtype)
        };
        let made = match self {
            Self::Polynomial => (0..DEGREE).fold(x, |sum, k| {
                let (product, term) = (b.apply(ScalarOp::Mul, &[sum, x]), number(&mut b, dtype, k + 1));
                b.apply(ScalarOp::Add, &[product, term])
            }),
            Self::Functions => [ScalarOp::Sin, ScalarOp::Exp, ScalarOp::Log].iter().fold(x, |of, &op| b.apply(op, &[of])),
            Self::Integers => {
                let first = b.cast(x, whole);
                let last = (0..DEGREE).fold(first, |of, k| {
                    let (factor, bits) = (number(&mut b, whole, 2 * k + 3), number(&mut b, whole, k % 7 + 1));
                    let (product, down) = (b.apply(ScalarOp::Mul, &[of, factor]), b.apply(ScalarOp::Shr, &[of, bits]));
                    b.apply(ScalarOp::Xor, &[product, down])
                });
                b.cast(last, dtype)
            }
            _ => {
                let y = b.input(dtype);
                b.apply(ScalarOp::Add, &[x, y])
            }
        };
        Arc::new(b.finish(made).0)
    }

    /// [`Kernel::structure`].
    pub(super) fn structure(self, dtype: DType) -> Option<Structure> {
        self.kernel(dtype).structure()
    }

    /// [`KernelKey::name_and_version`].
    pub(super) fn name(self, dtype: DType) -> String {
        KernelKey::new(&*self.kernel(dtype), 0).name_and_version().to_owned()
    }
}

/// A kernel, and what it is run on.
pub(super) struct Case {
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) params: Vec<u8>,
    pub(super) work: Work,
    routine: TimedKernel,
    dtype: DType,
    inputs: Vec<Vec<usize>>,
    output: (DType, Vec<usize>),
}

impl Case {
    /// The routine on chunks of this size, by a variant; 0 leaves that to the kernel.
    pub(super) fn new(routine: TimedKernel, dtype: DType, size: usize, variant: u8) -> Self {
        let square = vec![size, size];
        let (inputs, output) = match routine {
            TimedKernel::Gemm | TimedKernel::Syrk => (vec![square.clone(); 2], (dtype, square)),
            TimedKernel::Trsm => (vec![square.clone()], (dtype, square)),
            TimedKernel::Potrf => (vec![], (dtype, square)),
            TimedKernel::Gemv => (vec![vec![size, COLUMNS], vec![COLUMNS]], (dtype, vec![size])),
            TimedKernel::Mandelbrot => (vec![vec![size]; 2], (DType::I32, square)),
            TimedKernel::Sum => (vec![vec![size]], (DType::F64, vec![1])),
            TimedKernel::Moments => (vec![vec![size]], (DType::F64, vec![3])),
            TimedKernel::Add => (vec![vec![size]; 2], (dtype, vec![size])),
            TimedKernel::Polynomial | TimedKernel::Functions | TimedKernel::Integers => (vec![vec![size]], (dtype, vec![size])),
        };
        Self::of(routine, dtype, (inputs, output), variant)
    }

    /// Cases by which a variant shows whether it gives the same bits: sizes that no tile divides, rows that 4 divides and others, long ones.
    pub(super) fn checks(routine: TimedKernel, dtype: DType, variant: u8) -> Vec<Self> {
        match routine {
            TimedKernel::Gemv => {
                let of = |[m, k]: [usize; 2]| Self::of(routine, dtype, (vec![vec![m, k], vec![k]], (dtype, vec![m])), variant);
                [[67, 1028], [8, 16384]].map(of).into()
            }
            _ => [320, 322].map(|n| Self::new(routine, dtype, n, variant)).into(),
        }
    }

    fn of(routine: TimedKernel, dtype: DType, (inputs, output): (Vec<Vec<usize>>, (DType, Vec<usize>)), variant: u8) -> Self {
        let mut variants = Variants::AUTOMATIC;
        if let Some(choice) = routine.choice(&mut variants, dtype) {
            *choice = variant;
        }
        let kernel = Chosen::of(routine.kernel(dtype), variants);
        let params = match routine {
            TimedKernel::Gemm | TimedKernel::Syrk => bytemuck::bytes_of(&ProductParams { k: inputs[0][1] as u64 }).to_vec(),
            TimedKernel::Potrf => bytemuck::bytes_of(&PotrfParams { row: 0 }).to_vec(),
            TimedKernel::Mandelbrot => bytemuck::bytes_of(&MandelbrotParams { iterations: 64 }).to_vec(),
            _ => Vec::new(),
        };
        let meta = |dtype, shape| ChunkMeta::new(dtype, shape);
        let all: Vec<_> = inputs.iter().map(|shape| meta(dtype, shape)).chain([meta(output.0, &output.1)]).collect();
        let work = kernel.work(&params, &all);
        Self { kernel, params, work, routine, dtype, inputs, output }
    }

    /// Its work as one number, by which times of one routine grow.
    pub(super) fn units(&self) -> f64 {
        (self.work.flops + self.work.bytes).max(1.0)
    }

    /// Chunks for it, on the device.
    pub(super) fn chunks(&self, bench: &Bench<'_>) -> Result<(Vec<Data>, Output), Trouble> {
        let input = |shape: &Vec<usize>| match (self.routine, &shape[..]) {
            (TimedKernel::Gemv | TimedKernel::Sum, _) => bench.filled(self.dtype, shape, WITHIN),
            (_, &[n, _]) => bench.matrix(self.dtype, n),
            _ => bench.chunk(self.dtype, shape, |_| WITHIN),
        };
        let inputs = self.inputs.iter().map(input).collect::<Result<_, _>>()?;
        let mut output = fresh(&bench.remote(&Layout::contiguous(self.output.0, &self.output.1))?);
        if self.output.0 == self.dtype && self.output.1.len() == 2 {
            output.copy_in = Some(bench.matrix(self.dtype, self.output.1[0])?);
        }
        Ok((inputs, output))
    }

    /// What the device makes of chunks of which no two elements are alike: the bytes that are promised.
    pub(super) fn result(&self, bench: &Bench<'_>) -> Result<Vec<u8>, Trouble> {
        let input = |shape: &Vec<usize>| bench.chunk(self.dtype, shape, varied);
        let inputs: Vec<Data> = self.inputs.iter().map(input).collect::<Result<_, _>>()?;
        let mut output = fresh(&bench.remote(&Layout::contiguous(self.output.0, &self.output.1))?);
        output.copy_in = Some(bench.chunk(self.output.0, &self.output.1, varied)?);
        bench.launch(&self.kernel, &self.params, (&inputs, std::slice::from_ref(&output)))?;
        let mut bytes = bench.bytes(&output.to)?;
        if self.routine == TimedKernel::Syrk {
            // What is above the diagonal may be anything: how much of it is written depends on the tiles.
            let (n, size) = (self.output.1[0], self.dtype.bytes());
            bytes.chunks_exact_mut(n * size).enumerate().for_each(|(row, bytes)| bytes[(row + 1) * size..].fill(0));
        }
        Ok(bytes)
    }
}
