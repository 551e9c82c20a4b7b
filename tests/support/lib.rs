//! What tests and benches share: programs as processes, folders, graphs, sessions with GPUs, oracles.
//!
//! Owns: nothing that is shipped; the programs share `examples/common`. Must not know: what is tested. Invariant: there is no other copy of what is here, and no
//! test here; whatever the library's features, it compiles, because cargo cannot hand them on to it (see [`gpus`]).

#![allow(clippy::should_implement_trait)] // what makes numbers is no iterator of them

pub mod built;
pub mod bytes;
pub mod calls;
pub mod code;
pub mod contracted;
pub mod counted;
pub mod curious;
pub mod dag;
pub mod drivers;
pub mod folder;
pub mod golden;
pub mod gpu;
pub mod graphs;
pub mod hex;
pub mod kernel_cases;
pub mod lab;
pub mod oracles;
pub mod picture;
pub mod programs;
pub mod read;
pub mod twice;
pub mod wait;
pub mod watched;
pub mod wgsl;
