//! The file in which costs survive: JSON, one per version of the crate.
//!
//! Owns: the stored form, reading, merging, writing. Must not know: how estimates are made. Invariant: the file is replaced
//! whole (written beside, then renamed), so that a reader sees one process's file or another's, never a mixture.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::history::{History, KEPT, LAST_CLASS, Samples};
use super::{Calibration, Peaks, Rates, Tuned};
use crate::device::files::{open_regular, write_whole};
use crate::shape::DType;

/// Raised when the meaning of the file changes (classes, units, fields).
const SCHEMA: u32 = 2;
/// Bounds on what is kept; the least recently used goes first.
const DEVICES_KEPT: usize = 64;
const KERNELS_KEPT: usize = 1024;
const CLASSES_KEPT: usize = 128;
/// A larger file is not ours.
const LARGEST_FILE_BYTES: u64 = 64 << 20;

/// Everything kept, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CostFile {
    schema: u32,
    #[serde(rename = "chunkwise")]
    version: String,
    /// Counts the writes; tells what was used last.
    run: u64,
    pub devices: BTreeMap<String, DeviceEntry>,
}

/// What is kept about a device or link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DeviceEntry {
    pub rates: Option<Rates>,
    pub calibration: Option<Calibration>,
    pub peaks: Option<Peaks>,
    /// Advice alone: where it makes no sense, there is none.
    #[serde(default, deserialize_with = "if_plausible")]
    pub tuned: Option<Tuned>,
    /// By `gemm@1/f64`.
    pub kernels: BTreeMap<String, KernelEntry>,
}

/// What is kept about one kernel on one device.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct KernelEntry {
    /// The last write that added to it.
    pub run: u64,
    pub samples: Samples,
}

fn if_plausible<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Tuned>, D::Error> {
    let found = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(found).ok().filter(Tuned::is_plausible))
}

/// The name under which a kernel of a device is stored.
pub(super) fn kernel_name(kernel: &str, dtype: DType) -> String {
    format!("{kernel}/{dtype}")
}

/// Where the costs of this version of the crate are in a cache directory.
pub(super) fn path_in(dir: &Path) -> PathBuf {
    dir.join(concat!("costs-", env!("CARGO_PKG_VERSION"), ".json"))
}

impl Default for CostFile {
    fn default() -> Self {
        Self { schema: SCHEMA, version: env!("CARGO_PKG_VERSION").to_owned(), run: 0, devices: BTreeMap::new() }
    }
}

impl CostFile {
    /// What is kept about a kernel ([`kernel_name`]) on a device.
    pub fn kernel(&self, device: &str, kernel: &str) -> Option<&Samples> {
        Some(&self.devices.get(device)?.kernels.get(kernel)?.samples)
    }

    /// Whether every number is one that this crate could have written.
    fn plausible(&self) -> bool {
        let kernel = |kernel: &KernelEntry| {
            let Samples { classes, cold } = &kernel.samples;
            let lists = classes.values().chain([cold]);
            classes.keys().all(|&class| class <= LAST_CLASS)
                && lists.into_iter().all(|list| list.len() <= KEPT && list.iter().all(|&ns| ns > 0))
        };
        let device = |device: &DeviceEntry| {
            device.rates.is_none_or(|rates| rates.usable())
                && device.peaks.is_none_or(|peaks| peaks.usable())
                && device.kernels.values().all(kernel)
        };
        self.devices.values().all(device)
    }

    /// Adds what a process has learned, as if it had been recorded here.
    fn add(&mut self, news: Self) {
        self.run += 1;
        for (name, fresh) in news.devices {
            let device = self.devices.entry(name).or_default();
            if fresh.rates.is_some() {
                (device.rates, device.calibration, device.peaks) = (fresh.rates, fresh.calibration, fresh.peaks);
                device.tuned = fresh.tuned;
            }
            for (name, fresh) in fresh.kernels {
                let kernel = device.kernels.entry(name).or_default();
                let mut history = History::from_samples(&kernel.samples, 0.0);
                history.append(&fresh.samples, 0.0);
                *kernel = KernelEntry { run: self.run, samples: history.samples(false) };
            }
        }
        self.bound();
    }

