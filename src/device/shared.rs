//! Elements of an array that others have too.
//!
//! Owns: [`SharedElements`]. Must not know: what they are used for. Invariant: it holds the array, so that nobody can write it: whoever wants to gets a copy of
//! his own (`ndarray::ArcArray` copies on write).
#![allow(unsafe_code)] // ndarray shows a strided array's memory by pointer only

use ndarray::{ArcArray, IxDyn};

use crate::shape::{Element, Layout};

/// All elements from the lowest to the highest that the array reaches in memory.
pub(crate) struct SharedElements<T> {
    array: ArcArray<T, IxDyn>,
    /// Elements from the lowest one to the array's first.
    before: usize,
    len: usize,
}

impl<T: Element> SharedElements<T> {
    /// Those of this array.
    pub(crate) fn new(array: ArcArray<T, IxDyn>) -> Self {
        let layout = Layout { dtype: T::DTYPE, shape: array.shape().to_vec(), strides: array.strides().to_vec() };
        let (before, from) = layout.reach().expect("an array that is in memory");
        Self { array, before, len: before + from }
    }

    /// The number, among the elements, of the array's first.
    pub(crate) fn first(&self) -> usize {
        self.before
    }
}

impl<T: Element> AsRef<[T]> for SharedElements<T> {
    fn as_ref(&self) -> &[T] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: lowest and highest element are the array's own, so all between them are of its one allocation, which `self` holds a share of; while it does, nobody
        // gets a `&mut` of them. ndarray keeps that as a vector of `T`s, all of them initialised (who says `assume_init` of an array promises it for its vector too:
        // `into_raw_vec_and_offset` hands it out).
        unsafe { std::slice::from_raw_parts(self.array.as_ptr().sub(self.before), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArcArray2, s};

    use super::*;

    #[test]
    fn elements_are_those_of_the_memory() {
        let all = ArcArray2::from_shape_fn((4, 5), |(i, j)| (10 * i + j) as i32);
        let part = all.clone().slice_move(s![1..;2, ..;-2]);
        let shared = SharedElements::new(part.into_dyn());
        assert_eq!((shared.as_ref().first(), shared.as_ref().last(), shared.as_ref().len()), (Some(&10), Some(&34), 15));
        assert_eq!(shared.as_ref()[shared.first()], 14);
        assert!(SharedElements::new(all.slice_move(s![..0, ..]).into_dyn()).as_ref().is_empty());
    }
}
