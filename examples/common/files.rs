//! Files that are whole or absent.
//!
//! Owns: writing them in one go, temporary folders. Must not know: formats, temporary names. Invariant: under the final name
//! there is the old content or all of the new one; what is temporary goes away on errors and on Ctrl-C.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chunkwise::Error;
use chunkwise::store::{WholeFile, remove_temporaries};
use tempfile::TempDir;

/// Temporary folders.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Writes `path` through `content`: into a temporary file beside it, which then takes its name. What is not a regular file
/// (`/dev/null`, a pipe) is written directly.
///
/// # Errors
/// [`Error::Io`] if the system refuses; no new file is left then.
pub fn write_whole(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Error> {
    let fill = |file: &File| {
        let mut buffered = BufWriter::new(file);
        content(&mut buffered)?;
        buffered.flush()
    };
    if path.metadata().is_ok_and(|m| !m.is_file()) {
        let open = fs::OpenOptions::new().write(true).open(path);
        return open.and_then(|file| fill(&file)).map_err(|e| Error::io("write", path, e));
    }
    let whole = WholeFile::create(path, 0)?;
    fill(whole.file()).map_err(|e| Error::io("write", path, e))?;
    whole.finish()
}

/// Checks that a file of that name could be written now: for the beginning of long work.
///
/// # Errors
/// As [`write_whole`]; also if `path` is a folder.
pub fn can_write(path: &Path) -> Result<(), Error> {
    match path.metadata() {
        Ok(about) if about.is_dir() => Err(Error::file(path, "is a folder; name a file in it")),
        Ok(about) if !about.is_file() => Ok(()),
        _ => WholeFile::create(path, 0).map(drop),
    }
}

/// A folder for files that nobody keeps, in the system's place for them; removed with all in it when dropped, and on Ctrl-C.
pub struct TemporaryFolder(TempDir);

impl TemporaryFolder {
    /// A new empty folder.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses.
    pub fn create(name: &str) -> Result<Self, Error> {
        let made = TempDir::with_prefix(format!("chunkwise-{name}-"));
        let folder = made.map_err(|e| Error::io("create a folder in", std::env::temp_dir(), e))?;
        unfinished(|list| list.push(folder.path().to_owned()));
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        unfinished(|list| list.retain(|path| path != self.path()));
    }
}

/// Removes the files that are being written, and temporary folders; for the end by Ctrl-C.
pub(super) fn remove_unfinished() {
    remove_temporaries();
    unfinished(|list| list.drain(..).for_each(|path| drop(fs::remove_dir_all(path))));
}

fn unfinished<R>(with: impl FnOnce(&mut Vec<PathBuf>) -> R) -> R {
    with(&mut UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let made = tempfile::tempdir().unwrap();
        let folder = made.path();
        let path = folder.join("x.txt");
        write_whole(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_whole(&path, |w| {
            w.write_all(&[b'n'; 100_000])?;
            Err(io::Error::other("no space"))
        });
        assert!(failed.unwrap_err().to_string().contains("no space"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        write_whole(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
        assert!(can_write(&path).is_ok() && can_write(&folder.join("absent/x")).is_err() && can_write(folder).is_err());
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
        assert!(write_whole(&folder.join("absent/x"), |_| Ok(())).is_err());
        assert!(write_whole(folder, |_| Ok(())).is_err());
    }

    #[test]
    fn a_temporary_folder_goes_with_all_in_it() {
        let (folder, other) = (TemporaryFolder::create("x").unwrap(), TemporaryFolder::create("x").unwrap());
        let path = folder.path().to_owned();
        assert!(path.is_dir() && path != other.path());
        fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists() && other.path().exists());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_device_is_an_error() {
        let error = write_whole(Path::new("/dev/full"), |w| w.write_all(&[0; 100_000])).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /dev/full"), "{error}");
        assert!(Path::new("/dev/full").exists());
    }
}
