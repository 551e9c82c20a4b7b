//! The kernels that read, write and sum chunks of files.
//!
//! Owns: [`ReadChunk`], [`WriteChunk`], [`ScanSum`], [`ScanWeightedSum`]. Must not know: formats. Invariant: a task's only
//! parameters are numbers of chunks (`u64`), so that a graph of a million chunks holds one grid and no regions.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use crate::error::Error;
use crate::kernel::block_sum::BlockSum;
use crate::kernel::{Fault, Held, Kernel, Lane, Scratch, Work, params};
use crate::shape::{AxisRange, ChunkGrid, ChunkMeta, ChunkView, ChunkViewMut, DType, Layout, Region, Scalar, with_dtype};
use crate::task::{Block, ChunkSink, ChunkSource, SCAN_BLOCK_BYTES, pieces, storage_parts};

/// Scratch for one scanned block, with what aligning it may cost.
pub(super) const BLOCK_SCRATCH: usize = SCAN_BLOCK_BYTES + 64;

/// What is read of a source, and how that is cut.
#[derive(Clone)]
pub struct Cut {
    /// The source.
    pub source: Arc<dyn ChunkSource>,
    /// What is read of it.
    pub region: Region,
    /// How that is cut: a grid of the region's shape.
    pub grid: ChunkGrid,
}

impl Cut {
    /// The part of the source that is chunk number `number`.
    pub(super) fn chunk(&self, number: u64) -> Region {
        self.region.part(&self.grid.region(number as usize))
    }

    /// From the first index of chunk `i` to the last of chunk `j`, where the parameters are `[i, j]`.
    fn chunks(&self, bytes: &[u8]) -> Region {
        let [first, last] = params::<[u64; 2]>(bytes).map(|number| self.grid.region(number as usize));
        let axes = first.axes().iter().zip(last.axes());
        let axes = axes.map(|(a, b)| AxisRange { start: a.start, len: b.start + b.len - a.start, step: 1 });
        self.region.part(&Region::from_axes(axes.collect()))
    }
}

/// Bytes of the operands.
fn moved(operands: &[ChunkMeta<'_>]) -> f64 {
    operands.iter().map(|o| o.shape.iter().product::<usize>() as f64 * o.dtype.bytes() as f64).sum()
}

/// Reads chunk `i` of a source into its output, in the output's dtype (the source's, or `f32`, `f64`).
///
/// Parameters: `i` as `u64`. Inputs: none. Output: the chunk's shape. Work: the output's bytes.
pub struct ReadChunk(pub Cut);

impl Kernel for ReadChunk {
    fn name(&self) -> Cow<'static, str> {
        "read_chunk".into()
    }

    fn lane(&self) -> Lane {
        self.0.source.lane()
    }

    /// A disk or a network may take any time.
    fn is_steady(&self) -> bool {
        false
    }

    fn held(&self) -> Vec<Held> {
        self.0.source.held().into_iter().collect()
    }

    fn hold(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        self.0.source.hold().into_iter().collect()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work { flops: 0.0, bytes: moved(operands) }
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        Ok(self.0.source.read(&self.0.chunk(params::<u64>(bytes)), &mut outputs[0])?)
    }
}

/// Writes its input to chunk `i` of a sink, whose dtype it has.
///
/// Parameters: `i` as `u64`. Inputs: the chunk. Outputs: none. Work: the input's bytes.
pub struct WriteChunk {
    /// What is written.
    pub sink: Arc<dyn ChunkSink>,
    /// How it is cut.
    pub grid: ChunkGrid,
}

