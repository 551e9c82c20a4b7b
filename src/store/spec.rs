//! How a user names an array in a file: `data.h5:/group/A`, `data.npy`.
//!
//! Owns: [`Spec`]. Must not know: what is in the file. Invariant: parsing touches no file.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A parsed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    Npy(PathBuf),
    Hdf5 { path: PathBuf, dataset: String },
}

const WANTED: &str = "write FILE.h5:/DATASET or FILE.npy";
const HDF5_ENDINGS: [&str; 5] = ["h5", "hdf5", "he5", "hdf", "nc"];

impl Spec {
    /// Parses what is read. The dataset begins at the last `:/`.
    ///
    /// # Errors
    /// [`Error::Argument`] that shows the form wanted.
    pub(crate) fn parse(spec: &str) -> Result<Self> {
        Self::parse_local(spec, "copy it to this machine's disk and name the copy")
    }

    /// Parses what is written.
    ///
    /// # Errors
    /// As [`Spec::parse`].
    pub(crate) fn parse_output(spec: &str) -> Result<Self> {
        Self::parse_local(spec, "write to this machine's disk and copy the file from there")
    }

    /// `instead` says what to do where `spec` is on another machine.
    fn parse_local(spec: &str, instead: &str) -> Result<Self> {
        let bad = |wanted: String| Err(Error::argument("array file", format!("{spec:?}"), wanted));
        if let Some(scheme) = scheme(spec) {
            let instead = if scheme == "file" { "write its path alone" } else { instead };
            return bad(format!("{scheme}:// is not served; {instead}: FILE.h5:/DATASET or FILE.npy"));
        }
        // A Windows drive (`C:/data.npy`) is not a file with a dataset.
        match spec.rfind(":/").filter(|&at| at != 1) {
            Some(0) => bad(WANTED.into()),
            Some(at) => {
                let (path, dataset) = (&spec[..at], steps(&spec[at + 2..]));
                if ending(path) == "npy" {
                    return bad(format!("a .npy file holds one array without a name: write {path}"));
                }
                if dataset.is_empty() {
                    return bad(format!("name the dataset: {path}:/DATASET"));
                }
                Ok(Self::Hdf5 { path: path.into(), dataset })
            }
            None if ending(spec) == "npy" => Ok(Self::Npy(spec.into())),
            None => match spec.rsplit_once(':') {
                Some((path, dataset)) if HDF5_ENDINGS.contains(&ending(path).as_str()) && !dataset.is_empty() => {
                    bad(format!("write the dataset with a slash: {path}:/{dataset}"))
                }
                Some((path, "")) if HDF5_ENDINGS.contains(&ending(path).as_str()) => {
                    bad(format!("name the dataset: {path}:/DATASET"))
                }
                _ if HDF5_ENDINGS.contains(&ending(spec).as_str()) => bad(format!("name the dataset: {spec}:/DATASET")),
                _ => bad(WANTED.into()),
            },
        }
    }
}

/// The path of a dataset, from the root, as libhdf5 reads it: slashes in a row are one, and `.` is the group that it stands in. Empty if it
/// names nothing.
pub(crate) fn steps(name: &str) -> String {
    let steps = name.split('/').filter(|step| !matches!(*step, "" | "."));
    steps.fold(String::new(), |all, step| all + "/" + step)
}

/// The scheme of a URL: `s3` of `s3://bucket/a.h5:/A`. One letter is a Windows drive.
fn scheme(spec: &str) -> Option<&str> {
    let (scheme, _) = spec.split_once("://")?;
    let is_scheme = |s: &str| s.starts_with(|c: char| c.is_ascii_alphabetic()) && s.len() > 1;
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    // `file.h5://A` names a dataset.
    let a_file = HDF5_ENDINGS.contains(&ending(scheme).as_str()) || ending(scheme) == "npy";
    (is_scheme(scheme) && scheme.chars().all(of_scheme) && !a_file).then_some(scheme)
}

fn ending(path: &str) -> String {
    Path::new(path).extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let h5 = |path: &str, dataset: &str| Spec::Hdf5 { path: path.into(), dataset: dataset.into() };
        assert_eq!(Spec::parse("a.h5:/A").unwrap(), h5("a.h5", "/A"));
        assert_eq!(Spec::parse("/d/a b.nc:/g/x").unwrap(), h5("/d/a b.nc", "/g/x"));
        assert_eq!(Spec::parse("g.h5:/a//b/./c/").unwrap(), h5("g.h5", "/a/b/c"));
        assert_eq!(Spec::parse("g.h5://a").unwrap(), h5("g.h5", "/a"));
        assert_eq!(Spec::parse("odd:/name.h5:/A/").unwrap(), h5("odd:/name.h5", "/A"));
        assert_eq!(Spec::parse("C:/d/a.h5:/A").unwrap(), h5("C:/d/a.h5", "/A"));
        assert_eq!(Spec::parse("a.npy").unwrap(), Spec::Npy("a.npy".into()));
        assert_eq!(Spec::parse("C:/d/a.npy").unwrap(), Spec::Npy("C:/d/a.npy".into()));
        for (bad, says) in [
            ("", "FILE.h5"),
            ("a.h5", "a.h5:/DATASET"),
            ("a.h5:", "a.h5:/DATASET"),
            ("a.h5:/", "a.h5:/DATASET"),
            ("a.h5:A", "a.h5:/A"),
            ("a.npy:/A", "write a.npy"),
            ("a.txt", "FILE.npy"),
            (":/A", "FILE.h5"),
            ("a.h5:/./", "a.h5:/DATASET"),
            ("s3://bucket/a.h5:/A", "s3:// is not served; copy it"),
            ("s3://bucket/a.npy", "s3:// is not served"),
            ("https://host:80/a.h5:/A", "https:// is not served"),
            ("file:///tmp/a.npy", "file:// is not served; write its path alone"),
        ] {
            let error = Spec::parse(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
