//! What writing a dataset does to a file that has others.
//!
//! Owns: [`base`], [`copy`], [`Change`]. Must not know: how a dataset is laid out. Invariant: the file itself is only read; what is
//! not the dataset that is written is the same in its copy, bit by bit or through libhdf5's own changes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use hdf5::{LocationToken, LocationType};

use super::about::About;
use super::links::{End, circle, follow, linked_file};
use super::open::{check_signature, stored_type};
use super::types::ElementType;
use super::{failed, is_written_elsewhere, open_file, written_elsewhere};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::store::direct::{DataFile, StoredAt};
use crate::store::stored::Stored;
use crate::store::whole::WholeFile;

/// Bytes of a file: the first one, and how many.
pub(super) type FileExtent = (u64, u64);

/// What becomes of a file.
pub(super) enum Change {
    /// The dataset there has the extent, element type and storage that are wanted: its bytes are replaced where they lie.
    Bytes { token: LocationToken, at: String, place: StoredAt, extents: Vec<FileExtent> },
    /// The same, but not all of it has a place yet: that is allocated in the copy. Its chunks, if it has any.
    Allocate { token: LocationToken, at: String, chunk: Option<Vec<usize>> },
    /// A dataset is made under this path; the one there, if there is one, leaves it its attributes.
    Dataset { at: String, old: Option<LocationToken> },
}

impl Change {
    /// The path of the dataset.
    fn at(&self) -> &str {
        let (Self::Bytes { at, .. } | Self::Allocate { at, .. } | Self::Dataset { at, .. }) = self;
        at
    }

    /// The dataset that is there.
    fn old(&self) -> Option<LocationToken> {
        match self {
            Self::Bytes { token, .. } | Self::Allocate { token, .. } => Some(*token),
            Self::Dataset { old, .. } => *old,
        }
    }
}

/// Where datasets of a plan would be, so that two of them are not in each other's way.
#[derive(Default)]
pub(crate) struct Places {
    /// Groups that are there; below, each is known by its number.
    known: Vec<LocationToken>,
    /// New datasets.
    new: HashSet<PlacePath>,
    /// Groups above these that are new too.
    groups: HashSet<PlacePath>,
    /// Datasets that are there and keep their place.
    there: Vec<LocationToken>,
}

/// A path: the deepest group of it that is there (none in a new file), and the rest. So it is one, whatever links lead to that group.
type PlacePath = (Option<usize>, String);

impl Places {
    /// One more; `group` is the deepest group that is there above a new one, and the rest of its path.
    ///
    /// # Errors
    /// [`Error::File`] if it would be where one of the plan is, below one, or a group above one.
    pub(super) fn add(&mut self, path: &Path, name: &str, change: &Change, group: Option<(LocationToken, &str)>) -> Result<()> {
        let (at, old) = (change.at(), change.old());
        let (group, rest) = match group {
            Some((token, rest)) => (Some(self.number(token)), rest),
            None => (None, at),
        };
        let link = |rest: &str| (group, rest.to_owned());
        if old.is_some_and(|old| self.there.contains(&old)) || self.new.contains(&link(rest)) {
            return Err(Error::file(path, twice(name)));
        }
        let ends = rest.match_indices('/').map(|(end, _)| end).filter(|&end| end > 0);
        let above: Vec<PlacePath> = ends.map(|end| link(&rest[..end])).collect();
        if let Some(above) = above.iter().find(|&above| self.new.contains(above)) {
            let above = &at[..at.len() - rest.len() + above.1.len()];
            return Err(Error::file(path, format!("{above} is a dataset, so {name} cannot lie below it; choose another name")));
        }
        if self.groups.contains(&link(rest)) {
            return Err(Error::file(path, format!("{at} is a group; name a dataset inside it")));
        }
        match change {
            Change::Bytes { token, .. } | Change::Allocate { token, .. } => self.there.push(*token),
            Change::Dataset { .. } => {
                self.groups.extend(above);
                self.new.insert(link(rest));
            }
        }
        Ok(())
    }

    fn number(&mut self, group: LocationToken) -> usize {
        self.known.iter().position(|known| *known == group).unwrap_or_else(|| {
            self.known.push(group);
            self.known.len() - 1
        })
    }
}

fn twice(name: &str) -> String {
    format!("{name} is a dataset that is being written into it already; give each one a name of its own")
}

/// The dataset that is wanted.
#[derive(Clone)]
pub(super) struct Wanted<'a> {
    pub(super) shape: &'a [usize],
    pub(super) dtype: DType,
    pub(super) chunks: Option<Cow<'a, [usize]>>,
    /// How hard it is compressed, 0 to 9, if it is; and whether bytes are put in another order before, which makes numbers smaller.
    pub(super) deflate: Option<(u8, bool)>,
}

/// The file under `path`, held against writers that use HDF5's own locks for as long as this lives; `None` if there is none.
///
/// # Errors
/// [`Error::File`] if it is not HDF5, or if somebody has it open for writing.
pub(super) fn base(path: &Path) -> Result<Option<DataFile>> {
    if !path.is_file() {
        return Ok(None); // what is there otherwise is refused as a target
    }
    let file = DataFile::open(path)?;
    check_signature(path, &file).map_err(|_| {
        Error::file(path, "exists and is not HDF5, so it is not overwritten; remove it or write to another file")
    })?;
    open_base(path)?;
    // This takes the lock that HDF5's readers take, so that no other program opens the file for writing meanwhile: its changes
    // would be lost. Where there are no locks, `DataFile::check_under` finds such changes in the end.
    if is_written_elsewhere(&file) {
        return Err(written_elsewhere(path));
    }
    Ok(Some(file))
}

