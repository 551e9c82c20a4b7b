//! What was compiled lately, and what is being compiled.
//!
//! Owns: [`KeptPrograms`]. Must not know: any GPU API, threads. Invariant: no more than `most` are kept, the last that were asked for; one that is being compiled
//! is there until it has been, or is given up.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::super::open::GpuRefusal;
use crate::kernel::{Pass, Program, Shader, content_hash};
use crate::shape::DType;

/// What tells pipelines apart.
#[derive(Clone)]
pub(super) struct PipelineKey {
    pub(super) shader: Arc<Shader>,
    pub(super) real: DType,
    pub(super) entry: Cow<'static, str>,
    /// Whether scratch is bound, and fault words.
    pub(super) more: [bool; 2],
}

impl PipelineKey {
    pub(super) fn new(program: &Program, pass: &Pass) -> Self {
        Self { shader: program.shader.clone(), real: program.real, entry: pass.entry.clone(), more: more(program) }
    }

    /// What a file may know it by.
    pub(super) fn hash(&self) -> u64 {
        let Self { shader, real, entry, more } = self;
        content_hash(format!("{:016x} {real} {entry} {more:?}", shader.content()).as_bytes())
    }

    /// Whether this pass of this program needs it. Shaders are compared in full: equal hashes of their contents say little.
    fn is(&self, program: &Program, pass: &Pass) -> bool {
        self.is_of(&program.shader, program.real, &pass.entry, more(program))
    }

    fn is_of(&self, shader: &Arc<Shader>, real: DType, entry: &str, more: [bool; 2]) -> bool {
        let same = Arc::ptr_eq(&self.shader, shader) || self.shader == *shader;
        same && self.real == real && self.entry == entry && self.more == more
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.is_of(&other.shader, other.real, &other.entry, other.more)
    }
}

fn more(program: &Program) -> [bool; 2] {
    [program.scratch_bytes > 0, program.faults]
}

/// How far it is.
#[derive(Clone)]
pub(super) enum CompileProgress<P> {
    /// `awaited` by a launch, or compiled ahead.
    Compiling {
        awaited: bool,
    },
    /// `new` until a launch has had it.
    Ready {
        pipeline: P,
        new: bool,
    },
    Failed(GpuRefusal),
}

pub(super) struct KeptProgram<P> {
    key: PipelineKey,
    progress: CompileProgress<P>,
    /// When it was asked for last, by a count of what was asked.
    asked: u64,
}

/// Compiled pipelines of any kind `P`.
pub(super) struct KeptPrograms<P> {
    /// By the hash of the shader's content.
    all: HashMap<u64, Vec<KeptProgram<P>>>,
    /// Of those that are not being compiled: how many there are, and may be.
    settled: usize,
    most: usize,
    asks: u64,
}

impl<P> KeptPrograms<P> {
    pub(super) fn new(most: usize) -> Self {
        Self { all: HashMap::new(), settled: 0, most, asks: 0 }
    }

    /// Compiled, or refused.
    pub(super) fn len(&self) -> usize {
        self.settled
    }

    /// Those that launches wait for.
    pub(super) fn awaited(&self) -> usize {
        let awaited = |kept: &&KeptProgram<P>| matches!(kept.progress, CompileProgress::Compiling { awaited: true });
        self.all.values().flatten().filter(awaited).count()
    }

    /// The one that a pass of a program needs, if it is there; it counts as asked for.
    pub(super) fn find(&mut self, program: &Program, pass: &Pass) -> Option<&mut CompileProgress<P>> {
        self.asks += 1;
        let alike = self.all.get_mut(&program.shader.content())?;
        let found = alike.iter_mut().find(|kept| kept.key.is(program, pass))?;
        found.asked = self.asks;
        Some(&mut found.progress)
    }

    /// One is going to be compiled that was not there.
    pub(super) fn begin(&mut self, key: PipelineKey, awaited: bool) {
        self.asks += 1;
        let kept = KeptProgram { progress: CompileProgress::Compiling { awaited }, asked: self.asks, key };
        self.all.entry(kept.key.shader.content()).or_default().push(kept);
    }

    /// It is not going to be compiled after all.
    pub(super) fn give_up(&mut self, key: &PipelineKey) {
        let compiling = |kept: &KeptProgram<P>| matches!(kept.progress, CompileProgress::Compiling { .. });
        self.remove(key.shader.content(), |kept| compiling(kept) && kept.key.same(key));
    }

