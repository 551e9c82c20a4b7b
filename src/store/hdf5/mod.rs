//! HDF5: what an array in a file is and where its bytes lie.
//!
//! Owns: everything that calls libhdf5. Must not know: npy, lazy arrays. Invariant: libhdf5 is called under its own lock
//! only, with its error printing off, and rayon is never entered while the lock is held.
//!
//! `reader.rs` is a file that is read: `links.rs` follows paths, `names.rs` lists datasets, `attrs.rs` reads and writes attributes, `open.rs` finds a dataset and chooses how it is read, `about.rs` says how it is stored and
//! `sources.rs` what a virtual one is read from, `library.rs` reads through libhdf5 what cannot be read by position; `writer.rs`
//! is one that is written, with several datasets: `packed.rs` compresses chunks, `existing.rs` decides what each does to what is there, `create.rs` lays it out; `raw.rs`
//! and `mappings.rs` hold the calls that the safe wrapper lacks.

mod about;
mod attrs;
mod create;
mod dataset;
mod existing;
mod library;
mod links;
mod mappings;
mod names;
mod open;
mod packed;
mod raw;
mod reader;
mod sources;
mod types;
mod writer;

pub use attrs::Attr;
pub(crate) use existing::Places;
pub(super) use open::open;
pub use reader::Hdf5;
pub(super) use writer::create;
pub use writer::{Hdf5Writer, NewDataset};

use std::path::Path;

use super::direct::DataFile;
use crate::error::{Error, Result};

/// One sentence about what libhdf5 said.
fn failed(path: &Path, doing: &str, error: &hdf5::Error) -> Error {
    let text = error.to_string();
    let text: Vec<&str> = text.split_whitespace().collect();
    Error::file(path, format!("{doing}: libhdf5 says: {}", text.join(" ")))
}

/// Opens a file for reading, without taking its lock: many readers, also on file systems that have no locks.
///
/// # Errors
/// [`Error::Io`] when the system refuses, [`Error::File`] for what libhdf5 cannot read.
fn open_file(path: &Path) -> Result<hdf5::File> {
    hdf5::silence_errors(true);
    let unlocked = hdf5::File::with_options().with_fapl(|list| list.file_locking(false)).open(path);
    // A file that this process has open already must be opened as it was then.
    unlocked.or_else(|e| hdf5::File::open(path).map_err(|_| e)).map_err(|e| {
        // libhdf5 says the same of a system that has no more descriptors and of a file that is damaged.
        match DataFile::open(path) {
            Err(e) => e,
            // Under HDF5_USE_FILE_LOCKING=TRUE the library asks for the lock nevertheless.
            Ok(file) if is_written_elsewhere(&file) => written_elsewhere(path),
            Ok(file) if open::is_marked_written(path, &file) => {
                let problem = "is marked as open for writing: another program writes it, so close it there first or read a copy; \
                               if its writer was killed, take the mark off with h5clear -s";
                Error::file(path, problem)
            }
            Ok(_) => failed(path, "is HDF5, but truncated or damaged", &e),
        }
    })
}

/// Whether another program has the file open for writing, as the lock says which HDF5 takes for that. If not, none can as long
/// as `file` is open: it has the lock that readers share.
#[cfg(unix)]
fn is_written_elsewhere(file: &DataFile) -> bool {
    matches!(file.file().try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

#[cfg(not(unix))]
fn is_written_elsewhere(_file: &DataFile) -> bool {
    false
}

fn written_elsewhere(path: &Path) -> Error {
    Error::file(path, "is open for writing in another program; close it there first")
}

/// Whether libhdf5 may look what `name` in `group` is: a link may lead to what is no file.
fn can_follow(group: &hdf5::Group, name: &str) -> bool {
    if raw::link(group, name) == Some(raw::Link::Hard) {
        return true;
    }
    let path = format!("{}/{name}", group.name().trim_end_matches('/'));
    group.file().is_ok_and(|file| links::trace(group.filename().as_ref(), &file, &path).is_ok())
}

/// `it holds /A, /B and more`.
fn listing(group: &hdf5::Group) -> String {
    const SHOWN: usize = 8;
    let names = names::some(group, SHOWN + 1);
    match names.len() {
        0 => "it holds no dataset".into(),
        n if n > SHOWN => format!("it holds {} and more", names[..SHOWN].join(", ")),
        _ => format!("it holds {}", names.join(", ")),
    }
}
