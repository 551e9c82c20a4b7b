//! Finds a dataset and decides how it is read.
//!
//! Owns: [`open`]. Must not know: reading. Invariant: a dataset is read by position only if everything about it is known to
//! be plain: standard numbers, no filter, contiguous or chunked in this file, every address within it.

use std::path::Path;
use std::sync::Arc;

use hdf5::LocationType;
use hdf5::dataset::Layout;

use super::library::LibrarySource;
use super::raw::{ElementType, element_type, fill, filter_count};
use super::{failed, listing, open_file};
use crate::error::{Error, Result};
use crate::shape::checked_len;
use crate::store::direct::{DataFile, Fill, Place, RawArray};
use crate::store::raw_source::RawSource;
use crate::store::stored::{Number, Stored};
use crate::store::table::ChunkTable;
use crate::task::ChunkSource;

/// Chunk cache that libhdf5 has of itself, and the most that is asked for.
const CACHE_BYTES: (usize, usize) = (8 << 20, 256 << 20);

/// Opens `dataset` of the HDF5 file at `path`.
pub(in crate::store) fn open(path: &Path, dataset: &str) -> Result<Arc<dyn ChunkSource>> {
    let file = DataFile::open(path)?;
    check_signature(path, &file)?;
    let handle = open_file(path, None).map_err(|e| failed(path, "is HDF5, but truncated or damaged", &e))?;
    let found = find(path, &handle, dataset)?;
    let name = format!("{}:{dataset}", path.display());
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
    let native = fill(&found, dtype);
    let about = About { dataset: &found, shape: &shape, file: &file };
    let (chunk, place, why) = about.place(path, stored)?;
    let fill = Fill { native };
    let (stored, why) = match (stored, why) {
        (ElementType::Standard(stored), None) if !library_forced() => {
            return Ok(Arc::new(RawSource { name, file, array: RawArray { shape, stored, place, fill } }));
        }
        (ElementType::Standard(stored), None) => (Some(stored), "CHUNKWISE_IO=library".to_owned()),
        (ElementType::Standard(stored), Some(why)) => (Some(stored), why),
        (_, why) => (None, why.unwrap_or_else(|| "an unusual number format".into())),
    };
    let table = if let Place::Chunked(table) = place { Some(table) } else { None };
    let chunk_bytes = chunk.iter().flatten().fold(stored.map_or(8, Stored::bytes), |b, &n| b.saturating_mul(n));
    let two_chunks = chunk_bytes.saturating_mul(2);
    let found = if chunk.is_some() && two_chunks > CACHE_BYTES.0 {
        // Only a chunk that fits the cache is unpacked once when it is read in pieces. The cache is the file handle's.
        drop((found, handle));
        let handle = open_file(path, Some(two_chunks.min(CACHE_BYTES.1))).map_err(|e| failed(path, "cannot be opened", &e))?;
        find(path, &handle, dataset)?
    } else {
        found
    };
    Ok(Arc::new(LibrarySource { name, file, dataset: found, shape, dtype, chunk, table, fill, why }))
}

fn library_forced() -> bool {
    std::env::var_os("CHUNKWISE_IO").is_some_and(|v| v == "library")
}

