//! An operation with a kernel of the user's own, chunk by chunk.
//!
//! Owns: `with_kernel`, [`AnyArray`]. Must not know: which kernel. Invariant: the kernel sees the chunks of one place of all inputs, by the first
//! input's grid, and each place once; what it says that it does not take is refused where it is called.

use std::borrow::Cow;
use std::iter::once;
use std::sync::Arc;

use super::Array;
use super::leaf::extents;
use super::lower::{Lowering, Op, Target};
use super::node::Node;
use crate::error::{Error, Result, or_panic};
use crate::id::ValueId;
use crate::kernel::{Kernel, Params};
use crate::runtime::Session;
use crate::shape::{ChunkGrid, ChunkMeta, DType, Element};

/// An [`Array`] of any dtype: `&array` is a `&dyn AnyArray`, so arrays of different dtypes are inputs of one kernel.
pub trait AnyArray: sealed::Sealed {
    /// Extent of each axis.
    fn shape(&self) -> &[usize];
    /// Element type.
    fn dtype(&self) -> DType;
}

mod sealed {
    use super::{Arc, Node, Session};

    /// What an array is made of.
    pub struct Parts<'a> {
        pub(super) node: &'a Arc<Node>,
        pub(super) session: Option<&'a Session>,
    }

    pub trait Sealed {
        fn parts(&self) -> Parts<'_>;
    }
}

impl<T: Element> sealed::Sealed for Array<T> {
    fn parts(&self) -> sealed::Parts<'_> {
        sealed::Parts { node: &self.node, session: self.session.as_ref() }
    }
}

impl<T: Element> AnyArray for Array<T> {
    fn shape(&self) -> &[usize] {
        self.shape()
    }
    fn dtype(&self) -> DType {
        T::DTYPE
    }
}

impl<T: Element> Array<T> {
    /// The array whose chunks `kernel` computes from the chunks of this array and of the `others` at the same place: one task for each
    /// chunk of this array's grid, with this array's chunk and then the others' as inputs, and one output of the same shape and of
    /// dtype `U`. The others may be of any dtypes. All tasks have the parameters `params`: any plain data, `&()` if there are none. Where an element is
    /// worth much work, [`Array::chunks`] smaller than the automatic ones keep all cores busy. [`crate::kernel::guide`] says how to write a kernel,
    /// for the CPU and for GPUs.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use chunkwise::kernel::{Fault, Kernel, Scratch, Work, for_each_piece, params};
    /// use chunkwise::prelude::*;
    /// use chunkwise::shape::{ChunkMeta, ChunkView, ChunkViewMut};
    ///
    /// /// How many times a is more than b.
    /// struct Above;
    /// impl Kernel for Above {
    ///     fn name(&self) -> std::borrow::Cow<'static, str> {
    ///         "docs::above".into()
    ///     }
    ///     fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
    ///         let elements = operands[0].shape.iter().product::<usize>() as f64;
    ///         Work { flops: elements, bytes: 13.0 * elements }
    ///     }
    ///     fn run_cpu(
    ///         &self, bytes: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>,
    ///     ) -> std::result::Result<(), Fault> {
    ///         let times = params::<f64>(bytes);
    ///         for_each_piece::<(f64, i32), bool>(inputs, &mut outputs[0], |(a, b), out| {
    ///             out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, &b))| *out = *a > times * f64::from(b));
    ///         });
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let a = Array::from(ndarray::arr1(&[1.0, 9.0, 3.0])).chunks(2);
    /// let b = Array::from(ndarray::arr1(&[2, 4, 3]));
    /// let above: Array<bool> = a.with_kernel(&[&b], Arc::new(Above), &2.0f64);
    /// assert_eq!(above.compute()?, ndarray::arr1(&[false, true, false]).into_dyn());
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the shapes differ, an operation among the inputs is cut into other chunks than this array, the arrays belong to two sessions, or
    /// the kernel does not take such operands. [`Array::try_with_kernel`] returns that as an error.
    #[track_caller]
    pub fn with_kernel<U: Element>(
        &self,
        others: &[&dyn AnyArray],
        kernel: Arc<dyn Kernel>,
        params: &(impl Params + ?Sized),
    ) -> Array<U> {
        or_panic(self.try_with_kernel(others, kernel, params))
    }

