//! The two workloads of the array language, each one fused stage: an expression with functions, and a reduction with arithmetic inside.
//!
//! Owns: what they compute, what it is worth in operations, and the plain loops that check it. Must not know: devices, clocks. Invariant: the
//! loops use nothing of the library: numbers in `f64`, functions of the standard library.

use chunkwise::kernel::map::ScalarOp::{self, Add, Exp, Mul, Neg, Sin, Sub};
use chunkwise::ndarray::{ArrayD, Axis};
use chunkwise::shape::Float;
use chunkwise::{Array, Error};

use crate::compare::work::Values;

const A: f64 = 1.5;
const B: f64 = 0.25;

/// Operations of an element of [`expression`].
pub const EXPRESSION: [ScalarOp; 10] = [Mul, Mul, Mul, Add, Sin, Mul, Neg, Exp, Mul, Add];

/// Operations of an element of [`reduce`].
pub const REDUCE: [ScalarOp; 3] = [Sub, Mul, Add];

/// How many additions these are worth, by the library's table.
pub fn worth(operations: &[ScalarOp]) -> f64 {
    operations.iter().map(|op| op.row().work).sum()
}

/// `1.5 x x + 0.25 x + sin(x) exp(-y y)`.
///
/// # Errors
/// If the shapes differ.
pub fn expression<T: Float>(x: &Array<T>, y: &Array<T>) -> Result<Array<T>, Error> {
    let (a, b) = (T::from_f64(A), T::from_f64(B));
    let waves = x.sin() * (-(y.try_mul(y)?)).exp();
    (x * a * x + x * b).try_add(&waves)
}

/// Sums of `(x - c)^2` along axis 0: `c` has a number for each column.
///
/// # Errors
/// If `c` has not as many elements as `x` has columns.
pub fn reduce<T: Float>(x: &Array<T>, c: &Array<T>) -> Result<Array<T>, Error> {
    Ok(x.try_sub(c)?.square().over(Axis(0)).sum())
}

/// Elements that loops compute, at most.
const MOST_ELEMENTS: usize = 1 << 16;

/// Columns that loops add up, at most.
const MOST_COLUMNS: usize = 64;

/// Some elements of a result, spread over all of it, as plain loops compute them.
pub struct Plain {
    /// Each so many-th element; odd, so that not all are of one column.
    step: usize,
    wanted: Vec<f64>,
    /// Numbers that were added up for each.
    added: usize,
}

impl Plain {
    /// Of [`expression`].
    pub fn of_expression<T: Float>(x: &ArrayD<T>, y: &ArrayD<T>) -> Self {
        let step = step(x.len(), MOST_ELEMENTS);
        let one = |(x, y): (f64, f64)| A * x * x + B * x + x.sin() * (-(y * y)).exp();
        let numbers = x.iter().step_by(step).zip(y.iter().step_by(step));
        Self { step, wanted: numbers.map(|(x, y)| one((x.to_f64(), y.to_f64()))).collect(), added: 1 }
    }

    /// Of [`reduce`].
    pub fn of_reduce<T: Float>(x: &ArrayD<T>, c: &ArrayD<T>) -> Self {
        let step = step(c.len(), MOST_COLUMNS);
        let mut wanted = vec![0.0; c.len().div_ceil(step)];
        for row in x.outer_iter() {
            for ((sum, x), c) in wanted.iter_mut().zip(row.iter().step_by(step)).zip(c.iter().step_by(step)) {
                *sum += (x.to_f64() - c.to_f64()).powi(2);
            }
        }
        Self { step, wanted, added: x.shape()[0] }
    }

    /// The largest difference, as a share of the largest magnitude; infinite if it is no result of this kind.
    pub fn apart(&self, got: &Values) -> f64 {
        match got {
            Values::F32(got) => self.apart_of(got),
            Values::F64(got) => self.apart_of(got),
            Values::I32(_) => f64::INFINITY,
        }
    }

    fn apart_of<T: Float>(&self, got: &ArrayD<T>) -> f64 {
        if got.len().div_ceil(self.step) != self.wanted.len() {
            return f64::INFINITY;
        }
        let (mut difference, mut scale) = (0.0f64, 0.0f64);
        for (got, &wanted) in got.iter().step_by(self.step).zip(&self.wanted) {
            let here = (got.to_f64() - wanted).abs();
            difference = if here > difference || here.is_nan() { here } else { difference }; // `max` would drop a NaN
            scale = scale.max(wanted.abs());
        }
        if difference == 0.0 { 0.0 } else { difference / scale }
    }

    /// How far two right results may be apart: ten operations round, functions to within 1.1 units in the last place; and sums in `f64` round at
    /// each number, at random.
    pub fn tolerance(&self, epsilon: f64) -> f64 {
        let sums = if self.added > 1 { 2.0 * (self.added as f64).sqrt() * f64::EPSILON } else { 0.0 };
        8.0 * epsilon + sums
    }
}

/// So that of `all` elements each so many-th are `most` at most.
fn step(all: usize, most: usize) -> usize {
    all.div_ceil(most) | 1
}
