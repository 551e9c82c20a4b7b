//! Whole computations on a GPU: every workload and dtype, placement by cost, residency, what is submitted and what is left.
//!
//! Owns: what a user relies on when a session has a GPU. Must not know: shaders (tests/shaders.rs, tests/gpu_kernels.rs). Invariant: which device ran
//! what is read from the device's own counters and the run's record, never guessed from times.
#![cfg(feature = "gpu")]

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chunkwise::device::gpu::Gpu;
use chunkwise::device::{Body, Cpu, Device, DeviceSpec, Failure, HostBuffer, IoLane, Launch, Move, Report, take_result};
use chunkwise::id::{DeviceId, SpaceId};
use chunkwise::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work, for_each_piece};
use chunkwise::runtime::{Inside, Plan, RunReport};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Float, Layout, View};
use chunkwise::task::{GraphBuilder, Operand};
use chunkwise::{Array, prelude::*};
use support::gpu::{WORKLOADS, assert_alike, believe, cholesky, compute, matvec, residual, session, settled, tasks_on};
use support::picture::picture;

support::gpus!();

const GPU: DeviceId = DeviceId(2);

fn everything_runs<T: Float + ndarray::LinalgScalar>() {
    let (Some(gpu), cpu) = (gpu(), session(Placement::Cpu, &[])) else { return };
    if T::DTYPE.bytes() == 8 && !gpu.spec().gpu.is_some_and(|g| g.f64) {
        return; // tests of work that the GPU cannot do are below
    }
    let on_gpu = session(Placement::Gpu, &[gpu]);
    for name in WORKLOADS {
        let before = on_gpu.counters(GPU);
        let (found, run) = compute::<T>(name, &on_gpu).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (wanted, _) = compute::<T>(name, &cpu).unwrap_or_else(|e| panic!("{name} on the CPU: {e}"));
        assert_alike::<T>(name, &found, &wanted);
        let launches = on_gpu.counters(GPU).launches - before.launches;
        assert_eq!(launches as usize, tasks_on(&run, "gpu0"), "{name}: {:?}", run.placement());
        let small = run.tasks() - launches as usize; // sums of sums
        assert!(launches > 0 && (small == 0 || name == "mean"), "{name}: {:?}", run.placement());
    }
    settled(&on_gpu);
}

#[test]
fn every_workload_runs_on_the_gpu_in_f32() {
    everything_runs::<f32>();
}

#[test]
fn every_workload_runs_on_the_gpu_in_f64() {
    everything_runs::<f64>();
}

/// A CPU whose bodies of kernels with a GPU half are taken out.
struct Bodiless(Cpu);

// SAFETY: a launch or move goes on to the inner device, or is dropped before it is reported as failed.
unsafe impl Device for Bodiless {
    fn spec(&self) -> &DeviceSpec {
        self.0.spec()
    }
    fn launch(&self, launch: Launch) {
        let taken = ["mandelbrot", "gemv", "sum", "gemm", "syrk", "trsm", "potrf"].contains(&&*launch.kernel.name());
        if !taken || matches!(launch.body, Body::Pack { .. }) {
            return self.0.launch(launch);
        }
        let outcome = Err(Failure::Panic("this body was taken out".into()));
        let Launch { body, done, .. } = launch;
        drop(body);
        done(Report { elapsed_ns: 1, measured: true, since_ns: 0, worker: 0, opaque: Vec::new(), outcome });
    }
    fn transfer(&self, mv: Move) {
        self.0.transfer(mv);
    }
}

#[test]
fn no_launch_falls_back_to_the_cpu_unseen() {
    let Some(gpu) = gpu() else { return };
    let with = |more: Vec<Arc<dyn Device>>| {
        let mut devices: Vec<Arc<dyn Device>> = vec![Arc::new(Bodiless(Cpu::new(1).expect("pool"))), Arc::new(IoLane::new())];
        devices.extend(more);
        let gpu = if devices.len() > 2 { Placement::Gpu } else { Placement::Auto };
        Session::builder().devices(devices).placement(gpu).cache_dir("").build().expect("a session")
    };
    let (without, session) = (with(vec![]), with(vec![gpu]));
    for name in WORKLOADS {
        compute::<f32>(name, &session).unwrap_or_else(|e| panic!("{name}: {e}"));
        let error = compute::<f32>(name, &without).expect_err("there is no body").to_string();
        assert!(error.contains("taken out"), "{name}: {error}");
    }
}

