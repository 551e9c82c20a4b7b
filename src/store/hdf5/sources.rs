//! What a virtual dataset is read from.
//!
//! Owns: [`look`], [`PartIndex`]. Must not know: reading. Invariant: each source was looked at before libhdf5 opens it; one that is there and
//! cannot be opened is an error, where libhdf5 would give the fill value.
//!
//! libhdf5 opens each source when it is first read, with a chunk cache of its own, and keeps it until the virtual dataset is closed. So the
//! cache must hold the chunks of a source that are read piece by piece, the virtual dataset is read in boxes that suit the source with the
//! largest chunks, and it is closed before too many sources are open or too much is kept.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hdf5::LocationToken;
use hdf5::dataset::Layout;

use super::about::LibraryMemory;
use super::failed;
use super::links::{linked_file, trace};
use super::mappings::{Mapping, mappings};
use super::open::open_checked;
use super::raw::filters;
use crate::device::system::process_limit;
use crate::error::Result;
use crate::shape::AxisRange;

/// A virtual dataset of virtual datasets, and so on; what lies deeper is not looked at.
const DEPTH: usize = 8;
/// What may be kept unpacked, if two boxes are not more.
const KEPT_BYTES: u64 = 32 << 20;
/// The library's own default.
const CACHE_BYTES: u64 = 8 << 20;
/// Sources open at a time, at least and at most, and where the system does not say how many files may be.
const LEAST_OPEN: usize = 8;
const MOST_OPEN: usize = 256;
const OPEN: usize = 128;
/// Memory that libhdf5 takes for a file that is open: the table of its cache of metadata has 64 Ki entries.
const FILE_BYTES: u64 = 600_000;
/// Elements read at a time, of sources that are not packed.
const PIECE: usize = 1 << 17;
/// Parts that are looked at to see how many are read from at a time.
const SAMPLE: usize = 256;
/// Files of a series that are looked at, and sources in all.
const SERIES: usize = 1 << 16;
const LOOKED: usize = 1 << 17;

/// A source that is there.
#[derive(Clone, Default)]
struct VirtualSource {
    /// Which of all.
    number: usize,
    /// Datasets that are open when it is: more than one if it is virtual itself.
    opens: usize,
    chunks: Option<SourceChunks>,
}

/// How a source is chunked.
#[derive(Clone)]
struct SourceChunks {
    extents: Vec<usize>,
    chunk_bytes: u64,
    /// Of all its chunks.
    bytes: u64,
    packed: bool,
}

/// A virtual dataset's parts, and what reading them takes.
pub(super) struct VirtualParts {
    /// Extent of the boxes in which it is read; `None` if no source is packed.
    pub(super) unit: Option<Vec<usize>>,
    pub(super) parts: PartIndex,
    pub(super) memory: LibraryMemory,
}

/// Looks at the sources of `dataset`, which the file at `path` holds; `None` if it is not virtual.
///
/// # Errors
/// [`crate::Error::File`] and [`crate::Error::Io`] for sources that are there and cannot be read.
pub(super) fn look(dataset: &hdf5::Dataset, path: &Path) -> Result<Option<VirtualParts>> {
    let found = Look::default().parts(dataset, path, DEPTH)?;
    Ok(found.map(|parts| VirtualParts::of(&dataset.shape(), parts)))
}

/// What has been looked at.
#[derive(Default)]
struct Look {
    /// By file and path, as they are written in mappings of one file.
    named: HashMap<(PathBuf, String, String), Option<VirtualSource>>,
    /// By file and place: one dataset has many names, and one that is virtual may be among its own sources.
    known: HashMap<PathBuf, Vec<(LocationToken, Option<VirtualSource>)>>,
    count: usize,
}

impl Look {
    /// The parts of a virtual dataset whose sources are there.
    fn parts(&mut self, dataset: &hdf5::Dataset, path: &Path, depth: usize) -> Result<Option<Vec<(Mapping, VirtualSource)>>> {
        let problem = |e: hdf5::Error| failed(path, "cannot read the dataset's layout", &e);
        if depth == 0 || dataset.dcpl().and_then(|list| list.get_layout()).map_err(problem)? != Layout::Virtual {
            return Ok(None);
        }
        let own = dataset.file().map_err(problem)?;
        let mut parts = Vec::new();
        for mapping in mappings(dataset).map_err(problem)? {
            let key = (path.to_owned(), mapping.file.clone(), mapping.dataset.clone());
            let source = match self.named.get(&key) {
                Some(source) => source.clone(),
                None => self.source(&mapping, (&own, path), depth)?,
            };
            self.named.insert(key, source.clone());
            parts.extend(source.map(|source| (mapping, source)));
        }
        Ok(Some(parts))
    }

