//! HDF5 files that are read: datasets and attributes by name.
//!
//! Owns: [`Hdf5`]. Must not know: how a dataset is read. Invariant: a file is open only while it is asked something.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::attrs::{self, Attr};
use super::writer::dataset_path;
use super::{failed, names, open};
use crate::error::{Error, Result};
use crate::store::spec::steps;
use crate::task::ChunkSource;

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

    /// One of its datasets, `/group/x`, as a source: for [`crate::Array::from_source`]. `Hdf5::dataset` gives it as an array.
    ///
    /// # Errors
    /// As [`crate::store::open`].
    pub fn source(&self, name: &str) -> Result<Arc<dyn ChunkSource>> {
        open(&self.path, &dataset_path(&self.path, name)?)
    }

    /// The names of all its datasets, sorted, from the root: `/group/x`. A group that has several names is there under one of them. Links into other files are followed
    /// where those are there.
    ///
    /// # Errors
    /// As [`Hdf5::open`]; [`Error::File`] for what is damaged.
    pub fn datasets(&self) -> Result<Vec<String>> {
        let root = super::open::open_checked(&self.path)?.group("/");
        root.and_then(|root| names::all(&root)).map_err(|e| failed(&self.path, "its datasets cannot be listed", &e))
    }

    /// The attributes of a dataset or a group (`/` is the file's own), by name.
    ///
    /// ```
    /// # use chunkwise::{Array, store::{Attr, Hdf5}};
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("a.h5");
    /// Hdf5::create(&path)?.put("/x", &Array::from(vec![1, 2])).attr("offset", 0.5).attr("units", "m").run()?;
    /// let attrs = Hdf5::open(&path)?.attrs("/x")?;
    /// assert_eq!(attrs, [("offset".to_owned(), Attr::from(0.5)), ("units".to_owned(), Attr::from("m"))]);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::File`] if there is no such object, or an attribute cannot be read.
    pub fn attrs(&self, object: &str) -> Result<Vec<(String, Attr)>> {
        self.with_object(object, attrs::read_all)
    }

    /// An attribute of a dataset or a group.
    ///
    /// # Errors
    /// [`Error::File`] if there is no such object or attribute; then it says which there are.
    pub fn attr(&self, object: &str, name: &str) -> Result<Attr> {
        let (value, names) = self.with_object(object, |object| attrs::read_one(object, name))?;
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        value.ok_or_else(|| Error::file(&self.path, format!("{object} has no attribute {name}; it has {there}")))
    }

    fn with_object<R>(&self, object: &str, read: impl FnOnce(&hdf5::Location) -> hdf5::Result<R>) -> Result<R> {
        let file = super::open::open_checked(&self.path)?;
        let at = steps(object);
        let done = match at.is_empty() {
            true => read(&file),
            false => match file.loc_type_by_name(&at) {
                Ok(hdf5::LocationType::Dataset) => file.dataset(&at).and_then(|dataset| read(&dataset)),
                Ok(hdf5::LocationType::Group) => file.group(&at).and_then(|group| read(&group)),
                _ => return Err(Error::file(&self.path, format!("has no dataset or group {at}; {}", super::listing(&file)))),
            },
        };
        done.map_err(|e| failed(&self.path, &format!("cannot read the attributes of {object}"), &e))
    }
}
