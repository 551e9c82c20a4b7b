//! Reading through libhdf5 what cannot be read by position: filters, compact, virtual and external data, odd numbers.
//!
//! Owns: [`LibrarySource`], [`Closed`]. Must not know: how a dataset is found. Invariant: at most one read runs at a time (the
//! library's lock), so this is work for the I/O lane; the library keeps unpacked chunks for a dataset that is open, so it is
//! open only while somebody reads it, or holds it because reads will follow, and a virtual one for so many of its sources only.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hdf5::Dataset;

use super::about::LibraryMemory;
use super::raw::{open_with_cache, read_box};
use super::sources::{PartIndex, Touched};
use crate::error::{Bytes, Error, Result};
use crate::kernel::{Held, Lane};
use crate::shape::{AxisRange, ChunkViewMut, DType, Layout, Region, Scalar, with_dtype};
use crate::store::direct::DataFile;
use crate::store::raw_source::{check_output, check_region};
use crate::store::stored::{Decoded, Stored};
use crate::store::table::ChunkTable;
use crate::task::{ChunkSource, pieces, storage_parts};

/// Bytes read at a time where the output cannot be read into.
const BUFFER_BYTES: usize = 1 << 20;

/// A dataset read through libhdf5.
pub(super) struct LibrarySource {
    pub(super) name: String,
    pub(super) file: DataFile,
    pub(super) dataset: Closed,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) chunk: Option<Vec<usize>>,
    /// Of a virtual dataset.
    pub(super) parts: Option<PartIndex>,
    /// Which chunks were ever written, if that is known.
    pub(super) table: Option<ChunkTable>,
    pub(super) fill: Scalar,
    /// Why the library is needed.
    pub(super) why: String,
    /// What the library takes for it.
    pub(super) memory: LibraryMemory,
}

/// A dataset that can be opened again.
pub(super) struct Closed {
    /// Where it is found again: in which file, under which path, which may lead into another file.
    from: (hdf5::File, String),
    /// The file that holds it. It stays open: only so does the dataset keep its numbers there.
    _within: hdf5::File,
    about: hdf5::LocationInfo,
    /// The open one, as long as somebody has it.
    open: Mutex<Weak<OpenDataset>>,
}

/// An open dataset, which all who have it share.
#[derive(Default)]
pub(super) struct OpenDataset(Mutex<OpenNow>);

#[derive(Default)]
struct OpenNow {
    /// `None` while it is closed to forget what was unpacked.
    dataset: Option<Dataset>,
    /// What reading a virtual one has opened and unpacked.
    touched: Touched,
}

impl Closed {
    /// Closes a dataset, which was found in `file` under `path`.
    pub(super) fn close(dataset: Dataset, (file, path): (hdf5::File, &str)) -> hdf5::Result<Self> {
        let (within, about) = (dataset.file()?, dataset.loc_info()?);
        Ok(Self { from: (file, path.to_owned()), _within: within, about, open: Mutex::default() })
    }
}

impl LibrarySource {
    fn failed(&self, error: &hdf5::Error) -> Error {
        super::failed(self.file.path(), &format!("cannot read {}", self.dataset.from.1), error)
    }

