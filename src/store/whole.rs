//! Files that appear whole under their name, or not at all.
//!
//! Owns: [`WholeFile`], the list of temporary files, [`remove_temporaries`]. Must not know: formats. Invariant: nothing is
//! under the final name but what was there before, until every byte is on disk.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::direct::DataFile;
use super::leftovers::{folder_of, remove_leftovers, stands_under, temporary_name};
use super::mark;
use crate::device::system::{disk_free, process_limit};
use crate::error::{Bytes, Error, Result};

/// Symbolic links followed one after another, as on Linux.
const LINKS: usize = 40;

/// What is being written: the final name, and the temporary one.
static TEMPORARIES: Mutex<Vec<(PathBuf, PathBuf)>> = Mutex::new(Vec::new());

/// Removes every temporary file of unfinished sinks of this process, for a program that is told to stop (SIGINT).
///
/// It takes no lock that a sink holds for long, and skips the work if the list is being changed at this very moment. Sinks
/// that still write afterwards write to a file without a name; their `finish` errs.
pub fn remove_temporaries() {
    for _ in 0..1000 {
        if let Ok(mut list) = TEMPORARIES.try_lock() {
            for (_, temporary) in list.drain(..) {
                let _ = std::fs::remove_file(temporary); // there is nobody left to tell
            }
            return;
        }
        std::thread::yield_now();
    }
}

fn temporaries() -> MutexGuard<'static, Vec<(PathBuf, PathBuf)>> {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is written beside its final name, as `NAME.tmp-` and twelve random digits, and takes that name when it is
/// finished and on disk; dropped before, it is removed. A symbolic link is followed and stays; so does one to a file that is not
/// there yet. Of a very long name the temporary one has the beginning only.
///
/// A file that it replaces leaves it its mode, and its owner and group where the system allows that; access lists and extended
/// attributes stay behind. While it is written its owner alone can read it then.
///
/// The writer holds a lock of the temporary file (`F_OFD_SETLK`, which `flock` does not see), so that the next writer of the same
/// name can tell what a killed one left, and removes that: on Linux, on file systems of the machine itself (ext4, xfs, btrfs, zfs,
/// overlay, tmpfs, ...). On network and other shared file systems, where locks may not reach the other machine, and on other systems leftovers stay.
///
/// ```
/// use chunkwise::store::WholeFile;
/// use std::io::Write;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("a.txt");
/// let file = WholeFile::create(&path, 5)?;
/// file.file().write_all(b"whole")?;
/// assert!(!path.exists());
/// file.finish()?;
/// assert_eq!(std::fs::read(&path)?, b"whole");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct WholeFile {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    /// What stood there before.
    replaced: Option<std::fs::Metadata>,
    base: Base,
    done: Mutex<bool>,
}

/// What must stand under the final name when the file takes it.
enum Base {
    /// Whatever: it is replaced.
    Any,
    /// Nothing.
    Nothing,
    /// The file of which this is a changed copy.
    Copied(DataFile),
}

impl WholeFile {
    /// Creates the temporary file. `bytes` is about how long the file will be.
    ///
    /// # Errors
    /// [`Error::File`] if the target exists and is not a regular file, or one that may not be written, if another sink of this process writes it, if the disk
    /// has no room for it, or if the process may not write files of that size (exceeding that limit would kill it);
    /// [`Error::Io`] otherwise.
    pub fn create(target: &Path, bytes: u64) -> Result<Self> {
        let target = linked_to(target);
        let replaced = match std::fs::metadata(&target) {
            Ok(about) => Some(about),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            // A name that is too long, links in a circle: it would come to nothing in the end.
            Err(e) => return Err(Error::io("create", target, e)),
        };
        if let Some(about) = &replaced {
            check_replaceable(&target, about)?;
        }
        if target.as_os_str().is_empty() {
            return Err(Error::argument("path of a file", "\"\"", "name the file"));
        }
        if target.file_name().is_none() || is_spelt_as_a_folder(&target) {
            return Err(Error::file(target, "is the name of a folder; name a file in it"));
        }
        remove_leftovers(&target); // first: they may be what the disk is full of
        check_room(&target, bytes, 0)?;
        let (temporary, file) = claim(&target, replaced.is_some())?;
        Ok(Self { target, temporary, file, replaced, base: Base::Any, done: Mutex::new(false) })
    }

    /// Says that this is a changed copy of `base` (`None`: a new file): [`WholeFile::finish`] errs if that is no longer what
    /// stands under the name.
    pub(crate) fn changes(mut self, base: Option<DataFile>) -> Self {
        self.base = base.map_or(Base::Nothing, Base::Copied);
        self
    }

    /// Says that the file will be about this long. Errs if that is too long, as [`WholeFile::create`] does.
    pub(crate) fn expect(&self, bytes: u64) -> Result<()> {
        check_room(&self.target, bytes, on_disk(&self.file))
    }

