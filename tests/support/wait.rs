//! Waiting with an end.
//!
//! Owns: [`within`], [`settled`]. Must not know: what is tested. Invariant: what hangs is a failure, and not a wait.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use chunkwise::Session;

/// Runs `work` on a thread of its own; fails if that takes longer than so many seconds.
#[track_caller]
pub fn within<R: Send + 'static>(seconds: u64, work: impl FnOnce() -> R + Send + 'static) -> R {
    within_as("this", seconds, work)
}

/// As [`within`], for one case of many: the message says which.
#[track_caller]
pub fn within_as<R: Send + 'static>(case: &str, seconds: u64, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        let result = work();
        let _ = sender.send(());
        result
    });
    let timeout = receiver.recv_timeout(Duration::from_secs(seconds)) == Err(RecvTimeoutError::Timeout);
    assert!(!timeout, "{case}: still running after {seconds} s");
    thread.join().unwrap_or_else(|_| panic!("{case}: panicked, see above"))
}

/// Waits until a session has given everything back.
#[track_caller]
pub fn settled(session: &Session) {
    let begin = Instant::now();
    while !session.is_idle() || session.used_bytes() != 0 {
        assert!(begin.elapsed() < Duration::from_secs(10), "{} B in use, idle: {}", session.used_bytes(), session.is_idle());
        std::thread::sleep(Duration::from_millis(1));
    }
}
