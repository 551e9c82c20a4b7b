//! Chunks that are compressed as they are written.
//!
//! Owns: [`Packed`], [`Library`]. Must not know: who makes the dataset. Whole chunks are packed here, outside every lock, as libhdf5's filters `shuffle` and `deflate` would pack
//! them; parts of chunks go through libhdf5. Invariant: libhdf5 is not given more to write than the disk has room for: it does not survive a write that fails
//! while it closes a dataset. So room is made first, through the file's own descriptor; and after an error of libhdf5 nothing of the file is used any more.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::create::{Temporary, open_temporary};
use super::existing::Wanted;
use super::failed;
use super::raw::{write_box, write_packed};
use crate::error::{Error, Result};
use crate::kernel::Held;
use crate::shape::{AxisRange, ChunkGrid, ChunkView, ChunkViewMut, DType, Layout, Region, with_dtype};
use crate::store::preferred::preferred_chunks;
use crate::store::stored::Decoded;
use crate::store::whole::WholeFile;

/// Held while libhdf5 has the temporary file open: it is opened to be read and to be written, and libhdf5 allows one of these at a time. Whether it left the file
/// in a state that is not known.
#[derive(Default)]
pub(super) struct Library(Mutex<bool>);

impl Library {
    /// Waits until nobody has the file open.
    pub(super) fn take(&self) -> MutexGuard<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A dataset whose chunks are compressed.
pub(super) struct Packed {
    pub(super) name: String,
    pub(super) dtype: DType,
    /// Its chunks.
    pub(super) grid: ChunkGrid,
    /// How well they are packed, and whether they are shuffled before.
    pub(super) deflate: (u8, bool),
    pub(super) library: Arc<Library>,
}

/// Chunks for libhdf5.
enum Prepared<'a> {
    /// Whole ones, packed: where each begins in the dataset.
    Packed(Vec<(Vec<usize>, Vec<u8>)>),
    /// A region that it is to pack, as it lies.
    Plain(&'a [u8]),
    /// The same, copied together.
    Gathered(Box<dyn AsRef<[u8]>>),
}

/// Elements, as bytes.
struct Gathered<T>(Vec<T>);

impl<T: Decoded> AsRef<[u8]> for Gathered<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Bytes of an automatic chunk.
const COMPRESSED_BYTES: usize = 1 << 20;
/// Errs if it cannot be compressed so; chunks for what is compressed.
pub(super) fn compressible(wanted: &mut Wanted<'_>) -> Result<()> {
    let Some((level, _)) = wanted.deflate else { return Ok(()) };
    if level > 9 {
        return Err(Error::argument("level of compression", level, "choose 0 (none) to 9 (most)"));
    }
    if wanted.shape.is_empty() || wanted.shape.contains(&0) {
        (wanted.deflate, wanted.chunks) = (None, None);
    } else if wanted.chunks.is_none() {
        wanted.chunks = Some(preferred_chunks(wanted.shape, wanted.dtype, None, COMPRESSED_BYTES).into());
    }
    Ok(())
}

/// What libhdf5 may need for a chunk beside its bytes.
const BESIDE_BYTES: u64 = 4096;
/// What it may need for a write.
const SLACK_BYTES: u64 = 1 << 20;

/// How many threads write to a sink: those of the I/O lane.
const THREADS: u64 = 2;
/// Bytes that are shuffled together, so that they stay in the cache.
const SHUFFLED_BYTES: usize = 32 << 10;

impl Packed {
    fn chunk_bytes(&self) -> u64 {
        self.grid.largest().iter().fold(self.dtype.bytes() as u64, |bytes, &n| bytes.saturating_mul(n as u64))
    }

    /// What packing takes: a chunk, and what it is packed into, for each thread, whatever datasets these write to. libhdf5 takes no more for parts of chunks, which it
    /// packs one at a time.
    pub(super) fn held(&self) -> Held {
        let chunk_bytes = self.chunk_bytes();
        let what = format!("packing {}, stored in chunks of {:?} ({chunk_bytes} bytes each)", self.name, self.grid.largest());
        let each = chunk_bytes.saturating_mul(2).saturating_add(SLACK_BYTES);
        Held::new(what, each.saturating_mul(THREADS)).taking_turns("chunkwise: packing")
    }

    /// The chunks that a region touches: the first on each axis, and how many.
    fn touched(&self, region: &Region) -> (Vec<usize>, Vec<usize>) {
        let along = |(axis, range): (usize, &AxisRange)| {
            let last = range.start + range.len.saturating_sub(1) * range.step;
            let first = self.grid.chunk_of(axis, range.start);
            (first, self.grid.chunk_of(axis, last) + 1 - first)
        };
        region.axes().iter().enumerate().map(along).unzip()
    }

