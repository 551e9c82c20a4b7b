//! What is to be compiled next, and how long it will be.
//!
//! Owns: [`CompileQueue`]. Must not know: compilers, threads. Invariant: what launches wait for is compiled first, in the order in which it was asked for, so that each has its turn;
//! of what may be wanted, the newest first: a program that was priced just now is likely to be priced again soon, one of long ago is not.
//!
//! The longer a shader's text, each function as often as it is called, the longer it is compiled: of many sines, seconds.

use std::collections::VecDeque;

use super::kept::PipelineKey;

/// Programs that wait to be compiled ahead, at most: beyond that the oldest is forgotten.
const AHEAD: usize = 64;
/// What compiling so many bytes takes, until it was measured.
const PRIOR: (f64, f64) = (50e6, 4096.0);
/// A shorter shader takes as long as one of so many bytes.
const LEAST_BYTES: u64 = 4096;
/// So many times count as much as all before.
const MEMORY: f64 = 16.0;

/// What is to be compiled.
pub(super) struct CompileQueue {
    /// Launches wait for these.
    awaited: VecDeque<PipelineKey>,
    ahead: VecDeque<PipelineKey>,
    /// Being compiled, and the bytes of these.
    busy: usize,
    busy_bytes: u64,
    /// What was compiled of late: nanoseconds, and bytes.
    seen: (f64, f64),
    compiled: u64,
}

/// The bytes of a shader's text, as far as they tell how long it is compiled.
pub(super) fn bytes_of(key: &PipelineKey) -> u64 {
    (key.shader.inlined_bytes() as u64).max(LEAST_BYTES)
}

impl Default for CompileQueue {
    fn default() -> Self {
        Self { awaited: VecDeque::new(), ahead: VecDeque::new(), busy: 0, busy_bytes: 0, seen: PRIOR, compiled: 0 }
    }
}

impl CompileQueue {
    /// A launch waits for it.
    pub(super) fn put(&mut self, key: PipelineKey) {
        self.awaited.push_back(key);
    }

    /// It may be wanted. Gives back one that is not going to be compiled for that.
    pub(super) fn put_ahead(&mut self, key: PipelineKey) -> Option<PipelineKey> {
        self.ahead.push_back(key);
        if self.ahead.len() > AHEAD { self.ahead.pop_front() } else { None }
    }

    /// A launch waits for what may be here to be compiled ahead.
    pub(super) fn hasten(&mut self, wanted: impl Fn(&PipelineKey) -> bool) {
        if let Some(key) = self.ahead.iter().position(wanted).and_then(|at| self.ahead.remove(at)) {
            self.put(key);
        }
    }

    /// The next that a launch waits for; else, with `ahead`, the next that may be wanted.
    pub(super) fn next(&mut self, ahead: bool) -> Option<PipelineKey> {
        let next = self.awaited.pop_front().or_else(|| if ahead { self.ahead.pop_back() } else { None })?;
        self.busy += 1;
        self.busy_bytes += bytes_of(&next);
        Some(next)
    }

    /// One that was to be compiled ahead is not.
    pub(super) fn forget(&mut self) -> Option<PipelineKey> {
        self.ahead.pop_front()
    }

    /// Whether one is here to be compiled ahead, and nobody has begun.
    pub(super) fn may_come(&self, is_it: impl Fn(&PipelineKey) -> bool) -> bool {
        self.ahead.iter().any(is_it)
    }

    /// Whether any is being compiled.
    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// One was compiled in so long.
    pub(super) fn done(&mut self, key: &PipelineKey, took_ns: u64) {
        self.busy -= 1;
        self.busy_bytes -= bytes_of(key);
        self.compiled += 1;
        let kept = 1.0 - 1.0 / MEMORY;
        self.seen = (self.seen.0 * kept + took_ns as f64, self.seen.1 * kept + bytes_of(key) as f64);
    }

    /// How many were compiled, or refused.
    pub(super) fn compiled(&self) -> u64 {
        self.compiled
    }

    /// How long a launch would wait for shaders of so many bytes more, if so many threads compile, each one shader at a time: what only may be wanted lets it pass.
    pub(super) fn wait_ns(&self, more: &[u64], threads: usize) -> u64 {
        let before = self.busy_bytes + self.awaited.iter().map(bytes_of).sum::<u64>();
        let all = (before + more.iter().sum::<u64>()) as f64 / threads.max(1) as f64;
        let longest = more.iter().copied().max().unwrap_or(0) as f64;
        (all.max(longest) * self.seen.0 / self.seen.1) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::{Pass, Program, Shader, Work};
    use crate::shape::DType;

    fn key(number: usize) -> PipelineKey {
        let shader = Arc::new(Shader::new(number.to_string(), "text"));
        let program = Program::new(&shader, DType::F32, &[], vec![Pass::new("run", 1, 0)], Work::default());
        PipelineKey::new(&program, &program.passes[0])
    }

    #[test]
    fn launches_have_their_turn_and_the_newest_that_may_be_wanted_comes_next() {
        let mut queue = CompileQueue::default();
        assert!((0..4).all(|number| queue.put_ahead(key(number)).is_none()));
        (10..12).for_each(|number| queue.put(key(number)));
        queue.hasten(|key| key.shader.name() == "1");
        queue.hasten(|key| key.shader.name() == "7");
        let mut names = Vec::new();
        while let Some(next) = queue.next(true) {
            names.push(next.shader.name().to_owned());
        }
        assert_eq!(names, ["10", "11", "1", "3", "2", "0"]);
        let forgotten: Vec<String> =
            (0..2 * AHEAD).filter_map(|number| queue.put_ahead(key(number))).map(|key| key.shader.name().to_owned()).collect();
        assert_eq!(forgotten, (0..AHEAD).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(queue.next(false).is_none(), "nobody waits for any of these");
        assert_eq!((0..).map_while(|_| queue.next(true)).count(), AHEAD, "they are still there");
    }

    #[test]
    fn what_compiling_takes_is_learnt() {
        let mut queue = CompileQueue::default();
        let ms = |ns: u64| (ns as f64 / 1e6).round();
        assert_eq!([&[4096][..], &[4096; 3], &[4096, 8192]].map(|more| ms(queue.wait_ns(more, 2))), [50.0, 75.0, 100.0]);
        for _ in 0..128 {
            queue.put(key(0));
            assert!(queue.next(false).is_some());
            queue.done(&key(0), 3_000_000);
        }
        assert_eq!([&[4096], &[16_384]].map(|more| ms(queue.wait_ns(more, 1))), [3.0, 12.0]);
        (0..2).for_each(|number| queue.put(key(number)));
        assert!(queue.next(false).is_some());
        assert_eq!(ms(queue.wait_ns(&[4096], 1)), 9.0, "one is being compiled, and one waits");
    }
}
