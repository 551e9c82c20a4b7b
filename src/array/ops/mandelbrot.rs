//! Escape counts of the Mandelbrot iteration.
//!
//! Owns: [`Mandelbrot`]. Must not know: colours, files. Invariant: the points are made once, in `f64`, and rounded once; every
//! device sees the same ones.

use std::sync::Arc;

use super::super::expr::{Call, Generator, Node, Primitive, Same};
use super::super::{Array, checked_shape};
use crate::error::{Error, Result};
use crate::kernel::mandelbrot::{Mandelbrot as Kernel, MandelbrotParams};
use crate::shape::{Float, Region};

/// A picture of the Mandelbrot iteration `z <- z^2 + c`, to be made into an array of counts.
///
/// The count of a point is the number of the first step (from 0) after which `|z| > 4`, or `iterations` if there is none: the
/// test and the start (`z = c`) of the notebook that the defaults come from.
///
/// ```
/// use chunkwise::prelude::*;
/// let counts = Mandelbrot::new(37, 53).counts::<f64>()?.compute()?;   // rows, columns
/// assert_eq!(counts.iter().filter(|&&c| c == 20).count(), 831);
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mandelbrot {
    rows: usize,
    columns: usize,
    window: [f64; 4],
    iterations: u32,
}

impl Mandelbrot {
    /// `rows` x `columns` points of x in [-1.5, 0], y in [-1, 0], 20 iterations.
    #[must_use]
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns, window: [-1.5, 0.0, -1.0, 0.0], iterations: 20 }
    }

    /// Columns run from `x0` to `x1`, rows from `y0` to `y1`, ends included.
    #[must_use]
    pub fn window(self, x0: f64, x1: f64, y0: f64, y1: f64) -> Self {
        Self { window: [x0, x1, y0, y1], ..self }
    }

    /// Steps at most.
    #[must_use]
    pub fn iterations(self, iterations: u32) -> Self {
        Self { iterations, ..self }
    }

    /// The counts `(rows, columns)`, iterated in `T`.
    ///
    /// Work: 8 flops per step and point. In `f64` the counts are NumPy's, bit for bit.
    ///
    /// # Errors
    /// [`Error::Argument`] if a bound of the window is not finite or there are more than 2^31 - 1 iterations,
    /// [`Error::Shape`] if the picture is too large.
    pub fn counts<T: Float>(&self) -> Result<Array<i32>> {
        if let Some(bad) = self.window.iter().find(|b| !b.is_finite()) {
            return Err(Error::argument("window", bad, "choose four finite numbers X0, X1, Y0, Y1"));
        }
        if i32::try_from(self.iterations).is_err() {
            return Err(Error::argument("iterations", self.iterations, "choose at most 2147483647, because counts are 32-bit"));
        }
        let shape = checked_shape("mandelbrot", &[self.rows, self.columns])?;
        let [x0, x1, y0, y1] = self.window;
        let points = |from: f64, to: f64, count: usize| {
            let points = Generator::Points { ends: [from.to_bits(), to.to_bits()], count };
            Node::new(Primitive::Generate(points, Region::all(&[count])), Vec::new(), vec![count], T::DTYPE)
        };
        let params = MandelbrotParams { iterations: self.iterations };
        let call = Call {
            kernel: Same(Arc::new(Kernel)),
            params: bytemuck::bytes_of(&params).into(),
            along: vec![vec![1], vec![0]],
            pointwise: true,
        };
        let axes = vec![points(x0, x1, self.columns)?, points(y0, y1, self.rows)?];
        Array::new(Primitive::Call(call), axes, shape, None)
    }
}
