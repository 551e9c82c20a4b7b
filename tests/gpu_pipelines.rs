//! Compiled programs on a GPU: how many are kept, who waits for them, what becomes of those that a GPU cannot run.
//!
//! Owns: what a user relies on when a program is new, refused, or too much for an adapter. Must not know: what programs compute (tests/gpu_map.rs). Invariant: who ran what is read from
//! the device's own counters and from the run's record, never guessed from times.
#![cfg(feature = "gpu")]

use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chunkwise::device::gpu::{Breaker, Gpu, Sabotage};
use chunkwise::device::{Cpu, Device, IoLane};
use chunkwise::id::{DeviceId, SpaceId};
use chunkwise::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work};
use chunkwise::runtime::RunReport;
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType};
use chunkwise::{Array, prelude::*};
use support::gpu::{believe, session, settled, tasks_on};

support::gpus!();

const GPU: DeviceId = DeviceId(2);
const LEN: usize = 64;

fn elements(len: usize) -> ndarray::Array1<f32> {
    ndarray::Array1::from_iter((0..len).map(|i| i as f32 / 8.0 - 3.0))
}

/// `x * factor + 1`: the factor is in the program's text.
fn line(session: &Session, len: usize, factor: f32) -> Array<f32> {
    let x = Array::from(elements(len)).in_session(session);
    &(&x * factor) + 1.0
}

/// Computes it, looks at every element, and says what was measured.
#[track_caller]
fn computed(session: &Session, len: usize, factor: f32) -> RunReport {
    let (found, run) = line(session, len, factor).run().unwrap_or_else(|e| panic!("{factor}: {e}"));
    assert!(found.iter().zip(&elements(len)).all(|(y, x)| *y == x * factor + 1.0), "{factor}");
    run
}

/// What a session has warned of.
type Warnings = Arc<Mutex<Vec<String>>>;

/// A session of one CPU thread and a GPU that can be broken, and what was warned of.
fn breakable_session(placement: Placement) -> Option<(Session, Breaker, Warnings)> {
    let (gpu, breaker) = breakable()?;
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("a pool")), Arc::new(IoLane::new()), gpu];
    let warnings = Warnings::default();
    let heard = warnings.clone();
    let builder = Session::builder().devices(devices).cache_dir("").placement(placement);
    let session = builder.warnings(move |text| heard.lock().expect("a list").push(text.to_owned())).build().expect("a session");
    Some((session, breaker, warnings))
}

