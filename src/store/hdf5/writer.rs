//! HDF5 files that are written, with several datasets and one commit.
//!
//! Owns: [`Hdf5Writer`], [`NewDataset`]. Must not know: how a dataset is laid out. Invariant: nothing is under the final name but
//! what was there before, until every element of every dataset is on disk.
//!
//! A file that is there is copied beside itself, and the copy takes its name in the end. It is copied with the first dataset: if that is there
//! with the same extent, element type and storage, its bytes are not copied, because they are replaced.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hdf5::LocationToken;

use super::attrs::{self, Attr};
use super::create::{Temporary, allocate, lay_out, open_temporary};
use super::dataset::{Dataset, Put};
use super::existing::{Change, FileExtent, Places, Wanted, Within, base, copy, open_base};
use super::packed::{Library, Packed, compressible};
use super::{Hdf5, failed, open_file};
use crate::error::{Error, Result};
use crate::kernel::Held;
use crate::shape::{ChunkGrid, ChunkView, DType, Region};
use crate::store::direct::{DataFile, StoredAt};
use crate::store::spec::steps;
use crate::store::whole::WholeFile;
use crate::task::{ChunkSink, Intake};

/// What libhdf5 needs beside the elements, about.
const HEADER_BYTES: u64 = 4096;

impl Hdf5 {
    /// Begins to write datasets into a file, which has them all at once, when they are complete and [`Hdf5Writer::commit`] is called. A file
    /// that is there keeps all else that it holds, and is as it was until then. Dropped without it, nothing is left behind.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// use chunkwise::store::Hdf5;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("a.h5");
    /// let x = Array::from(ndarray::arr1(&[1.0, 2.0, 3.0]));
    /// let n = Array::from(ndarray::arr2(&[[4, 5], [6, 7]]));
    ///
    /// let file = Hdf5::create(&path)?;
    /// let to_x = file.dataset("/x", &[3], DType::F64).create()?;
    /// let to_n = file.dataset("/counts/n", &[2, 2], DType::I32).chunks(&[1, 2][..]).create()?;
    /// x.store_into(&to_x)?;
    /// n.store_into(&to_n)?;
    /// assert!(!path.exists());
    /// file.commit()?;
    ///
    /// let file = Hdf5::open(&path)?;
    /// assert_eq!(Array::<i32>::from_source(file.source("/counts/n")?)?.compute()?.sum(), 22);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses; [`Error::File`] when a file there is not HDF5, is open for writing, or may not be replaced.
    pub fn create(path: impl AsRef<Path>) -> Result<Hdf5Writer> {
        let path = path.as_ref();
        let base = base(path)?;
        let bytes = base.as_ref().map_or(0, DataFile::bytes);
        Ok(Hdf5Writer::new(path, WholeFile::create(path, bytes)?.changes(base), bytes))
    }

    /// As [`Hdf5::create`], but the file has nothing of what a file that is there holds, whatever that is: it takes its place with the commit.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses; [`Error::File`] when what is there may not be replaced.
    pub fn replace(path: impl AsRef<Path>) -> Result<Hdf5Writer> {
        let path = path.as_ref();
        Ok(Hdf5Writer::new(path, WholeFile::create(path, 0)?, 0))
    }
}

/// A file that gets its datasets all at once: see [`Hdf5::create`].
pub struct Hdf5Writer {
    path: PathBuf,
    file: Arc<WholeFile>,
    now: Mutex<FileNow>,
    library: Arc<Library>,
}

struct FileNow {
    state: State,
    /// About how long the file will be.
    bytes: u64,
    /// Which objects of the file they are.
    datasets: Vec<(LocationToken, Arc<Intake>)>,
    /// Of the file itself.
    attrs: Vec<(String, Attr)>,
    /// How many of these are in the file that was committed.
    written: usize,
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
    shuffles: bool,
    attrs: Vec<(String, Attr)>,
}

impl<'a> NewDataset<'a> {
    /// Stores it in chunks of this extent; without, it is contiguous. A scalar has none.
    pub fn chunks(mut self, chunks: impl Into<Cow<'a, [usize]>>) -> Self {
        self.wanted.chunks = Some(chunks.into()).filter(|_| !self.wanted.shape.is_empty());
        self
    }

    /// Compresses its chunks, from 0 (not at all) to 9 (as much as it takes); without [`NewDataset::chunks`], in chunks of about 1 MiB. Whole chunks, which is what
    /// arrays are stored by, are compressed two at a time; parts of chunks one after the other, and again for each part. A scalar, and what has no element, is stored as it is.
    /// What replaces a compressed dataset in a file that has others may not find all of its place free again: written often, the file grows (`h5repack` makes it small).
    pub fn deflate(mut self, level: u8) -> Self {
        self.wanted.deflate = Some((level, self.shuffles));
        self
    }

