//! Host memory that tasks read and write: pooled buffers, caller's arrays, results.
//!
//! Owns: [`HostBuffer`], and the making of chunk views from it. Must not know: who may use which bytes when; the scheduler
//! decides that. Invariant: a launch holds an `Arc` of each buffer it uses, so that memory outlives even an abandoned task.
#![allow(unsafe_code)] // raw allocations shared between threads under the scheduler's rules

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::shape::{ChunkView, ChunkViewMut, Element, Layout};

/// Alignment of pooled buffers and of results: a cache line, and an AVX-512 vector.
pub const ALIGN: usize = 64;
/// From this size on, memory is aligned to and advised for huge pages (page faults of 4 KiB cost more than the writing).
const HUGE: usize = 4 << 20;
const HUGE_PAGE: usize = 2 << 20;

enum Owner {
    /// Allocated here with this layout.
    Pool(std::alloc::Layout),
    /// A `Vec<T>` that becomes a result; `Option` so that it can be taken.
    Result(Option<Box<dyn Any + Send>>),
    /// Somebody else's memory, read only, kept alive by this, and its number.
    Caller(#[expect(dead_code, reason = "held, never read")] Arc<dyn Any + Send + Sync>, u64),
}

/// A stretch of host memory.
pub struct HostBuffer {
    data: *mut u8,
    bytes: usize,
    owner: Owner,
}

// SAFETY: the bytes are plain numbers; who reads and writes them when is ordered by the scheduler (a value is read only
// after its producer's completion, which passes through the session's lock).
unsafe impl Send for HostBuffer {}
// SAFETY: as above.
unsafe impl Sync for HostBuffer {}

impl std::fmt::Debug for HostBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostBuffer({} B)", self.bytes)
    }
}

impl HostBuffer {
    /// A pooled buffer of `bytes`, zeroed by the system, aligned to [`ALIGN`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system has no memory left.
    pub fn pooled(bytes: usize) -> Result<Arc<Self>> {
        let align = if bytes >= HUGE { HUGE_PAGE } else { ALIGN };
        let refused = || Error::OutOfMemory {
            what: "a chunk buffer".into(),
            requested_bytes: bytes as u64,
            available_bytes: 0,
            space: "system".into(),
            try_this: "a lower memory limit or smaller chunks".into(),
        };
        let layout = std::alloc::Layout::from_size_align(bytes.max(1), align).map_err(|_| refused())?;
        // SAFETY: the layout's size is not zero. Zeroed, so that the bytes are valid numbers; the system hands out zero pages
        // lazily, so this costs nothing beyond the page faults that writing would cause.
        let data = unsafe { std::alloc::alloc_zeroed(layout) };
        if data.is_null() {
            return Err(refused());
        }
        advise_huge(data, bytes);
        Ok(Arc::new(Self { data, bytes, owner: Owner::Pool(layout) }))
    }

    /// A result of `len` elements, zero at first, to be taken as a `Vec<T>` at the end. The data start at an element that is
    /// 64-byte aligned: [`TakenResult::start`].
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system has no memory left.
    pub fn result<T: Element>(len: usize) -> Result<Arc<Self>> {
        let pad = ALIGN / size_of::<T>();
        let bytes = len * size_of::<T>();
        let mut vec: Vec<T> = Vec::new();
        vec.try_reserve_exact(len + pad).map_err(|_| Error::OutOfMemory {
            what: "the result".into(),
            requested_bytes: bytes as u64,
            available_bytes: 0,
            space: "system".into(),
            try_this: "storing it in a file chunk by chunk, where it can be made so".into(),
        })?;
        drop(vec);
        let mut vec: Vec<T> = vec![T::default(); len + pad]; // calloc: zero pages, untouched
        let start = vec.as_ptr().align_offset(ALIGN).min(pad);
        // SAFETY: start <= pad, so the pointer stays inside the vector's allocation.
        let data = unsafe { vec.as_mut_ptr().add(start) }.cast::<u8>();
        advise_huge(data, bytes);
        Ok(Arc::new(Self { data, bytes, owner: Owner::Result(Some(Box::new(vec))) }))
    }

    /// The caller's slice, kept alive by `owner`. Never written.
    pub fn caller<T: Element>(slice: &[T], owner: Arc<dyn Any + Send + Sync>) -> Arc<Self> {
        let data = slice.as_ptr().cast_mut().cast::<u8>();
        static CALLERS: AtomicU64 = AtomicU64::new(0);
        let number = CALLERS.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Self { data, bytes: size_of_val(slice), owner: Owner::Caller(owner, number) })
    }

    /// The number of a caller's memory in this process, never used for another; 0 for pooled buffers and results.
    #[must_use]
    pub fn source_id(&self) -> u64 {
        if let Owner::Caller(_, number) = self.owner { number } else { 0 }
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the result out, with the element it starts at; a copy of it if an abandoned task still holds the buffer, to read.
    /// `None` if this is not a result of `T`s.
    pub fn take_result<T: Element>(self: Arc<Self>) -> Option<TakenResult<T>> {
        match Arc::try_unwrap(self) {
            Ok(mut this) => {
                let data = this.data.addr();
                let Owner::Result(vec) = &mut this.owner else { return None };
                let vec = *vec.take()?.downcast::<Vec<T>>().ok()?;
                let start = (data - vec.as_ptr().addr()) / size_of::<T>();
                Some(TakenResult { vec, start })
            }
            Err(held) => {
                let Owner::Result(Some(vec)) = &held.owner else { return None };
                vec.downcast_ref::<Vec<T>>()?;
                // SAFETY: the result's elements, of this type; nobody writes them: results that an abandoned task may still
                // write are replaced before (runtime), and everything else is over.
                let all = unsafe { std::slice::from_raw_parts(held.data.cast::<T>(), held.bytes / size_of::<T>()) };
                Some(TakenResult { vec: all.to_vec(), start: 0 })
            }
        }
    }
}

