//! Devices: what executes chunk tasks, and where bytes live.
//!
//! Owns: the devices of the machine. Must not know: graphs, costs, schedules. Invariant: a device obeys and reports; it never
//! places, retries or chooses.

#[cfg(feature = "gpu")]
pub mod gpu;
