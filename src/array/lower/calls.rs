//! Stages that run a kernel, chunk by chunk.
//!
//! Owns: which chunks of the inputs make a chunk. Must not know: which kernel. Invariant: the kernel sees the chunks of one place of all inputs, and each place once.

use std::rc::Rc;
use std::sync::Arc;

use super::super::expr::Call;
use super::draft::{Around, Recipe};
use super::feeds::Fed;
use super::fuse::Routine;
use super::stage::{Make, Need, StageId};
use super::{Destination, Lowering, Piece, TaskKind, extents};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::kernel::map::{Elementwise, ScalarProgram};
use crate::shape::{ChunkGrid, DType};

/// How the chunks of a kernel's result are made.
pub(super) fn make(call: &Call, recipe: &Recipe, around: &Around<'_>) -> Rc<dyn Make> {
    let operand = |(&stage, along): (&StageId, &Vec<usize>)| {
        let grid = around.stage(stage).1.grid.clone();
        let same = *along == (0..recipe.grid.shape().len()).collect::<Vec<_>>();
        Input { stage, placed: (!same).then(|| (along.clone(), grid)) }
    };
    Rc::new(Calls {
        task: TaskKind::new(call.kernel.0.clone(), format!("{} {}", call.kernel.0.name(), extents(&recipe.grid))),
        params: call.params.clone(),
        fed: Fed::default(),
        inputs: recipe.inputs.iter().zip(&call.along).map(operand).collect(),
        grid: recipe.grid.clone(),
        dtype: recipe.dtype,
        is_light: false,
    })
}

/// How the chunks of what is made element by element are made.
pub(super) fn map(program: &Arc<ScalarProgram>, recipe: &Recipe, fed: &Fed) -> Rc<dyn Make> {
    let kernel = Arc::new(Elementwise::new(program.clone()).fed(fed.feeds()));
    Rc::new(Calls {
        task: TaskKind::new(kernel.clone(), format!("{} {}", kernel.name(), extents(&recipe.grid))),
        params: Arc::new([]),
        fed: fed.clone(),
        inputs: fed.chunks(&recipe.inputs).into_iter().map(|stage| Input { stage, placed: None }).collect(),
        grid: recipe.grid.clone(),
        dtype: recipe.dtype,
        is_light: true,
    })
}

struct Calls {
    task: TaskKind,
    params: Arc<[u8]>,
    fed: Fed,
    inputs: Vec<Input>,
    grid: ChunkGrid,
    dtype: DType,
    /// Whether small chunks of it are a CPU's work, whatever a GPU could do.
    is_light: bool,
}

/// An input of a kernel.
struct Input {
    stage: StageId,
    /// If its axes are not those of the result in order: along which they go, and how it is cut.
    placed: Option<(Vec<usize>, ChunkGrid)>,
}

impl Make for Calls {
    fn needs(&self, number: usize, needs: &mut Vec<Need>) {
        needs.extend(self.inputs.iter().map(|Input { stage, placed }| match placed {
            None => (*stage, number),
            Some((along, grid)) => {
                let index = self.grid.index(number);
                (*stage, grid.number(&along.iter().map(|&axis| index[axis]).collect::<Vec<_>>()))
            }
        }));
    }

    fn make(&self, number: usize, given: &[Piece], place: &Destination, lw: &mut Lowering) -> Result<Piece> {
        let out = lw.out(place, self.dtype, &self.grid.region(number).shape());
        lw.task(&self.task, &self.fed.params((&*self.params).into(), &self.grid, number), given, out)
    }

    fn routine(&self) -> Option<Routine> {
        let (params, fed, grid) = (self.params.clone(), self.fed.clone(), self.grid.clone());
        let in_order = self.inputs.iter().all(|input| input.placed.is_none());
        in_order.then(|| Routine {
            kernel: self.task.kernel.clone(),
            inputs: self.inputs.iter().map(|input| input.stage).collect(),
            params: Rc::new(move |chunk| Ok(fed.params((&*params).into(), &grid, chunk).into_owned())),
            grid: self.grid.clone(),
            dtype: self.dtype,
            shape: None,
            first: 0,
            is_light: self.is_light,
        })
    }
}
