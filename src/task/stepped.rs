//! Reading with steps where only whole boxes can be read.
//!
//! Owns: [`read_stepped`]. Must not know: any source. Invariant: what is read beside what is wanted, and the memory for that, are bounded whatever the
//! region; each wanted element is read once.

use super::SCAN_BLOCK_BYTES;
use super::scan::storage_parts;
use crate::error::Result;
use crate::shape::{AxisRange, ChunkView, ChunkViewMut, Layout, Region, with_dtype};

/// Indices that are farther apart are read one by one: what is between them would be most of the work.
const NEAR: usize = 8;

/// Reads a region that may have steps, for a [`ChunkSource`](super::ChunkSource) that can read boxes of neighbours only: `read` is called with boxes all
/// of whose steps are 1, and where to put their elements. A region without steps is one such box. Of one with steps, boxes of at most
/// [`SCAN_BLOCK_BYTES`] are read and what is wanted is taken from them; along an axis whose step is more than 8, each index by itself.
///
/// ```
/// use chunkwise::ext::{ChunkSource, ChunkViewMut, Lane, Region, read_stepped};
/// use chunkwise::{Array, DType, Result, prelude::*};
///
/// /// The numbers from 0 on, of which some that follow each other can be had.
/// struct Numbers([usize; 1]);
/// impl Numbers {
///     fn from(&self, start: usize, out: &mut [f64]) {
///         out.iter_mut().zip(start..).for_each(|(out, n)| *out = n as f64);
///     }
/// }
/// impl ChunkSource for Numbers {
///     fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
///         read_stepped(region, out, |part, out| Ok(self.from(part.start()[0], out.slice_mut())))
///     }
///     fn shape(&self) -> &[usize] {
///         &self.0
///     }
///     fn dtype(&self) -> DType {
///         DType::F64
///     }
///     fn name(&self) -> String {
///         "numbers".into()
///     }
///     fn version_token(&self) -> String {
///         String::new()
///     }
///     fn access(&self) -> String {
///         "counted".into()
///     }
///     fn lane(&self) -> Lane {
///         Lane::Compute
///     }
/// }
///
/// let numbers = Array::<f64>::from_source(std::sync::Arc::new(Numbers([100])))?;
/// assert_eq!(numbers.slice(s![3..;40]).compute()?, ndarray::arr1(&[3.0, 43.0, 83.0]).into_dyn());
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Errors
/// Those of `read`.
///
/// # Panics
/// If `out` has not the region's shape.
pub fn read_stepped(
    region: &Region,
    out: &mut ChunkViewMut<'_>,
    mut read: impl FnMut(&Region, &mut ChunkViewMut<'_>) -> Result<()>,
) -> Result<()> {
    assert_eq!(out.shape(), region.shape(), "an output of the region's shape");
    if region.axes().iter().all(|a| a.len <= 1 || a.step == 1) {
        return read(&bounds(region), out);
    }
    let dtype = out.layout().dtype;
    let cut = cuts(region, SCAN_BLOCK_BYTES / dtype.bytes());
    let (strides, whole) = (out.layout().strides.clone(), Region::all(&region.shape()));
    with_dtype!(dtype, T => {
        let mut buffer: Vec<T> = Vec::new();
        storage_parts(&whole, &cut, &mut |from, part| {
            let piece = region.part(part);
            let bounds = bounds(&piece);
            let place = Layout { dtype, shape: part.shape(), strides: strides.clone() };
            let mut place = out.part_mut(from, &place);
            if bounds.len() == piece.len() {
                return read(&bounds, &mut place);
            }
            buffer.resize(bounds.len().max(buffer.len()), T::default());
            let mut layout = Layout::contiguous(dtype, &bounds.shape());
            let read_to = &mut buffer[..bounds.len()];
            read(&bounds, &mut ChunkViewMut::from_slice(read_to, &layout))?;
            layout.strides.iter_mut().zip(piece.axes()).for_each(|(stride, a)| *stride *= a.step as isize);
            layout.shape = piece.shape();
            place.copy_from(ChunkView::from_slice(read_to, &layout));
            Ok(())
        })
    })
}

/// The box from the first to the last index of a region along each axis.
fn bounds(region: &Region) -> Region {
    let all = |a: &AxisRange| AxisRange { start: a.start, len: a.len.saturating_sub(1) * a.step + a.len.min(1), step: 1 };
    Region::from_axes(region.axes().iter().map(all).collect())
}

/// Indices along each axis that are read together, so that their box has at most `room` elements.
fn cuts(region: &Region, mut room: usize) -> Vec<usize> {
    let mut cut = vec![1; region.axes().len()];
    for (cut, a) in cut.iter_mut().zip(region.axes()).rev() {
        if a.step <= NEAR {
            *cut = ((room.max(1) - 1) / a.step + 1).min(a.len.max(1));
        }
        room /= (*cut - 1) * a.step + 1;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::DType;

    #[test]
    fn steps_are_taken_out_of_boxes() {
        let shape = [400, 30, 700];
        let axis = |(start, len, step)| AxisRange { start, len, step };
        for axes in [
            [(0, 400, 1), (3, 9, 3), (1, 233, 3)],
            [(399, 1, 7), (0, 30, 1), (5, 600, 1)],
            [(2, 5, 79), (29, 1, 1), (0, 8, 99)],
            [(0, 0, 1), (0, 30, 1), (0, 3, 2)],
            [(1, 199, 2), (0, 2, 9), (0, 350, 2)],
        ] {
            let region = Region::from_axes(axes.map(axis).to_vec());
            let layout = Layout::contiguous(DType::I32, &region.shape());
            let (mut out, mut read) = (vec![-1i32; region.len()], 0);
            read_stepped(&region, &mut ChunkViewMut::from_slice(&mut out, &layout), |part, out| {
                assert!(part.axes().iter().all(|a| a.step == 1) && part.is_within(&shape), "{part:?}");
                read += part.len();
                let [a, b, c] = [0, 1, 2].map(|axis| part.axes()[axis]);
                for (row, (i, j)) in (0..a.len).flat_map(|i| (0..b.len).map(move |j| (i, j))).enumerate() {
                    for k in 0..c.len {
                        out.set(row, k, (((a.start + i) * 30 + b.start + j) * 700 + c.start + k) as i32);
                    }
                }
                Ok(())
            })
            .unwrap();
            let [a, b, c] = axes;
            let index = |(start, _, step): (usize, usize, usize), at: usize| start + at * step;
            let mut wanted = Vec::new();
            for i in 0..a.1 {
                for j in 0..b.1 {
                    wanted.extend((0..c.1).map(|k| ((index(a, i) * 30 + index(b, j)) * 700 + index(c, k)) as i32));
                }
            }
            assert_eq!(out, wanted, "{axes:?}");
            assert!(read <= NEAR.pow(3) * region.len(), "{read} for {axes:?}");
        }
    }

    #[test]
    fn boxes_are_bounded() {
        let region = Region::from_axes(
            [(0, 1 << 30, 2), (0, 1000, 3)].map(|(start, len, step)| AxisRange { start, len, step }).to_vec(),
        );
        assert_eq!(cuts(&region, 65_536), [11, 1000]);
        assert_eq!(cuts(&region, 100), [1, 34]);
    }
}
