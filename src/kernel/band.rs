//! Ones along diagonals.
//!
//! Owns: the kernel [`Band`]. Must not know: what it is for. Invariant: an element follows from its row and column alone.

use std::borrow::Cow;

use super::rows::fill;
use super::{Fault, Kernel, Scratch, Work, check_params, params};
use crate::error::Result;
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Element, with_dtype};

/// `band`: no input; output: a chunk of a matrix of any dtype, 1 where `low <= column - row <= high`, else 0.
pub struct Band;

/// Parameters of [`Band`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct BandParams {
    /// The lowest diagonal of ones.
    pub low: i64,
    /// The highest.
    pub high: i64,
    /// First row of the chunk in the matrix.
    pub row: u64,
    /// Rows of the matrix from one of the chunk to the next.
    pub row_step: u64,
    /// First column of the chunk in the matrix.
    pub column: u64,
    /// Columns of the matrix from one of the chunk to the next.
    pub column_step: u64,
}

impl BandParams {
    /// Of the columns that are part of the chunk, the number of those before matrix column `column`.
    fn before(&self, column: i128) -> i128 {
        let from = column - i128::from(self.column);
        if from <= 0 { 0 } else { (from - 1) / i128::from(self.column_step.max(1)) + 1 }
    }
}

impl Kernel for Band {
    fn name(&self) -> Cow<'static, str> {
        "band".into()
    }

    fn check(&self, params: &[u8], _: &[ChunkMeta<'_>]) -> Result<()> {
        check_params::<BandParams>(self, params)
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        Work::streaming(operands, 0.0)
    }

    fn run_cpu(
        &self,
        bytes: &[u8],
        _: &[ChunkView<'_>],
        outputs: &mut [ChunkViewMut<'_>],
        _: &mut Scratch<'_>,
    ) -> std::result::Result<(), Fault> {
        let p = params::<BandParams>(bytes);
        with_dtype!(outputs[0].layout().dtype, T => ones::<T>(&p, &mut outputs[0]));
        Ok(())
    }
}

fn ones<T: Element>(p: &BandParams, out: &mut ChunkViewMut<'_>) {
    let one = T::try_from(T::DTYPE.one()).unwrap_or_default(); // it is of this dtype
    fill(out, |r, start, piece: &mut [T]| {
        let row = i128::from(p.row) + r as i128 * i128::from(p.row_step);
        let place = |column: i128| (p.before(column) - start as i128).clamp(0, piece.len() as i128) as usize;
        let (from, to) = (place(row + i128::from(p.low)), place(row + i128::from(p.high) + 1));
        piece.fill(T::default());
        if from < to {
            piece[from..to].fill(one);
        }
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::testing::Chunk;

    proptest! {
        #[test]
        fn ones_are_where_they_belong(
            (low, width) in (-9i64..9, 0i64..5),
            (row, row_step, column, column_step) in (0u64..9, 1u64..4, 0u64..9, 1u64..4),
            (m, n) in (0usize..6, 0usize..9),
        ) {
            let p = BandParams { low, high: low + width - 1, row, row_step, column, column_step };
            let mut found = Chunk::filled(&[m, n], 7u8);
            found.compute(&Band, bytemuck::bytes_of(&p), &[]);
            let wanted = (0..m * n).map(|at| {
                let (i, j) = (row as i64 + (at / n) as i64 * row_step as i64, column as i64 + (at % n) as i64 * column_step as i64);
                u8::from((low..low + width).contains(&(j - i)))
            });
            prop_assert_eq!(found.data, wanted.collect::<Vec<_>>());
        }
    }
}
