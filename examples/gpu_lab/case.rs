//! The kernels that are measured, and the shapes of their operands.
//!
//! Owns: [`Routine`], [`Case`], which sizes belong to which level. Must not know: devices, what is right. Invariant: a case can be run again and again on
//! the same operands: what it updates neither grows without bound nor becomes indefinite.

use std::sync::Arc;

use chunkwise::kernel::dense::{Gemm, Potrf, PotrfParams, ProductParams, Syrk, Trsm};
use chunkwise::kernel::gemv::Gemv;
use chunkwise::kernel::mandelbrot::{Mandelbrot, MandelbrotParams};
use chunkwise::kernel::peak::{Peak, PeakParams, ReadAll};
use chunkwise::kernel::reduce::{ReduceChunk, Reduction};
use chunkwise::kernel::{Kernel, Work};
use chunkwise::shape::{ChunkMeta, DType};

use super::host::{Fill, Operand};

/// The routines, called as their kernels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Routine {
    /// C - A B^T
    Gemm,
    /// C - A B^T, the lower triangle alone
    Syrk,
    /// X L^T = B
    Trsm,
    /// the Cholesky factor of a chunk
    Potrf,
    /// A x
    Gemv,
    /// the sum of all
    Sum,
    /// reads of memory, and nearly nothing else
    Read,
    /// escape counts
    Mandelbrot,
    /// multiply-adds in registers, and nothing else
    Peak,
}

impl Routine {
    /// Whether it is made by the shader of products, of which there are variants.
    pub fn is_product(self) -> bool {
        matches!(self, Self::Gemm | Self::Syrk)
    }
}

/// The shape of an operand, and what it holds at first.
type Shape<'a> = (&'a [usize], Fill);

/// A kernel, and the shapes of its operands.
pub struct Case {
    /// Which one it is.
    pub routine: Routine,
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// Its parameters.
    pub params: Vec<u8>,
    /// Iterations or steps, of those that have them.
    pub steps: u32,
    /// The dtype that it computes in.
    pub dtype: DType,
    inputs: Vec<(Vec<usize>, Fill)>,
    output: (Vec<usize>, Fill),
}

const NOTHING: &[u8; 0] = &[];

