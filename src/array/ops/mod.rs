//! The public operations: each builds an expression, and does nothing else.
//!
//! Owns: what they are called, what they take and refuse. Must not know: how anything is made. Invariant: what can only be the caller's mistake is refused
//! where it is called.

mod call;
mod cast;
mod cholesky;
mod compare;
mod functions;
mod join;
mod making;
mod mandelbrot;
mod map;
mod map_chunks;
mod map_macro;
mod matvec;
mod operators;
mod over;
mod points;
mod products;
mod random;
mod reduce;
mod reshape;
mod sources;
mod triangles;
mod view;

pub use call::AnyArray;
pub(super) use call::{ArrayParts, check as check_call, parts};
pub use compare::{Branches, where_};
pub use join::{concatenate, stack};
pub use mandelbrot::mandelbrot;
pub use map::Rhs;
pub use over::{IntoAxes, Over};
pub use points::{indices, meshgrid};
pub use random::Rng;
pub use reduce::ComplexReductions;
