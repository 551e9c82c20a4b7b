//! Where the chunks of a chunked dataset lie.
//!
//! Owns: [`ChunkTable`]. Must not know: HDF5. Invariant: it holds allocated chunks only, sorted, so that a dataset of any
//! extent that was hardly written costs next to nothing.

use crate::shape::{AxisRange, Region};

/// The allocated chunks of a dataset and their addresses.
pub(crate) struct ChunkTable {
    chunk: Vec<usize>,
    /// Chunks along each axis.
    counts: Vec<u64>,
    /// C-order number of the chunk, address of its first byte; sorted by number.
    entries: Vec<(u64, u64)>,
}

impl ChunkTable {
    /// The table of an array of `shape` in chunks of extent `chunk`. `list` calls its argument for every allocated chunk
    /// with the index of the chunk's first element (per axis) and its address, and returns what it likes.
    pub(crate) fn new<R>(shape: &[usize], chunk: &[usize], list: impl FnOnce(&mut dyn FnMut(&[u64], u64)) -> R) -> (Self, R) {
        let counts: Vec<u64> = shape.iter().zip(chunk).map(|(n, c)| n.div_ceil(*c) as u64).collect();
        let mut entries = Vec::new();
        let result = list(&mut |first, address| {
            let index = || first.iter().zip(chunk).map(|(o, c)| o / *c as u64);
            // A damaged file may list chunks far outside.
            if index().zip(&counts).all(|(i, &n)| i < n) {
                entries.push((number(&counts, index()), address));
            }
        });
        entries.sort_unstable();
        entries.shrink_to_fit();
        (Self { chunk: chunk.to_vec(), counts, entries }, result)
    }

    /// Extent of each chunk, also of those at the array's edge.
    pub(crate) fn chunk(&self) -> &[usize] {
        &self.chunk
    }

    /// Number of allocated chunks.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether every chunk is there, once.
    pub(crate) fn is_complete(&self) -> bool {
        let all = self.counts.iter().fold(1, |all: u64, &n| all.saturating_mul(n));
        self.entries.len() as u64 == all && self.is_distinct()
    }

    /// Whether no chunk is there twice.
    pub(crate) fn is_distinct(&self) -> bool {
        self.entries.windows(2).all(|two| two[0].0 < two[1].0)
    }

    /// Addresses of the allocated chunks.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|e| e.1)
    }

    /// Address of the chunk in which `part` (a region within one chunk) lies; `None` if it was never written.
    pub(crate) fn address_of(&self, part: &Region) -> Option<u64> {
        let index = part.axes().iter().zip(&self.chunk).map(|(a, c)| (a.start / c) as u64);
        let at = self.entries.binary_search_by_key(&number(&self.counts, index), |e| e.0).ok()?;
        Some(self.entries[at].1)
    }

    /// `part` relative to its chunk.
    pub(crate) fn inside(&self, part: &Region) -> Vec<AxisRange> {
        part.axes().iter().zip(&self.chunk).map(|(a, c)| AxisRange { start: a.start % c, ..*a }).collect()
    }

    /// Whether no chunk that `region` touches was ever written. (A chunk that a step jumps over counts as touched.)
    pub(crate) fn none_in(&self, region: &Region) -> bool {
        if self.entries.is_empty() || region.is_empty() {
            return true;
        }
        let span: Vec<(u64, u64)> = region
            .axes()
            .iter()
            .zip(&self.chunk)
            .map(|(a, c)| ((a.start / c) as u64, ((a.start + (a.len - 1) * a.step) / c) as u64))
            .collect();
        // The numbers of the box's chunks lie between those of its corners.
        let first = number(&self.counts, span.iter().map(|s| s.0));
        let last = number(&self.counts, span.iter().map(|s| s.1));
        let from = self.entries.partition_point(|e| e.0 < first);
        let upto = self.entries.partition_point(|e| e.0 <= last);
        !self.entries[from..upto].iter().any(|&(mut rest, _)| {
            self.counts.iter().zip(&span).rev().all(|(&n, &(low, high))| {
                let index = rest % n;
                rest /= n;
                (low..=high).contains(&index)
            })
        })
    }
}

fn number(counts: &[u64], index: impl Iterator<Item = u64>) -> u64 {
    // Wrapping: an array without elements may have long axes.
    counts.iter().zip(index).fold(0, |number: u64, (&n, i)| number.wrapping_mul(n).wrapping_add(i))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_and_only_that() {
        let table = ChunkTable::new(&[10, 10], &[4, 5], |add| {
            add(&[8, 5], 900);
            add(&[0, 5], 100);
        })
        .0;
        assert_eq!(table.len(), 2);
        let at = |r: [(usize, usize); 2]| Region::new(&[10, 10], &r).unwrap();
        assert_eq!(table.address_of(&at([(0, 2), (5, 6)])), Some(100));
        assert_eq!(table.address_of(&at([(8, 10), (6, 10)])), Some(900));
        assert_eq!(table.address_of(&at([(4, 8), (0, 5)])), None);
        assert!(table.none_in(&at([(0, 10), (0, 5)])));
        assert!(table.none_in(&at([(4, 8), (0, 10)])));
        assert!(!table.none_in(&at([(0, 10), (4, 6)])));
        assert!(!table.none_in(&at([(9, 10), (9, 10)])));
        assert_eq!(table.inside(&at([(9, 10), (6, 8)]))[1], AxisRange { start: 1, len: 2, step: 1 });
        // Chunks that are not the array's, and one that is there twice.
        for (second, complete) in [([0, 5], true), ([0, 10], false), ([4, 0], false), ([0, 0], false)] {
            let table = ChunkTable::new(&[4, 10], &[4, 5], |add| {
                add(&[0, 0], 100);
                add(&second, 200);
            });
            assert_eq!(table.0.is_complete(), complete, "{second:?}");
        }
    }
}
