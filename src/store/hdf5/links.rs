//! Where a path leads, link by link.
//!
//! Owns: [`follow`], [`trace`], where files that are linked to are looked for. Must not know: how a dataset is stored.
//! Invariant: a link into another file is looked at here before libhdf5 follows it, so that nobody waits for what is no file,
//! and what is written never leaves the file that was named.

use std::path::{Path, PathBuf};

use hdf5::LocationType;

use super::listing;
use super::open::{check_signature, open_checked};
use super::raw::{Link, link};
use crate::error::{Error, Result};
use crate::store::direct::DataFile;
use crate::store::leftovers::folder_of;

/// Links followed one after another; more are a circle, for libhdf5 too.
const LINKS: usize = 16;

/// Where a path leads inside its file. All paths but targets are by hard links only, so that nothing follows a link on them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// To an object of the file.
    Object(String),
    /// To nothing, under this name.
    Nothing(String),
    /// Through an object that is no group.
    Through(String),
    /// Through the soft link `link`, whose target is not there.
    Dangling { link: String, to: String },
    /// Through the link `link` to the path `to` in another file; what follows the link there is `rest`.
    Away { link: String, file: String, to: String, rest: String },
    /// Through more links than are followed; this is the last of them.
    Circle(String),
    /// Through a link of a kind that is not known.
    Unknown(String),
}

/// Follows `name`, through at most `links` links.
fn follow_some(file: &hdf5::File, name: &str, links: &mut usize) -> End {
    // What is left to do, last step first, and for steps that a soft link put there, which link it was and its target.
    let mut left: Vec<(String, Option<(String, String)>)> = steps(name).rev().map(|step| (step.to_owned(), None)).collect();
    let mut at = String::new();
    while let Some((step, from)) = left.pop() {
        let here = format!("{at}/{step}");
        let rest = || left.iter().rev().fold(String::new(), |all, (step, _)| all + "/" + step);
        match link(file, &here) {
            Some(Link::Hard) => {
                if !left.is_empty() && !matches!(file.loc_type_by_name(&here), Ok(LocationType::Group)) {
                    return End::Through(here);
                }
                at = here;
            }
            None => {
                return match from {
                    Some((link, to)) => End::Dangling { link, to },
                    None => End::Nothing(here + &rest()),
                };
            }
            Some(Link::Unknown) => return End::Unknown(here),
            Some(Link::Soft(_) | Link::External(..)) if *links == 0 => return End::Circle(here),
            Some(Link::External(file, to)) => {
                *links -= 1;
                let to = steps(&to).fold(String::new(), |all, step| all + "/" + step);
                return End::Away { link: here, file, to, rest: rest() };
            }
            Some(Link::Soft(to)) => {
                *links -= 1;
                if to.starts_with('/') {
                    at.clear();
                }
                let from = from.unwrap_or_else(|| (here, to.clone()));
                left.extend(steps(&to).rev().map(|step| (step.to_owned(), Some(from.clone()))));
            }
        }
    }
    End::Object(if at.is_empty() { "/".to_owned() } else { at })
}

/// Follows `name` inside its file.
pub(super) fn follow(file: &hdf5::File, name: &str) -> End {
    follow_some(file, name, &mut { LINKS })
}

/// The steps of a path; as libhdf5 reads it, slashes in a row are one, and `.` is the group that it stands in.
fn steps(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|step| !matches!(*step, "" | "."))
}

/// A path that cannot be read.
pub(super) struct Lost {
    /// The file that was named, and the first link that leads out of it.
    begun: PathBuf,
    first: Option<String>,
    /// The file that the path leads into, and what is left of the path there.
    path: PathBuf,
    file: hdf5::File,
    name: String,
    why: Why,
}

enum Why {
    /// It ends there.
    Ends(End),
    /// The next file cannot be opened.
    Closed(Error),
    /// The next file is no file: who opens it may wait for ever, so libhdf5 must not try.
    NoFile(Error),
}

impl Lost {
    /// Whether libhdf5 must not look for itself.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.why, Why::NoFile(_))
    }

    /// One sentence, however many files the path leads through: the first link, and where the last one ends.
    pub(super) fn error(self) -> Error {
        let (name, listing) = (&self.name, || listing(&self.file));
        let problem = match self.why {
            Why::Closed(error) | Why::NoFile(error) => return within(&self.begun, self.first, error),
            Why::Ends(End::Dangling { link, to }) => {
                format!("{link} is a link to something that is not there, {to}; {}", listing())
            }
            Why::Ends(End::Through(at)) => format!("there is no dataset {name}: {at} is no group; {}", listing()),
            Why::Ends(End::Circle(link)) => circle(&link),
            Why::Ends(_) => format!("there is no dataset {name}; {}", listing()),
        };
        match self.first {
            None => Error::file(self.begun, problem),
            first => within(&self.begun, first, Error::file(self.path, problem)),
        }
    }
}

