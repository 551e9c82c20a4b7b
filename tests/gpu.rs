//! The GPU path from the dependency to the driver: adapters are listed, one of them computes, and chunks get there and back, whole and
//! by views.
//!
//! Owns: what `REQUIRE_GPU=1` promises (a missing adapter then fails; software Vulkan counts). Must not know: tasks. Invariant:
//! a test that could not run says so on stderr.
#![cfg(feature = "gpu")]

use std::borrow::Cow;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use chunkwise::Complex;
use chunkwise::device::gpu::{AdapterKind, Gpu, Sabotage, adapters, probe};
use chunkwise::device::{Body, Data, Device, Failure, HostBuffer, Launch, Memory, Move, Output, Remote, Report, Window};
use chunkwise::id::SpaceId;
use chunkwise::kernel::gemv::Gemv;
use chunkwise::kernel::{Fault, GpuFacts, Kernel, Pass, Program, Scratch, Shader, Work};
use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut, DType, Element, Form, Layout, View};
use ndarray::{ArrayD, Axis, Dimension, Slice};

support::gpus!();

#[test]
fn an_adapter_computes() {
    let all = adapters(true);
    let usable: Vec<_> = all.iter().filter(|a| a.unusable.is_none()).collect();
    if usable.is_empty() {
        let required = std::env::var("REQUIRE_GPU").is_ok_and(|v| v == "1");
        assert!(!required, "REQUIRE_GPU=1, but there is no usable adapter: {all:?}");
        // Straight to stderr: the test harness hides what `println!` writes.
        let _ = writeln!(std::io::stderr(), "SKIPPED tests/gpu.rs: no GPU adapter (mesa-vulkan-drivers has a software one)");
        return;
    }
    for adapter in usable {
        let report = probe(adapter).unwrap_or_else(|e| panic!("{adapter}: {e}"));
        assert!(report.dtypes.starts_with(&[DType::I32, DType::F32]), "{report:?}");
        assert_eq!(report.dtypes.contains(&DType::F64), adapter.has_f64);
        assert!(adapter.limits.binding_bytes >= 1 << 27 && adapter.limits.workgroups >= 65_535, "{adapter:?}");
        probe(adapter).unwrap_or_else(|e| panic!("{adapter}, opened again: {e}"));
    }
}

#[test]
fn software_adapters_are_listed_but_refused_unless_allowed() {
    for adapter in adapters(false) {
        assert_eq!(adapter.kind == AdapterKind::Software, adapter.unusable.is_some(), "{adapter:?}");
        if let Some(reason) = &adapter.unusable {
            let text = probe(&adapter).expect_err("refused").to_string();
            assert!(text.contains(reason.as_str()) && text.contains(&adapter.name), "{text}");
        }
    }
}

