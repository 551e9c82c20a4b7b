//! Typed access to the bytes of one chunk, wherever they lie: a window of a user's array, of a result, or a pooled buffer.
//!
//! Owns: [`ChunkView`], [`ChunkViewMut`]. Must not know: who owns the bytes. Invariant: a view that exists is
//! valid (its maker in `device/buffer.rs` proved bounds and exclusiveness), so everything here is safe to call; asking for
//! the wrong dtype or for a contiguous slice of a strided chunk panics, which the runtime turns into an error. A view's pointer is that of its
//! first element; strides may have either sign, so that others lie before it.
#![allow(unsafe_code)] // the one place where chunk bytes become slices

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::copy::{self, CopyAxis};
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
#[non_exhaustive]
pub struct ChunkMeta<'a> {
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: &'a [usize],
    /// The data, where they exist before the run (caller's arrays).
    pub data: Option<ChunkView<'a>>,
    /// Where a GPU finds the elements, if it reads what a view shows of a value in that value's own buffer; else they are contiguous, from the start of a buffer.
    pub lies: Option<Lies<'a>>,
}

/// Where the elements of an operand are in a buffer, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lies<'a> {
    /// Of the first one.
    pub offset: usize,
    /// From one to the next, along each axis.
    pub strides: &'a [isize],
}

impl<'a> ChunkMeta<'a> {
    /// An operand of which no more is known.
    #[must_use]
    pub fn new(dtype: DType, shape: &'a [usize]) -> Self {
        Self { dtype, shape, data: None, lies: None }
    }

    /// Of what lies somewhere in a buffer, the bytes of that up to its last element; else 0.
    pub(crate) fn end_bytes(&self) -> u64 {
        let Some(lies) = self.lies else { return 0 };
        let ends = self.shape.iter().zip(lies.strides).filter(|(n, stride)| **n > 1 && **stride > 0);
        let last =
            ends.fold(lies.offset as u64, |at, (&n, &stride)| at.saturating_add((n as u64 - 1).saturating_mul(stride as u64)));
        last.saturating_add(1).saturating_mul(self.dtype.bytes() as u64)
    }
}

