//! Kernels that move: a chunk from the parts of others.
//!
//! Owns: `copy`, `assemble`, `paste`, `reflow`. Must not know: why. Invariant: each element is written once, as it is in one of the inputs.

use std::borrow::Cow;

use super::rows::{extent, for_each_slice};
use super::{Kernel, Ran, Scratch, Work};
use crate::shape::{ChunkMeta, ChunkView, ChunkViewMut, Element, Layout, with_dtype};

/// `copy`: one chunk; output: the same elements.
pub struct Copy;

/// `assemble`: chunks of a grid, those that are around the output, in C order; output: a chunk of another grid of the same array. See [`Pieces`].
pub struct Assemble;

/// `paste`: a chunk; output, or an update of one: a part of it is as a part of the chunk, the rest as it was. See [`Pasted`].
pub struct Paste;

/// `reflow`: chunks whose elements follow each other in C order of their array; output: as many elements of these, in that order, from one of the
/// first chunk on: parameters: its number, a `u64`.
pub struct Reflow;

/// Every element comes from memory and goes there; of the inputs only as many as the output has are read.
fn moved(operands: &[ChunkMeta<'_>]) -> Work {
    let Some(out) = operands.last() else { return Work::default() };
    Work { flops: 0.0, bytes: 2.0 * out.shape.iter().product::<usize>() as f64 * out.dtype.bytes() as f64 }
}

/// Copies a part of this shape, from an index of one chunk on to where it begins in another.
fn copy_part((from, start): (ChunkView<'_>, &[usize]), (to, place): (&mut ChunkViewMut<'_>, &[usize]), shape: &[usize]) {
    let part = |layout: &Layout| Layout { shape: shape.to_vec(), ..layout.clone() };
    let (theirs, ours) = (part(from.layout()), part(to.layout()));
    to.part_mut(place, &ours).copy_from(from.part(start, &theirs));
}

impl Kernel for Copy {
    fn name(&self) -> Cow<'static, str> {
        "copy".into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        moved(operands)
    }

    fn run_cpu(&self, _: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        outputs[0].copy_from(inputs[0]);
        Ok(())
    }
}

/// How chunks of one grid make up a chunk of another: along each axis, how much of the first chunk lies before the output, and how many indices each has in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// For each axis: indices of the first chunk to leave out, and the extents of what the chunks have in the output.
    pub axes: Vec<(u64, Vec<u64>)>,
}

impl Pieces {
    /// As parameters of [`Assemble`]: of each axis the number of chunks, what is left out, the extents; `u64` each.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.axes.iter().flat_map(|(skip, extents)| [&[extents.len() as u64, *skip], &extents[..]].concat());
        words.flat_map(u64::to_ne_bytes).collect()
    }

    /// What was made into these bytes; what is not there is as if it said 0.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
        let mut axes = Vec::new();
        while let Some(count) = words.next() {
            let skip = words.next().unwrap_or(0);
            axes.push((skip, words.by_ref().take(count as usize).collect()));
        }
        Self { axes }
    }
}

impl Kernel for Assemble {
    fn name(&self) -> Cow<'static, str> {
        "assemble".into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        moved(operands)
    }

    fn run_cpu(&self, params: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let pieces = Pieces::from_bytes(params);
        let out = &mut outputs[0];
        let rank = pieces.axes.len();
        let (mut index, mut to) = (vec![0usize; rank], vec![0usize; rank]);
        for input in inputs {
            let axis = |a: usize| (&pieces.axes[a], index[a]);
            let from: Vec<usize> = (0..rank).map(|a| if index[a] == 0 { axis(a).0.0 as usize } else { 0 }).collect();
            let shape: Vec<usize> = (0..rank).map(|a| axis(a).0.1[index[a]] as usize).collect();
            copy_part((*input, &from), (&mut *out, &to), &shape);
            // The next one in C order.
            for a in (0..rank).rev() {
                (index[a], to[a]) = (index[a] + 1, to[a] + shape[a]);
                if index[a] < pieces.axes[a].1.len() {
                    break;
                }
                (index[a], to[a]) = (0, 0);
            }
        }
        Ok(())
    }
}

/// The part that two chunks have in common: along each axis, where it begins in either, and its extent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pasted {
    /// Start in the input, start in the output, extent.
    pub axes: Vec<[usize; 3]>,
}

impl Pasted {
    /// As parameters of [`Paste`]: `u64` each.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.axes.iter().flatten().flat_map(|&n| (n as u64).to_ne_bytes()).collect()
    }

    /// What was made into these bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let word = |word: &[u8; 8]| u64::from_ne_bytes(*word) as usize;
        Self {
            axes: bytes
                .as_chunks::<24>()
                .0
                .iter()
                .map(|axis| {
                    let words = axis.as_chunks::<8>().0;
                    [word(&words[0]), word(&words[1]), word(&words[2])]
                })
                .collect(),
        }
    }
}

impl Kernel for Paste {
    fn name(&self) -> Cow<'static, str> {
        "paste".into()
    }

    fn work(&self, params: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        let elements: usize = Pasted::from_bytes(params).axes.iter().map(|axis| axis[2]).product();
        let size = operands.first().map_or(0, |operand| operand.dtype.bytes());
        Work { flops: 0.0, bytes: 2.0 * elements as f64 * size as f64 }
    }

    fn run_cpu(&self, params: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let axes = Pasted::from_bytes(params).axes;
        let of = |k: usize| axes.iter().map(|axis| axis[k]).collect::<Vec<usize>>();
        copy_part((inputs[0], &of(0)), (&mut outputs[0], &of(1)), &of(2));
        Ok(())
    }
}

impl Kernel for Reflow {
    fn name(&self) -> Cow<'static, str> {
        "reflow".into()
    }

    fn work(&self, _: &[u8], operands: &[ChunkMeta<'_>]) -> Work {
        moved(operands)
    }

    fn run_cpu(&self, params: &[u8], inputs: &[ChunkView<'_>], outputs: &mut [ChunkViewMut<'_>], _: &mut Scratch<'_>) -> Ran {
        let skip = super::params::<u64>(params) as usize;
        let out = &mut outputs[0];
        with_dtype!(out.layout().dtype, T => reflow::<T>(skip, inputs, out));
        Ok(())
    }
}

fn reflow<T: Element>(mut skip: usize, inputs: &[ChunkView<'_>], out: &mut ChunkViewMut<'_>) {
    let (rows, len) = extent(out.shape());
    let (mut at, all) = (0, rows * len);
    for input in inputs {
        for_each_slice(*input, |mut slice: &[T]| {
            let skipped = skip.min(slice.len());
            (skip, slice) = (skip - skipped, &slice[skipped..]);
            slice = &slice[..slice.len().min(all - at)];
            while !slice.is_empty() {
                let (now, rest) = slice.split_at(slice.len().min(len - at % len));
                out.write(at / len, at % len, now);
                (at, slice) = (at + now.len(), rest);
            }
        });
    }
    assert_eq!(at, all, "reflow: as many elements as the output has");
}
