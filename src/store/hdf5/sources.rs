//! What a virtual dataset is read from.
//!
//! Owns: [`look`]. Must not know: reading. Invariant: each source was looked at before libhdf5 opens it; one that is there and
//! cannot be opened is an error, where libhdf5 would give the fill value.
//!
//! libhdf5 opens each source when it is first read, with a chunk cache of its own, and keeps it until the virtual dataset is
//! closed. So the cache must hold the chunks of a source that are read piece by piece, the virtual dataset is read in boxes that
//! touch few of them, and it is closed after so many boxes that all of this has a bound.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hdf5::dataset::Layout;

use super::about::LibraryMemory;
use super::failed;
use super::links::{linked_file, trace};
use super::open::open_checked;
use super::raw::{Mapping, filters, mappings};
use crate::error::Result;

/// A virtual dataset of virtual datasets, and so on; more are a circle.
const DEPTH: usize = 8;
/// What may be unpacked before it is forgotten, if chunks are small: the library's own default for a dataset, a few times.
const KEPT_BYTES: u64 = 32 << 20;
/// The library's own default.
const CACHE_BYTES: u64 = 8 << 20;

/// A source whose chunks are unpacked.
#[derive(Clone)]
struct Packed {
    /// Extent and bytes of a chunk.
    chunk: Vec<usize>,
    chunk_bytes: u64,
    /// Of all its chunks.
    bytes: u64,
}

/// Boxes in which a virtual dataset is read, and what that takes.
pub(super) struct Sources {
    /// Extent of the boxes; `None` if no source is packed.
    pub(super) unit: Option<Vec<usize>>,
    pub(super) memory: LibraryMemory,
}

/// Looks at the sources of `dataset`, which the file at `path` holds; `None` if it is not virtual.
///
/// # Errors
/// [`crate::Error::File`] and [`crate::Error::Io`] for sources that are there and cannot be read.
pub(super) fn look(dataset: &hdf5::Dataset, path: &Path) -> Result<Option<Sources>> {
    Ok(packed(dataset, path, DEPTH)?.map(|(parts, bytes)| Sources::of(&dataset.shape(), &parts, bytes)))
}

type Parts = Vec<(Mapping, Packed)>;

/// The parts of a virtual dataset that are packed, and the bytes of all their sources.
fn packed(dataset: &hdf5::Dataset, path: &Path, depth: usize) -> Result<Option<(Parts, u64)>> {
    let problem = |e: hdf5::Error| failed(path, "cannot read the dataset's layout", &e);
    if depth == 0 || dataset.dcpl().and_then(|list| list.get_layout()).map_err(problem)? != Layout::Virtual {
        return Ok(None);
    }
    let own = dataset.file().map_err(problem)?;
    let mut known: HashMap<(String, String), Option<Packed>> = HashMap::new();
    let mut parts = Vec::new();
    for mapping in mappings(dataset).map_err(problem)? {
        let key = (mapping.file.clone(), mapping.dataset.clone());
        if !known.contains_key(&key) {
            known.insert(key.clone(), source(&mapping, (&own, path), depth)?);
        }
        parts.extend(known[&key].clone().map(|source| (mapping, source)));
    }
    let bytes = known.values().flatten().map(|source| source.bytes).fold(0, u64::saturating_add);
    Ok(Some((parts, bytes)))
}

/// The source of a part, if it is there and packed.
fn source(mapping: &Mapping, (own, path): (&hdf5::File, &Path), depth: usize) -> Result<Option<Packed>> {
    // Of a series of files or datasets, the first.
    let first = |name: &str| name.replace("%b", "0").replace("%%", "%");
    let (file, path): (hdf5::File, PathBuf) = if mapping.file == "." {
        (own.clone(), path.to_owned())
    } else {
        let path = linked_file(path, &first(&mapping.file), "HDF5_VDS_PREFIX")?;
        if !path.exists() {
            return Ok(None); // reads as the fill value
        }
        (open_checked(&path)?, path)
    };
    let name = first(&mapping.dataset);
    if let Err(lost) = trace(&path, &file, &name) {
        return if lost.is_final() { Err(lost.error()) } else { Ok(None) };
    }
    let Ok(dataset) = file.dataset(&name) else { return Ok(None) };
    if let Some((parts, bytes)) = packed(&dataset, &path, depth - 1)? {
        let largest = parts.into_iter().map(|(_, source)| source).max_by_key(|source| source.chunk_bytes);
        return Ok(largest.map(|source| Packed { bytes, ..source }));
    }
    let problem = |e: hdf5::Error| failed(&path, "cannot read the dataset's layout", &e);
    let chunk = dataset.dcpl().map_err(problem)?.chunk().filter(|chunk| !chunk.contains(&0));
    let (Some(chunk), false) = (chunk, filters(&dataset).map_err(problem)?.is_empty()) else { return Ok(None) };
    let element = dataset.dtype().map_err(problem)?.size() as u64;
    let bytes = |extents: &[usize]| extents.iter().fold(element, |b, &n| b.saturating_mul(n as u64));
    let all: Vec<usize> = dataset.shape().iter().zip(&chunk).map(|(n, c)| n.div_ceil(*c).saturating_mul(*c)).collect();
    Ok(Some(Packed { chunk_bytes: bytes(&chunk), bytes: bytes(&all), chunk }))
}

