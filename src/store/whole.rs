//! Files that appear whole under their name, or not at all.
//!
//! Owns: [`WholeFile`], the list of temporary files, [`remove_temporaries`]. Must not know: formats. Invariant: nothing is
//! under the final name but what was there before, until every byte is on disk.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::error::{Bytes, Error, Result};

static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes every temporary file of unfinished sinks of this process, for a program that is told to stop (SIGINT).
///
/// It takes no lock that a sink holds for long, and skips the work if the list is being changed at this very moment. Sinks
/// that still write afterwards write to a file without a name; their `finish` errs.
pub fn remove_temporaries() {
    for _ in 0..1000 {
        if let Ok(mut list) = TEMPORARIES.try_lock() {
            for path in list.drain(..) {
                let _ = std::fs::remove_file(path); // there is nobody left to tell
            }
            return;
        }
        std::thread::yield_now();
    }
}

/// A file being written as `NAME.tmp-PID` beside its final name.
pub(crate) struct WholeFile {
    target: PathBuf,
    temporary: PathBuf,
    file: OnceLock<File>,
    done: Mutex<bool>,
}

impl WholeFile {
    /// Claims the temporary name; nothing is on disk yet. `bytes` is about how long the file will be.
    ///
    /// # Errors
    /// [`Error::File`] if the target exists and is not a regular file, if another sink of this process writes it, or if the
    /// process may not write files of that size (exceeding that limit would kill it); [`Error::Io`] otherwise.
    pub(crate) fn claim(target: &Path, bytes: u64) -> Result<Self> {
        // A link keeps pointing to the file that is replaced.
        let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        if let Ok(about) = std::fs::metadata(&target) {
            if about.is_dir() {
                return Err(Error::file(target, "is a directory; name a file inside it"));
            }
            if !about.is_file() {
                return Err(Error::file(target, "is not a regular file, so it cannot be replaced whole; name a new file"));
            }
        }
        let Some(name) = target.file_name() else {
            return Err(Error::file(target, "is not the name of a file"));
        };
        if let Some(limit) = file_size_limit()
            && bytes > limit
        {
            let problem = format!(
                "needs {}, but this process may write files of {} at most (ulimit -f); raise that limit",
                Bytes(bytes),
                Bytes(limit)
            );
            return Err(Error::file(target, problem));
        }
        let mut temporary = name.to_owned();
        temporary.push(format!(".tmp-{}", std::process::id()));
        let temporary = target.with_file_name(temporary);
        let mut list = TEMPORARIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if list.contains(&temporary) {
            return Err(Error::file(target, "is already being written by this process; finish or drop that sink first"));
        }
        // Not ours, so it was left by a dead process that had our number.
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("create", target, e)),
            _ => list.push(temporary.clone()),
        }
        Ok(Self { target, temporary, file: OnceLock::new(), done: Mutex::new(false) })
    }

    /// The temporary name, for a library that creates the file.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The final name.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Opens the temporary file for writing by position; creates it if `create`.
    pub(crate) fn open(&self, create: bool) -> Result<()> {
        let file = OpenOptions::new().write(true).create_new(create).open(&self.temporary);
        let file = file.map_err(|e| Error::io("create", &self.target, e))?;
        self.file.get_or_init(|| file);
        Ok(())
    }

    /// Writes `bytes` at byte `offset`.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let file = self.file.get().expect("a sink opens its file when it is made");
        super::direct::write_all_at(file, bytes, offset).map_err(|e| Error::io("write", &self.target, e))
    }

    /// Sets the file's length, so that what is never written reads as zero.
    pub(crate) fn set_len(&self, bytes: u64) -> Result<()> {
        let file = self.file.get().expect("a sink opens its file when it is made");
        file.set_len(bytes).map_err(|e| Error::io("write", &self.target, e))
    }

    /// Makes the file durable and gives it its name. A second call does nothing.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *done {
            return Ok(());
        }
        let fail = |action| move |e| Error::io(action, &self.target, e);
        let file = self.file.get().expect("a sink opens its file when it is made");
        file.sync_all().map_err(fail("write"))?;
        std::fs::rename(&self.temporary, &self.target).map_err(fail("create"))?;
        self.forget();
        *done = true;
        // The name is durable once its directory is; not every system can sync a directory, and then there is no need.
        if let Some(parent) = self.target.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            if let Ok(directory) = File::open(parent) {
                let _ = directory.sync_all();
            }
        }
        Ok(())
    }

    fn forget(&self) {
        TEMPORARIES.lock().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|p| *p != self.temporary);
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !*self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            let _ = std::fs::remove_file(&self.temporary); // it may not be there yet, and nobody is left to tell
            self.forget();
        }
    }
}

/// The largest file that this process may write, if the system says so. Going over it raises a signal that ends the process
/// (Linux: SIGXFSZ), so it is asked before anything is written.
fn file_size_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|l| l.starts_with("Max file size"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("chunkwise-whole-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn whole_or_not_at_all() {
        let dir = folder("drop");
        let target = dir.join("a.bin");
        std::fs::write(&target, "old").unwrap();
        let whole = WholeFile::claim(&target, 3).unwrap();
        whole.open(true).unwrap();
        whole.write(b"new", 0).unwrap();
        assert!(WholeFile::claim(&target, 3).is_err(), "two writers of one file");
        drop(whole);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let whole = WholeFile::claim(&target, 3).unwrap();
        whole.open(true).unwrap();
        whole.write(b"new", 0).unwrap();
        whole.finish().unwrap();
        whole.finish().unwrap();
        drop(whole);
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn odd_targets_are_refused() {
        let dir = folder("odd");
        for target in [dir.clone(), PathBuf::from("/dev/full"), PathBuf::from("/")] {
            assert!(WholeFile::claim(&target, 0).is_err(), "{target:?}");
        }
        let whole = WholeFile::claim(&dir.join("missing/a.bin"), 0).unwrap();
        assert!(whole.open(true).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
