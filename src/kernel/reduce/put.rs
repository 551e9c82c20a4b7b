//! Loops over lines that have an element of each of many runs.
//!
//! Owns: one line at a time, and several whose elements go to the same lanes. Must not know: where lines are. Invariant: each run takes its elements in by their numbers, or
//! their order does not matter.

use bytemuck::{Zeroable, cast_slice, cast_slice_mut};

use super::folds::{Fold, LANES, One, Sum, Summand, eight_of, vectorized};
use crate::kernel::map::{Last, ROWS, Strip};
use crate::kernel::stream;

pub(super) fn put<F: Fold>(lanes: &mut [u64], strip: Strip<'_>, at: u64, is_first: bool) {
    let x = cast_slice::<u8, F::Item>(strip.bytes());
    put_made::<F>(lanes, (x, x), (at, is_first), |x, _| x);
}

pub(super) fn put_sum<T: Summand>(lanes: &mut [u64], strip: Strip<'_>, at: u64, is_first: bool)
where
    One<Sum<T>>: Fold<Item = T>,
{
    let (two, how) = (|| (cast_slice(strip.args[0]), cast_slice(strip.args[1])), (at, is_first));
    match strip.last {
        Last::Done => put::<One<Sum<T>>>(lanes, strip, at, is_first),
        Last::Add => put_made::<One<Sum<T>>>(lanes, two(), how, |a, b| a + b),
        Last::Sub => put_made::<One<Sum<T>>>(lanes, two(), how, |a, b| a - b),
        Last::Mul => put_made::<One<Sum<T>>>(lanes, two(), how, |a, b| a * b),
        Last::SubSquare => put_made::<One<Sum<T>>>(lanes, two(), how, |a, b| (a - b) * (a - b)),
    }
}

#[inline(always)]
fn put_made<F: Fold>(
    lanes: &mut [u64],
    (a, b): (&[F::Item], &[F::Item]),
    (at, is_first): (u64, bool),
    f: impl Fn(F::Item, F::Item) -> F::Item + Copy,
) {
    let lanes: &mut [F::Lanes] = cast_slice_mut(lanes);
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let one = |lanes: &mut F::Lanes, group: &[F::Item; LANES]| match is_first {
        true => *lanes = F::open(group, at),
        false => F::put(lanes, group, at),
    };
    vectorized(
        #[inline(always)]
        || {
            for (lanes, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
                one(lanes, &eight_of(a, b, f));
            }
        },
    );
    if let (Some(lanes), false) = (lanes.get_mut(a.len()), a_tail.is_empty()) {
        let mut last = [F::Item::zeroed(); LANES];
        for (last, (&a, &b)) in last.iter_mut().zip(a_tail.iter().zip(b_tail)) {
            *last = f(a, b);
        }
        one(lanes, &last);
    }
}

pub(super) fn put_rows<F: Fold>(lanes: &mut [u64], rows: [Strip<'_>; ROWS], at: [u64; ROWS], is_first: bool) {
    let x = rows.map(|row| cast_slice::<u8, F::Item>(row.bytes()));
    put_rows_made::<F>(lanes, (x, x, rows), (at, is_first), |x, _| x);
}

pub(super) fn put_rows_sum<T: Summand>(lanes: &mut [u64], rows: [Strip<'_>; ROWS], at: [u64; ROWS], is_first: bool)
where
    One<Sum<T>>: Fold<Item = T>,
{
    let of = |arg: usize| rows.map(|row| cast_slice::<u8, T>(row.args[arg]));
    let (two, how) = (|| (of(0), of(1), rows), (at, is_first));
    match rows[0].last {
        Last::Done => put_rows::<One<Sum<T>>>(lanes, rows, at, is_first),
        Last::Add => put_rows_made::<One<Sum<T>>>(lanes, two(), how, |a, b| a + b),
        Last::Sub => put_rows_made::<One<Sum<T>>>(lanes, two(), how, |a, b| a - b),
        Last::Mul => put_rows_made::<One<Sum<T>>>(lanes, two(), how, |a, b| a * b),
        Last::SubSquare => put_rows_made::<One<Sum<T>>>(lanes, two(), how, |a, b| (a - b) * (a - b)),
    }
}

/// The operands of rows, and the rows.
type RowOperands<'s, T> = ([&'s [T]; ROWS], [&'s [T]; ROWS], [Strip<'s>; ROWS]);

#[inline(always)]
fn put_rows_made<F: Fold>(
    lanes: &mut [u64],
    (a, b, rows): RowOperands<'_, F::Item>,
    (at, is_first): ([u64; ROWS], bool),
    f: impl Fn(F::Item, F::Item) -> F::Item + Copy,
) {
    let whole = a[0].len() / LANES;
    let ([a0, a1, a2, a3], [b0, b1, b2, b3]) =
        (a.map(|a| &a.as_chunks::<LANES>().0[..whole]), b.map(|b| &b.as_chunks::<LANES>().0[..whole]));
    let ahead = [0, 1].map(|arg| rows.map(|row| row.ahead[arg]));
    let [has_first, has_second] = ahead.map(|rows| rows.iter().any(|row| !row.is_empty()));
    let all: &mut [F::Lanes] = &mut cast_slice_mut(lanes)[..whole];
    vectorized(
        #[inline(always)]
        || {
            for (k, lanes) in all.iter_mut().enumerate() {
                let from = k * size_of::<[F::Item; LANES]>();
                if has_first {
                    ahead[0].iter().for_each(|row| stream::prefetch_at(row, from));
                }
                if has_second {
                    ahead[1].iter().for_each(|row| stream::prefetch_at(row, from));
                }
                let first = eight_of(&a0[k], &b0[k], f);
                let mut eight = if is_first { F::open(&first, at[0]) } else { *lanes };
                if !is_first {
                    F::put(&mut eight, &first, at[0]);
                }
                F::put(&mut eight, &eight_of(&a1[k], &b1[k], f), at[1]);
                F::put(&mut eight, &eight_of(&a2[k], &b2[k], f), at[2]);
                F::put(&mut eight, &eight_of(&a3[k], &b3[k], f), at[3]);
                *lanes = eight;
            }
        },
    );
    if a[0].len() > whole * LANES {
        let words = size_of::<F::Lanes>() / 8;
        for number in 0..ROWS {
            let tail = (&a[number][whole * LANES..], &b[number][whole * LANES..]);
            put_made::<F>(&mut lanes[whole * words..], tail, (at[number], is_first && number == 0), f);
        }
    }
}
