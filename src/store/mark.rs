//! The mark of a living writer on its temporary file.
//!
//! Owns: [`put`], [`take_off`], [`is_off`]. Must not know: names of files. Invariant: a mark is that of an open file, not of a
//! name or a process, so it goes when the writer does, however that ends; and it is no lock of `flock`, by which libraries keep
//! others out of their files: neither is in the other's way.
//!
//! Marks are on Linux only, where each open file has its own locks (`F_OFD_SETLK`). Elsewhere nothing is marked, and nothing
//! ever counts as left behind.
#![allow(unsafe_code)] // the standard library has `flock` only

use std::fs::File;

/// Marks a file that was opened for writing. False only while one that removes leftovers looks at it.
pub(super) fn put(file: &File) -> bool {
    os::put(file)
}

/// Takes the mark off.
pub(super) fn take_off(file: &File) {
    os::take_off(file);
}

/// Whether no writer lives who marked this file. Then none can mark it until `file` is closed.
pub(super) fn is_off(file: &File) -> bool {
    os::is_off(file)
}

#[cfg(target_os = "linux")]
mod os {
    use std::fs::File;
    use std::io::{Error, ErrorKind, Result};
    use std::os::fd::AsRawFd;

    pub(super) fn put(file: &File) -> bool {
        let refused = |e: Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied);
        !set(file, libc::F_WRLCK).is_err_and(refused)
    }

    pub(super) fn take_off(file: &File) {
        let _ = set(file, libc::F_UNLCK); // it goes with the file, at the latest
    }

    /// The lock for readers, because a file of somebody else's may be open for reading only.
    pub(super) fn is_off(file: &File) -> bool {
        set(file, libc::F_RDLCK).is_ok()
    }

    /// Sets the lock of an open file, without waiting.
    fn set(file: &File, kind: libc::c_int) -> Result<()> {
        // SAFETY: zeroes are a valid `flock`: all of the file, however long it becomes.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        // SAFETY: the descriptor is open as long as `file` is, and the call reads `lock` only.
        let status = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
        if status < 0 { Err(Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(not(target_os = "linux"))]
mod os {
    use std::fs::File;

    pub(super) fn put(_: &File) -> bool {
        true
    }

    pub(super) fn take_off(_: &File) {}

    pub(super) fn is_off(_: &File) -> bool {
        false
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_its_open_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let (writer, reader) = (File::create(&path).unwrap(), File::open(&path).unwrap());
        assert!(put(&writer) && put(&writer) && !is_off(&reader));
        // Others may lock the file, and close it again.
        let other = File::options().write(true).open(&path).unwrap();
        other.try_lock().unwrap();
        drop(other);
        assert!(!is_off(&reader));
        take_off(&writer);
        assert!(is_off(&reader) && !put(&writer));
        drop(reader);
        assert!(put(&writer));
        drop(writer);
        assert!(is_off(&File::open(&path).unwrap()));
    }
}
