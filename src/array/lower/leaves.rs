//! Stages that need no other: the caller's memory, sources, what follows from indices.
//!
//! Owns: how their chunks are made. Must not know: who wants them. Invariant: of memory, nothing is copied; of sources and generators only what is asked for is
//! read or made.

use std::rc::Rc;
use std::sync::Arc;

use super::super::expr::{Existing, Generator, Op, Primitive};
use super::draft::Recipe;
use super::fuse::{ChunkParams, Routine};
use super::stage::{Make, Need};
use super::{Destination, Lowering, Named, Piece, TaskKind, extents, window_of};
use crate::device::HostBuffer;
use crate::error::Result;
use crate::id::ArrayId;
use crate::kernel::Kernel;
use crate::kernel::band::{Band, BandParams};
use crate::kernel::indexed::region_params;
use crate::kernel::made::MadeChunk;
use crate::kernel::points::{Points, PointsParams, Spacing};
use crate::kernel::random::{Random, RandomParams, Spd, SpdParams};
use crate::shape::{ChunkGrid, DType, Layout, Region, with_dtype};
use crate::store::{Cut, ReadChunk};

/// How the chunks of a source or of a generator are made.
pub(super) fn make(op: &Op, recipe: &Recipe, lw: &mut Lowering) -> Result<Rc<dyn Make>> {
    let grid = recipe.grid.clone();
    Ok(match &op.primitive {
        Primitive::Source(Existing::Memory { bytes, offset, layout }, region) => {
            let name = Named::Memory(Arc::as_ptr(&bytes.0) as usize);
            let array = lw.array(name, (op.dtype, bytes.0.bytes() / op.dtype.bytes()), || bytes.0.clone())?;
            let (inner, layout) = window_of(layout, region);
            Rc::new(Windows { array, offset: offset + inner, layout, grid })
        }
        Primitive::Source(Existing::Stored(source), region) => {
            let cut = Cut { source: source.0.clone(), region: region.clone(), grid: grid.clone() };
            let params = |number: usize| Ok((number as u64).to_ne_bytes().to_vec());
            made(("read", Arc::new(ReadChunk(cut))), op.dtype, grid, Rc::new(params))
        }
        Primitive::Generate(Generator::Random { what, seed, stream, shape }, region) => {
            let (all, cut) = (RandomParams::new(*seed, *stream, shape, region)?, grid.clone());
            let params = move |number: usize| Ok(all.part(&cut.region(number)).to_bytes());
            made((what.name(), Arc::new(MadeChunk::new(Arc::new(Random(*what)), op.dtype))), op.dtype, grid, Rc::new(params))
        }
        Primitive::Generate(Generator::Spd { seed, stream, order }, region) => {
            let (seed, stream, order, region) = (*seed, *stream, *order as u64, region.clone());
            let cut = grid.clone();
            let params = move |number: usize| {
                let [row, row_step, column, column_step] = rows_and_columns(&region.part(&cut.region(number)));
                let params = SpdParams { seed, stream, row, row_step, column, column_step, order };
                Ok(bytemuck::bytes_of(&params).to_vec())
            };
            made(("spd", Arc::new(Spd)), op.dtype, grid, Rc::new(params))
        }
        Primitive::Generate(Generator::Points { spacing, count }, region) => {
            let (spacing, count, region) = (*spacing, *count, region.clone());
            let of = move |region: &Region| points_params((spacing, count), region);
            let len = region.axes()[0].len;
            if len <= FEW_POINTS {
                let name = Named::Points(spacing, count, region.clone(), op.dtype);
                let array = lw.array(name, (op.dtype, len), || points(&of(&region), len, op.dtype))?;
                return Ok(Rc::new(Windows { array, offset: 0, layout: Layout::contiguous(op.dtype, &[len]), grid }));
            }
            let cut = grid.clone();
            let params = move |number: usize| Ok(bytemuck::bytes_of(&of(&region.part(&cut.region(number)))).to_vec());
            made(("points", Arc::new(MadeChunk::new(Arc::new(Points), op.dtype))), op.dtype, grid, Rc::new(params))
        }
        Primitive::Generate(Generator::Constant(value), _) => {
            let array = lw.one_element(*value)?;
            let (shape, strides) = (grid.shape().to_vec(), vec![0; grid.shape().len()]);
            Rc::new(Windows { array, offset: 0, layout: Layout { dtype: op.dtype, shape, strides }, grid })
        }
        Primitive::Generate(Generator::Band { low, high, .. }, region) => {
            let (low, high, region, cut) = (*low, *high, region.clone(), grid.clone());
            let params = move |number: usize| {
                let [row, row_step, column, column_step] = rows_and_columns(&region.part(&cut.region(number)));
                Ok(bytemuck::bytes_of(&BandParams { low, high, row, row_step, column, column_step }).to_vec())
            };
            made(("band", Arc::new(Band)), op.dtype, grid, Rc::new(params))
        }
        Primitive::Generate(Generator::Indexed { kernel, .. }, region) => {
            let (region, cut) = (region.clone(), grid.clone());
            let params = move |number: usize| Ok(region_params(&region.part(&cut.region(number))));
            made(("from_shape_fn", kernel.0.clone()), op.dtype, grid, Rc::new(params))
        }
        other => unreachable!("{other:?} is no leaf"),
    })
}

