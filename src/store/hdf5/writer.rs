//! HDF5 files by name: one that is read, and one that is written, with several datasets and one commit.
//!
//! Owns: [`Hdf5`], [`Hdf5Writer`], [`NewDataset`]. Must not know: how a dataset is laid out. Invariant: nothing is under the final name but
//! what was there before, until every element of every dataset is on disk.
//!
//! A file that is there is copied beside itself, and the copy takes its name in the end. It is copied with the first dataset: if that is there
//! with the same extent, element type and storage, its bytes are not copied, because they are replaced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hdf5::LocationToken;

use super::create::{Opened, allocate, lay_out};
use super::existing::{Change, Wanted, Within, base, copy, open_base};
use super::{failed, open, open_file};
use crate::error::{Error, Result};
use crate::shape::{ChunkView, DType, Region};
use crate::store::direct::{DataFile, Place, write_region};
use crate::store::spec::steps;
use crate::store::whole::WholeFile;
use crate::task::{ChunkSink, ChunkSource, Intake};

/// What libhdf5 needs beside the elements, about.
const HEADER_BYTES: u64 = 4096;

/// An HDF5 file. [`Hdf5::open`] reads one, [`Hdf5::create`] writes one.
#[derive(Clone, Debug)]
pub struct Hdf5 {
    path: PathBuf,
}

impl Hdf5 {
    /// Opens a file to be read.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses; [`Error::File`] for what is not HDF5, or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        super::open::open_checked(&path)?;
        Ok(Self { path })
    }

    /// One of its datasets: `/group/x`.
    ///
    /// # Errors
    /// As [`crate::store::open`].
    pub fn dataset(&self, name: &str) -> Result<Arc<dyn ChunkSource>> {
        open(&self.path, &dataset_path(&self.path, name)?)
    }

    /// Begins to write datasets into a file, which has them all at once, when they are complete and [`Hdf5Writer::commit`] is called. A file
    /// that is there keeps all else that it holds, and is as it was until then. Dropped without it, nothing is left behind.
    ///
    /// ```
    /// use chunkwise::prelude::*;
    /// use chunkwise::shape::DType;
    /// use chunkwise::store::Hdf5;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("a.h5");
    /// let x = Array::from(ndarray::arr1(&[1.0, 2.0, 3.0]));
    /// let n = Array::from(ndarray::arr2(&[[4, 5], [6, 7]]));
    ///
    /// let file = Hdf5::create(&path)?;
    /// let to_x = file.dataset("/x", &[3], DType::F64).create()?;
    /// let to_n = file.dataset("/counts/n", &[2, 2], DType::I32).chunks(&[1, 2]).create()?;
    /// x.store_into(&to_x)?;
    /// n.store_into(&to_n)?;
    /// assert!(!path.exists());
    /// file.commit()?;
    ///
    /// let file = Hdf5::open(&path)?;
    /// assert_eq!(Array::<i32>::from_source(file.dataset("/counts/n")?)?.compute()?.sum(), 22);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses; [`Error::File`] when a file there is not HDF5, is open for writing, or may not be replaced.
    pub fn create(path: impl AsRef<Path>) -> Result<Hdf5Writer> {
        let path = path.as_ref().to_owned();
        let base = base(&path)?;
        let bytes = base.as_ref().map_or(0, DataFile::bytes);
        let file = Arc::new(WholeFile::create(&path, bytes)?.changes(base));
        let now = Now { state: State::Empty, bytes: bytes.saturating_add(HEADER_BYTES), datasets: Vec::new() };
        Ok(Hdf5Writer { path, file, now: Mutex::new(now) })
    }
}

/// A file that gets its datasets all at once: see [`Hdf5::create`].
pub struct Hdf5Writer {
    path: PathBuf,
    file: Arc<WholeFile>,
    now: Mutex<Now>,
}

struct Now {
    state: State,
    /// About how long the file will be.
    bytes: u64,
    /// Which objects of the file they are.
    datasets: Vec<(LocationToken, Arc<Intake>)>,
}

enum State {
    /// Nothing is in the temporary file yet.
    Empty,
    /// A copy of what was there, or new datasets.
    Begun,
    /// A dataset could not be made; what libhdf5 left of it is not known.
    Broken,
    Committed,
}

