//! What writing a dataset does to a file that is there.
//!
//! Owns: [`Existing`], [`Change`]. Must not know: how a dataset is laid out. Invariant: the file itself is only read; what is
//! not the dataset that is written is the same in its copy, bit by bit or through libhdf5's own changes.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use hdf5::LocationType;

use super::about::About;
use super::links::{End, circle, follow, linked_file};
use super::open::{check_signature, stored_type};
use super::raw::ElementType;
use super::{failed, is_written_elsewhere, open_file, written_elsewhere};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::store::direct::{DataFile, Place};
use crate::store::stored::Stored;
use crate::store::whole::WholeFile;

/// A file that is there, held against writers that use HDF5's own locks for as long as this lives.
pub(super) struct Existing {
    pub(super) file: DataFile,
    pub(super) change: Change,
}

/// Bytes of a file: the first one, and how many.
type Extent = (u64, u64);

/// What becomes of it.
pub(super) enum Change {
    /// The dataset there has the extent, element type and storage that are wanted: its bytes are replaced where they lie.
    Bytes(Place, Vec<Extent>),
    /// The same, but not all of it has a place yet: that is allocated in the copy. Its chunks, if it has any.
    Allocate { at: String, chunk: Option<Vec<usize>> },
    /// A dataset is made under this path; what is there, if anything, leaves it its attributes.
    Dataset { at: String, replaces: bool },
}

/// The dataset that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) shape: &'a [usize],
    pub(super) dtype: DType,
    pub(super) chunks: Option<&'a [usize]>,
}

impl Existing {
    /// Looks at the file under `path`; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::File`] if it is not HDF5, if somebody has it open for writing, or if `dataset` is taken by something else.
    pub(super) fn look(path: &Path, dataset: &str, wanted: &Wanted<'_>) -> Result<Option<Self>> {
        if !path.is_file() {
            return Ok(None); // what is there otherwise is refused as a target
        }
        let file = DataFile::open(path)?;
        check_signature(path, &file).map_err(|_| {
            Error::file(path, "exists and is not HDF5, so it is not overwritten; remove it or write to another file")
        })?;
        let handle = open_file(path)?;
        if !handle.is_read_only() {
            return Err(Error::file(path, "is open for writing in this process; close it there first"));
        }
        // This takes the lock that HDF5's readers take, so that no other program opens the file for writing meanwhile: its changes
        // would be lost. Where there are no locks, `DataFile::check_under` finds such changes in the end.
        if is_written_elsewhere(&file) {
            return Err(written_elsewhere(path));
        }
        let (at, there) = resolve(path, &handle, dataset)?;
        let same = if there { in_place(path, &handle, &at, (wanted, &file))? } else { None };
        let change = same.unwrap_or(Change::Dataset { at, replaces: there });
        Ok(Some(Self { file, change }))
    }

    /// Copies the file, without the bytes that are going to be replaced: they read as zero.
    pub(super) fn copy_to(&self, whole: &WholeFile) -> Result<()> {
        let skipped: &[Extent] = if let Change::Bytes(_, extents) = &self.change { extents } else { &[] };
        let mut at = 0;
        for &(from, len) in skipped.iter().chain(&[(self.file.bytes(), 0)]) {
            if from > at {
                self.copy_range(whole, at, from - at)?;
            }
            at = at.max(from + len);
        }
        whole.set_len(self.file.bytes())?;
        self.file.check()
    }

    fn copy_range(&self, whole: &WholeFile, at: u64, len: u64) -> Result<()> {
        let (mut from, mut to) = (self.file.file(), whole.file());
        let fail = |e| Error::io("copy", self.file.path(), e);
        from.seek(SeekFrom::Start(at)).map_err(fail)?;
        to.seek(SeekFrom::Start(at)).map_err(fail)?;
        let copied = std::io::copy(&mut from.take(len), &mut to).map_err(fail)?;
        if copied == len { Ok(()) } else { Err(Error::file(self.file.path(), "became shorter while it was copied")) }
    }
}

