//! Typed access to the bytes of one chunk, wherever they lie: a window of a user's array, of a result, or a pooled buffer.
//!
//! Owns: [`ChunkView`], [`ChunkViewMut`]. Must not know: who owns the bytes. Invariant: a view that exists is
//! valid (its maker in `device/buffer.rs` proved bounds and exclusiveness), so everything here is safe to call; asking for
//! the wrong dtype or for a contiguous slice of a strided chunk panics, which the runtime turns into an error.
#![allow(unsafe_code)] // the one place where chunk bytes become slices

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::layout::last;
use super::{DType, Element, Layout};

/// A chunk value that is not an array: any Rust value, with the bytes it is said to hold.
#[derive(Clone)]
pub struct Opaque {
    /// The value.
    pub value: Arc<dyn Any + Send + Sync>,
    /// Bytes it holds: at most those that the graph states for it, which count in the memory limit as long as it is needed.
    pub bytes: u64,
}

/// What a kernel may know of an operand before it runs.
#[derive(Clone, Copy)]
pub struct ChunkMeta<'a> {
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: &'a [usize],
    /// The data, where they exist before the run (caller's arrays).
    pub data: Option<ChunkView<'a>>,
}

/// Shared access to one chunk.
#[derive(Clone, Copy)]
pub struct ChunkView<'a> {
    layout: &'a Layout,
    data: *const u8,
    opaque: Option<&'a Opaque>,
    lifetime: PhantomData<&'a u8>,
}

// SAFETY: a ChunkView is a shared borrow of plain numbers (`Element`), readable from any thread.
unsafe impl Send for ChunkView<'_> {}
// SAFETY: as above.
unsafe impl Sync for ChunkView<'_> {}

impl<'a> ChunkView<'a> {
    /// A view of the bytes at `data`.
    ///
    /// # Safety
    /// For `'a`: `data` is aligned for the dtype, every element reachable through `layout` is initialised memory of that
    /// dtype, and nothing writes it.
    pub(crate) unsafe fn new(data: *const u8, layout: &'a Layout) -> Self {
        Self { layout, data, opaque: None, lifetime: PhantomData }
    }

    /// A view of an opaque value.
    pub(crate) fn of_opaque(opaque: &'a Opaque, layout: &'a Layout) -> Self {
        Self { layout, data: std::ptr::dangling(), opaque: Some(opaque), lifetime: PhantomData }
    }

    /// A view of a contiguous slice, C order; for tests and for callers that hold plain slices.
    ///
    /// # Panics
    /// If `slice` is shorter than `layout` reaches, or of another dtype, or a stride is negative.
    pub fn from_slice<T: Element>(slice: &'a [T], layout: &'a Layout) -> Self {
        assert!(
            layout.dtype == T::DTYPE && layout.checked_span().is_some_and(|span| span <= slice.len()),
            "layout {layout:?} over {} {}",
            slice.len(),
            T::DTYPE
        );
        // SAFETY: the slice is borrowed for 'a and covers every reachable element.
        unsafe { Self::new(slice.as_ptr().cast(), layout) }
    }

