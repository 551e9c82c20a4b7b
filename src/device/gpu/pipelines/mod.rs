//! Compiled shaders, made on threads of their own.
//!
//! Owns: [`Pipelines`]. Must not know: launches. Invariant: nobody waits for a compiler but the launches that need its pipeline; what two shaders
//! share is compiled once, whoever made them; as many are kept as were asked for lately, and what was given up is compiled again when it is asked for.
//!
//! `kept` is what was compiled, `queue` what is to be, `compile` asks wgpu, `disk` is what a driver keeps from one session to the next.

mod compile;
mod disk;
mod kept;
mod queue;
mod times;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use smallvec::SmallVec;

use self::compile::Compiler;
use self::disk::DriverCache;
pub(super) use self::disk::cache_name;
use self::kept::{CompileProgress, KeptPrograms, PipelineKey};
use self::queue::{CompileQueue, QueuedProgram};
use self::times::ShaderBytes;
use super::open::{GpuRefusal, Opened};
use super::plan::LaunchPlan;
use crate::device::system;
use crate::kernel::{Pass, Program};

/// Pipelines that are kept. Launches under way have theirs, whatever is given up.
const KEPT: usize = 512;
/// Threads that compile, at most: half of the cores are left to those who compute meanwhile.
const THREADS: usize = 4;

/// What a launch runs: the pipelines of each stage, of each pass, as far as they are compiled.
#[derive(Default)]
pub(super) struct LaunchPipelines {
    passes: SmallVec<[Option<wgpu::ComputePipeline>; 2]>,
    /// Whether one of them was never run before: then drivers finish it, and what that takes says nothing of the next time.
    pub(super) are_new: bool,
}

impl LaunchPipelines {
    /// That of a pass, once all are there.
    pub(super) fn of(&self, plan: &LaunchPlan, stage: usize, pass: usize) -> Option<&wgpu::ComputePipeline> {
        let before: usize = plan.stages[..stage].iter().map(|stage| stage.program.passes.len()).sum();
        self.passes.get(before + pass)?.as_ref()
    }

    fn are_complete(&self) -> bool {
        self.passes.iter().all(Option::is_some)
    }
}

struct CompileState {
    kept: KeptPrograms<wgpu::ComputePipeline>,
    queue: CompileQueue,
    /// Whether what was compiled is to be written, and is being written.
    save: bool,
    /// Threads that write it.
    saving: usize,
    ended: bool,
}

/// What the compiling threads share.
struct Workshop {
    compiler: Compiler,
    state: Mutex<CompileState>,
    changed: Condvar,
    threads: usize,
    /// Told when a launch may go on.
    compiled: Box<dyn Fn() + Send + Sync>,
}

enum CompilerJob {
    Compile(QueuedProgram),
    Save,
}

/// All pipelines of one device; their threads end with it.
pub(super) struct Pipelines(Arc<Workshop>);

impl Pipelines {
    /// Starts the compiling threads; they call `compiled` after each pipeline that a launch waits for.
    pub(super) fn start(
        opened: Arc<Opened>,
        name: &str,
        compiled: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let state = CompileState {
            kept: KeptPrograms::new(KEPT),
            queue: CompileQueue::default(),
            save: false,
            saving: 0,
            ended: false,
        };
        let threads = (system::threads() / 2).clamp(1, THREADS);
        let this = Arc::new(Self(Arc::new(Workshop {
            compiler: Compiler::new(opened),
            state: Mutex::new(state),
            changed: Condvar::new(),
            threads,
            compiled: Box::new(compiled),
        })));
        for number in 0..threads {
            let workshop = this.0.clone();
            let thread = std::thread::Builder::new().name(format!("chunkwise-{name}-compile{number}"));
            thread.spawn(move || workshop.work())?;
        }
        Ok(this)
    }

