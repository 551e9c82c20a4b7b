//! What a driver has compiled, from one session to the next.
//!
//! Owns: [`DriverCache`], wgpu's pipeline cache of one device, and its file. Must not know: shaders, who waits. Invariant: it is a cache: whatever is wrong with the file or its folder
//! costs time at most, and nobody hears of it; the file is one session's, whole, or another's.
#![allow(unsafe_code)] // wgpu takes what was written: see `made`

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::times::CompileTimes;
use crate::device::files::{open_regular, write_whole};
use crate::device::gpu::open::Opened;
use crate::kernel::content_hash;

/// How a file of ours begins; the hash of what is in it follows.
const MAGIC: [u8; 8] = *b"chwkpip2";
const HEAD: usize = 16;
/// Programs that a file says are in it, at most.
const MOST_NAMED: usize = 4096;
/// A larger file is not read, and none is written.
const LARGEST_BYTES: u64 = 64 << 20;
/// With more programs than that, those of earlier sessions counted, a new cache is begun: nothing can be taken out of one.
const RENEWED_AFTER: usize = 512;

/// A driver's cache.
pub(super) struct DriverCache {
    path: PathBuf,
    /// What compiling took in earlier sessions.
    pub(super) times: CompileTimes,
    state: Mutex<CacheState>,
}

struct CacheState {
    /// `None` if the driver gives none.
    cache: Option<wgpu::PipelineCache>,
    contents: CachedPrograms,
    /// Pipelines that were compiled with it since it was written last.
    unsaved: usize,
}

/// What is in a cache.
#[derive(Default)]
struct CachedPrograms {
    /// The hashes of its programs.
    has: BTreeSet<u64>,
    /// Whether a new one is to be begun.
    is_full: bool,
    /// How often one was begun anew.
    round: u64,
}

impl CachedPrograms {
    /// A program was compiled with the cache of a round: with an earlier one, it is not in this one.
    fn compiled(&mut self, program: u64, round: u64) {
        if round == self.round {
            let is_new = self.has.insert(program);
            self.is_full |= is_new && self.has.len() > RENEWED_AFTER;
        }
    }

    fn begin_anew(&mut self) {
        *self = Self { round: self.round + 1, ..Self::default() };
    }
}