/// Waits until so many programs were compiled.
#[track_caller]
fn compiled(session: &Session, count: u64) {
    let end = Instant::now() + Duration::from_secs(120);
    while session.counters(GPU).compiled < count {
        assert!(Instant::now() < end, "{:?}", session.counters(GPU));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn memory_is_bounded_under_very_many_expressions() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let all = if std::env::var_os("EXHAUSTIVE").is_some() { 10_000 } else { 560u16 };
    let factor = |number: u16| f32::from(number) + 2.0;
    for number in 0..all {
        let run = computed(&session, LEN, factor(number));
        assert_eq!(tasks_on(&run, "gpu0"), run.tasks(), "{number}");
        let counters = session.counters(GPU);
        assert!(counters.programs <= 512 && counters.plans <= 1024, "after {number}: {counters:?}");
        assert_eq!(counters.compiled, u64::from(number) + 1, "each is compiled once");
    }
    assert_eq!(session.counters(GPU).programs, 512, "that many are kept");
    let before = session.counters(GPU).compiled;
    computed(&session, LEN, factor(all - 1));
    assert_eq!(session.counters(GPU).compiled, before, "the last is there");
    computed(&session, LEN, factor(0));
    assert_eq!(session.counters(GPU).compiled, before + 1, "the first was given up, and is compiled again");
}

/// On a GPU whose compiler takes seconds, and which would be far faster: the CPU does what is short at once, and the GPU has it the next time.
#[test]
fn the_cpu_does_what_has_yet_to_be_compiled() {
    const N: usize = 1 << 20;
    let Some((session, breaker, _)) = breakable_session(Placement::Auto) else { return };
    breaker.after(0, Sabotage::Compiling(Duration::from_secs(2)));
    believe(&session, 0, 4e8); // 20 ms
    believe(&session, 2, 1e15);
    let explained = line(&session, N, 2.0).explain().expect("explains").to_string();
    assert!(explained.contains("cpu is sooner: gpu0 compiles it first, 50"), "{explained}");
    let run = computed(&session, N, 2.0);
    assert_eq!((tasks_on(&run, "cpu"), session.counters(GPU).compiled), (run.tasks(), 0), "nobody waited for the compiler");
    assert!(
        matches!(&run.idle[..], [(gpu, why)] if gpu == "gpu0" && why.starts_with("its programs would have been compiled after 50")),
        "{:?}",
        run.idle
    );
    compiled(&session, 1);
    let run = computed(&session, N, 2.0);
    assert_eq!(tasks_on(&run, "gpu0"), run.tasks(), "{}", line(&session, N, 2.0).explain().expect("explains"));
    assert_eq!(session.counters(GPU).compiled, 1, "what was explained, priced and run is one program");
    // What is not worth it is not compiled at all.
    believe(&session, 0, 1e16);
    let run = computed(&session, N, 3.0);
    assert!(tasks_on(&run, "cpu") == run.tasks() && run.idle.is_empty(), "{:?}", run.idle);
    settled(&session);
    drop(run);
    assert_eq!(session.counters(GPU).compiled, 1);
}

/// Whoever insists on the GPU waits for it.
#[test]
fn with_the_gpu_asked_for_a_launch_waits() {
    let Some((session, breaker, warnings)) = breakable_session(Placement::Gpu) else { return };
    breaker.after(0, Sabotage::Compiling(Duration::from_millis(300)));
    let began = Instant::now();
    let run = computed(&session, LEN, 2.0);
    assert!(began.elapsed() >= Duration::from_millis(300) && tasks_on(&run, "gpu0") == run.tasks());
    assert!(run.spans.iter().all(|span| !span.measured), "what a program's first run takes is never its cost: {:?}", run.spans);
    assert!(computed(&session, LEN, 2.0).spans.iter().all(|span| span.end_ns - span.start_ns < 300_000_000));
    assert!(warnings.lock().expect("a list").is_empty());
}

#[test]
fn a_device_that_is_lost_while_it_compiles_gives_its_work_away() {
    let Some((session, breaker, warnings)) = breakable_session(Placement::Gpu) else { return };
    breaker.after(0, Sabotage::LoseCompiling);
    for factor in [2.0, 3.0] {
        let run = computed(&session, LEN, factor);
        assert_eq!(tasks_on(&run, "cpu"), run.tasks());
        assert!(
            run.idle.iter().any(|(gpu, why)| gpu == "gpu0" && why.starts_with("it is not used any more (")),
            "{:?}",
            run.idle
        );
    }
    settled(&session);
    let warnings = warnings.lock().expect("a list");
    assert!(matches!(&warnings[..], [one] if one.starts_with("gpu0 is not used any more")), "{warnings:?}");
}

#[test]
fn a_module_that_the_driver_refuses_takes_no_other_along() {
    let Some((session, breaker, warnings)) = breakable_session(Placement::Gpu) else { return };
    // What is refused is tried once more, in case the error was somebody else's.
    breaker.after(0, Sabotage::Refuse(2));
    let refused = computed(&session, LEN, 2.0);
    assert_eq!(tasks_on(&refused, "cpu"), refused.tasks());
    // Of the same name and dtype, and another program.
    let other = computed(&session, LEN, 3.0);
    assert_eq!(tasks_on(&other, "gpu0"), other.tasks(), "{:?}", warnings.lock().expect("a list"));
    let again = computed(&session, LEN, 2.0);
    assert_eq!(tasks_on(&again, "cpu"), again.tasks(), "it is not asked again");
    assert!(again.idle.iter().any(|(gpu, why)| gpu == "gpu0" && why.contains("as a warning has said")), "{:?}", again.idle);
    breaker.after(0, Sabotage::CompilerPanic);
    let panicked = computed(&session, LEN, 5.0);
    assert_eq!(tasks_on(&panicked, "cpu"), panicked.tasks());
    let other = computed(&session, LEN, 7.0);
    assert_eq!(tasks_on(&other, "gpu0"), other.tasks());
    let warnings = warnings.lock().expect("a list");
    assert!(matches!(&warnings[..], [one, two] if !one.contains("panic") && two.contains("injected panic")), "{warnings:?}");
}

/// What an adapter lacks is done by the CPU, also where the GPU was asked for, and `explain` says all of it; who asks for one device is refused.
#[test]
fn what_an_adapter_lacks_is_the_cpus_work_and_is_told() {
    let Some(adapter) = adapter() else { return };
    let open = |facts: fn(&mut GpuFacts)| {
        let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 8 << 20).expect("opens");
        Arc::new(gpu.with_facts(facts)) as Arc<dyn Device>
    };
    let narrow = open(|facts| (facts.f64, facts.i64, facts.bindings) = (false, false, 4));
    let asked = session(Placement::Gpu, std::slice::from_ref(&narrow));
    let wide = Array::from(ndarray::Array2::<f64>::ones((30, 20))).in_session(&asked);
    let y = wide.matvec(&Array::from(ndarray::Array1::<f64>::ones(20)).in_session(&asked));
    let whole = Array::from(ndarray::Array1::<i64>::from_iter(0..30)).in_session(&asked);
    let x: Vec<Array<f32>> = (0..4).map(|_| Array::from(ndarray::Array1::<f32>::ones(30_000)).in_session(&asked)).collect();
    let many = &(&(&(&x[0] + &x[1]) + &x[2]) + &x[3]) * 2.0;
    let cases = [
        ((&y + 1.0).explain(), &["gemv", "add", "it has no f64; f32 would do"][..]),
        ((&whole + 1).explain(), &["add", "it has no integers of 64 bits; those of 32 bits would do"]),
    ];
    for (explained, words) in cases {
        let explained = explained.expect("explains").to_string();
        assert!(explained.contains("gpu0 does not run:\n"), "{explained}");
        assert!(
            words.iter().all(|word| explained.lines().any(|line| line.starts_with("  ") && line.contains(word))),
            "{explained}"
        );
    }
    let (found, run) = (&y + 1.0).run().expect("the CPU does it");
    assert!(found.iter().all(|&y| y == 21.0) && tasks_on(&run, "gpu0") == 0);
    assert!(run.idle.iter().any(|(gpu, why)| gpu == "gpu0" && why.contains("it has no f64; f32 would do")), "{:?}", run.idle);
    let (found, run) = (&whole + 1).run().expect("the CPU does it");
    assert!(found.iter().copied().eq(1..31) && tasks_on(&run, "gpu0") == 0);
    // Of bindings it lacks nothing: what would be one program is two.
    let (found, run) = many.run().expect("the GPU does it");
    assert!(found.iter().all(|&y| y == 8.0) && tasks_on(&run, "gpu0") == 2, "{:?}", run.placement());
    // The rest of a computation stays where it was asked for.
    let run = computed(&asked, LEN, 2.0);
    assert!(tasks_on(&run, "gpu0") == run.tasks() && run.idle.is_empty(), "{:?}", run.idle);
    let only = session(Placement::Device(2), &[narrow]);
    let refused = (&Array::from(ndarray::Array1::<f64>::ones(9)).in_session(&only) + 1.0).compute().expect_err("it has no f64");
    assert_eq!(refused.to_string(), "gpu0 cannot be used for this: add: it has no f64; f32 would do");
}