impl Case {
    fn new(routine: Routine, dtype: DType, kernel: impl Kernel, inputs: &[Shape<'_>], output: Shape<'_>) -> Self {
        Self {
            routine,
            kernel: Arc::new(kernel),
            params: Vec::new(),
            steps: 0,
            dtype,
            inputs: inputs.iter().map(|(shape, fill)| (shape.to_vec(), *fill)).collect(),
            output: (output.0.to_vec(), output.1),
        }
    }

    fn with(mut self, params: &impl bytemuck::NoUninit) -> Self {
        self.params = bytemuck::bytes_of(params).to_vec();
        self
    }

    fn steps(mut self, steps: u32) -> Self {
        self.steps = steps;
        self
    }

    /// A launch that has almost nothing to do.
    pub fn tiny() -> Self {
        let x: Shape<'_> = (&[4], Fill::Random);
        Self::new(Routine::Gemv, DType::F32, Gemv, &[(&[4, 4], Fill::Random), x], x).with(NOTHING)
    }

    /// All cases in a dtype; `level` 0 is for software, 1 quick, 2 everything.
    pub fn all(level: usize, dtype: DType) -> Vec<Self> {
        let sides: &[usize] = [&[64, 130][..], &[256, 1024, 2048], &[256, 512, 1024, 2048, 4096]][level];
        let mut all: Vec<Self> = sides.iter().flat_map(|&n| Self::dense(n, dtype)).collect();
        // 16 MiB of f32 is the automatic chunk; a large one; an odd one; flat, tall.
        let large = [(2048, 2048), (16_384, 8192), (4097, 4095), (262, 16_000), (65_536, 64)];
        for &(m, k) in [&[(130, 260), (5, 4100)][..], &large[..3], &large][level] {
            let (a, x): (Shape<'_>, Shape<'_>) = ((&[m, k], Fill::Random), (&[k], Fill::Random));
            all.push(Self::new(Routine::Gemv, dtype, Gemv, &[a, x], (&[m], Fill::Random)).with(NOTHING));
        }
        let readers = [1 << 10, 1 << 18][level.min(1)];
        for &len in [&[1 << 16][..], &[1 << 22, 1 << 27], &[1 << 20, 1 << 22, 1 << 25, 1 << 27]][level] {
            let (x, sum) = ((&[len][..], Fill::Positive), ReduceChunk::plain(Reduction::Sum, (&[0], &[len]), dtype));
            all.push(Self::new(Routine::Sum, dtype, sum, &[x], (&[1], Fill::Random)).with(NOTHING));
            all.push(Self::new(Routine::Read, dtype, ReadAll, &[x], (&[readers], Fill::Random)).with(NOTHING));
        }
        for (n, iterations) in [[(64, 20), (64, 200)], [(4096, 20), (4096, 1000)]][level.min(1)] {
            let axes: [Shape<'_>; 2] = [(&[n], Fill::Axis(-1.5)), (&[n], Fill::Axis(-1.0))];
            let counts = Self::new(Routine::Mandelbrot, dtype, Mandelbrot, &axes, (&[n, n], Fill::Random));
            all.push(counts.with(&MandelbrotParams { iterations }).steps(iterations));
        }
        let (steps, n) = [(20, 1 << 10), (2000, 1 << 20)][level.min(1)];
        let peak = Self::new(Routine::Peak, dtype, Peak, &[(&[2], Fill::Random)], (&[n], Fill::Random));
        all.push(peak.with(&PeakParams { steps }).steps(steps));
        all
    }

    /// The tile routines, on chunks of `n` by `n`.
    fn dense(n: usize, dtype: DType) -> [Self; 4] {
        use Fill::{Definite, Random, Triangle};
        let (s, product) = (&[n, n][..], ProductParams { k: n as u64 });
        [
            Self::new(Routine::Gemm, dtype, Gemm::new(), &[(s, Random), (s, Random)], (s, Random)).with(&product),
            Self::new(Routine::Syrk, dtype, Syrk::new(), &[(s, Random), (s, Random)], (s, Random)).with(&product),
            Self::new(Routine::Trsm, dtype, Trsm::new(), &[(s, Triangle)], (s, Random)).with(NOTHING),
            Self::new(Routine::Potrf, dtype, Potrf::new(), &[], (s, Definite)).with(&PotrfParams { row: 0 }),
        ]
    }

    /// Dtypes and shapes of its inputs, and of its output.
    fn all_shapes(&self) -> Vec<(DType, &[usize])> {
        let of_output = match self.routine {
            Routine::Sum => DType::F64,
            Routine::Mandelbrot => DType::I32,
            _ => self.dtype,
        };
        let inputs = self.inputs.iter().map(|(shape, _)| (self.dtype, &shape[..]));
        inputs.chain([(of_output, &self.output.0[..])]).collect()
    }

    /// Shapes of its inputs, and of its output.
    pub fn shapes(&self) -> Vec<&[usize]> {
        self.all_shapes().into_iter().map(|(_, shape)| shape).collect()
    }

    /// Bytes of each operand, the output last.
    pub fn bytes(&self) -> Vec<u64> {
        let bytes = |(dtype, shape): (DType, &[usize])| (shape.iter().product::<usize>() * dtype.bytes()) as u64;
        self.all_shapes().into_iter().map(bytes).collect()
    }

    /// What a launch has to do, as the kernel says.
    pub fn work(&self) -> Work {
        let meta = |(dtype, shape)| ChunkMeta::new(dtype, shape);
        let metas: Vec<_> = self.all_shapes().into_iter().map(meta).collect();
        self.kernel.work(&self.params, &metas)
    }

    /// Its inputs, and what its output holds before.
    pub fn operands(&self) -> (Vec<Operand>, Operand) {
        let fills = self.inputs.iter().map(|(_, fill)| fill).chain([&self.output.1]);
        let all = self.all_shapes().into_iter().zip(fills).zip(1..);
        let mut all: Vec<_> = all.map(|(((dtype, shape), fill), seed)| Operand::new(dtype, shape, *fill, seed)).collect();
        let old = all.remove(self.inputs.len());
        (all, old)
    }
}

impl std::fmt::Display for Case {
    /// `gemv f32 [130, 260] [260] -> [130]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kernel.name(), self.dtype)?;
        self.inputs.iter().try_for_each(|(shape, _)| write!(f, " {shape:?}"))?;
        write!(f, " -> {:?}", self.output.0)
    }
}