#[test]
fn placement_follows_the_costs_and_both_devices_share_a_factorisation() {
    let Some(gpu) = gpu() else { return };
    // (CPU, GPU) operations a second, and who is to run gemm tasks.
    for (cpu, gpu_rate, expected) in [(1e3, 1e12, "gpu0"), (1e12, 1e3, "cpu")] {
        let device: Arc<dyn Device> = gpu.clone();
        let session = session(Placement::Auto, &[device]);
        believe(&session, 0, cpu);
        believe(&session, 2, gpu_rate);
        for name in ["cholesky", "matvec", "mandelbrot"] {
            let (_, run) = compute::<f32>(name, &session).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(tasks_on(&run, expected), run.tasks(), "{name}: {:?}", run.placement());
        }
    }
    let session = session(Placement::Auto, &[gpu]);
    believe(&session, 0, 2e6);
    believe(&session, 2, 2e6);
    let (l, run) = cholesky::<f32>(&session, 200, 25).and_then(|l| l.run()).expect("both work");
    assert!(residual::<f32>(&l.mapv(f64::from)) < 1.0);
    assert!(tasks_on(&run, "cpu") > 3 && tasks_on(&run, "gpu0") > 3, "{:?}", run.placement());
    assert!(run.bytes_moved > 0 && !run.moves.is_empty());
}

#[test]
fn a_software_adapter_is_used_only_if_allowed() {
    if adapter().is_none() {
        return;
    }
    let build = |allow| Session::builder().threads(1).placement(Placement::Gpu).allow_software(allow).cache_dir("").build();
    let software = adapter().is_some_and(|a| a.kind == chunkwise::device::gpu::AdapterKind::Software);
    if software {
        let error = build(false).expect_err("refused").to_string();
        assert!(error.contains("CPU's own cores"), "{error}");
    }
    let session = build(true).expect("allowed");
    let spec = session.devices().into_iter().find(|d| d.name == "gpu0").expect("found and measured");
    let [up, down] = spec.link.expect("a link");
    assert!(up.bytes_per_s > 1e6 && down.bytes_per_s > 1e6, "{spec:?}");
    let (rates, _) = session.rates(GPU).expect("rates");
    assert!(rates.f32_flops > 1e6 && rates.bytes_per_s > 1e6 && rates != chunkwise::cost::Rates::GPU, "{rates:?}");
}

#[test]
fn chunks_stay_on_the_gpu_between_repeats() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let y = matvec::<f32>(&session).expect("shapes fit");
    let moved = |_| y.run().expect("runs").1.moves.iter().filter(|m| m.upload).map(|m| m.bytes).sum::<u64>();
    let uploads: Vec<u64> = (0..3).map(moved).collect();
    assert_eq!(uploads, [4 * (203 * 150 + 150), 0, 0], "bytes uploaded by each repeat");
    session.forget_copies();
    assert_eq!(moved(4), uploads[0], "after they were forgotten");
    let bytes = session.counters(GPU).bytes;
    drop(y);
    // The next run tells the session that the matrix is gone, and its chunks are free for others.
    for _ in 0..40 {
        compute::<f32>("matvec", &session).expect("another matrix");
    }
    // Staging comes and goes; forty matrices would be 5 MB.
    assert!(session.counters(GPU).bytes <= bytes + (2 << 20), "{} then {}", bytes, session.counters(GPU).bytes);
    settled(&session);
}

