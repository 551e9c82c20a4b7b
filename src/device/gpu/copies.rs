//! Copies between host memory and staging buffers, on threads that are neither the GPU's nor the CPU device's.
//!
//! Owns: the threads that serve uploads and downloads, and the few that help with large chunks; the pieces that a chunk crosses in. Must not
//! know: the queue. Invariant: a host chunk is read before its upload, and written before its download, is reported.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rayon::ThreadPool;

use super::launch::DonePromise;
use super::memory::{ChunkSlot, Staging};
use super::open::GpuRefusal;
use super::service::Message;
use crate::device::{Data, Failure, HostBuffer, Report, Window, copy, host_view_mut, input_view, panic_message};
use crate::error::Error;
use crate::shape::{ChunkView, Layout};

/// From this size on several threads copy: one alone is slower than a fast link.
const LARGE: usize = 4 << 20;
/// What is strided is gathered in blocks of so many bytes.
const BLOCK: usize = 64 << 10;

/// A chunk to be brought to the GPU.
pub(super) struct Upload {
    pub(super) from: Window,
    pub(super) to: Arc<ChunkSlot>,
    pub(super) done: DonePromise,
}

/// A piece of a chunk on its way to the GPU: its bytes are in the staging buffer.
pub(super) struct Up {
    pub(super) staging: wgpu::Buffer,
    pub(super) to: Arc<ChunkSlot>,
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// Whether nothing more of the chunk will come.
    pub(super) last: bool,
}

/// A chunk to be brought to the host, and up to where its pieces are on their way.
pub(super) struct Down {
    pub(super) from: Arc<ChunkSlot>,
    pub(super) landing: Arc<Landing>,
    pub(super) at: u64,
}

impl Down {
    pub(super) fn new(from: Arc<ChunkSlot>, to: Window, done: DonePromise) -> Self {
        let bytes = to.layout().bytes();
        let so_far = Mutex::new(Landed { done: Some(done), ..Landed::default() });
        let landing = Landing { bytes, to: Some(to), asked: Instant::now(), so_far };
        Self { from, landing: Arc::new(landing), at: 0 }
    }

    /// The next piece.
    pub(super) fn piece(&mut self, bytes: u64) -> DownloadPiece {
        let at = self.at;
        self.at += bytes;
        DownloadPiece { landing: self.landing.clone(), at, bytes }
    }
}

/// A piece of a chunk on its way to the host.
pub(super) struct DownloadPiece {
    pub(super) landing: Arc<Landing>,
    pub(super) at: u64,
    pub(super) bytes: u64,
}

impl DownloadPiece {
    pub(super) fn is_last(&self) -> bool {
        self.at + self.bytes == self.landing.bytes
    }
}

/// Where a download goes. It is reported when nobody has any piece of it any more, whatever became of them: so nothing is written there after the
/// report, and it is made once.
pub(super) struct Landing {
    pub(super) bytes: u64,
    to: Option<Window>,
    asked: Instant,
    so_far: Mutex<Landed>,
}

#[derive(Default)]
struct Landed {
    done: Option<DonePromise>,
    bytes: u64,
    ns: u64,
    failed: Option<Failure>,
}

impl Landing {
    pub(super) fn fail(&self, failure: Failure) {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner).failed.get_or_insert(failure);
    }

    fn landed(&self, bytes: u64, ns: u64) {
        let mut so_far = self.so_far.lock().unwrap_or_else(PoisonError::into_inner);
        (so_far.bytes, so_far.ns) = (so_far.bytes + bytes, so_far.ns.saturating_add(ns));
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.to = None;
        let so_far = std::mem::take(self.so_far.get_mut().unwrap_or_else(PoisonError::into_inner));
        let Landed { done: Some(done), bytes, ns, failed } = so_far else { return };
        match failed {
            Some(failure) => finish(done, ns, Err(failure)),
            // Pieces are copied while others are on the link.
            None if bytes == self.bytes => finish(done, ns.min(self.asked.elapsed().as_nanos() as u64), Ok(())),
            None => drop(done), // a piece is lost: which says so
        }
    }
}

/// Fills staging buffers and hands them to the service thread, until nobody asks any more.
pub(super) fn serve_uploads(
    name: &str,
    wanted: Receiver<Upload>,
    staging: &Staging,
    pool: Option<&ThreadPool>,
    service: &Sender<Message>,
) {
    for Upload { from, to, done } in wanted {
        let started = Instant::now();
        let send = |up| service.send(Message::Up(up)).map_err(|_| GpuRefusal::Lost("its service thread has ended".into()));
        let outcome = upload(&from, &to, staging, pool, send);
        drop(from);
        let outcome = outcome.map_err(|stop| stop.into_failure(name));
        // The queue is in order: whatever reads the chunk is submitted with this upload, or later.
        finish(done, started.elapsed().as_nanos() as u64, outcome);
    }
}

/// Why an upload went no further.
enum Stop {
    Refused(GpuRefusal),
    Failed(Failure),
}

