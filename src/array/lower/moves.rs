//! Stages that move elements and compute nothing: views, concatenations, other chunks, other shapes.
//!
//! Owns: which chunk is where in which. Must not know: what is in them. Invariant: no element is copied where a view of a chunk shows the same; what is copied
//! is copied once.

use std::rc::Rc;
use std::sync::Arc;

use super::super::grids::{bytes_of, slabs};
use super::draft::{Around, Recipe};
use super::stage::{Make, Need, StageId};
use super::{Destination, Lowering, Piece, TaskKind, extents};
use crate::error::Result;
use crate::kernel::assemble::{Assemble, Pieces, Reflow};
use crate::shape::{ChunkGrid, DType, Layout, View, ViewAxis};

/// How the chunks of a view are had: each shows one of the value's.
pub(super) fn view(view: &View, recipe: &Recipe, around: &Around<'_>) -> Rc<dyn Make> {
    let value = around.stage(recipe.inputs[0]).1.grid.clone();
    let shown = !recipe.grid.is_empty() && {
        // All are shown if along each axis all are: a chunk of the view shows one, and neighbours show others.
        let along = |a: usize| view.axes().iter().position(|axis| axis.along == Some(a as u32));
        (0..value.shape().len()).all(|a| along(a).map_or(1, |k| recipe.grid.count(k)) == value.count(a))
    };
    let task = TaskKind::new(Arc::new(Assemble), format!("copy {}", extents(&recipe.grid)));
    let (view, grid) = (view.clone(), recipe.grid.clone());
    Rc::new(Viewed { view, grid, input: recipe.inputs[0], value, dtype: recipe.dtype, task, shown })
}

struct Viewed {
    view: View,
    grid: ChunkGrid,
    input: StageId,
    value: ChunkGrid,
    dtype: DType,
    task: TaskKind,
    /// Whether all chunks of the value are shown.
    shown: bool,
}

impl Viewed {
    /// Index of the chunk of the value that a chunk shows, and the view of it.
    fn chunk(&self, number: usize) -> (Vec<usize>, View) {
        let region = self.grid.region(number);
        let mut start = self.view.start().to_vec();
        for (axis, range) in self.view.axes().iter().zip(region.axes()) {
            if let Some(along) = axis.along {
                let at = &mut start[along as usize];
                *at = at.wrapping_add_signed(axis.step.wrapping_mul(range.start as isize));
            }
        }
        let index: Vec<usize> = start.iter().enumerate().map(|(a, &at)| self.value.chunk_of(a, at)).collect();
        let within = index.iter().enumerate().map(|(a, &i)| start[a] - self.value.axis_range(a, i).0).collect();
        let axis = |(axis, range): (&ViewAxis, &crate::shape::AxisRange)| ViewAxis {
            extent: range.len,
            step: if range.len > 1 { axis.step } else { 0 },
            ..*axis
        };
        (index, View::new(within, self.view.axes().iter().zip(region.axes()).map(axis).collect()))
    }
}

impl Make for Viewed {
    fn needs(&self, number: usize, needs: &mut Vec<Need>) {
        needs.push((self.input, self.value.number(&self.chunk(number).0)));
    }

    fn make(&self, number: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let (index, view) = self.chunk(number);
        if view.is_whole(&self.value.region_at(&index).shape()) {
            return Ok(given[0]);
        }
        if lw.graph.view_count() < MANY_VIEWS || self.through(number, place).is_some() {
            return lw.viewed(given[0], &view);
        }
        // Of the box that is shown there is a copy, and what is shown of that is the same for many chunks.
        let (mut pieces, mut start) = (Pieces::default(), view.start().to_vec());
        for (a, at) in start.iter_mut().enumerate() {
            let (mut lowest, mut extent) = (*at, 1);
            if let Some(axis) = view.axes().iter().find(|axis| axis.along == Some(a as u32)) {
                let reach = axis.step.unsigned_abs() * (axis.extent - 1);
                extent = reach + 1;
                lowest -= if axis.step < 0 { reach } else { 0 };
            }
            *at -= lowest;
            pieces.axes.push((lowest as u64, vec![extent as u64]));
        }
        let shape: Vec<usize> = pieces.axes.iter().map(|axis| axis.1[0] as usize).collect();
        let out = lw.out(&Destination::Pool, self.dtype, &shape);
        let copy = lw.task(&self.task, &pieces.to_bytes(), given, out)?;
        let seen = View::new(start, view.axes().to_vec());
        if seen.is_whole(&shape) { Ok(copy) } else { lw.viewed(copy, &seen) }
    }

