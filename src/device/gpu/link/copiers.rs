//! The threads that copy between host memory and staging.
//!
//! Owns: [`Copiers`]: a few threads and what waits for them. Must not know: what is copied. Invariant: both directions make progress while either has work:
//! half of the threads look at one first, half at the other.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::device::system;

/// Threads at most: a fast link takes what a few cores can copy.
const MOST: usize = 8;

/// Which way something is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::gpu) enum Direction {
    Up,
    Down,
}

/// A piece of work of a millisecond or less.
type CopyJob = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    /// Up, and down.
    jobs: [VecDeque<CopyJob>; 2],
    closed: bool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job, of this direction if there is one; `None` once all are done and no more will come.
    fn next(&self, first: usize) -> Option<CopyJob> {
        let mut waiting = self.lock();
        loop {
            let other = 1 - first;
            if let Some(job) = waiting.jobs[first].pop_front() {
                return Some(job);
            }
            if let Some(job) = waiting.jobs[other].pop_front() {
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Threads that copy. They end when the last handle is dropped and all is copied.
pub(in crate::device::gpu) struct Copiers {
    queue: Arc<Queue>,
    #[cfg(test)]
    threads: usize,
}

impl Copiers {
    /// Starts as many threads as half the machine has, two at least.
    pub(in crate::device::gpu) fn start(name: &str) -> std::io::Result<Arc<Self>> {
        let threads = (system::threads() / 2).clamp(2, MOST);
        let this = Arc::new(Self {
            queue: Arc::default(),
            #[cfg(test)]
            threads,
        });
        for i in 0..threads {
            let queue = this.queue.clone();
            let serve = move || {
                while let Some(job) = queue.next(i % 2) {
                    // What it was about says so itself when it is dropped; this thread has others to serve.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            std::thread::Builder::new().name(format!("chunkwise-{name}-copy-{i}")).spawn(serve)?;
        }
        Ok(this)
    }

    /// Has something copied.
    pub(in crate::device::gpu) fn copy(&self, direction: Direction, job: impl FnOnce() + Send + 'static) {
        self.queue.lock().jobs[direction as usize].push_back(Box::new(job));
        self.queue.changed.notify_one();
    }
}

impl Drop for Copiers {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_direction_has_threads_that_look_at_it_first() {
        let queue = Queue::default();
        let order = Arc::new(Mutex::new(Vec::new()));
        for (direction, count) in [(Direction::Up, 100), (Direction::Down, 2)] {
            for _ in 0..count {
                let order = order.clone();
                queue.lock().jobs[direction as usize].push_back(Box::new(move || order.lock().unwrap().push(direction)));
            }
        }
        (0..6).for_each(|turn| queue.next(turn % 2).unwrap()());
        use Direction::{Down, Up};
        assert_eq!(*order.lock().unwrap(), [Up, Down, Up, Down, Up, Up], "then they help the other");
    }

    #[test]
    fn a_panic_in_a_copy_is_survived() {
        let copiers = Copiers::start("test").unwrap();
        let (done, all) = channel();
        (0..2 * copiers.threads).for_each(|_| copiers.copy(Direction::Down, || panic!("a panic in a copy")));
        copiers.copy(Direction::Down, move || done.send(()).unwrap_or(()));
        assert_eq!(all.recv_timeout(Duration::from_secs(20)), Ok(()));
    }

    #[test]
    fn what_was_asked_for_is_done_after_the_last_handle_is_gone() {
        let copiers = Copiers::start("test").unwrap();
        let (done, all) = channel();
        (0..10).for_each(|i| {
            let done = done.clone();
            copiers.copy(Direction::Up, move || done.send(i).unwrap_or(()));
        });
        drop((copiers, done));
        assert_eq!(all.iter().count(), 10);
    }
}