/// The path that `name` stands for, by hard links only, and whether there is a dataset. A link into another file is refused even
/// if that is this very file: in the copy it would lead back to the original.
fn resolve(path: &Path, file: &hdf5::File, name: &str) -> Result<(String, bool)> {
    let kind = |at: &str| file.loc_type_by_name(at).map_err(|e| failed(path, &format!("cannot read {at}"), &e));
    let problem = match follow(file, name) {
        End::Nothing(at) => return Ok((at, false)), // its groups are made
        End::Object(at) => match kind(&at)? {
            LocationType::Dataset => return Ok((at, true)),
            LocationType::Group => format!("{at} is a group; name a dataset inside it"),
            _ => format!("{at} is a named type, which datasets may use; choose another name"),
        },
        End::Through(at) => {
            let what = if kind(&at)? == LocationType::Dataset { "a dataset" } else { "a named type" };
            format!("{at} is {what}, so {name} cannot lie below it; choose another name")
        }
        End::Dangling { link, to } if link == name => {
            let target = if to.starts_with('/') { to.clone() } else { beside(&link, &to) };
            format!("{link} is a link to something that is not there, {to}; write to {target}, or choose another name")
        }
        End::Dangling { link, to } => {
            format!("{link} is a link to something that is not there, {to}, so {name} cannot lie below it")
        }
        End::Away { link, file, to, rest } => {
            let there = linked_file(path, &file, "HDF5_EXT_PREFIX").unwrap_or_else(|_| file.clone().into());
            format!("{link} is an external link, to {to} in {file}; write to {}:{to}{rest}", there.display())
        }
        End::Circle(link) => format!("{}; choose another name", circle(&link)),
        End::Unknown(link) => format!("{link} is a link of a kind that is not known; choose another name"),
    };
    Err(Error::file(path, problem))
}

/// What `name` is, seen from the group that `link` is in.
fn beside(link: &str, name: &str) -> String {
    format!("{}/{name}", link.rsplit_once('/').map_or("", |(group, _)| group))
}

/// The change of the bytes of the dataset at `at`, in order, if the wanted one can have the same place.
fn in_place(path: &Path, file: &hdf5::File, at: &str, (wanted, data): (&Wanted<'_>, &DataFile)) -> Result<Option<Change>> {
    let found = file.dataset(at).map_err(|e| failed(path, &format!("cannot open {at}"), &e))?;
    // Whatever cannot be read (strings, an unknown filter) can be replaced.
    let Ok(ElementType::Standard(stored)) = stored_type(at, &found) else { return Ok(None) };
    if stored != Stored::of(wanted.dtype) || found.shape() != wanted.shape || found.space().is_ok_and(|s| s.is_null()) {
        return Ok(None);
    }
    let about = About { dataset: &found, shape: wanted.shape, file: data };
    let Ok((chunk, place, None)) = about.place(ElementType::Standard(stored)) else { return Ok(None) };
    if wanted.chunks.is_some_and(|chunks| chunk.as_deref() != Some(chunks)) {
        return Ok(None);
    }
    let elements: usize = wanted.shape.iter().product();
    let bytes = |elements: usize| elements as u64 * wanted.dtype.bytes() as u64;
    let mut extents = match &place {
        Place::Absent if elements > 0 => return Ok(Some(Change::Allocate { at: at.to_owned(), chunk })),
        Place::Absent => Vec::new(),
        Place::Contiguous(from) => vec![(*from, bytes(elements))],
        Place::Chunked(table) => {
            if !table.is_complete() {
                // In a damaged file a chunk may be there twice.
                return Ok(table.is_distinct().then(|| Change::Allocate { at: at.to_owned(), chunk }));
            }
            table.addresses().map(|from| (from, bytes(table.chunk().iter().product()))).collect()
        }
    };
    extents.sort_unstable();
    // In a damaged file chunks may lie over each other.
    if extents.windows(2).any(|two| two[1].0 - two[0].0 < two[0].1) {
        return Ok(None);
    }
    Ok(Some(Change::Bytes(place, extents)))
}
