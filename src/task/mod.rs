//! Task graphs as data, and the traits of what feeds them and what they feed.
//!
//! Owns: [`TaskGraph`], [`ChunkSource`], [`ChunkSink`]. Must not know: devices, costs, time. Invariant: a graph is data; two
//! runs of it differ in timing and placement only.
//!
//! A *value* is one chunk, written once. A *task* runs one kernel: it reads values and writes values; a written value may be
//! an *update* of an old one (the tile C of `C - A Bᵀ`), which the runtime donates when nobody else needs it, and copies in
//! otherwise. A value's *home* is a window of a caller's or result array, or the pool. A *group* is one array operation over
//! a chunk grid: a range of tasks.
//!
//! A task reads a *view* of a value: an offset and a stride for each axis, of either sign, 0 for broadcast. A *form* is what of a value must be there for a
//! task: the plain value, a view made contiguous, or a kernel's packed layout ([`TaskGraph::residents`]). A *profile* is what tasks of one kernel, dtype and work
//! share.
//!
//! [`GraphBuilder::seal`] asks kernels all there is to know before a run. A [`TaskGraph`] names them by key and holds none, so it can be written
//! down and replayed where they do not exist; beside it, [`SealedGraph`] has the kernels themselves.

mod cover;
mod graph;
mod scan;
mod sink;
mod source;
mod stepped;

pub use graph::{GraphBuilder, Group, Home, HostArray, KernelFacts, Operand, PLAIN, Profile, SealedGraph, TaskGraph};
pub use scan::SCAN_BLOCK_BYTES;
pub(crate) use scan::{PendingConstant, PieceSource, pieces, scan_by_pieces, storage_parts};
pub use sink::{ChunkSink, Intake};
pub use source::{Block, ChunkSource};
pub use stepped::read_stepped;