/// A dataset to be made in a file: [`NewDataset::create`] makes it.
#[must_use = "it is made by `create`"]
pub struct NewDataset<'a> {
    file: &'a Hdf5Writer,
    name: &'a str,
    wanted: Wanted<'a>,
}

impl<'a> NewDataset<'a> {
    /// Stores it in chunks of this extent; without, it is contiguous. A scalar has none.
    pub fn chunks(mut self, chunks: &'a [usize]) -> Self {
        self.wanted.chunks = Some(chunks).filter(|_| !self.wanted.shape.is_empty());
        self
    }

    /// Makes it, and gives the sink that fills it, from any thread. The sink's `finish` says whether it is complete; it is in the file
    /// when [`Hdf5Writer::commit`] is called.
    ///
    /// A dataset of the same shape and dtype that is there and not compressed (and, with chunks, has these) keeps everything but its numbers:
    /// its attributes, chunks, links and references to it. Another one is replaced by a new one with its attributes; references and
    /// further hard links to the old one do not follow. Groups that are not there are made.
    ///
    /// # Errors
    /// [`Error::Argument`] for a name that cannot be one; [`Error::File`] when the name is that of a group or of a dataset that is
    /// being written into the file already, or leads through a dataset or into another file, and when the disk has no room;
    /// [`Error::Shape`] when the shape or the chunks cannot be stored.
    pub fn create(self) -> Result<Arc<dyn ChunkSink>> {
        let Self { file, name, wanted } = self;
        let name = dataset_path(&file.path, name)?;
        let intake = Arc::new(Intake::new(format!("{}:{name}", file.path.display()), wanted.shape, wanted.dtype)?);
        wanted.check()?;
        let mut now = lock(&file.now);
        let (place, token) = file.make(&mut now, &name, &wanted)?;
        now.datasets.push((token, Arc::clone(&intake)));
        Ok(Arc::new(Dataset { intake, place, file: Arc::downgrade(&file.file) }))
    }
}

impl Hdf5Writer {
    /// A dataset to be made in the file: under `name` (`/group/x`), of this shape and dtype.
    pub fn dataset<'a>(&'a self, name: &'a str, shape: &'a [usize], dtype: DType) -> NewDataset<'a> {
        NewDataset { file: self, name, wanted: Wanted { shape, dtype, chunks: None } }
    }

    /// Makes the file durable and gives it its name, with all its datasets. A second call does nothing.
    ///
    /// # Errors
    /// [`Error::Unwritten`] if a dataset is not complete: what is missing may still be written. [`Error::File`] if there is no
    /// dataset, or one could not be made, or if the file that was there has been changed by another program; [`Error::Io`] when the
    /// system refuses. Nothing is under the final name then but what was there.
    pub fn commit(&self) -> Result<()> {
        let mut now = lock(&self.now);
        match now.state {
            State::Committed => return Ok(()),
            State::Broken => return Err(self.broken()),
            State::Empty => return Err(Error::file(&self.path, "has no dataset to commit; make one first")),
            State::Begun => {}
        }
        now.datasets.iter().try_for_each(|(_, intake)| intake.check_complete())?;
        self.file.finish()?;
        now.state = State::Committed;
        Ok(())
    }

    /// Makes a dataset, or finds its place: where its elements lie, and which object it is.
    fn make(&self, now: &mut Now, name: &str, wanted: &Wanted<'_>) -> Result<(Place, LocationToken)> {
        match now.state {
            State::Committed => {
                return Err(Error::file(&self.path, "is committed; to add to it, begin again with Hdf5::create"));
            }
            State::Broken => return Err(self.broken()),
            State::Empty | State::Begun => {}
        }
        let (change, opened) = self.prepare(now, name, wanted)?;
        now.state = State::Broken; // until it is done
        let made = match change {
            Change::Bytes { token, place, .. } => Ok((place, token)),
            Change::Allocate { token, at, chunk } => {
                allocate(&self.file, &at, wanted, chunk.as_deref()).map(|place| (place, token))
            }
            Change::Dataset { at, replaces } => lay_out((&*self.file, opened), (&at, replaces), wanted),
        };
        let made = made.map_err(|e| failed(&self.path, &format!("cannot create {name}"), &e))?;
        if matches!(made.0, Place::Absent) && !wanted.shape.contains(&0) {
            return Err(Error::file(&self.path, format!("cannot create {name}: libhdf5 gave its elements no address")));
        }
        now.state = State::Begun;
        Ok(made)
    }

    /// Says what making it changes, and makes the temporary file a copy of what is there, if it is to be one.
    fn prepare(&self, now: &mut Now, name: &str, wanted: &Wanted<'_>) -> Result<(Change, Opened)> {
        let tokens: Vec<LocationToken> = now.datasets.iter().map(|(token, _)| *token).collect();
        let change =
            |file: &hdf5::File, data: &DataFile| Within { path: &self.path, file, data, written: &tokens }.change(name, wanted);
        let is_empty = matches!(now.state, State::Empty);
        let (change, opened) = match self.file.base() {
            Some(base) if is_empty => (change(&open_base(&self.path)?, base)?, Opened::Begun),
            None if is_empty => (Change::Dataset { at: name.to_owned(), replaces: false }, Opened::New),
            _ => {
                let file = self.file.file().try_clone().map_err(|e| Error::io("open", &self.path, e))?;
                let data = DataFile::of(&self.path, file)?;
                (change(&open_file(self.file.temporary())?, &data)?, Opened::Begun)
            }
        };
        let new_bytes = if matches!(change, Change::Bytes { .. }) { 0 } else { wanted.bytes() };
        let bytes = now.bytes.saturating_add(new_bytes);
        self.file.expect(bytes)?;
        if is_empty && let Some(base) = self.file.base() {
            copy(base, &self.file, if let Change::Bytes { extents, .. } = &change { extents } else { &[] })?;
        }
        now.bytes = bytes;
        Ok((change, opened))
    }

    fn broken(&self) -> Error {
        Error::file(&self.path, "cannot be completed, because a dataset could not be made in it; drop it and begin again")
    }
}

