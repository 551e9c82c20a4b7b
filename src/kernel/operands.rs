//! What a kernel is called with, and what it says if that is wrong.
//!
//! Owns: parameters as bytes, the checks that most kernels need. Must not know: any kernel. Invariant: parameters that were written as a type are read as
//! that type, or refused.

use super::Kernel;
use crate::error::{Error, Result};
use crate::shape::{ChunkMeta, DType};

/// What parameters of a kernel can be: any plain data ([`bytemuck::NoUninit`]: numbers, arrays of them, `#[repr(C)]` structs of them without gaps, `()`
/// for none), or bytes. The kernel reads them by [`params`].
pub trait Params {
    /// As bytes.
    fn bytes(&self) -> &[u8];
}

impl<P: bytemuck::NoUninit> Params for P {
    fn bytes(&self) -> &[u8] {
        bytemuck::bytes_of(self)
    }
}

impl Params for [u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Reads a kernel's parameters.
///
/// # Panics
/// If the bytes are not as many as a `P` has: the kernel was called with others, and has no [`check_params`].
#[must_use]
pub fn params<P: bytemuck::AnyBitPattern>(bytes: &[u8]) -> P {
    bytemuck::pod_read_unaligned(bytes)
}

/// Errs unless `bytes` can be a `P`: for [`Kernel::check`].
///
/// # Errors
/// [`Error::Argument`], which names the kernel.
pub fn check_params<P: bytemuck::AnyBitPattern>(kernel: &dyn Kernel, bytes: &[u8]) -> Result<()> {
    if bytes.len() == size_of::<P>() {
        return Ok(());
    }
    let what = format!("bytes of the parameters of kernel {}", kernel.name());
    let (name, size) = (std::any::type_name::<P>(), size_of::<P>());
    Err(Error::argument(what, bytes.len(), format!("give it a {name}, which has {size}")))
}

/// Errs unless there are as many operands as `wanted` has entries, and the dtype of each is one of its entry's: for [`Kernel::check`]. The last `outputs` of
/// them are outputs.
///
/// ```
/// use chunkwise::DType::{Bool, F32, F64, I32};
/// use chunkwise::ext::{ChunkMeta, check_dtypes};
/// # use chunkwise::ext::{ChunkView, ChunkViewMut, Fault, Kernel, Scratch, Work};
/// # struct Add;
/// # impl Kernel for Add {
/// #     fn name(&self) -> std::borrow::Cow<'static, str> {
/// #         "add".into()
/// #     }
/// #     fn work(&self, _: &[u8], _: &[ChunkMeta<'_>]) -> Work {
/// #         Work::default()
/// #     }
/// #     fn run_cpu(&self, _: &[u8], _: &[ChunkView<'_>], _: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Result<(), Fault> {
/// #         Ok(())
/// #     }
/// # }
/// let operands = [F64, I32, F64].map(|dtype| ChunkMeta::new(dtype, &[2]));
/// assert!(check_dtypes(&Add, &operands, &[&[F32, F64], &[I32], &[F64]], 1).is_ok());
/// let error = check_dtypes(&Add, &operands, &[&[F64], &[Bool], &[F64]], 1).unwrap_err();
/// assert_eq!(error.to_string(), "input 1 of kernel add: its dtype, i32, cannot be used here: give it bool");
/// ```
///
/// # Errors
/// [`Error::DType`] and [`Error::Argument`], which name the kernel and the operand.
pub fn check_dtypes(kernel: &dyn Kernel, operands: &[ChunkMeta<'_>], wanted: &[&[DType]], outputs: usize) -> Result<()> {
    let inputs = wanted.len().saturating_sub(outputs);
    if operands.len() != wanted.len() {
        let what = format!("number of inputs of kernel {}", kernel.name());
        return Err(Error::argument(what, operands.len().saturating_sub(outputs), format!("give it {inputs}")));
    }
    match operands.iter().zip(wanted).position(|(operand, wanted)| !wanted.contains(&operand.dtype)) {
        None => Ok(()),
        Some(at) => {
            let which = if at < inputs { format!("input {at}") } else { format!("output {}", at - inputs) };
            let names: Vec<String> = wanted[at].iter().map(ToString::to_string).collect();
            let (what, found) = (format!("{which} of kernel {}", kernel.name()), operands[at].dtype.to_string());
            Err(Error::DType { what, found, wanted: format!("give it {}", names.join(" or ")) })
        }
    }
}