    /// The source of a part, if it is there.
    fn source(&mut self, mapping: &Mapping, (own, path): (&hdf5::File, &Path), depth: usize) -> Result<Option<VirtualSource>> {
        let (file, path): (hdf5::File, PathBuf) = if mapping.file == "." {
            (own.clone(), path.to_owned())
        } else {
            let of_series = |number| linked_file(path, &numbered(&mapping.file, number), "HDF5_VDS_PREFIX");
            let first = of_series(0)?;
            if !first.exists() {
                return Ok(None); // reads as the fill value
            }
            for number in 1..if is_series(&mapping.file) { SERIES } else { 1 } {
                if !of_series(number)?.exists() {
                    break;
                }
            }
            (open_checked(&first)?, first)
        };
        let name = numbered(&mapping.dataset, 0);
        if let Err(lost) = trace(&path, &file, &name) {
            return if lost.is_final() { Err(lost.error()) } else { Ok(None) };
        }
        match file.dataset(&name) {
            Ok(dataset) if self.count < LOOKED => self.dataset(&dataset, depth),
            _ => Ok(None),
        }
    }

    fn dataset(&mut self, dataset: &hdf5::Dataset, depth: usize) -> Result<Option<VirtualSource>> {
        let path = PathBuf::from(dataset.filename()); // a link may have led to another file
        let problem = |e: hdf5::Error| failed(&path, "cannot read the dataset's layout", &e);
        let token = dataset.loc_info().map_err(problem)?.token;
        let file = path.canonicalize().unwrap_or_else(|_| path.clone());
        let known = self.known.entry(file.clone()).or_default();
        if let Some((_, source)) = known.iter().find(|(other, _)| *other == token) {
            return Ok(source.clone());
        }
        let at = known.len();
        known.push((token, None)); // should it be a source of itself
        self.count += 1;
        let number = self.count;
        let nested = self.parts(dataset, &path, depth - 1)?;
        let chunks = match &nested {
            Some(parts) => together(parts),
            None => chunks(dataset).map_err(problem)?,
        };
        let inner = nested.iter().flatten().map(|(_, source)| (source.number, source.opens)).collect::<HashMap<_, _>>();
        let opens = inner.into_values().fold(1, usize::saturating_add);
        let source = Some(VirtualSource { number, opens, chunks });
        if let Some(known) = self.known.get_mut(&file).and_then(|known| known.get_mut(at)) {
            known.1 = source.clone();
        }
        Ok(source)
    }
}

/// A name in a series, if it is one: `%b` stands for the number.
fn numbered(name: &str, number: usize) -> String {
    name.replace("%b", &number.to_string()).replace("%%", "%")
}

fn is_series(name: &str) -> bool {
    name.replace("%%", "").contains("%b")
}

fn chunks(dataset: &hdf5::Dataset) -> hdf5::Result<Option<SourceChunks>> {
    let Some(extents) = dataset.dcpl()?.chunk().filter(|chunk| !chunk.contains(&0)) else { return Ok(None) };
    let element = dataset.dtype()?.size() as u64;
    let bytes = |extents: &[usize]| extents.iter().fold(element, |b, &n| b.saturating_mul(n as u64));
    let all: Vec<usize> = dataset.shape().iter().zip(&extents).map(|(n, c)| n.div_ceil(*c).saturating_mul(*c)).collect();
    let packed = !filters(dataset)?.is_empty();
    Ok(Some(SourceChunks { chunk_bytes: bytes(&extents), bytes: bytes(&all), packed, extents }))
}

/// Those of a virtual source: the largest chunks stand for all.
fn together(parts: &[(Mapping, VirtualSource)]) -> Option<SourceChunks> {
    let all = || parts.iter().filter_map(|(_, source)| source.chunks.as_ref());
    let largest = all().max_by_key(|chunks| (chunks.packed, chunks.chunk_bytes))?;
    let bytes = all().map(|chunks| chunks.bytes).fold(0, u64::saturating_add);
    Some(SourceChunks { bytes, ..largest.clone() })
}

