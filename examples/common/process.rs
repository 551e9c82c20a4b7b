//! The process: its environment, Ctrl-C and SIGTERM.
//!
//! Owns: the thread that waits for signals and cleans up, the terminal's width. Must not know: what is computed. Invariant: a second signal ends the
//! program at once, even if cleaning up hangs; a signal that was ignored from outside (`nohup`) stays ignored.
#![allow(unsafe_code)] // the environment, and a few calls of libc: what std and signal-hook do not know of the process

#[cfg(unix)]
use std::io::Write;
#[cfg(unix)]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::sync::{Mutex, PoisonError};

#[cfg(unix)]
use signal_hook::consts::{SIGINT, SIGTERM};
#[cfg(unix)]
use signal_hook::{flag, iterator::Signals};

type Cleanup = Box<dyn FnOnce() + Send>;

static CLEANUPS: Mutex<Vec<Cleanup>> = Mutex::new(Vec::new());

/// Has `cleanup` run (latest first) if the program is ended by Ctrl-C or SIGTERM. It runs on a thread of its own while the work
/// goes on, so it must not wait for locks of the work.
pub fn on_interrupt(cleanup: impl FnOnce() + Send + 'static) {
    CLEANUPS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(cleanup));
}

fn clean_up() {
    let cleanups = std::mem::take(&mut *CLEANUPS.lock().unwrap_or_else(PoisonError::into_inner));
    cleanups.into_iter().rev().for_each(|cleanup| cleanup());
    super::files::remove_unfinished();
}

/// Ends the program now, whoever hangs and whatever a driver has registered for its end: nothing is cleaned up.
#[cfg(unix)]
pub fn leave(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// Ends the program now.
#[cfg(not(unix))]
pub fn leave(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// Makes the process ready for work. Called first in `main`, when there is no other thread.
pub(super) fn prepare() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Without a desktop, a Vulkan layer of Mesa that looks for one prints "error: XDG_RUNTIME_DIR is invalid" whenever GPUs
        // are listed. This switches that layer off; its only job is to reorder GPUs by the desktop's choice.
        // SAFETY: no other thread exists yet that could read the environment meanwhile.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    if std::env::var_os("EGL_LOG_LEVEL").is_none() {
        // Looking for GPUs asks EGL too, which warns of every driver that is not there. SAFETY: as above.
        unsafe { std::env::set_var("EGL_LOG_LEVEL", "fatal") };
    }
    spare_addresses();
    ignore_file_size_signal();
    watch();
}

/// Where addresses are few (`ulimit -v`), threads share glibc's arenas: each reserves 64 MB of them, and a refusal is an abort.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn spare_addresses() {
    // SAFETY: rlimit is plain old data, for which zeroes are valid; mallopt is called before other threads exist.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_AS, &mut limit) == 0 && limit.rlim_cur != libc::RLIM_INFINITY {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn spare_addresses() {}

/// Gives the system what the allocator keeps of memory that was freed. Each thread of glibc's keeps its own: what one session's threads freed serves
/// no other's, and a second session of the same program would come on top of it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn trim_memory() {
    // SAFETY: malloc_trim takes the allocator's own locks and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn trim_memory() {}

/// A file that would exceed `ulimit -f` is an error of the write, not the end of the program.
#[cfg(unix)]
fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal installs no handler; no other thread exists yet.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn ignore_file_size_signal() {}

/// The columns of the terminal that stdout is; `None` if it is none, or does not say.
#[cfg(unix)]
pub(super) fn terminal_width() -> Option<usize> {
    // SAFETY: winsize is plain old data, for which zeroes are valid; the call fills it or fails.
    let columns = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) == 0).then_some(size.ws_col)
    };
    columns.map(usize::from).filter(|&columns| columns >= 20)
}

#[cfg(not(unix))]
pub(super) fn terminal_width() -> Option<usize> {
    None
}

/// Starts to wait for signals: the first one cleans up, the second one has its default effect, the end.
#[cfg(unix)]
fn watch() {
    let second = Arc::new(AtomicBool::new(false));
    if watched(&second).is_err() {
        // Nobody waits, so the first one ends the program.
        second.store(true, Ordering::SeqCst);
    }
}

#[cfg(unix)]
fn watched(second: &Arc<AtomicBool>) -> std::io::Result<()> {
    let signals: Vec<libc::c_int> = [SIGINT, SIGTERM].into_iter().filter(|&s| !is_ignored(s)).collect();
    let mut arriving = Signals::new(&signals)?;
    for signal in signals {
        // In this order, so that the first one is no second one yet.
        flag::register_conditional_default(signal, second.clone())?;
        flag::register(signal, second.clone())?;
    }
    let wait = move || {
        if let Some(signal) = arriving.forever().next() {
            clean_up();
            let _ = writeln!(std::io::stderr(), "\ninterrupted");
            // Without the exit handlers of C libraries that other threads still use.
            signal_hook::low_level::exit(128 + signal)
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
}

/// Elsewhere Ctrl-C ends the program as the system does; temporary files then stay, under their temporary names.
#[cfg(not(unix))]
fn watch() {}

#[cfg(unix)]
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: sigaction is plain old data, for which zeroes are valid; with no new action the call only fills `old`.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}
