//! That no two chunks of a result share memory.
//!
//! Owns: the proof, for the windows that a graph's tasks write. Must not know: who made the graph. Invariant: what is accepted is
//! disjoint, element by element; the time is O(n log n) for n windows: a chunk grid of any rank is told within it, and what cannot
//! be is refused.
//!
//! # How
//!
//! Mostly the stretches from first to last element do not overlap, and come in order: one look at each. Where they do overlap
//! (chunks of a matrix narrower than it), their elements are looked at as points: with the strides of all windows there,
//! `s1 > s2 > .. > 1`, an element is `e = s1 x1 + s2 x2 + ..`, each digit taken as large as it can be. A window that stays below `s1` in
//! the digits after the first, below `s2` in those after the second, and so on, is a box of such points; so two windows share an
//! element if and only if their boxes overlap. Boxes are parted where nothing of them lies across a cut: along one axis after the other,
//! again and again, until no axis parts what is left; each of those few is compared with each. A grid is parted when each axis has had
//! its turn once. Every sort of a group is a look at each of its boxes, and so is every comparison; the looks are counted.

use super::{Home, TaskGraph};
use crate::error::{Error, Result};
use crate::id::{ArrayId, ValueId};

/// Looks for each window, at most. A grid needs one for each axis along which a chunk has a step, and those are fewer than 59: two to that
/// power is more elements than an array can have.
const LOOKS: usize = 64;

impl TaskGraph {
    /// Checks every window that a task writes, and not as the next version of what is there.
    pub(super) fn check_windows(&self) -> Result<()> {
        // Of each array: where the windows so far end, if each came after the one before.
        let mut ends = vec![Some(0); self.arrays.len()];
        for (value, array, offset) in self.written_windows() {
            if !self.is_simple(value) {
                return Err(refused(format!("{} with itself", describe(self, value.0))));
            }
            let end = &mut ends[array.index()];
            *end = end.filter(|&end| end <= offset).map(|_| offset + self.span(value));
        }
        for array in (0..ends.len()).map(ArrayId::at).filter(|array| ends[array.index()].is_none()) {
            let mut windows: Vec<u32> = self.written_windows().filter(|w| w.1 == array).map(|w| w.0.0).collect();
            windows.sort_unstable_by_key(|&w| self.offset(w));
            let stretch = |w: u32| (self.offset(w), self.offset(w) + self.span(ValueId(w)));
            for cluster in clusters(&mut windows, stretch) {
                Boxes::new(self, cluster)?.part(cluster)?;
            }
        }
        Ok(())
    }

    /// The windows of results that tasks write first.
    fn written_windows(&self) -> impl Iterator<Item = (ValueId, ArrayId, usize)> + '_ {
        let outputs = self.tasks().flat_map(|task| self.outputs(task));
        outputs.filter_map(|output| {
            let Home::Window { array, offset } = self.home(output.value) else { return None };
            let window = self.window_id(output.value);
            let again = output.updates.is_some_and(|old| self.window_id(old) == window);
            let first = window.is_some() && !again;
            (first && self.bytes(output.value) > 0).then_some((output.value, array, offset))
        })
    }

    fn offset(&self, window: u32) -> usize {
        let Home::Window { offset, .. } = self.home(ValueId(window)) else { return 0 };
        offset
    }

    /// (stride, extent) of each axis of a window along which there is a step.
    fn steps(&self, value: ValueId) -> impl Iterator<Item = (usize, usize)> + '_ {
        let layout = self.layout(value);
        layout.strides.iter().map(|&stride| stride as usize).zip(layout.shape.iter().copied()).filter(|&(_, n)| n > 1)
    }

    /// Elements from the first to the last; the builder has checked that they are in the array.
    fn span(&self, value: ValueId) -> usize {
        1 + self.steps(value).map(|(stride, n)| stride * (n - 1)).sum::<usize>()
    }

    /// Whether no two elements of a window are one: each of its steps leads beyond all that the smaller ones reach.
    fn is_simple(&self, value: ValueId) -> bool {
        let mut steps: Vec<(usize, usize)> = self.steps(value).collect();
        steps.sort_unstable();
        let beyond = |reach: usize, &(stride, n): &(usize, usize)| (stride > reach).then(|| reach + stride * (n - 1));
        steps.iter().try_fold(0, beyond).is_some()
    }
}

