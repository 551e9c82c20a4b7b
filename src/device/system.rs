//! Facts of this machine: memory, disk, threads, processor, where caches go.
//!
//! Owns: the questions to the operating system. Must not know: what the answers are used for. Invariant: every question
//! has an answer on every system; where the system does not say, a documented, cautious guess stands in.
#![allow(unsafe_code)] // The systems' own calls (getrusage, statvfs, sysctl) have no safe form in the dependencies.
#![cfg_attr(not(target_os = "linux"), allow(dead_code))] // Control groups are Linux's; their tests run everywhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What a machine that does not tell its memory is taken to have, in bytes.
const UNKNOWN_MEMORY_BYTES: u64 = 2 << 30;

/// Limits above this are how cgroup v1 writes "none" (the largest page multiple in an `i64`).
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// Bytes that this process may still take without swapping or being killed: the lesser of what the system calls available
/// and, on Linux, what each enclosing control group (v1 and v2) and the limit of addresses (`ulimit -v`) leave. Elsewhere: Windows' available physical memory;
/// half of the physical memory on macOS, which has no such figure; 2 GiB where nothing is known.
#[must_use]
pub fn available_memory() -> u64 {
    os::available_memory().unwrap_or(UNKNOWN_MEMORY_BYTES)
}

/// The memory limit of a session that was given none, in bytes: 70 % of [`available_memory`], and what the process has already, because the
/// caller's arrays among that count in the limit when they are used.
#[must_use]
pub fn default_memory_limit() -> u64 {
    available_memory() / 10 * 7 + os::resident_bytes().unwrap_or(0)
}

/// The largest resident size that this process has had since its program was started, in bytes; 0 where the system does not say. On
/// Unix systems other than Linux the figure may hold what the process was before it became this program.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    os::peak_rss_bytes().unwrap_or(0)
}

/// The processor's name, for example `AMD EPYC 7763`; the architecture where the system does not say.
#[must_use]
pub fn cpu_model() -> String {
    let model = os::cpu_model().unwrap_or_default();
    let words: Vec<&str> = model.split_whitespace().collect();
    if words.is_empty() { std::env::consts::ARCH.to_owned() } else { words.join(" ") }
}

/// Threads that can run at once, as affinity and control groups allow; at least 1.
#[must_use]
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where the crate keeps what it has measured: `CHUNKWISE_CACHE_DIR` as it stands, else `chunkwise` in the user's cache
/// directory (`XDG_CACHE_HOME`; `LOCALAPPDATA` on Windows; `~/Library/Caches` on macOS; `~/.cache`). `None` without a home;
/// the directory need not exist.
#[must_use]
pub fn cache_dir() -> Option<PathBuf> {
    cache_dir_from(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn cache_dir_from(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    if let Some(dir) = var("CHUNKWISE_CACHE_DIR") {
        return Some(dir);
    }
    let home = || var(if cfg!(windows) { "USERPROFILE" } else { "HOME" });
    // The XDG specification says that relative paths are to be ignored.
    let base = var("XDG_CACHE_HOME").filter(|dir| dir.is_absolute()).or_else(|| {
        if cfg!(windows) {
            var("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            home().map(|dir| dir.join("Library/Caches"))
        } else {
            home().map(|dir| dir.join(".cache"))
        }
    });
    base.map(|dir| dir.join("chunkwise"))
}

/// Bytes that this user can still write on the file system of `path`, or of its nearest existing parent.
///
/// # Errors
/// [`Error::Io`] if the system cannot say, for example because it has no such call.
pub fn disk_free(path: &Path) -> Result<u64> {
    let absolute = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
    let existing = absolute.ancestors().find(|dir| dir.exists()).unwrap_or(&absolute);
    os::disk_free(existing).map_err(|e| Error::io("measure free space at", existing, e))
}

/// A limit of this process, by its name in `/proc/self/limits`; `None` where there is none, or the system does not say.
pub(crate) fn process_limit(name: &str) -> Option<u64> {
    limit_in(&fs::read_to_string("/proc/self/limits").ok()?, name)
}

fn limit_in(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok() // or `unlimited`
}

/// Bytes that the control groups of a process leave it: the least of limit - usage over its group and all above it.
/// Pages of files that can be dropped do not count as used. `root` is put before every path (empty: the real system).
fn cgroup_headroom(root: &Path, groups: &str, mounts: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for mount in mounts.lines().filter_map(Mount::parse) {
        let Some(group) = groups.lines().find_map(|line| mount.group(line)) else { continue };
        let top = root.join(mount.at.trim_start_matches('/'));
        // Inside a container the group's path may be the host's, which does not exist here: then the mount is the group.
        let inner = group.strip_prefix(mount.root).unwrap_or(group).trim_start_matches('/');
        let mut dir = Some(top.join(inner)).filter(|dir| dir.is_dir()).unwrap_or_else(|| top.clone());
        loop {
            if let Some(left) = mount.left(&dir) {
                least = Some(least.map_or(left, |l| l.min(left)));
            }
            if dir == top || !dir.pop() {
                break;
            }
        }
    }
    least
}

/// One mount of a control-group hierarchy that accounts for memory.
struct Mount<'a> {
    root: &'a str,
    at: &'a str,
    v2: bool,
}

impl<'a> Mount<'a> {
    /// Reads a line of `/proc/self/mountinfo`: `id parent dev root at options.. - type source super-options`.
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, at) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let v2 = match right.next()? {
            "cgroup2" => true,
            "cgroup" if right.nth(1)?.split(',').any(|option| option == "memory") => false,
            _ => return None,
        };
        Some(Self { root, at, v2 })
    }

    /// The path in a line of `/proc/self/cgroup` (`id:controllers:path`), if the line is about this hierarchy.
    fn group<'l>(&self, line: &'l str) -> Option<&'l str> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = if self.v2 { controllers.is_empty() } else { controllers.split(',').any(|c| c == "memory") };
        ours.then_some(path)
    }

    /// Limit - usage of one group; `None` if it has no limit.
    fn left(&self, dir: &Path) -> Option<u64> {
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok()?.trim().parse::<u64>().ok();
        let (limit, usage, cached) = if self.v2 {
            let limits = [read("memory.max"), read("memory.high")];
            (limits.into_iter().flatten().min()?, read("memory.current")?, "inactive_file")
        } else {
            (read("memory.limit_in_bytes")?, read("memory.usage_in_bytes")?, "total_inactive_file")
        };
        let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let droppable = field(&stat, cached, ' ').unwrap_or(0);
        (limit < NO_LIMIT_BYTES).then(|| limit.saturating_sub(usage.saturating_sub(droppable)))
    }
}

