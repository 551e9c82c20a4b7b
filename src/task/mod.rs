//! Task graphs as data, and the traits of what feeds them and what they feed.
mod scan;
mod source;
pub use scan::SCAN_BLOCK_BYTES;
pub(crate) use scan::{Pending, Pieces, pieces, scan_by_pieces, storage_parts};
pub use source::{Block, ChunkSink, ChunkSource};
