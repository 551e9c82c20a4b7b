//! Devices: what executes tasks.
//!
//! Owns: facts of this machine. Must not know: tasks, schedules.
pub mod system;
