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
    /// Parses `spec`. The dataset begins at the last `:/`.
    ///
    /// # Errors
    /// [`Error::Argument`] that shows the form wanted.
    pub(crate) fn parse(spec: &str) -> Result<Self> {
        let bad = |wanted: String| Err(Error::argument("array file", format!("{spec:?}"), wanted));
        // A Windows drive (`C:/data.npy`) is not a file with a dataset.
        match spec.rfind(":/").filter(|&at| at != 1) {
            Some(0) => bad(WANTED.into()),
            Some(at) => {
                let (path, dataset) = (&spec[..at], spec[at + 1..].trim_end_matches('/'));
                if ending(path) == "npy" {
                    return bad(format!("a .npy file holds one array without a name: write {path}"));
                }
                if dataset.is_empty() {
                    return bad(format!("name the dataset: {path}:/DATASET"));
                }
                Ok(Self::Hdf5 { path: path.into(), dataset: dataset.to_owned() })
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
        ] {
            let error = Spec::parse(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