/// The number after `name` and `separator` at the start of a line.
fn field(text: &str, name: &str, separator: char) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(separator)?;
        value.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(target_os = "linux")]
mod os {
    pub(super) use super::unix_disk_free as disk_free;
    use super::{Path, cgroup_headroom, field, fs, unix_peak_rss_bytes};

    /// The high-water mark of the address space, which exec begins anew. `getrusage` keeps the one of whoever started this program: 5 GB
    /// for a few MB used. It stands in where there is no `/proc`.
    pub(super) fn peak_rss_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok();
        let own = status.and_then(|text| field(&text, "VmHWM", ':')).map(|kib| kib * 1024);
        own.or_else(unix_peak_rss_bytes)
    }

    pub(super) fn available_memory() -> Option<u64> {
        let info = fs::read_to_string("/proc/meminfo").ok();
        let system = info.and_then(|text| field(&text, "MemAvailable", ':')).map(|kib| kib * 1024);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let taken = fs::read_to_string("/proc/self/status").ok().and_then(|text| field(&text, "VmSize", ':'));
        let addresses = super::process_limit("Max address space").map(|limit| limit.saturating_sub(taken.unwrap_or(0) * 1024));
        system.into_iter().chain(cgroup_headroom(Path::new("/"), &groups, &mounts)).chain(addresses).min()
    }

    /// Memory that is the process's own: without files and what it shares.
    pub(super) fn resident_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        field(&status, "RssAnon", ':').map(|kib| kib * 1024)
    }

    pub(super) fn cpu_model() -> Option<String> {
        let info = fs::read_to_string("/proc/cpuinfo").ok()?;
        // x86 says "model name"; ARM boards say "Hardware" or "Model", ARM servers nothing but numbers.
        ["model name", "Hardware", "Model"].iter().find_map(|name| {
            info.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == *name).then(|| value.to_owned())
            })
        })
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
mod os {
    pub(super) use super::{unix_disk_free as disk_free, unix_peak_rss_bytes as peak_rss_bytes};

    pub(super) fn available_memory() -> Option<u64> {
        // SAFETY: sysconf takes a number and returns a number; it touches no memory of ours.
        let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        let physical = u64::try_from(pages).ok()?.checked_mul(u64::try_from(page).ok()?)?;
        (physical > 0).then_some(physical / 2)
    }

    /// What is available is a share of all memory there, used or not.
    pub(super) fn resident_bytes() -> Option<u64> {
        None
    }

