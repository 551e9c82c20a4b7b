//! Arrays in files: sources that are read chunk by chunk, sinks that are written so.
//!
//! Whatever a file holds, reading it gives the numbers that its own library gives, or an error. A file under its final name is complete. The page
//! [files](crate::book::files) has the usual ways; what is below them stands here.
//!
//! # How data are read
//!
//! A format's library is asked once, at [`open`], what the array is and where its bytes lie. Uncompressed bytes are then
//! read by position, from any thread at once, straight into their destination. What that cannot serve (filters, virtual or
//! external data) goes through the library, under its lock, on the I/O lane. [`ChunkSource::access`] says which. The
//! environment variable `CHUNKWISE_IO=library` sends all HDF5 data through the library, to compare the two.
//!
//! # How data are written
//!
//! A sink writes a [`WholeFile`]: a temporary file beside the final one, which gets its name when it is finished and durable. What does not
//! fit a sink, and one that is finished before all of it was written, is refused for all formats alike ([`ChunkSink`]). Several datasets go into one HDF5
//! file with one commit: `Hdf5::create`.
//! Dropping an unfinished sink removes it; so does [`remove_temporaries`] for a program that was told to stop, and the next
//! writer of that name after a program that was killed.

// Owns: the formats (HDF5, npy), how a user names an array in a file, and files that appear whole or not at all. Must not know: lazy arrays, schedules.

mod coalesce;
#[cfg_attr(not(feature = "hdf5"), allow(dead_code))] // chunked and unwritten data: HDF5 only
mod direct;
#[cfg_attr(not(feature = "hdf5"), allow(dead_code))] // a changed copy: HDF5 only
mod leftovers;
mod mark;
mod npy;
mod preferred;
mod raw_source;
mod runs;
mod spec;
mod stored;
mod sums;
#[cfg_attr(not(feature = "hdf5"), allow(dead_code))] // chunked and unwritten data: HDF5 only
mod table;
mod tasks;
mod transposed;
#[cfg_attr(not(feature = "hdf5"), allow(dead_code))] // chunked and unwritten data: HDF5 only
mod whole;

#[cfg(feature = "hdf5")]
mod hdf5;

#[cfg(feature = "hdf5")]
pub(crate) use hdf5::Places;
#[cfg(feature = "hdf5")]
pub use hdf5::{Attr, Hdf5, Hdf5Writer, NewDataset};
pub use npy::{Npy, NpyWriter};
#[cfg(not(feature = "internals"))]
pub(crate) use preferred::preferred_chunks;
pub use whole::{WholeFile, remove_temporaries};
#[cfg(feature = "internals")]
pub use {
    preferred::preferred_chunks,
    sums::{SumRead, WeighRead},
    tasks::{Cut, ReadChunk, ScanSum, ScanWeightedSum, WriteChunk},
};
#[cfg(not(feature = "internals"))]
pub(crate) use {
    sums::{SumRead, WeighRead},
    tasks::{Cut, ReadChunk, ScanSum, ScanWeightedSum, WriteChunk},
};

use std::sync::Arc;

use crate::error::Result;
use crate::shape::DType;
use crate::task::{ChunkSink, ChunkSource};
use spec::Spec;

/// Opens the array that `spec` names: `file.h5:/dataset` or `file.npy`.
///
/// Delivered dtypes are those of [`DType`]; `i8`, `i16`, `u16` come as `i32`, half floats as `f32`.
///
/// # Errors
/// [`crate::Error::Argument`] when `spec` is not of that form; [`crate::Error::Io`] when the system refuses;
/// [`crate::Error::File`] when the file is not what its name says, is damaged, or has no such dataset (then it says which it
/// has); [`crate::Error::DType`] for strings, compounds and other element types that are not numbers.
pub fn open(spec: &str) -> Result<Arc<dyn ChunkSource>> {
    match Spec::parse(spec)? {
        Spec::Npy(path) => npy::open(&path),
        #[cfg(feature = "hdf5")]
        Spec::Hdf5 { path, dataset } => hdf5::open(&path, &dataset),
        #[cfg(not(feature = "hdf5"))]
        Spec::Hdf5 { path, .. } => Err(no_hdf5(path)),
    }
}

/// Creates the array that `spec` names; its file appears when the sink is finished. `chunks` sets the storage chunks of an
/// HDF5 dataset; without, it is contiguous. A `.npy` file is always contiguous.
///
/// An HDF5 file that exists keeps all else that it holds: it is copied, the dataset is made or replaced in the copy (as
/// `NewDataset::create` says, which puts several into one file), and the copy takes its name. While it is copied and written, other
/// programs that use HDF5's locks can read the file, not write it; if one changed it all the same, [`ChunkSink::commit`] errs.
///
/// # Errors
/// As [`open`]; also [`crate::Error::File`] when the disk has no room, when a file there is not HDF5 or is open for writing,
/// when the name is that of a group, or leads through a dataset or into another file; [`crate::Error::Shape`] when `shape` or
/// `chunks` cannot be stored.
pub fn create(spec: &str, shape: &[usize], dtype: DType, chunks: Option<&[usize]>) -> Result<Arc<dyn ChunkSink>> {
    match Spec::parse_output(spec)? {
        Spec::Npy(path) => npy::create(&path, shape, dtype),
        #[cfg(feature = "hdf5")]
        Spec::Hdf5 { path, dataset } => hdf5::create(&path, &dataset, (shape, dtype), chunks),
        #[cfg(not(feature = "hdf5"))]
        Spec::Hdf5 { path, .. } => {
            let _ = chunks;
            Err(no_hdf5(path))
        }
    }
}

#[cfg(not(feature = "hdf5"))]
fn no_hdf5(path: std::path::PathBuf) -> crate::error::Error {
    crate::error::Error::file(path, "is HDF5, and this program was built without it: enable the feature `hdf5` of chunkwise")
}
