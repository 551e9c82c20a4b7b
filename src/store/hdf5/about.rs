//! How a dataset is stored.
//!
//! Owns: [`About`], the filters' names, what reading through libhdf5 takes in memory. Must not know: how a dataset is found.
//! Invariant: an address is given out only if it lies, with all its bytes, inside the file.

use hdf5::dataset::Layout;

use super::failed;
use super::links::check_raw_file;
use super::raw::{StoredFilter, filters};
use super::types::ElementType;
use crate::error::{Error, Result};
use crate::store::direct::{DataFile, StoredAt};
use crate::store::table::ChunkTable;

/// A dataset, and the file that holds it.
pub(super) struct About<'a> {
    pub(super) dataset: &'a hdf5::Dataset,
    pub(super) shape: &'a [usize],
    pub(super) file: &'a DataFile,
}

/// The allocated chunks of a dataset.
struct Allocated {
    table: ChunkTable,
    /// Whether each is exactly as long as its elements.
    plain: bool,
    /// The filters that were applied to none of them: bit i for the i-th.
    skipped: u32,
}

impl About<'_> {
    /// Storage chunks, place, and why the place cannot be read by position (if so).
    pub(super) fn place(&self, stored: ElementType) -> Result<(Option<Vec<usize>>, StoredAt, Option<String>)> {
        let path = self.file.path();
        let problem = |e: hdf5::Error| failed(path, "cannot read the dataset's layout", &e);
        let list = self.dataset.dcpl().map_err(problem)?;
        let bytes = match stored {
            ElementType::Standard(stored) => stored.dtype.bytes() as u64,
            _ => self.dataset.dtype().map_err(problem)?.size() as u64,
        };
        let opaque = |why: &str| Ok((None, StoredAt::Absent, Some(why.to_owned())));
        match list.get_layout().map_err(problem)? {
            Layout::Compact => opaque("compact storage"),
            Layout::Virtual => opaque("virtual dataset"),
            Layout::Contiguous => {
                let external = list.get_external().map_err(problem)?;
                if !external.is_empty() {
                    external.iter().try_for_each(|raw| check_raw_file(path, &raw.name))?;
                    return opaque("external storage");
                }
                let place = contiguous(self.dataset);
                if let StoredAt::Contiguous(at) = place {
                    let elements: usize = self.shape.iter().product();
                    self.inside(at, elements as u64 * bytes)?;
                }
                Ok((None, place, None))
            }
            Layout::Chunked => {
                let Some(chunk) = list.chunk().filter(|c| c.len() == self.shape.len() && !c.contains(&0)) else {
                    return opaque("chunks of an unknown shape");
                };
                let Allocated { table, plain, skipped } = self.chunks(&chunk, bytes)?;
                let mut used = filters(self.dataset).map_err(problem)?;
                if table.len() > 0 {
                    // An optional filter that could not make a chunk smaller, or was not there, was skipped.
                    let all = std::mem::take(&mut used).into_iter().enumerate();
                    used.extend(all.filter(|(i, _)| skipped >> i & 1 == 0).map(|(_, filter)| filter));
                    self.check_filters(&used)?;
                }
                let why = match used {
                    none if none.is_empty() && plain => None,
                    none if none.is_empty() => Some("chunks of unequal sizes".to_owned()),
                    some => Some(some.iter().map(filter_name).collect::<Vec<_>>().join(", ")),
                };
                Ok((Some(chunk), StoredAt::Chunked(table), why))
            }
        }
    }

    /// The allocated chunks.
    fn chunks(&self, chunk: &[usize], bytes: u64) -> Result<Allocated> {
        let wanted = chunk.iter().fold(bytes, |b, &n| b.saturating_mul(n as u64));
        let (mut plain, mut skipped) = (true, u32::MAX);
        let mut furthest = (0, 0);
        let (table, visited) = ChunkTable::new(self.shape, chunk, |add| {
            self.dataset.chunks_visit(|info| {
                plain &= info.size == wanted;
                skipped &= info.filter_mask;
                if info.addr.saturating_add(info.size) > furthest.0 + furthest.1 {
                    furthest = (info.addr, info.size.min(u64::MAX - info.addr));
                }
                add(info.offset, info.addr);
                0
            })
        });
        visited.map_err(|e| failed(self.file.path(), "cannot read the chunk table", &e))?;
        self.inside(furthest.0, furthest.1)?;
        Ok(Allocated { table, plain, skipped })
    }

    /// Errs if the file ends before `bytes` at `at` do.
    fn inside(&self, at: u64, bytes: u64) -> Result<()> {
        if at.checked_add(bytes).is_some_and(|end| end <= self.file.bytes()) {
            return Ok(());
        }
        let problem = format!(
            "is truncated: {} has {bytes} bytes at byte {at}, and the file ends at byte {}",
            self.dataset.name(),
            self.file.bytes()
        );
        Err(Error::file(self.file.path(), problem))
    }

    /// Errs if data were packed by a filter that is not here.
    fn check_filters(&self, filters: &[StoredFilter]) -> Result<()> {
        let Some(lacking) = filters.iter().find(|f| !f.available) else { return Ok(()) };
        let (id, dataset) = (lacking.id, self.dataset.name());
        let filter = match named(lacking) {
            Some(name) => format!("the filter {name} (number {id})"),
            None => format!("a filter without a name, number {id}"),
        };
        let again = "store the data without it: h5repack -f GZIP=1 IN OUT, where HDF5 has it";
        let way = if id < 256 {
            format!("the HDF5 library of this program was built without it; {again}")
        } else {
            let searched = match std::env::var_os("HDF5_PLUGIN_PATH") {
                Some(path) => format!("found neither in this program nor in HDF5_PLUGIN_PATH={}", path.display()),
                None => "not in this program".to_owned(),
            };
            format!("{searched}; set HDF5_PLUGIN_PATH to a folder with its plugin (Python's hdf5plugin has one), or {again}")
        };
        let problem = format!("{dataset} is packed by {filter}: {way}");
        Err(Error::file(self.file.path(), problem))
    }
}

