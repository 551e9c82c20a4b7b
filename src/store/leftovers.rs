//! Temporary files that a dead writer left.
//!
//! Owns: the temporaries' names, [`remove_leftovers`], which file systems' locks can be believed. Must not know: who writes.
//! Invariant: a file is removed only while nobody can mark it, and a writer that has marked its file looks whether that is still
//! under its name; so a file that is being written is never taken away.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::mark;
use crate::device::files::{open_regular, random_name};

const MARK: &str = ".tmp-";

/// The longest name of a file, in bytes, on most file systems.
const NAME_BYTES: usize = 255;
/// What is added to a name.
const ADDED_BYTES: usize = MARK.len() + 12;

/// A new name beside `name`: `NAME.tmp-0123456789ab`.
pub(super) fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = beginning(name);
    temporary.push(MARK);
    temporary.push(random_name());
    temporary
}

/// As much of `name` as leaves room for what is added. Names that differ after that have leftovers in common.
fn beginning(name: &OsStr) -> OsString {
    if name.len() + ADDED_BYTES <= NAME_BYTES {
        return name.to_owned();
    }
    let text = name.to_string_lossy();
    let end = (0..=NAME_BYTES - ADDED_BYTES).rev().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].into()
}

/// Whether `file` is one that [`temporary_name`] made for `name`.
fn is_temporary_of(name: &OsStr, file: &OsStr) -> bool {
    let rest = file.as_encoded_bytes().strip_prefix(beginning(name).as_encoded_bytes());
    let digits = rest.and_then(|rest| rest.strip_prefix(MARK.as_bytes()));
    digits.is_some_and(|d| d.len() == 12 && d.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)))
}

/// Removes temporaries of `target` that nobody writes any more: those without a living writer's mark. Only on Linux and only on file
/// systems of this machine, because a mark on another machine's file may be known there only; elsewhere they stay.
pub(super) fn remove_leftovers(target: &Path) {
    let (Some(name), Some(folder)) = (target.file_name(), folder_of(target).canonicalize().ok()) else { return };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kind = file_system(&folder, &mounts);
    if !kind.is_some_and(|kind| LOCAL.contains(&kind)) {
        return;
    }
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        if is_temporary_of(name, &entry.file_name()) {
            remove_if_dead(&entry.path());
        }
    }
}

/// File systems on which a lock holds for every process that can see the file.
const LOCAL: &[&str] = &["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "overlay", "tmpfs", "ramfs", "jfs"];

/// The folder in which `path` stands.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The kind of the file system that `folder` lies on, from the lines of `/proc/self/mountinfo`.
fn file_system<'a>(folder: &Path, mounts: &'a str) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let (before, after) = line.split_once(" - ")?;
        // Blanks in names are written as \040.
        let at = PathBuf::from(before.split(' ').nth(4)?.replace("\\040", " "));
        folder.starts_with(&at).then_some((at.as_os_str().len(), after.split(' ').next()?))
    };
    // Of mounts at one place, the last one is seen.
    mounts.lines().filter_map(mount).max_by_key(|m| m.0).map(|m| m.1)
}

fn remove_if_dead(path: &Path) {
    // A link or a pipe of that name is none of ours.
    if !std::fs::symlink_metadata(path).is_ok_and(|about| about.is_file()) {
        return;
    }
    let Ok(file) = open_regular(path) else { return };
    if mark::is_off(&file) && stands_under(&file, path) {
        let _ = std::fs::remove_file(path); // whoever may not remove it leaves it
    }
}

/// Whether the open `file` is what stands under `path`.
#[cfg(unix)]
pub(super) fn stands_under(file: &std::fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().ok().zip(std::fs::symlink_metadata(path).ok()).is_some_and(|(a, b)| same(a, b))
}

/// Elsewhere files have no number to compare, and nothing is removed either.
#[cfg(not(unix))]
pub(super) fn stands_under(_file: &std::fs::File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours() {
        let ours = temporary_name(OsStr::new("a.h5"));
        assert_ne!(ours, temporary_name(OsStr::new("a.h5")));
        assert!(is_temporary_of(OsStr::new("a.h5"), &ours), "{ours:?}");
        for (name, other) in
            [("b.h5", ours.to_str().unwrap()), ("a.h5", "a.h5"), ("a.h5", "a.h5.tmp-123"), ("a", "a.tmp-ABCDEFABCDEF")]
        {
            assert!(!is_temporary_of(OsStr::new(name), OsStr::new(other)), "{name} {other}");
        }
        for long in ["x".repeat(239), "x".repeat(255), "\u{20ac}".repeat(85)] {
            let ours = temporary_name(OsStr::new(&long));
            assert!(ours.len() <= NAME_BYTES && is_temporary_of(OsStr::new(&long), &ours), "{ours:?}");
        }
    }

    #[test]
    fn the_mount_that_is_seen() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:9 / /mnt rw shared:1 - nfs4 host:/x rw\n\
                      3 2 8:2 / /mnt/my\\040disk rw - xfs /dev/b rw\nnonsense\n";
        for (folder, kind) in [("/home/me", "ext4"), ("/mnt/x", "nfs4"), ("/mnt/my disk/y", "xfs"), ("/mntx", "ext4")] {
            assert_eq!(file_system(Path::new(folder), mounts), Some(kind), "{folder}");
        }
        assert_eq!(file_system(Path::new("/home"), ""), None);
    }
}
