//! Expressions: what is to be computed, as data.
//!
//! Owns: the closed list of primitives ([`Primitive`]), what follows from one and its inputs ([`Op`]), the user's expressions ([`Node`]). Must not know:
//! tasks, devices. Invariant: an op says all that its result depends on beside its inputs, so that two equal ops on equal inputs are one; nothing here
//! recurses: an expression may be as deep as memory allows, and share its parts as it likes.

use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::grids;
use crate::device::HostBuffer;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::kernel::map::ScalarProgram;
use crate::kernel::points::Spacing;
use crate::kernel::random::Distribution;
use crate::kernel::reduce::Reduction;
use crate::shape::{ChunkGrid, DType, Layout, Region, Scalar, View, ViewAxis};
use crate::task::ChunkSource;

/// What an op does. All that is public is made of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Primitive {
    /// Part of data that exist.
    Source(Existing, Region),
    /// Part of an array whose elements follow from their indices.
    Generate(Generator, Region),
    /// What an affine map shows of the input.
    View(View),
    /// The input's elements in C order, in another shape.
    Reshape,
    /// The inputs one after the other along this axis.
    Concat(usize),
    /// The input, in chunks of the op's grid.
    Rechunk,
    /// What is left of some axes of the input, or of what a program makes of the inputs.
    Reduce(Reduce),
    /// Matrix `(m, k)` times vector `(k,)`.
    Contract,
    /// The lower triangular `L` with `L Lᵀ` the input.
    Factor,
    /// A program on each element of the inputs, which have the result's shape.
    Map(Arc<ScalarProgram>),
    /// A kernel, chunk by chunk.
    Call(Call),
}

/// Data that exist before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Existing {
    /// The caller's memory: from element `offset` on, by the layout's strides, none of which is negative.
    Memory { bytes: Same<HostBuffer>, offset: usize, layout: Layout },
    /// What a source gives.
    Stored(Same<dyn ChunkSource>),
}

/// Where elements come from that follow from their indices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Generator {
    /// Random elements, by their C-order index in an array of this shape.
    Random { what: Distribution, seed: u64, stream: u64, shape: Vec<usize> },
    /// A symmetric positive definite random matrix of this order.
    Spd { seed: u64, stream: u64, order: usize },
    /// So many numbers at equal distances.
    Points { spacing: Spacing, count: usize },
    /// One element, everywhere.
    Constant(Scalar),
    /// A matrix of ones where `low <= column - row <= high`, and zeros.
    Band { low: i64, high: i64, shape: [usize; 2] },
    /// What a function of the user's own makes of an index.
    Indexed { kernel: Same<dyn Kernel>, shape: Vec<usize> },
}

/// What becomes of all elements along some axes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reduce {
    pub(crate) what: Reduction,
    /// The axes that go, ascending.
    pub(crate) axes: Vec<usize>,
    /// Results of chunks that are merged at once.
    pub(crate) split_every: usize,
    /// What is reduced, if not the only input: what this program makes of the inputs, cut so.
    pub(crate) of: Option<(Arc<ScalarProgram>, ChunkGrid)>,
    /// What becomes of the result.
    pub(crate) then: Option<Arc<ScalarProgram>>,
}

impl Reduce {
    /// Its name: with what is done before and after, `square + sum + sqrt`.
    fn name(&self) -> String {
        let of = self.of.iter().filter(|(program, _)| program.computes()).map(|(program, _)| program.name());
        let then = self.then.iter().filter(|program| program.computes()).map(|program| program.name());
        of.chain([self.what.name().to_owned()]).chain(then).collect::<Vec<_>>().join(" + ")
    }

    /// How what is reduced is cut, of an input that is cut so.
    pub(crate) fn cut<'a>(&'a self, input: &'a ChunkGrid) -> &'a ChunkGrid {
        self.of.as_ref().map_or(input, |(_, grid)| grid)
    }
}

/// A kernel that computes a chunk from those of its inputs at the same place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    /// The routine.
    pub(crate) kernel: Same<dyn Kernel>,
    /// Its parameters, the same for all chunks.
    pub(crate) params: Arc<[u8]>,
    /// Of each input, along which axis of the result each of its axes goes.
    pub(crate) along: Vec<Vec<usize>>,
    /// Whether each element follows from those of the inputs at its own index alone: then any grid makes the same, and boxes go through.
    pub(crate) pointwise: bool,
    /// Whether an element is worth so much work that small chunks keep all cores busy.
    pub(crate) busy: bool,
}

/// Something that is known by where it is: two are equal if they are one.
pub(crate) struct Same<T: ?Sized>(pub(crate) Arc<T>);