/// Opens it.
pub(super) fn open_base(path: &Path) -> Result<hdf5::File> {
    let handle = open_file(path)?;
    if handle.is_read_only() {
        return Ok(handle);
    }
    Err(Error::file(path, "is open for writing in this process; close it there first"))
}

/// Copies a file, without the bytes that are going to be replaced (in order): they read as zero.
pub(super) fn copy(file: &DataFile, whole: &WholeFile, skipped: &[FileExtent]) -> Result<()> {
    let mut at = 0;
    for &(from, len) in skipped.iter().chain(&[(file.bytes(), 0)]) {
        if from > at {
            copy_range(file, whole, at, from - at)?;
        }
        at = at.max(from + len);
    }
    whole.set_len(file.bytes())?;
    file.check()
}

fn copy_range(file: &DataFile, whole: &WholeFile, at: u64, len: u64) -> Result<()> {
    let (mut from, mut to) = (file.file(), whole.file());
    let fail = |e| Error::io("copy", file.path(), e);
    from.seek(SeekFrom::Start(at)).map_err(fail)?;
    to.seek(SeekFrom::Start(at)).map_err(fail)?;
    let copied = std::io::copy(&mut from.take(len), &mut to).map_err(fail)?;
    if copied == len { Ok(()) } else { Err(Error::file(file.path(), "became shorter while it was copied")) }
}

/// A file in which a dataset is to be: that under `path`, or its copy that others are in by now.
pub(super) struct Within<'a> {
    /// The final name.
    pub(super) path: &'a Path,
    pub(super) file: &'a hdf5::File,
    pub(super) data: &'a DataFile,
    /// What is written there already.
    pub(super) written: &'a [LocationToken],
}

impl Within<'_> {
    /// What writing the dataset `name` changes.
    ///
    /// # Errors
    /// [`Error::File`] if the name is taken by something else, or by a dataset that is written already.
    pub(super) fn change(&self, name: &str, wanted: &Wanted<'_>) -> Result<Change> {
        let (at, there) = resolve(self.path, self.file, name)?;
        if !there {
            return Ok(Change::Dataset { at, old: None });
        }
        let failed = |e: hdf5::Error| failed(self.path, &format!("cannot open {at}"), &e);
        let found = self.file.dataset(&at).map_err(failed)?;
        let token = found.loc_info().map_err(failed)?.token;
        if self.written.contains(&token) {
            return Err(Error::file(self.path, twice(name)));
        }
        let same = self.in_place(&at, (&found, token), wanted)?;
        Ok(same.unwrap_or(Change::Dataset { at, old: Some(token) }))
    }

    /// The same, for a plan that has datasets at `places` already.
    ///
    /// # Errors
    /// As [`Within::change`], and if it is in the way of one of those.
    pub(super) fn planned(&self, name: &str, wanted: &Wanted<'_>, places: &mut Places) -> Result<()> {
        let change = self.change(name, wanted)?;
        let at = change.at();
        let mut end = at.len();
        let group = loop {
            end = at[..end].rfind('/').unwrap_or(0);
            let group = self.file.group(if end == 0 { "/" } else { &at[..end] }).and_then(|group| group.loc_info());
            match group {
                Ok(group) => break Some((group.token, &at[end..])),
                Err(_) if end == 0 => break None,
                Err(_) => {}
            }
        };
        places.add(self.path, name, &change, group)
    }

    /// The change of the bytes of the dataset at `at`, in order, if the wanted one can have the same place.
    fn in_place(
        &self,
        at: &str,
        (found, token): (&hdf5::Dataset, LocationToken),
        wanted: &Wanted<'_>,
    ) -> Result<Option<Change>> {
        if wanted.deflate.is_some() {
            return Ok(None); // how it was compressed is not looked at
        }
        // Whatever cannot be read (strings, an unknown filter) can be replaced.
        let Ok(ElementType::Standard(stored)) = stored_type(at, found) else { return Ok(None) };
        if stored != Stored::of(wanted.dtype) || found.shape() != wanted.shape || found.space().is_ok_and(|s| s.is_null()) {
            return Ok(None);
        }
        let about = About { dataset: found, shape: wanted.shape, file: self.data };
        let Ok((chunk, place, None)) = about.place(ElementType::Standard(stored)) else { return Ok(None) };
        if wanted.chunks.as_deref().is_some_and(|chunks| chunk.as_deref() != Some(chunks)) {
            return Ok(None);
        }
        let elements: usize = wanted.shape.iter().product();
        let bytes = |elements: usize| elements as u64 * wanted.dtype.bytes() as u64;
        let mut extents = match &place {
            StoredAt::Absent if elements > 0 => return Ok(Some(Change::Allocate { token, at: at.to_owned(), chunk })),
            StoredAt::Absent => Vec::new(),
            StoredAt::Contiguous(from) => vec![(*from, bytes(elements))],
            StoredAt::Chunked(table) => {
                if !table.is_complete() {
                    // In a damaged file a chunk may be there twice.
                    return Ok(table.is_distinct().then(|| Change::Allocate { token, at: at.to_owned(), chunk }));
                }
                table.addresses().map(|from| (from, bytes(table.chunk().iter().product()))).collect()
            }
        };
        extents.sort_unstable();
        // In a damaged file chunks may lie over each other.
        if extents.windows(2).any(|two| two[1].0 - two[0].0 < two[0].1) {
            return Ok(None);
        }
        Ok(Some(Change::Bytes { token, at: at.to_owned(), place, extents }))
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
