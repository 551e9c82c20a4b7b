//! Lazy, chunked n-dimensional arrays whose chunk tasks run on the CPU or any GPU.
//!
//! An array expression becomes a graph of tasks, one per chunk. A scheduler decides from predicted seconds where each task
//! runs and what is moved, within a memory limit.
//!
//! # Arrays
//!
//! An [`Array<T>`](Array) is a cheap handle on something to be computed: the caller's data, a file, random numbers, or an
//! operation on other arrays. Building one runs nothing.
//!
//! ```
//! use chunkwise::prelude::*;
//! let a = Array::from(ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]]));
//! let x = Array::from(ndarray::arr1(&[1.0, 1.0]));
//! let y = a.matvec(&x);
//! assert_eq!(y.compute()?, ndarray::arr1(&[6.0, 7.0]).into_dyn());
//! assert_eq!(a.mean().compute_scalar()?, 3.25);
//! # Ok::<(), chunkwise::Error>(())
//! ```
//!
//! `Debug` prints the table that Dask users know: bytes, shape, chunks, tasks, dtype.
//!
//! # Chunks
//!
//! A chunk is the unit of storage, transfer and scheduling. [`Array::chunks`] sets it; otherwise the operation, shape, dtype
//! and storage decide (never the machine), so that results are the same everywhere. See [`Array::grid`].
//!
//! ```
//! use chunkwise::prelude::*;
//! let a = Array::<f64>::random_uniform([1000, 1000]).chunks((100, 500));
//! assert_eq!(a.grid().counts(), [10, 2]);
//! ```
//!
//! # Views
//!
//! [`Array::slice`], [`Array::t`], [`Array::permute`], [`Array::broadcast_to`], [`Array::flip`] and the like show elements otherwise, and copy none; neither do
//! [`concatenate`] and [`stack`]. A view goes to where its elements come from: of a file, only what is touched is read.
//!
//! ```
//! use chunkwise::prelude::*;
//! let a = Array::<f64>::random_uniform([10_000, 10_000]);       // 800 MB, if anybody asked for all of it
//! let corner = a.slice(s![..100, -100..]).t();
//! assert_eq!((corner.shape(), corner.explain()?.bound_bytes < 1_000_000), (&[100, 100][..], true));
//! # Ok::<(), chunkwise::Error>(())
//! ```
//!
//! # Sessions
//!
//! A [`Session`] holds the devices, a memory limit, the seed of random arrays, and what was measured about speed (kept in the
//! user's cache directory). [`Session::global`] has every default and is used unless an array says otherwise
//! ([`Array::in_session`]).
//!
//! # Computing
//!
//! | call | gives |
//! |---|---|
//! | [`Array::compute`] | the elements, as `ndarray::ArrayD` |
//! | [`Array::run`] | the elements, and a [`runtime::RunReport`]: placement, predicted and measured times |
//! | [`Array::start`] | a [`Pending`], at once |
//! | [`Array::store`] | a file, written chunk by chunk |
//! | [`Array::explain`] | what would run where, why, predicted seconds, memory; runs nothing |
//! | [`compute_all`], [`store_all`] | several at once: what they share is made, and read, once |
//!
//! Larger than memory may be what is made chunk by chunk (files, random numbers, counts, kernels on these, their views and concatenations), if it is summed,
//! multiplied with a vector, or stored. All else is held whole: factors, returned results.
//!
//! Memory is settled beforehand: a run whose proven peak is above the limit is refused with [`Error::OutOfMemory`], which
//! names the task and chunks that would fit.
//!
//! # GPUs
//!
//! With the feature `gpu` (default) a session uses the machine's GPUs through wgpu, without being asked: they are looked for when a
//! computation begins that takes longer than some 50 ms, measured the first time, and given tasks that end sooner there, the moves of their
//! data counted. [`SessionBuilder::placement`] insists on a device, [`Array::explain`] says what would run where and why,
//! [`Session::discover`] which GPUs are not used and why. Data of the caller stay on the GPU between runs while its memory allows.
//!
//! | | |
//! |---|---|
//! | kernels with a GPU half | [`kernel::mandelbrot`], [`kernel::gemv`], `block_sum` of [`kernel::sums`], all of [`kernel::dense`] |
//! | dtypes | `f32` on every GPU; `f64` where the adapter has it (Vulkan only), else on the CPU: never in `f32` instead |
//! | no GPU, no driver, a lost GPU | everything runs on the CPU |
//!
//! # Your own kernels
//!
//! [`Array::with_kernel`] computes an array chunk by chunk with a [`kernel::Kernel`] of yours: a CPU body, and for GPUs a shader.
//! [`kernel::guide`] says how.
//!
//! # Files
//!
//! [`Array::open`] takes `data.npy` or, with the feature `hdf5`, `data.h5:/path/in/file`. Contiguous and chunked data without filters are
//! read by position, from all threads at once; the rest through libhdf5, on threads of its own ([`store`]). [`Array::store`] writes one array
//! into a file, `store::Hdf5::create` several with one commit; a file appears when it is complete, or not at all. Formats of your
//! own: [`task::ChunkSource`], [`task::ChunkSink`].
//!
//! # The same answer
//!
//! Integers, copies, counts and random numbers are the same bit for bit under any chunking, thread count and timing.
//! Floating-point reductions and linear algebra are the same for a given chunk grid, whatever the threads, timing or memory
//! limit (on one SIMD level). `f64` is never quietly computed in `f32`.
//!
//! # Errors
//!
//! What can only be the caller's mistake (shapes, chunks, sessions) panics with the caller's location and has a `try_` twin.
//! What depends on the world returns [`Error`], one sentence that says what, where and what to do. A task that panics, a full
//! disk, or a worker that hangs gives one error or the right result, and the session stays usable.
//!
//! # The rooms
//!
//! A lower room never names a higher one: [`id`], [`error`], [`shape`] (chunk grids, views), [`kernel`] (the routines),
//! [`device`], [`task`] (graphs as data), [`cost`] (predicted times), [`schedule`] (every decision), [`runtime`] (sessions),
//! [`store`] (files), [`mod@array`], [`report`]. ARCHITECTURE.md in the repository is the map.
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

pub use array::{
    AnyArray, Array, Computable, IntoChunks, Mandelbrot, Pending, Summed, compute_all, concatenate, stack, store_all,
};
pub use error::{Bytes, Error, Remedy, Result};
pub use runtime::{Session, SessionBuilder};
pub use schedule::Placement;

pub use ndarray;

/// What most programs need: `use chunkwise::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Array, Bytes, Error, IntoChunks, Mandelbrot, Pending, Placement, Result, Session, compute_all, concatenate, stack,
    };
    pub use ndarray::{self, Axis, s};
}

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
