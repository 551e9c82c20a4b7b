//! The link between host memory and the GPU's.
//!
//! Owns: staging, and the threads that copy to and from it. Must not know: launches, when a copy is submitted. Invariant: host memory is read before an upload is
//! reported and written before a download is; what both take of the host stays within the staging that is counted.
//!
//! A chunk crosses in pieces: a staging buffer each, of up to a quarter of its direction's staging and 32 MiB at most, so that one is filled while others are on
//! the link; the first pieces up and the last ones down are smaller, because nothing is on the link meanwhile. Small chunks share one. Where no buffer of a size
//! can be had, pieces become smaller. Where both share their memory nothing crosses ([`LinkStrategy`]): the host maps the chunk itself. Each piece is copied by several threads at once ([`Copiers`]), windows of an array as well as contiguous chunks.

mod copiers;
mod direct;
mod down;
mod host;
mod staging;
mod strategy;
#[cfg(test)]
mod tests;
mod up;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(super) use copiers::Copiers;
pub(super) use direct::{DirectMove, Lent, MapOrder, Mapper};
pub(super) use down::{Down, DownPack, Landing};
pub(super) use staging::Staging;
pub(super) use strategy::{BOTH, LinkStrategy, Mapped, Staged, choose};
pub(super) use up::{FilledPack, Upload, UploadOrder, Uploader};

use super::launch::DonePromise;
use crate::device::{Failure, Report};

/// Bytes that a thread copies at once.
const JOB: u64 = 1 << 20;

fn finish(done: DonePromise, elapsed_ns: u64, outcome: Result<(), Failure>) {
    let elapsed_ns = elapsed_ns.max(1);
    let report = Report { elapsed_ns, measured: true, since_ns: 0, worker: 0, opaque: Vec::new(), outcome };
    // What listens may panic; these threads have others to serve.
    let _ = catch_unwind(AssertUnwindSafe(|| done.keep(report)));
}