    /// Whether bytes of numbers are put in another order before they are compressed, all first ones before all second ones (default: yes): then most numbers take less.
    pub fn shuffle(mut self, shuffles: bool) -> Self {
        self.shuffles = shuffles;
        self.wanted.deflate = self.wanted.deflate.map(|(level, _)| (level, shuffles));
        self
    }

    /// An attribute that goes with it, in place of one of this name.
    pub fn attr(mut self, name: impl Into<String>, value: impl Into<Attr>) -> Self {
        self.attrs.push((name.into(), value.into()));
        self
    }

    /// The extent of the chunks in which it is stored, if it is.
    #[must_use]
    pub fn stored_chunks(&self) -> Option<Vec<usize>> {
        let mut wanted = self.wanted.clone();
        compressible(&mut wanted).ok()?;
        wanted.chunks.map(Cow::into_owned)
    }

    /// Makes it, and gives the sink that fills it, from any thread. The sink's `finish` says whether it is complete; it is in the file
    /// when [`Hdf5Writer::commit`] is called.
    ///
    /// A dataset of the same shape and dtype that is there and not compressed (and, with chunks, has these) keeps everything but its numbers:
    /// its attributes, chunks, links and references to it. Another one is replaced by a new one with its attributes; references and
    /// further hard links to the old one do not follow. Groups that are not there are made.
    ///
    /// # Errors
    /// [`Error::Argument`] for a name that cannot be one, a level of compression beyond 9, or an attribute (the file's too) that cannot be written; [`Error::File`] when the name is that of a group or of a dataset that is
    /// being written into the file already, or leads through a dataset or into another file, and when the disk has no room;
    /// [`Error::Shape`] when the shape or the chunks cannot be stored.
    pub fn create(mut self) -> Result<Arc<dyn ChunkSink>> {
        let (name, mut dataset) = self.checked()?;
        let mut now = lock(&self.file.now);
        let (place, token) = self.file.make(&mut now, &name, (&self.wanted, &self.attrs))?;
        now.datasets.push((token, Arc::clone(&dataset.intake)));
        if let Put::At(at) = &mut dataset.place {
            *at = place;
        }
        dataset.file = Arc::downgrade(&self.file.file);
        Ok(Arc::new(dataset))
    }

    /// The sink, for plans that are not run: nothing is made.
    ///
    /// # Errors
    /// As [`NewDataset::create`], but for the room on the disk.
    pub(crate) fn planned(mut self, places: &mut Places) -> Result<Arc<dyn ChunkSink>> {
        let (name, dataset) = self.checked()?;
        self.file.plan(&name, &self.wanted, places)?;
        Ok(Arc::new(dataset))
    }

    /// Its path, and its sink without a file.
    fn checked(&mut self) -> Result<(String, Dataset)> {
        let (file, wanted) = (self.file, &mut self.wanted);
        let name = dataset_path(&file.path, self.name)?;
        compressible(wanted)?;
        attrs::check(&self.attrs, &name)?;
        attrs::check(&lock(&file.now).attrs, "/")?; // before anything is computed for the file
        let intake = Arc::new(Intake::new(format!("{}:{name}", file.path.display()), wanted.shape, wanted.dtype)?);
        wanted.check()?;
        let place = match (wanted.deflate, &wanted.chunks) {
            (Some(deflate), Some(chunk)) => {
                let (name, grid) = (name.clone(), ChunkGrid::regular(wanted.shape, chunk)?);
                Put::Packed(Packed { name, dtype: wanted.dtype, grid, deflate, library: Arc::clone(&file.library) })
            }
            _ => Put::At(StoredAt::Absent),
        };
        Ok((name, Dataset { intake, place, file: Weak::new() }))
    }
}

impl Hdf5Writer {
    fn new(path: &Path, file: WholeFile, bytes: u64) -> Self {
        let bytes = bytes.saturating_add(HEADER_BYTES);
        let now = FileNow { state: State::Empty, bytes, datasets: Vec::new(), attrs: Vec::new(), written: 0 };
        Self { path: path.to_owned(), file: Arc::new(file), now: Mutex::new(now), library: Arc::default() }
    }

