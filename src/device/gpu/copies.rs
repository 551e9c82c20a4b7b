//! Copies between host memory and staging buffers, on threads that are neither the GPU's nor the CPU device's.
//!
//! Owns: the threads that serve uploads and downloads, and the few that help with large chunks. Must not know: the queue. Invariant: a host
//! chunk is read before its upload, and written before its download, is reported.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use rayon::ThreadPool;

use super::batch::{Down, Promise, Up};
use super::memory::{Slot, Staging};
use super::open::Refusal;
use super::service::Message;
use crate::device::{Data, Failure, HostBuffer, Report, Window, copy, host_view_mut, input_view, panic_message};
use crate::error::Error;
use crate::shape::{ChunkView, Layout};

/// From this size on several threads copy: one alone is slower than a fast link.
const LARGE: usize = 4 << 20;

/// A chunk to be brought to the GPU.
pub(super) struct Wanted {
    pub(super) from: Window,
    pub(super) to: Arc<Slot>,
    pub(super) done: Promise,
}

/// Fills staging buffers and hands them to the service thread, until nobody asks any more.
pub(super) fn serve_uploads(
    name: &str,
    wanted: Receiver<Wanted>,
    staging: &Staging,
    pool: Option<&ThreadPool>,
    service: &Sender<Message>,
) {
    for Wanted { from, to, done } in wanted {
        let started = Instant::now();
        let bytes = from.layout().bytes();
        // The chunk's buffer is made here, so that nothing but the loss of the device can go wrong after the report.
        let staged = to.buffer().and_then(|_| staging.take(bytes)).map_err(|r| r.into_failure("a chunk's upload", name));
        let filled = staged.and_then(|buffer| match caught(|| fill(&buffer, &from, pool)) {
            Ok(()) => Ok(buffer),
            Err(failure) => {
                staging.give(buffer, false);
                Err(failure)
            }
        });
        drop(from);
        let outcome = filled.and_then(|staging| {
            let gone = |_| Refusal::Lost("its service thread has ended".into()).into_failure("a chunk's upload", name);
            service.send(Message::Up(Up { staging, to, bytes })).map_err(gone)
        });
        // The queue is in order: whatever reads the chunk is submitted with this upload, or later.
        finish(done, started, 0, outcome);
    }
}

/// Copies arrived downloads to their places.
pub(super) fn serve_downloads(arrivals: Receiver<(wgpu::Buffer, Down, u64)>, staging: &Staging, pool: Option<&ThreadPool>) {
    for (buffer, down, link_ns) in arrivals {
        let started = Instant::now();
        let Down { to, done, .. } = down;
        let outcome = caught(|| empty(&buffer, &to, pool));
        buffer.unmap();
        staging.give(buffer, true);
        drop(to);
        finish(done, started, link_ns, outcome);
    }
}

fn finish(done: Promise, started: Instant, more_ns: u64, outcome: Result<(), Failure>) {
    let elapsed_ns = (started.elapsed().as_nanos() as u64).saturating_add(more_ns).max(1);
    let report = Report { elapsed_ns, since_ns: 0, worker: 0, opaque: Vec::new(), outcome };
    // What listens may panic; this thread has others to serve.
    let _ = catch_unwind(AssertUnwindSafe(|| done.keep(report)));
}

fn caught(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Failure::Panic(panic_message(&*payload))))
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::Device(Error::Failed { what: "a copy to or from the GPU".into(), message: what.to_string() })
}

/// Writes a chunk to a mapped buffer, in C order.
fn fill(buffer: &wgpu::Buffer, from: &Window, pool: Option<&ThreadPool>) -> Result<(), Failure> {
    let data = Data::Host(from.clone());
    let view = input_view(&data);
    if !view.has_row_slices() {
        // Gathered first: a driver's memory may be slow to write in small pieces.
        let packed = packed(from.layout()).map_err(Failure::OutOfMemory)?;
        copy(&data, &packed);
        return fill(buffer, &packed, pool);
    }
    let pooled = |bytes: &&[u8]| bytes.len() >= LARGE && bytes.len().is_multiple_of(8);
    if let (Some(bytes), Some(pool)) = (view.try_bytes().filter(pooled), pool) {
        return fill_together(buffer, bytes, pool);
    }
    let mut mapped = buffer.get_mapped_range_mut(..).map_err(failed)?;
    let mut to = mapped.slice(..view.layout().bytes() as usize);
    if let Some(bytes) = view.try_bytes() {
        to.copy_from_slice(bytes);
        return Ok(());
    }
    for row in (0..view.row_count()).map(|r| view.row_bytes(r)) {
        let (mut now, rest) = to.split_at(row.len());
        now.copy_from_slice(row);
        to = rest;
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

/// A buffer for a chunk of this shape, in C order.
fn packed(layout: &Layout) -> Result<Window, Error> {
    let flat = Layout::contiguous(layout.dtype, &layout.shape);
    Ok(Window::new(HostBuffer::pooled(flat.bytes() as usize)?, 0, flat))
}

/// Writes what a mapped buffer holds to a chunk.
fn empty(buffer: &wgpu::Buffer, to: &Window, pool: Option<&ThreadPool>) -> Result<(), Failure> {
    let mapped = buffer.get_mapped_range(..).map_err(failed)?;
    let bytes = &mapped[..to.layout().bytes() as usize];
    let flat = Layout::contiguous(to.layout().dtype, &to.layout().shape);
    let from = ChunkView::from_bytes(bytes, &flat).ok_or_else(|| failed("the mapped memory is not aligned"))?;
    let rows = from.row_count();
    let Some(pool) = pool.filter(|_| bytes.len() >= LARGE && rows > 1 && to.layout().shape.len() > 1) else {
        host_view_mut(to).copy_from(from);
        return Ok(());
    };
    let parts = to.split_rows(pool.current_num_threads());
    let row = bytes.len() / to.layout().shape[0];
    pool.scope(|scope| {
        let mut rest = bytes;
        for part in &parts {
            let (now, after) = rest.split_at(row * part.layout().shape[0]);
            rest = after;
            scope.spawn(move |_| {
                let flat = Layout::contiguous(part.layout().dtype, &part.layout().shape);
                if let Some(from) = ChunkView::from_bytes(now, &flat) {
                    host_view_mut(part).copy_from(from);
                }
            });
        }
    });
    Ok(())
}
