//! How the operands of a launch lie, as far as a module depends on it.
//!
//! Owns: [`MapForm`]: axes that go on in each other are one, and what is left is told apart by how it is read. Must not know: programs. Invariant: extents, offsets and steps
//! are parameters, so that one module serves chunks of any shape.

use smallvec::SmallVec;

use crate::kernel::generate::GpuFeed;
use crate::shape::{ChunkMeta, DType, Layout};

/// Axes that a module can follow.
pub(super) const AXES: usize = 8;

/// How an input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::kernel) enum ReadsAs {
    /// In the order of the output, four elements at once; from the start of its buffer, or not.
    Whole { offset: bool },
    /// One element.
    One,
    /// Four elements at once, of rows.
    Rows,
    /// One element for each row.
    Spread,
    /// Element by element.
    Any,
    /// It is made of indices, and of so many words.
    Made { words: usize },
}

impl ReadsAs {
    /// Whether it is known by the indices along the axes where an element is.
    pub(super) fn needs_indices(self) -> bool {
        matches!(self, Self::Rows | Self::Spread | Self::Any | Self::Made { .. })
    }
}

/// Where the first of four elements may be, in the order of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Starts {
    /// At multiples of four.
    AtFours,
    /// Anywhere.
    Anywhere,
}

/// What tells modules of one program apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::kernel) struct MapForm {
    /// Axes whose indices matter; 0 if none do.
    pub(in crate::kernel) rank: usize,
    /// Whether four elements at once lie in one row.
    pub(in crate::kernel) is_aligned: bool,
    pub(in crate::kernel) inputs: SmallVec<[ReadsAs; 8]>,
}

/// A form, and the parameters that its module takes: extents of all axes but the outermost, the innermost first; for each input its offset, and its steps.
pub(in crate::kernel) struct MapLayout {
    pub(in crate::kernel) form: MapForm,
    pub(in crate::kernel) params: Vec<u32>,
}

