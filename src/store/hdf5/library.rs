//! Reading through libhdf5 what cannot be read by position: filters, compact, virtual and external data, odd numbers.
//!
//! Owns: [`LibrarySource`]. Must not know: how a dataset is found. Invariant: at most one read runs at a time (the library's
//! lock), so this is work for the I/O lane.

use super::about::LibraryMemory;
use super::raw::read_box;
use crate::error::{Bytes, Error, Result};
use crate::kernel::{Held, Lane};
use crate::shape::{ChunkViewMut, DType, Layout, Region};
use crate::store::direct::{DataFile, Fill};
use crate::store::raw_source::{check_output, check_region};
use crate::store::stored::{Stored, Target, with_dtype};
use crate::store::table::ChunkTable;
use crate::task::{ChunkSource, pieces, storage_parts};

/// Bytes read at a time where the output cannot be read into.
const BUFFER_BYTES: usize = 1 << 20;

/// A dataset read through libhdf5.
pub(super) struct LibrarySource {
    pub(super) name: String,
    pub(super) file: DataFile,
    pub(super) dataset: hdf5::Dataset,
    pub(super) shape: Vec<usize>,
    pub(super) dtype: DType,
    pub(super) chunk: Option<Vec<usize>>,
    /// Which chunks were ever written, if that is known.
    pub(super) table: Option<ChunkTable>,
    pub(super) fill: Fill,
    /// Why the library is needed.
    pub(super) why: String,
    /// What the library takes for it.
    pub(super) memory: LibraryMemory,
}

impl LibrarySource {
    fn failed(&self, error: &hdf5::Error) -> Error {
        super::failed(self.file.path(), &format!("cannot read {}", self.dataset.name()), error)
    }

    fn read_as<T: Target>(&self, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        let memory = Stored::of(self.dtype);
        if memory.is_native(T::DTYPE)
            && let Some(bytes) = out.try_slice_mut::<T>().and_then(T::bytes_mut)
        {
            return read_box(&self.dataset, region.axes(), self.dtype, bytes).map_err(|e| self.failed(&e));
        }
        let max = BUFFER_BYTES / self.dtype.bytes();
        let mut buffer = vec![0u8; BUFFER_BYTES.min(region.len() * self.dtype.bytes())];
        let mut decoded = vec![T::default(); max.min(region.len())];
        let mut read = |from: &[usize], piece: &Region| -> Result<()> {
            let bytes = &mut buffer[..piece.len() * self.dtype.bytes()];
            read_box(&self.dataset, piece.axes(), self.dtype, bytes).map_err(|e| self.failed(&e))?;
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
fn scatter<T: Target>(values: &[T], (from, len): (&[usize], &[usize]), out: &mut ChunkViewMut<'_>) {
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
        let chunk = self.chunk.as_ref().filter(|_| most_bytes > 0)?;
        let what = format!("unpacking {}, stored in chunks of {chunk:?} ({} each)", self.name, Bytes(chunk_bytes));
        Some(Held { what, bytes: most_bytes })
    }

    fn constant(&self, region: &Region) -> Option<f64> {
        if self.table.as_ref().is_some_and(|t| t.none_in(region)) { self.fill.exact(self.dtype) } else { None }
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