/// A user's kernel whose GPU half does not validate.
struct Typo;

const TYPO: &str = "struct Params { first: u32, groups: u32, begin: u32, end: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Real>;
@group(0) @binding(2) var<storage, read_write> y: array<Real>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = x[id.x] + ofset;
}";

impl Kernel for Typo {
    fn name(&self) -> Cow<'static, str> {
        "test::typo".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 1.0)
    }
    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let shader = Arc::new(Shader::new("typo", TYPO).with_operands(1, 1));
        let most = Work::streaming(operands, 1.0);
        Program::new(&shader, DType::F32, &[], vec![Pass::new("main", 1, 0)], most).fitting(gpu, operands)
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        out: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        out[0].copy_from(inputs[0]);
        Ok(())
    }
}

#[test]
fn an_error_in_a_users_shader_is_told_by_its_own_line_and_column() {
    let Some((session, _, warnings)) = breakable_session(Placement::Gpu) else { return };
    let x = Array::from(elements(LEN)).in_session(&session);
    let kernel: Arc<dyn Kernel> = Arc::new(Typo);
    let y: Array<f32> = x.with_kernel(&[], kernel, &0u32);
    assert_eq!(y.compute().expect("the CPU does it"), elements(LEN).into_dyn());
    let (line, text) = TYPO.lines().enumerate().find(|(_, text)| text.contains("ofset")).expect("it is there");
    let place = format!("wgsl:{}:{}", line + 1, text.find("ofset").expect("it is there") + 1);
    let warnings = warnings.lock().expect("a list");
    assert!(matches!(&warnings[..], [one] if one.contains(&place) && one.contains("test::typo")), "{place}: {warnings:?}");
    assert_eq!(session.counters(GPU).launches, 0, "before anything ran");
}

