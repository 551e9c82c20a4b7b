//! The GPU path from the dependency to the driver: adapters are listed, one of them computes, and chunks get there and back.
//!
//! Owns: what `REQUIRE_GPU=1` promises (a missing adapter then fails; software Vulkan counts). Must not know: tasks. Invariant:
//! a test that could not run says so on stderr.
#![cfg(feature = "gpu")]

#[path = "harness/gpu.rs"]
mod harness;

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use chunkwise::device::gpu::{AdapterKind, Gpu, Sabotage, adapters, probe};
use chunkwise::device::{Data, Device, HostBuffer, Memory, Move, Remote, Report, Window};
use chunkwise::id::SpaceId;
use chunkwise::shape::{DType, Element, Layout};
use harness::{adapter, gpu};

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
    Data::Remote(Remote { memory, layout: layout.into() })
}

/// The GPU's buffers beside a chunk of so many bytes and a few that are always there.
fn beside(gpu: &Gpu, chunk_bytes: u64) -> u64 {
    gpu.counters().bytes.saturating_sub(chunk_bytes + (1 << 20))
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
        let gpu = Gpu::open(&adapter, "gpu0", SpaceId(1), 512 << 10).expect("opens");
        let layout = Layout::contiguous(DType::F32, &[4 << 20]);
        let far = remote(&gpu, DType::F32, &layout.shape);
        // SAFETY: nothing else uses the buffer.
        let to = unsafe { Window::lent(HostBuffer::pooled(16 << 20).expect("memory"), 0, layout) };
        let (sender, receiver) = channel();
        let done = Box::new(move |report: Report| sender.send(report.outcome.is_ok()).unwrap_or(()));
        gpu.transfer(Move { from: far.clone(), to: Data::Host(to.clone()), upload: false, done });
        std::thread::sleep(Duration::from_millis(2 * turn));
        gpu.sabotage(0, Sabotage::Lose);
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