/// Where a contiguous dataset lies. libhdf5 gives an address for what it never allocated too: "none" and the user block's
/// length, added up. Only the storage's size tells.
pub(super) fn contiguous(dataset: &hdf5::Dataset) -> StoredAt {
    if dataset.storage_size() == 0 {
        return StoredAt::Absent;
    }
    dataset.offset().map_or(StoredAt::Absent, StoredAt::Contiguous)
}

/// Filters that users meet, by their registered numbers.
const FILTERS: &[(i32, &str)] = &[
    (1, "deflate"),
    (2, "shuffle"),
    (3, "fletcher32"),
    (4, "szip"),
    (5, "nbit"),
    (6, "scale-offset"),
    (307, "bzip2"),
    (32000, "lzf"),
    (32001, "blosc"),
    (32004, "lz4"),
    (32008, "bitshuffle"),
    (32013, "zfp"),
    (32015, "zstd"),
    (32017, "sz"),
    (32024, "sz3"),
    (32026, "blosc2"),
];

/// Its name, if it has one.
fn named(filter: &StoredFilter) -> Option<String> {
    if let Some(known) = FILTERS.iter().find(|known| known.0 == filter.id) {
        return Some(known.1.to_owned());
    }
    Some(filter.name.chars().filter(|c| !c.is_control()).collect()).filter(|name: &String| !name.is_empty())
}

fn filter_name(filter: &StoredFilter) -> String {
    named(filter).unwrap_or_else(|| format!("filter {}", filter.id))
}

/// What reading a dataset through libhdf5 takes in memory.
pub(super) struct LibraryMemory {
    /// Its cache of unpacked chunks.
    pub(super) cache_bytes: usize,
    /// Of one unpacked chunk.
    pub(super) chunk_bytes: u64,
    /// All that it can come to: the cache, a chunk on its way there, and another form of it between two filters.
    pub(super) most_bytes: u64,
}

/// What reading will take. Packed chunks are unpacked whole, so the cache has a place for one of each thread of the I/O lane:
/// then each is unpacked once, in however many pieces it is read.
pub(super) fn library_memory(dataset: &hdf5::Dataset, table: Option<&ChunkTable>) -> Result<LibraryMemory> {
    /// The library's own default.
    const CACHE_BYTES: u64 = 8 << 20;
    let none = LibraryMemory { cache_bytes: CACHE_BYTES as usize, chunk_bytes: 0, most_bytes: 0 };
    let Some(table) = table else { return Ok(none) };
    let problem = |e: hdf5::Error| failed(dataset.filename().as_ref(), "cannot read the dataset's layout", &e);
    let element = dataset.dtype().map_err(problem)?.size() as u64;
    let packed = !filters(dataset).map_err(problem)?.is_empty();
    let chunk_bytes = table.chunk().iter().fold(element, |b, &n| b.saturating_mul(n as u64));
    let cache_bytes = if packed { CACHE_BYTES.max(chunk_bytes.saturating_mul(2)) } else { CACHE_BYTES };
    if table.len() == 0 || (!packed && chunk_bytes > cache_bytes) {
        return Ok(none); // nothing is unpacked
    }
    let others = chunk_bytes.saturating_mul(table.len() as u64 - 1).min(cache_bytes);
    let most_bytes = others.saturating_add(chunk_bytes.saturating_mul(2));
    let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
    Ok(LibraryMemory { cache_bytes, chunk_bytes, most_bytes })
}