/// Shared access to one chunk, which may lie in memory by any strides: negative (flipped), 0 (one element for all indices of an axis).
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

    /// The part of this chunk from index `start` on, which lies as `layout` says: some of its indices along each axis, at its strides.
    ///
    /// # Panics
    /// If the layout is of another dtype, has other strides, or reaches out of the chunk.
    pub(crate) fn part<'b>(&self, start: &[usize], layout: &'b Layout) -> ChunkView<'b>
    where
        'a: 'b,
    {
        assert!(self.opaque.is_none(), "an opaque value has no parts");
        let offset = self.layout.part(start, layout);
        // SAFETY: the layout proves that this is the place of an element of `self`, or that there is none.
        ChunkView { layout, data: unsafe { self.data.byte_offset(offset) }, opaque: None, lifetime: PhantomData }
    }

    /// A view of an opaque value.
    pub(crate) fn of_opaque(opaque: &'a Opaque, layout: &'a Layout) -> Self {
        Self { layout, data: std::ptr::dangling(), opaque: Some(opaque), lifetime: PhantomData }
    }

    /// A view of a slice, from its start on; for tests and for callers that hold plain slices.
    ///
    /// # Panics
    /// If `slice` is shorter than `layout` reaches, or of another dtype, or something lies before the first element.
    pub fn from_slice<T: Element>(slice: &'a [T], layout: &'a Layout) -> Self {
        Self::from_slice_at(slice, 0, layout)
    }

    /// A view of a slice, in which the chunk's first element is number `first`.
    ///
    /// ```
    /// use chunkwise::ext::{ChunkView, Layout};
    /// use chunkwise::DType;
    /// let backwards = Layout { dtype: DType::I32, shape: vec![3], strides: vec![-1] };
    /// assert_eq!(ChunkView::from_slice_at(&[1, 2, 3], 2, &backwards).at::<i32>(0, 0), 3);
    /// ```
    ///
    /// # Panics
    /// If `layout` reaches from there out of `slice`, or is of another dtype.
    pub fn from_slice_at<T: Element>(slice: &'a [T], first: usize, layout: &'a Layout) -> Self {
        assert_inside(slice, first, layout);
        // SAFETY: the slice is borrowed for 'a and covers every element that is reached from number `first`, which is inside or at its end.
        unsafe { Self::new(slice.as_ptr().add(first).cast(), layout) }
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
        self.try_slice().expect("chunk is strided: it is no slice, but has rows(), row(r), at(r, i), read(..)")
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
        unsafe { std::slice::from_raw_parts(pointer.offset(self.layout.row_offset(r)), len) }
    }

    /// The bytes of row `r`, whatever the dtype.
    pub(crate) fn row_bytes(&self, r: usize) -> &'a [u8] {
        let (rows, len) = self.layout.rows();
        assert!(r < rows && self.opaque.is_none(), "row {r} of {rows}");
        self.layout.assert_rows_are_slices();
        let size = self.layout.dtype.bytes();
        if len == 0 {
            return &[];
        }
        // SAFETY: r < rows, so the row lies inside the layout, which the maker proved to be readable.
        unsafe { std::slice::from_raw_parts(self.data.offset(self.layout.row_offset(r) * size as isize), len * size) }
    }

    /// All bytes of a contiguous chunk.
    pub(crate) fn try_bytes(&self) -> Option<&'a [u8]> {
        assert!(self.opaque.is_none(), "an opaque value has no bytes");
        // SAFETY: contiguous, so these bytes are exactly those of the elements reachable through the layout.
        let all = || unsafe { std::slice::from_raw_parts(self.data, self.layout.bytes() as usize) };
        self.layout.is_contiguous().then(all)
    }

    /// A view of numbers in C order that lie in `bytes`; `None` if they are too few or not aligned, or no numbers of the dtype.
    #[cfg_attr(not(feature = "gpu"), allow(dead_code))] // GPUs only
    pub(crate) fn from_bytes(bytes: &'a [u8], layout: &'a Layout) -> Option<Self> {
        let fits = bytes.len() as u64 >= layout.bytes() && bytes.as_ptr().addr().is_multiple_of(layout.dtype.align());
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
        unsafe { *self.pointer::<T>().offset(self.layout.row_offset(r) + i as isize * last(self.layout)) }
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

    /// An exclusive view of a slice, from its start on; for tests and for callers that hold plain slices.
    ///
    /// # Panics
    /// If `slice` is shorter than `layout` reaches, or of another dtype; if something lies before the first element, or two indices are one
    /// element.
    pub fn from_slice<T: Element>(slice: &'a mut [T], layout: &'a Layout) -> Self {
        Self::from_slice_at(slice, 0, layout)
    }

    /// An exclusive view of a slice, in which the chunk's first element is number `first`.
    ///
    /// # Panics
    /// If `layout` reaches from there out of `slice`, or is of another dtype, or two indices are one element.
    pub fn from_slice_at<T: Element>(slice: &'a mut [T], first: usize, layout: &'a Layout) -> Self {
        assert_inside(slice, first, layout);
        assert!(layout.is_distinct(), "a chunk to write has each element once, not {layout:?}");
        // SAFETY: the slice is borrowed exclusively for 'a and covers every element that is reached from number `first`, inside or at its end.
        unsafe { Self::new(slice.as_mut_ptr().add(first).cast(), layout) }
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
        self.try_slice_mut().expect("chunk is strided: it is no slice, but has rows_mut(), row_mut(r), set(..), write(..)")
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
        unsafe { std::slice::from_raw_parts_mut(pointer.offset(self.layout.row_offset(r)), len) }
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
            unsafe { std::slice::from_raw_parts_mut(data.offset(r as isize * step), len) }
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
        let offset = self.layout.row_offset(r) + i as isize * last(self.layout);
        // SAFETY: (r, i) is reachable through the layout, exclusively borrowed through `&mut self`.
        unsafe { *self.pointer::<T>().offset(offset) = value }
    }

    /// Sets the elements of row `r` from number `start` on, whatever the strides.
    ///
    /// # Panics
    /// If there are no such elements, or the dtype is another.
    pub fn write<T: Element>(&mut self, r: usize, start: usize, values: &[T]) {
        let (rows, len) = self.layout.rows();
        assert!(
            r < rows && start <= len && values.len() <= len - start,
            "elements {start}.. of row {r} of {rows} rows of {len}"
        );
        let row = CopyAxis { n: values.len(), from: 1, to: last(self.layout) };
        let first = if values.is_empty() { 0 } else { self.layout.row_offset(r) + start as isize * row.to };
        // SAFETY: the elements are reachable through the layout, exclusively borrowed through `&mut self`; `values` is borrowed by itself.
        unsafe { copy::plane(values.as_ptr(), self.pointer::<T>().offset(first), [row, CopyAxis { n: 1, from: 0, to: 0 }]) }
    }

    /// The part of this chunk from index `start` on, which lies so: as [`ChunkView::part`].
    ///
    /// # Panics
    /// As [`ChunkView::part`].
    pub(crate) fn part_mut<'b>(&'b mut self, start: &[usize], layout: &'b Layout) -> ChunkViewMut<'b> {
        assert!(self.opaque.is_none(), "an opaque value has no parts");
        let offset = self.layout.part(start, layout);
        // SAFETY: the layout proves that this is the place of an element of `self`, or that there is none.
        ChunkViewMut { layout, data: unsafe { self.data.byte_offset(offset) }, opaque: None, lifetime: PhantomData }
    }

    /// The same chunk, for a while.
    pub(crate) fn again(&mut self) -> ChunkViewMut<'_> {
        assert!(self.opaque.is_none(), "output is an opaque value");
        ChunkViewMut { layout: self.layout, data: self.data, opaque: None, lifetime: PhantomData }
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
        // SAFETY: both layouts are proved to be there; `self` is exclusive, so the two do not overlap.
        unsafe { copy::copy(from.data, from.layout, self.data, self.layout) }
    }
}

/// Panics unless all that a layout reaches lies in the slice.
fn assert_inside<T: Element>(slice: &[T], first: usize, layout: &Layout) {
    let inside = |(before, from): (usize, usize)| before <= first && first <= slice.len() && from <= slice.len() - first;
    assert!(
        layout.dtype == T::DTYPE && layout.reach().is_some_and(inside),
        "layout {layout:?} from number {first} of {} {}",
        slice.len(),
        T::DTYPE
    );
}

mod read;
#[cfg(test)]
mod tests;