impl<T: ?Sized> Clone for Same<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
impl<T: ?Sized> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(Arc::as_ptr(&self.0), Arc::as_ptr(&other.0))
    }
}
impl<T: ?Sized> Eq for Same<T> {}
impl<T: ?Sized> Hash for Same<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}
impl<T: ?Sized> std::fmt::Debug for Same<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

/// A primitive, and what is known of its result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Op {
    pub(crate) primitive: Primitive,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    /// How the result is cut, where nobody asks for it otherwise.
    pub(crate) grid: ChunkGrid,
    /// Whether the user chose this grid.
    pub(crate) is_chosen: bool,
    /// Whether the grid follows from one that a user chose, here or of an input.
    pub(crate) is_cut: bool,
    /// Whether its chunks can be made by any grid for the same elements at no more cost.
    pub(crate) is_flexible: bool,
    /// Whether the grid follows from the chunks of a file.
    pub(crate) is_stored: bool,
    /// The widest dtype of what has to be made in chunks as large as its own, itself or for it.
    pub(crate) widest: DType,
}

impl Op {
    /// An op on these inputs, cut by `chosen`, or as follows from it and them.
    ///
    /// # Errors
    /// As the making of grids: none for shapes that were checked.
    pub(crate) fn new(
        primitive: Primitive,
        inputs: &[&Self],
        (shape, dtype): (Vec<usize>, DType),
        chosen: Option<ChunkGrid>,
    ) -> Result<Self> {
        let all_flexible = || inputs.iter().all(|input| input.is_flexible);
        let is_flexible = match &primitive {
            Primitive::Source(..) | Primitive::Generate(..) => true,
            Primitive::View(_) | Primitive::Concat(_) | Primitive::Map(_) => all_flexible(),
            Primitive::Call(call) => call.pointwise && all_flexible(),
            _ => false,
        };
        let follows = matches!(
            primitive,
            Primitive::View(_) | Primitive::Concat(_) | Primitive::Map(_) | Primitive::Call(_) | Primitive::Rechunk
        );
        let is_stored = match &primitive {
            Primitive::Source(Existing::Stored(source), _) => source.0.storage_chunks().is_some(),
            _ => follows && inputs.iter().any(|input| input.is_stored),
        };
        let cuts = follows || matches!(primitive, Primitive::Reduce(_));
        let is_cut = chosen.is_some() || cuts && inputs.iter().any(|input| input.is_cut);
        let is_chosen = chosen.is_some();
        let widest = match &primitive {
            // What lies in memory is read where it is (of a constant, one element), and of what is repeated there is less than is seen.
            Primitive::Source(Existing::Memory { .. }, _) | Primitive::Generate(Generator::Constant(_), _) => DType::U8,
            Primitive::View(view) if view.axes().iter().any(ViewAxis::is_repeated) => DType::U8,
            Primitive::View(_) => inputs[0].widest,
            _ if is_flexible => inputs.iter().fold(dtype, |widest, input| grids::wider(widest, input.widest)),
            _ => dtype,
        };
        let grid = ChunkGrid::single(&[])?;
        let mut op = Self { primitive, shape, dtype, grid, is_chosen, is_cut, is_flexible, is_stored, widest };
        op.grid = match chosen {
            Some(grid) => grid,
            None => grids::natural(&op, inputs)?,
        };
        Ok(op)
    }

    /// What it is called.
    pub(crate) fn name(&self) -> std::borrow::Cow<'static, str> {
        match &self.primitive {
            Primitive::Source(Existing::Memory { .. }, _) => "from_ndarray".into(),
            Primitive::Source(Existing::Stored(_), _) => "from_source".into(),
            Primitive::Generate(Generator::Random { what, .. }, _) => format!("random_{}", what.name()).into(),
            Primitive::Generate(Generator::Spd { .. }, _) => "random_spd".into(),
            Primitive::Generate(Generator::Points { .. }, _) => "points".into(),
            Primitive::Generate(Generator::Constant(_), _) => "full".into(),
            Primitive::Generate(Generator::Band { .. }, _) => "band".into(),
            Primitive::Generate(Generator::Indexed { .. }, _) => "from_shape_fn".into(),
            Primitive::View(_) => "view".into(),
            Primitive::Reshape => "reshape".into(),
            Primitive::Concat(_) => "concatenate".into(),
            Primitive::Rechunk => "rechunk".into(),
            Primitive::Reduce(reduce) => reduce.name().into(),
            Primitive::Contract => "matvec".into(),
            Primitive::Factor => "cholesky".into(),
            Primitive::Map(program) => program.name().into(),
            Primitive::Call(call) => call.kernel.0.name(),
        }
    }

    /// The source that it reads, if it reads one.
    pub(crate) fn stored(&self) -> Option<&Arc<dyn ChunkSource>> {
        match &self.primitive {
            Primitive::Source(Existing::Stored(source), _) => Some(&source.0),
            _ => None,
        }
    }
}

