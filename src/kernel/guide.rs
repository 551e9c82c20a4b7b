//! How to add a kernel of your own: the text of this module.
//!
//! Owns: nothing that runs. Must not know: the library's own kernels. Invariant: its code is that of `examples/custom_kernel.rs`, or is run as a test.
#![doc = include_str!("guide.md")]
