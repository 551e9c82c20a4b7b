//! Task graphs as data, and the traits of what feeds them and what they feed.
mod source;
pub use source::{ChunkSink, ChunkSource};