impl Kernel for WriteChunk {
    fn name(&self) -> Cow<'static, str> {
        "write_chunk".into()
    }

    fn lane(&self) -> Lane {
        Lane::Io
    }

    /// A disk or a network may take any time.
    fn is_steady(&self) -> bool {
        false
    }

    /// What the sink says, and what its copies of chunks take, one on each thread of the I/O lane.
    fn held(&self) -> Vec<Held> {
        let dtype = self.sink.dtype();
        let chunk = self.grid.largest().into_iter().fold(dtype.bytes() as u64, |bytes, n| bytes.saturating_mul(n as u64));
        let copies = if self.sink.gathers() { 2 * chunk } else { 0 };
        let what = format!("copies of chunks for {}", self.sink.name());
        let copies = (copies > 0).then(|| Held::new(what, copies).taking_turns("chunkwise: copies of chunks"));
        self.sink.held().into_iter().chain(copies).collect()
    }

    fn work(&self, _params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work { flops: 0.0, bytes: moved(operands) }
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        inputs: &[ChunkView<'_>],
        _outputs: &mut [ChunkViewMut<'_>],
        _scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        Ok(self.sink.write(&self.grid.region(params::<u64>(bytes) as usize), inputs[0])?)
    }
}

/// The sum of the region of chunks `i` to `j` of a source, without its elements ever being in memory at once: `out = [sum a]`.
///
/// Parameters: `[i, j]` as `u64`. Inputs: none. Output: `(1,)` of `f64`. The sum is that of the elements in scan order by
/// [`crate::kernel`]'s block sum, plus value x count for runs that were never written; all in `f64`, to which 64-bit integers are rounded
/// first; booleans count as 0 and 1.
/// Work: one addition per element, the region's bytes.
pub struct ScanSum(pub Cut);

impl Kernel for ScanSum {
    fn name(&self) -> Cow<'static, str> {
        "scan_sum".into()
    }

    fn lane(&self) -> Lane {
        self.0.source.lane()
    }

    /// A disk or a network may take any time.
    fn is_steady(&self) -> bool {
        false
    }

    fn held(&self) -> Vec<Held> {
        self.0.source.held().into_iter().collect()
    }

    fn hold(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        self.0.source.hold().into_iter().collect()
    }

    fn work(&self, params: &[u8], _operands: &[ChunkMeta<'_>]) -> Work {
        let region = &self.0.chunks(params);
        if self.0.source.constant(region).is_some() {
            return Work::default(); // never written: nothing is read
        }
        let elements = region.len() as f64;
        Work { flops: elements, bytes: elements * self.0.source.dtype().bytes() as f64 }
    }

    fn scratch_bytes(&self, _params: &[u8], _operands: &[ChunkMeta<'_>]) -> u64 {
        (BLOCK_SCRATCH + 64) as u64
    }

    fn run_cpu(
        &self,
        params: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let region = &self.0.chunks(params);
        let sum = scan_sum(|each| self.0.source.scan(region, scratch.take::<u8>(BLOCK_SCRATCH), each))?;
        outputs[0].slice_mut::<f64>().copy_from_slice(&[sum]);
        Ok(())
    }
}

/// The sum of a region that `scan` goes through.
pub(super) fn scan_sum(scan: impl FnOnce(&mut dyn FnMut(Block<'_>)) -> Result<(), Error>) -> Result<f64, Error> {
    let mut sum = BlockSum::new();
    let mut constant = 0.0;
    scan(&mut |block| match block {
        Block::Values(values) => push(&mut sum, values),
        Block::Constant { value, count } => constant += value.to_f64() * count as f64,
    })?;
    Ok(sum.finish() + constant)
}

fn push(sum: &mut BlockSum, values: ChunkView<'_>) {
    let dtype = values.layout().dtype;
    with_dtype!(dtype in reals, T => sum.push(values.slice::<T>()), _ => sum.push(bytemuck::cast_slice::<bool, u8>(values.slice::<bool>())));
}

/// Weighted sum and sum of weights of the region of chunks `i` to `j` of two sources of one shape: `out = [sum w x, sum w]`, in `f64`.
///
/// Parameters: `[i, j]` as `u64`. Inputs: none. Output: `(2,)` of `f64`. Elements are taken in the scan order of `x`; the product
/// of two `f32` is exact. Work: three operations per element, the bytes of both regions.
pub struct ScanWeightedSum {
    x: Cut,
    w: Cut,
}

impl ScanWeightedSum {
    /// Of values `x` and weights `w`, both cut alike.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not.
    pub fn new(x: Cut, w: Cut) -> Result<Self, Error> {
        if x.grid == w.grid {
            return Ok(Self { x, w });
        }
        let wanted = format!("weights of shape {:?}, cut as the values are", x.region.shape());
        Err(Error::Shape { op: "weighted sum", found: w.region.shape(), wanted })
    }

    /// What is weighed by a task of these parameters.
    fn sides(&self, params: &[u8]) -> Sides<'_> {
        Sides { cuts: [&self.x, &self.w], regions: [self.x.chunks(params), self.w.chunks(params)] }
    }
}

/// Regions of two sources, values and weights.
pub(super) struct Sides<'a> {
    pub(super) cuts: [&'a Cut; 2],
    pub(super) regions: [Region; 2],
}

impl Sides<'_> {
    /// Value and weight, if neither region was ever written, in `f64` as they would be read.
    fn constants(&self) -> Option<(f64, f64)> {
        let constant = |side: usize| self.cuts[side].source.constant(&self.regions[side]).map(Scalar::to_f64);
        constant(0).zip(constant(1))
    }
}

impl Kernel for ScanWeightedSum {
    fn name(&self) -> Cow<'static, str> {
        "scan_weighted_sum".into()
    }

    fn lane(&self) -> Lane {
        if self.x.source.lane() == Lane::Io { Lane::Io } else { self.w.source.lane() }
    }

    /// A disk or a network may take any time.
    fn is_steady(&self) -> bool {
        false
    }

    fn held(&self) -> Vec<Held> {
        self.x.source.held().into_iter().chain(self.w.source.held()).collect()
    }

    fn hold(&self) -> Vec<Arc<dyn Any + Send + Sync>> {
        self.x.source.hold().into_iter().chain(self.w.source.hold()).collect()
    }

    fn work(&self, params: &[u8], _operands: &[ChunkMeta<'_>]) -> Work {
        let sides = self.sides(params);
        if sides.constants().is_some() {
            return Work::default(); // never written: nothing is read
        }
        let elements = sides.regions[0].len() as f64;
        let bytes = self.x.source.dtype().bytes() + self.w.source.dtype().bytes();
        Work { flops: 3.0 * elements, bytes: elements * bytes as f64 }
    }

    fn scratch_bytes(&self, _params: &[u8], _operands: &[ChunkMeta<'_>]) -> u64 {
        WEIGH_SCRATCH
    }

    fn run_cpu(
        &self,
        params: &[u8],
        _inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        scratch: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        let sides = self.sides(params);
        let pair = weigh(&sides, scratch, &mut |side, piece, to| {
            let layout = Layout::contiguous(DType::F64, &piece.shape());
            sides.cuts[side].source.read(piece, &mut ChunkViewMut::from_slice(to, &layout))
        })?;
        outputs[0].slice_mut::<f64>().copy_from_slice(&pair);
        Ok(())
    }
}

/// Reads a piece of the values (0) or of the weights (1), a part of their source, as `f64`.
type ReadPiece<'a> = dyn FnMut(usize, &Region, &mut [f64]) -> Result<(), Error> + 'a;

/// What [`weigh`] takes: both blocks together are as large as one scanned block, to stay in the core's cache.
pub(super) const WEIGH_SCRATCH: u64 = 2 * (SCAN_BLOCK_BYTES / 2 + 64) as u64;

/// Weighted sum and sum of weights, of pieces that `read` gives as `f64`: of the values (0) or the weights (1), a piece of their source.
pub(super) fn weigh(sides: &Sides<'_>, scratch: &mut Scratch<'_>, read: &mut ReadPiece<'_>) -> Result<[f64; 2], Error> {
    let [region, weights_region] = &sides.regions;
    if let Some((x, w)) = sides.constants() {
        let n = region.len() as f64;
        return Ok([x * w * n, w * n]);
    }
    let max = SCAN_BLOCK_BYTES / 2 / size_of::<f64>();
    let (x, w) = (scratch.take::<f64>(max), scratch.take::<f64>(max));
    let (mut products, mut weights) = (BlockSum::new(), BlockSum::new());
    // The piece of the values that begins at index `at` + `further` of their region, and that of the weights there.
    let mut add = |at: &[usize], further: &[usize], piece: &Region| {
        let (x, w) = (&mut x[..piece.len()], &mut w[..piece.len()]);
        let start = at.iter().zip(further).map(|(at, further)| at + further);
        let inner = start.zip(piece.shape()).map(|(start, len)| AxisRange { start, len, step: 1 });
        let there = weights_region.part(&Region::from_axes(inner.collect()));
        read(0, piece, x)?;
        read(1, &there, w)?;
        x.iter_mut().zip(&*w).for_each(|(x, w)| *x *= w);
        products.push(x);
        weights.push(w);
        Ok(())
    };
    match sides.cuts[0].source.storage_chunks() {
        Some(stored) => storage_parts(region, stored, &mut |at, part| pieces(part, max, &mut |further, p| add(at, further, p))),
        None => pieces(region, max, &mut |at, p| add(&vec![0; at.len()], at, p)),
    }?;
    Ok([products.finish(), weights.finish()])
}