    /// A chunk that is seen in full, each element once and no axis backwards, is made so that it lies as it is seen, if its rows are slices there: kernels
    /// may count on that for what they write.
    fn through(&self, number: usize, place: &Destination) -> Option<Destination> {
        let Destination::Window(array, offset, layout) = place else { return None };
        let (index, view) = self.chunk(number);
        let shape = self.value.region_at(&index).shape();
        let mut strides = Vec::with_capacity(shape.len());
        for (a, &extent) in shape.iter().enumerate() {
            let seen = view.axes().iter().position(|axis| axis.along == Some(a as u32));
            let whole = |&k: &usize| view.axes()[k].extent == extent && (extent == 1 || view.axes()[k].step == 1);
            match seen.filter(whole) {
                Some(k) => strides.push(layout.strides[k]),
                None if extent == 1 => strides.push(1),
                None => return None,
            }
        }
        let repeated = view.axes().iter().any(|axis| axis.along.is_none() && axis.extent > 1);
        let rows = strides.last().zip(shape.last()).is_none_or(|(&stride, &n)| stride == 1 || n <= 1);
        let layout = Layout { dtype: layout.dtype, shape, strides };
        (rows && !repeated).then_some(Destination::Window(*array, *offset, layout))
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        0
    }

    fn needs_all(&self) -> bool {
        self.shown
    }
}

/// How the chunks of a concatenation are had: each is one of an input's.
pub(super) fn concat(axis: usize, recipe: &Recipe, around: &Around<'_>) -> Rc<dyn Make> {
    let mut end = 0;
    let inputs = recipe.inputs.iter().map(|&stage| {
        let grid = around.stage(stage).1.grid.clone();
        end += grid.count(axis);
        (stage, grid, end)
    });
    Rc::new(Joined { axis, inputs: inputs.collect(), grid: recipe.grid.clone() })
}

struct Joined {
    axis: usize,
    /// Each input, its grid, and the number of chunks along the axis up to its end.
    inputs: Vec<(StageId, ChunkGrid, usize)>,
    grid: ChunkGrid,
}

impl Make for Joined {
    fn needs(&self, number: usize, needs: &mut Vec<Need>) {
        let mut index = self.grid.index(number);
        let at = self.inputs.partition_point(|&(_, _, end)| end <= index[self.axis]);
        index[self.axis] -= at.checked_sub(1).map_or(0, |before| self.inputs[before].2);
        needs.push((self.inputs[at].0, self.inputs[at].1.number(&index)));
    }

    fn make(&self, _: usize, given: &[Piece], _: &Destination, _: &mut Lowering) -> Result<Piece> {
        Ok(given[0])
    }

    fn through(&self, _: usize, place: &Destination) -> Option<Destination> {
        Some(place.clone())
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        0
    }
}

/// Bytes of chunks of one grid that are held at a time, if those of another are put together of them one after the other, about.
pub(super) fn held_bytes(from: &ChunkGrid, to: &ChunkGrid, dtype: DType) -> u64 {
    let (mine, theirs, shape) = (from.largest(), to.largest(), from.shape());
    let along = |axis: usize| {
        // Chunks that go on in the next ones along an axis are held for those, with all that are beside them along later axes.
        let goes_on = to.count(axis) > 1 && mine[axis] > theirs[axis];
        let extent = |a: usize| match a.cmp(&axis) {
            std::cmp::Ordering::Less => mine[a].max(theirs[a]),
            std::cmp::Ordering::Equal => mine[a],
            std::cmp::Ordering::Greater => shape[a],
        };
        let extents = (0..shape.len()).map(extent);
        if goes_on { bytes_of(extents, dtype) } else { 0 }
    };
    (0..shape.len()).map(along).max().unwrap_or(0)
}

/// How the chunks of one grid are made of those of another of the same array.
pub(super) fn rechunk(recipe: &Recipe, around: &Around<'_>) -> Rc<dyn Make> {
    let from = around.stage(recipe.inputs[0]).1.grid.clone();
    let (to, rank) = (recipe.grid.clone(), recipe.grid.shape().len());
    let parts = (0..rank).map(|a| to.count(a).div_ceil(from.count(a).max(1))).fold(1usize, usize::saturating_mul);
    let task = TaskKind::new(Arc::new(Assemble), format!("rechunk {}", extents(&to)));
    Rc::new(Rechunked { input: recipe.inputs[0], from, to, dtype: recipe.dtype, task, copies: parts > MOST_PARTS })
}

/// If more chunks than so many are part of one, they are copied out of it: it goes when the last of them is made, not when the last of them is used.
const MOST_PARTS: usize = 64;

/// Beyond so many views of chunks, of which a graph has a limited number, parts are copied too.
const MANY_VIEWS: usize = 30_000;

struct Rechunked {
    input: StageId,
    from: ChunkGrid,
    to: ChunkGrid,
    dtype: DType,
    task: TaskKind,
    copies: bool,
}

