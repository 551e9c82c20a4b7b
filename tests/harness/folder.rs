//! Folders for tests.
//!
//! Owns: [`Folder`]. Must not know: what is in it. Invariant: a folder is its test's alone, and gone when the test is over.
#![allow(dead_code)] // not every test file uses all of it

use std::path::{Path, PathBuf};

/// A folder of its own for a test, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    /// A new empty folder.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chunkwise-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in it, or a dataset in one, as people write it: `FOLDER/a.h5:/x`.
    pub fn spec(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    /// The names of its files, sorted, without the cost cache.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the folder is there").flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "cache");
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
