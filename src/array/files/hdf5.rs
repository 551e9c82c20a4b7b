//! Arrays into HDF5 files and out of them.
//!
//! Owns: [`HdfPut`], `Hdf5::dataset`. Must not know: how a dataset is laid out. Invariant: what is compressed is cut so that each chunk of the file is written once.

use std::borrow::Cow;
use std::sync::Arc;

use super::super::IntoChunks;
use super::super::chunks::checked_grid;
use super::super::compute::explain_stored;
use super::super::expr::Expr;
use super::{AnyArray, DynArray, Result, RunReport, ToStore, parts, store_parts};
use crate::error::Error;
use crate::schedule::Explanation;
use crate::shape::ChunkGrid;
use crate::store::{Attr, Hdf5, Hdf5Writer, NewDataset, Places};
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
        HdfPut { file: self, entries: Vec::new(), since: 0 }.put(name, array)
    }

    /// Puts several arrays into the file, each under its name. What is set after it holds for all of them (for none, if there is none).
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*, store::Hdf5};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("out.h5");
    /// let x = Array::<f64>::random_uniform((300, 200));
    /// let rows: Vec<Array<f64>> = (0..3).map(|i| x.index_axis(Axis(0), i)).collect();
    /// let names = ["/row/0", "/row/1", "/row/2"];
    /// Hdf5::create(&path)?.put_all(names.iter().zip(&rows)).deflate(1).run()?;
    /// assert_eq!(Hdf5::open(&path)?.datasets()?, names);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    pub fn put_all<'a, N: AsRef<str>, A: Into<&'a dyn AnyArray>>(self, arrays: impl IntoIterator<Item = (N, A)>) -> HdfPut<'a> {
        HdfPut { file: self, entries: Vec::new(), since: 0 }.put_all(arrays)
    }
}

/// Arrays that are to be put into an HDF5 file: see [`Hdf5Writer::put`]. What is set holds for the array that was put last, or for all those of the last `put_all`.
#[must_use = "nothing is written before `run`"]
pub struct HdfPut<'a> {
    file: Hdf5Writer,
    entries: Vec<HdfEntry<'a>>,
    /// The first of those that were put last.
    since: usize,
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

    /// What is stored, and the dataset for it: in chunks of which each covers whole ones of the file, if these are compressed.
    fn new_dataset<'f>(&'f self, file: &'f Hdf5Writer) -> Result<(Expr, NewDataset<'f>)> {
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
        Ok((node.rechunked(grid)?, new))
    }
}

/// The largest extent of a grid's chunks along each axis.
fn sides(grid: &ChunkGrid) -> Vec<usize> {
    grid.largest().iter().map(|&n| n.max(1)).collect()
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
    pub fn put(self, name: impl Into<String>, array: &'a dyn AnyArray) -> Self {
        self.put_all([(name.into(), array)])
    }

    /// More arrays, as with [`Hdf5Writer::put_all`].
    pub fn put_all<N: AsRef<str>, A: Into<&'a dyn AnyArray>>(mut self, arrays: impl IntoIterator<Item = (N, A)>) -> Self {
        self.since = self.entries.len();
        self.entries.extend(arrays.into_iter().map(|(name, array)| HdfEntry::new(name.as_ref().to_owned(), array.into())));
        self
    }

    /// Stores it in chunks, all of one extent but the last: [`Auto`](crate::Auto) for those that the array has, or the largest of these. Without, it is contiguous.
    pub fn chunks(self, chunks: impl IntoChunks + Clone) -> Self {
        self.with(|entry| {
            let grid = match chunks.is_automatic() {
                // Of chunks that differ, the largest: those of a slice, for example.
                true => return entry.chunks = Some(Ok(sides(&parts(entry.array).node.op.grid))),
                false => checked_grid(chunks.clone(), entry.array.shape(), entry.array.dtype()),
            };
            entry.chunks = Some(grid.and_then(|grid| {
                let wanted = "storage chunks of one extent along each axis, but for the last; rechunk the array, or say which"
                    .to_owned();
                match ChunkGrid::regular(grid.shape(), &sides(&grid))? == grid {
                    true => Ok(sides(&grid)),
                    false => Err(Error::Shape { op: "put", found: grid.largest(), wanted }),
                }
            }));
        })
    }

    /// Compresses its chunks, from 0 (not at all) to 9 (as much as it takes); without [`HdfPut::chunks`], in chunks of about 1 MiB. The array is cut so that each chunk is
    /// written once.
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
        self.with(|entry| entry.deflate = Some(level))
    }

    /// Whether bytes of numbers are put in another order before they are compressed (default: yes), which makes most of them smaller.
    pub fn shuffle(self, shuffles: bool) -> Self {
        self.with(|entry| entry.shuffle = shuffles)
    }

    /// An attribute of its dataset, in place of one of this name.
    pub fn attr(self, name: impl Into<String>, value: impl Into<Attr>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.with(|entry| entry.attrs.push((name.clone(), value.clone())))
    }

    /// Computes all arrays in one run, writes each chunk by chunk, and gives the file its name: with all of them, or not at all. What the arrays have in common is
    /// made, and read, once.
    ///
    /// # Errors
    /// As [`crate::store_all`] and `NewDataset::create`; [`Error::Shape`] for storage chunks that are not all of one extent.
    pub fn run(self) -> Result<RunReport> {
        let report = store_parts("put", &self.sinks(|new| new.create())?)?;
        self.file.commit()?;
        Ok(report)
    }

    /// What [`HdfPut::run`] would do, and why. Nothing is written, and a file that is there is not copied.
    ///
    /// # Errors
    /// As [`HdfPut::run`], but for what shows only as it is written: a disk without room, datasets of the same file that are still incomplete, a file that another program
    /// changes meanwhile. Names that lead through a link to what would only be made by this call are refused.
    pub fn explain(self) -> Result<Explanation> {
        self.file.check_some(self.entries.len())?;
        let mut places = Places::default();
        explain_stored("put", &self.sinks(|new| new.planned(&mut places))?)
    }

    fn sinks(&self, mut sink: impl FnMut(NewDataset<'_>) -> Result<Arc<dyn ChunkSink>>) -> Result<Vec<ToStore<'a>>> {
        let of = |entry: &HdfEntry<'a>| {
            let (node, new) = entry.new_dataset(&self.file)?;
            Ok(ToStore { node, session: parts(entry.array).session, sink: sink(new)? })
        };
        self.entries.iter().map(of).collect()
    }

    fn with(mut self, set: impl Fn(&mut HdfEntry<'a>)) -> Self {
        self.entries[self.since..].iter_mut().for_each(set);
        self
    }
}