    /// Says that the file will be so much longer. Errs if that is too long, as [`WholeFile::create`] does.
    pub(crate) fn expect_more(&self, bytes: u64) -> Result<()> {
        let there = self.file.metadata().map_err(|e| Error::io("read", &self.temporary, e))?.len();
        check_room(&self.target, there.saturating_add(bytes), there)
    }

    /// Errs if the file of which this is a changed copy has been changed or replaced meanwhile.
    pub(crate) fn check_base(&self) -> Result<()> {
        self.base().map_or(Ok(()), |base| base.check_under(&self.target))
    }

    /// The file of which this is a changed copy.
    pub(crate) fn base(&self) -> Option<&DataFile> {
        if let Base::Copied(base) = &self.base { Some(base) } else { None }
    }

    /// The temporary name, for a library that opens files by name.
    pub(crate) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// The file, open for writing.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes `bytes` at byte `offset`.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        if *self.done.lock().unwrap_or_else(PoisonError::into_inner) {
            // A writer that was given up comes late: the file is published, and may be others' by now.
            return Err(Error::file(&self.target, "is complete; nothing more is written to it"));
        }
        super::direct::write_all_at(&self.file, bytes, offset).map_err(|e| Error::io("write", &self.target, e))
    }

    /// Sets the file's length, so that what is never written reads as zero.
    pub(crate) fn set_len(&self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes).map_err(|e| Error::io("write", &self.target, e))
    }

    /// Makes the file durable and gives it its name. A second call does nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses; nothing is left under the final name then but what was there.
    pub fn finish(&self) -> Result<()> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if *done {
            return Ok(());
        }
        let fail = |action| move |e| Error::io(action, &self.target, e);
        if let Some(replaced) = &self.replaced {
            take_over(&self.file, replaced).map_err(fail("write"))?;
        }
        self.file.sync_all().map_err(fail("write"))?;
        let folder = File::open(folder_of(&self.target)).ok();
        if let Some(folder) = &folder {
            take_turn(folder);
        }
        match &self.base {
            Base::Copied(base) => base.check_under(&self.target)?,
            Base::Nothing if self.target.symlink_metadata().is_ok() => {
                let problem = "was made by another program meanwhile; this one is dropped, so that it is not lost: write again";
                return Err(Error::file(&self.target, problem));
            }
            Base::Any | Base::Nothing => {}
        }
        std::fs::rename(&self.temporary, &self.target).map_err(fail("create"))?;
        self.forget();
        *done = true;
        mark::take_off(&self.file); // others may write it from now on
        // The name is durable once its directory is; not every system can sync a directory, and then there is no need.
        if let Some(folder) = folder {
            let _ = folder.unlock(); // the turn of the next
            let _ = folder.sync_all();
        }
        Ok(())
    }

    fn forget(&self) {
        temporaries().retain(|(_, temporary)| *temporary != self.temporary);
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if !*self.done.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = std::fs::remove_file(&self.temporary); // it may be gone already, and nobody is left to tell
            self.forget();
        }
    }
}

/// The file that `target` stands for: the one to which it is a link, whether that is there or not, by the one name that it has however it is
/// spelt. The link stays what it is.
fn linked_to(target: &Path) -> PathBuf {
    let mut target = target.to_owned();
    for _ in 0..LINKS {
        if let Ok(real) = std::fs::canonicalize(&target) {
            return real;
        }
        let Ok(to) = std::fs::read_link(&target) else { break };
        target = folder_of(&target).join(to);
    }
    match (std::fs::canonicalize(folder_of(&target)), target.file_name()) {
        (Ok(folder), Some(name)) if !is_spelt_as_a_folder(&target) => folder.join(name),
        _ => target,
    }
}

/// Whether a path ends in `/` or `/.`, which [`Path`] does not show.
fn is_spelt_as_a_folder(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.strip_suffix('.').unwrap_or(&text).ends_with(std::path::is_separator)
}

/// Errs if what is there is no file, or one that this process may not write.
fn check_replaceable(target: &Path, about: &std::fs::Metadata) -> Result<()> {
    if about.is_dir() {
        return Err(Error::file(target, "is a directory; name a file inside it"));
    }
    if !about.is_file() {
        return Err(Error::file(target, "is not a regular file, so it cannot be replaced whole; name a new file"));
    }
    // The folder may allow what the file does not. Nothing is written here.
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK); // if it is a pipe by now
    match options.open(target) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            let problem = format!("is read-only{}; make it writable, or write to another file", mode(about));
            Err(Error::file(target, problem))
        }
        _ => Ok(()), // what else is wrong is said by who replaces it
    }
}

#[cfg(unix)]
fn mode(about: &std::fs::Metadata) -> String {
    format!(" for this user (its mode is {:04o})", std::os::unix::fs::MetadataExt::mode(about) & 0o7777)
}

#[cfg(not(unix))]
fn mode(_about: &std::fs::Metadata) -> String {
    String::new()
}

/// What the disk has of a file already.
#[cfg(unix)]
fn on_disk(file: &File) -> u64 {
    file.metadata().map_or(0, |about| std::os::unix::fs::MetadataExt::blocks(&about).saturating_mul(512))
}