    /// Packs a region, if it is of whole chunks.
    fn ready<'a>(&self, region: &Region, chunk: ChunkView<'a>) -> Result<Prepared<'a>> {
        let (first, counts) = self.touched(region);
        let last: Vec<usize> = first.iter().zip(&counts).map(|(&first, &n)| first + n - 1).collect();
        let (begin, end) = (self.grid.region_at(&first), self.grid.region_at(&last));
        let is_whole = region.axes().iter().zip(begin.axes().iter().zip(end.axes())).all(|(range, (begin, end))| {
            (range.start, range.start + range.len) == (begin.start, end.start + end.len) && (range.step == 1 || range.len == 1)
        });
        with_dtype!(self.dtype, T => {
            if !is_whole {
                if let Some(bytes) = chunk.try_bytes() {
                    return Ok(Prepared::Plain(bytes));
                }
                let mut all = vec![T::default(); region.len()];
                ChunkViewMut::from_slice(&mut all, &Layout::contiguous(self.dtype, chunk.shape())).copy_from(chunk);
                return Ok(Prepared::Gathered(Box::new(Gathered(all))));
            }
            let each = ChunkGrid::regular(&counts, &vec![1; counts.len()])?;
            let parts = (0..each.len()).map(|number| {
                let index: Vec<usize> = each.index(number).iter().zip(&first).map(|(i, first)| i + first).collect();
                self.pack_part::<T>(region, &self.grid.region_at(&index), chunk)
            });
            Ok(Prepared::Packed(parts.collect::<Result<_>>()?))
        })
    }

    /// Packs the chunk at `at`, which is part of a region.
    fn pack_part<T: Decoded>(&self, region: &Region, at: &Region, chunk: ChunkView<'_>) -> Result<(Vec<usize>, Vec<u8>)> {
        let (whole, shape) = (Layout::contiguous(self.dtype, &self.grid.largest()), at.shape());
        if chunk.shape() == whole.shape
            && let Some(bytes) = chunk.try_bytes()
        {
            return Ok((at.start(), self.pack(bytes)?));
        }
        let start: Vec<usize> = at.axes().iter().zip(region.axes()).map(|(at, region)| at.start - region.start).collect();
        let there = Layout { dtype: self.dtype, shape: shape.clone(), strides: chunk.layout().strides.clone() };
        let here = Layout { dtype: self.dtype, shape, strides: whole.strides.clone() };
        let mut full = vec![T::default(); whole.len()]; // beyond the array's edges: zeros
        ChunkViewMut::from_slice(&mut full, &here).copy_from(chunk.part(&start, &there));
        Ok((at.start(), self.pack(bytemuck::cast_slice(&full))?))
    }

    /// What libhdf5's filters make of the bytes of a chunk.
    fn pack(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let (level, shuffles) = self.deflate;
        let failed = |e: std::io::Error| Error::Failed { what: format!("packing {}", self.name), message: e.to_string() };
        let mut packed =
            ZlibEncoder::new(Vec::with_capacity(bytes.len() + bytes.len() / 64 + 64), Compression::new(level.into()));
        let size = self.dtype.bytes();
        if shuffles && size > 1 {
            let mut room = vec![0u8; SHUFFLED_BYTES];
            for (byte, some) in (0..size).flat_map(|byte| bytes.chunks(SHUFFLED_BYTES * size).map(move |some| (byte, some))) {
                let to = &mut room[..some.len() / size];
                to.iter_mut().zip(some.chunks_exact(size)).for_each(|(to, element)| *to = element[byte]);
                packed.write_all(to).map_err(failed)?;
            }
        } else {
            packed.write_all(bytes).map_err(failed)?;
        }
        let mut packed = packed.finish().map_err(failed)?;
        packed.shrink_to_fit();
        Ok(packed)
    }

    /// Most bytes that a region adds to the file.
    fn most_bytes(&self, region: &Region, ready: &Prepared<'_>) -> u64 {
        let all = match ready {
            Prepared::Packed(chunks) => chunks.iter().map(|(_, bytes)| bytes.len() as u64 + BESIDE_BYTES).sum(),
            Prepared::Plain(_) | Prepared::Gathered(_) => {
                let (bytes, chunks) = (self.chunk_bytes(), self.touched(region).1);
                let each = bytes.saturating_add(bytes / 64).saturating_add(BESIDE_BYTES);
                chunks.iter().fold(each, |bytes, &n| bytes.saturating_mul(n as u64))
            }
        };
        all.saturating_add(SLACK_BYTES)
    }

    /// Makes room behind the end of the file, which libhdf5 gives back what it does not use of.
    fn make_room(&self, file: &WholeFile, bytes: u64) -> Result<()> {
        let end = file.file().metadata().map_err(|e| Error::io("read", file.temporary(), e))?.len();
        let zeros = vec![0u8; SLACK_BYTES as usize];
        let (mut at, to) = (end, end.saturating_add(bytes));
        while at < to {
            let some = (to - at).min(SLACK_BYTES);
            if let Err(error) = file.write(&zeros[..some as usize], at) {
                file.set_len(end)?;
                return Err(error);
            }
            at += some;
        }
        Ok(())
    }

    /// Writes a region. The file is open for this alone: what libhdf5 holds of chunks is written when it is closed.
    ///
    /// # Errors
    /// [`Error::Io`] if there is no room; what libhdf5 says, after which the file is of no use.
    pub(super) fn put(&self, (file, sink): (&WholeFile, &str), region: &Region, chunk: ChunkView<'_>) -> Result<()> {
        let ready = self.ready(region, chunk)?;
        let mut broken = self.library.take();
        if *broken {
            return Err(Error::file(
                Path::new(sink),
                "cannot be completed, because a chunk could not be written; drop it and begin again",
            ));
        }
        self.make_room(file, self.most_bytes(region, &ready))?;
        *broken = true; // until it is done
        let write = || {
            let opened = open_temporary(file, Temporary::Begun)?;
            let dataset = opened.dataset(&self.name)?;
            match &ready {
                Prepared::Packed(chunks) => chunks.iter().try_for_each(|(at, bytes)| write_packed(&dataset, at, bytes))?,
                Prepared::Plain(bytes) => write_box(&dataset, region.axes(), self.dtype, bytes)?,
                Prepared::Gathered(all) => write_box(&dataset, region.axes(), self.dtype, (**all).as_ref())?,
            }
            drop(dataset);
            opened.close()
        };
        write().map_err(|e| failed(Path::new(sink), "a chunk cannot be written", &e))?;
        *broken = false;
        Ok(())
    }
}