    /// [`Array::with_kernel`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes differ, or an input that is itself computed is cut into other chunks than this array;
    /// [`Error::SessionMismatch`]; whatever [`Kernel::check`] says of the parameters, of inputs of these dtypes and an output of `U`, and of the shape
    /// of the largest chunk.
    pub fn try_with_kernel<U: Element>(
        &self,
        others: &[&dyn AnyArray],
        kernel: Arc<dyn Kernel>,
        params: &(impl Params + ?Sized),
    ) -> Result<Array<U>> {
        let mut session = self.session.as_ref();
        let mut inputs = vec![self.node.clone()];
        for other in others {
            if other.shape() != self.shape() {
                let wanted = format!("shape {:?}, as the first input has", self.shape());
                return Err(Error::Shape { op: "with_kernel", found: other.shape().to_vec(), wanted });
            }
            let other = other.parts();
            if session.zip(other.session).is_some_and(|(one, other)| one != other) {
                return Err(Error::SessionMismatch { op: "with_kernel" });
            }
            session = session.or(other.session);
            inputs.push(other.node.clone());
        }
        check_cuts(&inputs, &self.node.grid)?;
        let op = WithKernel { name: kernel.name(), kernel, params: params.bytes().into(), output: U::DTYPE };
        op.check(&inputs, &self.node.grid)?;
        Ok(Array::new(op, inputs, self.shape().to_vec(), session.cloned()))
    }
}

struct WithKernel {
    name: Cow<'static, str>,
    kernel: Arc<dyn Kernel>,
    params: Arc<[u8]>,
    output: DType,
}

/// Leaves can be cut by any grid, results of operations only by their own.
fn check_cuts(inputs: &[Arc<Node>], grid: &ChunkGrid) -> Result<()> {
    match inputs.iter().find(|input| !input.op.is_leaf() && input.grid != *grid) {
        None => Ok(()),
        Some(input) => {
            let (name, wanted) = (input.op.name(), grid.largest());
            let wanted = format!("chunks {wanted:?}, but the input {name} has others: call .chunks() where it is made");
            Err(Error::Shape { op: "with_kernel", found: input.grid.largest(), wanted })
        }
    }
}

impl WithKernel {
    /// What the kernel says of operands like these.
    fn check(&self, inputs: &[Arc<Node>], grid: &ChunkGrid) -> Result<()> {
        let shape = &grid.largest()[..];
        let dtypes = inputs.iter().map(|input| input.dtype).chain(once(self.output));
        let operands: Vec<ChunkMeta<'_>> = dtypes.map(|dtype| ChunkMeta { dtype, shape, data: None }).collect();
        self.kernel.check(&self.params, &operands)
    }
}

impl Op for WithKernel {
    fn name(&self) -> &str {
        &self.name
    }

    fn default_grid(&self, inputs: &[Arc<Node>], _: &[usize], _: DType) -> ChunkGrid {
        inputs[0].grid.clone()
    }

    fn check_grid(&self, inputs: &[Arc<Node>], grid: &ChunkGrid) -> Result<()> {
        check_cuts(inputs, grid)?;
        self.check(inputs, grid)
    }

    fn by_place(&self) -> bool {
        true
    }

    fn whole_inputs(&self, node: &Node, grid: &ChunkGrid, _: &Lowering) -> Result<Vec<(usize, ChunkGrid)>> {
        Ok((0..node.inputs.len()).filter(|&i| !node.inputs[i].in_pieces).map(|i| (i, grid.clone())).collect())
    }

    /// Each task comes next to those that make its inputs, where these can be made one by one: then arrays larger than memory pass through.
    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let numbers = lw.numbers(grid.len());
        lw.expect_tasks(numbers.len())?;
        let mut whole = Vec::with_capacity(node.inputs.len());
        for input in &node.inputs {
            whole.push(if input.in_pieces { None } else { Some(lw.chunks(input, grid)?) });
        }
        let kernel = lw.graph.kernel(self.kernel.clone());
        let label = format!("{} {}", self.name, extents(grid));
        let mut values = Vec::with_capacity(numbers.len());
        for number in numbers {
            let mut chunks: Vec<ValueId> = Vec::with_capacity(node.inputs.len());
            for (i, (input, whole)) in node.inputs.iter().zip(&whole).enumerate() {
                let twin = node.inputs[..i].iter().position(|earlier| Arc::ptr_eq(earlier, input));
                match (twin, whole) {
                    (Some(twin), _) => chunks.push(chunks[twin]),
                    (None, Some(whole)) => chunks.push(whole[number]),
                    (None, None) => chunks.extend(lw.piece(input, grid, number..number + 1)?),
                }
            }
            lw.graph.group(label.as_str());
            let out = lw.output(node, &grid.region(number), target);
            lw.graph.write(kernel, &self.params, &chunks, out)?;
            values.push(out);
        }
        Ok(values)
    }
}