/// Runs in a process of its own: drivers are chosen by the environment, once per process.
#[test]
fn without_a_driver_the_list_is_empty() {
    if std::env::var_os("CHUNKWISE_TEST_NO_DRIVER").is_some() {
        assert!(adapters(true).is_empty());
        return;
    }
    let this = std::env::current_exe().expect("path of this test");
    let output = Command::new(this)
        .args(["--exact", "without_a_driver_the_list_is_empty", "--nocapture"])
        .env("CHUNKWISE_TEST_NO_DRIVER", "1")
        .env("WGPU_BACKEND", "vulkan")
        .env("VK_DRIVER_FILES", "/nonexistent")
        .env("VK_ICD_FILENAMES", "/nonexistent")
        .output()
        .expect("starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("panicked"), "{text}");
}

/// Moves a chunk by hand; `None` if it has failed.
fn moved(gpu: &Gpu, from: Data, to: Data, upload: bool) -> Option<Report> {
    let (sender, receiver) = channel();
    gpu.transfer(Move { from, to, upload, done: Box::new(move |report| drop(sender.send(report))) });
    let report = receiver.recv_timeout(Duration::from_secs(60)).expect("each move is reported");
    assert!(receiver.recv().is_err(), "once");
    report.outcome.is_ok().then_some(report)
}

fn remote(gpu: &Gpu, dtype: DType, shape: &[usize]) -> Data {
    let layout = Layout::contiguous(dtype, shape);
    let Ok(Memory::Remote(memory)) = gpu.allocate(layout.bytes()) else { panic!("memory of the GPU") };
    Data::Remote(Remote::whole(memory, layout.into()))
}

/// The GPU's buffers beside a chunk of so many bytes and a few that are always there.
fn beside(gpu: &Gpu, chunk_bytes: u64) -> u64 {
    gpu.counters().bytes.saturating_sub(chunk_bytes + (3 << 19))
}

/// Up from strided memory, down to memory with other strides, and back as they were.
fn there_and_back<T: Element + PartialEq + std::fmt::Debug>(gpu: &Gpu, [rows, columns]: [usize; 2], value: fn(usize) -> T) {
    let (m, n) = (rows as isize, columns as isize);
    let all = [[n, 1], [n + 3, 1], [1, m], [2 * n, 2]];
    let layout = |strides: [isize; 2]| Layout { dtype: T::DTYPE, shape: vec![rows, columns], strides: strides.into() };
    for (up, down) in all.iter().zip([all[1], all[2], all[0], all[0]]) {
        let (up, down) = (layout(*up), layout(down));
        let source = HostBuffer::caller(&Arc::new((0..up.span()).map(value).collect::<Vec<T>>()));
        let result = HostBuffer::pooled(down.span() * size_of::<T>()).expect("memory");
        // SAFETY: one move at a time, and nothing else uses the buffers; a caller's memory is only read.
        let (from, to) = unsafe { (Window::lent(source, 0, up.clone()), Window::lent(result, 0, down)) };
        let far = remote(gpu, T::DTYPE, &[rows, columns]);
        moved(gpu, Data::Host(from.clone()), far.clone(), true).expect("goes up");
        moved(gpu, far, Data::Host(to.clone()), false).expect("comes down");
        // SAFETY: both moves are over.
        let (from, to) = unsafe { (from.view(), to.view()) };
        let differ = |&(r, i): &(usize, usize)| from.at::<T>(r, i) != to.at::<T>(r, i);
        let wrong = (0..rows).flat_map(|r| (0..columns).map(move |i| (r, i))).find(differ);
        assert_eq!(wrong, None, "{} {rows} x {columns}, {up:?}", T::DTYPE);
    }
}

#[test]
fn chunks_cross_in_pieces_that_stay_within_what_is_counted() {
    let Some(adapter) = adapter() else { return };
    // A quarter of the half for each direction is a piece: 64 KiB.
    let (staging, piece) = (512 << 10, 64 << 10);
    let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), staging).expect("opens");
    for bytes in [4, piece - 8, piece, piece + 8, 4 * piece - 8, 4 * piece + 8, 9 * piece] {
        for rows in [1, 7, bytes / 8] {
            there_and_back::<f32>(&gpu, [rows, (bytes / 4).div_ceil(rows.max(1))], |i| i as f32);
            there_and_back::<f64>(&gpu, [rows, (bytes / 8).div_ceil(rows.max(1))], |i| i as f64);
        }
        there_and_back::<bool>(&gpu, [13, bytes / 13], |i| (i * i) % 7 == 1);
        there_and_back::<u8>(&gpu, [bytes, 1], |i| i as u8);
    }
    assert_eq!(beside(&gpu, staging), 0, "{:?}", gpu.counters());
    let before = gpu.counters();
    there_and_back::<f32>(&gpu, [2000, 1001], |i| i as f32);
    assert_eq!(beside(&gpu, staging), 0, "{:?}", gpu.counters());
    let after = gpu.counters();
    assert_eq!((after.uploads - before.uploads, after.downloads - before.downloads), (4, 4), "moves, not pieces");
}

