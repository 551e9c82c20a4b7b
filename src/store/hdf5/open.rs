//! Finds a dataset and decides how it is read.
//!
//! Owns: [`open`]. Must not know: reading. Invariant: a dataset is read by position only if everything about it is known to
//! be plain: standard numbers, no filter, contiguous or chunked in a file that nobody here writes, every address within the
//! file that libhdf5 itself has it from.

use std::path::Path;
use std::sync::Arc;

use hdf5::LocationType;

use super::about::{About, library_memory};
use super::library::{Closed, LibrarySource};
use super::links::trace;
use super::raw::fill;
use super::sources::{self, VirtualParts};
use super::types::{ElementType, element_type};
use super::{failed, listing, open_file};
use crate::error::{Error, Result};
use crate::shape::{DType, checked_len};
use crate::store::direct::{DataFile, RawArray, StoredAt};
use crate::store::raw_source::RawSource;
use crate::store::stored::Stored;
use crate::task::ChunkSource;

/// Opens `dataset` of the HDF5 file at `path`.
pub(in crate::store) fn open(path: &Path, dataset: &str) -> Result<Arc<dyn ChunkSource>> {
    let handle = open_checked(path)?;
    let found = find(path, &handle, dataset)?;
    let name = format!("{}:{dataset}", path.display());
    let (file, writer) = file_of(path, &found)?;
    let stored = stored_type(&name, &found)?;
    let space = found.space().map_err(|e| failed(path, "cannot read the dataset's shape", &e))?;
    if space.is_null() {
        return Err(Error::file(path, format!("{dataset} has no shape (an empty dataspace), so there is nothing to read")));
    }
    let shape = space.shape();
    checked_len("open", &shape)?;
    let dtype = match stored {
        ElementType::Standard(stored) => stored.dtype,
        ElementType::Converted(dtype) => dtype,
        ElementType::Other(_) => unreachable!("refused by stored_type"),
    };
    let fill = fill(&found, dtype).map_err(|e| failed(path, &format!("cannot read the fill value of {dataset}"), &e))?;
    let about = About { dataset: &found, shape: &shape, file: &file };
    let (chunk, place, why) = about.place(stored)?;
    let written_here = writer.is_some();
    let why = match (stored, why.or(writer)) {
        (ElementType::Standard(stored), None) if !library_forced() => {
            return Ok(Arc::new(RawSource { name, file, array: RawArray { shape, stored, place, fill } }));
        }
        (ElementType::Standard(_), None) => "CHUNKWISE_IO=library".to_owned(),
        (_, Some(why)) => why,
        (_, None) => "an unusual number format".into(),
    };
    let table = if let StoredAt::Chunked(table) = place { Some(table) } else { None };
    let (chunk, parts, memory) = match sources::look(&found, found.filename().as_ref())? {
        Some(VirtualParts { unit, parts, memory }) => (unit, Some(parts), memory),
        None => (chunk, None, library_memory(&found, table.as_ref())?),
    };
    let table = table.filter(|_| !written_here); // a writer may add chunks
    let closed = Closed::close(found, (handle, dataset)).map_err(|e| failed(path, &format!("cannot open {dataset}"), &e))?;
    let source = LibrarySource { name, file, dataset: closed, shape, dtype, chunk, parts, table, fill, why, memory };
    source.dataset()?; // what cannot be opened again is refused now
    Ok(Arc::new(source))
}

fn library_forced() -> bool {
    std::env::var_os("CHUNKWISE_IO").is_some_and(|v| v == "library")
}

/// Where the signature stands with which HDF5 begins: at byte 0, or at 512, 1024, 2048, ... after a user block.
pub(super) fn check_signature(path: &Path, file: &DataFile) -> Result<u64> {
    const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
    let mut at = 0u64;
    while at + 8 <= file.bytes() {
        let mut bytes = [0u8; 8];
        file.read(&mut bytes, at)?;
        if &bytes == SIGNATURE {
            return Ok(at);
        }
        at = if at == 0 { 512 } else { at * 2 };
    }
    Err(Error::file(path, "is not an HDF5 file: it has no HDF5 signature"))
}