impl Stop {
    fn into_failure(self, name: &str) -> Failure {
        match self {
            Self::Refused(refusal) => refusal.into_failure("a chunk's upload", name),
            Self::Failed(failure) => failure,
        }
    }
}

fn upload(
    from: &Window,
    to: &Arc<ChunkSlot>,
    staging: &Staging,
    pool: Option<&ThreadPool>,
    send: impl Fn(Up) -> Result<(), GpuRefusal>,
) -> Result<(), Stop> {
    // The chunk's buffer is made here, so that nothing but the loss of the device can go wrong after the report.
    to.buffer().map_err(Stop::Refused)?;
    let (all, mut at) = (from.layout().bytes(), 0);
    while at < all {
        let bytes = staging.piece(at, all);
        let buffer = staging.take(bytes).map_err(Stop::Refused)?;
        if let Err(failure) = caught(|| fill(&buffer, &stretch(from, at, bytes), pool)) {
            staging.give(buffer, false);
            return Err(Stop::Failed(failure));
        }
        send(Up { staging: buffer, to: to.clone(), at, bytes, last: at + bytes == all }).map_err(Stop::Refused)?;
        at += bytes;
    }
    Ok(())
}

/// These bytes of a chunk in C order, as chunks. Pieces begin and end between elements.
fn stretch(window: &Window, at: u64, bytes: u64) -> Vec<Window> {
    let size = window.layout().dtype.bytes() as u64;
    window.stretch((at / size) as usize..((at + bytes) / size) as usize)
}

/// Copies arrived pieces of downloads to their places.
pub(super) fn serve_downloads(
    arrivals: Receiver<(wgpu::Buffer, DownloadPiece, u64)>,
    staging: &Staging,
    pool: Option<&ThreadPool>,
) {
    for (buffer, DownloadPiece { landing, at, bytes }, link_ns) in arrivals {
        let started = Instant::now();
        let outcome = match &landing.to {
            Some(to) => caught(|| empty(&buffer, to, (at, bytes), pool)),
            None => Ok(()), // it is there as long as the landing is
        };
        buffer.unmap();
        staging.give(buffer, true);
        match outcome {
            Ok(()) => landing.landed(bytes, link_ns.saturating_add(started.elapsed().as_nanos() as u64)),
            Err(failure) => landing.fail(failure),
        }
    }
}

fn finish(done: DonePromise, elapsed_ns: u64, outcome: Result<(), Failure>) {
    let report = Report { elapsed_ns: elapsed_ns.max(1), since_ns: 0, worker: 0, opaque: Vec::new(), outcome };
    // What listens may panic; this thread has others to serve.
    let _ = catch_unwind(AssertUnwindSafe(|| done.keep(report)));
}

fn caught(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Failure::Panic(panic_message(&*payload))))
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::Device(Error::Failed { what: "a copy to or from the GPU".into(), message: what.to_string() })
}

/// Writes chunks to a mapped buffer, one after the other, each in C order.
fn fill(buffer: &wgpu::Buffer, parts: &[Window], pool: Option<&ThreadPool>) -> Result<(), Failure> {
    let whole: Vec<Data> = parts.iter().cloned().map(Data::Host).collect();
    let pooled = |bytes: &&[u8]| bytes.len() >= LARGE && bytes.len().is_multiple_of(8);
    if let ([one], Some(pool)) = (&whole[..], pool)
        && let Some(bytes) = input_view(one).try_bytes().filter(pooled)
    {
        return fill_together(buffer, bytes, pool);
    }
    let mut mapped = buffer.get_mapped_range_mut(..).map_err(failed)?;
    let mut at = 0;
    let mut write = |bytes: &[u8]| {
        mapped.slice(at..at + bytes.len()).copy_from_slice(bytes);
        at += bytes.len();
    };
    for (part, data) in parts.iter().zip(&whole) {
        let view = input_view(data);
        if let Some(bytes) = view.try_bytes() {
            write(bytes);
        } else if view.has_row_slices() {
            (0..view.row_count()).for_each(|r| write(view.row_bytes(r)));
        } else {
            // Gathered first: a driver's memory may be slow to write in small pieces.
            gathered(part, &mut write).map_err(Failure::OutOfMemory)?;
        }
    }
    Ok(())
}

/// The bytes of a chunk in C order, block by block.
fn gathered(part: &Window, mut write: impl FnMut(&[u8])) -> Result<(), Error> {
    let (dtype, len) = (part.layout().dtype, part.layout().len());
    let (block, each) = (HostBuffer::pooled(BLOCK)?, BLOCK / dtype.bytes());
    for first in (0..len).step_by(each) {
        for from in part.stretch(first..len.min(first + each)) {
            let to = Window::new(block.clone(), 0, Layout::contiguous(dtype, &from.layout().shape));
            copy(&Data::Host(from), &to);
            write(input_view(&Data::Host(to)).try_bytes().unwrap_or_default());
        }
    }
    Ok(())
}