    #[cfg(target_os = "macos")]
    pub(super) fn cpu_model() -> Option<String> {
        let mut text = [0u8; 128];
        let mut len = text.len();
        // SAFETY: the name is NUL-terminated; at most `len` bytes are written to `text`, which has that many; no new value.
        let status = unsafe {
            let name = c"machdep.cpu.brand_string".as_ptr();
            libc::sysctlbyname(name, text.as_mut_ptr().cast(), &mut len, std::ptr::null_mut(), 0)
        };
        let name = std::ffi::CStr::from_bytes_until_nul(&text).ok()?;
        (status == 0).then(|| name.to_string_lossy().into_owned())
    }

    #[cfg(not(target_os = "macos"))]
    pub(super) fn cpu_model() -> Option<String> {
        None
    }
}

#[cfg(unix)]
fn unix_peak_rss_bytes() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a writable rusage, which the call fills; zeroes are a valid rusage anyway.
    let (status, usage) = unsafe { (libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()), usage.assume_init()) };
    // Apple's kernels count bytes, all others KiB.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    let peak = u64::try_from(usage.ru_maxrss).ok()?;
    (status == 0).then(|| peak * unit)
}

#[cfg(unix)]
fn unix_disk_free(path: &Path) -> std::io::Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path is NUL-terminated and the pointer is to a writable statvfs; zeroes are a valid statvfs anyway.
    let (status, stat) = unsafe { (libc::statvfs(path.as_ptr(), stat.as_mut_ptr()), stat.assume_init()) };
    if status != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // The fields' widths differ between systems.
    #[allow(clippy::unnecessary_cast)]
    Ok((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

#[cfg(windows)]
mod os {
    use super::Path;
    use std::ffi::c_void;

    /// `MEMORYSTATUSEX`.
    #[repr(C)]
    #[derive(Default)]
    struct MemoryStatus {
        length: u32,
        load: u32,
        total_physical: u64,
        available_physical: u64,
        rest: [u64; 5],
    }

    /// `PROCESS_MEMORY_COUNTERS`.
    #[repr(C)]
    #[derive(Default)]
    struct ProcessMemory {
        size: u32,
        page_faults: u32,
        peak_working_set: usize,
        rest: [usize; 7],
    }

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GlobalMemoryStatusEx(status: *mut MemoryStatus) -> i32;
        fn GetCurrentProcess() -> *mut c_void;
        fn K32GetProcessMemoryInfo(process: *mut c_void, counters: *mut ProcessMemory, size: u32) -> i32;
        fn GetDiskFreeSpaceExW(path: *const u16, mine: *mut u64, total: *mut u64, free: *mut u64) -> i32;
    }

    pub(super) fn available_memory() -> Option<u64> {
        let mut status = MemoryStatus { length: size_of::<MemoryStatus>() as u32, ..Default::default() };
        // SAFETY: the structure has the documented layout and says its length, as the call demands.
        let done = unsafe { GlobalMemoryStatusEx(&mut status) };
        (done != 0).then_some(status.available_physical)
    }

    pub(super) fn peak_rss_bytes() -> Option<u64> {
        let size = size_of::<ProcessMemory>() as u32;
        let mut counters = ProcessMemory { size, ..Default::default() };
        // SAFETY: the pseudo-handle of this process is always valid; the structure has the documented layout and size.
        let done = unsafe { K32GetProcessMemoryInfo(GetCurrentProcess(), &mut counters, size) };
        (done != 0).then_some(counters.peak_working_set as u64)
    }

    pub(super) fn resident_bytes() -> Option<u64> {
        None
    }

    pub(super) fn cpu_model() -> Option<String> {
        std::env::var("PROCESSOR_IDENTIFIER").ok()
    }

    pub(super) fn disk_free(path: &Path) -> std::io::Result<u64> {
        use std::os::windows::ffi::OsStrExt;
        // The call wants a directory.
        let dir = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let wide: Vec<u16> = dir.as_os_str().encode_wide().chain([0]).collect();
        let (mut mine, mut total, mut free) = (0, 0, 0);
        // SAFETY: the path is NUL-terminated; the three pointers are to writable u64.
        let done = unsafe { GetDiskFreeSpaceExW(wide.as_ptr(), &mut mine, &mut total, &mut free) };
        if done != 0 { Ok(mine) } else { Err(std::io::Error::last_os_error()) }
    }
}

#[cfg(not(any(unix, windows)))]
mod os {
    use super::Path;

    pub(super) fn available_memory() -> Option<u64> {
        None
    }
    pub(super) fn peak_rss_bytes() -> Option<u64> {
        None
    }
    pub(super) fn resident_bytes() -> Option<u64> {
        None
    }

    pub(super) fn cpu_model() -> Option<String> {
        None
    }
    pub(super) fn disk_free(_path: &Path) -> std::io::Result<u64> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);
    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn write(&self, file: &str, text: &str) {
            let path = self.0.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn cgroup_v2_takes_the_tightest_of_all_levels() {
        let tree = Tree::new();
        let mounts = "31 23 0:28 / /cg rw shared:4 - cgroup2 cgroup2 rw\n1 1 0:1 / /proc rw - proc proc rw\n";
        tree.write("cg/a/b/memory.max", "max\n");
        tree.write("cg/a/b/memory.current", "500\n");
        tree.write("cg/a/memory.max", "4000\n");
        tree.write("cg/a/memory.current", "1500\n");
        tree.write("cg/a/memory.stat", "anon 900\ninactive_file 600\nactive_file 7\n");
        assert_eq!(cgroup_headroom(tree.0.path(), "0::/a/b\n", mounts), Some(4000 - (1500 - 600)));
        tree.write("cg/a/b/memory.high", "700\n");
        assert_eq!(cgroup_headroom(tree.0.path(), "0::/a/b\n", mounts), Some(200));
        // Used beyond the limit: nothing left, no wrap-around.
        tree.write("cg/a/b/memory.high", "100\n");
        assert_eq!(cgroup_headroom(tree.0.path(), "0::/a/b\n", mounts), Some(0));
        // The group's path as the host sees it: the mount itself counts.
        tree.write("cg/memory.max", "9000\n");
        tree.write("cg/memory.current", "1000\n");
        assert_eq!(cgroup_headroom(tree.0.path(), "0::/host/only\n", mounts), Some(8000));
    }

    #[test]
    fn cgroup_v1_reads_its_own_names_and_knows_no_limit() {
        let tree = Tree::new();
        let mounts =
            "32 31 0:29 / /sys/cpu rw - cgroup cgroup rw,cpu\n35 31 0:32 /box /sys/memory rw - cgroup cgroup rw,memory\n";
        let groups = "3:cpu:/\n4:memory:/box/job\n0::/\n";
        tree.write("sys/memory/memory.limit_in_bytes", "9223372036854771712\n");
        tree.write("sys/memory/memory.usage_in_bytes", "123\n");
        assert_eq!(cgroup_headroom(tree.0.path(), groups, mounts), None);
        tree.write("sys/memory/job/memory.limit_in_bytes", "1000\n");
        tree.write("sys/memory/job/memory.usage_in_bytes", "700\n");
        tree.write("sys/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 200\n");
        assert_eq!(cgroup_headroom(tree.0.path(), groups, mounts), Some(500));
    }

    #[test]
    fn cache_dir_prefers_the_named_directory() {
        let absolute = if cfg!(windows) { "C:\\c" } else { "/c" };
        let xdg = |name: &str| (name == "XDG_CACHE_HOME").then(|| PathBuf::from(absolute));
        assert_eq!(cache_dir_from(xdg), Some(Path::new(absolute).join("chunkwise")));
        let own = |name: &str| Some(PathBuf::from(if name == "CHUNKWISE_CACHE_DIR" { "own" } else { "other" }));
        assert_eq!(cache_dir_from(own), Some(PathBuf::from("own")));
        assert_eq!(cache_dir_from(|_| None), None);
        // A relative XDG_CACHE_HOME is ignored.
        let relative = |name: &str| Some(PathBuf::from(name)).filter(|_| name == "XDG_CACHE_HOME");
        assert_eq!(cache_dir_from(relative), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_limit_of_addresses_counts() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \nMax address space         ";
        assert_eq!(
            limit_in(&format!("{text}409600000            unlimited            bytes\n"), "Max address space"),
            Some(409_600_000)
        );
        assert_eq!(limit_in(&format!("{text}unlimited            unlimited            bytes\n"), "Max address space"), None);
    }

    #[test]
    fn this_machine_answers() {
        assert!(available_memory() > 1 << 20);
        assert!(default_memory_limit() < available_memory().max(1 << 21));
        assert!(threads() >= 1);
        let model = cpu_model();
        assert!(!model.is_empty() && model.trim() == model, "{model:?}");
        let missing = std::env::temp_dir().join("chunkwise-no/such/dir");
        if cfg!(any(unix, windows)) {
            assert!(disk_free(&missing).is_ok_and(|bytes| bytes > 0));
        }
    }

    #[cfg(unix)]
    #[test]
    fn peak_rss_is_in_bytes() {
        let size = 64 << 20;
        let touched = vec![1u8; size];
        let peak = std::hint::black_box(&touched).len().min(peak_rss_bytes() as usize);
        assert!(peak >= size, "peak of {peak} B does not hold {size} B");
        assert!(peak_rss_bytes() < 1 << 45, "KiB taken for bytes twice");
    }
}
