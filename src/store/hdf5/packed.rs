//! Chunks that are compressed as they are written.
//!
//! Owns: [`Packed`], [`Library`]. Must not know: who makes the dataset. Invariant: libhdf5 is not given more to write than the disk has room for: it does not survive a write that fails
//! while it closes a dataset. So room is made first, through the file's own descriptor; and after an error of libhdf5 nothing of the file is used any more.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::create::{Temporary, open_temporary};
use super::existing::Wanted;
use super::failed;
use super::raw::write_box;
use crate::error::{Error, Result};
use crate::kernel::Held;
use crate::shape::{ChunkView, ChunkViewMut, DType, Layout, Region, with_dtype};
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
    /// The extent of its chunks.
    pub(super) chunk: Vec<usize>,
    pub(super) library: Arc<Library>,
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

impl Packed {
    fn chunk_bytes(&self) -> u64 {
        self.chunk.iter().fold(self.dtype.bytes() as u64, |bytes, &n| bytes.saturating_mul(n as u64))
    }

    /// What libhdf5 takes: a chunk, and what it is packed into.
    pub(super) fn held(&self) -> Held {
        let chunk_bytes = self.chunk_bytes();
        let what = format!("packing {}, stored in chunks of {:?} ({chunk_bytes} bytes each)", self.name, self.chunk);
        Held { what, bytes: chunk_bytes.saturating_mul(2).saturating_add(SLACK_BYTES) }
    }

    /// Most bytes that writing a region adds to the file.
    fn most_bytes(&self, region: &Region) -> u64 {
        let along = |(axis, &chunk): (&crate::shape::AxisRange, &usize)| {
            let last = axis.start + axis.len.saturating_sub(1) * axis.step;
            (last / chunk - axis.start / chunk + 1) as u64
        };
        let chunks = region.axes().iter().zip(&self.chunk).map(along).fold(1, u64::saturating_mul);
        let bytes = self.chunk_bytes();
        chunks.saturating_mul(bytes.saturating_add(bytes / 64).saturating_add(BESIDE_BYTES)).saturating_add(SLACK_BYTES)
    }

    /// Makes room behind the end of the file, which libhdf5 gives back what it does not use of.
    fn make_room(&self, file: &WholeFile, region: &Region) -> Result<()> {
        let end = file.file().metadata().map_err(|e| Error::io("read", file.temporary(), e))?.len();
        let zeros = vec![0u8; SLACK_BYTES as usize];
        let (mut at, to) = (end, end.saturating_add(self.most_bytes(region)));
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
        let dtype = chunk.layout().dtype;
        let mut copy = Vec::new();
        let bytes = match chunk.try_bytes() {
            Some(bytes) => bytes,
            None => {
                let layout = Layout::contiguous(dtype, chunk.shape());
                with_dtype!(dtype, T => {
                    let mut all = vec![T::default(); layout.len()];
                    ChunkViewMut::from_slice(&mut all, &layout).copy_from(chunk);
                    copy.extend_from_slice(T::bytes(&all));
                });
                &copy[..]
            }
        };
        let mut broken = self.library.take();
        if *broken {
            return Err(Error::file(
                Path::new(sink),
                "cannot be completed, because a chunk could not be written; drop it and begin again",
            ));
        }
        self.make_room(file, region)?;
        *broken = true; // until it is done
        let write = || {
            let opened = open_temporary(file, Temporary::Begun)?;
            let dataset = opened.dataset(&self.name)?;
            write_box(&dataset, region.axes(), dtype, bytes)?;
            drop(dataset);
            opened.close()
        };
        write().map_err(|e| failed(Path::new(sink), "a chunk cannot be written", &e))?;
        *broken = false;
        Ok(())
    }
}
