//! The kernels that sum chunks of files that were read because others want them too.
//!
//! Owns: [`SumRead`], [`WeighRead`]. Must not know: formats. Invariant: each gives the bits that summing the file as it is read gives ([`super::ScanSum`],
//! [`super::ScanWeightedSum`]), so that a sum does not depend on who else reads the file.

use std::borrow::Cow;

use super::tasks::{BLOCK_SCRATCH, Cut, Sides, WEIGH_SCRATCH, scan_sum, weigh};
use crate::error::Result;
use crate::kernel::{Fault, Kernel, Scratch, Work, params};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Layout, Real, Region, Scalar, with_dtype};
use crate::task::{PieceSource, scan_by_pieces};

/// A chunk of a file that is in memory.
struct ReadChunkOf<'a> {
    cut: &'a Cut,
    /// The part of the source that the chunk is.
    region: Region,
    chunk: ChunkView<'a>,
}

impl<'a> ReadChunkOf<'a> {
    fn new(cut: &'a Cut, number: u64, chunk: ChunkView<'a>) -> Self {
        Self { cut, region: cut.chunk(number), chunk }
    }

    /// A piece of the chunk: a part of the source.
    fn piece<R>(&self, piece: &Region, with: impl FnOnce(ChunkView<'_>) -> R) -> R {
        let whole = self.chunk.layout();
        let layout = Layout { dtype: whole.dtype, shape: piece.shape(), strides: whole.strides.clone() };
        let axes = piece.axes().iter().zip(self.region.axes());
        let start: Vec<usize> = axes.map(|(piece, chunk)| (piece.start - chunk.start) / chunk.step.max(1)).collect();
        with(self.chunk.part(&start, &layout))
    }
}

impl PieceSource for ReadChunkOf<'_> {
    fn constant(&self, region: &Region) -> Option<Scalar> {
        self.cut.source.constant(region)
    }

    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        self.piece(region, |piece| out.copy_from(piece));
        Ok(())
    }
}

/// The sum of chunk `i` of a source: `out = [sum a]`, as [`super::ScanSum`] of that chunk alone.
///
/// Parameters: `i` as `u64`. Input: the chunk, in the source's dtype or `f64`. Output: `(1,)` of `f64`. Work: one addition per element.
pub struct SumRead(pub Cut);

impl Kernel for SumRead {
    fn name(&self) -> Cow<'static, str> {
        "sum_read".into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(&operands[..1], 1.0)
    }

    fn scratch_bytes(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> u64 {
        (BLOCK_SCRATCH + 64) as u64
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let held = ReadChunkOf::new(&self.0, params::<u64>(bytes), inputs[0]);
        let of = (inputs[0].layout().dtype, self.0.source.storage_chunks());
        let sum = scan_sum(|each| scan_by_pieces(&held, of, &held.region, scratch.take::<u8>(BLOCK_SCRATCH), each))?;
        outputs[0].slice_mut::<f64>().copy_from_slice(&[sum]);
        Ok(())
    }
}

/// Weighted sum and sum of weights of chunk `i` of two sources: `out = [sum w x, sum w]`, as [`super::ScanWeightedSum`] of that chunk alone.
///
/// Parameters: `i` as `u64`. Inputs: the chunks of values and weights. Output: `(2,)` of `f64`. Work: three operations per element.
pub struct WeighRead {
    /// The values.
    pub x: Cut,
    /// The weights, cut as the values are.
    pub w: Cut,
}

impl Kernel for WeighRead {
    fn name(&self) -> Cow<'static, str> {
        "weigh_read".into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(&operands[..2], 3.0)
    }

    fn scratch_bytes(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> u64 {
        WEIGH_SCRATCH
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let number = params::<u64>(bytes);
        let (x, w) = (ReadChunkOf::new(&self.x, number, inputs[0]), ReadChunkOf::new(&self.w, number, inputs[1]));
        let sides = Sides { cuts: [&self.x, &self.w], regions: [x.region.clone(), w.region.clone()] };
        let pair = weigh(&sides, scratch, &mut |side, piece, to| {
            if side == 0 { &x } else { &w }.piece(piece, |piece| numbers(piece, to));
            Ok(())
        })?;
        outputs[0].slice_mut::<f64>().copy_from_slice(&pair);
        Ok(())
    }
}

/// The elements as `f64`, in C order.
fn numbers(from: ChunkView<'_>, to: &mut [f64]) {
    fn all<T: Real>(from: ChunkView<'_>, to: &mut [f64]) {
        let mut rest = to;
        crate::kernel::for_each_slice(from, |x: &[T]| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(x.len());
            now.iter_mut().zip(x).for_each(|(to, &x)| *to = x.to_f64());
            rest = later;
        });
    }
    let dtype = from.layout().dtype;
    with_dtype!(dtype in reals, T => all::<T>(from, to), _ => {
        let ones = from.rows::<bool>().flatten().map(|&one| f64::from(u8::from(one)));
        to.iter_mut().zip(ones).for_each(|(to, one)| *to = one);
    });
}
