//! Escape counts of the Mandelbrot iteration.
//!
//! Owns: [`Mandelbrot`]. Must not know: colours, files. Invariant: the points are made once, in `f64`, and rounded once; every
//! device sees the same ones.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::leaf::extents;
use super::lower::{Lowering, Op, Target};
use super::node::Node;
use super::{Array, checked_shape, chunks};
use crate::device::HostBuffer;
use crate::error::{Error, Result};
use crate::id::ValueId;
use crate::kernel::mandelbrot::{Mandelbrot as Kernel, MandelbrotParams, axis};
use crate::shape::{ChunkGrid, DType, Float, Layout};

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
        let points = |from, to, count| Axis { from, to, count, dtype: T::DTYPE, make: points::<T>, made: OnceLock::new() };
        let op = Counts { x: points(x0, x1, self.columns), y: points(y0, y1, self.rows), iterations: self.iterations };
        Ok(Array::new(op, Vec::new(), shape, None))
    }
}

/// The points along one side. They are made when a run is planned: a refused picture of 10^11 rows costs nothing.
struct Axis {
    from: f64,
    to: f64,
    count: usize,
    dtype: DType,
    make: fn(f64, f64, usize) -> Arc<HostBuffer>,
    made: OnceLock<Arc<HostBuffer>>,
}

/// The points in `f64`, rounded once to `T`.
fn points<T: Float>(from: f64, to: f64, count: usize) -> Arc<HostBuffer> {
    let points: Arc<Vec<T>> = Arc::new(axis(from, to, count).into_iter().map(T::from_f64).collect());
    HostBuffer::caller(&points)
}

impl Axis {
    /// The points of the chunks `indices` along one axis of the picture's grid.
    fn chunks(&self, grid: &ChunkGrid, axis: usize, indices: &Range<usize>, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let make = || self.made.get_or_init(|| (self.make)(self.from, self.to, self.count)).clone();
        let array = lw.made((self.dtype, self.count), std::ptr::from_ref(self) as usize, make)?;
        let range = |i| grid.axis_range(axis, i);
        let window = |(start, len)| (start, Layout::contiguous(self.dtype, &[len]));
        Ok(indices.clone().map(|i| window(range(i))).map(|(start, l)| lw.graph.window(array, start, &l)).collect())
    }
}

struct Counts {
    x: Axis,
    y: Axis,
    iterations: u32,
}

impl Op for Counts {
    fn name(&self) -> &str {
        "mandelbrot"
    }

    /// Chunks of 1 MiB of counts, not 16: a point is worth hundreds of flops, and regions differ in work.
    fn default_grid(&self, _: &[Arc<Node>], shape: &[usize], dtype: DType) -> ChunkGrid {
        chunks::squares(shape, dtype)
    }

    fn is_leaf(&self) -> bool {
        true
    }

    fn lower(&self, node: &Node, grid: &ChunkGrid, target: Target, lw: &mut Lowering) -> Result<Vec<ValueId>> {
        let numbers = lw.numbers(grid.len());
        lw.expect_tasks(numbers.len())?;
        let along = |axis: usize| match numbers.len() {
            1 => grid.index(numbers.start)[axis]..grid.index(numbers.start)[axis] + 1,
            _ => 0..grid.counts()[axis],
        };
        let (rows, columns) = (along(0), along(1));
        let (x, y) = (self.x.chunks(grid, 1, &columns, lw)?, self.y.chunks(grid, 0, &rows, lw)?);
        let kernel = lw.leaf_kernel(node, grid, || Arc::new(Kernel));
        lw.graph.group(format!("mandelbrot {}", extents(grid)));
        let params = MandelbrotParams { iterations: self.iterations };
        let mut values = Vec::with_capacity(numbers.len());
        for number in numbers {
            let index = grid.index(number);
            let out = lw.output(node, &grid.region(number), target);
            lw.graph.write(
                kernel,
                bytemuck::bytes_of(&params),
                &[x[index[1] - columns.start], y[index[0] - rows.start]],
                out,
            )?;
            values.push(out);
        }
        Ok(values)
    }
}
