//! An operation with a kernel of the user's own, chunk by chunk.
//!
//! Owns: `with_kernel`, [`AnyArray`]. Must not know: which kernel. Invariant: the kernel sees the chunks of one place of all inputs, by the first
//! input's grid, and each place once; what it says that it does not take is refused where it is called.

use std::iter::once;
use std::sync::Arc;

use super::super::expr::{Call, Expr, Primitive, Same};
use super::super::{Array, common_session};
use crate::error::{Error, Result, or_panic};
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

pub(in super::super) use sealed::ArrayParts;

/// What an array is made of.
pub(in super::super) fn parts(array: &dyn AnyArray) -> ArrayParts<'_> {
    sealed::Sealed::parts(array)
}

mod sealed {
    use super::{Expr, Session};

    /// What an array is made of.
    #[allow(unnameable_types)] // nobody outside has a use for it
    pub struct ArrayParts<'a> {
        pub(in crate::array) node: &'a Expr,
        pub(in crate::array) session: Option<&'a Session>,
    }

    #[allow(unnameable_types)] // the set is closed
    pub trait Sealed {
        fn parts(&self) -> ArrayParts<'_>;
    }
}

impl<T> sealed::Sealed for Array<T> {
    fn parts(&self) -> sealed::ArrayParts<'_> {
        sealed::ArrayParts { node: &self.node, session: self.session.as_ref() }
    }
}

impl<T> AnyArray for Array<T> {
    fn shape(&self) -> &[usize] {
        self.shape()
    }
    fn dtype(&self) -> DType {
        self.dtype()
    }
}

impl<'a, T> From<&'a Array<T>> for &'a (dyn AnyArray + 'a) {
    fn from(array: &'a Array<T>) -> Self {
        array
    }
}

impl<T> Array<T> {
    /// The array whose chunks `kernel` computes from the chunks of this array and of the `others` at the same place: one task for each
    /// chunk of this array's grid, with this array's chunk and then the others' as inputs, and one output of the same shape and of
    /// dtype `U`. The others may be of any dtypes. All tasks have the parameters `params`: any plain data, `&()` if there are none. Where an element is
    /// worth much work, [`Array::chunks`] smaller than the automatic ones keep all cores busy. [`crate::ext`] says how to write a kernel,
    /// for the CPU and for GPUs.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use chunkwise::ext::{Fault, Kernel, Scratch, Work, for_each_piece, params};
    /// use chunkwise::{Array, prelude::*};
    /// use chunkwise::ext::{ChunkMeta, ChunkView, ChunkViewMut};
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
    /// If the shapes differ, the arrays belong to two sessions, or the kernel does not take such operands. [`Array::try_with_kernel`] returns that as an error.
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
    /// [`Error::Shape`] if the shapes differ; [`Error::SessionMismatch`]; whatever [`Kernel::check`] says of the parameters, of inputs of these dtypes and an output of `U`, and of the shape
    /// of the largest chunk.
    pub fn try_with_kernel<U: Element>(
        &self,
        others: &[&dyn AnyArray],
        kernel: Arc<dyn Kernel>,
        params: &(impl Params + ?Sized),
    ) -> Result<Array<U>> {
        if let Some(other) = others.iter().find(|other| other.shape() != self.shape()) {
            let wanted = format!("shape {:?}, as the first input has", self.shape());
            return Err(Error::Shape { op: "with_kernel", found: other.shape().to_vec(), wanted });
        }
        let all: Vec<ArrayParts<'_>> = once(parts(self)).chain(others.iter().map(|other| parts(*other))).collect();
        let session = common_session("with_kernel", all.iter().map(|parts| parts.session))?;
        let inputs: Vec<Expr> = all.iter().map(|parts| parts.node.clone()).collect();
        let along = vec![(0..self.ndim()).collect(); inputs.len()];
        let call = Call { kernel: Same(kernel), params: params.bytes().into(), along, pointwise: false, busy: false };
        check(&call, &inputs, U::DTYPE, &self.node.op.grid)?;
        Array::new(Primitive::Call(call), inputs, self.shape().to_vec(), session)
    }
}

/// Errs if a kernel does not take such operands, in chunks of this grid.
pub(in super::super) fn check(call: &Call, inputs: &[Expr], output: DType, grid: &ChunkGrid) -> Result<()> {
    let shape = &grid.largest()[..];
    let dtypes = inputs.iter().map(|input| input.op.dtype).chain(once(output));
    let operands: Vec<ChunkMeta<'_>> = dtypes.map(|dtype| ChunkMeta::new(dtype, shape)).collect();
    call.kernel.0.check(&call.params, &operands)
}