impl Sources {
    fn of(shape: &[usize], parts: &[(Mapping, Packed)], bytes: u64) -> Self {
        if parts.is_empty() {
            // Chunks that are not packed are read in place; kept, they would add up with the sources.
            let memory = LibraryMemory { cache_bytes: 0, chunk_bytes: 0, most_bytes: 0, boxes: None };
            return Self { unit: None, memory };
        }
        let axes = 0..shape.len();
        let smallest = |axis| parts.iter().map(|part| Axis::of(part, axis, shape.len()).unit()).min().unwrap_or(1);
        let unit: Vec<usize> = axes.map(|axis| smallest(axis).min(shape[axis]).max(1)).collect();
        let touched = parts.iter().map(|part| touched(part, &unit)).max().unwrap_or(1);
        let chunk_bytes = parts.iter().map(|(_, source)| source.chunk_bytes).max().unwrap_or(0);
        let box_bytes = chunk_bytes.saturating_mul(touched);
        // Two boxes at least: there may be two threads.
        let boxes = (KEPT_BYTES / box_bytes.max(1)).clamp(2, 1024);
        let cache_bytes = CACHE_BYTES.max(box_bytes.saturating_mul(2));
        // What is kept, a chunk on its way there, and another form of it between two filters.
        let most_bytes = box_bytes.saturating_mul(boxes).min(bytes).saturating_add(chunk_bytes.saturating_mul(2));
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let boxes = Some(boxes as usize);
        Self { unit: Some(unit), memory: LibraryMemory { cache_bytes, chunk_bytes, most_bytes, boxes } }
    }
}

/// An axis of a part. Sources of another rank are taken to have the last axes in common.
struct Axis {
    /// Extent of a chunk; 1 along what the source does not have.
    chunk: usize,
    /// First index in the source, first and last in the virtual dataset.
    from: u64,
    to: (u64, u64),
}

impl Axis {
    fn of((mapping, source): &(Mapping, Packed), axis: usize, rank: usize) -> Self {
        let there = (axis + source.chunk.len()).checked_sub(rank);
        let chunk = there.and_then(|axis| source.chunk.get(axis)).map_or(1, |&c| c);
        let from = there.and_then(|axis| mapping.from.bounds.get(axis)).map_or(0, |b| b.0);
        Self { chunk, from, to: mapping.to.bounds.get(axis).map_or((0, 0), |&b| b) }
    }

    /// The longest extent of a box that stays within one chunk.
    fn unit(&self) -> usize {
        let extent = self.to.1.saturating_sub(self.to.0).saturating_add(1);
        self.chunk.min(usize::try_from(extent).unwrap_or(usize::MAX))
    }
}

/// How many chunks of the source a box touches.
fn touched(part: &(Mapping, Packed), unit: &[usize]) -> u64 {
    let rank = unit.len();
    let along = |(axis, &unit): (usize, &usize)| {
        let Axis { chunk, from, to } = Axis::of(part, axis, rank);
        let unit = unit as u64;
        let aligned =
            to.0.is_multiple_of(unit) && (from % chunk as u64).is_multiple_of(unit) && (chunk as u64).is_multiple_of(unit);
        if aligned { 1 } else { 2 }
    };
    let spread = [part.0.from.spread, part.0.to.spread].map(|s| if s > 1 { s.saturating_add(1) } else { 1 });
    unit.iter().enumerate().map(along).chain(spread).fold(1, u64::saturating_mul)
}