/// An input in the order of a program: a chunk, or what makes it.
#[derive(Clone, Copy)]
pub(in crate::kernel) enum MapInput<'a> {
    Chunk(ChunkMeta<'a>),
    Made(&'a GpuFeed),
}

/// How far apart elements are along each axis.
type AxisSteps = SmallVec<[i64; 8]>;

/// Extents and, of each input, offset and steps; the innermost axis first. Of what is made, those of indices, modulo 2^64.
struct Axes {
    extents: SmallVec<[usize; 8]>,
    offsets: SmallVec<[u64; 8]>,
    steps: SmallVec<[AxisSteps; 8]>,
}

impl Axes {
    /// Of inputs of this shape: axes of one index left out, and those as one that go on in each other everywhere.
    fn of(inputs: &[MapInput<'_>], shape: &[usize]) -> Option<Self> {
        let whole = Layout::contiguous(DType::U8, shape);
        let (mut offsets, mut strides) = (SmallVec::<[u64; 8]>::new(), SmallVec::<[AxisSteps; 8]>::new());
        for input in inputs {
            match input {
                MapInput::Chunk(meta) => {
                    let (offset, of) = meta.lies.map_or((0, &whole.strides[..]), |lies| (lies.offset, lies.strides));
                    offsets.push(offset as u64);
                    strides.push(of.iter().map(|&stride| stride as i64).collect());
                }
                MapInput::Made(feed) => {
                    let (start, apart) = feed.indices.steps();
                    offsets.push(start);
                    strides.push(apart.iter().map(|&apart| apart as i64).collect());
                }
            }
        }
        if strides.iter().any(|strides| strides.len() != shape.len()) {
            return None;
        }
        let mut all = Self { extents: SmallVec::new(), offsets, steps: strides.iter().map(|_| SmallVec::new()).collect() };
        for axis in (0..shape.len()).rev().filter(|&axis| shape[axis] != 1) {
            let inner = all.extents.last().copied();
            let goes_on = |(steps, strides): (&AxisSteps, &AxisSteps)| {
                let step = steps.last().copied().unwrap_or(0);
                strides[axis] == step.wrapping_mul(inner.unwrap_or(1) as i64)
            };
            if inner.is_some() && all.steps.iter().zip(&strides).all(goes_on) {
                if let Some(last) = all.extents.last_mut() {
                    *last *= shape[axis];
                }
                continue;
            }
            all.extents.push(shape[axis]);
            all.steps.iter_mut().zip(&strides).for_each(|(steps, strides)| steps.push(strides[axis]));
        }
        (all.extents.len() <= AXES).then_some(all)
    }

    fn reads(&self, input: usize, (is_aligned, starts): (bool, Starts)) -> ReadsAs {
        let (steps, offset) = (&self.steps[input], self.offsets[input]);
        let mut whole = 1i64;
        let mut is_whole = true;
        for (&step, &extent) in steps.iter().zip(&self.extents) {
            is_whole &= step == whole;
            whole *= extent as i64;
        }
        let inner = steps.first().copied().unwrap_or(0);
        let fours = offset % 4 == 0 && steps.iter().skip(1).all(|step| step % 4 == 0);
        match () {
            () if steps.iter().all(|&step| step == 0) => ReadsAs::One,
            () if is_whole && offset % 4 == 0 && starts != Starts::Anywhere => ReadsAs::Whole { offset: offset != 0 },
            () if is_aligned && inner == 1 && fours => ReadsAs::Rows,
            () if is_aligned && inner == 0 => ReadsAs::Spread,
            () => ReadsAs::Any,
        }
    }
}

impl MapForm {
    /// The names of a module's parameters: its own, then those of a [`MapLayout`].
    pub(in crate::kernel) fn fields(&self, own: &[&str]) -> Vec<String> {
        let mut fields: Vec<String> = own.iter().map(|&name| name.to_owned()).collect();
        fields.extend((0..self.rank.saturating_sub(1)).map(|axis| format!("e{axis}")));
        for (input, reads) in self.inputs.iter().enumerate() {
            if *reads != (ReadsAs::Whole { offset: false }) {
                fields.push(format!("o{input}"));
            }
            if reads.needs_indices() {
                fields.extend((0..self.rank).map(|axis| format!("s{input}_{axis}")));
            }
            if let ReadsAs::Made { words } = *reads {
                fields.push(format!("o{input}_high"));
                fields.extend((0..self.rank).map(|axis| format!("s{input}_{axis}_high")));
                fields.extend((0..words).map(|word| format!("g{input}_{word}")));
            }
        }
        fields
    }
}

impl MapLayout {
    /// Of inputs of this shape; `None` if there are too many axes.
    pub(in crate::kernel) fn of(inputs: &[MapInput<'_>], shape: &[usize], starts: Starts) -> Option<Self> {
        let axes = Axes::of(inputs, shape)?;
        let fours = axes.extents.first().is_some_and(|extent| extent % 4 == 0);
        let is_aligned = fours && starts != Starts::Anywhere;
        let reads = |(number, input): (usize, &MapInput<'_>)| match input {
            MapInput::Chunk(_) => axes.reads(number, (is_aligned, starts)),
            MapInput::Made(feed) => ReadsAs::Made { words: feed.words.len() },
        };
        let all: SmallVec<[ReadsAs; 8]> = inputs.iter().enumerate().map(reads).collect();
        // Of one element there is one axis of it.
        let rank = if all.iter().any(|reads| reads.needs_indices()) { axes.extents.len().max(1) } else { 0 };
        let mut params: Vec<u32> = axes.extents.iter().take(rank.saturating_sub(1)).map(|&extent| extent as u32).collect();
        for (number, (input, reads)) in inputs.iter().zip(&all).enumerate() {
            // What is negative wraps around, and comes back to where it should be.
            let steps = || (0..rank).map(|axis| axes.steps[number].get(axis).copied().unwrap_or(0));
            if *reads != (ReadsAs::Whole { offset: false }) {
                params.push(axes.offsets[number] as u32);
            }
            if reads.needs_indices() {
                params.extend(steps().map(|step| step as u32));
            }
            if let MapInput::Made(feed) = input {
                params.push((axes.offsets[number] >> 32) as u32);
                params.extend(steps().map(|step| (step as u64 >> 32) as u32));
                params.extend(&feed.words);
            }
        }
        Some(Self { form: MapForm { rank, is_aligned, inputs: all }, params })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Lies;

    fn meta<'a>(shape: &'a [usize], lies: Option<(usize, &'a [isize])>) -> ChunkMeta<'a> {
        let lies = lies.map(|(offset, strides)| Lies { offset, strides });
        ChunkMeta { lies, ..ChunkMeta::new(DType::F32, shape) }
    }

    #[test]
    fn axes_are_as_few_as_can_be_and_inputs_read_as_fast_as_can_be() {
        let shape = [6, 5, 8];
        let of = |inputs: &[Option<(usize, &[isize])>]| {
            let metas: Vec<MapInput<'_>> = inputs.iter().map(|lies| MapInput::Chunk(meta(&shape, *lies))).collect();
            let layout = MapLayout::of(&metas, &shape, Starts::AtFours).unwrap();
            (layout.form.rank, layout.form.inputs.to_vec(), layout.params)
        };
        assert_eq!(of(&[None, None]), (0, vec![ReadsAs::Whole { offset: false }; 2], vec![]));
        assert_eq!(of(&[Some((8, &[40, 8, 1])), None]).1[0], ReadsAs::Whole { offset: true });
        assert_eq!(of(&[Some((3, &[0, 0, 0]))]), (0, vec![ReadsAs::One], vec![3]));
        // A row for all, and a column.
        assert_eq!(
            of(&[Some((0, &[0, 0, 1])), None]),
            (2, vec![ReadsAs::Rows, ReadsAs::Whole { offset: false }], vec![8, 0, 1, 0])
        );
        assert_eq!(of(&[Some((0, &[5, 1, 0]))]), (2, vec![ReadsAs::Spread], vec![8, 0, 0, 1]));
        // Transposed, and backwards.
        assert_eq!(of(&[Some((0, &[1, 6, 30]))]).1, [ReadsAs::Any]);
        assert_eq!(of(&[Some((239, &[-40, -8, -1]))]), (1, vec![ReadsAs::Any], vec![239, u32::MAX]));
        // From an odd place on.
        assert_eq!(of(&[Some((1, &[40, 8, 1]))]), (1, vec![ReadsAs::Any], vec![1, 1]));
        let odd = [3, 5];
        let inputs = [MapInput::Chunk(meta(&odd, Some((0, &[0, 1]))))];
        let layout = MapLayout::of(&inputs, &odd, Starts::AtFours).unwrap();
        assert!(!layout.form.is_aligned && layout.form.inputs[0] == ReadsAs::Any);
    }
}
