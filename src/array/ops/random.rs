//! Arrays of random numbers.
//!
//! Owns: [`Rng`], and the short form. Must not know: how numbers are made. Invariant: elements depend on seed, stream and index only, never on chunks; streams
//! belong to a generator, so that they do not depend on what is made elsewhere.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::expr::{Generator, Primitive};
use super::super::{Array, IntoShape, checked_shape};
use crate::error::{Error, Result, or_panic};
use crate::kernel::random::Distribution;
use crate::runtime::Session;
use crate::shape::{Element, Float, Integer, Region, Scalar};

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
    /// [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_uniform<T: Float>(&self, shape: impl IntoShape) -> Result<Array<T>> {
        self.random("random_uniform", Distribution::Uniform, shape)
    }

    /// Normal random numbers of mean 0 and variance 1; `x * sigma + mu` has others. Two of two uniform ones (Box and Muller 1958), which have 53 bits (for `f32` 32: no number is
    /// beyond 6.66 then), in `f64`: the same bits on any CPU, in any chunks.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let x = Session::global().rng(1).normal::<f64>(1_000_000) * 2.0 + 10.0;
    /// let (mean, std) = (x.mean().compute_scalar()?, x.std(0.0).compute_scalar()?);
    /// assert!((mean - 10.0).abs() < 0.01 && (std - 2.0).abs() < 0.01);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// As [`Rng::uniform`]. [`Rng::try_normal`] returns that as an error.
    #[track_caller]
    pub fn normal<T: Float>(&self, shape: impl IntoShape) -> Array<T> {
        or_panic(self.try_normal(shape))
    }

    /// [`Rng::normal`], with an error instead of a panic.
    ///
    /// # Errors
    /// As [`Rng::try_uniform`].
    pub fn try_normal<T: Float>(&self, shape: impl IntoShape) -> Result<Array<T>> {
        self.random("random_normal", Distribution::Normal, shape)
    }

    /// Exponentially distributed random numbers of mean 1: `-log(1 - u)` of uniform `u`; `x * mean` has others. Of `f64` none is above 36.8, of `f32`, whose uniform numbers have 24
    /// bits, none above 16.7.
    ///
    /// # Panics
    /// As [`Rng::uniform`]. [`Rng::try_exponential`] returns that as an error.
    #[track_caller]
    pub fn exponential<T: Float>(&self, shape: impl IntoShape) -> Array<T> {
        or_panic(self.try_exponential(shape))
    }

    /// [`Rng::exponential`], with an error instead of a panic.
    ///
    /// # Errors
    /// As [`Rng::try_uniform`].
    pub fn try_exponential<T: Float>(&self, shape: impl IntoShape) -> Result<Array<T>> {
        let u: Array<T> = self.random("random_exponential", Distribution::Uniform, shape)?;
        Ok((-u + T::from_f64(1.0)).log().abs()) // of 1 it is 0, not -0
    }

    /// Random integers of a range, each as likely as any other: by integer arithmetic alone, so that any device makes the same. No one is more likely than another by more than
    /// 2^-32 of its probability.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let rng = Session::global().rng(6);
    /// let dice = rng.integers(1..=6u8, (1000, 2));
    /// assert_eq!((dice.min().compute_scalar()?, dice.max().compute_scalar()?), (1, 6));
    /// let any = rng.integers::<i64>(.., 10);
    /// # assert_eq!(any.len(), 10);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If no integer is in the range, or the shape overflows memory addresses. [`Rng::try_integers`] returns that as an error.
    #[track_caller]
    pub fn integers<T: Integer>(&self, range: impl RangeBounds<T>, shape: impl IntoShape) -> Array<T> {
        or_panic(self.try_integers(range, shape))
    }

    /// [`Rng::integers`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if no integer is in the range; [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_integers<T: Integer>(&self, range: impl RangeBounds<T>, shape: impl IntoShape) -> Result<Array<T>> {
        let (low, high) = ends(&range);
        if low > high {
            let value = written(&range);
            return Err(Error::argument("range of random_integers", value, "a range with an integer in it"));
        }
        // All 2^64 are a count of 0.
        let what = Distribution::Integers { low: low as u64, count: (high - low + 1) as u64 };
        self.random("random_integers", what, shape)
    }

    /// `true` with probability `p` (to the nearest multiple of 2^-32), else `false`: by integer arithmetic alone, so that any device makes the same.
    ///
    /// ```
    /// use chunkwise::{Array, prelude::*};
    /// let n = Session::global().rng(6).bernoulli(0.25, 1_000_000).count_nonzero().compute_scalar()?;
    /// assert!((n - 250_000).abs() < 2_500);
    /// # Ok::<(), chunkwise::Error>(())
    /// ```
    ///
    /// # Panics
    /// If `p` is not within [0, 1], or the shape overflows memory addresses. [`Rng::try_bernoulli`] returns that as an error.
    #[track_caller]
    pub fn bernoulli(&self, p: f64, shape: impl IntoShape) -> Array<bool> {
        or_panic(self.try_bernoulli(p, shape))
    }

    /// [`Rng::bernoulli`], with an error instead of a panic.
    ///
    /// # Errors
    /// [`Error::Argument`] if `p` is not within [0, 1]; [`Error::Shape`] if the shape overflows memory addresses.
    pub fn try_bernoulli(&self, p: f64, shape: impl IntoShape) -> Result<Array<bool>> {
        if !(0.0..=1.0).contains(&p) {
            return Err(Error::argument("probability of random_bernoulli", p, "a number from 0 to 1"));
        }
        let what = Distribution::Bernoulli { of_2_32: (p * 4_294_967_296.0).round() as u64 };
        self.random("random_bernoulli", what, shape)
    }

    fn random<T: Element>(&self, op: &'static str, what: Distribution, shape: impl IntoShape) -> Result<Array<T>> {
        let shape = checked_shape(op, shape.into_shape())?;
        let random = Generator::Random { what, seed: self.seed, stream: self.next(), shape: shape.clone() };
        Array::new(Primitive::Generate(random, Region::all(&shape)), Vec::new(), shape, Some(self.session.clone()))
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

/// A range as the user wrote it, about.
fn written<T: Integer>(range: &impl RangeBounds<T>) -> String {
    let start = match range.start_bound() {
        Bound::Included(low) => low.to_string(),
        Bound::Excluded(low) => format!("{low} (left out)"),
        Bound::Unbounded => String::new(),
    };
    start
        + &match range.end_bound() {
            Bound::Included(high) => format!("..={high}"),
            Bound::Excluded(high) => format!("..{high}"),
            Bound::Unbounded => "..".into(),
        }
}

/// The lowest and the highest integer of a range.
fn ends<T: Integer>(range: &impl RangeBounds<T>) -> (i128, i128) {
    let (bits, is_unsigned) = (8 * T::DTYPE.bytes(), T::DTYPE.is_unsigned());
    let lowest = if is_unsigned { 0 } else { -(1i128 << (bits - 1)) };
    let low = match range.start_bound() {
        Bound::Included(&low) => whole(low),
        Bound::Excluded(&low) => whole(low) + 1,
        Bound::Unbounded => lowest,
    };
    let high = match range.end_bound() {
        Bound::Included(&high) => whole(high),
        Bound::Excluded(&high) => whole(high) - 1,
        Bound::Unbounded => lowest + (1 << bits) - 1,
    };
    (low, high)
}

fn whole<T: Integer>(value: T) -> i128 {
    match value.into() {
        Scalar::I8(n) => n.into(),
        Scalar::U8(n) => n.into(),
        Scalar::I16(n) => n.into(),
        Scalar::U16(n) => n.into(),
        Scalar::I32(n) => n.into(),
        Scalar::U32(n) => n.into(),
        Scalar::I64(n) => n.into(),
        Scalar::U64(n) => n.into(),
        other => unreachable!("{other} is no integer"),
    }
}

macro_rules! short_forms {
    ($(impl $(<$t:ident: $class:ident>)? Array<$of:ty> {
        $(#[$doc:meta])* $name:ident $try_name:ident $long:ident $try_long:ident ($($arg:ident: $type:ty),*)
    })*) => {$(
        impl $(<$t: $class>)? Array<$of> {
            $(#[$doc])*
            ///
            /// Each call makes others; which ones depends on how many came before in the program. [`Session::rng`] makes the same whatever else is made.
            ///
            /// # Panics
            #[doc = concat!("As [`Rng::", stringify!($long), "`]. [`Array::", stringify!($try_name), "`] returns that as an error.")]
            #[track_caller]
            pub fn $name($($arg: $type,)* shape: impl IntoShape) -> Self {
                or_panic(Self::$try_name($($arg,)* shape))
            }

            #[doc = concat!("[`Array::", stringify!($name), "`], with an error instead of a panic.")]
            ///
            /// # Errors
            #[doc = concat!("As [`Rng::", stringify!($try_long), "`].")]
            #[track_caller]
            pub fn $try_name($($arg: $type,)* shape: impl IntoShape) -> Result<Self> {
                Session::global().default_rng().$try_long($($arg,)* shape)
            }
        }
    )*};
}

short_forms! {
    impl<T: Float> Array<T> {
        /// Uniform random numbers in [0, 1), in the global session: the short form of [`Rng::uniform`] of its [`Session::default_rng`].
        random_uniform try_random_uniform uniform try_uniform ()
    }
    impl<T: Float> Array<T> {
        /// Normal random numbers of mean 0 and variance 1, in the global session: the short form of [`Rng::normal`] of its [`Session::default_rng`].
        random_normal try_random_normal normal try_normal ()
    }
    impl<T: Float> Array<T> {
        /// Exponentially distributed random numbers of mean 1, in the global session: the short form of [`Rng::exponential`] of its [`Session::default_rng`].
        random_exponential try_random_exponential exponential try_exponential ()
    }
    impl<T: Integer> Array<T> {
        /// Random integers of a range, in the global session: the short form of [`Rng::integers`] of its [`Session::default_rng`].
        random_integers try_random_integers integers try_integers (range: impl RangeBounds<T>)
    }
    impl Array<bool> {
        /// `true` with probability `p`, in the global session: the short form of [`Rng::bernoulli`] of its [`Session::default_rng`].
        random_bernoulli try_random_bernoulli bernoulli try_bernoulli (p: f64)
    }
}
