//! Arrays of random numbers.
//!
//! Owns: [`Rng`], and the short form. Must not know: how numbers are made. Invariant: elements depend on seed, stream and index only, never on chunks; streams
//! belong to a generator, so that they do not depend on what is made elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::expr::{Generator, Primitive};
use super::super::{Array, IntoShape, checked_shape};
use crate::error::{Result, or_panic};
use crate::runtime::Session;
use crate::shape::{Float, Region};

/// Makes arrays of random numbers, one after the other: [`Session::rng`]. What it makes follows from its seed and from what it made before, whatever else is made
/// in the program. Cheap to clone; the clones are one.
///
/// ```
/// use chunkwise::{Array, prelude::*};
/// let session = Session::builder().threads(2).build()?;
/// let (rng, again) = (session.rng(7), session.rng(7));
/// let a = rng.uniform::<f64>((100, 100));
/// let b = rng.uniform::<f64>((100, 100));
/// assert_eq!(again.uniform::<f64>((100, 100)).chunks(7).compute()?, a.compute()?);
/// assert_ne!(a.compute()?, b.compute()?);
/// # Ok::<(), chunkwise::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rng {
    session: Session,
    seed: u64,
    streams: Arc<AtomicU64>,
    /// Its first stream.
    first: u64,
}

/// The first stream of a session's own generator, so that it is another one than that of [`Session::rng`] of the same seed.
const OWN_STREAMS: u64 = 1 << 63;

impl Session {
    /// A generator of random arrays of this session: two with one seed make the same.
    #[must_use]
    pub fn rng(&self, seed: u64) -> Rng {
        Rng { session: self.clone(), seed, streams: Arc::default(), first: 0 }
    }

    /// The session's own generator, of the seed that it was built with; what it makes has nothing to do with what [`Session::rng`] makes of that seed. All handles on it are one: what it makes depends on how much was made before.
    #[must_use]
    pub fn default_rng(&self) -> Rng {
        Rng { session: self.clone(), seed: self.seed(), streams: self.streams().clone(), first: OWN_STREAMS }
    }
}

impl Rng {
    /// Uniform random numbers in [0, 1): of `f64` all multiples of 2^-53, of `f32` of 2^-24. A slice makes only its own.
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Rng::try_uniform`] returns that as an error.
    #[track_caller]
    pub fn uniform<T: Float>(&self, shape: impl IntoShape) -> Array<T> {
        or_panic(self.try_uniform(shape))
    }

    /// [`Rng::uniform`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::error::Error::Shape) if the shape overflows memory addresses.
    pub fn try_uniform<T: Float>(&self, shape: impl IntoShape) -> Result<Array<T>> {
        let shape = checked_shape("random_uniform", shape.into_shape())?;
        let uniform = Generator::Uniform { seed: self.seed, stream: self.next(), shape: shape.clone() };
        Array::new(Primitive::Generate(uniform, Region::all(&shape)), Vec::new(), shape, Some(self.session.clone()))
    }

    /// A symmetric positive definite matrix of order `n`: uniform numbers in [-0.5, 0.5) off the diagonal, `n` on it.
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Rng::try_spd`] returns that as an error.
    #[track_caller]
    pub fn spd<T: Float>(&self, n: usize) -> Array<T> {
        or_panic(self.try_spd(n))
    }

    /// [`Rng::spd`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::error::Error::Shape) if the shape overflows memory addresses.
    pub fn try_spd<T: Float>(&self, n: usize) -> Result<Array<T>> {
        let shape = checked_shape("random_spd", vec![n, n])?;
        let spd = Generator::Spd { seed: self.seed, stream: self.next(), order: n };
        Array::new(Primitive::Generate(spd, Region::all(&shape)), Vec::new(), shape, Some(self.session.clone()))
    }

    fn next(&self) -> u64 {
        self.first + self.streams.fetch_add(1, Ordering::Relaxed)
    }
}

impl<T: Float> Array<T> {
    /// Uniform random numbers in [0, 1), in the global session: the short form of [`Rng::uniform`] of its [`Session::default_rng`]. Each call makes
    /// others; which ones depends on how many came before. [`Session::rng`] makes the same whatever else is made.
    ///
    /// # Panics
    /// If the shape overflows memory addresses. [`Array::try_random_uniform`] returns that as an error.
    #[track_caller]
    pub fn random_uniform(shape: impl IntoShape) -> Self {
        or_panic(Self::try_random_uniform(shape))
    }

    /// [`Array::random_uniform`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::error::Error::Shape) if the shape overflows memory addresses.
    #[track_caller]
    pub fn try_random_uniform(shape: impl IntoShape) -> Result<Self> {
        Session::global().default_rng().try_uniform(shape)
    }
}