fn within(begun: &Path, first: Option<String>, error: Error) -> Error {
    Error::file(begun, format!("{} in another file: {error}", first.unwrap_or_default()))
}

/// What is said of too many links.
pub(super) fn circle(link: &str) -> String {
    format!("{link} is a link that leads in a circle, or through more than {LINKS} links")
}

/// Follows `name` through all files that it leads into; fine is also what only libhdf5 can say more about.
pub(super) fn trace(path: &Path, file: &hdf5::File, name: &str) -> Result<(), Box<Lost>> {
    let mut links = LINKS;
    let (begun, mut first) = (path.to_owned(), None);
    let (mut path, mut file, mut name) = (begun.clone(), file.clone(), name.to_owned());
    loop {
        let why = match follow_some(&file, &name, &mut links) {
            End::Object(_) | End::Unknown(_) => return Ok(()),
            End::Away { link, file: other, to, rest } => {
                first = first.or_else(|| Some(format!("{link} is a link to {to}")));
                let next = linked_file(&path, &other, "HDF5_EXT_PREFIX").map_err(Why::NoFile);
                match next.and_then(|at| Ok((open_checked(&at).map_err(Why::Closed)?, at))) {
                    Ok((opened, at)) => {
                        (file, path, name) = (opened, at, to + &rest);
                        continue;
                    }
                    Err(why) => why,
                }
            }
            end => Why::Ends(end),
        };
        return Err(Box::new(Lost { begun, first, path, file, name, why }));
    }
}

/// The file `name` that the file `from` links to, found as libhdf5 finds it; `variable` is that of the folders to search.
///
/// # Errors
/// [`Error::File`] for a pipe or a device, which may keep whoever opens it waiting.
pub(super) fn linked_file(from: &Path, name: &str, variable: &str) -> Result<PathBuf> {
    let beside = |name: &Path| folder_of(from).join(name);
    let (whole, mut candidates) = (Path::new(name), Vec::new());
    let mut short = whole;
    if whole.is_absolute() {
        candidates.push(whole.to_owned());
        short = Path::new(whole.file_name().unwrap_or_default());
    }
    let folders = std::env::var_os(variable).unwrap_or_default();
    candidates.extend(std::env::split_paths(&folders).filter(|f| !f.as_os_str().is_empty()).map(|f| f.join(short)));
    // A folder that is named from that of the file; only that of virtual datasets may be.
    let origin = folders.to_str().and_then(|f| f.strip_prefix("${ORIGIN}")).filter(|_| variable == "HDF5_VDS_PREFIX");
    candidates.extend(origin.map(|rest| folder_of(from).join(rest.trim_start_matches('/')).join(short)));
    candidates.extend([beside(short), short.to_owned()]);
    candidates.extend(from.canonicalize().map(|real| folder_of(&real).join(short)));
    let mut there = None;
    for candidate in candidates {
        let Ok(about) = std::fs::metadata(&candidate) else { continue };
        let opened = if about.is_dir() { Err(None) } else { DataFile::open(&candidate).map_err(Some) };
        match opened.map(|file| check_signature(&candidate, &file)) {
            Ok(Ok(_)) => return Ok(candidate),
            Err(Some(error)) if !about.is_file() => return Err(error),
            _ => there = there.or(Some(candidate)), // libhdf5 goes on
        }
    }
    Ok(there.unwrap_or_else(|| if whole.is_absolute() { whole.to_owned() } else { beside(short) }))
}

/// Errs if the file `name`, in which `from` keeps a dataset's bytes, is a pipe or a device. Whether it is there shows when it is read.
pub(super) fn check_raw_file(from: &Path, name: &str) -> Result<()> {
    let prefix = std::env::var("HDF5_EXTFILE_PREFIX").unwrap_or_default();
    let prefix = prefix.replacen("${ORIGIN}", &folder_of(from).to_string_lossy(), 1);
    let raw = Path::new(&prefix).join(name);
    match std::fs::metadata(&raw) {
        Ok(about) if !about.is_file() => DataFile::open(&raw).map(drop),
        _ => Ok(()),
    }
}