    /// It is compiled, or refused. Says whether a launch waits for it; and what is given up for it, to be dropped while nothing is locked.
    pub(super) fn settle(&mut self, key: &PipelineKey, progress: CompileProgress<P>) -> (bool, Option<KeptProgram<P>>) {
        let alike = self.all.get_mut(&key.shader.content());
        let Some(kept) = alike.and_then(|alike| alike.iter_mut().find(|kept| kept.key.same(key))) else { return (false, None) };
        let was = std::mem::replace(&mut kept.progress, progress);
        self.settled += usize::from(matches!(was, CompileProgress::Compiling { .. }));
        let given_up = if self.settled > self.most { self.remove_oldest() } else { None };
        (matches!(was, CompileProgress::Compiling { awaited: true }), given_up)
    }

    /// The one that was asked for before all others. There are few hundred, and to compile one takes longer than to look at all.
    fn remove_oldest(&mut self) -> Option<KeptProgram<P>> {
        let settled = |kept: &&KeptProgram<P>| !matches!(kept.progress, CompileProgress::Compiling { .. });
        let all = self.all.iter().flat_map(|(&content, alike)| alike.iter().map(move |kept| (content, kept)));
        let (content, asked) =
            all.filter(|(_, kept)| settled(kept)).map(|(content, kept)| (content, kept.asked)).min_by_key(|k| k.1)?;
        let removed = self.remove(content, |kept| settled(&kept) && kept.asked == asked)?;
        self.settled -= 1;
        Some(removed)
    }

    fn remove(&mut self, content: u64, which: impl Fn(&KeptProgram<P>) -> bool) -> Option<KeptProgram<P>> {
        let alike = self.all.get_mut(&content)?;
        let removed = alike.iter().position(which).map(|at| alike.swap_remove(at));
        if alike.is_empty() {
            self.all.remove(&content);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Work;

    fn made(number: usize) -> Program {
        let shader = Arc::new(Shader::new(format!("number {number}"), "text"));
        Program::new(&shader, DType::F32, &[], vec![Pass::new("run", 1, 0)], Work::default())
    }

    /// Asks for a program, and compiles it if it is not there. Whether it was.
    fn ask(kept: &mut KeptPrograms<usize>, program: &Program, number: usize) -> bool {
        let pass = &program.passes[0];
        if let Some(progress) = kept.find(program, pass) {
            assert!(matches!(progress, CompileProgress::Ready { pipeline, .. } if *pipeline == number));
            return true;
        }
        let key = PipelineKey::new(program, pass);
        kept.begin(key.clone(), true);
        assert!(kept.settle(&key, CompileProgress::Ready { pipeline: number, new: true }).0, "a launch waits for it");
        false
    }

    #[test]
    fn the_last_that_were_asked_for_are_kept() {
        let mut kept = KeptPrograms::new(8);
        let programs: Vec<Program> = (0..30).map(made).collect();
        for (number, program) in programs.iter().enumerate() {
            assert!(!ask(&mut kept, program, number));
            assert!(kept.len() <= 8);
            assert!(ask(&mut kept, &programs[0], 0), "it is asked for again and again: {number}");
        }
        let there =
            |kept: &mut KeptPrograms<usize>, number: usize| kept.find(&programs[number], &programs[number].passes[0]).is_some();
        let left: Vec<usize> = (0..30).filter(|&number| there(&mut kept, number)).collect();
        assert_eq!(left, [0, 23, 24, 25, 26, 27, 28, 29]);
        assert!(!ask(&mut kept, &programs[3], 3), "what was given up is compiled again");
    }

    #[test]
    fn what_is_being_compiled_stays() {
        let mut kept = KeptPrograms::<usize>::new(1);
        let programs: Vec<Program> = (0..4).map(made).collect();
        let key = |number: usize| PipelineKey::new(&programs[number], &programs[number].passes[0]);
        (0..4).for_each(|number| kept.begin(key(number), false));
        assert!(kept.settle(&key(0), CompileProgress::Ready { pipeline: 0, new: true }).1.is_none());
        assert!(
            kept.settle(&key(1), CompileProgress::Failed(GpuRefusal::Unfit("no".into()))).1.is_some(),
            "for this, that goes"
        );
        assert!(matches!(kept.find(&programs[2], &programs[2].passes[0]), Some(CompileProgress::Compiling { awaited: false })));
        kept.give_up(&key(2));
        kept.give_up(&key(1));
        assert!(kept.find(&programs[2], &programs[2].passes[0]).is_none());
        assert!(kept.find(&programs[1], &programs[1].passes[0]).is_some(), "only what is being compiled can be given up");
        assert_eq!(kept.len(), 1);
    }
}
