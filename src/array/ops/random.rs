//! Arrays of random numbers.
//!
//! Owns: their constructors. Must not know: how they are made. Invariant: their elements depend on seed, stream and index only, never on chunks.

use super::super::expr::{Generator, Primitive};
use super::super::{Array, checked_shape};
use crate::error::{Result, or_panic};
use crate::runtime::Session;
use crate::shape::{Float, Region};

impl<T: Float> Array<T> {
    /// Uniform random numbers in [0, 1), from the global session's seed. Their values depend on the seed and on how many random arrays
    /// were made before, never on chunks; a slice makes only its own.
    ///
    /// # Panics
    /// If the shape overflows memory addresses.
    #[track_caller]
    pub fn random_uniform(shape: impl AsRef<[usize]>) -> Self {
        or_panic(Session::global().random_uniform(shape))
    }
}

impl Session {
    /// Uniform random numbers in [0, 1), from this session's seed. Two arrays of one session differ.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shape overflows memory addresses.
    pub fn random_uniform<T: Float>(&self, shape: impl AsRef<[usize]>) -> Result<Array<T>> {
        let shape = checked_shape("random_uniform", shape.as_ref())?;
        let uniform = Generator::Uniform { seed: self.seed(), stream: self.next_stream(), shape: shape.clone() };
        Array::new(Primitive::Generate(uniform, Region::all(&shape)), Vec::new(), shape, Some(self.clone()))
    }

    /// A symmetric positive definite matrix of order `n`: uniform numbers in [-0.5, 0.5) off the diagonal, `n` on it.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if the shape overflows memory addresses.
    pub fn random_spd<T: Float>(&self, n: usize) -> Result<Array<T>> {
        let shape = checked_shape("random_spd", &[n, n])?;
        let spd = Generator::Spd { seed: self.seed(), stream: self.next_stream(), order: n };
        Array::new(Primitive::Generate(spd, Region::all(&shape)), Vec::new(), shape, Some(self.clone()))
    }
}