    /// Dtype, shape, strides.
    #[must_use]
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Extent of each axis.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        &self.layout.shape
    }

    /// The opaque value, if this is one.
    #[must_use]
    pub fn opaque(&self) -> Option<&'a (dyn Any + Send + Sync)> {
        self.opaque.map(|o| &*o.value)
    }

    fn pointer<T: Element>(&self) -> *const T {
        assert!(self.opaque.is_none() && self.layout.dtype == T::DTYPE, "chunk holds {}, not {}", self.layout.dtype, T::DTYPE);
        self.data.cast()
    }

    /// All elements of a contiguous chunk.
    ///
    /// # Panics
    /// If the chunk is strided or of another dtype.
    #[must_use]
    pub fn slice<T: Element>(&self) -> &'a [T] {
        self.try_slice().expect("chunk is strided")
    }

    /// All elements, if the chunk is contiguous.
    ///
    /// # Panics
    /// If it is of another dtype.
    #[must_use]
    pub fn try_slice<T: Element>(&self) -> Option<&'a [T]> {
        let pointer = self.pointer::<T>();
        // SAFETY: contiguous, so `len` elements from `pointer` are exactly those reachable through the layout.
        self.layout.is_contiguous().then(|| unsafe { std::slice::from_raw_parts(pointer, self.layout.len()) })
    }

    /// The rows along the last axis, in C order.
    ///
    /// # Panics
    /// If the last axis is strided, or the dtype another.
    pub fn rows<T: Element>(&self) -> impl ExactSizeIterator<Item = &'a [T]> + use<'a, T> {
        let view = *self;
        (0..self.layout.rows().0).map(move |r| view.row(r))
    }

    /// Row `r` (C order over all axes but the last).
    ///
    /// # Panics
    /// If there is no such row, the last axis is strided, or the dtype another.
    #[must_use]
    pub fn row<T: Element>(&self, r: usize) -> &'a [T] {
        let pointer = self.pointer::<T>();
        let (rows, len) = self.layout.rows();
        assert!(r < rows, "row {r} of {rows}");
        self.layout.assert_rows_are_slices();
        if len == 0 {
            return &[]; // its address is nobody's: strides of empty chunks are not checked, and may lead anywhere, to null too
        }
        // SAFETY: r < rows, so the row lies inside the layout, which the maker proved to be readable.
        unsafe { std::slice::from_raw_parts(pointer.add(self.layout.row_offset(r)), len) }
    }

    /// The bytes of row `r`, whatever the dtype.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn row_bytes(&self, r: usize) -> &'a [u8] {
        let (rows, len) = self.layout.rows();
        assert!(r < rows && self.opaque.is_none(), "row {r} of {rows}");
        self.layout.assert_rows_are_slices();
        let size = self.layout.dtype.bytes();
        if len == 0 {
            return &[];
        }
        // SAFETY: r < rows, so the row lies inside the layout, which the maker proved to be readable.
        unsafe { std::slice::from_raw_parts(self.data.add(self.layout.row_offset(r) * size), len * size) }
    }

    /// All bytes of a contiguous chunk.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn try_bytes(&self) -> Option<&'a [u8]> {
        assert!(self.opaque.is_none(), "an opaque value has no bytes");
        // SAFETY: contiguous, so these bytes are exactly those of the elements reachable through the layout.
        let all = || unsafe { std::slice::from_raw_parts(self.data, self.layout.bytes() as usize) };
        self.layout.is_contiguous().then(all)
    }

    /// A view of numbers in C order that lie in `bytes`; `None` if they are too few or not aligned, or no numbers of the dtype.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn from_bytes(bytes: &'a [u8], layout: &'a Layout) -> Option<Self> {
        let size = layout.dtype.bytes();
        let fits = bytes.len() as u64 >= layout.bytes() && bytes.as_ptr().addr().is_multiple_of(size);
        let valid = || layout.dtype != DType::Bool || bytes[..layout.len()].iter().all(|&byte| byte <= 1);
        // SAFETY: bounds and alignment were just checked; any bytes are valid numbers, and those of a bool were looked at.
        (fits && layout.is_contiguous() && valid()).then(|| unsafe { Self::new(bytes.as_ptr(), layout) })
    }

    /// Element `i` of row `r`, whatever the strides.
    ///
    /// # Panics
    /// If there is no such element, or the dtype is another.
    #[must_use]
    pub fn at<T: Element>(&self, r: usize, i: usize) -> T {
        let (rows, len) = self.layout.rows();
        assert!(r < rows && i < len, "element ({r}, {i}) of {rows} rows of {len}");
        // SAFETY: (r, i) is reachable through the layout, which the maker proved to be readable.
        unsafe { *self.pointer::<T>().add(self.layout.row_offset(r) + i * last(self.layout)) }
    }

    /// Number of rows along the last axis.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn row_count(&self) -> usize {
        self.layout.rows().0
    }

    /// Whether the rows along the last axis are slices.
    #[must_use]
    pub fn has_row_slices(&self) -> bool {
        self.layout.has_row_slices()
    }
}

/// Exclusive access to one chunk. Its memory may be uninitialised until written: a kernel writes every element of an
/// output, and never reads one it has not written (an Update operand comes initialised).
pub struct ChunkViewMut<'a> {
    layout: &'a Layout,
    data: *mut u8,
    opaque: Option<&'a mut Option<Opaque>>,
    lifetime: PhantomData<&'a mut u8>,
}

// SAFETY: a ChunkViewMut is an exclusive borrow of plain numbers.
unsafe impl Send for ChunkViewMut<'_> {}

impl<'a> ChunkViewMut<'a> {
    /// An exclusive view of the bytes at `data`.
    ///
    /// # Safety
    /// As [`ChunkView::new`], and for `'a` nothing else reads or writes the reachable elements. (Other views may interleave
    /// with them in one array.) Fresh memory must hold valid values of the dtype; the allocators see to it.
    pub(crate) unsafe fn new(data: *mut u8, layout: &'a Layout) -> Self {
        Self { layout, data, opaque: None, lifetime: PhantomData }
    }

    /// A place for an opaque value.
    pub(crate) fn of_opaque(place: &'a mut Option<Opaque>, layout: &'a Layout) -> Self {
        Self { layout, data: std::ptr::dangling_mut(), opaque: Some(place), lifetime: PhantomData }
    }