#[test]
fn tiny_launches_are_submitted_together_and_leave_nothing() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    cholesky::<f32>(&session, 12, 4).and_then(|l| l.run()).expect("pipelines are compiled");
    // The first run teaches what a launch takes: so little that many are given out at once.
    cholesky::<f32>(&session, 152, 4).and_then(|l| l.run()).expect("9880 launches");
    let before = session.counters(GPU);
    let (l, run) = cholesky::<f32>(&session, 152, 4).and_then(|l| l.run()).expect("9880 launches");
    let after = session.counters(GPU);
    assert!(residual::<f32>(&l.mapv(f64::from)) < 1.0);
    let (launches, submissions) = (after.launches - before.launches, after.submissions - before.submissions);
    assert_eq!(launches, 38 * 39 * 40 / 6);
    assert_eq!(launches as usize, run.tasks());
    let downloads = after.downloads - before.downloads;
    assert_eq!(downloads, 38 * 39 / 2, "each tile of L once");
    // How many go together depends on how soon the machine is done with them (the rule is tested on a clock of its own); but not each goes alone.
    assert!(submissions < launches + downloads, "{submissions} submissions for {launches} launches, {downloads} downloads");
    assert_eq!(after.dispatches - before.dispatches, launches + 38, "one dispatch each, but of potrf two");
    settled(&session);
}

#[test]
fn chunks_larger_than_staging_come_back_one_after_the_other() {
    let Some(adapter) = adapter() else { return };
    let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 2 << 20).expect("opens");
    let session = session(Placement::Gpu, &[Arc::new(gpu)]);
    let counts = picture::<f32>(700, 2100, 5).in_session(&session);
    let (found, run) = counts.try_chunks(700).and_then(|c| c.run()).expect("three chunks of 2 MB");
    assert_eq!((found.len(), tasks_on(&run, "gpu0"), session.counters(GPU).downloads), (700 * 2100, 3, 3));
}

#[test]
fn long_iterations_are_cut_into_short_submissions() {
    let Some(gpu) = gpu() else { return };
    let (session, cpu) = (session(Placement::Gpu, &[gpu]), session(Placement::Cpu, &[]));
    let inside = |session: &Session| {
        let axis = Array::<f32>::ogrid(-0.1, 0.1, 16);
        let counts = mandelbrot(&axis, &axis, 1_000_000);
        counts.in_session(session).compute()
    };
    let found = inside(&session).expect("a million steps");
    assert_eq!(found, inside(&cpu).expect("on the CPU"));
    assert!(found.iter().all(|&count| count == 1_000_000));
    assert!(session.counters(GPU).submissions >= 3, "{:?}", session.counters(GPU));
}

#[test]
fn what_the_gpu_cannot_do_is_said_or_done_elsewhere() {
    let Some(adapter) = adapter() else { return };
    let open = |facts: fn(&mut chunkwise::kernel::GpuFacts)| {
        let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 8 << 20).expect("opens");
        Arc::new(gpu.with_facts(facts)) as Arc<dyn Device>
    };
    let no_f64 = open(|facts| facts.f64 = false);
    let small = open(|facts| facts.binding_bytes = 4096);
    for (device, word) in [(no_f64, "f32 would do"), (small, "smaller chunks would do")] {
        let only = session(Placement::Device(2), std::slice::from_ref(&device));
        let error = compute::<f64>("cholesky", &only).expect_err("cannot").to_string();
        assert!(error.contains(word) && error.contains("gpu0"), "{error}");
        for placement in [Placement::Auto, Placement::Gpu] {
            let session = session(placement, std::slice::from_ref(&device));
            let (l, run) = compute::<f64>("cholesky", &session).expect("the CPU does it");
            assert!(residual::<f64>(&l) < 1.0 && tasks_on(&run, "gpu0") == 0);
            assert!(run.idle.iter().any(|(name, why)| name == "gpu0" && why.contains(word)), "{:?}", run.idle);
        }
    }
}

