//! Bytes between host chunks and mapped staging buffers.
//!
//! Owns: [`fill`] and [`empty`]. Must not know: pieces, threads, the queue. Invariant: what is written to a buffer are a chunk's bytes in C order, whatever its
//! strides.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::device::{Data, Failure, HostBuffer, Window, copy, host_view_mut, input_view, panic_message};
use crate::error::Error;
use crate::shape::{ChunkView, Layout};

/// What is strided is gathered in blocks of so many bytes.
const BLOCK: usize = 64 << 10;

/// What is copied at once: bytes `at..at + bytes` of a chunk in C order, and where they lie in a staging buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) offset: u64,
}

impl Stretch {
    /// Itself in parts of so many bytes, a multiple of every element's.
    pub(super) fn parts(self, bytes: u64) -> impl Iterator<Item = Self> {
        (0..self.bytes).step_by(bytes as usize).map(move |from| Self {
            at: self.at + from,
            bytes: bytes.min(self.bytes - from),
            offset: self.offset + from,
        })
    }

    /// As chunks. It begins and ends between elements.
    fn of(&self, window: &Window) -> Vec<Window> {
        let size = window.layout().dtype.bytes() as u64;
        window.stretch((self.at / size) as usize..((self.at + self.bytes) / size) as usize)
    }
}

/// A panic while bytes are copied is a failure of the copy.
pub(super) fn caught(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(Failure::Panic(panic_message(&*payload))))
}

fn failed(what: impl std::fmt::Display) -> Failure {
    Failure::Device(Error::Failed { what: "a copy to or from the GPU".into(), message: what.to_string() })
}

/// Writes a stretch of a chunk to a mapped buffer. Several threads may write stretches of one buffer.
pub(super) fn fill(buffer: &wgpu::Buffer, from: &Window, stretch: Stretch) -> Result<(), Failure> {
    // Mapped ranges have whole words; what lies behind a piece is nobody's.
    let end = stretch.offset + stretch.bytes.next_multiple_of(4);
    let mut mapped = buffer.get_mapped_range_mut(stretch.offset..end).map_err(failed)?;
    let mut at = 0;
    let mut write = |bytes: &[u8]| {
        mapped.slice(at..at + bytes.len()).copy_from_slice(bytes);
        at += bytes.len();
    };
    for part in stretch.of(from) {
        let data = Data::Host(part.clone());
        let view = input_view(&data);
        if let Some(bytes) = view.try_bytes() {
            write(bytes);
        } else if view.has_row_slices() {
            (0..view.row_count()).for_each(|r| write(view.row_bytes(r)));
        } else {
            // Gathered first: a driver's memory may be slow to write in small pieces.
            gathered(&part, &mut write).map_err(Failure::OutOfMemory)?;
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

/// Makes a place ready to be written by several threads: memory that held numbers is cleared before it holds booleans.
pub(super) fn prepare(to: &Window) {
    let _ = host_view_mut(to);
}

/// Writes a stretch of a chunk, as a mapped buffer holds it, to its place, which is prepared.
pub(super) fn empty(buffer: &wgpu::Buffer, to: &Window, stretch: Stretch) -> Result<(), Failure> {
    let end = stretch.offset + stretch.bytes.next_multiple_of(4);
    let mapped = buffer.get_mapped_range(stretch.offset..end).map_err(failed)?;
    let mut rest = &mapped[..stretch.bytes as usize];
    for part in stretch.of(to) {
        let layout = Layout::contiguous(part.layout().dtype, &part.layout().shape);
        let (now, after) = rest.split_at(layout.bytes() as usize);
        rest = after;
        let view = ChunkView::from_bytes(now, &layout).ok_or_else(|| failed("what came back is not aligned, or no bool"))?;
        host_view_mut(&part).copy_from(view);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wgpu::BufferUsages;

    use super::*;
    use crate::device::gpu::open::Opened;
    use crate::shape::DType;

    /// Whatever the strides, from any place on, in parts by several threads.
    #[test]
    fn what_is_filled_in_is_what_comes_out() {
        let Some(adapter) = crate::device::gpu::adapters::any() else { return };
        let opened = Opened::new(&adapter).unwrap();
        let layouts: [(&[usize], &[isize]); 4] = [
            (&[3, 40_000], &[40_000, 1]),
            (&[3, 40_002], &[40_007, 1]),
            (&[2, 3, 1001], &[5000, 1500, 1]),
            (&[1001, 70], &[1, 1001]),
        ];
        for (shape, strides) in layouts {
            let layout = Layout { dtype: DType::F32, shape: shape.into(), strides: strides.into() };
            let numbers: Vec<f32> = (0..layout.span()).map(|i| i as f32).collect();
            let from = Window::new(HostBuffer::caller(&Arc::new(numbers)), 0, layout.clone());
            for (at, less, offset) in [(0, 0, 0), (4096, 0, 64), (4096, 12_288, 128)] {
                let bytes = layout.bytes() - at - less;
                let stretch = Stretch { at, bytes, offset };
                let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
                let buffer = opened.buffer((offset + bytes).next_multiple_of(8), usage, true).unwrap();
                let to = Window::new(HostBuffer::pooled(layout.span() * 4).unwrap(), 0, layout.clone());
                prepare(&to);
                let (buffer, source, place) = (&buffer, &from, &to);
                std::thread::scope(|scope| {
                    for part in stretch.parts(64 << 10) {
                        scope.spawn(move || fill(buffer, source, part).unwrap());
                    }
                });
                std::thread::scope(|scope| {
                    for part in stretch.parts(32 << 10) {
                        scope.spawn(move || empty(buffer, place, part).unwrap());
                    }
                });
                let (from, to) = (Data::Host(from.clone()), Data::Host(to));
                let (from, to) = (input_view(&from), input_view(&to));
                let elements = (0..from.row_count()).flat_map(|r| (0..*shape.last().unwrap()).map(move |i| (r, i)));
                for (n, (r, i)) in elements.enumerate() {
                    let there = (at..at + bytes).contains(&(4 * n as u64));
                    let wanted = if there { from.at::<f32>(r, i) } else { 0.0 };
                    assert_eq!(to.at::<f32>(r, i), wanted, "{shape:?} {at} {bytes}: {r} {i}");
                }
            }
        }
    }
}