impl Rechunked {
    /// Along each axis, the first of the chunks around this one, and how they make it up.
    fn around(&self, number: usize) -> (Vec<usize>, Pieces) {
        let (mut first, mut pieces) = (Vec::new(), Pieces::default());
        for (a, range) in self.to.region(number).axes().iter().enumerate() {
            let (mut at, end) = (range.start, range.start + range.len);
            let chunk = self.from.chunk_of(a, at);
            let mut extents = Vec::new();
            while at < end {
                let (start, extent) = self.from.axis_range(a, chunk + extents.len());
                let until = end.min(start + extent);
                extents.push((until - at) as u64);
                at = until;
            }
            pieces.axes.push(((range.start - self.from.axis_range(a, chunk).0) as u64, extents));
            first.push(chunk);
        }
        (first, pieces)
    }
}

impl Make for Rechunked {
    fn needs(&self, number: usize, needs: &mut Vec<Need>) {
        let (first, pieces) = self.around(number);
        let counts: Vec<usize> = pieces.axes.iter().map(|(_, extents)| extents.len()).collect();
        let all: usize = counts.iter().product();
        needs.extend((0..all).map(|mut n| {
            let mut index = first.clone();
            for (a, &count) in counts.iter().enumerate().rev() {
                index[a] += n % count;
                n /= count;
            }
            (self.input, self.from.number(&index))
        }));
    }

    fn make(&self, number: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let (first, pieces) = self.around(number);
        let shape = self.to.region(number).shape();
        if let &[piece] = given {
            let value = self.from.region_at(&first).shape();
            if value == shape {
                return Ok(piece);
            }
            if !self.copies && lw.graph.view_count() < MANY_VIEWS {
                let start = pieces.axes.iter().map(|axis| axis.0 as usize).collect();
                let axis =
                    |(a, &extent): (usize, &usize)| ViewAxis { extent, along: Some(a as u32), step: isize::from(extent > 1) };
                return lw.viewed(piece, &View::new(start, shape.iter().enumerate().map(axis).collect()));
            }
        }
        let out = lw.out(place, self.dtype, &shape);
        lw.task(&self.task, &pieces.to_bytes(), given, out)
    }

    fn through(&self, number: usize, place: &Destination) -> Option<Destination> {
        let (first, _) = self.around(number);
        let same = self.from.region_at(&first).shape() == self.to.region(number).shape();
        same.then(|| place.clone())
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        0
    }
}

/// The grid by which an array is cut to be put into another shape, or comes out of it: this one, if in each of its chunks the elements follow each other in C
/// order of the array.
pub(super) fn flat(shape: &[usize], dtype: DType, grid: &ChunkGrid) -> Result<ChunkGrid> {
    // Single indices, then an axis that may be cut, then whole axes.
    let largest = grid.largest();
    let cut = (0..shape.len()).find(|&a| largest[a] > 1).unwrap_or(shape.len());
    let is_flat = (cut + 1..shape.len()).all(|a| largest[a] == shape[a]);
    if is_flat { Ok(grid.clone()) } else { slabs(shape, dtype, None) }
}

/// How the chunks of an array in another shape are made: each is a stretch of the elements in C order.
pub(super) fn reshape(recipe: &Recipe, around: &Around<'_>) -> Rc<dyn Make> {
    let from = around.stage(recipe.inputs[0]).1.grid.clone();
    let task = TaskKind::new(Arc::new(Reflow), format!("reshape {}", extents(&recipe.grid)));
    Rc::new(Reshaped { input: recipe.inputs[0], from, to: recipe.grid.clone(), dtype: recipe.dtype, task })
}

struct Reshaped {
    input: StageId,
    from: ChunkGrid,
    to: ChunkGrid,
    dtype: DType,
    task: TaskKind,
}

/// The number, in C order of the array, of the first element of a chunk, and how many it has.
fn stretch(grid: &ChunkGrid, number: usize) -> (usize, usize) {
    let region = grid.region(number);
    let first = region.axes().iter().zip(grid.shape()).fold(0, |at, (axis, &n)| at * n + axis.start);
    (first, region.len())
}

/// The number of the chunk that has an element.
fn chunk_with(grid: &ChunkGrid, mut element: usize) -> usize {
    let mut index = vec![0; grid.shape().len()];
    for (a, &n) in grid.shape().iter().enumerate().rev() {
        index[a] = grid.chunk_of(a, element % n);
        element /= n;
    }
    grid.number(&index)
}

impl Make for Reshaped {
    fn needs(&self, number: usize, needs: &mut Vec<Need>) {
        let (first, len) = stretch(&self.to, number);
        if len > 0 {
            let chunks = chunk_with(&self.from, first)..=chunk_with(&self.from, first + len - 1);
            needs.extend(chunks.map(|chunk| (self.input, chunk)));
        }
    }

    fn make(&self, number: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let (first, _) = stretch(&self.to, number);
        let skip = first - stretch(&self.from, chunk_with(&self.from, first)).0;
        let out = lw.out(place, self.dtype, &self.to.region(number).shape());
        lw.task(&self.task, &(skip as u64).to_ne_bytes(), given, out)
    }
}