#[test]
fn a_download_of_which_a_part_is_lost_is_reported_once() {
    let Some(adapter) = adapter() else { return };
    for turn in 0..4 {
        let (gpu, breaker) = Gpu::open_breakable(&adapter, "gpu0", SpaceId(1), 512 << 10).expect("opens");
        let layout = Layout::contiguous(DType::F32, &[4 << 20]);
        let far = remote(&gpu, DType::F32, &layout.shape);
        // SAFETY: nothing else uses the buffer.
        let to = unsafe { Window::lent(HostBuffer::pooled(16 << 20).expect("memory"), 0, layout) };
        let (sender, receiver) = channel();
        let done = Box::new(move |report: Report| sender.send(report.outcome.is_ok()).unwrap_or(()));
        gpu.transfer(Move { from: far.clone(), to: Data::Host(to.clone()), upload: false, done });
        std::thread::sleep(Duration::from_millis(2 * turn));
        breaker.after(0, Sabotage::Lose);
        let _ = receiver.recv_timeout(Duration::from_secs(60)).expect("reported");
        assert!(receiver.recv().is_err(), "once");
        assert!(moved(&gpu, far, Data::Host(to), false).is_none(), "it is gone");
    }
}

#[test]
fn what_idles_is_given_back() {
    let Some(gpu) = gpu() else { return };
    there_and_back::<f64>(&gpu, [1000, 1000], |i| i as f64);
    assert!(beside(&gpu, 0) > 8 << 20, "kept for the next move: {:?}", gpu.counters());
    gpu.rest(0);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while beside(&gpu, 0) > 0 {
        assert!(std::time::Instant::now() < end, "{:?}", gpu.counters());
        std::thread::sleep(Duration::from_millis(20));
    }
    there_and_back::<f64>(&gpu, [1000, 1000], |i| i as f64);
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn shape(&mut self) -> Vec<usize> {
        (0..self.below(5)).map(|_| [1, 2, 3, 5, 8, 20][self.below(6)]).collect()
    }
}

/// A view made in some steps, and what ndarray shows by the same.
fn some_view<T: Element>(mut shown: ArrayD<T>, dice: &mut Dice) -> (View, ArrayD<T>) {
    let mut view = View::whole(shown.shape());
    for _ in 0..dice.below(6) {
        let rank = shown.ndim();
        let axis = dice.below(rank.max(1));
        match dice.below(8) {
            0..4 if rank > 0 && shown.shape()[axis] > 0 => {
                let n = shown.shape()[axis];
                let step = [1, 1, 2, 3][dice.below(4)];
                let len = dice.below(n.min(9) + 1).min(n.div_ceil(step));
                let reach = len.saturating_sub(1) * step;
                let low = dice.below(n - reach);
                let (start, step) = [(low, step as isize), (low + reach, -(step as isize))][dice.below(2)];
                view = view.slice(axis, start, len, step).expect("inside");
                let end = if len == 0 { low } else { low + reach + 1 };
                shown.slice_axis_inplace(Axis(axis), Slice::new(low as isize, Some(end as isize), step));
            }
            4 if rank > 0 && shown.shape()[axis] > 0 => {
                let index = dice.below(shown.shape()[axis]);
                view = view.index_axis(axis, index).expect("inside");
                shown = shown.index_axis_move(Axis(axis), index);
            }
            5 if rank > 0 => {
                let order: Vec<usize> = (0..rank).map(|k| (k + axis) % rank).rev().collect();
                view = view.permute(&order).expect("each axis once");
                shown = shown.permuted_axes(order);
            }
            _ if rank < 6 => {
                let at = dice.below(rank + 1);
                view = view.insert_axis(at, 1 + axis).expect("an axis more");
                let mut shape = shown.shape().to_vec();
                shape.insert(at, 1 + axis);
                shown = shown.insert_axis(Axis(at)).broadcast(shape).expect("one index, repeated").to_owned();
            }
            _ => {}
        }
    }
    (view, shown)
}