impl VirtualParts {
    fn of(shape: &[usize], parts: Vec<(Mapping, VirtualSource)>) -> Self {
        let chunks = || parts.iter().filter_map(|(mapping, source)| Some((mapping, source.chunks.as_ref()?)));
        // Boxes for the chunks that take longest to unpack.
        let Some(largest) = chunks().filter(|(_, chunks)| chunks.packed).max_by_key(|(_, chunks)| chunks.chunk_bytes) else {
            // Chunks that are not packed are read in place; kept, they would add up with the sources.
            let parts: Vec<VirtualPart> = parts.iter().map(|part| VirtualPart::of(part, &[], 0)).collect();
            let most_open = most_open(crowd(&parts, &piece(shape), shape).0);
            let memory = LibraryMemory { cache_bytes: 0, chunk_bytes: 0, most_bytes: open_bytes(&parts, most_open) };
            return Self { unit: None, parts: PartIndex { unit: Vec::new(), parts, kept_bytes: 0, most_open }, memory };
        };
        let extent = |(axis, &n): (usize, &usize)| Axis::of(largest, axis, shape.len()).unit().min(n).max(1);
        let unit: Vec<usize> = shape.iter().enumerate().map(extent).collect();
        let chunk_bytes = chunks().map(|(_, chunks)| chunks.chunk_bytes).max().unwrap_or(0);
        let box_bytes = chunks().map(|part| box_bytes(part, &unit)).max().unwrap_or(0);
        // Of small chunks that lie across the boxes, no more than is kept anyway.
        let box_bytes = box_bytes.min(KEPT_BYTES.max(self::box_bytes(largest, &unit)));
        // Two boxes: there may be two threads.
        let cache_bytes = CACHE_BYTES.max(box_bytes.saturating_mul(2));
        let parts: Vec<VirtualPart> = parts.iter().map(|part| VirtualPart::of(part, &unit, cache_bytes)).collect();
        let (most, bytes) = crowd(&parts, &unit, shape);
        let (most_open, kept_bytes) = (most_open(most), KEPT_BYTES.max(bytes.saturating_mul(2)));
        let mut all: HashMap<usize, u64> = HashMap::new();
        parts.iter().for_each(|part| *all.entry(part.source).or_default() = part.series.map_or(part.most_bytes, |_| u64::MAX));
        let all = all.into_values().fold(0, u64::saturating_add);
        // What is kept, a chunk on its way there, and another form of it between two filters.
        let most_bytes = kept_bytes.min(all).saturating_add(chunk_bytes.saturating_mul(2));
        let most_bytes = most_bytes.saturating_add(open_bytes(&parts, most_open));
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let memory = LibraryMemory { cache_bytes, chunk_bytes, most_bytes };
        Self { unit: Some(unit.clone()), parts: PartIndex { unit, parts, kept_bytes, most_open }, memory }
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
    fn of((mapping, chunks): (&Mapping, &SourceChunks), axis: usize, rank: usize) -> Self {
        let there = (axis + chunks.extents.len()).checked_sub(rank);
        let chunk = there.and_then(|axis| chunks.extents.get(axis)).map_or(1, |&c| c);
        let from = there.and_then(|axis| mapping.from.bounds.get(axis)).map_or(0, |b| b.0);
        Self { chunk, from, to: mapping.to.bounds.get(axis).map_or((0, 0), |&b| b) }
    }

    fn len(&self) -> u64 {
        self.to.1.saturating_sub(self.to.0).saturating_add(1)
    }

    /// The longest extent of a box that stays within one chunk.
    fn unit(&self) -> usize {
        self.chunk.min(usize::try_from(self.len()).unwrap_or(usize::MAX))
    }

    /// How many chunks a box of this extent touches at most.
    fn touched(&self, unit: usize) -> u64 {
        let (unit, chunk) = (unit as u64, self.chunk as u64);
        let whole = |n: u64| self.to.0.is_multiple_of(n) && (self.from % chunk).is_multiple_of(n);
        if chunk.is_multiple_of(unit) && whole(unit) {
            return 1;
        }
        let within = unit.min(self.len());
        if unit.is_multiple_of(chunk) && whole(chunk) { within.div_ceil(chunk) } else { (within - 1) / chunk + 2 }
    }
}

/// Bytes of a source's chunks that a box touches, unpacked.
fn box_bytes((mapping, chunks): (&Mapping, &SourceChunks), unit: &[usize]) -> u64 {
    let along = unit.iter().enumerate().map(|(axis, &n)| Axis::of((mapping, chunks), axis, unit.len()).touched(n));
    // A part whose elements are apart has fewer in a box, if that is known.
    let apart = if mapping.to.steps.is_some() { 1 } else { mapping.to.spread };
    let spread = [mapping.from.spread, apart].map(|s| if s > 1 { s.saturating_add(1) } else { 1 });
    let touched = along.chain(spread).fold(1, u64::saturating_mul);
    touched.saturating_mul(chunks.chunk_bytes).min(chunks.bytes)
}

/// Half of the files that this process may have open (`ulimit -n`; 1024 on many systems): a source that libhdf5 cannot open reads as fill.
fn may_open() -> usize {
    process_limit("Max open files").map_or(OPEN, |files| usize::try_from(files / 2).unwrap_or(MOST_OPEN)).clamp(1, MOST_OPEN)
}

/// The most sources that a box is read from, and what they unpack for it, as far as a sample of the parts shows.
fn crowd(parts: &[VirtualPart], unit: &[usize], shape: &[usize]) -> (usize, u64) {
    let first_box = |part: &VirtualPart| {
        let axis = |(axis, &unit): (usize, &usize)| {
            let start = part.to.get(axis).map_or(0, |to| usize::try_from(to.0).unwrap_or(0)) / unit * unit;
            AxisRange { start, len: unit.min(shape[axis].saturating_sub(start)).max(1), step: 1 }
        };
        unit.iter().enumerate().map(axis).collect::<Vec<_>>()
    };
    let sample = parts.iter().step_by((parts.len() / SAMPLE).max(1));
    sample.map(|part| together_of(parts, &first_box(part))).fold((0, 0), |most, of| (most.0.max(of.0), most.1.max(of.1)))
}

/// The sources that a region is read from, and what they unpack for it.
fn together_of(parts: &[VirtualPart], axes: &[AxisRange]) -> (usize, u64) {
    let mut sources: HashMap<usize, (usize, u64)> = HashMap::new();
    for part in parts {
        let numbers = part.sources(axes);
        let count = numbers.end - numbers.start;
        if count > 0 {
            let opens = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(part.opens);
            let source = sources.entry(part.source).or_default();
            source.0 = source.0.max(opens);
            source.1 = source.1.max(part.box_bytes.saturating_mul(count));
        }
    }
    sources.into_values().fold((0, 0), |sum, of| (sum.0.saturating_add(of.0), sum.1.saturating_add(of.1)))
}

/// How many sources may be open at a time: twice as many as one box is read from.
fn most_open(crowd: usize) -> usize {
    crowd.saturating_mul(2).max(LEAST_OPEN).min(may_open())
}

/// What libhdf5 takes for the files that are open.
fn open_bytes(parts: &[VirtualPart], most_open: usize) -> u64 {
    let opens = |part: &VirtualPart| (part.source, if part.series.is_some() { most_open } else { part.opens });
    let all = parts.iter().map(opens).collect::<HashMap<_, _>>();
    all.into_values().fold(0, usize::saturating_add).min(most_open) as u64 * FILE_BYTES
}

/// The last axes, as far as they make up one piece that is read.
fn piece(shape: &[usize]) -> Vec<usize> {
    let mut left = PIECE;
    let extent = |&n: &usize| {
        let extent = n.min(left).max(1);
        left /= extent;
        extent
    };
    let mut unit: Vec<usize> = shape.iter().rev().map(extent).collect();
    unit.reverse();
    unit
}

/// The parts of a virtual dataset whose sources are there.
pub(super) struct PartIndex {
    /// Extent of a box; empty if there are none.
    unit: Vec<usize>,
    parts: Vec<VirtualPart>,
    /// What may be kept unpacked, and how many sources may be open.
    kept_bytes: u64,
    most_open: usize,
}

struct VirtualPart {
    /// First and last index in the virtual dataset, for each axis; the last one may be without end.
    to: Vec<(u64, u64)>,
    /// From where to where it repeats itself along each axis, and how many there are in a row.
    steps: Option<Vec<(u64, u64)>>,
    source: usize,
    /// Of a series of sources: along which axis they follow each other, and the extent of one.
    series: Option<(usize, u64)>,
    opens: usize,
    /// What one box of it unpacks, and all of them keep.
    box_bytes: u64,
    most_bytes: u64,
}

impl VirtualPart {
    fn of((mapping, source): &(Mapping, VirtualSource), unit: &[usize], cache_bytes: u64) -> Self {
        let series = is_series(&mapping.file) || is_series(&mapping.dataset);
        let to = mapping.to.bounds.clone();
        let endless = to.iter().position(|&(_, last)| last == u64::MAX).filter(|_| series);
        let one = |axis: usize| {
            let from = (axis + mapping.from.bounds.len()).checked_sub(to.len()).and_then(|axis| mapping.from.bounds.get(axis));
            from.map_or(1, |&(first, last)| last.saturating_sub(first).saturating_add(1))
        };
        let series = endless.map(|axis| (axis, one(axis)));
        let kept = source.chunks.as_ref().filter(|_| cache_bytes > 0);
        let box_bytes = kept.map_or(0, |chunks| box_bytes((mapping, chunks), unit).min(cache_bytes));
        let most_bytes = kept.map_or(0, |chunks| chunks.bytes.min(cache_bytes));
        let steps = mapping.to.steps.clone().filter(|steps| steps.len() == to.len());
        Self { to, steps, source: source.number, series, opens: source.opens, box_bytes, most_bytes }
    }

