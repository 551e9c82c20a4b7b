//! The files that the flags of a program name.
//!
//! Owns: [`Named`], and whether two flags mean one file. Must not know: formats, what is read or written. Invariant: a program that has asked
//! [`distinct`] never replaces what another of its flags names.

use std::path::{Path, PathBuf};

use super::UsageError;

/// A file that a flag names: as a path, or as `file.h5:/dataset`.
pub struct Named {
    flag: &'static str,
    spec: Option<String>,
    written: bool,
}

impl Named {
    /// A file that is read, if the flag is given.
    pub fn read(flag: &'static str, spec: Option<&String>) -> Self {
        Self { flag, spec: spec.cloned(), written: false }
    }

    /// A file that is written, if the flag is given.
    pub fn written(flag: &'static str, spec: Option<&String>) -> Self {
        Self { flag, spec: spec.cloned(), written: true }
    }

    /// A file that is written and has no arrays in it by name.
    pub fn written_path(flag: &'static str, path: Option<&PathBuf>) -> Self {
        Self { flag, spec: path.map(|path| path.to_string_lossy().into_owned()), written: true }
    }

    fn place(&self) -> Option<Place> {
        let spec = self.spec.as_deref()?;
        // As the library reads it: the dataset begins at the last `:/`, and slashes in a row are one. A Windows drive is neither.
        let (file, dataset) = match spec.rfind(":/").filter(|&at| at > 1) {
            Some(at) => (&spec[..at], Some(&spec[at + 2..])),
            None => (spec, None),
        };
        let steps = |dataset: &str| dataset.split('/').filter(|s| !matches!(*s, "" | ".")).map(String::from).collect();
        // Devices and pipes may be named twice: nothing in them is replaced.
        let replaceable = Path::new(file).metadata().map_or(true, |about| about.is_file());
        replaceable.then(|| Place { file: whole_path(Path::new(file), 0), dataset: dataset.map(steps) })
    }
}

struct Place {
    file: PathBuf,
    dataset: Option<Vec<String>>,
}

/// Errs if a file that is written is also read, or written under another flag. Datasets of one HDF5 file are files of their own here: the
/// others are kept when one is written.
pub fn distinct(files: &[Named]) -> Result<(), UsageError> {
    let placed: Vec<(&Named, Place)> = files.iter().filter_map(|named| Some((named, named.place()?))).collect();
    for (i, (one, at)) in placed.iter().enumerate() {
        let same = |place: &Place| {
            let datasets = at.dataset.is_some() && place.dataset.is_some();
            place.file == at.file && !(datasets && place.dataset != at.dataset)
        };
        let other = placed[i + 1..].iter().find(|(other, place)| (one.written || other.written) && same(place));
        if let Some((other, _)) = other {
            let name = |named: &Named| format!("{} {}", named.flag, named.spec.as_deref().unwrap_or_default());
            return Err(UsageError(format!(
                "{} and {} are the same file, which would be lost; name another",
                name(one),
                name(other)
            )));
        }
    }
    Ok(())
}

/// The path without links, also of a file that is not there yet.
fn whole_path(path: &Path, links: usize) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match path.read_link() {
        Ok(target) if links < 40 => whole_path(&folder.join(target), links + 1),
        _ => folder.canonicalize().unwrap_or_else(|_| folder.into()).join(path.file_name().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datasets_of_one_file_are_apart_and_names_of_one_file_are_not() {
        let one = |written: bool, spec: &str| Named { flag: "--x", spec: Some(spec.into()), written };
        let apart = |a, b| distinct(&[a, b, Named::read("--y", None)]).is_ok();
        assert!(apart(one(true, "z.h5:/A"), one(false, "z.h5:/B")) && apart(one(false, "a.npy"), one(false, "a.npy")));
        assert!(!apart(one(true, "z.h5:/A"), one(false, "./z.h5://A")) && !apart(one(true, "z.h5:/A"), one(true, "z.h5")));
        assert!(!apart(one(false, "a.npy"), one(true, "src/../a.npy")) && apart(one(false, "a.npy"), one(true, "src/a.npy")));
        assert!(apart(one(true, "/dev/null"), one(true, "/dev/null")) || cfg!(not(unix)));
    }
}