/// A value on the GPU, in one row.
fn uploaded<T: Element>(gpu: &Gpu, values: Vec<T>) -> Data {
    let layout = Layout::contiguous(T::DTYPE, &[values.len()]);
    let to = remote(gpu, T::DTYPE, &layout.shape);
    // SAFETY: a caller's memory is only read.
    let from = unsafe { Window::lent(HostBuffer::caller(&Arc::new(values)), 0, layout.clone()) };
    if !layout.is_empty() {
        moved(gpu, Data::Host(from), to.clone(), true).expect("goes up");
    }
    to
}

/// A value from the GPU, in one row.
fn downloaded<T: Element>(gpu: &Gpu, from: Data, len: usize) -> Vec<T> {
    let landing = HostBuffer::pooled(len * size_of::<T>()).expect("memory");
    // SAFETY: nothing else uses the buffer.
    let to = unsafe { Window::lent(landing, 0, Layout::contiguous(T::DTYPE, &[len])) };
    if len > 0 {
        moved(gpu, from, Data::Host(to.clone()), false).expect("comes down");
    }
    // SAFETY: the move is over.
    unsafe { to.view() }.slice::<T>().to_vec()
}

/// Copies what a view shows of a value, on the GPU.
fn copied<T: Element>(gpu: &Gpu, value: &ArrayD<T>, view: Option<&View>, shape: &[usize]) -> Result<Vec<T>, Failure> {
    let (Data::Remote(mut from), to) = (uploaded(gpu, value.iter().copied().collect()), remote(gpu, T::DTYPE, shape)) else {
        panic!("it is on the GPU")
    };
    from.layout = Layout::contiguous(T::DTYPE, value.shape()).into();
    let body = Body::Pack { form: Form::Plain, view: view.cloned().map(Arc::new), from: Data::Remote(from), to: to.clone() };
    launched(gpu, Arc::new(Gemv), body)?;
    Ok(downloaded(gpu, to, shape.iter().product()))
}

/// Runs a body by hand.
fn launched(gpu: &Gpu, kernel: Arc<dyn Kernel>, body: Body) -> Result<(), Failure> {
    let (sender, receiver) = channel();
    let done = Box::new(move |report: Report| drop(sender.send(report.outcome)));
    gpu.launch(Launch { kernel, body, estimate_ns: 0, origin: None, done });
    let outcome = receiver.recv_timeout(Duration::from_secs(60)).expect("each launch is reported");
    assert!(receiver.recv().is_err(), "once");
    outcome
}

fn views_are_copied<T: Element>(gpu: &Gpu, value: fn(usize) -> T) {
    let (mut dice, before, mut empty) = (Dice(size_of::<T>() as u64), gpu.counters().launches, 0);
    for turn in 0..150 {
        let shape = dice.shape();
        let all = ArrayD::from_shape_vec(shape.clone(), (0..shape.iter().product()).map(value).collect()).expect("its shape");
        let (view, shown) = some_view(all.clone(), &mut dice);
        assert_eq!(view.shape(), shown.shape());
        empty += usize::from(shown.is_empty());
        let found = copied(gpu, &all, Some(&view), shown.shape()).unwrap_or_else(|e| panic!("{turn}: {view:?}: {e:?}"));
        assert!(found.iter().eq(shown.iter()), "{turn}: {} {view:?} of {:?}: {found:?}, not {shown:?}", T::DTYPE, all.shape());
    }
    assert!(empty > 5 && gpu.counters().launches - before == 150, "{empty} empty, {:?}", gpu.counters());
}