fn lock(now: &Mutex<Now>) -> MutexGuard<'_, Now> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path of a dataset, as libhdf5 reads it.
fn dataset_path(path: &Path, name: &str) -> Result<String> {
    let at = steps(name);
    if at.is_empty() || at.contains('\0') {
        let what = format!("dataset of {}", path.display());
        return Err(Error::argument(what, format!("{name:?}"), "name it, for example /x or /group/x, without the character 0"));
    }
    Ok(at)
}

/// The sink of one dataset.
struct Dataset {
    intake: Arc<Intake>,
    place: Place,
    /// Goes with the writer: then nothing is left to write to.
    file: Weak<WholeFile>,
}

impl Dataset {
    fn file(&self) -> Result<Arc<WholeFile>> {
        self.file.upgrade().ok_or_else(|| {
            let message = "its file was dropped, or is committed; keep the Hdf5Writer until all is written, then commit it";
            Error::Failed { what: format!("writing {}", self.intake.name()), message: message.into() }
        })
    }
}

impl ChunkSink for Dataset {
    fn intake(&self) -> &Intake {
        &self.intake
    }

    fn put(&self, region: &Region, chunk: ChunkView<'_>) -> Result<()> {
        let file = self.file()?;
        write_region((self.intake.shape(), &self.place), region, chunk, &mut |bytes, at| file.write(bytes, at))
    }

    /// The file is committed by its writer.
    fn commit(&self) -> Result<()> {
        self.file().map(drop)
    }
}

/// A dataset with a file of its own to commit.
struct Only {
    file: Hdf5Writer,
    dataset: Arc<dyn ChunkSink>,
}

impl ChunkSink for Only {
    fn intake(&self) -> &Intake {
        self.dataset.intake()
    }

    fn put(&self, region: &Region, chunk: ChunkView<'_>) -> Result<()> {
        self.dataset.put(region, chunk)
    }

    fn commit(&self) -> Result<()> {
        self.file.commit()
    }
}

/// Creates `dataset` in the file `path`, which appears when the sink is finished.
pub(in crate::store) fn create(
    path: &Path,
    dataset: &str,
    (shape, dtype): (&[usize], DType),
    chunks: Option<&[usize]>,
) -> Result<Arc<dyn ChunkSink>> {
    let file = Hdf5::create(path)?;
    let new = file.dataset(dataset, shape, dtype);
    let dataset = if let Some(chunks) = chunks { new.chunks(chunks) } else { new }.create()?;
    Ok(Arc::new(Only { file, dataset }))
}