    /// The sources that a region of the virtual dataset is read from, as numbers in the series.
    fn sources(&self, axes: &[AxisRange]) -> std::ops::Range<u64> {
        let ends = |a: &AxisRange| (a.start as u64, (a.start + a.len.saturating_sub(1) * a.step) as u64);
        let apart = |(axis, (a, &(first, last))): (usize, (&AxisRange, &(u64, u64)))| {
            let (from, to) = ends(a);
            // Between two of its rows?
            let between = |&(stride, row): &(u64, u64)| {
                from > first && (from - first) % stride >= row && {
                    let next = first.saturating_add(((from - first) / stride + 1).saturating_mul(stride));
                    to < next
                }
            };
            to < first || from > last || self.steps.as_ref().is_some_and(|steps| between(&steps[axis]))
        };
        if axes.iter().zip(&self.to).enumerate().any(apart) {
            return 0..0;
        }
        match self.series {
            None => 0..1,
            Some((axis, extent)) => {
                let (from, (first, last)) = (self.to[axis].0, ends(&axes[axis]));
                first.saturating_sub(from) / extent..last.saturating_sub(from) / extent + 1
            }
        }
    }
}

/// What reading has opened and unpacked, since the virtual dataset was opened.
#[derive(Default)]
pub(super) struct Touched {
    /// For each source, the boxes of it.
    boxes: HashMap<(usize, u64), Vec<Vec<usize>>>,
    opens: usize,
    bytes: u64,
}

impl Touched {
    pub(super) fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }
}

