//! Host memory that tasks read and write: pooled buffers, caller's arrays, results.
//!
//! Owns: [`HostBuffer`], and the making of chunk views from it. Must not know: who may use which bytes when; the scheduler
//! decides that. Invariant: a launch holds an `Arc` of each buffer it uses, so that memory outlives even an abandoned task; and memory
//! is seen as booleans only if it was written as booleans.
#![allow(unsafe_code)] // raw allocations shared between threads under the scheduler's rules

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::block::{ALIGN, ZeroPages, advise_huge};
use crate::error::{Error, Remedy, Result};
use crate::shape::{ChunkView, ChunkViewMut, DType, Element, Layout, View};

enum Owner {
    /// Made here, for any dtype; and whether its bytes are booleans now: all 0, or last written as such.
    Pool(#[expect(dead_code, reason = "held, never read")] ZeroPages, AtomicBool),
    /// A `Vec<T>` that becomes a result, and its dtype; `Option` so that it can be taken.
    Result(Option<Box<dyn Any + Send>>, DType),
    /// Somebody else's memory of this dtype, read only, kept alive by this, and its number.
    Caller(#[expect(dead_code, reason = "held, never read")] Box<dyn Any + Send + Sync>, DType, u64),
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
    /// A pooled buffer of `bytes`, zeroed by the system when they are first used, aligned to 64 bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system has no memory left.
    pub fn pooled(bytes: usize) -> Result<Arc<Self>> {
        let block = ZeroPages::zeroed(bytes).ok_or_else(|| Error::OutOfMemory {
            what: "a chunk buffer".into(),
            requested_bytes: bytes as u64,
            available_bytes: 0,
            space: "system".into(),
            remedies: vec![Remedy::Other("a lower memory limit or smaller chunks".into())],
        })?;
        Ok(Arc::new(Self { data: block.start(), bytes, owner: Owner::Pool(block, AtomicBool::new(true)) }))
    }

    /// A result of `len` elements, zero at first, to be taken as a `Vec<T>` at the end. The data start at an element that is
    /// 64-byte aligned: `TakenResult::start`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system has no memory left.
    pub fn result<T: Element>(len: usize) -> Result<Arc<Self>> {
        let pad = ALIGN / size_of::<T>();
        // Sums that overflow are more than any vector can hold.
        let (bytes, padded) = (len.saturating_mul(size_of::<T>()), len.saturating_add(pad));
        // Zero pages, untouched.
        let mut vec: Vec<T> = bytemuck::allocation::try_zeroed_vec(padded).map_err(|()| Error::OutOfMemory {
            what: "the result".into(),
            requested_bytes: bytes as u64,
            available_bytes: 0,
            space: "system".into(),
            remedies: vec![Remedy::Store],
        })?;
        let start = vec.as_ptr().align_offset(ALIGN).min(pad);
        // SAFETY: start <= pad, so the pointer stays inside the vector's allocation.
        let data = unsafe { vec.as_mut_ptr().add(start) }.cast::<u8>();
        advise_huge(data, bytes);
        Ok(Arc::new(Self { data, bytes, owner: Owner::Result(Some(Box::new(vec)), T::DTYPE) }))
    }

    /// The elements of what the caller owns, which is kept alive and never written.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use chunkwise::ext::HostBuffer;
    /// let (vec, slice): (_, Arc<[f64]>) = (Arc::new(vec![1i32, 2, 3]), Arc::new([1.0, 2.0]));
    /// assert_eq!(HostBuffer::caller(&vec).bytes(), 12);
    /// assert_eq!(HostBuffer::caller(&slice).bytes(), 16);
    /// ```
    ///
    /// A slice and something else to keep alive will not do, for who is to say that the one owns the other:
    ///
    /// ```compile_fail
    /// use chunkwise::ext::HostBuffer;
    /// let short_lived = vec![1.0f64; 1000];
    /// let buffer = HostBuffer::caller(&short_lived[..], std::sync::Arc::new(()));
    /// drop(short_lived);
    /// ```
    ///
    /// Nor will a borrow:
    ///
    /// ```compile_fail,E0597
    /// use chunkwise::ext::HostBuffer;
    /// let short_lived = vec![1.0f64; 1000];
    /// let buffer = HostBuffer::caller(&std::sync::Arc::new(&short_lived));
    /// drop(short_lived);
    /// ```
    pub fn caller<T: Element, O: AsRef<[T]> + ?Sized + Send + Sync + 'static>(owner: &Arc<O>) -> Arc<Self> {
        static CALLERS: AtomicU64 = AtomicU64::new(0);
        let number = CALLERS.fetch_add(1, Ordering::Relaxed) + 1;
        // This `Arc` is a shared borrow of the owner for as long as the buffer lives: nobody can have a `&mut` of it meanwhile, so
        // what it lends stays where it is and as it is (an `Element` has no interior mutability).
        let held = owner.clone();
        let slice: &[T] = (*held).as_ref();
        let (data, bytes) = (slice.as_ptr().cast_mut().cast::<u8>(), size_of_val(slice));
        Arc::new(Self { data, bytes, owner: Owner::Caller(Box::new(held), T::DTYPE, number) })
    }

    /// The number of a caller's memory in this process, never used for another; 0 for pooled buffers and results.
    #[must_use]
    pub fn source_id(&self) -> u64 {
        if let Owner::Caller(_, _, number) = self.owner { number } else { 0 }
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The dtype of its elements; `None` for pooled buffers, which hold any.
    #[must_use]
    pub fn dtype(&self) -> Option<DType> {
        match self.owner {
            Owner::Pool(..) => None,
            Owner::Result(_, dtype) | Owner::Caller(_, dtype, _) => Some(dtype),
        }
    }

    /// Before a chunk of this dtype is written: zeroes a pooled buffer that held numbers before and is to hold booleans now (but not
    /// one that holds booleans already: an update reads them).
    ///
    /// # Safety
    /// If the dtype is `Bool`, nothing else reads or writes the buffer.
    unsafe fn hold(&self, dtype: DType) {
        // Relaxed: uses of a buffer are ordered by the scheduler's lock.
        match &self.owner {
            Owner::Pool(_, bools) if dtype == DType::Bool => {
                if !bools.swap(true, Ordering::Relaxed) {
                    // SAFETY: the whole of a live allocation, which is nobody else's now.
                    unsafe { self.data.write_bytes(0, self.bytes) };
                }
            }
            Owner::Pool(_, bools) => bools.store(false, Ordering::Relaxed),
            Owner::Result(..) | Owner::Caller(..) => {}
        }
    }

    /// Whether its bytes are valid for this dtype: only booleans are not valid for any.
    fn holds(&self, dtype: DType) -> bool {
        match &self.owner {
            Owner::Pool(_, bools) => dtype != DType::Bool || bools.load(Ordering::Relaxed),
            Owner::Result(..) | Owner::Caller(..) => self.dtype() == Some(dtype),
        }
    }

    fn taken<T: Element>(self: Arc<Self>) -> Option<TakenResult<T>> {
        match Arc::try_unwrap(self) {
            Ok(mut this) => {
                let data = this.data.addr();
                let Owner::Result(vec, _) = &mut this.owner else { return None };
                let vec = *vec.take()?.downcast::<Vec<T>>().ok()?;
                let start = (data - vec.as_ptr().addr()) / size_of::<T>();
                Some(TakenResult { vec, start })
            }
            Err(held) => {
                let Owner::Result(Some(vec), _) = &held.owner else { return None };
                vec.downcast_ref::<Vec<T>>()?;
                // SAFETY: the result's elements, of this type; nobody writes them: results that an abandoned task may still
                // write are replaced before (runtime), and everything else is over.
                let all = unsafe { std::slice::from_raw_parts(held.data.cast::<T>(), held.bytes / size_of::<T>()) };
                Some(TakenResult { vec: all.to_vec(), start: 0 })
            }
        }
    }
}

/// Takes a result out of its buffer, as [`TakenResult`] says; a copy of it if an abandoned task still holds the buffer, to read. `None` if this is not a result
/// of `T`s.
pub fn take_result<T: Element>(buffer: Arc<HostBuffer>) -> Option<TakenResult<T>> {
    buffer.taken()
}

/// A result's vector: the data are `vec[start..]`, with slack behind them.
pub struct TakenResult<T> {
    /// The allocation.
    pub vec: Vec<T>,
    /// Index of the first element.
    pub start: usize,
}

/// Part of a host buffer with the layout of a chunk: what a launch reads or writes.
#[derive(Clone, Debug)]
pub struct Window {
    buffer: Arc<HostBuffer>,
    byte_offset: usize,
    layout: Arc<Layout>,
}

impl Window {
    /// The chunk of this layout that starts `offset` elements into `buffer`, for those who drive a device by hand.
    ///
    /// ```compile_fail,E0133
    /// # use chunkwise::{DType, ext::{HostBuffer, Layout, Window}};
    /// let mine = HostBuffer::caller(&std::sync::Arc::new(vec![1.0f64; 4]));
    /// let anybodys = Window::lent(mine, 0, Layout::contiguous(DType::F64, &[4]));
    /// ```
    ///
    /// # Panics
    /// If the chunk would leave the buffer, be misaligned or of another dtype than the buffer's.
    ///
    /// # Safety
    /// A window gives whoever has it (a launch or a move that it is an operand of) access to the memory. While something writes
    /// through one, nothing else uses the same elements, of a pooled buffer nothing else at all, through a window or
    /// `take_result`; and nothing writes a caller's memory.
    #[must_use]
    pub unsafe fn lent(buffer: Arc<HostBuffer>, offset: usize, layout: impl Into<Arc<Layout>>) -> Self {
        Self::new(buffer, offset, layout)
    }

    /// [`Window::lent`] inside this crate, where the scheduler sees to it that no two launches get in each other's way. It panics for
    /// a bug of the planner.
    pub(crate) fn new(buffer: Arc<HostBuffer>, offset: usize, layout: impl Into<Arc<Layout>>) -> Self {
        let layout = layout.into();
        let size = layout.dtype.bytes();
        let end = layout.checked_span().and_then(|span| offset.checked_add(span)?.checked_mul(size));
        assert!(
            end.is_some_and(|end| end <= buffer.bytes),
            "chunk {layout:?} at {offset} leaves a buffer of {} B",
            buffer.bytes
        );
        assert!(buffer.data.addr().is_multiple_of(layout.dtype.align()), "buffer is not aligned for {}", layout.dtype);
        assert!(
            buffer.dtype().is_none_or(|d| d == layout.dtype),
            "chunk of {} in an array of {:?}",
            layout.dtype,
            buffer.dtype()
        );
        Self { buffer, byte_offset: offset * size, layout }
    }

    /// What a view shows of the chunk.
    ///
    /// # Panics
    /// If it is no view of a chunk of this shape.
    pub(crate) fn viewed(&self, view: &View) -> Self {
        assert!(view.check(&self.layout.shape).is_ok(), "{view:?} of a chunk {:?}", self.layout.shape);
        let (offset, layout) = view.of(&self.layout);
        // Inside, because each index of the view is one of the chunk.
        let byte_offset = self.byte_offset.wrapping_add_signed(offset * layout.dtype.bytes() as isize);
        Self { buffer: self.buffer.clone(), byte_offset, layout: layout.into() }
    }

    /// Dtype, shape, strides.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Elements of the chunk, counted in C order, as chunks: one after the other they are these elements in C order.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn stretch(&self, elements: Range<usize>) -> Vec<Self> {
        if self.layout.is_contiguous() {
            let flat = Layout::contiguous(self.layout.dtype, &[self.layout.len()]);
            return vec![Self { layout: flat.into(), ..self.clone() }.rows(elements)];
        }
        let mut boxes = Vec::new();
        self.collect_boxes(elements, &mut boxes);
        boxes
    }

    fn collect_boxes(&self, elements: Range<usize>, into: &mut Vec<Self>) {
        let Range { start, end } = elements;
        if start >= end {
            return;
        }
        let Some(&rows) = self.layout.shape.first() else { return into.push(self.clone()) };
        let row = self.layout.len() / rows;
        let (first, last) = (start.div_ceil(row), end / row);
        let within = |r: usize| {
            let one = self.rows(r..r + 1);
            let layout = Layout {
                dtype: one.layout.dtype,
                shape: one.layout.shape[1..].to_vec(),
                strides: one.layout.strides[1..].to_vec(),
            };
            Self { layout: layout.into(), ..one }
        };
        if first > last {
            return within(last).collect_boxes(start - last * row..end - last * row, into);
        }
        if start < first * row {
            within(first - 1).collect_boxes(start - (first - 1) * row..row, into);
        }
        if first < last {
            into.push(self.rows(first..last));
        }
        if last * row < end {
            within(last).collect_boxes(0..end - last * row, into);
        }
    }

    /// These places along the first axis, which there is.
    fn rows(&self, rows: Range<usize>) -> Self {
        let mut layout = Layout::clone(&self.layout);
        layout.shape[0] = rows.len();
        let offset = self.byte_offset / layout.dtype.bytes() + rows.start * layout.strides[0].unsigned_abs();
        Self::new(self.buffer.clone(), offset, layout)
    }

    /// The chunk, to read.
    ///
    /// # Panics
    /// If it is a chunk of booleans, but its memory was last written as numbers.
    ///
    /// # Safety
    /// Until the view is gone, nothing writes these elements.
    #[must_use]
    pub unsafe fn view(&self) -> ChunkView<'_> {
        assert!(self.buffer.holds(self.layout.dtype), "these bytes were not written as {}", self.layout.dtype);
        // SAFETY: `new` proved bounds and alignment; memory is initialised (zeroed or written), as this dtype where that matters;
        // the caller excludes writers.
        unsafe { ChunkView::new(self.buffer.data.add(self.byte_offset), &self.layout) }
    }

