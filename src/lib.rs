//! Lazy, chunked n-dimensional arrays whose chunk tasks run on the CPU or any GPU.
//!
//! An array expression becomes a graph of tasks, one per chunk. A scheduler decides from predicted seconds where each task
//! runs and what is moved, within a memory limit.
//!
//! ```
//! use chunkwise::{Array, prelude::*};
//! let a = Array::from(ndarray::arr2(&[[4.0, 2.0], [2.0, 5.0]]));
//! let x = Array::from(vec![1.0, 1.0]);
//! let y = a.matvec(&x);                                        // nothing has run yet
//! assert_eq!(y.compute()?, ndarray::arr1(&[6.0, 7.0]).into_dyn());
//! assert_eq!(a.mean().compute_scalar()?, 3.25);
//! # Ok::<(), chunkwise::Error>(())
//! ```
//!
//! The [prelude] has what most programs need but the type [`Array`] itself, which `ndarray::prelude` has too: import it by name. `Debug` of an array prints
//! the table that Dask users know.
//!
//! # The book
//!
//! | page | |
//! |---|---|
//! | [making arrays](book::making) | from `ndarray`, files, random numbers; shapes, dtypes |
//! | [chunks](book::chunks) | what they are, how to say them |
//! | [views](book::views) | slices, transposes, broadcasts, concatenations, other shapes |
//! | [element by element](book::elementwise) | operators, functions, comparisons; what is computed in one pass; functions of your own |
//! | [reductions](book::reductions) | sums, means, extremes, counts, along any axes |
//! | [operations](book::operations) | sums, means, products, factors; the same answer everywhere |
//! | [computing](book::computing) | results, several at once, reports; memory; errors |
//! | [sessions](book::sessions) | devices, memory limits, GPUs, what runs where |
//! | [files](book::files) | HDF5 and `.npy`, in and out |
//! | [coming from NumPy and Dask](book::dask) | what is called how here |
//! | [`ext`] | kernels, sources, sinks, policies and devices of your own |
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `gpu` (default) | GPUs through wgpu; a machine without any runs everything on the CPU |
//! | `hdf5` | HDF5 files; HDF5 is built from source |
//! | `internals` | what is inside, for this repository's own tests: no promise |
//!
//! ARCHITECTURE.md in the repository is the map of what is inside.
#![deny(missing_docs, unsafe_code)]
#![warn(clippy::unwrap_used)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(not(feature = "internals"), deny(unnameable_types))] // what is public has a name
#![cfg_attr(not(feature = "internals"), allow(dead_code, unused_imports))] // what tests, benches and measuring programs alone look at

// Rooms are for this crate alone. Its tests and benches, and programs that look inside, see them through the feature `internals`.
#[cfg(not(feature = "internals"))]
mod array;
#[cfg(feature = "internals")]
pub mod array;
#[cfg(not(feature = "internals"))]
mod cost;
#[cfg(feature = "internals")]
pub mod cost;
#[cfg(not(feature = "internals"))]
mod device;
#[cfg(feature = "internals")]
pub mod device;
#[cfg(not(feature = "internals"))]
mod error;
#[cfg(feature = "internals")]
pub mod error;
#[cfg(not(feature = "internals"))]
mod id;
#[cfg(feature = "internals")]
pub mod id;
#[cfg(not(feature = "internals"))]
mod kernel;
#[cfg(feature = "internals")]
pub mod kernel;
#[cfg(not(feature = "internals"))]
mod report;
#[cfg(feature = "internals")]
pub mod report;
#[cfg(not(feature = "internals"))]
mod runtime;
#[cfg(feature = "internals")]
pub mod runtime;
#[cfg(not(feature = "internals"))]
mod schedule;
#[cfg(feature = "internals")]
pub mod schedule;
#[cfg(not(feature = "internals"))]
mod shape;
#[cfg(feature = "internals")]
pub mod shape;
#[cfg(not(feature = "internals"))]
mod task;
#[cfg(feature = "internals")]
pub mod task;

pub mod store;

#[cfg(feature = "hdf5")]
pub use array::HdfPut;
pub use array::{
    AnyArray, Array, Auto, Branches, ComplexReductions, Computable, Dyn, DynArray, IntoAxes, IntoChunks, IntoExtent, IntoShape,
    NpyPut, Over, Pending, Rhs, Rng, compute_all, concatenate, indices, mandelbrot, meshgrid, stack, store_all, where_,
};
pub use error::{Bytes, Error, IntoBytes, Remedy, Result};
pub use runtime::{RunReport, Session, SessionBuilder};
pub use schedule::{Explanation, Placement};
pub use shape::{Bits, ChunkGrid, Comparable, DType, Element, Float, Integer, Number, Ordered, Promote, Real, Summed};