#[test]
fn what_was_compiled_is_left_to_the_next_session() {
    let Some(adapter) = adapter() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let run = |dir: &Path| {
        let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 8 << 20).expect("opens").with_cache_dir(dir);
        let session = session(Placement::Gpu, &[Arc::new(gpu)]);
        let run = computed(&session, LEN, 2.0);
        assert_eq!(tasks_on(&run, "gpu0"), run.tasks());
        settled(&session);
    };
    type Files = Vec<(String, u64)>;
    let files = || -> Files {
        let all = std::fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry"));
        all.map(|entry| (entry.file_name().into_string().expect("a name"), entry.metadata().map_or(0, |about| about.len())))
            .collect()
    };
    // The last of a session may go on a thread of the GPU's.
    let wait = |until: &dyn Fn(&Files) -> bool| {
        let end = Instant::now() + Duration::from_secs(20);
        while !until(&files()) {
            assert!(Instant::now() < end, "{:?}", files());
            std::thread::sleep(Duration::from_millis(5));
        }
        files()
    };
    run(dir.path());
    if adapter.backend != "Vulkan" {
        return assert!(files().is_empty(), "no other backend has such a cache");
    }
    let left = wait(&|files| matches!(&files[..], [(name, _)] if name.ends_with(".bin")));
    let (name, bytes) = &left[0];
    assert!(name.starts_with("wgpu_pipeline_cache_vulkan_") && *bytes > 32, "{left:?}");
    std::fs::write(dir.path().join(name), b"not what it was").expect("writes");
    run(dir.path());
    wait(&|files| *files == left);
    run(&dir.path().join(name)); // a folder that is a file
}

/// A kernel that counts how often it is asked for its GPU half, of which it has none.
struct Counting(Arc<AtomicUsize>);

impl Kernel for Counting {
    fn name(&self) -> Cow<'static, str> {
        "test::counting".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 1.0)
    }
    fn program(&self, _: &[u8], _: &[ChunkMeta<'_>], _: &GpuFacts) -> Option<Program> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
    fn no_program(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Option<String> {
        Some("it only counts".into())
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        out: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> Result<(), Fault> {
        out[0].copy_from(inputs[0]);
        Ok(())
    }
}

#[test]
fn of_tasks_that_are_alike_a_kernel_is_asked_once() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let asked = Arc::new(AtomicUsize::new(0));
    let x = Array::from(elements(1000)).in_session(&session).chunks(3);
    let kernel: Arc<dyn Kernel> = Arc::new(Counting(asked.clone()));
    let y: Array<f32> = x.with_kernel(&[], kernel, &0u32);
    let explained = y.explain().expect("explains");
    // Of chunks of 3 and of the last one of 1, for this GPU and for any; and once by who makes the tasks.
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    assert_eq!(explained.groups.iter().map(|group| group.tasks).sum::<usize>(), 334);
    let text = explained.to_string();
    assert!(text.lines().any(|line| line == "  test::counting  334 tasks: it only counts"), "{text}");
    assert!(text.contains("gpu0: nothing of this work can run on a GPU, so the CPU does all of it"), "{text}");
}