/// Whoever insists on a GPU without room for a single task hears of it, and that the CPU did what it could not.
#[test]
fn a_gpu_without_room_says_so() {
    let Some(adapter) = adapter() else { return };
    let gpu = Arc::new(Gpu::open(&adapter, "gpu0", SpaceId(1), 8 << 20).expect("opens")) as Arc<dyn Device>;
    let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("a pool")), Arc::new(IoLane::new()), gpu];
    let session = Session::builder().devices(devices).cache_dir("").placement(Placement::Gpu);
    let session = session.gpu_memory_limit("100kB").build().expect("session");
    let x = Array::from(ndarray::Array2::<f32>::ones((500, 400))).in_session(&session);
    let y = x.matvec(&Array::from(ndarray::Array1::ones(400)).in_session(&session));
    let explained = y.explain().expect("explains").to_string();
    assert!(explained.contains("of its memory, of which it may use 100 kB; smaller chunks would do"), "{explained}");
    assert!(
        explained.contains("cpu does what that asked for cannot") && !explained.contains("cpu was asked for"),
        "{explained}"
    );
    let (y, run) = y.run().expect("the CPU does it");
    assert!(y.iter().all(|&y| y == 400.0) && tasks_on(&run, "gpu0") == 0);
    assert!(run.idle.iter().any(|(name, why)| name == "gpu0" && why.contains("smaller chunks would do")), "{:?}", run.idle);
}

/// Whoever insists on a GPU hears that it has nothing to do: in the report and in the explanation, in the same words.
#[test]
fn work_without_a_gpu_half_says_so() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let x = Array::from(ndarray::Array1::<i64>::from_iter(0..100)).in_session(&session);
    let squares: Array<i64> = x.map_chunks(|chunk| chunk.mapv(|x| x * x));
    let (found, run) = squares.run().expect("the CPU does it");
    let why = "nothing of this work can run on a GPU, so the CPU does all of it";
    assert_eq!((found.get(9), &run.idle[..]), (Some(&81), &[("gpu0".to_owned(), why.to_owned())][..]));
    let explained = squares.explain().expect("explains").to_string();
    assert!(explained.contains(&format!("gpu0: {why}")), "{explained}");
    // Where a part can, there is nothing to say.
    let some = Array::from(ndarray::Array2::<f32>::ones((50, 40))).in_session(&session);
    let y = some.matvec(&Array::from(ndarray::Array1::ones(40)).in_session(&session)).run().expect("computes").1;
    assert!(y.idle.is_empty(), "{:?}", y.idle);
}

#[test]
fn empty_and_tiny_arrays_are_right() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    let counts = |h, w| picture::<f32>(h, w, 20).in_session(&session).compute();
    assert_eq!(counts(0, 5).expect("empty").len(), 0);
    assert_eq!(counts(1, 1).expect("one").len(), 1);
    let one = Array::from(ndarray::arr2(&[[4.0f32]])).in_session(&session).cholesky().compute().expect("one");
    assert_eq!(one, ndarray::arr2(&[[2.0f32]]).into_dyn());
    let empty = Array::from(ndarray::Array2::<f32>::zeros((0, 0))).in_session(&session).cholesky().compute().expect("none");
    assert_eq!(empty.len(), 0);
    let mean = Array::from(ndarray::Array1::<f32>::zeros(0)).in_session(&session).mean().compute_scalar().expect("no number");
    assert!(mean.is_nan());
}

#[test]
fn a_bad_pivot_is_named_as_on_the_cpu() {
    let Some(gpu) = gpu() else { return };
    let session = session(Placement::Gpu, &[gpu]);
    for (row, value) in [(0, -1.0), (77, -1000.0), (149, f32::NAN)] {
        let mut a = support::gpu::spd::<f32>(150);
        a[[row, row]] = value;
        let l = Array::from(a).in_session(&session).try_chunks(40).and_then(|a| a.try_cholesky()).expect("square");
        match l.compute().expect_err("not positive definite") {
            Error::NotPositiveDefinite { row: found, pivot } => {
                assert!(
                    found == row as u64 && (pivot.is_nan() || pivot <= 0.0),
                    "row {found}, pivot {pivot}, wanted row {row}"
                );
            }
            other => panic!("{other}"),
        }
        cholesky::<f32>(&session, 90, 40).and_then(|l| l.compute()).expect("the next one works");
    }
    settled(&session);
}

