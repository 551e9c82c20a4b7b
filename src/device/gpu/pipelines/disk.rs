//! What a driver has compiled, from one session to the next.
//!
//! Owns: [`DriverCache`], wgpu's pipeline cache of one device, and its file. Must not know: shaders, who waits. Invariant: it is a cache: whatever is wrong with the file or its folder
//! costs time at most, and nobody hears of it; the file is one session's, whole, or another's.
#![allow(unsafe_code)] // wgpu takes what was written: see `made`

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::device::files::{open_regular, write_whole};
use crate::device::gpu::open::Opened;
use crate::kernel::content_hash;

/// How a file of ours begins; what is in it, by its hash, follows.
const MAGIC: [u8; 8] = *b"chwkpip1";
const HEAD: usize = 16;
/// A larger file is not read, and none is written.
const LARGEST_BYTES: u64 = 64 << 20;
/// After so many pipelines a new cache is begun: nothing can be taken out of one.
const RENEWED_AFTER: usize = 512;

/// A driver's cache.
pub(super) struct DriverCache {
    path: PathBuf,
    state: Mutex<CacheState>,
}

struct CacheState {
    /// `None` if the driver gives none.
    cache: Option<wgpu::PipelineCache>,
    /// Pipelines compiled with it, and since it was written last.
    compiled: usize,
    unsaved: usize,
}

impl DriverCache {
    /// With what an earlier session has left in this folder; `None` if the device has no such cache.
    pub(super) fn open(opened: &Opened, dir: &Path) -> Option<Self> {
        let path = dir.join(format!("{}.bin", opened.cache_name.as_ref()?));
        let left = read(&path).and_then(|data| made(opened, Some(&data)));
        let cache = left.or_else(|| made(opened, None));
        Some(Self { path, state: Mutex::new(CacheState { cache, compiled: 0, unsaved: 0 }) })
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is given to wgpu.
    pub(super) fn handle(&self) -> Option<wgpu::PipelineCache> {
        self.state().cache.clone()
    }

    /// A pipeline was compiled with it.
    pub(super) fn compiled(&self, opened: &Opened) {
        let full = {
            let mut state = self.state();
            (state.compiled, state.unsaved) = (state.compiled + 1, state.unsaved + 1);
            state.compiled >= RENEWED_AFTER
        };
        if full {
            self.save();
            let cache = made(opened, None);
            let mut state = self.state();
            (state.cache, state.compiled) = (cache, 0);
        }
    }

    /// Writes what was compiled, if anything was. On a thread that may wait for the driver and for a disk.
    pub(super) fn save(&self) {
        let Some(cache) = ({
            let mut state = self.state();
            if std::mem::take(&mut state.unsaved) > 0 { state.cache.clone() } else { None }
        }) else {
            return;
        };
        let Some(data) = cache.get_data().filter(|data| !data.is_empty() && data.len() as u64 <= LARGEST_BYTES) else { return };
        let mut bytes = Vec::with_capacity(HEAD + data.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&content_hash(&data).to_le_bytes());
        bytes.extend_from_slice(&data);
        // A cache: a folder that cannot be written has none.
        let written = self.path.parent().map(fs::create_dir_all).and_then(|_| write_whole(&self.path, &bytes).ok());
        if written.is_some() {
            self.remove_others();
        }
    }

    /// What other drivers of the same adapter have left: an update makes it useless.
    fn remove_others(&self) {
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        let (Some(own), Some(dir)) = (name(&self.path), self.path.parent()) else { return };
        let Some((adapter, _)) = own.rsplit_once('-') else { return };
        for other in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let is_it = name(&other).is_some_and(|name| name != own && is_of(&name, adapter));
            if is_it {
                let _ = fs::remove_file(other); // the next session tries again
            }
        }
    }
}

/// Whether a file has the name that one of this adapter has, of whatever driver.
fn is_of(name: &str, adapter: &str) -> bool {
    let driver = name.strip_prefix(adapter).and_then(|rest| rest.strip_prefix('-')?.strip_suffix(".bin"));
    driver.is_some_and(|driver| driver.len() == 16 && driver.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The name of an adapter's file, without its ending; `None` where wgpu has no cache.
pub(in crate::device::gpu) fn cache_name(adapter: &wgpu::AdapterInfo) -> Option<String> {
    let driver = format!("{} {}", adapter.driver, adapter.driver_info);
    Some(format!("{}-{:016x}", wgpu::util::pipeline_cache_key(adapter)?, content_hash(driver.as_bytes())))
}

/// What a file of ours holds.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // Bounded by what is read, not by what the file said of itself before.
    open_regular(path).ok()?.take(LARGEST_BYTES + HEAD as u64 + 1).read_to_end(&mut bytes).ok()?;
    let (head, data) = bytes.split_at_checked(HEAD)?;
    let is_whole = head[..8] == MAGIC && head[8..] == content_hash(data).to_le_bytes();
    (is_whole && data.len() as u64 <= LARGEST_BYTES).then(|| data.to_vec())
}

/// A cache that holds this, or nothing.
fn made(opened: &Opened, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("chunkwise"), data, fallback: true };
    let make = || {
        // SAFETY: the data were given by `get_data`, in this session or another: only `save` writes such files, whole, and what is not as it was written is seen by its hash. Of
        // these, wgpu compares what it wrote before them with the adapter, the driver's own identity and the length, and leaves what is of others. Whoever
        // can put a file with the right hash into the user's own folder can change the user's programs, too.
        let cache = unsafe { opened.device.create_pipeline_cache(&descriptor) };
        Ok(cache)
    };
    opened.caught(make).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_was_written_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-0123456789abcdef.bin");
        let write = |head: &[u8], hash: u64, data: &[u8]| fs::write(&path, [head, &hash.to_le_bytes(), data].concat()).unwrap();
        assert_eq!(read(&path), None, "there is none");
        write(&MAGIC, content_hash(b"data"), b"data");
        assert_eq!(read(&path).as_deref(), Some(&b"data"[..]));
        write(&MAGIC, content_hash(b"data"), b"dat");
        assert_eq!(read(&path), None, "cut");
        write(&MAGIC, content_hash(b"data"), b"dada");
        assert_eq!(read(&path), None, "changed");
        write(b"somebody", content_hash(b"data"), b"data");
        assert_eq!(read(&path), None, "not ours");
        fs::write(&path, b"short").unwrap();
        assert_eq!(read(&path), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(read(&path), None, "no file at all");
    }

    #[test]
    fn files_of_an_adapter_are_told_by_their_names() {
        let adapter = "wgpu_pipeline_cache_vulkan_65541_0";
        assert!(is_of(&format!("{adapter}-0123456789abcdef.bin"), adapter));
        for other in ["-0123456789abcdef.tmp", "1-0123456789abcdef.bin", "-notes.bin", ""] {
            assert!(!is_of(&format!("{adapter}{other}"), adapter), "{other}");
        }
    }
}
