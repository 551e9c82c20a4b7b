//! Generators as inputs of programs: made where they are used, strip by strip.
//!
//! Owns: which ones, and their parameters. Must not know: who reads them. Invariant: what is made so has one reader, or is cheaper to make than to read, and takes no
//! more work than it would as chunks.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use super::super::expr::{Generator, Op, Primitive};
use super::leaves::{FEW_POINTS, points_params};
use crate::error::Result;
use crate::kernel::generate::{Feeds, Generate};
use crate::kernel::points::Points;
use crate::kernel::random::{Random, RandomParams};
use crate::shape::{ChunkGrid, Region, View, ViewAxis};

/// The parameters of a generator for a part of what its reader sees of it.
type PartParams = Rc<dyn Fn(&Region) -> Vec<u8>>;

/// A generator, and what its reader sees of it.
#[derive(Clone)]
pub(super) struct Generated {
    kernel: Arc<dyn Generate>,
    params: PartParams,
}

impl Generated {
    /// Of an op, as it is or through a view, if it can be made so.
    pub(super) fn of(op: &Op, view: Option<&View>) -> Result<Option<Self>> {
        Ok(match &op.primitive {
            Primitive::Generate(Generator::Random { what, seed, stream, shape }, region) => {
                let all = RandomParams::new(*seed, *stream, shape, region)?;
                // What is repeated would be made for each place where it is.
                if view.is_some_and(|view| view.axes().iter().any(ViewAxis::is_repeated)) {
                    return Ok(None);
                }
                let all = if let Some(view) = view { all.seen(view) } else { all };
                if !all.is_in_order(*what, op.dtype) {
                    return Ok(None);
                }
                Some(Self { kernel: Arc::new(Random(*what)), params: Rc::new(move |region| all.part(region).to_bytes()) })
            }
            Primitive::Generate(Generator::Points { spacing, count }, region)
                if view.is_none() && region.axes()[0].len > FEW_POINTS =>
            {
                let (spacing, count, all) = (*spacing, *count, region.clone());
                let params =
                    move |region: &Region| bytemuck::bytes_of(&points_params((spacing, count), &all.part(region))).to_vec();
                Some(Self { kernel: Arc::new(Points), params: Rc::new(params) })
            }
            _ => None,
        })
    }
}

/// The inputs of a program that are made for it.
#[derive(Clone, Default)]
pub(super) struct Fed {
    /// Of each input; of none, if all are chunks.
    inputs: Vec<Option<Generated>>,
}

impl Fed {
    pub(super) fn new(inputs: Vec<Option<Generated>>) -> Self {
        Self { inputs: if inputs.iter().all(Option::is_none) { Vec::new() } else { inputs } }
    }

    /// What the kernel is told.
    pub(super) fn feeds(&self) -> Feeds {
        Feeds::new(self.inputs.iter().map(|made| made.as_ref().map(|made| made.kernel.clone())).collect())
    }

    /// Of a list with an entry for each input, those of the inputs that are chunks.
    pub(super) fn chunks<T: Copy>(&self, all: &[T]) -> Vec<T> {
        let is_chunk = |input: &usize| self.inputs.get(*input).is_none_or(Option::is_none);
        (0..all.len()).filter(is_chunk).map(|input| all[input]).collect()
    }

    /// The parameters of a kernel whose own are these, for a chunk of the inputs.
    pub(super) fn params<'a>(&self, own: Cow<'a, [u8]>, grid: &ChunkGrid, chunk: usize) -> Cow<'a, [u8]> {
        if self.inputs.is_empty() {
            return own;
        }
        let region = grid.region(chunk);
        let made: Vec<Vec<u8>> = self.inputs.iter().flatten().map(|made| (made.params)(&region)).collect();
        Feeds::params(&own, &region.shape(), made.iter().map(Vec::as_slice)).into()
    }
}