#[test]
fn two_sessions_share_an_adapter() {
    let (Some(one), Some(two)) = (gpu(), gpu()) else { return };
    let threads = [one, two].map(|gpu| {
        std::thread::spawn(move || {
            let session = session(Placement::Gpu, &[gpu]);
            for name in WORKLOADS {
                compute::<f32>(name, &session).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        })
    });
    threads.into_iter().for_each(|t| t.join().expect("both sessions work"));
}

#[test]
fn buffers_are_given_back() {
    let Some(gpu) = gpu() else { return };
    let counters = |gpu: &Gpu| gpu.counters().bytes;
    {
        let device: Arc<dyn Device> = gpu.clone();
        let session = session(Placement::Gpu, &[device]);
        for name in WORKLOADS {
            compute::<f32>(name, &session).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        assert!(counters(&gpu) > 0);
        settled(&session);
    }
    // The session is gone; its chunks go with it. Staging and the service's own buffers stay with the device: a few megabytes.
    std::thread::sleep(Duration::from_millis(100));
    assert!(counters(&gpu) < 8 << 20, "{} bytes are left", counters(&gpu));
}

/// `3 x`, of contiguous chunks on a GPU.
struct Thrice;

impl Kernel for Thrice {
    fn name(&self) -> Cow<'static, str> {
        "test::thrice".into()
    }
    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let n = operands[0].shape.iter().product::<usize>() as f64;
        Work { flops: n, bytes: 8.0 * n }
    }
    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        let text = "struct Params { first: u32, groups: u32, begin: u32, end: u32 }
            @group(0) @binding(0) var<uniform> p: Params;
            @group(0) @binding(1) var<storage, read> x: array<f32>;
            @group(0) @binding(2) var<storage, read_write> y: array<f32>;
            @compute @workgroup_size(1) fn run(@builtin(workgroup_id) id: vec3<u32>) { y[p.first + id.x] = 3.0 * x[p.first + id.x]; }";
        let shader = Shader::new("thrice", text).with_operands(1, 1).with_workgroup(1, [0, 0]).into();
        let n = operands[0].shape.iter().product::<usize>() as u64;
        Program::new(&shader, DType::F32, &[], vec![Pass::new("run", n, 0)], self.work(&[], operands)).fitting(gpu, operands)
    }
    fn run_cpu(
        &self,
        _: &[u8],
        inputs: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        for_each_piece::<[f32; 1], f32>(inputs, &mut outputs[0], |[x], y| y.iter_mut().zip(x).for_each(|(y, x)| *y = 3.0 * x));
        Ok(())
    }
}

/// The matrix that is viewed.
const SHAPE: [usize; 2] = [48, 64];

/// All of it, a slice of it, its transpose, and a slice with one axis flipped and the other stepped.
fn views() -> [View; 4] {
    let whole = View::whole(&SHAPE);
    let slice = whole.slice(0, 5, 20, 1).and_then(|v| v.slice(1, 7, 30, 1)).expect("inside");
    let flipped = whole.slice(0, 40, 30, -1).and_then(|v| v.slice(1, 1, 20, 3)).expect("inside");
    let turned = whole.permute(&[1, 0]).expect("two axes");
    [whole, slice, turned, flipped]
}

