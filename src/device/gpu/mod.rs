//! GPUs through wgpu: which adapters the machine has, and whether they compute what they should.
//!
//! Owns: everything that names wgpu. Must not know: kernels, tasks, schedules. Invariant: no call here panics or blocks for ever
//! because of a missing, broken or wedged driver; each gives an empty list or an [`Error`](crate::error::Error).
//!
//! # What is here
//!
//! [`adapters`] lists the GPUs; [`probe`] opens one, runs a small WGSL shader on it and checks every number that comes back. [`Gpu`]
//! is one that executes launches, with threads of its own:
//!
//! | thread | does | waits for |
//! |---|---|---|
//! | serve | records launches and copies, submits them in batches, keeps up to 3 under way | messages |
//! | wait | polls the driver for the end of each submission, reports its launches | the GPU |
//! | up, down | copy chunks between host memory and staging buffers | staging |
//! | compile | makes pipelines | requests |
//!
//! Staging is limited, and counted in the host's memory: a chunk crosses in pieces of a quarter of its direction's staging, or less. What
//! the staging holds is given back when nothing was under way for 2 s.
//!
//! The queue is in order: an upload is reported as soon as it is submitted, because whatever reads the chunk is submitted later.
//! A launch is one program after the other (`launch`): a kernel's, and for each output of `bool` one that makes bytes of its words; or a copy of
//! what a view shows. One whose pipeline is still being compiled lets others pass. Long launches are cut into short ones (`slice`). Every
//! error of wgpu becomes the failure of the launches and moves it concerns; a lost device fails all of them, and what comes
//! later, at once.

mod adapters;
mod batcher;
mod clock;
mod driver;
mod executor;
mod groups;
mod inbox;
mod launch;
mod link;
mod memory;
mod open;
mod pace;
mod paced;
mod pipelines;
mod plan;
mod probe;
mod record;
mod ring;
mod sabotage;
mod service;
mod slice;
mod tickets;
mod vulkan;
mod waiter;

pub use adapters::{AdapterInfo, AdapterKind, AdapterLimits, CooperativeMatrix, adapters, known};
pub use executor::Gpu;
#[doc(hidden)]
pub use paced::{Carried, PacedLink};
pub use probe::{ProbeReport, probe};
#[doc(hidden)]
pub use sabotage::{Breaker, Sabotage};
