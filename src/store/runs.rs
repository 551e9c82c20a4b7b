//! A box of a stored array as runs of consecutive elements.
//!
//! Owns: [`runs`]. Must not know: files, bytes. Invariant: runs come in C order of the box, cover it once, and each is
//! consecutive both in storage (up to its step) and in the target.

use crate::error::Result;
use crate::shape::AxisRange;

/// Consecutive elements: `len` of them, `step` apart in storage from element `from` on, next to each other in the target
/// from element `to` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ElementRun {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) len: usize,
    pub(crate) step: usize,
}

/// Calls `each` for every run of the box `inner` of storage with extents `block`; the target has extents `full`, and the box
/// lies there from index `at` on. Runs go over the ends of the target's rows only if `merge`.
pub(crate) fn runs(
    block: &[usize],
    inner: &[AxisRange],
    (full, at, merge): (&[usize], &[usize], bool),
    each: &mut dyn FnMut(ElementRun) -> Result<()>,
) -> Result<()> {
    let rank = block.len();
    if inner.iter().any(|a| a.len == 0) {
        return Ok(());
    }
    let (from_strides, to_strides) = (strides(block), strides(full));
    // The axes from `first` on make one run: all but the first of them are whole in storage and in the target.
    let mut first = rank.saturating_sub(1);
    while merge
        && first > 0
        && inner[first].len == block[first]
        && inner[first].len == full[first]
        && inner[first - 1].step == 1
        && inner[first].step == 1
    {
        first -= 1;
    }
    let len = inner[first.min(rank)..].iter().map(|a| a.len).product();
    let step = inner.last().map_or(1, |a| a.step);
    let mut index = vec![0usize; first];
    loop {
        let position = |axis: usize| if axis < first { index[axis] } else { 0 };
        let from = (0..rank).map(|axis| (inner[axis].start + position(axis) * inner[axis].step) * from_strides[axis]).sum();
        let to = (0..rank).map(|axis| (at[axis] + position(axis)) * to_strides[axis]).sum();
        each(ElementRun { from, to, len, step })?;
        let mut axis = first;
        loop {
            let Some(next) = axis.checked_sub(1) else { return Ok(()) };
            axis = next;
            index[axis] += 1;
            if index[axis] < inner[axis].len {
                break;
            }
            index[axis] = 0;
        }
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: usize, len: usize, step: usize) -> AxisRange {
        AxisRange { start, len, step }
    }

    fn all(block: &[usize], inner: &[AxisRange], full: &[usize], at: &[usize], merge: bool) -> Vec<ElementRun> {
        let mut found = Vec::new();
        runs(block, inner, (full, at, merge), &mut |run| {
            found.push(run);
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn whole_rows_merge_only_where_both_sides_allow() {
        let slab = [range(1, 2, 1), range(0, 5, 1)];
        assert_eq!(all(&[4, 5], &slab, &[2, 5], &[0, 0], true), [ElementRun { from: 5, to: 0, len: 10, step: 1 }]);
        assert_eq!(all(&[4, 5], &slab, &[2, 5], &[0, 0], false).len(), 2);
        assert_eq!(all(&[4, 5], &slab, &[2, 9], &[0, 4], true)[1], ElementRun { from: 10, to: 13, len: 5, step: 1 });
        assert_eq!(all(&[], &[], &[], &[], true), [ElementRun { from: 0, to: 0, len: 1, step: 1 }]);
        assert!(all(&[0, 5], &[range(0, 0, 1), range(0, 5, 1)], &[0, 5], &[0, 0], true).is_empty());
    }

    #[test]
    fn steps_on_both_axes() {
        let found = all(&[6, 8], &[range(1, 2, 3), range(0, 3, 2)], &[2, 3], &[0, 0], true);
        assert_eq!(found, [ElementRun { from: 8, to: 0, len: 3, step: 2 }, ElementRun { from: 32, to: 3, len: 3, step: 2 }]);
    }
}
