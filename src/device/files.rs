//! Files that are there whole, or not at all, and that nobody waits for.
//!
//! Owns: how they are opened, named and replaced. Must not know: what is in them. Invariant: who reads one sees what one writer wrote, never a mixture.

use std::fs;
use std::io::Write;
use std::path::Path;

/// Opens a regular file for reading, and nothing else: a pipe would make the caller wait, a device may never end.
///
/// # Errors
/// What the system says; `InvalidInput` for what is not a regular file.
pub(crate) fn open_regular(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK); // of no effect on regular files
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Twelve random digits, for names that nobody else makes: process numbers repeat between containers that share a folder.
pub(crate) fn random_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's hash keys are random in each process, and new for each state.
    let mut random = std::hash::RandomState::new().build_hasher();
    random.write_u32(std::process::id());
    format!("{:012x}", random.finish() >> 16)
}

/// Replaces a file: written beside it, then renamed.
///
/// # Errors
/// What the system says; then nothing has changed.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension(format!("{}.tmp", random_name()));
    let written = fs::File::create_new(&beside).and_then(|mut file| file.write_all(bytes));
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        let _ = fs::remove_file(&beside); // It may not exist; the first error is the one to tell.
    })
}