/// A result's vector: the data are `vec[start..]`, with slack behind them.
pub struct TakenResult<T> {
    /// The allocation.
    pub vec: Vec<T>,
    /// Index of the first element.
    pub start: usize,
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        if let Owner::Pool(layout) = self.owner {
            // SAFETY: allocated with this layout in `pooled`, freed once.
            unsafe { std::alloc::dealloc(self.data, layout) };
        }
    }
}

/// Part of a host buffer with the layout of a chunk: what a launch reads or writes.
#[derive(Clone, Debug)]
pub struct Window {
    buffer: Arc<HostBuffer>,
    byte_offset: usize,
    layout: Layout,
}

impl Window {
    /// The chunk of this layout that starts `offset` elements into `buffer`.
    ///
    /// # Panics
    /// If the chunk would leave the buffer, or be misaligned: a bug of the planner.
    #[must_use]
    pub fn new(buffer: Arc<HostBuffer>, offset: usize, layout: Layout) -> Self {
        let size = layout.dtype.bytes();
        let end = layout.checked_span().and_then(|span| offset.checked_add(span)?.checked_mul(size));
        assert!(
            end.is_some_and(|end| end <= buffer.bytes),
            "chunk {layout:?} at {offset} leaves a buffer of {} B",
            buffer.bytes
        );
        assert!(buffer.data.addr().is_multiple_of(size), "buffer is not aligned for {}", layout.dtype);
        Self { buffer, byte_offset: offset * size, layout }
    }

    /// Dtype, shape, strides.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The same chunk as up to `parts` chunks, cut along the first axis.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn split_rows(&self, parts: usize) -> Vec<Self> {
        let Some(&rows) = self.layout.shape.first() else { return vec![self.clone()] };
        let each = rows.div_ceil(parts.max(1)).max(1);
        let part = |first: usize| {
            let mut layout = self.layout.clone();
            layout.shape[0] = each.min(rows - first);
            let offset = self.byte_offset / layout.dtype.bytes() + first * layout.strides[0].unsigned_abs();
            Self::new(self.buffer.clone(), offset, layout)
        };
        (0..rows).step_by(each).map(part).collect()
    }

    /// The chunk, to read.
    ///
    /// # Safety
    /// Until the view is gone, nothing writes these elements.
    #[must_use]
    pub unsafe fn view(&self) -> ChunkView<'_> {
        // SAFETY: `new` proved bounds and alignment; memory is initialised (zeroed or written); the caller excludes writers.
        unsafe { ChunkView::new(self.buffer.data.add(self.byte_offset), &self.layout) }
    }

    /// The chunk, to write.
    ///
    /// # Safety
    /// Until the view is gone, nothing else reads or writes these elements.
    #[must_use]
    pub unsafe fn view_mut(&self) -> ChunkViewMut<'_> {
        // SAFETY: as in `view`; the caller excludes everybody else. Caller-owned buffers are never outputs (graph builder).
        unsafe { ChunkViewMut::new(self.buffer.data.add(self.byte_offset), &self.layout) }
    }
}

#[cfg(target_os = "linux")]
fn advise_huge(data: *mut u8, bytes: usize) {
    if bytes < HUGE {
        return;
    }
    let start = data.addr().next_multiple_of(4096);
    let len = (data.addr() + bytes).saturating_sub(start) & !4095;
    // SAFETY: the range lies inside one live allocation and the advice does not change contents. Failure only costs speed.
    unsafe { libc::madvise(data.with_addr(start).cast(), len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_data: *mut u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::DType;

    #[test]
    fn a_result_is_aligned_and_taken_once_without_a_copy() {
        let buffer = HostBuffer::result::<f64>(1000).unwrap();
        let layout = Layout::contiguous(DType::F64, &[1000]);
        let window = Window::new(buffer.clone(), 0, layout);
        // SAFETY: nobody else uses the buffer.
        unsafe { window.view_mut() }.slice_mut::<f64>().fill(2.0);
        assert_eq!(buffer.data.addr() % ALIGN, 0);
        let address = buffer.data.addr();
        drop(window);
        let taken = buffer.take_result::<f64>().unwrap();
        assert_eq!(taken.vec[taken.start..][..1000], [2.0; 1000]);
        assert_eq!(taken.vec[taken.start..].as_ptr().addr(), address);
    }

    #[test]
    fn a_held_result_is_copied() {
        let buffer = HostBuffer::result::<i32>(3).unwrap();
        let held = buffer.clone();
        let taken = buffer.take_result::<i32>().unwrap();
        assert_eq!((taken.start, taken.vec.as_slice()), (0, &[0; 3][..]));
        assert!(held.take_result::<f64>().is_none());
    }

    #[test]
    #[should_panic(expected = "leaves a buffer")]
    fn a_window_cannot_leave_its_buffer() {
        let _ = Window::new(HostBuffer::pooled(64).unwrap(), 1, Layout::contiguous(DType::F64, &[8]));
    }
}