    /// Forgets the least recently used beyond the bounds.
    fn bound(&mut self) {
        for device in self.devices.values_mut() {
            for kernel in device.kernels.values_mut() {
                // The smallest sizes go: their time matters least.
                while kernel.samples.classes.len() > CLASSES_KEPT {
                    kernel.samples.classes.pop_first();
                }
            }
            // Programs first, of which there may be any number; what classes of operations take last.
            let rank = |name: &str| u8::from(!name.contains('~')) + u8::from(name.starts_with("class "));
            keep(&mut device.kernels, KERNELS_KEPT, |name, kernel| (rank(name), kernel.run));
        }
        keep(&mut self.devices, DEVICES_KEPT, |_, device| device.kernels.values().map(|k| k.run).max().unwrap_or(0));
    }
}

/// Drops entries with the least `age` until at most `most` are left.
fn keep<T, A: Ord>(map: &mut BTreeMap<String, T>, most: usize, age: impl Fn(&str, &T) -> A) {
    let excess = map.len().saturating_sub(most);
    if excess > 0 {
        let mut ages: Vec<(A, String)> = map.iter().map(|(name, value)| (age(name, value), name.clone())).collect();
        ages.sort_unstable();
        ages.iter().take(excess).for_each(|(_, name)| drop(map.remove(name)));
    }
}

/// Why costs could not be read or written; its `Display` is the warning a user gets.
#[derive(Debug)]
pub(super) enum Problem {
    Unreadable(PathBuf, io::Error),
    Corrupt(PathBuf, String),
    OtherVersion(PathBuf),
    Unwritable(PathBuf, io::Error),
}

impl Problem {
    /// Whether the file is to be left as it is: not what we wrote, or not ours to touch.
    pub fn keep_off(&self) -> bool {
        matches!(self, Self::Unreadable(..))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(f, "cannot read measured speeds from {}: {error}; going on without, saving none", path.display())
            }
            Self::Corrupt(path, error) => {
                write!(f, "measured speeds in {} are corrupt ({error}); starting afresh", path.display())
            }
            Self::OtherVersion(path) => {
                write!(f, "measured speeds in {} are of another version; starting afresh", path.display())
            }
            Self::Unwritable(path, error) => {
                write!(f, "cannot save measured speeds to {}: {error}; going on without", path.display())
            }
        }
    }
}

/// Reads the file; one that does not exist is empty.
pub(super) fn read(path: &Path) -> Result<CostFile, Problem> {
    let unreadable = |error| Problem::Unreadable(path.to_owned(), error);
    let corrupt = |why: String| Problem::Corrupt(path.to_owned(), why);
    let mut bytes = Vec::new();
    match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CostFile::default()),
        Err(error) => return Err(unreadable(error)),
        // Bounded by what is read, not by what the file said of itself before.
        Ok(file) => file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?,
    };
    if bytes.len() as u64 > LARGEST_FILE_BYTES {
        return Err(corrupt(format!("more than {} MiB", LARGEST_FILE_BYTES >> 20)));
    }
    /// The part that every schema has.
    #[derive(Deserialize)]
    struct SchemaHead {
        schema: u32,
        chunkwise: String,
    }
    let head: SchemaHead = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if head.schema != SCHEMA || head.chunkwise != env!("CARGO_PKG_VERSION") {
        return Err(Problem::OtherVersion(path.to_owned()));
    }
    let stored: CostFile = serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if stored.plausible() { Ok(stored) } else { Err(corrupt("impossible numbers".to_owned())) }
}

/// Adds `news` to the file. Two processes at once take turns where the file system has locks; elsewhere the later one's
/// file stands.
pub(super) fn merge(path: &Path, news: CostFile) -> Result<(), Problem> {
    let unwritable = |error| Problem::Unwritable(path.to_owned(), error);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(unwritable)?;
    }
    let _turn = lock(&path.with_extension("lock"));
    let mut stored = match read(path) {
        Ok(stored) => stored,
        Err(Problem::Unreadable(path, error)) => return Err(Problem::Unwritable(path, error)),
        Err(_) => CostFile::default(),
    };
    stored.add(news);
    let text = serde_json::to_vec(&stored).map_err(|error| unwritable(error.into()))?;
    write_whole(path, &text).map_err(unwritable)
}

/// A turn at the file, given back when dropped. Waits at most 100 ms: a lost sample is better than a wait.
fn lock(path: &Path) -> Option<File> {
    if path.symlink_metadata().is_ok_and(|about| !about.is_file()) {
        return None; // a pipe of that name would wait for its other end
    }
    let file = File::create(path).ok()?;
    for _ in 0..50 {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            Err(fs::TryLockError::Error(_)) => return None,
        }
    }
    None
}
