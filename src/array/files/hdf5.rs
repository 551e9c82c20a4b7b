//! Arrays into HDF5 files and out of them.
//!
//! Owns: [`HdfPut`], `Hdf5::dataset`. Must not know: how a dataset is laid out. Invariant: what is compressed is cut so that each chunk of the file is written once.

use std::borrow::Cow;

use super::super::IntoChunks;
use super::super::compute::explain_stored;
use super::super::expr::Expr;
use super::{AnyArray, DynArray, Result, RunReport, ToStore, parts, store_parts};
use crate::error::Error;
use crate::schedule::Explanation;
use crate::shape::ChunkGrid;
use crate::store::{Attr, Hdf5, Hdf5Writer};
use crate::task::ChunkSink;

impl Hdf5 {
    /// One of the file's datasets, `/group/x`, as an array of the dtype that it has there. Reads metadata only.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*, store::Hdf5};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("a.h5");
    /// Hdf5::create(&path)?.put("/x", &Array::from(vec![1, 2, 3])).run()?;
    /// let x = Hdf5::open(&path)?.dataset("/x")?;
    /// assert_eq!((x.dtype(), x.cast::<f64>().mean().compute_scalar()?), (DType::I32, 2.0));
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`crate::store::open`].
    pub fn dataset(&self, name: &str) -> Result<DynArray> {
        DynArray::from_dyn_source(self.source(name)?)
    }
}

impl Hdf5Writer {
    /// Puts an array into the file, as the dataset `name` (`/group/x`): with it may come others. [`HdfPut::run`] computes and writes them all.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*, store::Hdf5};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("out.h5");
    /// let x = Array::<f64>::random_uniform((300, 200)).chunks((100, 200));
    /// Hdf5::create(&path)?
    ///     .attr("title", "a test")
    ///     .put("/x", &x).chunks(Auto).deflate(1).attr("units", "m")
    ///     .put("/stats/mean", &x.mean())
    ///     .run()?;
    ///
    /// let file = Hdf5::open(&path)?;
    /// assert_eq!(file.datasets()?, ["/stats/mean", "/x"]);
    /// assert_eq!(file.attr("/x", "units")?.as_str(), Some("m"));
    /// assert_eq!(file.dataset("/x")?.as_::<f64>()?.compute()?, x.compute()?);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn put<'a>(self, name: impl Into<String>, array: &'a dyn AnyArray) -> HdfPut<'a> {
        HdfPut { file: self, entries: vec![HdfEntry::new(name.into(), array)] }
    }
}

/// Arrays that are to be put into an HDF5 file: see [`Hdf5Writer::put`]. What is set holds for the array that was put last.
#[must_use = "nothing is written before `run`"]
pub struct HdfPut<'a> {
    file: Hdf5Writer,
    entries: Vec<HdfEntry<'a>>,
}

/// One array, and how it is stored.
struct HdfEntry<'a> {
    name: String,
    array: &'a dyn AnyArray,
    chunks: Option<Result<Vec<usize>>>,
    deflate: Option<u8>,
    shuffle: bool,
    attrs: Vec<(String, Attr)>,
}

impl<'a> HdfEntry<'a> {
    fn new(name: String, array: &'a dyn AnyArray) -> Self {
        Self { name, array, chunks: None, deflate: None, shuffle: true, attrs: Vec::new() }
    }

    /// Makes the dataset, and says what is stored into it: in chunks of which each covers whole ones of the file, if these are compressed.
    fn create(&self, file: &Hdf5Writer) -> Result<(Expr, std::sync::Arc<dyn ChunkSink>)> {
        let mut new = file.dataset(&self.name, self.array.shape(), self.array.dtype());
        let chunks = self.chunks.clone().transpose()?;
        if let Some(chunks) = &chunks {
            new = new.chunks(Cow::Owned(chunks.clone()));
        }
        if let Some(level) = self.deflate {
            new = new.deflate(level).shuffle(self.shuffle);
        }
        let new = self.attrs.iter().fold(new, |new, (name, value)| new.attr(name.clone(), value.clone()));
        let stored = new.stored_chunks();
        let node = parts(self.array).node;
        let grid = match stored.filter(|_| self.deflate.is_some()) {
            Some(stored) => whole_chunks(&node.op.grid, &stored)?,
            None => node.op.grid.clone(),
        };
        Ok((node.rechunked(grid)?, new.create()?))
    }
}

