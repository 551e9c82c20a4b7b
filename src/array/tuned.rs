//! Chunks that suit the machine, for those who ask.
//!
//! Owns: [`Array::tuned_chunks`]. Must not know: any device. Invariant: what is chosen was planned and simulated by the scheduler that runs it; who does not ask gets what no machine
//! changes.

use super::Array;
use super::expr::Primitive;
use crate::error::{Error, Result};

/// Sides of tiles that are tried, beside what there is.
const SIDES: [usize; 5] = [128, 256, 512, 1024, 2048];
/// Tiles along a side, at most: the tasks are as many as their third power.
const MOST: usize = 48;
/// How much sooner it must be done with other tiles: predictions are no better.
const GAIN: f64 = 1.05;

impl<T> Array<T> {
    /// The same array in the chunks in which this machine is predicted to compute it soonest: larger tiles where a GPU needs them to be full, smaller ones where many threads need
    /// tasks.
    ///
    /// For [`Array::cholesky`]; other arrays stay as they are. Tiles of 128 to 2048 are planned and simulated, as by [`Array::explain`], which takes a moment for each; they are
    /// taken if the factor itself is predicted to be done 5 % sooner than in the chunks that it has, and fits memory. The last bits of a factor depend on its tiles, so with this they depend on
    /// the machine, and on what has been measured of it: without, nothing does.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let a = Array::<f64>::eye(600);
    /// let l = a.cholesky().tuned_chunks()?;
    /// assert_eq!(l.compute()?, a.compute()?);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Array::explain`], of the chunks that there are.
    pub fn tuned_chunks(self) -> Result<Self> {
        let (Primitive::Factor, &[n, _]) = (&self.node.op.primitive, self.shape()) else { return Ok(self) };
        let usual_s = self.predicted_s()?;
        let (mut best, mut best_s) = (None, usual_s / GAIN);
        for side in SIDES.into_iter().filter(|side| n.div_ceil(*side) <= MOST && (*side <= n || *side == SIDES[0])) {
            let other = self.clone().try_chunks(side)?;
            match other.predicted_s() {
                Ok(seconds) if seconds < best_s => (best, best_s) = (Some(other), seconds),
                // Too large for this session's memory.
                Ok(_) | Err(Error::OutOfMemory { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(best.unwrap_or(self))
    }

    fn predicted_s(&self) -> Result<f64> {
        Ok(self.explain()?.totals.first().map_or(f64::INFINITY, |(_, seconds)| *seconds))
    }
}
