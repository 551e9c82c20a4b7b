//! What all example programs share: flags, the summary, errors, progress, pictures, whole files, Ctrl-C.
//!
//! Owns: how an example talks to a person or a script. Must not know: what a program computes. Invariant:
//! a program that goes through [`run`] ends with exit code 0, 1 (it failed; `error: ...` on stderr says why) or 2 (it was called
//! wrongly), or 130 after Ctrl-C, or a code of its own that its help tells; never with a panic's backtrace, and never leaving half a file under its final name.
//!
//! ```ignore
//! mod common;
//! use common::CommonArgs;
//!
//! /// One line that says what the program does.
//! #[derive(clap::Parser)]
//! #[command(after_help = common::usage(&[("square --n 10", "the ten first squares")]))]
//! struct Args {
//!     #[command(flatten)]
//!     common: CommonArgs,
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     common::run(|args: Args| { ...; Ok(()) })
//! }
//! ```
#![allow(dead_code, unused_imports)] // each program uses its part

#[cfg(feature = "gpu")]
mod adapter;
mod args;
mod checking;
mod failure;
mod files;
mod named;
pub mod philox;
mod picture;
mod process;
mod progress;
mod report;
mod session;
mod table;
mod timing;

#[cfg(feature = "gpu")]
pub use adapter::{adapter_abilities, adapter_json};
pub use args::{CommonArgs, Precision, at_least_one, some_bytes, usage};
pub use checking::{apart, in_words, ulps};
pub use failure::{CodedError, Outcome, UsageError, line, run};
pub use files::{TemporaryFolder, can_write, write_whole};
pub use named::{Named, distinct};
pub use picture::{Counts, LONGEST_SIDE};
pub use process::{leave, on_interrupt, trim_memory};
pub use progress::{Progress, Waiting};
pub use report::{Placed, Report, cut, extents, rate, seconds};
pub use session::{
    Fallible, compute, disk_free, explain, explain_run, finish, fits, made, open_session, peak_rss_bytes, room, session_of,
    store, threads, write_trace, zeros,
};
pub use table::{Cell, Table, terminal, wrapped};
pub use timing::{median, timed};