    /// A dataset to be made in the file: under `name` (`/group/x`), of this shape and dtype.
    pub fn dataset<'a>(&'a self, name: &'a str, shape: &'a [usize], dtype: DType) -> NewDataset<'a> {
        let wanted = Wanted { shape, dtype, chunks: None, deflate: None };
        NewDataset { file: self, name, wanted, shuffles: true, attrs: Vec::new() }
    }

    /// An attribute of the file (of its root group), in place of one of this name. It is written with [`Hdf5Writer::commit`], which needs no dataset then.
    pub fn attr(self, name: impl Into<String>, value: impl Into<Attr>) -> Self {
        lock(&self.now).attrs.push((name.into(), value.into()));
        self
    }

    /// Makes the file durable and gives it its name, with all its datasets. A second call does nothing.
    ///
    /// # Errors
    /// [`Error::Unwritten`] if a dataset is not complete: what is missing may still be written. [`Error::File`] if there is
    /// neither a dataset nor an attribute, or one could not be made, or if the file that was there has been changed by another program; [`Error::Io`] when the
    /// system refuses; [`Error::Argument`] for an attribute of the file that cannot be written. Nothing is under the final name then but what was there.
    pub fn commit(&self) -> Result<()> {
        let mut now = lock(&self.now);
        match now.state {
            State::Committed if now.attrs.len() > now.written => {
                return Err(Error::file(&self.path, "is committed; to add attributes, begin again with Hdf5::create"));
            }
            State::Committed => return Ok(()),
            State::Broken => return Err(self.broken()),
            State::Empty | State::Begun => self.check_given(&now, 0)?,
        }
        attrs::check(&now.attrs, "/")?;
        now.datasets.iter().try_for_each(|(_, intake)| intake.check_complete())?;
        let broken = self.library.take();
        if *broken {
            return Err(self.broken());
        }
        match now.state {
            State::Empty => self.file.expect(now.bytes.saturating_add(attrs::bytes(&now.attrs)))?,
            _ if now.attrs.is_empty() => {}
            _ => self.file.expect_more(attrs::bytes(&now.attrs))?,
        }
        let opened = match now.state {
            State::Empty => self.begin(&[])?,
            _ => Temporary::Begun,
        };
        now.state = State::Broken; // until it is done
        self.write_attrs(opened, "/", &now.attrs)?;
        now.state = State::Begun;
        self.file.finish()?;
        (now.state, now.written) = (State::Committed, now.attrs.len());
        Ok(())
    }

    /// Makes a dataset, or finds its place: where its elements lie, and which object it is.
    fn make(
        &self,
        now: &mut FileNow,
        name: &str,
        (wanted, attrs): (&Wanted<'_>, &[(String, Attr)]),
    ) -> Result<(StoredAt, LocationToken)> {
        let _library = self.open(now)?;
        let (change, opened) = self.prepare(now, name, (wanted, attrs))?;
        now.state = State::Broken; // until it is done
        let made = match change {
            Change::Bytes { token, place, .. } => Ok((place, token)),
            Change::Allocate { token, at, chunk } => {
                allocate(&self.file, &at, wanted, chunk.as_deref()).map(|place| (place, token))
            }
            Change::Dataset { at, old } => lay_out((&*self.file, opened), (&at, old.is_some()), wanted),
        };
        let made = made.map_err(|e| failed(&self.path, &format!("cannot create {name}"), &e))?;
        if matches!(made.0, StoredAt::Absent) && !wanted.shape.contains(&0) && wanted.deflate.is_none() {
            return Err(Error::file(&self.path, format!("cannot create {name}: libhdf5 gave its elements no address")));
        }
        self.write_attrs(Temporary::Begun, name, attrs)?;
        now.state = State::Begun;
        Ok(made)
    }

    /// Gives a dataset, or a group, attributes.
    fn write_attrs(&self, opened: Temporary, at: &str, attrs: &[(String, Attr)]) -> Result<()> {
        if attrs.is_empty() {
            return Ok(());
        }
        let write = || {
            let file = open_temporary(&self.file, opened)?;
            let written = match at {
                "/" => attrs::write(&file, attrs),
                _ => file.dataset(at).and_then(|dataset| attrs::write(&dataset, attrs)),
            };
            written.and_then(|()| file.close())
        };
        write().map_err(|e: hdf5::Error| failed(&self.path, &format!("cannot write the attributes of {at}"), &e))
    }

    /// libhdf5, for a dataset more.
    ///
    /// # Errors
    /// [`Error::File`] if it takes none any more.
    fn open(&self, now: &FileNow) -> Result<MutexGuard<'_, bool>> {
        let is_broken = self.library.take();
        match now.state {
            State::Committed => Err(Error::file(&self.path, "is committed; to add to it, begin again with Hdf5::create")),
            State::Broken => Err(self.broken()),
            State::Empty | State::Begun if *is_broken => Err(self.broken()),
            State::Empty | State::Begun => Ok(is_broken),
        }
    }

    /// Errs if a commit with `more` datasets would be refused for what is known now.
    pub(crate) fn check_some(&self, more: usize) -> Result<()> {
        let now = lock(&self.now);
        self.check_given(&now, more)?;
        self.open(&now).map(drop)
    }

    /// Errs if there is nothing to commit, with `more` datasets.
    fn check_given(&self, now: &FileNow, more: usize) -> Result<()> {
        match now.state {
            State::Empty if now.attrs.is_empty() && more == 0 => {
                Err(Error::file(&self.path, "gets no dataset and no attribute, so there is nothing to write; put one first"))
            }
            _ => Ok(()),
        }
    }

    /// Looks what making a dataset would change, after those of a plan at `places`.
    fn plan(&self, name: &str, wanted: &Wanted<'_>, places: &mut Places) -> Result<()> {
        let now = lock(&self.now);
        let _library = self.open(&now)?;
        if self.within(&now, |file| file.planned(name, wanted, places))?.is_none() {
            places.add(&self.path, name, &Change::Dataset { at: name.to_owned(), old: None }, None)?;
        }
        Ok(())
    }

    /// What `ask` says of the file that datasets are put into; `None` if that is new.
    fn within<T>(&self, now: &FileNow, ask: impl FnOnce(&Within<'_>) -> Result<T>) -> Result<Option<T>> {
        let tokens: Vec<LocationToken> = now.datasets.iter().map(|(token, _)| *token).collect();
        let ask =
            |file: &hdf5::File, data: &DataFile| ask(&Within { path: &self.path, file, data, written: &tokens }).map(Some);
        let is_empty = matches!(now.state, State::Empty);
        match self.file.base() {
            Some(base) if is_empty => {
                let file = open_base(&self.path)?;
                self.file.check_base()?;
                ask(&file, base)
            }
            None if is_empty => Ok(None),
            _ => {
                let file = self.file.file().try_clone().map_err(|e| Error::io("open", &self.path, e))?;
                let data = DataFile::of(&self.path, file)?;
                ask(&open_file(self.file.temporary())?, &data)
            }
        }
    }

    /// Says what making it changes, and makes the temporary file a copy of what is there, if it is to be one.
    fn prepare(
        &self,
        now: &mut FileNow,
        name: &str,
        (wanted, attrs): (&Wanted<'_>, &[(String, Attr)]),
    ) -> Result<(Change, Temporary)> {
        let is_empty = matches!(now.state, State::Empty);
        let change = self.within(now, |file| file.change(name, wanted))?;
        let change = change.unwrap_or_else(|| Change::Dataset { at: name.to_owned(), old: None });
        let new_bytes = if matches!(change, Change::Bytes { .. }) { 0 } else { wanted.bytes() };
        let bytes = now.bytes.saturating_add(new_bytes).saturating_add(attrs::bytes(attrs));
        self.file.expect(bytes)?;
        let opened = match &change {
            _ if !is_empty => Temporary::Begun,
            Change::Bytes { extents, .. } => self.begin(extents)?,
            Change::Allocate { .. } | Change::Dataset { .. } => self.begin(&[])?,
        };
        now.bytes = bytes;
        Ok((change, opened))
    }

    /// Makes the temporary file a copy of what is there, if it is to be one, without what is going to be replaced.
    fn begin(&self, replaced: &[FileExtent]) -> Result<Temporary> {
        let Some(base) = self.file.base() else { return Ok(Temporary::New) };
        copy(base, &self.file, replaced)?;
        Ok(Temporary::Begun)
    }

    fn broken(&self) -> Error {
        Error::file(&self.path, "cannot be completed, because a dataset could not be made in it; drop it and begin again")
    }
}

fn lock<T>(now: &Mutex<T>) -> MutexGuard<'_, T> {
    now.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path of a dataset, as libhdf5 reads it.
pub(super) fn dataset_path(path: &Path, name: &str) -> Result<String> {
    let at = steps(name);
    if at.is_empty() || at.contains('\0') || at.split('/').any(|step| step == "..") {
        let what = format!("dataset of {}", path.display());
        return Err(Error::argument(
            what,
            format!("{name:?}"),
            "name it, for example /x or /group/x, without .. and without the character 0",
        ));
    }
    Ok(at)
}

/// A dataset with a file of its own to commit.
struct OnlyDataset {
    file: Hdf5Writer,
    dataset: Arc<dyn ChunkSink>,
}

impl ChunkSink for OnlyDataset {
    fn intake(&self) -> &Intake {
        self.dataset.intake()
    }

    fn held(&self) -> Option<Held> {
        self.dataset.held()
    }

    fn gathers(&self) -> bool {
        self.dataset.gathers()
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
    Ok(Arc::new(OnlyDataset { file, dataset }))
}
