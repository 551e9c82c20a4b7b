//! Uncompressed arrays inside a file, read and written by position from any thread.
//!
//! Owns: [`DataFile`] (a file that must not change), [`RawArray`] (where its elements lie). Must not know: which format said
//! so. Invariant: every read is checked against the length that the file had when it was opened, in `u64`, so that a damaged
//! address is an error and never another array's bytes beyond the end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::leftovers::stands_under;
use super::runs::{ElementRun, runs};
use super::stored::{Decoded, Stored};
use super::table::ChunkTable;
use crate::device::files::open_regular;
use crate::error::{Error, Result};
use crate::shape::{AxisRange, ChunkView, ChunkViewMut, Region, Scalar, with_dtype};
use crate::task::storage_parts;

/// Bytes decoded at a time where the file's bytes are not memory's.
const DECODE_BYTES: usize = 32 * 1024;

/// A file that is read by position, with the size and time that it had when it was opened.
#[derive(Debug)]
pub(crate) struct DataFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl DataFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses, [`Error::File`] for a directory or device.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fail = |source| Error::io("open", path, source);
        // Looked at before it is opened: opening a pipe would wait for its other end.
        let about = std::fs::metadata(path).map_err(fail)?;
        if about.is_dir() {
            return Err(Error::file(path, "is a directory; name a file inside it"));
        }
        if !about.is_file() {
            return Err(Error::file(path, "is not a regular file, which reading by position needs; copy the data to one"));
        }
        Self::of(path, open_regular(path).map_err(fail)?)
    }

    /// A file that was opened by somebody else.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses.
    pub(crate) fn of(path: &Path, file: File) -> Result<Self> {
        let about = file.metadata().map_err(|e| Error::io("open", path, e))?;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, file, bytes: about.len(), modified: about.modified().ok() })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Path, size and modification time.
    pub(crate) fn token(&self) -> String {
        let since = self.modified.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
        format!("{}#{}#{}.{:09}", self.path.display(), self.bytes, since.as_secs(), since.subsec_nanos())
    }

    /// Errs if the file has been written since it was opened. One `fstat`.
    pub(crate) fn check(&self) -> Result<()> {
        let about = self.file.metadata().map_err(|e| Error::io("read", &self.path, e))?;
        if about.len() == self.bytes && about.modified().ok() == self.modified {
            return Ok(());
        }
        Err(Error::file(
            &self.path,
            "file changed under the graph: its size or modification time is not what it was when it was opened; open it again",
        ))
    }

    /// Errs if another file stands under `path` now, or this one has been written.
    pub(crate) fn check_under(&self, path: &Path) -> Result<()> {
        let changed = || {
            let problem = "was changed or replaced by another program while a copy of it was being written; \
                           that copy is dropped, so that no change is lost: write again";
            Error::file(path, problem)
        };
        if stands_under(&self.file, path) { self.check().map_err(|_| changed()) } else { Err(changed()) }
    }

    /// Fills `to` from byte `offset` on.
    pub(crate) fn read(&self, to: &mut [u8], offset: u64) -> Result<()> {
        if offset.checked_add(to.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(Error::file(
                &self.path,
                format!(
                    "is truncated or damaged: {} bytes at byte {offset} lie beyond its end at byte {}; write it again",
                    to.len(),
                    self.bytes
                ),
            ));
        }
        read_exact_at(&self.file, to, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::file(&self.path, format!("became shorter while it was read at byte {offset}"))
            }
            _ => Error::io("read", &self.path, e),
        })
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, to: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut to: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, offset) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                to = &mut to[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(unix)]
pub(crate) fn write_all_at(file: &File, from: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, from, offset)
}