/// The parts of `windows` (sorted by where they begin) between which no range goes on; those of one window left out.
fn clusters(windows: &mut [u32], range: impl Fn(u32) -> (usize, usize)) -> Vec<&mut [u32]> {
    let mut found = Vec::new();
    let mut rest = windows;
    while let Some(&first) = rest.first() {
        let mut end = range(first).1;
        let more = rest[1..].iter().take_while(|&&w| {
            let (begin, stop) = range(w);
            let goes_on = begin < end;
            end = end.max(stop);
            goes_on
        });
        let len = 1 + more.count();
        let (cluster, after) = rest.split_at_mut(len);
        if len > 1 {
            found.push(cluster);
        }
        rest = after;
    }
    found
}

/// Windows as boxes of points.
struct Boxes<'a> {
    graph: &'a TaskGraph,
    /// The strides of all windows, falling, the last 1.
    strides: Vec<usize>,
    /// Looks that are left.
    looks: usize,
}

impl<'a> Boxes<'a> {
    fn new(graph: &'a TaskGraph, windows: &[u32]) -> Result<Self> {
        let all = windows.iter().flat_map(|&w| graph.steps(ValueId(w))).map(|(stride, _)| stride);
        let strides: std::collections::BTreeSet<usize> = all.chain([1]).collect();
        let this = Self { graph, strides: strides.into_iter().rev().collect(), looks: windows.len().saturating_mul(LOOKS) };
        let strange = windows.iter().find(|&&w| !this.is_box(w));
        strange
            .map_or(Ok(this), |&w| Err(refused(format!("{} and others around it, as far as can be told", describe(graph, w)))))
    }

    /// Where a window begins and ends along axis number `axis` of the points.
    fn range(&self, window: u32, axis: usize) -> (usize, usize) {
        let rest = self.strides[..axis].iter().fold(self.graph.offset(window), |rest, stride| rest % stride);
        let begin = rest / self.strides[axis];
        let extent = self.graph.steps(ValueId(window)).find(|s| s.0 == self.strides[axis]).map_or(1, |s| s.1);
        (begin, begin + extent)
    }

    /// Whether the digits of a window's elements are those of a box.
    fn is_box(&self, window: u32) -> bool {
        let mut reach = 0usize;
        (0..self.strides.len()).rev().all(|axis| {
            reach += self.strides[axis] * (self.range(window, axis).1 - 1);
            axis == 0 || reach < self.strides[axis - 1]
        })
    }

    /// Parts the boxes until each is alone; what cannot be parted must be few.
    fn part(mut self, windows: &mut [u32]) -> Result<()> {
        let axes = self.strides.len();
        // With each group, the axis to begin with, and how many may part it: that which just did will not.
        let mut left = vec![(windows, 0, axes)];
        'next: while let Some((group, begin, count)) = left.pop() {
            let len = group.len();
            for axis in (begin..begin + count).map(|axis| axis % axes) {
                self.looks = self.looks.checked_sub(len).ok_or_else(|| too_irregular(self.graph, group))?;
                group.sort_by_cached_key(|&w| self.range(w, axis).0);
                // Parted if the first cluster is not all: then each is looked at for itself.
                let (first, mut end) = (group[0], self.range(group[0], axis).1);
                let apart = group.iter().filter(|&&w| w != first).any(|&w| {
                    let (begin, stop) = self.range(w, axis);
                    let gap = begin >= end;
                    end = end.max(stop);
                    gap
                });
                if apart {
                    left.extend(clusters(group, |w| self.range(w, axis)).into_iter().map(|part| (part, axis + 1, axes - 1)));
                    continue 'next;
                }
            }
            self.compare(group)?;
        }
        Ok(())
    }

    /// Compares each with each, if they are few.
    fn compare(&mut self, group: &[u32]) -> Result<()> {
        for (i, &a) in group.iter().enumerate() {
            for &b in &group[i + 1..] {
                self.looks = self.looks.checked_sub(1).ok_or_else(|| too_irregular(self.graph, group))?;
                let meet = |axis| {
                    let (a, b) = (self.range(a, axis), self.range(b, axis));
                    a.0 < b.1 && b.0 < a.1
                };
                if (0..self.strides.len()).all(meet) {
                    return Err(refused(format!("{} with {}", describe(self.graph, a), describe(self.graph, b))));
                }
            }
        }
        Ok(())
    }
}