impl PartIndex {
    /// The axis along which a region is best halved: where a half is read from fewest sources; `None` if that is no fewer than of the whole.
    pub(super) fn halves(&self, axes: &[AxisRange]) -> Option<usize> {
        let of = |axes: &[AxisRange]| together_of(&self.parts, axes);
        let half = |axis: usize| {
            let mut axes = axes.to_vec();
            axes[axis].len /= 2;
            (of(&axes), axis)
        };
        let best = (0..axes.len()).filter(|&axis| axes[axis].len > 1).map(half).min()?;
        (best.0 < of(axes)).then_some(best.1)
    }

    /// Adds what reading a region opens and unpacks, if that is not too much, and says whether it did.
    pub(super) fn touch(&self, axes: &[AxisRange], touched: &mut Touched) -> bool {
        let at: Vec<usize> = axes.iter().zip(&self.unit).map(|(axis, unit)| axis.start / unit).collect();
        let mut new = Vec::new();
        let (mut opens, mut bytes) = (touched.opens, touched.bytes);
        for part in &self.parts {
            for number in part.sources(axes) {
                let key = (part.source, number);
                let boxes = touched.boxes.get(&key);
                let before = boxes.map_or(0, Vec::len) as u64;
                if boxes.is_some_and(|boxes| boxes.contains(&at)) || before > 0 && before * part.box_bytes >= part.most_bytes {
                    continue;
                }
                let kept = |boxes: u64| boxes.saturating_mul(part.box_bytes).min(part.most_bytes);
                opens += if before == 0 { part.opens } else { 0 };
                bytes += kept(before + 1) - kept(before);
                if opens > self.most_open || bytes > self.kept_bytes {
                    return false;
                }
                new.push(key);
            }
        }
        (touched.opens, touched.bytes) = (opens, bytes);
        new.into_iter().for_each(|key| touched.boxes.entry(key).or_default().push(at.clone()));
        true
    }
}