/// Whether a writer marked the file as open for writing, as those do that use the newest format (superblock 3), with or without
/// readers beside them. It takes the mark off when it closes the file; one that was killed leaves it.
pub(super) fn is_marked_written(path: &Path, file: &DataFile) -> bool {
    let mut start = [0u8; 12];
    let read = check_signature(path, file).and_then(|at| file.read(&mut start, at));
    read.is_ok() && start[8] == 3 && start[11] & 0b101 != 0
}

/// The file that holds a dataset: the one opened, or one that it links to. Also why it cannot be read by position, if so.
fn file_of(path: &Path, dataset: &hdf5::Dataset) -> Result<(DataFile, Option<String>)> {
    let file = dataset.file().map_err(|e| failed(path, "cannot tell the dataset's file", &e))?;
    let name = std::path::PathBuf::from(dataset.filename());
    let writer = !file.is_read_only();
    if writer {
        // What this process wrote there may be in libhdf5's memory still, and only libhdf5 knows what comes after.
        file.flush().map_err(|e| failed(&name, "cannot be flushed", &e))?;
    }
    #[cfg(unix)]
    let own = super::raw::descriptor(&file);
    #[cfg(not(unix))]
    let own: Option<std::io::Result<std::fs::File>> = None;
    let (own, plain) = match own {
        Some(own) => (DataFile::of(&name, own.map_err(|e| Error::io("open", &name, e))?)?, true),
        None => (DataFile::open(&name)?, cfg!(not(unix))),
    };
    let why = match (writer, plain) {
        (true, _) => Some("this process has the file open for writing".to_owned()),
        (false, false) => Some("another file driver".to_owned()),
        (false, true) => None,
    };
    Ok((own, why))
}

/// The dataset of this name, or what is there instead.
fn find(path: &Path, file: &hdf5::File, name: &str) -> Result<hdf5::Dataset> {
    let lost = match trace(path, file, name) {
        Err(lost) if lost.is_final() => return Err(lost.error()),
        traced => traced.err(),
    };
    match file.loc_type_by_name(name) {
        Ok(LocationType::Dataset) => file.dataset(name).map_err(|e| failed(path, &format!("cannot open {name}"), &e)),
        Ok(LocationType::Group) => {
            let inside = file.group(name).map(|g| listing(&g)).unwrap_or_else(|_| "it cannot be listed".into());
            Err(Error::file(path, format!("{name} is a group, not a dataset; {inside}")))
        }
        Ok(_) => Err(Error::file(path, format!("{name} is a named type, not a dataset; {}", listing(file)))),
        Err(e) => Err(lost.map_or_else(|| failed(path, &format!("cannot open {name}"), &e), |lost| lost.error())),
    }
}

/// Opens what is HDF5.
pub(super) fn open_checked(path: &Path) -> Result<hdf5::File> {
    check_signature(path, &DataFile::open(path)?)?;
    open_file(path)
}

pub(super) fn stored_type(name: &str, dataset: &hdf5::Dataset) -> Result<ElementType> {
    let found = match element_type(dataset) {
        ElementType::Other(what) => what,
        usable => return Ok(usable),
    };
    let descriptor = dataset.dtype().and_then(|t| t.to_descriptor());
    if descriptor.is_ok_and(|d| d == hdf5::types::TypeDescriptor::Boolean) {
        return Ok(ElementType::Standard(Stored::of(DType::Bool)));
    }
    let wanted =
        "store booleans, integers of up to 64 bits, floats of 16, 32 or 64 bits, or complex numbers of float32 or float64 (r, i)".into();
    Err(Error::DType { what: name.to_owned(), found: found.to_owned(), wanted })
}