#[cfg(not(unix))]
fn on_disk(file: &File) -> u64 {
    file.metadata().map_or(0, |about| about.len())
}

/// Errs if the process's own limit has no room for a file of `bytes`, or the disk for those that are not `there`.
fn check_room(target: &Path, bytes: u64, there: u64) -> Result<()> {
    // Going over it raises a signal that ends the process (Linux: SIGXFSZ).
    if let Some(limit) = process_limit("Max file size")
        && bytes > limit
    {
        let (needed, limit) = (Bytes(bytes), Bytes(limit));
        let problem =
            format!("needs {needed}, but this process may write files of {limit} at most (ulimit -f); raise that limit");
        return Err(Error::file(target, problem));
    }
    // Some file systems do not count their free space, and say 0.
    match disk_free(&folder_of(target)) {
        Ok(free) if bytes.saturating_sub(there) > free && free > 0 => {
            let (needed, free) = (Bytes(bytes - there), Bytes(free));
            Err(Error::file(target, format!("needs {needed}, but its disk has {free} free; make room, or write elsewhere")))
        }
        _ => Ok(()),
    }
}

/// A new temporary file for `target`, marked as written.
fn claim(target: &Path, secret: bool) -> Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        // What it replaces may be closed to others; the mode follows when the file is finished.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    let name = target.file_name().unwrap_or_default();
    let mut list = temporaries();
    if list.iter().any(|(other, _)| other == target) {
        return Err(Error::file(target, "is already being written by this process; finish or drop that sink first"));
    }
    for last in [false, false, false, true] {
        let temporary = target.with_file_name(temporary_name(name));
        let file = match options.open(&temporary) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && !last => continue,
            opened => opened.map_err(|e| Error::io("create", target, e))?,
        };
        // Another writer may take it for a leftover between its creation and its mark; not four times. Where files have no
        // lasting numbers, it never seems to stand there, and leftovers are not removed.
        if last || (mark::put(&file) && stands_under(&file, &temporary)) {
            list.push((target.to_owned(), temporary.clone()));
            return Ok((temporary, file));
        }
        let _ = std::fs::remove_file(&temporary); // the other one does the same
    }
    unreachable!("the last attempt returns")
}

/// Waits for the turn to look what stands under a name and to replace it: two writers at once would both find the old file.
/// The turn ends when `folder` is unlocked or closed. Where the folder has no locks, or a stranger keeps it, nobody waits for long.
#[cfg(unix)]
fn take_turn(folder: &File) {
    for _ in 0..500 {
        match folder.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(2)),
            _ => return,
        }
    }
}

#[cfg(not(unix))]
fn take_turn(_folder: &File) {}

/// Gives `file` the owner, group and mode of what it replaces.
#[cfg(unix)]
fn take_over(file: &File, replaced: &std::fs::Metadata) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let own = file.metadata()?;
    let mut mode = replaced.mode() & 0o7777;
    if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid())
        && fchown(file, Some(replaced.uid()), Some(replaced.gid())).is_err()
        && own.gid() != replaced.gid()
        && fchown(file, None, Some(replaced.gid())).is_err()
    {
        mode &= 0o707; // the bits were meant for another group
    }
    file.set_permissions(PermissionsExt::from_mode(mode))
}

#[cfg(not(unix))]
fn take_over(_file: &File, _replaced: &std::fs::Metadata) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.bin");
        std::fs::write(&target, "old").unwrap();
        let whole = WholeFile::create(&target, 3).unwrap();
        whole.write(b"new", 0).unwrap();
        assert!(WholeFile::create(&target, 3).is_err(), "two writers of one file");
        drop(whole);
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let whole = WholeFile::create(&target, 3).unwrap();
        whole.file().write_all(b"new").unwrap();
        whole.finish().unwrap();
        whole.finish().unwrap();
        drop(whole);
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn odd_targets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for target in [dir.path().to_owned(), PathBuf::from("/dev/full"), PathBuf::from("/"), dir.path().join("missing/a.bin")]
        {
            assert!(WholeFile::create(&target, 0).is_err(), "{target:?}");
        }
        let error = WholeFile::create(&dir.path().join("a.bin"), u64::MAX).err().unwrap().to_string();
        assert!(error.contains("a.bin: needs") && error.contains("free"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn the_mode_of_a_replaced_file_stays() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a.bin");
        for mode in [0o600, 0o640, 0o444, 0o755] {
            std::fs::write(&target, "old").unwrap();
            std::fs::set_permissions(&target, PermissionsExt::from_mode(mode)).unwrap();
            if OpenOptions::new().write(true).open(&target).is_err() {
                continue; // refused: tests/store_write.rs
            }
            let whole = WholeFile::create(&target, 3).unwrap();
            assert_eq!(whole.file().metadata().unwrap().mode() & 0o7777, 0o600, "while it is written");
            whole.finish().unwrap();
            assert_eq!(std::fs::metadata(&target).unwrap().mode() & 0o7777, mode);
            std::fs::remove_file(&target).unwrap();
        }
    }
}
