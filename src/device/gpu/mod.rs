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
//! | serve | records launches and copies and submits them, as the batcher says | its inbox |
//! | wait | asks the driver for the end of each submission, reports its launches | the GPU |
//! | up | hands out staging for uploads | staging |
//! | copy | several: copy between host chunks and staging | what is to be copied |
//! | compile | a few: make pipelines, and write what the driver has compiled | requests |
//!
//! `batcher` decides what is submitted when, and how much at once (pure: events in, actions out, tested on a clock of its own); `pace` predicts how long it will take,
//! `slice` cuts what would take long. `clock` says what a submission's time went to. `link` moves bytes. `plan` keeps what launches that are alike share, `groups`
//! bind groups, `ring` scratch, `pipelines` what is compiled. What wgpu is asked that may fail or take long goes through `driver`, which tests wrap (`sabotage`).
//!
//! The queue is in order: an upload is reported as soon as the thread that submits has it, because whatever reads the chunk is submitted with it or later (one
//! whose chunk the host maps: when it is full; while a chunk is mapped, nothing that uses it is submitted). Launches
//! that are under way together do not depend on each other (the scheduler gives out only what is ready), so nothing keeps them from overlapping: no clock is read
//! between them, each has scratch of its own. One whose pipeline is still being compiled lets others pass. Every error of wgpu becomes the failure of the launches and
//! moves it concerns; a lost device fails all of them, and what comes later, at once.
//!
//! Staging is limited, and counted in the host's memory: a chunk crosses in pieces of a quarter of its direction's staging, or less. What the staging holds is given
//! back when nothing was under way for 2 s.

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
