//! Reading whole sources.
//!
//! Owns: [`read_all`]. Must not know: formats. Invariant: a source that cannot be read fails the test, with what it says.

use chunkwise::shape::{ChunkViewMut, Element, Layout, Region};
use chunkwise::task::ChunkSource;

/// All elements of a source, in C order.
#[track_caller]
pub fn read_all<T: Element>(source: &dyn ChunkSource) -> Vec<T> {
    let region = Region::all(source.shape());
    let mut out = vec![T::default(); region.len()];
    let layout = Layout::contiguous(T::DTYPE, &region.shape());
    source.read(&region, &mut ChunkViewMut::from_slice(&mut out, &layout)).unwrap_or_else(|e| panic!("{e}"));
    out
}