fn made((name, kernel): (&str, Arc<dyn Kernel>), dtype: DType, grid: ChunkGrid, params: ChunkParams) -> Rc<dyn Make> {
    let task = TaskKind::new(kernel.clone(), format!("{name} {}", extents(&grid)));
    let routine = Routine { kernel, inputs: Vec::new(), params, grid, dtype, shape: None, first: 0, is_light: true };
    Rc::new(Made { task, routine })
}

/// The parameters of a part of so many points.
pub(super) fn points_params((spacing, count): (Spacing, usize), part: &Region) -> PointsParams {
    let axis = part.axes()[0];
    PointsParams::new(spacing, count, axis.start, axis.step)
}

/// So few points are made when a run is planned, so that what the work on them is can be told.
pub(super) const FEW_POINTS: usize = 1 << 18;

/// Of a part of a matrix its first row, rows from one to the next, and the same of columns.
fn rows_and_columns(part: &Region) -> [u64; 4] {
    let [rows, columns] = [part.axes()[0], part.axes()[1]];
    [rows.start, rows.step, columns.start, columns.step].map(|n| n as u64)
}

/// The numbers of a short axis.
fn points(params: &PointsParams, len: usize, dtype: DType) -> Arc<HostBuffer> {
    with_dtype!(
        dtype in reals,
        T => {
            let mut all = vec![T::default(); len];
            params.fill(0, &mut all);
            HostBuffer::caller(&Arc::new(all))
        },
        _ => unreachable!("{dtype} is no real number")
    )
}

/// Windows of an array that is there.
struct Windows {
    array: ArrayId,
    offset: usize,
    layout: Layout,
    grid: ChunkGrid,
}

impl Make for Windows {
    fn needs(&self, _: usize, _: &mut Vec<Need>) {}

    fn make(&self, number: usize, _: &[Piece], _: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let (offset, layout) = window_of(&self.layout, &self.grid.region(number));
        lw.budget.count_small()?;
        Ok(Piece::of(lw.graph.window(self.array, self.offset + offset, &layout)))
    }

    fn tasks(&self, _: &ChunkGrid) -> usize {
        0
    }
}

/// A task without inputs for each chunk.
struct Made {
    task: TaskKind,
    routine: Routine,
}

impl Make for Made {
    fn needs(&self, _: usize, _: &mut Vec<Need>) {}

    fn make(&self, number: usize, _: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let params = (self.routine.params)(number)?;
        let out = lw.out(place, self.routine.dtype, &self.routine.grid.region(number).shape());
        lw.task(&self.task, &params, &[], out)
    }

    fn routine(&self) -> Option<Routine> {
        Some(self.routine.clone())
    }
}
