//! Folders for tests.
//!
//! Owns: [`Folder`]. Must not know: what is in it. Invariant: a folder is its test's alone, and gone when the test is over.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder of its own for a test, removed at the end.
pub struct Folder(TempDir);

impl Folder {
    /// A new empty folder.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        Self(TempDir::with_prefix(format!("chunkwise-test-{name}-")).expect("a folder for the test"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A file in it, or a dataset in one, as people write it: `FOLDER/a.h5:/x`.
    pub fn spec(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The names of its files, sorted, without the cost cache.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("the folder is there").flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "cache");
        names.sort();
        names
    }
}
