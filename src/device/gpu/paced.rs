//! A driver with a link of known rates.
//!
//! Owns: [`PacedLink`]: when a link of these rates would have carried each submission, and what it did meanwhile. Must not know: what is carried, or why.
//! Invariant: a submission is over no sooner than a link of these rates could have carried its bytes and those before them, each direction on a line of its own.
//!
//! The bytes move as they always do; only the end is seen later. So what keeps the link waiting shows as a rate below the known one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wgpu::{BufferDescriptor, CommandBuffer, MapMode, SubmissionIndex};

use super::driver::{Driver, Load, MapDone, Plain};
use super::open::{GpuRefusal, Opened};
use crate::device::LinkSpec;

/// What one direction of a link has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Submissions with bytes in this direction.
    pub submissions: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time that it took for them.
    pub busy_ns: u64,
    /// Time between them with nothing to carry.
    pub idle_ns: u64,
}

/// One direction.
#[derive(Default)]
struct PacedLine {
    /// When it has carried all that was submitted; `None` before the first.
    free_ns: Option<u64>,
    carried: Carried,
}

impl PacedLine {
    /// When it will have carried these bytes, too.
    fn carry(&mut self, now_ns: u64, bytes: u64, link: &LinkSpec) -> u64 {
        let (free_ns, took_ns) = (self.free_ns.unwrap_or(now_ns), link.transfer_ns(bytes));
        let end_ns = free_ns.max(now_ns) + took_ns;
        self.free_ns = Some(end_ns);
        let so_far = &mut self.carried;
        so_far.submissions += 1;
        so_far.bytes += bytes;
        so_far.busy_ns += took_ns;
        so_far.idle_ns += now_ns.saturating_sub(free_ns);
        end_ns
    }
}

/// Up, and down.
#[derive(Default)]
struct PacedLines {
    lines: [PacedLine; 2],
    /// When each submission under way is over, in order.
    ends_ns: VecDeque<u64>,
    last_ns: u64,
}

impl PacedLines {
    fn submit(&mut self, now_ns: u64, load: Load, link: &[LinkSpec; 2]) {
        let mut end_ns = self.last_ns.max(now_ns);
        for (i, bytes) in [load.up_bytes, load.down_bytes].into_iter().enumerate().filter(|&(_, bytes)| bytes > 0) {
            end_ns = end_ns.max(self.lines[i].carry(now_ns, bytes, &link[i]));
        }
        self.last_ns = end_ns;
        self.ends_ns.push_back(end_ns);
    }
}

/// A link of known rates, and what it has carried.
#[derive(Clone)]
pub struct PacedLink {
    link: [LinkSpec; 2],
    began: Instant,
    lines: Arc<Mutex<PacedLines>>,
}

impl PacedLink {
    /// Up, and down; the latency is taken once a submission.
    #[must_use]
    pub fn new(link: [LinkSpec; 2]) -> Self {
        Self { link, began: Instant::now(), lines: Arc::default() }
    }

    /// Its rates: up, and down.
    #[must_use]
    pub fn specs(&self) -> [LinkSpec; 2] {
        self.link
    }

    /// What it has carried since [`PacedLink::restart`], or has begun to: up, and down.
    #[must_use]
    pub fn carried(&self) -> [Carried; 2] {
        let lines = self.lines();
        [0, 1].map(|i| lines.lines[i].carried)
    }

    /// Counts from here.
    pub fn restart(&self) {
        self.lines().lines = <[PacedLine; 2]>::default();
    }

    /// How long it still takes for what was submitted.
    #[must_use]
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.lines().last_ns.saturating_sub(self.now_ns()))
    }

    pub(super) fn driver(&self) -> Box<dyn Driver> {
        Box::new(PacedDriver { inner: Plain, paced: self.clone() })
    }

    fn lines(&self) -> MutexGuard<'_, PacedLines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

struct PacedDriver {
    inner: Plain,
    paced: PacedLink,
}

impl Driver for PacedDriver {
    fn buffer(&self, opened: &Opened, descriptor: &BufferDescriptor<'_>) -> Result<wgpu::Buffer, GpuRefusal> {
        self.inner.buffer(opened, descriptor)
    }

    fn map(&self, opened: &Opened, buffer: &wgpu::Buffer, mode: MapMode, done: MapDone) {
        self.inner.map(opened, buffer, mode, done);
    }

    fn submit(&self, opened: &Opened, commands: CommandBuffer, load: Load) -> Result<SubmissionIndex, GpuRefusal> {
        let index = self.inner.submit(opened, commands, load)?;
        self.paced.lines().submit(self.paced.now_ns(), load, &self.paced.link);
        Ok(index)
    }

    /// Submissions are waited for in order.
    fn wait(&self, opened: &Opened, index: &SubmissionIndex, at_most: Duration) -> Result<bool, GpuRefusal> {
        let until = Instant::now() + at_most;
        if !self.inner.wait(opened, index, at_most)? {
            return Ok(false);
        }
        let Some(&end_ns) = self.paced.lines().ends_ns.front() else { return Ok(true) };
        let end = self.paced.began + Duration::from_nanos(end_ns);
        std::thread::sleep(end.min(until).saturating_duration_since(Instant::now()));
        if end > until {
            return Ok(false);
        }
        self.paced.lines().ends_ns.pop_front();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_takes_its_own_time_and_ends_come_in_order() {
        let link = [LinkSpec { latency_ns: 10, bytes_per_s: 1e9 }, LinkSpec { latency_ns: 20, bytes_per_s: 5e8 }];
        let load = |up_bytes, down_bytes| Load { launches: 0, up_bytes, down_bytes };
        let mut lines = PacedLines::default();
        lines.submit(0, load(100, 0), &link); // 110
        lines.submit(50, load(0, 100), &link); // 50 + 220
        lines.submit(60, load(100, 10), &link); // 220, and 270 + 40
        lines.submit(400, load(90, 0), &link); // 400 + 100, after 180 of nothing
        lines.submit(400, load(0, 0), &link);
        assert_eq!(lines.ends_ns, [110, 270, 310, 500, 500]);
        let [up, down] = lines.lines.map(|line| line.carried);
        assert_eq!(up, Carried { submissions: 3, bytes: 290, busy_ns: 320, idle_ns: 180 });
        assert_eq!(down, Carried { submissions: 2, bytes: 110, busy_ns: 260, idle_ns: 0 });
    }
}