    /// The chunk, to write.
    ///
    /// # Panics
    /// If it is a caller's memory.
    ///
    /// # Safety
    /// Until the view is gone, nothing else reads or writes these elements; nor any other of the buffer, if it is a pooled one and the
    /// chunk one of booleans.
    #[must_use]
    pub unsafe fn view_mut(&self) -> ChunkViewMut<'_> {
        assert!(!matches!(self.buffer.owner, Owner::Caller(..)), "a caller's array is never written");
        // SAFETY: the caller excludes everybody else.
        unsafe { self.buffer.hold(self.layout.dtype) };
        // SAFETY: as in `view`; the caller excludes everybody else.
        unsafe { ChunkViewMut::new(self.buffer.data.add(self.byte_offset), &self.layout) }
    }
}

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
        let taken = buffer.taken::<f64>().unwrap();
        assert_eq!(taken.vec[taken.start..][..1000], [2.0; 1000]);
        assert_eq!(taken.vec[taken.start..].as_ptr().addr(), address);
    }

    #[test]
    fn a_held_result_is_copied() {
        let buffer = HostBuffer::result::<i32>(3).unwrap();
        let held = buffer.clone();
        let taken = buffer.taken::<i32>().unwrap();
        assert_eq!((taken.start, taken.vec.as_slice()), (0, &[0; 3][..]));
        assert!(held.taken::<f64>().is_none());
    }

    /// Through windows, as tasks do.
    fn write<T: Element>(buffer: &Arc<HostBuffer>, values: &[T]) {
        let window = Window::new(buffer.clone(), 0, Layout::contiguous(T::DTYPE, &[values.len()]));
        // SAFETY: one thread, one view at a time.
        unsafe { window.view_mut() }.slice_mut::<T>().copy_from_slice(values);
    }

    fn read<T: Element>(buffer: &Arc<HostBuffer>, len: usize) -> Vec<T> {
        let window = Window::new(buffer.clone(), 0, Layout::contiguous(T::DTYPE, &[len]));
        // SAFETY: one thread, one view at a time.
        unsafe { window.view() }.slice::<T>().to_vec()
    }

    #[test]
    fn a_recycled_buffer_of_numbers_is_zeroed_before_it_holds_booleans() {
        let buffer = HostBuffer::pooled(64).unwrap();
        write(&buffer, &[f64::MAX; 8]);
        let window = Window::new(buffer.clone(), 0, Layout::contiguous(DType::Bool, &[64]));
        // SAFETY: one thread, one view at a time.
        let mut bools = unsafe { window.view_mut() };
        assert_eq!(bools.slice_mut::<bool>(), [false; 64]);
        bools.slice_mut::<bool>()[3] = true;
        // An update finds what was there.
        // SAFETY: one thread, and the view before is not used any more.
        assert!(unsafe { window.view_mut() }.slice_mut::<bool>()[3]);
        assert_eq!(read::<u8>(&buffer, 5), [0, 0, 0, 1, 0], "booleans are numbers too");
        assert!(read::<bool>(&buffer, 64)[3]);
    }

    #[test]
    #[should_panic(expected = "not written as bool")]
    fn numbers_are_not_read_as_booleans() {
        let buffer = HostBuffer::pooled(64).unwrap();
        write(&buffer, &[7u8; 8]);
        let _ = read::<bool>(&buffer, 8);
    }

    #[test]
    #[should_panic(expected = "chunk of bool in an array of Some(U8)")]
    fn an_array_has_one_dtype() {
        let _ = Window::new(HostBuffer::caller(&Arc::new([7u8; 8])), 0, Layout::contiguous(DType::Bool, &[8]));
    }

    #[test]
    #[should_panic(expected = "never written")]
    fn callers_arrays_are_not_written() {
        write(&HostBuffer::caller(&Arc::new(vec![1.0f64; 8])), &[2.0f64; 8]);
    }

    #[test]
    fn results_that_no_memory_can_hold_are_refused() {
        for len in [usize::MAX, usize::MAX - 10, isize::MAX as usize] {
            assert!(HostBuffer::result::<u8>(len).is_err() && HostBuffer::result::<f64>(len).is_err(), "{len}");
        }
        assert!(HostBuffer::result::<f64>(usize::MAX / 8 - 3).is_err());
    }

    #[test]
    fn a_callers_array_lives_as_long_as_its_buffer() {
        let owner = Arc::new(vec![1.0f64, 2.0, 3.0]);
        let buffer = HostBuffer::caller(&owner);
        drop(owner);
        assert_eq!(read::<f64>(&buffer, 3), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_stretch_of_a_chunk_is_its_elements_in_c_order() {
        let buffer = HostBuffer::caller(&Arc::new((0..1000u32).collect::<Vec<_>>()));
        let layouts = [
            (vec![], vec![]),
            (vec![7], vec![3]),
            (vec![4, 5], vec![5, 1]),
            (vec![4, 5], vec![8, 1]),
            (vec![4, 5], vec![1, 4]),
            (vec![1, 6], vec![100, 2]),
            (vec![3, 4, 5], vec![50, 7, 1]),
            (vec![3, 4, 2], vec![1, 20, 7]),
        ];
        for (shape, strides) in layouts {
            let layout = Layout { dtype: DType::U32, shape, strides };
            let window = Window::new(buffer.clone(), 10, layout.clone());
            let elements = |window: &Window| -> Vec<u32> {
                let flat = Layout::contiguous(DType::U32, &window.layout.shape);
                let mut out = vec![0; flat.len()];
                // SAFETY: nobody writes a caller's memory.
                ChunkViewMut::from_slice(&mut out, &flat).copy_from(unsafe { window.view() });
                out
            };
            let all = elements(&window);
            for start in 0..=all.len() {
                for end in start..=all.len() {
                    let found: Vec<u32> = window.stretch(start..end).iter().flat_map(elements).collect();
                    assert_eq!(found, all[start..end], "{layout:?} {start}..{end}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "leaves a buffer")]
    fn a_window_cannot_leave_its_buffer() {
        let _ = Window::new(HostBuffer::pooled(64).unwrap(), 1, Layout::contiguous(DType::F64, &[8]));
    }
}