/// Several tasks of each view, and what was measured, if the results are right.
fn viewed(session: &Session, views: &[View], readers: usize) -> RunReport {
    let numbers = Arc::new((0..SHAPE[0] * SHAPE[1]).map(|n| (n % 1009) as f32).collect::<Vec<f32>>());
    let plain = ndarray::Array2::from_shape_vec((SHAPE[0], SHAPE[1]), numbers.to_vec()).expect("as many");
    let mut graph = GraphBuilder::new();
    let kernel = graph.kernel(Arc::new(Thrice));
    let given = graph.array(DType::F32, numbers.len(), false);
    let matrix = graph.window(given, 0, &Layout::contiguous(DType::F32, &SHAPE));
    let all: usize = views.iter().map(View::len).sum();
    let result = graph.array(DType::F32, all * readers, true);
    graph.group("views");
    let (mut at, mut wanted) = (0, Vec::new());
    for _ in 0..readers {
        for view in views {
            let seen = graph.view(view);
            let out = graph.window(result, at, &Layout::contiguous(DType::F32, &view.shape()));
            graph.task(kernel, &[], &[Operand::viewed(matrix, seen)], &[Operand::of(out)]).expect("a task");
            at += view.len();
            let (offset, layout) = view.of(&Layout::contiguous(DType::F32, &SHAPE));
            let index = |i: usize, j: usize| offset + i as isize * layout.strides[0] + j as isize * layout.strides[1];
            let (rows, columns) = (layout.shape[0], layout.shape[1]);
            wanted.extend((0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| {
                let n = index(i, j) as usize;
                3.0 * plain[[n / SHAPE[1], n % SHAPE[1]]]
            }));
        }
    }
    let plan = Plan::new(graph, vec![Some(HostBuffer::caller(&numbers)), None]).expect("a plan");
    let (results, run) = session.submit(plan, Instant::now()).expect("submits").wait().expect("runs");
    let taken = results.into_iter().flatten().next().and_then(take_result::<f32>).expect("one result");
    assert_eq!(taken.vec[taken.start..][..wanted.len()], wanted);
    run
}

/// How many copies of a view a session has made, by its record; the session is gone then.
fn copies(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).expect("a record");
    let _ = std::fs::remove_file(path);
    text.matches("{\"Pack\":").count()
}

#[test]
fn views_of_one_array_are_one_upload_and_one_copy_each() {
    let Some(gpu) = gpu() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.record");
    let build = |devices: Vec<Arc<dyn Device>>, placement: Placement, limit: &str| {
        let builder = Session::builder().devices(devices).placement(placement).cache_dir("").memory_limit("1GB");
        builder.gpu_memory_limit(limit).record(&path).build().expect("a session")
    };
    let near = || -> Vec<Arc<dyn Device>> { vec![Arc::new(Cpu::new(2).expect("a pool")), Arc::new(IoLane::new())] };
    let session = build([near(), vec![gpu]].concat(), Placement::Gpu, "1GB");
    let run = viewed(&session, &views(), 3);
    let counters = session.counters(GPU);
    assert_eq!(tasks_on(&run, "gpu0"), 12, "{:?}", run.placement());
    assert_eq!((counters.uploads, counters.launches), (1, 12 + 3), "the whole needs no copy");
    settled(&session);
    assert_eq!(session.used_bytes(), 0);
    drop(session);
    assert_eq!(copies(&path), 3);
    // A CPU takes any strides.
    let session = build(near(), Placement::Cpu, "1GB");
    let run = viewed(&session, &views(), 3);
    assert_eq!(tasks_on(&run, "cpu"), 12);
    drop(session);
    assert_eq!(copies(&path), 0);
}

/// Array and result have 12 kB each; a transpose takes as much again, for which there must be room.
#[test]
fn the_copy_of_a_view_counts_in_the_memory_of_a_gpu() {
    let [whole, _, turned, _] = views();
    for (view, limit, on_gpu) in [(&whole, "30kB", 2), (&turned, "30kB", 0), (&turned, "60kB", 2)] {
        let Some(gpu) = gpu() else { return };
        let devices: Vec<Arc<dyn Device>> = vec![Arc::new(Cpu::new(1).expect("a pool")), Arc::new(IoLane::new()), gpu];
        let session = Session::builder().devices(devices).placement(Placement::Gpu).cache_dir("").gpu_memory_limit(limit);
        let session = session.build().expect("a session");
        let run = viewed(&session, std::slice::from_ref(view), 2);
        assert_eq!(tasks_on(&run, "gpu0"), on_gpu, "{limit}: {:?} {:?}", run.placement(), run.idle);
        settled(&session);
    }
}