/// A user's expression: an op on the results of others. Cheap to share.
pub(crate) struct Node {
    pub(crate) op: Arc<Op>,
    pub(crate) inputs: Vec<Arc<Node>>,
}

/// A shared expression.
pub(crate) type Expr = Arc<Node>;

impl Node {
    /// The expression of a primitive.
    ///
    /// # Errors
    /// As [`Op::new`].
    pub(crate) fn new(primitive: Primitive, inputs: Vec<Expr>, shape: Vec<usize>, dtype: DType) -> Result<Expr> {
        let ops: Vec<&Op> = inputs.iter().map(|input| &*input.op).collect();
        let op = Op::new(primitive, &ops, (shape, dtype), None)?;
        Ok(Arc::new(Self { op: Arc::new(op), inputs }))
    }

    /// What a program makes of each element of an expression for a reduction, which takes it in strip by strip: so it is cut as the expression is, however wide its elements.
    ///
    /// # Errors
    /// As [`Op::new`].
    pub(crate) fn reduced(program: ScalarProgram, of: &Expr) -> Result<Expr> {
        let inputs: Vec<Expr> = program.inputs().iter().map(|_| of.clone()).collect();
        let (shape, dtype) = (of.op.shape.clone(), program.dtype());
        let op = Op::new(Primitive::Map(program.into()), &[&of.op], (shape, dtype), Some(of.op.grid.clone()))?;
        let (is_chosen, is_cut, widest) = (false, of.op.is_cut, of.op.widest);
        Ok(Arc::new(Self { op: Arc::new(Op { is_chosen, is_cut, widest, ..op }), inputs }))
    }

    /// This expression and all that it depends on, each once; one before its inputs.
    pub(crate) fn all(self: &Arc<Self>) -> Vec<&Expr> {
        let (mut seen, mut all, mut stack) = (HashSet::new(), Vec::new(), vec![self]);
        while let Some(node) = stack.pop() {
            if seen.insert(Arc::as_ptr(node)) {
                all.push(node);
                stack.extend(node.inputs.iter().rev());
            }
        }
        all
    }

    /// The same, cut by a grid that the user chose: made so where it can be, else cut otherwise when it is made.
    ///
    /// # Errors
    /// As [`Op::new`].
    pub(crate) fn cut(self: &Arc<Self>, grid: ChunkGrid) -> Result<Expr> {
        let cuttable = self.op.is_flexible
            || matches!(self.op.primitive, Primitive::Rechunk | Primitive::Map(_) | Primitive::Call(_) | Primitive::Contract)
            || matches!(self.op.primitive, Primitive::Factor) && grids::is_square(&grid);
        if !cuttable {
            return self.rechunked(grid);
        }
        let ops: Vec<&Op> = self.inputs.iter().map(|input| &*input.op).collect();
        let (shape, dtype) = (self.op.shape.clone(), self.op.dtype);
        let op = Op::new(self.op.primitive.clone(), &ops, (shape, dtype), Some(grid))?;
        Ok(Arc::new(Self { op: Arc::new(op), inputs: self.inputs.clone() }))
    }

    /// The same, cut as nobody had said how.
    ///
    /// # Errors
    /// As [`Op::new`].
    pub(crate) fn uncut(self: &Arc<Self>) -> Result<Expr> {
        let mut node = self;
        while node.op.is_chosen && matches!(node.op.primitive, Primitive::Rechunk) {
            node = &node.inputs[0];
        }
        if !node.op.is_chosen {
            return Ok(node.clone());
        }
        let ops: Vec<&Op> = node.inputs.iter().map(|input| &*input.op).collect();
        let op = Op::new(node.op.primitive.clone(), &ops, (node.op.shape.clone(), node.op.dtype), None)?;
        Ok(Arc::new(Self { op: Arc::new(op), inputs: node.inputs.clone() }))
    }

    /// The same elements in chunks of this grid, whatever the chunks that they are made in.
    ///
    /// # Errors
    /// As [`Op::new`].
    pub(crate) fn rechunked(self: &Arc<Self>, grid: ChunkGrid) -> Result<Expr> {
        if self.op.grid == grid {
            return Ok(self.clone());
        }
        let op = Op::new(Primitive::Rechunk, &[&self.op], (self.op.shape.clone(), self.op.dtype), Some(grid))?;
        Ok(Arc::new(Self { op: Arc::new(op), inputs: vec![self.clone()] }))
    }
}

impl Drop for Node {
    /// Takes a long chain apart link by link: dropping each inside the one before would need stack for all of them.
    fn drop(&mut self) {
        let mut stack = std::mem::take(&mut self.inputs);
        while let Some(input) = stack.pop() {
            if let Some(mut last) = Arc::into_inner(input) {
                stack.append(&mut last.inputs);
            }
        }
    }
}