    /// An exclusive view of a slice; for tests and for callers that hold plain slices.
    ///
    /// # Panics
    /// If `slice` is shorter than `layout` reaches, or of another dtype, or a stride is negative.
    pub fn from_slice<T: Element>(slice: &'a mut [T], layout: &'a Layout) -> Self {
        assert!(
            layout.dtype == T::DTYPE && layout.checked_span().is_some_and(|span| span <= slice.len()),
            "layout {layout:?} over {} {}",
            slice.len(),
            T::DTYPE
        );
        // SAFETY: the slice is borrowed exclusively for 'a and covers every reachable element.
        unsafe { Self::new(slice.as_mut_ptr().cast(), layout) }
    }

    /// Dtype, shape, strides.
    #[must_use]
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Extent of each axis.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        &self.layout.shape
    }

    /// Sets the opaque value of this output.
    ///
    /// # Panics
    /// If the output is an array chunk.
    pub fn set_opaque(&mut self, value: Opaque) {
        **self.opaque.as_mut().expect("output is an array chunk, not an opaque value") = Some(value);
    }

    /// The same chunk, read only, for as long as `self` is not written.
    #[must_use]
    pub fn as_view(&self) -> ChunkView<'_> {
        assert!(self.opaque.is_none(), "output is an opaque value");
        ChunkView { layout: self.layout, data: self.data, opaque: None, lifetime: PhantomData }
    }

    fn pointer<T: Element>(&mut self) -> *mut T {
        assert!(self.opaque.is_none() && self.layout.dtype == T::DTYPE, "chunk holds {}, not {}", self.layout.dtype, T::DTYPE);
        self.data.cast()
    }

    /// All elements of a contiguous chunk.
    ///
    /// # Panics
    /// If the chunk is strided or of another dtype.
    pub fn slice_mut<T: Element>(&mut self) -> &mut [T] {
        self.try_slice_mut().expect("chunk is strided")
    }

    /// All elements, if the chunk is contiguous.
    ///
    /// # Panics
    /// If it is of another dtype.
    pub fn try_slice_mut<T: Element>(&mut self) -> Option<&mut [T]> {
        let pointer = self.pointer::<T>();
        // SAFETY: contiguous, so `len` elements from `pointer` are exactly those reachable through the layout; `&mut self`.
        self.layout.is_contiguous().then(|| unsafe { std::slice::from_raw_parts_mut(pointer, self.layout.len()) })
    }

    /// Row `r` (C order over all axes but the last).
    ///
    /// # Panics
    /// If there is no such row, the last axis is strided, or the dtype another.
    pub fn row_mut<T: Element>(&mut self, r: usize) -> &mut [T] {
        let pointer = self.pointer::<T>();
        let (rows, len) = self.layout.rows();
        assert!(r < rows, "row {r} of {rows}");
        self.layout.assert_rows_are_slices();
        if len == 0 {
            return &mut [];
        }
        // SAFETY: r < rows, so the row lies inside the layout, exclusively borrowed through `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(pointer.add(self.layout.row_offset(r)), len) }
    }

    /// All rows of a matrix `(m, n)` at once, each a slice.
    ///
    /// # Panics
    /// If the chunk is not 2-d, its rows overlap, the last axis is strided, or the dtype another.
    pub fn rows_mut<T: Element>(&mut self) -> impl ExactSizeIterator<Item = &mut [T]> {
        let (rows, len) = self.layout.rows();
        let step = self.layout.row_step();
        let data = self.pointer::<T>();
        (0..rows).map(move |r| {
            if len == 0 {
                return &mut [][..];
            }
            // SAFETY: row r < rows lies inside the layout, exclusively borrowed through `&mut self`; `row_step` proved that the
            // rows do not overlap, and each is handed out once.
            unsafe { std::slice::from_raw_parts_mut(data.add(r * step), len) }
        })
    }

    /// Number of rows along the last axis.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.layout.rows().0
    }

    /// Whether the rows along the last axis are slices.
    #[must_use]
    pub fn has_row_slices(&self) -> bool {
        self.layout.has_row_slices()
    }

    /// Sets element `i` of row `r`, whatever the strides.
    ///
    /// # Panics
    /// If there is no such element, or the dtype is another.
    pub fn set<T: Element>(&mut self, r: usize, i: usize, value: T) {
        let (rows, len) = self.layout.rows();
        assert!(r < rows && i < len, "element ({r}, {i}) of {rows} rows of {len}");
        let offset = self.layout.row_offset(r) + i * last(self.layout);
        // SAFETY: (r, i) is reachable through the layout, exclusively borrowed through `&mut self`.
        unsafe { *self.pointer::<T>().add(offset) = value }
    }

    /// Copies `from` here, element by element in C order.
    ///
    /// # Panics
    /// If shapes or dtypes differ, or one is an opaque value.
    pub fn copy_from(&mut self, from: ChunkView<'_>) {
        assert!(self.opaque.is_none() && from.opaque.is_none(), "an opaque value has no elements to copy");
        assert!(self.layout.shape == from.layout.shape && self.layout.dtype == from.layout.dtype, "copy between unlike chunks");
        if self.layout.is_empty() {
            return;
        }
        let size = self.layout.dtype.bytes();
        let (rows, len) = self.layout.rows();
        let (to_step, from_step) = (last(self.layout), last(from.layout));
        for r in 0..rows {
            // SAFETY: row r of both layouts is in bounds; `self` is exclusive, so the two do not overlap.
            unsafe {
                let to = self.data.add(self.layout.row_offset(r) * size);
                let source = from.data.add(from.layout.row_offset(r) * size);
                if to_step == 1 && from_step == 1 {
                    std::ptr::copy_nonoverlapping(source, to, len * size);
                } else {
                    for i in 0..len {
                        std::ptr::copy_nonoverlapping(source.add(i * from_step * size), to.add(i * to_step * size), size);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_window() {
        let data: Vec<i32> = (0..12).collect();
        let layout = Layout { dtype: DType::I32, shape: vec![2, 2], strides: vec![4, 1] };
        let view = ChunkView::from_slice(&data[5..], &layout);
        assert_eq!(view.rows::<i32>().collect::<Vec<_>>(), [[5, 6], [9, 10]]);
        assert!(view.try_slice::<i32>().is_none());
        let mut out = vec![0; 4];
        let flat = Layout::contiguous(DType::I32, &[2, 2]);
        ChunkViewMut::from_slice(&mut out, &flat).copy_from(view);
        assert_eq!(out, [5, 6, 9, 10]);
    }

    #[test]
    fn layouts_that_leave_their_memory_are_refused() {
        let layout =
            |shape: &[usize], strides: &[isize]| Layout { dtype: DType::I32, shape: shape.into(), strides: strides.into() };
        for bad in [
            layout(&[2, 2], &[-2, 1]),
            layout(&[5], &[]),
            layout(&[usize::MAX, usize::MAX], &[0, 0]),
            layout(&[4], &[isize::MAX]),
        ] {
            assert_eq!(bad.checked_span(), None, "{bad:?}");
            let view = std::panic::catch_unwind(|| ChunkView::from_slice(&[1, 2, 3, 4], &bad).shape().len());
            assert!(view.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn empty_rows_have_no_address() {
        let layout = Layout::contiguous(DType::I32, &[5, 0]);
        assert!(ChunkView::from_slice(&[0i32; 0], &layout).rows::<i32>().all(<[i32]>::is_empty));
        let mut none = [0i32; 0];
        assert!(ChunkViewMut::from_slice(&mut none, &layout).row_mut::<i32>(4).is_empty());
        // Strides that would lead from the slice to address 0, which no slice may have.
        let to_null = (usize::MAX - none.as_ptr().addr() + 1) / 4;
        let layout = Layout { strides: vec![to_null as isize, 1], ..layout };
        assert!(ChunkView::from_slice(&none, &layout).row::<i32>(1).is_empty());
        let mut to = ChunkViewMut::from_slice(&mut none, &layout);
        assert!(to.row_mut::<i32>(1).is_empty() && to.rows_mut::<i32>().all(|row| row.is_empty()));
        to.copy_from(ChunkView::from_slice(&[0i32; 0], &layout));
    }

    #[test]
    fn an_opaque_value_has_no_elements() {
        let layout = Layout::contiguous(DType::U8, &[]);
        let value = Opaque { value: Arc::new("a value"), bytes: 8 };
        let panics = |what: &mut dyn FnMut()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(what)).is_err();
        let mut place = None;
        assert!(panics(&mut || ChunkViewMut::of_opaque(&mut place, &layout).copy_from(ChunkView::from_slice(&[1u8], &layout))));
        let mut bytes = [0u8];
        let from = ChunkView::of_opaque(&value, &layout);
        assert!(panics(&mut || ChunkViewMut::from_slice(&mut bytes, &layout).copy_from(from)));
        assert!(panics(&mut || assert_eq!(from.at::<u8>(0, 0), 0)));
        assert_eq!(from.opaque().and_then(|v| v.downcast_ref::<&str>()), Some(&"a value"));
    }

    #[test]
    #[should_panic(expected = "chunk holds i32, not f32")]
    fn another_dtype_panics() {
        let layout = Layout::contiguous(DType::I32, &[1]);
        let _ = ChunkView::from_slice(&[1], &layout).slice::<f32>();
    }
}