    /// Goes on where an earlier session has stopped, and leaves to the next what was compiled: in this folder, if the driver has anything to leave.
    pub(super) fn keep_in(&self, dir: &Path) {
        let compiler = &self.0.compiler;
        if let Some(cache) = DriverCache::open(&compiler.opened, dir) {
            self.0.state().queue.times = cache.times;
            let _ = compiler.cache.set(cache); // one folder is enough
        }
    }

    /// The pipelines of a launch, those that it lacks; true if they are all there now. The others are being compiled.
    pub(super) fn complete(&self, plan: &LaunchPlan, launch: &mut LaunchPipelines) -> Result<bool, GpuRefusal> {
        if launch.passes.is_empty() {
            launch.passes.resize(plan.passes(), None);
        } else if launch.are_complete() {
            return Ok(true);
        }
        let passes = plan.stages.iter().flat_map(|stage| stage.program.passes.iter().map(|pass| (&stage.program, pass)));
        let mut state = self.0.state();
        let mut refusal = None;
        for ((program, pass), place) in passes.zip(&mut launch.passes).filter(|(_, place)| place.is_none()) {
            match state.take(program, pass, &self.0.compiler) {
                Ok((pipeline, is_new)) => {
                    launch.are_new |= is_new;
                    *place = pipeline;
                }
                Err(found) => refusal = refusal.or(Some(found)),
            }
        }
        let complete = launch.are_complete();
        drop(state);
        if !complete {
            self.0.changed.notify_all();
        }
        refusal.map_or(Ok(complete), Err)
    }

    /// How long a launch of this program would wait for the compiler, as far as is known.
    pub(super) fn wait_ns(&self, program: &Program) -> u64 {
        let mut state = self.0.state();
        let CompileState { kept, queue, .. } = &mut *state;
        let (mut missing, mut compiling) = (SmallVec::<[ShaderBytes; 4]>::new(), false);
        for pass in &program.passes {
            let key = || PipelineKey::new(program, pass);
            match kept.find(program, pass) {
                Some(CompileProgress::Ready { .. } | CompileProgress::Failed(_)) => {}
                Some(CompileProgress::Compiling { awaited: true }) => compiling = true,
                // It is under way, unless it is here to be compiled ahead.
                Some(CompileProgress::Compiling { .. }) if !queue.may_come(|waiting| waiting.same(&key())) => compiling = true,
                _ => missing.push(self.0.compiler.queued(key()).bytes()),
            }
        }
        if compiling || !missing.is_empty() { state.queue.wait_ns(&missing, self.0.threads) } else { 0 }
    }

