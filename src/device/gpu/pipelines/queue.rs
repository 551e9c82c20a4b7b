//! What is to be compiled next, and how long it will be.
//!
//! Owns: [`CompileQueue`]. Must not know: compilers, threads. Invariant: what launches wait for is compiled first, in the order in which it was asked for, so that each has its turn;
//! of what may be wanted, the newest first: a program that was priced just now is likely to be priced again soon, one of long ago is not.

use std::collections::VecDeque;

use super::kept::PipelineKey;

/// Programs that wait to be compiled ahead, at most: beyond that the oldest is forgotten.
const AHEAD: usize = 64;
/// What compiling takes, until it was measured.
const PRIOR_NS: u64 = 50_000_000;
/// So many times count as much as all before.
const MEMORY: u64 = 16;

/// What is to be compiled.
pub(super) struct CompileQueue {
    /// Launches wait for these.
    awaited: VecDeque<PipelineKey>,
    ahead: VecDeque<PipelineKey>,
    /// Being compiled.
    busy: usize,
    mean_ns: u64,
    compiled: u64,
}

impl Default for CompileQueue {
    fn default() -> Self {
        Self { awaited: VecDeque::new(), ahead: VecDeque::new(), busy: 0, mean_ns: PRIOR_NS, compiled: 0 }
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
        Some(next)
    }

    /// One that was to be compiled ahead is not.
    pub(super) fn forget(&mut self) -> Option<PipelineKey> {
        self.ahead.pop_front()
    }

    /// Whether any is being compiled.
    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// One was compiled in so long.
    pub(super) fn done(&mut self, took_ns: u64) {
        self.busy -= 1;
        self.compiled += 1;
        let weight = self.compiled.min(MEMORY) as i64 + 1; // what was believed counts as one
        self.mean_ns = self.mean_ns.saturating_add_signed((took_ns as i64 - self.mean_ns as i64) / weight).max(1);
    }

    /// How many were compiled, or refused.
    pub(super) fn compiled(&self) -> u64 {
        self.compiled
    }

    /// How long a launch would wait for so many more, if so many threads compile: what only may be wanted lets it pass.
    pub(super) fn wait_ns(&self, more: usize, threads: usize) -> u64 {
        let rounds = (self.busy + self.awaited.len() + more).div_ceil(threads.max(1)) as u64;
        rounds.saturating_mul(self.mean_ns)
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
        assert_eq!((queue.wait_ns(1, 2), queue.wait_ns(3, 2)), (PRIOR_NS, 2 * PRIOR_NS));
        for _ in 0..64 {
            queue.put(key(0));
            assert!(queue.next(false).is_some());
            queue.done(3_000_000);
        }
        let mean = queue.wait_ns(1, 1);
        assert!((3_000_000..4_000_000).contains(&mean), "{mean}");
        (0..2).for_each(|number| queue.put(key(number)));
        assert!(queue.next(false).is_some());
        assert_eq!(queue.wait_ns(1, 1), 3 * mean, "one is being compiled, and one waits");
    }
}
