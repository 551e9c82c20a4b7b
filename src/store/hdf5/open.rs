//! Finds a dataset and decides how it is read.
//!
//! Owns: [`open`]. Must not know: reading. Invariant: a dataset is read by position only if everything about it is known to
//! be plain: standard numbers, no filter, contiguous or chunked in a file that nobody here writes, every address within the
//! file that libhdf5 itself has it from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hdf5::LocationType;

use super::about::{About, library_memory};
use super::existing::leads_to;
use super::library::{Closed, LibrarySource};
use super::raw::{ElementType, Link, element_type, fill, link};
use super::{LINKS, failed, listing, open_file, prefixes};
use crate::error::{Error, Result};
use crate::shape::checked_len;
use crate::store::direct::{DataFile, Fill, Place, RawArray};
use crate::store::leftovers::folder_of;
use crate::store::raw_source::RawSource;
use crate::store::stored::{Number, Stored};
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
        ElementType::Standard(stored) => stored.dtype(),
        ElementType::Converted(dtype) => dtype,
        ElementType::Other(_) => unreachable!("refused by stored_type"),
    };
    let fill = Fill { native: fill(&found, dtype) };
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
    let table = if let Place::Chunked(table) = place { Some(table) } else { None };
    let memory = library_memory(&found, table.as_ref())?;
    let table = table.filter(|_| !written_here); // a writer may add chunks
    let closed = Closed::close(found, (handle, dataset)).map_err(|e| failed(path, &format!("cannot open {dataset}"), &e))?;
    let source = LibrarySource { name, file, dataset: closed, shape, dtype, chunk, table, fill, why, memory };
    source.dataset()?; // what cannot be opened again is refused now
    Ok(Arc::new(source))
}

fn library_forced() -> bool {
    std::env::var_os("CHUNKWISE_IO").is_some_and(|v| v == "library")
}

/// HDF5 begins with a signature, or has it at byte 512, 1024, 2048, ... after a user block.
pub(super) fn check_signature(path: &Path, file: &DataFile) -> Result<()> {
    const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
    let mut at = 0u64;
    while at + 8 <= file.bytes() {
        let mut bytes = [0u8; 8];
        file.read(&mut bytes, at)?;
        if &bytes == SIGNATURE {
            return Ok(());
        }
        at = if at == 0 { 512 } else { at * 2 };
    }
    Err(Error::file(path, "is not an HDF5 file: it has no HDF5 signature"))
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
    check_links(path, file, name, &mut (LINKS * LINKS))?;
    match file.loc_type_by_name(name) {
        Ok(LocationType::Dataset) => file.dataset(name).map_err(|e| failed(path, &format!("cannot open {name}"), &e)),
        Ok(LocationType::Group) => {
            let inside = file.group(name).map(|g| listing(&g)).unwrap_or_else(|_| "it cannot be listed".into());
            Err(Error::file(path, format!("{name} is a group, not a dataset; {inside}")))
        }
        Ok(_) => Err(Error::file(path, format!("{name} is a named type, not a dataset; {}", listing(file)))),
        Err(_) => Err(missing(path, file, name, LINKS)),
    }
}

/// Errs if a link on the way leads to what is no regular file: libhdf5 would wait for ever for somebody to write into a pipe. Looks at `links`
/// links in all.
fn check_links(path: &Path, file: &hdf5::File, name: &str, links: &mut usize) -> Result<()> {
    for step in prefixes(name) {
        let Some(found) = link(file, step).filter(|found| !matches!(found, Link::Hard)) else { continue };
        let Some(left) = links.checked_sub(1) else { return Ok(()) };
        *links = left;
        match found {
            Link::External(other, to) => {
                let other = linked(path, other);
                if other.metadata().is_ok_and(|about| !about.is_file()) {
                    let problem = format!("{step} is a link to {to} in {}, which is not a regular file", other.display());
                    return Err(Error::file(path, problem));
                }
                if let Ok(next) = open_checked(&other) {
                    check_links(&other, &next, &to, links)?;
                }
            }
            Link::Soft(to) => check_links(path, file, &leads_to(step, &to), links)?,
            Link::Hard | Link::Unknown => {}
        }
    }
    Ok(())
}

/// The file that an external link names, as libhdf5 looks: beside the file that links, then from here.
fn linked(path: &Path, other: String) -> PathBuf {
    let beside = folder_of(path).join(&other);
    if beside.exists() { beside } else { other.into() }
}

/// Why there is nothing under `name`: the first step of it that leads nowhere, in this file or in those that it links to.
fn missing(path: &Path, file: &hdf5::File, name: &str, links: usize) -> Error {
    let lost = prefixes(name).find(|step| file.loc_type_by_name(step).is_err());
    let problem = match lost.and_then(|step| Some((step, link(file, step)?))) {
        Some((step, Link::Soft(to))) => format!("{step} is a link to something that is not there, {to}; {}", listing(file)),
        Some((step, Link::External(other, to))) => {
            let other = linked(path, other);
            let why = match open_checked(&other) {
                Err(refusal) => refusal.to_string(),
                Ok(_) if links == 0 => "and so on".to_owned(),
                Ok(file) if file.loc_type_by_name(&to).is_ok() => "it can be opened only by itself".to_owned(),
                Ok(file) => missing(&other, &file, &to, links - 1).to_string(),
            };
            format!("{step} is a link to {to} in another file: {why}")
        }
        Some((step, Link::Unknown)) => format!("{step} is a link of a kind that is not known"),
        Some((step, Link::Hard)) => format!("{step} cannot be read; it is damaged"),
        None => format!("there is no dataset {name}; {}", listing(file)),
    };
    Error::file(path, problem)
}

fn open_checked(path: &Path) -> Result<hdf5::File> {
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
        return Ok(ElementType::Standard(Stored { number: Number::Bool, big_endian: false }));
    }
    let wanted = "store booleans, integers of up to 64 bits, float32 or float64".into();
    Err(Error::DType { what: name.to_owned(), found: found.to_owned(), wanted })
}