#[cfg(windows)]
pub(crate) fn write_all_at(file: &File, mut from: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !from.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, from, offset) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                from = &from[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Where the elements of an array lie.
pub(crate) enum StoredAt {
    /// In C order from this byte on.
    Contiguous(u64),
    /// In chunks, each in C order and of full extent; those not in the table were never written.
    Chunked(ChunkTable),
    /// Nowhere: never written.
    Absent,
}

/// An uncompressed array: its elements' format, extent and place.
pub(crate) struct RawArray {
    pub(crate) shape: Vec<usize>,
    pub(crate) stored: Stored,
    pub(crate) place: StoredAt,
    /// The value of what was never written, in the delivered dtype.
    pub(crate) fill: Scalar,
}

impl RawArray {
    /// The value of all of `region`, if none of it was ever written.
    pub(crate) fn constant(&self, region: &Region) -> Option<Scalar> {
        let unwritten = match &self.place {
            StoredAt::Contiguous(_) => false,
            StoredAt::Chunked(table) => table.none_in(region),
            StoredAt::Absent => true,
        };
        unwritten.then_some(self.fill)
    }

    /// Reads `region` into `out`. The file was checked by the caller.
    pub(crate) fn read(&self, file: &DataFile, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        with_dtype!(out.layout().dtype, T => self.read_as::<T>(file, region, out))
    }

    fn read_as<T: Decoded>(&self, file: &DataFile, region: &Region, out: &mut ChunkViewMut<'_>) -> Result<()> {
        let mut to = Rows::<T>::new(out);
        let full = region.shape();
        let origin = vec![0; full.len()];
        let fill = T::of(self.fill);
        match &self.place {
            StoredAt::Absent => blank(&mut to, &full, &origin, &full, fill),
            StoredAt::Contiguous(base) => {
                let target = (full.as_slice(), origin.as_slice(), to.mergeable());
                runs(&self.shape, region.axes(), target, &mut |run| self.read_run(file, *base, run, &mut to))
            }
            StoredAt::Chunked(table) => storage_parts(region, table.chunk(), &mut |from, part| {
                let Some(base) = table.address_of(part) else {
                    return blank(&mut to, &full, from, &part.shape(), fill);
                };
                let inner = table.inside(part);
                runs(table.chunk(), &inner, (&full, from, to.mergeable()), &mut |run| self.read_run(file, base, run, &mut to))
            }),
        }
    }

    fn read_run<T: Decoded>(&self, file: &DataFile, base: u64, run: ElementRun, to: &mut Rows<'_, '_, T>) -> Result<()> {
        let size = self.stored.dtype.bytes();
        let at =
            |element: usize| (element as u64).checked_mul(size as u64).and_then(|b| b.checked_add(base)).unwrap_or(u64::MAX);
        let out = to.run(run.to, run.len);
        if run.step == 1
            && self.stored.is_native(T::DTYPE)
            && let Some(bytes) = T::bytes_mut(out)
        {
            return file.read(bytes, at(run.from));
        }
        let mut buffer = [0u8; DECODE_BYTES];
        // Elements picked per read: reading what lies between them is cheaper than a system call each, up to a point.
        let per_read = if run.step * size > DECODE_BYTES / 8 { 1 } else { DECODE_BYTES / (run.step * size) };
        for (i, some) in out.chunks_mut(per_read).enumerate() {
            let span = ((some.len() - 1) * run.step + 1) * size;
            file.read(&mut buffer[..span], at(run.from + i * per_read * run.step))?;
            if run.step > 1 {
                for k in 1..some.len() {
                    buffer.copy_within(k * run.step * size..k * run.step * size + size, k * size);
                }
            }
            T::decode(self.stored, &buffer[..some.len() * size], some);
        }
        Ok(())
    }
}

/// Sets the box of extent `len` at `from` of an output of shape `full`.
fn blank<T: Decoded>(to: &mut Rows<'_, '_, T>, full: &[usize], from: &[usize], len: &[usize], fill: T) -> Result<()> {
    let inner: Vec<AxisRange> = len.iter().map(|&len| AxisRange { start: 0, len, step: 1 }).collect();
    runs(len, &inner, (full, from, to.mergeable()), &mut |run| {
        to.run(run.to, run.len).fill(fill);
        Ok(())
    })
}

/// An output, addressed by C-order index.
struct Rows<'a, 'b, T> {
    view: &'a mut ChunkViewMut<'b>,
    row: usize,
    contiguous: bool,
    element: std::marker::PhantomData<T>,
}

impl<'a, 'b, T: Decoded> Rows<'a, 'b, T> {
    fn new(view: &'a mut ChunkViewMut<'b>) -> Self {
        let row = view.shape().last().copied().unwrap_or(1).max(1);
        let contiguous = view.layout().is_contiguous();
        Self { view, row, contiguous, element: std::marker::PhantomData }
    }

    /// Whether runs may go over row ends.
    fn mergeable(&self) -> bool {
        self.contiguous
    }

    fn run(&mut self, from: usize, len: usize) -> &mut [T] {
        if self.contiguous {
            &mut self.view.slice_mut::<T>()[from..from + len]
        } else {
            let at = from % self.row;
            &mut self.view.row_mut::<T>(from / self.row)[at..at + len]
        }
    }
}

/// Writes `view`, the elements of `region`, by position. The array is little-endian, in `view`'s dtype.
pub(crate) fn write_region(
    (shape, place): (&[usize], &StoredAt),
    region: &Region,
    view: ChunkView<'_>,
    put: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    with_dtype!(view.layout().dtype, T => write_as::<T>((shape, place), region, view, put))
}

fn write_as<T: Decoded>(
    (shape, place): (&[usize], &StoredAt),
    region: &Region,
    view: ChunkView<'_>,
    put: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let full = region.shape();
    let whole = view.try_slice::<T>();
    let row = full.last().copied().unwrap_or(1).max(1);
    let mut put_run = |base: u64, run: ElementRun| -> Result<()> {
        let elements = match whole {
            Some(all) => &all[run.to..run.to + run.len],
            None => &view.row::<T>(run.to / row)[run.to % row..run.to % row + run.len],
        };
        let size = size_of::<T>();
        if run.step == 1 {
            return put(bytemuck::cast_slice(elements), base + (run.from * size) as u64);
        }
        elements
            .chunks(1)
            .enumerate()
            .try_for_each(|(i, one)| put(bytemuck::cast_slice(one), base + ((run.from + i * run.step) * size) as u64))
    };
    match place {
        StoredAt::Absent => Ok(()),
        StoredAt::Contiguous(base) => {
            let target = (full.as_slice(), &*vec![0; full.len()], whole.is_some());
            runs(shape, region.axes(), target, &mut |run| put_run(*base, run))
        }
        StoredAt::Chunked(table) => storage_parts(region, table.chunk(), &mut |from, part| {
            let base = table.address_of(part).expect("every chunk of a sink is allocated when it is made");
            runs(table.chunk(), &table.inside(part), (&full, from, whole.is_some()), &mut |run| put_run(base, run))
        }),
    }
}
