//! The scheduler, checked action by action over random graphs, platforms, limits and faults, and judged by simulation.
//!
//! Owns: what must hold whatever happens, and how good decisions must be. Must not know: real devices. Invariant: no clock, no
//! thread; every case can be run again from its seed.

mod compiling;
mod driver;
mod memory;
mod random;
mod stalls;