/// HDF5 begins with a signature, or has it at byte 512, 1024, 2048, ... after a user block.
fn check_signature(path: &Path, file: &DataFile) -> Result<()> {
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

/// The dataset of this name, or what is there instead.
fn find(path: &Path, file: &hdf5::File, name: &str) -> Result<hdf5::Dataset> {
    match file.loc_type_by_name(name) {
        Ok(LocationType::Dataset) => file.dataset(name).map_err(|e| failed(path, &format!("cannot open {name}"), &e)),
        Ok(LocationType::Group) => {
            let inside = file.group(name).map(|g| listing(&g)).unwrap_or_else(|_| "it cannot be listed".into());
            Err(Error::file(path, format!("{name} is a group, not a dataset; {inside}")))
        }
        Ok(_) => Err(Error::file(path, format!("{name} is a named type, not a dataset; {}", listing(file)))),
        Err(_) if file.link_exists(name) => {
            Err(Error::file(path, format!("{name} is a link to something that is not there; {}", listing(file))))
        }
        Err(_) => Err(Error::file(path, format!("there is no dataset {name}; {}", listing(file)))),
    }
}

fn stored_type(name: &str, dataset: &hdf5::Dataset) -> Result<ElementType> {
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

struct About<'a> {
    dataset: &'a hdf5::Dataset,
    shape: &'a [usize],
    file: &'a DataFile,
}

impl About<'_> {
    /// Storage chunks, place, and why the place cannot be read by position (if so).
    fn place(&self, path: &Path, stored: ElementType) -> Result<(Option<Vec<usize>>, Place, Option<String>)> {
        let problem = |e: hdf5::Error| failed(path, "cannot read the dataset's layout", &e);
        let list = self.dataset.dcpl().map_err(problem)?;
        let bytes = match stored {
            ElementType::Standard(stored) => stored.bytes() as u64,
            _ => self.dataset.dtype().map_err(problem)?.size() as u64,
        };
        let opaque = |why: &str| Ok((None, Place::Absent, Some(why.to_owned())));
        match list.get_layout().map_err(problem)? {
            Layout::Compact => opaque("compact storage"),
            Layout::Virtual => opaque("virtual dataset"),
            Layout::Contiguous if !list.get_external().map_err(problem)?.is_empty() => opaque("external storage"),
            Layout::Contiguous => match self.dataset.offset() {
                Some(at) => {
                    let elements: usize = self.shape.iter().product();
                    self.inside(path, at, elements as u64 * bytes)?;
                    Ok((None, Place::Contiguous(at), None))
                }
                None if self.dataset.storage_size() == 0 => Ok((None, Place::Absent, None)),
                None => opaque("storage without an address"),
            },
            Layout::Chunked => {
                let Some(chunk) = list.chunk().filter(|c| c.len() == self.shape.len() && !c.contains(&0)) else {
                    return opaque("chunks of an unknown shape");
                };
                let (table, plain) = self.chunks(path, &chunk, bytes)?;
                let why = match filter_count(self.dataset) {
                    Some(0) if plain => None,
                    Some(0) => Some("chunks of unequal sizes".to_owned()),
                    _ => Some(self.filter_names()),
                };
                Ok((Some(chunk), Place::Chunked(table), why))
            }
        }
    }

    /// The allocated chunks, and whether each is exactly as long as its elements.
    fn chunks(&self, path: &Path, chunk: &[usize], bytes: u64) -> Result<(ChunkTable, bool)> {
        let wanted = chunk.iter().fold(bytes, |b, &n| b.saturating_mul(n as u64));
        let mut plain = true;
        let mut furthest = (0, 0);
        let (table, visited) = ChunkTable::new(self.shape, chunk, |add| {
            self.dataset.chunks_visit(|info| {
                plain &= info.size == wanted;
                if info.addr.saturating_add(info.size) > furthest.0 + furthest.1 {
                    furthest = (info.addr, info.size.min(u64::MAX - info.addr));
                }
                add(info.offset, info.addr);
                0
            })
        });
        visited.map_err(|e| failed(path, "cannot read the chunk table", &e))?;
        self.inside(path, furthest.0, furthest.1)?;
        Ok((table, plain))
    }

    /// Errs if the file ends before `bytes` at `at` do.
    fn inside(&self, path: &Path, at: u64, bytes: u64) -> Result<()> {
        if at.checked_add(bytes).is_some_and(|end| end <= self.file.bytes()) {
            return Ok(());
        }
        let problem = format!(
            "is truncated: {} has {bytes} bytes at byte {at}, and the file ends at byte {}",
            self.dataset.name(),
            self.file.bytes()
        );
        Err(Error::file(path, problem))
    }

    fn filter_names(&self) -> String {
        use hdf5::filters::Filter;
        let names: Vec<String> = self
            .dataset
            .filters()
            .iter()
            .map(|f| match f {
                Filter::Deflate(_) => "deflate".into(),
                Filter::Shuffle => "shuffle".into(),
                Filter::Fletcher32 => "fletcher32".into(),
                Filter::SZip(..) => "szip".into(),
                Filter::NBit => "nbit".into(),
                Filter::ScaleOffset(_) => "scale-offset".into(),
                Filter::User(id, _) => format!("filter {id}"),
                other => format!("{other:?}").to_lowercase(),
            })
            .collect();
        if names.is_empty() { "filters".into() } else { names.join(", ") }
    }
}
