//! A picture of the Mandelbrot iteration, as the notebook has it that the defaults come from.
//!
//! Owns: the window. Must not know: sessions. Invariant: rows run along y in [-1, 0], columns along x in [-1.5, 0].

use chunkwise::shape::Float;
use chunkwise::{Array, mandelbrot};

/// Its counts.
pub fn picture<T: Float>(rows: usize, columns: usize, iterations: u32) -> Array<i32> {
    mandelbrot(&Array::<T>::ogrid(-1.5, 0.0, columns), &Array::<T>::ogrid(-1.0, 0.0, rows), iterations)
}
