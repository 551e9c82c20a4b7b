//! Reading chunks by strides.
//!
//! Owns: how elements are gathered. Must not know: what for. Invariant: what is read is inside the layout, which the view's maker proved to be readable.
#![allow(unsafe_code)] // elements are found by strides

use std::ops::Range;

use super::super::Element;
use super::super::copy::{self, CopyAxis, with_word};
use super::super::layout::{Layout, last};
use super::ChunkView;

impl<'a> ChunkView<'a> {
    /// The same elements, with the axes in this order, which lie as [`Layout::reordered`] says.
    ///
    /// # Panics
    /// If the order does not name each axis once, or the layout is another.
    pub(crate) fn reordered<'b>(&self, order: &[usize], layout: &'b Layout) -> ChunkView<'b>
    where
        'a: 'b,
    {
        let mut axes = order.to_vec();
        axes.sort_unstable();
        let is_order = axes.into_iter().eq(0..self.shape().len());
        assert!(
            is_order && *layout == self.layout.reordered(order) && self.opaque.is_none(),
            "the chunk's axes in another order"
        );
        // SAFETY: what is reached are the elements of this chunk.
        unsafe { ChunkView::new(self.data, layout) }
    }

    /// Copies elements `columns` of each of the rows `rows` (C order over all axes but the last), whatever the strides: element `j` of the `i`-th of these
    /// rows to `to[i * steps[0] + j * steps[1]]`. Rows next to each other are best read at once, as they may lie crosswise.
    ///
    /// # Panics
    /// If there are no such rows or columns, `to` is too short, or the dtype another.
    pub fn read<T: Element>(&self, rows: Range<usize>, columns: Range<usize>, to: &mut [T], steps: [usize; 2]) {
        let from = self.pointer::<T>();
        // SAFETY: the dtype was just checked.
        unsafe { self.read_from(from, rows, columns, (to, steps)) }
    }

    /// The bytes of these elements, row by row without gaps, whatever the dtype.
    ///
    /// # Panics
    /// If there are no such rows or columns, or `to` is too short, or not aligned for the dtype.
    pub(crate) fn read_bytes(&self, rows: Range<usize>, columns: Range<usize>, to: &mut [u8]) {
        assert!(self.opaque.is_none(), "an opaque value has no bytes");
        let steps = [columns.len(), 1];
        with_word!(self.layout.dtype, W => {
            // SAFETY: a word is of an element's size, and no more aligned; any bytes are one.
            unsafe { self.read_from(self.data.cast::<W>(), rows, columns, (bytemuck::cast_slice_mut::<u8, W>(to), steps)) }
        });
    }

    /// Fills `to` with the bytes of the first element of row `r`.
    ///
    /// # Panics
    /// If there is none, or `to` is not whole elements.
    pub(crate) fn spread_bytes(&self, r: usize, to: &mut [u8]) {
        let size = self.layout.dtype.bytes();
        let mut one = [0u64; 2];
        let one: &mut [u8] = bytemuck::cast_slice_mut(&mut one);
        self.read_bytes(r..r + 1, 0..1, &mut one[..size]);
        assert!(to.len().is_multiple_of(size), "whole elements");
        to.chunks_exact_mut(size).for_each(|place| place.copy_from_slice(&one[..size]));
    }

    /// [`ChunkView::read`], where elements are seen as `E`s.
    ///
    /// # Safety
    /// `from` is this chunk's first element, and an `E` can be read wherever an element lies.
    unsafe fn read_from<E: Copy>(
        &self,
        from: *const E,
        rows: Range<usize>,
        columns: Range<usize>,
        (to, steps): (&mut [E], [usize; 2]),
    ) {
        let (count, len) = self.layout.rows();
        assert!(rows.end <= count && columns.end <= len, "elements {columns:?} of rows {rows:?} of {count} rows of {len}");
        let (height, width) = (rows.len(), columns.len());
        if height * width == 0 {
            return;
        }
        let far = |n: usize, step: usize| (n - 1).checked_mul(step);
        let end = far(height, steps[0]).zip(far(width, steps[1])).and_then(|(a, b)| a.checked_add(b));
        assert!(end.is_some_and(|end| end < to.len()), "{height} rows of {width} by {steps:?} into {}", to.len());
        let (step, [down, across]) = (last(self.layout), steps.map(|step| step as isize));
        // Rows along the last axis but one are a plane; further ones lie somewhere else.
        let (deep, apart) = match (&self.layout.shape[..], &self.layout.strides[..]) {
            ([.., deep, _], [.., apart, _]) => (*deep, *apart),
            _ => (1, 0),
        };
        let mut r = rows.start;
        while r < rows.end {
            let n = (deep - r % deep).min(rows.end - r);
            let (row, column) = (CopyAxis { n, from: apart, to: down }, CopyAxis { n: width, from: step, to: across });
            let first = self.layout.row_offset(r) + columns.start as isize * step;
            // SAFETY: the rows and columns are inside the layout, which the maker proved to be readable; of `to` it was just checked; a borrow for
            // writing overlaps with none for reading.
            unsafe {
                let to = to.as_mut_ptr().add((r - rows.start) * steps[0]);
                copy::plane(from.offset(first), to, if down < across { [row, column] } else { [column, row] });
            }
            r += n;
        }
    }
}