    /// Begins to compile a program that nobody waits for.
    pub(super) fn compile_ahead(&self, program: &Program) {
        let mut state = self.0.state();
        for pass in &program.passes {
            if state.kept.find(program, pass).is_some() {
                continue;
            }
            let key = PipelineKey::new(program, pass);
            state.kept.begin(key.clone(), false);
            if let Some(given_up) = state.queue.put_ahead(self.0.compiler.queued(key)) {
                state.kept.give_up(&given_up);
            }
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// The layout of the bindings of a program with these numbers of inputs and outputs, with scratch and fault words (0 or 1).
    pub(super) fn layout(&self, numbers: [u32; 4]) -> Result<wgpu::BindGroupLayout, GpuRefusal> {
        self.0.compiler.layout(numbers)
    }

    /// How many were compiled or refused, how many of these are kept, and how many launches wait for.
    pub(super) fn counts(&self) -> [u64; 3] {
        let state = self.0.state();
        [state.queue.compiled(), state.kept.len() as u64, state.kept.awaited() as u64]
    }

    /// Has what was compiled written, on a thread that compiles, once no launch waits for it.
    pub(super) fn save(&self) {
        if self.0.compiler.cache.get().is_some() {
            self.0.state().save = true;
            self.0.changed.notify_all();
        }
    }

    /// What was to be compiled ahead is not. Waits until nothing is being compiled, until then at most, however wedged the driver is: a program that ends
    /// while its driver compiles may crash in it.
    pub(super) fn finish(&self, until: Instant) {
        let mut state = self.0.state();
        while let Some(key) = state.queue.forget() {
            state.kept.give_up(&key);
        }
        while state.save || state.saving > 0 || state.queue.is_busy() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The same at the end, when what was compiled is written.
    pub(super) fn end(&self, until: Instant) {
        self.save();
        self.0.state().ended = true;
        self.0.changed.notify_all();
        self.finish(until);
    }
}

impl Drop for Pipelines {
    fn drop(&mut self) {
        self.0.state().ended = true;
        self.0.changed.notify_all();
    }
}

impl CompileState {
    /// The pipeline of a pass, for a launch; whether it is the first that has it. `None` while it is being compiled.
    fn take(
        &mut self,
        program: &Program,
        pass: &Pass,
        compiler: &Compiler,
    ) -> Result<(Option<wgpu::ComputePipeline>, bool), GpuRefusal> {
        match self.kept.find(program, pass) {
            Some(CompileProgress::Ready { pipeline, new }) => Ok((Some(pipeline.clone()), std::mem::take(new))),
            Some(CompileProgress::Failed(refusal)) => Err(refusal.clone()),
            Some(CompileProgress::Compiling { awaited: true }) => Ok((None, false)),
            Some(CompileProgress::Compiling { awaited }) => {
                *awaited = true;
                let key = PipelineKey::new(program, pass);
                self.queue.hasten(|waiting| waiting.same(&key));
                Ok((None, false))
            }
            None => {
                let key = PipelineKey::new(program, pass);
                self.kept.begin(key.clone(), true);
                self.queue.put(compiler.queued(key));
                Ok((None, false))
            }
        }
    }

    fn next(&mut self) -> Option<CompilerJob> {
        if let Some(program) = self.queue.next(false) {
            return Some(CompilerJob::Compile(program));
        }
        if std::mem::take(&mut self.save) {
            self.saving += 1;
            return Some(CompilerJob::Save);
        }
        self.queue.next(!self.ended).map(CompilerJob::Compile)
    }
}

impl Workshop {
    fn state(&self) -> MutexGuard<'_, CompileState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.wait() {
            match job {
                CompilerJob::Compile(program) => self.serve(&program),
                CompilerJob::Save => {
                    // A lost device has nothing to say.
                    if let Some(cache) = self.compiler.cache.get().filter(|_| self.compiler.opened.lost().is_none()) {
                        let times = self.state().queue.times;
                        cache.save(times);
                        cache.renew_if_full(&self.compiler.opened);
                    }
                    self.state().saving -= 1;
                }
            }
            self.changed.notify_all(); // somebody may wait for the end of all
        }
    }

    /// What is to be done next; `None` at the end.
    fn wait(&self) -> Option<CompilerJob> {
        let mut state = self.state();
        loop {
            let next = state.next();
            if next.is_some() || state.ended {
                return next;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self, program: &QueuedProgram) {
        let (key, began) = (&program.key, Instant::now());
        let progress = match self.compiler.compile(key) {
            Ok(pipeline) => CompileProgress::Ready { pipeline, new: true },
            Err(refusal) => CompileProgress::Failed(refusal),
        };
        let took_ns = began.elapsed().as_nanos() as u64;
        let is_full = self.compiler.cache.get().is_some_and(DriverCache::is_full);
        let (is_awaited, _given_up) = {
            let mut state = self.state();
            state.queue.done(program, took_ns);
            state.save |= is_full; // whoever waits for the end waits for a new cache, too
            state.kept.settle(key, progress)
        };
        if is_awaited {
            (self.compiled)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::super::plan::LaunchStage;
    use super::*;
    use crate::kernel::{Shader, Work};
    use crate::shape::DType;

    /// A program whose shader was made just now.
    fn made(name: &str, factor: u32, real: DType) -> Program {
        let text = format!(
            "@group(0) @binding(1) var<storage, read_write> y: array<Real>;
             @compute @workgroup_size(1) fn run() {{ y[0] = Real({factor}); }}
             @compute @workgroup_size(1) fn again() {{ y[0] += Real({factor}); }}"
        );
        let shader = Shader::new(name.to_owned(), text).with_operands(0, 1).into();
        let passes = ["run", "again"].map(|entry| Pass::new(entry.to_owned(), 1, 0));
        Program::new(&shader, real, &[], passes.into(), Work::default())
    }

    /// A plan that runs a program.
    fn plan(program: Program) -> LaunchPlan {
        let places = smallvec::SmallVec::new();
        LaunchPlan::new(vec![LaunchStage { program, places }], 0, SmallVec::new())
    }

    /// Pipelines, and what is told when a launch may go on.
    fn started() -> Option<(Arc<Pipelines>, Receiver<()>, bool)> {
        let adapter = crate::device::gpu::adapters::any()?;
        let opened = Arc::new(Opened::new(&adapter).unwrap());
        let (sender, compiled) = channel();
        let sender = Mutex::new(sender);
        let told = move || sender.lock().unwrap().send(()).unwrap_or(());
        Some((Pipelines::start(opened, "test", told).unwrap(), compiled, adapter.has_f64))
    }

    fn wait(compiled: &Receiver<()>) {
        compiled.recv_timeout(Duration::from_secs(120)).unwrap();
    }

    /// The pipelines of a plan's two passes; `None` if they have yet to be compiled.
    fn both(pipelines: &Pipelines, plan: &LaunchPlan) -> Option<[wgpu::ComputePipeline; 2]> {
        let mut launch = LaunchPipelines::default();
        let complete = pipelines.complete(plan, &mut launch).unwrap();
        complete.then(|| [0, 1].map(|pass| launch.of(plan, 0, pass).cloned().unwrap()))
    }

    #[test]
    fn what_is_one_shader_is_compiled_once() {
        let Some((pipelines, compiled, has_f64)) = started() else { return };
        // The two names have one hash (FNV-1a, 64 bits).
        let (name, namesake) = ("8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ");
        let [one, other] = [name, namesake].map(|name| made(name, 1, DType::F32));
        assert!(one.shader != other.shader && one.shader.content() == other.shader.content());
        let mut expected = 0;
        for (factor, program) in [(1, one), (1, other), (2, made(name, 2, DType::F32)), (1, made(name, 1, DType::F64))] {
            if program.real == DType::F64 && !has_f64 {
                continue;
            }
            let anew = plan(made(program.shader.name(), factor, program.real));
            let program = plan(program);
            assert!(both(&pipelines, &program).is_none(), "it is another one");
            (0..2).for_each(|_| wait(&compiled));
            expected += 2;
            let [run, again] = both(&pipelines, &program).unwrap();
            assert_ne!(run, again);
            let shaders = [&anew, &program].map(|plan| plan.stages[0].program.shader.clone());
            assert!(!Arc::ptr_eq(&shaders[0], &shaders[1]) && shaders[0] == shaders[1]);
            assert_eq!(both(&pipelines, &anew).unwrap(), [run, again]);
        }
        assert_eq!(pipelines.counts(), [expected, expected, 0]);
        assert!(compiled.try_recv().is_err());
    }

    #[test]
    fn what_is_compiled_ahead_is_there_for_the_launch_and_wakes_nobody() {
        let Some((pipelines, compiled, _)) = started() else { return };
        let program = made("ahead", 3, DType::F32);
        let prior = pipelines.wait_ns(&program);
        assert!(prior >= 50_000_000, "two passes: {prior}");
        pipelines.compile_ahead(&program);
        pipelines.compile_ahead(&program);
        let end = Instant::now() + Duration::from_secs(120);
        while pipelines.wait_ns(&program) > 0 {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(pipelines.counts(), [2, 2, 0]);
        assert!(compiled.try_recv().is_err(), "no launch waited");
        let (plan, mut launch) = (plan(program), LaunchPipelines::default());
        assert!(pipelines.complete(&plan, &mut launch).unwrap() && std::mem::take(&mut launch.are_new));
        let mut next = LaunchPipelines::default();
        assert!(pipelines.complete(&plan, &mut next).unwrap() && !next.are_new, "the first run was another's");
        // What it took was learnt.
        assert!(pipelines.wait_ns(&made("another", 4, DType::F32)) != prior);
    }

    #[test]
    fn layouts_are_few() {
        let Some((pipelines, ..)) = started() else { return };
        let sorts = (0..6u32)
            .flat_map(|inputs| (1..6).flat_map(move |outputs| (0..4).map(move |more| [inputs, outputs, more & 1, more >> 1])));
        for sort in sorts {
            pipelines.layout(sort).unwrap();
            assert!(pipelines.0.compiler.layouts() <= 64);
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_costs_nobody_anything() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let dir = tempfile::tempdir().unwrap();
        let session = |dir: &Path, number: u32, is_known: bool| {
            let opened = Arc::new(Opened::new(&adapter).unwrap());
            let (sender, compiled) = channel();
            let sender = Mutex::new(sender);
            let told = move || sender.lock().unwrap().send(()).unwrap_or(());
            let pipelines = Pipelines::start(opened.clone(), "test", told).unwrap();
            pipelines.keep_in(dir);
            let program = made("kept", number, DType::F32);
            let waits = [&program, &made("kept", 99, DType::F32)].map(|program| pipelines.wait_ns(program));
            assert_eq!(waits[0] < waits[1], is_known, "{waits:?}");
            let plan = plan(program);
            assert!(both(&pipelines, &plan).is_none());
            (0..2).for_each(|_| wait(&compiled));
            assert!(both(&pipelines, &plan).is_some() && opened.lost().is_none());
            pipelines.end(Instant::now() + Duration::from_secs(120));
            opened.cache_name.clone()
        };
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let Some(name) = session(&dir.path().join("made/by us"), 1, false) else { return };
        let dir_of_ours = dir.path().join("made/by us");
        let file = dir_of_ours.join(format!("{name}.bin"));
        session(&dir_of_ours, 1, true);
        let written = std::fs::read(&file).unwrap();
        // Corrupt, cut, empty, of nobody: as if it were not there, and replaced.
        let mut turned = written.clone();
        turned[20] ^= 0xff;
        for wrong in [&turned[..], &written[..written.len() / 2], b"", b"something else"] {
            std::fs::write(&file, wrong).unwrap();
            session(&dir_of_ours, 2, false);
            assert_ne!(std::fs::read(&file).unwrap(), wrong);
        }
        // Whole, but of another driver: that wgpu sees.
        let mut foreign = written[16..].to_vec();
        let data = 32 + 4 + 8 * usize::from(foreign[32]);
        foreign[data + 16..data + 40].fill(0x5a);
        let whole = [&written[..8], &crate::kernel::content_hash(&foreign).to_le_bytes(), &foreign].concat();
        std::fs::write(&file, &whole).unwrap();
        session(&dir_of_ours, 3, false);
        assert_ne!(std::fs::read(&file).unwrap(), whole);
        // What an older driver of this adapter has left goes; nothing else does.
        let older = format!("{}-{:016x}.bin", name.rsplit_once('-').unwrap().0, 1);
        [&older[..], "notes.bin"].iter().for_each(|name| std::fs::write(dir_of_ours.join(name), b"x").unwrap());
        session(&dir_of_ours, 4, false);
        assert!(!dir_of_ours.join(&older).exists() && dir_of_ours.join("notes.bin").exists());
        // A folder that is a file cannot be written.
        std::fs::write(dir.path().join("file"), b"mine").unwrap();
        session(&dir.path().join("file"), 5, false);
        assert_eq!(std::fs::read(dir.path().join("file")).unwrap(), b"mine");
        assert_eq!(names(), ["file", "made"]);
    }
}