pub use half::{self, bf16, f16};
pub use ndarray;
pub use num_complex::{self, Complex};

/// What most programs need: `use chunkwise::{Array, prelude::*};`. Nothing in it is called as something else is in `ndarray::prelude`, so that both may be had.
pub mod prelude {
    pub use crate::{
        Auto, Bytes, ComplexReductions, DType, DynArray, Element, Error, Float, IntoChunks, IntoShape, Pending, Placement,
        Real, Result, Session, compute_all, concatenate, indices, mandelbrot, meshgrid, stack, store_all, where_,
    };
    pub use ndarray::{self, Axis, NewAxis, s};
    pub use num_complex::Complex;
}

pub mod ext {
    //! For those who extend the crate, and for those who look at runs closely.
    //!
    //! | to have | write | and give it to |
    //! |---|---|---|
    //! | an operation of your own | a [`Kernel`](Kernel): below | [`Array::with_kernel`](crate::Array::with_kernel) |
    //! | data from elsewhere | a [`ChunkSource`](ChunkSource), which is asked for regions, steps included ([`read_stepped`](read_stepped) helps) | [`Array::from_source`](crate::Array::from_source) |
    //! | results elsewhere | a [`ChunkSink`](ChunkSink) | [`Array::store_into`](crate::Array::store_into) |
    //! | another order or placement | a [`Policy`](Policy) | [`SessionBuilder::policy`](crate::SessionBuilder::policy) |
    //! | other hardware | a [`Device`](Device) | [`SessionBuilder::devices`](crate::SessionBuilder::devices) |
    //!
    //! A run is told in full by [`RunReport`](crate::RunReport): its [`TaskSpan`](TaskSpan)s and [`MoveSpan`](MoveSpan)s; [`Record`](Record) decides one again.
    //!
    #![doc = include_str!("kernel/guide.md")]

    pub use crate::cost::{LinkRate, Peaks};
    pub use crate::device::{
        Body, Counters, Cpu, Data, Device, DeviceKind, DeviceSpec, Done, Failure, HOST, HostBuffer, IoLane, Launch, LinkSpec,
        Memory, Move, Origin, Output, Remote, Report, Tuning, Window,
    };
    pub use crate::id::{DeviceId, GraphId, LaunchId, SpaceId, TaskId, ValueId};
    pub use crate::kernel::{
        Content, Elements, ExactFloats, Fault, GpuFacts, Held, Kernel, Lane, OpClass, OpMix, Params, Pass, Program, Scratch,
        Shader, Structure, Variants, Work, check_dtypes, check_params, for_each_piece, params,
    };
    pub use crate::runtime::{Absent, Comparison, ComparisonRow, MoveSpan, Record, Replayed, TaskSpan};
    pub use crate::schedule::{Candidate, Choice, EarliestFinish, Ended, GroupRow, Only, OnlyDevice, Policy, Ready};
    pub use crate::shape::{
        AxisRange, ChunkMeta, ChunkView, ChunkViewMut, Form, Layout, Lies, Opaque, Region, Scalar, View, ViewAxis,
    };
    pub use crate::task::{Block, ChunkSink, ChunkSource, Intake, SCAN_BLOCK_BYTES, read_stepped};
}

/// The book: a page for each family of things to do. It is there in the documentation alone.
#[cfg(any(doc, doctest))]
pub mod book {
    #[doc = include_str!("book/making.md")]
    pub mod making {}
    #[doc = include_str!("book/chunks.md")]
    pub mod chunks {}
    #[doc = include_str!("book/views.md")]
    pub mod views {}
    #[doc = include_str!("book/elementwise.md")]
    #[doc = crate::kernel::map::table::operations_table!()]
    pub mod elementwise {}
    #[doc = include_str!("book/reductions.md")]
    pub mod reductions {}
    #[doc = include_str!("book/operations.md")]
    pub mod operations {}
    #[doc = include_str!("book/computing.md")]
    pub mod computing {}
    #[doc = include_str!("book/sessions.md")]
    pub mod sessions {}
    #[doc = include_str!("book/files.md")]
    pub mod files {}
    #[doc = include_str!("book/dask.md")]
    pub mod dask {}
}

/// The README's example, run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
