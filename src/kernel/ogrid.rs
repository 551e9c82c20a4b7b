//! Points at equal distances.
//!
//! Owns: [`OgridParams::point`], by which all such points are made, and the kernel [`Ogrid`]. Must not know: what they are for. Invariant: a point follows from its index
//! alone, in `f64`, and is rounded once, so that it is the same in any chunk.

use std::borrow::Cow;

use super::{Fault, Kernel, Scratch, Work, check_dtypes, check_params, params, rows};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Element, Real};

/// Which points.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct OgridParams {
    /// The first point.
    pub start: f64,
    /// The last one.
    pub stop: f64,
    /// Points in all.
    pub count: u64,
    /// Index of the chunk's first point.
    pub first: u64,
    /// From the index of one point of the chunk to that of the next.
    pub step: u64,
}

impl OgridParams {
    /// A point of the chunk: `index * (stop - start) / (count - 1) + start`, each operation rounded, as `numpy.ogrid` makes them; a single one is `start`.
    #[must_use]
    pub fn point(&self, at: usize) -> f64 {
        if self.count == 1 {
            return self.start;
        }
        let apart = (self.stop - self.start) / (self.count.saturating_sub(1)) as f64;
        (self.first + self.step * at as u64) as f64 * apart + self.start
    }
}

/// All `n` points from `a` to `b`, both included, as `numpy.ogrid[a:b:n*1j]` makes them: see [`OgridParams::point`].
#[must_use]
pub fn ogrid(a: f64, b: f64, n: usize) -> Vec<f64> {
    let all = OgridParams { start: a, stop: b, count: n as u64, first: 0, step: 1 };
    (0..n).map(|at| all.point(at)).collect()
}

/// No input; output: a vector of `f32` or `f64`.
pub struct Ogrid;

impl Kernel for Ogrid {
    fn name(&self) -> Cow<'static, str> {
        "ogrid".into()
    }

    fn check(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Result<()> {
        check_params::<OgridParams>(self, params)?;
        check_dtypes(self, operands, &[&[DType::F32, DType::F64]], 1)
    }

    /// Two operations a point.
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
        let wanted = params::<OgridParams>(bytes);
        match outputs[0].layout().dtype {
            DType::F32 => fill::<f32>(&wanted, &mut outputs[0]),
            _ => fill::<f64>(&wanted, &mut outputs[0]),
        }
        Ok(())
    }
}

fn fill<T: Element + Real>(wanted: &OgridParams, out: &mut ChunkViewMut<'_>) {
    rows::fill::<T>(out, |_, start, piece| {
        piece.iter_mut().zip(start..).for_each(|(out, at)| *out = T::from_f64(wanted.point(at)));
    });
}
