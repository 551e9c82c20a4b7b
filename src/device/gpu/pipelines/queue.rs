//! What is to be compiled next, and how long it will be.
//!
//! Owns: [`CompileQueue`]. Must not know: compilers, threads. Invariant: what launches wait for is compiled first, in the order in which it was asked for, so that each has its turn;
//! of what may be wanted, the newest first: a program that was priced just now is likely to be priced again soon, one of long ago is not.

use std::collections::VecDeque;

use super::kept::PipelineKey;
use super::times::{CompileTimes, ShaderBytes};

/// Programs that wait to be compiled ahead, at most: beyond that the oldest is forgotten.
const AHEAD: usize = 64;
/// A shorter shader takes as long as one of so many bytes.
const LEAST_BYTES: u64 = 4096;

/// A program that is to be compiled.
#[derive(Clone)]
pub(super) struct QueuedProgram {
    pub(super) key: PipelineKey,
    /// Whether the driver's cache has it.
    pub(super) is_known: bool,
}

impl QueuedProgram {
    /// The bytes of its text, as far as they tell how long it is compiled.
    pub(super) fn bytes(&self) -> ShaderBytes {
        let bytes = (self.key.shader.inlined_bytes() as u64).max(LEAST_BYTES);
        if self.is_known { [0, bytes] } else { [bytes, 0] }
    }
}

/// What is to be compiled.
#[derive(Default)]
pub(super) struct CompileQueue {
    /// Launches wait for these.
    awaited: VecDeque<QueuedProgram>,
    ahead: VecDeque<QueuedProgram>,
    /// Being compiled, and the bytes of these.
    busy: usize,
    busy_bytes: ShaderBytes,
    pub(super) times: CompileTimes,
    compiled: u64,
}

impl CompileQueue {
    /// A launch waits for it.
    pub(super) fn put(&mut self, program: QueuedProgram) {
        self.awaited.push_back(program);
    }

    /// It may be wanted. Gives back one that is not going to be compiled for that.
    pub(super) fn put_ahead(&mut self, program: QueuedProgram) -> Option<PipelineKey> {
        self.ahead.push_back(program);
        if self.ahead.len() > AHEAD { self.forget() } else { None }
    }

    /// A launch waits for what may be here to be compiled ahead.
    pub(super) fn hasten(&mut self, wanted: impl Fn(&PipelineKey) -> bool) {
        if let Some(program) = self.ahead.iter().position(|p| wanted(&p.key)).and_then(|at| self.ahead.remove(at)) {
            self.put(program);
        }
    }

    /// The next that a launch waits for; else, with `ahead`, the next that may be wanted.
    pub(super) fn next(&mut self, ahead: bool) -> Option<QueuedProgram> {
        let next = self.awaited.pop_front().or_else(|| if ahead { self.ahead.pop_back() } else { None })?;
        self.busy += 1;
        self.busy_bytes = sum([self.busy_bytes, next.bytes()]);
        Some(next)
    }

    /// One that was to be compiled ahead is not.
    pub(super) fn forget(&mut self) -> Option<PipelineKey> {
        self.ahead.pop_front().map(|program| program.key)
    }

    /// Whether one is here to be compiled ahead, and nobody has begun.
    pub(super) fn may_come(&self, is_it: impl Fn(&PipelineKey) -> bool) -> bool {
        self.ahead.iter().any(|program| is_it(&program.key))
    }

    /// Whether any is being compiled.
    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// One was compiled in so long.
    pub(super) fn done(&mut self, program: &QueuedProgram, took_ns: u64) {
        let bytes = program.bytes();
        self.busy -= 1;
        (0..2).for_each(|known| self.busy_bytes[known] -= bytes[known]);
        self.compiled += 1;
        self.times.learn(program.is_known, bytes.iter().sum(), took_ns);
    }

    /// How many were compiled, or refused.
    pub(super) fn compiled(&self) -> u64 {
        self.compiled
    }

    /// How long a launch would wait for more shaders, each of so many bytes, if so many threads compile, each one shader at a time: what only may be wanted lets it pass.
    pub(super) fn wait_ns(&self, more: &[ShaderBytes], threads: usize) -> u64 {
        let all = self.awaited.iter().map(QueuedProgram::bytes).chain(more.iter().copied()).chain([self.busy_bytes]);
        let all = self.times.ns(sum(all)) / threads.max(1) as f64;
        more.iter().map(|&one| self.times.ns(one)).fold(all, f64::max).ceil().max(1.0) as u64
    }
}

fn sum(all: impl IntoIterator<Item = ShaderBytes>) -> ShaderBytes {
    all.into_iter().fold([0; 2], |[a, b], [c, d]| [a + c, b + d])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::{Pass, Program, Shader, Work};
    use crate::shape::DType;

    fn program(number: usize) -> QueuedProgram {
        let shader = Arc::new(Shader::new(number.to_string(), "text"));
        let program = Program::new(&shader, DType::F32, &[], vec![Pass::new("run", 1, 0)], Work::default());
        QueuedProgram { key: PipelineKey::new(&program, &program.passes[0]), is_known: number >= 100 }
    }

    #[test]
    fn launches_have_their_turn_and_the_newest_that_may_be_wanted_comes_next() {
        let mut queue = CompileQueue::default();
        assert!((0..4).all(|number| queue.put_ahead(program(number)).is_none()));
        (10..12).for_each(|number| queue.put(program(number)));
        queue.hasten(|key| key.shader.name() == "1");
        queue.hasten(|key| key.shader.name() == "7");
        let mut names = Vec::new();
        while let Some(next) = queue.next(true) {
            names.push(next.key.shader.name().to_owned());
        }
        assert_eq!(names, ["10", "11", "1", "3", "2", "0"]);
        let forgotten: Vec<String> = (0..2 * AHEAD)
            .filter_map(|number| queue.put_ahead(program(number)))
            .map(|key| key.shader.name().to_owned())
            .collect();
        assert_eq!(forgotten, (0..AHEAD).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(queue.next(false).is_none(), "nobody waits for any of these");
        assert_eq!((0..).map_while(|_| queue.next(true)).count(), AHEAD, "they are still there");
    }

    #[test]
    fn what_compiling_takes_is_learnt() {
        let mut queue = CompileQueue::default();
        let ms = |ns: u64| (ns as f64 / 1e6).round();
        let waits =
            [&[[4096, 0]][..], &[[4096, 0]; 3], &[[4096, 0], [8192, 0]], &[[0, 4096]]].map(|more| ms(queue.wait_ns(more, 2)));
        assert_eq!(waits, [50.0, 75.0, 100.0, 10.0]);
        for number in [0, 100].into_iter().cycle().take(256) {
            queue.put(program(number));
            assert!(queue.next(false).is_some());
            queue.done(&program(number), if number == 0 { 3_000_000 } else { 1_000_000 });
        }
        assert_eq!([[4096, 0], [16_384, 0], [0, 4096]].map(|more| ms(queue.wait_ns(&[more], 1))), [3.0, 12.0, 1.0]);
        (0..2).for_each(|number| queue.put(program(number)));
        assert!(queue.next(false).is_some());
        assert_eq!(ms(queue.wait_ns(&[[4096, 0]], 1)), 9.0, "one is being compiled, and one waits");
    }
}