fn describe(graph: &TaskGraph, window: u32) -> String {
    format!("a window of {:?} from element {} on", graph.shape(ValueId(window)), graph.offset(window))
}

fn too_irregular(graph: &TaskGraph, group: &[u32]) -> Error {
    refused(format!("{} with {} others, as far as can be told", describe(graph, group[0]), group.len() - 1))
}

fn refused(which: String) -> Error {
    Error::argument(
        "result windows that overlap",
        which,
        "windows that share no element: each chunk of a result has one producer",
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::sums::Add;
    use crate::shape::{ChunkGrid, DType, Layout, Region};
    use crate::task::GraphBuilder;

    /// Offset, and (extent, stride) of each axis.
    type Strided = (usize, Vec<(usize, usize)>);

    /// A graph whose tasks write these windows of one result.
    fn check(len: usize, windows: &[Strided]) -> Result<TaskGraph> {
        let mut graph = GraphBuilder::new();
        let (kernel, array) = (graph.kernel(Arc::new(Add)), graph.array(DType::I32, len, true));
        graph.group("windows");
        for (offset, axes) in windows {
            let (shape, strides) = axes.iter().map(|&(n, stride)| (n, stride as isize)).unzip();
            let value = graph.window(array, *offset, &Layout { dtype: DType::I32, shape, strides });
            graph.write(kernel, &[], &[], value)?;
        }
        graph.build()
    }

    fn elements((offset, axes): &Strided) -> Vec<usize> {
        let step = |all: Vec<usize>, &(n, stride): &(usize, usize)| {
            all.iter().flat_map(|at| (0..n).map(move |i| at + i * stride)).collect::<Vec<_>>()
        };
        axes.iter().fold(vec![*offset], step)
    }

    fn disjoint(windows: &[Strided]) -> bool {
        let mut seen = BTreeSet::new();
        windows.iter().flat_map(elements).all(|e| seen.insert(e))
    }

    /// The chunks of a C-ordered matrix (m, n).
    fn grid((m, n): (usize, usize), (rows, columns): (usize, usize)) -> Vec<Strided> {
        let starts = (0..m).step_by(rows).flat_map(|r| (0..n).step_by(columns).map(move |c| (r, c)));
        starts.map(|(r, c)| (r * n + c, vec![(rows.min(m - r), n), (columns.min(n - c), 1)])).collect()
    }

    #[test]
    fn chunk_grids_and_slabs_are_accepted_whatever_their_order() {
        for (shape, chunk) in
            [((7, 9), (2, 4)), ((7, 9), (7, 1)), ((7, 9), (3, 9)), ((1, 9), (1, 2)), ((9, 1), (2, 1)), ((5, 5), (1, 1))]
        {
            let mut windows = grid(shape, chunk);
            assert!(disjoint(&windows) && check(shape.0 * shape.1, &windows).is_ok(), "{shape:?} {chunk:?}");
            windows.reverse();
            assert!(check(shape.0 * shape.1, &windows).is_ok(), "{shape:?} {chunk:?} reversed");
            windows.push(windows[windows.len() / 2].clone());
            let error = check(shape.0 * shape.1, &windows).expect_err("one window twice").to_string();
            assert!(error.contains("overlap"), "{error}");
        }
        // Every second column, and the others; a brick wall.
        assert!(check(40, &[(0, vec![(4, 10), (5, 2)]), (1, vec![(4, 10), (5, 2)])]).is_ok());
        assert!(check(40, &[(0, vec![(4, 10), (5, 2)]), (2, vec![(4, 10), (4, 2)])]).is_err());
        let brick = |r: usize, c: usize, n: usize| (r * 10 + c, vec![(1, 10), (n, 1)]);
        assert!(check(20, &[brick(0, 0, 6), brick(0, 6, 4), brick(1, 0, 3), brick(1, 3, 7)]).is_ok());
    }

    /// The number of axes must not matter to whether a grid is accepted.
    #[test]
    fn chunk_grids_of_many_axes_are_accepted() {
        for (side, chunk, rank) in [(4, 2, 11), (3, 2, 12), (2, 1, 16), (5, 2, 7)] {
            let cut = ChunkGrid::regular(&vec![side; rank], &vec![chunk; rank]).unwrap();
            let whole = Layout::contiguous(DType::I32, cut.shape());
            let window = |region: Region| {
                let axes: Vec<(usize, usize)> =
                    region.axes().iter().zip(&whole.strides).map(|(a, &s)| (a.len, s as usize)).collect();
                (region.axes().iter().zip(&axes).map(|(a, step)| a.start * step.1).sum(), axes)
            };
            let mut windows: Vec<Strided> = (0..cut.len()).map(|number| window(cut.region(number))).collect();
            let len = side.pow(rank as u32);
            check(len, &windows).unwrap_or_else(|e| panic!("{side} / {chunk}, {rank} axes: {e}"));
            windows.push(windows[1].clone());
            assert!(check(len, &windows).is_err(), "one window twice");
        }
        // Every second element and the others, in an array of as many axes as can be.
        let axes: Vec<(usize, usize)> = (1..57).rev().map(|bit| (2, 1 << bit)).collect();
        assert!(check(1 << 57, &[(0, axes.clone()), (1, axes)]).is_ok());
    }

    #[test]
    fn what_is_no_window_is_refused() {
        assert!(check(4, &[(0, vec![(2, 0)])]).is_err(), "an element twice");
        assert!(check(9, &[(0, vec![(2, 1), (2, 1)])]).is_err(), "an element twice");
        assert!(check(4, &[(3, vec![(2, 1)])]).is_err(), "beyond the array");
        assert!(check(4, &[(0, vec![(0, 7), (usize::MAX, usize::MAX)])]).is_err(), "too many elements, though none");
        assert!(check(4, &[(4, vec![(0, 7), (3, 1 << 60)])]).is_ok(), "no element is in nobody's way");
    }

    /// Half a million chunks in any order take well under a second where each is looked at some twenty times.
    #[test]
    fn many_windows_are_checked_fast() {
        let mut windows = grid((700, 700), (1, 1));
        let half = windows.len() / 2;
        windows.rotate_left(half);
        let begin = Instant::now();
        assert!(check(490_000, &windows).is_ok());
        let same = vec![windows[7].clone(); 100_000];
        assert!(check(490_000, &same).is_err());
        // Windows that nothing parts: each crosses the next, as the sails of a mill.
        let mill: Vec<Strided> = (0..20_000).map(|i| (i * 301, vec![(2, 600), (300, 1)])).collect();
        assert!(check(20_000_000, &mill).is_err());
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_disjoint(
            n in 2usize..12,
            made in proptest::collection::vec((0usize..60, 1usize..4, 1usize..5, 0usize..2, 1usize..3), 1..6),
        ) {
            let windows: Vec<Strided> =
                made.iter().map(|&(at, rows, columns, more, step)| (at, vec![(rows, n + more), (columns, step)])).collect();
            if check(200, &windows).is_ok() {
                prop_assert!(disjoint(&windows), "{windows:?}");
            }
        }

        #[test]
        fn boxes_of_a_matrix_are_told_apart_exactly(boxes in proptest::collection::vec((0usize..6, 0usize..6, 1usize..4, 1usize..4), 1..5)) {
            let windows: Vec<Strided> = boxes.iter().map(|&(r, c, m, n)| (r * 9 + c, vec![(m, 9), (n, 1)])).collect();
            prop_assert_eq!(check(100, &windows).is_ok(), disjoint(&windows), "{:?}", windows);
        }
    }
}