/// The grid whose chunks are whole ones of the file, and no larger than those of `grid`, or than one of the file: rows that are stored in columns would
/// be whole ones only in chunks that are as long as both.
fn whole_chunks(grid: &ChunkGrid, stored: &[usize]) -> Result<ChunkGrid> {
    let sides = grid.largest();
    let len = |sides: &[usize]| sides.iter().fold(1usize, |len, &n| len.saturating_mul(n));
    let mut left = (len(&sides) / len(stored).max(1)).max(1);
    let mut chunk = stored.to_vec();
    for axis in (0..stored.len()).rev() {
        let times = (sides[axis] / stored[axis]).clamp(1, left);
        chunk[axis] *= times;
        left /= times;
    }
    ChunkGrid::regular(grid.shape(), &chunk)
}

impl<'a> HdfPut<'a> {
    /// One more array, as another dataset.
    pub fn put(mut self, name: impl Into<String>, array: &'a dyn AnyArray) -> Self {
        self.entries.push(HdfEntry::new(name.into(), array));
        self
    }

    /// Stores it in chunks, all of one extent but the last: [`Auto`](crate::Auto) for those that the array has, or the largest of these. Without, it is contiguous.
    pub fn chunks(self, chunks: impl IntoChunks) -> Self {
        let (shape, dtype) = (self.last().array.shape(), self.last().array.dtype());
        if chunks.is_automatic() {
            // Of chunks that differ, the largest: those of a slice, for example.
            let side = parts(self.last().array).node.op.grid.largest().iter().map(|&n| n.max(1)).collect();
            return self.with(|last| last.chunks = Some(Ok(side)));
        }
        let grid = chunks.into_grid(shape, dtype);
        let even = |grid: ChunkGrid| {
            let side: Vec<usize> = grid.largest().iter().map(|&n| n.max(1)).collect();
            let wanted =
                "storage chunks of one extent along each axis, but for the last; rechunk the array, or say which".to_owned();
            match ChunkGrid::regular(shape, &side)? == grid {
                true => Ok(side),
                false => Err(Error::Shape { op: "put", found: grid.largest(), wanted }),
            }
        };
        let chunks = grid.and_then(even);
        self.with(|last| last.chunks = Some(chunks))
    }

    /// Compresses its chunks, from 0 (not at all) to 9 (as much as it takes); without [`HdfPut::chunks`], in chunks of about 1 MiB. The array is cut so that each chunk is
    /// written once; libhdf5 compresses one at a time.
    ///
    /// ```
    /// use chunkwise::{Array, store::Hdf5};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("a.h5");
    /// let x = Array::from(vec![7i64; 100_000]);
    /// Hdf5::create(&path)?.put("/x", &x).chunks(10_000).deflate(1).shuffle(false).run()?;
    /// assert!(std::fs::metadata(&path).unwrap().len() < 100_000); // of 800 000 bytes
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn deflate(self, level: u8) -> Self {
        self.with(|last| last.deflate = Some(level))
    }

    /// Whether bytes of numbers are put in another order before they are compressed (default: yes), which makes most of them smaller.
    pub fn shuffle(self, shuffles: bool) -> Self {
        self.with(|last| last.shuffle = shuffles)
    }

    /// An attribute of its dataset, in place of one of this name.
    pub fn attr(self, name: impl Into<String>, value: impl Into<Attr>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.with(|last| last.attrs.push((name, value)))
    }

    /// Computes all arrays in one run, writes each chunk by chunk, and gives the file its name: with all of them, or not at all. What the arrays have in common is
    /// made, and read, once.
    ///
    /// # Errors
    /// As [`crate::store_all`] and `NewDataset::create`; [`Error::Shape`] for storage chunks that are not all of one extent.
    pub fn run(self) -> Result<RunReport> {
        let report = store_parts(&self.created()?)?;
        self.file.commit()?;
        Ok(report)
    }

    /// What [`HdfPut::run`] would do, and why. No file is left.
    ///
    /// # Errors
    /// As [`HdfPut::run`].
    pub fn explain(self) -> Result<Explanation> {
        explain_stored(&self.created()?)
    }

    fn created(&self) -> Result<Vec<ToStore<'a>>> {
        let of = |entry: &HdfEntry<'a>| {
            let (node, sink) = entry.create(&self.file)?;
            Ok(ToStore { node, session: parts(entry.array).session, sink })
        };
        self.entries.iter().map(of).collect()
    }

    fn last(&self) -> &HdfEntry<'a> {
        &self.entries[self.entries.len() - 1]
    }

    fn with(mut self, set: impl FnOnce(&mut HdfEntry<'a>)) -> Self {
        if let Some(last) = self.entries.last_mut() {
            set(last);
        }
        self
    }
}
