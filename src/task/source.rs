//! Where chunks come from when they are not computed: the trait that file formats implement.
//!
//! Owns: [`ChunkSource`], [`Block`]. Must not know: any format. Invariant: a source is read by region only, from many
//! threads at once, and its data do not change while a graph uses it (it checks, and errs if they did).

use std::any::Any;
use std::sync::Arc;

use super::scan::{PieceSource, scan_by_pieces};
use crate::error::Result;
use crate::kernel::{Held, Lane};
use crate::shape::{ChunkView, ChunkViewMut, DType, Region, Scalar};

/// What a scan hands on: see [`ChunkSource::scan`].
pub enum Block<'a> {
    /// The next elements: a contiguous one-dimensional view in the source's dtype.
    Values(ChunkView<'a>),
    /// The next `count` elements are all `value`, and nothing was read (unwritten chunks).
    Constant {
        /// The value of each, in the source's dtype.
        value: Scalar,
        /// How many there are.
        count: u64,
    },
}

/// An array that is read piece by piece: a dataset in a file, a generator, a remote store. What is asked for are boxes, perhaps with steps along axes.
pub trait ChunkSource: Send + Sync + 'static {
    /// Shape of the array.
    fn shape(&self) -> &[usize];

    /// Dtype of the elements delivered: the stored one, or for what has no [`DType`] the next wider one (`i16`: `i32`).
    fn dtype(&self) -> DType;

    /// Extent of the storage's own chunks, if it has any; reads should cover whole ones.
    fn storage_chunks(&self) -> Option<&[usize]> {
        None
    }

    /// Who it is, for messages and traces: `data.h5:/A`.
    fn name(&self) -> String;

    /// What identifies the content: path, size, modification time. Equal tokens mean equal data.
    fn version_token(&self) -> String;

    /// How `region` will be read, for `explain()`: `positioned reads`, `libhdf5 (deflate)`.
    fn access(&self) -> String;

    /// [`Lane::Compute`] if any thread may read at once; [`Lane::Io`] if reads wait for a lock or for slow media.
    fn lane(&self) -> Lane;

    /// Memory that reading takes beside the output and scratch, whatever is read and by how many threads of the lane: storage
    /// chunks that a library unpacks and keeps. Counted once in each run that reads the source.
    fn held(&self) -> Option<Held> {
        None
    }

    /// What the source keeps of one read for the next ones (see [`ChunkSource::held`]), for as long as somebody has this; all who
    /// have it share it. A run has it until its tasks are over. A read without it keeps nothing.
    fn hold(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }

    /// The value of every element of `region`, in the source's dtype, if they are known to be equal without reading (unwritten chunks).
    fn constant(&self, _region: &Region) -> Option<Scalar> {
        None
    }

    /// Whether [`ChunkSource::read`] also gives the numbers as `f32` and as `f64`. If not, they are converted when they were read.
    fn converts(&self) -> bool {
        false
    }

    /// Reads `region` into `out`, whose shape is the region's and whose dtype is the source's; or `f32` or `f64`, if the source
    /// [converts](ChunkSource::converts).
    ///
    /// A region may have steps: of `x.slice(s![..;3])` every third index is asked for ([`AxisRange::step`](crate::shape::AxisRange)), and
    /// only those elements belong in `out`. A source that can read neighbours only leaves that to [`super::read_stepped`].
    ///
    /// # Errors
    /// [`crate::Error::Io`] when the system refuses, [`crate::Error::File`] when the file is not what it was.
    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()>;

    /// Hands every element of `region` to `each`, in blocks no larger than `scratch`
    /// (best: [`super::SCAN_BLOCK_BYTES`] + 64 for alignment), so that one pass over data needs no memory for them.
    ///
    /// The order depends on the region and the storage only: without storage chunks, C order of the region; with them,
    /// storage chunk by storage chunk (C order of the chunks), in C order within each. So two sources of equal shape and
    /// equal [`ChunkSource::storage_chunks`] scan in the same order. Where blocks begin and end is not part of the promise.
    ///
    /// # Errors
    /// As [`ChunkSource::read`]; `each` may have seen some blocks by then.
    ///
    /// # Panics
    /// If `scratch` cannot hold one aligned element.
    fn scan(&self, region: &Region, scratch: &mut [u8], each: &mut dyn FnMut(Block<'_>)) -> Result<()> {
        struct Whole<'a, S: ?Sized>(&'a S);
        impl<S: ChunkSource + ?Sized> PieceSource for Whole<'_, S> {
            fn constant(&self, region: &Region) -> Option<Scalar> {
                self.0.constant(region)
            }
            fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
                self.0.read(region, out)
            }
        }
        let _hold = self.hold();
        scan_by_pieces(&Whole(self), (self.dtype(), self.storage_chunks()), region, scratch, each)
    }
}