#[test]
fn what_a_view_shows_is_copied_on_the_gpu() {
    let Some(gpu) = gpu() else { return };
    views_are_copied::<bool>(&gpu, |i| (i * i) % 7 < 3);
    views_are_copied::<u8>(&gpu, |i| (i * 37) as u8);
    views_are_copied::<i16>(&gpu, |i| (i as i16).wrapping_mul(-777));
    views_are_copied::<u16>(&gpu, |i| (i as u16).wrapping_mul(0x0101));
    views_are_copied::<i32>(&gpu, |i| -(i as i32));
    views_are_copied::<u32>(&gpu, |i| (i as u32).wrapping_mul(0x0101_0101));
    views_are_copied::<i64>(&gpu, |i| -(i as i64) << 33);
    views_are_copied::<u64>(&gpu, |i| (i as u64).wrapping_mul(0x0001_0001_0001_0001));
    // Among them numbers that a GPU would round to 0.
    views_are_copied::<f32>(&gpu, |i| f32::from_bits(i as u32));
    views_are_copied::<f64>(&gpu, |i| f64::from_bits(i as u64));
    views_are_copied::<Complex<f32>>(&gpu, |i| Complex::new(i as f32, -1.0 / (i as f32 + 1.0)));
    views_are_copied::<Complex<f64>>(&gpu, |i| Complex::new(i as f64, f64::from_bits(i as u64)));
}

#[test]
fn views_of_many_axes_of_nothing_and_of_all_are_copied() {
    let Some(gpu) = gpu() else { return };
    let all = ArrayD::from_shape_fn(&[2, 3, 2, 2, 3, 2, 2, 4][..], |i| i.slice().iter().fold(0i32, |n, &i| n * 5 + i as i32));
    let order = [7, 6, 5, 4, 3, 2, 1, 0];
    let turned = all.view().permuted_axes(&order[..]);
    let view = View::whole(all.shape()).permute(&order).expect("each axis once");
    assert!(copied(&gpu, &all, Some(&view), turned.shape()).expect("8 axes").iter().eq(turned.iter()));
    assert!(copied(&gpu, &all, None, all.shape()).expect("all of it").iter().eq(all.iter()));
    let none = ArrayD::<f32>::zeros(&[3, 0][..]);
    assert!(copied(&gpu, &none, None, &[3, 0]).expect("nothing").is_empty());
    let nine = all.view().insert_axis(Axis(0)).broadcast(&[2, 2, 3, 2, 2, 3, 2, 2, 4][..]).expect("repeated").to_owned();
    let view = View::whole(nine.shape()).permute(&[8, 7, 6, 5, 4, 3, 2, 1, 0]).expect("each axis once");
    for (view, shape, why) in [(Some(&view), &[4, 2, 2, 3, 2, 2, 3, 2, 2][..], "9 axes"), (None, &[5], "cannot be copied")] {
        let failure = copied(&gpu, &nine, view, shape).expect_err("refused");
        assert!(matches!(&failure, Failure::Unfit(error) if error.to_string().contains(why)), "{failure:?}");
    }
    let (from, to) = (remote(&gpu, DType::F32, &[4]), remote(&gpu, DType::F32, &[4]));
    let packed = launched(&gpu, Arc::new(Gemv), Body::Pack { form: Form::Packed(0), view: None, from, to });
    assert!(matches!(packed, Err(Failure::Unfit(_))), "{packed:?}");
}

#[test]
fn a_long_copy_is_cut_and_a_lost_one_is_reported() {
    let Some((gpu, breaker)) = breakable() else { return };
    let far = uploaded(&gpu, (0..7).map(|i| i * 41).collect::<Vec<u8>>());
    assert_eq!(downloaded::<u8>(&gpu, far.clone(), 7), [0, 41, 82, 123, 164, 205, 246]);
    // Some 116 000 workgroups, and more work than a GPU that was just opened is given at once.
    let rows = 17_000_000;
    let view = View::whole(&[7]).slice(0, 6, 7, -1).and_then(|v| v.broadcast(&[rows, 7])).map(Arc::new).expect("inside");
    let (to, before) = (remote(&gpu, DType::U8, &[rows, 7]), gpu.counters());
    let body = || Body::Pack { form: Form::Plain, view: Some(view.clone()), from: far.clone(), to: to.clone() };
    launched(&gpu, Arc::new(Gemv), body()).expect("119 MB");
    let after = gpu.counters();
    assert!(after.launches == before.launches + 1 && after.submissions >= before.submissions + 2, "{before:?}, {after:?}");
    assert!(downloaded::<u8>(&gpu, to.clone(), 7 * rows).chunks(7).all(|row| row == [246, 205, 164, 123, 82, 41, 0]));
    breaker.after(1, Sabotage::Lose);
    launched(&gpu, Arc::new(Gemv), body()).ok();
    let lost = (0..3).filter(|_| matches!(launched(&gpu, Arc::new(Gemv), body()), Err(Failure::Lost(_)))).count();
    assert_eq!(lost, 3);
}

