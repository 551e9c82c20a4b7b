//! Escape counts of the Mandelbrot iteration.
//!
//! Owns: [`mandelbrot`]. Must not know: colours, files. Invariant: the points are the inputs', so that every device sees the same ones.

use std::sync::{Arc, LazyLock};

use super::super::expr::{Call, Primitive, Same};
use super::super::{Array, checked_shape};
use crate::error::{Error, Result, or_panic};
use crate::kernel::Kernel;
use crate::kernel::mandelbrot::{Mandelbrot, MandelbrotParams};
use crate::shape::Float;

/// Counts `(rows, columns)` of the iteration `z <- z^2 + c` over the points `c = x + i y` of columns `x` and rows `y`.
///
/// The count of a point is the number of the first step (from 0) after which `|z| > 4`, or `iterations` if there is none; it begins with `z = c`. Iterated in
/// `T`: in `f64` the counts are NumPy's, bit for bit. Work: 8 flops per step and point. Chunks are about 1 MiB, because a point is worth much work.
///
/// ```
/// use chunkwise::{Array, mandelbrot};
/// let x = Array::<f64>::ogrid(-1.5, 0.0, 53);
/// let y = Array::<f64>::ogrid(-1.0, 0.0, 37);
/// let counts = mandelbrot(&x, &y, 20).compute()?;             // 37 rows, 53 columns
/// assert_eq!(counts.iter().filter(|&&c| c == 20).count(), 831);
/// # Ok::<(), chunkwise::Error>(())
/// ```
///
/// # Panics
/// If `x` or `y` is not a vector, there are more than 2^31 - 1 iterations, the picture is too large, or the arrays belong to two sessions.
/// [`Array::try_mandelbrot`] returns that as an error.
#[track_caller]
pub fn mandelbrot<T: Float>(x: &Array<T>, y: &Array<T>, iterations: u32) -> Array<i32> {
    or_panic(Array::try_mandelbrot(x, y, iterations))
}

/// One, so that equal expressions are one.
static KERNEL: LazyLock<Arc<dyn Kernel>> = LazyLock::new(|| Arc::new(Mandelbrot));

impl<T: Float> Array<T> {
    /// [`mandelbrot`], with errors instead of panics.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` or `y` is not a vector or the picture is too large, [`Error::Argument`] if there are more than 2^31 - 1 iterations,
    /// [`Error::SessionMismatch`].
    pub fn try_mandelbrot(x: &Self, y: &Self, iterations: u32) -> Result<Array<i32>> {
        if let Some(bad) = [x, y].into_iter().find(|axis| axis.ndim() != 1) {
            let wanted = "a vector: x has the real part of each column, y the imaginary part of each row".into();
            return Err(Error::Shape { op: "mandelbrot", found: bad.shape().to_vec(), wanted });
        }
        if i32::try_from(iterations).is_err() {
            return Err(Error::argument("iterations", iterations, "choose at most 2147483647, because counts are 32-bit"));
        }
        let session = x.common_session(y, "mandelbrot")?;
        let shape = checked_shape("mandelbrot", vec![y.len(), x.len()])?;
        let call = Call {
            kernel: Same(KERNEL.clone()),
            params: bytemuck::bytes_of(&MandelbrotParams { iterations }).into(),
            along: vec![vec![1], vec![0]],
            pointwise: true,
            busy: true,
        };
        Array::new(Primitive::Call(call), vec![x.node.clone(), y.node.clone()], shape, session)
    }
}
