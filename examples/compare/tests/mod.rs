//! The statistics, sentences and drawings of `compare`, and its method. `tests/compare.rs` runs the program.
//!
//! Must not know: how long anything takes. Invariant: no test asserts a measured time; what must be slow or fast is a fake that says so.

mod agree;
mod claims;
mod fake;
mod gpu;
mod verdict;
