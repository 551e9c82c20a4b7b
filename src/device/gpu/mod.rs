//! GPUs through wgpu: which adapters the machine has, and whether they compute what they should.
//!
//! Owns: everything that names wgpu. Must not know: kernels, tasks, schedules. Invariant: no call here panics or blocks for ever
//! because of a missing, broken or wedged driver; each gives an empty list or an [`Error`](crate::error::Error).
//!
//! # What is here, and what is not
//!
//! [`adapters`] lists the GPUs; [`probe`] opens one, runs a small WGSL shader on it and checks every number that comes back.
//! That proves the whole path from the dependency to the driver on a given machine, which is what `devices` prints and what CI
//! checks on software Vulkan. **Chunk tasks do not run on GPUs yet**: there is no executor here, and no session uses an adapter.

mod adapters;
mod probe;

pub use adapters::{AdapterInfo, AdapterKind, AdapterLimits, adapters};
pub use probe::{ProbeReport, probe};