/// What is not x, and which of x are at odd places: two outputs of `bool`, by way of scratch.
struct Both;

impl Kernel for Both {
    fn name(&self) -> Cow<'static, str> {
        panic!("a name that panics")
    }
    fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
        Work::default()
    }
    fn program(&self, _: &[u8], operands: &[ChunkMeta<'_>], gpu: &GpuFacts) -> Option<Program> {
        const TEXT: &str = "struct Params { first: u32, groups: u32, begin: u32, end: u32, n: u32 }
            @group(0) @binding(0) var<uniform> p: Params;
            @group(0) @binding(1) var<storage, read> x: array<u32>;
            @group(0) @binding(2) var<storage, read_write> not: array<u32>;
            @group(0) @binding(3) var<storage, read_write> odd: array<u32>;
            @group(0) @binding(4) var<storage, read_write> words: array<u32>;
            @compute @workgroup_size(1) fn unpack(@builtin(workgroup_id) id: vec3<u32>) {
                let i = p.first + id.x;
                words[i] = x[i / 4u] >> (i % 4u * 8u) & 255u;
            }
            @compute @workgroup_size(1) fn both(@builtin(workgroup_id) id: vec3<u32>) {
                let i = p.first + id.x;
                not[i] = words[i] ^ 1u;
                odd[i] = (words[i] & i) << 31u;
            }";
        let n = operands[0].shape[0];
        let shader = Shader::new("both", TEXT).with_params(&[("n", 0)]).with_operands(1, 2).with_workgroup(1, [0, 0]);
        let passes = ["unpack", "both"].map(|entry| Pass::new(entry, n as u64, 0)).into();
        // As if it were much: it is run in several parts.
        let most = Work { flops: 1e6 * n as f64, bytes: 0.0 };
        let mut program = Program::new(&shader.into(), DType::F32, &[n as u32], passes, most);
        program.scratch_bytes = 4 * n as u64;
        program.fitting(gpu, operands)
    }
    fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
        panic!("there is no CPU body")
    }
}

#[test]
fn several_outputs_of_bool_share_the_scratch_with_the_program() {
    let Some(gpu) = gpu() else { return };
    for n in [1, 2, 7, 64, 1025, 40_001] {
        let x: Vec<bool> = (0..n).map(|i| (i * i) % 5 == 1).collect();
        let from = uploaded(&gpu, x.clone());
        let outputs = [(); 2].map(|()| remote(&gpu, DType::Bool, &[n]));
        let run = |copy_in: Option<Data>| {
            let output = |to: &Data| Output { to: to.clone(), copy_in: copy_in.clone() };
            let outputs = outputs.iter().map(output).collect();
            let (kernel, params) = (Arc::new(Both), Vec::new());
            launched(&gpu, kernel, Body::Run { params, inputs: vec![from.clone()], outputs, scratch_bytes: 0 })
        };
        let before = gpu.counters().submissions;
        run(None).expect("runs");
        assert!(n < 40_000 || gpu.counters().submissions > before + 2, "in parts");
        let [not, odd] = outputs.clone().map(|to| downloaded::<bool>(&gpu, to, n));
        assert!((0..n).all(|i| (not[i], odd[i]) == (!x[i], x[i] && i % 2 == 1)), "{n}");
        let updated = run(Some(from.clone()));
        assert!(matches!(&updated, Err(Failure::Unfit(e)) if e.to_string().contains("updated")), "{updated:?}");
    }
}
