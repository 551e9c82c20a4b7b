//! In which order a chunk is gone through that is reduced along some axes.
//!
//! Owns: [`Nest`]. Must not know: what it is reduced to. Invariant: which elements are a run, and in which order, follows from the chunk's shape and the axes alone; how they
//! lie in memory decides only which of them are read side by side.
//!
//! A run is all elements that differ in the last reduced axes alone: as many of these axes, from the last on, as have [`RUN`] elements together. Runs that differ in
//! reduced axes are then joined, in C order.

use crate::kernel::map::Lines;
use crate::shape::{ChunkMeta, ChunkView, Layout};

/// Elements that a run has at least, if there are so many: less than a row of a block of what is gathered, so that a run of several axes is read in its order.
const RUN: usize = 64;
const _: () = assert!(RUN <= Lines::MOST_COLUMNS);
/// Axes along which lines would be shorter are no axes for lines, if there is another.
const SHORT_LINE: usize = 64;
/// Shorter runs are read side by side where that can be.
const SHORT_RUN: usize = 16;

/// The order of axes in which a chunk is read, and what the runs are.
pub(super) struct Nest {
    /// The chunk's axes, in the order in which they are read.
    pub(super) order: Vec<usize>,
    /// Elements of a run.
    pub(super) run: usize,
    /// Results, and runs of each.
    pub(super) kept: usize,
    pub(super) parts: usize,
    /// If lines go across runs: of the axes before those of the runs, extents and how far apart their runs are in the table, and that of the lines' axis.
    pub(super) across: Option<(Vec<(usize, usize)>, usize)>,
    /// Whether the axes of a run are one.
    pub(super) is_one_axis: bool,
    /// The longest axis along which lines could go across runs, 0 if there is none.
    pub(super) longest: usize,
}

impl Nest {
    /// For a chunk of this shape, reduced along these axes (ascending), of which inputs lie so, and others are made, best along these axes.
    pub(super) fn of(shape: &[usize], reduced: &[usize], (inputs, made): (&[ChunkView<'_>], &[usize])) -> Self {
        // Beside an axis of none, others may be of any extent.
        let extent = |axes: &[usize]| axes.iter().fold(1usize, |n, &axis| n.saturating_mul(shape[axis]));
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !reduced.contains(axis)).collect();
        let mut split = reduced.len();
        // Where there is no element, there is one run of none.
        while split > 0 && (extent(&reduced[split..]) < RUN || extent(reduced) == 0) {
            split -= 1;
        }
        let (outer, inner) = reduced.split_at(split);
        let run = extent(inner);
        let before: Vec<usize> = kept.iter().chain(outer).copied().collect();
        // C order of the results and, within each, of its runs.
        let mut strides = vec![0; shape.len()];
        let mut step = 1;
        for &axis in before.iter().rev() {
            strides[axis] = step;
            step = usize::saturating_mul(step, shape[axis]);
        }
        let nearest = nearest_axis(shape, reduced, inputs, made);
        let is_line = |axis: &usize| before.contains(axis) && shape[*axis] >= SHORT_LINE;
        let longest = before.iter().copied().filter(is_line).max_by_key(|&axis| shape[axis]);
        let line = nearest.filter(is_line).or(longest.filter(|_| run < SHORT_RUN));
        let others: Vec<usize> = before.iter().copied().filter(|&axis| Some(axis) != line).collect();
        let order = others.iter().chain(inner).copied().chain(line).collect();
        let across = line.map(|line| (others.iter().map(|&axis| (shape[axis], strides[axis])).collect(), strides[line]));
        let (kept, parts) = (extent(&kept), extent(outer));
        let longest = longest.map_or(0, |axis| shape[axis]);
        Self { order, run, kept, parts, across, is_one_axis: inner.len() == 1, longest }
    }
}

/// The axis along which most of what is read lies closest, or is made best; of two as good a reduced one, along which results stay in registers.
fn nearest_axis(shape: &[usize], reduced: &[usize], inputs: &[ChunkView<'_>], made: &[usize]) -> Option<usize> {
    let mut votes = vec![0usize; shape.len()];
    // To make an element takes longer than to read one.
    made.iter().for_each(|&axis| votes[axis] += 32 * shape.iter().product::<usize>());
    for input in inputs {
        let layout = input.layout();
        let seen = (0..shape.len()).filter(|&axis| shape[axis] > 1 && layout.strides[axis] != 0);
        if let Some(axis) = seen.clone().min_by_key(|&axis| layout.strides[axis].unsigned_abs()) {
            // What is no slice is copied in either case.
            let weight = if layout.strides[axis] == 1 { 2 } else { 1 };
            votes[axis] += weight * seen.map(|axis| shape[axis]).product::<usize>() * layout.dtype.bytes();
        }
    }
    let best = |&axis: &usize| (votes[axis], reduced.contains(&axis));
    (0..shape.len()).rev().max_by_key(best).filter(|&axis| votes[axis] > 0)
}

/// The axis along which most of what a GPU reads lies closest; of two as good the last.
pub(super) fn nearest(shape: &[usize], inputs: &[ChunkMeta<'_>]) -> Option<usize> {
    let mut votes = vec![0usize; shape.len()];
    for input in inputs {
        let whole = Layout::contiguous(input.dtype, shape);
        let strides = input.lies.map_or(&whole.strides[..], |lies| lies.strides);
        let seen = (0..shape.len()).rev().filter(|&axis| shape[axis] > 1 && strides[axis] != 0);
        if let Some(axis) = seen.clone().min_by_key(|&axis| strides[axis].unsigned_abs()) {
            votes[axis] += seen.map(|axis| shape[axis]).product::<usize>() * input.dtype.bytes();
        }
    }
    (0..shape.len()).max_by_key(|&axis| votes[axis]).filter(|&axis| votes[axis] > 0)
}

/// The number, in C order of the whole axes, of an element that has this number in C order of a chunk's.
pub(super) fn whole_number(number: u64, chunk: &[usize], starts: &[u64], extents: &[u64]) -> u64 {
    let (mut rest, mut whole, mut step) = (number, 0, 1);
    for ((&n, start), extent) in chunk.iter().zip(starts).zip(extents).rev() {
        whole += (start + rest % n as u64) * step;
        rest /= n as u64;
        step *= extent;
    }
    whole
}