/// Writes bytes to a mapped buffer from several threads.
fn fill_together(buffer: &wgpu::Buffer, bytes: &[u8], pool: &ThreadPool) -> Result<(), Failure> {
    let piece = bytes.len().div_ceil(pool.current_num_threads()).next_multiple_of(8);
    let mut parts = Vec::new();
    for part in bytes.chunks(piece) {
        let from = (part.as_ptr().addr() - bytes.as_ptr().addr()) as u64;
        parts.push((buffer.get_mapped_range_mut(from..from + part.len() as u64).map_err(failed)?, part));
    }
    pool.scope(|scope| {
        for (mut to, part) in parts {
            scope.spawn(move |_| to.copy_from_slice(part));
        }
    });
    Ok(())
}

/// Writes what a mapped buffer holds, these bytes of a chunk in C order, to their place.
fn empty(buffer: &wgpu::Buffer, to: &Window, (at, bytes): (u64, u64), pool: Option<&ThreadPool>) -> Result<(), Failure> {
    // All of it, before any of it is written by several threads: memory that held numbers is cleared before it holds booleans.
    let _ = host_view_mut(to);
    let mapped = buffer.get_mapped_range(..).map_err(failed)?;
    let mut rest = &mapped[..bytes as usize];
    for part in stretch(to, at, bytes) {
        let (now, after) = rest.split_at(part.layout().bytes() as usize);
        rest = after;
        let parts = match pool.filter(|_| now.len() >= LARGE) {
            Some(pool) => part.split_rows(pool.current_num_threads()),
            None => vec![part],
        };
        scatter(now, &parts, pool.filter(|_| parts.len() > 1))?;
    }
    Ok(())
}

/// Writes bytes to chunks, one after the other, each in C order.
fn scatter(mut bytes: &[u8], parts: &[Window], pool: Option<&ThreadPool>) -> Result<(), Failure> {
    let flat = |part: &Window| Layout::contiguous(part.layout().dtype, &part.layout().shape);
    let layouts: Vec<Layout> = parts.iter().map(flat).collect();
    let mut views = Vec::with_capacity(parts.len());
    for layout in &layouts {
        let (now, rest) = bytes.split_at(layout.bytes() as usize);
        bytes = rest;
        views.push(ChunkView::from_bytes(now, layout).ok_or_else(|| failed("what came back is not aligned, or no bool"))?);
    }
    let all = parts.iter().zip(views);
    match pool {
        None => all.for_each(|(part, from)| host_view_mut(part).copy_from(from)),
        Some(pool) => {
            pool.scope(|scope| all.for_each(|(part, from)| scope.spawn(move |_| host_view_mut(part).copy_from(from))))
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wgpu::BufferUsages;

    use super::*;
    use crate::device::gpu::open::Opened;
    use crate::shape::DType;

    /// With and without threads to help, whatever the strides, from any place on.
    #[test]
    fn what_is_filled_in_is_what_comes_out() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let opened = Opened::new(&adapter).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        // One row is 4 MiB, or 8 bytes more: large enough for several threads, and not.
        let (rows, row) = (3, LARGE / 4);
        let layouts: [(&[usize], &[isize]); 4] = [
            (&[rows, row], &[row as isize, 1]),
            (&[rows, row + 2], &[row as isize + 7, 1]),
            (&[2, rows, 1001], &[5000, 1500, 1]),
            (&[1001, 70], &[1, 1001]),
        ];
        for (shape, strides) in layouts {
            let layout = Layout { dtype: DType::F32, shape: shape.into(), strides: strides.into() };
            let numbers: Vec<f32> = (0..layout.span()).map(|i| i as f32).collect();
            let from = Window::new(HostBuffer::caller(&Arc::new(numbers)), 0, layout.clone());
            for (at, less) in [(0, 0), (4096, 0), (4096, 12_288)] {
                let bytes = layout.bytes() - at - less;
                for pool in [None, Some(&pool)] {
                    let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
                    let buffer = opened.buffer(bytes.next_multiple_of(8), usage, true).unwrap();
                    fill(&buffer, &stretch(&from, at, bytes), pool).unwrap();
                    let to = HostBuffer::pooled(layout.span() * 4).unwrap();
                    let to = Window::new(to, 0, layout.clone());
                    empty(&buffer, &to, (at, bytes), pool).unwrap();
                    let (from, to) = (Data::Host(from.clone()), Data::Host(to));
                    let (from, to) = (input_view(&from), input_view(&to));
                    let elements = (0..from.row_count()).flat_map(|r| (0..*shape.last().unwrap()).map(move |i| (r, i)));
                    for (n, (r, i)) in elements.enumerate() {
                        let there = (at..at + bytes).contains(&(4 * n as u64));
                        let wanted = if there { from.at::<f32>(r, i) } else { 0.0 };
                        assert_eq!(to.at::<f32>(r, i), wanted, "{shape:?} {at} {bytes} {}: {r} {i}", pool.is_some());
                    }
                }
            }
        }
    }
}