impl DriverCache {
    /// With what an earlier session has left in this folder; `None` if the device has no such cache.
    pub(super) fn open(opened: &Opened, dir: &Path) -> Option<Self> {
        let path = dir.join(format!("{}.bin", opened.cache_name.as_ref()?));
        let left = read(&path).and_then(|left| Some((made(opened, Some(&left.data))?, left)));
        let (cache, has, times) = match left {
            Some((cache, left)) => (Some(cache), left.has, left.times),
            None => (made(opened, None), BTreeSet::new(), CompileTimes::default()),
        };
        Some(Self {
            path,
            times,
            state: Mutex::new(CacheState { cache, contents: CachedPrograms { has, ..CachedPrograms::default() }, unsaved: 0 }),
        })
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is given to wgpu, and the round that it is of.
    pub(super) fn handle(&self) -> (Option<wgpu::PipelineCache>, u64) {
        let state = self.state();
        (state.cache.clone(), state.contents.round)
    }

    /// Whether it has a program of this hash.
    pub(super) fn has(&self, program: u64) -> bool {
        self.state().contents.has.contains(&program)
    }

    /// A pipeline was compiled with that of a round, of a program of this hash.
    pub(super) fn compiled(&self, program: u64, round: u64) {
        let mut state = self.state();
        state.contents.compiled(program, round);
        state.unsaved += 1;
    }

    /// Whether enough has been compiled for a new one to be begun.
    pub(super) fn is_full(&self) -> bool {
        self.state().contents.is_full
    }

    /// Begins a new one if it is full. On a thread that may wait for the driver.
    pub(super) fn renew_if_full(&self, opened: &Opened) {
        if self.is_full() {
            let cache = made(opened, None);
            let mut state = self.state();
            state.cache = cache;
            state.contents.begin_anew();
        }
    }

    /// Writes what was compiled, if anything was. On a thread that may wait for the driver and for a disk.
    pub(super) fn save(&self, times: CompileTimes) {
        let (cache, has) = {
            let mut state = self.state();
            if std::mem::take(&mut state.unsaved) == 0 {
                return;
            }
            (state.cache.clone(), state.contents.has.clone())
        };
        let Some(cache) = cache else { return };
        let Some(data) = cache.get_data().filter(|data| !data.is_empty() && data.len() as u64 <= LARGEST_BYTES) else { return };
        let bytes = CacheFile { times, has, data }.to_bytes();
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
#[derive(Debug, PartialEq)]
struct CacheFile {
    times: CompileTimes,
    has: BTreeSet<u64>,
    /// What the driver gave.
    data: Vec<u8>,
}

impl CacheFile {
    fn to_bytes(&self) -> Vec<u8> {
        let has = || self.has.iter().take(MOST_NAMED);
        let mut bytes = [MAGIC, [0; 8]].concat();
        bytes.extend_from_slice(&self.times.to_bytes());
        bytes.extend_from_slice(&(has().count() as u32).to_le_bytes());
        has().for_each(|program| bytes.extend_from_slice(&program.to_le_bytes()));
        bytes.extend_from_slice(&self.data);
        let hash = content_hash(&bytes[HEAD..]);
        bytes[8..HEAD].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (times, rest) = bytes.split_first_chunk::<32>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let count = Some(u32::from_le_bytes(*count) as usize).filter(|&count| count <= MOST_NAMED)?;
        let (has, data) = rest.split_at_checked(8 * count)?;
        let has = has.as_chunks::<8>().0.iter().map(|program| u64::from_le_bytes(*program)).collect();
        Some(Self { times: CompileTimes::from_bytes(times)?, has, data: data.to_vec() })
    }
}

fn read(path: &Path) -> Option<CacheFile> {
    let mut bytes = Vec::new();
    // Bounded by what is read, not by what the file said of itself before.
    open_regular(path).ok()?.take(LARGEST_BYTES + HEAD as u64 + 1).read_to_end(&mut bytes).ok()?;
    let (head, data) = bytes.split_at_checked(HEAD)?;
    let is_whole = head[..8] == MAGIC && head[8..] == content_hash(data).to_le_bytes();
    if is_whole && data.len() as u64 <= LARGEST_BYTES { CacheFile::of(data) } else { None }
}

/// A cache that holds this, or nothing.
fn made(opened: &Opened, data: Option<&[u8]>) -> Option<wgpu::PipelineCache> {
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("chunkwise"), data, fallback: data.is_none() };
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
        let file = CacheFile { times: CompileTimes::default(), has: [7, u64::MAX].into(), data: b"data".to_vec() };
        let right = file.to_bytes();
        assert_eq!(read(&path), None, "there is none");
        fs::write(&path, &right).unwrap();
        assert_eq!(read(&path), Some(file));
        fs::write(&path, &right[..right.len() - 1]).unwrap();
        assert_eq!(read(&path), None, "cut");
        for at in 0..right.len() {
            let mut changed = right.clone();
            changed[at] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert_eq!(read(&path), None, "changed at {at}");
        }
        // A right hash of what makes no sense.
        for inside in [&right[HEAD..HEAD + 30], &[&right[HEAD..HEAD + 32], &[0xff; 12][..]].concat(), &[0; 60]] {
            let whole = [&MAGIC[..], &content_hash(inside).to_le_bytes(), inside].concat();
            fs::write(&path, whole).unwrap();
            assert_eq!(read(&path), None, "{inside:?}");
        }
        fs::write(&path, b"short").unwrap();
        assert_eq!(read(&path), None);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(read(&path), None, "no file at all");
    }

    #[test]
    fn a_new_cache_is_begun_once_and_holds_what_was_compiled_with_it() {
        let mut contents = CachedPrograms::default();
        let all = RENEWED_AFTER as u64;
        (0..all).chain(0..all).for_each(|program| contents.compiled(program, 0));
        assert!(!contents.is_full, "there is room for as many");
        contents.compiled(all, 0);
        assert!(contents.is_full);
        contents.begin_anew();
        // This one was begun before.
        contents.compiled(7, 0);
        assert!(!contents.is_full && contents.has.is_empty());
        contents.compiled(8, 1);
        assert_eq!(contents.has, [8].into());
        // What an earlier session left may be too much: it is renewed when something is added to it.
        let mut left = CachedPrograms { has: (0..2 * all).collect(), ..CachedPrograms::default() };
        left.compiled(3, 0);
        assert!(!left.is_full, "nothing was added");
        left.compiled(3 * all, 0);
        assert!(left.is_full);
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