    /// The dataset, opened if nobody has it open.
    pub(super) fn dataset(&self) -> Result<Arc<OpenDataset>> {
        let mut open = self.dataset.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dataset) = open.upgrade() {
            return Ok(dataset);
        }
        let now = OpenNow { dataset: Some(self.open()?), touched: Touched::default() };
        let dataset = Arc::new(OpenDataset(Mutex::new(now)));
        *open = Arc::downgrade(&dataset);
        Ok(dataset)
    }

    fn open(&self) -> Result<Dataset> {
        let Closed { from: (file, path), about, .. } = &self.dataset;
        let dataset = open_with_cache(file, path, self.memory.cache_bytes).map_err(|e| self.failed(&e))?;
        let now = dataset.loc_info().map_err(|e| self.failed(&e))?;
        if (now.fileno, now.token) != (about.fileno, about.token) || dataset.shape() != self.shape {
            let problem = format!("{path} is not the dataset that it was when it was opened; open it again");
            return Err(Error::file(self.file.path(), problem));
        }
        Ok(dataset)
    }

    /// Whether these elements are in one of the boxes in which a virtual dataset is read; others are read as they come.
    fn within_a_box(&self, axes: &[AxisRange]) -> bool {
        let Some(unit) = self.chunk.as_ref().filter(|_| self.parts.is_some()) else { return true };
        let last = |a: &AxisRange| a.start + a.len.saturating_sub(1) * a.step;
        axes.iter().zip(unit).all(|(a, unit)| a.start / unit == last(a) / unit)
    }

    fn read_box(&self, open: &OpenDataset, axes: &[AxisRange], to: &mut [u8]) -> Result<()> {
        self.read_some(&mut open.0.lock().unwrap_or_else(PoisonError::into_inner), axes, to)
    }

    fn read_some(&self, now: &mut OpenNow, axes: &[AxisRange], to: &mut [u8]) -> Result<()> {
        if let Some(parts) = &self.parts
            && !parts.touch(axes, &mut now.touched)
        {
            if !now.touched.is_empty() {
                *now = OpenNow::default();
            }
            if !parts.touch(axes, &mut now.touched) {
                let Some(axis) = parts.halves(axes) else {
                    // More than is to be open: it is closed at once.
                    let done = self.read_now(now, axes, to);
                    *now = OpenNow::default();
                    return done;
                };
                return self.read_halves(now, axes, axis, to);
            }
        }
        self.read_now(now, axes, to)
    }

    /// As two regions: the bytes of a half lie together only along the first axis that has any extent, else they go through a buffer.
    fn read_halves(&self, now: &mut OpenNow, axes: &[AxisRange], axis: usize, to: &mut [u8]) -> Result<()> {
        let AxisRange { start, len, step } = axes[axis];
        let before: usize = axes[..axis].iter().map(|axis| axis.len).product();
        let row = to.len() / before.max(1);
        let mut at = 0;
        for (first, count) in [(0, len / 2), (len / 2, len - len / 2)] {
            let mut half = axes.to_vec();
            (half[axis].start, half[axis].len) = (start + first * step, count);
            let part = row / len * count;
            if before == 1 {
                self.read_some(now, &half, &mut to[at..at + part])?;
            } else {
                let mut buffer = vec![0u8; part * before];
                self.read_some(now, &half, &mut buffer)?;
                let rows = buffer.chunks_exact(part.max(1)).enumerate();
                rows.for_each(|(i, bytes)| to[i * row + at..][..part].copy_from_slice(bytes));
            }
            at += part;
        }
        Ok(())
    }

    fn read_now(&self, now: &mut OpenNow, axes: &[AxisRange], to: &mut [u8]) -> Result<()> {
        let dataset = match now.dataset.take() {
            Some(dataset) => dataset,
            None => self.open()?,
        };
        read_box(now.dataset.insert(dataset), axes, self.dtype, to).map_err(|e| self.failed(&e))
    }

    fn read_as<T: Decoded>(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        let dataset = self.dataset()?;
        let memory = Stored::of(self.dtype);
        if memory.is_native(T::DTYPE)
            && self.within_a_box(region.axes())
            && let Some(bytes) = out.try_slice_mut::<T>().and_then(T::bytes_mut)
        {
            return self.read_box(&dataset, region.axes(), bytes);
        }
        let max = BUFFER_BYTES / self.dtype.bytes();
        let mut buffer = vec![0u8; BUFFER_BYTES.min(region.len() * self.dtype.bytes())];
        let mut decoded = vec![T::default(); max.min(region.len())];
        let mut read = |from: &[usize], piece: &Region| -> Result<()> {
            let bytes = &mut buffer[..piece.len() * self.dtype.bytes()];
            self.read_box(&dataset, piece.axes(), bytes)?;
            let decoded = &mut decoded[..piece.len()];
            T::decode(memory, bytes, decoded);
            scatter(decoded, (from, &piece.shape()), out);
            Ok(())
        };
        let Some(chunk) = &self.chunk else { return pieces(region, max, &mut read) };
        // Chunk by chunk, so that each is unpacked once, however many pieces it takes.
        storage_parts(region, chunk, &mut |from, part| {
            pieces(part, max, &mut |within, piece| {
                let at: Vec<usize> = from.iter().zip(within).map(|(a, b)| a + b).collect();
                read(&at, piece)
            })
        })
    }
}

/// Copies a C-order box of extent `len` to index `from` of `out`.
fn scatter<T: Decoded>(values: &[T], (from, len): (&[usize], &[usize]), out: &mut ChunkViewMut<'_>) {
    let full = out.shape().to_vec();
    let row = len.last().copied().unwrap_or(1);
    let last = full.len().saturating_sub(1);
    let strides = Layout::contiguous(T::DTYPE, &full[..last]).strides;
    let at = from.last().copied().unwrap_or(0);
    for (number, values) in values.chunks_exact(row.max(1)).enumerate() {
        let mut rest = number;
        let mut r = 0;
        for axis in (0..last).rev() {
            r += (from[axis] + rest % len[axis]) * strides[axis] as usize;
            rest /= len[axis];
        }
        out.row_mut::<T>(r)[at..at + row].copy_from_slice(values);
    }
}

impl ChunkSource for LibrarySource {
    fn converts(&self) -> bool {
        !self.dtype().is_complex()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn storage_chunks(&self) -> Option<&[usize]> {
        self.chunk.as_deref()
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn version_token(&self) -> String {
        format!("{}@{}", self.name, self.file.token())
    }

    fn access(&self) -> String {
        format!("libhdf5: {}", self.why)
    }

    fn lane(&self) -> Lane {
        Lane::Io
    }

    fn held(&self) -> Option<Held> {
        let LibraryMemory { chunk_bytes, most_bytes, .. } = self.memory;
        if most_bytes == 0 {
            return None;
        }
        let (name, each) = (&self.name, Bytes(chunk_bytes));
        let what = match (&self.parts, &self.chunk) {
            (Some(_), Some(_)) => format!("unpacking {name}, read from datasets in chunks of up to {each}"),
            (Some(_), None) => format!("reading {name} from the files that it names"),
            (None, Some(chunk)) => format!("unpacking {name}, stored in chunks of {chunk:?} ({each} each)"),
            (None, None) => return None,
        };
        Some(Held::new(what, most_bytes))
    }

    fn hold(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(self.dataset().ok()?) // if it cannot be opened, reading will say why
    }

    fn constant(&self, region: &Region) -> Option<Scalar> {
        self.table.as_ref().is_some_and(|t| t.none_in(region)).then_some(self.fill)
    }

    fn read(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        check_output(&self.name, self.dtype, region, out)?;
        check_region(&self.shape, region)?;
        self.file.check()?;
        if region.is_empty() {
            return Ok(());
        }
        with_dtype!(out.layout().dtype, T => self.read_as::<T>(region, out))
    }
}
