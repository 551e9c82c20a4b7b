//! Lazy, chunked n-dimensional arrays whose chunk tasks run on the CPU or any GPU.
#![deny(missing_docs, unsafe_code)]
#![warn(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod array;
pub mod cost;
pub mod device;
pub mod error;
pub mod id;
pub mod kernel;
pub mod report;
pub mod runtime;
pub mod schedule;
pub mod shape;
pub mod store;
pub mod task;

pub use array::{Array, IntoChunks, Mandelbrot, Pending};
pub use error::{Bytes, Error, Result};
pub use runtime::{Session, SessionBuilder};
pub use schedule::Placement;

pub use ndarray;

/// What most programs need: `use chunkwise::prelude::*;`.
pub mod prelude {
    pub use crate::{Array, Bytes, Error, IntoChunks, Mandelbrot, Pending, Placement, Result, Session};
    pub use ndarray;
}
